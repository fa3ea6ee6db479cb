/* test_file.c -- a mapped file on a real file: bytes, size, bad input. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test/support.h"

enum { KB = 1024 };

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
        TEST(shared_write_reaches_the_file_and_other_handles),
        TEST(create_makes_the_length_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
