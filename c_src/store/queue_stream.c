/* queue_stream.c -- positions, segments and records, as docs/format/queue.md has them.
 *
 * What is read of the file is checked before it is used, and used from a private copy: somebody
 * else can write anything there at any time. */
#include <errno.h>
#include <string.h>

#include "core/crc32c.h"
#include "store/queue.h"

static uint64_t load64(const void *at) {
    return __atomic_load_n((const uint64_t *)at, __ATOMIC_RELAXED);
}

uint64_t queue_slot_off(const struct emmap_queue *q, uint64_t slot) {
    return QUEUE_DATA_OFF + (slot - 1) * q->segment_bytes;
}

struct emmap_disk_slot *queue_slot(const struct emmap_queue *q, uint64_t slot) {
    if (slot - 1 >= q->most_slots) return NULL; /* 0 too */
    return (struct emmap_disk_slot *)(void *)(q->base + queue_slot_off(q, slot));
}

bool queue_has_slot(const struct emmap_queue *q, uint64_t slot) {
    return queue_slot(q, slot) && slot <= queue_get(&queue_live(q)->slots);
}

uint32_t queue_segment_crc(const struct emmap_queue *q, const struct emmap_disk_segment *segment) {
    return crc32c(crc32c(0, &q->salt, sizeof q->salt), segment,
                  offsetof(struct emmap_disk_segment, crc));
}

bool queue_segment_is_valid(const struct emmap_queue *q, const struct emmap_disk_segment *segment) {
    return segment->magic == EMMAP_DISK_SEGMENT_MAGIC && segment->number > 0 &&
           segment->number < INT64_MAX / q->cap_bytes &&
           PM_MUST(segment->crc == queue_segment_crc(q, segment));
}

int queue_place_off(const struct emmap_queue *q, struct queue_place place, uint64_t *off,
                    uint64_t *stop) {
    const struct emmap_disk_slot *slot = queue_slot(q, place.slot);
    if (!slot) return EMMAP_E_CORRUPT;
    const uint64_t number = load64(&slot->segment.number);
    const uint64_t end = queue_get(&slot->end);
    *stop = end && end < q->cap_bytes && end % 8 == 0 ? end : q->cap_bytes;
    if (number >= INT64_MAX / q->cap_bytes) return EMMAP_E_CORRUPT;
    if (place.pos < number * q->cap_bytes) return EMMAP_E_CORRUPT;
    *off = place.pos - number * q->cap_bytes;
    return *off <= *stop ? 0 : EMMAP_E_CORRUPT;
}

struct emmap_disk_segment *queue_second_header(const struct emmap_queue *q, uint64_t slot) {
    return (struct emmap_disk_segment *)(void *)(q->base + queue_slot_off(q, slot) +
                                                 q->segment_bytes - QUEUE_SLOT_TRAILER);
}

bool queue_segment_in(const struct emmap_queue *q, uint64_t slot, struct emmap_disk_segment *out) {
    if (!queue_has_slot(q, slot)) return false;
    pm_read(out, &queue_slot(q, slot)->segment, sizeof *out);
    if (queue_segment_is_valid(q, out)) return true;
    pm_read(out, queue_second_header(q, slot), sizeof *out);
    return queue_segment_is_valid(q, out);
}

/* A header that is damaged is mended by its double, since positions are counted by it. */
static void mend_first_header(struct emmap_queue *q, uint64_t slot,
                              const struct emmap_disk_segment *segment) {
    struct emmap_disk_segment first;
    pm_read(&first, &queue_slot(q, slot)->segment, sizeof first);
    if (!queue_segment_is_valid(q, &first))
        pm_copy(&queue_slot(q, slot)->segment, segment, sizeof *segment);
}

void queue_mend_second_header(struct emmap_queue *q, uint64_t slot) {
    struct emmap_disk_segment first, second;
    pm_read(&first, &queue_slot(q, slot)->segment, sizeof first);
    pm_read(&second, queue_second_header(q, slot), sizeof second);
    if (memcmp(&first, &second, sizeof first) != 0)
        pm_copy(queue_second_header(q, slot), &first, sizeof first);
}

bool queue_segment_mended(struct emmap_queue *q, uint64_t slot) {
    struct emmap_disk_segment segment;
    if (!queue_segment_in(q, slot, &segment)) return false;
    mend_first_header(q, slot, &segment);
    return true;
}

void queue_write_segment(struct emmap_queue *q, uint64_t slot, struct emmap_disk_segment segment) {
    segment.magic = EMMAP_DISK_SEGMENT_MAGIC;
    segment.crc = queue_segment_crc(q, &segment);
    pm_copy(&queue_slot(q, slot)->segment, &segment, sizeof segment);
    pm_copy(queue_second_header(q, slot), &segment, sizeof segment);
    pm_set64(&queue_slot(q, slot)->end, 0);
}

/* Is this the slot whose segment goes on where the place is? */
static bool goes_on_in(struct emmap_queue *q, uint64_t pos, uint64_t slot,
                       struct emmap_disk_segment *segment) {
    if (!queue_segment_in(q, slot, segment)) return false;
    if (segment->prev_end != pos || segment->number * q->cap_bytes < pos) return false;
    mend_first_header(q, slot, segment);
    return true;
}

/* A later one, where a recovery has found those between missing. */
static bool is_later(struct emmap_queue *q, uint64_t slot, uint64_t later,
                     struct emmap_disk_segment *segment) {
    return queue_segment_mended(q, later) && queue_segment_in(q, later, segment) &&
           segment->number > load64(&queue_slot(q, slot)->segment.number);
}

/* The link to the next segment is damaged: it is looked for. */
static uint64_t search_next(struct emmap_queue *q, uint64_t pos,
                            struct emmap_disk_segment *segment) {
    for (uint64_t slot = 1; queue_has_slot(q, slot); slot++)
        if (goes_on_in(q, pos, slot, segment)) return slot;
    return 0;
}

/* From the end of one segment to the next. Where that is not the one linked, nor any other, it is
 * the end that is wrong, or those between are missing. */
static int hop_once(struct emmap_queue *q, struct queue_place *place, uint64_t off) {
    struct emmap_disk_slot *slot = queue_slot(q, place->slot);
    const uint64_t linked = queue_get(&slot->next), here = place->pos - off;
    struct emmap_disk_segment segment;
    uint64_t next = linked;
    if (!goes_on_in(q, place->pos, linked, &segment)) {
        next = search_next(q, place->pos, &segment);
        const bool later = next == 0 && is_later(q, place->slot, linked, &segment);
        if (later && segment.prev_end > place->pos && segment.prev_end <= here + q->cap_bytes) {
            pm_set64(&slot->end, (segment.prev_end - here) % q->cap_bytes);
            return 0;
        }
        if (later) next = linked;
        if (next == 0 && off < q->cap_bytes && place->pos != queue_get(&queue_live(q)->tail)) {
            pm_set64(&slot->end, 0);
            return 0;
        }
        if (next == 0) return EMMAP_E_CORRUPT;
        if (next != linked) pm_set64(&slot->next, next);
    }
    /* Behind a seal, or what is missing, what lies before the first record belongs to none. */
    const uint64_t start = segment.number * q->cap_bytes;
    const bool whole = place->pos == start || segment.first_pos < start ||
                       segment.first_pos > start + q->cap_bytes;
    *place = (struct queue_place){.pos = whole ? start : segment.first_pos, .slot = next};
    return 0;
}

/* In a segment where no record starts one is at the end again; there is one with a higher number
 * behind each but the last. */
int queue_hop(struct emmap_queue *q, struct queue_place *place) {
    struct queue_place at = *place;
    for (bool moved = false;; moved = true) {
        uint64_t off, stop;
        int rc = queue_place_off(q, at, &off, &stop);
        if (rc == 0 && off == stop) rc = hop_once(q, &at, off);
        if (rc && !moved) return rc;
        if (rc == 0) *place = at;
        if (rc || off < stop) return 0;
    }
}

/* Of a range within a block of 64 KiB it is mostly known. */
static bool is_resident(const struct emmap_queue *q, uint64_t off, uint64_t len_bytes) {
    struct emmap_region *region = q->file->region;
    const uint64_t block = off >> RESIDENCY_SHIFT, end = off + len_bytes;
    if ((end - 1) >> RESIDENCY_SHIFT == block) {
        const struct runtime *rt = runtime_get();
        if (residency_remembered(&rt->residency,
                                 atomic_load_explicit(&rt->moment, memory_order_relaxed),
                                 region->serial, block, residency_parts(block, off, end)))
            return true;
    }
    return region_is_resident(region, off, end);
}

uint8_t *queue_span(struct emmap_queue *q, bool wait, struct queue_place place, uint64_t len_bytes,
                    int *rc) {
    uint64_t off, stop;
    *rc = queue_place_off(q, place, &off, &stop);
    if (*rc || stop - off < len_bytes) return NULL;
    const uint64_t at = queue_slot_off(q, place.slot) + QUEUE_SLOT_HEADER + off;
    if (wait || !q->file || is_resident(q, at, len_bytes)) return q->base + at;
    *rc = -EAGAIN;
    return NULL;
}

/* One piece of a range, within one segment. */
struct piece {
    uint64_t off; /* in the file */
    uint64_t len_bytes;
};

static int next_piece(struct emmap_queue *q, bool wait, struct queue_place *place, uint64_t len,
                      struct piece *out) {
    const uint64_t pos = place->pos;
    int rc = queue_hop(q, place);
    uint64_t off, stop;
    if (rc == 0) rc = queue_place_off(q, *place, &off, &stop);
    if (rc) return rc;
    if (place->pos != pos) return EMMAP_E_CORRUPT; /* no record goes on behind a seal */
    out->off = queue_slot_off(q, place->slot) + QUEUE_SLOT_HEADER + off;
    out->len_bytes = len < stop - off ? len : stop - off;
    return wait || !q->file || is_resident(q, out->off, out->len_bytes) ? 0 : -EAGAIN;
}

static int after_piece(struct emmap_queue *q, struct queue_place *place,
                       const struct piece *piece) {
    fence(memory_order_acquire);
    if (!queue_range_is_whole(q, piece->off, piece->len_bytes)) return -EIO;
    place->pos += piece->len_bytes;
    return 0;
}

int queue_piece(struct emmap_queue *q, struct queue_place *place, uint64_t len_bytes,
                const uint8_t **at, uint64_t *piece_bytes) {
    struct piece piece;
    const int rc = next_piece(q, true, place, len_bytes, &piece);
    if (rc) return rc;
    *at = q->base + piece.off;
    *piece_bytes = piece.len_bytes;
    return 0;
}

int queue_read(struct emmap_queue *q, bool wait, struct queue_place *place, void *buf,
               uint64_t len_bytes) {
    uint8_t *to = buf;
    while (len_bytes > 0) {
        struct piece piece;
        int rc = next_piece(q, wait, place, len_bytes, &piece);
        if (rc) return rc;
        pm_read(to, q->base + piece.off, piece.len_bytes);
        rc = after_piece(q, place, &piece);
        if (rc) return rc;
        to += piece.len_bytes;
        len_bytes -= piece.len_bytes;
    }
    return 0;
}

int queue_write(struct emmap_queue *q, bool wait, struct queue_place *place, const void *data,
                uint64_t len_bytes) {
    const uint8_t *from = data;
    while (len_bytes > 0) {
        struct piece piece;
        int rc = next_piece(q, wait, place, len_bytes, &piece);
        if (rc) return rc;
        pm_copy(q->base + piece.off, from, piece.len_bytes);
        pm_fence();
        rc = after_piece(q, place, &piece);
        if (rc) return rc;
        from += piece.len_bytes;
        len_bytes -= piece.len_bytes;
    }
    return 0;
}

int queue_read_out(struct emmap_queue *q, struct queue_place *place, void *buf,
                   uint64_t len_bytes) {
    uint8_t *to = buf;
    while (len_bytes > 0) {
        struct piece piece;
        const int rc = next_piece(q, true, place, len_bytes, &piece);
        if (rc) return rc;
        pm_read(to, q->base + piece.off, piece.len_bytes);
        place->pos += piece.len_bytes;
        to += piece.len_bytes;
        len_bytes -= piece.len_bytes;
    }
    return 0;
}

int queue_write_out(struct emmap_queue *q, struct queue_place *place, const void *data,
                    uint64_t len_bytes) {
    const uint8_t *from = data;
    while (len_bytes > 0) {
        struct piece piece;
        const int rc = next_piece(q, true, place, len_bytes, &piece);
        if (rc) return rc;
        pm_copy(q->base + piece.off, from, piece.len_bytes);
        place->pos += piece.len_bytes;
        from += piece.len_bytes;
        len_bytes -= piece.len_bytes;
    }
    return 0;
}

int queue_skip(struct emmap_queue *q, struct queue_place *place, uint64_t len_bytes) {
    while (len_bytes > 0) {
        struct piece piece;
        const int rc = next_piece(q, true, place, len_bytes, &piece);
        if (rc) return rc;
        place->pos += piece.len_bytes;
        len_bytes -= piece.len_bytes;
    }
    return 0;
}

uint32_t queue_record_crc(const struct emmap_queue *q, uint64_t epoch, uint64_t pos,
                          const struct emmap_disk_record *header) {
    enum {
        COVERED =
            offsetof(struct emmap_disk_record, state) - offsetof(struct emmap_disk_record, flags)
    };
    struct {
        uint64_t salt, epoch, pos;
        uint8_t header[COVERED];
    } seeded = {.salt = q->salt, .epoch = epoch, .pos = pos};
    memcpy(seeded.header, &header->flags, COVERED);
    return crc32c(0, &seeded, 3 * sizeof(uint64_t) + COVERED);
}

static bool header_is_valid(const struct emmap_queue *q, struct queue_place place,
                            const struct emmap_disk_record *header) {
    const uint64_t epoch = load64(&queue_slot(q, place.slot)->segment.epoch);
    return (header->flags & ~(uint32_t)QUEUE_RECORD_DEFLATED) == 0 &&
           header->len_bytes <= EMMAP_QUEUE_MOST_BYTES &&
           PM_MUST(header->crc == queue_record_crc(q, epoch, place.pos, header));
}

/* Header or data lie in two segments. */
static int record_in_pieces(struct emmap_queue *q, bool wait, struct queue_record *out) {
    out->end = out->at;
    int rc = queue_read(q, wait, &out->end, &out->header, sizeof out->header);
    if (rc) return rc;
    if (!header_is_valid(q, out->at, &out->header)) return EMMAP_E_CORRUPT;
    /* The state's 8 bytes lie in one segment: its bytes are a multiple of 8, as places are. */
    struct queue_place state = out->at;
    rc = queue_skip(q, &state, offsetof(struct emmap_disk_record, state));
    struct piece piece;
    if (rc == 0) rc = next_piece(q, true, &state, sizeof out->header.state, &piece);
    if (rc) return rc;
    out->state = (emmap_disk_word *)(void *)(q->base + piece.off);
    return queue_skip(q, &out->end,
                      queue_record_bytes(out->header.len_bytes) - QUEUE_RECORD_HEADER);
}

int queue_record_at(struct emmap_queue *q, bool wait, struct queue_place place,
                    struct queue_record *out) {
    int rc = queue_hop(q, &place);
    if (rc) return rc;
    out->at = place;
    uint8_t *at = queue_span(q, wait, place, QUEUE_RECORD_HEADER, &rc);
    if (rc) return rc;
    if (!at) return record_in_pieces(q, wait, out);
    pm_read(&out->header, at, sizeof out->header);
    if (!queue_is_whole(q, at, sizeof out->header)) return -EIO;
    if (!header_is_valid(q, place, &out->header)) return EMMAP_E_CORRUPT;
    const uint64_t len = queue_record_bytes(out->header.len_bytes);
    if (!queue_span(q, true, place, len, &rc)) return rc ? rc : record_in_pieces(q, wait, out);
    out->state = (emmap_disk_word *)(void *)(at + offsetof(struct emmap_disk_record, state));
    out->end = (struct queue_place){.pos = place.pos + len, .slot = place.slot};
    return 0;
}

int queue_resync(struct emmap_queue *q, struct queue_place *place, struct queue_place end) {
    struct queue_record record;
    for (;;) {
        uint64_t off, stop;
        int rc = queue_hop(q, place);
        if (rc == 0) rc = queue_place_off(q, *place, &off, &stop);
        if (rc) return rc;
        place->pos += 8;
        if (place->pos >= end.pos) {
            *place = end;
            return 0;
        }
        if (off + 8 == stop) {
            rc = queue_hop(q, place);
            if (rc) return rc;
        }
        rc = queue_record_at(q, true, *place, &record);
        if (rc == 0 && record.end.pos <= end.pos) return 0;
        if (rc && rc != EMMAP_E_CORRUPT) return rc;
    }
}

int queue_data(struct emmap_queue *q, bool wait, const struct queue_record *record, void *buf) {
    const uint64_t len = record->header.len_bytes;
    int rc;
    const uint8_t *at = queue_span(q, wait, record->at, QUEUE_RECORD_HEADER + len, &rc);
    if (rc) return rc;
    if (at) {
        pm_read(buf, at + QUEUE_RECORD_HEADER, len);
        return queue_is_whole(q, at, QUEUE_RECORD_HEADER + len) ? 0 : -EIO;
    }
    struct queue_place place = record->at;
    rc = queue_skip(q, &place, QUEUE_RECORD_HEADER);
    return rc ? rc : queue_read(q, wait, &place, buf, len);
}
