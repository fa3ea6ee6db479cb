%% What is on the disk when: sync, durability sync with many who wait, intervals.
-module(emmap_queue_durability_tests).

-include_lib("eunit/include/eunit.hrl").

-import(emmap_test_lib, [pattern/1, wait_until/1, together/1]).
-import(emmap_queue_test_lib, [with_file/1, with_queue/2, file_of/1, opened/1]).

%% The checkpoint that is on the disk, as the format page has it.
durable(File) ->
    {ok, Fd} = file:open(File, [raw, binary, read]),
    {ok, <<Durable:64/little>>} = file:pread(Fd, 4096 + 352, 8),
    {ok, Checkpoint} = file:pread(Fd, 8192 + 4096 * (Durable rem 2), 56),
    ok = file:close(Fd),
    <<"ckpoint1", Serial:64/little, _Epoch:64, _Head:64, HeadN:64/little, _Tail:64, TailN:64/little>> = Checkpoint,
    case Serial of
        Durable -> #{serial => Durable, head_n => HeadN, tail_n => TailN};
        _ -> durable(File) % it has changed in between
    end.

sync_covers_what_was_pushed_and_taken_test() ->
    with_queue([], fun(Q) ->
        File = file_of(Q),
        #{tail_n := Before} = durable(File),
        ok = emmap_queue:push_many(Q, lists:seq(1, 100)),
        ?assertMatch(#{tail_n := Before}, durable(File)), % nobody has asked for it
        ?assertEqual(ok, emmap_queue:flush(Q)),
        _ = emmap_queue:take_many(Q, 30),
        ?assertEqual(ok, emmap_queue:sync(Q)),
        #{tail_n := Tail, head_n := Head} = durable(File),
        ?assertEqual({Before + 100, Before + 30}, {Tail, Head})
    end).

a_durable_push_answers_when_it_is_on_the_disk_test_() ->
    {timeout, 120, fun() ->
        with_queue([#{durability => sync}], fun(Q) ->
            File = file_of(Q),
            #{tail_n := Before} = durable(File),
            Push = fun(N) ->
                [begin
                     ?assertEqual(ok, emmap_queue:push(Q, {N, I})),
                     %% All that this process has pushed, and those before it.
                     #{tail_n := Tail} = durable(File),
                     ?assert(Tail >= Before + I)
                 end || I <- lists:seq(1, 20)],
                {messages, []} = process_info(self(), messages),
                ok
            end,
            _ = together([fun() -> Push(N) end || N <- lists:seq(1, 50)]),
            ?assertMatch(#{tail_n := Tail} when Tail =:= Before + 1000, durable(File)),
            Taken = emmap_queue:take_many(Q, 2000),
            [?assertEqual([{N, I} || I <- lists:seq(1, 20)], [T || {M, _} = T <- Taken, M =:= N])
             || N <- lists:seq(1, 50)],
            ok = emmap_queue:push(Q, compressed, 6),
            ok = emmap_queue:push_many(Q, [many, more, messages]),
            ?assertMatch(#{tail_n := Tail} when Tail =:= Before + 1004, durable(File))
        end)
    end}.

%% Whoever is killed while he waits for the disk, or was to sync for the others: they go on.
durable_pushers_that_are_killed_hold_nobody_up_test_() ->
    {timeout, 120, fun() ->
        with_queue([#{durability => sync}], fun(Q) ->
            Forever = fun Forever(N) -> ok = emmap_queue:push(Q, N), Forever(N + 1) end,
            Survivors = fun(N) ->
                [ok = emmap_queue:push(Q, {survivor, N, I}) || I <- lists:seq(1, 100)]
            end,
            Kill = fun() ->
                [begin
                     {Pid, Ref} = spawn_monitor(fun() -> Forever(1) end),
                     [erlang:yield() || _ <- lists:seq(1, rand:uniform(200))],
                     exit(Pid, kill),
                     receive {'DOWN', Ref, _, _, _} -> ok end
                 end || _ <- lists:seq(1, 300)]
            end,
            _ = together([Kill, Kill | [fun() -> Survivors(N) end || N <- lists:seq(1, 4)]]),
            Taken = [{N, I} || {survivor, N, I} <- emmap_queue:take_many(Q, 1 bsl 30)],
            [?assertEqual(lists:seq(1, 100), [I || {M, I} <- Taken, M =:= N]) || N <- lists:seq(1, 4)]
        end)
    end}.

%% The process that is to sync for all is killed before it comes to it: there is no place for it.
a_syncer_that_never_comes_holds_nobody_up_test_() ->
    {timeout, 120, fun() ->
        with_queue([#{durability => sync}], fun(Q) ->
            Threads = erlang:system_info(dirty_io_schedulers),
            Fifo = filename:join(filename:dirname(file_of(Q)), "fifo"),
            {0, _} = emmap_test_lib:run("mkfifo", [Fifo]),
            %% All dirty schedulers are at work: each opens a file that nobody writes yet.
            Busy = [spawn_monitor(fun() -> file:open(Fifo, [raw, read]) end) || _ <- lists:seq(1, Threads)],
            wait_until(fun() -> lists:all(fun({Pid, _}) ->
                process_info(Pid, status) =:= {status, running} end, Busy) end),
            {Pid, Ref} = spawn_monitor(fun() -> emmap_queue:push(Q, killed) end),
            wait_until(fun() -> emmap_queue:peek_front(Q) =:= killed end),
            exit(Pid, kill),
            {ok, Writer} = file_writer(Fifo),
            receive {'DOWN', Ref, _, _, killed} -> ok end,
            [receive {'DOWN', R, _, _, _} -> ok end || {_, R} <- Busy],
            ?assertEqual(ok, emmap_queue:push(Q, 1)),
            close_writer(Writer)
        end)
    end}.

%% Another program opens it for writing, since no thread of this VM may wait for that.
file_writer(Fifo) ->
    {ok, open_port({spawn_executable, "/bin/sh"}, [out, {args, ["-c", "exec cat > \"$0\"", Fifo]}])}.

close_writer(Port) ->
    true = port_close(Port).

an_interval_syncs_by_itself_test_() ->
    {timeout, 120, fun() ->
        with_queue([#{durability => {interval, 20}}], fun(Q) ->
            File = file_of(Q),
            [begin
                 #{tail_n := Before} = durable(File),
                 ok = emmap_queue:push_many(Q, lists:seq(1, 100)),
                 wait_until(fun() -> maps:get(tail_n, durable(File)) =:= Before + 100 end),
                 #{head_n := Head} = durable(File),
                 _ = emmap_queue:take_many(Q, 60),
                 wait_until(fun() -> maps:get(head_n, durable(File)) =:= Head + 60 end)
             end || _ <- lists:seq(1, 5)]
        end)
    end}.

%% A sync in the background has the file as long as it lasts: close waits for it.
a_queue_can_be_opened_as_soon_as_it_is_closed_test_() ->
    {timeout, 120, fun() ->
        with_file(fun(File) ->
            [begin
                 {ok, Q} = emmap_queue:open(File, #{durability => {interval, 1}}),
                 ok = emmap_queue:push(Q, {N, pattern(10000)}),
                 ok = emmap_queue:close(Q)
             end || N <- lists:seq(1, 500)],
            ?assertEqual(500, emmap_queue:length(opened(File)))
        end)
    end}.

%% So it does for a large message that another process is pushing or taking.
also_while_others_push_and_take_large_ones_test_() ->
    {timeout, 120, fun() ->
        with_file(fun(File) ->
            Large = binary:copy(<<"x">>, 5 bsl 20),
            [begin
                 Q = opened(File),
                 Use = fun Use() ->
                     case {emmap_queue:push(Q, Large), emmap_queue:take(Q)} of
                         {ok, {ok, Large}} -> Use();
                         {ok, empty} -> Use(); % another one took it
                         {_, {error, closed}} -> closed
                     end
                 end,
                 Close = fun() ->
                     wait_until(fun() -> not emmap_queue:is_empty(Q) end),
                     ok = emmap_queue:close(Q),
                     emmap_queue:close(opened(File))
                 end,
                 ?assertEqual([closed, closed, ok], together([Use, Use, Close]))
             end || _ <- lists:seq(1, 20)]
        end)
    end}.
