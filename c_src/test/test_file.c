/* test_file.c -- a mapped file on a real file: bytes, size, bad input. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test/support.h"

enum { KB = 1024 };
static const uint32_t RW = EMMAP_SHARED | EMMAP_WRITE;

static int open_rc(const char *path, uint32_t flags, uint64_t off, uint64_t len_bytes) {
    const struct emmap_file_options options = {.flags = flags, .off = off, .len_bytes = len_bytes};
    struct emmap_file *file = NULL;
    const int rc = emmap_file_open(&file, path, &options, NULL);
    if (rc == 0) emmap_file_free(file);
    return rc;
}

static void shared_write_reaches_the_file_and_other_handles(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, 10000);
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

static void truncation_under_the_map_is_an_error(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, 100 * KB);
    struct emmap_file *a = must_open(path, RW, 0);
    uint8_t byte;
    uint64_t got;
    assert_int_equal(truncate(path, 5000), 0);
    assert_int_equal(emmap_file_read(a, 50 * KB, &byte, 1, &got), EMMAP_E_TRUNCATED);
    assert_int_equal(emmap_file_size(a), 5000);
    assert_int_equal(emmap_file_read(a, 50 * KB, &byte, 1, &got), EMMAP_E_PAST_END);
    assert_int_equal(emmap_file_read(a, 4999, &byte, 1, &got), 0);
    assert_int_equal(byte, pattern(4999));
    assert_int_equal(truncate(path, 100 * KB), 0);
    assert_int_equal(emmap_file_write(a, 50 * KB, "x", 1), 0);
    assert_int_equal(file_byte(path, 50 * KB), 'x');
    emmap_file_free(a);
    await_no_regions();
}

static void create_makes_the_length_asked_for(void **state) {
    (void)state;
    const char *path = support_path("new");
    assert_int_equal(open_rc(path, RW, 0, 100), -ENOENT);
    assert_int_equal(open_rc(path, RW | EMMAP_CREATE, 0, 0), EMMAP_E_SIZE_MISSING);
    assert_false(file_exists(path));
    assert_int_equal(open_rc(path, RW | EMMAP_CREATE, 0, 12345), 0);
    assert_int_equal(file_bytes_of(path), 12345);
    if (SPACE_IS_RESERVED) assert_true(file_blocks_of(path) * 512 >= 12345);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, support_setup, support_teardown)
        TEST(shared_write_reaches_the_file_and_other_handles),
        TEST(truncation_under_the_map_is_an_error),
        TEST(create_makes_the_length_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
