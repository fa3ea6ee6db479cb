%% @doc Persistent FIFO queues: Erlang terms in a memory-mapped file, which outlive the process, the
%% VM and, after {@link sync/1}, a power cut.
%%
%% ```
%% {ok, Q} = emmap_queue:open("/var/lib/shop/orders"),
%% ok = emmap_queue:push(Q, {order, 17, <<"tea">>}),
%% {ok, {order, 17, <<"tea">>}} = emmap_queue:take(Q),
%% empty = emmap_queue:take(Q).
%% '''
%%
%% Any number of processes use one queue, with no server in between, and with `multi_os' any number
%% of OS processes; each message goes to one of them, and the messages of one producer stay in their
%% order. {@link try_pop/2} takes a message only if its fun returns: what failed is tried again.
%%
%% <h3>What is kept</h3>
%% A push that has answered `ok' survives the end of the VM at any moment. To survive a power cut
%% too it must be followed by {@link sync/1}, or the queue be opened with `durability => sync'
%% (each push waits for the disk, together with others that do) or `{interval, Ms}'. A take is at
%% most once; after a power cut one that no later sync covered may come again. {@link try_pop/2} and
%% {@link pop/3} are at least once: who dies when the fun has returned may not have told the queue yet.
%%
%% <h3>Errors</h3>
%% Calls whose result is a bare term ({@link pop/1}, {@link length/1}, ...) raise
%% `error({emmap, Reason})'; the others answer `{error, Reason}': `closed', `full', `too_big',
%% `{sync_failed, Posix}', `truncated', `busy' (another OS process, or the writer of a large message, has
%% held the queue up for `lock_timeout'), `unsafe_term', `corrupt', or as `file' has it. See {@link emmap:format_error/1}.
%%
%% `corrupt' of a single call: the message that it took is whole, and no term; it is gone. Of all calls:
%% the queue's own words make no sense; close it, and the next open recovers. A message that is damaged is
%% passed, and counted by {@link info/1} as lost. `enomem' of a push: the file has grown beyond the addresses
%% that it has been given (1 TiB; less where more than seven queues are open); open it again.
%%
%% A mistake of the caller's raises `badarg', and the shell names the argument.
%%
%% <h3>Coming from version 2</h3>
%% The calls and what they answer are those of 2.1.3. A queue is in its file, unless `private' is
%% given; `size' counts for a new file only; errors are atoms. A file of 2.1.3 is `{error, old_format}'.
%% `metadata/1' has positions that rise for ever. What a {@link try_pop/2} works on is in the queue, and is
%% not what others see as its first message.
-module(emmap_queue).

-export([open/1, open/2, open/3, close/1, flush/1, sync/1, set/2, info/1, metadata/1]).
-export([push/2, push/3, push_many/2, take/1, take_many/2, pop/1, pop/3, try_pop/2]).
-export([pop_and_purge/1, try_pop_and_purge/2, peek_front/1, peek_back/1, peek/3, rpeek/3]).
-export([is_empty/1, length/1, bytes/1, purge/1, erase/1]).
-export([start_link/4, child_spec/1, enqueue/2, dequeue/1, try_dequeue/2, inspect/1]).
-export_type([queue/0, options/0, option/0, reason/0, info/0]).

-record(emmap_queue, {handle :: emmap_nif:handle(), durability = process :: process | sync,
                      compressed = 0 :: 0..9, safe = false :: boolean(),
                      lock_timeout = 5000 :: pos_integer()}).

-opaque queue() :: #emmap_queue{}.
-type reason() :: atom() | {sync_failed, atom()}.
-type options() :: #{option() => term()} | [atom() | {atom(), term()}].
-type option() :: create | size | max_size | max_message | durability | mode | compressed | safe
                | lock_timeout | multi_os | fixed_size | private | auto_unlink | force.
%% <ul>
%% <li>`create' (true): make the file, and its folder, if it is missing.</li>
%% <li>`size' (1 MiB): of a new file, a wish, from which the size of its segments follows. With
%%     `fixed_size' what its messages may take, its max_size.</li>
%% <li>`max_size' (infinity; of an old file what it had): what the messages may take in the file, with 48 to
%%     55 bytes for each; beyond it a push is `{error, full}'.</li>
%% <li>`max_message' (half of max_size, at most 1 GiB): of a message's external term format, before it
%%     is deflated; beyond it a push is `{error, too_big}'. Never more than half of max_size. Of several handles
%%     of one VM the first has its say.</li>
%% <li>`durability' (process): `process', `sync', or `{interval, Ms}': a sync each Ms milliseconds
%%     while there is something to sync.</li>
%% <li>`compressed' (0): the level, 1 to 9, at which pushes of this handle are deflated, if they
%%     become smaller by it.</li>
%% <li>`safe' (true with multi_os, else false): make no new atoms when a message is decoded. What
%%     would make one stays first: `{error, unsafe_term}', until a handle without it takes it.</li>
%% <li>`lock_timeout' (5000): how many milliseconds a call of this handle waits for another OS process that
%%     keeps the queue, or for the writer of a large message, before it answers `{error, busy}'. (What a call
%%     has begun, such as a large push, it ends within 5 s of its own, a sync within 10 s.)</li>
%% <li>`multi_os' (false): other OS processes may open the queue at the same time, with this option.
%%     Without it a second one gets `{error, locked}'. A second open in the same VM is
%%     another handle on the same queue, and may have this option only if the first has it.</li>
%% <li>`fixed_size' (false): a new file takes all its space at once and keeps it.</li>
%% <li>`private' (false): changes stay in this VM's memory, for this handle alone.</li>
%% <li>`auto_unlink' (false): the file is deleted at close.</li>
%% <li>`mode' (8#600): of a file that is made, under the umask. `force' (false): open it on a network file
%%     system too.</li>
%% <li>Of version 2: `{chmod, Mode}' is `mode'. `read', `write', `shared' are implied. `{max_inc_size, N}',
%%     `lock', `nolock', `direct', `fit', `populate', `nonblock', `noreserve', `nocache', `debug' are without effect.</li>
%% </ul>
%% In a list the first of several counts, and `Key' alone is `{Key, true}'.
-type info() :: #{atom() => term()}.

-define(IS_QUEUE(H), #emmap_queue{handle = H}).
-define(BADARG(Bad, Args), error(badarg, Args, emmap_error:info(Bad))).
-define(NO_QUEUE(Args), ?BADARG({badarg, 1, not_a_queue}, Args)).
-define(SYNC_WAIT_MS, 300).
-define(MOST_BYTES, 1 bsl 30). % of a message

%%------------------------------------------------------------------------------ open and close

%% @equiv open(File, #{})
-spec open(file:name_all()) -> {ok, queue()} | {error, reason()}.
open(File) -> open(File, #{}).

%% @doc Opens a queue, after a crash too, and makes it if it is missing. After a power cut or on a
%% copied file what it holds is checked first; {@link info/1} and the log say what was found.
%%
%% `{error, Reason}': `locked' (another OS process has it open; the log says which), `foreign' (a
%% file of another kind), `old_format' (a queue of emmap 2), `corrupt', `truncated': the file is left as
%% it was; `enospc', `eacces', ...
-spec open(file:name_all(), options()) -> {ok, queue()} | {error, reason()}.
open(File, Options) ->
    case open_any(File, Options, []) of
        {badarg, _, _} = Bad -> ?BADARG(Bad, [File, Options]);
        Result -> Result
    end.

%% @doc As {@link open/2}, with the size as version 2 has it: a wish for a new file, without meaning for an
%% old one. 0 is fine.
-spec open(file:name_all(), non_neg_integer(), options()) -> {ok, queue()} | {error, reason()}.
open(File, Size, Options) when is_integer(Size), Size >= 0 ->
    case open_any(File, Options, [{size, Size}]) of
        {badarg, 2, Why} -> ?BADARG({badarg, 3, Why}, [File, Size, Options]);
        {badarg, _, _} = Bad -> ?BADARG(Bad, [File, Size, Options]);
        Result -> Result
    end;
open(File, Size, Options) ->
    ?BADARG({badarg, 2, not_an_integer}, [File, Size, Options]).

open_any(File, Options, Size) when is_map(Options) ->
    open_any(File, maps:to_list(Options), Size);
open_any(File, Options, Size) ->
    case {emmap_name:native(File), options(Options, Size, #{})} of
        {error, _} -> {badarg, 1, not_a_name};
        {_, {error, Bad}} -> {badarg, 2, Bad};
        {Name, {ok, Map}} -> open_file(Name, Map)
    end.

open_file(Name, Map) ->
    Get = fun(Key, Default) -> maps:get(Key, Map, Default) end,
    Flags = lists:sum([Bit || {Key, Bit, Default} <- [{create, 1, true}, {multi_os, 2, false},
                                                      {fixed_size, 4, false}, {private, 8, false},
                                                      {auto_unlink, 16, false}, {force, 32, false}],
                              Get(Key, Default)]),
    Safe = Get(safe, Get(multi_os, false)),
    Max = case Get(max_size, undefined) of
              undefined -> 0;
              infinity -> 16#FFFFFFFFFFFFFFFF;
              Bytes -> Bytes
          end,
    _ = Get(create, true) andalso filelib:ensure_dir(Name),
    case emmap_nif:queue_open(Name, Flags, Get(mode, 0), Get(size, 0), Max, Get(max_message, 0), Safe) of
        {ok, Handle, _Existed} ->
            opened(Name, Handle, Get(durability, process),
                   #emmap_queue{handle = Handle, compressed = Get(compressed, 0), safe = Safe,
                                lock_timeout = Get(lock_timeout, 5000)});
        {error, locked} = Error ->
            logger:warning("emmap_queue: ~ts is open in OS process ~s", [Name, owner(Name)]),
            Error;
        Other ->
            Other
    end.

opened(Name, Handle, Durability, Q) ->
    case durability(Handle, Durability) of
        ok when Durability =:= sync -> told(Name, Q#emmap_queue{durability = sync});
        ok -> told(Name, Q);
        {error, _} = Error -> _ = emmap_nif:queue_close(Handle), Error
    end.

durability(_Handle, process) -> ok;
durability(Handle, sync) -> emmap_nif:queue_interval(Handle, 0);
durability(Handle, {interval, Ms}) -> emmap_nif:queue_interval(Handle, Ms).

%% The number of the first participant, who is the only one where there may be one.
owner(Name) ->
    Read = fun(Fd) -> file:pread(Fd, 16384 + 24, 8) end,
    case file:open(Name, [read, raw, binary]) of
        {ok, Fd} ->
            Pid = Read(Fd),
            _ = file:close(Fd),
            case Pid of
                {ok, <<N:64/little>>} -> integer_to_list(N);
                _ -> "?"
            end;
        {error, _} -> "?"
    end.

told(Name, Q) ->
    case info(Q) of
        #{recovered := true, length := N, lost := Lost} ->
            Level = case Lost of 0 -> notice; _ -> warning end,
            logger:log(Level, "emmap_queue: ~ts was recovered: ~b messages, ~b lost", [Name, N, Lost]);
        _ ->
            ok
    end,
    {ok, Q}.

%% The first of several counts, and the size of open/3 last.
options([], [], Map) ->
    {ok, Map};
options([], Last, Map) ->
    options(Last, [], Map);
options([Key | Rest], Last, Map) when is_atom(Key) ->
    options([{Key, true} | Rest], Last, Map);
options([{chmod, Mode} | Rest], Last, Map) ->
    options([{mode, Mode} | Rest], Last, Map);
options([{Key, Value} = Option | Rest], Last, Map) ->
    case option(Key, Value) of
        ok -> options(Rest, Last, maps:merge(#{Key => Value}, Map));
        ignored -> options(Rest, Last, Map);
        unknown -> {error, {option, Option}};
        bad -> {error, {value, Option}}
    end;
options([Other | _], _Last, _Map) ->
    {error, {option, Other}};
options(_, _Last, _Map) ->
    {error, not_a_list}.

-define(IS_SIZE(N), is_integer(N) andalso N >= 0 andalso N < 1 bsl 64 - 1).

option(Key, Value) when Key =:= create; Key =:= multi_os; Key =:= fixed_size; Key =:= private;
                        Key =:= auto_unlink; Key =:= force; Key =:= safe ->
    is(is_boolean(Value));
option(size, N) -> is(?IS_SIZE(N));
option(max_size, N) -> is(N =:= infinity orelse ?IS_SIZE(N) andalso N > 0);
option(max_message, N) -> is(?IS_SIZE(N) andalso N > 0);
option(mode, N) -> is(is_integer(N) andalso N > 0 andalso N =< 8#7777);
option(compressed, N) -> is(is_integer(N) andalso N >= 0 andalso N =< 9);
option(lock_timeout, Ms) -> is(is_integer(Ms) andalso Ms > 0 andalso Ms < 1 bsl 32);
option(durability, {interval, Ms}) -> is(is_integer(Ms) andalso Ms > 0 andalso Ms < 1 bsl 32);
option(durability, D) -> is(D =:= process orelse D =:= sync);
option(max_inc_size, N) -> ignored(?IS_SIZE(N));
option(Key, Value) when Key =:= read; Key =:= write; Key =:= shared; Key =:= lock; Key =:= nolock;
                        Key =:= direct; Key =:= fit; Key =:= populate; Key =:= nonblock;
                        Key =:= noreserve; Key =:= nocache; Key =:= debug ->
    ignored(Value =:= true);
option(_, _) -> unknown.

is(true) -> ok;
is(false) -> bad.

ignored(true) -> ignored;
ignored(false) -> bad.

%% @doc Ends the use of a handle; again: ok. The queue closes with its last handle.
-spec close(queue()) -> ok.
close(?IS_QUEUE(H)) -> emmap_nif:queue_close(H);
close(Q) -> ?NO_QUEUE([Q]).

%% @doc Starts to write what is new to the disk, and does not wait for it.
-spec flush(queue()) -> ok | {error, reason()}.
flush(?IS_QUEUE(H)) -> emmap_nif:queue_flush(H);
flush(Q) -> ?NO_QUEUE([Q]).

%% @doc Waits until all that was pushed and taken before is on the disk.
%%
%% After `{error, {sync_failed, Reason}}' all syncs of this queue fail, until it has been closed and
%% opened again by all: the disk has refused what it was given.
-spec sync(queue()) -> ok | {error, reason()}.
sync(?IS_QUEUE(H) = Q) -> _ = tell_unlinked(H), sync_pushed(Q);
sync(Q) -> ?NO_QUEUE([Q]).

tell_unlinked(H) ->
    emmap_name:tell_lost(?MODULE, emmap_nif:queue_unlinked(H)).

%% @doc Changes a queue in use: `#{max_size => Bytes | infinity}'. What is in it stays, even if it is more.
%% `{error, fixed_size}': it was made so.
-spec set(queue(), #{max_size => pos_integer() | infinity}) -> ok | {error, reason()}.
set(?IS_QUEUE(H) = Q, Options) when is_map(Options) ->
    case maps:to_list(maps:without([max_size], Options)) of
        [] -> ok;
        [Option | _] -> ?BADARG({badarg, 2, {option, Option}}, [Q, Options])
    end,
    case Options of
        #{max_size := infinity} ->
            emmap_nif:queue_set_max(H, 16#FFFFFFFFFFFFFFFF);
        #{max_size := Max} ->
            case option(max_size, Max) of
                ok -> emmap_nif:queue_set_max(H, Max);
                bad -> ?BADARG({badarg, 2, {value, {max_size, Max}}}, [Q, Options])
            end;
        #{} ->
            ok
    end;
set(?IS_QUEUE(_) = Q, Options) ->
    ?BADARG({badarg, 2, not_a_map}, [Q, Options]);
set(Q, Options) ->
    ?NO_QUEUE([Q, Options]).

%% @doc What is known of a queue, or of the one that a server of {@link start_link/4} has: `length',
%% `bytes' (that the messages take), `claimed' (how many are worked on by {@link try_pop/2}), `max_size',
%% `max_message', `file_size', `allocated' (on the disk), `segments', `segment_size', `oldest' (when the
%% first message was pushed, in ms since 1970), `lost' (messages found damaged, or no term), `recovered' (this open had to
%% check the file), `sync_error', `linked' (the file still has its name; if it loses it, the log says so), `multi_os', `fixed_size';
%% and `head', `tail', `next_tail', `size' as {@link metadata/1}.
-spec info(queue() | pid() | atom()) -> info().
info(?IS_QUEUE(H)) ->
    case emmap_nif:queue_info(H) of
        {ok, #{tail := Tail, file_size := Size, linked := Linked} = Info} ->
            _ = Linked orelse tell_unlinked(H),
            Info#{next_tail => Tail, size => Size};
        {error, Reason} ->
            error({emmap, Reason})
    end;
info(Server) when is_pid(Server); is_atom(Server) ->
    answer(gen_server:call(Server, info, infinity));
info(Q) ->
    ?NO_QUEUE([Q]).

%% @doc As version 2: positions in the stream of messages, and the file's size.
-spec metadata(queue()) -> #{head | tail | next_tail | size => non_neg_integer()}.
metadata(Q) ->
    maps:with([head, tail, next_tail, size], info(Q)).

%%---------------------------------------------------------------------------------------- push

%% @doc Appends a term. `{error, full}': max_size; `{error, too_big}': max_message; `{error,
%% enospc}': the disk is full, and the queue goes on when it has room again. After `{error, {sync_failed, _}}'
%% the message may be taken all the same.
-spec push(queue(), term()) -> ok | {error, reason()}.
push(#emmap_queue{handle = H, durability = process, compressed = 0} = Q, Term) ->
    case emmap_nif:queue_push(H, Term) of
        ok -> ok;
        Other -> pushed(Other, Q, fun() -> emmap_nif:queue_push(H, Term) end)
    end;
push(#emmap_queue{handle = H, compressed = 0} = Q, Term) ->
    Push = fun() -> emmap_nif:queue_push(H, Term) end,
    pushed(Push(), Q, Push);
push(#emmap_queue{compressed = Level} = Q, Term) ->
    push(Q, Term, Level);
push(Q, Term) ->
    ?NO_QUEUE([Q, Term]).

%% @doc As {@link push/2}, deflated at this level, 0 (not) to 9.
-spec push(queue(), term(), 0..9) -> ok | {error, reason()}.
push(?IS_QUEUE(_) = Q, Term, 0) ->
    push(Q#emmap_queue{compressed = 0}, Term);
push(?IS_QUEUE(H) = Q, Term, Level) when is_integer(Level), Level >= 1, Level =< 9 ->
    case deflate(Term, Level) of
        larger ->
            push(Q#emmap_queue{compressed = 0}, Term);
        {error, _} = Error ->
            Error;
        Data ->
            Push = fun() -> emmap_nif:queue_push_deflated(H, Data) end,
            pushed(Push(), Q, Push)
    end;
push(?IS_QUEUE(_) = Q, Term, Level) ->
    ?BADARG({badarg, 3, not_a_level}, [Q, Term, Level]);
push(Q, Term, Level) ->
    ?NO_QUEUE([Q, Term, Level]).

pushed(again, Q, Push) -> pushed(again(Push, Q), Q, Push);
pushed(ok, #emmap_queue{durability = sync} = Q, _Push) -> sync_pushed(Q);
pushed(Result, _Q, _Push) -> Result.

%% Together with the others that wait for the disk: one syncs for all that have come by then.
sync_pushed(?IS_QUEUE(H) = Q) ->
    case emmap_nif:queue_sync_join(H) of
        {wait, Ref} -> synced(Q, Ref);
        again -> with_again(fun() -> sync_pushed(Q) end, Q);
        Result -> Result
    end.

%% Who was to be the next to sync may have died.
synced(?IS_QUEUE(H) = Q, Ref) ->
    receive
        {emmap_queue, Ref, again} -> sync_pushed(Q);
        {emmap_queue, Ref, Result} -> Result
    after ?SYNC_WAIT_MS ->
        case emmap_nif:queue_sync_leave(H, Ref) of
            true -> sync_pushed(Q);
            false -> receive {emmap_queue, Ref, again} -> sync_pushed(Q);
                             {emmap_queue, Ref, Result} -> Result
                     end
        end
    end.

%% @doc Appends the terms of a list, in their order. `{error, Reason}': none of them was; `{error, {N,
%% Reason}}': the first N are in the queue. Up to 32 KiB, or 256 terms, appear at once.
-spec push_many(queue(), [term()]) -> ok | {error, reason() | {pos_integer(), reason()}}.
push_many(#emmap_queue{compressed = Level} = Q, Terms) ->
    case is_proper(Terms) of
        true when Level > 0 -> push_each(Q, Terms, 0);
        true -> pushed_many(push_list(Q, Terms, 0), Q);
        false -> ?BADARG({badarg, 2, not_terms}, [Q, Terms])
    end;
push_many(Q, Terms) ->
    ?NO_QUEUE([Q, Terms]).

is_proper(List) -> is_list(List) andalso try erlang:length(List) >= 0 catch error:badarg -> false end.

%% Those that went are promised to be on the disk, even if others did not.
pushed_many({error, Reason}, _Q) when not is_tuple(Reason) ->
    {error, Reason};
pushed_many(Result, #emmap_queue{durability = sync} = Q) ->
    case sync_pushed(Q) of
        ok -> Result;
        {error, _} = Error -> Error
    end;
pushed_many(Result, _Q) ->
    Result.

push_list(Q, Terms, Done) ->
    push_list(Q, Terms, Done, 0, until(Q)).

push_list(?IS_QUEUE(H) = Q, Terms, Done, Tries, Until) ->
    case emmap_nif:queue_push_many(H, Terms, Done) of
        {again, Rest, N} when N > Done -> % some went: a new wait
            push_list(Q, Rest, N);
        {again, Rest, N} ->
            case erlang:monotonic_time(millisecond) > Until of
                true when N > 0 -> {error, {N, busy}};
                true -> {error, busy};
                false -> wait(Tries), push_list(Q, Rest, N, Tries + 1, Until)
            end;
        Result ->
            Result
    end.

push_each(_Q, [], _N) ->
    ok;
push_each(Q, [Term | Terms], N) ->
    case push(Q, Term) of
        ok -> push_each(Q, Terms, N + 1);
        {error, _} = Error when N =:= 0 -> Error;
        {error, Reason} -> {error, {N, Reason}}
    end.

%%---------------------------------------------------------------------------------------- take

%% @doc Takes the first message.
-spec take(queue()) -> {ok, term()} | empty | {error, reason()}.
take(?IS_QUEUE(H) = Q) ->
    case emmap_nif:queue_take(H) of
        {ok, _} = Taken -> Taken;
        empty -> empty;
        again -> taken(again(fun() -> emmap_nif:queue_take(H) end, Q), Q);
        Other -> taken(Other, Q)
    end;
take(Q) ->
    ?NO_QUEUE([Q]).

taken({deflated, Deflated}, Q) -> told_inflated(Deflated, Q);
taken(claim, Q) -> take_claimed(claim(Q), Q);
taken({deflated, Claim, Deflated}, Q) -> take_claimed(claimed(Claim, Deflated, Q), Q);
taken(Result, _Q) -> Result.

%% A message that is not taken before it has been seen into.
take_claimed(Claimed, Q) ->
    case Claimed of
        {ok, Claim, Term} ->
            case ack(Claim, Q) of
                ok -> {ok, Term};
                {error, _} = Error -> Error
            end;
        Other ->
            Other
    end.

%% @doc Takes up to N messages, or up to `#{count => N, bytes => Bytes}': at least one, if there is
%% one. `[]': the queue is empty. The bytes are those of the external term format, or what they were
%% deflated to. `{error, Reason}': none was taken.
-spec take_many(queue(), non_neg_integer() | #{count => non_neg_integer(), bytes => pos_integer()}) ->
    [term()] | {error, reason()}.
take_many(?IS_QUEUE(_) = Q, N) when is_integer(N), N >= 0 ->
    take_list(Q, N, infinity, []);
take_many(?IS_QUEUE(_) = Q, #{} = Limits) ->
    case [Limit || Limit <- maps:to_list(Limits), limit(Limit) =/= ok] of
        [] -> take_list(Q, maps:get(count, Limits, infinity), maps:get(bytes, Limits, infinity), []);
        [Limit | _] -> ?BADARG({badarg, 2, {limit(Limit), Limit}}, [Q, Limits])
    end;
take_many(?IS_QUEUE(_) = Q, Other) ->
    ?BADARG({badarg, 2, not_a_number}, [Q, Other]);
take_many(Q, N) ->
    ?NO_QUEUE([Q, N]).

limit({count, N}) when is_integer(N), N >= 0 -> ok;
limit({bytes, N}) when is_integer(N), N > 0 -> ok;
limit({Key, _}) when Key =:= count; Key =:= bytes -> value;
limit(_) -> option.

-define(BATCH, 256).
-define(BATCH_BYTES, 65536).

%% An atom is more than any number.
take_list(_Q, 0, _Bytes, Taken) ->
    lists:reverse(Taken);
take_list(?IS_QUEUE(H) = Q, N, Bytes, Taken) ->
    case with_again(fun() -> emmap_nif:queue_take_many(H, min(N, ?BATCH), min(Bytes, ?BATCH_BYTES)) end, Q) of
        {ok, Terms, _} when Taken =:= [], erlang:length(Terms) =:= N ->
            Terms;
        {ok, Terms, Used} ->
            take_more(Q, less(N, erlang:length(Terms)), less(Bytes, Used), lists:reverse(Terms, Taken));
        {mixed, List, Used} ->
            Terms = values(List, Q),
            take_more(Q, less(N, erlang:length(Terms)), less(Bytes, Used), lists:reverse(Terms, Taken));
        {large, Len} when Taken =:= []; Len =< Bytes ->
            take_one(take(Q), Q, N, less(Bytes, Len), Taken);
        {claim, Len} ->
            take_one(take_claimed(claim(Q), Q), Q, N, less(Bytes, Len), Taken);
        {deflated, Claim, Deflated} ->
            take_one(take_claimed(claimed(Claim, Deflated, Q), Q), Q, N, less(Bytes, byte_size(Deflated)),
                     Taken);
        {error, _} = Error when Taken =:= [] ->
            Error;
        _ -> % empty, large, an error for the next call
            lists:reverse(Taken)
    end.

take_one({ok, Term}, Q, N, Bytes, Taken) -> take_more(Q, less(N, 1), Bytes, [Term | Taken]);
take_one({error, _} = Error, _Q, _N, _Bytes, []) -> Error;
take_one(_, _Q, _N, _Bytes, Taken) -> lists:reverse(Taken).

take_more(_Q, _N, Bytes, Taken) when Bytes =< 0 -> lists:reverse(Taken);
take_more(Q, N, Bytes, Taken) -> take_list(Q, N, Bytes, Taken).

less(infinity, _By) -> infinity;
less(N, By) -> N - By.

%% What is no term has been told.
values(List, Q) ->
    lists:flatmap(fun({ok, Term}) ->
                          [Term];
                     ({deflated, Deflated}) ->
                          case told_inflated(Deflated, Q) of
                              {ok, Term} -> [Term];
                              {error, _} -> []
                          end
                  end, List).

%% @doc Takes the first message; `nil': the queue is empty (or the message is `nil': see {@link
%% take/1}).
-spec pop(queue()) -> term() | nil.
pop(Q) -> value(take(Q)).

%% @doc As {@link pop/1}: space is given back in any case.
-spec pop_and_purge(queue()) -> term() | nil.
pop_and_purge(Q) -> pop(Q).

%% @doc Takes messages as long as `F(Message, Acc)' answers `{cont, Acc}'; the one for which it
%% answers `{halt, Acc}', or raises, stays.
-spec pop(queue(), Acc, fun((term(), Acc) -> {cont | halt, Acc})) -> Acc.
pop(?IS_QUEUE(_) = Q, Acc, F) when is_function(F, 2) ->
    case claimed(Q, fun(Term) ->
                            case F(Term, Acc) of
                                {cont, _} = Cont -> {ack, Cont};
                                {halt, _} = Halt -> {return, Halt}
                            end
                    end) of
        empty -> Acc;
        {cont, Next} -> pop(Q, Next, F);
        {halt, Last} -> Last
    end;
pop(?IS_QUEUE(_) = Q, Acc, F) ->
    ?BADARG({badarg, 3, not_a_fun}, [Q, Acc, F]);
pop(Q, Acc, F) ->
    ?NO_QUEUE([Q, Acc, F]).

%% @doc `F(Message)' for the first message, which leaves the queue when F returns. If F raises, or its
%% process or VM dies, the message is the first again. Meanwhile others take the next ones, and F may push and
%% pop itself. `nil': the queue is empty, but for what others work on. If the queue is closed before F returns,
%% that raises `{emmap, closed}', and the message stays.
-spec try_pop(queue(), fun((term()) -> Result)) -> Result | nil.
try_pop(?IS_QUEUE(_) = Q, F) when is_function(F, 1) ->
    case claimed(Q, fun(Term) -> {ack, {result, F(Term)}} end) of
        empty -> nil;
        {result, Result} -> Result
    end;
try_pop(?IS_QUEUE(_) = Q, F) ->
    ?BADARG({badarg, 2, not_a_fun}, [Q, F]);
try_pop(Q, F) ->
    ?NO_QUEUE([Q, F]).

%% @doc As {@link try_pop/2}: space is given back in any case.
-spec try_pop_and_purge(queue(), fun((term()) -> Result)) -> Result | nil.
try_pop_and_purge(Q, F) -> try_pop(Q, F).

claimed(Q, F) ->
    case claim(Q) of
        {ok, Claim, Term} -> run(Q, Claim, Term, F);
        empty -> empty;
        {error, Reason} -> error({emmap, Reason})
    end.

claim(?IS_QUEUE(H) = Q) ->
    case with_again(fun() -> emmap_nif:queue_claim(H) end, Q) of
        {deflated, Claim, Deflated} -> claimed(Claim, Deflated, Q);
        Other -> Other
    end.

claimed(Claim, Deflated, Q) ->
    case told_inflated(Deflated, Q) of
        {ok, Term} -> {ok, Claim, Term};
        {error, corrupt} = Error -> _ = ack(Claim, Q), Error;
        {error, _} = Error -> _ = return(Claim, Q), Error
    end.

ack(Claim, Q) -> with_again(fun() -> emmap_nif:queue_ack(Claim) end, Q).
return(Claim, Q) -> with_again(fun() -> emmap_nif:queue_return(Claim) end, Q).

run(Q, Claim, Term, F) ->
    try F(Term) of
        {ack, Result} -> ended(ack(Claim, Q), Result);
        {return, Result} -> ended(return(Claim, Q), Result)
    catch
        Class:Reason:Stack ->
            _ = return(Claim, Q),
            erlang:raise(Class, Reason, Stack)
    end.

ended(ok, Result) -> Result;
ended({error, Reason}, _Result) -> error({emmap, Reason}).

%%---------------------------------------------------------------------------------------- look

%% @doc The first message that nobody works on, which stays; `nil': the queue is empty.
-spec peek_front(queue()) -> term() | nil.
peek_front(?IS_QUEUE(_) = Q) -> first(look(Q, false, 0, 0));
peek_front(Q) -> ?NO_QUEUE([Q]).

%% @doc The last message that nobody works on, which stays; `nil': the queue is empty.
-spec peek_back(queue()) -> term() | nil.
peek_back(?IS_QUEUE(_) = Q) -> first(look(Q, true, 0, 0));
peek_back(Q) -> ?NO_QUEUE([Q]).

first(empty) -> nil;
first({ok, Term, _, _}) -> Term.

%% @doc Folds over the messages, first to last, as long as `F(Message, Acc)' answers `{cont, Acc}'.
%% They stay. What others take or push meanwhile may be seen or not.
-spec peek(queue(), Acc, fun((term(), Acc) -> {cont | halt, Acc})) -> Acc.
peek(?IS_QUEUE(_) = Q, Acc, F) when is_function(F, 2) -> fold(Q, false, 0, 0, Acc, F);
peek(?IS_QUEUE(_) = Q, Acc, F) -> ?BADARG({badarg, 3, not_a_fun}, [Q, Acc, F]);
peek(Q, Acc, F) -> ?NO_QUEUE([Q, Acc, F]).

%% @doc As {@link peek/3}, last to first.
-spec rpeek(queue(), Acc, fun((term(), Acc) -> {cont | halt, Acc})) -> Acc.
rpeek(?IS_QUEUE(_) = Q, Acc, F) when is_function(F, 2) -> fold(Q, true, 0, 0, Acc, F);
rpeek(?IS_QUEUE(_) = Q, Acc, F) -> ?BADARG({badarg, 3, not_a_fun}, [Q, Acc, F]);
rpeek(Q, Acc, F) -> ?NO_QUEUE([Q, Acc, F]).

fold(Q, Backwards, Pos, Slot, Acc, F) ->
    case look(Q, Backwards, Pos, Slot) of
        empty -> Acc;
        {ok, Term, NextPos, NextSlot} ->
            case F(Term, Acc) of
                {cont, Next} -> fold(Q, Backwards, NextPos, NextSlot, Next, F);
                {halt, Last} -> Last
            end
    end.

look(?IS_QUEUE(H) = Q, Backwards, Pos, Slot) ->
    case with_again(fun() -> emmap_nif:queue_peek(H, Backwards, Pos, Slot) end, Q) of
        {deflated, Deflated, NextPos, NextSlot} ->
            case inflated(Deflated, Q) of
                {ok, Term} -> {ok, Term, NextPos, NextSlot};
                {error, Reason} -> error({emmap, Reason})
            end;
        {error, Reason} -> error({emmap, Reason});
        Other -> Other
    end.

%% @doc How many messages there are, those that {@link try_pop/2} works on included.
-spec length(queue()) -> non_neg_integer().
length(?IS_QUEUE(H) = Q) ->
    case with_again(fun() -> emmap_nif:queue_length(H) end, Q) of
        N when is_integer(N) -> N;
        {error, Reason} -> error({emmap, Reason})
    end;
length(Q) ->
    ?NO_QUEUE([Q]).

%% @doc What the messages take in the file, with 48 to 55 bytes for each: what max_size limits.
-spec bytes(queue()) -> non_neg_integer().
bytes(Q) -> maps:get(bytes, info(Q)).

%% @doc Is the {@link length/1} 0? What {@link try_pop/2} works on counts.
-spec is_empty(queue()) -> boolean().
is_empty(Q) -> ?MODULE:length(Q) =:= 0.

%% @doc Says whether the queue is empty. (Space is given back without it: version 2 needed to be asked.)
-spec purge(queue()) -> boolean().
purge(Q) -> is_empty(Q).

%% @doc Drops all messages, but for those that {@link try_pop/2} works on.
-spec erase(queue()) -> ok | {error, reason()}.
erase(?IS_QUEUE(H) = Q) -> with_again(fun() -> emmap_nif:queue_erase(H) end, Q);
erase(Q) -> ?NO_QUEUE([Q]).

%%--------------------------------------------------------------------------------------- server

%% @doc A process that has the queue: for who wants one by name, under a supervisor. It traps exits
%% and closes the queue when it ends. `{error, Reason}' as {@link open/3}.
-spec start_link(atom(), file:name_all(), non_neg_integer(), options()) ->
    {ok, pid()} | {error, reason()}.
start_link(Name, File, Size, Options) ->
    emmap_queue_server:start_link(Name, File, Size, Options).

%% @doc For a supervisor: `#{name := Name, file := File, size => Size, options => Options}'.
-spec child_spec(#{name := atom(), file := file:name_all(), size => non_neg_integer(),
                   options => options()}) -> supervisor:child_spec().
child_spec(#{name := Name, file := File} = Spec) ->
    #{id => Name, type => worker, modules => [emmap_queue_server],
      start => {?MODULE, start_link, [Name, File, maps:get(size, Spec, 0),
                                      maps:get(options, Spec, [])]}}.

%% @doc {@link push/2} by the process that has the queue.
-spec enqueue(pid() | atom(), term()) -> ok | {error, reason()}.
enqueue(Server, Term) -> gen_server:call(Server, {push, Term}, infinity).

%% @doc {@link pop/1} by the process that has the queue.
-spec dequeue(pid() | atom()) -> term() | nil.
dequeue(Server) -> answer(gen_server:call(Server, pop, infinity)).

%% @doc {@link try_pop/2} by the process that has the queue: F runs there, and holds up who else asks it; its
%% exception is raised here.
-spec try_dequeue(pid() | atom(), fun((term()) -> Result)) -> Result | nil.
try_dequeue(Server, F) -> answer(gen_server:call(Server, {try_pop, F}, infinity)).

%% @doc {@link peek_front/1} by the process that has the queue.
-spec inspect(pid() | atom()) -> term() | nil.
inspect(Server) -> answer(gen_server:call(Server, peek_front, infinity)).

answer({value, Value}) -> Value;
answer({raised, Class, Reason, Stack}) -> erlang:raise(Class, Reason, Stack).

%%--------------------------------------------------------------------------------------- within

value({ok, Term}) -> Term;
value(empty) -> nil;
value({error, Reason}) -> error({emmap, Reason}).

with_again(Call, Q) ->
    case Call() of
        again -> again(Call, Q);
        Result -> Result
    end.

%% Somebody has the lock, or is still writing the message: no scheduler waits for that, this
%% process does.
again(Call, Q) ->
    again(Call, 0, until(Q)).

until(#emmap_queue{lock_timeout = Ms}) ->
    erlang:monotonic_time(millisecond) + Ms.

again(Call, Tries, Until) ->
    wait(Tries),
    case Call() of
        again ->
            case erlang:monotonic_time(millisecond) > Until of
                true -> {error, busy};
                false -> again(Call, Tries + 1, Until)
            end;
        Result ->
            Result
    end.

wait(Tries) when Tries < 4 -> erlang:yield();
wait(_Tries) -> receive after 1 -> ok end.

%% The length comes first, so that nobody inflates more than that.
deflate(Term, Level) ->
    Bytes = term_to_binary(Term, [{minor_version, 2}]),
    case byte_size(Bytes) of
        Size when Size > ?MOST_BYTES ->
            {error, too_big};
        Size ->
            Z = zlib:open(),
            try
                ok = zlib:deflateInit(Z, Level),
                case iolist_to_binary([<<Size:32/little>> | zlib:deflate(Z, Bytes, finish)]) of
                    Deflated when byte_size(Deflated) < Size -> Deflated;
                    _ -> larger
                end
            after
                zlib:close(Z)
            end
    end.

%% Of a message that is taken: if it is no term it is counted among the lost.
told_inflated(Deflated, ?IS_QUEUE(H) = Q) ->
    case inflated(Deflated, Q) of
        {error, corrupt} = Error -> _ = emmap_nif:queue_lose(H), Error;
        Result -> Result
    end.

inflated(<<Size:32/little, Deflated/binary>>, #emmap_queue{safe = Safe}) when Size =< ?MOST_BYTES ->
    try inflate(Deflated, Size) of
        Term -> emmap_nif:etf_decode_dirty(Term, Safe)
    catch
        error:_ -> {error, corrupt}
    end;
inflated(_Deflated, _Q) ->
    {error, corrupt}.

inflate(Deflated, Size) ->
    Z = zlib:open(),
    try
        ok = zlib:inflateInit(Z),
        Term = inflate(Z, zlib:safeInflate(Z, Deflated), Size, []),
        ok = zlib:inflateEnd(Z),
        Term
    after
        zlib:close(Z)
    end.

inflate(Z, {continue, Part}, Left, Parts) when Left > 0 ->
    inflate(Z, zlib:safeInflate(Z, []), Left - iolist_size(Part), [Parts, Part]);
inflate(_Z, {finished, Part}, Left, Parts) ->
    Left = iolist_size(Part),
    iolist_to_binary([Parts, Part]).
