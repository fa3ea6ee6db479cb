/* charge.h -- what this thread's calls have cost beside the bytes that they moved: questions to the
 * kernel, asked on the way. In bytes: as many as are moved in that time.
 *
 * Who asks adds to it; who charges the caller for its time (nif_work.c) takes it. */
#ifndef EMMAP_CORE_CHARGE_H
#define EMMAP_CORE_CHARGE_H

#include <stdint.h>

/* A look at a block's residency, with the fault that mostly follows it; and one at a file's size. */
enum { CHARGE_LOOK_BYTES = 4 << 10, CHARGE_SIZE_BYTES = 1 << 10 };

/* What a thread has of its own; in one place, since to find it costs a call. */
struct thread {
    uint64_t charge_bytes;
    struct figure_cell *cell; /* what it has counted (figures.h); NULL: nothing yet */
    /* nif_work.c's: work that is not charged yet; which kind of scheduler it is, 0: not asked yet. */
    uint64_t uncharged_bytes;
    unsigned scheduler;
    unsigned number; /* counters.c's: of those with a cell of striped counters, from 1; 0: none */
};
__attribute__((visibility("hidden"))) extern _Thread_local struct thread this_thread;

/* To find it costs a call: once is enough. */
static inline struct thread *own_thread(void) {
    struct thread *own = &this_thread;
    __asm__("" : "+r"(own));
    return own;
}

static inline void charge_add(uint64_t bytes) {
    this_thread.charge_bytes += bytes;
}

static inline uint64_t charge_take(struct thread *own) {
    const uint64_t bytes = own->charge_bytes;
    own->charge_bytes = 0;
    return bytes;
}

#endif
