/* touch.c -- bounds, marks and tries of a touch of mapped bytes. */
#include "store/touch.h"

#include <errno.h>

#include "core/charge.h"
#include "os/os.h"

/* A page that faults again and again after it was mapped back is given up. What is met before the
 * touch is another thread's fault, and that thread may be held up in its handler: after some tries
 * it is waited for, a few seconds at most. */
enum { TOUCH_TRIES = 64, FINAL_TRY = 8, BARE_TRIES = 8, WAIT_TRIES = 3000 };
/* Others' pages being mapped back kept this call from knowing: now it keeps them from that. */
enum { ALONE_AFTER = 2 };
enum { HOLD_END_MS = 1000 };

/* The size as far as this range needs it: past the known end the file system is asked, since
 * others may have grown the file. */
static int known_size(struct touch *t) {
    struct emmap_region *region = t->file->region;
    t->size_seen = atomic_load_explicit(region->size_bytes, memory_order_acquire);
    if (t->to <= t->size_seen || !region->shared) return 0;
    if (!t->wait && region->size_waits) return -EAGAIN;
    if (!region_pin(region)) return EMMAP_E_CLOSED;
    charge_add(CHARGE_SIZE_BYTES);
    const int rc = inode_refresh(region->inode, region->fd, t->wait, &t->size_seen);
    region_unpin(region);
    return rc;
}

/* Finds the range's place. With cut it ends at the end of the file, else it must lie within. */
static int bounds(struct touch *t, uint64_t off, uint64_t len_bytes, bool cut) {
    if (off > INT64_MAX || len_bytes > INT64_MAX) return -EINVAL;
    const uint64_t from = t->file->off + off; /* both below 2^63 */
    if (from > INT64_MAX || len_bytes > INT64_MAX - from) return -EINVAL;
    t->from = from;
    t->to = from + len_bytes;
    const int rc = known_size(t);
    if (rc) return rc;
    if (cut && from >= t->size_seen) return EMMAP_E_PAST_END;
    if (t->to > t->size_seen) {
        if (!cut) return EMMAP_E_PAST_END;
        t->to = t->size_seen;
    }
    /* Others have grown the file further than the handle's addresses reach. */
    const uint64_t limit = region_limit(t->file->region);
    if (from >= limit || (t->to > limit && !cut)) return -ENOMEM;
    if (t->to > limit) t->to = limit;
    return 0;
}

int touch_nothing(const struct emmap_file *file, uint64_t off) {
    if (atomic_load_explicit(&file->region->closed, memory_order_relaxed)) return EMMAP_E_CLOSED;
    return off > INT64_MAX - file->off ? -EINVAL : 0;
}

int touch_begin(struct touch *t, uint64_t off, uint64_t len_bytes, bool cut) {
    struct emmap_region *region = t->file->region;
    t->touched = false;
    if (atomic_load_explicit(&region->closed, memory_order_relaxed)) return EMMAP_E_CLOSED;
    const int rc = bounds(t, off, len_bytes, cut);
    if (rc) return rc;
    t->alone = t->unsure > ALONE_AFTER || (t->once && region_has_faults(region));
    if (t->alone && !t->wait) {
        t->alone = false;
        return REGION_TOUCHED;
    }
    if (t->alone) pthread_mutex_lock(&region->lock);
    const int entered = region_enter(region, t->from, t->to - t->from, &t->marks_seen);
    if (entered || t->wait) return entered;
    const uint64_t from = t->last_only && t->to > t->from ? t->to - 1 : t->from;
    return region_is_resident(region, from, t->to) ? 0 : -EAGAIN;
}

int touch_end(struct touch *t) {
    t->touched = true;
    return region_leave(t->file->region, t->from, t->to - t->from, t->marks_seen);
}

bool touch_finish(struct touch *t) {
    if (t->end_stays) pthread_mutex_unlock(&t->file->region->inode->resize_lock);
    t->end_stays = false;
    return false;
}

/* After a fault it is done again while no handle of this OS process moves the file's end: what
 * still faults then is another program's doing, or a bad page. A resize that takes long is not
 * waited for to its end. */
static bool hold_end(struct touch *t) {
    pthread_mutex_t *lock = &t->file->region->inode->resize_lock;
    t->end_stays = os_mutex_lock_until(lock, os_now_ms() + HOLD_END_MS) == 0;
    return t->end_stays;
}

bool touch_again(struct touch *t, int *rc) {
    struct emmap_region *region = t->file->region;
    if (t->alone) pthread_mutex_unlock(&region->lock);
    t->alone = false;
    if (*rc != REGION_TOUCHED && *rc != REGION_AGAIN) return touch_finish(t);
    /* -EAGAIN has the whole call done again: not where it may have reached the file, and must not
     * reach it twice. */
    if (!t->wait && !(t->once && t->touched)) {
        *rc = -EAGAIN;
        return false;
    }
    if (*rc == REGION_AGAIN) {
        /* A page was replaced and mapped back during one instruction of a call that cannot be done
         * twice: whether it reached the file is not known, so it was not acknowledged. */
        if (t->once) *rc = -EIO;
        t->unsure++;
        return !t->once || touch_finish(t);
    }
    if (t->once && t->touched) {
        /* It may have reached the file before its page was replaced: done again it could count
         * twice. What the caller is told is why, and that it was not acknowledged. */
        if (!t->wait) return touch_finish(t); /* REGION_TOUCHED: whoever may wait asks */
        *rc = region_settle(region, t->from, t->to - t->from, t->size_seen, true);
        if (*rc == 0) *rc = -EIO;
        return touch_finish(t);
    }
    if (t->tries == 0 && !t->once && !t->end_stays && hold_end(t)) return true;
    t->tries++;
    if (t->touched)
        t->faulted++;
    else if (t->tries > BARE_TRIES)
        os_sleep_ms(1);
    if (t->faulted > TOUCH_TRIES || t->tries > WAIT_TRIES)
        *rc = -EIO;
    else
        *rc = region_settle(region, t->from, t->to - t->from, t->size_seen, t->faulted > FINAL_TRY);
    return *rc == 0 || touch_finish(t);
}
