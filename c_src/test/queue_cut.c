/* queue_cut.c -- see queue_cut.h. */
#include "test/queue_cut.h"

#include <stdlib.h>
#include <string.h>

#include "os/os_testing.h"
#include "test/choice.h"

enum { SECTOR = 512, MOST_SYNCS = 256 };

/* At most 8 bytes, within one word of the file. */
struct word {
    uint32_t off, store; /* the store that it is part of */
    uint8_t len_bytes, bytes[8];
};

struct recording {
    const uint8_t *base;
    uint64_t len_bytes;
    struct word *words;
    size_t n, room;
    unsigned stores;
    uint64_t pending_off, pending_len; /* a store is told before it happens */
    unsigned syncs, sync[MOST_SYNCS];

    uint8_t *synced, *whole;
    size_t at, from; /* words before the moment, words before the last sync */
    unsigned next_sync;
    uint32_t *stored, *left;          /* by sector: words since the last sync */
    uint32_t *touched, *steps, *kept; /* the sectors that have some; see choice.h */
    unsigned sectors;
};

static void *get(size_t bytes) {
    void *at = calloc(1, bytes);
    MUST(at);
    return at;
}

/* ---------------------------------------------------------------------------------- recording */

/* What was told of last has happened by now. */
static void take_in(struct recording *r) {
    uint64_t off = r->pending_off;
    const uint64_t end = off + r->pending_len;
    for (; off < end; off = (off + 8) & ~7ull) {
        if (r->n == r->room) {
            r->room = r->room * 2 + 1024;
            r->words = realloc(r->words, r->room * sizeof *r->words);
            MUST(r->words);
        }
        const uint64_t stop = ((off + 8) & ~7ull) < end ? (off + 8) & ~7ull : end;
        struct word *word = &r->words[r->n++];
        *word = (struct word){
            .off = (uint32_t)off, .store = r->stores - 1, .len_bytes = (uint8_t)(stop - off)};
        memcpy(word->bytes, r->base + off, word->len_bytes);
    }
    r->pending_len = 0;
}

static void note(void *ctx, const struct os_event *event) {
    struct recording *r = ctx;
    take_in(r);
    if (event->kind == OS_EVENT_SYNC) {
        MUST(r->syncs < MOST_SYNCS);
        r->sync[r->syncs++] = r->stores;
        return;
    }
    const uint8_t *at = event->addr;
    if (event->kind > OS_EVENT_FILL || at < r->base || at >= r->base + r->len_bytes) return;
    r->pending_off = (uint64_t)(at - r->base);
    r->pending_len = event->len_bytes;
    r->stores++;
}

struct recording *recording_start(const uint8_t *base, uint64_t len_bytes) {
    struct recording *r = get(sizeof *r);
    r->base = base;
    r->len_bytes = len_bytes;
    r->synced = get(len_bytes);
    r->whole = get(len_bytes);
    memcpy(r->synced, base, len_bytes);
    memcpy(r->whole, base, len_bytes);
    const size_t sectors = len_bytes / SECTOR + 1;
    r->stored = get(sectors * sizeof *r->stored);
    r->steps = get(sectors * sizeof *r->steps);
    r->kept = get(sectors * sizeof *r->kept);
    r->left = get(sectors * sizeof *r->left);
    r->touched = get(sectors * sizeof *r->touched);
    os_record_to(note, r);
    return r;
}

void recording_stop(struct recording *r) {
    os_record_to(NULL, NULL);
    take_in(r);
}

void recording_free(struct recording *r) {
    free(r->words);
    free(r->synced);
    free(r->whole);
    free(r->stored);
    free(r->steps);
    free(r->kept);
    free(r->left);
    free(r->touched);
    free(r);
}

unsigned recording_moment(struct recording *r) {
    return r->stores;
}

bool recording_sync(const struct recording *r, unsigned n, unsigned *moment) {
    if (n >= r->syncs) return false;
    *moment = r->sync[n];
    return true;
}

/* ---------------------------------------------------------------------------------------- cuts */

static void sync_all(struct recording *r) {
    memcpy(r->synced, r->whole, r->len_bytes);
    for (unsigned i = 0; i < r->sectors; i++)
        r->stored[r->touched[i]] = 0;
    r->sectors = 0;
    r->from = r->at;
}

static void go_to(struct recording *r, unsigned moment) {
    for (; r->at < r->n && r->words[r->at].store < moment; r->at++) {
        const struct word *word = &r->words[r->at];
        const uint32_t sector = word->off / SECTOR;
        memcpy(r->whole + word->off, word->bytes, word->len_bytes);
        if (r->stored[sector]++ == 0) r->touched[r->sectors++] = sector;
    }
}

void cut_at(struct recording *r, unsigned moment) {
    while (r->next_sync < r->syncs && r->sync[r->next_sync] < moment) {
        go_to(r, r->sync[r->next_sync++]);
        sync_all(r);
    }
    go_to(r, moment);
}

/* How many of its words a sector may have. */
static void count_words(struct recording *r) {
    for (unsigned k = 0; k < r->sectors; k++)
        r->steps[k] = r->stored[r->touched[k]];
}

unsigned cut_images(struct recording *r, unsigned most) {
    count_words(r);
    return (unsigned)choice_ways(r->steps, r->sectors, most);
}

void cut_image(struct recording *r, unsigned i, unsigned images, uint64_t *rng, uint8_t *bytes) {
    if (cut_images(r, images + 1) == images)
        choice_way(i, r->steps, r->kept, r->sectors);
    else
        choice_by_chance(rng, r->steps, r->kept, r->sectors);
    memcpy(bytes, r->synced, r->len_bytes);
    for (unsigned k = 0; k < r->sectors; k++)
        r->left[r->touched[k]] = r->kept[k];
    for (size_t k = r->from; k < r->at; k++) {
        const struct word *word = &r->words[k];
        uint32_t *left = &r->left[word->off / SECTOR];
        if (*left == 0) continue;
        --*left;
        memcpy(bytes + word->off, word->bytes, word->len_bytes);
    }
}

const uint8_t *cut_whole(const struct recording *r) {
    return r->whole;
}

const uint8_t *cut_synced(const struct recording *r) {
    return r->synced;
}
