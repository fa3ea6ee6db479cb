/* test_open.c -- what opens, what is refused, and that what is refused leaves no trace. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/os.h"
#include "store/file.h"
#include "test/support.h"

enum { FILE_BYTES = 10000 };
static const uint64_t HUGE_OFF = 1ull << 62;

/* A refused open: the answer, and nothing changed. */
static void refused(int answer, const char *path, uint32_t flags, uint64_t off,
                    uint64_t len_bytes) {
    struct snapshot before = snapshot_of(path);
    const unsigned descriptors = open_descriptors();
    struct emmap_file *file = NULL;
    assert_int_equal(open_file(&file, path, flags, off, len_bytes), answer);
    assert_null(file);
    await_no_regions();
    await_descriptors(descriptors);
    assert_as_before(&before);
}

static void opens_with_size(const char *path, uint32_t flags, uint64_t off, uint64_t len_bytes,
                            uint64_t size_bytes) {
    struct emmap_file *file;
    uint8_t byte;
    own_faults();
    assert_ok(open_file(&file, path, flags, off, len_bytes));
    assert_int_equal(emmap_file_size(file), size_bytes);
    if (size_bytes > 0) {
        assert_ok(read_byte(file, size_bytes - 1, &byte));
        assert_int_equal(byte, file_byte(path, off + size_bytes - 1));
    }
    assert_int_equal(read_byte(file, size_bytes, &byte), EMMAP_E_PAST_END);
    emmap_file_free(file);
    await_no_regions();
}

static void a_missing_file_needs_create_write_and_a_length(void **state) {
    (void)state;
    const char *path = support_path("new");
    refused(-ENOENT, path, RW, 0, 100);
    refused(-ENOENT, path, EMMAP_SHARED, 0, 0);
    refused(EMMAP_E_SIZE_MISSING, path, RW | EMMAP_CREATE, 0, 0);
    refused(-EACCES, path, EMMAP_SHARED | EMMAP_CREATE, 0, 100);
    refused(-ENOENT, support_path("no/new"), RW | EMMAP_CREATE, 0, 100);
    refused(-ENOENT, "", RW | EMMAP_CREATE, 0, 100);
    char long_name[300];
    memset(long_name, 'a', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    refused(-ENAMETOOLONG, support_path(long_name), RW | EMMAP_CREATE, 0, 100);
    opens_with_size(path, RW | EMMAP_CREATE, 0, 12345, 12345);
    assert_int_equal(file_bytes_of(path), 12345);
}

static void open_tells_whether_the_file_was_there(void **state) {
    (void)state;
    const char *path = support_path("new");
    const struct emmap_file_options options = {.flags = RW | EMMAP_CREATE, .len_bytes = 100};
    struct emmap_file *file;
    bool existed = true;
    assert_ok(emmap_file_open(&file, path, &options, &existed));
    assert_false(existed);
    emmap_file_free(file);
    assert_ok(emmap_file_open(&file, path, &options, &existed));
    assert_true(existed);
    emmap_file_free(file);
    await_no_regions();
}

static void the_length_must_agree_or_fit(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, FILE_BYTES);
    opens_with_size(path, RW, 0, 0, FILE_BYTES);
    opens_with_size(path, RW, 0, FILE_BYTES, FILE_BYTES);
    opens_with_size(path, EMMAP_SHARED, 0, FILE_BYTES, FILE_BYTES);
    refused(EMMAP_E_SIZE_MISMATCH, path, RW, 0, FILE_BYTES + 1);
    refused(EMMAP_E_SIZE_MISMATCH, path, RW, 0, FILE_BYTES - 1);
    refused(EMMAP_E_SIZE_MISMATCH, path, RW | EMMAP_CREATE, 0, FILE_BYTES - 1);
    refused(EMMAP_E_SIZE_MISMATCH, path, 0, 0, FILE_BYTES - 1);
    opens_with_size(path, RW | EMMAP_FIT, 0, 500, FILE_BYTES); /* longer: whole */
    opens_with_size(path, EMMAP_SHARED | EMMAP_FIT, 0, 500, FILE_BYTES);
    refused(-EACCES, path, EMMAP_SHARED | EMMAP_FIT, 0, 20000);
    opens_with_size(path, RW | EMMAP_FIT, 0, 20000, 20000); /* shorter: stretched */
    assert_int_equal(file_bytes_of(path), 20000);
    assert_int_equal(file_byte(path, FILE_BYTES - 1), pattern(FILE_BYTES - 1));
    assert_int_equal(file_byte(path, FILE_BYTES), 0);
}

static void an_empty_file_takes_the_length(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, 0);
    opens_with_size(path, RW, 0, 0, 0);
    opens_with_size(path, EMMAP_SHARED, 0, 0, 0);
    opens_with_size(path, EMMAP_WRITE, 0, 0, 0);
    refused(-EACCES, path, EMMAP_SHARED, 0, 100);
    opens_with_size(path, RW, 0, 100, 100);
    assert_int_equal(file_bytes_of(path), 100);
}

static void an_offset_need_not_lie_on_a_page(void **state) {
    (void)state;
    const char *path = support_path("f");
    struct emmap_file *file;
    uint8_t byte;
    make_file(path, FILE_BYTES);
    opens_with_size(path, RW, 5001, 0, FILE_BYTES - 5001);
    opens_with_size(path, RW, 5001, FILE_BYTES - 5001, FILE_BYTES - 5001);
    opens_with_size(path, RW, FILE_BYTES, 0, 0);
    refused(EMMAP_E_SIZE_MISMATCH, path, RW, 5001, FILE_BYTES);
    refused(-EINVAL, path, RW, FILE_BYTES + 1, 0);
    assert_ok(open_file(&file, path, RW, 5001, 0));
    assert_ok(read_byte(file, 0, &byte));
    assert_int_equal(byte, pattern(5001));
    assert_ok(emmap_file_write(file, 1, "x", 1));
    assert_int_equal(file_byte(path, 5002), 'x');
    assert_ok(emmap_file_resize(file, 10000, NULL));
    assert_int_equal(file_bytes_of(path), 15001);
    assert_int_equal(info_of(file).off, 5001);
    emmap_file_free(file);
    await_no_regions();
    opens_with_size(support_path("new"), RW | EMMAP_CREATE, 3 * page_bytes() + 1, 100, 100);
    assert_int_equal(file_bytes_of(support_path("new")), 3 * page_bytes() + 101);
}

static void offsets_and_lengths_that_wrap_are_refused(void **state) {
    (void)state;
    static const uint64_t large[] = {INT64_MAX, (uint64_t)INT64_MAX + 1, UINT64_MAX - 4096,
                                     UINT64_MAX};
    const char *path = support_path("f"), *missing = support_path("new");
    make_file(path, FILE_BYTES);
    for (unsigned i = 0; i < sizeof large / sizeof *large; i++) {
        refused(-EINVAL, path, RW, large[i], 0);
        for (unsigned j = 0; j < sizeof large / sizeof *large; j++) {
            struct emmap_file *file;
            const int rc = open_file(&file, path, RW | EMMAP_FIT, large[i], large[j]);
            assert_true(rc == -EINVAL || rc == -EFBIG);
        }
        refused(large[i] > INT64_MAX ? -EFBIG : -ENOMEM, path, RW | EMMAP_FIT | EMMAP_SPARSE, 0,
                large[i]);
        refused(large[i] > INT64_MAX ? -EFBIG : -ENOMEM, missing, RW | EMMAP_CREATE | EMMAP_SPARSE,
                0, large[i]);
        refused(-EFBIG, missing, RW | EMMAP_CREATE, 1, large[i]);
    }
    struct snapshot before = snapshot_of(path);
    struct emmap_file *file;
    assert_true(open_file(&file, path, RW | EMMAP_FIT | EMMAP_SPARSE, HUGE_OFF, 100) < 0);
    assert_true(open_file(&file, missing, RW | EMMAP_CREATE, HUGE_OFF, 100) < 0);
    assert_true(open_file(&file, missing, RW | EMMAP_CREATE | EMMAP_SPARSE, INT64_MAX - 100, 50) <
                0);
    assert_as_before(&before);
    assert_false(file_exists(missing));
    await_no_regions();
}

/* -------------------------------------------------------------------------------- truncate */

static void truncate_zeroes_and_gives_the_length(void **state) {
    (void)state;
    static const uint64_t lengths[] = {0, 1, 5000, FILE_BYTES, 30000};
    const char *path = support_path("f");
    for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++)
        for (uint32_t sparse = 0; sparse <= EMMAP_SPARSE; sparse += EMMAP_SPARSE) {
            make_file(path, FILE_BYTES);
            opens_with_size(path, RW | EMMAP_TRUNCATE | sparse, 0, lengths[i], lengths[i]);
            struct snapshot now = snapshot_of(path);
            assert_int_equal(now.len_bytes, lengths[i]);
            assert_true(is_zero(now.bytes, now.len_bytes));
            free(now.bytes);
            if (SPACE_IS_RESERVED && !sparse) assert_true(file_blocks_of(path) * 512 >= lengths[i]);
        }
}

static void truncate_zeroes_where_the_file_system_cannot(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, FILE_BYTES);
    os_fail_at(OS_CALL_ZERO, 1, EOPNOTSUPP, 1);
    opens_with_size(path, RW | EMMAP_TRUNCATE, 0, 5000, 5000);
    assert_true(os_fail_seen(OS_CALL_ZERO) > 0);
    os_fail_never();
    struct snapshot now = snapshot_of(path);
    assert_true(is_zero(now.bytes, now.len_bytes));
    free(now.bytes);
}

static void truncate_needs_write_and_comes_last(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, FILE_BYTES);
    refused(-EINVAL, path, EMMAP_SHARED | EMMAP_TRUNCATE, 0, 100);
    os_fs_pretend(OS_FS_NETWORK);
    refused(EMMAP_E_NETWORK_FS, path, RW | EMMAP_TRUNCATE, 0, 100);
    os_fs_pretend(-1);
    os_fail_at(OS_CALL_MAP, 1, ENOMEM, 1);
    refused(-ENOMEM, path, RW | EMMAP_TRUNCATE, 0, 100);
    os_fail_never();
    refused(-ENOENT, support_path("new"), RW | EMMAP_TRUNCATE, 0, 100);
}

static void truncate_is_seen_by_handles_as_zeros(void **state) {
    (void)state;
    const char *path = support_path("f");
    uint8_t byte = 1;
    make_file(path, FILE_BYTES);
    struct emmap_file *file = must_open(path, RW, 0);
    assert_ok(open_rc(path, RW | EMMAP_TRUNCATE, 0, 9000));
    assert_ok(read_byte(file, 8999, &byte));
    assert_int_equal(byte, 0);
    assert_int_equal(read_byte(file, 9000, &byte), EMMAP_E_PAST_END);
    emmap_file_free(file);
    await_no_regions();
}

/* ------------------------------------------------------------------------------- what it is */

static void what_is_no_regular_file_is_refused_at_once(void **state) {
    (void)state;
    const char *fifo = support_path("fifo");
    assert_ok(mkfifo(fifo, 0600));
    static const uint32_t flags[] = {RW, EMMAP_SHARED, 0, RW | EMMAP_CREATE | EMMAP_TRUNCATE};
    for (unsigned i = 0; i < sizeof flags / sizeof *flags; i++) {
        assert_int_equal(open_rc(support_path("."), flags[i], 0, 100), -EISDIR);
        assert_int_equal(open_rc("/", flags[i], 0, 100), -EISDIR);
        assert_int_equal(open_rc(fifo, flags[i], 0, 100), -ENODEV);
        assert_int_equal(open_rc("/dev/null", flags[i], 0, 100), -ENODEV);
        assert_int_equal(open_rc("/dev/zero", flags[i], 0, 0), -ENODEV);
    }
    make_file(support_path("f"), 10);
    assert_int_equal(open_rc(support_path("f/g"), RW | EMMAP_CREATE, 0, 10), -ENOTDIR);
    assert_ok(symlink("loop", support_path("loop")));
    assert_int_equal(open_rc(support_path("loop"), RW | EMMAP_CREATE, 0, 10), -ELOOP);
    assert_ok(symlink("f", support_path("link")));
    assert_ok(open_rc(support_path("link"), RW, 0, 10));
    await_no_regions();
}

static void a_network_file_system_needs_force(void **state) {
    (void)state;
    const char *path = support_path("f"), *missing = support_path("new");
    make_file(path, FILE_BYTES);
    os_fs_pretend(OS_FS_NETWORK);
    refused(EMMAP_E_NETWORK_FS, path, RW, 0, 0);
    refused(EMMAP_E_NETWORK_FS, path, 0, 0, 0);
    refused(EMMAP_E_NETWORK_FS, missing, RW | EMMAP_CREATE, 0, 100);
    opens_with_size(path, RW | EMMAP_FORCE, 0, 0, FILE_BYTES);
    struct emmap_file *file = must_open(missing, RW | EMMAP_CREATE | EMMAP_FORCE, 8192);
    assert_int_not_equal(info_of(file).space, EMMAP_SPACE_RESERVED);
    emmap_file_free(file);
    await_no_regions();
}

static void the_mode_goes_under_the_umask(void **state) {
    (void)state;
    static const struct {
        uint32_t mode, umask, then;
    } cases[] = {{0, 022, 0600}, {0666, 022, 0644}, {0666, 077, 0600}, {0640, 0, 0640}};
    const mode_t before = umask(0);
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *path = support_path("new");
        const struct emmap_file_options options = {
            .flags = RW | EMMAP_CREATE, .len_bytes = 100, .mode = cases[i].mode};
        struct emmap_file *file;
        struct stat st;
        umask((mode_t)cases[i].umask);
        const int rc = emmap_file_open(&file, path, &options, NULL);
        umask(before);
        assert_ok(rc);
        emmap_file_free(file);
        assert_ok(stat(path, &st));
        assert_int_equal(st.st_mode & 07777, cases[i].then);
        assert_ok(unlink(path));
    }
    await_no_regions();
}

static int role_nobody(const char *folder) {
    char path[600];
    MUST(chdir(folder) == 0);
    MUST(setgid(65534) == 0 && setuid(65534) == 0);
    MUST(open_rc("secret", EMMAP_SHARED, 0, 0) == -EACCES);
    MUST(open_rc("secret", RW | EMMAP_CREATE | EMMAP_TRUNCATE, 0, 10) == -EACCES);
    MUST(open_rc("shown", EMMAP_SHARED, 0, 0) == 0);
    MUST(open_rc("shown", RW, 0, 0) == -EACCES);
    MUST(open_rc("shown", RW | EMMAP_TRUNCATE, 0, 10) == -EACCES);
    MUST(open_rc("new", RW | EMMAP_CREATE, 0, 10) == -EACCES);
    snprintf(path, sizeof path, "%s/closed/f", folder);
    MUST(open_rc(path, EMMAP_SHARED, 0, 0) == -EACCES);
    await_no_regions();
    return 0;
}

static void who_has_no_permission_is_refused(void **state) {
    (void)state;
    if (getuid() != 0) skip();
    make_file(support_path("secret"), FILE_BYTES);
    make_file(support_path("shown"), FILE_BYTES);
    assert_ok(chmod(support_path("."), 0755));
    assert_ok(chmod(support_path("secret"), 0600));
    assert_ok(chmod(support_path("shown"), 0644));
    assert_ok(mkdir(support_path("closed"), 0700));
    struct snapshot secret = snapshot_of(support_path("secret"));
    struct snapshot shown = snapshot_of(support_path("shown"));
    assert_ok(role_result("nobody", support_path(".")));
    assert_as_before(&secret);
    assert_as_before(&shown);
    assert_false(file_exists(support_path("new")));
}

/* A page that is read only has no place on the disk (most file systems), and faults once more when
 * it is written: populate writes, and changes nothing. */
static void populate_touches_each_page_for_writing(void **state) {
    (void)state;
    enum { PAGES = 50 };
    const char *path = support_path("f");
    const uint64_t size = PAGES * page_bytes();
    make_file(path, 100);
    assert_ok(truncate(path, (off_t)size));
    struct emmap_file *file = must_open(path, RW | EMMAP_SPARSE, 0);
    struct snapshot before = snapshot_of(path);
    assert_ok(file_populate(file));
    assert_true(file_blocks_of(path) * 512 >= size);
    assert_as_before(&before);
    emmap_file_free(file);
    await_no_regions();
}

/* Somebody else opens the file when this open has made it longer, and before it fails. */
static struct {
    const char *path;
    struct emmap_file *file;
    bool busy;
} beside;

static void open_beside(void *ctx, enum os_call call) {
    struct stat st;
    (void)ctx;
    if (call != OS_CALL_LOCK_MEMORY || beside.busy || stat(beside.path, &st) ||
        st.st_size != 5 * FILE_BYTES)
        return;
    beside.busy = true;
    assert_ok(open_file(&beside.file, beside.path, RW, 0, 0));
    assert_ok(emmap_file_write(beside.file, 5 * FILE_BYTES - 1, "x", 1));
    os_fail_at(OS_CALL_LOCK_MEMORY, 1, ENOMEM, 1);
}

static void an_open_that_fails_leaves_what_others_wrote(void **state) {
    (void)state;
    const char *path = support_path("beside");
    make_file(path, FILE_BYTES);
    struct emmap_file *file;
    uint8_t byte = 0;
    own_faults();
    beside.path = path;
    os_watch_calls(open_beside, NULL);
    assert_int_equal(open_file(&file, path, RW | EMMAP_FIT | EMMAP_LOCK_MEMORY, 0, 5 * FILE_BYTES),
                     -ENOMEM);
    os_watch_calls(NULL, NULL);
    os_fail_never();
    assert_non_null(beside.file);
    assert_ok(read_byte(beside.file, 5 * FILE_BYTES - 1, &byte));
    assert_int_equal(byte, 'x');
    emmap_file_free(beside.file);
    await_no_regions();
}

/* The name is the link's, the file is made where it leads. */
static void a_file_is_made_behind_links(void **state) {
    (void)state;
    const char *near = support_path("near"), *far = support_path("far");
    assert_ok(symlink("near", far));
    assert_ok(symlink("f", near));
    struct emmap_file *file = must_open(far, RW | EMMAP_CREATE, 100);
    assert_true(file_exists(support_path("f")));
    emmap_file_free(file);
    await_no_regions();
    assert_ok(symlink("round", support_path("round")));
    refused(-ELOOP, support_path("round"), RW | EMMAP_CREATE, 0, 100);
}

/* Beyond it the kernel would not refuse, but end the OS process. */
static void the_limit_of_the_size_of_files_is_kept(void **state) {
    (void)state;
    const char *path = support_path("f");
    struct rlimit before, limit;
    uint64_t now;
    make_file(path, FILE_BYTES);
    assert_ok(getrlimit(RLIMIT_FSIZE, &before));
    limit = (struct rlimit){.rlim_cur = 2 * FILE_BYTES, .rlim_max = before.rlim_max};
    assert_ok(setrlimit(RLIMIT_FSIZE, &limit));
    struct emmap_file *file = must_open(path, RW, 0);
    assert_ok(emmap_file_resize(file, 2 * FILE_BYTES, &now));
    assert_int_equal(emmap_file_resize(file, 3 * FILE_BYTES, &now), -EFBIG);
    emmap_file_free(file);
    await_no_regions();
    refused(-EFBIG, support_path("new"), RW | EMMAP_CREATE, 0, 3 * FILE_BYTES);
    assert_ok(setrlimit(RLIMIT_FSIZE, &before));
}

static void populate_touches_each_page_for_reading(void **state) {
    (void)state;
    const char *path = support_path("f");
    uint8_t byte = 0;
    make_file(path, FILE_BYTES);
    struct emmap_file *file = must_open(path, EMMAP_SHARED | EMMAP_POPULATE, 0);
    assert_ok(read_byte(file, FILE_BYTES - 1, &byte));
    assert_int_equal(byte, pattern(FILE_BYTES - 1));
    emmap_file_free(file);
    await_no_regions();
}

int main(int argc, char **argv) {
    static const struct role roles[] = {{"nobody", role_nobody}};
    const int rc = run_role(argc, argv, roles, 1);
    if (rc >= 0) return rc;
    const struct CMUnitTest tests[] = {
        TEST(an_open_that_fails_leaves_what_others_wrote),
        TEST(a_missing_file_needs_create_write_and_a_length),
        TEST(open_tells_whether_the_file_was_there),
        TEST(the_length_must_agree_or_fit),
        TEST(an_empty_file_takes_the_length),
        TEST(an_offset_need_not_lie_on_a_page),
        TEST(offsets_and_lengths_that_wrap_are_refused),
        TEST(truncate_zeroes_and_gives_the_length),
        TEST(truncate_zeroes_where_the_file_system_cannot),
        TEST(truncate_needs_write_and_comes_last),
        TEST(truncate_is_seen_by_handles_as_zeros),
        TEST(populate_touches_each_page_for_writing),
        TEST(what_is_no_regular_file_is_refused_at_once),
        TEST(a_network_file_system_needs_force),
        TEST(the_mode_goes_under_the_umask),
        TEST(who_has_no_permission_is_refused),
        TEST(a_file_is_made_behind_links),
        TEST(the_limit_of_the_size_of_files_is_kept),
        TEST(populate_touches_each_page_for_reading),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
