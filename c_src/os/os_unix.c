/* os_unix.c -- the system calls that every POSIX system has alike. */
#include "os/os_unix.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif

int os_open(const char *path, unsigned flags, uint32_t mode, int *fd) {
    OS_FAIL(OPEN);
    int how = O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    how |= flags & OS_OPEN_WRITE ? O_RDWR : O_RDONLY;
    if (flags & OS_OPEN_MAKE) how |= O_CREAT | O_EXCL;
    if (flags & OS_OPEN_NOFOLLOW) how |= O_NOFOLLOW;
    int got;
    do
        got = open(path, how, (mode_t)mode);
    while (got < 0 && errno == EINTR);
    if (got < 0) return -errno;
    if (flags & OS_OPEN_MAKE) OS_RECORD(.kind = OS_EVENT_MAKE, .fd = got, .path = path);
    *fd = got;
    return 0;
}

/* Never again after EINTR: the descriptor may be another thread's by then. */
int os_close(int fd) {
    const int rc = close(fd) ? -errno : 0;
    return OS_FAIL_AFTER(CLOSE, rc);
}

int os_dup(int fd, int *out) {
    OS_FAIL(DUP);
    const int got = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (got < 0) return -errno;
    *out = got;
    return 0;
}

static void stat_out(const struct stat *st, struct os_stat *out) {
    out->dev = (uint64_t)st->st_dev;
    out->ino = (uint64_t)st->st_ino;
    out->size_bytes = (uint64_t)st->st_size;
    out->allocated_bytes = (uint64_t)st->st_blocks * 512;
    out->links = (uint64_t)st->st_nlink;
    out->own = st->st_uid == geteuid();
    out->type = S_ISREG(st->st_mode) ? OS_REGULAR : S_ISDIR(st->st_mode) ? OS_DIRECTORY : OS_OTHER;
}

int os_stat(const char *path, struct os_stat *out) {
    OS_FAIL(STAT);
    struct stat st;
    if (stat(path, &st)) return -errno;
    stat_out(&st, out);
    return 0;
}

int os_lstat(const char *path, struct os_stat *out) {
    OS_FAIL(STAT);
    struct stat st;
    if (lstat(path, &st)) return -errno;
    if (S_ISLNK(st.st_mode)) return -ELOOP;
    stat_out(&st, out);
    return 0;
}

int os_fstat(int fd, struct os_stat *out) {
    OS_FAIL(FSTAT);
    struct stat st;
    if (fstat(fd, &st)) return -errno;
    stat_out(&st, out);
    return 0;
}

int os_details(int fd, struct os_details *out) {
    OS_FAIL(DETAILS);
    struct stat st;
    if (fstat(fd, &st)) return -errno;
    *out = (struct os_details){
        .size_bytes = (uint64_t)st.st_size,
        .links = (uint64_t)st.st_nlink,
        .dev = (uint64_t)st.st_dev,
        .rdev = (uint64_t)st.st_rdev,
        .ino = (uint64_t)st.st_ino,
        .mode = (uint32_t)st.st_mode,
        .uid = (uint32_t)st.st_uid,
        .gid = (uint32_t)st.st_gid,
        .accessed_s = (int64_t)st.st_atime,
        .modified_s = (int64_t)st.st_mtime,
        .changed_s = (int64_t)st.st_ctime,
    };
    return 0;
}

int os_unix_free_bytes(int fd, uint64_t *free_bytes) {
    struct statvfs fs;
    int rc;
    do
        rc = fstatvfs(fd, &fs);
    while (rc && errno == EINTR);
    if (rc) return -errno;
    if (__builtin_mul_overflow((uint64_t)fs.f_bfree, (uint64_t)fs.f_frsize, free_bytes))
        *free_bytes = UINT64_MAX;
    return 0;
}

int os_unlink(const char *path) {
    OS_FAIL(UNLINK);
    if (unlink(path)) return -errno;
    OS_RECORD(.kind = OS_EVENT_UNLINK, .path = path);
    return 0;
}

int os_link(const char *from, const char *to) {
    OS_FAIL(LINK);
    if (link(from, to)) return -errno;
    OS_RECORD(.kind = OS_EVENT_LINK, .path = to);
    return 0;
}

uint64_t os_pid(void) {
    return (uint64_t)getpid();
}

int os_getcwd(char *buf, size_t len_bytes) {
    OS_FAIL(GETCWD);
    return getcwd(buf, len_bytes) ? 0 : -errno;
}

int os_readlink(const char *path, char *buf, size_t len_bytes) {
    OS_FAIL(READLINK);
    const size_t room = OS_SHORTENED(len_bytes);
    const ssize_t got = readlink(path, buf, room);
    if (got < 0) return -errno;
    if ((size_t)got == room) return -ENAMETOOLONG;
    buf[got] = '\0';
    return 0;
}

/* Beyond RLIMIT_FSIZE the kernel does not only refuse: it sends SIGXFSZ, which kills. */
int os_unix_check_size(int fd, uint64_t size_bytes) {
    struct rlimit limit;
    struct stat st;
    if (size_bytes > INT64_MAX) return -EFBIG;
    if (getrlimit(RLIMIT_FSIZE, &limit) || limit.rlim_cur == RLIM_INFINITY) return 0;
    if (size_bytes <= limit.rlim_cur) return 0;
    if (fstat(fd, &st)) return -errno;
    return size_bytes <= (uint64_t)st.st_size ? 0 : -EFBIG;
}

int os_unix_truncate(int fd, uint64_t size_bytes) {
    const int bad = os_unix_check_size(fd, size_bytes);
    if (bad) return bad;
    int rc;
    do
        rc = ftruncate(fd, (off_t)size_bytes);
    while (rc && errno == EINTR);
    if (rc) return -errno;
    OS_RECORD(.kind = OS_EVENT_SIZE, .fd = fd, .off = size_bytes);
    return 0;
}

int os_truncate(int fd, uint64_t size_bytes) {
    OS_FAIL(TRUNCATE);
    return os_unix_truncate(fd, size_bytes);
}

#ifdef F_OFD_SETLK
static int lock_call(int fd, int call, struct flock *range) {
    int rc;
    do
        rc = fcntl(fd, call, range);
    while (rc && errno == EINTR);
    if (rc == 0) return 0;
    switch (errno) {
    case EACCES:
    case EAGAIN:
        return -EAGAIN;
    case EINVAL:
    case ENOSYS:
    case ENOLCK:
    case ENOTSUP:
        return -EOPNOTSUPP;
    default:
        return -errno;
    }
}

static struct flock lock_range(uint64_t off, short type) {
    struct flock range;
    memset(&range, 0, sizeof range);
    range.l_type = type;
    range.l_whence = SEEK_SET;
    range.l_start = (off_t)off;
    range.l_len = 1;
    return range;
}

/* Such locks belong to the open file, not to the process: closing another descriptor of the file
 * does not drop them, and kill -9 does. */
int os_unix_lock_byte(int fd, uint64_t off, enum os_lock lock) {
    static const short types[] = {
        [OS_LOCK_NONE] = F_UNLCK, [OS_LOCK_READ] = F_RDLCK, [OS_LOCK_WRITE] = F_WRLCK};
    if (off > INT64_MAX) return -EOVERFLOW;
    struct flock range = lock_range(off, types[lock]);
    return lock_call(fd, F_OFD_SETLK, &range);
}

int os_unix_byte_locked(int fd, uint64_t off, bool *locked) {
    if (off > INT64_MAX) return -EOVERFLOW;
    struct flock range = lock_range(off, F_WRLCK); /* which every other lock is in the way of */
    const int rc = lock_call(fd, F_OFD_GETLK, &range);
    if (rc == 0) *locked = range.l_type != F_UNLCK;
    return rc;
}
#else
int os_unix_lock_byte(int fd, uint64_t off, enum os_lock lock) {
    (void)fd, (void)off, (void)lock;
    return -EOPNOTSUPP;
}

int os_unix_byte_locked(int fd, uint64_t off, bool *locked) {
    (void)fd, (void)off, (void)locked;
    return -EOPNOTSUPP;
}
#endif

/* xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx */
int os_unix_boot(const char *uuid, uint8_t boot[16]) {
#ifdef EMMAP_TESTING
    if (os_boot_pretended(boot)) return 0;
#endif
    static const char digits[] = "00112233445566778899aAbBcCdDeEfF";
    uint8_t id[16] = {0};
    unsigned n = 0;
    for (; *uuid && n < 32; uuid++) {
        const char *digit = strchr(digits, *uuid);
        if (*uuid == '-') continue;
        if (!digit) return -EOPNOTSUPP;
        id[n / 2] = (uint8_t)(id[n / 2] << 4 | (digit - digits) / 2);
        n++;
    }
    if (n < 32) return -EOPNOTSUPP;
    memcpy(boot, id, sizeof id);
    return 0;
}

static int sync_descriptor(int fd) {
    int rc;
    do
        rc = os_unix_fsync(fd);
    while (rc == -EINTR);
    return rc;
}

int os_sync(int fd, void *addr, size_t len_bytes) {
    OS_FAIL(SYNC);
    int rc = len_bytes > 0 ? os_unix_sync_pages(addr, len_bytes) : 0;
    if (rc == 0) rc = sync_descriptor(fd);
    if (rc == 0) OS_RECORD(.kind = OS_EVENT_SYNC, .fd = fd, .off = 0, .len_bytes = UINT64_MAX);
    return rc;
}

int os_sync_range(int fd, void *addr, uint64_t off, size_t len_bytes) {
    OS_FAIL(SYNC_RANGE);
    int rc = msync(addr, len_bytes, MS_SYNC) ? -errno : 0;
    if (rc == 0) rc = os_unix_sync_device(fd);
    if (rc == 0) OS_RECORD(.kind = OS_EVENT_SYNC, .fd = fd, .off = off, .len_bytes = len_bytes);
    (void)off;
    return rc;
}

int os_data(int fd, uint64_t off, uint64_t *from, uint64_t *to) {
    OS_FAIL(DATA);
#ifdef SEEK_DATA
    if (off > INT64_MAX) return -ENXIO;
    const off_t data = lseek(fd, (off_t)off, SEEK_DATA);
    if (data < 0) return errno == EINVAL ? -EOPNOTSUPP : -errno;
    const off_t hole = lseek(fd, data, SEEK_HOLE);
    if (hole < 0) return -errno;
    *from = (uint64_t)data;
    *to = (uint64_t)hole;
    return 0;
#else
    (void)fd, (void)off, (void)from, (void)to;
    return -EOPNOTSUPP;
#endif
}

int os_sync_parent(const char *path) {
    OS_FAIL(SYNC_PARENT);
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/');
    const size_t len = slash ? (size_t)(slash - path) : 0;
    if (len >= sizeof dir) return -ENAMETOOLONG;
    if (!slash)
        strcpy(dir, ".");
    else if (len == 0)
        strcpy(dir, "/");
    else {
        memcpy(dir, path, len);
        dir[len] = '\0';
    }
    const int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return -errno;
    const int rc = sync_descriptor(fd);
    close(fd);
    if (rc == 0) OS_RECORD(.kind = OS_EVENT_SYNC_PARENT, .path = path);
    return rc;
}

/* What the C library's headers do not have, the system may lack; what no flag stands for does
 * nothing. */
static const struct {
    unsigned flag;
    int how; /* 0: lacking */
} map_flags[] = {
#ifdef MAP_SHARED_VALIDATE
    {OS_MAP_SHARED_VALIDATE, MAP_SHARED_VALIDATE},
#else
    {OS_MAP_SHARED_VALIDATE, 0},
#endif
#ifdef MAP_SYNC
    {OS_MAP_SYNC, MAP_SYNC},
#else
    {OS_MAP_SYNC, 0},
#endif
#ifdef MAP_HUGETLB
    {OS_MAP_HUGETLB, MAP_HUGETLB},
    {OS_MAP_HUGE_2MB, 21 << 26}, /* log2 of the size, from bit 26 on */
    {OS_MAP_HUGE_1GB, 30 << 26},
#else
    {OS_MAP_HUGETLB, 0},
    {OS_MAP_HUGE_2MB, 0},
    {OS_MAP_HUGE_1GB, 0},
#endif
#ifdef MAP_UNINITIALIZED
    {OS_MAP_UNINITIALIZED, MAP_UNINITIALIZED},
#endif
#ifdef MAP_NOCACHE
    {OS_MAP_NOCACHE, MAP_NOCACHE},
#endif
#ifdef MAP_FIXED_NOREPLACE
    {OS_MAP_AT, MAP_FIXED_NOREPLACE},
#endif
};
enum { MAP_FLAGS = sizeof map_flags / sizeof *map_flags };

unsigned os_map_lacks(unsigned flags) {
    unsigned lacks = 0;
    for (unsigned i = 0; i < MAP_FLAGS; i++)
        if ((flags & map_flags[i].flag) && map_flags[i].how == 0) lacks |= map_flags[i].flag;
    return lacks;
}

int os_mutex_lock_until(pthread_mutex_t *mutex, uint64_t until_ms) {
    while (pthread_mutex_trylock(mutex)) {
        if (os_now_ms() >= until_ms) return -EAGAIN;
#ifdef __APPLE__
        os_sleep_ms(1);
#else
        /* Short waits, since its clock may be set. */
        struct timespec wake;
        clock_gettime(CLOCK_REALTIME, &wake);
        wake.tv_nsec += 100000000;
        wake.tv_sec += wake.tv_nsec / 1000000000;
        wake.tv_nsec %= 1000000000;
        if (pthread_mutex_timedlock(mutex, &wake) == 0) return 0;
#endif
    }
    return 0;
}

int os_map(void *addr, size_t len_bytes, unsigned prot, unsigned flags, int fd, uint64_t off,
           void **out) {
    OS_FAIL(MAP);
    if (off > INT64_MAX) return -EOVERFLOW;
    int how = flags & OS_MAP_SHARED ? MAP_SHARED : MAP_PRIVATE;
    if (flags & OS_MAP_SHARED_VALIDATE) how = 0; /* a type of its own */
    for (unsigned i = 0; i < MAP_FLAGS; i++)
        if (flags & map_flags[i].flag) how |= map_flags[i].how;
    if (flags & OS_MAP_ANON) how |= MAP_ANON;
    if (flags & (OS_MAP_ANON | OS_MAP_NORESERVE) && !(flags & OS_MAP_HUGETLB)) how |= MAP_NORESERVE;
    if (flags & OS_MAP_FIXED) how |= MAP_FIXED;
    int may = PROT_NONE;
    if (prot & OS_PROT_READ) may |= PROT_READ;
    if (prot & OS_PROT_WRITE) may |= PROT_WRITE;
    void *got = mmap(addr, len_bytes, may, how, flags & OS_MAP_ANON ? -1 : fd, (off_t)off);
    if (got == MAP_FAILED) return -errno;
    if ((flags & OS_MAP_AT) && got != addr) { /* a system that takes it for a wish */
        munmap(got, len_bytes);
        return -EEXIST;
    }
    *out = got;
    return 0;
}

int os_resident(void *addr, size_t len_bytes, unsigned char *pages) {
    OS_FAIL(RESIDENT);
    return mincore(addr, len_bytes, (void *)pages) ? -errno : 0;
}

int os_lock_memory(void *addr, size_t len_bytes) {
    OS_FAIL(LOCK_MEMORY);
    return mlock(addr, len_bytes) ? -errno : 0;
}

int os_lock_ahead(void *addr, size_t len_bytes) {
    OS_FAIL(LOCK_MEMORY);
#ifdef MLOCK_ONFAULT
    return mlock2(addr, len_bytes, MLOCK_ONFAULT) && errno != ENOSYS ? -errno : 0;
#else
    (void)addr, (void)len_bytes;
    return 0;
#endif
}

int os_unmap(void *addr, size_t len_bytes) {
    const int rc = munmap(addr, len_bytes) ? -errno : 0;
    return OS_FAIL_AFTER(UNMAP, rc);
}

size_t os_page_bytes(void) {
    return (size_t)sysconf(_SC_PAGESIZE);
}

struct thread_start {
    void (*run)(void *);
    void *arg;
};

static void *thread_main(void *arg) {
    const struct thread_start start = *(struct thread_start *)arg;
    free(arg);
    start.run(start.arg);
    return NULL;
}

int os_thread(void (*run)(void *), void *arg) {
    OS_FAIL(THREAD);
    struct thread_start *start = malloc(sizeof *start);
    if (!start) return -ENOMEM;
    *start = (struct thread_start){run, arg};

    sigset_t blocked, before;
    sigfillset(&blocked);
    sigdelset(&blocked, SIGBUS); /* a blocked synchronous signal kills */
    sigdelset(&blocked, SIGSEGV);
    sigdelset(&blocked, SIGILL);
    sigdelset(&blocked, SIGFPE);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    pthread_attr_t attr;
    pthread_t thread;
    int rc = pthread_attr_init(&attr);
    if (rc == 0) {
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        rc = pthread_create(&thread, &attr, thread_main, start);
        pthread_attr_destroy(&attr);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc) free(start);
    return -rc;
}

void os_sleep_ms(unsigned ms) {
#ifdef EMMAP_TESTING
    if (os_hurries(ms)) {
        sched_yield();
        return;
    }
#endif
    struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    while (nanosleep(&left, &left) && errno == EINTR)
        ;
}

uint64_t os_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    const uint64_t now_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
#ifdef EMMAP_TESTING
    return now_ns + os_hurried_ms * 1000000;
#else
    return now_ns;
#endif
}

uint64_t os_now_ms(void) {
    return os_now_ns() / 1000000;
}

#ifdef CLOCK_REALTIME_COARSE
#define WALL_CLOCK CLOCK_REALTIME_COARSE /* a few milliseconds, a fifth of the time */
#else
#define WALL_CLOCK CLOCK_REALTIME
#endif

uint64_t os_wall_ms(void) {
    struct timespec now;
    clock_gettime(WALL_CLOCK, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void os_pause(unsigned tries) {
    enum { SPINS = 64, YIELDS = 128 };
    if (tries < SPINS) return;
    if (tries < YIELDS) {
        sched_yield();
        return;
    }
    const struct timespec wait = {.tv_nsec = 50000};
    nanosleep(&wait, NULL);
}

static os_fault_handler *fault_handler;
static struct sigaction before_us;

static void on_sigbus(int sig, siginfo_t *info, void *context) {
    const int saved_errno = errno;
    const bool asked_for = info->si_code <= 0; /* kill() and the like: si_addr means nothing */
    if (!asked_for && fault_handler(info->si_addr)) {
        errno = saved_errno;
        return;
    }
    errno = saved_errno;
    if (before_us.sa_flags & SA_SIGINFO) {
        before_us.sa_sigaction(sig, info, context);
    } else if (before_us.sa_handler == SIG_DFL || (before_us.sa_handler == SIG_IGN && !asked_for)) {
        /* On return the instruction faults again, or the raised signal arrives: the end. */
        signal(sig, SIG_DFL);
        if (asked_for) raise(sig);
    } else if (before_us.sa_handler != SIG_IGN) {
        before_us.sa_handler(sig);
    }
}

int os_on_fault(os_fault_handler *handler) {
    OS_FAIL(ON_FAULT);
    struct sigaction action, now;
    fault_handler = handler;
    /* Read first: the handler may run before a sigaction that does both has stored the old one. */
    if (sigaction(SIGBUS, NULL, &now)) return -errno;
    if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_sigbus) return 0;
    before_us = now;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_sigbus;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
    sigemptyset(&action.sa_mask);
    return sigaction(SIGBUS, &action, NULL) ? -errno : 0;
}
