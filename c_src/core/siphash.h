/* siphash.h -- a hash for tables whose keys others choose: without the seed nobody finds keys that are alike.
 * SipHash-2-4, https://cr.yp.to/siphash/siphash-20120918.pdf */
#ifndef EMMAP_CORE_SIPHASH_H
#define EMMAP_CORE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

struct siphash_seed {
    uint64_t word[2];
};

/* By chance. Where the system has no chance to give it is zeros: then names can be made that are alike, and
 * what looks them up is slow. */
void siphash_seed(struct siphash_seed *seed);
uint64_t siphash(const struct siphash_seed *seed, const void *data, size_t len_bytes);

#endif
