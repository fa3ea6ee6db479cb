/* pm.h -- the only way in which bytes of a mapping that must survive are read and written.
 *
 * In a release build these are plain stores and memcpy; a test build shows each store to the
 * recorder before it happens. Another thread or OS process may change the bytes meanwhile, so
 * pm_copy and pm_read move words of no particular order, and what they moved is undefined where
 * somebody else wrote. A plain memcpy would be a data race to C11: under thread sanitizer the
 * copies are relaxed atomic words and bytes, in a release build memmove, which compiles to loads
 * and stores that the hardware permits to race. */
#ifndef EMMAP_CORE_PM_H
#define EMMAP_CORE_PM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/fence.h"
#include "os/os_testing.h"

/* What separates the copy from a compiler that would read the source again. */
#define PM_BARRIER() __asm__ __volatile__("" ::: "memory")

#ifdef EMMAP_THREAD_SANITIZER
static inline void pm_move(void *dst, const void *src, size_t len_bytes) {
    uint8_t *to = dst;
    const uint8_t *from = src;
    if (to > from && to < from + len_bytes) {
        while (len_bytes-- > 0)
            __atomic_store_n(to + len_bytes, __atomic_load_n(from + len_bytes, __ATOMIC_RELAXED),
                             __ATOMIC_RELAXED);
        return;
    }
    while (len_bytes > 0) {
        const size_t word = sizeof(uint64_t);
        if (len_bytes >= word && (uintptr_t)to % word == 0 && (uintptr_t)from % word == 0) {
            __atomic_store_n(
                (uint64_t *)(void *)to,
                __atomic_load_n((const uint64_t *)(const void *)from, __ATOMIC_RELAXED),
                __ATOMIC_RELAXED);
            to += word, from += word, len_bytes -= word;
        } else {
            __atomic_store_n(to, __atomic_load_n(from, __ATOMIC_RELAXED), __ATOMIC_RELAXED);
            to++, from++, len_bytes--;
        }
    }
}
#else
static inline void pm_move(void *dst, const void *src, size_t len_bytes) {
    PM_BARRIER();
    memmove(dst, src, len_bytes); /* the source may lie in the mapping, too */
    PM_BARRIER();
}
#endif

/* pm_read -- copy out of a mapping into private memory. */
static inline void pm_read(void *dst, const void *src, size_t len_bytes) {
    pm_move(dst, src, len_bytes);
}

/* How a store is made: as it should be, but for the one that a test build is to make otherwise. */
#define PM_STORE OS_MUTANT_OF(1u << OS_MUTANT_SKIP | 1u << OS_MUTANT_LATE)
#define PM_SET OS_MUTANT_OF(1u << OS_MUTANT_SKIP | 1u << OS_MUTANT_LATE | 1u << OS_MUTANT_WEAK)

/* pm_copy -- copy private bytes into a mapping. */
#define pm_copy(dst, src, len_bytes) pm_copy_as(PM_STORE, dst, src, len_bytes)
static inline void pm_copy_as(enum os_mutant how, void *dst, const void *src, size_t len_bytes) {
    if (how == OS_MUTANT_SKIP) return;
    if (how == OS_MUTANT_LATE) {
        os_store_late(dst, src, len_bytes);
        return;
    }
    OS_RECORD(.kind = OS_EVENT_COPY, .addr = dst, .from = src, .len_bytes = len_bytes, .fd = -1);
    pm_move(dst, src, len_bytes);
    os_store_late_ones();
}

/* How a word is changed that others look at meanwhile: left out, or of no order with those around it. */
#define PM_WORD OS_MUTANT_OF(1u << OS_MUTANT_SKIP | 1u << OS_MUTANT_WEAK)

/* Thread sanitizer makes a change of a word under locks of its own, for which the fault handler's looks would wait: what
 * faults must fault before. */
static inline void pm_fault_first(const void *word) {
#if defined(EMMAP_THREAD_SANITIZER) && defined(__x86_64__)
    __asm__ __volatile__("lock; orq $0, %0" : "+m"(*(uint64_t *)(uintptr_t)word) : : "memory");
#else
    (void)word;
#endif
}

/* pm_store64 -- one aligned word, sequentially consistent. */
#define pm_store64(dst, value) pm_store64_as(PM_SET, dst, value)
static inline void pm_store64_as(enum os_mutant how, _Atomic uint64_t *dst, uint64_t value) {
    if (how == OS_MUTANT_SKIP) return;
    if (how == OS_MUTANT_LATE) {
        os_store_late((void *)(uintptr_t)dst, &value, sizeof value);
        return;
    }
    OS_RECORD(.kind = OS_EVENT_WORD, .addr = (const void *)dst, .len_bytes = 8, .fd = -1);
    pm_fault_first((const void *)dst);
    if (how == OS_MUTANT_WEAK)
        atomic_store_explicit(dst, value, memory_order_relaxed);
    else
        atomic_store(dst, value);
    os_store_late_ones();
}

/* pm_put64 -- a word whose place among the stores around it is of no matter: it counts when what comes
 * later, a pm_set64 or a sync, says so. */
#define pm_put64(dst, value) pm_put64_as(OS_MUTANT_OF(1u << OS_MUTANT_SKIP), dst, value)
static inline void pm_put64_as(enum os_mutant how, _Atomic uint64_t *dst, uint64_t value) {
    if (how == OS_MUTANT_SKIP) return;
    OS_RECORD(.kind = OS_EVENT_WORD, .addr = (const void *)dst, .len_bytes = 8, .fd = -1);
    atomic_store_explicit(dst, value, memory_order_relaxed);
    os_store_late_ones();
}

/* pm_set64 -- one word, with no more order than that what was stored before it comes before it. */
#define pm_set64(dst, value) pm_set64_as(PM_SET, dst, value)
static inline void pm_set64_as(enum os_mutant how, _Atomic uint64_t *dst, uint64_t value) {
    if (how == OS_MUTANT_SKIP) return;
    if (how == OS_MUTANT_LATE) {
        os_store_late((void *)(uintptr_t)dst, &value, sizeof value);
        return;
    }
    OS_RECORD(.kind = OS_EVENT_WORD, .addr = (const void *)dst, .len_bytes = 8, .fd = -1);
    pm_fault_first((const void *)dst);
    if (how == OS_MUTANT_WEAK)
        atomic_store_explicit(dst, value, memory_order_relaxed);
    else
        atomic_store_explicit(dst, value, memory_order_release);
    os_store_late_ones();
}

/* pm_cas64 -- the same, if the word is what is expected; otherwise that is what it is. */
#define pm_cas64(dst, expected, desired) pm_cas64_as(PM_WORD, dst, expected, desired)
static inline bool pm_cas64_as(enum os_mutant how, _Atomic uint64_t *dst, uint64_t *expected,
                               uint64_t desired) {
    bool done;
    if (how == OS_MUTANT_SKIP) return true;
    OS_RECORD(.kind = OS_EVENT_WORD, .addr = (const void *)dst, .len_bytes = 8, .fd = -1);
    pm_fault_first((const void *)dst);
    if (how == OS_MUTANT_WEAK)
        done = atomic_compare_exchange_strong_explicit(dst, expected, desired, memory_order_relaxed,
                                                       memory_order_relaxed);
    else
        done = atomic_compare_exchange_strong(dst, expected, desired);
    os_store_late_ones();
    return done;
}

/* pm_fetch_add64, ... -- one atomic instruction, sequentially consistent: the word as it was. */
#define PM_FETCH(name, function)                                                               \
    static inline uint64_t pm_##name##64_as(enum os_mutant how, _Atomic uint64_t *dst,         \
                                            uint64_t operand) {                                \
        if (how == OS_MUTANT_SKIP) return atomic_load(dst);                                    \
        OS_RECORD(.kind = OS_EVENT_WORD, .addr = (const void *)dst, .len_bytes = 8, .fd = -1); \
        pm_fault_first((const void *)dst);                                                     \
        const uint64_t old = how == OS_MUTANT_WEAK                                             \
                                 ? function##_explicit(dst, operand, memory_order_relaxed)     \
                                 : function(dst, operand);                                     \
        os_store_late_ones();                                                                  \
        return old;                                                                            \
    }
PM_FETCH(fetch_add, atomic_fetch_add)
PM_FETCH(fetch_sub, atomic_fetch_sub)
PM_FETCH(fetch_and, atomic_fetch_and)
PM_FETCH(fetch_or, atomic_fetch_or)
PM_FETCH(fetch_xor, atomic_fetch_xor)
PM_FETCH(exchange, atomic_exchange)
#define pm_fetch_add64(dst, operand) pm_fetch_add64_as(PM_WORD, dst, operand)
#define pm_fetch_sub64(dst, operand) pm_fetch_sub64_as(PM_WORD, dst, operand)
#define pm_fetch_and64(dst, operand) pm_fetch_and64_as(PM_WORD, dst, operand)
#define pm_fetch_or64(dst, operand) pm_fetch_or64_as(PM_WORD, dst, operand)
#define pm_fetch_xor64(dst, operand) pm_fetch_xor64_as(PM_WORD, dst, operand)
#define pm_exchange64(dst, value) pm_exchange64_as(PM_WORD, dst, value)
/* pm_fence -- between a store to a mapping and region_leave. */
static inline void pm_fence(void) {
    fence(memory_order_seq_cst);
}

/* The same after an atomic instruction, which on x86 is a fence itself. */
static inline void pm_fence_atomic(void) {
#if defined(__x86_64__)
    PM_BARRIER();
#else
    pm_fence();
#endif
}

/* pm_zero -- fill a range of a mapping with zeros. */
#define pm_zero(dst, len_bytes) pm_zero_as(OS_MUTANT_OF(1u << OS_MUTANT_SKIP), dst, len_bytes)
static inline void pm_zero_as(enum os_mutant how, void *dst, size_t len_bytes) {
    if (how == OS_MUTANT_SKIP) return;
    OS_RECORD(.kind = OS_EVENT_FILL, .addr = dst, .len_bytes = len_bytes, .fd = -1);
#ifdef EMMAP_THREAD_SANITIZER
    uint8_t *to = dst;
    for (size_t i = 0; i < len_bytes; i++)
        __atomic_store_n(to + i, 0, __ATOMIC_RELAXED);
#else
    memset(dst, 0, len_bytes);
#endif
    os_store_late_ones();
}

/* What must be, must be on the disk, must rise: a test build leaves one of them out. */
#define PM_MUST(condition) (OS_IS_MUTANT(PASS) || (condition))
#define PM_SYNC(call) (OS_IS_MUTANT(SYNC) ? 0 : (call))
#define PM_RAISED(epoch) ((epoch) + (OS_IS_MUTANT(EPOCH) ? 0 : 1))
#endif
