%% What the fuzzer of the NIF's arguments has found, and the inputs that lead furthest.
-module(emmap_arguments_tests).

-include_lib("eunit/include/eunit.hrl").

-import(emmap_test_lib, [with_dir/1]).

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
