%% What the test suites share: folders, other VMs, what the system says of this one.
-module(emmap_test_lib).

-include_lib("kernel/include/file.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([new_dir/1, delete_dir/1, with_dir/1, with_file/2, new_file/3, write_at/3, truncate/2,
         pattern/1, zeros/1, snapshot/1]).
-export([start_vm/0, start_vm/1, stop_vm/1, os_pid/1, kill_vm/1, call/2, call/3, in_vm/1, in_vm/2,
         limited_vm/1, user_vm/1, beam_dirs/0]).
-export([wait_until/1, wait_until/2, descriptors/0, maps/0, maps_of/1, mappings/0, free_address/0,
         resident_bytes/0, no_huge_pages/1,
         nothing_is_left/0, badarg/3, ignore/1, is_reason/1]).
-export([is_root/0, has_proper/0, run/2, with_tmpfs/3]).
-export([init_case/2, end_case/1, truncate_outside/2, page/0, alone/1, together/1]).

-define(CALL_MS, 280000).

%%------------------------------------------------------------------------------- folders, files

%% A new folder of its own under $TMPDIR.
new_dir(Name) ->
    Unique = [Name, "-", os:getpid(), "-",
              integer_to_list(erlang:unique_integer([positive])), "-",
              integer_to_list(erlang:system_time(microsecond), 36)],
    Dir = filename:join(os:getenv("TMPDIR", "/tmp"), lists:flatten(["emmap-" | Unique])),
    ok = file:make_dir(Dir),
    Dir.

delete_dir(Dir) ->
    _ = file:del_dir_r(Dir),
    ok.

with_dir(Fun) ->
    Dir = new_dir("test"),
    try
        Fun(Dir)
    after
        delete_dir(Dir)
    end.

with_file(Bytes, Fun) ->
    with_dir(fun(Dir) -> Fun(new_file(Dir, "file", Bytes), Bytes) end).

%% A folder for each case of a suite.
init_case(Name, Config) ->
    [{dir, new_dir(atom_to_list(Name))} | Config].

end_case(Config) ->
    {dir, Dir} = lists:keyfind(dir, 1, Config),
    delete_dir(Dir).

%% Makes a file; answers its path.
new_file(Dir, Name, Bytes) ->
    File = filename:join(Dir, Name),
    ok = file:write_file(File, Bytes),
    File.

%% Not through a mapping, so that only the file system knows: what another program does.
write_at(File, Off, Bytes) ->
    raw(File, fun(Fd) -> ok = file:pwrite(Fd, Off, Bytes) end).

truncate(File, Size) ->
    raw(File, fun(Fd) ->
        {ok, Size} = file:position(Fd, Size),
        ok = file:truncate(Fd)
    end).

raw(File, Fun) ->
    {ok, Fd} = file:open(File, [raw, binary, read, write]),
    try
        Fun(Fd)
    after
        file:close(Fd)
    end.

%% The same by another OS process.
truncate_outside(File, Size) ->
    case os:find_executable("truncate") of
        false -> truncate(File, Size);
        _ -> {0, _} = run("truncate", ["-s", integer_to_list(Size), File]), ok
    end.

%% Bytes of a page on this machine.
page() ->
    {ok, Mem, _} = emmap:open(code:which(?MODULE), []),
    #{page_size := Page} = emmap:info(Mem),
    ok = emmap:close(Mem),
    Page.

%% Bytes of which no two places near each other are alike.
pattern(Size) ->
    Words = <<<<(erlang:phash2(N)):32>> || N <- lists:seq(0, Size div 4)>>,
    binary:part(Words, 0, Size).

zeros(Size) ->
    <<0:Size/unit:8>>.

%% What must not change when a call is refused.
snapshot(File) ->
    case file:read_file(File) of
        {ok, Bytes} ->
            {ok, #file_info{inode = Inode, mode = Mode}} = file:read_file_info(File),
            {Bytes, Inode, Mode};
        Error ->
            Error
    end.

%%------------------------------------------------------------------------------------ other VMs

%% A VM that is another OS process. It needs no distribution, and ends with the caller.
start_vm() ->
    start_vm(#{}).

%% `exec', `args': what starts it and its further arguments; `dirs': where the beams are.
start_vm(Options) ->
    Dirs = maps:get(dirs, Options, beam_dirs()),
    Args = maps:get(args, Options, []) ++ lists:append([["-pa", Dir] || Dir <- Dirs]),
    Env = [{"ERL_CRASH_DUMP_BYTES", "0"}, {"ERL_AFLAGS", ""}, {"ERL_FLAGS", ""},
           {"ERL_ZFLAGS", ""}],
    {ok, Vm, _} = peer:start_link(#{connection => standard_io, wait_boot => 60000,
                                    exec => maps:get(exec, Options, erl()),
                                    env => Env, args => Args}),
    Vm.

erl() ->
    filename:join([code:root_dir(), "bin", "erl"]).

%% A VM with a higher or lower limit of open files than this one; undefined if it may not be.
limited_vm(Descriptors) ->
    Limit = "ulimit -n " ++ integer_to_list(Descriptors),
    case run("/bin/sh", ["-c", Limit]) of
        {0, _} ->
            start_vm(#{exec => {"/bin/sh", ["-c", Limit ++ " && exec \"$@\"", "sh", erl()]}});
        {_, _} ->
            undefined
    end.

%% A VM of a user without rights; the beams are copied to where he can read them.
user_vm(Dir) ->
    Ebin = filename:join([Dir, "emmap", "ebin"]),
    Priv = filename:join([Dir, "emmap", "priv"]),
    [ok = filelib:ensure_dir(filename:join(To, "x")) || To <- [Ebin, Priv]],
    [{ok, _} = file:copy(From, filename:join(Ebin, filename:basename(From)))
     || Beams <- beam_dirs(), From <- filelib:wildcard(filename:join(Beams, "*.{beam,app}"))],
    So = "emmap_nif.so",
    {ok, _} = file:copy(filename:join(code:priv_dir(emmap), So), filename:join(Priv, So)),
    {0, _} = run("chmod", ["-R", "a+rX", Dir]),
    Exec = {os:find_executable("setpriv"),
            ["--reuid=65534", "--regid=65534", "--clear-groups", "--", erl()]},
    start_vm(#{exec => Exec, dirs => [Ebin]}).

beam_dirs() ->
    lists:usort([filename:absname(filename:dirname(code:where_is_file(Beam)))
                 || Beam <- ["emmap.beam", "emmap_test_lib.beam"]]).

stop_vm(Vm) ->
    peer:stop(Vm).

os_pid(Vm) ->
    call(Vm, fun os:getpid/0).

%% kill -9; back when the VM is gone.
kill_vm(Vm) ->
    Pid = os_pid(Vm),
    Ref = monitor(process, Vm),
    {0, _} = run("kill", ["-9", Pid]),
    receive
        {'DOWN', Ref, process, Vm, _} -> ok
    end.

%% Runs the fun in the VM: its result, or its exception.
call(Vm, Fun) ->
    call(Vm, Fun, ?CALL_MS).

call(Vm, Fun, Ms) ->
    try
        peer:call(Vm, erlang, apply, [Fun, []], Ms)
    catch
        exit:Reason -> error({vm_died, Reason})
    end.

in_vm(Fun) ->
    in_vm(#{}, Fun).

in_vm(Options, Fun) ->
    Vm = start_vm(Options),
    try
        call(Vm, Fun)
    after
        stop_vm(Vm)
    end.

%%-------------------------------------------------------------------- what the system says of us

wait_until(Fun) ->
    wait_until(Fun, 60000).

%% Waits for a condition that must come true; how long it takes does not matter.
wait_until(Fun, Ms) when Ms =< 0 ->
    error({never_true, Fun, emmap:stats()});
wait_until(Fun, Ms) ->
    case Fun() of
        true ->
            ok;
        false ->
            receive after 5 -> ok end,
            wait_until(Fun, Ms - 5)
    end.

%% All mappings, descriptors and counts are given back, once the processes' garbage is collected.
nothing_is_left() ->
    wait_until(fun() ->
        _ = [erlang:garbage_collect(P) || P <- processes()],
        case emmap:stats() of
            #{handles := 0, regions := 0, holds := 0, mapped_bytes := 0} -> true;
            _ -> false
        end
    end).

%% Open file descriptors of this OS process.
descriptors() ->
    {ok, Names} = file:list_dir("/dev/fd"),
    length(Names).

maps() ->
    {ok, Maps} = file:read_file("/proc/self/maps"),
    binary:split(Maps, <<"\n">>, [global, trim]).

maps_of(File) ->
    Name = unicode:characters_to_binary(File),
    length([Line || Line <- maps(), binary:match(Line, Name) =/= nomatch]).

%% The middle of the widest stretch that nobody uses.
free_address() ->
    Mapped = mappings(),
    Gaps = [{Next - End, End} || {{_, End}, {Next, _}} <- lists:zip(lists:droplast(Mapped),
                                                                    tl(Mapped))],
    {Width, From} = lists:max(Gaps),
    Page = page(),
    (From + Width div 2) div Page * Page.

mappings() ->
    Ranges = [begin
                  [Range | _] = binary:split(Line, <<" ">>),
                  [From, To] = binary:split(Range, <<"-">>),
                  {binary_to_integer(From, 16), binary_to_integer(To, 16)}
              end || Line <- maps()],
    [Range || {From, _} = Range <- Ranges, From < 1 bsl 63]. % what lies above is the kernel's

%% The system has huge pages of this size, and has set none aside.
no_huge_pages(KiB) ->
    Kind = "/sys/kernel/mm/hugepages/hugepages-" ++ integer_to_list(KiB) ++ "kB/",
    [{ok, <<"0\n">>}, {ok, <<"0\n">>}] =:=
        [file:read_file(Kind ++ Name) || Name <- ["nr_hugepages", "nr_overcommit_hugepages"]].

resident_bytes() ->
    {ok, Statm} = file:read_file("/proc/self/statm"),
    [_, Resident | _] = binary:split(Statm, <<" ">>, [global]),
    4096 * binary_to_integer(Resident).

%% The call is refused as the caller's mistake, and the shell names the argument and why.
badarg(Arg, Words, Fun) ->
    try Fun() of
        Result -> error({not_refused, Result})
    catch
        error:badarg:Stack ->
            Text = lists:flatten(erl_error:format_exception(error, badarg, Stack)),
            Wanted = lists:flatten(io_lib:format("argument ~b: ~ts", [Arg, Words])),
            ?assertMatch({_, [_ | _]}, {Text, string:find(Text, Wanted)})
    end.

ignore(_) ->
    ok.

%% Runs the fun in a process of its own, whose garbage is gone afterwards.
alone(Fun) ->
    [Result] = together([Fun]),
    Result.

%% Runs the funs at the same time, each in a process; the results in the order of the funs.
together(Funs) ->
    Running = [spawn_monitor(fun() -> exit({done, Fun()}) end) || Fun <- Funs],
    [receive
         {'DOWN', Ref, process, Pid, {done, Result}} -> Result;
         {'DOWN', Ref, process, Pid, Reason} -> error({died, Reason})
     end || {Pid, Ref} <- Running].

is_reason({error, {sync_failed, Reason}}) -> is_atom(Reason);
is_reason({error, Reason}) -> is_atom(Reason);
is_reason(_) -> false.

%%----------------------------------------------------------------------------------- the system

%% PropEr, in the code path, or beside the other libraries of this OTP.
has_proper() ->
    Beside = filelib:wildcard(filename:join([code:lib_dir(), "proper*", "ebin"])),
    code:ensure_loaded(proper) =:= {module, proper} orelse
        (code:add_pathsz(Beside) =:= ok andalso code:ensure_loaded(proper) =:= {module, proper}).

is_root() ->
    {0, Id} = run("id", ["-u"]),
    string:trim(Id) =:= <<"0">>.

%% Runs a program to its end: its exit code and output.
run(Program, Args) ->
    Path = case os:find_executable(Program) of
        false -> error({missing, Program});
        Found -> Found
    end,
    Port = open_port({spawn_executable, Path},
                     [{args, Args}, exit_status, binary, stderr_to_stdout, hide]),
    output(Port, <<>>).

output(Port, Output) ->
    receive
        {Port, {data, Data}} -> output(Port, <<Output/binary, Data/binary>>);
        {Port, {exit_status, Code}} -> {Code, Output}
    end.

%% A small file system of its own; {skip, Reason} where it cannot be had.
with_tmpfs(Dir, Size, Fun) ->
    Root = filename:join(Dir, "tmpfs"),
    ok = file:make_dir(Root),
    Options = "size=" ++ integer_to_list(Size),
    case is_root() andalso run("mount", ["-t", "tmpfs", "-o", Options, "tmpfs", Root]) of
        false ->
            {skip, "a tmpfs can be mounted by root only"};
        {0, _} ->
            try
                Fun(Root)
            after
                {0, _} = run("umount", ["-l", Root])
            end;
        {_, Message} ->
            {skip, unicode:characters_to_list([<<"no tmpfs: ">>, Message])}
    end.
