%% bench queue, pairs: a push and a take, of one message and of 100 at once, by 1, 2 and 8 processes.
-module(emmap_bench_pairs).

-export([run/2]).

-define(MANY, 100).

-type message() :: {Name :: string(), term()}.

%% The targets of this part.
-spec run(emmap_bench:options(), string()) -> [emmap_bench:target()].
run(#{quick := Quick, out := Out} = Options, Folder) ->
    Rounds = maps:get(rounds, Options, case Quick of true -> 3; false -> 7 end),
    SampleMs = case Quick of true -> 5; false -> 30 end,
    Samples = samples(Quick, [Peer || {Peer, _} <- emmap_bench_peers:missing()], Folder),
    {Calls, _} = emmap_bench_sample:rounds("pairs: ", Samples, Rounds, SampleMs * 1000000),
    Taken = [maps:map(fun({_, _, Many, _}, Ns) -> Ns / Many end, In) || In <- Calls], % a message
    Of = fun(Pick) -> maps:from_list([{Key, Pick([maps:get(Key, In) || In <- Taken])}
                                      || #{key := Key} <- Samples]) end,
    Ns = Of(fun emmap_bench:median/1),
    Scale = scaling(Taken),
    method(Rounds, SampleMs),
    tables(Ns),
    processes(Ns, Scale),
    picture(Ns, Out),
    targets(Ns, Of(fun lists:min/1), Scale).

method(Rounds, SampleMs) ->
    io:format(
        "A push and a take: medians of ~b rounds of about ~b ms a case, gross. All outlive the VM but\n"
        "gen_server (OTP's queue in one) and ets (an ordered set), which are in memory, and what\n"
        "disk_log and mnesia have not yet written; no one waits for the disk. The ring in C is a loop of\n"
        "copies and checksums in a mapped file, the ring's NIF the same with a mutex and a call each;\n"
        "mnesia is disc_copies (dirty; a transaction a batch), SQLite in WAL mode with synchronous=NORMAL.\n"
        "What keeps bytes gets the external format of the tuple and the map. A binary above 64 B is\n"
        "shared, not copied, by gen_server and ets.~n~n", [Rounds, SampleMs]).

%%--------------------------------------------------------------------------------------- samples

-spec messages() -> [message()].
messages() ->
    [{"small tuple", {order, 17, <<"tea">>}},
     {"map", #{id => 17, what => <<"tea">>, price => 2.5, tags => [hot, green]}}
     | [{emmap_bench:bytes(Size), binary:copy(<<"m">>, Size)} || Size <- sizes()]].

sizes() -> [100, 1024, 65536, 1 bsl 20].

peers() -> [emmap, ring, fifo, ets, disk_log, file, mnesia, dets, sqlite].

%% Those whose takers need no order among them.
shared() -> [emmap, ring, fifo, ets].

together() -> ["small tuple", "100 B", "1 KiB", "64 KiB"].

%% What is compared with each other comes close to each other.
samples(Quick, Missing, Folder) ->
    Peers = [{Peer, emmap_bench_peers:open(Peer, Folder)} || Peer <- peers() -- Missing],
    lists:append([ring_loop(Message, Folder)
                  ++ [sample(Peer, Shared, Message, 1, 1) || {Peer, Shared} <- Peers]
                  ++ [sample(Peer, Shared, Message, ?MANY, 1)
                      || {Peer, Shared} <- Peers, in_batches(Peer, Message, Quick)]
                  ++ [sample(Peer, Shared, Message, Many, Processes)
                      || {Name, _} <- [Message], Many <- [1 | [?MANY || Name =:= "100 B"]],
                         Processes <- [2, 8],
                         {Peer, Shared} <- Peers,
                         lists:member(Peer, shared()), lists:member(Name, together())]
                  || Message <- messages()]).

%% 100 of 1 MiB take their time: only what is made for such.
in_batches(Peer, {"1 MiB", _}, Quick) -> not Quick andalso lists:member(Peer, [emmap, ring, file]);
in_batches(Peer, {"64 KiB", _}, _) -> lists:member(Peer, [emmap, ring, file]);
in_batches(_, _, _) -> true.

ring_loop({Name, Term}, Folder) ->
    Bytes = bytes_of(Term),
    State = emmap_bench_peers:open(ring, Folder),
    [#{key => {ring_loop, Name, 1, 1}, processes => 1,
       setup => fun(_) -> emmap_bench_peers:setup(ring, State, 2 * Bytes) end,
       loop => fun(N, Ring) -> {took, emmap_bench_ring:loop(Ring, Bytes, N)} end}].

sample(Peer, Shared, {Name, Term}, Many, Processes) ->
    Bytes = Processes * Many * (bytes_of(Term) + 64),
    #{key => {Peer, Name, Many, Processes}, processes => Processes,
      setup => setup(Peer, Shared, Bytes, Processes),
      loop => case Many of
                  1 -> fun(N, State) -> emmap_bench_peers:pairs(Peer, N, State, Term) end;
                  _ -> fun(N, State) -> emmap_bench_peers:batches(Peer, N, State, {Many, Term}) end
              end}.

%% Several processes use one ring.
setup(ring, Shared, Bytes, Processes) when Processes > 1 ->
    Ring = emmap_bench_peers:setup(ring, Shared, Bytes),
    fun(_) -> Ring end;
setup(Peer, Shared, Bytes, _) ->
    fun(_) -> emmap_bench_peers:setup(Peer, Shared, Bytes) end.

bytes_of(Data) when is_binary(Data) -> byte_size(Data);
bytes_of(Term) -> erlang:external_size(Term).

%% How many times the work of one process several do, by the median of what each round shows.
scaling(Taken) ->
    maps:from_list(
        [{Key, emmap_bench:median([Processes * maps:get({Peer, Name, Many, 1}, In) / maps:get(Key, In)
                                   || In <- Taken])}
         || {Peer, Name, Many, Processes} = Key <- maps:keys(hd(Taken)), Processes > 1]).

%%---------------------------------------------------------------------------------------- tables

tables(Ns) ->
    Names = [Name || {Name, _} <- messages()],
    [begin
         Columns = [Peer || Peer <- [emmap, ring_loop | peers() -- [emmap]], Many =:= 1 orelse Peer =/= ring_loop],
         Row = fun(Name, Show) ->
                       [Name | [case Ns of
                                    #{{Peer, Name, Many, 1} := Figure} -> Show(Figure, Name);
                                    #{} -> "-"
                                end || Peer <- Columns]]
               end,
         Head = ["" | [emmap_bench_peers:title(Peer) || Peer <- Columns]],
         Rows = [Name || Name <- Names, is_map_key({emmap, Name, Many, 1}, Ns)],
         emmap_bench:table([Title, ": ns a message, one process"], Head,
                           [Row(Name, fun(Figure, _) -> emmap_bench:ns(Figure) end) || Name <- Rows]),
         emmap_bench:table("The same in emmap's time", Head,
                           [Row(Name, fun(Figure, Of) ->
                                              ratio(Figure / maps:get({emmap, Of, Many, 1}, Ns))
                                      end) || Name <- Rows])
     end || {Title, Many} <- [{"A push and a take", 1},
                              {io_lib:format("~b pushed and ~b taken at once", [?MANY, ?MANY]), ?MANY}]],
    ok.

ratio(Ratio) when Ratio < 10 -> io_lib:format("~.2f x", [Ratio]);
ratio(Ratio) -> io_lib:format("~b x", [round(Ratio)]).

processes(Ns, Scale) ->
    Cases = [{Peer, Name, Many} || {Name, _} <- messages(), Many <- [1, ?MANY], Peer <- shared(),
                                   is_map_key({Peer, Name, Many, 2}, Scale)],
    emmap_bench:table("Several processes on one handle: the messages of all, in those of one",
                      ["", "", "ns, 1 process", "2", "8"],
                      [[what(Name, Many), emmap_bench_peers:title(Peer),
                        emmap_bench:ns(maps:get({Peer, Name, Many, 1}, Ns))
                        | [io_lib:format("~.2f x", [maps:get({Peer, Name, Many, Processes}, Scale)])
                           || Processes <- [2, 8]]] || {Peer, Name, Many} <- Cases]).

what(Name, 1) -> Name;
what(Name, Many) -> io_lib:format("~b of ~ts", [Many, Name]).

%%------------------------------------------------------------------------- targets and the picture

%% The least of the rounds is told too: it is what a busy machine disturbs the least.
targets(Ns, Least, Scale) ->
    Beside = fun(Name, Many, Times, Yardstick, Peer) ->
                     Of = fun(In) -> {maps:get({emmap, Name, Many, 1}, In), maps:get({Peer, Name, 1, 1}, In)} end,
                     {Measured, Beside} = Of(Ns),
                     {LeastMeasured, LeastBeside} = Of(Least),
                     {[what(Name, Many), ": ", io_lib:format("~.2f", [Times]), " x ", Yardstick],
                      Measured, at_most, Times * Beside, ns,
                      io_lib:format(" (~.2f x; by the least of the rounds ~.2f x)",
                                    [Measured / Beside, LeastMeasured / LeastBeside])}
             end,
    [Beside("small tuple", 1, 0.7, "ets", ets)]
        ++ [Beside(Name, Many, Times, "the ring in C", ring_loop)
            || {Name, Many, Times} <- [{"100 B", 1, 5.0}, {"1 KiB", 1, 2.2}, {"64 KiB", 1, 0.85},
                                       {"100 B", ?MANY, 2.8}]]
        ++ [{[integer_to_list(Processes), " processes, ", Name, ": 0.8 of what one does"],
             maps:get({emmap, Name, 1, Processes}, Scale), at_least, 0.8, times}
            || Processes <- [2, 8], Name <- ["small tuple", "100 B"]].

%% Binaries by their size: alone, then 100 at once.
picture(Ns, Out) ->
    Columns = [ring_loop | peers()],
    Figure = fun(Key) ->
                     case Ns of
                         #{Key := Of} -> io_lib:format("~.1f", [float(Of)]);
                         #{} -> "NaN"
                     end
             end,
    Data = filename:join(Out, "queue.tsv"),
    emmap_bench:write_tsv(
        Data, ["bytes" | [[atom_to_list(Peer), Suffix] || Suffix <- ["", "_many"], Peer <- Columns]],
        [[integer_to_list(Size) | [Figure({Peer, emmap_bench:bytes(Size), Many, 1})
                                   || Many <- [1, ?MANY], Peer <- Columns]] || Size <- sizes()]),
    emmap_bench:plot("queue.gp", Data, filename:join(Out, "queue.png")).
