%% Files of simple counters: what opens, what is refused and left as it was.
-module(emmap_simple_counters_tests).

-include_lib("eunit/include/eunit.hrl").

-import(emmap_test_lib, [with_dir/1, new_file/3, pattern/1, zeros/1, badarg/3, snapshot/1]).

-export([several_vms_make_a_file_at_once/0, a_counter_survives_kill_9/0]).

%% As version 2.1.3 writes it.
file_of(Values) ->
    <<"EMMAP01\n", (length(Values)):64/little, << <<V:64/little-signed>> || V <- Values >>/binary>>.

a_new_file_has_the_format_of_2_1_3_test() ->
    with_dir(fun(Dir) ->
        [begin
             File = filename:join(Dir, "new" ++ integer_to_list(N)),
             {_, N} = C = open(File, N),
             ?assertEqual({ok, file_of(lists:duplicate(N, 0))}, file:read_file(File)),
             {ok, 0} = emmap:set_counter(C, N - 1, -5),
             ok = emmap:close_counters(C),
             ?assertEqual({ok, file_of(lists:duplicate(N - 1, 0) ++ [-5])}, file:read_file(File))
         end || N <- [1, 2, 10, 1000]],
        ?assertEqual(["new1", "new10", "new1000", "new2"], names(Dir))
    end).

open(File, 1) -> emmap:open_counters(File);
open(File, N) -> emmap:open_counters(File, N).

a_file_of_2_1_3_opens_as_it_is_test() ->
    with_dir(fun(Dir) ->
        Values = [0, 1, -1, (1 bsl 63) - 1, -(1 bsl 63)],
        File = new_file(Dir, "old", file_of(Values)),
        [begin
             {_, 5} = C = emmap:open_counters(File, N),
             ?assertEqual([{ok, V} || V <- Values],
                          [emmap:read_counter(C, I) || I <- lists:seq(0, 4)]),
             ok = emmap:close_counters(C)
         end || N <- [5, 0]],
        ?assertEqual({ok, file_of(Values)}, file:read_file(File))
    end).

count_0_makes_no_file_test() ->
    with_dir(fun(Dir) ->
        ?assertError({emmap, enoent}, emmap:open_counters(filename:join(Dir, "none"), 0)),
        ?assertEqual([], names(Dir))
    end).

another_count_is_refused_test() ->
    with_dir(fun(Dir) ->
        File = new_file(Dir, "five", file_of([1, 2, 3, 4, 5])),
        [refused(File, N, size_mismatch) || N <- [1, 4, 6, 1 bsl 32, 1 bsl 59]],
        Before = snapshot(File),
        ?assertError({emmap, size_mismatch}, emmap:open_counters(File)),
        ?assertEqual(Before, snapshot(File))
    end).

a_file_truncated_at_any_length_is_refused_test() ->
    with_dir(fun(Dir) ->
        Whole = file_of([1, 2, 3]),
        [begin
             File = new_file(Dir, "cut", binary:part(Whole, 0, Length)),
             Reason = if Length < 16 -> foreign; true -> truncated end,
             [refused(File, N, Reason) || N <- [0, 1, 3]]
         end || Length <- lists:seq(0, byte_size(Whole) - 1)],
        refused(new_file(Dir, "longer", [Whole, 0]), 3, corrupt)
    end).

a_foreign_or_damaged_header_is_refused_test() ->
    with_dir(fun(Dir) ->
        [refused(new_file(Dir, "bad", Bytes), N, Reason)
         || N <- [0, 1, 3],
            {Bytes, Reason} <-
                [{pattern(40), foreign}, {pattern(100000), foreign}, {zeros(40), foreign},
                 {<<"EMMAP02\n", 3:64/little, 0:192>>, foreign},
                 {<<"emmap01\n", 3:64/little, 0:192>>, foreign},
                 {<<"EMMAP01 ", 3:64/little, 0:192>>, foreign},
                 {<<"EMMAP01\n", 3:64/big, 0:192>>, truncated},
                 {<<"EMMAP01\n", 0:64, 0:192>>, corrupt},
                 {<<"EMMAP01\n", 0:64>>, corrupt},
                 {<<"EMMAP01\n", -1:64, 0:192>>, corrupt},
                 {<<"EMMAP01\n", (1 bsl 61 + 3):64/little, 0:192>>, corrupt},
                 {<<"EMMAP01\n", 4:64/little, 0:192>>, truncated},
                 {<<"EMMAP01\n", 2:64/little, 0:192>>, corrupt}]]
    end).

%% Every bit of a header of 16 bytes matters.
a_flipped_bit_of_the_header_is_refused_test() ->
    with_dir(fun(Dir) ->
        <<Header:128, Values/binary>> = file_of([7]),
        [begin
             File = new_file(Dir, "flipped", <<(Header bxor (1 bsl Bit)):128, Values/binary>>),
             <<_:64, Count:64/little>> = <<(Header bxor (1 bsl Bit)):128>>,
             Reason = if Bit >= 64 -> foreign; %% the magic
                         Count =:= 0; Count > 1 bsl 60 - 3 -> corrupt;
                         true -> truncated
                      end,
             refused(File, 1, Reason)
         end || Bit <- lists:seq(0, 127)]
    end).

what_is_no_counters_file_is_refused_test() ->
    with_dir(fun(Dir) ->
        Fifo = filename:join(Dir, "fifo"),
        {0, _} = emmap_test_lib:run("mkfifo", [Fifo]),
        Nowhere = filename:join([Dir, "nowhere", "c"]),
        [begin
             ?assertError({emmap, eisdir}, emmap:open_counters(Dir, N)),
             ?assertError({emmap, enodev}, emmap:open_counters(Fifo, N)),
             ?assertError({emmap, enoent}, emmap:open_counters(Nowhere, N))
         end || N <- [0, 1, 5]],
        ?assertEqual(["fifo"], names(Dir))
    end).

an_impossible_count_is_refused_and_makes_no_file_test() ->
    with_dir(fun(Dir) ->
        File = filename:join(Dir, "c"),
        [badarg(2, "not a number of counters", fun() -> emmap:open_counters(File, N) end)
         || N <- [-1, 1 bsl 64, -(1 bsl 64), 1.0, foo, "1"]],
        [?assertError({emmap, efbig}, emmap:open_counters(File, N))
         || N <- [1 bsl 60, 1 bsl 62, (1 bsl 64) - 1]],
        [?assertError({emmap, _}, emmap:open_counters(File, N)) || N <- [1 bsl 45, 1 bsl 59]],
        [badarg(1, "not a file name", fun() -> emmap:open_counters(Bad) end)
         || Bad <- [1, {}, [a | b]]],
        ?assertEqual([], names(Dir))
    end).

a_symbolic_link_leads_to_the_file_test() ->
    with_dir(fun(Dir) ->
        [File, Link, There] = [filename:join(Dir, Name) || Name <- ["file", "link", "there"]],
        ok = file:make_symlink(There, Link),
        _ = new_file(Dir, "file", file_of([3])),
        ok = file:make_symlink(File, Link ++ "2"),
        {_, 1} = Old = emmap:open_counters(Link ++ "2", 0),
        ?assertEqual({ok, 3}, emmap:read_counter(Old, 0)),
        {_, 2} = New = emmap:open_counters(Link, 2),
        ?assertEqual({ok, file_of([0, 0])}, file:read_file(There)),
        [ok = emmap:close_counters(C) || C <- [Old, New]]
    end).

a_name_may_be_of_any_characters_test() ->
    with_dir(fun(Dir) ->
        [begin
             C = emmap:open_counters(filename:join(Dir, Name), 2),
             {ok, 0} = emmap:inc_counter(C, 0),
             ok = emmap:close_counters(C)
         end || Name <- ["plain", <<"binary">>, "with space", [16#e4, 16#20ac], "a%s%n",
                         lists:duplicate(200, $x)]]
    end).

%%--------------------------------------------------------------------------------- several of them

several_vms_make_a_file_at_once_test_() ->
    {timeout, 240, fun ?MODULE:several_vms_make_a_file_at_once/0}.

%% Each process of each VM opens each file as soon as its sign is there, and counts once.
several_vms_make_a_file_at_once() ->
    with_dir(fun(Dir) ->
        {Files, Each} = {20, 4},
        Vms = [emmap_test_lib:start_vm() || _ <- [1, 2, 3]],
        Self = self(),
        [spawn_link(fun() ->
             Self ! {Vm, emmap_test_lib:call(Vm, fun() ->
                 [emmap_test_lib:together([fun() -> count_at_sign(Dir, N) end
                                           || _ <- lists:seq(1, Each)])
                  || N <- lists:seq(1, Files)]
             end)}
         end) || Vm <- Vms],
        [ok = file:write_file(sign(Dir, N), <<>>) || N <- lists:seq(1, Files)],
        [receive {Vm, _} -> emmap_test_lib:stop_vm(Vm) end || Vm <- Vms],
        Expected = {ok, file_of([length(Vms) * Each, 0])},
        [?assertEqual(Expected, file:read_file(counted(Dir, N))) || N <- lists:seq(1, Files)],
        ?assertEqual(2 * Files, length(names(Dir))) % nothing is left behind
    end).

sign(Dir, N) -> filename:join(Dir, "go" ++ integer_to_list(N)).
counted(Dir, N) -> filename:join(Dir, "counters" ++ integer_to_list(N)).

count_at_sign(Dir, N) ->
    emmap_test_lib:wait_until(fun() -> filelib:is_file(sign(Dir, N)) end),
    C = emmap:open_counters(counted(Dir, N), 2),
    {ok, _} = emmap:inc_counter(C, 0),
    emmap:close_counters(C).

a_counter_survives_kill_9_test_() ->
    {timeout, 120, fun ?MODULE:a_counter_survives_kill_9/0}.

a_counter_survives_kill_9() ->
    with_dir(fun(Dir) ->
        File = filename:join(Dir, "c"),
        Vm = emmap_test_lib:start_vm(),
        {ok, 0} = emmap_test_lib:call(Vm, fun() ->
            C = emmap:open_counters(File, 2),
            persistent_term:put(?MODULE, C),
            emmap:inc_counter(C, 1, 12345)
        end),
        ok = emmap_test_lib:kill_vm(Vm),
        C = emmap:open_counters(File, 0),
        ?assertEqual({ok, 12345}, emmap:dec_counter(C, 1)),
        ok = emmap:close_counters(C)
    end).

%%-------------------------------------------------------------------------------------------- help

refused(File, N, Reason) ->
    Before = snapshot(File),
    ?assertError({emmap, Reason}, emmap:open_counters(File, N)),
    ?assertEqual(Before, snapshot(File)),
    ?assertEqual([], filelib:wildcard(File ++ ".*")).

names(Dir) ->
    {ok, Names} = file:list_dir(Dir),
    lists:sort(Names).
