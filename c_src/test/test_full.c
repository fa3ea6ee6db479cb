/* test_full.c -- the disk is full: calls answer enospc, the rest goes on, room heals, and what was
 * refused has taken nothing. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/region.h"
#include "core/stripes.h"
#include "os/os.h"
#include "test/support.h"

enum { DISK_PAGES = 400, FILE_PAGES = 2000 };

static uint64_t page;

/* A sparse file on a file system that is smaller, with room for its first page only. */
static struct emmap_file *open_on_full_disk(const char **path) {
    page = page_bytes();
    *path = support_tmpfs(DISK_PAGES * page);
    struct emmap_file *file = must_open(*path, RW | EMMAP_CREATE | EMMAP_SPARSE, FILE_PAGES * page);
    assert_ok(emmap_file_write(file, 0, "first", 5));
    fill_up();
    return file;
}

static void a_write_without_room_is_enospc_and_heals(void **state) {
    (void)state;
    const char *path;
    char buf[5];
    uint64_t got;
    struct emmap_file *file = open_on_full_disk(&path);
    assert_int_equal(emmap_file_write(file, 70 * page, "x", 1), -ENOSPC);
    assert_int_equal(emmap_file_write(file, 70 * page, "x", 1), -ENOSPC);
    assert_int_equal(emmap_file_write(file, 71 * page, "x", 1), -ENOSPC);
    /* other pages go on */
    assert_ok(emmap_file_read(file, 0, buf, 5, &got));
    assert_memory_equal(buf, "first", 5);
    assert_ok(emmap_file_write(file, 0, "still", 5));
    assert_int_equal(file_byte(path, 0), 's');

    make_room();
    assert_ok(emmap_file_write(file, 70 * page, "x", 1));
    assert_int_equal(file_byte(path, 70 * page), 'x');
    assert_ok(emmap_file_read(file, 71 * page, buf, 1, &got));
    assert_int_equal(buf[0], 0);
    emmap_file_free(file);
    await_no_regions();
}

static void a_write_over_the_edge_is_enospc_and_heals(void **state) {
    (void)state;
    const char *path;
    uint8_t byte;
    struct emmap_file *file = open_on_full_disk(&path);
    assert_int_equal(emmap_file_write(file, page - 2, "abcd", 4), -ENOSPC);
    make_room();
    assert_ok(emmap_file_write(file, page - 2, "abcd", 4));
    assert_int_equal(file_byte(path, page - 1), 'b');
    assert_int_equal(file_byte(path, page), 'c');
    assert_ok(read_byte(file, page + 1, &byte));
    assert_int_equal(byte, 'd');
    emmap_file_free(file);
    await_no_regions();
}

static void count_copy(void *ctx, const struct os_event *event) {
    *(unsigned *)ctx += event->kind == OS_EVENT_COPY;
}

/* It waits for its pages, or for the answer that there is no room, before it keeps others from the
 * file: so what is refused has not been begun. */
static void a_write_without_room_is_refused_before_its_first_byte(void **state) {
    (void)state;
    static const struct {
        uint64_t before_page, len_bytes; /* within a stripe, over an edge, over several */
    } cases[] = {{0, 1}, {2, 4}, {0, 3 << STRIPE_SHIFT}};
    const char *path;
    struct emmap_file *file = open_on_full_disk(&path);
    void *data = calloc(1, 3 << STRIPE_SHIFT);
    assert_non_null(data);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsigned copies = 0;
        os_record_to(count_copy, &copies);
        const int rc =
            emmap_file_write(file, page - cases[i].before_page, data, cases[i].len_bytes);
        os_record_to(NULL, NULL);
        assert_int_equal(rc, -ENOSPC);
        assert_int_equal(copies, 0);
    }
    make_room();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_ok(emmap_file_write(file, page - cases[i].before_page, data, cases[i].len_bytes));
    free(data);
    emmap_file_free(file);
    await_no_regions();
}

/* More pages than are noted one by one. */
static void a_write_of_many_pages_is_enospc_and_heals(void **state) {
    (void)state;
    enum { MANY = 150 };
    const char *path;
    char buf[5];
    uint64_t got;
    struct emmap_file *file = open_on_full_disk(&path);
    uint8_t *data = malloc(MANY * page), *back = malloc(MANY * page);
    for (uint64_t i = 0; i < MANY * page; i++)
        data[i] = pattern(i);
    assert_int_equal(emmap_file_write(file, 100 * page, data, MANY * page), -ENOSPC);
    assert_true(info_of(file).faults > FAULT_RANGES);
    assert_ok(emmap_file_read(file, 0, buf, 5, &got));
    assert_memory_equal(buf, "first", 5);
    assert_int_equal(emmap_file_write(file, 100 * page, data, MANY * page), -ENOSPC);

    make_room();
    assert_ok(emmap_file_write(file, 100 * page, data, MANY * page));
    assert_int_equal(file_byte(path, 100 * page), pattern(0));
    assert_int_equal(file_byte(path, 250 * page - 1), pattern(MANY * page - 1));
    assert_ok(emmap_file_read(file, 100 * page, back, MANY * page, &got));
    assert_int_equal(got, MANY * page);
    assert_memory_equal(back, data, MANY * page);
    os_fail_never();
    assert_ok(emmap_file_sync_range(file, 0, 1)); /* of the mapping: no page is replaced now */
    assert_int_equal(os_fail_seen(OS_CALL_SYNC_RANGE), 1);
    assert_int_equal(os_fail_seen(OS_CALL_SYNC), 0);
    assert_ok(emmap_file_write(file, 0, "still", 5));
    assert_int_equal(file_byte(path, 0), 's');
    free(data);
    free(back);
    emmap_file_free(file);
    await_no_regions();
}

static void a_read_of_a_hole_without_room_is_enospc_and_heals(void **state) {
    (void)state;
    const char *path;
    uint8_t byte = 1;
    struct emmap_file *file = open_on_full_disk(&path);
    struct emmap_file *reader = must_open(path, EMMAP_SHARED, 0);
    assert_int_equal(read_byte(file, 70 * page, &byte), -ENOSPC);
    assert_int_equal(read_byte(reader, 70 * page, &byte), -ENOSPC);
    make_room();
    assert_ok(read_byte(reader, 70 * page, &byte));
    assert_int_equal(byte, 0);
    assert_ok(emmap_file_write(file, 70 * page, "x", 1));
    assert_ok(read_byte(reader, 70 * page, &byte));
    assert_int_equal(byte, 'x');
    emmap_file_free(file);
    emmap_file_free(reader);
    await_no_regions();
}

/* So many pages could not be had that what the handle wrote is gone too: it says so. */
static void a_private_map_never_passes_over_lost_changes(void **state) {
    (void)state;
    const char *path;
    char buf[5];
    uint64_t got;
    struct emmap_file *file = open_on_full_disk(&path);
    struct emmap_file *own = must_open(path, EMMAP_WRITE, 0);
    uint8_t *back = malloc(150 * page);
    assert_ok(emmap_file_write(own, 0, "mine!", 5));
    assert_int_equal(emmap_file_read(own, 100 * page, back, 150 * page, &got), -ENOSPC);
    make_room();
    const int rc = emmap_file_read(own, 0, buf, 5, &got);
    assert_true(rc == -EIO || memcmp(buf, "mine!", 5) == 0);
    free(back);
    emmap_file_free(own);
    emmap_file_free(file);
    await_no_regions();
}

static void a_page_that_was_cut_away_since_takes_no_space(void **state) {
    (void)state;
    const char *path;
    struct emmap_file *file = open_on_full_disk(&path);
    assert_int_equal(emmap_file_write(file, 70 * page, "x", 1), -ENOSPC);
    make_room();
    assert_ok(truncate(path, (off_t)page));
    assert_int_equal(emmap_file_write(file, 70 * page, "x", 1), EMMAP_E_TRUNCATED);
    assert_int_equal(emmap_file_write(file, 70 * page, "x", 1), EMMAP_E_PAST_END);
    assert_true(file_blocks_of(path) * 512 <= page);
    emmap_file_free(file);
    await_no_regions();
}

/* Each system call of a write that finds no room, failing in turn. */
static void a_write_without_room_stands_any_failure(void **state) {
    (void)state;
    const char *path;
    uint8_t byte;
    struct emmap_file *file = open_on_full_disk(&path);
    unsigned n = 1;
    for (;; n++) {
        os_fail_at(OS_CALL_ANY, n, EIO, 0);
        const int rc = emmap_file_write(file, (100 + n) * page, "x", 1);
        const unsigned seen = os_fail_seen(OS_CALL_ANY);
        os_fail_never();
        assert_true(rc == -ENOSPC || rc == -EIO);
        assert_ok(read_byte(file, 0, &byte));
        assert_int_equal(byte, 'f');
        if (seen < n) break;
    }
    assert_true(n > 3);
    make_room();
    for (unsigned i = 1; i <= n; i++) {
        assert_ok(emmap_file_write(file, (100 + i) * page, "x", 1));
        assert_int_equal(file_byte(path, (100 + i) * page), 'x');
    }
    emmap_file_free(file);
    await_no_regions();
}

/* ----------------------------------------------------------- what was refused took nothing */

static void refuses_to_grow(const char *path, uint64_t wanted) {
    struct emmap_file *file = must_open(path, RW, 0);
    const struct emmap_file_options roomy = {.flags = RW, .address_space_bytes = 2 * wanted};
    struct emmap_file *far = NULL;
    uint8_t byte;
    assert_ok(emmap_file_open(&far, path, &roomy, NULL));
    const uint64_t size = file_bytes_of(path), blocks = file_blocks_of(path);
    assert_int_equal(emmap_file_resize(far, wanted, NULL), -ENOSPC);
    assert_int_equal(file_bytes_of(path), size);
    assert_int_equal(file_blocks_of(path), blocks);
    assert_int_equal(emmap_file_size(far), size);
    assert_ok(emmap_file_write(far, size - 1, "z", 1));
    assert_ok(read_byte(file, size - 1, &byte));
    assert_int_equal(byte, 'z');
    emmap_file_free(file);
    emmap_file_free(far);

    struct snapshot before = snapshot_of(path);
    assert_int_equal(open_rc(path, RW | EMMAP_FIT, 0, wanted), -ENOSPC);
    assert_int_equal(open_rc(path, RW | EMMAP_TRUNCATE, 0, wanted), -ENOSPC);
    assert_as_before(&before);
    assert_int_equal(file_blocks_of(path), blocks);
    await_no_regions();
}

static void refuses_to_make(const char *path, uint64_t wanted) {
    assert_int_equal(open_rc(path, RW | EMMAP_CREATE, 0, wanted), -ENOSPC);
    assert_false(file_exists(path));
    await_no_regions();
}

static void growth_without_room_leaves_all_as_it_was(void **state) {
    (void)state;
    page = page_bytes();
    const char *path = support_tmpfs(DISK_PAGES * page);
    make_file(path, 10 * page);
    refuses_to_grow(path, 2 * DISK_PAGES * page); /* more than it ever had */
    fill_up();
    refuses_to_grow(path, 12 * page);
    refuses_to_make(support_path("tmpfs/new"), page);
    make_room();
    assert_ok(open_rc(path, RW | EMMAP_FIT, 0, 12 * page));
    assert_int_equal(file_bytes_of(path), 12 * page);
    await_no_regions();
}

static void more_than_the_disk_has_is_refused(void **state) {
    (void)state;
    struct statvfs fs;
    const char *path = support_path("f");
    assert_ok(statvfs(support_path("."), &fs));
    const uint64_t wanted = (uint64_t)fs.f_blocks * fs.f_frsize + (1ull << 30);
    make_file(path, 10000);
    refuses_to_grow(path, wanted);
    refuses_to_make(support_path("new"), wanted);
}

/* Holes of what is kept are filled before the content goes. */
static void truncate_without_room_keeps_the_content(void **state) {
    (void)state;
    const char *path;
    if (!SPACE_IS_RESERVED) skip();
    struct emmap_file *file = open_on_full_disk(&path);
    struct snapshot before = snapshot_of(path);
    assert_int_equal(open_rc(path, RW | EMMAP_TRUNCATE, 0, 100 * page), -ENOSPC);
    assert_as_before(&before);
    assert_ok(open_rc(path, RW | EMMAP_TRUNCATE | EMMAP_SPARSE, 0, 100 * page));
    assert_int_equal(file_bytes_of(path), 100 * page);
    emmap_file_free(file);
    await_no_regions();
}

/* ---- populate: what will be touched has its space, or nothing has changed */

static void populate_takes_no_space_for_what_truncate_cuts_off(void **state) {
    (void)state;
    const char *path;
    if (!SPACE_IS_RESERVED) skip();
    struct emmap_file *file = open_on_full_disk(&path);
    make_room();
    assert_ok(open_rc(path, RW | EMMAP_TRUNCATE | EMMAP_POPULATE, 0, 10 * page));
    assert_int_equal(file_bytes_of(path), 10 * page);
    assert_int_equal(file_blocks_of(path) * 512, 10 * page);
    emmap_file_free(file);
    await_no_regions();
}

static void populate_of_more_than_the_disk_has_takes_nothing(void **state) {
    (void)state;
    static const uint32_t flags[] = {0, EMMAP_SPARSE, EMMAP_TRUNCATE,
                                     EMMAP_SPARSE | EMMAP_TRUNCATE};
    const char *path;
    if (!SPACE_IS_RESERVED) skip();
    struct emmap_file *file = open_on_full_disk(&path);
    emmap_file_free(file);
    make_room();
    const uint64_t blocks = file_blocks_of(path);
    struct snapshot before = snapshot_of(path);
    for (unsigned i = 0; i < sizeof flags / sizeof *flags; i++) {
        os_fail_never();
        assert_int_equal(open_rc(path, RW | EMMAP_POPULATE | flags[i], 0, FILE_PAGES * page),
                         -ENOSPC);
        assert_int_equal(os_fail_seen(OS_CALL_ALLOCATE), 0); /* not for a moment either */
        assert_int_equal(file_blocks_of(path), blocks);
    }
    assert_as_before(&before);
    await_no_regions();
}

static void populate_without_room_keeps_the_content_of_a_sparse_file(void **state) {
    (void)state;
    page = page_bytes();
    if (!SPACE_IS_RESERVED) skip();
    const char *path = support_tmpfs(DISK_PAGES * page);
    const char *new = support_path("tmpfs/new");
    own_faults();
    make_file(path, 2 * page);
    struct snapshot before = snapshot_of(path);
    const uint32_t flags = RW | EMMAP_SPARSE | EMMAP_POPULATE;
    assert_int_equal(open_rc(path, flags | EMMAP_TRUNCATE, 0, FILE_PAGES * page), -ENOSPC);
    assert_int_equal(open_rc(path, flags | EMMAP_FIT, 0, FILE_PAGES * page), -ENOSPC);
    assert_as_before(&before);
    assert_int_equal(open_rc(new, flags | EMMAP_CREATE, 0, FILE_PAGES * page), -ENOSPC);
    assert_false(file_exists(new));
    /* What lies before the handle's place 0 is not touched, and stays a hole. */
    assert_ok(open_rc(new, flags | EMMAP_CREATE, FILE_PAGES * page, 10 * page));
    assert_int_equal(file_blocks_of(new) * 512, 10 * page);
    assert_ok(open_rc(new, flags | EMMAP_TRUNCATE, FILE_PAGES * page, 5 * page));
    assert_int_equal(file_bytes_of(new), (FILE_PAGES + 5) * page);
    assert_int_equal(file_blocks_of(new) * 512, 5 * page);
    await_no_regions();
}

/* The file system refuses after a part was taken: what is behind the end is given back. */
static void what_was_taken_is_given_back(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, 10000);
    struct emmap_file *file = must_open(path, RW, 0);
    const uint64_t blocks = file_blocks_of(path);
    os_fail_at(OS_CALL_EXTEND, 1, ENOSPC, 0);
    assert_int_equal(emmap_file_resize(file, 10 << 20, NULL), -ENOSPC);
    os_fail_never();
    assert_int_equal(file_bytes_of(path), 10000);
    assert_int_equal(file_blocks_of(path), blocks);
    assert_ok(emmap_file_resize(file, 10 << 20, NULL));
    if (SPACE_IS_RESERVED) assert_true(file_blocks_of(path) * 512 >= 10 << 20);
    emmap_file_free(file);
    await_no_regions();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_write_without_room_is_enospc_and_heals),
        TEST(a_write_over_the_edge_is_enospc_and_heals),
        TEST(a_write_without_room_is_refused_before_its_first_byte),
        TEST(a_write_of_many_pages_is_enospc_and_heals),
        TEST(a_read_of_a_hole_without_room_is_enospc_and_heals),
        TEST(a_private_map_never_passes_over_lost_changes),
        TEST(a_page_that_was_cut_away_since_takes_no_space),
        TEST(a_write_without_room_stands_any_failure),
        TEST(growth_without_room_leaves_all_as_it_was),
        TEST(more_than_the_disk_has_is_refused),
        TEST(truncate_without_room_keeps_the_content),
        TEST(populate_takes_no_space_for_what_truncate_cuts_off),
        TEST(populate_of_more_than_the_disk_has_takes_nothing),
        TEST(populate_without_room_keeps_the_content_of_a_sparse_file),
        TEST(what_was_taken_is_given_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
