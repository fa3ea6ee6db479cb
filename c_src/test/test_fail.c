/* test_fail.c -- every system call of every call fails in turn: a clean answer, nothing leaks, the
 * file is as it was, and the next try succeeds. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/os.h"
#include "test/faults.h"

enum { FILE_BYTES = 10000 };

static bool fails_as(const struct fault *fault, int rc) {
    if (fault_answers(fault, rc) || rc == EMMAP_E_SYNC_FAILED) return true;
    if (rc == -ENOMEM && fault->err == EAGAIN)
        return true; /* of what may not be locked in memory */
    print_error("call %u of os, %s, answered %d%s: %s\n", fault->nth, os_fail_last(), fault->err,
                fault->sticky ? ", and all after it" : "", emmap_error_name(rc));
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
    {"populate a new one",
     false,
     0,
     {.flags = RW | EMMAP_CREATE | EMMAP_POPULATE, .len_bytes = 20000},
     20000},
    {"lock a new one in memory",
     false,
     0,
     {.flags = RW | EMMAP_CREATE | EMMAP_LOCK_MEMORY, .len_bytes = 20000},
     20000},
    {"stretch, and lock in memory",
     true,
     FILE_BYTES,
     {.flags = RW | EMMAP_FIT | EMMAP_LOCK_MEMORY, .len_bytes = 50000},
     50000},
    {"lock in memory", true, FILE_BYTES, {.flags = RW | EMMAP_LOCK_MEMORY}, FILE_BYTES},
    {"lock what truncate leaves in memory",
     true,
     FILE_BYTES,
     {.flags = RW | EMMAP_LOCK_MEMORY | EMMAP_TRUNCATE, .len_bytes = 5000},
     5000},
    {"no link", true, FILE_BYTES, {.flags = RW | EMMAP_NOFOLLOW}, FILE_BYTES},
    {"create, no link",
     false,
     0,
     {.flags = RW | EMMAP_CREATE | EMMAP_NOFOLLOW, .len_bytes = 20000},
     20000},
    {"create empty", false, 0, {.flags = RW | EMMAP_CREATE | EMMAP_EXTEND}, 0},
    {"at an address", true, FILE_BYTES, {.flags = RW | EMMAP_AT}, FILE_BYTES},
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

/* Pages are locked in memory when truncate has made them. */
static bool is_final(const struct open_case *c) {
    return c->file_bytes > 0 && (c->options.flags & EMMAP_TRUNCATE) &&
           (c->options.flags & EMMAP_LOCK_MEMORY);
}

/* Where nothing is, a moment ago. */
static uint64_t free_address(void) {
    void *at;
    assert_ok(os_map(NULL, FILE_BYTES, OS_PROT_NONE, OS_MAP_ANON, -1, 0, &at));
    assert_ok(os_unmap(at, FILE_BYTES));
    return (uint64_t)(uintptr_t)at;
}

/* How many calls of os it made. */
static unsigned open_with_failure(const struct open_case *c, const char *path,
                                  const struct fault *fault) {
    struct emmap_file *file = NULL;
    struct emmap_stats before, after;
    struct emmap_file_options options = c->options;
    if (options.flags & EMMAP_AT) options.address = free_address();
    prepare(c, path);
    struct snapshot as_before = snapshot_of(path);
    const unsigned descriptors = open_descriptors();
    emmap_stats(&before);

    fault_begin(fault);
    const int rc = emmap_file_open(&file, path, &options, NULL);
    const unsigned seen = os_fail_seen(OS_CALL_ANY);
    const bool clean = fails_as(fault, rc);
    (void)fault_end(fault);
    os_fail_never();
    if (!clean) fail_msg("%s", c->name);

    if (rc == 0) {
        assert_opened(c, file, path);
        free(as_before.bytes);
    } else if (!fault->sticky && !is_final(c)) {
        assert_null(file);
        assert_as_before(&as_before);
    } else { /* what was begun cannot be taken back by calls that fail */
        const uint64_t bytes = file_exists(path) ? file_bytes_of(path) : as_before.len_bytes;
        assert_true(bytes == as_before.len_bytes || bytes == c->then_bytes);
        free(as_before.bytes);
    }
    emmap_file_free(file);
    await_no_regions();
    await_descriptors(descriptors);
    emmap_stats(&after);
    assert_int_equal(after.handles, before.handles);
    assert_int_equal(after.mapped_bytes, before.mapped_bytes);

    if (rc && !fault->sticky && !is_final(c)) {
        assert_ok(emmap_file_open(&file, path, &options, NULL));
        assert_opened(c, file, path);
        emmap_file_free(file);
        await_no_regions();
    }
    return seen;
}

static void open_with_all_failures(const struct open_case *c, const char *path) {
    const unsigned calls = open_with_failure(c, path, &(struct fault){.nth = 0});
    if (calls < 7) fail_msg("%s made %u calls only", c->name, calls);
    for (unsigned n = 1; n <= calls; n++)
        for (unsigned way = 0; way < 2 * FAULT_ERRORS; way++) {
            const struct fault fault = {n, fault_errors[way / 2], way % 2};
            if (fault_is_wanted()) (void)open_with_failure(c, path, &fault);
        }
}

static void open_stands_any_failure(void **state) {
    (void)state;
    const char *path = support_path("f");
    emmap_file_free(must_open((make_file(path, 1), path), RW, 0));
    await_no_regions();
    for (size_t i = 0; i < sizeof open_cases / sizeof *open_cases; i++)
        open_with_all_failures(&open_cases[i], path);
}

static void open_by_a_relative_name_stands_any_failure(void **state) {
    (void)state;
    char here[4096];
    assert_non_null(getcwd(here, sizeof here));
    assert_ok(chdir(support_path(".")));
    open_with_all_failures(&open_cases[0], "f");
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

static unsigned call_with_failure(const struct call_case *c, const char *path,
                                  const struct fault *fault) {
    uint8_t byte;
    (void)unlink(path);
    make_file(path, FILE_BYTES);
    const unsigned descriptors = open_descriptors();
    struct emmap_file *file = must_open(path, c->flags, 0);
    if (c->prepare) c->prepare(path);
    struct snapshot as_before = snapshot_of(path);
    struct emmap_stats before, after;
    emmap_stats(&before);

    fault_begin(fault);
    const int rc = c->call(file);
    const unsigned seen = os_fail_seen(OS_CALL_ANY);
    const bool lost = says_lost(c, rc);
    const bool clean = answers(c, rc) || lost || fails_as(fault, rc);
    (void)fault_end(fault);
    os_fail_never();
    if (!clean) fail_msg("%s", c->name);
    emmap_stats(&after);
    assert_int_equal(after.regions, before.regions);
    assert_int_equal(after.mapped_bytes, before.mapped_bytes);
    assert_int_equal(open_descriptors(), descriptors + 1);
    if (rc != 0 && !c->prepare) assert_int_equal(emmap_file_size(file), FILE_BYTES);

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
        assert_int_equal(emmap_file_sync_error(file), -fault->err);
    else if (failed && !lost)
        assert_true(answers(c, c->call(file)));
    assert_int_equal(file_bytes_of(path), c->then_bytes);
    emmap_file_free(file);
    await_no_regions();
    await_descriptors(descriptors);
    return seen;
}

/* A handler that can map nothing at all can do nothing about a fault. */
static bool can_be_stood(const struct call_case *c, const struct fault *fault) {
    return !fault->sticky || c->prepare != cut_away;
}

static void call_with_all_failures(const struct call_case *c, const char *path) {
    const unsigned calls = call_with_failure(c, path, &(struct fault){.nth = 0});
    if (calls < c->least) fail_msg("%s made %u calls", c->name, calls);
    for (unsigned n = 1; n <= calls; n++)
        for (unsigned way = 0; way < 2 * FAULT_ERRORS; way++) {
            const struct fault fault = {n, fault_errors[way / 2], way % 2};
            if (can_be_stood(c, &fault) && fault_is_wanted())
                (void)call_with_failure(c, path, &fault);
        }
}

static void calls_stand_any_failure(void **state) {
    (void)state;
    const char *path = support_path("f");
    for (size_t i = 0; i < sizeof call_cases / sizeof *call_cases; i++)
        call_with_all_failures(&call_cases[i], path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(open_stands_any_failure),
        TEST(open_by_a_relative_name_stands_any_failure),
        TEST(calls_stand_any_failure),
    };
    return fault_tell(cmocka_run_group_tests(tests, NULL, NULL));
}
