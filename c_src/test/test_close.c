/* test_close.c -- the end of a handle: at any moment, from any thread, nothing kept, nothing lost.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/pm.h"
#include "os/os.h"
#include "test/support.h"

enum { FILE_BYTES = 100000 };

static void assert_all_closed(struct emmap_file *file) {
    uint8_t byte;
    uint64_t got;
    const void *at;
    struct emmap_hold *hold;
    struct emmap_file_info info;
    assert_int_equal(read_byte(file, 0, &byte), EMMAP_E_CLOSED);
    assert_int_equal(read_byte(file, UINT64_MAX, &byte), EMMAP_E_CLOSED);
    assert_int_equal(emmap_file_write(file, 0, "x", 1), EMMAP_E_CLOSED);
    assert_int_equal(emmap_file_pointer(file, 0, 1, &at, &got), EMMAP_E_CLOSED);
    assert_int_equal(emmap_file_hold(file, &hold), EMMAP_E_CLOSED);
    assert_int_equal(emmap_file_resize(file, 10, NULL), EMMAP_E_CLOSED);
    assert_int_equal(emmap_file_grow(file, NULL), EMMAP_E_CLOSED);
    assert_int_equal(emmap_file_flush(file), EMMAP_E_CLOSED);
    assert_int_equal(emmap_file_sync(file), EMMAP_E_CLOSED);
    assert_int_equal(emmap_file_sync_range(file, 0, 10), EMMAP_E_CLOSED);
    assert_int_equal(emmap_file_info(file, &info), EMMAP_E_CLOSED);
    assert_ok(emmap_file_close(file));
}

static void calls_after_close_answer_closed(void **state) {
    (void)state;
    static const uint32_t flags[] = {RW, EMMAP_SHARED, EMMAP_WRITE, 0, RW | EMMAP_FIXED_SIZE};
    const char *path = support_path("f");
    make_file(path, FILE_BYTES);
    const unsigned descriptors = open_descriptors();
    for (unsigned i = 0; i < sizeof flags / sizeof *flags; i++) {
        struct emmap_file *file = must_open(path, flags[i], 0);
        assert_ok(emmap_file_close(file));
        assert_all_closed(file);
        await_descriptors(descriptors); /* the descriptor does not wait for the free */
        await_unmapped(path);
        assert_all_closed(file);
        emmap_file_free(file);
    }
    await_no_regions();
    assert_int_equal(file_bytes_of(path), FILE_BYTES);
}

static void calls_after_close_answer_closed_though_held(void **state) {
    (void)state;
    const char *path = support_path("f");
    struct emmap_hold *hold;
    make_file(path, FILE_BYTES);
    struct emmap_file *file = must_open(path, RW, 0);
    assert_ok(emmap_file_hold(file, &hold));
    assert_ok(emmap_file_close(file));
    assert_all_closed(file);
    emmap_file_unhold(hold);
    assert_all_closed(file);
    emmap_file_free(file);
    await_no_regions();
}

static void a_hold_keeps_mapping_and_descriptor(void **state) {
    (void)state;
    const char *path = support_path("f");
    struct emmap_hold *one, *two;
    const void *at;
    uint64_t got;
    struct emmap_stats stats;
    make_file(path, FILE_BYTES);
    const unsigned descriptors = open_descriptors();
    struct emmap_file *file = must_open(path, RW, 0);
    assert_ok(emmap_file_hold(file, &one));
    assert_ok(emmap_file_hold(file, &two));
    assert_ok(emmap_file_pointer(file, 0, FILE_BYTES, &at, &got));
    emmap_stats(&stats);
    assert_int_equal(stats.holds, 2);
    assert_int_equal(stats.handles, 1);
    assert_ok(emmap_file_close(file));
    emmap_file_free(file);

    struct emmap_file *other = must_open(path, RW, 0);
    emmap_file_free(other);
    await_regions(1); /* what came after it in the background is done */
    assert_int_equal(open_descriptors(), descriptors + 1);
    assert_true(is_pattern(at, 0, FILE_BYTES));
    ((uint8_t *)(uintptr_t)at)[5000] = 'x';
    assert_int_equal(file_byte(path, 5000), 'x');
    emmap_stats(&stats);
    assert_int_equal(stats.holds, 2);
    assert_int_equal(stats.handles, 0);

    emmap_file_unhold(one);
    assert_int_equal(*(const uint8_t *)at, pattern(0));
    emmap_file_unhold(two);
    await_no_regions();
    await_descriptors(descriptors);
    emmap_stats(&stats);
    assert_int_equal(stats.holds, 0);
    assert_int_equal(stats.mapped_bytes, 0);
}

static void free_without_close_gives_all_back(void **state) {
    (void)state;
    const char *path = support_path("f");
    struct emmap_stats stats;
    make_file(path, FILE_BYTES);
    const unsigned descriptors = open_descriptors();
    struct emmap_file *file = must_open(path, RW, 0);
    assert_ok(emmap_file_write(file, 7, "x", 1));
    emmap_stats(&stats);
    assert_int_equal(stats.handles, 1);
    emmap_file_free(file);
    await_no_regions();
    await_descriptors(descriptors);
    emmap_stats(&stats);
    assert_int_equal(stats.handles, 0);
    assert_int_equal(stats.mapped_bytes, 0);
    assert_int_equal(file_byte(path, 7), 'x');
    emmap_file_free(NULL);
}

static void close_and_free_of_a_large_dirty_map_lose_nothing(void **state) {
    (void)state;
    enum { BYTES = 40 << 20 };
    const char *path = support_path("f");
    const uint64_t step = page_bytes();
    struct emmap_file *file = must_open(path, RW | EMMAP_CREATE, BYTES);
    for (uint64_t off = 0; off < BYTES; off += step)
        assert_ok(emmap_file_write(file, off, "x", 1));
    assert_ok(emmap_file_close(file));
    emmap_file_free(file);
    await_no_regions();
    for (uint64_t off = 0; off < BYTES; off += 512 * step)
        assert_int_equal(file_byte(path, off), 'x');
    assert_int_equal(file_byte(path, BYTES - step), 'x');
}

/* ------------------------------------------------------------------ close meets the others */

enum { USERS = 3 };

struct use {
    struct emmap_file *file;
    _Atomic unsigned begun; /* users that have had a good answer */
};

static void *read_until_closed(void *arg) {
    struct use *use = arg;
    uint8_t buf[3000];
    uint64_t got;
    bool begun = false;
    for (uint64_t off = 0;; off = (off + 777) % (FILE_BYTES - sizeof buf)) {
        const int rc = emmap_file_read(use->file, off, buf, sizeof buf, &got);
        if (rc == EMMAP_E_CLOSED) return NULL;
        MUST(rc == 0);
        MUST(got == sizeof buf && is_pattern(buf, off, got));
        if (!begun) atomic_fetch_add(&use->begun, 1);
        begun = true;
    }
}

static void *write_until_closed(void *arg) {
    struct use *use = arg;
    uint8_t buf[3000];
    bool begun = false;
    for (uint64_t off = 0;; off = (off + 777) % (FILE_BYTES - sizeof buf)) {
        for (uint64_t i = 0; i < sizeof buf; i++)
            buf[i] = pattern(off + i);
        const int rc = emmap_file_write(use->file, off, buf, sizeof buf);
        if (rc == EMMAP_E_CLOSED) return NULL;
        MUST(rc == 0);
        if (!begun) atomic_fetch_add(&use->begun, 1);
        begun = true;
    }
}

static void *other_calls_until_closed(void *arg) {
    struct use *use = arg;
    uint8_t seen[100];
    bool begun = false;
    for (;;) {
        struct emmap_file_info info;
        struct emmap_hold *hold;
        const void *at;
        uint64_t got;
        int rc = emmap_file_hold(use->file, &hold);
        if (rc == EMMAP_E_CLOSED) return NULL;
        MUST(rc == 0);
        if (emmap_file_pointer(use->file, 0, FILE_BYTES, &at, &got) == 0) {
            pm_read(seen, at, sizeof seen); /* held: the file's bytes, closed or not */
            MUST(is_pattern(seen, 0, sizeof seen));
        }
        emmap_file_unhold(hold);
        rc = emmap_file_info(use->file, &info);
        MUST(rc == 0 || rc == EMMAP_E_CLOSED);
        rc = emmap_file_flush(use->file);
        MUST(rc == 0 || rc == EMMAP_E_CLOSED);
        rc = emmap_file_resize(use->file, FILE_BYTES, NULL);
        MUST(rc == 0 || rc == EMMAP_E_CLOSED);
        if (!begun) atomic_fetch_add(&use->begun, 1);
        begun = true;
    }
}

static void *close_it(void *arg) {
    struct use *use = arg;
    MUST(emmap_file_close(use->file) == 0);
    return NULL;
}

static void close_during_calls_answers_closed_or_good_bytes(void **state) {
    (void)state;
    void *(*const calls[USERS])(void *) = {read_until_closed, write_until_closed,
                                           other_calls_until_closed};
    const unsigned rounds = SANITIZER ? 20 : 200;
    const char *path = support_path("f");
    make_file(path, FILE_BYTES);
    const unsigned descriptors = open_descriptors();
    for (unsigned round = 0; round < rounds; round++) {
        pthread_t threads[USERS], closers[2];
        struct use use = {.file = must_open(path, RW, 0)};
        for (unsigned i = 0; i < USERS; i++)
            assert_ok(pthread_create(&threads[i], NULL, calls[i], &use));
        while (atomic_load(&use.begun) < USERS)
            os_sleep_ms(0);
        for (unsigned i = 0; i < 2; i++)
            assert_ok(pthread_create(&closers[i], NULL, close_it, &use));
        for (unsigned i = 0; i < 2; i++)
            assert_ok(pthread_join(closers[i], NULL));
        for (unsigned i = 0; i < USERS; i++)
            assert_ok(pthread_join(threads[i], NULL));
        emmap_file_free(use.file);
    }
    await_no_regions();
    await_descriptors(descriptors);
    struct emmap_stats stats;
    emmap_stats(&stats);
    assert_int_equal(stats.handles, 0);
    assert_int_equal(stats.holds, 0);
    struct snapshot now = snapshot_of(path);
    assert_int_equal(now.len_bytes, FILE_BYTES);
    assert_true(is_pattern(now.bytes, 0, FILE_BYTES));
    free(now.bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(calls_after_close_answer_closed),
        TEST(calls_after_close_answer_closed_though_held),
        TEST(a_hold_keeps_mapping_and_descriptor),
        TEST(free_without_close_gives_all_back),
        TEST(close_and_free_of_a_large_dirty_map_lose_nothing),
        TEST(close_during_calls_answers_closed_or_good_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
