%% scrape.erl -- counters for Prometheus to scrape, by OTP's own web server:
%%
%%     rebar3 compile && erlc examples/scrape.erl
%%     erl -noinput -pa _build/default/lib/emmap/ebin -eval 'scrape:start("FILE", 9100).'
%%     curl http://localhost:9100/metrics
-module(scrape).

-export([start/2, do/1]).

-include_lib("inets/include/httpd.hrl").

start(File, Port) ->
    {ok, _} = application:ensure_all_started(inets),
    inets:start(httpd, [{port, Port}, {bind_address, {127, 0, 0, 1}}, {server_name, "emmap"},
                        {server_root, "."}, {document_root, "."}, {modules, [?MODULE]},
                        {counters, File}]).

%% Called by the web server with each request. It opens what is there now: the file may have been made anew.
do(#mod{config_db = Config}) ->
    {ok, Counters} = emmap_counters:open(httpd_util:lookup(Config, counters), 0, [read]),
    Text = emmap_counters:prometheus(Counters),
    ok = emmap_counters:close(Counters),
    Head = [{code, 200}, {content_type, "text/plain; version=0.0.4; charset=utf-8"},
            {content_length, integer_to_list(byte_size(Text))}],
    {proceed, [{response, {response, Head, [Text]}}]}.
