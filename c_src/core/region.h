/* region.h -- a mapping that never moves, whose faults are errors, and that can be closed under
 * its users' feet.
 *
 * Places are byte offsets in the file. A region covers a stretch of addresses from map_off on; the
 * part of it that lies within the file's size may be touched, at once after the file has grown.
 *
 * Life:  open --unpin of the last pin--> retiring --background--> retired (zeros, no descriptor)
 *             --last ref--> freed (background)
 *
 *   pin   the descriptor and the file's pages stay. Held by the open handle, by each direct user,
 *         and by every call that uses the descriptor.
 *   ref   the addresses stay: a touch finds the file's pages or zeros. Held by whoever may be in
 *         a call, so that a read needs to write no count, and by all pins together.
 */
#ifndef EMMAP_CORE_REGION_H
#define EMMAP_CORE_REGION_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/fence.h"
#include "core/inode.h"
#include "core/runtime.h"

/* A range of a region that a fault has replaced by zeros.
 *
 *   FREE --handler--> FILLING --handler--> MARKED --mmap, handler--> REPLACED
 *                                             ^                          |  |
 *                                             +--- handler, FAULT_ALL ---+  heal
 *   FREE <--mmap, heal------------------------------------------ HEALING <--+
 */
enum fault_state { FAULT_FREE, FAULT_FILLING, FAULT_MARKED, FAULT_REPLACED, FAULT_HEALING };
enum fault_kind {
    FAULT_TAIL, /* past the file's end, up to the end of the mapping */
    FAULT_PAGE, /* within the file: no space, or a read error */
    FAULT_ALL,  /* there were more pages than places to note them; of a private region for good */
};
struct fault_range {
    _Atomic uint32_t state;
    _Atomic uint32_t kind;
    _Atomic uint64_t off, len_bytes; /* places in the file */
};
enum { FAULT_RANGES = 32 };

struct emmap_region {
    /* read by every call, written by none that only reads or writes bytes */
    uint8_t *map;
    uint64_t map_off, map_bytes;
    uint64_t page_bytes;
    _Atomic uint64_t *size_bytes; /* of the file, or a private region's own */
    _Atomic uint64_t fault_word;  /* marks:24 heals:24 present:16, see fault.c */
    _Atomic uint32_t closed;
    bool shared;
    unsigned prot, map_flags;
    _Atomic int fd; /* closed by the background thread, while a fault handler may look */
    struct inode *inode;
    uint32_t serial;            /* of the regions of this OS process, modulo 2^20 */
    bool asks_mincore;          /* which tells this OS process the truth of the file */
    bool size_waits;            /* to ask for the file's size may wait: for a network, a server */
    _Atomic uint64_t file_span; /* from map_off on, what maps the file; a private region has
                                   memory of its own behind. Written under lock. */

    /* the rest is for what is rare */
    _Alignas(64) _Atomic uint32_t pins;
    _Atomic uint32_t refs;
    pthread_mutex_t lock; /* healing; growth of a private region */
    struct registry_entry *entry;
    bool has_file; /* the descriptor is open and the inode entered; of the background thread */
    struct pool_job job;
    _Atomic uint64_t own_size;
    uint64_t private_end; /* of the bytes a private region ever had; under lock */
    struct fault_range faults[FAULT_RANGES + 1]; /* the last one is for FAULT_ALL */
};

struct region_options {
    uint64_t off;           /* first place that must be covered; any byte */
    uint64_t file_bytes;    /* the file's size as of now */
    uint64_t size_bytes;    /* of a private region: its own */
    uint64_t stretch_bytes; /* to reserve from off on; halved, down to size_bytes, where refused */
    bool shared, write;
    bool own;            /* the OS process owns the file, or may write it */
    bool size_waits;     /* see struct emmap_region */
    unsigned map_flags;  /* of enum os_map_flag, for the mapping of the file or the memory */
    void *address;       /* with OS_MAP_AT in map_flags */
    uint64_t page_bytes; /* 0: the system's */
};

/* region_open -- takes over fd and the caller's inode_enter with success. One pin, one ref. */
int region_open(int fd, struct inode *inode, const struct region_options *options,
                struct emmap_region **out);

bool region_pin(struct emmap_region *region); /* false: retiring */
void region_unpin(struct emmap_region *region);
void region_ref(struct emmap_region *region);
void region_unref(struct emmap_region *region);

static inline uint8_t *region_at(const struct emmap_region *region, uint64_t off) {
    return region->map + (off - region->map_off);
}

/* The first place past the region's addresses. */
static inline uint64_t region_limit(const struct emmap_region *region) {
    return region->map_off + region->map_bytes;
}

/* A touch of mapped bytes stands between these two:
 *
 *     rc = region_enter(region, off, len, &seen);      0 | CLOSED | REGION_TOUCHED
 *     ... bounds, load or store [off, off + len) ...
 *     rc = region_leave(region, off, len, seen);       0 | CLOSED | REGION_TOUCHED | REGION_AGAIN
 *
 * After REGION_TOUCHED region_settle tells what it was, or that it has passed; after
 * REGION_AGAIN it is not known whether the touch went to the file, so it is done again. */
enum { REGION_TOUCHED = 1, REGION_AGAIN = 2 };
int region_enter(const struct emmap_region *region, uint64_t off, uint64_t len_bytes,
                 uint64_t *seen);
int region_leave(const struct emmap_region *region, uint64_t off, uint64_t len_bytes,
                 uint64_t seen);

/* The usual case of both, for a call that has nothing to say but yes: the same loads, in line. */
static inline bool region_is_whole(const struct emmap_region *region, uint64_t *seen) {
    *seen = atomic_load_explicit(&region->fault_word, memory_order_acquire);
    return (*seen & 0xFFFF) == 0 && !atomic_load_explicit(&region->closed, memory_order_relaxed);
}

static inline bool region_was_whole(const struct emmap_region *region, uint64_t seen) {
    fence(memory_order_acquire);
    return !atomic_load_explicit(&region->closed, memory_order_relaxed) &&
           atomic_load_explicit(&region->fault_word, memory_order_acquire) == seen;
}

/* region_settle -- maps the file back into what faults replaced, where it can.
 *
 *   size_seen   the size that the caller found before its touch
 *   final       do not try again: a page that cannot be had is -EIO
 *
 * Returns  0 (do it again) | EMMAP_E_TRUNCATED | -ENOSPC, -EIO, ... | EMMAP_E_CLOSED
 * Faults   waits for the file system */
int region_settle(struct emmap_region *region, uint64_t off, uint64_t len_bytes, uint64_t size_seen,
                  bool final);

/* region_resize_private -- sets the size that a private region has of its own to *size_bytes; with
 * grow_only it stays as it is, and is told, where that is larger. */
int region_resize_private(struct emmap_region *region, bool grow_only, uint64_t *size_bytes);

/* The fault handler; async-signal-safe. */
bool region_on_fault(void *addr);
/* region_has_faults -- some page is replaced right now. */
bool region_has_faults(const struct emmap_region *region);
uint64_t region_fault_count(const struct emmap_region *region);

#endif
