/* registry.c -- which region does an address belong to? Asked in a signal handler. */
#include <errno.h>
#include <stdlib.h>

#include "core/fence.h"
#include "core/runtime.h"

static struct registry_entry *free_entry(struct runtime *rt) {
    const uint32_t used = atomic_load_explicit(&rt->registry_used, memory_order_relaxed);
    const uint32_t all = used * REGISTRY_CHUNK;
    for (uint32_t n = 0; n < all; n++) {
        const uint32_t i = (rt->registry_free_hint + n) % all;
        struct registry_entry *chunk =
            atomic_load_explicit(&rt->registry[i / REGISTRY_CHUNK], memory_order_relaxed);
        struct registry_entry *entry = &chunk[i % REGISTRY_CHUNK];
        if (atomic_load_explicit(&entry->end, memory_order_relaxed) == 0) {
            rt->registry_free_hint = i + 1;
            return entry;
        }
    }
    if (used == REGISTRY_CHUNKS) return NULL;
    struct registry_entry *chunk = calloc(REGISTRY_CHUNK, sizeof *chunk);
    if (!chunk) return NULL;
    /* pairs with registry_find: acquire of registry_used */
    atomic_store_explicit(&rt->registry[used], chunk, memory_order_relaxed);
    store_release(&rt->registry_used, used + 1);
    rt->registry_free_hint = all + 1;
    return chunk;
}

/* Sequentially consistent throughout: this is no hot path, and it reads as it runs. */
static void set_entry(struct registry_entry *entry, struct emmap_region *region, uintptr_t start,
                      uintptr_t end) {
    atomic_fetch_add(&entry->seq, 1);
    atomic_store(&entry->region, region);
    atomic_store(&entry->start, start);
    atomic_store(&entry->end, end);
    atomic_fetch_add(&entry->seq, 1);
}

int registry_add(struct emmap_region *region, void *start, size_t len_bytes,
                 struct registry_entry **out) {
    struct runtime *rt = runtime_get();
    pthread_mutex_lock(&rt->lock);
    struct registry_entry *entry = free_entry(rt);
    if (entry) set_entry(entry, region, (uintptr_t)start, (uintptr_t)start + len_bytes);
    pthread_mutex_unlock(&rt->lock);
    if (!entry) return -ENOMEM;
    *out = entry;
    return 0;
}

void registry_remove(struct registry_entry *entry) {
    struct runtime *rt = runtime_get();
    pthread_mutex_lock(&rt->lock);
    set_entry(entry, NULL, 0, 0);
    pthread_mutex_unlock(&rt->lock);
}

/* An entry that changes while it is looked at is not the one: whoever touches a region's pages
 * keeps its entry in place. */
struct emmap_region *registry_find(const void *addr) {
    struct runtime *rt = runtime_get();
    const uintptr_t at = (uintptr_t)addr;
    const uint32_t used = atomic_load_explicit(&rt->registry_used, memory_order_acquire);
    for (uint32_t c = 0; c < used; c++) {
        struct registry_entry *chunk = atomic_load_explicit(&rt->registry[c], memory_order_relaxed);
        for (uint32_t i = 0; i < REGISTRY_CHUNK; i++) {
            struct registry_entry *entry = &chunk[i];
            const uint32_t seq = atomic_load(&entry->seq);
            const uintptr_t start = atomic_load(&entry->start);
            const uintptr_t end = atomic_load(&entry->end);
            struct emmap_region *region = atomic_load(&entry->region);
            if (at >= start && at < end && seq % 2 == 0 && atomic_load(&entry->seq) == seq)
                return region;
        }
    }
    return NULL;
}
