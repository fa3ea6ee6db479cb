%% bench queue, latency: how long one push takes while the queue is synced once a second.
%%
%% Paced: ten pushes each millisecond, then the takes. Flat out: a push and a take, over and over,
%% by one process and by eight. Of disk_log the log call alone is done, and timed.
-module(emmap_bench_latency).

-export([run/2]).

-define(MESSAGE, (binary:copy(<<"l">>, 100))).
-define(BURST, 10).
%% Classes of times: 32 to each doubling.
-define(CLASSES, 1280).

-spec run(emmap_bench:options(), string()) -> [emmap_bench:target()].
run(#{quick := Quick} = Options, Folder) ->
    {Ms, Rounds} = case Quick of
                       true -> {1300, 1};
                       false -> {4000, maps:get(rounds, Options, 3)}
                   end,
    Cases = [{Pace, Peer} || Pace <- [paced, {flat, 1}, {flat, 8}], Peer <- peers(Pace)],
    Taken = lists:append([[{Case, sample(Case, Ms, Folder, Round, Rounds)} || Case <- Cases]
                          || Round <- lists:seq(1, Rounds)]),
    Results = maps:groups_from_list(fun({Case, _}) -> Case end, fun({_, Result}) -> Result end, Taken),
    Median = fun(Case, Key) -> emmap_bench:median([maps:get(Key, In) || In <- maps:get(Case, Results)]) end,
    Most = fun(Case, Key) -> lists:max([maps:get(Key, In) || In <- maps:get(Case, Results)]) end,
    emmap_bench:table(
        io_lib:format("One push of 100 B with a sync each second: us; medians of ~b rounds of ~.1f s, the "
                      "longest of all~n(paced: ~b pushes each ms, then ~b takes; flat out: a push and a "
                      "take; of disk_log no take)", [Rounds, Ms / 1000, ?BURST, ?BURST]),
        ["", "", "p50", "p99", "p99.9", "longest", "pushes/s"],
        [[title(Pace), emmap_bench_peers:title(Peer)
          | [us(Median(Case, Key)) || Key <- [p50, p99, p999]]
          ++ [us(Most(Case, longest)), integer_to_list(round(Median(Case, rate)))]]
         || {Pace, Peer} = Case <- Cases]),
    emmap_bench:table("One take of 100 B, in the same runs: us",
                      ["", "", "p50", "p99", "p99.9", "longest"],
                      [[title(Pace), emmap_bench_peers:title(Peer)
                        | [us(Median(Case, {take, Key})) || Key <- [p50, p99, p999]]
                        ++ [us(Most(Case, {take, longest}))]]
                       || {Pace, Peer} = Case <- Cases, Peer =/= disk_log]),
    [{["p99.9 of a push, ", title(Pace), ": half of disk_log:log"], Median({Pace, emmap}, p999), at_most,
      Median({Pace, disk_log}, p999) / 2, ns} || Pace <- [paced, {flat, 1}]].

peers({flat, 8}) -> [emmap, fifo, disk_log];
peers(_) -> [emmap, disk_log].

title(paced) -> "paced";
title({flat, 1}) -> "flat out";
title({flat, N}) -> io_lib:format("flat out, ~b processes", [N]).

us(Ns) when Ns < 100000 -> io_lib:format("~.1f", [Ns / 1000]);
us(Ns) -> integer_to_list(round(Ns / 1000)).

%%--------------------------------------------------------------------------------------- a sample

sample({Pace, Peer}, Ms, Folder, Round, Rounds) ->
    {Push, Take, Sync, Close} = open(Peer, filename:join(Folder, "latency")),
    Processes = case Pace of paced -> 1; {flat, Several} -> Several end,
    Begin = erlang:monotonic_time(),
    Until = Begin + erlang:convert_time_unit(Ms, millisecond, native),
    Syncer = spawn_link(fun() -> sync_each_second(Sync, 500) end),
    Workers = [spawn_monitor(fun() -> exit({done, work(Pace, Push, Take, Until)}) end)
               || _ <- lists:seq(1, Processes)],
    Done = [receive
                {'DOWN', Ref, process, Pid, {done, Times}} -> Times;
                {'DOWN', Ref, process, Pid, Why} -> error({worker, Why})
            end || {Pid, Ref} <- Workers],
    Took = erlang:convert_time_unit(erlang:monotonic_time() - Begin, native, nanosecond),
    stop(Syncer),
    ok = Close(),
    {Pushes, Takes} = lists:unzip(Done),
    Result = maps:merge(told(Pushes), maps:from_list([{{take, Key}, Of}
                                                      || {Key, Of} <- maps:to_list(told(Takes))])),
    #{n := N, p999 := P999, longest := Longest} = Result,
    emmap_bench:progress("latency ~b/~b  ~-22ts ~-10ts p99.9 ~ts us, longest ~ts us, ~b pushes~n",
                         [Round, Rounds, title(Pace), emmap_bench_peers:title(Peer), us(P999),
                          us(Longest), N]),
    Result#{rate => N * 1.0e9 / Took}.

%% Functions of its push, take, sync, and close. The message is ready.
open(emmap, Name) ->
    Message = ?MESSAGE,
    {ok, Q} = emmap_queue:open(Name, #{auto_unlink => true}),
    {fun() -> ok = emmap_queue:push(Q, Message) end, fun() -> {ok, _} = emmap_queue:take(Q) end,
     fun() -> ok = emmap_queue:sync(Q) end, fun() -> emmap_queue:close(Q) end};
open(fifo, _) ->
    Message = ?MESSAGE,
    {ok, Server} = emmap_bench_fifo:start_link(),
    {fun() -> ok = emmap_bench_fifo:push(Server, Message) end,
     fun() -> {ok, _} = emmap_bench_fifo:take(Server) end, fun() -> ok end,
     fun() -> gen_server:stop(Server) end};
open(disk_log, Name) ->
    Message = ?MESSAGE,
    {ok, Log} = disk_log:open([{name, ?MODULE}, {file, Name}]),
    {fun() -> ok = disk_log:log(Log, Message) end, fun() -> ok end, fun() -> ok = disk_log:sync(Log) end,
     fun() -> ok = disk_log:close(Log), file:delete(Name) end}.

sync_each_second(Sync, WaitMs) ->
    receive
        {stop, From} -> From ! {stopped, self()}
    after WaitMs ->
        Sync(),
        sync_each_second(Sync, 1000)
    end.

stop(Pid) ->
    Pid ! {stop, self()},
    receive {stopped, Pid} -> ok end.

%%------------------------------------------------------------------------------------------- work

work(Pace, Push, Take, Until) ->
    Pushes = {counters:new(?CLASSES, []), 0},
    Takes = {counters:new(?CLASSES, []), 0},
    case Pace of
        paced -> paced(Push, Take, Until, Pushes, Takes);
        {flat, _} -> flat(Push, Take, Until, Pushes, Takes)
    end.

flat(Push, Take, Until, Pushes, Takes) ->
    Begin = erlang:monotonic_time(),
    Push(),
    Pushed = erlang:monotonic_time(),
    Take(),
    Taken = erlang:monotonic_time(),
    More = note(Pushes, Pushed - Begin),
    MoreTakes = note(Takes, Taken - Pushed),
    case Taken < Until of
        true -> flat(Push, Take, Until, More, MoreTakes);
        false -> {More, MoreTakes}
    end.

paced(Push, Take, Until, Pushes, Takes) ->
    receive after 1 -> ok end,
    More = burst(?BURST, Push, Pushes),
    MoreTakes = burst(?BURST, Take, Takes),
    case erlang:monotonic_time() < Until of
        true -> paced(Push, Take, Until, More, MoreTakes);
        false -> {More, MoreTakes}
    end.

burst(0, _, Times) ->
    Times;
burst(N, Call, Times) ->
    Begin = erlang:monotonic_time(),
    Call(),
    End = erlang:monotonic_time(),
    burst(N - 1, Call, note(Times, End - Begin)).

note({Classes, Longest}, Time) ->
    Ns = erlang:convert_time_unit(Time, native, nanosecond),
    ok = counters:add(Classes, min(?CLASSES, 1 + trunc(32 * math:log2(Ns + 1))), 1),
    {Classes, max(Longest, Ns)}.

%%------------------------------------------------------------------------------------ percentiles

told(Times) ->
    Counts = [lists:sum([counters:get(Classes, I) || {Classes, _} <- Times])
              || I <- lists:seq(1, ?CLASSES)],
    N = lists:sum(Counts),
    Longest = lists:max([Longest || {_, Longest} <- Times]),
    At = fun(Part) -> min(Longest, math:pow(2, class(Counts, 1, max(1, ceil(N * Part))) / 32)) end,
    #{n => N, p50 => At(0.5), p99 => At(0.99), p999 => At(0.999), longest => Longest}.

%% The class that has the Nth of them.
class([Count | _], I, N) when Count >= N -> I;
class([Count | Counts], I, N) -> class(Counts, I + 1, N - Count).
