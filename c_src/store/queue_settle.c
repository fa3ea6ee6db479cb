/* queue_settle.c -- what whoever had the queue last has left is put right: finished, if the live page
 * is to be believed, or else recovered. */
#include "store/queue.h"

/* A place is one of the stream's: its slot has the segment that it lies in. */
static bool place_is_sound(struct emmap_queue *q, uint64_t pos, uint64_t slot) {
    struct emmap_disk_segment segment;
    uint64_t off, stop;
    if (!queue_slot(q, slot) || slot > queue_get(&queue_live(q)->slots)) return false;
    if (!queue_segment_in(q, slot, &segment)) return false;
    if (!queue_segment_is_valid(q, &queue_slot(q, slot)->segment))
        pm_copy(&queue_slot(q, slot)->segment, &segment, sizeof segment);
    return queue_place_off(q, (struct queue_place){pos, slot}, &off, &stop) == 0;
}

static bool record_is_sound(struct emmap_queue *q, uint64_t pos, uint64_t slot, uint64_t n) {
    struct queue_record record;
    return queue_record_at(q, true, (struct queue_place){pos, slot}, &record) == 0 &&
           record.header.ordinal >= n;
}

/* The live page says something that may be: what does not is as after a power cut. */
static bool live_is_sound(struct emmap_queue *q) {
    const struct emmap_disk_live *live = queue_live(q);
    const uint64_t head = queue_get(&live->head), head_slot = queue_get(&live->head_slot);
    const uint64_t cursor = queue_get(&live->cursor), cursor_slot = queue_get(&live->cursor_slot);
    const uint64_t tail = queue_get(&live->tail), tail_slot = queue_get(&live->tail_slot);
    const uint64_t head_n = queue_get(&live->head_n), tail_n = queue_get(&live->tail_n);
    const uint64_t cursor_n = queue_get(&live->cursor_n);
    if (head > cursor || cursor > tail || head_n > cursor_n || cursor_n > tail_n) return false;
    if (queue_get(&live->window_n) != cursor_n - head_n || (head == cursor) != (head_n == cursor_n))
        return false;
    if (queue_get(&live->gap_n) > tail_n - head_n || queue_get(&live->gap_bytes) > tail - head)
        return false;
    if (!place_is_sound(q, head, head_slot) || !place_is_sound(q, cursor, cursor_slot) ||
        !place_is_sound(q, tail, tail_slot))
        return false;
    if (head_n < tail_n && !record_is_sound(q, head, head_slot, head_n)) return false;
    if (cursor_n < tail_n && !record_is_sound(q, cursor, cursor_slot, cursor_n)) return false;
    uint64_t warm = queue_get(&live->warm_slot), n = queue_get(&live->warm_n);
    if (n > queue_get(&live->slots)) return false;
    for (; n > 0 && queue_slot(q, warm); n--)
        warm = queue_get(&queue_slot(q, warm)->free_next);
    return n == 0 && warm == 0;
}

int queue_settle(struct emmap_queue *q, bool same_boot) {
    struct emmap_disk_live *live = queue_live(q);
    bool sound = same_boot && queue_redo(q);
    if (sound) {
        for (unsigned i = 0; i < QUEUE_PARTICIPANTS; i++)
            queue_reap_hands(q, i);
        const uint64_t room = queue_file_bytes(q) - QUEUE_DATA_OFF;
        if (queue_get(&live->slots) > room / q->segment_bytes) return EMMAP_E_TRUNCATED;
        sound = live_is_sound(q);
    }
    if (!sound) {
        atomic_store(&q->was_recovered, true);
        return queue_recover(q);
    }
    if (queue_get(&live->window_n) > 0) queue_reap_claims(q, QUEUE_PARTICIPANTS);
    pm_set64(&live->syncer, 0);
    return 0;
}
