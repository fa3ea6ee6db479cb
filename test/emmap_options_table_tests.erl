%% The table of options in docs/options.md is what this system answers to each of them.
%%
%%   EMMAP_WRITE_DOCS=FILE   write the table to FILE instead of comparing it
-module(emmap_options_table_tests).

-include_lib("eunit/include/eunit.hrl").

-import(emmap_test_lib, [with_dir/1, pattern/1]).

-export([the_table_of_options_is_what_this_system_answers/0]).

the_table_of_options_is_what_this_system_answers_test_() ->
    case os:type() of
        {unix, linux} ->
            {timeout, 120, fun ?MODULE:the_table_of_options_is_what_this_system_answers/0};
        _ ->
            [] % the table is Linux's
    end.

the_table_of_options_is_what_this_system_answers() ->
    Table = unicode:characters_to_binary([header(), [row(Row) || Row <- rows()]]),
    case os:getenv("EMMAP_WRITE_DOCS") of
        false -> ?assertEqual(lines(tracked()), lines(Table));
        File -> ok = file:write_file(File, Table)
    end.

%% Of the checkout, wherever the tests were built.
tracked() ->
    {ok, Table} = file:read_file(checkout(filename:absname(code:lib_dir(emmap)))),
    Table.

checkout(Dir) ->
    File = filename:join([Dir, "docs", "options.md"]),
    Up = filename:dirname(Dir),
    case filelib:is_file(File) of
        true -> File;
        false when Up =/= Dir -> checkout(Up)
    end.

%% What huge pages answer is known only where there are some, and nobody has reserved any.
lines(Table) ->
    Known = lists:all(fun emmap_test_lib:no_huge_pages/1, [2048, 1048576]),
    [Line || Line <- binary:split(Table, <<"\n">>, [global]),
             Known orelse binary:match(Line, <<"| `huge">>) =:= nomatch].

header() ->
    ["# Options of `emmap:open/2,4`\n\n"
     "What each means, and what Linux answered when it was tried on a file of 5000 bytes. This\n"
     "page is made by a test, `test/emmap_options_table_tests.erl`, and compared by it on every\n"
     "run; to make it again:\n\n"
     "    EMMAP_WRITE_DOCS=$PWD/docs/options.md rebar3 eunit --module emmap_options_table_tests\n\n"
     "`open` is `emmap:open(File, Options)`, with `read` where nothing else is said; `open_new` is\n"
     "of a name that is missing, `open_link` of a symbolic link to the file; the calls behind it\n"
     "have the handle as their first argument. `ok` of an open stands for its handle.\n"
     "An option that the system lacks is `{error, enotsup}`; one that does not exist is `badarg`,\n"
     "and the shell names it.\n\n"
     "| option | meaning | tried | answered |\n"
     "|---|---|---|---|\n"].

row({Option, Meaning, [First | More]}) ->
    [row(["`", Option, "`"], Meaning, First) | [row("", "", Text) || Text <- More]].

row(Option, Meaning, Text) ->
    ["| ", Option, " | ", Meaning, " | `", Text, "` | ", answer(Text), " |\n"].

%%------------------------------------------------------------------------- what is tried, and how

%% Evaluates the text: its last value, or why it was refused.
answer(Text) ->
    {ok, Tokens, _} = erl_scan:string(Text ++ "."),
    {ok, Expressions} = erl_parse:parse_exprs(Tokens),
    with_dir(fun(Dir) ->
        File = filename:join(Dir, "file"),
        ok = file:write_file(File, pattern(5000)),
        ok = file:make_symlink(File, filename:join(Dir, "link")),
        put(mem, undefined),
        try erl_eval:exprs(Expressions, [], {value, fun(F, Args) -> call(Dir, F, Args) end}) of
            {value, Value, _} -> io_lib:format("`~0tp`", [Value])
        catch
            error:badarg:Stack -> ["`badarg`: ", refusal(Stack)]
        after
            emmap_test_lib:ignore(catch emmap:close(get(mem)))
        end
    end).

refusal([{emmap, _, _, _} | _] = Stack) ->
    maps:get(2, emmap_error:format_error(badarg, Stack)).

call(Dir, open, [Options]) -> opened(filename:join(Dir, "file"), Options);
call(Dir, open_new, [Options]) -> opened(filename:join(Dir, "new"), Options);
call(Dir, open_link, [Options]) -> opened(filename:join(Dir, "link"), Options);
call(Dir, file_size, []) -> filelib:file_size(filename:join(Dir, "file"));
call(Dir, file_is_there, []) -> filelib:is_file(filename:join(Dir, "file"));
call(Dir, mode, []) -> mode(filename:join(Dir, "new"));
call(_Dir, info, [Key]) -> maps:get(Key, emmap:info(get(mem)));
call(_Dir, free, []) -> emmap_test_lib:free_address();
call(_Dir, Name, Args) -> apply(emmap, Name, [get(mem) | Args]).

opened(File, Options) ->
    case emmap:open(File, Options) of
        {ok, Mem, _} -> put(mem, Mem), ok;
        Error -> Error
    end.

mode(File) ->
    {_, _, Mode} = emmap_test_lib:snapshot(File),
    "8#" ++ integer_to_list(Mode band 8#777, 8).

rows() ->
    files() ++ sizes() ++ ways() ++ memory() ++ others().

files() ->
    [{"read", "implied",
      ["open([read]), pwrite(0, \"x\")"]},
     {"write", "open and map for writing",
      ["open([write]), pwrite(0, \"x\")"]},
     {"create", "make the file if it is missing, with the length asked for, zeros",
      ["open_new([write, {size, 10}])",
       "open_new([create, write, {size, 10}]), pread(0, 2)",
       "open_new([create, write])",
       "open_new([create, {size, 10}])"]},
     {"truncate", "empty the file first (last, when all else has succeeded); needs `write`",
      ["open([truncate, write, shared, {size, 10}]), file_size()",
       "open([truncate])"]},
     {"{chmod, M}", "mode of a file that is made (default 8#600), under the umask",
      ["open_new([create, write, {size, 10}]), mode()",
       "open_new([create, write, {size, 10}, {chmod, 8#400}]), mode()"]},
     {"auto_unlink", "delete the file at close or collection",
      ["open([auto_unlink]), close(), file_is_there()"]},
     {"nofollow", "refuse a symbolic link",
      ["open_link([nofollow])", "open([nofollow])"]},
     {"force", "map a file on a network file system, which is else `{error, network_fs}`",
      ["open([force])"]},
     {"anon", "no file behind it, zeros; the name is ignored, the length given",
      ["open([anon, write, {size, 10}]), pread(0, 2)", "open([anon])"]}].

sizes() ->
    [{"{size, N}", "the length, where the call gives none",
      ["open([{size, 5000}])", "open([write, {size, 9000}])"]},
     {"fit", "a file shorter than the length is stretched, a longer one mapped whole",
      ["open([fit, write, shared, {size, 9000}]), file_size()",
       "open([fit, {size, 10}]), info(size)"]},
     {"fixed_size", "resize and growth are refused",
      ["open([write, fixed_size]), resize(9000)"]},
     {"{max_inc_size, N}", "growth doubles below N, adds N above (default 64 MiB)",
      ["open([write, shared]), resize()", "open([write, shared, {max_inc_size, 100}]), resize()"]},
     {"{address_space, N}", "what the handle can grow to (default: 16 times the size, within 4 to "
      "64 GiB)",
      ["open([write, shared, {address_space, 65536}]), resize(1 bsl 20)"]},
     {"extend", "a write past the end grows the file, as a raw file does; needs `write`",
      ["open([write, shared]), pwrite(5000, \"x\")",
       "open([write, shared, extend]), pwrite(5000, \"x\"), file_size()"]},
     {"sparse", "reserve no space on the disk",
      ["open_new([create, write, shared, sparse, {size, 1000000}]), info(space)"]}].

ways() ->
    [{"shared", "changes reach the file and every other mapping",
      ["open([write, shared]), info(mode)"]},
     {"private", "changes are the handle's own (the default)",
      ["open([write]), info(mode)", "open([shared, private])"]},
     {"shared_validate", "shared, and the kernel refuses flags that it does not know",
      ["open([shared_validate]), info(mode)"]},
     {"sync", "with `shared_validate`, on DAX files: what is stored is in the file even after a "
      "crash",
      ["open([shared_validate, sync])", "open([shared, sync])"]},
     {"direct", "reads give binaries that lie in the mapping",
      ["open([direct]), info(direct)"]},
     {"lock", "a read sees each write of this VM whole (the default)",
      ["open([lock])"]},
     {"nolock", "or not",
      ["open([nolock])", "open([lock, nolock])"]},
     {"{address, A}", "map at address A, a multiple of the page size",
      ["open([{address, free()}])", "open([{address, free() + 1}])",
       "A = free(), open([{address, A}]), open([{address, A}])"]},
     {"fixed", "the same; needs `{address, A}`",
      ["open([fixed, {address, free()}])", "open([fixed])"]}].

memory() ->
    [{"populate", "touch all pages at open, not on a scheduler; a full disk is `{error, enospc}`",
      ["open([populate])", "open([populate, sparse])"]},
     {"nonblock", "with `populate`: only what needs no wait",
      ["open([populate, nonblock])"]},
     {"lock_memory", "the pages stay in memory; beyond what the system allows `{error, enomem}`",
      ["open([lock_memory])"]},
     {"noreserve", "no swap is reserved", ["open([write, noreserve])"]},
     {"nocache", "pages are the first to be dropped (macOS); elsewhere without effect",
      ["open([nocache])"]},
     {"uninitialized", "anonymous pages need not be zeroed, where the kernel was built for it",
      ["open([uninitialized, anon, {size, 10}])"]},
     huge("hugetlb", "with `anon`: huge pages of the default size", "1 bsl 21"),
     huge("huge_2mb", "with `anon`: huge pages of 2 MiB; none reserved, as here: "
          "`{error, enomem}`", "1 bsl 21"),
     huge("huge_1gb", "with `anon`: huge pages of 1 GiB", "1 bsl 30")].

huge(Option, Meaning, Size) ->
    {Option, Meaning, ["open([anon, write, " ++ Option ++ ", {size, " ++ Size ++ "}])"]}.

others() ->
    [{"debug", "open, resize and close are logged at debug level", ["open([debug])"]}].
