/* os_posix.c -- the fallback for systems with nothing beyond POSIX and flock (FreeBSD and the
 * like). Space cannot be promised, and the size is raised by ftruncate. */
#include "os/os_unix.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>
#ifdef __FreeBSD__
#include <sys/mount.h>
#include <sys/param.h>
#endif

int os_fs(int fd, struct os_fs *out) {
    OS_FAIL(FS);
    uint64_t free_bytes;
    const int rc = os_unix_free_bytes(fd, &free_bytes);
    if (rc) return rc;
    out->free_bytes = free_bytes;
    out->kind = OS_FS_BEST_EFFORT;
#ifdef __FreeBSD__
    struct statfs fs;
    if (fstatfs(fd, &fs) == 0 && !(fs.f_flags & MNT_LOCAL)) out->kind = OS_FS_NETWORK;
#endif
#ifdef EMMAP_TESTING
    if (os_fs_pretended >= 0) out->kind = (enum os_fs_kind)os_fs_pretended;
#endif
    return 0;
}

int os_allocate(int fd, uint64_t off, uint64_t len_bytes) {
    OS_FAIL(ALLOCATE);
    (void)fd, (void)off, (void)len_bytes;
    return -EOPNOTSUPP;
}

int os_extend(int fd, uint64_t from_bytes, uint64_t to_bytes) {
    OS_FAIL(EXTEND);
    (void)from_bytes;
    return os_unix_truncate(fd, to_bytes);
}

int os_zero(int fd, uint64_t off, uint64_t len_bytes, bool keep) {
    OS_FAIL(ZERO);
    (void)fd, (void)off, (void)len_bytes, (void)keep;
    return -EOPNOTSUPP;
}

int os_punch(int fd, uint64_t off, uint64_t len_bytes) {
    OS_FAIL(PUNCH);
    (void)fd, (void)off, (void)len_bytes;
    return -EOPNOTSUPP;
}

int os_try_lock(int fd) {
    OS_FAIL(LOCK);
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) return 0;
    if (errno == EWOULDBLOCK || errno == EINTR) return -EAGAIN;
    return errno == EOPNOTSUPP || errno == ENOLCK || errno == EINVAL ? -EOPNOTSUPP : -errno;
}

int os_unlock(int fd) {
    const int rc = flock(fd, LOCK_UN) ? -errno : 0;
    return OS_FAIL_AFTER(UNLOCK, rc);
}

/* POSIX knows locks of the OS process only, which any close of the file drops. */
int os_lock_byte(int fd, uint64_t off, enum os_lock lock) {
    OS_FAIL(LOCK_BYTE);
    (void)fd, (void)off, (void)lock;
    return -EOPNOTSUPP;
}

int os_byte_locked(int fd, uint64_t off, bool *locked) {
    OS_FAIL(BYTE_LOCKED);
    (void)fd, (void)off, (void)locked;
    return -EOPNOTSUPP;
}

int os_identity(int fd, struct os_identity *out) {
    OS_FAIL(IDENTITY);
    (void)fd, (void)out;
    return -EOPNOTSUPP;
}

int os_random(void *buf, size_t len_bytes) {
    OS_FAIL(RANDOM);
    const int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -errno;
    int rc = 0;
    for (uint8_t *at = buf; rc == 0 && len_bytes > 0;) {
        const ssize_t got = read(fd, at, OS_SHORTENED(len_bytes));
        if (got == 0) rc = -EIO;
        if (got < 0 && errno != EINTR) rc = -errno;
        if (got <= 0) continue;
        at += got;
        len_bytes -= (size_t)got;
    }
    close(fd);
    return rc;
}

int os_unix_fsync(int fd) {
    return fsync(fd) ? -errno : 0;
}

int os_unix_sync_device(int fd) {
    (void)fd;
    return 0;
}

int os_unix_sync_pages(void *addr, size_t len_bytes) {
    return msync(addr, len_bytes, MS_SYNC) ? -errno : 0;
}

int os_writeback(int fd, void *addr, uint64_t off, size_t len_bytes) {
    OS_FAIL(WRITEBACK);
    (void)fd, (void)off;
    return msync(addr, len_bytes, MS_ASYNC) ? -errno : 0;
}

int os_advise(int fd, uint64_t off, uint64_t len_bytes, enum os_advice advice) {
    OS_FAIL(ADVISE);
    static const int advices[] = {
        [OS_ADVICE_NORMAL] = POSIX_FADV_NORMAL,      [OS_ADVICE_SEQUENTIAL] = POSIX_FADV_SEQUENTIAL,
        [OS_ADVICE_RANDOM] = POSIX_FADV_RANDOM,      [OS_ADVICE_NO_REUSE] = POSIX_FADV_NOREUSE,
        [OS_ADVICE_WILL_NEED] = POSIX_FADV_WILLNEED, [OS_ADVICE_DONT_NEED] = POSIX_FADV_DONTNEED,
    };
    if (off > INT64_MAX || len_bytes > INT64_MAX) return -EINVAL;
    return -posix_fadvise(fd, (off_t)off, (off_t)len_bytes, advices[advice]);
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
#ifdef MADV_NOCORE
    return madvise(addr, len_bytes, MADV_NOCORE) ? -errno : 0;
#else
    (void)addr, (void)len_bytes;
    return 0;
#endif
}

int os_stay_loaded(void) {
    OS_FAIL(STAY_LOADED);
    return 0; /* the linker's -z nodelete says it */
}
