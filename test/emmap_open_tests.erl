%% Opening: what each option does, what is refused and how, offsets.
-module(emmap_open_tests).

-include_lib("eunit/include/eunit.hrl").
-include_lib("kernel/include/file.hrl").

-import(emmap_test_lib, [with_dir/1, with_file/2, new_file/3, write_at/3, pattern/1, zeros/1,
                         snapshot/1, badarg/3, wait_until/1]).

-export([a_file_without_permission_is_eacces/0]).

-define(SHARED, [write, shared]).

%%---------------------------------------------------------------------------------- its options

open_maps_an_existing_file_for_reading_test() ->
    with_file(pattern(5000), fun(File, Bytes) ->
        {ok, Mem, Info} = emmap:open(File, []),
        ?assertEqual(#{exist => true, size => 5000}, Info),
        ?assertEqual({ok, Bytes}, emmap:pread(Mem, 0, 5000)),
        ?assertEqual({error, eacces}, emmap:pwrite(Mem, 0, <<1>>)),
        ?assertMatch(#{access := read, mode := private}, emmap:info(Mem)),
        close(Mem)
    end).

read_is_implied_test() ->
    with_file(<<"abc">>, fun(File, _) ->
        [begin
             {ok, Mem, _} = emmap:open(File, Options),
             ?assertEqual({ok, <<"abc">>}, emmap:pread(Mem, 0, 3)),
             close(Mem)
         end || Options <- [[], [read], [write], [read, write, shared]]]
    end).

a_write_to_a_shared_map_is_in_the_file_at_once_test() ->
    with_file(<<"0123456789">>, fun(File, _) ->
        {ok, Mem, _} = emmap:open(File, ?SHARED),
        ok = emmap:pwrite(Mem, 3, <<"abc">>),
        ?assertEqual({ok, <<"012abc6789">>}, file:read_file(File)),
        write_at(File, 0, <<"xyz">>),
        ?assertEqual({ok, <<"xyzabc">>}, emmap:pread(Mem, 0, 6)),
        close(Mem)
    end).

a_write_to_a_private_map_is_its_own_test() ->
    [with_file(<<"0123456789">>, fun(File, Bytes) ->
         {ok, Mem, _} = emmap:open(File, [write | Private]),
         {ok, Other, _} = emmap:open(File, [write | Private]),
         ok = emmap:pwrite(Mem, 3, <<"abc">>),
         ?assertEqual({ok, <<"012abc6789">>}, emmap:pread(Mem, 0, 10)),
         ?assertEqual({ok, Bytes}, emmap:pread(Other, 0, 10)),
         ?assertEqual({ok, Bytes}, file:read_file(File)),
         close(Mem),
         ?assertEqual({ok, Bytes}, file:read_file(File)),
         close(Other)
     end) || Private <- [[], [private]]].

a_missing_file_is_enoent_test() ->
    with_dir(fun(Dir) ->
        File = filename:join(Dir, "missing"),
        [?assertEqual({error, enoent}, emmap:open(File, Options))
         || Options <- [[], [write], [write, shared, truncate], [{size, 10}], [direct]]],
        ?assertEqual({error, enoent}, emmap:open(filename:join(File, "f"), 0, 10, [create, write])),
        ?assertEqual({ok, []}, file:list_dir(Dir))
    end).

create_makes_a_file_of_zeros_test() ->
    [with_dir(fun(Dir) ->
         File = filename:join(Dir, "new"),
         {ok, Mem, Info} = apply(emmap, open, [File | Args]),
         ?assertEqual(#{exist => false, size => 5000}, Info),
         ?assertEqual({ok, zeros(5000)}, emmap:pread(Mem, 0, 6000)),
         ?assertEqual({ok, zeros(5000)}, file:read_file(File)),
         close(Mem)
     end) || Args <- [[0, 5000, [create, write, shared]], [0, 5000, [create, write]],
                      [[create, write, shared, {size, 5000}]],
                      [0, 0, [create, write, shared, {size, 5000}]],
                      [0, 5000, [create, write, shared, {size, 5000}]],
                      [0, 5000, [create, truncate, write, shared]],
                      [0, 5000, [create, fit, write, shared]]]].

create_leaves_an_existing_file_as_it_is_test() ->
    with_file(pattern(5000), fun(File, Bytes) ->
        {ok, Mem, #{exist := true}} = emmap:open(File, 0, 5000, [create, write, shared]),
        ?assertEqual({ok, Bytes}, file:read_file(File)),
        close(Mem)
    end).

create_needs_write_and_a_length_test() ->
    with_dir(fun(Dir) ->
        File = filename:join(Dir, "new"),
        ?assertEqual({error, eacces}, emmap:open(File, 0, 10, [create])),
        ?assertEqual({error, size_missing}, emmap:open(File, [create, write])),
        ?assertEqual({error, size_missing}, emmap:open(File, [create, write, {size, 0}])),
        ?assertEqual({ok, []}, file:list_dir(Dir))
    end).

chmod_is_the_mode_of_a_new_file_under_the_umask_test() ->
    with_dir(fun(Dir) ->
        Mode = fun(Name, Options) ->
            File = filename:join(Dir, Name),
            {ok, Mem, _} = emmap:open(File, 0, 10, [create, write | Options]),
            close(Mem),
            {ok, #file_info{mode = M}} = file:read_file_info(File),
            M band 8#7777
        end,
        ?assertEqual(8#600, Mode("default", [])),
        ?assertEqual(8#400, Mode("less", [{chmod, 8#400}])),
        Umask = 8#666 bxor umask(Dir),
        ?assertEqual(8#666 band (bnot Umask), Mode("more", [{chmod, 8#666}])),
        ?assertEqual(8#600, Mode("default", [{chmod, 8#640}])) % it is there: left as it is
    end).

%% What a new file with 8#666 gets.
umask(Dir) ->
    File = new_file(Dir, "umask", <<>>),
    {ok, #file_info{mode = Mode}} = file:read_file_info(File),
    Mode band 8#777.

truncate_empties_the_file_and_gives_it_the_length_test() ->
    [with_file(pattern(Before), fun(File, _) ->
         {ok, Mem, Info} = emmap:open(File, 0, After, [truncate, write, shared | Sparse]),
         ?assertEqual(#{exist => true, size => After}, Info),
         ?assertEqual({ok, zeros(After)}, file:read_file(File)),
         close(Mem)
     end) || Before <- [0, 1, 5000, 20000], After <- [1, 5000, 12288, 20000, 100000],
             Sparse <- [[], [sparse]]].

truncate_without_a_length_leaves_nothing_test() ->
    with_file(pattern(5000), fun(File, _) ->
        {ok, Mem, #{size := 0}} = emmap:open(File, [truncate, write, shared]),
        ?assertEqual({ok, <<>>}, file:read_file(File)),
        ?assertEqual(eof, emmap:pread(Mem, 0, 1)),
        ?assertEqual({ok, 100}, emmap:resize(Mem, 100)),
        ?assertEqual({ok, zeros(100)}, emmap:pread(Mem, 0, 200)),
        close(Mem)
    end).

an_empty_file_gets_the_length_asked_for_test() ->
    with_file(<<>>, fun(File, _) ->
        {ok, Empty, #{exist := true, size := 0}} = emmap:open(File, []),
        ?assertEqual(eof, emmap:pread(Empty, 0, 1)),
        close(Empty),
        {ok, Mem, #{size := 300}} = emmap:open(File, ?SHARED ++ [{size, 300}]),
        close(Mem),
        ?assertEqual({ok, zeros(300)}, file:read_file(File))
    end).

another_size_is_refused_without_fit_test() ->
    with_file(pattern(5000), fun(File, _) ->
        [refused_untouched(File, {error, size_mismatch}, Args)
         || Args <- [[0, 4999, ?SHARED], [0, 5001, ?SHARED], [0, 1, []], [0, 5001, []],
                     [100, 5000, ?SHARED], [?SHARED ++ [{size, 9}]], [0, 0, [{size, 9}]]]]
    end).

fit_stretches_a_shorter_file_and_maps_a_longer_one_whole_test() ->
    with_file(pattern(5000), fun(File, Bytes) ->
        {ok, Longer, #{exist := true, size := 5000}} = emmap:open(File, 0, 100, [fit | ?SHARED]),
        ?assertEqual({ok, Bytes}, file:read_file(File)),
        close(Longer),
        {ok, Shorter, #{size := 9000}} = emmap:open(File, 0, 9000, [fit | ?SHARED]),
        ?assertEqual({ok, <<Bytes/binary, (zeros(4000))/binary>>}, file:read_file(File)),
        close(Shorter),
        refused_untouched(File, {error, eacces}, [0, 9001, [fit]])
    end).

fixed_size_refuses_to_resize_test() ->
    with_file(pattern(5000), fun(File, Bytes) ->
        {ok, Mem, _} = emmap:open(File, [fixed_size | ?SHARED]),
        ?assertEqual({error, fixed_size}, emmap:resize(Mem)),
        ?assertEqual({error, fixed_size}, emmap:resize(Mem, 100)),
        ?assertEqual({error, fixed_size}, emmap:resize(Mem, 10000)),
        ?assertMatch(#{fixed_size := true, size := 5000}, emmap:info(Mem)),
        close(Mem),
        ?assertEqual({ok, Bytes}, file:read_file(File))
    end).

resize_doubles_below_max_inc_size_and_adds_it_above_test() ->
    with_file(pattern(5000), fun(File, _) ->
        {ok, Mem, _} = emmap:open(File, ?SHARED ++ [{max_inc_size, 8000}]),
        ?assertEqual([{ok, 10000}, {ok, 18000}, {ok, 26000}],
                     [emmap:resize(Mem), emmap:resize(Mem, 0), emmap:resize(Mem)]),
        ?assertEqual(26000, filelib:file_size(File)),
        close(Mem)
    end).

auto_unlink_deletes_the_file_at_close_test() ->
    with_dir(fun(Dir) ->
        File = filename:join(Dir, "f"),
        {ok, Mem, _} = emmap:open(File, 0, 10, [create, auto_unlink | ?SHARED]),
        ?assert(filelib:is_file(File)),
        close(Mem),
        ?assertNot(filelib:is_file(File))
    end).

auto_unlink_deletes_the_file_at_collection_test() ->
    with_dir(fun(Dir) ->
        File = filename:join(Dir, "f"),
        {_, Ref} = spawn_monitor(fun() ->
            {ok, _, _} = emmap:open(File, 0, 10, [create, auto_unlink | ?SHARED])
        end),
        receive {'DOWN', Ref, _, _, Reason} -> ?assertEqual(normal, Reason) end,
        wait_until(fun() -> not filelib:is_file(File) end)
    end).

auto_unlink_spares_another_file_of_the_name_test() ->
    with_file(<<"old">>, fun(File, _) ->
        {ok, Mem, _} = emmap:open(File, [auto_unlink]),
        ok = file:delete(File),
        ok = file:write_file(File, <<"new">>),
        close(Mem),
        ?assertEqual({ok, <<"new">>}, file:read_file(File))
    end).

space_is_taken_on_the_disk_but_for_sparse_test() ->
    with_dir(fun(Dir) ->
        Size = 1 bsl 20,
        Space = fun(Name, Options) ->
            File = filename:join(Dir, Name),
            {ok, Mem, _} = emmap:open(File, 0, Size, [create | ?SHARED] ++ Options),
            #{space := Made, allocated := Allocated} = emmap:info(Mem),
            {ok, _} = emmap:resize(Mem, 2 * Size),
            #{space := Grown, allocated := AllocatedGrown} = emmap:info(Mem),
            ?assertEqual(zeros(2 * Size), element(2, file:read_file(File))),
            close(Mem),
            {Made, Allocated >= Size, Grown, AllocatedGrown >= 2 * Size}
        end,
        ?assertEqual({sparse, false, sparse, false}, Space("sparse", [sparse])),
        case Space("whole", []) of
            {best_effort, _, best_effort, _} -> ok; % a file system that promises nothing
            Taken -> ?assertEqual({reserved, true, reserved, true}, Taken)
        end
    end).

force_is_nothing_on_a_local_file_system_test() ->
    with_file(<<"abc">>, fun(File, _) ->
        {ok, Mem, #{size := 3}} = emmap:open(File, [force]),
        close(Mem)
    end).

growth_ends_at_the_address_space_test() ->
    with_file(pattern(5000), fun(File, Bytes) ->
        {ok, Mem, _} = emmap:open(File, ?SHARED ++ [{address_space, 100000}]),
        #{address_space := Limit} = emmap:info(Mem),
        ?assert(Limit >= 100000 andalso Limit < 200000),
        ?assertEqual({ok, 100000}, emmap:resize(Mem, 100000)),
        ?assertEqual({error, enomem}, emmap:resize(Mem, Limit + 1)),
        ?assertEqual(100000, filelib:file_size(File)),
        ?assertEqual({ok, Bytes}, emmap:pread(Mem, 0, 5000)),
        close(Mem)
    end).

address_space_below_the_size_is_the_size_test() ->
    with_file(pattern(50000), fun(File, Bytes) ->
        {ok, Mem, #{size := 50000}} = emmap:open(File, ?SHARED ++ [{address_space, 1}]),
        ?assertEqual({ok, Bytes}, emmap:pread(Mem, 0, 50000)),
        close(Mem)
    end).

address_space_that_the_system_has_not_is_less_test() ->
    with_file(pattern(5000), fun(File, Bytes) ->
        {ok, Mem, _} = emmap:open(File, ?SHARED ++ [{address_space, (1 bsl 63) - 1}]),
        #{address_space := Limit} = emmap:info(Mem),
        ?assert(Limit >= 5000 andalso Limit < 1 bsl 63),
        ?assertEqual({ok, Bytes}, emmap:pread(Mem, 0, 5000)),
        close(Mem)
    end).

direct_binaries_lie_in_the_mapping_test() ->
    with_file(pattern(5000), fun(File, Bytes) ->
        {ok, Mem, _} = emmap:open(File, [direct | ?SHARED]),
        {ok, Direct} = emmap:pread(Mem, 1000, 9000),
        ?assertEqual(binary:part(Bytes, 1000, 4000), Direct),
        ok = emmap:pwrite(Mem, 1000, <<"changed">>),
        ?assertMatch(<<"changed", _/binary>>, Direct),
        ?assertMatch(#{direct := true}, emmap:info(Mem)),
        close(Mem),
        ?assertMatch(<<"changed", _/binary>>, Direct)
    end).

%%------------------------------------------------------------------------- -----how it refuses

wrong_options_are_named_test() ->
    with_file(pattern(100), fun(File, _) ->
        Before = snapshot(File),
        [begin
             badarg(2, Words, fun() -> emmap:open(File, Options) end),
             badarg(4, Words, fun() -> emmap:open(File, 0, 0, Options) end)
         end
         || {Options, Words} <-
                [{[no_such_option], "unknown option no_such_option"},
                 {[write, {no_such, 1}], "unknown option {no_such,1}"},
                 {["write"], "unknown option"},
                 {[<<"write">>], "unknown option"},
                 {[[write]], "unknown option"},
                 {[{write}], "unknown option {write}"},
                 {[{size}], "unknown option {size}"},
                 {[{size, 1, 2}], "unknown option {size,1,2}"},
                 {[{write, true}], "unknown option {write,true}"},
                 {[size], "unknown option size"},
                 {[list_to_atom(lists:duplicate(255, $x))], "unknown option xxx"},
                 {[list_to_atom([16#20AC])], "unknown option '" ++ [16#20AC]},
                 {[{size, -1}], "the value is impossible in {size,-1}"},
                 {[{size, 1.0}], "the value is impossible in {size,1.0}"},
                 {[{size, all}], "the value is impossible in {size,all}"},
                 {[{size, 1 bsl 63}], "the value is impossible in {size,"},
                 {[{size, 1 bsl 64}], "the value is impossible in {size,"},
                 {[{max_inc_size, 0}], "the value is impossible in {max_inc_size,0}"},
                 {[{chmod, 0}], "the value is impossible in {chmod,0}"},
                 {[{chmod, 8#10000}], "the value is impossible in {chmod,4096}"},
                 {[{chmod, rwx}], "the value is impossible in {chmod,rwx}"},
                 {[{address_space, 0}], "the value is impossible in {address_space,0}"},
                 {[{address_space, -5}], "the value is impossible in {address_space,-5}"},
                 {[shared, private], "the options shared and private exclude each other"},
                 {[private, write, shared], "the options shared and private exclude each other"},
                 {[truncate], "the option truncate needs the option write"},
                 {[truncate, shared], "the option truncate needs the option write"},
                 {[write | shared], "not a proper list of options"},
                 {write, "not a proper list of options"},
                 {#{write => true}, "not a proper list of options"},
                 {<<"write">>, "not a proper list of options"}]],
        badarg(4, "the length and the option {size, N} differ",
               fun() -> emmap:open(File, 0, 100, [{size, 99}]) end),
        ?assertEqual(Before, snapshot(File))
    end).

what_is_no_regular_file_is_refused_at_once_test() ->
    with_dir(fun(Dir) ->
        Fifo = filename:join(Dir, "fifo"),
        {0, _} = emmap_test_lib:run("mkfifo", [Fifo]),
        [begin
             ?assertEqual({error, eisdir}, emmap:open(Dir, 0, Len, Options)),
             ?assertEqual({error, enodev}, emmap:open(Fifo, 0, Len, Options)),
             ?assertEqual({error, enodev}, emmap:open("/dev/null", 0, Len, Options))
         end || {Len, Options} <- [{0, []}, {10, [create, write, shared]}, {0, [write]},
                                   {10, [truncate, write]}]]
    end).

a_file_on_the_way_is_enotdir_test() ->
    with_file(<<"abc">>, fun(File, _) ->
        ?assertEqual({error, enotdir}, emmap:open(filename:join(File, "x"), []))
    end).

a_name_that_is_too_long_is_enametoolong_test() ->
    ?assertEqual({error, enametoolong}, emmap:open(lists:duplicate(10000, $x), [])).

places_and_lengths_that_are_no_integers_are_badarg_test() ->
    with_file(pattern(100), fun(File, _) ->
        [begin
             badarg(2, "not an integer", fun() -> emmap:open(File, Bad, 0, []) end),
             badarg(3, "not an integer", fun() -> emmap:open(File, 0, Bad, []) end)
         end || Bad <- [1.0, foo, "1", <<"1">>, {1}, undefined, self()]]
    end).

impossible_places_and_lengths_are_einval_or_efbig_test() ->
    with_file(pattern(5000), fun(File, _) ->
        [refused_untouched(File, {error, Reason}, [Off, Len, Options])
         || Options <- [[], [fit | ?SHARED], [truncate | ?SHARED], [sparse, fit, create | ?SHARED]],
            {Off, Len, Reason} <- [{-1, 0, einval}, {0, -1, einval}, {1 bsl 63, 0, einval},
                                   {1 bsl 64, 0, einval}, {0, 1 bsl 64, einval},
                                   {(1 bsl 64) - 4096, 8192, einval},
                                   {-(1 bsl 70), 1 bsl 70, einval},
                                   {0, 1 bsl 63, efbig}, {4096, (1 bsl 63) - 1, efbig}]],
        [refused_untouched(File, {error, einval}, [5001, 0, Options]) || Options <- [[], ?SHARED]]
    end).

sizes_that_no_disk_has_leave_the_file_as_it_was_test() ->
    with_file(pattern(5000), fun(File, _) ->
        [begin
             Before = snapshot(File),
             {error, Reason} = emmap:open(File, 0, Len, Options),
             ?assert(lists:member(Reason, [enomem, enospc, efbig])),
             ?assertEqual(Before, snapshot(File)),
             {error, _} = emmap:open(File ++ ".new", 0, Len, [create | Options]),
             ?assertNot(filelib:is_file(File ++ ".new"))
         end || Len <- [1 bsl 46, 1 bsl 53, (1 bsl 63) - 1],
                Options <- [[fit | ?SHARED], [truncate | ?SHARED], [fit, write], [truncate, write]]]
    end).

a_file_without_permission_is_eacces_test_() ->
    {timeout, 120, fun ?MODULE:a_file_without_permission_is_eacces/0}.

a_file_without_permission_is_eacces() ->
    with_dir(fun without_permission/1).

without_permission(Dir) ->
    Home = filename:join(Dir, "home"),
    ok = file:make_dir(Home),
    Files = [filename:join(Dir, Name) || Name <- ["none", "read", "closed/f"]],
    [None, Read, Within] = Files,
    ok = file:make_dir(filename:join(Dir, "closed")),
    [ok = file:write_file(File, <<"abc">>) || File <- Files],
    ok = file:change_mode(None, 8#000),
    ok = file:change_mode(Read, 8#444),
    ok = file:change_mode(filename:join(Dir, "closed"), 8#000),
    Refused = fun() ->
        [{error, eacces} = emmap:open(File, Options)
         || {File, Options} <- [{None, []}, {None, [write, shared]}, {Read, [write]},
                                {Read, [write, truncate]}, {Within, []},
                                {Within ++ "new", [create, write, {size, 10}]}]],
        {ok, Mem, _} = emmap:open(Read, []),
        {ok, <<"abc">>} = emmap:pread(Mem, 0, 3)
    end,
    try
        case emmap_test_lib:is_root() of
            false ->
                Refused();
            true ->
                ok = file:change_mode(Dir, 8#755),
                Vm = emmap_test_lib:user_vm(Home),
                emmap_test_lib:call(Vm, Refused),
                emmap_test_lib:stop_vm(Vm)
        end
    after
        ok = file:change_mode(filename:join(Dir, "closed"), 8#700)
    end.

%%----------------------------------------------------------------------------- -----with an offset

place_0_of_a_handle_is_its_offset_in_the_file_test() ->
    with_file(pattern(20000), fun(File, Bytes) ->
        [begin
             {ok, Mem, #{size := Size}} = emmap:open(File, Off, 0, ?SHARED),
             ?assertEqual(20000 - Off, Size),
             ?assertEqual({ok, binary:part(Bytes, Off, Size)}, emmap:pread(Mem, 0, 30000)),
             ?assertMatch(#{offset := Off, size := Size, file_size := 20000}, emmap:info(Mem)),
             ok = emmap:pwrite(Mem, 7, <<"here">>),
             {ok, Now} = file:read_file(File),
             ?assertEqual(<<"here">>, binary:part(Now, Off + 7, 4)),
             ok = emmap:pwrite(Mem, 7, binary:part(Bytes, Off + 7, 4)),
             close(Mem)
         end || Off <- [0, 1, 100, 4095, 4096, 4097, 12345]],
        ?assertEqual({ok, Bytes}, file:read_file(File))
    end).

an_offset_at_the_end_maps_nothing_yet_test() ->
    with_file(pattern(5000), fun(File, Bytes) ->
        {ok, Mem, #{size := 0}} = emmap:open(File, 5000, 0, ?SHARED),
        ?assertEqual(eof, emmap:pread(Mem, 0, 1)),
        ?assertEqual({ok, 10}, emmap:resize(Mem, 10)),
        ok = emmap:pwrite(Mem, 0, <<"abc">>),
        ?assertEqual({ok, <<Bytes/binary, "abc", 0:7/unit:8>>}, file:read_file(File)),
        close(Mem)
    end).

a_length_counts_from_the_offset_test() ->
    with_file(pattern(5000), fun(File, Bytes) ->
        {ok, Mem, #{size := 4000}} = emmap:open(File, 1000, 4000, ?SHARED),
        ?assertEqual({ok, binary:part(Bytes, 1000, 4000)}, emmap:pread(Mem, 0, 5000)),
        ?assertEqual({ok, 8000}, emmap:resize(Mem)),
        ?assertEqual(9000, filelib:file_size(File)),
        close(Mem)
    end).

%%------------------------------------------------------------------------------------------ help

close(Mem) ->
    ?assertEqual(ok, emmap:close(Mem)).

refused_untouched(File, Error, Args) ->
    Before = snapshot(File),
    ?assertEqual({Args, Error}, {Args, apply(emmap, open, [File | Args])}),
    ?assertEqual(Before, snapshot(File)).
