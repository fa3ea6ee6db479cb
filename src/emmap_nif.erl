%% @private
%% @doc The stubs that the native library replaces, and nothing else.
-module(emmap_nif).

-export([file_open/4, file_close/1, file_resize/2, file_pread/3, file_pwrite/3, file_flush/1,
         file_sync/1, file_sync/3, file_info/1, stats/0, error_message/1]).
-export_type([handle/0, badarg/0]).

-nifs([file_open/4, file_close/1, file_resize/2, file_pread/3, file_pwrite/3, file_flush/1,
       file_sync/1, file_sync/3, file_info/1, stats/0, error_message/1]).
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

-spec error_message(atom()) -> binary() | undefined.
error_message(_Reason) -> erlang:nif_error(not_loaded).
