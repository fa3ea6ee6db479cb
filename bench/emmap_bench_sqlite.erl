%% The stubs of emmap_bench_sqlite.c, where it was built: a table of SQLite as a queue.
-module(emmap_bench_sqlite).

-export([built/0, open/2, push_many/2, take_many/2]).

-nifs([open/2, push_many/2, take_many/2]).
-on_load(init/0).

-spec init() -> ok | {error, term()}.
init() ->
    case built() of
        true -> erlang:load_nif(filename:rootname(code:which(?MODULE)), 0);
        false -> ok
    end.

%% SQLite's header and library were there when the benchmarks were built.
-spec built() -> boolean().
built() ->
    filelib:is_file(filename:rootname(code:which(?MODULE)) ++ ".so").

-spec open(string(), string()) -> reference() | {error, string()}.
open(_File, _Synchronous) -> erlang:nif_error(not_loaded).

-spec push_many(reference(), [binary()]) -> ok | {error, string()}.
push_many(_Db, _Data) -> erlang:nif_error(not_loaded).

%% The last one first.
-spec take_many(reference(), non_neg_integer()) -> [binary()] | {error, string()}.
take_many(_Db, _N) -> erlang:nif_error(not_loaded).
