/* queue_image.h -- the bytes of a queue's file, made into a queue in plain memory as its next
 * opener would do it; and what comes out of it, beside what went in. */
#ifndef EMMAP_TEST_QUEUE_IMAGE_H
#define EMMAP_TEST_QUEUE_IMAGE_H

#include "store/queue.h"
#include "test/support.h"

enum { IMAGE_MESSAGES = 400, IMAGE_MESSAGE_BYTES = 300 << 10 };

/* What must become of a message that a caller pushed, or was pushing. */
enum fate { NEVER, THERE, GONE, EITHER };

/* All messages of a history, from 0 in the order of their pushes; no two are alike. */
struct ledger {
    unsigned n;
    uint32_t len_bytes[IMAGE_MESSAGES];
    enum fate fate[IMAGE_MESSAGES];
};

/* What was taken, in its order. */
struct drained {
    unsigned n;
    unsigned id[IMAGE_MESSAGES];
    int rc; /* that ended it: EMMAP_E_EMPTY */
};

struct image {
    uint8_t *bytes;
    uint64_t len_bytes;
};

/* A queue in room_bytes of memory that has no file in it yet. */
struct emmap_queue *image_desk(uint64_t room_bytes);
void image_desk_free(struct emmap_queue *desk);
/* A new queue there. */
void image_make(struct emmap_queue *desk, const struct emmap_queue_options *options);
/* Lays the bytes there, zeros behind them. */
void image_lay(struct emmap_queue *desk, const struct image *image);
/* As the next opener: 0, or why it is refused. */
int image_settle(struct emmap_queue *desk, const struct image *image, enum queue_past past);
struct image image_of(const struct emmap_queue *q);

/* ledger_push -- the next message; its fate becomes THERE. ledger_begin only tells of it: EITHER.
 */
void ledger_begin(struct ledger *ledger, uint32_t len_bytes);
void ledger_push(struct ledger *ledger, struct emmap_queue *q, uint32_t len_bytes);
void ledger_fill(uint8_t *buf, unsigned id, uint32_t len_bytes);
/* The message that these bytes are; -1: nobody pushed it. */
int ledger_find(const struct ledger *ledger, const uint8_t *buf, uint32_t len_bytes);

/* Takes all there is. NULL, or what is wrong: made up, out of order, twice. */
const char *drain(struct emmap_queue *q, const struct ledger *ledger, struct drained *out);
const char *drain_on(struct emmap_queue *q, const struct ledger *ledger, struct drained *out);
/* NULL, or what is wrong: missing, back again. */
const char *agrees(const struct ledger *ledger, const struct drained *drained);
/* Some more are pushed, counted and taken from a queue that is empty, over several segments or only a
 * few bytes. NULL, or what is wrong. */
const char *goes_on(struct emmap_queue *q, struct ledger *ledger);
const char *goes_on_a_little(struct emmap_queue *q, struct ledger *ledger);

#endif
