%% @private
%% @doc The caller's mistakes in words: extended error information (EEP 54), so that the shell
%% names the argument that is wrong and why.
-module(emmap_error).

-export([info/1, format_error/2]).

%% @doc What error/3 takes, so that format_error/2 is asked for words.
-spec info(emmap_nif:badarg()) -> [{error_info, map()}].
info({badarg, Arg, Why}) ->
    [{error_info, #{module => ?MODULE, cause => #{Arg => Why}}}].

%% @doc Called by the shell and by `erl_error'.
-spec format_error(term(), list()) -> #{pos_integer() | general | reason => unicode:chardata()}.
format_error(Reason, [{_Module, _Function, _Args, Info} | _]) when Reason =:= badarg; Reason =:= badarith ->
    #{cause := Cause} = proplists:get_value(error_info, Info, #{cause => #{}}),
    maps:map(fun(_Arg, Why) -> words(Why) end, Cause);
format_error(_Reason, _Stack) ->
    #{}.

words(not_a_handle) -> "not an open mapped file";
words(not_a_queue) -> "not an open queue";
words(not_a_map) -> "not a map of options";
words(not_a_number) -> "not a number of messages, or #{count => Messages, bytes => Bytes}";
words(not_terms) -> "not a proper list of terms";
words(not_a_level) -> "not a level of compression, 0 to 9";
words(not_a_fun) -> "not a fun of the right arity";
words(not_a_name) -> "not a file name";
words(not_a_binary) -> "not a file name";
words(nul) -> "a file name cannot contain a NUL character";
words(not_an_integer) -> "not an integer";
words(not_a_list) -> "not a proper list of options";
words(not_64_bits) -> "not an integer of 64 bits";
words(not_a_count) -> "not a number of counters";
words(not_asked) -> "not a number of counters, or a list of names";
words(not_a_position) -> "not a position";
words(not_counters) -> "not what open_counters answers";
words(no_counter) -> "there is no such counter";
words(no_counters) -> "not what emmap_counters:open answers";
words(not_an_index) -> "neither the number nor the name of a counter";
words(not_signed) -> "not a signed integer of 64 bits";
words(not_unsigned) -> "not an unsigned integer of 64 bits";
words(not_positive) -> "not a positive integer of 64 bits";
words(read_only) -> "the counters were opened for reading only";
words(striped) -> "the counters are striped: they have get, put, add and sub only";
words({twice, Name}) -> io_lib:format("the name ~ts is given twice", [Name]);
words({not_a_counter, Term}) ->
    io_lib:format("not a name, of 1 to 255 bytes of UTF-8, or {Name, Map}: ~tP", [Term, 12]);
words(not_places) -> "not a proper list of {Offset, Length} or {Offset, Data}";
words(not_iodata) -> "not a binary or a list of binaries and bytes";
words(past_end) -> "the data reaches past the end of the mapped file";
words(size_differs) -> "the length and the option {size, N} differ";
words({exclude, A, B}) -> io_lib:format("the options ~tp and ~tp exclude each other", [A, B]);
words({needs, A, B}) -> io_lib:format("the option ~tp needs the option ~tp", [A, B]);
words({option, Option}) -> io_lib:format("unknown option ~tP", [Option, 12]);
words({value, Option}) -> io_lib:format("the value is impossible in ~tP", [Option, 12]).
