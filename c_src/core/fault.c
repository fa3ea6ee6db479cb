/* fault.c -- a page that cannot be had becomes zeros and a mark, and the mark an error.
 *
 * The handler runs on the thread that touched the page, at any instruction of it, so it takes no
 * lock and allocates nothing. Its order is what everything rests on:
 *
 *   handler    note the range (MARKED), count the mark in fault_word, replace the pages, REPLACED
 *   a call     load fault_word (seen); look whether a present range meets its own; touch;
 *              load fault_word again: if it is what was seen, no page of the region has been
 *              replaced since, so the touch went to the file
 *   healing    (under the region's lock) HEALING, count the heal in fault_word, map the file back,
 *              FREE
 *
 * A touch that reached a replaced page comes after the mmap that replaced it, hence after its
 * mark: the call finds fault_word changed. It then looks for a range that meets its own. If a
 * heal was counted meanwhile, that range may be gone, and the call is done again.
 * Invariant: a replaced page lies within a range that is MARKED, REPLACED or HEALING. */
#include <errno.h>

#include "core/fence.h"
#include "core/region.h"
#include "emmap.h"
#include "os/os.h"

static const uint64_t MARK = 1ull << 40;
static const uint64_t HEAL = 1ull << 16;

static uint64_t heals_of(uint64_t word) {
    return (word >> 16) & 0xFFFFFF;
}

static uint64_t present_in(uint64_t word) {
    return word & 0xFFFF;
}

uint64_t region_fault_count(const struct emmap_region *region) {
    return atomic_load_explicit(&region->fault_word, memory_order_relaxed) >> 40;
}

bool region_has_faults(const struct emmap_region *region) {
    return present_in(atomic_load_explicit(&region->fault_word, memory_order_relaxed)) != 0;
}

/* --------------------------------------------------------------------------- the handler */

static bool map_zeros(const struct emmap_region *region, uint64_t off, uint64_t len_bytes) {
    void *got;
    return os_map(region_at(region, off), len_bytes, region->prot, OS_MAP_ANON | OS_MAP_FIXED, -1,
                  0, &got) == 0;
}

/* From a range that is FILLING. */
static bool replace(struct emmap_region *region, struct fault_range *range, enum fault_kind kind,
                    uint64_t off, uint64_t len_bytes) {
    atomic_store_explicit(&range->kind, kind, memory_order_relaxed);
    atomic_store_explicit(&range->off, off, memory_order_relaxed);
    atomic_store_explicit(&range->len_bytes, len_bytes, memory_order_relaxed);
    /* pairs with meets: acquire state */
    store_release(&range->state, FAULT_MARKED);
    /* pairs with region_leave: acquire fault_word */
    fetch_add_acq_rel(&region->fault_word, MARK + 1);
    const bool done = map_zeros(region, off, len_bytes);
    store_release(&range->state, done ? FAULT_REPLACED : FAULT_FREE);
    if (!done) fetch_sub_acq_rel(&region->fault_word, 1);
    return done;
}

static bool change(struct fault_range *range, uint32_t from, uint32_t to) {
    return atomic_compare_exchange_strong(&range->state, &from, to);
}

/* Replaces everything in one mapping, which needs no further entry in the kernel's table of maps.
 * true also while another thread is at it: the touch is then tried again. Where everything has
 * been replaced before and parts were mapped back since, it is replaced once more. */
static bool replace_all(struct emmap_region *region, uint64_t span) {
    struct fault_range *range = &region->faults[FAULT_RANGES];
    if (change(range, FAULT_FREE, FAULT_FILLING))
        return replace(region, range, FAULT_ALL, region->map_off, span);
    if (!change(range, FAULT_REPLACED, FAULT_MARKED)) return true;
    fetch_add_acq_rel(&region->fault_word, MARK);
    const bool done = map_zeros(region, region->map_off, span);
    store_release(&range->state, FAULT_REPLACED);
    return done;
}

/* Everything past the file's end; where that is more than the system grants (it may charge for
 * private memory that nobody touches), ever less of it from the place of the fault on. */
static bool replace_tail(struct emmap_region *region, struct fault_range *range, uint64_t end,
                         uint64_t at, uint64_t span) {
    const uint64_t page = region->page_bytes;
    if (replace(region, range, FAULT_TAIL, region->map_off + end, span - end)) return true;
    for (uint64_t len = span - at;; len = len / 2 / page * page) {
        if (len < page) len = page;
        if (change(range, FAULT_FREE, FAULT_FILLING) &&
            replace(region, range, FAULT_TAIL, region->map_off + at, len))
            return true;
        if (len == page) return false;
    }
}

bool region_on_fault(void *addr) {
    struct emmap_region *region = registry_find(addr);
    if (!region) return false;
    const uint64_t page = region->page_bytes;
    const uint64_t span = atomic_load_explicit(&region->file_span, memory_order_acquire);
    const uint64_t at = (uint64_t)((uint8_t *)addr - region->map) / page * page;
    if (at >= span) return false; /* memory of a private region's own */

    /* A descriptor that the background thread has just closed gives an error or another file's
     * size; then the region is closed, and nothing that is read from it counts. Without an answer
     * no more than the page is replaced. */
    const int fd = atomic_load_explicit(&region->fd, memory_order_relaxed);
    struct os_stat st;
    uint64_t end = span;
    if (os_fstat(fd, &st) == 0)
        end = st.size_bytes > region->map_off
                  ? (st.size_bytes - region->map_off + page - 1) / page * page
                  : 0;
    if (end > span) end = span;

    struct fault_range *range = NULL;
    for (unsigned i = 0; i < FAULT_RANGES && !range; i++)
        if (change(&region->faults[i], FAULT_FREE, FAULT_FILLING)) range = &region->faults[i];
    bool done = false;
    if (range && at >= end)
        done = replace_tail(region, range, end, at, span);
    else if (range)
        done = replace(region, range, FAULT_PAGE, region->map_off + at, page);
    if (!done) done = replace_all(region, span);
    if (done) atomic_fetch_add_explicit(&runtime_get()->faults, 1, memory_order_relaxed);
    return done;
}

/* ----------------------------------------------------------------------------- the calls */

/* A private region's memory behind the file is its own, whatever an old range says of it. */
static uint64_t span_limit(const struct emmap_region *region) {
    return region->map_off + atomic_load_explicit(&region->file_span, memory_order_acquire);
}

static bool meets(const struct emmap_region *region, const struct fault_range *range, uint64_t off,
                  uint64_t len_bytes) {
    /* pairs with replace: release state */
    const uint32_t state = atomic_load_explicit(&range->state, memory_order_acquire);
    if (state == FAULT_FREE || state == FAULT_FILLING) return false;
    const uint64_t from = atomic_load_explicit(&range->off, memory_order_relaxed);
    const uint64_t len = atomic_load_explicit(&range->len_bytes, memory_order_relaxed);
    const uint64_t limit = span_limit(region);
    const uint64_t to = from + len < limit ? from + len : limit;
    return off < to && from < off + len_bytes;
}

static bool meets_any(const struct emmap_region *region, uint64_t off, uint64_t len_bytes) {
    for (unsigned i = 0; i <= FAULT_RANGES; i++)
        if (meets(region, &region->faults[i], off, len_bytes)) return true;
    return false;
}

int region_enter(const struct emmap_region *region, uint64_t off, uint64_t len_bytes,
                 uint64_t *seen) {
    const uint64_t word = atomic_load_explicit(&region->fault_word, memory_order_acquire);
    if (atomic_load_explicit(&region->closed, memory_order_relaxed)) return EMMAP_E_CLOSED;
    *seen = word;
    if (present_in(word) != 0 && meets_any(region, off, len_bytes)) return REGION_TOUCHED;
    return 0;
}

int region_leave(const struct emmap_region *region, uint64_t off, uint64_t len_bytes,
                 uint64_t seen) {
    /* The loads of the touch before the loads of the marks. Stores need a full fence of the
     * caller's (an atomic instruction, the release of a lock): a store may otherwise be translated
     * after the loads below, to a page that was replaced in between. */
    fence(memory_order_acquire);
    if (atomic_load_explicit(&region->closed, memory_order_relaxed)) return EMMAP_E_CLOSED;
    uint64_t word = atomic_load_explicit(&region->fault_word, memory_order_acquire);
    while (word != seen) {
        if (heals_of(word) != heals_of(seen)) return REGION_AGAIN;
        if (meets_any(region, off, len_bytes)) return REGION_TOUCHED;
        /* Nothing was healed while the ranges were looked at: none was missed. */
        const uint64_t again = atomic_load_explicit(&region->fault_word, memory_order_acquire);
        if (again == word) break;
        word = again;
    }
    return 0;
}

/* ------------------------------------------------------------------------------- healing */

static int map_back(const struct emmap_region *region, uint64_t from, uint64_t len_bytes) {
    void *got;
    if (len_bytes == 0) return 0;
    const int rc = os_map(region_at(region, from), len_bytes, region->prot,
                          OS_MAP_FIXED | (region->map_flags & ~(unsigned)OS_MAP_AT) |
                              (region->shared ? OS_MAP_SHARED : 0u),
                          atomic_load(&region->fd), from, &got);
    if (rc == 0) (void)os_no_dump(got, len_bytes);
    return rc;
}

static int heal(struct emmap_region *region, struct fault_range *range) {
    if (!change(range, FAULT_REPLACED, FAULT_HEALING)) return 0; /* the handler is at it */
    const uint64_t from = atomic_load_explicit(&range->off, memory_order_relaxed);
    const uint64_t limit = span_limit(region);
    uint64_t len = atomic_load_explicit(&range->len_bytes, memory_order_relaxed);
    if (from + len > limit) len = from < limit ? limit - from : 0;
    fetch_add_acq_rel(&region->fault_word, HEAL);
    const int rc = map_back(region, from, len);
    store_release(&range->state, rc ? FAULT_REPLACED : FAULT_FREE);
    if (rc == 0) fetch_sub_acq_rel(&region->fault_word, 1);
    return rc;
}

/* Maps everything back, and with it what the other ranges had replaced: their places are free for
 * the faults to come. */
static int heal_all(struct emmap_region *region) {
    struct fault_range *all = &region->faults[FAULT_RANGES];
    if (!change(all, FAULT_REPLACED, FAULT_HEALING)) return 0;
    uint64_t healed = 1;
    bool ours[FAULT_RANGES];
    for (unsigned i = 0; i < FAULT_RANGES; i++) {
        ours[i] = change(&region->faults[i], FAULT_REPLACED, FAULT_HEALING);
        healed += ours[i];
    }
    fetch_add_acq_rel(&region->fault_word, HEAL);
    const int rc = map_back(region, region->map_off, span_limit(region) - region->map_off);
    const uint32_t state = rc ? FAULT_REPLACED : FAULT_FREE;
    for (unsigned i = 0; i < FAULT_RANGES; i++)
        if (ours[i]) store_release(&region->faults[i].state, state);
    store_release(&all->state, state);
    if (rc == 0) fetch_sub_acq_rel(&region->fault_word, healed);
    return rc;
}

/* A file system with less than this to give may have had nothing a moment ago. */
static const uint64_t FULL_BYTES = 1u << 20;

/* Why could this page not be had? Asked of the file system by taking the page's space; 0: it can
 * be had now. A private handle takes no space in the file. */
static int page_reason(struct emmap_region *region, uint64_t off, bool final) {
    const int fd = atomic_load(&region->fd);
    const int rc = region->shared ? os_allocate(fd, off, region->page_bytes) : -EOPNOTSUPP;
    if (rc && rc != -EOPNOTSUPP && rc != -EBADF) return rc; /* EBADF: open for reading only */
    struct os_fs fs;
    if (os_fs(fd, &fs)) return -EIO;
    if (rc && fs.free_bytes < region->page_bytes) return -ENOSPC;
    if (!final) return 0;
    return fs.free_bytes < FULL_BYTES ? -ENOSPC : -EIO;
}

static int settle_range(struct emmap_region *region, struct fault_range *range, uint64_t file_bytes,
                        bool final) {
    const uint64_t from = atomic_load_explicit(&range->off, memory_order_relaxed);
    if (atomic_load_explicit(&range->kind, memory_order_relaxed) == FAULT_TAIL)
        return from < file_bytes ? heal(region, range) : EMMAP_E_TRUNCATED;
    if (from >= file_bytes) return EMMAP_E_TRUNCATED;
    const int rc = page_reason(region, from, final);
    return rc ? rc : heal(region, range);
}

int region_settle(struct emmap_region *region, uint64_t off, uint64_t len_bytes, uint64_t size_seen,
                  bool final) {
    if (!region_pin(region)) return EMMAP_E_CLOSED;
    pthread_mutex_lock(&region->lock);
    const uint64_t known = atomic_load_explicit(region->size_bytes, memory_order_acquire);
    uint64_t file_bytes;
    int rc = inode_refresh(region->inode, atomic_load(&region->fd), true, &file_bytes);
    /* The size went down through a handle of this OS process after the caller looked: the caller
     * looks again, and finds its range cut or past the end. */
    const bool ours = region->shared && known < size_seen;
    /* All ranges are looked at, also after one that cannot be healed: what stays replaced without
     * need would keep its place from the faults to come. */
    int first = 0;
    for (unsigned i = 0; rc == 0 && i < FAULT_RANGES; i++) {
        if (!meets(region, &region->faults[i], off, len_bytes)) continue;
        const int why = settle_range(region, &region->faults[i], file_bytes, final);
        if (first == 0 && !(why == EMMAP_E_TRUNCATED && ours)) first = why;
    }
    if (rc == 0 && meets(region, &region->faults[FAULT_RANGES], off, len_bytes)) {
        /* A private region's own pages went with it: there is nothing to map back. */
        const int why = region->shared ? heal_all(region) : -EIO;
        if (first == 0) first = why;
    }
    pthread_mutex_unlock(&region->lock);
    region_unpin(region);
    return rc ? rc : first;
}
