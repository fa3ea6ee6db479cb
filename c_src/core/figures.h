/* figures.h -- what the library counts of itself (EMMAP_FIGURES in emmap.h).
 *
 * Each thread counts in a cell of its own, with plain stores: no call writes to memory that another
 * thread's calls write to. A cell whose thread has ended is the next new thread's, with what is in
 * it, so that there are never more than there were threads at once. What is rare is an atomic of the
 * runtime, and read from there. */
#ifndef EMMAP_CORE_FIGURES_H
#define EMMAP_CORE_FIGURES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/charge.h"
#include "core/fence.h"
#include "emmap.h"

/* A new version of the library adds up the cells of the one that it takes over from, so a new figure
 * is a new layout: raise EMMAP_RUNTIME_ABI, then this number. */
_Static_assert(EMMAP_FIGURE_COUNT == 22, "of EMMAP_RUNTIME_ABI 4");

struct figure_cell {
    _Alignas(64) struct figure_cell *next; /* set once */
    _Atomic bool taken;                    /* by a thread that lives */
    /* Written by that thread alone; the first six share the line. */
    _Atomic uint64_t n[EMMAP_FIGURE_COUNT];
};

/* NULL: there is no memory for one. A figure is lost then, no more. */
struct figure_cell *figures_new_cell(struct thread *own);

static inline struct figure_cell *figures_cell(struct thread *own) {
    return own->cell ? own->cell : figures_new_cell(own);
}

/* The only writer is this thread. */
static ALWAYS_INLINE void figures_count(struct figure_cell *cell, enum emmap_figure figure,
                                        uint64_t by) {
    const uint64_t before = atomic_load_explicit(&cell->n[figure], memory_order_relaxed);
    atomic_store_explicit(&cell->n[figure], before + by, memory_order_relaxed);
}

static inline void figures_add2(enum emmap_figure one, uint64_t by_one, enum emmap_figure other,
                                uint64_t by_other) {
    struct figure_cell *cell = figures_cell(own_thread());
    if (!cell) return;
    figures_count(cell, one, by_one);
    figures_count(cell, other, by_other);
}

static inline void figures_add_own(struct thread *own, enum emmap_figure figure, uint64_t by) {
    struct figure_cell *cell = figures_cell(own);
    if (cell) figures_count(cell, figure, by);
}

static inline void figures_add(enum emmap_figure figure, uint64_t by) {
    figures_add_own(own_thread(), figure, by);
}

/* A sync of a file, which took so long; rc: whether it failed. */
void figures_synced(uint64_t ns, int rc);

bool figures_is_gauge(enum emmap_figure figure);
/* As of now: out has EMMAP_FIGURE_COUNT of them. */
void figures_totals(uint64_t *out);

#endif
