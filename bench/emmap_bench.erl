%% What the benchmarks share: options, facts of the machine, medians, tables, targets, pictures.
%% scripts/bench builds and starts it.
-module(emmap_bench).

-export([main/0, progress/2, median/1, bytes/1, ns/1, facts/2, load/0, enough_space/2, table/3,
         targets/2, write_tsv/3, plot/3, start_peer/2, lib_path/0]).
-export_type([options/0, target/0]).

-type options() :: #{quick := boolean(), work := string(), out := string(),
                     rounds => pos_integer(), size => pos_integer(), line => pos_integer(),
                     only => string()}.

-type target() :: {not_measurable, Text :: iodata(), Why :: iodata()}
                | {Text :: iodata(), Measured :: number(), at_most | at_least, Limit :: number(),
                   unit()}
                | {Text :: iodata(), Measured :: number(), at_most | at_least, Limit :: number(),
                   unit(), Note :: iodata()}.
-type unit() :: ns | ms | times | bytes.

-spec main() -> no_return().
main() ->
    io:setopts(standard_error, [{encoding, unicode}]),
    [Which | Args] = init:get_plain_arguments(),
    Options = options(Args, #{quick => false, work => os:getenv("BENCH_WORK"),
                              out => os:getenv("BENCH_OUT")}),
    case maps:keys(maps:without(known(Which), maps:with([size, line, only], Options))) of
        [] -> ok;
        [Option | _] -> refuse("~ts has no option --~ts.", [Which, Option])
    end,
    try
        case Which of
            "file" -> emmap_bench_file:run(Options);
            "scheduler" -> emmap_bench_scheduler:run(Options);
            "queue" -> emmap_bench_queue:run(Options);
            "counters" -> emmap_bench_counters:run(Options)
        end,
        halt(0)
    catch
        Class:Reason:Stack ->
            io:format(standard_error, "bench ~ts: ~p ~p~n~p~n", [Which, Class, Reason, Stack]),
            halt(1)
    end.

known("scheduler") -> [size, line, only];
known("queue") -> [size, only];
known(_) -> [].

options([], Options) -> Options;
options(["--quick" | Args], Options) -> options(Args, Options#{quick := true});
options(["--rounds", N | Args], Options) -> options(Args, Options#{rounds => positive(N)});
options(["--size", N | Args], Options) -> options(Args, Options#{size => positive(N)});
options(["--line", N | Args], Options) -> options(Args, Options#{line => positive(N)});
options(["--only", Word | Args], Options) -> options(Args, Options#{only => Word});
options(["--out", Dir | Args], Options) -> options(Args, Options#{out := Dir});
options([Arg | _], _) -> usage(Arg).

positive(Text) ->
    case string:to_integer(Text) of
        {N, Unit} when is_integer(N), N > 0 -> N * unit(string:uppercase(Unit), Text);
        _ -> usage(Text)
    end.

unit("", _) -> 1;
unit("K", _) -> 1 bsl 10;
unit("M", _) -> 1 bsl 20;
unit("G", _) -> 1 bsl 30;
unit(_, Text) -> usage(Text).

usage(Arg) -> refuse("what is '~ts'?", [Arg]).

refuse(Format, Args) ->
    io:format(standard_error, "bench: " ++ Format ++ " See bench --help~n", Args),
    halt(2).

-spec progress(io:format(), [term()]) -> ok.
progress(Format, Args) ->
    io:format(standard_error, Format, Args).

%%--------------------------------------------------------------------------------------- figures

-spec median([number(), ...]) -> float().
median(Figures) ->
    Sorted = lists:sort(Figures),
    N = length(Sorted),
    (lists:nth((N + 1) div 2, Sorted) + lists:nth(N div 2 + 1, Sorted)) / 2.

-spec bytes(non_neg_integer()) -> string().
bytes(N) when N >= 1 bsl 30, N rem (1 bsl 30) =:= 0 -> text("~b GiB", [N bsr 30]);
bytes(N) when N >= 1 bsl 20 -> text("~b MiB", [N bsr 20]);
bytes(N) when N >= 1 bsl 10 -> text("~b KiB", [N bsr 10]);
bytes(N) -> text("~b B", [N]).

-spec ns(number()) -> string().
ns(Ns) when Ns < 100 -> text("~.1f", [float(Ns)]);
ns(Ns) -> integer_to_list(round(Ns)).

figure(N, ns) -> [ns(N), " ns"];
figure(N, ms) -> text("~.1f ms", [float(N)]);
figure(N, times) -> text("~.2f x", [float(N)]);
figure(N, bytes) -> text("~b B", [round(N)]).

text(Format, Args) ->
    lists:flatten(io_lib:format(Format, Args)).

%%--------------------------------------------------------------------------------------- machine

%% What the figures were taken on. Absolute ones mean little on another machine, or another day.
-spec facts(string(), [{string(), iodata()}]) -> ok.
facts(Folder, More) ->
    Facts = [{"machine", [processor(), ", ", integer_to_list(cores()), " cores, load ", load()]},
             {"system", [command("uname -s -r -m"), ", files on ", file_system(Folder)]},
             {"Erlang", ["OTP ", erlang:system_info(otp_release), ", erts ",
                         erlang:system_info(version), ", ",
                         atom_to_list(erlang:system_info(emu_flavor)), ", ",
                         text("~b schedulers, ~b dirty CPU, ~b dirty I/O",
                              [erlang:system_info(schedulers_online),
                               erlang:system_info(dirty_cpu_schedulers_online),
                               erlang:system_info(dirty_io_schedulers)])]},
             {"as", command("id -un")} | More],
    [io:format("  ~-8ts ~ts~n", [Name, Fact]) || {Name, Fact} <- Facts],
    io:nl().

processor() ->
    case command("sed -n 's/^model name.*: //p' /proc/cpuinfo 2>/dev/null | head -1") of
        "" -> command("sysctl -n machdep.cpu.brand_string 2>/dev/null || uname -m");
        Name -> Name
    end.

%% Of how many the kernel lets us use.
cores() ->
    case erlang:system_info(logical_processors_available) of
        N when is_integer(N) -> N;
        unknown -> erlang:system_info(schedulers)
    end.

%% Of the last minute: what else ran shows in the figures.
-spec load() -> string().
load() ->
    case command("cut -d' ' -f1 /proc/loadavg 2>/dev/null") of
        "" -> "unknown";
        Load -> Load
    end.

file_system(Folder) ->
    case command(["df -PT '", Folder, "' 2>/dev/null | awk 'NR == 2 { print $2 }'"]) of
        "" -> "an unknown file system";
        Name -> Name
    end.

%% Stops the run where there is less, and a tenth.
-spec enough_space(string(), pos_integer()) -> true.
enough_space(Folder, Needed) ->
    [_, Line | _] = string:lexemes(os:cmd("df -Pk '" ++ Folder ++ "'"), "\n"),
    Free = 1024 * list_to_integer(lists:nth(4, string:lexemes(Line, " "))),
    Free > Needed + Needed div 10 orelse
        begin
            progress("bench: ~ts has ~ts free, ~ts are needed (TMPDIR, --size)~n",
                     [Folder, bytes(Free), bytes(Needed)]),
            halt(1)
        end.

command(Command) ->
    string:trim(os:cmd(lists:flatten(Command))).

%%---------------------------------------------------------------------------------------- tables

%% Columns with a name are figures, to the right; those without one to the left.
-spec table(iodata(), [iodata()], [[iodata()]]) -> ok.
table(Title, Head, Rows) ->
    Lines = [[unicode:characters_to_list(Cell) || Cell <- Row] || Row <- [Head | Rows]],
    Widths = [lists:max([length(Cell) || Cell <- Column]) || Column <- columns(Lines)],
    io:format("~ts~n~n", [Title]),
    Sides = [case Name of "" -> trailing; _ -> leading end || Name <- hd(Lines)],
    [HeadLine | RowLines] = [line(Line, Widths, Sides) || Line <- Lines],
    io:format("  ~ts~n  ~ts~n", [string:trim(HeadLine, trailing), lists:duplicate(length(HeadLine), $-)]),
    [io:format("  ~ts~n", [string:trim(Line, trailing)]) || Line <- RowLines],
    io:nl().

line(Line, Widths, Sides) ->
    Cells = [string:pad(Cell, Width, Side) || {Cell, Width, Side} <- lists:zip3(Line, Widths, Sides)],
    lists:flatten(lists:join("  ", Cells)).

columns([[] | _]) -> [];
columns(Lines) -> [[hd(Line) || Line <- Lines] | columns([tl(Line) || Line <- Lines])].

%% One line for each: met, or by how much not; or why this run cannot tell.
-spec targets(iodata(), [target()]) -> ok.
targets(Title, Targets) ->
    Rows = [target(Target) || Target <- Targets],
    table(Title, ["", "measured", "target", "ratio", ""], [Row || {_, Row} <- Rows]),
    [Met, Missed, Unknown] = [length([Row || {Verdict, Row} <- Rows, Verdict =:= Is])
                              || Is <- [true, false, unknown]],
    io:format("~b of ~b targets met~ts~n",
              [Met, Met + Missed, case Unknown of
                                      0 -> "";
                                      _ -> text("; ~b not measurable in this run", [Unknown])
                                  end]).

target({not_measurable, Text, Why}) ->
    {unknown, [Text, "", "", "", ["not measurable: ", Why]]};
target({Text, Measured, How, Limit, Unit}) ->
    target({Text, Measured, How, Limit, Unit, ""});
target({Text, Measured, How, Limit, Unit, Note}) ->
    Ratio = Measured / max(Limit, 1.0e-9),
    Met = case How of
              at_most -> Measured =< Limit;
              at_least -> Measured >= Limit
          end,
    Verdict = case Met of
                  true -> "met";
                  false -> text("~.2f x the target", [Ratio])
              end,
    {Met, [Text, figure(Measured, Unit), [sign(How), " ", figure(Limit, Unit)],
           text("~.2f", [Ratio]), [Verdict, Note]]}.

sign(at_most) -> "=<";
sign(at_least) -> ">=".

%%-------------------------------------------------------------------------------------- pictures

-spec write_tsv(string(), [iodata()], [[iodata()]]) -> ok.
write_tsv(Name, Head, Rows) ->
    ok = filelib:ensure_dir(Name),
    ok = file:write_file(Name, [[lists:join($\t, Row), $\n] || Row <- [Head | Rows]]).

%% Runs a gnuplot script from this folder; the script finds the table and the picture's name in
%% `data' and `png'.
-spec plot(string(), string(), string()) -> ok.
plot(Script, Data, Png) ->
    Place = filename:join(filename:dirname(code:which(?MODULE)), Script),
    Run = text("gnuplot -e \"data='~ts'; png='~ts'\" '~ts' 2>&1 && echo drawn", [Data, Png, Place]),
    Said = os:cmd(Run), % it warns of a column without figures, and draws the others
    case string:find(Said, "drawn\n", trailing) of
        "drawn\n" -> io:format("picture: ~ts~n", [Png]);
        _ -> io:format("no picture ~ts: ~ts~n", [Png, Said])
    end.

%%----------------------------------------------------------------------------------------- peers

%% Another VM that has emmap and these modules, with the arguments given: {exec, Command} runs it
%% through a command of the system.
-spec start_peer([string()], [{exec, [string()]}]) -> {ok, pid()}.
start_peer(VmArgs, How) ->
    Erl = filename:join([code:root_dir(), "bin", "erl"]),
    Exec = case proplists:get_value(exec, How, []) of
               [] -> Erl;
               [Command | Args] -> {os:find_executable(Command), Args ++ [Erl]}
           end,
    {ok, Peer, _} = peer:start_link(#{connection => standard_io, exec => Exec,
                                      wait_boot => 60000,
                                      env => [{"HOME", os:getenv("BENCH_WORK")}],
                                      args => VmArgs ++ ["-pa" | lib_path()]}),
    {ok, Peer}.

-spec lib_path() -> [string()].
lib_path() ->
    [filename:dirname(code:which(Module)) || Module <- [emmap, ?MODULE]].
