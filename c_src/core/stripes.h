/* stripes.h -- a read sees each write whole: sequence locks over stripes of a file.
 *
 * A stripe is 64 KiB of the file; STRIPES locks serve all of them, by number modulo STRIPES.
 * Writers of a stripe exclude each other and raise its sequence number before and after; a reader
 * takes no lock and writes nothing: it copies, and looks whether a number has changed (or was odd,
 * with a write under way). A range takes its stripes in the order of their locks, so that two
 * ranges cannot wait for each other.
 *
 * Source: the sequence lock of Lamport (Concurrent reading and writing, 1977), with the fences of
 * Boehm (Can seqlocks get along with programming language memory models?, 2012). */
#ifndef EMMAP_CORE_STRIPES_H
#define EMMAP_CORE_STRIPES_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { STRIPES = 16 };

struct stripe {
    _Alignas(64) _Atomic uint32_t seq; /* odd: a write is under way; written under lock */
    pthread_mutex_t lock;
};

struct stripes {
    struct stripe stripe[STRIPES];
};

int stripes_new(struct stripes **out);
void stripes_free(struct stripes *stripes);

/* What a reader found before its copy. */
struct stripes_seen {
    uint32_t mask;
    uint32_t seq[STRIPES]; /* of those in mask */
};

/* stripes_read_begin -- false: a write is under way. */
bool stripes_read_begin(const struct stripes *stripes, uint64_t off, uint64_t len_bytes,
                        struct stripes_seen *seen);
/* stripes_read_end -- true: no write was, so that what was copied in between is whole. */
bool stripes_read_end(const struct stripes *stripes, const struct stripes_seen *seen);

/* stripes_lock -- exclude writers of the range; returns its mask for the other calls, 0 when it
 * would have to wait and wait is false. */
uint32_t stripes_lock(struct stripes *stripes, uint64_t off, uint64_t len_bytes, bool wait);
void stripes_unlock(struct stripes *stripes, uint32_t mask);
/* Around the stores of a write, under the lock. */
void stripes_write_begin(struct stripes *stripes, uint32_t mask);
void stripes_write_end(struct stripes *stripes, uint32_t mask);

#endif
