/* test_fail_queue.c -- every system call of every call on a queue fails in turn: a clean answer, no
 * message lost, doubled or made up, nothing leaks, and the next try succeeds: on the same handle,
 * after it was closed and opened anew, and after a kill. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test/faults.h"
#include "test/queue_check.h"
#include "test/queue_image.h"

#define SYNC_ERROR_OFF (QUEUE_LIVE_OFF + (off_t)offsetof(struct emmap_disk_live, sync_error))
enum { LARGE = 200000, ROOM = IMAGE_MESSAGE_BYTES };

static char path[512];
static struct emmap_queue *q;
static struct ledger ledger;
static struct emmap_queue_options options;
static uint8_t buf[ROOM];

/* ------------------------------------------------------------------------------ what is there */

static void push(uint32_t len_bytes) {
    ledger_push(&ledger, q, len_bytes);
}

static unsigned first_there(void) {
    unsigned id = 0;
    while (id < ledger.n && ledger.fate[id] != THERE)
        id++;
    return id;
}

/* A message came: it must be the first one. */
static void took(const void *data, uint32_t len_bytes) {
    const unsigned id = first_there();
    assert_int_equal(ledger_find(&ledger, data, len_bytes), id);
    ledger.fate[id] = GONE;
}

static int take(void) {
    uint32_t len, flags;
    const int rc = emmap_queue_take(q, buf, ROOM, &len, &flags);
    if (rc == 0) took(buf, len);
    return rc;
}

static void nothing(void) {
}

/* Segments are of 64 KiB: five of them, one of which is free again. */
static void some(void) {
    static const uint32_t lens[] = {8, 500, 30000, 40000, 1000, 60000, 12, 9000, 90000, 3000, 100};
    push(60000);
    push(16);
    push(2000);
    assert_ok(take());
    for (unsigned i = 0; i < sizeof lens / sizeof *lens; i++)
        push(lens[i]);
    assert_ok(take());
}

static void a_large_one(void) {
    push(LARGE);
    push(20);
}

/* Segments that a few takes leave. */
static void small_ones_over_many_segments(void) {
    for (unsigned i = 0; i < 8; i++)
        push(50000);
}

/* One more does not fit into what is there. */
static void a_full_segment(void) {
    push(64000);
    push(300);
}

static struct queue_message message;

static int claim(void) {
    const int rc = queue_claim(q, true, buf, ROOM, &message);
    if (rc == 0) assert_int_equal(ledger_find(&ledger, buf, message.len_bytes), first_there());
    return rc;
}

static void must_claim(void) {
    assert_ok(claim());
}

/* The file as a history has left it: closed, or killed with it. */
static struct {
    void (*history)(void);
    bool killed;
    uint8_t *bytes;
    uint64_t len_bytes;
    struct ledger ledger;
} was;

static void quiet(void) {
    atomic_store(&q->job_waits, true); /* nothing in the background */
}

static void open_it(void) {
    own_faults();
    assert_ok(emmap_queue_open(&q, path, &options, NULL));
    quiet();
}

static void close_it(void) {
    emmap_queue_close(q);
    q = NULL;
}

/* What a kill of who has it open leaves; the file is opened by nobody then. */
static void kill_it(void) {
    struct snapshot now = snapshot_of(path);
    close_it();
    await_no_regions();
    const int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, now.bytes, now.len_bytes, 0), now.len_bytes);
    close(fd);
    free(now.bytes);
}

static void remember(void (*history)(void), bool killed) {
    (void)unlink(path);
    free(was.bytes);
    memset(&ledger, 0, sizeof ledger);
    options = (struct emmap_queue_options){.flags = EMMAP_QUEUE_CREATE, .size_bytes = 1};
    open_it();
    history();
    if (killed)
        kill_it();
    else
        close_it();
    const struct snapshot now = snapshot_of(path);
    was.history = history;
    was.killed = killed;
    was.bytes = now.bytes;
    was.len_bytes = now.len_bytes;
    was.ledger = ledger;
}

/* Where a file is not known again a kill is as a power cut: what was taken may come back. */
static void may_come_back(void) {
    for (unsigned id = 0; id < ledger.n; id++)
        if (ledger.fate[id] == GONE) ledger.fate[id] = EITHER;
}

static void lay(void (*history)(void), bool killed) {
    strcpy(path, support_path("q"));
    if (was.history != history || was.killed != killed || !file_exists(path))
        remember(history, killed);
    await_no_regions();
    const int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_ok(ftruncate(fd, 0));
    assert_int_equal(pwrite(fd, was.bytes, was.len_bytes, 0), was.len_bytes);
    close(fd);
    ledger = was.ledger;
    options = (struct emmap_queue_options){.flags = 0};
    own_faults();
    if (killed && !FILES_ARE_KNOWN) may_come_back();
}

/* --------------------------------------------------------------------------- what is looked at */

/* Of the ways to go on after a failure, each in turn. */
static enum { SAME, REOPENED, KILLED, WAYS } way;
static void (*on_reopen)(void); /* what a new handle does first */
static int first_rc;

static unsigned files_in_folder(void) {
    unsigned n = 0;
    DIR *dir = opendir(support_path("."));
    assert_non_null(dir);
    for (const struct dirent *entry; (entry = readdir(dir));)
        n += entry->d_name[0] != '.';
    closedir(dir);
    return n;
}

static void all_is_there(void) {
    struct drained drained;
    struct emmap_queue_info info;
    const char *wrong = queue_disagrees(q, false);
    if (!wrong) wrong = drain(q, &ledger, &drained);
    if (!wrong) wrong = agrees(&ledger, &drained);
    if (!wrong) wrong = goes_on(q, &ledger);
    if (wrong) fail_msg("%s", wrong);
    assert_ok(emmap_queue_info(q, &info));
    assert_int_equal(info.lost, 0);
    for (unsigned id = 0; id < ledger.n; id++)
        ledger.fate[id] = GONE;
}

static void reopen(bool killed) {
    struct emmap_queue_info info;
    if (killed)
        kill_it();
    else
        close_it();
    if (killed && !FILES_ARE_KNOWN) may_come_back();
    options.flags &= ~(uint32_t)EMMAP_QUEUE_CREATE;
    open_it();
    assert_ok(emmap_queue_info(q, &info));
    if (FILES_ARE_KNOWN) assert_false(info.was_recovered);
    if (on_reopen) on_reopen();
}

static void check_handle(int rc, const struct fault *failed) {
    if (failed) {
        way = way + 1 < WAYS ? way + 1 : SAME;
        first_rc = rc;
        if (way != SAME) reopen(way == KILLED);
        if (rc != 0) return;
    } else if (first_rc == EMMAP_E_SYNC_FAILED) {
        assert_int_equal(rc, way == SAME ? EMMAP_E_SYNC_FAILED : 0);
    }
    all_is_there();
}

/* The message of a claim comes back. */
static void check_claim(int rc, const struct fault *failed) {
    const bool reopened = failed && way + 1 < WAYS;
    if (rc == 0 && !reopened) assert_ok(queue_return(q, true, &message));
    check_handle(rc, failed);
}

static void end_handle(void) {
    struct emmap_queue_info info;
    close_it();
    open_it();
    assert_ok(emmap_queue_info(q, &info));
    if (FILES_ARE_KNOWN) assert_false(info.was_recovered);
    assert_int_equal(info.messages, 0);
    assert_int_equal(info.sync_error, 0);
    close_it();
    first_rc = 0;
    on_reopen = NULL;
}

/* ------------------------------------------------------------------------------ calls on a handle */

static void open_some(void) {
    lay(some, false);
    open_it();
}

static void open_large(void) {
    lay(a_large_one, false);
    open_it();
}

static void open_many(void) {
    lay(small_ones_over_many_segments, false);
    open_it();
}

static void open_full(void) {
    lay(a_full_segment, false);
    open_it();
}

static void open_claimed(void) {
    open_some();
    must_claim();
    on_reopen = must_claim;
}

static void open_claimed_large(void) {
    open_large();
    must_claim();
    on_reopen = must_claim;
}

/* The last message of the ledger is the one that is being pushed, also by the next try. */
static int push_last(uint32_t len_bytes) {
    if (ledger.n == was.ledger.n) ledger_begin(&ledger, len_bytes);
    ledger_fill(buf, ledger.n - 1, len_bytes);
    const int rc = emmap_queue_push(q, buf, len_bytes, 0);
    ledger.fate[ledger.n - 1] = rc ? NEVER : THERE;
    return rc;
}

static int push_small(void) {
    return push_last(100);
}

static int push_growing(void) {
    return push_last(60000);
}

static int push_large(void) {
    return push_last(LARGE);
}

static int push_and_sync(void) {
    const bool pushed = ledger.n > was.ledger.n && ledger.fate[ledger.n - 1] == THERE;
    const int rc = pushed ? 0 : push_last(60000);
    return rc ? rc : emmap_queue_sync(q);
}

static int ack(void) {
    const int rc = queue_ack(q, true, &message);
    if (rc == 0) ledger.fate[first_there()] = GONE;
    return rc;
}

static int give_claim_back(void) {
    return queue_return(q, true, &message);
}

/* Some of them may be gone when it fails. */
static int take_six(void) {
    const unsigned least = ledger.n - 2;
    int rc = 0;
    while (rc == 0 && first_there() < least)
        rc = take();
    return rc;
}

static int take_and_give_back(void) {
    const int rc = take_six();
    return rc ? rc : queue_give_back(q);
}

static int prepare(void) {
    return queue_prepare(q);
}

static int sync_it(void) {
    return emmap_queue_sync(q);
}

static int ask_info(void) {
    struct emmap_queue_info info;
    const int rc = emmap_queue_info(q, &info);
    if (rc == 0) {
        assert_int_equal(info.file_bytes, file_bytes_of(path));
        assert_true(info.linked);
    }
    return rc;
}

static int set_most(void) {
    return queue_set_max(q, 10 << 20);
}

static int purge(void) {
    const int rc = queue_drop(q, queue_get(&queue_live(q)->tail));
    for (unsigned id = 0; id < ledger.n; id++) {
        if (rc == 0) ledger.fate[id] = GONE;
        if (rc && ledger.fate[id] == THERE) ledger.fate[id] = EITHER;
    }
    return rc;
}

static int look(void) {
    struct queue_place at = {0, 0};
    struct queue_message found;
    const int rc = queue_peek(q, true, false, &at, buf, ROOM, &found);
    if (rc == 0) assert_int_equal(ledger_find(&ledger, buf, found.len_bytes), first_there());
    return rc;
}

static int close_and_open(void) {
    if (q) close_it();
    const int rc = emmap_queue_open(&q, path, &options, NULL);
    if (rc == 0) quiet();
    return rc;
}

static void check_closed(int rc, const struct fault *failed) {
    if (failed && rc) return;
    all_is_there();
}

static const struct fault_op handle_ops[] = {
    {"push", open_some, push_small, check_handle, end_handle, .least = 0},
    {"push that grows", open_full, push_growing, check_handle, end_handle, .least = 10},
    {"push of a large one", open_some, push_large, check_handle, end_handle, .least = 10},
    {"push and sync", open_full, push_and_sync, check_handle, end_handle, .least = 10,
     .also = {EMMAP_E_SYNC_FAILED}, .stays = true},
    {"take", open_some, take, check_handle, end_handle, .least = 0},
    {"take of a large one", open_large, take, check_handle, end_handle, .least = 0},
    {"take that leaves segments", open_many, take_and_give_back, check_handle, end_handle,
     .least = 2},
    {"claim", open_some, claim, check_claim, end_handle, .least = 0},
    {"claim of a large one", open_large, claim, check_claim, end_handle, .least = 0},
    {"ack", open_claimed, ack, check_handle, end_handle, .least = 0},
    {"ack of a large one", open_claimed_large, ack, check_handle, end_handle, .least = 0},
    {"return", open_claimed, give_claim_back, check_handle, end_handle, .least = 0},
    {"prepare", open_full, prepare, check_handle, end_handle, .least = 8},
    {"sync", open_some, sync_it, check_handle, end_handle, .least = 2,
     .also = {EMMAP_E_SYNC_FAILED}, .stays = true},
    {"info", open_some, ask_info, check_handle, end_handle, .least = 3},
    {"limit", open_some, set_most, check_handle, end_handle, .least = 0},
    {"purge", open_many, purge, check_handle, end_handle, .least = 0},
    {"look", open_some, look, check_handle, end_handle, .least = 0},
    {"close and open", open_some, close_and_open, check_closed, end_handle,
     .also = {EMMAP_E_LOCKED, EMMAP_E_FULL, EMMAP_E_SYNC_FAILED}, .least = 10},
};

static void calls_on_a_queue_stand_any_failure(void **state) {
    (void)state;
    was.history = NULL;
    fault_run(handle_ops, sizeof handle_ops / sizeof *handle_ops);
}

/* -------------------------------------------------------------------------------------- open */

static int open_now(void) {
    if (q) return 0;
    const int rc = emmap_queue_open(&q, path, &options, NULL);
    if (rc == 0) quiet();
    if (rc) assert_null(q);
    return rc;
}

static bool may_recover, may_leave; /* leave a file of a temporary name */

static uint64_t word_in_file(off_t off) {
    uint64_t word = 0;
    const int fd = open(path, O_RDONLY);
    assert_int_equal(pread(fd, &word, sizeof word, off), sizeof word);
    close(fd);
    return word;
}

static void check_opened(int rc, const struct fault *failed) {
    struct emmap_queue_info info;
    if (failed && (failed->sticky || strcmp(fault_call(), "unlink") == 0)) may_leave = true;
    if (!may_leave) assert_in_range(files_in_folder(), 0, 1);
    /* Who comes next must write again what the kernel has forgotten. */
    if (rc == EMMAP_E_SYNC_FAILED) assert_int_not_equal(word_in_file(SYNC_ERROR_OFF), 0);
    if (rc) return;
    assert_ok(emmap_queue_info(q, &info));
    if (!may_recover && FILES_ARE_KNOWN) assert_false(info.was_recovered);
    all_is_there();
}

static void remove_leftovers(void) {
    char name[600];
    DIR *dir = opendir(support_path("."));
    assert_non_null(dir);
    for (const struct dirent *entry; (entry = readdir(dir));) {
        if (strncmp(entry->d_name, "emmap.new.", 10) != 0) continue;
        strcpy(name, support_path(entry->d_name));
        assert_ok(unlink(name));
    }
    closedir(dir);
}

static void end_opened(void) {
    os_pretend_boot(NULL);
    remove_leftovers();
    may_recover = may_leave = false;
    if (options.flags & EMMAP_QUEUE_PRIVATE) {
        close_it();
        return;
    }
    close_it();
    options.flags = 0;
    if (!file_exists(path)) return;
    open_it();
    close_it();
}

static void lay_closed(void) {
    lay(some, false);
}

static void lay_killed(void) {
    lay(some, true);
}

static void lay_killed_with_claims(void) {
    lay(some, true);
}

static void lay_nothing(void) {
    lay(nothing, false);
    was.history = NULL;
    assert_ok(unlink(path));
    options = (struct emmap_queue_options){.flags = EMMAP_QUEUE_CREATE, .size_bytes = 1};
}

static void lay_nothing_fixed(void) {
    lay_nothing();
    options.flags |= EMMAP_QUEUE_FIXED_SIZE;
    options.size_bytes = 1 << 20;
}

static const uint8_t other_boot[16] = {1, 2, 3};

static void lay_rebooted(void) {
    lay(some, true);
    os_pretend_boot(other_boot);
    may_recover = true;
    may_come_back();
}

static void lay_for_several(void) {
    lay(some, true);
    options.flags = EMMAP_QUEUE_MULTI_OS;
}

static void lay_private(void) {
    lay(some, false);
    options.flags = EMMAP_QUEUE_PRIVATE;
    may_recover = true;
}

static void lay_limited(void) {
    lay(some, false);
    options.max_bytes = 10 << 20;
}

static void lay_sync_failed(void) {
    const uint64_t error = EIO;
    lay(some, false);
    const int fd = open(path, O_RDWR);
    assert_int_equal(pwrite(fd, &error, sizeof error, SYNC_ERROR_OFF), sizeof error);
    close(fd);
}

/* Killed with a slot more in its hand, which the file does not reach to. */
static void lay_with_a_slot_in_hand(void) {
    const uint64_t slots = QUEUE_LIVE_OFF + offsetof(struct emmap_disk_live, slots);
    const uint64_t hand =
        QUEUE_PARTICIPANTS_OFF + 5 * 64 + offsetof(struct emmap_disk_participant, preparing);
    uint64_t n;
    lay(some, true);
    const int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &n, sizeof n, (off_t)slots), sizeof n);
    n++;
    assert_int_equal(pwrite(fd, &n, sizeof n, (off_t)slots), sizeof n);
    assert_int_equal(pwrite(fd, &n, sizeof n, (off_t)hand), sizeof n);
    close(fd);
}

/* Where the lock of a byte is somebody's; and what a recovery says. */
#define OTHERS EMMAP_E_LOCKED, EMMAP_E_FULL, EMMAP_E_SYNC_FAILED

static const struct fault_op open_ops[] = {
    {"open of a new one", lay_nothing, open_now, check_opened, end_opened, .also = {OTHERS},
     .least = 20},
    {"open of a new one of fixed size", lay_nothing_fixed, open_now, check_opened, end_opened,
     .also = {OTHERS}, .least = 20},
    {"open", lay_closed, open_now, check_opened, end_opened, .also = {OTHERS}, .least = 10},
    {"open after a kill", lay_killed, open_now, check_opened, end_opened, .also = {OTHERS},
     .least = 10},
    {"open after a kill, with claims", lay_killed_with_claims, open_now, check_opened, end_opened,
     .also = {OTHERS}, .least = 10},
    {"open after a kill, with a slot in hand", lay_with_a_slot_in_hand, open_now, check_opened,
     end_opened, .also = {OTHERS}, .least = 10},
    {"open after a reboot", lay_rebooted, open_now, check_opened, end_opened, .also = {OTHERS},
     .least = 10},
    {"open after a failed sync", lay_sync_failed, open_now, check_opened, end_opened,
     .also = {OTHERS}, .least = 10},
    {"open for several", lay_for_several, open_now, check_opened, end_opened, .also = {OTHERS},
     .least = FILES_ARE_KNOWN ? 10 : 0, .answer = FILES_ARE_KNOWN ? 0 : EMMAP_E_NOTSUP},
    {"open of a private copy", lay_private, open_now, check_opened, end_opened, .also = {OTHERS},
     .least = 8},
    {"open with a limit", lay_limited, open_now, check_opened, end_opened, .also = {OTHERS},
     .least = 10},
};

static void open_of_a_queue_stands_any_failure(void **state) {
    (void)state;
    was.history = NULL;
    fault_run(open_ops, sizeof open_ops / sizeof *open_ops);
}

/* ---- what is refused stays as it is */

static struct snapshot as_laid;

static void lay_truncated(void) {
    lay(some, true);
    assert_ok(truncate(path, QUEUE_DATA_OFF + QUEUE_LEAST_SEGMENT + 100));
    as_laid = snapshot_of(path);
}

static void lay_garbage(void) {
    lay(nothing, false);
    was.history = NULL;
    make_file(path, 3 * QUEUE_LEAST_SEGMENT);
    options.flags = EMMAP_QUEUE_CREATE | EMMAP_QUEUE_AUTO_UNLINK;
    as_laid = snapshot_of(path);
}

static void check_refused(int rc, const struct fault *failed) {
    struct snapshot copy = as_laid;
    (void)failed;
    assert_int_not_equal(rc, 0);
    assert_null(q);
    copy.bytes = malloc(as_laid.len_bytes);
    assert_non_null(copy.bytes);
    memcpy(copy.bytes, as_laid.bytes, as_laid.len_bytes);
    assert_as_before(&copy);
}

static void end_refused(void) {
    free(as_laid.bytes);
    (void)unlink(path);
}

static const struct fault_op refused_ops[] = {
    {"open of garbage", lay_garbage, open_now, check_refused, end_refused, .least = 8,
     .answer = EMMAP_E_FOREIGN},
    {"open of a file that was cut", lay_truncated, open_now, check_refused, end_refused, .least = 8,
     .answer = EMMAP_E_TRUNCATED, .also = {OTHERS}},
};

static void what_is_refused_stays_as_it_is(void **state) {
    (void)state;
    was.history = NULL;
    fault_run(refused_ops, FILES_ARE_KNOWN ? 2 : 1);
}

/* ------------------------------------------------------------------- more than one that has it open */

static struct emmap_queue *other_handle;

static void lay_open(void) {
    lay(some, false);
    open_it();
    other_handle = q;
    q = NULL;
}

static void end_both(void) {
    close_it();
    emmap_queue_close(other_handle);
}

static void lay_to_delete(void) {
    lay(nothing, false);
    options.flags = EMMAP_QUEUE_AUTO_UNLINK;
    open_it();
}

static int close_and_delete(void) {
    if (q) close_it();
    return 0;
}

static void check_deleted(int rc, const struct fault *failed) {
    (void)rc;
    const char *call = fault_call(); /* by these it is found, and deleted */
    const bool stays =
        failed && (failed->sticky || strcmp(call, "stat") == 0 || strcmp(call, "unlink") == 0);
    if (!stays) assert_false(file_exists(path));
    (void)unlink(path);
}

static const struct fault_op twice_ops[] = {
    {"open of a second handle", lay_open, open_now, check_opened, end_both, .least = 5,
     .also = {OTHERS}},
    {"close that deletes", lay_to_delete, close_and_delete, check_deleted, NULL, .least = 2},
};

static void second_handles_and_deletion_stand_any_failure(void **state) {
    (void)state;
    was.history = NULL;
    fault_run(twice_ops, sizeof twice_ops / sizeof *twice_ops);
}

/* Another OS process has it open all the time. */
static int role_have_it_open(const char *at) {
    struct emmap_queue *mine = open_queue(at, EMMAP_QUEUE_CREATE | EMMAP_QUEUE_MULTI_OS);
    say();
    (void)hear();
    emmap_queue_close(mine);
    return 0;
}

static void be_beside(void) {
    memset(&ledger, 0, sizeof ledger);
    was.ledger = ledger;
    options = (struct emmap_queue_options){.flags = EMMAP_QUEUE_MULTI_OS};
}

static void open_beside(void) {
    be_beside();
    open_it();
    push(60000);
    push(10);
    was.ledger = ledger;
}

static void open_large_beside(void) {
    be_beside();
    open_it();
    push(LARGE);
    push(10);
    was.ledger = ledger;
}

static void check_beside(int rc, const struct fault *failed) {
    if (!failed || rc == 0) all_is_there();
}

static void check_claim_beside(int rc, const struct fault *failed) {
    if (rc == 0) assert_ok(queue_return(q, true, &message));
    check_beside(rc, failed);
}

static const struct fault_op beside_ops[] = {
    {"open beside others", be_beside, open_now, check_beside, close_it, .least = 10,
     .also = {OTHERS}},
    {"push beside others", open_beside, push_growing, check_beside, close_it, .least = 0},
    {"push of a large one beside others", open_beside, push_large, check_beside, close_it,
     .least = 0},
    {"take beside others", open_beside, take, check_beside, close_it, .least = 0},
    {"take of a large one beside others", open_large_beside, take, check_beside, close_it,
     .least = 0},
    {"claim beside others", open_beside, claim, check_claim_beside, close_it, .least = 0},
    {"info beside others", open_beside, ask_info, check_beside, close_it, .least = 3},
};

static void calls_beside_another_process_stand_any_failure(void **state) {
    (void)state;
    if (!FILES_ARE_KNOWN) skip();
    strcpy(path, support_path("q"));
    const struct child child = start_role("have_it_open", path);
    await_word(&child);
    fault_run(beside_ops, sizeof beside_ops / sizeof *beside_ops);
    assert_int_equal(end_role(&child), 0);
}

int main(int argc, char **argv) {
    static const struct role roles[] = {{"have_it_open", role_have_it_open}};
    const int status = run_role(argc, argv, roles, sizeof roles / sizeof *roles);
    if (status >= 0) return status;
    const struct CMUnitTest tests[] = {
        FAULT_TEST(calls_on_a_queue_stand_any_failure),
        FAULT_TEST(open_of_a_queue_stands_any_failure),
        FAULT_TEST(what_is_refused_stays_as_it_is),
        FAULT_TEST(second_handles_and_deletion_stand_any_failure),
        FAULT_TEST(calls_beside_another_process_stand_any_failure),
    };
    return fault_tell(cmocka_run_group_tests(tests, NULL, NULL));
}
