%% What is a file's name, and what its bytes are.
-module(emmap_names_tests).

-include_lib("eunit/include/eunit.hrl").

-import(emmap_test_lib, [with_dir/1, new_file/3, badarg/3, in_vm/2]).

-export([unicode_names_are_those_of_the_file_module/0]).

-define(SHARED, [write, shared]).

a_name_is_text_test() ->
    with_dir(fun(Dir) ->
        [badarg(1, "not a file name", fun() -> emmap:open(Name, 0, 10, [create, write]) end)
         || Name <- [1, 1.5, {}, #{}, self(), make_ref(), [Dir | x], [Dir, -1], [Dir, 16#D800],
                     [Dir, 16#110000], [Dir, {}], <<1:7>>, fun() -> Dir end]],
        [badarg(1, "a file name cannot contain a NUL",
                fun() -> emmap:open(Name, 0, 10, [create, write]) end)
         || Name <- [Dir ++ "/a\0b", list_to_binary(Dir ++ "/a\0b"), [Dir, "/", [0]], [0], <<0>>,
                     list_to_binary(Dir ++ "/a\0")]],
        ?assertEqual({ok, []}, file:list_dir(Dir))
    end).

an_empty_name_is_enoent_test() ->
    [?assertEqual({error, enoent}, emmap:open(Name, Options))
     || Name <- ["", <<>>, [], [[], ""], ''],
        Options <- [[], [write], [create, write, {size, 10}]]].

a_name_is_a_string_a_binary_an_atom_or_nested_test() ->
    with_dir(fun(Dir) ->
        File = new_file(Dir, "name", <<"abc">>),
        [begin
             {ok, Mem, #{size := 3}} = emmap:open(Name, []),
             ?assertEqual(list_to_binary(File), maps:get(name, emmap:info(Mem))),
             close(Mem)
         end || Name <- [File, list_to_binary(File), list_to_atom(File), [Dir, ["/", [name]]],
                         [Dir, $/, "name"]]]
    end).

%% The encoding of names is a VM's own, so other VMs are asked.
unicode_names_are_those_of_the_file_module_test_() ->
    {timeout, 120, fun ?MODULE:unicode_names_are_those_of_the_file_module/0}.

unicode_names_are_those_of_the_file_module() ->
    with_dir(fun(Dir) ->
        in_vm(#{args => ["+fnu"]}, fun() ->
            Names = [[16#E4, 16#F6, 16#FC], "z " ++ [16#20AC, 16#1F600], [$e, 16#301]],
            [unicode_name(filename:join(Dir, Name)) || Name <- Names]
        end),
        in_vm(#{args => ["+fnl"]}, fun() -> latin1_name(filename:join(Dir, [$l, 16#E4])) end)
    end).

unicode_name(File) ->
    {ok, Mem, #{exist := false}} = emmap:open(File, 0, 3, [create | ?SHARED]),
    ok = emmap:pwrite(Mem, 0, <<"abc">>),
    ?assertEqual({ok, <<"abc">>}, file:read_file(File)),
    Utf8 = unicode:characters_to_binary(File),
    ?assertMatch(#{name := Utf8}, emmap:info(Mem)),
    {ok, Same, #{exist := true}} = emmap:open(Utf8, []),
    ?assertEqual({ok, <<"abc">>}, emmap:pread(Same, 0, 3)).

latin1_name(File) ->
    {ok, _, #{exist := false}} = emmap:open(File, 0, 3, [create | ?SHARED]),
    ?assertEqual({ok, <<0, 0, 0>>}, file:read_file(File)),
    {ok, _, #{exist := true}} = emmap:open(list_to_binary(File), []),
    badarg(1, "not a file name", fun() -> emmap:open([16#20AC], []) end).

a_binary_is_the_raw_name_test() ->
    with_dir(fun(Dir) ->
        File = filename:join(list_to_binary(Dir), <<"raw", 255, 254, 128>>),
        {ok, Mem, #{exist := false}} = emmap:open(File, 0, 3, [create, write, shared]),
        ?assertEqual(File, maps:get(name, emmap:info(Mem))),
        ?assertEqual({ok, <<0, 0, 0>>}, file:read_file(File)),
        close(Mem)
    end).

close(Mem) ->
    ?assertEqual(ok, emmap:close(Mem)).
