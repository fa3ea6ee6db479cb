/* file.h -- a mapped file from within the library: what emmap.h leaves opaque. */
#ifndef EMMAP_STORE_FILE_H
#define EMMAP_STORE_FILE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "core/region.h"
#include "core/stripes.h"
#include "emmap.h"
#include "os/os.h"

struct emmap_file {
    struct emmap_region *region;
    uint64_t off; /* place 0 of the handle, in the file */
    uint64_t max_inc_bytes;
    uint32_t flags;
    _Atomic bool entry_synced; /* this handle has synced the folder that the file is in */
    /* The file's size that this handle's user was last told: only what lies below it may a resize
     * of theirs cut off. */
    _Atomic uint64_t told_bytes;
    struct stripes *stripes;       /* NULL: nolock */
    pthread_mutex_t stream_lock;   /* guards position */
    uint64_t position;             /* of read, write, read_line; place 0 is that of the handle */
    char *full_path;               /* absolute: good after a change of directory */
    struct pool_job job;           /* of emmap_file_free */
    bool pinned;                   /* when freed: it was still open */
    struct emmap_file *next, **at; /* among the open handles */
};

/* What emmap.h has, with a choice: without wait -EAGAIN where the call would wait for a lock, for the
 * disk, or for the file system. (A local one is asked for the size past the known end: 0.2 us.) */
int file_read(struct emmap_file *file, bool wait, uint64_t off, void *buf, uint64_t len_bytes,
              uint64_t *got_bytes);
int file_write(struct emmap_file *file, bool wait, uint64_t off, const void *data,
               uint64_t len_bytes);
int file_pointer(struct emmap_file *file, bool wait, uint64_t off, uint64_t len_bytes,
                 const void **at, uint64_t *got_bytes);

enum word_op { WORD_LOAD, WORD_STORE, WORD_CAS, WORD_FETCH, WORD_ALLOCATE };
struct word_call {
    enum word_op op;
    enum emmap_fetch fetch; /* of WORD_FETCH */
    int64_t operand, expected;
    int64_t old; /* the answer */
    /* WORD_ALLOCATE, of the three words of a counter: adds the operand, if so many numbers and low more
     * are known to be on the disk. */
    uint64_t flip, low; /* flip: what makes a key of a value */
    uint64_t left;      /* numbers on the disk that are not given yet */
    bool taken;
};
/* REGION_TOUCHED, of those that change something, without wait: its page was replaced meanwhile, so
 * that it is not acknowledged; it must not be done again. file_word_reason says why, and may wait. */
int file_word(struct emmap_file *file, bool wait, uint64_t off, struct word_call *call);
int file_word_reason(struct emmap_file *file, uint64_t off);

/* The next bytes from the position on, or the next line with its newline, in two steps, so that the
 * caller can make room for them in between. After begin has answered 0 the position is held until
 * end; a buf of NULL gives it up: -EAGAIN. -EBUSY: the line's newline was written over, begin again;
 * who has done so often enough clears next->newline, and takes what there is. */
#define FILE_NEXT_LINE UINT64_MAX
struct file_next {
    uint64_t len_bytes; /* as found, then as copied */
    bool line;
    bool newline; /* found at the end of the line; else the line ends with the file */
};
int file_next_begin(struct emmap_file *file, bool wait, uint64_t most_bytes,
                    struct file_next *next);
int file_next_end(struct emmap_file *file, bool wait, struct file_next *next, void *buf);
int file_write_next(struct emmap_file *file, bool wait, const void *data, uint64_t len_bytes);
/* Where the next bytes start; may lie past the end. -EINVAL: before the start, or 2^63 and above. */
enum file_whence { FILE_SEEK_SET, FILE_SEEK_CUR, FILE_SEEK_END };
int file_seek(struct emmap_file *file, bool wait, enum file_whence whence, int64_t off,
              uint64_t *position);
/* Makes the position the end of the file. */
int file_cut(struct emmap_file *file);
/* As posix_fallocate: takes disk space for a range of the handle, and grows to its end. */
int file_allocate(struct emmap_file *file, uint64_t off, uint64_t len_bytes);
int file_advise(struct emmap_file *file, uint64_t off, uint64_t len_bytes, enum os_advice advice);
/* emmap_file_sync_error, in line. */
static inline int file_sync_error(const struct emmap_file *file) {
    return atomic_load(&file->region->inode->sync_error);
}
/* For who has made every page of the file dirty again: the next sync tells anew. */
void file_forget_sync_error(struct emmap_file *file);
int file_details(struct emmap_file *file, struct os_details *out);

/* file_populate -- touch every page, for writing where the handle may. -ENOSPC and the like as
 * emmap_file_read. */
int file_populate(struct emmap_file *file);
/* file_touch_pages -- the same for places of the file, within a touch of them; changes nothing. */
void file_touch_pages(const struct emmap_file *file, uint64_t from, uint64_t to);
/* file_lock_memory -- keep the pages of a range of the file in memory. */
int file_lock_memory(struct emmap_file *file, uint64_t from, uint64_t to);

/* name_of_file -- absolute, so good after a change of directory; the caller's to free. */
int name_of_file(const char *path, uint32_t flags, char **out);

/* file_each -- calls each with every open handle, none of which is freed meanwhile. It must be
 * quick and open or close nothing. */
void file_each(void (*each)(void *ctx, struct emmap_file *file), void *ctx);

/* What of a size of the file is the handle's. */
uint64_t file_handle_bytes(const struct emmap_file *file, uint64_t file_bytes);
/* The absolute name behind symbolic links, also where there is no file yet; to be freed. */
int file_real_path(const char *path, char **out);
/* The size, asked of the file system. */
int file_ask_size(struct emmap_file *file, uint64_t *size_bytes);
/* Grows to size_bytes at least. */
int file_extend(struct emmap_file *file, uint64_t size_bytes);
/* The size, whatever others have made of it. */
int file_set_size(struct emmap_file *file, uint64_t size_bytes);

#endif
