/* counters.h -- counters from within the library: what emmap.h leaves opaque. */
#ifndef EMMAP_STORE_COUNTERS_H
#define EMMAP_STORE_COUNTERS_H

#include "core/charge.h"
#include "core/hash.h"
#include "emmap.h"
#include "store/counters_layout.h"
#include "store/word.h"

struct counters_names;

struct emmap_counters {
    struct emmap_file *file;
    uint32_t flags; /* of enum emmap_counters_flag: as the file was made, and READ */
    bool is_simple, is_named;
    uint64_t data_off, stride;
    uint64_t flip;              /* value ^ flip is its key: unsigned, in the order of the values */
    _Atomic uint64_t count;     /* as last looked at; it only rises */
    _Atomic uint64_t ahead;     /* by how much the next raise goes on */
    _Atomic bool raising;       /* somebody who was not in need of it raises */
    struct hash_seed seed;      /* of the table of names */
    struct pool_job job;        /* of emmap_counters_free */
    pthread_mutex_t names_lock; /* of who reads further names */
    _Atomic(struct counters_names *) names; /* the last one, which has all; NULL: none */
};

/* What emmap.h has, with a choice: without wait -EAGAIN where the call would wait, and REGION_TOUCHED as
 * file_word; counters_reason says why then, and may wait. */
int counters_word(struct emmap_counters *counters, bool wait, uint64_t i, struct word_call *call);
int counters_allocate(struct emmap_counters *counters, bool wait, uint64_t i, uint64_t n,
                      int64_t *first);
int counters_reason(struct emmap_counters *counters, uint64_t i);
int counters_find(struct emmap_counters *counters, bool wait, const char *name, size_t len_bytes,
                  uint64_t *i);
/* As the file was made; of the flags of emmap.h those of a new file. */
uint32_t counters_flags(const struct emmap_counters *counters);
bool counters_is_closed(const struct emmap_counters *counters);

/* The word of the live page. */
#define COUNTERS_LIVE(member) \
    (COUNTERS_LIVE_OFF + offsetof(struct emmap_disk_counters_live, member))
static inline uint64_t counters_off(const struct emmap_counters *counters, uint64_t i) {
    return counters->data_off + i * counters->stride;
}
/* MAX and MIN are those of the file. */
static ALWAYS_INLINE enum emmap_fetch counters_fetch_of(const struct emmap_counters *counters,
                                                        enum emmap_fetch fetch) {
    if (!(counters->flags & EMMAP_COUNTERS_UNSIGNED)) return fetch;
    return fetch == EMMAP_MAX ? EMMAP_UMAX : fetch == EMMAP_MIN ? EMMAP_UMIN : fetch;
}

/* Each thread has a cell of its own, as long as there are enough. */
unsigned counters_new_thread(struct thread *own);
static ALWAYS_INLINE uint64_t counters_cell_off(struct thread *own) {
    const unsigned number = own->number ? own->number : counters_new_thread(own);
    return number % COUNTERS_CELLS * COUNTERS_LINE;
}

/* counters_word without wait, in line, of what may be changed in one word; false: begin at the beginning. The
 * answer to an add of striped counters has no old value. */
static ALWAYS_INLINE bool counters_word_quick(struct emmap_counters *counters, struct thread *own,
                                              uint64_t i, struct word_call *call, int *rc) {
    if (i >= atomic_load_explicit(&counters->count, memory_order_relaxed)) return false;
    uint64_t off = counters_off(counters, i);
    if (counters->flags & (EMMAP_COUNTERS_READ | EMMAP_COUNTERS_STRIPED)) {
        if (counters->flags & EMMAP_COUNTERS_READ) return false;
        if (call->op != WORD_FETCH || call->fetch > EMMAP_SUB) return false;
        off += counters_cell_off(own);
    }
    if (call->op == WORD_FETCH) call->fetch = counters_fetch_of(counters, call->fetch);
    return word_quick(counters->file, false, off, call, rc);
}

/* How numbers are asked for: low says how many are to be left over, so that who comes too near to the end raises
 * it while others go on. */
static ALWAYS_INLINE struct word_call counters_numbers(const struct emmap_counters *counters,
                                                       uint64_t n) {
    const bool raising = atomic_load_explicit(&counters->raising, memory_order_relaxed);
    const uint64_t ahead = atomic_load_explicit(&counters->ahead, memory_order_relaxed);
    return (struct word_call){.op = WORD_ALLOCATE,
                              .operand = (int64_t)n,
                              .flip = counters->flip,
                              .low = raising ? 0 : ahead / 2};
}

/* counters_allocate without wait, in line, where as many are ready; false: begin at the beginning. */
static ALWAYS_INLINE bool counters_allocate_quick(struct emmap_counters *counters, uint64_t i,
                                                  uint64_t n, int64_t *first, int *rc) {
    if (i >= atomic_load_explicit(&counters->count, memory_order_relaxed)) return false;
    if (counters->flags & (EMMAP_COUNTERS_READ | EMMAP_COUNTERS_STRIPED)) return false;
    if (counters->is_simple || file_sync_error(counters->file)) return false;
    struct word_call failure = {.op = WORD_LOAD};
    if (!word_quick(counters->file, false, COUNTERS_LIVE(sync_error), &failure, rc)) return false;
    struct word_call call = counters_numbers(counters, n);
    if (*rc || failure.old != 0) return false;
    if (!word_quick(counters->file, false, counters_off(counters, i), &call, rc)) return false;
    *first = call.old;
    return *rc || call.taken;
}
/* Of a place that counters have: is it past the end, others have cut the file. */
static inline int counters_cut(int rc) {
    return rc == EMMAP_E_PAST_END ? EMMAP_E_TRUNCATED : rc;
}
/* The count of the file; EMMAP_E_TRUNCATED: it has no room for so many. */
int counters_look(struct emmap_counters *counters, bool wait, uint64_t *count);

/* For what a sync has answered. The next opener must know of one that failed: the kernel tells it once, and has
 * forgotten what it could not write. */
int counters_note_failure(struct emmap_counters *counters, int rc);

/* counters_names.c */

/* Reads and checks the names of the counters below count that are not known yet. */
int counters_read_names(struct emmap_counters *counters, uint64_t count);
void counters_free_names(struct emmap_counters *counters);
/* Is it one that a counter may have: -EINVAL. */
int counters_check_names(const struct emmap_counter *names, uint64_t count);
void counters_make_name(struct emmap_disk_counter_name *out, uint64_t i,
                        const struct emmap_counter *from);
/* -EDOM: none is called so. Of the names that are known. */
int counters_known(const struct emmap_counters *counters, const char *name, size_t len_bytes,
                   uint64_t *i);

#endif
