/* counters_layout.h -- the bytes of a file of counters (docs/format/counters.md). */
#ifndef EMMAP_STORE_COUNTERS_LAYOUT_H
#define EMMAP_STORE_COUNTERS_LAYOUT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define EMMAP_DISK_COUNTERS_MAGIC "EMMAPCN\n"

enum {
    COUNTERS_VERSION = 1,
    COUNTERS_KIND = 2,
    COUNTERS_LIVE_OFF = 512,
    COUNTERS_DATA_OFF = 4096,
    COUNTERS_PLAIN = 32,
    COUNTERS_LINE = 64,
    COUNTERS_CELLS = 16,
    COUNTERS_NAMED = 1024,
    COUNTERS_NAME_BYTES = 256,
    COUNTERS_UNIT_BYTES = 64,
    COUNTERS_HELP_BYTES = 624,
};
#define COUNTERS_LOCK_BYTE ((UINT64_C(1) << 62) + 512)
#define COUNTERS_PUBLISHER_BYTE (COUNTERS_LOCK_BYTE + 1)

enum {
    COUNTERS_FLAG_UNSIGNED = 1u << 0,
    COUNTERS_FLAG_NAMED = 1u << 1,
    COUNTERS_FLAG_STRIPED = 1u << 2,
    COUNTERS_FLAG_PADDED = 1u << 3,
    COUNTERS_FLAGS = (1u << 4) - 1,
};

struct emmap_disk_counters {
    uint8_t magic[8];
    uint32_t version, kind;
    uint64_t incompat, ro_compat, compat;
    uint8_t uuid[16];
    uint64_t created_ms;
    uint32_t stride, flags;
    uint32_t crc; /* of all before it */
    uint32_t zero;
};
static_assert(offsetof(struct emmap_disk_counters, incompat) == 16, "layout");
static_assert(offsetof(struct emmap_disk_counters, uuid) == 40, "layout");
static_assert(offsetof(struct emmap_disk_counters, created_ms) == 56, "layout");
static_assert(offsetof(struct emmap_disk_counters, stride) == 64, "layout");
static_assert(offsetof(struct emmap_disk_counters, crc) == 72, "layout");
static_assert(sizeof(struct emmap_disk_counters) == 80, "layout");

/* At COUNTERS_LIVE_OFF; changed in place, a word at a time. */
struct emmap_disk_counters_live {
    uint64_t count;
    uint64_t identity[6];
    uint64_t sync_error; /* errno of a failed sync, 0 */
};
static_assert(offsetof(struct emmap_disk_counters_live, identity) == 8, "layout");
static_assert(offsetof(struct emmap_disk_counters_live, sync_error) == 56, "layout");
static_assert(COUNTERS_LIVE_OFF + sizeof(struct emmap_disk_counters_live) <= COUNTERS_DATA_OFF,
              "layout");

/* The words of a record that is not striped; a striped one has only values, one a line. */
struct emmap_disk_counter {
    uint64_t value, reserved, durable, zero;
};
static_assert(offsetof(struct emmap_disk_counter, reserved) == 8, "layout");
static_assert(offsetof(struct emmap_disk_counter, durable) == 16, "layout");
static_assert(sizeof(struct emmap_disk_counter) == COUNTERS_PLAIN, "layout");

struct emmap_disk_counter_name {
    uint32_t crc; /* of the record's number, and of all behind it */
    uint8_t type, name_len, unit_len, zero0;
    uint16_t help_len, zero1[3];
    uint8_t name[COUNTERS_NAME_BYTES];
    uint8_t unit[COUNTERS_UNIT_BYTES];
    uint8_t help[COUNTERS_HELP_BYTES];
};
static_assert(offsetof(struct emmap_disk_counter_name, help_len) == 8, "layout");
static_assert(offsetof(struct emmap_disk_counter_name, name) == 16, "layout");
static_assert(offsetof(struct emmap_disk_counter_name, unit) == 272, "layout");
static_assert(offsetof(struct emmap_disk_counter_name, help) == 336, "layout");
static_assert(sizeof(struct emmap_disk_counter_name) == 960, "layout");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "words in place are little-endian: no machine that is not can share them");

#endif
