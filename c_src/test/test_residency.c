/* test_residency.c -- calls that may not wait: what they ask of the kernel, what they remember of it,
 * and what they are charged for that. */
#include <errno.h>
#include <stdlib.h>

#include "core/charge.h"
#include "os/os.h"
#include "store/file.h"
#include "test/support.h"

enum { BLOCK_BYTES = 1 << RESIDENCY_SHIFT, FILE_BYTES = 4 * BLOCK_BYTES };

/* What one read of a byte, which may not wait, has asked for and was charged. */
struct asked {
    int rc;
    unsigned mincore, read;
    uint64_t charged;
};

static struct asked ask(struct emmap_file *file, uint64_t off) {
    uint8_t byte;
    uint64_t got;
    os_fail_never();
    (void)charge_take(&this_thread);
    const int rc = file_read(file, false, off, &byte, 1, &got);
    return (struct asked){rc, os_fail_seen(OS_CALL_RESIDENT), os_fail_seen(OS_CALL_READ_RESIDENT),
                          charge_take(&this_thread)};
}

/* Several reads within one moment. */
static void ask_all(struct emmap_file *file, const uint64_t *offs, size_t n, struct asked *asked) {
    uint32_t moment;
    do {
        moment = atomic_load(&runtime_get()->moment);
        file->region->serial = atomic_fetch_add(&runtime_get()->region_serial, 1); /* forgets */
        for (size_t i = 0; i < n; i++)
            asked[i] = ask(file, offs[i]);
    } while (moment != atomic_load(&runtime_get()->moment));
}

static void a_look_is_charged_and_remembered_for_its_block(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, FILE_BYTES);
    struct emmap_file *file = must_open(path, RW, 0);
    struct asked asked[3];
    const uint64_t offs[] = {0, BLOCK_BYTES - 1, BLOCK_BYTES};
    ask_all(file, offs, 3, asked);
    for (int i = 0; i < 3; i++) {
        assert_ok(asked[i].rc);
        assert_int_equal(asked[i].mincore, i != 1);
        assert_int_equal(asked[i].charged, i != 1 ? CHARGE_LOOK_BYTES : 0);
    }
    emmap_file_free(file);
    await_no_regions();
}

/* Asking is a copy for them. */
static void who_is_not_told_asks_for_what_it_reads_and_no_more(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, FILE_BYTES);
    struct emmap_file *file = must_open(path, EMMAP_SHARED, 0);
    file->region->asks_mincore = false;
    struct asked asked[4];
    const uint64_t part = 1 << RESIDENCY_PART_SHIFT;
    const uint64_t offs[] = {5 * part, 9 * part, 5 * part + 7, 10 * part - 1};
    ask_all(file, offs, 4, asked);
    for (int i = 0; i < 4 && asked[0].rc == 0; i++) { /* -EAGAIN: the system has no such call */
        assert_ok(asked[i].rc);
        assert_int_equal(asked[i].read, i < 2);
        assert_int_equal(asked[i].charged, i < 2 ? CHARGE_LOOK_BYTES + part : 0);
        assert_int_equal(asked[i].mincore, 0);
    }
    emmap_file_free(file);
    await_no_regions();
}

/* What a read past the known end answers that may not wait, on a file system of this kind. */
static int past_the_end(const char *path, int kind) {
    os_fs_pretend(kind);
    struct emmap_file *file = must_open(path, RW | EMMAP_FORCE, 0);
    os_fs_pretend(-1);
    const struct asked asked = ask(file, FILE_BYTES);
    assert_int_equal(os_fail_seen(OS_CALL_FSTAT), asked.rc == EMMAP_E_PAST_END);
    assert_int_equal(asked.charged, asked.rc == EMMAP_E_PAST_END ? CHARGE_SIZE_BYTES : 0);
    emmap_file_free(file);
    await_no_regions();
    return asked.rc;
}

static void only_a_local_file_system_is_asked_for_the_size(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, FILE_BYTES);
    assert_int_equal(past_the_end(path, OS_FS_LOCAL), EMMAP_E_PAST_END);
    assert_int_equal(past_the_end(path, OS_FS_BEST_EFFORT), -EAGAIN);
    assert_int_equal(past_the_end(path, OS_FS_NETWORK), -EAGAIN);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_look_is_charged_and_remembered_for_its_block),
        TEST(who_is_not_told_asks_for_what_it_reads_and_no_more),
        TEST(only_a_local_file_system_is_asked_for_the_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
