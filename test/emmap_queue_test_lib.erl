%% What the tests of queues share.
-module(emmap_queue_test_lib).

-include_lib("eunit/include/eunit.hrl").

-export([with_file/1, with_queue/2, file_of/1, opened/1, works/1, logged/1]).
-export([log/2]). % of a logger handler

with_file(Fun) ->
    emmap_test_lib:with_dir(fun(Dir) -> Fun(filename:join(Dir, "queue")) end).

%% The fun, with a queue of its own; opened with these arguments behind the name.
with_queue(Args, Fun) ->
    with_file(fun(File) ->
        {ok, Q} = apply(emmap_queue, open, [File | Args]),
        put({queue, Q}, File),
        try
            Fun(Q)
        after
            ok = emmap_queue:close(Q),
            erase({queue, Q})
        end
    end).

file_of(Q) ->
    get({queue, Q}).

works(Q) ->
    ok = emmap_queue:push_many(Q, [<<"it">>, <<"works">>]),
    ?assertEqual([<<"it">>, <<"works">>], emmap_queue:take_many(Q, 10)).

%% What the fun answers, and what it had logged.
logged(Fun) ->
    ok = logger:add_handler(?MODULE, ?MODULE, #{to => self()}),
    try
        {Fun(), flush()}
    after
        ok = logger:remove_handler(?MODULE)
    end.

log(#{level := Level, msg := {Format, Args}}, #{to := To}) when is_list(Args) ->
    To ! {?MODULE, Level, lists:flatten(io_lib:format(Format, Args))};
log(_Event, _Config) ->
    ok.

flush() ->
    receive {?MODULE, Level, Text} -> [{Level, Text} | flush()] after 0 -> [] end.

opened(File) ->
    {ok, Q} = emmap_queue:open(File),
    Q.
