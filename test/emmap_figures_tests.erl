%% What emmap tells of itself: i/0, stats/0.
-module(emmap_figures_tests).

-include_lib("eunit/include/eunit.hrl").

-import(emmap_test_lib, [with_dir/1, new_file/3, pattern/1, in_vm/1]).

-export([i_prints_a_table_of_the_open_handles/0, stats_count_faults/0]).

i_prints_a_table_of_the_open_handles_test_() ->
    {timeout, 120, fun ?MODULE:i_prints_a_table_of_the_open_handles/0}.

i_prints_a_table_of_the_open_handles() ->
    with_dir(fun(Dir) ->
        in_vm(fun() ->
            ?assertMatch([_Header, _Line], printed()),
            Names = ["one", "two", [16#20ac, 16#e4]],
            [One | _] = Files = [new_file(Dir, Name, pattern(5000)) || Name <- Names],
            Options = [[write, shared], [read], [write, private]],
            Mems = [opened(File, Opts) || {File, Opts} <- lists:zip(Files, Options)],
            Anon = opened("", [anon, write, {size, 70000}]),
            Rows = [string:lexemes(Row, " ") || Row <- tl(tl(printed()))],
            ?assertEqual(lists:sort([["5000", "shared", "read_write", "0", One],
                                     ["5000", "private", "read", "0", lists:nth(2, Files)],
                                     ["5000", "private", "read_write", "0", lists:nth(3, Files)],
                                     ["70000", "private", "read_write", "0", "(memory)"]]),
                         lists:sort(Rows)),
            [ok = emmap:close(Mem) || Mem <- [Anon | Mems]],
            ?assertMatch([_, _], printed())
        end)
    end).

opened(File, Options) ->
    {ok, Mem, _} = emmap:open(File, Options),
    Mem.

%% The lines that i/0 prints.
printed() ->
    Self = self(),
    Device = spawn_link(fun() -> take(Self, []) end),
    Leader = group_leader(),
    true = group_leader(Device, self()),
    ok = emmap:i(),
    true = group_leader(Leader, self()),
    Device ! stop,
    receive {Device, Text} -> string:lexemes(Text, "\n") end.

take(Owner, Text) ->
    receive
        {io_request, From, Ref, {put_chars, unicode, Module, Function, Args}} ->
            From ! {io_reply, Ref, ok},
            take(Owner, [Text, apply(Module, Function, Args)]);
        {io_request, From, Ref, {put_chars, unicode, Chars}} ->
            From ! {io_reply, Ref, ok},
            take(Owner, [Text, Chars]);
        stop ->
            Owner ! {self(), unicode:characters_to_list(Text)}
    end.

%% Also by processes that open and close meanwhile.
i_may_be_called_at_any_time_test() ->
    with_dir(fun(Dir) ->
        File = new_file(Dir, "file", pattern(100)),
        Busy = [fun() -> [ok = emmap:close(opened(File, [write])) || _ <- lists:seq(1, 300)] end
                || _ <- lists:seq(1, 4)],
        Printing = fun() -> [?assert(length(printed()) >= 2) || _ <- lists:seq(1, 100)] end,
        _ = emmap_test_lib:together([Printing | Busy])
    end).

stats_count_faults_test_() ->
    {timeout, 120, fun ?MODULE:stats_count_faults/0}.

stats_count_faults() ->
    with_dir(fun(Dir) ->
        in_vm(fun() ->
            File = new_file(Dir, "file", pattern(100000)),
            Mem = opened(File, [write, shared]),
            #{faults := 0, handles := 1} = emmap:stats(),
            emmap_test_lib:truncate(File, 10),
            {error, truncated} = emmap:pread(Mem, 90000, 10),
            #{faults := Faults} = emmap:stats(),
            ?assert(Faults > 0),
            ?assertMatch(#{faults := Own} when Own > 0, emmap:info(Mem)),
            ok = emmap:close(Mem),
            ?assertMatch(#{faults := Faults, handles := 0}, emmap:stats())
        end)
    end).

every_figure_is_a_number_test() ->
    [?assert(is_atom(Key) andalso is_integer(Value) andalso Value >= 0)
     || {Key, Value} <- maps:to_list(emmap:stats())].
