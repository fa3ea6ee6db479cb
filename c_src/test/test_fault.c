/* test_fault.c -- the file is truncated under the map: every call answers, nothing dies, and what
 * comes back heals. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/os.h"
#include "test/support.h"

enum { PAGES = 25, CUT = 5000 };

static uint64_t page;

/* A file of PAGES pages with a handle. */
static char path[512];
static struct emmap_file *file;

static void open_pages(void) {
    page = page_bytes();
    strcpy(path, support_path("f"));
    make_file(path, PAGES * page);
    file = must_open(path, RW, 0);
}

static int close_pages(void **state) {
    emmap_file_free(file);
    file = NULL;
    await_no_regions();
    return support_teardown(state);
}

static void cut_to(uint64_t len_bytes) {
    assert_ok(truncate(path, (off_t)len_bytes));
}

static void read_answers_truncated_then_past_the_end(void **state) {
    (void)state;
    open_pages();
    uint8_t byte;
    cut_to(CUT);
    assert_int_equal(read_byte(file, 12 * page, &byte), EMMAP_E_TRUNCATED);
    assert_int_equal(emmap_file_size(file), CUT);
    assert_int_equal(read_byte(file, 12 * page, &byte), EMMAP_E_PAST_END);
    assert_ok(read_byte(file, CUT - 1, &byte));
    assert_int_equal(byte, pattern(CUT - 1));
}

static void write_answers_truncated_and_leaves_the_size(void **state) {
    (void)state;
    open_pages();
    cut_to(CUT);
    assert_int_equal(emmap_file_write(file, 12 * page, "x", 1), EMMAP_E_TRUNCATED);
    assert_int_equal(emmap_file_write(file, 12 * page, "x", 1), EMMAP_E_PAST_END);
    assert_int_equal(file_bytes_of(path), CUT);
    assert_ok(emmap_file_write(file, 100, "x", 1));
    assert_int_equal(file_byte(path, 100), 'x');
}

static void a_range_that_is_cut_in_part_is_truncated_then_short(void **state) {
    (void)state;
    open_pages();
    uint8_t *buf = malloc(PAGES * page);
    uint64_t got = 0;
    cut_to(CUT);
    assert_int_equal(emmap_file_read(file, 0, buf, PAGES * page, &got), EMMAP_E_TRUNCATED);
    assert_ok(emmap_file_read(file, 0, buf, PAGES * page, &got));
    assert_int_equal(got, CUT);
    assert_true(is_pattern(buf, 0, CUT));
    free(buf);
}

static void a_write_that_is_cut_in_part_does_not_stretch_the_file(void **state) {
    (void)state;
    open_pages();
    uint8_t *data = calloc(PAGES, page);
    cut_to(CUT);
    assert_int_equal(emmap_file_write(file, 0, data, PAGES * page), EMMAP_E_TRUNCATED);
    assert_int_equal(file_bytes_of(path), CUT);
    free(data);
}

static void a_held_pointer_reads_zeros(void **state) {
    (void)state;
    open_pages();
    struct emmap_hold *hold;
    const void *at;
    uint64_t got;
    assert_ok(emmap_file_hold(file, &hold));
    assert_ok(emmap_file_pointer(file, 0, PAGES * page, &at, &got));
    assert_int_equal(got, PAGES * page);
    assert_true(is_pattern(at, 0, got));
    cut_to(page);
    assert_true(is_pattern(at, 0, page));
    assert_true(is_zero((const uint8_t *)at + page, got - page));
    assert_ok(emmap_file_close(file));
    cut_to(0);
    assert_true(is_zero(at, got));
    emmap_file_unhold(hold);
}

static void pointer_answers_truncated_after_a_fault(void **state) {
    (void)state;
    open_pages();
    const void *at;
    uint64_t got;
    assert_ok(emmap_file_pointer(file, 12 * page, page, &at, &got));
    cut_to(CUT);
    assert_true(is_zero(at, page));
    assert_int_equal(emmap_file_pointer(file, 12 * page, 1, &at, &got), EMMAP_E_TRUNCATED);
    assert_int_equal(emmap_file_pointer(file, 12 * page, 1, &at, &got), EMMAP_E_PAST_END);
    assert_ok(emmap_file_pointer(file, 0, PAGES * page, &at, &got));
    assert_int_equal(got, CUT);
}

static void touch_what_was_cut(void) {
    uint8_t byte;
    cut_to(CUT);
    assert_int_equal(read_byte(file, 12 * page, &byte), EMMAP_E_TRUNCATED);
}

static void resize_grows_what_was_cut(void **state) {
    (void)state;
    open_pages();
    uint64_t now;
    uint8_t byte;
    touch_what_was_cut();
    assert_ok(emmap_file_resize(file, 2 * PAGES * page, &now));
    assert_int_equal(now, 2 * PAGES * page);
    assert_int_equal(file_bytes_of(path), now);
    assert_ok(read_byte(file, 12 * page, &byte));
    assert_int_equal(byte, 0);
    assert_ok(emmap_file_write(file, now - 1, "x", 1));
    assert_int_equal(file_byte(path, now - 1), 'x');
    assert_ok(read_byte(file, CUT - 1, &byte));
    assert_int_equal(byte, pattern(CUT - 1));
}

static void resize_of_a_cut_file_that_nobody_touched(void **state) {
    (void)state;
    open_pages();
    uint64_t now;
    cut_to(CUT);
    assert_ok(emmap_file_resize(file, 10 * page, &now));
    assert_int_equal(now, 10 * page);
    assert_int_equal(file_bytes_of(path), 10 * page);
    assert_ok(emmap_file_write(file, 10 * page - 1, "x", 1));
}

static void flush_and_syncs_of_a_cut_file_succeed(void **state) {
    (void)state;
    open_pages();
    assert_ok(emmap_file_write(file, 12 * page, "x", 1)); /* a dirty page to be lost */
    cut_to(CUT);
    assert_ok(emmap_file_flush(file));
    assert_ok(emmap_file_sync_range(file, 11 * page, 3 * page));
    assert_ok(emmap_file_sync(file));
    uint8_t byte;
    assert_int_equal(read_byte(file, 12 * page, &byte), EMMAP_E_PAST_END);
    cut_to(PAGES * page);
    cut_to(0);
    assert_ok(emmap_file_flush(file));
    assert_ok(emmap_file_sync_range(file, 0, UINT64_MAX >> 1));
    assert_ok(emmap_file_sync(file));
}

static void info_tells_of_the_cut(void **state) {
    (void)state;
    open_pages();
    touch_what_was_cut();
    const struct emmap_file_info info = info_of(file);
    assert_int_equal(info.size_bytes, CUT);
    assert_int_equal(info.file_bytes, CUT);
    assert_int_equal(info.faults, 1);
    cut_to(100);
    assert_int_equal(info_of(file).size_bytes, 100); /* seen without a touch */
    assert_int_equal(emmap_file_size(file), 100);
}

static void a_cut_inside_a_page_leaves_that_page_in_reach(void **state) {
    (void)state;
    open_pages();
    uint8_t buf[256];
    uint64_t got;
    cut_to(12 * page + 100);
    assert_ok(emmap_file_read(file, 12 * page, buf, sizeof buf, &got));
    assert_true(is_pattern(buf, 12 * page, 100));
    assert_true(is_zero(buf + 100, got - 100));
    assert_int_equal(emmap_file_write(file, 13 * page, "x", 1), EMMAP_E_TRUNCATED);
    assert_ok(emmap_file_read(file, 12 * page, buf, sizeof buf, &got));
    assert_int_equal(got, 100);
}

static void heals_when_the_file_covers_the_range_again(void **state) {
    (void)state;
    open_pages();
    uint8_t byte;
    touch_what_was_cut();
    cut_to(PAGES * page);
    assert_ok(read_byte(file, 12 * page, &byte));
    assert_int_equal(byte, 0);
    assert_ok(emmap_file_write(file, 12 * page, "x", 1));
    assert_int_equal(file_byte(path, 12 * page), 'x');
    assert_ok(emmap_file_write(file, PAGES * page - 1, "y", 1));
    assert_int_equal(file_byte(path, PAGES * page - 1), 'y');
    assert_ok(read_byte(file, CUT - 1, &byte));
    assert_int_equal(byte, pattern(CUT - 1));
}

static void heals_by_what_others_write(void **state) {
    (void)state;
    open_pages();
    uint8_t byte;
    touch_what_was_cut();
    make_file(path, PAGES * page);
    assert_ok(read_byte(file, 12 * page, &byte));
    assert_int_equal(byte, pattern(12 * page));
}

/* One fault for a whole tail, however many pages it has: there are 65,530 maps to a process. */
static void one_fault_answers_for_many_pages(void **state) {
    (void)state;
    open_pages();
    enum { MANY = 40000 };
    uint8_t *buf = malloc(MANY * page);
    uint64_t got, now;
    assert_ok(emmap_file_resize(file, MANY * page, &now));
    cut_to(0);
    assert_int_equal(emmap_file_read(file, 0, buf, MANY * page, &got), EMMAP_E_TRUNCATED);
    assert_int_equal(info_of(file).faults, 1);
    free(buf);
}

static void cut_and_healed_a_thousand_times(void **state) {
    (void)state;
    open_pages();
    uint8_t byte;
    for (unsigned i = 0; i < 1000; i++) {
        cut_to(page);
        assert_int_equal(read_byte(file, 12 * page, &byte), EMMAP_E_TRUNCATED);
        cut_to(PAGES * page);
        assert_ok(emmap_file_write(file, 12 * page, "x", 1));
    }
    assert_int_equal(file_byte(path, 12 * page), 'x');
    assert_int_equal(info_of(file).faults, 1000);
}

/* Each cut lies below the one before, and is touched: more ranges than are noted one by one. */
static void more_cuts_than_ranges_are_noted(void **state) {
    (void)state;
    open_pages();
    enum { MANY = 200 };
    const void *at;
    uint64_t got;
    uint8_t byte;
    make_file(path, MANY * page);
    assert_ok(emmap_file_pointer(file, 0, MANY * page, &at, &got));
    for (uint64_t n = MANY; n > 0; n--) {
        const volatile uint8_t *base = at;
        cut_to((n - 1) * page);
        assert_int_equal(base[(n - 1) * page], 0);
    }
    const int rc = read_byte(file, 3 * page, &byte);
    assert_true(rc == EMMAP_E_TRUNCATED || rc == EMMAP_E_PAST_END);
    make_file(path, MANY * page);
    uint8_t *buf = malloc(MANY * page);
    assert_ok(emmap_file_read(file, 0, buf, MANY * page, &got));
    assert_int_equal(got, MANY * page);
    assert_true(is_pattern(buf, 0, got));
    free(buf);
    assert_ok(emmap_file_write(file, 150 * page, "x", 1));
    assert_int_equal(file_byte(path, 150 * page), 'x');
}

static void a_fault_concerns_one_handle_only(void **state) {
    (void)state;
    open_pages();
    const char *other = support_path("other");
    make_file(other, PAGES * page);
    struct emmap_file *whole = must_open(other, RW, 0);
    struct emmap_file *again = must_open(path, EMMAP_SHARED, 0);
    uint8_t byte;
    touch_what_was_cut();
    assert_ok(read_byte(whole, 12 * page, &byte));
    assert_int_equal(info_of(whole).faults, 0);
    assert_int_equal(read_byte(again, 12 * page, &byte), EMMAP_E_PAST_END);
    assert_int_equal(info_of(again).faults, 0);
    emmap_file_free(whole);
    emmap_file_free(again);
}

/* Bytes that were acknowledged may not stay behind in memory because another page has faulted. */
static void sync_range_after_a_fault_reaches_the_disk(void **state) {
    (void)state;
    open_pages();
    const void *at;
    uint64_t got;
    assert_ok(emmap_file_write(file, 12 * page, "x", 1));
    assert_ok(emmap_file_pointer(file, 20 * page, 1, &at, &got));
    cut_to(12 * page + 1);
    assert_int_equal(*(const volatile uint8_t *)at, 0);
    cut_to(0);
    assert_int_equal(*(const volatile uint8_t *)((const uint8_t *)at - 8 * page), 0);
    cut_to(PAGES * page);
    struct emmap_file *other = must_open(path, RW, 0);
    assert_ok(emmap_file_write(other, 12 * page, "y", 1));
    os_fail_never();
    assert_ok(emmap_file_sync_range(file, 12 * page, 1)); /* its own pages are zeros still */
    assert_int_equal(os_fail_seen(OS_CALL_SYNC), 1);
    emmap_file_free(other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define PAGES_TEST(name) cmocka_unit_test_setup_teardown(name, support_setup, close_pages)
        PAGES_TEST(read_answers_truncated_then_past_the_end),
        PAGES_TEST(write_answers_truncated_and_leaves_the_size),
        PAGES_TEST(a_range_that_is_cut_in_part_is_truncated_then_short),
        PAGES_TEST(a_write_that_is_cut_in_part_does_not_stretch_the_file),
        PAGES_TEST(a_held_pointer_reads_zeros),
        PAGES_TEST(pointer_answers_truncated_after_a_fault),
        PAGES_TEST(resize_grows_what_was_cut),
        PAGES_TEST(resize_of_a_cut_file_that_nobody_touched),
        PAGES_TEST(flush_and_syncs_of_a_cut_file_succeed),
        PAGES_TEST(info_tells_of_the_cut),
        PAGES_TEST(a_cut_inside_a_page_leaves_that_page_in_reach),
        PAGES_TEST(heals_when_the_file_covers_the_range_again),
        PAGES_TEST(heals_by_what_others_write),
        PAGES_TEST(one_fault_answers_for_many_pages),
        PAGES_TEST(cut_and_healed_a_thousand_times),
        PAGES_TEST(more_cuts_than_ranges_are_noted),
        PAGES_TEST(a_fault_concerns_one_handle_only),
        PAGES_TEST(sync_range_after_a_fault_reaches_the_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
