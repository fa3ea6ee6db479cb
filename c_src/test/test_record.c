/* test_record.c -- the recorder is shown what would reach the disk, in its order. */
#include <string.h>

#include "os/os.h"
#include "test/support.h"

enum { FILE_BYTES = 10000, MOST = 16 };

struct record {
    struct os_event events[MOST];
    unsigned count;
    const uint8_t *watched; /* the byte as it was when its store was told of */
    uint8_t seen;
};

static void note(void *ctx, const struct os_event *event) {
    struct record *record = ctx;
    MUST(record->count < MOST);
    if (record->watched && event->kind == OS_EVENT_COPY) record->seen = *record->watched;
    record->events[record->count++] = *event;
}

static void a_write_a_resize_and_a_sync_are_seen_in_order(void **state) {
    (void)state;
    const char *path = support_path("f");
    struct record record = {.count = 0};
    const void *at;
    uint64_t got;
    make_file(path, FILE_BYTES);
    struct emmap_file *file = must_open(path, RW, 0);
    assert_ok(emmap_file_pointer(file, 5000, 1, &at, &got));
    record.watched = at;

    os_record_to(note, &record);
    assert_ok(emmap_file_write(file, 5000, "hello", 5));
    assert_ok(emmap_file_resize(file, 20000, NULL));
    assert_ok(emmap_file_sync(file));
    assert_ok(emmap_file_sync_range(file, 5000, 5));
    assert_ok(emmap_file_resize(file, 5000, NULL));
    os_record_to(NULL, NULL);
    assert_ok(emmap_file_write(file, 0, "x", 1)); /* no longer shown */

    const struct os_event *e = record.events;
    assert_int_equal(record.count, 6);
    assert_int_equal(e[0].kind, OS_EVENT_COPY);
    assert_ptr_equal(e[0].addr, at);
    assert_int_equal(e[0].len_bytes, 5);
    assert_int_equal(e[0].fd, -1);
    assert_int_equal(record.seen, pattern(5000)); /* shown before it happens */
    assert_int_equal(e[1].kind, OS_EVENT_SIZE);
    assert_int_equal(e[1].off, 20000);
    assert_int_equal(e[2].kind, OS_EVENT_SYNC);
    assert_int_equal(e[2].fd, e[1].fd);
    assert_int_equal(e[2].len_bytes, UINT64_MAX);
    assert_int_equal(e[3].kind, OS_EVENT_SYNC_PARENT); /* with the first one */
    assert_int_equal(e[4].kind, OS_EVENT_SYNC);
    assert_true(e[4].off <= 5000 && e[4].off + e[4].len_bytes >= 5005);
    assert_int_equal(e[5].kind, OS_EVENT_SIZE);
    assert_int_equal(e[5].off, 5000);
    emmap_file_free(file);
    await_no_regions();
}

static void what_fails_is_not_shown(void **state) {
    (void)state;
    const char *path = support_path("f");
    struct record record = {.count = 0};
    make_file(path, FILE_BYTES);
    struct emmap_file *file = must_open(path, EMMAP_SHARED, 0);
    struct emmap_file *writer = must_open(path, RW, 0);
    os_record_to(note, &record);
    assert_true(emmap_file_write(file, 0, "x", 1) < 0);
    assert_true(emmap_file_write(writer, FILE_BYTES, "x", 1) < 0);
    os_fail_at(OS_CALL_SYNC, 1, 5, 0);
    assert_true(emmap_file_sync(writer) < 0);
    os_fail_at(OS_CALL_TRUNCATE, 1, 5, 0);
    assert_true(emmap_file_resize(writer, 10, NULL) < 0);
    os_fail_never();
    os_record_to(NULL, NULL);
    assert_int_equal(record.count, 0);
    emmap_file_free(file);
    emmap_file_free(writer);
    await_no_regions();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_write_a_resize_and_a_sync_are_seen_in_order),
        TEST(what_fails_is_not_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
