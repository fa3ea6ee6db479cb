/* pm.h -- the only way in which bytes of a mapping that must survive are read and written.
 *
 * In a release build these are plain stores and memcpy; a test build shows each store to the
 * recorder before it happens. Another thread or OS process may change the bytes meanwhile, so
 * pm_copy and pm_read move words of no particular order, and what they moved is undefined where
 * somebody else wrote. A plain memcpy would be a data race to C11: under thread sanitizer the
 * copies are relaxed atomic words and bytes, in a release build memcpy, which compiles to loads
 * and stores that the hardware permits to race. */
#ifndef EMMAP_CORE_PM_H
#define EMMAP_CORE_PM_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "os/os_testing.h"

#if defined(__SANITIZE_THREAD__)
#define PM_ATOMIC_COPY 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define PM_ATOMIC_COPY 1
#endif
#endif

/* What separates the copy from a compiler that would read the source again. */
#define PM_BARRIER() __asm__ __volatile__("" ::: "memory")

#ifdef PM_ATOMIC_COPY
static inline void pm_move(void *dst, const void *src, size_t len_bytes) {
    uint8_t *to = dst;
    const uint8_t *from = src;
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
    memcpy(dst, src, len_bytes);
    PM_BARRIER();
}
#endif

/* pm_read -- copy out of a mapping into private memory. */
static inline void pm_read(void *dst, const void *src, size_t len_bytes) {
    pm_move(dst, src, len_bytes);
}

/* pm_copy -- copy private bytes into a mapping. */
static inline void pm_copy(void *dst, const void *src, size_t len_bytes) {
    OS_RECORD(.kind = OS_EVENT_COPY, .addr = dst, .len_bytes = len_bytes, .fd = -1);
    pm_move(dst, src, len_bytes);
}

/* pm_zero -- fill a range of a mapping with zeros. */
static inline void pm_zero(void *dst, size_t len_bytes) {
    OS_RECORD(.kind = OS_EVENT_FILL, .addr = dst, .len_bytes = len_bytes, .fd = -1);
#ifdef PM_ATOMIC_COPY
    uint8_t *to = dst;
    for (size_t i = 0; i < len_bytes; i++)
        __atomic_store_n(to + i, 0, __ATOMIC_RELAXED);
#else
    memset(dst, 0, len_bytes);
#endif
}
#endif
