%% The model of a mapped file: a raw file. Random sequences of calls through `file:', done on both,
%% and the differences between their answers that are intended.
%%
%% PropEr's functions are called without its header, so that this compiles where it is missing.
-module(emmap_model).

-include_lib("kernel/include/file.hrl").

-export([sequence/0, agree/2]).

-define(PREFIX, 5001). % what lies before the handle, in the variant with an offset

%%------------------------------------------------------------------------------------ generators

%% What is opened, the bytes it holds at first, and the calls.
sequence() ->
    {proper_types:frequency([{6, shared}, {2, offset}, {2, private}, {1, read_only}]),
     options(),
     proper_types:oneof([<<>>, bytes(), bytes()]),
     proper_types:list(call())}.

options() ->
    proper_types:bind(
        {proper_types:oneof([[], [sparse], [populate], [populate, nonblock]]),
         proper_types:list(proper_types:oneof([nolock, direct, noreserve, debug,
                                               {max_inc_size, 1000}, {address_space, 1 bsl 24}]))},
        fun({Space, Others}) -> Space ++ Others end, false).

call() ->
    proper_types:frequency(
        [{4, {pread, off(), len()}},
         {2, {pread, proper_types:list({off(), len()})}},
         {4, {pwrite, off(), data()}},
         {2, {pwrite, proper_types:list({off(), data()})}},
         {4, {read, len()}},
         {3, {read_line}},
         {4, {write, data()}},
         {6, {position, location()}},
         {3, {truncate}},
         {2, {allocate, off(), len()}},
         {1, {advise, off(), len(), advice()}},
         {1, {sync}},
         {1, {datasync}},
         {1, {ipread, pointer_at(), off(), len(), limit()}},
         {1, {ipread_s32bu_p32bu, off(), limit()}},
         {1, {read_file_info}},
         {2, {copy, proper_types:oneof([to, from]), proper_types:oneof([same, raw]),
              proper_types:oneof([infinity, len()])}},
         {2, {resize, proper_types:range(1, 300000)}},
         {1, {reopen, options()}},
         {1, {wrong, wrong()}},
         {1, {closed, proper_types:oneof(after_close())}}]).

after_close() ->
    [{pread, 0, 5}, {pwrite, 0, <<"x">>}, {read, 5}, {read_line}, {write, <<"x">>}, {position, 1},
     {position, eof}, {truncate}, {allocate, 0, 10}, {sync}, {datasync}, {advise, 0, 0, normal},
     {read_file_info}, {close}].

%% Absolute, or from the end on, where it is when the call is made.
off() ->
    proper_types:frequency([{4, proper_types:range(0, 300)},
                            {3, proper_types:range(0, 200000)},
                            {2, around([4096, 8192, 65536, 131072])},
                            {4, {near_end, proper_types:range(-70, 70)}},
                            {1, impossible_place()}]).

len() ->
    proper_types:frequency([{1, 0}, {4, proper_types:range(1, 200)},
                            {2, proper_types:range(1, 100000)},
                            {2, around([4096, 65536])}]).

around(Places) ->
    proper_types:bind({proper_types:oneof(Places), proper_types:range(-3, 3)},
                      fun({Place, By}) -> Place + By end, false).

impossible_place() ->
    proper_types:oneof([-1, -4096, -(1 bsl 62), 1 bsl 63, 1 bsl 64, (1 bsl 64) - 8]).

%% Made when the call is: small to print and to shrink.
bytes() ->
    {bytes, proper_types:range(0, 1000), len()}.

data() ->
    proper_types:frequency([{6, bytes()}, {2, proper_types:list(bytes())},
                            {1, proper_types:oneof([<<>>, [], "text\r\n", [[<<"a">>, $b] | <<"c">>],
                                                    <<"\n">>, "\r", "\r\n\n"])}]).

location() ->
    proper_types:oneof([off(), bof, cur, eof,
                        {proper_types:oneof([bof, cur, eof]), proper_types:range(-300, 300)},
                        {proper_types:oneof([bof, cur, eof]), impossible_place()},
                        {cur, proper_types:range(-200000, 200000)}]).

advice() ->
    proper_types:oneof([normal, sequential, random, no_reuse, will_need, dont_need]).

pointer_at() ->
    proper_types:range(0, 10000).

limit() ->
    proper_types:oneof([infinity, 0, 100, 70000, (1 bsl 31) - 1, 1 bsl 31]).

%% What the caller should not have done.
wrong() ->
    Term = proper_types:oneof([foo, 1.0, <<"1">>, {1, 2}, [], -1]),
    proper_types:oneof([{pread, Term, 5}, {pread, 0, Term}, {pread, Term}, {pread, [Term]},
                        {pread, [{0, 1}, {Term, 1}]}, {pread, [{0, 1} | foo]},
                        {pwrite, Term, <<"x">>}, {pwrite, 0, [Term]}, {pwrite, Term},
                        {pwrite, [{3, "ab"}, {5, foo}]}, {pwrite, [{3, "ab"}, {Term, "x"}]},
                        {read, Term}, {write, [256]}, {write, foo}, {write, [<<"ab">> | 1.0]},
                        {position, Term}, {position, {cur, Term}}, {position, {foo, 1}},
                        {allocate, Term, 10}, {allocate, 0, Term}, {allocate, 0, 0},
                        {advise, 0, 0, Term}, {advise, Term, 0, normal}, {advise, 0, Term, normal},
                        {ipread_s32bu_p32bu, Term, 10}, {ipread_s32bu_p32bu, 0, Term}]).

%%------------------------------------------------------------------------------------ both sides

%% ok, or what differs: {Call, Raw, Ours}.
agree({Variant, Options, First, Calls}, Dir) ->
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    Bytes = expand(First, 0),
    Names = #{raw => filename:join(Dir, "raw"), emmap => filename:join(Dir, "emmap")},
    ok = file:write_file(maps:get(raw, Names), Bytes),
    ok = file:write_file(maps:get(emmap, Names), [prefix(Variant), Bytes]),
    Sides = [open(#{side => Side, variant => Variant, options => Options, first => Bytes,
                    name => Name, other => Name ++ ".other"})
             || Side <- [emmap, raw], Name <- [maps:get(Side, Names)]],
    [ok = file:write_file(Other, expand({bytes, 7, 70000}, 0)) || #{other := Other} <- Sides],
    {Result, Last} = follow(Calls, Sides),
    [file:close(Handle) || #{handle := Handle} <- Last],
    case Result of
        ok -> same_files(Last);
        _ -> Result
    end.

prefix(offset) -> expand({bytes, 3, ?PREFIX}, 0);
prefix(_) -> <<>>.

open(#{side := raw, variant := read_only, name := Name} = S) ->
    {ok, Fd} = file:open(Name, [raw, binary, read]),
    S#{handle => Fd};
open(#{side := raw, name := Name} = S) ->
    {ok, Fd} = file:open(Name, [raw, binary, read, write]),
    S#{handle => Fd};
open(#{side := emmap, variant := Variant, options := Options, name := Name} = S) ->
    Off = byte_size(prefix(Variant)),
    {ok, Mem, _} = emmap:open(Name, Off, 0, Options ++ options(Variant)),
    S#{handle => Mem}.

options(private) -> [write, private, extend];
options(read_only) -> [read, shared];
options(_) -> [create, write, shared, extend].

%% What is closed and opened again holds what was written; but for a private handle the file.
reopen(#{side := raw, variant := private, name := Name, first := Bytes} = S) ->
    ok = file:write_file(Name, Bytes),
    open(S);
reopen(S) ->
    open(S).

follow([], Sides) ->
    {ok, Sides};
follow([Call0 | Calls], [#{handle := Handle, variant := Variant} | _] = Sides) ->
    {ok, #file_info{size = Size}} = file:read_file_info(Handle),
    Call = expand(Call0, Size),
    {[Ours, Raw], Next} = lists:unzip([run(Call, S) || S <- Sides]),
    [OursNow, RawNow] = [now_at(S) || S <- Next],
    case {difference(Variant, Call, Raw, Ours), OursNow =:= RawNow} of
        {none, true} -> follow(Calls, Next);
        {{excused, _}, true} -> follow(Calls, Next);
        {_, true} -> {{Call, Raw, Ours}, Next};
        {_, false} -> {{{then, Call}, {Raw, RawNow}, {Ours, OursNow}}, Next}
    end.

now_at(#{handle := Handle}) ->
    {ok, #file_info{size = Size}} = file:read_file_info(Handle),
    {file:position(Handle, cur), Size}.

expand({bytes, Seed, Len}, _Size) -> binary:part(text(Seed, Len), 0, Len);
expand({near_end, By}, Size) -> max(0, Size + By);
expand(Tuple, Size) when is_tuple(Tuple) -> list_to_tuple(expand(tuple_to_list(Tuple), Size));
expand([Head | Tail], Size) -> [expand(Head, Size) | expand(Tail, Size)];
expand(Term, _Size) -> Term.

%% Lines of several kinds, or no newline for long.
text(Seed, Len) ->
    Line = case Seed rem 4 of
        0 -> [integer_to_list(Seed), "\r\n", $a + Seed rem 26, $\n];
        1 -> [lists:duplicate(Seed, $a + Seed rem 26), "\r\n"];
        2 -> <<Seed:32, (erlang:md5(<<Seed>>))/binary>>;
        3 -> [$a + Seed rem 26, Seed rem 256]
    end,
    Bytes = iolist_to_binary([Line, $.]),
    binary:copy(Bytes, Len div byte_size(Bytes) + 1).

%%----------------------------------------------------------------------------------- one call

run({reopen, Options}, #{handle := Handle} = S) ->
    {file:close(Handle), reopen(S#{options => Options})};
run({closed, Call}, #{handle := Handle} = S) ->
    ok = file:close(Handle),
    {{answer(Call, S), file:close(Handle)}, reopen(S)};
run(Call, S) ->
    {answer(Call, S), S}.

answer({wrong, Call}, S) ->
    answer(Call, S);
answer({resize, Size}, #{side := emmap, handle := Mem}) ->
    emmap:resize(Mem, Size);
answer({resize, _}, #{variant := read_only}) ->
    {error, eacces}; % as emmap says
answer({resize, Size}, #{handle := Fd}) ->
    {ok, Position} = file:position(Fd, cur),
    {ok, Size} = file:position(Fd, Size),
    ok = file:truncate(Fd),
    {ok, Position} = file:position(Fd, Position),
    {ok, Size};
answer({copy, Way, Kind, Length}, S) ->
    copied(Way, Kind, Length, S);
answer({ipread, At, Place, Len, Limit}, #{handle := Handle}) ->
    Pointer = file:pwrite(Handle, At, <<Len:32, Place:32>>),
    {Pointer, file:ipread_s32bu_p32bu(Handle, At, Limit)};
answer({read_file_info}, #{handle := Handle}) ->
    case file:read_file_info(Handle) of
        {ok, Info} -> {ok, Info#file_info{inode = x, atime = x, mtime = x, ctime = x}};
        Error -> Error
    end;
answer(Call, #{handle := Handle}) ->
    [Name | Args] = tuple_to_list(Call),
    try
        apply(file, Name, [Handle | Args])
    catch
        error:Reason -> {raised, Reason}
    end.

copied(Way, Kind, Length, #{side := Side, handle := Handle, other := Name}) ->
    {ok, Other} = case {Side, Kind} of
        {emmap, same} ->
            {ok, Mem, _} = emmap:open(Name, [create, write, shared, extend]),
            {ok, Mem};
        _ ->
            file:open(Name, [raw, binary, read, write])
    end,
    Result = case Way of
        to -> file:copy(Handle, Other, Length);
        from -> file:copy(Other, Handle, Length)
    end,
    ok = file:close(Other),
    Result.

same_files([#{variant := Variant, first := First} = Ours, #{name := Raw} = Model]) ->
    {ok, Bytes} = file:read_file(maps:get(name, Ours)),
    {ok, Others} = file:read_file(maps:get(other, Ours)),
    {ok, RawBytes} = file:read_file(Raw),
    {ok, RawOthers} = file:read_file(maps:get(other, Model)),
    Expected = case Variant of
        private -> First;
        _ -> <<(prefix(Variant))/binary, RawBytes/binary>>
    end,
    if
        Bytes =/= Expected -> {bytes, Expected, Bytes};
        Others =/= RawOthers -> {others_bytes, RawOthers, Others};
        true -> ok
    end.

%%-------------------------------------------------------------------------- intended differences

%% COMPAT's list, by name; everything else is a fault.
difference(_Variant, _Call, Same, Same) ->
    none;
difference(read_only, Call, Raw, Ours) ->
    case excuse(Call, Raw, Ours) of
        fault -> read_only(Call, Raw, Ours);
        Excused -> Excused
    end;
difference(_Variant, Call, Raw, Ours) ->
    excuse(Call, Raw, Ours).

%% Any use after close, and closing again.
excuse({closed, {close}}, _, {ok, ok}) -> {excused, closed};
excuse({closed, _}, _, {{error, closed}, ok}) -> {excused, closed};
excuse({wrong, Call}, Raw, Ours) -> excuse_wrong(Call, Raw, Ours);
excuse({pread, _, 0}, eof, {ok, <<>>}) -> {excused, no_bytes_inside_the_file};
excuse({pread, Places}, {ok, Raw}, {ok, Ours}) -> no_bytes(Places, Raw, Ours);
excuse({position, At}, {error, badarg}, {error, einval}) -> beyond_63_bits(At);
excuse(_, _, _) -> fault.

%% A wrong type is the caller's mistake: raised, where a raw file answers it or raises otherwise.
excuse_wrong(_, {error, badarg}, {raised, badarg}) -> {excused, wrong_type};
excuse_wrong(_, {raised, _}, {raised, badarg}) -> {excused, wrong_type};
excuse_wrong(Call, {error, _}, {raised, badarg}) ->
    case has_float(Call) of
        true -> {excused, wrong_type}; % a raw file takes one for an impossible place
        false -> fault
    end;
excuse_wrong(Call, Raw, Ours) -> excuse(Call, Raw, Ours).

has_float(Tuple) when is_tuple(Tuple) -> has_float(tuple_to_list(Tuple));
has_float([Head | Tail]) -> has_float(Head) orelse has_float(Tail);
has_float(Term) -> is_float(Term).

no_bytes([], [], []) -> {excused, no_bytes_inside_the_file};
no_bytes([_ | Places], [Same | Raw], [Same | Ours]) -> no_bytes(Places, Raw, Ours);
no_bytes([{_, 0} | Places], [eof | Raw], [<<>> | Ours]) -> no_bytes(Places, Raw, Ours);
no_bytes(_, _, _) -> fault.

beyond_63_bits({_, By}) -> beyond_63_bits(By);
beyond_63_bits(Place) when abs(Place) >= 1 bsl 63 -> {excused, place_beyond_63_bits};
beyond_63_bits(_) -> fault.

%% Of no bytes, too, which a raw file takes. The bytes must then be as before: see agree/2.
read_only({wrong, Call}, Raw, Ours) ->
    read_only(Call, Raw, Ours);
read_only({ipread, _, _, _, _}, {Raw, Read}, {Ours, Read}) ->
    read_only({write}, Raw, Ours);
read_only(Call, Raw, Ours) ->
    Writes = lists:member(element(1, Call), [write, pwrite, truncate, allocate, copy]),
    case {Raw, Ours} of
        {{error, {N, _}}, {error, {M, eacces}}} when Writes, M =< N -> excuse_read_only();
        {{error, _}, {error, eacces}} when Writes -> excuse_read_only();
        {ok, {error, eacces}} when Writes -> excuse_read_only();
        {ok, {error, {_, eacces}}} when Writes -> excuse_read_only();
        _ -> fault
    end.

excuse_read_only() -> {excused, write_to_a_read_only_map}.
