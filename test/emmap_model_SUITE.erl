%% A mapped file answers as a raw file does: PropEr compares them on random sequences of calls.
%%
%%   EMMAP_MODEL_SEQUENCES   how many (300)
-module(emmap_model_SUITE).

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([a_mapped_file_answers_as_a_raw_file/1]).

suite() ->
    [{timetrap, {minutes, 30}}].

all() ->
    [a_mapped_file_answers_as_a_raw_file].

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

a_mapped_file_answers_as_a_raw_file(Config) ->
    {dir, Dir} = lists:keyfind(dir, 1, Config),
    Sequences = list_to_integer(os:getenv("EMMAP_MODEL_SEQUENCES", "300")),
    Counts = counters:new(2, []),
    Property = proper:forall(emmap_model:sequence(), fun(Sequence) ->
        counters:add(Counts, 1, 1),
        counters:add(Counts, 2, length(element(4, Sequence))),
        emmap_test_lib:delete_dir(filename:join(Dir, "one")),
        agree(Sequence, filename:join(Dir, "one"))
    end),
    Passed = proper:quickcheck(Property, [{numtests, Sequences}, {max_size, 100}, quiet]),
    io:format(user, "~b sequences of ~b calls~n", [counters:get(Counts, N) || N <- [1, 2]]),
    Passed =:= true orelse fail(Dir).

%% PropEr itself may not meet an exception: its stack trace is of an older OTP.
agree(Sequence, Dir) ->
    try
        emmap_model:agree(Sequence, Dir) =:= ok
    catch
        _:_ -> false
    end.

%% The shortest that was found, once more, for what differs.
fail(Dir) ->
    [Sequence] = proper:counterexample(),
    Differs = (catch emmap_model:agree(Sequence, filename:join(Dir, "again"))),
    ct:fail("~0tp~n~0tP", [Sequence, Differs, 80]).
