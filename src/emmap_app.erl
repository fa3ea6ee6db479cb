%% @private
%% @doc The application: no processes but an idle supervisor. Everything works without it being started;
%% only `stats_file' of its environment is looked at here, since in a release the modules are loaded before
%% there is an environment.
-module(emmap_app).
-behaviour(application).
-behaviour(supervisor).

-include_lib("kernel/include/logger.hrl").

-export([start/2, stop/1, init/1]).

-spec start(application:start_type(), term()) -> {ok, pid()} | {error, term()}.
start(_Type, _Args) ->
    case application:get_env(emmap, stats_file) of
        {ok, File} -> publish(File);
        undefined -> ok
    end,
    supervisor:start_link(?MODULE, []).

%% A file of figures that cannot be had is no reason to keep a node from starting.
publish(File) ->
    case emmap:publish_stats(File) of
        ok ->
            ok;
        {error, Reason} ->
            ?LOG_WARNING("emmap: stats_file ~tp: ~ts", [File, emmap:format_error(Reason)])
    end.

-spec stop(term()) -> ok.
stop(_State) ->
    case application:get_env(emmap, stats_file) of
        {ok, _} -> _ = emmap:unpublish_stats(), ok;
        undefined -> ok
    end.

-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    {ok, {#{}, []}}.
