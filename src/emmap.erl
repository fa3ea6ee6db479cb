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
%% a call then answers what it found, or `{error, closed}'. A read sees each write of this VM to the
%% file whole, through whatever handle it came (unless one of the two was opened with `nolock');
%% what other OS processes write it may see in part, but for the integers. Handles of one file in one VM agree on
%% its size; growth by other OS processes is seen by the next call that reaches past the known end,
%% shrinking by them where a call finds its pages gone, at {@link sync/1}, {@link info/1} and {@link resize/2}. Shrinking
%% to within the last page cannot be seen before one of these. A handle that is not closed is
%% given back when it is garbage collected.
%%
%% <h3>The file module</h3>
%% A handle is a `#file_descriptor{}': `file:read/2', `file:pread/2', `file:position/2',
%% `file:copy/3', `file:sendfile/5' and whatever else `file' does on a raw file work on it, as on
%% one opened with `[raw, binary, read, write]'. It differs in this: {@link pread/3} of 0 bytes
%% within the file is `{ok, <<>>}'; a write to a map for reading is `{error, eacces}'; after close
%% every call answers `{error, closed}', a second close and a flush `ok'; any process may use the handle; a
%% write past the end is `badarg' without the option `extend'; a wrong type raises `badarg'; a place
%% of 2^63 or above is `{error, einval}', and one below it that the file system cannot reach may be a
%% position; growth beyond the handle's address space is `{error, enomem}'; a handle with `fixed_size' is not resized or truncated.
%%
%% <h3>What is durable</h3>
%% A write to a shared handle outlives the death of the OS process at any instruction, `kill -9'
%% included. Power loss it outlives once a {@link sync/1} that began after it has answered `ok'.
-module(emmap).

-include_lib("kernel/include/file.hrl").
-include_lib("kernel/include/logger.hrl").

-export([open/2, open/4, close/1, resize/1, resize/2, flush/1, sync/1, sync/3, pread/3, pwrite/3,
         info/1, i/0, stats/0, publish_stats/1, unpublish_stats/0, format_error/1]).
-export([read/2, read_line/1, write/2, position/2, truncate/1, pread/2, pwrite/2]).
-export([patomic_add/3, patomic_sub/3, patomic_and/3, patomic_or/3, patomic_xor/3,
         patomic_xchg/3, patomic_cas/4, patomic_read_integer/2, patomic_write_integer/3]).
-export([open_counters/1, open_counters/2, close_counters/1, inc_counter/2, inc_counter/3,
         dec_counter/2, dec_counter/3, set_counter/3, read_counter/2]).
%% What the file module calls on a handle:
-export([datasync/1, advise/4, allocate/3, copy/3, sendfile/8, internal_get_nif_resource/1,
         ipread_s32bu_p32bu/3, read_handle_info/1, read_handle_info/2]).
-export_type([mem/0, option/0, reason/0, open_info/0, info/0, counters/0, location/0, advice/0]).

-define(IS_HANDLE(H), #file_descriptor{module = ?MODULE, data = H}).
%% What a normal scheduler may copy: the rest goes to a dirty one.
-define(IS_SMALL(Data), is_binary(Data), byte_size(Data) =< 65536).
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
                | network_fs | busy | alignment | foreign | corrupt | enotsup
                | {sync_failed, file:posix()}.
%% `enospc': no space on the file system, also for a page of a sparse file.
%% `truncated': the file no longer reaches the place; somebody truncated it while it was mapped.
%% `closed': the handle is closed.

-type option() ::
    read | write | create | truncate | shared | private | shared_validate | sync | anon | direct
  | lock | nolock | fixed | {address, pos_integer()} | fit | fixed_size | extend | sparse
  | auto_unlink | nofollow | force | populate | nonblock | lock_memory | noreserve | nocache
  | uninitialized | hugetlb | huge_2mb | huge_1gb | debug
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
%% <li>`extend': a write past the end grows the file, as it does a raw one; a new file then needs no
%%   length. Without it that is `badarg'.</li>
%% <li>`lock', `nolock': a read sees each write of this VM whole (the default), or may see a part.
%%   With `lock' a call waits, on a dirty scheduler, while another process writes to the same 64 KiB
%%   of the file or to some that have the same lock; while one writes more than 960 KiB, all reads and
%%   writes of the file do (64 MiB take some 10 ms), but for integers and `direct'.</li>
%% <li>`nofollow': a name that is a symbolic link is `{error, eloop}'.</li>
%% <li>`anon': memory of the handle's own, zeros, with no file behind it; the name is ignored, the
%%   offset is 0, the length given.</li>
%% <li>`{address, A}', and `fixed' with it: map at address `A', a multiple of the page size; in use
%%   it is `{error, eexist}', also by a closed handle until that is collected. The handle cannot
%%   grow.</li>
%% <li>`populate': touch every page at open, on a dirty scheduler; with `nonblock' only what needs no
%%   wait, which is nothing. Not with `sparse'.</li>
%% <li>`lock_memory': the pages stay in memory (mlock), also those that it grows by; beyond what the
%%   system allows `{error, enomem}'.</li>
%% <li>`shared_validate': shared, and the kernel refuses what it does not know; `sync' with it: on DAX
%%   files stores are durable at once, elsewhere `{error, eopnotsupp}'.</li>
%% <li>`noreserve': reserve no swap. `nocache': pages are the first to be dropped (macOS; no effect
%%   elsewhere). `uninitialized': anonymous pages need not be zeroed, where the kernel was built for
%%   that.</li>
%% <li>`hugetlb', `huge_2mb', `huge_1gb': huge pages for `anon'; none free is `{error, enomem}'.</li>
%% <li>`debug': open, resize and close of the handle are logged at debug level.</li>
%% <li>An option that this system lacks is `{error, enotsup}'.</li>
%% <li>`force': map a file on a network file system, else `{error, network_fs}': what other
%%   machines write to it is not seen.</li>
%% <li>`direct': {@link pread/3} answers binaries that lie in the mapping and copies nothing. The
%%   mapping and its file descriptor stay until the last such binary is collected. <b>The VM assumes
%%   that binaries do not change</b>: while any process writes to the range, `binary_to_term', string
%%   and unicode functions over such a binary can crash the VM, and no library can prevent it. Take
%%   `binary:copy/1' first, and never use one as a key of a map or an ETS table. When the file is
%%   truncated by another program after the call, the binary reads as zeros. Whoever touches the bytes
%%   of such a binary may wait for the disk, where it is: a match, a BIF, {@link pwrite/3} of it too.</li>
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
%% `linked => false': the file is not under the name any more that it was opened by: deleted, or renamed.

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
    case emmap_name:native(File) of
        error ->
            {badarg, 1, not_a_name};
        Name ->
            case emmap_nif:file_open(Name, Off, Len, Options) of
                {ok, Handle, Info} ->
                    debug(Handle, "open ~tp with ~tp: ~tp", [File, Options, Info]),
                    {ok, ?IS_HANDLE(Handle), Info};
                Error ->
                    Error
            end
    end.

%% @doc Ends the use of a handle; again: `ok'. Calls in flight answer `{error, closed}', as do later
%% ones. The memory is unmapped in the background; with `direct' it and the file descriptor stay
%% until the last binary is collected.
-spec close(mem()) -> ok.
close(?IS_HANDLE(Handle) = Mem) ->
    debug(Handle, "close ~tp", [Mem]),
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

%% @doc Writes iodata at `Off'. It must lie within the size, else `badarg', and nothing is written;
%% with the option `extend' the file grows.
%%
%% `{error, eacces}': mapped for reading only. Other errors as {@link pread/3}; the range may then
%% be written in part.
-spec pwrite(mem(), non_neg_integer(), iodata()) -> ok | {error, reason()}.
pwrite(?IS_HANDLE(Handle) = Mem, Off, Data) when ?IS_SMALL(Data) ->
    ?CHECKED(emmap_nif:file_pwrite(Handle, Off, Data), [Mem, Off, Data]);
pwrite(?IS_HANDLE(Handle) = Mem, Off, Data) ->
    ?CHECKED(emmap_nif:file_pwrite_dirty(Handle, Off, Data), [Mem, Off, Data]);
pwrite(Mem, Off, Data) ->
    ?NO_HANDLE([Mem, Off, Data]).

%% @doc Reads at several places: `{ok, [Binary | eof]}', as `file:pread/2'.
-spec pread(mem(), [{non_neg_integer(), non_neg_integer()}]) ->
    {ok, [binary() | eof]} | {error, reason()}.
pread(?IS_HANDLE(_) = Mem, []) ->
    case read(Mem, 0) of
        {ok, <<>>} -> {ok, []};
        Error -> Error
    end;
pread(?IS_HANDLE(Handle) = Mem, Places) ->
    ?CHECKED(pread_places(Handle, Places, []), [Mem, Places]);
pread(Mem, Places) ->
    ?NO_HANDLE([Mem, Places]).

pread_places(Handle, [{Off, Len} | Places], Read) ->
    case emmap_nif:file_pread(Handle, Off, Len) of
        {ok, Bytes} -> pread_places(Handle, Places, [Bytes | Read]);
        eof -> pread_places(Handle, Places, [eof | Read]);
        {error, _} = Error -> Error;
        {badarg, 1, _} = Bad -> Bad;
        {badarg, _, _} -> {badarg, 2, not_places}
    end;
pread_places(_Handle, [], Read) ->
    {ok, lists:reverse(Read)};
pread_places(_Handle, _, _Read) ->
    {badarg, 2, not_places}.

%% @doc Writes at several places, in order, as `file:pwrite/2'; `{error, {N, Reason}}' after N
%% writes that succeeded.
-spec pwrite(mem(), [{non_neg_integer(), iodata()}]) ->
    ok | {error, {non_neg_integer(), reason()}}.
pwrite(?IS_HANDLE(_) = Mem, []) ->
    case read(Mem, 0) of
        {ok, <<>>} -> ok;
        Error -> Error
    end;
pwrite(?IS_HANDLE(Handle) = Mem, Places) ->
    ?CHECKED(pwrite_places(Handle, Places, 0), [Mem, Places]);
pwrite(Mem, Places) ->
    ?NO_HANDLE([Mem, Places]).

pwrite_places(Handle, [{Off, Data} | Places], N) ->
    case emmap_nif:file_pwrite_dirty(Handle, Off, Data) of
        ok -> pwrite_places(Handle, Places, N + 1);
        {error, Reason} -> {error, {N, Reason}};
        {badarg, 1, _} = Bad -> Bad;
        {badarg, _, past_end} = Bad -> Bad;
        {badarg, _, _} -> {badarg, 2, not_places}
    end;
pwrite_places(_Handle, [], _N) ->
    ok;
pwrite_places(_Handle, _, _N) ->
    {badarg, 2, not_places}.

%%----------------------------------------------------------------------- from the position on

%% @doc Reads from the position on, and moves it: as `file:read/2' on a binary file. Of several
%% processes that read at the same time each gets bytes of its own.
-spec read(mem(), non_neg_integer()) -> {ok, binary()} | eof | {error, reason()}.
read(?IS_HANDLE(Handle) = Mem, Len) ->
    ?CHECKED(emmap_nif:file_read(Handle, Len), [Mem, Len]);
read(Mem, Len) ->
    ?NO_HANDLE([Mem, Len]).

%% @doc Reads the next line with its newline; CR LF becomes a newline, the last may lack it.
-spec read_line(mem()) -> {ok, binary()} | eof | {error, reason()}.
read_line(?IS_HANDLE(Handle) = Mem) ->
    ?CHECKED(emmap_nif:file_read_line(Handle), [Mem]);
read_line(Mem) ->
    ?NO_HANDLE([Mem]).

%% @doc Writes at the position, and moves it. Past the end it is `badarg', or growth with `extend'.
-spec write(mem(), iodata()) -> ok | {error, reason()}.
write(?IS_HANDLE(Handle) = Mem, Data) when ?IS_SMALL(Data) ->
    ?CHECKED(emmap_nif:file_write(Handle, Data), [Mem, Data]);
write(?IS_HANDLE(Handle) = Mem, Data) ->
    ?CHECKED(emmap_nif:file_write_dirty(Handle, Data), [Mem, Data]);
write(Mem, Data) ->
    ?NO_HANDLE([Mem, Data]).

-type location() :: integer() | bof | cur | eof | {bof | cur | eof, integer()}.
%% As `file:position/2' takes it: `{eof, -6}' is six bytes before the end.

%% @doc Sets the position, as `file:position/2': it may lie past the end. `{error, einval}': before
%% the start, or not below 2^63.
-spec position(mem(), location()) -> {ok, non_neg_integer()} | {error, reason()}.
position(?IS_HANDLE(Handle) = Mem, At) ->
    {Whence, Off} = whence(At),
    ?CHECKED(emmap_nif:file_position(Handle, Whence, Off), [Mem, At]);
position(Mem, At) ->
    ?NO_HANDLE([Mem, At]).

whence({Whence, Off}) when Whence =:= bof; Whence =:= cur; Whence =:= eof -> {Whence, Off};
whence(Whence) when Whence =:= bof; Whence =:= cur; Whence =:= eof -> {Whence, 0};
whence(Off) -> {bof, Off}.

%% @doc Makes the position the end of the file, whether that is before or behind it.
-spec truncate(mem()) -> ok | {error, reason()}.
truncate(?IS_HANDLE(Handle) = Mem) ->
    ?CHECKED(emmap_nif:file_truncate(Handle), [Mem]);
truncate(Mem) ->
    ?NO_HANDLE([Mem]).

%%------------------------------------------------------------------------------------------ size

%% @doc Grows: doubles the size below `max_inc_size', else adds that much.
-spec resize(mem()) -> {ok, non_neg_integer()} | {error, reason()}.
resize(?IS_HANDLE(Handle) = Mem) ->
    ?CHECKED(resized(Handle, grow), [Mem]);
resize(Mem) ->
    ?NO_HANDLE([Mem]).

%% @doc Sets the size; 0 is {@link resize/1}. Answers the size that the handle has afterwards.
%%
%% The space on the disk is taken first (but for `sparse'), the size changed last; on failure what
%% was taken is given back. Only what this handle knew of is cut off: where another handle or OS
%% process has grown the file since this one was last told a size (by open, resize or info), theirs
%% is adopted and answered. A private handle grows in memory, with zeros.
%%
%% Errors: `fixed_size', `eacces' (mapped for reading only), `enospc', `enomem' (beyond the address
%% space of the handle), `efbig', `busy', `closed'.
-spec resize(mem(), non_neg_integer()) -> {ok, non_neg_integer()} | {error, reason()}.
resize(Mem, 0) ->
    resize(Mem);
resize(?IS_HANDLE(Handle) = Mem, Size) when Size =/= grow ->
    ?CHECKED(resized(Handle, Size), [Mem, Size]);
resize(?IS_HANDLE(_) = Mem, Size) ->
    ?BADARG({badarg, 2, not_an_integer}, [Mem, Size]);
resize(Mem, Size) ->
    ?NO_HANDLE([Mem, Size]).

resized(Handle, Size) ->
    Result = emmap_nif:file_resize(Handle, Size),
    debug(Handle, "resize to ~tp: ~tp", [Size, Result]),
    Result.

%%------------------------------------------------------------------------------------ durability

%% @doc Starts the write-back of what has changed, and does not wait for it.
-spec flush(mem()) -> ok | {error, reason()}.
flush(?IS_HANDLE(Handle) = Mem) ->
    ?CHECKED(emmap_nif:file_flush(Handle), [Mem]);
flush(Mem) ->
    ?NO_HANDLE([Mem]).

%% @doc Waits until all that was written before the call is on the disk (fdatasync), and the
%% file's directory entry with it, once for a handle. For a private handle there is nothing to wait for.
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

%%-------------------------------------------------------------------------------------- integers

%% @doc Adds to the 64-bit integer at byte `Off'; answers what it was. One atomic instruction,
%% sequentially consistent, from any number of Erlang and OS processes. Signed, native byte order,
%% wraps.
%%
%% `{error, alignment}': `Off' is not on an 8-byte boundary of the file. `badarg': past the end, or
%% a value beyond 64 bits.
-spec patomic_add(mem(), non_neg_integer(), integer()) -> {ok, integer()} | {error, reason()}.
patomic_add(?IS_HANDLE(Handle) = Mem, Off, By) ->
    ?CHECKED(emmap_nif:file_add(Handle, Off, By), [Mem, Off, By]);
patomic_add(Mem, Off, By) ->
    ?NO_HANDLE([Mem, Off, By]).

%% @doc Subtracts; else as {@link patomic_add/3}.
-spec patomic_sub(mem(), non_neg_integer(), integer()) -> {ok, integer()} | {error, reason()}.
patomic_sub(?IS_HANDLE(Handle) = Mem, Off, By) ->
    ?CHECKED(emmap_nif:file_sub(Handle, Off, By), [Mem, Off, By]);
patomic_sub(Mem, Off, By) ->
    ?NO_HANDLE([Mem, Off, By]).

%% @doc Bitwise and; else as {@link patomic_add/3}.
-spec patomic_and(mem(), non_neg_integer(), integer()) -> {ok, integer()} | {error, reason()}.
patomic_and(?IS_HANDLE(Handle) = Mem, Off, Value) ->
    ?CHECKED(emmap_nif:file_and(Handle, Off, Value), [Mem, Off, Value]);
patomic_and(Mem, Off, Value) ->
    ?NO_HANDLE([Mem, Off, Value]).

%% @doc Bitwise or; else as {@link patomic_add/3}.
-spec patomic_or(mem(), non_neg_integer(), integer()) -> {ok, integer()} | {error, reason()}.
patomic_or(?IS_HANDLE(Handle) = Mem, Off, Value) ->
    ?CHECKED(emmap_nif:file_or(Handle, Off, Value), [Mem, Off, Value]);
patomic_or(Mem, Off, Value) ->
    ?NO_HANDLE([Mem, Off, Value]).

%% @doc Bitwise exclusive or; else as {@link patomic_add/3}.
-spec patomic_xor(mem(), non_neg_integer(), integer()) -> {ok, integer()} | {error, reason()}.
patomic_xor(?IS_HANDLE(Handle) = Mem, Off, Value) ->
    ?CHECKED(emmap_nif:file_xor(Handle, Off, Value), [Mem, Off, Value]);
patomic_xor(Mem, Off, Value) ->
    ?NO_HANDLE([Mem, Off, Value]).

%% @doc Replaces; else as {@link patomic_add/3}.
-spec patomic_xchg(mem(), non_neg_integer(), integer()) -> {ok, integer()} | {error, reason()}.
patomic_xchg(?IS_HANDLE(Handle) = Mem, Off, Value) ->
    ?CHECKED(emmap_nif:file_exchange(Handle, Off, Value), [Mem, Off, Value]);
patomic_xchg(Mem, Off, Value) ->
    ?NO_HANDLE([Mem, Off, Value]).

%% @doc Stores `New' if the integer is `Expected': `{true, Expected}', else `{false, Current}'.
-spec patomic_cas(mem(), non_neg_integer(), integer(), integer()) ->
    {boolean(), integer()} | {error, reason()}.
patomic_cas(?IS_HANDLE(Handle) = Mem, Off, Expected, New) ->
    ?CHECKED(emmap_nif:file_cas(Handle, Off, Expected, New), [Mem, Off, Expected, New]);
patomic_cas(Mem, Off, Expected, New) ->
    ?NO_HANDLE([Mem, Off, Expected, New]).

%% @doc The integer; else as {@link patomic_add/3}.
-spec patomic_read_integer(mem(), non_neg_integer()) -> {ok, integer()} | {error, reason()}.
patomic_read_integer(?IS_HANDLE(Handle) = Mem, Off) ->
    ?CHECKED(emmap_nif:file_load(Handle, Off), [Mem, Off]);
patomic_read_integer(Mem, Off) ->
    ?NO_HANDLE([Mem, Off]).

%% @doc Stores; else as {@link patomic_add/3}.
-spec patomic_write_integer(mem(), non_neg_integer(), integer()) -> ok | {error, reason()}.
patomic_write_integer(?IS_HANDLE(Handle) = Mem, Off, Value) ->
    ?CHECKED(emmap_nif:file_store(Handle, Off, Value), [Mem, Off, Value]);
patomic_write_integer(Mem, Off, Value) ->
    ?NO_HANDLE([Mem, Off, Value]).

%%------------------------------------------------------------------------------- simple counters

-type counters() :: {mem(), pos_integer()}.
%% The mapped file and how many counters it has.

%% @equiv open_counters(File, 1)
-spec open_counters(file:name_all()) -> counters().
open_counters(File) ->
    case counters_native(File, 1) of
        {badarg, _, _} = Bad -> ?BADARG(Bad, [File]);
        {error, Reason} -> error({emmap, Reason}, [File]);
        Counters -> Counters
    end.

%% @doc Opens a file of `N' counters, numbered from 0 (those of {@link emmap_counters} are numbered from 1), or
%% makes it, with zeros; 0 opens an existing file with whatever count it has. The counters survive the VM, and are shared with all who open
%% the file: Erlang, C, version 2.1.3.
%%
%% Raises `{emmap, foreign}' for a file of another kind, `{emmap, corrupt}' for a damaged one,
%% `{emmap, truncated}' for one that was cut, `{emmap, size_mismatch}' for another count; the file is left as it was.
-spec open_counters(file:name_all(), non_neg_integer()) -> counters().
open_counters(File, N) ->
    case counters_native(File, N) of
        {badarg, _, _} = Bad -> ?BADARG(Bad, [File, N]);
        {error, Reason} -> error({emmap, Reason}, [File, N]);
        Counters -> Counters
    end.

counters_native(File, N) ->
    case emmap_name:native(File) of
        error ->
            {badarg, 1, not_a_name};
        Name ->
            case emmap_nif:simple_counters_open(Name, N) of
                {ok, Handle, Count} -> {?IS_HANDLE(Handle), Count};
                Error -> Error
            end
    end.

%% @doc Closes it; again: `ok'.
-spec close_counters(counters()) -> ok.
close_counters({?IS_HANDLE(_) = Mem, _N}) ->
    close(Mem);
close_counters(Counters) ->
    ?BADARG({badarg, 1, not_counters}, [Counters]).

%% @equiv inc_counter(Counters, Index, 1)
-spec inc_counter(counters(), non_neg_integer()) -> {ok, integer()} | {error, reason()}.
inc_counter(Counters, Index) ->
    ?CHECKED(counter(Counters, Index, fun emmap_nif:file_add/3, 1), [Counters, Index]).

%% @doc Adds; answers what the counter was. Atomic, as {@link patomic_add/3}.
-spec inc_counter(counters(), non_neg_integer(), integer()) -> {ok, integer()} | {error, reason()}.
inc_counter(Counters, Index, By) ->
    ?CHECKED(counter(Counters, Index, fun emmap_nif:file_add/3, By), [Counters, Index, By]).

%% @equiv dec_counter(Counters, Index, 1)
-spec dec_counter(counters(), non_neg_integer()) -> {ok, integer()} | {error, reason()}.
dec_counter(Counters, Index) ->
    ?CHECKED(counter(Counters, Index, fun emmap_nif:file_sub/3, 1), [Counters, Index]).

%% @doc Subtracts; answers what the counter was.
-spec dec_counter(counters(), non_neg_integer(), integer()) -> {ok, integer()} | {error, reason()}.
dec_counter(Counters, Index, By) ->
    ?CHECKED(counter(Counters, Index, fun emmap_nif:file_sub/3, By), [Counters, Index, By]).

%% @doc Sets; answers what the counter was.
-spec set_counter(counters(), non_neg_integer(), integer()) -> {ok, integer()} | {error, reason()}.
set_counter(Counters, Index, Value) ->
    ?CHECKED(counter(Counters, Index, fun emmap_nif:file_exchange/3, Value),
             [Counters, Index, Value]).

%% @doc The counter's value.
-spec read_counter(counters(), non_neg_integer()) -> {ok, integer()} | {error, reason()}.
read_counter(Counters, Index) ->
    Load = fun(Handle, Off, _) -> emmap_nif:file_load(Handle, Off) end,
    ?CHECKED(counter(Counters, Index, Load, 0), [Counters, Index]).

counter({?IS_HANDLE(Handle), N}, Index, Do, Value)
  when is_integer(Index), Index >= 0, Index < N ->
    Do(Handle, 16 + 8 * Index, Value);
counter({?IS_HANDLE(_), N}, _Index, _Do, _Value) when is_integer(N) ->
    {badarg, 2, no_counter};
counter(_Counters, _Index, _Do, _Value) ->
    {badarg, 1, not_counters}.

%%-------------------------------------------------------------------- what the file module calls

%% @private
-spec datasync(mem()) -> ok | {error, reason()}.
datasync(Mem) ->
    sync(Mem).

-type advice() :: normal | sequential | random | no_reuse | will_need | dont_need.

%% @doc As `file:advise/4'.
-spec advise(mem(), non_neg_integer(), non_neg_integer(), advice()) ->
    ok | {error, reason()}.
advise(?IS_HANDLE(Handle) = Mem, Off, Len, Advice) ->
    ?CHECKED(emmap_nif:file_advise(Handle, Off, Len, Advice), [Mem, Off, Len, Advice]);
advise(Mem, Off, Len, Advice) ->
    ?NO_HANDLE([Mem, Off, Len, Advice]).

%% @doc As `file:allocate/3': takes disk space for a range, and grows the file to its end.
-spec allocate(mem(), non_neg_integer(), pos_integer()) -> ok | {error, reason()}.
allocate(?IS_HANDLE(Handle) = Mem, Off, Len) ->
    ?CHECKED(emmap_nif:file_allocate(Handle, Off, Len), [Mem, Off, Len]);
allocate(Mem, Off, Len) ->
    ?NO_HANDLE([Mem, Off, Len]).

%% @private
-spec copy(mem(), mem(), non_neg_integer() | infinity) ->
    {ok, non_neg_integer()} | {error, reason()}.
copy(Source, Destination, Length) ->
    file:copy_opened(Source, Destination, Length).

%% @private
%% `file:sendfile' then reads and sends.
-spec sendfile(mem(), term(), term(), term(), term(), term(), term(), term()) ->
    {error, enotsup | closed}.
sendfile(Mem, _Socket, _Off, _Bytes, _ChunkSize, _Headers, _Trailers, _Flags) ->
    case position(Mem, cur) of
        {ok, _} -> {error, enotsup};
        Closed -> Closed
    end.

%% @private
%% What `socket:sendfile' asks for: there is no descriptor to be had.
-spec internal_get_nif_resource(mem()) -> no_return().
internal_get_nif_resource(Mem) ->
    case position(Mem, cur) of
        {ok, _} -> error(notsup);
        {error, Reason} -> error({emmap, Reason}, [Mem])
    end.

%% @private
%% A size and a place, 32 bits each, big-endian; then the data there.
-spec ipread_s32bu_p32bu(mem(), non_neg_integer(), non_neg_integer() | infinity) ->
    {ok, {non_neg_integer(), non_neg_integer(), binary() | eof}} | eof | {error, reason()}.
ipread_s32bu_p32bu(Mem, Off, Infinity) when is_atom(Infinity) ->
    ipread_s32bu_p32bu(Mem, Off, (1 bsl 31) - 1);
ipread_s32bu_p32bu(?IS_HANDLE(Handle) = Mem, Off, Most) when is_integer(Most) ->
    case ?CHECKED(emmap_nif:file_pread(Handle, Off, 8), [Mem, Off, Most]) of
        {error, _} = Error -> Error;
        _ when Most >= 1 bsl 31 -> {error, einval};
        {ok, <<Size:32, Place:32>>} when Size =< Most -> indirect(Mem, Size, Place);
        _ -> eof
    end;
ipread_s32bu_p32bu(?IS_HANDLE(_) = Mem, Off, Most) ->
    ?BADARG({badarg, 3, not_an_integer}, [Mem, Off, Most]);
ipread_s32bu_p32bu(Mem, Off, Most) ->
    ?NO_HANDLE([Mem, Off, Most]).

indirect(_Mem, 0, Place) ->
    {ok, {0, Place, eof}};
indirect(Mem, Size, Place) ->
    case pread(Mem, Place, Size) of
        {ok, Data} -> {ok, {Size, Place, Data}};
        eof -> {ok, {Size, Place, eof}};
        Error -> Error
    end.

%% @equiv read_handle_info(Mem, [])
-spec read_handle_info(mem()) -> {ok, file:file_info()} | {error, reason()}.
read_handle_info(Mem) ->
    read_handle_info(Mem, []).

%% @doc As `file:read_file_info/2' of the handle's file.
-spec read_handle_info(mem(), [{time, local | universal | posix} | raw]) ->
    {ok, file:file_info()} | {error, reason()}.
read_handle_info(?IS_HANDLE(Handle) = Mem, Options) ->
    ?CHECKED(file_info(emmap_nif:file_handle_info(Handle), time_option(Options)), [Mem, Options]);
read_handle_info(Mem, Options) ->
    ?NO_HANDLE([Mem, Options]).

file_info({badarg, _, _} = Bad, _Time) ->
    Bad;
file_info(_Info, {badarg, _, _} = Bad) ->
    Bad;
file_info({ok, {Size, Mode, Links, Dev, RawDev, Inode, Uid, Gid, Accessed, Modified, Changed}},
          Time) ->
    {ok, #file_info{size = Size, type = regular, access = access(Mode),
                    atime = time(Time, Accessed), mtime = time(Time, Modified),
                    ctime = time(Time, Changed), mode = Mode, links = Links,
                    major_device = Dev, minor_device = RawDev, inode = Inode,
                    uid = Uid, gid = Gid}};
file_info(Error, _Time) ->
    Error.

time_option(Options) ->
    try proplists:get_value(time, Options, local) of
        Time when Time =:= local; Time =:= universal; Time =:= posix -> Time;
        Time -> {badarg, 2, {value, {time, Time}}}
    catch
        error:_ -> {badarg, 2, not_a_list}
    end.

%% As a raw file has it: what the file's mode allows its owner.
access(Mode) ->
    element(1 + ((Mode band 8#600) bsr 7), {none, write, read, read_write}).

time(posix, Seconds) -> Seconds;
time(universal, Seconds) -> calendar:system_time_to_universal_time(Seconds, second);
time(local, Seconds) -> calendar:system_time_to_local_time(Seconds, second).

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

%% @doc Figures of the whole VM. These rise from 0 as long as the OS process lives:
%% <ul>
%% <li>`pushes', `push_bytes', `takes', `take_bytes': messages of queues, and their bytes as they lie there; a
%%     claim is taken when it is acknowledged.</li>
%% <li>`syncs' of files, `sync_failures' among them; `sync_ns' that they took in sum, `syncs_1ms', `syncs_10ms',
%%     `syncs_100ms' that took at most so long.</li>
%% <li>`normal_calls', `normal_bytes', `dirty_calls', `dirty_bytes': calls that touch bytes, and how many bytes,
%%     done on the normal and on the dirty schedulers.</li>
%% <li>`allocated': numbers allocated from counters.</li>
%% <li>`faults': SIGBUS turned into errors.</li>
%% </ul>
%% These are as of now: open `handles', `regions' (mappings not yet given back), `holds' (handles whose
%% mapping and descriptor `direct' keeps), `mapped_bytes' (of address space), `longest_sync_ns' so far, and
%% `published_seconds': the Unix time of when they were last published, 0 if never.
%%
%% Each thread counts for itself, with no lock and no atomic instruction. {@link publish_stats/1} keeps them in
%% a file.
-spec stats() -> #{atom() => non_neg_integer()}.
stats() ->
    emmap_nif:stats().

%% @doc Keeps the figures of {@link stats/0} in a file of counters too, as `emmap_pushes' and so on, so that another
%% OS process sees them ({@link emmap_counters:to_map/1}, {@link emmap_counters:prometheus/1}) and they outlive this one.
%%
%% The file is made if it is missing (mode 8#600; another one that it is given stays). The background adds to
%% it what is new, some twice a second, and nothing where nothing is. What rises goes on where the file's stands; the rest is
%% as of now. Each event is counted once, in one file: those before the first call in the first file.
%%
%% {@link unpublish_stats/0}, a call with another file, and an end of the VM that runs its exit handlers (`init:stop/0',
%% `halt/0') publish a last time and put what was as of now to 0; but the VM's end waits two seconds at
%% most for a disk that does not answer. Any other end (a `kill -9', a crash dump, `halt(abort)') loses what was counted since the last
%% time, and leaves what was as of then. `emmap_published_seconds' tells such a file from one that is in use: it
%% is written with whatever is new, and each 10 seconds where nothing is.
%%
%% The same file again: publishes at once, and tells whether that can be done, since the background has
%% nobody to tell. If the file was deleted or moved away, that call makes it anew, or takes the one that is there in its
%% place: the background does not look for that, and what it put into the old one is gone with it. A file that was truncated
%% stays an error until it is deleted; what is counted meanwhile is not lost. Another file: that one from now on.
%%
%% With `{emmap, [{stats_file, "/var/lib/shop/emmap.stats"}]}' in sys.config a process of the application `emmap' does
%% all this from its start to its stop. It makes the call every 5 seconds, so a deleted file is there again and a
%% `locked' one is waited for, and logs each change of the outcome: a warning for an error, a notice when it is over. The
%% figures are then that file's: what was begun by hand with another one, or ended, lasts 5 seconds at most, and
%% the application's stop ends it, too.
%%
%% Errors: `locked' (another OS process publishes into it), `differs' (counters of something else), and those
%% of {@link emmap_counters:open/3}.
-spec publish_stats(file:name_all()) -> ok | {error, reason()}.
publish_stats(File) ->
    case emmap_name:native(File) of
        error -> ?BADARG({badarg, 1, not_a_name}, [File]);
        Name -> ?CHECKED(emmap_nif:publish_stats(Name), [File])
    end.

%% @doc Publishes the figures a last time, and no more. An error tells why that last time failed; it is over
%% nonetheless. Where they are not published: `ok'.
-spec unpublish_stats() -> ok | {error, reason()}.
unpublish_stats() ->
    emmap_nif:unpublish_stats().

%% @doc Prints a table of the open handles of this VM, as `ets:i/0' does of tables.
-spec i() -> ok.
i() ->
    Line = " ~14ts ~-8ts ~-10ts ~7ts  ~ts~n",
    io:format(Line, ["size", "mode", "access", "faults", "file"]),
    io:format(" ~ts~n", [lists:duplicate(77, $-)]),
    lists:foreach(
        fun({Name, Size, Mode, Access, Faults}) ->
            io:format(Line, [integer_to_list(Size), Mode, Access, integer_to_list(Faults),
                             name_to_print(Name)])
        end, lists:sort(emmap_nif:handles())).

name_to_print(<<>>) ->
    "(memory)";
name_to_print(Name) ->
    case unicode:characters_to_list(Name) of
        Text when is_list(Text) -> Text;
        _ -> io_lib:format("~w", [Name])
    end.

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

%%----------------------------------------------------------------------------------------- debug

%% Only handles opened with debug pay for it.
debug(Handle, Format, Args) ->
    case emmap_nif:file_debug(Handle) of
        true -> ?LOG_DEBUG("emmap ~tp: " ++ Format, [Handle | Args]);
        false -> ok
    end.
