/* test_queue.c -- a queue in a file: what is kept, what is refused, when the disk fails or is full.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/os.h"
#include "test/queue_check.h"

enum { MAKE = EMMAP_QUEUE_CREATE };

static struct emmap_queue_info queue_info(struct emmap_queue *q) {
    struct emmap_queue_info info;
    assert_ok(emmap_queue_info(q, &info));
    return info;
}

static int open_rc_of(const char *path, uint32_t flags) {
    const struct emmap_queue_options options = {.flags = flags};
    struct emmap_queue *q = NULL;
    own_faults();
    const int rc = emmap_queue_open(&q, path, &options, NULL);
    assert_true(rc != 0 || q != NULL);
    if (rc == 0) emmap_queue_close(q);
    return rc;
}

static void agrees(struct emmap_queue *q) {
    const char *wrong = queue_disagrees(q, false);
    if (wrong) fail_msg("%s", wrong);
}

/* Of many lengths, now and then a large one. */
static uint32_t length_of(uint64_t id) {
    return id % 50 == 49 ? 70000 + (uint32_t)id : (uint32_t)(id * 37 % 3000);
}

static void push_some(struct emmap_queue *q, uint64_t from, uint64_t to) {
    for (uint64_t id = from; id < to; id++)
        assert_ok(push_id(q, id, length_of(id)));
}

static void take_some(struct emmap_queue *q, uint64_t from, uint64_t to) {
    for (uint64_t id = from; id < to; id++)
        assert_ok(take_id(q, id, length_of(id)));
}

static void copy_file(const char *from, const char *to) {
    struct snapshot all = snapshot_of(from);
    FILE *f = fopen(to, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(all.bytes, 1, all.len_bytes, f), all.len_bytes);
    assert_int_equal(fclose(f), 0);
    free(all.bytes);
}

/* ------------------------------------------------------------------------------- open, close */

static void reopening_keeps_everything(void **state) {
    (void)state;
    const char *path = support_path("q");
    const struct emmap_queue_options make = {.flags = MAKE, .max_bytes = 64 << 20};
    struct emmap_queue *q = NULL;
    bool existed = true;
    own_faults();
    assert_ok(emmap_queue_open(&q, path, &make, &existed));
    assert_false(existed);
    push_some(q, 0, 300);
    take_some(q, 0, 100);
    const struct emmap_queue_info before = queue_info(q);
    emmap_queue_close(q);

    const struct emmap_queue_options again = {.flags = MAKE};
    assert_ok(emmap_queue_open(&q, path, &again, &existed));
    assert_true(existed);
    const struct emmap_queue_info after = queue_info(q);
    assert_int_equal(after.messages, 200);
    assert_int_equal(after.bytes, before.bytes);
    assert_int_equal(after.head, before.head);
    assert_int_equal(after.tail, before.tail);
    assert_int_equal(after.max_bytes, 64 << 20);
    assert_int_equal(after.was_recovered, !FILES_ARE_KNOWN); /* who cannot know, recovers */
    agrees(q);
    push_some(q, 300, 400);
    take_some(q, 100, 400);
    assert_int_equal(take_id(q, 0, 0), EMMAP_E_EMPTY);
    agrees(q);
    emmap_queue_close(q);
    await_no_regions();
}

static void a_missing_file_is_made_only_where_told(void **state) {
    (void)state;
    const char *path = support_path("q");
    assert_int_equal(open_rc_of(path, 0), -ENOENT);
    assert_false(file_exists(path));
    assert_ok(open_rc_of(path, MAKE));
    assert_ok(open_rc_of(path, 0));
    await_no_regions();
}

static void opened_twice_it_is_one_queue(void **state) {
    (void)state;
    const char *path = support_path("q"), *other = support_path("link");
    struct emmap_queue *a = open_queue(path, MAKE);
    assert_ok(symlink(path, other));
    struct emmap_queue *b = open_queue(other, 0);
    assert_ptr_equal(a, b);
    push_some(a, 0, 10);
    take_some(b, 0, 5);
    emmap_queue_close(a);
    take_some(b, 5, 10);
    emmap_queue_close(b);
    await_no_regions();
}

struct punching {
    _Atomic bool begun, closed, late;
};

/* Holds the background up for a while, before it gives blocks back. */
static void before_punch(void *ctx, enum os_call call) {
    struct punching *punching = ctx;
    if (call != OS_CALL_PUNCH) return;
    atomic_store(&punching->begun, true);
    for (int i = 0; i < 100 && !atomic_load(&punching->closed); i++)
        os_sleep_ms(1);
    if (atomic_load(&punching->closed)) atomic_store(&punching->late, true);
}

/* Else the next one to open it would have messages where the blocks are given back. */
static void close_ends_what_goes_on_in_the_background(void **state) {
    (void)state;
    const char *path = support_path("q");
    struct punching punching = {.begun = false};
    os_watch_calls(before_punch, &punching);
    struct emmap_queue *q = open_queue(path, MAKE);
    for (uint64_t id = 0; id < 100; id++)
        assert_ok(push_id(q, id, 60000));
    for (uint64_t id = 0; id < 100; id++)
        assert_ok(take_id(q, id, 60000));
    while (!atomic_load(&punching.begun))
        os_sleep_ms(1);
    emmap_queue_close(q);
    atomic_store(&punching.closed, true);
    q = open_queue(path, 0); /* at once */
    agrees(q);
    emmap_queue_close(q);
    await_no_regions();
    assert_false(atomic_load(&punching.late));
}

static void a_new_file_may_be_deleted_at_close(void **state) {
    (void)state;
    const char *path = support_path("q");
    struct emmap_queue *q = open_queue(path, MAKE | EMMAP_QUEUE_AUTO_UNLINK);
    push_some(q, 0, 10);
    assert_true(file_exists(path));
    struct emmap_queue *second = open_queue(path, EMMAP_QUEUE_AUTO_UNLINK);
    emmap_queue_close(second);
    assert_true(file_exists(path));
    emmap_queue_close(q);
    assert_false(file_exists(path));
    await_no_regions();
}

static void a_private_queue_changes_nothing(void **state) {
    (void)state;
    const char *path = support_path("q");
    struct emmap_queue *q = open_queue(path, MAKE);
    push_some(q, 0, 40);
    emmap_queue_close(q);
    struct snapshot before = snapshot_of(path);
    q = open_queue(path, EMMAP_QUEUE_PRIVATE);
    push_some(q, 40, 200);
    take_some(q, 0, 150);
    assert_ok(emmap_queue_sync(q));
    agrees(q);
    struct emmap_queue *other = open_queue(path, EMMAP_QUEUE_PRIVATE);
    take_some(other, 0, 40);
    assert_int_equal(take_id(other, 0, 0), EMMAP_E_EMPTY);
    emmap_queue_close(other);
    take_some(q, 150, 200);
    emmap_queue_close(q);
    assert_as_before(&before);
    await_no_regions();
}

/* A copy of what is in use has all messages to give, those that somebody works on too. */
static void a_private_queue_beside_the_true_one_has_its_claims(void **state) {
    (void)state;
    const char *path = support_path("q");
    struct queue_message claim;
    uint8_t buf[4000];
    struct emmap_queue *q = open_queue(path, MAKE);
    push_some(q, 0, 20);
    assert_ok(queue_claim(q, true, buf, sizeof buf, &claim));
    struct emmap_queue *copy = open_queue(path, EMMAP_QUEUE_PRIVATE);
    assert_ptr_not_equal(copy, q);
    take_some(copy, 0, 20);
    emmap_queue_close(copy);
    assert_ok(queue_ack(q, true, &claim));
    take_some(q, 1, 20);
    emmap_queue_close(q);
    await_no_regions();
}

/* There the queue is one OS process's, on its user's word. */
static void where_no_bytes_can_be_locked_claims_come_back(void **state) {
    (void)state;
    const char *path = support_path("q");
    struct queue_message claim;
    uint8_t buf[4000];
    os_fail_at(OS_CALL_LOCK_BYTE, 1, EOPNOTSUPP, 1);
    assert_int_equal(open_rc_of(path, MAKE | EMMAP_QUEUE_MULTI_OS), EMMAP_E_NOTSUP);
    struct emmap_queue *q = open_queue(path, MAKE);
    push_some(q, 0, 20);
    assert_ok(queue_claim(q, true, buf, sizeof buf, &claim));
    emmap_queue_close(q);
    q = open_queue(path, 0);
    assert_int_equal(queue_info(q).claimed, 0);
    take_some(q, 0, 20);
    emmap_queue_close(q);
    await_no_regions();
}

/* The more are open, the fewer addresses each has to grow into. */
static void many_queues_share_the_addresses(void **state) {
    (void)state;
    enum { MANY = SANITIZER ? 3 : 40 };
    const uint64_t all = 8ull << 40;
    struct emmap_queue *q[MANY];
    char name[16];
    for (uint64_t i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "q%u", (unsigned)i);
        q[i] = open_queue(support_path(name), MAKE);
        const uint64_t limit = region_limit(q[i]->file->region);
        assert_in_range(limit, SANITIZER ? 1 << 30 : all / (i + 1) / 16,
                        all / (i + 1) + page_bytes());
        push_some(q[i], 0, 60);
    }
    for (unsigned i = 0; i < MANY; i++) {
        take_some(q[i], 0, 60);
        emmap_queue_close(q[i]);
    }
    await_no_regions();
}

/* ------------------------------------------------------------------------------ large messages */

enum { LOOKED_AT = SANITIZER ? 50 : 300, BEHIND = 8, LARGE = 300000 };

/* How many times the test's own thread has taken the lock. Set before there is a background. */
static _Thread_local struct {
    const emmap_disk_word *lock;
    unsigned n;
} locks;

static void count_locks(void *ctx, const struct os_event *event) {
    (void)ctx;
    if (event->addr == (const void *)locks.lock) locks.n++;
}

/* Just before the lock is taken, as its last handle may be. */
static _Thread_local struct emmap_queue *to_close;
static void close_at_the_lock(void *ctx, const struct os_event *event) {
    (void)ctx;
    if (!to_close || event->addr != (const void *)&queue_live(to_close)->lock) return;
    atomic_store(&to_close->closed, true);
    to_close = NULL;
}

static void who_finds_it_closed_under_the_lock_lets_go_of_it(void **state) {
    (void)state;
    os_record_to(close_at_the_lock, NULL); /* before there is a background */
    struct emmap_queue *q = open_queue(support_path("q"), MAKE);
    to_close = q;
    assert_int_equal(push_id(q, 1, 10), EMMAP_E_CLOSED);
    assert_null(to_close);
    assert_int_equal(queue_get(&queue_live(q)->lock), 0);
    atomic_store(&q->closed, false);
    push_some(q, 0, 3);
    take_some(q, 0, 3);
    emmap_queue_close(q);
    await_no_regions();
    os_record_to(NULL, NULL);
}

static struct emmap_queue *open_counted(void) {
    locks.lock = NULL;
    os_record_to(count_locks, NULL);
    struct emmap_queue *q = open_queue(support_path("q"), MAKE);
    locks.lock = &queue_live(q)->lock;
    return q;
}

static void a_large_message_is_not_copied_under_one_lock(void **state) {
    (void)state;
    static uint8_t buf[LARGE];
    struct emmap_queue *q = open_counted();
    struct queue_message message;
    unsigned n = 1;
    assert_ok(push_id(q, 7, LARGE));
    for (int backwards = 0; backwards < 2; backwards++) {
        struct queue_place first = {0, 0};
        memset(buf, 0, sizeof buf);
        locks.n = 0;
        assert_int_equal(queue_peek(q, false, backwards, &first, buf, LARGE, &message), -EAGAIN);
        assert_ok(queue_peek(q, true, backwards, &first, buf, LARGE, &message));
        assert_true(locks.n >= 5); /* to find it, twice; for the pieces; at the end */
        assert_true(is_id(buf, 7, LARGE));
    }
    assert_ok(queue_claim(q, true, buf, LARGE, &message));
    assert_ok(queue_return(q, true, &message));
    locks.n = 0;
    assert_int_equal(queue_take(q, false, buf, LARGE, &message, &n), -EAGAIN);
    assert_ok(queue_take(q, true, buf, LARGE, &message, &n));
    assert_true(locks.n >= 4); /* to find it, twice; to claim it; to end the claim */
    assert_true(is_id(buf, 7, LARGE));
    agrees(q);
    emmap_queue_close(q);
    await_no_regions();
}

static void await_closed_window(struct emmap_queue *q) {
    for (unsigned i = 0; i < 5000 && queue_get(&queue_live(q)->window_n) > 0; i++)
        os_sleep_ms(1); /* in the background */
    assert_int_equal(queue_get(&queue_live(q)->window_n), 0);
}

/* Of messages that others have taken meanwhile. */
static void a_long_window_is_passed_in_turns(void **state) {
    (void)state;
    enum { MANY = 1000 };
    uint8_t buf[4000];
    struct emmap_queue *q = open_counted();
    struct queue_message first;
    for (uint64_t id = 0; id < MANY; id++)
        assert_ok(push_id(q, id, 100));
    assert_ok(queue_claim(q, true, buf, sizeof buf, &first));
    for (uint64_t id = 1; id < MANY; id++)
        assert_ok(take_id(q, id, 100));
    assert_int_equal(queue_get(&queue_live(q)->window_n), MANY);
    while (
        atomic_exchange(&q->job_waits, true)) /* from here on nothing is done in the background */
        os_sleep_ms(1);
    locks.n = 0;
    assert_ok(queue_ack(q, true, &first));
    assert_true(locks.n > MANY / 10);
    atomic_store(&q->job_waits, false);
    assert_int_equal(queue_get(&queue_live(q)->window_n), 0);
    agrees(q);
    /* One that may not wait leaves the rest to the next. */
    for (uint64_t id = 0; id < 20; id++)
        assert_ok(push_id(q, id, 100));
    assert_ok(queue_claim(q, true, buf, sizeof buf, &first));
    for (uint64_t id = 1; id < 12; id++)
        assert_ok(take_id(q, id, 100));
    assert_ok(queue_ack(q, false, &first));
    for (uint64_t id = 12; id < 20; id++)
        assert_ok(take_id(q, id, 100));
    await_closed_window(q);
    agrees(q);
    emmap_queue_close(q);
    await_no_regions();
}

/* What others have taken makes room as soon as the one that was held is taken too. */
static void a_full_queue_has_room_behind_a_long_window(void **state) {
    (void)state;
    uint8_t buf[4000];
    const char *path = support_path("q");
    const struct emmap_queue_options options = {.flags = MAKE | EMMAP_QUEUE_FIXED_SIZE,
                                                .size_bytes = 1 << 18};
    struct emmap_queue *q = NULL;
    struct queue_message first;
    uint64_t id = 0;
    int rc;
    assert_ok(emmap_queue_open(&q, path, &options, NULL));
    if (FILES_ARE_KNOWN) assert_false(q->was_recovered);
    assert_ok(push_id(q, 0, 100));
    assert_ok(queue_claim(q, true, buf, sizeof buf, &first));
    while ((rc = push_id(q, ++id, 100)) == 0)
        assert_ok(take_id(q, id, 100));
    assert_int_equal(rc, EMMAP_E_FULL);
    assert_true(queue_get(&queue_live(q)->window_n) > 1000);
    assert_ok(queue_return(q, true, &first));
    assert_ok(take_id(q, 0, 100));
    for (uint64_t next = 0; next < 5000; next++) {
        assert_ok(push_id(q, next, 100));
        assert_ok(take_id(q, next, 100));
    }
    await_closed_window(q);
    agrees(q);
    emmap_queue_close(q);
    await_no_regions();
}

static void a_window_is_opened_where_nobody_tells_what_is_in_memory(void **state) {
    (void)state;
    uint8_t buf[4000];
    const char *path = support_path("q");
    struct emmap_queue *q = open_queue(path, MAKE);
    struct queue_message first;
    for (uint64_t id = 0; id < 20; id++)
        assert_ok(push_id(q, id, 100));
    assert_ok(queue_claim(q, true, buf, sizeof buf, &first));
    assert_ok(take_id(q, 1, 100));
    emmap_queue_close(q);
    await_no_regions();
    os_fail_at(OS_CALL_RESIDENT, 1, ENOSYS, 1);
    q = open_queue(path, 0);
    assert_true(os_fail_seen(OS_CALL_RESIDENT) > 0 || !FILES_ARE_KNOWN);
    assert_ok(take_id(q, 0, 100));
    assert_ok(take_id(q, 2, 100));
    os_fail_never();
    emmap_queue_close(q);
    await_no_regions();
}

static void what_came_back_comes_in_its_order(void **state) {
    (void)state;
    uint8_t buf[4000];
    struct emmap_queue *q = open_queue(support_path("q"), MAKE);
    struct queue_message claim[10];
    for (uint64_t id = 0; id < 12; id++)
        assert_ok(push_id(q, id, 100));
    for (unsigned i = 0; i < 10; i++)
        assert_ok(queue_claim(q, true, buf, sizeof buf, &claim[i]));
    assert_ok(queue_return(q, true, &claim[6]));
    assert_ok(queue_return(q, true, &claim[8]));
    assert_ok(queue_return(q, true, &claim[3])); /* before the first that had come back */
    assert_ok(take_id(q, 3, 100));
    assert_ok(queue_return(q, true, &claim[1]));
    assert_ok(take_id(q, 1, 100));
    assert_ok(take_id(q, 6, 100));
    assert_ok(queue_return(q, true, &claim[5]));
    assert_ok(take_id(q, 5, 100));
    assert_ok(take_id(q, 8, 100));
    assert_ok(take_id(q, 10, 100));
    agrees(q);
    emmap_queue_close(q);
    await_no_regions();
}

struct passage {
    struct emmap_queue *q;
    _Atomic unsigned seen;
    _Atomic bool ended;
};

/* At least until one was seen. */
static void *come_and_go(void *arg) {
    struct passage *p = arg;
    uint64_t id = 0;
    for (; id < LOOKED_AT || (atomic_load(&p->seen) == 0 && id < 10000); id++) {
        MUST(push_id(p->q, id, LARGE) == 0);
        if (id >= BEHIND) MUST(take_id(p->q, id - BEHIND, LARGE) == 0);
    }
    for (uint64_t rest = id - BEHIND; rest < id; rest++)
        MUST(take_id(p->q, rest, LARGE) == 0);
    atomic_store(&p->ended, true);
    return NULL;
}

static void who_looks_at_large_ones_sees_them_whole_or_not(void **state) {
    (void)state;
    static uint8_t buf[LARGE];
    struct passage p = {.q = open_queue(support_path("q"), MAKE)};
    struct queue_message message;
    uint64_t last = 0;
    pthread_t thread;
    assert_ok(pthread_create(&thread, NULL, come_and_go, &p));
    while (!atomic_load(&p.ended)) {
        struct queue_place first = {0, 0};
        const int rc = queue_peek(p.q, true, false, &first, buf, LARGE, &message);
        MUST(rc == 0 || rc == EMMAP_E_EMPTY || rc == QUEUE_SPUN || rc == EMMAP_E_BUSY);
        if (rc) continue;
        MUST(message.ordinal >= last);
        last = message.ordinal;
        MUST(is_id(buf, last - 1, LARGE));
        atomic_fetch_add(&p.seen, 1);
    }
    pthread_join(thread, NULL);
    assert_true(p.seen > 0);
    agrees(p.q);
    emmap_queue_close(p.q);
    await_no_regions();
}

/* ----------------------------------------------------------------------------------- recovery */

static void expect_recovered(const char *path, uint64_t from, uint64_t to) {
    struct emmap_queue *q = open_queue(path, 0);
    const struct emmap_queue_info info = queue_info(q);
    assert_true(info.was_recovered);
    assert_int_equal(info.recovered, to - from);
    assert_int_equal(info.messages, to - from);
    assert_int_equal(info.lost, 0);
    agrees(q);
    push_some(q, to, to + 30);
    take_some(q, from, to + 30);
    agrees(q);
    emmap_queue_close(q);
    q = open_queue(path, 0);
    assert_int_equal(queue_info(q).was_recovered, !FILES_ARE_KNOWN);
    emmap_queue_close(q);
}

static void a_copied_file_is_recovered(void **state) {
    (void)state;
    const char *path = support_path("q"), *copy = support_path("copy");
    struct emmap_queue *q = open_queue(path, MAKE);
    push_some(q, 0, 200);
    take_some(q, 0, 60);
    copy_file(path, copy); /* of a live one */
    expect_recovered(copy, 60, 200);
    take_some(q, 60, 200);
    emmap_queue_close(q);
    await_no_regions();
}

static void after_a_reboot_it_is_recovered(void **state) {
    (void)state;
    static const uint8_t boot[16] = {1, 2, 3};
    const char *path = support_path("q");
    struct emmap_queue *q = open_queue(path, MAKE);
    push_some(q, 0, 200);
    take_some(q, 0, 60);
    emmap_queue_close(q);
    os_pretend_boot(boot);
    expect_recovered(path, 60, 200);
    await_no_regions();
}

/* ----------------------------------------------------------------------------- the disk fails */

static void a_failed_sync_stays_until_the_next_open(void **state) {
    (void)state;
    if (!FILES_ARE_KNOWN) skip(); /* its next open is a recovery, which syncs, and fails too */
    const char *path = support_path("q");
    struct emmap_queue *q = open_queue(path, MAKE);
    push_some(q, 0, 10);
    assert_ok(emmap_queue_sync(q));
    os_fail_at(OS_CALL_SYNC, 1, EIO, 0);
    assert_int_equal(emmap_queue_sync(q), EMMAP_E_SYNC_FAILED);
    os_fail_never();
    assert_int_equal(emmap_queue_sync(q), EMMAP_E_SYNC_FAILED);
    assert_int_equal(queue_info(q).sync_error, EIO);
    push_some(q, 10, 20); /* what promises no disk goes on */
    take_some(q, 0, 5);
    struct emmap_queue *second = open_queue(path, 0);
    assert_int_equal(emmap_queue_sync(second), EMMAP_E_SYNC_FAILED);
    emmap_queue_close(second);
    emmap_queue_close(q);

    /* It fails once more, when all is written again: it stays. */
    await_no_regions();
    os_fail_at(OS_CALL_SYNC, 1, EDQUOT, 0);
    q = open_queue(path, 0);
    os_fail_never();
    assert_int_equal(queue_info(q).sync_error, EIO);
    assert_int_equal(emmap_queue_sync(q), EMMAP_E_SYNC_FAILED);
    emmap_queue_close(q);

    q = open_queue(path, 0); /* at once, too */
    assert_int_equal(queue_info(q).sync_error, 0);
    assert_ok(emmap_queue_sync(q));
    take_some(q, 5, 20);
    emmap_queue_close(q);
    await_no_regions();
}

static void a_full_disk_is_told_and_healed(void **state) {
    (void)state;
    const char *path = support_tmpfs(8 << 20);
    struct emmap_queue *q = open_queue(path, MAKE);
    uint64_t n = 0;
    push_some(q, 0, 10);
    fill_up();
    assert_int_equal(push_id(q, 10, 900000), -ENOSPC);
    int rc = 0;
    for (n = 10; rc == 0; n++)
        rc = push_id(q, n, length_of(n));
    assert_int_equal(rc, -ENOSPC);
    n--;
    assert_int_equal(push_id(q, n, 300000), -ENOSPC);
    agrees(q);
    assert_int_equal(queue_info(q).messages, n);
    take_some(q, 0, 5); /* what is there can be had */
    make_room();
    push_some(q, n, n + 200);
    agrees(q);
    take_some(q, 5, n + 200);
    emmap_queue_close(q);
    q = open_queue(path, 0);
    assert_int_equal(queue_info(q).was_recovered, !FILES_ARE_KNOWN);
    agrees(q);
    emmap_queue_close(q);
    await_no_regions();
}

static void no_file_is_made_on_a_full_disk(void **state) {
    (void)state;
    const char *path = support_tmpfs(1 << 20);
    fill_up();
    assert_int_equal(open_rc_of(path, MAKE), -ENOSPC);
    assert_false(file_exists(path));
    make_room();
    assert_ok(open_rc_of(path, MAKE));
    await_no_regions();
}

/* ------------------------------------------------------------------------------------- space */

static void a_drained_queue_gives_its_blocks_back(void **state) {
    (void)state;
    if (!FILES_ARE_KNOWN) skip(); /* no holes here */
    enum { N = 400, LEN = 60000 };
    const char *path = support_path("q");
    struct emmap_queue *q = open_queue(path, MAKE);
    for (uint64_t id = 0; id < N; id++)
        assert_ok(push_id(q, id, LEN));
    const uint64_t full = file_blocks_of(path), size = file_bytes_of(path);
    assert_in_range(full * 512, N * LEN, N * LEN * 2);
    for (uint64_t id = 0; id < N; id++)
        assert_ok(take_id(q, id, LEN));
    assert_ok(queue_give_back(q));
    assert_in_range(file_blocks_of(path) * 512, 0, N * LEN / 10);
    agrees(q);
    for (uint64_t id = 0; id < N; id++) /* in the same slots */
        assert_ok(push_id(q, id, LEN));
    assert_in_range(file_bytes_of(path), size, size + 2 * q->segment_bytes);
    for (uint64_t id = 0; id < N; id++)
        assert_ok(take_id(q, id, LEN));
    agrees(q);
    emmap_queue_close(q);
    await_no_regions();
}

static void one_of_fixed_size_has_its_space_at_once(void **state) {
    (void)state;
    enum { SIZE = 1 << 20, LEN = 10000 };
    const char *path = support_path("q");
    const struct emmap_queue_options make = {.flags = MAKE | EMMAP_QUEUE_FIXED_SIZE,
                                             .size_bytes = SIZE};
    struct emmap_queue *q = NULL;
    own_faults();
    assert_ok(emmap_queue_open(&q, path, &make, NULL));
    const uint64_t bytes = file_bytes_of(path), blocks = file_blocks_of(path);
    if (SPACE_IS_RESERVED) assert_in_range(blocks * 512, bytes, UINT64_MAX);
    uint64_t head = 0, tail = 0;
    for (unsigned round = 0; round < 20; round++) {
        int rc = 0;
        for (; rc == 0; tail++)
            rc = push_id(q, tail, LEN);
        assert_int_equal(rc, EMMAP_E_FULL);
        tail--;
        assert_int_equal(tail - head, SIZE / queue_record_bytes(LEN));
        for (; head + 10 < tail; head++)
            assert_ok(take_id(q, head, LEN));
        agrees(q);
    }
    assert_int_equal(push_id(q, 0, SIZE / 2 + 1), EMMAP_E_TOO_BIG);
    assert_int_equal(file_bytes_of(path), bytes);
    if (SPACE_IS_RESERVED) assert_int_equal(file_blocks_of(path), blocks);
    assert_true(queue_info(q).fixed_size);
    emmap_queue_close(q);
    q = open_queue(path, 0);
    assert_true(queue_info(q).fixed_size);
    assert_int_equal(queue_info(q).max_bytes, SIZE);
    emmap_queue_close(q);
    await_no_regions();
}

/* -------------------------------------------------------------------------- what is no queue */

static void write_to(const char *path, uint64_t off, const void *bytes, size_t len) {
    const int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, len, (off_t)off), len);
    close(fd);
}

static void refused(const char *path, int expected) {
    static const uint32_t flags[] = {MAKE, EMMAP_QUEUE_MULTI_OS, EMMAP_QUEUE_PRIVATE,
                                     MAKE | EMMAP_QUEUE_AUTO_UNLINK};
    for (unsigned i = 0; i < sizeof flags / sizeof *flags; i++) {
        struct snapshot before = snapshot_of(path);
        assert_int_equal(open_rc_of(path, flags[i]), expected);
        assert_as_before(&before);
    }
    await_no_regions();
}

static void a_foreign_file_is_left_alone(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, 0);
    refused(path, EMMAP_E_FOREIGN);
    make_file(path, 15);
    refused(path, EMMAP_E_FOREIGN);
    make_file(path, 200000);
    refused(path, EMMAP_E_FOREIGN);
}

static void a_queue_of_version_2_is_left_alone(void **state) {
    (void)state;
    static const uint8_t header[] = {0, 0, 4, 0, 0, 0, 0, 16, 0, 0, 0, 100, 0, 0, 0, 110};
    const char *path = support_path("f");
    make_file(path, 1024);
    write_to(path, 0, header, sizeof header);
    refused(path, EMMAP_E_OLD_FORMAT);
}

static void a_truncated_file_is_left_alone(void **state) {
    (void)state;
    if (!FILES_ARE_KNOWN) skip(); /* which boot it is nobody knows: it is recovered */
    static const uint8_t boot[16] = {9};
    static const uint64_t to[] = {95, 96, 4096, 8192, 131071};
    const char *path = support_path("q");
    struct emmap_queue *q = open_queue(path, MAKE);
    push_some(q, 0, 200);
    const uint64_t last = queue_get(&queue_live(q)->tail_slot);
    const uint64_t last_off = queue_slot_off(q, last), segment = q->segment_bytes;
    emmap_queue_close(q);
    await_no_regions();
    const uint64_t ends[] = {last_off + segment - 1, last_off, QUEUE_DATA_OFF + 1};
    for (unsigned i = 0; i < sizeof ends / sizeof *ends; i++) {
        assert_ok(truncate(path, (off_t)ends[i]));
        refused(path, EMMAP_E_TRUNCATED);
    }
    for (unsigned i = sizeof to / sizeof *to; i-- > 0;) {
        assert_ok(truncate(path, (off_t)to[i]));
        refused(path, EMMAP_E_TRUNCATED);
        os_pretend_boot(boot);
        refused(path, EMMAP_E_TRUNCATED);
        os_pretend_boot(NULL);
    }
}

static void a_later_version_and_a_damaged_header_are_left_alone(void **state) {
    (void)state;
    const char *path = support_path("q");
    assert_ok(open_rc_of(path, MAKE));
    await_no_regions();
    const uint8_t flipped = file_byte(path, 60) ^ 1;
    write_to(path, 60, &flipped, 1);
    refused(path, EMMAP_E_CORRUPT);
}

/* ----------------------------------------------------------------------------------- threads */

enum { THREADS = 8, EACH = SANITIZER ? 2500 : 25000 };

struct worker {
    struct emmap_queue *q;
    unsigned number;
    _Atomic uint64_t *taken;
    _Atomic uint8_t *seen; /* by producer and number */
};

/* A message is its producer and its number. */
static void *produce(void *arg) {
    const struct worker *w = arg;
    for (uint64_t i = 0; i < EACH; i++) {
        const uint64_t message[3] = {w->number, i, ~i};
        MUST(emmap_queue_push(w->q, message, sizeof message, 0) == 0);
    }
    return NULL;
}

static void *consume(void *arg) {
    const struct worker *w = arg;
    uint64_t next[THREADS] = {0};
    while (atomic_load(w->taken) < (uint64_t)THREADS * EACH) {
        uint64_t message[3];
        uint32_t len, flags;
        const int rc = emmap_queue_take(w->q, message, sizeof message, &len, &flags);
        if (rc == EMMAP_E_EMPTY) {
            os_sleep_ms(0);
            continue;
        }
        MUST(rc == 0 && len == sizeof message && message[2] == ~message[1]);
        MUST(message[0] < THREADS && message[1] < EACH);
        MUST(message[1] >= next[message[0]]); /* of one producer in order */
        next[message[0]] = message[1] + 1;
        MUST(atomic_fetch_add(&w->seen[message[0] * EACH + message[1]], 1) == 0);
        atomic_fetch_add(w->taken, 1);
    }
    return NULL;
}

static void threads_lose_double_and_reorder_nothing(void **state) {
    (void)state;
    struct emmap_queue *q = open_queue(support_path("q"), MAKE);
    _Atomic uint64_t taken = 0;
    _Atomic uint8_t *seen = calloc(THREADS * EACH, sizeof *seen);
    struct worker workers[THREADS];
    pthread_t producers[THREADS], consumers[THREADS];
    assert_non_null(seen);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.q = q, .number = i, .taken = &taken, .seen = seen};
        assert_int_equal(pthread_create(&producers[i], NULL, produce, &workers[i]), 0);
        assert_int_equal(pthread_create(&consumers[i], NULL, consume, &workers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(producers[i], NULL);
        pthread_join(consumers[i], NULL);
    }
    assert_int_equal(queue_info(q).messages, 0);
    agrees(q);
    free((void *)seen);
    emmap_queue_close(q);
    await_no_regions();
}

static uint64_t pushes_until_full(struct emmap_queue *q) {
    for (uint64_t n = 0; n < 1000; n++) {
        const int rc = push_id(q, n, 900);
        if (rc == EMMAP_E_FULL) return n;
        assert_ok(rc);
    }
    return UINT64_MAX;
}

static void the_largest_size_changes_while_it_is_used(void **state) {
    (void)state;
    const char *path = support_path("q");
    struct emmap_queue *q = open_queue(path, MAKE);
    assert_ok(queue_set_max(q, 10000));
    assert_in_range(pushes_until_full(q), 5, 20);
    emmap_queue_close(q);
    q = open_queue(path, 0); /* the file remembers it */
    assert_int_equal(queue_info(q).max_bytes, 10000);
    assert_int_equal(pushes_until_full(q), 0);
    assert_ok(queue_set_max(q, UINT64_MAX));
    assert_int_equal(pushes_until_full(q), UINT64_MAX);
    emmap_queue_close(q);
}

static void put_zeros(const char *path, uint64_t off, size_t len_bytes) {
    static const uint8_t zeros[8];
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)off, SEEK_SET), 0);
    assert_int_equal(fwrite(zeros, 1, len_bytes, f), len_bytes);
    assert_int_equal(fclose(f), 0);
}

/* The disk has the holes, and all that it knows of the head is from before the messages were taken. */
static void what_was_given_back_is_not_missed(void **state) {
    (void)state;
    static uint8_t buf[20000];
    const char *path = support_path("q"), *copy = support_path("copy");
    struct emmap_queue *q = open_queue(path, MAKE);
    for (uint64_t id = 0; id < 60; id++)
        assert_ok(push_id(q, id, 20000));
    assert_ok(emmap_queue_sync(q));
    const uint64_t synced = queue_get(&queue_live(q)->cp_durable);
    for (uint64_t id = 0; id < 59; id++)
        assert_ok(take_id(q, id, 20000));
    assert_ok(queue_give_back(q));
    copy_file(path, copy);
    const uint64_t newer = (uint64_t)((uint8_t *)queue_checkpoint_at(q, synced + 1) - q->base);
    emmap_queue_close(q);
    put_zeros(copy, newer, 8);
    put_zeros(copy, QUEUE_LIVE_OFF + offsetof(struct emmap_disk_live, head), 8);

    q = open_queue(copy, 0);
    assert_true(q->was_recovered);
    assert_int_equal(queue_info(q).lost, 0);
    uint32_t len, taken_flags;
    while (emmap_queue_take(q, buf, sizeof buf, &len, &taken_flags) == 0)
        assert_true(len == 20000);
    assert_true(is_id(buf, 59, 20000));
    assert_int_equal(queue_info(q).lost, 0);
    emmap_queue_close(q);
}

static void a_size_that_no_file_has_is_refused(void **state) {
    (void)state;
    struct emmap_queue *q;
    const char *path = support_path("q");
    const struct emmap_queue_options large = {.flags = MAKE, .size_bytes = UINT64_C(1) << 62},
                                     most = {.flags = MAKE, .max_bytes = UINT64_C(1) << 62};
    assert_int_equal(emmap_queue_open(&q, path, &large, NULL), -EFBIG);
    assert_int_equal(emmap_queue_open(&q, path, &most, NULL), -EFBIG);
    assert_false(file_exists(path));
}

/* Whoever had it when the copy was made. */
static void a_private_copy_has_its_lock_free(void **state) {
    (void)state;
    const char *path = support_path("q");
    struct emmap_queue *q = open_queue(path, MAKE);
    push_some(q, 0, 3);
    assert_ok(queue_lock(q, true));
    struct emmap_queue *own = open_queue(path, EMMAP_QUEUE_PRIVATE);
    assert_int_equal(queue_get(&queue_live(own)->lock), 0);
    take_some(own, 0, 3);
    assert_ok(queue_unlock(q, 0));
    take_some(q, 0, 3);
    emmap_queue_close(own);
    emmap_queue_close(q);
}

/* What came back is the next one, whoever looked before. */
static void who_takes_what_was_seen_takes_that_or_nothing(void **state) {
    (void)state;
    uint8_t buf[4000];
    struct emmap_queue *q = open_queue(support_path("q"), MAKE);
    struct queue_place front = {0};
    struct queue_message first, seen;
    for (uint64_t id = 0; id < 4; id++)
        assert_ok(push_id(q, id, 100));
    assert_ok(queue_claim(q, true, buf, sizeof buf, &first));
    assert_ok(queue_peek(q, true, false, &front, buf, sizeof buf, &seen));
    assert_true(is_id(buf, 1, 100));
    assert_ok(queue_return(q, true, &first));
    assert_int_equal(queue_take_this(q, true, &seen), -EAGAIN);
    assert_ok(queue_take_this(q, true, &first));
    assert_ok(queue_take_this(q, true, &seen));
    assert_int_equal(queue_take_this(q, true, &seen), -EAGAIN);
    assert_ok(take_id(q, 2, 100));
    emmap_queue_close(q);
}

/* Whatever its words say by then. */
static void what_was_found_corrupt_is_recovered_by_the_next(void **state) {
    (void)state;
    const char *path = support_path("q");
    struct emmap_queue *q = open_queue(path, MAKE);
    push_some(q, 0, 3);
    queue_break(q, EMMAP_E_CORRUPT);
    assert_int_equal(push_id(q, 3, 10), EMMAP_E_CORRUPT);
    emmap_queue_close(q);
    await_no_regions();
    q = open_queue(path, 0);
    assert_true(q->was_recovered);
    take_some(q, 0, 3);
    emmap_queue_close(q);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST_AT_REST(reopening_keeps_everything),
        TEST_AT_REST(a_missing_file_is_made_only_where_told),
        TEST_AT_REST(opened_twice_it_is_one_queue),
        TEST_AT_REST(close_ends_what_goes_on_in_the_background),
        TEST_AT_REST(a_new_file_may_be_deleted_at_close),
        TEST_AT_REST(a_private_queue_changes_nothing),
        TEST_AT_REST(a_private_queue_beside_the_true_one_has_its_claims),
        TEST_AT_REST(many_queues_share_the_addresses),
        TEST_AT_REST(who_finds_it_closed_under_the_lock_lets_go_of_it),
        TEST_AT_REST(a_large_message_is_not_copied_under_one_lock),
        TEST_AT_REST(who_looks_at_large_ones_sees_them_whole_or_not),
        TEST_AT_REST(a_long_window_is_passed_in_turns),
        TEST_AT_REST(a_full_queue_has_room_behind_a_long_window),
        TEST_AT_REST(a_window_is_opened_where_nobody_tells_what_is_in_memory),
        TEST_AT_REST(what_came_back_comes_in_its_order),
        TEST_AT_REST(where_no_bytes_can_be_locked_claims_come_back),
        TEST_AT_REST(a_copied_file_is_recovered),
        TEST_AT_REST(after_a_reboot_it_is_recovered),
        TEST_AT_REST(a_failed_sync_stays_until_the_next_open),
        TEST_AT_REST(a_full_disk_is_told_and_healed),
        TEST_AT_REST(no_file_is_made_on_a_full_disk),
        TEST_AT_REST(a_drained_queue_gives_its_blocks_back),
        TEST_AT_REST(one_of_fixed_size_has_its_space_at_once),
        TEST_AT_REST(a_foreign_file_is_left_alone),
        TEST_AT_REST(a_queue_of_version_2_is_left_alone),
        TEST_AT_REST(a_truncated_file_is_left_alone),
        TEST_AT_REST(a_later_version_and_a_damaged_header_are_left_alone),
        TEST_AT_REST(threads_lose_double_and_reorder_nothing),
        TEST_AT_REST(the_largest_size_changes_while_it_is_used),
        TEST_AT_REST(what_was_given_back_is_not_missed),
        TEST_AT_REST(a_size_that_no_file_has_is_refused),
        TEST_AT_REST(who_takes_what_was_seen_takes_that_or_nothing),
        TEST_AT_REST(a_private_copy_has_its_lock_free),
        TEST_AT_REST(what_was_found_corrupt_is_recovered_by_the_next),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
