/* test_file.c -- a mapped file on a real file: bytes, sizes, options that go with the handle. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/file.h"
#include "test/support.h"

enum { FILE_BYTES = 10000 };

/* ----------------------------------------------------------------------------------- bytes */

static void shared_write_reaches_the_file_and_other_handles(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, FILE_BYTES);
    struct emmap_file *a = must_open(path, RW, 0);
    struct emmap_file *b = must_open(path, EMMAP_SHARED, 0);
    assert_int_equal(emmap_file_write(a, 5000, "hello", 5), 0);
    char buf[5];
    uint64_t got;
    assert_int_equal(emmap_file_read(b, 5000, buf, 5, &got), 0);
    assert_int_equal(got, 5);
    assert_memory_equal(buf, "hello", 5);
    assert_int_equal(file_byte(path, 5000), 'h');
    emmap_file_free(a);
    emmap_file_free(b);
    await_no_regions();
}

static void what_others_write_is_read(void **state) {
    (void)state;
    const char *path = support_path("f");
    uint8_t byte;
    make_file(path, FILE_BYTES);
    struct emmap_file *file = must_open(path, EMMAP_SHARED, 0);
    assert_ok(read_byte(file, 3, &byte));
    assert_int_equal(byte, pattern(3));
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fwrite("hello", 1, 5, f), 5);
    assert_ok(fclose(f));
    assert_ok(read_byte(file, 3, &byte));
    assert_int_equal(byte, 'l');
    emmap_file_free(file);
    await_no_regions();
}

static void a_read_is_cut_at_the_end(void **state) {
    (void)state;
    const char *path = support_path("f");
    uint8_t buf[100];
    uint64_t got = 7;
    make_file(path, FILE_BYTES);
    struct emmap_file *file = must_open(path, EMMAP_SHARED, 0);
    assert_ok(emmap_file_read(file, FILE_BYTES - 10, buf, sizeof buf, &got));
    assert_int_equal(got, 10);
    assert_true(is_pattern(buf, FILE_BYTES - 10, 10));
    assert_ok(emmap_file_read(file, FILE_BYTES - 1, buf, INT64_MAX - FILE_BYTES, &got));
    assert_int_equal(got, 1);
    assert_ok(emmap_file_read(file, 5, buf, 0, &got));
    assert_int_equal(got, 0);
    got = 7;
    assert_int_equal(emmap_file_read(file, FILE_BYTES, buf, 1, &got), EMMAP_E_PAST_END);
    assert_int_equal(emmap_file_read(file, FILE_BYTES, buf, 0, &got), EMMAP_E_PAST_END);
    assert_int_equal(emmap_file_read(file, INT64_MAX - 1, buf, 1, &got), EMMAP_E_PAST_END);
    assert_int_equal(emmap_file_read(file, INT64_MAX, buf, 1, &got), -EINVAL);
    assert_int_equal(emmap_file_read(file, 1, buf, INT64_MAX, &got), -EINVAL);
    assert_int_equal(emmap_file_read(file, UINT64_MAX, buf, 1, &got), -EINVAL);
    assert_int_equal(emmap_file_read(file, 0, buf, UINT64_MAX, &got), -EINVAL);
    assert_int_equal(got, 7); /* written on success only */
    emmap_file_free(file);
    await_no_regions();
}

static void a_write_lies_within_or_is_refused_whole(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, FILE_BYTES);
    struct emmap_file *file = must_open(path, RW, 0);
    struct snapshot before = snapshot_of(path);
    assert_int_equal(emmap_file_write(file, FILE_BYTES - 1, "xy", 2), EMMAP_E_PAST_END);
    assert_int_equal(emmap_file_write(file, FILE_BYTES, "x", 1), EMMAP_E_PAST_END);
    assert_int_equal(emmap_file_write(file, INT64_MAX - 1, "x", 1), EMMAP_E_PAST_END);
    assert_int_equal(emmap_file_write(file, INT64_MAX, "x", 1), -EINVAL);
    assert_int_equal(emmap_file_write(file, UINT64_MAX, "x", 1), -EINVAL);
    assert_int_equal(emmap_file_write(file, 0, "x", INT64_MAX), EMMAP_E_PAST_END);
    assert_int_equal(emmap_file_write(file, 0, "x", UINT64_MAX), -EINVAL);
    assert_ok(emmap_file_write(file, FILE_BYTES, NULL, 0));
    assert_as_before(&before);
    assert_ok(emmap_file_write(file, FILE_BYTES - 2, "xy", 2));
    assert_int_equal(file_byte(path, FILE_BYTES - 1), 'y');
    emmap_file_free(file);
    await_no_regions();
}

static void any_range_is_copied_exactly(void **state) {
    (void)state;
    enum { MOST = 3000 };
    const char *path = support_path("f");
    uint8_t data[MOST], back[MOST + 2];
    uint64_t got;
    make_file(path, FILE_BYTES);
    struct emmap_file *file = must_open(path, RW, 0);
    for (uint64_t len = 0; len < MOST; len += 1 + len / 7) {
        const uint64_t off = 4096 - len / 2 + len % 9; /* over the edge of a page */
        memset(data, (int)len + 1, len);
        assert_ok(emmap_file_write(file, off, data, len));
        assert_ok(emmap_file_read(file, off - 1, back, len + 2, &got));
        assert_int_equal(got, len + 2);
        assert_memory_equal(back + 1, data, len);
        for (uint64_t i = 0; i < len; i++)
            data[i] = pattern(off + i);
        assert_ok(emmap_file_write(file, off, data, len));
        assert_int_equal(back[0], pattern(off - 1));
        assert_int_equal(back[len + 1], pattern(off + len));
    }
    emmap_file_free(file);
    await_no_regions();
}

/* file.h's calls, for schedulers that may not wait. */
static void calls_that_may_not_wait_answer_eagain_instead(void **state) {
    (void)state;
    const char *path = support_path("f");
    uint8_t byte;
    uint64_t got;
    const void *at;
    make_file(path, FILE_BYTES);
    struct emmap_file *file = must_open(path, RW, 0);
    assert_ok(file_write(file, false, 9, "x", 1));
    assert_ok(file_read(file, false, 9, &byte, 1, &got));
    assert_int_equal(byte, 'x');
    assert_ok(file_pointer(file, false, 9, 1, &at, &got));
    assert_int_equal(*(const uint8_t *)at, 'x');
    assert_ok(truncate(path, 0));
    assert_int_equal(file_read(file, false, 9, &byte, 1, &got), -EAGAIN);
    assert_int_equal(file_write(file, false, 9, "x", 1), -EAGAIN);
    assert_int_equal(file_pointer(file, false, 9, 1, &at, &got), -EAGAIN);
    assert_int_equal(read_byte(file, 9, &byte), EMMAP_E_TRUNCATED);
    emmap_file_free(file);
    await_no_regions();
}

/* ------------------------------------------------------------- options of the handle */

static void a_handle_for_reading_changes_nothing(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, FILE_BYTES);
    struct snapshot before = snapshot_of(path);
    for (uint32_t flags = 0; flags <= EMMAP_SHARED; flags += EMMAP_SHARED) {
        struct emmap_file *file = must_open(path, flags, 0);
        assert_int_equal(emmap_file_write(file, 0, "x", 1), -EACCES);
        assert_int_equal(emmap_file_write(file, 0, "", 0), -EACCES);
        assert_int_equal(emmap_file_resize(file, 100, NULL), -EACCES);
        assert_int_equal(emmap_file_resize(file, 20000, NULL), -EACCES);
        assert_int_equal(emmap_file_grow(file, NULL), -EACCES);
        assert_ok(emmap_file_flush(file));
        assert_ok(emmap_file_sync(file));
        emmap_file_free(file);
    }
    await_no_regions();
    assert_as_before(&before);
}

static void fixed_size_is_never_resized_but_follows_others(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, FILE_BYTES);
    struct emmap_file *file = must_open(path, RW | EMMAP_FIXED_SIZE, 0);
    assert_int_equal(emmap_file_resize(file, 20000, NULL), EMMAP_E_FIXED_SIZE);
    assert_int_equal(emmap_file_resize(file, 100, NULL), EMMAP_E_FIXED_SIZE);
    assert_int_equal(emmap_file_grow(file, NULL), EMMAP_E_FIXED_SIZE);
    assert_int_equal(file_bytes_of(path), FILE_BYTES);
    assert_true(info_of(file).address_space_bytes < 10 * page_bytes());
    struct emmap_file *other = must_open(path, RW, 0);
    assert_ok(emmap_file_resize(other, 1 << 20, NULL));
    uint8_t byte;
    assert_int_equal(read_byte(file, 1 << 19, &byte), -ENOMEM);
    emmap_file_free(file);
    emmap_file_free(other);
    await_no_regions();
}

static void sparse_takes_no_blocks(void **state) {
    (void)state;
    const char *path = support_path("f"), *full = support_path("g");
    struct emmap_file *file = must_open(path, RW | EMMAP_CREATE | EMMAP_SPARSE, 1 << 20);
    assert_true(file_blocks_of(path) * 512 < 1 << 16);
    assert_int_equal(info_of(file).space, EMMAP_SPACE_SPARSE);
    assert_ok(emmap_file_resize(file, 1 << 22, NULL));
    assert_true(file_blocks_of(path) * 512 < 1 << 16);
    assert_ok(emmap_file_write(file, 1 << 21, "x", 1));
    assert_int_equal(file_byte(path, 1 << 21), 'x');
    emmap_file_free(file);

    file = must_open(full, RW | EMMAP_CREATE, 1 << 20);
    if (SPACE_IS_RESERVED) {
        assert_true(file_blocks_of(full) * 512 >= 1 << 20);
        assert_int_not_equal(info_of(file).space, EMMAP_SPACE_SPARSE);
    }
    emmap_file_free(file);
    await_no_regions();
}

static void auto_unlink_deletes_at_close_or_free(void **state) {
    (void)state;
    const char *path = support_path("f");
    struct emmap_hold *hold;
    struct emmap_file *file = must_open(path, RW | EMMAP_CREATE | EMMAP_AUTO_UNLINK, 100);
    assert_ok(emmap_file_hold(file, &hold));
    assert_true(file_exists(path));
    assert_ok(emmap_file_close(file));
    assert_false(file_exists(path));
    make_file(path, 10); /* another file by now */
    emmap_file_free(file);
    emmap_file_unhold(hold);
    await_no_regions();
    assert_true(file_exists(path));
    emmap_file_free(must_open(path, EMMAP_SHARED | EMMAP_AUTO_UNLINK, 0));
    await_no_regions();
    assert_false(file_exists(path));
}

static void auto_unlink_spares_another_file_of_the_name(void **state) {
    (void)state;
    const char *path = support_path("f"), *moved = support_path("moved");
    struct emmap_file *file = must_open(path, RW | EMMAP_CREATE | EMMAP_AUTO_UNLINK, 100);
    assert_ok(rename(path, moved));
    make_file(path, 10);
    assert_ok(emmap_file_close(file));
    emmap_file_free(file);
    await_no_regions();
    assert_true(file_exists(path));
    assert_true(file_exists(moved));
}

static void auto_unlink_stands_a_name_that_is_gone(void **state) {
    (void)state;
    const char *path = support_path("f");
    struct emmap_file *file = must_open(path, RW | EMMAP_CREATE | EMMAP_AUTO_UNLINK, 100);
    assert_ok(unlink(path));
    assert_false(info_of(file).linked);
    assert_ok(emmap_file_write(file, 99, "x", 1)); /* it goes on without a name */
    assert_ok(emmap_file_resize(file, 9000, NULL));
    assert_ok(emmap_file_sync(file));
    assert_ok(emmap_file_close(file));
    emmap_file_free(file);
    await_no_regions();
}

static void a_file_that_was_renamed_is_not_linked(void **state) {
    (void)state;
    const char *path = support_path("f"), *other = support_path("g");
    struct emmap_file *file = must_open(path, RW | EMMAP_CREATE, 100);
    assert_true(info_of(file).linked);
    assert_ok(rename(path, other));
    assert_false(info_of(file).linked);
    make_file(path, 100); /* another one of that name */
    assert_false(info_of(file).linked);
    assert_ok(rename(other, path));
    assert_true(info_of(file).linked);
    emmap_file_free(file);
    await_no_regions();
}

static void info_tells_what_the_handle_is(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, FILE_BYTES);
    const struct emmap_file_options options = {
        .flags = RW, .off = 100, .address_space_bytes = 1 << 24};
    struct emmap_file *file;
    struct emmap_stats stats;
    assert_ok(emmap_file_open(&file, path, &options, NULL));
    const struct emmap_file_info info = info_of(file);
    assert_int_equal(info.size_bytes, FILE_BYTES - 100);
    assert_int_equal(info.off, 100);
    assert_int_equal(info.file_bytes, FILE_BYTES);
    assert_int_equal(info.allocated_bytes, file_blocks_of(path) * 512);
    assert_true(info.address_space_bytes >= 1 << 24);
    assert_int_equal(info.page_bytes, page_bytes());
    assert_int_equal(info.faults, 0);
    assert_int_equal(info.flags, RW);
    assert_true(info.linked);
    assert_int_equal(info.sync_error, 0);
    assert_string_equal(info.path, path);
    emmap_stats(&stats);
    assert_int_equal(stats.handles, 1);
    assert_int_equal(stats.regions, 1);
    assert_true(stats.mapped_bytes >= 1 << 24);
    emmap_file_free(file);
    await_no_regions();
}

/* ------------------------------------------------------------------------- what is refused */

static void a_write_of_nothing_far_out_grows_nothing(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, FILE_BYTES);
    struct emmap_file *file = must_open(path, RW | EMMAP_EXTEND, 0);
    assert_ok(emmap_file_write(file, 5 * FILE_BYTES, "", 0));
    assert_int_equal(emmap_file_write(file, UINT64_MAX, "", 0), -EINVAL);
    assert_int_equal(file_bytes_of(path), FILE_BYTES);
    assert_ok(emmap_file_close(file));
    assert_int_equal(emmap_file_write(file, 5 * FILE_BYTES, "", 0), EMMAP_E_CLOSED);
    emmap_file_free(file);
    await_no_regions();
}

static void allocate_wants_a_length_and_a_map_for_writing(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, FILE_BYTES);
    struct emmap_file *file = must_open(path, RW, 0), *shown = must_open(path, EMMAP_SHARED, 0);
    assert_int_equal(file_allocate(file, 0, 0), -EINVAL);
    assert_int_equal(file_allocate(shown, 0, 10), -EACCES);
    if (SPACE_IS_RESERVED) assert_ok(file_allocate(file, 0, 10));
    emmap_file_free(file);
    emmap_file_free(shown);
    await_no_regions();
}

static void count_handle(void *ctx, struct emmap_file *file) {
    unsigned *n = ctx;
    assert_non_null(file);
    ++*n;
}

static void each_open_handle_is_seen(void **state) {
    (void)state;
    const char *path = support_path("f");
    unsigned n = 0;
    make_file(path, FILE_BYTES);
    struct emmap_file *one = must_open(path, RW, 0), *two = must_open(path, RW, 0);
    assert_ok(emmap_file_close(two));
    file_each(count_handle, &n);
    assert_int_equal(n, 1);
    emmap_file_free(one);
    emmap_file_free(two);
    await_no_regions();
}

static void large_writes_without_a_lock_arrive(void **state) {
    (void)state;
    enum { LARGE = 3 << 20 };
    const char *path = support_path("f");
    uint8_t *bytes = malloc(LARGE), *back = malloc(LARGE);
    uint64_t got;
    assert_non_null(bytes);
    assert_non_null(back);
    for (uint64_t i = 0; i < LARGE; i++)
        bytes[i] = pattern(i);
    struct emmap_file *file = must_open(path, RW | EMMAP_CREATE | EMMAP_NOLOCK, LARGE);
    assert_ok(emmap_file_write(file, 0, bytes, LARGE));
    assert_ok(emmap_file_read(file, 0, back, LARGE, &got));
    assert_int_equal(got, LARGE);
    assert_memory_equal(bytes, back, LARGE);
    emmap_file_free(file);
    free(bytes);
    free(back);
    await_no_regions();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(shared_write_reaches_the_file_and_other_handles),
        TEST(what_others_write_is_read),
        TEST(a_read_is_cut_at_the_end),
        TEST(a_write_lies_within_or_is_refused_whole),
        TEST(any_range_is_copied_exactly),
        TEST(calls_that_may_not_wait_answer_eagain_instead),
        TEST(a_handle_for_reading_changes_nothing),
        TEST(fixed_size_is_never_resized_but_follows_others),
        TEST(sparse_takes_no_blocks),
        TEST(auto_unlink_deletes_at_close_or_free),
        TEST(auto_unlink_spares_another_file_of_the_name),
        TEST(auto_unlink_stands_a_name_that_is_gone),
        TEST(a_file_that_was_renamed_is_not_linked),
        TEST(info_tells_what_the_handle_is),
        TEST(a_write_of_nothing_far_out_grows_nothing),
        TEST(allocate_wants_a_length_and_a_map_for_writing),
        TEST(each_open_handle_is_seen),
        TEST(large_writes_without_a_lock_arrive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
