%% Each call on an open handle: what it does, what it answers, how it refuses.
-module(emmap_tests).

-include_lib("eunit/include/eunit.hrl").

-import(emmap_test_lib, [with_dir/1, with_file/2, pattern/1, zeros/1, badarg/3, in_vm/1]).

-export([large_reads_and_writes_equal_the_files_bytes/0, info_names_a_file_by_its_absolute_path/0,
         stats_count_handles_and_mappings/0]).

-define(SHARED, [write, shared]).

%%---------------------------------------------------------------------------------- pread, pwrite

pread_answers_what_is_there_test() ->
    with_file(pattern(5000), fun(File, Bytes) ->
        [begin
             {ok, Mem, _} = emmap:open(File, Options),
             ?assertEqual({ok, Bytes}, emmap:pread(Mem, 0, 5000)),
             ?assertEqual({ok, binary:part(Bytes, 4990, 10)}, emmap:pread(Mem, 4990, 100)),
             ?assertEqual({ok, binary:part(Bytes, 4999, 1)}, emmap:pread(Mem, 4999, 1 bsl 62)),
             ?assertEqual({ok, <<>>}, emmap:pread(Mem, 4999, 0)),
             ?assertEqual([eof, eof, eof],
                          [emmap:pread(Mem, 5000, 1), emmap:pread(Mem, 5000, 0),
                           emmap:pread(Mem, 1 bsl 62, 1)]),
             close(Mem)
         end || Options <- [[], [write], ?SHARED, [direct], [direct | ?SHARED]]]
    end).

impossible_places_are_einval_test() ->
    with_file(pattern(5000), fun(File, Bytes) ->
        [begin
             {ok, Mem, _} = emmap:open(File, Options),
             [begin
                  ?assertEqual({error, einval}, emmap:pread(Mem, Bad, 1)),
                  ?assertEqual({error, einval}, emmap:pread(Mem, 0, Bad)),
                  ?assertEqual({error, einval}, emmap:pread(Mem, Bad, Bad)),
                  ?assertEqual({error, einval}, emmap:pwrite(Mem, Bad, <<"x">>)),
                  ?assertEqual({error, einval}, emmap:sync(Mem, Bad, 1)),
                  ?assertEqual({error, einval}, emmap:sync(Mem, 0, Bad))
              end || Bad <- [-1, -(1 bsl 63), 1 bsl 63, (1 bsl 64) - 1, (1 bsl 64) - 8, 1 bsl 64,
                             1 bsl 100, -(1 bsl 100)]],
             close(Mem)
         end || Options <- [?SHARED, [direct | ?SHARED], [write]]],
        ?assertEqual({ok, Bytes}, file:read_file(File))
    end).

pwrite_takes_iodata_test() ->
    with_file(zeros(1000), fun(File, _) ->
        {ok, Mem, _} = emmap:open(File, ?SHARED),
        [begin
             Flat = iolist_to_binary(Data),
             ok = emmap:pwrite(Mem, 10, Data),
             ?assertEqual({ok, Flat}, emmap:pread(Mem, 10, byte_size(Flat)))
         end || Data <- [<<"binary">>, "string", [], [[], <<>>], ["deep", [[<<"er">>, $x], 10]],
                         [<<"a">> | <<"tail">>], deep(2000, <<"y">>),
                         binary:part(<<"0123456789">>, 3, 4)]],
        close(Mem)
    end).

deep(0, Data) -> Data;
deep(N, Data) -> deep(N - 1, [Data]).

what_is_no_iodata_is_badarg_and_writes_nothing_test() ->
    with_file(pattern(1000), fun(File, Bytes) ->
        {ok, Mem, _} = emmap:open(File, ?SHARED),
        [badarg(3, "not a binary or a list", fun() -> emmap:pwrite(Mem, 0, Data) end)
         || Data <- [foo, 1, 1.5, {}, #{}, self(), <<1:7>>, [256], [-1], [foo], ["ok" | foo],
                     [<<"ok">> | 1], [1.5], [<<1:7>>]]],
        ?assertEqual({ok, Bytes}, file:read_file(File)),
        close(Mem)
    end).

pwrite_past_the_end_is_badarg_and_writes_nothing_test() ->
    with_file(pattern(5000), fun(File, Bytes) ->
        [begin
             {ok, Mem, _} = emmap:open(File, Options),
             [badarg(2, "the data reaches past the end", fun() -> emmap:pwrite(Mem, Off, Data) end)
              || {Off, Data} <- [{4999, <<"ab">>}, {5000, <<"a">>}, {0, zeros(5001)},
                                 {0, [pattern(100000)]}, {8192, <<"a">>}, {1 bsl 40, "a"}]],
             close(Mem)
         end || Options <- [?SHARED, [write]]],
        ?assertEqual({ok, Bytes}, file:read_file(File))
    end).

a_map_for_reading_refuses_what_changes_it_test() ->
    with_file(pattern(5000), fun(File, Bytes) ->
        [begin
             {ok, Mem, _} = emmap:open(File, Options),
             ?assertEqual({error, eacces}, emmap:pwrite(Mem, 0, <<"x">>)),
             ?assertEqual({error, eacces}, emmap:pwrite(Mem, 0, ["x", pattern(4000)])),
             ?assertEqual({error, eacces}, emmap:resize(Mem)),
             ?assertEqual({error, eacces}, emmap:resize(Mem, 10)),
             ?assertEqual(ok, emmap:flush(Mem)),
             ?assertEqual(ok, emmap:sync(Mem)),
             ?assertEqual(ok, emmap:sync(Mem, 0, 10)),
             close(Mem)
         end || Options <- [[], [shared], [read, private], [direct, shared]]],
        ?assertEqual({ok, Bytes}, file:read_file(File))
    end).

%% Up to 64 KiB a call stays on a normal scheduler, above it moves to a dirty one.
large_reads_and_writes_equal_the_files_bytes_test_() ->
    {timeout, 120, fun ?MODULE:large_reads_and_writes_equal_the_files_bytes/0}.

large_reads_and_writes_equal_the_files_bytes() ->
    Size = 12 bsl 20,
    with_file(pattern(Size), fun(File, Bytes) ->
        {ok, Mem, _} = emmap:open(File, ?SHARED),
        [begin
             Old = binary:part(Bytes, Off, Len),
             New = binary:part(Bytes, Size - Len, Len),
             ?assert({ok, Old} =:= emmap:pread(Mem, Off, Len)),
             ok = emmap:pwrite(Mem, Off, Data(New)),
             ?assert({ok, New} =:= emmap:pread(Mem, Off, Len)),
             ?assert({ok, patched(Bytes, Off, New)} =:= file:read_file(File)),
             ok = emmap:pwrite(Mem, Off, Old)
         end || {Off, Len} <- [{0, 65535}, {1, 65536}, {2, 65537}, {4095, 100000},
                               {1 bsl 20, 10 bsl 20}],
                Data <- [fun(B) -> B end, fun(B) -> [B] end]],
        ?assert({ok, Bytes} =:= emmap:pread(Mem, 0, 2 * Size)),
        close(Mem)
    end).

patched(Bytes, Off, New) ->
    Len = byte_size(New),
    <<Before:Off/binary, _:Len/binary, After/binary>> = Bytes,
    <<Before/binary, New/binary, After/binary>>.

%%--------------------------------------------------------------------- resize, flush, sync, close

resize_grows_with_zeros_and_shrinks_test() ->
    with_file(pattern(5000), fun(File, Bytes) ->
        {ok, Mem, _} = emmap:open(File, ?SHARED),
        ?assertEqual({ok, 7000}, emmap:resize(Mem, 7000)),
        ?assertEqual({ok, <<Bytes/binary, (zeros(2000))/binary>>}, file:read_file(File)),
        ?assertEqual({ok, 3000}, emmap:resize(Mem, 3000)),
        ?assertEqual({ok, binary:part(Bytes, 0, 3000)}, file:read_file(File)),
        ?assertEqual(eof, emmap:pread(Mem, 3000, 1)),
        ?assertEqual({ok, 5000}, emmap:resize(Mem, 5000)),
        Now = <<(binary:part(Bytes, 0, 3000))/binary, (zeros(2000))/binary>>,
        ?assertEqual({ok, Now}, emmap:pread(Mem, 0, 5000)),
        ?assertEqual({ok, Now}, file:read_file(File)),
        close(Mem)
    end).

a_private_handle_grows_in_memory_test() ->
    with_file(pattern(5000), fun(File, Bytes) ->
        {ok, Mem, _} = emmap:open(File, [write]),
        ?assertEqual({ok, 20000}, emmap:resize(Mem, 20000)),
        ok = emmap:pwrite(Mem, 4990, pattern(15000)),
        ?assertEqual({ok, <<(binary:part(Bytes, 0, 4990))/binary, (pattern(15000))/binary>>},
                     emmap:pread(Mem, 0, 19990)),
        ?assertEqual({ok, 100}, emmap:resize(Mem, 100)),
        ?assertEqual({ok, 20000}, emmap:resize(Mem, 20000)),
        ?assertEqual({ok, <<(binary:part(Bytes, 0, 100))/binary, (zeros(19900))/binary>>},
                     emmap:pread(Mem, 0, 20000)),
        ?assertEqual({ok, Bytes}, file:read_file(File)),
        close(Mem)
    end).

impossible_sizes_are_refused_and_change_nothing_test() ->
    with_file(pattern(5000), fun(File, Bytes) ->
        [begin
             {ok, Mem, _} = emmap:open(File, Options),
             [?assertEqual({error, einval}, emmap:resize(Mem, Bad))
              || Bad <- [-1, 1 bsl 64, -(1 bsl 64), 1 bsl 100]],
             [?assertEqual({error, efbig}, emmap:resize(Mem, Bad))
              || Bad <- [1 bsl 63, (1 bsl 64) - 1]],
             [?assertEqual({error, enomem}, emmap:resize(Mem, Bad))
              || Bad <- [1 bsl 40, 1 bsl 55, (1 bsl 63) - 1]],
             [badarg(2, "not an integer", fun() -> emmap:resize(Mem, Bad) end)
              || Bad <- [grow, 1.0, foo, "1", <<"1">>, self()]],
             ?assertMatch(#{size := 5000}, emmap:info(Mem)),
             close(Mem)
         end || Options <- [?SHARED, [write]]],
        ?assertEqual({ok, Bytes}, file:read_file(File))
    end).

flush_and_sync_are_ok_test() ->
    with_file(pattern(50000), fun(File, _) ->
        [begin
             {ok, Mem, _} = emmap:open(File, Off, 0, Options),
             ok = emmap:pwrite(Mem, 5, <<"data">>),
             ?assertEqual(ok, emmap:flush(Mem)),
             ?assertEqual(ok, emmap:sync(Mem)),
             [?assertEqual(ok, emmap:sync(Mem, At, Len))
              || {At, Len} <- [{0, 0}, {0, 10}, {5, 4}, {4095, 2}, {0, 1 bsl 62}, {49999, 5},
                               {60000, 10}, {1 bsl 62, (1 bsl 63) - 1}]],
             ?assertMatch(#{sync_error := undefined}, emmap:info(Mem)),
             close(Mem)
         end || Off <- [0, 100, 5000], Options <- [?SHARED, [write]]]
    end).

after_close_every_call_says_closed_test() ->
    with_file(pattern(100), fun(File, Bytes) ->
        [begin
             {ok, Mem, _} = emmap:open(File, Options),
             ?assertEqual(ok, emmap:close(Mem)),
             ?assertEqual(ok, emmap:close(Mem)),
             ?assertEqual(ok, emmap:flush(Mem)),
             Closed = {error, closed},
             ?assertEqual([Closed], lists:usort([
                 emmap:pread(Mem, 0, 10), emmap:pread(Mem, 0, 0), emmap:pread(Mem, 1000, 10),
                 emmap:pread(Mem, 0, 100000), emmap:pwrite(Mem, 0, <<"x">>),
                 emmap:pwrite(Mem, 0, ["x"]), emmap:pwrite(Mem, 99, <<"xyz">>),
                 emmap:resize(Mem), emmap:resize(Mem, 10), emmap:resize(Mem, 1000),
                 emmap:sync(Mem), emmap:sync(Mem, 0, 10)])),
             ?assertError({emmap, closed}, emmap:info(Mem)),
             ?assertEqual(ok, emmap:close(Mem))
         end || Options <- [[], [write], ?SHARED, [direct], [direct | ?SHARED],
                            [fixed_size | ?SHARED]]],
        ?assertEqual({ok, Bytes}, file:read_file(File))
    end).

another_handle_of_the_file_lives_on_after_close_test() ->
    with_file(pattern(100), fun(File, Bytes) ->
        {ok, One, _} = emmap:open(File, ?SHARED),
        {ok, Two, _} = emmap:open(File, ?SHARED),
        ok = emmap:close(One),
        ?assertEqual({ok, Bytes}, emmap:pread(Two, 0, 100)),
        ?assertEqual({ok, 200}, emmap:resize(Two, 200)),
        close(Two)
    end).

a_handle_may_be_used_by_any_process_test() ->
    with_file(<<"abc">>, fun(File, _) ->
        {ok, Mem, _} = emmap:open(File, ?SHARED),
        Self = self(),
        spawn_link(fun() -> Self ! {answer, emmap:pread(Mem, 0, 3), emmap:close(Mem)} end),
        receive Answer -> ?assertEqual({answer, {ok, <<"abc">>}, ok}, Answer) end,
        ?assertEqual({error, closed}, emmap:pread(Mem, 0, 3))
    end).

%%--------------------------------------------------------------------------------------- figures

info_tells_what_is_known_of_a_handle_test() ->
    with_dir(fun(Dir) ->
        File = filename:join(Dir, "f"),
        {ok, Mem, _} = emmap:open(File, 100, 5000, [create | ?SHARED]),
        #{address_space := Space, allocated := Allocated, page_size := Page, space := Kind} = Info =
            emmap:info(Mem),
        ?assertEqual(#{name => list_to_binary(File), size => 5000, offset => 100,
                       file_size => 5100, faults => 0, mode => shared, access => read_write,
                       direct => false, fixed_size => false, linked => true,
                       sync_error => undefined},
                     maps:without([address_space, allocated, page_size, space], Info)),
        ?assert(Space >= 4 bsl 30),
        ?assert(Allocated >= 0),
        ?assertEqual(0, Page band (Page - 1)),
        ?assert(lists:member(Kind, [reserved, best_effort, sparse])),
        close(Mem)
    end).

info_names_a_file_by_its_absolute_path_test_() ->
    {timeout, 120, fun ?MODULE:info_names_a_file_by_its_absolute_path/0}.

info_names_a_file_by_its_absolute_path() ->
    with_dir(fun(Dir) ->
        in_vm(fun() ->
            ok = file:set_cwd(Dir),
            {ok, Mem, _} = emmap:open("relative", 0, 10, [create | ?SHARED]),
            {ok, Cwd} = file:get_cwd(),
            ?assertEqual(filename:join(Cwd, "relative"),
                         binary_to_list(maps:get(name, emmap:info(Mem))))
        end)
    end).

info_tells_that_the_file_has_lost_its_name_test() ->
    with_file(<<"abc">>, fun(File, _) ->
        {ok, Mem, _} = emmap:open(File, []),
        ok = file:delete(File),
        ?assertMatch(#{linked := false}, emmap:info(Mem)),
        ?assertEqual({ok, <<"abc">>}, emmap:pread(Mem, 0, 3)),
        close(Mem)
    end).

stats_count_handles_and_mappings_test_() ->
    {timeout, 120, fun ?MODULE:stats_count_handles_and_mappings/0}.

stats_count_handles_and_mappings() ->
    with_dir(fun(Dir) -> in_vm(fun() -> stats_count(Dir) end) end).

stats_count(Dir) ->
    None = maps:map(fun(_Figure, _) -> 0 end, emmap:stats()),
    ?assertEqual(None, emmap:stats()),
    [One, Two] = [begin
                      {ok, Mem, _} = emmap:open(filename:join(Dir, Name), 0, 10,
                                                [create | ?SHARED] ++ Options),
                      Mem
                  end || {Name, Options} <- [{"one", []}, {"two", [direct]}]],
    #{mapped_bytes := Bytes} = Open = emmap:stats(),
    ?assertMatch(#{handles := 2, regions := 2, holds := 1}, Open),
    ?assert(Bytes >= 2 * (4 bsl 30)),
    [close(Mem) || Mem <- [One, One, Two]],
    ?assertMatch(#{handles := 0}, emmap:stats()),
    emmap_test_lib:nothing_is_left(),
    ?assertEqual(None, emmap:stats()).

format_error_says_each_reason_in_words_test() ->
    Reasons = [closed, truncated, fixed_size, size_mismatch, size_missing, network_fs, busy,
               enospc, eacces, enoent, einval, eio, enomem, efbig, enodev, eisdir, emfile],
    Texts = [emmap:format_error(Reason) || Reason <- Reasons],
    [?assert(io_lib:printable_unicode_list(Text) andalso length(Text) > 5) || Text <- Texts],
    ?assertEqual([], [Text || Text <- Texts, string:find(Text, "unknown") =/= nomatch]),
    ?assertEqual(length(Reasons), length(lists:usort(Texts))),
    ?assertEqual(Texts, [emmap:format_error({error, Reason}) || Reason <- Reasons]),
    ?assertEqual("the handle is closed", emmap:format_error(closed)),
    Sync = emmap:format_error({error, {sync_failed, enospc}}),
    ?assertNotEqual(nomatch, string:find(Sync, emmap:format_error(enospc))).

format_error_takes_any_term_test() ->
    [?assert(is_list(emmap:format_error(Term)))
     || Term <- [no_such_reason, list_to_atom([16#20AC]),
                 list_to_atom(lists:duplicate(255, 16#20AC)), '', 1, 1.5, "x", <<>>, {}, {a, b},
                 {error, {error, x}}, {sync_failed, {}}, #{}, self(), make_ref(), [a | b],
                 {error, {sync_failed, 1}}]].

%%------------------------------------------------------------------------------------------ help

close(Mem) ->
    ?assertEqual(ok, emmap:close(Mem)).
