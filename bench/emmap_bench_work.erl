%% What bench scheduler does in the VM that is measured, which has one scheduler: a ticker, perhaps
%% a writer, and the work.
-module(emmap_bench_work).

-export([run/1]).
-export_type([work/0, spec/0]).

-type work() :: idle | {sequence, pos_integer()} | {random, pos_integer()}
              | line | populate | sync | close.
-type spec() :: #{work := work(), through := emmap | file | idle, file := string(), size := pos_integer(),
                  writer := boolean(), idle_ms := pos_integer()}.

-define(PIECE, (1 bsl 20)).

%% The longest time between two ticks while the work goes on, and how long the work took.
-spec run(spec()) -> #{pause_ns := integer(), took_ns := integer(), ticks := integer(),
                      counted := [{atom(), integer()}]}.
run(#{work := Work} = Spec) ->
    Open = prepare(Work, Spec),
    Writer = start_writer(Spec),
    Ticker = start_ticker(),
    Before = counted(),
    Begin = erlang:monotonic_time(),
    After = work(Work, Open, Spec),
    End = erlang:monotonic_time(),
    wait_for(After),
    Counted = [{Key, N - maps:get(Key, Before)} || {Key, N} <- lists:sort(maps:to_list(counted()))],
    {Pause, Ticks} = stop(Ticker),
    stop(Writer),
    #{pause_ns => native_to_ns(Pause), took_ns => native_to_ns(End - Begin), ticks => Ticks,
      counted => [{Key, More} || {Key, More} <- Counted, More =/= 0]}.

%% What emmap:stats/0 adds up, as far as it does: not what it has at the moment.
counted() ->
    maps:filter(fun(_, N) -> is_integer(N) end,
                maps:without([handles, regions, holds, mapped_bytes], emmap:stats())).

native_to_ns(Time) -> erlang:convert_time_unit(Time, native, nanosecond).

%%---------------------------------------------------------------------------------------- ticker

%% Sleeps 1 ms, looks at the clock, sleeps 1 ms: in a VM with nothing to do 1 to 2 ms pass between
%% two looks. It has normal priority, as the work has, and looks once more when it is stopped.
start_ticker() ->
    Self = self(),
    Pid = spawn_link(fun() -> Self ! {ticks, self()}, tick(erlang:monotonic_time(), 0, 0) end),
    receive {ticks, Pid} -> Pid end,
    receive after 20 -> Pid end.

tick(Last, Longest, Ticks) ->
    receive
        {stop, From} ->
            From ! {stopped, self(), {max(Longest, erlang:monotonic_time() - Last), Ticks}}
    after 1 ->
        Now = erlang:monotonic_time(),
        tick(Now, max(Longest, Now - Last), Ticks + 1)
    end.

stop(none) ->
    none;
stop(Pid) ->
    Pid ! {stop, self()},
    receive {stopped, Pid, Result} -> Result end.

%%---------------------------------------------------------------------------------------- writer

%% 16 times 4 KiB at random places of the same file, each millisecond, through a handle of its own.
start_writer(#{writer := false}) ->
    none;
start_writer(#{through := Through, file := File, size := Size}) ->
    Self = self(),
    Pid = spawn_link(fun() ->
                             Write = writing(Through, File),
                             Self ! {writes, self()},
                             write_on(Write, binary:copy(<<"w">>, 4096), Size div 4096)
                     end),
    receive {writes, Pid} -> Pid end.

writing(emmap, File) ->
    {ok, Mem, _} = emmap:open(File, [read, write, shared]),
    fun(Off, Data) -> ok = emmap:pwrite(Mem, Off, Data) end;
writing(file, File) ->
    {ok, Fd} = file:open(File, [raw, binary, read, write]),
    fun(Off, Data) -> ok = file:pwrite(Fd, Off, Data) end.

write_on(Write, Data, Pages) ->
    [Write((rand:uniform(Pages) - 1) * 4096, Data) || _ <- lists:seq(1, 16)],
    receive
        {stop, From} -> From ! {stopped, self(), ok}
    after 1 ->
        write_on(Write, Data, Pages)
    end.

%%------------------------------------------------------------------------------------------ work

%% What goes before the ticks.
prepare(Work, #{through := Through, file := File, size := Size}) ->
    case Work of
        idle -> none;
        populate -> none;
        {random, Len} ->
            {opened(Through, File), places(Size, Len)};
        Dirty when Dirty =:= sync; Dirty =:= close ->
            dirtied(Through, File, Size);
        _ -> opened(Through, File)
    end.

opened(emmap, File) ->
    {ok, Mem, _} = emmap:open(File, [read, shared]),
    Mem;
opened(file, File) ->
    {ok, Fd} = file:open(File, [raw, binary, read]),
    Fd.

%% As many places as there are stretches of 64 KiB, the same ones in every run.
places(Size, Len) ->
    _ = rand:seed(exsss, {1, 2, 3}),
    [(rand:uniform(Size div Len) - 1) * Len || _ <- lists:seq(1, Size div 65536)].

dirtied(Through, File, Size) ->
    Data = binary:copy(<<"d">>, ?PIECE),
    Places = lists:seq(0, Size - 1, ?PIECE),
    case Through of
        emmap ->
            {ok, Mem, _} = emmap:open(File, 0, Size, [create, read, write, shared]),
            [ok = emmap:pwrite(Mem, Off, Data) || Off <- Places],
            Mem;
        file ->
            {ok, Fd} = file:open(File, [raw, binary, read, write]),
            [ok = file:pwrite(Fd, Off, Data) || Off <- Places],
            Fd
    end.

work(idle, _, #{idle_ms := Ms}) ->
    receive after Ms -> ok end;
work({sequence, Len}, Open, #{through := Through, size := Size}) ->
    read(Through, Open, lists:seq(0, Size - 1, Len), Len);
work({random, Len}, {Open, Places}, #{through := Through}) ->
    read(Through, Open, Places, Len);
work(line, Mem, #{through := emmap, size := Size}) ->
    {ok, Line} = emmap:read_line(Mem),
    Size = byte_size(Line),
    ok;
work(line, Fd, #{through := file, size := Size}) ->
    {ok, Line} = file:pread(Fd, 0, Size), % file:read_line would take hours
    Size = byte_size(Line),
    ok;
work(populate, _, #{through := emmap, file := File}) ->
    {ok, _, _} = emmap:open(File, [read, shared, populate]),
    ok;
work(populate, _, #{through := file, file := File, size := Size}) ->
    read(file, opened(file, File), lists:seq(0, Size - 1, ?PIECE), ?PIECE);
work(sync, Mem, #{through := emmap}) ->
    ok = emmap:sync(Mem);
work(sync, Fd, #{through := file}) ->
    ok = file:datasync(Fd);
work(close, Mem, #{through := emmap}) ->
    #{regions := Regions} = emmap:stats(),
    ok = emmap:close(Mem),
    {regions_below, Regions};
work(close, Fd, #{through := file}) ->
    ok = file:close(Fd).

read(_, _, [], _) ->
    ok;
read(emmap, Mem, [Off | Places], Len) ->
    {ok, _} = emmap:pread(Mem, Off, Len),
    read(emmap, Mem, Places, Len);
read(file, Fd, [Off | Places], Len) ->
    {ok, _} = file:pread(Fd, Off, Len),
    read(file, Fd, Places, Len).

%% The ticker goes on until what the work has left to the background is done.
wait_for({regions_below, Before}) ->
    case emmap:stats() of
        #{regions := Regions} when Regions < Before -> wait_for(ok);
        _ -> receive after 2 -> wait_for({regions_below, Before}) end
    end;
wait_for(ok) ->
    receive after 20 -> ok end.
