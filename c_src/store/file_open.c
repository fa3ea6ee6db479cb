/* file_open.c -- opening and closing a mapped file.
 *
 * The order of open: look, open, map, then change the file; what can fail comes before what
 * cannot be taken back, and each step that can be taken back has its label below. */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "core/pm.h"
#include "os/os.h"
#include "store/file.h"

static const uint64_t DEFAULT_MAX_INC_BYTES = 64ull << 20;
static const uint64_t STRETCH_LEAST_BYTES = 4ull << 30;
static const uint64_t STRETCH_MOST_BYTES = 64ull << 30;
enum { OPEN_TRIES = 16, DEFAULT_MODE = 0600 };

static bool has(const struct emmap_file_options *options, uint32_t flag) {
    return (options->flags & flag) != 0;
}

static const struct {
    uint32_t flag;
    unsigned map_flag;
} map_flags[] = {
    {EMMAP_AT, OS_MAP_AT},
    {EMMAP_SHARED_VALIDATE, OS_MAP_SHARED_VALIDATE},
    {EMMAP_SYNC, OS_MAP_SYNC},
    {EMMAP_NORESERVE, OS_MAP_NORESERVE},
    {EMMAP_NOCACHE, OS_MAP_NOCACHE},
    {EMMAP_UNINITIALIZED, OS_MAP_UNINITIALIZED},
    {EMMAP_HUGETLB, OS_MAP_HUGETLB},
    {EMMAP_HUGE_2MB, OS_MAP_HUGETLB | OS_MAP_HUGE_2MB},
    {EMMAP_HUGE_1GB, OS_MAP_HUGETLB | OS_MAP_HUGE_1GB},
};

static unsigned map_flags_of(const struct emmap_file_options *options) {
    unsigned flags = 0;
    for (size_t i = 0; i < sizeof map_flags / sizeof *map_flags; i++)
        if (has(options, map_flags[i].flag)) flags |= map_flags[i].map_flag;
    return flags;
}

static int check(const struct emmap_file_options *options) {
    if (has(options, EMMAP_TRUNCATE) && !has(options, EMMAP_WRITE)) return -EINVAL;
    if (has(options, EMMAP_SHARED_VALIDATE) && !has(options, EMMAP_SHARED)) return -EINVAL;
    if (has(options, EMMAP_SYNC) && !has(options, EMMAP_SHARED_VALIDATE)) return -EINVAL;
    const unsigned flags = map_flags_of(options);
    if (os_map_lacks(flags)) return EMMAP_E_NOTSUP;
    /* Files of huge pages are of a page size that faults are not replaced in. */
    if ((flags & OS_MAP_HUGETLB) && !has(options, EMMAP_ANON)) return EMMAP_E_NOTSUP;
    if ((flags & OS_MAP_SYNC) && has(options, EMMAP_ANON)) return -EOPNOTSUPP;
    if (options->off > INT64_MAX) return -EINVAL;
    if (options->len_bytes > INT64_MAX - options->off) return -EFBIG;
    return 0;
}

/* Not the name of a device or a FIFO: opening one can have effects of its own. */
static int check_type(const struct os_stat *st) {
    if (st->type == OS_DIRECTORY) return -EISDIR;
    return st->type == OS_REGULAR ? 0 : -ENODEV;
}

static int open_or_make(const char *path, const struct emmap_file_options *options, int *fd,
                        bool *made) {
    const bool nofollow = has(options, EMMAP_NOFOLLOW);
    const unsigned flags =
        (has(options, EMMAP_WRITE) ? OS_OPEN_WRITE : 0u) | (nofollow ? OS_OPEN_NOFOLLOW : 0u);
    const uint32_t mode = options->mode ? options->mode : DEFAULT_MODE;
    int rc = -ENOENT;
    /* Somebody else may make or delete the file between two steps. */
    for (int i = 0; i < OPEN_TRIES; i++) {
        struct os_stat st;
        rc = nofollow ? os_lstat(path, &st) : os_stat(path, &st);
        if (rc == 0) rc = check_type(&st);
        if (rc == 0) rc = os_open(path, flags, 0, fd);
        if (rc == 0) {
            *made = false;
            return 0;
        }
        if (rc != -ENOENT || !has(options, EMMAP_CREATE)) return rc;
        if (!has(options, EMMAP_WRITE)) return -EACCES;
        if (options->len_bytes == 0 && !has(options, EMMAP_EXTEND)) return EMMAP_E_SIZE_MISSING;
        rc = os_open(path, flags | OS_OPEN_MAKE, mode, fd);
        if (rc == 0) {
            *made = true;
            return 0;
        }
        if (rc != -EEXIST) return rc;
    }
    return rc;
}

/* The size that the file must get, from the one that it has: COMPAT's rules of open/2,4. */
static int size_wanted(const struct emmap_file_options *options, uint64_t file_bytes,
                       uint64_t *wanted) {
    const uint64_t off = options->off;
    const uint64_t end = off + options->len_bytes;
    const bool anew = file_bytes == 0 || has(options, EMMAP_TRUNCATE);
    if (options->len_bytes == 0) {
        if (has(options, EMMAP_TRUNCATE))
            *wanted = off;
        else if (off > file_bytes)
            return -EINVAL;
        else
            *wanted = file_bytes;
    } else if (anew || end == file_bytes) {
        *wanted = end;
    } else if (has(options, EMMAP_FIT)) {
        *wanted = end > file_bytes ? end : file_bytes;
    } else {
        return EMMAP_E_SIZE_MISMATCH;
    }
    return *wanted == file_bytes || has(options, EMMAP_WRITE) ? 0 : -EACCES;
}

static uint64_t stretch_bytes(const struct emmap_file_options *options, uint64_t size_bytes) {
    const bool grows = !has(options, EMMAP_FIXED_SIZE) &&
                       (has(options, EMMAP_SHARED) || has(options, EMMAP_WRITE));
    if (!grows || has(options, EMMAP_AT)) return size_bytes;
    if (map_flags_of(options) & OS_MAP_HUGETLB) return size_bytes;
    if (options->address_space_bytes > 0) return options->address_space_bytes;
    uint64_t stretch;
    if (__builtin_mul_overflow(size_bytes, 16u, &stretch)) stretch = UINT64_MAX;
    if (stretch < STRETCH_LEAST_BYTES) stretch = STRETCH_LEAST_BYTES;
    return stretch < STRETCH_MOST_BYTES ? stretch : STRETCH_MOST_BYTES;
}

/* A mapping of the whole file for zeroing it where the file system has no call for that. */
static int open_for_zeroing(struct inode *inode, int fd, uint64_t size_bytes,
                            struct emmap_region **out) {
    int copy;
    int rc = os_dup(fd, &copy);
    if (rc) return rc;
    struct inode *same;
    rc = inode_enter(inode->dev, inode->ino, size_bytes, &same);
    if (rc) goto close_copy;
    const struct region_options options = {.file_bytes = size_bytes,
                                           .size_bytes = size_bytes,
                                           .stretch_bytes = size_bytes,
                                           .shared = true,
                                           .write = true};
    rc = region_open(copy, same, &options, out);
    if (rc == 0) return 0;
    inode_leave(same);
    inode_unref(same);
close_copy:
    (void)os_close(copy);
    return rc;
}

static void close_region(struct emmap_region *region) {
    store_release(&region->closed, 1);
    region_unpin(region);
    region_unref(region);
}

/* Whose pages will all be touched for writing. */
static bool populates(const struct emmap_file_options *options) {
    return has(options, EMMAP_POPULATE) && !has(options, EMMAP_NONBLOCK) &&
           has(options, EMMAP_SHARED) && has(options, EMMAP_WRITE);
}

/* The place from which on the file gets its disk space before it is changed. */
static uint64_t space_from(const struct emmap_file_options *options) {
    if (!has(options, EMMAP_SPARSE)) return 0;
    const uint64_t page = os_page_bytes();
    return populates(options) ? options->off / page * page : INODE_SPARSE;
}

/* The holes that a range within the file may have. What there is for certain too little space for
 * is not begun: holes that were filled cannot be told from what was there before. */
static int fill_holes(int fd, uint64_t from_bytes, uint64_t to_bytes) {
    if (from_bytes >= to_bytes) return 0;
    struct os_stat st;
    struct os_fs fs;
    int rc = os_fstat(fd, &st);
    if (rc == 0) rc = os_fs(fd, &fs);
    if (rc) return rc;
    const uint64_t len = to_bytes - from_bytes;
    const uint64_t holes = len > st.allocated_bytes ? len - st.allocated_bytes : 0;
    /* Elsewhere (compressed) what is allocated says little. */
    if (fs.kind == OS_FS_LOCAL && holes > fs.free_bytes) return -ENOSPC;
    return inode_reserve(fd, from_bytes, to_bytes);
}

/* In the file system where it can, else through a mapping. */
static void zero(int fd, const struct emmap_region *zeroing, uint64_t from_bytes, uint64_t to_bytes,
                 bool keep) {
    if (from_bytes >= to_bytes) return;
    const uint64_t len = to_bytes - from_bytes;
    if (os_zero(fd, from_bytes, len, keep)) pm_zero(region_at(zeroing, from_bytes), len);
}

/* Empties the file and gives it its length. Reserving and growing can be taken back; shrinking is
 * the point of no return, and zeroing what is left cannot fail: its space is reserved. */
static int truncate_to(struct inode *inode, int fd, uint64_t file_bytes, uint64_t wanted,
                       uint64_t reserve_from) {
    const uint64_t kept = file_bytes < wanted ? file_bytes : wanted;
    struct emmap_region *zeroing = NULL;
    int rc = kept > 0 ? open_for_zeroing(inode, fd, kept, &zeroing) : 0;
    if (rc) return rc;
    rc = fill_holes(fd, reserve_from, kept);
    if (rc == 0 && wanted > file_bytes)
        rc = inode_grow(inode, fd, file_bytes, wanted, reserve_from);
    if (rc == 0 && wanted < file_bytes) rc = inode_shrink(inode, fd, wanted);
    if (rc == 0 && kept > 0) {
        const uint64_t holes = reserve_from < kept ? reserve_from : kept;
        zero(fd, zeroing, 0, holes, false);
        zero(fd, zeroing, holes, kept, true);
        if (region_fault_count(zeroing) > 0) rc = -EIO; /* the disk itself, or a truncation */
    }
    if (zeroing) close_region(zeroing);
    return rc;
}

/* Brings the file to its size, under the lock that excludes others who do the same. */
static int settle_size(struct inode *inode, int fd, const struct emmap_file_options *options,
                       uint64_t *size_bytes) {
    int rc = inode_lock(inode, fd);
    if (rc) return rc;
    uint64_t file_bytes, wanted;
    rc = inode_refresh(inode, fd, true, &file_bytes);
    if (rc == 0) rc = size_wanted(options, file_bytes, &wanted);
    const uint64_t reserve_from = space_from(options);
    if (rc == 0 && has(options, EMMAP_TRUNCATE))
        rc = truncate_to(inode, fd, file_bytes, wanted, reserve_from);
    else if (rc == 0 && wanted > file_bytes)
        rc = inode_grow(inode, fd, file_bytes, wanted, reserve_from);
    inode_unlock(inode, fd);
    if (rc == 0) *size_bytes = wanted;
    return rc;
}

/* Deletes the name only while it is still this file's. */
static void unlink_own(const char *path, uint64_t dev, uint64_t ino, bool only_empty) {
    struct os_stat st;
    if (os_stat(path, &st) || st.dev != dev || st.ino != ino) return;
    if (only_empty && st.size_bytes > 0) return;
    (void)os_unlink(path);
}

/* An open file on its way to becoming a handle. */
struct opening {
    const struct emmap_file_options *options;
    const char *full_path;
    int fd;
    bool made;
    struct os_stat st;
    struct os_fs fs;
};

/* A file that this open made and could not finish; one that somebody else has found and given a
 * size meanwhile is theirs. */
static void unmake(const struct opening *o) {
    struct os_stat st;
    if (o->made && os_fstat(o->fd, &st) == 0) unlink_own(o->full_path, st.dev, st.ino, true);
}

static int open_descriptor(struct opening *o) {
    int rc = open_or_make(o->full_path, o->options, &o->fd, &o->made);
    if (rc) return rc;
    rc = os_fstat(o->fd, &o->st);
    if (rc == 0) rc = check_type(&o->st);
    if (rc == 0) rc = os_fs(o->fd, &o->fs);
    if (rc == 0 && o->fs.kind == OS_FS_HUGE) rc = EMMAP_E_NOTSUP;
    if (rc == 0 && o->fs.kind == OS_FS_NETWORK && !has(o->options, EMMAP_FORCE))
        rc = EMMAP_E_NETWORK_FS;
    if (rc == 0) return 0;
    unmake(o);
    (void)os_close(o->fd);
    return rc;
}

/* What may not be locked in memory is refused before the file is changed. */
static int lock_ahead(const struct emmap_file_options *options, const struct emmap_region *region,
                      uint64_t size_bytes) {
    const uint64_t start = options->off / region->page_bytes * region->page_bytes;
    if (!has(options, EMMAP_LOCK_MEMORY) || size_bytes <= start) return 0;
    const int rc = os_lock_ahead(region_at(region, start), size_bytes - start);
    return rc == -EAGAIN ? -ENOMEM : rc;
}

/* The holes of pages that will be touched get their space before the file is changed, and while
 * nobody changes its size; what truncate keeps gets it there. */
static int space_ahead(struct inode *inode, const struct opening *o, uint64_t wanted) {
    const struct emmap_file_options *options = o->options;
    if (!populates(options) || has(options, EMMAP_TRUNCATE)) return 0;
    int rc = inode_lock(inode, o->fd);
    if (rc) return rc;
    uint64_t file_bytes;
    rc = inode_refresh(inode, o->fd, true, &file_bytes);
    const uint64_t page = os_page_bytes();
    if (rc == 0)
        rc = fill_holes(o->fd, options->off / page * page,
                        file_bytes < wanted ? file_bytes : wanted);
    inode_unlock(inode, o->fd);
    return rc;
}

/* Takes over the descriptor with success. The file is mapped before it is changed; a size that
 * others change meanwhile is looked at again under the lock. */
static int map_and_size(const struct opening *o, struct emmap_region **out, uint64_t *size_bytes) {
    const struct emmap_file_options *options = o->options;
    uint64_t wanted;
    int rc = size_wanted(options, o->st.size_bytes, &wanted);
    if (rc) return rc;
    struct inode *inode;
    rc = inode_enter(o->st.dev, o->st.ino, o->st.size_bytes, &inode);
    if (rc) return rc;
    const uint64_t handle_bytes = wanted > options->off ? wanted - options->off : 0;
    const struct region_options region_options = {
        .off = options->off,
        .file_bytes = wanted,
        .size_bytes = wanted,
        .stretch_bytes = stretch_bytes(options, handle_bytes),
        .shared = has(options, EMMAP_SHARED),
        .write = has(options, EMMAP_WRITE),
        .own = o->st.own,
        .size_waits = o->fs.kind != OS_FS_LOCAL,
        .map_flags = map_flags_of(options),
        .address = (void *)(uintptr_t)options->address,
    };
    struct emmap_region *region;
    rc = region_open(o->fd, inode, &region_options, &region);
    if (rc) {
        inode_leave(inode);
        inode_unref(inode);
        return rc;
    }
    *out = region;
    rc = lock_ahead(options, region, wanted);
    if (rc == 0) rc = space_ahead(inode, o, wanted);
    if (rc) return rc;
    if (has(options, EMMAP_TRUNCATE) || wanted != o->st.size_bytes)
        rc = settle_size(inode, o->fd, options, size_bytes);
    else
        rc = inode_refresh(inode, o->fd, true, size_bytes);
    if (rc == 0 && *size_bytes != wanted && !has(options, EMMAP_SHARED))
        rc = -EAGAIN; /* a private map is of one size, and somebody changes it right now */
    return rc;
}

/* Memory of the handle's own, with no file: a region without a descriptor. */
static int open_anonymous(const struct emmap_file_options *options, struct emmap_region **out) {
    if (options->off != 0) return -EINVAL;
    if (options->len_bytes == 0) return EMMAP_E_SIZE_MISSING;
    struct inode *inode;
    int rc = inode_enter_new(options->len_bytes, &inode);
    if (rc) return rc;
    const unsigned flags = map_flags_of(options) & ~(unsigned)OS_MAP_SHARED_VALIDATE;
    const struct region_options region_options = {
        .size_bytes = options->len_bytes,
        .stretch_bytes = stretch_bytes(options, options->len_bytes),
        .write = has(options, EMMAP_WRITE),
        .map_flags = flags,
        .address = (void *)(uintptr_t)options->address,
        .page_bytes = flags & OS_MAP_HUGETLB ? os_huge_page_bytes(flags) : 0,
    };
    rc = region_open(-1, inode, &region_options, out);
    if (rc == 0) return 0;
    inode_leave(inode);
    inode_unref(inode);
    return rc;
}

static int open_named(struct emmap_file *file, struct opening *o, uint64_t *size_bytes,
                      bool *existed) {
    int rc = open_descriptor(o);
    if (rc) return rc;
    rc = map_and_size(o, &file->region, size_bytes);
    if (rc) {
        unmake(o);
        if (file->region)
            close_region(file->region); /* and the descriptor, in the background */
        else
            (void)os_close(o->fd);
        return rc;
    }
    if (existed) *existed = !o->made;
    return 0;
}

/* What this open has made, or made longer, and nobody has changed since; what truncate has emptied
 * stays so, and what another handle may have written to by now. */
static void take_back(const struct opening *o, const struct emmap_file *file, uint64_t size_bytes) {
    struct inode *inode = file->region->inode;
    uint64_t now_bytes;
    if (has(o->options, EMMAP_ANON) || (has(o->options, EMMAP_TRUNCATE) && !o->made)) return;
    if (inode_is_shared(inode)) return;
    if (size_bytes > o->st.size_bytes && inode_lock(inode, o->fd) == 0) {
        const int rc = inode_refresh(inode, o->fd, true, &now_bytes);
        if (rc == 0 && now_bytes == size_bytes) (void)inode_shrink(inode, o->fd, o->st.size_bytes);
        inode_unlock(inode, o->fd);
    }
    unmake(o);
}

/* What is to be in memory, from the start or for good. */
static int make_resident(struct emmap_file *file) {
    const bool populate = (file->flags & EMMAP_POPULATE) && !(file->flags & EMMAP_NONBLOCK);
    int rc = populate ? file_populate(file) : 0;
    if (rc == 0 && (file->flags & EMMAP_LOCK_MEMORY))
        rc = file_lock_memory(file, file->off, atomic_load(file->region->size_bytes));
    return rc;
}

static int open_into(struct emmap_file *file, const struct emmap_file_options *options,
                     bool *existed) {
    struct opening o = {.options = options, .full_path = file->full_path};
    uint64_t size_bytes = options->len_bytes;
    int rc;
    file->region = NULL; /* of an earlier try */
    if (has(options, EMMAP_ANON)) {
        if (existed) *existed = false;
        rc = open_anonymous(options, &file->region);
    } else {
        rc = open_named(file, &o, &size_bytes, existed);
    }
    if (rc) return rc;
    file->off = options->off;
    file->flags = options->flags;
    file->max_inc_bytes = options->max_inc_bytes ? options->max_inc_bytes : DEFAULT_MAX_INC_BYTES;
    file->stripes = has(options, EMMAP_NOLOCK) ? NULL : file->region->inode->stripes;
    atomic_init(&file->told_bytes, size_bytes);
    rc = make_resident(file);
    if (rc == 0) return 0;
    take_back(&o, file, size_bytes);
    close_region(file->region);
    return rc;
}

static void enlist(struct runtime *rt, struct emmap_file *file) {
    pthread_mutex_lock(&rt->lock);
    file->next = rt->files;
    file->at = &rt->files;
    if (file->next) file->next->at = &file->next;
    rt->files = file;
    pthread_mutex_unlock(&rt->lock);
    atomic_fetch_add_explicit(&rt->handles, 1, memory_order_relaxed);
}

static void delist(struct runtime *rt, struct emmap_file *file) {
    pthread_mutex_lock(&rt->lock);
    *file->at = file->next;
    if (file->next) file->next->at = file->at;
    pthread_mutex_unlock(&rt->lock);
}

void file_each(void (*each)(void *ctx, struct emmap_file *file), void *ctx) {
    struct runtime *rt = runtime_get();
    pthread_mutex_lock(&rt->lock);
    for (struct emmap_file *file = rt->files; file; file = file->next)
        if (!atomic_load(&file->region->closed)) each(ctx, file);
    pthread_mutex_unlock(&rt->lock);
}

/* Tried again where somebody changed the size between the look and the lock; and once, where what was
 * closed a moment ago may still have its descriptor or its addresses. */
static int open_tried(struct emmap_file *file, const struct emmap_file_options *options,
                      bool *existed) {
    bool waited = false;
    for (int i = 0; i < OPEN_TRIES; i++) {
        const int rc = open_into(file, options, existed);
        if (rc == -EAGAIN) continue;
        const bool short_of = rc == -EMFILE || rc == -ENFILE || rc == -ENOMEM ||
                              (rc == -EEXIST && has(options, EMMAP_AT));
        if (!short_of || waited || !pool_wait()) return rc;
        waited = true;
    }
    return EMMAP_E_BUSY;
}

int emmap_file_open(struct emmap_file **out, const char *path,
                    const struct emmap_file_options *options, bool *existed) {
    int rc = check(options);
    if (rc) return rc;
    struct runtime *rt;
    rc = runtime_ready(&rt);
    if (rc) return rc;
    struct emmap_file *file = calloc(1, sizeof *file);
    if (!file) return -ENOMEM;
    pthread_mutex_init(&file->stream_lock, NULL); /* without attributes it cannot fail here */
    rc = name_of_file(has(options, EMMAP_ANON) ? "/" : path, options->flags, &file->full_path);
    if (rc) goto free_file;
    rc = open_tried(file, options, existed);
    if (rc) goto free_path;
    enlist(rt, file);
    *out = file;
    return 0;

free_path:
    free(file->full_path);
free_file:
    pthread_mutex_destroy(&file->stream_lock);
    free(file);
    return rc;
}

static void auto_unlink(struct emmap_file *file) {
    const struct inode *inode = file->region->inode;
    if (file->flags & EMMAP_AUTO_UNLINK) unlink_own(file->full_path, inode->dev, inode->ino, false);
}

/* true for the one call that closes. */
static bool mark_closed(struct emmap_file *file) {
    if (atomic_exchange(&file->region->closed, 1)) return false;
    atomic_fetch_sub_explicit(&runtime_get()->handles, 1, memory_order_relaxed);
    return true;
}

int emmap_file_close(struct emmap_file *file) {
    if (!mark_closed(file)) return 0;
    auto_unlink(file);
    region_unpin(file->region);
    return 0;
}

static void free_job(struct pool_job *job) {
    struct emmap_file *file =
        (struct emmap_file *)(void *)((char *)job - offsetof(struct emmap_file, job));
    delist(runtime_get(), file);
    if (file->pinned) {
        auto_unlink(file);
        region_unpin(file->region);
    }
    region_unref(file->region);
    pthread_mutex_destroy(&file->stream_lock);
    free(file->full_path);
    free(file);
}

void emmap_file_free(struct emmap_file *file) {
    if (!file) return;
    file->pinned = mark_closed(file);
    file->job.run = free_job;
    pool_run(&file->job);
}
