%% bench file: bytes, integers and counters beside what they are made of.
%%
%% A sample is N calls in a process of its own, N such that it takes a few milliseconds; the empty
%% loop of the same round is subtracted. What is told is the median over the rounds.
-module(emmap_bench_file).

-export([run/1]).
-export([open_one/1]). % called in another VM

-define(SIZES, [8, 64, 1024, 4096, 65536, 1 bsl 20]).
-define(FILE_BYTES, (16 bsl 20)).
-define(LAST_BLOCK, (?FILE_BYTES div 65536 - 1)).
%% Processes that share a handle work this far apart: on pages and stripes of their own.
-define(APART, (128 bsl 10)).
-define(HANDLES, 4000).
%% What two processes must do of the work of one for a yardstick to be one.
-define(SCALES, 1.5).

-spec run(emmap_bench:options()) -> ok.
run(#{quick := Quick, out := Out, work := Work} = Options) ->
    Rounds = maps:get(rounds, Options, case Quick of true -> 3; false -> 7 end),
    SampleMs = case Quick of true -> 5; false -> 30 end,
    emmap_bench:facts(Work, [{"method", method(Rounds, SampleMs)}]),
    Env = open(filename:join(Work, "file")),
    Samples = samples(Env),
    {Gross, Calls} = emmap_bench_sample:rounds("", Samples, Rounds, SampleMs * 1000000),
    Taken = [net(In) || In <- Gross],
    Ns = maps:from_list([{Key, emmap_bench:median([maps:get(Key, In) || In <- Taken])}
                         || #{key := Key} <- Samples]),
    Scale = scaling(Taken),
    io:format("Load at the end ~ts~n~n", [emmap_bench:load()]),
    by_size(Ns),
    scattered(Ns),
    integers(Ns),
    processes(Ns, Scale),
    collections(Env),
    Each = handle_memory(Work),
    calls(Calls),
    emmap_bench:targets("Targets", targets(Ns, Scale, Each)),
    picture(Ns, Out).

method(Rounds, SampleMs) ->
    io_lib:format("medians of ~b rounds, about ~b ms a sample; net of the empty Erlang loop; "
                  "memcpy in a C loop,~n           gross; each process always at one place, in "
                  "the processor's caches, but where it says~n           by turns", [Rounds, SampleMs]).

%%--------------------------------------------------------------------------------------- samples

open(Name) ->
    ok = file:write_file(Name, binary:copy(<<"0123456789abcdef">>, ?FILE_BYTES div 16)),
    {ok, Mem, _} = emmap:open(Name, [read, write, shared]),
    {ok, Direct, _} = emmap:open(Name, [read, shared, direct]),
    #{name => Name, mem => Mem, direct => Direct, block => emmap_bench_nif:new(?FILE_BYTES),
      simple => emmap:open_counters(Name ++ ".counters", 64)}.

samples(Env) ->
    Alone = [{nothing, 0}, {nif, 0}, {nif_resource, 0}, {inc_counter, 0}, {read_counter, 0},
             {atomics_add_get, 0}, {counters_add, 0}]
        ++ [{Operation, Size} || Size <- ?SIZES,
                                 Operation <- [pread, direct, pwrite, file_pread, file_pwrite,
                                               binary_copy, memcpy, nif_copy]]
        ++ [{Operation, 64} || {_, Operation, _} <- by_turns()],
    Together = [{Operation, 0} || Operation <- integers_together()]
        ++ [{Operation, Size} || Size <- [64, 65536], Operation <- bytes_together()],
    [sample(Operation, Size, Processes, Env)
     || {Operation, Size} = Case <- Alone ++ (Together -- Alone),
        Processes <- [1] ++ [N || N <- [2, 8], lists:member(Case, Together)]].

by_turns() ->
    [{"pread", pread_by_turns, pread}, {"direct", direct_by_turns, direct},
     {"pwrite", pwrite_by_turns, pwrite}, {"file:pread", file_pread_by_turns, file_pread},
     {"NIF+memcpy", nif_copy_by_turns, nif_copy}].

integers_together() ->
    [nif_resource, patomic_add, atomics_add, patomic_add_one, atomics_add_one].

bytes_together() ->
    [pread, direct, pwrite, file_pread, binary_copy, nif_copy].

sample(Operation, Size, Processes, Env) ->
    {Setup, Loop} = operation(Operation, Size, Env),
    #{key => {Operation, Size, Processes}, processes => Processes, setup => Setup, loop => Loop}.

operation(nothing, _, _) ->
    {fun(_) -> none end, fun(N, _) -> emmap_bench_loops:nothing(N) end};
operation(nif, _, #{block := Block}) ->
    {fun(_) -> Block end, fun emmap_bench_loops:nif/2};
operation(nif_resource, _, #{block := Block}) ->
    {fun(_) -> Block end, fun emmap_bench_loops:nif_resource/2};
operation(nif_copy, Size, #{block := Block}) ->
    {fun place/1, fun(N, Off) -> emmap_bench_loops:nif_copy(N, Block, Off, Size) end};
operation(memcpy, Size, _) ->
    {fun(_) -> Size end, fun(N, Bytes) -> {took, emmap_bench_nif:memcpy(Bytes, N)} end};
operation(pread_by_turns, Size, #{mem := Mem}) ->
    {fun(_) -> ?LAST_BLOCK end, fun(N, Mask) -> emmap_bench_loops:pread_by_turns(N, Mem, Mask, Size) end};
operation(direct_by_turns, Size, #{direct := Mem}) ->
    {fun(_) -> ?LAST_BLOCK end, fun(N, Mask) -> emmap_bench_loops:pread_by_turns(N, Mem, Mask, Size) end};
operation(pwrite_by_turns, Size, #{mem := Mem}) ->
    {fun(_) -> data(Size) end,
     fun(N, Data) -> emmap_bench_loops:pwrite_by_turns(N, Mem, ?LAST_BLOCK, Data) end};
operation(file_pread_by_turns, Size, Env) ->
    {fun(_) -> raw(Env) end,
     fun(N, Fd) -> emmap_bench_loops:file_pread_by_turns(N, Fd, ?LAST_BLOCK, Size) end};
operation(nif_copy_by_turns, Size, #{block := Block}) ->
    {fun(_) -> ?LAST_BLOCK end,
     fun(N, Mask) -> emmap_bench_loops:nif_copy_by_turns(N, Block, Mask, Size) end};
operation(pread, Size, #{mem := Mem}) ->
    {fun place/1, fun(N, Off) -> emmap_bench_loops:pread(N, Mem, Off, Size) end};
operation(direct, Size, #{direct := Mem}) ->
    {fun place/1, fun(N, Off) -> emmap_bench_loops:pread(N, Mem, Off, Size) end};
operation(pwrite, Size, #{mem := Mem}) ->
    {fun(Worker) -> {place(Worker), data(Size)} end,
     fun(N, {Off, Data}) -> emmap_bench_loops:pwrite(N, Mem, Off, Data) end};
operation(file_pread, Size, Env) ->
    {fun(Worker) -> {raw(Env), place(Worker)} end,
     fun(N, {Fd, Off}) -> emmap_bench_loops:file_pread(N, Fd, Off, Size) end};
operation(file_pwrite, Size, Env) ->
    {fun(Worker) -> {raw(Env), place(Worker), data(Size)} end,
     fun(N, {Fd, Off, Data}) -> emmap_bench_loops:file_pwrite(N, Fd, Off, Data) end};
operation(binary_copy, Size, _) ->
    {fun(_) -> data(Size) end, fun emmap_bench_loops:binary_copy/2};
operation(patomic_add, _, #{mem := Mem}) ->
    {fun place/1, fun(N, Off) -> emmap_bench_loops:patomic_add(N, Mem, Off) end};
operation(patomic_add_one, _, #{mem := Mem}) ->
    {fun(_) -> 4096 end, fun(N, Off) -> emmap_bench_loops:patomic_add(N, Mem, Off) end};
operation(inc_counter, _, #{simple := Counters}) ->
    {fun(_) -> 5 end, fun(N, Ix) -> emmap_bench_loops:inc_counter(N, Counters, Ix) end};
operation(read_counter, _, #{simple := Counters}) ->
    {fun(_) -> 5 end, fun(N, Ix) -> emmap_bench_loops:read_counter(N, Counters, Ix) end};
operation(atomics_add, _, _) -> % 16 words apart: two cache lines
    Ref = atomics:new(1024, []),
    {fun(Worker) -> 1 + 16 * Worker end, fun(N, Ix) -> emmap_bench_loops:atomics_add(N, Ref, Ix) end};
operation(atomics_add_one, _, _) ->
    Ref = atomics:new(1024, []),
    {fun(_) -> 17 end, fun(N, Ix) -> emmap_bench_loops:atomics_add(N, Ref, Ix) end};
operation(atomics_add_get, _, _) ->
    Ref = atomics:new(64, []),
    {fun(_) -> 17 end, fun(N, Ix) -> emmap_bench_loops:atomics_add_get(N, Ref, Ix) end};
operation(counters_add, _, _) ->
    Ref = counters:new(64, []),
    {fun(_) -> 17 end, fun(N, Ix) -> emmap_bench_loops:counters_add(N, Ref, Ix) end}.

place(Worker) -> Worker * ?APART.

data(Size) -> binary:copy(<<"w">>, Size).

%% A raw file belongs to the process that opens it.
raw(#{name := Name}) ->
    {ok, Fd} = file:open(Name, [raw, binary, read, write]),
    Fd.

%%------------------------------------------------------------------------------------- measuring

net(#{{nothing, 0, 1} := Loop} = In) ->
    maps:map(fun(Key, Ns) -> net(Key, Ns, Loop) end, In).

net({nothing, _, _}, Ns, _) -> Ns;
net({memcpy, _, _}, Ns, _) -> Ns;
net(_, Ns, Loop) -> max(Ns - Loop, 0.1).

%% How many times the work of one process several do, by the median of what each round shows.
scaling(Taken) ->
    Keys = [Key || {_, _, Processes} = Key <- maps:keys(hd(Taken)), Processes > 1],
    maps:from_list(
        [{Key, emmap_bench:median([Processes * maps:get({Operation, Size, 1}, In)
                                   / maps:get(Key, In) || In <- Taken])}
         || {Operation, Size, Processes} = Key <- Keys]).

%%---------------------------------------------------------------------------------------- tables

by_size(Ns) ->
    Columns = [{"pread", pread}, {"direct", direct}, {"pwrite", pwrite}, {"file:pread", file_pread},
               {"file:pwrite", file_pwrite}, {"binary:copy", binary_copy}, {"memcpy", memcpy},
               {"NIF+memcpy", nif_copy}],
    emmap_bench:table("Bytes: ns a call, one process",
                      ["" | [Name || {Name, _} <- Columns]],
                      [[emmap_bench:bytes(Size)
                        | [emmap_bench:ns(maps:get({Operation, Size, 1}, Ns))
                           || {_, Operation} <- Columns]] || Size <- ?SIZES]),
    Ratios = [{"pread : copy", pread, binary_copy}, {"file:pread : pread", file_pread, pread},
              {"direct : empty NIF", direct, nif_resource}, {"pwrite : memcpy", pwrite, memcpy},
              {"file:pwrite : pwrite", file_pwrite, pwrite}],
    emmap_bench:table("The same as ratios",
                      ["" | [Name || {Name, _, _} <- Ratios]],
                      [[emmap_bench:bytes(Size)
                        | [io_lib:format("~.2f", [ns_of(Above, Size, Ns) / ns_of(Below, Size, Ns)])
                           || {_, Above, Below} <- Ratios]] || Size <- ?SIZES]).

scattered(Ns) ->
    emmap_bench:table(io_lib:format("64 B at ~b places by turns, one in each 64 KiB: ns a call, one process",
                                    [?LAST_BLOCK + 1]),
                      ["", "one place", "by turns", "ratio"],
                      [[Name, emmap_bench:ns(ns_of(OnePlace, 64, Ns)), emmap_bench:ns(ns_of(ByTurns, 64, Ns)),
                        io_lib:format("~.2f x", [ns_of(ByTurns, 64, Ns) / ns_of(OnePlace, 64, Ns)])]
                       || {Name, ByTurns, OnePlace} <- by_turns()]).

ns_of(nif_resource, _, Ns) -> maps:get({nif_resource, 0, 1}, Ns);
ns_of(Operation, Size, Ns) -> maps:get({Operation, Size, 1}, Ns).

integers(Ns) ->
    Empty = ns_of(nif_resource, 0, Ns),
    Rows = [{"the empty loop, subtracted from all", nothing}, {"empty NIF", nif},
            {"empty NIF with enif_get_resource", nif_resource},
            {"emmap:patomic_add/3", patomic_add}, {"emmap:inc_counter/2", inc_counter},
            {"emmap:read_counter/2", read_counter}, {"atomics:add/3", atomics_add},
            {"atomics:add_get/3", atomics_add_get}, {"counters:add/3", counters_add}],
    emmap_bench:table("Integers: ns a call, one process", ["", "ns", "of the empty NIF"],
                      [[Name, emmap_bench:ns(maps:get({Operation, 0, 1}, Ns)),
                        io_lib:format("~.2f x", [maps:get({Operation, 0, 1}, Ns) / Empty])]
                       || {Name, Operation} <- Rows]).

processes(Ns, Scale) ->
    Row = fun(Name, Operation, Size) ->
                  [Name, emmap_bench:ns(maps:get({Operation, Size, 1}, Ns))
                   | [io_lib:format("~.2f x", [maps:get({Operation, Size, Processes}, Scale)])
                      || Processes <- [2, 8]]]
          end,
    emmap_bench:table(
        "Several processes on one handle: the work of all, in that of one\n"
        "(each at its own place but where it says one word; raw files: a descriptor each)",
        ["", "ns, 1 process", "2", "8"],
        [Row("empty NIF with enif_get_resource", nif_resource, 0),
         Row("patomic_add", patomic_add, 0), Row("atomics:add", atomics_add, 0),
         Row("patomic_add on one word", patomic_add_one, 0),
         Row("atomics:add on one word", atomics_add_one, 0)]
        ++ [Row([Name, " ", emmap_bench:bytes(Size)], Operation, Size)
            || Size <- [64, 65536],
               {Name, Operation} <- [{"NIF+memcpy", nif_copy}, {"binary:copy", binary_copy},
                                     {"pread", pread}, {"direct", direct}, {"pwrite", pwrite},
                                     {"file:pread", file_pread}]]).

%% Collections of the whole VM while one process reads; nothing else runs.
collections(#{mem := Mem, direct := Direct, name := Name}) ->
    N = 10000,
    Read = fun(Handle, Size) ->
                   #{setup => fun(_) -> 0 end,
                     loop => fun(_, Off) ->
                                     {Before, _, _} = erlang:statistics(garbage_collection),
                                     ok = read(N, Handle, Off, Size),
                                     {After, _, _} = erlang:statistics(garbage_collection),
                                     {took, After - Before}
                             end}
           end,
    Of = fun(Handle, Size) -> io_lib:format("~.4f", [collected(Read(Handle, Size)) / N]) end,
    emmap_bench:table(io_lib:format("Garbage collections a call (of ~b calls)", [N]),
                      ["", "pread direct", "pread copy", "file:pread"],
                      [[emmap_bench:bytes(Size), Of(Direct, Size), Of(Mem, Size), Of({raw, Name}, Size)]
                       || Size <- ?SIZES]).

read(N, {raw, Name}, Off, Size) -> emmap_bench_loops:file_pread(N, raw(#{name => Name}), Off, Size);
read(N, Mem, Off, Size) -> emmap_bench_loops:pread(N, Mem, Off, Size).

collected(#{setup := Setup, loop := Loop}) ->
    {Pid, Ref} = spawn_monitor(fun() -> exit(Loop(0, Setup(0))) end),
    receive {'DOWN', Ref, process, Pid, {took, Collections}} -> Collections end.

calls(Counted) ->
    Text = [io_lib:format("~s~s~s ~b", [Operation, of_size(Size), of_processes(Processes), N])
            || {#{key := {Operation, Size, Processes}}, N} <- Counted],
    io:format("Calls a sample and process:~n~ts~n", [fold(Text, 0)]).

of_size(0) -> "";
of_size(Size) -> io_lib:format("/~b", [Size]).

of_processes(1) -> "";
of_processes(N) -> io_lib:format("*~b", [N]).

fold([], _) -> "\n";
fold([Text | Texts], Column) ->
    case Column + 2 + lists:flatlength(Text) of
        Next when Column =:= 0; Next > 100 -> ["\n  ", Text | fold(Texts, 2 + lists:flatlength(Text))];
        Next -> [", ", Text | fold(Texts, Next)]
    end.

%%--------------------------------------------------------------------------- an open handle's memory

handle_memory(Work) ->
    {N, Each, Rows} = emmap_bench_memory:each(filename:join(Work, "handles"), ?HANDLES,
                                              fun ?MODULE:open_one/1, fun emmap:close/1),
    emmap_bench:table(io_lib:format("Memory of an open handle: growth by ~b handles, each of a "
                                    "file of 4 KiB and read once", [N]), ["", "bytes a handle"], Rows),
    Each.

-spec open_one(string()) -> emmap:mem().
open_one(Name) ->
    ok = file:write_file(Name, binary:copy(<<"x">>, 4096)),
    {ok, Mem, _} = emmap:open(Name, [read, write, shared]),
    {ok, <<"x">>} = emmap:pread(Mem, 0, 1),
    Mem.

%%--------------------------------------------------------------------------------------- targets

targets(Ns, Scale, Each) ->
    Empty = ns_of(nif_resource, 0, Ns),
    Copy = fun(Size, More) ->
                   {["pread of ", emmap_bench:bytes(Size), ": binary:copy/1 + ", integer_to_list(More),
                     " ns"],
                    ns_of(pread, Size, Ns), at_most, ns_of(binary_copy, Size, Ns) + More, ns}
           end,
    Direct = fun(Size) ->
                     {["direct pread of ", emmap_bench:bytes(Size), ": 3 x the empty NIF"],
                      ns_of(direct, Size, Ns), at_most, 3 * Empty, ns}
             end,
    Write = fun(Size) ->
                    {["pwrite of ", emmap_bench:bytes(Size), ": memcpy x 1.15 + 60 ns"],
                     ns_of(pwrite, Size, Ns), at_most, 1.15 * ns_of(memcpy, Size, Ns) + 60, ns}
            end,
    Integer = fun(Name, Operation) ->
                      {[Name, ": 2 x the empty NIF"], maps:get({Operation, 0, 1}, Ns), at_most,
                       2 * Empty, ns}
              end,
    Scaled = fun(Name, Operation, Size, Beside, Yardstick, YardstickSize) ->
                     scaled(["2 processes, ", Name, ": 0.9 of what ", Beside, " scales to"],
                            maps:get({Operation, Size, 2}, Scale),
                            maps:get({Yardstick, YardstickSize, 2}, Scale))
             end,
    Turns = fun({Name, ByTurns, OnePlace}) ->
                    {[Name, " of 64 B by turns: 3 x at one place"], ns_of(ByTurns, 64, Ns), at_most,
                     3 * ns_of(OnePlace, 64, Ns), ns}
            end,
    [Copy(64, 50),
     {"pread of 64 B: 40 x faster than raw file:pread",
      ns_of(file_pread, 64, Ns) / ns_of(pread, 64, Ns), at_least, 40, times},
     Copy(1024, 80), Copy(65536, 80), Copy(1 bsl 20, 80)]
    ++ [Direct(Size) || Size <- [8, 64, 1024, 4096]]
    ++ [Write(Size) || Size <- [64, 1024, 65536]]
    ++ [Turns(Case) || {_, _, Operation} = Case <- by_turns(),
                       lists:member(Operation, [pread, direct, pwrite])]
    ++ [Integer("patomic_add", patomic_add), Integer("inc_counter", inc_counter),
        Integer("read_counter", read_counter)]
    ++ [Scaled(Name, Operation, Size, Beside, Yardstick, YardstickSize)
        || {Name, Operation, Size, Beside, Yardstick, YardstickSize} <-
               [{"pread 64 B", pread, 64, "the empty NIF", nif_resource, 0},
                {"pread 64 KiB", pread, 65536, "NIF+memcpy", nif_copy, 65536},
                {"direct 64 B", direct, 64, "the empty NIF", nif_resource, 0},
                {"pwrite 64 B", pwrite, 64, "the empty NIF", nif_resource, 0},
                {"pwrite 64 KiB", pwrite, 65536, "NIF+memcpy", nif_copy, 65536},
                {"patomic_add", patomic_add, 0, "the empty NIF", nif_resource, 0}]]
    ++ [{"memory of an open handle beside its mapping",
         max(maps:get(rss, Each), maps:get(malloc, Each)), at_most, 4096, bytes}].

%% Two processes on one core, or beside a neighbour who takes the other: then nothing scales, and that
%% emmap does not either says nothing of it.
scaled(Text, _, Yardstick) when Yardstick < ?SCALES ->
    {not_measurable, Text, io_lib:format("the yardstick scaled ~.2f x", [float(Yardstick)])};
scaled(Text, Measured, Yardstick) ->
    {Text, Measured, at_least, 0.9 * Yardstick, times}.

picture(Ns, Out) ->
    Operations = [pread, direct, pwrite, file_pread, file_pwrite, binary_copy, memcpy, nif_copy],
    Data = filename:join(Out, "file.tsv"),
    emmap_bench:write_tsv(Data, ["bytes" | [atom_to_list(Operation) || Operation <- Operations]],
                          [[integer_to_list(Size)
                            | [io_lib:format("~.2f", [float(ns_of(Operation, Size, Ns))])
                               || Operation <- Operations]] || Size <- ?SIZES]),
    emmap_bench:plot("file.gp", Data, filename:join(Out, "file.png")).
