/* queue_settle.c -- what whoever had the queue last has left is put right: finished, if the live page
 * is to be believed, or else recovered.
 *
 * The live page has no checksum: it changes too often. What it says twice, or what a checkpoint, a
 * segment or a record says too, must agree. */
#include "store/queue.h"

/* The words that say where the stream is. */
struct positions {
    uint64_t head, head_n, head_slot, cursor, cursor_n, cursor_slot, tail, tail_n, tail_slot;
    uint64_t slots;
};

static struct positions positions_of(const struct emmap_queue *q) {
    const struct emmap_disk_live *live = queue_live(q);
    return (struct positions){
        .head = queue_get(&live->head),
        .head_n = queue_get(&live->head_n),
        .head_slot = queue_get(&live->head_slot),
        .cursor = queue_get(&live->cursor),
        .cursor_n = queue_get(&live->cursor_n),
        .cursor_slot = queue_get(&live->cursor_slot),
        .tail = queue_get(&live->tail),
        .tail_n = queue_get(&live->tail_n),
        .tail_slot = queue_get(&live->tail_slot),
        .slots = queue_get(&live->slots),
    };
}

static uint64_t slots_reached(const struct emmap_queue *q, uint64_t file_bytes) {
    return file_bytes < QUEUE_DATA_OFF ? 0 : (file_bytes - QUEUE_DATA_OFF) / q->segment_bytes;
}

bool queue_is_truncated(const struct emmap_queue *q, uint64_t file_bytes) {
    const struct positions at = positions_of(q);
    const uint64_t reached = slots_reached(q, file_bytes);
    /* The last slot may be one that somebody was about to make the file longer for. */
    bool due = queue_get(&queue_live(q)->redo_n) == 0;
    for (unsigned i = 0; i < QUEUE_PARTICIPANTS && due; i++)
        due = queue_get(&queue_participant(q, i)->preparing) != at.slots;
    if (at.slots <= reached + !due) return false;
    /* Or is it the number that is wrong? */
    struct emmap_disk_checkpoint c;
    return !queue_newest_checkpoint(q, &c) || c.slots > reached || at.head_slot > reached ||
           at.cursor_slot > reached || at.tail_slot > reached;
}

/* ------------------------------------------------------------------------- what must agree */

static bool order_is_sound(const struct emmap_queue *q, const struct positions *at) {
    const struct emmap_disk_live *live = queue_live(q);
    if ((at->head | at->cursor | at->tail) % 8 != 0) return false;
    if (at->head > at->cursor || at->cursor > at->tail) return false;
    if (at->head_n > at->cursor_n || at->cursor_n > at->tail_n) return false;
    if ((at->head == at->cursor) != (at->head_n == at->cursor_n)) return false;
    if ((at->cursor == at->tail) != (at->cursor_n == at->tail_n)) return false;
    return queue_get(&live->window_n) == at->cursor_n - at->head_n &&
           queue_get(&live->gap_n) <= at->tail_n - at->head_n &&
           queue_get(&live->gap_bytes) <= at->tail - at->head;
}

/* A place is one of the stream's: its slot has the segment that it lies in. */
static bool place_is_sound(struct emmap_queue *q, uint64_t pos, uint64_t slot, uint64_t slots) {
    uint64_t off, stop;
    return slot <= slots && queue_segment_mended(q, slot) &&
           queue_place_off(q, (struct queue_place){pos, slot}, &off, &stop) == 0;
}

/* Behind damage, or what a recovery has found missing, the next one has a later number. */
static bool record_is_sound(struct emmap_queue *q, uint64_t pos, uint64_t slot, uint64_t n) {
    struct queue_record record;
    return queue_record_at(q, true, (struct queue_place){pos, slot}, &record) == 0 &&
           record.header.ordinal >= n;
}

/* The next one's serial is higher than any, and does not take the place of the only one that is
 * whole. A kill may have torn the one that was not durable yet. */
static bool checkpoints_are_sound(struct emmap_queue *q, const struct emmap_disk_checkpoint *c) {
    struct emmap_disk_live *live = queue_live(q);
    struct emmap_disk_checkpoint durable;
    const uint64_t serial = queue_get(&live->cp_durable), last = queue_get(&live->cp_serial);
    pm_read(&durable, queue_checkpoint_at(q, serial), sizeof durable);
    if (!queue_checkpoint_is_valid(q, &durable) || durable.serial != serial)
        pm_put64(&live->cp_durable, c->serial);
    if (last < c->serial || last > c->serial + 2) pm_put64(&live->cp_serial, c->serial);
    return PM_MUST(queue_get(&live->epoch) == c->epoch);
}

/* Records lead to the tail, from where a checkpoint or the segment says that one starts: closed well,
 * it is the checkpoint's own. */
static bool tail_is_sound(struct emmap_queue *q, const struct positions *at,
                          const struct emmap_disk_checkpoint *c) {
    const struct emmap_disk_slot *slot = queue_slot(q, at->tail_slot);
    const struct emmap_disk_segment *segment = &slot->segment;
    const uint64_t start = segment->number * q->cap_bytes, end = queue_get(&slot->end);
    const uint64_t next_number = queue_get(&queue_live(q)->next_number);
    uint64_t most = segment->number + at->slots + 2;
    if (most < c->next_number) most = c->next_number;
    if (end && end != at->tail - start) return false;
    if (next_number <= segment->number || next_number < c->next_number || next_number > most)
        return false;
    struct queue_place place = {.pos = segment->first_pos, .slot = at->tail_slot};
    uint64_t n = segment->first_n;
    if (c->tail >= place.pos && c->tail <= at->tail) {
        place.pos = c->tail;
        n = c->tail_n;
    }
    struct queue_record record;
    while (place.pos < at->tail) {
        if (queue_record_at(q, true, place, &record) || !PM_MUST(record.header.ordinal >= n))
            return false;
        place = record.end;
        n = record.header.ordinal + 1;
    }
    return place.pos == at->tail && n == at->tail_n;
}

/* The chain leads from its first slot to the head's, the lists have slots that are free. */
static bool space_is_sound(struct emmap_queue *q, const struct positions *at) {
    const struct emmap_disk_live *live = queue_live(q);
    const uint64_t cold = queue_get(&live->cold_slot);
    uint64_t first = queue_get(&live->first_slot);
    for (uint64_t i = at->slots; first != at->head_slot; i--) {
        if (i == 0 || first > at->slots || !queue_slot_is_behind(q, first)) return false;
        first = queue_get(&queue_slot(q, first)->next);
    }
    uint64_t warm = queue_get(&live->warm_slot), n = queue_get(&live->warm_n);
    for (uint64_t i = at->slots; n > 0 && i > 0 && warm <= at->slots; i--, n--) {
        if (!queue_slot_is_free(q, warm)) return false;
        warm = queue_get(&queue_slot(q, warm)->free_next);
    }
    return n == 0 && warm == 0 && (cold == 0 || (cold <= at->slots && queue_slot_is_free(q, cold)));
}

static bool live_is_sound(struct emmap_queue *q) {
    const struct positions at = positions_of(q);
    struct emmap_disk_checkpoint c;
    if (at.slots != slots_reached(q, queue_file_bytes(q))) return false;
    if (!queue_newest_checkpoint(q, &c) || !checkpoints_are_sound(q, &c)) return false;
    if (!order_is_sound(q, &at) || !place_is_sound(q, at.head, at.head_slot, at.slots) ||
        !place_is_sound(q, at.cursor, at.cursor_slot, at.slots) ||
        !place_is_sound(q, at.tail, at.tail_slot, at.slots))
        return false;
    if (at.head_n < at.tail_n && !record_is_sound(q, at.head, at.head_slot, at.head_n))
        return false;
    if (at.cursor_n < at.tail_n && !record_is_sound(q, at.cursor, at.cursor_slot, at.cursor_n))
        return false;
    return tail_is_sound(q, &at, &c) && space_is_sound(q, &at);
}

/* ------------------------------------------------------------------------------------ settle */

int queue_settle(struct emmap_queue *q, enum queue_past past) {
    bool sound = past == QUEUE_KILLED && queue_redo(q);
    for (unsigned i = 0; sound && i < QUEUE_PARTICIPANTS; i++)
        queue_reap_hands(q, i);
    if (!sound || !live_is_sound(q)) {
        atomic_store(&q->was_recovered, true);
        return queue_recover(q, past);
    }
    if (queue_get(&queue_live(q)->window_n) > 0) queue_reap_window(q);
    pm_set64(&queue_live(q)->syncer, 0);
    return 0;
}
