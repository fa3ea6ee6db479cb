/* figures.c -- the threads' cells, and what they sum up to. */
#include "core/figures.h"

#include <pthread.h>
#include <stdlib.h>

#include "core/fence.h"
#include "core/runtime.h"

enum { NS_PER_MS = 1000000 };

static pthread_key_t end_key;
static bool has_end_key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* The thread ends. A destructor of somebody else's that still calls the library takes a cell anew. */
static void give_back(void *object) {
    struct figure_cell *cell = object;
    this_thread.cell = NULL;
    /* pairs with take: acquire taken */
    store_release(&cell->taken, false);
}

static void make_key(void) {
    has_end_key = pthread_key_create(&end_key, give_back) == 0;
}

static bool take(struct figure_cell *cell) {
    bool free = false;
    return !atomic_load_explicit(&cell->taken, memory_order_relaxed) &&
           atomic_compare_exchange_strong_explicit(&cell->taken, &free, true, memory_order_acquire,
                                                   memory_order_relaxed);
}

static struct figure_cell *find_free(const struct runtime *rt) {
    struct figure_cell *cell = atomic_load_explicit(&rt->cells, memory_order_acquire);
    while (cell && !take(cell))
        cell = cell->next;
    return cell;
}

static struct figure_cell *make_cell(struct runtime *rt) {
    void *memory;
    if (posix_memalign(&memory, _Alignof(struct figure_cell), sizeof(struct figure_cell)))
        return NULL;
    struct figure_cell *cell = memory;
    *cell = (struct figure_cell){.taken = true};
    struct figure_cell *before = atomic_load_explicit(&rt->cells, memory_order_relaxed);
    do
        cell->next = before;
    /* pairs with find_free, figures_totals: acquire cells */
    while (!cas_weak_release(&rt->cells, &before, cell));
    return cell;
}

/* Without a key to be told of the thread's end by, the cell stays its own. */
struct figure_cell *figures_new_cell(struct thread *own) {
    struct runtime *rt = runtime_get();
    (void)pthread_once(&once, make_key);
    struct figure_cell *cell = find_free(rt);
    if (!cell) cell = make_cell(rt);
    if (cell && has_end_key) (void)pthread_setspecific(end_key, cell);
    own->cell = cell;
    return cell;
}

void figures_synced(uint64_t ns, int rc) {
    struct figure_cell *cell = figures_cell(own_thread());
    if (!cell) return;
    _Atomic uint64_t *longest = &cell->n[EMMAP_FIGURE_LONGEST_SYNC_NS];
    figures_count(cell, EMMAP_FIGURE_SYNCS, 1);
    figures_count(cell, EMMAP_FIGURE_SYNC_NS, ns);
    if (rc) figures_count(cell, EMMAP_FIGURE_SYNC_FAILURES, 1);
    if (ns <= 1 * NS_PER_MS) figures_count(cell, EMMAP_FIGURE_SYNCS_1MS, 1);
    if (ns <= 10 * NS_PER_MS) figures_count(cell, EMMAP_FIGURE_SYNCS_10MS, 1);
    if (ns <= 100 * NS_PER_MS) figures_count(cell, EMMAP_FIGURE_SYNCS_100MS, 1);
    if (ns > atomic_load_explicit(longest, memory_order_relaxed))
        atomic_store_explicit(longest, ns, memory_order_relaxed);
}

bool figures_is_gauge(enum emmap_figure figure) {
    static const enum emmap_counter_type types[] = {
#define TYPE_OF(id, name, type, unit, help) EMMAP_##type,
        EMMAP_FIGURES(TYPE_OF)
#undef TYPE_OF
    };
    return types[figure] == EMMAP_GAUGE;
}

/* Of the cells' gauge, the longest sync, the largest one counts. */
static void add_cell(const struct figure_cell *cell, uint64_t *out) {
    for (unsigned i = 0; i < EMMAP_FIGURE_COUNT; i++) {
        const uint64_t n = atomic_load_explicit(&cell->n[i], memory_order_relaxed);
        if (!figures_is_gauge(i))
            out[i] += n;
        else if (n > out[i])
            out[i] = n;
    }
}

void figures_totals(uint64_t *out) {
    const struct runtime *rt = runtime_get();
    for (unsigned i = 0; i < EMMAP_FIGURE_COUNT; i++)
        out[i] = 0;
    const struct figure_cell *cell = atomic_load_explicit(&rt->cells, memory_order_acquire);
    for (; cell; cell = cell->next)
        add_cell(cell, out);
    out[EMMAP_FIGURE_HANDLES] = atomic_load(&rt->handles);
    out[EMMAP_FIGURE_REGIONS] = atomic_load(&rt->regions);
    out[EMMAP_FIGURE_HOLDS] = atomic_load(&rt->holds);
    out[EMMAP_FIGURE_FAULTS] = atomic_load(&rt->faults);
    out[EMMAP_FIGURE_MAPPED_BYTES] = atomic_load(&rt->mapped_bytes);
    out[EMMAP_FIGURE_PUBLISHED_SECONDS] = atomic_load(&rt->published_seconds);
}

void emmap_stats(struct emmap_stats *stats) {
    uint64_t totals[EMMAP_FIGURE_COUNT];
    figures_totals(totals);
    *stats = (struct emmap_stats){
#define FIELD_OF(id, name, type, unit, help) .name = totals[EMMAP_FIGURE_##id],
        EMMAP_FIGURES(FIELD_OF)
#undef FIELD_OF
    };
}
