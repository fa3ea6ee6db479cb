/* file_atomic.c -- integers of a mapped file, as one machine instruction each. */
#include <errno.h>

#include "core/pm.h"
#include "store/counters_layout.h"
#include "store/touch.h"

enum { WORD = 8 };

/* Is it the operand that stays? */
static bool takes_over(enum emmap_fetch fetch, uint64_t operand, uint64_t old) {
    switch (fetch) {
    case EMMAP_MAX:
        return (int64_t)operand > (int64_t)old;
    case EMMAP_MIN:
        return (int64_t)operand < (int64_t)old;
    case EMMAP_UMAX:
        return operand > old;
    default:
        return operand < old;
    }
}

static uint64_t choose(enum emmap_fetch fetch, _Atomic uint64_t *word, uint64_t operand) {
    uint64_t old = atomic_load(word);
    while (takes_over(fetch, operand, old) && !pm_cas64(word, &old, operand))
        continue;
    return old;
}

/* Who sees durable above a number sees it on the disk: it is raised behind the sync. */
static void allocate(struct word_call *call, _Atomic uint64_t *value) {
    enum { DURABLE = offsetof(struct emmap_disk_counter, durable) / WORD };
    const uint64_t n = (uint64_t)call->operand;
    uint64_t old = atomic_load(value);
    do {
        const uint64_t key = old ^ call->flip, durable = atomic_load(value + DURABLE);
        call->left = durable > key ? durable - key : 0;
        call->taken = call->left >= n && call->left - n >= call->low;
    } while (call->taken && !pm_cas64(value, &old, old + n));
    call->old = (int64_t)old;
}

/* Wraps: the machine's arithmetic is unsigned. */
static void do_word(struct word_call *call, _Atomic uint64_t *word) {
    const uint64_t operand = (uint64_t)call->operand;
    uint64_t old = 0;
    switch (call->op) {
    case WORD_LOAD:
        old = atomic_load(word);
        break;
    case WORD_STORE:
        pm_store64(word, operand);
        break;
    case WORD_CAS:
        old = (uint64_t)call->expected;
        pm_cas64(word, &old, operand);
        break;
    case WORD_FETCH:
        switch (call->fetch) {
        case EMMAP_ADD:
            old = pm_fetch_add64(word, operand);
            break;
        case EMMAP_SUB:
            old = pm_fetch_sub64(word, operand);
            break;
        case EMMAP_AND:
            old = pm_fetch_and64(word, operand);
            break;
        case EMMAP_OR:
            old = pm_fetch_or64(word, operand);
            break;
        case EMMAP_XOR:
            old = pm_fetch_xor64(word, operand);
            break;
        case EMMAP_EXCHANGE:
            old = pm_exchange64(word, operand);
            break;
        case EMMAP_MAX:
        case EMMAP_MIN:
        case EMMAP_UMAX:
        case EMMAP_UMIN:
            old = choose(call->fetch, word, operand);
            break;
        }
        break;
    case WORD_ALLOCATE:
        allocate(call, word);
        return;
    }
    call->old = (int64_t)old;
}

int file_word_reason(struct emmap_file *file, uint64_t off) {
    const uint64_t size = atomic_load_explicit(file->region->size_bytes, memory_order_acquire);
    const int rc = region_settle(file->region, file->off + off, WORD, size, true);
    return rc ? rc : -EIO;
}

/* The usual case; false: nothing is done yet, or may be done again. */
static bool word_quick(struct emmap_file *file, bool wait, bool once, uint64_t off,
                       struct word_call *call, int *rc) {
    struct quick q;
    if (!(file->flags & EMMAP_WRITE) || !touch_quick(file, wait, off, WORD, &q)) return false;
    if (q.from % WORD != 0) return false;
    do_word(call, (_Atomic uint64_t *)(void *)region_at(file->region, q.from));
    pm_fence_atomic();
    *rc = 0;
    if (region_was_whole(file->region, q.marks_seen)) return true;
    if (!once) return false;
    *rc = region_leave(file->region, q.from, WORD, q.marks_seen);
    if (*rc != REGION_TOUCHED && *rc != REGION_AGAIN) return true;
    /* As touch_again: not done twice, not acknowledged; and why. */
    *rc = wait ? file_word_reason(file, off) : REGION_TOUCHED;
    return true;
}

int file_word(struct emmap_file *file, bool wait, uint64_t off, struct word_call *call) {
    const bool reads = call->op == WORD_LOAD;
    const bool once = !reads && call->op != WORD_STORE;
    int rc;
    if (word_quick(file, wait, once, off, call, &rc)) return rc;
    struct touch t = {.file = file, .wait = wait, .once = once};
    do {
        rc = touch_begin(&t, off, WORD, false);
        if (rc == 0 && t.from % WORD != 0) rc = EMMAP_E_ALIGNMENT;
        if (rc == 0 && !reads && !(file->flags & EMMAP_WRITE)) rc = -EACCES;
        if (rc) continue;
        do_word(call, (_Atomic uint64_t *)(void *)region_at(file->region, t.from));
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
