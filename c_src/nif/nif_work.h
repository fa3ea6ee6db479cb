/* nif_work.h -- nif_worked where it is the usual: in line. */
#ifndef EMMAP_NIF_WORK_H
#define EMMAP_NIF_WORK_H

#include "core/charge.h"
#include "core/fence.h"
#include "core/figures.h"
#include "nif/nif.h"

/* A call costs about as much as copying this many bytes; and a hundredth of a timeslice, 10 us, is
 * what copying that many costs where no cache has them and each page is touched for the first
 * time. */
enum { CALL_BYTES = 192, PERCENT_BYTES = 16 << 10 };

/* Of a thread it is the same as long as it lives; to ask takes longer than to remember. */
enum { SCHEDULER_UNKNOWN, SCHEDULER_NORMAL, SCHEDULER_DIRTY };

/* Of a call that asked nobody anything. */
static ALWAYS_INLINE void nif_worked_quick(ErlNifEnv *env, struct thread *own, uint64_t bytes) {
    const uint64_t uncharged = own->uncharged_bytes + bytes + CALL_BYTES;
    struct figure_cell *cell = own->cell;
    if (!cell || own->scheduler != SCHEDULER_NORMAL || uncharged >= PERCENT_BYTES) {
        nif_worked(env, bytes);
        return;
    }
    own->uncharged_bytes = uncharged;
    figures_count(cell, EMMAP_FIGURE_NORMAL_CALLS, 1);
    figures_count(cell, EMMAP_FIGURE_NORMAL_BYTES, bytes);
}

#endif
