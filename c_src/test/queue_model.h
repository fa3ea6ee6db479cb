/* queue_model.h -- a queue beside a plain list of what must be in it. */
#ifndef EMMAP_TEST_QUEUE_MODEL_H
#define EMMAP_TEST_QUEUE_MODEL_H

#include "store/queue.h"
#include "test/support.h"

enum { MODEL_MOST = 4096 };

struct model_message {
    uint64_t id;
    uint32_t len_bytes;
    bool claimed;
    struct queue_message claim;
};

struct model {
    struct emmap_queue *q;
    struct model_message messages[MODEL_MOST]; /* those not taken, in order */
    unsigned n, claimed;
    uint64_t next_id, rng;
    uint8_t *buf;
};

uint64_t model_random(struct model *m, uint64_t below);
void model_fill(uint8_t *buf, uint64_t id, uint32_t len_bytes);
bool model_is(const uint8_t *buf, uint64_t id, uint32_t len_bytes);

/* Each does it to both, and compares. */
void model_push(struct model *m, uint32_t len_bytes);
void model_push_many(struct model *m, unsigned n, uint32_t most_bytes);
void model_take(struct model *m, unsigned most);
void model_claim(struct model *m);
void model_end_claim(struct model *m, bool ack);
void model_look(struct model *m); /* forwards, backwards, counts */
void model_drop(struct model *m);
void model_unclaim(struct model *m); /* the claims came back */

/* A queue in plain memory. */
struct emmap_queue *array_queue(uint64_t size_bytes, uint64_t base_bytes, bool fixed);
void array_free(struct emmap_queue *q);
void array_died(struct emmap_queue *q);   /* its OS process, and another one opens it */
void array_reboot(struct emmap_queue *q); /* a recovery */

#endif
