/* queue_life.h -- when each message of a history was pushed and taken, and so what must become of it
 * when the power is cut at a moment. */
#ifndef EMMAP_TEST_QUEUE_LIFE_H
#define EMMAP_TEST_QUEUE_LIFE_H

#include "test/queue_image.h"

enum { LIFE_NOT_YET = 0x7FFFFFFF, LIFE_SYNCS = 256 };

/* push_ends is 0: it was there before the history began. */
struct life {
    unsigned push_begins, push_ends, take_begins, take_ends;
};

struct lives {
    struct life life[IMAGE_MESSAGES]; /* as in the ledger */
    struct {
        unsigned begins, ends; /* at ends and later the disk has it */
    } sync[LIFE_SYNCS];
    unsigned syncs;
};

void lives_sync(struct lives *lives, unsigned begins, unsigned ends);
/* What is true of each message at any of the moments from the first to the last, since it cannot be
 * told at which of them the power was cut. */
void lives_fates(const struct lives *lives, const struct ledger *ledger, unsigned from, unsigned to,
                 struct ledger *out);

#endif
