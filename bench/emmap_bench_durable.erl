%% bench queue, durable: how many appends of 100 B a second, each acknowledged when it is on the disk,
%% several callers can make.
-module(emmap_bench_durable).

-export([run/2]).

-define(MESSAGE, (binary:copy(<<"d">>, 100))).
-define(CALLERS, [1, 8, 64, 256]).

-spec run(emmap_bench:options(), string()) -> [emmap_bench:target()].
run(#{quick := Quick, out := Out} = Options, Folder) ->
    {Ms, Rounds} = case Quick of
                       true -> {150, maps:get(rounds, Options, 2)};
                       false -> {500, maps:get(rounds, Options, 5)}
                   end,
    Missing = [Peer || {Peer, _} <- emmap_bench_peers:missing()],
    Peers = [emmap, disk_log, file, sqlite] -- Missing,
    Taken = lists:append(
              [[{{Peer, Callers}, sample(Peer, Callers, Ms, Folder, Round, Rounds)}
                || Callers <- ?CALLERS, Peer <- turned(Round, Peers)] || Round <- lists:seq(1, Rounds)]),
    Rates = maps:map(fun(_, Of) -> emmap_bench:median(Of) end,
                     maps:groups_from_list(fun({Case, _}) -> Case end, fun({_, Rate}) -> Rate end, Taken)),
    emmap_bench:table(
        io_lib:format("Durable appends of 100 B a second, all callers together: medians of ~b rounds of ~b ms\n"
                      "(emmap_queue:push with durability => sync; disk_log:log and sync; file:write and datasync "
                      "of a\nfile for each caller; SQLite in WAL mode with synchronous=FULL, a transaction each)",
                      [Rounds, Ms]),
        ["callers" | [title(Peer) || Peer <- Peers]] ++ ["emmap : disk_log"],
        [[integer_to_list(Callers) | [integer_to_list(round(maps:get({Peer, Callers}, Rates))) || Peer <- Peers]]
         ++ [io_lib:format("~.2f x", [maps:get({emmap, Callers}, Rates) / maps:get({disk_log, Callers}, Rates)])]
         || Callers <- ?CALLERS]),
    Data = filename:join(Out, "queue_durable.tsv"),
    emmap_bench:write_tsv(Data, ["callers" | [atom_to_list(Peer) || Peer <- [emmap, disk_log, file, sqlite]]],
                          [[integer_to_list(Callers)
                            | [case Rates of
                                   #{{Peer, Callers} := Rate} -> integer_to_list(round(Rate));
                                   #{} -> "NaN"
                               end || Peer <- [emmap, disk_log, file, sqlite]]] || Callers <- ?CALLERS]),
    emmap_bench:plot("queue_durable.gp", Data, filename:join(Out, "queue_durable.png")),
    [{["durable appends, ", integer_to_list(Callers), " callers: ", io_lib:format("~.1f", [Times]),
       " x disk_log"],
      maps:get({emmap, Callers}, Rates) / maps:get({disk_log, Callers}, Rates), at_least, Times, times}
     || {Callers, Times} <- lists:zip(?CALLERS, [1.5, 1.2, 1.5, 2.0])].

%% Another one comes first in each round.
turned(Round, Peers) ->
    {First, Last} = lists:split((Round - 1) rem length(Peers), Peers),
    Last ++ First.

title(Peer) -> emmap_bench_peers:title(Peer).

%% Appends a second, once all are at it: the first fifth of the time does not count.
sample(Peer, Callers, Ms, Folder, Round, Rounds) ->
    Name = filename:join([Folder, "durable", "store"]),
    ok = filelib:ensure_dir(Name),
    {Setup, Append, Close} = open(Peer, Name),
    Done = counters:new(1, [write_concurrency]),
    Stop = atomics:new(1, []),
    Workers = [spawn_monitor(fun() -> append(Append, Setup(I), Done, Stop) end)
               || I <- lists:seq(1, Callers)],
    receive after Ms div 5 -> ok end,
    {Begin, Before} = {erlang:monotonic_time(), counters:get(Done, 1)},
    receive after Ms -> ok end,
    {End, After} = {erlang:monotonic_time(), counters:get(Done, 1)},
    ok = atomics:put(Stop, 1, 1),
    [receive
         {'DOWN', Ref, process, Pid, done} -> ok;
         {'DOWN', Ref, process, Pid, Why} -> error({caller, Peer, Why})
     end || {Pid, Ref} <- Workers],
    ok = Close(),
    ok = file:del_dir_r(filename:dirname(Name)),
    Rate = (After - Before) * 1.0e9 / erlang:convert_time_unit(End - Begin, native, nanosecond),
    emmap_bench:progress("durable ~b/~b  ~3b callers  ~-9ts ~b a second~n",
                         [Round, Rounds, Callers, title(Peer), round(Rate)]),
    Rate.

append(Append, State, Done, Stop) ->
    ok = Append(State),
    ok = counters:add(Done, 1, 1),
    case atomics:get(Stop, 1) of
        0 -> append(Append, State, Done, Stop);
        1 -> exit(done)
    end.

%% What a caller makes for itself, its append, and the close of all.
open(emmap, Name) ->
    Message = ?MESSAGE,
    {ok, Q} = emmap_queue:open(Name, #{durability => sync}),
    {fun(_) -> Q end, fun(_) -> emmap_queue:push(Q, Message) end, fun() -> emmap_queue:close(Q) end};
open(disk_log, Name) ->
    Message = ?MESSAGE,
    {ok, Log} = disk_log:open([{name, ?MODULE}, {file, Name}]),
    {fun(_) -> Log end,
     fun(_) ->
             ok = disk_log:log(Log, Message),
             disk_log:sync(Log)
     end,
     fun() -> disk_log:close(Log) end};
open(file, Name) ->
    Message = ?MESSAGE,
    {fun(I) ->
             {ok, Fd} = file:open([Name, integer_to_list(I)], [raw, binary, append]),
             Fd
     end,
     fun(Fd) ->
             ok = file:write(Fd, [<<100:32, (erlang:crc32(Message)):32>>, Message]),
             file:datasync(Fd)
     end,
     fun() -> ok end};
open(sqlite, Name) ->
    Message = ?MESSAGE,
    Db = emmap_bench_sqlite:open(Name, "FULL"),
    true = is_reference(Db),
    {fun(_) -> Db end, fun(_) -> emmap_bench_sqlite:push_many(Db, [Message]) end, fun() -> ok end}.
