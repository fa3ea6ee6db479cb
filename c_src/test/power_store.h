/* power_store.h -- histories of each store, cut at every moment; and what must be true of what the disk
 * holds then. */
#ifndef EMMAP_TEST_POWER_STORE_H
#define EMMAP_TEST_POWER_STORE_H

#include "test/power.h"

enum { POWER_DEPTH = 2 }; /* so often is a recovery cut itself */
enum { POWER_FOLDER = 200, POWER_PATH = POWER_FOLDER + 60 };

struct power_run {
    char folder[POWER_DEPTH + 2][POWER_FOLDER]; /* the history's own, then those of its states */
    uint64_t rng;
    uint64_t most;                             /* states of a window of the history itself */
    uint64_t states, windows, windows_in_full; /* counted up */
};

/* From now on another boot of the system. */
void power_boot(unsigned number);

/* power_cut with the run's folder of the next depth and its seed; told and counted. */
const char *power_cut_at(struct power_run *run, struct power *power, struct power_cuts *cuts,
                         unsigned depth);

/* NULL, or what is wrong. */
const char *power_queue_history(struct power_run *run, const char *name);
/* Roles (support.h) of its histories. */
int power_queue_killed(const char *path);
int power_queue_recovered(const char *path);
const char *power_counters_history(struct power_run *run, const char *name);
const char *power_words_history(struct power_run *run, const char *name);

#endif
