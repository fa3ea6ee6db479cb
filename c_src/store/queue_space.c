/* queue_space.c -- the slots of a queue's file: linked to the chain, freed, prepared, given back.
 *
 *     chain --head has left--> warm --link--> chain
 *                              |  ^
 *                     give back|  |prepare
 *                              v  |
 *                              cold, or past the last slot
 *
 * A slot on its way between warm and cold stands in its participant's words, so that a death on the
 * way loses none. */
#include <errno.h>

#include "os/os.h"
#include "store/queue.h"

/* The head's own segment is known by its slot: the head may stand at its end. */
static bool is_before_head(const struct emmap_queue *q, uint64_t slot, bool empty) {
    struct emmap_disk_segment segment, head;
    if (!queue_has_slot(q, slot)) return false;
    if (!queue_segment_in(q, slot, &segment)) return empty;
    return queue_segment_in(q, queue_get(&queue_live(q)->head_slot), &head) &&
           segment.number < head.number;
}
bool queue_slot_is_behind(const struct emmap_queue *q, uint64_t slot) {
    return is_before_head(q, slot, false);
}
bool queue_slot_is_free(const struct emmap_queue *q, uint64_t slot) {
    return is_before_head(q, slot, true);
}

/* A segment between head and tail: a link that leads there from elsewhere is damaged. */
static bool is_in_use(const struct emmap_queue *q, uint64_t slot) {
    struct emmap_disk_segment segment, tail;
    return queue_segment_in(q, slot, &segment) && !queue_slot_is_behind(q, slot) &&
           queue_segment_in(q, queue_get(&queue_live(q)->tail_slot), &tail) &&
           segment.number <= tail.number;
}

/* What the list leads to is not free: its slots are given up until the next recovery. */
static void drop_list(struct emmap_queue *q, emmap_disk_word *list) {
    struct emmap_disk_live *live = queue_live(q);
    struct queue_step step = {0};
    queue_set(&step, list, 0);
    if (list == &live->warm_slot) queue_set(&step, &live->warm_n, 0);
    queue_do(q, &step);
    queue_distrust(q);
}

int queue_link(struct emmap_queue *q, uint64_t slot, uint64_t *next) {
    struct emmap_disk_live *live = queue_live(q);
    struct emmap_disk_slot *last = queue_slot(q, slot);
    if (!last) return EMMAP_E_CORRUPT;
    *next = queue_get(&last->next);
    if (queue_has_slot(q, *next) && !is_in_use(q, *next)) return 0;
    if (*next) queue_distrust(q);
    const uint64_t warm = queue_get(&live->warm_slot);
    if (warm == 0) return -EAGAIN;
    struct emmap_disk_slot *new = queue_slot(q, warm);
    if (!new || !queue_slot_is_free(q, warm)) {
        drop_list(q, &live->warm_slot);
        return -EAGAIN;
    }
    /* Before anything leads to the slot. The end stays until there is a new header: where a power
     * cut leaves the old one, it must tell of the seal. */
    pm_put64(&new->next, 0);
    struct queue_step step = {0};
    queue_set(&step, &live->warm_slot, queue_get(&new->free_next));
    queue_set(&step, &live->warm_n, queue_get(&live->warm_n) - 1);
    queue_set(&step, &last->next, warm);
    queue_set(&step, &live->last_slot, warm);
    queue_do(q, &step);
    *next = warm;
    if (queue_get(&live->warm_n) == 0) queue_background(q);
    return 0;
}

/* Bounded by the number of slots, whatever the links say. */
void queue_free_behind(struct emmap_queue *q) {
    struct emmap_disk_live *live = queue_live(q);
    const uint64_t head = queue_get(&live->head_slot);
    for (uint64_t i = queue_get(&live->slots); i > 0; i--) {
        const uint64_t first = queue_get(&live->first_slot);
        if (first == head) break;
        struct queue_step step = {0};
        if (!queue_slot_is_behind(q, first)) { /* as when a list is dropped */
            queue_set(&step, &live->first_slot, head);
            queue_do(q, &step);
            queue_distrust(q);
            break;
        }
        struct emmap_disk_slot *slot = queue_slot(q, first);
        const uint64_t next = queue_get(&slot->next);
        queue_set(&step, &live->first_slot, next);
        queue_set(&step, &slot->free_next, queue_get(&live->warm_slot));
        queue_set(&step, &live->warm_slot, first);
        queue_set(&step, &live->warm_n, queue_get(&live->warm_n) + 1);
        queue_do(q, &step);
    }
    if (queue_get(&live->warm_n) > QUEUE_WARM && !(q->flags & QUEUE_FLAG_FIXED))
        queue_background(q);
}

/* ------------------------------------------------------------------------------------- prepare */

/* The file's size as last known; who grows it raises it for all of this OS process, and others'
 * growth is asked for. */
static bool reaches(struct emmap_queue *q, uint64_t slot) {
    const uint64_t end = queue_slot_off(q, slot) + q->segment_bytes;
    uint64_t size = queue_file_bytes(q);
    if (size >= end) return true;
    return q->file && file_ask_size(q->file, &size) == 0 && size >= end;
}

static void queue_reap_dead_hands(struct emmap_queue *q) {
    for (unsigned i = 0; i < QUEUE_PARTICIPANTS; i++) {
        const struct emmap_disk_participant *other = queue_participant(q, i);
        if ((queue_get(&other->preparing) || queue_get(&other->punching)) && i != q->participant &&
            !queue_is_alive(q, i, queue_get(&other->incarnation)))
            queue_reap_hands(q, i);
    }
}

/* The file does not reach to its last slot: somebody is about to make it longer, or it was cut. */
static int why_short(struct emmap_queue *q, uint64_t last) {
    uint64_t size;
    for (unsigned i = 0; i < QUEUE_PARTICIPANTS; i++)
        if (queue_get(&queue_participant(q, i)->preparing) == last) return QUEUE_SPUN;
    const int rc = file_ask_size(q->file, &size);
    if (rc) return rc;
    return size >= queue_slot_off(q, last) + q->segment_bytes ? QUEUE_SPUN : EMMAP_E_TRUNCATED;
}

/* Takes a slot in hand: a cold one, or one past the last. */
static int take_in_hand(struct emmap_queue *q, uint64_t *slot) {
    struct emmap_disk_live *live = queue_live(q);
    struct emmap_disk_participant *self = queue_participant(q, q->participant);
    struct queue_step step = {0};
    if (q->flags & QUEUE_FLAG_FIXED) return EMMAP_E_FULL;
    *slot = queue_get(&live->cold_slot);
    if (*slot && !queue_slot_is_free(q, *slot)) {
        drop_list(q, &live->cold_slot);
        *slot = 0;
    }
    if (*slot) {
        struct emmap_disk_slot *cold = queue_slot(q, *slot);
        queue_set(&step, &live->cold_slot, queue_get(&cold->free_next));
    } else {
        /* One at a time makes the file longer: the slots before this one are all there. */
        const uint64_t last = queue_get(&live->slots);
        *slot = last + 1;
        if (!queue_slot(q, *slot)) return -ENOMEM; /* past the handle's addresses */
        if (q->file && last > 0 && !reaches(q, last)) {
            queue_reap_dead_hands(q);
            *slot = queue_get(&live->slots) + 1;
            if (!reaches(q, *slot - 1)) return why_short(q, *slot - 1);
        }
        queue_set(&step, &live->slots, *slot);
    }
    queue_set(&step, &self->preparing, *slot);
    queue_do(q, &step);
    return 0;
}

/* A word that changes nothing, so that the page is there for writing. */
void queue_touch(struct emmap_queue *q, uint64_t off, uint64_t len_bytes) {
    OS_RECORD(.kind = OS_EVENT_TOUCH, .addr = q->base + off, .len_bytes = len_bytes, .fd = -1);
    const uint64_t page = q->file ? q->file->region->page_bytes : QUEUE_PAGE;
    const uint64_t end = off + len_bytes;
    for (uint64_t at = off / page * page; at < end; at += page) {
        uint64_t word = 0;
        emmap_disk_word *first = (emmap_disk_word *)(void *)(q->base + at);
        while (!atomic_compare_exchange_weak_explicit(first, &word, word, memory_order_relaxed,
                                                      memory_order_relaxed))
            ;
    }
}

int queue_allocate(struct emmap_queue *q, uint64_t slot) {
    const uint64_t off = queue_slot_off(q, slot);
    if (!q->file) return off + q->segment_bytes <= q->base_bytes ? 0 : -ENOSPC;
    const int rc = file_allocate(q->file, off, q->segment_bytes);
    if (rc && rc != -EOPNOTSUPP && rc != EMMAP_E_NOTSUP) return rc;
    const int grown = rc ? file_extend(q->file, off + q->segment_bytes) : 0;
    if (grown) return grown;
    queue_touch(q, off, q->segment_bytes);
    return 0;
}

/* Out of the hand: onto the warm list; or, when there was no space for it, where it came from. */
static void put_down(struct emmap_queue *q, uint64_t slot, bool has_space) {
    struct emmap_disk_live *live = queue_live(q);
    struct emmap_disk_participant *self = queue_participant(q, q->participant);
    struct queue_step step = {0};
    queue_set(&step, &self->preparing, 0);
    if (has_space) {
        queue_set(&step, &queue_slot(q, slot)->free_next, queue_get(&live->warm_slot));
        queue_set(&step, &live->warm_slot, slot);
        queue_set(&step, &live->warm_n, queue_get(&live->warm_n) + 1);
    } else if (slot == queue_get(&live->slots) && q->file && !reaches(q, slot)) {
        queue_set(&step, &live->slots, slot - 1);
    } else {
        queue_set(&step, &queue_slot(q, slot)->free_next, queue_get(&live->cold_slot));
        queue_set(&step, &live->cold_slot, slot);
    }
    queue_do(q, &step);
}

static int prepare(struct emmap_queue *q) {
    uint64_t slot = 0;
    int rc = queue_lock(q, true);
    if (rc) return rc;
    const bool enough = queue_get(&queue_live(q)->warm_n) > 0;
    rc = queue_unlock(q, enough ? 0 : take_in_hand(q, &slot));
    if (rc || enough) return rc;
    const int allocated = queue_allocate(q, slot);
    rc = queue_lock_surely(q);
    if (rc) return rc; /* closed: the next opener finds it in our hand */
    put_down(q, slot, allocated == 0);
    rc = queue_unlock(q, 0);
    return allocated ? allocated : rc;
}

int queue_prepare(struct emmap_queue *q) {
    queue_catch_up(q); /* what it has left is warm */
    pthread_mutex_lock(&q->space_lock);
    const int rc = prepare(q);
    pthread_mutex_unlock(&q->space_lock);
    return rc;
}

/* ----------------------------------------------------------------------------------- give back */

static int give_one_back(struct emmap_queue *q) {
    struct emmap_disk_live *live = queue_live(q);
    struct emmap_disk_participant *self = queue_participant(q, q->participant);
    struct queue_step step = {0};
    int rc = queue_lock(q, true);
    if (rc) return rc;
    const uint64_t slot = queue_get(&live->warm_slot);
    if (queue_get(&live->warm_n) <= QUEUE_WARM || !queue_slot(q, slot))
        return queue_unlock(q, EMMAP_E_EMPTY);
    queue_set(&step, &live->warm_slot, queue_get(&queue_slot(q, slot)->free_next));
    queue_set(&step, &live->warm_n, queue_get(&live->warm_n) - 1);
    queue_set(&step, &self->punching, slot);
    queue_do(q, &step);
    pm_zero(queue_slot(q, slot), sizeof(struct emmap_disk_segment)); /* no recovery looks there */
    rc = queue_unlock(q, 0);
    if (rc) return rc;

    const uint64_t page = q->file ? q->file->region->page_bytes : QUEUE_PAGE;
    if (q->file && q->file->region->shared && region_pin(q->file->region)) {
        /* Where the system has no holes, the blocks stay: the slot is used again. */
        (void)os_punch(q->file->region->fd, queue_slot_off(q, slot) + page,
                       q->segment_bytes - page);
        region_unpin(q->file->region);
    }
    rc = queue_lock_surely(q);
    if (rc) return rc;
    queue_set(&step, &self->punching, 0);
    queue_set(&step, &queue_slot(q, slot)->free_next, queue_get(&live->cold_slot));
    queue_set(&step, &live->cold_slot, slot);
    queue_do(q, &step);
    return queue_unlock(q, 0);
}

int queue_give_back(struct emmap_queue *q) {
    int rc;
    pthread_mutex_lock(&q->space_lock);
    do {
        rc = give_one_back(q);
    } while (rc == 0);
    pthread_mutex_unlock(&q->space_lock);
    return rc == EMMAP_E_EMPTY ? 0 : rc;
}

/* What the dead had in hand. Its first page is there: to write a link there was the last thing that
 * was done to it, but for slots that the file does not reach yet. */
void queue_reap_hands(struct emmap_queue *q, unsigned participant) {
    struct emmap_disk_live *live = queue_live(q);
    struct emmap_disk_participant *dead = queue_participant(q, participant);
    emmap_disk_word *const hands[] = {&dead->preparing, &dead->punching};
    for (unsigned i = 0; i < 2; i++) {
        const uint64_t in_hand = queue_get(hands[i]);
        struct queue_step step = {0};
        if (in_hand == 0) continue;
        queue_set(&step, hands[i], 0);
        const bool reached = queue_slot(q, in_hand) && reaches(q, in_hand);
        if (reached) {
            queue_set(&step, &queue_slot(q, in_hand)->free_next, queue_get(&live->cold_slot));
            queue_set(&step, &live->cold_slot, in_hand);
        } else if (in_hand == queue_get(&live->slots)) {
            queue_set(&step, &live->slots, in_hand - 1);
        }
        queue_do(q, &step);
    }
}

/* ---------------------------------------------------------------------------------- background */

static void work(struct pool_job *job) {
    struct emmap_queue *q =
        (struct emmap_queue *)(void *)((char *)job - offsetof(struct emmap_queue, job));
    atomic_store(&q->job_waits, false);
    queue_catch_up(q);
    if (queue_get(&queue_live(q)->warm_n) == 0)
        (void)queue_prepare(q);
    else
        (void)queue_give_back(q);
    queue_unref(q);
}

/* One job at a time; a plain array has no background. */
void queue_background(struct emmap_queue *q) {
    if (!q->file || atomic_exchange(&q->job_waits, true)) return;
    queue_ref(q);
    q->job.run = work;
    pool_run(&q->job);
}

static void touch_place(struct emmap_queue *q, uint64_t pos, uint64_t slot, uint64_t len_bytes) {
    for (int i = 0; i < 3 && len_bytes > 0; i++) {
        uint64_t off, stop;
        const struct queue_place place = {pos, slot};
        if (!queue_has_slot(q, slot) || queue_place_off(q, place, &off, &stop)) return;
        const uint64_t n = len_bytes < stop - off ? len_bytes : stop - off;
        queue_touch(q, queue_slot_off(q, slot) + QUEUE_SLOT_HEADER + off, n);
        len_bytes -= n;
        slot = queue_get(&queue_slot(q, slot)->next);
        if (!queue_has_slot(q, slot)) slot = queue_get(&queue_live(q)->warm_slot);
        if (!queue_has_slot(q, slot)) return;
        queue_touch(q, queue_slot_off(q, slot), 1);
        pos =
            queue_get((const emmap_disk_word *)(const void *)&queue_slot(q, slot)->segment.number) *
            q->cap_bytes;
    }
}

void queue_touch_ahead(struct emmap_queue *q, uint64_t len_bytes) {
    const struct emmap_disk_live *live = queue_live(q);
    if (q->file)
        touch_place(q, queue_get(&live->tail), queue_get(&live->tail_slot), len_bytes + QUEUE_PAGE);
}

void queue_touch_next(struct emmap_queue *q) {
    const struct emmap_disk_live *live = queue_live(q);
    queue_touch_place(
        q, (struct queue_place){queue_get(&live->cursor), queue_get(&live->cursor_slot)});
}

void queue_touch_place(struct emmap_queue *q, struct queue_place place) {
    if (q->file) touch_place(q, place.pos, place.slot, QUEUE_SMALL_BYTES);
}

/* The kernel has made what it wrote read-only: the next push does not take the faults. Only what that
 * writes anyway: the next sync writes each page that was touched. */
void queue_touch_tail(struct emmap_queue *q) {
    const struct emmap_disk_live *live = queue_live(q);
    if (!q->file) return;
    queue_touch(q, QUEUE_LIVE_OFF, QUEUE_PAGE);
    touch_place(q, queue_get(&live->tail), queue_get(&live->tail_slot), sizeof(uint64_t));
}
