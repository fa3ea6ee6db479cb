%% Counters in a file: what each call answers and does, what is refused, what opens.
-module(emmap_counters_tests).

-include_lib("eunit/include/eunit.hrl").
-include_lib("kernel/include/file.hrl").

-import(emmap_test_lib, [with_dir/1, new_file/3, pattern/1, zeros/1, badarg/3, snapshot/1, truncate/2,
                         together/1, in_vm/1]).

-import(emmap_queue_test_lib, [logged/1]).

-export([a_cut_file_is_truncated/0, resident_calls_stay_on_their_scheduler/0]).

-define(LEAST, -(1 bsl 63)).
-define(MOST, ((1 bsl 63) - 1)).
-define(MOST_UNSIGNED, ((1 bsl 64) - 1)).

with_counters(What, Options, Fun) ->
    with_dir(fun(Dir) ->
        File = filename:join(Dir, "counters"),
        C = open(File, What, Options),
        Result = Fun(C, File),
        ok = emmap_counters:close(C),
        Result
    end).

open(File, What) ->
    open(File, What, []).

open(File, What, Options) ->
    {ok, C} = emmap_counters:open(File, What, Options),
    C.

%% Name, and sound arguments behind the index.
changes() ->
    [{put, [5]}, {add, [5]}, {sub, [5]}, {add_get, [5]}, {sub_get, [5]}, {exchange, [5]}, {max, [5]},
     {min, [5]}, {compare_exchange, [0, 5]}, {allocate, [5]}].

calls() ->
    [{get, []} | changes()].

call(Name, Args) ->
    apply(emmap_counters, Name, Args).

%%-------------------------------------------------------------------------------- what they do

each_call_does_what_it_says_test() ->
    [with_counters(What, Options, fun(C, _) -> each_call(C, Index) end)
     || {What, Index} <- [{3, 1}, {3, 3}, {[a, b, c], c}, {[a, b, c], <<"b">>}, {["a", "b"], "b"}],
        Options <- [[], [{signed, false}], [padded]]].

each_call(C, I) ->
    Steps = [{0, get, []}, {ok, put, [7]}, {7, get, []}, {ok, add, [3]}, {10, get, []}, {ok, sub, [4]},
             {6, get, []}, {7, add_get, [1]}, {5, sub_get, [2]}, {5, exchange, [9]}, {9, get, []},
             {9, max, [8]}, {9, max, [10]}, {10, get, []}, {10, min, [11]}, {10, min, [2]}, {2, get, []},
             {2, compare_exchange, [3, 4]}, {2, get, []}, {ok, compare_exchange, [2, 4]}, {4, get, []},
             {4, allocate, [10]}, {14, allocate, [1]}, {15, get, []}, {ok, add, [-15]}, {0, get, []}],
    [?assertEqual({Name, Args, Answer}, {Name, Args, call(Name, [C, I | Args])})
     || {Answer, Name, Args} <- Steps],
    Others = [Value || {Key, Value} <- maps:to_list(emmap_counters:to_map(C)), Key =/= I],
    ?assertEqual([0], lists:usort(Others)).

values_wrap_and_are_signed_or_not_test() ->
    with_counters(1, [], fun(C, _) ->
        ok = emmap_counters:put(C, 1, ?MOST),
        ?assertEqual([?LEAST, ?MOST, ?MOST - 1, ?MOST - 1, ?MOST - 1, 0],
                     [emmap_counters:add_get(C, 1, 1), emmap_counters:sub_get(C, 1, 1),
                      emmap_counters:sub_get(C, 1, ?LEAST - ?MOST), emmap_counters:max(C, 1, -1),
                      emmap_counters:min(C, 1, 0), emmap_counters:get(C, 1)])
    end),
    with_counters(1, [{signed, false}], fun(C, _) ->
        ?assertEqual([?MOST_UNSIGNED, 0, 0, ?MOST_UNSIGNED, 5],
                     [emmap_counters:sub_get(C, 1, 1), emmap_counters:add_get(C, 1, 1),
                      emmap_counters:max(C, 1, ?MOST_UNSIGNED), emmap_counters:min(C, 1, 5),
                      emmap_counters:get(C, 1)])
    end).

striped_counters_add_up_test() ->
    with_counters(2, [striped], fun(C, _) ->
        together([fun() -> [ok = emmap_counters:add(C, 2, 3) || _ <- lists:seq(1, 1000)] end
                  || _ <- lists:seq(1, 8)]),
        ok = emmap_counters:sub(C, 2, 1),
        ?assertEqual({0, 23999}, {emmap_counters:get(C, 1), emmap_counters:get(C, 2)}),
        ok = emmap_counters:put(C, 2, -4),
        ?assertEqual(-4, emmap_counters:get(C, 2)),
        ?assertMatch(#{striped := true, padded := false}, emmap_counters:info(C)),
        [badarg(1, "the counters are striped", fun() -> call(Name, [C, 1 | Args]) end)
         || {Name, Args} <- calls(), not lists:member(Name, [get, put, add, sub, allocate])],
        ?assertError({emmap, enotsup}, emmap_counters:allocate(C, 1, 1))
    end).

names_are_found_however_they_are_written_test() ->
    Long = lists:duplicate(255, $x),
    Names = ["plain", "h\x{e4}ndler", "\x{1F600}\x{442}", lists:duplicate(127, 16#e4), Long, "with space"],
    with_counters(Names, [], fun(C, _) ->
        [begin
             Text = unicode:characters_to_binary(Name),
             [ok = emmap_counters:add(C, As, 1)
              || As <- [Name, Text, list_to_atom(Name), list_to_atom(Name)]],
             ?assertEqual({Name, 4}, {Name, emmap_counters:get(C, I)})
         end || {I, Name} <- lists:zip(lists:seq(1, length(Names)), Names)],
        ?assertEqual([unicode:characters_to_binary(Name) || Name <- Names], emmap_counters:names(C)),
        [badarg(2, "there is no such counter", fun() -> emmap_counters:add(C, Bad, 1) end)
         || Bad <- [none, none, <<"none">>, "none", "", <<>>, '', [Long, $x], Long ++ "x", [$a, -1],
                    "plain" ++ $x, [16#D800], [16#110000], <<255>>, list_to_binary(["plain", 0])]]
    end).

numbers_are_given_once_test() ->
    [with_counters([ids], Options, fun(C, _) ->
         Runs = together([fun() -> [emmap_counters:allocate(C, ids, N) || _ <- lists:seq(1, 2000)] end
                          || N <- [1, 2, 3, 7]]),
         Given = lists:append([lists:seq(First, First + N - 1)
                               || {N, Firsts} <- lists:zip([1, 2, 3, 7], Runs), First <- Firsts]),
         ?assertEqual(lists:seq(0, 25999), lists:sort(Given)),
         [?assertEqual(Firsts, lists:sort(Firsts)) || Firsts <- Runs],
         ?assertEqual(26000, emmap_counters:get(C, ids))
     end) || Options <- [[], [{signed, false}]]].

%% More of them than a handle remembers, numbers and names, each found again and none for another.
many_are_found_by_number_and_by_name_test() ->
    Count = 3000,
    Names = [binary_to_atom(<<"n", (integer_to_binary(I))/binary>>) || I <- lists:seq(1, Count)],
    with_counters(Names, [], fun(C, _) ->
        Each = lists:zip(lists:seq(1, Count), Names),
        [begin
             ok = emmap_counters:add(C, I, I),
             ok = emmap_counters:add(C, Name, 1),
             ok = emmap_counters:add(C, atom_to_binary(Name), 1 bsl 20)
         end || _ <- [1, 2], {I, Name} <- Each],
        [?assertEqual({I, 2 * (I + 1 + (1 bsl 20))}, {I, emmap_counters:get(C, Key)})
         || {I, Name} <- Each, Key <- [I, Name, atom_to_binary(Name)]],
        ?assertEqual(maps:from_list([{atom_to_binary(Name), 2 * (I + 1 + (1 bsl 20))} || {I, Name} <- Each]),
                     emmap_counters:to_map(C)),
        [badarg(2, "there is no such counter", fun() -> emmap_counters:get(C, Key) end)
         || _ <- [1, 2], Key <- [0, Count + 1, (1 bsl 27) - 1, 1 bsl 27, 1 bsl 32, (1 bsl 32) + 1, 1 bsl 59, 1 bsl 64,
                                 -1, n0, <<"n0">>, list_to_binary(lists:duplicate(256, $n))]]
    end).

%% The kernel may have dropped what it could not write: another OS process has seen it, and says so in the file.
nothing_is_given_after_a_failed_sync_of_another_test() ->
    with_counters(2, [], fun(C, File) ->
        [_, First] = [emmap_counters:allocate(C, 1, 10) || _ <- [1, 2]], % the second one waits for nothing
        #{sync_error := undefined} = emmap_counters:info(C),
        note_failure(File, 5),
        [?assertError({emmap, {sync_failed, eio}}, emmap_counters:allocate(C, Ix, 1)) || Ix <- [1, 2], _ <- [1, 2]],
        ?assertMatch(#{sync_error := eio}, emmap_counters:info(C)),
        [begin
             note_failure(File, Damage), % no errno
             ?assertError({emmap, {sync_failed, eio}}, emmap_counters:allocate(C, 1, 1))
         end || Damage <- [4096, 9999, 10002, 1 bsl 40, ?MOST_UNSIGNED]],
        ok = emmap_counters:add(C, 2, 1),
        Anew = open(File, 2),
        [?assert(emmap_counters:allocate(Of, 1, 1) >= First + 10) || Of <- [C, Anew]],
        ?assertMatch(#{sync_error := undefined}, emmap_counters:info(C)),
        ok = emmap_counters:close(Anew)
    end).

note_failure(File, Errno) ->
    {ok, Fd} = file:open(File, [raw, binary, read, write]),
    ok = file:pwrite(Fd, 568, <<Errno:64/little>>), % docs/format/counters.md: sync_error
    ok = file:close(Fd).

numbers_end_test() ->
    [with_counters(1, Options, fun(C, _) ->
         ok = emmap_counters:put(C, 1, Most - 10),
         ?assertError({emmap, eoverflow}, emmap_counters:allocate(C, 1, 11)),
         ?assertError({emmap, eoverflow}, emmap_counters:allocate(C, 1, ?MOST_UNSIGNED)),
         ?assertEqual(Most - 10, emmap_counters:allocate(C, 1, 10)),
         ?assertError({emmap, eoverflow}, emmap_counters:allocate(C, 1, 1)),
         ?assertEqual(Most, emmap_counters:get(C, 1))
     end) || {Most, Options} <- [{?MOST, []}, {?MOST_UNSIGNED, [{signed, false}]}]].

all_of_them_at_once_test() ->
    with_counters(3, [], fun(C, File) ->
        ok = emmap_counters:put(C, 2, -5),
        ?assertEqual(#{1 => 0, 2 => -5, 3 => 0}, emmap_counters:to_map(C)),
        ?assertEqual([], emmap_counters:names(C)),
        #{memory := Memory, file := Name} = Info = emmap_counters:info(C),
        ?assertEqual(filelib:file_size(File), Memory),
        ?assertEqual(filename:basename(File), filename:basename(binary_to_list(Name))),
        ?assertEqual(#{size => 3, max => ?MOST, min => ?LEAST, access => read_write, names => false,
                       signed => true, padded => false, striped => false, simple => false,
                       linked => true, sync_error => undefined},
                     maps:without([memory, file], Info)),
        ok = file:delete(File),
        ?assertMatch(#{linked := false}, emmap_counters:info(C))
    end),
    with_counters([a, {b, #{help => "h\x{e4}", unit => <<"s">>, kind => counter}}],
                  [padded, {signed, false}], fun(C, File) ->
        ok = emmap_counters:put(C, b, ?MOST_UNSIGNED),
        ?assertEqual(#{<<"a">> => 0, <<"b">> => ?MOST_UNSIGNED}, emmap_counters:to_map(C)),
        ?assertMatch(#{size := 2, max := ?MOST_UNSIGNED, min := 0, names := true, signed := false,
                       padded := true}, emmap_counters:info(C)),
        R = open(File, 0, [read]),
        ?assertMatch(#{access := read, size := 2}, emmap_counters:info(R)),
        ?assertEqual({ok, [{<<"a">>, <<>>, <<>>, gauge}, {<<"b">>, <<"s">>, <<"h\x{e4}"/utf8>>, counter}]},
                     emmap_nif:counters_names(R))
    end).

%%------------------------------------------------------------------------------ what is refused

an_index_that_is_none_is_badarg_test() ->
    [with_counters(What, [], fun(C, File) ->
         Before = snapshot(File),
         [badarg(2, Words, fun() -> call(Name, [C, Bad | Args]) end)
          || {Name, Args} <- calls(),
             {Words, Bads} <- [{"there is no such counter",
                                [0, 3, -1, 1 bsl 32, 1 bsl 63, 1 bsl 64, -(1 bsl 70), foo, <<"foo">>,
                                 "foo", [], [a]]},
                               {"neither the number nor the name",
                                [1.0, {a}, #{}, self(), make_ref(), <<1:3>>, fun() -> 1 end]}],
             Bad <- Bads],
         ?assertEqual(Before, snapshot(File))
     end) || What <- [2, [a, b]]].

of_two_mistakes_the_first_is_told_test() ->
    [with_counters(2, Options, fun(C, _) ->
         [badarg(2, "there is no such counter", fun() -> call(Name, [C, Index | lists:map(fun(_) -> 1.0 end, Args)]) end)
          || {Name, Args} <- changes(), Options =/= [striped] orelse lists:member(Name, [put, add, sub]),
             Index <- [0, 3, -1, 1 bsl 64, foo]]
     end) || Options <- [[], [{signed, false}], [striped]]].

a_value_that_is_none_is_badarg_test() ->
    Never = [1.0, foo, "1", <<1:64>>, 1 bsl 100, -(1 bsl 100)],
    Signed = "not a signed integer of 64 bits",
    Unsigned = "not an unsigned integer of 64 bits",
    [with_counters(1, Options, fun(C, File) ->
         Before = snapshot(File),
         [badarg(3, Words, fun() -> emmap_counters:Name(C, 1, Bad) end)
          || Name <- [put, exchange, max, min], Bad <- Bads ++ Never],
         [badarg(3, Words, fun() -> emmap_counters:compare_exchange(C, 1, Bad, 0) end)
          || Bad <- Bads ++ Never],
         [badarg(4, Words, fun() -> emmap_counters:compare_exchange(C, 1, 0, Bad) end)
          || Bad <- Bads ++ Never],
         [badarg(3, "not an integer of 64 bits", fun() -> emmap_counters:Name(C, 1, Bad) end)
          || {Names, Beyond} <- [{[add, add_get], [?MOST_UNSIGNED + 1, ?LEAST - 1 | Never]},
                                 {[sub, sub_get], [?MOST + 2, -?MOST_UNSIGNED - 1, 1.0, 1 bsl 100]}],
             Name <- Names, Bad <- Beyond],
         [?assertError(badarith, emmap_counters:Name(C, 1, Bad)) || Name <- [sub, sub_get], Bad <- [foo, "1", <<1:64>>]],
         [badarg(3, "not a positive integer of 64 bits", fun() -> emmap_counters:allocate(C, 1, Bad) end)
          || Bad <- [0, -1, ?MOST_UNSIGNED + 1 | Never]],
         ?assertEqual(Before, snapshot(File))
     end) || {Options, Words, Bads} <- [{[], Signed, [?MOST + 1, ?LEAST - 1]},
                                        {[{signed, false}], Unsigned, [-1, ?LEAST, ?MOST_UNSIGNED + 1]}]].

what_is_no_handle_is_badarg_test() ->
    with_dir(fun(Dir) ->
        {ok, #file_descriptor{data = Other}, _} =
            emmap:open(new_file(Dir, "file", zeros(100)), [write, shared]),
        [badarg(1, "not what emmap_counters:open answers", fun() -> call(Name, [Bad | Args]) end)
         || {Name, Args} <- [{Name, [1 | Args]} || {Name, Args} <- calls()]
                ++ [{Name, []} || Name <- [close, sync, info, names, to_map]],
            Bad <- [foo, 1, make_ref(), counters:new(1, []), Other, {ok, 1}]]
    end).

what_cannot_be_opened_is_badarg_test() ->
    with_dir(fun(Dir) ->
        File = filename:join(Dir, "counters"),
        Try = fun(Arg, Words, Args) ->
            badarg(Arg, Words, fun() -> apply(emmap_counters, open, Args) end)
        end,
        [Try(1, "not a file name", [Bad, 1 | Rest]) || Bad <- [1, {}, self()], Rest <- [[], [[]]]],
        Try(1, "a file name cannot contain a NUL", ["a\0b", 1]),
        [Try(2, "not a number of counters, or a list of names", [File, Bad | Rest])
         || Bad <- [-1, 1 bsl 64, 1.0, foo, <<"a">>, "a", {a, #{}}, #{}, [a | b]], Rest <- [[], [[]]]],
        [Try(2, "not a name, of 1 to 255 bytes", [File, [a, Bad]])
         || Bad <- [1, "", <<>>, '', 1.0, {1, #{}}, {b, 1}, {b, []}, {b, b, b}, <<255>>, <<"a", 0>>, "a\0b",
                    [16#D800], [-1], lists:duplicate(256, $x), list_to_atom(lists:duplicate(128, 16#e4)),
                    {lists:duplicate(128, 16#e4), #{}}, ["a", <<"b">>], [<<"b">>], ["b"], [$b | <<"c">>]]],
        [Try(2, "the name a is given twice", [File, Twice])
         || Twice <- [[a, b, a], [a, "a"], [<<"a">>, {a, #{}}]]],
        [Try(2, "the value is impossible in {" ++ Word, [File, [{a, Map}]])
         || {Word, Map} <- [{"help", #{help => lists:duplicate(624, $x)}}, {"help", #{help => 1}},
                            {"unit", #{unit => lists:duplicate(64, $x)}}, {"unit", #{unit => <<0>>}},
                            {"help", #{help => undefined}}, {"unit", #{unit => none}}, {"unit", #{unit => ''}},
                            {"kind", #{kind => timer}}]],
        Try(2, "unknown option {labels,[]}", [File, [{a, #{labels => []}}]]),
        [Try(3, "unknown option", [File, 1, [Bad]]) || Bad <- [foo, {foo, 1}, 1, {a, b, c}, "read"]],
        [Try(3, "the value is impossible", [File, 1, [Bad]])
         || Bad <- [{signed, 1}, {read, 'maybe'}, {mode, 0}, {mode, 8#10000}, mode, {striped, []}]],
        [Try(3, "not a proper list", [File, 1, Bad]) || Bad <- [#{}, foo, [read | foo]]],
        ?assertEqual({ok, []}, file:list_dir(Dir))
    end).

texts_as_long_as_they_may_be_are_kept_test() ->
    Named = {lists:duplicate(255, $n), #{unit => lists:duplicate(63, $u), help => lists:duplicate(623, $h)}},
    with_counters([Named], [], fun(C, File) ->
        ok = emmap_counters:close(C),
        Again = open(File, 0),
        ?assertEqual({ok, [{binary:copy(<<"n">>, 255), binary:copy(<<"u">>, 63), binary:copy(<<"h">>, 623),
                            gauge}]}, emmap_nif:counters_names(Again))
    end).

of_a_handle_for_reading_nothing_is_changed_test() ->
    [with_counters(What, Options, fun(C, File) ->
         ok = emmap_counters:put(C, 1, 7),
         ok = emmap_counters:close(C),
         Before = snapshot(File),
         R = open(File, Asked, [read | Options]),
         [badarg(1, "the counters were opened for reading only", fun() -> call(Name, [R, 1 | Args]) end)
          || {Name, Args} <- changes(),
             Options =/= [striped] orelse not lists:member(Name, [add_get, sub_get])],
         ?assertEqual({7, 2}, {emmap_counters:get(R, 1), map_size(emmap_counters:to_map(R))}),
         ok = emmap_counters:close(R),
         ?assertEqual(Before, snapshot(File))
     end) || {What, Options} <- [{2, []}, {[a, b], []}, {2, [striped]}, {2, [{signed, false}]}],
             Asked <- [0, What]].

after_close_they_say_closed_test() ->
    [with_counters(What, [], fun(C, _) ->
         ok = emmap_counters:add(C, I, 1),
         ?assertEqual([ok, ok], [emmap_counters:close(C), emmap_counters:close(C)]),
         [?assertError({emmap, closed}, call(Name, [C, Index | Args]))
          || {Name, Args} <- calls(), Index <- [1, I]],
         [?assertError({emmap, closed}, emmap_counters:Name(C)) || Name <- [info, names, to_map]],
         ?assertEqual({error, closed}, emmap_counters:sync(C))
     end) || {What, I} <- [{2, 2}, {[a, b], a}]].

a_lost_name_is_told_once_test() ->
    [with_counters([a], [], fun(C, File) ->
         Tell = fun(F) ->
                    {_, Logged} = logged(F),
                    [Text || {warning, Text} <- Logged, string:find(Text, "has lost its name") =/= nomatch]
                end,
         ?assertEqual([], Tell(fun() -> ok = emmap_counters:sync(C), emmap_counters:info(C) end)),
         ok = file:rename(File, File ++ ".moved"),
         [Text] = Tell(fun() -> emmap_counters:First(C) end),
         ?assertEqual([], Tell(fun() -> [emmap_counters:Name(C) || Name <- [info, sync, info]] end)),
         ?assertMatch("emmap_counters: " ++ _, Text),
         ?assertNotEqual(nomatch, string:find(Text, File)),
         ok = file:rename(File ++ ".moved", File),
         ?assertMatch(#{linked := true}, emmap_counters:info(C))
     end) || First <- [sync, info]].

a_cut_file_is_truncated_test_() ->
    {timeout, 120, fun() -> in_vm(fun ?MODULE:a_cut_file_is_truncated/0) end}.

%% The VM lives. Once where the page was found in memory a moment ago, once where it was not.
a_cut_file_is_truncated() ->
    [with_counters(1000, Options, fun(C, File) ->
         [ok = emmap_counters:put(C, 900, 1) || _ <- Before],
         truncate(File, 4096 + 100),
         ?assertError({emmap, truncated}, call(Name, [C, 900 | Args])),
         _ = catch emmap_counters:info(C), % which asks for the size
         ?assertError({emmap, truncated}, call(Name, [C, 900 | Args])),
         ok = emmap_counters:add(C, 1, 1)
     end) || {Name, Args} <- calls(), Before <- [[], [1, 2]], Options <- [[], [padded], [{signed, false}]]],
    [with_counters(What, [], fun(C, File) ->
         truncate(File, Size),
         [?assertEqual({Name, truncated}, {Name, of_all(Name, C)}) || _ <- [1, 2]]
     end) || Name <- [info, names, to_map, prometheus, sync], What <- [3, [a, b, c]], Size <- [0, 100, 600, 4096]],
    with_dir(fun(Dir) -> % of 2.1.3
        File = new_file(Dir, "old", <<"EMMAP01\n", 3:64/little, 1:64/little, -2:64/little, 3:64/little>>),
        C = open(File, 3),
        truncate(File, 24),
        [?assertEqual({Name, truncated}, {Name, of_all(Name, C)})
         || Name <- [sync, info, names, to_map, prometheus]]
    end),
    ok.

of_all(Name, C) ->
    try emmap_counters:Name(C) of
        {error, Reason} -> Reason
    catch
        error:{emmap, Reason} -> Reason
    end.

%%--------------------------------------------------------------------------------- what opens

values_are_there_again_test() ->
    [with_counters(What, Options, fun(C, File) ->
         ok = emmap_counters:put(C, 1, 11),
         ok = emmap_counters:add(C, 2, 12),
         ok = emmap_counters:sync(C),
         Values = emmap_counters:to_map(C),
         ok = emmap_counters:close(C),
         [begin
              Again = open(File, Asked, Some),
              ?assertEqual(Values, emmap_counters:to_map(Again)),
              ok = emmap_counters:close(Again)
          end || {Asked, Some} <- [{What, Options}, {0, []}, {[], []}, {0, [read]}]]
     end) || {What, Options} <- [{3, []}, {[a, b, c], []}, {3, [striped]}, {[a, b, c], [striped]},
                                 {3, [padded, {signed, false}]}]].

a_missing_file_is_enoent_or_made_test() ->
    with_dir(fun(Dir) ->
        File = filename:join(Dir, "counters"),
        [?assertEqual({error, enoent}, apply(emmap_counters, open, [File | Args]))
         || Args <- [[0], [[]], [0, []], [[], [striped]], [3, [read]], [[a], [read]]]],
        ?assertEqual({error, enoent}, emmap_counters:open(filename:join(File, "none"), 1)),
        ?assertEqual({ok, []}, file:list_dir(Dir)),
        {ok, C} = emmap_counters:open(File, 1, [{mode, 8#640}, {mode, 8#777}]),
        {_, _, Mode} = snapshot(File),
        ?assertEqual(8#640, Mode band 8#777),
        ok = emmap_counters:close(C)
    end).

a_file_is_extended_while_it_is_used_test() ->
    with_counters(2, [], fun(C, File) ->
        ok = emmap_counters:put(C, 2, 22),
        badarg(2, "there is no such counter", fun() -> emmap_counters:get(C, 200) end),
        More = open(File, 200),
        ok = emmap_counters:put(More, 200, 7),
        ?assertEqual({7, 22}, {emmap_counters:get(C, 200), emmap_counters:get(More, 2)}),
        Most = open(File, 201),
        ok = emmap_counters:add(C, 201, 1),
        ?assertEqual({1, 1}, {emmap_counters:get(More, 201), emmap_counters:get(Most, 201)}),
        ?assertMatch(#{size := 201}, emmap_counters:info(C)),
        ?assertEqual({error, differs}, emmap_counters:open(File, 200)),
        ?assertEqual({error, eacces}, emmap_counters:open(File, 202, [read]))
    end),
    with_counters([a, b], [], fun(C, File) ->
        badarg(2, "there is no such counter", fun() -> emmap_counters:get(C, c) end),
        More = open(File, [b, c, a]),
        ok = emmap_counters:put(More, c, 3),
        ?assertEqual({3, 3, 3}, {emmap_counters:get(C, c), emmap_counters:get(C, "c"), emmap_counters:get(C, 3)}),
        _ = open(File, [d, c, b, a]),
        [ok = emmap_counters:add(H, <<"d">>, 2) || H <- [C, More]],
        ?assertEqual(#{<<"a">> => 0, <<"b">> => 0, <<"c">> => 3, <<"d">> => 4}, emmap_counters:to_map(C)),
        ?assertEqual([<<"a">>, <<"b">>, <<"c">>, <<"d">>], emmap_counters:names(C)),
        [?assertEqual({error, differs}, emmap_counters:open(File, Names)) || Names <- [[a, b, c], [a, b, c, e], 4]]
    end).

other_options_are_refused_test() ->
    [with_counters(What, Options, fun(_, File) ->
         Before = snapshot(File),
         [?assertEqual({error, differs}, emmap_counters:open(File, Asked, Others))
          || Others <- [[], [{signed, false}], [padded], [striped], [striped, padded]],
             Asked <- [What], lists:sort(Others) =/= lists:sort(Options)],
         ?assertEqual(Before, snapshot(File))
     end) || What <- [2, [a, b]], Options <- [[], [{signed, false}], [padded], [striped]]].

a_file_of_another_kind_is_refused_test() ->
    with_dir(fun(Dir) ->
        [begin
             File = new_file(Dir, "foreign", Bytes),
             Before = snapshot(File),
             [?assertEqual({error, foreign}, emmap_counters:open(File, What, Options))
              || What <- [0, 1, 5, [], [a]], Options <- [[], [read]]],
             ?assertEqual(Before, snapshot(File))
         end || Bytes <- [pattern(5000), zeros(8192), <<"EMMAPCN">>, <<"x">>]],
        {ok, Q} = emmap_queue:open(filename:join(Dir, "queue")),
        ?assertEqual({error, foreign}, emmap_counters:open(filename:join(Dir, "queue"), 1)),
        ok = emmap_queue:close(Q)
    end).

a_file_of_2_1_3_opens_and_stays_what_it_is_test() ->
    with_dir(fun(Dir) ->
        File = new_file(Dir, "old", <<"EMMAP01\n", 3:64/little, 1:64/little, -2:64/little, 3:64/little>>),
        [begin
             C = open(File, What),
             ?assertMatch(#{size := 3, simple := true, names := false, signed := true},
                          emmap_counters:info(C)),
             ?assertEqual([#{1 => 1, 2 => -2, 3 => 3}, []],
                          [emmap_counters:to_map(C), emmap_counters:names(C)]),
             ?assertEqual([-2, 4, ok, 4],
                          [emmap_counters:exchange(C, 2, 9), emmap_counters:add_get(C, 3, 1),
                           emmap_counters:compare_exchange(C, 2, 9, -2), emmap_counters:max(C, 3, 3)]),
             badarg(2, "there is no such counter", fun() -> emmap_counters:get(C, 4) end),
             badarg(2, "there is no such counter", fun() -> emmap_counters:get(C, a) end),
             ?assertError({emmap, enotsup}, emmap_counters:allocate(C, 1, 1)),
             Old = emmap:open_counters(File, 3),
             ?assertEqual({ok, 4}, emmap:inc_counter(Old, 2, -1)),
             ?assertEqual(3, emmap_counters:get(C, 3)),
             ok = emmap:close_counters(Old),
             ok = emmap_counters:close(C)
         end || What <- [0, [], 3]],
        Before = snapshot(File),
        ?assertEqual([{error, differs}, {error, enotsup}, {error, differs}, {error, differs}],
                     [emmap_counters:open(File, 2), emmap_counters:open(File, 4),
                      emmap_counters:open(File, [a, b, c]), emmap_counters:open(File, 3, [{signed, false}])]),
        ?assertEqual(Before, snapshot(File))
    end).

%%------------------------------------------------------------------------------------ the house

what_is_forgotten_is_given_back_test() ->
    emmap_test_lib:nothing_is_left(),
    with_dir(fun(Dir) ->
        emmap_test_lib:alone(fun() ->
            Cs = [open(filename:join(Dir, integer_to_list(N)), [a, b]) || N <- lists:seq(1, 20)],
            ?assertMatch(#{handles := 20}, emmap:stats()),
            [0 = emmap_counters:allocate(C, a, 1) || C <- Cs]
        end),
        emmap_test_lib:nothing_is_left()
    end).

resident_calls_stay_on_their_scheduler_test_() ->
    {timeout, 120, fun() -> in_vm(fun ?MODULE:resident_calls_stay_on_their_scheduler/0) end}.

resident_calls_stay_on_their_scheduler() ->
    with_counters([a, b], [], fun(C, _) ->
        emmap_test_lib:wait_until(fun() -> {_, Dirty} = classes(fun() -> emmap_counters:add(C, a, 1) end), Dirty =:= 0 end),
        [?assertEqual({Name, Index, {1000, 0}},
                      {Name, Index, classes(fun() -> [call(Name, [C, Index | Args]) || _ <- lists:seq(1, 1000)] end)})
         || {Name, Args} <- calls(), Name =/= allocate, Index <- [1, a, <<"a">>, "a"]]
    end),
    ok.

classes(Fun) ->
    #{normal_calls := Normal, dirty_calls := Dirty} = emmap:stats(),
    _ = Fun(),
    #{normal_calls := NowNormal, dirty_calls := NowDirty} = emmap:stats(),
    {NowNormal - Normal, NowDirty - Dirty}.
