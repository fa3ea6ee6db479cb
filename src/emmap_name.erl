%% @private
%% @doc Names of files, as the `file' module has them.
-module(emmap_name).

-export([native/1, tell_lost/2]).

%% @doc The bytes that the file system knows it by.
-spec native(term()) -> binary() | error.
%% A binary is the raw name, as for `file'; characters are encoded as the file system has them.
native(File) when is_binary(File) ->
    File;
native(File) when is_list(File); is_atom(File) ->
    try unicode:characters_to_binary(characters(File), unicode, file:native_name_encoding()) of
        Name when is_binary(Name) -> Name;
        _ -> error
    catch
        error:_ -> error
    end;
native(_) ->
    error.

%% A name may be nested, and hold atoms, but as everywhere an improper list is none.
characters(Atom) when is_atom(Atom) -> atom_to_list(Atom);
characters(Char) when is_integer(Char) -> Char;
characters(List) when is_list(List) -> lists:map(fun characters/1, List).

%% @doc For a store that looks whether its file has lost its name, with what its native call has answered: that
%% is once for each handle.
-spec tell_lost(module(), false | {true, binary()}) -> ok.
tell_lost(_Module, false) ->
    ok;
tell_lost(Module, {true, Name}) ->
    logger:warning("~ts: ~ts has lost its name; what is in it ends with its last handle, if it has no other",
                   [Module, Name]).
