/* test_leak.c -- many handles, one after the other and at once: nothing is left. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "test/support.h"

enum { FILE_BYTES = 10000 };

static uint64_t heap_bytes(void) {
#ifdef __GLIBC__
    if (!SANITIZER) return mallinfo2().uordblks;
#endif
    return 0;
}

/* One life of a handle, of several kinds, failures among them. */
static void live(const char *path, const char *missing, unsigned i) {
    struct emmap_hold *hold;
    uint8_t byte;
    struct emmap_file *file;
    switch (i % 8) {
    case 0:
        assert_int_equal(open_rc(missing, RW, 0, 0), -ENOENT);
        break;
    case 1:
        assert_int_equal(open_rc(path, RW, 0, 5), EMMAP_E_SIZE_MISMATCH);
        break;
    case 2:
        file = must_open(missing, RW | EMMAP_CREATE | EMMAP_AUTO_UNLINK, 100);
        assert_ok(emmap_file_close(file));
        emmap_file_free(file);
        break;
    case 3:
        file = must_open(path, EMMAP_WRITE, 0);
        assert_ok(emmap_file_resize(file, 5 * FILE_BYTES, NULL));
        assert_ok(emmap_file_write(file, 4 * FILE_BYTES, "x", 1));
        emmap_file_free(file);
        break;
    case 4:
        file = must_open(path, RW, 0);
        assert_ok(emmap_file_hold(file, &hold));
        assert_ok(emmap_file_close(file));
        emmap_file_free(file);
        emmap_file_unhold(hold);
        break;
    case 5:
        file = must_open(path, RW, 0);
        assert_ok(truncate(path, 100));
        assert_int_equal(read_byte(file, FILE_BYTES - 1, &byte), EMMAP_E_TRUNCATED);
        assert_ok(truncate(path, FILE_BYTES));
        if (i % 16 == 5) assert_ok(read_byte(file, FILE_BYTES - 1, &byte));
        emmap_file_free(file);
        break;
    default:
        file = must_open(path, RW, 0);
        assert_ok(read_byte(file, 0, &byte));
        assert_ok(emmap_file_close(file));
        emmap_file_free(file);
    }
}

static void opens_and_closes_leave_nothing(void **state) {
    (void)state;
    const unsigned times = SANITIZER ? 1000 : 10000;
    char path[512], missing[512];
    struct emmap_stats stats;
    strcpy(path, support_path("f"));
    strcpy(missing, support_path("new"));
    make_file(path, FILE_BYTES);
    unsigned descriptors = 0, maps = 0;
    uint64_t heap = 0;
    for (unsigned i = 0; i < times; i++) {
        live(path, missing, i);
        if (i % 100 != 99) continue;
        await_no_regions();
        /* After the first round the allocators have what they keep. */
        if (i != 99) continue;
        descriptors = open_descriptors();
        maps = map_entries();
        heap = heap_bytes();
    }
    await_descriptors(descriptors);
    emmap_stats(&stats);
    assert_int_equal(stats.handles, 0);
    assert_int_equal(stats.holds, 0);
    assert_int_equal(stats.mapped_bytes, 0);
    if (!SANITIZER) assert_in_range(map_entries(), 0, maps + 4);
    assert_in_range(heap_bytes(), 0, heap + 16384);
    print_message(
        "%u handles: %u descriptors, %u maps, %llu bytes of heap as after the first 100\n", times,
        descriptors, maps, (unsigned long long)heap);
}

enum { HANDLES = 5000, FILES = 50 };

static bool raise_descriptors(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit)) return false;
    if (limit.rlim_cur >= HANDLES + 100) return true;
    limit.rlim_cur = HANDLES + 100;
    if (limit.rlim_max < limit.rlim_cur) limit.rlim_max = limit.rlim_cur; /* as root */
    return setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

static const char *file_of(unsigned i) {
    char name[16];
    snprintf(name, sizeof name, "f%u", i % FILES);
    return support_path(name);
}

static void thousands_at_once_answer_each_for_itself(void **state) {
    (void)state;
    enum { CUT = 17 };
    if (THREAD_SANITIZER || !raise_descriptors()) skip();
    for (unsigned i = 0; i < FILES; i++)
        make_file(file_of(i), FILE_BYTES);
    const unsigned descriptors = open_descriptors();
    struct emmap_file **files = calloc(HANDLES, sizeof *files);
    for (unsigned i = 0; i < HANDLES; i++)
        files[i] = must_open(file_of(i), i % 2 ? RW : EMMAP_SHARED, 0);
    assert_int_equal(open_descriptors(), descriptors + HANDLES);

    uint8_t byte;
    const unsigned last = HANDLES - FILES + CUT; /* of the handles of this file */
    assert_ok(truncate(file_of(CUT), 100));
    assert_int_equal(read_byte(files[last], FILE_BYTES - 1, &byte), EMMAP_E_TRUNCATED);
    assert_ok(truncate(file_of(CUT), FILE_BYTES));
    assert_ok(read_byte(files[last], FILE_BYTES - 1, &byte));
    assert_int_equal(byte, 0);
    for (unsigned i = 0; i < HANDLES; i++) {
        assert_ok(read_byte(files[i], FILE_BYTES - 1, &byte));
        assert_int_equal(byte, i % FILES == CUT ? 0 : pattern(FILE_BYTES - 1));
    }
    assert_int_equal(info_of(files[last]).faults, 1);
    assert_int_equal(info_of(files[last - 1]).faults, 0);
    for (unsigned i = 0; i < HANDLES; i++)
        emmap_file_free(files[i]);
    free(files);
    await_no_regions();
    await_descriptors(descriptors);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(opens_and_closes_leave_nothing),
        TEST(thousands_at_once_answer_each_for_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
