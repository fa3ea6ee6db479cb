/* stripes.c -- see stripes.h. */
#include "core/stripes.h"

#include <errno.h>
#include <stdlib.h>

#include "os/os.h"

int stripes_new(struct stripes **out) {
    void *memory;
    if (posix_memalign(&memory, _Alignof(struct stripes), sizeof(struct stripes))) return -ENOMEM;
    struct stripes *stripes = memory;
    for (unsigned i = 0; i < STRIPES; i++)
        atomic_init(&stripes->stripe[i].seq, 0);
    *out = stripes;
    return 0;
}

void stripes_free(struct stripes *stripes) {
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
        if (!stripe_read_begin(&stripes->stripe[i], &seen->seq[i])) return false;
    }
    return true;
}

bool stripes_read_end(const struct stripes *stripes, const struct stripes_seen *seen) {
    EACH_STRIPE(i, seen->mask) {
        if (!stripe_read_end(&stripes->stripe[i], seen->seq[i])) return false;
    }
    return true;
}

/* A writer is done within microseconds, unless it waits for the disk. */
static void lock_stripe(struct stripe *stripe) {
    for (unsigned tries = 0; !stripe_try_lock(stripe); tries++)
        os_pause(tries);
}

uint32_t stripes_lock(struct stripes *stripes, uint64_t off, uint64_t len_bytes, bool wait) {
    const uint32_t mask = mask_of(off, len_bytes);
    uint32_t held = 0;
    EACH_STRIPE(i, mask) {
        if (wait) {
            lock_stripe(&stripes->stripe[i]);
        } else if (!stripe_try_lock(&stripes->stripe[i])) {
            stripes_unlock(stripes, held);
            return 0;
        }
        held |= 1u << i;
    }
    return mask;
}

void stripes_unlock(struct stripes *stripes, uint32_t mask) {
    EACH_STRIPE(i, mask) {
        stripe_unlock(&stripes->stripe[i]);
    }
}
