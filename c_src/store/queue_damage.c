/* queue_damage.c -- where a record should start and none does.
 *
 * The stretch up to the next good record becomes one record that is VOID: it counts as what it is,
 * and whoever comes there again, in either direction, need not search. */
#include "store/queue.h"

/* The next place at which a record starts whose ordinal is not below n; or limit; or where the
 * segment ends and the next one begins elsewhere in the stream. */
static int search(struct emmap_queue *q, struct queue_place from, uint64_t n,
                  struct queue_place limit, uint64_t limit_n, struct queue_damage *out) {
    struct queue_record record;
    out->to_n = n + 1;
    for (out->to = from;;) {
        uint64_t off, stop;
        out->to.pos += 8;
        if (out->to.pos >= limit.pos) {
            out->to_n = limit_n;
            return 0;
        }
        int rc = queue_place_off(q, out->to, &off, &stop);
        if (rc) return rc;
        struct queue_place next = out->to;
        if (off == stop && (rc = queue_hop(q, &next)) != 0) return rc;
        rc = queue_record_at(q, true, next, &record);
        if (rc && rc != EMMAP_E_CORRUPT) return rc;
        const bool good =
            rc == 0 && PM_MUST(record.header.ordinal >= n && record.end.pos <= limit.pos);
        if (good) out->to_n = record.header.ordinal;
        if (next.pos != out->to.pos) return 0;
        out->to = next;
        if (good) return 0;
    }
}

static int write_void(struct emmap_queue *q, struct queue_place at, uint64_t n, uint32_t len) {
    const struct emmap_disk_slot *slot = queue_slot(q, at.slot);
    struct emmap_disk_record header = {
        .ordinal = n, .len_bytes = len, .state = queue_state(QUEUE_VOID, 0)};
    header.crc = queue_record_crc(q, slot->segment.epoch, at.pos, &header);
    const struct emmap_disk_trailer trailer = {.len_bytes = len, .inverse = ~len};
    struct queue_place end = at;
    int rc = queue_skip(q, &end, sizeof header + len);
    if (rc == 0) rc = queue_write(q, true, &end, &trailer, sizeof trailer);
    if (rc == 0) rc = queue_write(q, true, &at, &header, sizeof header);
    return rc;
}

int queue_mend(struct emmap_queue *q, struct queue_place from, uint64_t n, struct queue_place limit,
               uint64_t limit_n, struct queue_damage *out) {
    int rc = queue_hop(q, &from);
    if (rc) return rc;
    *out = (struct queue_damage){.to = limit, .to_n = limit_n};
    if (from.pos >= limit.pos) return 0; /* nothing is missing but what lay before a seal */
    rc = search(q, from, n, limit, limit_n, out);
    out->bytes = out->to.pos - from.pos;
    out->lost = out->to_n > n ? out->to_n - n : 0;
    if (rc || out->lost == 0 || out->bytes < QUEUE_RECORD_OVERHEAD || out->bytes % 8 != 0 ||
        out->bytes > EMMAP_QUEUE_MOST_BYTES)
        return rc;
    rc = write_void(q, from, out->to_n - 1, (uint32_t)(out->bytes - QUEUE_RECORD_OVERHEAD));
    out->is_void = rc == 0;
    return rc;
}
