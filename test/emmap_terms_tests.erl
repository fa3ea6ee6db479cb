%% Any term in any place of any call: an answer or a refusal, never more.
-module(emmap_terms_tests).

-include_lib("eunit/include/eunit.hrl").
-include_lib("kernel/include/file.hrl").

-import(emmap_test_lib, [with_dir/1, new_file/3, pattern/1]).

-export([any_term_in_any_place_is_answered_or_refused/1,
         the_native_calls_take_any_term_as_a_handle/0]).

-define(SIZE, 5000).

any_term_test_() ->
    [{lists:concat(["any term in any place of ", Name, "/", length(Args)]),
      {timeout, 120, fun() -> any_term_in_any_place_is_answered_or_refused({Name, Args}) end}}
     || {Name, Args} <- calls()]
        ++ [{"any term for the name of counters", {timeout, 120, fun any_name_of_counters/0}}].

%% Many a term is a name, of a file that is then made: in a folder of ours.
any_name_of_counters() ->
    with_dir(fun(Dir) ->
        emmap_test_lib:in_vm(fun() ->
            ok = file:set_cwd(Dir),
            [begin
                 Answer = answer(open_counters, [Term]),
                 ?assertMatch({_, _, true}, {Term, Answer, is_answer(Answer, 1)})
             end || Term <- terms()]
        end)
    end).

%% What is sound: the handle and the file stand for themselves.
calls() ->
    [{open, [file, [write, shared]]},
     {open, [file, 0, 0, [write, shared]]},
     {open, [file, 0, ?SIZE, [read]]},
     {close, [handle]},
     {resize, [handle]},
     {resize, [handle, ?SIZE]},
     {flush, [handle]},
     {sync, [handle]},
     {sync, [handle, 0, 100]},
     {pread, [handle, 0, 100]},
     {pwrite, [handle, 10, <<"data">>]},
     {info, [handle]},
     {format_error, [enospc]}]
        ++ stream_calls() ++ integer_calls() ++ counter_calls().

stream_calls() ->
    [{read, [handle, 100]},
     {read_line, [handle]},
     {write, [handle, <<"data">>]},
     {position, [handle, {bof, 10}]},
     {truncate, [handle]},
     {pread, [handle, [{0, 10}]]},
     {pwrite, [handle, [{0, <<"data">>}]]},
     {datasync, [handle]},
     {advise, [handle, 0, 10, normal]},
     {allocate, [handle, 0, 10]},
     {copy, [handle, handle, 0]},
     {sendfile, [handle, socket, 0, 0, 0, [], [], []]},
     {internal_get_nif_resource, [handle]},
     {ipread_s32bu_p32bu, [handle, 0, infinity]},
     {read_handle_info, [handle]},
     {read_handle_info, [handle, [{time, local}]]}].

integer_calls() ->
    [{Name, [handle, 16, 5]}
     || Name <- [patomic_add, patomic_sub, patomic_and, patomic_or, patomic_xor, patomic_xchg,
                 patomic_write_integer]]
        ++ [{patomic_cas, [handle, 16, 0, 5]}, {patomic_read_integer, [handle, 16]}].

%% Of a handle that is no counters file, too: the tuple says how many there are.
counter_calls() ->
    [{open_counters, [file, 0]},
     {close_counters, [counters]},
     {inc_counter, [counters, 0]},
     {inc_counter, [counters, 0, 5]},
     {dec_counter, [counters, 0]},
     {dec_counter, [counters, 0, 5]},
     {set_counter, [counters, 0, 5]},
     {read_counter, [counters, 0]}].

any_term_in_any_place_is_answered_or_refused({Name, Args}) ->
    with_dir(fun(Dir) ->
        File = new_file(Dir, "file", <<>>),
        Terms = terms(),
        [one_call(File, Name, Args, Place, Term, options(Place + Nth))
         || Place <- lists:seq(1, length(Args)),
            {Nth, Term} <- lists:zip(lists:seq(1, length(Terms)), Terms)]
    end).

options(N) ->
    lists:nth(1 + N rem 4, [[write, shared], [read], [write, private, direct],
                            [write, shared, extend]]).

one_call(File, Name, Args, Place, Term, Options) ->
    ok = file:write_file(File, pattern(?SIZE)),
    {ok, Mem, _} = emmap:open(File, Options),
    Sound = [stand_in(Arg, File, Mem) || Arg <- Args],
    {Before, [_ | After]} = lists:split(Place - 1, Sound),
    Answer = answer(Name, Before ++ [Term | After]),
    Case = {Name, Place, Term, Options},
    ?assertMatch({_, _, true}, {Case, Answer, is_answer(Answer, Place)}),
    is_refusal(Answer) andalso ?assertEqual({Case, {ok, pattern(?SIZE)}},
                                            {Case, file:read_file(File)}),
    emmap:close(Mem).

stand_in(file, File, _) -> File;
stand_in(handle, _, Mem) -> Mem;
stand_in(counters, _, Mem) -> {Mem, 10};
stand_in(Arg, _, _) -> Arg.

answer(Name, Args) ->
    try apply(emmap, Name, Args) of
        {ok, Mem, #{size := _}} -> {opened, emmap:close(Mem)};
        {#file_descriptor{}, _} = Counters -> {opened, emmap:close_counters(Counters)};
        Result -> {result, Result}
    catch
        error:Reason:Stack ->
            {raised, Reason, lists:flatten(erl_error:format_exception(error, Reason, Stack))}
    end.

is_answer({opened, ok}, _) ->
    true;
is_answer({result, Result}, _) when Result =:= ok; Result =:= eof; is_map(Result) ->
    true;
is_answer({result, {ok, Value}}, _) ->
    is_binary(Value) orelse is_integer(Value) orelse is_list(Value) orelse
        is_record(Value, file_info) orelse tuple_size(Value) =:= 3;
is_answer({result, {Swapped, Current}}, _) when is_boolean(Swapped) ->
    is_integer(Current);
is_answer({raised, notsup, _}, _) -> % asked for a descriptor: see internal_get_nif_resource/1
    true;
is_answer({result, {error, {Done, Reason}}}, _) when is_integer(Done), is_atom(Reason) ->
    true;
is_answer({result, Result}, _) ->
    emmap_test_lib:is_reason(Result) orelse io_lib:char_list(Result);
is_answer({raised, badarg, Text}, Place) ->
    %% Data that is too long for its place is told of the place.
    names_argument(Text, Place) orelse
        string:find(Text, "argument 2: the data reaches past the end") =/= nomatch;
is_answer({raised, {emmap, Reason}, _}, _) ->
    is_atom(Reason).

names_argument(Text, Place) ->
    string:find(Text, "argument " ++ integer_to_list(Place) ++ ": ") =/= nomatch.

is_refusal({result, {error, _}}) -> true;
is_refusal({raised, _, _}) -> true;
is_refusal(_) -> false.

the_native_calls_take_any_term_as_a_handle_test_() ->
    {timeout, 120, fun ?MODULE:the_native_calls_take_any_term_as_a_handle/0}.

the_native_calls_take_any_term_as_a_handle() ->
    [?assertEqual({badarg, 1, not_a_handle}, apply(emmap_nif, Name, [Term | Args]))
     || Term <- terms(),
        {Name, Args} <- [{file_close, []}, {file_resize, [grow]}, {file_resize, [1]},
                         {file_pread, [0, 1]}, {file_pwrite, [0, <<"x">>]},
                         {file_pwrite, [0, [pattern(100000)]]}, {file_flush, []}, {file_sync, []},
                         {file_sync, [0, 1]}, {file_info, []}, {file_read, [1]},
                         {file_read_line, []}, {file_write, [<<"x">>]}, {file_write_dirty, ["x"]},
                         {file_pwrite_dirty, [0, "x"]}, {file_position, [bof, 0]},
                         {file_truncate, []}, {file_allocate, [0, 1]},
                         {file_advise, [0, 1, normal]}, {file_handle_info, []},
                         {file_add, [0, 1]}, {file_sub, [0, 1]}, {file_and, [0, 1]},
                         {file_or, [0, 1]}, {file_xor, [0, 1]}, {file_exchange, [0, 1]},
                         {file_cas, [0, 1, 2]}, {file_load, [0]}, {file_store, [0, 1]}]].

%% What a caller may get wrong: kinds, bounds, shapes, and things that look like a handle.
terms() ->
    numbers() ++ data() ++ lists() ++ processes_and_the_like() ++ handles_of_others().

numbers() ->
    Powers = [1 bsl N || N <- [12, 31, 32, 40, 62, 63, 64, 200]],
    [0, 1, -1, 10, 255, 4096, 5001, 0.0, 1.5, -1.0e300]
        ++ Powers ++ [P - 1 || P <- Powers] ++ [-P || P <- Powers].

data() ->
    [foo, '', true, undefined, grow, infinity, list_to_atom([16#20AC]),
     <<>>, <<0>>, <<"abc">>, <<255, 254>>, <<1:1>>, <<"abc", 1:7>>, binary:copy(<<"x">>, 100000),
     {}, {ok}, {size, 1}, {error, enospc}, #{}, #{size => 1}].

lists() ->
    [[], "abc", [0], [-1], [256], [16#D800], [1 bsl 70], [foo], [foo | bar], [<<"a">> | b],
     [1 | 2], [[]], [[[[<<>>]]]], [<<1:3>>], [1.5], [{size, 1}], [{size, -1}], [write],
     [write | shared], [shared, private], lists:duplicate(100000, read), lists:seq(1, 255)].

processes_and_the_like() ->
    [self(), hd(erlang:ports()), make_ref(), fun() -> ok end, fun erlang:self/0,
     fun(X) -> X end].

handles_of_others() ->
    {ok, Raw} = file:open(code:which(?MODULE), [raw, binary, read]),
    {ok, Pid} = file:open(code:which(?MODULE), [read]),
    #file_descriptor{data = #{handle := Native}} = Raw,
    ok = file:close(Raw),
    ok = file:close(Pid),
    References = [Native, atomics:new(1, []), counters:new(1, []), make_ref(), self(), 1, foo,
                  <<>>, {}, []],
    References ++ [Raw, Pid, {file_descriptor}, {file_descriptor, emmap}]
        ++ [#file_descriptor{module = emmap, data = Data} || Data <- References]
        ++ [{file_descriptor, emmap, Native, more}].
