%% What is read is not believed: atoms, deflated data, bytes that are no term, damage, truncation.
-module(emmap_queue_trust_tests).

-include_lib("eunit/include/eunit.hrl").

-import(emmap_test_lib, [write_at/3, truncate/2, in_vm/1]).
-import(emmap_queue_test_lib, [with_file/1, with_queue/2, file_of/1, works/1]).

-export([push_atom/2]). % in another VM

%% With safe a message that would make an atom stays first, whoever asks for it and how often.
safe_makes_no_atoms_test_() ->
    {timeout, 120, fun() ->
        [with_file(fun(File) ->
             Atom = in_vm(fun() -> push_atom(File, Level) end),
             {ok, Q} = emmap_queue:open(File, #{safe => true}),
             [begin
                  ?assertEqual({error, unsafe_term}, emmap_queue:take(Q)),
                  ?assertEqual({error, unsafe_term}, emmap_queue:take_many(Q, 10)),
                  ?assertEqual({error, unsafe_term}, emmap_queue:take_many(Q, #{bytes => 1 bsl 20})),
                  [?assertError({emmap, unsafe_term}, apply(emmap_queue, Call, [Q | Args]))
                   || {Call, Args} <- [{pop, []}, {try_pop, [fun(T) -> T end]}, {peek_front, []},
                                       {peek_back, []}, {pop, [0, fun(_, _) -> {cont, 1} end]},
                                       {peek, [0, fun(_, _) -> {cont, 1} end]}]],
                  ?assertMatch(#{length := 1, claimed := 0}, emmap_queue:info(Q))
              end || _ <- [1, 2, 3]],
             ?assertError(badarg, binary_to_existing_atom(Atom)),
             ok = emmap_queue:push(Q, behind),
             ?assertEqual({error, unsafe_term}, emmap_queue:take(Q)),
             %% Another handle may have it.
             {ok, Trusting} = emmap_queue:open(File, #{safe => false}),
             ?assertMatch({ok, {_, _}}, emmap_queue:take(Trusting)),
             ?assertEqual({ok, behind}, emmap_queue:take(Q)),
             [ok = emmap_queue:close(H) || H <- [Q, Trusting]]
         end) || Level <- [0, 6]]
    end}.

%% In a VM of its own; answers the name of the atom that no other has.
push_atom(File, Level) ->
    Name = iolist_to_binary(["only_in_", os:getpid(), integer_to_list(erlang:system_time())]),
    {ok, Q} = emmap_queue:open(File),
    ok = emmap_queue:push(Q, {binary_to_atom(Name), 1}, Level),
    ok = emmap_queue:close(Q),
    Name.

%% With multi_os it is the default.
safe_is_the_default_where_others_write_test_() ->
    {timeout, 120, fun() ->
        with_file(fun(File) ->
            _ = in_vm(fun() -> push_atom(File, 0) end),
            {ok, Q} = emmap_queue:open(File, #{multi_os => true}),
            ?assertEqual({error, unsafe_term}, emmap_queue:take(Q)),
            ok = emmap_queue:close(Q),
            {ok, Trusting} = emmap_queue:open(File, #{multi_os => true, safe => false}),
            ?assertMatch({ok, _}, emmap_queue:take(Trusting)),
            ok = emmap_queue:close(Trusting)
        end)
    end}.

%% A deflated record whose checksum is right, and whose content is not what it says.
a_hostile_deflated_record_is_corrupt_and_gone_test_() ->
    Term = term_to_binary({a, term}),
    Bomb = zlib:compress(emmap_test_lib:zeros(10 bsl 20)),
    Records = [<<1, 2, 3>>, <<10:32/little>>, <<10:32/little, "garbage">>,
               <<100:32/little, Bomb/binary>>, <<16#FFFFFFFF:32/little, Bomb/binary>>,
               <<(10 bsl 20):32/little, Bomb/binary>>,
               deflated(byte_size(Term) - 1, Term), deflated(byte_size(Term) + 1, Term),
               deflated(byte_size(Term) + 1, <<Term/binary, 0>>),
               binary:part(deflated(Term), 0, byte_size(deflated(Term)) - 1),
               deflated(term_to_binary(lists:seq(1, 1000), [compressed])), % within the deflated one
               deflated(<<131, 104, 200>>), deflated(<<"no term">>), deflated(<<>>)],
    {timeout, 120, fun() ->
        [with_queue([#{safe => Safe}], fun(Q) -> is_corrupt_and_gone(Q, fun() -> put_deflated(Q, Record) end) end)
         || Safe <- [false, true], Record <- Records]
    end}.

is_corrupt_and_gone(Q, Put) ->
    Put(),
    ok = emmap_queue:push(Q, behind),
    ?assertError({emmap, corrupt}, emmap_queue:peek_front(Q)),
    ?assertEqual({error, corrupt}, emmap_queue:take(Q)),
    ?assertEqual({ok, behind}, emmap_queue:take(Q)),
    Put(),
    ok = emmap_queue:push(Q, behind),
    ?assertError({emmap, corrupt}, emmap_queue:try_pop(Q, fun(_) -> error(called) end)),
    ?assertEqual(behind, emmap_queue:try_pop(Q, fun(T) -> T end)),
    ok = emmap_queue:push(Q, before),
    Put(),
    ok = emmap_queue:push(Q, behind),
    ?assertEqual([before, behind], take_around(Q)),
    ?assertMatch(#{length := 0, bytes := 0, claimed := 0, lost := 3}, emmap_queue:info(Q)).

%% Both, be it that the one in between ended the first call.
take_around(Q) ->
    case emmap_queue:take_many(Q, 10) of
        [] -> [];
        {error, corrupt} -> take_around(Q);
        Terms -> Terms ++ take_around(Q)
    end.

deflated(Bytes) -> deflated(byte_size(Bytes), Bytes).

deflated(Size, Bytes) ->
    <<Size:32/little, (zlib:compress(Bytes))/binary>>.

put_deflated(Q, Record) ->
    #{tail := Pos} = emmap_queue:metadata(Q),
    case Record of
        <<_:3/binary>> -> ok = emmap_queue:push(Q, 0);
        <<_:32, Rest/binary>> -> ok = emmap_nif:queue_push_deflated(element(2, Q), <<1:32/little, Rest/binary>>)
    end,
    forge(file_of(Q), Pos, 1, Record).

%% A sound record of bytes that are no term: what a C program may push.
a_record_that_is_no_term_is_corrupt_and_gone_test() ->
    [with_queue([#{safe => Safe}], fun(Q) ->
         is_corrupt_and_gone(Q, fun() ->
             #{tail := Pos} = emmap_queue:metadata(Q),
             ok = emmap_queue:push(Q, binary:copy(<<"x">>, 8)), % 14 bytes: no more, no less
             forge(file_of(Q), Pos, 0, Bytes)
         end)
     end) || Safe <- [false, true],
             Bytes <- [<<"no term at all">>, <<131, 104, 200, 0:88>>, <<131, 80, 0:96>>, <<131, 97, 7, 0:88>>]].

%% Other data for the record at a position of the first segment, of the same length, with the right
%% checksums.
forge(File, Pos, Flags, Data) ->
    {ok, Bytes} = file:read_file(File),
    <<_:56/binary, Salt:8/binary, SegmentBytes:64/little, _/binary>> = Bytes,
    At = 131072 + 128 + Pos - (SegmentBytes - 192),
    <<_:(131072 + 16)/binary, Epoch:8/binary, _/binary>> = Bytes,
    <<_:At/binary, _:64, Ordinal:8/binary, Time:8/binary, Len:32/little, _/binary>> = Bytes,
    Len = byte_size(Data),
    Rest = <<Flags:32/little, Ordinal/binary, Time/binary, Len:32/little, (crc32c(Data)):32/little>>,
    Crc = crc32c(<<Salt/binary, Epoch/binary, Pos:64/little, Rest/binary>>),
    write_at(File, At, <<Crc:32/little, Rest/binary>>),
    write_at(File, At + 40, Data).

crc32c(Bytes) ->
    16#FFFFFFFF bxor lists:foldl(fun(Byte, Crc) ->
        lists:foldl(fun(_, C) when C band 1 =:= 1 -> (C bsr 1) bxor 16#82F63B78;
                       (_, C) -> C bsr 1
                    end, Crc bxor Byte, lists:seq(1, 8))
    end, 16#FFFFFFFF, binary_to_list(Bytes)).

%% Bytes of a live file are changed: what is damaged is told and passed, its neighbours are kept.
a_damaged_message_is_lost_and_no_other_test_() ->
    {timeout, 120, fun a_damaged_message_is_lost_and_no_other/0}.

a_damaged_message_is_lost_and_no_other() ->
    Damages = [{data, 45, <<0, 0>>}, {header, 20, <<1, 2, 3, 4>>}],
    [with_queue([#{safe => Safe}], fun(Q) ->
         #{tail := Pos} = emmap_queue:metadata(Q),
         ok = emmap_queue:push_many(Q, [{N, <<N:64>>} || N <- lists:seq(1, 5)]),
         At = 131072 + 128 + Pos - (maps:get(segment_size, emmap_queue:info(Q)) - 192),
         #{bytes := Bytes} = emmap_queue:info(Q),
         write_at(file_of(Q), At + 2 * (Bytes div 5) + Off, Bad),
         ?assertEqual([1, 2, 4, 5], [N || {N, _} <- Take(Q)]),
         ?assertMatch({_, #{length := 0, bytes := 0, lost := 1, claimed := 0}}, {Kind, emmap_queue:info(Q)}),
         works(Q)
     end) || {Kind, Off, Bad} <- Damages, Safe <- [false, true],
             Take <- [fun(Q) -> emmap_queue:take_many(Q, 10) end,
                      fun(Q) -> [emmap_queue:pop(Q) || _ <- lists:seq(1, 4)] end,
                      fun(Q) -> [emmap_queue:try_pop(Q, fun(T) -> T end) || _ <- lists:seq(1, 4)] end,
                      fun(Q) -> emmap_queue:pop(Q, [], fun(T, Acc) -> {cont, Acc ++ [T]} end) end]].

peeks_pass_what_is_damaged_test() ->
    [with_queue([], fun(Q) ->
         #{tail := Pos} = emmap_queue:metadata(Q),
         ok = emmap_queue:push_many(Q, [{N, <<N:64>>} || N <- lists:seq(1, 5)]),
         At = 131072 + 128 + Pos - (maps:get(segment_size, emmap_queue:info(Q)) - 192),
         Each = maps:get(bytes, emmap_queue:info(Q)) div 5,
         write_at(file_of(Q), At + 2 * Each + Off, Bad),
         Fold = fun({N, _}, Acc) -> {cont, [N | Acc]} end,
         ?assertEqual([5, 4, 2, 1], emmap_queue:peek(Q, [], Fold)),
         ?assertEqual([1, 2, 4, 5], emmap_queue:rpeek(Q, [], Fold))
     end) || {Off, Bad} <- [{45, <<0, 0>>}, {20, <<1, 2, 3, 4>>}]].

a_truncated_file_is_an_error_and_no_death_test_() ->
    {timeout, 120, fun() ->
        with_file(fun(File) ->
            in_vm(fun() ->
                {ok, Q} = emmap_queue:open(File),
                ok = emmap_queue:push_many(Q, lists:seq(1, 1000)),
                truncate(File, 5000),
                ?assertMatch({error, Reason} when is_atom(Reason), emmap_queue:push(Q, 1)),
                ?assertMatch({error, _}, emmap_queue:take(Q)),
                ?assertMatch({error, _}, emmap_queue:take_many(Q, 10)),
                ?assertError({emmap, _}, emmap_queue:peek_front(Q)),
                ?assertError({emmap, _}, emmap_queue:length(Q)),
                ok = emmap_queue:close(Q),
                ?assertEqual({error, truncated}, emmap_queue:open(File))
            end)
        end)
    end}.
