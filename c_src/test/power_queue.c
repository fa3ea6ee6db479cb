/* power_queue.c -- histories of a queue, cut: it always opens, has each message that a sync covered and
 * that was not taken, once, in order, none made up, and goes on working. What one recovery has
 * found stays, and what it has not never comes back. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/os.h"
#include "test/choice.h"
#include "test/power_store.h"
#include "test/queue_life.h"

struct play {
    struct power_run *run;
    struct power *power; /* NULL: what is done is on the disk */
    struct emmap_queue *q;
    struct emmap_queue_options options;
    char path[POWER_PATH];
    struct ledger ledger;
    struct lives lives;
    unsigned opened; /* from then on it is there, and what a recovery has decided stays so */
    unsigned depth;  /* of the recordings that this one was made in */
    unsigned deep;   /* of so many states one is used, and that cut again */
    bool pushes_sectors;
    struct ledger before;         /* what was to become of each message until then */
    bool is_gone[IMAGE_MESSAGES]; /* of those: it was not there any more */
};

static uint8_t buf[IMAGE_MESSAGE_BYTES];

static uint64_t some(struct play *play, uint64_t below) {
    return choice_random(&play->run->rng, below);
}

static unsigned now(struct play *play) {
    return play->power ? power_now(play->power) : 0;
}

/* --------------------------------------------------------------------------------------- calls */

static int open_queue(struct play *play) {
    struct emmap_queue_options options = play->options;
    options.flags |= EMMAP_QUEUE_CREATE;
    return emmap_queue_open(&play->q, play->path, &options, NULL);
}

static void start(struct play *play) {
    MUST(open_queue(play) == 0);
    if (play->opened == LIFE_NOT_YET) play->opened = now(play);
}

static void end(struct play *play) {
    emmap_queue_close(play->q);
    play->q = NULL;
}

static void push(struct play *play, uint32_t len_bytes) {
    const uint64_t room = queue_get(&queue_live(play->q)->max_bytes) - queue_bytes(play->q);
    if (play->ledger.n == IMAGE_MESSAGES || len_bytes > queue_most_bytes(play->q) ||
        len_bytes + 64 > room)
        return;
    struct life *life = &play->lives.life[play->ledger.n];
    *life = (struct life){now(play), LIFE_NOT_YET, LIFE_NOT_YET, LIFE_NOT_YET};
    ledger_begin(&play->ledger, len_bytes);
    ledger_fill(buf, play->ledger.n - 1, len_bytes);
    const int rc = emmap_queue_push(play->q, buf, len_bytes, 0);
    if (rc == EMMAP_E_FULL && (play->options.flags & EMMAP_QUEUE_FIXED_SIZE)) {
        play->ledger.n--; /* what several recoveries have sealed is not used before it is empty */
        return;
    }
    MUST(rc == 0);
    life->push_ends = now(play);
}

static void take(struct play *play) {
    uint32_t len, flags;
    const unsigned begins = now(play);
    const int rc = emmap_queue_take(play->q, buf, sizeof buf, &len, &flags);
    if (rc == EMMAP_E_EMPTY) return;
    MUST(rc == 0);
    const int id = ledger_find(&play->ledger, buf, len);
    MUST(id >= 0);
    play->lives.life[id].take_begins = begins;
    play->lives.life[id].take_ends = now(play);
}

static void sync_queue(struct play *play) {
    const unsigned begins = now(play);
    if (emmap_queue_sync(play->q) == 0) lives_sync(&play->lives, begins, now(play));
}

/* ----------------------------------------------------------------------------------- histories */

static void nothing(struct play *play) {
    (void)play;
}

/* All but some bytes of the first segment are full. */
static void nearly_full(struct play *play) {
    start(play);
    for (int i = 0; i < 2; i++)
        push(play, 32400);
    sync_queue(play);
    end(play);
}

static void two_segments(struct play *play) {
    start(play);
    for (int i = 0; i < 5; i++)
        push(play, 30000);
    sync_queue(play);
    end(play);
}

static void is_born(struct play *play) {
    start(play);
}

static void is_born_and_used(struct play *play) {
    start(play);
    push(play, 10);
    sync_queue(play);
    end(play);
}

/* Whoever made it was stopped before the folder was synced, and another one has it open by then. */
static void is_synced_by_another(struct play *play) {
    os_fail_at(OS_CALL_SYNC_PARENT, 1, EIO, 0);
    MUST(open_queue(play) == -EIO);
    os_fail_never();
    MUST(open_queue(play) == 0);
    push(play, 10);
    sync_queue(play);
    play->opened = now(play);
    push(play, 20);
}

static void push_sync_take(struct play *play) {
    start(play);
    push(play, 10);
    sync_queue(play);
    push(play, 20);
    take(play);
    sync_queue(play);
    take(play);
}

static void crosses_a_segment(struct play *play) {
    start(play);
    push(play, 300);
    push(play, 300);
    push(play, 300);
    sync_queue(play);
    push(play, 20);
    sync_queue(play);
    push(play, 20);
}

static void grows(struct play *play) {
    start(play);
    for (int i = 0; i < 6; i++) {
        push(play, 25000);
        if (i % 2) sync_queue(play);
    }
}

static void drains(struct play *play) {
    start(play);
    for (int i = 0; i < 8; i++)
        push(play, 45000);
    sync_queue(play);
    for (int i = 0; i < 7; i++) {
        take(play);
        if (i == 3) sync_queue(play);
    }
    push(play, 10);
    sync_queue(play);
    take(play);
    take(play);
    sync_queue(play);
}

static void reuses_its_segments(struct play *play) {
    start(play);
    for (int i = 0; i < 12; i++) {
        push(play, 20000 + (uint32_t)some(play, 9000));
        if (i >= 2) take(play);
        if (i % 3 == 2) sync_queue(play);
    }
}

/* Whoever opens it again in the same boot goes on where the last one was, where the system knows a file
 * again. */
static void must_not_have_recovered(const struct play *play) {
    struct emmap_queue_info info;
    struct os_identity identity;
    MUST(emmap_queue_info(play->q, &info) == 0);
    MUST(!info.was_recovered || os_identity(play->q->file->region->fd, &identity));
}

static void reopen(struct play *play) {
    end(play);
    start(play);
    must_not_have_recovered(play);
}

static void closes_and_reopens(struct play *play) {
    start(play);
    push(play, 10);
    sync_queue(play);
    push(play, 20);
    reopen(play);
    take(play);
    push(play, 30);
    sync_queue(play);
    end(play);
}

/* Whoever had it was stopped by a cut that lost nothing. */
static void is_recovered(struct play *play) {
    power_boot(9);
    start(play);
    push(play, 10);
    sync_queue(play);
    reopen(play);
    take(play);
    push(play, 20);
    sync_queue(play);
}

static void is_recovered_empty(struct play *play) {
    power_boot(9);
    start(play);
    reopen(play);
    push(play, 10);
    sync_queue(play);
}

/* In another OS process: recovered, used, and killed. */
enum { KILLED_BOOT = 9, KILLED_FIRST = 20, KILLED_SECOND = 3000 };
static int open_in_role(struct emmap_queue **q, const char *path) {
    const struct emmap_queue_options options = {.flags = 0};
    power_boot(KILLED_BOOT);
    return emmap_queue_open(q, path, &options, NULL);
}

int power_queue_recovered(const char *path) {
    struct emmap_queue *q;
    return open_in_role(&q, path) ? 1 : raise(SIGKILL);
}

int power_queue_killed(const char *path) {
    struct emmap_queue *q;
    if (open_in_role(&q, path)) return 1;
    ledger_fill(buf, 1, KILLED_FIRST);
    if (emmap_queue_push(q, buf, KILLED_FIRST, 0)) return 1;
    ledger_fill(buf, 2, KILLED_SECOND);
    if (emmap_queue_push(q, buf, KILLED_SECOND, 0)) return 1;
    return raise(SIGKILL);
}

static void one_and_a_recovery(struct play *play) {
    is_born_and_used(play);
    MUST(role_result("power_queue_recovered", play->path) == 256 + SIGKILL);
}

static void one_and_two_of_the_killed(struct play *play) {
    is_born_and_used(play);
    MUST(role_result("power_queue_killed", play->path) == 256 + SIGKILL);
    ledger_begin(&play->ledger, KILLED_FIRST);
    ledger_begin(&play->ledger, KILLED_SECOND);
}

static void goes_on_after_a_kill(struct play *play) {
    power_boot(KILLED_BOOT);
    start(play);
    must_not_have_recovered(play);
    push(play, 40);
    take(play);
    sync_queue(play);
    take(play);
}

static void is_recovered_after_a_kill(struct play *play) {
    start(play);
    push(play, 40);
    take(play);
    sync_queue(play);
    take(play);
}

/* Each record is one sector, so that one torn may be followed by one that is whole: were anything
 * written behind the torn one, just as long, the whole one could come back to life. */
enum { SECTOR_LONG = 512 - QUEUE_RECORD_OVERHEAD };
static void has_a_torn_tail(struct play *play) {
    start(play);
    push(play, 512 - 192 - QUEUE_RECORD_OVERHEAD); /* up to a sector's end */
    sync_queue(play);
    for (int i = 0; i < 4; i++)
        push(play, SECTOR_LONG);
}

/* What it was to write, the kernel has forgotten: the next opener writes it again, of all pages. */
static void fails_to_sync(struct play *play) {
    start(play);
    push(play, 10);
    sync_queue(play);
    push(play, 9000);
    os_fail_at(OS_CALL_SYNC, 1, 5, 0);
    sync_queue(play);
    os_fail_never();
    push(play, 30);
    sync_queue(play); /* still failed */
    end(play);
    const unsigned begins = now(play);
    start(play);
    lives_sync(&play->lives, begins, now(play));
    take(play);
    sync_queue(play);
    push(play, 40);
}

static void any_calls(struct play *play, unsigned calls) {
    if (play->pushes_sectors) {
        for (uint64_t i = some(play, 3); i < 3; i++)
            push(play, SECTOR_LONG);
        return;
    }
    for (unsigned i = 0; i < calls; i++) {
        const uint64_t what = some(play, 100), size = some(play, 10);
        if (what < 45)
            push(play, 2 + (uint32_t)some(play, size < 7 ? 300 : size < 9 ? 40000 : 90000));
        else if (what < 75)
            take(play);
        else if (what < 92)
            sync_queue(play);
        else if (what < 95) {
            end(play);
            start(play);
        }
    }
}

static void anything(struct play *play) {
    start(play);
    any_calls(play, 30);
}

static const struct queue_history {
    const char *name;
    void (*before)(struct play *play); /* on the disk already */
    void (*play)(struct play *play);
    uint32_t flags;
    uint64_t size_bytes;
    unsigned deep; /* of so many states one is used, and that cut again */
} histories[] = {
    {"is_born", nothing, is_born, 0, 1, 40},
    {"is_born_and_used", nothing, is_born_and_used, 0, 1, 40},
    {"is_synced_by_another", nothing, is_synced_by_another, 0, 1, 40},
    {"push_sync_take", is_born_and_used, push_sync_take, 0, 1, 40},
    {"crosses_a_segment", nearly_full, crosses_a_segment, 0, 1, 40},
    {"grows", is_born_and_used, grows, 0, 1, 40},
    {"drains", is_born, drains, 0, 1, 40},
    {"reuses_its_segments", nothing, reuses_its_segments, EMMAP_QUEUE_FIXED_SIZE, 160000, 40},
    {"closes_and_reopens", is_born_and_used, closes_and_reopens, 0, 1, 40},
    {"is_recovered", two_segments, is_recovered, 0, 1, 10},
    {"is_recovered_empty", is_born, is_recovered_empty, 0, 1, 10},
    {"goes_on_after_a_kill", one_and_two_of_the_killed, goes_on_after_a_kill, 0, 1, 40},
    {"goes_on_after_a_recovery", one_and_a_recovery, goes_on_after_a_kill, 0, 1, 40},
    {"is_recovered_after_a_kill", one_and_two_of_the_killed, is_recovered_after_a_kill, 0, 1, 20},
    {"has_a_torn_tail", is_born_and_used, has_a_torn_tail, 0, 1, 2},
    {"fails_to_sync", is_born_and_used, fails_to_sync, 0, 1, 40},
    {"anything", two_segments, anything, 0, 1, 40},
};

/* -------------------------------------------------------------------------------------- checks */

static int note_item(void *ctx, const struct emmap_queue_item *item) {
    void **to = ctx;
    const struct ledger *ledger = to[0];
    struct drained *there = to[1];
    const char **wrong = to[2];
    if (item->state != EMMAP_QUEUE_READY) return 0;
    const int id = item->data ? ledger_find(ledger, item->data, item->len_bytes) : -1;
    if (id < 0) *wrong = "a message that nobody pushed";
    if (*wrong) return 1;
    there->id[there->n++] = (unsigned)id;
    return 0;
}

/* What is in the queue, which is open, and stays. */
static const char *look(const char *path, const struct ledger *ledger, struct drained *there) {
    struct emmap_queue_view *view;
    struct emmap_queue_walked walked;
    const char *wrong = NULL;
    void *to[] = {(void *)(uintptr_t)ledger, there, &wrong};
    const struct emmap_queue_walk walk = {
        .item = note_item, .ctx = to, .data_bytes = IMAGE_MESSAGE_BYTES};
    there->n = 0;
    if (emmap_queue_view_open(&view, path)) return "a view does not open";
    if (emmap_queue_view_walk(view, &walk, &walked) && !wrong) wrong = "a view cannot be walked";
    emmap_queue_view_close(view);
    return wrong;
}

/* What must be true of each message at any of the moments. */
static void tell_fates(const struct play *play, struct power_span when, struct ledger *out) {
    lives_fates(&play->lives, &play->ledger, when.from, when.to, out);
    const bool decided = play->opened <= when.to;
    for (unsigned id = 0; id < play->before.n; id++)
        if (!decided || play->is_gone[id]) out->fate[id] = decided ? GONE : play->before.fate[id];
}

static bool must_be_there(const struct play *play, const struct ledger *fates,
                          struct power_span when) {
    bool must = play->opened <= when.to;
    for (unsigned id = 0; id < fates->n; id++)
        must = must || fates->fate[id] == THERE;
    return must;
}

static const char *use_up(struct play *play, struct ledger *fates) {
    struct drained drained;
    const char *wrong = drain(play->q, fates, &drained);
    if (!wrong) wrong = agrees(fates, &drained);
    if (wrong) return wrong;
    return some(play, 8) ? goes_on_a_little(play->q, fates) : goes_on(play->q, fates);
}

static const char *check_here(struct play *play, struct ledger *fates) {
    const int rc = open_queue(play);
    if (rc) {
        print_error("open: %s\n", emmap_error_name(rc));
        return "it does not open";
    }
    const char *wrong = use_up(play, fates);
    end(play);
    if (wrong || some(play, 8)) return wrong;
    if (open_queue(play)) return "it does not open again";
    for (unsigned id = 0; id < fates->n; id++)
        fates->fate[id] = GONE;
    wrong = use_up(play, fates);
    end(play);
    return wrong ? "after it was opened again" : NULL;
}

static const char *cut(struct play *play, uint64_t most);

/* It is opened and used, and all of that is cut again. */
static const char *cut_again(const struct play *outer, struct play *play,
                             const struct ledger *fates) {
    struct drained there;
    play->power = power_start(play->run->folder[outer->depth + 1]);
    const char *wrong = open_queue(play) ? "it does not open" : look(play->path, fates, &there);
    if (!wrong) wrong = agrees(fates, &there);
    play->opened = now(play);
    play->ledger = play->before = *fates;
    for (unsigned id = 0; id < fates->n; id++)
        play->lives.life[id] = (struct life){0, 0, LIFE_NOT_YET, LIFE_NOT_YET};
    if (!wrong) any_calls(play, (unsigned)some(play, 8));
    if (play->q && some(play, 2)) end(play);
    power_stop(play->power);
    end(play);
    for (unsigned id = 0, at = 0; !wrong && id < fates->n; id++) {
        play->is_gone[id] = at == there.n || there.id[at] != id;
        at += !play->is_gone[id];
    }
    if (!wrong) wrong = cut(play, 3);
    power_free(play->power);
    return wrong;
}

static const char *check(void *ctx, struct power_span when) {
    const struct play *outer = ctx;
    struct power_run *run = outer->run;
    struct ledger fates;
    tell_fates(outer, when, &fates);
    struct play *play = calloc(1, sizeof *play);
    MUST(play);
    play->run = run;
    play->options = outer->options;
    play->deep = outer->deep;
    play->pushes_sectors = outer->pushes_sectors;
    play->depth = outer->depth + 1;
    snprintf(play->path, sizeof play->path, "%s/q", run->folder[play->depth]);
    power_boot(play->depth + 1);
    const char *wrong = NULL;
    if (!file_exists(play->path) && must_be_there(outer, &fates, when))
        wrong = "its file is gone";
    else if (play->depth <= POWER_DEPTH && some(play, play->depth == 1 ? play->deep : 60) == 0)
        wrong = cut_again(outer, play, &fates);
    else
        wrong = check_here(play, &fates);
    free(play);
    return wrong;
}

static const char *cut(struct play *play, uint64_t most) {
    struct power_cuts cuts = {.most = most, .check = check, .ctx = play};
    return power_cut_at(play->run, play->power, &cuts, play->depth);
}

const char *power_queue_history(struct power_run *run, const char *name) {
    const struct queue_history *history = histories;
    while (strcmp(history->name, name) != 0)
        history++;
    struct play *play = calloc(1, sizeof *play);
    MUST(play);
    play->run = run;
    play->options =
        (struct emmap_queue_options){.flags = history->flags, .size_bytes = history->size_bytes};
    play->opened = LIFE_NOT_YET;
    play->deep = history->deep;
    play->pushes_sectors = history->play == has_a_torn_tail;
    snprintf(play->path, sizeof play->path, "%s/q", run->folder[0]);
    power_empty_folder(run->folder[0]);
    power_boot(1);
    history->before(play);
    end(play);
    play->lives = (struct lives){.syncs = 0};
    for (unsigned id = 0; id < play->ledger.n; id++)
        play->lives.life[id] = (struct life){0, 0, LIFE_NOT_YET, LIFE_NOT_YET};
    if (history->before != nothing) play->opened = 0;
    play->power = power_start(run->folder[0]);
    history->play(play);
    power_stop(play->power);
    end(play);
    const char *wrong = cut(play, run->most);
    power_free(play->power);
    free(play);
    return wrong;
}
