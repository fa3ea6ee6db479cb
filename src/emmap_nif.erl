%% @private
%% @doc The stubs that the native library replaces, and nothing else.
-module(emmap_nif).

-export([file_open/4, file_close/1, file_resize/2, file_pread/3, file_pwrite/3, file_flush/1,
         file_sync/1, file_sync/3, file_info/1, stats/0, publish_stats/1, unpublish_stats/0,
         handles/0, error_message/1, file_debug/1,
         file_pwrite_dirty/3, file_write_dirty/2, file_read/2, file_read_line/1, file_write/2,
         file_position/3, file_truncate/1, file_allocate/3, file_advise/4, file_handle_info/1,
         file_add/3, file_sub/3, file_and/3, file_or/3, file_xor/3, file_exchange/3, file_cas/4,
         file_load/2, file_store/3, simple_counters_open/2,
         etf_encode/2, etf_encode_dirty/2, etf_decode/2, etf_decode_dirty/2,
         queue_open/7, queue_close/1, queue_push/2, queue_push_deflated/2, queue_push_many/3,
         queue_take/1, queue_take_many/3, queue_claim/1, queue_ack/1, queue_return/1,
         queue_lose/1, queue_peek/4, queue_length/1, queue_erase/1, queue_set_max/2, queue_flush/1,
         queue_info/1, queue_unlinked/1, queue_sync_join/1, queue_sync_leave/2,
         queue_interval/2,
         counters_open/4, counters_close/1, counters_get/2, counters_put/3, counters_add/3,
         counters_add_get/3, counters_exchange/3, counters_max/3, counters_min/3,
         counters_compare_exchange/4, counters_allocate/3, counters_sync/1, counters_info/1,
         counters_unlinked/1, counters_names/1, counters_text/1]).
-export_type([handle/0, badarg/0]).

-nifs([file_open/4, file_close/1, file_resize/2, file_pread/3, file_pwrite/3, file_flush/1,
       file_sync/1, file_sync/3, file_info/1, stats/0, publish_stats/1, unpublish_stats/0,
       handles/0, error_message/1, file_debug/1,
       file_pwrite_dirty/3, file_write_dirty/2, file_read/2, file_read_line/1, file_write/2,
       file_position/3, file_truncate/1, file_allocate/3, file_advise/4, file_handle_info/1,
       file_add/3, file_sub/3, file_and/3, file_or/3, file_xor/3, file_exchange/3, file_cas/4,
       file_load/2, file_store/3, simple_counters_open/2,
       etf_encode/2, etf_encode_dirty/2, etf_decode/2, etf_decode_dirty/2,
       queue_open/7, queue_close/1, queue_push/2, queue_push_deflated/2, queue_push_many/3,
       queue_take/1, queue_take_many/3, queue_claim/1, queue_ack/1, queue_return/1,
       queue_lose/1, queue_peek/4, queue_length/1, queue_erase/1, queue_set_max/2, queue_flush/1,
       queue_info/1, queue_unlinked/1, queue_sync_join/1, queue_sync_leave/2,
       queue_interval/2,
       counters_open/4, counters_close/1, counters_get/2, counters_put/3, counters_add/3,
       counters_add_get/3, counters_exchange/3, counters_max/3, counters_min/3,
       counters_compare_exchange/4, counters_allocate/3, counters_sync/1, counters_info/1,
       counters_unlinked/1, counters_names/1, counters_text/1]).
-on_load(init/0).

-type handle() :: reference().
-type badarg() :: {badarg, pos_integer(), term()}.
%% The caller's mistake: which argument, and why.

-spec init() -> ok | {error, term()}.
init() ->
    erlang:load_nif(library(), 0).

%% Where the code path says, which is the new version at a hot upgrade; or beside the beam, when
%% another folder of the code path looks like the application.
library() ->
    ByPath = code:priv_dir(emmap),
    Beside = filename:join(filename:dirname(filename:dirname(code:which(?MODULE))), "priv"),
    Found = [Name || Dir <- [ByPath, Beside], is_list(Dir),
                     Name <- [filename:join(Dir, ?MODULE_STRING)],
                     filelib:is_regular(Name ++ ".so")],
    hd(Found ++ [filename:join(Beside, ?MODULE_STRING)]).

-spec file_open(binary(), term(), term(), term()) ->
    {ok, handle(), map()} | {error, atom()} | badarg().
file_open(_Name, _Off, _Len, _Options) -> erlang:nif_error(not_loaded).

-spec file_close(handle()) -> ok | badarg().
file_close(_Handle) -> erlang:nif_error(not_loaded).

-spec file_resize(handle(), term()) -> {ok, non_neg_integer()} | {error, atom()} | badarg().
file_resize(_Handle, _SizeOrGrow) -> erlang:nif_error(not_loaded).

-spec file_pread(handle(), term(), term()) -> {ok, binary()} | eof | {error, atom()} | badarg().
file_pread(_Handle, _Off, _Len) -> erlang:nif_error(not_loaded).

-spec file_pwrite(handle(), term(), term()) -> ok | {error, atom()} | badarg().
file_pwrite(_Handle, _Off, _Data) -> erlang:nif_error(not_loaded).

-spec file_flush(handle()) -> ok | {error, atom()} | badarg().
file_flush(_Handle) -> erlang:nif_error(not_loaded).

-spec file_sync(handle()) -> ok | {error, atom() | {sync_failed, atom()}} | badarg().
file_sync(_Handle) -> erlang:nif_error(not_loaded).

-spec file_sync(handle(), term(), term()) ->
    ok | {error, atom() | {sync_failed, atom()}} | badarg().
file_sync(_Handle, _Off, _Len) -> erlang:nif_error(not_loaded).

-spec file_info(handle()) -> {ok, map()} | {error, atom()} | badarg().
file_info(_Handle) -> erlang:nif_error(not_loaded).

-spec stats() -> map().
stats() -> erlang:nif_error(not_loaded).

-spec publish_stats(binary()) -> ok | {error, atom()} | badarg().
publish_stats(_Name) -> erlang:nif_error(not_loaded).

-spec unpublish_stats() -> ok | {error, atom()}.
unpublish_stats() -> erlang:nif_error(not_loaded).

-spec error_message(atom()) -> binary() | undefined.
error_message(_Reason) -> erlang:nif_error(not_loaded).

-spec file_debug(handle()) ->
    boolean().
file_debug(_Handle) -> erlang:nif_error(not_loaded).

-spec file_pwrite_dirty(handle(), term(), term()) ->
    ok | {error, atom()} | badarg().
file_pwrite_dirty(_Handle, _Off, _Data) -> erlang:nif_error(not_loaded).

-spec file_write_dirty(handle(), term()) ->
    ok | {error, atom()} | badarg().
file_write_dirty(_Handle, _Data) -> erlang:nif_error(not_loaded).

-spec file_read(handle(), term()) ->
    {ok, binary()} | eof | {error, atom()} | badarg().
file_read(_Handle, _Len) -> erlang:nif_error(not_loaded).

-spec file_read_line(handle()) ->
    {ok, binary()} | eof | {error, atom()} | badarg().
file_read_line(_Handle) -> erlang:nif_error(not_loaded).

-spec file_write(handle(), term()) ->
    ok | {error, atom()} | badarg().
file_write(_Handle, _Data) -> erlang:nif_error(not_loaded).

-spec file_position(handle(), bof | cur | eof, term()) ->
    {ok, non_neg_integer()} | {error, atom()} | badarg().
file_position(_Handle, _Whence, _Off) -> erlang:nif_error(not_loaded).

-spec file_truncate(handle()) ->
    ok | {error, atom()} | badarg().
file_truncate(_Handle) -> erlang:nif_error(not_loaded).

-spec file_allocate(handle(), term(), term()) ->
    ok | {error, atom()} | badarg().
file_allocate(_Handle, _Off, _Len) -> erlang:nif_error(not_loaded).

-spec file_advise(handle(), term(), term(), term()) ->
    ok | {error, atom()} | badarg().
file_advise(_Handle, _Off, _Len, _Advice) -> erlang:nif_error(not_loaded).

-spec file_handle_info(handle()) ->
    {ok, tuple()} | {error, atom()} | badarg().
file_handle_info(_Handle) -> erlang:nif_error(not_loaded).

-spec file_add(handle(), term(), term()) ->
    {ok, integer()} | {error, atom()} | badarg().
file_add(_Handle, _Off, _Value) -> erlang:nif_error(not_loaded).

-spec file_sub(handle(), term(), term()) ->
    {ok, integer()} | {error, atom()} | badarg().
file_sub(_Handle, _Off, _Value) -> erlang:nif_error(not_loaded).

-spec file_and(handle(), term(), term()) ->
    {ok, integer()} | {error, atom()} | badarg().
file_and(_Handle, _Off, _Value) -> erlang:nif_error(not_loaded).

-spec file_or(handle(), term(), term()) ->
    {ok, integer()} | {error, atom()} | badarg().
file_or(_Handle, _Off, _Value) -> erlang:nif_error(not_loaded).

-spec file_xor(handle(), term(), term()) ->
    {ok, integer()} | {error, atom()} | badarg().
file_xor(_Handle, _Off, _Value) -> erlang:nif_error(not_loaded).

-spec file_exchange(handle(), term(), term()) ->
    {ok, integer()} | {error, atom()} | badarg().
file_exchange(_Handle, _Off, _Value) -> erlang:nif_error(not_loaded).

-spec file_cas(handle(), term(), term(), term()) ->
    {boolean(), integer()} | {error, atom()} | badarg().
file_cas(_Handle, _Off, _Expected, _New) -> erlang:nif_error(not_loaded).

-spec file_load(handle(), term()) ->
    {ok, integer()} | {error, atom()} | badarg().
file_load(_Handle, _Off) -> erlang:nif_error(not_loaded).

-spec file_store(handle(), term(), term()) ->
    ok | {error, atom()} | badarg().
file_store(_Handle, _Off, _Value) -> erlang:nif_error(not_loaded).

-spec simple_counters_open(binary(), term()) ->
    {ok, handle(), pos_integer()} | {error, atom()} | badarg().
simple_counters_open(_Name, _Count) -> erlang:nif_error(not_loaded).

-spec handles() ->
    [{binary(), non_neg_integer(), shared | private, read | read_write, non_neg_integer()}].
handles() -> erlang:nif_error(not_loaded).

%% The codec of terms, for its tests: a limit in bytes, and whether atoms may be made.

-spec etf_encode(term(), term()) -> binary() | {error, atom()} | badarg().
etf_encode(_Term, _LimitBytes) -> erlang:nif_error(not_loaded).

-spec etf_encode_dirty(term(), term()) -> binary() | {error, atom()} | badarg().
etf_encode_dirty(_Term, _LimitBytes) -> erlang:nif_error(not_loaded).

-spec etf_decode(term(), boolean()) -> {ok, term()} | {error, atom()} | badarg().
etf_decode(_Binary, _Safe) -> erlang:nif_error(not_loaded).

-spec etf_decode_dirty(term(), boolean()) -> {ok, term()} | {error, atom()} | badarg().
etf_decode_dirty(_Binary, _Safe) -> erlang:nif_error(not_loaded).

-type failed() :: {error, atom() | {sync_failed, atom()}} | badarg().
%% With the arguments that the call was given.
-type failed_with() :: {failed(), [term()]}.

-spec queue_open(binary(), non_neg_integer(), non_neg_integer(), non_neg_integer(),
                 non_neg_integer(), non_neg_integer(), boolean()) ->
    {ok, handle(), boolean()} | failed().
queue_open(_Name, _Flags, _Mode, _Size, _MaxSize, _MaxMessage, _Safe) -> erlang:nif_error(not_loaded).

-spec queue_close(handle()) -> ok | badarg().
queue_close(_Handle) -> erlang:nif_error(not_loaded).

-spec queue_push(handle(), term()) -> ok | again | failed().
queue_push(_Handle, _Term) -> erlang:nif_error(not_loaded).

-spec queue_push_deflated(handle(), binary()) -> ok | again | failed().
queue_push_deflated(_Handle, _Deflated) -> erlang:nif_error(not_loaded).

-spec queue_push_many(handle(), [term()], non_neg_integer()) ->
    ok | {again, [term()], non_neg_integer()} | {error, {pos_integer(), term()}} | failed().
queue_push_many(_Handle, _Terms, _Done) -> erlang:nif_error(not_loaded).

-spec queue_take(handle()) ->
    {ok, term()} | {deflated, binary()} | claim | empty | again | failed().
queue_take(_Handle) -> erlang:nif_error(not_loaded).

-spec queue_take_many(handle(), non_neg_integer(), non_neg_integer()) ->
    {ok, [term()], non_neg_integer()} |
    {mixed, [{ok, term()} | {deflated, binary()}], non_neg_integer()} |
    {large | claim, non_neg_integer()} | empty | again | failed().
queue_take_many(_Handle, _N, _Bytes) -> erlang:nif_error(not_loaded).

-spec queue_claim(handle()) ->
    {ok, reference(), term()} | {deflated, reference(), binary()} | empty | again | failed().
queue_claim(_Handle) -> erlang:nif_error(not_loaded).

-spec queue_ack(reference()) -> ok | again | failed().
queue_ack(_Claim) -> erlang:nif_error(not_loaded).

-spec queue_return(reference()) -> ok | again | failed().
queue_return(_Claim) -> erlang:nif_error(not_loaded).

-spec queue_lose(handle()) -> ok | failed().
queue_lose(_Handle) -> erlang:nif_error(not_loaded).

-spec queue_peek(handle(), boolean(), non_neg_integer(), non_neg_integer()) ->
    {ok, term(), non_neg_integer(), non_neg_integer()} |
    {deflated, binary(), non_neg_integer(), non_neg_integer()} | empty | again | failed().
queue_peek(_Handle, _Backwards, _Pos, _Slot) -> erlang:nif_error(not_loaded).

-spec queue_length(handle()) -> non_neg_integer() | again | failed().
queue_length(_Handle) -> erlang:nif_error(not_loaded).

-spec queue_erase(handle()) -> ok | again | failed().
queue_erase(_Handle) -> erlang:nif_error(not_loaded).

-spec queue_set_max(handle(), non_neg_integer()) -> ok | again | failed().
queue_set_max(_Handle, _Bytes) -> erlang:nif_error(not_loaded).

-spec queue_flush(handle()) -> ok | failed().
queue_flush(_Handle) -> erlang:nif_error(not_loaded).

-spec queue_unlinked(handle()) -> false | {true, binary()} | badarg().
queue_unlinked(_Handle) -> erlang:nif_error(not_loaded).

-spec queue_info(handle()) -> {ok, map()} | failed().
queue_info(_Handle) -> erlang:nif_error(not_loaded).

-spec queue_sync_join(handle()) -> ok | {wait, reference()} | again | failed().
queue_sync_join(_Handle) -> erlang:nif_error(not_loaded).

-spec queue_sync_leave(handle(), reference()) -> boolean() | badarg().
queue_sync_leave(_Handle, _Ref) -> erlang:nif_error(not_loaded).

-spec queue_interval(handle(), non_neg_integer()) -> ok | failed().
queue_interval(_Handle, _Ms) -> erlang:nif_error(not_loaded).

-spec counters_open(binary(), non_neg_integer(), non_neg_integer(),
                    non_neg_integer() | [{binary(), binary(), binary(), counter | gauge}]) ->
    {ok, handle()} | failed().
counters_open(_Name, _Flags, _Mode, _Asked) -> erlang:nif_error(not_loaded).

-spec counters_close(term()) -> ok | badarg().
counters_close(_Handle) -> erlang:nif_error(not_loaded).

-spec counters_get(term(), term()) -> integer() | failed_with().
counters_get(_Handle, _Index) -> erlang:nif_error(not_loaded).

-spec counters_put(term(), term(), term()) -> ok | failed_with().
counters_put(_Handle, _Index, _Value) -> erlang:nif_error(not_loaded).

-spec counters_add(term(), term(), term()) -> ok | failed_with().
counters_add(_Handle, _Index, _By) -> erlang:nif_error(not_loaded).

-spec counters_add_get(term(), term(), term()) -> integer() | failed_with().
counters_add_get(_Handle, _Index, _By) -> erlang:nif_error(not_loaded).

-spec counters_exchange(term(), term(), term()) -> integer() | failed_with().
counters_exchange(_Handle, _Index, _New) -> erlang:nif_error(not_loaded).

-spec counters_max(term(), term(), term()) -> integer() | failed_with().
counters_max(_Handle, _Index, _Value) -> erlang:nif_error(not_loaded).

-spec counters_min(term(), term(), term()) -> integer() | failed_with().
counters_min(_Handle, _Index, _Value) -> erlang:nif_error(not_loaded).

-spec counters_compare_exchange(term(), term(), term(), term()) -> ok | integer() | failed_with().
counters_compare_exchange(_Handle, _Index, _Expected, _New) -> erlang:nif_error(not_loaded).

-spec counters_allocate(term(), term(), term()) -> integer() | failed_with().
counters_allocate(_Handle, _Index, _N) -> erlang:nif_error(not_loaded).

-spec counters_sync(term()) -> ok | failed().
counters_sync(_Handle) -> erlang:nif_error(not_loaded).

-spec counters_info(term()) -> {ok, emmap_counters:info()} | failed().
counters_info(_Handle) -> erlang:nif_error(not_loaded).

-spec counters_unlinked(term()) -> false | {true, binary()} | badarg().
counters_unlinked(_Handle) -> erlang:nif_error(not_loaded).

-spec counters_names(term()) ->
    {ok, [{binary(), binary(), binary(), counter | gauge}]} | failed().
counters_names(_Handle) -> erlang:nif_error(not_loaded).

-spec counters_text(term()) -> {ok, binary()} | failed().
counters_text(_Handle) -> erlang:nif_error(not_loaded).
