%% Many handles, many times, everything at once.
%%
%% EMMAP_STRESS_SECONDS: how long everything_at_once lasts (10).
-module(emmap_stress_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-import(emmap_test_lib, [start_vm/0, stop_vm/1, call/2, limited_vm/1, new_file/3, pattern/1,
                         zeros/1, together/1, alone/1, nothing_is_left/0, descriptors/0, maps/0,
                         resident_bytes/0]).

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([ten_thousand_opens_and_closes_leak_nothing/1,
         opens_and_closes_in_many_processes_leak_nothing/1,
         ten_thousand_failed_opens_leak_nothing/1,
         five_thousand_handles_at_once/1,
         running_out_of_descriptors_is_emfile/1,
         everything_at_once/1]).

suite() ->
    [{timetrap, {seconds, 300 + seconds()}}].

all() ->
    [ten_thousand_opens_and_closes_leak_nothing,
     opens_and_closes_in_many_processes_leak_nothing,
     ten_thousand_failed_opens_leak_nothing,
     five_thousand_handles_at_once,
     running_out_of_descriptors_is_emfile,
     everything_at_once].

init_per_testcase(Name, Config) ->
    emmap_test_lib:init_case(Name, Config).

end_per_testcase(_Name, Config) ->
    emmap_test_lib:end_case(Config).

seconds() ->
    list_to_integer(os:getenv("EMMAP_STRESS_SECONDS", "10")).

%%----------------------------------------------------------------------------------------- leaks

ten_thousand_opens_and_closes_leak_nothing(Config) ->
    File = new_file(?config(dir, Config), "file", pattern(20000)),
    leaks_nothing(fun(N) ->
        Options = lists:nth(1 + N rem 4, [[write, shared], [], [shared, direct], [write, direct]]),
        {ok, Mem, _} = emmap:open(File, Options),
        {ok, _} = emmap:pread(Mem, 5000, 10),
        N rem 8 > 3 orelse emmap:close(Mem), % the others are left to the collector
        ok
    end).

opens_and_closes_in_many_processes_leak_nothing(Config) ->
    File = new_file(?config(dir, Config), "file", pattern(20000)),
    leaks_nothing(fun(N) ->
        N rem 16 =:= 0 andalso together([fun() ->
            {ok, Mem, _} = emmap:open(File, [write, shared]),
            ok = emmap:pwrite(Mem, P * 100, <<N:32>>),
            ok = emmap:close(Mem)
        end || P <- lists:seq(1, 16)]),
        ok
    end).

ten_thousand_failed_opens_leak_nothing(Config) ->
    Dir = ?config(dir, Config),
    File = new_file(Dir, "file", pattern(20000)),
    Fails = [{"missing", 0, 0, []}, {"", 0, 0, []}, {"file", 0, 1, []}, {"file", 30000, 0, []},
             {"file", 0, 1 bsl 46, [write, shared, fit]}, {"new", 0, 0, [create, write]},
             {"file", 0, 1 bsl 46, [write, truncate]}, {"file", 0, -1, []}, {"file/x", 0, 0, []},
             {"new", 0, 1 bsl 46, [create, write, shared]}],
    leaks_nothing(fun(N) ->
        {Name, Off, Len, Options} = lists:nth(1 + N rem length(Fails), Fails),
        {error, _} = emmap:open(filename:join(Dir, Name), Off, Len, Options),
        ok
    end),
    ?assertEqual({ok, pattern(20000)}, file:read_file(File)),
    ?assertEqual({ok, ["file"]}, file:list_dir(Dir)).

%% Calls the fun 10,000 times, in a VM with few descriptors, and weighs before and after.
leaks_nothing(Fun) ->
    in_limited_vm(1024, fun() ->
        repeat(Fun, 1000),
        {Descriptors, Maps, Resident} = weigh(),
        repeat(Fun, 10000),
        {DescriptorsAfter, MapsAfter, ResidentAfter} = weigh(),
        ?assertEqual(Descriptors, DescriptorsAfter),
        ?assert(MapsAfter =< Maps + 50), % the allocators' own come and go
        ?assert(ResidentAfter =< Resident + (16 bsl 20))
    end).

repeat(Fun, Times) ->
    alone(fun() -> lists:foreach(Fun, lists:seq(1, Times)) end).

weigh() ->
    nothing_is_left(),
    {descriptors(), length(maps()), resident_bytes()}.

in_limited_vm(Descriptors, Fun) ->
    case limited_vm(Descriptors) of
        undefined ->
            {skip, "no VM can be had with " ++ integer_to_list(Descriptors) ++ " descriptors"};
        Vm ->
            Result = call(Vm, Fun),
            stop_vm(Vm),
            Result
    end.

%%------------------------------------------------------------------------------ many at once

five_thousand_handles_at_once(Config) ->
    Files = [new_file(?config(dir, Config), integer_to_list(N), pattern(20000 + N))
             || N <- lists:seq(1, 50)],
    in_limited_vm(6000, fun() ->
        Before = alone(fun emmap_test_lib:descriptors/0),
        alone(fun() -> many_handles(Files) end),
        nothing_is_left(),
        ?assertEqual(Before, descriptors())
    end).

many_handles(Files) ->
    Mems = [begin
                {ok, Mem, _} = emmap:open(File, [write, shared]),
                {N, Mem}
            end || _ <- lists:seq(1, 100), {N, File} <- lists:zip(lists:seq(1, 50), Files)],
    ?assertMatch(#{handles := 5000, regions := 5000}, emmap:stats()),
    [begin
         ?assertEqual({ok, binary:part(pattern(20050), 19000, 1000 + N)},
                      emmap:pread(Mem, 19000, 2000)),
         ?assertEqual(ok, emmap:pwrite(Mem, 0, <<N>>)),
         ?assertEqual({ok, 20000 + N}, emmap:resize(Mem, 20000 + N))
     end || {N, Mem} <- Mems],
    [?assertEqual(ok, emmap:close(Mem)) || {_, Mem} <- Mems].

running_out_of_descriptors_is_emfile(Config) ->
    File = new_file(?config(dir, Config), "file", pattern(20000)),
    in_limited_vm(256, fun() ->
        alone(fun() ->
            [{error, Reason} | Mems] = open_until_refused(File, []),
            ?assertEqual(emfile, Reason),
            [?assertMatch({ok, <<_, _>>}, emmap:pread(Mem, 100, 2)) || Mem <- Mems],
            [ok = emmap:close(Mem) || Mem <- Mems]
        end),
        nothing_is_left(),
        {ok, Mem, _} = emmap:open(File, []),
        ok = emmap:close(Mem)
    end).

open_until_refused(File, Mems) ->
    case emmap:open(File, [write, shared]) of
        {ok, Mem, _} -> open_until_refused(File, [Mem | Mems]);
        Error -> [Error | Mems]
    end.

%%---------------------------------------------------------------------------------- all at once

-define(STABLE, (64 * 4096)). % nobody cuts this off
-define(LARGEST, (256 * 4096)).
-define(SLOT, 64).
-define(WRITERS, 3).

%% Readers, writers, resizers, openers and closers in one VM, while another VM truncates the file
%% and grows it again. Each call gives a valid answer, and in the part that nobody truncates
%% every acknowledged write is there in the end.
everything_at_once(Config) ->
    File = new_file(?config(dir, Config), "file", zeros(?LARGEST)),
    Until = erlang:system_time(millisecond) + 1000 * seconds(),
    [Vm, Outside] = [start_vm(), start_vm()],
    Self = self(),
    Truncate = fun() -> truncate_on(File, Until) end,
    spawn_link(fun() -> Self ! {truncations, call_at_most(Outside, Truncate)} end),
    call_at_most(Vm, fun() -> users(File, Until) end),
    receive {truncations, Times} -> ct:log("~b truncations by another VM", [Times]) end,
    [stop_vm(V) || V <- [Vm, Outside]].

call_at_most(Vm, Fun) ->
    emmap_test_lib:call(Vm, Fun, 1000 * (280 + seconds())).

truncate_on(File, Until) ->
    {ok, Fd} = file:open(File, [raw, binary, read, write]),
    truncate_on(Fd, Until, 0).

truncate_on(Fd, Until, Times) ->
    {ok, _} = file:position(Fd, size()),
    ok = file:truncate(Fd),
    case over(Until) of
        true -> Times + 1;
        false -> truncate_on(Fd, Until, Times + 1)
    end.

size() ->
    ?STABLE + rand:uniform(?LARGEST - ?STABLE).

over(Until) ->
    erlang:system_time(millisecond) > Until.

users(File, Until) ->
    Before = alone(fun emmap_test_lib:descriptors/0),
    alone(fun() ->
        {ok, Mem, _} = emmap:open(File, [write, shared]),
        Written = together([fun() -> write_stable(Mem, N, Until) end
                            || N <- lists:seq(0, ?WRITERS - 1)]
                           ++ [fun() -> until(Until, fun() -> Use(Mem, File) end) end
                               || Use <- uses()]),
        check(Mem, File, maps:to_list(lists:foldl(fun maps:merge/2, #{}, Written))),
        ok = emmap:close(Mem)
    end),
    nothing_is_left(),
    ?assertEqual(Before, descriptors()).

until(Until, Fun) ->
    Fun(),
    case over(Until) of
        true -> #{};
        false -> until(Until, Fun)
    end.

%% Each writer has slots of its own; answers what is in them.
write_stable(Mem, N, Until) ->
    write_stable(Mem, N, Until, 1, #{}).

write_stable(Mem, N, Until, Time, Written) ->
    Slot = ?WRITERS * rand:uniform(?STABLE div ?SLOT div ?WRITERS - 1) + N,
    Stamp = binary:copy(<<N:8, Slot:24, Time:32>>, ?SLOT div 8),
    ok = emmap:pwrite(Mem, Slot * ?SLOT, Stamp),
    {ok, Stamp} = emmap:pread(Mem, Slot * ?SLOT, ?SLOT),
    case over(Until) of
        true -> Written#{Slot => Stamp};
        false -> write_stable(Mem, N, Until, Time + 1, Written#{Slot => Stamp})
    end.

check(Mem, File, Written) ->
    {ok, Bytes} = file:read_file(File),
    ?assert(length(Written) > 0),
    [begin
         ?assertEqual({Slot, {ok, Stamp}}, {Slot, emmap:pread(Mem, Slot * ?SLOT, ?SLOT)}),
         ?assertEqual({Slot, Stamp}, {Slot, binary:part(Bytes, Slot * ?SLOT, ?SLOT)})
     end || {Slot, Stamp} <- Written].

%% An answer that is not valid is a case_clause or a badmatch.
uses() ->
    [fun read/2, fun read/2, fun read_stable/2, fun read_large/2, fun write_unstable/2,
     fun resize/2, fun resize/2, fun sync_and_info/2, fun open_and_close/2,
     fun open_and_forget/2, fun open_private/2, fun read_direct/2].

read(Mem, _File) ->
    valid_read(emmap:pread(Mem, rand:uniform(?LARGEST), rand:uniform(2000))).

read_stable(Mem, _File) ->
    Off = rand:uniform(?STABLE) - 1,
    Len = rand:uniform(?STABLE - Off),
    {ok, <<_:Len/binary>>} = emmap:pread(Mem, Off, Len).

read_large(Mem, _File) ->
    valid_read(emmap:pread(Mem, rand:uniform(?STABLE), rand:uniform(?LARGEST))).

valid_read(Answer) ->
    case Answer of
        {ok, Bin} when is_binary(Bin) -> ok;
        eof -> ok;
        Error -> valid_fault(Error)
    end.

%% A page that is cut off and back again several times within one call looks like a bad one.
valid_fault({error, truncated}) -> ok;
valid_fault({error, eio}) -> ok.

write_unstable(Mem, _File) ->
    Data = binary:copy(<<"y">>, rand:uniform(90000)),
    try emmap:pwrite(Mem, size(), Data) of
        ok -> ok;
        Error -> valid_fault(Error)
    catch
        error:badarg -> ok % the end was nearer
    end.

resize(Mem, _File) ->
    {ok, Size} = emmap:resize(Mem, size()),
    ?assert(Size >= ?STABLE).

sync_and_info(Mem, _File) ->
    ok = emmap:flush(Mem),
    ok = emmap:sync(Mem, rand:uniform(?LARGEST), 10000),
    #{sync_error := undefined} = emmap:info(Mem),
    #{} = emmap:stats().

open_and_close(_Mem, File) ->
    {ok, Mem, _} = emmap:open(File, [write, shared]),
    together([fun() -> valid_or_closed(emmap:pread(Mem, rand:uniform(?LARGEST), 100000)) end,
              fun() -> ok = emmap:close(Mem) end]).

valid_or_closed({error, closed}) -> ok;
valid_or_closed(Answer) -> valid_read(Answer).

open_and_forget(_Mem, File) ->
    alone(fun() ->
        {ok, Mem, _} = emmap:open(File, [shared, direct]),
        valid_read(emmap:pread(Mem, rand:uniform(?LARGEST), 10000))
    end).

open_private(_Mem, File) ->
    case emmap:open(File, [write]) of
        {error, busy} -> % its size changed while it was opened
            ok;
        {ok, Mem, #{size := Size}} ->
            ok = emmap:pwrite(Mem, 0, pattern(1000)),
            {ok, _} = emmap:resize(Mem, Size + 100000),
            ok = emmap:pwrite(Mem, Size + 50000, <<"memory">>),
            {ok, <<"memory">>} = emmap:pread(Mem, Size + 50000, 6),
            valid_read(emmap:pread(Mem, 0, Size)),
            ok = emmap:close(Mem)
    end.

read_direct(_Mem, File) ->
    {ok, Mem, _} = emmap:open(File, [shared, direct]),
    Bins = [Bin || _ <- lists:seq(1, 20),
                   {ok, Bin} <- [emmap:pread(Mem, rand:uniform(?LARGEST), ?STABLE)]],
    [erlang:crc32(Bin) || Bin <- Bins],
    ok = emmap:close(Mem),
    [erlang:crc32(Bin) || Bin <- Bins].
