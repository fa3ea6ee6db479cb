/* file.h -- a mapped file from within the library: what emmap.h leaves opaque. */
#ifndef EMMAP_STORE_FILE_H
#define EMMAP_STORE_FILE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "core/region.h"
#include "emmap.h"

struct emmap_file {
    struct emmap_region *region;
    uint64_t off; /* place 0 of the handle, in the file */
    uint64_t max_inc_bytes;
    uint32_t flags;
    _Atomic bool entry_synced; /* the directory entry is on the disk, or was there before us */
    /* The file's size that this handle's user was last told: only what lies below it may a resize
     * of theirs cut off. */
    _Atomic uint64_t told_bytes;
    char *full_path;     /* absolute: good after a change of directory */
    struct pool_job job; /* of emmap_file_free */
    bool pinned;         /* when freed: it was still open */
};

/* emmap_file_read and _write, but -EAGAIN where they would wait for a lock or the file system
 * (beside the pages themselves). */
int file_try_read(struct emmap_file *file, uint64_t off, void *buf, uint64_t len_bytes,
                  uint64_t *got_bytes);
int file_try_write(struct emmap_file *file, uint64_t off, const void *data, uint64_t len_bytes);
int file_try_pointer(struct emmap_file *file, uint64_t off, uint64_t len_bytes, const void **at,
                     uint64_t *got_bytes);

#endif
