/* test_fail.c -- every system call of every call fails in turn: a clean answer, nothing leaks, the
 * file is as it was, and the next try succeeds. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/os.h"
#include "test/support.h"

enum { FILE_BYTES = 10000 };

static const int errors[] = {EIO, ENOSPC, ENOMEM, EINTR};
enum { ERRORS = sizeof errors / sizeof *errors };

static bool fails_as(int rc, int err) {
    if (rc == 0 || rc == -err || rc == EMMAP_E_SYNC_FAILED) return true;
    print_message("%s answered %s, not %s\n", os_fail_last(), emmap_error_name(rc),
                  emmap_error_name(-err));
    return false;
}

/* ----------------------------------------------------------------------------------- open */

struct open_case {
    const char *name;
    bool exists;
    uint64_t file_bytes;
    struct emmap_file_options options;
    uint64_t then_bytes; /* of the file, after success */
};

static const struct open_case open_cases[] = {
    {"plain", true, FILE_BYTES, {.flags = RW}, FILE_BYTES},
    {"for reading", true, FILE_BYTES, {.flags = EMMAP_SHARED}, FILE_BYTES},
    {"create", false, 0, {.flags = RW | EMMAP_CREATE, .len_bytes = 20000}, 20000},
    {"create sparse",
     false,
     0,
     {.flags = RW | EMMAP_CREATE | EMMAP_SPARSE, .len_bytes = 20000},
     20000},
    {"create private", false, 0, {.flags = EMMAP_WRITE | EMMAP_CREATE, .len_bytes = 20000}, 20000},
    {"fill an empty file", true, 0, {.flags = RW, .len_bytes = 20000}, 20000},
    {"stretch", true, FILE_BYTES, {.flags = RW | EMMAP_FIT, .len_bytes = 50000}, 50000},
    {"stretch behind an offset",
     true,
     FILE_BYTES,
     {.flags = RW | EMMAP_FIT, .off = 5001, .len_bytes = 50000},
     55001},
    {"truncate to larger",
     true,
     FILE_BYTES,
     {.flags = RW | EMMAP_TRUNCATE, .len_bytes = 50000},
     50000},
    {"truncate to smaller",
     true,
     FILE_BYTES,
     {.flags = RW | EMMAP_TRUNCATE, .len_bytes = 5000},
     5000},
    {"truncate to the same",
     true,
     FILE_BYTES,
     {.flags = RW | EMMAP_TRUNCATE, .len_bytes = FILE_BYTES},
     FILE_BYTES},
    {"truncate to larger, sparse",
     true,
     FILE_BYTES,
     {.flags = RW | EMMAP_TRUNCATE | EMMAP_SPARSE, .len_bytes = 50000},
     50000},
    {"truncate to nothing", true, FILE_BYTES, {.flags = RW | EMMAP_TRUNCATE}, 0},
    {"populate", true, FILE_BYTES, {.flags = RW | EMMAP_POPULATE}, FILE_BYTES},
    {"populate what truncate leaves, sparse",
     true,
     FILE_BYTES,
     {.flags = RW | EMMAP_POPULATE | EMMAP_TRUNCATE | EMMAP_SPARSE, .len_bytes = 5000},
     5000},
    {"private", true, FILE_BYTES, {.flags = EMMAP_WRITE}, FILE_BYTES},
    {"private for reading", true, FILE_BYTES, {.flags = 0}, FILE_BYTES},
    {"private stretch",
     true,
     FILE_BYTES,
     {.flags = EMMAP_WRITE | EMMAP_FIT, .len_bytes = 50000},
     50000},
};

static void prepare(const struct open_case *c, const char *path) {
    (void)unlink(path);
    if (c->exists) make_file(path, c->file_bytes);
}

static void assert_opened(const struct open_case *c, struct emmap_file *file, const char *path) {
    uint8_t byte = 1;
    assert_int_equal(file_bytes_of(path), c->then_bytes);
    assert_int_equal(emmap_file_size(file), c->then_bytes - c->options.off);
    if (c->then_bytes > 0) assert_ok(read_byte(file, 0, &byte));
    const bool kept = c->file_bytes > 0 && !(c->options.flags & EMMAP_TRUNCATE);
    if (c->then_bytes > 0) assert_int_equal(byte, kept ? pattern(c->options.off) : 0);
}

/* false: the call got by without reaching the nth. */
static bool open_with_failure(const struct open_case *c, const char *path, unsigned nth, int err,
                              bool sticky) {
    struct emmap_file *file = NULL;
    struct emmap_stats before, after;
    prepare(c, path);
    struct snapshot as_before = snapshot_of(path);
    const unsigned descriptors = open_descriptors();
    emmap_stats(&before);

    os_fail_at(OS_CALL_ANY, nth, err, sticky);
    const int rc = emmap_file_open(&file, path, &c->options, NULL);
    const unsigned seen = os_fail_seen(OS_CALL_ANY);
    const bool clean = fails_as(rc, err);
    os_fail_never();
    assert_true(clean);

    if (rc == 0) {
        assert_opened(c, file, path);
        free(as_before.bytes);
    } else if (!sticky) {
        assert_null(file);
        assert_as_before(&as_before);
    } else { /* what was begun cannot be taken back by calls that fail */
        if (file_exists(path)) assert_int_equal(file_bytes_of(path), as_before.len_bytes);
        free(as_before.bytes);
    }
    emmap_file_free(file);
    await_no_regions();
    await_descriptors(descriptors);
    emmap_stats(&after);
    assert_int_equal(after.handles, before.handles);
    assert_int_equal(after.mapped_bytes, before.mapped_bytes);

    if (rc && !sticky) {
        assert_ok(emmap_file_open(&file, path, &c->options, NULL));
        assert_opened(c, file, path);
        emmap_file_free(file);
        await_no_regions();
    }
    return seen >= nth;
}

static void open_stands_any_failure(void **state) {
    (void)state;
    const char *path = support_path("f");
    emmap_file_free(must_open((make_file(path, 1), path), RW, 0));
    await_no_regions();
    for (size_t i = 0; i < sizeof open_cases / sizeof *open_cases; i++)
        for (unsigned e = 0; e < ERRORS; e++)
            for (int sticky = 0; sticky <= 1; sticky++) {
                unsigned n = 1;
                while (open_with_failure(&open_cases[i], path, n, errors[e], sticky))
                    assert_true(++n < 100);
                if (n < 8) fail_msg("%s made %u calls only", open_cases[i].name, n - 1);
            }
}

static void open_by_a_relative_name_stands_any_failure(void **state) {
    (void)state;
    char here[4096];
    assert_non_null(getcwd(here, sizeof here));
    assert_ok(chdir(support_path(".")));
    unsigned n = 1;
    while (open_with_failure(&open_cases[0], "f", n, EIO, false))
        n++;
    assert_true(n > 8);
    assert_ok(chdir(here));
}

/* --------------------------------------------------------------------- calls on a handle */

struct call_case {
    const char *name;
    uint32_t flags;
    int (*call)(struct emmap_file *file);
    unsigned least; /* system calls that it makes */
    uint64_t then_bytes;
    void (*prepare)(const char *path); /* between open and the call */
    int answer;
};

static int resize_up(struct emmap_file *file) {
    uint64_t now;
    return emmap_file_resize(file, 50000, &now);
}

static int resize_down(struct emmap_file *file) {
    uint64_t now;
    return emmap_file_resize(file, 5000, &now);
}

static int sync_some(struct emmap_file *file) {
    return emmap_file_sync_range(file, 4000, 2000);
}

static int ask_info(struct emmap_file *file) {
    struct emmap_file_info info;
    return emmap_file_info(file, &info);
}

static int read_past_the_end(struct emmap_file *file) {
    uint8_t byte;
    return read_byte(file, FILE_BYTES, &byte);
}

static int read_cut(struct emmap_file *file) {
    uint8_t byte;
    return read_byte(file, FILE_BYTES - 1, &byte);
}

static int write_cut(struct emmap_file *file) {
    return emmap_file_write(file, FILE_BYTES - 1, "x", 1);
}

static void grow_behind(const char *path) {
    assert_ok(truncate(path, 2 * FILE_BYTES));
}

static void cut_away(const char *path) {
    assert_ok(truncate(path, 100));
}

static const struct call_case call_cases[] = {
    {"resize up", RW, resize_up, 6, 50000, NULL, 0},
    {"resize up, sparse", RW | EMMAP_SPARSE, resize_up, 4, 50000, NULL, 0},
    {"resize down", RW, resize_down, 4, 5000, NULL, 0},
    {"resize up, private", EMMAP_WRITE, resize_up, 1, FILE_BYTES, NULL, 0},
    {"sync", RW, emmap_file_sync, 2, FILE_BYTES, NULL, 0},
    {"sync range", RW, sync_some, 2, FILE_BYTES, NULL, 0},
    {"flush", RW, emmap_file_flush, 1, FILE_BYTES, NULL, 0},
    {"info", RW, ask_info, 3, FILE_BYTES, NULL, 0},
    {"info, private", EMMAP_WRITE, ask_info, 2, FILE_BYTES, NULL, 0},
    {"read behind the end", EMMAP_SHARED, read_past_the_end, 1, FILE_BYTES, NULL, EMMAP_E_PAST_END},
    {"read of growth", RW, read_past_the_end, 1, 2 * FILE_BYTES, grow_behind, 0},
    {"faulting read", RW, read_cut, 3, 100, cut_away, EMMAP_E_TRUNCATED},
    {"faulting write", RW, write_cut, 3, 100, cut_away, EMMAP_E_TRUNCATED},
    {"faulting read, private", EMMAP_WRITE, read_cut, 3, 100, cut_away, EMMAP_E_TRUNCATED},
};

/* The answer when nothing fails; after a failed try the cut may be known, and so the end. */
static bool answers(const struct call_case *c, int rc) {
    return rc == c->answer || (c->answer == EMMAP_E_TRUNCATED && rc == EMMAP_E_PAST_END);
}

/* The page of a private map could not be replaced alone, so that its changes are gone. */
static bool says_lost(const struct call_case *c, int rc) {
    return !(c->flags & EMMAP_SHARED) && rc == -EIO && strcmp(os_fail_last(), "map") == 0;
}

static bool call_with_failure(const struct call_case *c, const char *path, unsigned nth, int err) {
    uint8_t byte;
    (void)unlink(path);
    make_file(path, FILE_BYTES);
    const unsigned descriptors = open_descriptors();
    struct emmap_file *file = must_open(path, c->flags, 0);
    if (c->prepare) c->prepare(path);
    struct snapshot as_before = snapshot_of(path);
    struct emmap_stats before, after;
    emmap_stats(&before);

    os_fail_at(OS_CALL_ANY, nth, err, false);
    const int rc = c->call(file);
    const unsigned seen = os_fail_seen(OS_CALL_ANY);
    const bool lost = says_lost(c, rc);
    const bool clean = answers(c, rc) || lost || fails_as(rc, err);
    os_fail_never();
    assert_true(clean);
    emmap_stats(&after);
    assert_int_equal(after.regions, before.regions);
    assert_int_equal(after.mapped_bytes, before.mapped_bytes);
    assert_int_equal(open_descriptors(), descriptors + 1);
    if (rc == -err && !c->prepare) assert_int_equal(emmap_file_size(file), FILE_BYTES);

    const bool failed = !answers(c, rc);
    if (failed)
        assert_as_before(&as_before);
    else
        free(as_before.bytes);
    if (failed && !lost) {
        assert_ok(read_byte(file, 99, &byte));
        assert_int_equal(byte, pattern(99));
        if (c->flags & EMMAP_WRITE) assert_ok(emmap_file_write(file, 98, "w", 1));
    }
    if (rc == EMMAP_E_SYNC_FAILED)
        assert_int_equal(emmap_file_sync_error(file), -err);
    else if (failed && !lost)
        assert_true(answers(c, c->call(file)));
    assert_int_equal(file_bytes_of(path), c->then_bytes);
    emmap_file_free(file);
    await_no_regions();
    await_descriptors(descriptors);
    return seen >= nth;
}

static void calls_stand_any_failure(void **state) {
    (void)state;
    const char *path = support_path("f");
    for (size_t i = 0; i < sizeof call_cases / sizeof *call_cases; i++)
        for (unsigned e = 0; e < ERRORS; e++) {
            unsigned n = 1;
            while (call_with_failure(&call_cases[i], path, n, errors[e]))
                assert_true(++n < 100);
            if (n <= call_cases[i].least) fail_msg("%s made %u calls", call_cases[i].name, n - 1);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(open_stands_any_failure),
        TEST(open_by_a_relative_name_stands_any_failure),
        TEST(calls_stand_any_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
