%% The process that has a queue.
-module(emmap_queue_server_tests).

-include_lib("eunit/include/eunit.hrl").

-import(emmap_test_lib, [with_dir/1, new_file/3, pattern/1, snapshot/1, badarg/3,
                         wait_until/1, in_vm/1]).
-import(emmap_queue_test_lib, [with_file/1, opened/1]).

-export([init/1]). % of a supervisor

a_server_has_the_queue_test() ->
    with_server(fun(Name, Pid) ->
        ?assertEqual(Pid, whereis(Name)),
        [begin
             ?assertEqual(nil, emmap_queue:dequeue(Server)),
             ?assertEqual(nil, emmap_queue:inspect(Server)),
             ?assertEqual(nil, emmap_queue:try_dequeue(Server, fun(_) -> error(not_called) end)),
             [?assertEqual(ok, emmap_queue:enqueue(Server, T)) || T <- [1, {two}, nil, 4]],
             ?assertEqual(1, emmap_queue:inspect(Server)),
             ?assertEqual(1, emmap_queue:dequeue(Server)),
             ?assertEqual({done, {two}, Pid}, emmap_queue:try_dequeue(Server, fun(T) -> {done, T, self()} end)),
             ?assertMatch(#{length := 2, head := _, tail := _, next_tail := _, size := _},
                          emmap_queue:info(Server)),
             ?assertEqual(nil, emmap_queue:dequeue(Server)),
             ?assertEqual(4, emmap_queue:dequeue(Server))
         end || Server <- [Name, Pid]]
    end).

what_the_fun_raises_in_the_server_is_raised_in_the_caller_test() ->
    with_server(fun(Name, Pid) ->
        ok = emmap_queue:enqueue(Name, 1),
        [?assertException(Class, {mine, 1},
                          emmap_queue:try_dequeue(Name, fun(N) -> erlang:raise(Class, {mine, N}, []) end))
         || Class <- [error, exit, throw]],
        ?assertError(deep, emmap_queue:try_dequeue(Name, fun deep/1)),
        badarg(2, "not a fun", fun() -> emmap_queue:try_dequeue(Name, x) end),
        ?assertEqual(1, emmap_queue:inspect(Name)),
        ?assertEqual(Pid, whereis(Name))
    end).

deep(_) -> error(deep).

stray_messages_and_unknown_calls_do_not_kill_it_test() ->
    with_server(fun(Name, Pid) ->
        ok = emmap_queue:enqueue(Name, 1),
        Other = spawn(fun() -> receive after infinity -> ok end end),
        Linked = spawn(fun() -> link(Pid), exit(linked_and_gone) end),
        [Pid ! Stray || Stray <- [stray, {make_ref(), late_reply}, {'EXIT', Other, reason},
                                  {'DOWN', make_ref(), process, Other, reason}, {emmap_queue, x, y},
                                  {'EXIT', Linked, normal}]],
        gen_server:cast(Pid, unknown),
        ?assertEqual({error, einval}, gen_server:call(Pid, unknown)),
        Foe = spawn(fun() -> exit(Pid, not_for_you) end),
        wait_until(fun() -> not is_process_alive(Foe) end),
        ?assertEqual(1, emmap_queue:dequeue(Name)),
        ?assertEqual(Pid, whereis(Name))
    end).

a_server_that_cannot_open_is_an_error_test() ->
    with_dir(fun(Dir) ->
        File = new_file(Dir, "file", pattern(1000)),
        Before = snapshot(File),
        Name = unique(),
        %% The caller does not trap exits, and lives.
        ?assertEqual({error, foreign}, emmap_queue:start_link(Name, File, 0, [])),
        %% Nor of a wrong option, if he does.
        process_flag(trap_exit, true),
        ?assertMatch({error, {badarg, _}}, emmap_queue:start_link(Name, File, 0, [nonsense])),
        receive {'EXIT', _, {badarg, _}} -> ok after 100 -> ok end, % before OTP 26
        process_flag(trap_exit, false),
        ?assertEqual(undefined, whereis(Name)),
        ?assertEqual(Before, snapshot(File)),
        {ok, Pid} = emmap_queue:start_link(Name, filename:join(Dir, "q"), 0, []),
        ?assertEqual({error, {already_started, Pid}},
                     emmap_queue:start_link(Name, filename:join(Dir, "q"), 0, [])),
        ok = gen_server:stop(Pid)
    end).

a_server_closes_the_queue_when_it_ends_test_() ->
    {timeout, 120, fun() ->
        with_file(fun(File) ->
            Ends = [fun gen_server:stop/1,
                    fun(Pid) -> unlink(Pid), exit(Pid, kill) end],
            [begin
                 {ok, Pid} = emmap_queue:start_link(unique(), File, 0, []),
                 ok = emmap_queue:enqueue(Pid, message),
                 Ref = monitor(process, Pid),
                 End(Pid),
                 receive {'DOWN', Ref, _, _, _} -> ok end,
                 %% Another OS process can have it: at once, or when a killed one's garbage is gone.
                 wait_until(fun() -> {message, ok} =:= in_vm(fun() ->
                     case emmap_queue:open(File) of
                         {ok, Q} -> {emmap_queue:pop(Q), emmap_queue:close(Q)};
                         {error, locked} -> locked
                     end
                 end) end)
             end || End <- Ends]
        end)
    end}.

%% The parent's end is the server's.
a_server_ends_with_its_parent_test() ->
    with_file(fun(File) ->
        Name = unique(),
        Self = self(),
        Parent = spawn(fun() ->
            {ok, Pid} = emmap_queue:start_link(Name, File, 0, []),
            ok = emmap_queue:enqueue(Pid, kept),
            Self ! {started, Pid},
            receive stop -> exit(shutdown) end
        end),
        Pid = receive {started, P} -> P end,
        Ref = monitor(process, Pid),
        Parent ! stop,
        receive {'DOWN', Ref, _, _, Reason} -> ?assertEqual(shutdown, Reason) end,
        ?assertEqual(kept, emmap_queue:pop(opened(File)))
    end).

init(Spec) ->
    {ok, {#{strategy => one_for_one, intensity => 100, period => 1}, [Spec]}}.

a_supervisor_restarts_it_after_a_crash_and_after_growth_test_() ->
    {timeout, 120, fun() ->
        with_file(fun(File) ->
            Name = unique(),
            Spec = emmap_queue:child_spec(#{name => Name, file => File, size => 4096,
                                            options => [create, write, shared]}),
            ?assertEqual(ok, supervisor:check_childspecs([Spec])),
            ok = supervisor:check_childspecs([emmap_queue:child_spec(#{name => Name, file => File})]),
            {ok, Sup} = supervisor:start_link(?MODULE, Spec),
            Large = pattern(300000),
            lists:foldl(fun(N, Pid) ->
                ok = emmap_queue:enqueue(Name, {N, Large}), % the file grows
                ?assertError(oops, emmap_queue:try_dequeue(Name, fun(_) -> error(oops) end)),
                exit(Pid, kill),
                wait_until(fun() -> is_pid(whereis(Name)) andalso whereis(Name) =/= Pid end),
                ?assertMatch({1, _}, emmap_queue:inspect(Name)),
                ?assertMatch(#{length := N}, emmap_queue:info(Name)),
                whereis(Name)
            end, whereis(Name), lists:seq(1, 20)),
            [?assertEqual({N, Large}, emmap_queue:dequeue(Name)) || N <- lists:seq(1, 20)],
            unlink(Sup),
            Ref = monitor(process, Sup),
            exit(Sup, shutdown),
            receive {'DOWN', Ref, _, _, _} -> ok end,
            ?assertEqual(undefined, whereis(Name)),
            ok = emmap_queue:close(opened(File))
        end)
    end}.

%%------------------------------------------------------------------------------------------- helpers

with_server(Fun) ->
    with_file(fun(File) ->
        Name = unique(),
        {ok, Pid} = emmap_queue:start_link(Name, File, 0, [create, write]),
        try
            Fun(Name, Pid)
        after
            ok = gen_server:stop(Pid)
        end
    end).

unique() ->
    list_to_atom("queue_" ++ integer_to_list(erlang:unique_integer([positive]))).
