/* emmap.h -- memory-mapped files that outlive the process.
 *
 * The one public header of libemmap. Every call returns 0 or a negative code: -errno, or one of
 * EMMAP_E_*; results go through out-pointers, which are written on success only. Sizes and
 * offsets are in bytes.
 *
 * Caveats: the library handles SIGBUS, and hands what is not its own to the handler that it found;
 * who installs another later must call ours in turn. After fork the child must not use handles of
 * its parent: it has not the thread that gives them back. It opens its own after exec. (Of queues it is
 * no owner: their locks are not the child's, and its handles are closed.)
 *
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef EMMAP_H
#define EMMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define EMMAP_API __attribute__((visibility("default")))
#else
#define EMMAP_API
#endif

#define EMMAP_VERSION "3.0.0"

/* ---------------------------------------------------------------------------------- errors */

/* Our own reasons, beside errno's: code, name (the Erlang atom), message. */
#define EMMAP_ERRORS(X)                                                                            \
    X(CLOSED, closed, "the handle is closed")                                                      \
    X(TRUNCATED, truncated,                                                                        \
      "the file no longer reaches this place: it was truncated while mapped")                      \
    X(FIXED_SIZE, fixed_size, "the handle was opened with fixed_size")                             \
    X(SIZE_MISMATCH, size_mismatch,                                                                \
      "the file has another size than the length asked for, "                                      \
      "and fit was not given")                                                                     \
    X(SIZE_MISSING, size_missing, "a new file needs a length: a length argument or {size, N}")     \
    X(NETWORK_FS, network_fs, "the file lies on a network file system, and force was not given")   \
    X(BUSY, busy, "another OS process has been changing the file's size for too long")             \
    X(PAST_END, past_end, "the range reaches past the end of the mapped file")                     \
    X(NOTSUP, enotsup, "this system has no such thing")                                            \
    X(ALIGNMENT, alignment, "an integer must lie on an 8-byte boundary of the file")               \
    X(FOREIGN, foreign, "the file is of another kind")                                             \
    X(CORRUPT, corrupt, "the file is damaged")                                                     \
    X(FULL, full, "the queue has no room for it: max_size, or fixed_size")                         \
    X(TOO_BIG, too_big, "the message is larger than the queue takes: max_message")                 \
    X(EMPTY, empty, "the queue is empty")                                                          \
    X(LOCKED, locked, "the file is in use, and is not shared")                                     \
    X(OLD_FORMAT, old_format, "a queue of version 2, which has another format")                    \
    X(DIFFERS, differs, "the file has more counters, other names or other options than asked for") \
    X(STALE, stale, "the claim has ended")                                                         \
    X(UNSAFE_TERM, unsafe_term, "the term would make a new atom, and safe was given")              \
    X(SYNC_FAILED, sync_failed,                                                                    \
      "an earlier sync of this file failed: what was written since the "                           \
      "sync before it may be lost")

enum emmap_error {
    EMMAP_E_FIRST = -10000,
#define EMMAP_ERROR_CODE(code, name, message) EMMAP_E_##code,
    EMMAP_ERRORS(EMMAP_ERROR_CODE)
#undef EMMAP_ERROR_CODE
        EMMAP_E_END
};

/* emmap_error_name -- the code's name as Erlang has it ("enospc", "closed"), "unknown" for what
 * is no code of ours. Static. */
EMMAP_API const char *emmap_error_name(int code);

/* emmap_error_code -- the code of a name, 0 for what is no name of ours. */
EMMAP_API int emmap_error_code(const char *name);

/* emmap_error_message -- what the code means, in words. Static. */
EMMAP_API const char *emmap_error_message(int code);

/* --------------------------------------------------------------------- mapped files: bytes */

struct emmap_file;

enum emmap_file_flag {
    EMMAP_WRITE = 1u << 0, /* map for writing; without it for reading only */
    EMMAP_CREATE =
        1u << 1, /* make the file if it is missing; needs WRITE, and a length or EXTEND */
    EMMAP_TRUNCATE = 1u << 2,         /* empty the file, as the last step of open; needs WRITE */
    EMMAP_SHARED = 1u << 3,           /* changes reach the file; else they are the handle's own */
    EMMAP_FIT = 1u << 4,              /* stretch a shorter file, map a longer one whole */
    EMMAP_FIXED_SIZE = 1u << 5,       /* resize is EMMAP_E_FIXED_SIZE */
    EMMAP_AUTO_UNLINK = 1u << 6,      /* delete the file at close */
    EMMAP_SPARSE = 1u << 7,           /* reserve no disk space when the file grows */
    EMMAP_FORCE = 1u << 8,            /* map on a network file system too */
    EMMAP_EXTEND = 1u << 9,           /* a write past the end grows the file */
    EMMAP_NOLOCK = 1u << 10,          /* a read may see a write in part */
    EMMAP_NOFOLLOW = 1u << 11,        /* a symbolic link is -ELOOP */
    EMMAP_LOCK_MEMORY = 1u << 12,     /* the pages stay in memory (mlock) */
    EMMAP_ANON = 1u << 13,            /* no file; the path is ignored, off is 0, the length given */
    EMMAP_AT = 1u << 14,              /* map at the option address; -EEXIST: it is in use */
    EMMAP_POPULATE = 1u << 15,        /* touch all pages at open */
    EMMAP_NONBLOCK = 1u << 16,        /* with POPULATE: only what needs no wait, that is nothing */
    EMMAP_SHARED_VALIDATE = 1u << 17, /* with SHARED: unknown flags are refused */
    EMMAP_SYNC = 1u << 18,            /* with SHARED_VALIDATE: on DAX files, stores are durable */
    EMMAP_NORESERVE = 1u << 19,       /* reserve no swap */
    EMMAP_NOCACHE = 1u << 20,         /* macOS: pages are dropped first */
    EMMAP_UNINITIALIZED = 1u << 21,   /* with ANON, where the kernel was built for it */
    EMMAP_HUGETLB = 1u << 22,         /* with ANON: huge pages, of the default size or */
    EMMAP_HUGE_2MB = 1u << 23,
    EMMAP_HUGE_1GB = 1u << 24,
};

struct emmap_file_options {
    uint32_t flags;               /* of enum emmap_file_flag */
    uint32_t mode;                /* of a file that is made, under the umask; 0: 0600 */
    uint64_t off;                 /* byte of the file that is place 0 of the handle */
    uint64_t len_bytes;           /* 0: what the file holds from off on */
    uint64_t max_inc_bytes;       /* emmap_file_grow doubles below, adds above; 0: 64 MiB */
    uint64_t address;             /* with AT: a multiple of the page size */
    uint64_t address_space_bytes; /* what resize may grow to; 0: 16 times the size, at least
                                     4 GiB, at most 64 GiB, at least the size */
};

/* emmap_file_open -- map a regular file.
 *
 *   out        on success a handle, owned by the caller: emmap_file_close, then _free
 *   path       copied
 *   existed    on success, whether the file was there; may be NULL
 *
 * Returns  0 | -errno | EMMAP_E_SIZE_MISMATCH, _SIZE_MISSING, _NETWORK_FS, _BUSY, _NOTSUP
 *          (-ENODEV: not a regular file; -EISDIR; -EINVAL: a flag without the one that it needs, or
 *          an offset past the end; -EACCES: to be changed, and without WRITE).
 *          After an error the file is as it was, and one that was missing is missing. (But where its
 *          pages could not be locked in memory, TRUNCATE has emptied it by then; and what another handle
 *          of this OS process has open meanwhile stays as long as it is.)
 * Threads  any number at once, also on one file
 * Process  safe beside other OS processes that open, grow and use the file
 * Faults   waits for the file system; call it where that may be done
 */
EMMAP_API int emmap_file_open(struct emmap_file **out, const char *path,
                              const struct emmap_file_options *options, bool *existed);

/* emmap_file_close -- end the use of a handle, at any moment, from any thread. Calls in flight
 * answer EMMAP_E_CLOSED, as do later ones. The pages are unmapped in the background, the
 * descriptor is closed with its last user (see emmap_file_hold). Always 0; again: 0. */
EMMAP_API int emmap_file_close(struct emmap_file *file);

/* emmap_file_free -- give the handle back, closing it if need be. No other call may be in flight
 * or follow. Does nothing slow. NULL is allowed. */
EMMAP_API void emmap_file_free(struct emmap_file *file);

/* emmap_file_read -- copy bytes out.
 *
 *   off, len_bytes   any values; the range is cut at the end of the file
 *   got_bytes        how much was copied; 0 with success only when len_bytes is 0
 *
 * Returns  0 | EMMAP_E_PAST_END (off at or past the end) | -EINVAL (off, or its sum with len_bytes,
 *          of 2^63 or more) | EMMAP_E_CLOSED | EMMAP_E_TRUNCATED, -EIO, -ENOSPC (a page could not
 *          be had: what was copied is undefined) | -ENOMEM (off is past the handle's addresses:
 *          others have grown the file further)
 * Order    sees each write of this OS process whole, unless one of the two handles has NOLOCK
 * Threads  any number
 * Process  sees what other OS processes wrote, perhaps in part, and their growth of the file
 * Faults   touches mapped pages: may wait for the disk
 */
EMMAP_API int emmap_file_read(struct emmap_file *file, uint64_t off, void *buf, uint64_t len_bytes,
                              uint64_t *got_bytes);

/* emmap_file_write -- copy bytes in.
 *
 * Returns  0 | EMMAP_E_PAST_END (nothing written; with EXTEND the file grows instead, with the errors
 *          of emmap_file_resize) | -EACCES (mapped for reading only) | the rest as emmap_file_read;
 *          after a page that could not be had the range may be written in part
 * Threads  any number
 * Durable  survives the death of the OS process; for power loss see emmap_file_sync
 * Faults   touches mapped pages: may wait for the disk
 */
EMMAP_API int emmap_file_write(struct emmap_file *file, uint64_t off, const void *data,
                               uint64_t len_bytes);

/* emmap_file_size -- the handle's bytes as last known, without asking the file system. */
EMMAP_API uint64_t emmap_file_size(const struct emmap_file *file);

/* emmap_file_resize -- change the size to size_bytes (from place 0 of the handle).
 *
 *   now_bytes   the size afterwards; may be NULL
 *
 * On failure the size is as before, and what was taken of the disk is given back. Only what the
 * handle was told of (by open, resize, info) is cut off: when somebody else has grown the file
 * since, their size is adopted, and told. A private handle grows in memory and leaves the file
 * alone.
 *
 * Returns  0 | -EACCES | EMMAP_E_FIXED_SIZE | -ENOSPC | -ENOMEM (beyond the address space of the
 *          handle) | EMMAP_E_BUSY | EMMAP_E_CLOSED | -errno
 * Threads  any number, beside readers and writers; no pointer moves
 * Process  growth and shrinking exclude each other across OS processes that use emmap
 * Faults   waits for the file system
 */
EMMAP_API int emmap_file_resize(struct emmap_file *file, uint64_t size_bytes, uint64_t *now_bytes);

/* emmap_file_grow -- double the size below max_inc_bytes, else add max_inc_bytes. As _resize. */
EMMAP_API int emmap_file_grow(struct emmap_file *file, uint64_t *now_bytes);

/* emmap_file_flush -- start the write-back of what has changed; does not wait for it to end. */
EMMAP_API int emmap_file_flush(struct emmap_file *file);

/* emmap_file_sync -- wait until everything written before the call is on the disk, and the
 * file's directory entry with it (once for a handle: also a file that was there may have been made a moment
 * ago). A private handle has nothing to wait for.
 *
 * Returns  0 | EMMAP_E_SYNC_FAILED (this one or an earlier one: see _sync_error; stays until
 *          the last handle of the file in this OS process is closed) | EMMAP_E_CLOSED
 */
EMMAP_API int emmap_file_sync(struct emmap_file *file);

/* emmap_file_sync_error -- 0, or the -errno of the first sync that failed. */
EMMAP_API int emmap_file_sync_error(const struct emmap_file *file);

/* emmap_file_sync_range -- the same for a range, which is cut at the end. -EINVAL past 2^63. */
EMMAP_API int emmap_file_sync_range(struct emmap_file *file, uint64_t off, uint64_t len_bytes);

/* emmap_file_hold -- keep the mapping beyond close, for pointers into it.
 *
 * While held, the mapping and its descriptor outlive emmap_file_close and emmap_file_free, and a
 * truncation by others turns into zero bytes under the pointers, never into a signal. Each hold is
 * let go with emmap_file_unhold, once. Returns 0 | EMMAP_E_CLOSED. */
struct emmap_hold;
EMMAP_API int emmap_file_hold(struct emmap_file *file, struct emmap_hold **hold);
EMMAP_API void emmap_file_unhold(struct emmap_hold *hold);

/* emmap_file_pointer -- the address of a range, good while the handle is open or held.
 *
 *   got_bytes   as emmap_file_read
 *
 * The address never changes, also when the file grows. Stores through it are the caller's own
 * affair: they need a handle open for writing. Errors as emmap_file_read.
 * Faults   touches the last page of the range: may wait for the disk */
EMMAP_API int emmap_file_pointer(struct emmap_file *file, uint64_t off, uint64_t len_bytes,
                                 const void **at, uint64_t *got_bytes);

enum emmap_space {
    EMMAP_SPACE_RESERVED,    /* every byte has its place on the disk */
    EMMAP_SPACE_BEST_EFFORT, /* the file system cannot promise it */
    EMMAP_SPACE_SPARSE,      /* the file has holes: a write may find the disk full */
};

struct emmap_file_info {
    uint64_t size_bytes;          /* of the handle */
    uint64_t off;                 /* of the handle's place 0 in the file */
    uint64_t file_bytes;          /* of the file */
    uint64_t allocated_bytes;     /* on the disk */
    uint64_t address_space_bytes; /* what the handle can grow to */
    uint64_t page_bytes;
    uint64_t faults; /* pages or tails replaced by zeros since open */
    uint32_t flags;  /* of enum emmap_file_flag */
    enum emmap_space space;
    bool linked;      /* the file still has the name that it was opened by */
    int sync_error;   /* 0, or the -errno of the first sync that failed */
    const char *path; /* absolute; the handle's */
};

/* emmap_file_info -- asks the file system, so sees others' growth and shrinking. */
EMMAP_API int emmap_file_info(struct emmap_file *file, struct emmap_file_info *info);

/* -------------------------------------------------------------- mapped files: integers */

enum emmap_fetch {
    EMMAP_ADD,
    EMMAP_SUB,
    EMMAP_AND,
    EMMAP_OR,
    EMMAP_XOR,
    EMMAP_EXCHANGE,
    EMMAP_MAX, /* the larger one stays, of two signed integers */
    EMMAP_MIN,
    EMMAP_UMAX, /* of two unsigned ones */
    EMMAP_UMIN,
};

/* emmap_file_fetch -- one atomic read-modify-write of the 64-bit integer at off, which wraps.
 * emmap_file_cas   -- store desired if the integer is expected; *old == expected tells.
 * emmap_file_load, emmap_file_store
 *
 *   off   on an 8-byte boundary of the file, else EMMAP_E_ALIGNMENT
 *   old   on success the value before
 *
 * Native byte order. -EINVAL: there is no such fetch. Errors otherwise as emmap_file_write.
 * Order    sequentially consistent
 * Threads  any number
 * Process  any number of OS processes
 * Faults   touches a mapped page: may wait for the disk
 */
EMMAP_API int emmap_file_fetch(struct emmap_file *file, uint64_t off, enum emmap_fetch fetch,
                               int64_t operand, int64_t *old);
EMMAP_API int emmap_file_cas(struct emmap_file *file, uint64_t off, int64_t expected,
                             int64_t desired, int64_t *old);
EMMAP_API int emmap_file_load(struct emmap_file *file, uint64_t off, int64_t *value);
EMMAP_API int emmap_file_store(struct emmap_file *file, uint64_t off, int64_t value);

/* ------------------------------------------------------------------------ simple counters */

/* emmap_simple_counters_open -- a file of 64-bit counters (docs/format/simple_counters.md), shared and writable.
 *
 *   count   how many; an existing file must have as many. 0: an existing file with any count
 *   found   on success how many there are; counter i is the integer at emmap_simple_counters_off(i)
 *
 * Returns  0 | EMMAP_E_FOREIGN, _CORRUPT, _TRUNCATED, _SIZE_MISMATCH (the file is left as it was) | -errno; a new
 *          file that is whole by then stays: somebody else may have it open already
 * Process  safe when several make the file at once
 * Faults   waits for the file system
 */
EMMAP_API int emmap_simple_counters_open(struct emmap_file **out, const char *path, uint64_t count,
                                         uint64_t *found);

/* emmap_simple_counters_count -- how many counters a file is of, opened by whatever call.
 *
 * Returns  0 | EMMAP_E_FOREIGN (no counters file) | EMMAP_E_CORRUPT | as emmap_file_read
 * Faults   touches a mapped page: may wait for the disk */
EMMAP_API int emmap_simple_counters_count(struct emmap_file *file, uint64_t *count);

static inline uint64_t emmap_simple_counters_off(uint64_t i) {
    return 16 + 8 * i;
}

/* ------------------------------------------------------------------------------- counters */

/* 64-bit counters in a file (docs/format/counters.md), with names or without, shared by any number of
 * threads and OS processes. A file of simple counters is opened, too, and stays what it is: it has no
 * names, and cannot be extended or allocated from. Counters are numbered from 0. */
struct emmap_counters;

enum emmap_counters_flag {
    EMMAP_COUNTERS_CREATE = 1u << 0, /* make the file if it is missing */
    EMMAP_COUNTERS_READ =
        1u << 1, /* only to be looked at: updates are -EACCES, nothing is written */
    EMMAP_COUNTERS_FORCE = 1u << 2, /* on a network file system too */
    /* Of a new file; an existing one must have been made alike, unless count is 0. */
    EMMAP_COUNTERS_UNSIGNED = 1u << 8,
    EMMAP_COUNTERS_PADDED = 1u << 9,   /* a cache line for each: named ones have it anyway */
    EMMAP_COUNTERS_STRIPED = 1u << 10, /* 16 cells each: get, put, add, sub only, of no order */
};

enum emmap_counter_type { EMMAP_GAUGE, EMMAP_COUNTER };

/* UTF-8. NULL is as "". */
struct emmap_counter {
    const char *name; /* 1 to 255 bytes */
    const char *unit; /* at most 63 */
    const char *help; /* at most 623 */
    enum emmap_counter_type type;
};

struct emmap_counters_options {
    uint32_t flags;
    uint32_t mode;  /* of a new file, under the umask; 0: 0600 */
    uint64_t count; /* 0: an existing file with whatever it has */
    /* count of them: a file with names. Those of an existing file must all be among them, in any order: they
     * keep their numbers, units, helps and types, whatever is given here (emmap_counters_find, _name). It gets
     * the others. NULL: a file without. */
    const struct emmap_counter *counters;
};

/* emmap_counters_open -- open, make or extend a file of counters.
 *
 * A file that is extended may be in use meanwhile. A handle that is open has addresses for 16 times what was there,
 * 4 GiB at least, 64 GiB at most, and for what it asked for itself. Counters that others add behind that are -ENOMEM
 * to it, until it is opened anew.
 *
 * Returns  0 | -EINVAL (a name that is empty, too long, no UTF-8, or given twice) | EMMAP_E_FOREIGN
 *          | EMMAP_E_CORRUPT | EMMAP_E_TRUNCATED | EMMAP_E_DIFFERS | EMMAP_E_NOTSUP (to extend a file of simple
 *          counters; a later format) | EMMAP_E_BUSY (another is extending it for 5 s) | as emmap_file_open; the file
 *          is left as it was | EMMAP_E_SYNC_FAILED, or the -errno of an extension's sync that failed: then the file
 *          may be longer, with its new counters or without, and tells the next opener of it
 * Process  safe when several make or extend it at once
 * Faults   touches each page of names, and after a reboot each page: waits for the disk
 */
EMMAP_API int emmap_counters_open(struct emmap_counters **out, const char *path,
                                  const struct emmap_counters_options *options);

/* emmap_counters_close -- calls that are on their way may still end; later ones are EMMAP_E_CLOSED. */
EMMAP_API int emmap_counters_close(struct emmap_counters *counters);
/* emmap_counters_free -- closes it, too. No call may be on its way. NULL is nothing. */
EMMAP_API void emmap_counters_free(struct emmap_counters *counters);

/* emmap_counters_fetch, _cas, _get, _put -- one counter.
 *
 *   fetch     what is done with it and the operand; EMMAP_MAX and EMMAP_MIN compare as the file is signed
 *             or unsigned. AND, OR and XOR, too
 *   old       what it was before
 *
 * Wraps. Unsigned values are given and answered as int64_t of the same bits. Of striped counters get is
 * a sum of the cells, put sets them one after the other, fetch is ADD or SUB only (old is 0).
 *
 * Returns  0 | -EDOM (there is no such counter) | -EINVAL (no such fetch) | -EACCES | EMMAP_E_NOTSUP (of
 *          striped counters) | as emmap_file_fetch; EMMAP_E_TRUNCATED if others have cut the counter off
 * Order    sequentially consistent, but striped ones
 * Threads  any number
 * Process  any number of OS processes
 * Durable  survives the death of the process; for power loss see emmap_counters_sync
 * Faults   touches a mapped page: may wait for the disk
 */
EMMAP_API int emmap_counters_fetch(struct emmap_counters *counters, uint64_t i,
                                   enum emmap_fetch fetch, int64_t operand, int64_t *old);
EMMAP_API int emmap_counters_cas(struct emmap_counters *counters, uint64_t i, int64_t expected,
                                 int64_t desired, int64_t *old);
EMMAP_API int emmap_counters_get(struct emmap_counters *counters, uint64_t i, int64_t *value);
EMMAP_API int emmap_counters_put(struct emmap_counters *counters, uint64_t i, int64_t value);

/* emmap_counters_allocate -- numbers that nobody was ever given, also after a power loss.
 *
 *   n         at least 1
 *   first     the caller's are first to first + n - 1; the counter is first + n then
 *
 * Numbers rise. After a crash some are skipped. Who lowers the counter by another call has them given
 * again.
 *
 * Returns  0 | -EDOM | -EINVAL (n is 0) | -EOVERFLOW (there are no more) | -EACCES
 *          | EMMAP_E_NOTSUP (striped or simple counters) | as emmap_file_sync: after a sync that failed, also one
 *          that another call or OS process made, until the file is opened anew; nothing is given then
 * Order    sequentially consistent
 * Threads, Process   any number
 * Durable  what was given is not given again after a power loss
 * Faults   touches a mapped page; of many calls one waits for a sync, or the background does
 */
EMMAP_API int emmap_counters_allocate(struct emmap_counters *counters, uint64_t i, uint64_t n,
                                      int64_t *first);

/* emmap_counters_sync -- wait until all is on the disk.
 *
 * Returns  as emmap_file_sync | EMMAP_E_TRUNCATED (others have cut the file below its counters)
 * Faults   touches a mapped page when it fails */
EMMAP_API int emmap_counters_sync(struct emmap_counters *counters);

struct emmap_counters_info {
    uint64_t count;
    uint64_t file_bytes;
    bool is_simple, is_named, is_unsigned, is_padded, is_striped, is_read_only;
    bool linked;      /* the file is still under its name */
    const char *path; /* as long as the handle is open */
    int sync_error;   /* 0, or why a sync failed, here or in another OS process */
};

/* emmap_counters_info -- asks for the count, too, which others may have raised.
 *
 * Returns  0 | EMMAP_E_CLOSED | EMMAP_E_TRUNCATED | as emmap_file_info
 * Faults   touches a mapped page: may wait for the disk */
EMMAP_API int emmap_counters_info(struct emmap_counters *counters, struct emmap_counters_info *out);

/* emmap_counters_name -- what counter i is called. The texts are good as long as the handle is.
 *
 * Returns  0 | -EDOM (there is no such counter, or none has a name) | as emmap_counters_info
 * Faults   touches the names that others have added: may wait for the disk */
EMMAP_API int emmap_counters_name(struct emmap_counters *counters, uint64_t i,
                                  struct emmap_counter *out);

/* emmap_counters_find -- the counter of that name, len_bytes of UTF-8.
 *
 * Returns  0 | -EDOM (there is none) | as emmap_counters_info
 * Faults   touches the names that others have added: may wait for the disk */
EMMAP_API int emmap_counters_find(struct emmap_counters *counters, const char *name,
                                  size_t len_bytes, uint64_t *i);

/* emmap_counters_text -- all counters in the text format of Prometheus, version 0.0.4.
 *
 *   put   is given the text piece by piece, of some KiB at most; not 0: that ends the call
 *
 * A metric has the counter's name, with `_` for each character that Prometheus has no use for, then the
 * unit (`_seconds`) unless the name ends with it, then, of an EMMAP_COUNTER, `_total`. When an earlier one is
 * called so already, `_` and the counter's number from 1 come before that `_total`. Counters without names are one
 * metric, `emmap_value{index="1"}` and so on. Each value is of a moment of its own. What is counted in nanoseconds,
 * microseconds or milliseconds is told in seconds, to the last digit: `wait_ns` is `wait_seconds_total 0.000000017`.
 *
 * Returns  0 | what put returned | -ENOMEM | as emmap_counters_get; part of the text may have been put
 * Threads  any number; put is called in the caller's
 * Process  beside any number of OS processes; counters that they add meanwhile come with the next call
 * Faults   touches each page: may wait for the disk
 */
EMMAP_API int emmap_counters_text(struct emmap_counters *counters,
                                  int (*put)(void *ctx, const char *text, size_t len_bytes),
                                  void *ctx);

/* ------------------------------------------------------------------------------- the queue */

/* A FIFO queue of messages in a file (docs/format/queue.md), shared by any number of threads, and
 * with MULTI_OS by OS processes. Opened twice in one OS process it is one queue. */
struct emmap_queue;

enum { EMMAP_QUEUE_MOST_BYTES = 1 << 30 }; /* of one message */

enum emmap_queue_open_flag {
    EMMAP_QUEUE_CREATE = 1u << 0,      /* make the file if it is missing */
    EMMAP_QUEUE_MULTI_OS = 1u << 1,    /* other OS processes may have it open, with the same flag */
    EMMAP_QUEUE_FIXED_SIZE = 1u << 2,  /* a new file has all its space at once, and keeps it */
    EMMAP_QUEUE_PRIVATE = 1u << 3,     /* in this OS process's memory: nothing reaches the file */
    EMMAP_QUEUE_AUTO_UNLINK = 1u << 4, /* delete the file at close */
    EMMAP_QUEUE_FORCE = 1u << 5,       /* on a network file system too */
};

struct emmap_queue_options {
    uint32_t flags;      /* of enum emmap_queue_open_flag */
    uint32_t mode;       /* of a file that is made; 0: 0600 */
    uint64_t size_bytes; /* a wish for a new file, from which the size of its segments follows;
                                   0: 1 MiB. With FIXED_SIZE what its messages may take. */
    uint64_t max_bytes;  /* what the messages may take, with 48 to 55 bytes for each; 0: no
                                   limit for a new file, what it had for an old one */
    uint64_t max_message_bytes; /* 0: half of max_bytes, at most 1 GiB */
};

/* emmap_queue_open -- open a queue, after a crash too.
 *
 *   out   on success the queue: emmap_queue_close gives it back
 *
 * Returns  0 | -ENOENT | EMMAP_E_LOCKED | EMMAP_E_FOREIGN, _OLD_FORMAT, _TRUNCATED, _CORRUPT, _NOTSUP
 *          (of a later version); the file is then as it was | EMMAP_E_BUSY, _FULL (256 OS processes) |
 *          EMMAP_E_SYNC_FAILED (of a recovery: the next open tries it again) | as emmap_file_open; but a
 *          new queue that is whole by then stays: somebody else may have it open already
 * Faults   waits for the file system; after a power cut it reads what is in the queue
 */
EMMAP_API int emmap_queue_open(struct emmap_queue **out, const char *path,
                               const struct emmap_queue_options *options, bool *existed);

/* emmap_queue_close -- no other call of the caller's may be in flight or follow.
 * Faults   touches mapped pages: may wait for the disk */
EMMAP_API void emmap_queue_close(struct emmap_queue *queue);

enum emmap_queue_flag {
    EMMAP_QUEUE_DEFLATED = 1u << 0
}; /* of a message, for its readers to know */

/* emmap_queue_push -- append a message.
 *
 * Returns  0 | EMMAP_E_FULL, _TOO_BIG, -ENOSPC (nothing is appended) | EMMAP_E_BUSY (another OS process
 *          has held the lock for 5 s) | EMMAP_E_TRUNCATED, _CORRUPT, -EIO
 * Threads  any number of producers and consumers
 * Process  with MULTI_OS any number of OS processes
 * Durable  outlives the OS process; after emmap_queue_sync a power cut too
 * Faults   touches mapped pages: may wait for the disk
 */
EMMAP_API int emmap_queue_push(struct emmap_queue *queue, const void *data, uint32_t len_bytes,
                               uint32_t flags);

/* emmap_queue_take -- take the first message.
 *
 *   buf         room_bytes writable bytes
 *   len_bytes   the message's; also when there is too little room
 *
 * Returns  0 | EMMAP_E_EMPTY | -EMSGSIZE (too little room: nothing is taken) | as emmap_queue_push
 * Threads, Process, Faults   as emmap_queue_push; each message goes to one taker
 */
EMMAP_API int emmap_queue_take(struct emmap_queue *queue, void *buf, uint32_t room_bytes,
                               uint32_t *len_bytes, uint32_t *flags);

/* emmap_queue_sync -- what was pushed and taken before is on the disk when it returns.
 *
 * Returns  0 | EMMAP_E_SYNC_FAILED (this one or an earlier one; stays until nobody has the queue
 *          open any more) | as emmap_queue_push
 * Faults   waits for the disk
 */
EMMAP_API int emmap_queue_sync(struct emmap_queue *queue);

struct emmap_queue_info {
    uint64_t messages;  /* not taken, those that somebody works on included */
    uint64_t bytes;     /* that they take in the file */
    uint64_t claimed;   /* of them given out and not acknowledged */
    uint64_t max_bytes; /* UINT64_MAX: no limit */
    uint64_t max_message_bytes;
    uint64_t file_bytes, allocated_bytes;
    uint64_t segment_bytes, slots;
    uint64_t head, tail; /* positions in the stream */
    uint64_t lost;       /* messages found damaged, ever */
    uint64_t recovered;  /* kept by the recovery at open; 0 without one */
    uint64_t oldest_ms;  /* when the first message was pushed, since 1970; 0: none */
    int sync_error;      /* 0, or the errno of a failed sync */
    bool multi_os, fixed_size, linked, was_recovered;
};
/* emmap_queue_info -- as of now.
 * Faults   touches mapped pages, asks the file system: may wait for the disk */
EMMAP_API int emmap_queue_info(struct emmap_queue *queue, struct emmap_queue_info *info);

/* ------------------------------------------------------------- looking into a queue's file */

/* A queue's file, opened to be looked at: no lock is taken and nothing changed, whoever has it open
 * meanwhile, or was killed with it. */
struct emmap_queue_view;

/* emmap_queue_view_open -- what is in a file, whatever is going on in it.
 *
 *   out   on success the view: emmap_queue_view_close gives it back
 *
 * Returns  0 | EMMAP_E_FOREIGN, _OLD_FORMAT, _NOTSUP (of a later version) | EMMAP_E_TRUNCATED, _CORRUPT
 *          (its header) | as emmap_file_open
 * Faults   waits for the file system
 */
EMMAP_API int emmap_queue_view_open(struct emmap_queue_view **out, const char *path);
EMMAP_API void emmap_queue_view_close(struct emmap_queue_view *view);

enum emmap_queue_standing {
    EMMAP_QUEUE_IN_USE,     /* somebody has it open */
    EMMAP_QUEUE_AT_REST,    /* nobody has: the next opener goes on where the last one was */
    EMMAP_QUEUE_TO_RECOVER, /* nobody has: the next opener recovers, from the checkpoints */
};

enum { EMMAP_QUEUE_PARTICIPANTS = 256 };

struct emmap_queue_checkpoint {
    uint64_t serial; /* 0: this one is not valid */
    uint64_t head, head_n, tail, tail_n;
};

struct emmap_queue_view_info {
    struct emmap_queue_info queue; /* as written down; what the file does not tell is 0:
                                   max_message_bytes, multi_os, recovered, was_recovered, and before
                                   a recovery oldest_ms and claimed */
    enum emmap_queue_standing standing;
    bool same_boot;   /* what is written down is of this boot of the system, and of this file */
    bool interrupted; /* who was at work was stopped within a change, which the next one finishes */
    bool steady;      /* false: the words changed too fast to be read as of one moment */
    uint8_t uuid[16];
    uint64_t created_ms;
    uint64_t head_n, cursor_n,
        tail_n;          /* ordinals: of the first, the first never given out, the next */
    uint64_t cursor;     /* its position */
    uint64_t epoch;      /* rises with each recovery */
    uint64_t warm_slots; /* free, with their space */
    struct emmap_queue_checkpoint checkpoint[2];
    uint64_t durable_serial; /* of the checkpoint that is known to be on the disk */
    unsigned participants;   /* OS processes that have it open */
    uint64_t pid[EMMAP_QUEUE_PARTICIPANTS];
};

/* emmap_queue_view_info -- as of now; again for later.
 *
 * Returns  0 | EMMAP_E_TRUNCATED, -EIO | EMMAP_E_CLOSED | -errno (the system could not be asked)
 * Threads  one at a time for a view, as all its calls
 * Process  beside any number that have the queue open
 * Faults   touches mapped pages: may wait for the disk
 */
EMMAP_API int emmap_queue_view_info(struct emmap_queue_view *view,
                                    struct emmap_queue_view_info *info);

/* What may be wrong with a file: code, name, message. */
#define EMMAP_QUEUE_PROBLEMS(X)                                                           \
    X(PAGE, page, "the positions make no sense")                                          \
    X(TRUNCATED, truncated, "the file ends before its last slot")                         \
    X(CHECKPOINT, checkpoint, "the checkpoint is damaged")                                \
    X(SEGMENT, segment, "a segment's header is damaged")                                  \
    X(SEGMENT_COPY, segment_copy, "one of a segment's two headers is damaged")            \
    X(SEGMENT_FIRST, segment_first, "a segment's header is wrong about its first record") \
    X(SEGMENT_END, segment_end, "a segment's end is not where the next one says")         \
    X(LINK, link, "a segment's link to the next one is damaged")                          \
    X(RECORD, record, "a record's header is damaged")                                     \
    X(TRAILER, trailer, "a record's trailer is damaged")                                  \
    X(STATE, state, "a record is in no state that there is")                              \
    X(DATA, data, "a message's data is damaged")                                          \
    X(SLOT_TWICE, slot_twice, "a slot is used twice")                                     \
    X(SLOT_LOST, slot_lost, "slots are in no list")                                       \
    X(LIST, list, "a list of slots goes astray")                                          \
    X(WARM, warm, "the number of free slots is wrong")                                    \
    X(MESSAGES, messages, "the number of messages is wrong")                              \
    X(BYTES, bytes, "the number of bytes is wrong")                                       \
    X(RETURNED, returned, "the number of returned messages is wrong")                     \
    X(LOST, lost, "a recovery finds messages missing")

enum emmap_queue_problem_kind {
#define EMMAP_QUEUE_PROBLEM_CODE(code, name, message) EMMAP_QUEUE_PROBLEM_##code,
    EMMAP_QUEUE_PROBLEMS(EMMAP_QUEUE_PROBLEM_CODE)
#undef EMMAP_QUEUE_PROBLEM_CODE
        EMMAP_QUEUE_PROBLEM_END
};

struct emmap_queue_problem {
    enum emmap_queue_problem_kind kind;
    uint64_t slot, pos, off, ordinal; /* off: in the file. 0: it does not apply */
    uint64_t found, expected;         /* numbers; of RECORD, SEGMENT, LOST: messages that are lost,
                                         of SLOT_LOST: slots, from slot on */
};

/* Static; "unknown" for what is none. */
EMMAP_API const char *emmap_queue_problem_name(enum emmap_queue_problem_kind kind);
EMMAP_API const char *emmap_queue_problem_message(enum emmap_queue_problem_kind kind);

/* The states of a record, as they lie in the file. */
enum emmap_queue_state {
    EMMAP_QUEUE_READY = 3,   /* to be taken */
    EMMAP_QUEUE_FILLING = 5, /* being pushed */
    EMMAP_QUEUE_LEASED = 6,  /* somebody works on it */
    EMMAP_QUEUE_TAKING = 9,  /* being taken */
    EMMAP_QUEUE_DONE = 10,   /* taken */
    EMMAP_QUEUE_VOID = 12,   /* no message: its writer died, or it was found damaged */
};

struct emmap_queue_item {
    uint64_t ordinal, time_ms; /* time: since 1970 */
    uint64_t pos, off;         /* in the stream; in the file */
    uint32_t len_bytes, flags; /* flags: of enum emmap_queue_flag */
    enum emmap_queue_state state;
    bool orphaned;    /* FILLING, LEASED, TAKING: by an OS process that is dead */
    bool damaged;     /* the data is not what was pushed */
    const void *data; /* until the call returns; NULL: not asked for, longer, or not there */
};

struct emmap_queue_walk {
    /* Each record from the head to the tail; not 0 ends the walk. May be NULL. */
    int (*item)(void *ctx, const struct emmap_queue_item *item);
    void (*problem)(void *ctx, const struct emmap_queue_problem *problem); /* may be NULL */
    void *ctx;
    uint32_t data_bytes; /* data of messages up to this length is handed over */
    bool check;          /* read all data, all that surrounds it, and compare the counts */
};

struct emmap_queue_walked {
    uint64_t messages, bytes; /* READY, LEASED, TAKING; with what surrounds them, and FILLING */
    uint64_t by_state[16];    /* records, by enum emmap_queue_state */
    uint64_t missing;         /* ordinals without a record: found damaged, earlier or now */
    uint64_t problems;
    uint64_t from, to;   /* positions: where the walk began, and where it ends */
    bool overtaken;      /* messages were taken before the walk came to them */
    bool counts, slots;  /* these were compared; not while they change */
    bool recovered;      /* it was a walk over what a recovery leaves */
    uint64_t kept, lost; /* by that recovery */
};

/* emmap_queue_view_walk -- every record from head to tail, as of the start of the call.
 *
 * Of a file that is TO_RECOVER, what the next opener's recovery would make of it: that is done in
 * memory of the view's own. Messages that are taken meanwhile are passed over or still told, and
 * are no problem; nor is anything else that others change.
 *
 * Returns  0 | what item returned | -EAGAIN (somebody has opened and recovered the queue meanwhile: a new
 *          view sees it) | EMMAP_E_CORRUPT (no opener can recover it) | -ENOMEM | as emmap_queue_view_info
 * Faults   reads all of the file that is in use: may wait for the disk
 */
EMMAP_API int emmap_queue_view_walk(struct emmap_queue_view *view,
                                    const struct emmap_queue_walk *walk,
                                    struct emmap_queue_walked *walked);

/* --------------------------------------------------------------------- the whole OS process */

/* The library's own figures: id, name, type, unit, help. A counter rises from 0 as long as the OS
 * process lives, a gauge is what is so now. Calls and bytes by scheduler are those of Erlang. In a
 * file of counters each is called `emmap_` and its name. */
#define EMMAP_FIGURES(X)                                                                          \
    X(PUSHES, pushes, COUNTER, "", "Messages pushed into queues.")                                \
    X(PUSH_BYTES, push_bytes, COUNTER, "bytes", "Bytes of the messages pushed into queues.")      \
    X(TAKES, takes, COUNTER, "", "Messages taken from queues, claims when acknowledged.")         \
    X(TAKE_BYTES, take_bytes, COUNTER, "bytes", "Bytes of the messages taken from queues.")       \
    X(NORMAL_CALLS, normal_calls, COUNTER, "", "Calls that touched bytes on normal schedulers.")  \
    X(NORMAL_BYTES, normal_bytes, COUNTER, "bytes", "Bytes touched on normal schedulers.")        \
    X(DIRTY_CALLS, dirty_calls, COUNTER, "", "Calls that touched bytes on dirty schedulers.")     \
    X(DIRTY_BYTES, dirty_bytes, COUNTER, "bytes", "Bytes touched on dirty schedulers.")           \
    X(SYNCS, syncs, COUNTER, "", "Syncs of files, those that failed included.")                   \
    X(SYNC_FAILURES, sync_failures, COUNTER, "", "Syncs of files that failed.")                   \
    X(SYNC_NS, sync_ns, COUNTER, "nanoseconds", "Time that syncs of files took, in sum.")         \
    X(SYNCS_1MS, syncs_1ms, COUNTER, "", "Syncs of files that took at most 1 ms.")                \
    X(SYNCS_10MS, syncs_10ms, COUNTER, "", "Syncs of files that took at most 10 ms.")             \
    X(SYNCS_100MS, syncs_100ms, COUNTER, "", "Syncs of files that took at most 100 ms.")          \
    X(LONGEST_SYNC_NS, longest_sync_ns, GAUGE, "nanoseconds", "Time of the longest sync so far.") \
    X(ALLOCATED, allocated, COUNTER, "", "Numbers allocated from counters.")                      \
    X(FAULTS, faults, COUNTER, "", "Times that SIGBUS was turned into an error.")                 \
    X(HANDLES, handles, GAUGE, "", "Handles that are open.")                                      \
    X(REGIONS, regions, GAUGE, "", "Mappings that are not yet given back.")                       \
    X(HOLDS, holds, GAUGE, "", "Handles whose mapping and descriptor are kept for binaries.")     \
    X(MAPPED_BYTES, mapped_bytes, GAUGE, "bytes", "Address space of the mappings.")               \
    X(PUBLISHED_SECONDS, published_seconds, GAUGE, "seconds", "Unix time of the last publication.")

enum emmap_figure {
#define EMMAP_FIGURE_ID(id, name, type, unit, help) EMMAP_FIGURE_##id,
    EMMAP_FIGURES(EMMAP_FIGURE_ID)
#undef EMMAP_FIGURE_ID
        EMMAP_FIGURE_COUNT
};

struct emmap_stats {
#define EMMAP_FIGURE_FIELD(id, name, type, unit, help) uint64_t name;
    EMMAP_FIGURES(EMMAP_FIGURE_FIELD)
#undef EMMAP_FIGURE_FIELD
};

/* emmap_stats -- the figures as of now. What other threads count meanwhile may be in it or not. */
EMMAP_API void emmap_stats(struct emmap_stats *stats);

/* emmap_stats_publish -- keep the figures in a file of counters, too, as `emmap_pushes` and so on, for other
 * OS processes to look at (emmap_counters_open with EMMAP_COUNTERS_READ, `emmap counters FILE`).
 *
 *   path   made if it is missing (mode 0600; another one that it is given stays), extended if it is of
 *          an earlier version; of a later version, what it has is kept
 *
 * From now on the background adds to it what was counted since, some twice a second, where anything
 * was. Counters go on where the file's are: they outlive the OS process. Gauges are those of now. Each
 * event is counted once, in one file: those before the first call are in the first file.
 *
 * Exit, emmap_stats_unpublish and a call with another file publish a last time, and put the gauges to 0; but
 * exit waits two seconds at most for a disk that does not answer. A kill, abort or _exit loses what was
 * counted since the last time, and leaves the gauges as they were. Whether somebody is there tells
 * published_seconds: it is written with whatever is new, and every 10 seconds where nothing is. It stays in
 * the file; in emmap_stats, 0: never.
 *
 * Again with the same file: publishes at once, and says whether that can be done. With another one:
 * that one from now on. Another one is also a file that has taken the place of one that was deleted or moved
 * away, and it is made if there is none: the background does not look for that. What was published into
 * the deleted one is gone with it.
 *
 * Returns  0 | EMMAP_E_LOCKED (another OS process publishes into it) | EMMAP_E_DIFFERS (a file with
 *          none of these names, or of signed or striped counters) | as emmap_counters_open,
 *          emmap_counters_fetch; what was published before still is
 * Threads  any number
 * Process  one OS process for a file; its lock is gone with it
 * Durable  as counters are; nothing is synced
 * Faults   touches mapped pages: may wait for the disk
 */
EMMAP_API int emmap_stats_publish(const char *path);

/* emmap_stats_unpublish -- publish a last time, and no more. Where nothing is published: nothing.
 * Returns  0 | why the last time failed: it is over nonetheless
 * Faults   touches mapped pages: may wait for the disk */
EMMAP_API int emmap_stats_unpublish(void);

/* emmap_stats_error -- why the last time failed: the file was truncated, say. It is tried again each
 * time, and nothing is lost by that. 0: it did not fail, or nothing is published. May wait for who is
 * publishing, and so for the disk. */
EMMAP_API int emmap_stats_error(void);

#ifdef __cplusplus
}
#endif
#endif
