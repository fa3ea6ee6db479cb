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

#include <stdbool.h>
#include <stdint.h>

#include "store/file.h"

struct touch {
    struct emmap_file *file;
    bool wait;      /* else -EAGAIN instead of locks, the file system, and the disk */
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

/* With cut the range ends at the end of the file, else it must lie within it. After any answer
 * touch_again must follow. */
int touch_begin(struct touch *t, uint64_t off, uint64_t len_bytes, bool cut);
int touch_end(struct touch *t);
/* true to do it again; false with the caller's answer in *rc. */
bool touch_again(struct touch *t, int *rc);
/* Lets go of what the tries hold, before the size is changed in between. Always false. */
bool touch_finish(struct touch *t);

#endif
