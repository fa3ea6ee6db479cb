/* stripes.h -- a read sees each write whole: sequence locks over stripes of a file.
 *
 * A stripe is 64 KiB of the file; STRIPES locks serve all of them, by number modulo STRIPES. A lock
 * is one word: even, nobody writes; odd, somebody does. A writer makes it odd (so it is the
 * writers' lock as well), stores, and makes it the next even number. A reader takes no lock and
 * writes nothing: it copies, and looks whether a word has changed. A range takes its stripes in the
 * order of their locks, so that two ranges cannot wait for each other.
 *
 * Source: the sequence lock of Lamport (Concurrent reading and writing, 1977), with the fences of
 * Boehm (Can seqlocks get along with programming language memory models?, 2012). */
#ifndef EMMAP_CORE_STRIPES_H
#define EMMAP_CORE_STRIPES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/fence.h"

enum { STRIPES = 16, STRIPE_SHIFT = 16 };

struct stripe {
    _Alignas(64) _Atomic uint64_t seq; /* written by who makes it odd */
};

struct stripes {
    struct stripe stripe[STRIPES];
};

int stripes_new(struct stripes **out);
void stripes_free(struct stripes *stripes);

/* What a reader found before its copy. */
struct stripes_seen {
    uint32_t mask;
    uint64_t seq[STRIPES]; /* of those in mask */
};

/* stripes_read_begin -- false: a write is under way. */
bool stripes_read_begin(const struct stripes *stripes, uint64_t off, uint64_t len_bytes,
                        struct stripes_seen *seen);
/* stripes_read_end -- true: no write was, so that what was copied in between is whole. */
bool stripes_read_end(const struct stripes *stripes, const struct stripes_seen *seen);

/* stripes_lock -- exclude writers of the range, and make readers try again; returns its mask for
 * stripes_unlock, 0 when it would have to wait and wait is false. */
uint32_t stripes_lock(struct stripes *stripes, uint64_t off, uint64_t len_bytes, bool wait);
void stripes_unlock(struct stripes *stripes, uint32_t mask);

/* The same for a range within one stripe, without the loops. */
static inline struct stripe *stripe_of(struct stripes *stripes, uint64_t off) {
    return &stripes->stripe[(off >> STRIPE_SHIFT) % STRIPES];
}

static inline bool stripe_read_begin(const struct stripe *stripe, uint64_t *seen) {
    /* pairs with stripe_unlock: release seq */
    *seen = atomic_load_explicit(&stripe->seq, memory_order_acquire);
    return *seen % 2 == 0;
}

static inline bool stripe_read_end(const struct stripe *stripe, uint64_t seen) {
    /* The copy's loads before this one; pairs with stripe_try_lock's release fence. */
    fence(memory_order_acquire);
    return atomic_load_explicit(&stripe->seq, memory_order_relaxed) == seen;
}

static inline bool stripe_try_lock(struct stripe *stripe) {
    uint64_t seq = atomic_load_explicit(&stripe->seq, memory_order_relaxed);
    if (seq % 2 != 0 ||
        !atomic_compare_exchange_strong_explicit(&stripe->seq, &seq, seq + 1, memory_order_acquire,
                                                 memory_order_relaxed))
        return false;
    /* The odd number before the stores; pairs with stripe_read_end's acquire fence. */
    fence(memory_order_release);
    return true;
}

static inline void stripe_unlock(struct stripe *stripe) {
    const uint64_t seq = atomic_load_explicit(&stripe->seq, memory_order_relaxed);
    store_release(&stripe->seq, seq + 1);
}

#endif
