%% bench queue, space: the file's size and its blocks on the disk while millions of messages go
%% through the queue.
-module(emmap_bench_space).

-export([run/2]).

-define(MESSAGE, (binary:copy(<<"s">>, 100))).
-define(MOST, 100000).
%% What the format page says that a queue keeps: its tables, a segment that messages end in, another
%% that they begin in, two warm ones.
-define(TABLES, 131072).
-define(SEGMENTS, 4).

%% Blocks are given back in the background: `rest', it had the time.
-record(point, {n, ms, rest = false, length, bytes, file, disk}).
-define(RESTS, 10).
-define(REST_MS, 300).

-spec run(emmap_bench:options(), string()) -> [emmap_bench:target()].
run(#{quick := Quick, out := Out}, Folder) ->
    {N, Looks} = case Quick of true -> {1000000, 100}; false -> {10000000, 250} end,
    _ = rand:seed(exsss, {1, 2, 3}),
    {One, Segment, _} = through("backlog of one", N, Looks, fun one/4, Folder),
    {Random, Segment, Most} = through("random backlog", N, Looks, fun random/4, Folder),
    told(io_lib:format("~b pushed and taken, 100 B each, with a backlog of one", [N]), One),
    told(io_lib:format("~b pushed and taken, 100 B each, with a backlog that goes from one random length to the\n"
                       "next, 0 to ~b, then drained and left alone", [N, ?MOST]), Random),
    Data = filename:join(Out, "queue_space.tsv"),
    emmap_bench:write_tsv(Data, ["backlog", "million", "bytes", "file", "disk"],
                          [[Name, io_lib:format("~.4f", [Point#point.n / 1.0e6])
                            | [integer_to_list(Figure) || Figure <- [Point#point.bytes, Point#point.file,
                                                                     Point#point.disk]]]
                           || {Name, Points} <- [{"one", One}, {"random", Random}], Point <- Points]),
    emmap_bench:plot("queue_space.gp", Data, filename:join(Out, "queue_space.png")),
    Beyond = fun(Points) -> lists:max([Point#point.disk - Point#point.bytes || Point <- Points]) end,
    io:format("With the random backlog at most ~ts more than its messages were on the disk while it was at work.~n",
              [emmap_bench:bytes(Beyond(Random))]),
    Least = ?TABLES + ?SEGMENTS * Segment,
    Peak = Most * lists:max([Bytes div Length || #point{length = Length, bytes = Bytes} <- Random,
                                                 Length > 0]),
    [{"backlog of one: the file, tables and 4 segments", most(#point.file, One), at_most, Least, bytes},
     {"backlog of one: du, that", most(#point.disk, One), at_most, Least, bytes},
     {"random backlog: the file, that and the most it held", most(#point.file, Random), at_most,
      Least + Peak, bytes},
     {"random backlog: du beyond its messages, at rest, that",
      Beyond([Point || #point{rest = true} = Point <- Random]), at_most, Least, bytes},
     {"drained: du, that", (lists:last(Random))#point.disk, at_most, Least, bytes}].

most(Field, Points) ->
    lists:max([element(Field, Point) || Point <- Points]).

%% Those at rest.
told(Title, Points) ->
    emmap_bench:table(Title, ["pushed", "s", "length", "KiB of messages", "file, KiB", "du, KiB"],
                      [[integer_to_list(N), io_lib:format("~.2f", [Ms / 1000]), integer_to_list(Length)
                        | [integer_to_list(Bytes div 1024) || Bytes <- [Alive, File, Disk]]]
                       || #point{n = N, ms = Ms, rest = true, length = Length, bytes = Alive, file = File,
                                 disk = Disk} <- Points]).

%%----------------------------------------------------------------------------------- what goes through

through(What, N, Looks, Step, Folder) ->
    Name = filename:join(Folder, "space"),
    {ok, Q} = emmap_queue:open(Name),
    About = {What, Name, erlang:monotonic_time(millisecond)},
    Each = N div Looks,
    Message = ?MESSAGE,
    {Points, {_, _, Most}} = lists:mapfoldl(
                               fun(I, State) ->
                                       Next = Step(Each, Q, Message, State),
                                       {look(I, I * Each, Looks, Q, About), Next}
                               end, {0, 0, 0}, lists:seq(1, Looks)),
    Left = emmap_queue:length(Q),
    Left = length(emmap_queue:take_many(Q, Left)),
    Drained = look(Looks, N, Looks, Q, About),
    #{segment_size := Segment} = emmap_queue:info(Q),
    ok = emmap_queue:close(Q),
    ok = file:delete(Name),
    {lists:append(Points) ++ Drained, Segment, Most}.

%% Some of the looks are two: at work, and after a rest.
look(I, N, Looks, Q, {What, _, Begin} = About) ->
    Point = point(N, Q, About),
    case I rem (Looks div ?RESTS) of
        0 ->
            emmap_bench:progress("space: ~ts, ~b pushed, ~b s~n",
                                 [What, N, (erlang:monotonic_time(millisecond) - Begin) div 1000]),
            receive after ?REST_MS -> ok end,
            [Point, (point(N, Q, About))#point{rest = true}];
        _ ->
            [Point]
    end.

point(N, Q, {_, Name, Begin}) ->
    #{length := Length, bytes := Bytes, file_size := File} = emmap_queue:info(Q),
    {KiB, _} = string:to_integer(os:cmd("du -k '" ++ Name ++ "'")),
    #point{n = N, ms = erlang:monotonic_time(millisecond) - Begin, length = Length, bytes = Bytes,
           file = File, disk = 1024 * KiB}.

one(0, _, _, State) ->
    State;
one(N, Q, Message, State) ->
    ok = emmap_queue:push(Q, Message),
    {ok, _} = emmap_queue:take(Q),
    one(N - 1, Q, Message, State).

%% Towards the wanted length, until N more are pushed; the most it ever was is remembered.
random(0, _, _, State) ->
    State;
random(N, Q, Message, {Length, Length, Most}) ->
    random(N, Q, Message, {Length, rand:uniform(?MOST + 1) - 1, Most});
random(N, Q, Message, {Length, Wanted, Most}) when Length < Wanted ->
    ok = emmap_queue:push(Q, Message),
    random(N - 1, Q, Message, {Length + 1, Wanted, max(Most, Length + 1)});
random(N, Q, Message, {Length, Wanted, Most}) ->
    {ok, _} = emmap_queue:take(Q),
    random(N, Q, Message, {Length - 1, Wanted, Most}).
