%% OTP's `queue' in a gen_server: a queue in memory, as one writes it at first.
-module(emmap_bench_fifo).
-behaviour(gen_server).

-export([start_link/0, push/2, take/1, push_many/2, take_many/2]).
-export([init/1, handle_call/3, handle_cast/2]).

-spec start_link() -> {ok, pid()}.
start_link() ->
    {ok, _} = gen_server:start_link(?MODULE, [], []).

-spec push(pid(), term()) -> ok.
push(Server, Term) -> gen_server:call(Server, {push, Term}, infinity).

-spec take(pid()) -> {ok, term()} | empty.
take(Server) -> gen_server:call(Server, take, infinity).

-spec push_many(pid(), [term()]) -> ok.
push_many(Server, Terms) -> gen_server:call(Server, {push_many, Terms}, infinity).

-spec take_many(pid(), non_neg_integer()) -> [term()].
take_many(Server, N) -> gen_server:call(Server, {take_many, N}, infinity).

-spec init([]) -> {ok, queue:queue()}.
init([]) ->
    {ok, queue:new()}.

-spec handle_call(term(), gen_server:from(), queue:queue()) -> {reply, term(), queue:queue()}.
handle_call({push, Term}, _From, Queue) ->
    {reply, ok, queue:in(Term, Queue)};
handle_call(take, _From, Queue) ->
    case queue:out(Queue) of
        {{value, Term}, Rest} -> {reply, {ok, Term}, Rest};
        {empty, _} -> {reply, empty, Queue}
    end;
handle_call({push_many, Terms}, _From, Queue) ->
    {reply, ok, lists:foldl(fun queue:in/2, Queue, Terms)};
handle_call({take_many, N}, _From, Queue) ->
    {Taken, Rest} = queue:split(min(N, queue:len(Queue)), Queue),
    {reply, queue:to_list(Taken), Rest}.

-spec handle_cast(term(), queue:queue()) -> {noreply, queue:queue()}.
handle_cast(_, Queue) ->
    {noreply, Queue}.
