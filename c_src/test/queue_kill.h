/* queue_kill.h -- an operation on a queue is cut after each of its stores in turn.
 *
 * For n = 1, 2, ...: the file is as it was, an OS process opens it and does the operation, and ends
 * at the n-th store (of 8 bytes: a copy or a fill is many) or call of the system. Then
 *
 *   the next one    opens the file, or
 *   a survivor      has had it open all the time, and takes over,
 *
 * and looks: the messages are those before the operation or those after it, the queue's words agree
 * with them, and it goes on. */
#ifndef EMMAP_TEST_QUEUE_KILL_H
#define EMMAP_TEST_QUEUE_KILL_H

#include "test/queue_check.h"

/* Messages, in order. The length is in the number, so that it tells everything. */
struct kill_list {
    unsigned n;
    uint64_t ids[400];
};

enum {
    KILL_OPEN = 1u << 0,     /* the operation is to open it: no survivor */
    KILL_NEW = 1u << 1,      /* ... and there is no file yet */
    KILL_REBOOTED = 1u << 2, /* ... and its live page is another boot's */
    KILL_BROKEN = 1u << 7,   /* ... or makes no sense */
    KILL_UNCLOSED = 1u << 3, /* whoever made it was killed */
    KILL_IN_PARTS = 1u << 4, /* it is several, one by one */
    KILL_BESIDE = 1u << 5,   /* the operation is to open it beside others: survivors only */
    KILL_FIXED = 1u << 8,    /* of fixed size */
    KILL_CLAIMED = 1u << 6,  /* the survivor works on the first message */
};
struct kill_operation {
    const char *name;
    void (*make)(struct emmap_queue *q);   /* what is there, with kill_push and kill_take */
    void (*before)(struct emmap_queue *q); /* what the victim does first; or NULL */
    void (*run)(struct emmap_queue *q);    /* NULL: it opens */
    unsigned takes;                        /* messages that the operation takes, */
    unsigned from;                         /* behind so many, */
    const uint32_t *pushes;                /* and the lengths of those it pushes, up to a 0 */
    uint32_t flags;
    /* Done by another OS process, which then dies; the victim had it open already, or opens it then.
     * It is not the operation that takes, then. Or NULL. */
    void (*first)(struct emmap_queue *q);
};

/* In make. */
void kill_push(struct emmap_queue *q, uint32_t len_bytes);
void kill_take(struct emmap_queue *q, unsigned n);
void kill_forget(unsigned nth); /* nobody will get it */

/* In run: pushes what the operation says it does, together or one by one. */
void kill_push_all(struct emmap_queue *q, bool together);

/* States run, and those that were as they should be. */
struct kill_result {
    uint64_t states, good;
};
/* Every stride-th state, from the first-th on, in files of this folder. What is wrong is printed. */
struct kill_result kill_all(const struct kill_operation *operations, unsigned n, const char *folder,
                            uint64_t first, uint64_t stride);

#endif
