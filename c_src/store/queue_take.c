/* queue_take.c -- messages from the head: taken, claimed, looked at.
 *
 * Between head and cursor lies the window: messages that somebody holds a claim on, and around them
 * those that came back or are done. It is closed most of the time, and a take then moves head and
 * cursor as one. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/crc32c.h"
#include "core/figures.h"
#include "os/os.h"
#include "store/queue.h"

enum { PASSES = 4096 };

/* So many records of a window are passed in one turn; in test builds few, so that small windows take
 * several. */
enum { CATCH_UP_TRIES = 200 };
#ifdef EMMAP_TESTING
enum { HEAD_AT_ONCE = 3, LOOK_AT_ONCE = 2 };
#else
enum { HEAD_AT_ONCE = 2000, LOOK_AT_ONCE = 500 };
#endif

/* Where a walk over records is: its place and the ordinal there, and what it has passed that is no
 * message. */
struct walk {
    struct queue_place at;
    uint64_t n;
    uint64_t gap_n, gap_bytes;
    uint64_t mended; /* where damage has become a gap: once */
};

static struct walk walk_from_cursor(const struct emmap_queue *q) {
    return (struct walk){.at = queue_cursor_place(q), .n = queue_get(&queue_live(q)->cursor_n)};
}

static void pass(struct walk *walk, const struct queue_record *record) {
    walk->at = record->end;
    walk->n = record->header.ordinal + 1;
}

static uint64_t less(uint64_t from, uint64_t by) {
    return from > by ? from - by : 0;
}

/* Between where a walk is and the record it comes to: the bytes behind a seal, and the ordinals of
 * what was lost. */
static void count_skipped(struct walk *walk, const struct queue_record *record) {
    walk->gap_bytes += record->at.pos - walk->at.pos;
    if (record->header.ordinal > walk->n) walk->gap_n += record->header.ordinal - walk->n;
}

/* An empty queue has no gaps, whatever damage has made of their counts. */
static void set_gaps(struct emmap_queue *q, struct queue_step *step, const struct walk *walk,
                     uint64_t gap_n, uint64_t gap_bytes) {
    struct emmap_disk_live *live = queue_live(q);
    const bool empty = walk->at.pos == queue_get(&live->tail);
    queue_set(step, &live->gap_n, empty ? 0 : less(gap_n, walk->gap_n));
    queue_set(step, &live->gap_bytes, empty ? 0 : less(gap_bytes, walk->gap_bytes));
}

/* A message of the window that the head does not pass with it. */
static void set_done(struct emmap_queue *q, struct queue_step *step,
                     const struct queue_record *record) {
    struct emmap_disk_live *live = queue_live(q);
    queue_set(step, record->state, queue_state(QUEUE_DONE, 0));
    queue_set(step, &live->gap_n, queue_get(&live->gap_n) + 1);
    queue_set(step, &live->gap_bytes,
              queue_get(&live->gap_bytes) + record->end.pos - record->at.pos);
}

/* Cursor and head to where the walk is, the window being closed. */
static void move_both(struct emmap_queue *q, struct queue_step *step, const struct walk *walk) {
    struct emmap_disk_live *live = queue_live(q);
    queue_set(step, &live->cursor, walk->at.pos);
    queue_set(step, &live->cursor_n, walk->n);
    queue_set(step, &live->cursor_slot, walk->at.slot);
    queue_set(step, &live->head, walk->at.pos);
    queue_set(step, &live->head_n, walk->n);
    queue_set(step, &live->head_slot, walk->at.slot);
    set_gaps(q, step, walk, queue_get(&live->gap_n), queue_get(&live->gap_bytes));
}

/* Only the cursor: what the walk has passed is in the window now. */
static void move_cursor(struct emmap_queue *q, struct queue_step *step, const struct walk *walk) {
    struct emmap_disk_live *live = queue_live(q);
    queue_set(step, &live->cursor, walk->at.pos);
    queue_set(step, &live->cursor_n, walk->n);
    queue_set(step, &live->cursor_slot, walk->at.slot);
    queue_set(step, &live->window_n, walk->n - queue_get(&live->head_n));
}

static void move(struct emmap_queue *q, struct queue_step *step, const struct walk *walk) {
    if (queue_get(&queue_live(q)->window_n) == 0)
        move_both(q, step, walk);
    else
        move_cursor(q, step, walk);
}

/* No record where one should be: it becomes a gap, which the walk comes to next. */
static int mend(struct emmap_queue *q, struct walk *walk, struct queue_place limit,
                uint64_t limit_n, struct queue_damage *damage) {
    struct emmap_disk_live *live = queue_live(q);
    if (walk->mended == walk->at.pos) return EMMAP_E_CORRUPT;
    int rc = queue_mend(q, walk->at, walk->n, limit, limit_n, damage);
    if (rc) return rc;
    walk->mended = walk->at.pos;
    struct queue_step step = {0};
    queue_set(&step, &live->lost_n, queue_get(&live->lost_n) + damage->lost);
    if (damage->is_void) {
        queue_set(&step, &live->gap_n, queue_get(&live->gap_n) + damage->lost);
        queue_set(&step, &live->gap_bytes, queue_get(&live->gap_bytes) + damage->bytes);
    } else {
        walk->at = damage->to;
        walk->n = damage->to_n;
    }
    queue_do(q, &step);
    atomic_fetch_add(&q->lost, damage->lost);
    return 0;
}

static int mend_ready(struct emmap_queue *q, struct walk *walk) {
    struct queue_damage damage;
    return mend(q, walk, queue_tail_place(q), queue_get(&queue_live(q)->tail_n), &damage);
}

/* Goes on to the next READY record at or behind the walk. EMMAP_E_EMPTY | -EAGAIN | QUEUE_SPUN: its
 * writer is still at it. VOID and DONE are passed. */
static int next_ready(struct emmap_queue *q, bool wait, struct walk *walk,
                      struct queue_record *record) {
    const uint64_t tail = queue_get(&queue_live(q)->tail);
    for (unsigned i = 0;; i++) {
        if (walk->at.pos >= tail) {
            walk->n = queue_get(&queue_live(q)->tail_n); /* the last ones may be lost */
            return EMMAP_E_EMPTY;
        }
        if (!wait && i > PASSES) return -EAGAIN;
        int rc = queue_record_at(q, wait, walk->at, record);
        if (rc == 0 && !PM_MUST(record->end.pos <= tail && record->header.ordinal >= walk->n))
            rc = EMMAP_E_CORRUPT;
        if (rc == EMMAP_E_CORRUPT) {
            if (!wait) return -EAGAIN;
            rc = mend_ready(q, walk);
            if (rc) return rc;
            continue;
        }
        if (rc) return rc;
        count_skipped(walk, record);
        const uint64_t state = queue_get(record->state);
        switch (queue_kind(state)) {
        case QUEUE_FILLING:
            if (queue_is_alive(q, (unsigned)(state >> 16 & 0xFFFF), state >> 32)) return QUEUE_SPUN;
            {
                struct queue_step step = {0};
                struct emmap_disk_live *live = queue_live(q);
                queue_set(&step, record->state, queue_state(QUEUE_VOID, 0));
                queue_set(&step, &live->gap_bytes,
                          queue_get(&live->gap_bytes) + record->end.pos - record->at.pos);
                queue_do(q, &step);
            }
            break;
        case QUEUE_VOID:
        case QUEUE_DONE:
            break;
        default: /* READY; behind the cursor there is no claim, so any other is a damaged one */
            walk->at = record->at;
            walk->n = record->header.ordinal;
            return 0;
        }
        walk->gap_n++;
        walk->gap_bytes += record->end.pos - record->at.pos;
        pass(walk, record);
    }
}

/* ---------------------------------------------------------------------------------- the window */

static bool is_gone(enum queue_state_kind kind) {
    return kind == QUEUE_DONE || kind == QUEUE_VOID;
}

/* The head over what is gone at its start, where the record at done counts as gone: so many records
 * at once, the next who comes goes on. */
static int advance_head(struct emmap_queue *q, struct queue_step *step, uint64_t done,
                        uint64_t gap_n, uint64_t gap_bytes) {
    struct emmap_disk_live *live = queue_live(q);
    const uint64_t cursor = queue_get(&live->cursor);
    struct walk walk = {.at = queue_head_place(q), .n = queue_get(&live->head_n)};
    struct queue_record record;
    for (unsigned i = 0; walk.at.pos < cursor && i < HEAD_AT_ONCE; i++) {
        int rc = queue_record_at(q, true, walk.at, &record);
        if (rc == EMMAP_E_CORRUPT) {
            struct queue_damage damage;
            rc = mend(q, &walk, queue_cursor_place(q), queue_get(&live->cursor_n), &damage);
            if (rc) return rc;
            gap_n += damage.is_void ? damage.lost : 0;
            gap_bytes += damage.is_void ? damage.bytes : 0;
            continue;
        }
        if (rc) return rc;
        if (record.at.pos != done && !is_gone(queue_kind(queue_get(record.state)))) break;
        count_skipped(&walk, &record);
        walk.gap_n++;
        walk.gap_bytes += record.end.pos - record.at.pos;
        pass(&walk, &record);
    }
    queue_set(step, &live->head, walk.at.pos);
    queue_set(step, &live->head_n, walk.n);
    queue_set(step, &live->head_slot, walk.at.slot);
    queue_set(step, &live->window_n, queue_get(&live->cursor_n) - walk.n);
    set_gaps(q, step, &walk, gap_n, gap_bytes);
    return 0;
}

/* What is gone, or damaged, at the head was left to whoever comes next. */
static bool head_lags(struct emmap_queue *q) {
    struct queue_record record;
    if (queue_get(&queue_live(q)->window_n) == 0) return false;
    const int rc = queue_record_at(q, false, queue_head_place(q), &record);
    return rc ? rc == EMMAP_E_CORRUPT || rc == -EAGAIN
              : is_gone(queue_kind(queue_get(record.state)));
}

/* To the background. */
static void leave_lag(struct emmap_queue *q) {
    if (head_lags(q)) queue_background(q);
}

/* EMMAP_E_EMPTY: it is where it should be. Where nobody can tell what is in memory, a head that does not
 * lag seems to. */
static int go_on_with_head(struct emmap_queue *q) {
    struct emmap_disk_live *live = queue_live(q);
    const uint64_t head = queue_get(&live->head);
    struct queue_step step = {0};
    const int rc = advance_head(q, &step, 0, queue_get(&live->gap_n), queue_get(&live->gap_bytes));
    if (rc) return rc;
    queue_do(q, &step);
    queue_free_behind(q);
    return queue_get(&live->head) == head ? EMMAP_E_EMPTY : 0;
}

/* Between the turns others have the lock. */
void queue_catch_up(struct emmap_queue *q) {
    bool lags = queue_get(&queue_live(q)->window_n) > 0;
    for (unsigned tries = 0; lags && tries < CATCH_UP_TRIES;) {
        int rc = queue_lock(q, true);
        if (rc == QUEUE_SPUN) {
            tries++;
            continue;
        }
        if (rc) return;
        if (queue_unlock(q, head_lags(q) ? go_on_with_head(q) : EMMAP_E_EMPTY)) return;
        lags = queue_get(&queue_live(q)->window_n) > 0;
    }
}

/* How many in the window came back, one more or less; and where the first of them is, or was: known
 * to an OS process that has the queue for itself. */
static void count_returned(struct emmap_queue *q, struct queue_step *step, bool one_more,
                           struct queue_place at) {
    struct emmap_disk_live *live = queue_live(q);
    const uint64_t n = queue_get(&live->returned_n), next = one_more ? n + 1 : less(n, 1);
    if (one_more && (n == 0 || (q->returned_seen == n && at.pos < q->returned_at.pos)))
        q->returned_at = at;
    if (n == 0 || q->returned_seen == n) q->returned_seen = next;
    queue_set(step, &live->returned_n, next);
}

/* A message of the window is done. */
static int end_claim(struct emmap_queue *q, const struct queue_record *record, bool returned) {
    struct emmap_disk_live *live = queue_live(q);
    struct queue_step step = {0};
    queue_set(&step, record->state, queue_state(QUEUE_DONE, 0));
    if (returned) count_returned(q, &step, false, record->at);
    const int rc = advance_head(q, &step, record->at.pos, queue_get(&live->gap_n) + 1,
                                queue_get(&live->gap_bytes) + record->end.pos - record->at.pos);
    if (rc) return rc;
    queue_do(q, &step);
    queue_free_behind(q);
    leave_lag(q);
    return 0;
}

static int find_returned_from(struct emmap_queue *q, bool wait, struct queue_place at,
                              struct queue_record *record) {
    const uint64_t cursor = queue_get(&queue_live(q)->cursor);
    for (unsigned i = 0; at.pos < cursor; i++) {
        if (!wait && i > PASSES) return -EAGAIN;
        int rc = queue_record_at(q, wait, at, record);
        if (rc == EMMAP_E_CORRUPT && wait) {
            rc = queue_resync(q, &at, queue_cursor_place(q));
            if (rc) return rc;
            continue;
        }
        if (rc) return rc == EMMAP_E_CORRUPT ? -EAGAIN : rc;
        if (queue_kind(queue_get(record->state)) == QUEUE_READY) return 0;
        at = record->end;
    }
    return EMMAP_E_EMPTY;
}

/* The first message that came back; EMMAP_E_EMPTY. */
static int find_returned(struct emmap_queue *q, bool wait, struct queue_record *record) {
    struct emmap_disk_live *live = queue_live(q);
    const uint64_t n = queue_get(&live->returned_n);
    const struct queue_place head = queue_head_place(q);
    const bool known = !q->multi_os && q->returned_seen == n && q->returned_at.pos >= head.pos;
    int rc = find_returned_from(q, wait, known ? q->returned_at : head, record);
    if (rc == EMMAP_E_EMPTY && known) rc = find_returned_from(q, wait, head, record);
    if (rc == EMMAP_E_EMPTY) pm_set64(&live->returned_n, 0);
    if (rc == 0) {
        q->returned_at = record->at;
        q->returned_seen = n;
    }
    return rc;
}

/* -------------------------------------------------------------------------------------- taking */

/* Is there room for it, and may it be copied under the lock? */
static bool fits(const struct queue_record *record, uint64_t room) {
    return record->header.len_bytes <= room && record->header.len_bytes <= QUEUE_SMALL_BYTES;
}

static int take_returned(struct emmap_queue *q, bool wait, void *buf, uint64_t room,
                         struct queue_message *message) {
    struct queue_record record;
    int rc = find_returned(q, wait, &record);
    if (rc) return rc;
    queue_tell(message, &record);
    if (!fits(&record, room)) return QUEUE_NO_ROOM;
    rc = queue_data(q, wait, &record, buf);
    return rc ? rc : end_claim(q, &record, true);
}

/* A turn of it, if the caller may wait for what is not in memory. */
static void go_on_if(struct emmap_queue *q, bool wait) {
    if (wait && head_lags(q)) (void)go_on_with_head(q);
    leave_lag(q);
}

/* As many as there are and have room, in one step. */
static int take_ready(struct emmap_queue *q, bool wait, uint8_t *buf, uint64_t room,
                      struct queue_message *messages, unsigned *n) {
    struct emmap_disk_live *live = queue_live(q);
    const bool open = queue_get(&live->window_n) > 0;
    struct walk walk = walk_from_cursor(q);
    const unsigned most = open ? 1 : *n;
    unsigned got = 0;
    int rc = 0;
    struct queue_record record;
    while (got < most) {
        rc = next_ready(q, wait, &walk, &record);
        if (rc) break;
        if (!fits(&record, room)) {
            rc = QUEUE_NO_ROOM;
            if (got == 0) queue_tell(messages, &record);
            break;
        }
        rc = queue_data(q, wait, &record, buf);
        if (rc) break;
        queue_tell(&messages[got++], &record);
        buf += record.header.len_bytes;
        room -= record.header.len_bytes;
        if (open) break;
        pass(&walk, &record);
    }
    if (got == 0 && open) go_on_if(q, wait);
    if (got == 0 && (rc != EMMAP_E_EMPTY || open)) return rc;
    *n = got;
    struct queue_step step = {0};
    if (open) {
        set_done(q, &step, &record);
        pass(&walk, &record);
    }
    move(q, &step, &walk);
    queue_do(q, &step);
    queue_free_behind(q);
    if (open) go_on_if(q, wait);
    return got == 0 ? rc : 0;
}

/* Outside the lock: what was copied is what was pushed, or it is dropped. */
static unsigned keep_whole(struct emmap_queue *q, uint8_t *buf, struct queue_message *messages,
                           unsigned n) {
    unsigned kept = 0;
    uint8_t *to = buf;
    for (unsigned i = 0; i < n; i++) {
        const uint32_t len = messages[i].len_bytes;
        if (PM_MUST(crc32c(0, buf, len) == messages[i].data_crc)) {
            if (to != buf) memmove(to, buf, len);
            to += len;
            messages[kept++] = messages[i];
        } else {
            queue_lose(q);
        }
        buf += len;
    }
    return kept;
}

static int take_locked(struct emmap_queue *q, bool wait, void *buf, uint64_t room,
                       struct queue_message *messages, unsigned *n) {
    queue_look_for_dead(q);
    if (queue_get(&queue_live(q)->returned_n) > 0) {
        const int rc = take_returned(q, wait, buf, room, messages);
        if (rc != EMMAP_E_EMPTY) {
            *n = 1;
            return rc;
        }
    }
    return take_ready(q, wait, buf, room, messages, n);
}

static void count_taken(const struct queue_message *messages, unsigned n) {
    uint64_t bytes = 0;
    for (unsigned i = 0; i < n; i++)
        bytes += messages[i].len_bytes;
    figures_add2(EMMAP_FIGURE_TAKES, n, EMMAP_FIGURE_TAKE_BYTES, bytes);
}

/* One that is larger than what may be copied under the lock. */
static int take_large(struct emmap_queue *q, void *buf, uint64_t room,
                      struct queue_message *message);

int queue_take(struct emmap_queue *q, bool wait, void *buf, uint64_t room_bytes,
               struct queue_message *messages, unsigned *n) {
    const unsigned most = *n;
    if (most == 0) return 0;
    for (int tries = 0;;) {
        int rc = queue_lock(q, wait);
        if (rc) return rc;
        unsigned got = most;
        rc = queue_unlock(q, take_locked(q, wait && tries > 2, buf, room_bytes, messages, &got));
        if (rc == QUEUE_NO_ROOM && messages[0].len_bytes > QUEUE_SMALL_BYTES &&
            messages[0].len_bytes <= room_bytes) {
            if (!wait) return -EAGAIN;
            if (q->file && !queue_enter(q)) return EMMAP_E_CLOSED;
            rc = take_large(q, buf, room_bytes, messages);
            if (q->file) queue_leave(q);
            got = 1;
            if (rc == -EAGAIN) continue; /* another one was first */
        }
        if (rc == 0) {
            *n = keep_whole(q, buf, messages, got);
            if (*n == 0) continue; /* all were damaged, and are gone */
            count_taken(messages, *n);
            return 0;
        }
        if (rc != -EAGAIN || !wait) return rc;
        tries++;
        queue_touch_next(q);
    }
}

/* ------------------------------------------------------------------------------------ claims */

/* The next message becomes this OS process's, in this state. */
static int claim_next(struct emmap_queue *q, bool wait, enum queue_state_kind kind,
                      struct queue_record *record) {
    struct emmap_disk_live *live = queue_live(q);
    struct queue_step step = {0};
    queue_look_for_dead(q);
    if (queue_get(&live->returned_n) > 0) {
        const int rc = find_returned(q, wait, record);
        if (rc == 0) {
            queue_set(&step, record->state, queue_state(kind, q->owner));
            count_returned(q, &step, false, record->at);
            queue_do(q, &step);
            return 0;
        }
        if (rc != EMMAP_E_EMPTY) return rc;
    }
    struct walk walk = walk_from_cursor(q);
    const int rc = next_ready(q, wait, &walk, record);
    if (rc) {
        go_on_if(q, wait);
        return rc;
    }
    if (queue_get(&live->window_n) == 0) {
        /* What was passed on the way is no part of the window. */
        move_both(q, &step, &walk);
        queue_do(q, &step);
    }
    pass(&walk, record);
    queue_set(&step, record->state, queue_state(kind, q->owner));
    move_cursor(q, &step, &walk);
    queue_do(q, &step);
    return 0;
}

/* The record of a claim, if it is still this OS process's. EMMAP_E_STALE. */
static int claimed(struct emmap_queue *q, const struct queue_message *message,
                   enum queue_state_kind kind, struct queue_record *record) {
    if (message->at.pos < queue_get(&queue_live(q)->head)) return EMMAP_E_STALE;
    const int rc = queue_record_at(q, true, message->at, record);
    if (rc) return rc == EMMAP_E_CORRUPT ? EMMAP_E_STALE : rc;
    return queue_get(record->state) == queue_state(kind, q->owner) &&
                   record->header.ordinal == message->ordinal
               ? 0
               : EMMAP_E_STALE;
}

/* Back to its place; the window is closed where it held nothing else. */
static void give_back_claim(struct emmap_queue *q, const struct queue_record *record) {
    struct emmap_disk_live *live = queue_live(q);
    struct queue_step step = {0};
    queue_set(&step, record->state, queue_state(QUEUE_READY, 0));
    if (queue_get(&live->window_n) == 1 && record->at.pos == queue_get(&live->head)) {
        queue_set(&step, &live->cursor, queue_get(&live->head));
        queue_set(&step, &live->cursor_n, queue_get(&live->head_n));
        queue_set(&step, &live->cursor_slot, queue_get(&live->head_slot));
        queue_set(&step, &live->window_n, 0);
    } else {
        count_returned(q, &step, true, record->at);
    }
    queue_do(q, &step);
}

/* A large push: its message is there, or never will be. */
static void end_filling(struct emmap_queue *q, const struct queue_record *record, bool done) {
    struct emmap_disk_live *live = queue_live(q);
    struct queue_step step = {0};
    queue_set(&step, record->state, queue_state(done ? QUEUE_READY : QUEUE_VOID, 0));
    if (done)
        queue_set(&step, &live->gap_n, less(queue_get(&live->gap_n), 1));
    else
        queue_set(&step, &live->gap_bytes,
                  queue_get(&live->gap_bytes) + record->end.pos - record->at.pos);
    queue_do(q, &step);
}

/* Under the lock. */
static int end_held(struct emmap_queue *q, const struct queue_message *message,
                    enum queue_state_kind held, bool done) {
    struct queue_record record;
    const int rc = claimed(q, message, held, &record);
    if (rc) return rc;
    if (held != QUEUE_FILLING && done) return end_claim(q, &record, false);
    if (held == QUEUE_FILLING)
        end_filling(q, &record, done);
    else
        give_back_claim(q, &record);
    return 0;
}

static void put_owed(struct emmap_queue *q, struct queue_owed *owed) {
    owed->next = atomic_load(&q->owed);
    while (!atomic_compare_exchange_weak(&q->owed, &owed->next, owed))
        ;
}

/* Without memory it stays as it is until the queue is opened anew. */
static void owe(struct emmap_queue *q, const struct queue_message *message,
                enum queue_state_kind held, bool done) {
    struct queue_owed *owed = malloc(sizeof *owed);
    if (!owed) return;
    *owed = (struct queue_owed){.message = *message, .held = held, .done = done};
    put_owed(q, owed);
    (void)queue_tick();
}

static bool may_end_later(int rc) {
    return rc && rc != EMMAP_E_STALE && rc != EMMAP_E_CORRUPT && rc != EMMAP_E_CLOSED;
}

void queue_pay(struct emmap_queue *q) {
    struct queue_owed *all = atomic_exchange(&q->owed, NULL);
    while (all) {
        struct queue_owed *next = all->next;
        const int rc = end_held(q, &all->message, all->held, all->done);
        if (rc == EMMAP_E_CORRUPT) queue_break(q, rc);
        if (may_end_later(rc))
            put_owed(q, all);
        else
            free(all);
        all = next;
    }
}

int queue_finish_surely(struct emmap_queue *q, const struct queue_message *message,
                        enum queue_state_kind held, bool done) {
    int rc = queue_lock_surely(q);
    if (rc == 0) rc = queue_unlock(q, end_held(q, message, held, done));
    if (rc == 0 && held != QUEUE_FILLING) queue_catch_up(q);
    if (may_end_later(rc)) owe(q, message, held, done && held != QUEUE_FILLING);
    return rc;
}

void queue_return_later(struct emmap_queue *q, const struct queue_message *message) {
    const int rc = queue_return(q, true, message);
    if (may_end_later(rc)) owe(q, message, QUEUE_LEASED, false);
}

int queue_ack(struct emmap_queue *q, bool wait, const struct queue_message *message) {
    int rc = queue_lock(q, wait);
    if (rc) return rc;
    rc = queue_unlock(q, end_held(q, message, QUEUE_LEASED, true));
    if (rc == 0) count_taken(message, 1);
    if (rc == 0 && wait) queue_catch_up(q);
    return rc;
}

int queue_return(struct emmap_queue *q, bool wait, const struct queue_message *message) {
    const int rc = queue_lock(q, wait);
    return rc ? rc : queue_unlock(q, end_held(q, message, QUEUE_LEASED, false));
}

enum { COPY_TRIES = 8 };
/* A copy outside the lock, of a record that is claimed. */
static int copy_claimed(struct emmap_queue *q, const struct queue_message *message, void *buf) {
    struct emmap_region *region = q->file ? q->file->region : NULL;
    for (int i = 0; i < COPY_TRIES; i++) {
        uint64_t before = 0;
        const bool whole = !region || region_is_whole(region, &before);
        struct queue_place place = message->at;
        int rc = queue_skip(q, &place, QUEUE_RECORD_HEADER);
        if (rc == 0) rc = queue_read_out(q, &place, buf, message->len_bytes);
        if (rc) return rc;
        if (whole && (!region || region_was_whole(region, before))) return 0;
        rc = queue_lock_surely(q); /* heals */
        if (rc) return rc;
        rc = queue_unlock(q, 0);
        if (rc) return rc;
    }
    return -EIO;
}

static int take_large(struct emmap_queue *q, void *buf, uint64_t room,
                      struct queue_message *message) {
    int rc = queue_lock(q, true);
    if (rc) return rc;
    struct queue_record record;
    rc = claim_next(q, true, QUEUE_TAKING, &record);
    if (rc == 0) queue_tell(message, &record);
    if (rc == 0 && message->len_bytes > room) {
        /* Another one than the one that room was made for. */
        give_back_claim(q, &record);
        rc = -EAGAIN;
    }
    rc = queue_unlock(q, rc);
    if (rc) return rc;
    rc = copy_claimed(q, message, buf);
    /* What is copied is the caller's, whatever becomes of its place. */
    (void)queue_finish_surely(q, message, QUEUE_TAKING, rc == 0);
    return rc;
}

static int claim(struct emmap_queue *q, bool wait, void *buf, uint64_t room_bytes,
                 struct queue_message *message) {
    for (int tries = 0;; tries++) {
        int rc = queue_lock(q, wait);
        if (rc) return rc;
        struct queue_record record;
        rc = claim_next(q, wait && tries > 2, QUEUE_LEASED, &record);
        if (rc == 0) {
            queue_tell(message, &record);
            const bool fits = message->len_bytes <= room_bytes;
            const bool small = message->len_bytes <= QUEUE_SMALL_BYTES || wait;
            if (!fits || !small) {
                give_back_claim(q, &record);
                rc = fits ? -EAGAIN : QUEUE_NO_ROOM;
            }
        }
        rc = queue_unlock(q, rc);
        if (rc == -EAGAIN && wait) {
            queue_touch_next(q);
            continue;
        }
        if (rc) return rc;
        rc = copy_claimed(q, message, buf);
        if (rc == 0 && PM_MUST(crc32c(0, buf, message->len_bytes) == message->data_crc)) return 0;
        if (rc) {
            (void)queue_finish_surely(q, message, QUEUE_LEASED, false);
            return rc;
        }
        queue_lose(q);
        rc = queue_finish_surely(q, message, QUEUE_LEASED, true); /* damaged: it is gone */
        if (rc) return rc;
    }
}

int queue_claim(struct emmap_queue *q, bool wait, void *buf, uint64_t room_bytes,
                struct queue_message *message) {
    if (!q->file) return claim(q, wait, buf, room_bytes, message);
    if (!queue_enter(q)) return EMMAP_E_CLOSED;
    const int rc = claim(q, wait, buf, room_bytes, message);
    queue_leave(q);
    return rc;
}

static int take_this(struct emmap_queue *q, bool wait, const struct queue_message *message) {
    int rc = queue_lock(q, wait);
    if (rc) return rc;
    struct emmap_disk_live *live = queue_live(q);
    struct queue_record record;
    queue_look_for_dead(q);
    if (queue_get(&live->returned_n) > 0) {
        rc = find_returned(q, wait, &record);
        if (rc == 0) rc = record.at.pos == message->at.pos ? end_claim(q, &record, true) : -EAGAIN;
        if (rc != EMMAP_E_EMPTY) return queue_unlock(q, rc);
    }
    struct walk walk = walk_from_cursor(q);
    rc = next_ready(q, wait, &walk, &record);
    if (rc == 0 && record.at.pos != message->at.pos) rc = -EAGAIN;
    if (rc) return queue_unlock(q, rc);
    struct queue_step step = {0};
    if (queue_get(&live->window_n) > 0) {
        set_done(q, &step, &record);
    }
    pass(&walk, &record);
    move(q, &step, &walk);
    queue_do(q, &step);
    queue_free_behind(q);
    go_on_if(q, wait);
    return queue_unlock(q, 0);
}

int queue_take_this(struct emmap_queue *q, bool wait, const struct queue_message *message) {
    const int rc = take_this(q, wait, message);
    if (rc == 0) count_taken(message, 1);
    return rc;
}

/* ------------------------------------------------------------------------------------ dropping */

enum { DROP_AT_ONCE = 1000 };

static int drop_returned(struct emmap_queue *q, unsigned *n) {
    struct queue_record record;
    while (*n < DROP_AT_ONCE && queue_get(&queue_live(q)->returned_n) > 0) {
        int rc = find_returned(q, true, &record);
        if (rc == EMMAP_E_EMPTY) return 0;
        if (rc == 0) rc = end_claim(q, &record, true);
        if (rc) return rc;
        ++*n;
    }
    return 0;
}

/* Some of the messages before until; EMMAP_E_EMPTY: there are none. */
static int drop_some(struct emmap_queue *q, uint64_t until, unsigned *n) {
    struct emmap_disk_live *live = queue_live(q);
    int rc = drop_returned(q, n);
    const bool open = queue_get(&live->window_n) > 0;
    struct walk walk = walk_from_cursor(q);
    struct queue_step step = {0};
    while (rc == 0 && *n < DROP_AT_ONCE) {
        struct queue_record record;
        rc = next_ready(q, true, &walk, &record);
        if (rc == 0 && record.at.pos >= until) rc = EMMAP_E_EMPTY;
        if (rc) break;
        ++*n;
        if (open) {
            set_done(q, &step, &record);
        }
        pass(&walk, &record);
        if (open) {
            move(q, &step, &walk);
            queue_do(q, &step);
        }
    }
    if (!open && (rc == 0 || rc == EMMAP_E_EMPTY || rc == QUEUE_SPUN)) {
        move(q, &step, &walk);
        queue_do(q, &step);
    }
    queue_free_behind(q);
    return rc;
}

int queue_drop(struct emmap_queue *q, uint64_t until) {
    for (;;) {
        unsigned n = 0;
        int rc = queue_lock(q, true);
        if (rc) return rc;
        rc = queue_unlock(q, drop_some(q, until, &n));
        if (rc == EMMAP_E_EMPTY) {
            queue_catch_up(q);
            return 0;
        }
        if (rc) return rc;
    }
}

/* ------------------------------------------------------------------------- what the dead left */

enum { EVERYBODY = QUEUE_PARTICIPANTS + 1 };

/* What a dead one has claimed: LEASED is to be taken again, TAKING is gone. */
static void reap(struct emmap_queue *q, const struct queue_record *record, bool leased) {
    struct queue_step step = {0};
    if (leased) {
        queue_set(&step, record->state, queue_state(QUEUE_READY, 0));
        count_returned(q, &step, true, record->at);
    } else {
        set_done(q, &step, record);
    }
    queue_do(q, &step);
}

/* Claims of one participant, or of all that are dead, in so many records from a place on; the place
 * becomes where to go on. true: that is the end of the window. */
static bool reap_some(struct emmap_queue *q, unsigned participant, struct queue_place *at,
                      unsigned most) {
    const uint64_t cursor = queue_get(&queue_live(q)->cursor);
    struct queue_record record;
    for (unsigned i = 0; at->pos < cursor; i++) {
        if (i == most) return false;
        const int rc = queue_record_at(q, true, *at, &record);
        if (rc == EMMAP_E_CORRUPT && queue_resync(q, at, queue_cursor_place(q)) == 0) continue;
        if (rc) return true;
        const uint64_t state = queue_get(record.state);
        const enum queue_state_kind kind = queue_kind(state);
        const unsigned owner = (unsigned)(state >> 16 & 0xFFFF);
        *at = record.end;
        if (kind != QUEUE_LEASED && kind != QUEUE_TAKING) continue;
        if (participant < QUEUE_PARTICIPANTS && owner != participant) continue;
        if (participant != EVERYBODY && queue_is_alive(q, owner, state >> 32)) continue;
        reap(q, &record, kind == QUEUE_LEASED);
    }
    return true;
}

void queue_reap_claims(struct emmap_queue *q, unsigned participant) {
    struct queue_place at = queue_head_place(q);
    (void)reap_some(q, participant, &at, UINT32_MAX);
    if (head_lags(q)) (void)go_on_with_head(q);
}

/* Who dies in a claim, while others live on, is found by those who find the window open: once a
 * second it is looked through, some records at a time. */
enum { LOOK_MS = 1000 };
void queue_look_for_dead(struct emmap_queue *q) {
    if (!q->multi_os || queue_get(&queue_live(q)->window_n) == 0) return;
    const struct queue_place head = queue_head_place(q);
    if (q->reap_at.pos == 0) {
        const uint64_t now = os_now_ms();
        if (now - q->reap_ms < LOOK_MS) return;
        q->reap_ms = now;
    }
    if (q->reap_at.pos < head.pos) q->reap_at = head;
    if (reap_some(q, QUEUE_PARTICIPANTS, &q->reap_at, LOOK_AT_ONCE))
        q->reap_at = (struct queue_place){0, 0};
    if (head_lags(q)) (void)go_on_with_head(q);
}

void queue_reap_window(struct emmap_queue *q) {
    struct emmap_disk_live *live = queue_live(q);
    const uint64_t cursor = queue_get(&live->cursor);
    struct queue_place at = queue_head_place(q);
    struct queue_record record;
    uint64_t ready = 0;
    queue_reap_claims(q, EVERYBODY);
    while (at.pos < cursor) {
        const int rc = queue_record_at(q, true, at, &record);
        if (rc == EMMAP_E_CORRUPT && queue_resync(q, &at, queue_cursor_place(q)) == 0) continue;
        if (rc) break;
        at = record.end;
        if (is_gone(queue_kind(queue_get(record.state)))) continue;
        ready++;
        if (queue_get(record.state) != queue_state(QUEUE_READY, 0))
            pm_set64(record.state, queue_state(QUEUE_READY, 0));
    }
    pm_set64(&live->returned_n, ready);
    while (head_lags(q) && go_on_with_head(q) == 0)
        ;
    queue_free_behind(q);
}

void queue_reap(struct emmap_queue *q, unsigned participant) {
    queue_reap_hands(q, participant);
    if (queue_get(&queue_live(q)->window_n) > 0) queue_reap_claims(q, participant);
}
