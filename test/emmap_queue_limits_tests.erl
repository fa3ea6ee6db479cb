%% What a queue may hold: max_message, max_size, fixed_size, the disk; and that its space is given back.
-module(emmap_queue_limits_tests).

-include_lib("eunit/include/eunit.hrl").

-import(emmap_test_lib, [with_dir/1, new_file/3, pattern/1, wait_until/1, ignore/1]).
-import(emmap_queue_test_lib, [with_file/1, with_queue/2, file_of/1, works/1]).

too_big_is_more_than_max_message_test() ->
    [with_queue([#{max_message => 1000, compressed => Level}], fun(Q) ->
         Fits = binary:copy(<<"x">>, 994), % and 6 of the format
         ?assertEqual(1000, byte_size(term_to_binary(Fits))),
         ?assertEqual(ok, emmap_queue:push(Q, Fits)),
         ?assertEqual({error, too_big}, emmap_queue:push(Q, <<Fits/binary, 0>>)),
         ?assertEqual({error, too_big}, emmap_queue:push(Q, binary:copy(<<"x">>, 1 bsl 20))),
         ?assertEqual({error, too_big}, emmap_queue:push(Q, <<Fits/binary, 0>>, 9)),
         ?assertEqual({error, too_big}, emmap_queue:push(Q, lists:seq(1, 1000))),
         ?assertEqual([Fits], emmap_queue:take_many(Q, 2))
     end) || Level <- [0, 9]].

max_message_is_half_of_max_size_test() ->
    with_queue([#{max_size => 10000}], fun(Q) ->
        ?assertMatch(#{max_message := 5000}, emmap_queue:info(Q)),
        ?assertEqual({error, too_big}, emmap_queue:push(Q, pattern(5000))),
        ok = emmap_queue:set(Q, #{max_size => 100000}),
        ?assertMatch(#{max_message := 50000, max_size := 100000}, emmap_queue:info(Q)),
        ok = emmap_queue:push(Q, pattern(5000)),
        ok = emmap_queue:set(Q, #{max_size => infinity}),
        ?assertMatch(#{max_message := 1073741824, max_size := infinity}, emmap_queue:info(Q))
    end),
    with_queue([#{max_size => 10000, max_message => 3000}], fun(Q) ->
        ok = emmap_queue:set(Q, #{max_size => 100000}),
        ?assertMatch(#{max_message := 3000}, emmap_queue:info(Q)),
        ok = emmap_queue:set(Q, #{max_size => 2000}),
        ?assertMatch(#{max_message := 1000}, emmap_queue:info(Q))
    end).

full_until_something_is_taken_test() ->
    with_queue([#{max_size => 6400}], fun(Q) ->
        Message = <<"1234567890">>, % 64 bytes of the file
        [ok = emmap_queue:push(Q, Message) || _ <- lists:seq(1, 100)],
        ?assertEqual({error, full}, emmap_queue:push(Q, x)),
        ?assertEqual({error, full}, emmap_queue:push(Q, x, 9)),
        ?assertEqual({error, full}, emmap_queue:push_many(Q, [x, y])),
        ?assertEqual(6400, emmap_queue:bytes(Q)),
        ?assertEqual(Message, emmap_queue:pop(Q)),
        ?assertEqual(ok, emmap_queue:push(Q, Message)),
        ?assertEqual({error, full}, emmap_queue:push(Q, x)),
        %% What somebody works on is in the queue.
        ?assertEqual({error, full}, emmap_queue:try_pop(Q, fun(_) -> emmap_queue:push(Q, x) end)),
        ?assertEqual(ok, emmap_queue:push(Q, x))
    end).

max_size_is_kept_in_the_file_and_can_be_changed_test() ->
    with_file(fun(File) ->
        Max = fun(Options) ->
            {ok, Q} = emmap_queue:open(File, Options),
            #{max_size := Max} = emmap_queue:info(Q),
            ok = emmap_queue:close(Q),
            Max
        end,
        ?assertEqual(infinity, Max(#{})),
        ?assertEqual(20000, Max(#{max_size => 20000})),
        ?assertEqual(20000, Max(#{})),
        ?assertEqual(infinity, Max(#{max_size => infinity})),
        {ok, Q} = emmap_queue:open(File),
        ?assertEqual(ok, emmap_queue:set(Q, #{})),
        ok = emmap_queue:push_many(Q, lists:seq(1, 1000)),
        ?assertEqual(ok, emmap_queue:set(Q, #{max_size => 1000})),
        ?assertEqual({error, full}, emmap_queue:push(Q, x)), % and what is there stays
        ?assertEqual(lists:seq(1, 1000), emmap_queue:take_many(Q, 2000)),
        ok = emmap_queue:push(Q, x),
        %% A second handle has its say too.
        {ok, Second} = emmap_queue:open(File, #{max_size => 77777}),
        ?assertMatch(#{max_size := 77777}, emmap_queue:info(Q)),
        [ok = emmap_queue:close(H) || H <- [Q, Second]],
        ?assertEqual(77777, Max(#{}))
    end).

a_queue_of_fixed_size_takes_its_space_at_once_and_keeps_it_test_() ->
    {timeout, 120, fun a_queue_of_fixed_size_takes_its_space_at_once_and_keeps_it/0}.

a_queue_of_fixed_size_takes_its_space_at_once_and_keeps_it() ->
    [with_queue([Size, [fixed_size]], fun(Q) ->
         #{file_size := FileSize, max_size := Size, fixed_size := true} = emmap_queue:info(Q),
         ?assertEqual({error, fixed_size}, emmap_queue:set(Q, #{max_size => 1 bsl 20})),
         Message = fun(N) -> {N, binary:copy(<<N:16>>, N rem 500)} end,
         Fill = fun Fill(N) ->
             case emmap_queue:push(Q, Message(N)) of
                 ok -> Fill(N + 1);
                 {error, full} -> N
             end
         end,
         %% Full, half of it taken, full again, over and over.
         Next = lists:foldl(fun(_, {From, N}) ->
             To = Fill(N),
             ?assert(emmap_queue:bytes(Q) =< Size),
             ?assert(emmap_queue:bytes(Q) > Size - 2000),
             Half = (To - From) div 2,
             ?assertEqual([Message(I) || I <- lists:seq(From, From + Half - 1)],
                          emmap_queue:take_many(Q, Half)),
             {From + Half, To}
         end, {1, 1}, lists:seq(1, 20)),
         ?assertMatch({_, N} when N > 100, Next),
         ?assertMatch(#{file_size := FileSize}, emmap_queue:info(Q)),
         ?assertEqual(FileSize, filelib:file_size(file_of(Q)))
     end) || Size <- [20000, 65536, 200000]].

a_drained_queue_gives_its_space_back_test_() ->
    {timeout, 120, fun a_drained_queue_gives_its_space_back/0}.

a_drained_queue_gives_its_space_back() ->
    with_queue([0, []], fun(Q) ->
        #{allocated := Before, segment_size := Segment} = emmap_queue:info(Q),
        ok = emmap_queue:push_many(Q, [pattern(50000) || _ <- lists:seq(1, 200)]),
        #{allocated := Full} = emmap_queue:info(Q),
        ?assert(Full > 10000000),
        200 = length(emmap_queue:take_many(Q, 1000)),
        wait_until(fun() ->
            maps:get(allocated, emmap_queue:info(Q)) < Before + 4 * Segment
        end),
        #{file_size := Size} = emmap_queue:info(Q),
        [begin
             ok = emmap_queue:push_many(Q, [pattern(50000) || _ <- lists:seq(1, 100)]),
             100 = length(emmap_queue:take_many(Q, 1000))
         end || _ <- lists:seq(1, 10)],
        ?assertMatch(#{file_size := Size}, emmap_queue:info(Q))
    end).

a_full_disk_is_enospc_until_it_has_room_test_() ->
    {timeout, 120, fun a_full_disk_is_enospc_until_it_has_room/0}.

a_full_disk_is_enospc_until_it_has_room() ->
    with_dir(fun(Dir) ->
        ignore(emmap_test_lib:with_tmpfs(Dir, 4 bsl 20, fun(Root) ->
            Ballast = new_file(Root, "ballast", emmap_test_lib:zeros(1 bsl 20)),
            {ok, Q} = emmap_queue:open(filename:join(Root, "q")),
            Message = fun(N) -> {N, binary:copy(<<N:16>>, 1000)} end,
            Fill = fun Fill(N) ->
                case emmap_queue:push(Q, Message(N)) of
                    ok -> Fill(N + 1);
                    Error -> {Error, N}
                end
            end,
            {Error, N} = Fill(1),
            ?assertEqual({error, enospc}, Error),
            ?assertEqual({error, enospc}, emmap_queue:push(Q, binary:copy(<<"x">>, 200000))),
            ?assertEqual(N - 1, emmap_queue:length(Q)),
            ok = file:delete(Ballast),
            ?assertMatch({{error, enospc}, More} when More > N + 100, Fill(N)),
            Taken = emmap_queue:take_many(Q, 1 bsl 20),
            ?assert(length(Taken) > N + 99),
            ?assertEqual([Message(I) || I <- lists:seq(1, length(Taken))], Taken),
            works(Q),
            ok = emmap_queue:close(Q)
        end))
    end).
