/* test_fail_counters.c -- every system call of making, opening, extending, allocating from and syncing counters
 * fails in turn. What was counted stays, no number is given twice, and none that is not on the disk. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/counters.h"
#include "test/faults.h"

enum { CREATE = EMMAP_COUNTERS_CREATE, FIRST = 3, MORE = 5, PLAIN_FIRST = 40, PLAIN_MORE = 400 };

static const struct emmap_counter names[MORE] = {
    {.name = "requests", .unit = "requests", .help = "What was asked for.", .type = EMMAP_COUNTER},
    {.name = "größe", .unit = "bytes"},
    {.name = "latency"},
    {.name = "new"},
    {.name = "newer", .help = "of an extension"},
};
static const uint8_t boots[][16] = {{1}, {2}};

static char path[512];
static struct emmap_counters *counters;
static bool is_named, is_new;
static uint64_t before, wanted; /* how many there are, and are asked for */
static int64_t given;           /* all numbers below it */

static int open_count(uint64_t count) {
    const struct emmap_counters_options options = {
        .flags = CREATE, .count = count, .counters = is_named && count ? names : NULL};
    if (counters) return 0;
    return emmap_counters_open(&counters, path, &options);
}

static void close_all(void) {
    emmap_counters_free(counters);
    counters = NULL;
}

static int64_t kept(uint64_t i) {
    return is_new || i == 0 || i >= before ? 0 : 100 + (int64_t)i;
}

static void no_file(bool named) {
    strcpy(path, support_path("c"));
    (void)unlink(path);
    own_faults();
    os_pretend_boot(boots[0]);
    is_named = named;
    is_new = true;
    given = 0;
    wanted = before = named ? FIRST : PLAIN_FIRST;
}

static void no_named(void) {
    no_file(true);
}

static void no_plain(void) {
    no_file(false);
}

static void have(bool named) {
    no_file(named);
    is_new = false;
    assert_ok(open_count(before));
    for (uint64_t i = 1; i < before; i++)
        assert_ok(emmap_counters_put(counters, i, kept(i)));
    close_all();
    await_no_regions();
}

static void have_named(void) {
    have(true);
}

static void have_plain(void) {
    have(false);
}

static void want_more_named(void) {
    have(true);
    wanted = MORE;
}

static void want_more_plain(void) {
    have(false);
    wanted = PLAIN_MORE;
}

static int open_wanted(void) {
    return open_count(wanted);
}

static int open_any(void) {
    return open_count(0);
}

/* -------------------------------------------------------------------------------------- what is there */

static void counters_are(uint64_t count) {
    struct emmap_counters_info info;
    int64_t value;
    uint64_t found;
    assert_ok(emmap_counters_info(counters, &info));
    assert_int_equal(info.count, count);
    for (uint64_t i = 0; i < count; i++) {
        assert_ok(emmap_counters_get(counters, i, &value));
        if (i == 0)
            assert_true(value >= given);
        else
            assert_int_equal(value, kept(i));
        if (!is_named) continue;
        assert_ok(emmap_counters_find(counters, names[i].name, strlen(names[i].name), &found));
        assert_int_equal(found, i);
    }
}

/* Whoever opens it next finds what was there, or, where it was to be extended, what is there now. */
static void look_anew(void) {
    struct emmap_counters *own = counters;
    struct emmap_counters_info info;
    counters = NULL;
    assert_ok(open_count(0));
    assert_ok(emmap_counters_info(counters, &info));
    if (info.count != wanted) assert_int_equal(info.count, before);
    counters_are(info.count);
    emmap_counters_free(counters);
    counters = own;
}

static void check_opened(int rc, const struct fault *failed) {
    (void)failed;
    if (rc == 0) counters_are(wanted);
    if (rc && file_exists(path)) look_anew();
    if (rc && !is_new) assert_true(file_exists(path));
}

static uint64_t word_at(uint64_t off) {
    uint64_t word = 0;
    const int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &word, sizeof word, (off_t)off), sizeof word);
    close(fd);
    return word;
}

/* An extension whose sync has failed: what the kernel has dropped may be values of the others. Nobody may
 * take it for synced who opens the file later. */
static void check_extended(int rc, const struct fault *failed) {
    const bool in_sync = failed && strcmp(fault_call(), "sync") == 0 && failed->err != OS_SHORT;
    if (rc && in_sync) assert_int_not_equal(word_at(COUNTERS_LIVE(sync_error)), 0);
    check_opened(rc, failed);
}

/* ------------------------------------------------------------------------------------------ numbers */

static uint64_t on_disk; /* what was reserved when it was last synced */

static uint64_t reserved_now(void) {
    return word_at(COUNTERS_DATA_OFF + offsetof(struct emmap_disk_counter, reserved));
}

static void see_sync(void *ctx, const struct os_event *event) {
    (void)ctx;
    if (event->kind == OS_EVENT_SYNC && event->off <= COUNTERS_DATA_OFF) on_disk = reserved_now();
}

static uint64_t key_of(int64_t value) {
    return (uint64_t)value ^ UINT64_C(1) << 63;
}

static uint64_t amount;
static int allocate(void) {
    int64_t first = -1;
    os_record_to(see_sync, NULL);
    const int rc = emmap_counters_allocate(counters, 0, amount, &first);
    os_record_to(NULL, NULL);
    if (rc) {
        assert_int_equal(first, -1);
        return rc;
    }
    assert_true(first >= given);
    given = first + (int64_t)amount;
    assert_true(key_of(given) <= on_disk);
    return 0;
}

static void check_allocated(int rc, const struct fault *failed) {
    (void)rc, (void)failed;
    const uint64_t durable =
        word_at(COUNTERS_DATA_OFF + offsetof(struct emmap_disk_counter, durable));
    assert_true(durable <= on_disk);
    counters_are(before);
}

static void none_yet(void) {
    have_named();
    on_disk = 0;
    amount = 10;
    assert_ok(open_wanted());
}

/* Some are on the disk: one call more finds that half of them are used up, or too few left. */
static void few_left(void) {
    none_yet();
    assert_ok(allocate()); /* 2048 are ahead then */
    amount = 1020;
    assert_ok(allocate());
    amount = 10;
}

static void too_few_left(void) {
    few_left();
    amount = 3000;
}

/* What the disk has of an earlier boot: the value is behind what was given. */
static void another_boot(void) {
    too_few_left();
    close_all();
    await_no_regions();
    const int fd = open(path, O_RDWR);
    assert_int_equal(pwrite(fd, &(uint64_t){0}, 8, COUNTERS_DATA_OFF), 8);
    close(fd);
    os_pretend_boot(boots[1]);
}

static void check_recovered(int rc, const struct fault *failed) {
    (void)failed;
    if (rc == 0) counters_are(before);
    if (rc) look_anew();
}

static void failed_before(void) {
    few_left();
    os_fail_at(OS_CALL_SYNC, 1, EIO, 0);
    assert_int_equal(emmap_counters_sync(counters), EMMAP_E_SYNC_FAILED);
    os_fail_never();
    close_all();
    await_no_regions();
}

static uint64_t noted(void) {
    return word_at(COUNTERS_LIVE(sync_error));
}

/* It is forgotten when all is on the disk, and not before. */
static void check_written_anew(int rc, const struct fault *failed) {
    check_recovered(0, failed);
    (void)rc;
}

static int open_after_failure(void) {
    on_disk = 0;
    os_record_to(see_sync, NULL);
    const int rc = open_wanted();
    os_record_to(NULL, NULL);
    assert_true(noted() != 0 || on_disk == reserved_now());
    return rc;
}

static void check_after_failure(int rc, const struct fault *failed) {
    if (rc == 0) check_written_anew(rc, failed);
    if (rc == 0) assert_int_equal(noted(), 0);
}

/* ---------------------------------------------------------------------------------------- the others */

static void open_named(void) {
    have_named();
    assert_ok(open_wanted());
}

static int sync_all(void) {
    return emmap_counters_sync(counters);
}

static void check_synced(int rc, const struct fault *failed) {
    (void)failed;
    counters_are(before);
    assert_int_equal(noted() != 0, rc == EMMAP_E_SYNC_FAILED);
}

static int tell(void) {
    struct emmap_counters_info info = {.count = 77};
    const int rc = emmap_counters_info(counters, &info);
    assert_int_equal(info.count, rc ? 77 : before);
    return rc;
}

static void check_untouched(int rc, const struct fault *failed) {
    (void)rc, (void)failed;
    counters_are(before);
}

static int count_all(void) {
    int64_t old = -1;
    int rc = emmap_counters_fetch(counters, 0, EMMAP_ADD, 1, &old);
    if (rc == 0) assert_int_equal(old, given++);
    return rc;
}

static struct emmap_counters *other;

/* Others add some, which are looked for. */
static void added_by_others(void) {
    open_named();
    struct emmap_counters *own = counters;
    counters = NULL;
    assert_ok(open_count(MORE));
    other = counters;
    counters = own;
    wanted = MORE;
}

static int find_new(void) {
    uint64_t i;
    const int rc = emmap_counters_find(counters, "newer", 5, &i);
    if (rc == 0) assert_int_equal(i, 4);
    return rc;
}

static int name_new(void) {
    struct emmap_counter name;
    const int rc = emmap_counters_name(counters, 3, &name);
    if (rc == 0) assert_string_equal(name.name, "new");
    return rc;
}

static int get_new(void) {
    int64_t value = 5;
    const int rc = emmap_counters_get(counters, 4, &value);
    assert_int_equal(value, rc ? 5 : 0);
    return rc;
}

static void check_added(int rc, const struct fault *failed) {
    (void)failed;
    if (rc == 0) counters_are(wanted);
}

static void close_both(void) {
    emmap_counters_free(other);
    other = NULL;
    close_all();
}

static int close_it(void) {
    const int rc = emmap_counters_close(counters);
    int64_t value;
    assert_int_equal(emmap_counters_get(counters, 0, &value), EMMAP_E_CLOSED);
    return rc;
}

/* --------------------------------------------------------------------------------------------- tables */

static const struct fault_op open_ops[] = {
    {"open of new counters", no_plain, open_wanted, check_opened, close_all, .least = 20},
    {"open of new counters with names", no_named, open_wanted, check_opened, close_all,
     .least = 20},
    {"open of counters", have_plain, open_wanted, check_opened, close_all, .least = 6},
    {"open of counters with names", have_named, open_any, check_opened, close_all, .least = 6},
    {"open in another boot", another_boot, open_any, check_recovered, close_all, .least = 6},
    {"open after a sync that has failed", failed_before, open_after_failure, check_after_failure,
     close_all, .least = 6, .also = {EMMAP_E_SYNC_FAILED}},
};

static void opening_stands_any_failure(void **state) {
    (void)state;
    fault_run(open_ops, sizeof open_ops / sizeof *open_ops);
    os_pretend_boot(NULL);
}

static const struct fault_op extend_ops[] = {
    {"extension", want_more_plain, open_wanted, check_extended, close_all, .least = 15,
     .also = {EMMAP_E_SYNC_FAILED}},
    {"extension with names", want_more_named, open_wanted, check_extended, close_all, .least = 15,
     .also = {EMMAP_E_SYNC_FAILED}},
    {"find of one that others have added", added_by_others, find_new, check_added, close_both,
     .least = 0},
    {"name of one that others have added", added_by_others, name_new, check_added, close_both,
     .least = 0},
    {"get of one that others have added", added_by_others, get_new, check_added, close_both,
     .least = 0},
};

static void extending_stands_any_failure(void **state) {
    (void)state;
    if (!FILES_ARE_KNOWN) skip();
    fault_run(extend_ops, sizeof extend_ops / sizeof *extend_ops);
    os_pretend_boot(NULL);
}

static const struct fault_op use_ops[] = {
    {"allocate, the first time", none_yet, allocate, check_allocated, close_all, .least = 2,
     .also = {EMMAP_E_SYNC_FAILED}, .stays = true},
    {"allocate, while there are some", few_left, allocate, check_allocated, close_all, .least = 2,
     .also = {EMMAP_E_SYNC_FAILED}, .stays = true},
    {"allocate, when there are too few", too_few_left, allocate, check_allocated, close_all,
     .least = 2, .also = {EMMAP_E_SYNC_FAILED}, .stays = true},
    {"sync", open_named, sync_all, check_synced, close_all, .least = 2,
     .also = {EMMAP_E_SYNC_FAILED}, .stays = true},
    {"info", open_named, tell, check_untouched, close_all, .least = 3},
    {"add", open_named, count_all, check_untouched, close_all, .least = 0},
    {"close", open_named, close_it, NULL, close_all, .least = 0},
};

static void using_stands_any_failure(void **state) {
    (void)state;
    fault_run(use_ops, sizeof use_ops / sizeof *use_ops);
    os_pretend_boot(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        FAULT_TEST(opening_stands_any_failure),
        FAULT_TEST(extending_stands_any_failure),
        FAULT_TEST(using_stands_any_failure),
    };
    return fault_tell(cmocka_run_group_tests(tests, NULL, NULL));
}
