/* queue.h -- a queue from within the library: what emmap.h leaves opaque.
 *
 *     queue_open.c     make, open, join, leave
 *     queue_settle.c   what the last one has left
 *     queue_recover.c  what a power cut left
 *     queue_lock.c     the lock, steps of several words, who takes over
 *     queue_stream.c   positions, records, segments
 *     queue_damage.c   what is found where a record should be
 *     queue_push.c, queue_take.c, queue_peek.c
 *     queue_space.c    slots: linked, freed, prepared, given back
 *     queue_sync.c     checkpoints
 *
 * The stream's code knows memory, not files: without a file it works on a plain array. */
#ifndef EMMAP_STORE_QUEUE_H
#define EMMAP_STORE_QUEUE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "core/pm.h"
#include "core/runtime.h"
#include "emmap.h"
#include "store/file.h"
#include "store/queue_layout.h"

/* What is copied under the lock at most: some microseconds. */
enum { QUEUE_SMALL_BYTES = (64 << 10) + 64 }; /* 64 KiB, and what a term of so many bytes adds */
enum { QUEUE_WARM = 2 };

/* Answers that do not leave the library: try again, the lock or a message is somebody's. */
enum { QUEUE_SPUN = 1 };

struct queue_place {
    uint64_t pos, slot;
};

struct emmap_queue {
    uint8_t *base;
    uint64_t base_bytes; /* addresses; the file may have fewer bytes */
    struct emmap_file *file;
    uint64_t salt, segment_bytes, cap_bytes;
    uint64_t most_slots; /* that there are addresses for */
    uint32_t flags;      /* of the header */
    bool multi_os;
    unsigned participant;
    uint64_t me;    /* in the lock */
    uint64_t owner; /* in the states of records */

    uint64_t asked_bytes; /* the most of a message, as asked for at open; 0: nothing was */

    uint64_t marks; /* of faults, as found when the lock was taken; under it */
    _Atomic bool closed;
    _Atomic int broken; /* why the handle is of no more use */
    _Atomic uint64_t look_ms;
    /* Under the lock: where claims of the dead are looked for, and where the first message that came
     * back is, as long as so many are. */
    uint64_t reap_ms, returned_seen;
    struct queue_place reap_at, returned_at;

    pthread_mutex_t space_lock; /* one prepares or gives back */
    pthread_mutex_t sync_lock;  /* one syncs */
    struct pool_job job;
    _Atomic bool job_waits;
    _Atomic(struct queue_owed *) owed;
    uint64_t owed_ms;       /* when it was last tried to end them, of the ticker */
    _Atomic uint32_t refs;  /* memory */
    _Atomic uint32_t users; /* of the file: the handles, and calls that hold a claim */
    _Atomic bool gone;      /* the last of them has let go of the file */

    /* Callers that wait for the disk together: of the NIF. */
    struct {
        pthread_mutex_t lock;
        enum { GROUP_IDLE, GROUP_COMING, GROUP_FLUSHING } state;
        uint64_t coming_ms; /* when somebody was sent to a dirty scheduler, to sync */
        struct queue_waiter *waiting;
    } group;
    _Atomic uint32_t interval_ms; /* between syncs in the background; 0: none */
    uint64_t synced_ms, synced_tail, synced_head, synced_gap; /* of that thread */

    _Atomic uint64_t recovered, lost; /* what open found */
    _Atomic bool was_recovered;
    struct emmap_queue *next; /* of this OS process; guarded by the runtime's lock */
    uint32_t handles;         /* opened, not closed; 0: about to let go of the file; the same */
};

static inline struct emmap_disk_live *queue_live(const struct emmap_queue *q) {
    return (struct emmap_disk_live *)(void *)(q->base + QUEUE_LIVE_OFF);
}

static inline struct emmap_disk_participant *queue_participant(const struct emmap_queue *q,
                                                               unsigned i) {
    return (struct emmap_disk_participant *)(void *)(q->base + QUEUE_PARTICIPANTS_OFF) + i;
}

/* Under the lock nobody else changes it; elsewhere it is a guess. */
static inline uint64_t queue_get(const emmap_disk_word *word) {
    return atomic_load_explicit(word, memory_order_relaxed);
}

static inline uint64_t queue_file_bytes(const struct emmap_queue *q) {
    return q->file ? emmap_file_size(q->file) : q->base_bytes;
}

static inline struct queue_place queue_head_place(const struct emmap_queue *q) {
    const struct emmap_disk_live *live = queue_live(q);
    return (struct queue_place){queue_get(&live->head), queue_get(&live->head_slot)};
}
static inline struct queue_place queue_cursor_place(const struct emmap_queue *q) {
    const struct emmap_disk_live *live = queue_live(q);
    return (struct queue_place){queue_get(&live->cursor), queue_get(&live->cursor_slot)};
}
static inline struct queue_place queue_tail_place(const struct emmap_queue *q) {
    const struct emmap_disk_live *live = queue_live(q);
    return (struct queue_place){queue_get(&live->tail), queue_get(&live->tail_slot)};
}

/* Under the lock; a count that makes no sense is 0. */
static inline uint64_t queue_bytes(const struct emmap_queue *q) {
    const struct emmap_disk_live *live = queue_live(q);
    const uint64_t bytes =
        queue_get(&live->tail) - queue_get(&live->head) - queue_get(&live->gap_bytes);
    return bytes > INT64_MAX ? 0 : bytes;
}
static inline uint64_t queue_count(const struct emmap_queue *q) {
    const struct emmap_disk_live *live = queue_live(q);
    const uint64_t n =
        queue_get(&live->tail_n) - queue_get(&live->head_n) - queue_get(&live->gap_n);
    return n > INT64_MAX ? 0 : n;
}

/* The largest message: half of what may be in the queue, which may change at any time. */
static inline uint64_t queue_most_bytes(const struct emmap_queue *q) {
    uint64_t most = queue_get(&queue_live(q)->max_bytes) / 2;
    if (q->asked_bytes && most > q->asked_bytes) most = q->asked_bytes;
    return most < EMMAP_QUEUE_MOST_BYTES ? most : EMMAP_QUEUE_MOST_BYTES;
}

/* ----------------------------------------------------------------------------- queue_lock.c */

/* queue_lock -- 0 | QUEUE_SPUN (after some 20 us; with wait after some ms: no caller waits here for an
 * OS process that is stopped) | EMMAP_E_CLOSED, or why the handle is broken.
 * queue_lock_surely -- for who has begun something: EMMAP_E_BUSY after 5 s. */
int queue_lock(struct emmap_queue *q, bool wait);
int queue_lock_surely(struct emmap_queue *q);
/* queue_unlock -- the call's answer: rc, or why the queue is of no more use. */
int queue_unlock(struct emmap_queue *q, int rc);

/* queue_range_is_whole -- no fault has replaced any of these bytes; under the lock. */
bool queue_range_is_whole(struct emmap_queue *q, uint64_t off, uint64_t len_bytes);
int queue_heal(struct emmap_queue *q);

/* Bytes of the file that are locked, far beyond its end: of the one OS process, or of those that
 * share it; then one of each participant. */
#define QUEUE_OWNER_BYTE (UINT64_C(1) << 62)
#define QUEUE_OPENING_BYTE (QUEUE_OWNER_BYTE - 1)

/* The same, in line, of bytes that were just touched. */
static inline bool queue_is_whole(struct emmap_queue *q, const uint8_t *at, uint64_t len_bytes) {
    if (!q->file) return true;
    uint64_t seen;
    fence(memory_order_acquire);
    if (region_is_whole(q->file->region, &seen) && seen == q->marks) return true;
    return queue_range_is_whole(q, (uint64_t)(at - q->base), len_bytes);
}

/* Words that change together. */
struct queue_step {
    unsigned n;
    struct {
        emmap_disk_word *word;
        uint64_t value;
    } pair[QUEUE_REDO_PAIRS];
};
void queue_set_word(struct queue_step *step, emmap_disk_word *word, uint64_t value);
#define queue_set(step, word, value) \
    (OS_IS_MUTANT(SKIP) ? (void)0 : queue_set_word(step, word, value))
void queue_do(struct emmap_queue *q, struct queue_step *step);
/* What a dead holder has begun. false: the record makes no sense. */
bool queue_redo(struct emmap_queue *q);
/* Some word was found to be wrong, and was made up for: the next opener recovers. */
void queue_distrust(struct emmap_queue *q);
/* The handle is of no more use; of EMMAP_E_CORRUPT the next opener is told. */
void queue_break(struct emmap_queue *q, int why);
/* Is the owner of a claim or of the lock alive? */
bool queue_is_alive(struct emmap_queue *q, unsigned participant, uint64_t incarnation);
/* queue_reap -- what the dead have left in the window and in their hands. Under the lock. */
void queue_reap(struct emmap_queue *q, unsigned participant);
void queue_reap_hands(struct emmap_queue *q, unsigned participant);
void queue_reap_claims(struct emmap_queue *q, unsigned participant);
/* The same where nobody else has the queue: the window is what its records say. */
void queue_reap_window(struct emmap_queue *q);
/* Those of the dead, now and then: who finds the window open calls it. Under the lock. */
void queue_look_for_dead(struct emmap_queue *q);
/* The head over all that is gone at it, in turns; waits. */
void queue_catch_up(struct emmap_queue *q);

/* --------------------------------------------------------------------------- queue_stream.c */

struct queue_record {
    struct queue_place at, end;
    struct emmap_disk_record header;
    emmap_disk_word *state; /* in the mapping */
};

static inline uint64_t queue_record_bytes(uint64_t len_bytes) {
    return QUEUE_RECORD_OVERHEAD + ((len_bytes + 7) & ~7ull);
}
/* A damaged one is READY: better twice than never. */
static inline enum queue_state_kind queue_kind(uint64_t state) {
    const unsigned known = 1u << QUEUE_FILLING | 1u << QUEUE_LEASED | 1u << QUEUE_TAKING |
                           1u << QUEUE_DONE | 1u << QUEUE_VOID;
    const unsigned kind = state & 15;
    return known >> kind & 1 ? (enum queue_state_kind)kind : QUEUE_READY;
}
static inline uint64_t queue_state(enum queue_state_kind kind, uint64_t owner) {
    return (uint64_t)kind | owner << 16;
}

/* NULL: there is no such slot. Slots count from 1. */
struct emmap_disk_slot *queue_slot(const struct emmap_queue *q, uint64_t slot);
/* A slot that there is, by the live page: what a word leads to need not be one, and to touch bytes
 * behind the file's end is a fault. */
bool queue_has_slot(const struct emmap_queue *q, uint64_t slot);
uint64_t queue_slot_off(const struct emmap_queue *q, uint64_t slot);
uint32_t queue_segment_crc(const struct emmap_queue *q, const struct emmap_disk_segment *segment);
bool queue_segment_is_valid(const struct emmap_queue *q, const struct emmap_disk_segment *segment);
struct emmap_disk_segment *queue_second_header(const struct emmap_queue *q, uint64_t slot);
/* The segment in a slot, from whichever of its two headers is whole; false: neither is. */
bool queue_segment_in(const struct emmap_queue *q, uint64_t slot, struct emmap_disk_segment *out);
/* The same, and the first one is mended by the second, since places are counted by it. */
bool queue_segment_mended(struct emmap_queue *q, uint64_t slot);
/* The second one becomes the first one's double. */
void queue_mend_second_header(struct emmap_queue *q, uint64_t slot);
/* Writes both headers, with their checksum; the segment is not sealed. */
void queue_write_segment(struct emmap_queue *q, uint64_t slot, struct emmap_disk_segment segment);

/* Where in its segment a place is, and where the segment's bytes end. EMMAP_E_CORRUPT. */
int queue_place_off(const struct emmap_queue *q, struct queue_place place, uint64_t *off,
                    uint64_t *stop);
/* At a segment's end: the start of the next one. EMMAP_E_CORRUPT: there is none. */
int queue_hop(struct emmap_queue *q, struct queue_place *place);

/* The bytes of a place as one piece of memory. NULL: with *rc 0 they lie in two segments. */
uint8_t *queue_span(struct emmap_queue *q, bool wait, struct queue_place place, uint64_t len_bytes,
                    int *rc);

/* Bytes of the stream, across segments; the place moves on. With wait false -EAGAIN for what is not
 * in memory; -EIO and the like for what faults have replaced. */
int queue_read(struct emmap_queue *q, bool wait, struct queue_place *place, void *buf,
               uint64_t len_bytes);
int queue_write(struct emmap_queue *q, bool wait, struct queue_place *place, const void *data,
                uint64_t len_bytes);
int queue_skip(struct emmap_queue *q, struct queue_place *place, uint64_t len_bytes);
/* Where the next of len_bytes lie, as many as are in one piece; not necessarily in memory. */
int queue_piece(struct emmap_queue *q, struct queue_place *place, uint64_t len_bytes,
                const uint8_t **at, uint64_t *piece_bytes);
/* The same without the lock, in a place that is the caller's alone; what faults replaced is not
 * looked for. */
int queue_read_out(struct emmap_queue *q, struct queue_place *place, void *buf, uint64_t len_bytes);
int queue_write_out(struct emmap_queue *q, struct queue_place *place, const void *data,
                    uint64_t len_bytes);

/* queue_record_at -- the record that starts here, its header checked, not its data.
 * 0 | EMMAP_E_CORRUPT | -EAGAIN | -EIO, ... */
int queue_record_at(struct emmap_queue *q, bool wait, struct queue_place place,
                    struct queue_record *out);
/* The next good header behind a bad one, before the place end. 0: *place is it, or end. */
int queue_resync(struct emmap_queue *q, struct queue_place *place, struct queue_place end);
uint32_t queue_record_crc(const struct emmap_queue *q, uint64_t epoch, uint64_t pos,
                          const struct emmap_disk_record *header);
/* Copies a record's data out; whether it is what was pushed, its checksum tells. */
int queue_data(struct emmap_queue *q, bool wait, const struct queue_record *record, void *buf);

/* --------------------------------------------------------------------------- queue_damage.c */

/* A stretch without a good record. */
struct queue_damage {
    struct queue_place to;      /* where the stream goes on */
    uint64_t to_n, lost, bytes; /* the ordinal there; how many are missing; in which bytes */
    bool is_void;               /* there is a record now, VOID, with the last of the ordinals */
};

/* queue_mend -- at a place where a record with the ordinal n, or a later one, should start and does
 * not; it ends at limit, whose ordinal is limit_n, at the latest. Under the lock.
 * EMMAP_E_CORRUPT: the stream cannot be followed to limit; it ends at out->to. */
int queue_mend(struct emmap_queue *q, struct queue_place from, uint64_t n, struct queue_place limit,
               uint64_t limit_n, struct queue_damage *out);

/* ----------------------------------------------------------------------------- queue_push.c */

/* A message in one or two pieces. */
struct queue_data {
    const void *head, *body;
    uint32_t head_bytes, body_bytes;
    uint32_t flags; /* of enum emmap_queue_flag */
    uint32_t crc;   /* filled in by queue_push */
};
enum { QUEUE_BATCH_BYTES = 2 * QUEUE_SMALL_BYTES }; /* with their headers */
/* All of them or none. *end: the position behind the last one. -EAGAIN without wait: large, or no
 * room prepared, or cold. */
int queue_push(struct emmap_queue *q, bool wait, struct queue_data *data, unsigned n,
               uint64_t *end);

/* ----------------------------------------------------------------------------- queue_take.c */

/* A message that was found; buf has its data. */
struct queue_message {
    struct queue_place at, end;
    uint64_t ordinal, time_ms;
    uint32_t len_bytes, flags, data_crc;
};
/* queue_finish_surely -- what this OS process holds (FILLING, LEASED, TAKING) is done, or comes back
 * (FILLING: is VOID). Where the lock is not to be had for seconds, or the disk fails, it is owed:
 * whoever of this OS process has the lock next ends it, the ticker sees to that.
 * 0 | EMMAP_E_STALE: it is somebody else's by now | what stood in its way; a push is undone then */
int queue_finish_surely(struct emmap_queue *q, const struct queue_message *message,
                        enum queue_state_kind held, bool done);
struct queue_owed {
    struct queue_owed *next;
    struct queue_message message;
    enum queue_state_kind held;
    bool done;
};
/* A claim comes back, at once or when the lock can be had. */
void queue_return_later(struct emmap_queue *q, const struct queue_message *message);
/* Under the lock: ends what is owed. */
void queue_pay(struct emmap_queue *q);
enum { QUEUE_NO_ROOM = 2 }; /* the buffer is too small for the first message: *needs tells */

static inline void queue_tell(struct queue_message *message, const struct queue_record *record) {
    *message = (struct queue_message){
        .at = record->at,
        .end = record->end,
        .ordinal = record->header.ordinal,
        .time_ms = record->header.time_ms,
        .len_bytes = record->header.len_bytes,
        .flags = record->header.flags,
        .data_crc = record->header.data_crc,
    };
}

/* Up to *n messages, one behind the other in buf; *n tells how many. */
int queue_take(struct emmap_queue *q, bool wait, void *buf, uint64_t room_bytes,
               struct queue_message *messages, unsigned *n);
int queue_claim(struct emmap_queue *q, bool wait, void *buf, uint64_t room_bytes,
                struct queue_message *message);
int queue_ack(struct emmap_queue *q, bool wait, const struct queue_message *message);
int queue_return(struct emmap_queue *q, bool wait, const struct queue_message *message);
/* The message at or behind *at (pos 0: the first), or before it (pos 0: the last); *at becomes where
 * to go on. */
int queue_peek(struct emmap_queue *q, bool wait, bool backwards, struct queue_place *at, void *buf,
               uint64_t room_bytes, struct queue_message *message);
/* queue_drop -- all messages before a position are taken and not looked at; waits. */
int queue_drop(struct emmap_queue *q, uint64_t until);
/* Takes the message if it is still the next one: -EAGAIN if not. */
int queue_take_this(struct emmap_queue *q, bool wait, const struct queue_message *message);

/* ---------------------------------------------------------------------------- queue_space.c */

/* The segment in the slot is one that the head has left; or there is none. */
bool queue_slot_is_behind(const struct emmap_queue *q, uint64_t slot);
bool queue_slot_is_free(const struct emmap_queue *q, uint64_t slot);
/* The slot behind this one, linked if it was not. -EAGAIN: none is warm. */
int queue_link(struct emmap_queue *q, uint64_t slot, uint64_t *next);
/* What the head has left becomes warm. Under the lock. */
void queue_free_behind(struct emmap_queue *q);
/* Pages behind the tail, and those of the next message, are brought into memory; no lock held. */
void queue_touch(struct emmap_queue *q, uint64_t off, uint64_t len_bytes);
void queue_touch_ahead(struct emmap_queue *q, uint64_t len_bytes);
void queue_touch_next(struct emmap_queue *q);
void queue_touch_tail(struct emmap_queue *q);
void queue_touch_place(struct emmap_queue *q, struct queue_place place);
int queue_allocate(struct emmap_queue *q, uint64_t slot); /* its blocks; the file grows to it */
int queue_prepare(struct emmap_queue *q);                 /* one more warm slot; waits */
int queue_give_back(struct emmap_queue *q);               /* warm ones that are too many; waits */
void queue_background(struct emmap_queue *q);

/* ----------------------------------------------------------------------------- queue_sync.c */

int queue_sync(struct emmap_queue *q, uint64_t *covered); /* waits; the position it reaches to */
int queue_sync_file(struct emmap_queue *q);
/* What is owed is tried again and again in the background. */
int queue_tick(void);
/* Syncs in the background, at least so often while there is something new. */
int queue_sync_every(struct emmap_queue *q, uint32_t interval_ms);
uint64_t queue_checkpoint(struct emmap_queue *q); /* its serial; under the lock */
void queue_write_checkpoint(struct emmap_queue *q, struct emmap_disk_checkpoint c);
/* At a new segment, unless a sync is on its way that rests on the one before. */
void queue_checkpoint_now(struct emmap_queue *q);
bool queue_checkpoint_is_valid(const struct emmap_queue *q, const struct emmap_disk_checkpoint *c);
/* false: there is none. */
bool queue_newest_checkpoint(const struct emmap_queue *q, struct emmap_disk_checkpoint *out);
struct emmap_disk_checkpoint *queue_checkpoint_at(const struct emmap_queue *q, uint64_t serial);

/* --------------------------------------------------------------------------- queue_settle.c */

/* What has happened since the live page was written. */
enum queue_past {
    QUEUE_KILLED,   /* no more than that; or it was closed */
    QUEUE_BROKEN,   /* the same, but something was found to make no sense */
    QUEUE_REBOOTED, /* or it is a copy: any part of what was written may be missing */
};

/* queue_settle -- by who is alone with the queue, and holds the lock. was_recovered tells how. */
int queue_settle(struct emmap_queue *q, enum queue_past past);
/* Is the file shorter than a death could have left it? Changes nothing. */
bool queue_is_truncated(const struct emmap_queue *q, uint64_t file_bytes);

/* -------------------------------------------------------------------------- queue_recover.c */

int queue_format(struct emmap_queue *q, uint64_t max_bytes, uint64_t slots); /* a new one */
int queue_recover(struct emmap_queue *q, enum queue_past past);

/* ----------------------------------------------------------------------------- queue_open.c */

/* The file's header, as it must be; and what of it the queue's code uses: q has its memory. */
int queue_check_header(struct emmap_file *file, struct emmap_disk_queue *header);
void queue_attach(struct emmap_queue *q, const struct emmap_disk_queue *header);
/* By the identity: was the live page written in this boot, for this file? 0 | -errno: the system
 * fails to tell, which says nothing. Where it never tells, it was not. */
int queue_past_of(const struct emmap_queue *q, enum queue_past *past);
void queue_ref(struct emmap_queue *q);
void queue_unref(struct emmap_queue *q);
/* Around what is done with a claim and without the lock. false: closed. */
bool queue_enter(struct emmap_queue *q);
void queue_leave(struct emmap_queue *q);
int queue_set_max(struct emmap_queue *q, uint64_t max_bytes); /* waits */
/* A message that is whole and makes no sense to its reader: told with those found damaged. */
void queue_lose(struct emmap_queue *q);
/* A new queue in memory that q has. */
int queue_make(struct emmap_queue *q, const struct emmap_queue_options *options);
uint64_t queue_new_bytes(const struct emmap_queue_options *options);

#endif
