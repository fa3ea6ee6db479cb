%% The codec of terms: what it encodes the VM decodes, what the VM encodes it decodes, and no byte
%% that is wrong harms.
%%
%%   EMMAP_ETF_TERMS   how many random terms (300)
-module(emmap_etf_tests).

-include_lib("eunit/include/eunit.hrl").

-define(MORE, 1 bsl 30).

%% ------------------------------------------------------------------------------- there and back

each_integer_comes_back_test() ->
    [comes_back(Integer) || Integer <- edges()].

every_kind_of_term_comes_back_test_() ->
    [{lists:concat(["comes back: ", Name]), {timeout, 60, fun() -> comes_back(Term) end}}
     || {Name, Term} <- terms()].

comes_back(Term) ->
    same(Term, binary_to_term(encode(Term))),
    [begin
         {ok, Decoded} = decode(term_to_binary(Term, Options), Safe),
         same(Term, Decoded)
     end || Safe <- [true, false], Options <- [[], [{minor_version, 1}], [{minor_version, 2}]]],
    {ok, Own} = decode(encode(Term), true),
    same(Term, Own).

%% 0.0 and -0.0 are =:= in older VMs.
same(Expected, Got) ->
    ?assert(Expected =:= Got),
    ?assert(term_to_binary(Expected) =:= term_to_binary(Got)),
    true.

%% In place, or where that is too much on a dirty scheduler: the bytes are the same.
encode(Term) ->
    Dirty = emmap_nif:etf_encode_dirty(Term, ?MORE),
    case emmap_nif:etf_encode(Term, ?MORE) of
        {error, eagain} -> ok;
        InPlace -> ?assert(Dirty =:= InPlace)
    end,
    Dirty.

decode(Bytes, Safe) ->
    Dirty = emmap_nif:etf_decode_dirty(Bytes, Safe),
    case emmap_nif:etf_decode(Bytes, Safe) of
        {error, eagain} when byte_size(Bytes) > 8192 -> ok;
        InPlace -> ?assert(Dirty =:= InPlace)
    end,
    Dirty.

terms() ->
    Lengths = [0, 1, 58, 59, 60, 63, 64, 65, 1023, 1024, 1025, 5000],
    [{"integers", edges()},
     {"floats", [0.0, -0.0, 1.5, -1.5, 1.0e308, 5.0e-324, 0.1]},
     {"-0.0", -0.0},
     {"atoms", atoms()},
     {"many atoms", many_atoms()},
     {"[]", []},
     {"{}", {}},
     {"no map", #{}},
     {"empty ones in one", {{}, [], #{}, <<>>, "", [[]], {[]}, #{#{} => #{}}}},
     {"binaries", [binary:copy(<<"b">>, N) || N <- Lengths]},
     {"a binary at the end", {order, 12, binary:copy(<<"end">>, 1000)}},
     {"a binary as a tail", [1, 2 | binary:copy(<<"end">>, 1000)]},
     {"a binary at the end of a list", [1, binary:copy(<<"end">>, 1000)]},
     {"a binary at the end of a map", #{1 => binary:copy(<<"end">>, 1000)}},
     {"a binary as a key", #{binary:copy(<<"end">>, 1000) => 1}},
     {"70000 bytes", binary:copy(<<1, 2, 3, 4, 5, 6, 7>>, 10000)},
     {"3 MB in small ones", [binary:copy(<<"b">>, N) || N <- lists:seq(1, 2500)]},
     {"bytes that begin within a byte", unaligned(binary:copy(<<"ab">>, 3000))},
     {"bitstrings", [<<1:N>> || N <- [1, 7, 9, 63, 65, 513, 9001]]},
     {"parts of binaries", parts(binary:copy(<<"0123456789">>, 50))},
     {"strings", ["", "a", [0, 255], "more\n"
                  | [lists:duplicate(N, $s) || N <- [65534, 65535, 65536]]]},
     {"nearly a string", [[1, 2, 256], [1, 2, -1], [1, 2, a], [1, 2 | 3], [1, 2 | b],
                          [255 | <<>>]]},
     {"improper lists", [[a | b], [1, a | {}], [[x | y] | z], [a | #{}], [a, b | c]]},
     {"lists", [lists:seq(N, 2 * N) || N <- [1, 255, 256, 3000]]},
     {"nested", [[[[]]], {{{}}}, [{[{a, [b]}], c}], {1, {2, {3, {4, [5, {6}]}}}}]},
     {"tuples", [erlang:make_tuple(N, x) || N <- [1, 254, 255, 256, 300, 70000]]},
     {"maps", [maps:from_list([{I, [I]} || I <- lists:seq(1, N)]) || N <- [1, 31, 32, 33, 5000]]},
     {"maps of maps", #{#{a => 1} => #{b => #{c => #{}}}, [x] => #{1.0 => 1, 1 => 1.0}}},
     {"pids, ports, references", {self(), make_ref(), hd(erlang:ports()),
                                  list_to_pid("<0.1.0>"), a}},
     {"those of other nodes", others()},
     {"funs", {fun lists:map/2, fun terms/0, closure({self(), <<"kept">>}), b}},
     {"33 deep", deep(33, 0)},
     {"32 deep", deep(32, 0)},
     {"31 deep", deep(31, {leaf, 1, [2, 3.0], #{a => b}})},
     {"50 deep, of the VM's own", deep(50, {fun lists:map/2, a})},
     {"100000 deep", deep(100000, 0)},
     {"100000 deep lists", lists:foldl(fun(_, T) -> [T] end, [], lists:seq(1, 100000))},
     {"100000 in an improper list",
      lists:foldl(fun(N, T) -> [{N} | T] end, end_of_it, lists:seq(1, 100000))}].

edges() ->
    [B + D || E <- [0, 7, 8, 15, 16, 27, 28, 31, 32, 58, 59, 60, 62, 63, 64, 65, 128, 2040, 2048,
                    8000],
              B <- [1 bsl E, -(1 bsl E)], D <- [-2, -1, 0, 1, 2]].

atoms() ->
    [list_to_atom(lists:duplicate(N, C)) || N <- [0, 1, 26, 27, 51, 52, 53, 54, 55, 127, 128, 255],
                                            C <- [$a, 16#e9, 16#20ac, 16#1f600]]
        ++ ['', 'an atom', 'a\0b', ok, 'été', 'ÿ', 'Ā', '\x{10ffff}'].

%% More than are remembered at once, each several times.
many_atoms() ->
    Atoms = [list_to_atom("etf_" ++ integer_to_list(I rem 20) ++ integer_to_list(I))
             || I <- lists:seq(1, 1000)],
    {Atoms, lists:reverse(Atoms), [{A, A} || A <- Atoms]}.

unaligned(Binary) ->
    <<_:3, Part/binary>> = <<5:3, Binary/binary>>,
    Part.

parts(Binary) ->
    [binary:part(Binary, I, N) || I <- [0, 1, 99], N <- [0, 1, 64, 65, 200]].

closure(Kept) ->
    fun(X) -> {Kept, X} end.

%% What lies deeper is never the last one.
deep(0, Leaf) -> Leaf;
deep(N, Leaf) when N rem 3 =:= 0 -> {deep(N - 1, Leaf), 1};
deep(N, Leaf) when N rem 3 =:= 1 -> [deep(N - 1, Leaf), 256];
deep(N, Leaf) -> #{1 => deep(N - 1, Leaf), 2 => 3}.

%% A pid, a port, and references of an older and a newer kind.
others() ->
    Node = <<119, 8, "some@far">>,
    [binary_to_term(<<131, Encoded/binary>>)
     || Encoded <- [<<88, Node/binary, 1:32, 2:32, 3:32>>,
                    <<103, Node/binary, 1:32, 2:32, 3>>,
                    <<89, Node/binary, 7:32, 3:32>>,
                    <<90, 3:16, Node/binary, 3:32, 1:32, 2:32, 3:32>>,
                    <<114, 3:16, Node/binary, 3, 1:32, 2:32, 3:32>>]].

the_bytes_are_those_of_the_vm_test() ->
    [?assertEqual({Name, true},
                  {Name, encode(Term) =:= term_to_binary(Term, [{minor_version, 2}])})
     || {Name, Term} <- terms(), not holds_names_of_nodes(Name), not is_map_of_many(Name)].

%% The VM writes those in an older form.
holds_names_of_nodes(Name) ->
    lists:member(Name, ["pids, ports, references", "those of other nodes", "funs",
                         "50 deep, of the VM's own"]).

is_map_of_many(Name) ->
    lists:prefix("maps", Name).

%% --------------------------------------------------------------------------------- random terms

random_terms_come_back_test_() ->
    {timeout, 300, [fun random_terms_come_back/0 || emmap_test_lib:has_proper()]}.

random_terms_come_back() ->
    Property = proper:forall(proper_types:sized(fun any/1), fun(Term) ->
        try comes_back(Term) catch _:_ -> false end
    end),
    passes(Property).

random_damage_is_found_or_harmless_test_() ->
    {timeout, 300, [fun random_damage_is_found_or_harmless/0 || emmap_test_lib:has_proper()]}.

random_damage_is_found_or_harmless() ->
    Changes = proper_types:non_empty(proper_types:list(
        {proper_types:oneof([flip, insert, cut]), proper_types:non_neg_integer(), byte_or_tag()})),
    Property = proper:forall({proper_types:sized(fun any/1), Changes}, fun({Term, Changed}) ->
        try
            decodes_as_the_vm_does(lists:foldl(fun damage/2, encode(Term), Changed))
        catch
            _:_ -> false
        end
    end),
    passes(Property).

passes(Property) ->
    Terms = list_to_integer(os:getenv("EMMAP_ETF_TERMS", "300")),
    Passed = proper:quickcheck(Property, [{numtests, Terms}, {max_size, 40}, quiet]),
    ?assertEqual({true, []}, {Passed, [proper:counterexample() || Passed =/= true]}).

damage({flip, At, With}, Bytes) ->
    {Before, Rest} = split_binary(Bytes, At rem (byte_size(Bytes) + 1)),
    case Rest of
        <<Byte, After/binary>> -> <<Before/binary, (Byte bxor With), After/binary>>;
        <<>> -> Before
    end;
damage({insert, At, Byte}, Bytes) ->
    {Before, After} = split_binary(Bytes, At rem (byte_size(Bytes) + 1)),
    <<Before/binary, Byte, After/binary>>;
damage({cut, At, _}, Bytes) ->
    element(1, split_binary(Bytes, byte_size(Bytes) - At rem (byte_size(Bytes) + 1))).

byte_or_tag() ->
    proper_types:oneof([proper_types:range(0, 255), proper_types:range(70, 121),
                        proper_types:oneof([1, 2, 4, 8, 128, 255])]).

any(0) -> leaf();
any(Size) ->
    Less = proper_types:lazy(fun() -> any(Size div 3) end),
    Several = proper_types:resize(min(Size, 12), proper_types:list(Less)),
    proper_types:frequency(
        [{4, leaf()},
         {3, Several},
         {2, let_be(Several, fun list_to_tuple/1)},
         {2, let_be(proper_types:resize(min(Size, 40), proper_types:list({Less, Less})),
                    fun maps:from_list/1)},
         {1, let_be({Several, leaf()}, fun({Elements, Tail}) -> Elements ++ Tail end)}]).

let_be(Type, Fun) ->
    proper_types:bind(Type, Fun, false).

leaf() ->
    proper_types:oneof(
        [proper_types:integer(),
         let_be({proper_types:range(0, 90), proper_types:range(-2, 2), proper_types:oneof([1, -1])},
                fun({Bits, Add, Sign}) -> Sign * (1 bsl Bits) + Add end),
         proper_types:float(), proper_types:oneof([0.0, -0.0]),
         proper_types:oneof([ok, error, undefined, '', 'é', '日本'] ++ atoms()),
         proper_types:binary(), proper_types:bitstring(),
         let_be(proper_types:oneof([63, 64, 65, 1023, 1024, 1025, 4090, 4100]),
                fun(N) -> binary:copy(<<"x">>, N) end),
         proper_types:list(proper_types:range(0, 255)),
         proper_types:list(proper_types:range(250, 258)),
         proper_types:oneof([self(), make_ref(), fun lists:map/2, closure(1)])]).

%% -------------------------------------------------------------------------------------- damage

a_truncated_term_is_corrupt_test_() ->
    {timeout, 60, fun() ->
        [?assertEqual({N, {error, corrupt}},
                      {N, decode(binary:part(Bytes, 0, N), Safe)})
         || Bytes <- damaged(), N <- lists:seq(0, byte_size(Bytes) - 1), Safe <- [true, false]]
    end}.

more_bytes_than_the_term_are_corrupt_test() ->
    [?assertEqual({error, corrupt}, decode(<<Bytes/binary, More>>, true))
     || Bytes <- damaged(), More <- [0, 106, 131]].

each_changed_byte_is_an_error_or_what_the_vm_decodes_test_() ->
    {timeout, 120, fun() ->
        [?assertEqual({At, With, Bytes, true},
                      {At, With, Bytes, try decodes_as_the_vm_does(damage({flip, At, With}, Bytes))
                                        catch _:Reason -> Reason
                                        end})
         || Bytes <- damaged(), At <- lists:seq(0, byte_size(Bytes) - 1),
            With <- changes(byte_size(Bytes))]
    end}.

%% Of a short term all; of a long one each bit.
changes(Size) when Size < 120 -> lists:seq(1, 255);
changes(_) -> [1 bsl Bit || Bit <- lists:seq(0, 7)].

damaged() ->
    [encode(Term) || Term <- [
        {order, 12345, <<"abc">>, 1.5, -3, 1 bsl 40, [1, 2, x | y], "text", 'é', '日本'},
        #{a => 1, b => #{2 => [<<>>]}, [] => {}},
        {self(), make_ref(), hd(erlang:ports()), fun lists:map/2, closure({a, "b"}), <<5:3>>},
        [1 bsl 70, -(1 bsl 70), 1 bsl 2050],
        others(),
        erlang:make_tuple(300, 7)]]
        ++ [term_to_binary({'é', ok, 1.5, [self()]}, [{minor_version, 0}])].

%% The VM takes more: what it writes for itself only, compressed terms, bytes after the term.
decodes_as_the_vm_does(Bytes) ->
    Expected = try {ok, binary_to_term(Bytes, [safe])} catch error:badarg -> {error, badarg} end,
    case {decode(Bytes, true), Expected} of
        {{ok, Got}, {ok, Term}} -> term_to_binary(Term) =:= term_to_binary(Got);
        {{error, unsafe_term}, {error, badarg}} -> true;
        {{error, corrupt}, _} -> true;
        _ -> false
    end.

what_a_vm_writes_for_itself_is_corrupt_test() ->
    [?assertEqual({Tag, Size, {error, corrupt}},
                  {Tag, Size, decode(<<131, Before/binary, Tag, 0:(8 * Size)>>, false)})
     || Tag <- lists:seq(71, 76) ++ [78, 79, 81, 82], Size <- [0, 1, 2, 3, 4, 8, 16, 24],
        Before <- [<<>>, <<104, 2, 77, 1:32, 3, 32>>]].

a_compressed_term_is_corrupt_test() ->
    <<131, 80, _/binary>> = Bytes = term_to_binary(lists:duplicate(1000, $a), [compressed]),
    ?assertEqual({error, corrupt}, decode(Bytes, false)),
    <<131, Within/binary>> = Bytes,
    ?assertEqual({error, corrupt}, decode(<<131, 104, 1, Within/binary>>, false)),
    ByVm = <<131, 104, 2, 77, 1:32, 3, 0, Within/binary>>,
    ?assertEqual({error, corrupt}, decode(ByVm, false)).

%% Each header once alone, once in many others, and as what the VM has to decode.
a_count_that_cannot_be_takes_no_memory_test() ->
    Headers = [<<108, -1:32>>, <<108, 16#7fffffff:32>>, <<105, -1:32>>, <<105, 16#ffffff:32>>,
               <<116, -1:32>>, <<116, 16#7fffffff:32>>, <<109, -1:32>>, <<107, -1:16>>,
               <<111, -1:32, 0>>, <<110, 255, 0>>, <<118, -1:16>>, <<119, 255>>, <<77, -1:32, 3>>,
               <<112, -1:32, 0:160, 0:32, -1:32>>, <<90, -1:16, 119, 1, $a>>],
    Deep = binary:copy(<<104, 1>>, 40),
    Wide = << <<131, 105, 16#ffff:32>>/binary, (binary:copy(<<108, 16#fff0:32>>, 20))/binary >>,
    [?assertEqual({error, corrupt}, decode(Bytes, Safe))
     || H <- Headers, Safe <- [true, false],
        Bytes <- [<<131, H/binary>>, <<131, H/binary, 106>>, <<131, 104, 1, H/binary, 0:64>>,
                  <<131, Deep/binary, H/binary, 106>>, <<Wide/binary, H/binary, 0:80000>>]].

what_is_no_number_is_corrupt_test() ->
    [?assertEqual({error, corrupt}, decode(<<131, 70, Bits:64>>, true))
     || Bits <- [16#7ff0000000000000, 16#fff0000000000000, 16#7ff8000000000000, -1]].

a_key_that_is_there_twice_is_corrupt_test() ->
    Pairs = [<<97, (I rem 40), 97, I>> || I <- lists:seq(0, 40)],
    [?assertEqual({error, corrupt}, decode(iolist_to_binary(Map), true))
     || Map <- [<<131, 116, 2:32, 97, 1, 97, 2, 97, 1, 97, 3>>, [<<131, 116, 41:32>>, Pairs]]].

an_atom_that_cannot_be_is_corrupt_test() ->
    Names = [<<16#ff>>, <<16#c0, 16#80>>, <<16#c1, 16#bf>>, <<16#e0, 16#80, 16#80>>,
             <<16#ed, 16#a0, 16#80>>, <<16#f0, 16#80, 16#80, 16#80>>,
             <<16#f4, 16#90, 16#80, 16#80>>,
             <<16#f5, 16#80, 16#80, 16#80>>, <<"a", 16#c3>>, <<16#e2, 16#82>>, <<16#80>>,
             binary:copy(<<"a">>, 256), binary:copy(<<"é"/utf8>>, 256),
             binary:copy(<<"a">>, 2000)],
    [?assertEqual({Name, {error, corrupt}}, {Name, decode(Bytes, Safe)})
     || Name <- Names, Safe <- [true, false],
        Atom <- [<<118, (byte_size(Name)):16, Name/binary>>],
        Bytes <- [<<131, Atom/binary>>, <<131, 104, 2, 77, 1:32, 3, 32, Atom/binary>>]].

%% ---------------------------------------------------------------------------------------- safe

safe_makes_no_atom_test() ->
    Names = [<<"etf_never_", (integer_to_binary(I))/binary>> || I <- lists:seq(1, 20)],
    Wide = unicode:characters_to_binary([16#3c0, $_ | "etf_never"]),
    Latin = <<"etf_never_", 16#e9>>,
    Unknown = [<<119, (byte_size(Name)), Name/binary>> || Name <- [Wide | Names]]
        ++ [<<118, (byte_size(Name)):16, Name/binary>> || Name <- Names]
        ++ [<<115, (byte_size(Latin)), Latin/binary>>,
            <<100, (byte_size(Latin)):16, Latin/binary>>],
    Before = erlang:system_info(atom_count),
    [begin
         ?assertEqual({Bytes, {error, unsafe_term}}, {Bytes, decode(Bytes, true)}),
         Cut = binary:part(Bytes, 0, byte_size(Bytes) - 1),
         ?assertEqual({error, corrupt}, decode(Cut, true)),
         ?assertEqual({error, corrupt}, decode(<<Bytes/binary, 0>>, true))
     end || Atom <- Unknown,
            Bytes <- [<<131, Atom/binary>>,
                      <<131, 104, 2, Atom/binary, 97, 1>>,
                      <<131, 108, 1:32, 104, 2, 119, 2, "ok", Atom/binary, 106>>,
                      <<131, 116, 1:32, Atom/binary, 106>>,
                      <<131, 104, 2, 77, 1:32, 3, 32, Atom/binary>>,
                      <<131, 88, Atom/binary, 1:32, 2:32, 3:32>>]],
    Long = <<131, 104, 2, (hd(Unknown))/binary, 109, 9000:32, 0:72000>>,
    ?assertEqual({error, eagain}, emmap_nif:etf_decode(Long, true)),
    ?assertEqual({error, unsafe_term}, decode(Long, true)),
    ?assertEqual(Before, erlang:system_info(atom_count)),
    {ok, Made} = decode(<<131, (hd(Unknown))/binary>>, false),
    ?assertEqual({ok, Made}, decode(<<131, (hd(Unknown))/binary>>, true)),
    ?assertEqual({ok, Made}, decode(term_to_binary(Made), true)),
    ?assertEqual(Before + 1, erlang:system_info(atom_count)).

safe_refuses_what_the_vm_refuses_test() ->
    Export = <<131, 113, 119, 5, "lists", 119, 2, "ok", 97, 76>>,
    Expected = try {ok, binary_to_term(Export, [safe])}
               catch error:badarg -> {error, unsafe_term}
               end,
    ?assertEqual(Expected, decode(Export, true)),
    ?assertEqual({ok, erlang:make_fun(lists, ok, 76)}, decode(Export, false)).

%% --------------------------------------------------------------------------------------- limits

a_large_term_is_left_to_a_dirty_scheduler_test() ->
    [?assertEqual({Name, Answer},
                  {Name, case emmap_nif:etf_encode(Term, ?MORE) of
                             {error, Reason} -> Reason;
                             Bytes when is_binary(Bytes) -> in_place
                         end})
     || {Name, Term, Answer} <- [
            {"1900 terms", lists:duplicate(1900, x), in_place},
            {"2100 terms", lists:duplicate(2100, x), eagain},
            {"1000 pairs", maps:from_list([{I, a} || I <- lists:seq(1, 900)]), in_place},
            {"1100 pairs", maps:from_list([{I, a} || I <- lists:seq(1, 1100)]), eagain},
            {"a string of 1900", lists:duplicate(1900, $x), in_place},
            {"a string of 2100", lists:duplicate(2100, $x), eagain},
            {"60 KiB", lists:duplicate(60, binary:copy(<<"x">>, 1024)), in_place},
            {"70 KiB", lists:duplicate(70, binary:copy(<<"x">>, 1024)), eagain},
            {"70 KiB, not the last", {binary:copy(<<"x">>, 70 bsl 10), 1}, eagain},
            {"1 MiB at the end", {1, binary:copy(<<"x">>, 1 bsl 20)}, in_place},
            {"a pid", {self(), make_ref()}, in_place},
            {"a fun", closure(1), eagain},
            {"an integer of 64 bits", (1 bsl 64) - 1, in_place},
            {"an integer of more", 1 bsl 64, eagain},
            {"a bitstring", <<1:1>>, eagain},
            {"30 deep", deep(30, x), in_place},
            {"40 deep", deep(40, x), eagain}]].

a_long_term_is_decoded_on_a_dirty_scheduler_test() ->
    Long = binary:copy(<<"x">>, 9000),
    [?assertEqual({Name, Answer},
                  {Name, case emmap_nif:etf_decode(encode(Term), true) of
                             {error, Reason} -> Reason;
                             {ok, Term} -> in_place
                         end})
     || {Name, Term, Answer} <- [
            {"8000 terms in 8 KiB", {lists:duplicate(4000, {}), a}, in_place},
            {"3900 terms in more", [Long | lists:duplicate(3900, {})], in_place},
            {"4100 terms in more", [Long | lists:duplicate(4100, {})], eagain},
            {"a string of 30000", lists:duplicate(30000, $a), in_place},
            {"a string of 40000", lists:duplicate(40000, $a), eagain},
            {"a fun", {closure(1), binary:copy(<<"x">>, 1000)}, in_place},
            {"a fun and 9000 bytes", {closure(1), Long}, eagain},
            {"a binary of 1 MiB", {1, binary:copy(<<"x">>, 1 bsl 20)}, in_place}]].

a_term_beyond_the_limit_is_too_big_test() ->
    [begin
         Size = byte_size(encode(Term)),
         [?assertEqual({error, efbig}, F(Term, Limit))
          || F <- [fun emmap_nif:etf_encode/2, fun emmap_nif:etf_encode_dirty/2],
             Limit <- [0, 1, Size div 2, Size - 1]],
         ?assertEqual(Size, byte_size(emmap_nif:etf_encode(Term, Size)))
     end || Term <- [x, {1, 2, 3}, binary:copy(<<"x">>, 500), binary:copy(<<"x">>, 50000),
                     [binary:copy(<<"x">>, 50000), 1], lists:seq(1000, 2500), self(),
                     {a, binary:copy(<<"x">>, 2000)}]].

%% ------------------------------------------------------------------------------------- binaries

a_binary_of_more_than_64_bytes_is_a_part_of_its_message_test() ->
    Kept = fun(N) ->
        Bytes = encode({binary:copy(<<"o">>, 5000), binary:copy(<<"x">>, N)}),
        {ok, {_, Part}} = decode(Bytes, true),
        ?assertEqual(N, byte_size(Part)),
        binary:referenced_byte_size(Part) % in OTP 27 that of a heap binary is in bits
    end,
    ?assert(Kept(64) =< 64 * 8),
    ?assert(Kept(65) > 5000).

a_part_of_a_message_that_begins_within_a_byte_is_the_same_test() ->
    Term = {binary:copy(<<"odd">>, 100), 1, binary:copy(<<"even">>, 100)},
    ?assertEqual({ok, Term}, decode(unaligned(encode(Term)), true)).
