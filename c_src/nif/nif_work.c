/* nif_work.c -- what calls cost: charged to the caller's timeslice, and counted by the kind of
 * scheduler that ran them (core/figures.h). */
#include "nif/nif_work.h"

static unsigned scheduler_of(struct thread *own) {
    if (own->scheduler == SCHEDULER_UNKNOWN)
        own->scheduler =
            enif_thread_type() == ERL_NIF_THR_NORMAL_SCHEDULER ? SCHEDULER_NORMAL : SCHEDULER_DIRTY;
    return own->scheduler;
}

static void charge(ErlNifEnv *env, struct thread *own, uint64_t bytes) {
    const uint64_t asked = charge_take(own);
    if (scheduler_of(own) == SCHEDULER_DIRTY) return;
    own->uncharged_bytes += bytes + asked + CALL_BYTES;
    if (own->uncharged_bytes < PERCENT_BYTES) return;
    const uint64_t percent = own->uncharged_bytes / PERCENT_BYTES;
    own->uncharged_bytes %= PERCENT_BYTES;
    (void)enif_consume_timeslice(env, percent < 100 ? (int)percent : 100);
}

void nif_worked(ErlNifEnv *env, uint64_t bytes) {
    struct thread *own = own_thread();
    struct figure_cell *cell = figures_cell(own);
    const bool normal = scheduler_of(own) == SCHEDULER_NORMAL;
    if (cell) {
        figures_count(cell, normal ? EMMAP_FIGURE_NORMAL_CALLS : EMMAP_FIGURE_DIRTY_CALLS, 1);
        figures_count(cell, normal ? EMMAP_FIGURE_NORMAL_BYTES : EMMAP_FIGURE_DIRTY_BYTES, bytes);
    }
    charge(env, own, bytes);
}

void nif_tried(ErlNifEnv *env) {
    charge(env, own_thread(), 0);
}
