%% The stubs of emmap_bench_ring.c: a ring of checksummed messages in a mapped file, and no more.
-module(emmap_bench_ring).

-export([new/2, push/2, take/1, push_many/2, take_many/2, loop/3]).

-nifs([new/2, push/2, take/1, push_many/2, take_many/2, loop/3]).
-on_load(init/0).

-spec init() -> ok | {error, term()}.
init() ->
    erlang:load_nif(filename:rootname(code:which(?MODULE)), 0).

-spec new(string(), pos_integer()) -> reference().
new(_File, _Bytes) -> erlang:nif_error(not_loaded).

-spec push(reference(), binary()) -> ok | full.
push(_Ring, _Data) -> erlang:nif_error(not_loaded).

-spec take(reference()) -> binary() | empty | corrupt.
take(_Ring) -> erlang:nif_error(not_loaded).

-spec push_many(reference(), [binary()]) -> ok | full.
push_many(_Ring, _Data) -> erlang:nif_error(not_loaded).

%% The last one first.
-spec take_many(reference(), non_neg_integer()) -> [binary() | corrupt].
take_many(_Ring, _N) -> erlang:nif_error(not_loaded).

-spec loop(reference(), non_neg_integer(), non_neg_integer()) -> non_neg_integer() | corrupt.
loop(_Ring, _Len, _N) -> erlang:nif_error(not_loaded).
