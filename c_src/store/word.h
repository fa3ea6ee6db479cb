/* word.h -- one integer of a mapped file, in line: where the call is known when it is compiled, nothing of the
 * others is left of it. */
#ifndef EMMAP_STORE_WORD_H
#define EMMAP_STORE_WORD_H

#include "core/pm.h"
#include "store/counters_layout.h"
#include "store/touch.h"

enum { WORD_BYTES = 8 };

/* Is it the operand that stays? */
static ALWAYS_INLINE bool word_takes_over(enum emmap_fetch fetch, uint64_t operand, uint64_t old) {
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

static ALWAYS_INLINE uint64_t word_choose(enum emmap_fetch fetch, _Atomic uint64_t *word,
                                          uint64_t operand) {
    uint64_t old = atomic_load(word);
    while (word_takes_over(fetch, operand, old) && !pm_cas64(word, &old, operand))
        continue;
    return old;
}

/* Who sees durable above a number sees it on the disk: it is raised behind the sync. */
static ALWAYS_INLINE void word_allocate(struct word_call *call, _Atomic uint64_t *value) {
    enum { DURABLE = offsetof(struct emmap_disk_counter, durable) / WORD_BYTES };
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
static ALWAYS_INLINE void word_do(struct word_call *call, _Atomic uint64_t *word) {
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
            old = word_choose(call->fetch, word, operand);
            break;
        }
        break;
    case WORD_ALLOCATE:
        word_allocate(call, word);
        return;
    }
    call->old = (int64_t)old;
}

/* Must it not be done twice? */
static ALWAYS_INLINE bool word_is_once(const struct word_call *call) {
    return call->op != WORD_LOAD && call->op != WORD_STORE;
}

/* file_word where nothing is to be waited for or mended; false: nothing is done yet, or may be done again. */
static ALWAYS_INLINE bool word_quick(struct emmap_file *file, bool wait, uint64_t off,
                                     struct word_call *call, int *rc) {
    struct quick q;
    if (!(file->flags & EMMAP_WRITE) || !touch_quick(file, wait, off, WORD_BYTES, &q)) return false;
    if (q.from % WORD_BYTES != 0) return false;
    word_do(call, (_Atomic uint64_t *)(void *)region_at(file->region, q.from));
    pm_fence_atomic();
    *rc = 0;
    if (region_was_whole(file->region, q.marks_seen)) return true;
    if (!word_is_once(call)) return false;
    *rc = region_leave(file->region, q.from, WORD_BYTES, q.marks_seen);
    if (*rc != REGION_TOUCHED && *rc != REGION_AGAIN) return true;
    /* As touch_again: not done twice, not acknowledged; and why. */
    *rc = wait ? file_word_reason(file, off) : REGION_TOUCHED;
    return true;
}

#endif
