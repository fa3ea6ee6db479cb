/* runtime.h -- what this OS process has once: the table of regions that the fault handler looks
 * into, the files that regions share, the background threads, and figures.
 *
 * It lives as long as the OS process. When a newer build of the library is loaded beside an older
 * one (a hot upgrade), the newer adopts the older's runtime, so that both see the same regions. */
#ifndef EMMAP_CORE_RUNTIME_H
#define EMMAP_CORE_RUNTIME_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/residency.h"
#include "emmap.h"

struct emmap_region;
struct figure_cell;
struct publisher;
struct inode;

/* Raised by every change of a struct that lives in or hangs from the runtime. */
enum { EMMAP_RUNTIME_ABI = 4 };

enum { REGISTRY_CHUNK = 256, REGISTRY_CHUNKS = 4096 };

/* One region's stretch of addresses, read by the fault handler without a lock: seq is odd while
 * the others change (a sequence lock; the writer holds the runtime's lock). */
struct registry_entry {
    _Atomic uint32_t seq;
    _Atomic uintptr_t start, end; /* end 0: free */
    _Atomic(struct emmap_region *) region;
};

struct pool_job {
    struct pool_job *next;
    void (*run)(struct pool_job *job);
};

enum { INODE_BUCKETS = 1024 };

struct runtime {
    uint32_t abi;
    size_t page_bytes;
    pthread_mutex_t lock; /* guards: ready, moments_pass, writes to the registry, inodes */
    bool ready, moments_pass;

    _Atomic(struct registry_entry *) registry[REGISTRY_CHUNKS];
    _Atomic uint32_t registry_used; /* chunks */
    uint32_t registry_free_hint;

    struct inode *inodes[INODE_BUCKETS];
    _Atomic uint64_t serial; /* of what has no inode number */
    _Atomic uint32_t region_serial;

    _Atomic(struct pool_job *) pool_jobs; /* the last one first; taken all at once */
    _Atomic uint64_t pool_pending;        /* jobs that have not ended */
    pthread_mutex_t pool_lock;            /* with pool_wake: there is a job, where there was none */
    pthread_cond_t pool_wake;

    _Atomic uint32_t moment; /* goes on while regions are open: see residency.h */
    pthread_mutex_t moment_lock;
    pthread_cond_t moment_wake; /* the first region is open */

    struct emmap_file *files; /* open handles; guarded by lock */

    struct emmap_queue *queues; /* open; guarded by lock */

    /* What the threads have counted (figures.h). They are added, and stay. */
    _Atomic(struct figure_cell *) cells;

    /* Figures that are published into a file (store/figures.c). */
    pthread_mutex_t publisher_lock;         /* of who changes the file; taken before publish_lock */
    _Atomic(struct publisher *) publisher;  /* written under publish_lock; NULL: they are not */
    pthread_mutex_t publish_lock;           /* held while they are; guards published */
    uint64_t published[EMMAP_FIGURE_COUNT]; /* so much of each is in a file */
    _Atomic uint64_t published_seconds;     /* Unix time of the last time; 0: never */
    struct pool_job publish_job;            /* of each moment; its run is set once */
    _Atomic bool publish_pending;           /* it is on its way */

    _Atomic uint64_t handles, regions, holds, faults, mapped_bytes;

    struct residency residency;
};

/* Changed only by runtime_adopt, while the library is being loaded and nobody else calls it. */
__attribute__((visibility("hidden"))) extern struct runtime *runtime_current;
static inline struct runtime *runtime_get(void) {
    return runtime_current;
}

/* runtime_ready -- the runtime with its handler and threads running, started at the first call. */
int runtime_ready(struct runtime **out);

/* runtime_adopt -- use the runtime of another copy of this library. false: another layout. */
bool runtime_adopt(struct runtime *other);

/* pool_run -- run the job on the background thread; the job's memory is its owner's. */
void pool_run(struct pool_job *job);

/* moments_begin -- the first region is open: the moments pass until none is. */
void moments_begin(void);

/* pool_wait -- until no job is left, a second at most. false: there was none to wait for. */
bool pool_wait(void);

int registry_add(struct emmap_region *region, void *start, size_t len_bytes,
                 struct registry_entry **out);
void registry_remove(struct registry_entry *entry);
/* registry_find -- async-signal-safe. NULL: the address is in no region. */
struct emmap_region *registry_find(const void *addr);

#endif
