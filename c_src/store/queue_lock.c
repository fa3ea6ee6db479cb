/* queue_lock.c -- the queue's lock, and changes of several words that a death does not tear.
 *
 *     0 --cas--> (participant + 1) << 48 | incarnation --store--> 0
 *                       |
 *                       +-- the holder is dead --cas--> another one, who finishes its step
 *
 * A step is written down before it is done (struct emmap_disk_redo), so whoever comes next can do
 * it again. Values are absolute: twice is once. */
#include <assert.h>
#include <errno.h>

#include "os/os.h"
#include "store/queue.h"

enum {
    SPINS = 64,   /* some microseconds, without giving up the processor */
    YIELDS = 96,  /* with it: a holder that lost its processor gets it back */
    WAIT_MS = 5,  /* of a caller that may wait, before it is to look around */
    LOOK_MS = 10, /* between two looks whether the holder is alive */
    TIMEOUT_MS = 5000,
};
#define OWNER_MASK 0xFFFFFFFFFFFFu

/* ------------------------------------------------------------------------------------ steps */

void queue_set_word(struct queue_step *step, emmap_disk_word *word, uint64_t value) {
    if (queue_get(word) == value) return;
    assert(step->n < QUEUE_REDO_PAIRS);
    step->pair[step->n].word = word;
    step->pair[step->n++].value = value;
}

/* Each store after the ones before it: a kill leaves a prefix of them. */
void queue_do(struct emmap_queue *q, struct queue_step *step) {
    struct emmap_disk_live *live = queue_live(q);
    const unsigned n = step->n;
    if (n > 1) {
        for (unsigned i = 0; i < n; i++) {
            const uint8_t *at = (const uint8_t *)step->pair[i].word;
            pm_set64(&live->redo[i].off, (uint64_t)(at - q->base));
            pm_set64(&live->redo[i].value, step->pair[i].value);
        }
        pm_set64(&live->redo_n, n);
    }
    for (unsigned i = 0; i < n; i++)
        pm_set64(step->pair[i].word, step->pair[i].value);
    if (n > 1) pm_set64(&live->redo_n, 0);
    step->n = 0;
}

/* The words that a step may change: those of the live page but for the lock and the redo record
 * itself, of participants, of slots' headers, and the states of records. */
static bool may_change(const struct emmap_queue *q, uint64_t off) {
    if (off % 8 != 0) return false;
    if (off >= QUEUE_LIVE_OFF + offsetof(struct emmap_disk_live, tail) &&
        off < QUEUE_LIVE_OFF + offsetof(struct emmap_disk_live, identity))
        return true;
    if (off >= QUEUE_PARTICIPANTS_OFF && off < QUEUE_READERS_OFF) return true;
    const uint64_t slots = queue_get(&queue_live(q)->slots);
    if (off < QUEUE_DATA_OFF || off > q->base_bytes - 8) return false;
    return (off - QUEUE_DATA_OFF) / q->segment_bytes <= slots; /* one may be on its way */
}

bool queue_redo(struct emmap_queue *q) {
    struct emmap_disk_live *live = queue_live(q);
    const uint64_t n = queue_get(&live->redo_n);
    if (n == 0) return true;
    if (n > QUEUE_REDO_PAIRS) return false;
    struct emmap_disk_redo_copy {
        uint64_t off, value;
    } copy[QUEUE_REDO_PAIRS];
    for (uint64_t i = 0; i < n; i++) {
        copy[i].off = queue_get(&live->redo[i].off);
        copy[i].value = queue_get(&live->redo[i].value);
        if (!may_change(q, copy[i].off)) return false;
    }
    for (uint64_t i = 0; i < n; i++)
        pm_set64((emmap_disk_word *)(void *)(q->base + copy[i].off), copy[i].value);
    pm_set64(&live->redo_n, 0);
    return true;
}

void queue_distrust(struct emmap_queue *q) {
    if (queue_get(&queue_live(q)->identity[0])) pm_set64(&queue_live(q)->identity[0], 0);
}

/* The words make no sense: the next opener recovers. */
void queue_break(struct emmap_queue *q, int why) {
    int none = 0;
    if (atomic_compare_exchange_strong(&q->broken, &none, why) && why == EMMAP_E_CORRUPT)
        queue_distrust(q);
}

/* ------------------------------------------------------------------------- who is alive */

/* The byte of a participant is locked as long as its OS process lives, and by nothing else. */
bool queue_is_alive(struct emmap_queue *q, unsigned participant, uint64_t incarnation) {
    if (participant >= QUEUE_PARTICIPANTS) return false;
    const uint64_t now = queue_get(&queue_participant(q, participant)->incarnation);
    if (participant == q->participant) return ((incarnation ^ q->me) & 0xFFFFFFFFu) == 0;
    if (!PM_MUST(((now ^ incarnation) & 0xFFFFFFFFu) == 0)) return false;
    if (!q->file) return true;
    if (!q->file->region->shared) return false; /* a copy, which nobody else has */
    bool locked;
    const int rc = os_byte_locked(q->file->region->fd, QUEUE_OWNER_BYTE + 1 + participant, &locked);
    return rc != 0 || locked; /* who cannot ask does not bury */
}

/* The holder has been the same for a while: does it live? Takes the lock from a dead one. */
static bool take_over(struct emmap_queue *q, uint64_t holder) {
    struct emmap_disk_live *live = queue_live(q);
    const unsigned participant = (unsigned)(holder >> 48) - 1;
    if (holder >> 48 != 0 && queue_is_alive(q, participant, holder & OWNER_MASK)) return false;
    if (!pm_cas64(&live->lock, &holder, q->me)) return false;
    if (!queue_redo(q)) queue_break(q, EMMAP_E_CORRUPT);
    if (participant < QUEUE_PARTICIPANTS) queue_reap(q, participant);
    return true;
}

static bool try_lock(struct emmap_queue *q) {
    struct emmap_disk_live *live = queue_live(q);
    uint64_t free = 0;
    if (queue_get(&live->lock) != 0) return false;
    OS_RECORD(.kind = OS_EVENT_WORD, .addr = (const void *)&live->lock, .len_bytes = 8, .fd = -1);
    return atomic_compare_exchange_strong_explicit(&live->lock, &free, q->me, memory_order_acquire,
                                                   memory_order_relaxed);
}

/* Waits for the holder: 0 with the lock. */
static int wait_for_lock(struct emmap_queue *q, bool wait, unsigned most_ms) {
    uint64_t since = 0;
    for (unsigned tries = 0;; tries++) {
        if (try_lock(q)) return 0;
        if (tries < SPINS) continue;
        const uint64_t now = os_now_ms();
        if (since == 0) since = now;
        if (now - atomic_load_explicit(&q->look_ms, memory_order_relaxed) >= LOOK_MS) {
            const uint64_t holder = queue_get(&queue_live(q)->lock);
            atomic_store_explicit(&q->look_ms, now, memory_order_relaxed);
            if (holder != 0 && holder != q->me && take_over(q, holder)) return 0;
        }
        if (!wait && tries >= YIELDS) return QUEUE_SPUN;
        if (now - since > most_ms) return most_ms == WAIT_MS ? QUEUE_SPUN : EMMAP_E_BUSY;
        os_pause(tries);
    }
}

/* Cut off, and as long as before again: the words are zeros, and no fault tells of it. An epoch is
 * never 0. */
static bool words_are_gone(struct emmap_queue *q) {
    return q->file && queue_get(&queue_live(q)->epoch) == 0;
}

/* Whoever had it open has let go of it meanwhile: of the lock, too, if it is not another's by now. */
static int leave_closed(struct emmap_queue *q) {
    uint64_t own = q->me;
    (void)pm_cas64(&queue_live(q)->lock, &own, 0);
    return EMMAP_E_CLOSED;
}

/* Who has begun something ends it, also after the last handle was closed: the file waits for that. */
static int lock(struct emmap_queue *q, bool wait, unsigned most_ms) {
    const bool ends = most_ms == TIMEOUT_MS;
    if (!ends && atomic_load_explicit(&q->closed, memory_order_relaxed)) return EMMAP_E_CLOSED;
    int rc = atomic_load_explicit(&q->broken, memory_order_relaxed);
    if (rc) return rc;
    if (!try_lock(q)) {
        rc = wait_for_lock(q, wait, most_ms);
        if (rc) return rc;
    }
    if (!q->file) return 0;
    if (!ends && atomic_load_explicit(&q->closed, memory_order_relaxed)) {
        return leave_closed(q);
    }
    if (!region_is_whole(q->file->region, &q->marks)) {
        rc = queue_heal(q);
        if (rc) return rc;
    }
    if (words_are_gone(q)) return queue_unlock(q, EMMAP_E_TRUNCATED);
    if (atomic_load_explicit(&q->owed, memory_order_relaxed)) queue_pay(q);
    return 0;
}

int queue_lock(struct emmap_queue *q, bool wait) {
    return lock(q, wait, WAIT_MS);
}

int queue_lock_surely(struct emmap_queue *q) {
    return lock(q, true, TIMEOUT_MS);
}

/* Some page is replaced: of the pages that the queue's words lie in, or of messages. Those may come
 * back, when the disk has room again. The words were zeros meanwhile, and what was written went
 * nowhere: that they come back, as zeros in a file that is as long again, makes it no better. */
int queue_heal(struct emmap_queue *q) {
    struct emmap_region *region = q->file->region;
    uint64_t seen;
    if (atomic_load(&region->closed)) return leave_closed(q);
    if (region_enter(region, 0, QUEUE_DATA_OFF, &seen)) {
        queue_break(q, EMMAP_E_TRUNCATED);
        return queue_unlock(q, EMMAP_E_TRUNCATED);
    }
    const uint64_t size = atomic_load(region->size_bytes);
    (void)region_settle(region, 0, size, size, false);
    (void)region_is_whole(region, &q->marks);
    return 0;
}

bool queue_range_is_whole(struct emmap_queue *q, uint64_t off, uint64_t len_bytes) {
    if (!q->file) return true;
    uint64_t seen;
    if (region_is_whole(q->file->region, &seen) && seen == q->marks) return true;
    return region_enter(q->file->region, off, len_bytes, &seen) == 0;
}

int queue_unlock(struct emmap_queue *q, int rc) {
    fence(memory_order_acquire);
    if (q->file && atomic_load_explicit(&q->file->region->closed, memory_order_relaxed))
        return leave_closed(q);
    if (!queue_range_is_whole(q, 0, QUEUE_DATA_OFF) || words_are_gone(q)) {
        /* The lock may be held on a page that nobody else sees: for them we are dead. */
        queue_break(q, EMMAP_E_TRUNCATED);
        (void)os_lock_byte(q->file->region->fd, QUEUE_OWNER_BYTE + 1 + q->participant,
                           OS_LOCK_NONE);
        rc = EMMAP_E_TRUNCATED;
    }
    if (rc == EMMAP_E_CORRUPT) queue_break(q, rc);
    pm_set64(&queue_live(q)->lock, 0);
    return rc;
}
