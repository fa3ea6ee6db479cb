/* test_queue_forged.c -- what has a right checksum and is wrong nevertheless: a record with another
 * one's ordinal, a record of an earlier life of the queue, a holder of an earlier life. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "test/queue_check.h"
#include "test/queue_image.h"

enum { ROOM = QUEUE_DATA_OFF + 6 * QUEUE_LEAST_SEGMENT };

static struct emmap_queue *make(void) {
    struct emmap_queue *q = image_desk(ROOM);
    const struct emmap_queue_options options = {.size_bytes = 1};
    image_make(q, &options);
    return q;
}

/* The record of the n-th message of a queue whose first is in slot 1. */
static struct queue_record record_of(struct emmap_queue *q, unsigned n) {
    struct queue_place at = {.pos = q->cap_bytes, .slot = 1};
    struct queue_record record;
    for (unsigned i = 0;; i++) {
        assert_ok(queue_record_at(q, true, at, &record));
        if (i == n) return record;
        at = record.end;
    }
}

static void forge_ordinal(struct emmap_queue *q, unsigned n, uint64_t ordinal) {
    struct queue_record record = record_of(q, n);
    record.header.ordinal = ordinal;
    record.header.crc = queue_record_crc(q, queue_slot(q, record.at.slot)->segment.epoch,
                                         record.at.pos, &record.header);
    assert_ok(queue_write(q, true, &record.at, &record.header, sizeof record.header));
}

static void damage(struct emmap_queue *q, unsigned n, uint64_t off) {
    const struct queue_record record = record_of(q, n);
    struct queue_place place = record.at;
    uint64_t at, stop;
    assert_ok(queue_skip(q, &place, off));
    assert_ok(queue_place_off(q, place, &at, &stop));
    q->base[queue_slot_off(q, place.slot) + QUEUE_SLOT_HEADER + at] ^= 0x40;
}

/* Four messages, the third of which says that it is the first; covered by a checkpoint. */
static struct emmap_queue *make_forged(struct ledger *ledger, bool covered) {
    struct emmap_queue *q = make();
    *ledger = (struct ledger){.n = 0};
    for (uint32_t i = 0; i < 4; i++)
        ledger_push(ledger, q, 40 + i);
    if (covered) pm_set64(&queue_live(q)->cp_durable, queue_checkpoint(q));
    forge_ordinal(q, 2, 0);
    ledger->fate[2] = GONE;
    return q;
}

/* counted: what is damaged has been found and is not counted. */
static void check(struct emmap_queue *q, const struct ledger *ledger, bool counted) {
    struct drained drained;
    const uint64_t count = queue_count(q);
    const char *wrong = drain(q, ledger, &drained);
    if (!wrong && counted && drained.n != count) wrong = "the count is wrong";
    if (!wrong) wrong = agrees(ledger, &drained);
    if (wrong) fail_msg("%s", wrong);
}

static void settle_and_check(struct emmap_queue *q, const struct ledger *ledger,
                             enum queue_past past) {
    const struct image image = image_of(q);
    assert_ok(image_settle(q, &image, past));
    assert_true(q->was_recovered);
    check(q, ledger, true);
    free(image.bytes);
}

static void a_recovery_passes_a_record_that_is_out_of_order(void **state) {
    (void)state;
    struct ledger ledger;
    struct emmap_queue *q = make_forged(&ledger, true);
    settle_and_check(q, &ledger, QUEUE_REBOOTED);
    assert_int_equal(queue_get(&queue_live(q)->lost_n), 1);
    image_desk_free(q);
}

static void a_record_that_is_out_of_order_is_seen_at_open(void **state) {
    (void)state;
    struct ledger ledger;
    struct emmap_queue *q = make_forged(&ledger, false);
    settle_and_check(q, &ledger, QUEUE_KILLED);
    image_desk_free(q);
}

static void a_search_behind_damage_passes_a_record_that_is_out_of_order(void **state) {
    (void)state;
    struct ledger ledger;
    struct emmap_queue *q = make_forged(&ledger, true);
    damage(q, 1, 0);
    ledger.fate[1] = GONE;
    check(q, &ledger, false);
    assert_int_equal(queue_get(&queue_live(q)->lost_n), 2);
    image_desk_free(q);
}

static void a_take_passes_a_record_that_is_out_of_order(void **state) {
    (void)state;
    struct ledger ledger;
    struct emmap_queue *q = make_forged(&ledger, true);
    check(q, &ledger, false);
    image_desk_free(q);
}

static void a_claim_passes_what_is_damaged(void **state) {
    (void)state;
    static uint8_t buf[IMAGE_MESSAGE_BYTES];
    struct ledger ledger = {.n = 0};
    struct emmap_queue *q = make();
    struct queue_message message;
    ledger_push(&ledger, q, 40);
    ledger_push(&ledger, q, 41);
    damage(q, 0, QUEUE_RECORD_HEADER + 20);
    assert_ok(queue_claim(q, true, buf, sizeof buf, &message));
    assert_int_equal(ledger_find(&ledger, buf, message.len_bytes), 1);
    assert_int_equal(queue_get(&queue_live(q)->lost_n), 1);
    image_desk_free(q);
}

static void an_epoch_that_no_checkpoint_knows_is_seen_at_open(void **state) {
    (void)state;
    struct ledger ledger = {.n = 0};
    struct emmap_queue *q = make();
    ledger_push(&ledger, q, 40);
    pm_set64(&queue_live(q)->cp_durable, queue_checkpoint(q));
    pm_set64(&queue_live(q)->epoch, queue_get(&queue_live(q)->epoch) - 1);
    settle_and_check(q, &ledger, QUEUE_KILLED);
    image_desk_free(q);
}

/* The words that tell of checkpoints are damaged: the one that is whole stays, and the next is newer. */
static void the_only_whole_checkpoint_is_not_written_over(void **state) {
    (void)state;
    struct ledger ledger = {.n = 0};
    struct emmap_queue *q = make();
    ledger_push(&ledger, q, 40);
    const uint64_t whole = queue_checkpoint(q);
    queue_checkpoint_at(q, whole + 1)->crc ^= 1;
    for (unsigned i = 0; i < 2; i++) {
        pm_set64(&queue_live(q)->cp_durable, i == 0 ? whole + 1 : whole);
        pm_set64(&queue_live(q)->cp_serial, i == 0 ? whole : 0);
        struct image image = image_of(q);
        assert_ok(image_settle(q, &image, QUEUE_KILLED));
        assert_false(q->was_recovered);
        const uint64_t next = queue_checkpoint(q);
        assert_true(next > whole);
        assert_int_equal((next ^ whole) & 1, 1);
        image_lay(q, &image);
        free(image.bytes);
    }
    image_desk_free(q);
}

/* The list of free slots leads to one that is in use. */
static void a_list_that_is_damaged_is_given_up(void **state) {
    (void)state;
    struct ledger ledger = {.n = 0};
    struct emmap_queue *q = make();
    uint64_t next;
    ledger_push(&ledger, q, 40);
    pm_set64(&queue_live(q)->warm_slot, 1);
    pm_set64(&queue_live(q)->warm_n, 1);
    assert_int_equal(queue_link(q, 1, &next), -EAGAIN);
    assert_int_equal(queue_get(&queue_live(q)->warm_slot), 0);
    assert_int_equal(queue_get(&queue_live(q)->warm_n), 0);
    check(q, &ledger, true);
    image_desk_free(q);
}

static void agrees_with_itself(struct emmap_queue *q) {
    const char *wrong = queue_disagrees(q, false);
    if (wrong) fail_msg("%s", wrong);
}

static struct queue_message claim(struct emmap_queue *q) {
    static uint8_t buf[1000];
    struct queue_message message;
    assert_ok(queue_claim(q, true, buf, sizeof buf, &message));
    return message;
}

/* Behind a message that somebody works on. */
static void damage_behind_a_claim_is_counted(void **state) {
    (void)state;
    struct ledger ledger = {.n = 0};
    struct emmap_queue *q = make();
    for (uint32_t i = 0; i < 4; i++)
        ledger_push(&ledger, q, 40 + i);
    const struct queue_message first = claim(q);
    damage(q, 1, 0);
    assert_int_equal(claim(q).len_bytes, 42);
    agrees_with_itself(q);
    assert_ok(queue_ack(q, true, &first));
    agrees_with_itself(q);
    image_desk_free(q);
}

/* A large one whose content could not be copied. */
static void a_push_that_is_given_up_is_counted(void **state) {
    (void)state;
    struct ledger ledger = {.n = 0};
    struct emmap_queue *q = make();
    struct emmap_disk_live *live = queue_live(q);
    struct queue_message message;
    for (uint32_t i = 0; i < 3; i++)
        ledger_push(&ledger, q, 40 + i);
    const struct queue_record record = record_of(q, 1);
    queue_tell(&message, &record);
    pm_set64(record.state, queue_state(QUEUE_FILLING, q->owner));
    pm_set64(&live->gap_n, 1);
    agrees_with_itself(q);
    assert_ok(queue_finish_surely(q, &message, QUEUE_FILLING, false));
    agrees_with_itself(q);
    ledger.fate[1] = GONE;
    check(q, &ledger, true);
    image_desk_free(q);
}

static void a_wrong_count_of_what_came_back_is_mended(void **state) {
    (void)state;
    struct ledger ledger = {.n = 0};
    struct emmap_queue *q = make();
    for (uint32_t i = 0; i < 3; i++)
        ledger_push(&ledger, q, 40 + i);
    const struct queue_message first = claim(q);
    pm_set64(&queue_live(q)->returned_n, 7);
    assert_int_equal(claim(q).len_bytes, 41);
    agrees_with_itself(q);
    assert_ok(queue_return(q, true, &first));
    agrees_with_itself(q);
    image_desk_free(q);
}

static void a_state_that_is_none_counts_as_ready(void **state) {
    (void)state;
    struct ledger ledger = {.n = 0};
    struct emmap_queue *q = make();
    for (uint32_t i = 0; i < 3; i++)
        ledger_push(&ledger, q, 40 + i);
    (void)claim(q);
    (void)claim(q);
    pm_set64(record_of(q, 0).state, UINT64_MAX);
    const struct image image = image_of(q);
    assert_ok(image_settle(q, &image, QUEUE_KILLED));
    assert_false(q->was_recovered);
    assert_int_equal(queue_get(record_of(q, 0).state), queue_state(QUEUE_READY, 0));
    agrees_with_itself(q);
    check(q, &ledger, true);
    free(image.bytes);
    image_desk_free(q);
}

/* Of two OS processes one syncs at a time: the page says who, and changes under the lock. */
static void see_syncer(void *ctx, const struct os_event *event) {
    struct emmap_queue *q = ctx;
    struct emmap_disk_live *live = queue_live(q);
    if (event->kind == OS_EVENT_SYNC) assert_int_equal(queue_get(&live->syncer), q->me);
    if (event->addr == (const void *)&live->syncer) assert_int_equal(queue_get(&live->lock), q->me);
}

static void who_syncs_says_so(void **state) {
    (void)state;
    struct ledger ledger = {.n = 0};
    struct emmap_queue *q = make();
    uint64_t covered;
    ledger_push(&ledger, q, 40);
    os_record_to(see_syncer, q);
    assert_ok(queue_sync(q, &covered));
    os_record_to(NULL, NULL);
    assert_int_equal(queue_get(&queue_live(q)->syncer), 0);
    image_desk_free(q);
}

static void a_look_passes_what_is_damaged(void **state) {
    (void)state;
    static uint8_t buf[IMAGE_MESSAGE_BYTES];
    struct ledger ledger = {.n = 0};
    struct emmap_queue *q = make();
    struct queue_place front = {0}, back = {0};
    struct queue_message message;
    const uint32_t lens[] = {40, 100000, 41, 42};
    for (unsigned i = 0; i < sizeof lens / sizeof *lens; i++)
        ledger_push(&ledger, q, lens[i]);
    damage(q, 0, QUEUE_RECORD_HEADER + 20);
    damage(q, 1, QUEUE_RECORD_HEADER + 90000);
    damage(q, 3, QUEUE_RECORD_HEADER + 20);
    assert_ok(queue_peek(q, true, false, &front, buf, sizeof buf, &message));
    assert_int_equal(ledger_find(&ledger, buf, message.len_bytes), 2);
    assert_ok(queue_peek(q, true, true, &back, buf, sizeof buf, &message));
    assert_int_equal(ledger_find(&ledger, buf, message.len_bytes), 2);
    assert_int_equal(queue_peek(q, true, true, &back, buf, sizeof buf, &message), EMMAP_E_EMPTY);
    image_desk_free(q);
}

/* A participant's number that somebody else has now. */
static void who_had_the_number_before_is_dead(void **state) {
    (void)state;
    struct emmap_queue *q = make();
    pm_set64(&queue_participant(q, 7)->incarnation, 12);
    assert_true(queue_is_alive(q, 7, 12));
    assert_false(queue_is_alive(q, 7, 11));
    image_desk_free(q);
}

/* A segment's slot is used again; the power is cut when the disk has the record in it, and not the
 * segment's header. The queue that is recovered is empty, and begins at the same place. */
static void what_was_given_up_does_not_come_back(void **state) {
    (void)state;
    struct ledger ledger = {.n = 0};
    struct drained drained;
    struct emmap_queue *q = make();
    ledger_push(&ledger, q, QUEUE_LEAST_SEGMENT * 3 / 4);
    ledger_push(&ledger, q, QUEUE_LEAST_SEGMENT * 3 / 4);
    check(q, &ledger, false);
    pm_set64(&queue_live(q)->cp_durable, queue_checkpoint(q));
    struct image synced = image_of(q);
    const uint64_t left = 3 * q->cap_bytes - queue_get(&queue_live(q)->tail);
    ledger_push(&ledger, q, (uint32_t)(left - QUEUE_RECORD_OVERHEAD));
    ledger_push(&ledger, q, 40);
    assert_int_equal(queue_get(&queue_live(q)->tail_slot), 1);
    const uint64_t data = queue_slot_off(q, 1) + QUEUE_SLOT_HEADER;
    memcpy(synced.bytes + data, q->base + data, q->cap_bytes);

    image_lay(q, &synced);
    assert_ok(image_settle(q, &synced, QUEUE_REBOOTED));
    struct image recovered = image_of(q);
    assert_null(drain(q, &ledger, &drained));
    assert_int_equal(drained.n, 0);
    image_lay(q, &recovered);
    assert_ok(image_settle(q, &recovered, QUEUE_REBOOTED));
    assert_null(drain(q, &ledger, &drained));
    assert_int_equal(drained.n, 0);
    free(synced.bytes);
    free(recovered.bytes);
    image_desk_free(q);
}

/* A power cut has kept a segment's header from the disk, and the recovery has gone over it. What was
 * synced since is behind the gap; one damaged message before it costs no other. */
static void damage_before_what_a_recovery_found_missing_costs_one(void **state) {
    (void)state;
    struct ledger ledger = {.n = 0};
    struct emmap_queue *q = make();
    uint64_t covered;
    for (uint32_t i = 0; i < 20; i++)
        ledger_push(&ledger, q, 2000 + i);
    assert_ok(queue_sync(q, &covered));
    while (queue_get(&queue_live(q)->tail_slot) != 3) {
        ledger_push(&ledger, q, 3000 + ledger.n);
        ledger.fate[ledger.n - 1] = EITHER;
    }
    ledger_push(&ledger, q, 41);
    struct image cut = image_of(q);
    memset(cut.bytes + queue_slot_off(q, 2), 0, sizeof(struct emmap_disk_segment));
    memset(cut.bytes + queue_slot_off(q, 2) + q->segment_bytes - QUEUE_SLOT_TRAILER, 0,
           QUEUE_SLOT_TRAILER);
    image_lay(q, &cut);
    assert_ok(image_settle(q, &cut, QUEUE_REBOOTED));
    ledger_push(&ledger, q, 40);
    assert_ok(queue_sync(q, &covered));
    assert_ok(queue_sync(q, &covered));

    damage(q, 3, 0);
    ledger.fate[3] = GONE;
    settle_and_check(q, &ledger, QUEUE_REBOOTED);
    free(cut.bytes);
    image_desk_free(q);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_recovery_passes_a_record_that_is_out_of_order),
        TEST(a_record_that_is_out_of_order_is_seen_at_open),
        TEST(a_search_behind_damage_passes_a_record_that_is_out_of_order),
        TEST(a_take_passes_a_record_that_is_out_of_order),
        TEST(a_claim_passes_what_is_damaged),
        TEST(an_epoch_that_no_checkpoint_knows_is_seen_at_open),
        TEST(the_only_whole_checkpoint_is_not_written_over),
        TEST(a_list_that_is_damaged_is_given_up),
        TEST(damage_behind_a_claim_is_counted),
        TEST(a_push_that_is_given_up_is_counted),
        TEST(a_wrong_count_of_what_came_back_is_mended),
        TEST(a_state_that_is_none_counts_as_ready),
        TEST(who_syncs_says_so),
        TEST(a_look_passes_what_is_damaged),
        TEST(who_had_the_number_before_is_dead),
        TEST(what_was_given_up_does_not_come_back),
        TEST(damage_before_what_a_recovery_found_missing_costs_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
