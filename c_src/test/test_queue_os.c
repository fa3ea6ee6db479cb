/* test_queue_os.c -- a queue and several OS processes: who may have it, and what a kill -9 of one
 * leaves the others. */
#include <stdio.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/os.h"
#include "test/queue_check.h"

enum { MAKE = EMMAP_QUEUE_CREATE, SHARED = EMMAP_QUEUE_MULTI_OS };
enum { SMALL = 100, LARGE = 300000, SEGMENT_FILLER = 60000 };
enum { SOON_MS = SANITIZER ? 4000 : 1000 };

static void agrees(struct emmap_queue *q, bool in_hand) {
    const char *wrong = queue_disagrees(q, in_hand);
    if (wrong) fail_msg("%s", wrong);
}

/* -------------------------------------------------------------------------------------- roles */

static int open_and_tell(const char *path, uint32_t flags) {
    const struct emmap_queue_options options = {.flags = flags};
    struct emmap_queue *q = NULL;
    const int rc = emmap_queue_open(&q, path, &options, NULL);
    if (rc) return rc == EMMAP_E_LOCKED ? 1 : 2;
    emmap_queue_close(q);
    return 0;
}

static int role_open_alone(const char *path) {
    return open_and_tell(path, 0);
}

static int role_open_shared(const char *path) {
    return open_and_tell(path, SHARED);
}

static int role_sync_fails(const char *path) {
    struct emmap_queue *q = open_queue(path, SHARED);
    MUST(emmap_queue_sync(q) == EMMAP_E_SYNC_FAILED);
    emmap_queue_close(q);
    return 0;
}

/* Takes 0 to 9, and pushes 10 to 19. */
static int role_take_and_push(const char *path) {
    struct emmap_queue *q = open_queue(path, SHARED);
    for (uint64_t id = 0; id < 10; id++)
        MUST(take_id(q, id, SMALL) == 0);
    for (uint64_t id = 10; id < 20; id++)
        MUST(push_id(q, id, SMALL) == 0);
    emmap_queue_close(q);
    return 0;
}

static void wait_for_the_kill(void) {
    say();
    (void)hear();
    must_failed(__FILE__, __LINE__, "killed by then");
}

static int role_hold_the_lock(const char *path) {
    struct emmap_queue *q = open_queue(path, SHARED);
    MUST(queue_lock_surely(q) == 0);
    wait_for_the_kill();
    return 0;
}

/* Its child lives on, until the test ends. */
static int role_fork(const char *path) {
    struct emmap_queue *q = open_queue(path, SHARED);
    const pid_t pid = fork();
    MUST(pid >= 0);
    alarm(60); /* should the other one say nothing */
    if (pid > 0) wait_for_the_kill();
    struct emmap_queue_info info;
    MUST(emmap_queue_info(q, &info) == EMMAP_E_CLOSED);
    MUST(take_id(q, 0, SMALL) == EMMAP_E_CLOSED);
    say();
    (void)hear();
    return 0;
}

static int role_claim(const char *path) {
    struct emmap_queue *q = open_queue(path, SHARED);
    struct queue_message first, second;
    uint8_t buf[SMALL];
    MUST(queue_claim(q, true, buf, SMALL, &first) == 0);
    MUST(queue_claim(q, true, buf, SMALL, &second) == 0);
    wait_for_the_kill();
    return 0;
}

/* Stops where the data of a large message, or a segment's worth of it, is about to be written. */
static void at_a_large_copy(void *ctx, const struct os_event *event) {
    (void)ctx;
    if (event->kind == OS_EVENT_COPY && event->len_bytes > QUEUE_SMALL_BYTES) wait_for_the_kill();
}

static int role_push_large(const char *path) {
    struct emmap_queue *q = open_queue(path, SHARED);
    os_record_to(at_a_large_copy, q);
    (void)push_id(q, 1000, LARGE);
    return 1;
}

/* Stops at the lock that ends a large take: between the two steps. */
static void at_the_second_lock(void *ctx, const struct os_event *event) {
    const struct emmap_disk_live *live = queue_live(ctx);
    static unsigned n;
    if (event->addr == (const void *)&live->lock && queue_get(&live->window_n) > 0 &&
        queue_get(&live->lock) == 0 && ++n == 1)
        wait_for_the_kill();
}

static int role_take_large(const char *path) {
    struct emmap_queue *q = open_queue(path, SHARED);
    os_record_to(at_the_second_lock, q);
    (void)take_id(q, 0, LARGE);
    return 1;
}

static void at_a_call(void *ctx, enum os_call call) {
    if (call == *(const enum os_call *)ctx) wait_for_the_kill();
}

static int prepare_up_to(const char *path, enum os_call call) {
    struct emmap_queue *q = open_queue(path, SHARED);
    atomic_store(&q->job_waits, true); /* nothing in the background */
    os_watch_calls(at_a_call, &call);
    for (uint64_t id = 1000; id < 1100; id++)
        MUST(push_id(q, id, SEGMENT_FILLER) == 0);
    return 1;
}

static int role_prepare(const char *path) {
    return prepare_up_to(path, OS_CALL_ALLOCATE);
}

static void at_a_new_size(void *ctx, const struct os_event *event) {
    (void)ctx;
    if (event->kind == OS_EVENT_SIZE) wait_for_the_kill();
}

static int role_prepare_grown(const char *path) {
    struct emmap_queue *q = open_queue(path, SHARED);
    atomic_store(&q->job_waits, true);
    os_record_to(at_a_new_size, NULL);
    for (uint64_t id = 1000; id < 1100; id++)
        MUST(push_id(q, id, SEGMENT_FILLER) == 0);
    return 1;
}

static int role_give_back(const char *path) {
    static enum os_call call = OS_CALL_PUNCH;
    struct emmap_queue *q = open_queue(path, SHARED);
    atomic_store(&q->job_waits, true);
    for (uint64_t id = 0; id < 50; id++)
        MUST(take_id(q, id, SEGMENT_FILLER) == 0);
    os_watch_calls(at_a_call, &call);
    (void)queue_give_back(q);
    return 1;
}

static int role_sync(const char *path) {
    static enum os_call call = OS_CALL_SYNC;
    struct emmap_queue *q = open_queue(path, SHARED);
    os_watch_calls(at_a_call, &call);
    (void)emmap_queue_sync(q);
    return 1;
}

/* ------------------------------------------------------------------------------ who may have it */

static void others_need_multi_os_on_both_sides(void **state) {
    (void)state;
    const char *path = support_path("q");
    struct emmap_queue *q = open_queue(path, MAKE);
    assert_int_equal(role_result("open_alone", path), 1);
    assert_int_equal(role_result("open_shared", path), 1);
    emmap_queue_close(q);
    assert_int_equal(role_result("open_alone", path), 0);
    q = open_queue(path, SHARED);
    assert_int_equal(role_result("open_alone", path), 1);
    assert_int_equal(role_result("open_shared", path), 0);
    emmap_queue_close(q);
    assert_int_equal(role_result("open_alone", path), 0);
    await_no_regions();
}

static void a_forked_child_has_no_part_of_it(void **state) {
    (void)state;
    const char *path = support_path("q");
    emmap_queue_close(open_queue(path, MAKE));
    const struct child parent = start_role("fork", path);
    await_word(&parent);
    await_word(&parent); /* the child, too */
    assert_int_equal(role_result("open_alone", path), 1);
    assert_ok(kill(parent.pid, SIGKILL));
    assert_int_equal(waitpid(parent.pid, NULL, 0), parent.pid);
    assert_int_equal(role_result("open_alone", path), 0);
    close(parent.socket); /* the child hears that, and ends */
    await_no_regions();
}

/* ... and its handles can be closed there, whatever its parent's threads were about. */
static void *hold_a_user(void *arg) {
    MUST(queue_enter(arg));
    say();
    for (;;)
        pause();
    return NULL;
}

static int role_fork_and_close(const char *path) {
    struct emmap_queue *q = open_queue(path, SHARED);
    pthread_t thread;
    MUST(pthread_create(&thread, NULL, hold_a_user, q) == 0);
    MUST(hear());
    const pid_t pid = fork();
    MUST(pid >= 0);
    if (pid > 0) return waitpid(pid, NULL, 0) == pid ? 0 : 1;
    alarm(60);
    MUST(push_id(q, 0, SMALL) == EMMAP_E_CLOSED);
    emmap_queue_close(q);
    say();
    _exit(0);
}

static void a_forked_child_can_close(void **state) {
    (void)state;
    const char *path = support_path("q");
    emmap_queue_close(open_queue(path, MAKE));
    const struct child parent = start_role("fork_and_close", path);
    await_word(&parent);
    give_word(&parent);
    await_word(&parent); /* the child has closed */
    (void)end_role(&parent);
    await_no_regions();
}

static void with_multi_os_it_is_one_queue(void **state) {
    (void)state;
    const char *path = support_path("q");
    struct emmap_queue *q = open_queue(path, MAKE | SHARED);
    for (uint64_t id = 0; id < 10; id++)
        assert_ok(push_id(q, id, SMALL));
    assert_int_equal(role_result("take_and_push", path), 0);
    for (uint64_t id = 10; id < 20; id++)
        assert_ok(take_id(q, id, SMALL));
    agrees(q, false);
    emmap_queue_close(q);
    await_no_regions();
}

static void a_failed_sync_is_told_to_all(void **state) {
    (void)state;
    const char *path = support_path("q");
    struct emmap_queue *q = open_queue(path, MAKE | SHARED);
    os_fail_at(OS_CALL_SYNC, 1, EIO, 0);
    assert_int_equal(emmap_queue_sync(q), EMMAP_E_SYNC_FAILED);
    os_fail_never();
    assert_int_equal(role_result("sync_fails", path), 0);
    emmap_queue_close(q);
    q = open_queue(path, SHARED);
    assert_ok(emmap_queue_sync(q));
    emmap_queue_close(q);
    await_no_regions();
}

/* ------------------------------------------------------------------------------------ killed */

/* Starts the role, and kills it where it waits. */
static void kill_in(const char *role, const char *path) {
    const struct child child = start_role(role, path);
    await_word(&child);
    assert_ok(kill(child.pid, SIGKILL));
    assert_int_equal(end_role(&child), 256 + SIGKILL);
}

/* The next one who has it for itself finds nothing amiss. */
static void expect_sound_when_alone(struct emmap_queue *q, const char *path) {
    struct emmap_queue_info info;
    emmap_queue_close(q);
    q = open_queue(path, 0);
    assert_ok(emmap_queue_info(q, &info));
    assert_false(info.was_recovered);
    agrees(q, false);
    emmap_queue_close(q);
    await_no_regions();
}

/* While the data of a large message is copied, somebody who lives takes the lock, and keeps it. */
static struct child keeper;
static bool is_kept;
static void keep_the_lock(void *ctx, const struct os_event *event) {
    if (event->kind != OS_EVENT_COPY || event->len_bytes <= QUEUE_SMALL_BYTES || is_kept) return;
    is_kept = true;
    keeper = start_role("hold_the_lock", ctx);
    await_word(&keeper);
}

static void kill_keeper(void) {
    assert_ok(kill(keeper.pid, SIGKILL));
    (void)end_role(&keeper);
}

static void what_cannot_end_now_ends_when_the_lock_is_free(void **state) {
    (void)state;
    static uint8_t buf[LARGE];
    const char *path = support_path("q");
    os_record_to(keep_the_lock, (void *)(uintptr_t)path); /* before there is a background */
    struct emmap_queue *q = open_queue(path, MAKE | SHARED);
    struct queue_message claim;
    assert_int_equal(push_id(q, 1, LARGE), EMMAP_E_BUSY);
    kill_keeper();
    assert_ok(push_id(q, 2, SMALL));
    assert_ok(take_id(q, 2, SMALL)); /* the large one is not there, and in nobody's way */
    assert_ok(push_id(q, 3, SMALL));
    assert_ok(queue_claim(q, true, buf, sizeof buf, &claim));
    keeper = start_role("hold_the_lock", path);
    await_word(&keeper);
    queue_return_later(q, &claim);
    assert_true(queue_get(&queue_live(q)->window_n) > 0);
    kill_keeper();
    for (unsigned i = 0; i < SOON_MS && queue_get(&queue_live(q)->window_n) > 0; i++)
        os_sleep_ms(1); /* in the background */
    assert_int_equal(queue_get(&queue_live(q)->window_n), 0);
    assert_ok(take_id(q, 3, SMALL));
    agrees(q, false);
    expect_sound_when_alone(q, path);
}

static void a_killed_holder_of_the_lock_is_noticed(void **state) {
    (void)state;
    const char *path = support_path("q");
    struct emmap_queue *q = open_queue(path, MAKE | SHARED);
    kill_in("hold_the_lock", path);
    const uint64_t from = os_now_ms();
    assert_ok(push_id(q, 0, SMALL));
    assert_true(os_now_ms() - from < SOON_MS);
    assert_ok(take_id(q, 0, SMALL));
    agrees(q, false);
    kill_in("hold_the_lock", path);
    assert_int_equal(role_result("open_shared", path), 0); /* who comes new, too */
    expect_sound_when_alone(q, path);
}

/* Whoever changes the live page on this thread has the lock. */
static _Thread_local struct emmap_queue *watched;
static _Thread_local unsigned changes;
static void expect_the_lock(void *ctx, const struct os_event *event) {
    (void)ctx;
    if (!watched) return;
    const struct emmap_disk_live *live = queue_live(watched);
    const uint8_t *at = event->addr, *page = (const uint8_t *)live;
    if (at < page + sizeof live->lock || at >= page + sizeof *live) return;
    changes++;
    if (queue_get(&live->lock) != watched->me)
        fail_msg("byte %d of the live page is changed without the lock", (int)(at - page));
}

static void who_takes_over_has_the_lock(void **state) {
    (void)state;
    const char *path = support_path("q");
    os_record_to(expect_the_lock, NULL); /* before there is a background */
    struct emmap_queue *q = open_queue(path, MAKE | SHARED);
    kill_in("hold_the_lock", path);
    watched = q;
    assert_ok(push_id(q, 0, SMALL));
    watched = NULL;
    assert_true(changes > 0);
    assert_ok(take_id(q, 0, SMALL));
    emmap_queue_close(q);
    await_no_regions();
    os_record_to(NULL, NULL);
}

static void a_killed_holder_leaves_no_trace_for_the_next(void **state) {
    (void)state;
    const char *path = support_path("q");
    struct emmap_queue *q = open_queue(path, MAKE | SHARED);
    emmap_queue_close(q);
    kill_in("hold_the_lock", path);
    q = open_queue(path, 0);
    assert_ok(push_id(q, 0, SMALL));
    expect_sound_when_alone(q, path);
}

static void what_a_killed_claimer_had_comes_back(void **state) {
    (void)state;
    const char *path = support_path("q");
    struct emmap_queue *q = open_queue(path, MAKE | SHARED);
    for (unsigned round = 0; round < 2; round++) { /* the second one soon after the first */
        for (uint64_t id = 0; id < 5; id++)
            assert_ok(push_id(q, id, SMALL));
        kill_in("claim", path);
        const uint64_t from = os_now_ms();
        while (queue_get(&queue_live(q)->returned_n) < 2 && os_now_ms() - from < 3 * SOON_MS) {
            struct queue_message message;
            uint8_t buf[SMALL];
            assert_ok(queue_claim(q, true, buf, SMALL, &message)); /* who looks for it finds it */
            assert_ok(queue_return(q, true, &message));
        }
        for (uint64_t id = 0; id < 5; id++)
            assert_ok(take_id(q, id, SMALL));
        assert_int_equal(take_id(q, 0, SMALL), EMMAP_E_EMPTY);
        agrees(q, false);
    }
    expect_sound_when_alone(q, path);
}

static void what_a_killed_claimer_had_comes_back_to_the_next_opener(void **state) {
    (void)state;
    const char *path = support_path("q");
    struct emmap_queue *q = open_queue(path, MAKE | SHARED);
    for (uint64_t id = 0; id < 5; id++)
        assert_ok(push_id(q, id, SMALL));
    emmap_queue_close(q);
    kill_in("claim", path);
    q = open_queue(path, 0);
    agrees(q, false);
    for (uint64_t id = 0; id < 5; id++)
        assert_ok(take_id(q, id, SMALL));
    agrees(q, false);
    expect_sound_when_alone(q, path);
}

static void what_was_half_taken_is_gone(void **state) {
    (void)state;
    const char *path = support_path("q");
    for (unsigned alone = 0; alone < 2; alone++) {
        struct emmap_queue *q = open_queue(path, MAKE | SHARED);
        assert_ok(push_id(q, 0, LARGE));
        assert_ok(push_id(q, 1, SMALL));
        if (alone) emmap_queue_close(q);
        kill_in("take_large", path);
        if (alone) q = open_queue(path, SHARED);
        const uint64_t from = os_now_ms();
        assert_ok(take_id(q, 1, SMALL));
        assert_true(os_now_ms() - from < SOON_MS);
        while (queue_count(q) > 0 && os_now_ms() - from < 3 * SOON_MS)
            assert_int_equal(take_id(q, 1, SMALL), EMMAP_E_EMPTY);
        assert_int_equal(queue_count(q), 0);
        agrees(q, true);
        expect_sound_when_alone(q, path);
    }
}

static void what_was_half_pushed_is_void(void **state) {
    (void)state;
    const char *path = support_path("q");
    for (unsigned alone = 0; alone < 2; alone++) {
        struct emmap_queue *q = open_queue(path, MAKE | SHARED);
        assert_ok(push_id(q, 0, SMALL));
        if (alone) emmap_queue_close(q);
        kill_in("push_large", path);
        if (alone) q = open_queue(path, SHARED);
        assert_int_equal(queue_count(q), 1);
        const uint64_t from = os_now_ms();
        assert_ok(push_id(q, 1, SMALL));
        assert_ok(take_id(q, 0, SMALL));
        assert_ok(take_id(q, 1, SMALL));
        assert_int_equal(take_id(q, 1, SMALL), EMMAP_E_EMPTY);
        assert_true(os_now_ms() - from < SOON_MS);
        assert_int_equal(queue_bytes(q), 0);
        agrees(q, true);
        expect_sound_when_alone(q, path);
    }
}

/* Killed where it has a slot in hand: the others go on without it, and it is not lost for good. */
static void goes_on_after(const char *role, uint64_t before, uint64_t taken) {
    const char *path = support_path("q");
    struct emmap_queue *q = open_queue(path, MAKE | SHARED);
    for (uint64_t id = 0; id < before; id++)
        assert_ok(push_id(q, id, SEGMENT_FILLER));
    kill_in(role, path);
    const uint64_t from = os_now_ms();
    uint64_t end = before;
    for (unsigned i = 0; i < 30; i++)
        assert_ok(push_id(q, end++, SEGMENT_FILLER));
    assert_true(os_now_ms() - from < SOON_MS);
    agrees(q, true);
    if (before > 0)
        for (uint64_t id = taken; id < end; id++)
            assert_ok(take_id(q, id, SEGMENT_FILLER));
    expect_sound_when_alone(q, path);
}

static void a_slot_that_was_being_prepared_is_not_waited_for(void **state) {
    (void)state;
    goes_on_after("prepare", 0, 0);
}

static void a_slot_that_was_prepared_is_not_waited_for(void **state) {
    (void)state;
    goes_on_after("prepare_grown", 0, 0);
}

static void a_slot_that_was_being_given_back_is_not_waited_for(void **state) {
    (void)state;
    goes_on_after("give_back", 50, 50);
}

static void a_killed_sync_is_not_waited_for(void **state) {
    (void)state;
    const char *path = support_path("q");
    struct emmap_queue *q = open_queue(path, MAKE | SHARED);
    kill_in("sync", path);
    const uint64_t from = os_now_ms();
    assert_ok(push_id(q, 0, SMALL));
    assert_ok(emmap_queue_sync(q));
    assert_true(os_now_ms() - from < SOON_MS);
    expect_sound_when_alone(q, path);
}

/* -------------------------------------------------------------------- several at the same time */

enum { PROCESSES = 4, EACH = SANITIZER ? 2500 : 25000 };

struct tally { /* of all processes: a file that each has mapped */
    _Atomic uint64_t workers, taken;
    _Atomic uint8_t seen[PROCESSES * EACH];
};

static struct tally *map_tally(const char *path, int flags) {
    char name[600];
    strcpy(name, path);
    strcat(name, ".tally");
    const int fd = open(name, O_RDWR | flags, 0600);
    MUST(fd >= 0 && ftruncate(fd, sizeof(struct tally)) == 0);
    void *map = mmap(NULL, sizeof(struct tally), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    MUST(map != MAP_FAILED);
    close(fd);
    return map;
}

struct worker {
    struct emmap_queue *q;
    struct tally *tally;
    uint64_t number, pushed, next[PROCESSES];
};

static void produce(struct worker *w) {
    const uint64_t message[3] = {w->number, w->pushed, ~w->pushed};
    MUST(emmap_queue_push(w->q, message, sizeof message, 0) == 0);
    w->pushed++;
}

static void consume(struct worker *w) {
    uint64_t message[3];
    uint32_t len, flags;
    const int rc = emmap_queue_take(w->q, message, sizeof message, &len, &flags);
    if (rc == EMMAP_E_EMPTY) return;
    MUST(rc == 0 && len == sizeof message && message[2] == ~message[1]);
    MUST(message[0] < PROCESSES && message[1] < EACH);
    MUST(message[1] >= w->next[message[0]]); /* of one producer in order */
    w->next[message[0]] = message[1] + 1;
    MUST(atomic_fetch_add(&w->tally->seen[message[0] * EACH + message[1]], 1) == 0);
    atomic_fetch_add(&w->tally->taken, 1);
}

/* Bursts of pushes and takes, so that the backlog goes up and down. */
static int role_work(const char *path) {
    struct worker w = {.q = open_queue(path, SHARED), .tally = map_tally(path, 0)};
    w.number = atomic_fetch_add(&w.tally->workers, 1);
    MUST(hear());
    while (atomic_load(&w.tally->taken) < (uint64_t)PROCESSES * EACH) {
        for (unsigned i = 0; i < 300 && w.pushed < EACH; i++)
            produce(&w);
        for (unsigned i = 0; i < 290 || (w.pushed == EACH && i < 600); i++)
            consume(&w);
    }
    emmap_queue_close(w.q);
    return 0;
}

static void processes_lose_double_and_reorder_nothing(void **state) {
    (void)state;
    const char *path = support_path("q");
    struct tally *tally = map_tally(path, O_CREAT);
    struct emmap_queue *q = open_queue(path, MAKE | SHARED);
    struct child children[PROCESSES];
    for (unsigned i = 0; i < PROCESSES; i++)
        children[i] = start_role("work", path);
    for (unsigned i = 0; i < PROCESSES; i++)
        give_word(&children[i]);
    for (unsigned i = 0; i < PROCESSES; i++)
        assert_int_equal(end_role(&children[i]), 0);
    assert_int_equal(atomic_load(&tally->taken), PROCESSES * EACH);
    assert_int_equal(queue_count(q), 0);
    agrees(q, true);
    munmap(tally, sizeof *tally);
    expect_sound_when_alone(q, path);
}

int main(int argc, char **argv) {
    if (!FILES_ARE_KNOWN) { /* no locks of bytes, and nobody knows which boot it is */
        puts("skipped: this system tells neither who lives nor which boot it is");
        return 0;
    }
    static const struct role roles[] = {
        {"open_alone", role_open_alone},
        {"open_shared", role_open_shared},
        {"sync_fails", role_sync_fails},
        {"take_and_push", role_take_and_push},
        {"hold_the_lock", role_hold_the_lock},
        {"claim", role_claim},
        {"fork", role_fork},
        {"fork_and_close", role_fork_and_close},
        {"push_large", role_push_large},
        {"take_large", role_take_large},
        {"prepare", role_prepare},
        {"prepare_grown", role_prepare_grown},
        {"give_back", role_give_back},
        {"sync", role_sync},
        {"work", role_work},
    };
    const int status = run_role(argc, argv, roles, sizeof roles / sizeof *roles);
    if (status >= 0) return status;
    const struct CMUnitTest tests[] = {
        TEST(others_need_multi_os_on_both_sides),
        TEST(a_forked_child_has_no_part_of_it),
        TEST(a_forked_child_can_close),
        TEST(what_cannot_end_now_ends_when_the_lock_is_free),
        TEST(with_multi_os_it_is_one_queue),
        TEST(a_failed_sync_is_told_to_all),
        TEST(a_killed_holder_of_the_lock_is_noticed),
        TEST(who_takes_over_has_the_lock),
        TEST(a_killed_holder_leaves_no_trace_for_the_next),
        TEST(what_a_killed_claimer_had_comes_back),
        TEST(what_a_killed_claimer_had_comes_back_to_the_next_opener),
        TEST(what_was_half_taken_is_gone),
        TEST(what_was_half_pushed_is_void),
        TEST(a_slot_that_was_being_prepared_is_not_waited_for),
        TEST(a_slot_that_was_prepared_is_not_waited_for),
        TEST(a_slot_that_was_being_given_back_is_not_waited_for),
        TEST(a_killed_sync_is_not_waited_for),
        TEST(processes_lose_double_and_reorder_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
