/* inode.h -- one file, as all its regions in this OS process share it: its size, and whose turn
 * it is to change it. */
#ifndef EMMAP_CORE_INODE_H
#define EMMAP_CORE_INODE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/stripes.h"

struct inode {
    _Atomic uint64_t size_bytes; /* as last known; written under size_lock */
    _Atomic int sync_error;      /* the first failed sync, -errno; stays, see file.h */
    _Atomic bool sync_untold;    /* one has failed since the file was last told, see counters.c */
    uint64_t dev, ino;
    struct stripes *stripes; /* shared by the handles of the file */
    struct inode *next;      /* in its bucket; the runtime's lock guards the table */
    uint32_t users;          /* regions with an open descriptor: it is found by dev and ino */
    _Atomic uint32_t refs;
    pthread_mutex_t resize_lock; /* held through a whole change of size; taken before size_lock */
    pthread_mutex_t size_lock;   /* held while the file's size and size_bytes are made equal */
};

/* inode_enter -- the one of this device and inode number, made if there is none. The caller has
 * the file open, so the number cannot come to mean another file. */
int inode_enter(uint64_t dev, uint64_t ino, uint64_t size_bytes, struct inode **out);
/* inode_enter_new -- one that no file has. */
int inode_enter_new(uint64_t size_bytes, struct inode **out);
/* inode_leave -- the caller is about to close its descriptor; inode_unref gives the memory back. */
void inode_leave(struct inode *inode);
void inode_unref(struct inode *inode);
/* inode_is_shared -- does another handle of this OS process have the file open, too? */
bool inode_is_shared(struct inode *inode);

/* inode_refresh -- ask the file system for the size. With wait false: -EAGAIN while another
 * thread is at it. */
int inode_refresh(struct inode *inode, int fd, bool wait, uint64_t *size_bytes);

/* inode_lock -- the right to change the size, against threads of this OS process and against
 * other OS processes. Waits at most some seconds for those: EMMAP_E_BUSY. */
int inode_lock(struct inode *inode, int fd);
void inode_unlock(struct inode *inode, int fd);

/* Under inode_lock: */
/* inode_grow -- takes the disk space first and raises the size last; gives back what it took when
 * that fails. The space is taken from space_from on: 0 for all of the growth. */
#define INODE_SPARSE UINT64_MAX /* for none */
int inode_grow(struct inode *inode, int fd, uint64_t from_bytes, uint64_t to_bytes,
               uint64_t space_from);
int inode_shrink(struct inode *inode, int fd, uint64_t to_bytes);
/* inode_reserve -- take disk space for holes in a range that may reach past the size. */
int inode_reserve(int fd, uint64_t from_bytes, uint64_t to_bytes);

#endif
