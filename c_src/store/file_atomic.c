/* file_atomic.c -- integers of a mapped file, as one machine instruction each. */
#include <errno.h>

#include "store/word.h"

int file_word_reason(struct emmap_file *file, uint64_t off) {
    const uint64_t size = atomic_load_explicit(file->region->size_bytes, memory_order_acquire);
    const int rc = region_settle(file->region, file->off + off, WORD_BYTES, size, true);
    return rc ? rc : -EIO;
}

int file_word(struct emmap_file *file, bool wait, uint64_t off, struct word_call *call) {
    const bool reads = call->op == WORD_LOAD;
    int rc;
    if (word_quick(file, wait, off, call, &rc)) return rc;
    struct touch t = {.file = file, .wait = wait, .once = word_is_once(call)};
    do {
        rc = touch_begin(&t, off, WORD_BYTES, false);
        if (rc == 0 && t.from % WORD_BYTES != 0) rc = EMMAP_E_ALIGNMENT;
        if (rc == 0 && !reads && !(file->flags & EMMAP_WRITE)) rc = -EACCES;
        if (rc) continue;
        word_do(call, (_Atomic uint64_t *)(void *)region_at(file->region, t.from));
        if (!reads) pm_fence_atomic();
        rc = touch_end(&t);
    } while (touch_again(&t, &rc));
    return rc;
}

static int word(struct emmap_file *file, uint64_t off, struct word_call call, int64_t *old) {
    const int rc = file_word(file, true, off, &call);
    if (rc == 0) *old = call.old;
    return rc;
}

int emmap_file_fetch(struct emmap_file *file, uint64_t off, enum emmap_fetch fetch, int64_t operand,
                     int64_t *old) {
    if ((unsigned)fetch > EMMAP_UMIN) return -EINVAL;
    return word(file, off, (struct word_call){.op = WORD_FETCH, .fetch = fetch, .operand = operand},
                old);
}

int emmap_file_cas(struct emmap_file *file, uint64_t off, int64_t expected, int64_t desired,
                   int64_t *old) {
    return word(file, off,
                (struct word_call){.op = WORD_CAS, .operand = desired, .expected = expected}, old);
}

int emmap_file_load(struct emmap_file *file, uint64_t off, int64_t *value) {
    return word(file, off, (struct word_call){.op = WORD_LOAD}, value);
}

int emmap_file_store(struct emmap_file *file, uint64_t off, int64_t value) {
    int64_t none;
    return word(file, off, (struct word_call){.op = WORD_STORE, .operand = value}, &none);
}
