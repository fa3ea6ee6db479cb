%% The options of open beyond those of every file: each does what the documentation says.
-module(emmap_options_tests).

-include_lib("eunit/include/eunit.hrl").

-import(emmap_test_lib, [with_dir/1, with_file/2, new_file/3, pattern/1, zeros/1, badarg/3,
                         snapshot/1, in_vm/1, in_vm/2, page/0, free_address/0,
                         mappings/0]).

-export([locked_pages_stay_in_memory/0, memory_that_may_not_be_locked_is_enomem/0,
         populate_on_a_full_disk_is_enospc/0, debug_logs_what_the_handle_does/0]).

-define(SHARED, [write, shared]).

%%---------------------------------------------------------------------------------------- extend

a_write_past_the_end_grows_the_file_with_extend_test() ->
    with_file(pattern(5000), fun(File, Bytes) ->
        {ok, Mem, _} = emmap:open(File, [extend | ?SHARED]),
        ok = emmap:pwrite(Mem, 4998, <<"abcd">>),
        ok = emmap:pwrite(Mem, 6000, [<<"far">>, " away"]),
        {ok, 6008} = emmap:position(Mem, eof),
        ok = emmap:write(Mem, <<"next">>),
        Expected = <<(binary:part(Bytes, 0, 4998))/binary, "abcd", (zeros(998))/binary,
                     "far awaynext">>,
        ?assertEqual({ok, Expected}, file:read_file(File)),
        ?assertEqual({ok, Expected}, emmap:pread(Mem, 0, 10000)),
        close(Mem)
    end).

a_private_handle_extends_in_memory_test() ->
    with_file(pattern(5000), fun(File, Bytes) ->
        {ok, Mem, _} = emmap:open(File, [extend, write, private]),
        ok = emmap:pwrite(Mem, 5000, <<"more">>),
        ?assertEqual({ok, <<"more">>}, emmap:pread(Mem, 5000, 10)),
        ?assertEqual({ok, Bytes}, file:read_file(File)),
        close(Mem)
    end).

a_new_file_needs_no_length_with_extend_test() ->
    with_dir(fun(Dir) ->
        File = filename:join(Dir, "new"),
        {ok, Mem, #{exist := false, size := 0}} = emmap:open(File, [create, extend | ?SHARED]),
        ok = emmap:write(Mem, <<"abc">>),
        ?assertEqual({ok, <<"abc">>}, file:read_file(File)),
        close(Mem)
    end).

a_file_of_fixed_size_does_not_extend_test() ->
    with_file(pattern(5000), fun(File, Bytes) ->
        {ok, Mem, _} = emmap:open(File, [extend, fixed_size | ?SHARED]),
        [?assertEqual({error, fixed_size}, Call())
         || Call <- [fun() -> emmap:pwrite(Mem, 5000, <<"x">>) end,
                     fun() -> emmap:pwrite(Mem, 4999, ["xy"]) end,
                     fun() -> emmap:truncate(Mem) end,
                     fun() -> emmap:allocate(Mem, 0, 5001) end]],
        ?assertEqual({error, {1, fixed_size}}, emmap:pwrite(Mem, [{0, <<>>}, {5000, <<"x">>}])),
        {ok, 5000} = emmap:position(Mem, eof),
        ?assertEqual({error, fixed_size}, emmap:write(Mem, <<"x">>)),
        ?assertEqual({ok, 5000}, emmap:position(Mem, cur)),
        ?assertEqual({ok, Bytes}, file:read_file(File)),
        close(Mem)
    end).

extend_ends_at_the_address_space_test() ->
    with_file(pattern(5000), fun(File, Bytes) ->
        {ok, Mem, _} = emmap:open(File, [extend, {address_space, 100000} | ?SHARED]),
        ?assertEqual({error, enomem}, emmap:pwrite(Mem, 1 bsl 40, <<"x">>)),
        ?assertEqual({error, einval}, emmap:pwrite(Mem, (1 bsl 63) - 1, <<"x">>)),
        ?assertEqual({ok, Bytes}, file:read_file(File)),
        close(Mem)
    end).

without_extend_a_write_past_the_end_is_badarg_test() ->
    with_file(pattern(5000), fun(File, Bytes) ->
        {ok, Mem, _} = emmap:open(File, ?SHARED),
        {ok, 4999} = emmap:position(Mem, 4999),
        badarg(2, "the data reaches past the end", fun() -> emmap:write(Mem, <<"xy">>) end),
        badarg(2, "the data reaches past the end", fun() -> emmap:write(Mem, ["xy"]) end),
        ?assertEqual({ok, 4999}, emmap:position(Mem, cur)),
        ?assertEqual({ok, Bytes}, file:read_file(File)),
        close(Mem)
    end).

%%------------------------------------------------------------------------------- names and files

nofollow_refuses_a_symbolic_link_test() ->
    with_file(pattern(100), fun(File, Bytes) ->
        Links = [File ++ ".link", File ++ ".dangling"],
        [ok = file:make_symlink(To, Link)
         || {To, Link} <- lists:zip([File, File ++ ".not_there"], Links)],
        [?assertEqual({error, eloop}, emmap:open(Link, 0, Len, [nofollow | Options]))
         || Link <- Links, {Len, Options} <- [{0, []}, {10, [create | ?SHARED]},
                                              {0, [write, truncate]}]],
        ?assertEqual({ok, Bytes}, file:read_file(File)),
        ?assertNot(filelib:is_file(File ++ ".not_there")),
        [begin
             {ok, Mem, _} = emmap:open(Name, Options),
             close(Mem)
         end || {Name, Options} <- [{File, [nofollow]}, {hd(Links), []}]]
    end).

anon_is_memory_without_a_file_test() ->
    with_dir(fun(Dir) ->
        File = filename:join(Dir, "ignored"),
        [begin
             {ok, Mem, #{exist := false, size := 10000}} = emmap:open(File, 0, 10000, Options),
             ?assert({ok, zeros(10000)} =:= emmap:pread(Mem, 0, 20000)),
             ok = emmap:pwrite(Mem, 9990, <<"at the end">>),
             ?assertEqual({ok, 30000}, emmap:resize(Mem, 30000)),
             ?assertEqual({ok, <<"at the end", 0>>}, emmap:pread(Mem, 9990, 11)),
             ?assertEqual({ok, 0}, emmap:patomic_add(Mem, 0, 5)),
             ?assertEqual([ok, ok], [emmap:sync(Mem), emmap:flush(Mem)]),
             ?assertMatch(#{name := <<>>, size := 30000}, emmap:info(Mem)),
             close(Mem)
         end || Options <- [[anon, write], [anon, create, truncate, fit, auto_unlink, write],
                            [anon, shared, write]]],
        ?assertEqual({ok, []}, file:list_dir(Dir)),
        ?assertEqual({error, einval}, emmap:open(File, 1, 10, [anon])),
        ?assertEqual({error, size_missing}, emmap:open(File, [anon]))
    end).

%%------------------------------------------------------------------------------------- addresses

address_maps_there_and_an_occupied_one_is_eexist_test() ->
    with_file(pattern(5000), fun(File, Bytes) ->
        Address = free_address(),
        {ok, Mem, _} = emmap:open(File, [{address, Address}, fixed | ?SHARED]),
        ?assert(lists:any(fun({From, _}) -> From =:= Address end, mappings())),
        ?assertEqual({ok, Bytes}, emmap:pread(Mem, 0, 5000)),
        Before = snapshot(File),
        [?assertEqual({error, eexist}, emmap:open(File, 0, Len, [{address, Address} | Options]))
         || {Len, Options} <- [{0, []}, {0, [fixed | ?SHARED]}, {9000, [fit | ?SHARED]},
                               {9000, [truncate | ?SHARED]}]],
        ?assertEqual({error, eexist}, emmap:open(File ++ ".new", 0, 9000,
                                                 [{address, Address}, create | ?SHARED])),
        ?assertEqual({error, eexist}, emmap:open("", 0, 9000, [{address, Address}, anon])),
        ?assertNot(filelib:is_file(File ++ ".new")),
        ?assertEqual(Before, snapshot(File)),
        ?assertEqual({error, enomem}, emmap:resize(Mem, 1 bsl 20)),
        ?assertEqual({ok, Bytes}, emmap:pread(Mem, 0, 5000)),
        close(Mem)
    end).

what_is_no_address_is_refused_test() ->
    with_file(pattern(5000), fun(File, _) ->
        ?assertEqual({error, einval}, emmap:open(File, [{address, free_address() + 1}])),
        ?assertEqual({error, enomem}, emmap:open(File, [{address, 1 bsl 62}])),
        [badarg(2, "the value is impossible in {address",
                fun() -> emmap:open(File, [{address, Bad}]) end)
         || Bad <- [0, -4096, 1 bsl 63, 1 bsl 64, 4096.0, here]]
    end).

%%----------------------------------------------------------------------------------------- memory

locked_pages_stay_in_memory_test_() ->
    where_mlock_locks(fun ?MODULE:locked_pages_stay_in_memory/0).

%% Address sanitizer puts its own mlock before the C library's, which does nothing.
where_mlock_locks(Test) ->
    case string:find(os:getenv("LD_PRELOAD", ""), "asan") of
        nomatch -> {timeout, 120, Test};
        _ -> []
    end.

locked_pages_stay_in_memory() ->
    with_file(pattern(40000), fun(File, _) ->
        in_vm(fun() ->
            Page = page(),
            Before = locked_bytes(),
            {ok, Mem, _} = emmap:open(File, 4000, 0, [lock_memory, {address_space, 1 bsl 20}
                                                      | ?SHARED]),
            ?assertEqual(pages(40000, Page) - 4000 div Page * Page, locked_bytes() - Before),
            {ok, 96000} = emmap:resize(Mem, 96000),
            ?assertEqual(pages(100000, Page) - 4000 div Page * Page, locked_bytes() - Before),
            ok = emmap:close(Mem),
            emmap_test_lib:wait_until(fun() -> locked_bytes() =:= Before end)
        end)
    end).

pages(Bytes, Page) ->
    (Bytes + Page - 1) div Page * Page.

locked_bytes() ->
    {ok, Status} = file:read_file("/proc/self/status"),
    {match, [KiB]} = re:run(Status, "VmLck:\\s*([0-9]+) kB", [{capture, all_but_first, binary}]),
    1024 * binary_to_integer(KiB).

memory_that_may_not_be_locked_is_enomem_test_() ->
    where_mlock_locks(fun ?MODULE:memory_that_may_not_be_locked_is_enomem/0).

%% Whoever may lock without limit gives that up first.
memory_that_may_not_be_locked_is_enomem() ->
    Limited = ["/bin/sh", "-c", "ulimit -l 256 && exec \"$@\"", "sh",
               filename:join([code:root_dir(), "bin", "erl"])],
    [Program | Args] = case emmap_test_lib:is_root() of
        true -> ["setpriv", "--inh-caps=-all", "--bounding-set=-all" | Limited];
        false -> Limited
    end,
    with_file(pattern(100000), fun(File, Bytes) ->
        in_vm(#{exec => {os:find_executable(Program), Args}}, fun() ->
            {ok, Mem, _} = emmap:open(File, [lock_memory | ?SHARED]),
            ?assertEqual({error, enomem}, emmap:resize(Mem, 1 bsl 20)),
            ?assertMatch(#{size := 100000}, emmap:info(Mem)),
            [?assertEqual({error, enomem},
                          emmap:open(Name, 0, 1 bsl 20, [lock_memory | Options] ++ ?SHARED))
             || {Name, Options} <- [{File, [fit]}, {File, [truncate]}, {File ++ ".new", [create]}]],
            ok = emmap:close(Mem)
        end),
        ?assertEqual({ok, Bytes}, file:read_file(File)),
        ?assertNot(filelib:is_file(File ++ ".new"))
    end).

populate_touches_all_pages_and_changes_nothing_test() ->
    with_file(pattern(500000), fun(File, Bytes) ->
        [begin
             {ok, Mem, #{size := 500000}} = emmap:open(File, [populate | Options]),
             ?assert({ok, Bytes} =:= emmap:pread(Mem, 0, 500000)),
             close(Mem)
         end || Options <- [[], [write], [shared], ?SHARED, [nonblock | ?SHARED], [direct]]],
        ?assert({ok, Bytes} =:= file:read_file(File))
    end).

populate_on_a_full_disk_is_enospc_test_() ->
    {timeout, 120, fun ?MODULE:populate_on_a_full_disk_is_enospc/0}.

populate_on_a_full_disk_is_enospc() ->
    with_dir(fun(Dir) ->
        emmap_test_lib:with_tmpfs(Dir, 1 bsl 20, fun(Root) ->
            File = new_file(Root, "holes", <<"a">>),
            emmap_test_lib:truncate(File, 4 bsl 20),
            Before = snapshot(File),
            ?assertEqual({error, enospc}, emmap:open(File, [populate | ?SHARED])),
            ?assertEqual(Before, snapshot(File)),
            {ok, Mem, _} = emmap:open(File, ?SHARED),
            close(Mem)
        end)
    end).

%%------------------------------------------------------------------------------ what Linux lacks

sync_needs_a_file_system_that_can_test() ->
    with_file(pattern(5000), fun(File, _) ->
        Before = snapshot(File),
        {ok, Mem, _} = emmap:open(File, [shared_validate, write]),
        ?assertMatch(#{mode := shared}, emmap:info(Mem)),
        close(Mem),
        [?assertEqual({error, eopnotsupp}, emmap:open(File, 0, Len, [shared_validate, sync | More]))
         || {Len, More} <- [{0, []}, {0, [write]}, {9000, [fit, write]}, {100, [truncate, write]}]],
        ?assertEqual({error, eopnotsupp}, emmap:open(File ++ ".new", 0, 10,
                                                     [shared_validate, sync, create, write])),
        ?assertNot(filelib:is_file(File ++ ".new")),
        ?assertEqual(Before, snapshot(File))
    end).

huge_pages_that_nobody_reserved_are_enomem_test() ->
    [?assertEqual({Option, {error, enomem}},
                  {Option, emmap:open("", 0, Size, [anon, write, Option])})
     || {Option, KiB, Size} <- [{hugetlb, 2048, 1 bsl 21}, {huge_2mb, 2048, 1 bsl 21},
                                {huge_2mb, 2048, 4096}, {huge_1gb, 1048576, 1 bsl 30}],
        emmap_test_lib:no_huge_pages(KiB)].

hints_change_nothing_that_is_seen_test() ->
    with_file(pattern(5000), fun(File, Bytes) ->
        [begin
             {ok, Mem, #{size := 5000}} = emmap:open(File, [Option | ?SHARED]),
             ?assertEqual({ok, Bytes}, emmap:pread(Mem, 0, 5000)),
             {ok, 9000} = emmap:resize(Mem, 9000),
             {ok, 5000} = emmap:resize(Mem, 5000),
             close(Mem)
         end || Option <- [noreserve, nocache, uninitialized, nonblock, nolock, lock, read, debug]],
        ?assertEqual({ok, Bytes}, file:read_file(File))
    end).

%%------------------------------------------------------------------------------ -----the rest

options_that_exclude_each_other_are_named_test() ->
    with_file(pattern(100), fun(File, _) ->
        Before = snapshot(File),
        [badarg(2, Words, fun() -> emmap:open(File, Options) end)
         || {Options, Words} <-
                [{[lock, nolock], "the options lock and nolock exclude each other"},
                 {[nolock, write, lock], "the options lock and nolock exclude each other"},
                 {[populate, sparse], "the options populate and sparse exclude each other"},
                 {[huge_1gb, huge_2mb, anon],
                  "the options huge_2mb and huge_1gb exclude each other"},
                 {[shared_validate, private], "the options shared and private exclude each other"},
                 {[sync, shared], "the option sync needs the option shared_validate"},
                 {[extend, shared], "the option extend needs the option write"},
                 {[fixed], "the option fixed needs the option address"}]],
        ?assertEqual(Before, snapshot(File))
    end).

debug_logs_what_the_handle_does_test_() ->
    {timeout, 120, fun ?MODULE:debug_logs_what_the_handle_does/0}.

debug_logs_what_the_handle_does() ->
    with_file(pattern(100), fun(File, _) ->
        in_vm(fun() -> ?assertEqual({0, 4}, {logged(File, []), logged(File, [debug])}) end)
    end).

%% How often open, two times resize and close log something.
logged(File, Options) ->
    Self = self(),
    ok = logger:set_primary_config(level, debug),
    ok = logger:add_primary_filter(?MODULE, {fun(Event, _) -> Self ! Event, stop end, none}),
    {ok, Mem, _} = emmap:open(File, Options ++ ?SHARED),
    {ok, 200} = emmap:resize(Mem, 200),
    {ok, 100} = emmap:resize(Mem, 100),
    ok = emmap:close(Mem),
    ok = logger:remove_primary_filter(?MODULE),
    length([Text || #{level := debug, msg := Text} <- received()]).

received() ->
    receive
        Message -> [Message | received()]
    after 0 ->
        []
    end.

close(Mem) ->
    ?assertEqual(ok, emmap:close(Mem)).
