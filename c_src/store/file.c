/* file.c -- the use of a mapped file: bytes, size, durability. */
#include "store/file.h"

#include <errno.h>
#include <stdlib.h>

#include "core/figures.h"
#include "core/pm.h"
#include "os/os.h"
#include "store/touch.h"

enum { GROW_TRIES = 64 };
/* A reader with the lock keeps the other readers from theirs: so it comes late to that. */
enum { WAITING_READS = 16 };

/* ---------------------------------------------------------------------------------- bytes */

/* Whole, as to the writes of this OS process: tried twice without a lock, then with the writers'.
 */
static int copy_out(struct touch *t, void *buf) {
    struct stripes *stripes = t->file->stripes;
    const uint8_t *from = region_at(t->file->region, t->from);
    const uint64_t len = t->to - t->from;
    if (!stripes) {
        pm_read(buf, from, len);
        return 0;
    }
    struct stripes_seen seen;
    const unsigned tries = t->wait ? WAITING_READS : 2;
    for (unsigned i = 0; i < tries; i++) {
        if (stripes_read_begin(stripes, t->from, len, &seen)) {
            pm_read(buf, from, len);
            if (stripes_read_end(stripes, &seen)) return 0;
        }
        os_pause(i);
    }
    if (!t->wait) return -EAGAIN;
    const uint32_t locked = stripes_lock(stripes, t->from, len, true);
    pm_read(buf, from, len);
    stripes_unlock(stripes, locked);
    return 0;
}

/* false: nothing is known, not even whether the bytes are whole. */
static bool read_quick(struct emmap_file *file, bool wait, uint64_t off, void *buf, uint64_t len) {
    struct quick q;
    uint64_t seen = 0;
    if (!touch_quick(file, wait, off, len, &q)) return false;
    const struct stripe *stripe = file->stripes ? stripe_of(file->stripes, q.from) : NULL;
    if (stripe && !stripe_read_begin(stripe, &seen)) return false;
    pm_read(buf, region_at(file->region, q.from), len);
    if (stripe && !stripe_read_end(stripe, seen)) return false;
    return region_was_whole(file->region, q.marks_seen);
}

int file_read(struct emmap_file *file, bool wait, uint64_t off, void *buf, uint64_t len_bytes,
              uint64_t *got_bytes) {
    if (read_quick(file, wait, off, buf, len_bytes)) {
        *got_bytes = len_bytes;
        return 0;
    }
    struct touch t = {.file = file, .wait = wait};
    int rc;
    do {
        rc = touch_begin(&t, off, len_bytes, true);
        if (rc == 0) rc = copy_out(&t, buf);
        if (rc == 0) rc = touch_end(&t);
    } while (touch_again(&t, &rc));
    if (rc == 0) *got_bytes = t.to - t.from;
    return rc;
}

int emmap_file_read(struct emmap_file *file, uint64_t off, void *buf, uint64_t len_bytes,
                    uint64_t *got_bytes) {
    return file_read(file, true, off, buf, len_bytes, got_bytes);
}

/* Who may wait for the disk does so before it keeps others from the stripes. */
static int copy_in(struct touch *t, const void *data) {
    struct stripes *stripes = t->file->stripes;
    uint8_t *to = region_at(t->file->region, t->from);
    const uint64_t len = t->to - t->from;
    if (len == 0) return 0;
    if (!stripes) {
        pm_copy(to, data, len);
        return 0;
    }
    if (t->wait) {
        file_touch_pages(t->file, t->from, t->to);
        pm_fence_atomic();
        const int rc = touch_end(t);
        if (rc) return rc;
    }
    const uint32_t locked = stripes_lock(stripes, t->from, len, t->wait);
    if (!locked) return -EAGAIN;
    pm_copy(to, data, len);
    stripes_unlock(stripes, locked);
    return 0;
}

/* Past the end: the file grows first, where the handle may do that; for no bytes it need not. */
static int make_room(struct emmap_file *file, bool wait, uint64_t off, uint64_t len_bytes) {
    if (!(file->flags & EMMAP_WRITE)) return -EACCES;
    if (!(file->flags & EMMAP_EXTEND)) return EMMAP_E_PAST_END;
    if (len_bytes == 0) return 0;
    if (len_bytes > INT64_MAX - off) return -EFBIG;
    return wait ? file_extend(file, off + len_bytes) : -EAGAIN;
}

/* false: not written, or perhaps not to the file. */
static bool write_quick(struct emmap_file *file, bool wait, uint64_t off, const void *data,
                        uint64_t len) {
    struct quick q;
    if (!(file->flags & EMMAP_WRITE) || !touch_quick(file, wait, off, len, &q)) return false;
    struct stripe *stripe = file->stripes ? stripe_of(file->stripes, q.from) : NULL;
    if (stripe && wait) { /* as copy_in */
        file_touch_pages(file, q.from, q.from + len);
        pm_fence_atomic();
        if (!region_was_whole(file->region, q.marks_seen)) return false;
    }
    if (stripe && !stripe_try_lock(stripe)) return false;
    pm_copy(region_at(file->region, q.from), data, len);
    if (stripe) stripe_unlock(stripe);
    pm_fence();
    return region_was_whole(file->region, q.marks_seen);
}

/* Others may shrink the file again before it is touched, but not for ever. */
static int begin_write(struct touch *t, uint64_t off, uint64_t len_bytes) {
    for (int i = 0; i < GROW_TRIES; i++) {
        int rc = touch_begin(t, off, len_bytes, false);
        if (rc != EMMAP_E_PAST_END) return rc;
        (void)touch_finish(t);
        rc = make_room(t->file, t->wait, off, len_bytes);
        if (rc) return rc;
    }
    return EMMAP_E_BUSY;
}

int file_write(struct emmap_file *file, bool wait, uint64_t off, const void *data,
               uint64_t len_bytes) {
    if (write_quick(file, wait, off, data, len_bytes)) return 0;
    if (len_bytes == 0 && (file->flags & EMMAP_EXTEND) && off > emmap_file_size(file))
        return touch_nothing(file, off); /* as a raw file: nothing is written, nothing grows */
    struct touch t = {.file = file, .wait = wait};
    int rc;
    do {
        rc = begin_write(&t, off, len_bytes);
        if (rc == 0 && !(file->flags & EMMAP_WRITE)) rc = -EACCES;
        if (rc == 0) rc = copy_in(&t, data);
        pm_fence();
        if (rc == 0) rc = touch_end(&t);
    } while (touch_again(&t, &rc));
    return rc;
}

int emmap_file_write(struct emmap_file *file, uint64_t off, const void *data, uint64_t len_bytes) {
    return file_write(file, true, off, data, len_bytes);
}

/* A truncation takes the end: what is to be handed out is there if its last byte is. */
static bool pointer_quick(struct emmap_file *file, bool wait, uint64_t off, uint64_t len) {
    struct quick q;
    uint8_t last;
    if (!touch_quick(file, wait, off, len, &q)) return false;
    pm_read(&last, region_at(file->region, q.from + len - 1), 1);
    return region_was_whole(file->region, q.marks_seen);
}

int file_pointer(struct emmap_file *file, bool wait, uint64_t off, uint64_t len_bytes,
                 const void **at, uint64_t *got_bytes) {
    if (pointer_quick(file, wait, off, len_bytes)) {
        *at = region_at(file->region, file->off + off);
        *got_bytes = len_bytes;
        return 0;
    }
    struct touch t = {.file = file, .wait = wait, .last_only = true};
    int rc;
    do {
        rc = touch_begin(&t, off, len_bytes, true);
        if (rc) continue;
        uint8_t last;
        if (t.to > t.from) pm_read(&last, region_at(file->region, t.to - 1), 1);
        rc = touch_end(&t);
    } while (touch_again(&t, &rc));
    if (rc) return rc;
    *at = region_at(file->region, t.from);
    *got_bytes = t.to - t.from;
    return 0;
}

int emmap_file_pointer(struct emmap_file *file, uint64_t off, uint64_t len_bytes, const void **at,
                       uint64_t *got_bytes) {
    return file_pointer(file, true, off, len_bytes, at, got_bytes);
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

/* fsync of the file itself makes the name durable too on the usual file systems; the folder's says
 * so on all. A file that was there already may have been made a moment ago, by one who has not synced the folder
 * yet, or was killed before that. One that may not be read cannot be synced, nor one of some file systems (EINVAL); one that was renamed or deleted is
 * not found, and is looked for again. */
static int sync_entry(struct emmap_file *file) {
    if (atomic_load_explicit(&file->entry_synced, memory_order_acquire)) return 0;
    char *path;
    int rc = file_real_path(file->full_path, &path);
    if (rc == 0) {
        rc = PM_SYNC(os_sync_parent(path));
        free(path);
    }
    if (rc == -ENOENT || rc == -ENOTDIR) return 0;
    if (rc && rc != -EACCES && rc != -EINVAL) return rc;
    store_release(&file->entry_synced, true);
    return 0;
}

/* A failed sync has told the kernel to forget the pages: a later one would find nothing to do and
 * succeed. So the failure stays, for all handles of the file. */
static int sync_result(struct inode *inode, int rc) {
    if (rc) {
        int none = 0;
        atomic_compare_exchange_strong(&inode->sync_error, &none, rc);
        atomic_store(&inode->sync_untold, true);
    }
    return atomic_load(&inode->sync_error) ? EMMAP_E_SYNC_FAILED : 0;
}

/* The range by its mapping, or the file by its descriptor: where faults have replaced pages, what
 * others have written to the file is not in this mapping. */
static int sync_data(struct emmap_region *region, uint64_t from, uint64_t to, bool whole) {
    uint64_t start;
    const uint64_t len = page_range(region, from, to, &start);
    void *at = len > 0 ? region_at(region, start) : NULL;
    if (whole) return PM_SYNC(os_sync(region->fd, at, len));
    if (len == 0) return 0;
    const uint64_t faults = region_fault_count(region);
    if (region_has_faults(region)) return PM_SYNC(os_sync(region->fd, at, len));
    const int rc = PM_SYNC(os_sync_range(region->fd, at, start, len));
    if (rc || region_fault_count(region) == faults) return rc;
    return PM_SYNC(os_sync(region->fd, at, len));
}

static int sync_counted(struct emmap_region *region, uint64_t from, uint64_t to, bool whole) {
    const uint64_t since_ns = os_now_ns();
    const int rc = sync_data(region, from, to, whole);
    figures_synced(os_now_ns() - since_ns, rc);
    return rc;
}

static int sync_file(struct emmap_file *file, uint64_t from, uint64_t to, bool whole) {
    int rc = pin_open(file);
    if (rc) return rc;
    struct emmap_region *region = file->region;
    uint64_t size;
    if (region->shared) {
        rc = inode_refresh(region->inode, region->fd, true, &size);
        if (rc == 0)
            rc = sync_result(region->inode,
                             sync_counted(region, from, to < size ? to : size, whole));
        if (rc == 0) rc = sync_entry(file);
    }
    region_unpin(region);
    return rc;
}

int emmap_file_sync(struct emmap_file *file) {
    return sync_file(file, file->off, UINT64_MAX, true);
}

int emmap_file_sync_range(struct emmap_file *file, uint64_t off, uint64_t len_bytes) {
    if (off > INT64_MAX - file->off || len_bytes > INT64_MAX) return -EINVAL;
    const uint64_t from = file->off + off;
    const uint64_t to = len_bytes > INT64_MAX - from ? INT64_MAX : from + len_bytes;
    return sync_file(file, from, to, false);
}

void file_forget_sync_error(struct emmap_file *file) {
    atomic_store(&file->region->inode->sync_error, 0);
}

int emmap_file_sync_error(const struct emmap_file *file) {
    return file_sync_error(file);
}

/* ------------------------------------------------------------------------------ figures */

/* Under the name that it was opened by. Where nobody may look there, any name will do. */
static bool has_its_name(const struct emmap_file *file, const struct os_stat *own) {
    struct os_stat there;
    const int rc = own->links == 0 ? -ENOENT : os_stat(file->full_path, &there);
    if (rc == 0) return there.dev == own->dev && there.ino == own->ino;
    return rc != -ENOENT && rc != -ENOTDIR;
}

static int info_pinned(struct emmap_file *file, struct emmap_file_info *info) {
    struct emmap_region *region = file->region;
    struct os_stat st = {0};
    struct os_fs fs = {.kind = OS_FS_LOCAL};
    const bool named = !(file->flags & EMMAP_ANON);
    uint64_t size = atomic_load_explicit(region->size_bytes, memory_order_acquire);
    int rc = named ? os_fstat(region->fd, &st) : 0;
    if (rc == 0 && named) rc = os_fs(region->fd, &fs);
    if (rc == 0 && region->shared) rc = inode_refresh(region->inode, region->fd, true, &size);
    if (rc) return rc;
    atomic_store_explicit(&file->told_bytes, size, memory_order_relaxed);
    *info = (struct emmap_file_info){
        .size_bytes = file_handle_bytes(file, size),
        .off = file->off,
        .file_bytes = st.size_bytes,
        .allocated_bytes = st.allocated_bytes,
        .address_space_bytes = region_limit(region) - file->off,
        .page_bytes = region->page_bytes,
        .faults = region_fault_count(region),
        .flags = file->flags,
        .linked = !named || has_its_name(file, &st),
        .sync_error = emmap_file_sync_error(file),
        .path = named ? file->full_path : "",
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
