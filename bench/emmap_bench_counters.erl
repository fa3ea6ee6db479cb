%% bench counters: emmap_counters beside an empty NIF and what else counts; numbers from allocate/3 beside
%% a sync for each.
%%
%% A sample is N calls in a process of its own, N such that it takes a few milliseconds; the empty loop
%% of the same round is subtracted. What is told is the median over the rounds.
-module(emmap_bench_counters).

-export([run/1]).

-define(MANY, 100).
%% What two processes must do of the work of one for a yardstick to be one.
-define(SCALES, 1.5).
%% A call that took longer has waited: for the disk, or for a core.
-define(WAITED_US, 50).

-spec run(emmap_bench:options()) -> ok.
run(#{quick := Quick, out := Out, work := Work} = Options) ->
    Rounds = maps:get(rounds, Options, case Quick of true -> 3; false -> 7 end),
    SampleMs = case Quick of true -> 5; false -> 30 end,
    ok = logger:set_primary_config(level, error), % mnesia's dumps would be told
    Folder = filename:join(Work, "counters"),
    ok = filelib:ensure_path(Folder),
    Missing = emmap_bench_counting:missing(),
    emmap_bench:facts(Work, [{"method", method(Rounds, SampleMs)}
                             | [{"skipped", Why} || {_, Why} <- lists:ukeysort(2, Missing)]]),
    Subjects = subjects() -- [Subject || {Subject, _} <- Missing],
    Samples = samples(Subjects, Folder),
    {Gross, _} = emmap_bench_sample:rounds("", Samples, Rounds, SampleMs * 1000000),
    Taken = [net(In) || In <- Gross],
    Of = fun(Pick) -> maps:from_list([{Key, Pick([maps:get(Key, In) || In <- Taken])}
                                      || #{key := Key} <- Samples]) end,
    Ns = Of(fun emmap_bench:median/1),
    Scale = scaling(Taken),
    io:format("Load at the end ~ts~n~n", [emmap_bench:load()]),
    calls(Subjects, Ns),
    turns(Ns),
    processes(Subjects, Ns, Scale),
    numbers(Ns),
    waits(Quick, Folder),
    emmap_bench:targets("Targets", targets(Ns, Of(fun lists:min/1), Scale)),
    pictures(Subjects, Ns, Scale, Out).

method(Rounds, SampleMs) ->
    io_lib:format("medians of ~b rounds, about ~b ms a sample; net of the empty Erlang loop; each process\n"
                  "           always on one counter of ~b, but where it says by turns. atomics, counters, ets and\n"
                  "           ram_copies end with the VM; nobody waits for the disk, but where it says sync",
                  [Rounds, SampleMs, emmap_bench_counting:counters()]).

%%--------------------------------------------------------------------------------------- samples

subjects() ->
    [plain, padded, striped, named, atom, binary, atomics, counters, counters_wc, ets, ets_wc, mnesia,
     mnesia_disc, dets].

by_turns() ->
    [named, atom, binary].

%% {What, Operation, Where, Processes}: several are on one counter, or each on its own, the next one.
samples(Subjects, Folder) ->
    Block = emmap_bench_nif:new(64),
    Opened = [{Subject, emmap_bench_counting:open(Subject, Folder)} || Subject <- Subjects],
    [#{key => {nothing, none, one, 1}, processes => 1, setup => fun(_) -> none end,
       loop => fun(N, _) -> emmap_bench_loops:nothing(N) end}]
        ++ [#{key => {nif_resource, none, one, Processes}, processes => Processes,
              setup => fun(_) -> Block end, loop => fun emmap_bench_loops:nif_resource/2}
            || Processes <- [1, 2, 8]]
        ++ [sample(Opened, Subject, Operation, one, 1)
            || Subject <- Subjects, Operation <- emmap_bench_counting:operations(Subject)]
        ++ [turned(proplists:get_value(Subject, Opened), Subject) || Subject <- by_turns()]
        ++ [sample(Opened, Subject, Operation, Where, Processes)
            || Where <- [one, own], Processes <- [2, 8], Subject <- Subjects,
               Operation <- [emmap_bench_counting:change(Subject) | [get || Subject =:= plain, Where =:= one]]]
        ++ numbers_samples(Folder).

sample(Opened, Subject, Operation, Where, Processes) ->
    #{key => {Subject, Operation, Where, Processes}, processes => Processes,
      setup => fun(Worker) -> emmap_bench_counting:key(Subject, place(Where, Worker)) end,
      loop => emmap_bench_counting:loop(Subject, Operation, proplists:get_value(Subject, Opened))}.

place(one, _) -> 17;
place(own, Worker) -> 17 + Worker.

turned(C, Subject) ->
    Keys = [emmap_bench_counting:key(Subject, I) || I <- lists:seq(1, emmap_bench_counting:counters())],
    #{key => {Subject, by_turns, one, 1}, processes => 1, setup => fun(_) -> list_to_tuple(Keys) end,
      loop => fun(N, Tuple) -> emmap_bench_counting:by_turns(N, C, Tuple) end}.

%% Each has a file of its own: what one syncs is not the other's.
numbers_samples(Folder) ->
    [allocating(Folder, Many, Processes)
     || {Many, Processes} <- [{1, 1}, {1, 2}, {1, 8}, {?MANY, 1}]]
        ++ [#{key => {sync_each, 1, one, 1}, processes => 1, setup => fun(_) -> 1 end,
              loop => begin
                          C = fresh(Folder, "sync_each"),
                          fun(N, Ix) -> emmap_bench_counting:sync_each(N, C, Ix) end
                      end},
            #{key => {file_sync_each, 1, one, 1}, processes => 1,
              setup => fun(_) ->
                               {ok, Fd} = file:open(filename:join(Folder, "numbers"), [raw, binary, read, write]),
                               Fd
                       end,
              loop => fun emmap_bench_counting:file_sync_each/2}].

allocating(Folder, Many, Processes) ->
    C = fresh(Folder, io_lib:format("allocate~b.~b", [Many, Processes])),
    #{key => {allocate, Many, one, Processes}, processes => Processes, setup => fun(_) -> Many end,
      loop => fun(N, Each) -> emmap_bench_counting:allocate(N, C, Each) end}.

fresh(Folder, Name) ->
    {ok, C} = emmap_counters:open(filename:join(Folder, Name), 1),
    C.

%%------------------------------------------------------------------------------------- measuring

net(#{{nothing, none, one, 1} := Loop} = In) ->
    maps:map(fun({nothing, _, _, _}, Ns) -> Ns;
                (_, Ns) -> max(Ns - Loop, 0.1)
             end, In).

%% How many times the work of one process several do, by the median of what each round shows.
scaling(Taken) ->
    maps:from_list(
        [{Key, emmap_bench:median([Processes * maps:get({What, Operation, one, 1}, In) / maps:get(Key, In)
                                   || In <- Taken])}
         || {What, Operation, _, Processes} = Key <- maps:keys(hd(Taken)), Processes > 1]).

%%---------------------------------------------------------------------------------------- tables

empty(Ns) ->
    maps:get({nif_resource, none, one, 1}, Ns).

calls(Subjects, Ns) ->
    Cells = fun(Key) ->
                    case Ns of
                        #{Key := Figure} -> [emmap_bench:ns(Figure), ratio(Figure / empty(Ns))];
                        #{} -> ["-", ""]
                    end
            end,
    emmap_bench:table(
        "One process, one counter: ns a call, and how many empty NIFs that is\n"
        "(an update_counter is an add_get; its get is ets:lookup_element, mnesia:dirty_read, dets:lookup)",
        ["", "add", "NIFs", "get", "NIFs", "add_get", "NIFs"],
        [["the empty loop, subtracted from all", emmap_bench:ns(maps:get({nothing, none, one, 1}, Ns)),
          "", "", "", "", ""],
         ["empty NIF with enif_get_resource", emmap_bench:ns(empty(Ns)), ratio(1.0), "", "", "", ""]]
        ++ [[emmap_bench_counting:title(Subject)
             | lists:append([Cells({Subject, Operation, one, 1}) || Operation <- [add, get, add_get]])]
            || Subject <- Subjects]).

ratio(Ratio) when Ratio < 10 -> io_lib:format("~.2f x", [Ratio]);
ratio(Ratio) -> io_lib:format("~b x", [round(Ratio)]).

turns(Ns) ->
    emmap_bench:table(
        io_lib:format("~b counters with names by turns, one process: ns an add", [emmap_bench_counting:counters()]),
        ["", "one counter", "by turns", "ratio"],
        [begin
             {One, Turns} = {maps:get({Subject, add, one, 1}, Ns), maps:get({Subject, by_turns, one, 1}, Ns)},
             [Name, emmap_bench:ns(One), emmap_bench:ns(Turns), ratio(Turns / One)]
         end || {Subject, Name} <- [{named, "by index"}, {atom, "by atom"}, {binary, "by binary"}]]).

processes(Subjects, Ns, Scale) ->
    Row = fun(Name, What, Operation, Wheres) ->
                  [Name, emmap_bench:ns(maps:get({What, Operation, one, 1}, Ns))
                   | lists:append([[case Scale of
                                        #{{What, Operation, Where, Processes} := Times} -> ratio(Times);
                                        #{} -> "-"
                                    end || Processes <- [2, 8]] || Where <- Wheres])]
          end,
    Both = [one, own],
    emmap_bench:table(
        "Several processes: the adds of all, in those of one\n"
        "(on one counter; each on its own, which is the next one: of plain ones two share a cache line, of\n"
        "atomics eight; dets is one process whoever calls)",
        ["", "ns, 1 process", "2 on one", "8 on one", "2, own", "8, own"],
        [Row("empty NIF with enif_get_resource", nif_resource, none, Both)]
        ++ [Row(emmap_bench_counting:title(Subject), Subject, emmap_bench_counting:change(Subject), Both)
            || Subject <- Subjects]
        ++ [Row("emmap_counters, by index, get", plain, get, Both)]).

numbers(Ns) ->
    Row = fun(Name, What, Many, Processes) ->
                  A_number = maps:get({What, Many, one, Processes}, Ns) / (Many * Processes),
                  [Name, emmap_bench:ns(A_number * Many * Processes), emmap_bench:ns(A_number),
                   integer_to_list(round(1.0e9 / A_number)), ratio(A_number * Many * Processes / empty(Ns))]
          end,
    emmap_bench:table(
        "Numbers that are never given twice, also after a power cut\n"
        "(with several processes ns a call is of each, ns a number of all)",
        ["", "ns a call", "ns a number", "numbers a second", "NIFs a call"],
        [Row("allocate/3 of 1", allocate, 1, 1),
         Row("  2 processes", allocate, 1, 2),
         Row("  8 processes", allocate, 1, 8),
         Row(io_lib:format("allocate/3 of ~b", [?MANY]), allocate, ?MANY, 1),
         Row("add_get/3 and sync/1 for each", sync_each, 1, 1),
         Row("file:pwrite and datasync for each", file_sync_each, 1, 1)]).

%% A new file: what it keeps ready has to grow first. add_get/3 tells what the machine itself does.
waits(Quick, Folder) ->
    N = case Quick of true -> 300000; false -> 3000000 end,
    {ok, C} = emmap_counters:open(filename:join(Folder, "waits"), 2),
    emmap_bench:table(
        io_lib:format("Calls that waited, of the first ~b on a new file, one process, one number each", [N]),
        ["", ["above ", integer_to_list(?WAITED_US), " us"], "calls for one", "longest, us", "ms, all of these"],
        [begin
             {Waited, Longest, Sum} = waited(N, Call, {0, 0, 0}),
             [Name, integer_to_list(Waited), integer_to_list(N div max(Waited, 1)), us(Longest), us(Sum / 1000)]
         end || {Name, Call} <- [{"allocate/3 of 1", fun() -> emmap_counters:allocate(C, 1, 1) end},
                                 {"add_get/3", fun() -> emmap_counters:add_get(C, 2, 1) end}]]),
    ok = emmap_counters:close(C).

waited(0, _, Seen) ->
    Seen;
waited(N, Call, {Waited, Longest, Sum} = Seen) ->
    Begin = erlang:monotonic_time(nanosecond),
    _ = Call(),
    case erlang:monotonic_time(nanosecond) - Begin of
        Ns when Ns > ?WAITED_US * 1000 -> waited(N - 1, Call, {Waited + 1, max(Longest, Ns), Sum + Ns});
        _ -> waited(N - 1, Call, Seen)
    end.

us(Ns) -> io_lib:format("~.1f", [Ns / 1000]).

%%------------------------------------------------------------------------- targets and pictures

%% The least of the rounds is told too: it is what a busy machine disturbs the least.
targets(Ns, Least, Scale) ->
    Calls = fun(Name, What, Operation, Times) ->
                    Of = fun(In) -> maps:get({What, Operation, one, 1}, In) end,
                    {io_lib:format("~ts: ~b x the empty NIF", [Name, Times]), Of(Ns), at_most,
                     Times * empty(Ns), ns,
                     io_lib:format(" (~.2f x; by the least of the rounds ~.2f x)",
                                   [Of(Ns) / empty(Ns), Of(Least) / empty(Least)])}
            end,
    Yardstick = maps:get({nif_resource, none, one, 2}, Scale),
    Scaled = fun(Name, What, Operation, Where) ->
                     scaled(["2 processes, ", Name, ": 0.9 of what the empty NIF scales to"],
                            maps:get({What, Operation, Where, 2}, Scale), Yardstick)
             end,
    [Calls([atom_to_list(Operation), Name], Subject, Operation, Times)
     || {Name, Subject, Times} <- [{" by index", plain, 2}, {" by index, padded", padded, 2},
                                   {" by index, striped", striped, 2}, {" by atom", atom, 3},
                                   {" by binary", binary, 3}],
        Operation <- emmap_bench_counting:operations(Subject),
        {Subject, Operation} =/= {striped, get}] % 16 words
        ++ [Calls("allocate of one number", allocate, 1, 4)]
        ++ [Scaled(Name, Subject, Operation, Where)
            || {Name, Subject, Operation, Where} <- [{"add, padded, each its own", padded, add, own},
                                                     {"add by atom, each its own", atom, add, own},
                                                     {"add by binary, each its own", binary, add, own},
                                                     {"add, striped, one counter", striped, add, one},
                                                     {"get, one counter", plain, get, one}]].

%% Two processes on one core, or beside a neighbour who takes the other: then nothing scales, and that
%% emmap does not either says nothing of it.
scaled(Text, _, Yardstick) when Yardstick < ?SCALES ->
    {not_measurable, Text, io_lib:format("the yardstick scaled ~.2f x", [float(Yardstick)])};
scaled(Text, Measured, Yardstick) ->
    {Text, Measured, at_least, 0.9 * Yardstick, times}.

pictures(Subjects, Ns, Scale, Out) ->
    Figure = fun(Key, In, Format) ->
                     case In of
                         #{Key := Of} -> io_lib:format(Format, [float(Of)]);
                         #{} -> "NaN"
                     end
             end,
    Data = filename:join(Out, "counters.tsv"),
    emmap_bench:write_tsv(
        Data, ["what", "add", "get", "add_get"],
        [["empty NIF", io_lib:format("~.1f", [float(empty(Ns))]), "NaN", "NaN"]
         | [[short(Subject) | [Figure({Subject, Operation, one, 1}, Ns, "~.1f") || Operation <- [add, get, add_get]]]
            || Subject <- Subjects, Subject =/= named]]),
    emmap_bench:plot("counters.gp", Data, filename:join(Out, "counters.png")),
    ByProcesses = filename:join(Out, "counters_processes.tsv"),
    Rate = fun(What, Operation, Where, Processes) -> % millions a second
                   Times = maps:get({What, Operation, Where, Processes}, Scale, 1.0),
                   io_lib:format("~.2f", [Times * 1000 / maps:get({What, Operation, one, 1}, Ns)])
           end,
    emmap_bench:write_tsv(
        ByProcesses, ["what", "where", "1", "2", "8"],
        [[short(What), atom_to_list(Where) | [Rate(What, Operation, Where, Processes) || Processes <- [1, 2, 8]]]
         || Where <- [one, own],
            {What, Operation} <- [{Subject, emmap_bench_counting:change(Subject)}
                                  || Subject <- Subjects]]),
    emmap_bench:plot("counters_processes.gp", ByProcesses, filename:join(Out, "counters_processes.png")).

short(plain) -> "emmap";
short(padded) -> "emmap, padded";
short(striped) -> "emmap, striped";
short(named) -> "emmap, with names";
short(atom) -> "emmap, atom";
short(binary) -> "emmap, binary";
short(counters_wc) -> "counters, w.c.";
short(ets_wc) -> "ets, w.c.";
short(mnesia) -> "mnesia, ram";
short(mnesia_disc) -> "mnesia, disc";
short(Subject) -> atom_to_list(Subject).
