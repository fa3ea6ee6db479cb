/* fuzz_simple_counters_open.c -- whatever bytes a file has: it is refused and left as it is, or its counters
 * count, are there when it is opened again, and nothing else of it changes.
 *
 *     | count asked for | how | plan | byte ... |
 *
 * Any bytes are an input. They are the file as they are, or what follows a good magic, and a count that is
 * theirs or fits them. */
#include <string.h>

#include "fuzz/queue_edits.h"
#include "fuzz/scratch.h"
#include "store/simple_counters_layout.h"

enum { HEADER = sizeof(struct emmap_disk_simple_counters), VALUE = 8, MOST = 4096, STEPS = 32 };
enum { HOW_MAGIC = 1, HOW_COUNT = 2, HOW_NONE = 128, HOW_CUT = 64 };

struct run {
    uint8_t bytes[HEADER + MOST]; /* what the file must hold */
    uint64_t len_bytes, count, rng;
};

static uint64_t random_below(struct run *run, uint64_t below) {
    run->rng ^= run->rng << 13;
    run->rng ^= run->rng >> 7;
    run->rng ^= run->rng << 17;
    return run->rng % below;
}

static struct run make_run(const uint8_t *data, size_t len_bytes) {
    struct run run = {.len_bytes = 0};
    uint8_t head[3] = {0};
    memcpy(head, data, len_bytes < sizeof head ? len_bytes : sizeof head);
    const size_t from = len_bytes < sizeof head ? len_bytes : sizeof head;
    const size_t rest = len_bytes - from < MOST ? len_bytes - from : MOST;
    const uint8_t how = head[1];
    uint8_t *to = run.bytes;
    if (how & HOW_MAGIC) {
        memcpy(to, EMMAP_DISK_SIMPLE_COUNTERS_MAGIC, 8);
        to += 8;
    }
    if (how & HOW_COUNT) {
        const uint64_t count = rest / VALUE;
        memcpy(to, &count, sizeof count);
        to += sizeof count;
    }
    if (rest > 0) memcpy(to, data + from, rest);
    run.len_bytes = (uint64_t)(to - run.bytes) + (how & HOW_CUT ? rest : rest / VALUE * VALUE);
    run.rng = head[2] * 2654435761u + 1;
    return run;
}

/* What the format's page says. */
static int expected(const struct run *run, uint64_t asked, uint64_t *count) {
    struct emmap_disk_simple_counters header;
    if (run->len_bytes < HEADER) return EMMAP_E_FOREIGN;
    memcpy(&header, run->bytes, sizeof header);
    if (memcmp(header.magic, EMMAP_DISK_SIMPLE_COUNTERS_MAGIC, 8) != 0) return EMMAP_E_FOREIGN;
    if (header.count == 0 || header.count > (INT64_MAX - HEADER) / VALUE) return EMMAP_E_CORRUPT;
    if (run->len_bytes < HEADER + header.count * VALUE) return EMMAP_E_TRUNCATED;
    if (run->len_bytes > HEADER + header.count * VALUE) return EMMAP_E_CORRUPT;
    *count = header.count;
    return asked != 0 && asked != header.count ? EMMAP_E_SIZE_MISMATCH : 0;
}

/* One change, in the file and in what it must hold. */
static void count_once(struct run *run, struct emmap_file *file) {
    const uint64_t off = emmap_simple_counters_off(random_below(run, run->count));
    int64_t was, old = 0, by = (int64_t)(run->rng * 0x9e3779b97f4a7c15);
    memcpy(&was, run->bytes + off, sizeof was);
    int64_t now = was;
    switch (random_below(run, 4)) {
    case 0:
        now = (int64_t)((uint64_t)was + (uint64_t)by);
        FUZZ_MUST(emmap_file_fetch(file, off, EMMAP_ADD, by, &old) == 0);
        break;
    case 1:
        now = by;
        FUZZ_MUST(emmap_file_fetch(file, off, EMMAP_EXCHANGE, by, &old) == 0);
        break;
    case 2:
        now = was ^ by;
        FUZZ_MUST(emmap_file_fetch(file, off, EMMAP_XOR, by, &old) == 0);
        break;
    default:
        FUZZ_MUST(emmap_file_load(file, off, &old) == 0);
    }
    FUZZ_MUST(old == was);
    memcpy(run->bytes + off, &now, sizeof now);
}

/* Another program cuts it off: a value is read whole, or the call tells. */
static void be_cut(struct run *run, struct emmap_file *file) {
    int64_t value;
    run->len_bytes = random_below(run, run->len_bytes);
    scratch_cut(run->len_bytes);
    for (uint64_t i = 0; i < run->count; i++) {
        const int rc = emmap_file_load(file, emmap_simple_counters_off(i), &value);
        FUZZ_MUST(rc == 0 || rc == EMMAP_E_TRUNCATED || rc == EMMAP_E_PAST_END);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes) {
    const uint64_t asked = len_bytes > 1 && data[1] & HOW_NONE ? data[0] : 0;
    struct run run = make_run(data, len_bytes);
    scratch_write(run.bytes, run.len_bytes);
    for (unsigned again = 0; again < 3; again++) {
        struct emmap_file *file;
        uint64_t found = 0;
        const int rc = emmap_simple_counters_open(&file, scratch_path(), asked, &found);
        const int must = expected(&run, asked, &run.count);
        FUZZ_MUST(rc == must);
        if (rc == 0) {
            FUZZ_MUST(found == run.count);
            const uint64_t steps = random_below(&run, STEPS);
            for (uint64_t i = 0; i < steps; i++)
                count_once(&run, file);
            FUZZ_MUST(scratch_is(run.bytes, run.len_bytes));
            if (again == 1 && random_below(&run, 4) == 0) be_cut(&run, file);
            emmap_file_free(file);
        }
        FUZZ_MUST(scratch_is(run.bytes, run.len_bytes));
    }
    return 0;
}
