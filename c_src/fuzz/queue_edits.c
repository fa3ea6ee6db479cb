/* queue_edits.c -- see queue_edits.h. */
#include "fuzz/queue_edits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/crc32c.h"

enum { MOST_RECORDS = 64, EDIT_BYTES = 12, MOST_EDITS = 64, SECTOR = 512 };

/* A record's header, which may lie in two segments. */
struct known {
    uint64_t pos, slot, first_bytes, off, other_off, trailer_off, state_off;
};

struct base {
    struct image image, older; /* as it is, and as it was before */
    struct ledger ledger;
    struct known record[MOST_RECORDS];
    unsigned records;
    uint64_t slots;
};

_Noreturn void fuzz_failed(const char *file, int line, const char *what) {
    fprintf(stderr, "%s:%d: not so: %s\n", file, line, what);
    abort();
}

/* ----------------------------------------------------------------------------------- the bases */

static struct emmap_queue *desk_of_new(bool fixed) {
    struct emmap_queue *q = image_desk(EDITS_ROOM);
    const struct emmap_queue_options options = {.flags = fixed ? EMMAP_QUEUE_FIXED_SIZE : 0,
                                                .size_bytes = fixed ? 400000 : 1};
    struct emmap_disk_queue header;
    image_make(q, &options);
    const uint64_t slots = queue_get(&queue_live(q)->slots);
    const uint64_t most = queue_get(&queue_live(q)->max_bytes);
    memcpy(&header, q->base, sizeof header);
    header.salt = 0x5a17;
    header.created_ms = 1;
    memset(header.uuid, 7, sizeof header.uuid);
    header.crc = crc32c(0, &header, offsetof(struct emmap_disk_queue, crc));
    memset(q->base, 0, EDITS_ROOM);
    memcpy(q->base, &header, sizeof header);
    queue_attach(q, &header);
    FUZZ_MUST(queue_format(q, most, slots) == 0);
    pm_set64(&queue_participant(q, 0)->incarnation, 1);
    return q;
}

static void take(struct emmap_queue *q, unsigned n) {
    static uint8_t buf[IMAGE_MESSAGE_BYTES];
    for (unsigned i = 0; i < n; i++) {
        struct queue_message message;
        unsigned one = 1;
        FUZZ_MUST(queue_take(q, true, buf, sizeof buf, &message, &one) == 0);
    }
}

static struct queue_message claim(struct emmap_queue *q) {
    static uint8_t buf[IMAGE_MESSAGE_BYTES];
    struct queue_message message;
    FUZZ_MUST(queue_claim(q, true, buf, sizeof buf, &message) == 0);
    return message;
}

static void sync_now(struct emmap_queue *q) {
    uint64_t covered;
    FUZZ_MUST(queue_sync(q, &covered) == 0);
}

static void be_empty(struct emmap_queue *q, struct ledger *ledger) {
    (void)q, (void)ledger;
}

static void hold_some(struct emmap_queue *q, struct ledger *ledger) {
    static const uint32_t lens[] = {8, 0, 100, 65000, 33, 1000, 70000, 24};
    for (unsigned i = 0; i < sizeof lens / sizeof *lens; i++)
        ledger_push(ledger, q, lens[i]);
    sync_now(q);
    take(q, 1);
    ledger_push(ledger, q, 50);
    ledger_push(ledger, q, 3000);
}

static void have_window(struct emmap_queue *q, struct ledger *ledger) {
    hold_some(q, ledger);
    (void)claim(q);
    const struct queue_message second = claim(q), third = claim(q);
    (void)claim(q);
    FUZZ_MUST(queue_ack(q, true, &second) == 0);
    FUZZ_MUST(queue_return(q, true, &third) == 0);
}

/* Slots come round; some are warm, one is cold. */
static void have_turned(struct emmap_queue *q, struct ledger *ledger) {
    for (unsigned i = 0; i < 9; i++) {
        ledger_push(ledger, q, 30000 + i);
        ledger_push(ledger, q, 20000);
        if (i >= 4) take(q, 2);
        if (i == 6) sync_now(q);
    }
    take(q, 6);
    FUZZ_MUST(queue_give_back(q) == 0);
    ledger_push(ledger, q, 40);
}

static void have_recovered(struct emmap_queue *q, struct ledger *ledger) {
    hold_some(q, ledger);
    struct image image = image_of(q);
    FUZZ_MUST(image_settle(q, &image, QUEUE_REBOOTED) == 0);
    free(image.bytes);
    for (unsigned i = 0; i < 4; i++)
        ledger_push(ledger, q, 20000);
    sync_now(q);
    take(q, 2);
}

/* A large one that is being written, and one that is being copied out. */
static void have_large(struct emmap_queue *q, struct ledger *ledger) {
    struct queue_record record;
    ledger_push(ledger, q, 90000);
    ledger_push(ledger, q, 16);
    ledger_push(ledger, q, 66000);
    const struct queue_message first = claim(q);
    FUZZ_MUST(queue_record_at(q, true, first.at, &record) == 0);
    pm_set64(record.state, queue_state(QUEUE_TAKING, q->owner));
    FUZZ_MUST(queue_record_at(q, true, record.end, &record) == 0);
    FUZZ_MUST(queue_record_at(q, true, record.end, &record) == 0);
    pm_set64(record.state, queue_state(QUEUE_FILLING, q->owner));
    pm_set64(&queue_live(q)->gap_n, 1);
}

static const struct {
    void (*make)(struct emmap_queue *q, struct ledger *ledger);
    bool fixed;
} makers[] = {{be_empty, false},    {hold_some, false},      {have_window, false},
              {have_turned, false}, {have_recovered, false}, {have_large, false},
              {hold_some, true},    {have_turned, true}};
enum { BASES = sizeof makers / sizeof *makers };

static uint64_t off_in_file(struct emmap_queue *q, struct queue_place *at) {
    uint64_t off, stop;
    FUZZ_MUST(queue_hop(q, at) == 0 && queue_place_off(q, *at, &off, &stop) == 0);
    return queue_slot_off(q, at->slot) + QUEUE_SLOT_HEADER + off;
}

static uint64_t off_behind(struct emmap_queue *q, struct queue_place at, uint64_t bytes) {
    FUZZ_MUST(queue_skip(q, &at, bytes) == 0);
    return off_in_file(q, &at);
}

/* From the head on; their times are made the same for each run. */
static void find_records(struct base *base, struct emmap_queue *q) {
    const struct emmap_disk_live *live = queue_live(q);
    struct queue_place at = {queue_get(&live->head), queue_get(&live->head_slot)};
    while (at.pos < queue_get(&live->tail) && base->records < MOST_RECORDS) {
        struct queue_record record;
        FUZZ_MUST(queue_record_at(q, true, at, &record) == 0);
        struct queue_place from = record.at;
        record.header.time_ms = 1;
        record.header.crc =
            queue_record_crc(q, queue_slot(q, from.slot)->segment.epoch, from.pos, &record.header);
        record.header.state = queue_get(record.state);
        FUZZ_MUST(queue_write(q, true, &from, &record.header, sizeof record.header) == 0);
        struct known *known = &base->record[base->records++];
        from = record.at;
        *known = (struct known){.pos = from.pos, .slot = from.slot};
        known->off = off_in_file(q, &from);
        const uint64_t room = q->cap_bytes - from.pos % q->cap_bytes;
        known->first_bytes = room < QUEUE_RECORD_HEADER ? room : QUEUE_RECORD_HEADER;
        known->other_off =
            known->first_bytes < QUEUE_RECORD_HEADER ? off_behind(q, from, known->first_bytes) : 0;
        known->state_off = (uint64_t)((uint8_t *)record.state - q->base);
        const uint64_t len = record.end.pos - record.at.pos;
        known->trailer_off = off_behind(q, from, len - sizeof(struct emmap_disk_trailer));
        at = record.end;
    }
}

static void make_base(struct base *base, unsigned i) {
    struct emmap_queue *q = desk_of_new(makers[i].fixed);
    base->older = image_of(q);
    if (i != 0) {
        ledger_push(&base->ledger, q, 500);
        ledger_push(&base->ledger, q, 60000);
        sync_now(q);
        free(base->older.bytes);
        base->older = image_of(q);
        take(q, 1);
    }
    makers[i].make(q, &base->ledger);
    find_records(base, q);
    for (unsigned k = 0; k < 6; k++) /* of this boot: it is no matter which */
        pm_set64(&queue_live(q)->identity[k], k + 1);
    base->slots = queue_get(&queue_live(q)->slots);
    FUZZ_MUST(base->slots <= EDITS_MOST_SLOTS);
    base->image = image_of(q);
    image_desk_free(q);
}

static const struct base *base_of(unsigned i) {
    static struct base bases[BASES];
    struct base *base = &bases[i % BASES];
    if (!base->image.bytes) make_base(base, i % BASES);
    return base;
}

/* ----------------------------------------------------------------------------------- the edits */

struct edit {
    unsigned op, index;
    uint64_t value;
    bool late;
};

struct canvas {
    const struct base *base;
    uint8_t *bytes;
    uint64_t len_bytes;
};

static uint64_t word_at(const struct canvas *c, uint64_t off) {
    uint64_t word;
    memcpy(&word, c->bytes + off, sizeof word);
    return word;
}

static uint64_t live_word(const struct canvas *c, uint64_t i) {
    return word_at(c, QUEUE_LIVE_OFF + i % (sizeof(struct emmap_disk_live) / 8) * 8);
}

/* A value near the old one is worth more than any. */
static uint64_t value_of(const struct canvas *c, uint64_t old, uint64_t value) {
    static const uint64_t some[] = {0,          1,         2,          8,          65344,
                                    65536,      INT64_MAX, UINT64_MAX, 1ull << 32, 1ull << 48,
                                    1ull << 62, ~7ull,     1ull << 30};
    switch (value >> 60) {
    case 0:
    case 1:
    case 2:
        return value & 0xFFFFFFFF;
    case 3:
    case 4:
    case 5:
        return old + (uint64_t)((int64_t)(int16_t)value * 8);
    case 6:
    case 7:
        return old + (uint64_t)(int64_t)(int8_t)value;
    case 8:
        return old ^ 1ull << (value & 63);
    case 9:
    case 10:
        return live_word(c, value) + (uint64_t)(int64_t)(int8_t)(value >> 8);
    case 11:
        return some[value % (sizeof some / sizeof *some)];
    case 12:
        return value & 0xFF;
    default:
        return value;
    }
}

static void set_word(struct canvas *c, uint64_t off, uint64_t value) {
    const uint64_t word = value_of(c, word_at(c, off), value);
    memcpy(c->bytes + off, &word, sizeof word);
}

static void edit_slot(struct canvas *c, const struct edit *e, bool both) {
    const uint64_t off = QUEUE_DATA_OFF + e->index / 16 % c->base->slots * EDITS_SEGMENT;
    const uint64_t at = e->index % 16 * 8;
    set_word(c, off + at, e->value);
    if (both && at < QUEUE_SLOT_TRAILER)
        memcpy(c->bytes + off + EDITS_SEGMENT - QUEUE_SLOT_TRAILER + at, c->bytes + off + at, 8);
}

static void read_header(const struct canvas *c, const struct known *r, uint8_t *header) {
    memcpy(header, c->bytes + r->off, r->first_bytes);
    memcpy(header + r->first_bytes, c->bytes + r->other_off, QUEUE_RECORD_HEADER - r->first_bytes);
}

static void write_header(struct canvas *c, const struct known *r, const uint8_t *header) {
    memcpy(c->bytes + r->off, header, r->first_bytes);
    memcpy(c->bytes + r->other_off, header + r->first_bytes, QUEUE_RECORD_HEADER - r->first_bytes);
}

static void edit_record(struct canvas *c, const struct edit *e) {
    if (c->base->records == 0) return;
    const struct known *r = &c->base->record[e->index / 8 % c->base->records];
    const unsigned word = e->index % 8;
    if (word == 5) set_word(c, r->trailer_off, e->value);
    if (word >= 6) set_word(c, r->state_off, e->value);
    if (word >= 5) return;
    /* Words of a header whose two parts a word does not lie in. */
    const uint64_t at = word * 8ull;
    set_word(c, at < r->first_bytes ? r->off + at : r->other_off + at - r->first_bytes, e->value);
}

static void edit_state(struct canvas *c, const struct edit *e) {
    static const uint8_t kinds[] = {
        QUEUE_READY, QUEUE_FILLING, QUEUE_LEASED, QUEUE_TAKING, QUEUE_DONE, QUEUE_VOID, 0, 15};
    if (c->base->records == 0) return;
    const struct known *r = &c->base->record[e->index % c->base->records];
    const uint64_t state = (word_at(c, r->state_off) & ~15ull) | kinds[e->value % 8] |
                           (e->value & 0xFFFF00000000) | (e->value >> 8 & 3) << 16;
    memcpy(c->bytes + r->state_off, &state, sizeof state);
}

static void edit_redo(struct canvas *c, const struct edit *e) {
    const uint64_t redo = QUEUE_LIVE_OFF + offsetof(struct emmap_disk_live, redo);
    const uint64_t n = QUEUE_LIVE_OFF + offsetof(struct emmap_disk_live, redo_n);
    const uint64_t i = e->index % QUEUE_REDO_PAIRS, count = word_at(c, n);
    uint64_t off = QUEUE_LIVE_OFF + (8 + e->index / 16 % 40) * 8;
    if (e->index & 0x8000) off = e->value >> 32 & 0x1FFFFF;
    memcpy(c->bytes + redo + i * 16, &off, sizeof off);
    memcpy(c->bytes + redo + i * 16 + 8, c->bytes + (off + 8 <= c->len_bytes ? off & ~7ull : 0), 8);
    set_word(c, redo + i * 16 + 8, e->value);
    const uint64_t most = count > i && count <= QUEUE_REDO_PAIRS ? count : i + 1;
    memcpy(c->bytes + n, &most, sizeof most);
}

static void edit_length(struct canvas *c, const struct edit *e) {
    static const int away[] = {0, -8, 8, -1, 1, 96, 4096, -4096};
    const uint64_t from = e->index % 4 == 0 ? 0 : QUEUE_DATA_OFF;
    const uint64_t step = e->index % 4 == 0 ? 4096 : EDITS_SEGMENT;
    const uint64_t len = from + e->index / 32 % 33 * step + (uint64_t)away[e->index / 4 % 8];
    const uint64_t most = QUEUE_DATA_OFF + EDITS_MOST_SLOTS * (uint64_t)EDITS_SEGMENT;
    c->len_bytes = len > most ? c->base->image.len_bytes : len;
    memset(c->bytes + c->len_bytes, 0, EDITS_ROOM - c->len_bytes);
}

static void copy_slot(struct canvas *c, const struct edit *e) {
    const uint64_t from = e->index % c->base->slots, to = e->index / 16 % c->base->slots;
    memmove(c->bytes + QUEUE_DATA_OFF + to * EDITS_SEGMENT,
            c->bytes + QUEUE_DATA_OFF + from * EDITS_SEGMENT, EDITS_SEGMENT);
}

static void copy_older(struct canvas *c, const struct edit *e) {
    const struct image *older = &c->base->older;
    const uint64_t off = e->value % (older->len_bytes / SECTOR) * SECTOR;
    memcpy(c->bytes + off, older->bytes + off, SECTOR);
}

/* What reaches past the file's end is cut off afterwards. */
static void apply(struct canvas *c, const struct edit *e) {
    const uint64_t len = c->base->image.len_bytes;
    switch (e->op % 16) {
    case 0:
    case 1:
        set_word(c, QUEUE_LIVE_OFF + e->index % 97 * 8, e->value);
        break;
    case 2:
        set_word(c, QUEUE_CHECKPOINT_OFF + e->index % 2 * QUEUE_PAGE + e->index / 2 % 10 * 8,
                 e->value);
        break;
    case 3:
        edit_slot(c, e, true);
        break;
    case 4:
        edit_slot(c, e, false);
        break;
    case 5:
        edit_record(c, e);
        break;
    case 6:
        edit_state(c, e);
        break;
    case 7:
        edit_redo(c, e);
        break;
    case 8:
        c->bytes[e->value % len] ^= (uint8_t)(e->index ? e->index : 1);
        break;
    case 9:
        set_word(c, (e->value & 0xFFFFFFFF) % (len - 8) & ~7ull, (uint64_t)e->index << 52);
        break;
    case 10:
        copy_older(c, e);
        break;
    case 11:
        copy_slot(c, e);
        break;
    case 12:
        edit_length(c, e);
        break;
    case 13:
        set_word(c, QUEUE_PARTICIPANTS_OFF + e->index % 64 * 8, e->value);
        break;
    case 14:
        set_word(c, e->index % 12 * 8, e->value);
        break;
    default:
        set_word(c, QUEUE_LIVE_OFF + (8 + e->index % 40) * 8, e->value);
        break;
    }
}

/* -------------------------------------------------------------------------------- checksums */

static void repair_segment(struct canvas *c, struct emmap_queue *q, uint64_t off) {
    struct emmap_disk_segment segment;
    memcpy(&segment, c->bytes + off, sizeof segment);
    if (segment.magic != EMMAP_DISK_SEGMENT_MAGIC) return;
    segment.crc = queue_segment_crc(q, &segment);
    memcpy(c->bytes + off, &segment, sizeof segment);
}

static void repair_record(struct canvas *c, struct emmap_queue *q, const struct known *r) {
    struct emmap_disk_record header;
    struct emmap_disk_segment segment;
    uint8_t bytes[QUEUE_RECORD_HEADER];
    read_header(c, r, bytes);
    memcpy(&header, bytes, sizeof header);
    memcpy(&segment, c->bytes + queue_slot_off(q, r->slot), sizeof segment);
    header.crc = queue_record_crc(q, segment.epoch, r->pos, &header);
    memcpy(bytes, &header, sizeof header);
    write_header(c, r, bytes);
}

static void repair(struct canvas *c) {
    struct emmap_disk_queue header;
    memcpy(&header, c->bytes, sizeof header);
    header.crc = crc32c(0, &header, offsetof(struct emmap_disk_queue, crc));
    memcpy(c->bytes, &header, sizeof header);
    struct emmap_queue q = {.salt = header.salt, .segment_bytes = EDITS_SEGMENT};
    q.cap_bytes = EDITS_SEGMENT - QUEUE_SLOT_HEADER - QUEUE_SLOT_TRAILER;
    for (unsigned i = 0; i < 2; i++) {
        struct emmap_disk_checkpoint checkpoint;
        uint8_t *at = c->bytes + QUEUE_CHECKPOINT_OFF + i * QUEUE_PAGE;
        memcpy(&checkpoint, at, sizeof checkpoint);
        checkpoint.crc = crc32c(crc32c(0, &header.salt, sizeof header.salt), &checkpoint,
                                offsetof(struct emmap_disk_checkpoint, crc));
        memcpy(at, &checkpoint, sizeof checkpoint);
    }
    for (uint64_t slot = 1; slot <= c->base->slots; slot++) {
        repair_segment(c, &q, queue_slot_off(&q, slot));
        repair_segment(c, &q, queue_slot_off(&q, slot + 1) - QUEUE_SLOT_TRAILER);
    }
    for (unsigned i = 0; i < c->base->records; i++)
        repair_record(c, &q, &c->base->record[i]);
}

struct edited edits_make(const uint8_t *data, size_t len_bytes) {
    static uint8_t bytes[EDITS_ROOM];
    uint8_t head[4] = {0};
    memcpy(head, data, len_bytes < sizeof head ? len_bytes : sizeof head);
    struct canvas c = {.base = base_of(head[0]), .bytes = bytes};
    c.len_bytes = c.base->image.len_bytes;
    memcpy(bytes, c.base->image.bytes, c.len_bytes);
    memset(bytes + c.len_bytes, 0, EDITS_ROOM - c.len_bytes);
    const bool repaired = (head[3] & 1) != 0;
    bool is_forged = repaired;
    for (unsigned late = 0; late < 2; late++) {
        size_t at = sizeof head;
        for (unsigned i = 0; i < MOST_EDITS && at + EDIT_BYTES <= len_bytes; i++) {
            struct edit e = {.op = data[at], .late = (data[at + 1] & 1) != 0};
            e.index = data[at + 2] | (unsigned)data[at + 3] << 8;
            memcpy(&e.value, data + at + 4, sizeof e.value);
            at += EDIT_BYTES;
            if (e.late == (late == 1)) apply(&c, &e);
            is_forged = is_forged || e.op % 16 == 11;
        }
        if (late == 0 && repaired) repair(&c);
    }
    memset(bytes + c.len_bytes, 0, EDITS_ROOM - c.len_bytes);
    return (struct edited){.image = {.bytes = bytes, .len_bytes = c.len_bytes},
                           .ledger = &c.base->ledger,
                           .past = (enum queue_past)(head[1] % 3),
                           .plan = head[2] * 2654435761u + 1,
                           .is_forged = is_forged};
}
