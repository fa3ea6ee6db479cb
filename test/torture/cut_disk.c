/* cut_disk FOLDER STABLE CURRENT: a disk that loses, at a cut of the power, what its cache had.
 *
 * Mounts itself (FUSE, by the kernel's own protocol) at FOLDER, with one file in it, "disk", of the size of
 * STABLE and CURRENT, which are alike at the start. A write goes to CURRENT, which reads are answered
 * from, and into memory; an fsync, which a loop device makes of each flush of its file system, brings
 * STABLE up to date. One request at a time: what is being written when a flush comes is not flushed.
 *
 * A line "cut FILE SEED" on standard input makes FILE what a cut at this moment leaves: a clone of STABLE
 * (FICLONE), and of the blocks of 4096 bytes written since, by a choice of SEED's, some, each as any
 * of the writes to it left it, in no order. Answers "cut KEPT OF" on standard output. At the end of
 * standard input it ends.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { BLOCK = 4096, MOST_WRITE = 1 << 20, MOST_PENDING = 16384, DISK_ID = 2 };

struct pending { /* a block, or the part of one, that no flush has followed yet */
    uint64_t off;
    uint32_t len_bytes;
    uint8_t *data;
};

static struct pending pending[MOST_PENDING + MOST_WRITE / BLOCK + 2];
static size_t pending_n;
static int stable, current, fuse;
static uint64_t size_bytes;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void store(int fd, const struct pending *write) {
    if (pwrite(fd, write->data, write->len_bytes, (off_t)write->off) != (ssize_t)write->len_bytes)
        die("write");
}

/* The first n reach the disk. */
static void settle(size_t n) {
    for (size_t i = 0; i < n; i++) {
        store(stable, &pending[i]);
        free(pending[i].data);
    }
    memmove(pending, pending + n, (pending_n - n) * sizeof *pending);
    pending_n -= n;
}

static int written(uint64_t off, const uint8_t *data, uint32_t len_bytes) {
    if (off > size_bytes || len_bytes > size_bytes - off) return -ENOSPC;
    if (pwrite(current, data, len_bytes, (off_t)off) != (ssize_t)len_bytes) return -EIO;
    while (len_bytes) {
        const uint32_t room = BLOCK - (uint32_t)(off % BLOCK),
                       n = len_bytes < room ? len_bytes : room;
        uint8_t *copy = malloc(n);
        if (!copy) return -ENOMEM;
        memcpy(copy, data, n);
        pending[pending_n++] = (struct pending){off, n, copy};
        off += n, data += n, len_bytes -= n;
    }
    if (pending_n > MOST_PENDING) settle(MOST_PENDING / 2); /* the cache is full */
    return 0;
}

/* ------------------------------------------------------------------------------------- a cut */

static uint64_t chance;

static uint64_t random_of(uint64_t n) { /* xorshift64* */
    chance ^= chance >> 12, chance ^= chance << 25, chance ^= chance >> 27;
    return (chance * 0x2545F4914F6CDD1DULL >> 11) % n;
}

static int by_block(const void *a, const void *b) {
    const struct pending *x = *(struct pending *const *)a, *y = *(struct pending *const *)b;
    if (x->off / BLOCK != y->off / BLOCK) return x->off < y->off ? -1 : 1;
    return x < y ? -1 : x > y;
}

static void cut(const char *path, uint64_t seed) {
    static struct pending *sorted[sizeof pending / sizeof *pending];
    chance = seed * 2 + 1;
    for (int i = 0; i < 8; i++)
        random_of(2);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || ioctl(fd, FICLONE, stable)) die(path);
    for (size_t i = 0; i < pending_n; i++)
        sorted[i] = &pending[i];
    qsort(sorted, pending_n, sizeof *sorted, by_block);
    const uint64_t percent[] = {0, 10, 50, 90, 100}, kept = percent[random_of(5)];
    size_t blocks = 0, kept_n = 0;
    for (size_t i = 0, n; i < pending_n; i += n, blocks++) {
        for (n = 1; i + n < pending_n && sorted[i + n]->off / BLOCK == sorted[i]->off / BLOCK;)
            n++;
        if (random_of(100) >= kept) continue;
        kept_n++;
        for (size_t k = 0, until = 1 + random_of(n); k < until; k++)
            store(fd, sorted[i + k]);
    }
    close(fd);
    printf("cut %zu %zu\n", kept_n, blocks);
    fflush(stdout);
}

static int command(void) { /* 0: the end */
    static char line[8192];
    static size_t have;
    const ssize_t got = read(0, line + have, sizeof line - 1 - have);
    if (got <= 0) return 0;
    have += (size_t)got;
    line[have] = 0;
    char path[4096];
    unsigned long long seed;
    if (!strchr(line, '\n')) return 1;
    have = 0;
    if (sscanf(line, "cut %4095s %llu", path, &seed) == 2) cut(path, seed);
    return 1;
}

/* ------------------------------------------------------------------------ the kernel's requests */

static void answer(uint64_t unique, int error, const void *data, size_t len_bytes) {
    struct fuse_out_header head = {
        .len = (uint32_t)(sizeof head + len_bytes), .error = error, .unique = unique};
    struct iovec parts[] = {{&head, sizeof head}, {(void *)data, len_bytes}};
    if (writev(fuse, parts, 2) < 0 && errno != ENOENT) die("answer");
}

static struct fuse_attr attributes(uint64_t id) {
    return (struct fuse_attr){.ino = id,
                              .size = id == DISK_ID ? size_bytes : 0,
                              .blocks = id == DISK_ID ? size_bytes / 512 : 0,
                              .mode = id == DISK_ID ? S_IFREG | 0600 : S_IFDIR | 0700,
                              .nlink = 1,
                              .blksize = BLOCK};
}

static void handle(const struct fuse_in_header *head, const void *in) {
    static uint8_t bytes[MOST_WRITE];
    const uint64_t unique = head->unique;
    switch (head->opcode) {
    case FUSE_INIT: {
        const struct fuse_init_in *init = in;
        const struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION,
                                          .minor = FUSE_KERNEL_MINOR_VERSION,
                                          .max_readahead = init->max_readahead,
                                          .flags = init->flags & (FUSE_BIG_WRITES | FUSE_MAX_PAGES),
                                          .max_background = 64,
                                          .congestion_threshold = 48,
                                          .max_write = MOST_WRITE,
                                          .time_gran = 1,
                                          .max_pages = MOST_WRITE / BLOCK};
        return answer(unique, 0, &out, sizeof out);
    }
    case FUSE_LOOKUP: {
        const struct fuse_entry_out out = {.nodeid = DISK_ID,
                                           .entry_valid = 3600,
                                           .attr_valid = 3600,
                                           .attr = attributes(DISK_ID)};
        if (strcmp(in, "disk")) return answer(unique, -ENOENT, NULL, 0);
        return answer(unique, 0, &out, sizeof out);
    }
    case FUSE_GETATTR: {
        const struct fuse_attr_out out = {.attr_valid = 3600, .attr = attributes(head->nodeid)};
        return answer(unique, 0, &out, sizeof out);
    }
    case FUSE_OPEN: {
        const struct fuse_open_out out = {.open_flags = FOPEN_DIRECT_IO};
        return answer(unique, 0, &out, sizeof out);
    }
    case FUSE_READ: {
        const struct fuse_read_in *of = in;
        const ssize_t got =
            pread(current, bytes, of->size < MOST_WRITE ? of->size : MOST_WRITE, (off_t)of->offset);
        return answer(unique, got < 0 ? -EIO : 0, bytes, got < 0 ? 0 : (size_t)got);
    }
    case FUSE_WRITE: {
        const struct fuse_write_in *of = in;
        const struct fuse_write_out out = {.size = of->size};
        const int rc = written(of->offset, (const uint8_t *)(of + 1), of->size);
        return answer(unique, rc, &out, rc ? 0 : sizeof out);
    }
    case FUSE_FSYNC:
        settle(pending_n);
        return answer(unique, 0, NULL, 0);
    case FUSE_FLUSH:
    case FUSE_RELEASE:
        return answer(unique, 0, NULL, 0);
    case FUSE_STATFS: {
        const struct fuse_statfs_out out = {
            .st = {.bsize = BLOCK, .namelen = 255, .frsize = BLOCK}};
        return answer(unique, 0, &out, sizeof out);
    }
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
        return;
    default: /* fallocate too: the file system then writes zeros itself, and does not discard */
        return answer(unique, -ENOSYS, NULL, 0);
    }
}

int main(int argc, char **argv) {
    static _Alignas(8) uint8_t request[MOST_WRITE + 65536];
    struct stat what;
    char options[128];
    if (argc != 4) return 2;
    stable = open(argv[2], O_RDWR);
    current = open(argv[3], O_RDWR);
    fuse = open("/dev/fuse", O_RDWR);
    if (stable < 0 || current < 0 || fuse < 0 || fstat(stable, &what)) die("open");
    size_bytes = (uint64_t)what.st_size;
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0", fuse);
    if (mount("cut_disk", argv[1], "fuse", MS_NOSUID | MS_NODEV, options)) die("mount");
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        struct pollfd wait[] = {{.fd = fuse, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
        if (poll(wait, 2, -1) < 0 && errno != EINTR) die("poll");
        if (wait[1].revents && !command()) return 0;
        if (wait[0].revents == 0) continue;
        const ssize_t got = read(fuse, request, sizeof request);
        if (got < 0 && errno == ENODEV) return 0; /* unmounted */
        if (got < 0 && errno != EINTR && errno != EAGAIN && errno != ENOENT) die("request");
        if (got > 0)
            handle((struct fuse_in_header *)request, request + sizeof(struct fuse_in_header));
    }
}
