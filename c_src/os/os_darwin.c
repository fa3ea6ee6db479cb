/* os_darwin.c -- what macOS does its own way. */
#include "os/os_unix.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/param.h>
#include <sys/stat.h>
#include <sys/sysctl.h>
#include <unistd.h>

int os_fs(int fd, struct os_fs *out) {
    OS_FAIL(FS);
    struct statfs fs;
    if (fstatfs(fd, &fs)) return -errno;
    uint64_t free_bytes;
    const int rc = os_unix_free_bytes(fd, &free_bytes);
    if (rc) return rc;
    out->free_bytes = free_bytes;
    out->kind =
        fs.f_flags & MNT_LOCAL ? OS_FS_BEST_EFFORT : OS_FS_NETWORK; /* APFS copies on write */
#ifdef EMMAP_TESTING
    if (os_fs_pretended >= 0) out->kind = (enum os_fs_kind)os_fs_pretended;
#endif
    return 0;
}

/* F_PREALLOCATE counts from the physical end of the file, not from an offset, so it cannot fill
 * holes: good for an early ENOSPC, no promise. */
int os_allocate(int fd, uint64_t off, uint64_t len_bytes) {
    OS_FAIL(ALLOCATE);
    if (off > INT64_MAX || len_bytes > INT64_MAX - off) return -EFBIG;
    struct stat st;
    if (fstat(fd, &st)) return -errno;
    if (off < (uint64_t)st.st_size) return -EOPNOTSUPP;
    fstore_t store = {.fst_flags = F_ALLOCATEALL,
                      .fst_posmode = F_PEOFPOSMODE,
                      .fst_offset = 0,
                      .fst_length = (off_t)len_bytes};
    if (fcntl(fd, F_PREALLOCATE, &store) == 0) return 0;
    return errno == ENOTSUP || errno == EINVAL ? -EOPNOTSUPP : -errno;
}

int os_extend(int fd, uint64_t from_bytes, uint64_t to_bytes) {
    OS_FAIL(EXTEND);
    (void)from_bytes;
    return os_unix_truncate(fd, to_bytes);
}

/* F_PUNCHHOLE wants whole file system blocks and gives the space back. */
int os_zero(int fd, uint64_t off, uint64_t len_bytes, bool keep) {
    OS_FAIL(ZERO);
    (void)fd, (void)off, (void)len_bytes, (void)keep;
    return -EOPNOTSUPP;
}

int os_punch(int fd, uint64_t off, uint64_t len_bytes) {
    OS_FAIL(PUNCH);
    if (off > INT64_MAX || len_bytes > INT64_MAX - off) return -EFBIG;
    fpunchhole_t hole = {.fp_offset = (off_t)off, .fp_length = (off_t)len_bytes};
    if (fcntl(fd, F_PUNCHHOLE, &hole)) return errno == ENOTSUP ? -EOPNOTSUPP : -errno;
    OS_RECORD(.kind = OS_EVENT_ZERO, .fd = fd, .off = off, .len_bytes = len_bytes);
    return 0;
}

/* Of one kind only: flock is a lock on all bytes here, and its release one of all bytes. */
int os_try_lock(int fd) {
    OS_FAIL(LOCK);
    const int rc = os_unix_lock_byte(fd, OS_UNIX_LOCK_OFF, OS_LOCK_WRITE);
    if (rc != -EOPNOTSUPP) return rc;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) return 0;
    if (errno == EWOULDBLOCK || errno == EINTR) return -EAGAIN;
    return errno == ENOTSUP || errno == ENOLCK || errno == EINVAL ? -EOPNOTSUPP : -errno;
}

int os_unlock(int fd) {
    int rc = os_unix_lock_byte(fd, OS_UNIX_LOCK_OFF, OS_LOCK_NONE);
    if (rc == -EOPNOTSUPP) rc = flock(fd, LOCK_UN) ? -errno : 0;
    return OS_FAIL_AFTER(UNLOCK, rc);
}

int os_lock_byte(int fd, uint64_t off, enum os_lock lock) {
    if (lock != OS_LOCK_NONE) OS_FAIL(LOCK_BYTE);
    const int rc = os_unix_lock_byte(fd, off, lock);
    return lock == OS_LOCK_NONE ? OS_FAIL_AFTER(LOCK_BYTE, rc) : rc;
}

int os_byte_locked(int fd, uint64_t off, bool *locked) {
    OS_FAIL(BYTE_LOCKED);
    return os_unix_byte_locked(fd, off, locked);
}

/* The time of the boot moves when the clock is set; the number of its session does not. */
int os_identity(int fd, struct os_identity *out) {
    OS_FAIL(IDENTITY);
    struct os_identity identity;
    struct stat st;
    char uuid[64] = "";
    size_t len = sizeof uuid - 1;
    if (fstat(fd, &st)) return -errno;
    const struct timespec birth = st.st_birthtimespec;
    if (birth.tv_sec <= 0) return -EOPNOTSUPP; /* the file system keeps none */
    if (sysctlbyname("kern.bootsessionuuid", uuid, &len, NULL, 0)) return -EOPNOTSUPP;
    const int rc = os_unix_boot(uuid, identity.boot);
    if (rc) return rc;
    identity.dev = (uint64_t)st.st_dev;
    identity.ino = (uint64_t)st.st_ino;
    identity.birth_ns = (uint64_t)birth.tv_sec * 1000000000 + (uint64_t)birth.tv_nsec;
    identity.mount = (uint64_t)st.st_dev; /* given out with each mount */
    *out = identity;
    return 0;
}

int os_random(void *buf, size_t len_bytes) {
    OS_FAIL(RANDOM);
    arc4random_buf(buf, len_bytes);
    return 0;
}

/* fsync leaves the data in the device's cache; some file systems know only fsync. */
int os_unix_fsync(int fd) {
    if (fcntl(fd, F_FULLFSYNC) == 0) return 0;
    if (errno != ENOTSUP && errno != EINVAL) return -errno;
    return fsync(fd) ? -errno : 0;
}

int os_unix_sync_device(int fd) {
    return os_unix_fsync(fd);
}

int os_unix_sync_pages(void *addr, size_t len_bytes) {
    return msync(addr, len_bytes, MS_SYNC) ? -errno : 0;
}

int os_writeback(int fd, void *addr, uint64_t off, size_t len_bytes) {
    OS_FAIL(WRITEBACK);
    (void)fd, (void)off;
    return msync(addr, len_bytes, MS_ASYNC) ? -errno : 0;
}

/* There is no posix_fadvise. */
int os_advise(int fd, uint64_t off, uint64_t len_bytes, enum os_advice advice) {
    OS_FAIL(ADVISE);
    (void)fd, (void)off, (void)len_bytes, (void)advice;
    return 0;
}

int os_read_resident(int fd, uint64_t off, uint64_t len_bytes, uint64_t *got_bytes) {
    OS_FAIL(READ_RESIDENT);
    (void)fd, (void)off, (void)len_bytes, (void)got_bytes;
    return -EOPNOTSUPP;
}

size_t os_huge_page_bytes(unsigned flags) {
    (void)flags;
    return 0;
}

int os_no_dump(void *addr, size_t len_bytes) {
    OS_FAIL(NO_DUMP);
    (void)addr, (void)len_bytes;
    return 0; /* core files are off by default, and there is no such advice */
}

/* There is no -z nodelete: a handle on oneself that is never given back does it. */
int os_stay_loaded(void) {
    OS_FAIL(STAY_LOADED);
    Dl_info self;
    if (!dladdr((const void *)(uintptr_t)os_stay_loaded, &self)) return -ENOENT;
    return dlopen(self.dli_fname, RTLD_NOW | RTLD_NODELETE | RTLD_NOLOAD) ? 0 : -ENOENT;
}
