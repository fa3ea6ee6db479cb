/* counters.c -- counters are looked at and changed; numbers are allocated from them. */
#include "store/counters.h"

#include <errno.h>

#include "core/figures.h"
#include "core/pm.h"

enum { MOST_AHEAD = 1 << 20, MOST_ERRNO = 4095 };

static bool is_striped(const struct emmap_counters *c) {
    return (c->flags & EMMAP_COUNTERS_STRIPED) != 0;
}

static uint64_t room_for(const struct emmap_counters *c, uint64_t bytes) {
    return bytes < c->data_off ? 0 : (bytes - c->data_off) / c->stride;
}

static int word_at(struct emmap_counters *c, bool wait, uint64_t off, struct word_call *call) {
    return counters_cut(file_word(c->file, wait, off, call));
}

static int load_count(struct emmap_counters *c, bool wait, uint64_t *count) {
    struct word_call call = {.op = WORD_LOAD};
    if (c->is_simple) return 0; /* as it was opened */
    const int rc = word_at(c, wait, COUNTERS_LIVE(count), &call);
    if (rc == 0) *count = (uint64_t)call.old;
    return rc;
}

/* The count only rises: where it is less than it was these are zeros, and others have cut the file. */
int counters_look(struct emmap_counters *c, bool wait, uint64_t *count) {
    /* pairs with check: release count */
    const uint64_t known = atomic_load_explicit(&c->count, memory_order_acquire);
    uint64_t has = known, bytes = emmap_file_size(c->file);
    int rc = load_count(c, wait, &has);
    if (rc) return rc;
    if (has > room_for(c, bytes)) { /* others have made it longer; or cut it */
        if (!wait) return -EAGAIN;
        rc = file_ask_size(c->file, &bytes);
        if (rc) return rc;
    }
    if (has < known || has > room_for(c, bytes)) return EMMAP_E_TRUNCATED;
    *count = has;
    return 0;
}

/* Is there such a counter? Others may have added it. */
static int check(struct emmap_counters *c, bool wait, uint64_t i) {
    uint64_t count;
    if (i < atomic_load_explicit(&c->count, memory_order_relaxed)) return 0;
    if (c->is_simple) return -EDOM;
    const int rc = counters_look(c, wait, &count);
    if (rc) return rc;
    if (i >= count) return -EDOM;
    store_release(&c->count, count); /* pairs with counters_look: acquire count */
    return 0;
}

/* ----------------------------------------------------------------------------------- stripes */

unsigned counters_new_thread(struct thread *own) {
    static _Atomic unsigned threads;
    own->number = atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed) + 1;
    return own->number;
}

static int get_sum(struct emmap_counters *c, bool wait, uint64_t i, struct word_call *call) {
    uint64_t sum = 0;
    for (uint64_t cell = 0; cell < COUNTERS_CELLS; cell++) {
        const int rc = word_at(c, wait, counters_off(c, i) + cell * COUNTERS_LINE, call);
        if (rc) return rc;
        sum += (uint64_t)call->old;
    }
    call->old = (int64_t)sum;
    return 0;
}

/* One cell has the value, the others nothing. A call that begins again does all of it again. */
static int put_all(struct emmap_counters *c, bool wait, uint64_t i, const struct word_call *put) {
    for (uint64_t cell = 0; cell < COUNTERS_CELLS; cell++) {
        struct word_call call = {.op = WORD_STORE, .operand = cell == 0 ? put->operand : 0};
        const int rc = word_at(c, wait, counters_off(c, i) + cell * COUNTERS_LINE, &call);
        if (rc) return rc;
    }
    return 0;
}

static int striped_word(struct emmap_counters *c, bool wait, uint64_t i, struct word_call *call) {
    if (call->op == WORD_LOAD) return get_sum(c, wait, i, call);
    if (call->op == WORD_STORE) return put_all(c, wait, i, call);
    if (call->op != WORD_FETCH || call->fetch > EMMAP_SUB) return EMMAP_E_NOTSUP;
    const uint64_t own_cell = counters_cell_off(own_thread());
    const int rc = word_at(c, wait, counters_off(c, i) + own_cell, call);
    call->old = 0;
    return rc;
}

/* --------------------------------------------------------------------------------------- words */

int counters_word(struct emmap_counters *c, bool wait, uint64_t i, struct word_call *call) {
    const int rc = check(c, wait, i);
    if (rc) return rc;
    if (call->op != WORD_LOAD && (c->flags & EMMAP_COUNTERS_READ)) return -EACCES;
    if (call->op == WORD_FETCH) call->fetch = counters_fetch_of(c, call->fetch);
    if (is_striped(c)) return striped_word(c, wait, i, call);
    return word_at(c, wait, counters_off(c, i), call);
}

int counters_reason(struct emmap_counters *c, uint64_t i) {
    return file_word_reason(c->file, counters_off(c, i));
}

uint32_t counters_flags(const struct emmap_counters *c) {
    return c->flags;
}

bool counters_is_closed(const struct emmap_counters *c) {
    return atomic_load_explicit(&c->file->region->closed, memory_order_relaxed) != 0;
}

static int word(struct emmap_counters *c, uint64_t i, struct word_call call, int64_t *old) {
    const int rc = counters_word(c, true, i, &call);
    if (rc == 0) *old = call.old;
    return rc;
}

int emmap_counters_fetch(struct emmap_counters *c, uint64_t i, enum emmap_fetch fetch,
                         int64_t operand, int64_t *old) {
    if ((unsigned)fetch > EMMAP_UMIN) return -EINVAL;
    return word(c, i, (struct word_call){.op = WORD_FETCH, .fetch = fetch, .operand = operand},
                old);
}

int emmap_counters_cas(struct emmap_counters *c, uint64_t i, int64_t expected, int64_t desired,
                       int64_t *old) {
    return word(c, i, (struct word_call){.op = WORD_CAS, .operand = desired, .expected = expected},
                old);
}

int emmap_counters_get(struct emmap_counters *c, uint64_t i, int64_t *value) {
    return word(c, i, (struct word_call){.op = WORD_LOAD}, value);
}

int emmap_counters_put(struct emmap_counters *c, uint64_t i, int64_t value) {
    int64_t none;
    return word(c, i, (struct word_call){.op = WORD_STORE, .operand = value}, &none);
}

int counters_note_failure(struct emmap_counters *c, int rc) {
    if (rc != EMMAP_E_SYNC_FAILED || c->is_simple || (c->flags & EMMAP_COUNTERS_READ)) return rc;
    _Atomic bool *untold = &c->file->region->inode->sync_untold;
    if (!atomic_exchange(untold, false)) return rc; /* who has opened it since has mended that */
    struct word_call call = {.op = WORD_STORE, .operand = -emmap_file_sync_error(c->file)};
    if (word_at(c, true, COUNTERS_LIVE(sync_error), &call)) atomic_store(untold, true);
    return rc;
}

/* ------------------------------------------------------------------------------------ allocate
 *
 *            numbers given          on the disk: may be given         not to be given yet
 *     ... ----------------------+---------------------------------+------------------------ ...
 *                             value                       durable <= reserved
 *
 * Words only rise, so whoever dies in the midst leaves nothing behind. (docs/format/counters.md) */

static uint64_t sum_of(uint64_t a, uint64_t b) {
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static uint64_t reserved_off(const struct emmap_counters *c, uint64_t i) {
    return counters_off(c, i) + offsetof(struct emmap_disk_counter, reserved);
}

/* The first who reserves: on the disk is the count, too, before a number is given. Who extends the file shows
 * it before it is there, and a count that a power cut takes back would let the record be made once more. Its page
 * is made dirty again: a sync of somebody else that failed may have dropped it. */
static int sync_count(struct emmap_counters *c) {
    struct word_call call = {.op = WORD_FETCH, .fetch = EMMAP_ADD, .operand = 0};
    const int rc = word_at(c, true, COUNTERS_LIVE(count), &call);
    if (rc) return rc;
    return counters_note_failure(c, PM_SYNC(emmap_file_sync_range(c->file, 0, COUNTERS_DATA_OFF)));
}

/* Raises reserved to end at least, by a store of its own, also where it is that already: what somebody else has
 * stored may have been dropped by a sync that failed. */
static int reserve(struct emmap_counters *c, uint64_t i, uint64_t end, uint64_t *now) {
    struct word_call call = {.op = WORD_LOAD};
    int rc = word_at(c, true, reserved_off(c, i), &call);
    if (rc == 0 && call.old == 0) rc = sync_count(c);
    if (rc) return rc;
    call.op = WORD_CAS;
    do {
        const uint64_t reserved = (uint64_t)call.old;
        *now = reserved > end ? reserved : end;
        call.expected = call.old;
        call.operand = (int64_t)*now;
        rc = word_at(c, true, reserved_off(c, i), &call);
    } while (rc == 0 && call.old != call.expected);
    return rc;
}

/* Each raise goes further than the last one that succeeded. */
static int raise(struct emmap_counters *c, uint64_t i, uint64_t end) {
    uint64_t count, now, ahead = atomic_load_explicit(&c->ahead, memory_order_relaxed);
    const uint64_t further = ahead < MOST_AHEAD ? 2 * ahead : ahead;
    int rc = counters_look(c, true, &count); /* in place of what was cut off are zeros */
    if (rc == 0) rc = reserve(c, i, sum_of(end, further), &now);
    if (rc == 0)
        rc = counters_note_failure(
            c, PM_SYNC(emmap_file_sync_range(c->file, counters_off(c, i), COUNTERS_PLAIN)));
    if (rc) return rc;
    atomic_compare_exchange_strong_explicit(&c->ahead, &ahead, further, memory_order_relaxed,
                                            memory_order_relaxed);
    struct word_call call = {.op = WORD_FETCH, .fetch = EMMAP_UMAX, .operand = (int64_t)now};
    return word_at(c, true, counters_off(c, i) + offsetof(struct emmap_disk_counter, durable),
                   &call);
}

/* A sync of this OS process has failed, or of another one that has the file: 0, or its -errno. */
static int look_for_failure(struct emmap_counters *c, bool wait, int *error) {
    struct word_call call = {.op = WORD_LOAD};
    *error = emmap_file_sync_error(c->file);
    if (*error || c->is_simple) return 0;
    const int rc = word_at(c, wait, COUNTERS_LIVE(sync_error), &call);
    if (rc == 0 && call.old != 0)
        *error = call.old > 0 && call.old <= MOST_ERRNO ? -(int)call.old : -EIO;
    return rc;
}

/* Who finds half of what is ahead used up raises, alone; who finds too few left raises, too, however
 * many do. *again: nothing is given yet. After a sync that failed nothing is given: the kernel may drop the
 * page, and have the value of before. */
static int try_allocate(struct emmap_counters *c, bool wait, uint64_t i, struct word_call *call,
                        bool *again) {
    const uint64_t n = (uint64_t)call->operand;
    int error;
    int rc = look_for_failure(c, wait, &error);
    if (rc == 0 && error) rc = EMMAP_E_SYNC_FAILED;
    if (rc == 0) rc = word_at(c, wait, counters_off(c, i), call);
    if (rc || call->taken) return rc;
    if (!wait) return -EAGAIN;
    const uint64_t key = (uint64_t)call->old ^ c->flip;
    const bool in_need = call->left < n;
    if (key > UINT64_MAX - n) return -EOVERFLOW;
    *again = true;
    if (in_need) {
        rc = raise(c, i, key + n);
        *again = rc == 0;
        return rc;
    }
    if (!atomic_exchange(&c->raising, true)) {
        (void)raise(c, i, key + n); /* where no sync has failed, those that are left are good */
        atomic_store(&c->raising, false);
    }
    call->low = 0;
    return 0;
}

int counters_allocate(struct emmap_counters *c, bool wait, uint64_t i, uint64_t n, int64_t *first) {
    if (n == 0) return -EINVAL;
    int rc = check(c, wait, i);
    if (rc) return rc;
    if (c->flags & EMMAP_COUNTERS_READ) return -EACCES;
    if (c->is_simple || is_striped(c)) return EMMAP_E_NOTSUP;
    struct word_call call = counters_numbers(c, n);
    bool again;
    do {
        again = false;
        rc = try_allocate(c, wait, i, &call, &again);
    } while (again);
    if (rc) return rc;
    figures_add(EMMAP_FIGURE_ALLOCATED, n);
    *first = call.old;
    return 0;
}

int emmap_counters_allocate(struct emmap_counters *c, uint64_t i, uint64_t n, int64_t *first) {
    return counters_allocate(c, true, i, n, first);
}

/* --------------------------------------------------------------------------------------- others */

/* A sync asks for the file's size: what others have cut off is known then, and not on the disk. */
int emmap_counters_sync(struct emmap_counters *c) {
    uint64_t count;
    const int rc = counters_note_failure(c, PM_SYNC(emmap_file_sync(c->file)));
    return rc ? rc : counters_look(c, true, &count);
}

int emmap_counters_info(struct emmap_counters *c, struct emmap_counters_info *out) {
    struct emmap_file_info file;
    uint64_t count;
    int rc = emmap_file_info(c->file, &file);
    int error = 0;
    if (rc == 0) rc = counters_look(c, true, &count);
    if (rc == 0) rc = look_for_failure(c, true, &error);
    if (rc) return rc;
    *out = (struct emmap_counters_info){
        .count = count,
        .file_bytes = file.file_bytes,
        .is_simple = c->is_simple,
        .is_named = c->is_named,
        .is_unsigned = (c->flags & EMMAP_COUNTERS_UNSIGNED) != 0,
        .is_padded = (c->flags & EMMAP_COUNTERS_PADDED) != 0,
        .is_striped = is_striped(c),
        .is_read_only = (c->flags & EMMAP_COUNTERS_READ) != 0,
        .linked = file.linked,
        .path = file.path,
        .sync_error = error,
    };
    return 0;
}
