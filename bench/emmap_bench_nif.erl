%% The stubs of emmap_bench_nif.c: what a NIF and a copy cost without emmap.
-module(emmap_bench_nif).

-export([empty/1, empty_resource/1, new/1, copy/3, memcpy/2, resident/1, allocated/0]).

-nifs([empty/1, empty_resource/1, new/1, copy/3, memcpy/2, resident/1, allocated/0]).
-on_load(init/0).

-spec init() -> ok | {error, term()}.
init() ->
    erlang:load_nif(filename:rootname(code:which(?MODULE)), 0).

-spec empty(term()) -> ok.
empty(_) -> erlang:nif_error(not_loaded).

-spec empty_resource(reference()) -> ok.
empty_resource(_Block) -> erlang:nif_error(not_loaded).

-spec new(non_neg_integer()) -> reference().
new(_Bytes) -> erlang:nif_error(not_loaded).

-spec copy(reference(), non_neg_integer(), non_neg_integer()) -> ok.
copy(_Block, _Off, _Len) -> erlang:nif_error(not_loaded).

-spec memcpy(non_neg_integer(), non_neg_integer()) -> non_neg_integer().
memcpy(_Len, _N) -> erlang:nif_error(not_loaded).

-spec resident(binary()) -> {non_neg_integer(), pos_integer()} | error.
resident(_Name) -> erlang:nif_error(not_loaded).

-spec allocated() -> non_neg_integer().
allocated() -> erlang:nif_error(not_loaded).
