%% What a mapped file does, to be watched: real files, real OS processes. ./scripts/demo runs it.
%% Every result that is printed is matched first, so a demo that ends with its last line is a proof.
-module(demo).

-export([main/1]).
%% Called in the other VMs:
-export([edit/3, private_edit/3, write_records/2, number_messages/1, take_orders/3, fill_disk/1, process_orders/1]).

-define(PLACE, 1000000).
-define(RECORD, 64).
-define(ENTRY, 16).

main([Folder, ReadAt, Command, Colour]) ->
    put(colour, Colour =:= "colour"),
    File = filename:join(Folder, "file"),
    two_processes(File, ReadAt),
    private_map(File),
    killed_vm(filename:join(Folder, "records")),
    sequence_counters(filename:join(Folder, "counters"), Command),
    named_counters(filename:join(Folder, "sales")),
    truncated_file(File),
    full_disk(Folder),
    transactions(filename:join(Folder, "shop")),
    title("Done"),
    #{faults := Faults} = emmap:stats(),
    say("This VM, OS process ~s, has lived through all of it; faults that became errors: ~b",
        [os:getpid(), Faults]),
    halt(0).

%%------------------------------------------------------------------------------------------ parts

two_processes(File, ReadAt) ->
    title("Two OS processes share one file"),
    {ok, Size} = file:copy(vm_program(), File),
    say("copied ~s: ~.1f MB", [vm_program(), Size / 1.0e6]),
    {ok, Mem, #{exist := true, size := Size}} = emmap:open(File, [read, write, shared]),
    {ok, Before} = emmap:pread(Mem, ?PLACE, 30),
    say("this VM (OS process ~s) maps it and reads at ~b:~n    ~s", [os:getpid(), ?PLACE, binary:encode_hex(Before)]),
    {Vm, Pid} = start_vm(),
    ok = peer:call(Vm, ?MODULE, edit, [File, ?PLACE, text(["edited by OS process ", Pid])]),
    say("another VM (OS process ~s) maps it and writes there", [Pid]),
    {ok, After} = emmap:pread(Mem, ?PLACE, 30),
    <<"edited by OS process ", _/binary>> = After,
    say("this VM reads the same place again, without any call between:~n    \"~s\"", [After]),
    "edited by" = Printed = os:cmd(lists:join($\s, [ReadAt, File, integer_to_list(?PLACE), "9"])),
    say("a C program that uses libemmap prints it as well: ~s", [Printed]),
    peer:stop(Vm),
    ok = emmap:close(Mem).

private_map(File) ->
    title("A private map keeps its changes"),
    {ok, Mem, _} = emmap:open(File, [read, shared]),
    {Vm, Pid} = start_vm(),
    {ok, Own} = peer:call(Vm, ?MODULE, private_edit, [File, ?PLACE, text("changed in private")]),
    say("OS process ~s maps it with private, writes, and reads back:~n    \"~s\"", [Pid, Own]),
    {ok, <<"edited by OS process ", _/binary>> = Seen} = emmap:pread(Mem, ?PLACE, 30),
    say("this VM still reads~n    \"~s\"", [Seen]),
    peer:stop(Vm),
    ok = emmap:close(Mem).

killed_vm(File) ->
    title("kill -9 loses nothing that was acknowledged"),
    {Vm, Pid} = start_vm(),
    Most = 1000000,
    {ok, Mem, _} = emmap:open(File, [create, write, shared, {size, (Most + 1) * ?RECORD}]),
    peer:cast(Vm, ?MODULE, write_records, [File, Most]),
    wait_for(fun() -> acknowledged(Mem) > 20000 end),
    AtLeast = acknowledged(Mem),
    [] = os:cmd("kill -9 " ++ binary_to_list(Pid)),
    wait_for(fun() -> not is_process_alive(Vm) end),
    Kept = acknowledged(Mem),
    true = Kept >= AtLeast andalso Kept < Most,
    true = lists:all(fun(N) -> {ok, record(N)} =:= emmap:pread(Mem, N * ?RECORD, 12) end,
                     lists:seq(1, Kept)),
    ok = emmap:close(Mem),
    say("OS process ~s writes ~b records one after the other, and is killed with -9", [Pid, Most]),
    say("it was seen to acknowledge ~b; in the file are ~b, each of them whole", [AtLeast, Kept]).

%% Counter 0 is the last number that was sent, counter 1 the last that was acknowledged.
sequence_counters(File, Command) ->
    title("Sequence numbers that survive"),
    {Vm, Pid} = start_vm(),
    {_, 2} = Counters = emmap:open_counters(File, 2),
    peer:cast(Vm, ?MODULE, number_messages, [File]),
    wait_for(fun() -> last(Counters, 0) > 1000 end),
    say("OS process ~s numbers the messages of a protocol; the command sees it live:", [Pid]),
    [io:format("    $ emmap info --json counters~n    ~s", [live(Command, File)])
     || _ <- [first, second]],
    [] = os:cmd("kill -9 " ++ binary_to_list(Pid)),
    wait_for(fun() -> not is_process_alive(Vm) end),
    Sent = last(Counters, 0),
    true = Sent >= last(Counters, 1) andalso Sent - last(Counters, 1) =< 1,
    say("killed with -9: the last number sent is ~b, acknowledged ~b", [Sent, last(Counters, 1)]),
    {ok, Sent} = emmap:inc_counter(Counters, 0),
    say("this VM takes over, and sends number ~b: none is used twice", [last(Counters, 0)]),
    ok = emmap:close_counters(Counters).

last(Counters, Index) ->
    {ok, N} = emmap:read_counter(Counters, Index),
    N.

live(Command, File) ->
    "{\"file\":" ++ _ = Line = os:cmd(Command ++ " info --json '" ++ File ++ "'"),
    [_, Values] = string:split(Line, "\"counters\":"),
    "..." ++ Values.

%% Each VM keeps a book of the numbers that it was given; its start says how many orders it has
%% acknowledged.
named_counters(File) ->
    title("Counters with names"),
    Most = 1000000,
    {ok, C} = emmap_counters:open(File, sales()),
    ok = emmap_counters:put(C, "order number", 1),
    {FirstBook, SecondBook} = {book(File ++ ".first", Most), book(File ++ ".second", Most)},
    {Vm, Pid} = start_vm(),
    peer:cast(Vm, ?MODULE, take_orders, [File, File ++ ".first", Most]),
    say("OS process ~s takes orders: a number of its own for each, and the counters; this VM sees them:", [Pid]),
    wait_for(fun() -> acknowledged(FirstBook) > 20000 end),
    #{<<"order number">> := Number, <<"orders">> := Seen, <<"revenue">> := _, <<"largest">> := _} = Live =
        emmap_counters:to_map(C),
    true = Seen > 20000 andalso Number > Seen,
    say("  > emmap_counters:to_map(C).~n    ~0tp", [Live]),
    [] = os:cmd("kill -9 " ++ binary_to_list(Pid)),
    wait_for(fun() -> not is_process_alive(Vm) end),
    Acknowledged = acknowledged(FirstBook),
    Counted = emmap_counters:get(C, orders),
    true = Counted >= Seen andalso Counted < Most,
    true = Counted - Acknowledged =:= 0 orelse Counted - Acknowledged =:= 1,
    {Given, Cents} = {given(FirstBook, 1, Most), emmap_counters:get(C, revenue)},
    true = lists:member(Cents, [revenue(lists:sublist(Given, N)) || N <- [Acknowledged, Counted]]),
    say("killed with -9: it has acknowledged ~b orders, the counter says ~b", [Acknowledged, Counted]),
    {Second, SecondPid} = start_vm(),
    More = 20000,
    ok = peer:call(Second, ?MODULE, take_orders, [File, File ++ ".second", More], 60000),
    peer:stop(Second),
    All = Given ++ given(SecondBook, 1, Most),
    true = length(All) =:= length(Given) + More andalso lists:usort(All) =:= All,
    {OrdersNow, CentsNow} = {Counted + More, Cents + revenue(given(SecondBook, 1, Most))},
    #{<<"orders">> := OrdersNow, <<"revenue">> := CentsNow, <<"order number">> := Next,
      <<"largest">> := Largest} = Now = emmap_counters:to_map(C),
    true = Next > lists:last(All) andalso Largest =:= lists:max([cents(N) || N <- All]),
    say("OS process ~s has taken ~b more. The counters:", [SecondPid, More]),
    [io:format("      ~-13ts ~10b    ~ts~n", [Name, maps:get(Name, Now), Says])
     || {Name, Says} <- [{<<"orders">>, "before and after the kill"},
                         {<<"revenue">>, "cents"},
                         {<<"largest">>, "cents, of one order"},
                         {<<"order number">>, "the next one"}]],
    say("~b numbers were given, from ~b to ~b, in rising order: none twice",
        [length(All), hd(All), lists:last(All)]),
    ok = emmap:close(FirstBook),
    ok = emmap:close(SecondBook),
    ok = emmap_counters:close(C).

sales() ->
    [{orders, #{kind => counter}}, {revenue, #{kind => counter, unit => "cents"}},
     {largest, #{unit => "cents"}}, "order number"].

book(File, Most) ->
    {ok, Book, _} = emmap:open(File, [create, write, shared, {size, (Most + 1) * 8}]),
    Book.

%% The numbers in it, the first one's first.
given(Book, I, Most) when I =< Most ->
    case emmap:pread(Book, I * 8, 8) of
        {ok, <<0:64>>} -> [];
        {ok, <<Number:64>>} -> [Number | given(Book, I + 1, Most)]
    end;
given(_Book, _I, _Most) ->
    [].

revenue(Numbers) ->
    lists:sum([cents(Number) || Number <- Numbers]).

%% What an order brings follows from its number, so that the sum can be checked.
cents(Number) ->
    100 + Number * 7919 rem 9973.

truncated_file(File) ->
    title("A truncation under the VM's feet"),
    {ok, Mem, #{size := Size}} = emmap:open(File, [read, write, shared, direct]),
    {ok, Binary} = emmap:pread(Mem, 0, Size),
    say("~b bytes are mapped, and a binary of them all lies in the mapping; its crc32 is ~b",
        [Size, erlang:crc32(Binary)]),
    [] = os:cmd("truncate -s 4096 '" ++ File ++ "' || : > '" ++ File ++ "'"),
    say("another program truncates the file"),
    say("crc32 of the binary now, where any other mapping would have killed the VM: ~b",
        [erlang:crc32(Binary)]),
    {error, truncated} = Error = emmap:pread(Mem, Size - 100, 100),
    say("pread of the last 100 bytes: ~p: ~ts", [Error, emmap:format_error(Error)]),
    eof = emmap:pread(Mem, Size - 100, 100),
    say("pread again, the end being known: eof"),
    {ok, Size} = emmap:resize(Mem, Size),
    ok = emmap:pwrite(Mem, Size - 5, <<"hello">>),
    {ok, <<"hello">>} = emmap:pread(Mem, Size - 5, 5),
    say("resized to ~b, written and read there: the mapping has healed", [Size]),
    ok = emmap:close(Mem).

full_disk(Folder) ->
    title("A full disk"),
    Disk = filename:join(Folder, "disk"),
    ok = file:make_dir(Disk),
    case start_vm_on_small_disk(Disk) of
        {ok, Vm} ->
            {Written, Error} = peer:call(Vm, ?MODULE, fill_disk, [Disk]),
            say("on a file system of 2 MB, a sparse file of 8 MB is mapped and written page by page"),
            {error, enospc} = Error,
            say("after ~b pages: ~p: ~ts", [Written, Error, emmap:format_error(Error)]),
            say("a file on it is deleted, and the same write says ok: ~p",
                [peer:call(Vm, ?MODULE, fill_disk, [again])]),
            peer:stop(Vm);
        error ->
            say("no file system of its own to be had here (that needs Linux and root or user "
                "namespaces),~n  so a file is asked to grow beyond the disk:")
    end,
    {ok, Mem, _} = emmap:open(filename:join(Folder, "grows"),
                              [create, write, shared, {size, 4096}, {address_space, 1 bsl 46}]),
    {error, enospc} = Refused = emmap:resize(Mem, 1 bsl 45),
    #{size := 4096} = emmap:info(Mem),
    say("resize to 32 TiB: ~p, and the file has its 4096 bytes as before", [Refused]),
    ok = emmap:close(Mem).

%% What an order does is written down under its number: to do it twice is to do it once.
transactions(Folder) ->
    title("Transactions: none lost, none twice, whatever fails"),
    Orders = [{order, N, rand:uniform(10000)} || N <- lists:seq(1, 50000)],
    Sum = lists:sum([Cents || {order, _, Cents} <- Orders]),
    {ok, Q} = emmap_queue:open(filename:join(Folder, "orders"), #{multi_os => true}),
    {ok, Ledger, _} = emmap:open(filename:join(Folder, "ledger"),
                                 [create, write, shared, {size, (length(Orders) + 1) * ?ENTRY}]),
    Tries = emmap:open_counters(filename:join(Folder, "tries"), 2),
    {Vm, Pid} = start_vm(),
    peer:cast(Vm, ?MODULE, process_orders, [Folder]),
    say("this VM takes in orders; OS process ~s processes each with try_pop, and now and then fails", [Pid]),
    {Early, Late} = lists:split(length(Orders) * 3 div 4, Orders),
    [ok = emmap_queue:push(Q, Order) || Order <- Early],
    wait_for(fun() -> emmap_queue:length(Q) < length(Early) div 2 end),
    [] = os:cmd("kill -9 " ++ binary_to_list(Pid)),
    wait_for(fun() -> not is_process_alive(Vm) end),
    [ok = emmap_queue:push(Q, Order) || Order <- Late],
    say("it is killed with -9 when ~b have been processed; ~b wait in the queue",
        [length(ledger(Ledger, Orders)), emmap_queue:length(Q)]),
    {Second, SecondPid} = start_vm(),
    peer:cast(Second, ?MODULE, process_orders, [Folder]),
    wait_for(fun() -> emmap_queue:is_empty(Q) end),
    peer:stop(Second),
    say("OS process ~s has done the rest. The ledger:", [SecondPid]),
    Processed = ledger(Ledger, Orders),
    Orders = Processed,
    Sum = lists:sum([Cents || {order, _, Cents} <- Processed]),
    io:format("      taken in      ~7b    sum ~10.2f~n"
              "      failed tries  ~7b    each was tried again~n"
              "      twice tried   ~7b    done, and killed before the queue was told~n"
              "      processed     ~7b    sum ~10.2f~n",
              [length(Orders), Sum / 100, last(Tries, 0), last(Tries, 1), length(Processed), Sum / 100]),
    ok = emmap:close_counters(Tries),
    ok = emmap:close(Ledger),
    ok = emmap_queue:close(Q).

%% The orders that are in it.
ledger(Ledger, Orders) ->
    [{order, N, Cents} || {order, N, _} <- Orders,
                          {ok, <<Number:64, Cents:64>>} <- [emmap:pread(Ledger, N * ?ENTRY, ?ENTRY)],
                          Number =:= N].

%%------------------------------------------------------------------------ run in the other VMs

edit(File, Place, Text) ->
    {ok, Mem, _} = emmap:open(File, [read, write, shared]),
    ok = emmap:pwrite(Mem, Place, Text),
    emmap:close(Mem).

private_edit(File, Place, Text) ->
    {ok, Mem, _} = emmap:open(File, [read, write, private]),
    ok = emmap:pwrite(Mem, Place, Text),
    Read = emmap:pread(Mem, Place, byte_size(Text)),
    ok = emmap:close(Mem),
    Read.

%% Record N is its number and the crc32 of that; the count at the start says what is acknowledged.
write_records(File, Most) ->
    {ok, Mem, _} = emmap:open(File, [write, shared]),
    write_record(Mem, 1, Most).

write_record(Mem, N, Most) when N =< Most ->
    ok = emmap:pwrite(Mem, N * ?RECORD, record(N)),
    ok = emmap:pwrite(Mem, 0, <<N:64>>),
    write_record(Mem, N + 1, Most);
write_record(_Mem, _N, _Most) ->
    receive stop -> ok end.

number_messages(File) ->
    number_message(emmap:open_counters(File, 2)).

number_message(Counters) ->
    {ok, Last} = emmap:inc_counter(Counters, 0),
    {ok, Last} = emmap:set_counter(Counters, 1, Last + 1),
    number_message(Counters).

take_orders(File, BookFile, Most) ->
    {ok, C} = emmap_counters:open(File, sales()),
    {ok, Book, _} = emmap:open(BookFile, [write, shared]),
    take_order(C, Book, 1, Most).

take_order(C, Book, I, Most) when I =< Most ->
    Number = emmap_counters:allocate(C, "order number", 1),
    ok = emmap:pwrite(Book, I * 8, <<Number:64>>),
    ok = emmap_counters:add(C, orders, 1),
    ok = emmap_counters:add(C, revenue, cents(Number)),
    _ = emmap_counters:max(C, largest, cents(Number)),
    ok = emmap:pwrite(Book, 0, <<I:64>>),
    take_order(C, Book, I + 1, Most);
take_order(_C, _Book, _I, _Most) ->
    ok.

%% Counter 0: tries that failed; counter 1: orders that were in the ledger already.
process_orders(Folder) ->
    {ok, Q} = emmap_queue:open(filename:join(Folder, "orders"), #{multi_os => true}),
    {ok, Ledger, _} = emmap:open(filename:join(Folder, "ledger"), [write, shared]),
    process_orders(Q, Ledger, emmap:open_counters(filename:join(Folder, "tries"), 2)).

process_orders(Q, Ledger, Tries) ->
    try emmap_queue:try_pop(Q, fun(Order) -> process_order(Order, Ledger, Tries) end) of
        nil -> timer:sleep(1);
        ok -> ok
    catch
        throw:card_declined -> {ok, _} = emmap:inc_counter(Tries, 0)
    end,
    process_orders(Q, Ledger, Tries).

process_order({order, N, Cents}, Ledger, Tries) ->
    rand:uniform(20) =:= 1 andalso throw(card_declined),
    case emmap:pread(Ledger, N * ?ENTRY, ?ENTRY) of
        {ok, <<0:64, 0:64>>} -> emmap:pwrite(Ledger, N * ?ENTRY, <<N:64, Cents:64>>);
        {ok, <<N:64, Cents:64>>} -> {ok, _} = emmap:inc_counter(Tries, 1), ok
    end.

fill_disk(again) ->
    {Mem, Disk, Page} = persistent_term:get(demo),
    ok = file:delete(filename:join(Disk, "ballast")),
    emmap:pwrite(Mem, Page * 4096, <<"now there is room">>);
fill_disk(Disk) ->
    ok = file:write_file(filename:join(Disk, "ballast"), binary:copy(<<0>>, 500000)),
    {ok, Mem, _} = emmap:open(filename:join(Disk, "sparse"),
                              [create, write, shared, sparse, {size, 8000000}]),
    {Page, Error} = fill_page(Mem, 0),
    persistent_term:put(demo, {Mem, Disk, Page}),
    {Page, Error}.

fill_page(Mem, Page) ->
    case emmap:pwrite(Mem, Page * 4096, <<"a page">>) of
        ok -> fill_page(Mem, Page + 1);
        Error -> {Page, Error}
    end.

%%--------------------------------------------------------------------------------------- helpers

record(N) ->
    Number = <<N:64>>,
    <<Number/binary, (erlang:crc32(Number)):32>>.

acknowledged(Mem) ->
    {ok, <<N:64>>} = emmap:pread(Mem, 0, 8),
    N.

text(Text) ->
    iolist_to_binary(string:pad(Text, 30)).

start_vm() ->
    {ok, Vm, _} = peer:start(#{connection => standard_io, args => path_args()}),
    {Vm, list_to_binary(peer:call(Vm, os, getpid, []))}.

%% A VM in a mount namespace of its own, which vanishes with it.
start_vm_on_small_disk(Disk) ->
    Script = "mount -t tmpfs -o size=2m tmpfs '" ++ Disk ++ "' && exec erl \"$@\"",
    Flags = case os:cmd("id -u") of
        "0\n" -> "-m";
        _ -> "-rm"
    end,
    Try = os:cmd("unshare " ++ Flags ++ " mount -t tmpfs -o size=2m tmpfs '" ++ Disk ++
                     "' && echo mounted"),
    case Try of
        "mounted\n" ->
            Exec = {os:find_executable("unshare"), [Flags, "sh", "-c", Script, "sh"]},
            {ok, Vm, _} = peer:start(#{connection => standard_io, exec => Exec,
                                       args => path_args()}),
            {ok, Vm};
        _ ->
            error
    end.

path_args() ->
    lists:append([["-pa", filename:dirname(code:which(Module))] || Module <- [emmap, ?MODULE]]).

vm_program() ->
    [Found | _] = filelib:wildcard(filename:join([code:root_dir(), "erts-*", "bin", "beam*.smp"])),
    Found.

wait_for(Condition) ->
    wait_for(Condition, 2000).

wait_for(Condition, Tries) when Tries > 0 ->
    Condition() orelse begin timer:sleep(5), wait_for(Condition, Tries - 1) end.

title(Text) ->
    case get(colour) of
        true -> io:format("~n\e[1m~ts\e[0m~n", [Text]);
        false -> io:format("~n~ts~n", [Text])
    end.

say(Text) ->
    say(Text, []).

say(Text, Args) ->
    io:format("  " ++ Text ++ "~n", Args).
