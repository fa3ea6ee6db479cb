%% Pages that cannot be had: a file that is truncated while it is mapped, a disk that is full.
%% Each case runs in a VM of its own, so that the death of one would be a failed case.
-module(emmap_fault_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-import(emmap_test_lib, [in_vm/1, new_file/3, write_at/3, truncate_outside/2, pattern/1, zeros/1,
                         badarg/3, with_tmpfs/3]).

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([pread_of_truncated_pages_is_an_error/1,
         a_large_pread_of_truncated_pages_is_an_error/1,
         pwrite_to_truncated_pages_is_an_error/1,
         a_large_pwrite_to_truncated_pages_is_an_error/1,
         a_direct_binary_of_a_truncated_file_reads_as_zeros/1,
         truncation_within_the_last_page_reads_as_zeros_until_told/1,
         resize_of_a_truncated_file_gives_the_size_asked_for/1,
         flush_of_a_truncated_file_is_ok/1,
         sync_of_a_truncated_file_is_ok_and_tells_the_size/1,
         info_of_a_truncated_file_tells_the_size/1,
         truncation_to_nothing_leaves_an_empty_handle/1,
         truncated_pages_heal_when_the_file_grows_again/1,
         many_truncations_leave_the_count_of_maps_as_it_was/1,
         every_handle_of_a_truncated_file_is_told/1,
         a_shrink_through_a_handle_is_eof_for_the_others/1,
         a_private_handle_of_a_truncated_file_is_told_and_heals/1,
         private_memory_behind_a_truncated_file_stays/1,
         a_full_tmpfs_and_its_healing/1,
         a_pread_of_a_hole_of_a_full_disk_is_an_answer/1,
         open_on_a_full_disk_leaves_no_trace/1,
         resize_on_a_full_disk_leaves_size_and_blocks/1]).

suite() ->
    [{timetrap, {minutes, 5}}].

all() ->
    [Name || {Name, 1} <- ?MODULE:module_info(exports), Name =/= module_info, Name =/= group].

init_per_testcase(Name, Config) ->
    emmap_test_lib:init_case(Name, Config).

end_per_testcase(_Name, Config) ->
    emmap_test_lib:end_case(Config).

%%------------------------------------------------------------------- truncation, call by call

pread_of_truncated_pages_is_an_error(Config) ->
    [truncated(Config, Options, fun(Mem, _File, Bytes, Page) ->
         ?assertEqual({error, truncated}, emmap:pread(Mem, 3 * Page, 10)),
         ?assertEqual(eof, emmap:pread(Mem, 3 * Page, 10)),
         ?assertEqual({ok, binary:part(Bytes, 0, Page + 100)}, emmap:pread(Mem, 0, 16 * Page)),
         ?assertEqual({ok, binary:part(Bytes, Page + 90, 10)}, emmap:pread(Mem, Page + 90, 50)),
         ?assertMatch(#{faults := 1, size := Size} when Size =:= Page + 100, emmap:info(Mem)),
         ?assertMatch(#{faults := 1}, emmap:stats())
     end) || Options <- [[shared], [write, shared]]].

a_large_pread_of_truncated_pages_is_an_error(Config) ->
    truncated(Config, [write, shared], fun(Mem, _File, Bytes, Page) ->
        ?assertEqual({error, truncated}, emmap:pread(Mem, 0, 64 * Page)),
        ?assertEqual({ok, binary:part(Bytes, 0, Page + 100)}, emmap:pread(Mem, 0, 64 * Page))
    end).

pwrite_to_truncated_pages_is_an_error(Config) ->
    truncated(Config, [write, shared], fun(Mem, File, Bytes, Page) ->
        ?assertEqual({error, truncated}, emmap:pwrite(Mem, 3 * Page, <<"lost">>)),
        badarg(2, "the data reaches past the end",
               fun() -> emmap:pwrite(Mem, 3 * Page, <<"lost">>) end),
        ?assertEqual({ok, binary:part(Bytes, 0, Page + 100)}, file:read_file(File)),
        ?assertEqual(ok, emmap:pwrite(Mem, Page, <<"kept">>)),
        ?assertEqual({ok, <<"kept">>}, emmap:pread(Mem, Page, 4))
    end).

a_large_pwrite_to_truncated_pages_is_an_error(Config) ->
    truncated(Config, [write, shared], fun(Mem, File, _Bytes, Page) ->
        [?assertEqual({error, truncated}, emmap:pwrite(Mem, 2 * Page, Data))
         || Data <- [pattern(60 * Page)]],
        ?assertEqual(Page + 100, filelib:file_size(File)),
        badarg(2, "the data reaches past the end",
               fun() -> emmap:pwrite(Mem, 0, [pattern(64 * Page)]) end)
    end).

a_direct_binary_of_a_truncated_file_reads_as_zeros(Config) ->
    mapped(Config, [write, shared, direct], fun(Mem, File, Bytes, Page) ->
        {ok, Whole} = emmap:pread(Mem, 0, 64 * Page),
        {ok, Part} = emmap:pread(Mem, 5 * Page + 10, 100),
        ?assertEqual(erlang:crc32(Bytes), erlang:crc32(Whole)),
        ok = truncate_outside(File, Page + 100),
        Left = <<(binary:part(Bytes, 0, Page + 100))/binary, (zeros(63 * Page - 100))/binary>>,
        ?assertEqual(erlang:crc32(Left), erlang:crc32(Whole)),
        ?assertEqual(zeros(100), Part),
        ?assertMatch(#{faults := 1}, emmap:stats()),
        ?assertEqual({error, truncated}, emmap:pread(Mem, 5 * Page, 10)),
        ok = emmap:close(Mem),
        ?assertEqual(zeros(100), Part)
    end).

%% What the page cache holds behind the end of the file is zeros.
truncation_within_the_last_page_reads_as_zeros_until_told(Config) ->
    truncated(Config, [write, shared], fun(Mem, _File, Bytes, Page) ->
        Tail = binary:part(Bytes, Page, 100),
        ?assertEqual({ok, <<Tail/binary, (zeros(Page - 100))/binary>>},
                     emmap:pread(Mem, Page, Page)),
        emmap:info(Mem),
        ?assertEqual({ok, Tail}, emmap:pread(Mem, Page, Page)),
        ?assertMatch(#{faults := 0}, emmap:stats())
    end).

resize_of_a_truncated_file_gives_the_size_asked_for(Config) ->
    [truncated(Config, [write, shared], fun(Mem, File, Bytes, Page) ->
         New = Pages * Page + 5,
         ?assertEqual({ok, New}, emmap:resize(Mem, New)),
         Kept = binary:part(Bytes, 0, min(New, Page + 100)),
         Wanted = <<Kept/binary, (zeros(New - byte_size(Kept)))/binary>>,
         ?assertEqual({ok, Wanted}, file:read_file(File)),
         ?assertEqual({ok, Wanted}, emmap:pread(Mem, 0, 1000 * Page)),
         ?assertEqual(ok, emmap:pwrite(Mem, New - 3, <<"end">>))
     end) || Pages <- [0, 1, 3, 64, 100]],
    truncated(Config, [write, shared], fun(Mem, _File, _Bytes, Page) ->
        ?assertEqual({error, truncated}, emmap:pread(Mem, 3 * Page, 10)),
        ?assertEqual({ok, 128 * Page}, emmap:resize(Mem)),
        ?assertEqual({ok, zeros(10)}, emmap:pread(Mem, 3 * Page, 10))
    end).

flush_of_a_truncated_file_is_ok(Config) ->
    truncated(Config, [write, shared], fun(Mem, _File, Bytes, Page) ->
        ?assertEqual(ok, emmap:flush(Mem)),
        ?assertEqual({error, truncated}, emmap:pread(Mem, 3 * Page, 10)),
        ?assertEqual(ok, emmap:flush(Mem)),
        ?assertEqual({ok, binary:part(Bytes, 0, 10)}, emmap:pread(Mem, 0, 10))
    end).

sync_of_a_truncated_file_is_ok_and_tells_the_size(Config) ->
    [truncated(Config, [write, shared], fun(Mem, _File, _Bytes, Page) ->
         ?assertEqual(ok, apply(emmap, sync, [Mem | Args(Page)])),
         ?assertEqual(eof, emmap:pread(Mem, 3 * Page, 10)),
         ?assertEqual(ok, apply(emmap, sync, [Mem | Args(Page)]))
     end) || Args <- [fun(_) -> [] end, fun(Page) -> [0, 64 * Page] end,
                      fun(Page) -> [3 * Page, Page] end, fun(Page) -> [Page + 99, 2 * Page] end]].

info_of_a_truncated_file_tells_the_size(Config) ->
    truncated(Config, [write, shared], fun(Mem, _File, _Bytes, Page) ->
        ?assertMatch(#{size := Size, file_size := Size} when Size =:= Page + 100, emmap:info(Mem)),
        ?assertEqual(eof, emmap:pread(Mem, 3 * Page, 10)),
        badarg(2, "the data reaches past the end",
               fun() -> emmap:pwrite(Mem, 3 * Page, <<"x">>) end)
    end).

truncation_to_nothing_leaves_an_empty_handle(Config) ->
    mapped(Config, [write, shared], fun(Mem, File, _Bytes, Page) ->
        ok = truncate_outside(File, 0),
        ?assertEqual({error, truncated}, emmap:pread(Mem, 0, 10)),
        ?assertEqual(eof, emmap:pread(Mem, 0, 10)),
        ?assertEqual(ok, emmap:flush(Mem)),
        ?assertEqual(ok, emmap:sync(Mem)),
        ?assertMatch(#{size := 0}, emmap:info(Mem)),
        ?assertEqual({ok, Page}, emmap:resize(Mem, Page)),
        ?assertEqual({ok, zeros(Page)}, emmap:pread(Mem, 0, Page))
    end).

%%---------------------------------------------------------------------------------- healing

truncated_pages_heal_when_the_file_grows_again(Config) ->
    truncated(Config, [write, shared], fun(Mem, File, _Bytes, Page) ->
        ?assertEqual({error, truncated}, emmap:pread(Mem, 3 * Page, 10)),
        write_at(File, 3 * Page, <<"back again">>),
        ?assertEqual({ok, <<"back again">>}, emmap:pread(Mem, 3 * Page, 20)),
        ok = emmap:pwrite(Mem, 3 * Page, <<"here">>),
        {ok, Now} = file:read_file(File),
        ?assertEqual(<<"here again">>, binary:part(Now, 3 * Page, 10)),
        ?assertEqual(eof, emmap:pread(Mem, 3 * Page + 10, 1))
    end).

many_truncations_leave_the_count_of_maps_as_it_was(Config) ->
    mapped(Config, [write, shared], fun(Mem, File, _Bytes, Page) ->
        Once = fun(N) ->
            emmap_test_lib:truncate(File, (N rem 60) * Page),
            ?assertEqual({error, truncated}, emmap:pread(Mem, 63 * Page, 1)),
            emmap_test_lib:write_at(File, 64 * Page - 1, <<N>>),
            ?assertEqual({ok, <<N>>}, emmap:pread(Mem, 64 * Page - 1, 1))
        end,
        [Once(N) || N <- lists:seq(1, 10)],
        Before = emmap_test_lib:maps_of(File),
        [Once(N rem 256) || N <- lists:seq(1, 500)],
        ?assertEqual(Before, emmap_test_lib:maps_of(File)),
        ?assertMatch(#{faults := 510}, emmap:info(Mem))
    end).

%% The first by its fault; the other shared ones by the size that they have in common.
every_handle_of_a_truncated_file_is_told(Config) ->
    mapped(Config, [write, shared], fun(One, File, Bytes, Page) ->
        {ok, Two, _} = emmap:open(File, Page, 0, [shared]),
        {ok, Private, _} = emmap:open(File, []),
        ok = truncate_outside(File, Page + 100),
        ?assertEqual({error, truncated}, emmap:pread(One, 3 * Page, 10)),
        ?assertEqual({error, truncated}, emmap:pread(Private, 3 * Page, 10)),
        ?assertEqual(eof, emmap:pread(Two, 2 * Page, 10)),
        ?assertEqual({ok, binary:part(Bytes, Page, 100)}, emmap:pread(Two, 0, 10 * Page))
    end).

a_shrink_through_a_handle_is_eof_for_the_others(Config) ->
    mapped(Config, [write, shared], fun(One, File, _Bytes, Page) ->
        {ok, Two, _} = emmap:open(File, [write, shared]),
        {ok, _} = emmap:resize(One, Page + 100),
        [?assertEqual(eof, emmap:pread(Mem, 3 * Page, 10)) || Mem <- [One, Two]],
        [badarg(2, "the data reaches past the end",
                fun() -> emmap:pwrite(Mem, 3 * Page, <<"x">>) end)
         || Mem <- [One, Two]],
        ?assertMatch(#{faults := 0}, emmap:stats())
    end).

%%---------------------------------------------------------------------------- private handles

a_private_handle_of_a_truncated_file_is_told_and_heals(Config) ->
    mapped(Config, [write], fun(Mem, File, Bytes, Page) ->
        ok = emmap:pwrite(Mem, 0, <<"mine">>),
        ok = emmap:pwrite(Mem, 3 * Page, <<"mine">>),
        ok = truncate_outside(File, Page),
        ?assertEqual({error, truncated}, emmap:pread(Mem, 3 * Page, 10)),
        ?assertEqual({error, truncated}, emmap:pread(Mem, 3 * Page, 10)),
        ?assertEqual({error, truncated}, emmap:pwrite(Mem, 3 * Page, <<"mine">>)),
        ?assertMatch(#{size := Size, file_size := Page} when Size =:= 64 * Page, emmap:info(Mem)),
        ?assertMatch({ok, <<"mine", _/binary>>}, emmap:pread(Mem, 0, Page)),
        ok = file:write_file(File, Bytes),
        ?assertEqual({ok, binary:part(Bytes, 3 * Page, Page)}, emmap:pread(Mem, 3 * Page, Page)),
        ok = emmap:pwrite(Mem, 3 * Page, <<"mine">>),
        ?assertMatch({ok, <<"mine", _/binary>>}, emmap:pread(Mem, 3 * Page, Page)),
        ?assertEqual({ok, Bytes}, file:read_file(File))
    end).

private_memory_behind_a_truncated_file_stays(Config) ->
    mapped(Config, [write], fun(Mem, File, _Bytes, Page) ->
        {ok, _} = emmap:resize(Mem, 100 * Page),
        ok = emmap:pwrite(Mem, 90 * Page, <<"memory">>),
        ok = truncate_outside(File, Page),
        ?assertEqual({error, truncated}, emmap:pread(Mem, 63 * Page, 10)),
        ?assertEqual({ok, <<"memory">>}, emmap:pread(Mem, 90 * Page, 6)),
        ?assertEqual(ok, emmap:pwrite(Mem, 64 * Page, <<"memory">>)),
        ?assertEqual({ok, <<"memory">>}, emmap:pread(Mem, 64 * Page, 6))
    end).

%%-------------------------------------------------------------------------------- a full disk

a_full_tmpfs_and_its_healing(Config) ->
    on_tmpfs(Config, fun(Root, Page) ->
        Filler = new_file(Root, "filler", zeros(100 * Page)),
        File = filename:join(Root, "sparse"),
        {ok, Mem, _} = emmap:open(File, 0, 1000 * Page, [create, write, shared, sparse]),
        Full = write_until_full(Mem, Page, 0),
        Data = pattern(Page),
        ?assertEqual({error, enospc}, emmap:pwrite(Mem, Full, Data)),
        ?assertEqual({error, enospc}, emmap:pwrite(Mem, Full, [Data, pattern(70000)])),
        [?assertEqual({ok, Data}, emmap:pread(Mem, At, Page))
         || At <- lists:seq(0, Full - 1, Page)],
        ?assertEqual(ok, emmap:pwrite(Mem, 0, <<"goes on">>)),
        ?assertEqual({ok, <<"goes on">>}, emmap:pread(Mem, 0, 7)),
        ok = file:delete(Filler),
        ?assertEqual(ok, emmap:pwrite(Mem, Full, Data)),
        ?assertEqual(ok, emmap:pwrite(Mem, 999 * Page, Data)),
        ?assertEqual({ok, Data}, emmap:pread(Mem, Full, Page)),
        {ok, Now} = file:read_file(File),
        [?assertEqual(Data, binary:part(Now, At, Page)) || At <- [Page, Full, 999 * Page]],
        ok = emmap:close(Mem)
    end).

%% Answers the place of the first page that could not be had.
write_until_full(Mem, Page, Off) ->
    case emmap:pwrite(Mem, Off, pattern(Page)) of
        ok -> write_until_full(Mem, Page, Off + Page);
        {error, enospc} when Off > 0 -> Off
    end.

a_pread_of_a_hole_of_a_full_disk_is_an_answer(Config) ->
    on_tmpfs(Config, fun(Root, Page) ->
        {ok, Mem, _} = emmap:open(filename:join(Root, "sparse"), 0, 1000 * Page,
                                  [create, write, shared, sparse]),
        {ok, Direct, _} = emmap:open(filename:join(Root, "sparse"), [shared, direct]),
        _ = write_until_full(Mem, Page, 0),
        {ok, Hole} = emmap:pread(Direct, 900 * Page, 50 * Page),
        ?assertEqual(zeros(50 * Page), Hole),
        [case emmap:pread(Mem, 800 * Page, Len) of
             {error, Reason} -> ?assertEqual(enospc, Reason);
             {ok, Bytes} -> ?assertEqual(zeros(Len), Bytes)
         end || Len <- [10, 100 * Page]],
        ok = emmap:close(Mem)
    end).

open_on_a_full_disk_leaves_no_trace(Config) ->
    on_tmpfs(Config, fun(Root, Page) ->
        Too = 1000 * Page,
        [begin
             New = filename:join(Root, "new"),
             ?assertEqual({error, enospc}, emmap:open(New, 0, Too, [create | Options])),
             ?assertEqual({ok, []}, file:list_dir(Root)),
             File = new_file(Root, "old", pattern(10 * Page)),
             Before = allocated(File),
             ?assertEqual({error, enospc}, emmap:open(File, 0, Too, [fit | Options])),
             ?assertEqual({error, enospc}, emmap:open(File, 0, Too, [truncate | Options])),
             ?assertEqual({ok, pattern(10 * Page)}, file:read_file(File)),
             ?assertEqual(Before, allocated(File)),
             ok = file:delete(File)
         end || Options <- [[write, shared], [write]]]
    end).

resize_on_a_full_disk_leaves_size_and_blocks(Config) ->
    on_tmpfs(Config, fun(Root, Page) ->
        Filler = new_file(Root, "filler", zeros(150 * Page)),
        File = new_file(Root, "file", pattern(10 * Page)),
        {ok, Mem, _} = emmap:open(File, [write, shared]),
        Before = allocated(File),
        [?assertEqual({error, enospc}, emmap:resize(Mem, Pages * Page)) || Pages <- [150, 1000]],
        ?assertMatch(#{size := Size} when Size =:= 10 * Page, emmap:info(Mem)),
        ?assertEqual({ok, pattern(10 * Page)}, file:read_file(File)),
        ?assertEqual(Before, allocated(File)),
        ?assertEqual({ok, 20 * Page}, emmap:resize(Mem)),
        ok = file:delete(Filler),
        ?assertEqual({ok, 150 * Page}, emmap:resize(Mem, 150 * Page)),
        ok = emmap:close(Mem)
    end).

allocated(File) ->
    {ok, Mem, _} = emmap:open(File, []),
    #{allocated := Allocated, file_size := Size} = emmap:info(Mem),
    ok = emmap:close(Mem),
    {Size, Allocated}.

%%---------------------------------------------------------------------------------------- help

%% Fun(Mem, File, Bytes, Page) with a mapped file of 64 pages, in a new VM.
mapped(Config, Options, Fun) ->
    File = filename:join(?config(dir, Config), "file"),
    in_vm(fun() ->
        Page = emmap_test_lib:page(),
        Bytes = pattern(64 * Page),
        ok = file:write_file(File, Bytes),
        {ok, Mem, _} = emmap:open(File, Options),
        Fun(Mem, File, Bytes, Page),
        ok = emmap:close(Mem)
    end).

%% The same after another program has cut the file to a page and 100 bytes.
truncated(Config, Options, Fun) ->
    mapped(Config, Options, fun(Mem, File, Bytes, Page) ->
        ok = truncate_outside(File, Page + 100),
        Fun(Mem, File, Bytes, Page)
    end).

%% Fun(Root, Page) in a new VM, Root a file system of 200 pages.
on_tmpfs(Config, Fun) ->
    Page = emmap_test_lib:page(),
    with_tmpfs(?config(dir, Config), 200 * Page, fun(Root) ->
        in_vm(fun() -> Fun(Root, Page) end)
    end).
