/* queue_recover.c -- a new queue, and what a power cut left of one (docs/format/queue.md). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/crc32c.h"
#include "os/os.h"
#include "store/queue.h"

/* The lock stays, and max_bytes, which nothing else tells. */
static void clear_live(struct emmap_queue *q) {
    struct emmap_disk_live *live = queue_live(q);
    const size_t from = offsetof(struct emmap_disk_live, tail);
    const size_t most = offsetof(struct emmap_disk_live, max_bytes);
    pm_zero(q->base + QUEUE_LIVE_OFF + from, most - from);
    pm_zero(&live->wake, QUEUE_PAGE - offsetof(struct emmap_disk_live, wake));
}

static void write_first_segment(struct emmap_queue *q, uint64_t slot, uint64_t number,
                                uint64_t epoch, uint64_t n) {
    const uint64_t start = number * q->cap_bytes;
    pm_put64(&queue_slot(q, slot)->next, 0);
    queue_write_segment(
        q, slot,
        (struct emmap_disk_segment){
            .number = number, .epoch = epoch, .first_pos = start, .first_n = n, .prev_end = start});
}

static void add_to_list(emmap_disk_word *list, struct emmap_queue *q, uint64_t slot) {
    pm_put64(&queue_slot(q, slot)->free_next, queue_get(list));
    pm_put64(list, slot);
}

/* Where everything is, in a live page that says nothing yet. */
static void set_positions(struct emmap_queue *q, struct queue_place head, uint64_t head_n,
                          struct queue_place tail, uint64_t tail_n) {
    struct emmap_disk_live *live = queue_live(q);
    pm_put64(&live->tail, tail.pos);
    pm_put64(&live->tail_n, tail_n);
    pm_put64(&live->tail_slot, tail.slot);
    pm_put64(&live->cursor, head.pos);
    pm_put64(&live->cursor_n, head_n);
    pm_put64(&live->cursor_slot, head.slot);
    pm_put64(&live->head, head.pos);
    pm_put64(&live->head_n, head_n);
    pm_put64(&live->head_slot, head.slot);
    pm_put64(&live->first_slot, head.slot);
    pm_put64(&live->last_slot, tail.slot);
}

/* The first slot is the first segment, the others are warm. */
int queue_format(struct emmap_queue *q, uint64_t max_bytes, uint64_t slots) {
    struct emmap_disk_live *live = queue_live(q);
    const struct queue_place start = {.pos = q->cap_bytes, .slot = 1};
    clear_live(q);
    write_first_segment(q, 1, 1, 1, 1);
    set_positions(q, start, 1, start, 1);
    pm_put64(&live->slots, slots);
    pm_put64(&live->epoch, 1);
    pm_put64(&live->next_number, 2);
    pm_put64(&live->max_bytes, max_bytes);
    for (uint64_t slot = slots; slot > 1; slot--)
        add_to_list(&live->warm_slot, q, slot);
    pm_put64(&live->warm_n, slots - 1);
    pm_put64(&live->cp_durable, queue_checkpoint(q));
    return 0;
}

/* ------------------------------------------------------------------------------------ recovery */

/* A segment, and where the stream leaves it. */
struct found {
    uint64_t number, epoch, slot, first_pos, first_n, prev_end;
    uint64_t start, end;
    bool goes_on;   /* the next one in the chain begins where this one ends */
    bool went_over; /* it does not: an earlier recovery has found those between missing */
};

struct recovery {
    struct emmap_queue *q;
    struct emmap_disk_checkpoint from;
    struct found *chain;
    uint64_t n, slots;        /* segments in the chain; slots of the file */
    bool *has_segment, *kept; /* by slot */
    struct found **in_slot;   /* the same: those of the chain */
    uint64_t highest, highest_epoch;
    uint64_t covered; /* up to here all had been on the disk */
    bool damaged;     /* a slot has what is neither a segment nor nothing */
    enum queue_past past;
    struct start {
        uint64_t pos, n;
    } start[3]; /* where the live page says that the queue begins */
    unsigned starts;

    struct queue_place at;    /* the walk */
    uint64_t next_n;          /* the ordinal expected there */
    struct queue_place first; /* the first message that stays */
    uint64_t first_n;
    uint64_t gap_n, gap_bytes; /* from first on */
    struct {
        struct queue_place at;
        uint64_t n, gap_n, gap_bytes;
    } end; /* of the last record: the same up to there */
    uint64_t messages, lost;
    uint64_t mended; /* where damage has become a gap: once */
    uint8_t *buf;
};

/* Without a power cut all is there up to the live page's tail. */
static void vouch_for_tail(struct recovery *r) {
    const struct emmap_disk_live *live = queue_live(r->q);
    const uint64_t tail = queue_get(&live->tail), tail_n = queue_get(&live->tail_n);
    if (r->past == QUEUE_REBOOTED || tail % 8 != 0 || tail < r->from.tail) return;
    r->from.tail = tail;
    if (tail_n > r->from.tail_n) r->from.tail_n = tail_n;
}

/* The newer of two checkpoints may have come with what a power cut has left of it. */
static uint64_t oldest_tail(const struct emmap_queue *q) {
    uint64_t oldest = UINT64_MAX;
    for (uint64_t i = 0; i < 2; i++) {
        struct emmap_disk_checkpoint c;
        pm_read(&c, queue_checkpoint_at(q, i), sizeof c);
        if (queue_checkpoint_is_valid(q, &c) && c.tail < oldest) oldest = c.tail;
    }
    return oldest;
}

static int choose_checkpoint(struct recovery *r) {
    if (!queue_newest_checkpoint(r->q, &r->from)) return EMMAP_E_CORRUPT;
    r->highest = r->from.next_number > 0 ? r->from.next_number - 1 : 0;
    r->highest_epoch = r->from.epoch;
    vouch_for_tail(r);
    r->covered = oldest_tail(r->q);
    return 0;
}

/* As a file begins, as a slot is given back. */
static bool is_nothing(const struct emmap_disk_segment *segment) {
    const struct emmap_disk_segment nothing = {0};
    struct emmap_disk_segment there;
    pm_read(&there, segment, sizeof there);
    return memcmp(&there, &nothing, sizeof there) == 0;
}

static int by_number(const void *a, const void *b) {
    const struct found *x = a, *y = b;
    if (x->number != y->number) return x->number < y->number ? -1 : 1;
    return x->epoch > y->epoch ? -1 : x->epoch < y->epoch;
}

static void give_up(struct emmap_queue *q, uint64_t slot) {
    struct emmap_disk_segment *second = queue_second_header(q, slot);
    if (!is_nothing(second)) pm_zero(second, sizeof *second);
    pm_zero(&queue_slot(q, slot)->segment, sizeof *second);
}

/* Where a segment goes on behind the seal of an earlier one, those in between, of an older epoch, were
 * given up by the recovery that sealed it. */
static void drop_sealed_off(struct recovery *r) {
    uint64_t kept = 0;
    for (uint64_t i = 0; i < r->n; i++) {
        const struct found here = r->chain[i];
        while (kept > 0 && r->chain[kept - 1].epoch < here.epoch &&
               here.prev_end <= r->chain[kept - 1].start)
            kept--;
        r->chain[kept++] = here;
    }
    r->n = kept;
}

/* Where the segments before are missing, one in which no record starts has only a part of a message
 * that is lost: whoever came to its end would take what follows, of the same message, for a record. */
static void drop_parts_of_lost(struct recovery *r) {
    const uint64_t cap = r->q->cap_bytes;
    uint64_t kept = 0;
    for (uint64_t i = 0; i < r->n; i++) {
        const struct found here = r->chain[i], *before = kept > 0 ? &r->chain[kept - 1] : NULL;
        const bool missing =
            before && (here.prev_end <= before->start || here.prev_end > before->start + cap);
        if (!missing || here.first_pos < here.start + cap) r->chain[kept++] = here;
    }
    r->n = kept;
}

/* All segments that there may be, in their order; of two with one number the later written. */
static void find_segments(struct recovery *r) {
    struct emmap_queue *q = r->q;
    uint64_t n = 0;
    for (uint64_t slot = 1; slot <= r->slots; slot++) {
        struct emmap_disk_segment s;
        if (!queue_segment_in(q, slot, &s)) {
            r->damaged = r->damaged || !is_nothing(&queue_slot(q, slot)->segment) ||
                         !is_nothing(queue_second_header(q, slot));
            continue;
        }
        r->has_segment[slot] = true;
        if (s.number > r->highest) r->highest = s.number;
        if (s.epoch > r->highest_epoch) r->highest_epoch = s.epoch;
        if (s.number < r->from.head / q->cap_bytes) continue;
        if (s.first_pos < s.number * q->cap_bytes || s.first_pos > (s.number + 1) * q->cap_bytes)
            continue;
        r->chain[n++] = (struct found){.number = s.number,
                                       .epoch = s.epoch,
                                       .slot = slot,
                                       .first_pos = s.first_pos,
                                       .first_n = s.first_n,
                                       .prev_end = s.prev_end,
                                       .start = s.number * q->cap_bytes};
        (void)queue_segment_mended(q, slot);
    }
    qsort(r->chain, n, sizeof *r->chain, by_number);
    for (uint64_t i = 0; i < n; i++)
        if (r->n == 0 || r->chain[r->n - 1].number != r->chain[i].number)
            r->chain[r->n++] = r->chain[i];
    drop_sealed_off(r);
    drop_parts_of_lost(r);
    for (uint64_t i = 0; i < r->n; i++)
        r->in_slot[r->chain[i].slot] = &r->chain[i];
    for (uint64_t slot = 1; slot <= r->slots; slot++) /* nothing leads there any more */
        if (r->has_segment[slot] && !r->in_slot[slot]) give_up(q, slot);
}

/* Links and ends are made anew, from what the next segment's header says of the one before. Where
 * that one is missing, a recovery before this one may have sealed the segment: it has written so,
 * and has raised the epoch. */
static void link_chain(struct recovery *r) {
    for (uint64_t i = 0; i < r->n; i++) {
        struct found *here = &r->chain[i], *next = i + 1 < r->n ? here + 1 : NULL;
        struct emmap_disk_slot *slot = queue_slot(r->q, here->slot);
        const uint64_t most = here->start + r->q->cap_bytes, seal = queue_get(&slot->end);
        here->goes_on = next && next->prev_end > here->start && next->prev_end <= most;
        here->went_over = next && !here->goes_on && here->epoch < r->highest_epoch &&
                          queue_get(&slot->next) == next->slot;
        here->end = most;
        if (here->goes_on)
            here->end = next->prev_end;
        else if (seal > 0 && seal < r->q->cap_bytes && here->epoch < r->highest_epoch)
            here->end = here->start + seal;
        pm_put64(&slot->next, next ? next->slot : 0);
        pm_put64(&slot->end, here->end < most ? here->end - here->start : 0);
    }
}

static struct found *segment_of(const struct recovery *r, uint64_t slot) {
    return slot <= r->slots ? r->in_slot[slot] : NULL;
}

/* Goes on at the first record that starts in this segment: what was between is consumed, or lost. */
static void begin_at(struct recovery *r, const struct found *segment) {
    r->at = (struct queue_place){.pos = segment->first_pos, .slot = segment->slot};
    if (segment->first_n <= r->next_n) return;
    r->gap_n += segment->first_n - r->next_n;
    r->next_n = segment->first_n;
}

/* The live page's head is believed where the record lies that it tells of, or the walk comes to its
 * place with its ordinal: what is before it was taken. Where no power was cut, what the page says
 * twice makes up for one damaged word. */
static void find_starts(struct recovery *r) {
    const struct emmap_disk_live *live = queue_live(r->q);
    const struct start head = {queue_get(&live->head), queue_get(&live->head_n)};
    const struct start cursor = {queue_get(&live->cursor), queue_get(&live->cursor_n)};
    const uint64_t window_n = queue_get(&live->window_n);
    r->start[r->starts++] = head;
    if (r->past == QUEUE_REBOOTED) return;
    r->start[r->starts++] = (struct start){head.pos, cursor.n - window_n};
    if (window_n == 0 && (head.pos == cursor.pos || head.n == cursor.n))
        r->start[r->starts++] = cursor;
}

static bool begin_at_start(struct recovery *r, const struct start *start) {
    for (uint64_t i = 0; i < r->n; i++) {
        const struct found *s = &r->chain[i];
        if (start->pos < s->start || start->pos >= s->end) continue;
        const struct queue_place at = {.pos = start->pos, .slot = s->slot};
        struct queue_record record;
        if (queue_record_at(r->q, true, at, &record) || !PM_MUST(record.header.ordinal == start->n))
            return false;
        r->at = at;
        r->next_n = start->n;
        return true;
    }
    return false;
}

static void begin(struct recovery *r) {
    r->next_n = r->from.head_n;
    if (r->n == 0) return;
    bool begun = false;
    for (unsigned i = 0; i < r->starts && !begun; i++)
        begun = r->start[i].pos >= r->from.head && begin_at_start(r, &r->start[i]);
    if (!begun) {
        const struct found *s = &r->chain[0];
        if (r->from.head >= s->start && r->from.head <= s->end)
            r->at = (struct queue_place){.pos = r->from.head, .slot = s->slot};
        else
            begin_at(r, s);
    }
    r->first = r->at;
    r->first_n = r->next_n;
}

/* What comes next in the stream had been on the disk and has left no trace: it was taken and given
 * back, as all before it was taken. What an earlier recovery has not found says nothing. */
static bool is_consumed_behind(const struct recovery *r, const struct found *here) {
    if (r->damaged || here->goes_on || here->went_over || here + 1 == r->chain + r->n) return false;
    return here[1].prev_end > here->start + r->q->cap_bytes && here[1].prev_end <= r->covered;
}

/* From the end of a segment to the next one. */
static bool go_on_once(struct recovery *r, const struct found *here) {
    if (here + 1 == r->chain + r->n) return false;
    const uint64_t was = r->at.pos;
    if (here->goes_on) {
        const bool sealed = here[1].prev_end != here[1].start;
        r->at = (struct queue_place){.pos = sealed ? here[1].first_pos : here[1].start,
                                     .slot = here[1].slot};
    } else {
        if (r->at.pos >= r->from.tail) return false;
        const uint64_t expected = r->next_n;
        begin_at(r, here + 1);
        if (!is_consumed_behind(r, here)) r->lost += r->next_n - expected;
    }
    r->gap_bytes += r->at.pos - was;
    return true;
}

/* At the end of a segment: on to where the next record starts, if need be over several, in which none
 * does. false: the queue ends here. */
static bool go_on(struct recovery *r) {
    for (;;) {
        const struct found *here = segment_of(r, r->at.slot);
        if (!here) return false;
        if (r->at.pos < here->end) return true;
        if (!go_on_once(r, here)) return false;
    }
}

static bool data_is_whole(struct recovery *r, const struct queue_record *record) {
    struct queue_place at = record->at;
    uint64_t left = record->header.len_bytes;
    uint32_t crc = 0;
    if (queue_skip(r->q, &at, QUEUE_RECORD_HEADER)) return false;
    while (left > 0) {
        const uint64_t n = left < QUEUE_SMALL_BYTES ? left : QUEUE_SMALL_BYTES;
        if (queue_read(r->q, true, &at, r->buf, n)) return false;
        crc = crc32c(crc, r->buf, n);
        left -= n;
    }
    return PM_MUST(crc == record->header.data_crc);
}

static void believe_head(struct recovery *r) {
    bool starts = false;
    for (unsigned i = 0; i < r->starts; i++)
        starts = starts || (r->at.pos == r->start[i].pos && r->next_n == r->start[i].n);
    if (!starts) return;
    r->first = r->at;
    r->first_n = r->next_n;
    r->gap_n = r->gap_bytes = r->messages = 0;
}

/* Of what no sync had covered the trailer may be missing; who looks backwards goes by it. */
static void mend_trailer(struct recovery *r, const struct queue_record *record) {
    const uint32_t len = record->header.len_bytes;
    const struct emmap_disk_trailer trailer = {.len_bytes = len, .inverse = ~len};
    struct emmap_disk_trailer found;
    struct queue_place at = record->at;
    if (queue_skip(r->q, &at, queue_record_bytes(len) - sizeof trailer)) return;
    struct queue_place end = at;
    if (queue_read(r->q, true, &at, &found, sizeof found)) return;
    if (memcmp(&found, &trailer, sizeof trailer) != 0)
        (void)queue_write(r->q, true, &end, &trailer, sizeof trailer);
}

/* A good record, or one that is no message. The queue begins with the first message. */
static void pass(struct recovery *r, const struct queue_record *record, bool gap) {
    if (record->header.ordinal > r->next_n) {
        r->lost += record->header.ordinal - r->next_n;
        r->gap_n += record->header.ordinal - r->next_n;
    }
    if (!gap && r->messages == 0) {
        r->first = record->at;
        r->first_n = record->header.ordinal;
        r->gap_n = r->gap_bytes = 0;
    }
    mend_trailer(r, record);
    if (gap) {
        r->gap_n++;
        r->gap_bytes += record->end.pos - record->at.pos;
    } else {
        r->messages++;
    }
    r->at = record->end;
    r->next_n = record->header.ordinal + 1;
    r->end.at = r->at;
    r->end.n = r->next_n;
    r->end.gap_n = r->gap_n;
    r->end.gap_bytes = r->gap_bytes;
}

/* A bad record, before the checkpoint's tail: it becomes one that is VOID, up to the next good one.
 * false: the queue ends here. */
static bool pass_bad(struct recovery *r) {
    const struct queue_place tail = {.pos = r->from.tail};
    struct queue_damage damage;
    struct found *here = segment_of(r, r->at.slot);
    if (here && is_consumed_behind(r, here)) { /* the rest of it went with what is behind it */
        here->end = r->at.pos;
        pm_put64(&queue_slot(r->q, here->slot)->end, here->end - here->start);
        return true;
    }
    if (r->mended == r->at.pos) return false;
    r->mended = r->at.pos;
    const int rc = queue_mend(r->q, r->at, r->next_n, tail, r->from.tail_n, &damage);
    if (rc && rc != EMMAP_E_CORRUPT) return false;
    if (rc) { /* what comes next is missing, too */
        here = segment_of(r, damage.to.slot);
        if (!here || here + 1 == r->chain + r->n) return false;
    }
    if (damage.is_void) {
        r->lost++; /* the others are found missing when it is passed */
        return true;
    }
    /* Up to a tail that is not one: nothing is missing, and the queue ends before. */
    if (damage.lost == 0 && damage.to.pos >= r->from.tail) return false;
    r->lost += damage.lost;
    r->gap_n += damage.lost;
    r->gap_bytes += damage.to.pos - r->at.pos;
    r->at = damage.to;
    r->next_n = damage.to_n;
    return true;
}

/* Ends where the queue ends. */
static void walk(struct recovery *r) {
    while (r->n > 0) {
        believe_head(r);
        if (!go_on(r)) return;
        believe_head(r);
        struct queue_record record;
        const int rc = queue_record_at(r->q, true, r->at, &record);
        const bool header = rc == 0 && PM_MUST(record.header.ordinal >= r->next_n) &&
                            segment_of(r, record.end.slot) != NULL;
        const enum queue_state_kind kind = header ? queue_kind(queue_get(record.state)) : 0;
        const bool taken = kind == QUEUE_TAKING && r->past != QUEUE_REBOOTED;
        if (header &&
            (kind == QUEUE_FILLING || kind == QUEUE_VOID || kind == QUEUE_DONE || taken)) {
            if (kind == QUEUE_FILLING || taken) pm_put64(record.state, queue_state(QUEUE_VOID, 0));
            pass(r, &record, true);
        } else if (header && data_is_whole(r, &record)) {
            if (queue_get(record.state) != queue_state(QUEUE_READY, 0))
                pm_put64(record.state, queue_state(QUEUE_READY, 0));
            pass(r, &record, false);
        } else if (r->at.pos >= r->from.tail) {
            return;
        } else if (header) { /* its data is damaged, its place is known */
            pm_put64(record.state, queue_state(QUEUE_VOID, 0));
            r->lost++;
            pass(r, &record, true);
        } else if (!pass_bad(r)) {
            return;
        }
    }
}

/* ------------------------------------------------------------------------ writing it down */

/* The segments from the first message to the last record; the others are given up. What the walk has
 * passed behind it is missing, and nothing follows. */
static int keep(struct recovery *r) {
    if (r->messages == 0) return 0;
    r->at = r->end.at;
    r->next_n = r->end.n;
    r->gap_n = r->end.gap_n;
    r->gap_bytes = r->end.gap_bytes;
    const struct found *last = segment_of(r, r->at.slot);
    const struct found *first = segment_of(r, r->first.slot);
    if (!first || !last)
        return EMMAP_E_CORRUPT; /* records led to a slot that is not in the chain */
    for (const struct found *s = first; s <= last; s++) {
        r->kept[s->slot] = true;
        queue_mend_second_header(r->q, s->slot);
    }
    struct emmap_disk_slot *slot = queue_slot(r->q, last->slot);
    const uint64_t used = r->at.pos - last->start;
    pm_put64(&slot->end, used < r->q->cap_bytes ? used : 0);
    pm_put64(&slot->next, 0);
    return 0;
}

/* Without a message the queue goes on in a new segment: in a slot that had one, so has its space. */
static int begin_anew(struct recovery *r) {
    uint64_t slot = 1;
    while (slot <= r->slots && !r->has_segment[slot])
        slot++;
    if (slot > r->slots) slot = 1;
    if (!queue_slot(r->q, slot)) return -ENOMEM;
    const int rc = r->has_segment[slot] ? 0 : queue_allocate(r->q, slot);
    if (rc) return rc;
    if (r->slots < slot) r->slots = slot;
    r->kept[slot] = true;
    r->highest++;
    write_first_segment(r->q, slot, r->highest, PM_RAISED(r->highest_epoch), r->next_n);
    r->at = (struct queue_place){.pos = r->highest * r->q->cap_bytes, .slot = slot};
    r->first = r->at;
    r->first_n = r->next_n;
    r->gap_n = r->gap_bytes = 0;
    return 0;
}

static void give_up_others(struct recovery *r) {
    for (uint64_t slot = 1; slot <= r->slots; slot++)
        if (!r->kept[slot]) give_up(r->q, slot);
}

static void clear_participants(struct emmap_queue *q) {
    for (unsigned i = 0; i < QUEUE_PARTICIPANTS; i++) { /* incarnations only rise */
        pm_put64(&queue_participant(q, i)->preparing, 0);
        pm_put64(&queue_participant(q, i)->punching, 0);
    }
}

static int write_down(struct recovery *r) {
    struct emmap_queue *q = r->q;
    struct emmap_disk_live *live = queue_live(q);
    int rc = keep(r);
    if (rc == 0 && r->messages == 0) rc = begin_anew(r);
    if (rc) return rc;
    give_up_others(r);
    rc = PM_SYNC(queue_sync_file(q)); /* what the checkpoint will say is so */
    if (rc) return rc;

    /* From here on it leads to the same end, whatever becomes of the live page. */
    const uint64_t serial = r->from.serial + 1;
    queue_write_checkpoint(q, (struct emmap_disk_checkpoint){
                                  .serial = serial,
                                  .epoch = PM_RAISED(r->highest_epoch),
                                  .head = r->first.pos,
                                  .head_n = r->first_n,
                                  .tail = r->at.pos,
                                  .tail_n = r->next_n,
                                  .slots = r->slots,
                                  .next_number = r->highest + 1,
                              });
    clear_live(q);
    clear_participants(q);
    set_positions(q, r->first, r->first_n, r->at, r->next_n);
    pm_put64(&live->gap_n, r->gap_n);
    pm_put64(&live->gap_bytes, r->gap_bytes);
    pm_put64(&live->slots, r->slots);
    pm_put64(&live->epoch, PM_RAISED(r->highest_epoch));
    pm_put64(&live->next_number, r->highest + 1);
    pm_put64(&live->lost_n, r->lost);
    const bool fixed = (q->flags & QUEUE_FLAG_FIXED) != 0;
    for (uint64_t slot = r->slots; slot > 0; slot--) {
        if (r->kept[slot]) continue;
        add_to_list(fixed ? &live->warm_slot : &live->cold_slot, q, slot);
        if (fixed) pm_put64(&live->warm_n, queue_get(&live->warm_n) + 1);
    }
    pm_put64(&live->cp_serial, serial);
    rc = PM_SYNC(queue_sync_file(q));
    if (rc == 0) pm_put64(&live->cp_durable, serial);
    return rc;
}

static int recover(struct recovery *r) {
    r->buf = malloc(QUEUE_SMALL_BYTES);
    r->chain = calloc(r->slots + 1, sizeof *r->chain);
    r->has_segment = calloc(r->slots + 2, sizeof *r->has_segment);
    r->kept = calloc(r->slots + 2, sizeof *r->kept);
    r->in_slot = calloc(r->slots + 2, sizeof *r->in_slot);
    if (!r->buf || !r->chain || !r->has_segment || !r->kept || !r->in_slot) return -ENOMEM;
    pm_put64(&queue_live(r->q)->slots, r->slots);
    find_segments(r);
    link_chain(r);
    begin(r);
    walk(r);
    const int rc = write_down(r);
    if (rc) return rc;
    atomic_store(&r->q->recovered, r->messages);
    atomic_store(&r->q->lost, r->lost);
    return 0;
}

int queue_recover(struct emmap_queue *q, enum queue_past past) {
    struct recovery r = {.q = q, .past = past};
    const uint64_t size = queue_file_bytes(q);
    r.slots = size > QUEUE_DATA_OFF ? (size - QUEUE_DATA_OFF) / q->segment_bytes : 0;
    find_starts(&r);
    if (r.slots > 0 && !queue_slot(q, r.slots)) return -ENOMEM;
    int rc = choose_checkpoint(&r);
    if (rc == 0) rc = recover(&r);
    free(r.buf);
    free(r.chain);
    free(r.has_segment);
    free(r.kept);
    free(r.in_slot);
    return rc;
}
