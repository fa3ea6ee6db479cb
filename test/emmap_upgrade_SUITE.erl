%% A new version of the library under open handles.
-module(emmap_upgrade_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-import(emmap_test_lib, [in_vm/1, pattern/1, zeros/1, truncate_outside/2, nothing_is_left/0,
                         descriptors/0]).

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([hot_upgrade_with_live_handles_and_a_fault_afterwards/1,
         reloading_the_same_library_keeps_the_handles/1]).

suite() ->
    [{timetrap, {minutes, 5}}].

all() ->
    [hot_upgrade_with_live_handles_and_a_fault_afterwards,
     reloading_the_same_library_keeps_the_handles].

init_per_testcase(Name, Config) ->
    emmap_test_lib:init_case(Name, Config).

end_per_testcase(_Name, Config) ->
    emmap_test_lib:end_case(Config).

hot_upgrade_with_live_handles_and_a_fault_afterwards(Config) ->
    Dir = ?config(dir, Config),
    Versions = [copy_library(Dir, "emmap-" ++ Version) || Version <- ["90.0.0", "91.0.0"]],
    File = filename:join(Dir, "file"),
    in_vm(fun() ->
        Before = emmap_test_lib:alone(fun emmap_test_lib:descriptors/0),
        emmap_test_lib:alone(fun() -> upgrade_through(Versions, File) end),
        nothing_is_left(),
        ?assertEqual(Before, descriptors())
    end).

reloading_the_same_library_keeps_the_handles(Config) ->
    File = filename:join(?config(dir, Config), "file"),
    in_vm(fun() ->
        emmap_test_lib:alone(fun() -> upgrade_through([same, same], File) end),
        nothing_is_left()
    end).

copy_library(Dir, Name) ->
    [Ebin, Priv] = [filename:join([Dir, Name, Part]) || Part <- ["ebin", "priv"]],
    Beams = filelib:wildcard(filename:join([code:lib_dir(emmap), "ebin", "emmap*"])),
    Library = filename:join(code:priv_dir(emmap), "emmap_nif.so"),
    Copies = [{Library, Priv} | [{Beam, Ebin} || Beam <- Beams]],
    [begin
         To = filename:join(Folder, filename:basename(From)),
         ok = filelib:ensure_dir(To),
         {ok, _} = file:copy(From, To)
     end || {From, Folder} <- Copies],
    Ebin.

%% A handle of each version is used under all later ones.
upgrade_through(Versions, File) ->
    Page = emmap_test_lib:page(),
    Bytes = pattern(16 * Page),
    ok = file:write_file(File, Bytes),
    First = use_handles([], File, Bytes),
    Counters = count(File, []),
    published(File, 1),
    {Handles, Last} = lists:foldl(fun(Version, {Handles, Counting}) ->
        load_version(Version),
        More = use_handles(Handles, File, Bytes),
        true = code:soft_purge(emmap_nif), % the old code is gone, the library must not be
        [erlang:garbage_collect(Pid) || Pid <- processes()],
        Now = count(File, Counting),
        published(File, length(Now) * (length(Now) + 1) div 2),
        {use_handles(More, File, Bytes), Now}
    end, {First, Counters}, Versions),
    ?assertEqual(ok, emmap:unpublish_stats()),
    [?assertEqual(ok, emmap_counters:close(C)) || C <- Last],
    after_upgrade(Handles, File, Bytes, Page).

load_version(same) ->
    load_modules();
load_version(Ebin) ->
    true = code:replace_path(emmap, Ebin),
    load_modules(),
    ?assertEqual(filename:join(Ebin, "emmap_nif.beam"), code:which(emmap_nif)),
    Folder = filename:basename(filename:dirname(Ebin)),
    ?assert(emmap_test_lib:maps_of(filename:join([Folder, "priv", "emmap_nif.so"])) > 0).

load_modules() ->
    [begin
         code:purge(Module),
         ?assertEqual({module, Module}, code:load_file(Module))
     end || Module <- [emmap_nif, emmap_error, emmap, emmap_counters]].

%% Uses those that are open, and opens one more of each kind with a direct binary.
use_handles(Handles, File, Bytes) ->
    [begin
         ?assertEqual({ok, Bytes}, emmap:pread(Mem, 0, byte_size(Bytes))),
         ?assertEqual(ok, emmap:pwrite(Mem, 3, binary:part(Bytes, 3, 10))),
         ?assertEqual(Bytes, Direct),
         ?assertEqual({ok, byte_size(Bytes)}, emmap:resize(Mem, byte_size(Bytes))),
         ?assertMatch(#{faults := 0}, emmap:info(Mem)),
         ?assertEqual(ok, emmap:sync(Mem))
     end || {Mem, Direct} <- Handles],
    {ok, New, _} = emmap:open(File, [write, shared, direct]),
    {ok, Copying, _} = emmap:open(File, [write, shared]),
    {ok, Binary} = emmap:pread(New, 0, byte_size(Bytes)),
    [{New, Binary}, {Copying, Bytes} | Handles].

%% Counts by each handle, one more than before: by number, by name, and by allocation.
count(File, Before) ->
    {ok, New} = emmap_counters:open(File ++ ".counters", [hits, ids]),
    Counting = [New | Before],
    Sum = length(Counting) * (length(Counting) - 1) div 2,
    ?assertEqual([Sum + N || N <- lists:seq(1, length(Counting))],
                 [emmap_counters:add_get(C, hits, 1) || C <- Counting]),
    ?assertEqual([Sum + N || N <- lists:seq(0, length(Counting) - 1)],
                 [emmap_counters:allocate(C, 2, 1) || C <- Counting]),
    Counting.

%% What the threads have counted goes on, whichever version's code they ran; so does the file of it.
published(File, Allocated) ->
    ?assertEqual(ok, emmap:publish_stats(File ++ ".figures")),
    ?assertMatch(#{allocated := Allocated}, emmap:stats()),
    {ok, C} = emmap_counters:open(File ++ ".figures", [], [read]),
    ?assertMatch(#{<<"emmap_allocated">> := Allocated}, emmap_counters:to_map(C)),
    ?assertEqual(ok, emmap_counters:close(C)).

%% The fault handler, the background thread and the counts are still those of the first version.
after_upgrade(Handles, File, Bytes, Page) ->
    ?assertMatch(#{handles := N, faults := 0} when N =:= length(Handles), emmap:stats()),
    {Direct, [{Newest, _} | _] = Copying} =
        lists:partition(fun({Mem, _}) -> maps:get(direct, emmap:info(Mem)) end, Handles),
    {Oldest, _} = lists:last(Copying),
    ok = truncate_outside(File, Page),
    [begin
         ?assertEqual({error, truncated}, emmap:pread(Mem, At * Page, 10)),
         ok = file:write_file(File, Bytes),
         ?assertEqual({ok, binary:part(Bytes, At * Page, 10)}, emmap:pread(Mem, At * Page, 10)),
         ok = truncate_outside(File, Page)
     end || {Mem, At} <- [{Oldest, 3}, {Newest, 5}]],
    ?assertMatch(#{faults := 2}, emmap:stats()),
    Cut = <<(binary:part(Bytes, 0, Page))/binary, (zeros(15 * Page))/binary>>,
    [?assertEqual(Cut, Binary) || {_, Binary} <- Direct],
    [?assertEqual(ok, emmap:close(Mem)) || {Mem, _} <- Handles],
    [?assertEqual({error, closed}, emmap:pread(Mem, 0, 1)) || {Mem, _} <- Handles].
