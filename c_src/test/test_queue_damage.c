/* test_queue_damage.c -- a queue's file with a byte changed, cut short, or copied while in use. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test/queue_image.h"

enum { ROOM = QUEUE_DATA_OFF + 6 * QUEUE_LEAST_SEGMENT };

/* A small file of two segments; a message spans the border, and of what was taken before something
 * is left in the first. */
struct small {
    const char *name;
    struct image image;
    struct ledger ledger;
    int16_t *owner;  /* by byte of the file: the message it belongs to, or -1 */
    unsigned synced; /* messages that a checkpoint covers */
    unsigned taken;  /* messages at the start that were taken behind the checkpoint */
};

static struct queue_message claim(struct emmap_queue *q) {
    static uint8_t buf[1024];
    struct queue_message message;
    assert_ok(queue_claim(q, true, buf, sizeof buf, &message));
    return message;
}

static void take(struct small *small, struct emmap_queue *q, unsigned id) {
    static uint8_t buf[IMAGE_MESSAGE_BYTES];
    struct queue_message message;
    unsigned one = 1;
    assert_ok(queue_take(q, true, buf, sizeof buf, &message, &one));
    assert_int_equal(ledger_find(&small->ledger, buf, message.len_bytes), id);
    small->ledger.fate[id] = GONE;
}

static void checkpoint(struct small *small, struct emmap_queue *q) {
    pm_set64(&queue_live(q)->cp_durable, queue_checkpoint(q));
    small->synced = small->ledger.n;
}

static void own(struct small *small, struct emmap_queue *q, const struct queue_record *record,
                int id) {
    struct queue_place at = record->at;
    for (; at.pos < record->end.pos; at.pos++) {
        uint64_t off, stop;
        assert_ok(queue_hop(q, &at));
        assert_ok(queue_place_off(q, at, &off, &stop));
        small->owner[queue_slot_off(q, at.slot) + QUEUE_SLOT_HEADER + off] = (int16_t)id;
    }
}

static void find_owners(struct small *small, struct emmap_queue *q) {
    struct queue_place at = {.pos = q->cap_bytes, .slot = 1};
    struct queue_record record;
    small->owner = malloc(small->image.len_bytes * sizeof *small->owner);
    assert_non_null(small->owner);
    for (uint64_t i = 0; i < small->image.len_bytes; i++)
        small->owner[i] = -1;
    for (unsigned id = 0; id < small->ledger.n; id++) {
        assert_ok(queue_record_at(q, true, at, &record));
        own(small, q, &record, (int)id);
        at = record.end;
    }
}

enum small_kind { CLOSED, KILLED, WINDOW, KINDS };

static struct small make_small(enum small_kind kind) {
    static const char *const names[] = {"closed", "killed", "with a window"};
    struct small small = {.name = names[kind]};
    struct emmap_queue *q = image_desk(ROOM);
    const struct emmap_queue_options options = {.size_bytes = 1};
    image_make(q, &options);
    ledger_push(&small.ledger, q, 64500);
    take(&small, q, 0);
    for (uint32_t i = 1; i <= 10; i++)
        ledger_push(&small.ledger, q, i == 7 ? 0 : i * 23 % 64 + 8);
    if (kind == WINDOW) { /* claimed, done, come back */
        (void)claim(q);
        const struct queue_message second = claim(q), third = claim(q);
        assert_ok(queue_ack(q, true, &second));
        assert_ok(queue_return(q, true, &third));
        small.ledger.fate[2] = GONE;
        assert_int_equal(queue_get(&queue_live(q)->window_n), 3);
    }
    checkpoint(&small, q);
    if (kind != CLOSED) {
        ledger_push(&small.ledger, q, 50);
        ledger_push(&small.ledger, q, 20);
    }
    for (unsigned id = 1; kind == KILLED && id <= 3; id++)
        take(&small, q, small.taken = id);
    assert_int_equal(queue_get(&queue_live(q)->tail_slot), 2);
    small.image = image_of(q);
    find_owners(&small, q);
    image_desk_free(q);
    return small;
}

static void free_small(struct small *small) {
    free(small->image.bytes);
    free(small->owner);
}

/* ------------------------------------------------------------------------------- a byte changed */

struct flip {
    uint64_t off;
    uint8_t mask;
    enum queue_past past;
};

/* What must become of the messages when that byte is another one. */
static struct ledger expected(const struct small *small, const struct flip *flip) {
    struct ledger ledger = small->ledger;
    const int owner = small->owner[flip->off];
    const bool in_live = flip->off / QUEUE_PAGE == QUEUE_LIVE_OFF / QUEUE_PAGE;
    if (owner >= 0) ledger.fate[owner] = EITHER;
    if (flip->past == QUEUE_REBOOTED) {
        /* Behind the checkpoint the first damage is where it ends. */
        for (unsigned id = small->synced; owner >= (int)small->synced && id < ledger.n; id++)
            if ((int)id >= owner) ledger.fate[id] = EITHER;
        for (unsigned id = 1; in_live && id <= small->taken; id++)
            ledger.fate[id] = EITHER;
    }
    return ledger;
}

static const char *try_flip(struct emmap_queue *desk, const struct small *small,
                            const struct flip *flip) {
    struct ledger ledger = expected(small, flip);
    struct drained drained;
    image_lay(desk, &small->image);
    desk->base[flip->off] ^= flip->mask;
    if (image_settle(desk, &small->image, flip->past)) return "it is refused";
    const char *wrong = drain(desk, &ledger, &drained);
    if (drained.rc == EMMAP_E_CORRUPT) { /* told, once; the next opener keeps the rest */
        if (image_settle(desk, &small->image, QUEUE_BROKEN)) return "it is refused then";
        wrong = drain_on(desk, &ledger, &drained);
    }
    if (!wrong) wrong = agrees(&ledger, &drained);
    if (!wrong) wrong = goes_on(desk, &ledger);
    return wrong;
}

enum meaning { NOTHING, SOMETHING, A_WORD };

/* Of the live page's words each bit is changed, of what else means something one bit and all, of
 * the rest one byte here and there. */
static enum meaning meaning_of(const struct small *small, const struct flip *flip) {
    const uint64_t off = flip->off, in_live = off - QUEUE_LIVE_OFF;
    if (off < sizeof(struct emmap_disk_queue)) return NOTHING; /* see below */
    if (off % 257 == 0) return SOMETHING;
    if (off >= QUEUE_LIVE_OFF && in_live < sizeof(struct emmap_disk_live)) {
        if (in_live >= offsetof(struct emmap_disk_live, redo[0]) || flip->past == QUEUE_REBOOTED)
            return SOMETHING;
        return small->image.bytes[off & ~7ull] || in_live >= offsetof(struct emmap_disk_live, tail)
                   ? A_WORD
                   : NOTHING;
    }
    if (off < QUEUE_DATA_OFF) return small->image.bytes[off] ? SOMETHING : NOTHING;
    const uint64_t in_slot = (off - QUEUE_DATA_OFF) % QUEUE_LEAST_SEGMENT;
    return small->owner[off] > 0 || in_slot < QUEUE_SLOT_HEADER ||
                   in_slot >= QUEUE_LEAST_SEGMENT - QUEUE_SLOT_TRAILER
               ? SOMETHING
               : NOTHING;
}

static unsigned flip_all(enum small_kind kind, enum queue_past past) {
    struct small small = make_small(kind);
    struct emmap_queue *desk = image_desk(ROOM);
    unsigned tried = 0, bad = 0;
    for (uint64_t off = 0; off < small.image.len_bytes; off++) {
        struct flip flip = {.off = off, .past = past};
        const enum meaning meaning = meaning_of(&small, &flip);
        for (unsigned bit = 0; meaning != NOTHING && bit <= 8; bit++) {
            if (bit < 8 && bit != off % 8 && meaning != A_WORD) continue;
            flip.mask = (uint8_t)(bit < 8 ? 1 << bit : 0xFF);
            if (tried++ % (SANITIZER ? 5 : 1) != 0) continue;
            const char *wrong = try_flip(desk, &small, &flip);
            if (wrong && bad++ < 20000)
                print_error("%s, %s: byte %llu ^ %#x of message %d: %s\n", small.name,
                            past == QUEUE_KILLED ? "same boot" : "after a reboot",
                            (unsigned long long)off, flip.mask, small.owner[off], wrong);
        }
    }
    print_message("%s, %s: %u changes\n", small.name,
                  past == QUEUE_KILLED ? "same boot" : "after a reboot", tried);
    image_desk_free(desk);
    free_small(&small);
    return bad;
}

static void a_changed_byte_costs_its_message_at_most(void **state) {
    (void)state;
    unsigned bad = 0;
    if (THREAD_SANITIZER) skip(); /* of one thread */
    for (enum small_kind kind = 0; kind < KINDS; kind++)
        bad += flip_all(kind, QUEUE_KILLED);
    assert_int_equal(bad, 0);
}

static void a_changed_byte_costs_its_message_at_most_after_a_reboot(void **state) {
    (void)state;
    unsigned bad = 0;
    if (THREAD_SANITIZER) skip(); /* of one thread */
    for (enum small_kind kind = 0; kind < KINDS; kind++)
        bad += flip_all(kind, QUEUE_REBOOTED);
    assert_int_equal(bad, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_changed_byte_costs_its_message_at_most),
        TEST(a_changed_byte_costs_its_message_at_most_after_a_reboot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
