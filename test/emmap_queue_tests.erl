%% The queue, call by call: push and take, looks, claims; several handles.
-module(emmap_queue_tests).

-include_lib("eunit/include/eunit.hrl").

-import(emmap_test_lib, [pattern/1, wait_until/1, together/1, alone/1, in_vm/1]).
-import(emmap_queue_test_lib, [with_file/1, with_queue/2, file_of/1, opened/1, works/1, logged/1]).

%%---------------------------------------------------------------------------------------- push, take

messages_come_out_in_their_order_test() ->
    with_queue([], fun(Q) ->
        [?assertEqual(ok, emmap_queue:push(Q, {message, N})) || N <- lists:seq(1, 1000)],
        ?assertEqual(1000, emmap_queue:length(Q)),
        [?assertEqual({message, N}, emmap_queue:pop(Q)) || N <- lists:seq(1, 500)],
        [?assertEqual({ok, {message, N}}, emmap_queue:take(Q)) || N <- lists:seq(501, 1000)],
        ?assertEqual(nil, emmap_queue:pop(Q)),
        ?assertEqual(nil, emmap_queue:pop_and_purge(Q)),
        ?assertEqual(empty, emmap_queue:take(Q))
    end).

any_term_comes_back_as_it_was_test_() ->
    {timeout, 120, fun any_term_comes_back/0}.

any_term_comes_back() ->
    [with_queue([Options], fun(Q) ->
         Terms = terms(),
         [begin
              ok = emmap_queue:push(Q, Term),
              ?assertEqual({ok, Term}, emmap_queue:take(Q)),
              [ok = emmap_queue:push(Q, Term, Level) || Level <- [0, 1, 9]],
              [?assertEqual(Term, emmap_queue:pop(Q)) || _ <- [0, 1, 9]]
          end || Term <- Terms],
         ok = emmap_queue:push_many(Q, Terms),
         ?assertEqual({[], Terms}, emmap_queue:peek(Q, {Terms, []}, fun(T, {[T | Rest], Seen}) ->
             {cont, {Rest, Seen ++ [T]}} end)),
         ?assertEqual(Terms, emmap_queue:take_many(Q, 1000)),
         ok = emmap_queue:push_many(Q, Terms),
         [?assertEqual({done, Term}, emmap_queue:try_pop(Q, fun(T) -> {done, T} end)) || Term <- Terms]
     end) || Options <- [#{}, #{compressed => 6}, #{safe => true}, #{safe => true, compressed => 1}]].

terms() ->
    [nil, empty, [], {}, #{}, <<>>, 0, -1, 1 bsl 70, 1.5, <<1:3>>, {ok, nil}, {error, closed}, again,
     {deflated, <<"x">>}, {ok, {deflated, <<>>}}, self(), make_ref(), fun lists:map/2, "text",
     [a | b], #{a => #{b => [c]}}, binary:copy(<<"x">>, 100), binary:copy(<<"y">>, 5000),
     lists:seq(1, 5000), pattern(70000), [pattern(100000), x], binary:copy(<<"z">>, 1 bsl 20),
     [<<N:32>> || N <- lists:seq(1, 20000)]].

nil_is_a_term_like_any_other_test() ->
    with_queue([], fun(Q) ->
        [ok = emmap_queue:push(Q, T) || T <- [nil, empty]],
        ?assertEqual(nil, emmap_queue:peek_front(Q)),
        ?assertNot(emmap_queue:is_empty(Q)),
        ?assertEqual({ok, nil}, emmap_queue:take(Q)),
        ?assertEqual({ok, empty}, emmap_queue:take(Q)),
        ?assertEqual(empty, emmap_queue:take(Q))
    end).

push_many_appends_all_in_order_test_() ->
    {timeout, 120, fun push_many_appends_all_in_order/0}.

push_many_appends_all_in_order() ->
    [with_queue([Options], fun(Q) ->
         Lists = [[], [one], lists:seq(1, 255), lists:seq(1, 256), lists:seq(1, 257), lists:seq(1, 5000),
                  [binary:copy(<<N:16>>, 1000) || N <- lists:seq(1, 100)],
                  [small, pattern(100000), small, pattern(70000), pattern(65000), small]],
         [begin
              ?assertEqual(ok, emmap_queue:push_many(Q, Terms)),
              ?assertEqual(length(Terms), emmap_queue:length(Q)),
              ?assertEqual(Terms, emmap_queue:take_many(Q, 10000))
          end || Terms <- Lists]
     end) || Options <- [#{}, #{compressed => 1}, #{durability => sync}, #{safe => true}]].

push_many_says_how_many_went_test_() ->
    {timeout, 120, fun push_many_says_how_many_went/0}.

push_many_says_how_many_went() ->
    [with_queue([#{max_message => 3000, compressed => Level}], fun(Q) ->
         Large = pattern(4000),
         ?assertEqual({error, too_big}, emmap_queue:push_many(Q, [Large, 1, 2])),
         ?assertEqual(0, emmap_queue:length(Q)),
         [begin
              Small = lists:seq(1, N),
              ?assertEqual({error, {N, too_big}}, emmap_queue:push_many(Q, Small ++ [Large, x])),
              ?assertEqual(Small, emmap_queue:take_many(Q, 1000))
          end || N <- [1, 2, 255, 256, 257, 600]],
         %% The limit is of each, not of all together.
         Many = [binary:copy(<<"x">>, 1000) || _ <- lists:seq(1, 100)],
         ?assertEqual(ok, emmap_queue:push_many(Q, Many)),
         ?assertEqual(Many, emmap_queue:take_many(Q, 1000))
     end) || Level <- [0, 6]],
    with_queue([#{max_size => 10000}], fun(Q) ->
        {error, {N, full}} = emmap_queue:push_many(Q, lists:seq(1, 10000)),
        ?assertEqual(N, emmap_queue:length(Q)),
        ?assertEqual({error, full}, emmap_queue:push_many(Q, lists:seq(1, 10000))),
        ?assertEqual(lists:seq(1, N), emmap_queue:take_many(Q, 100000))
    end).

take_many_takes_no_more_than_asked_test_() ->
    {timeout, 120, fun take_many_takes_no_more_than_asked/0}.

take_many_takes_no_more_than_asked() ->
    [with_queue([#{safe => Safe, compressed => Level}], fun(Q) ->
         ?assertEqual([], emmap_queue:take_many(Q, 10)),
         ok = emmap_queue:push_many(Q, lists:seq(1, 1000)),
         ?assertEqual([], emmap_queue:take_many(Q, 0)),
         ?assertEqual([], emmap_queue:take_many(Q, #{count => 0})),
         ?assertEqual([1], emmap_queue:take_many(Q, 1)),
         ?assertEqual(lists:seq(2, 500), emmap_queue:take_many(Q, 499)),
         ?assertEqual(lists:seq(501, 600), emmap_queue:take_many(Q, #{count => 100})),
         ?assertEqual(lists:seq(601, 1000), emmap_queue:take_many(Q, #{})),
         ?assertEqual([], emmap_queue:take_many(Q, #{}))
     end) || Safe <- [false, true], Level <- [0, 1]].

take_many_by_bytes_test_() ->
    {timeout, 120, fun take_many_by_bytes/0}.

take_many_by_bytes() ->
    [with_queue([#{safe => Safe}], fun(Q) ->
         Message = fun(N) -> <<N:32, 0:(994 * 8)>> end, % 1000 - 6 with the format's own: 1004
         Take = fun(Limits) -> [N || <<N:32, _/binary>> <- emmap_queue:take_many(Q, Limits)] end,
         ok = emmap_queue:push_many(Q, [Message(N) || N <- lists:seq(1, 1000)]),
         ?assertEqual(1004, byte_size(term_to_binary(Message(1)))),
         ?assertEqual([1], Take(#{bytes => 1})), % at least one
         ?assertEqual([2], Take(#{bytes => 1004})),
         ?assertEqual([3], Take(#{bytes => 2007})),
         ?assertEqual([4, 5], Take(#{bytes => 2008})),
         ?assertEqual([6, 7, 8], Take(#{bytes => 100000, count => 3})),
         ?assertEqual(lists:seq(9, 108), Take(#{bytes => 100400})),
         ?assertEqual(lists:seq(109, 607), Take(#{bytes => 500 * 1004 - 1})),
         ?assertEqual(lists:seq(608, 1000), Take(#{bytes => 1 bsl 40})),
         %% Large ones.
         Large = [binary:copy(<<N>>, 30000 * N) || N <- lists:seq(1, 6)],
         ok = emmap_queue:push_many(Q, Large),
         ?assertEqual(lists:sublist(Large, 3), emmap_queue:take_many(Q, #{bytes => 190000})),
         ?assertEqual([lists:nth(4, Large)], emmap_queue:take_many(Q, #{bytes => 100})),
         ?assertEqual(lists:nthtail(4, Large), emmap_queue:take_many(Q, #{bytes => 1 bsl 30}))
     end) || Safe <- [false, true]].

a_level_of_compression_saves_space_test_() ->
    {timeout, 120, fun a_level_of_compression_saves_space/0}.

a_level_of_compression_saves_space() ->
    with_queue([], fun(Q) ->
        Term = lists:duplicate(10000, <<"the same again">>),
        Plain = byte_size(term_to_binary(Term)),
        ok = emmap_queue:push(Q, Term),
        ?assert(emmap_queue:bytes(Q) >= Plain),
        ?assertEqual(Term, emmap_queue:pop(Q)),
        [begin
             ok = emmap_queue:push(Q, Term, Level),
             ?assert(emmap_queue:bytes(Q) < Plain div 20),
             ?assertEqual(Term, emmap_queue:peek_front(Q)),
             ?assertEqual(Term, emmap_queue:peek_back(Q)),
             ?assertEqual(Term, emmap_queue:try_pop(Q, fun(T) -> T end))
         end || Level <- lists:seq(1, 9)],
        ?assertEqual(0, emmap_queue:bytes(Q))
    end).

the_handle_s_level_is_that_of_push_test() ->
    with_queue([#{compressed => 6}], fun(Q) ->
        Term = lists:duplicate(10000, <<"the same again">>),
        ok = emmap_queue:push(Q, Term),
        ?assert(emmap_queue:bytes(Q) < 10000),
        ok = emmap_queue:push(Q, Term, 0),
        ?assert(emmap_queue:bytes(Q) > 100000),
        ?assertEqual([Term, Term], emmap_queue:take_many(Q, 3))
    end).

erase_drops_all_test() ->
    with_queue([], fun(Q) ->
        ?assertEqual(ok, emmap_queue:erase(Q)),
        ok = emmap_queue:push_many(Q, lists:seq(1, 10000)),
        ok = emmap_queue:push(Q, pattern(1 bsl 20)),
        ?assertEqual(ok, emmap_queue:erase(Q)),
        ?assertMatch(#{length := 0, bytes := 0, claimed := 0}, emmap_queue:info(Q)),
        ?assert(emmap_queue:is_empty(Q)),
        works(Q)
    end).

%% But what somebody works on stays his.
erase_beside_a_claim_test() ->
    with_queue([], fun(Q) ->
        ok = emmap_queue:push_many(Q, lists:seq(1, 3000)),
        {result, 1} = emmap_queue:try_pop(Q, fun(One) ->
            ok = emmap_queue:erase(Q),
            ?assertEqual(1, emmap_queue:length(Q)),
            ?assertEqual(empty, emmap_queue:take(Q)),
            ok = emmap_queue:push(Q, new),
            {result, One}
        end),
        ?assertEqual([new], emmap_queue:take_many(Q, 10)),
        ok = emmap_queue:push_many(Q, lists:seq(1, 30)),
        ?assertError(mine, emmap_queue:try_pop(Q, fun(_) -> ok = emmap_queue:erase(Q), error(mine) end)),
        ?assertEqual([1], emmap_queue:take_many(Q, 10)),
        ?assertMatch(#{length := 0, bytes := 0, claimed := 0}, emmap_queue:info(Q))
    end).

%%----------------------------------------------------------------------------------- looking at them

peeks_take_nothing_test() ->
    with_queue([], fun(Q) ->
        ?assertEqual(nil, emmap_queue:peek_front(Q)),
        ?assertEqual(nil, emmap_queue:peek_back(Q)),
        Fold = fun(T, Acc) -> {cont, [T | Acc]} end,
        ?assertEqual([], emmap_queue:peek(Q, [], Fold)),
        ?assertEqual([], emmap_queue:rpeek(Q, [], Fold)),
        ok = emmap_queue:push_many(Q, lists:seq(1, 3000)), % over several segments
        ?assertEqual(1, emmap_queue:peek_front(Q)),
        ?assertEqual(3000, emmap_queue:peek_back(Q)),
        ?assertEqual(lists:seq(3000, 1, -1), emmap_queue:peek(Q, [], Fold)),
        ?assertEqual(lists:seq(1, 3000), emmap_queue:rpeek(Q, [], Fold)),
        Until = fun(N) -> fun(T, Acc) when T =:= N -> {halt, {T, Acc}}; (_, Acc) -> {cont, Acc + 1} end end,
        ?assertEqual({3, 2}, emmap_queue:peek(Q, 0, Until(3))),
        ?assertEqual({3, 2997}, emmap_queue:rpeek(Q, 0, Until(3))),
        ?assertEqual({1, 0}, emmap_queue:peek(Q, 0, Until(1))),
        ?assertEqual({3000, 0}, emmap_queue:rpeek(Q, 0, Until(3000))),
        ?assertError(stop, emmap_queue:peek(Q, 0, fun(_, _) -> error(stop) end)),
        ?assertEqual(3000, emmap_queue:length(Q)),
        ?assertEqual(lists:seq(1, 3000), emmap_queue:take_many(Q, 3000))
    end).

peeks_of_large_ones_test() ->
    with_queue([], fun(Q) ->
        Terms = [pattern(Size) || Size <- [1, 5000, 9000, 70000, 300000, 10]],
        ok = emmap_queue:push_many(Q, Terms),
        ?assertEqual(lists:reverse(Terms), emmap_queue:peek(Q, [], fun(T, Acc) -> {cont, [T | Acc]} end)),
        ?assertEqual(Terms, emmap_queue:rpeek(Q, [], fun(T, Acc) -> {cont, [T | Acc]} end))
    end).

%% What is taken by the fun itself, or by others, while a fold goes on.
peeks_while_messages_are_taken_test_() ->
    {timeout, 120, fun peeks_while_messages_are_taken/0}.

peeks_while_messages_are_taken() ->
    [with_queue([0, []], fun(Q) ->
         ok = emmap_queue:push_many(Q, lists:seq(1, 20000)),
         Take = fun(N) -> length(emmap_queue:take_many(Q, N)) end,
         Seen = emmap_queue:Fold(Q, [], fun(T, Acc) -> _ = Take(7), {cont, [T | Acc]} end),
         Order = case Fold of peek -> lists:reverse(Seen); rpeek -> Seen end,
         ?assertEqual(lists:usort(Order), Order), % none twice, none out of order
         ?assert(length(Seen) > 1000)
     end) || Fold <- [peek, rpeek]].

peeks_beside_producers_and_consumers_test_() ->
    {timeout, 120, fun() ->
        with_queue([], fun(Q) ->
            Stop = atomics:new(1, []),
            Push = fun Push(N) ->
                case atomics:get(Stop, 1) of
                    0 -> ok = emmap_queue:push(Q, {N, binary:copy(<<N:16>>, N rem 3000)}), Push(N + 1);
                    1 -> pushed
                end
            end,
            Take = fun Take(Last) ->
                case {emmap_queue:take(Q), atomics:get(Stop, 1)} of
                    {{ok, {N, _}}, _} when N > Last -> Take(N);
                    {empty, 1} -> taken;
                    {empty, 0} -> Take(Last)
                end
            end,
            Whole = fun({N, Bin}, Acc) ->
                ?assertEqual(binary:copy(<<N:16>>, N rem 3000), Bin),
                case Acc of 5000 -> {halt, Acc}; _ -> {cont, Acc + 1} end
            end,
            Peek = fun() ->
                [begin
                     _ = emmap_queue:peek(Q, 0, Whole),
                     _ = emmap_queue:rpeek(Q, 0, Whole),
                     [case emmap_queue:Call(Q) of nil -> ok; T -> Whole(T, 0) end
                      || Call <- [peek_front, peek_back]]
                 end || _ <- lists:seq(1, 300)],
                atomics:put(Stop, 1, 1),
                peeked
            end,
            ?assertEqual([pushed, taken, peeked],
                         together([fun() -> Push(1) end, fun() -> Take(0) end, Peek]))
        end)
    end}.

length_and_the_like_test() ->
    with_queue([], fun(Q) ->
        ?assertEqual([0, 0, true, true], [emmap_queue:Call(Q) || Call <- [length, bytes, is_empty, purge]]),
        #{head := Start, tail := Start} = emmap_queue:metadata(Q),
        ok = emmap_queue:push(Q, <<"1234567890">>), % 16 bytes, 48 for the record
        ?assertEqual([1, 64, false, false], [emmap_queue:Call(Q) || Call <- [length, bytes, is_empty, purge]]),
        Metadata = emmap_queue:metadata(Q),
        ?assertEqual([head, next_tail, size, tail], lists:sort(maps:keys(Metadata))),
        ?assertMatch(#{head := Start, tail := Tail, next_tail := Tail} when Tail =:= Start + 64, Metadata),
        ?assertEqual(maps:get(size, Metadata), filelib:file_size(file_of(Q))),
        <<"1234567890">> = emmap_queue:pop(Q),
        ?assertEqual([0, 0, true, true], [emmap_queue:Call(Q) || Call <- [length, bytes, is_empty, purge]])
    end).

info_tells_what_is_known_test() ->
    with_queue([#{max_size => 100000, max_message => 40000, size => 65536}], fun(Q) ->
        ?assertMatch(#{length := 0, bytes := 0, claimed := 0, max_size := 100000, max_message := 40000,
                       segment_size := 65536, oldest := undefined, lost := 0, recovered := false,
                       sync_error := undefined, linked := true, multi_os := false, fixed_size := false,
                       head := Head, tail := Head, next_tail := Head}, emmap_queue:info(Q)),
        ok = emmap_queue:push(Q, <<"1234567890">>),
        Info = emmap_queue:info(Q),
        ?assertMatch(#{length := 1, bytes := 64}, Info),
        ?assert(abs(maps:get(oldest, Info) - os:system_time(millisecond)) < 3600000),
        #{file_size := Size, allocated := Allocated, segments := Segments, size := Size} = Info,
        ?assertEqual(131072 + Segments * 65536, Size),
        ?assert(Allocated =< Size + 65536),
        ?assertEqual(1, emmap_queue:try_pop(Q, fun(_) -> maps:get(claimed, emmap_queue:info(Q)) end)),
        ?assertMatch(#{claimed := 0}, emmap_queue:info(Q)),
        ok = file:delete(file_of(Q)),
        ?assertMatch(#{linked := false}, emmap_queue:info(Q)),
        works(Q)
    end).

a_lost_name_is_told_once_test() ->
    with_queue([], fun(Q) ->
        File = file_of(Q),
        Tell = fun(F) ->
                       {_, Logged} = logged(F),
                       [Text || {warning, Text} <- Logged, string:find(Text, "has lost its name") =/= nomatch]
               end,
        ?assertEqual([], Tell(fun() -> ok = emmap_queue:sync(Q), emmap_queue:info(Q) end)),
        ok = file:rename(File, File ++ ".moved"),
        [Text] = Tell(fun() -> ok = emmap_queue:sync(Q), ok = emmap_queue:sync(Q), emmap_queue:info(Q) end),
        ?assertNotEqual(nomatch, string:find(Text, File)),
        ?assertMatch(#{linked := false}, emmap_queue:info(Q)),
        ok = file:rename(File ++ ".moved", File),
        ?assertMatch(#{linked := true}, emmap_queue:info(Q))
    end).

%%------------------------------------------------------------------------------------ pop/3, try_pop

pop_3_takes_what_the_fun_goes_on_for_test() ->
    with_queue([], fun(Q) ->
        Until = fun(Most) -> fun(N, Sum) when N < Most -> {cont, Sum + N}; (_, Sum) -> {halt, Sum} end end,
        ?assertEqual(17, emmap_queue:pop(Q, 17, Until(5))),
        ok = emmap_queue:push_many(Q, lists:seq(1, 10)),
        ?assertEqual(10, emmap_queue:pop(Q, 0, Until(5))),
        ?assertEqual(5, emmap_queue:peek_front(Q)),
        ?assertEqual(6, emmap_queue:length(Q)),
        ?assertEqual(0, emmap_queue:pop(Q, 0, Until(5))),
        ?assertError({at, 7}, emmap_queue:pop(Q, 0, fun(7, _) -> error({at, 7}); (N, Sum) -> {cont, Sum + N} end)),
        ?assertEqual([7, 8, 9, 10], emmap_queue:peek(Q, [], fun(N, Acc) -> {cont, Acc ++ [N]} end)),
        ?assertError({case_clause, ok}, emmap_queue:pop(Q, 0, fun(_, _) -> ok end)),
        ?assertEqual(34, emmap_queue:pop(Q, 0, Until(100))),
        ?assertEqual(true, emmap_queue:is_empty(Q))
    end).

try_pop_takes_a_message_when_the_fun_returns_test() ->
    [with_queue([], fun(Q) ->
         ?assertEqual(nil, emmap_queue:Call(Q, fun(_) -> error(not_called) end)),
         ok = emmap_queue:push_many(Q, [1, 2]),
         ?assertEqual({result, 1}, emmap_queue:Call(Q, fun(N) -> {result, N} end)),
         ?assertEqual(1, emmap_queue:length(Q)),
         ?assertEqual(nil, emmap_queue:Call(Q, fun(2) -> nil end)),
         ?assertEqual(0, emmap_queue:length(Q))
     end) || Call <- [try_pop, try_pop_and_purge]].

what_the_fun_raises_is_raised_and_its_message_is_first_again_test() ->
    [with_queue([], fun(Q) ->
         ok = emmap_queue:push_many(Q, [1, 2, 3]),
         Raise = fun(Class, Reason) -> fun(1) -> erlang:raise(Class, Reason, []) end end,
         ?assertError(mine, emmap_queue:Call(Q, Raise(error, mine))),
         ?assertExit(mine, emmap_queue:Call(Q, Raise(exit, mine))),
         ?assertThrow(mine, emmap_queue:Call(Q, Raise(throw, mine))),
         ?assertError(function_clause, emmap_queue:Call(Q, fun(2) -> ok end)),
         try emmap_queue:Call(Q, fun deep/1) catch error:deep:Stack ->
             ?assertMatch([{?MODULE, deep, 1, _} | _], Stack)
         end,
         ?assertMatch(#{length := 3, claimed := 0}, emmap_queue:info(Q)),
         ?assertEqual(1, emmap_queue:peek_front(Q)),
         ?assertEqual([1, 2, 3], emmap_queue:take_many(Q, 3))
     end) || Call <- [try_pop, try_pop_and_purge]].

deep(_) -> error(deep).

the_fun_may_use_the_queue_test() ->
    with_queue([], fun(Q) ->
        ok = emmap_queue:push_many(Q, [1, 2, 3]),
        done = emmap_queue:try_pop_and_purge(Q, fun(1) ->
            ok = emmap_queue:push(Q, 4),
            ?assertEqual(2, emmap_queue:peek_front(Q)), % the next that nobody works on
            ?assertEqual(4, emmap_queue:length(Q)),
            ?assertEqual({ok, 2}, emmap_queue:take(Q)),
            ?assertEqual(3, emmap_queue:try_pop(Q, fun(3) -> ok = emmap_queue:push(Q, 5), 3 end)),
            ?assertMatch(#{claimed := 1}, emmap_queue:info(Q)),
            done
        end),
        ?assertEqual([4, 5], emmap_queue:take_many(Q, 10)),
        %% The one that comes back is before those that were pushed later, and those that were not taken.
        ok = emmap_queue:push_many(Q, [1, 2, 3]),
        ?assertError(failed, emmap_queue:try_pop(Q, fun(1) ->
            ok = emmap_queue:push(Q, 4),
            {ok, 2} = emmap_queue:take(Q),
            error(failed)
        end)),
        ?assertEqual(1, emmap_queue:peek_front(Q)),
        ?assertEqual([1, 3, 4], emmap_queue:take_many(Q, 10)),
        ?assertMatch(#{length := 0, bytes := 0, claimed := 0}, emmap_queue:info(Q))
    end).

others_take_the_next_ones_meanwhile_test() ->
    with_queue([], fun(Q) ->
        ok = emmap_queue:push_many(Q, lists:seq(1, 100)),
        Self = self(),
        Workers = [spawn_monitor(fun() ->
            emmap_queue:try_pop(Q, fun(N) ->
                Self ! {works_on, self(), N},
                receive return -> ok; raise -> exit(raised) end
            end)
        end) || _ <- lists:seq(1, 10)],
        On = [receive {works_on, Pid, N} -> {Pid, N} end || {Pid, _} <- Workers],
        ?assertEqual(lists:seq(1, 10), lists:sort([N || {_, N} <- On])),
        ?assertEqual(11, emmap_queue:peek_front(Q)),
        ?assertMatch(#{claimed := 10, length := 100}, emmap_queue:info(Q)),
        {Odd, Even} = lists:partition(fun({_, N}) -> N rem 2 =:= 1 end, On),
        [Pid ! return || {Pid, _} <- Odd],
        [Pid ! raise || {Pid, _} <- Even],
        [receive {'DOWN', Ref, _, _, _} -> ok end || {_, Ref} <- Workers],
        ?assertEqual(lists:sort([N || {_, N} <- Even]) ++ lists:seq(11, 100),
                     emmap_queue:take_many(Q, 1000)),
        ?assertMatch(#{length := 0, bytes := 0, claimed := 0}, emmap_queue:info(Q))
    end).

the_message_of_a_killed_process_is_first_again_test() ->
    with_queue([], fun(Q) ->
        ok = emmap_queue:push_many(Q, [1, 2, {large, pattern(100000)}]),
        Kill = fun(Calls) ->
            Self = self(),
            {Pid, Ref} = spawn_monitor(fun() ->
                Calls(fun(T) -> Self ! {has, T}, receive never -> ok end end)
            end),
            Has = receive {has, T} -> T end,
            exit(Pid, kill),
            receive {'DOWN', Ref, _, _, killed} -> ok end,
            wait_until(fun() -> maps:get(claimed, emmap_queue:info(Q)) =:= 0 end),
            Has
        end,
        Try = fun(F) -> emmap_queue:try_pop(Q, F) end,
        Fold = fun(F) -> emmap_queue:pop(Q, 0, fun(T, _) -> F(T) end) end,
        ?assertEqual(1, Kill(Try)),
        ?assertEqual(1, Kill(Fold)),
        ?assertEqual(3, emmap_queue:length(Q)),
        ?assertEqual([1, 2], emmap_queue:take_many(Q, 2)),
        ?assertEqual({large, pattern(100000)}, Kill(Try)),
        ?assertEqual({ok, {large, pattern(100000)}}, emmap_queue:take(Q))
    end).

%% The fun's process has no other use for the handle, whose garbage is collected meanwhile.
a_claim_keeps_its_handle_test_() ->
    {timeout, 120, fun a_claim_keeps_its_handle/0}.

a_claim_keeps_its_handle() ->
    with_file(fun(File) ->
        ?assertEqual(returned, alone(fun() ->
            ok = emmap_queue:push(opened(File), message),
            emmap_queue:try_pop(opened(File), fun(message) -> collect(10), returned end)
        end)),
        ?assertEqual(returned, alone(fun() ->
            ok = emmap_queue:push(opened(File), message),
            emmap_queue:pop(opened(File), acc, fun(message, acc) -> collect(10), {halt, returned} end)
        end)),
        ?assertEqual(message, emmap_queue:pop(opened(File))),
        ?assertEqual(nil, emmap_queue:pop(opened(File)))
    end).

%% Handles without an owner are closed in the background: it has come to them when as many as this
%% have been closed.
collect(N) ->
    with_file(fun(File) ->
        [begin
             erlang:garbage_collect(),
             {ok, Q} = emmap_queue:open(File),
             ok = emmap_queue:push(Q, N),
             ok = emmap_queue:close(Q)
         end || _ <- lists:seq(1, N)]
    end).

%%----------------------------------------------------------------------------------- several of them

handles_of_one_vm_are_of_one_queue_test() ->
    with_file(fun(File) ->
        Handles = [opened(File) || _ <- lists:seq(1, 5)],
        [ok = emmap_queue:push(Q, N) || {N, Q} <- lists:enumerate(Handles)],
        [?assertEqual(5, emmap_queue:length(Q)) || Q <- Handles],
        [?assertEqual(N, emmap_queue:pop(Q)) || {N, Q} <- lists:enumerate(lists:reverse(Handles))],
        Claim = fun(Q, Other) ->
            ok = emmap_queue:push(Q, x),
            emmap_queue:try_pop(Q, fun(x) -> ?assertEqual(empty, emmap_queue:take(Other)), ok end)
        end,
        ok = Claim(hd(Handles), lists:last(Handles)),
        [ok = emmap_queue:close(Q) || Q <- Handles]
    end).

a_handle_that_nobody_closed_is_given_back_test_() ->
    {timeout, 120, fun() ->
        with_file(fun(File) ->
            in_vm(fun() ->
                [alone(fun() ->
                     Q = opened(File),
                     ok = emmap_queue:push(Q, N),
                     N rem 2 =:= 0 andalso emmap_queue:try_pop(Q, fun(_) -> ok end)
                 end) || N <- lists:seq(1, 20)],
                emmap_test_lib:nothing_is_left(),
                %% So the next OS process may have it.
                ?assertEqual(10, in_vm(fun() -> emmap_queue:length(opened(File)) end))
            end)
        end)
    end}.
