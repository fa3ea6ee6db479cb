%% Counters that several OS processes change at once: other VMs, and C programs that use libemmap.
-module(emmap_counters_os_tests).

-include_lib("eunit/include/eunit.hrl").

-import(emmap_test_lib, [with_dir/1, start_vm/0, stop_vm/1, kill_vm/1, call/2, run/2, together/1,
                         wait_until/1]).

-define(TIMES, 1000000).
-define(ROUNDS, 100).
-define(RACERS, 4).

several_os_processes_test_() ->
    {setup, fun start/0, fun stop/1,
     fun(Setup) ->
         [{atom_to_list(Name), {timeout, 240, fun() -> with_dir(fun(Dir) -> Test(Setup, Dir) end) end}}
          || {Name, Test} <-
                 [{two_vms_and_a_c_program_lose_nothing, fun two_vms_and_a_c_program_lose_nothing/2},
                  {of_racing_creators_one_makes_the_file, fun of_racing_creators_one_makes_the_file/2},
                  {numbers_are_given_to_one_vm_only, fun numbers_are_given_to_one_vm_only/2},
                  {what_a_killed_vm_has_done_is_there, fun what_a_killed_vm_has_done_is_there/2}]]
     end}.

%% The program is built beside the NIF, of the same objects.
start() ->
    {ok, Root} = file:get_cwd(),
    Source = filename:join(Root, "c_src"),
    {0, _} = run("make", ["-s", "-C", Source, "lib"]),
    Dir = emmap_test_lib:new_dir("counters-user"),
    Program = filename:join(Dir, "user"),
    Sanitize = ["-fsanitize=" ++ Kind || Kind <- [os:getenv("SANITIZE")], is_list(Kind)],
    {0, _} = run(os:getenv("CC", "cc"),
                 ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-I" ++ filename:join(Source, "include"),
                  filename:join([Root, "test", "counters", "user.c"]),
                  filename:join([Source, "build", "libemmap.a"]), "-pthread", "-o", Program] ++ Sanitize),
    #{dir => Dir, program => Program, vms => [start_vm(), start_vm()]}.

stop(#{dir := Dir, vms := Vms}) ->
    [stop_vm(Vm) || Vm <- Vms],
    emmap_test_lib:delete_dir(Dir).

open(File, What) ->
    {ok, C} = emmap_counters:open(File, What),
    C.

two_vms_and_a_c_program_lose_nothing(#{program := Program, vms := Vms}, Dir) ->
    File = filename:join(Dir, "counters"),
    C = open(File, [other, hits]),
    InVm = fun() ->
        Mine = open(File, 0),
        together([fun() -> add(Mine, ?TIMES div 4) end || _ <- lists:seq(1, 4)]),
        emmap_counters:close(Mine)
    end,
    Results = together([fun() -> run(Program, ["add", File, "hits", integer_to_list(?TIMES)]) end
                        | [fun() -> call(Vm, InVm) end || Vm <- Vms]]),
    ?assertEqual([{0, <<>>}, ok, ok], Results),
    ?assertEqual(#{<<"hits">> => 3 * ?TIMES, <<"other">> => 0}, emmap_counters:to_map(C)),
    ok = emmap_counters:close(C).

add(_C, 0) -> ok;
add(C, N) -> ok = emmap_counters:add(C, hits, 1), add(C, N - 1).

of_racing_creators_one_makes_the_file(#{program := Program, vms := [Vm | _]}, Dir) ->
    [begin
         File = filename:join(Dir, integer_to_list(Round)),
         Race = fun() ->
             C = open(File, [c, b, a]),
             [ok = emmap_counters:add(C, Name, 1) || Name <- [a, b, c]],
             emmap_counters:close(C)
         end,
         Results = together([fun() -> run(Program, ["race", File, integer_to_list(?RACERS)]) end,
                             Race, Race, fun() -> call(Vm, Race) end]),
         ?assertEqual([{0, <<>>}, ok, ok, ok], Results),
         C = open(File, 0),
         ?assertEqual(#{<<"a">> => ?RACERS + 3, <<"b">> => ?RACERS + 3, <<"c">> => ?RACERS + 3},
                      emmap_counters:to_map(C)),
         ok = emmap_counters:close(C)
     end || Round <- lists:seq(1, ?ROUNDS)],
    {ok, Names} = file:list_dir(Dir),
    ?assertEqual(?ROUNDS, length(Names)). % and nothing that was half made

numbers_are_given_to_one_vm_only(#{vms := Vms}, Dir) ->
    File = filename:join(Dir, "counters"),
    _ = open(File, [ids]),
    Take = fun() ->
        C = open(File, 0),
        lists:append(together([fun() -> [emmap_counters:allocate(C, ids, 2) || _ <- lists:seq(1, 50000)] end
                               || _ <- [1, 2]]))
    end,
    Given = lists:append(together([fun() -> call(Vm, Take) end || Vm <- Vms])),
    ?assertEqual(lists:seq(0, 399998, 2), lists:sort(Given)).

%% It has told what it was given before it was given more: what comes afterwards is new.
what_a_killed_vm_has_done_is_there(_Setup, Dir) ->
    File = filename:join(Dir, "counters"),
    Journal = filename:join(Dir, "journal"),
    Vm = start_vm(),
    ok = call(Vm, fun() -> spawn(fun() -> journal(File, Journal) end), ok end),
    wait_until(fun() -> filelib:file_size(Journal) > 8000 end),
    kill_vm(Vm),
    {ok, Bytes} = file:read_file(Journal),
    Told = [N || <<N:64>> <= Bytes],
    ?assertEqual(lists:seq(0, length(Told) - 1), Told),
    C = open(File, [ids, hits]),
    ?assert(lists:member(emmap_counters:get(C, hits) - length(Told), [0, 1])),
    ?assert(lists:member(emmap_counters:allocate(C, ids, 1) - length(Told), [0, 1])),
    ok = emmap_counters:close(C).

journal(File, Journal) ->
    C = open(File, [ids, hits]),
    {ok, Fd} = file:open(Journal, [raw, binary, append]),
    tell(C, Fd).

tell(C, Fd) ->
    ok = emmap_counters:add(C, hits, 1),
    N = emmap_counters:allocate(C, ids, 1),
    ok = file:write(Fd, <<N:64>>),
    tell(C, Fd).
