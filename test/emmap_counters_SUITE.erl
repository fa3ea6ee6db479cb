%% Counters answer as OTP's atomics and counters do: PropEr compares them on random sequences of calls.
%%
%%   EMMAP_MODEL_SEQUENCES   how many (300)
-module(emmap_counters_SUITE).

-include_lib("common_test/include/ct.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([counters_answer_as_those_of_otp/1]).

-define(SIZE, 3).
-define(NAMES, ["a", "\x{e4}", "\x{1F600}"]).
-define(MOST, ((1 bsl 63) - 1)).
-define(MOST_UNSIGNED, ((1 bsl 64) - 1)).

suite() ->
    [{timetrap, {minutes, 30}}].

all() ->
    [counters_answer_as_those_of_otp].

init_per_suite(Config) ->
    case emmap_test_lib:has_proper() of
        true -> Config;
        false -> {skip, "PropEr is not here (Debian: erlang-proper)"}
    end.

end_per_suite(_Config) ->
    ok.

init_per_testcase(Name, Config) ->
    emmap_test_lib:init_case(Name, Config).

end_per_testcase(_Name, Config) ->
    emmap_test_lib:end_case(Config).

counters_answer_as_those_of_otp(Config) ->
    File = filename:join(?config(dir, Config), "counters"),
    Sequences = list_to_integer(os:getenv("EMMAP_MODEL_SEQUENCES", "300")),
    Counts = counters:new(2, []),
    Property = proper:forall(sequence(), fun({_, _, Calls} = Sequence) ->
        counters:add(Counts, 1, 1),
        counters:add(Counts, 2, length(Calls)),
        (catch agree(Sequence, File)) =:= ok
    end),
    Passed = proper:quickcheck(Property, [{numtests, Sequences}, {max_size, 100}, quiet]),
    io:format(user, "~b sequences of ~b calls~n", [counters:get(Counts, N) || N <- [1, 2]]),
    Passed =:= true orelse fail(File).

%% The shortest that was found, once more, for what differs.
fail(File) ->
    [Sequence] = proper:counterexample(),
    ct:fail("~0tp~n~0tP", [Sequence, catch agree(Sequence, File), 80]).

%%------------------------------------------------------------------------------------ generators

%% How they are made, with names or without, and the calls.
sequence() ->
    {proper_types:oneof([signed, unsigned, padded, striped]), proper_types:boolean(),
     proper_types:list(step())}.

step() ->
    proper_types:frequency(
        [{8, {proper_types:oneof([put, add, sub, add_get, sub_get, exchange, max, min]), index(), value()}},
         {3, {get, index()}},
         {3, {compare_exchange, index(), expected(), value()}},
         {2, {allocate, index(), numbers()}},
         {1, {to_map}},
         {1, {reopen}}]).

%% A number, or which name, and how it is written.
index() ->
    proper_types:frequency([{12, {proper_types:oneof([number, atom, binary, string]),
                                  proper_types:range(1, ?SIZE)}},
                            {1, {bad, proper_types:oneof([0, -1, ?SIZE + 1, 1 bsl 32, 1 bsl 63, 1 bsl 64,
                                                          1.0, none, <<"none">>, "none", {}, []])}}]).

value() ->
    proper_types:frequency([{4, proper_types:range(-300, 300)},
                            {4, proper_types:bind({proper_types:oneof(edges()), proper_types:range(-2, 2)},
                                                  fun({Edge, By}) -> Edge + By end, false)},
                            {3, proper_types:range(-(1 bsl 63), 1 bsl 64)},
                            {1, proper_types:oneof([1.0, foo, <<1>>, "1", 1 bsl 200, -(1 bsl 200)])}]).

edges() ->
    [0, 1 bsl 31, 1 bsl 32, 1 bsl 59, 1 bsl 60, 1 bsl 63, 1 bsl 64, -(1 bsl 31), -(1 bsl 59), -(1 bsl 60),
     -(1 bsl 63), -(1 bsl 64)].

%% Often what it is.
expected() ->
    proper_types:frequency([{2, current}, {2, value()}]).

numbers() ->
    proper_types:frequency([{4, proper_types:range(1, 100)}, {1, value()}]).

%%------------------------------------------------------------------------------------- comparing

agree({Kind, Named, Calls}, File) ->
    _ = file:delete(File),
    {Asked, Options} = what(Kind, Named),
    {ok, C} = emmap_counters:open(File, Asked, Options),
    Otp = case Kind of
        striped -> {counters, counters:new(?SIZE, [write_concurrency])};
        _ -> {atomics, atomics:new(?SIZE, [{signed, Kind =/= unsigned}])}
    end,
    Last = lists:foldl(fun(Call, Now) -> one(Call, Now, Otp, {Kind, Named, File}) end, C, Calls),
    emmap_counters:close(Last).

what(Kind, true) -> {?NAMES, element(2, what(Kind, false))};
what(signed, false) -> {?SIZE, []};
what(unsigned, false) -> {?SIZE, [{signed, false}]};
what(padded, false) -> {?SIZE, [padded]};
what(striped, false) -> {?SIZE, [striped]}.

one({reopen}, C, Otp, {_, _, File} = How) ->
    ok = emmap_counters:close(C),
    {ok, Again} = emmap_counters:open(File, 0),
    one({to_map}, Again, Otp, How);
one({to_map}, C, Otp, {_, false, _}) ->
    same({to_map}, all_values(Otp), emmap_counters:to_map(C)),
    C;
one({to_map}, C, Otp, {_, true, _}) ->
    Values = all_values(Otp),
    same({to_map}, maps:from_list([{unicode:characters_to_binary(Name), maps:get(Ix, Values)}
                                   || {Ix, Name} <- numbered()]), emmap_counters:to_map(C)),
    C;
one(Call, C, Otp, {_, Named, _}) ->
    [Name, Index | Args0] = tuple_to_list(Call),
    Args = [current(Arg, Index, Otp) || Arg <- Args0],
    {Ours, Theirs} = indexes(Index, Named),
    same(Call, answer(fun() -> otp(Name, Otp, Theirs, Args) end),
         answer(fun() -> apply(emmap_counters, Name, [C, Ours | Args]) end)),
    C.

numbered() -> lists:zip(lists:seq(1, ?SIZE), ?NAMES).

current(current, {How, Ix}, {Module, Ref}) when How =/= bad -> Module:get(Ref, Ix);
current(current, _, _) -> 0;
current(Arg, _, _) -> Arg.

%% Ours and OTP's, which has numbers only: where there are no names each is none.
indexes({bad, Bad}, _) -> {Bad, none};
indexes({number, N}, _) -> {N, N};
indexes({_, N}, false) -> {lists:nth(N, ?NAMES), none};
indexes({How, N}, true) -> {as(How, lists:nth(N, ?NAMES)), N}.

as(atom, Name) -> list_to_atom(Name);
as(binary, Name) -> unicode:characters_to_binary(Name);
as(string, Name) -> Name.

same(_Call, Answer, Answer) -> ok;
same(Call, Otp, Ours) -> error({differ, Call, {otp, Otp}, {ours, Ours}}).

answer(Fun) ->
    try {answer, Fun()}
    catch error:Reason -> {raised, Reason}
    end.

all_values({Module, Ref}) ->
    maps:from_list([{Ix, Module:get(Ref, Ix)} || Ix <- lists:seq(1, ?SIZE)]).

%% What OTP has not is made of what it has; striped ones have what OTP's have.
otp(allocate, {counters, _}, Ix, [N]) ->
    _ = is_integer(Ix) andalso is_integer(N) andalso N > 0 andalso N =< ?MOST_UNSIGNED orelse error(badarg),
    error({emmap, enotsup});
otp(sub_get, {counters, _}, _, [Value]) when not is_number(Value) ->
    error(badarith);
otp(Name, {counters, Ref}, Ix, Args) ->
    case lists:member(Name, [get, put, add, sub]) of
        true -> apply(counters, Name, [Ref, Ix | Args]);
        false -> error(badarg)
    end;
otp(allocate, {atomics, Ref}, Ix, [N]) ->
    First = atomics:get(Ref, Ix),
    #{max := Max} = atomics:info(Ref),
    if not is_integer(N); N < 1; N > ?MOST_UNSIGNED -> error(badarg);
       First + N > Max -> error({emmap, eoverflow});
       true -> ok = atomics:put(Ref, Ix, First + N), First
    end;
otp(Name, {atomics, Ref}, Ix, [Value]) when Name =:= max; Name =:= min ->
    Old = atomics:get(Ref, Ix),
    Old = atomics:exchange(Ref, Ix, Value), % is it a value?
    ok = atomics:put(Ref, Ix, erlang:Name(Old, Value)),
    Old;
otp(Name, {atomics, Ref}, Ix, Args) ->
    apply(atomics, Name, [Ref, Ix | Args]).
