%% Counters as Prometheus reads them, in Erlang; and the example that serves them.
-module(emmap_counters_text_tests).

-include_lib("eunit/include/eunit.hrl").

-import(emmap_test_lib, [with_dir/1, badarg/3]).

names_units_and_help_become_a_text_test() ->
    with_dir(fun(Dir) ->
        {ok, C} = emmap_counters:open(filename:join(Dir, "c"),
                                      [{'http.requests', #{kind => counter, help => "Answered\\\nones."}},
                                       {wait, #{kind => counter, unit => "seconds"}}, 'http_requests_total',
                                       {<<"größe"/utf8>>, #{help => "ü"}}], [{signed, false}]),
        ok = emmap_counters:put(C, 1, (1 bsl 64) - 1),
        ok = emmap_counters:put(C, 3, 3),
        ?assertEqual(<<"# HELP http_requests_total Answered\\\\\\nones.\n"
                       "# TYPE http_requests_total counter\n"
                       "http_requests_total 18446744073709551615\n"
                       "# TYPE wait_seconds_total counter\n"
                       "wait_seconds_total 0\n"
                       "# TYPE http_requests_total_3 gauge\n"
                       "http_requests_total_3 3\n"
                       "# HELP gr__e ü\n"
                       "# TYPE gr__e gauge\n"
                       "gr__e 0\n"/utf8>>, emmap_counters:prometheus(C))
    end).

%% More than the text's first room.
many_counters_are_all_there_test() ->
    with_dir(fun(Dir) ->
        {ok, C} = emmap_counters:open(filename:join(Dir, "c"), 5000, []),
        ok = emmap_counters:put(C, 5000, -1),
        Lines = binary:split(emmap_counters:prometheus(C), <<"\n">>, [global]),
        ?assertEqual([<<"emmap_value{index=\"", (integer_to_binary(N))/binary, "\"} 0">> || N <- lists:seq(1, 4999)]
                     ++ [<<"emmap_value{index=\"5000\"} -1">>, <<>>], lists:nthtail(2, Lines))
    end).

what_is_no_open_handle_is_refused_test() ->
    with_dir(fun(Dir) ->
        {ok, C} = emmap_counters:open(filename:join(Dir, "c"), 1, []),
        ok = emmap_counters:close(C),
        ?assertError({emmap, closed}, emmap_counters:prometheus(C)),
        [badarg(1, "not what emmap_counters:open answers", fun() -> emmap_counters:prometheus(Bad) end)
         || Bad <- [make_ref(), 1, {}]]
    end).

%% Also after a change, over one connection after the other; and after the file was damaged, and is there again.
the_example_serves_them_test_() ->
    {timeout, 60, fun() -> with_dir(fun served/1) end}.

served(Dir) ->
    {ok, scrape, Code} = compile:file("examples/scrape.erl", [binary]),
    {module, scrape} = code:load_binary(scrape, "scrape.erl", Code),
    File = filename:join(Dir, "c"),
    {ok, C} = emmap_counters:open(File, [{requests, #{kind => counter, help => "Answered."}}], []),
    {ok, Server} = scrape:start(File, 0),
    try
        [{port, Port}] = httpd:info(Server, [port]),
        Url = "http://127.0.0.1:" ++ integer_to_list(Port) ++ "/metrics",
        [begin
             ok = emmap_counters:put(C, requests, N),
             {ok, {{_, 200, _}, Head, Body}} = httpc:request(get, {Url, []}, [{timeout, 20000}], []),
             ?assertEqual("text/plain; version=0.0.4; charset=utf-8", proplists:get_value("content-type", Head)),
             ?assertEqual("# HELP requests_total Answered.\n# TYPE requests_total counter\nrequests_total "
                          ++ integer_to_list(N) ++ "\n", Body)
         end || N <- [0, 17]],
        {ok, Whole} = file:read_file(File),
        emmap_test_lib:truncate(File, 0),
        ?assertMatch({ok, {{_, 500, _}, _, _}}, httpc:request(get, {Url, []}, [{timeout, 20000}], [])),
        ok = file:write_file(File ++ ".new", Whole),
        ok = file:rename(File ++ ".new", File),
        ?assertMatch({ok, {{_, 200, _}, _, _}}, httpc:request(get, {Url, []}, [{timeout, 20000}], []))
    after
        ok = inets:stop(httpd, Server)
    end.
