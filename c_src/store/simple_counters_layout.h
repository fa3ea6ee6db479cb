/* simple_counters_layout.h -- the bytes of a simple counters file (docs/format/simple_counters.md). */
#ifndef EMMAP_STORE_SIMPLE_COUNTERS_LAYOUT_H
#define EMMAP_STORE_SIMPLE_COUNTERS_LAYOUT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define EMMAP_DISK_SIMPLE_COUNTERS_MAGIC "EMMAP01\n"

/* All integers little-endian; `count` values of 64 bits follow. */
struct emmap_disk_simple_counters {
    uint8_t magic[8];
    uint64_t count;
};
static_assert(offsetof(struct emmap_disk_simple_counters, magic) == 0, "layout");
static_assert(offsetof(struct emmap_disk_simple_counters, count) == 8, "layout");
static_assert(sizeof(struct emmap_disk_simple_counters) == 16, "layout");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "values in place are little-endian: no machine that is not can share them");

#endif
