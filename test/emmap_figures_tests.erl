%% What emmap tells of itself: i/0, stats/0, and what is published of it.
-module(emmap_figures_tests).

-include_lib("eunit/include/eunit.hrl").

-import(emmap_test_lib, [with_dir/1, new_file/3, pattern/1, in_vm/1, start_vm/0, start_vm/1, call/2, stop_vm/1,
                         kill_vm/1, wait_until/1]).

-export([i_prints_a_table_of_the_open_handles/0, stats_count_faults/0, stats_count_messages_and_syncs/0,
         published_figures_outlive_vms/0, a_file_is_published_into_by_one_vm/0,
         the_application_publishes_as_configured/0, what_cannot_be_published_keeps_no_node_from_starting/0,
         ends_of_the_vm_publish_a_last_time/0, the_file_of_the_application_is_looked_after/0,
         a_file_that_another_vm_has_is_waited_for/0, the_log_says_what_could_not_be_published_at_the_end/0,
         what_is_no_file_name_is_told_and_undefined_is_none/0]).

i_prints_a_table_of_the_open_handles_test_() ->
    {timeout, 120, fun ?MODULE:i_prints_a_table_of_the_open_handles/0}.

i_prints_a_table_of_the_open_handles() ->
    with_dir(fun(Dir) ->
        in_vm(fun() ->
            ?assertMatch([_Header, _Line], printed()),
            Names = ["one", "two", [16#20ac, 16#e4]],
            [One | _] = Files = [new_file(Dir, Name, pattern(5000)) || Name <- Names],
            Options = [[write, shared], [read], [write, private]],
            Mems = [opened(File, Opts) || {File, Opts} <- lists:zip(Files, Options)],
            Anon = opened("", [anon, write, {size, 70000}]),
            Rows = [string:lexemes(Row, " ") || Row <- tl(tl(printed()))],
            ?assertEqual(lists:sort([["5000", "shared", "read_write", "0", One],
                                     ["5000", "private", "read", "0", lists:nth(2, Files)],
                                     ["5000", "private", "read_write", "0", lists:nth(3, Files)],
                                     ["70000", "private", "read_write", "0", "(memory)"]]),
                         lists:sort(Rows)),
            [ok = emmap:close(Mem) || Mem <- [Anon | Mems]],
            ?assertMatch([_, _], printed())
        end)
    end).

opened(File, Options) ->
    {ok, Mem, _} = emmap:open(File, Options),
    Mem.

%% The lines that i/0 prints.
printed() ->
    Self = self(),
    Device = spawn_link(fun() -> take(Self, []) end),
    Leader = group_leader(),
    true = group_leader(Device, self()),
    ok = emmap:i(),
    true = group_leader(Leader, self()),
    Device ! stop,
    receive {Device, Text} -> string:lexemes(Text, "\n") end.

take(Owner, Text) ->
    receive
        {io_request, From, Ref, {put_chars, unicode, Module, Function, Args}} ->
            From ! {io_reply, Ref, ok},
            take(Owner, [Text, apply(Module, Function, Args)]);
        {io_request, From, Ref, {put_chars, unicode, Chars}} ->
            From ! {io_reply, Ref, ok},
            take(Owner, [Text, Chars]);
        stop ->
            Owner ! {self(), unicode:characters_to_list(Text)}
    end.

%% Also by processes that open and close meanwhile.
i_may_be_called_at_any_time_test() ->
    with_dir(fun(Dir) ->
        File = new_file(Dir, "file", pattern(100)),
        Busy = [fun() -> [ok = emmap:close(opened(File, [write])) || _ <- lists:seq(1, 300)] end
                || _ <- lists:seq(1, 4)],
        Printing = fun() -> [?assert(length(printed()) >= 2) || _ <- lists:seq(1, 100)] end,
        _ = emmap_test_lib:together([Printing | Busy])
    end).

stats_count_faults_test_() ->
    {timeout, 120, fun ?MODULE:stats_count_faults/0}.

stats_count_faults() ->
    with_dir(fun(Dir) ->
        in_vm(fun() ->
            File = new_file(Dir, "file", pattern(100000)),
            Mem = opened(File, [write, shared]),
            #{faults := 0, handles := 1} = emmap:stats(),
            emmap_test_lib:truncate(File, 10),
            {error, truncated} = emmap:pread(Mem, 90000, 10),
            #{faults := Faults} = emmap:stats(),
            ?assert(Faults > 0),
            ?assertMatch(#{faults := Own} when Own > 0, emmap:info(Mem)),
            ok = emmap:close(Mem),
            ?assertMatch(#{faults := Faults, handles := 0}, emmap:stats())
        end)
    end).

every_figure_is_a_number_test() ->
    [?assert(is_atom(Key) andalso is_integer(Value) andalso Value >= 0)
     || {Key, Value} <- maps:to_list(emmap:stats())].

every_figure_has_its_key_test() ->
    ?assertEqual([allocated, dirty_bytes, dirty_calls, faults, handles, holds, longest_sync_ns, mapped_bytes,
                  normal_bytes, normal_calls, published_seconds, push_bytes, pushes, regions, sync_failures, sync_ns, syncs,
                  syncs_100ms, syncs_10ms, syncs_1ms, take_bytes, takes],
                 lists:sort(maps:keys(emmap:stats()))).

stats_count_messages_and_syncs_test_() ->
    {timeout, 120, fun ?MODULE:stats_count_messages_and_syncs/0}.

stats_count_messages_and_syncs() ->
    with_dir(fun(Dir) ->
        in_vm(fun() ->
            {ok, Q} = emmap_queue:open(filename:join(Dir, "queue"), #{}),
            Terms = [{message, N} || N <- lists:seq(1, 10)],
            [ok = emmap_queue:push(Q, Term) || Term <- Terms],
            ok = emmap_queue:push_many(Q, lists:duplicate(5, <<0:800000>>)),
            ok = emmap_queue:push_many(Q, [a, b, c]), % all at once
            ok = emmap_queue:sync(Q),
            Taken = take_all(Q, []),
            ?assertEqual(18, length(Taken)),
            Stats = emmap:stats(),
            ?assertMatch(#{pushes := 18, takes := 18, push_bytes := Bytes, take_bytes := Bytes} when Bytes > 500000,
                         Stats),
            #{syncs := Syncs, sync_failures := 0, syncs_1ms := In1, syncs_10ms := In10, syncs_100ms := In100,
              sync_ns := Ns, longest_sync_ns := Longest} = Stats,
            ?assert(Syncs > 0),
            ?assertEqual(lists:sort([In1, In10, In100, Syncs]), [In1, In10, In100, Syncs]),
            ?assert(Longest > 0 andalso Longest =< Ns),
            {ok, C} = emmap_counters:open(filename:join(Dir, "counters"), 1),
            _ = emmap_counters:allocate(C, 1, 7),
            ?assertMatch(#{allocated := 7}, emmap:stats())
        end)
    end).

take_all(Q, Taken) ->
    case emmap_queue:take(Q) of
        {ok, Term} -> take_all(Q, [Term | Taken]);
        empty -> Taken
    end.

%%------------------------------------------------------------------------------------ publishing

%% The figures in a file, as another OS process reads them.
in_file(File) ->
    {ok, C} = emmap_counters:open(File, [], [read]),
    Map = emmap_counters:to_map(C),
    ok = emmap_counters:close(C),
    Map.

pushes(File) ->
    maps:get(<<"emmap_pushes">>, in_file(File)).

push(Dir, N) ->
    {ok, Q} = emmap_queue:open(filename:join(Dir, "queue"), #{}),
    [ok = emmap_queue:push(Q, I) || I <- lists:seq(1, N)],
    emmap_queue:close(Q).

%% A file has what stats/0 has, goes on after a kill, and is told by the background.
published_figures_outlive_vms_test_() ->
    {timeout, 120, fun ?MODULE:published_figures_outlive_vms/0}.

published_figures_outlive_vms() ->
    with_dir(fun(Dir) ->
        File = filename:join(Dir, "figures"),
        Vm = start_vm(),
        Keys = call(Vm, fun() ->
            ok = emmap:publish_stats(File),
            _ = push(Dir, 10),
            ok = emmap:publish_stats(File),
            maps:keys(emmap:stats())
        end),
        ?assertEqual(lists:sort([<<"emmap_", (atom_to_binary(Key))/binary>> || Key <- Keys]), lists:sort(maps:keys(in_file(File)))),
        ?assertEqual(10, pushes(File)),
        call(Vm, fun() -> push(Dir, 5) end),
        wait_until(fun() -> pushes(File) =:= 15 end),
        ok = kill_vm(Vm),
        Next = start_vm(),
        call(Next, fun() -> ok = emmap:publish_stats(File), push(Dir, 1), ok = emmap:unpublish_stats() end),
        ?assertEqual(16, pushes(File)),
        call(Next, fun() -> push(Dir, 1), ok = emmap:unpublish_stats() end),
        ?assertEqual(16, pushes(File)),
        stop_vm(Next)
    end).

a_file_is_published_into_by_one_vm_test_() ->
    {timeout, 120, fun ?MODULE:a_file_is_published_into_by_one_vm/0}.

a_file_is_published_into_by_one_vm() ->
    with_dir(fun(Dir) ->
        File = filename:join(Dir, "figures"),
        Vm = start_vm(),
        call(Vm, fun() -> ok = emmap:publish_stats(File) end),
        in_vm(fun() ->
            ?assertEqual({error, locked}, emmap:publish_stats(File)),
            ?assertEqual(ok, emmap:publish_stats(File ++ ".own")),
            ?assertEqual({error, locked}, emmap:publish_stats(File))
        end),
        call(Vm, fun() ->
            ?assertEqual({error, foreign}, emmap:publish_stats(new_file(Dir, "foreign", pattern(5000)))),
            ?assertEqual({error, enoent}, emmap:publish_stats(filename:join(Dir, "no/folder"))),
            ?assertEqual(ok, emmap:publish_stats(File)),
            emmap_test_lib:truncate(File, 0),
            _ = push(Dir, 1),
            ?assertEqual({error, truncated}, emmap:publish_stats(File)),
            _ = push(Dir, 1),
            ?assertEqual({error, truncated}, emmap:unpublish_stats()),
            ?assertMatch(#{pushes := 2}, emmap:stats())
        end),
        stop_vm(Vm)
    end).

a_name_is_checked_test() ->
    emmap_test_lib:badarg(1, "not a file name", fun() -> emmap:publish_stats(17) end),
    emmap_test_lib:badarg(1, "a file name cannot contain a NUL character",
                          fun() -> emmap:publish_stats("a\0b") end),
    ?assertEqual(ok, emmap:unpublish_stats()).

%% {emmap, [{stats_file, File}]} as in sys.config.
the_application_publishes_as_configured_test_() ->
    {timeout, 120, fun ?MODULE:the_application_publishes_as_configured/0}.

the_application_publishes_as_configured() ->
    with_dir(fun(Dir) ->
        File = filename:join(Dir, "figures"),
        Config = filename:join(Dir, "sys.config"),
        ok = file:write_file(Config, io_lib:format("[{emmap, [{stats_file, ~p}]}].~n", [File])),
        Vm = start_vm(#{args => ["-config", Config]}),
        call(Vm, fun() ->
            ok = application:start(emmap),
            push(Dir, 3),
            ok = application:stop(emmap),
            push(Dir, 1)
        end),
        stop_vm(Vm),
        ?assertEqual(3, pushes(File))
    end).

what_cannot_be_published_keeps_no_node_from_starting_test_() ->
    {timeout, 120, fun ?MODULE:what_cannot_be_published_keeps_no_node_from_starting/0}.

what_cannot_be_published_keeps_no_node_from_starting() ->
    in_vm(fun() ->
        ok = logger:set_primary_config(level, none),
        ok = application:start(emmap),
        ok = application:stop(emmap),
        ok = application:set_env(emmap, stats_file, "/no/such/folder/figures"),
        ok = application:start(emmap),
        ok = application:stop(emmap)
    end).

%% With `stats_file' set: what the fun has logged.
with_application(File, Fun) ->
    _ = logger:remove_handler(default),
    ok = application:set_env(emmap, stats_file, File),
    {_, Logged} = emmap_queue_test_lib:logged(fun() ->
        ok = application:start(emmap),
        look(),
        Fun(),
        ok = application:stop(emmap)
    end),
    Logged.

%% The application's process looks at once, and has done so; before, what it had begun.
look() ->
    _ = sys:get_state(emmap_stats_file),
    emmap_stats_file ! timeout,
    _ = sys:get_state(emmap_stats_file).

the_file_of_the_application_is_looked_after_test_() ->
    {timeout, 120, fun ?MODULE:the_file_of_the_application_is_looked_after/0}.

the_file_of_the_application_is_looked_after() ->
    with_dir(fun(Dir) ->
        in_vm(fun() ->
            File = filename:join(Dir, "figures"),
            Logged = with_application(File, fun() ->
                ok = file:delete(File),
                wait_until(fun() -> filelib:is_file(File) end), % by itself
                look(),
                _ = push(Dir, 4),
                look(),
                ?assertEqual(4, pushes(File)),
                ok = file:rename(File, File ++ ".old"),
                look(),
                _ = push(Dir, 1),
                look(),
                ?assertEqual({4, 1}, {pushes(File ++ ".old"), pushes(File)}),
                emmap_test_lib:truncate(File, 0),
                _ = push(Dir, 7),
                [look() || _ <- [1, 2, 3]],
                ok = file:delete(File),
                look(),
                ?assertEqual(7, pushes(File)),
                _ = push(Dir, 1),
                ok = file:delete(File)
            end),
            ?assert(filelib:is_file(File)), % by the last look
            ?assertMatch([{warning, _}, {notice, _}], Logged),
            [{_, Warning}, {_, Notice}] = Logged,
            ?assertEqual("emmap: stats_file \"" ++ File ++ "\": " ++ emmap:format_error(truncated), Warning),
            ?assertEqual("emmap: stats_file \"" ++ File ++ "\": the figures are published now", Notice)
        end)
    end).

a_file_that_another_vm_has_is_waited_for_test_() ->
    {timeout, 120, fun ?MODULE:a_file_that_another_vm_has_is_waited_for/0}.

a_file_that_another_vm_has_is_waited_for() ->
    with_dir(fun(Dir) ->
        File = filename:join(Dir, "figures"),
        Vm = start_vm(),
        call(Vm, fun() -> ok = emmap:publish_stats(File) end),
        Parent = self(),
        Next = spawn_link(fun() ->
            Next = start_vm(),
            Logged = call(Next, fun() ->
                with_application(File, fun() ->
                    [look() || _ <- [1, 2, 3]],
                    ok = file:write_file(File ++ ".looked", ""),
                    wait_until(fun() -> look(), maps:get(published_seconds, emmap:stats()) > 0 end),
                    push(Dir, 3)
                end)
            end),
            stop_vm(Next),
            Parent ! {self(), Logged}
        end),
        wait_until(fun() -> filelib:is_file(File ++ ".looked") end),
        stop_vm(Vm),
        receive {Next, Logged} -> ?assertMatch([{warning, _}, {notice, _}], Logged) end,
        ?assertEqual(3, pushes(File))
    end).

the_log_says_what_could_not_be_published_at_the_end_test_() ->
    {timeout, 120, fun ?MODULE:the_log_says_what_could_not_be_published_at_the_end/0}.

the_log_says_what_could_not_be_published_at_the_end() ->
    with_dir(fun(Dir) ->
        in_vm(fun() ->
            File = filename:join(Dir, "figures"),
            Logged = with_application(File, fun() -> emmap_test_lib:truncate(File, 0), push(Dir, 1) end),
            ?assertMatch([{warning, _}], Logged)
        end)
    end).

what_is_no_file_name_is_told_and_undefined_is_none_test_() ->
    {timeout, 120, fun ?MODULE:what_is_no_file_name_is_told_and_undefined_is_none/0}.

what_is_no_file_name_is_told_and_undefined_is_none() ->
    in_vm(fun() ->
        [?assertMatch([{warning, _}], with_application(Odd, fun() -> look() end))
         || Odd <- [17, {figures}, "a\0b", #{}, ""]],
        ok = application:set_env(emmap, stats_file, undefined),
        ok = application:start(emmap),
        ?assertEqual(undefined, whereis(emmap_stats_file)),
        ok = application:stop(emmap),
        ?assertMatch(#{published_seconds := 0}, emmap:stats())
    end).

%% Also where no application is stopped.
ends_of_the_vm_publish_a_last_time_test_() ->
    {timeout, 120, fun ?MODULE:ends_of_the_vm_publish_a_last_time/0}.

ends_of_the_vm_publish_a_last_time() ->
    with_dir(fun(Dir) ->
        File = filename:join(Dir, "figures"),
        [begin
             Vm = start_vm(),
             Ref = monitor(process, Vm),
             unlink(Vm),
             ok = call(Vm, fun() -> ok = emmap:publish_stats(File), push(Dir, 2) end),
             _ = catch call(Vm, End), % it may end before it answers
             receive {'DOWN', Ref, process, Vm, _} -> ok end,
             ?assertEqual(2 * N, pushes(File))
         end || {N, End} <- [{1, fun erlang:halt/0}, {2, fun init:stop/0}]]
    end).
