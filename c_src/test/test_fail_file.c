/* test_fail_file.c -- every system call of integers, counters, streams, pointers and of the rest that is
 * done with an open file fails in turn. Opening and resizing: test_fail.c. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/file.h"
#include "test/faults.h"

enum { FILE_BYTES = 40000, CUT_BYTES = 5000, COUNTERS = 100 };

static char path[512];
static struct emmap_file *file;
static struct emmap_hold *hold;
static uint8_t buf[FILE_BYTES];
static int64_t old;

static void open_with(uint32_t flags) {
    strcpy(path, support_path("f"));
    (void)unlink(path);
    make_file(path, FILE_BYTES);
    file = must_open(path, flags, 0);
}

static void open_rw(void) {
    open_with(RW);
}

static void open_private(void) {
    open_with(EMMAP_WRITE);
}

static void open_extend(void) {
    open_with(RW | EMMAP_EXTEND);
}

static void close_file(void) {
    emmap_file_free(file);
    file = NULL;
}

/* Its bytes are those of before, but for these, which are all new or all old. */
static void check_bytes(uint64_t off, const void *new, uint64_t len_bytes, int rc) {
    uint8_t expected[FILE_BYTES];
    uint64_t got;
    for (uint64_t i = 0; i < FILE_BYTES; i++)
        expected[i] = pattern(i);
    assert_ok(emmap_file_read(file, 0, buf, FILE_BYTES, &got));
    assert_int_equal(got, FILE_BYTES);
    if (rc == 0) memcpy(expected + off, new, len_bytes);
    assert_memory_equal(buf, expected, FILE_BYTES);
}

static void check_untouched(int rc, const struct fault *failed) {
    (void)rc, (void)failed;
    check_bytes(0, NULL, 0, -1);
}

/* ------------------------------------------------------------------------------------- bytes */

static int read_all(void) {
    uint64_t got = 0;
    const int rc = emmap_file_read(file, 0, buf, FILE_BYTES, &got);
    if (rc == 0) assert_true(got == FILE_BYTES && is_pattern(buf, 0, got));
    return rc;
}

static int read_over_the_end(void) {
    uint64_t got = 0;
    const int rc = emmap_file_read(file, FILE_BYTES - 10, buf, 100, &got);
    if (rc == 0) assert_true(got == 10 && is_pattern(buf, FILE_BYTES - 10, got));
    return rc;
}

static int write_some(void) {
    return emmap_file_write(file, 4090, "twelve bytes", 12);
}

static void check_written(int rc, const struct fault *failed) {
    (void)failed;
    check_bytes(4090, "twelve bytes", 12, rc);
}

static int write_past_the_end(void) {
    return emmap_file_write(file, 2 * FILE_BYTES, "x", 1);
}

static void check_extended(int rc, const struct fault *failed) {
    uint8_t byte;
    (void)failed;
    assert_int_equal(file_bytes_of(path), rc ? FILE_BYTES : 2 * FILE_BYTES + 1);
    if (rc == 0) assert_ok(read_byte(file, 2 * FILE_BYTES, &byte));
    if (rc == 0) assert_int_equal(byte, 'x');
    check_untouched(rc, failed);
}

static int point(void) {
    const void *at;
    uint64_t got;
    const int rc = emmap_file_pointer(file, FILE_BYTES - 10, 100, &at, &got);
    if (rc == 0) assert_true(got == 10 && is_pattern(at, FILE_BYTES - 10, got));
    return rc;
}

static int hold_and_close(void) {
    const void *at;
    uint64_t got;
    int rc = emmap_file_hold(file, &hold);
    if (rc == 0) rc = emmap_file_pointer(file, 0, FILE_BYTES, &at, &got);
    if (rc == 0) rc = emmap_file_close(file);
    if (rc == 0) assert_true(is_pattern(at, 0, got));
    emmap_file_unhold(hold);
    return rc;
}

static int grow(void) {
    uint64_t now;
    return emmap_file_grow(file, &now);
}

static void check_grown(int rc, const struct fault *failed) {
    (void)failed;
    assert_int_equal(emmap_file_size(file), rc ? FILE_BYTES : 2 * FILE_BYTES);
    check_untouched(rc, failed);
}

/* ----------------------------------------------------------------------------------- integers */

enum { AT = 4096 - 8 };

static int64_t number_before(void) {
    int64_t n;
    uint8_t bytes[8];
    for (unsigned i = 0; i < 8; i++)
        bytes[i] = pattern(AT + i);
    memcpy(&n, bytes, sizeof n);
    return n;
}

static int add(void) {
    return emmap_file_fetch(file, AT, EMMAP_ADD, 5, &old);
}

static int swap(void) {
    return emmap_file_cas(file, AT, number_before(), number_before() + 5, &old);
}

static int store(void) {
    old = number_before();
    return emmap_file_store(file, AT, number_before() + 5);
}

static int load(void) {
    return emmap_file_load(file, AT, &old);
}

/* Five more, once. */
static void check_number(int rc, const struct fault *failed) {
    (void)failed;
    const int64_t after = number_before() + 5;
    check_bytes(AT, &after, sizeof after, rc);
    if (rc == 0) assert_int_equal(old, number_before());
}

static void check_loaded(int rc, const struct fault *failed) {
    if (rc == 0) assert_int_equal(old, number_before());
    check_untouched(rc, failed);
}

/* ------------------------------------------------- pages that were cut away, and are there again */

static void open_and_fault(void) {
    uint8_t byte;
    open_rw();
    assert_ok(truncate(path, CUT_BYTES));
    assert_int_equal(read_byte(file, 30000, &byte), EMMAP_E_TRUNCATED);
    make_file(path, FILE_BYTES);
}

static int add_far(void) {
    return emmap_file_fetch(file, 32000, EMMAP_XOR, 0, &old);
}

static int write_far(void) {
    const uint8_t byte = pattern(30000);
    return emmap_file_write(file, 30000, &byte, 1);
}

/* ------------------------------------------------------------------------------------ streams */

static int read_line(void) {
    struct file_next next;
    int rc = file_seek(file, true, FILE_SEEK_END, -20, &(uint64_t){0});
    if (rc == 0) rc = file_next_begin(file, true, 100, &next);
    if (rc == 0) rc = file_next_end(file, true, &next, buf);
    if (rc == 0) assert_true(next.len_bytes == 20 && is_pattern(buf, FILE_BYTES - 20, 20));
    return rc;
}

static int write_next(void) {
    int rc = file_seek(file, true, FILE_SEEK_SET, 4090, &(uint64_t){0});
    return rc ? rc : file_write_next(file, true, "twelve bytes", 12);
}

static int cut_here(void) {
    const int rc = file_seek(file, true, FILE_SEEK_SET, CUT_BYTES, &(uint64_t){0});
    return rc ? rc : file_cut(file);
}

static void check_cut(int rc, const struct fault *failed) {
    (void)failed;
    assert_int_equal(file_bytes_of(path), rc ? FILE_BYTES : CUT_BYTES);
}

static int allocate_more(void) {
    return file_allocate(file, FILE_BYTES - 100, FILE_BYTES + 100);
}

/* The last step takes no size, so that what was grown stays, and is said. */
static void check_allocated(int rc, const struct fault *failed) {
    const uint64_t bytes = file_bytes_of(path);
    assert_true(bytes == 2 * FILE_BYTES || (rc && bytes == FILE_BYTES));
    assert_int_equal(emmap_file_size(file), bytes);
    check_untouched(rc, failed);
}

static int advise(void) {
    return file_advise(file, 0, FILE_BYTES, OS_ADVICE_WILL_NEED);
}

static int details(void) {
    struct os_details found;
    const int rc = file_details(file, &found);
    if (rc == 0) assert_int_equal(found.size_bytes, FILE_BYTES);
    return rc;
}

/* ----------------------------------------------------------------------------------- counters */

static void no_counters(void) {
    strcpy(path, support_path("c"));
    (void)unlink(path);
}

static void some_counters(void) {
    uint64_t found;
    no_counters();
    assert_ok(emmap_simple_counters_open(&file, path, COUNTERS, &found));
    assert_ok(emmap_file_store(file, emmap_simple_counters_off(7), 42));
    close_file();
    await_no_regions();
}

static int open_counters(void) {
    uint64_t found = 0;
    if (file) return 0;
    const int rc = emmap_simple_counters_open(&file, path, COUNTERS, &found);
    if (rc == 0) assert_int_equal(found, COUNTERS);
    return rc;
}

/* All of them zero but for the one of an old file; nobody sees half a file. */
static void counters_are_whole(bool new) {
    uint64_t count;
    assert_ok(emmap_simple_counters_count(file, &count));
    assert_int_equal(count, COUNTERS);
    for (uint64_t i = 0; i < count; i++) {
        assert_ok(emmap_file_load(file, emmap_simple_counters_off(i), &old));
        assert_int_equal(old, i == 7 && !new ? 42 : 0);
    }
    assert_int_equal(file_bytes_of(path), emmap_simple_counters_off(COUNTERS));
}

static void check_new_counters(int rc, const struct fault *failed) {
    (void)failed;
    if (rc == 0) counters_are_whole(true);
    if (rc && file_exists(path))
        assert_int_equal(file_bytes_of(path), emmap_simple_counters_off(COUNTERS));
}

static void check_counters(int rc, const struct fault *failed) {
    (void)failed;
    assert_int_equal(file_bytes_of(path), emmap_simple_counters_off(COUNTERS));
    if (rc == 0) counters_are_whole(false);
}

static void reopen_counters(void) {
    some_counters();
    assert_ok(open_counters());
}

static int count_counters(void) {
    uint64_t count = COUNTERS;
    const int rc = emmap_simple_counters_count(file, &count);
    assert_int_equal(count, COUNTERS);
    return rc;
}

static int sync_all(void) {
    return emmap_file_sync(file);
}

/* ------------------------------------------------------------------------------- anonymous memory */

static int open_anonymous(void) {
    static const struct emmap_file_options options = {
        .flags = EMMAP_WRITE | EMMAP_ANON | EMMAP_LOCK_MEMORY, .len_bytes = FILE_BYTES};
    return file ? 0 : emmap_file_open(&file, "", &options, NULL);
}

static void check_anonymous(int rc, const struct fault *failed) {
    struct emmap_file_info info;
    uint8_t byte = 1;
    (void)failed;
    if (rc) return;
    assert_ok(emmap_file_write(file, FILE_BYTES - 1, "", 1));
    assert_ok(read_byte(file, FILE_BYTES - 1, &byte));
    assert_int_equal(byte, 0);
    assert_ok(emmap_file_info(file, &info));
}

static void must_open_anonymous(void) {
    assert_ok(open_anonymous());
}

static int grow_anonymous(void) {
    return emmap_file_resize(file, 4 * FILE_BYTES, NULL);
}

/* --------------------------------------------------------------------------------------- tables */

static const struct fault_op file_ops[] = {
    {"read", open_rw, read_all, check_untouched, close_file, .least = 0},
    {"read over the end", open_rw, read_over_the_end, check_untouched, close_file, .least = 1},
    {"read of a private map", open_private, read_all, check_untouched, close_file, .least = 0},
    {"write", open_rw, write_some, check_written, close_file, .least = 0},
    {"write to a private map", open_private, write_some, check_written, close_file, .least = 0},
    {"write past the end", open_extend, write_past_the_end, check_extended, close_file, .least = 6},
    {"pointer", open_rw, point, check_untouched, close_file, .least = 1},
    {"hold and close", open_rw, hold_and_close, NULL, close_file, .least = 0},
    {"grow", open_rw, grow, check_grown, close_file, .least = 6},
    {"grow a private map", open_private, grow, check_grown, close_file, .least = 1},
    {"add", open_rw, add, check_number, close_file, .least = 0},
    {"compare and swap", open_rw, swap, check_number, close_file, .least = 0},
    {"store", open_rw, store, check_number, close_file, .least = 0},
    {"load", open_rw, load, check_loaded, close_file, .least = 0},
    {"read of pages that came back", open_and_fault, read_all, check_untouched, close_file,
     .least = 3},
    {"write to pages that came back", open_and_fault, write_far, check_untouched, close_file,
     .least = 3},
    {"add in pages that came back", open_and_fault, add_far, check_untouched, close_file,
     .least = 3},
    {"read from a position", open_rw, read_line, check_untouched, close_file, .least = 1},
    {"write at a position", open_rw, write_next, check_written, close_file, .least = 0},
    {"cut at a position", open_rw, cut_here, check_cut, close_file, .least = 3},
    {"allocate", open_rw, allocate_more, check_allocated, close_file,
     .least = SPACE_IS_RESERVED ? 7 : 3, .answer = SPACE_IS_RESERVED ? 0 : -EOPNOTSUPP},
    {"advise", open_rw, advise, check_untouched, close_file, .least = 1},
    {"details", open_rw, details, check_untouched, close_file, .least = 1},
    {"open of anonymous memory", NULL, open_anonymous, check_anonymous, close_file, .least = 2,
     .also = {-ENOMEM}},
    {"grow anonymous memory", must_open_anonymous, grow_anonymous, check_anonymous, close_file,
     .least = 2, .also = {-ENOMEM}},
};

static void calls_on_a_file_stand_any_failure(void **state) {
    (void)state;
    fault_run(file_ops, sizeof file_ops / sizeof *file_ops);
}

static const struct fault_op counters_ops[] = {
    {"open of new counters", no_counters, open_counters, check_new_counters, close_file,
     .least = 20},
    {"open of counters", some_counters, open_counters, check_counters, close_file, .least = 7},
    {"count", reopen_counters, count_counters, check_counters, close_file, .least = 0},
    {"sync of counters", reopen_counters, sync_all, check_counters, close_file, .least = 2,
     .also = {EMMAP_E_SYNC_FAILED}, .stays = true},
};

static void calls_on_counters_stand_any_failure(void **state) {
    (void)state;
    fault_run(counters_ops, sizeof counters_ops / sizeof *counters_ops);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        FAULT_TEST(calls_on_a_file_stand_any_failure),
        FAULT_TEST(calls_on_counters_stand_any_failure),
    };
    return fault_tell(cmocka_run_group_tests(tests, NULL, NULL));
}
