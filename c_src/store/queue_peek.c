/* queue_peek.c -- looking at messages that stay, forwards and backwards. */
#include <errno.h>

#include "core/crc32c.h"
#include "os/os.h"
#include "store/queue.h"

enum { PASSES = 4096, TRIES = 16, FASTER_MS = 5000 };
enum { LARGE = 3, FURTHER = 4 }; /* within this file: to be copied in pieces; the place has moved */

/* The first record that is there, at or behind a place. */
static int look_on(struct emmap_queue *q, bool wait, struct queue_place *at,
                   struct queue_record *record) {
    const struct queue_place tail = queue_tail_place(q), head = queue_head_place(q);
    const struct emmap_disk_live *live = queue_live(q);
    const struct queue_place cursor = queue_cursor_place(q);
    if (at->pos <= head.pos) *at = head; /* what lay before has been taken meanwhile */
    if (at->pos < cursor.pos && queue_get(&live->returned_n) == 0) *at = cursor;
    for (unsigned i = 0; at->pos < tail.pos; i++) {
        if (i > PASSES) return FURTHER;
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
    struct queue_place at = queue_head_place(q);
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
    const struct queue_place tail = queue_tail_place(q), head = queue_head_place(q);
    const struct emmap_disk_live *live = queue_live(q);
    const uint64_t end = queue_get(&live->returned_n) > 0 ? head.pos : queue_get(&live->cursor);
    if (at->pos == 0 || at->pos > tail.pos) *at = tail;
    for (unsigned i = 0; at->pos > end; i++) {
        if (i > PASSES) return FURTHER;
        int rc = record_before(q, wait, *at, record);
        if (rc == EMMAP_E_CORRUPT) rc = wait ? record_before_slowly(q, *at, record) : -EAGAIN;
        if (rc) return rc;
        if (record->at.pos < end) break;
        if (queue_kind(queue_get(record->state)) == QUEUE_READY) return 0;
        *at = record->at;
    }
    return EMMAP_E_EMPTY;
}

static int look(struct emmap_queue *q, bool wait, bool backwards, struct queue_place *at, void *buf,
                uint64_t room, struct queue_message *message) {
    struct queue_record record;
    queue_look_for_dead(q);
    int rc = backwards ? look_back(q, wait, at, &record) : look_on(q, wait, at, &record);
    if (rc) return rc;
    queue_tell(message, &record);
    if (message->len_bytes > room) return QUEUE_NO_ROOM;
    if (message->len_bytes > QUEUE_SMALL_BYTES) return LARGE;
    return queue_data(q, wait, &record, buf);
}

/* Under the lock: the message is where it was, or EMMAP_E_STALE. */
static int look_again(struct emmap_queue *q, const struct queue_message *message) {
    struct queue_record record;
    if (message->at.pos < queue_get(&queue_live(q)->head)) return EMMAP_E_STALE;
    const int rc = queue_record_at(q, true, message->at, &record);
    if (rc && rc != EMMAP_E_CORRUPT) return rc;
    return rc == 0 && record.header.ordinal == message->ordinal &&
                   queue_kind(queue_get(record.state)) == QUEUE_READY
               ? 0
               : EMMAP_E_STALE;
}

struct look {
    struct queue_place place;
    const uint8_t *at;
    uint64_t len_bytes;
};

static int find_piece(struct emmap_queue *q, const struct queue_message *message, uint64_t left,
                      struct look *piece) {
    int rc = look_again(q, message);
    if (rc == 0 && left == message->len_bytes)
        rc = queue_skip(q, &piece->place, QUEUE_RECORD_HEADER);
    if (rc == 0 && left > 0)
        rc = queue_piece(q, &piece->place, left, &piece->at, &piece->len_bytes);
    return rc;
}

/* A large one is copied without the lock, a segment's bytes at a time; in between it is looked at
 * again. What is copied is only believed if it still is there at the end, and has its checksum. */
static int look_in_pieces(struct emmap_queue *q, const struct queue_message *message,
                          uint8_t *buf) {
    struct emmap_region *region = q->file ? q->file->region : NULL;
    struct look piece = {.place = message->at};
    uint64_t left = message->len_bytes, before = 0;
    const bool whole = !region || region_is_whole(region, &before);
    for (;;) {
        int rc = queue_lock_surely(q);
        if (rc == 0) rc = queue_unlock(q, find_piece(q, message, left, &piece));
        if (rc) return rc;
        if (left == 0) return whole && (!region || region_was_whole(region, before)) ? 0 : -EAGAIN;
        pm_read(buf, piece.at, piece.len_bytes);
        piece.place.pos += piece.len_bytes;
        buf += piece.len_bytes;
        left -= piece.len_bytes;
    }
}

static int look_at_large(struct emmap_queue *q, const struct queue_message *message, uint8_t *buf) {
    if (!q->file) return look_in_pieces(q, message, buf);
    if (!queue_enter(q)) return EMMAP_E_CLOSED;
    const int rc = look_in_pieces(q, message, buf);
    queue_leave(q);
    return rc;
}

int queue_peek(struct emmap_queue *q, bool wait, bool backwards, struct queue_place *at, void *buf,
               uint64_t room_bytes, struct queue_message *message) {
    uint64_t since_ms = 0; /* so long others have always been faster */
    for (int tries = 0;;) {
        const struct queue_place from = *at;
        int rc = queue_lock(q, wait);
        if (rc) return rc;
        rc = queue_unlock(q, look(q, wait && tries > 2, backwards, at, buf, room_bytes, message));
        if (rc == LARGE) rc = wait ? look_at_large(q, message, buf) : -EAGAIN;
        if (rc == FURTHER && wait) continue;
        if (rc == FURTHER) return -EAGAIN;
        if (rc == EMMAP_E_STALE) {
            const uint64_t now_ms = os_now_ms();
            if (since_ms == 0) since_ms = now_ms;
            if (now_ms - since_ms > FASTER_MS) return EMMAP_E_BUSY;
            *at = from;
            continue;
        }
        if (rc == -EAGAIN && wait) {
            if (tries++ == TRIES) return EMMAP_E_BUSY;
            queue_touch_place(q, *at);
            continue;
        }
        if (rc) return rc;
        *at = backwards ? message->at : message->end;
        if (PM_MUST(crc32c(0, buf, message->len_bytes) == message->data_crc)) return 0;
    }
}
