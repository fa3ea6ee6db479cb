%% @private
%% @doc The process that has a queue, of emmap_queue:start_link/4.
-module(emmap_queue_server).
-behaviour(gen_server).

-export([start_link/4]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-spec start_link(atom(), file:name_all(), non_neg_integer(), emmap_queue:options()) ->
    {ok, pid()} | {error, term()}.
start_link(Name, File, Size, Options) ->
    case gen_server:start_link({local, Name}, ?MODULE, {File, Size, Options}, []) of
        {error, {shutdown, Reason}} -> {error, Reason};
        Other -> Other
    end.

-spec init({file:name_all(), non_neg_integer(), emmap_queue:options()}) ->
    {ok, emmap_queue:queue()} | {stop, {shutdown, term()}}.
init({File, Size, Options}) ->
    process_flag(trap_exit, true),
    case emmap_queue:open(File, Size, Options) of
        {ok, Q} -> {ok, Q};
        {error, Reason} ->
            %% Who starts it is told, and does not have to die of it.
            [Parent | _] = get('$ancestors'),
            unlink(case is_atom(Parent) of true -> whereis(Parent); false -> Parent end),
            {stop, {shutdown, Reason}}
    end.

-spec handle_call(term(), gen_server:from(), emmap_queue:queue()) ->
    {reply, term(), emmap_queue:queue()}.
handle_call({push, Term}, _From, Q) -> {reply, emmap_queue:push(Q, Term), Q};
handle_call(pop, _From, Q) -> {reply, run(fun() -> emmap_queue:pop(Q) end), Q};
handle_call({try_pop, F}, _From, Q) -> {reply, run(fun() -> emmap_queue:try_pop(Q, F) end), Q};
handle_call(peek_front, _From, Q) -> {reply, run(fun() -> emmap_queue:peek_front(Q) end), Q};
handle_call(info, _From, Q) -> {reply, run(fun() -> emmap_queue:info(Q) end), Q};
handle_call(_Other, _From, Q) -> {reply, {error, einval}, Q}.

%% Raised where it was asked for; this process lives on.
run(F) ->
    try
        {value, F()}
    catch
        Class:Reason:Stack -> {raised, Class, Reason, Stack}
    end.

-spec handle_cast(term(), emmap_queue:queue()) -> {noreply, emmap_queue:queue()}.
handle_cast(_Other, Q) -> {noreply, Q}.

%% Also the exits of others: that of who started it does not come here.
-spec handle_info(term(), emmap_queue:queue()) -> {noreply, emmap_queue:queue()}.
handle_info(_Other, Q) -> {noreply, Q}.

-spec terminate(term(), emmap_queue:queue()) -> ok.
terminate(_Reason, Q) ->
    emmap_queue:close(Q).
