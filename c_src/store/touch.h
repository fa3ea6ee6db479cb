/* touch.h -- one call's touch of the bytes of a mapped file: its range, its tries, its answer.
 *
 *     struct touch t = {.file = file, .wait = wait};
 *     int rc;
 *     do {
 *         rc = touch_begin(&t, off, len_bytes, cut);
 *         if (rc) continue;
 *         ... load or store [t.from, t.to) ...
 *         rc = touch_end(&t);
 *     } while (touch_again(&t, &rc));
 */
#ifndef EMMAP_STORE_TOUCH_H
#define EMMAP_STORE_TOUCH_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#include "store/file.h"

struct touch {
    struct emmap_file *file;
    bool wait;      /* else -EAGAIN instead of locks, the file system, and the disk; but a local
                       file system is asked for the size by who reaches past the known end */
    bool last_only; /* only the last byte will be touched */
    bool once;      /* must not be done twice: while pages are replaced it excludes healing */
    bool alone;     /* holds the region's lock, so that nothing is mapped back */
    bool end_stays; /* holds the inode's, so that no handle moves the file's end */
    bool touched;   /* the last try reached the bytes */
    unsigned tries, faulted, unsure; /* how often it was done again, and why */
    uint64_t from, to;               /* the range in the file */
    uint64_t size_seen;              /* of the file */
    uint64_t marks_seen;
};

/* The usual touch, in line: a range within one stripe and within the known size, nothing replaced,
 * and in memory unless the caller may wait. false: begin at the beginning. */
struct quick {
    uint64_t from, marks_seen;
};
static ALWAYS_INLINE bool touch_quick(const struct emmap_file *file, bool wait, uint64_t off,
                                      uint64_t len, struct quick *q) {
    const struct emmap_region *region = file->region;
    const uint64_t size = atomic_load_explicit(region->size_bytes, memory_order_acquire);
    q->from = file->off + off;
    /* off and len first: below these bounds the sums cannot wrap. */
    if (off >= size || len > 1u << STRIPE_SHIFT || len == 0) return false;
    const uint64_t to = q->from + len;
    if (to > size || to > region_limit(region)) return false;
    const uint64_t stripe = q->from >> STRIPE_SHIFT;
    if ((to - 1) >> STRIPE_SHIFT != stripe) return false;
    if (!region_is_whole(region, &q->marks_seen)) return false;
    static_assert(STRIPE_SHIFT == (int)RESIDENCY_SHIFT, "one look for both");
    if (wait) return true;
    const struct runtime *rt = runtime_get();
    return residency_remembered(&rt->residency,
                                atomic_load_explicit(&rt->moment, memory_order_relaxed),
                                region->serial, stripe, residency_parts(stripe, q->from, to));
}

/* With cut the range ends at the end of the file, else it must lie within it. After any answer
 * touch_again must follow. */
int touch_begin(struct touch *t, uint64_t off, uint64_t len_bytes, bool cut);
int touch_end(struct touch *t);
/* true to do it again; false with the caller's answer in *rc: REGION_TOUCHED, without wait, for what
 * must not be done twice and may have been done. */
bool touch_again(struct touch *t, int *rc);
/* What a touch of no bytes answers wherever it is. */
int touch_nothing(const struct emmap_file *file, uint64_t off);
/* Lets go of what the tries hold, before the size is changed in between. Always false. */
bool touch_finish(struct touch *t);

#endif
