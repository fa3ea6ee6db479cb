%% Several processes, handles and VMs at work on one file; handles that are given back; kill -9.
-module(emmap_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-import(emmap_test_lib, [in_vm/1, start_vm/0, stop_vm/1, call/2, new_file/3, pattern/1, zeros/1,
                         together/1, wait_until/1, nothing_is_left/0, descriptors/0]).

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([resize_under_live_direct_binaries/1,
         direct_binaries_keep_mapping_and_descriptor_until_collected/1,
         reads_and_writes_beside_resizes_never_fail/1,
         close_during_reads/1,
         a_handle_that_nobody_closed_is_given_back/1,
         two_handles_that_both_grow/1,
         a_handle_cuts_off_only_what_it_knew_of/1,
         two_vms_that_both_grow/1,
         two_vms_share_bytes/1,
         growth_by_another_vm_is_seen_past_the_known_end/1,
         kill9_keeps_what_was_acknowledged/1]).

suite() ->
    [{timetrap, {minutes, 5}}].

all() ->
    [resize_under_live_direct_binaries,
     direct_binaries_keep_mapping_and_descriptor_until_collected,
     reads_and_writes_beside_resizes_never_fail,
     close_during_reads,
     a_handle_that_nobody_closed_is_given_back,
     two_handles_that_both_grow,
     a_handle_cuts_off_only_what_it_knew_of,
     two_vms_that_both_grow,
     two_vms_share_bytes,
     growth_by_another_vm_is_seen_past_the_known_end,
     kill9_keeps_what_was_acknowledged].

init_per_testcase(Name, Config) ->
    emmap_test_lib:init_case(Name, Config).

end_per_testcase(_Name, Config) ->
    emmap_test_lib:end_case(Config).

%%------------------------------------------------------------------------------ direct binaries

resize_under_live_direct_binaries(Config) ->
    File = filename:join(?config(dir, Config), "file"),
    in_vm(fun() ->
        Before = descriptors(),
        emmap_test_lib:alone(fun() -> resize_under_readers(File) end),
        nothing_is_left(),
        ?assertEqual(Before, descriptors())
    end).

%% The first 4 pages stay; what lies behind comes and goes.
resize_under_readers(File) ->
    Page = emmap_test_lib:page(),
    Bytes = pattern(64 * Page),
    ok = file:write_file(File, Bytes),
    {ok, Mem, _} = emmap:open(File, [write, shared, direct]),
    Readers = [spawn_reader(Mem, Bytes, N, Page) || N <- lists:seq(0, 3)],
    [begin
         Size = (4 + rand:uniform(120)) * Page + rand:uniform(Page),
         ?assertEqual({ok, Size}, emmap:resize(Mem, Size))
     end || _ <- lists:seq(1, 300)],
    ok = emmap:close(Mem),
    wait_until(fun() -> maps:get(handles, emmap:stats()) =:= 0 end),
    [rounds(Reader) || Reader <- Readers], % each goes round again after the close
    ?assertMatch(#{regions := 1, holds := 1}, emmap:stats()),
    [stop_reader(Reader) || Reader <- Readers].

spawn_reader(Mem, Bytes, N, Page) ->
    spawn_monitor(fun() ->
        {ok, Stable} = emmap:pread(Mem, N * Page, Page),
        {ok, Whole} = emmap:pread(Mem, 0, 64 * Page),
        read_on(Stable, erlang:crc32(binary:part(Bytes, N * Page, Page)), Whole)
    end).

read_on(Stable, Crc, Whole) ->
    ?assertEqual(Crc, erlang:crc32(Stable)),
    _ = erlang:crc32(Whole), % its end may be cut off: zeros
    receive
        {round, From} -> From ! {round, self()}, read_on(Stable, Crc, Whole);
        stop -> ok
    after 0 ->
        read_on(Stable, Crc, Whole)
    end.

rounds({Pid, Ref}) ->
    [begin
         Pid ! {round, self()},
         receive
             {round, Pid} -> ok;
             {'DOWN', Ref, _, _, Reason} -> error({reader, Reason})
         end
     end || _ <- [1, 2, 3]].

stop_reader({Pid, Ref}) ->
    Pid ! stop,
    receive {'DOWN', Ref, _, _, Reason} -> ?assertEqual(normal, Reason) end.

direct_binaries_keep_mapping_and_descriptor_until_collected(Config) ->
    File = new_file(?config(dir, Config), "file", pattern(100000)),
    in_vm(fun() ->
        Before = descriptors(),
        Keeper = spawn(fun() ->
            {ok, Mem, _} = emmap:open(File, [shared, direct]),
            {ok, Bin} = emmap:pread(Mem, 0, 100000),
            ok = emmap:close(Mem),
            receive {still, From} -> From ! {bin, erlang:crc32(Bin)} end,
            receive stop -> ok end
        end),
        wait_until(fun() -> maps:get(handles, emmap:stats()) =:= 0 andalso
                            maps:get(holds, emmap:stats()) =:= 1 end),
        ?assertEqual(Before + 1, descriptors()),
        ?assert(emmap_test_lib:maps_of(File) > 0),
        Keeper ! {still, self()},
        receive {bin, Crc} -> ?assertEqual(erlang:crc32(pattern(100000)), Crc) end,
        Keeper ! stop,
        nothing_is_left(),
        ?assertEqual(Before, descriptors()),
        ?assertEqual(0, emmap_test_lib:maps_of(File))
    end).

%%---------------------------------------------------------------------------------------- resize

%% Whoever resizes through a handle of the same VM is no other program: nothing is truncated, and
%% no page is bad, however often the end moves within a call.
reads_and_writes_beside_resizes_never_fail(Config) ->
    File = new_file(?config(dir, Config), "file", pattern(300000)),
    in_vm(fun() ->
        {ok, Mem, _} = emmap:open(File, [write, shared]),
        {ok, Other, _} = emmap:open(File, [write, shared]),
        Resizers = [spawn_link(fun() -> resize_on(M) end) || M <- [Mem, Other]],
        together([fun() -> repeat(fun() -> open = Use(M) end, 10000) end
                  || M <- [Mem, Other], Use <- [fun read/1, fun write/1]]),
        [begin unlink(Pid), exit(Pid, kill) end || Pid <- Resizers],
        ok = emmap:close(Mem),
        ok = emmap:close(Other)
    end).

resize_on(Mem) ->
    open = resize(Mem),
    resize_on(Mem).

repeat(_Fun, 0) -> ok;
repeat(Fun, Times) -> Fun(), repeat(Fun, Times - 1).

%%---------------------------------------------------------------------------------------- close

close_during_reads(Config) ->
    File = filename:join(?config(dir, Config), "file"),
    in_vm(fun() ->
        Before = descriptors(),
        [close_during(File, Options)
         || _ <- lists:seq(1, 25),
            Options <- [[write, shared], [write], [write, shared, direct], [write, direct]]],
        nothing_is_left(),
        ?assertEqual(Before, descriptors())
    end).

close_during(File, Options) ->
    ok = file:write_file(File, pattern(100000)),
    {ok, Mem, _} = emmap:open(File, Options),
    Self = self(),
    Users = [spawn_monitor(fun() -> use_until_closed(Mem, Use, Self) end)
             || Use <- [fun read/1, fun read/1, fun write/1, fun write/1, fun resize/1,
                        fun sync/1, fun info/1]],
    [receive
         {using, Pid} -> ok;
         {'DOWN', Ref, _, _, Reason} -> error({user, Reason})
     end || {Pid, Ref} <- Users],
    ok = emmap:close(Mem),
    [receive {'DOWN', Ref, _, _, Reason} -> ?assertEqual(normal, Reason) end || {_, Ref} <- Users].

use_until_closed(Mem, Use, Starter) ->
    open = Use(Mem),
    Starter ! {using, self()},
    use_until_closed(Mem, Use).

use_until_closed(Mem, Use) ->
    case Use(Mem) of
        open -> use_until_closed(Mem, Use);
        closed -> ok
    end.

%% Each answers closed, or open after a valid answer; another answer is a case_clause.
read(Mem) ->
    case emmap:pread(Mem, rand:uniform(120000), rand:uniform(80000)) of
        {ok, Bin} -> _ = erlang:crc32(Bin), open;
        eof -> open;
        {error, closed} -> closed
    end.

write(Mem) ->
    Data = binary:copy(<<"x">>, rand:uniform(20000)),
    Iodata = case rand:uniform(2) of 1 -> Data; 2 -> [Data] end,
    try emmap:pwrite(Mem, rand:uniform(60000), Iodata) of
        ok -> open;
        {error, closed} -> closed
    catch
        error:badarg -> open % the end was nearer
    end.

resize(Mem) ->
    case emmap:resize(Mem, 30000 + rand:uniform(200000)) of
        {ok, _} -> open;
        {error, closed} -> closed
    end.

sync(Mem) ->
    ok = emmap:flush(Mem),
    case emmap:sync(Mem, 0, 1000) of
        ok -> open;
        {error, closed} -> closed
    end.

info(Mem) ->
    try emmap:info(Mem) of
        #{size := _} -> open
    catch
        error:{emmap, closed} -> closed
    end.

a_handle_that_nobody_closed_is_given_back(Config) ->
    File = new_file(?config(dir, Config), "file", pattern(100000)),
    in_vm(fun() ->
        Before = descriptors(),
        together([fun() ->
                      {ok, One, _} = emmap:open(File, [write, shared]),
                      {ok, Two, _} = emmap:open(File, [direct]),
                      {ok, Bin} = emmap:pread(Two, 10, 1000),
                      ok = emmap:pwrite(One, 10, Bin),
                      done
                  end || _ <- lists:seq(1, 300)]),
        nothing_is_left(),
        ?assertEqual(Before, descriptors()),
        ?assertEqual(0, emmap_test_lib:maps_of(File))
    end).

%%------------------------------------------------------------------------- several handles, VMs

-define(SLOT, 64).

two_handles_that_both_grow(Config) ->
    File = new_file(?config(dir, Config), "file", zeros(4096)),
    in_vm(fun() ->
        Mems = [begin {ok, Mem, _} = emmap:open(File, [write, shared]), Mem end || _ <- [0, 1]],
        Grown = together([fun() -> grow(Mem, N, 300) end
                          || {N, Mem} <- lists:zip([0, 1], Mems)]),
        [check_grown(Mem, File, Grown) || Mem <- Mems]
    end).

two_vms_that_both_grow(Config) ->
    File = new_file(?config(dir, Config), "file", zeros(4096)),
    Go = filename:join(?config(dir, Config), "go"),
    Vms = [start_vm(), start_vm()],
    [ok = call(Vm, fun() -> keep(File) end) || Vm <- Vms], % both know of 4096 bytes
    Self = self(),
    [spawn_link(fun() -> Self ! {Vm, call(Vm, fun() -> grow_at_sign(Go, N) end)} end)
     || {N, Vm} <- lists:zip([0, 1], Vms)],
    ok = file:write_file(Go, <<>>),
    Grown = [receive {Vm, Result} -> Result end || Vm <- Vms],
    {ok, Mem, _} = emmap:open(File, [write, shared]),
    check_grown(Mem, File, Grown),
    ok = emmap:close(Mem),
    [stop_vm(Vm) || Vm <- Vms].

grow_at_sign(Go, N) ->
    wait_until(fun() -> filelib:is_file(Go) end),
    grow(kept(), N, 200).

%% Grows by a few hundred bytes or doubles a little, and writes into the last slots of its own,
%% the even or the odd ones. Answers the largest size it was told, and what it wrote where.
grow(Mem, N, Times) ->
    {ok, Size} = emmap:resize(Mem, 4096 + 1),
    grow(Mem, N, Times, Size, #{}).

grow(_Mem, _N, 0, Size, Written) ->
    {Size, Written};
grow(Mem, N, Times, Size, Written) ->
    Wish = Size + rand:uniform(3 * ?SLOT),
    {ok, Now} = emmap:resize(Mem, Wish),
    ?assert(Now >= Wish),
    Last = Now div ?SLOT - 1,
    Slots = [Slot || Slot <- lists:seq(max(Last - 5, 0), Last), Slot rem 2 =:= N],
    [ok = emmap:pwrite(Mem, Slot * ?SLOT, stamp(N, Slot, Times)) || Slot <- Slots],
    New = maps:from_list([{Slot, stamp(N, Slot, Times)} || Slot <- Slots]),
    grow(Mem, N, Times - 1, Now, maps:merge(Written, New)).

stamp(N, Slot, Time) ->
    binary:copy(<<N:8, Slot:32, Time:24>>, ?SLOT div 8).

check_grown(Mem, File, Grown) ->
    {ok, Bytes} = file:read_file(File),
    ?assert(byte_size(Bytes) >= lists:max([Size || {Size, _} <- Grown])),
    ?assertMatch(#{size := Size} when Size =:= byte_size(Bytes), emmap:info(Mem)),
    [begin
         ?assertEqual({Slot, {ok, Stamp}}, {Slot, emmap:pread(Mem, Slot * ?SLOT, ?SLOT)}),
         ?assertEqual(Stamp, binary:part(Bytes, Slot * ?SLOT, ?SLOT))
     end || {_, Written} <- Grown, {Slot, Stamp} <- maps:to_list(Written)].

a_handle_cuts_off_only_what_it_knew_of(Config) ->
    File = new_file(?config(dir, Config), "file", pattern(4096)),
    {ok, One, _} = emmap:open(File, [write, shared]),
    {ok, Two, _} = emmap:open(File, [write, shared]),
    {ok, 20000} = emmap:resize(One, 20000),
    ok = emmap:pwrite(One, 19990, <<"their data">>),
    ?assertEqual({ok, 20000}, emmap:resize(Two)),        % its wish was 8192
    ?assertEqual({ok, <<"their data">>}, emmap:pread(Two, 19990, 10)),
    {ok, 30000} = emmap:resize(One, 30000),
    ?assertEqual({ok, 30000}, emmap:resize(Two, 20001)), % it knew of 20000
    ?assertEqual({ok, 20001}, emmap:resize(Two, 20001)), % now it knows of 30000
    ?assertEqual({ok, 10000}, emmap:resize(One, 10000)),
    ?assertEqual(10000, filelib:file_size(File)),
    [ok = emmap:close(Mem) || Mem <- [One, Two]].

two_vms_share_bytes(Config) ->
    File = new_file(?config(dir, Config), "file", zeros(10000)),
    Vms = [start_vm(), start_vm()],
    [ok = call(Vm, fun() -> keep(File) end) || Vm <- Vms],
    [begin
         Data = <<"from one to the other ", N:32>>,
         ok = call(One, fun() -> emmap:pwrite(kept(), N * 50, Data) end),
         ?assertEqual({ok, Data}, call(Two, fun() -> emmap:pread(kept(), N * 50, 26) end))
     end || N <- lists:seq(1, 20), [One, Two] <- [Vms, lists:reverse(Vms)]],
    [stop_vm(Vm) || Vm <- Vms].

growth_by_another_vm_is_seen_past_the_known_end(Config) ->
    File = new_file(?config(dir, Config), "file", zeros(4096)),
    [One, Two] = Vms = [start_vm(), start_vm()],
    [ok = call(Vm, fun() -> keep(File) end) || Vm <- Vms],
    ?assertEqual(eof, call(One, fun() -> emmap:pread(kept(), 90000, 4) end)),
    {ok, 100000} = call(Two, fun() -> emmap:resize(kept(), 100000) end),
    ok = call(Two, fun() -> emmap:pwrite(kept(), 90000, <<"more">>) end),
    ?assertEqual({ok, <<"more">>}, call(One, fun() -> emmap:pread(kept(), 90000, 4) end)),
    {ok, 200000} = call(Two, fun() -> emmap:resize(kept(), 200000) end),
    ?assertEqual(ok, call(One, fun() -> emmap:pwrite(kept(), 190000, <<"most">>) end)),
    ?assertEqual({ok, <<"most">>}, call(Two, fun() -> emmap:pread(kept(), 190000, 4) end)),
    {ok, 50000} = call(Two, fun() -> emmap:resize(kept(), 50000) end),
    ?assertEqual({error, truncated}, call(One, fun() -> emmap:pread(kept(), 190000, 4) end)),
    [stop_vm(Vm) || Vm <- Vms].

%% A handle that stays open in a VM between calls to it.
keep(File) ->
    {ok, Mem, _} = emmap:open(File, [write, shared]),
    persistent_term:put(?MODULE, Mem).

kept() ->
    persistent_term:get(?MODULE).

%%-------------------------------------------------------------------------------------- kill -9

-define(RING, 1024).

kill9_keeps_what_was_acknowledged(Config) ->
    [kill9(filename:join(?config(dir, Config), "round" ++ integer_to_list(N)))
     || N <- lists:seq(1, 5)].

%% The VM writes numbers round a ring that grows now and then, and notes each that was
%% acknowledged in a journal; it is killed somewhere in between.
kill9(Dir) ->
    ok = file:make_dir(Dir),
    [File, Journal] = [filename:join(Dir, Name) || Name <- ["file", "journal"]],
    Vm = start_vm(),
    ok = call(Vm, fun() ->
        spawn(fun() ->
            {ok, Mem, _} = emmap:open(File, 0, ?RING * ?SLOT, [create, write, shared]),
            {ok, Fd} = file:open(Journal, [raw, binary, append]),
            write_numbers(Mem, Fd, 1)
        end),
        ok
    end),
    Enough = 8 * rand:uniform(20000),
    wait_until(fun() -> filelib:file_size(Journal) >= Enough end),
    ok = emmap_test_lib:kill_vm(Vm),
    {ok, Numbers} = file:read_file(Journal),
    Last = byte_size(Numbers) div 8,
    {ok, Mem, #{size := Size}} = emmap:open(File, [shared]),
    ?assert(Size >= ?RING * ?SLOT + Last div 1000),
    %% The place after the last acknowledged may have been written or be half written.
    [?assertEqual({ok, number(N)}, emmap:pread(Mem, N rem ?RING * ?SLOT, ?SLOT))
     || N <- lists:seq(max(1, Last - ?RING + 2), Last)],
    ok = emmap:close(Mem).

write_numbers(Mem, Fd, N) ->
    N rem 1000 =:= 0 andalso begin {ok, _} = emmap:resize(Mem, ?RING * ?SLOT + N), ok end,
    ok = emmap:pwrite(Mem, N rem ?RING * ?SLOT, number(N)),
    ok = file:write(Fd, <<N:64>>),
    write_numbers(Mem, Fd, N + 1).

number(N) ->
    binary:copy(<<N:64>>, ?SLOT div 8).
