/* residency.c -- see residency.h. */
#include "core/residency.h"

#include "core/charge.h"
#include "core/region.h"
#include "os/os.h"

/* Some 0.1 ms; a gigabyte takes a thousand times as long. */
static const uint64_t CLEARED_AT_ONCE_BYTES = 2u << 20;
static const uint64_t BLOCK_BYTES = 1u << RESIDENCY_SHIFT;

/* The parts of a block from at to end that lie in resident pages. */
static uint32_t ask_mincore(const struct emmap_region *region, uint64_t block, uint64_t at,
                            uint64_t end) {
    unsigned char pages[RESIDENCY_PARTS + 1];
    const uint64_t page = runtime_get()->page_bytes; /* the system's, also where pages are huge */
    const uint64_t start = at / page * page;
    const uint64_t n = (end - start + page - 1) / page;
    if (n > sizeof pages || os_resident(region_at(region, start), n * page, pages)) return 0;
    uint32_t parts = residency_parts(block, at, end);
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t from = start + i * page > at ? start + i * page : at;
        const uint64_t to = start + (i + 1) * page < end ? start + (i + 1) * page : end;
        if (!(pages[i] & 1)) parts &= ~residency_parts(block, from, to);
    }
    return parts;
}

/* For who may neither write nor owns the file mincore calls every page resident. Reading without
 * waiting tells the truth, at the price of a copy, and up to the first page that is not there: so
 * only of what is wanted. */
static uint32_t ask_read(const struct emmap_region *region, uint64_t block, uint64_t at,
                         uint64_t end) {
    uint32_t parts = 0;
    while (at < end) {
        uint64_t got = 0;
        if (os_read_resident(region->fd, at, end - at, &got)) return 0;
        charge_add(got);
        const uint64_t stop =
            at + got == end ? end : (at + got) >> RESIDENCY_PART_SHIFT << RESIDENCY_PART_SHIFT;
        if (stop > at) parts |= residency_parts(block, at, stop);
        at = ((at + got) >> RESIDENCY_PART_SHIFT << RESIDENCY_PART_SHIFT) +
             (1u << RESIDENCY_PART_SHIFT);
    }
    return parts;
}

/* Asks for the whole of a block, as far as it lies within the file: who reads on finds an answer.
 * Where asking is a copy, only for the parts that are wanted. */
static uint32_t ask(struct emmap_region *region, uint64_t block, uint32_t wanted) {
    const uint64_t size = atomic_load_explicit(region->size_bytes, memory_order_relaxed);
    const uint64_t limit = size < region_limit(region) ? size : region_limit(region);
    const uint64_t start = block << RESIDENCY_SHIFT;
    uint64_t first = start;
    uint64_t last = start + BLOCK_BYTES;
    if (!region->asks_mincore) {
        first = start + ((uint64_t)__builtin_ctz(wanted) << RESIDENCY_PART_SHIFT);
        last = start + ((uint64_t)(32 - __builtin_clz(wanted)) << RESIDENCY_PART_SHIFT);
    }
    const uint64_t at = first > region->map_off ? first : region->map_off;
    const uint64_t end = limit < last ? limit : last;
    if (at >= end || !region_pin(region)) return 0;
    charge_add(CHARGE_LOOK_BYTES);
    const uint32_t parts = region->asks_mincore ? ask_mincore(region, block, at, end)
                                                : ask_read(region, block, at, end);
    region_unpin(region);
    return parts;
}

static bool block_is_resident(struct emmap_region *region, uint64_t block, uint32_t wanted) {
    const uint32_t moment = atomic_load_explicit(&runtime_get()->moment, memory_order_relaxed);
    struct residency *residency = &runtime_get()->residency;
    _Atomic uint64_t *entry = &residency->entries[residency_place(region->serial, block)];
    const uint64_t word = residency_word(region->serial, block, moment);
    const uint64_t seen = atomic_load_explicit(entry, memory_order_relaxed);
    const bool ours = block < RESIDENCY_BLOCKS && (seen ^ word) >> 16 == 0;
    const uint32_t known = ours ? (uint32_t)seen & RESIDENCY_ALL_PARTS : 0;
    if ((known & wanted) == wanted) return true;
    const uint32_t parts = known | ask(region, block, wanted);
    if (block < RESIDENCY_BLOCKS) atomic_store_explicit(entry, word | parts, memory_order_relaxed);
    return (parts & wanted) == wanted;
}

bool region_is_resident(struct emmap_region *region, uint64_t from, uint64_t to) {
    if (from >= to) return true;
    const uint64_t span = region->map_off + atomic_load(&region->file_span);
    const bool own_memory =
        from >= span; /* no disk behind it; but it is cleared at the first touch */
    if (own_memory && region->page_bytes <= CLEARED_AT_ONCE_BYTES) return true;
    for (uint64_t block = from >> RESIDENCY_SHIFT; block <= (to - 1) >> RESIDENCY_SHIFT; block++)
        if (!block_is_resident(region, block, residency_parts(block, from, to))) return false;
    return true;
}
