/* queue_view.c -- a queue's file is opened to be looked at; what is written down in it.
 *
 * The words of the live page change together, in steps, under a lock that is not ours to take. Two
 * readings that agree are what was there at a moment between them, since positions only rise; and
 * what is pending in the redo record will be done, by its writer or by who comes after it. */
#include "store/queue_view.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/inode.h"
#include "os/os.h"

enum { LOOK_TRIES = 1 << 14, LOOK_MS = 1000, COPY_TRIES = 3 };

#define WORD_OF(field) (offsetof(struct emmap_disk_live, field) / 8)

/* ------------------------------------------------------------------------------ what is read */

int view_answer(struct emmap_queue_view *v, int rc) {
    const int failed = v->failed;
    v->failed = 0;
    return failed ? failed : rc;
}

static bool reaches(struct emmap_queue_view *v, uint64_t end) {
    if (end <= v->from.bytes) return true;
    if (v->has_copy) return false;
    const int rc = file_ask_size(v->file, &v->from.bytes);
    if (rc) v->failed = rc;
    if (rc) return false;
    const uint64_t limit = region_limit(v->from.region);
    if (v->from.bytes > limit) v->from.bytes = limit;
    return end <= v->from.bytes;
}

/* No fault has replaced these bytes when they were touched. */
static int is_whole(const struct emmap_queue_view *v, uint64_t off, uint64_t len_bytes) {
    uint64_t seen;
    fence(memory_order_acquire);
    if (region_is_whole(v->from.region, &seen)) return 0;
    return region_enter(v->from.region, off, len_bytes, &seen) == 0 ? 0 : -EIO;
}

static int why(struct emmap_queue_view *v, uint64_t end, int rc) {
    struct os_stat st;
    if (rc && os_fstat(v->file->region->fd, &st) == 0 && st.size_bytes < end)
        return EMMAP_E_TRUNCATED;
    return rc;
}

int view_read(struct emmap_queue_view *v, uint64_t off, void *buf, uint64_t len_bytes) {
    if (!reaches(v, off + len_bytes)) return EMMAP_E_TRUNCATED;
    pm_read(buf, v->from.base + off, len_bytes);
    return why(v, off + len_bytes, is_whole(v, off, len_bytes));
}

static uint64_t load(const uint8_t *base, uint64_t off) {
    /* pairs with the steps of queue_lock.c: release */
    return atomic_load_explicit((const emmap_disk_word *)(const void *)(base + off),
                                memory_order_acquire);
}

/* A pair that is still to be done: it was when the page was read, and is now. */
static bool is_pending(const struct emmap_queue_view *v, uint64_t off, uint64_t *value) {
    const uint64_t redo = QUEUE_LIVE_OFF + offsetof(struct emmap_disk_live, redo);
    const uint64_t redo_n = QUEUE_LIVE_OFF + offsetof(struct emmap_disk_live, redo_n);
    for (unsigned i = 0; i < v->redo_n; i++) {
        if (v->redo[i].off != off) continue;
        const uint64_t at = redo + i * sizeof(struct emmap_disk_redo);
        if (load(v->from.base, redo_n) <= i || load(v->from.base, at) != off) continue;
        *value = v->redo[i].value;
        return load(v->from.base, at + 8) == *value;
    }
    return false;
}

int view_load(struct emmap_queue_view *v, uint64_t off, uint64_t *value) {
    if (!reaches(v, off + 8)) return EMMAP_E_TRUNCATED;
    *value = load(v->from.base, off);
    if (v->redo_n > 0) (void)is_pending(v, off, value);
    return why(v, off + 8, is_whole(v, off, 8));
}

/* ------------------------------------------------------------------------------ the live page */

static void collect(const uint8_t *base, uint64_t word[VIEW_WORDS]) {
    for (unsigned i = 0; i < VIEW_WORDS; i++)
        word[i] = load(base, QUEUE_LIVE_OFF + i * 8);
}

/* Whoever has the lock says nothing about what it guards. */
static bool agree(const uint64_t a[VIEW_WORDS], const uint64_t b[VIEW_WORDS]) {
    const unsigned n = a[WORD_OF(redo_n)] > QUEUE_REDO_PAIRS ? 0 : (unsigned)a[WORD_OF(redo_n)];
    const unsigned end = WORD_OF(redo) + 2 * n;
    return memcmp(a + WORD_OF(tail), b + WORD_OF(tail), (end - WORD_OF(tail)) * 8) == 0;
}

/* What makes no sense is none of it: that is for the check of the positions to find. */
static void lay_redo_over(struct emmap_queue_view *v) {
    uint64_t *word = v->page.word;
    const uint64_t n = word[WORD_OF(redo_n)];
    v->redo_n = 0;
    for (unsigned i = 0; n <= QUEUE_REDO_PAIRS && i < n; i++) {
        const uint64_t off = word[WORD_OF(redo) + 2 * i];
        const uint64_t value = word[WORD_OF(redo) + 2 * i + 1];
        v->redo[v->redo_n].off = off;
        v->redo[v->redo_n++].value = value;
        const uint64_t first = QUEUE_LIVE_OFF + offsetof(struct emmap_disk_live, tail);
        const uint64_t last = QUEUE_LIVE_OFF + offsetof(struct emmap_disk_live, identity);
        if (off % 8 == 0 && off >= first && off < last) word[(off - QUEUE_LIVE_OFF) / 8] = value;
    }
}

/* What faults have replaced, where it can be had by now. */
static void heal(struct emmap_queue_view *v) {
    struct emmap_region *region = v->from.region;
    uint64_t seen;
    if (v->has_copy || region_is_whole(region, &seen)) return;
    const uint64_t size = atomic_load(region->size_bytes);
    (void)region_settle(region, 0, size, size, false);
}

int view_look(struct emmap_queue_view *v) {
    uint64_t other[VIEW_WORDS];
    uint64_t since = 0;
    heal(v);
    if (!reaches(v, QUEUE_DATA_OFF)) return EMMAP_E_TRUNCATED;
    collect(v->from.base, v->page.word);
    v->steady = false;
    for (unsigned i = 0; !v->steady; i++) {
        collect(v->from.base, i % 2 ? v->page.word : other);
        v->steady = agree(v->page.word, other);
        if (v->steady || i % LOOK_TRIES < LOOK_TRIES - 1) continue;
        const uint64_t now = os_now_ms();
        if (since == 0) since = now;
        if (now - since > LOOK_MS) break;
    }
    lay_redo_over(v);
    return why(v, QUEUE_DATA_OFF, is_whole(v, QUEUE_LIVE_OFF, QUEUE_PAGE));
}

/* ----------------------------------------------------------------------------- who is there */

bool view_is_locked(struct emmap_queue_view *v, uint64_t byte) {
    bool locked = false;
    const int rc = os_byte_locked(v->file->region->fd, byte, &locked);
    if (rc && rc != -EOPNOTSUPP) v->failed = rc;
    return rc == 0 && locked;
}

bool view_is_alive(struct emmap_queue_view *v, unsigned participant, uint64_t incarnation) {
    if (participant >= QUEUE_PARTICIPANTS || v->has_copy) return false;
    const uint64_t now = queue_get(&queue_participant(&v->q, participant)->incarnation);
    return ((now ^ incarnation) & 0xFFFFFFFFu) == 0 &&
           view_is_locked(v, QUEUE_OWNER_BYTE + 1 + participant);
}

static bool is_in_use(struct emmap_queue_view *v) {
    return view_is_locked(v, QUEUE_OWNER_BYTE) || view_is_locked(v, QUEUE_OPENING_BYTE);
}

bool view_is_current(struct emmap_queue_view *v) {
    uint64_t now[VIEW_WORDS];
    collect(v->q.base, now);
    return !is_in_use(v) && memcmp(now, v->as_found.word, sizeof now) == 0;
}

/* --------------------------------------------------------------------------- in its own memory */

static void drop_copy(struct emmap_queue_view *v) {
    if (!v->copy.region) return;
    struct emmap_region *region = v->copy.region;
    v->copy.region = NULL;
    region_unpin(region);
    region_unref(region);
}

/* The file's pages, that become the view's own where they are written. */
static int make_copy(struct emmap_queue_view *v) {
    int fd;
    uint64_t bytes;
    int rc = file_ask_size(v->file, &bytes);
    if (rc == 0 && bytes < QUEUE_DATA_OFF) rc = EMMAP_E_TRUNCATED;
    if (rc == 0) rc = os_dup(v->file->region->fd, &fd);
    if (rc) return rc;
    struct inode *inode;
    rc = inode_enter_new(bytes, &inode);
    if (rc) goto close_fd;
    const struct region_options options = {
        .file_bytes = bytes,
        .size_bytes = bytes,
        .stretch_bytes = bytes,
        .write = true,
        .map_flags = os_map_lacks(OS_MAP_NORESERVE) ? 0 : OS_MAP_NORESERVE,
    };
    rc = region_open(fd, inode, &options, &v->copy.region);
    if (rc) goto leave_inode;
    v->copy.base = region_at(v->copy.region, 0);
    v->copy.bytes = bytes;
    return 0;

leave_inode:
    inode_leave(inode);
    inode_unref(inode);
close_fd:
    (void)os_close(fd);
    return rc;
}

/* What the next opener would do, in memory. */
static int settle_copy(struct emmap_queue_view *v, enum queue_past past, bool *recovered) {
    struct emmap_queue q = {.base = v->copy.base,
                            .base_bytes = v->copy.bytes,
                            .me = UINT64_C(1) << 48 | 1,
                            .owner = 1 << 16};
    queue_attach(&q, &v->header);
    const int rc = queue_settle(&q, past);
    *recovered = atomic_load(&q.was_recovered);
    v->kept = atomic_load(&q.recovered);
    v->lost = atomic_load(&q.lost);
    return rc ? rc : region_has_faults(v->copy.region) ? -EIO : 0;
}

int view_recover(struct emmap_queue_view *v) {
    bool recovered;
    if (v->has_copy) return 0;
    enum queue_past past;
    int rc = queue_past_of(&v->q, &past);
    if (rc) return rc;
    rc = make_copy(v);
    if (rc == 0) rc = settle_copy(v, past, &recovered);
    if (rc) {
        drop_copy(v);
        return rc;
    }
    v->from = v->copy;
    v->has_copy = true;
    return 0;
}

/* Would the next opener believe the page? What it refuses is for the checks to tell. */
static int is_believable(struct emmap_queue_view *v, bool *believable) {
    bool recovered = false;
    int rc = make_copy(v);
    if (rc) return rc;
    *believable = queue_is_truncated(&v->q, v->copy.bytes);
    if (!*believable) rc = settle_copy(v, QUEUE_KILLED, &recovered);
    drop_copy(v);
    *believable = *believable || !recovered;
    return rc == -ENOMEM ? rc : 0;
}

static int find_standing(struct emmap_queue_view *v) {
    for (int i = 0;; i++) {
        bool believable = true;
        enum queue_past past;
        int rc = queue_past_of(&v->q, &past);
        if (rc) return rc;
        v->same_boot = past == QUEUE_KILLED;
        v->standing = EMMAP_QUEUE_IN_USE;
        if (is_in_use(v)) return 0;
        collect(v->q.base, v->as_found.word);
        rc = v->same_boot ? is_believable(v, &believable) : 0;
        if (rc) return rc;
        v->standing = v->same_boot && believable ? EMMAP_QUEUE_AT_REST : EMMAP_QUEUE_TO_RECOVER;
        if (i == COPY_TRIES || view_is_current(v)) return 0;
    }
}

/* --------------------------------------------------------------------------- open and close */

void emmap_queue_view_close(struct emmap_queue_view *v) {
    if (!v) return;
    drop_copy(v);
    emmap_file_free(v->file);
    free(v);
}

int emmap_queue_view_open(struct emmap_queue_view **out, const char *path) {
    const struct emmap_file_options options = {.flags = EMMAP_SHARED | EMMAP_NOLOCK | EMMAP_FORCE};
    struct emmap_queue_view *v = calloc(1, sizeof *v);
    if (!v) return -ENOMEM;
    int rc = emmap_file_open(&v->file, path, &options, NULL);
    if (rc) {
        free(v);
        return rc;
    }
    rc = queue_check_header(v->file, &v->header);
    if (rc) goto close;
    struct emmap_region *region = v->file->region;
    v->from = (struct view_source){region, region_at(region, 0), emmap_file_size(v->file)};
    v->q.file = v->file;
    v->q.base = v->from.base;
    v->q.base_bytes = region_limit(region);
    queue_attach(&v->q, &v->header);
    rc = find_standing(v);
    if (rc == 0) rc = view_look(v);
    rc = view_answer(v, rc);
    if (rc) goto close;
    *out = v;
    return 0;

close:
    emmap_queue_view_close(v);
    return rc;
}

/* -------------------------------------------------------------------------------- figures */

static uint64_t less(uint64_t from, uint64_t first, uint64_t second) {
    const uint64_t left = from - first - second;
    return left > INT64_MAX ? 0 : left; /* of words that make no sense */
}

static void tell_queue(struct emmap_queue_view *v, struct emmap_queue_info *info) {
    const struct emmap_disk_live *live = &v->page.live;
    info->messages =
        less(queue_get(&live->tail_n), queue_get(&live->head_n), queue_get(&live->gap_n));
    info->bytes = less(queue_get(&live->tail), queue_get(&live->head), queue_get(&live->gap_bytes));
    info->max_bytes = queue_get(&live->max_bytes);
    info->segment_bytes = v->q.segment_bytes;
    info->slots = queue_get(&live->slots);
    info->head = queue_get(&live->head);
    info->tail = queue_get(&live->tail);
    info->lost = queue_get(&live->lost_n);
    info->sync_error = (int)queue_get(&live->sync_error);
    info->fixed_size = (v->q.flags & QUEUE_FLAG_FIXED) != 0;
}

/* What the messages tell: the first one's time, and who works on those in the window. */
struct front {
    uint64_t cursor_n, oldest_ms, claimed;
};

static int look_at_front(void *ctx, const struct emmap_queue_item *item) {
    struct front *front = ctx;
    if (item->state == EMMAP_QUEUE_LEASED || item->state == EMMAP_QUEUE_TAKING) front->claimed++;
    const bool gone = item->state == EMMAP_QUEUE_DONE || item->state == EMMAP_QUEUE_VOID;
    if (!gone && front->oldest_ms == 0) front->oldest_ms = item->time_ms;
    return item->ordinal + 1 >= front->cursor_n && front->oldest_ms != 0;
}

/* A recovery of the whole file would be more than was asked for. */
static void tell_front(struct emmap_queue_view *v, struct emmap_queue_view_info *info) {
    struct front front = {.cursor_n = info->cursor_n};
    struct emmap_queue_walked walked;
    const struct emmap_queue_walk walk = {.item = look_at_front, .ctx = &front};
    if (v->standing == EMMAP_QUEUE_TO_RECOVER && !v->has_copy) return;
    (void)view_walk(v, &walk, &walked);
    info->queue.oldest_ms = front.oldest_ms;
    info->queue.claimed = front.claimed;
}

static void tell_participants(struct emmap_queue_view *v, struct emmap_queue_view_info *info) {
    info->interrupted = queue_get(&v->page.live.lock) != 0 && v->standing != EMMAP_QUEUE_IN_USE;
    for (unsigned i = 0; i < QUEUE_PARTICIPANTS; i++) {
        const struct emmap_disk_participant *other = queue_participant(&v->q, i);
        if (view_is_locked(v, QUEUE_OWNER_BYTE + 1 + i))
            info->pid[info->participants++] = queue_get(&other->pid);
    }
}

static int tell(struct emmap_queue_view *v, struct emmap_queue_view_info *info) {
    struct emmap_file_info file;
    int rc = emmap_file_info(v->file, &file);
    if (rc == 0 && !v->has_copy) rc = find_standing(v);
    if (rc == 0) rc = view_look(v);
    if (rc) return rc;
    const struct emmap_disk_live *live = &v->page.live;
    *info = (struct emmap_queue_view_info){
        .standing = v->standing,
        .same_boot = v->same_boot,
        .steady = v->steady,
        .created_ms = v->header.created_ms,
        .head_n = queue_get(&live->head_n),
        .cursor_n = queue_get(&live->cursor_n),
        .tail_n = queue_get(&live->tail_n),
        .cursor = queue_get(&live->cursor),
        .epoch = queue_get(&live->epoch),
        .warm_slots = queue_get(&live->warm_n),
        .durable_serial = queue_get(&live->cp_durable),
    };
    memcpy(info->uuid, v->header.uuid, sizeof info->uuid);
    tell_queue(v, &info->queue);
    info->queue.file_bytes = file.file_bytes;
    info->queue.allocated_bytes = file.allocated_bytes;
    info->queue.linked = file.linked;
    tell_participants(v, info);
    for (unsigned i = 0; i < 2; i++)
        view_checkpoint(v, i, &info->checkpoint[i]);
    if (info->queue.messages > 0) tell_front(v, info);
    return 0;
}

int emmap_queue_view_info(struct emmap_queue_view *v, struct emmap_queue_view_info *info) {
    struct emmap_queue_view_info told;
    const int rc = view_answer(v, tell(v, &told));
    if (rc == 0) *info = told;
    return rc;
}

/* ------------------------------------------------------------------------------------- words */

static const struct {
    const char *name, *message;
} problems[] = {
#define ENTRY(code, name, message) [EMMAP_QUEUE_PROBLEM_##code] = {#name, message},
    EMMAP_QUEUE_PROBLEMS(ENTRY)
#undef ENTRY
};

const char *emmap_queue_problem_name(enum emmap_queue_problem_kind kind) {
    return (unsigned)kind < EMMAP_QUEUE_PROBLEM_END ? problems[kind].name : "unknown";
}

const char *emmap_queue_problem_message(enum emmap_queue_problem_kind kind) {
    return (unsigned)kind < EMMAP_QUEUE_PROBLEM_END ? problems[kind].message : "unknown";
}
