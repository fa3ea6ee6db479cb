/* queue_cut.h -- what a disk may hold after a power cut.
 *
 * The persistent stores to a queue in plain memory are recorded. After a cut, a disk has all that
 * came before the last sync that was completed, and of each sector of 512 bytes any number of the
 * 8-byte words that were stored there since, in their order, whatever the other sectors have.
 *
 * This is the quick tier: a queue that is there already, of one size, without a file. Whole files,
 * their births, sizes and names, are power.h's. */
#ifndef EMMAP_TEST_QUEUE_CUT_H
#define EMMAP_TEST_QUEUE_CUT_H

#include "test/queue_image.h"

struct recording;

/* From here on what is stored to these bytes is recorded; they are on the disk as they are. */
struct recording *recording_start(const uint8_t *base, uint64_t len_bytes);
void recording_stop(struct recording *recording);
void recording_free(struct recording *recording);
/* How many stores there have been: moments to cut at are 0 to this. */
unsigned recording_moment(struct recording *recording);
/* Where the n-th sync was complete: at a later moment all before it is on the disk. false: there was
 * none. */
bool recording_sync(const struct recording *recording, unsigned n, unsigned *moment);

/* The next moment to cut at; they only go up. */
void cut_at(struct recording *recording, unsigned moment);
/* How many images there are, where they are fewer than most: image 0, 1, ... */
unsigned cut_images(struct recording *recording, unsigned most);
/* One of them; or where they are too many, any. len_bytes of it are what the recording began with. */
void cut_image(struct recording *recording, unsigned i, unsigned images, uint64_t *rng,
               uint8_t *bytes);
/* As if nothing had been lost. */
const uint8_t *cut_whole(const struct recording *recording);
const uint8_t *cut_synced(const struct recording *recording);

#endif
