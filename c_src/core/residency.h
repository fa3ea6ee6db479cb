/* residency.h -- may these bytes be touched without waiting for the disk?
 *
 * Asked of the kernel for a block of 64 KiB at a time, and remembered for a moment: a look costs
 * 1 us, a touch of a resident page nothing. What the kernel evicts within that moment is waited
 * for where it is touched. */
#ifndef EMMAP_CORE_RESIDENCY_H
#define EMMAP_CORE_RESIDENCY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { RESIDENCY_BLOCKS = 32 };

/* What was found of some blocks, each in one word: block:28, time:20 (in ticks of 16 ms), and a bit
 * for each sixteenth of the block that was resident. Written by whoever asks. */
struct residency {
    _Atomic uint64_t blocks[RESIDENCY_BLOCKS];
};

struct emmap_region;

/* region_is_resident -- a place in the file up to another one, both within its size and the
 * region. false also where the system does not tell. */
bool region_is_resident(struct emmap_region *region, uint64_t from, uint64_t to);

#endif
