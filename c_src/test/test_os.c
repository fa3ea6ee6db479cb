/* test_os.c -- the system calls by themselves: locks of a byte, which file this is, holes, random
 * bytes. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "os/os.h"
#include "test/support.h"

enum { FILE_BYTES = 1 << 20, BYTE = 77 };

static int open_rw(const char *path) {
    int fd = -1;
    MUST(os_open(path, OS_OPEN_WRITE, 0, &fd) == 0);
    return fd;
}

static const char *made_file(void) {
    const char *path = support_path("f");
    make_file(path, FILE_BYTES);
    return path;
}

#ifdef EMMAP_OS_posix
static void without_more_than_posix_there_are_none(void **state) {
    (void)state;
    const int fd = open_rw(made_file());
    bool locked;
    struct os_identity identity;
    assert_int_equal(os_lock_byte(fd, BYTE, OS_LOCK_WRITE), -EOPNOTSUPP);
    assert_int_equal(os_lock_byte(fd, BYTE, OS_LOCK_NONE), -EOPNOTSUPP);
    assert_int_equal(os_byte_locked(fd, BYTE, &locked), -EOPNOTSUPP);
    assert_int_equal(os_identity(fd, &identity), -EOPNOTSUPP);
    assert_int_equal(os_punch(fd, 0, page_bytes()), -EOPNOTSUPP);
    close(fd);
}
#else

/* ------------------------------------------------------------------------- locks of a byte */

static bool is_locked(int fd, uint64_t off) {
    bool locked = false;
    MUST(os_byte_locked(fd, off, &locked) == 0);
    return locked;
}

static const char *lockable_file(void) {
    const char *path = made_file();
#ifndef EMMAP_OS_linux
    const int fd = open_rw(path);
    const int rc = os_lock_byte(fd, BYTE, OS_LOCK_NONE);
    close(fd);
    if (rc == -EOPNOTSUPP) skip(); /* an older macOS */
#endif
    return path;
}

static void a_write_lock_excludes_all_others(void **state) {
    (void)state;
    static const uint64_t places[] = {0, BYTE, FILE_BYTES + 1, (uint64_t)1 << 62, INT64_MAX};
    const char *path = lockable_file();
    const int a = open_rw(path), b = open_rw(path);
    for (unsigned i = 0; i < sizeof places / sizeof *places; i++) {
        const uint64_t off = places[i];
        assert_false(is_locked(a, off));
        assert_ok(os_lock_byte(a, off, OS_LOCK_WRITE));
        assert_ok(os_lock_byte(a, off, OS_LOCK_WRITE)); /* has it */
        assert_false(is_locked(a, off));                /* by nobody else */
        assert_true(is_locked(b, off));
        assert_int_equal(os_lock_byte(b, off, OS_LOCK_WRITE), -EAGAIN);
        assert_int_equal(os_lock_byte(b, off, OS_LOCK_READ), -EAGAIN);
        assert_ok(os_lock_byte(b, off, OS_LOCK_NONE)); /* gives back nothing of a's */
        assert_true(is_locked(b, off));
        assert_ok(os_lock_byte(a, off, OS_LOCK_NONE));
        assert_false(is_locked(b, off));
        assert_ok(os_lock_byte(b, off, OS_LOCK_WRITE));
        assert_ok(os_lock_byte(b, off, OS_LOCK_NONE));
    }
    close(a);
    close(b);
}

static void a_lock_is_of_one_byte(void **state) {
    (void)state;
    const char *path = lockable_file();
    const int a = open_rw(path), b = open_rw(path);
    assert_ok(os_lock_byte(a, BYTE, OS_LOCK_WRITE));
    assert_false(is_locked(b, BYTE - 1));
    assert_false(is_locked(b, BYTE + 1));
    assert_ok(os_lock_byte(b, BYTE - 1, OS_LOCK_WRITE));
    assert_ok(os_lock_byte(b, BYTE + 1, OS_LOCK_WRITE));
    assert_ok(os_try_lock(b)); /* nor has it to do with the lock of the size */
    assert_ok(os_lock_byte(a, BYTE, OS_LOCK_NONE));
    assert_ok(os_unlock(b));
    assert_true(is_locked(a, BYTE - 1));
    assert_true(is_locked(a, BYTE + 1));
    close(a);
    close(b);
}

static void read_locks_are_shared(void **state) {
    (void)state;
    const char *path = lockable_file();
    const int a = open_rw(path), b = open_rw(path), c = open_rw(path);
    assert_ok(os_lock_byte(a, BYTE, OS_LOCK_READ));
    assert_ok(os_lock_byte(b, BYTE, OS_LOCK_READ));
    assert_int_equal(os_lock_byte(c, BYTE, OS_LOCK_WRITE), -EAGAIN);
    assert_true(is_locked(a, BYTE));
    assert_ok(os_lock_byte(b, BYTE, OS_LOCK_NONE));
    assert_false(is_locked(a, BYTE)); /* one's own does not count */
    assert_true(is_locked(c, BYTE));
    close(a);
    close(b);
    close(c);
}

static void a_lock_is_converted_or_stays_as_it_was(void **state) {
    (void)state;
    const char *path = lockable_file();
    const int a = open_rw(path), b = open_rw(path);
    assert_ok(os_lock_byte(a, BYTE, OS_LOCK_READ));
    assert_ok(os_lock_byte(a, BYTE, OS_LOCK_WRITE));
    assert_int_equal(os_lock_byte(b, BYTE, OS_LOCK_READ), -EAGAIN);
    assert_ok(os_lock_byte(a, BYTE, OS_LOCK_READ));
    assert_ok(os_lock_byte(b, BYTE, OS_LOCK_READ));
    assert_int_equal(os_lock_byte(a, BYTE, OS_LOCK_WRITE), -EAGAIN);
    assert_true(is_locked(b, BYTE)); /* a has its read lock yet */
    assert_ok(os_lock_byte(b, BYTE, OS_LOCK_NONE));
    assert_ok(os_lock_byte(a, BYTE, OS_LOCK_WRITE));
    close(a);
    close(b);
}

static void a_lock_ends_with_its_own_open_only(void **state) {
    (void)state;
    const char *path = lockable_file();
    const int a = open_rw(path), b = open_rw(path);
    int copy = -1;
    assert_ok(os_dup(a, &copy));
    assert_ok(os_lock_byte(a, BYTE, OS_LOCK_WRITE));
    assert_false(is_locked(copy, BYTE)); /* the same open */
    close(a);
    assert_true(is_locked(b, BYTE));
    close(open_rw(path)); /* as would drop a lock of the process */
    assert_true(is_locked(b, BYTE));
    close(copy);
    assert_false(is_locked(b, BYTE));
    close(b);
}

static void a_lock_asks_for_the_right_kind_of_descriptor(void **state) {
    (void)state;
    const char *path = lockable_file();
    const int writer = open_rw(path);
    int reader = -1;
    assert_ok(os_open(path, 0, 0, &reader));
    assert_int_equal(os_lock_byte(reader, BYTE, OS_LOCK_WRITE), -EBADF);
    assert_ok(os_lock_byte(reader, BYTE, OS_LOCK_READ));
    assert_true(is_locked(writer, BYTE));
    assert_ok(os_lock_byte(reader, BYTE, OS_LOCK_NONE));
    assert_ok(os_lock_byte(writer, BYTE, OS_LOCK_READ));
    assert_true(is_locked(reader, BYTE));
    assert_int_equal(os_lock_byte(writer, (uint64_t)INT64_MAX + 1, OS_LOCK_READ), -EOVERFLOW);
    close(reader);
    close(writer);
}

static int role_hold(const char *path) {
    const int fd = open_rw(path);
    MUST(os_lock_byte(fd, BYTE, OS_LOCK_WRITE) == 0);
    MUST(os_lock_byte(fd, BYTE + 1, OS_LOCK_READ) == 0);
    say();
    hear();
    return 0;
}

static void locks_of_a_killed_process_are_gone(void **state) {
    (void)state;
    const char *path = lockable_file();
    const int fd = open_rw(path);
    const struct child holder = start_role("hold", path);
    await_word(&holder);
    assert_true(is_locked(fd, BYTE));
    assert_true(is_locked(fd, BYTE + 1));
    assert_int_equal(os_lock_byte(fd, BYTE, OS_LOCK_WRITE), -EAGAIN);
    assert_ok(kill(holder.pid, SIGKILL));
    assert_int_equal(end_role(&holder), 256 + SIGKILL);
    assert_false(is_locked(fd, BYTE));
    assert_false(is_locked(fd, BYTE + 1));
    assert_ok(os_lock_byte(fd, BYTE, OS_LOCK_WRITE));
    close(fd);
}

/* The lock is given back all the same. */
static void a_release_that_is_made_to_fail_has_happened(void **state) {
    (void)state;
    const char *path = lockable_file();
    const int a = open_rw(path), b = open_rw(path);
    assert_ok(os_lock_byte(a, BYTE, OS_LOCK_WRITE));
    os_fail_at(OS_CALL_LOCK_BYTE, 1, EIO, 0);
    assert_int_equal(os_lock_byte(a, BYTE, OS_LOCK_NONE), -EIO);
    assert_false(is_locked(b, BYTE));
    os_fail_at(OS_CALL_LOCK_BYTE, 1, EAGAIN, 0);
    assert_int_equal(os_lock_byte(a, BYTE, OS_LOCK_READ), -EAGAIN);
    assert_false(is_locked(b, BYTE));
    close(a);
    close(b);
}

/* ------------------------------------------------------------------------- which file this is */

static struct os_identity identity_of(const char *path) {
    struct os_identity identity;
    const int fd = open_rw(path);
    memset(&identity, 0xA5, sizeof identity);
    const int rc = os_identity(fd, &identity);
    close(fd);
    if (rc == -EOPNOTSUPP) {
        print_message("the file system of TMPDIR tells no time of birth\n");
        skip();
    }
    assert_ok(rc);
    return identity;
}

static bool same(const struct os_identity *a, const struct os_identity *b) {
    return memcmp(a, b, sizeof *a) == 0;
}

static void a_file_is_itself(void **state) {
    (void)state;
    const char *path = made_file(), *copy = support_path("copy"), *link_path = support_path("link");
    const struct os_identity it = identity_of(path);
    struct stat st;
    assert_ok(stat(path, &st));
    assert_int_equal(it.dev, st.st_dev);
    assert_int_equal(it.ino, st.st_ino);
    assert_in_range(it.birth_ns / 1000000000, time(NULL) - 60, time(NULL) + 60);
    assert_int_not_equal(it.mount, 0);

    assert_ok(link(path, link_path));
    assert_ok(truncate(path, 5));
    const struct os_identity again = identity_of(link_path);
    assert_true(same(&it, &again));

    make_file(copy, FILE_BYTES);
    const struct os_identity other = identity_of(copy);
    assert_false(same(&it, &other));
    assert_memory_equal(it.boot, other.boot, sizeof it.boot);
}

/* A file that got the number of one that is gone differs by its birth. */
static void a_number_that_is_used_again_is_another_file(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, 1);
    struct os_identity before = identity_of(path);
    for (unsigned i = 0; i < 4; i++) {
        assert_ok(unlink(path));
        const uint64_t then_ms = os_wall_ms();
        while (os_wall_ms() - then_ms < 20) /* the kernel's clock of files ticks slowly */
            ;
        make_file(path, 1);
        const struct os_identity now = identity_of(path);
        assert_false(same(&before, &now));
        before = now;
    }
}

static void another_mount_is_another_identity(void **state) {
    (void)state;
    const char *path = support_tmpfs(1 << 20);
    make_file(path, 1);
    const struct os_identity there = identity_of(path);
    make_file(support_path("f"), 1);
    const struct os_identity here = identity_of(support_path("f"));
    assert_int_not_equal(there.mount, here.mount);
}

static void another_boot_is_another_identity(void **state) {
    (void)state;
    static const uint8_t boot[16] = {1, 2, 3}, none[16] = {0};
    const char *path = made_file();
    const struct os_identity it = identity_of(path);
    assert_memory_not_equal(it.boot, none, sizeof none);
    os_pretend_boot(boot);
    const struct os_identity later = identity_of(path);
    assert_false(same(&it, &later));
    assert_memory_equal(later.boot, boot, sizeof boot);
    assert_int_equal(later.birth_ns, it.birth_ns);
    os_pretend_boot(NULL);
    const struct os_identity again = identity_of(path);
    assert_true(same(&it, &again));
}

#ifdef EMMAP_OS_linux
static void the_boot_is_what_the_kernel_says(void **state) {
    (void)state;
    char said[64] = "", text[64];
    const struct os_identity it = identity_of(made_file());
    const uint8_t *b = it.boot;
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "r");
    assert_non_null(f);
    assert_non_null(fgets(said, sizeof said, f));
    fclose(f);
    snprintf(text, sizeof text,
             "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x\n", b[0], b[1],
             b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
             b[15]);
    assert_string_equal(text, said);
}
#endif

/* -------------------------------------------------------------------------------------- holes */

static void a_punched_range_is_zeros_and_takes_no_space(void **state) {
    (void)state;
    static uint8_t bytes[FILE_BYTES];
    enum { OFF = 256 << 10, LEN = 512 << 10 };
    const char *path = made_file();
    const int fd = open_rw(path);
    assert_ok(fsync(fd)); /* blocks that are only promised are not counted everywhere */
    const uint64_t before = file_blocks_of(path);
    assert_ok(os_punch(fd, OFF, LEN));
    assert_true(file_blocks_of(path) <= before - LEN / 512);
    assert_int_equal(file_bytes_of(path), FILE_BYTES);
    assert_int_equal(pread(fd, bytes, FILE_BYTES, 0), FILE_BYTES);
    assert_true(is_pattern(bytes, 0, OFF));
    assert_true(is_zero(bytes + OFF, LEN));
    assert_true(is_pattern(bytes + OFF + LEN, OFF + LEN, FILE_BYTES - OFF - LEN));
    assert_int_equal(os_punch(fd, (uint64_t)INT64_MAX, 2), -EFBIG);
    assert_ok(os_punch(fd, FILE_BYTES - page_bytes(), 4 * page_bytes())); /* past the end */
    assert_int_equal(file_bytes_of(path), FILE_BYTES);
    close(fd);
}

static void what_is_no_hole_is_found(void **state) {
    (void)state;
    const char *path = support_path("f");
    const uint64_t hole = 1 << 20;
    uint64_t from = 5, to = 6;
    make_file(path, 0);
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_ok(ftruncate(fd, 4 * (off_t)hole));
    assert_int_equal(pwrite(fd, "x", 1, 2 * (off_t)hole), 1);
    const int rc = os_data(fd, 100, &from, &to);
    if (rc == -EOPNOTSUPP || (rc == 0 && from == 100)) skip(); /* it does not tell */
    assert_ok(rc);
    assert_in_range(from, hole, 2 * hole);
    assert_in_range(to, 2 * hole + 1, 3 * hole);
    assert_ok(os_data(fd, 2 * hole, &from, &to));
    assert_int_equal(from, 2 * hole);
    assert_int_equal(os_data(fd, 3 * hole, &from, &to), -ENXIO);
    assert_int_equal(os_data(fd, 4 * hole, &from, &to), -ENXIO);
    assert_int_equal(os_data(fd, UINT64_MAX, &from, &to), -ENXIO);
    close(fd);
}

static unsigned punches_seen;

static void note_punch(void *ctx, const struct os_event *event) {
    if (event->kind == OS_EVENT_ZERO && event->fd == *(int *)ctx && event->off == 4096 &&
        event->len_bytes == 8192)
        punches_seen++;
}

static void a_punch_is_recorded(void **state) {
    (void)state;
    int fd = open_rw(made_file());
    punches_seen = 0;
    os_record_to(note_punch, &fd);
    assert_ok(os_punch(fd, 4096, 8192));
    assert_int_equal(punches_seen, 1);
    close(fd);
}
#endif

/* ------------------------------------------------------------------------- random bytes, clocks */

static void random_bytes_differ_and_stay_within_the_buffer(void **state) {
    (void)state;
    uint8_t a[1000], b[1000];
    unsigned values[256] = {0}, kinds = 0;
    memset(a, 0, sizeof a);
    memset(b, 0, sizeof b);
    assert_ok(os_random(a + 8, sizeof a - 16));
    assert_ok(os_random(b + 8, sizeof b - 16));
    assert_ok(os_random(b, 0));
    assert_true(is_zero(a, 8) && is_zero(a + sizeof a - 8, 8));
    assert_memory_not_equal(a, b, sizeof a);
    assert_memory_not_equal(a + sizeof a - 16, b + sizeof b - 16, 8); /* to the end */
    for (unsigned i = 8; i < sizeof a - 8; i++)
        kinds += values[a[i]]++ == 0;
    assert_true(kinds > 200);
}

static void the_wall_clock_is_that_of_files(void **state) {
    (void)state;
    const uint64_t before_ms = os_wall_ms();
    assert_in_range(before_ms / 1000, time(NULL) - 60, time(NULL) + 60);
    assert_true(os_wall_ms() >= before_ms);
}

static void each_can_be_made_to_fail(void **state) {
    (void)state;
    const int fd = open_rw(made_file());
    bool locked = true;
    uint8_t byte = 7;
    struct os_identity identity;
    os_fail_at(OS_CALL_LOCK_BYTE, 1, ENOLCK, 0);
    assert_int_equal(os_lock_byte(fd, 0, OS_LOCK_WRITE), -ENOLCK);
    os_fail_at(OS_CALL_BYTE_LOCKED, 1, EIO, 0);
    assert_int_equal(os_byte_locked(fd, 0, &locked), -EIO);
    assert_true(locked);
    os_fail_at(OS_CALL_IDENTITY, 1, EIO, 0);
    assert_int_equal(os_identity(fd, &identity), -EIO);
    os_fail_at(OS_CALL_PUNCH, 1, ENOSPC, 0);
    assert_int_equal(os_punch(fd, 0, 4096), -ENOSPC);
    assert_int_equal(file_byte(support_path("f"), 0), pattern(0));
    os_fail_at(OS_CALL_RANDOM, 1, ENOSYS, 0);
    assert_int_equal(os_random(&byte, 1), -ENOSYS);
    assert_int_equal(byte, 7);
    assert_string_equal(os_fail_last(), "random");
    close(fd);
}

int main(int argc, char **argv) {
#ifdef EMMAP_OS_posix
    (void)argc, (void)argv;
#else
    static const struct role roles[] = {{"hold", role_hold}};
    const int rc = run_role(argc, argv, roles, 1);
    if (rc >= 0) return rc;
#endif
    const struct CMUnitTest tests[] = {
#ifdef EMMAP_OS_posix
        TEST(without_more_than_posix_there_are_none),
#else
        TEST(a_write_lock_excludes_all_others),
        TEST(a_lock_is_of_one_byte),
        TEST(read_locks_are_shared),
        TEST(a_lock_is_converted_or_stays_as_it_was),
        TEST(a_lock_ends_with_its_own_open_only),
        TEST(a_lock_asks_for_the_right_kind_of_descriptor),
        TEST(locks_of_a_killed_process_are_gone),
        TEST(a_release_that_is_made_to_fail_has_happened),
        TEST(a_file_is_itself),
        TEST(a_number_that_is_used_again_is_another_file),
        TEST(another_mount_is_another_identity),
        TEST(another_boot_is_another_identity),
#ifdef EMMAP_OS_linux
        TEST(the_boot_is_what_the_kernel_says),
#endif
        TEST(a_punched_range_is_zeros_and_takes_no_space),
        TEST(what_is_no_hole_is_found),
        TEST(a_punch_is_recorded),
#endif
        TEST(random_bytes_differ_and_stay_within_the_buffer),
        TEST(the_wall_clock_is_that_of_files),
        TEST(each_can_be_made_to_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
