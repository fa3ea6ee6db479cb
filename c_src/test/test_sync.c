/* test_sync.c -- a sync that fails is never passed over; a file that was made is synced by name. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "os/os.h"
#include "store/file.h"
#include "test/support.h"

enum { FILE_BYTES = 10000 };

static void a_failed_sync_stays_failed_until_all_handles_are_closed(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, FILE_BYTES);
    struct emmap_file *a = must_open(path, RW, 0);
    struct emmap_file *b = must_open(path, RW, 0);
    os_fail_at(OS_CALL_SYNC, 1, EDQUOT, 0);
    assert_int_equal(emmap_file_sync(a), EMMAP_E_SYNC_FAILED);
    os_fail_at(OS_CALL_SYNC, 1, EIO, 0);
    assert_int_equal(emmap_file_sync(a), EMMAP_E_SYNC_FAILED);
    os_fail_never();
    assert_int_equal(emmap_file_sync(a), EMMAP_E_SYNC_FAILED);
    assert_int_equal(emmap_file_sync(b), EMMAP_E_SYNC_FAILED);
    assert_int_equal(emmap_file_sync_range(b, 0, 1), EMMAP_E_SYNC_FAILED);
    assert_int_equal(emmap_file_sync_error(b), -EDQUOT);
    assert_int_equal(info_of(b).sync_error, -EDQUOT);
    assert_ok(emmap_file_write(a, 0, "x", 1)); /* what promises no disk goes on */
    assert_ok(emmap_file_resize(a, 20000, NULL));
    emmap_file_free(a);
    await_regions(1);
    a = must_open(path, RW, 0);
    assert_int_equal(emmap_file_sync(a), EMMAP_E_SYNC_FAILED);
    emmap_file_free(a);
    emmap_file_free(b);
    await_no_regions();
    a = must_open(path, RW, 0);
    assert_ok(emmap_file_sync(a));
    assert_int_equal(info_of(a).sync_error, 0);
    emmap_file_free(a);
    await_no_regions();
}

static void sync_of_a_made_file_includes_its_directory_entry(void **state) {
    (void)state;
    const char *path = support_path("new");
    struct emmap_file *file = must_open(path, RW | EMMAP_CREATE, FILE_BYTES);
    os_fail_never();
    assert_ok(emmap_file_sync(file));
    assert_int_equal(os_fail_seen(OS_CALL_SYNC_PARENT), 1);
    assert_ok(emmap_file_sync(file)); /* once is enough */
    assert_int_equal(os_fail_seen(OS_CALL_SYNC_PARENT), 1);
    emmap_file_free(file);
    await_no_regions();
    assert_ok(unlink(path));
    file = must_open(path, RW | EMMAP_CREATE, FILE_BYTES);
    os_fail_at(OS_CALL_SYNC_PARENT, 1, EIO, 0);
    assert_int_equal(emmap_file_sync_range(file, 0, 1), -EIO);
    os_fail_never();
    assert_ok(emmap_file_sync_range(file, 0, 1)); /* the data was never in doubt */
    emmap_file_free(file);
    await_no_regions();
}

/* Who made it may not have come to that yet. It is the folder of the file, not of a link to it. */
static const char *folder_synced;
static char folder_seen[512];
static void see_folder(void *ctx, const struct os_event *event) {
    (void)ctx;
    if (event->kind != OS_EVENT_SYNC_PARENT) return;
    snprintf(folder_seen, sizeof folder_seen, "%s", event->path);
    folder_synced = folder_seen;
}

static void the_first_sync_of_a_handle_includes_the_directory_entry(void **state) {
    (void)state;
    char path[512];
    strcpy(path, support_path("f"));
    const char *link = support_path("link");
    make_file(path, FILE_BYTES);
    assert_ok(symlink("f", link));
    for (int linked = 0; linked < 2; linked++) {
        struct emmap_file *file = must_open(linked ? link : path, RW, 0);
        folder_synced = NULL;
        os_record_to(see_folder, NULL);
        assert_ok(emmap_file_sync_range(file, 0, 1));
        assert_non_null(folder_synced);
        assert_string_equal(folder_synced, path);
        folder_synced = NULL;
        assert_ok(emmap_file_sync(file));
        assert_null(folder_synced);
        os_record_to(NULL, NULL);
        emmap_file_free(file);
    }
    await_no_regions();
}

static unsigned syncs_of_a_range(struct emmap_file *file) {
    os_fail_never(); /* counts from here */
    assert_ok(emmap_file_sync_range(file, 0, 8));
    return os_fail_seen(OS_CALL_SYNC);
}

/* What was written to the file by its other mappings is not in this one. */
static void a_range_of_a_mapping_with_faults_is_synced_by_the_file(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, 2 * page_bytes());
    struct emmap_file *file = must_open(path, RW, 0);
    assert_ok(emmap_file_write(file, 0, "a", 1));
    assert_int_equal(syncs_of_a_range(file), 0);
    assert_true(region_on_fault(region_at(file->region, page_bytes())));
    assert_int_equal(syncs_of_a_range(file), 1);
    emmap_file_free(file);
    await_no_regions();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_failed_sync_stays_failed_until_all_handles_are_closed),
        TEST(sync_of_a_made_file_includes_its_directory_entry),
        TEST(the_first_sync_of_a_handle_includes_the_directory_entry),
        TEST(a_range_of_a_mapping_with_faults_is_synced_by_the_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
