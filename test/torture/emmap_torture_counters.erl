%% A worker of the storm on counters: processes that add to one counter, take numbers from another, and tell
%% each answer in journals of their own, until they are killed (test/torture/counters_storm.py).
%%
%%   erl -noshell -pa ... -run emmap_torture_counters main FOLDER WORKER COUNTERS PROCESSES
-module(emmap_torture_counters).
-export([main/1]).

-define(MOST_NUMBERS, 7).

main([Folder, Worker | Numbers]) ->
    [Counters, Processes] = [list_to_integer(N) || N <- Numbers],
    process_flag(trap_exit, true),
    %% With each round the file gets one more, from whoever is the first.
    Others = [list_to_binary(io_lib:format("other ~b", [N])) || N <- lists:seq(3, Counters)],
    case emmap_counters:open(filename:join(Folder, "counters"), [ids, hits | Others]) of
        {ok, C} ->
            [spawn_link(fun() -> start(Folder, Worker, C, N) end) || N <- lists:seq(1, Processes)],
            receive {'EXIT', _, Reason} -> io:format("~p~n", [Reason]), halt(5) end;
        {error, Reason} ->
            io:format("open: ~p~n", [Reason]),
            halt(3)
    end.

start(Folder, Worker, C, N) ->
    Name = filename:join(Folder, Worker ++ "-" ++ integer_to_list(N) ++ ".journal"),
    {ok, Fd} = file:open(Name, [write, raw, binary]),
    go_on(C, Fd).

go_on(C, Fd) ->
    ok = emmap_counters:add(C, hits, 1),
    N = rand:uniform(?MOST_NUMBERS),
    First = emmap_counters:allocate(C, ids, N),
    ok = file:write(Fd, <<First:64/little, N:64/little>>),
    go_on(C, Fd).
