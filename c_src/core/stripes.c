/* stripes.c -- see stripes.h. */
#include "core/stripes.h"

#include <errno.h>
#include <stdlib.h>

enum { STRIPE_SHIFT = 16 };

int stripes_new(struct stripes **out) {
    void *memory;
    if (posix_memalign(&memory, _Alignof(struct stripes), sizeof(struct stripes))) return -ENOMEM;
    struct stripes *stripes = memory;
    for (unsigned i = 0; i < STRIPES; i++) {
        atomic_init(&stripes->stripe[i].seq, 0);
        const int rc = pthread_mutex_init(&stripes->stripe[i].lock, NULL);
        if (rc == 0) continue;
        while (i-- > 0)
            pthread_mutex_destroy(&stripes->stripe[i].lock);
        free(stripes);
        return -rc;
    }
    *out = stripes;
    return 0;
}

void stripes_free(struct stripes *stripes) {
    if (!stripes) return;
    for (unsigned i = 0; i < STRIPES; i++)
        pthread_mutex_destroy(&stripes->stripe[i].lock);
    free(stripes);
}

static uint32_t mask_of(uint64_t off, uint64_t len_bytes) {
    const uint64_t first = off >> STRIPE_SHIFT;
    const uint64_t last = len_bytes > 0 ? (off + len_bytes - 1) >> STRIPE_SHIFT : first;
    if (last - first >= STRIPES - 1) return (1u << STRIPES) - 1;
    uint32_t mask = 0;
    for (uint64_t n = first; n <= last; n++)
        mask |= 1u << (n % STRIPES);
    return mask;
}

/* The lowest stripe first. */
#define EACH_STRIPE(i, mask)                                                           \
    for (uint32_t rest = (mask), i; rest && (i = (uint32_t)__builtin_ctz(rest), true); \
         rest &= rest - 1)

bool stripes_read_begin(const struct stripes *stripes, uint64_t off, uint64_t len_bytes,
                        struct stripes_seen *seen) {
    seen->mask = mask_of(off, len_bytes);
    EACH_STRIPE(i, seen->mask) {
        /* pairs with stripes_write_end: release seq */
        seen->seq[i] = atomic_load_explicit(&stripes->stripe[i].seq, memory_order_acquire);
        if (seen->seq[i] & 1) return false;
    }
    return true;
}

bool stripes_read_end(const struct stripes *stripes, const struct stripes_seen *seen) {
    /* The copy's loads before these; pairs with stripes_write_begin's release fence. */
    atomic_thread_fence(memory_order_acquire);
    EACH_STRIPE(i, seen->mask) {
        if (atomic_load_explicit(&stripes->stripe[i].seq, memory_order_relaxed) != seen->seq[i])
            return false;
    }
    return true;
}

uint32_t stripes_lock(struct stripes *stripes, uint64_t off, uint64_t len_bytes, bool wait) {
    const uint32_t mask = mask_of(off, len_bytes);
    uint32_t held = 0;
    EACH_STRIPE(i, mask) {
        if (wait) {
            pthread_mutex_lock(&stripes->stripe[i].lock);
        } else if (pthread_mutex_trylock(&stripes->stripe[i].lock)) {
            stripes_unlock(stripes, held);
            return 0;
        }
        held |= 1u << i;
    }
    return mask;
}

void stripes_unlock(struct stripes *stripes, uint32_t mask) {
    EACH_STRIPE(i, mask) {
        pthread_mutex_unlock(&stripes->stripe[i].lock);
    }
}

void stripes_write_begin(struct stripes *stripes, uint32_t mask) {
    EACH_STRIPE(i, mask) {
        _Atomic uint32_t *seq = &stripes->stripe[i].seq;
        atomic_store_explicit(seq, atomic_load_explicit(seq, memory_order_relaxed) + 1,
                              memory_order_relaxed);
    }
    /* The odd numbers before the stores; pairs with stripes_read_end's acquire fence. */
    atomic_thread_fence(memory_order_release);
}

void stripes_write_end(struct stripes *stripes, uint32_t mask) {
    EACH_STRIPE(i, mask) {
        _Atomic uint32_t *seq = &stripes->stripe[i].seq;
        atomic_store_explicit(seq, atomic_load_explicit(seq, memory_order_relaxed) + 1,
                              memory_order_release);
    }
}
