/* residency.h -- may these bytes be touched without waiting for the disk?
 *
 * Asked of the kernel for a block of 64 KiB at a time, and remembered for a moment, which passes
 * every 0.4 s: a look costs 1 us, which is charged (charge.h), to remember 1 ns. What the kernel
 * evicts within the moment is waited for where it is touched. */
#ifndef EMMAP_CORE_RESIDENCY_H
#define EMMAP_CORE_RESIDENCY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* One table for all regions: it has room for 4 GiB of blocks that are used at random. Of what lies
 * beyond 16 TiB nothing is remembered. */
enum { RESIDENCY_ENTRIES = 1 << 16, RESIDENCY_BLOCKS = 1 << 28 };

/* What was found of some blocks, each in one word: region:20, block / 2^16:12, moment:16, and a bit
 * for each sixteenth of the block that was resident. The rest of the block's number is told by the
 * entry's place. Written by whoever asks. (Of two regions with a million others opened between
 * them, one may be taken for the other.) */
struct residency {
    _Atomic uint64_t entries[RESIDENCY_ENTRIES];
};

enum {
    RESIDENCY_SHIFT = 16,
    RESIDENCY_PARTS = 16,
    RESIDENCY_PART_SHIFT = RESIDENCY_SHIFT - 4,
    RESIDENCY_ALL_PARTS = (1 << RESIDENCY_PARTS) - 1
};

/* The parts of a block that [from, to), not empty, touches. */
static inline uint32_t residency_parts(uint64_t block, uint64_t from, uint64_t to) {
    const uint64_t start = block << RESIDENCY_SHIFT;
    const uint64_t first = from > start ? (from - start) >> RESIDENCY_PART_SHIFT : 0;
    const uint64_t last = (to - 1 - start) >> RESIDENCY_PART_SHIFT;
    const uint64_t most = RESIDENCY_PARTS - 1;
    return (uint32_t)((2u << (last < most ? last : most)) - (1u << first));
}

/* A multiple of an odd number spreads the regions over the table. */
static inline uint32_t residency_place(uint32_t region, uint64_t block) {
    return (uint32_t)(block ^ region * 40503u) % RESIDENCY_ENTRIES;
}

static inline uint64_t residency_word(uint32_t region, uint64_t block, uint32_t moment) {
    return (uint64_t)region << 44 | block >> 16 << 32 | (uint64_t)(moment & 0xFFFF) << 16;
}

/* residency_remembered -- were these parts of the region's block found resident within this moment?
 */
static inline bool residency_remembered(const struct residency *residency, uint32_t moment,
                                        uint32_t region, uint64_t block, uint32_t parts) {
    const uint64_t seen = atomic_load_explicit(&residency->entries[residency_place(region, block)],
                                               memory_order_relaxed);
    return block < RESIDENCY_BLOCKS &&
           ((seen ^ residency_word(region, block, moment)) >> 16) == 0 && (seen & parts) == parts;
}

struct emmap_region;

/* region_is_resident -- a place in the file up to another one, both within its size and the
 * region. false also where the system does not tell. */
bool region_is_resident(struct emmap_region *region, uint64_t from, uint64_t to);

#endif
