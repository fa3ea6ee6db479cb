/* queue_open.c -- a queue is made, opened, joined and left.
 *
 * Bytes of the file, far behind its end, are locked by who has it open (docs/format/queue.md):
 * the opening byte through open, the owner's byte for writing by the only OS process or for reading
 * by those that share it, and each participant's for as long as it lives. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/crc32c.h"
#include "os/os.h"
#include "store/birth.h"
#include "store/identity.h"
#include "store/queue.h"

enum { OPEN_TRIES = 16, JOIN_MS = 5000, OTHERS_MS = 60000, MODE = 0600, FIXED_SPARE = 2 };
static const uint64_t DEFAULT_SIZE = 1 << 20;
static const uint64_t ALL_ADDRESSES = 8ull << 40;
#ifdef EMMAP_THREAD_SANITIZER /* it has most of them for itself */
static const uint64_t MOST_ADDRESSES = 1ull << 36;
#else
static const uint64_t MOST_ADDRESSES = 1ull << 40;
#endif
static _Atomic uint32_t queues_open; /* private ones, too */

static bool has(const struct emmap_queue_options *options, uint32_t flag) {
    return (options->flags & flag) != 0;
}

/* ------------------------------------------------------------------------------------- making */

static uint64_t segment_bytes_for(uint64_t size) {
    uint64_t segment = QUEUE_LEAST_SEGMENT;
    while (segment < QUEUE_MOST_SEGMENT && segment * 8 <= size)
        segment *= 2;
    return segment;
}

static uint64_t cap_of(uint64_t segment_bytes) {
    return segment_bytes - QUEUE_SLOT_HEADER - QUEUE_SLOT_TRAILER;
}

struct making {
    const struct emmap_queue_options *options;
};

static void make_header(struct emmap_disk_queue *header, uint64_t segment_bytes, bool fixed) {
    *header = (struct emmap_disk_queue){
        .version = QUEUE_VERSION,
        .kind = QUEUE_KIND,
        .segment_bytes = segment_bytes,
        .data_off = QUEUE_DATA_OFF,
        .created_ms = os_wall_ms(),
        .flags = fixed ? QUEUE_FLAG_FIXED : 0,
    };
    memcpy(header->magic, EMMAP_DISK_QUEUE_MAGIC, sizeof header->magic);
}

void queue_attach(struct emmap_queue *q, const struct emmap_disk_queue *header) {
    q->salt = header->salt;
    q->segment_bytes = header->segment_bytes;
    q->cap_bytes = cap_of(header->segment_bytes);
    q->most_slots = (q->base_bytes - QUEUE_DATA_OFF) / q->segment_bytes;
    q->flags = header->flags;
}

/* An empty queue in the memory that q has; its size is whole slots. */
int queue_make(struct emmap_queue *q, const struct emmap_queue_options *options) {
    const bool fixed = has(options, EMMAP_QUEUE_FIXED_SIZE);
    const uint64_t size = options->size_bytes ? options->size_bytes : DEFAULT_SIZE;
    struct emmap_disk_queue header;
    make_header(&header, segment_bytes_for(size), fixed);
    int rc = os_random(&header.salt, sizeof header.salt);
    if (rc == 0) rc = os_random(header.uuid, sizeof header.uuid);
    if (rc) return rc;
    header.crc = crc32c(0, &header, offsetof(struct emmap_disk_queue, crc));
    pm_copy(q->base, &header, sizeof header);
    queue_attach(q, &header);
    const uint64_t most = fixed ? size : options->max_bytes ? options->max_bytes : UINT64_MAX;
    const uint64_t cap = q->cap_bytes;
    return queue_format(q, most, fixed ? (size + cap - 1) / cap + FIXED_SPARE : 1);
}

uint64_t queue_new_bytes(const struct emmap_queue_options *options) {
    const uint64_t size = options->size_bytes ? options->size_bytes : DEFAULT_SIZE;
    const uint64_t segment = segment_bytes_for(size);
    const uint64_t cap = cap_of(segment);
    const bool fixed = has(options, EMMAP_QUEUE_FIXED_SIZE);
    return QUEUE_DATA_OFF + segment * (fixed ? (size + cap - 1) / cap + FIXED_SPARE : 1);
}

/* ----------------------------------------------------------------------------------- checking */

/* 2.1.3's: four 32-bit big-endian integers, file size, head, tail, next tail. */
static bool is_old_format(const uint8_t *start, uint64_t file_bytes) {
    uint32_t n[4];
    for (int i = 0; i < 4; i++) {
        memcpy(&n[i], start + 4 * i, sizeof n[i]);
        n[i] = __builtin_bswap32(n[i]);
    }
    return 16 <= n[1] && n[1] <= n[2] && n[2] <= n[3] && n[3] <= n[0] && n[0] <= file_bytes;
}

int queue_check_header(struct emmap_file *file, struct emmap_disk_queue *header) {
    uint64_t got = 0;
    *header = (struct emmap_disk_queue){.version = 0};
    int rc = emmap_file_read(file, 0, header, sizeof *header, &got);
    if (rc == EMMAP_E_PAST_END) return EMMAP_E_FOREIGN;
    if (rc) return rc;
    if (got < 16) return EMMAP_E_FOREIGN;
    if (memcmp(header->magic, EMMAP_DISK_QUEUE_MAGIC, sizeof header->magic) != 0)
        return is_old_format((const uint8_t *)header, emmap_file_size(file)) ? EMMAP_E_OLD_FORMAT
                                                                             : EMMAP_E_FOREIGN;
    if (got < sizeof *header) return EMMAP_E_TRUNCATED;
    if (!PM_MUST(header->crc == crc32c(0, header, offsetof(struct emmap_disk_queue, crc))))
        return EMMAP_E_CORRUPT;
    if (header->version != QUEUE_VERSION || header->kind != QUEUE_KIND || header->incompat ||
        header->ro_compat)
        return EMMAP_E_NOTSUP;
    const uint64_t segment = header->segment_bytes;
    if (segment < QUEUE_LEAST_SEGMENT || segment > QUEUE_MOST_SEGMENT ||
        (segment & (segment - 1)) != 0 || header->data_off != QUEUE_DATA_OFF)
        return EMMAP_E_CORRUPT;
    return emmap_file_size(file) < QUEUE_DATA_OFF ? EMMAP_E_TRUNCATED : 0;
}

/* --------------------------------------------------------------------------------- joining */

/* Who finds the page to make no sense clears the first word. */
static enum queue_past past_by(const struct emmap_queue *q, const uint64_t now[6]) {
    for (int i = 1; i < 6; i++)
        if (queue_get(&queue_live(q)->identity[i]) != now[i]) return QUEUE_REBOOTED;
    return queue_get(&queue_live(q)->identity[0]) == now[0] ? QUEUE_KILLED : QUEUE_BROKEN;
}

/* A failure is none of these: a recovery that need not be gives out again what was taken. */
int queue_past_of(const struct emmap_queue *q, enum queue_past *past) {
    uint64_t now[IDENTITY_WORDS];
    const int rc = identity_now(q->file->region->fd, now);
    if (rc && rc != -EOPNOTSUPP) return rc;
    *past = rc ? QUEUE_REBOOTED : past_by(q, now);
    return 0;
}

static int write_identity(struct emmap_queue *q) {
    uint64_t now[IDENTITY_WORDS];
    const int rc = identity_now(q->file->region->fd, now);
    if (rc) return rc == -EOPNOTSUPP ? 0 : rc; /* each opener recovers */
    for (int i = 5; i >= 0; i--)
        pm_set64(&queue_live(q)->identity[i], now[i]);
    return 0;
}

/* Its words are this OS process's, whoever has had them before. */
static void be_participant(struct emmap_queue *q, unsigned i) {
    struct emmap_disk_participant *self = queue_participant(q, i);
    uint64_t incarnation = (queue_get(&self->incarnation) + 1) & 0xFFFFFFFFu;
    if (incarnation == 0) incarnation = 1;
    pm_set64(&self->incarnation, incarnation);
    pm_put64(&self->pid, os_pid());
    q->participant = i;
    q->me = (uint64_t)(i + 1) << 48 | incarnation;
    q->owner = (uint64_t)i | incarnation << 16;
}

/* A number for this OS process, and its byte. */
static int take_participant(struct emmap_queue *q) {
    const int fd = q->file->region->fd;
    int rc = EMMAP_E_FULL;
    unsigned i = 0;
    for (; i < QUEUE_PARTICIPANTS; i++) {
        rc = os_lock_byte(fd, QUEUE_OWNER_BYTE + 1 + i, OS_LOCK_WRITE);
        if (rc != -EAGAIN) break;
    }
    if (i == QUEUE_PARTICIPANTS) return EMMAP_E_FULL;
    if (rc) return rc;
    be_participant(q, i);
    return 0;
}

/* A failed sync has dropped what was there from what the kernel writes: all is made dirty again, but
 * for the blocks of free slots, which may have been given back: of those the two headers, which say so. */
static int sync_all(struct emmap_queue *q) {
    queue_touch(q, 0, QUEUE_DATA_OFF);
    const uint64_t slots = (emmap_file_size(q->file) - QUEUE_DATA_OFF) / q->segment_bytes;
    for (uint64_t slot = 1; slot <= slots; slot++) {
        struct emmap_disk_segment segment;
        const bool is_used = !queue_has_slot(q, slot) || queue_segment_in(q, slot, &segment);
        queue_touch(q, queue_slot_off(q, slot), is_used ? q->segment_bytes : 1);
        queue_touch(q, queue_slot_off(q, slot) + q->segment_bytes - QUEUE_SLOT_TRAILER, 1);
    }
    file_forget_sync_error(q->file);
    const int rc = PM_SYNC(emmap_file_sync(q->file));
    if (rc == 0) pm_set64(&queue_live(q)->sync_error, 0);
    return rc == EMMAP_E_SYNC_FAILED ? 0 : rc; /* it stays */
}

/* Looked at before a word is written. EMMAP_E_TRUNCATED */
static int look_at_past(const struct emmap_queue *q, enum queue_past *past) {
    struct os_stat st; /* a private copy's size is not the file's any more, if that has grown */
    int rc = queue_past_of(q, past);
    if (rc || *past == QUEUE_REBOOTED) return rc;
    rc = os_fstat(q->file->region->fd, &st);
    if (rc) return rc;
    return queue_is_truncated(q, st.size_bytes) ? EMMAP_E_TRUNCATED : 0;
}

/* Nobody else has the file open. */
static int open_alone(struct emmap_queue *q, enum queue_past past) {
    struct emmap_disk_live *live = queue_live(q);
    pm_set64(&live->lock, q->me);
    int rc = queue_get(&live->sync_error) ? sync_all(q) : 0;
    if (rc == 0) rc = queue_settle(q, past);
    /* The kernel has forgotten what a recovery could not write: the next one must write it again. */
    if (rc == EMMAP_E_SYNC_FAILED)
        pm_set64(&live->sync_error, (uint64_t)-emmap_file_sync_error(q->file));
    if (rc == 0 && atomic_load(&q->was_recovered)) rc = write_identity(q);
    if (rc == 0 && region_fault_count(q->file->region) > 0) rc = -EIO;
    pm_set64(&live->lock, 0);
    return rc;
}

static int open_beside_others(struct emmap_queue *q) {
    const int rc = queue_lock_surely(q);
    if (rc) return rc;
    queue_reap(q, q->participant); /* what a dead one of this number has left */
    return queue_unlock(q, 0);
}

/* For as long as another OS process opens it: a recovery reads all that is in it. */
static int lock_opening(struct emmap_queue *q) {
    const uint64_t until = os_now_ms() + JOIN_MS;
    for (;;) {
        const int rc = os_lock_byte(q->file->region->fd, QUEUE_OPENING_BYTE, OS_LOCK_WRITE);
        if (rc != -EAGAIN) return rc;
        if (os_now_ms() > until) return EMMAP_E_BUSY;
        os_sleep_ms(1);
    }
}

static int join_locked(struct emmap_queue *q) {
    const int fd = q->file->region->fd;
    int rc = os_lock_byte(fd, QUEUE_OWNER_BYTE, OS_LOCK_WRITE);
    const bool alone = rc == 0;
    if (rc == -EAGAIN && q->multi_os) rc = os_lock_byte(fd, QUEUE_OWNER_BYTE, OS_LOCK_READ);
    if (rc) return rc == -EAGAIN ? EMMAP_E_LOCKED : rc;
    enum queue_past past = QUEUE_KILLED;
    if (alone) rc = look_at_past(q, &past);
    if (rc == 0) rc = take_participant(q);
    if (rc == 0) rc = alone ? open_alone(q, past) : open_beside_others(q);
    if (rc == 0 && alone && q->multi_os) rc = os_lock_byte(fd, QUEUE_OWNER_BYTE, OS_LOCK_READ);
    return rc;
}

static void unlock_bytes(struct emmap_queue *q) {
    const int fd = q->file->region->fd;
    if (q->me) (void)os_lock_byte(fd, QUEUE_OWNER_BYTE + 1 + q->participant, OS_LOCK_NONE);
    (void)os_lock_byte(fd, QUEUE_OWNER_BYTE, OS_LOCK_NONE);
}

/* Where the system has no such locks: one OS process, on its user's word. */
static int join(struct emmap_queue *q) {
    int rc = lock_opening(q);
    if (rc == -EOPNOTSUPP && !q->multi_os) {
        enum queue_past past;
        rc = look_at_past(q, &past);
        if (rc) return rc;
        be_participant(q, 0);
        return open_alone(q, past);
    }
    if (rc) return rc == -EOPNOTSUPP ? EMMAP_E_NOTSUP : rc;
    rc = join_locked(q);
    if (rc) unlock_bytes(q);
    (void)os_lock_byte(q->file->region->fd, QUEUE_OPENING_BYTE, OS_LOCK_NONE);
    return rc;
}

/* A private copy is nobody else's; of a file that is in use it is as a copy made by cp. */
static int open_private(struct emmap_queue *q) {
    struct emmap_disk_live *live = queue_live(q);
    enum queue_past past;
    int rc = look_at_past(q, &past);
    if (rc) return rc;
    be_participant(q, 0);
    rc = queue_settle(q, past);
    pm_set64(&live->lock, 0); /* whoever had it when the copy was made */
    return rc;
}

static int fill(const char *path, void *ctx) {
    const struct making *making = ctx;
    const struct emmap_file_options options = {
        .flags = EMMAP_SHARED | EMMAP_WRITE | EMMAP_NOLOCK | EMMAP_FIXED_SIZE |
                 (has(making->options, EMMAP_QUEUE_FORCE) ? EMMAP_FORCE : 0u),
        .len_bytes = queue_new_bytes(making->options),
    };
    struct emmap_file *file;
    int rc = emmap_file_open(&file, path, &options, NULL);
    if (rc) return rc;
    struct emmap_queue q = {.base = region_at(file->region, 0),
                            .base_bytes = region_limit(file->region)};
    rc = queue_make(&q, making->options);
    q.file = file;
    if (rc == 0) rc = write_identity(&q);
    if (rc == 0 && region_fault_count(file->region) > 0) rc = -EIO;
    if (rc == 0) rc = PM_SYNC(emmap_file_sync(file));
    if (rc == EMMAP_E_SYNC_FAILED) rc = emmap_file_sync_error(file);
    emmap_file_free(file);
    return rc;
}

/* --------------------------------------------------------------------------- open and close */

void queue_ref(struct emmap_queue *q) {
    atomic_fetch_add(&q->refs, 1);
}

void queue_unref(struct emmap_queue *q) {
    if (atomic_fetch_sub(&q->refs, 1) > 1) return;
    while (q->owed) {
        struct queue_owed *owed = q->owed;
        q->owed = owed->next;
        free(owed);
    }
    atomic_fetch_sub(&queues_open, 1);
    pthread_mutex_destroy(&q->space_lock);
    pthread_mutex_destroy(&q->sync_lock);
    pthread_mutex_destroy(&q->group.lock);
    emmap_file_free(q->file);
    free(q);
}

bool queue_enter(struct emmap_queue *q) {
    uint32_t users = atomic_load(&q->users);
    do {
        if (users == 0 || atomic_load(&q->closed)) return false;
    } while (!atomic_compare_exchange_weak(&q->users, &users, users + 1));
    return true;
}

/* The last one to leave lets go of the bytes: what was claimed is finished by then. */
void queue_leave(struct emmap_queue *q) {
    if (atomic_fetch_sub(&q->users, 1) > 1) return;
    if (q->file->region->shared) unlock_bytes(q);
    (void)emmap_file_close(q->file);
    atomic_store(&q->gone, true);
}

/* What a queue can grow to before it must be opened again: of the addresses that all share, less
 * for each that is opened, so that thousands leave the OS process enough of its 128 TiB. */
static uint64_t addresses_for_one(void) {
    const uint64_t share = ALL_ADDRESSES / (atomic_load(&queues_open) + 1);
    return share < MOST_ADDRESSES ? share : MOST_ADDRESSES;
}

static int open_file(const char *path, const struct emmap_queue_options *options,
                     struct emmap_file **out) {
    const bool shared = !has(options, EMMAP_QUEUE_PRIVATE);
    const struct emmap_file_options file_options = {
        .flags = EMMAP_WRITE | EMMAP_NOLOCK | (shared ? EMMAP_SHARED : 0u) |
                 (has(options, EMMAP_QUEUE_FORCE) ? EMMAP_FORCE : 0u) |
                 (has(options, EMMAP_QUEUE_AUTO_UNLINK) ? EMMAP_AUTO_UNLINK : 0u),
        .address_space_bytes = addresses_for_one(),
    };
    return emmap_file_open(out, path, &file_options, NULL);
}

int queue_set_max(struct emmap_queue *q, uint64_t max_bytes) {
    if (q->flags & QUEUE_FLAG_FIXED) return EMMAP_E_FIXED_SIZE;
    if (!queue_enter(q)) return EMMAP_E_CLOSED;
    int rc = queue_lock_surely(q);
    if (rc == 0) {
        pm_set64(&queue_live(q)->max_bytes, max_bytes);
        rc = queue_unlock(q, 0);
    }
    queue_leave(q);
    return rc;
}

/* Takes over the file with success. Nobody has joined yet: no handles. */
static int new_queue(struct emmap_file *file, const struct emmap_queue_options *options,
                     struct emmap_queue **out) {
    struct emmap_disk_queue header;
    const int rc = queue_check_header(file, &header);
    if (rc) return rc;
    struct emmap_queue *q = calloc(1, sizeof *q);
    if (!q) return -ENOMEM;
    q->base = region_at(file->region, 0);
    q->base_bytes = region_limit(file->region);
    q->file = file;
    q->multi_os = has(options, EMMAP_QUEUE_MULTI_OS);
    q->asked_bytes = options->max_message_bytes;
    queue_attach(q, &header);
    pthread_mutex_init(&q->space_lock, NULL);
    pthread_mutex_init(&q->sync_lock, NULL);
    pthread_mutex_init(&q->group.lock, NULL);
    atomic_store(&q->refs, 1);
    atomic_store(&q->users, 1);
    atomic_fetch_add(&queues_open, 1);
    *out = q;
    return 0;
}

static void forget(struct runtime *rt, const struct emmap_queue *q) {
    pthread_mutex_lock(&rt->lock);
    struct emmap_queue **at = &rt->queues;
    while (*at && *at != q)
        at = &(*at)->next;
    if (*at) *at = q->next;
    pthread_mutex_unlock(&rt->lock);
}

/* The queue that this OS process has open already, or is about to join or to let go of. */
static struct emmap_queue *find(struct runtime *rt, const struct emmap_file *file) {
    struct emmap_queue *q = rt->queues;
    while (q && q->file->region->inode != file->region->inode)
        q = q->next;
    return q;
}

/* One more handle of a queue that is open, or this one, which is to be joined, in its place. */
static int enter_table(struct runtime *rt, struct emmap_queue *q, struct emmap_queue **other) {
    int rc = 0;
    pthread_mutex_lock(&rt->lock);
    struct emmap_queue *found = find(rt, q->file);
    if (!found) {
        q->next = rt->queues;
        rt->queues = q;
    } else if (found->handles == 0) {
        rc = QUEUE_SPUN;
    } else if (q->multi_os && !found->multi_os) {
        rc = EMMAP_E_LOCKED; /* it was opened so that no other OS process can come in */
    } else {
        found->handles++;
        queue_ref(found);
        *other = found;
    }
    pthread_mutex_unlock(&rt->lock);
    return rc;
}

/* Its name stays; a job in the background may still be at it. */
static void give_up(struct emmap_queue *q) {
    queue_break(q, EMMAP_E_CLOSED);
    atomic_store(&q->closed, true);
    q->file->flags &= ~(uint32_t)EMMAP_AUTO_UNLINK;
    queue_unref(q);
}

static int join_shared(struct runtime *rt, struct emmap_queue *q) {
    const int rc = join(q);
    if (rc) {
        forget(rt, q);
        return rc;
    }
    pthread_mutex_lock(&rt->lock);
    q->handles = 1;
    pthread_mutex_unlock(&rt->lock);
    return 0;
}

static int open_existing(struct runtime *rt, const char *path,
                         const struct emmap_queue_options *options, struct emmap_queue **out) {
    struct emmap_file *file;
    struct emmap_queue *q, *other = NULL;
    int rc = open_file(path, options, &file);
    if (rc) return rc;
    rc = new_queue(file, options, &q);
    if (rc) {
        file->flags &= ~(uint32_t)EMMAP_AUTO_UNLINK;
        emmap_file_free(file);
        return rc;
    }
    const bool shared = file->region->shared;
    if (shared) rc = enter_table(rt, q, &other);
    if (rc == 0 && !other) rc = shared ? join_shared(rt, q) : open_private(q);
    if (rc || other) give_up(q);
    if (rc) return rc;
    if (other) q = other;
    if (!shared) q->handles = 1;
    if (options->max_bytes) (void)queue_set_max(q, options->max_bytes);
    *out = q;
    return 0;
}

static int check(const struct emmap_queue_options *options) {
    const uint64_t most = INT64_MAX / 4;
    if (options->size_bytes > most ||
        (options->max_bytes > most && options->max_bytes != UINT64_MAX))
        return -EFBIG;
    if (has(options, EMMAP_QUEUE_PRIVATE) && has(options, EMMAP_QUEUE_MULTI_OS)) return -EINVAL;
    return 0;
}

static int open_or_make(struct runtime *rt, const char *path,
                        const struct emmap_queue_options *options, struct emmap_queue **out,
                        bool *made) {
    struct making making = {.options = options};
    int rc = -ENOENT;
    *made = false;
    for (int i = 0; i < OPEN_TRIES; i++) {
        rc = open_existing(rt, path, options, out);
        if (rc != -ENOENT || !has(options, EMMAP_QUEUE_CREATE)) break;
        rc = birth(path, options->mode ? options->mode : MODE, fill, &making);
        if (rc == 0) *made = true;
        if (rc && rc != -EEXIST) break;
    }
    return rc;
}

/* A forked child has the descriptors and mappings of its parent, whose locks would outlive it there: it
 * lets go of both, and its handles are closed. What its parent's threads held, nobody holds there. */
static void before_fork(void) {
    pthread_mutex_lock(&runtime_get()->lock);
}

static void behind_fork(void) {
    pthread_mutex_unlock(&runtime_get()->lock);
}

static void leave_in_child(struct emmap_queue *q) {
    struct emmap_region *region = q->file->region;
    const int fd = atomic_exchange(&region->fd, -1);
    void *at;
    atomic_store(&q->broken, EMMAP_E_CLOSED);
    atomic_store(&q->closed, true);
    atomic_store(&q->users, 1);
    pthread_mutex_init(&q->space_lock, NULL);
    pthread_mutex_init(&q->sync_lock, NULL);
    pthread_mutex_init(&q->group.lock, NULL);
    (void)os_map(region->map, region->map_bytes, region->prot, OS_MAP_ANON | OS_MAP_FIXED, -1, 0,
                 &at);
    if (fd >= 0) (void)os_close(fd);
}

static void in_child(void) {
    for (struct emmap_queue *q = runtime_get()->queues; q; q = q->next)
        leave_in_child(q);
    behind_fork();
}

static void watch_forks(void) {
    (void)pthread_atfork(before_fork, behind_fork, in_child);
}

/* Another thread's open or close of the same queue is waited for. */
int emmap_queue_open(struct emmap_queue **out, const char *path,
                     const struct emmap_queue_options *options, bool *existed) {
    struct runtime *rt;
    int rc = check(options);
    if (rc == 0) rc = runtime_ready(&rt);
    if (rc) return rc;
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, watch_forks);
    const uint64_t until = os_now_ms() + OTHERS_MS;
    for (bool ever_made = false;;) {
        bool made;
        rc = open_or_make(rt, path, options, out, &made);
        ever_made = ever_made || made;
        if (rc == 0 && existed) *existed = !ever_made;
        if (rc != QUEUE_SPUN) return rc;
        if (os_now_ms() > until) return EMMAP_E_BUSY;
        os_sleep_ms(1);
    }
}

/* The last handle of this OS process. */
static void shut(struct emmap_queue *q) {
    if (queue_lock_surely(q) == 0) {
        if (q->file->region->shared) queue_checkpoint_now(q);
        atomic_store(&q->closed, true);
        (void)queue_unlock(q, 0);
    }
    atomic_store(&q->closed, true);
    /* Who gives blocks back has a slot in hand that is the next opener's: it ends first. */
    pthread_mutex_lock(&q->space_lock);
    pthread_mutex_unlock(&q->space_lock);
    queue_leave(q);
    while (!atomic_load(&q->gone)) /* a sync in the background, a large message of another thread */
        os_sleep_ms(1);
}

void emmap_queue_close(struct emmap_queue *q) {
    if (!q) return;
    struct runtime *rt = runtime_get();
    pthread_mutex_lock(&rt->lock);
    const bool last = --q->handles == 0;
    pthread_mutex_unlock(&rt->lock);
    if (last) {
        shut(q);
        forget(rt, q);
    }
    queue_unref(q);
}
