/* kill_file.h -- what is done with a file is cut after each of its stores and calls in turn.
 *
 * For n = 1, 2, ...: the file is as it was, an OS process does something with it, and ends at the n-th store
 * (of 8 bytes: a copy or a fill is many) or call of the system. Then who has had it open all the time looks,
 * if that is wanted, and then the next one. */
#ifndef EMMAP_TEST_KILL_FILE_H
#define EMMAP_TEST_KILL_FILE_H

#include <stddef.h>
#include <stdint.h>

struct kill_file_case {
    const char *name;
    void (*make)(void); /* NULL: there is no file */
    void (*run)(void);
    const char *(*wrong)(void); /* the next one: NULL, or what the file is that it may not be */
    /* Who has it open meanwhile, from before on; or NULL. */
    void (*open)(void);
    const char *(*looks_wrong)(void);
};

/* told is shared with all of them, and zeros before each state. Of the states behind the first ones only each
 * so-manieth. Returns how many were tried. */
uint64_t kill_file_cases(const struct kill_file_case *cases, unsigned n, uint64_t every, void *told,
                         size_t told_bytes);
void *kill_file_told(size_t told_bytes);

#endif
