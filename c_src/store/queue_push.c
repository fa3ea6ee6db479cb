/* queue_push.c -- messages onto the tail.
 *
 * Small ones are copied under the lock and become visible in one step. A large one takes its place
 * under the lock (FILLING), is copied outside, and becomes READY in a second step. */
#include <errno.h>
#include <string.h>

#include "core/crc32c.h"
#include "core/figures.h"
#include "os/os.h"
#include "store/queue.h"

enum { LARGE_TRIES = 8 };

/* Where the next record goes, while a call writes several. */
struct tail {
    struct queue_place at, last; /* the next record, and the one before it */
    uint64_t n, now_ms;
    uint64_t gap_bytes; /* behind seals that were passed */
};

/* Links and describes the segments that a record of need bytes at the tail reaches into; moves the
 * tail from a segment's end to the next one's start. The segments of one record have numbers in a
 * row; behind a seal the numbers go on with next_number. */
static int reach(struct emmap_queue *q, struct tail *tail, uint64_t need) {
    struct emmap_disk_live *live = queue_live(q);
    uint64_t off, stop;
    int rc = queue_place_off(q, tail->at, &off, &stop);
    if (rc) return rc;
    bool starts_there = off == stop; /* in the next segment */
    uint64_t prev_end = starts_there ? tail->at.pos : tail->at.pos - off + q->cap_bytes;
    uint64_t number = prev_end / q->cap_bytes;
    if (starts_there && stop < q->cap_bytes) number = queue_get(&live->next_number);
    uint64_t end = tail->at.pos + need;
    if (starts_there) end = number * q->cap_bytes + need;
    uint64_t slot = tail->at.slot;
    for (uint64_t room = stop - off; room < need; room += q->cap_bytes, number++) {
        uint64_t next;
        rc = queue_link(q, slot, &next);
        if (rc) return rc;
        const uint64_t begins = number * q->cap_bytes, ends = begins + q->cap_bytes;
        struct emmap_disk_segment segment = {.number = number,
                                             .epoch = queue_get(&live->epoch),
                                             .first_pos = begins,
                                             .first_n = tail->n,
                                             .prev = slot,
                                             .prev_end = prev_end};
        if (starts_there) {
            tail->gap_bytes += begins - prev_end;
            tail->at = (struct queue_place){.pos = begins, .slot = next};
        } else {
            segment.first_pos = end < ends ? end : ends;
            segment.first_n = tail->n + 1;
        }
        queue_write_segment(q, next, segment);
        if (number >= queue_get(&live->next_number)) pm_set64(&live->next_number, number + 1);
        starts_there = false;
        prev_end = ends;
        slot = next;
    }
    return 0;
}

static const uint8_t zeros[8];

/* The whole record where its segment has room for it. */
static int write_at(struct emmap_queue *q, uint8_t *at, const struct emmap_disk_record *header,
                    const struct queue_data *data, const struct emmap_disk_trailer *trailer) {
    const uint32_t pad = -header->len_bytes & 7;
    uint8_t end[sizeof zeros + sizeof *trailer] = {0};
    uint8_t *to = at;
    memcpy(end + pad, trailer, sizeof *trailer);
    pm_copy(to, header, sizeof *header);
    to += sizeof *header;
    if (data->head_bytes) pm_copy(to, data->head, data->head_bytes);
    to += data->head_bytes;
    if (data->body_bytes) pm_copy(to, data->body, data->body_bytes);
    to += data->body_bytes;
    pm_copy(to, end, pad + sizeof *trailer);
    to += pad + sizeof *trailer;
    pm_fence();
    return queue_is_whole(q, at, (uint64_t)(to - at)) ? 0 : -EIO;
}

/* It lies in several segments, or its data (NULL) is written later. */
static int write_in_pieces(struct emmap_queue *q, bool wait, struct queue_place *place,
                           const struct emmap_disk_record *header, const struct queue_data *data,
                           const struct emmap_disk_trailer *trailer) {
    const uint64_t pad = -(uint64_t)header->len_bytes & 7;
    int rc = queue_write(q, wait, place, header, sizeof *header);
    if (rc == 0 && data) rc = queue_write(q, wait, place, data->head, data->head_bytes);
    if (rc == 0 && data) rc = queue_write(q, wait, place, data->body, data->body_bytes);
    if (rc == 0 && !data) rc = queue_skip(q, place, header->len_bytes);
    if (rc == 0) rc = queue_write(q, wait, place, zeros, pad);
    return rc ? rc : queue_write(q, wait, place, trailer, sizeof *trailer);
}

/* Header, trailer, and the data unless it is written later. Moves the tail. */
static int write_record(struct emmap_queue *q, bool wait, struct tail *tail,
                        const struct queue_data *data, uint64_t state, bool with_data) {
    const uint32_t len = data->head_bytes + data->body_bytes;
    const uint64_t need = queue_record_bytes(len);
    int rc = reach(q, tail, need);
    if (rc) return rc;
    const struct emmap_disk_slot *slot = queue_slot(q, tail->at.slot);
    struct emmap_disk_record header = {
        .flags = data->flags,
        .ordinal = tail->n,
        .time_ms = tail->now_ms,
        .len_bytes = len,
        .data_crc = data->crc,
        .state = state,
    };
    header.crc = queue_record_crc(q, slot->segment.epoch, tail->at.pos, &header);
    const struct emmap_disk_trailer trailer = {.len_bytes = len, .inverse = ~len};
    struct queue_place place = tail->at;
    uint8_t *at = queue_span(q, wait, place, need, &rc);
    if (rc) return rc;
    if (at && with_data) {
        rc = write_at(q, at, &header, data, &trailer);
        place.pos += need;
    } else {
        rc = write_in_pieces(q, wait, &place, &header, with_data ? data : NULL, &trailer);
    }
    if (rc) return rc;
    tail->last = tail->at;
    tail->at = place;
    tail->n++;
    return 0;
}

static struct tail tail_of(const struct emmap_queue *q, uint64_t now_ms) {
    const struct emmap_disk_live *live = queue_live(q);
    return (struct tail){.at = {queue_get(&live->tail), queue_get(&live->tail_slot)},
                         .n = queue_get(&live->tail_n),
                         .now_ms = now_ms};
}

static void set_tail(struct emmap_queue *q, struct queue_step *step, const struct tail *tail) {
    struct emmap_disk_live *live = queue_live(q);
    queue_set(step, &live->tail, tail->at.pos);
    queue_set(step, &live->tail_n, tail->n);
    queue_set(step, &live->tail_slot, tail->at.slot);
    if (tail->gap_bytes)
        queue_set(step, &live->gap_bytes, queue_get(&live->gap_bytes) + tail->gap_bytes);
}

/* What a push that was killed or refused has left behind this one's end must not look like the next
 * record to a recovery: it would have the right position and ordinal. */
static void end_behind(struct emmap_queue *q, struct queue_place at) {
    uint64_t off, stop;
    if (queue_place_off(q, at, &off, &stop)) return;
    const struct emmap_disk_slot *slot = queue_slot(q, at.slot);
    if (off == stop) {
        at.slot = queue_get(&slot->next);
        slot = queue_slot(q, at.slot);
        off = 0;
    }
    if (!slot) return;
    emmap_disk_word *word =
        (emmap_disk_word *)(void *)((uint8_t *)(uintptr_t)slot + QUEUE_SLOT_HEADER + off);
    if (queue_get(word)) pm_set64(word, 0);
}

/* From here on it is there. */
static void publish(struct emmap_queue *q, const struct tail *tail, uint64_t filling) {
    struct emmap_disk_live *live = queue_live(q);
    const bool switched = queue_get(&live->tail_slot) != tail->at.slot;
    struct queue_step step = {0};
    set_tail(q, &step, tail);
    queue_set(&step, &live->gap_n, queue_get(&live->gap_n) + filling);
    queue_do(q, &step);
    if (switched) queue_checkpoint_now(q);
}

static int check_room(const struct emmap_queue *q, uint64_t need) {
    const uint64_t most = queue_get(&queue_live(q)->max_bytes);
    const uint64_t has = queue_bytes(q);
    return has > most || need > most - has ? EMMAP_E_FULL : 0;
}

static int push_locked(struct emmap_queue *q, bool wait, const struct queue_data *data, unsigned n,
                       uint64_t need, uint64_t now_ms, struct queue_place *end) {
    int rc = check_room(q, need);
    struct tail tail = tail_of(q, now_ms);
    const uint64_t ready = queue_state(QUEUE_READY, 0);
    for (unsigned i = 0; i < n && rc == 0; i++)
        rc = write_record(q, wait, &tail, &data[i], ready, true);
    if (rc) {
        end_behind(q, tail_of(q, 0).at);
        return rc;
    }
    end_behind(q, tail.at);
    publish(q, &tail, 0);
    *end = tail.at;
    return 0;
}

/* ----------------------------------------------------------------------------------- large ones */

static int claim_place(struct emmap_queue *q, const struct queue_data *data, uint64_t need,
                       uint64_t now_ms, struct queue_message *message) {
    int rc = check_room(q, need);
    if (rc) return rc;
    struct tail tail = tail_of(q, now_ms);
    rc = write_record(q, true, &tail, data, queue_state(QUEUE_FILLING, q->owner), false);
    if (rc) return rc;
    *message = (struct queue_message){.at = tail.last, .end = tail.at, .ordinal = tail.n - 1};
    end_behind(q, tail.at);
    publish(q, &tail, 1);
    return 0;
}

/* The data, outside the lock: nobody else touches the place while this OS process lives. */
static int fill(struct emmap_queue *q, struct queue_place at, const struct queue_data *data) {
    struct emmap_region *region = q->file ? q->file->region : NULL;
    for (int i = 0; i < LARGE_TRIES; i++) {
        uint64_t before = 0;
        const bool whole = !region || region_is_whole(region, &before);
        struct queue_place place = at;
        int rc = queue_skip(q, &place, QUEUE_RECORD_HEADER);
        if (rc == 0) rc = queue_write_out(q, &place, data->head, data->head_bytes);
        if (rc == 0) rc = queue_write_out(q, &place, data->body, data->body_bytes);
        pm_fence();
        if (rc) return rc;
        if (whole && (!region || region_was_whole(region, before))) return 0;
        rc = queue_lock_surely(q); /* heals */
        if (rc) return rc;
        rc = queue_unlock(q, 0);
        if (rc) return rc;
    }
    return -EIO;
}

static int push_claimed(struct emmap_queue *q, const struct queue_data *data, uint64_t need,
                        uint64_t now_ms, uint64_t *end_pos) {
    struct queue_message message = {.ordinal = 0};
    for (;;) {
        int rc = queue_lock(q, true);
        if (rc) return rc;
        rc = queue_unlock(q, claim_place(q, data, need, now_ms, &message));
        if (rc == 0) break;
        if (rc == -EAGAIN) rc = queue_prepare(q);
        if (rc) return rc;
    }
    *end_pos = message.end.pos;
    const int filled = fill(q, message.at, data);
    const int ended = queue_finish_surely(q, &message, QUEUE_FILLING, filled == 0);
    if (filled) return filled;
    return ended == EMMAP_E_STALE ? -EIO : ended;
}

/* Without a file nobody closes. */
static int push_large(struct emmap_queue *q, const struct queue_data *data, uint64_t need,
                      uint64_t now_ms, uint64_t *end_pos) {
    if (!q->file) return push_claimed(q, data, need, now_ms, end_pos);
    if (!queue_enter(q)) return EMMAP_E_CLOSED;
    const int rc = push_claimed(q, data, need, now_ms, end_pos);
    queue_leave(q);
    return rc;
}

/* ------------------------------------------------------------------------------------------ push */

static int push_small(struct emmap_queue *q, bool wait, const struct queue_data *data, unsigned n,
                      uint64_t need, uint64_t now_ms, uint64_t *end_pos) {
    /* Cold pages are waited for outside the lock; those that are cold again are not waited for
     * for ever. */
    for (int tries = 0;; tries++) {
        struct queue_place end = {0, 0};
        int rc = queue_lock(q, wait);
        if (rc) return rc;
        const bool touch = wait && tries > 2;
        rc = queue_unlock(q, push_locked(q, touch, data, n, need, now_ms, &end));
        if (rc == 0) *end_pos = end.pos;
        if (rc != -EAGAIN || !wait) return rc;
        rc = queue_get(&queue_live(q)->warm_n) == 0 ? queue_prepare(q) : 0;
        if (rc) return rc;
        queue_touch_ahead(q, need);
    }
}

/* Or its limit was in a page that was cut away. */
static int too_big(struct emmap_queue *q, bool wait) {
    const int rc = queue_lock(q, wait);
    return rc ? rc : queue_unlock(q, EMMAP_E_TOO_BIG);
}

static int push_checked(struct emmap_queue *q, bool wait, struct queue_data *data, unsigned n,
                        uint64_t *end, uint64_t *bytes) {
    if (atomic_load_explicit(&q->closed, memory_order_relaxed)) return EMMAP_E_CLOSED;
    const uint64_t most = queue_most_bytes(q);
    uint64_t need = 0;
    bool large = false;
    *bytes = 0;
    for (unsigned i = 0; i < n; i++) {
        const uint64_t len = (uint64_t)data[i].head_bytes + data[i].body_bytes;
        if (len > most) return too_big(q, wait);
        if (len > QUEUE_SMALL_BYTES && !wait) return -EAGAIN;
        data[i].crc =
            crc32c(crc32c(0, data[i].head, data[i].head_bytes), data[i].body, data[i].body_bytes);
        need += queue_record_bytes(len);
        *bytes += len;
        large = large || len > QUEUE_SMALL_BYTES;
    }
    const uint64_t now_ms = os_wall_ms();
    if (n == 0) return 0;
    if (!large && need <= 2 * QUEUE_SMALL_BYTES)
        return push_small(q, wait, data, n, need, now_ms, end);
    return n == 1 ? push_large(q, data, need, now_ms, end) : EMMAP_E_TOO_BIG;
}

int queue_push(struct emmap_queue *q, bool wait, struct queue_data *data, unsigned n,
               uint64_t *end) {
    uint64_t bytes;
    const int rc = push_checked(q, wait, data, n, end, &bytes);
    if (rc == 0) figures_add2(EMMAP_FIGURE_PUSHES, n, EMMAP_FIGURE_PUSH_BYTES, bytes);
    return rc;
}
