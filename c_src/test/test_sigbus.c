/* test_sigbus.c -- every call that touches a page, on a file that is cut off under the map: before the
 * call and in the midst of it; and on a disk that is full. It answers, the OS process lives, what is
 * left can be closed, and what comes back is used again.
 *
 * The calls are those that emmap.h marks with "Faults": one that is not in the table fails the test. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/figures.h"
#include "store/counters.h"
#include "test/faults.h"
#include "test/queue_check.h"
#include "test/queue_image.h"

enum { FILE_BYTES = 100000, COUNTERS = 10000, ROOM = IMAGE_MESSAGE_BYTES, NEW_BYTES = 30000 };

static char path[512];
static struct emmap_file *file;
static struct emmap_counters *counters;
static struct emmap_queue *q;
static struct emmap_queue_view *view;
static struct ledger ledger;
static uint8_t buf[FILE_BYTES > ROOM ? FILE_BYTES : ROOM];
static uint64_t whole_bytes; /* of the file, before it was cut */
static uint64_t cut_bytes;   /* to which it is cut */

/* ------------------------------------------------------------------------------ what is there */

/* As the files of whoever was here before. */
static void make_path(const char *name) {
    strcpy(path, support_path(name));
    (void)unlink(path);
}

static void make_mapped(void) {
    make_file(path, FILE_BYTES);
}

static void make_simple(void) {
    uint64_t found;
    own_faults();
    assert_ok(emmap_simple_counters_open(&file, path, COUNTERS, &found));
    for (uint64_t i = 0; i < COUNTERS; i++)
        assert_ok(emmap_file_store(file, emmap_simple_counters_off(i), (int64_t)i + 1));
    emmap_file_free(file);
    file = NULL;
}

enum { NAMED = 60, PLAIN = 3000, NAME_BYTES = 8 };
static char name_text[NAMED + 1][NAME_BYTES];
static struct emmap_counter names[NAMED + 1];
static bool is_named;

static int open_count(uint64_t count, bool named) {
    const struct emmap_counters_options options = {
        .flags = EMMAP_COUNTERS_CREATE, .count = count, .counters = named && count ? names : NULL};
    return emmap_counters_open(&counters, path, &options);
}

/* Pages of them are zeros. */
static int64_t counted(uint64_t i) {
    return i % 200 < 100 ? (int64_t)i + 1 : 0;
}

static void make_counters(uint64_t count, bool named) {
    own_faults();
    is_named = named;
    for (unsigned i = 0; i <= NAMED; i++) {
        snprintf(name_text[i], NAME_BYTES, "c%u", i);
        names[i] = (struct emmap_counter){.name = name_text[i], .unit = "n", .help = "One of many"};
    }
    assert_ok(open_count(count, named));
    for (uint64_t i = 0; i < count; i++)
        if (counted(i)) assert_ok(emmap_counters_put(counters, i, counted(i)));
    emmap_counters_free(counters);
    counters = NULL;
}

static void make_named(void) {
    make_counters(NAMED, true);
}

static void make_plain(void) {
    make_counters(PLAIN, false);
}

/* Over three segments of 64 KiB; the first ones are taken. */
static void make_queue(void) {
    static const uint32_t lens[] = {100, 30000, 200, 50000, 9000, 40000, 8, 20000};
    const struct emmap_queue_options options = {.flags = EMMAP_QUEUE_CREATE, .size_bytes = 1};
    uint32_t len, flags;
    memset(&ledger, 0, sizeof ledger);
    own_faults();
    assert_ok(emmap_queue_open(&q, path, &options, NULL));
    for (unsigned i = 0; i < sizeof lens / sizeof *lens; i++)
        ledger_push(&ledger, q, lens[i]);
    for (unsigned i = 0; i < 2; i++) {
        assert_ok(emmap_queue_take(q, buf, ROOM, &len, &flags));
        ledger.fate[i] = GONE;
    }
    emmap_queue_close(q);
    q = NULL;
}

static int open_mapped(void) {
    return open_file(&file, path, RW, 0, 0);
}

static int open_private(void) {
    return open_file(&file, path, EMMAP_WRITE, 0, 0);
}

static int open_simple(void) {
    uint64_t found;
    return emmap_simple_counters_open(&file, path, 0, &found);
}

static int open_counters(void) {
    return open_count(0, false);
}

/* Somebody else adds the last one. */
static int open_and_extend(void) {
    int rc = open_counters();
    if (rc || !FILES_ARE_KNOWN) return rc;
    struct emmap_counters *own = counters;
    rc = open_count(NAMED + 1, true);
    emmap_counters_free(counters);
    counters = own;
    await_regions(1);
    return rc;
}

static int open_queue_file(void) {
    const struct emmap_queue_options options = {.flags = 0};
    const int rc = emmap_queue_open(&q, path, &options, NULL);
    if (rc == 0) atomic_store(&q->job_waits, true); /* nothing in the background */
    return rc;
}

static int open_view(void) {
    return emmap_queue_view_open(&view, path);
}

static void close_all(void) {
    (void)emmap_stats_unpublish(); /* how it fails is told by its own row */
    emmap_file_free(file);
    emmap_counters_free(counters);
    emmap_queue_view_close(view);
    emmap_queue_close(q);
    file = NULL;
    counters = NULL;
    view = NULL;
    q = NULL;
}

/* ------------------------------------------------------------------------------------- calls */

static int again_mapped(void) {
    return file ? 0 : open_mapped();
}

static int again_populated(void) {
    return file ? 0 : open_file(&file, path, RW | EMMAP_POPULATE, 0, 0);
}

static int again_simple(void) {
    return file ? 0 : open_simple();
}

static int again_queue(void) {
    return q ? 0 : open_queue_file();
}

static int again_view(void) {
    return view ? 0 : open_view();
}

/* It has what was before the cut; behind it there may be zeros, when it is as long again. */
static int read_all(void) {
    uint64_t got = UINT64_MAX;
    memset(buf, 0xEE, FILE_BYTES);
    const int rc = emmap_file_read(file, 0, buf, FILE_BYTES, &got);
    if (rc) return rc;
    assert_in_range(got, 0, FILE_BYTES);
    assert_true(got == FILE_BYTES || got >= cut_bytes);
    for (uint64_t i = 0; i < got; i++)
        if (buf[i] != pattern(i) && (i < cut_bytes || buf[i] != 0))
            fail_msg("byte %llu of a file cut to %llu is 0x%02x", (unsigned long long)i,
                     (unsigned long long)cut_bytes, buf[i]);
    return 0;
}

static int write_all(void) {
    memset(buf, 'w', FILE_BYTES);
    return emmap_file_write(file, 0, buf, FILE_BYTES);
}

static int write_end(void) {
    return emmap_file_write(file, FILE_BYTES - 10, "x", 1);
}

static int resize_up(void) {
    return emmap_file_resize(file, 2 * FILE_BYTES, NULL);
}

static int resize_a_little(void) {
    return emmap_file_resize(file, FILE_BYTES + 10, NULL);
}

static int point(void) {
    const void *at;
    uint64_t got;
    return emmap_file_pointer(file, 0, FILE_BYTES, &at, &got);
}

enum { FAR = FILE_BYTES / 8 * 8 - 8 };
static int64_t old;

static int fetch(void) {
    return emmap_file_fetch(file, FAR, EMMAP_ADD, 1, &old);
}

static int cas(void) {
    return emmap_file_cas(file, FAR, 1, 2, &old);
}

static int load(void) {
    return emmap_file_load(file, FAR, &old);
}

static int store(void) {
    return emmap_file_store(file, FAR, 7);
}

static int count(void) {
    uint64_t n;
    return emmap_simple_counters_count(file, &n);
}

static int again_counters(void) {
    return counters ? 0 : open_counters();
}

static int extend_named(void) {
    return counters ? 0 : open_count(FILES_ARE_KNOWN ? NAMED + 1 : NAMED, true);
}

static int extend_plain(void) {
    return counters ? 0 : open_count(FILES_ARE_KNOWN ? 2 * PLAIN : PLAIN, false);
}

static uint64_t last(void) {
    return is_named ? NAMED - 1 : PLAIN - 1;
}

/* Where the file was not cut it is as it was; what is there again is zeros. */
static void see_value(uint64_t i, int64_t value) {
    const uint64_t stride = is_named ? COUNTERS_NAMED : COUNTERS_PLAIN;
    if (value == counted(i)) return;
    if (COUNTERS_DATA_OFF + i * stride + 8 <= cut_bytes || value != 0)
        fail_msg("counter %u of a file cut to %llu is %lld", (unsigned)i,
                 (unsigned long long)cut_bytes, (long long)value);
}

static int get_all(void) {
    int all = 0;
    for (uint64_t i = 0; i <= last(); i++) {
        int64_t value = -1;
        const int rc = emmap_counters_get(counters, i, &value);
        if (rc == 0) see_value(i, value);
        if (rc) all = rc;
    }
    return all;
}

static int put_last(void) {
    return emmap_counters_put(counters, last(), counted(last()));
}

static int add_to_last(void) {
    return emmap_counters_fetch(counters, last(), EMMAP_ADD, 1, &old);
}

static int swap_last(void) {
    return emmap_counters_cas(counters, last(), 1, 2, &old);
}

/* A number that was given is not given again, unless the record itself is gone. */
static int64_t given;
static int allocate_of(uint64_t i) {
    int64_t first = -1;
    const int rc = emmap_counters_allocate(counters, i, 700, &first);
    if (rc) {
        assert_int_equal(first, -1);
        return rc;
    }
    const bool is_there = counters_off(counters, i) + COUNTERS_PLAIN <= cut_bytes;
    if (is_there) assert_true(first >= given);
    if (cut_bytes <= COUNTERS_LIVE_OFF) assert_true(first >= given);
    given = first + 700;
    return 0;
}

static int allocate_first(void) {
    return allocate_of(0);
}

static int allocate_last(void) {
    return allocate_of(last());
}

static int open_and_allocate(void) {
    given = 0;
    const int rc = open_counters();
    return rc ? rc : allocate_first();
}

static int open_for_numbers(void) {
    given = 0;
    return open_counters();
}

static int sync_counters(void) {
    return emmap_counters_sync(counters);
}

static int counters_info(void) {
    struct emmap_counters_info told;
    return emmap_counters_info(counters, &told);
}

static int drop_text(void *ctx, const char *text, size_t len_bytes) {
    (void)ctx, (void)text, (void)len_bytes;
    return 0;
}

static int counters_text(void) {
    return emmap_counters_text(counters, drop_text, NULL);
}

static int not_there(int rc) {
    return rc == -EDOM ? 0 : rc; /* cut off, or not looked for in time */
}

static int find_added(void) {
    uint64_t i;
    const char *name = names[NAMED].name;
    return not_there(emmap_counters_find(counters, name, strlen(name), &i));
}

static int name_of_added(void) {
    struct emmap_counter name;
    const int rc = emmap_counters_name(counters, NAMED, &name);
    if (rc == 0) assert_string_equal(name.name, names[NAMED].name);
    return not_there(rc);
}

/* A push that is refused has appended nothing, one that is not has. */
static int push_of(uint32_t len_bytes) {
    ledger_begin(&ledger, len_bytes);
    ledger_fill(buf, ledger.n - 1, len_bytes);
    const int rc = emmap_queue_push(q, buf, len_bytes, 0);
    ledger.fate[ledger.n - 1] = rc ? NEVER : THERE;
    return rc;
}

static int push(void) {
    return push_of(NEW_BYTES);
}

static int push_large(void) {
    return push_of(4 * NEW_BYTES);
}

/* One that nobody pushed may never come. */
static int take(void) {
    uint32_t len, flags;
    const int rc = emmap_queue_take(q, buf, ROOM, &len, &flags);
    if (rc) return rc;
    const int id = ledger_find(&ledger, buf, len);
    assert_true(id >= 0);
    assert_int_equal(ledger.fate[id], THERE);
    ledger.fate[id] = GONE;
    return 0;
}

static int sync_queue(void) {
    return emmap_queue_sync(q);
}

static int info(void) {
    struct emmap_queue_info told;
    return emmap_queue_info(q, &told);
}

static int close_queue(void) {
    emmap_queue_close(q);
    q = NULL;
    return open_queue_file();
}

static int close_view(void) {
    emmap_queue_view_close(view);
    view = NULL;
    return open_view();
}

static int view_info(void) {
    struct emmap_queue_view_info told;
    return emmap_queue_view_info(view, &told);
}

static int view_walk(void) {
    struct emmap_queue_walked walked;
    const struct emmap_queue_walk walk = {.check = true, .data_bytes = ROOM};
    return emmap_queue_view_walk(view, &walk, &walked);
}

static int publish(void) {
    figures_add(EMMAP_FIGURE_PUSHES, 1);
    return emmap_stats_publish(path);
}

static int unpublish(void) {
    figures_add(EMMAP_FIGURE_PUSHES, 1);
    return emmap_stats_unpublish();
}

static void make_figures(void) {
    own_faults();
    assert_ok(publish());
    assert_ok(unpublish());
}

struct call {
    const char *name; /* as in emmap.h */
    void (*make)(void);
    int (*open)(void); /* before the cut; NULL: that is the call */
    int (*run)(void);
};
static const struct call calls[] = {
    {"emmap_file_open", make_mapped, NULL, again_mapped},
    {"emmap_file_open", make_mapped, NULL, again_populated},
    {"emmap_file_read", make_mapped, open_mapped, read_all},
    {"emmap_file_read", make_mapped, open_private, read_all},
    {"emmap_file_write", make_mapped, open_mapped, write_all},
    {"emmap_file_write", make_mapped, open_mapped, write_end},
    {"emmap_file_write", make_mapped, open_private, write_end},
    {"emmap_file_resize", make_mapped, open_mapped, resize_up},
    {"emmap_file_resize", make_mapped, open_private, resize_up},
    {"emmap_file_resize", make_mapped, open_private, resize_a_little},
    {"emmap_file_pointer", make_mapped, open_mapped, point},
    {"emmap_file_fetch", make_mapped, open_mapped, fetch},
    {"emmap_file_cas", make_mapped, open_mapped, cas},
    {"emmap_file_load", make_mapped, open_mapped, load},
    {"emmap_file_store", make_mapped, open_mapped, store},
    {"emmap_simple_counters_open", make_simple, NULL, again_simple},
    {"emmap_simple_counters_count", make_simple, open_simple, count},
    {"emmap_counters_open", make_named, NULL, again_counters},
    {"emmap_counters_open", make_plain, NULL, again_counters},
    {"emmap_counters_open", make_named, NULL, extend_named},
    {"emmap_counters_open", make_plain, NULL, extend_plain},
    {"emmap_counters_get", make_named, open_counters, get_all},
    {"emmap_counters_get", make_plain, open_counters, get_all},
    {"emmap_counters_put", make_plain, open_counters, put_last},
    {"emmap_counters_fetch", make_plain, open_counters, add_to_last},
    {"emmap_counters_cas", make_named, open_counters, swap_last},
    {"emmap_counters_allocate", make_plain, open_and_allocate, allocate_first},
    {"emmap_counters_allocate", make_plain, open_for_numbers, allocate_last},
    {"emmap_counters_sync", make_named, open_counters, sync_counters},
    {"emmap_counters_info", make_named, open_counters, counters_info},
    {"emmap_counters_text", make_named, open_counters, counters_text},
    {"emmap_counters_find", make_named, open_and_extend, find_added},
    {"emmap_counters_name", make_named, open_and_extend, name_of_added},
    {"emmap_queue_open", make_queue, NULL, again_queue},
    {"emmap_queue_close", make_queue, open_queue_file, close_queue},
    {"emmap_queue_push", make_queue, open_queue_file, push},
    {"emmap_queue_push", make_queue, open_queue_file, push_large},
    {"emmap_queue_take", make_queue, open_queue_file, take},
    {"emmap_queue_sync", make_queue, open_queue_file, sync_queue},
    {"emmap_queue_info", make_queue, open_queue_file, info},
    {"emmap_queue_view_open", make_queue, NULL, again_view},
    {"emmap_queue_view_close", make_queue, open_view, close_view},
    {"emmap_queue_view_info", make_queue, open_view, view_info},
    {"emmap_queue_view_walk", make_queue, open_view, view_walk},
    {"emmap_stats_publish", make_figures, NULL, publish},
    {"emmap_stats_publish", make_figures, publish, publish},
    {"emmap_stats_unpublish", make_figures, publish, unpublish},
};
enum { CALLS = sizeof calls / sizeof *calls };

/* ------------------------------------------------------------------------- the table is complete */

static bool is_in_table(const char *name) {
    for (unsigned i = 0; i < CALLS; i++)
        if (strcmp(calls[i].name, name) == 0) return true;
    return false;
}

/* The name of a function that is declared in this line: what stands before its parenthesis. */
static bool declares(const char *line, char *name) {
    const char *end = strchr(line, '(');
    if (strncmp(line, "EMMAP_API ", 10) != 0 || !end) return false;
    const char *start = end;
    while (start[-1] == '_' || (start[-1] >= 'a' && start[-1] <= 'z'))
        start--;
    snprintf(name, 80, "%.*s", (int)(end - start), start);
    return true;
}

/* A contract goes for all that is declared between it and the next empty line. */
static void every_call_that_touches_a_page_is_tried(void **state) {
    char line[300], name[80];
    unsigned marked = 0, missing = 0, unmarked = 0;
    bool faults = false, comment = false;
    (void)state;
    FILE *header = fopen("include/emmap.h", "r");
    if (!header) header = fopen("c_src/include/emmap.h", "r");
    if (!header) fail_msg("emmap.h is not found: run this in c_src");
    while (fgets(line, sizeof line, header)) {
        if (line[0] == '\n') faults = false;
        if (strncmp(line, "/*", 2) == 0) comment = true;
        if (comment && strstr(line, "Faults ")) faults = true;
        if (strstr(line, "*/")) comment = false;
        if (comment || !declares(line, name)) continue;
        marked += faults;
        if (faults && !is_in_table(name)) missing++, print_error("not in the table: %s\n", name);
        if (!faults && is_in_table(name)) unmarked++, print_error("not marked: %s\n", name);
    }
    fclose(header);
    assert_int_equal(missing, 0);
    assert_int_equal(unmarked, 0);
    assert_in_range(marked, 15, 100);
}

/* --------------------------------------------------------------------------------- what is cut */

static unsigned cuts_at; /* the event in whose midst it is cut; 0: none */
static unsigned events;
static pthread_t cutter;

static void cut(void) {
    assert_ok(truncate(path, (off_t)cut_bytes));
}

/* Before each store. */
static void cut_at_event(void *ctx, const struct os_event *event) {
    (void)ctx, (void)event;
    if (cuts_at == 0 || !pthread_equal(pthread_self(), cutter)) return;
    if (++events == cuts_at) MUST(truncate(path, (off_t)cut_bytes) == 0);
}

static bool is_answer(int rc) {
    static const int answers[] = {
        0, EMMAP_E_TRUNCATED, EMMAP_E_PAST_END, -EIO, -ENOSPC,
        /* of what is opened or looked at, and is no more what it was */
        EMMAP_E_FOREIGN, EMMAP_E_CORRUPT, EMMAP_E_SIZE_MISMATCH, EMMAP_E_EMPTY,
        -EAGAIN, /* of a view: somebody has been at the file */
        -ENOMEM, /* of a view: what a recovery would make longer is longer than its memory */
    };
    for (unsigned i = 0; i < sizeof answers / sizeof *answers; i++)
        if (rc == answers[i]) return true;
    return false;
}

static void expect_answer(const struct call *call, const char *when, int rc) {
    if (is_answer(rc)) return;
    fail_msg("%s, cut to %llu at %u, %s: %s", call->name, (unsigned long long)cut_bytes, cuts_at,
             when, emmap_error_name(rc));
}

/* What a queue gives is what was pushed, in order, and once. */
static void only_what_was_pushed(void) {
    int rc;
    if (open_queue_file()) return; /* why not, the other tests of cuts see to */
    do
        rc = take();
    while (rc == 0);
    if (rc != EMMAP_E_EMPTY) assert_true(is_answer(rc));
}

/* A mapped file reads on: what is before the cut, and zeros or what was written since. */
static void file_goes_on(void) {
    uint64_t got = 0;
    assert_ok(emmap_file_write(file, FILE_BYTES - 1, "z", 1));
    assert_ok(emmap_file_read(file, FILE_BYTES - 1, buf, 1, &got));
    assert_int_equal(buf[0], 'z');
}

/* true: the event was reached. */
static bool try_cut(const struct call *call) {
    const unsigned descriptors = open_descriptors(), at = cuts_at;
    cuts_at = 0;
    make_path("f");
    call->make();
    await_no_regions();
    whole_bytes = file_bytes_of(path);
    if (call->open) assert_ok(call->open());
    const bool own = call->open == open_private;
    events = 0;
    cutter = pthread_self();
    cuts_at = at;
    if (at == 0) cut();
    expect_answer(call, "the call", call->run());
    cuts_at = 0;
    const bool reached = at == 0 || events >= at;
    expect_answer(call, "the call again", call->run());
    assert_ok(truncate(path, (off_t)whole_bytes));
    const int healed = call->run();
    expect_answer(call, "when it is as long again", healed);
    if (call->make == make_mapped && file && !own) file_goes_on();
    close_all();
    await_no_regions();
    if (call->make == make_queue) only_what_was_pushed();
    close_all();
    await_no_regions();
    await_descriptors(descriptors);
    fault_count(reached);
    return reached;
}

/* Cut, and as long as before again, with nobody looking meanwhile: there is no fault. The words of a
 * queue are zeros then: nothing that they say may be believed. */
static void try_emptied(const struct call *call) {
    make_path("f");
    call->make();
    await_no_regions();
    whole_bytes = file_bytes_of(path);
    if (call->open) assert_ok(call->open());
    cut();
    assert_ok(truncate(path, (off_t)whole_bytes));
    const int rc = call->run();
    expect_answer(call, "when its bytes are gone", rc);
    const bool looks =
        call->open == open_view || call->run == again_view; /* at whatever there is */
    const bool says_so = looks || (rc != 0 && rc != EMMAP_E_EMPTY);
    if (call->make == make_queue && cut_bytes <= QUEUE_LIVE_OFF && !says_so)
        fail_msg("%s says nothing of it", call->name);
    close_all();
    await_no_regions();
    if (call->make == make_queue) only_what_was_pushed();
    close_all();
    await_no_regions();
    fault_count(1);
}

static const uint64_t cuts[] = {0,
                                1,
                                100,
                                COUNTERS_LIVE_OFF + 4,
                                4096,
                                4096 + 16,
                                2 * 4096,
                                5 * 4096 + 100,
                                QUEUE_DATA_OFF,
                                QUEUE_DATA_OFF + 4096,
                                FILE_BYTES / 2,
                                QUEUE_DATA_OFF + QUEUE_LEAST_SEGMENT,
                                QUEUE_DATA_OFF + 2 * QUEUE_LEAST_SEGMENT};
enum { CUTS = sizeof cuts / sizeof *cuts };

static uint64_t length_of(const struct call *call) {
    make_path("f");
    call->make();
    await_no_regions();
    return file_bytes_of(path);
}

static void every_call_stands_a_cut_before_it(void **state) {
    (void)state;
    own_faults();
    for (unsigned i = 0; i < CALLS; i++) {
        const uint64_t length = length_of(&calls[i]);
        for (unsigned c = 0; c < CUTS + 2; c++) {
            cut_bytes = c < CUTS ? cuts[c] : c == CUTS ? length - 4096 : length - 1;
            if (cut_bytes < length) (void)try_cut(&calls[i]);
        }
    }
}

static void every_call_stands_bytes_that_are_gone(void **state) {
    (void)state;
    own_faults();
    for (unsigned i = 0; i < CALLS; i++) {
        const uint64_t length = length_of(&calls[i]);
        for (unsigned c = 0; c < CUTS; c++) {
            cut_bytes = cuts[c];
            if (cut_bytes < length) try_emptied(&calls[i]);
        }
    }
}

/* Of the stores of a call each one in turn; of many that are alike, some. */
static void every_call_stands_a_cut_in_its_midst(void **state) {
    (void)state;
    own_faults();
    os_record_to(cut_at_event, NULL);
    for (unsigned i = 0; i < CALLS; i++) {
        const uint64_t length = length_of(&calls[i]);
        bool reached = true;
        for (unsigned n = 1; reached && n < 400; n++)
            for (unsigned c = n % 3; c < CUTS; c += 3) {
                cut_bytes = cuts[c];
                if (cut_bytes >= length || !fault_is_wanted()) continue;
                cuts_at = n;
                reached = try_cut(&calls[i]);
            }
    }
    cuts_at = 0;
    await_no_regions();
    os_record_to(NULL, NULL);
}

/* ------------------------------------------------------------------------------- the disk is full */

enum { DISK_BYTES = 4 << 20 };

/* The pages that are all zeros take no room any more. */
static unsigned punch_zeros(void) {
    unsigned holes = 0;
    const int fd = open(path, O_RDWR);
    const uint64_t page = page_bytes(), length = file_bytes_of(path);
    assert_true(fd >= 0);
    for (uint64_t off = 0; off + page <= length; off += page) {
        assert_int_equal(pread(fd, buf, page, (off_t)off), page);
        if (!is_zero(buf, page)) continue;
        assert_ok(os_punch(fd, off, page));
        holes++;
    }
    close(fd);
    return holes;
}

static void make_sparse(void) {
    make_file(path, 4096);
    assert_ok(truncate(path, FILE_BYTES));
}

static void try_full(const struct call *call) {
    struct drained drained;
    const unsigned descriptors = open_descriptors();
    const bool mapped = call->make == make_mapped;
    strcpy(path, support_path("tmpfs/f"));
    (void)unlink(path);
    if (mapped)
        make_sparse();
    else
        call->make();
    await_no_regions();
    if (call->open) assert_ok(call->open());
    if (!mapped) (void)punch_zeros();
    fill_up();
    cut_bytes = cuts_at = 0;
    expect_answer(call, "on a full disk", call->run());
    expect_answer(call, "on a full disk, again", call->run());
    make_room();
    const int rc = call->run();
    if (rc) fail_msg("%s, when there is room: %s", call->name, emmap_error_name(rc));
    close_all();
    await_no_regions();
    if (call->make == make_queue) {
        assert_ok(open_queue_file());
        const char *wrong = drain(q, &ledger, &drained);
        if (!wrong) wrong = agrees(&ledger, &drained);
        if (wrong) fail_msg("%s on a full disk: %s", call->name, wrong);
        close_all();
    }
    await_no_regions();
    await_descriptors(descriptors);
    fault_count(1);
}

static void every_call_stands_a_full_disk(void **state) {
    (void)state;
    if (!FILES_ARE_KNOWN) skip(); /* where no blocks can be given back */
    (void)support_tmpfs(DISK_BYTES);
    own_faults();
    for (unsigned i = 0; i < CALLS; i++)
        try_full(&calls[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        FAULT_TEST(every_call_that_touches_a_page_is_tried),
        FAULT_TEST(every_call_stands_a_cut_before_it),
        FAULT_TEST(every_call_stands_bytes_that_are_gone),
        FAULT_TEST(every_call_stands_a_cut_in_its_midst),
        FAULT_TEST(every_call_stands_a_full_disk),
    };
    return fault_tell(cmocka_run_group_tests(tests, NULL, NULL));
}
