/* queue.c -- the queue for C programs, and what can be told of it. */
#include <errno.h>

#include "os/os.h"
#include "store/queue.h"

enum { MOST_CLAIMS = 4096 }; /* that are counted one by one */
enum { WAITS = 5000 };       /* of a millisecond, for who is at a message or at the lock */

/* Where a caller of the library's inside would go and do something else. */
static bool again(int *rc, unsigned *waited) {
    if (*rc != QUEUE_SPUN) return false;
    if (++*waited > WAITS) {
        *rc = EMMAP_E_BUSY;
        return false;
    }
    os_sleep_ms(1);
    return true;
}

int emmap_queue_push(struct emmap_queue *q, const void *data, uint32_t len_bytes, uint32_t flags) {
    struct queue_data message = {.body = data, .body_bytes = len_bytes, .flags = flags};
    uint64_t end;
    unsigned waited = 0;
    int rc;
    do {
        rc = queue_push(q, true, &message, 1, &end);
    } while (again(&rc, &waited));
    return rc;
}

int emmap_queue_take(struct emmap_queue *q, void *buf, uint32_t room_bytes, uint32_t *len_bytes,
                     uint32_t *flags) {
    struct queue_message message;
    unsigned n, waited = 0;
    int rc;
    do {
        n = 1;
        rc = queue_take(q, true, buf, room_bytes, &message, &n);
    } while (again(&rc, &waited));
    if (rc == 0 || rc == QUEUE_NO_ROOM) *len_bytes = message.len_bytes;
    if (rc == QUEUE_NO_ROOM) return -EMSGSIZE;
    if (rc == 0) *flags = message.flags;
    return rc;
}

int emmap_queue_sync(struct emmap_queue *q) {
    uint64_t covered;
    return queue_sync(q, &covered);
}

void queue_lose(struct emmap_queue *q) {
    (void)pm_fetch_add64(&queue_live(q)->lost_n, 1);
    atomic_fetch_add(&q->lost, 1);
}

/* In a long window no more than there may be: the lock is held meanwhile. */
static uint64_t count_claims(struct emmap_queue *q) {
    const struct emmap_disk_live *live = queue_live(q);
    const uint64_t cursor = queue_get(&live->cursor);
    struct queue_place at = {queue_get(&live->head), queue_get(&live->head_slot)};
    struct queue_record record;
    uint64_t n = 0;
    for (unsigned i = 0; at.pos < cursor; i++) {
        if (i == MOST_CLAIMS || queue_record_at(q, true, at, &record)) {
            const uint64_t window = queue_get(&live->window_n);
            const uint64_t returned = queue_get(&live->returned_n);
            const uint64_t most = window > returned ? window - returned : 0;
            return most < queue_count(q) ? most : queue_count(q);
        }
        const enum queue_state_kind kind = queue_kind(queue_get(record.state));
        if (kind == QUEUE_LEASED || kind == QUEUE_TAKING) n++;
        at = record.end;
    }
    return n;
}

static void read_live(struct emmap_queue *q, struct emmap_queue_info *info) {
    const struct emmap_disk_live *live = queue_live(q);
    struct queue_record record;
    info->messages = queue_count(q);
    info->bytes = queue_bytes(q);
    info->claimed = count_claims(q);
    info->max_bytes = queue_get(&live->max_bytes);
    info->slots = queue_get(&live->slots);
    info->head = queue_get(&live->head);
    info->tail = queue_get(&live->tail);
    info->lost = queue_get(&live->lost_n);
    info->sync_error = (int)queue_get(&live->sync_error);
    const struct queue_place head = {info->head, queue_get(&live->head_slot)};
    if (info->messages > 0 && queue_record_at(q, true, head, &record) == 0)
        info->oldest_ms = record.header.time_ms;
}

int emmap_queue_info(struct emmap_queue *q, struct emmap_queue_info *info) {
    struct emmap_file_info file;
    *info = (struct emmap_queue_info){
        .max_message_bytes = queue_most_bytes(q),
        .segment_bytes = q->segment_bytes,
        .multi_os = q->multi_os,
        .fixed_size = (q->flags & QUEUE_FLAG_FIXED) != 0,
        .recovered = atomic_load(&q->recovered),
        .was_recovered = atomic_load(&q->was_recovered),
    };
    if (!queue_enter(q)) return EMMAP_E_CLOSED;
    int rc = emmap_file_info(q->file, &file);
    if (rc == 0) rc = queue_lock_surely(q);
    if (rc == 0) {
        info->file_bytes = file.file_bytes;
        info->allocated_bytes = file.allocated_bytes;
        info->linked = file.linked;
        read_live(q, info);
        rc = queue_unlock(q, 0);
    }
    queue_leave(q);
    return rc;
}
