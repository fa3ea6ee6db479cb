%% The command emmap counters: tables, JSON, one look after the other, and its exit status.
-module(emmap_command_counters_tests).

-include_lib("eunit/include/eunit.hrl").

-import(emmap_test_lib, [with_dir/1, new_file/3, write_at/3, snapshot/1, pattern/1]).
-import(emmap_command_tests, [run/2]).

-define(WAIT_MS, 30000).

command_test_() ->
    {setup, fun emmap_command_tests:command/0,
     fun(Command) ->
         [{atom_to_list(Name), {timeout, 120, fun() -> with_dir(fun(Dir) -> Test(Command, Dir) end) end}}
          || {Name, Test} <-
                 [{named_counters_are_a_table, fun named_counters_are_a_table/2},
                  {counters_without_names_have_numbers, fun counters_without_names_have_numbers/2},
                  {simple_counters_are_shown_too, fun simple_counters_are_shown_too/2},
                  {what_a_terminal_would_obey_is_escaped, fun what_a_terminal_would_obey_is_escaped/2},
                  {json_is_one_object, fun json_is_one_object/2},
                  {the_text_is_that_of_prometheus, fun the_text_is_that_of_prometheus/2},
                  {a_watch_tells_the_change_a_second, fun a_watch_tells_the_change_a_second/2},
                  {a_watch_shows_added_counters, fun a_watch_shows_added_counters/2},
                  {a_watch_follows_the_name, fun a_watch_follows_the_name/2},
                  {a_cut_in_a_watch_is_damage, fun a_cut_in_a_watch_is_damage/2},
                  {an_interrupt_ends_a_watch_well, fun an_interrupt_ends_a_watch_well/2},
                  {who_reads_no_further_hears_no_complaint, fun who_reads_no_further_hears_no_complaint/2},
                  {info_knows_counters, fun info_knows_counters/2},
                  {damage_is_1_and_no_file_2, fun damage_is_1_and_no_file_2/2},
                  {a_wrong_command_line_is_2, fun a_wrong_command_line_is_2/2}]]
     end}.

names() ->
    [{requests, #{kind => counter, help => "Requests answered."}},
     {wait, #{kind => counter, unit => "seconds", help => "two\nlines"}},
     {<<"größe"/utf8>>, #{unit => "bytes"}}].

file_of(Dir, What, Options, Values) ->
    File = filename:join(Dir, "counters"),
    {ok, C} = emmap_counters:open(File, What, Options),
    [ok = emmap_counters:put(C, N, V) || {N, V} <- lists:zip(lists:seq(1, length(Values)), Values)],
    ok = emmap_counters:close(C),
    File.

named_counters_are_a_table(Command, Dir) ->
    File = filename:join(Dir, "copy"), % who opened it for writing would leave its mark in it
    {ok, _} = file:copy(file_of(Dir, names(), [], [1234567, 0, -4]), File),
    Before = snapshot(File),
    ?assertEqual({0, ["counter     value  unit     help",
                      "requests  1234567           Requests answered.",
                      "wait            0  seconds  two\\nlines",
                      "größe          -4  bytes"]},
                 run(Command, ["counters", File])),
    ?assertEqual(Before, snapshot(File)).

counters_without_names_have_numbers(Command, Dir) ->
    File = file_of(Dir, 2, [{signed, false}], [(1 bsl 64) - 1, 7]),
    ?assertEqual({0, ["counter                 value",
                      "1        18446744073709551615",
                      "2                           7"]},
                 run(Command, ["counters", File])).

simple_counters_are_shown_too(Command, Dir) ->
    File = new_file(Dir, "simple", <<"EMMAP01\n", 2:64/little, -7:64/little, 8:64/little>>),
    Before = snapshot(File),
    ?assertEqual({0, ["counter  value", "1           -7", "2            8"]},
                 run(Command, ["counters", File])),
    ?assertEqual(Before, snapshot(File)).

what_a_terminal_would_obey_is_escaped(Command, Dir) ->
    File = file_of(Dir, [{<<"a\e[1m">>, #{help => <<127, "b", 194, 155, "\t">>}}], [], [1]),
    ?assertEqual({0, ["counter     value  help", "a\\u001b[1m      1  \\u007fb\\u009b\\u0009"]},
                 run(Command, ["counters", File])),
    %% What sets the text behind it in another order.
    Turns = [16#61C, 16#200E, 16#200F] ++ lists:seq(16#202A, 16#202E) ++ lists:seq(16#2066, 16#2069),
    Shown = lists:flatten([io_lib:format("\\u~4.16.0b", [C]) || C <- Turns]),
    Other = filename:join(Dir, "turns"),
    {ok, C} = emmap_counters:open(Other, [Turns ++ [16#202F, 16#2065, 16#206A]], []),
    ok = emmap_counters:close(C),
    {0, [_, Row]} = run(Command, ["counters", Other]),
    ?assertEqual(Shown ++ [16#202F, 16#2065, 16#206A], hd(string:split(Row, "  "))).

json_is_one_object(Command, Dir) ->
    File = file_of(Dir, names(), [], [5, 6, -4]),
    {0, [Json]} = run(Command, ["counters", "--json", File]),
    ?assertMatch({match, _},
                 re:run(Json, ["^{\"file\":\".*counters\",\"time_ms\":\\d+,\"signed\":true,\"linked\":true,\"counters\":\\["
                               "{\"index\":1,\"name\":\"requests\",\"type\":\"counter\",\"unit\":\"\","
                               "\"help\":\"Requests answered\\.\",\"value\":5},"
                               "{\"index\":2,\"name\":\"wait\",\"type\":\"counter\",\"unit\":\"seconds\","
                               "\"help\":\"two\\\\u000alines\",\"value\":6},"
                               "{\"index\":3,\"name\":\"größe\",\"type\":\"gauge\",\"unit\":\"bytes\","
                               "\"help\":\"\",\"value\":-4}\\]}$"], [unicode])),
    Without = filename:join(Dir, "without"),
    {ok, C} = emmap_counters:open(Without, 1, [{signed, false}]),
    ok = emmap_counters:put(C, 1, (1 bsl 64) - 1),
    {0, [Short]} = run(Command, ["counters", Without, "--json"]),
    ?assertMatch({match, _}, re:run(Short, "\"signed\":false,\"linked\":true,\"counters\":\\["
                                           "{\"index\":1,\"value\":18446744073709551615}\\]}$")).

the_text_is_that_of_prometheus(Command, Dir) ->
    File = file_of(Dir, names(), [], [5, 6, -4]),
    {ok, C} = emmap_counters:open(File, 0, [read]),
    Text = unicode:characters_to_list(emmap_counters:prometheus(C)),
    ?assertEqual({0, string:lexemes(Text, "\n")}, run(Command, ["counters", "--prometheus", File])).

a_watch_tells_the_change_a_second(Command, Dir) ->
    File = file_of(Dir, [a, b, c], [], [1, (1 bsl 63) - 1, 5]),
    ?assertMatch({0, ["counter                value  per second",
                      "a                          1           -",
                      "b        9223372036854775807           -",
                      "c                          5           -",
                      "counter                value  per second",
                      "a                          1           0",
                      "b        9223372036854775807           0",
                      "c                          5           0"]},
                 run(Command, ["counters", "--watch", "0.01", "--count", "2", File])),
    ?assertMatch({0, [_, _, _, _]}, run(Command, ["counters", "--watch", "--count", "1", File])),
    {ok, C} = emmap_counters:open(File, 0, []),
    Port = watch(Command, ["--watch=0.5", "--json", "--count", "2", File]),
    First = line(Port),
    ?assertEqual(nomatch, re:run(First, "per_second")),
    ok = emmap_counters:add(C, a, 1000),
    ok = emmap_counters:add(C, b, 1000), % wraps
    ok = emmap_counters:sub(C, c, 1000),
    Second = line(Port),
    [A, B, Down] = [list_to_float(Rate) || [Rate] <- all(Second, "\"per_second\":(-?[0-9.]+)")],
    [T1, T2] = [list_to_integer(T) || Line <- [First, Second], [T] <- all(Line, "\"time_ms\":(\\d+)")],
    ?assertMatch({_, Change} when Change > 900 andalso Change < 1100, {{A, T2 - T1}, A * (T2 - T1) / 1000}),
    ?assert(A =< 2000),
    ?assertEqual({A, -A}, {B, Down}),
    ?assertEqual(0, status(Port)).

all(Line, Pattern) ->
    case re:run(Line, Pattern, [global, {capture, all_but_first, list}]) of
        {match, Found} -> Found;
        nomatch -> []
    end.

watch(Command, Args) ->
    open_port({spawn_executable, Command},
              [{args, ["counters" | Args]}, exit_status, stderr_to_stdout, binary, {line, 65536}, hide]).

line(Port) ->
    receive {Port, {data, {eol, Line}}} -> Line
    after ?WAIT_MS -> error(nothing_said)
    end.

status(Port) ->
    receive
        {Port, {exit_status, Status}} -> Status
    after ?WAIT_MS -> error(goes_on)
    end.

a_watch_shows_added_counters(Command, Dir) ->
    File = file_of(Dir, [a], [], [1]),
    Port = watch(Command, ["--json", "--watch", "0.02", File]),
    ?assertEqual([["a"]], all(line(Port), "\"name\":\"(.)\"")),
    {ok, _} = emmap_counters:open(File, [a, b], []),
    ?assertEqual([["a"], ["b"]], await_names(Port, [["a"]])),
    interrupt(Port),
    ?assertEqual(0, last_status(Port)).

a_watch_follows_the_name(Command, Dir) ->
    File = file_of(Dir, [a], [], [7]),
    Port = watch(Command, ["--json", "--watch", "0.02", File]),
    Kept = "\"linked\":true,.*\"name\":\"a\".*\"value\":7",
    ?assertMatch({match, _}, re:run(line(Port), Kept)),
    ok = file:rename(File, File ++ ".moved"),
    ?assertMatch({match, _}, re:run(await_words(Port), "has lost its name")),
    ?assertMatch({match, _}, re:run(line(Port), "\"linked\":false,.*\"name\":\"a\".*\"value\":7")),
    ok = file:rename(file_of(other(Dir), [a], [], [3]), File ++ ".other"),
    ok = file:rename(File ++ ".other", File),
    ?assertMatch({match, _}, re:run(await_words(Port), "another file has its name")),
    Again = line(Port),
    ?assertMatch({match, _}, re:run(Again, "\"linked\":true,.*\"name\":\"a\".*\"value\":3")),
    ok = file:write_file(File ++ ".plain", <<"no counters">>),
    ok = file:rename(File ++ ".plain", File),
    ?assertMatch({match, _}, re:run(await_words(Port), "has lost its name")),
    ?assertMatch({match, _}, re:run(line(Port), "\"linked\":false,.*\"value\":3")),
    interrupt(Port),
    ?assertEqual(0, last_status(Port)),
    %% The first look at another file has no change a second.
    _ = file:delete(File),
    _ = file_of(Dir, [a], [], [1]),
    Table = watch(Command, ["--watch", "0.02", File]),
    _ = await(Table, "^a +1 +0$"),
    ok = file:rename(file_of(other(Dir), [a], [], [900]), File),
    _ = await(Table, "^a +900 +-$"),
    interrupt(Table).

other(Dir) ->
    Other = filename:join(Dir, "other"),
    ok = filelib:ensure_path(Other),
    Other.

await(Port, Pattern) ->
    Line = line(Port),
    case re:run(Line, Pattern) of
        nomatch -> await(Port, Pattern);
        _ -> Line
    end.

a_cut_in_a_watch_is_damage(Command, Dir) ->
    [begin
         File = file_of(Dir, names(), [], [1]),
         Port = watch(Command, ["--json", "--watch", "0.02", File]),
         <<"{", _/binary>> = line(Port),
         emmap_test_lib:truncate(File, Size),
         ?assertMatch({match, _}, re:run(await_words(Port), "^emmap counters: .*\\(truncated\\)$")),
         ?assertEqual(1, status(Port)),
         ok = file:delete(File)
     end || Size <- [0, 100, 4096]].

%% On stderr.
await_words(Port) ->
    case line(Port) of
        <<"{", _/binary>> -> await_words(Port);
        Words -> Words
    end.

await_names(Port, Old) ->
    case all(line(Port), "\"name\":\"(.)\"") of
        Old -> await_names(Port, Old);
        New -> New
    end.

interrupt(Port) ->
    {os_pid, Pid} = erlang:port_info(Port, os_pid),
    [] = os:cmd("kill -INT " ++ integer_to_list(Pid)).

last_status(Port) ->
    receive
        {Port, {data, {eol, <<"{", _/binary>>}}} -> last_status(Port);
        {Port, {data, Other}} -> error({said, Other});
        {Port, {exit_status, Status}} -> Status
    after ?WAIT_MS -> error(goes_on)
    end.

%% Within a wait that is longer than the test.
an_interrupt_ends_a_watch_well(Command, Dir) ->
    File = file_of(Dir, 1, [], [1]),
    Port = watch(Command, ["--watch", "1000", File]),
    [<<"counter", _/binary>>, _] = [line(Port), line(Port)],
    interrupt(Port),
    ?assertEqual(0, status(Port)).

who_reads_no_further_hears_no_complaint(Command, Dir) ->
    File = file_of(Dir, 1, [], [1]),
    ?assertEqual({0, ["counter  value  per second"]},
                 run("/bin/sh", ["-c", "\"$0\" counters --watch 0.01 \"$1\" | head -n 1", Command, File])).

info_knows_counters(Command, Dir) ->
    File = file_of(Dir, names(), [], [5, 6, -4]),
    Without = filename:join(Dir, "without"),
    {ok, C} = emmap_counters:open(Without, 2, [{signed, false}, striped]),
    ok = emmap_counters:put(C, 2, (1 bsl 64) - 1),
    {0, Info} = run(Command, ["info", File, Without]),
    ?assertEqual(2, length([L || "  kind         counters" = L <- Info])),
    ?assert(lists:member("  counters     3 signed, with names", Info)),
    ?assert(lists:member("  counters     2 unsigned, without names, striped", Info)),
    {0, [Named, Unnamed]} = run(Command, ["info", "--json", File, Without]),
    ?assertMatch({match, _}, re:run(Named, "\"kind\":\"counters\",.*\"simple\":false,\"count\":3,\"named\":true,"
                                           "\"signed\":true,\"padded\":false,\"striped\":false,"
                                           "\"counters\":\\[5,6,-4\\]}$")),
    ?assertMatch({match, _}, re:run(Unnamed, "\"count\":2,\"named\":false,\"signed\":false,.*\"striped\":true,"
                                             "\"counters\":\\[0,18446744073709551615\\]}$")),
    [?assertMatch({2, [_]}, run(Command, [Name, File])) || Name <- ["verify", "dump"]].

damage_is_1_and_no_file_2(Command, Dir) ->
    File = file_of(Dir, names(), [], [5, 6, -4]),
    {ok, <<Byte, _/binary>> = Bytes} = file:read_file(File),
    %% The header; then a name.
    ok = write_at(File, 40, <<(binary:at(Bytes, 40) bxor 1)>>),
    ?assertMatch({1, [_]}, run(Command, ["counters", File])),
    {1, Said} = run(Command, ["info", File]),
    ?assert(lists:member("  kind         counters", Said)),
    ok = write_at(File, 40, <<(binary:at(Bytes, 40))>>),
    ok = write_at(File, 4096 + 64 + 16, "R"),
    ?assertMatch({1, [_]}, run(Command, ["counters", "--watch", File])),
    ok = write_at(File, 0, <<(Byte bxor 1)>>),
    [?assertMatch({2, [_]}, run(Command, ["counters", Other]))
     || Other <- [File, filename:join(Dir, "none"), Dir, new_file(Dir, "plain", pattern(9000))]].

a_wrong_command_line_is_2(Command, Dir) ->
    File = file_of(Dir, 1, [], [1]),
    [?assertMatch({_, {2, [_]}}, {Args, run(Command, ["counters" | Args])})
     || Args <- [[], [File, File], ["--wrong", File], ["--watch"], ["--watch", "1"], ["--watch=0", File],
                 ["--watch=x", File], ["--watch=1.2.3", File], ["--watch=1e9", File], ["--watch=.", File],
                 ["--count", "2", File], ["--watch", "--count", "0", File], ["--watch", "--count", "x", File],
                 ["--watch", "--count"], ["--prometheus", "--json", File], ["--prometheus", "--watch", File]]],
    %% Where it ends, a number is a file.
    ?assertMatch({2, ["emmap counters: 17: no such file" ++ _]}, run(Command, ["counters", "--watch", "--", "17"])).
