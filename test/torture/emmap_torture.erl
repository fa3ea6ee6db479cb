%% A worker of the storm: producers and consumers on one queue, who write what they are about to do
%% and what came of it to journals of their own (test/torture/queue_ledger.py), until they are
%% killed. "stop" on standard input: they finish their calls, the queue is closed. End of input: halt.
%%
%%   erl -noshell -pa ... -run emmap_torture main FOLDER WORKER alone|multi_os|drain SEED
-module(emmap_torture).
-export([main/1]).
-export([producer/2, consumer/1, say/2, i/1, now_ns/0, filling/3, name/1, whole/1]). % emmap_power

-define(SEGMENTS_OF, 262144). % small ones: they change often

main([Folder, WorkerArg, Mode, SeedArg]) ->
    Worker = list_to_integer(WorkerArg),
    Seed = list_to_integer(SeedArg),
    process_flag(trap_exit, true),
    case emmap_queue:open(filename:join(Folder, "queue"),
                          #{create => true, size => ?SEGMENTS_OF, multi_os => Mode =:= "multi_os"}) of
        {ok, Q} ->
            work(Folder, Worker, Mode, Seed, Q);
        {error, Reason} ->
            io:format("open: ~p~n", [Reason]),
            halt(3)
    end.

work(Folder, Worker, Mode, Seed, Q) ->
    Stop = atomics:new(1, []),
    Jobs = case Mode of
               "drain" -> [{consumer, "drain"}];
               _ -> [{producer, "p1"}, {producer, "p2"}, {consumer, "c1"}, {consumer, "c2"}, {trier, "t1"},
                    {syncer, "s"}]
           end,
    Pids = [start(Folder, Worker, Mode, Seed, Q, Stop, N, Job) || {N, Job} <- lists:enumerate(Jobs)],
    Self = self(),
    spawn_link(fun() -> Self ! {stdin, io:get_line("")} end),
    ok = file:write_file(filename:join(Folder, integer_to_list(Worker) ++ ".ready"), <<>>),
    wait(Stop, Pids, Q).

wait(_Stop, [], Q) ->
    ok = emmap_queue:close(Q),
    halt(0);
wait(Stop, Pids, Q) ->
    receive
        {stdin, "stop\n"} -> atomics:put(Stop, 1, 1), wait(Stop, Pids, Q);
        {stdin, _} -> halt(4);
        {'EXIT', Pid, normal} -> wait(Stop, lists:delete(Pid, Pids), Q);
        {'EXIT', _, Reason} -> io:format("~p~n", [Reason]), halt(5)
    end.

start(Folder, Worker, Mode, Seed, Q, Stop, N, {Job, Name}) ->
    spawn_link(
      fun() ->
          _ = rand:seed(exsss, {Seed, Worker, N}),
          {ok, Fd} = file:open(filename:join(Folder, integer_to_list(Worker) ++ "-" ++ Name ++ ".journal"),
                               [write, raw, binary]),
          State = #{fd => Fd, q => Q, stop => Stop, id => Worker * 10 + N, drain => Mode =:= "drain"},
          case Job of
              producer -> producer(State, 1);
              consumer -> consumer(State);
              trier -> trier(State, 1);
              syncer -> syncer(State)
          end
      end).

%% What is wanted of the backlog changes twice a second or so, for all workers alike.
phase() ->
    erlang:phash2(os:perf_counter(millisecond) div 600, 6).

stopped(#{stop := Stop}) -> atomics:get(Stop, 1) =:= 1.

say(#{fd := Fd}, Line) -> ok = file:write(Fd, [lists:join($\s, Line), $\n]).

i(N) -> integer_to_binary(N).

now_ns() -> i(os:perf_counter(nanosecond)).

%%----------------------------------------------------------------------------------- producers

producer(State, Seq) ->
    Limit = element(phase() + 1, {10, 100, 400, 1000, 2000, 200}),
    Backlog = emmap_queue:length(maps:get(q, State)),
    case stopped(State) of
        true ->
            ok;
        false when Backlog >= Limit ->
            timer:sleep(2),
            producer(State, Seq);
        false ->
            N = case rand:uniform(5) of 1 -> 1 + rand:uniform(20); _ -> 1 end,
            push(State, Seq, N),
            rand:uniform(20) =:= 1 andalso timer:sleep(1),
            producer(State, Seq + N)
    end.

push(#{q := Q, id := Id} = State, Seq, N) ->
    Terms = [{Id, S, filling(Id, S, size_of_one())} || S <- lists:seq(Seq, Seq + N - 1)],
    say(State, ["+", i(Id), i(Seq), i(N), now_ns()]),
    case case Terms of [Term] -> emmap_queue:push(Q, Term); _ -> emmap_queue:push_many(Q, Terms) end of
        ok -> say(State, ["=", now_ns()]);
        {error, Reason} -> say(State, ["!", now_ns(), io_lib:format("~0p", [Reason])])
    end.

size_of_one() ->
    case rand:uniform(80) of
        1 -> 70000 + rand:uniform(230000);
        N when N < 6 -> rand:uniform(8000);
        _ -> rand:uniform(150)
    end.

filling(Id, Seq, N) ->
    Word = (Id * 16#9E3779B97F4A7C15 + Seq * 16#C2B2AE3D27D4EB4F) band 16#FFFFFFFFFFFFFFFF,
    binary:part(binary:copy(<<Word:64>>, N div 8 + 1), 0, N).

%%----------------------------------------------------------------------------------- consumers

consumer(#{drain := Drain} = State) ->
    Most = case rand:uniform(5) of N when N < 3 -> 1 + rand:uniform(20); _ -> 1 end,
    case stopped(State) of
        true ->
            ok;
        false ->
            Slow = not Drain andalso phase() > 2,
            Slow andalso timer:sleep(2),
            case take(State, Most) of
                [] when Drain -> ok;
                [] -> timer:sleep(1), consumer(State);
                _ -> consumer(State)
            end
    end.

take(#{q := Q} = State, 1) ->
    say(State, ["?", "take", "1", now_ns()]),
    taken(State, case emmap_queue:take(Q) of
                     {ok, Term} -> [Term];
                     empty -> [];
                     {error, _} = Error -> Error
                 end);
take(#{q := Q} = State, Most) ->
    say(State, ["?", "many", i(Most), now_ns()]),
    taken(State, emmap_queue:take_many(Q, Most)).

taken(State, {error, Reason}) ->
    say(State, ["!", now_ns(), io_lib:format("~0p", [Reason])]),
    [];
taken(State, Terms) ->
    say(State, ["=", now_ns() | [name(Term) || Term <- Terms]]),
    lists:foreach(fun(Term) -> whole(State, Term) end, Terms),
    Terms.

name({Id, Seq, _}) when is_integer(Id), is_integer(Seq) -> [i(Id), $:, i(Seq)];
name(_) -> "0:0".

whole(State, Term) ->
    whole(Term) orelse say(State, ["#", io_lib:format("~0P", [Term, 20])]).

whole({Id, Seq, Bytes}) when is_integer(Id), is_integer(Seq), is_binary(Bytes) ->
    filling(Id, Seq, byte_size(Bytes)) =:= Bytes;
whole(_) ->
    false.

%% Its fun fails now and then, and now and then pushes.
trier(#{q := Q} = State, Seq) ->
    say(State, ["?", "try", "1", now_ns()]),
    Fun = fun({Producer, S, _} = Term) ->
              say(State, ["c", i(Producer), i(S), now_ns()]),
              case rand:uniform(20) of
                  N when N < 3 -> throw(try_again);
                  N when N < 6 -> timer:sleep(rand:uniform(10)), {Term, 0};
                  6 -> push(State, Seq, 1), {Term, 1};
                  _ -> {Term, 0}
              end
          end,
    Pushed = try emmap_queue:try_pop(Q, Fun) of
                 nil -> taken(State, []), timer:sleep(1), 0;
                 {Term, N} -> taken(State, [Term]), N
             catch
                 throw:try_again -> say(State, ["x", now_ns()]), 0;
                 error:{emmap, Reason} -> taken(State, {error, Reason}), 0
             end,
    timer:sleep(rand:uniform(3)),
    case stopped(State) of
        true -> ok;
        false -> trier(State, Seq + Pushed)
    end.

%% Syncs and their checkpoints are to be killed too.
syncer(#{q := Q} = State) ->
    case emmap_queue:sync(Q) of
        ok -> ok;
        {error, Reason} -> exit({sync, Reason})
    end,
    timer:sleep(rand:uniform(100)),
    case stopped(State) of
        true -> ok;
        false -> syncer(State)
    end.
