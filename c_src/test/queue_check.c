/* queue_check.c -- see queue_check.h. */
#include "test/queue_check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LARGEST = 1 << 20 };

/* ------------------------------------------------------------------------------------- slots */

struct slots {
    struct emmap_queue *q;
    bool *seen;
    uint64_t count;
};

static bool see(struct slots *slots, uint64_t slot) {
    if (slot == 0 || slot > slots->count || slots->seen[slot]) return false;
    slots->seen[slot] = true;
    return true;
}

static const char *see_chain(struct slots *slots) {
    const struct emmap_disk_live *live = queue_live(slots->q);
    const uint64_t last = queue_get(&live->last_slot);
    bool head = false, cursor = false, tail = false;
    for (uint64_t slot = queue_get(&live->first_slot);;
         slot = queue_get(&queue_slot(slots->q, slot)->next)) {
        if (!see(slots, slot)) return "the chain of segments leads astray";
        head = head || slot == queue_get(&live->head_slot);
        if (head) cursor = cursor || slot == queue_get(&live->cursor_slot);
        if (cursor) tail = tail || slot == queue_get(&live->tail_slot);
        if (slot == last) break;
    }
    if (queue_get(&queue_slot(slots->q, last)->next)) return "the last segment has a next one";
    return tail ? NULL : "head, cursor, tail do not lie in the chain in this order";
}

static const char *see_list(struct slots *slots, const emmap_disk_word *first, uint64_t *n) {
    *n = 0;
    for (uint64_t slot = queue_get(first); slot;
         slot = queue_get(&queue_slot(slots->q, slot)->free_next), ++*n)
        if (!see(slots, slot)) return "a list of free slots leads astray";
    return NULL;
}

static const char *see_hands(struct slots *slots, bool in_hand) {
    for (unsigned i = 0; i < QUEUE_PARTICIPANTS; i++) {
        const struct emmap_disk_participant *p = queue_participant(slots->q, i);
        const uint64_t hands[] = {queue_get(&p->preparing), queue_get(&p->punching)};
        for (unsigned k = 0; k < 2; k++) {
            if (hands[k] == 0) continue;
            if (!in_hand) return "a slot is in the hand of a dead one";
            if (!see(slots, hands[k])) return "a slot in hand is elsewhere too";
        }
    }
    return NULL;
}

static const char *slots_disagree(struct slots *slots, bool in_hand) {
    const struct emmap_disk_live *live = queue_live(slots->q);
    uint64_t warm, cold;
    const char *wrong = see_chain(slots);
    if (!wrong) wrong = see_list(slots, &live->warm_slot, &warm);
    if (!wrong && warm != queue_get(&live->warm_n)) wrong = "warm_n is not the list's length";
    if (!wrong) wrong = see_list(slots, &live->cold_slot, &cold);
    if (!wrong) wrong = see_hands(slots, in_hand);
    for (uint64_t slot = 1; slot <= slots->count && !wrong; slot++)
        if (!slots->seen[slot]) wrong = "a slot is lost";
    return wrong;
}

/* ----------------------------------------------------------------------------------- records */

struct tally {
    uint64_t messages, bytes, gap_n, gap_bytes, window_n, returned_n;
};

static void count(struct tally *tally, const struct queue_record *record, bool in_window) {
    const uint64_t bytes = record->end.pos - record->at.pos;
    switch (queue_kind(queue_get(record->state))) {
    case QUEUE_DONE:
    case QUEUE_VOID:
        tally->gap_n++;
        tally->gap_bytes += bytes;
        break;
    case QUEUE_FILLING:
        tally->gap_n++;
        tally->bytes += bytes;
        break;
    case QUEUE_READY:
        if (in_window) tally->returned_n++;
        tally->messages++;
        tally->bytes += bytes;
        break;
    default:
        tally->messages++;
        tally->bytes += bytes;
        break;
    }
}

static const char *walk(struct emmap_queue *q, struct tally *tally) {
    const struct emmap_disk_live *live = queue_live(q);
    const uint64_t cursor = queue_get(&live->cursor), tail = queue_get(&live->tail);
    struct queue_place at = {queue_get(&live->head), queue_get(&live->head_slot)};
    uint64_t n = queue_get(&live->head_n);
    while (at.pos < tail) {
        struct queue_record record;
        if (queue_record_at(q, true, at, &record)) return "a record is damaged";
        if (record.header.ordinal < n) return "an ordinal comes again";
        const bool in_window = record.at.pos < cursor;
        if (in_window && record.end.pos > cursor && record.end.pos < tail)
            return "the cursor lies within a record";
        tally->gap_bytes += record.at.pos - at.pos;
        tally->gap_n += record.header.ordinal - n; /* lost */
        n = record.header.ordinal + 1;
        if (in_window) tally->window_n = n - queue_get(&live->head_n);
        count(tally, &record, in_window);
        at = record.end;
    }
    if (at.pos != tail) return "the last record ends behind the tail";
    return n == queue_get(&live->tail_n) ? NULL : "tail_n is not the ordinal behind the last one";
}

static const char *records_disagree(struct emmap_queue *q) {
    const struct emmap_disk_live *live = queue_live(q);
    struct tally tally = {0};
    const char *wrong = walk(q, &tally);
    if (wrong) return wrong;
    if (tally.messages != queue_count(q)) return "the number of messages";
    if (tally.bytes != queue_bytes(q)) return "the bytes of messages";
    if (tally.gap_n != queue_get(&live->gap_n)) return "gap_n";
    if (tally.gap_bytes != queue_get(&live->gap_bytes)) return "gap_bytes";
    if (tally.window_n != queue_get(&live->window_n)) return "window_n";
    if (tally.returned_n != queue_get(&live->returned_n)) return "returned_n";
    if (queue_get(&live->cursor_n) != queue_get(&live->head_n) + tally.window_n) return "cursor_n";
    if (tally.window_n == 0 && (queue_get(&live->head) != queue_get(&live->cursor) ||
                                queue_get(&live->head_slot) != queue_get(&live->cursor_slot)))
        return "the window is closed, and the cursor not at the head";
    return NULL;
}

/* Others may have made it longer. */
static uint64_t file_bytes_now(const struct emmap_queue *q) {
    uint64_t size = q->base_bytes;
    if (q->file) MUST(file_ask_size(q->file, &size) == 0);
    return size;
}

static const char *disagrees(struct emmap_queue *q, bool in_hand, bool records) {
    const uint64_t n = queue_get(&queue_live(q)->slots);
    struct slots slots = {.q = q, .seen = calloc(n + 1, sizeof(bool)), .count = n};
    MUST(slots.seen);
    const char *wrong = queue_get(&queue_live(q)->redo_n) ? "a step is left undone" : NULL;
    if (!wrong && !in_hand && file_bytes_now(q) < QUEUE_DATA_OFF + n * q->segment_bytes)
        wrong = "the file does not reach to all slots";
    if (!wrong) wrong = slots_disagree(&slots, in_hand);
    if (!wrong && records) wrong = records_disagree(q);
    free(slots.seen);
    return wrong;
}

static const char *disagrees_locked(struct emmap_queue *q, bool in_hand, bool records) {
    const char *wrong = "the lock is not to be had";
    pthread_mutex_lock(&q->space_lock); /* nothing in one's own hand */
    if (queue_lock_surely(q) == 0) {
        wrong = disagrees(q, in_hand, records);
        if (queue_unlock(q, 0) && !wrong) wrong = "the lock could not be given back";
    }
    pthread_mutex_unlock(&q->space_lock);
    return wrong;
}

const char *queue_disagrees(struct emmap_queue *q, bool in_hand) {
    return disagrees_locked(q, in_hand, true);
}

const char *queue_slots_disagree(struct emmap_queue *q, bool in_hand) {
    return disagrees_locked(q, in_hand, false);
}

/* ---------------------------------------------------------------------------------- messages */

struct emmap_queue *open_queue(const char *path, uint32_t flags) {
    const struct emmap_queue_options options = {.flags = flags};
    struct emmap_queue *q = NULL;
    own_faults();
    MUST(emmap_queue_open(&q, path, &options, NULL) == 0);
    return q;
}

static uint64_t next_word(uint64_t word) {
    return word * 6364136223846793005u + 1442695040888963407u;
}

void fill_id(uint8_t *buf, uint64_t id, uint32_t len_bytes) {
    uint64_t word = id;
    for (uint32_t i = 0; i < len_bytes; i += sizeof word, word = next_word(word))
        memcpy(buf + i, &word, len_bytes - i < sizeof word ? len_bytes - i : sizeof word);
}

bool is_id(const uint8_t *buf, uint64_t id, uint32_t len_bytes) {
    uint64_t word = id;
    for (uint32_t i = 0; i < len_bytes; i += sizeof word, word = next_word(word))
        if (memcmp(buf + i, &word, len_bytes - i < sizeof word ? len_bytes - i : sizeof word) != 0)
            return false;
    return true;
}

int push_id(struct emmap_queue *q, uint64_t id, uint32_t len_bytes) {
    static uint8_t buf[LARGEST];
    MUST(len_bytes <= LARGEST);
    fill_id(buf, id, len_bytes);
    return emmap_queue_push(q, buf, len_bytes, 0);
}

int take_id(struct emmap_queue *q, uint64_t id, uint32_t len_bytes) {
    static uint8_t buf[LARGEST];
    uint32_t got = 0, flags = 0;
    const int rc = emmap_queue_take(q, buf, LARGEST, &got, &flags);
    if (rc) return rc;
    return got == len_bytes && flags == 0 && is_id(buf, id, got) ? 0 : -EINVAL;
}
