/* os_unix.h -- what os_unix.c and the one file of this system use of each other. */
#ifndef EMMAP_OS_UNIX_H
#define EMMAP_OS_UNIX_H

#include "os/os.h"

/* os_unix.c: */
int os_unix_free_bytes(int fd, uint64_t *free_bytes);
int os_unix_check_size(int fd, uint64_t size_bytes); /* -EFBIG: beyond what the OS process may */
int os_unix_truncate(int fd, uint64_t size_bytes);

/* os_linux.c, os_darwin.c, os_posix.c: */
int os_unix_fsync(int fd); /* one try of what os_sync promises */
/* What msync leaves to do, and what has to be done before a sync by descriptor. */
int os_unix_sync_device(int fd);
int os_unix_sync_pages(void *addr, size_t len_bytes);

#endif
