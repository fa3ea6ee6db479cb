/* test_counters.c -- counters with names and without: made, opened, extended, changed, allocated from; by
 * threads and OS processes, beside kills, reboots, damage. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "core/crc32c.h"
#include "os/os.h"
#include "store/counters.h"
#include "test/support.h"

enum { THREADS = 4, TIMES = SANITIZER ? 5000 : 50000, CREATE = EMMAP_COUNTERS_CREATE };

static const struct emmap_counter three[] = {
    {.name = "requests", .unit = "", .help = "What was asked for.", .type = EMMAP_COUNTER},
    {.name = "größe", .unit = "bytes"},
    {.name = "latency", .unit = "seconds", .help = "\\ and\nline", .type = EMMAP_GAUGE},
};

static int open_as(struct emmap_counters **out, const char *path, uint32_t flags, uint64_t count,
                   const struct emmap_counter *names) {
    const struct emmap_counters_options options = {
        .flags = flags, .count = count, .counters = names};
    own_faults();
    return emmap_counters_open(out, path, &options);
}

static struct emmap_counters *made(const char *path, uint32_t flags, uint64_t count,
                                   const struct emmap_counter *names) {
    struct emmap_counters *c;
    assert_ok(open_as(&c, path, flags | CREATE, count, names));
    return c;
}

static int64_t value(struct emmap_counters *c, uint64_t i) {
    int64_t got;
    assert_ok(emmap_counters_get(c, i, &got));
    return got;
}

static void add(struct emmap_counters *c, uint64_t i, int64_t by) {
    int64_t old;
    MUST(emmap_counters_fetch(c, i, EMMAP_ADD, by, &old) == 0);
}

static int64_t number(struct emmap_counters *c, uint64_t n) {
    int64_t first;
    MUST(emmap_counters_allocate(c, 0, n, &first) == 0);
    return first;
}

static uint64_t count_of(struct emmap_counters *c) {
    struct emmap_counters_info info;
    assert_ok(emmap_counters_info(c, &info));
    return info.count;
}

static void end(struct emmap_counters *c) {
    emmap_counters_free(c);
    await_no_regions();
}

/* -------------------------------------------------------------------------------------- values */

static void each_kind_keeps_its_values(void **state) {
    static const uint32_t kinds[] = {0, EMMAP_COUNTERS_UNSIGNED, EMMAP_COUNTERS_PADDED,
                                     EMMAP_COUNTERS_STRIPED,
                                     EMMAP_COUNTERS_STRIPED | EMMAP_COUNTERS_UNSIGNED};
    (void)state;
    for (unsigned k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (int named = 0; named < 2; named++) {
            const char *path = support_path("c");
            const struct emmap_counter *names = named ? three : NULL;
            struct emmap_counters *c = made(path, kinds[k], 3, names);
            for (uint64_t i = 0; i < 3; i++) {
                assert_int_equal(value(c, i), 0);
                assert_ok(emmap_counters_put(c, i, 100 * (int64_t)i));
                add(c, i, 7);
            }
            emmap_counters_free(c);
            assert_ok(open_as(&c, path, kinds[k], 3, names));
            for (uint64_t i = 0; i < 3; i++)
                assert_int_equal(value(c, i), 100 * (int64_t)i + 7);
            end(c);
            assert_ok(unlink(path));
        }
}

static void the_larger_and_the_smaller_stay(void **state) {
    (void)state;
    int64_t old;
    struct emmap_counters *s = made(support_path("s"), 0, 2, NULL);
    struct emmap_counters *u = made(support_path("u"), EMMAP_COUNTERS_UNSIGNED, 2, NULL);
    assert_ok(emmap_counters_fetch(s, 0, EMMAP_MAX, -1, &old));
    assert_int_equal(value(s, 0), 0);
    assert_ok(emmap_counters_fetch(u, 0, EMMAP_MAX, -1, &old)); /* 2^64 - 1 */
    assert_int_equal(value(u, 0), -1);
    assert_ok(emmap_counters_fetch(s, 0, EMMAP_MIN, -1, &old));
    assert_int_equal(old, 0);
    assert_int_equal(value(s, 0), -1);
    assert_ok(emmap_counters_fetch(u, 0, EMMAP_MIN, 5, &old));
    assert_int_equal(old, -1);
    assert_int_equal(value(u, 0), 5);
    assert_ok(emmap_counters_fetch(u, 0, EMMAP_MIN, -1, &old));
    assert_int_equal(value(u, 0), 5);
    assert_ok(emmap_counters_fetch(s, 0, EMMAP_MAX, 9, &old));
    assert_int_equal(value(s, 0), 9);
    emmap_counters_free(u);
    end(s);
}

static void what_is_not_there_cannot_be_counted(void **state) {
    (void)state;
    int64_t old;
    uint64_t i;
    struct emmap_counter name;
    struct emmap_counters *c = made(support_path("c"), 0, 3, three);
    assert_int_equal(emmap_counters_get(c, 3, &old), -EDOM);
    assert_int_equal(emmap_counters_put(c, UINT64_MAX, 1), -EDOM);
    assert_int_equal(emmap_counters_allocate(c, 3, 1, &old), -EDOM);
    assert_int_equal(emmap_counters_allocate(c, 0, 0, &old), -EINVAL);
    old = 77;
    assert_int_equal(emmap_counters_fetch(c, 0, (enum emmap_fetch)(EMMAP_UMIN + 1), 1, &old),
                     -EINVAL);
    assert_int_equal(emmap_file_fetch(c->file, 0, (enum emmap_fetch)99, 1, &old), -EINVAL);
    assert_int_equal(old, 77);
    assert_int_equal(emmap_counters_find(c, "request", 7, &i), -EDOM);
    assert_int_equal(emmap_counters_name(c, 3, &name), -EDOM);
    assert_ok(emmap_counters_close(c));
    assert_int_equal(emmap_counters_get(c, 0, &old), EMMAP_E_CLOSED);
    assert_int_equal(emmap_counters_allocate(c, 0, 1, &old), EMMAP_E_CLOSED);
    end(c);
    c = made(support_path("s"), EMMAP_COUNTERS_STRIPED, 1, NULL);
    assert_int_equal(emmap_counters_allocate(c, 0, 1, &old), EMMAP_E_NOTSUP);
    assert_int_equal(emmap_counters_cas(c, 0, 0, 1, &old), EMMAP_E_NOTSUP);
    assert_int_equal(emmap_counters_fetch(c, 0, EMMAP_EXCHANGE, 1, &old), EMMAP_E_NOTSUP);
    assert_int_equal(value(c, 0), 0);
    end(c);
}

static void only_to_be_looked_at(void **state) {
    (void)state;
    int64_t old;
    const char *path = support_path("c");
    struct emmap_counters *c;
    assert_int_equal(open_as(&c, path, EMMAP_COUNTERS_READ, 0, NULL), -ENOENT);
    assert_int_equal(open_as(&c, path, EMMAP_COUNTERS_READ | CREATE, 1, NULL), -EINVAL);
    end(made(path, 0, 3, three));
    struct snapshot before = snapshot_of(path);
    assert_ok(open_as(&c, path, EMMAP_COUNTERS_READ, 0, NULL));
    assert_int_equal(value(c, 2), 0);
    assert_int_equal(emmap_counters_put(c, 0, 1), -EACCES);
    assert_int_equal(emmap_counters_fetch(c, 0, EMMAP_ADD, 1, &old), -EACCES);
    assert_int_equal(emmap_counters_allocate(c, 0, 1, &old), -EACCES);
    end(c);
    assert_as_before(&before);
}

/* --------------------------------------------------------------------------------------- names */

static void names_are_found_and_told(void **state) {
    (void)state;
    uint64_t i;
    const char *path = support_path("c");
    end(made(path, 0, 3, three));
    struct emmap_counters *c;
    assert_ok(open_as(&c, path, 0, 0, NULL));
    for (uint64_t n = 0; n < 3; n++) {
        struct emmap_counter told;
        assert_ok(emmap_counters_name(c, n, &told));
        assert_string_equal(told.name, three[n].name);
        assert_string_equal(told.unit, three[n].unit ? three[n].unit : "");
        assert_string_equal(told.help, three[n].help ? three[n].help : "");
        assert_int_equal(told.type, three[n].type);
        assert_ok(emmap_counters_find(c, three[n].name, strlen(three[n].name), &i));
        assert_int_equal(i, n);
    }
    end(c);
}

static void impossible_names_make_no_file(void **state) {
    static char longest[300];
    (void)state;
    memset(longest, 'n', sizeof longest - 1);
    const struct emmap_counter wrong[][2] = {
        {{.name = "a"}, {.name = "a"}},
        {{.name = "a"}, {.name = ""}},
        {{.name = "a"}, {.name = NULL}},
        {{.name = "a"}, {.name = longest}},
        {{.name = "a"}, {.name = "\xFF"}},
        {{.name = "a"}, {.name = "\xC0\x80"}},
        {{.name = "a"}, {.name = "\xED\xA0\x80"}},
        {{.name = "a"}, {.name = "b", .unit = longest}},
        {{.name = "a"}, {.name = "b", .help = "\x80"}},
        {{.name = "a"}, {.name = "b", .type = 2}},
    };
    const char *path = support_path("c");
    struct emmap_counters *c;
    for (unsigned n = 0; n < sizeof wrong / sizeof *wrong; n++) {
        assert_int_equal(open_as(&c, path, CREATE, 2, wrong[n]), -EINVAL);
        assert_false(file_exists(path));
    }
    assert_int_equal(open_as(&c, path, CREATE, UINT64_MAX / 32, NULL), -EFBIG);
    assert_int_equal(open_as(&c, path, 1u << 30 | CREATE, 2, NULL), -EINVAL);
    longest[255] = 0;
    const struct emmap_counter just[] = {{.name = longest}};
    end(made(path, 0, 1, just));
}

/* ---------------------------------------------------------------------------- other files, formats */

static void what_differs_is_refused_and_stays(void **state) {
    (void)state;
    const char *path = support_path("c");
    struct emmap_counters *c;
    end(made(path, EMMAP_COUNTERS_PADDED, 3, three));
    struct snapshot before = snapshot_of(path);
    const struct emmap_counter other[] = {three[0], three[1], {.name = "other"}};
    const uint32_t padded = EMMAP_COUNTERS_PADDED;
    assert_int_equal(open_as(&c, path, padded, 2, three), EMMAP_E_DIFFERS);
    assert_int_equal(open_as(&c, path, padded, 3, other), EMMAP_E_DIFFERS);
    assert_int_equal(open_as(&c, path, padded, 3, NULL), EMMAP_E_DIFFERS);
    assert_int_equal(open_as(&c, path, 0, 3, three), EMMAP_E_DIFFERS);
    assert_int_equal(open_as(&c, path, padded | EMMAP_COUNTERS_UNSIGNED, 3, three),
                     EMMAP_E_DIFFERS);
    assert_int_equal(open_as(&c, path, padded | EMMAP_COUNTERS_STRIPED, 3, three), EMMAP_E_DIFFERS);
    assert_as_before(&before);
    assert_ok(open_as(&c, path, padded, 3, three));
    end(c);
}

static void foreign_files_are_refused_and_stay(void **state) {
    (void)state;
    struct emmap_counters *c;
    const char *path = support_path("f");
    for (uint64_t bytes = 1; bytes < 9000; bytes += bytes < 100 ? 1 : 997) {
        make_file(path, bytes);
        struct snapshot before = snapshot_of(path);
        assert_int_equal(open_as(&c, path, CREATE, 3, three), EMMAP_E_FOREIGN);
        assert_int_equal(open_as(&c, path, CREATE, 0, NULL), EMMAP_E_FOREIGN);
        assert_as_before(&before);
    }
    await_no_regions();
}

static void simple_counters_are_opened_as_they_are(void **state) {
    (void)state;
    const char *path = support_path("s");
    struct emmap_file *simple;
    struct emmap_counters *c;
    struct emmap_counter name;
    uint64_t n;
    int64_t old;
    own_faults();
    assert_ok(emmap_simple_counters_open(&simple, path, 3, &n));
    assert_ok(emmap_file_store(simple, emmap_simple_counters_off(2), 41));
    emmap_file_free(simple);
    assert_ok(open_as(&c, path, CREATE, 3, NULL));
    assert_int_equal(count_of(c), 3);
    assert_int_equal(value(c, 2), 41);
    add(c, 2, 1);
    assert_int_equal(emmap_counters_get(c, 3, &old), -EDOM);
    assert_int_equal(emmap_counters_allocate(c, 0, 1, &old), EMMAP_E_NOTSUP);
    assert_int_equal(emmap_counters_name(c, 0, &name), -EDOM);
    assert_int_equal(emmap_counters_find(c, "a", 1, &n), -EDOM);
    assert_ok(emmap_counters_sync(c));
    end(c);
    assert_int_equal(open_as(&c, path, CREATE, 4, NULL), EMMAP_E_NOTSUP);
    assert_int_equal(open_as(&c, path, CREATE, 2, NULL), EMMAP_E_DIFFERS);
    assert_int_equal(open_as(&c, path, CREATE, 3, three), EMMAP_E_DIFFERS);
    assert_int_equal(open_as(&c, path, EMMAP_COUNTERS_UNSIGNED, 3, NULL), EMMAP_E_DIFFERS);
    assert_ok(emmap_simple_counters_open(&simple, path, 3, &n));
    assert_ok(emmap_file_load(simple, emmap_simple_counters_off(2), &old));
    assert_int_equal(old, 42);
    emmap_file_free(simple);
    await_no_regions();
}

static void poke(const char *path, uint64_t off, const void *bytes, size_t len) {
    const int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, len, (off_t)off), len);
    close(fd);
}

/* Each byte of the header, of a name, and of the count. */
static void each_damaged_byte_is_found(void **state) {
    (void)state;
    const char *path = support_path("c");
    struct emmap_counters *c;
    end(made(path, 0, 3, three));
    for (uint64_t off = 0; off < 4096 + 1024; off++) {
        if (off == 76) off = COUNTERS_LIVE_OFF; /* zeros */
        if (off == COUNTERS_LIVE_OFF + 8) off = 4096 + 64;
        const uint8_t was = file_byte(path, off), is = was ^ 0x40;
        poke(path, off, &is, 1);
        const int rc = open_as(&c, path, 0, 0, NULL);
        if (rc != (off < 8                                              ? EMMAP_E_FOREIGN
                   : off == COUNTERS_LIVE_OFF || off > 4096 || off < 76 ? EMMAP_E_CORRUPT
                                                                        : EMMAP_E_TRUNCATED) &&
            !(off == COUNTERS_LIVE_OFF && rc == EMMAP_E_TRUNCATED))
            fail_msg("byte %llu: %s", (unsigned long long)off, emmap_error_name(rc));
        poke(path, off, &was, 1);
    }
    assert_ok(open_as(&c, path, 0, 3, three));
    end(c);
}

/* Shorter than its header, than its records say; and with a count that leaves no room, or is none. */
static void a_file_that_is_cut_is_told(void **state) {
    static const uint64_t cuts[] = {40, 79, 80, 4095, 4096, 5000, 4096 + 2 * 1024 + 1023};
    (void)state;
    const char *path = support_path("c");
    struct emmap_counters *c;
    for (unsigned n = 0; n < sizeof cuts / sizeof *cuts; n++) {
        (void)unlink(path);
        end(made(path, 0, 3, three));
        assert_ok(truncate(path, (off_t)cuts[n]));
        struct snapshot before = snapshot_of(path);
        assert_int_equal(open_as(&c, path, CREATE, 3, three), EMMAP_E_TRUNCATED);
        assert_as_before(&before);
    }
    const uint64_t none = 0, most = UINT64_MAX;
    (void)unlink(path);
    end(made(path, 0, 3, three));
    poke(path, COUNTERS_LIVE_OFF, &none, 8);
    assert_int_equal(open_as(&c, path, 0, 0, NULL), EMMAP_E_CORRUPT);
    poke(path, COUNTERS_LIVE_OFF, &most, 8);
    assert_int_equal(open_as(&c, path, 0, 0, NULL), EMMAP_E_TRUNCATED);
    await_no_regions();
}

/* A simple one answers alike, in use and to the next opener. */
static void a_simple_file_that_is_cut_is_told(void **state) {
    (void)state;
    const char *path = support_path("s");
    struct emmap_file *simple;
    struct emmap_counters_info info;
    struct emmap_counters *c;
    uint64_t n;
    int64_t got;
    own_faults();
    assert_ok(emmap_simple_counters_open(&simple, path, 1000, &n));
    emmap_file_free(simple);
    assert_ok(open_as(&c, path, 0, 0, NULL));
    assert_ok(truncate(path, 4096));
    assert_int_equal(emmap_counters_get(c, 900, &got), EMMAP_E_TRUNCATED);
    assert_int_equal(emmap_counters_info(c, &info), EMMAP_E_TRUNCATED);
    end(c);
    assert_int_equal(open_as(&c, path, 0, 0, NULL), EMMAP_E_TRUNCATED);
    assert_ok(truncate(path, 16 + 8 * 1000 + 1));
    assert_int_equal(open_as(&c, path, 0, 0, NULL), EMMAP_E_CORRUPT);
    await_no_regions();
}

/* Those that are left are told of as what they are: not all. */
static void a_file_that_is_cut_in_use_is_told(void **state) {
    (void)state;
    const char *path = support_path("c");
    struct emmap_counters_info info;
    struct emmap_counters *c = made(path, 0, 1000, NULL);
    int64_t got;
    assert_ok(truncate(path, 4096 + 100));
    assert_int_equal(emmap_counters_info(c, &info), EMMAP_E_TRUNCATED);
    assert_int_equal(emmap_counters_get(c, 1000, &got), EMMAP_E_TRUNCATED);
    assert_int_equal(value(c, 1), 0);
    end(c);
}

static int no_text(void *ctx, const char *text, size_t len_bytes) {
    (void)ctx;
    (void)text;
    (void)len_bytes;
    return 0;
}

static int look(struct emmap_counters *c) {
    struct emmap_counters_info info;
    return emmap_counters_info(c, &info);
}

static int text_of(struct emmap_counters *c) {
    return emmap_counters_text(c, no_text, NULL);
}

static int find_new(struct emmap_counters *c) {
    uint64_t i;
    return emmap_counters_find(c, "new", 3, &i);
}

static int get_last(struct emmap_counters *c) {
    int64_t got;
    return emmap_counters_get(c, 2, &got);
}

static int allocate_last(struct emmap_counters *c) {
    int64_t first;
    return emmap_counters_allocate(c, 2, 1, &first);
}

/* Wherever it is cut, and whichever call is the first to look; and the next. */
static void each_call_tells_a_cut(void **state) {
    (void)state;
    static const uint64_t cuts[] = {0, 100, COUNTERS_LIVE_OFF + 4, 600, 4096, 4096 + 100};
    static int (*const calls[])(struct emmap_counters *) = {
        look, text_of, find_new, get_last, allocate_last, emmap_counters_sync};
    const char *path = support_path("c");
    for (unsigned cut = 0; cut < sizeof cuts / sizeof *cuts; cut++)
        for (unsigned call = 0; call < sizeof calls / sizeof *calls; call++) {
            struct emmap_counters *c = made(path, 0, 3, three);
            const bool asks = calls[call] != find_new && calls[call] != get_last;
            assert_ok(truncate(path, (off_t)cuts[cut]));
            if (!asks && cuts[cut] > 0) assert_int_equal(look(c), EMMAP_E_TRUNCATED);
            for (int n = 0; n < 2; n++)
                assert_int_equal(calls[call](c), EMMAP_E_TRUNCATED);
            end(c);
            assert_ok(unlink(path));
        }
}

/* What a later version may add: a version, features that must be known, sound otherwise. */
static void later_formats_are_refused(void **state) {
    (void)state;
    const char *path = support_path("c");
    struct emmap_counters *c;
    for (unsigned what = 0; what < 6; what++) {
        struct emmap_disk_counters header;
        (void)unlink(path);
        end(made(path, 0, 3, NULL));
        const int fd = open(path, O_RDWR);
        assert_int_equal(pread(fd, &header, sizeof header, 0), sizeof header);
        close(fd);
        if (what == 0) header.version = 2;
        if (what == 1) header.kind = 9;
        if (what == 2) header.incompat = 1;
        if (what == 3) header.ro_compat = 1;
        if (what == 4) header.flags = 1u << 4;
        if (what == 5) header.stride = 64;
        header.crc = crc32c(0, &header, offsetof(struct emmap_disk_counters, crc));
        poke(path, 0, &header, sizeof header);
        assert_int_equal(open_as(&c, path, 0, 0, NULL),
                         what < 4 ? EMMAP_E_NOTSUP : EMMAP_E_CORRUPT);
    }
    await_no_regions();
}

/* ------------------------------------------------------------------------------------ extending */

static void more_are_added_while_others_use_it(void **state) {
    (void)state;
    if (!FILES_ARE_KNOWN) skip();
    const char *path = support_path("c");
    uint64_t i;
    const struct emmap_counter five[] = {
        {.name = "new", .help = "first here"}, three[2], three[1], three[0], {.name = "newer"}};
    struct emmap_counters *old = made(path, 0, 3, three), *c;
    assert_ok(emmap_counters_put(old, 1, 11));
    assert_ok(open_as(&c, path, 0, 5, five));
    assert_int_equal(count_of(c), 5);
    assert_int_equal(value(c, 1), 11);
    assert_ok(emmap_counters_find(c, "new", 3, &i));
    assert_int_equal(i, 3);
    assert_ok(emmap_counters_find(old, "newer", 5, &i));
    assert_int_equal(i, 4);
    add(c, 4, 5);
    assert_int_equal(value(old, 4), 5);
    struct emmap_counter told;
    assert_ok(emmap_counters_name(old, 3, &told));
    assert_string_equal(told.help, "first here");
    emmap_counters_free(c);
    assert_int_equal(open_as(&c, path, 0, 3, three), EMMAP_E_DIFFERS);
    assert_int_equal(open_as(&c, path, EMMAP_COUNTERS_READ, 3, three), EMMAP_E_DIFFERS);
    end(old);
    c = made(support_path("n"), 0, 2, NULL);
    struct emmap_counters *more = made(support_path("n"), 0, 100000, NULL);
    add(more, 99999, 3);
    assert_int_equal(value(c, 99999), 3);
    emmap_counters_free(more);
    end(c);
}

static bool finds(struct emmap_counters *c, const char *name, uint64_t at) {
    uint64_t i;
    return emmap_counters_find(c, name, strlen(name), &i) == 0 && i == at;
}

/* Names that others have added are read in place, and none of them is known before all are good. */
static void added_names_that_are_bad_are_not_known(void **state) {
    (void)state;
    if (!FILES_ARE_KNOWN) skip();
    static const struct emmap_counter names[] = {{.name = "a"}, {.name = "b"}, {.name = "c"},
                                                 {.name = "d"}, {.name = "e"}, {.name = "f"}};
    /* What the last two are called, and whether that can be. */
    static const struct {
        unsigned fifth, sixth;
        bool good;
    } tries[] = {{4, 0, false}, {3, 5, false}, {4, 4, false}, {4, 5, true}};
    const char *path = support_path("c");
    uint64_t i;
    struct emmap_counters *c = made(path, 0, 3, names), *more = made(path, 0, 4, names);
    assert_true(finds(c, "d", 3)); /* there is room for two more */
    emmap_counters_free(more);
    more = made(path, 0, 6, names);
    for (unsigned k = 0; k < 4; k++) {
        struct emmap_disk_counter_name name;
        counters_make_name(&name, 4, &names[tries[k].fifth]);
        poke(path, COUNTERS_DATA_OFF + 4 * COUNTERS_NAMED + COUNTERS_LINE, &name, sizeof name);
        counters_make_name(&name, 5, &names[tries[k].sixth]);
        poke(path, COUNTERS_DATA_OFF + 5 * COUNTERS_NAMED + COUNTERS_LINE, &name, sizeof name);
        for (int again = 0; again < 2; again++) {
            assert_int_equal(emmap_counters_find(c, "e", 1, &i),
                             tries[k].good ? 0 : EMMAP_E_CORRUPT);
            assert_true(finds(c, "a", 0) && finds(c, "c", 2) && finds(c, "d", 3));
        }
    }
    assert_true(finds(c, "e", 4) && finds(c, "f", 5));
    assert_int_equal(emmap_counters_find(c, "g", 1, &i), -EDOM);
    emmap_counters_free(more);
    end(c);
}

#ifdef __GLIBC__
enum { MANY_NAMES = 400 };
static void names_added_one_by_one_take_room_in_proportion(void **state) {
    (void)state;
    if (!FILES_ARE_KNOWN || SANITIZER) skip();
    const char *path = support_path("c");
    static struct emmap_counter names[MANY_NAMES];
    static char texts[MANY_NAMES][8];
    for (unsigned i = 0; i < MANY_NAMES; i++) {
        snprintf(texts[i], sizeof texts[i], "n%u", i);
        names[i].name = texts[i];
    }
    struct emmap_counters *c = made(path, 0, 1, names);
    const struct mallinfo2 before = mallinfo2();
    for (unsigned n = 2; n <= MANY_NAMES; n++) {
        emmap_counters_free(made(path, 0, n, names));
        assert_true(finds(c, texts[n - 1], n - 1));
    }
    await_regions(1);
    const struct mallinfo2 after = mallinfo2();
    assert_true(after.uordblks + after.hblkhd <
                before.uordblks + before.hblkhd +
                    4 * MANY_NAMES * sizeof(struct emmap_disk_counter_name));
    end(c);
}
#endif

/* What an extension that was cut off has left behind the end is not taken for a value. */
static void leftovers_of_an_extension_do_not_count(void **state) {
    (void)state;
    if (!FILES_ARE_KNOWN) skip();
    const char *path = support_path("c");
    static uint8_t junk[64];
    memset(junk, 0xAB, sizeof junk);
    end(made(path, 0, 2, NULL));
    poke(path, 4096 + 2 * COUNTERS_PLAIN, junk, sizeof junk);
    struct emmap_counters *c = made(path, 0, 2, NULL);
    int64_t old;
    assert_int_equal(emmap_counters_get(c, 2, &old), -EDOM);
    emmap_counters_free(c);
    c = made(path, 0, 4, NULL);
    for (uint64_t i = 0; i < 4; i++)
        assert_int_equal(value(c, i), 0);
    assert_int_equal(number(c, 1), 0);
    assert_ok(emmap_counters_allocate(c, 3, 1, &old));
    assert_int_equal(old, 0);
    end(c);
}

static const char *_Atomic extended_by_others;

/* Just before the lock is asked for. */
static void others_extend(void *ctx, enum os_call call) {
    const char *path = extended_by_others;
    (void)ctx;
    if (call != OS_CALL_LOCK_BYTE || !path) return;
    extended_by_others = NULL;
    struct emmap_counters *c = made(path, 0, 4, NULL);
    assert_ok(emmap_counters_put(c, 3, 44));
    emmap_counters_free(c);
}

static void who_waited_for_the_lock_looks_again(void **state) {
    (void)state;
    if (!FILES_ARE_KNOWN) skip();
    const char *path = support_path("c");
    struct emmap_counters *c = made(path, 0, 2, NULL);
    for (uint64_t wanted = 3; wanted < 8;
         wanted += 3) { /* fewer than there are by then, and more */
        struct emmap_counters *late;
        (void)unlink(path);
        emmap_counters_free(c);
        c = made(path, 0, 2, NULL);
        extended_by_others = path;
        await_regions(1); /* the background is at rest while it is watched or not */
        os_watch_calls(others_extend, NULL);
        const int rc = open_as(&late, path, 0, wanted, NULL);
        await_regions(rc == 0 ? 2 : 1);
        os_watch_calls(NULL, NULL);
        assert_null(extended_by_others);
        assert_int_equal(rc, wanted < 4 ? EMMAP_E_DIFFERS : 0);
        if (rc == 0) emmap_counters_free(late);
        assert_int_equal(count_of(c), wanted < 4 ? 4 : wanted);
        assert_int_equal(value(c, 3), 44);
    }
    end(c);
}

static void *extends(void *arg) {
    const char *path = arg;
    for (uint64_t n = 2; n < 40; n++) {
        struct emmap_counters *c;
        const struct emmap_counters_options options = {.flags = CREATE, .count = n};
        const int rc = emmap_counters_open(&c, path, &options);
        if (rc == EMMAP_E_DIFFERS) continue;
        MUST(rc == 0);
        add(c, n - 1, 1);
        emmap_counters_free(c);
    }
    return NULL;
}

static void threads_extend_it_at_once(void **state) {
    (void)state;
    if (!FILES_ARE_KNOWN) skip();
    char *path = (char *)(uintptr_t)support_path("c");
    pthread_t threads[3];
    struct emmap_counters *c = made(path, 0, 1, NULL);
    for (int t = 0; t < 3; t++)
        assert_ok(pthread_create(&threads[t], NULL, extends, path));
    for (int t = 0; t < 3; t++)
        assert_ok(pthread_join(threads[t], NULL));
    assert_int_equal(count_of(c), 39);
    for (uint64_t i = 1; i < 39; i++)
        assert_in_range(value(c, i), i == 38, 3);
    end(c);
}

/* Until the one that is extending it ends. */
static void who_extends_excludes_others(void **state) {
    (void)state;
    if (!FILES_ARE_KNOWN) skip();
    const char *path = support_path("c");
    end(made(path, 0, 2, NULL));
    const int fd = open(path, O_RDWR);
    struct emmap_counters *c;
    assert_ok(os_lock_byte(fd, COUNTERS_LOCK_BYTE, OS_LOCK_WRITE));
    os_hurry(true);
    assert_int_equal(open_as(&c, path, 0, 3, NULL), EMMAP_E_BUSY);
    os_hurry(false);
    assert_ok(open_as(&c, path, 0, 2, NULL));
    emmap_counters_free(c);
    close(fd);
    assert_ok(open_as(&c, path, 0, 3, NULL));
    end(c);
}

/* ------------------------------------------------------------------------------------ allocating */

static void numbers_rise_from_the_value(void **state) {
    (void)state;
    struct emmap_counters *c = made(support_path("c"), 0, 1, NULL);
    assert_int_equal(number(c, 1), 0);
    assert_int_equal(number(c, 10), 1);
    assert_int_equal(number(c, 1000000), 11);
    assert_int_equal(number(c, 1), 1000011);
    assert_ok(emmap_counters_put(c, 0, -5));
    assert_int_equal(number(c, 3), -5);
    assert_int_equal(value(c, 0), -2);
    end(c);
}

static void the_last_numbers_are_given_and_no_more(void **state) {
    (void)state;
    int64_t first;
    struct emmap_counters *c = made(support_path("s"), 0, 1, NULL);
    assert_ok(emmap_counters_put(c, 0, INT64_MAX - 2));
    assert_int_equal(emmap_counters_allocate(c, 0, 3, &first), -EOVERFLOW);
    assert_int_equal(number(c, 1), INT64_MAX - 2);
    assert_int_equal(number(c, 1), INT64_MAX - 1);
    assert_int_equal(emmap_counters_allocate(c, 0, 1, &first), -EOVERFLOW);
    end(c);
    c = made(support_path("u"), EMMAP_COUNTERS_UNSIGNED, 1, NULL);
    assert_ok(emmap_counters_put(c, 0, -2));
    assert_int_equal(number(c, 1), -2);
    assert_int_equal(emmap_counters_allocate(c, 0, UINT64_MAX, &first), -EOVERFLOW);
    end(c);
}

static void another_boot_skips_what_was_reserved(void **state) {
    (void)state;
    if (!FILES_ARE_KNOWN) skip();
    static const uint8_t boots[][16] = {{1}, {2}};
    const char *path = support_path("c");
    os_pretend_boot(boots[0]);
    struct emmap_counters *c = made(path, 0, 2, NULL);
    assert_ok(emmap_counters_put(c, 1, -7));
    const int64_t last = number(c, 5) + 4;
    emmap_counters_free(c);
    c = made(path, 0, 2, NULL);
    assert_int_equal(number(c, 1), last + 1); /* the same boot: nothing is skipped */
    emmap_counters_free(c);
    os_pretend_boot(boots[1]);
    c = made(path, 0, 2, NULL);
    assert_in_range(number(c, 1), last + 1000, last + 10000);
    const int64_t next = number(c, 1);
    assert_int_equal(value(c, 1), -7); /* was never allocated from */
    emmap_counters_free(c);
    c = made(path, 0, 2, NULL);
    assert_int_equal(number(c, 1), next + 1);
    assert_ok(emmap_counters_put(c, 0, 1000000000)); /* by hand, above what was reserved */
    emmap_counters_free(c);
    os_pretend_boot(boots[0]);
    c = made(path, 0, 2, NULL);
    assert_int_equal(number(c, 1), 1000000000);
    end(c);
    os_pretend_boot(NULL);
}

/* In the same boot: what it had in memory beside the original may never have reached the copy. */
static void a_copy_skips_what_was_reserved(void **state) {
    (void)state;
    if (!FILES_ARE_KNOWN) skip();
    const char *path = support_path("c"), *copy = support_path("copy");
    struct emmap_counters *c = made(path, 0, 1, NULL);
    const int64_t last = number(c, 5) + 4;
    emmap_counters_free(c);
    const struct snapshot bytes = snapshot_of(path);
    make_file(copy, bytes.len_bytes);
    poke(copy, 0, bytes.bytes, bytes.len_bytes);
    free(bytes.bytes);
    c = made(copy, 0, 1, NULL);
    assert_in_range(number(c, 1), last + 1000, last + 10000);
    emmap_counters_free(c);
    c = made(path, 0, 1, NULL);
    assert_int_equal(number(c, 1), last + 1);
    end(c);
}

/* Who only looks, and who asks for what it is not. */
static void another_boot_changes_nothing_for_who_may_not(void **state) {
    (void)state;
    if (!FILES_ARE_KNOWN) skip();
    static const uint8_t boots[][16] = {{1}, {2}};
    const char *path = support_path("c");
    os_pretend_boot(boots[0]);
    struct emmap_counters *c = made(path, 0, 2, NULL);
    (void)number(c, 5);
    emmap_counters_free(c);
    os_pretend_boot(boots[1]);
    struct snapshot before = snapshot_of(path);
    assert_ok(open_as(&c, path, EMMAP_COUNTERS_READ, 0, NULL));
    assert_int_equal(value(c, 0), 5);
    emmap_counters_free(c);
    assert_int_equal(open_as(&c, path, 0, 1, NULL), EMMAP_E_DIFFERS);
    assert_int_equal(open_as(&c, path, EMMAP_COUNTERS_PADDED, 2, NULL), EMMAP_E_DIFFERS);
    assert_as_before(&before);
    os_pretend_boot(NULL);
    await_no_regions();
}

/* Nothing is given, and all that is written is written anew by the next opener. */
static void a_failed_sync_gives_no_number(void **state) {
    (void)state;
    const char *path = support_path("c");
    int64_t first = 77;
    struct emmap_counters *c = made(path, 0, 1, NULL);
    assert_int_equal(number(c, 1), 0);
    os_fail_at(OS_CALL_SYNC_RANGE, 1, EIO, 1);
    assert_int_equal(emmap_counters_allocate(c, 0, 5000, &first), EMMAP_E_SYNC_FAILED);
    os_fail_never();
    assert_int_equal(first, 77);
    assert_int_equal(emmap_counters_allocate(c, 0, 50000, &first), EMMAP_E_SYNC_FAILED);
    /* Those that were on the disk before are not given either: the kernel may take back the value. */
    assert_int_equal(emmap_counters_allocate(c, 0, 1, &first), EMMAP_E_SYNC_FAILED);
    emmap_counters_free(c);
    await_no_regions();
    os_fail_at(OS_CALL_SYNC, 1, EIO, 0);
    assert_int_equal(open_as(&c, path, 0, 1, NULL), EMMAP_E_SYNC_FAILED);
    os_fail_never();
    await_no_regions();
    assert_ok(open_as(&c, path, 0, 1, NULL));
    assert_true(number(c, 50000) >= 1);
    end(c);
}

/* After a failed sync the kernel drops the page, and reads what the disk has: a value of before. */
static void what_the_kernel_drops_is_not_given_again(void **state) {
    (void)state;
    const char *path = support_path("c");
    int64_t first;
    struct emmap_disk_counter disk;
    struct emmap_counters *c = made(path, 0, 1, NULL);
    (void)number(c, 10);
    assert_ok(emmap_counters_sync(c));
    const int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &disk, sizeof disk, COUNTERS_DATA_OFF), sizeof disk);
    const int64_t last = number(c, 100);
    os_fail_at(OS_CALL_SYNC_RANGE, 1, EIO, 1);
    int rc = 0;
    for (int i = 0; i < 1000 && rc == 0; i++) /* comes to where half of them are used up */
        rc = emmap_counters_allocate(c, 0, 2, &first);
    assert_int_equal(rc, EMMAP_E_SYNC_FAILED);
    os_fail_never();
    assert_true(first > last);
    assert_int_equal(pwrite(fd, &disk, sizeof disk, COUNTERS_DATA_OFF), sizeof disk);
    int64_t none;
    assert_int_equal(emmap_counters_allocate(c, 0, 1, &none), EMMAP_E_SYNC_FAILED);
    emmap_counters_free(c);
    await_no_regions();
    assert_int_equal(pwrite(fd, &disk, sizeof disk, COUNTERS_DATA_OFF), sizeof disk);
    close(fd);
    assert_ok(open_as(&c, path, 0, 0, NULL));
    assert_true(number(c, 1) > first + 1);
    end(c);
}

static uint64_t reserved_of(struct emmap_counters *c) {
    int64_t reserved;
    assert_ok(emmap_file_load(
        c->file, counters_off(c, 0) + offsetof(struct emmap_disk_counter, reserved), &reserved));
    return (uint64_t)reserved;
}

static void what_is_reserved_does_not_run_away(void **state) {
    (void)state;
    int64_t first;
    struct emmap_counters *c = made(support_path("c"), EMMAP_COUNTERS_UNSIGNED, 1, NULL);
    (void)number(c, 1);
    const uint64_t before = reserved_of(c);
    for (int i = 0; i < 100; i++) {
        os_fail_at(OS_CALL_FSTAT, 1, EIO, 1); /* of the sync, which has not begun */
        assert_int_equal(emmap_counters_allocate(c, 0, 5000, &first), -EIO);
        os_fail_never();
    }
    assert_in_range(reserved_of(c), before + 1, 5000 + 2 * before);
    assert_int_equal(number(c, 5000), 1);
    assert_in_range(reserved_of(c), before + 1, 5000 + 2 * before);
    end(c);
}

/* Others may have reserved more, and given it, by now. */
static void what_is_reserved_never_falls(void **state) {
    (void)state;
    const uint64_t more = 100000000;
    struct emmap_counters *c = made(support_path("c"), EMMAP_COUNTERS_UNSIGNED, 1, NULL);
    (void)number(c, 1);
    assert_ok(emmap_file_store(c->file,
                               counters_off(c, 0) + offsetof(struct emmap_disk_counter, reserved),
                               (int64_t)more));
    (void)number(c, 5000);
    assert_int_equal(reserved_of(c), more);
    end(c);
}

/* The last one that is on the disk is given, and the one behind it is not. */
static void numbers_end_where_the_disk_does(void **state) {
    (void)state;
    int64_t durable, first = -1;
    struct emmap_counters *c = made(support_path("c"), EMMAP_COUNTERS_UNSIGNED, 1, NULL);
    assert_int_equal(number(c, 1), 0);
    assert_ok(emmap_file_load(
        c->file, counters_off(c, 0) + offsetof(struct emmap_disk_counter, durable), &durable));
    os_fail_at(OS_CALL_FSTAT, 1, EIO, 1); /* of the sync, which has not begun */
    assert_int_equal(emmap_counters_allocate(c, 0, (uint64_t)durable, &first), -EIO);
    assert_int_equal(number(c, (uint64_t)durable - 1), 1);
    assert_int_equal(emmap_counters_allocate(c, 0, 1, &first), -EIO);
    os_fail_never();
    assert_int_equal(first, -1);
    assert_int_equal(value(c, 0), durable);
    end(c);
}

static const void *touched[200];
static unsigned touches;
static void see_touch(void *ctx, const struct os_event *event) {
    (void)ctx;
    if (event->kind == OS_EVENT_WORD && touches < 200) touched[touches++] = event->addr;
}

static bool is_touched(const uint8_t *page) {
    for (unsigned i = 0; i < touches; i++)
        if ((uintptr_t)touched[i] - (uintptr_t)page < COUNTERS_DATA_OFF) return true;
    return false;
}

/* The kernel takes those for written that it could not write: they are made to be written again. */
static void a_failed_sync_makes_each_page_be_written(void **state) {
    (void)state;
    const char *path = support_path("c");
    struct emmap_counters *c = made(path, EMMAP_COUNTERS_STRIPED, 40, NULL);
    for (uint64_t i = 0; i < 40; i++)
        add(c, i, 1);
    os_fail_at(OS_CALL_SYNC, 1, EIO, 0);
    assert_int_equal(emmap_counters_sync(c), EMMAP_E_SYNC_FAILED);
    os_fail_never();
    emmap_counters_free(c);
    await_no_regions();
    touches = 0;
    os_record_to(see_touch, NULL);
    assert_ok(open_as(&c, path, 0, 0, NULL));
    os_record_to(NULL, NULL);
    for (uint64_t off = 0; off < COUNTERS_DATA_OFF + 40 * 1024; off += COUNTERS_DATA_OFF)
        assert_true(is_touched(region_at(c->file->region, off)));
    end(c);
}

/* A file that is far longer than what it has, after a reboot, or a sync that has failed: what is not there is
 * passed over. */
static void holes_are_passed_over(void **state) {
    (void)state;
    if (!FILES_ARE_KNOWN) skip();
    const uint64_t many = UINT64_C(1) << 31, bytes = COUNTERS_DATA_OFF + many * COUNTERS_PLAIN;
    const uint64_t words[] = {0, 5};
    static const size_t offs[] = {offsetof(struct emmap_disk_counters_live, identity),
                                  offsetof(struct emmap_disk_counters_live, sync_error)};
    const struct emmap_disk_counter record = {.value = 0, .reserved = 77};
    uint64_t from, to;
    for (unsigned k = 0; k < 2; k++) {
        const char *path = support_path("c");
        (void)unlink(path);
        struct emmap_counters *c = made(path, EMMAP_COUNTERS_UNSIGNED, 3, NULL);
        const int known = os_data(c->file->region->fd, 0, &from, &to);
        end(c);
        if (known == -EOPNOTSUPP) skip();
        assert_ok(truncate(path, (off_t)bytes));
        poke(path, bytes - COUNTERS_PLAIN, &record, sizeof record);
        poke(path, COUNTERS_LIVE_OFF, &many, sizeof many);
        poke(path, COUNTERS_LIVE_OFF + offs[k], &words[k], sizeof words[k]);
        assert_ok(open_as(&c, path, 0, 0, NULL));
        assert_int_equal(value(c, many - 1), 77);
        assert_int_equal(value(c, many - 2), 0);
        end(c);
        struct os_stat st;
        assert_ok(os_stat(path, &st));
        assert_true(st.allocated_bytes < 1 << 20);
    }
}

/* The addresses are for what is asked for, not only for what there is: that the disk has no room is seen. */
static void many_can_be_added_to_few(void **state) {
    (void)state;
    if (!FILES_ARE_KNOWN) skip();
    const char *path = support_path("c");
    struct emmap_counters *c;
    end(made(path, 0, 3, NULL));
    os_fail_at(OS_CALL_ALLOCATE, 1, ENOSPC, 1);
    assert_int_equal(open_as(&c, path, 0, 150000000, NULL), -ENOSPC);
    os_fail_never();
    await_no_regions();
    assert_ok(open_as(&c, path, 0, 3, NULL));
    end(c);
}

static const void *count_word, *reserved_word;
static unsigned syncs_of_count;
static bool count_is_stored;
static void see_order(void *ctx, const struct os_event *event) {
    (void)ctx;
    if (event->kind == OS_EVENT_WORD && event->addr == count_word) count_is_stored = true;
    if (event->kind == OS_EVENT_SYNC && event->off < COUNTERS_DATA_OFF) {
        MUST(count_is_stored); /* by a store of its own: a failed sync may have dropped the page */
        syncs_of_count++;
    }
    if (event->kind == OS_EVENT_WORD && event->addr == reserved_word) MUST(syncs_of_count > 0);
}

/* Who extends it shows the count before it is on the disk. If a power cut takes it back, the record is made
 * once more: what it had given would be given again. */
static void the_count_is_on_the_disk_before_a_number_is(void **state) {
    (void)state;
    int64_t first;
    struct emmap_counters *c = made(support_path("c"), 0, 2, NULL);
    const uint64_t off = counters_off(c, 1) + offsetof(struct emmap_disk_counter, reserved);
    reserved_word = region_at(c->file->region, off);
    count_word = region_at(c->file->region, COUNTERS_LIVE(count));
    count_is_stored = false;
    syncs_of_count = 0;
    os_record_to(see_order, NULL);
    assert_ok(emmap_counters_allocate(c, 1, 1, &first));
    os_record_to(NULL, NULL);
    assert_int_equal(syncs_of_count, 1);
    end(c);
}

/* Cut off and as long again: a counter that has forgotten what it gave gives nothing. */
static void zeros_give_no_numbers(void **state) {
    (void)state;
    int64_t first = 55;
    const char *path = support_path("c");
    struct emmap_counters *c = made(path, 0, 2, NULL);
    assert_int_equal(number(c, 7), 0);
    assert_ok(truncate(path, 0));
    make_file(path, 0);
    assert_ok(truncate(path, COUNTERS_DATA_OFF + 2 * COUNTERS_PLAIN));
    assert_int_equal(emmap_counters_allocate(c, 0, 1, &first), EMMAP_E_TRUNCATED);
    assert_int_equal(first, 55);
    end(c);
}

static struct emmap_counters *shared;

enum { LOOKED_FOR = 60 };
static struct emmap_counter looked_for[LOOKED_FOR];
static _Atomic bool all_are_there;

static void *looks_for_all(void *arg) {
    (void)arg;
    for (unsigned known = 1; known < LOOKED_FOR;) {
        const bool last = atomic_load(&all_are_there);
        for (unsigned i = 0; i < known; i++)
            MUST(finds(shared, looked_for[i].name, i));
        if (finds(shared, looked_for[known].name, known))
            known++;
        else
            MUST(!last);
    }
    return NULL;
}

static void *names_all(void *arg) {
    (void)arg;
    for (unsigned known = 0; known < LOOKED_FOR;) {
        const bool last = atomic_load(&all_are_there);
        struct emmap_counter told;
        const int rc = emmap_counters_name(shared, known, &told);
        MUST(rc == 0 ? strcmp(told.name, looked_for[known].name) == 0 : rc == -EDOM && !last);
        known += rc == 0;
    }
    return NULL;
}

static void threads_find_what_is_added_meanwhile(void **state) {
    (void)state;
    if (!FILES_ARE_KNOWN) skip();
    static char texts[LOOKED_FOR][8];
    const char *path = support_path("c");
    pthread_t threads[THREADS];
    for (unsigned i = 0; i < LOOKED_FOR; i++) {
        snprintf(texts[i], sizeof texts[i], "n%u", i);
        looked_for[i].name = texts[i];
    }
    shared = made(path, 0, 1, looked_for);
    atomic_store(&all_are_there, false);
    for (unsigned t = 0; t < THREADS; t++)
        assert_ok(pthread_create(&threads[t], NULL, t % 2 ? names_all : looks_for_all, NULL));
    for (unsigned n = 2; n <= LOOKED_FOR; n++)
        emmap_counters_free(made(path, 0, n, looked_for));
    atomic_store(&all_are_there, true);
    for (unsigned t = 0; t < THREADS; t++)
        assert_ok(pthread_join(threads[t], NULL));
    end(shared);
}

static void *allocates(void *arg) {
    uint8_t *given = arg;
    for (int i = 0; i < TIMES; i++) {
        const int64_t n = 1 + i % 3, first = number(shared, (uint64_t)n);
        MUST(first >= 0 && first + n <= 2 * THREADS * TIMES);
        for (int64_t k = first; k < first + n; k++)
            MUST(__atomic_fetch_add(&given[k], 1, __ATOMIC_RELAXED) == 0);
    }
    return NULL;
}

static void threads_are_given_each_number_once(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    uint8_t *given = calloc(2 * THREADS, TIMES);
    assert_non_null(given);
    shared = made(support_path("c"), 0, 1, NULL);
    for (int t = 0; t < THREADS; t++)
        assert_ok(pthread_create(&threads[t], NULL, allocates, given));
    for (int t = 0; t < THREADS; t++)
        assert_ok(pthread_join(threads[t], NULL));
    for (int64_t k = 0; k < value(shared, 0); k++)
        assert_int_equal(given[k], 1);
    free(given);
    end(shared);
}

/* --------------------------------------------------------------------------------- OS processes */

enum { SENT = 0, ANSWERED = 1, SUM = 2, OTHERS = 3, WORDS = 4 };

static int add_on(const char *path) {
    struct emmap_counters *c;
    if (open_as(&c, path, CREATE, WORDS, NULL)) return 1;
    for (int64_t i = 1;; i++) {
        MUST(emmap_counters_put(c, SENT, i) == 0);
        add(c, SUM, 1);
        MUST(emmap_counters_put(c, ANSWERED, i) == 0);
        if (i == 500) say();
    }
}

static int add_all(const char *path) {
    struct emmap_counters *c;
    if (open_as(&c, path, CREATE, WORDS, NULL)) return 1;
    for (int i = 0; i < TIMES; i++)
        add(c, OTHERS, 1);
    emmap_counters_free(c);
    return 0;
}

static void killed_processes_have_added_what_they_were_told(void **state) {
    (void)state;
    const char *path = support_path("c");
    struct emmap_counters *c = made(path, 0, WORDS, NULL);
    const struct child other = start_role("add", path);
    int64_t sum = 0;
    for (int kills = 0; kills < 5; kills++) {
        const struct child victim = start_role("add on", path);
        await_word(&victim);
        assert_ok(kill(victim.pid, SIGKILL));
        assert_int_equal(end_role(&victim), 256 + SIGKILL);
        const int64_t now = value(c, SUM) - sum;
        assert_in_range(now, value(c, ANSWERED), value(c, SENT));
        sum = value(c, SUM);
    }
    for (int i = 0; i < TIMES; i++)
        add(c, OTHERS, 1);
    assert_int_equal(end_role(&other), 0);
    assert_int_equal(value(c, OTHERS), 2 * TIMES);
    end(c);
}

/* Each has names of its own beside one that all have: the last one finds all, whoever comes first. */
static int race(const char *path) {
    char own[40];
    struct emmap_counters *c;
    MUST(hear());
    snprintf(own, sizeof own, "of %d", (int)getpid());
    const struct emmap_counter names[] = {{.name = "all"}};
    for (int i = 0;; i++) {
        const int rc = open_as(&c, path, CREATE, 1, names);
        if (rc) return 1;
        add(c, 0, 1);
        emmap_counters_free(c);
        if (i == 0) return 0;
    }
}

static void of_many_creators_one_makes_it(void **state) {
    (void)state;
    enum { ROUNDS = SANITIZER ? 5 : 100, RACERS = 3 };
    const char *path = support_path("c");
    for (int round = 0; round < ROUNDS; round++) {
        struct child racer[RACERS];
        struct emmap_counters *c;
        for (int r = 0; r < RACERS; r++)
            racer[r] = start_role("race", path);
        for (int r = 0; r < RACERS; r++)
            give_word(&racer[r]);
        for (int r = 0; r < RACERS; r++)
            assert_int_equal(end_role(&racer[r]), 0);
        assert_ok(open_as(&c, path, 0, 0, NULL));
        assert_int_equal(value(c, 0), RACERS);
        assert_int_equal(count_of(c), 1);
        end(c);
        assert_ok(unlink(path));
    }
}

/* Each adds as many unnamed ones as there are already and one more: each is there, zero or counted. */
static int extend_on(const char *path) {
    struct emmap_counters *c;
    MUST(hear());
    for (uint64_t n = 2; n < 40; n++) {
        const int rc = open_as(&c, path, CREATE, n, NULL);
        if (rc == EMMAP_E_DIFFERS) continue; /* another has gone further */
        if (rc) return 1;
        add(c, n - 1, 1);
        emmap_counters_free(c);
    }
    return 0;
}

static void many_extend_it_at_once(void **state) {
    (void)state;
    if (!FILES_ARE_KNOWN) skip();
    const char *path = support_path("c");
    struct emmap_counters *c = made(path, 0, 1, NULL);
    struct child child[3];
    for (int i = 0; i < 3; i++)
        child[i] = start_role("extend", path);
    for (int i = 0; i < 3; i++)
        give_word(&child[i]);
    for (int i = 0; i < 3; i++)
        assert_int_equal(end_role(&child[i]), 0);
    assert_int_equal(count_of(c), 39);
    for (uint64_t i = 1; i < 39; i++)
        assert_in_range(value(c, i), i == 38, 3);
    end(c);
}

/* Another OS process that has the file open, and one that opens it when that process is refused. */
static int allocate_beside(const char *path) {
    struct emmap_counters *c, *anew;
    int64_t before, first = 77;
    struct emmap_counters_info info;
    MUST(open_as(&c, path, 0, 0, NULL) == 0);
    MUST(emmap_counters_allocate(c, 0, 1, &before) == 0);
    say();
    MUST(hear()); /* a sync has failed there */
    for (int i = 0; i < 2; i++)
        MUST(emmap_counters_allocate(c, 0, 1, &first) == EMMAP_E_SYNC_FAILED);
    MUST(first == 77);
    MUST(emmap_counters_info(c, &info) == 0 && info.sync_error == -EIO);
    MUST(open_as(&anew, path, 0, 0, NULL) == 0);
    MUST(emmap_counters_allocate(anew, 0, 1, &first) == 0 && first > before);
    MUST(emmap_counters_allocate(c, 0, 1, &first) == 0);
    MUST(emmap_counters_info(c, &info) == 0 && info.sync_error == 0);
    emmap_counters_free(anew);
    say();
    MUST(hear()); /* one more call of sync there, of the same failure */
    MUST(emmap_counters_allocate(c, 0, 1, &first) == 0);
    say();
    MUST(hear()); /* another failure */
    MUST(emmap_counters_allocate(c, 0, 1, &first) == EMMAP_E_SYNC_FAILED);
    MUST(open_as(&anew, path, 0, 0, NULL) == 0);
    emmap_counters_free(anew);
    emmap_counters_free(c);
    return 0;
}

static void a_failed_sync_is_told_to_others_once(void **state) {
    (void)state;
    if (!FILES_ARE_KNOWN) skip();
    const char *path = support_path("c");
    int64_t first;
    struct emmap_counters *more, *c = made(path, 0, 1, NULL);
    (void)number(c, 1);
    const struct child other = start_role("allocate", path);
    await_word(&other);
    os_fail_at(OS_CALL_SYNC, 1, EIO, 0);
    assert_int_equal(emmap_counters_sync(c), EMMAP_E_SYNC_FAILED);
    os_fail_never();
    give_word(&other);
    await_word(&other);
    assert_int_equal(emmap_counters_sync(c), EMMAP_E_SYNC_FAILED);
    assert_int_equal(emmap_counters_allocate(c, 0, 1, &first), EMMAP_E_SYNC_FAILED);
    give_word(&other);
    await_word(&other);
    os_fail_at(OS_CALL_SYNC, 1, EIO, 0);
    assert_int_equal(emmap_counters_sync(c), EMMAP_E_SYNC_FAILED);
    os_fail_never();
    give_word(&other);
    assert_int_equal(end_role(&other), 0);
    assert_int_equal(emmap_counters_allocate(c, 0, 1, &first), EMMAP_E_SYNC_FAILED);
    assert_ok(open_as(&more, path, 0, 0, NULL));
    assert_ok(emmap_counters_sync(c));
    assert_true(number(more, 1) < number(c, 1));
    emmap_counters_free(more);
    end(c);
}

static const struct role roles[] = {{"allocate", allocate_beside},
                                    {"add", add_all},
                                    {"add on", add_on},
                                    {"race", race},
                                    {"extend", extend_on}};

int main(int argc, char **argv) {
    const int status = run_role(argc, argv, roles, sizeof roles / sizeof *roles);
    if (status >= 0) return status;
    const struct CMUnitTest tests[] = {
        TEST(each_kind_keeps_its_values),
        TEST(the_larger_and_the_smaller_stay),
        TEST(what_is_not_there_cannot_be_counted),
        TEST(only_to_be_looked_at),
        TEST(names_are_found_and_told),
        TEST(impossible_names_make_no_file),
        TEST(what_differs_is_refused_and_stays),
        TEST(foreign_files_are_refused_and_stay),
        TEST(simple_counters_are_opened_as_they_are),
        TEST(each_damaged_byte_is_found),
        TEST(a_file_that_is_cut_is_told),
        TEST(a_simple_file_that_is_cut_is_told),
        TEST(a_file_that_is_cut_in_use_is_told),
        TEST(each_call_tells_a_cut),
        TEST(later_formats_are_refused),
        TEST(more_are_added_while_others_use_it),
        TEST(added_names_that_are_bad_are_not_known),
#ifdef __GLIBC__
        TEST(names_added_one_by_one_take_room_in_proportion),
#endif
        TEST(leftovers_of_an_extension_do_not_count),
        TEST(who_waited_for_the_lock_looks_again),
        TEST(threads_extend_it_at_once),
        TEST(who_extends_excludes_others),
        TEST(numbers_rise_from_the_value),
        TEST(the_last_numbers_are_given_and_no_more),
        TEST(another_boot_skips_what_was_reserved),
        TEST(a_copy_skips_what_was_reserved),
        TEST(another_boot_changes_nothing_for_who_may_not),
        TEST(a_failed_sync_gives_no_number),
        TEST(what_the_kernel_drops_is_not_given_again),
        TEST(what_is_reserved_does_not_run_away),
        TEST(what_is_reserved_never_falls),
        TEST(numbers_end_where_the_disk_does),
        TEST(a_failed_sync_makes_each_page_be_written),
        TEST(a_failed_sync_is_told_to_others_once),
        TEST(holes_are_passed_over),
        TEST(many_can_be_added_to_few),
        TEST(the_count_is_on_the_disk_before_a_number_is),
        TEST(zeros_give_no_numbers),
        TEST(threads_find_what_is_added_meanwhile),
        TEST(threads_are_given_each_number_once),
        TEST(killed_processes_have_added_what_they_were_told),
        TEST(of_many_creators_one_makes_it),
        TEST(many_extend_it_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
