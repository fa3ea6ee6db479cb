/* queue_peek.c -- looking at messages that stay, forwards and backwards. */
#include <errno.h>

#include "core/crc32c.h"
#include "store/queue.h"

enum { PASSES = 4096, TRIES = 16 };
enum { LARGE = 3 }; /* within this file: its data is to be copied in pieces */

static struct queue_place head_of(const struct emmap_queue *q) {
    const struct emmap_disk_live *live = queue_live(q);
    return (struct queue_place){queue_get(&live->head), queue_get(&live->head_slot)};
}

static struct queue_place tail_of(const struct emmap_queue *q) {
    const struct emmap_disk_live *live = queue_live(q);
    return (struct queue_place){queue_get(&live->tail), queue_get(&live->tail_slot)};
}

/* The first record that is there, at or behind a place. */
static int look_on(struct emmap_queue *q, bool wait, struct queue_place *at,
                   struct queue_record *record) {
    const struct queue_place tail = tail_of(q), head = head_of(q);
    if (at->pos <= head.pos) *at = head; /* what lay before has been taken meanwhile */
    for (unsigned i = 0; at->pos < tail.pos; i++) {
        if (!wait && i > PASSES) return -EAGAIN;
        int rc = queue_record_at(q, wait, *at, record);
        if (rc == EMMAP_E_CORRUPT) {
            if (!wait) return -EAGAIN;
            rc = queue_resync(q, at, tail);
            if (rc) return rc;
            continue;
        }
        if (rc) return rc;
        if (queue_kind(queue_get(record->state)) == QUEUE_READY) return 0;
        *at = record->end;
    }
    return EMMAP_E_EMPTY;
}

/* Moves a place back over bytes of the stream. */
static int back(const struct emmap_queue *q, struct queue_place *place, uint64_t len_bytes) {
    for (;;) {
        uint64_t off, stop;
        int rc = queue_place_off(q, *place, &off, &stop);
        if (rc) return rc;
        if (len_bytes <= off && (off > 0 || len_bytes == 0)) {
            place->pos -= len_bytes;
            return 0;
        }
        struct emmap_disk_segment segment, before;
        pm_read(&segment, &queue_slot(q, place->slot)->segment, sizeof segment);
        const struct emmap_disk_slot *slot = queue_slot(q, segment.prev);
        if (!slot || !queue_segment_is_valid(q, &segment)) return EMMAP_E_CORRUPT;
        pm_read(&before, &slot->segment, sizeof before);
        if (!queue_segment_is_valid(q, &before) || before.number >= segment.number)
            return EMMAP_E_CORRUPT;
        const uint64_t end = queue_get(&slot->end);
        len_bytes -= off;
        place->slot = segment.prev;
        place->pos = before.number * q->cap_bytes + (end ? end : q->cap_bytes);
        if (place->pos != segment.prev_end) return EMMAP_E_CORRUPT;
    }
}

/* The record that ends here, by its trailer. */
static int record_before(struct emmap_queue *q, bool wait, struct queue_place end,
                         struct queue_record *record) {
    struct emmap_disk_trailer trailer;
    struct queue_place at = end;
    int rc = back(q, &at, sizeof trailer);
    struct queue_place start = at;
    if (rc == 0) rc = queue_read(q, wait, &at, &trailer, sizeof trailer);
    if (rc) return rc;
    if (trailer.len_bytes != ~trailer.inverse || trailer.len_bytes > EMMAP_QUEUE_MOST_BYTES)
        return EMMAP_E_CORRUPT;
    rc = back(q, &start, queue_record_bytes(trailer.len_bytes) - sizeof trailer);
    if (rc == 0) rc = queue_record_at(q, wait, start, record);
    if (rc) return rc;
    return record->end.pos == at.pos ? 0 : EMMAP_E_CORRUPT;
}

/* The same where trailers do not lead there: from the head on. */
static int record_before_slowly(struct emmap_queue *q, struct queue_place end,
                                struct queue_record *found) {
    struct queue_place at = head_of(q);
    int result = EMMAP_E_EMPTY;
    while (at.pos < end.pos) {
        struct queue_record record;
        int rc = queue_record_at(q, true, at, &record);
        if (rc == EMMAP_E_CORRUPT) {
            rc = queue_resync(q, &at, end);
            if (rc) return rc;
            continue;
        }
        if (rc) return rc;
        if (record.end.pos > end.pos) break;
        *found = record;
        result = 0;
        at = record.end;
    }
    return result;
}

static int look_back(struct emmap_queue *q, bool wait, struct queue_place *at,
                     struct queue_record *record) {
    const struct queue_place tail = tail_of(q), head = head_of(q);
    if (at->pos == 0 || at->pos > tail.pos) *at = tail;
    for (unsigned i = 0; at->pos > head.pos; i++) {
        if (!wait && i > PASSES) return -EAGAIN;
        int rc = record_before(q, wait, *at, record);
        if (rc == EMMAP_E_CORRUPT) rc = wait ? record_before_slowly(q, *at, record) : -EAGAIN;
        if (rc) return rc;
        if (record->at.pos < head.pos) break;
        if (queue_kind(queue_get(record->state)) == QUEUE_READY) return 0;
        *at = record->at;
    }
    return EMMAP_E_EMPTY;
}

static void tell(struct queue_message *message, const struct queue_record *record) {
    *message = (struct queue_message){
        .at = record->at,
        .end = record->end,
        .ordinal = record->header.ordinal,
        .time_ms = record->header.time_ms,
        .len_bytes = record->header.len_bytes,
        .flags = record->header.flags,
        .data_crc = record->header.data_crc,
    };
}

static int look(struct emmap_queue *q, bool wait, bool backwards, struct queue_place *at, void *buf,
                uint64_t room, struct queue_message *message) {
    struct queue_record record;
    queue_look_for_dead(q);
    int rc = backwards ? look_back(q, wait, at, &record) : look_on(q, wait, at, &record);
    if (rc) return rc;
    tell(message, &record);
    if (message->len_bytes > room) return QUEUE_NO_ROOM;
    if (message->len_bytes > QUEUE_SMALL_BYTES) return LARGE;
    return queue_data(q, wait, &record, buf);
}

/* Under the lock. EMMAP_E_STALE: it has been taken meanwhile. */
static int look_at_piece(struct emmap_queue *q, bool wait, const struct queue_message *message,
                         struct queue_place *place, uint8_t *buf, uint64_t len_bytes) {
    struct queue_record record;
    if (message->at.pos < queue_get(&queue_live(q)->head)) return EMMAP_E_STALE;
    int rc = queue_record_at(q, wait, message->at, &record);
    if (rc == EMMAP_E_CORRUPT) return EMMAP_E_STALE;
    if (rc) return rc;
    if (record.header.ordinal != message->ordinal ||
        queue_kind(queue_get(record.state)) != QUEUE_READY)
        return EMMAP_E_STALE;
    if (place->pos == message->at.pos) rc = queue_skip(q, place, QUEUE_RECORD_HEADER);
    return rc ? rc : queue_read(q, wait, place, buf, len_bytes);
}

/* The lock is left after each: others have their turn. */
static int look_in_pieces(struct emmap_queue *q, const struct queue_message *message,
                          uint8_t *buf) {
    struct queue_place place = message->at;
    uint64_t left = message->len_bytes;
    for (int tries = 0; left > 0;) {
        const uint64_t n = left < QUEUE_SMALL_BYTES ? left : QUEUE_SMALL_BYTES;
        struct queue_place next = place;
        int rc = queue_lock_surely(q);
        if (rc) return rc;
        rc = queue_unlock(q, look_at_piece(q, tries > 2, message, &next, buf, n));
        if (rc == -EAGAIN) {
            tries++;
            queue_touch_place(q, place);
            continue;
        }
        if (rc) return rc;
        place = next;
        buf += n;
        left -= n;
        tries = 0;
    }
    return 0;
}

int queue_peek(struct emmap_queue *q, bool wait, bool backwards, struct queue_place *at, void *buf,
               uint64_t room_bytes, struct queue_message *message) {
    for (int tries = 0;;) {
        const struct queue_place from = *at;
        int rc = queue_lock(q, wait);
        if (rc) return rc;
        rc = queue_unlock(q, look(q, wait && tries > 2, backwards, at, buf, room_bytes, message));
        if (rc == LARGE) rc = wait ? look_in_pieces(q, message, buf) : -EAGAIN;
        if (rc == EMMAP_E_STALE) {
            *at = from;
            rc = -EAGAIN;
        }
        if (rc == -EAGAIN && wait) {
            if (tries++ == TRIES) return EMMAP_E_BUSY;
            queue_touch_place(q, *at);
            continue;
        }
        if (rc) return rc;
        *at = backwards ? message->at : message->end;
        if (crc32c(0, buf, message->len_bytes) == message->data_crc) return 0;
    }
}
