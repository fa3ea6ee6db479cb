/* counters_text.c -- counters as Prometheus reads them (text format 0.0.4). Knows no more of them than any
 * C program does.
 *
 * The names of metrics: https://prometheus.io/docs/practices/naming/ and what `promtool check metrics`
 * says of them. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "emmap.h"

/* Metrics whose names end in their counters' numbers are unlike each other, so such a name can only be like
 * one without a number. Those are of at most a byte before a digit, the name, `_` and the unit; and what has
 * outgrown them is like none. */
enum {
    NAME_MOST = 255,
    UNIT_MOST = 63,
    HELP_MOST = 623,
    METRIC_BYTES = 384,
    LINES_BYTES = 3 * METRIC_BYTES + 2 * HELP_MOST + 64, /* of one counter */
    TEXT_BYTES = 8192
};
static_assert((int)METRIC_BYTES <= (int)HASH_MOST_BYTES, "each has a hash");
static_assert(METRIC_BYTES > 1 + NAME_MOST + 1 + UNIT_MOST + sizeof "_18446744073709551615_total",
              "room for a name");

/* ------------------------------------------------------------------------------- the text's way out */

struct text {
    int (*put)(void *ctx, const char *text, size_t len_bytes);
    void *ctx;
    size_t len_bytes;
    char bytes[TEXT_BYTES];
};

static int text_flush(struct text *text) {
    const size_t len_bytes = text->len_bytes;
    text->len_bytes = 0;
    return len_bytes ? text->put(text->ctx, text->bytes, len_bytes) : 0;
}

/* Before each counter: what follows may then be added without a look at the room. */
static int text_begin(struct text *text) {
    return TEXT_BYTES - text->len_bytes < LINES_BYTES ? text_flush(text) : 0;
}

static void text_add(struct text *text, const char *string) {
    const size_t len_bytes = strlen(string);
    memcpy(text->bytes + text->len_bytes, string, len_bytes);
    text->len_bytes += len_bytes;
}

static void text_add_help(struct text *text, const char *help) {
    for (size_t i = 0; i < HELP_MOST && help[i]; i++) {
        const char escaped[] = {'\\', help[i] == '\n' ? 'n' : help[i], 0};
        const char plain[] = {help[i], 0};
        text_add(text, help[i] == '\n' || help[i] == '\\' ? escaped : plain);
    }
}

/* decimals: so many of the value's digits are behind the point. */
static void text_add_value(struct text *text, int64_t value, bool is_unsigned, int decimals) {
    const bool is_negative = !is_unsigned && value < 0;
    const uint64_t size = is_negative ? 0 - (uint64_t)value : (uint64_t)value;
    uint64_t one = 1;
    for (int i = 0; i < decimals; i++)
        one *= 10;
    char digits[48];
    snprintf(digits, sizeof digits, " %s%" PRIu64, is_negative ? "-" : "", size / one);
    text_add(text, digits);
    if (decimals) {
        snprintf(digits, sizeof digits, ".%0*" PRIu64, decimals, size % one);
        text_add(text, digits);
    }
    text_add(text, "\n");
}

/* ------------------------------------------------------------------------------- the metrics' names */

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* A character that is not allowed becomes `_`, in UTF-8 its first byte. A colon is allowed, but left to
 * those who write recording rules. */
static void clean(const char *from, size_t most, char *to) {
    for (size_t i = 0; i < most && from[i]; i++) {
        if (((unsigned char)from[i] & 0xC0) == 0x80) continue;
        *to++ = is_letter(from[i]) || is_digit(from[i]) ? from[i] : '_';
    }
    *to = 0;
}

static bool ends_with(const char *string, size_t len_bytes, const char *end) {
    const size_t end_bytes = strlen(end);
    return len_bytes >= end_bytes && memcmp(string + len_bytes - end_bytes, end, end_bytes) == 0;
}

static bool ends_with_unit(const char *name, size_t len_bytes, const char *unit) {
    const size_t unit_bytes = strlen(unit);
    return ends_with(name, len_bytes, unit) &&
           (len_bytes == unit_bytes || name[len_bytes - unit_bytes - 1] == '_');
}

/* The units of time that are told in seconds, as Prometheus has it; to the last digit. */
struct part {
    const char *unit, *short_unit;
    int decimals;
};

static const struct part *part_of(const struct emmap_counter *counter) {
    static const struct part parts[] = {
        {"nanoseconds", "ns", 9}, {"microseconds", "us", 6}, {"milliseconds", "ms", 3}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strcmp(counter->unit, parts[i].unit) == 0) return &parts[i];
    return NULL;
}

static int decimals_of(const struct emmap_counter *counter) {
    const struct part *part = part_of(counter);
    return part ? part->decimals : 0;
}

/* `wait_ns` and `wait_nanoseconds` become `wait`. */
static void drop_part(const struct part *part, char *stem) {
    const char *ends[] = {part->unit, part->short_unit};
    const size_t len_bytes = strlen(stem);
    for (int i = 0; i < 2; i++) {
        const size_t end_bytes = strlen(ends[i]);
        if (len_bytes <= end_bytes + 1 || !ends_with_unit(stem, len_bytes, ends[i])) continue;
        stem[len_bytes - end_bytes - 1] = 0;
        return;
    }
}

/* What a metric is called, without the `_total` of counters. */
static void stem_of(const struct emmap_counter *counter, char stem[METRIC_BYTES]) {
    const struct part *part = part_of(counter);
    char unit[UNIT_MOST + 1];
    clean(part ? "seconds" : counter->unit, UNIT_MOST, unit);
    clean(counter->name, NAME_MOST, stem + 1);
    if (is_digit(stem[1]))
        stem[0] = '_';
    else
        memmove(stem, stem + 1, strlen(stem + 1) + 1);

    const size_t len_bytes = strlen(stem);
    size_t before = len_bytes - (ends_with(stem, len_bytes, "_total") ? strlen("_total") : 0);
    if (counter->type == EMMAP_COUNTER) stem[before] = 0;
    if (part) {
        drop_part(part, stem);
        before = strlen(stem);
    }
    /* Of a unit as "%" nothing is left that says anything. */
    if (strspn(unit, "_") == strlen(unit) || ends_with_unit(stem, before, unit)) return;
    strcat(strcat(stem, "_"), unit);
}

/* The names there are. */
struct names {
    char **slots;
    size_t mask;
    struct hash_seed seed;
};

static int names_init(struct names *names, uint64_t count) {
    size_t slots = 16;
    while (slots / 2 < count && slots <= SIZE_MAX / 4 / sizeof *names->slots)
        slots *= 2;
    if (slots / 2 < count) return -ENOMEM;
    *names = (struct names){.slots = calloc(slots, sizeof *names->slots), .mask = slots - 1};
    hash_seed(&names->seed);
    return names->slots ? 0 : -ENOMEM;
}

static void names_fini(struct names *names) {
    for (size_t i = 0; names->slots && i <= names->mask; i++)
        free(names->slots[i]);
    free(names->slots);
}

static char **names_slot(const struct names *names, const char *name) {
    size_t at = (size_t)hash(&names->seed, name, strlen(name)) & names->mask;
    while (names->slots[at] && strcmp(names->slots[at], name) != 0)
        at = (at + 1) & names->mask;
    return &names->slots[at];
}

/* The name of counter i, which no counter before it has. */
static int metric_of(struct names *names, uint64_t i, const struct emmap_counter *counter,
                     char metric[METRIC_BYTES]) {
    char stem[METRIC_BYTES];
    stem_of(counter, stem);
    for (;;) {
        strcpy(metric, stem);
        if (counter->type == EMMAP_COUNTER) strcat(metric, "_total");
        char **const slot = names_slot(names, metric);
        if (!*slot) return (*slot = strdup(metric)) ? 0 : -ENOMEM;
        const size_t len_bytes = strlen(stem);
        snprintf(stem + len_bytes, sizeof stem - len_bytes, "_%" PRIu64, i + 1);
    }
}

/* ---------------------------------------------------------------------------------------- the counters */

static int named_text(struct emmap_counters *counters, struct names *names, bool is_unsigned,
                      uint64_t i, struct text *text) {
    struct emmap_counter counter;
    char metric[METRIC_BYTES];
    int64_t value;
    int rc = emmap_counters_name(counters, i, &counter);
    if (rc == 0) rc = emmap_counters_get(counters, i, &value);
    if (rc == 0) rc = metric_of(names, i, &counter, metric);
    if (rc == 0) rc = text_begin(text);
    if (rc) return rc;
    if (*counter.help) {
        text_add(text, "# HELP ");
        text_add(text, metric);
        text_add(text, " ");
        text_add_help(text, counter.help);
        text_add(text, "\n");
    }
    text_add(text, "# TYPE ");
    text_add(text, metric);
    text_add(text, counter.type == EMMAP_COUNTER ? " counter\n" : " gauge\n");
    text_add(text, metric);
    text_add_value(text, value, is_unsigned, decimals_of(&counter));
    return 0;
}

static int unnamed_text(struct emmap_counters *counters, bool is_unsigned, uint64_t i,
                        struct text *text) {
    char sample[64];
    int64_t value;
    int rc = emmap_counters_get(counters, i, &value);
    if (rc == 0) rc = text_begin(text);
    if (rc) return rc;
    if (i == 0)
        text_add(text, "# HELP emmap_value A counter without a name, by its number from 1.\n"
                       "# TYPE emmap_value gauge\n");
    snprintf(sample, sizeof sample, "emmap_value{index=\"%" PRIu64 "\"}", i + 1);
    text_add(text, sample);
    text_add_value(text, value, is_unsigned, 0);
    return 0;
}

int emmap_counters_text(struct emmap_counters *counters,
                        int (*put)(void *ctx, const char *text, size_t len_bytes), void *ctx) {
    struct emmap_counters_info info;
    struct names names = {0};
    struct text text;
    text.put = put;
    text.ctx = ctx;
    text.len_bytes = 0;
    int rc = emmap_counters_info(counters, &info);
    if (rc == 0 && info.is_named) rc = names_init(&names, info.count);
    for (uint64_t i = 0; rc == 0 && i < info.count; i++)
        rc = info.is_named ? named_text(counters, &names, info.is_unsigned, i, &text)
                           : unnamed_text(counters, info.is_unsigned, i, &text);
    names_fini(&names);
    return rc ? rc : text_flush(&text);
}
