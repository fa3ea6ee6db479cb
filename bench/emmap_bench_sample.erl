%% A sample: N calls of one kind, by one process or several at once, and how long they took.
-module(emmap_bench_sample).

-export([rounds/4, calibrate/2, take/2, long_enough/3]).
-export_type([sample/0]).

%% `setup' runs in the worker, `loop' does N calls in it; it says itself how long they took
%% if it knows better.
-type sample() :: #{key := term(), processes := pos_integer(),
                    setup := fun((Worker :: non_neg_integer()) -> term()),
                    loop := fun((N :: non_neg_integer(), term()) -> ok | {took, non_neg_integer()})}.

%% The nanoseconds a call of each, by key, in each of the rounds, and how many calls the last one did. A round
%% takes one sample of every case, so that what the machine does meanwhile meets all of them.
-spec rounds(iodata(), [sample()], pos_integer(), pos_integer()) ->
    {[#{Key :: term() => float()}], Calls :: [{sample(), pos_integer()}]}.
rounds(What, Samples, Rounds, WantedNs) ->
    emmap_bench:progress("~tscalibrating ~b cases~n", [What, length(Samples)]),
    Counted = [{Sample, calibrate(Sample, WantedNs)} || Sample <- Samples],
    lists:mapfoldl(fun(Round, Counts) ->
                           emmap_bench:progress("~tsround ~b of ~b~n", [What, Round, Rounds]),
                           round(Counts, WantedNs)
                   end, Counted, lists:seq(1, Rounds)).

round(Counted, WantedNs) ->
    {Taken, Recounted} = lists:unzip([sampled(Sample, N, WantedNs) || {Sample, N} <- Counted]),
    {maps:from_list(Taken), Recounted}.

sampled(#{key := Key} = Sample, N, WantedNs) ->
    {Ns, Next} = long_enough(Sample, N, WantedNs),
    {{Key, Ns}, {Sample, Next}}.

%% How many calls take about that long.
-spec calibrate(sample(), pos_integer()) -> pos_integer().
calibrate(Sample, WantedNs) ->
    calibrate(Sample, WantedNs, 4).

%% The least of a few, so that one sample that was held up does not end it with too few calls.
calibrate(Sample, WantedNs, N) ->
    case min(take(Sample, N), take(Sample, N)) of
        Ns when Ns > WantedNs -> max(1, round(N * WantedNs / Ns)); % it is slow
        Ns ->
            case min(Ns, take(Sample, N)) of
                Least when Least * 8 < WantedNs -> calibrate(Sample, WantedNs, N * 2);
                Least -> max(4, round(N * WantedNs / Least))
            end
    end.

%% A case that was held up while it was calibrated does too few calls: it is calibrated again. The
%% nanoseconds a call, and how many calls there are to be from now on.
-spec long_enough(sample(), pos_integer(), pos_integer()) -> {float(), pos_integer()}.
long_enough(Sample, N, WantedNs) ->
    case take(Sample, N) of
        Ns when Ns * 2 < WantedNs ->
            More = max(N, calibrate(Sample, WantedNs)),
            {take(Sample, More) / More, More};
        Ns ->
            {Ns / N, N}
    end.

%% The nanoseconds from the first worker's start to the last one's end; each does N calls.
-spec take(sample(), non_neg_integer()) -> pos_integer().
take(#{processes := Processes, setup := Setup, loop := Loop}, N) ->
    Ready = atomics:new(1, []),
    Workers = [spawn_monitor(fun() -> worker(Ready, Processes, Setup(Worker), Loop, N) end)
               || Worker <- lists:seq(0, Processes - 1)],
    Times = [receive
                 {'DOWN', Ref, process, Pid, {took, Ns}} -> {0, Ns};
                 {'DOWN', Ref, process, Pid, {from_to, Begin, End}} -> {Begin, End};
                 {'DOWN', Ref, process, Pid, Why} -> error({worker, Why})
             end || {Pid, Ref} <- Workers],
    {Begins, Ends} = lists:unzip(Times),
    max(lists:max(Ends) - lists:min(Begins), 1).

worker(Ready, Processes, State, Loop, N) ->
    ok = atomics:add(Ready, 1, 1),
    ok = gather(Ready, Processes, erlang:monotonic_time(millisecond) + 2),
    Begin = erlang:monotonic_time(nanosecond),
    case Loop(N, State) of
        ok -> exit({from_to, Begin, erlang:monotonic_time(nanosecond)});
        {took, _} = Took -> exit(Took)
    end.

%% Several wait for each other at work, so that they are spread over the schedulers at the start.
gather(_, 1, _) ->
    ok;
gather(Ready, Processes, Until) ->
    case atomics:get(Ready, 1) =:= Processes andalso erlang:monotonic_time(millisecond) >= Until of
        true -> ok;
        false -> gather(Ready, Processes, Until)
    end.
