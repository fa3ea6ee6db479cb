/* region.c -- reserving, mapping, pins and refs, unmapping in the background. */
#include "core/region.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "core/pm.h"
#include "emmap.h"
#include "os/os.h"

/* One munmap of a large dirty map keeps every other mmap of the OS process waiting. */
static const uint64_t UNMAP_STEP_BYTES = 16u << 20;

static uint64_t round_up(uint64_t bytes, uint64_t page) {
    return (bytes + page - 1) / page * page;
}

/* --------------------------------------------------------------------------------- open */

/* A shared region maps the file over the whole stretch: pages work as soon as the file has them.
 * A private one reserves the stretch, maps the file over its start, and adds memory of its own
 * behind when it grows. */
static int map_stretch(struct emmap_region *region, void *address, uint64_t stretch,
                       uint64_t file_span, uint64_t own_span) {
    const unsigned at = region->map_flags & OS_MAP_AT;
    const unsigned with = region->map_flags & ~at;
    void *map;
    int rc = 0;
    if (region->shared) {
        /* The kernel takes an address that must be free for a plain reservation only. */
        if (at) rc = os_map(address, stretch, OS_PROT_NONE, OS_MAP_ANON | at, -1, 0, &map);
        if (rc) return rc;
        rc = os_map(address, stretch, region->prot, OS_MAP_SHARED | with | (at ? OS_MAP_FIXED : 0u),
                    region->fd, region->map_off, &map);
        if (rc && at) (void)os_unmap(address, stretch);
        if (rc) return rc;
        file_span = stretch;
    } else if (with & OS_MAP_HUGETLB) {
        /* Cannot lie in a reservation of small pages: it is all there is. */
        rc = os_map(address, stretch, region->prot, OS_MAP_ANON | with | at, -1, 0, &map);
        if (rc) return rc;
    } else {
        rc = os_map(address, stretch, OS_PROT_NONE, OS_MAP_ANON | at, -1, 0, &map);
        if (rc) return rc;
        void *got;
        if (file_span > 0)
            rc = os_map(map, file_span, region->prot, OS_MAP_FIXED | with, region->fd,
                        region->map_off, &got);
        if (rc == 0 && own_span > file_span)
            rc = os_map((uint8_t *)map + file_span, own_span - file_span, region->prot,
                        OS_MAP_FIXED | OS_MAP_ANON | with, -1, 0, &got);
        if (rc) {
            (void)os_unmap(map, stretch);
            return rc;
        }
    }
    (void)os_no_dump(map, stretch); /* a core file without the data is a courtesy */
    region->map = map;
    region->map_bytes = stretch;
    atomic_init(&region->file_span, file_span);
    return 0;
}

static int map_largest(struct emmap_region *region, const struct region_options *options) {
    const uint64_t page = region->page_bytes;
    const uint64_t lead = options->off - region->map_off;
    const uint64_t need =
        lead + (options->size_bytes > options->off ? options->size_bytes - options->off : 0);
    uint64_t stretch = options->stretch_bytes;
    if (__builtin_add_overflow(stretch, lead + page - 1, &stretch) || stretch > INT64_MAX)
        stretch = INT64_MAX;
    const uint64_t most = (uint64_t)INT64_MAX - region->map_off; /* what a file offset can be */
    if (stretch > most) stretch = most;
    stretch = stretch / page * page;
    const uint64_t least = round_up(need > 0 ? need : 1, page);
    if (stretch < least) stretch = least;

    /* Of a private region's span, what lies past the file's end is not the file's. */
    uint64_t file_span = 0;
    if (options->file_bytes > region->map_off)
        file_span = round_up(options->file_bytes - region->map_off, page);
    if (file_span > least) file_span = least;

    for (;;) {
        const int rc = map_stretch(region, options->address, stretch, file_span, least);
        if ((rc != -ENOMEM && rc != -EOVERFLOW) || stretch == least) return rc;
        stretch = stretch / 2 / page * page;
        if (stretch < least) stretch = least;
    }
}

int region_open(int fd, struct inode *inode, const struct region_options *options,
                struct emmap_region **out) {
    struct runtime *rt = runtime_get();
    void *memory;
    if (posix_memalign(&memory, _Alignof(struct emmap_region), sizeof(struct emmap_region)))
        return -ENOMEM;
    struct emmap_region *region = memory;
    const uint64_t page = options->page_bytes ? options->page_bytes : rt->page_bytes;
    *region = (struct emmap_region){
        .page_bytes = page,
        .map_off = options->off / page * page,
        .map_flags = options->map_flags,
        .shared = options->shared,
        .prot = OS_PROT_READ | (options->write ? OS_PROT_WRITE : 0u),
        .fd = fd,
        .inode = inode,
        .has_file = true,
        .serial = atomic_fetch_add(&runtime_get()->region_serial, 1) % (1u << 20),
        .asks_mincore = options->own || options->write,
        .size_waits = options->size_waits,
        .pins = 1,
        .refs = 2, /* the caller's, and one for all pins together */
        .own_size = options->size_bytes,
    };
    region->size_bytes = options->shared ? &inode->size_bytes : &region->own_size;
    region->private_end = options->size_bytes;
    int rc = pthread_mutex_init(&region->lock, NULL);
    if (rc) {
        rc = -rc;
        goto free_region;
    }
    rc = map_largest(region, options);
    if (rc) goto destroy_lock;
    rc = registry_add(region, region->map, region->map_bytes, &region->entry);
    if (rc) goto unmap;
    if (atomic_fetch_add_explicit(&rt->regions, 1, memory_order_relaxed) == 0) moments_begin();
    atomic_fetch_add_explicit(&rt->mapped_bytes, region->map_bytes, memory_order_relaxed);
    *out = region;
    return 0;

unmap:
    (void)os_unmap(region->map, region->map_bytes);
destroy_lock:
    pthread_mutex_destroy(&region->lock);
free_region:
    free(region);
    return rc;
}

/* -------------------------------------------------------------------------- pins and refs */

bool region_pin(struct emmap_region *region) {
    uint32_t pins = atomic_load_explicit(&region->pins, memory_order_relaxed);
    while (pins > 0)
        if (atomic_compare_exchange_weak(&region->pins, &pins, pins + 1)) return true;
    return false;
}

void region_ref(struct emmap_region *region) {
    atomic_fetch_add_explicit(&region->refs, 1, memory_order_relaxed);
}

/* The bytes from the start that may have pages, so that taking them away takes long. */
static uint64_t used_bytes(const struct emmap_region *region) {
    const uint64_t end = region->shared
                             ? atomic_load_explicit(region->size_bytes, memory_order_relaxed)
                             : region->private_end;
    const uint64_t used = end > region->map_off ? end - region->map_off : 0;
    const uint64_t rounded = round_up(used, region->page_bytes);
    return rounded < region->map_bytes ? rounded : region->map_bytes;
}

static struct emmap_region *region_of(struct pool_job *job) {
    return (struct emmap_region *)(void *)((char *)job - offsetof(struct emmap_region, job));
}

static void close_file(struct emmap_region *region) {
    inode_leave(region->inode);
    const int fd = atomic_exchange(&region->fd, -1);
    if (fd >= 0) (void)os_close(fd);
    region->has_file = false;
}

/* Calls step for the used part of the region, a bounded piece at a time, then for the rest. */
static int in_steps(struct emmap_region *region,
                    int (*step)(struct emmap_region *, uint64_t from, uint64_t len_bytes)) {
    const uint64_t used = used_bytes(region);
    uint64_t done = 0;
    while (done < used) {
        const uint64_t left = used - done;
        const uint64_t len = left < UNMAP_STEP_BYTES ? left : UNMAP_STEP_BYTES;
        const int rc = step(region, done, len);
        if (rc) return rc;
        done += len;
    }
    return done < region->map_bytes ? step(region, done, region->map_bytes - done) : 0;
}

static int unmap_step(struct emmap_region *region, uint64_t from, uint64_t len_bytes) {
    (void)os_unmap(region->map + from, len_bytes);
    return 0;
}

static int zeros_step(struct emmap_region *region, uint64_t from, uint64_t len_bytes) {
    void *got;
    return os_map(region->map + from, len_bytes, region->prot, OS_MAP_ANON | OS_MAP_FIXED, -1, 0,
                  &got);
}

static void free_job(struct pool_job *job) {
    struct emmap_region *region = region_of(job);
    struct runtime *rt = runtime_get();
    registry_remove(region->entry);
    (void)in_steps(region, unmap_step);
    if (region->has_file) close_file(region);
    atomic_fetch_sub_explicit(&rt->mapped_bytes, region->map_bytes, memory_order_relaxed);
    inode_unref(region->inode);
    pthread_mutex_destroy(&region->lock);
    free(region);
    fetch_sub_release(&rt->regions, 1); /* last: it is all gone */
}

void region_unref(struct emmap_region *region) {
    if (fetch_sub_acq_rel(&region->refs, 1) != 1) return;
    region->job.run = free_job;
    pool_run(&region->job);
}

/* Zeros instead of the file's pages, since calls in flight may still touch them. Where the kernel
 * has no entry left for that, file and descriptor stay until the last ref. */
static void retire_job(struct pool_job *job) {
    struct emmap_region *region = region_of(job);
    const bool in_use = atomic_load_explicit(&region->refs, memory_order_acquire) > 1;
    if (!in_use || in_steps(region, zeros_step) == 0) close_file(region);
    region_unref(region);
}

void region_unpin(struct emmap_region *region) {
    if (fetch_sub_acq_rel(&region->pins, 1) != 1) return;
    region->job.run = retire_job;
    pool_run(&region->job);
}

/* --------------------------------------------------------------------- private growth */

/* Bytes that come back read as zeros, also those that the handle itself had cut off, and those
 * that others have since put behind the file's old end. */
int region_resize_private(struct emmap_region *region, bool grow_only, uint64_t *bytes) {
    const uint64_t page = region->page_bytes;
    uint64_t size_bytes = *bytes;
    if (size_bytes > region_limit(region)) return -ENOMEM;
    pthread_mutex_lock(&region->lock);
    const uint64_t before = atomic_load_explicit(&region->own_size, memory_order_relaxed);
    if (grow_only && size_bytes < before) size_bytes = before;
    int rc = 0;
    if (size_bytes > before) {
        const uint64_t tail = round_up(before - region->map_off, page) + region->map_off;
        const uint64_t end = round_up(size_bytes - region->map_off, page) + region->map_off;
        void *got;
        if (tail < end)
            rc = os_map(region_at(region, tail), end - tail, region->prot,
                        OS_MAP_ANON | OS_MAP_FIXED, -1, 0, &got);
        if (rc == 0 && tail < end) (void)os_no_dump(got, end - tail);
        if (rc == 0 && tail - region->map_off < atomic_load(&region->file_span))
            /* pairs with fault.c: acquire file_span */
            store_release(&region->file_span, tail - region->map_off);
        const uint64_t zero_to = size_bytes < tail ? size_bytes : tail;
        if (rc == 0 && before < zero_to) pm_zero(region_at(region, before), zero_to - before);
    }
    if (rc == 0) {
        if (size_bytes > region->private_end) region->private_end = size_bytes;
        store_release(&region->own_size, size_bytes);
        *bytes = size_bytes;
    }
    pthread_mutex_unlock(&region->lock);
    return rc;
}
