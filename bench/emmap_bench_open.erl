%% bench queue, open and memory: how long the open of a large queue takes, by how it was left, and
%% what an open handle needs beside its mapping.
-module(emmap_bench_open).

-export([run/2, memory/2]).
-export([work/1, open_one/1]). % called in another VM

-define(MESSAGE_BYTES, 1024).
%% Where the format page has the identity.
-define(IDENTITY_OFF, (4096 + 384)).
-define(IDENTITY_BYTES, 48).

-spec run(emmap_bench:options(), string()) -> [emmap_bench:target()].
run(#{quick := Quick} = Options, Folder) ->
    Rounds = maps:get(rounds, Options, case Quick of true -> 1; false -> 3 end),
    Size = maps:get(size, Options, case Quick of true -> 64 bsl 20; false -> 1 bsl 30 end),
    emmap_bench:enough_space(Folder, Size),
    Empty = filename:join(Folder, "empty"),
    Large = filename:join(Folder, "large"),
    {ok, Q} = emmap_queue:open(Empty),
    ok = emmap_queue:close(Q),
    N = fill(Large, Size),
    Cases = [{empty, Empty, 0, 5}, {closed, Large, N, 5}, {killed, Large, N, 1}, {reboot, Large, N, 1},
             {reboot_cold, Large, N, 1}, {read_cold, Large, N, 1}],
    Taken = [{How, sample(How, Name, Count, Round, Rounds)}
             || Round <- lists:seq(1, Rounds), {How, Name, Count, Times} <- Cases,
                _ <- lists:seq(1, Times)],
    ok = file:delete(Large),
    Times = maps:groups_from_list(fun({How, _}) -> How end, fun({_, Us}) -> Us end, Taken),
    Median = fun(How) -> emmap_bench:median([Open || {Open, _} <- maps:get(How, Times)]) end,
    emmap_bench:table(
        io_lib:format("Open of a queue of ~ts (~b messages of ~ts): us, and of the first push after it; "
                      "median (least to most)", [emmap_bench:bytes(Size), N, emmap_bench:bytes(?MESSAGE_BYTES)]),
        ["", "open", "", "of the empty one", "push"],
        [[title(How), integer_to_list(round(Median(How))),
          io_lib:format("(~b to ~b)", [lists:min(Opens), lists:max(Opens)]),
          io_lib:format("~.1f x", [Median(How) / Median(empty)]),
          case How of
              read_cold -> "-";
              _ -> integer_to_list(round(emmap_bench:median([Push || {_, Push} <- maps:get(How, Times)])))
          end]
         || {How, _, _, _} <- Cases, Opens <- [[Open || {Open, _} <- maps:get(How, Times)]]]),
    [{["open of ", emmap_bench:bytes(Size), ", closed well: 10 x the empty one"], 1000 * Median(closed),
      at_most, 10 * 1000 * Median(empty), ns}].

title(empty) -> "an empty one, closed well";
title(closed) -> "closed well";
title(killed) -> "its VM killed at work";
title(reboot) -> "after a reboot, the file in memory";
title(reboot_cold) -> "after a reboot, the file on the disk alone";
title(read_cold) -> "(beside that: file:pread of all of the file)".

fill(Name, Size) ->
    {ok, Q} = emmap_queue:open(Name, #{size => Size}),
    Batch = lists:duplicate(64, binary:copy(<<"o">>, ?MESSAGE_BYTES)),
    N = Size div (64 * ?MESSAGE_BYTES) * 64,
    emmap_bench:progress("open: filling a queue with ~ts~n", [emmap_bench:bytes(Size)]),
    [ok = emmap_queue:push_many(Q, Batch) || _ <- lists:seq(1, N div 64)],
    ok = emmap_queue:close(Q),
    N.

%% Microseconds of the open, and of the first push. The queue is as it was before, closed well.
sample(How, Name, N, Round, Rounds) ->
    ok = prepare(How, Name),
    Result = case How of
                 read_cold -> {element(1, timer:tc(fun() -> read(Name) end)), 0};
                 _ -> opened(Name, N)
             end,
    emmap_bench:progress("open ~b/~b  ~-45ts ~b us~n", [Round, Rounds, title(How), element(1, Result)]),
    Result.

opened(Name, N) ->
    {OpenUs, {ok, Q}} = timer:tc(fun() -> emmap_queue:open(Name) end),
    N = emmap_queue:length(Q),
    {PushUs, ok} = timer:tc(fun() -> emmap_queue:push(Q, binary:copy(<<"o">>, ?MESSAGE_BYTES)) end),
    {ok, _} = emmap_queue:take(Q),
    ok = emmap_queue:close(Q),
    {OpenUs, PushUs}.

prepare(How, _) when How =:= empty; How =:= closed ->
    ok;
prepare(killed, Name) ->
    {ok, Peer} = emmap_bench:start_peer([], []),
    Pid = peer:call(Peer, ?MODULE, work, [Name]),
    receive after 20 -> ok end,
    _ = os:cmd("kill -KILL " ++ Pid),
    gone(Pid);
prepare(read_cold, Name) ->
    cold(Name);
prepare(How, Name) ->
    {ok, Fd} = file:open(Name, [raw, binary, read, write]),
    ok = file:pwrite(Fd, ?IDENTITY_OFF, <<0:?IDENTITY_BYTES/unit:8>>),
    ok = file:close(Fd),
    case How of
        reboot -> ok;
        reboot_cold -> cold(Name)
    end.

%% The queue is never the longer for it: a killed push may have come to its end, a killed take too.
-spec work(string()) -> string().
work(Name) ->
    Self = self(),
    spawn(fun() ->
                  {ok, Q} = emmap_queue:open(Name),
                  Self ! opened,
                  look_on(Q)
          end),
    receive opened -> os:getpid() end.

%% Looks at it and claims, which changes the file but not how many there are.
look_on(Q) ->
    _ = catch emmap_queue:try_pop(Q, fun(_) -> error(later) end),
    look_on(Q).

gone(Pid) ->
    case os:cmd("kill -0 " ++ Pid ++ " 2>&1") of
        "" -> receive after 5 -> gone(Pid) end;
        _ -> ok
    end.

cold(Name) ->
    {ok, Fd} = file:open(Name, [raw, read, write]),
    ok = file:datasync(Fd),
    ok = file:advise(Fd, 0, 0, dont_need),
    file:close(Fd).

read(Name) ->
    {ok, Fd} = file:open(Name, [raw, binary, read]),
    ok = read_on(Fd, 0),
    file:close(Fd).

read_on(Fd, Off) ->
    case file:pread(Fd, Off, 1 bsl 20) of
        {ok, Data} -> read_on(Fd, Off + byte_size(Data));
        eof -> ok
    end.

%%----------------------------------------------------------------------------------------- memory

-spec memory(emmap_bench:options(), string()) -> [emmap_bench:target()].
memory(#{quick := Quick}, Folder) ->
    {N, Each, Rows} = emmap_bench_memory:each(filename:join(Folder, "handles"),
                                              case Quick of true -> 100; false -> 500 end,
                                              fun ?MODULE:open_one/1, fun emmap_queue:close/1),
    emmap_bench:table(io_lib:format("Memory of an open queue: growth by ~b handles, each of a file of its own, one "
                                    "message pushed and taken", [N]),
                      ["", "bytes a handle"], Rows),
    [{"memory of a handle beside its mapping", max(maps:get(rss, Each), maps:get(malloc, Each)),
      at_most, 65536, bytes}].

-spec open_one(string()) -> emmap_queue:queue().
open_one(Name) ->
    {ok, Q} = emmap_queue:open(Name),
    ok = emmap_queue:push(Q, hello),
    {ok, hello} = emmap_queue:take(Q),
    Q.
