%% A mapped file in the hands of `file:': sent to sockets, copied, read in lines and by pointers.
-module(emmap_file_tests).

-include_lib("eunit/include/eunit.hrl").
-include_lib("kernel/include/file.hrl").

-import(emmap_test_lib, [with_dir/1, with_file/2, new_file/3, pattern/1, together/1]).

-export([sendfile_sends_over_every_kind_of_socket/0, lines_of_any_length/0,
         processes_that_read_get_bytes_of_their_own/0, a_dets_table_is_read_as_from_a_raw_file/0]).

-define(SHARED, [write, shared]).

%%-------------------------------------------------------------------------------------- sendfile

sendfile_sends_over_every_kind_of_socket_test_() ->
    {timeout, 120, fun ?MODULE:sendfile_sends_over_every_kind_of_socket/0}.

sendfile_sends_over_every_kind_of_socket() ->
    Size = (1 bsl 20) + 200000, % more than a chunk
    with_file(pattern(Size), fun(File, Bytes) ->
        [begin
             {ok, Mem, _} = emmap:open(File, Options),
             [?assertEqual({Kind, {ok, Len}, true}, sent(Kind, Mem, Bytes, Off, Count, Len, Opts))
              || Kind <- [port, inet_backend, socket, function],
                 {Off, Count, Len} <- [{0, 0, Size}, {0, Size, Size}, {1000, 0, Size - 1000},
                                       {4095, 70001, 70001}, {Size - 10, 100, 10}, {Size, 0, 0}],
                 Opts <- [[], [{chunk_size, 70000}]]],
             ok = emmap:close(Mem)
         end || Options <- [[], [direct | ?SHARED]]]
    end).

%% The call's answer, and whether the other end got these bytes of the file.
sent(Kind, Mem, Bytes, Off, Count, Len, Opts) ->
    Expected = erlang:md5(binary:part(Bytes, min(Off, byte_size(Bytes)), Len)),
    {ok, Position} = emmap:position(Mem, cur),
    {Answer, Got} = through(Kind, fun(Sock) -> file:sendfile(Mem, Sock, Off, Count, Opts) end),
    ?assertEqual({ok, Position}, emmap:position(Mem, cur)),
    {Kind, Answer, erlang:md5(Got) =:= Expected}.

through(function, Send) ->
    Self = self(),
    Ref = make_ref(),
    Answer = Send(fun(Data) -> Self ! {Ref, Data}, ok end),
    {Answer, iolist_to_binary(received(Ref))};
through(Kind, Send) ->
    {ok, Listener} = gen_tcp:listen(0, [binary, {active, false}, {ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Listener),
    Self = self(),
    Receiver = spawn_link(fun() ->
        {ok, Sock} = gen_tcp:accept(Listener),
        Self ! {self(), drain(Sock, [])}
    end),
    {Sock, Close} = connect(Kind, Port),
    Answer = Send(Sock),
    ok = Close(Sock),
    Got = receive {Receiver, All} -> All end,
    ok = gen_tcp:close(Listener),
    {Answer, Got}.

connect(port, Port) ->
    {ok, Sock} = gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {active, false}]),
    true = is_port(Sock),
    {Sock, fun gen_tcp:close/1};
connect(inet_backend, Port) ->
    {ok, Sock} = gen_tcp:connect({127, 0, 0, 1}, Port,
                                 [{inet_backend, socket}, binary, {active, false}]),
    {'$inet', _, _} = Sock,
    {Sock, fun gen_tcp:close/1};
connect(socket, Port) ->
    {ok, Sock} = socket:open(inet, stream, tcp),
    ok = socket:connect(Sock, #{family => inet, addr => {127, 0, 0, 1}, port => Port}),
    {Sock, fun socket:close/1}.

drain(Sock, Got) ->
    case gen_tcp:recv(Sock, 0) of
        {ok, Data} -> drain(Sock, [Got, Data]);
        {error, closed} -> iolist_to_binary(Got)
    end.

received(Ref) ->
    receive
        {Ref, Data} -> [Data | received(Ref)]
    after 0 ->
        []
    end.

sendfile_of_a_closed_handle_is_closed_test() ->
    with_file(pattern(100), fun(File, _) ->
        {ok, Mem, _} = emmap:open(File, []),
        ok = emmap:close(Mem),
        Answer = fun(Sock) ->
            try
                file:sendfile(Mem, Sock, 0, 0, [])
            catch
                error:{emmap, closed} -> {error, closed}
            end
        end,
        [?assertEqual({{error, closed}, <<>>}, through(Kind, Answer))
         || Kind <- [port, inet_backend, socket]]
    end).

%%------------------------------------------------------------------------------------------ copy

copies_between_mapped_and_raw_files_are_whole_test() ->
    with_dir(fun(Dir) ->
        Bytes = pattern(300001),
        Source = new_file(Dir, "source", Bytes),
        [begin
             To = new_file(Dir, "to", <<>>),
             From = open(FromKind, Source),
             Into = open(IntoKind, To),
             ?assertEqual({ok, min(Length, 300001)}, file:copy(From, Into, Length)),
             [ok = file:close(Handle) || Handle <- [From, Into]],
             ?assert({ok, binary:part(Bytes, 0, min(Length, 300001))} =:= file:read_file(To))
         end || {FromKind, IntoKind} <- [{emmap, raw}, {raw, emmap}, {emmap, emmap}],
                Length <- [infinity, 300001, 65536, 65537, 1, 0, 1 bsl 40]]
    end).

copies_to_and_from_names_are_whole_test() ->
    with_dir(fun(Dir) ->
        Bytes = pattern(100000),
        [Source, To] = [new_file(Dir, Name, Data) || {Name, Data} <- [{"a", Bytes}, {"b", <<>>}]],
        From = open(emmap, Source),
        ?assertEqual({ok, 100000}, file:copy(From, To)),
        ?assert({ok, Bytes} =:= file:read_file(To)),
        Into = open(emmap, new_file(Dir, "c", <<>>)),
        ?assertEqual({ok, 100000}, file:copy(To, Into)),
        ?assert({ok, Bytes} =:= emmap:pread(Into, 0, 200000)),
        [ok = file:close(Handle) || Handle <- [From, Into]]
    end).

open(raw, File) ->
    {ok, Fd} = file:open(File, [raw, binary, read, write]),
    Fd;
open(emmap, File) ->
    {ok, Mem, _} = emmap:open(File, [extend | ?SHARED]),
    Mem.

%%----------------------------------------------------------------------------------------- lines

lines_of_any_length_test_() ->
    {timeout, 120, fun ?MODULE:lines_of_any_length/0}.

%% Round the sizes at which a line moves to a dirty scheduler, and its pieces meet.
lines_of_any_length() ->
    Lengths = [0, 1, 2, 65534, 65535, 65536, 65537, 131071, 131072, 131073, 1 bsl 20,
               (1 bsl 20) + 1, 3 bsl 20],
    [lines_are_read(Lengths, Newline, Last, Options)
     || Newline <- [<<"\n">>, <<"\r\n">>], Last <- [<<>>, <<"no newline">>, <<"\r">>],
        Options <- [[], [direct | ?SHARED], [nolock, write]]].

lines_are_read(Lengths, Newline, Last, Options) ->
    Lines = [binary:copy(<<"x">>, Length) || Length <- Lengths],
    with_file([[[Line, Newline] || Line <- Lines], Last], fun(File, _) ->
        {ok, Mem, _} = emmap:open(File, Options),
        [?assert({ok, <<Line/binary, "\n">>} =:= file:read_line(Mem)) || Line <- Lines],
        Last =/= <<>> andalso ?assertEqual({ok, Last}, file:read_line(Mem)),
        ?assertEqual([eof, eof], [file:read_line(Mem), file:read_line(Mem)]),
        {ok, At} = file:position(Mem, cur),
        ?assertEqual(filelib:file_size(File), At),
        ok = file:close(Mem)
    end).

a_carriage_return_alone_is_no_end_of_line_test() ->
    with_file(<<"a\rb\r\r\nc\n\r\n\n\r">>, fun(File, _) ->
        {ok, Mem, _} = emmap:open(File, []),
        ?assertEqual([{ok, <<"a\rb\r\n">>}, {ok, <<"c\n">>}, {ok, <<"\n">>}, {ok, <<"\n">>},
                      {ok, <<"\r">>}, eof],
                     [file:read_line(Mem) || _ <- lists:seq(1, 6)]),
        ok = file:close(Mem)
    end).

%% Whoever writes over the newline all the time does not keep the reader: each answer is the line of
%% some moment, and none takes long.
lines_are_read_beside_one_who_writes_over_them_test() ->
    Line = binary:copy(<<"x">>, 50000),
    with_file([Line, $\n, Line, $\n], fun(File, _) ->
        {ok, Mem, _} = emmap:open(File, ?SHARED),
        Writer = spawn_link(fun() -> write_over(Mem, byte_size(Line), [<<"x">>, <<"\n">>]) end),
        [begin
             {ok, 0} = file:position(Mem, 0),
             {ok, Got} = file:read_line(Mem),
             ?assert(lists:member(Got, [<<Line/binary, "\n">>, <<Line/binary, "x">>,
                                        <<Line/binary, "x", Line/binary, "\n">>]))
         end || _ <- lists:seq(1, 500)],
        unlink(Writer),
        exit(Writer, kill),
        ok = file:close(Mem)
    end).

write_over(Mem, Off, [Byte | Bytes]) ->
    ok = emmap:pwrite(Mem, Off, Byte),
    write_over(Mem, Off, Bytes ++ [Byte]).

%%--------------------------------------------------------------------------- several readers

processes_that_read_get_bytes_of_their_own_test_() ->
    {timeout, 120, fun ?MODULE:processes_that_read_get_bytes_of_their_own/0}.

%% Every word of the file is its own place, so that each piece says where it is from.
processes_that_read_get_bytes_of_their_own() ->
    Bytes = << <<N:32>> || N <- lists:seq(0, (1 bsl 20) - 1) >>,
    with_file(Bytes, fun(File, _) ->
        [begin
             {ok, Mem, _} = emmap:open(File, Options),
             Here = counters:new(1, []),
             Pieces = together([fun() -> wait_for(8, Here), read_on(Mem, Sizes) end
                                || _ <- lists:seq(1, 8)]),
             ?assert(Bytes =:= iolist_to_binary(lists:sort(lists:append(Pieces)))),
             ok = emmap:close(Mem)
         end || Options <- [[], [direct], [nolock | ?SHARED]],
                Sizes <- [[40, 400, 4000], [66000, 70000, 100000], [40, 4000, 70000]],
                _ <- lists:seq(1, 4)]
    end).

%% On normal schedulers, and on dirty ones when more is asked for.
read_on(Mem, Sizes) ->
    case file:read(Mem, lists:nth(rand:uniform(length(Sizes)), Sizes)) of
        {ok, Piece} -> [binary:copy(Piece) | read_on(Mem, Sizes)];
        eof -> []
    end.

%% All begin at once.
wait_for(Others, Here) ->
    ok = counters:add(Here, 1, 1),
    emmap_test_lib:wait_until(fun() -> counters:get(Here, 1) >= Others end).

processes_that_write_at_the_position_lose_nothing_test() ->
    with_file(<<>>, fun(File, _) ->
        {ok, Mem, _} = emmap:open(File, [extend | ?SHARED]),
        Write = fun(Id) -> ok = file:write(Mem, binary:copy(<<Id:32>>, 16)) end,
        _ = together([fun() -> [Write(Id) || _ <- lists:seq(1, 300)] end
                      || Id <- lists:seq(1, 8)]),
        {ok, Bytes} = file:read_file(File),
        Records = [Record || <<Record:64/binary>> <= Bytes],
        ?assertEqual([binary:copy(<<Id:32>>, 16) || Id <- lists:seq(1, 8), _ <- lists:seq(1, 300)],
                     lists:sort(Records)),
        ok = emmap:close(Mem)
    end).

%%----------------------------------------------------------------------------------------- ipread

%% A size and a place, as dets has them: chains of them through a file.
pointers_are_followed_test() ->
    Data = pattern(1000),
    Bytes = <<0:32, 40:32, 100:32, 40:32, 2000:32, 1000:32, 10:32, 9999:32, 1000000:32, 0:32,
              (binary:part(Data, 0, 960))/binary>>,
    with_file(Bytes, fun(File, _) ->
        {ok, Mem, _} = emmap:open(File, []),
        Read = fun(At, Most) -> file:ipread_s32bu_p32bu(Mem, At, Most) end,
        ?assertEqual({ok, {0, 40, eof}}, Read(0, infinity)),
        ?assertEqual({ok, {100, 40, binary:part(Bytes, 40, 100)}}, Read(8, 100)),
        ?assertEqual(eof, Read(8, 99)),
        ?assertEqual({ok, {2000, 1000, eof}}, Read(16, infinity)),
        ?assertEqual({ok, {10, 9999, eof}}, Read(24, infinity)),
        ?assertEqual({ok, {1000000, 0, Bytes}}, Read(32, infinity)),
        ?assertEqual([eof, eof], [Read(byte_size(Bytes) - 7, infinity), Read(1 bsl 40, infinity)]),
        ok = emmap:close(Mem)
    end).

a_dets_table_is_read_as_from_a_raw_file_test_() ->
    {timeout, 120, fun ?MODULE:a_dets_table_is_read_as_from_a_raw_file/0}.

%% Every 8 bytes of a real table, taken for a pointer, pointer or not.
a_dets_table_is_read_as_from_a_raw_file() ->
    with_dir(fun(Dir) ->
        File = filename:join(Dir, "table"),
        {ok, Table} = dets:open_file(make_ref(), [{file, File}]),
        ok = dets:insert(Table, [{N, pattern(N)} || N <- lists:seq(1, 300)]),
        ok = dets:close(Table),
        {ok, Raw} = file:open(File, [raw, binary, read]),
        {ok, Mem, #{size := Size}} = emmap:open(File, []),
        Found = [begin
                     Answer = file:ipread_s32bu_p32bu(Raw, At, Most),
                     ?assertEqual({At, Answer}, {At, file:ipread_s32bu_p32bu(Mem, At, Most)}),
                     Answer
                 end || At <- lists:seq(0, Size, 4), Most <- [70000, 500]],
        ?assert(length([x || {ok, {_, _, Data}} <- Found, is_binary(Data)]) > 100),
        [ok = file:close(Handle) || Handle <- [Raw, Mem]]
    end).

%%----------------------------------------------------------------------------------- handle info

the_handles_file_info_is_that_of_the_file_test() ->
    with_file(pattern(5000), fun(File, _) ->
        {ok, Mem, _} = emmap:open(File, []),
        [?assertEqual(file:read_file_info(File, Options), file:read_file_info(Mem, Options))
         || Options <- [[], [raw], [{time, local}], [{time, universal}], [{time, posix}]]],
        ok = file:delete(File),
        ?assertMatch({ok, #file_info{links = 0, size = 5000, type = regular}},
                     emmap:read_handle_info(Mem)),
        ok = emmap:close(Mem),
        ?assertEqual({error, closed}, file:read_file_info(Mem))
    end).

the_size_of_a_handle_with_an_offset_is_its_own_test() ->
    with_file(pattern(5000), fun(File, _) ->
        [begin
             {ok, Mem, _} = emmap:open(File, 100, 0, Options),
             {ok, 9000} = emmap:resize(Mem, 9000),
             ?assertMatch({ok, #file_info{size = 9000}}, file:read_file_info(Mem)),
             {ok, 4900} = emmap:resize(Mem, 4900),
             ok = emmap:close(Mem)
         end || Options <- [?SHARED, [write]]]
    end).

memory_without_a_file_has_a_file_info_test() ->
    {ok, Mem, _} = emmap:open("", 0, 5000, [anon, write]),
    ?assertMatch({ok, #file_info{size = 5000, type = regular}}, emmap:read_handle_info(Mem)),
    ?assertEqual([ok, ok], [file:advise(Mem, 0, 0, normal), file:allocate(Mem, 4000, 2000)]),
    ?assertMatch({ok, #file_info{size = 6000}}, file:read_file_info(Mem)),
    ok = emmap:close(Mem).
