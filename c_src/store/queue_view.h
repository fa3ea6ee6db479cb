/* queue_view.h -- a queue's file that is only looked at (emmap.h, emmap_queue_view_open).
 *
 *     queue_view.c         open, the words of the live page as of one moment, figures
 *     queue_view_walk.c    records from head to tail
 *     queue_view_stream.c  bytes of the stream, segments
 *     queue_view_check.c   lists of slots, counts, checkpoints
 *
 * Why it is not the queue's own code: that mends what it finds, and holds the lock. Here the bytes
 * change while they are read, so what looks damaged is damaged only if, after that look, the head
 * has still not passed it: between head and tail nothing but the words in place may change. */
#ifndef EMMAP_STORE_QUEUE_VIEW_H
#define EMMAP_STORE_QUEUE_VIEW_H

#include <errno.h>

#include "store/queue.h"

/* The live page, to the end of the redo record. */
enum { VIEW_WORDS = sizeof(struct emmap_disk_live) / 8 };
union view_page {
    uint64_t word[VIEW_WORDS];
    struct emmap_disk_live live;
};

struct view_segment {
    uint64_t slot, number, epoch, first_pos, first_n, prev_end;
    uint64_t start, end, next; /* end: of its part of the stream, by what the next one says */
    bool copies_differ;        /* one of the two headers is not valid */
    bool end_differs;
};

/* What is read: the file itself, or the view's own memory of what a recovery makes of it. */
struct view_source {
    struct emmap_region *region;
    uint8_t *base;
    uint64_t bytes;
};

struct emmap_queue_view {
    struct emmap_file *file;
    struct emmap_disk_queue header;
    struct emmap_queue q; /* of the file; for what looks at it without the lock */
    struct view_source from, copy;
    bool has_copy;
    int failed; /* the -errno of a question to the system, within this call: see view_answer */
    enum emmap_queue_standing standing;
    bool same_boot;
    uint64_t kept, lost;      /* by the recovery in the copy */
    union view_page as_found; /* the file's page, when its standing was found */
    union view_page
        page; /* as of the last view_look, what is pending in the redo record laid over it */
    bool steady;
    unsigned redo_n;
    struct {
        uint64_t off, value;
    } redo[QUEUE_REDO_PAIRS];
};

/* ------------------------------------------------------------------------------ queue_view.c */

/* view_look -- reads the live page again. 0 | EMMAP_E_TRUNCATED, -EIO */
int view_look(struct emmap_queue_view *view);
/* Bytes of what is read, at an offset in the file. */
int view_read(struct emmap_queue_view *view, uint64_t off, void *buf, uint64_t len_bytes);
/* A word in place: what is pending in the redo record counts. Acquire. */
int view_load(struct emmap_queue_view *view, uint64_t off, uint64_t *value);
/* view_answer -- of a public call: rc, or why the system could not be asked meanwhile. What was made of
 * that (nobody has it open, the file ends here) is not to be believed then. */
int view_answer(struct emmap_queue_view *view, int rc);
/* emmap_queue_view_walk, as a part of another call. */
int view_walk(struct emmap_queue_view *view, const struct emmap_queue_walk *walk,
              struct emmap_queue_walked *walked);
/* Is this OS process alive, as far as can be known? */
bool view_is_alive(struct emmap_queue_view *view, unsigned participant, uint64_t incarnation);
bool view_is_locked(struct emmap_queue_view *view, uint64_t byte);
/* What is read from here on is what a recovery leaves. */
int view_recover(struct emmap_queue_view *view);
/* Has nobody opened the file since? */
bool view_is_current(struct emmap_queue_view *view);
/* A place that cannot be read, or holds what it cannot hold. */
static inline bool view_is_damage(int rc) {
    return rc == EMMAP_E_CORRUPT || rc == EMMAP_E_TRUNCATED || rc == -EIO;
}

/* ----------------------------------------------------------------------- queue_view_stream.c */

/* EMMAP_E_CORRUPT: no header of it is valid. */
int view_segment(struct emmap_queue_view *view, uint64_t slot, struct view_segment *out);
/* At a segment's end: into the next one, which is loaded. *linked is cleared if its link does not lead
 * there. EMMAP_E_CORRUPT: there is none. */
int view_hop(struct emmap_queue_view *view, struct queue_place *place, struct view_segment *segment,
             bool *linked);
/* The first segment with a number above this one. EMMAP_E_CORRUPT: there is none. */
int view_segment_behind(struct emmap_queue_view *view, uint64_t number, struct view_segment *out);
uint64_t view_off(const struct emmap_queue_view *view, const struct queue_place *place,
                  const struct view_segment *segment);
/* Bytes of the stream; place and segment move on. buf NULL: they are passed over. */
int view_stream(struct emmap_queue_view *view, struct queue_place *place,
                struct view_segment *segment, void *buf, uint64_t len_bytes, bool *linked);

/* ------------------------------------------------------------------------ queue_view_check.c */

struct view_report {
    const struct emmap_queue_walk *walk;
    struct emmap_queue_walked *walked;
};
void view_tell(const struct view_report *report, struct emmap_queue_problem problem);
int view_check_slots(struct emmap_queue_view *view, const struct view_report *report);
int view_check_checkpoints(struct emmap_queue_view *view, const struct view_report *report);
void view_check_counts(struct emmap_queue_view *view, const union view_page *before,
                       uint64_t returned, const struct view_report *report);
void view_checkpoint(struct emmap_queue_view *view, unsigned i, struct emmap_queue_checkpoint *out);

#endif
