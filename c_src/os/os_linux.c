/* os_linux.c -- what Linux does its own way (glibc and musl). */
#include "os/os_unix.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 8 /* from linux/fs.h */
#endif

/* From linux/magic.h and the file systems' sources; not all C libraries' headers have them. */
static const struct {
    uint32_t magic;
    enum os_fs_kind kind;
} fs_kinds[] = {
    {0x6969, OS_FS_NETWORK},         /* nfs */
    {0x517B, OS_FS_NETWORK},         /* smbfs */
    {0xFF534D42, OS_FS_NETWORK},     /* cifs */
    {0xFE534D42, OS_FS_NETWORK},     /* smb2 */
    {0x00C36400, OS_FS_NETWORK},     /* ceph */
    {0x5346414F, OS_FS_NETWORK},     /* afs */
    {0x73757245, OS_FS_NETWORK},     /* coda */
    {0x01021997, OS_FS_NETWORK},     /* 9p */
    {0x0BD00BD0, OS_FS_NETWORK},     /* lustre */
    {0x01161970, OS_FS_NETWORK},     /* gfs2 */
    {0x7461636F, OS_FS_NETWORK},     /* ocfs2 */
    {0x958458F6, OS_FS_HUGE},        /* hugetlbfs */
    {0x9123683E, OS_FS_BEST_EFFORT}, /* btrfs: copies on write */
    {0x2FC12FC1, OS_FS_BEST_EFFORT}, /* zfs: likewise */
    {0xCA451A4E, OS_FS_BEST_EFFORT}, /* bcachefs: likewise */
    {0xF2F52010, OS_FS_BEST_EFFORT}, /* f2fs: log-structured */
    {0x65735546, OS_FS_BEST_EFFORT}, /* fuse: unknown */
    {0x794C7630, OS_FS_BEST_EFFORT}, /* overlayfs: whatever lies below */
};

int os_fs(int fd, struct os_fs *out) {
    OS_FAIL(FS);
    struct statfs fs;
    int rc;
    do
        rc = fstatfs(fd, &fs);
    while (rc && errno == EINTR);
    if (rc) return -errno;
    uint64_t free_bytes;
    rc = os_unix_free_bytes(fd, &free_bytes);
    if (rc) return rc;
    out->free_bytes = free_bytes;
    out->kind = OS_FS_LOCAL;
    for (size_t i = 0; i < sizeof fs_kinds / sizeof *fs_kinds; i++)
        if ((uint32_t)fs.f_type == fs_kinds[i].magic) out->kind = fs_kinds[i].kind;
#ifdef EMMAP_TESTING
    if (os_fs_pretended >= 0) out->kind = (enum os_fs_kind)os_fs_pretended;
#endif
    return 0;
}

static int allocate(int fd, int mode, uint64_t off, uint64_t len_bytes) {
    if (off > INT64_MAX || len_bytes > INT64_MAX - off) return -EFBIG;
    int rc = os_unix_check_size(fd, off + len_bytes);
    if (rc) return rc;
    do
        rc = fallocate(fd, mode, (off_t)off, (off_t)len_bytes);
    while (rc && errno == EINTR);
    if (rc == 0) return 0;
    return errno == ENOSYS ? -EOPNOTSUPP : -errno;
}

int os_allocate(int fd, uint64_t off, uint64_t len_bytes) {
    OS_FAIL(ALLOCATE);
    return allocate(fd, FALLOC_FL_KEEP_SIZE, off, len_bytes);
}

/* fallocate raises the size in one step under the inode's lock, so it cannot cut off what a
 * program without emmap's lock appends at the same time; ftruncate is for file systems without. */
int os_extend(int fd, uint64_t from_bytes, uint64_t to_bytes) {
    OS_FAIL(EXTEND);
    const int rc = allocate(fd, 0, from_bytes, to_bytes - from_bytes);
    if (rc == -EOPNOTSUPP) return os_unix_truncate(fd, to_bytes);
    if (rc == 0) OS_RECORD(.kind = OS_EVENT_SIZE, .fd = fd, .off = to_bytes);
    return rc;
}

int os_zero(int fd, uint64_t off, uint64_t len_bytes, bool keep) {
    OS_FAIL(ZERO);
    const int how = keep ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE;
    const int rc = allocate(fd, how | FALLOC_FL_KEEP_SIZE, off, len_bytes);
    if (rc == 0) OS_RECORD(.kind = OS_EVENT_ZERO, .fd = fd, .off = off, .len_bytes = len_bytes);
    return rc;
}

int os_punch(int fd, uint64_t off, uint64_t len_bytes) {
    OS_FAIL(PUNCH);
    const int rc = allocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len_bytes);
    if (rc == 0) OS_RECORD(.kind = OS_EVENT_ZERO, .fd = fd, .off = off, .len_bytes = len_bytes);
    return rc;
}

int os_try_lock(int fd) {
    OS_FAIL(LOCK);
    return os_unix_lock_byte(fd, OS_UNIX_LOCK_OFF, OS_LOCK_WRITE);
}

int os_unlock(int fd) {
    const int rc = os_unix_lock_byte(fd, OS_UNIX_LOCK_OFF, OS_LOCK_NONE);
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

/* From linux/stat.h, since not all C libraries' headers have all of it. */
struct statx_answer {
    uint32_t mask, unused1[7];
    uint64_t ino, unused2[5];
    int64_t birth_s;
    uint32_t birth_ns, unused3[11];
    uint32_t dev_major, dev_minor;
    uint64_t mount;
    uint64_t unused4[13];
};
_Static_assert(offsetof(struct statx_answer, ino) == 32, "stx_ino");
_Static_assert(offsetof(struct statx_answer, birth_s) == 80, "stx_btime");
_Static_assert(offsetof(struct statx_answer, dev_major) == 136, "stx_dev_major");
_Static_assert(offsetof(struct statx_answer, mount) == 144, "stx_mnt_id");
_Static_assert(sizeof(struct statx_answer) == 256, "struct statx");
enum {
    STATX_ASK_INO = 0x100,
    STATX_ASK_BTIME = 0x800,
    STATX_ASK_MOUNT = 0x1000,        /* a number that is used again after an unmount */
    STATX_ASK_MOUNT_UNIQUE = 0x4000, /* one that is not; Linux 6.8, which then answers it alone */
};

/* In as many pieces as it comes. */
static int read_text(int fd, char *text, size_t most_bytes) {
    for (size_t at = 0; at < most_bytes;) {
        const ssize_t got = read(fd, text + at, OS_SHORTENED(most_bytes - at));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -errno;
        if (got == 0) return 0;
        at += (size_t)got;
    }
    return 0;
}

static int boot(uint8_t id[16]) {
    char text[40] = "";
    int fd;
    do
        fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    if (fd < 0) return errno == ENOENT || errno == EACCES ? -EOPNOTSUPP : -errno;
    const int rc = read_text(fd, text, sizeof text - 1);
    close(fd);
    return rc ? rc : os_unix_boot(text, id);
}

int os_identity(int fd, struct os_identity *out) {
    OS_FAIL(IDENTITY);
#ifdef SYS_statx
    struct os_identity identity;
    struct statx_answer answer;
    const unsigned mask =
        STATX_ASK_INO | STATX_ASK_BTIME | STATX_ASK_MOUNT | STATX_ASK_MOUNT_UNIQUE;
    memset(&answer, 0, sizeof answer);
    if (syscall(SYS_statx, (long)fd, "", (long)AT_EMPTY_PATH, (long)mask, &answer))
        return errno == ENOSYS || errno == EPERM ? -EOPNOTSUPP : -errno; /* an old seccomp: EPERM */
    if (!(answer.mask & STATX_ASK_INO) || !(answer.mask & STATX_ASK_BTIME) ||
        !(answer.mask & (STATX_ASK_MOUNT | STATX_ASK_MOUNT_UNIQUE)))
        return -EOPNOTSUPP;
    const int rc = boot(identity.boot);
    if (rc) return rc;
    identity.dev = (uint64_t)makedev(answer.dev_major, answer.dev_minor);
    identity.ino = answer.ino;
    identity.birth_ns = (uint64_t)answer.birth_s * 1000000000 + answer.birth_ns;
    identity.mount = answer.mount;
    *out = identity;
    return 0;
#else
    (void)fd, (void)out;
    return -EOPNOTSUPP;
#endif
}

int os_random(void *buf, size_t len_bytes) {
    OS_FAIL(RANDOM);
    for (uint8_t *at = buf; len_bytes > 0;) {
        const ssize_t got = getrandom(at, OS_SHORTENED(len_bytes), 0);
        if (got < 0 && errno != EINTR) return -errno;
        if (got < 0) continue;
        at += got;
        len_bytes -= (size_t)got;
    }
    return 0;
}

int os_unix_fsync(int fd) {
    return fdatasync(fd) ? -errno : 0;
}

int os_unix_sync_device(int fd) {
    (void)fd;
    return 0;
}

int os_unix_sync_pages(void *addr, size_t len_bytes) {
    (void)addr, (void)len_bytes;
    return 0; /* the descriptor covers them */
}

/* msync(MS_ASYNC) starts no I/O on Linux. */
int os_writeback(int fd, void *addr, uint64_t off, size_t len_bytes) {
    OS_FAIL(WRITEBACK);
    (void)addr;
    if (sync_file_range(fd, (off_t)off, (off_t)len_bytes, SYNC_FILE_RANGE_WRITE) == 0) return 0;
    return errno == ENOSYS || errno == ESPIPE ? 0 : -errno;
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

/* The default size stands in /proc/meminfo. */
size_t os_huge_page_bytes(unsigned flags) {
    if (flags & OS_MAP_HUGE_1GB) return (size_t)1 << 30;
    if (flags & OS_MAP_HUGE_2MB) return (size_t)1 << 21;
    unsigned long kib = 0;
    FILE *meminfo = fopen("/proc/meminfo", "re");
    char line[128];
    while (meminfo && kib == 0 && fgets(line, sizeof line, meminfo))
        (void)sscanf(line, "Hugepagesize: %lu kB", &kib);
    if (meminfo) fclose(meminfo);
    return (size_t)kib << 10;
}

int os_no_dump(void *addr, size_t len_bytes) {
    OS_FAIL(NO_DUMP);
    return madvise(addr, len_bytes, MADV_DONTDUMP) ? -errno : 0;
}

int os_read_resident(int fd, uint64_t off, uint64_t len_bytes, uint64_t *got_bytes) {
    OS_FAIL(READ_RESIDENT);
    char scratch[4096]; /* each piece over the one before: the bytes are of no interest */
    struct iovec pieces[16];
    int n = 0;
    while (n < 16 && len_bytes > 0) {
        const size_t len = len_bytes < sizeof scratch ? len_bytes : sizeof scratch;
        pieces[n++] = (struct iovec){scratch, OS_SHORTENED(len)};
        if (pieces[n - 1].iov_len < len) break;
        len_bytes -= len;
    }
    /* Not all C libraries have preadv2; the offset is one word, and a half that is not used. */
    const long got = syscall(SYS_preadv2, fd, pieces, (long)n, (long)off, 0L, (long)RWF_NOWAIT);
    if (got < 0 && errno != EAGAIN) return errno == ENOSYS ? -EOPNOTSUPP : -errno;
    *got_bytes = got > 0 ? (uint64_t)got : 0;
    return 0;
}

int os_stay_loaded(void) {
    OS_FAIL(STAY_LOADED);
    return 0; /* the linker's -z nodelete says it */
}
