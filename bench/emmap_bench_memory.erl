%% The memory of open handles: its growth by many, in a VM that does nothing else and has opened as
%% many before, since what the first ones need once is not theirs.
-module(emmap_bench_memory).

-export([each/4]).
-export([growth/4]). % called in another VM

%% Bytes for each of up to Most handles, each of a file of its own, of another kind of memory in each
%% row. Open and Close are `fun Module:Function/1'.
-spec each(string(), pos_integer(), fun((string()) -> term()), fun((term()) -> ok)) ->
    {N :: pos_integer(), #{rss | malloc | erlang | tables => float()}, Rows :: [[iodata()]]}.
each(Folder, Most, Open, Close) ->
    N = min(Most, handles_allowed()),
    emmap_bench:progress("memory of ~b handles~n", [N]),
    {ok, Peer} = emmap_bench:start_peer([], []),
    Grown = peer:call(Peer, ?MODULE, growth, [Folder, N, Open, Close], 120000),
    peer:stop(Peer),
    Each = maps:map(fun(_, Bytes) -> Bytes / N end, Grown),
    Kinds = [{"resident memory that is no file's (RssAnon)", rss}, {"malloc", malloc},
             {"erlang:memory(total)", erlang}, {"page tables (VmPTE), the mapping's", tables}],
    {N, Each, [[Name, integer_to_list(round(maps:get(Kind, Each)))] || {Name, Kind} <- Kinds]}.

%% Twice as many are open at the end.
handles_allowed() ->
    case string:to_integer(os:cmd("ulimit -n")) of
        {Limit, _} when is_integer(Limit) -> (Limit - 64) div 2;
        {error, _} -> infinity % unlimited; an atom is more than any number
    end.

-spec growth(string(), pos_integer(), fun((string()) -> term()), fun((term()) -> ok)) ->
    #{atom() => integer()}.
growth(Folder, N, Open, Close) ->
    Names = [filename:join(Folder, integer_to_list(I)) || I <- lists:seq(1, 2 * N)],
    ok = filelib:ensure_dir(hd(Names)),
    {FirstNames, MoreNames} = lists:split(N, Names),
    First = [Open(Name) || Name <- FirstNames],
    erlang:garbage_collect(),
    Before = memory(),
    More = [Open(Name) || Name <- MoreNames],
    erlang:garbage_collect(),
    After = memory(),
    [ok = Close(Handle) || Handle <- First ++ More],
    [ok = file:delete(Name) || Name <- Names], % so the names have not become garbage meanwhile
    maps:map(fun(Key, Bytes) -> Bytes - maps:get(Key, Before) end, After).

memory() ->
    #{rss => status("RssAnon"), tables => status("VmPTE"), malloc => emmap_bench_nif:allocated(),
      erlang => erlang:memory(total)}.

%% 0 where the system does not tell.
status(Name) ->
    case file:read_file("/proc/self/status") of
        {ok, Text} ->
            {match, [KiB]} = re:run(Text, [Name, ":\\s*(\\d+) kB"], [{capture, all_but_first, list}]),
            list_to_integer(KiB) * 1024;
        {error, _} ->
            0
    end.
