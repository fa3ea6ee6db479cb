%% emmap_counters and what else counts, each with the same loops: N times a call on one counter.
-module(emmap_bench_counting).

-export([open/2, missing/0, title/1, key/2, operations/1, change/1, loop/3, by_turns/3, allocate/3,
         sync_each/3, file_sync_each/2, counters/0]).
-export_type([subject/0, operation/0]).

-type subject() :: plain | padded | striped | named | atom | binary | atomics | counters | counters_wc
                 | ets | ets_wc | mnesia | mnesia_disc | dets.
%% named: by number, those that have names.
-type operation() :: add | get | add_get.

%% How many each has.
-define(COUNTERS, 64).

-spec counters() -> pos_integer().
counters() -> ?COUNTERS.

-spec title(subject()) -> string().
title(plain) -> "emmap_counters, by index";
title(padded) -> "  padded";
title(striped) -> "  striped";
title(named) -> "  those with names";
title(atom) -> "emmap_counters, by name, an atom";
title(binary) -> "  a binary";
title(counters_wc) -> "  write_concurrency";
title(ets) -> "ets:update_counter";
title(ets_wc) -> "  write_concurrency";
title(mnesia) -> "mnesia, dirty, ram_copies";
title(mnesia_disc) -> "mnesia, dirty, disc_copies";
title(Subject) -> atom_to_list(Subject).

%% Those that cannot be measured here, and why.
-spec missing() -> [{subject(), string()}].
missing() ->
    [{Subject, Why} || {mnesia, Why} <- emmap_bench_peers:missing(), Subject <- [mnesia, mnesia_disc]].

%% What its processes share. The caller has to live on. The same file's second opening is another
%% handle: by index, by atom and by binary share nothing but the file.
-spec open(subject(), string()) -> term().
open(plain, Folder) -> opened(Folder, "plain", ?COUNTERS, []);
open(padded, Folder) -> opened(Folder, "padded", ?COUNTERS, [padded]);
open(striped, Folder) -> opened(Folder, "striped", ?COUNTERS, [striped]);
open(Names, Folder) when Names =:= named; Names =:= atom; Names =:= binary ->
    opened(Folder, "named", [key(atom, I) || I <- lists:seq(1, ?COUNTERS)], []);
open(atomics, _) -> atomics:new(?COUNTERS, []);
open(counters, _) -> counters:new(?COUNTERS, [atomics]);
open(counters_wc, _) -> counters:new(?COUNTERS, [write_concurrency]);
open(ets, _) -> filled(ets:new(?MODULE, [public]));
open(ets_wc, _) -> filled(ets:new(?MODULE, [public, {write_concurrency, true}]));
open(mnesia, Folder) -> mnesia_table(Folder, emmap_bench_ram, ram_copies);
open(mnesia_disc, Folder) -> mnesia_table(Folder, emmap_bench_disc, disc_copies);
open(dets, Folder) ->
    {ok, Table} = dets:open_file(?MODULE, [{file, filename:join(Folder, "dets")}]),
    ok = dets:insert(Table, [{I, 0} || I <- lists:seq(1, ?COUNTERS)]),
    Table.

opened(Folder, Name, What, Options) ->
    {ok, C} = emmap_counters:open(filename:join(Folder, Name), What, Options),
    C.

filled(Table) ->
    true = ets:insert(Table, [{I, 0} || I <- lists:seq(1, ?COUNTERS)]),
    Table.

mnesia_table(Folder, Name, Copies) ->
    mnesia_start(filename:join(Folder, "mnesia"), whereis(mnesia_sup)),
    {atomic, ok} = mnesia:create_table(Name, [{Copies, [node()]}]),
    ok = mnesia:wait_for_tables([Name], 10000),
    [ok = mnesia:dirty_write({Name, I, 0}) || I <- lists:seq(1, ?COUNTERS)],
    Name.

mnesia_start(_, Running) when is_pid(Running) ->
    ok;
mnesia_start(Folder, undefined) ->
    ok = application:load(mnesia),
    ok = application:set_env(mnesia, dir, Folder),
    ok = application:set_env(mnesia, dump_log_write_threshold, 50000), % of 1000: it would warn
    ok = mnesia:create_schema([node()]),
    ok = mnesia:start().

%% The term that stands for its counter I in a call.
-spec key(subject(), pos_integer()) -> atom() | binary() | pos_integer().
key(atom, I) -> binary_to_atom(key(binary, I));
key(binary, I) -> iolist_to_binary(["orders_", integer_to_list(I)]);
key(_, I) -> I.

%% What it can do. An update_counter answers the new value: it is an add_get.
-spec operations(subject()) -> [operation()].
operations(Striped) when Striped =:= striped; Striped =:= counters; Striped =:= counters_wc -> [add, get];
operations(Table) when Table =:= ets; Table =:= ets_wc; Table =:= mnesia; Table =:= mnesia_disc; Table =:= dets ->
    [get, add_get];
operations(_) -> [add, get, add_get].

%% How it counts.
-spec change(subject()) -> operation().
change(Subject) ->
    case lists:member(add, operations(Subject)) of
        true -> add;
        false -> add_get
    end.

%%----------------------------------------------------------------------------------------- loops

-spec loop(subject(), operation(), term()) -> fun((non_neg_integer(), term()) -> ok).
loop(atomics, add, C) -> fun(N, Ix) -> emmap_bench_loops:atomics_add(N, C, Ix) end;
loop(atomics, get, C) -> fun(N, Ix) -> atomics_get(N, C, Ix) end;
loop(atomics, add_get, C) -> fun(N, Ix) -> emmap_bench_loops:atomics_add_get(N, C, Ix) end;
loop(Counters, add, C) when Counters =:= counters; Counters =:= counters_wc ->
    fun(N, Ix) -> emmap_bench_loops:counters_add(N, C, Ix) end;
loop(Counters, get, C) when Counters =:= counters; Counters =:= counters_wc ->
    fun(N, Ix) -> counters_get(N, C, Ix) end;
loop(Ets, get, Table) when Ets =:= ets; Ets =:= ets_wc -> fun(N, Key) -> ets_get(N, Table, Key) end;
loop(Ets, add_get, Table) when Ets =:= ets; Ets =:= ets_wc -> fun(N, Key) -> ets_add_get(N, Table, Key) end;
loop(Mnesia, get, Table) when Mnesia =:= mnesia; Mnesia =:= mnesia_disc ->
    fun(N, Key) -> mnesia_get(N, Table, Key) end;
loop(Mnesia, add_get, Table) when Mnesia =:= mnesia; Mnesia =:= mnesia_disc ->
    fun(N, Key) -> mnesia_add_get(N, {Table, Key}) end;
loop(dets, get, Table) -> fun(N, Key) -> dets_get(N, Table, Key) end;
loop(dets, add_get, Table) -> fun(N, Key) -> dets_add_get(N, Table, Key) end;
loop(_, add, C) -> fun(N, Key) -> add(N, C, Key) end;
loop(_, get, C) -> fun(N, Key) -> get(N, C, Key) end;
loop(_, add_get, C) -> fun(N, Key) -> add_get(N, C, Key) end.

add(0, _, _) -> ok;
add(N, C, Key) -> ok = emmap_counters:add(C, Key, 1), add(N - 1, C, Key).

get(0, _, _) -> ok;
get(N, C, Key) -> _ = emmap_counters:get(C, Key), get(N - 1, C, Key).

add_get(0, _, _) -> ok;
add_get(N, C, Key) -> _ = emmap_counters:add_get(C, Key, 1), add_get(N - 1, C, Key).

%% Keys: of all of them, whose number is a power of 2.
-spec by_turns(non_neg_integer(), term(), tuple()) -> ok.
by_turns(0, _, _) -> ok;
by_turns(N, C, Keys) ->
    ok = emmap_counters:add(C, element(1 + N band (?COUNTERS - 1), Keys), 1),
    by_turns(N - 1, C, Keys).

atomics_get(0, _, _) -> ok;
atomics_get(N, Ref, Ix) -> _ = atomics:get(Ref, Ix), atomics_get(N - 1, Ref, Ix).

counters_get(0, _, _) -> ok;
counters_get(N, Ref, Ix) -> _ = counters:get(Ref, Ix), counters_get(N - 1, Ref, Ix).

ets_get(0, _, _) -> ok;
ets_get(N, Table, Key) -> _ = ets:lookup_element(Table, Key, 2), ets_get(N - 1, Table, Key).

ets_add_get(0, _, _) -> ok;
ets_add_get(N, Table, Key) -> _ = ets:update_counter(Table, Key, 1), ets_add_get(N - 1, Table, Key).

mnesia_get(0, _, _) -> ok;
mnesia_get(N, Table, Key) -> [{_, _, _}] = mnesia:dirty_read(Table, Key), mnesia_get(N - 1, Table, Key).

mnesia_add_get(0, _) -> ok;
mnesia_add_get(N, Oid) -> _ = mnesia:dirty_update_counter(Oid, 1), mnesia_add_get(N - 1, Oid).

dets_get(0, _, _) -> ok;
dets_get(N, Table, Key) -> [{_, _}] = dets:lookup(Table, Key), dets_get(N - 1, Table, Key).

dets_add_get(0, _, _) -> ok;
dets_add_get(N, Table, Key) -> _ = dets:update_counter(Table, Key, 1), dets_add_get(N - 1, Table, Key).

%%--------------------------------------------------------------------------------------- numbers

-spec allocate(non_neg_integer(), emmap_counters:counters(), pos_integer()) -> ok.
allocate(0, _, _) -> ok;
allocate(N, C, Many) -> _ = emmap_counters:allocate(C, 1, Many), allocate(N - 1, C, Many).

%% What is left without allocate, if no number may be given twice: each is on the disk before it is used.
-spec sync_each(non_neg_integer(), emmap_counters:counters(), pos_integer()) -> ok.
sync_each(0, _, _) -> ok;
sync_each(N, C, Ix) ->
    _ = emmap_counters:add_get(C, Ix, 1),
    ok = emmap_counters:sync(C),
    sync_each(N - 1, C, Ix).

-spec file_sync_each(non_neg_integer(), file:fd()) -> ok.
file_sync_each(0, _) -> ok;
file_sync_each(N, Fd) ->
    ok = file:pwrite(Fd, 0, <<N:64>>),
    ok = file:datasync(Fd),
    file_sync_each(N - 1, Fd).
