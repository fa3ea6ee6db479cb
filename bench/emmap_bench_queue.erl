%% bench queue: the persistent queue beside what it is made of and what it replaces, in parts.
-module(emmap_bench_queue).

-export([run/1]).

-spec run(emmap_bench:options()) -> ok.
run(#{work := Work} = Options) ->
    Parts = [Part || {Name, _} = Part <- parts(),
                     string:find(Name, maps:get(only, Options, "")) =/= nomatch],
    Parts =/= [] orelse
        begin
            emmap_bench:progress("bench queue: no part has that in its name: ~ts~n",
                                 [lists:join(", ", [Name || {Name, _} <- parts()])]),
            halt(1)
        end,
    %% What is measured would be told by a line each: opens that recover, mnesia's dumps.
    ok = logger:set_primary_config(level, error),
    ok = logger:set_module_level(emmap_queue, warning),
    Folder = filename:join(Work, "queue"),
    ok = filelib:ensure_path(Folder),
    emmap_bench:facts(Work, [{"skipped", Why} || {_, Why} <- emmap_bench_peers:missing()]),
    Targets = [begin
                   Begin = erlang:monotonic_time(second),
                   Said = Run(Options, Folder),
                   emmap_bench:progress("~ts took ~b s, load ~ts~n",
                                        [Name, erlang:monotonic_time(second) - Begin, emmap_bench:load()]),
                   Said
               end || {Name, Run} <- Parts],
    io:nl(),
    emmap_bench:targets("Targets", lists:append(Targets)).

parts() ->
    [{"pairs", fun emmap_bench_pairs:run/2}, {"latency", fun emmap_bench_latency:run/2},
     {"durable", fun emmap_bench_durable:run/2}, {"open", fun emmap_bench_open:run/2},
     {"memory", fun emmap_bench_open:memory/2}, {"space", fun emmap_bench_space:run/2}].
