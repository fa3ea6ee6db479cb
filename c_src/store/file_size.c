/* file_size.c -- the size of a mapped file, and who may change it. */
#include <errno.h>

#include "store/file.h"

uint64_t file_handle_bytes(const struct emmap_file *file, uint64_t file_bytes) {
    return file_bytes > file->off ? file_bytes - file->off : 0;
}

uint64_t emmap_file_size(const struct emmap_file *file) {
    return file_handle_bytes(file,
                             atomic_load_explicit(file->region->size_bytes, memory_order_acquire));
}

static uint64_t grown(const struct emmap_file *file, uint64_t size_bytes) {
    const uint64_t inc = size_bytes < file->max_inc_bytes ? size_bytes : file->max_inc_bytes;
    return size_bytes + (inc > 0 ? inc : file->region->page_bytes);
}

/* Only what the handle's user was told of may be cut off: where somebody else has grown the file
 * since, their size is adopted, and told. */
enum resize { RESIZE, RESIZE_GROW_ONLY, RESIZE_EXACTLY };
struct wish {
    enum resize how;
    uint64_t bytes;      /* of the file */
    uint64_t space_from; /* of what it grows by: see inode_grow */
};

/* On success *found is the size before, and *now the size after it. */
static int resize_file(struct emmap_file *file, const struct wish *wish, uint64_t *found,
                       uint64_t *now) {
    struct emmap_region *region = file->region;
    struct inode *inode = region->inode;
    int rc = inode_lock(inode, region->fd);
    if (rc) return rc;
    uint64_t file_bytes;
    rc = inode_refresh(inode, region->fd, true, &file_bytes);
    const uint64_t told = atomic_load_explicit(&file->told_bytes, memory_order_relaxed);
    uint64_t wanted = wish->bytes;
    if (rc == 0 && wanted < file_bytes) {
        if (wish->how == RESIZE_GROW_ONLY || (wish->how == RESIZE && file_bytes > told))
            wanted = file_bytes;
        else
            rc = inode_shrink(inode, region->fd, wanted);
    } else if (rc == 0 && wanted > file_bytes) {
        rc = wanted > region_limit(region)
                 ? -ENOMEM
                 : inode_grow(inode, region->fd, file_bytes, wanted, wish->space_from);
    }
    if (rc == 0) {
        *found = file_bytes;
        *now = wanted;
        atomic_store_explicit(&file->told_bytes, wanted, memory_order_relaxed);
    }
    inode_unlock(inode, region->fd);
    return rc;
}

/* A shared file's growth: what others have added since stays. As the user was told nothing of it, a
 * later resize of theirs may cut off no more than before. */
static void take_back(struct emmap_file *file, uint64_t told, uint64_t found, uint64_t now) {
    uint64_t left = now;
    (void)resize_file(file,
                      &(struct wish){.how = RESIZE, .bytes = found, .space_from = INODE_SPARSE},
                      &now, &left);
    /* Not where another call on the handle has told of a size meanwhile. */
    (void)atomic_compare_exchange_strong(&file->told_bytes, &left, told);
}

static int resize_shared(struct emmap_file *file, const struct wish *wish, uint64_t *now) {
    const uint64_t told = atomic_load_explicit(&file->told_bytes, memory_order_relaxed);
    const uint64_t known = atomic_load_explicit(file->region->size_bytes, memory_order_relaxed);
    uint64_t found;
    int rc = resize_file(file, wish, &found, now);
    if (rc || !(file->flags & EMMAP_LOCK_MEMORY) || *now <= known) return rc;
    rc = file_lock_memory(file, known, *now);
    if (rc) take_back(file, told, found, *now);
    return rc;
}

static int resize_private(struct emmap_file *file, const struct wish *wish, uint64_t *now) {
    struct emmap_region *region = file->region;
    uint64_t before = atomic_load_explicit(region->size_bytes, memory_order_relaxed);
    *now = wish->bytes;
    int rc = region_resize_private(region, wish->how == RESIZE_GROW_ONLY, now);
    if (rc == 0 && (file->flags & EMMAP_LOCK_MEMORY) && *now > before) {
        rc = file_lock_memory(file, before, *now);
        if (rc) (void)region_resize_private(region, false, &before);
    }
    if (rc == 0) atomic_store_explicit(&file->told_bytes, *now, memory_order_relaxed);
    return rc;
}

static int resize_pinned(struct emmap_file *file, const struct wish *wish, uint64_t *now_bytes) {
    uint64_t now;
    int rc =
        file->region->shared ? resize_shared(file, wish, &now) : resize_private(file, wish, &now);
    if (rc == 0 && atomic_load_explicit(&file->region->closed, memory_order_relaxed))
        rc = EMMAP_E_CLOSED;
    if (rc) return rc;
    if (now_bytes) *now_bytes = file_handle_bytes(file, now);
    return 0;
}

static int may_resize(const struct emmap_file *file) {
    if (atomic_load_explicit(&file->region->closed, memory_order_relaxed)) return EMMAP_E_CLOSED;
    if (file->flags & EMMAP_FIXED_SIZE) return EMMAP_E_FIXED_SIZE;
    return file->flags & EMMAP_WRITE ? 0 : -EACCES;
}

/* To size_bytes of the handle; of its growth at least what lies from off on gets its space. */
static int resize_from(struct emmap_file *file, enum resize how, uint64_t size_bytes, uint64_t off,
                       uint64_t *now_bytes) {
    int rc = may_resize(file);
    if (rc) return rc;
    if (size_bytes > INT64_MAX - file->off) return -EFBIG;
    if (!region_pin(file->region)) return EMMAP_E_CLOSED;
    const struct wish wish = {
        .how = how,
        .bytes = file->off + size_bytes,
        .space_from = !(file->flags & EMMAP_SPARSE) ? 0
                      : off < size_bytes            ? file->off + off
                                                    : INODE_SPARSE,
    };
    rc = resize_pinned(file, &wish, now_bytes);
    region_unpin(file->region);
    return rc;
}

static int resize(struct emmap_file *file, enum resize how, uint64_t size_bytes,
                  uint64_t *now_bytes) {
    return resize_from(file, how, size_bytes, size_bytes, now_bytes);
}

int emmap_file_resize(struct emmap_file *file, uint64_t size_bytes, uint64_t *now_bytes) {
    return resize(file, RESIZE, size_bytes, now_bytes);
}

int file_extend(struct emmap_file *file, uint64_t size_bytes) {
    return resize(file, RESIZE_GROW_ONLY, size_bytes, NULL);
}

int file_set_size(struct emmap_file *file, uint64_t size_bytes) {
    return resize(file, RESIZE_EXACTLY, size_bytes, NULL);
}

int emmap_file_grow(struct emmap_file *file, uint64_t *now_bytes) {
    const uint64_t told = file_handle_bytes(file, atomic_load(&file->told_bytes));
    return emmap_file_resize(file, grown(file, told), now_bytes);
}

int file_ask_size(struct emmap_file *file, uint64_t *size_bytes) {
    struct emmap_region *region = file->region;
    uint64_t size = atomic_load_explicit(region->size_bytes, memory_order_acquire);
    if (region->shared) {
        if (!region_pin(region)) return EMMAP_E_CLOSED;
        const int rc = inode_refresh(region->inode, region->fd, true, &size);
        region_unpin(region);
        if (rc) return rc;
    }
    *size_bytes = file_handle_bytes(file, size);
    return 0;
}

/* -------------------------------------------------- what the file module asks of a file besides */

int file_cut(struct emmap_file *file) {
    pthread_mutex_lock(&file->stream_lock);
    const int rc = file_set_size(file, file->position);
    pthread_mutex_unlock(&file->stream_lock);
    return rc;
}

/* Begins a call on a range of the file by its descriptor; 0 with a pin. */
static int pin_range(struct emmap_file *file, uint64_t off, uint64_t len_bytes) {
    if (atomic_load_explicit(&file->region->closed, memory_order_relaxed)) return EMMAP_E_CLOSED;
    if (off > INT64_MAX - file->off || len_bytes > INT64_MAX - file->off - off) return -EINVAL;
    return region_pin(file->region) ? 0 : EMMAP_E_CLOSED;
}

/* A private handle's memory needs no place on the disk. */
int file_allocate(struct emmap_file *file, uint64_t off, uint64_t len_bytes) {
    int rc = pin_range(file, off, len_bytes);
    if (rc) return rc;
    uint64_t size = 0;
    if (len_bytes == 0)
        rc = -EINVAL;
    else if (!(file->flags & EMMAP_WRITE))
        rc = -EACCES;
    else
        rc = file_ask_size(file, &size);
    if (rc == 0 && off + len_bytes > size)
        rc = resize_from(file, RESIZE_GROW_ONLY, off + len_bytes, off, NULL);
    if (rc == 0 && file->region->shared)
        rc = os_allocate(file->region->fd, file->off + off, len_bytes);
    region_unpin(file->region);
    return rc;
}

int file_advise(struct emmap_file *file, uint64_t off, uint64_t len_bytes, enum os_advice advice) {
    int rc = pin_range(file, off, len_bytes);
    if (rc) return rc;
    if (!(file->flags & EMMAP_ANON))
        rc = os_advise(file->region->fd, file->off + off, len_bytes, advice);
    region_unpin(file->region);
    return rc;
}

/* Of a private handle, the size is its own; of memory without a file, hardly more is known. */
enum { MODE_OF_MEMORY = 0100600 }; /* a regular file of its owner */
int file_details(struct emmap_file *file, struct os_details *out) {
    int rc = pin_range(file, 0, 0);
    if (rc) return rc;
    if (file->flags & EMMAP_ANON)
        *out = (struct os_details){.mode = MODE_OF_MEMORY};
    else
        rc = os_details(file->region->fd, out);
    if (rc == 0) {
        out->size_bytes = file_handle_bytes(
            file, file->region->shared ? out->size_bytes : atomic_load(file->region->size_bytes));
    }
    region_unpin(file->region);
    return rc;
}
