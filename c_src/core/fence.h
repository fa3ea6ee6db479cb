/* fence.h -- fences, also under thread sanitizer, which knows none: an atomic instruction is one as
 * well. */
#ifndef EMMAP_CORE_FENCE_H
#define EMMAP_CORE_FENCE_H

#include <stdatomic.h>

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
#endif
