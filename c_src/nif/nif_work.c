/* nif_work.c -- what calls cost: charged to the caller's timeslice, and counted by the kind of
 * scheduler that ran them.
 *
 * Each thread counts in a cell of its own, which lives as long as the OS process: no call writes to
 * memory that another thread's calls write to. */
#include <stdatomic.h>
#include <stdlib.h>

#include "core/charge.h"
#include "core/fence.h"
#include "core/runtime.h"
#include "nif/nif.h"

struct nif_cell {
    _Alignas(64) struct nif_cell *next; /* set once */
    _Atomic uint64_t calls[NIF_CLASSES], bytes[NIF_CLASSES];
    uint64_t uncharged;   /* work of this thread, in bytes copied */
    enum nif_class class; /* of this thread, as long as it lives */
};

/* A call costs about as much as copying this many bytes; and a hundredth of a timeslice, 10 us, is
 * what copying that many costs where no cache has them and each page is touched for the first
 * time. */
enum { CALL_BYTES = 192, PERCENT_BYTES = 16 << 10 };

static bool new_cell(struct thread *own) {
    void *memory;
    if (posix_memalign(&memory, _Alignof(struct nif_cell), sizeof(struct nif_cell))) return false;
    struct nif_cell *cell = memory;
    *cell = (struct nif_cell){
        .class = enif_thread_type() == ERL_NIF_THR_NORMAL_SCHEDULER ? NIF_NORMAL : NIF_DIRTY,
    };
    struct runtime *rt = runtime_get();
    struct nif_cell *before = atomic_load_explicit(&rt->cells, memory_order_relaxed);
    do
        cell->next = before;
    /* pairs with nif_work_totals: acquire cells */
    while (!cas_weak_release(&rt->cells, &before, cell));
    own->cell = cell;
    return true;
}

/* The only writer is this thread. */
static void add(_Atomic uint64_t *counter, uint64_t by) {
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by,
                          memory_order_relaxed);
}

static void charge(ErlNifEnv *env, struct thread *own, uint64_t bytes) {
    struct nif_cell *cell = own->cell;
    const uint64_t asked = charge_take(own);
    if (cell->class == NIF_DIRTY) return;
    cell->uncharged += bytes + asked + CALL_BYTES;
    if (cell->uncharged < PERCENT_BYTES) return;
    const uint64_t percent = cell->uncharged / PERCENT_BYTES;
    cell->uncharged %= PERCENT_BYTES;
    (void)enif_consume_timeslice(env, percent < 100 ? (int)percent : 100);
}

void nif_worked(ErlNifEnv *env, uint64_t bytes) {
    struct thread *own = &this_thread;
    if (!own->cell && !new_cell(own)) return; /* a figure is lost, no more */
    struct nif_cell *cell = own->cell;
    add(&cell->calls[cell->class], 1);
    add(&cell->bytes[cell->class], bytes);
    charge(env, own, bytes);
}

void nif_tried(ErlNifEnv *env) {
    struct thread *own = &this_thread;
    if (own->cell || new_cell(own)) charge(env, own, 0);
}

struct nif_totals nif_work_totals(void) {
    struct nif_totals totals = {{0}, {0}};
    const struct runtime *rt = runtime_get();
    const struct nif_cell *cell = atomic_load_explicit(&rt->cells, memory_order_acquire);
    for (; cell; cell = cell->next)
        for (int i = 0; i < NIF_CLASSES; i++) {
            totals.calls[i] += atomic_load_explicit(&cell->calls[i], memory_order_relaxed);
            totals.bytes[i] += atomic_load_explicit(&cell->bytes[i], memory_order_relaxed);
        }
    return totals;
}
