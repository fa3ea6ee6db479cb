/* test_private.c -- a private map: its changes and its size are its own. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "os/os.h"
#include "test/support.h"

enum { FILE_BYTES = 10000 };

static void assert_zeros(struct emmap_file *file, uint64_t from, uint64_t to) {
    uint8_t *buf = malloc(to - from);
    uint64_t got;
    assert_ok(emmap_file_read(file, from, buf, to - from, &got));
    assert_int_equal(got, to - from);
    assert_true(is_zero(buf, got));
    free(buf);
}

static void no_call_changes_the_file(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, FILE_BYTES);
    struct snapshot before = snapshot_of(path);
    struct emmap_file *file = must_open(path, EMMAP_WRITE, 0);
    struct emmap_file *other = must_open(path, EMMAP_WRITE, 0);
    uint8_t byte;
    assert_ok(emmap_file_write(file, 5000, "mine", 4));
    assert_ok(read_byte(file, 5000, &byte));
    assert_int_equal(byte, 'm');
    assert_ok(read_byte(other, 5000, &byte));
    assert_int_equal(byte, pattern(5000));
    assert_ok(emmap_file_resize(file, 50000, NULL));
    assert_ok(emmap_file_write(file, 49999, "x", 1));
    assert_ok(emmap_file_grow(file, NULL));
    assert_ok(emmap_file_resize(file, 100, NULL));
    assert_ok(emmap_file_flush(file));
    assert_ok(emmap_file_sync(file));
    assert_ok(emmap_file_sync_range(file, 0, 100));
    assert_ok(emmap_file_close(file));
    emmap_file_free(file);
    emmap_file_free(other);
    await_no_regions();
    assert_as_before(&before);
}

static void open_makes_and_stretches_the_file_as_asked(void **state) {
    (void)state;
    const char *path = support_path("f");
    struct emmap_file *file = must_open(path, EMMAP_WRITE | EMMAP_CREATE, 5000);
    assert_int_equal(file_bytes_of(path), 5000);
    emmap_file_free(file);
    file = must_open(path, EMMAP_WRITE | EMMAP_FIT, 20000);
    assert_int_equal(file_bytes_of(path), 20000);
    assert_ok(emmap_file_write(file, 19999, "x", 1));
    assert_int_equal(file_byte(path, 19999), 0);
    emmap_file_free(file);
    await_no_regions();
}

static void growth_adds_zeros_in_place(void **state) {
    (void)state;
    const char *path = support_path("f");
    const void *at, *then;
    uint64_t got, now;
    make_file(path, FILE_BYTES);
    struct emmap_file *file = must_open(path, EMMAP_WRITE, 0);
    assert_ok(emmap_file_pointer(file, 0, 1, &at, &got));
    assert_ok(emmap_file_write(file, 0, "mine", 4));
    assert_ok(emmap_file_resize(file, 10 << 20, &now));
    assert_int_equal(now, 10 << 20);
    assert_int_equal(emmap_file_size(file), 10 << 20);
    assert_zeros(file, FILE_BYTES, now);
    assert_ok(emmap_file_write(file, now - 1, "x", 1));
    assert_ok(emmap_file_pointer(file, 0, 1, &then, &got));
    assert_ptr_equal(at, then);
    assert_int_equal(*(const uint8_t *)at, 'm');
    assert_true(is_pattern((const uint8_t *)at + 4, 4, FILE_BYTES - 4));
    assert_int_equal(((const uint8_t *)at)[now - 1], 'x');
    emmap_file_free(file);
    await_no_regions();
}

static void what_was_cut_off_comes_back_as_zeros(void **state) {
    (void)state;
    static const uint64_t sizes[] = {0, 1, 100, 4096, 5000, 8192, 9999};
    const char *path = support_path("f");
    make_file(path, FILE_BYTES);
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint8_t byte;
        struct emmap_file *file = must_open(path, EMMAP_WRITE, 0);
        assert_ok(emmap_file_resize(file, 50000, NULL));
        assert_ok(emmap_file_write(file, 40000, "x", 1));
        assert_ok(emmap_file_resize(file, sizes[i], NULL));
        assert_int_equal(read_byte(file, sizes[i], &byte), EMMAP_E_PAST_END);
        assert_ok(emmap_file_resize(file, 60000, NULL));
        assert_zeros(file, sizes[i], 60000);
        if (sizes[i] > 0) {
            assert_ok(read_byte(file, sizes[i] - 1, &byte));
            assert_int_equal(byte, pattern(sizes[i] - 1));
        }
        emmap_file_free(file);
    }
    await_no_regions();
}

static void growth_by_others_is_not_its_own(void **state) {
    (void)state;
    const char *path = support_path("f");
    uint8_t byte;
    make_file(path, FILE_BYTES);
    struct emmap_file *file = must_open(path, EMMAP_WRITE, 0);
    struct emmap_file *shared = must_open(path, RW, 0);
    assert_ok(emmap_file_resize(shared, 50000, NULL));
    assert_ok(emmap_file_write(shared, FILE_BYTES, "theirs", 6));
    assert_ok(emmap_file_write(shared, 40000, "theirs", 6));
    assert_int_equal(read_byte(file, FILE_BYTES, &byte), EMMAP_E_PAST_END);
    assert_int_equal(emmap_file_write(file, FILE_BYTES, "x", 1), EMMAP_E_PAST_END);
    assert_int_equal(info_of(file).size_bytes, FILE_BYTES);
    assert_int_equal(info_of(file).file_bytes, 50000);
    assert_ok(emmap_file_resize(file, 50000, NULL));
    assert_zeros(file, FILE_BYTES, 50000);
    emmap_file_free(file);
    emmap_file_free(shared);
    await_no_regions();
}

static void growth_beyond_the_address_space_is_enomem(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, FILE_BYTES);
    struct emmap_file *file = must_open(path, EMMAP_WRITE, 0);
    const uint64_t space = info_of(file).address_space_bytes;
    assert_int_equal(emmap_file_resize(file, space + 1, NULL), -ENOMEM);
    assert_int_equal(emmap_file_size(file), FILE_BYTES);
    emmap_file_free(file);
    await_no_regions();
}

static void truncation_by_others_is_told_but_own_memory_stays(void **state) {
    (void)state;
    const char *path = support_path("f");
    const uint64_t page = page_bytes();
    uint8_t byte;
    make_file(path, 10 * page);
    struct emmap_file *file = must_open(path, EMMAP_WRITE, 0);
    assert_ok(emmap_file_resize(file, 20 * page, NULL));
    assert_ok(emmap_file_write(file, 0, "mine", 4));
    assert_ok(emmap_file_write(file, 15 * page, "mine", 4));
    assert_ok(truncate(path, (off_t)(2 * page)));
    assert_int_equal(read_byte(file, 5 * page, &byte), EMMAP_E_TRUNCATED);
    assert_int_equal(emmap_file_write(file, 5 * page, "x", 1), EMMAP_E_TRUNCATED);
    assert_int_equal(emmap_file_size(file), 20 * page);
    assert_ok(read_byte(file, 0, &byte));
    assert_int_equal(byte, 'm');
    assert_ok(read_byte(file, 15 * page, &byte));
    assert_int_equal(byte, 'm');
    assert_ok(emmap_file_write(file, 20 * page - 1, "x", 1));
    /* Shrinking to what is left and growing again makes the rest its own. */
    assert_ok(emmap_file_resize(file, 2 * page, NULL));
    assert_ok(emmap_file_resize(file, 10 * page, NULL));
    assert_zeros(file, 2 * page, 10 * page);
    assert_int_equal(file_bytes_of(path), 2 * page);
    emmap_file_free(file);
    await_no_regions();
}

static void a_truncated_range_heals_to_what_the_file_has_then(void **state) {
    (void)state;
    const char *path = support_path("f");
    const uint64_t page = page_bytes();
    uint8_t byte;
    make_file(path, 10 * page);
    struct emmap_file *file = must_open(path, EMMAP_WRITE, 0);
    assert_ok(emmap_file_write(file, 0, "mine", 4));
    assert_ok(truncate(path, (off_t)(2 * page)));
    assert_int_equal(read_byte(file, 5 * page, &byte), EMMAP_E_TRUNCATED);
    assert_ok(truncate(path, (off_t)(10 * page)));
    assert_ok(read_byte(file, 5 * page, &byte));
    assert_int_equal(byte, 0);
    assert_ok(emmap_file_write(file, 5 * page, "x", 1));
    assert_ok(read_byte(file, 0, &byte));
    assert_int_equal(byte, 'm');
    assert_int_equal(file_byte(path, 5 * page), 0);
    emmap_file_free(file);
    await_no_regions();
}

static void a_fault_that_cannot_ask_for_the_size_takes_one_page(void **state) {
    (void)state;
    const char *path = support_path("f");
    const uint64_t page = page_bytes();
    uint8_t byte;
    make_file(path, 10 * page);
    struct emmap_file *file = must_open(path, EMMAP_WRITE, 0);
    assert_ok(emmap_file_write(file, 0, "mine", 4));
    assert_ok(truncate(path, (off_t)(2 * page)));
    os_fail_at(OS_CALL_FSTAT, 1, EIO, 0);
    assert_int_equal(read_byte(file, 5 * page, &byte), EMMAP_E_TRUNCATED);
    os_fail_never();
    assert_ok(read_byte(file, 0, &byte));
    assert_int_equal(byte, 'm');
    emmap_file_free(file);
    await_no_regions();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(no_call_changes_the_file),
        TEST(open_makes_and_stretches_the_file_as_asked),
        TEST(growth_adds_zeros_in_place),
        TEST(what_was_cut_off_comes_back_as_zeros),
        TEST(growth_by_others_is_not_its_own),
        TEST(growth_beyond_the_address_space_is_enomem),
        TEST(truncation_by_others_is_told_but_own_memory_stays),
        TEST(a_truncated_range_heals_to_what_the_file_has_then),
        TEST(a_fault_that_cannot_ask_for_the_size_takes_one_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
