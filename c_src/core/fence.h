/* fence.h -- what has a release order: stores and counts, which a test build can make without; and
 * fences, also under thread sanitizer, which knows none: an atomic instruction is one as well. */
#ifndef EMMAP_CORE_FENCE_H
#define EMMAP_CORE_FENCE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "os/os_testing.h"

/* In the hottest calls, where a call of its own costs as much as what it does. */
#define ALWAYS_INLINE inline __attribute__((always_inline))

#if defined(__SANITIZE_THREAD__)
#define EMMAP_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define EMMAP_THREAD_SANITIZER 1
#endif
#endif

#ifdef EMMAP_THREAD_SANITIZER
#define fence(order)                        \
    do {                                    \
        static _Atomic unsigned fence_word; \
        atomic_fetch_add(&fence_word, 1);   \
    } while (0)
#else
#define fence(order) atomic_thread_fence(order)
#endif

#define store_release(at, value)                                                     \
    (OS_IS_MUTANT(WEAK) ? atomic_store_explicit((at), (value), memory_order_relaxed) \
                        : atomic_store_explicit((at), (value), memory_order_release))
#define fetch_sub_release(at, n)                                                     \
    (OS_IS_MUTANT(WEAK) ? atomic_fetch_sub_explicit((at), (n), memory_order_relaxed) \
                        : atomic_fetch_sub_explicit((at), (n), memory_order_release))
#define fetch_sub_acq_rel(at, n)                                                     \
    (OS_IS_MUTANT(WEAK) ? atomic_fetch_sub_explicit((at), (n), memory_order_relaxed) \
                        : atomic_fetch_sub_explicit((at), (n), memory_order_acq_rel))
#define fetch_add_acq_rel(at, n)                                                     \
    (OS_IS_MUTANT(WEAK) ? atomic_fetch_add_explicit((at), (n), memory_order_relaxed) \
                        : atomic_fetch_add_explicit((at), (n), memory_order_acq_rel))
/* In a loop: it may fail without a reason. */
#define cas_weak_release(at, expected, desired)                                              \
    (OS_IS_MUTANT(WEAK)                                                                      \
         ? atomic_compare_exchange_weak_explicit((at), (expected), (desired),                \
                                                 memory_order_relaxed, memory_order_relaxed) \
         : atomic_compare_exchange_weak_explicit((at), (expected), (desired),                \
                                                 memory_order_release, memory_order_relaxed))
#endif
