/* power.h -- what a disk may hold of a folder after a power cut: whole files, with their sizes and
 * their names.
 *
 * All that happens to the files of a folder is recorded: stores to their mappings, sizes, zeroed
 * ranges, names, syncs. After a cut, the disk has what the completed syncs covered. Of the rest,
 *
 *   - each sector of 512 bytes has any number of the stores to it, in their order, whatever the
 *     others have; a store is of at most one aligned word;
 *   - each file has any number of its changes of size, in their order, whatever of its bytes are
 *     there: what lies past the size is gone, what never arrived is zero;
 *   - the folder has any number of its changes of names, in their order. A file that has its name is
 *     not therefore whole.
 *
 * A sync that fails leaves all that it was to write as uncertain as before, and the kernel forgets
 * that it had to be written: a later one covers it only where the page was touched again.
 *
 * Such a state is laid as files into another folder, for the open functions of the stores.
 *
 * The time is counted in what was recorded. Between two syncs the states of an earlier moment are
 * among those of a later one: so they are looked at by windows, from one sync to the next, and each
 * state belongs to all moments from the last thing on that it has, to the end of the window. */
#ifndef EMMAP_TEST_POWER_H
#define EMMAP_TEST_POWER_H

#include <stdbool.h>
#include <stdint.h>

struct power;

/* power_start -- from here on; the files that are there are on the disk as they are. One at a time. */
struct power *power_start(const char *folder);
void power_stop(struct power *power);
void power_free(struct power *power);
/* The moment, when the background has nothing more to do. */
unsigned power_now(struct power *power);

/* Moments of which a state is one: at any of them the power may have been cut to leave it. */
struct power_span {
    unsigned from, to;
};

struct power_cuts {
    const char *folder; /* states are laid there; it is emptied before each */
    uint64_t most;      /* of one window, in full; where there are more, so many by chance */
    uint64_t *rng;
    /* NULL, or what is wrong with the state that lies in the folder. */
    const char *(*check)(void *ctx, struct power_span when);
    void *ctx;
    /* Counted up. */
    uint64_t states, windows, windows_in_full;
};

/* power_cut -- the power is cut at each moment of a recording that has been stopped. NULL, or what the
 * first check that found something said; the state is still there. Once for a recording. */
const char *power_cut(struct power *power, struct power_cuts *cuts);

void power_empty_folder(const char *folder);

#endif
