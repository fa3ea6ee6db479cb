%% Writer and reader of the storm of power cuts (test/torture/power_storm.py).
%%
%%   erl ... -run emmap_power write FOLDER JOURNALS SEED   two queues, counters and a mapped file are in
%%       FOLDER, written to until this VM is killed; before and after each call a line says so in a journal
%%       (test/torture/power_ledger.py), which is on another file system
%%   erl ... -run emmap_power look   opens what a cut has left; a line a command on standard input:
%%       "recover FOLDER", then "drain FOLDER"; answers lines, and "done"
-module(emmap_power).
-export([write/1, look/0]).

-import(emmap_torture, [say/2, i/1, now_ns/0]).

-define(SEGMENTS_OF, 262144). % small ones: they change often
-define(COUNTERS, 16).
-define(PLACE, 8192).         % of the mapped file: what is written at once
-define(MOST_PLACES, 600).

%%------------------------------------------------------------------------------------ the writer

write([Folder, Journals, SeedArg]) ->
    Seed = list_to_integer(SeedArg),
    process_flag(trap_exit, true),
    {ok, Synced} = open(Folder, "sync", sync),
    {ok, Process} = open(Folder, "process", process),
    Jobs = [{Name, Job} || {Queue, Q, Pause} <- [{"sync", Synced, 200}, {"process", Process, 60}],
                           {Name, Job} <- [{Queue ++ "-p1", {producer, Q}}, {Queue ++ "-p2", {producer, Q}},
                                           {Queue ++ "-c1", {consumer, Q}}, {Queue ++ "-s", {syncer, Q, Pause}}]]
        ++ [{"counters", counters}, {"map", map}],
    Self = self(),
    spawn_link(fun() -> Self ! {stdin, io:get_line("")} end),
    Stop = atomics:new(1, []),
    Start = fun(N, Name, Job) ->
                spawn_link(fun() ->
                    _ = rand:seed(exsss, {Seed, N, 0}),
                    {ok, Fd} = file:open(filename:join(Journals, Name ++ ".journal"), [write, raw, binary]),
                    work(Job, Folder, #{fd => Fd, stop => Stop, id => N, drain => false})
                end)
            end,
    _ = [Start(N, Name, Job) || {N, {Name, Job}} <- lists:enumerate(Jobs)],
    ok = file:write_file(filename:join(Journals, "ready"), <<>>),
    receive
        {stdin, _} -> halt(0);
        {'EXIT', _, Reason} -> io:format("~p~n", [Reason]), halt(5)
    end.

open(Folder, Name, Durability) ->
    emmap_queue:open(filename:join(Folder, Name ++ ".queue"),
                     #{create => true, size => ?SEGMENTS_OF, durability => Durability}).

work({producer, Q}, _, State) -> emmap_torture:producer(State#{q => Q}, 1);
work({consumer, Q}, _, State) -> emmap_torture:consumer(State#{q => Q});
work({syncer, Q, Pause}, _, State) -> syncer(State, Q, Pause);
work(counters, Folder, State) -> counters(State, emmap:open_counters(counters_name(Folder), ?COUNTERS));
work(map, Folder, State) ->
    {ok, Mem, _} = emmap:open(map_name(Folder), 0, ?PLACE, [create, read, write, shared, extend]),
    map(State, Mem, 0).

counters_name(Folder) -> filename:join(Folder, "counters").
map_name(Folder) -> filename:join(Folder, "map").

syncer(State, Q, Pause) ->
    timer:sleep(rand:uniform(Pause)),
    say(State, ["s", now_ns()]),
    answer(State, emmap_queue:sync(Q)),
    syncer(State, Q, Pause).

answer(State, ok) -> say(State, ["=", now_ns()]);
answer(State, {error, Reason}) -> say(State, ["!", now_ns(), io_lib:format("~0p", [Reason])]).

%% Some rise, then a sync.
counters(State, {Mem, _} = Counters) ->
    Rise = fun(_) ->
               Index = rand:uniform(?COUNTERS) - 1,
               By = rand:uniform(1000),
               {ok, Now} = emmap:read_counter(Counters, Index),
               say(State, ["v", i(Index), i(Now + By), now_ns()]),
               {ok, Now} = emmap:inc_counter(Counters, Index, By)
           end,
    lists:foreach(Rise, lists:seq(1, rand:uniform(4))),
    answer(State, emmap:sync(Mem)),
    counters(State, Counters).

%% One place after the other is written over, all synced; every few of them the file becomes longer by one.
map(State, Mem, Seq) ->
    Place = Seq rem min(4 + Seq div 3, ?MOST_PLACES),
    Len = 1 + rand:uniform(?PLACE - 1),
    say(State, ["w", i(Place), i(Seq), i(Len), now_ns()]),
    ok = emmap:pwrite(Mem, Place * ?PLACE, emmap_torture:filling(Place, Seq, Len)),
    case rand:uniform(3) of
        1 -> ok;
        2 -> ok = emmap:sync(Mem, Place * ?PLACE, ?PLACE), say(State, ["r", now_ns()]);
        3 -> answer(State, emmap:sync(Mem))
    end,
    map(State, Mem, Seq + 1).

%%------------------------------------------------------------------------------------ the reader

look() ->
    case io:get_line("") of
        eof -> halt(0);
        Line ->
            [Command, Folder] = string:lexemes(Line, " \n"),
            try command(Command, Folder)
            catch _:Reason:Stack -> io:format("error ~0p ~0p~n", [Reason, Stack])
            end,
            io:format("done~n"),
            look()
    end.

command("recover", Folder) ->
    Open = fun(Name) ->
               case emmap_queue:open(filename:join(Folder, Name ++ ".queue"), #{create => false}) of
                   {ok, Q} ->
                       #{length := N, lost := Lost, recovered := Recovered} = emmap_queue:info(Q),
                       ok = emmap_queue:close(Q),
                       io:format("queue ~s ~b ~b ~s~n", [Name, N, Lost, Recovered]);
                   {error, Reason} ->
                       io:format("queue ~s ~0p~n", [Name, Reason])
               end
           end,
    lists:foreach(Open, ["sync", "process"]),
    look_counters(counters_name(Folder)),
    look_map(map_name(Folder));
%% All comes out, and what is pushed afterwards.
command("drain", Folder) ->
    Drain = fun(Name) ->
                case emmap_queue:open(filename:join(Folder, Name ++ ".queue"), #{create => false}) of
                    {ok, Q} ->
                        Terms = drain(Q),
                        [] = [Term || Term <- Terms, not emmap_torture:whole(Term)],
                        ok = emmap_queue:push(Q, after_all),
                        ok = emmap_queue:sync(Q),
                        {ok, after_all} = emmap_queue:take(Q),
                        ok = emmap_queue:close(Q),
                        io:format("drained ~s ~s~n", [Name, lists:join($\s, lists:map(fun emmap_torture:name/1, Terms))]);
                    {error, Reason} ->
                        io:format("queue ~s ~0p~n", [Name, Reason])
                end
            end,
    lists:foreach(Drain, ["sync", "process"]).

drain(Q) ->
    case emmap_queue:take_many(Q, 100) of
        [] -> [];
        Terms when is_list(Terms) -> Terms ++ drain(Q)
    end.

look_counters(Name) ->
    try emmap:open_counters(Name, 0) of
        {_, N} = Counters ->
            Values = [begin {ok, V} = emmap:read_counter(Counters, I), i(V) end || I <- lists:seq(0, N - 1)],
            ok = emmap:close_counters(Counters),
            io:format("counters ~s~n", [lists:join($\s, Values)])
    catch
        error:{emmap, Reason} -> io:format("counters_error ~0p~n", [Reason])
    end.

look_map(Name) ->
    case emmap:open(Name, [read, shared]) of
        {ok, Mem, #{size := Size}} ->
            {ok, Bytes} = emmap:pread(Mem, 0, Size),
            ok = emmap:close(Mem),
            io:format("map ~b ~b~n", [Size, erlang:crc32(Bytes)]);
        {error, Reason} ->
            io:format("map_error ~0p~n", [Reason])
    end.
