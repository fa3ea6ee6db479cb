/* queue_view_walk.c -- every record from head to tail, while others take and push.
 *
 * Of what a look finds wrong, the head is asked afterwards: if it has passed the place, others may
 * have put new bytes there, and the walk goes on at the head. If it has not, the place was a record's
 * when it was read, and is damaged. */
#include <errno.h>
#include <stdlib.h>

#include "core/crc32c.h"
#include "os/os.h"
#include "store/queue_view.h"

enum { CHUNK_BYTES = 64 << 10 };
/* Beside what the queue's calls answer. */
enum { WALK_OVERTAKEN = 1, WALK_STOPPED = 2 };

struct walker {
    struct emmap_queue_view *v;
    struct view_report report;
    struct queue_place at; /* of the next record */
    struct view_segment segment;
    bool in_segment; /* segment is that of at */
    bool linked;     /* links on the way were right */
    bool follows;    /* a record was just before */
    uint64_t next_n; /* the ordinal expected there */
    uint64_t tail, tail_n, epoch;
    uint64_t cursor_n, returned;
    uint64_t told_slot; /* whose header has been looked at */
    int stopped;        /* what item has returned */
    uint8_t *buf;
    uint64_t buf_bytes;
};

struct record {
    struct queue_place at, end, data;
    struct view_segment segment, end_segment, data_segment;
    struct emmap_disk_record header;
    uint64_t off, state;
};

static struct queue_place head_of(const struct emmap_queue_view *v) {
    const struct emmap_disk_live *live = &v->page.live;
    return (struct queue_place){queue_get(&live->head), queue_get(&live->head_slot)};
}

/* Asked after what was read: is it still a record's place? 0: yes. */
static int still_there(struct walker *w) {
    int rc = view_look(w->v);
    if (rc) return rc;
    const struct emmap_disk_live *live = &w->v->page.live;
    if (queue_get(&live->epoch) != w->epoch) return -EAGAIN;
    const struct queue_place head = head_of(w->v);
    if (head.pos <= w->at.pos) return 0;
    if (!w->v->steady) return EMMAP_E_BUSY;
    w->at = head;
    w->next_n = queue_get(&live->head_n);
    w->in_segment = w->follows = false;
    w->linked = true;
    w->report.walked->overtaken = true;
    return WALK_OVERTAKEN;
}

static void tell(struct walker *w, enum emmap_queue_problem_kind kind,
                 const struct record *record) {
    struct emmap_queue_problem problem = {.kind = kind, .slot = w->at.slot, .pos = w->at.pos};
    if (record) {
        problem.off = record->off;
        problem.ordinal = record->header.ordinal;
    }
    view_tell(&w->report, problem);
}

/* ------------------------------------------------------------------------------------- records */

/* Into the next segment, at the end of one. What was read of the two is true only if the head has not passed that
 * end: the next one's slot may be used again before the first one's is. */
static int hop(struct walker *w) {
    const struct queue_place end = w->at;
    int rc = view_hop(w->v, &w->at, &w->segment, &w->linked);
    if (rc || w->at.slot == end.slot) return rc;
    const struct queue_place next = w->at;
    w->at = end;
    rc = still_there(w);
    if (rc == 0) w->at = next;
    return rc;
}

/* 0 | EMMAP_E_CORRUPT: there is no good one | WALK_OVERTAKEN | -errno */
static int record_at(struct walker *w, struct record *out) {
    struct emmap_queue_view *v = w->v;
    int rc = w->in_segment ? 0 : view_segment(v, w->at.slot, &w->segment);
    if (rc) return rc;
    if (w->at.pos < w->segment.start || w->at.pos > w->segment.end) return EMMAP_E_CORRUPT;
    w->in_segment = true;
    rc = hop(w);
    if (rc) return rc;
    out->at = out->data = w->at;
    out->segment = out->data_segment = w->segment;
    out->off = view_off(v, &w->at, &w->segment);
    const uint64_t before_state = offsetof(struct emmap_disk_record, state);
    rc = view_stream(v, &out->data, &out->data_segment, &out->header, before_state, &w->linked);
    if (rc) return rc;
    const struct emmap_disk_record *header = &out->header;
    if ((header->flags & ~(uint32_t)QUEUE_RECORD_DEFLATED) ||
        header->len_bytes > EMMAP_QUEUE_MOST_BYTES ||
        header->crc != queue_record_crc(&v->q, w->segment.epoch, w->at.pos, header))
        return EMMAP_E_CORRUPT;
    rc = view_hop(v, &out->data, &out->data_segment, &w->linked);
    if (rc) return rc;
    /* Before the data: what is READY here is whole there. */
    rc = view_load(v, view_off(v, &out->data, &out->data_segment), &out->state);
    if (rc) return rc;
    rc = view_stream(v, &out->data, &out->data_segment, NULL, sizeof out->header.state, &w->linked);
    if (rc) return rc;
    out->end = out->data;
    out->end_segment = out->data_segment;
    rc = view_stream(v, &out->end, &out->end_segment, NULL,
                     queue_record_bytes(header->len_bytes) - QUEUE_RECORD_HEADER, &w->linked);
    if (rc) return rc;
    return header->ordinal < w->next_n || out->end.pos > w->tail ? EMMAP_E_CORRUPT : 0;
}

static int check_trailer(struct walker *w, const struct record *record, bool *whole) {
    struct queue_place at = record->data;
    struct view_segment segment = record->data_segment;
    struct emmap_disk_trailer trailer;
    const uint32_t len = record->header.len_bytes;
    int rc = view_stream(w->v, &at, &segment, NULL, ((uint64_t)len + 7) & ~7ull, &w->linked);
    if (rc == 0) rc = view_stream(w->v, &at, &segment, &trailer, sizeof trailer, &w->linked);
    *whole = rc == 0 && trailer.len_bytes == len && trailer.inverse == ~len;
    return rc;
}

/* Data for the caller in one piece, or only its checksum in several. */
static int read_data(struct walker *w, const struct record *record, bool hand_over, bool *whole) {
    struct queue_place at = record->data;
    struct view_segment segment = record->data_segment;
    uint64_t left = record->header.len_bytes;
    uint32_t crc = 0;
    if (hand_over && left > w->buf_bytes) {
        uint8_t *larger = realloc(w->buf, left);
        if (!larger) return -ENOMEM;
        w->buf = larger;
        w->buf_bytes = left;
    }
    while (left > 0) {
        const uint64_t n = hand_over || left < CHUNK_BYTES ? left : CHUNK_BYTES;
        const int rc = view_stream(w->v, &at, &segment, w->buf, n, &w->linked);
        if (rc) return rc;
        crc = crc32c(crc, w->buf, n);
        left -= n;
    }
    *whole = crc == record->header.data_crc;
    return 0;
}

/* ---------------------------------------------------------------------------- what is told of it */

static bool has_data(enum queue_state_kind kind) {
    return kind == QUEUE_READY || kind == QUEUE_LEASED || kind == QUEUE_TAKING;
}

static bool has_owner(enum queue_state_kind kind) {
    return kind == QUEUE_FILLING || kind == QUEUE_LEASED || kind == QUEUE_TAKING;
}

/* The header of the segment in which a record starts, once for each. */
struct segment_check {
    bool copies_differ, end_differs, first_differs;
};

static struct segment_check check_segment(struct walker *w, const struct record *record) {
    const struct view_segment *s = &record->segment;
    if (!w->report.walk->check || w->told_slot == s->slot) return (struct segment_check){false};
    const bool is_first = w->follows && record->header.ordinal == w->next_n;
    return (struct segment_check){
        .copies_differ = s->copies_differ,
        .end_differs = s->end_differs,
        .first_differs =
            is_first && (s->first_pos != record->at.pos || s->first_n != record->header.ordinal),
    };
}

static void tell_segment(struct walker *w, const struct segment_check *check) {
    if (check->copies_differ) tell(w, EMMAP_QUEUE_PROBLEM_SEGMENT_COPY, NULL);
    if (check->end_differs) tell(w, EMMAP_QUEUE_PROBLEM_SEGMENT_END, NULL);
    if (check->first_differs) tell(w, EMMAP_QUEUE_PROBLEM_SEGMENT_FIRST, NULL);
}

static void count(struct walker *w, const struct record *record, enum queue_state_kind kind) {
    struct emmap_queue_walked *walked = w->report.walked;
    walked->by_state[kind]++;
    if (has_data(kind)) walked->messages++;
    if (kind != QUEUE_DONE && kind != QUEUE_VOID) walked->bytes += record->end.pos - record->at.pos;
    if (kind == QUEUE_READY && record->header.ordinal < w->cursor_n) w->returned++;
    walked->missing += record->header.ordinal - w->next_n;
}

static void go_on_behind(struct walker *w, const struct record *record) {
    w->at = record->end;
    w->segment = record->end_segment;
    w->next_n = record->header.ordinal + 1;
    w->follows = true;
    w->report.walked->to = w->at.pos;
}

/* A good header. */
static int pass(struct walker *w, const struct record *record) {
    const struct emmap_queue_walk *walk = w->report.walk;
    const struct emmap_disk_record *header = &record->header;
    const enum queue_state_kind kind = queue_kind(record->state);
    const bool known = kind == (record->state & 15);
    const bool hand_over = has_data(kind) && walk->item && header->len_bytes <= walk->data_bytes;
    bool whole = true, ends_well = true;
    int rc = 0;
    if (has_data(kind) && (hand_over || walk->check)) rc = read_data(w, record, hand_over, &whole);
    if (rc == 0 && walk->check) rc = check_trailer(w, record, &ends_well);
    if (rc) return rc;
    const struct segment_check segment = check_segment(w, record);
    if (!known || !whole || !ends_well || !w->linked || segment.copies_differ ||
        segment.end_differs || segment.first_differs) {
        rc = still_there(w);
        if (rc) return rc;
    }
    w->told_slot = record->segment.slot;
    tell_segment(w, &segment);
    if (!w->linked) tell(w, EMMAP_QUEUE_PROBLEM_LINK, NULL);
    w->linked = true;
    if (!known) tell(w, EMMAP_QUEUE_PROBLEM_STATE, record);
    if (!whole) tell(w, EMMAP_QUEUE_PROBLEM_DATA, record);
    if (!ends_well) tell(w, EMMAP_QUEUE_PROBLEM_TRAILER, record);
    count(w, record, kind);
    if (walk->item) {
        const struct emmap_queue_item item = {
            .ordinal = header->ordinal,
            .time_ms = header->time_ms,
            .pos = record->at.pos,
            .off = record->off,
            .len_bytes = header->len_bytes,
            .flags = header->flags,
            .state = (enum emmap_queue_state)kind,
            .orphaned =
                has_owner(kind) &&
                !view_is_alive(w->v, (unsigned)(record->state >> 16 & 0xFFFF), record->state >> 32),
            .damaged = !whole,
            .data = hand_over && whole ? w->buf : NULL,
        };
        w->stopped = walk->item(walk->ctx, &item);
    }
    go_on_behind(w, record);
    return w->stopped ? WALK_STOPPED : 0;
}

/* ------------------------------------------------------------------------------- what is damaged */

/* The next good record of this segment, or its end. */
static int search(struct walker *w, struct record *out, bool *found) {
    const uint64_t end = w->segment.end < w->tail ? w->segment.end : w->tail;
    *found = false;
    for (w->at.pos += 8; w->at.pos < end; w->at.pos += 8) {
        const int rc = record_at(w, out);
        *found = rc == 0;
        if (rc == 0 || rc == EMMAP_E_TRUNCATED || rc == -EIO) return 0;
        if (rc != EMMAP_E_CORRUPT) return rc;
    }
    return 0;
}

/* Into the next segment that there is, where its first record starts; or to the tail. One that says
 * that this is where the walk has been already would lead it round for ever. */
static int skip_segment(struct walker *w) {
    uint64_t number = w->in_segment ? w->segment.number : (w->at.pos - 1) / w->v->q.cap_bytes;
    int rc;
    do {
        rc = view_segment_behind(w->v, number, &w->segment);
        if (rc && !view_is_damage(rc)) return rc;
        if (rc == 0) number = w->segment.number;
    } while (rc == 0 && w->segment.first_pos <= w->at.pos);
    w->in_segment = rc == 0 && w->segment.first_pos < w->tail;
    if (w->in_segment) {
        w->at = (struct queue_place){.pos = w->segment.first_pos, .slot = w->segment.slot};
        if (w->segment.first_n > w->next_n) w->next_n = w->segment.first_n;
    } else {
        w->at.pos = w->tail;
        if (w->tail_n > w->next_n) w->next_n = w->tail_n;
    }
    return 0;
}

/* Beyond what is damaged. */
static int find_next(struct walker *w) {
    struct record record;
    bool found = false;
    int rc = w->in_segment ? search(w, &record, &found) : 0;
    if (rc) return rc;
    if (found) {
        w->next_n = record.header.ordinal;
        return 0;
    }
    rc = w->at.pos < w->tail ? skip_segment(w) : 0;
    if (w->at.pos >= w->tail && w->tail_n > w->next_n) w->next_n = w->tail_n;
    return rc;
}

/* No good record where one must start. */
static int pass_damaged(struct walker *w) {
    const struct walker was = *w;
    const bool record = was.in_segment && was.at.pos < was.segment.end;
    int rc = find_next(w);
    const struct walker next = *w;
    *w = was;
    if (rc == 0) rc = still_there(w);
    if (rc) return rc;
    const uint64_t lost = next.next_n - was.next_n;
    view_tell(&w->report,
              (struct emmap_queue_problem){
                  .kind = record ? EMMAP_QUEUE_PROBLEM_RECORD : EMMAP_QUEUE_PROBLEM_SEGMENT,
                  .slot = record || !was.in_segment ? was.at.slot : was.segment.next,
                  .pos = was.at.pos,
                  .off = record ? view_off(w->v, &was.at, &was.segment) : 0,
                  .ordinal = was.next_n,
                  .found = lost,
              });
    *w = next;
    w->linked = true;
    w->follows = false;
    w->report.walked->missing += lost;
    w->report.walked->to = w->at.pos;
    return 0;
}

/* ------------------------------------------------------------------------------------ the walk */

static bool makes_sense(const struct emmap_queue_view *v) {
    const struct emmap_disk_live *live = &v->page.live;
    const uint64_t head = queue_get(&live->head), cursor = queue_get(&live->cursor);
    const uint64_t tail = queue_get(&live->tail), head_n = queue_get(&live->head_n);
    const uint64_t cursor_n = queue_get(&live->cursor_n), tail_n = queue_get(&live->tail_n);
    return head <= cursor && cursor <= tail && tail <= INT64_MAX && head_n <= cursor_n &&
           cursor_n <= tail_n && queue_get(&live->window_n) == cursor_n - head_n &&
           queue_get(&live->gap_n) <= tail_n - head_n &&
           queue_get(&live->gap_bytes) <= tail - head &&
           queue_get(&live->redo_n) <= QUEUE_REDO_PAIRS;
}

static void begin(struct walker *w) {
    const struct emmap_disk_live *live = &w->v->page.live;
    w->at = head_of(w->v);
    w->next_n = queue_get(&live->head_n);
    w->tail = queue_get(&live->tail);
    w->tail_n = queue_get(&live->tail_n);
    w->cursor_n = queue_get(&live->cursor_n);
    w->epoch = queue_get(&live->epoch);
    w->linked = true;
    w->report.walked->from = w->report.walked->to = w->at.pos;
}

static int walk_on(struct walker *w) {
    while (w->at.pos < w->tail) {
        struct record record;
        int rc = record_at(w, &record);
        if (rc == 0) rc = pass(w, &record);
        if (view_is_damage(rc)) {
            rc = still_there(w);
            if (rc == 0) rc = pass_damaged(w);
        }
        if (rc && rc != WALK_OVERTAKEN) return rc;
    }
    return 0;
}

static int check_all(struct walker *w, const union view_page *before) {
    int rc = view_check_checkpoints(w->v, &w->report);
    if (rc == 0) rc = view_check_slots(w->v, &w->report);
    if (rc == 0) rc = view_look(w->v);
    if (rc == 0) view_check_counts(w->v, before, w->returned, &w->report);
    return rc;
}

static int walk_all(struct walker *w) {
    struct emmap_queue_view *v = w->v;
    struct emmap_queue_walked *walked = w->report.walked;
    if (v->has_copy) {
        walked->recovered = true;
        walked->kept = v->kept;
        walked->lost = v->lost;
        if (v->lost > 0)
            view_tell(&w->report, (struct emmap_queue_problem){.kind = EMMAP_QUEUE_PROBLEM_LOST,
                                                               .found = v->lost});
    }
    if (!makes_sense(v) && !v->steady) return EMMAP_E_BUSY;
    if (!makes_sense(v)) {
        view_tell(&w->report, (struct emmap_queue_problem){.kind = EMMAP_QUEUE_PROBLEM_PAGE});
        return 0;
    }
    begin(w);
    const union view_page before = v->page;
    w->buf_bytes = CHUNK_BYTES;
    w->buf = malloc(w->buf_bytes);
    if (!w->buf) return -ENOMEM;
    int rc = walk_on(w);
    if (rc == 0 && w->report.walk->check) rc = check_all(w, &before);
    free(w->buf);
    return rc == WALK_STOPPED ? w->stopped : rc;
}

/* Why what was found is of no use: somebody was at the file, or it was cut. */
static int why_not_current(struct emmap_queue_view *v) {
    uint64_t bytes;
    if (view_is_current(v)) return 0;
    const int rc = file_ask_size(v->file, &bytes);
    if (rc) return rc;
    return bytes < QUEUE_DATA_OFF ? EMMAP_E_TRUNCATED : -EAGAIN;
}

int view_walk(struct emmap_queue_view *v, const struct emmap_queue_walk *walk,
              struct emmap_queue_walked *walked) {
    struct walker w = {.v = v, .report = {.walk = walk, .walked = walked}};
    *walked = (struct emmap_queue_walked){0};
    int rc = 0;
    if (v->standing == EMMAP_QUEUE_TO_RECOVER) {
        rc = view_recover(v);
        const int why = rc ? why_not_current(v) : 0;
        if (why) return why;
        if (rc == EMMAP_E_CORRUPT)
            view_tell(&w.report,
                      (struct emmap_queue_problem){.kind = EMMAP_QUEUE_PROBLEM_CHECKPOINT});
    }
    if (rc == 0) rc = view_look(v);
    if (rc == 0) rc = walk_all(&w);
    return rc == 0 && v->has_copy ? why_not_current(v) : rc;
}

int emmap_queue_view_walk(struct emmap_queue_view *v, const struct emmap_queue_walk *walk,
                          struct emmap_queue_walked *walked) {
    return view_answer(v, view_walk(v, walk, walked));
}
