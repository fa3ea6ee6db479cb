/* queue_sync.c -- what is on the disk: checkpoints, and syncs that they ride on. */
#include <errno.h>

#include "core/crc32c.h"
#include "os/os.h"
#include "store/queue.h"

enum { SYNC_WAIT_MS = 10000 }; /* for another OS process that syncs */

struct emmap_disk_checkpoint *queue_checkpoint_at(const struct emmap_queue *q, uint64_t serial) {
    return (struct emmap_disk_checkpoint *)(void *)(q->base + QUEUE_CHECKPOINT_OFF +
                                                    (serial & 1) * QUEUE_PAGE);
}

static uint32_t checkpoint_crc(const struct emmap_queue *q, const struct emmap_disk_checkpoint *c) {
    return crc32c(crc32c(0, &q->salt, sizeof q->salt), c,
                  offsetof(struct emmap_disk_checkpoint, crc));
}

bool queue_checkpoint_is_valid(const struct emmap_queue *q, const struct emmap_disk_checkpoint *c) {
    return c->magic == EMMAP_DISK_CHECKPOINT_MAGIC && PM_MUST(c->crc == checkpoint_crc(q, c)) &&
           c->head <= c->tail && c->tail <= INT64_MAX;
}

bool queue_newest_checkpoint(const struct emmap_queue *q, struct emmap_disk_checkpoint *out) {
    bool found = false;
    for (uint64_t i = 0; i < 2; i++) {
        struct emmap_disk_checkpoint c;
        pm_read(&c, queue_checkpoint_at(q, i), sizeof c);
        if (!queue_checkpoint_is_valid(q, &c) || (c.serial & 1) != i) continue;
        if (!found || c.serial > out->serial) *out = c;
        found = true;
    }
    return found;
}

/* Its place goes by its serial number. */
void queue_write_checkpoint(struct emmap_queue *q, struct emmap_disk_checkpoint c) {
    c.magic = EMMAP_DISK_CHECKPOINT_MAGIC;
    c.crc = checkpoint_crc(q, &c);
    pm_copy(queue_checkpoint_at(q, c.serial), &c, sizeof c);
}

/* The number is chosen so that the one on the disk stays. */
uint64_t queue_checkpoint(struct emmap_queue *q) {
    struct emmap_disk_live *live = queue_live(q);
    uint64_t serial = queue_get(&live->cp_serial) + 1;
    if (((serial ^ queue_get(&live->cp_durable)) & 1) == 0) serial++;
    queue_write_checkpoint(q, (struct emmap_disk_checkpoint){
                                  .serial = serial,
                                  .epoch = queue_get(&live->epoch),
                                  .head = queue_get(&live->head),
                                  .head_n = queue_get(&live->head_n),
                                  .tail = queue_get(&live->tail),
                                  .tail_n = queue_get(&live->tail_n),
                                  .slots = queue_get(&live->slots),
                                  .next_number = queue_get(&live->next_number),
                              });
    pm_set64(&live->cp_serial, serial);
    return serial;
}

void queue_checkpoint_now(struct emmap_queue *q) {
    if (queue_get(&queue_live(q)->syncer) == 0) (void)queue_checkpoint(q);
}

/* Of a plain array it is told where a file would be on the disk. */
int queue_sync_file(struct emmap_queue *q) {
    if (q->file) return q->file->region->shared ? emmap_file_sync(q->file) : 0;
    OS_RECORD(.kind = OS_EVENT_SYNC, .len_bytes = UINT64_MAX, .fd = -1);
    return 0;
}

/* One sync at a time for a file: the checkpoint that it rests on is not written over meanwhile. */
static int begin_sync(struct emmap_queue *q, uint64_t *serial, uint64_t *covered) {
    struct emmap_disk_live *live = queue_live(q);
    const int rc = queue_lock(q, true);
    if (rc) return rc;
    if (queue_get(&live->sync_error)) return queue_unlock(q, EMMAP_E_SYNC_FAILED);
    const uint64_t other = queue_get(&live->syncer);
    if (other != 0 && other != q->me &&
        queue_is_alive(q, (unsigned)(other >> 48) - 1, other & 0xFFFFFFFFFFFFu))
        return queue_unlock(q, QUEUE_SPUN);
    *serial = queue_checkpoint(q);
    *covered = queue_get(&live->tail);
    pm_set64(&live->syncer, q->me);
    return queue_unlock(q, 0);
}

/* What failed once stays failed: the kernel has dropped what it could not write. */
static int sync_alone(struct emmap_queue *q, uint64_t *covered) {
    struct emmap_disk_live *live = queue_live(q);
    uint64_t serial;
    const uint64_t until = os_now_ms() + SYNC_WAIT_MS;
    int rc = begin_sync(q, &serial, covered);
    while (rc == QUEUE_SPUN && os_now_ms() < until) {
        os_sleep_ms(1);
        rc = begin_sync(q, &serial, covered);
    }
    if (rc) return rc == QUEUE_SPUN ? EMMAP_E_BUSY : rc;
    const int synced = PM_SYNC(queue_sync_file(q));
    queue_touch_tail(q);
    rc = queue_lock_surely(q);
    if (rc) return rc;
    struct queue_step step = {0};
    if (synced == EMMAP_E_SYNC_FAILED)
        queue_set(&step, &live->sync_error, (uint64_t)-emmap_file_sync_error(q->file));
    else if (synced == 0)
        queue_set(&step, &live->cp_durable, serial);
    queue_set(&step, &live->syncer, 0);
    queue_do(q, &step);
    rc = queue_unlock(q, 0);
    return synced ? synced : rc;
}

int queue_sync(struct emmap_queue *q, uint64_t *covered) {
    if (q->file && !q->file->region->shared) {
        *covered = UINT64_MAX; /* nothing of it is to reach a disk */
        return atomic_load(&q->closed) ? EMMAP_E_CLOSED : 0;
    }
    if (q->file && !queue_enter(q)) return EMMAP_E_CLOSED;
    pthread_mutex_lock(&q->sync_lock);
    const int rc = sync_alone(q, covered);
    pthread_mutex_unlock(&q->sync_lock);
    if (q->file) queue_leave(q);
    return rc;
}

/* ------------------------------------------------------------------------------ in the background */

enum { TICK_MS = 5, OWED_MS = 20 };
static pthread_mutex_t ticker_lock = PTHREAD_MUTEX_INITIALIZER;
static bool ticker_runs; /* under ticker_lock */

static bool has_news(const struct emmap_queue *q) {
    const struct emmap_disk_live *live = queue_live(q);
    return queue_get(&live->tail) != q->synced_tail || queue_get(&live->head) != q->synced_head ||
           queue_get(&live->gap_n) !=
               q->synced_gap; /* a large one is there, or a claim has ended */
}

/* When it was last served, if its turn has come; 0: it has not. */
static uint64_t due_since(const struct emmap_queue *q, uint64_t now_ms, bool *any) {
    if (atomic_load(&q->closed) || atomic_load(&q->broken)) return 0;
    const bool owes = atomic_load(&q->owed) != NULL;
    const uint32_t every = atomic_load(&q->interval_ms);
    *any = *any || owes || every > 0;
    if (owes && now_ms - q->owed_ms >= OWED_MS) return q->owed_ms + 1;
    if (every > 0 && now_ms - q->synced_ms >= every && has_news(q)) return q->synced_ms + 1;
    return 0;
}

/* A queue whose turn has come, held by a ref and as a user; *any: there are queues that have turns. */
static struct emmap_queue *next_due(uint64_t now_ms, bool *any) {
    struct runtime *rt = runtime_get();
    struct emmap_queue *due = NULL;
    uint64_t longest = UINT64_MAX; /* who has waited longest is the next */
    *any = false;
    pthread_mutex_lock(&rt->lock);
    for (struct emmap_queue *q = rt->queues; q; q = q->next) {
        const uint64_t since = due_since(q, now_ms, any);
        if (since == 0 || since >= longest) continue;
        longest = since;
        due = q;
    }
    if (due && queue_enter(due))
        queue_ref(due);
    else
        due = NULL;
    pthread_mutex_unlock(&rt->lock);
    return due;
}

static void sync_due(struct emmap_queue *q, uint64_t now_ms) {
    const uint64_t tail = queue_get(&queue_live(q)->tail);
    const uint64_t head = queue_get(&queue_live(q)->head);
    const uint64_t gap = queue_get(&queue_live(q)->gap_n);
    uint64_t covered;
    q->synced_ms = now_ms;
    if (queue_sync(q, &covered) == 0) {
        q->synced_tail = tail;
        q->synced_head = head;
        q->synced_gap = gap;
    }
}

static void serve(struct emmap_queue *q, uint64_t now_ms) {
    if (atomic_load(&q->owed) && now_ms - q->owed_ms >= OWED_MS) {
        q->owed_ms = now_ms;
        if (queue_lock(q, true) == 0) (void)queue_unlock(q, 0);
    } else if (atomic_load(&q->interval_ms) > 0) {
        sync_due(q, now_ms);
    }
    queue_leave(q);
    queue_unref(q);
}

/* Ends when no queue has turns any more. */
static void tick(void *arg) {
    (void)arg;
    for (;;) {
        bool any;
        const uint64_t now_ms = os_now_ms();
        struct emmap_queue *q = next_due(now_ms, &any);
        if (q) {
            serve(q, now_ms);
            continue;
        }
        if (!any) {
            pthread_mutex_lock(&ticker_lock);
            q = next_due(now_ms, &any);
            ticker_runs = any;
            pthread_mutex_unlock(&ticker_lock);
            if (q) serve(q, now_ms);
            if (!any) return;
        }
        os_sleep_ms(TICK_MS);
    }
}

int queue_tick(void) {
    pthread_mutex_lock(&ticker_lock);
    int rc = ticker_runs ? 0 : os_thread(tick, NULL);
    if (rc == 0) ticker_runs = true;
    pthread_mutex_unlock(&ticker_lock);
    return rc;
}

int queue_sync_every(struct emmap_queue *q, uint32_t interval_ms) {
    const uint32_t now = atomic_load(&q->interval_ms);
    if (now == 0 || interval_ms < now) atomic_store(&q->interval_ms, interval_ms);
    return queue_tick();
}
