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

-record(point, {n, ms, length, bytes, file, disk}).

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
    Least = ?TABLES + ?SEGMENTS * Segment,
    Peak = Most * lists:max([Bytes div Length || #point{length = Length, bytes = Bytes} <- Random,
                                                 Length > 0]),
    [{"backlog of one: the file, tables and 4 segments", most(#point.file, One), at_most, Least, bytes},
     {"backlog of one: du, the same", most(#point.disk, One), at_most, Least, bytes},
     {"random backlog: the file, that beyond the most it held", most(#point.file, Random), at_most,
      Least + Peak, bytes},
     {"random backlog: du beyond its messages, at any time, that",
      lists:max([Point#point.disk - Point#point.bytes || Point <- Random]), at_most, Least, bytes},
     {"drained: du, that", (lists:last(Random))#point.disk, at_most, Least, bytes}].

most(Field, Points) ->
    lists:max([element(Field, Point) || Point <- Points]).

told(Title, Points) ->
    Every = max(1, length(Points) div 10),
    Some = [Point || {I, Point} <- lists:zip(lists:seq(1, length(Points)), Points),
                     I =:= 1 orelse I rem Every =:= 0 orelse I >= length(Points) - 1],
    emmap_bench:table(Title, ["pushed", "s", "length", "KiB of messages", "file, KiB", "du, KiB"],
                      [[integer_to_list(N), io_lib:format("~.2f", [Ms / 1000]), integer_to_list(Length)
                        | [integer_to_list(Bytes div 1024) || Bytes <- [Alive, File, Disk]]]
                       || #point{n = N, ms = Ms, length = Length, bytes = Alive, file = File,
                                 disk = Disk} <- Some]).

%%----------------------------------------------------------------------------------- what goes through

through(What, N, Looks, Step, Folder) ->
    Name = filename:join(Folder, "space"),
    {ok, Q} = emmap_queue:open(Name),
    Begin = erlang:monotonic_time(millisecond),
    Each = N div Looks,
    Message = ?MESSAGE,
    {Points, {_, _, Most}} = lists:mapfoldl(
                    fun(I, State) ->
                            Next = Step(Each, Q, Message, State),
                            I rem (Looks div 5) =:= 0 andalso
                                emmap_bench:progress("space: ~ts, ~b pushed~n", [What, I * Each]),
                            {point(I * Each, Q, Name, Begin), Next}
                    end, {0, 0, 0}, lists:seq(1, Looks)),
    Left = emmap_queue:length(Q),
    Left = length(emmap_queue:take_many(Q, Left)),
    Drained = point(N, Q, Name, Begin),
    receive after 1500 -> ok end, % blocks are given back in the background
    Rest = point(N, Q, Name, Begin),
    #{segment_size := Segment} = emmap_queue:info(Q),
    ok = emmap_queue:close(Q),
    ok = file:delete(Name),
    {Points ++ [Drained, Rest], Segment, Most}.

point(N, Q, Name, Begin) ->
    #{length := Length, bytes := Bytes, file_size := File} = emmap_queue:info(Q),
    Disk = case string:to_integer(os:cmd("du -k '" ++ Name ++ "'")) of
               {KiB, _} when is_integer(KiB) -> KiB * 1024
           end,
    #point{n = N, ms = erlang:monotonic_time(millisecond) - Begin, length = Length, bytes = Bytes,
           file = File, disk = Disk}.

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
