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
     || {Name, Args} <- calls()].

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
     {format_error, [enospc]}].

any_term_in_any_place_is_answered_or_refused({Name, Args}) ->
    with_dir(fun(Dir) ->
        File = new_file(Dir, "file", <<>>),
        [one_call(File, Name, Args, Place, Term, Options)
         || Place <- lists:seq(1, length(Args)),
            Term <- terms(),
            Options <- [[write, shared], [read], [write, private, direct]]]
    end).

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
stand_in(Arg, _, _) -> Arg.

answer(Name, Args) ->
    try apply(emmap, Name, Args) of
        {ok, Mem, #{size := _}} -> {opened, emmap:close(Mem)};
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
    is_binary(Value) orelse is_integer(Value);
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
                         {file_sync, [0, 1]}, {file_info, []}]].

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
