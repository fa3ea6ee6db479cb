/* power_words.c -- histories of counters files and of mapped files, cut: what a sync covered is there,
 * each word is one that was stored since, and a counters file is whole or not there. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/os.h"
#include "test/choice.h"
#include "test/power_store.h"
#include "test/support.h"

enum { MOST_WORDS = 8192, MOST_SYNCS = 64, MOST_SIZES = 64, NOT_YET = 0x7FFFFFFF };
enum { COUNTERS = 200, HEADER = 16, FILE_BYTES = 10000, WORD = 8 };

struct store {
    uint64_t off, value;
    unsigned begins, ends;
    unsigned before; /* the one before it to the same word, from 1; 0: none */
};
struct size {
    uint64_t bytes;
    unsigned begins, ends;
};
struct sync {
    uint64_t from, to;
    unsigned begins, ends;
};

struct play {
    struct power_run *run;
    struct power *power;
    struct emmap_file *file;
    bool is_counters;
    char path[POWER_PATH];
    unsigned depth;
    unsigned there; /* the moment from which on the file must be there */
    struct store *store;
    unsigned stores, room;
    unsigned last[MOST_WORDS]; /* of each word, from 1; 0: none */
    struct size size[MOST_SIZES];
    unsigned sizes;
    struct sync sync[MOST_SYNCS];
    unsigned syncs;
    uint64_t serial; /* no two values are alike */
};

static uint64_t some(struct play *play, uint64_t below) {
    return choice_random(&play->run->rng, below);
}

static unsigned now(struct play *play) {
    return play->power ? power_now(play->power) : 0;
}

static void note_store(struct play *play, uint64_t off, uint64_t value, unsigned begins) {
    if (play->stores == play->room) {
        play->room = play->room * 2 + 256;
        play->store = realloc(play->store, play->room * sizeof *play->store);
        MUST(play->store);
    }
    MUST(off / WORD < MOST_WORDS);
    unsigned *last = &play->last[off / WORD];
    play->store[play->stores++] = (struct store){off, value, begins, now(play), *last};
    *last = play->stores;
}

/* What is cut off is zero when it comes back. */
static void note_size(struct play *play, uint64_t bytes, unsigned begins) {
    const uint64_t was = play->sizes ? play->size[play->sizes - 1].bytes : 0;
    MUST(play->sizes < MOST_SIZES);
    for (uint64_t off = bytes / WORD * WORD; off < was; off += WORD)
        note_store(play, off, 0, begins);
    play->size[play->sizes++] = (struct size){bytes, begins, now(play)};
}

static void note_sync(struct play *play, uint64_t from, uint64_t to, unsigned begins) {
    MUST(play->syncs < MOST_SYNCS);
    play->sync[play->syncs++] = (struct sync){from, to, begins, now(play)};
    if (play->there == NOT_YET) play->there = now(play);
}

/* --------------------------------------------------------------------------------------- calls */

static int open_play(struct play *play, uint32_t flags, uint64_t len_bytes) {
    uint64_t found;
    if (play->is_counters)
        return emmap_simple_counters_open(&play->file, play->path, COUNTERS, &found);
    const struct emmap_file_options options = {
        .flags = RW | flags, .len_bytes = len_bytes, .address_space_bytes = 1 << 20};
    return emmap_file_open(&play->file, play->path, &options, NULL);
}

static void start(struct play *play, uint32_t flags, uint64_t len_bytes) {
    const unsigned begins = now(play);
    const bool is_new = !file_exists(play->path);
    MUST(open_play(play, flags, len_bytes) == 0);
    if (flags & EMMAP_TRUNCATE) note_size(play, 0, begins);
    if (is_new || (flags & EMMAP_TRUNCATE))
        note_size(play, play->is_counters ? HEADER + WORD * COUNTERS : len_bytes, begins);
    if (is_new && play->is_counters) note_sync(play, 0, UINT64_MAX, begins);
}

static void end(struct play *play) {
    emmap_file_free(play->file);
    play->file = NULL;
}

/* Whole words. */
static void write_words(struct play *play, uint64_t off, unsigned words) {
    uint64_t value[256];
    const unsigned begins = now(play);
    MUST(words <= 256);
    for (unsigned i = 0; i < words; i++)
        value[i] = ++play->serial << 8 | play->depth;
    MUST(emmap_file_write(play->file, off, value, words * WORD) == 0);
    for (unsigned i = 0; i < words; i++)
        note_store(play, off + i * WORD, value[i], begins);
}

static void count(struct play *play, uint64_t counter) {
    int64_t old;
    const uint64_t off = emmap_simple_counters_off(counter);
    const unsigned begins = now(play);
    MUST(emmap_file_fetch(play->file, off, EMMAP_ADD, 3, &old) == 0);
    note_store(play, off, (uint64_t)old + 3, begins);
}

static void resize(struct play *play, uint64_t bytes) {
    const unsigned begins = now(play);
    MUST(emmap_file_resize(play->file, bytes, NULL) == 0);
    note_size(play, bytes, begins);
}

static void sync_all(struct play *play) {
    const unsigned begins = now(play);
    MUST(emmap_file_sync(play->file) == 0);
    note_sync(play, 0, UINT64_MAX, begins);
}

/* It says nothing of what is past the end. */
static void sync_range(struct play *play, uint64_t off, uint64_t len_bytes) {
    const unsigned begins = now(play);
    const uint64_t size = play->size[play->sizes - 1].bytes;
    MUST(emmap_file_sync_range(play->file, off, len_bytes) == 0);
    note_sync(play, off, off + len_bytes < size ? off + len_bytes : size, begins);
}

/* ----------------------------------------------------------------------------------- histories */

static void nothing(struct play *play) {
    (void)play;
}

static void counters(struct play *play) {
    start(play, 0, 0);
    count(play, 0);
    sync_all(play);
    end(play);
}

static void leftover(struct play *play) {
    char path[POWER_PATH + 40];
    snprintf(path, sizeof path, "%s/emmap.new.1.2.3", play->run->folder[0]);
    make_file(path, 700);
}

static void are_born(struct play *play) {
    start(play, 0, 0);
    count(play, 7);
}

/* Whoever made it was stopped before the folder was synced, and another one has it open by then. */
static void are_synced_by_another(struct play *play) {
    const unsigned begins = now(play);
    os_fail_at(OS_CALL_SYNC_PARENT, 1, EIO, 0);
    MUST(open_play(play, 0, 0) == -EIO);
    os_fail_never();
    note_size(play, HEADER + WORD * COUNTERS, begins);
    start(play, 0, 0);
    count(play, 7);
    sync_all(play);
    count(play, 7);
}

static void are_counted(struct play *play) {
    start(play, 0, 0);
    for (uint64_t i = 0; i < 3; i++) {
        count(play, 0);
        count(play, i * 60);
        if (i < 2) sync_all(play);
    }
    end(play);
    start(play, 0, 0);
    count(play, 0);
    sync_all(play);
    count(play, 199);
}

static void file(struct play *play) {
    start(play, EMMAP_CREATE, FILE_BYTES);
    write_words(play, 4000, 100);
    sync_all(play);
    end(play);
}

static void is_made(struct play *play) {
    start(play, EMMAP_CREATE, FILE_BYTES);
    write_words(play, 496, 4);
    sync_all(play);
    write_words(play, 496, 4);
}

static void is_made_and_a_range_synced(struct play *play) {
    start(play, EMMAP_CREATE, FILE_BYTES);
    write_words(play, 5000, 3);
    write_words(play, 0, 3);
    sync_range(play, 5000, 24);
    write_words(play, 5000, 3);
}

static void is_synced_by_another(struct play *play) {
    start(play, EMMAP_CREATE, FILE_BYTES);
    write_words(play, 496, 4);
    end(play);
    start(play, 0, 0);
    write_words(play, 5000, 3);
    sync_all(play);
    write_words(play, 5000, 3);
}

static void grows(struct play *play) {
    start(play, 0, 0);
    write_words(play, 4008, 2);
    resize(play, 20000);
    write_words(play, 4000, 2);
    write_words(play, 16376, 4);
    sync_range(play, 16384, 8);
    write_words(play, 19000, 2);
    resize(play, 30000);
    sync_range(play, 0, 20000);
    write_words(play, 29000, 2);
    sync_all(play);
}

static void shrinks(struct play *play) {
    start(play, 0, 0);
    write_words(play, 8000, 2);
    sync_all(play);
    resize(play, 4096);
    write_words(play, 0, 2);
    sync_range(play, 0, 4096);
    resize(play, 12000);
    write_words(play, 8000, 1);
    sync_all(play);
    resize(play, 8000);
}

static void is_truncated(struct play *play) {
    start(play, EMMAP_TRUNCATE, 6000);
    write_words(play, 4000, 3);
    sync_all(play);
    end(play);
    start(play, EMMAP_TRUNCATE, 9000);
}

static void is_written_anywhere(struct play *play) {
    uint64_t size = FILE_BYTES;
    start(play, 0, 0);
    for (unsigned i = 0; i < 30; i++) {
        const uint64_t what = some(play, 10), off = some(play, size / WORD - 256) * WORD;
        if (what < 6)
            write_words(play, off, 1 + (unsigned)some(play, some(play, 3) ? 4 : 256));
        else if (what < 7)
            sync_range(play, off, some(play, 9000));
        else if (what < 8)
            sync_all(play);
        else if (play->sizes < MOST_SIZES)
            resize(play, size = (some(play, 4000) + 600) * WORD);
    }
}

static const struct words_history {
    const char *name;
    void (*before)(struct play *play); /* on the disk already */
    void (*play)(struct play *play);
} histories[] = {
    {"counters_are_born", nothing, are_born},
    {"counters_are_born_beside_a_leftover", leftover, are_born},
    {"counters_are_synced_by_another", nothing, are_synced_by_another},
    {"counters_are_counted", counters, are_counted},
    {"file_is_made", nothing, is_made},
    {"file_is_made_and_a_range_synced", nothing, is_made_and_a_range_synced},
    {"file_is_synced_by_another", nothing, is_synced_by_another},
    {"file_grows", file, grows},
    {"file_shrinks", file, shrinks},
    {"file_is_truncated", file, is_truncated},
    {"file_is_written_anywhere", file, is_written_anywhere},
};

/* -------------------------------------------------------------------------------------- checks */

/* The last sync of this word that ended by then; NULL: there was none. */
static const struct sync *covering(const struct play *play, uint64_t off, unsigned moment) {
    for (unsigned i = play->syncs; i-- > 0;)
        if (play->sync[i].from <= off && off + WORD <= play->sync[i].to &&
            play->sync[i].ends <= moment)
            return &play->sync[i];
    return NULL;
}

/* The word holds what was there at the sync, or one of those that came later. */
static bool may_hold(const struct play *play, uint64_t off, uint64_t value,
                     struct power_span when) {
    const struct sync *sync = covering(play, off, when.to);
    for (unsigned i = play->last[off / WORD]; i > 0; i = play->store[i - 1].before) {
        const struct store *store = &play->store[i - 1];
        if (store->value == value && (store->begins < when.from || store->begins == 0)) return true;
        if (sync && store->ends <= sync->begins) return false;
    }
    return value == 0;
}

/* That a word is not there: it was cut off since it was synced. */
static bool may_be_gone(const struct play *play, uint64_t off, struct power_span when) {
    const struct sync *sync = covering(play, off, when.to);
    uint64_t bytes = 0;
    for (unsigned i = 0; sync && i < play->sizes; i++)
        if (play->size[i].ends <= sync->begins) bytes = play->size[i].bytes;
    if (!sync || off + WORD > bytes) return true;
    for (unsigned i = 0; i < play->sizes; i++)
        if (play->size[i].ends > sync->begins && play->size[i].begins < when.from &&
            play->size[i].bytes < off + WORD)
            return true;
    return false;
}

/* The file is as long as at the last sync, or as it was made since: also in the midst of that, as a file
 * that is made anew is empty first. */
static bool is_a_size(const struct play *play, uint64_t bytes, struct power_span when) {
    unsigned synced = 0; /* when the last sync began that says how long the file is */
    for (unsigned i = 0; i < play->syncs; i++)
        if (play->sync[i].to == UINT64_MAX && play->sync[i].ends <= when.to)
            synced = play->sync[i].begins;
    unsigned known = play->sizes; /* the last one before it */
    for (unsigned i = 0; i < play->sizes && play->size[i].ends <= synced; i++)
        known = i;
    if (known == play->sizes && bytes == 0) return true;
    for (unsigned i = known < play->sizes ? known : 0; i < play->sizes; i++)
        if (play->size[i].bytes == bytes && (i == known || play->size[i].begins < when.from))
            return true;
    return false;
}

static const char *check_words(const struct play *play, struct emmap_file *opened,
                               struct power_span when, uint64_t value[MOST_WORDS]) {
    uint64_t got = 0, most = 0;
    const uint64_t size = emmap_file_size(opened), from = play->is_counters ? HEADER : 0;
    if (!is_a_size(play, size, when)) return "a size that it has no more, or never had";
    if (size > 0 && emmap_file_read(opened, 0, value, MOST_WORDS * WORD, &got))
        return "it cannot be read";
    for (unsigned i = 0; i < play->sizes; i++)
        if (play->size[i].bytes > most) most = play->size[i].bytes;
    for (uint64_t off = from; off + WORD <= most; off += WORD) {
        if (off + WORD <= size && !may_hold(play, off, value[off / WORD], when))
            return "a word that is not the synced one, nor a later one";
        if (off + WORD > size && !may_be_gone(play, off, when)) return "a synced word is gone";
    }
    return NULL;
}

static const char *cut(struct play *play, uint64_t most);

/* What is there is on the disk. It is used, and all that is cut again. */
static const char *cut_again(const struct play *outer, struct play *play, struct power_span when) {
    static uint64_t value[MOST_WORDS];
    const bool is_there = file_exists(play->path);
    const char *wrong = NULL;
    play->power = power_start(play->run->folder[play->depth]);
    if (!is_there) {
        start(play, EMMAP_CREATE, FILE_BYTES);
    } else if (open_play(play, 0, 0)) {
        wrong = "it does not open";
    } else {
        const uint64_t size = emmap_file_size(play->file);
        wrong = check_words(outer, play->file, when, value);
        play->there = 0;
        play->size[play->sizes++] = (struct size){size, 0, 0};
        for (uint64_t off = 0; !wrong && off + WORD <= size; off += WORD)
            if (value[off / WORD] != 0) note_store(play, off, value[off / WORD], 0);
        for (unsigned i = 0; i < play->stores; i++)
            play->store[i].ends = 0;
        play->sync[play->syncs++] = (struct sync){0, UINT64_MAX, 0, 0};
    }
    for (unsigned i = (unsigned)some(play, 4); i > 0 && !wrong; i--) {
        const uint64_t at = some(play, COUNTERS);
        if (play->is_counters)
            count(play, at);
        else if (emmap_file_size(play->file) >= 2400)
            write_words(play, at * WORD, 1 + (unsigned)some(play, 99));
        if (some(play, 2)) sync_all(play);
    }
    power_stop(play->power);
    end(play);
    if (!wrong) wrong = cut(play, 5);
    power_free(play->power);
    return wrong;
}

static const char *check_here(const struct play *outer, struct play *play, struct power_span when) {
    static uint64_t value[MOST_WORDS];
    if (open_play(play, 0, 0)) return "it does not open";
    const char *wrong = check_words(outer, play->file, when, value);
    end(play);
    return wrong;
}

static const char *check(void *ctx, struct power_span when) {
    const struct play *outer = ctx;
    struct power_run *run = outer->run;
    struct play *play = calloc(1, sizeof *play);
    MUST(play);
    play->run = run;
    play->is_counters = outer->is_counters;
    play->depth = outer->depth + 1;
    play->there = NOT_YET;
    snprintf(play->path, sizeof play->path, "%s/f", run->folder[play->depth]);
    power_boot(play->depth + 1);
    const bool is_there = file_exists(play->path);
    const char *wrong = NULL;
    if (!is_there && outer->there <= when.to)
        wrong = "its file is gone";
    else if (play->depth <= POWER_DEPTH && some(play, 20) == 0)
        wrong = cut_again(outer, play, when);
    else if (is_there)
        wrong = check_here(outer, play, when);
    free(play->store);
    free(play);
    return wrong;
}

static const char *cut(struct play *play, uint64_t most) {
    struct power_cuts cuts = {.most = most, .check = check, .ctx = play};
    return power_cut_at(play->run, play->power, &cuts, play->depth);
}

const char *power_words_history(struct power_run *run, const char *name) {
    const struct words_history *history = histories;
    while (strcmp(history->name, name) != 0)
        history++;
    struct play *play = calloc(1, sizeof *play);
    MUST(play);
    play->run = run;
    play->is_counters = strncmp(name, "counters", 8) == 0;
    play->there = NOT_YET;
    snprintf(play->path, sizeof play->path, "%s/f", run->folder[0]);
    power_empty_folder(run->folder[0]);
    power_boot(1);
    history->before(play);
    play->power = power_start(run->folder[0]);
    history->play(play);
    power_stop(play->power);
    end(play);
    const char *wrong = cut(play, run->most);
    power_free(play->power);
    free(play->store);
    free(play);
    return wrong;
}
