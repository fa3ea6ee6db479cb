%% The command emmap: what it says of a queue, at rest, damaged and in use, and its exit status.
-module(emmap_command_tests).

-include_lib("eunit/include/eunit.hrl").

-export([command/0, run/2]). % for the parts of the command that have a module of their own

-import(emmap_test_lib, [with_dir/1, new_file/3, write_at/3, snapshot/1, pattern/1]).

-define(DATA_OFF, 131072).
-define(SLOT_HEADER, 128).
-define(RECORD_HEADER, 40).

command_test_() ->
    {setup, fun command/0,
     fun(Command) ->
         [{atom_to_list(Name), {timeout, 120, fun() -> with_dir(fun(Dir) -> Test(Command, Dir) end) end}}
          || {Name, Test} <-
                 [{terms_are_printed_as_erlang_reads_them, fun terms_are_printed_as_erlang_reads_them/2},
                  {messages_are_dumped_in_order, fun messages_are_dumped_in_order/2},
                  {a_limit_is_kept, fun a_limit_is_kept/2},
                  {a_sound_queue_is_sound, fun a_sound_queue_is_sound/2},
                  {damage_is_told_by_the_status, fun damage_is_told_by_the_status/2},
                  {a_copy_needs_recovery, fun a_copy_needs_recovery/2},
                  {a_queue_in_use_is_sound, fun a_queue_in_use_is_sound/2},
                  {what_is_no_queue_is_refused, fun what_is_no_queue_is_refused/2},
                  {a_wrong_command_line_is_2, fun a_wrong_command_line_is_2/2},
                  {each_command_has_help, fun each_command_has_help/2},
                  {other_files_are_told_as_ever, fun other_files_are_told_as_ever/2}]]
     end}.

%% Built beside the NIF, of the same objects.
command() ->
    {ok, Root} = file:get_cwd(),
    Source = filename:join(Root, "c_src"),
    {0, _} = run(os:find_executable("make"), ["-s", "-C", Source, "cli"]),
    filename:join([Source, "build", "emmap"]).

%% {Status, Lines}: what it says on both channels.
run(Program, Args) ->
    Port = open_port({spawn_executable, Program},
                     [{args, Args}, exit_status, stderr_to_stdout, binary, use_stdio, hide]),
    collect(Port, []).

collect(Port, Said) ->
    receive
        {Port, {data, Data}} -> collect(Port, [Said, Data]);
        {Port, {exit_status, Status}} ->
            Text = unicode:characters_to_list(iolist_to_binary(Said)),
            {Status, string:lexemes(Text, "\n")}
    end.

with_queue(Dir, Options, Fun) ->
    File = filename:join(Dir, "queue"),
    {ok, Q} = emmap_queue:open(File, Options),
    Result = Fun(Q, File),
    ok = emmap_queue:close(Q),
    Result.

queue_of(Dir, Terms) ->
    with_queue(Dir, #{}, fun(Q, File) -> ok = emmap_queue:push_many(Q, Terms), File end).

%% A line of dump: {Ordinal, State, Length, Term as text}.
dumped(Line) ->
    {match, [N, State, Length, Term]} =
        re:run(Line, "^ *(\\d+)  \\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z  (\\w+) +(\\d+)  (.*)$",
               [unicode, {capture, all_but_first, list}]),
    {list_to_integer(N), State, list_to_integer(Length), Term}.

read_back(Text) ->
    {ok, Tokens, _} = erl_scan:string(Text ++ "."),
    {ok, Term} = erl_parse:parse_term(Tokens),
    Term.

terms_are_printed_as_erlang_reads_them(Command, Dir) ->
    rand:seed(exsss, 17),
    Terms = [[], {}, #{}, 0, -1, 1 bsl 64, -(1 bsl 5000), 0.1, -0.0, 1.0e100, 5.0e-324, a, 'A b', '',
             'a\nb\\\'', 'é', "text", "ünï", [8364, 955], [0, 1, 2], [a | b], [1, 2 | 3], <<>>, <<"text">>,
             <<"ünï"/utf8>>, <<255, 0>>, <<1, 2:4>>, <<"\"\\\n\e">>, fun lists:map/2,
             'maybe', 'end', lists:seq(1, 1000), list_to_tuple(lists:seq(1, 300)), [[[[]]]]]
        ++ [any_term(4) || _ <- lists:seq(1, 500)],
    File = queue_of(Dir, Terms),
    {0, Lines} = run(Command, ["dump", File]),
    ?assertEqual(length(Terms), length(Lines)),
    [?assertEqual({N, "ready", Term}, {N0, State, read_back(Text)})
     || {N, Term, {N0, State, _Length, Text}} <-
            lists:zip3(lists:seq(1, length(Terms)), Terms, [dumped(L) || L <- Lines])].

any_term(0) ->
    case rand:uniform(8) of
        1 -> rand:uniform(1000) - 500;
        2 -> rand:uniform(1 bsl 70) - (1 bsl 69);
        3 -> (rand:uniform() - 0.5) * math:pow(10, rand:uniform(40) - 20);
        4 -> list_to_atom(any_string());
        5 -> any_string();
        6 -> unicode:characters_to_binary(any_string());
        7 -> rand:bytes(rand:uniform(20) - 1);
        8 -> []
    end;
any_term(Depth) ->
    Parts = [any_term(rand:uniform(Depth) - 1) || _ <- lists:seq(1, rand:uniform(5) - 1)],
    case rand:uniform(4) of
        1 -> Parts;
        2 -> list_to_tuple(Parts);
        3 -> maps:from_list([{P, any_term(0)} || P <- Parts]);
        4 -> Parts ++ any_term(0)
    end.

any_string() ->
    [case rand:uniform(4) of
         1 -> rand:uniform(16#D7FF);
         2 -> rand:uniform(255);
         _ -> $a + rand:uniform(26) - 1
     end || _ <- lists:seq(1, rand:uniform(10) - 1)].

messages_are_dumped_in_order(Command, Dir) ->
    with_queue(Dir, #{}, fun(Q, File) ->
        [ok = emmap_queue:push(Q, {message, N}) || N <- lists:seq(1, 5)],
        ok = emmap_queue:push(Q, lists:duplicate(1000, x), 9),
        {ok, {message, 1}} = emmap_queue:take(Q),
        Before = snapshot(File),
        emmap_queue:try_pop(Q, fun({message, 2}) ->
            {0, [First, Second | More]} = run(Command, ["dump", File]),
            ?assertMatch({2, "claimed", _, "{message,2}"}, dumped(First)),
            ?assertMatch({3, "ready", _, "{message,3}"}, dumped(Second)),
            ?assertMatch({6, "ready", _, "(deflated, a term of 3007 bytes)"}, dumped(lists:last(More)))
        end),
        {0, [Json | _] = All} = run(Command, ["dump", "--json", File]),
        ?assertMatch({match, _}, re:run(Json, "^{\"ordinal\":3,\"time_ms\":\\d+,\"state\":\"ready\",.*"
                                              "\"deflated\":false,.*\"term\":\"{message,3}\"}$")),
        ?assertMatch({match, _}, re:run(lists:last(All), "\"deflated\":true,.*\"hex\":\"[0-9a-f]+\"}$")),
        ?assertEqual(4, length(All)),
        ?assertNotEqual(Before, snapshot(File)) % the message that was popped
    end).

a_limit_is_kept(Command, Dir) ->
    File = queue_of(Dir, lists:seq(1, 10)),
    {0, Lines} = run(Command, ["dump", "--limit", "3", File]),
    ?assertEqual(["1", "2", "3"], [element(4, dumped(L)) || L <- Lines]),
    ?assertEqual({0, []}, run(Command, ["dump", File, "--limit", "0"])),
    ?assertMatch({2, [_]}, run(Command, ["dump", "--limit", "x", File])).

a_sound_queue_is_sound(Command, Dir) ->
    File = queue_of(Dir, lists:seq(1, 1000)),
    Before = snapshot(File),
    {0, [Sound, Read]} = run(Command, ["verify", File]),
    ?assertEqual(File ++ ": sound", Sound),
    ?assertMatch("  read         1000 messages, " ++ _, Read),
    {0, [Json]} = run(Command, ["verify", "--json", File]),
    ?assertMatch({match, _}, re:run(Json, "\"sound\":true,\"state\":\"at_rest\",\"recovery\":null,"
                                          "\"messages\":1000,.*\"problems\":\\[\\]}$")),
    {0, Info} = run(Command, ["info", File]),
    ?assert(lists:member("  messages     1000", Info)),
    ?assert(lists:member("  state        nobody has it open", Info)),
    {0, [InfoJson]} = run(Command, ["info", "--json", File]),
    ?assertMatch({match, _}, re:run(InfoJson, "\"kind\":\"queue\",.*\"state\":\"at_rest\",\"processes\":\\[\\],"
                                              ".*\"messages\":1000,.*\"max_size\":null,")),
    ?assertEqual(Before, snapshot(File)).

damage_is_told_by_the_status(Command, Dir) ->
    File = queue_of(Dir, [<<"first">>, <<"second">>, <<"third">>]),
    %% Each takes 64 bytes; of the second a byte of the data, then one of its header.
    Second = ?DATA_OFF + ?SLOT_HEADER + 64,
    {Good, _} = change(File, Second + ?RECORD_HEADER + 6),
    {1, Lines} = run(Command, ["verify", File]),
    ?assertEqual(File ++ ": damaged", hd(Lines)),
    ?assert(lists:any(fun(L) -> lists:prefix("  damaged      a message's data is damaged: message 2, ", L) end, Lines)),
    {1, Dumped} = run(Command, ["dump", File]),
    ?assertMatch([{1, _, _, "<<\"first\">>"}, {2, _, _, "(damaged)"}, {3, _, _, "<<\"third\">>"}],
                 [dumped(L) || L <- Dumped, hd(L) =:= $\s]),
    ok = write_at(File, Second + ?RECORD_HEADER + 6, Good),
    {_, _} = change(File, Second + 9),
    {1, [Json]} = run(Command, ["verify", "--json", File]),
    ?assertMatch({match, _}, re:run(Json, "\"sound\":false,.*\"missing\":1,.*\"problems\":\\[{\"kind\":\"record\","
                                          ".*\"ordinal\":2,.*\"found\":1}\\]}$")),
    %% The header of the file: nothing can be told.
    {_, _} = change(File, 60),
    [?assertMatch({1, _}, run(Command, [Name, File])) || Name <- ["info", "verify", "dump"]].

change(File, Off) ->
    {ok, Bytes} = file:read_file(File),
    <<_:Off/binary, Byte, _/binary>> = Bytes,
    ok = write_at(File, Off, <<(Byte bxor 16)>>),
    {<<Byte>>, Off}.

a_copy_needs_recovery(Command, Dir) ->
    File = queue_of(Dir, lists:seq(1, 20)),
    Copy = filename:join(Dir, "copy"),
    {ok, _} = file:copy(File, Copy),
    {0, [Said, Recovery | _]} = run(Command, ["verify", Copy]),
    ?assertEqual(Copy ++ ": sound, needs recovery", Said),
    ?assertEqual("  recovery     keeps 20 messages, 0 lost", Recovery),
    {0, Lines} = run(Command, ["dump", Copy]),
    ?assertEqual(20, length(Lines)),
    {0, [Json]} = run(Command, ["info", "--json", Copy]),
    ?assertMatch({match, _}, re:run(Json, "\"state\":\"to_recover\"")).

%% Others push and take while it reads.
a_queue_in_use_is_sound(Command, Dir) ->
    with_queue(Dir, #{size => 1 bsl 16}, fun(Q, File) ->
        ok = emmap_queue:push_many(Q, [<<N:64, 0:(8 * (N rem 3000))>> || N <- lists:seq(1, 300)]),
        Stop = atomics:new(1, []),
        Busy = [spawn_monitor(fun() -> go_round(Q, Stop) end) || _ <- [1, 2]],
        try
            [begin
                 ?assertMatch({0, [_ | _]}, run(Command, ["verify", File])),
                 ?assertMatch({0, _}, run(Command, ["dump", File])),
                 {0, Info} = run(Command, ["info", File]),
                 ?assert(lists:member("  state        in use by OS process " ++ os:getpid(), Info))
             end || _ <- lists:seq(1, 15)]
        after
            atomics:put(Stop, 1, 1),
            [receive {'DOWN', Ref, process, Pid, Why} -> ?assertEqual(normal, Why) end || {Pid, Ref} <- Busy]
        end,
        {0, [_, "  read         300 messages, " ++ _]} = run(Command, ["verify", File])
    end).

go_round(Q, Stop) ->
    case atomics:get(Stop, 1) of
        1 -> ok;
        0 ->
            {ok, Term} = emmap_queue:take(Q),
            ok = emmap_queue:push(Q, Term),
            go_round(Q, Stop)
    end.

what_is_no_queue_is_refused(Command, Dir) ->
    Plain = new_file(Dir, "plain", pattern(200000)),
    None = filename:join(Dir, "none"),
    [?assertMatch({2, [_]}, run(Command, [Name, File]))
     || Name <- ["verify", "dump"], File <- [Plain, None, Dir]],
    File = queue_of(Dir, [1]),
    ?assertMatch({2, [_, _, _]}, run(Command, ["verify", File, Plain])). % the worst of both

a_wrong_command_line_is_2(Command, Dir) ->
    File = queue_of(Dir, [1]),
    [?assertMatch({2, [_ | _]}, run(Command, Args))
     || Args <- [[], ["nothing"], ["verify"], ["dump"], ["info"], ["verify", "--wrong", File],
                 ["dump", "--wrong", File], ["dump", File, File], ["dump", "--limit"]]],
    [?assertMatch({2, [{1, _}]}, {Status, [{string:str(Line, "emmap " ++ Name ++ ": "), Line} || Line <- Lines]})
     || Name <- ["info", "verify", "dump", "counters"], {Status, Lines} <- [run(Command, [Name, "--wrong", File])]].

each_command_has_help(Command, _Dir) ->
    {0, Help} = run(Command, ["--help"]),
    [begin
         {0, ["Usage: emmap " ++ Usage | _]} = run(Command, [Name, "--help"]),
         ?assert(lists:prefix(Name, Usage)),
         ?assert(lists:any(fun(L) -> lists:prefix("  emmap " ++ Usage, L) end, Help))
     end || Name <- ["info", "verify", "dump", "counters"]].

other_files_are_told_as_ever(Command, Dir) ->
    Plain = new_file(Dir, "plain", pattern(5000)),
    {0, [Json]} = run(Command, ["info", "--json", Plain]),
    ?assertMatch({match, _}, re:run(Json, "\"kind\":\"plain\",\"size\":5000,")),
    Counters = new_file(Dir, "counters", <<"EMMAP01\n", 2:64/little, 7:64/little, 8:64/little>>),
    {0, [Values]} = run(Command, ["info", Counters, "--json"]),
    ?assertMatch({match, _}, re:run(Values, "\"kind\":\"counters\",.*\"counters\":\\[7,8\\]}$")).
