/* power_counters.c -- histories of counters with names, cut: what a sync covered is there, a file is
 * whole or not there, and no number is allocated twice. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/os.h"
#include "test/choice.h"
#include "test/power_store.h"
#include "test/support.h"

/* Counter 0 is allocated from, the others are added to. */
enum { MOST = 12, FIRST = 3, STEP = 3, MOST_NOTES = 2048, NOT_YET = 0x7FFFFFFF };

/* Something became so much, from the moment begins on at the earliest, surely from ends on. */
struct note {
    uint64_t value;
    unsigned begins, ends;
};
struct notes {
    struct note note[MOST_NOTES];
    unsigned n;
};

struct play {
    struct power_run *run;
    struct power *power;
    struct emmap_counters *counters;
    char path[POWER_PATH];
    unsigned depth, there; /* the moment from which on the file must be there */
    uint64_t count;
    struct notes counts, given, sync, value[MOST];
};

static const struct emmap_counter names[MOST] = {
    {.name = "orders", .help = "The next number."},
    {.name = "requests", .type = EMMAP_COUNTER},
    {.name = "seconds", .unit = "seconds"},
    {.name = "d"},
    {.name = "e", .help = "added later"},
    {.name = "f"},
    {.name = "g"},
    {.name = "h"},
    {.name = "i"},
    {.name = "j"},
    {.name = "k"},
    {.name = "l"},
};

static uint64_t some(struct play *play, uint64_t below) {
    return choice_random(&play->run->rng, below);
}

static unsigned now(struct play *play) {
    return play->power ? power_now(play->power) : 0;
}

static void note(struct play *play, struct notes *notes, uint64_t value, unsigned begins) {
    MUST(notes->n < MOST_NOTES);
    notes->note[notes->n++] = (struct note){value, begins, now(play)};
}

/* From before the first moment. */
static void note_before(struct notes *notes, uint64_t value) {
    MUST(notes->n == 0);
    notes->note[notes->n++] = (struct note){value, 0, 0};
}

/* The last of what had surely become so by then; and of what may have. */
static uint64_t surely(const struct notes *notes, unsigned moment, uint64_t otherwise) {
    for (unsigned i = notes->n; i-- > 0;)
        if (notes->note[i].ends <= moment) return notes->note[i].value;
    return otherwise;
}

static uint64_t perhaps(const struct notes *notes, unsigned moment) {
    for (unsigned i = notes->n; i-- > 0;)
        if (notes->note[i].begins < moment || notes->note[i].begins == 0)
            return notes->note[i].value;
    return 0;
}

/* --------------------------------------------------------------------------------------- calls */

static int open_play(struct play *play, uint64_t count) {
    const struct emmap_counters_options options = {
        .flags = EMMAP_COUNTERS_CREATE, .count = count, .counters = count ? names : NULL};
    return emmap_counters_open(&play->counters, play->path, &options);
}

static void start(struct play *play, uint64_t count) {
    const unsigned begins = now(play);
    MUST(open_play(play, count) == 0);
    if (count > play->count) {
        note(play, &play->counts, count, begins);
        note(play, &play->sync, 0, begins); /* all there is */
        play->count = count;
    }
    if (play->there == NOT_YET) play->there = now(play);
}

static void end(struct play *play) {
    emmap_counters_free(play->counters);
    play->counters = NULL;
}

static void add(struct play *play, uint64_t i) {
    int64_t old;
    const unsigned begins = now(play);
    MUST(emmap_counters_fetch(play->counters, i, EMMAP_ADD, STEP, &old) == 0);
    note(play, &play->value[i], (uint64_t)old + STEP, begins);
}

/* NULL, or what is wrong: a number that was given before. */
static const char *allocate(struct play *play, uint64_t n) {
    int64_t first;
    const unsigned begins = now(play);
    MUST(emmap_counters_allocate(play->counters, 0, n, &first) == 0);
    if ((uint64_t)first < surely(&play->given, begins, 0)) return "a number is given twice";
    note(play, &play->given, (uint64_t)first + n, begins);
    return NULL;
}

static void sync_all(struct play *play) {
    const unsigned begins = now(play);
    MUST(emmap_counters_sync(play->counters) == 0);
    note(play, &play->sync, begins, begins);
}

/* ----------------------------------------------------------------------------------- histories */

static void nothing(struct play *play) {
    (void)play;
}

static void made(struct play *play) {
    start(play, FIRST);
    add(play, 1);
    MUST(allocate(play, 5) == NULL);
    sync_all(play);
    end(play);
}

static void are_born(struct play *play) {
    start(play, FIRST);
    add(play, 1);
}

/* Whoever made it was stopped before the folder was synced, and another one has it open by then. */
static void are_found_unsynced(struct play *play) {
    const unsigned begins = now(play);
    os_fail_at(OS_CALL_SYNC_PARENT, 1, EIO, 0);
    MUST(open_play(play, FIRST) == -EIO);
    os_fail_never();
    MUST(open_play(play, FIRST) == 0);
    note(play, &play->counts, FIRST, begins);
    play->count = FIRST;
    add(play, 1);
}

static void are_allocated_by_another(struct play *play) {
    are_found_unsynced(play);
    MUST(allocate(play, 1) == NULL);
    play->there = now(play);
    MUST(allocate(play, 2000) == NULL);
}

static void are_synced_by_another(struct play *play) {
    are_found_unsynced(play);
    sync_all(play);
    play->there = now(play);
    add(play, 1);
}

static void are_counted(struct play *play) {
    start(play, FIRST);
    for (unsigned i = 0; i < 3; i++) {
        add(play, 1);
        add(play, 2);
        sync_all(play);
    }
    end(play);
    start(play, FIRST);
    add(play, 2);
}

static void are_extended(struct play *play) {
    start(play, FIRST);
    add(play, 2);
    end(play);
    start(play, FIRST + 2);
    add(play, FIRST + 1);
    sync_all(play);
    end(play);
    start(play, MOST);
    add(play, MOST - 1);
}

static void are_allocated(struct play *play) {
    start(play, FIRST);
    MUST(allocate(play, 1) == NULL);
    MUST(allocate(play, 600) == NULL);
    MUST(allocate(play, 10) == NULL);
    add(play, 1);
    MUST(allocate(play, 5000) == NULL);
    end(play);
    start(play, FIRST);
    MUST(allocate(play, 100000) == NULL);
    MUST(allocate(play, 1) == NULL);
}

/* The kernel has forgotten what it could not write: the next opener writes all. */
static void are_written_anew(struct play *play) {
    start(play, FIRST);
    add(play, 1);
    add(play, 2);
    os_fail_at(OS_CALL_SYNC, 1, EIO, 0);
    MUST(emmap_counters_sync(play->counters) == EMMAP_E_SYNC_FAILED);
    os_fail_never();
    end(play);
    const unsigned begins = now(play);
    start(play, FIRST);
    note(play, &play->sync, 0, begins);
    add(play, 1);
}

static void use(struct play *play, unsigned calls) {
    for (unsigned i = 0; i < calls; i++) {
        const uint64_t what = some(play, 10);
        if (what < 4)
            MUST(allocate(play, 1 + some(play, some(play, 2) ? 3000 : 3)) == NULL);
        else if (what < 7)
            add(play, 1 + some(play, play->count - 1));
        else if (what < 8)
            sync_all(play);
        else if (what < 9 && FILES_ARE_KNOWN && play->count < MOST) {
            const uint64_t count = play->count + 1 + some(play, MOST - play->count);
            end(play);
            start(play, count);
        }
    }
}

static void anything(struct play *play) {
    start(play, FIRST);
    use(play, 30);
}

static const struct counters_history {
    const char *name;
    void (*before)(struct play *play); /* on the disk already */
    void (*play)(struct play *play);
} histories[] = {
    {"are_born", nothing, are_born},
    {"are_allocated_by_another", nothing, are_allocated_by_another},
    {"are_synced_by_another", nothing, are_synced_by_another},
    {"are_counted", nothing, are_counted},
    {"are_extended", made, are_extended},
    {"are_allocated", made, are_allocated},
    {"are_written_anew", made, are_written_anew},
    {"anything", made, anything},
};

/* -------------------------------------------------------------------------------------- checks */

static const char *check_value(const struct play *play, uint64_t i, uint64_t value,
                               struct power_span when) {
    const struct note *sync = NULL;
    for (unsigned k = play->sync.n; k-- > 0 && !sync;)
        if (play->sync.note[k].ends <= when.to) sync = &play->sync.note[k];
    if (value % STEP != 0) return "a value that it never had";
    if (sync && value < surely(&play->value[i], sync->begins, 0)) return "a synced value is gone";
    if (value > perhaps(&play->value[i], when.from)) return "a value from later";
    return NULL;
}

static const char *check_names(struct play *play, uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
        struct emmap_counter told;
        if (emmap_counters_name(play->counters, i, &told)) return "a name cannot be had";
        if (strcmp(told.name, names[i].name) != 0 ||
            strcmp(told.help, names[i].help ? names[i].help : "") != 0)
            return "a name has changed";
    }
    return NULL;
}

/* What is in the file that play has open, by what outer has done to it. */
static const char *check_counters(const struct play *outer, struct play *play,
                                  struct power_span when) {
    struct emmap_counters_info info;
    if (emmap_counters_info(play->counters, &info)) return "it cannot be told";
    play->count = info.count;
    if (info.count < surely(&outer->counts, when.to, 0)) return "a counter is gone";
    if (info.count > perhaps(&outer->counts, when.from)) return "a counter that nobody made";
    const char *wrong = check_names(play, info.count);
    for (uint64_t i = 0; i < info.count && !wrong; i++) {
        int64_t value;
        if (emmap_counters_get(play->counters, i, &value)) return "it cannot be read";
        if (i > 0) wrong = check_value(outer, i, (uint64_t)value, when);
        note_before(&play->value[i], (uint64_t)value);
    }
    return wrong;
}

static const char *cut(struct play *play, uint64_t most);

/* What is there is on the disk. */
static const char *check_here(const struct play *outer, struct play *play, struct power_span when) {
    const uint64_t given = surely(&outer->given, when.to, 0);
    if (open_play(play, 0)) return "it does not open";
    const char *wrong = check_counters(outer, play, when);
    note_before(&play->counts, play->count);
    note_before(&play->given, given);
    note_before(&play->sync, 0);
    if (!wrong) wrong = allocate(play, 1 + some(play, 2000));
    return wrong;
}

/* It is used, and all that is cut again. */
static const char *cut_again(const struct play *outer, struct play *play, struct power_span when) {
    play->power = power_start(play->run->folder[play->depth]);
    play->there = 0;
    const char *wrong = check_here(outer, play, when);
    if (!wrong) use(play, (unsigned)some(play, 5));
    power_stop(play->power);
    end(play);
    if (!wrong) wrong = cut(play, 5);
    power_free(play->power);
    return wrong;
}

static struct play *new_play(struct power_run *run, unsigned depth) {
    struct play *play = calloc(1, sizeof *play);
    MUST(play);
    play->run = run;
    play->depth = depth;
    play->there = NOT_YET;
    snprintf(play->path, sizeof play->path, "%s/c", run->folder[depth]);
    return play;
}

static const char *check(void *ctx, struct power_span when) {
    const struct play *outer = ctx;
    struct play *play = new_play(outer->run, outer->depth + 1);
    const char *wrong = NULL;
    power_boot(play->depth + 1);
    if (!file_exists(play->path)) {
        if (outer->there <= when.to) wrong = "its file is gone";
    } else if (play->depth <= POWER_DEPTH && some(play, 20) == 0) {
        wrong = cut_again(outer, play, when);
    } else {
        wrong = check_here(outer, play, when);
        end(play);
    }
    free(play);
    return wrong;
}

static const char *cut(struct play *play, uint64_t most) {
    struct power_cuts cuts = {.most = most, .check = check, .ctx = play};
    return power_cut_at(play->run, play->power, &cuts, play->depth);
}

const char *power_counters_history(struct power_run *run, const char *name) {
    const struct counters_history *history = histories;
    while (strcmp(history->name, name) != 0)
        history++;
    if (!FILES_ARE_KNOWN && history->play == are_extended) skip();
    struct play *play = new_play(run, 0);
    power_empty_folder(run->folder[0]);
    power_boot(1);
    history->before(play);
    play->there = file_exists(play->path) ? 0 : NOT_YET;
    play->power = power_start(run->folder[0]);
    history->play(play);
    power_stop(play->power);
    end(play);
    const char *wrong = cut(play, run->most);
    power_free(play->power);
    free(play);
    return wrong;
}
