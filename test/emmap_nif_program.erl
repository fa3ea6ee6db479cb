%% Programs of calls, made of any bytes: what the fuzzer of the NIF's arguments runs (scripts/fuzz
%% fuzz_nif), and the tests its corpus.
%%
%%     program: instruction ...
%%     instruction: | which call, or what happens beside | its arguments ... |
%%     argument: | below 208: of the kind that the call wants, else any term | what it is made of ... |
%%
%% Where the bytes end all that follows is 0. Each call must answer what its specification says, or
%% raise badarg or {emmap, Reason}. Files are made in one folder only; what takes space or memory is
%% a few megabytes, or more than there can be.
-module(emmap_nif_program).
-include_lib("kernel/include/file.hrl").

-export([run/2, nothing_is_left/0]).
-export([show/2]).

-define(MOST_CALLS, 24).
-define(MOST_GROWS, 4).
-define(MOST_BYTES, (1 bsl 22)).
-define(RUN_MS, 40000). % a call may wait 5 s for a lock that hostile bytes hold
-define(KEPT, 8).       % references that calls have answered
-define(MOST_ATOMS, 10000000).

%% ok, or an exception that tells the call and its answer. Options: dir, a folder that is the
%% program's own and is emptied; small: its file system has no more than some 100 MB.
run(Bytes, Options) ->
    run(Bytes, Options, false).

%% The same, and tells each call.
show(Bytes, Options) ->
    run(Bytes, Options, true).

run(Bytes, #{dir := Dir} = Options, Shown) ->
    Program = #{bytes => Bytes, dir => unicode:characters_to_binary(Dir),
                small => maps:get(small, Options, false), shown => Shown,
                made => #{}, kept => [], beside => [], aside => false, grows => 0},
    {Pid, Ref} = spawn_monitor(fun() -> instructions(Program, 0) end),
    try
        receive
            {'DOWN', Ref, process, Pid, normal} -> ok;
            {'DOWN', Ref, process, Pid, Reason} -> error(Reason)
        after ?RUN_MS ->
            error({hangs, Pid}) % to ask where would be to wait for it
        end
    after
        _ = emmap_nif:unpublish_stats(), % what is published into is open
        empty(Dir)
    end.

%% All handles have been given back, some moments after their processes have ended.
nothing_is_left() ->
    nothing_is_left(1000).

nothing_is_left(0) ->
    error({is_left, emmap_nif:stats()});
nothing_is_left(Tries) ->
    case emmap_nif:stats() of
        #{handles := 0, regions := 0, holds := 0, mapped_bytes := 0} -> ok;
        _ -> timer:sleep(10), nothing_is_left(Tries - 1)
    end.

empty(Dir) ->
    {ok, Names} = file:list_dir_all(Dir),
    lists:foreach(fun(Name) -> remove(filename:join(Dir, Name)) end, Names).

remove(File) ->
    case file:delete(File) of
        {error, _} -> file:del_dir_r(File);
        ok -> ok
    end.

%%--------------------------------------------------------------------------------- instructions

instructions(#{bytes := <<>>} = S, _N) -> await(S);
instructions(S, ?MOST_CALLS) -> await(S);
instructions(S0, N) ->
    case byte(S0) of
        {Op, S} when Op < 224 -> instructions(do_call(Op, S), N + 1);
        {Op, S} -> instructions(happen((Op - 224) rem 16, S), N + 1)
    end.

do_call(Op, S0) ->
    Calls = calls(),
    {Module, Function, Kinds} = element(1 + Op rem tuple_size(Calls), Calls),
    {Args, S} = lists:mapfoldl(fun argument/2, S0, Kinds),
    perform(Module, Function, Args, S).

perform(Module, Function, Args, #{aside := true, beside := Beside} = S) ->
    Ref = spawn_monitor(fun() -> checked(Module, Function, Args, S) end),
    S#{aside := false, beside := [Ref | Beside]};
perform(Module, Function, Args, #{kept := Kept} = S) ->
    Result = checked(Module, Function, Args, S),
    S#{kept := lists:sublist(references(Result) ++ Kept, ?KEPT)}.

references(Ref) when is_reference(Ref) -> [Ref];
references(Tuple) when is_tuple(Tuple), tuple_size(Tuple) < 4 ->
    lists:append([references(E) || E <- tuple_to_list(Tuple), not is_list(E)]);
references(_) -> [].

%% What others do meanwhile.
happen(0, S) -> S#{aside := true};
happen(1, S) -> await(S);
happen(2, #{beside := Beside} = S) ->
    _ = [exit(Pid, kill) || {Pid, _} <- Beside],
    S;
happen(3, S) -> erlang:garbage_collect(), S;
happen(4, S) -> erlang:garbage_collect(), S#{made := #{}, kept := []};
happen(5, #{made := Made} = S0) ->
    {N, S} = byte(S0),
    Kinds = maps:keys(Made),
    Gone = [lists:nth(1 + N rem length(Kinds), Kinds) || Kinds =/= []],
    S#{made := maps:without(Gone, Made)};
happen(6, S0) -> % another program cuts a file
    {Name, S1} = own_name(S0),
    {Size, S} = a_size(S1),
    cut(Name, Size),
    S;
happen(7, S0) -> % or writes to it
    {Name, S1} = own_name(S0),
    {At, S2} = a_size(S1),
    {Bytes, S} = some_bytes(S2),
    outside(Name, fun(Fd) -> file:pwrite(Fd, At, Bytes) end),
    S;
happen(8, S0) ->
    {Name, S} = own_name(S0),
    _ = remove(Name),
    S;
happen(9, S0) ->
    {Name, S1} = own_name(S0),
    {To, S} = own_name(S1),
    _ = file:rename(Name, To),
    S;
happen(10, S0) ->
    {Name, S} = own_name(S0),
    _ = file:make_dir(Name),
    S;
happen(11, S0) ->
    {Name, S1} = own_name(S0),
    {To, S} = own_name(S1),
    _ = file:make_symlink(filename:basename(Name), To),
    S;
happen(12, S0) ->
    {Name, S1} = own_name(S0),
    {To, S} = own_name(S1),
    _ = file:copy(Name, To),
    S;
happen(13, S0) ->
    {Name, S1} = own_name(S0),
    {Bytes, S} = some_bytes(S1),
    _ = file:write_file(Name, Bytes),
    S;
happen(14, S) -> erlang:yield(), S;
happen(15, S) -> S.

cut(Name, Size) ->
    outside(Name, fun(Fd) -> {ok, _} = file:position(Fd, Size), file:truncate(Fd) end).

outside(Name, Do) ->
    case file:read_link_info(Name, [raw]) of
        {ok, #file_info{type = regular}} ->
            {ok, Fd} = file:open(Name, [raw, binary, read, write]),
            _ = Do(Fd),
            file:close(Fd);
        _ ->
            ok
    end.

await(#{beside := Beside} = S) ->
    _ = [receive
             {'DOWN', Ref, process, Pid, normal} -> ok;
             {'DOWN', Ref, process, Pid, killed} -> ok;
             {'DOWN', Ref, process, Pid, Reason} -> exit(Reason)
         end || {Pid, Ref} <- Beside],
    S#{beside := []}.

%%-------------------------------------------------------------------------------- calls, answers

checked(Module, Function, Args, #{shown := Shown}) ->
    Shown andalso io:format("~p:~p ~P~n", [Module, Function, Args, 50]),
    Answer = try
                 {answer, without_arguments(Function, Args, apply(Module, Function, Args))}
             catch
                 error:Reason:Stack -> {raised, Reason, Stack}
             end,
    Shown andalso io:format("    ~P~n", [Answer, 16]),
    case Answer of
        {answer, Result} when Module =/= emmap_nif -> Result;
        {answer, {badarg, N, Why}} when is_integer(N), N > 0, N =< length(Args) ->
            Info = emmap_error:info({badarg, N, Why}),
            #{N := _} = emmap_error:format_error(badarg, [{Module, Function, Args, Info}]),
            ok;
        {answer, Result} ->
            is_valid(Function, Args, Result) orelse wrong(Module, Function, Args, Result),
            Result;
        {raised, badarg, Trace} -> _ = erl_error:format_exception(error, badarg, Trace), ok;
        {raised, badarith, _} when Module =:= emmap_counters, Function =:= sub -> ok; % as OTP's
        {raised, {emmap, Known}, _} when is_atom(Known); is_tuple(Known) -> ok;
        _ -> wrong(Module, Function, Args, Answer)
    end.

%% A failure of a call of one counter has them; who answers others, or none, is wrong.
without_arguments(Function, Args, Failure) when element(1, Failure) =:= error; element(1, Failure) =:= badarg ->
    is_of_one_counter(Function) andalso wrong(emmap_nif, Function, Args, Failure),
    Failure;
without_arguments(Function, Args, {Failure, Args} = Answer) when is_tuple(Failure) ->
    case is_of_one_counter(Function) of
        true -> Failure;
        false -> Answer
    end;
without_arguments(_, _, Answer) ->
    Answer.

is_of_one_counter(Function) ->
    lists:member(Function, [counters_get, counters_put, counters_add, counters_add_get, counters_exchange,
                            counters_max, counters_min, counters_compare_exchange, counters_allocate]).

wrong(Module, Function, Args, Answer) ->
    exit({wrong, {Module, Function, Args}, Answer}).

is_valid(_, _, {error, {sync_failed, Reason}}) -> is_reason(Reason);
is_valid(queue_push_many, _, {error, {N, Reason}}) when is_integer(N), N > 0 ->
    is_reason(Reason) orelse element(1, Reason) =:= sync_failed;
is_valid(_, _, {error, Reason}) -> is_reason(Reason);
is_valid(Function, [_, _, Len | _], {ok, Bin}) when Function =:= file_pread -> byte_size(Bin) =< Len;
is_valid(file_read, [_, Len], {ok, Bin}) -> byte_size(Bin) =< Len;
is_valid(file_read_line, _, {ok, Bin}) -> is_binary(Bin);
is_valid(Function, _, eof) -> lists:member(Function, [file_pread, file_read, file_read_line]);
is_valid(file_open, _, {ok, Ref, #{exist := Existed, size := Size}}) ->
    is_reference(Ref) andalso is_boolean(Existed) andalso is_integer(Size);
is_valid(simple_counters_open, _, {ok, Ref, N}) -> is_reference(Ref) andalso is_integer(N) andalso N > 0;
is_valid(stats, _, Map) -> is_map(Map);
is_valid(handles, _, List) -> is_list(List);
is_valid(error_message, _, Text) -> is_binary(Text) orelse Text =:= undefined;
is_valid(file_debug, _, Is) -> is_boolean(Is);
is_valid(file_info, _, {ok, Map}) -> is_map(Map);
is_valid(file_handle_info, _, {ok, Tuple}) -> is_tuple(Tuple);
is_valid(file_cas, _, {Is, N}) -> is_boolean(Is) andalso is_integer(N);
is_valid(Function, _, {ok, N}) when Function =:= file_resize; Function =:= file_position;
        Function =:= file_add; Function =:= file_sub; Function =:= file_and; Function =:= file_or;
        Function =:= file_xor; Function =:= file_exchange; Function =:= file_load ->
    is_integer(N);
is_valid(Function, [Term | _], Bin) when Function =:= etf_encode; Function =:= etf_encode_dirty ->
    binary_to_term(Bin) =:= Term;
is_valid(Function, [Bin | _], {ok, Term}) when Function =:= etf_decode; Function =:= etf_decode_dirty ->
    binary_to_term(Bin) =:= Term;
is_valid(queue_open, _, {ok, Ref, Existed}) -> is_reference(Ref) andalso is_boolean(Existed);
is_valid(queue_take, _, {ok, _}) -> true;
is_valid(queue_take, _, {deflated, Bin}) -> is_binary(Bin);
is_valid(queue_take, _, claim) -> true;
is_valid(queue_take_many, _, {What, N}) when What =:= large; What =:= claim -> is_integer(N);
is_valid(queue_take_many, _, {What, List, N}) when What =:= ok; What =:= mixed ->
    is_list(List) andalso is_integer(N);
is_valid(Function, _, {deflated, Ref, Bin}) when Function =:= queue_take;
        Function =:= queue_take_many; Function =:= queue_claim ->
    is_reference(Ref) andalso is_binary(Bin);
is_valid(queue_claim, _, {ok, Ref, _Term}) -> is_reference(Ref);
is_valid(queue_peek, _, {ok, _Term, Pos, Slot}) -> is_integer(Pos) andalso is_integer(Slot);
is_valid(queue_peek, _, {deflated, Bin, Pos, Slot}) ->
    is_binary(Bin) andalso is_integer(Pos) andalso is_integer(Slot);
is_valid(Function, _, empty) ->
    lists:member(Function, [queue_take, queue_take_many, queue_claim, queue_peek]);
is_valid(queue_length, _, N) when is_integer(N) -> N >= 0;
is_valid(queue_push_many, _, {again, List, N}) -> is_list(List) andalso is_integer(N);
is_valid(queue_info, _, {ok, Map}) -> is_map(Map);
is_valid(Function, _, {true, Name}) when Function =:= queue_unlinked; Function =:= counters_unlinked -> is_binary(Name);
is_valid(Function, _, false) when Function =:= queue_unlinked; Function =:= counters_unlinked -> true;
is_valid(queue_sync_join, _, {wait, Ref}) -> is_reference(Ref);
is_valid(queue_sync_leave, _, Is) when is_boolean(Is) -> true;
is_valid(counters_open, _, {ok, Ref}) -> is_reference(Ref);
is_valid(counters_info, _, {ok, Map}) -> is_map(Map);
is_valid(counters_names, _, {ok, List}) -> is_list(List);
is_valid(Function, _, N) when is_integer(N) ->
    is_of_one_counter(Function) andalso not lists:member(Function, [counters_put, counters_add])
        andalso N >= -(1 bsl 63) andalso N < 1 bsl 64;
is_valid(Function, _, again) -> lists:prefix("queue_", atom_to_list(Function));
is_valid(_, _, ok) -> true;
is_valid(_, _, _) -> false.

is_reason(Reason) ->
    is_atom(Reason) andalso is_binary(emmap_nif:error_message(Reason)).

%% What is added comes last: the corpus knows them by their places.
calls() ->
    {{emmap_nif, file_open, [name, off, len, options]},
     {emmap_nif, file_close, [file]},
     {emmap_nif, file_resize, [file, size]},
     {emmap_nif, file_pread, [file, off, len]},
     {emmap_nif, file_pwrite, [file, off, binary]},
     {emmap_nif, file_flush, [file]},
     {emmap_nif, file_sync, [file]},
     {emmap_nif, file_sync, [file, off, off]},
     {emmap_nif, file_info, [file]},
     {emmap_nif, stats, []},
     {emmap_nif, handles, []},
     {emmap_nif, error_message, [any]},
     {emmap_nif, file_debug, [file]},
     {emmap_nif, file_pwrite_dirty, [file, off, iodata]},
     {emmap_nif, file_write_dirty, [file, iodata]},
     {emmap_nif, file_read, [file, len]},
     {emmap_nif, file_read_line, [file]},
     {emmap_nif, file_write, [file, binary]},
     {emmap_nif, file_position, [file, whence, off]},
     {emmap_nif, file_truncate, [file]},
     {emmap_nif, file_allocate, [file, off, len]},
     {emmap_nif, file_advise, [file, off, off, advice]},
     {emmap_nif, file_handle_info, [file]},
     {emmap_nif, file_add, [file, off, integer]},
     {emmap_nif, file_sub, [file, off, integer]},
     {emmap_nif, file_and, [file, off, integer]},
     {emmap_nif, file_or, [file, off, integer]},
     {emmap_nif, file_xor, [file, off, integer]},
     {emmap_nif, file_exchange, [file, off, integer]},
     {emmap_nif, file_cas, [file, off, integer, integer]},
     {emmap_nif, file_load, [file, off]},
     {emmap_nif, file_store, [file, off, integer]},
     {emmap_nif, simple_counters_open, [name, len]},
     {emmap_nif, etf_encode, [any, integer]},
     {emmap_nif, etf_encode_dirty, [any, integer]},
     {emmap_nif, etf_decode, [external, safe]},
     {emmap_nif, etf_decode_dirty, [external, safe]},
     {emmap_nif, queue_open, [name, flags, mode, len, len, len, safe]},
     {emmap_nif, queue_close, [queue]},
     {emmap_nif, queue_push, [queue, any]},
     {emmap_nif, queue_push_deflated, [queue, deflated]},
     {emmap_nif, queue_push_many, [queue, terms, integer]},
     {emmap_nif, queue_take, [queue]},
     {emmap_nif, queue_take_many, [queue, integer, len]},
     {emmap_nif, queue_claim, [queue]},
     {emmap_nif, queue_ack, [claim]},
     {emmap_nif, queue_return, [claim]},
     {emmap_nif, queue_lose, [queue]},
     {emmap_nif, queue_peek, [queue, boolean, place, integer]},
     {emmap_nif, queue_length, [queue]},
     {emmap_nif, queue_erase, [queue]},
     {emmap_nif, queue_set_max, [queue, len]},
     {emmap_nif, queue_flush, [queue]},
     {emmap_nif, queue_info, [queue]},
     {emmap_nif, queue_unlinked, [queue]},
     {emmap_nif, queue_sync_join, [queue]},
     {emmap_nif, queue_sync_leave, [queue, claim]},
     {emmap_nif, queue_interval, [queue, interval]},
     %% The same from above.
     {emmap, open, [name, options]},
     {emmap, open, [name, off, len, options]},
     {emmap, close, [mem]},
     {emmap, pread, [mem, off, len]},
     {emmap, pread, [mem, places]},
     {emmap, pwrite, [mem, off, iodata]},
     {emmap, pwrite, [mem, places]},
     {emmap, read, [mem, len]},
     {emmap, read_line, [mem]},
     {emmap, write, [mem, iodata]},
     {emmap, position, [mem, location]},
     {emmap, truncate, [mem]},
     {emmap, resize, [mem]},
     {emmap, resize, [mem, size]},
     {emmap, sync, [mem, off, off]},
     {emmap, info, [mem]},
     {emmap, patomic_cas, [mem, off, integer, integer]},
     {emmap, open_counters, [name, len]},
     {emmap, inc_counter, [counters, integer, integer]},
     {emmap, set_counter, [counters, integer, integer]},
     {emmap, read_counter, [counters, integer]},
     {emmap, close_counters, [counters]},
     {emmap, advise, [mem, off, off, advice]},
     {emmap, allocate, [mem, off, len]},
     {emmap, ipread_s32bu_p32bu, [mem, off, len]},
     {emmap, read_handle_info, [mem, any]},
     {emmap, format_error, [any]},
     {emmap_queue, open, [name, queue_options]},
     {emmap_queue, open, [name, len, queue_options]},
     {emmap_queue, close, [q]},
     {emmap_queue, sync, [q]},
     {emmap_queue, set, [q, queue_options]},
     {emmap_queue, info, [q]},
     {emmap_queue, metadata, [q]},
     {emmap_queue, push, [q, any]},
     {emmap_queue, push, [q, any, integer]},
     {emmap_queue, push_many, [q, terms]},
     {emmap_queue, take, [q]},
     {emmap_queue, take_many, [q, count]},
     {emmap_queue, pop, [q]},
     {emmap_queue, pop, [q, any, fold]},
     {emmap_queue, try_pop, [q, fold]},
     {emmap_queue, peek_front, [q]},
     {emmap_queue, peek_back, [q]},
     {emmap_queue, peek, [q, any, fold]},
     {emmap_queue, rpeek, [q, any, fold]},
     {emmap_queue, is_empty, [q]},
     {emmap_queue, length, [q]},
     {emmap_queue, bytes, [q]},
     {emmap_queue, erase, [q]},
     {emmap_nif, counters_open, [name, counters_flags, mode, asked]},
     {emmap_nif, counters_close, [cs]},
     {emmap_nif, counters_get, [cs, index]},
     {emmap_nif, counters_put, [cs, index, integer]},
     {emmap_nif, counters_add, [cs, index, integer]},
     {emmap_nif, counters_add_get, [cs, index, integer]},
     {emmap_nif, counters_exchange, [cs, index, integer]},
     {emmap_nif, counters_max, [cs, index, integer]},
     {emmap_nif, counters_min, [cs, index, integer]},
     {emmap_nif, counters_compare_exchange, [cs, index, integer, integer]},
     {emmap_nif, counters_allocate, [cs, index, integer]},
     {emmap_nif, counters_sync, [cs]},
     {emmap_nif, counters_info, [cs]},
     {emmap_nif, counters_names, [cs]},
     {emmap_counters, open, [name, names, counters_options]},
     {emmap_counters, sub, [cs, index, integer]},
     {emmap_counters, compare_exchange, [cs, index, integer, integer]},
     {emmap_counters, allocate, [cs, index, integer]},
     {emmap_counters, info, [cs]},
     {emmap_counters, to_map, [cs]},
     {emmap_counters, prometheus, [cs]},
     {emmap_nif, publish_stats, [name]},
     {emmap_nif, unpublish_stats, []},
     {emmap_nif, counters_unlinked, [cs]}}.

%%------------------------------------------------------------------------------------- arguments

argument(Kind, S0) ->
    {B, S1} = byte(S0),
    {Term, S} = case B < 208 of
        true -> wanted(Kind, B, S1);
        false -> any(S1)
    end,
    bounded(Kind, Term, S).

%% Whatever it is, it does no harm.
bounded(Kind, N, S) when Kind =:= asked, is_integer(N); Kind =:= names, is_integer(N) ->
    {counted(N), S};
bounded(Kind, Term, S) when Kind =:= len; Kind =:= interval; Kind =:= count; Kind =:= size,
                            Term =/= grow ->
    {bounded(Term), S};
bounded(size, grow, #{grows := N} = S) when N < ?MOST_GROWS -> {grow, S#{grows := N + 1}};
bounded(size, grow, S) -> {4096, S};
bounded(off, Term, #{small := false} = S) -> {bounded(Term), S};
bounded(Kind, Term, S) when Kind =:= options; Kind =:= queue_options ->
    {bounded_options(Term), S};
bounded(name, Term, #{dir := Dir} = S) -> {inside(Dir, Term), S};
bounded(q, Server, S) when is_pid(Server); is_atom(Server) -> {[], S}; % a queue's process
bounded(safe, Term, S) ->
    {Term =:= true orelse (erlang:system_info(atom_count) > ?MOST_ATOMS orelse Term), S};
bounded(_, Term, S) -> {Term, S}.

bounded(N) when is_integer(N), N > ?MOST_BYTES, N < 1 bsl 47 -> N rem ?MOST_BYTES;
bounded(Term) -> Term.

%% A counter takes up to 2 KiB of its file.
counted(N) when N > 1000, N < 1 bsl 36 -> N rem 1000;
counted(N) -> N.

bounded_options([Option | More]) -> [bounded_options(Option) | bounded_options(More)];
bounded_options({max_inc_size, N}) when is_integer(N) -> {max_inc_size, N rem ?MOST_BYTES};
bounded_options({Key, Value}) -> {Key, bounded(Value)};
bounded_options(Map) when is_map(Map) -> maps:map(fun(_, Value) -> bounded(Value) end, Map);
bounded_options(Term) -> Term.

%% What is a name is one in the folder.
inside(Dir, Term) ->
    case emmap_name:native(Term) of
        error ->
            Term;
        Name ->
            case binary:replace(Name, <<"/">>, <<"_">>, [global]) of
                <<"..">> -> <<Dir/binary, "/up">>;
                Clean -> as(Term, <<Dir/binary, "/", Clean/binary>>)
            end
    end.

as(List, Name) when is_list(List) ->
    case unicode:characters_to_list(Name) of
        Characters when is_list(Characters) -> Characters;
        _ -> Name
    end;
as(_, Name) -> Name.

wanted(any, _, S) -> any(S);
wanted(file, B, S) when B < 160 -> made({file, B rem 17}, S);
wanted(queue, B, S) when B < 160 -> made({queue, B rem 9}, S);
wanted(claim, B, S) when B < 64 -> made({claim, B rem 2}, S);
wanted(cs, B, S) when B < 160 -> made({cs, B rem 10}, S);
wanted(Kind, B, #{kept := Kept} = S) when Kind =:= file; Kind =:= queue; Kind =:= claim; Kind =:= cs ->
    case Kept of
        [] -> made({file, 0}, S);
        _ -> {lists:nth(1 + B rem length(Kept), Kept), S}
    end;
wanted(mem, B, S0) ->
    {Handle, S} = wanted(file, B, S0),
    {#file_descriptor{module = emmap, data = Handle}, S};
wanted(counters, B, S0) ->
    {Handle, S} = wanted(file, B div 2 * 2 + 13, S0),
    {{#file_descriptor{module = emmap, data = Handle}, 1 + B rem 8}, S};
wanted(q, B, S) -> made({q, B rem 8}, S);
wanted(name, B, S) when B < 176 -> {element(1 + B rem tuple_size(names()), names()), S};
wanted(name, _, S) -> some_bytes(S);
wanted(Kind, B, S) when Kind =:= off; Kind =:= len; Kind =:= integer; Kind =:= mode; Kind =:= place;
                        Kind =:= count, B < 176 ->
    integer(B, S);
wanted(count, B, S0) ->
    {N, S} = integer(B, S0),
    {lists:nth(1 + B rem 3, [#{count => N}, #{bytes => N}, #{count => 2, bytes => N}]), S};
wanted(interval, B, S) -> {B rem 8, S};
wanted(size, B, S) when B < 40 -> {grow, S};
wanted(size, B, S) -> integer(B, S);
wanted(boolean, B, S) -> {B rem 2 =:= 0, S};
wanted(safe, B, S) -> {B rem 2 =:= 0, S};
wanted(flags, B, S) when B < 150 -> {B rem 64 bor 1, S};
wanted(flags, B, S) -> integer(B, S);
wanted(counters_flags, B, S) when B < 176 -> {B rem 8 bor B rem 4 bsl 8 bor B rem 16 div 8 bsl 10, S};
wanted(counters_flags, B, S) -> integer(B, S);
wanted(index, B, S) when B < 100 -> {1 + B rem 9, S};
wanted(index, B, S) when B < 176 -> {element(1 + B rem tuple_size(indexes()), indexes()), S};
wanted(index, B, S) -> integer(B, S);
wanted(asked, B, S) when B < 100 -> {B rem 12, S};
wanted(asked, B, S) when B < 176 -> {[asked(N) || N <- lists:seq(1, B rem 6)], S};
wanted(asked, _, S0) ->
    {Text, S} = some_bytes(S0),
    {[{Text, <<"u">>, Text, gauge}], S};
wanted(names, B, S) when B < 100 -> {B rem 12, S};
wanted(names, _, S0) ->
    {B, S} = byte(S0),
    Some = {a, <<"b">>, "c", {d, #{kind => counter}}, {e, #{help => "h", unit => <<"u">>}}, {f, #{g => h}},
            '', a},
    {[element(1 + N rem tuple_size(Some), Some) || N <- lists:seq(B rem 8, B rem 8 + B rem 5)], S};
wanted(counters_options, B, S) ->
    Some = {read, padded, striped, force, {signed, false}, {mode, 8#600}, {read, false}, other},
    {[element(1 + (B + N) rem tuple_size(Some), Some) || N <- lists:seq(1, B rem 3)], S};
wanted(whence, B, S) -> {lists:nth(1 + B rem 3, [bof, cur, eof]), S};
wanted(location, B, S0) ->
    {N, S} = integer(B, S0),
    {lists:nth(1 + B rem 5, [N, {bof, N}, {cur, N}, {eof, N}, eof]), S};
wanted(advice, B, S) ->
    {lists:nth(1 + B rem 7, [normal, sequential, random, no_reuse, will_need, dont_need, other]), S};
wanted(binary, B, S) when B < 128 -> some_bytes(S);
wanted(binary, B, S) -> {binary:copy(<<"line\n">>, 1 bsl (B rem 16)), S};
wanted(iodata, B, S) when B < 100 -> some_bytes(S);
wanted(iodata, B, S0) ->
    {One, S1} = some_bytes(S0),
    {Two, S} = some_bytes(S1),
    Data = [[One | Two], [[], [One], $a, Two], nested([One, Two], B), [One, Two, 256]],
    {lists:nth(1 + B rem 4, Data), S};
wanted(terms, B, S) -> lists:mapfoldl(fun(_, S1) -> any(S1) end, S, lists:seq(1, B rem 6));
wanted(places, B, S) ->
    lists:mapfoldl(fun(_, S0) ->
        {Off, S1} = argument(off, S0),
        {What, S2} = argument(case B rem 2 of 0 -> len; 1 -> iodata end, S1),
        {{Off, What}, S2}
    end, S, lists:seq(1, B rem 5));
wanted(external, B, S) -> external(B, S);
wanted(deflated, _, S0) ->
    {Term, S} = any(S0),
    External = term_to_binary(Term),
    {<<(byte_size(External)):32/little, (zlib:compress(External))/binary>>, S};
wanted(fold, B, S) ->
    {lists:nth(1 + B rem 5, [fun(_, Acc) -> {cont, Acc} end, fun(_, Acc) -> {halt, Acc} end,
                             fun(_) -> done end, fun(_) -> error({emmap, done}) end,
                             fun(Term, _) -> {cont, Term} end]), S};
wanted(options, B, S) ->
    each(fun option/2, B rem 8, S);
wanted(queue_options, B, S0) ->
    {List, S} = each(fun queue_option/2, B rem 6, S0),
    Pairs = [case Option of {_, _} -> Option; _ -> {Option, true} end
             || Option <- List ++ [{lock_timeout, 20}]],
    {case B < 128 of true -> maps:from_list(Pairs); false -> List end, S}.

each(Make, N, S) ->
    lists:mapfoldl(fun(_, S0) -> {B, S1} = byte(S0), Make(B, S1) end, S, lists:seq(1, N)).

indexes() ->
    {a, b, c, e, <<"a">>, <<"b">>, <<"c">>, "a", "b", 'h\x{e4}', <<"h\x{e4}"/utf8>>, "\x{1F600}",
     list_to_atom(lists:duplicate(255, 16#1F600)), binary:copy(<<"a">>, 100000), [a], [$a | b], <<255>>,
     <<"a", 1:1>>}.

asked(N) -> element(N, {{<<"a">>, <<>>, <<>>, gauge}, {<<"b">>, <<"s">>, <<"help">>, counter},
                        {<<"h\x{e4}"/utf8>>, <<>>, <<>>, counter},
                        {<<"\x{1F600}"/utf8>>, <<>>, binary:copy(<<"h">>, 623), gauge},
                        {<<"a">>, <<"twice">>, <<>>, gauge}}).

names() ->
    {<<"f0">>, <<"f1">>, <<"f2">>, <<"q0">>, <<"q1">>, <<"c0">>, <<"new">>, "f0", "q0", <<>>, <<".">>,
     <<"missing/f0">>, <<"nul", 0, "f0">>, "nul\0f0", <<"\x{f1}\x{1F600}"/utf8>>, "\x{f1}\x{1F600}",
     <<255, 254>>, [$a, [<<"b">>]], binary:copy(<<"long">>, 64), binary:copy(<<"long">>, 2000), f0,
     ["f", $0]}.

option(B, S0) when B < 200 ->
    Plain = {read, write, write, write, create, create, shared, shared, truncate, private, direct, lock,
             nolock, fixed, fit, fixed_size, auto_unlink, sparse, force, extend, nofollow, lock_memory,
             anon, populate, nonblock, shared_validate, sync, noreserve, nocache, uninitialized,
             hugetlb, huge_2mb, huge_1gb, debug, {size, 4096}, {size, 20000}, {size, 100000}},
    {element(1 + B rem tuple_size(Plain), Plain), S0};
option(B, S0) when B < 240 ->
    {N, S} = integer_of(S0),
    {{lists:nth(1 + B rem 6, [size, max_inc_size, chmod, address, address_space, other]), N}, S};
option(_, S) -> any(S).

queue_option(B, S0) when B < 160 ->
    Plain = {multi_os, fixed_size, private, auto_unlink, force, safe, {create, false},
             {durability, sync}, {durability, {interval, 5}}, {compressed, 6}, {size, 100000},
             {max_size, infinity}, {max_size, 1 bsl 20}, {max_message, 1000}, {mode, 8#600}},
    {element(1 + B rem tuple_size(Plain), Plain), S0};
queue_option(B, S0) when B < 240 ->
    {N, S} = integer_of(S0),
    {{lists:nth(1 + B rem 7, [size, max_size, max_message, mode, compressed, create, other]), N}, S};
queue_option(_, S) -> any(S).

%% --------------------------------------------------------------------------- handles, made once

made(Kind, #{made := Made} = S) ->
    case Made of
        #{Kind := Term} ->
            {Term, S};
        _ ->
            {Term, #{made := Now} = S1} = make(Kind, S),
            {Term, S1#{made := Now#{Kind => Term}}}
    end.

make({file, 0}, S) -> open("f0", 0, 0, [write, shared], S);
make({file, 1}, S) -> open("f0", 0, 0, [write, shared, debug], S);
make({file, 2}, S) -> open("f0", 0, 0, [shared], S);
make({file, 3}, S) -> open("f0", 0, 0, [write], S);
make({file, 4}, S) -> open("f1", 0, 0, [write, shared, direct], S);
make({file, 5}, S) -> open("f2", 0, 0, [write, shared, extend], S);
make({file, 6}, S) -> open("f1", 0, 0, [write, shared, fixed_size], S);
make({file, 7}, S0) ->
    {Handle, S} = open("f1", 0, 0, [write, shared], S0),
    _ = emmap_nif:file_close(Handle),
    {Handle, S};
make({file, 8}, S0) ->
    {Handle, #{dir := Dir} = S} = open("f3", 0, 0, [write, shared], S0),
    cut(filename:join(Dir, "f3"), 5000),
    {Handle, S};
make({file, 9}, S) -> open("-", 0, 40000, [anon, write, shared], S);
make({file, 10}, S) -> open("f0", 0, 0, [], S);
make({file, 11}, S) -> open("f0", 5000, 6000, [write, shared, nolock], S);
make({file, 12}, S) -> open("f4", 0, 100000, [write, shared, sparse, fit], S);
make({file, 13}, #{dir := Dir} = S) ->
    {handle(emmap_nif:simple_counters_open(<<Dir/binary, "/c0">>, 8)), S};
make({file, 14}, S0) ->
    {Handle, #{dir := Dir} = S} = open("f5", 0, 0, [write, shared], S0),
    _ = file:delete(filename:join(Dir, "f5")),
    {Handle, S};
make({file, 15}, S) -> open("f1", 0, 0, [write, direct], S);
make({file, 16}, S) -> {zlib:open(), S}; % a resource of others
make({queue, 0}, S) -> open_queue("q0", 1, false, S);
make({queue, 1}, S) -> open_queue("q0", 1, false, S);
make({queue, 2}, S) -> open_queue("q0", 1, true, S);
make({queue, 3}, S) -> open_queue("q1", 5, false, S);
make({queue, 4}, S0) ->
    {Handle, S} = open_queue("q0", 1, false, S0),
    _ = emmap_nif:queue_close(Handle),
    {Handle, S};
make({queue, 5}, S) -> open_queue("q2", 3, false, S);
make({queue, 6}, S) -> open_queue("q3", 9, true, S);
make({queue, 7}, S0) ->
    {Handle, S} = open_queue("q0", 1, false, S0),
    _ = emmap_nif:queue_push_many(Handle, [1, <<"two">>, binary:copy(<<3>>, 70000), {four, 4.0}], 0),
    {Handle, S};
make({queue, 8}, S0) -> % one that nobody has closed
    {_, #{dir := Dir} = S} = made({queue, 7}, S0),
    _ = file:copy(<<Dir/binary, "/q0">>, <<Dir/binary, "/q1">>),
    open_queue("q1", 1, false, S);
make({claim, N}, S0) ->
    {Handle, S} = made({queue, 7}, S0),
    case emmap_nif:queue_claim(Handle) of
        {_, Claim, _} when N =:= 0 -> {Claim, S};
        _ -> {make_ref(), S}
    end;
make({q, N}, #{dir := Dir} = S) ->
    Options = lists:nth(1 + N, [#{}, #{compressed => 6}, #{safe => true}, #{durability => sync},
                                #{fixed_size => true}, #{private => true}, #{multi_os => true},
                                #{max_message => 100, max_size => 300000}]),
    Name = <<Dir/binary, "/q", ($4 + N)>>,
    case emmap_queue:open(Name, Options#{lock_timeout => 20}) of
        {ok, Q} -> _ = emmap_queue:push_many(Q, [1, <<"two">>]), {Q, S};
        Error -> {Error, S}
    end;
make({cs, 0}, S) -> open_counters("c1", 1, 8, S);
make({cs, 1}, S) -> open_counters("c1", 3, 5, S);
make({cs, 2}, S) -> open_counters("c2", 1, [asked(N) || N <- [1, 2, 3, 4]], S);
make({cs, 3}, S0) ->
    {_, S} = made({cs, 2}, S0),
    open_counters("c2", 2, 0, S);
make({cs, 4}, S) -> open_counters("c3", 1 bor 1 bsl 8, 300, S);
make({cs, 5}, S) -> open_counters("c4", 1 bor 1 bsl 10, 9, S);
make({cs, 6}, S0) ->
    {Handle, S} = open_counters("c1", 1, 8, S0),
    _ = emmap_nif:counters_close(Handle),
    {Handle, S};
make({cs, 7}, S0) ->
    {Handle, #{dir := Dir} = S} = open_counters("c5", 1, [asked(N) || N <- [1, 2, 3, 4]], S0),
    cut(filename:join(Dir, "c5"), 4096),
    {Handle, S};
make({cs, 8}, S0) -> % a simple one
    {_, S} = made({file, 13}, S0),
    open_counters("c0", 0, 0, S);
make({cs, 9}, S0) -> % a copy, which is opened as after a power cut
    {Handle, #{dir := Dir} = S} = open_counters("c6", 1 bor 1 bsl 9, 9, S0),
    _ = [catch emmap_nif:counters_allocate(Handle, N, 5) || N <- [1, 9]],
    _ = file:copy(<<Dir/binary, "/c6">>, <<Dir/binary, "/c7">>),
    open_counters("c7", 0, 0, S).

open(Name, Off, Len, Options, #{dir := Dir} = S) ->
    File = <<Dir/binary, "/", (list_to_binary(Name))/binary>>,
    file:read_file_info(File, [raw]) =/= {error, enoent} orelse
        file:write_file(File, binary:copy(<<"a line of ten\r\nand another\n">>, 750)),
    {handle(emmap_nif:file_open(File, Off, Len, Options)), S}.

open_queue(Name, Flags, Safe, #{dir := Dir} = S) ->
    File = <<Dir/binary, "/", (list_to_binary(Name))/binary>>,
    {handle(emmap_nif:queue_open(File, Flags, 0, 100000, 0, 0, Safe)), S}.

open_counters(Name, Flags, Asked, #{dir := Dir} = S) ->
    File = <<Dir/binary, "/", (list_to_binary(Name))/binary>>,
    {handle(emmap_nif:counters_open(File, Flags, 0, Asked)), S}.

handle({ok, Handle}) -> Handle;
handle({ok, Handle, _}) -> Handle;
handle(Error) -> Error.

%%----------------------------------------------------------------------------------------- terms

byte(#{bytes := <<B, Rest/binary>>} = S) -> {B, S#{bytes := Rest}};
byte(S) -> {0, S}.

some_bytes(S0) ->
    {B, #{bytes := Bytes} = S} = byte(S0),
    Len = min(B rem 64, byte_size(Bytes)),
    <<Taken:Len/binary, Rest/binary>> = Bytes,
    {Taken, S#{bytes := Rest}}.

integer_of(S0) ->
    {B, S} = byte(S0),
    integer(B, S).

integer(B, S) when B < 160 ->
    Edges = edges(),
    {element(1 + B rem tuple_size(Edges), Edges), S};
integer(_, #{bytes := <<N:16, Rest/binary>>} = S) -> {N, S#{bytes := Rest}};
integer(B, S) -> {B, S}.

edges() ->
    {0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 24, 64, 80, 100, 127, 128, 255, 256, 4088, 4095, 4096, 4097, 8192,
     10000, 19992, 20000, 20001, 40000, 65535, 65536, 65537, 100000, 1 bsl 20, 1 bsl 31 - 1, 1 bsl 31,
     1 bsl 32 - 1, 1 bsl 32, 1 bsl 40, 1 bsl 47 - 1, 1 bsl 47, 1 bsl 59 - 1, 1 bsl 59, 1 bsl 60, 1 bsl 63 - 4096,
     1 bsl 63 - 8, 1 bsl 63 - 1, 1 bsl 63, 1 bsl 63 + 1, 1 bsl 64 - 4096, 1 bsl 64 - 8, 1 bsl 64 - 1, 1 bsl 64,
     1 bsl 64 + 1, 1 bsl 100, -1, -2, -8, -4096, -(1 bsl 31), -(1 bsl 59), -(1 bsl 59) - 1, -(1 bsl 63),
     -(1 bsl 63) - 1, -(1 bsl 64), -(1 bsl 100)}.

a_size(S0) ->
    {N, S} = integer_of(S0),
    {abs(N) rem ?MOST_BYTES, S}.

own_name(#{dir := Dir} = S0) ->
    {B, S} = byte(S0),
    Names = {"f0", "f1", "f2", "f3", "f4", "f5", "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "q8",
             "q9", "c0", "new", "c1", "c2", "c3", "c4", "c5", "c6", "c7"},
    {<<Dir/binary, "/", (list_to_binary(element(1 + B rem tuple_size(Names), Names)))/binary>>, S}.

external(B, S0) when B < 60 ->
    {Bytes, S} = some_bytes(S0),
    {<<131, Bytes/binary>>, S};
external(B, S0) when B < 120 ->
    {Term, S} = any(S0),
    {term_to_binary(Term), S};
external(_, S0) ->
    {Term, S1} = any(S0),
    {At, S2} = integer_of(S1),
    {To, S} = byte(S2),
    External = term_to_binary(Term),
    <<Before:(abs(At) rem byte_size(External))/binary, _, After/binary>> = External,
    {<<Before/binary, To, After/binary>>, S}.

nested(Term, B) ->
    lists:foldl(fun(_, Inner) -> [Inner] end, Term, lists:seq(1, 1 bsl (B rem 15))).

any(S) -> any(S, 3).

any(S0, Depth) ->
    {B, S} = byte(S0),
    term(B rem 32, Depth, S).

term(N, _, S) when N < 5 -> integer_of(S);
term(5, _, #{bytes := <<N:64/signed, Rest/binary>>} = S) -> {N, S#{bytes := Rest}};
term(5, _, S) -> {5, S};
term(6, _, S0) ->
    {B, S} = byte(S0),
    Atoms = {true, false, undefined, grow, eof, bof, infinity, nil, '', ok, error, 'h\x{e4}', '\x{1F600}',
             list_to_atom(lists:duplicate(255, $a)), list_to_atom(lists:duplicate(255, 16#1F600))},
    {element(1 + B rem tuple_size(Atoms), Atoms), S};
term(N, _, S) when N < 9 -> some_bytes(S);
term(9, _, S0) ->
    {Bytes, S1} = some_bytes(S0),
    {B, S} = byte(S1),
    Bits = B rem (bit_size(Bytes) + 1),
    <<Some:Bits/bitstring, _/bitstring>> = Bytes,
    {Some, S};
term(10, _, S0) -> % part of a binary, at no whole byte
    {Bytes, S} = some_bytes(S0),
    <<_:3, Part:(byte_size(Bytes))/binary, _/bitstring>> = <<0, Bytes/binary, 0>>,
    {Part, S};
term(11, _, S0) ->
    {B, S} = byte(S0),
    {binary:copy(<<"0123456789abcdef">>, 1 bsl (B rem 15)), S};
term(12, Depth, S) -> many(Depth, S);
term(13, Depth, S0) ->
    {List, S} = many(Depth, S0),
    {list_to_tuple(List), S};
term(14, Depth, S0) ->
    {List, S} = many(Depth, S0),
    {maps:from_list(lists:zip(List, lists:seq(1, length(List)))), S};
term(15, Depth, S0) ->
    {List, S1} = many(Depth, S0),
    {Tail, S} = one(Depth, S1),
    {List ++ Tail, S};
term(16, _, S0) ->
    {B, S} = byte(S0),
    {nested(<<"in">>, B), S};
term(17, _, S0) ->
    {B, S} = byte(S0),
    Floats = {0.0, -0.0, 1.5, -1.0e308, 4.9e-324, 1.0e15},
    {element(1 + B rem tuple_size(Floats), Floats), S};
term(18, _, S0) ->
    {B, S} = byte(S0),
    {lists:nth(1 + B rem 4, [fun erlang:self/0, fun(_) -> B end, fun(_, Acc) -> {cont, Acc} end,
                             fun emmap_nif:file_close/1]), S};
term(19, _, S) -> {self(), S};
term(20, _, S) -> {make_ref(), S};
term(21, _, S) -> {hd(erlang:ports()), S};
term(22, _, S0) ->
    {B, S} = byte(S0),
    made({file, B rem 17}, S);
term(23, _, S0) ->
    {B, S} = byte(S0),
    made({queue, B rem 9}, S);
term(24, _, S0) ->
    {B, S} = byte(S0),
    made({claim, B rem 2}, S);
term(25, _, S0) ->
    {B, S1} = byte(S0),
    external(B, S1);
term(26, _, S0) ->
    {Bytes, S} = some_bytes(S0),
    {try binary_to_term(<<131, Bytes/binary>>, [safe]) catch error:badarg -> none end, S};
term(27, _, S0) ->
    {B, S} = byte(S0),
    {element(1 + B rem tuple_size(names()), names()), S};
term(28, _, S0) ->
    {B, S} = byte(S0),
    {lists:duplicate(1 bsl (B rem 13), B), S};
term(29, _, S0) ->
    {B, S} = byte(S0),
    {maps:from_list([{I, B} || I <- lists:seq(1, 40)]), S};
term(30, _, S0) ->
    {B, S} = byte(S0),
    option(B, S);
term(31, _, S) -> {[], S}.

many(Depth, S0) ->
    {B, S} = byte(S0),
    lists:mapfoldl(fun(_, S1) -> one(Depth, S1) end, S, lists:seq(1, B rem 5)).

one(0, S) -> integer_of(S);
one(Depth, S) -> any(S, Depth - 1).
