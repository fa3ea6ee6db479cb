%% The model of a queue: OTP's `queue', whose items know who works on them. Random sequences of calls
%% are done by another VM on a queue in a file and here on the model, and the answers compared; now and
%% then that VM is killed with -9, or it closes the queue, and goes on with what is in the file.
%%
%% PropEr's functions are called without its header, so that this compiles where it is missing.
-module(emmap_queue_model).

-export([sequence/0, agree/3]).

%%------------------------------------------------------------------------------------ generators

%% The options of open, and the calls.
sequence() ->
    {options(), proper_types:resize(150, proper_types:list(call()))}.

options() ->
    proper_types:oneof([[], [{size, 4096}], [{size, 4096}, {compressed, 1}], [{size, 4096}, {safe, true}],
                        [{durability, sync}, {size, 4096}], [multi_os], [{durability, {interval, 5}}]]).

call() ->
    proper_types:frequency(
        [{10, {push, message()}},
         {2, {push, message(), proper_types:range(0, 9)}},
         {6, {push_many, proper_types:list(message())}},
         {6, {take}},
         {2, {pop}},
         {5, {take_many, proper_types:range(0, 30)}},
         {5, {try_pop, proper_types:oneof([return, raise, {push, message()}, take, {push_raise, message()}])}},
         {3, {pop, proper_types:range(0, 5), proper_types:oneof([halt, raise])}},
         {4, {hold}},
         {4, {let_go, proper_types:oneof([return, raise, kill]), proper_types:range(0, 3)}},
         {2, {peek_front}},
         {2, {peek_back}},
         {2, {peek, proper_types:range(1, 40)}},
         {2, {rpeek, proper_types:range(1, 40)}},
         {1, {erase}},
         {3, {length}},
         {1, {is_empty}},
         {1, {sync}},
         {2, {reopen}},
         {1, {kill}}]).

%% A number, and the size of what the other VM makes of it.
message() ->
    {proper_types:range(0, 1 bsl 20),
     proper_types:frequency([{20, proper_types:range(0, 200)}, {4, proper_types:range(0, 9000)},
                             {1, proper_types:range(60000, 200000)}])}.

term({N, Size}) ->
    {N, binary:copy(<<N:32>>, Size div 4)}.

%%------------------------------------------------------------------------------------------ both

%% `start' makes VMs; ok, or what differs. State: the VM, those that hold a message there.
agree({Options, Calls}, File, Start) ->
    Vm = Start(none),
    ok = start(Vm, File, Options),
    run(Calls, queue:new(), #{vm => Vm, file => File, options => Options, start => Start, holders => []}).

run([], Model, State) ->
    Left = [T || {T, _} <- queue:to_list(Model)],
    _ = [ask(State, {let_go, raise, Holder}) || Holder <- maps:get(holders, State)],
    Last = ask(State, {take_many, 1 bsl 30}),
    ok = ask(State, {stop}),
    case Last of
        Left -> ok;
        _ -> {at_the_end, {file, Last}, {model, Left}}
    end;
run([Call | Calls], Model, State) ->
    {Wanted, NextModel, Next} = model(Call, Model, State),
    case done(Call, State, Next) of
        {Wanted, Last} -> run(Calls, NextModel, Last);
        {Other, _} -> {Call, {file, Other}, {model, Wanted}, {left, length(Calls)}}
    end.

done({kill}, State, Next) ->
    emmap_test_lib:kill_vm(maps:get(vm, State)),
    Vm = (maps:get(start, State))(maps:get(vm, State)),
    ok = start(Vm, maps:get(file, State), maps:get(options, State)),
    {ok, Next#{vm := Vm}};
done({hold}, State, Next) ->
    case ask(State, {hold}) of
        {Holder, T} -> {T, Next#{holders := maps:get(holders, Next) ++ [Holder]}};
        empty -> {empty, Next}
    end;
done({let_go, How, N}, State, Next) ->
    case nth(N, maps:get(holders, State)) of
        none -> {ok, Next};
        Holder -> {ask(State, {let_go, How, Holder}), Next}
    end;
done(Call, State, Next) ->
    {ask(State, Call), Next}.

nth(N, List) ->
    case N < length(List) of
        true -> lists:nth(N + 1, List);
        false -> none
    end.

%%------------------------------------------------------------------------------------- the model

%% What the call answers, the model after it, and the state. Items: {Term, free | held}.
model({push, M}, Model, S) -> {ok, in(term(M), Model), S};
model({push, M, _Level}, Model, S) -> {ok, in(term(M), Model), S};
model({push_many, Ms}, Model, S) -> {ok, lists:foldl(fun(M, Q) -> in(term(M), Q) end, Model, Ms), S};
model({take}, Model, S) ->
    case free(Model) of
        [] -> {empty, Model, S};
        [T | _] -> {{ok, T}, drop(1, Model), S}
    end;
model({pop}, Model, S) ->
    case free(Model) of
        [] -> {nil, Model, S};
        [T | _] -> {T, drop(1, Model), S}
    end;
model({take_many, N}, Model, S) ->
    {lists:sublist(free(Model), N), drop(N, Model), S};
model({try_pop, How}, Model, S) ->
    case {free(Model), How} of
        {[], _} -> {nil, Model, S};
        {[T | _], return} -> {{result, T}, drop(1, Model), S};
        {[T | _], raise} -> {{raised, T}, Model, S};
        {[T | _], {push, M}} -> {{result, T}, drop(1, in(term(M), Model)), S};
        {[T | _], {push_raise, M}} -> {{raised, T}, in(term(M), Model), S};
        {[T], take} -> {{result, {T, empty}}, drop(1, Model), S};
        {[T, U | _], take} -> {{result, {T, {ok, U}}}, drop(2, Model), S}
    end;
model({pop, N, How}, Model, S) ->
    case {free(Model), How} of
        {Free, _} when length(Free) =< N -> {{all, Free}, drop(N, Model), S};
        {Free, halt} -> {{halted, lists:sublist(Free, N)}, drop(N, Model), S};
        {Free, raise} -> {{raised, lists:sublist(Free, N)}, drop(N, Model), S}
    end;
model({hold}, Model, S) ->
    case free(Model) of
        [] -> {empty, Model, S};
        [T | _] ->
            Number = erlang:unique_integer([monotonic]),
            {T, hold(Number, Model), S#{held => maps:get(held, S, []) ++ [Number]}}
    end;
model({let_go, How, N}, Model, S) ->
    Held = maps:get(held, S, []),
    case nth(N, Held) of
        none -> {ok, Model, S};
        Number ->
            Holder = nth(N, maps:get(holders, S)),
            After = case How of
                        return -> queue:delete_with(fun({_, H}) -> H =:= Number end, Model);
                        _ -> freed(fun(H) -> H =:= Number end, Model)
                    end,
            {ok, After, S#{held := Held -- [Number], holders := maps:get(holders, S) -- [Holder]}}
    end;
model({peek_front}, Model, S) -> {first(free(Model)), Model, S};
model({peek_back}, Model, S) -> {first(lists:reverse(free(Model))), Model, S};
model({peek, N}, Model, S) -> {lists:sublist(free(Model), N), Model, S};
model({rpeek, N}, Model, S) -> {lists:sublist(lists:reverse(free(Model)), N), Model, S};
model({erase}, Model, S) -> {ok, queue:filter(fun({_, H}) -> H =/= free end, Model), S};
model({length}, Model, S) -> {queue:len(Model), Model, S};
model({is_empty}, Model, S) -> {queue:is_empty(Model), Model, S};
model({sync}, Model, S) -> {ok, Model, S};
%% Who holds a message when the queue is closed or the VM killed holds it no more.
model({Ends}, Model, S) when Ends =:= reopen; Ends =:= kill ->
    {ok, freed(fun(_) -> true end, Model), S#{held => [], holders := []}}.

in(T, Model) -> queue:in({T, free}, Model).
free(Model) -> [T || {T, free} <- queue:to_list(Model)].
first([]) -> nil;
first([T | _]) -> T.

%% The first N that nobody holds.
drop(0, Model) -> Model;
drop(N, Model) ->
    case queue:delete_with(fun({_, H}) -> H =:= free end, Model) of
        Model -> Model;
        Less -> drop(N - 1, Less)
    end.

hold(Number, Model) ->
    {Before, [{T, free} | Behind]} =
        lists:splitwith(fun({_, H}) -> H =/= free end, queue:to_list(Model)),
    queue:from_list(Before ++ [{T, Number} | Behind]).

freed(Which, Model) ->
    queue:from_list([case H =/= free andalso Which(H) of
                         true -> {T, free};
                         false -> Item
                     end || {T, H} = Item <- queue:to_list(Model)]).

%%---------------------------------------------------------------------------------- the other VM

start(Vm, File, Options) ->
    emmap_test_lib:call(Vm, fun() ->
        Self = self(),
        {Pid, Ref} = spawn_monitor(fun() -> serve(File, Options, Self) end),
        receive
            {Pid, open} -> register(?MODULE, Pid), ok;
            {'DOWN', Ref, _, _, Reason} -> {failed, Reason}
        end
    end).

serve(File, Options, From) ->
    {ok, Q} = emmap_queue:open(File, Options),
    From ! {self(), open},
    serve_on(Q, File, Options).

serve_on(Q, File, Options) ->
    receive
        {From, {stop}} ->
            unregister(?MODULE),
            From ! {?MODULE, emmap_queue:close(Q)};
        {From, {reopen}} ->
            ok = emmap_queue:close(Q),
            {ok, Again} = emmap_queue:open(File, Options),
            From ! {?MODULE, ok},
            serve_on(Again, File, Options);
        {From, Call} ->
            From ! {?MODULE, answer(Call, Q)},
            serve_on(Q, File, Options)
    end.

ask(State, Call) ->
    emmap_test_lib:call(maps:get(vm, State), fun() ->
        Ref = monitor(process, ?MODULE),
        ?MODULE ! {self(), Call},
        receive
            {?MODULE, Answer} -> demonitor(Ref, [flush]), Answer;
            {'DOWN', Ref, _, _, Reason} -> {died, Reason}
        end
    end).

answer({push, M}, Q) -> emmap_queue:push(Q, term(M));
answer({push, M, Level}, Q) -> emmap_queue:push(Q, term(M), Level);
answer({push_many, Ms}, Q) -> emmap_queue:push_many(Q, [term(M) || M <- Ms]);
answer({take}, Q) -> emmap_queue:take(Q);
answer({pop}, Q) -> emmap_queue:pop(Q);
answer({take_many, N}, Q) -> emmap_queue:take_many(Q, N);
answer({try_pop, How}, Q) ->
    try
        emmap_queue:try_pop(Q, fun(T) ->
            case How of
                return -> {result, T};
                raise -> throw({raised, T});
                {push, M} -> ok = emmap_queue:push(Q, term(M)), {result, T};
                {push_raise, M} -> ok = emmap_queue:push(Q, term(M)), throw({raised, T});
                take -> {result, {T, emmap_queue:take(Q)}}
            end
        end)
    catch
        throw:Raised -> Raised
    end;
answer({pop, N, How}, Q) ->
    Fun = fun(T, {all, Ts}) when length(Ts) < N -> {cont, {all, Ts ++ [T]}};
             (_, {all, Ts}) when How =:= halt -> {halt, {halted, Ts}};
             (_, {all, Ts}) -> throw({raised, Ts})
          end,
    try
        emmap_queue:pop(Q, {all, []}, Fun)
    catch
        throw:Raised -> Raised
    end;
answer({hold}, Q) ->
    Self = self(),
    {Pid, Ref} = spawn_monitor(fun() ->
        nil = emmap_queue:try_pop(Q, fun(T) ->
            Self ! {self(), T},
            receive return -> nil; raise -> exit(raised) end
        end)
    end),
    receive
        {Pid, T} -> demonitor(Ref, [flush]), {Pid, T};
        {'DOWN', Ref, _, _, normal} -> empty
    end;
answer({let_go, kill, Pid}, Q) ->
    #{claimed := Claimed} = emmap_queue:info(Q),
    true = exit(Pid, kill),
    %% The message comes back when the process's memory is cleared away.
    emmap_test_lib:wait_until(fun() -> maps:get(claimed, emmap_queue:info(Q)) =:= Claimed - 1 end);
answer({let_go, How, Pid}, _Q) ->
    Ref = monitor(process, Pid),
    Pid ! How,
    receive {'DOWN', Ref, _, _, _} -> ok end;
answer({peek_front}, Q) -> emmap_queue:peek_front(Q);
answer({peek_back}, Q) -> emmap_queue:peek_back(Q);
answer({Fold, N}, Q) when Fold =:= peek; Fold =:= rpeek ->
    lists:reverse(emmap_queue:Fold(Q, [], fun(T, Ts) when length(Ts) + 1 < N -> {cont, [T | Ts]};
                                             (T, Ts) -> {halt, [T | Ts]}
                                          end));
answer({Call}, Q) -> emmap_queue:Call(Q).
