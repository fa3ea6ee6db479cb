%% @private
%% @doc The application: an idle supervisor, and where `stats_file' is in its environment a process that publishes
%% the figures. Everything else works without it being started; that file is looked at here, since in a release
%% the modules are loaded before there is an environment.
-module(emmap_app).
-behaviour(application).
-behaviour(supervisor).

-export([start/2, stop/1, init/1]).

-spec start(application:start_type(), term()) -> {ok, pid()} | {error, term()}.
start(_Type, _Args) ->
    supervisor:start_link(?MODULE, application:get_env(emmap, stats_file, undefined)).

-spec stop(term()) -> ok.
stop(_State) ->
    ok.

-spec init(term()) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(undefined) ->
    {ok, {#{}, []}};
init(File) ->
    {ok, {#{}, [#{id => stats_file, start => {emmap_stats_file, start_link, [File]}}]}}.
