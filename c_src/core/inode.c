/* inode.c -- the shared size of a file, its growth and shrinking. */
#include "core/inode.h"

#include <errno.h>
#include <stdlib.h>

#include "core/fence.h"
#include "core/runtime.h"
#include "emmap.h"
#include "os/os.h"

enum { LOCK_WAIT_MS = 5000 };
static const uint64_t ALLOCATE_STEP_BYTES = 1ull << 30; /* a step is what a signal can undo */

static struct inode **bucket(struct runtime *rt, uint64_t dev, uint64_t ino) {
    return &rt->inodes[(ino * 0x9E3779B97F4A7C15ull ^ dev) % INODE_BUCKETS];
}

static struct inode *make(uint64_t dev, uint64_t ino, uint64_t size_bytes) {
    struct inode *inode = calloc(1, sizeof *inode);
    if (!inode) return NULL;
    inode->dev = dev;
    inode->ino = ino;
    atomic_init(&inode->size_bytes, size_bytes);
    if (pthread_mutex_init(&inode->resize_lock, NULL)) goto free_inode;
    if (pthread_mutex_init(&inode->size_lock, NULL)) goto destroy_resize_lock;
    if (stripes_new(&inode->stripes)) goto destroy_size_lock;
    return inode;

destroy_size_lock:
    pthread_mutex_destroy(&inode->size_lock);
destroy_resize_lock:
    pthread_mutex_destroy(&inode->resize_lock);
free_inode:
    free(inode);
    return NULL;
}

int inode_enter(uint64_t dev, uint64_t ino, uint64_t size_bytes, struct inode **out) {
    struct runtime *rt = runtime_get();
    pthread_mutex_lock(&rt->lock);
    struct inode **first = bucket(rt, dev, ino);
    struct inode *inode = *first;
    while (inode && !(inode->dev == dev && inode->ino == ino))
        inode = inode->next;
    if (!inode) {
        inode = make(dev, ino, size_bytes);
        if (inode) {
            inode->next = *first;
            *first = inode;
        }
    }
    if (inode) {
        inode->users++;
        atomic_fetch_add(&inode->refs, 1);
    }
    pthread_mutex_unlock(&rt->lock);
    if (!inode) return -ENOMEM;
    *out = inode;
    return 0;
}

int inode_enter_new(uint64_t size_bytes, struct inode **out) {
    struct runtime *rt = runtime_get();
    return inode_enter(UINT64_MAX, atomic_fetch_add(&rt->serial, 1), size_bytes, out);
}

void inode_leave(struct inode *inode) {
    struct runtime *rt = runtime_get();
    pthread_mutex_lock(&rt->lock);
    if (--inode->users == 0) {
        struct inode **at = bucket(rt, inode->dev, inode->ino);
        while (*at != inode)
            at = &(*at)->next;
        *at = inode->next;
    }
    pthread_mutex_unlock(&rt->lock);
}

bool inode_is_shared(struct inode *inode) {
    struct runtime *rt = runtime_get();
    pthread_mutex_lock(&rt->lock);
    const bool shared = inode->users > 1;
    pthread_mutex_unlock(&rt->lock);
    return shared;
}

void inode_unref(struct inode *inode) {
    if (atomic_fetch_sub(&inode->refs, 1) != 1) return;
    stripes_free(inode->stripes);
    pthread_mutex_destroy(&inode->size_lock);
    pthread_mutex_destroy(&inode->resize_lock);
    free(inode);
}

static int refresh_locked(struct inode *inode, int fd, uint64_t *size_bytes) {
    struct os_stat st;
    const int rc = os_fstat(fd, &st);
    if (rc) return rc;
    store_release(&inode->size_bytes, st.size_bytes);
    *size_bytes = st.size_bytes;
    return 0;
}

int inode_refresh(struct inode *inode, int fd, bool wait, uint64_t *size_bytes) {
    if (wait)
        pthread_mutex_lock(&inode->size_lock);
    else if (pthread_mutex_trylock(&inode->size_lock))
        return -EAGAIN;
    const int rc = refresh_locked(inode, fd, size_bytes);
    pthread_mutex_unlock(&inode->size_lock);
    return rc;
}

int inode_lock(struct inode *inode, int fd) {
    const uint64_t until_ms = os_now_ms() + LOCK_WAIT_MS;
    int rc = os_mutex_lock_until(&inode->resize_lock, until_ms);
    if (rc) return EMMAP_E_BUSY;
    while ((rc = os_try_lock(fd)) == -EAGAIN && os_now_ms() < until_ms)
        os_sleep_ms(1);
    if (rc == 0 || rc == -EOPNOTSUPP) return 0;
    pthread_mutex_unlock(&inode->resize_lock);
    return rc == -EAGAIN ? EMMAP_E_BUSY : rc;
}

void inode_unlock(struct inode *inode, int fd) {
    os_unlock(fd); /* cannot fail for a lock that is held; where there are none it does nothing */
    pthread_mutex_unlock(&inode->resize_lock);
}

int inode_reserve(int fd, uint64_t from_bytes, uint64_t to_bytes) {
    for (uint64_t at = from_bytes; at < to_bytes;) {
        const uint64_t left = to_bytes - at;
        const uint64_t step = left < ALLOCATE_STEP_BYTES ? left : ALLOCATE_STEP_BYTES;
        const int rc = os_allocate(fd, at, step);
        if (rc == -EOPNOTSUPP) return 0;
        if (rc) return rc;
        at += step;
    }
    return 0;
}

/* Setting the size that the file has frees what was allocated past it. It is asked again: another
 * program, without our lock, may have appended something meanwhile. */
static void give_back(int fd, uint64_t size_bytes) {
    struct os_stat st;
    if (os_fstat(fd, &st) == 0 && st.size_bytes > size_bytes) size_bytes = st.size_bytes;
    (void)os_truncate(fd, size_bytes);
}

int inode_grow(struct inode *inode, int fd, uint64_t from_bytes, uint64_t to_bytes,
               uint64_t space_from) {
    if (to_bytes > INT64_MAX) return -EFBIG;
    if (space_from < from_bytes) space_from = from_bytes;
    const bool takes = space_from < to_bytes;
    int rc = 0;
    if (takes) {
        /* Asked first, so that a wish that cannot be met does not fill the disk for a moment. */
        struct os_fs fs;
        rc = os_fs(fd, &fs);
        if (rc) return rc;
        if (to_bytes - space_from > fs.free_bytes) return -ENOSPC;
        rc = inode_reserve(fd, space_from, to_bytes);
    }
    pthread_mutex_lock(&inode->size_lock);
    if (rc == 0) rc = takes ? os_extend(fd, space_from, to_bytes) : os_truncate(fd, to_bytes);
    if (rc && takes) give_back(fd, from_bytes);
    if (rc == 0) store_release(&inode->size_bytes, to_bytes);
    pthread_mutex_unlock(&inode->size_lock);
    return rc;
}

/* The known size goes down first: who looks at it from then on stays clear of the pages that are
 * about to go. */
int inode_shrink(struct inode *inode, int fd, uint64_t to_bytes) {
    pthread_mutex_lock(&inode->size_lock);
    const uint64_t before = atomic_load_explicit(&inode->size_bytes, memory_order_relaxed);
    store_release(&inode->size_bytes, to_bytes);
    const int rc = os_truncate(fd, to_bytes);
    if (rc) store_release(&inode->size_bytes, before);
    pthread_mutex_unlock(&inode->size_lock);
    return rc;
}
