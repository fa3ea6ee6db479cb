/* test_resize.c -- growth and shrinking: pointers stay, readers see it, nobody cuts others off. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "os/os.h"
#include "store/file.h"
#include "test/support.h"

static uint64_t page;

static struct emmap_file *open_with(const char *path, uint32_t flags, uint64_t len_bytes,
                                    uint64_t max_inc_bytes, uint64_t address_space_bytes) {
    const struct emmap_file_options options = {.flags = flags,
                                               .len_bytes = len_bytes,
                                               .max_inc_bytes = max_inc_bytes,
                                               .address_space_bytes = address_space_bytes};
    struct emmap_file *file = NULL;
    own_faults();
    page = page_bytes();
    assert_ok(emmap_file_open(&file, path, &options, NULL));
    return file;
}

static void no_pointer_moves(void **state) {
    (void)state;
    const char *path = support_path("f");
    const void *at, *then;
    uint64_t got, now;
    make_file(path, 10000);
    struct emmap_file *file = open_with(path, RW, 0, 0, 0);
    assert_ok(emmap_file_pointer(file, 0, 10000, &at, &got));
    assert_ok(emmap_file_resize(file, 100 << 20, &now));
    assert_int_equal(now, 100 << 20);
    assert_ok(emmap_file_write(file, now - 1, "x", 1));
    assert_int_equal(((const uint8_t *)at)[now - 1], 'x');
    assert_ok(emmap_file_resize(file, 500, &now));
    assert_ok(emmap_file_resize(file, 20000, &now));
    assert_ok(emmap_file_pointer(file, 0, 1, &then, &got));
    assert_ptr_equal(at, then);
    assert_true(is_pattern(at, 0, 500));
    emmap_file_free(file);
    await_no_regions();
}

static void growth_through_one_handle_is_seen_by_all(void **state) {
    (void)state;
    const char *path = support_path("f");
    const void *at;
    uint64_t got;
    uint8_t byte;
    make_file(path, 100);
    struct emmap_file *a = open_with(path, EMMAP_SHARED | EMMAP_WRITE, 0, 0, 0);
    struct emmap_file *b = must_open(path, RW, 0);
    assert_ok(emmap_file_pointer(a, 0, 100, &at, &got));
    assert_ok(emmap_file_resize(b, 10 * page, NULL));
    assert_int_equal(emmap_file_size(a), 10 * page);
    assert_ok(emmap_file_write(b, 9 * page, "x", 1));
    assert_int_equal(((const uint8_t *)at)[9 * page], 'x');
    assert_ok(emmap_file_write(a, 9 * page + 1, "y", 1));
    assert_ok(read_byte(b, 9 * page + 1, &byte));
    assert_int_equal(byte, 'y');
    emmap_file_free(a);
    emmap_file_free(b);
    await_no_regions();
}

static void growth_by_others_is_seen_past_the_known_end(void **state) {
    (void)state;
    const char *path = support_path("f");
    uint8_t byte = 1;
    make_file(path, 100);
    struct emmap_file *file = open_with(path, RW, 0, 0, 0);
    assert_int_equal(read_byte(file, 100, &byte), EMMAP_E_PAST_END);
    assert_ok(truncate(path, 30000));
    assert_int_equal(emmap_file_size(file), 100);
    assert_ok(read_byte(file, 29999, &byte));
    assert_int_equal(byte, 0);
    assert_int_equal(emmap_file_size(file), 30000);
    assert_ok(truncate(path, 60000));
    assert_ok(emmap_file_write(file, 59999, "x", 1));
    assert_int_equal(file_byte(path, 59999), 'x');
    emmap_file_free(file);
    await_no_regions();
}

static void growth_by_others_beyond_the_address_space_is_enomem(void **state) {
    (void)state;
    const char *path = support_path("f");
    uint8_t byte;
    make_file(path, 100);
    struct emmap_file *file = open_with(path, RW, 0, 0, 4 * page_bytes());
    assert_ok(truncate(path, (off_t)(100 * page)));
    assert_int_equal(read_byte(file, 50 * page, &byte), -ENOMEM);
    assert_int_equal(emmap_file_write(file, 50 * page, "x", 1), -ENOMEM);
    assert_ok(emmap_file_write(file, page, "x", 1));
    emmap_file_free(file);
    await_no_regions();
}

static void grow_doubles_and_then_adds(void **state) {
    (void)state;
    const char *path = support_path("f");
    uint64_t now;
    struct emmap_file *file = open_with(path, RW | EMMAP_CREATE, page_bytes(), 4 * page_bytes(), 0);
    static const uint64_t pages[] = {2, 4, 8, 12, 16};
    for (unsigned i = 0; i < sizeof pages / sizeof *pages; i++) {
        assert_ok(emmap_file_grow(file, &now));
        assert_int_equal(now, pages[i] * page);
        assert_int_equal(file_bytes_of(path), now);
    }
    emmap_file_free(file);
    await_no_regions();
}

static void grow_adds_64_mib_by_default(void **state) {
    (void)state;
    const char *path = support_path("f");
    uint64_t now;
    struct emmap_file *file = open_with(path, RW | EMMAP_CREATE | EMMAP_SPARSE, 48 << 20, 0, 0);
    assert_ok(emmap_file_grow(file, &now));
    assert_int_equal(now, 96 << 20);
    assert_ok(emmap_file_grow(file, &now));
    assert_int_equal(now, 160 << 20);
    assert_ok(emmap_file_resize(file, 0, &now));
    assert_int_equal(now, 0);
    assert_ok(emmap_file_grow(file, &now));
    assert_int_equal(now, page);
    emmap_file_free(file);
    await_no_regions();
}

static void growth_beyond_the_address_space_is_enomem(void **state) {
    (void)state;
    const char *path = support_path("f");
    uint64_t now = 1;
    make_file(path, 100);
    struct emmap_file *file = open_with(path, RW, 0, 0, 16 * page_bytes());
    const uint64_t space = info_of(file).address_space_bytes;
    assert_true(space >= 16 * page);
    assert_int_equal(emmap_file_resize(file, space + 1, &now), -ENOMEM);
    assert_int_equal(now, 1);
    assert_int_equal(file_bytes_of(path), 100);
    assert_int_equal(emmap_file_resize(file, INT64_MAX, &now), -ENOMEM);
    assert_int_equal(emmap_file_resize(file, UINT64_MAX, &now), -EFBIG);
    assert_int_equal(file_bytes_of(path), 100);
    assert_ok(emmap_file_resize(file, space, &now));
    assert_ok(emmap_file_write(file, space - 1, "x", 1));
    emmap_file_free(file);
    await_no_regions();
}

static void shrunk_away_is_past_the_end_and_comes_back_as_zeros(void **state) {
    (void)state;
    const char *path = support_path("f");
    uint64_t now;
    uint8_t byte = 1;
    make_file(path, 50000);
    struct emmap_file *a = open_with(path, RW, 0, 0, 0);
    struct emmap_file *b = must_open(path, RW, 0);
    assert_ok(emmap_file_resize(a, 100, &now));
    assert_int_equal(now, 100);
    assert_int_equal(file_bytes_of(path), 100);
    assert_int_equal(read_byte(a, 100, &byte), EMMAP_E_PAST_END);
    assert_int_equal(read_byte(b, 40000, &byte), EMMAP_E_PAST_END);
    assert_int_equal(emmap_file_write(b, 40000, "x", 1), EMMAP_E_PAST_END);
    assert_ok(emmap_file_resize(a, 50000, &now));
    assert_ok(read_byte(b, 40000, &byte));
    assert_int_equal(byte, 0);
    assert_ok(read_byte(a, 100, &byte));
    assert_int_equal(byte, 0);
    emmap_file_free(a);
    emmap_file_free(b);
    await_no_regions();
}

/* A wish above what the handle was told is growth, and finds itself fulfilled. */
static void a_wish_to_grow_never_cuts_off(void **state) {
    (void)state;
    const char *path = support_path("f");
    uint64_t now;
    make_file(path, 100);
    struct emmap_file *a = open_with(path, RW, 0, 0, 0);
    struct emmap_file *b = must_open(path, RW, 0);
    assert_ok(emmap_file_resize(b, 50000, NULL));
    assert_ok(emmap_file_write(b, 49999, "x", 1));
    assert_ok(emmap_file_resize(a, 20000, &now));
    assert_int_equal(now, 50000);
    assert_int_equal(file_byte(path, 49999), 'x');
    assert_ok(emmap_file_resize(a, 20000, &now)); /* it has been told now: a wish to shrink */
    assert_int_equal(now, 20000);
    emmap_file_free(a);
    emmap_file_free(b);
    await_no_regions();
}

/* ------------------------------------------------------------------ space that is asked for */

enum { FAR = 1 << 30 };

static void allocate_far_out_takes_no_space_before_it(void **state) {
    (void)state;
    if (!SPACE_IS_RESERVED) skip();
    const char *path = support_path("f");
    uint8_t byte = 1;
    make_file(path, 10000);
    struct emmap_file *file = must_open(path, RW | EMMAP_SPARSE, 0);
    const uint64_t blocks = file_blocks_of(path);
    assert_ok(file_allocate(file, FAR, 4096));
    assert_int_equal(file_bytes_of(path), FAR + 4096);
    assert_int_equal(emmap_file_size(file), FAR + 4096);
    assert_in_range(file_blocks_of(path) - blocks, 8, 1 << 10);
    assert_ok(read_byte(file, FAR / 2, &byte));
    assert_int_equal(byte, 0);
    assert_ok(file_allocate(file, 12000, 4096)); /* within the size */
    assert_int_equal(file_bytes_of(path), FAR + 4096);
    emmap_file_free(file);
    await_no_regions();
}

/* From within the file to past its end, and with a handle that starts behind its start. */
static void allocate_across_the_end_takes_its_range(void **state) {
    (void)state;
    if (!SPACE_IS_RESERVED) skip();
    const char *path = support_path("f");
    enum { OFF = 5000, SIZE = 10 << 20, LEN = 4 << 20 };
    struct emmap_file *file;
    make_file(path, 0);
    assert_ok(truncate(path, SIZE));
    assert_ok(open_file(&file, path, RW | EMMAP_SPARSE, OFF, 0));
    assert_ok(file_allocate(file, SIZE - OFF - LEN, 2 * LEN));
    assert_int_equal(file_bytes_of(path), SIZE + LEN);
    assert_in_range(file_blocks_of(path) * 512, 2 * LEN, 2 * LEN + (1 << 20));
    emmap_file_free(file);
    await_no_regions();
}

static void allocate_that_fails_takes_nothing(void **state) {
    (void)state;
    if (!SPACE_IS_RESERVED) skip();
    static const enum os_call calls[] = {OS_CALL_FS, OS_CALL_ALLOCATE, OS_CALL_EXTEND};
    const char *path = support_path("f");
    make_file(path, 10000);
    struct snapshot before = snapshot_of(path);
    struct emmap_file *file = must_open(path, RW | EMMAP_SPARSE, 0);
    const uint64_t blocks = file_blocks_of(path);
    for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++) {
        os_fail_at(calls[i], 1, ENOSPC, 0);
        assert_int_equal(file_allocate(file, FAR, 1 << 20), -ENOSPC);
        assert_string_not_equal(os_fail_last(), "");
        os_fail_never();
        assert_int_equal(emmap_file_size(file), 10000);
        assert_int_equal(file_blocks_of(path), blocks);
    }
    assert_as_before(&before);
    emmap_file_free(file);
    await_no_regions();
}

/* ---------------------------------------------------------- memory that cannot be locked */

static void fail_to_lock(struct emmap_file *file, uint64_t wanted) {
    uint64_t now = 7;
    os_fail_at(OS_CALL_LOCK_MEMORY, 1, ENOMEM, 0);
    assert_int_equal(emmap_file_resize(file, wanted, &now), -ENOMEM);
    os_fail_never();
    assert_int_equal(now, 7);
}

static void append(const char *path, uint64_t from, uint64_t to) {
    assert_int_equal(file_bytes_of(path), from);
    assert_ok(truncate(path, (off_t)to));
}

/* A resize that fails tells nothing: not its own size, not that of others, which a later one would
 * otherwise cut off. */
static void a_failed_resize_tells_its_user_of_nothing(void **state) {
    (void)state;
    const char *path = support_path("f");
    uint64_t now;
    uint8_t byte;
    make_file(path, 100);
    struct emmap_file *file = must_open(path, RW | EMMAP_LOCK_MEMORY, 0);
    append(path, 100, 30000);
    assert_ok(read_byte(file, 29999, &byte)); /* the handle knows, its user does not */
    fail_to_lock(file, 50000);
    assert_int_equal(file_bytes_of(path), 30000);
    assert_ok(emmap_file_resize(file, 20000, &now));
    assert_int_equal(now, 30000);
    assert_int_equal(file_bytes_of(path), 30000);
    emmap_file_free(file);
    await_no_regions();
}

static void growth_that_cannot_be_locked_takes_back_its_own_only(void **state) {
    (void)state;
    const char *path = support_path("f");
    uint64_t now;
    make_file(path, 100);
    struct emmap_file *file = must_open(path, RW | EMMAP_LOCK_MEMORY, 0);
    append(path, 100, 30000);
    fail_to_lock(file, 20000); /* adopts their size */
    assert_int_equal(file_bytes_of(path), 30000);
    append(path, 30000, 40000);
    fail_to_lock(file, 50000); /* grows past it */
    assert_int_equal(file_bytes_of(path), 40000);
    assert_ok(emmap_file_resize(file, 20000, &now));
    assert_int_equal(now, 40000);
    assert_int_equal(file_bytes_of(path), 40000);
    emmap_file_free(file);
    await_no_regions();
}

/* ------------------------------------------------------------ many that grow at once */

enum { GROWERS = 2, ROUNDS = 60 };

/* Marks the last page of each size that it was given, with a byte at a place of its own; all marks
 * must stay. */
static void grow_and_mark(const char *path, unsigned lane) {
    struct emmap_file *file;
    uint64_t marks[ROUNDS], size = 0;
    uint8_t byte;
    const uint64_t step = page_bytes();
    MUST(open_file(&file, path, RW, 0, 0) == 0);
    size = emmap_file_size(file);
    for (unsigned i = 0; i < ROUNDS; i++) {
        MUST(emmap_file_resize(file, size + step, &size) == 0);
        marks[i] = size - step + lane;
        MUST(emmap_file_write(file, marks[i], "m", 1) == 0);
    }
    for (unsigned i = 0; i < ROUNDS; i++) {
        MUST(read_byte(file, marks[i], &byte) == 0);
        MUST(byte == 'm');
    }
    emmap_file_free(file);
}

static int role_grower(const char *path) {
    say();
    MUST(hear());
    grow_and_mark(path, (unsigned)getpid() % 1000);
    return 0;
}

static void os_processes_that_grow_at_once_cut_nobody_off(void **state) {
    (void)state;
    const char *path = support_path("f");
    struct child children[GROWERS];
    make_file(path, page_bytes());
    for (unsigned i = 0; i < GROWERS; i++) {
        children[i] = start_role("grower", path);
        await_word(&children[i]);
    }
    for (unsigned i = 0; i < GROWERS; i++)
        give_word(&children[i]);
    grow_and_mark(path, 2000);
    for (unsigned i = 0; i < GROWERS; i++)
        assert_ok(end_role(&children[i]));
    assert_true(file_bytes_of(path) >= (ROUNDS + 1) * page_bytes());
    await_no_regions();
}

static char growing_path[512];

static void *grower_thread(void *lane) {
    grow_and_mark(growing_path, *(unsigned *)lane);
    return NULL;
}

static void handles_that_grow_at_once_cut_nobody_off(void **state) {
    (void)state;
    pthread_t threads[GROWERS];
    unsigned lanes[GROWERS];
    strcpy(growing_path, support_path("f"));
    make_file(growing_path, page_bytes());
    for (unsigned i = 0; i < GROWERS; i++) {
        lanes[i] = i;
        assert_ok(pthread_create(&threads[i], NULL, grower_thread, &lanes[i]));
    }
    for (unsigned i = 0; i < GROWERS; i++)
        assert_ok(pthread_join(threads[i], NULL));
    await_no_regions();
}

static int role_locker(const char *path) {
    int fd;
    MUST(os_open(path, OS_OPEN_WRITE, 0, &fd) == 0);
    MUST(os_try_lock(fd) == 0);
    say();
    hear();
    return 0;
}

static void a_lock_held_too_long_is_busy_and_goes_with_its_holder(void **state) {
    (void)state;
    const char *path = support_path("f");
    uint8_t byte;
    make_file(path, 100);
    struct emmap_file *file = must_open(path, RW, 0);
    const struct child child = start_role("locker", path);
    await_word(&child);
    assert_int_equal(emmap_file_resize(file, 200, NULL), EMMAP_E_BUSY);
    assert_int_equal(file_bytes_of(path), 100);
    assert_ok(read_byte(file, 99, &byte));
    assert_ok(kill(child.pid, SIGKILL));
    assert_int_equal(end_role(&child), 256 + SIGKILL);
    assert_ok(emmap_file_resize(file, 200, NULL));
    emmap_file_free(file);
    await_no_regions();
}

/* --------------------------------------------------------------- little address space */

static int role_limited(const char *path) {
#ifdef __linux__
    unsigned long long pages = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    MUST(statm && fscanf(statm, "%llu", &pages) == 1);
    fclose(statm);
    const uint64_t most = 1ull << 30;
    const rlim_t limit = (rlim_t)(pages * page_bytes() + most);
    const struct rlimit as = {limit, limit};
    MUST(setrlimit(RLIMIT_AS, &as) == 0);

    struct emmap_file *file;
    struct emmap_file_info info;
    uint8_t byte;
    MUST(open_file(&file, path, RW, 0, 0) == 0);
    MUST(emmap_file_info(file, &info) == 0);
    MUST(info.address_space_bytes < most && info.address_space_bytes > most / 8);
    MUST(read_byte(file, 9999, &byte) == 0 && byte == pattern(9999));
    MUST(emmap_file_resize(file, 100000, NULL) == 0);
    MUST(emmap_file_resize(file, 4 * most, NULL) == -ENOMEM);
    emmap_file_free(file);

    MUST(truncate(path, (off_t)(4 * most)) == 0);
    MUST(open_file(&file, path, RW, 0, 0) == -ENOMEM);
    await_no_regions();
#else
    (void)path;
#endif
    return 0;
}

static void an_address_space_that_is_refused_is_halved(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, 10000);
    assert_ok(role_result("limited", path));
}

int main(int argc, char **argv) {
    static const struct role roles[] = {
        {"grower", role_grower},
        {"locker", role_locker},
        {"limited", role_limited},
    };
    const int rc = run_role(argc, argv, roles, sizeof roles / sizeof *roles);
    if (rc >= 0) return rc;
    const struct CMUnitTest tests[] = {
        TEST(no_pointer_moves),
        TEST(growth_through_one_handle_is_seen_by_all),
        TEST(growth_by_others_is_seen_past_the_known_end),
        TEST(growth_by_others_beyond_the_address_space_is_enomem),
        TEST(grow_doubles_and_then_adds),
        TEST(grow_adds_64_mib_by_default),
        TEST(growth_beyond_the_address_space_is_enomem),
        TEST(shrunk_away_is_past_the_end_and_comes_back_as_zeros),
        TEST(a_wish_to_grow_never_cuts_off),
        TEST(allocate_far_out_takes_no_space_before_it),
        TEST(allocate_across_the_end_takes_its_range),
        TEST(allocate_that_fails_takes_nothing),
        TEST(a_failed_resize_tells_its_user_of_nothing),
        TEST(growth_that_cannot_be_locked_takes_back_its_own_only),
        TEST(os_processes_that_grow_at_once_cut_nobody_off),
        TEST(handles_that_grow_at_once_cut_nobody_off),
        TEST(a_lock_held_too_long_is_busy_and_goes_with_its_holder),
        TEST(an_address_space_that_is_refused_is_halved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
