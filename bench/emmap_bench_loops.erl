%% The loops that are measured: N calls of one kind, each a loop of its own, so that the empty one,
%% which is subtracted, has the same shape.
-module(emmap_bench_loops).

-export([nothing/1, pread/4, pwrite/4, file_pread/4, file_pwrite/4, binary_copy/2, nif/2,
         nif_resource/2, nif_copy/4, pread_by_turns/4, pwrite_by_turns/4, file_pread_by_turns/4,
         nif_copy_by_turns/4, patomic_add/3, inc_counter/3, read_counter/3, atomics_add/3,
         atomics_add_get/3, counters_add/3]).

nothing(0) -> ok;
nothing(N) -> nothing(N - 1).

pread(0, _, _, _) -> ok;
pread(N, Mem, Off, Len) -> {ok, _} = emmap:pread(Mem, Off, Len), pread(N - 1, Mem, Off, Len).

pwrite(0, _, _, _) -> ok;
pwrite(N, Mem, Off, Data) -> ok = emmap:pwrite(Mem, Off, Data), pwrite(N - 1, Mem, Off, Data).

file_pread(0, _, _, _) -> ok;
file_pread(N, Fd, Off, Len) -> {ok, _} = file:pread(Fd, Off, Len), file_pread(N - 1, Fd, Off, Len).

file_pwrite(0, _, _, _) -> ok;
file_pwrite(N, Fd, Off, Data) -> ok = file:pwrite(Fd, Off, Data), file_pwrite(N - 1, Fd, Off, Data).

binary_copy(0, _) -> ok;
binary_copy(N, Data) -> _ = binary:copy(Data), binary_copy(N - 1, Data).

nif(0, _) -> ok;
nif(N, Block) -> ok = emmap_bench_nif:empty(Block), nif(N - 1, Block).

nif_resource(0, _) -> ok;
nif_resource(N, Block) -> ok = emmap_bench_nif:empty_resource(Block), nif_resource(N - 1, Block).

nif_copy(0, _, _, _) -> ok;
nif_copy(N, Block, Off, Len) ->
    ok = emmap_bench_nif:copy(Block, Off, Len),
    nif_copy(N - 1, Block, Off, Len).

%% At the first byte of each block of 64 KiB, Mask + 1 of them.
pread_by_turns(0, _, _, _) -> ok;
pread_by_turns(N, Mem, Mask, Len) ->
    {ok, _} = emmap:pread(Mem, (N band Mask) bsl 16, Len),
    pread_by_turns(N - 1, Mem, Mask, Len).

pwrite_by_turns(0, _, _, _) -> ok;
pwrite_by_turns(N, Mem, Mask, Data) ->
    ok = emmap:pwrite(Mem, (N band Mask) bsl 16, Data),
    pwrite_by_turns(N - 1, Mem, Mask, Data).

file_pread_by_turns(0, _, _, _) -> ok;
file_pread_by_turns(N, Fd, Mask, Len) ->
    {ok, _} = file:pread(Fd, (N band Mask) bsl 16, Len),
    file_pread_by_turns(N - 1, Fd, Mask, Len).

nif_copy_by_turns(0, _, _, _) -> ok;
nif_copy_by_turns(N, Block, Mask, Len) ->
    ok = emmap_bench_nif:copy(Block, (N band Mask) bsl 16, Len),
    nif_copy_by_turns(N - 1, Block, Mask, Len).

patomic_add(0, _, _) -> ok;
patomic_add(N, Mem, Off) -> {ok, _} = emmap:patomic_add(Mem, Off, 1), patomic_add(N - 1, Mem, Off).

inc_counter(0, _, _) -> ok;
inc_counter(N, Counters, Ix) ->
    {ok, _} = emmap:inc_counter(Counters, Ix),
    inc_counter(N - 1, Counters, Ix).

read_counter(0, _, _) -> ok;
read_counter(N, Counters, Ix) ->
    {ok, _} = emmap:read_counter(Counters, Ix),
    read_counter(N - 1, Counters, Ix).

atomics_add(0, _, _) -> ok;
atomics_add(N, Ref, Ix) -> ok = atomics:add(Ref, Ix, 1), atomics_add(N - 1, Ref, Ix).

atomics_add_get(0, _, _) -> ok;
atomics_add_get(N, Ref, Ix) -> _ = atomics:add_get(Ref, Ix, 1), atomics_add_get(N - 1, Ref, Ix).

counters_add(0, _, _) -> ok;
counters_add(N, Ref, Ix) -> ok = counters:add(Ref, Ix, 1), counters_add(N - 1, Ref, Ix).
