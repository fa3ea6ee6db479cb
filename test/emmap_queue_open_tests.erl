%% Queues are opened and closed: the options, what is refused and how, the words of mistakes.
-module(emmap_queue_open_tests).

-include_lib("eunit/include/eunit.hrl").
-include_lib("kernel/include/file.hrl").

-import(emmap_test_lib, [with_dir/1, new_file/3, write_at/3, pattern/1, snapshot/1,
                         badarg/3, in_vm/1, stop_vm/1, call/2, ignore/1]).
-import(emmap_queue_test_lib, [with_file/1, with_queue/2, works/1, logged/1]).

open_makes_the_file_and_its_folder_test() ->
    with_dir(fun(Dir) ->
        [begin
             {ok, Q} = emmap_queue:open(Name),
             ok = emmap_queue:push(Q, Name),
             ok = emmap_queue:close(Q),
             ?assertMatch({ok, #file_info{type = regular, mode = Mode}} when Mode band 8#777 =:= 8#600,
                          file:read_file_info(Name))
         end || Name <- [filename:join(Dir, "string"), list_to_binary(filename:join(Dir, "binary")),
                         list_to_atom(filename:join(Dir, "atom")), filename:join(Dir, [16#20ac, 16#e4]),
                         filename:join([Dir, "a", "b", "c"])]]
    end).

what_was_pushed_is_there_after_close_and_open_test() ->
    with_file(fun(File) ->
        {ok, Q} = emmap_queue:open(File, 100000, [create, read, write]), % as 2.1.3's README has it
        [ok = emmap_queue:push(Q, N) || N <- lists:seq(1, 100)],
        ok = emmap_queue:close(Q),
        {ok, Again} = emmap_queue:open(File),
        ?assertMatch(#{recovered := false, lost := 0, length := 100}, emmap_queue:info(Again)),
        ?assertEqual(lists:seq(1, 100), emmap_queue:take_many(Again, 1000)),
        ok = emmap_queue:close(Again)
    end).

the_size_counts_for_a_new_file_only_test() ->
    with_file(fun(File) ->
        [begin
             {ok, Q} = emmap_queue:open(File, Size, []),
             ok = emmap_queue:push(Q, binary:copy(<<"x">>, 300000)), % and it has grown meanwhile
             ok = emmap_queue:close(Q)
         end || Size <- [0, 1, 4096, 1 bsl 30, 0]],
        {ok, Q} = emmap_queue:open(File, #{size => 0}),
        ?assertEqual(5, emmap_queue:length(Q)),
        ok = emmap_queue:close(Q)
    end).

a_size_is_a_wish_from_which_that_of_the_segments_follows_test() ->
    [with_queue(Args, fun(Q) ->
         ?assertMatch(#{segment_size := Segment}, emmap_queue:info(Q))
     end) || {Args, Segment} <- [{[0, []], 256 bsl 10}, {[1, []], 64 bsl 10}, {[#{}], 256 bsl 10},
                                 {[#{size => 64 bsl 20}], 16 bsl 20}, {[1 bsl 40, []], 16 bsl 20}]].

without_create_a_missing_file_is_enoent_test() ->
    with_dir(fun(Dir) ->
        ?assertEqual({error, enoent},
                     emmap_queue:open(filename:join([Dir, "a", "q"]), #{create => false})),
        ?assertEqual({ok, []}, file:list_dir(Dir))
    end).

options_of_2_1_3_are_accepted_test() ->
    [with_queue([10000, Options], fun(Q) -> works(Q) end)
     || Options <- [[], [create, read, write], [shared], [{max_inc_size, 1 bsl 20}], [{chmod, 8#600}],
                    [lock], [nolock], [populate], [nonblock], [noreserve], [nocache], [debug], [fit],
                    [direct], [{create, true}, {shared, true}], #{shared => true}]].

a_list_of_options_does_as_a_map_test() ->
    [with_queue([Options], fun(Q) ->
         ?assertMatch(#{max_size := 10000, max_message := 100}, emmap_queue:info(Q)),
         works(Q)
     end) || Options <- [[{max_size, 10000}, {max_message, 100}],
                         [{max_size, 10000}, {max_message, 100}, {max_size, 777}],
                         #{max_size => 10000, max_message => 100}]].

mode_is_that_of_a_file_that_is_made_test() ->
    with_dir(fun(Dir) ->
        Made = fun(Name, Options) ->
            File = filename:join(Dir, Name),
            {ok, Q} = emmap_queue:open(File, Options),
            ok = emmap_queue:close(Q),
            {ok, #file_info{mode = Mode}} = file:read_file_info(File),
            Mode band 8#777
        end,
        ?assertEqual(8#640, Made("one", #{mode => 8#640})),
        ?assertEqual(8#640, Made("one", #{mode => 8#600})),
        ?assertEqual(8#640, Made("two", [{chmod, 8#640}]))
    end).

private_changes_stay_with_their_handle_test() ->
    with_file(fun(File) ->
        {ok, Q} = emmap_queue:open(File),
        ok = emmap_queue:push(Q, 1),
        ok = emmap_queue:close(Q),
        Before = snapshot(File),
        {ok, Private} = emmap_queue:open(File, 0, [private]),
        ?assertEqual(1, emmap_queue:pop(Private)),
        [ok = emmap_queue:push(Private, binary:copy(<<N>>, 1000)) || N <- lists:seq(1, 200)],
        {ok, Other} = emmap_queue:open(File, #{private => true}),
        ?assertEqual(1, emmap_queue:length(Other)),
        ?assertEqual(200, emmap_queue:length(Private)),
        ok = emmap_queue:sync(Private),
        [ok = emmap_queue:close(P) || P <- [Private, Other]],
        ?assertEqual(Before, snapshot(File))
    end).

auto_unlink_deletes_the_file_at_close_test() ->
    with_file(fun(File) ->
        {ok, Q} = emmap_queue:open(File, 0, [auto_unlink]),
        works(Q),
        ?assert(filelib:is_file(File)),
        ok = emmap_queue:close(Q),
        ?assertNot(filelib:is_file(File))
    end).

wrong_arguments_of_open_are_named_test() ->
    with_dir(fun(Dir) ->
        File = filename:join(Dir, "new"),
        Wrong =
            [{1, "not a file name", [{a, name}]}, {1, "not a file name", [[$a | $b], #{}]},
             {1, "a file name cannot contain a NUL character", ["a\0b"]},
             {2, "not an integer", [File, a, []]}, {2, "not an integer", [File, -1, []]},
             {2, "not a proper list of options", [File, 17]},
             {2, "not a proper list of options", [File, [create | write]]},
             {3, "not a proper list of options", [File, 0, 17]},
             {3, "not a proper list of options", [File, 0, [create | write]]},
             {2, "unknown option {lenght,3}", [File, #{lenght => 3}]},
             {2, "unknown option {nonsense,true}", [File, [nonsense]]},
             {3, "unknown option {nonsense,3}", [File, 0, [create, {nonsense, 3}]]},
             {3, "unknown option \"create\"", [File, 0, ["create"]]}]
            ++ [{2, io_lib:format("the value is impossible in ~0p", [Option]), [File, [Option]]}
                || Option <- [{size, -1}, {size, huge}, {size, 1 bsl 64}, {max_size, 0},
                              {max_size, 1 bsl 64}, {max_message, 0}, {max_message, 1 bsl 64},
                              {max_message, infinity}, {compressed, 10}, {compressed, true},
                              {durability, later}, {durability, {interval, 0}},
                              {durability, {interval, 1 bsl 32}}, {mode, 0}, {mode, 8#10000},
                              {create, yes}, {multi_os, 1}, {safe, no}, {private, 0},
                              {fixed_size, 10000}, {auto_unlink, 1}, {force, x}]],
        [badarg(Arg, Words, fun() -> apply(emmap_queue, open, Args) end) || {Arg, Words, Args} <- Wrong],
        ?assertEqual({ok, []}, file:list_dir(Dir))
    end).

what_excludes_each_other_is_an_error_test() ->
    with_file(fun(File) ->
        ?assertEqual({error, einval}, emmap_queue:open(File, #{private => true, multi_os => true})),
        ?assertEqual({error, efbig}, emmap_queue:open(File, #{size => 1 bsl 62}))
    end).

a_file_of_another_kind_is_refused_and_left_as_it_was_test() ->
    with_dir(fun(Dir) ->
        {ok, Q} = emmap_queue:open(filename:join(Dir, "whole")),
        ok = emmap_queue:close(Q),
        {ok, <<Header:4096/binary, _/binary>> = Whole} = file:read_file(filename:join(Dir, "whole")),
        Counters = filename:join(Dir, "counters"),
        emmap:close_counters(emmap:open_counters(Counters, 3)),
        {ok, Counted} = file:read_file(Counters),
        <<Magic:8/binary, Version:32, _/binary>> = Whole,
        Files = [{foreign, <<>>}, {foreign, <<"hello">>}, {foreign, pattern(200000)},
                 {foreign, emmap_test_lib:zeros(200000)}, {foreign, Counted},
                 {old_format, old_queue([])}, {old_format, old_queue([one, {two, 2}])},
                 {old_format, old_queue([lists:seq(1, 1000)])},
                 {truncated, <<Magic/binary, Version:32, 0:32>>}, {truncated, Header},
                 {truncated, binary:part(Whole, 0, 131071)},
                 {corrupt, binary:replace(Whole, <<Magic/binary, Version:32>>, <<Magic/binary, 99:32>>)}],
        [begin
             File = new_file(Dir, "file", Bytes),
             Before = snapshot(File),
             ?assertEqual({Reason, {error, Reason}},
                          {Reason, emmap_queue:open(File, 1 bsl 20, [create, write, auto_unlink])}),
             ?assertEqual(Before, snapshot(File))
         end || {Reason, Bytes} <- Files],
        ?assertEqual({error, eisdir}, emmap_queue:open(Dir)),
        ?assertEqual({error, enotdir}, emmap_queue:open(filename:join(Counters, "q")))
    end).

%% A queue of version 2.1.3.
old_queue(Terms) ->
    Messages = << <<(old_message(term_to_binary(Term)))/binary>> || Term <- Terms >>,
    Tail = 16 + byte_size(Messages),
    Size = Tail + 1000,
    <<Size:32, 16:32, Tail:32, Tail:32, Messages/binary, 0:1000/unit:8>>.

old_message(Bytes) ->
    S0 = byte_size(Bytes) + 8,
    P = S0 rem 8,
    <<(S0 + P):32, Bytes/binary, 0:P/unit:8, (S0 + P):32>>.

a_file_that_may_not_be_written_test_() ->
    {timeout, 120, fun() ->
        case emmap_test_lib:is_root() of
            false -> ok;
            true -> with_dir(fun read_only_file/1), with_dir(fun read_only_file_system/1)
        end
    end}.

read_only_file(Dir) ->
    ok = file:change_mode(Dir, 8#755),
    File = filename:join(Dir, "q"),
    {ok, Q} = emmap_queue:open(File, #{mode => 8#644}),
    ok = emmap_queue:close(Q),
    Before = snapshot(File),
    Vm = emmap_test_lib:user_vm(Dir),
    try
        ?assertEqual({error, eacces}, call(Vm, fun() -> emmap_queue:open(File) end)),
        ?assertEqual({error, eacces}, call(Vm, fun() -> emmap_queue:open(filename:join(Dir, "new")) end)),
        ?assertEqual(Before, snapshot(File))
    after
        stop_vm(Vm)
    end.

read_only_file_system(Dir) ->
    ignore(emmap_test_lib:with_tmpfs(Dir, 4 bsl 20, fun(Root) ->
        File = filename:join(Root, "q"),
        {ok, Q} = emmap_queue:open(File),
        ok = emmap_queue:push(Q, kept),
        ok = emmap_queue:close(Q),
        {0, _} = emmap_test_lib:run("mount", ["-o", "remount,ro", Root]),
        ?assertEqual({error, erofs}, emmap_queue:open(File)),
        ?assertEqual({error, erofs}, emmap_queue:open(filename:join(Root, "new"))),
        {0, _} = emmap_test_lib:run("mount", ["-o", "remount,rw", Root]),
        {ok, Again} = emmap_queue:open(File),
        ?assertEqual(kept, emmap_queue:pop(Again)),
        ok = emmap_queue:close(Again)
    end)).

a_second_os_process_is_locked_out_and_the_log_names_the_first_test_() ->
    {timeout, 120, fun() ->
        with_file(fun(File) ->
            {ok, Q} = emmap_queue:open(File),
            {Result, Logged} = in_vm(fun() -> logged(fun() -> emmap_queue:open(File) end) end),
            ?assertEqual({error, locked}, Result),
            ?assertMatch([{warning, _}], Logged),
            [{warning, Text}] = Logged,
            ?assertMatch({_, [_ | _]}, {Text, string:find(Text, "OS process " ++ os:getpid())}),
            ?assertMatch({_, [_ | _]}, {Text, string:find(Text, File)}),
            %% With multi_os neither, if the first has it not; nor without, if the first has it.
            ?assertEqual({error, locked},
                         in_vm(fun() -> emmap_queue:open(File, #{multi_os => true}) end)),
            ok = emmap_queue:close(Q),
            {ok, Multi} = emmap_queue:open(File, #{multi_os => true}),
            ?assertEqual({error, locked}, in_vm(fun() -> emmap_queue:open(File) end)),
            ?assertEqual(ok, in_vm(fun() ->
                {ok, Other} = emmap_queue:open(File, #{multi_os => true}),
                emmap_queue:push(Other, from_the_other)
            end)),
            ?assertEqual({ok, from_the_other}, emmap_queue:take(Multi)),
            ok = emmap_queue:close(Multi)
        end)
    end}.

%% In one VM a second handle is of the same queue: what it was first opened for holds.
a_second_handle_cannot_let_other_os_processes_in_test() ->
    with_file(fun(File) ->
        {ok, Q} = emmap_queue:open(File),
        ?assertEqual({error, locked}, emmap_queue:open(File, #{multi_os => true})),
        ok = emmap_queue:close(Q),
        {ok, Multi} = emmap_queue:open(File, #{multi_os => true}),
        {ok, Second} = emmap_queue:open(File),
        ?assertMatch(#{multi_os := true}, emmap_queue:info(Second)),
        [ok = emmap_queue:close(H) || H <- [Multi, Second]]
    end).

%% The lock's word says that this VM has it: so nobody takes it from a dead one.
a_call_waits_as_long_as_its_handle_says_test() ->
    with_file(fun(File) ->
        {ok, Brief} = emmap_queue:open(File, #{multi_os => true, lock_timeout => 50}),
        {ok, Patient} = emmap_queue:open(File, #{multi_os => true, lock_timeout => 60000}),
        ok = emmap_queue:push(Brief, 1),
        {ok, Fd} = file:open(File, [read, write, raw, binary]),
        {ok, <<Incarnation:64/little>>} = file:pread(Fd, 16384, 8),
        ok = file:pwrite(Fd, 4096, <<((1 bsl 48) bor Incarnation):64/little>>),
        Self = self(),
        _ = spawn_link(fun() -> Self ! {taken, emmap_queue:take(Patient)} end),
        ?assertEqual({error, busy}, emmap_queue:take(Brief)),
        ?assertEqual({error, busy}, emmap_queue:push(Brief, 2)),
        ?assertEqual({error, busy}, emmap_queue:push_many(Brief, [2, 3])),
        ?assertError({emmap, busy}, emmap_queue:length(Brief)),
        ok = file:pwrite(Fd, 4096, <<0:64>>),
        ?assertEqual({ok, 1}, receive {taken, Result} -> Result end),
        ?assertEqual(empty, emmap_queue:take(Brief)),
        ok = file:close(Fd),
        ok = emmap_queue:close(Brief),
        ok = emmap_queue:close(Patient)
    end).

what_a_recovery_found_is_logged_test() ->
    with_dir(fun(Dir) ->
        File = filename:join(Dir, "q"),
        {ok, Q} = emmap_queue:open(File),
        [ok = emmap_queue:push(Q, {N, N}) || N <- lists:seq(1, 3)],
        ok = emmap_queue:sync(Q),
        ok = emmap_queue:close(Q),
        Copy = filename:join(Dir, "copy"),
        {ok, _} = file:copy(File, Copy),
        {{ok, Sound}, Logged} = logged(fun() -> emmap_queue:open(Copy) end),
        ?assertMatch([{notice, _}], Logged),
        ?assertMatch({_, [_ | _]}, {Logged, string:find(element(2, hd(Logged)), "3 messages, 0 lost")}),
        ?assertMatch(#{recovered := true, lost := 0, length := 3}, emmap_queue:info(Sound)),
        ok = emmap_queue:close(Sound),
        %% The second message is damaged.
        Damaged = filename:join(Dir, "damaged"),
        {ok, _} = file:copy(File, Damaged),
        {ok, Bytes} = file:read_file(File),
        {At, _} = binary:match(Bytes, term_to_binary({2, 2})),
        write_at(Damaged, At, <<0>>),
        {{ok, Mended}, [{warning, Text}]} = logged(fun() -> emmap_queue:open(Damaged) end),
        ?assertMatch({_, [_ | _]}, {Text, string:find(Text, "2 messages, 1 lost")}),
        ?assertMatch(#{recovered := true, lost := 1}, emmap_queue:info(Mended)),
        ?assertEqual([{1, 1}, {3, 3}], emmap_queue:take_many(Mended, 10)),
        ok = emmap_queue:close(Mended),
        %% One that was closed well is not worth a word.
        {{ok, Well}, []} = logged(fun() -> emmap_queue:open(File) end),
        ok = emmap_queue:close(Well)
    end).

closed_is_closed_test() ->
    with_file(fun(File) ->
        {ok, Q} = emmap_queue:open(File),
        ok = emmap_queue:push(Q, 1),
        ok = emmap_queue:close(Q),
        ?assertEqual(ok, emmap_queue:close(Q)),
        ?assertEqual(ok, emmap_queue:flush(Q)),
        F = fun(_) -> error(not_called) end,
        G = fun(_, _) -> error(not_called) end,
        Closed = {error, closed},
        [?assertEqual({Call, Closed}, {Call, apply(emmap_queue, Call, [Q | Args])})
         || {Call, Args} <- [{sync, []}, {push, [2]}, {push, [2, 0]}, {push, [2, 9]}, {push_many, [[2, 3]]},
                             {take, []}, {take_many, [3]}, {take_many, [#{count => 3, bytes => 100}]},
                             {erase, []}, {set, [#{max_size => 10000}]}]],
        [?assertError({emmap, closed}, apply(emmap_queue, Call, [Q | Args]))
         || {Call, Args} <- [{pop, []}, {pop_and_purge, []}, {try_pop, [F]}, {try_pop_and_purge, [F]},
                             {pop, [0, G]}, {peek, [0, G]}, {rpeek, [0, G]}, {peek_front, []},
                             {peek_back, []}, {length, []}, {bytes, []}, {is_empty, []}, {purge, []},
                             {info, []}, {metadata, []}]],
        %% Another handle of the same queue goes on.
        {ok, One} = emmap_queue:open(File),
        {ok, Two} = emmap_queue:open(File),
        ok = emmap_queue:close(One),
        ?assertEqual(Closed, emmap_queue:push(One, 2)),
        ?assertEqual(1, emmap_queue:pop(Two)),
        ok = emmap_queue:close(Two)
    end).

closed_with_durability_sync_and_compression_too_test() ->
    [with_queue([Options], fun(Q) ->
         ok = emmap_queue:push(Q, 1),
         ok = emmap_queue:close(Q),
         ?assertEqual({error, closed}, emmap_queue:push(Q, 2)),
         ?assertEqual({error, closed}, emmap_queue:push_many(Q, [2, 3]))
     end) || Options <- [#{durability => sync}, #{compressed => 6}, #{durability => {interval, 10}}]].

what_is_no_queue_is_named_test() ->
    F = fun(_) -> ok end,
    G = fun(_, Acc) -> {cont, Acc} end,
    [badarg(1, "not an open queue", fun() -> apply(emmap_queue, Call, [Bad | Args]) end)
     || Bad <- [make_ref(), {emmap_queue, x}, 17],
        {Call, Args} <- [{close, []}, {flush, []}, {sync, []}, {set, [#{}]}, {info, []}, {metadata, []},
                         {push, [1]}, {push, [1, 1]}, {push, [1, 0]}, {push_many, [[1]]}, {take, []},
                         {take_many, [1]}, {take_many, [#{}]}, {pop, []}, {pop_and_purge, []},
                         {pop, [0, G]}, {try_pop, [F]}, {try_pop_and_purge, [F]}, {peek_front, []},
                         {peek_back, []}, {peek, [0, G]}, {rpeek, [0, G]}, {is_empty, []}, {length, []},
                         {bytes, []}, {purge, []}, {erase, []}]].

wrong_arguments_are_named_test() ->
    with_queue([], fun(Q) ->
        [badarg(Arg, Words, fun() -> apply(emmap_queue, Call, [Q | Args]) end)
         || {Arg, Words, Call, Args} <-
                [{3, "not a level of compression", push, [x, 10]},
                 {3, "not a level of compression", push, [x, -1]},
                 {3, "not a level of compression", push, [x, y]},
                 {2, "not a proper list", push_many, [x]},
                 {2, "not a proper list", push_many, [[1, 2 | 3]]},
                 {2, "not a number of messages", take_many, [-1]},
                 {2, "not a number of messages", take_many, [x]},
                 {2, "the value is impossible in {count,x}", take_many, [#{count => x}]},
                 {2, "the value is impossible in {count,-1}", take_many, [#{count => -1}]},
                 {2, "the value is impossible in {bytes,0}", take_many, [#{bytes => 0}]},
                 {2, "the value is impossible in {bytes,x}", take_many, [#{count => 1, bytes => x}]},
                 {2, "unknown option {byte,10}", take_many, [#{byte => 10}]},
                 {2, "not a fun", try_pop, [fun() -> ok end]},
                 {2, "not a fun", try_pop, [x]},
                 {3, "not a fun", pop, [0, fun(_) -> ok end]},
                 {3, "not a fun", peek, [0, x]},
                 {3, "not a fun", rpeek, [0, fun(_, _, _) -> ok end]},
                 {2, "not a map", set, [17]},
                 {2, "not a map", set, [[{max_size, 100}]]},
                 {2, "unknown option {max_sise,100}", set, [#{max_sise => 100}]},
                 {2, "unknown option {size,100}", set, [#{max_size => 10000, size => 100}]},
                 {2, "the value is impossible in {max_size,0}", set, [#{max_size => 0}]},
                 {2, "the value is impossible in {max_size,", set, [#{max_size => 1 bsl 64}]}]],
        ?assertEqual(0, emmap_queue:length(Q))
    end).

errors_have_words_test() ->
    [?assert(length(lists:flatten(emmap:format_error({error, Reason}))) > 10)
     || Reason <- [closed, full, too_big, {sync_failed, eio}, corrupt, truncated, busy, unsafe_term,
                   locked, foreign, old_format, enospc, fixed_size]].
