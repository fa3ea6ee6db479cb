/* queue_edits.h -- the bytes of a queue's file, made of few: a good one, and what is edited in it.
 *
 *     | base | past | plan | repair | 12 bytes an edit ... |
 *     edit: | op | late | index 16 | value 64 |
 *
 * Any bytes are an input. Checksums are made good after the edits, if repair is odd; those that are late
 * come after that. */
#ifndef EMMAP_FUZZ_QUEUE_EDITS_H
#define EMMAP_FUZZ_QUEUE_EDITS_H

#include "test/queue_image.h"

enum {
    EDITS_SEGMENT = QUEUE_LEAST_SEGMENT,
    EDITS_MOST_SLOTS = 12,
    EDITS_ROOM = QUEUE_DATA_OFF + (EDITS_MOST_SLOTS + 6) * EDITS_SEGMENT,
};

struct edited {
    struct image image;          /* EDITS_ROOM bytes are there; overwritten by the next */
    const struct ledger *ledger; /* what was ever pushed to it */
    enum queue_past past;
    uint64_t plan;  /* what is done with it */
    bool is_forged; /* what has a good checksum may never have been written */
};
struct edited edits_make(const uint8_t *data, size_t len_bytes);

/* Ends the program, as a fault does. */
#define FUZZ_MUST(condition) ((condition) ? (void)0 : fuzz_failed(__FILE__, __LINE__, #condition))
_Noreturn void fuzz_failed(const char *file, int line, const char *what);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

#endif
