%% @doc Memory-mapped files.
%%
%% A mapped file is read and written at the speed of memory. What is written is in the file at
%% once for every OS process that maps it, and stays when this one dies; {@link sync/1} puts it on
%% the disk. No fault of the file reaches the VM: a file that is truncated by another program while
%% it is mapped, or a disk that is full, becomes an `{error, Reason}' of the call that meets it.
%%
%% ```
%% {ok, Mem, #{size := 4096}} = emmap:open("data", [create, write, shared, {size, 4096}]),
%% ok = emmap:pwrite(Mem, 100, <<"hello">>),
%% {ok, <<"hello">>} = emmap:pread(Mem, 100, 5),
%% ok = emmap:sync(Mem),
%% ok = emmap:close(Mem).
%% '''
%%
%% <h3>Shapes and units</h3>
%% Offsets and sizes are bytes; place 0 of a handle is byte `Off' of the file ({@link open/4}).
%% The world's refusals are `{error, Reason}': atoms as the `file' module has them (`enospc',
%% `eacces') and some of our own; {@link format_error/1} says each in words. A caller's mistake
%% raises `badarg', and the shell names the argument and why.
%%
%% <h3>What is safe beside what</h3>
%% Any number of processes may use a handle at the same time, also while others resize or close it:
%% a call then answers what it found, or `{error, closed}'. Handles of one file in one VM agree on
%% its size; growth by other OS processes is seen by the next call that reaches past the known end,
%% shrinking by them at the fault, at {@link sync/1}, {@link info/1} and {@link resize/2}. Shrinking
%% to within the last page cannot be seen before one of these. A handle that is not closed is
%% given back when it is garbage collected.
%%
%% <h3>What is durable</h3>
%% A write to a shared handle outlives the death of the OS process at any instruction, `kill -9'
%% included. Power loss it outlives once a {@link sync/1} that began after it has answered `ok'.
-module(emmap).

-include_lib("kernel/include/file.hrl").

-export([open/2, open/4, close/1, resize/1, resize/2, flush/1, sync/1, sync/3, pread/3, pwrite/3,
         info/1, stats/0, format_error/1]).
-export_type([mem/0, option/0, reason/0, open_info/0, info/0]).

-define(IS_HANDLE(H), #file_descriptor{module = ?MODULE, data = H}).
%% Macros, since the stack names the function in which error/3 stands.
-define(BADARG(Bad, Args), error(badarg, Args, emmap_error:info(Bad))).
-define(NO_HANDLE(Args), ?BADARG({badarg, 1, not_a_handle}, Args)).
-define(CHECKED(Call, Args),
        case Call of
            {badarg, _, _} = Bad -> ?BADARG(Bad, Args);
            Result -> Result
        end).

-type mem() :: #file_descriptor{}.
%% A mapped file. May be sent to other processes of the same node.

-type open_info() :: #{exist := boolean(), size := non_neg_integer()}.

-type reason() :: file:posix() | closed | truncated | fixed_size | size_mismatch | size_missing
                | network_fs | busy | {sync_failed, file:posix()}.
%% `enospc': no space on the file system, also for a page of a sparse file.
%% `truncated': the file no longer reaches the place; somebody truncated it while it was mapped.
%% `closed': the handle is closed.

-type option() ::
    read | write | create | truncate | shared | private | direct | fit | fixed_size | auto_unlink
  | sparse | force
  | {size, non_neg_integer()}
  | {chmod, 1..8#7777}
  | {max_inc_size, pos_integer()}
  | {address_space, pos_integer()}.
%% <ul>
%% <li>`read', `write': reading is implied; `write' opens and maps the file for writing.</li>
%% <li>`shared', `private': changes reach the file and every other mapping, or are the handle's own
%%   (the default). A private handle changes nothing in the file after open.</li>
%% <li>`create': make the file if it is missing, with the length asked for, zeros. Needs `write'.</li>
%% <li>`truncate': empty the file first, then give it the length asked for. Done last, when all
%%   else has succeeded. Needs `write'.</li>
%% <li>`{size, N}': the length, where the call gives none.</li>
%% <li>`fit': a file shorter than the length is stretched, a longer one mapped whole; without it
%%   another size is `{error, size_mismatch}'.</li>
%% <li>`{chmod, Mode}': of a file that is made, under the umask (default 8#600).</li>
%% <li>`fixed_size': {@link resize/1} is `{error, fixed_size}'.</li>
%% <li>`{max_inc_size, N}': {@link resize/1} doubles below, adds N above (default 64 MiB).</li>
%% <li>`auto_unlink': delete the file at close or collection.</li>
%% <li>`sparse': reserve no space on the disk when the file is made or grows. A write may then find
%%   the disk full: `{error, enospc}'.</li>
%% <li>`{address_space, N}': what the handle can grow to, in bytes of addresses that are reserved
%%   at open (default: 16 times the size, at least 4 GiB, at most 64 GiB, at least the size; half
%%   of it, and so on, where the system refuses). Growth beyond is `{error, enomem}'. Memory it
%%   costs none.</li>
%% <li>`force': map a file on a network file system, else `{error, network_fs}': what other
%%   machines write to it is not seen.</li>
%% <li>`direct': {@link pread/3} answers binaries that lie in the mapping and copies nothing. The
%%   mapping and its file descriptor stay until the last such binary is collected. <b>The VM assumes
%%   that binaries do not change</b>: while any process writes to the range, `binary_to_term', string
%%   and unicode functions over such a binary can crash the VM, and no library can prevent it. Take
%%   `binary:copy/1' first, and never use one as a key of a map or an ETS table. When the file is
%%   truncated by another program the binary reads as zeros.</li>
%% </ul>

-type info() :: #{name := binary(), size := non_neg_integer(), offset := non_neg_integer(),
                  file_size := non_neg_integer(), allocated := non_neg_integer(),
                  address_space := non_neg_integer(), page_size := pos_integer(),
                  faults := non_neg_integer(), space := reserved | best_effort | sparse,
                  mode := shared | private, access := read | read_write, direct := boolean(),
                  fixed_size := boolean(), linked := boolean(),
                  sync_error := undefined | file:posix()}.
%% `size' and `address_space' are the handle's, `file_size' and `allocated' (bytes on the disk) the
%% file's. `faults': how often pages of the mapping could not be had. `space': every byte has its
%% place on the disk; or the file system cannot promise that; or the file has holes.
%% `linked => false': the file has lost its last name.

%%------------------------------------------------------------------------------- open and close

%% @equiv open(File, 0, 0, Options)
-spec open(file:name_all(), [option()]) -> {ok, mem(), open_info()} | {error, reason()}.
open(File, Options) ->
    case open_native(File, 0, 0, Options) of
        {badarg, 4, Why} -> ?BADARG({badarg, 2, Why}, [File, Options]);
        {badarg, _, _} = Bad -> ?BADARG(Bad, [File, Options]);
        Result -> Result
    end.

%% @doc Maps `Len' bytes of a regular file from byte `Off' on; `Off' need not lie on a page.
%%
%% With `Len' 0 the length is what the file holds from `Off' on, or the option `{size, N}'. `exist'
%% tells whether the file was there, `size' the bytes mapped. After an error the file is as it was,
%% and a missing one is missing.
%%
%% Errors: as `file:open/2', and `enodev' (not a regular file), `eisdir', `size_mismatch',
%% `size_missing' (a new file needs a length), `network_fs', `busy' (another OS process has been
%% changing the size for 5 s).
-spec open(file:name_all(), non_neg_integer(), non_neg_integer(), [option()]) ->
    {ok, mem(), open_info()} | {error, reason()}.
open(File, Off, Len, Options) ->
    ?CHECKED(open_native(File, Off, Len, Options), [File, Off, Len, Options]).

open_native(File, Off, Len, Options) ->
    case native_name(File) of
        error ->
            {badarg, 1, not_a_name};
        Name ->
            case emmap_nif:file_open(Name, Off, Len, Options) of
                {ok, Handle, Info} -> {ok, ?IS_HANDLE(Handle), Info};
                Error -> Error
            end
    end.

%% A binary is the raw name, as for `file'; characters are encoded as the file system has them.
native_name(File) when is_binary(File) ->
    File;
native_name(File) when is_list(File); is_atom(File) ->
    try unicode:characters_to_binary(characters(File), unicode, file:native_name_encoding()) of
        Name when is_binary(Name) -> Name;
        _ -> error
    catch
        error:_ -> error
    end;
native_name(_) ->
    error.

%% A name may be nested, and hold atoms, but as everywhere an improper list is none.
characters(Atom) when is_atom(Atom) -> atom_to_list(Atom);
characters(Char) when is_integer(Char) -> Char;
characters(List) when is_list(List) -> lists:map(fun characters/1, List).

%% @doc Ends the use of a handle; again: `ok'. Calls in flight answer `{error, closed}', as do later
%% ones. The memory is unmapped in the background; with `direct' it and the file descriptor stay
%% until the last binary is collected.
-spec close(mem()) -> ok.
close(?IS_HANDLE(Handle) = Mem) ->
    ?CHECKED(emmap_nif:file_close(Handle), [Mem]);
close(Mem) ->
    ?NO_HANDLE([Mem]).

%%----------------------------------------------------------------------------------------- bytes

%% @doc Reads up to `Len' bytes at `Off': fewer at the end, `eof' at or past it, `<<>>' for none.
%%
%% `{error, einval}': a place or length that is negative or not below 2^63. `{error, truncated}',
%% `{error, enospc}', `{error, eio}': a page of the range could not be had. A read that is large or
%% would have to wait runs on a dirty scheduler.
-spec pread(mem(), non_neg_integer(), non_neg_integer()) ->
    {ok, binary()} | eof | {error, reason()}.
pread(?IS_HANDLE(Handle) = Mem, Off, Len) ->
    ?CHECKED(emmap_nif:file_pread(Handle, Off, Len), [Mem, Off, Len]);
pread(Mem, Off, Len) ->
    ?NO_HANDLE([Mem, Off, Len]).

%% @doc Writes iodata at `Off'. It must lie within the size, else `badarg', and nothing is written.
%%
%% `{error, eacces}': mapped for reading only. Other errors as {@link pread/3}; the range may then
%% be written in part.
-spec pwrite(mem(), non_neg_integer(), iodata()) -> ok | {error, reason()}.
pwrite(?IS_HANDLE(Handle) = Mem, Off, Data) ->
    ?CHECKED(emmap_nif:file_pwrite(Handle, Off, Data), [Mem, Off, Data]);
pwrite(Mem, Off, Data) ->
    ?NO_HANDLE([Mem, Off, Data]).

%%------------------------------------------------------------------------------------------ size

%% @doc Grows: doubles the size below `max_inc_size', else adds that much.
-spec resize(mem()) -> {ok, non_neg_integer()} | {error, reason()}.
resize(?IS_HANDLE(Handle) = Mem) ->
    ?CHECKED(emmap_nif:file_resize(Handle, grow), [Mem]);
resize(Mem) ->
    ?NO_HANDLE([Mem]).

%% @doc Sets the size; 0 is {@link resize/1}. Answers the size that the handle has afterwards.
%%
%% The space on the disk is taken first (but for `sparse'), the size changed last; on failure what
%% was taken is given back. Only what this handle knew of is cut off: where another handle or OS
%% process has grown the file beyond `Size' since this one was last told a size (by open, resize or
%% info), theirs is adopted. A private handle grows in memory, with zeros.
%%
%% Errors: `fixed_size', `eacces' (mapped for reading only), `enospc', `enomem' (beyond the address
%% space of the handle), `efbig', `busy', `closed'.
-spec resize(mem(), non_neg_integer()) -> {ok, non_neg_integer()} | {error, reason()}.
resize(Mem, 0) ->
    resize(Mem);
resize(?IS_HANDLE(Handle) = Mem, Size) when Size =/= grow ->
    ?CHECKED(emmap_nif:file_resize(Handle, Size), [Mem, Size]);
resize(?IS_HANDLE(_) = Mem, Size) ->
    ?BADARG({badarg, 2, not_an_integer}, [Mem, Size]);
resize(Mem, Size) ->
    ?NO_HANDLE([Mem, Size]).

%%------------------------------------------------------------------------------------ durability

%% @doc Starts the write-back of what has changed, and does not wait for it.
-spec flush(mem()) -> ok | {error, reason()}.
flush(?IS_HANDLE(Handle) = Mem) ->
    ?CHECKED(emmap_nif:file_flush(Handle), [Mem]);
flush(Mem) ->
    ?NO_HANDLE([Mem]).

%% @doc Waits until all that was written before the call is on the disk (fdatasync), with the
%% directory entry of a file that open made. For a private handle there is nothing to wait for.
%%
%% After a failure, `{error, {sync_failed, Reason}}' is the answer until the last handle of the
%% file in this VM is closed: the kernel has dropped pages, and would call the next sync a success.
-spec sync(mem()) -> ok | {error, reason()}.
sync(?IS_HANDLE(Handle) = Mem) ->
    ?CHECKED(emmap_nif:file_sync(Handle), [Mem]);
sync(Mem) ->
    ?NO_HANDLE([Mem]).

%% @doc The same for a range, which is cut at the end of the file (msync).
-spec sync(mem(), non_neg_integer(), non_neg_integer()) -> ok | {error, reason()}.
sync(?IS_HANDLE(Handle) = Mem, Off, Len) ->
    ?CHECKED(emmap_nif:file_sync(Handle, Off, Len), [Mem, Off, Len]);
sync(Mem, Off, Len) ->
    ?NO_HANDLE([Mem, Off, Len]).

%%--------------------------------------------------------------------------------------- figures

%% @doc What is known of a handle. Asks the file system, so sees what others did to the size.
%%
%% Raises `{emmap, Reason}' where it cannot, `{emmap, closed}' after close.
-spec info(mem()) -> info().
info(?IS_HANDLE(Handle) = Mem) ->
    case ?CHECKED(emmap_nif:file_info(Handle), [Mem]) of
        {ok, Info} -> Info;
        {error, Reason} -> error({emmap, Reason}, [Mem])
    end;
info(Mem) ->
    ?NO_HANDLE([Mem]).

%% @doc Figures of the whole VM: open `handles', `regions' (mappings not yet given back), `holds'
%% (handles whose mapping and descriptor `direct' keeps), `faults' (SIGBUS turned into errors) and
%% `mapped_bytes' (of address space).
-spec stats() -> #{atom() => non_neg_integer()}.
stats() ->
    emmap_nif:stats().

%% @doc A reason, or `{error, Reason}', in words.
-spec format_error(reason() | {error, reason()} | term()) -> string().
format_error({error, Reason}) ->
    format_error(Reason);
format_error({sync_failed, Reason}) ->
    "a sync of this file has failed (" ++ format_error(Reason) ++
        "); what was written since the sync before it may be lost";
format_error(Reason) when is_atom(Reason) ->
    case emmap_nif:error_message(Reason) of
        undefined -> file:format_error(Reason);
        Message -> unicode:characters_to_list(Message)
    end;
format_error(Reason) ->
    lists:flatten(io_lib:format("unknown error: ~tP", [Reason, 20])).
