%% Which scheduler does a call run on? What is in memory and small stays where it is; what is cold,
%% large, or of unknown size never runs on a normal one. Each test has a VM of its own, whose figures
%% are those of its calls alone.
-module(emmap_class_tests).

-include_lib("eunit/include/eunit.hrl").

-export([small_and_resident/1, large/1, cold/1, lines/1, charged/1, refused/1]).

-define(SIZE, 4 bsl 20).
-define(SHARED, [write, shared]).

a_resident_small_call_never_leaves_its_scheduler_test_() ->
    in_own_vm(fun small_and_resident/1).

small_and_resident(File) ->
    {ok, Mem, _} = emmap:open(File, ?SHARED),
    _ = [emmap:pread(Mem, Off, 64) || Off <- lists:seq(0, ?SIZE - 64, 4096)],
    wait_for_pages(Mem),
    Small = [fun() -> {ok, _} = emmap:pread(Mem, 8192, 64) end,
             fun() -> ok = emmap:pwrite(Mem, 8192, <<0:512>>) end,
             fun() -> {ok, _} = emmap:patomic_add(Mem, 8192, 1) end],
    [?assertEqual({1000, 0}, classes(fun() -> times(1000, Call) end)) || Call <- Small],
    ?assertEqual({1, 0}, classes(fun() -> {ok, _} = emmap:pread(Mem, 70000, 60000) end)).

a_large_call_never_runs_on_a_normal_scheduler_test_() ->
    in_own_vm(fun large/1).

large(File) ->
    {ok, Mem, _} = emmap:open(File, ?SHARED),
    Large = binary:copy(<<"x">>, 1 bsl 20),
    <<_:1, Unaligned:(1 bsl 20)/binary, _/bitstring>> = <<Large/binary, 0>>,
    ?assertEqual({0, 1}, classes(fun() -> {ok, _} = emmap:pread(Mem, 0, 1 bsl 20) end)),
    ?assertEqual({0, 1}, classes(fun() -> {ok, _} = emmap:read(Mem, 1 bsl 20) end)),
    ?assertEqual({0, 1}, classes(fun() -> ok = emmap:pwrite(Mem, 0, Large) end)),
    ?assertEqual({0, 1}, classes(fun() -> ok = emmap:pwrite(Mem, 0, Unaligned) end)),
    {ok, 0} = emmap:position(Mem, bof),
    ?assertEqual({0, 1}, classes(fun() -> ok = emmap:write(Mem, Large) end)),
    %% The length of a list is not known before it has been walked.
    ?assertEqual({0, 1}, classes(fun() -> ok = emmap:pwrite(Mem, 0, ["a", <<"b">>]) end)).

a_cold_page_is_never_touched_on_a_normal_scheduler_test_() ->
    in_own_vm(fun cold/1).

cold(File) ->
    [begin
         ok = make_cold(File),
         {ok, Mem, _} = emmap:open(File, Options),
         ?assertEqual({Call, Options, {0, 1}}, {Call, Options, classes(fun() -> Use(Mem) end)}),
         ok = emmap:close(Mem),
         emmap_test_lib:nothing_is_left()
     end || Options <- [?SHARED, [shared], [private], [direct, shared]],
            {Call, Use} <- calls(Options)].

calls(Options) ->
    [{pread, fun(Mem) -> {ok, _} = emmap:pread(Mem, 2 bsl 20, 64) end}] ++
    case Options of
        ?SHARED -> [{pwrite, fun(Mem) -> ok = emmap:pwrite(Mem, 2 bsl 20, <<"x">>) end},
                    {write, fun(Mem) -> {ok, _} = emmap:position(Mem, 2 bsl 20),
                                        ok = emmap:write(Mem, <<"x">>) end},
                    {patomic_add, fun(Mem) -> {ok, _} = emmap:patomic_add(Mem, 2 bsl 20, 1) end},
                    {read, fun(Mem) -> {ok, _} = emmap:read(Mem, 10) end}];
        _ -> []
    end.

a_long_line_is_never_scanned_on_a_normal_scheduler_test_() ->
    in_own_vm(fun lines/1).

lines(File) ->
    Line = [binary:copy(<<"x">>, 200000), "\n"],
    ok = file:write_file(File, ["short\n", Line, "short\n"]),
    {ok, Mem, _} = emmap:open(File, [shared]),
    wait_for_pages(Mem),
    ?assertEqual({1, 0}, classes(fun() -> {ok, <<"short\n">>} = emmap:read_line(Mem) end)),
    ?assertEqual({0, 1}, classes(fun() -> {ok, <<"xx", _/binary>>} = emmap:read_line(Mem) end)),
    ?assertEqual({1, 0}, classes(fun() -> {ok, <<"short\n">>} = emmap:read_line(Mem) end)).

%% A user who neither owns nor may write the file is told by one call of the kernel that every page
%% is in memory.
a_cold_page_of_somebody_elses_file_test_() ->
    {timeout, 120, fun() ->
        case emmap_test_lib:is_root() of
            false -> ok;
            true -> emmap_test_lib:with_dir(fun of_somebody_else/1)
        end
    end}.

of_somebody_else(Dir) ->
    File = emmap_test_lib:new_file(Dir, "file", emmap_test_lib:pattern(?SIZE)),
    ok = file:change_mode(Dir, 8#755),
    ok = file:change_mode(File, 8#644),
    Vm = emmap_test_lib:user_vm(Dir),
    try
        make_cold(File),
        Cold = emmap_test_lib:call(Vm, fun() -> read_classes(File) end),
        ?assertEqual({0, 1}, Cold),
        Warm = emmap_test_lib:call(Vm, fun() -> read_classes(File) end),
        ?assertEqual({1, 0}, Warm)
    after
        emmap_test_lib:stop_vm(Vm)
    end.

read_classes(File) ->
    {ok, Mem, _} = emmap:open(File, [shared]),
    Classes = classes(fun() -> {ok, _} = emmap:pread(Mem, 2 bsl 20, 64) end),
    ok = emmap:close(Mem),
    Classes.

%% A call takes the time of one reduction or of many: what it costs is charged as such, so that the
%% process gives way in time.
what_a_call_costs_is_charged_test_() ->
    in_own_vm(fun charged/1).

charged(File) ->
    {ok, Mem, _} = emmap:open(File, ?SHARED),
    wait_for_pages(Mem),
    Of = fun(Call, Data) -> reductions(fun() -> times(100, fun() -> Call(Data) end) end) end,
    %% 100 times 64 KiB take four timeslices of 4000 reductions.
    Read = fun(Len) -> {ok, _} = emmap:pread(Mem, 0, Len) end,
    Write = fun(Len) -> ok = emmap:pwrite(Mem, 0, binary:copy(<<"x">>, Len)) end,
    Next = fun(Len) -> {ok, _} = emmap:position(Mem, bof), {ok, _} = emmap:read(Mem, Len) end,
    [?assert(Of(Call, 65536) > Of(Call, 8) + 10000) || Call <- [Read, Write, Next]],
    %% A question to the kernel, for each first call to a block of 64 KiB.
    emmap_test_lib:wait_until(fun() -> looks(File) > 300 end),
    %% Another one, for each read past the end where no server is asked.
    Past = fun(Off) -> reductions(fun() -> times(1000, fun() -> emmap:pread(Mem, Off, 8) end) end) end,
    maps:get(space, emmap:info(Mem)) =/= reserved orelse ?assert(Past(?SIZE) > Past(0) + 1500).

%% A call that is refused has touched no bytes.
what_is_refused_is_not_counted_test_() ->
    in_own_vm(fun refused/1).

refused(File) ->
    {ok, Mem, _} = emmap:open(File, ?SHARED),
    {ok, ForReading, _} = emmap:open(File, [shared]),
    Large = binary:copy(<<"x">>, 1 bsl 20),
    {ok, ?SIZE} = emmap:position(Mem, eof),
    Calls = [fun() -> {error, eacces} = emmap:pwrite(ForReading, 0, Data) end || Data <- [<<"x">>, Large]]
        ++ [fun() -> {error, eacces} = emmap:write(ForReading, Data) end || Data <- [<<"x">>, Large]]
        ++ [fun() -> ?assertError(badarg, emmap:pwrite(Mem, ?SIZE, Data)) end || Data <- [<<"x">>, Large]]
        ++ [fun() -> ?assertError(badarg, emmap:write(Mem, Data)) end || Data <- [<<"x">>, Large]]
        ++ [fun() -> {error, eacces} = emmap:patomic_add(ForReading, 0, 1) end,
            fun() -> {error, alignment} = emmap:patomic_read_integer(Mem, 1) end,
            fun() -> ?assertError(badarg, emmap:patomic_add(Mem, ?SIZE, 1)) end,
            fun() -> eof = emmap:pread(Mem, ?SIZE, 8) end,
            fun() -> eof = emmap:read(Mem, 8) end],
    #{normal_bytes := Normal, dirty_bytes := Dirty} = emmap:stats(),
    ?assertEqual([], [Ix || {Ix, Call} <- lists:enumerate(Calls), classes(Call) =/= {0, 0}]),
    ?assertMatch(#{normal_bytes := Normal, dirty_bytes := Dirty}, emmap:stats()).

%% What the questions for 60 blocks cost. Half a second later all are asked again.
looks(File) ->
    {ok, Mem, _} = emmap:open(File, ?SHARED),
    [First, Again] = [reductions(fun() -> [{ok, _} = emmap:pread(Mem, Block bsl 16, 8)
                                           || Block <- lists:seq(0, 59)] end) || _ <- [1, 2]],
    ok = emmap:close(Mem),
    First - Again.

reductions(Fun) ->
    {reductions, Before} = process_info(self(), reductions),
    _ = Fun(),
    {reductions, After} = process_info(self(), reductions),
    After - Before.

%%--------------------------------------------------------------------------------------- helpers

in_own_vm(Test) ->
    {timeout, 120, fun() ->
        emmap_test_lib:with_dir(fun(Dir) ->
            File = emmap_test_lib:new_file(Dir, "file", emmap_test_lib:pattern(?SIZE)),
            emmap_test_lib:in_vm(fun() -> Test(File) end)
        end)
    end}.

%% Calls that touched bytes on normal schedulers, and on dirty ones.
classes(Fun) ->
    #{normal_calls := Normal0, dirty_calls := Dirty0} = emmap:stats(),
    Fun(),
    #{normal_calls := Normal1, dirty_calls := Dirty1} = emmap:stats(),
    {Normal1 - Normal0, Dirty1 - Dirty0}.

times(0, _Fun) -> ok;
times(N, Fun) -> Fun(), times(N - 1, Fun).

%% Until what was read is what a look finds: then it stays so for this test.
wait_for_pages(Mem) ->
    emmap_test_lib:wait_until(
        fun() -> {1, 0} =:= classes(fun() -> {ok, _} = emmap:pread(Mem, 0, 8) end) end).

%% Written back, and dropped from memory. On a file system that lives in memory nothing is cold: there
%% the tests of cold pages cannot be had.
make_cold(File) ->
    {ok, Fd} = file:open(File, [raw, binary, read, write]),
    ok = file:sync(Fd),
    ok = file:advise(Fd, 0, 0, dont_need),
    ok = file:close(Fd).
