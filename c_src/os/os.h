/* os.h -- every system call that emmap makes, by one name for all systems.
 *
 * os_unix.c holds what POSIX systems share; os_linux.c, os_darwin.c or os_posix.c (picked by the
 * build) what differs. Every call returns 0 or -errno and writes its results on success only.
 * Test builds can make any of them fail and can record them: see os_testing.h. */
#ifndef EMMAP_OS_H
#define EMMAP_OS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum os_file_type { OS_REGULAR, OS_DIRECTORY, OS_OTHER };

struct os_stat {
    uint64_t dev, ino;
    uint64_t size_bytes;
    uint64_t allocated_bytes;
    uint64_t links;
    enum os_file_type type;
    bool own; /* the owner is who asks */
};

enum os_fs_kind {
    OS_FS_LOCAL,       /* allocated space is kept for the file */
    OS_FS_BEST_EFFORT, /* copy-on-write or unknown: an overwrite may need space of its own */
    OS_FS_HUGE,        /* hugetlbfs: pages of another size */
    OS_FS_NETWORK,     /* pages are not shared with the other machines that map the file */
};

struct os_fs {
    enum os_fs_kind kind;
    uint64_t free_bytes; /* upper bound of what can be had */
};

enum os_open_flag {
    OS_OPEN_WRITE = 1u << 0,
    OS_OPEN_MAKE = 1u << 1,     /* the file must be missing, and is made */
    OS_OPEN_NOFOLLOW = 1u << 2, /* -ELOOP: the name is that of a symbolic link */
};

/* Never waits for a peer (a FIFO), never becomes a controlling terminal; close-on-exec. */
int os_open(const char *path, unsigned flags, uint32_t mode, int *fd);
int os_close(int fd);
int os_dup(int fd, int *out); /* close-on-exec; shares the lock of os_try_lock */
int os_stat(const char *path, struct os_stat *out);
int os_lstat(const char *path, struct os_stat *out); /* -ELOOP: a symbolic link */
int os_fstat(int fd, struct os_stat *out);           /* async-signal-safe */
int os_fs(int fd, struct os_fs *out);
int os_unlink(const char *path);
int os_link(const char *from, const char *to); /* -EEXIST: to is there */
uint64_t os_pid(void);
int os_getcwd(char *buf, size_t len_bytes);
/* What a symbolic link says, with a final NUL. -EINVAL: it is none; -ENAMETOOLONG. */
int os_readlink(const char *path, char *buf, size_t len_bytes);

/* Sets the file's size. */
int os_truncate(int fd, uint64_t size_bytes);
/* Raises the file's size to to_bytes and never lowers it, where the system can; from from_bytes on it
 * may take disk space. */
int os_extend(int fd, uint64_t from_bytes, uint64_t to_bytes);
/* Takes disk space for a range, the size stays as it is. -EOPNOTSUPP: cannot be promised. */
int os_allocate(int fd, uint64_t off, uint64_t len_bytes);
/* Zeroes a range within the size; with keep its space stays reserved. -EOPNOTSUPP. */
int os_zero(int fd, uint64_t off, uint64_t len_bytes, bool keep);
/* Gives the space of a range back, which then reads as zeros; the size stays as it is. Whole pages:
 * some systems answer -EINVAL to less. -EOPNOTSUPP. */
int os_punch(int fd, uint64_t off, uint64_t len_bytes);

/* The next range of the file at or behind off that is no hole. -ENXIO: there is none. -EOPNOTSUPP: the system
 * cannot tell. Moves the descriptor's position, which nobody uses. */
int os_data(int fd, uint64_t off, uint64_t *from, uint64_t *to);

enum os_advice {
    OS_ADVICE_NORMAL,
    OS_ADVICE_SEQUENTIAL,
    OS_ADVICE_RANDOM,
    OS_ADVICE_NO_REUSE,
    OS_ADVICE_WILL_NEED,
    OS_ADVICE_DONT_NEED,
};
/* How a range will be used; where the system takes no advice it does nothing. */
int os_advise(int fd, uint64_t off, uint64_t len_bytes, enum os_advice advice);

/* What the file system keeps of a file, times in seconds since 1970. */
struct os_details {
    uint64_t size_bytes, links, dev, rdev, ino;
    uint32_t mode, uid, gid;
    int64_t accessed_s, modified_s, changed_s;
};
int os_details(int fd, struct os_details *out);

/* Which file this is, in which boot of the system: two that are equal are one file, seen through
 * one mount. A copy differs, and so does the same file after a restart. */
struct os_identity {
    uint8_t boot[16];
    uint64_t dev, ino, birth_ns, mount;
};
/* -EOPNOTSUPP: the system or the file system does not tell all of it. */
int os_identity(int fd, struct os_identity *out);

/* An advisory lock that excludes other OS processes (and other descriptors) of the same file.
 * -EAGAIN: somebody holds it. -EOPNOTSUPP: there are none here. */
int os_try_lock(int fd);
int os_unlock(int fd);

/* A lock on one byte, which need not be there. It belongs to the open file, not to the OS process:
 * it is gone when the last descriptor of that open is closed, by the kernel's hand too, and one of
 * the same process opened apart is somebody else. A read lock needs a descriptor that may read,
 * a write lock one that may write (-EBADF). */
enum os_lock { OS_LOCK_NONE, OS_LOCK_READ, OS_LOCK_WRITE };
/* From any to any in one step. -EAGAIN: somebody else's is in the way, one's own stays as it was.
 * -EOPNOTSUPP: there are none here. */
int os_lock_byte(int fd, uint64_t off, enum os_lock lock);
/* Has somebody else a lock on it, of either kind? */
int os_byte_locked(int fd, uint64_t off, bool *locked);

/* The file's data and size, through the device's cache; addr is where all of it is mapped, for
 * systems that ask for that. */
int os_sync(int fd, void *addr, size_t len_bytes);
/* A page-aligned range of a mapping, and its place in the file. */
int os_sync_range(int fd, void *addr, uint64_t off, size_t len_bytes);
int os_sync_parent(const char *path);                                 /* the directory entry */
int os_writeback(int fd, void *addr, uint64_t off, size_t len_bytes); /* starts, does not wait */

enum os_prot { OS_PROT_NONE = 0, OS_PROT_READ = 1, OS_PROT_WRITE = 2 };
enum os_map_flag {
    OS_MAP_SHARED = 1u << 0, /* else private */
    OS_MAP_ANON = 1u << 1,
    OS_MAP_FIXED = 1u << 2, /* replaces what is mapped at addr */
    OS_MAP_AT = 1u << 3,    /* at addr; -EEXIST: something is mapped there */
    OS_MAP_SHARED_VALIDATE = 1u << 4,
    OS_MAP_SYNC = 1u << 5,
    OS_MAP_NORESERVE = 1u << 6,
    OS_MAP_NOCACHE = 1u << 7,
    OS_MAP_UNINITIALIZED = 1u << 8,
    OS_MAP_HUGETLB = 1u << 9, /* huge pages of the default size, or of one of these: */
    OS_MAP_HUGE_2MB = 1u << 10,
    OS_MAP_HUGE_1GB = 1u << 11,
};
/* Those of the flags that this system lacks. */
unsigned os_map_lacks(unsigned flags);

/* Async-signal-safe. Anonymous maps reserve no swap. */
int os_map(void *addr, size_t len_bytes, unsigned prot, unsigned flags, int fd, uint64_t off,
           void **out);
int os_unmap(void *addr, size_t len_bytes);
int os_no_dump(void *addr, size_t len_bytes);
/* A bit 0 for each page of a mapping: in memory? Tells it only to who owns the file or may write
 * it; everybody else hears yes. */
int os_resident(void *addr, size_t len_bytes, unsigned char *pages);
/* How many of at most 64 KiB can be read without waiting. -EOPNOTSUPP: the system does not tell. */
int os_read_resident(int fd, uint64_t off, uint64_t len_bytes, uint64_t *got_bytes);
int os_lock_memory(void *addr, size_t len_bytes);
/* Only asks for it, where the system can: pages that are not there yet are locked when they come.
 */
int os_lock_ahead(void *addr, size_t len_bytes);
size_t os_huge_page_bytes(unsigned flags); /* of OS_MAP_HUGE*; 0: not known here */
size_t os_page_bytes(void);                /* cannot fail */

/* A detached thread with signals blocked. */
int os_thread(void (*run)(void *), void *arg);
/* -EAGAIN: until_ms, as os_now_ms has it, has come. */
int os_mutex_lock_until(pthread_mutex_t *mutex, uint64_t until_ms);
/* Waits for a lock that spins: longer with each try, at most some 50 us. */
void os_pause(unsigned tries);
void os_sleep_ms(unsigned ms);
uint64_t os_now_ms(void);  /* monotonic */
uint64_t os_now_ns(void);  /* the same clock */
uint64_t os_wall_ms(void); /* since 1970; may be set back */

int os_random(void *buf, size_t len_bytes); /* good enough for keys */

/* Calls handler(address, siginfo, ucontext) on each SIGBUS, on the thread's alternate stack where
 * it has one. A handler that returns false passes the signal to the one that was there before. */
typedef bool os_fault_handler(void *addr);
int os_on_fault(os_fault_handler *handler);

/* Keeps the code of this library mapped until the OS process ends. */
int os_stay_loaded(void);

#include "os/os_testing.h"
#endif
