%% bench scheduler: how long a VM of one scheduler stands still while a process waits for a file.
%%
%% Every measurement has a VM of its own (+S 1:1), in which a ticker sleeps 1 ms and looks at the
%% clock, over and over (emmap_bench_work); the longest time between two looks is the pause. Files
%% are made cold before it is started: nobody maps them then, fdatasync, posix_fadvise(DONTNEED).
%% What the kernel still holds is asked and told.
-module(emmap_bench_scheduler).

-export([run/1]).

-type condition() :: alone | writer | not_root.

-spec run(emmap_bench:options()) -> ok.
run(#{quick := Quick, work := Folder} = Options) ->
    Default = fun(Key, OfQuick, Full) ->
                      maps:get(Key, Options, case Quick of true -> OfQuick; false -> Full end)
              end,
    Rounds = Default(rounds, 2, 5),
    Size = max(Default(size, 64 bsl 20, 1 bsl 30) band -65536, 65536),
    Line = Default(line, 16 bsl 20, 200 bsl 20),
    Works = [Work || {Name, _} = Work <- works(Size, Line),
                     string:find(Name, maps:get(only, Options, "")) =/= nomatch],
    Works =/= [] orelse
        stop("bench scheduler: no work has that in its name: ~ts~n",
             [lists:join(", ", [Name || {Name, _} <- works(Size, Line)])]),
    emmap_bench:enough_space(Folder, 2 * Size + Line),
    {Conditions, NotRoot, Said} = conditions(),
    emmap_bench:facts(Folder, [{"method", method(Size, Rounds)} | Said]),
    Env = #{size => Size, not_root => NotRoot, folder => Folder,
            big => make(filename:join(Folder, "big"), Size, random),
            line => make(filename:join(Folder, "line"), Line, line),
            own => own_folder(filename:join(Folder, "own"), NotRoot)},
    Runs = [{Condition, Work, Through} || Condition <- Conditions, Work <- [idle() | Works],
                                          Through <- through(Work)],
    put(warm, 0.0),
    Begin = erlang:monotonic_time(second),
    Taken = lists:append([round(Round, Rounds, Runs, Env) || Round <- lists:seq(1, Rounds)]),
    io:format("Took ~b s, load at the end ~ts. Of the cold files at most ~.2f % was resident at a "
              "start.~n~n",
              [erlang:monotonic_time(second) - Begin, emmap_bench:load(), 100 * get(warm)]),
    Results = maps:groups_from_list(fun({Run, _}) -> Run end, fun({_, Result}) -> Result end, Taken),
    [table(Condition, Works, Results) || Condition <- Conditions],
    counted([{Condition, Work} || Condition <- Conditions, Work <- Works], Results),
    emmap_bench:targets("Targets: the pause no longer than with a raw file",
                        [target(Condition, Work, Results)
                         || Condition <- Conditions, Work <- Works]),
    picture(Conditions, Works, Results, Options).

method(Size, Rounds) ->
    io_lib:format(
        "longest time between two looks at the clock of a process that sleeps 1 ms between them,\n"
        "           in a VM with +S 1:1; medians of ~b rounds, every second one in reverse order\n"
        "  files    ~ts, cold before they are read; dirty from end to end before sync and close\n"
        "  idle     the ticker alone, for ~b ms\n"
        "  raw file file:pread, datasync, close; for a line file:pread of the same bytes at once, since\n"
        "           file:read_line takes time with the square of the length; for populate file:pread\n"
        "           of all by 1 MiB",
        [Rounds, emmap_bench:bytes(Size), idle_ms(Size)]).

idle() ->
    {"idle", idle}.

%% The longest pause grows with the time: as long as the work takes, roughly.
idle_ms(Size) ->
    max(100, Size div (1 bsl 20)).

works(Size, Line) ->
    [{"64 KiB in sequence", {sequence, 65536}} | % Size is a multiple of it
     [{"1 MiB in sequence", {sequence, 1 bsl 20}} || Size rem (1 bsl 20) =:= 0]]
    ++ [{"64 MiB in sequence", {sequence, 64 bsl 20}} || Size rem (64 bsl 20) =:= 0]
    ++ [{"4 KiB at random", {random, 4096}},
        {["line of ", emmap_bench:bytes(Line)], line}, {"populate", populate},
        {"sync of a dirty map", sync}, {"close of a dirty map", close}].

through({_, idle}) -> [idle];
through(_) -> [file, emmap].

%%------------------------------------------------------------------------------------ conditions

%% As root there is somebody else to be; what could not be done is said.
-spec conditions() -> {[condition()], [string()], [{string(), iodata()}]}.
conditions() ->
    case {os:cmd("id -u"), os:find_executable("setpriv")} of
        {"0\n", Found} when is_list(Found) ->
            {[alone, writer, not_root], setpriv(), []};
        {"0\n", false} ->
            {[alone, writer], [], [{"skipped", "a user who is not root: no setpriv here"}]};
        _ ->
            {[alone, writer], [], [{"note", "all of it as a user who is not root, the files' owner"}]}
    end.

setpriv() ->
    ["setpriv", "--reuid=" ++ nobody("-u"), "--regid=" ++ nobody("-g"), "--clear-groups"].

nobody(Which) ->
    string:trim(os:cmd("id " ++ Which ++ " nobody")).

title(alone) -> "Alone";
title(writer) -> "Beside a writer of 16 x 4 KiB each millisecond";
title(not_root) -> "As nobody, to whom the files that are read do not belong".

word(alone) -> "alone";
word(writer) -> "writer";
word(not_root) -> "not root".

%%----------------------------------------------------------------------------------------- files

-spec stop(io:format(), [term()]) -> no_return().
stop(Format, Args) ->
    emmap_bench:progress(Format, Args),
    halt(1).

make(Name, Bytes, What) ->
    emmap_bench:progress("making a file of ~ts~n", [emmap_bench:bytes(Bytes)]),
    {ok, Fd} = file:open(Name, [raw, binary, write]),
    Piece = case What of
                random -> rand:bytes(1 bsl 20);
                line -> binary:copy(<<"x">>, 1 bsl 20)
            end,
    fill(Fd, Piece, Bytes),
    What =:= line andalso (ok = file:pwrite(Fd, Bytes - 1, <<"\n">>)),
    ok = file:close(Fd),
    ok = file:change_mode(Name, 8#644),
    {Name, Bytes}.

fill(_, _, 0) ->
    ok;
fill(Fd, Piece, Bytes) ->
    Now = min(Bytes, byte_size(Piece)),
    ok = file:write(Fd, binary:part(Piece, 0, Now)),
    fill(Fd, Piece, Bytes - Now).

own_folder(Name, NotRoot) ->
    ok = file:make_dir(Name),
    NotRoot =:= [] orelse (ok = file:change_owner(Name, list_to_integer(nobody("-u")))),
    filename:join(Name, "dirty").

%% Out of the page cache; what stays resident is remembered, to be told.
cold(Name) ->
    cold(Name, 5).

cold(Name, Tries) ->
    {ok, Fd} = file:open(Name, [raw, read, write]),
    ok = file:datasync(Fd),
    ok = file:advise(Fd, 0, 0, dont_need),
    ok = file:close(Fd),
    {Resident, Pages} = emmap_bench_nif:resident(list_to_binary(Name)),
    case Resident / Pages of
        Part when Part > 0.001, Tries > 1 ->
            timer:sleep(100),
            cold(Name, Tries - 1);
        Part ->
            put(warm, max(get(warm), Part))
    end.

%%------------------------------------------------------------------------------------- measuring

%% The order changes from round to round, so that neither always comes first.
round(Round, Rounds, Runs, Env) ->
    Ordered = case Round rem 2 of 1 -> Runs; 0 -> lists:reverse(Runs) end,
    [measure(io_lib:format("~b/~b", [Round, Rounds]), Run, Env) || Run <- Ordered].

measure(Round, {Condition, {Name, Work}, Through} = Run, Env) ->
    {File, Size} = file_of(Work, Env),
    lists:member(Work, [sync, close, idle]) orelse cold(File),
    {ok, Peer} = emmap_bench:start_peer(["+S", "1:1"],
                                        [{exec, case Condition of
                                                    not_root -> maps:get(not_root, Env);
                                                    _ -> []
                                                end}]),
    Result = peer:call(Peer, emmap_bench_work, run,
                       [#{work => Work, through => Through, file => File, size => Size,
                          writer => Condition =:= writer andalso Work =/= idle,
                          idle_ms => idle_ms(maps:get(size, Env))}], 600000),
    peer:stop(Peer),
    _ = file:delete(maps:get(own, Env)),
    emmap_bench:progress("~ts  ~-9ts ~-22ts ~-6ts ~7.1f ms~9.2f s~n",
                         [Round, word(Condition), Name, Through, pause(Result), took(Result)]),
    {Run, Result}.

file_of(line, #{line := Line}) -> Line;
file_of(Dirty, #{own := Own, size := Size}) when Dirty =:= sync; Dirty =:= close -> {Own, Size};
file_of(_, #{big := Big}) -> Big.

pause(#{pause_ns := Ns}) -> Ns / 1.0e6.

took(#{took_ns := Ns}) -> Ns / 1.0e9.

%%---------------------------------------------------------------------------------------- tables

pauses(Condition, Work, Through, Results) ->
    [pause(Result) || Result <- maps:get({Condition, Work, Through}, Results)].

median_pause(Condition, Work, Through, Results) ->
    emmap_bench:median(pauses(Condition, Work, Through, Results)).

table(Condition, Works, Results) ->
    emmap_bench:table([title(Condition), ": the longest pause in ms, median (least to most of the rounds)"],
                      ["", "idle", "raw file", "", "emmap", "", "emmap : file", "s, file", "s, emmap"],
                      [row(Condition, Work, Results) || Work <- Works]).

row(Condition, {Name, _} = Work, Results) ->
    Idle = pauses(Condition, idle(), idle, Results),
    [File, Emmap] = [pauses(Condition, Work, Through, Results) || Through <- [file, emmap]],
    Ratio = emmap_bench:median(Emmap) / emmap_bench:median(File),
    [Name, hd(shown(Idle)) | shown(File) ++ shown(Emmap)]
        ++ [io_lib:format("~.2f x", [Ratio])
            | [io_lib:format("~.2f", [median_took(Condition, Work, Through, Results)])
               || Through <- [file, emmap]]].

median_took(Condition, Work, Through, Results) ->
    emmap_bench:median([took(Result) || Result <- maps:get({Condition, Work, Through}, Results)]).

%% On which scheduler it was, if that is counted.
counted(All, Results) ->
    Rows = [[word(Condition), Name, lists:join(", ", [io_lib:format("~s ~b", [Key, N]) || {Key, N} <- Counted])]
            || {Condition, {Name, _} = Work} <- All,
               #{counted := [_ | _] = Counted} <- [hd(maps:get({Condition, Work, emmap}, Results))]],
    Rows =:= [] orelse emmap_bench:table("What emmap:stats/0 counted meanwhile, in the first round",
                                         ["", "", ""], Rows).

shown(Pauses) ->
    [io_lib:format("~.1f", [emmap_bench:median(Pauses)]),
     io_lib:format("(~.1f to ~.1f)", [lists:min(Pauses), lists:max(Pauses)])].

target(Condition, {Name, _} = Work, Results) ->
    Emmap = median_pause(Condition, Work, emmap, Results),
    File = median_pause(Condition, Work, file, Results),
    Idle = median_pause(Condition, idle(), idle, Results),
    {[word(Condition), ": ", Name], Emmap, at_most, File, ms,
     case Emmap =< Idle of
         true when Emmap > File -> ", no more than idle";
         _ -> ""
     end}.

picture(Conditions, Works, Results, #{out := Out}) ->
    Data = filename:join(Out, "scheduler.tsv"),
    Row = fun(Condition, {Name, _} = Work) ->
                  [word(Condition), lists:flatten(Name)
                   | [io_lib:format("~.3f", [Ms])
                      || Ms <- [median_pause(Condition, idle(), idle, Results)
                                | [median_pause(Condition, Work, Through, Results)
                                   || Through <- [file, emmap]]]]]
          end,
    emmap_bench:write_tsv(Data, ["condition", "work", "idle", "file", "emmap"],
                          [Row(Condition, Work) || Condition <- Conditions, Work <- Works]),
    emmap_bench:plot("scheduler.gp", Data, filename:join(Out, "scheduler.png")).
