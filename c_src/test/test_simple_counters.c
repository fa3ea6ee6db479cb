/* test_simple_counters.c -- files of simple counters: made whole or not at all, whatever fails; what is
 * refused is left as it was. */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/os.h"
#include "store/simple_counters_layout.h"
#include "test/support.h"

enum { COUNT = 5, FILE_BYTES = 16 + 8 * COUNT };

static void make_bytes(const char *path, const void *bytes, size_t len_bytes) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, len_bytes, f), len_bytes);
    assert_ok(fclose(f));
}

/* Of COUNT counters; counter i is i + 1. */
static void make_counters(const char *path, size_t len_bytes) {
    uint8_t bytes[FILE_BYTES + 8] = {'E', 'M', 'M', 'A', 'P', '0', '1', '\n', COUNT};
    for (unsigned i = 0; i < COUNT; i++)
        bytes[emmap_simple_counters_off(i)] = (uint8_t)(i + 1);
    make_bytes(path, bytes, len_bytes);
}

static DIR *open_folder_of(const char *path) {
    char folder[4096];
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    return dir;
}

static unsigned names_beside(const char *path) {
    DIR *dir = open_folder_of(path);
    unsigned names = 0;
    while (readdir(dir))
        names++;
    assert_ok(closedir(dir));
    return names - 2; /* "." and ".." */
}

static int64_t counter(struct emmap_file *file, uint64_t i) {
    int64_t value = 0;
    assert_ok(emmap_file_load(file, emmap_simple_counters_off(i), &value));
    return value;
}

static void refused(int answer, const char *path, uint64_t count) {
    struct emmap_file *file = NULL;
    uint64_t found = 77;
    struct snapshot before = snapshot_of(path);
    assert_int_equal(emmap_simple_counters_open(&file, path, count, &found), answer);
    assert_null(file);
    assert_int_equal(found, 77);
    assert_as_before(&before);
    await_no_regions();
}

static void a_new_file_is_of_zeros_and_an_old_one_opens(void **state) {
    (void)state;
    const char *path = support_path("f");
    struct emmap_file *file;
    uint64_t found;
    assert_ok(emmap_simple_counters_open(&file, path, COUNT, &found));
    assert_int_equal(found, COUNT);
    assert_int_equal(file_bytes_of(path), FILE_BYTES);
    assert_int_equal(names_beside(path), 1);
    for (unsigned i = 0; i < COUNT; i++)
        assert_int_equal(counter(file, i), 0);
    emmap_file_free(file);

    make_counters(path, FILE_BYTES);
    for (unsigned asked = 0; asked <= COUNT; asked += COUNT) {
        assert_ok(emmap_simple_counters_open(&file, path, asked, &found));
        assert_int_equal(found, COUNT);
        for (unsigned i = 0; i < COUNT; i++)
            assert_int_equal(counter(file, i), i + 1);
        emmap_file_free(file);
    }
    await_no_regions();
}

static void count_0_makes_no_file(void **state) {
    (void)state;
    const char *path = support_path("f");
    refused(-ENOENT, path, 0);
    assert_int_equal(names_beside(path), 0);
}

static void another_count_and_a_cut_file_are_refused(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_counters(path, FILE_BYTES);
    for (uint64_t count = 1; count <= 100; count++)
        if (count != COUNT) refused(EMMAP_E_SIZE_MISMATCH, path, count);
    refused(-EFBIG, path, UINT64_MAX);
    for (size_t len = 0; len <= FILE_BYTES + 8; len++) {
        make_counters(path, len);
        const int answer = len < 16           ? EMMAP_E_FOREIGN
                           : len < FILE_BYTES ? EMMAP_E_TRUNCATED
                                              : EMMAP_E_CORRUPT;
        if (len != FILE_BYTES) refused(answer, path, 0);
        if (len != FILE_BYTES) refused(answer, path, COUNT);
    }
}

static void a_flipped_bit_of_the_header_is_refused(void **state) {
    (void)state;
    const char *path = support_path("f");
    for (unsigned bit = 0; bit < 128; bit++) {
        make_counters(path, FILE_BYTES);
        FILE *f = fopen(path, "r+b");
        assert_non_null(f);
        const int byte = file_byte(path, bit / 8) ^ (1 << bit % 8);
        assert_ok(fseek(f, (long)(bit / 8), SEEK_SET));
        assert_int_equal(fputc(byte, f), byte);
        assert_ok(fclose(f));
        const uint64_t count = COUNT ^ (bit < 64 ? 0 : UINT64_C(1) << (bit - 64));
        const bool may_be = count > COUNT && count < UINT64_C(1) << 60;
        refused(bit < 64 ? EMMAP_E_FOREIGN
                : may_be ? EMMAP_E_TRUNCATED
                         : EMMAP_E_CORRUPT,
                path, bit % 2 ? COUNT : 0);
    }
}

/* What a process of the same number has left behind, of whatever kind, is not in the way, and is not
 * touched: it may be somebody else's who is at it right now. */
static void leftovers_of_a_dead_process_are_not_in_the_way(void **state) {
    (void)state;
    enum { LEFTOVERS = 2 * 3 };
    static const size_t lengths[] = {0, FILE_BYTES, FILE_BYTES + 8};
    const char *path = support_path("f");
    char name[64];
    struct snapshot before[LEFTOVERS];
    static char names[LEFTOVERS][512];
    for (unsigned i = 0; i < LEFTOVERS; i++) {
        snprintf(name, sizeof name, "emmap.new.%llu.%u", (unsigned long long)os_pid(), i);
        strcpy(names[i], support_path(name));
        make_counters(names[i], lengths[i % 3]);
        before[i] = snapshot_of(names[i]);
    }
    for (unsigned i = 0; i < LEFTOVERS; i++) {
        struct emmap_file *file;
        uint64_t found;
        assert_ok(emmap_simple_counters_open(&file, path, COUNT, &found));
        assert_int_equal(counter(file, 0), 0);
        emmap_file_free(file);
        assert_ok(unlink(path));
    }
    for (unsigned i = 0; i < LEFTOVERS; i++)
        assert_as_before(&before[i]);
    assert_int_equal(names_beside(path), LEFTOVERS);
    await_no_regions();
}

static void a_name_that_is_taken_is_not_the_last_one_tried(void **state) {
    (void)state;
    const char *path = support_path("f");
    struct emmap_file *file = NULL;
    uint64_t found;
    os_fail_at(OS_CALL_OPEN, 1, EEXIST, true);
    assert_int_equal(emmap_simple_counters_open(&file, path, COUNT, &found), -EEXIST);
    assert_in_range(os_fail_seen(OS_CALL_OPEN), 2, 100);
    os_fail_at(OS_CALL_OPEN, 1, EEXIST, false);
    assert_ok(emmap_simple_counters_open(&file, path, COUNT, &found));
    assert_string_equal(os_fail_last(), "open");
    os_fail_never();
    assert_int_equal(names_beside(path), 1);
    emmap_file_free(file);
    await_no_regions();
}

/* --------------------------------------------------------------------- each system call fails */

/* A file that was made is whole, one that was not is missing, and nothing else is left. */
static void assert_whole_or_missing(const char *path, int rc) {
    const bool there = file_exists(path);
    if (rc == 0) assert_true(there);
    if (there) assert_int_equal(file_bytes_of(path), FILE_BYTES);
    if (there) assert_int_equal(file_byte(path, 8), COUNT);
    if (strcmp(os_fail_last(), "unlink") != 0) assert_int_equal(names_beside(path), there);
}

static void remove_all_beside(const char *path) {
    DIR *dir = open_folder_of(path);
    for (const struct dirent *e; (e = readdir(dir));)
        if (e->d_name[0] != '.') assert_ok(unlinkat(dirfd(dir), e->d_name, 0));
    assert_ok(closedir(dir));
}

static bool open_with_failure(bool exists, const char *path, unsigned nth, int err) {
    struct emmap_file *file = NULL;
    uint64_t found = 0;
    remove_all_beside(path);
    if (exists) make_counters(path, FILE_BYTES);
    struct snapshot before = snapshot_of(path);
    const unsigned descriptors = open_descriptors();

    os_fail_at(OS_CALL_ANY, nth, err, false);
    const int rc = emmap_simple_counters_open(&file, path, COUNT, &found);
    const unsigned seen = os_fail_seen(OS_CALL_ANY);
    const bool clean = rc == 0 || rc == -err;
    if (!clean) print_message("%s answered %s\n", os_fail_last(), emmap_error_name(rc));
    assert_true(clean);
    if (!exists) assert_whole_or_missing(path, rc);
    os_fail_never();

    if (exists)
        assert_as_before(&before);
    else
        free(before.bytes);
    if (rc == 0) assert_int_equal(found, COUNT);
    if (rc == 0) assert_int_equal(counter(file, COUNT - 1), exists ? COUNT : 0);
    emmap_file_free(file);
    await_no_regions();
    await_descriptors(descriptors);
    if (rc) {
        assert_ok(emmap_simple_counters_open(&file, path, COUNT, &found));
        emmap_file_free(file);
        await_no_regions();
    }
    return seen >= nth;
}

static void open_stands_any_failure(void **state) {
    (void)state;
    static const int errors[] = {EIO, ENOSPC, ENOMEM, EINTR};
    const char *path = support_path("f");
    for (int exists = 0; exists <= 1; exists++)
        for (unsigned e = 0; e < sizeof errors / sizeof *errors; e++) {
            unsigned n = 1;
            while (open_with_failure(exists, path, n, errors[e]))
                assert_true(++n < 200);
            assert_true(n > (exists ? 5 : 15));
        }
}

/* --------------------------------------------------------------------------- several at once */

enum { MAKERS = 4, ROUNDS = 30 };

static pthread_barrier_t gate;

static void *maker(void *arg) {
    struct emmap_file *file;
    uint64_t found;
    int64_t old;
    for (int round = 0; round < ROUNDS; round++) {
        (void)pthread_barrier_wait(&gate);
        MUST(emmap_simple_counters_open(&file, arg, COUNT, &found) == 0);
        MUST(emmap_file_fetch(file, emmap_simple_counters_off(1), EMMAP_ADD, 1, &old) == 0);
        emmap_file_free(file);
        (void)pthread_barrier_wait(&gate);
        (void)pthread_barrier_wait(&gate);
    }
    return NULL;
}

static void several_threads_make_one_file(void **state) {
    (void)state;
    const char *path = support_path("f");
    pthread_t threads[MAKERS];
    struct emmap_file *file;
    uint64_t found;
    assert_ok(pthread_barrier_init(&gate, NULL, MAKERS + 1));
    for (int i = 0; i < MAKERS; i++)
        assert_ok(pthread_create(&threads[i], NULL, maker, (void *)(uintptr_t)path));
    for (int round = 0; round < ROUNDS; round++) {
        (void)pthread_barrier_wait(&gate);
        (void)pthread_barrier_wait(&gate);
        assert_ok(emmap_simple_counters_open(&file, path, 0, &found));
        assert_int_equal(counter(file, 1), MAKERS);
        emmap_file_free(file);
        assert_int_equal(names_beside(path), 1);
        assert_ok(unlink(path));
        (void)pthread_barrier_wait(&gate);
    }
    for (int i = 0; i < MAKERS; i++)
        assert_ok(pthread_join(threads[i], NULL));
    assert_ok(pthread_barrier_destroy(&gate));
    await_no_regions();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(
            leftovers_of_a_dead_process_are_not_in_the_way), /* first: of this process's first names */
        TEST(a_name_that_is_taken_is_not_the_last_one_tried),
        TEST(a_new_file_is_of_zeros_and_an_old_one_opens),
        TEST(count_0_makes_no_file),
        TEST(another_count_and_a_cut_file_are_refused),
        TEST(a_flipped_bit_of_the_header_is_refused),
        TEST(open_stands_any_failure),
        TEST(several_threads_make_one_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
