%% Queues against a model, with producers and consumers in crowds, with several VMs on one file.
%%
%%   EMMAP_QUEUE_SEQUENCES   how many random sequences of calls (40)
%%   EMMAP_QUEUE_MESSAGES    how many messages in one VM (1,000,000)
-module(emmap_queue_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-import(emmap_test_lib, [in_vm/1, start_vm/0, stop_vm/1, call/2, together/1, wait_until/1]).

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([a_queue_in_a_file_answers_as_otp_s_queue/1,
         each_of_a_million_messages_is_seen_once/1,
         crowds_with_claims_that_fail/1,
         three_vms_on_one_file/1,
         what_is_small_stays_on_its_scheduler/1,
         what_is_large_is_never_on_a_normal_scheduler/1]).

suite() ->
    [{timetrap, {minutes, 30}}].

all() ->
    [a_queue_in_a_file_answers_as_otp_s_queue,
     each_of_a_million_messages_is_seen_once,
     crowds_with_claims_that_fail,
     three_vms_on_one_file,
     what_is_small_stays_on_its_scheduler,
     what_is_large_is_never_on_a_normal_scheduler].

init_per_testcase(a_queue_in_a_file_answers_as_otp_s_queue = Name, Config) ->
    case emmap_test_lib:has_proper() of
        true -> emmap_test_lib:init_case(Name, Config);
        false -> {skip, "PropEr is not here (Debian: erlang-proper)"}
    end;
init_per_testcase(Name, Config) ->
    emmap_test_lib:init_case(Name, Config).

end_per_testcase(_Name, Config) ->
    emmap_test_lib:end_case(Config).

setting(Name, Default) ->
    list_to_integer(os:getenv(Name, integer_to_list(Default))).

%%------------------------------------------------------------------------------------- the model

a_queue_in_a_file_answers_as_otp_s_queue(Config) ->
    Dir = ?config(dir, Config),
    Counts = counters:new(3, []),
    Property = proper:forall(emmap_queue_model:sequence(), fun({_, Calls} = Sequence) ->
        counters:add(Counts, 1, 1),
        counters:add(Counts, 2, length(Calls)),
        counters:add(Counts, 3, length([kill || {kill} <- Calls])),
        agree(Sequence, Dir) =:= ok
    end),
    try
        Passed = proper:quickcheck(Property, [{numtests, setting("EMMAP_QUEUE_SEQUENCES", 40)},
                                              {max_size, 100}, quiet]),
        io:format(user, "~b sequences of ~b calls, ~b times kill -9~n",
                  [counters:get(Counts, N) || N <- [1, 2, 3]]),
        Passed =:= true orelse fail(Dir)
    after
        stop_model_vm()
    end.

%% PropEr itself may not meet an exception: its stack trace is of an older OTP.
agree(Sequence, Dir) ->
    File = filename:join(Dir, "queue-" ++ integer_to_list(erlang:unique_integer([positive]))),
    try
        emmap_queue_model:agree(Sequence, File, fun model_vm/1)
    catch
        Class:Reason:Stack ->
            stop_model_vm(),
            {Class, Reason, Stack}
    after
        file:delete(File)
    end.

%% The one that runs, unless it is the one that has been killed.
model_vm(Killed) ->
    case get(model_vm) of
        Vm when Vm =/= undefined, Vm =/= Killed ->
            Vm;
        _ ->
            Vm = start_vm(),
            put(model_vm, Vm),
            Vm
    end.

stop_model_vm() ->
    case erase(model_vm) of
        undefined -> ok;
        Vm -> _ = catch stop_vm(Vm), ok
    end.

%% The shortest that was found, once more, for what differs.
fail(Dir) ->
    [Sequence] = proper:counterexample(),
    ct:fail("~0tp~n~0tP", [Sequence, agree(Sequence, Dir), 200]).

%%------------------------------------------------------------------------------------- in crowds

each_of_a_million_messages_is_seen_once(Config) ->
    Most = setting("EMMAP_QUEUE_MESSAGES", 1000000),
    {ok, Q} = emmap_queue:open(filename:join(?config(dir, Config), "queue")),
    Producers = 8,
    Each = Most div Producers,
    Seen = counters:new(Producers * Each, [atomics]),
    Left = atomics:new(1, []),
    atomics:put(Left, 1, Producers * Each),
    Pushing = [fun() -> produce(Q, P, Each) end || P <- lists:seq(1, Producers)],
    Taking = [fun() -> consume(Q, How, Each, Seen, Left, #{}) end
              || How <- [take, take, pop, try_pop, try_pop, 10, 100, 300]],
    _ = together(Pushing ++ Taking),
    ?assertEqual([], [Ix || Ix <- lists:seq(1, Producers * Each), counters:get(Seen, Ix) =/= 1]),
    ?assertMatch(#{length := 0, bytes := 0, claimed := 0, lost := 0}, emmap_queue:info(Q)),
    ok = emmap_queue:close(Q).

%% One by one, and in lists.
produce(Q, P, Each) when P rem 2 =:= 0 ->
    [ok = emmap_queue:push(Q, {P, N}) || N <- lists:seq(1, Each)];
produce(Q, P, Each) ->
    produce(Q, P, 1, Each).

produce(Q, P, From, Each) when From =< Each ->
    To = min(Each, From + From rem 300),
    ok = emmap_queue:push_many(Q, [{P, N} || N <- lists:seq(From, To)]),
    produce(Q, P, To + 1, Each);
produce(_Q, _P, _From, _Each) ->
    ok.

%% Until all have been seen. The numbers of a producer rise, for each consumer.
consume(Q, How, Each, Seen, Left, Last) ->
    case atomics:get(Left, 1) of
        0 -> ok;
        _ -> consume(Q, How, Each, Seen, Left, lists:foldl(fun({P, N}, Known) ->
                 ?assert(N > maps:get(P, Known, 0)),
                 counters:add(Seen, (P - 1) * Each + N, 1),
                 atomics:sub(Left, 1, 1),
                 Known#{P => N}
             end, Last, some(Q, How)))
    end.

some(Q, take) ->
    case emmap_queue:take(Q) of
        {ok, Message} -> [Message];
        empty -> []
    end;
some(Q, N) when is_integer(N) ->
    emmap_queue:take_many(Q, N);
some(Q, pop) ->
    [Message || Message <- [emmap_queue:pop(Q)], Message =/= nil];
some(Q, try_pop) ->
    [Message || Message <- [emmap_queue:try_pop(Q, fun(M) -> M end)], Message =/= nil].

%% Each is processed once, however often that fails before; who works on one may be killed.
crowds_with_claims_that_fail(Config) ->
    Each = setting("EMMAP_QUEUE_MESSAGES", 1000000) div 100,
    {ok, Q} = emmap_queue:open(filename:join(?config(dir, Config), "queue")),
    Seen = counters:new(4 * Each, [atomics]),
    Left = atomics:new(1, []),
    atomics:put(Left, 1, 4 * Each),
    Process = fun({P, N}) ->
        counters:add(Seen, (P - 1) * Each + N, 1),
        atomics:sub(Left, 1, 1)
    end,
    %% The message's effect and its leaving are one, as long as nobody dies in between.
    Trying = fun Trying(I) ->
        _ = try emmap_queue:try_pop(Q, fun(Message) ->
                I rem 3 =:= 0 andalso throw(failed),
                Process(Message)
            end) catch throw:failed -> failed end,
        more(Left, Trying, I + 1)
    end,
    Folding = fun Folding(I) ->
        _ = try emmap_queue:pop(Q, 0, fun(_, 5) -> {halt, 5};
                                         (_, 4) when I rem 2 =:= 0 -> throw(failed);
                                         (Message, K) -> Process(Message), {cont, K + 1}
                                      end) catch throw:failed -> failed end,
        more(Left, Folding, I + 1)
    end,
    Killed = fun Killed(I) ->
        {Pid, Ref} = spawn_monitor(fun() ->
            emmap_queue:try_pop(Q, fun(_) -> exit(self(), kill) end)
        end),
        receive {'DOWN', Ref, process, Pid, _} -> ok end,
        more(Left, Killed, I + 1)
    end,
    Pushing = [fun() -> produce(Q, P, Each) end || P <- lists:seq(1, 4)],
    _ = together([fun() -> F(1) end || F <- [Trying, Trying, Trying, Folding, Folding, Killed, Killed]] ++ Pushing),
    ?assertEqual([], [Ix || Ix <- lists:seq(1, 4 * Each), counters:get(Seen, Ix) =/= 1]),
    wait_until(fun() ->
        case emmap_queue:info(Q) of
            #{length := 0, bytes := 0, claimed := 0, lost := 0} -> true;
            #{length := 0} -> false
        end
    end),
    ok = emmap_queue:close(Q).

more(Left, Fun, I) ->
    case atomics:get(Left, 1) of
        0 -> ok;
        _ -> Fun(I)
    end.

%% Two producers and two consumers in each; what was seen is compared at the end.
three_vms_on_one_file(Config) ->
    File = filename:join(?config(dir, Config), "queue"),
    Each = setting("EMMAP_QUEUE_MESSAGES", 1000000) div 100,
    Vms = [start_vm() || _ <- [1, 2, 3]],
    Seen = together([fun() -> call(Vm, fun() -> work(File, V, Each) end) end
                     || {V, Vm} <- lists:enumerate(Vms)]),
    [stop_vm(Vm) || Vm <- Vms],
    %% All are gone, and some of the messages may have been left for nobody.
    {ok, Q} = emmap_queue:open(File),
    Left = emmap_queue:take_many(Q, 1 bsl 30),
    ok = emmap_queue:close(Q),
    ?assertEqual([{P, N} || P <- lists:seq(1, 6), N <- lists:seq(1, Each)],
                 lists:sort(Left ++ lists:append(Seen))),
    ?assert(length(Left) < Each * 6).

work(File, V, Each) ->
    {ok, Q} = emmap_queue:open(File, #{multi_os => true, size => 65536}),
    Seen = together([fun() -> produce(Q, 2 * V - 1, Each), [] end, fun() -> produce(Q, 2 * V, Each), [] end,
                     fun() -> consume_some(Q, take, 2 * Each, #{}, []) end,
                     fun() -> consume_some(Q, try_pop, 2 * Each, #{}, []) end]),
    ok = emmap_queue:close(Q),
    lists:append(Seen).

%% So many, or until there are none for a while.
consume_some(_Q, _How, N, _Last, Seen) when N =< 0 ->
    Seen;
consume_some(Q, How, N, Last, Seen) ->
    case some(Q, How) of
        [] when N rem 2 =:= 1 -> Seen;
        [] -> consume_some(Q, How, N - 1, Last, Seen);
        Messages ->
            Next = lists:foldl(fun({P, M}, Known) ->
                ?assert(M > maps:get(P, Known, 0)),
                Known#{P => M}
            end, Last, Messages),
            consume_some(Q, How, N - 2 * length(Messages), Next, Messages ++ Seen)
    end.

%%------------------------------------------------------------------------------- the schedulers

what_is_small_stays_on_its_scheduler(Config) ->
    File = filename:join(?config(dir, Config), "queue"),
    in_vm(fun() ->
        %% Within one segment: who comes to the end of one may have to wait for the next.
        {ok, Q} = emmap_queue:open(File, #{size => 64 bsl 20}),
        Message = {order, 17, binary:copy(<<"x">>, 100)},
        Many = lists:duplicate(20, Message),
        Calls = [{push, fun() -> ok = emmap_queue:push(Q, Message) end},
                 {peek_front, fun() -> Message = emmap_queue:peek_front(Q) end},
                 {peek_back, fun() -> Message = emmap_queue:peek_back(Q) end},
                 {length, fun() -> true = emmap_queue:length(Q) > 0 end},
                 {take, fun() -> {ok, Message} = emmap_queue:take(Q) end}],
        Twice = [{push_many, fun() -> ok = emmap_queue:push_many(Q, Many) end},
                 {take_many, fun() -> Many = emmap_queue:take_many(Q, 20) end},
                 {empty, fun() -> [] = emmap_queue:take_many(Q, 20) end}],
        %% Once the pages have been there.
        ok = emmap_queue:push_many(Q, lists:duplicate(1000, Message)),
        ok = emmap_queue:erase(Q),
        wait_until(fun() -> {2, 0} =:= classes(fun() -> [F() || {Name, F} <- Calls, lists:member(Name, [push, take])] end) end),
        [?assertEqual({Name, {1, 0}}, {Name, classes(Call)})
         || _ <- lists:seq(1, 100), {Name, Call} <- Calls],
        [?assertEqual({Name, Count}, {Name, classes(Call)})
         || _ <- lists:seq(1, 100),
            {{Name, Call}, Count} <- lists:zip(Twice, [{1, 0}, {1, 0}, {0, 0}])],
        ok = emmap_queue:push(Q, Message),
        ?assertEqual({1, 0}, classes(fun() -> Message = emmap_queue:try_pop(Q, fun(M) -> M end) end))
    end).

what_is_large_is_never_on_a_normal_scheduler(Config) ->
    File = filename:join(?config(dir, Config), "queue"),
    in_vm(fun() ->
        {ok, Q} = emmap_queue:open(File),
        Flat = binary:copy(<<"x">>, 1 bsl 20),
        Deep = [{N, <<N:32>>} || N <- lists:seq(1, 50000)],
        [begin
             ?assertEqual({0, 1}, classes(fun() -> ok = emmap_queue:push(Q, Large) end)),
             ?assertEqual({0, 1}, classes(fun() -> Large = emmap_queue:peek_front(Q) end)),
             ?assertEqual({0, 1}, classes(fun() -> Large = emmap_queue:peek_back(Q) end)),
             ?assertEqual({0, 1}, classes(fun() -> {ok, Large} = emmap_queue:take(Q) end)),
             ?assertEqual({0, 1}, classes(fun() -> ok = emmap_queue:push_many(Q, [Large]) end)),
             ?assertEqual({0, 1}, classes(fun() -> [Large] = emmap_queue:take_many(Q, 1) end)),
             ok = emmap_queue:push(Q, Large),
             ?assertEqual({0, 1}, classes(fun() -> Large = emmap_queue:try_pop(Q, fun(M) -> M end) end)),
             ok = emmap_queue:push(Q, Large, 1),
             {Normal, _} = classes(fun() -> {ok, Large} = emmap_queue:take(Q) end),
             ?assert(Normal =< 1) % what it deflates to may be small
         end || Large <- [Flat, Deep]]
    end).

%% Calls that touched bytes on normal schedulers, and on dirty ones.
classes(Fun) ->
    #{normal_calls := Normal0, dirty_calls := Dirty0} = emmap:stats(),
    _ = Fun(),
    #{normal_calls := Normal1, dirty_calls := Dirty1} = emmap:stats(),
    {Normal1 - Normal0, Dirty1 - Dirty0}.
