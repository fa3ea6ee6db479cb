/* residency.h -- may these bytes be touched without waiting for the disk?
 *
 * Asked of the kernel for a block of 64 KiB at a time, and remembered for a moment, which passes
 * every 0.4 s: a look costs 1 us, to remember 1 ns. What the kernel evicts within the moment is
 * waited for where it is touched. */
#ifndef EMMAP_CORE_RESIDENCY_H
#define EMMAP_CORE_RESIDENCY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { RESIDENCY_BLOCKS = 32 };

/* What was found of some blocks, each in one word: block:28, moment:20, and a bit for each
 * sixteenth of the block that was resident. Written by whoever asks. */
struct residency {
    _Atomic uint64_t blocks[RESIDENCY_BLOCKS];
};

enum { RESIDENCY_SHIFT = 16, RESIDENCY_PARTS = 16, RESIDENCY_PART_SHIFT = RESIDENCY_SHIFT - 4 };

/* The parts of a block that [from, to), not empty, touches. */
static inline uint32_t residency_parts(uint64_t block, uint64_t from, uint64_t to) {
    const uint64_t start = block << RESIDENCY_SHIFT;
    const uint64_t first = from > start ? (from - start) >> RESIDENCY_PART_SHIFT : 0;
    const uint64_t last = (to - 1 - start) >> RESIDENCY_PART_SHIFT;
    const uint64_t most = RESIDENCY_PARTS - 1;
    return (uint32_t)((2u << (last < most ? last : most)) - (1u << first));
}

/* residency_remembered -- were these parts of the block found resident within this moment? */
static inline bool residency_remembered(const struct residency *residency, uint32_t moment,
                                        uint64_t block, uint32_t parts) {
    const uint64_t seen =
        atomic_load_explicit(&residency->blocks[block % RESIDENCY_BLOCKS], memory_order_relaxed);
    return seen >> 16 == (block << 20 | (moment & 0xFFFFF)) && (seen & parts) == parts;
}

struct emmap_region;

/* region_is_resident -- a place in the file up to another one, both within its size and the
 * region. false also where the system does not tell. */
bool region_is_resident(struct emmap_region *region, uint64_t from, uint64_t to);

#endif
