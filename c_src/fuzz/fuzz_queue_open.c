/* fuzz_queue_open.c -- whatever bytes a queue's file has: it is refused, or goes on as a queue. On a plain
 * array; what lies past the file's end is out of bounds while it is opened. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/crc32c.h"
#include "fuzz/queue_edits.h"
#include "test/queue_check.h"

#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, len) ((void)(at), (void)(len))
#define ASAN_UNPOISON_MEMORY_REGION(at, len) ((void)(at), (void)(len))
#endif

enum { STEPS = 24, MOST_TAKES = 40000 };
static uint8_t buf[EDITS_ROOM];

struct run {
    struct emmap_queue *q;
    const struct edited *edited;
    uint64_t rng, file_bytes;
    struct ledger ledger;
    struct queue_message claimed[STEPS];
    unsigned claims;
};

static uint64_t random_below(struct run *run, uint64_t below) {
    run->rng ^= run->rng << 13;
    run->rng ^= run->rng >> 7;
    run->rng ^= run->rng << 17;
    return run->rng % below;
}

/* What the opener of a file checks of its header first. */
static bool header_is_good(const struct image *image) {
    struct emmap_disk_queue header;
    memcpy(&header, image->bytes, sizeof header);
    return image->len_bytes >= QUEUE_DATA_OFF &&
           memcmp(header.magic, EMMAP_DISK_QUEUE_MAGIC, sizeof header.magic) == 0 &&
           header.crc == crc32c(0, &header, offsetof(struct emmap_disk_queue, crc)) &&
           header.version == QUEUE_VERSION && header.kind == QUEUE_KIND && !header.incompat &&
           !header.ro_compat && header.segment_bytes == EDITS_SEGMENT &&
           header.data_off == QUEUE_DATA_OFF;
}

static void write_identity(struct emmap_queue *q) {
    for (unsigned i = 0; i < 6; i++)
        pm_set64(&queue_live(q)->identity[i], i + 1);
}

/* As a file is opened. What a recovery leaves agrees with itself. */
static int open_as(struct run *run, enum queue_past past) {
    struct emmap_queue *q = run->q;
    const struct image image = {.bytes = NULL, .len_bytes = run->file_bytes};
    const uint64_t end = (run->file_bytes + QUEUE_PAGE - 1) / QUEUE_PAGE * QUEUE_PAGE;
    const bool any = run->file_bytes >= QUEUE_DATA_OFF + EDITS_SEGMENT;
    run->claims = 0;
    if (any) ASAN_POISON_MEMORY_REGION(q->base + end, EDITS_ROOM - end);
    const int rc = image_settle(q, &image, past);
    if (any) ASAN_UNPOISON_MEMORY_REGION(q->base + end, EDITS_ROOM - end);
    FUZZ_MUST(rc == 0 || rc == EMMAP_E_CORRUPT || (!any && rc == -ENOSPC));
    if (rc == 0 && atomic_load(&q->was_recovered)) {
        write_identity(q);
        if (!any) run->file_bytes = QUEUE_DATA_OFF + EDITS_SEGMENT;
        q->base_bytes = run->file_bytes;
        const bool whole = atomic_load(&q->lost) == 0 && !run->edited->is_forged;
        const char *wrong = whole ? queue_disagrees(q, false) : queue_slots_disagree(q, false);
        q->base_bytes = EDITS_ROOM;
        if (wrong) fuzz_failed(__FILE__, __LINE__, wrong);
    }
    return rc;
}

static void grow_file(struct run *run) {
    const uint64_t slots = queue_get(&queue_live(run->q)->slots);
    const uint64_t bytes = QUEUE_DATA_OFF + slots * EDITS_SEGMENT;
    if (slots <= run->q->most_slots && bytes > run->file_bytes) run->file_bytes = bytes;
}

/* Found to make no sense: the next opener makes the best of it. false: that was told before. */
static bool reopen(struct run *run) {
    grow_file(run);
    return open_as(run, QUEUE_BROKEN) == 0;
}

/* A message that is whole is one that somebody pushed. */
static void see(struct run *run, uint32_t len_bytes) {
    if (!run->edited->is_forged) FUZZ_MUST(ledger_find(&run->ledger, buf, len_bytes) >= 0);
}

static int push(struct run *run, uint32_t len_bytes) {
    if (run->ledger.n == IMAGE_MESSAGES) return EMMAP_E_FULL;
    static uint8_t data[IMAGE_MESSAGE_BYTES];
    ledger_begin(&run->ledger, len_bytes);
    const unsigned id = run->ledger.n - 1;
    ledger_fill(data, id, len_bytes);
    struct queue_data message = {.body = data, .body_bytes = len_bytes};
    uint64_t end;
    const int rc = queue_push(run->q, true, &message, 1, &end);
    FUZZ_MUST(rc == 0 || rc == EMMAP_E_CORRUPT || rc == EMMAP_E_FULL || rc == EMMAP_E_TOO_BIG ||
              rc == -ENOSPC || rc == -ENOMEM || (rc == -EIO && len_bytes > QUEUE_SMALL_BYTES));
    return rc;
}

static int take(struct run *run, unsigned most) {
    struct queue_message messages[8];
    unsigned n = most;
    const int rc = queue_take(run->q, true, buf, sizeof buf, messages, &n);
    FUZZ_MUST(rc == 0 || rc == EMMAP_E_CORRUPT || rc == EMMAP_E_EMPTY || rc == QUEUE_SPUN);
    if (rc == 0 && n == 1) see(run, messages[0].len_bytes);
    return rc;
}

static int claim(struct run *run) {
    struct queue_message *message = &run->claimed[run->claims];
    if (run->claims == STEPS) return 0;
    const int rc = queue_claim(run->q, true, buf, sizeof buf, message);
    FUZZ_MUST(rc == 0 || rc == EMMAP_E_CORRUPT || rc == EMMAP_E_EMPTY || rc == QUEUE_SPUN);
    if (rc == 0) see(run, message->len_bytes);
    if (rc == 0) run->claims++;
    return rc;
}

static int end_claim(struct run *run, bool ack) {
    if (run->claims == 0) return 0;
    const struct queue_message message = run->claimed[--run->claims];
    const int rc = ack ? queue_ack(run->q, true, &message) : queue_return(run->q, true, &message);
    FUZZ_MUST(rc == 0 || rc == EMMAP_E_CORRUPT || rc == EMMAP_E_STALE);
    return rc;
}

static int look(struct run *run, bool backwards) {
    struct queue_place at = {0, 0};
    for (unsigned i = 0;; i++) {
        struct queue_message message;
        const uint64_t before = at.pos;
        const int rc = queue_peek(run->q, true, backwards, &at, buf, sizeof buf, &message);
        FUZZ_MUST(rc == 0 || rc == EMMAP_E_CORRUPT || rc == EMMAP_E_EMPTY || rc == EMMAP_E_BUSY);
        if (rc) return rc;
        see(run, message.len_bytes);
        FUZZ_MUST(before == 0 || (backwards ? at.pos < before : at.pos > before));
        FUZZ_MUST(i < MOST_TAKES);
    }
}

static int drop(struct run *run) {
    const int rc = queue_drop(run->q, queue_get(&queue_live(run->q)->tail));
    FUZZ_MUST(rc == 0 || rc == EMMAP_E_CORRUPT || rc == QUEUE_SPUN);
    return rc;
}

static int step(struct run *run) {
    switch (random_below(run, 12)) {
    case 0:
        return push(run, (uint32_t)random_below(run, 100));
    case 1:
        return push(run, (uint32_t)random_below(run, 65537));
    case 2:
        return push(run, 65537 + (uint32_t)random_below(run, 30000));
    case 3:
    case 4:
        return take(run, 1);
    case 5:
        return take(run, 8);
    case 6:
        return claim(run);
    case 7:
        return end_claim(run, true);
    case 8:
        return end_claim(run, false);
    case 9:
        return look(run, false);
    case 10:
        return look(run, true);
    default:
        return random_below(run, 4) ? queue_give_back(run->q) : drop(run);
    }
}

/* All is taken, then some more goes in and out. */
static void finish(struct run *run) {
    int rc = 0;
    for (unsigned i = 0; rc == 0; i++) {
        FUZZ_MUST(i < MOST_TAKES);
        rc = take(run, 1);
        if (rc == EMMAP_E_CORRUPT && !reopen(run)) return;
        if (rc == EMMAP_E_CORRUPT) rc = 0;
    }
    for (unsigned i = 0; rc == EMMAP_E_EMPTY && i < 3; i++) {
        const int pushed = push(run, 1000);
        if (pushed) return;
        const int taken = take(run, 1);
        FUZZ_MUST(taken == 0 || taken == EMMAP_E_CORRUPT || run->edited->is_forged);
        if (taken) return;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes) {
    static struct emmap_queue *desk;
    static struct run run;
    const struct edited edited = edits_make(data, len_bytes);
    if (!desk) desk = image_desk(EDITS_ROOM);
    if (!header_is_good(&edited.image)) return 0;
    run = (struct run){.q = desk,
                       .edited = &edited,
                       .rng = edited.plan,
                       .file_bytes = edited.image.len_bytes,
                       .ledger = *edited.ledger};
    image_lay(desk, &edited.image);
    struct emmap_disk_queue header;
    memcpy(&header, desk->base, sizeof header);
    queue_attach(desk, &header);
    if (edited.past != QUEUE_REBOOTED && queue_is_truncated(desk, edited.image.len_bytes)) return 0;
    if (open_as(&run, edited.past)) return 0;
    for (unsigned i = 0; i < random_below(&run, STEPS); i++) {
        const int rc = step(&run);
        grow_file(&run);
        if (rc == EMMAP_E_CORRUPT && !reopen(&run)) return 0;
        if (random_below(&run, 20) == 0 && open_as(&run, (enum queue_past)random_below(&run, 3)))
            return 0;
    }
    finish(&run);
    return 0;
}
