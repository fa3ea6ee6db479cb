/* test_residency.c -- calls that may not wait: what they ask of the kernel, what they remember of it,
 * and what they are charged for that. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

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

/* Line after line of a file, by a caller that may not wait: the one that is longer than a block is not
 * scanned to its end, and what was scanned is charged. */
static void a_long_line_is_left_to_who_may_wait(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, FILE_BYTES);
    struct emmap_file *file = must_open(path, RW, 0);
    struct file_next next;
    uint8_t buf[10];
    uint64_t position;
    uint8_t *line = malloc(FILE_BYTES);
    assert_non_null(line);
    memset(line, 'x', FILE_BYTES);
    memcpy(line, "short\n", 6);
    line[FILE_BYTES - 1] = '\n';
    assert_ok(emmap_file_write(file, 0, line, FILE_BYTES));
    free(line);
    assert_ok(file_next_begin(file, false, FILE_NEXT_LINE, &next));
    assert_int_equal(next.len_bytes, 6);
    assert_ok(file_next_end(file, false, &next, buf));
    os_fail_never();
    (void)charge_take(&this_thread);
    assert_int_equal(file_next_begin(file, false, FILE_NEXT_LINE, &next), -EAGAIN);
    const uint64_t looks = os_fail_seen(OS_CALL_RESIDENT);
    assert_in_range(looks, 0, 2); /* it begins in one block and goes on in the next */
    assert_int_equal(charge_take(&this_thread), looks * CHARGE_LOOK_BYTES + BLOCK_BYTES);
    assert_ok(file_seek(file, false, FILE_SEEK_CUR, 0, &position)); /* it is not held */
    assert_int_equal(position, 6);
    assert_ok(file_next_begin(file, true, FILE_NEXT_LINE, &next));
    assert_int_equal(next.len_bytes, FILE_BYTES - 6);
    assert_int_equal(file_next_end(file, true, &next, NULL), -EAGAIN);
    emmap_file_free(file);
    await_no_regions();
}

/* Memory without a file, of one huge page: to clear a gigabyte takes a tenth of a second. What is
 * smaller may be touched at once. */
static struct asked first_touch(uint64_t page_bytes_of_it) {
    struct emmap_file *file;
    struct emmap_file_options options = {.flags = EMMAP_ANON | EMMAP_WRITE,
                                         .len_bytes = FILE_BYTES};
    own_faults();
    assert_ok(emmap_file_open(&file, "", &options, NULL));
    file->region->page_bytes = page_bytes_of_it;
    const struct asked asked = ask(file, BLOCK_BYTES);
    assert_ok(emmap_file_write(file, BLOCK_BYTES, "x", 1));
    assert_ok(ask(file, BLOCK_BYTES).rc); /* now it is there */
    file->region->page_bytes = page_bytes();
    emmap_file_free(file);
    await_no_regions();
    return asked;
}

static void the_first_touch_of_an_enormous_page_waits(void **state) {
    (void)state;
    assert_ok(first_touch(page_bytes()).rc);
    assert_ok(first_touch(2u << 20).rc);
    const struct asked asked = first_touch(1u << 30);
    assert_int_equal(asked.rc, -EAGAIN);
    assert_int_equal(asked.mincore, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_look_is_charged_and_remembered_for_its_block),
        TEST(who_is_not_told_asks_for_what_it_reads_and_no_more),
        TEST(only_a_local_file_system_is_asked_for_the_size),
        TEST(a_long_line_is_left_to_who_may_wait),
        TEST(the_first_touch_of_an_enormous_page_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
