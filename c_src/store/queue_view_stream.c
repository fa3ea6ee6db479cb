/* queue_view_stream.c -- segments and the bytes in them, for who only looks. Nothing is mended. */
#include "store/queue_view.h"

static uint64_t slots_of(const struct emmap_queue_view *v) {
    const uint64_t slots = queue_get(&v->page.live.slots);
    return slots < v->q.most_slots ? slots : v->q.most_slots;
}

/* Whichever of the two headers is valid. */
static int read_header(struct emmap_queue_view *v, uint64_t slot, struct emmap_disk_segment *out,
                       bool *copies_differ) {
    struct emmap_disk_segment first, second;
    const uint64_t off = queue_slot_off(&v->q, slot);
    if (slot == 0 || slot > v->q.most_slots) return EMMAP_E_CORRUPT;
    int rc = view_read(v, off, &first, sizeof first);
    if (rc == 0)
        rc = view_read(v, off + v->q.segment_bytes - QUEUE_SLOT_TRAILER, &second, sizeof second);
    if (rc) return rc;
    const bool first_is_valid = queue_segment_is_valid(&v->q, &first);
    const bool second_is_valid = queue_segment_is_valid(&v->q, &second);
    *copies_differ = !first_is_valid || !second_is_valid || first.crc != second.crc;
    *out = first_is_valid ? first : second;
    return first_is_valid || second_is_valid ? 0 : EMMAP_E_CORRUPT;
}

/* A segment ends where the next one says that it was left; the last one by its own word. */
static int find_end(struct emmap_queue_view *v, uint64_t own, struct view_segment *s) {
    struct emmap_disk_segment next;
    bool differ;
    const uint64_t most = s->start + v->q.cap_bytes;
    const uint64_t says = own == 0 || own > v->q.cap_bytes ? most : s->start + own;
    s->end = says;
    const int rc = s->next ? read_header(v, s->next, &next, &differ) : EMMAP_E_CORRUPT;
    if (rc == 0 && next.number > s->number && next.prev_end > s->start && next.prev_end <= most)
        s->end = next.prev_end;
    s->end_differs = s->end != says || own > v->q.cap_bytes;
    return view_is_damage(rc) ? 0 : rc;
}

int view_segment(struct emmap_queue_view *v, uint64_t slot, struct view_segment *out) {
    struct emmap_disk_segment header;
    struct view_segment s = {.slot = slot};
    int rc = read_header(v, slot, &header, &s.copies_differ);
    if (rc) return rc;
    s.number = header.number;
    s.epoch = header.epoch;
    s.first_pos = header.first_pos;
    s.first_n = header.first_n;
    s.prev_end = header.prev_end;
    s.start = header.number * v->q.cap_bytes;
    uint64_t own;
    const uint64_t off = queue_slot_off(&v->q, slot);
    rc = view_load(v, off + offsetof(struct emmap_disk_slot, next), &s.next);
    if (rc == 0) rc = view_load(v, off + offsetof(struct emmap_disk_slot, end), &own);
    if (rc == 0) rc = find_end(v, own, &s);
    if (rc == 0) *out = s;
    return rc;
}

static bool goes_on_in(const struct view_segment *s, uint64_t pos) {
    return s->prev_end == pos && s->start >= pos;
}

/* Where the link to the next one is damaged. */
static int search_next(struct emmap_queue_view *v, uint64_t pos, struct view_segment *out) {
    const uint64_t slots = slots_of(v);
    for (uint64_t slot = 1; slot <= slots; slot++) {
        const int rc = view_segment(v, slot, out);
        if (rc && !view_is_damage(rc)) return rc;
        if (rc == 0 && goes_on_in(out, pos)) return 0;
    }
    return EMMAP_E_CORRUPT;
}

static int hop_once(struct emmap_queue_view *v, struct queue_place *place,
                    struct view_segment *segment, bool *linked) {
    struct view_segment next, found;
    /* Loaded when it was the last one, perhaps. */
    int rc = view_segment(v, segment->slot, segment);
    if (rc) return rc;
    if (segment->end != place->pos) return EMMAP_E_CORRUPT; /* another one by now */
    rc = view_segment(v, segment->next, &next);
    if (rc && !view_is_damage(rc)) return rc;
    const bool later = rc == 0 && next.number > segment->number;
    if (rc || !goes_on_in(&next, place->pos)) {
        rc = search_next(v, place->pos, &found);
        if (rc && !(later && view_is_damage(rc))) return rc;
        if (rc == 0) *linked = false; /* else those between are missing */
        if (rc == 0) next = found;
    }
    *segment = next;
    *place = (struct queue_place){.pos = place->pos == next.start ? next.start : next.first_pos,
                                  .slot = next.slot};
    return 0;
}

int view_hop(struct emmap_queue_view *v, struct queue_place *place, struct view_segment *segment,
             bool *linked) {
    for (bool moved = false; place->pos >= segment->end; moved = true) {
        const int rc = hop_once(v, place, segment, linked);
        if (rc) return moved ? 0 : rc;
    }
    return 0;
}

int view_segment_behind(struct emmap_queue_view *v, uint64_t number, struct view_segment *out) {
    struct view_segment s;
    bool found = false;
    const uint64_t slots = slots_of(v);
    for (uint64_t slot = 1; slot <= slots; slot++) {
        const int rc = view_segment(v, slot, &s);
        if (rc && !view_is_damage(rc)) return rc;
        if (rc || s.number <= number || (found && s.number >= out->number)) continue;
        *out = s;
        found = true;
    }
    return found ? 0 : EMMAP_E_CORRUPT;
}

uint64_t view_off(const struct emmap_queue_view *v, const struct queue_place *place,
                  const struct view_segment *segment) {
    return queue_slot_off(&v->q, segment->slot) + QUEUE_SLOT_HEADER + place->pos - segment->start;
}

int view_stream(struct emmap_queue_view *v, struct queue_place *place, struct view_segment *segment,
                void *buf, uint64_t len_bytes, bool *linked) {
    uint8_t *to = buf;
    while (len_bytes > 0) {
        const uint64_t pos = place->pos;
        int rc = view_hop(v, place, segment, linked);
        if (rc) return rc;
        if (place->pos != pos) return EMMAP_E_CORRUPT; /* no record goes on behind a seal */
        const uint64_t room = segment->end - place->pos;
        const uint64_t n = len_bytes < room ? len_bytes : room;
        if (to) rc = view_read(v, view_off(v, place, segment), to, n);
        if (rc) return rc;
        if (to) to += n;
        place->pos += n;
        len_bytes -= n;
    }
    return 0;
}
