/* queue_layout.h -- the bytes of a queue's file (docs/format/queue.md).
 *
 * The words of live, slot and record state change in place, under the lock, each as one aligned
 * store; what has a checksum is written before anything leads to it. */
#ifndef EMMAP_STORE_QUEUE_LAYOUT_H
#define EMMAP_STORE_QUEUE_LAYOUT_H

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define EMMAP_DISK_QUEUE_MAGIC "EMMAPQU\n"

/* 64-bit word that others may change meanwhile. */
typedef _Atomic uint64_t emmap_disk_word;

enum {
    QUEUE_VERSION = 1,
    QUEUE_KIND = 1,
    QUEUE_PAGE = 4096,
    QUEUE_LIVE_OFF = 4096,
    QUEUE_CHECKPOINT_OFF = 8192,
    QUEUE_PARTICIPANTS_OFF = 16384,
    QUEUE_PARTICIPANTS = 256,
    QUEUE_READERS_OFF = 32768,
    QUEUE_LEASES_OFF = 49152,
    QUEUE_DATA_OFF = 131072,
    QUEUE_SLOT_HEADER = 128,
    QUEUE_SLOT_TRAILER = 64, /* the segment's header once more */
    QUEUE_RECORD_HEADER = 40,
    QUEUE_RECORD_OVERHEAD = 48,
    QUEUE_REDO_PAIRS = 16,
    QUEUE_LEAST_SEGMENT = 64 << 10,
    QUEUE_MOST_SEGMENT = 16 << 20,
};

enum { QUEUE_FLAG_FIXED = 1u << 0 };

struct emmap_disk_queue {
    uint8_t magic[8];
    uint32_t version, kind;
    uint64_t incompat, ro_compat, compat;
    uint8_t uuid[16];
    uint64_t salt;
    uint64_t segment_bytes;
    uint64_t data_off;
    uint64_t created_ms;
    uint32_t flags;
    uint32_t crc; /* of all before it */
};
static_assert(offsetof(struct emmap_disk_queue, incompat) == 16, "layout");
static_assert(offsetof(struct emmap_disk_queue, uuid) == 40, "layout");
static_assert(offsetof(struct emmap_disk_queue, salt) == 56, "layout");
static_assert(offsetof(struct emmap_disk_queue, created_ms) == 80, "layout");
static_assert(offsetof(struct emmap_disk_queue, crc) == 92, "layout");
static_assert(sizeof(struct emmap_disk_queue) == 96, "layout");

struct emmap_disk_identity {
    uint64_t boot[2], dev, ino, birth_ns, mount;
};

struct emmap_disk_redo {
    emmap_disk_word off, value;
};

struct emmap_disk_live {
    emmap_disk_word lock;
    uint64_t zero0[7];
    emmap_disk_word tail, tail_n, tail_slot; /* 64: written by producers */
    uint64_t zero1[5];
    emmap_disk_word cursor, cursor_n, cursor_slot; /* 128: by consumers, as what follows */
    uint64_t zero2[5];
    emmap_disk_word head, head_n, head_slot; /* 192 */
    emmap_disk_word window_n, returned_n, gap_n, gap_bytes;
    uint64_t zero3[1];
    emmap_disk_word first_slot, last_slot, warm_slot, warm_n, cold_slot, slots; /* 256 */
    emmap_disk_word epoch, next_number;
    emmap_disk_word max_bytes, wake, sync_error, cp_serial, cp_durable, lost_n; /* 320 */
    emmap_disk_word syncer;
    uint64_t zero5[1];
    emmap_disk_word identity[6]; /* 384: struct emmap_disk_identity */
    uint64_t zero6[10];
    emmap_disk_word redo_n; /* 512 */
    struct emmap_disk_redo redo[QUEUE_REDO_PAIRS];
};
static_assert(offsetof(struct emmap_disk_live, tail) == 64, "layout");
static_assert(offsetof(struct emmap_disk_live, cursor) == 128, "layout");
static_assert(offsetof(struct emmap_disk_live, head) == 192, "layout");
static_assert(offsetof(struct emmap_disk_live, window_n) == 216, "layout");
static_assert(offsetof(struct emmap_disk_live, first_slot) == 256, "layout");
static_assert(offsetof(struct emmap_disk_live, slots) == 296, "layout");
static_assert(offsetof(struct emmap_disk_live, max_bytes) == 320, "layout");
static_assert(offsetof(struct emmap_disk_live, lost_n) == 360, "layout");
static_assert(offsetof(struct emmap_disk_live, identity) == 384, "layout");
static_assert(offsetof(struct emmap_disk_live, redo_n) == 512, "layout");
static_assert(offsetof(struct emmap_disk_live, redo) == 520, "layout");
static_assert(sizeof(struct emmap_disk_live) <= QUEUE_PAGE, "layout");

struct emmap_disk_checkpoint {
    uint64_t magic;
    uint64_t serial, epoch, head, head_n, tail, tail_n, slots, next_number;
    uint32_t crc; /* of all before it, begun with the salt */
    uint32_t zero1;
};
static_assert(offsetof(struct emmap_disk_checkpoint, crc) == 72, "layout");
static_assert(sizeof(struct emmap_disk_checkpoint) == 80, "layout");
#define EMMAP_DISK_CHECKPOINT_MAGIC 0x31746e696f706b63u /* "ckpoint1" */

struct emmap_disk_participant {
    emmap_disk_word incarnation;
    emmap_disk_word preparing, punching; /* slots in hand, from 1 */
    emmap_disk_word pid;                 /* to be told, nothing else */
    uint64_t zero[4];
};
static_assert(sizeof(struct emmap_disk_participant) == 64, "layout");
static_assert(QUEUE_PARTICIPANTS_OFF + QUEUE_PARTICIPANTS * 64 == QUEUE_READERS_OFF, "layout");

/* Before a segment's bytes. */
struct emmap_disk_segment { /* written whole, checksummed */
    uint64_t magic, number, epoch, first_pos, first_n, prev, prev_end;
    uint32_t crc; /* of all before it, begun with the salt */
    uint32_t zero;
};
struct emmap_disk_slot {
    struct emmap_disk_segment segment;
    emmap_disk_word next, end, pinned, free_next; /* in place */
    uint64_t zero[4];
};
static_assert(offsetof(struct emmap_disk_segment, crc) == 56, "layout");
static_assert(sizeof(struct emmap_disk_segment) == QUEUE_SLOT_TRAILER, "layout");
static_assert(offsetof(struct emmap_disk_slot, next) == 64, "layout");
static_assert(offsetof(struct emmap_disk_slot, free_next) == 88, "layout");
static_assert(sizeof(struct emmap_disk_slot) == QUEUE_SLOT_HEADER, "layout");
#define EMMAP_DISK_SEGMENT_MAGIC 0x31746e656d676573u /* "segment1" */

enum { QUEUE_RECORD_DEFLATED = 1u << 0 };

struct emmap_disk_record {
    uint32_t crc; /* of the seed, then of the bytes up to state */
    uint32_t flags;
    uint64_t ordinal;
    uint64_t time_ms;
    uint32_t len_bytes;
    uint32_t data_crc;
    uint64_t state;
};
static_assert(offsetof(struct emmap_disk_record, ordinal) == 8, "layout");
static_assert(offsetof(struct emmap_disk_record, len_bytes) == 24, "layout");
static_assert(offsetof(struct emmap_disk_record, state) == 32, "layout");
static_assert(sizeof(struct emmap_disk_record) == QUEUE_RECORD_HEADER, "layout");

struct emmap_disk_trailer {
    uint32_t len_bytes, inverse;
};

/* Any two differ in two bits at least. */
enum queue_state_kind {
    QUEUE_READY = 3,
    QUEUE_FILLING = 5,
    QUEUE_LEASED = 6,
    QUEUE_TAKING = 9,
    QUEUE_DONE = 10,
    QUEUE_VOID = 12,
};

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "words in place are little-endian: no machine that is not can share them");

#endif
