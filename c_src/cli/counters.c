/* counters.c -- emmap counters: names and values, once or again and again. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "emmap.h"

struct watch {
    struct emmap_counters *counters;
    struct emmap_counters_info info;
    const char *path;
    bool json, watches, redraws; /* redraws: each look clears the terminal */
    const char *note, *told;     /* what is to be said of the file's name; what was said last */
    /* The values of this look; of the one before, of which there may be less. */
    int64_t *value, *before;
    uint64_t room, before_count;
    struct timespec at, before_at, time;
};

/* ------------------------------------------------------------------------------------------ a look */

/* Counters may have been added. */
static int make_room(struct watch *w) {
    if (w->info.count <= w->room) return 0;
    if (w->info.count > SIZE_MAX / sizeof *w->value) return -ENOMEM;
    const size_t bytes = (size_t)w->info.count * sizeof *w->value;
    int64_t *value = realloc(w->value, bytes);
    if (!value) return -ENOMEM;
    w->value = value;
    int64_t *before = realloc(w->before, bytes);
    if (!before) return -ENOMEM;
    w->before = before;
    w->room = w->info.count;
    return 0;
}

static const struct emmap_counters_options to_look = {.flags = EMMAP_COUNTERS_READ |
                                                               EMMAP_COUNTERS_FORCE};

/* Whose file has lost its name goes on with the one that has it now, if those are counters. */
static int follow(struct watch *w) {
    struct emmap_counters *other;
    w->note = NULL;
    if (w->info.linked || !w->watches) return 0;
    if (emmap_counters_open(&other, w->path, &to_look) != 0) {
        w->note = "it has lost its name, and there are no other counters: it is still shown";
        return 0;
    }
    emmap_counters_free(w->counters);
    w->counters = other;
    w->before_count = 0;
    w->note = "another file has its name: that is shown from now on";
    w->told = NULL;
    return emmap_counters_info(other, &w->info);
}

/* Once; where the screen is cleared, as long as it is so. */
static void tell(struct watch *w) {
    if (w->note && (w->redraws || w->note != w->told)) {
        fflush(stdout);
        fprintf(stderr, "emmap counters: %s: %s\n", w->path, w->note);
    }
    w->told = w->note;
}

static int look(struct watch *w) {
    int rc = emmap_counters_info(w->counters, &w->info);
    if (rc == 0) rc = follow(w);
    if (rc == 0) rc = make_room(w);
    clock_gettime(CLOCK_MONOTONIC, &w->at);
    timespec_get(&w->time, TIME_UTC);
    for (uint64_t i = 0; rc == 0 && i < w->info.count; i++)
        rc = emmap_counters_get(w->counters, i, &w->value[i]);
    return rc;
}

static void keep_look(struct watch *w) {
    int64_t *const value = w->value;
    w->value = w->before;
    w->before = value;
    w->before_count = w->info.count;
    w->before_at = w->at;
}

/* The change a second since the last look; false: there is none. */
static bool rate(const struct watch *w, uint64_t i, double *out) {
    const double seconds = (double)(w->at.tv_sec - w->before_at.tv_sec) +
                           (double)(w->at.tv_nsec - w->before_at.tv_nsec) / 1e9;
    if (i >= w->before_count || seconds <= 0) return false;
    /* What wraps goes on rising. */
    *out = (double)(int64_t)((uint64_t)w->value[i] - (uint64_t)w->before[i]) / seconds;
    return true;
}

/* --------------------------------------------------------------------------------------- in a table */

enum column { NAME, VALUE, RATE, UNIT, HELP, COLUMNS };
enum { CELL_BYTES = 4096 }; /* a text of a counter, each byte escaped */

/* Unicode's Bidi_Control: they set what is behind them in another order. */
static bool turns_text(uint32_t c) {
    return c == 0x61C || c == 0x200E || c == 0x200F || (c >= 0x202A && c <= 0x202E) ||
           (c >= 0x2066 && c <= 0x2069);
}

/* What would move the cursor, and the terminal's own commands, are not printed as they are. */
static int print_safe(const char *text, char cell[CELL_BYTES]) {
    const uint8_t *s = (const uint8_t *)text;
    size_t left = strlen(text), at = 0;
    int columns = 0;
    cell[0] = 0;
    while (left > 0 && at < CELL_BYTES - 8) {
        uint32_t c = 0xFFFD;
        const size_t n = cli_utf8(s, left, &c);
        if (n == 0 || c < 0x20 || (c >= 0x7F && c < 0xA0) || turns_text(c)) {
            columns += snprintf(cell + at, 8, c == '\n' ? "\\n" : "\\u%04x", (unsigned)c);
            at += strlen(cell + at);
        } else {
            memcpy(cell + at, s, n);
            at += n;
            columns++;
        }
        cell[at] = 0;
        s += n ? n : 1;
        left -= n ? n : 1;
    }
    return columns;
}

/* How many columns of the terminal it takes. */
static int cell_text(const struct watch *w, uint64_t i, const struct emmap_counter *counter,
                     enum column column, char cell[CELL_BYTES]) {
    double per_second;
    switch (column) {
    case NAME:
        return counter ? print_safe(counter->name, cell)
                       : snprintf(cell, CELL_BYTES, "%" PRIu64, i + 1);
    case VALUE:
        if (w->info.is_unsigned)
            return snprintf(cell, CELL_BYTES, "%" PRIu64, (uint64_t)w->value[i]);
        return snprintf(cell, CELL_BYTES, "%" PRId64, w->value[i]);
    case RATE:
        if (!rate(w, i, &per_second)) return snprintf(cell, CELL_BYTES, "-");
        if (per_second == 0) return snprintf(cell, CELL_BYTES, "0");
        return snprintf(cell, CELL_BYTES, per_second > -10 && per_second < 10 ? "%+.3f" : "%+.1f",
                        per_second);
    case UNIT:
        return print_safe(counter ? counter->unit : "", cell);
    default:
        return print_safe(counter ? counter->help : "", cell);
    }
}

struct table {
    const struct watch *w;
    int width[COLUMNS]; /* 0: the column is left out */
};

static const char *const heads[COLUMNS] = {"counter", "value", "per second", "unit", "help"};

static bool is_right(enum column column) {
    return column == VALUE || column == RATE;
}

static int each_counter(struct table *t,
                        void (*row)(struct table *t, uint64_t i, const struct emmap_counter *c)) {
    for (uint64_t i = 0; i < t->w->info.count; i++) {
        struct emmap_counter counter;
        if (t->w->info.is_named) {
            const int rc = emmap_counters_name(t->w->counters, i, &counter);
            if (rc) return rc;
        }
        row(t, i, t->w->info.is_named ? &counter : NULL);
    }
    return 0;
}

static void measure_row(struct table *t, uint64_t i, const struct emmap_counter *counter) {
    char cell[CELL_BYTES];
    for (enum column c = 0; c < COLUMNS; c++) {
        if (c == RATE && !t->w->watches) continue;
        const int width = cell_text(t->w, i, counter, c, cell);
        const int least = width > 0 ? (int)strlen(heads[c]) : 0;
        if (t->width[c] < least) t->width[c] = least;
        if (t->width[c] < width) t->width[c] = width;
    }
}

/* No blanks behind the last one that there is. */
static void print_cells(const struct table *t, const char *const cell[COLUMNS],
                        const int width[COLUMNS]) {
    int blanks = 0;
    for (enum column c = 0; c < COLUMNS; c++) {
        if (t->width[c] == 0) continue;
        const int pad = t->width[c] - width[c];
        if (width[c] > 0) {
            printf("%*s%s", blanks + (is_right(c) ? pad : 0), "", cell[c]);
            blanks = is_right(c) ? 2 : pad + 2;
        } else
            blanks += t->width[c] + 2;
    }
    printf("\n");
}

static void print_row(struct table *t, uint64_t i, const struct emmap_counter *counter) {
    static char text[COLUMNS][CELL_BYTES];
    const char *cell[COLUMNS];
    int width[COLUMNS];
    for (enum column c = 0; c < COLUMNS; c++) {
        width[c] = cell_text(t->w, i, counter, c, text[c]);
        cell[c] = text[c];
    }
    print_cells(t, cell, width);
}

static int print_table(const struct watch *w) {
    struct table t = {.w = w};
    int width[COLUMNS];
    int rc = each_counter(&t, measure_row);
    if (rc) return rc;
    for (enum column c = 0; c < COLUMNS; c++)
        width[c] = (int)strlen(heads[c]);
    print_cells(&t, heads, width);
    return each_counter(&t, print_row);
}

/* ------------------------------------------------------------------------------------------- as JSON */

static void print_json_value(const struct watch *w, uint64_t i) {
    if (w->info.is_unsigned)
        printf("%" PRIu64, (uint64_t)w->value[i]);
    else
        printf("%" PRId64, w->value[i]);
}

static int print_json(const struct watch *w) {
    printf("{\"file\":");
    cli_json_string(w->path);
    printf(",\"time_ms\":%" PRIu64 ",\"signed\":%s,\"linked\":%s,\"counters\":[",
           (uint64_t)w->time.tv_sec * 1000 + (uint64_t)w->time.tv_nsec / 1000000,
           w->info.is_unsigned ? "false" : "true", w->info.linked ? "true" : "false");
    for (uint64_t i = 0; i < w->info.count; i++) {
        double per_second;
        printf("%s{\"index\":%" PRIu64, i ? "," : "", i + 1);
        if (w->info.is_named) {
            struct emmap_counter counter;
            const int rc = emmap_counters_name(w->counters, i, &counter);
            if (rc) return rc;
            printf(",\"name\":");
            cli_json_string(counter.name);
            printf(",\"type\":\"%s\",\"unit\":",
                   counter.type == EMMAP_COUNTER ? "counter" : "gauge");
            cli_json_string(counter.unit);
            printf(",\"help\":");
            cli_json_string(counter.help);
        }
        printf(",\"value\":");
        print_json_value(w, i);
        if (rate(w, i, &per_second)) printf(",\"per_second\":%.3f", per_second);
        printf("}");
    }
    printf("]}\n");
    return 0;
}

/* ---------------------------------------------------------------------------------------- what to do */

struct counters_options {
    bool json, prometheus, watches;
    double seconds;
    uint64_t looks;
};

static volatile sig_atomic_t interrupted;

static void interrupt(int signal) {
    (void)signal;
    interrupted = 1;
}

/* The interrupt is let through only where it is waited for, so that none comes between the look at
 * the flag and the wait; and no thread of the library's takes it. */
static void await_interrupt(double seconds, const sigset_t *before) {
    const struct timespec wait = {.tv_sec = (time_t)seconds,
                                  .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    pselect(0, NULL, NULL, NULL, &wait, before);
}

static void catch_interrupts(sigset_t *before) {
    const struct sigaction action = {.sa_handler = interrupt};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, before);
    sigdelset(before, SIGINT);
    sigaction(SIGINT, &action, NULL);
}

static int show(const struct watch *w, bool first) {
    if (w->json) return print_json(w);
    if (w->redraws)
        printf("\033[H\033[2J");
    else if (!first)
        printf("\n");
    return print_table(w);
}

static int watch(struct watch *w, const struct counters_options *options) {
    sigset_t before;
    if (options->watches) catch_interrupts(&before);
    const uint64_t looks = options->watches ? options->looks : 1;
    int rc = 0;
    for (uint64_t n = 0; rc == 0 && n < looks && !interrupted && !ferror(stdout); n++) {
        if (n > 0) await_interrupt(options->seconds, &before);
        if (interrupted) break;
        rc = look(w);
        if (rc == 0) rc = show(w, n == 0);
        fflush(stdout);
        tell(w);
        keep_look(w);
    }
    return rc;
}

static int put(void *ctx, const char *text, size_t len_bytes) {
    (void)ctx;
    return fwrite(text, 1, len_bytes, stdout) == len_bytes ? 0 : -errno;
}

static int counters_of(const char *path, const struct counters_options *options) {
    struct watch w = {.path = path, .json = options->json, .watches = options->watches};
    w.redraws = w.watches && !w.json && isatty(STDOUT_FILENO);
    int rc = emmap_counters_open(&w.counters, path, &to_look);
    if (rc) return rc;
    rc = options->prometheus ? emmap_counters_text(w.counters, put, NULL) : watch(&w, options);
    emmap_counters_free(w.counters);
    free(w.value);
    free(w.before);
    return rc;
}

static const char help[] =
    "Usage: emmap counters [--json] [--watch [SECONDS] [--count N]] [--prometheus] FILE\n"
    "\n"
    "Prints counters: name (or number, from 1), value, unit and help. Nothing is changed, and the\n"
    "file may be in use.\n"
    "\n"
    "--watch     again each SECONDS (1), with the change a second since the last look, until it "
    "is\n"
    "            interrupted; with --count N, N times. Counters that are added meanwhile are "
    "shown.\n"
    "--json      one object a line and look\n"
    "--prometheus  the text format of Prometheus\n"
    "\n"
    "Exit status: 0; 1: damaged; 2: no counters, it cannot be read, or the command line is "
    "wrong.\n";

/* Digits, and a point among them. */
static bool is_seconds(const char *text) {
    return *text && strspn(text, "0123456789.") == strlen(text) && strpbrk(text, "0123456789");
}

/* getopt knows no argument that may be left out and yet stands apart: --watch 2 becomes --watch=2. */
static int join_seconds(int argc, char **argv, char *joined, size_t room) {
    for (int i = 1; i + 1 < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--watch") != 0 || !is_seconds(argv[i + 1])) continue;
        if (strlen(argv[i + 1]) + sizeof "--watch=" > room) continue;
        snprintf(joined, room, "--watch=%s", argv[i + 1]);
        argv[i] = joined;
        for (int j = i + 1; j < argc; j++)
            argv[j] = argv[j + 1];
        return argc - 1;
    }
    return argc;
}

static bool get_seconds(const char *text, double *seconds) {
    char *end;
    if (!text) return true;
    if (!is_seconds(text)) return false;
    *seconds = strtod(text, &end);
    return *end == 0 && *seconds >= 0.001 && *seconds <= 1e6;
}

static bool get_looks(const char *text, uint64_t *looks) {
    char *end;
    errno = 0;
    if (*text < '0' || *text > '9') return false;
    *looks = strtoull(text, &end, 10);
    return errno == 0 && *end == 0 && *looks > 0;
}

static enum cli_status wrong(const char *why) {
    fprintf(stderr, "emmap counters: %s; see emmap counters --help\n", why);
    return CLI_USAGE;
}

enum cli_status cli_counters(int argc, char **argv) {
    static const struct option long_options[] = {
        {"json", no_argument, NULL, 'j'},        {"watch", optional_argument, NULL, 'w'},
        {"count", required_argument, NULL, 'c'}, {"prometheus", no_argument, NULL, 'p'},
        {"help", no_argument, NULL, 'h'},        {0}};
    struct counters_options options = {.seconds = 1};
    char joined[64];
    argc = join_seconds(argc, argv, joined, sizeof joined);
    for (int c; (c = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
        if (c == 'h') {
            fputs(help, stdout);
            return CLI_OK;
        }
        if (c == '?') return CLI_USAGE; /* getopt has said why */
        if (c == 'w' && !get_seconds(optarg, &options.seconds))
            return wrong("--watch takes seconds, from 0.001 to 1000000");
        if (c == 'c' && !get_looks(optarg, &options.looks))
            return wrong("--count takes a number from 1");
        if (c == 'j') options.json = true;
        if (c == 'w') options.watches = true;
        if (c == 'p') options.prometheus = true;
    }
    if (optind + 1 != argc) return wrong("one file is to be given");
    if (options.prometheus && (options.json || options.watches))
        return wrong("--prometheus goes with no other option");
    if (options.looks > 0 && !options.watches) return wrong("--count goes with --watch");
    if (options.looks == 0) options.looks = UINT64_MAX;

    signal(SIGPIPE, SIG_DFL); /* who reads no further need not be told, whatever was inherited */
    const int rc = counters_of(argv[optind], &options);
    return cli_flush("counters", rc ? cli_complain("counters", argv[optind], rc) : CLI_OK);
}
