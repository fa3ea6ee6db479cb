%% What the fuzzer of the NIF's arguments has found, and the inputs that lead furthest.
-module(emmap_arguments_tests).

-include_lib("eunit/include/eunit.hrl").

-import(emmap_test_lib, [with_dir/1]).

%% Of c_src/fuzz/corpus; emmap_nif_program:show/2 tells what each does.
inputs_of_the_fuzzer_are_answered_test_() ->
    {ok, Root} = file:get_cwd(),
    Inputs = filelib:wildcard(filename:join([Root, "c_src", "fuzz", "corpus", "fuzz_nif", "*"])),
    [{"there are some", ?_assert(length(Inputs) > 20)},
     {timeout, 120, {"are answered", fun() -> with_dir(fun(Dir) -> answer(Inputs, Dir) end) end}},
     {"leave nothing", fun emmap_nif_program:nothing_is_left/0}].

answer(Inputs, Dir) ->
    [begin
         {ok, Bytes} = file:read_file(Input),
         ?assertEqual({Input, ok}, {Input, emmap_nif_program:run(Bytes, #{dir => Dir})})
     end || Input <- Inputs].

take_many_of_none_takes_nothing_test_() ->
    [?_test(with_queue(Safe, fun(Q) ->
         ok = emmap_nif:queue_push(Q, 1),
         ?assertEqual({ok, [], 0}, emmap_nif:queue_take_many(Q, 0, 1000)),
         ?assertEqual(1, emmap_nif:queue_length(Q))
     end)) || Safe <- [false, true]].

with_queue(Safe, Fun) ->
    with_dir(fun(Dir) ->
        Name = unicode:characters_to_binary(filename:join(Dir, "queue")),
        {ok, Q, false} = emmap_nif:queue_open(Name, 1, 0, 1, 0, 0, Safe),
        Fun(Q),
        ok = emmap_nif:queue_close(Q)
    end).
