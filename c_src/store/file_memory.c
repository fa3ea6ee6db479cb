/* file_memory.c -- pages that are to be in memory: touched at open, or locked there. */
#include <errno.h>

#include "store/file.h"
#include "store/touch.h"

/* A write that changes nothing, also beside others' atomic changes; a read where writing is not
 * for us. An exchange of the byte for itself: of an "or" with 0 compilers make a load. It begins with
 * a guess, not a load, which would be a fault of its own. Touched page by page: faster than the
 * kernel's own call, and each fault has its answer. */
static void touch_page(const struct emmap_file *file, uint8_t *at) {
    if (!(file->flags & EMMAP_WRITE)) {
        (void)__atomic_load_n(at, __ATOMIC_RELAXED);
        return;
    }
    uint8_t byte = 0;
    while (!__atomic_compare_exchange_n(at, &byte, byte, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ; /* byte is what it holds now */
}

void file_touch_pages(const struct emmap_file *file, uint64_t from, uint64_t to) {
    const uint64_t page = file->region->page_bytes;
    for (uint64_t at = from; at < to; at = (at / page + 1) * page)
        touch_page(file, region_at(file->region, at));
}

int file_populate(struct emmap_file *file) {
    const uint64_t page = file->region->page_bytes;
    const uint64_t size = emmap_file_size(file);
    const uint64_t lead = file->off % page; /* of its page, the handle's place 0 has behind it */
    for (uint64_t off = 0; off < size; off += off == 0 ? page - lead : page) {
        struct touch t = {.file = file, .wait = true};
        int rc;
        do {
            rc = touch_begin(&t, off, 1, true);
            if (rc) continue;
            touch_page(file, region_at(file->region, t.from));
            rc = touch_end(&t);
        } while (touch_again(&t, &rc));
        if (rc == EMMAP_E_PAST_END) break;
        if (rc) return rc;
    }
    return 0;
}

int file_lock_memory(struct emmap_file *file, uint64_t from, uint64_t to) {
    const struct emmap_region *region = file->region;
    const uint64_t page = region->page_bytes;
    const uint64_t start = from / page * page;
    const uint64_t limit = to < region_limit(region) ? to : region_limit(region);
    if (limit <= start) return 0;
    const int rc = os_lock_memory(region_at(region, start), limit - start);
    return rc == -EAGAIN ? -ENOMEM : rc; /* beyond RLIMIT_MEMLOCK, as one system or another says */
}
