%% @doc Counters are numbered from 1, as OTP's `counters' and `atomics', or have names; these are in a file:
%% they outlive the process, the VM and, after {@link sync/1}, a power cut.
%%
%% ```
%% {ok, C} = emmap_counters:open("/var/lib/shop/counters",
%%                               [orders, {revenue, #{unit => "euro", kind => counter}}], []),
%% ok = emmap_counters:add(C, orders, 1),
%% 17 = emmap_counters:add_get(C, revenue, 17),
%% #{<<"orders">> := 1, <<"revenue">> := 17} = emmap_counters:to_map(C).
%% '''
%%
%% Any number of processes, VMs and C programs change the counters of one file at the same time, each by one
%% atomic instruction, with no lock and no server: none is lost. (Those of {@link emmap:open_counters/2} are
%% numbered from 0. A file of theirs opens here too; it stays what it is.)
%%
%% <h3>As OTP's</h3>
%% {@link get/2}, {@link put/3}, {@link add/3}, {@link sub/3}, {@link add_get/3}, {@link sub_get/3}, {@link exchange/3},
%% {@link compare_exchange/4} and {@link info/1} take and answer what those of `atomics' do: 64 bits, signed or
%% not, which wrap. What is added or subtracted may be signed or unsigned in either case. New are {@link max/3},
%% {@link min/3}, {@link allocate/3}, {@link to_map/1}.
%%
%% <h3>Names</h3>
%% A name is an atom, a binary of UTF-8 or a string, of 1 to 255 bytes: `orders', `<<"orders">>' and `"orders"'
%% are the same counter. An atom is found almost as fast as a number; of the others each call looks up the text.
%%
%% <h3>What is kept</h3>
%% A change that has been answered survives the end of the VM at any moment. After a power cut the value is
%% that of the last {@link sync/1}, or a later one. What {@link allocate/3} gave is never given again.
%%
%% <h3>Errors</h3>
%% {@link open/3} and {@link sync/1} answer `{error, Reason}'; the others raise `error({emmap, Reason})': `closed',
%% `truncated' (another program has cut the file), `enospc', ...; see {@link emmap:format_error/1}. A mistake of the
%% caller's raises `badarg', and the shell names the argument and why: no such counter, a value beyond the 64
%% bits, a change of what is open for reading only, a call that striped counters do not have.
-module(emmap_counters).

-export([open/2, open/3, close/1, sync/1, info/1, names/1, to_map/1, prometheus/1]).
-export([get/2, put/3, add/3, sub/3, add_get/3, sub_get/3, exchange/3, max/3, min/3]).
-export([compare_exchange/4, allocate/3]).
-export_type([counters/0, index/0, name/0, named/0, option/0, reason/0, info/0]).

-opaque counters() :: emmap_nif:handle().
-type index() :: pos_integer() | name().
-type name() :: atom() | binary() | string().
-type named() :: name() | {name(), #{help => unicode:chardata(), unit => unicode:chardata(),
                                     kind => counter | gauge}}.
%% What others are told about it: `kind' is gauge unless given (a counter is never lowered); `help' is at most 623 bytes
%% of UTF-8, `unit' 63. They are kept as given when the counter was added to the file: of one that it has already they are
%% checked, and ignored.
-type option() :: read | padded | striped | force | {mode, pos_integer()}
                | {signed | read | padded | striped | force, boolean()}.
%% <ul>
%% <li>`{signed, boolean()}' (true): of 64 bits each.</li>
%% <li>`padded' (false): a cache line for each, for counters that are changed all the time by several schedulers.
%%     Those with names have it.</li>
%% <li>`striped' (false): as OTP's `write_concurrency': 16 cells each, so that schedulers do not meet. There are
%%     {@link get/2}, {@link put/3}, {@link add/3} and {@link sub/3} only, and a get beside adds sees some of them.</li>
%% <li>`read' (false): only to be looked at; nothing is written.</li>
%% <li>`force' (false): open it on a network file system too.</li>
%% <li>`{mode, Mode}' (8#600): of a file that is made, under the umask.</li>
%% </ul>
%% signed, padded and striped are those of a new file; an existing one must have been made alike, unless it
%% is opened with whatever it has. The first of several counts.
-type reason() :: atom() | {sync_failed, atom()}.
-type info() :: #{size := non_neg_integer(), memory := non_neg_integer(), max := integer(), min := integer(),
                  file := binary(), access := read | read_write, names := boolean(), signed := boolean(),
                  padded := boolean(), striped := boolean(), simple := boolean(), linked := boolean(),
                  sync_error := atom()}.

-define(BADARG(Bad, Args), error(badarg, Args, emmap_error:info(Bad))).
-define(FAILED(Args), {badarg, _, _} = Bad -> ?BADARG(Bad, Args);
                      {error, Reason} -> error({emmap, Reason}, Args)).
%% The calls of one counter answer with a failure what they were given, so that nobody has to keep it.
-define(FAILED_WITH(Given, Args), {{badarg, _, _} = Bad, Given} -> ?BADARG(Bad, Args);
                                  {{error, Reason}, Given} -> error({emmap, Reason}, Args)).
-define(OK(Call), case Call of ok -> ok; ?FAILED_WITH(Args, Args) end).
-define(VALUE(Call), case Call of Is when is_integer(Is) -> Is; ?FAILED_WITH(Args, Args) end).

-define(CREATE, 1).
-define(READ, 2).
-define(FORCE, 4).
-define(UNSIGNED, 256).
-define(PADDED, 512).
-define(STRIPED, 1024).

%%------------------------------------------------------------------------------ open and close

%% @equiv open(File, What, [])
-spec open(file:name_all(), non_neg_integer() | [named()]) -> {ok, counters()} | {error, reason()}.
open(File, What) ->
    case open_any(File, What, []) of
        {badarg, _, _} = Bad -> ?BADARG(Bad, [File, What]);
        Result -> Result
    end.

%% @doc Opens a file of `N' counters, or of those with these names, and makes it if it is missing. `0' or `[]': an
%% existing file with whatever it has.
%%
%% A file that has fewer gets the others, behind its own, while others use it. Names may come in another order than
%% the file has them: the numbers of counters are those of the file, in the order of {@link names/1}, and unit, help and
%% kind those that each was added with, whatever is given now.
%%
%% `{error, Reason}': `differs' (it has
%% more, other names, or was made with other options), `foreign' (a file of another kind), `corrupt', `enoent',
%% `eacces', ...; it is left as it was. With `read' no file is made.
-spec open(file:name_all(), non_neg_integer() | [named()], [option()]) ->
    {ok, counters()} | {error, reason()}.
open(File, What, Options) ->
    case open_any(File, What, Options) of
        {badarg, _, _} = Bad -> ?BADARG(Bad, [File, What, Options]);
        Result -> Result
    end.

open_any(File, What, Options) ->
    case {emmap_name:native(File), asked(What), options(Options, #{})} of
        {error, _, _} -> {badarg, 1, not_a_name};
        {_, {error, Why}, _} -> {badarg, 2, Why};
        {_, _, {error, Why}} -> {badarg, 3, Why};
        {Name, {ok, Asked}, {ok, Map}} -> open_file(Name, Asked, Map)
    end.

open_file(Name, Asked, Map) ->
    Is = fun(Key, Default) -> maps:get(Key, Map, Default) end,
    Flags = lists:sum([Bit || {Bit, true} <- [{?CREATE, not Is(read, false)},
                                              {?READ, Is(read, false)}, {?FORCE, Is(force, false)},
                                              {?UNSIGNED, not Is(signed, true)},
                                              {?PADDED, Is(padded, false)},
                                              {?STRIPED, Is(striped, false)}]]),
    emmap_nif:counters_open(Name, Flags, Is(mode, 0), Asked).

options([], Map) ->
    {ok, Map};
options([Key | Rest], Map) when is_atom(Key) ->
    options([{Key, true} | Rest], Map);
options([{Key, Value} = Option | Rest], Map) ->
    case option(Key, Value) of
        true -> options(Rest, maps:merge(#{Key => Value}, Map));
        false -> {error, {value, Option}};
        unknown -> {error, {option, Option}}
    end;
options([Other | _], _Map) ->
    {error, {option, Other}};
options(_, _Map) ->
    {error, not_a_list}.

option(Key, Value) when Key =:= signed; Key =:= padded; Key =:= striped; Key =:= read; Key =:= force ->
    is_boolean(Value);
option(mode, Mode) -> is_integer(Mode) andalso Mode > 0 andalso Mode =< 8#7777;
option(_, _) -> unknown.

%% What the native call takes: a count, or {Name, Unit, Help, Kind} of each.
asked([]) -> {ok, 0};
asked([First | _] = List) when not is_integer(First) -> asked(List, #{}, []); % else a string, one name
asked(N) when is_integer(N), N >= 0, N < 1 bsl 64 -> {ok, N};
asked(_) -> {error, not_asked}.

asked([], _Seen, Asked) ->
    {ok, lists:reverse(Asked)};
asked([One | Rest], Seen, Asked) ->
    case named(One) of
        {Name, _, _, _} when is_map_key(Name, Seen) -> {error, {twice, Name}};
        {error, _} = Error -> Error;
        {Name, _, _, _} = Named -> asked(Rest, Seen#{Name => true}, [Named | Asked])
    end;
asked(_, _Seen, _Asked) ->
    {error, not_asked}.

named({Name, #{} = About} = Named) ->
    Texts = [name(Name), text(maps:get(unit, About, ""), 63), text(maps:get(help, About, ""), 623)],
    Kind = maps:get(kind, About, gauge),
    case {maps:to_list(maps:without([unit, help, kind], About)), Texts} of
        {[Other | _], _} -> {error, {option, Other}};
        {[], [Bad | _]} when Bad =:= error; Bad =:= <<>> -> {error, {not_a_counter, Named}};
        {[], [_, error, _]} -> {error, {value, {unit, maps:get(unit, About)}}};
        {[], [_, _, error]} -> {error, {value, {help, maps:get(help, About)}}};
        {[], [Text, Unit, Help]} when Kind =:= counter; Kind =:= gauge -> {Text, Unit, Help, Kind};
        {[], _} -> {error, {value, {kind, Kind}}}
    end;
named({_, _} = Other) ->
    {error, {not_a_counter, Other}};
named(Name) ->
    named_only(named({Name, #{}}), Name).

named_only({error, _}, Name) -> {error, {not_a_counter, Name}};
named_only(Named, _Name) -> Named.

%% What a call finds it by.
name(Atom) when is_atom(Atom) -> text(atom_to_binary(Atom), 255);
name(Name) ->
    case is_binary(Name) orelse is_flat(Name) of
        true -> text(Name, 255);
        false -> error
    end.

is_flat([C | Rest]) when is_integer(C) -> is_flat(Rest);
is_flat(Rest) -> Rest =:= [].

%% UTF-8 without zeros.
text(Text, Most) when is_binary(Text); is_list(Text) ->
    try unicode:characters_to_binary(Text) of
        Utf8 when is_binary(Utf8), byte_size(Utf8) =< Most ->
            case binary:match(Utf8, <<0>>) of
                nomatch -> Utf8;
                _ -> error
            end;
        _ -> error
    catch
        error:badarg -> error
    end;
text(_, _Most) ->
    error.

%% @doc Ends the use of a handle; again: ok. One that is forgotten is closed when it is garbage collected.
-spec close(counters()) -> ok.
close(C) ->
    case emmap_nif:counters_close(C) of
        ok -> ok;
        {badarg, _, _} = Bad -> ?BADARG(Bad, [C])
    end.

%% @doc Waits until all changes made before are on the disk.
-spec sync(counters()) -> ok | {error, reason()}.
sync(C) ->
    case emmap_nif:counters_sync(C) of
        {badarg, _, _} = Bad -> ?BADARG(Bad, [C]);
        Result -> tell_unlinked(C), Result
    end.

tell_unlinked(C) ->
    emmap_name:tell_lost(?MODULE, emmap_nif:counters_unlinked(C)).

%%--------------------------------------------------------------------------------- one counter

%% @doc The counter's value.
-spec get(counters(), index()) -> integer().
get(C, Index) ->
    ?VALUE(emmap_nif:counters_get(C, Index)).

%% @doc Sets it.
-spec put(counters(), index(), integer()) -> ok.
put(C, Index, Value) ->
    ?OK(emmap_nif:counters_put(C, Index, Value)).

%% @doc Adds; below zero, subtracts.
-spec add(counters(), index(), integer()) -> ok.
add(C, Index, By) ->
    ?OK(emmap_nif:counters_add(C, Index, By)).

%% @doc Subtracts.
-spec sub(counters(), index(), integer()) -> ok.
sub(C, Index, By) ->
    case emmap_nif:counters_add(C, Index, negated(By, [C, Index, By])) of
        ok -> ok;
        ?FAILED_WITH(_, [C, Index, By])
    end.

%% As OTP has it: what can be subtracted is what can be added, negated; and what cannot be negated is badarith.
negated(By, _Args) when is_number(By) -> -By;
negated(_By, Args) -> error(badarith, Args, emmap_error:info({badarg, 3, not_64_bits})).

%% @doc Adds; answers what it is then.
-spec add_get(counters(), index(), integer()) -> integer().
add_get(C, Index, By) ->
    ?VALUE(emmap_nif:counters_add_get(C, Index, By)).

%% @doc Subtracts; answers what it is then.
-spec sub_get(counters(), index(), integer()) -> integer().
sub_get(C, Index, By) ->
    case emmap_nif:counters_add_get(C, Index, negated(By, [C, Index, By])) of
        Is when is_integer(Is) -> Is;
        ?FAILED_WITH(_, [C, Index, By])
    end.

%% @doc Sets it; answers what it was before.
-spec exchange(counters(), index(), integer()) -> integer().
exchange(C, Index, New) ->
    ?VALUE(emmap_nif:counters_exchange(C, Index, New)).

%% @doc Raises it to `Value', if it is less; answers what it was before, as {@link exchange/3}.
-spec max(counters(), index(), integer()) -> integer().
max(C, Index, Value) ->
    ?VALUE(emmap_nif:counters_max(C, Index, Value)).

%% @doc Lowers it to `Value', if it is more; answers what it was before, as {@link exchange/3}.
-spec min(counters(), index(), integer()) -> integer().
min(C, Index, Value) ->
    ?VALUE(emmap_nif:counters_min(C, Index, Value)).

%% @doc Sets it to `New' if it is `Expected': `ok'; else answers what it is.
-spec compare_exchange(counters(), index(), integer(), integer()) -> ok | integer().
compare_exchange(C, Index, Expected, New) ->
    case emmap_nif:counters_compare_exchange(C, Index, Expected, New) of
        ok -> ok;
        Actual when is_integer(Actual) -> Actual;
        ?FAILED_WITH(Args, Args)
    end.

%% @doc The first of `N' numbers that nobody was ever given, also not before a power cut: the caller's are First
%% to First + N - 1. They rise; after a crash some are skipped. The counter is what comes next, and who lowers it by
%% another call has numbers given again.
%%
%% Of many calls one waits for the disk, mostly none. Raises `{emmap, eoverflow}' when there are no more,
%% `{emmap, enotsup}' for striped counters and a file of {@link emmap:open_counters/2}, `{emmap, {sync_failed, _}}'
%% when the disk refuses, or has refused before, until the file is opened anew: nothing is given then.
-spec allocate(counters(), index(), pos_integer()) -> integer().
allocate(C, Index, N) ->
    ?VALUE(emmap_nif:counters_allocate(C, Index, N)).

%%---------------------------------------------------------------------------------- all of them

%% @doc What is known of them: `size' (how many), `memory' (bytes of the file), `max' and `min' (of a value), `file',
%% `access', `names' (do they have any?), `signed', `padded', `striped', `simple' (a file of {@link
%% emmap:open_counters/2}), `linked' (the file still has its name; if it
%% loses it, the log says so), `sync_error'.
-spec info(counters()) -> info().
info(C) ->
    case emmap_nif:counters_info(C) of
        {ok, #{linked := Linked} = Info} ->
            Linked orelse tell_unlinked(C),
            Info;
        ?FAILED([C])
    end.

%% @doc Their names, the first one's first; `[]': they have none.
-spec names(counters()) -> [binary()].
names(C) ->
    case emmap_nif:counters_names(C) of
        {ok, Names} -> [Name || {Name, _Unit, _Help, _Kind} <- Names];
        ?FAILED([C])
    end.

%% @doc All values, by name, or by number where they have none. Each is read for itself: what changes
%% meanwhile is seen or not.
-spec to_map(counters()) -> #{binary() | pos_integer() => integer()}.
to_map(C) ->
    case emmap_nif:counters_info(C) of
        {ok, #{names := true}} -> values(C, 1, names(C), #{});
        {ok, #{size := Size}} -> values(C, 1, lists:seq(1, Size), #{});
        ?FAILED([C])
    end.

values(_C, _Index, [], Values) -> Values;
values(C, Index, [Key | Rest], Values) -> values(C, Index + 1, Rest, Values#{Key => get(C, Index)}).

%% @doc All of them in the text format of Prometheus, version 0.0.4: what a page that it scrapes answers, as
%% `text/plain; version=0.0.4'.
%%
%% A metric has the counter's name, with `_' for each character that Prometheus has no use for, then the unit unless the
%% name ends with it, then, of kind counter, `_total'. A name that is taken by then gets the counter's
%% number, too. Counters without names are `emmap_value{index="1"}' and so on. Values in nanoseconds, microseconds or
%% milliseconds are told in seconds, to the last digit: of `wait_ns', 17 is `wait_seconds_total 0.000000017'.
-spec prometheus(counters()) -> binary().
prometheus(C) ->
    case emmap_nif:counters_text(C) of
        {ok, Text} -> Text;
        ?FAILED([C])
    end.
