%% Integers of a mapped file: what each call answers and does.
-module(emmap_atomic_tests).

-include_lib("eunit/include/eunit.hrl").

-import(emmap_test_lib, [with_file/2, with_dir/1, pattern/1, zeros/1, badarg/3]).

-define(SHARED, [write, shared]).
-define(LEAST, -(1 bsl 63)).
-define(MOST, ((1 bsl 63) - 1)).

%% Old, operand and new of each operation, by plain integers.
operations() ->
    [{patomic_add, fun(Old, By) -> Old + By end},
     {patomic_sub, fun(Old, By) -> Old - By end},
     {patomic_and, fun(Old, By) -> Old band By end},
     {patomic_or, fun(Old, By) -> Old bor By end},
     {patomic_xor, fun(Old, By) -> Old bxor By end},
     {patomic_xchg, fun(_Old, New) -> New end}].

values() ->
    [0, 1, -1, 2, 255, -256, 1 bsl 31, -(1 bsl 32), (1 bsl 62) + 12345, ?MOST, ?MOST - 1, ?LEAST,
     ?LEAST + 1].

wrapped(Value) ->
    <<Signed:64/signed>> = <<Value:64>>,
    Signed.

each_operation_answers_the_old_value_and_stores_the_new_one_test() ->
    with_file(zeros(64), fun(File, _) ->
        [begin
             {ok, Mem, _} = emmap:open(File, Options),
             [begin
                  ok = emmap:patomic_write_integer(Mem, 8, Old),
                  ?assertEqual({Name, Old, Operand, {ok, Old}},
                               {Name, Old, Operand, emmap:Name(Mem, 8, Operand)}),
                  ?assertEqual({Name, Old, Operand, {ok, wrapped(Do(Old, Operand))}},
                               {Name, Old, Operand, emmap:patomic_read_integer(Mem, 8)})
              end || {Name, Do} <- operations(), Old <- values(), Operand <- values()],
             ?assertEqual([{ok, zeros(8)}, {ok, zeros(48)}],
                          [emmap:pread(Mem, 0, 8), emmap:pread(Mem, 16, 48)]),
             close(Mem)
         end || Options <- [?SHARED, [write, private], [write, anon, {size, 64}],
                            [nolock | ?SHARED], [direct | ?SHARED]]]
    end).

compare_and_swap_stores_only_over_what_is_expected_test() ->
    with_file(zeros(16), fun(File, _) ->
        {ok, Mem, _} = emmap:open(File, ?SHARED),
        [begin
             ok = emmap:patomic_write_integer(Mem, 8, Old),
             Swaps = Old =:= Expected,
             ?assertEqual({Swaps, Old}, emmap:patomic_cas(Mem, 8, Expected, New)),
             Now = case Swaps of true -> New; false -> Old end,
             ?assertEqual({ok, Now}, emmap:patomic_read_integer(Mem, 8))
         end || Old <- values(), Expected <- values(), New <- [0, ?LEAST, ?MOST]],
        close(Mem)
    end).

integers_lie_in_the_file_in_native_order_test() ->
    with_file(pattern(64), fun(File, Bytes) ->
        {ok, Mem, _} = emmap:open(File, ?SHARED),
        [begin
             <<_:Off/binary, Value:64/signed-native, _/binary>> = Bytes,
             ?assertEqual({ok, Value}, emmap:patomic_read_integer(Mem, Off))
         end || Off <- [0, 8, 16, 48, 56]],
        ok = emmap:patomic_write_integer(Mem, 56, -2),
        ?assertEqual({ok, <<(binary:part(Bytes, 0, 56))/binary, (-2):64/native>>},
                     file:read_file(File)),
        close(Mem)
    end).

%% The nine calls, with sound operands.
calls() ->
    [fun(Mem, Off) -> emmap:Name(Mem, Off, 1) end || {Name, _} <- operations()]
        ++ [fun(Mem, Off) -> emmap:patomic_write_integer(Mem, Off, 1) end,
            fun(Mem, Off) -> emmap:patomic_cas(Mem, Off, 0, 1) end,
            fun emmap:patomic_read_integer/2].

off_an_8_byte_boundary_of_the_file_is_alignment_test() ->
    with_file(pattern(5000), fun(File, Bytes) ->
        [begin
             {ok, Mem, _} = emmap:open(File, Base, 0, Options),
             [?assertEqual({error, alignment}, Call(Mem, Off))
              || Call <- calls(), Off <- lists:seq(0, 40), (Base + Off) rem 8 =/= 0],
             close(Mem)
         end || Base <- [0, 1, 100, 4099], Options <- [?SHARED, [write], [nolock | ?SHARED]]],
        ?assertEqual({ok, Bytes}, file:read_file(File)),
        {ok, Mem, _} = emmap:open(File, 4, 0, ?SHARED),
        <<_:8/binary, Value:64/signed-native, _/binary>> = Bytes,
        ?assertEqual({ok, Value}, emmap:patomic_add(Mem, 4, 1)),
        close(Mem)
    end).

past_the_end_is_badarg_test() ->
    with_file(pattern(5001), fun(File, Bytes) ->
        [begin
             {ok, Mem, _} = emmap:open(File, Options),
             [badarg(2, "the data reaches past the end", fun() -> Call(Mem, Off) end)
              || Call <- calls(), Off <- [5000, 5008, 8192, 1 bsl 40, (1 bsl 62)]],
             close(Mem)
         end || Options <- [?SHARED, [extend | ?SHARED], [write]]],
        ?assertEqual({ok, Bytes}, file:read_file(File))
    end).

impossible_places_are_einval_test() ->
    with_file(pattern(64), fun(File, Bytes) ->
        {ok, Mem, _} = emmap:open(File, ?SHARED),
        [?assertEqual({error, einval}, Call(Mem, Off))
         || Call <- calls(), Off <- [-1, -8, 1 bsl 63, (1 bsl 64) - 8, 1 bsl 64, -(1 bsl 70)]],
        ?assertEqual({ok, Bytes}, file:read_file(File)),
        close(Mem)
    end).

values_beyond_64_bits_are_badarg_test() ->
    with_file(pattern(64), fun(File, Bytes) ->
        {ok, Mem, _} = emmap:open(File, ?SHARED),
        [begin
             [badarg(3, "not an integer of 64 bits", fun() -> emmap:Name(Mem, 8, Bad) end)
              || Name <- [patomic_write_integer | [Name || {Name, _} <- operations()]]],
             badarg(3, "not an integer of 64 bits", fun() -> emmap:patomic_cas(Mem, 8, Bad, 1) end),
             badarg(4, "not an integer of 64 bits", fun() -> emmap:patomic_cas(Mem, 8, 1, Bad) end)
         end || Bad <- [?MOST + 1, ?LEAST - 1, (1 bsl 64) - 1, 1 bsl 64, -(1 bsl 100), 1.0, foo,
                        <<1:64>>, "1"]],
        ?assertEqual({ok, Bytes}, file:read_file(File)),
        close(Mem)
    end).

a_map_for_reading_only_reads_them_test() ->
    with_file(<<1:64/native, 7:64/native>>, fun(File, Bytes) ->
        [begin
             {ok, Mem, _} = emmap:open(File, Options),
             [Read | Changes] = lists:reverse(calls()),
             [?assertEqual({error, eacces}, Change(Mem, 8)) || Change <- Changes],
             ?assertEqual({ok, 7}, Read(Mem, 8)),
             close(Mem)
         end || Options <- [[], [shared], [private, direct]]],
        ?assertEqual({ok, Bytes}, file:read_file(File))
    end).

after_close_they_say_closed_test() ->
    with_file(zeros(64), fun(File, Bytes) ->
        {ok, Mem, _} = emmap:open(File, ?SHARED),
        close(Mem),
        [?assertEqual({error, closed}, Call(Mem, Off)) || Call <- calls(), Off <- [0, 3, 64, 1000]],
        ?assertEqual({ok, Bytes}, file:read_file(File))
    end).

a_file_of_others_that_grew_is_seen_test() ->
    with_file(zeros(8), fun(File, _) ->
        {ok, Mem, _} = emmap:open(File, ?SHARED),
        emmap_test_lib:write_at(File, 800, <<5:64/native>>),
        ?assertEqual({ok, 5}, emmap:patomic_sub(Mem, 800, 6)),
        ?assertEqual({ok, -1}, emmap:patomic_read_integer(Mem, 800)),
        close(Mem)
    end).

a_truncated_file_is_truncated_test() ->
    with_file(zeros(20000), fun(File, _) ->
        [begin
             emmap_test_lib:truncate(File, 20000),
             {ok, Mem, _} = emmap:open(File, ?SHARED),
             emmap_test_lib:truncate(File, 100),
             ?assertEqual({error, truncated}, Call(Mem, 16000)),
             close(Mem)
         end || Call <- calls()]
    end).

%% The page was found in memory a moment ago: the call meets the fault where it may not wait.
a_file_truncated_just_now_is_truncated_test() ->
    with_file(zeros(20000), fun(File, _) ->
        [begin
             emmap_test_lib:truncate(File, 20000),
             {ok, Mem, _} = emmap:open(File, ?SHARED),
             [{ok, _} = emmap:patomic_read_integer(Mem, 16000) || _ <- [1, 2]],
             emmap_test_lib:truncate(File, 100),
             ?assertEqual({error, truncated}, Call(Mem, 16000)),
             close(Mem)
         end || Call <- calls()]
    end).

%%--------------------------------------------------------------------------------- simple counters

counters_count_set_and_read_test() ->
    with_dir(fun(Dir) ->
        C = emmap:open_counters(filename:join(Dir, "c"), 3),
        ?assertMatch({_, 3}, C),
        ?assertEqual([{ok, 0}, {ok, 1}, {ok, 11}, {ok, 10}, {ok, 5}],
                     [emmap:inc_counter(C, 1), emmap:inc_counter(C, 1, 10), emmap:dec_counter(C, 1),
                      emmap:dec_counter(C, 1, 5), emmap:read_counter(C, 1)]),
        ?assertEqual([{ok, 5}, {ok, ?MOST}, {ok, ?LEAST}, {ok, ?LEAST}],
                     [emmap:set_counter(C, 1, ?MOST), emmap:inc_counter(C, 1),
                      emmap:read_counter(C, 1), emmap:set_counter(C, 1, 0)]),
        ?assertEqual([{ok, 0}, {ok, 0}], [emmap:read_counter(C, I) || I <- [0, 2]]),
        ?assertEqual([ok, ok], [emmap:close_counters(C), emmap:close_counters(C)]),
        ?assertEqual([{error, closed}], lists:usort(
            [emmap:inc_counter(C, 0), emmap:inc_counter(C, 0, 5), emmap:dec_counter(C, 0),
             emmap:dec_counter(C, 0, 5), emmap:set_counter(C, 0, 1), emmap:read_counter(C, 0)]))
    end).

an_index_out_of_range_is_badarg_test() ->
    with_dir(fun(Dir) ->
        File = filename:join(Dir, "c"),
        C = emmap:open_counters(File, 3),
        {ok, Before} = file:read_file(File),
        [badarg(2, "there is no such counter", fun() -> Call(C, Bad) end)
         || Bad <- [3, -1, 4, 1 bsl 60, 1 bsl 64, 1.0, foo, "0"],
            Call <- [fun emmap:inc_counter/2, fun emmap:dec_counter/2, fun emmap:read_counter/2,
                     fun(X, I) -> emmap:inc_counter(X, I, 1) end,
                     fun(X, I) -> emmap:dec_counter(X, I, 1) end,
                     fun(X, I) -> emmap:set_counter(X, I, 1) end]],
        [badarg(3, "not an integer of 64 bits", fun() -> Call(C, 0, Bad) end)
         || Bad <- [1 bsl 63, ?LEAST - 1, 1.0, foo],
            Call <- [fun emmap:inc_counter/3, fun emmap:dec_counter/3, fun emmap:set_counter/3]],
        ?assertEqual({ok, Before}, file:read_file(File)),
        ok = emmap:close_counters(C)
    end).

close(Mem) ->
    ?assertEqual(ok, emmap:close(Mem)).
