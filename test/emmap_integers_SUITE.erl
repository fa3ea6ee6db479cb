%% One integer that several processes and VMs count on: no count is lost, not by kill -9 either.
-module(emmap_integers_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-import(emmap_test_lib, [start_vm/0, stop_vm/1, kill_vm/1, call/2, new_file/3, zeros/1, together/1,
                         wait_until/1]).

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([eight_processes_count_exactly/1,
         three_vms_of_eight_processes_count_exactly/1,
         what_a_killed_vm_was_told_is_counted/1,
         compare_and_swap_of_several_vms_loses_nothing/1]).

-define(PROCESSES, 8).
-define(TIMES, 5000).
-define(AT, 4096).

suite() ->
    [{timetrap, {minutes, 5}}].

all() ->
    [eight_processes_count_exactly,
     three_vms_of_eight_processes_count_exactly,
     what_a_killed_vm_was_told_is_counted,
     compare_and_swap_of_several_vms_loses_nothing].

init_per_testcase(Name, Config) ->
    Config1 = emmap_test_lib:init_case(Name, Config),
    File = new_file(?config(dir, Config1), "file", zeros(2 * ?AT)),
    [{file, File}, {counters, filename:join(?config(dir, Config1), "counters")} | Config1].

end_per_testcase(_Name, Config) ->
    emmap_test_lib:end_case(Config).

%% Through two handles, so that they meet in the file only.
eight_processes_count_exactly(Config) ->
    count(Config, ?TIMES),
    ?assertEqual(expected(1), found(Config)).

three_vms_of_eight_processes_count_exactly(Config) ->
    Vms = [start_vm() || _ <- [1, 2, 3]],
    Self = self(),
    [spawn_link(fun() -> Self ! {Vm, call(Vm, fun() -> count(Config, ?TIMES) end)} end)
     || Vm <- Vms],
    [receive {Vm, Result} -> ?assertEqual(ok, Result) end || Vm <- Vms],
    ?assertEqual(expected(3), found(Config)),
    [stop_vm(Vm) || Vm <- Vms].

expected(Vms) ->
    Adds = Vms * ?PROCESSES * ?TIMES,
    #{atomic => 3 * Adds, bits => ?PROCESSES * ?TIMES rem 2, counter => Adds, down => -2 * Adds}.

%% Each process adds, and flips its bits; an odd number of flips would show.
count(#{} = Files, Times) ->
    together([fun() -> count_one(Files, Times) end || _ <- lists:seq(1, ?PROCESSES)]),
    ok;
count(Config, Times) ->
    count(files(Config), Times).

files(Config) ->
    #{file => ?config(file, Config), counters => ?config(counters, Config)}.

count_one(#{file := File, counters := Counters}, Times) ->
    {ok, Mem, _} = emmap:open(File, [write, shared]),
    C = emmap:open_counters(Counters, 2),
    repeat(fun() ->
        {ok, _} = emmap:patomic_add(Mem, ?AT, 4),
        {ok, _} = emmap:patomic_sub(Mem, ?AT, 1),
        {ok, _} = emmap:patomic_xor(Mem, ?AT + 8, 1),
        {ok, _} = emmap:inc_counter(C, 0),
        {ok, _} = emmap:dec_counter(C, 1, 2)
    end, Times),
    ok = emmap:close(Mem),
    ok = emmap:close_counters(C).

repeat(_Fun, 0) -> ok;
repeat(Fun, Times) -> Fun(), repeat(Fun, Times - 1).

found(Config) ->
    {ok, Mem, _} = emmap:open(?config(file, Config), []),
    {_, 2} = C = emmap:open_counters(?config(counters, Config), 0),
    [{ok, Atomic}, {ok, Bits}] = [emmap:patomic_read_integer(Mem, ?AT + I) || I <- [0, 8]],
    [{ok, Counter}, {ok, Down}] = [emmap:read_counter(C, I) || I <- [0, 1]],
    ok = emmap:close(Mem),
    ok = emmap:close_counters(C),
    #{atomic => Atomic, bits => Bits, counter => Counter, down => Down}.

%%---------------------------------------------------------------------------------------- kill -9

%% Two VMs count to their end, the third is killed meanwhile. Of what it did, a journal of each
%% process tells what was begun and what was answered.
what_a_killed_vm_was_told_is_counted(Config) ->
    [what_was_told(Config, Round) || Round <- lists:seq(1, 3)].

what_was_told(Config, Round) ->
    Dir = filename:join(?config(dir, Config), "round" ++ integer_to_list(Round)),
    ok = file:make_dir(Dir),
    Files = #{file => new_file(Dir, "file", zeros(2 * ?AT)),
              counters => filename:join(Dir, "counters")},
    [Victim | Others] = Vms = [start_vm() || _ <- [1, 2, 3]],
    ok = call(Victim, fun() ->
        [spawn(fun() -> journal(Files, filename:join(Dir, "journal" ++ integer_to_list(N))) end)
         || N <- lists:seq(1, ?PROCESSES)],
        ok
    end),
    Self = self(),
    [spawn_link(fun() -> Self ! {Vm, call(Vm, fun() -> count(Files, ?TIMES) end)} end)
     || Vm <- Others],
    Enough = 500 * rand:uniform(10),
    wait_until(fun() -> lists:sum([Size || {_, Size} <- journals(Dir)]) >= Enough end),
    ok = kill_vm(Victim),
    [receive {Vm, Result} -> ?assertEqual(ok, Result) end || Vm <- Others],
    Journals = journals(Dir),
    ?assert(length(Journals) > 0),
    Answered = lists:sum([Size div 2 || {_, Size} <- Journals]),
    Begun = lists:sum([(Size + 1) div 2 || {_, Size} <- Journals]),
    #{atomic := Atomic, counter := Counter} =
        found([{file, maps:get(file, Files)}, {counters, maps:get(counters, Files)}]),
    Whole = length(Others) * ?PROCESSES * ?TIMES,
    within(Answered, Atomic - 3 * Whole, Begun),
    within(Answered, Counter - Whole, Begun),
    [stop_vm(Vm) || Vm <- Vms -- [Victim]].

%% A byte before each pair of adds, and one after.
journal(#{file := File, counters := Counters}, Journal) ->
    {ok, Fd} = file:open(Journal, [raw, binary, append]),
    {ok, Mem, _} = emmap:open(File, [write, shared]),
    C = emmap:open_counters(Counters, 2),
    repeat(fun() ->
        ok = file:write(Fd, <<"b">>),
        {ok, _} = emmap:patomic_add(Mem, ?AT, 1),
        {ok, _} = emmap:inc_counter(C, 0),
        ok = file:write(Fd, <<"a">>)
    end, 1 bsl 30).

journals(Dir) ->
    [{File, filelib:file_size(File)} || File <- filelib:wildcard(filename:join(Dir, "journal*"))].

within(Least, Value, Most) ->
    ?assertEqual({Value, Least, Most}, {max(Least, min(Value, Most)), Least, Most}).

%%-------------------------------------------------------------------------------- compare and swap

compare_and_swap_of_several_vms_loses_nothing(Config) ->
    File = ?config(file, Config),
    Vms = [start_vm(), start_vm()],
    Self = self(),
    [spawn_link(fun() ->
         Self ! {Vm, call(Vm, fun() ->
             lists:append(together([fun() -> tickets(File, 1000) end || _ <- lists:seq(1, 4)]))
         end)}
     end) || Vm <- Vms],
    Taken = lists:append([receive {Vm, Tickets} -> Tickets end || Vm <- Vms]),
    ?assertEqual(lists:seq(0, 7999), lists:sort(Taken)),
    [stop_vm(Vm) || Vm <- Vms].

%% Each number goes to the one whose swap succeeded.
tickets(File, Count) ->
    {ok, Mem, _} = emmap:open(File, [write, shared]),
    {ok, First} = emmap:patomic_read_integer(Mem, ?AT),
    tickets(Mem, First, Count).

tickets(_Mem, _Expected, 0) ->
    [];
tickets(Mem, Expected, Count) ->
    case emmap:patomic_cas(Mem, ?AT, Expected, Expected + 1) of
        {true, Expected} -> [Expected | tickets(Mem, Expected + 1, Count - 1)];
        {false, Current} -> tickets(Mem, Current, Count)
    end.
