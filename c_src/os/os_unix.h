/* os_unix.h -- what os_unix.c and the one file of this system use of each other. */
#ifndef EMMAP_OS_UNIX_H
#define EMMAP_OS_UNIX_H

#include "os/os.h"

/* The byte of os_try_lock where that is a lock of a byte: no file has data there. */
#define OS_UNIX_LOCK_OFF ((uint64_t)(INT64_MAX - 1))

/* os_unix.c: */
int os_unix_free_bytes(int fd, uint64_t *free_bytes);
int os_unix_check_size(int fd, uint64_t size_bytes); /* -EFBIG: beyond what the OS process may */
int os_unix_truncate(int fd, uint64_t size_bytes);

/* Open-file-description locks; -EOPNOTSUPP where the headers or the kernel have none. */
int os_unix_lock_byte(int fd, uint64_t off, enum os_lock lock);
int os_unix_byte_locked(int fd, uint64_t off, bool *locked);
int os_unix_boot(const char *uuid, uint8_t boot[16]); /* its text; -EOPNOTSUPP: it is none */

/* os_linux.c, os_darwin.c, os_posix.c: */
int os_unix_fsync(int fd); /* one try of what os_sync promises */
/* What msync leaves to do, and what has to be done before a sync by descriptor. */
int os_unix_sync_device(int fd);
int os_unix_sync_pages(void *addr, size_t len_bytes);

#endif
