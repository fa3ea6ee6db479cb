%% emmap_queue and what else can be a queue, each with the same loops: N times a push and a take, of
%% one message or of a list. None waits for the disk here.
%%
%% What a peer keeps in bytes gets a binary as it is, and of another term its external format.
-module(emmap_bench_peers).

-export([open/2, missing/0, setup/3, pairs/4, batches/4, title/1]).
-export_type([peer/0]).

-type peer() :: emmap | ring | fifo | ets | disk_log | file | mnesia | dets | sqlite.

%% Of the ring, if the messages do not need more.
-define(RING_BYTES, (1 bsl 20)).

-spec title(peer() | ring_loop) -> string().
title(ring_loop) -> "ring in C";
title(ring) -> "ring, NIF";
title(fifo) -> "gen_server";
title(sqlite) -> "SQLite";
title(Peer) -> atom_to_list(Peer).

%% Those that cannot be measured here, and why.
-spec missing() -> [{peer(), string()}].
missing() ->
    [{mnesia, "Erlang's mnesia is not here"} || code:which(mnesia) =:= non_existing]
        ++ [{sqlite, "SQLite was not here to build with"} || not emmap_bench_sqlite:built()].

%% What its processes share. The caller has to live on.
-spec open(peer(), string()) -> term().
open(emmap, Folder) ->
    {ok, Q} = emmap_queue:open(filename:join(Folder, "emmap")),
    Q;
open(ring, Folder) ->
    {small, Folder};
open(fifo, _) ->
    {ok, Server} = emmap_bench_fifo:start_link(),
    Server;
open(ets, _) ->
    ets:new(?MODULE, [ordered_set, public]);
open(disk_log, Folder) ->
    {ok, Log} = disk_log:open([{name, ?MODULE}, {file, filename:join(Folder, "disk_log")}]),
    Log;
open(file, Folder) ->
    filename:join(Folder, "file");
open(dets, Folder) ->
    {ok, Table} = dets:open_file(?MODULE, [{file, filename:join(Folder, "dets")}]),
    Table;
open(mnesia, Folder) ->
    ok = application:load(mnesia),
    ok = application:set_env(mnesia, dir, filename:join(Folder, "mnesia")),
    ok = application:set_env(mnesia, dump_log_write_threshold, 50000), % of 1000: it would warn
    ok = mnesia:create_schema([node()]),
    ok = mnesia:start(),
    {atomic, ok} = mnesia:create_table(?MODULE, [{type, ordered_set}, {disc_copies, [node()]}]),
    ok = mnesia:wait_for_tables([?MODULE], 10000),
    ?MODULE;
open(sqlite, Folder) ->
    Db = emmap_bench_sqlite:open(filename:join(Folder, "sqlite"), "NORMAL"),
    true = is_reference(Db),
    Db.

%% In the process that is to do the loop; Bytes: of what it holds at a time.
-spec setup(peer(), term(), pos_integer()) -> term().
setup(disk_log, Log, _) ->
    ok = disk_log:truncate(Log),
    Log;
setup(file, Name, _) ->
    {ok, Fd} = file:open(Name, [raw, binary, read, write]),
    ok = file:truncate(Fd),
    Fd;
setup(ring, {small, Folder}, Bytes) ->
    emmap_bench_ring:new(filename:join(Folder, "ring"), max(?RING_BYTES, (Bytes * 2) band -8));
setup(_, Shared, _) ->
    Shared.

%%------------------------------------------------------------------------------------ one message

-spec pairs(peer(), non_neg_integer(), term(), term()) -> ok.
pairs(emmap, N, Q, Term) -> emmap(N, Q, Term);
pairs(ring, N, Ring, Data) when is_binary(Data) -> ring(N, Ring, Data);
pairs(ring, N, Ring, Term) -> ring_term(N, Ring, Term);
pairs(fifo, N, Server, Term) -> fifo(N, Server, Term);
pairs(ets, N, Table, Term) -> ets(N, Table, Term);
pairs(disk_log, N, Log, Term) -> disk_log(N, Log, start, Term);
pairs(file, N, Fd, Term) -> file(N, Fd, 0, Term);
pairs(dets, N, Table, Term) -> dets(N, Table, Term);
pairs(mnesia, N, Table, Term) -> mnesia(N, Table, Term);
pairs(sqlite, N, Db, Term) -> sqlite(N, Db, Term).

emmap(0, _, _) -> ok;
emmap(N, Q, Term) ->
    ok = emmap_queue:push(Q, Term),
    {ok, _} = emmap_queue:take(Q),
    emmap(N - 1, Q, Term).

ring(0, _, _) -> ok;
ring(N, Ring, Data) ->
    ok = emmap_bench_ring:push(Ring, Data),
    <<_/binary>> = emmap_bench_ring:take(Ring),
    ring(N - 1, Ring, Data).

ring_term(0, _, _) -> ok;
ring_term(N, Ring, Term) ->
    ok = emmap_bench_ring:push(Ring, term_to_binary(Term)),
    _ = binary_to_term(emmap_bench_ring:take(Ring)),
    ring_term(N - 1, Ring, Term).

fifo(0, _, _) -> ok;
fifo(N, Server, Term) ->
    ok = emmap_bench_fifo:push(Server, Term),
    {ok, _} = emmap_bench_fifo:take(Server),
    fifo(N - 1, Server, Term).

ets(0, _, _) -> ok;
ets(N, Table, Term) ->
    true = ets:insert(Table, {erlang:unique_integer([monotonic]), Term}),
    _ = ets_take(Table),
    ets(N - 1, Table, Term).

%% Another one may have been faster.
ets_take(Table) ->
    case ets:take(Table, ets:first(Table)) of
        [{_, Term}] -> Term;
        [] -> ets_take(Table)
    end.

disk_log(0, _, _, _) -> ok;
disk_log(N, Log, At, Term) ->
    ok = disk_log:log(Log, Term),
    {Next, [_]} = disk_log:chunk(Log, At, 1),
    disk_log(N - 1, Log, Next, Term).

file(0, _, _, _) -> ok;
file(N, Fd, At, Term) ->
    Data = data(Term),
    ok = file:pwrite(Fd, At, record(Data)),
    {_, Next} = file_take(Fd, At, is_binary(Term)),
    file(N - 1, Fd, Next, Term).

record(Data) ->
    [<<(byte_size(Data)):32, (erlang:crc32(Data)):32>>, Data].

file_take(Fd, At, AsItIs) ->
    {ok, <<Len:32, Crc:32>>} = file:pread(Fd, At, 8),
    {ok, Data} = file:pread(Fd, At + 8, Len),
    Crc = erlang:crc32(Data),
    {term(Data, AsItIs), At + 8 + Len}.

dets(0, _, _) -> ok;
dets(N, Table, Term) ->
    ok = dets:insert(Table, {N, Term}),
    [{_, _}] = dets:lookup(Table, N),
    ok = dets:delete(Table, N),
    dets(N - 1, Table, Term).

mnesia(0, _, _) -> ok;
mnesia(N, Table, Term) ->
    ok = mnesia:dirty_write({Table, N, Term}),
    First = mnesia:dirty_first(Table),
    [{_, _, _}] = mnesia:dirty_read(Table, First),
    ok = mnesia:dirty_delete(Table, First),
    mnesia(N - 1, Table, Term).

sqlite(0, _, _) -> ok;
sqlite(N, Db, Term) ->
    ok = emmap_bench_sqlite:push_many(Db, [data(Term)]),
    [Data] = emmap_bench_sqlite:take_many(Db, 1),
    _ = term(Data, is_binary(Term)),
    sqlite(N - 1, Db, Term).

data(Data) when is_binary(Data) -> Data;
data(Term) -> term_to_binary(Term).

term(Data, true) -> Data;
term(Data, false) -> binary_to_term(Data).

%%-------------------------------------------------------------------------------- several at once

%% Term: of the list, which has it Many times.
-spec batches(peer(), non_neg_integer(), term(), {Many :: pos_integer(), Term :: term()}) -> ok.
batches(Peer, N, State, {Many, Term}) ->
    batches(Peer, N, State, 0, Many, lists:duplicate(Many, Term), is_binary(Term)).

batches(_, 0, _, _, _, _, _) ->
    ok;
batches(Peer, N, State, At, Many, Terms, AsItIs) ->
    Next = batch(Peer, State, At, Many, Terms, AsItIs),
    batches(Peer, N - 1, State, Next, Many, Terms, AsItIs).

%% Answers the place at which a log or a file goes on.
batch(emmap, Q, _, Many, Terms, _) ->
    ok = emmap_queue:push_many(Q, Terms),
    Many = length(emmap_queue:take_many(Q, Many)),
    0;
batch(ring, Ring, _, Many, Terms, AsItIs) ->
    ok = emmap_bench_ring:push_many(Ring, [data(Term) || Term <- Terms]),
    Many = length(terms(emmap_bench_ring:take_many(Ring, Many), AsItIs)),
    0;
batch(fifo, Server, _, Many, Terms, _) ->
    ok = emmap_bench_fifo:push_many(Server, Terms),
    Many = length(emmap_bench_fifo:take_many(Server, Many)),
    0;
batch(ets, Table, _, Many, Terms, _) ->
    true = ets:insert(Table, [{erlang:unique_integer([monotonic]), Term} || Term <- Terms]),
    Many = length([ets_take(Table) || _ <- Terms]),
    0;
batch(disk_log, Log, At, Many, Terms, _) ->
    ok = disk_log:log_terms(Log, Terms),
    chunks(Log, case At of 0 -> start; _ -> At end, Many);
batch(file, Fd, At, _, Terms, AsItIs) ->
    ok = file:pwrite(Fd, At, [record(data(Term)) || Term <- Terms]),
    lists:foldl(fun(_, From) ->
                        {_, Next} = file_take(Fd, From, AsItIs),
                        Next
                end, At, Terms);
batch(dets, Table, _, Many, Terms, _) ->
    Keys = lists:seq(1, Many),
    ok = dets:insert(Table, lists:zip(Keys, Terms)),
    [begin [{_, _}] = dets:lookup(Table, Key), ok = dets:delete(Table, Key) end || Key <- Keys],
    0;
batch(mnesia, Table, _, _, Terms, _) ->
    {atomic, ok} = mnesia:transaction(fun() -> mnesia_write(Table, 1, Terms) end),
    {atomic, ok} = mnesia:transaction(fun() -> mnesia_take(Table, 1, Terms) end),
    0;
batch(sqlite, Db, _, Many, Terms, AsItIs) ->
    ok = emmap_bench_sqlite:push_many(Db, [data(Term) || Term <- Terms]),
    Many = length(terms(emmap_bench_sqlite:take_many(Db, Many), AsItIs)),
    0.

%% They come the last one first.
terms(Taken, true) -> lists:reverse(Taken);
terms(Taken, false) -> lists:foldl(fun(Data, Terms) -> [binary_to_term(Data) | Terms] end, [], Taken).

chunks(_, At, 0) ->
    At;
chunks(Log, At, Left) ->
    {Next, Terms} = disk_log:chunk(Log, At, Left),
    chunks(Log, Next, Left - length(Terms)).

mnesia_write(_, _, []) ->
    ok;
mnesia_write(Table, Key, [Term | Terms]) ->
    ok = mnesia:write({Table, Key, Term}),
    mnesia_write(Table, Key + 1, Terms).

mnesia_take(_, _, []) ->
    ok;
mnesia_take(Table, Key, [_ | Terms]) ->
    [{_, _, _}] = mnesia:read(Table, Key),
    ok = mnesia:delete({Table, Key}),
    mnesia_take(Table, Key + 1, Terms).
