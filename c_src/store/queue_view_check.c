/* queue_view_check.c -- what surrounds the messages: the lists of slots, the counts, checkpoints. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "os/os.h"
#include "store/queue_view.h"

enum { TRIES = 100 };

void view_tell(const struct view_report *report, struct emmap_queue_problem problem) {
    report->walked->problems++;
    if (report->walk->problem) report->walk->problem(report->walk->ctx, &problem);
}

/* ------------------------------------------------------------------------------------ checkpoints */

void view_checkpoint(struct emmap_queue_view *v, unsigned i, struct emmap_queue_checkpoint *out) {
    struct emmap_disk_checkpoint c;
    *out = (struct emmap_queue_checkpoint){0};
    if (view_read(v, QUEUE_CHECKPOINT_OFF + i * QUEUE_PAGE, &c, sizeof c)) return;
    if (!queue_checkpoint_is_valid(&v->q, &c) || (c.serial & 1) != i) return;
    *out = (struct emmap_queue_checkpoint){
        .serial = c.serial, .head = c.head, .head_n = c.head_n, .tail = c.tail, .tail_n = c.tail_n};
}

/* The one that is on the disk is not written over. The other one may be torn, by a kill. */
int view_check_checkpoints(struct emmap_queue_view *v, const struct view_report *report) {
    for (;;) {
        struct emmap_queue_checkpoint c;
        const uint64_t durable = queue_get(&v->page.live.cp_durable);
        view_checkpoint(v, durable & 1, &c);
        if (c.serial == durable) return 0;
        const int rc = view_look(v);
        if (rc) return rc;
        if (queue_get(&v->page.live.cp_durable) != durable) continue;
        view_tell(report, (struct emmap_queue_problem){.kind = EMMAP_QUEUE_PROBLEM_CHECKPOINT,
                                                       .expected = durable,
                                                       .found = c.serial});
        return 0;
    }
}

/* ------------------------------------------------------------------------------------------ slots */

/* What the lists hang on, as of one moment. */
struct anchors {
    uint64_t first, last, warm, warm_n, cold, slots, head, tail, file_bytes;
    uint64_t preparing[QUEUE_PARTICIPANTS], punching[QUEUE_PARTICIPANTS];
};

static int read_anchors(struct emmap_queue_view *v, struct anchors *out) {
    int rc = view_look(v);
    const struct emmap_disk_live *live = &v->page.live;
    *out = (struct anchors){
        .first = queue_get(&live->first_slot),
        .last = queue_get(&live->last_slot),
        .warm = queue_get(&live->warm_slot),
        .warm_n = queue_get(&live->warm_n),
        .cold = queue_get(&live->cold_slot),
        .slots = queue_get(&live->slots),
        .head = queue_get(&live->head_slot),
        .tail = queue_get(&live->tail_slot),
    };
    for (unsigned i = 0; i < QUEUE_PARTICIPANTS && rc == 0; i++) {
        const uint64_t off = QUEUE_PARTICIPANTS_OFF + i * sizeof(struct emmap_disk_participant);
        rc = view_load(v, off + offsetof(struct emmap_disk_participant, preparing),
                       &out->preparing[i]);
        if (rc == 0)
            rc = view_load(v, off + offsetof(struct emmap_disk_participant, punching),
                           &out->punching[i]);
    }
    out->file_bytes = v->from.bytes;
    if (rc == 0 && !v->has_copy) rc = file_ask_size(v->file, &out->file_bytes);
    return rc;
}

/* The file may grow meanwhile. */
static bool is_same(const struct anchors *a, const struct anchors *b) {
    return a->first == b->first && a->last == b->last && a->warm == b->warm &&
           a->warm_n == b->warm_n && a->cold == b->cold && a->slots == b->slots &&
           a->head == b->head && a->tail == b->tail &&
           memcmp(a->preparing, b->preparing, sizeof a->preparing) == 0 &&
           memcmp(a->punching, b->punching, sizeof a->punching) == 0;
}

/* What was found; told only if nothing has changed meanwhile. */
struct slots {
    struct emmap_queue_view *v;
    const struct anchors *is;
    uint8_t *seen; /* by slot */
    struct emmap_queue_problem problem[4];
    unsigned problems;
};

static void find(struct slots *s, struct emmap_queue_problem problem) {
    if (s->problems < sizeof s->problem / sizeof *s->problem) s->problem[s->problems++] = problem;
}

static bool see(struct slots *s, uint64_t slot) {
    if (slot == 0 || slot > s->is->slots) {
        find(s, (struct emmap_queue_problem){.kind = EMMAP_QUEUE_PROBLEM_LIST, .slot = slot});
        return false;
    }
    if (s->seen[slot])
        find(s, (struct emmap_queue_problem){.kind = EMMAP_QUEUE_PROBLEM_SLOT_TWICE, .slot = slot});
    return !s->seen[slot]++;
}

/* A list ends where a slot is none, or is seen for the second time. */
static int follow(struct slots *s, uint64_t slot, uint64_t last, size_t link, uint64_t *n) {
    for (*n = 0; slot != 0 && see(s, slot); ++*n) {
        if (slot == last) {
            ++*n;
            return 0;
        }
        const int rc = view_load(s->v, queue_slot_off(&s->v->q, slot) + link, &slot);
        if (rc == EMMAP_E_TRUNCATED) break;
        if (rc) return rc;
    }
    if (last != 0 && s->problems == 0)
        find(s, (struct emmap_queue_problem){.kind = EMMAP_QUEUE_PROBLEM_LIST, .slot = slot});
    return 0;
}

static bool in_preparing(const struct anchors *is, uint64_t slot) {
    for (unsigned i = 0; i < QUEUE_PARTICIPANTS; i++)
        if (is->preparing[i] == slot) return true;
    return false;
}

/* What is to be made for a slot in hand need not be there yet. */
static void check_size(struct slots *s) {
    uint64_t slots = s->is->slots;
    while (slots > 0 && in_preparing(s->is, slots))
        slots--;
    const uint64_t expected = QUEUE_DATA_OFF + slots * s->v->q.segment_bytes;
    if (s->is->file_bytes < expected)
        find(s, (struct emmap_queue_problem){.kind = EMMAP_QUEUE_PROBLEM_TRUNCATED,
                                             .found = s->is->file_bytes,
                                             .expected = expected});
}

static void check_lost(struct slots *s) {
    struct emmap_queue_problem lost = {.kind = EMMAP_QUEUE_PROBLEM_SLOT_LOST};
    for (uint64_t slot = s->is->slots; slot > 0; slot--) {
        if (s->seen[slot]) continue;
        lost.slot = slot;
        lost.found++;
    }
    if (lost.found > 0 && s->problems == 0) find(s, lost);
}

static int check_lists(struct slots *s) {
    const struct anchors *is = s->is;
    uint64_t chain, warm, cold;
    int rc = follow(s, is->first, is->last, offsetof(struct emmap_disk_slot, next), &chain);
    if (rc == 0 && s->problems == 0 && (!s->seen[is->head] || !s->seen[is->tail]))
        find(s, (struct emmap_queue_problem){.kind = EMMAP_QUEUE_PROBLEM_LIST,
                                             .slot = s->seen[is->head] ? is->tail : is->head});
    if (rc == 0) rc = follow(s, is->warm, 0, offsetof(struct emmap_disk_slot, free_next), &warm);
    if (rc == 0 && s->problems == 0 && warm != is->warm_n)
        find(s, (struct emmap_queue_problem){
                    .kind = EMMAP_QUEUE_PROBLEM_WARM, .found = warm, .expected = is->warm_n});
    if (rc == 0) rc = follow(s, is->cold, 0, offsetof(struct emmap_disk_slot, free_next), &cold);
    for (unsigned i = 0; i < QUEUE_PARTICIPANTS && rc == 0; i++) {
        if (is->preparing[i]) (void)see(s, is->preparing[i]);
        if (is->punching[i]) (void)see(s, is->punching[i]);
    }
    check_lost(s);
    check_size(s);
    return rc;
}

int view_check_slots(struct emmap_queue_view *v, const struct view_report *report) {
    for (int i = 0; i < TRIES; i++) {
        struct anchors before, after;
        int rc = read_anchors(v, &before);
        if (rc) return rc;
        struct slots s = {.v = v, .is = &before};
        /* Of a count that makes no sense as many as the file may hold. */
        const uint64_t most = before.file_bytes / v->q.segment_bytes + QUEUE_PARTICIPANTS + 1;
        const uint64_t slots = before.slots;
        const bool absurd = slots > most || before.head > slots || before.tail > slots;
        if (absurd) before.slots = before.head = before.tail = 0;
        s.seen = calloc(before.slots + 1, 1);
        if (!s.seen) return -ENOMEM;
        if (absurd)
            find(&s, (struct emmap_queue_problem){.kind = EMMAP_QUEUE_PROBLEM_LIST, .slot = slots});
        else
            rc = check_lists(&s);
        free(s.seen);
        if (absurd) (void)read_anchors(v, &before);
        if (rc == 0) rc = read_anchors(v, &after);
        if (rc) return rc;
        if (is_same(&before, &after)) {
            for (unsigned k = 0; k < s.problems; k++)
                view_tell(report, s.problem[k]);
            report->walked->slots = true;
            return 0;
        }
        if (i > TRIES / 10) os_sleep_ms(1);
    }
    return 0; /* they have never stood still */
}

/* ------------------------------------------------------------------------------------------ counts */

static void compare(const struct view_report *report, enum emmap_queue_problem_kind kind,
                    uint64_t found, uint64_t expected) {
    if (found != expected)
        view_tell(report,
                  (struct emmap_queue_problem){.kind = kind, .found = found, .expected = expected});
}

/* What was found damaged is no message any more, but is counted as one until somebody comes there:
 * then there is nothing to compare. */
void view_check_counts(struct emmap_queue_view *v, const union view_page *before, uint64_t returned,
                       const struct view_report *report) {
    const size_t tail = offsetof(struct emmap_disk_live, tail);
    const size_t end = offsetof(struct emmap_disk_live, first_slot);
    const struct emmap_disk_live *live = &before->live;
    struct emmap_queue_walked *walked = report->walked;
    if (walked->problems > 0 || walked->overtaken) return;
    if (memcmp(&before->word[tail / 8], &v->page.word[tail / 8], end - tail) != 0) return;
    if (!v->steady) return;
    walked->counts = true;
    compare(report, EMMAP_QUEUE_PROBLEM_MESSAGES, walked->messages,
            queue_get(&live->tail_n) - queue_get(&live->head_n) - queue_get(&live->gap_n));
    compare(report, EMMAP_QUEUE_PROBLEM_BYTES, walked->bytes,
            queue_get(&live->tail) - queue_get(&live->head) - queue_get(&live->gap_bytes));
    compare(report, EMMAP_QUEUE_PROBLEM_RETURNED, returned, queue_get(&live->returned_n));
}
