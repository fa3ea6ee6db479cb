/* file.c -- the use of a mapped file: bytes, size, durability. */
#include "store/file.h"

#include <errno.h>

#include "core/pm.h"
#include "os/os.h"

/* A page that faults again and again after it was mapped back is given up. Faults met before the
 * touch are not its own: a thread that was held up in its handler marks a page late. */
enum { TOUCH_TRIES = 64, FINAL_TRY = 4 };
/* Others' pages being mapped back kept this call from knowing: now it keeps them from that. */
enum { ALONE_AFTER = 2 };

struct touch {
    struct emmap_file *file;
    bool wait;                /* else -EAGAIN instead of locks and the file system */
    unsigned tries;           /* with the end held still */
    unsigned faulted, unsure; /* how often it was done again, and why */
    bool touched;             /* the last try reached the bytes */
    bool alone;               /* holds the region's lock, so that nothing is mapped back */
    bool end_stays;           /* holds the inode's, so that no handle moves the file's end */
    uint64_t from, to;        /* the range in the file */
    uint64_t size_seen;       /* of the file */
    uint64_t marks_seen;
};

/* ------------------------------------------------------------------- a touch of the bytes */

/* The size as far as this range needs it: past the known end the file system is asked, since
 * others may have grown the file. */
static int known_size(struct touch *t) {
    struct emmap_region *region = t->file->region;
    t->size_seen = atomic_load_explicit(region->size_bytes, memory_order_acquire);
    if (t->to <= t->size_seen || !region->shared) return 0;
    if (!region_pin(region)) return EMMAP_E_CLOSED;
    const int rc = inode_refresh(region->inode, region->fd, t->wait, &t->size_seen);
    region_unpin(region);
    return rc;
}

/* Finds the range's place. With cut it ends at the end of the file, else it must lie within. */
static int bounds(struct touch *t, uint64_t off, uint64_t len_bytes, bool cut) {
    if (off > INT64_MAX || len_bytes > INT64_MAX) return -EINVAL;
    const uint64_t from = t->file->off + off; /* both below 2^63 */
    if (from > INT64_MAX) return cut ? EMMAP_E_PAST_END : -EINVAL;
    if (from + len_bytes > INT64_MAX) len_bytes = INT64_MAX - from;
    t->from = from;
    t->to = from + len_bytes;
    const int rc = known_size(t);
    if (rc) return rc;
    if (cut && from >= t->size_seen) return EMMAP_E_PAST_END;
    if (t->to > t->size_seen) {
        if (!cut) return EMMAP_E_PAST_END;
        t->to = t->size_seen;
    }
    return t->to > region_limit(t->file->region) ? -ENOMEM : 0;
}

static int begin(struct touch *t, uint64_t off, uint64_t len_bytes, bool cut) {
    struct emmap_region *region = t->file->region;
    t->touched = false;
    if (atomic_load_explicit(&region->closed, memory_order_relaxed)) return EMMAP_E_CLOSED;
    const int rc = bounds(t, off, len_bytes, cut);
    if (rc) return rc;
    t->alone = t->unsure > ALONE_AFTER;
    if (t->alone) pthread_mutex_lock(&region->lock);
    return region_enter(region, t->from, t->to - t->from, &t->marks_seen);
}

static int end(struct touch *t) {
    t->touched = true;
    return region_leave(t->file->region, t->from, t->to - t->from, t->marks_seen);
}

static bool finish(struct touch *t) {
    if (t->end_stays) pthread_mutex_unlock(&t->file->region->inode->resize_lock);
    return false;
}

/* After begin or end gave rc: true to do the touch again, false with the caller's answer in rc.
 * After a fault it is done again while no handle of this OS process moves the file's end: what
 * still faults then is another program's doing, or a bad page. */
static bool again(struct touch *t, int *rc) {
    struct emmap_region *region = t->file->region;
    if (t->alone) pthread_mutex_unlock(&region->lock);
    t->alone = false;
    if (*rc != REGION_TOUCHED && *rc != REGION_AGAIN) return finish(t);
    if (!t->wait) {
        *rc = -EAGAIN;
        return false;
    }
    if (*rc == REGION_AGAIN) {
        t->unsure++;
        return true;
    }
    if (!t->end_stays) {
        pthread_mutex_lock(&region->inode->resize_lock); /* before the region's, as everywhere */
        t->end_stays = true;
        return true;
    }
    if (t->touched) t->faulted++;
    if (++t->tries > TOUCH_TRIES)
        *rc = -EIO;
    else
        *rc = region_settle(region, t->from, t->to - t->from, t->size_seen, t->faulted > FINAL_TRY);
    return *rc == 0 || finish(t);
}

static int read_bytes(struct emmap_file *file, bool wait, uint64_t off, void *buf,
                      uint64_t len_bytes, uint64_t *got_bytes) {
    struct touch t = {.file = file, .wait = wait};
    int rc;
    do {
        rc = begin(&t, off, len_bytes, true);
        if (rc) continue;
        pm_read(buf, region_at(file->region, t.from), t.to - t.from);
        rc = end(&t);
    } while (again(&t, &rc));
    if (rc == 0) *got_bytes = t.to - t.from;
    return rc;
}

int emmap_file_read(struct emmap_file *file, uint64_t off, void *buf, uint64_t len_bytes,
                    uint64_t *got_bytes) {
    return read_bytes(file, true, off, buf, len_bytes, got_bytes);
}

int file_try_read(struct emmap_file *file, uint64_t off, void *buf, uint64_t len_bytes,
                  uint64_t *got_bytes) {
    return read_bytes(file, false, off, buf, len_bytes, got_bytes);
}

static int write_bytes(struct emmap_file *file, bool wait, uint64_t off, const void *data,
                       uint64_t len_bytes) {
    struct touch t = {.file = file, .wait = wait};
    int rc;
    do {
        rc = begin(&t, off, len_bytes, false);
        if (rc == 0 && !(file->flags & EMMAP_WRITE)) rc = -EACCES;
        if (rc) continue;
        if (len_bytes > 0) pm_copy(region_at(file->region, t.from), data, len_bytes);
        rc = end(&t);
    } while (again(&t, &rc));
    return rc;
}

int emmap_file_write(struct emmap_file *file, uint64_t off, const void *data, uint64_t len_bytes) {
    return write_bytes(file, true, off, data, len_bytes);
}

int file_try_write(struct emmap_file *file, uint64_t off, const void *data, uint64_t len_bytes) {
    return write_bytes(file, false, off, data, len_bytes);
}

static int find_pointer(struct emmap_file *file, bool wait, uint64_t off, uint64_t len_bytes,
                        const void **at, uint64_t *got_bytes) {
    struct touch t = {.file = file, .wait = wait};
    int rc;
    do
        rc = begin(&t, off, len_bytes, true);
    while (again(&t, &rc));
    if (rc) return rc;
    *at = region_at(file->region, t.from);
    *got_bytes = t.to - t.from;
    return 0;
}

int emmap_file_pointer(struct emmap_file *file, uint64_t off, uint64_t len_bytes, const void **at,
                       uint64_t *got_bytes) {
    return find_pointer(file, true, off, len_bytes, at, got_bytes);
}

int file_try_pointer(struct emmap_file *file, uint64_t off, uint64_t len_bytes, const void **at,
                     uint64_t *got_bytes) {
    return find_pointer(file, false, off, len_bytes, at, got_bytes);
}

/* Begins a call that uses the descriptor. */
static int pin_open(struct emmap_file *file) {
    if (atomic_load_explicit(&file->region->closed, memory_order_relaxed)) return EMMAP_E_CLOSED;
    return region_pin(file->region) ? 0 : EMMAP_E_CLOSED;
}

/* A hold is a pin and a ref of the region, under a name of its own. */
int emmap_file_hold(struct emmap_file *file, struct emmap_hold **hold) {
    const int rc = pin_open(file);
    if (rc) return rc;
    region_ref(file->region);
    atomic_fetch_add_explicit(&runtime_get()->holds, 1, memory_order_relaxed);
    *hold = (struct emmap_hold *)file->region;
    return 0;
}

void emmap_file_unhold(struct emmap_hold *hold) {
    struct emmap_region *region = (struct emmap_region *)hold;
    atomic_fetch_sub_explicit(&runtime_get()->holds, 1, memory_order_relaxed);
    region_unpin(region);
    region_unref(region);
}

/* ------------------------------------------------------------------------------- the size */

static uint64_t handle_bytes(const struct emmap_file *file, uint64_t file_bytes) {
    return file_bytes > file->off ? file_bytes - file->off : 0;
}

uint64_t emmap_file_size(const struct emmap_file *file) {
    return handle_bytes(file, atomic_load_explicit(file->region->size_bytes, memory_order_acquire));
}

static uint64_t grown(const struct emmap_file *file, uint64_t size_bytes) {
    const uint64_t inc = size_bytes < file->max_inc_bytes ? size_bytes : file->max_inc_bytes;
    return size_bytes + (inc > 0 ? inc : file->region->page_bytes);
}

/* Only what the handle's user was told of may be cut off: a wish above that is growth, and finds
 * itself fulfilled where somebody else has grown the file further. */
static int resize_file(struct emmap_file *file, uint64_t wanted, uint64_t *now) {
    struct emmap_region *region = file->region;
    struct inode *inode = region->inode;
    int rc = inode_lock(inode, region->fd);
    if (rc) return rc;
    uint64_t file_bytes;
    rc = inode_size(inode, region->fd, &file_bytes);
    const uint64_t told = atomic_load_explicit(&file->told_bytes, memory_order_relaxed);
    if (rc == 0 && wanted < file_bytes) {
        if (wanted >= told)
            wanted = file_bytes;
        else
            rc = inode_shrink(inode, region->fd, wanted);
    } else if (rc == 0 && wanted > file_bytes) {
        rc = wanted > region_limit(region) ? -ENOMEM
                                           : inode_grow(inode, region->fd, file_bytes, wanted,
                                                        (file->flags & EMMAP_SPARSE) != 0);
    }
    inode_unlock(inode, region->fd);
    if (rc == 0) *now = wanted;
    return rc;
}

static int resize_to(struct emmap_file *file, uint64_t wanted, uint64_t *now_bytes) {
    struct emmap_region *region = file->region;
    uint64_t now = wanted;
    int rc =
        region->shared ? resize_file(file, wanted, &now) : region_resize_private(region, wanted);
    if (rc == 0 && atomic_load_explicit(&region->closed, memory_order_relaxed)) rc = EMMAP_E_CLOSED;
    if (rc) return rc;
    atomic_store_explicit(&file->told_bytes, now, memory_order_relaxed);
    if (now_bytes) *now_bytes = handle_bytes(file, now);
    return 0;
}

static int may_resize(const struct emmap_file *file) {
    if (atomic_load_explicit(&file->region->closed, memory_order_relaxed)) return EMMAP_E_CLOSED;
    if (file->flags & EMMAP_FIXED_SIZE) return EMMAP_E_FIXED_SIZE;
    return file->flags & EMMAP_WRITE ? 0 : -EACCES;
}

int emmap_file_resize(struct emmap_file *file, uint64_t size_bytes, uint64_t *now_bytes) {
    int rc = may_resize(file);
    if (rc) return rc;
    if (size_bytes > INT64_MAX - file->off) return -EFBIG;
    if (!region_pin(file->region)) return EMMAP_E_CLOSED;
    rc = resize_to(file, file->off + size_bytes, now_bytes);
    region_unpin(file->region);
    return rc;
}

int emmap_file_grow(struct emmap_file *file, uint64_t *now_bytes) {
    const uint64_t told = handle_bytes(file, atomic_load(&file->told_bytes));
    return emmap_file_resize(file, grown(file, told), now_bytes);
}

/* -------------------------------------------------------------------------- durability */

/* The whole pages of a range that lie within both the file and the mapping. */
static uint64_t page_range(const struct emmap_region *region, uint64_t from, uint64_t to,
                           uint64_t *start) {
    const uint64_t page = region->page_bytes;
    const uint64_t limit = region_limit(region);
    const uint64_t stop = to < limit ? to : limit;
    *start = from / page * page;
    return stop > *start ? stop - *start : 0;
}

int emmap_file_flush(struct emmap_file *file) {
    int rc = pin_open(file);
    if (rc) return rc;
    struct emmap_region *region = file->region;
    if (region->shared) {
        uint64_t start;
        const uint64_t size = atomic_load_explicit(region->size_bytes, memory_order_acquire);
        const uint64_t len = page_range(region, file->off, size, &start);
        if (len > 0) rc = os_writeback(region->fd, region_at(region, start), start, len);
    }
    region_unpin(region);
    return rc;
}

static int sync_entry(struct emmap_file *file) {
    if (atomic_load_explicit(&file->entry_synced, memory_order_acquire)) return 0;
    const int rc = os_sync_parent(file->full_path);
    /* A directory that may not be read cannot be synced; one that is gone has no entry. */
    if (rc && rc != -EACCES && rc != -ENOENT) return rc;
    atomic_store_explicit(&file->entry_synced, true, memory_order_release);
    return 0;
}

/* A failed sync has told the kernel to forget the pages: a later one would find nothing to do and
 * succeed. So the failure stays, for all handles of the file. */
static int sync_result(struct inode *inode, int rc) {
    if (rc) {
        int none = 0;
        atomic_compare_exchange_strong(&inode->sync_error, &none, rc);
    }
    return atomic_load(&inode->sync_error) ? EMMAP_E_SYNC_FAILED : 0;
}

/* Where a fault has put zeros in place of the file's pages, a sync of the mapping would pass over
 * what is dirty of the file: then all of it is synced. */
static int sync_pages(struct emmap_region *region, uint64_t start, uint64_t len_bytes) {
    uint64_t seen;
    if (region_enter(region, start, len_bytes, &seen)) return os_sync(region->fd);
    const int rc = os_sync_range(region->fd, region_at(region, start), len_bytes);
    if (rc == 0 && region_leave(region, start, len_bytes, seen)) return os_sync(region->fd);
    return rc;
}

static int sync_pinned(struct emmap_file *file, uint64_t from, uint64_t to, bool whole) {
    struct emmap_region *region = file->region;
    uint64_t size, start;
    int rc = inode_refresh(region->inode, region->fd, true, &size);
    if (rc) return rc;
    if (whole) return os_sync(region->fd);
    const uint64_t len = page_range(region, from, to < size ? to : size, &start);
    return len > 0 ? sync_pages(region, start, len) : 0;
}

static int sync_file(struct emmap_file *file, uint64_t from, uint64_t to, bool whole) {
    int rc = pin_open(file);
    if (rc) return rc;
    struct emmap_region *region = file->region;
    if (region->shared) {
        rc = sync_pinned(file, from, to, whole);
        if (rc == 0) rc = sync_entry(file);
        rc = sync_result(region->inode, rc);
    }
    region_unpin(region);
    return rc;
}

int emmap_file_sync(struct emmap_file *file) {
    return sync_file(file, 0, 0, true);
}

int emmap_file_sync_range(struct emmap_file *file, uint64_t off, uint64_t len_bytes) {
    if (off > INT64_MAX - file->off || len_bytes > INT64_MAX) return -EINVAL;
    const uint64_t from = file->off + off;
    const uint64_t to = len_bytes > INT64_MAX - from ? INT64_MAX : from + len_bytes;
    return sync_file(file, from, to, false);
}

int emmap_file_sync_error(const struct emmap_file *file) {
    return atomic_load(&file->region->inode->sync_error);
}

/* ------------------------------------------------------------------------------ figures */

static int info_pinned(struct emmap_file *file, struct emmap_file_info *info) {
    struct emmap_region *region = file->region;
    struct os_stat st;
    struct os_fs fs;
    uint64_t size = atomic_load_explicit(region->size_bytes, memory_order_acquire);
    int rc = os_fstat(region->fd, &st);
    if (rc == 0) rc = os_fs(region->fd, &fs);
    if (rc == 0 && region->shared) rc = inode_refresh(region->inode, region->fd, true, &size);
    if (rc) return rc;
    atomic_store_explicit(&file->told_bytes, size, memory_order_relaxed);
    *info = (struct emmap_file_info){
        .size_bytes = handle_bytes(file, size),
        .off = file->off,
        .file_bytes = st.size_bytes,
        .allocated_bytes = st.allocated_bytes,
        .address_space_bytes = region_limit(region) - file->off,
        .page_bytes = region->page_bytes,
        .faults = region_fault_count(region),
        .flags = file->flags,
        .linked = st.links > 0,
        .sync_error = emmap_file_sync_error(file),
        .path = file->full_path,
    };
    if (st.allocated_bytes < st.size_bytes)
        info->space = EMMAP_SPACE_SPARSE;
    else
        info->space = fs.kind == OS_FS_LOCAL ? EMMAP_SPACE_RESERVED : EMMAP_SPACE_BEST_EFFORT;
    return 0;
}

int emmap_file_info(struct emmap_file *file, struct emmap_file_info *info) {
    int rc = pin_open(file);
    if (rc) return rc;
    rc = info_pinned(file, info);
    region_unpin(file->region);
    return rc;
}

void emmap_stats(struct emmap_stats *stats) {
    struct runtime *rt = runtime_get();
    *stats = (struct emmap_stats){
        .handles = atomic_load(&rt->handles),
        .regions = atomic_load(&rt->regions),
        .holds = atomic_load(&rt->holds),
        .faults = atomic_load(&rt->faults),
        .mapped_bytes = atomic_load(&rt->mapped_bytes),
    };
}
