/* os_testing.h -- failure on command, and a record of what would reach the disk (test builds).
 *
 * A release build compiles all of it away. In a test build (EMMAP_TESTING) each function of os
 * starts with OS_FAIL, and each persistent effect (pm.h's stores, changes of size, syncs) is shown
 * to one recorder, in order.
 *
 * And one precaution can be left out, so that the tests are tried themselves: EMMAP_MUTANT in the
 * environment is "KIND FILE:LINE", of a kind below. With EMMAP_MUTANT_LIST=FILE each place of them
 * is noted there when it is reached.
 *
 * With EMMAP_PERTURB=SEED threads give way to others by chance, at stores and calls of the system. */
#ifndef EMMAP_OS_TESTING_H
#define EMMAP_OS_TESTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OS_CALLS(X)                 \
    X(OPEN, open)                   \
    X(CLOSE, close)                 \
    X(DUP, dup)                     \
    X(STAT, stat)                   \
    X(FSTAT, fstat)                 \
    X(ADVISE, advise)               \
    X(DETAILS, details)             \
    X(IDENTITY, identity)           \
    X(FS, fs)                       \
    X(UNLINK, unlink)               \
    X(LINK, link)                   \
    X(GETCWD, getcwd)               \
    X(READLINK, readlink)           \
    X(TRUNCATE, truncate)           \
    X(EXTEND, extend)               \
    X(ALLOCATE, allocate)           \
    X(ZERO, zero)                   \
    X(PUNCH, punch)                 \
    X(DATA, data)                   \
    X(LOCK, lock)                   \
    X(UNLOCK, unlock)               \
    X(LOCK_BYTE, lock_byte)         \
    X(BYTE_LOCKED, byte_locked)     \
    X(SYNC, sync)                   \
    X(SYNC_RANGE, sync_range)       \
    X(SYNC_PARENT, sync_parent)     \
    X(WRITEBACK, writeback)         \
    X(LOCK_MEMORY, lock_memory)     \
    X(MAP, map)                     \
    X(UNMAP, unmap)                 \
    X(RESIDENT, resident)           \
    X(READ_RESIDENT, read_resident) \
    X(NO_DUMP, no_dump)             \
    X(RANDOM, random)               \
    X(THREAD, thread)               \
    X(ON_FAULT, on_fault)           \
    X(STAY_LOADED, stay_loaded)

enum os_call {
#define OS_CALL_ID(id, name) OS_CALL_##id,
    OS_CALLS(OS_CALL_ID)
#undef OS_CALL_ID
        OS_CALL_COUNT,
    OS_CALL_ANY = OS_CALL_COUNT
};

enum os_event_kind {
    OS_EVENT_WORD, /* stores through pm.h, before they happen */
    OS_EVENT_COPY,
    OS_EVENT_FILL,
    OS_EVENT_SIZE, /* calls of the file system, when they have succeeded */
    OS_EVENT_ZERO,
    OS_EVENT_SYNC,
    OS_EVENT_MAKE,
    OS_EVENT_LINK,
    OS_EVENT_UNLINK,
    OS_EVENT_SYNC_PARENT,
    OS_EVENT_TOUCH, /* pages are made to be written again, as they are */
};
struct os_event {
    enum os_event_kind kind;
    const void *addr; /* of a store or a touch */
    const void *from; /* of a copy: what is stored */
    uint64_t off;     /* of a size or a sync in the file */
    uint64_t len_bytes;
    int fd;           /* -1 for a store or a touch */
    const char *path; /* of make, link (the new name), unlink, sync of the parent */
};
typedef void os_recorder(void *ctx, const struct os_event *event);

/* What is done otherwise at a place. */
#define OS_MUTANTS(X)                                  \
    X(SKIP)  /* a store is left out */                 \
    X(LATE)  /* a store happens behind the next one */ \
    X(WEAK)  /* a release store has no order */        \
    X(PASS)  /* a check is passed by all */            \
    X(SYNC)  /* a sync is left out */                  \
    X(EPOCH) /* an epoch is not raised */
enum os_mutant {
    OS_MUTANT_NONE,
#define OS_MUTANT_ID(id) OS_MUTANT_##id,
    OS_MUTANTS(OS_MUTANT_ID)
#undef OS_MUTANT_ID
        OS_MUTANT_KINDS
};

#ifdef EMMAP_TESTING

/* The nth (from 1) call of this kind that this thread makes from now on answers -err, and the ones
 * after it too while sticky. What gives something back (close, unmap, unlock) does so first. */
void os_fail_at(enum os_call call, unsigned nth, int err, int sticky);
void os_fail_never(void);
/* As err: the call does not fail, but the system gives it a single byte of what it asks for. Of what
 * the system gives whole or not at all it changes nothing. */
enum { OS_SHORT = -1 };
/* Calls of this kind (or any) that this thread has made since the last os_fail_at or _never. */
unsigned os_fail_seen(enum os_call call);
/* The last call that was made to fail on this thread, as text; "" before. */
const char *os_fail_last(void);
int os_fail(enum os_call call);
/* The same for all threads together that have called neither os_fail_at nor os_fail_never: those in
 * the background. */
void os_fail_others_at(enum os_call call, unsigned nth, int err, int sticky);
void os_fail_others_never(void);
unsigned os_fail_others_seen(void);
/* While on, this thread's sleeps take no time, and its clock goes on by as much. (Those in the background
 * wait so where os_fail_others_at is sticky.) */
void os_hurry(bool on);
extern _Thread_local uint64_t os_hurried_ms;
bool os_hurries(unsigned ms);
/* What the system is asked for of len_bytes. */
size_t os_short(size_t len_bytes);
/* Called before each call of the system, on the thread that makes it; NULL for none. Set it while
 * no other thread uses emmap. */
typedef void os_watcher(void *ctx, enum os_call call);
void os_watch_calls(os_watcher *before, void *ctx);
/* The file system that os_fs tells of, for kinds that this machine has not: -1 for the true one. */
void os_fs_pretend(int kind);
extern int os_fs_pretended;
/* The boot that os_identity tells of, copied; NULL for the true one. Where there is no identity it
 * changes nothing. */
void os_pretend_boot(const uint8_t id[16]);
bool os_boot_pretended(uint8_t id[16]);

/* One recorder for the OS process, or NULL. Set it while no other thread uses emmap. */
void os_record_to(os_recorder *recorder, void *ctx);
void os_record(const struct os_event *event);

#define OS_FAIL(id)                             \
    do {                                        \
        int os_fail_rc = os_fail(OS_CALL_##id); \
        if (os_fail_rc) return os_fail_rc;      \
    } while (0)
/* For what gives something back: does it, then tells the failure. */
#define OS_FAIL_AFTER(id, rc) (os_fail(OS_CALL_##id) ? -EIO : (rc))
#define OS_SHORTENED(len_bytes) os_short(len_bytes)
#define OS_RECORD(...) os_record(&(struct os_event){__VA_ARGS__})

/* Is this the place, and of which of the kinds (a set of bits)? OS_MUTANT_NONE: as it should be. */
enum os_mutant os_mutant_at(unsigned kinds, const char *file, int line);
/* Stored behind the next store of this thread. */
void os_store_late(void *dst, const void *src, size_t len_bytes);
void os_store_late_ones(void);

#else
#define OS_FAIL(id) ((void)0)
#define OS_FAIL_AFTER(id, rc) (rc)
#define OS_SHORTENED(len_bytes) (len_bytes)
#define OS_RECORD(...) ((void)0)
#endif

/* EMMAP_NO_MUTANTS: a test build that counts coverage. */
#if defined(EMMAP_TESTING) && !defined(EMMAP_NO_MUTANTS)
#define OS_MUTANT_OF(kinds) os_mutant_at(kinds, __FILE__, __LINE__)
#define OS_IS_MUTANT(id) (OS_MUTANT_OF(1u << OS_MUTANT_##id) != OS_MUTANT_NONE)
#else
#define OS_MUTANT_OF(kinds) OS_MUTANT_NONE
#define OS_IS_MUTANT(id) false
#define os_store_late(dst, src, len_bytes) ((void)0)
#define os_store_late_ones() ((void)0)
#endif
#endif
