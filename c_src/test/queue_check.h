/* queue_check.h -- a queue's words against what a walk over its file finds, and messages that are
 * known by a number. */
#ifndef EMMAP_TEST_QUEUE_CHECK_H
#define EMMAP_TEST_QUEUE_CHECK_H

#include "store/queue.h"
#include "test/queue_model.h"

/* NULL, or what does not agree, while nobody else uses the queue: each slot is in the chain, warm,
 * cold, or, with in_hand, in the hand of another participant, and in one of these only; the counts
 * are those of the records from head to tail. */
const char *queue_disagrees(struct emmap_queue *q, bool in_hand);
/* The same of the slots alone, where records may be damaged. */
const char *queue_slots_disagree(struct emmap_queue *q, bool in_hand);

struct emmap_queue *open_queue(const char *path, uint32_t flags);
/* Message id, whose content follows from it; push and take, of one thread, answer what emmap.h says. */
void fill_id(uint8_t *buf, uint64_t id, uint32_t len_bytes);
bool is_id(const uint8_t *buf, uint64_t id, uint32_t len_bytes);
int push_id(struct emmap_queue *q, uint64_t id, uint32_t len_bytes);
/* The next message is this one: 0, or -EINVAL where it is another. */
int take_id(struct emmap_queue *q, uint64_t id, uint32_t len_bytes);

#endif
