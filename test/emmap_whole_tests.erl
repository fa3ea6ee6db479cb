%% A read sees each write of this VM whole, over all handles of the file; with nolock it need not.
-module(emmap_whole_tests).

-include_lib("eunit/include/eunit.hrl").

-import(emmap_test_lib, [with_file/2, zeros/1, in_vm/1, together/1]).

-export([reads_see_writes_whole/0, with_nolock_a_read_may_see_two_writes/0]).

-define(SIZE, 400000).
-define(READS, 60). % of each reader, of each range

reads_see_writes_whole_test_() ->
    {timeout, 240, fun ?MODULE:reads_see_writes_whole/0}.

reads_see_writes_whole() ->
    with_file(zeros(?SIZE), fun(File, _) ->
        in_vm(fun() -> ?assertEqual(0, mixed(File, [write, shared])) end)
    end).

%% The same reads, without the lock: now and then one sees two writes. So those above would have, if
%% nothing kept them from it.
with_nolock_a_read_may_see_two_writes_test_() ->
    {timeout, 240, fun ?MODULE:with_nolock_a_read_may_see_two_writes/0}.

with_nolock_a_read_may_see_two_writes() ->
    with_file(zeros(?SIZE), fun(File, _) ->
        in_vm(fun() -> until_mixed(File, 50) end)
    end).

until_mixed(_File, 0) ->
    error(no_read_has_seen_two_writes);
until_mixed(File, Tries) ->
    case mixed(File, [nolock, write, shared]) of
        0 -> until_mixed(File, Tries - 1);
        _ -> ok
    end.

%% How many reads of a range, which each write fills with one value, have seen two.
mixed(File, Options) ->
    Mems = [begin {ok, Mem, _} = emmap:open(File, Options), Mem end || _ <- [1, 2]],
    Mixed = lists:sum([mixed_in(Mems, Written, Lead) || {Written, Lead} <- ranges()]),
    [ok = emmap:close(Mem) || Mem <- Mems],
    Mixed.

%% What is written: within a stripe of 64 KiB, over its edge, over several. Reads begin so many bytes
%% before it, of the last three in a stripe that nobody writes.
ranges() ->
    [{Written, 0} || Written <- [{0, 1024}, {1, 20000}, {65000, 1100}, {30000, 65536},
                                 {65536, 65536}, {5, 131072}, {131000, 204800}]]
        ++ [{{65536, 65536}, 5000}, {{65536, 131072}, 5000}, {{131072, 200000}, 100000}].

mixed_in([One, Two] = Mems, {Off, Len}, Lead) ->
    ok = emmap:pwrite(One, Off - Lead, zeros(Lead + Len)),
    Writers = [spawn_monitor(fun() -> write_on(Mem, Off, Len, Value) end)
               || {Mem, Value} <- [{One, 1}, {Two, 2}, {One, 3}]],
    Seen = together([fun() -> read_on(Mem, Off - Lead, Lead, Len, ?READS) end || Mem <- Mems ++ Mems]),
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

read_on(_Mem, _Off, _Lead, _Len, 0) ->
    0;
read_on(Mem, Off, Lead, Len, Times) ->
    {ok, <<_:Lead/binary, Bytes/binary>>} = read(Mem, Off, Lead, Len, Times rem 3),
    Whole = Bytes =:= binary:copy(binary:part(Bytes, 0, 1), byte_size(Bytes)),
    read_on(Mem, Off, Lead, Len, Times - 1) + case Whole of true -> 0; false -> 1 end.

%% All of it, a part of it, or by the list form.
read(Mem, Off, Lead, Len, 0) -> emmap:pread(Mem, Off, Lead + Len);
read(Mem, Off, 0, Len, 1) -> emmap:pread(Mem, Off + Len div 3, Len div 2);
read(Mem, Off, Lead, Len, 1) -> emmap:pread(Mem, Off, Lead + Len div 2);
read(Mem, Off, Lead, Len, 2) -> first(emmap:pread(Mem, [{Off, Lead + Len}])).

first({ok, [Bytes]}) -> {ok, Bytes}.
