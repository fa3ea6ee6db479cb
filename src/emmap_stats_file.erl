%% @private
%% @doc Keeps the figures published into the file of `stats_file'. Looks every some seconds, which makes a file
%% anew that was deleted, and begins once another OS process has let go of it; tells the log whenever the
%% outcome changes.
-module(emmap_stats_file).
-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").

-export([start_link/1, init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-define(AGAIN_MS, 5000).

-record(state, {file :: term(), outcome = ok :: ok | {error, term()}}).

-spec start_link(term()) -> {ok, pid()} | ignore | {error, term()}.
start_link(File) ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, File, []).

%% A file that cannot be had, or a disk that does not answer, is no reason to keep a node from starting.
-spec init(term()) -> {ok, #state{}, {continue, publish}}.
init(File) ->
    process_flag(trap_exit, true),
    {ok, #state{file = File}, {continue, publish}}.

-spec handle_continue(publish, #state{}) -> {noreply, #state{}, timeout()}.
handle_continue(publish, State) ->
    {noreply, publish(State), ?AGAIN_MS}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}, timeout()}.
handle_info(_TimeoutOrAny, State) ->
    {noreply, publish(State), ?AGAIN_MS}.

-spec handle_call(term(), gen_server:from(), #state{}) -> {noreply, #state{}, timeout()}.
handle_call(_Request, _From, State) ->
    {noreply, State, ?AGAIN_MS}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}, timeout()}.
handle_cast(_Request, State) ->
    {noreply, State, ?AGAIN_MS}.

%% Once more by the file's name, as it may have been deleted since the last look.
-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, State) ->
    Last = publish(State),
    case emmap:unpublish_stats() of
        ok -> ok;
        Error -> _ = outcome(Error, Last), ok
    end.

publish(#state{file = File} = State) ->
    Outcome = try emmap:publish_stats(File) catch error:badarg -> {error, badarg} end,
    outcome(Outcome, State).

outcome(Same, #state{outcome = Same} = State) ->
    State;
outcome(ok, #state{file = File} = State) ->
    ?LOG_NOTICE("emmap: stats_file ~tp: the figures are published now", [File]),
    State#state{outcome = ok};
outcome({error, Reason} = Error, #state{file = File} = State) ->
    ?LOG_WARNING("emmap: stats_file ~tp: ~ts", [File, emmap:format_error(Reason)]),
    State#state{outcome = Error}.
