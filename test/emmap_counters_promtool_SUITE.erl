%% What Prometheus itself says of the text: `promtool check metrics', where there is one on the PATH or
%% in the environment variable PROMTOOL. (Its status: 1: it cannot be read; 3: names and help are not
%% as they should be.)
-module(emmap_counters_promtool_SUITE).

-include_lib("stdlib/include/assert.hrl").

-import(emmap_test_lib, [with_dir/1, run/2]).

-export([all/0, init_per_suite/1, end_per_suite/1]).
-export([well_named_counters_are_without_fault/1, counters_without_names_are_without_fault/1,
         any_name_can_be_read/1, published_figures_are_without_fault/1]).

all() ->
    [well_named_counters_are_without_fault, counters_without_names_are_without_fault, any_name_can_be_read,
     published_figures_are_without_fault].

init_per_suite(Config) ->
    case os:find_executable(os:getenv("PROMTOOL", "promtool")) of
        false -> {skip, "no promtool on the PATH or in PROMTOOL"};
        Promtool -> [{promtool, Promtool} | Config]
    end.

end_per_suite(_Config) -> ok.

%% {Status, what it says}
check(Config, What, Options, Values) ->
    with_dir(fun(Dir) ->
        {ok, C} = emmap_counters:open(filename:join(Dir, "c"), What, Options),
        [ok = emmap_counters:put(C, N, V) || {N, V} <- lists:zip(lists:seq(1, length(Values)), Values)],
        check_text(Config, Dir, emmap_counters:prometheus(C))
    end).

check_text(Config, Dir, Lines) ->
    Text = filename:join(Dir, "text"),
    ok = file:write_file(Text, Lines),
    {Status, Said} = run("/bin/sh", ["-c", "\"$0\" check metrics <\"$1\" 2>&1",
                                     proplists:get_value(promtool, Config), Text]),
    ct:pal("promtool: ~b~n~ts", [Status, Said]),
    {Status, unicode:characters_to_list(Said)}.

well_named_counters_are_without_fault(Config) ->
    Named = [{'http.requests', #{kind => counter, help => "Requests \\ that were\nanswered, \"all\"."}},
             {http_requests, #{kind => counter, help => "Another of that name."}},
             {wait, #{kind => counter, unit => "seconds", help => "Wäit."}},
             {delay_ns, #{kind => counter, unit => "nanoseconds", help => "Delay."}},
             {wait_seconds_total, #{kind => counter, unit => "seconds", help => "Another."}},
             {'temperature (outside)', #{unit => "celsius", help => "Degrees."}},
             {'load', #{unit => "%", help => "\n"}}],
    ?assertEqual({0, ""}, check(Config, Named, [], [(1 bsl 63) - 1, 2, 3, 4, 5, -(1 bsl 63), 7])),
    ?assertEqual({0, ""}, check(Config, Named, [{signed, false}], [(1 bsl 64) - 1])).

counters_without_names_are_without_fault(Config) ->
    [?assertEqual({0, ""}, check(Config, 100, Options, [1, 2, 3]))
     || Options <- [[], [{signed, false}], [striped]]].

%% Each of the first characters of Unicode, some of the others; all sorts of likeness.
any_name_can_be_read(Config) ->
    Odd = [{<<C/utf8, "x", C/utf8>>, #{help => <<C/utf8>>, unit => <<C/utf8>>, kind => Kind}}
           || {C, Kind} <- [{C, gauge} || C <- lists:seq(1, 300)]
                  ++ [{C, counter} || C <- [16#7ff, 16#800, 16#2028, 16#fffd, 16#10ffff]]],
    Alike = [<<"x_total">>, <<"x.total">>, {<<"x">>, #{kind => counter}}, {<<"x!">>, #{kind => counter}},
             <<"x_count">>, <<"x_bucket">>, <<"x_sum">>, <<"_">>, <<"__">>, {<<"9">>, #{kind => counter}},
             list_to_binary(lists:duplicate(255, $1))],
    %% It misses help, and has names that it would rather not.
    {3, _} = check(Config, Odd ++ Alike, [], []).

published_figures_are_without_fault(Config) ->
    with_dir(fun(Dir) ->
        File = filename:join(Dir, "figures"),
        Lines = emmap_test_lib:in_vm(fun() ->
            ok = emmap:publish_stats(File),
            {ok, C} = emmap_counters:open(File, [], [read]),
            emmap_counters:prometheus(C)
        end),
        ?assertEqual({0, ""}, check_text(Config, Dir, Lines)),
        [?assertMatch({_, _}, binary:match(Lines, Line))
         || Line <- [<<"# HELP emmap_pushes_total Messages pushed into queues.\n">>,
                     <<"\nemmap_push_bytes_total 0\n">>, <<"\nemmap_syncs_10ms_total ">>,
                     <<"\nemmap_sync_seconds_total 0.">>, <<"\nemmap_mapped_bytes ">>]]
    end).
