/* test_queue_kill.c -- every operation on a queue, cut after each of its stores. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/os.h"
#include "test/queue_kill.h"

enum { SMALL = 1000, LARGE = QUEUE_SMALL_BYTES + 8 };

/* ------------------------------------------------------------------------------ what is there */

static void nothing(struct emmap_queue *q) {
    (void)q;
}

static void five(struct emmap_queue *q) {
    for (unsigned i = 0; i < 5; i++)
        kill_push(q, SMALL + i);
}

/* Pushes until the tail's segment has so much room left. */
static void leave_room(struct emmap_queue *q, uint64_t room) {
    for (;;) {
        const struct emmap_disk_live *live = queue_live(q);
        const struct queue_place tail = {queue_get(&live->tail), queue_get(&live->tail_slot)};
        uint64_t off, stop;
        MUST(queue_place_off(q, tail, &off, &stop) == 0);
        const uint64_t left = stop - off - room;
        if (stop - off == room) return;
        MUST(stop - off > room + QUEUE_RECORD_OVERHEAD);
        kill_push(q, (uint32_t)(left < 8000 ? left : 4000) - QUEUE_RECORD_OVERHEAD);
    }
}

static void near_the_end(struct emmap_queue *q) {
    leave_room(q, 504);
}

static void near_the_end_one_warm(struct emmap_queue *q) {
    leave_room(q, 504);
    MUST(queue_prepare(q) == 0);
}

static void at_the_end(struct emmap_queue *q) {
    leave_room(q, 0);
    MUST(queue_prepare(q) == 0);
}

/* The header of the next one lies in two segments. */
static void in_the_header(struct emmap_queue *q) {
    leave_room(q, 16);
    MUST(queue_prepare(q) == 0);
}

/* The first message is in a segment of its own, as far as it goes; some follow. */
static void first_over_the_end(struct emmap_queue *q) {
    leave_room(q, 504);
    kill_push(q, SMALL);
    kill_push(q, SMALL);
    while (queue_count(q) > 2)
        kill_take(q, 1);
}

static void large_first(struct emmap_queue *q) {
    kill_push(q, LARGE);
    kill_push(q, SMALL);
}

static void large_second(struct emmap_queue *q) {
    kill_push(q, SMALL);
    kill_push(q, LARGE);
    kill_push(q, SMALL);
}

static void four_segments(struct emmap_queue *q) {
    for (unsigned i = 0; i < 60; i++)
        kill_push(q, 4000);
}

/* Slots 1 to 6: one in use, the others warm. */
static void five_warm(struct emmap_queue *q) {
    four_segments(q);
    for (unsigned i = 0; i < 30; i++)
        kill_push(q, 4000);
    while (queue_count(q) > 1)
        kill_take(q, 1);
}

static void five_and_warm(struct emmap_queue *q) {
    five_warm(q);
    for (unsigned i = 0; i < 5; i++)
        kill_push(q, SMALL);
}

/* ... or cold, but for those that are used up now. */
static void cold_ones(struct emmap_queue *q) {
    five_warm(q);
    MUST(queue_give_back(q) == 0);
    while (queue_get(&queue_live(q)->warm_n) > 0)
        kill_push(q, 4000);
    MUST(queue_get(&queue_live(q)->cold_slot) != 0);
}

/* A sync has failed: the next opener writes all anew. */
static void sync_failed(struct emmap_queue *q) {
    five(q);
    os_fail_at(OS_CALL_SYNC, 1, 5, 0);
    MUST(emmap_queue_sync(q) == EMMAP_E_SYNC_FAILED);
    os_fail_never();
}

/* ------------------------------------------------------------- what somebody else has left */

static emmap_disk_word *state_of(struct emmap_queue *q, const struct queue_message *message) {
    struct queue_record record;
    MUST(queue_record_at(q, true, message->at, &record) == 0);
    return record.state;
}

static void claim(struct emmap_queue *q, struct queue_message *message) {
    static uint8_t buf[1 << 20];
    MUST(queue_claim(q, true, buf, sizeof buf, message) == 0);
}

static uint64_t take_warm(struct emmap_queue *q) {
    struct emmap_disk_live *live = queue_live(q);
    const uint64_t slot = queue_get(&live->warm_slot);
    MUST(slot != 0);
    pm_set64(&live->warm_slot, queue_get(&queue_slot(q, slot)->free_next));
    pm_set64(&live->warm_n, queue_get(&live->warm_n) - 1);
    return slot;
}

/* Every trace that there can be: the lock, slots in hand, claims, one half taken and one half
 * pushed, a step in the middle. The third message is gone. */
static void a_battlefield(struct emmap_queue *q) {
    struct emmap_disk_live *live = queue_live(q);
    struct queue_message message;
    five_warm(q);
    for (unsigned i = 0; i < 6; i++)
        kill_push(q, SMALL + i);
    pm_set64(&queue_participant(q, 3)->punching, take_warm(q));
    pm_set64(&queue_participant(q, 4)->preparing, take_warm(q));
    pm_set64(&queue_participant(q, 5)->preparing, queue_get(&live->slots) + 1);
    pm_set64(&live->slots, queue_get(&live->slots) + 1);

    claim(q, &message);
    claim(q, &message);
    claim(q, &message);
    pm_set64(state_of(q, &message), queue_state(QUEUE_TAKING, q->owner));
    claim(q, &message);
    MUST(queue_return(q, true, &message) == 0);
    pm_set64(&live->lock, q->me);
    pm_set64(&live->syncer, q->me);
}

static void after_a_battle(struct emmap_queue *q) {
    a_battlefield(q);
    kill_forget(2);
}

/* The first message is only half there, its writer is dead. */
static void a_half_pushed_one(struct emmap_queue *q) {
    struct emmap_disk_live *live = queue_live(q);
    struct queue_place at = {0, 0};
    struct queue_message message;
    static uint8_t buf[1 << 20];
    large_first(q);
    MUST(queue_peek(q, true, false, &at, buf, sizeof buf, &message) == 0);
    pm_set64(state_of(q, &message), queue_state(QUEUE_FILLING, 77 | 5 << 16));
    pm_set64(&live->gap_n, queue_get(&live->gap_n) + 1);
    kill_forget(0);
}

/* Messages in several segments, the first of them taken since the last checkpoint. */
static void taken_since(struct emmap_queue *q) {
    uint64_t covered;
    four_segments(q);
    MUST(queue_sync(q, &covered) == 0);
    kill_take(q, 10);
}

static void some_taken_since(struct emmap_queue *q) {
    taken_since(q);
    kill_take(q, 20);
}

static void all_taken_since(struct emmap_queue *q) {
    uint64_t covered;
    four_segments(q);
    MUST(queue_sync(q, &covered) == 0);
    kill_take(q, 60);
}

/* The tail lies behind a seal, as a recovery leaves it. */
static void sealed(struct emmap_queue *q) {
    five(q);
    MUST(queue_prepare(q) == 0);
    MUST(queue_prepare(q) == 0);
    const uint64_t warm = queue_get(&queue_live(q)->warm_n);
    MUST(queue_lock_surely(q) == 0);
    MUST(queue_recover(q, QUEUE_BROKEN) == 0);
    MUST(queue_unlock(q, 0) == 0);
    for (uint64_t i = 0; i < warm; i++)
        MUST(queue_prepare(q) == 0); /* what is free is cold after a recovery */
}

static void over_a_seal(struct emmap_queue *q) {
    sealed(q);
    kill_push(q, SMALL);
    kill_push(q, SMALL);
    kill_take(q, 4);
}

/* Two claims, one half taken, a slot in either hand; and an ack in the middle of its step, under the
 * lock. The third and the fourth message are gone. */
static void die_in_a_step(void *ctx, const struct os_event *event) {
    static unsigned since;
    (void)event;
    if (queue_get(&queue_live(ctx)->redo_n) != 0 && ++since == 2) _exit(0);
}

static void fall(struct emmap_queue *q) {
    struct emmap_disk_participant *self = queue_participant(q, q->participant);
    struct queue_message fallen[4];
    for (unsigned i = 0; i < 4; i++)
        claim(q, &fallen[i]);
    pm_set64(state_of(q, &fallen[2]), queue_state(QUEUE_TAKING, q->owner));
    pm_set64(&self->punching, take_warm(q));
    pm_set64(&self->preparing, take_warm(q));
    os_record_to(die_in_a_step, q);
    (void)queue_ack(q, true, &fallen[3]);
}

/* --------------------------------------------------------------------------------- operations */

static struct queue_message claims[4];

static void push_all(struct emmap_queue *q) {
    kill_push_all(q, false);
}
static void push_together(struct emmap_queue *q) {
    kill_push_all(q, true);
}

static void take_n(struct emmap_queue *q, unsigned n) {
    static uint8_t buf[1 << 20];
    struct queue_message messages[8];
    const unsigned most = n;
    MUST(queue_take(q, true, buf, sizeof buf, messages, &n) == 0 && n == most);
}
static void take_one(struct emmap_queue *q) {
    take_n(q, 1);
}
static void take_three(struct emmap_queue *q) {
    take_n(q, 3);
}
static void take_four(struct emmap_queue *q) {
    take_n(q, 4);
}
static void take_this(struct emmap_queue *q) {
    static uint8_t buf[1 << 20];
    struct queue_place at = {0, 0};
    struct queue_message message;
    MUST(queue_peek(q, true, false, &at, buf, sizeof buf, &message) == 0);
    MUST(queue_take_this(q, true, &message) == 0);
}

static void claim_one(struct emmap_queue *q) {
    claim(q, &claims[0]);
}
static void claim_three(struct emmap_queue *q) {
    for (unsigned i = 0; i < 3; i++)
        claim(q, &claims[i]);
}
static void one_came_back(struct emmap_queue *q) {
    claim_three(q);
    MUST(queue_return(q, true, &claims[1]) == 0);
}
static void second_came_back(struct emmap_queue *q) {
    claim(q, &claims[0]);
    claim(q, &claims[1]);
    MUST(queue_return(q, true, &claims[1]) == 0);
}
static void claim_again(struct emmap_queue *q) {
    claim(q, &claims[3]);
}
static void ack_first(struct emmap_queue *q) {
    MUST(queue_ack(q, true, &claims[0]) == 0);
}
static void ack_second(struct emmap_queue *q) {
    MUST(queue_ack(q, true, &claims[1]) == 0);
}
static void return_first(struct emmap_queue *q) {
    MUST(queue_return(q, true, &claims[0]) == 0);
}
static void return_second(struct emmap_queue *q) {
    MUST(queue_return(q, true, &claims[1]) == 0);
}
static void erase(struct emmap_queue *q) {
    MUST(queue_drop(q, queue_get(&queue_live(q)->tail)) == 0);
}
static void prepare(struct emmap_queue *q) {
    MUST(queue_prepare(q) == 0);
}
static void give_back(struct emmap_queue *q) {
    MUST(queue_give_back(q) == 0);
}
static void checkpoint(struct emmap_queue *q) {
    MUST(queue_lock_surely(q) == 0);
    (void)queue_checkpoint(q);
    MUST(queue_unlock(q, 0) == 0);
}
static void sync_it(struct emmap_queue *q) {
    MUST(emmap_queue_sync(q) == 0);
}
static void set_max(struct emmap_queue *q) {
    MUST(queue_set_max(q, 100 << 20) == 0);
}
static void take_over(struct emmap_queue *q) {
    struct emmap_queue_info info;
    MUST(emmap_queue_info(q, &info) == 0);
}
static void close_it(struct emmap_queue *q) {
    emmap_queue_close(q);
}

static const uint32_t one_small[] = {SMALL, 0};
static const uint32_t two_smalls[] = {SMALL, SMALL, 0};
static const uint32_t a_batch[] = {100, 700, 8, 333, 800, 0};
static const uint32_t one_large[] = {LARGE, 0};

static const struct kill_operation operations[] = {
    {"push", .make = five, .run = push_all, .pushes = one_small},
    {"push twice", .make = five, .run = push_all, .pushes = two_smalls, .flags = KILL_IN_PARTS},
    {"push to an empty one", .make = nothing, .run = push_all, .pushes = one_small},
    {"push over the end of a segment", .make = near_the_end_one_warm, .run = push_all,
     .pushes = one_small},
    {"push where none is warm", .make = near_the_end, .run = push_all, .pushes = one_small},
    {"push into a new segment", .make = at_the_end, .run = push_all, .pushes = one_small},
    {"push of a header in two segments", .make = in_the_header, .run = push_all,
     .pushes = one_small},
    {"push behind a seal", .make = sealed, .run = push_all, .pushes = one_small},
    {"batch", .make = five, .run = push_together, .pushes = a_batch},
    {"batch over the end of a segment", .make = near_the_end_one_warm, .run = push_together,
     .pushes = a_batch},
    {"push of a large one", .make = five, .run = push_all, .pushes = one_large},

    {"take", .make = five, .run = take_one, .takes = 1},
    {"take of four", .make = five, .run = take_four, .takes = 4},
    {"take of this", .make = five, .run = take_this, .takes = 1},
    {"take over the end of a segment", .make = first_over_the_end, .run = take_one, .takes = 1},
    {"take over a seal", .make = over_a_seal, .run = take_three, .takes = 3},
    {"take of a large one", .make = large_first, .run = take_one, .takes = 1},
    {"take in the window", .make = five, .before = claim_one, .run = take_one, .takes = 1,
     .from = 1},
    {"take of this in the window", .make = five, .before = claim_one, .run = take_this, .takes = 1,
     .from = 1},
    {"take of a large one in the window", .make = large_second, .before = claim_one,
     .run = take_one, .takes = 1, .from = 1},
    {"take beside a claim", .make = five, .run = take_one, .takes = 1, .from = 1,
     .flags = KILL_CLAIMED},
    {"take of one that came back", .make = five, .before = one_came_back, .run = take_one,
     .takes = 1, .from = 1},
    {"take past one half pushed", .make = a_half_pushed_one, .run = take_one, .takes = 1,
     .flags = KILL_UNCLOSED},

    {"claim", .make = five, .run = claim_one},
    {"claim of a large one", .make = large_first, .run = claim_one},
    {"claim in the window", .make = five, .before = claim_one, .run = claim_again},
    {"claim beside a claim", .make = five, .run = claim_one, .flags = KILL_CLAIMED},
    {"claim of one that came back", .make = five, .before = one_came_back, .run = claim_again},
    {"claim past one half pushed", .make = a_half_pushed_one, .run = claim_one,
     .flags = KILL_UNCLOSED},
    {"ack", .make = five, .before = claim_one, .run = ack_first, .takes = 1},
    {"ack of the first of three", .make = five, .before = claim_three, .run = ack_first,
     .takes = 1},
    {"ack of the second of three", .make = five, .before = claim_three, .run = ack_second,
     .takes = 1, .from = 1},
    {"ack of a large one", .make = large_first, .before = claim_one, .run = ack_first, .takes = 1},
    {"ack over the end of a segment", .make = first_over_the_end, .before = claim_one,
     .run = ack_first, .takes = 1},
    {"return", .make = five, .before = claim_one, .run = return_first},
    {"return of the first of three", .make = five, .before = claim_three, .run = return_first},
    {"return of the second of three", .make = five, .before = claim_three, .run = return_second},

    {"erase", .make = four_segments, .run = erase, .takes = 60},
    {"erase in the window", .make = five, .before = second_came_back, .run = erase, .takes = 4,
     .from = 1, .flags = KILL_IN_PARTS},
    {"prepare a new slot", .make = five, .run = prepare},
    {"prepare a cold slot", .make = cold_ones, .run = prepare},
    {"give back", .make = five_warm, .run = give_back},
    {"checkpoint", .make = five, .run = checkpoint},
    {"sync", .make = five, .run = sync_it},
    {"set_max", .make = five, .run = set_max},
    {"close", .make = five, .run = close_it},

    {"open of a new one", .make = nothing, .flags = KILL_OPEN | KILL_NEW},
    {"open", .make = five, .flags = KILL_OPEN},
    {"open after a kill", .make = after_a_battle, .flags = KILL_OPEN | KILL_UNCLOSED},
    {"open after a failed sync", .make = sync_failed, .flags = KILL_OPEN},
    {"open beside others", .make = five, .flags = KILL_BESIDE},
    {"open beside others after a kill", .make = five_and_warm, .takes = 2, .from = 2,
     .flags = KILL_BESIDE, .first = fall},
    {"takeover", .make = five_and_warm, .run = take_over, .takes = 2, .from = 2, .first = fall},
    {"recovery", .make = taken_since, .flags = KILL_OPEN | KILL_REBOOTED},
    {"recovery of nothing", .make = all_taken_since, .flags = KILL_OPEN | KILL_REBOOTED},
    {"recovery after a kill", .make = a_battlefield,
     .flags = KILL_OPEN | KILL_REBOOTED | KILL_UNCLOSED},
    {"recovery without a reboot", .make = taken_since, .flags = KILL_OPEN | KILL_BROKEN},
    {"recovery after a kill without a reboot", .make = after_a_battle,
     .flags = KILL_OPEN | KILL_BROKEN | KILL_UNCLOSED},
    {"recovery of a sealed one", .make = over_a_seal, .flags = KILL_OPEN | KILL_REBOOTED},

    {"push, fixed size", .make = five, .run = push_all, .pushes = one_small, .flags = KILL_FIXED},
    {"push into a new segment, fixed size", .make = at_the_end, .run = push_all,
     .pushes = one_small, .flags = KILL_FIXED},
    {"erase, fixed size", .make = four_segments, .run = erase, .takes = 60, .flags = KILL_FIXED},
    {"recovery, fixed size", .make = some_taken_since,
     .flags = KILL_OPEN | KILL_REBOOTED | KILL_FIXED},
};
enum { OPERATIONS = sizeof operations / sizeof *operations };

/* ---------------------------------------------------------------------------------- the test */

enum { MOST_WORKERS = 8 };

static const char *fast_folder(void) {
    static char folder[300];
    snprintf(folder, sizeof folder, "%s/emmap-kill.XXXXXX", support_memory());
    return mkdtemp(folder) ? folder : support_path("");
}

/* All of them: several minutes of sanitizers; there it is a sample, unless it is asked for. */
static uint64_t stride(void) {
    const char *every = getenv("EMMAP_KILL_EVERY");
    const long n = every ? strtol(every, NULL, 10) : SANITIZER ? 61 : 1;
    return n > 0 ? (uint64_t)n : 1;
}

static void any_store_may_be_the_last(void **state) {
    (void)state;
    if (!FILES_ARE_KNOWN) skip(); /* each open is a recovery */
    if (THREAD_SANITIZER)
        skip(); /* of one thread, in thousands of OS processes that start slowly */
    const long processors = sysconf(_SC_NPROCESSORS_ONLN);
    const unsigned n = processors < 1              ? 1
                       : processors < MOST_WORKERS ? (unsigned)processors
                                                   : MOST_WORKERS;
    const char *folder = fast_folder();
    struct kill_result *results = mmap(NULL, sizeof *results * MOST_WORKERS, PROT_READ | PROT_WRITE,
                                       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(results, MAP_FAILED);
    pid_t workers[MOST_WORKERS];
    fflush(NULL);
    for (unsigned i = 0; i < n; i++) {
        workers[i] = fork();
        assert_true(workers[i] >= 0);
        if (workers[i] != 0) continue;
        char own[400];
        snprintf(own, sizeof own, "%s/%u", folder, i);
        MUST(mkdir(own, 0700) == 0);
        results[i] = kill_all(operations, OPERATIONS, own, 1 + i * stride(), n * stride());
        fflush(NULL);
        _exit(rmdir(own) == 0 ? 0 : 1);
    }
    struct kill_result all = {0};
    bool ended = true;
    for (unsigned i = 0; i < n; i++) {
        int status;
        ended = waitpid(workers[i], &status, 0) == workers[i] && status == 0 && ended;
        all.states += results[i].states;
        all.good += results[i].good;
    }
    (void)rmdir(folder);
    munmap(results, sizeof *results * MOST_WORKERS);
    print_message("kill states: %llu of %llu\n", (unsigned long long)all.good,
                  (unsigned long long)all.states);
    assert_true(ended);
    assert_int_equal(all.good, all.states);
}

int main(void) {
    const struct CMUnitTest tests[] = {TEST(any_store_may_be_the_last)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
