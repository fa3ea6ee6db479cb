%% libFuzzer's inputs, each run as a program of calls by a process of its own.
-module(fuzz_nif).
-export([main/0, verdict/1]).
-nifs([start/1, verdict/1]).
-on_load(init/0).

-define(LOOK_EVERY, 200). % inputs

init() ->
    erlang:load_nif(filename:join([filename:dirname(code:which(?MODULE)), "..", "priv", "fuzz_nif"]), 0).

start(_Args) -> erlang:nif_error(not_loaded).
verdict(_IsGood) -> erlang:nif_error(not_loaded).

main() ->
    Dir = os:getenv("EMMAP_FUZZ_DIR"),
    {module, _} = code:ensure_loaded(emmap_nif),
    _ = spawn(fun() ->
        ok = start([unicode:characters_to_binary(Arg) || Arg <- init:get_plain_arguments()]),
        loop(Dir, 1)
    end),
    ok.

loop(Dir, N) ->
    receive
        {input, Input} -> ok = verdict(judge(Input, Dir, N)), loop(Dir, N + 1)
    end.

judge(Input, Dir, N) ->
    try
        emmap_nif_program:run(Input, #{dir => Dir, small => os:getenv("EMMAP_FUZZ_SMALL") =/= false}),
        N rem ?LOOK_EVERY =/= 0 orelse emmap_nif_program:nothing_is_left(),
        true
    catch
        Class:Reason:Stack ->
            io:format(standard_error, "fuzz_nif: ~p~n~p~n~p~n", [{Class, Reason}, Stack, emmap_nif:stats()]),
            false
    end.
