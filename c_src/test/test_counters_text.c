/* test_counters_text.c -- counters as Prometheus reads them: each line, names that are none there and
 * names that become alike, the largest and the smallest values, an end at each piece. */
#include <stdio.h>
#include <string.h>

#include "test/support.h"

enum { ROOM = 4 << 20, FAILS = -4711 };

struct written {
    char text[ROOM];
    size_t len_bytes;
    unsigned pieces, fail_at; /* fail_at: the piece from 1 that fails; 0: none */
    size_t largest;
};
static struct written written;

static int put(void *ctx, const char *text, size_t len_bytes) {
    struct written *w = ctx;
    w->pieces++;
    if (w->pieces == w->fail_at) return FAILS;
    assert_true(w->fail_at == 0 || w->pieces < w->fail_at); /* none comes after it */
    assert_true(len_bytes > 0 && w->len_bytes + len_bytes < ROOM);
    memcpy(w->text + w->len_bytes, text, len_bytes);
    w->len_bytes += len_bytes;
    w->text[w->len_bytes] = 0;
    if (len_bytes > w->largest) w->largest = len_bytes;
    return 0;
}

static int text_of(struct emmap_counters *counters, unsigned fail_at) {
    written.len_bytes = 0;
    written.pieces = 0;
    written.largest = 0;
    written.fail_at = fail_at;
    written.text[0] = 0;
    return emmap_counters_text(counters, put, &written);
}

static struct emmap_counters *make(const struct emmap_counter *names, uint64_t count,
                                   uint32_t flags) {
    const struct emmap_counters_options options = {
        .flags = EMMAP_COUNTERS_CREATE | flags, .count = count, .counters = names};
    struct emmap_counters *counters;
    assert_ok(emmap_counters_open(&counters, support_path("f"), &options));
    return counters;
}

static void drop(struct emmap_counters *counters) {
    emmap_counters_free(counters);
    assert_int_equal(remove(support_path("f")), 0);
    await_no_regions();
}

static void is_text(struct emmap_counters *counters, const char *expected) {
    assert_ok(text_of(counters, 0));
    assert_string_equal(written.text, expected);
}

static void a_counter_has_help_type_and_value(void **state) {
    (void)state;
    const struct emmap_counter names[] = {
        {"requests", "", "Requests that were answered.", EMMAP_COUNTER},
        {"temperature", "celsius", NULL, EMMAP_GAUGE},
        {"odd", NULL, "a \\ and\ntwo lines \"quoted\"\n\\n", EMMAP_GAUGE},
    };
    struct emmap_counters *c = make(names, 3, 0);
    assert_ok(emmap_counters_put(c, 0, 17));
    assert_ok(emmap_counters_put(c, 1, -40));
    is_text(c, "# HELP requests_total Requests that were answered.\n"
               "# TYPE requests_total counter\n"
               "requests_total 17\n"
               "# TYPE temperature_celsius gauge\n"
               "temperature_celsius -40\n"
               "# HELP odd a \\\\ and\\ntwo lines \"quoted\"\\n\\\\n\n"
               "# TYPE odd gauge\n"
               "odd 0\n");
    drop(c);
}

/* The metric of one counter. */
static void is_called(const char *name, const char *unit, enum emmap_counter_type type,
                      const char *metric) {
    const struct emmap_counter one = {.name = name, .unit = unit, .type = type};
    struct emmap_counters *c = make(&one, 1, 0);
    char expected[1024];
    snprintf(expected, sizeof expected, "# TYPE %s %s\n%s 0\n", metric,
             type == EMMAP_COUNTER ? "counter" : "gauge", metric);
    is_text(c, expected);
    drop(c);
}

static void what_prometheus_does_not_allow_becomes_an_underscore(void **state) {
    (void)state;
    is_called("a.b-c/d e:f", "", EMMAP_GAUGE, "a_b_c_d_e_f");
    is_called("5xx", "", EMMAP_COUNTER, "_5xx_total");
    is_called("gr\xC3\xB6\xC3\x9F"
              "e\xE2\x82\xAC\xF0\x9F\x98\x80!",
              "", EMMAP_GAUGE, "gr__e___");
    is_called("AZaz09_", "", EMMAP_GAUGE, "AZaz09_");
    is_called("\x01\x7F", "", EMMAP_GAUGE, "__");
}

static void a_unit_and_total_are_appended_once(void **state) {
    (void)state;
    is_called("wait", "seconds", EMMAP_COUNTER, "wait_seconds_total");
    is_called("wait_seconds", "seconds", EMMAP_COUNTER, "wait_seconds_total");
    is_called("wait_seconds_total", "seconds", EMMAP_COUNTER, "wait_seconds_total");
    is_called("wait_total", "seconds", EMMAP_COUNTER, "wait_seconds_total");
    is_called("wait_total", "", EMMAP_COUNTER, "wait_total");
    is_called("microseconds", "seconds", EMMAP_GAUGE, "microseconds_seconds");
    is_called("seconds", "seconds", EMMAP_GAUGE, "seconds");
    is_called("s", "seconds", EMMAP_GAUGE, "s_seconds");
    is_called("memory_total", "bytes", EMMAP_GAUGE, "memory_total_bytes");
    is_called("memory_bytes_total", "bytes", EMMAP_GAUGE, "memory_bytes_total");
    is_called("speed", "m/s", EMMAP_GAUGE, "speed_m_s");
    is_called("load", "%", EMMAP_GAUGE, "load");
    is_called("total", "", EMMAP_COUNTER, "total_total");
    is_called("_total", "", EMMAP_COUNTER, "_total");
}

/* The line with the value of one counter. */
static void is_told(const char *name, const char *unit, enum emmap_counter_type type,
                    uint32_t flags, int64_t value, const char *line) {
    const struct emmap_counter one = {.name = name, .unit = unit, .type = type};
    struct emmap_counters *c = make(&one, 1, flags);
    assert_ok(emmap_counters_put(c, 0, value));
    assert_ok(text_of(c, 0));
    assert_string_equal(strchr(written.text, '\n') + 1, line);
    drop(c);
}

static void parts_of_seconds_are_told_in_seconds_to_the_last_digit(void **state) {
    (void)state;
    is_told("wait_ns", "nanoseconds", EMMAP_COUNTER, 0, 1234567890,
            "wait_seconds_total 1.234567890\n");
    is_told("wait_ns_total", "nanoseconds", EMMAP_COUNTER, 0, 1,
            "wait_seconds_total 0.000000001\n");
    is_told("wait_nanoseconds", "nanoseconds", EMMAP_GAUGE, 0, 0, "wait_seconds 0.000000000\n");
    is_told("wait_us", "microseconds", EMMAP_GAUGE, 0, -1, "wait_seconds -0.000001\n");
    is_told("wait", "milliseconds", EMMAP_GAUGE, 0, -12345, "wait_seconds -12.345\n");
    is_told("wait_ns", "milliseconds", EMMAP_GAUGE, 0, 5, "wait_ns_seconds 0.005\n");
    is_told("waits", "nanoseconds", EMMAP_GAUGE, 0, 5, "waits_seconds 0.000000005\n");
    is_told("wait_seconds", "milliseconds", EMMAP_GAUGE, 0, 5, "wait_seconds 0.005\n");
    is_told("ns", "nanoseconds", EMMAP_GAUGE, 0, 5, "ns_seconds 0.000000005\n");
    is_told("_ns", "nanoseconds", EMMAP_GAUGE, 0, 5, "_ns_seconds 0.000000005\n");
    is_told("wait", "seconds", EMMAP_GAUGE, 0, 5, "wait_seconds 5\n");
    is_told("w", "nanoseconds", EMMAP_GAUGE, 0, INT64_MIN, "w_seconds -9223372036.854775808\n");
    is_told("w", "nanoseconds", EMMAP_GAUGE, EMMAP_COUNTERS_UNSIGNED, -1,
            "w_seconds 18446744073.709551615\n");
}

/* Of the lines with a value, which are those without #, the n-th is of this metric. */
static void is_sample(unsigned n, const char *metric) {
    const char *line = written.text;
    for (;; line = strchr(line, '\n') + 1) {
        assert_true(*line);
        if (*line != '#' && n-- == 0) break;
    }
    const size_t len = strlen(metric);
    if (strncmp(line, metric, len) != 0 || line[len] != ' ')
        fail_msg("%.*s is not %s", (int)strcspn(line, " "), line, metric);
}

static void names_that_become_alike_get_their_number(void **state) {
    (void)state;
    static const struct {
        struct emmap_counter counter;
        const char *metric;
    } known[] = {
        {{.name = "x_y_3"}, "x_y_3"},
        {{.name = "x.y"}, "x_y"},
        {{.name = "x_y"}, "x_y_3_3"},
        {{.name = "x_y_4"}, "x_y_4"},
        {{.name = "a", .unit = "b", .type = EMMAP_COUNTER}, "a_b_total"},
        {{.name = "a_b", .type = EMMAP_COUNTER}, "a_b_6_total"},
        {{.name = "a_b_total"}, "a_b_total_7"},
        {{.name = "a_b_6", .type = EMMAP_COUNTER}, "a_b_6_8_total"},
        {{.name = "a.b", .type = EMMAP_COUNTER}, "a_b_9_total"},
        {{.name = "x-y"}, "x_y_10"},
    };
    enum { KNOWN = sizeof known / sizeof *known };
    struct emmap_counter names[KNOWN];
    for (unsigned i = 0; i < KNOWN; i++)
        names[i] = known[i].counter;
    struct emmap_counters *c = make(names, KNOWN, 0);
    assert_ok(text_of(c, 0));
    for (unsigned i = 0; i < KNOWN; i++)
        is_sample(i, known[i].metric);
    drop(c);
}

/* All are alike, and as long as can be. */
static void the_longest_names_and_help_fit(void **state) {
    (void)state;
    enum { MANY = 300, METRIC = 1 + 255 + 1 + 63 };
    static char name[MANY][256], unit[64], help[624], last[METRIC + 16];
    static struct emmap_counter names[MANY];
    memset(unit, '1', sizeof unit - 1);
    memset(help, '\n', sizeof help - 1);
    for (unsigned i = 0; i < MANY; i++) {
        memset(name[i], '1', sizeof name[i] - 1);
        for (unsigned k = 0; k < 5; k++)
            name[i][100 + k] = "-./+"[i >> 2 * k & 3];
        names[i] = (struct emmap_counter){name[i], unit, help, EMMAP_COUNTER};
    }
    snprintf(last, sizeof last, "_%.100s_____%.150s_%.63s_300_total", name[0], name[0] + 105, unit);
    assert_int_equal(strlen(last), METRIC + strlen("_300_total"));
    struct emmap_counters *c = make(names, MANY, EMMAP_COUNTERS_UNSIGNED);
    for (unsigned i = 0; i < MANY; i++)
        assert_ok(emmap_counters_put(c, i, -1));
    assert_ok(text_of(c, 0));
    is_sample(MANY - 1, last);
    assert_true(written.largest <= 16384);
    assert_true(written.pieces > 10);
    unsigned lines = 0;
    for (const char *line = written.text; *line; line = strchr(line, '\n') + 1)
        lines++;
    assert_int_equal(lines, 3 * MANY);
    drop(c);
}

static void values_are_signed_or_unsigned(void **state) {
    (void)state;
    const struct emmap_counter names[] = {{.name = "low"}, {.name = "high"}};
    struct emmap_counters *c = make(names, 2, 0);
    assert_ok(emmap_counters_put(c, 0, INT64_MIN));
    assert_ok(emmap_counters_put(c, 1, INT64_MAX));
    is_text(c, "# TYPE low gauge\nlow -9223372036854775808\n"
               "# TYPE high gauge\nhigh 9223372036854775807\n");
    drop(c);
    c = make(names, 2, EMMAP_COUNTERS_UNSIGNED);
    assert_ok(emmap_counters_put(c, 0, INT64_MIN));
    assert_ok(emmap_counters_put(c, 1, -1));
    is_text(c, "# TYPE low gauge\nlow 9223372036854775808\n"
               "# TYPE high gauge\nhigh 18446744073709551615\n");
    drop(c);
}

#define UNNAMED                                                            \
    "# HELP emmap_value A counter without a name, by its number from 1.\n" \
    "# TYPE emmap_value gauge\n"

static void counters_without_names_are_one_metric(void **state) {
    (void)state;
    static const uint32_t flags[] = {0, EMMAP_COUNTERS_UNSIGNED, EMMAP_COUNTERS_PADDED,
                                     EMMAP_COUNTERS_STRIPED | EMMAP_COUNTERS_UNSIGNED};
    for (unsigned i = 0; i < 4; i++) {
        struct emmap_counters *c = make(NULL, 3, flags[i]);
        int64_t old;
        assert_ok(emmap_counters_fetch(c, 1, EMMAP_SUB, 2, &old));
        is_text(c, flags[i] & EMMAP_COUNTERS_UNSIGNED ? UNNAMED
                       "emmap_value{index=\"1\"} 0\n"
                       "emmap_value{index=\"2\"} 18446744073709551614\n"
                       "emmap_value{index=\"3\"} 0\n"
                                                      : UNNAMED "emmap_value{index=\"1\"} 0\n"
                                                                "emmap_value{index=\"2\"} -2\n"
                                                                "emmap_value{index=\"3\"} 0\n");
        drop(c);
    }
    struct emmap_file *simple;
    uint64_t found;
    assert_ok(emmap_simple_counters_open(&simple, support_path("f"), 2, &found));
    assert_ok(emmap_file_store(simple, emmap_simple_counters_off(1), 7));
    struct emmap_counters *c = make(NULL, 0, 0);
    is_text(c, UNNAMED "emmap_value{index=\"1\"} 0\nemmap_value{index=\"2\"} 7\n");
    emmap_file_free(simple);
    drop(c);
}

/* At each piece in turn; nothing is put behind it. */
static void a_failing_put_ends_it_with_its_code(void **state) {
    (void)state;
    struct emmap_counters *c = make(NULL, 3000, 0);
    assert_ok(text_of(c, 0));
    const unsigned pieces = written.pieces;
    assert_true(pieces > 5);
    for (unsigned i = 1; i <= pieces; i++) {
        assert_int_equal(text_of(c, i), FAILS);
        assert_int_equal(written.pieces, i);
    }
    drop(c);
}

static void added_counters_come_with_the_next_call(void **state) {
    (void)state;
    if (!FILES_ARE_KNOWN) skip();
    const struct emmap_counter names[] = {{.name = "a"}, {.name = "b"}};
    struct emmap_counters *c = make(names, 1, 0);
    is_text(c, "# TYPE a gauge\na 0\n");
    struct emmap_counters *other = make(names, 2, 0);
    assert_ok(emmap_counters_put(other, 1, 5));
    is_text(c, "# TYPE a gauge\na 0\n# TYPE b gauge\nb 5\n");
    emmap_counters_free(other);
    drop(c);
}

static void closed_counters_have_no_text(void **state) {
    (void)state;
    struct emmap_counters *c = make(NULL, 1, 0);
    assert_ok(emmap_counters_close(c));
    assert_int_equal(text_of(c, 0), EMMAP_E_CLOSED);
    assert_int_equal(written.pieces, 0);
    drop(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_counter_has_help_type_and_value),
        TEST(what_prometheus_does_not_allow_becomes_an_underscore),
        TEST(a_unit_and_total_are_appended_once),
        TEST(parts_of_seconds_are_told_in_seconds_to_the_last_digit),
        TEST(names_that_become_alike_get_their_number),
        TEST(the_longest_names_and_help_fit),
        TEST(values_are_signed_or_unsigned),
        TEST(counters_without_names_are_one_metric),
        TEST(a_failing_put_ends_it_with_its_code),
        TEST(added_counters_come_with_the_next_call),
        TEST(closed_counters_have_no_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
