%% A read sees each write of this VM whole, over all handles of the file; with nolock it need not.
-module(emmap_whole_tests).

-include_lib("eunit/include/eunit.hrl").

-import(emmap_test_lib, [with_file/2, zeros/1, in_vm/1, together/1]).

-export([reads_see_writes_whole/0, with_nolock_reads_and_writes_work/0]).

-define(SIZE, 400000).

reads_see_writes_whole_test_() ->
    {timeout, 240, fun ?MODULE:reads_see_writes_whole/0}.

reads_see_writes_whole() ->
    with_file(zeros(?SIZE), fun(File, _) ->
        in_vm(fun() -> ?assertEqual(0, mixed(File, [write, shared])) end)
    end).

with_nolock_reads_and_writes_work_test_() ->
    {timeout, 240, fun ?MODULE:with_nolock_reads_and_writes_work/0}.

with_nolock_reads_and_writes_work() ->
    with_file(zeros(?SIZE), fun(File, _) ->
        in_vm(fun() -> ?assert(mixed(File, [nolock, write, shared]) >= 0) end)
    end).

%% How many reads of a range, which each write fills with one value, have seen two.
mixed(File, Options) ->
    Mems = [begin {ok, Mem, _} = emmap:open(File, Options), Mem end || _ <- [1, 2]],
    Mixed = lists:sum([mixed_in(Mems, Off, Len) || {Off, Len} <- ranges()]),
    [ok = emmap:close(Mem) || Mem <- Mems],
    Mixed.

%% Within a stripe of 64 KiB, over its edge, and over several.
ranges() ->
    [{0, 1024}, {1, 20000}, {65000, 1100}, {30000, 65536}, {65536, 65536}, {5, 131072},
     {131000, 204800}].

mixed_in([One, Two] = Mems, Off, Len) ->
    ok = emmap:pwrite(One, Off, zeros(Len)),
    Writers = [spawn_monitor(fun() -> write_on(Mem, Off, Len, Value) end)
               || {Mem, Value} <- [{One, 1}, {Two, 2}, {One, 3}]],
    Seen = together([fun() -> read_on(Mem, Off, Len, 150) end || Mem <- Mems ++ Mems]),
    [Pid ! stop || {Pid, _} <- Writers],
    [receive {'DOWN', Ref, _, _, Why} -> ?assertEqual(normal, Why) end || {_, Ref} <- Writers],
    lists:sum(Seen).

write_on(Mem, Off, Len, Value) ->
    ok = emmap:pwrite(Mem, Off, binary:copy(<<Value>>, Len)),
    receive
        stop -> ok
    after 0 ->
        write_on(Mem, Off, Len, (Value + 3) rem 256)
    end.

read_on(_Mem, _Off, _Len, 0) ->
    0;
read_on(Mem, Off, Len, Times) ->
    {ok, Bytes} = read(Mem, Off, Len, Times rem 3),
    Whole = Bytes =:= binary:copy(binary:part(Bytes, 0, 1), byte_size(Bytes)),
    read_on(Mem, Off, Len, Times - 1) + case Whole of true -> 0; false -> 1 end.

%% All of it, a part of it, or by the list form.
read(Mem, Off, Len, 0) -> emmap:pread(Mem, Off, Len);
read(Mem, Off, Len, 1) -> emmap:pread(Mem, Off + Len div 3, Len div 2);
read(Mem, Off, Len, 2) -> first(emmap:pread(Mem, [{Off, Len}])).

first({ok, [Bytes]}) -> {ok, Bytes}.
