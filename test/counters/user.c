/* user.c -- what another program does to a file of counters: the tests of several OS processes run it.
 *
 *   user add FILE NAME TIMES   adds 1 to a counter so many times
 *   user race FILE RACERS      so many processes open the file at once, which makes it; each adds 1 to
 *                              all its counters, a, b and c */
#include <emmap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NAMES = 3 };

static int failed(const char *what, int rc) {
    fprintf(stderr, "%s: %s\n", what, emmap_error_message(rc));
    return 1;
}

static int add(const char *file, const char *name, uint64_t times) {
    const struct emmap_counters_options options = {0};
    struct emmap_counters *counters;
    uint64_t i;
    int64_t old;
    int rc = emmap_counters_open(&counters, file, &options);
    if (rc) return failed("open", rc);
    rc = emmap_counters_find(counters, name, strlen(name), &i);
    for (uint64_t n = 0; n < times && rc == 0; n++)
        rc = emmap_counters_fetch(counters, i, EMMAP_ADD, 1, &old);
    emmap_counters_free(counters);
    return rc ? failed("add", rc) : 0;
}

/* Each asks for the names in an order of its own. */
static int one_racer(const char *file, unsigned nth) {
    static const char *const names[NAMES] = {"a", "b", "c"};
    struct emmap_counter asked[NAMES] = {{.name = NULL}};
    for (unsigned n = 0; n < NAMES; n++)
        asked[n].name = names[(n + nth) % NAMES];
    const struct emmap_counters_options options = {
        .flags = EMMAP_COUNTERS_CREATE, .count = NAMES, .counters = asked};
    struct emmap_counters *counters;
    int64_t old;
    int rc = emmap_counters_open(&counters, file, &options);
    if (rc) return failed("race", rc);
    for (uint64_t n = 0; n < NAMES && rc == 0; n++)
        rc = emmap_counters_fetch(counters, n, EMMAP_ADD, 1, &old);
    emmap_counters_free(counters);
    return rc ? failed("add", rc) : 0;
}

/* All wait for the end of the pipe, which comes when all are there. */
static int race(const char *file, unsigned racers) {
    int begin[2], status, all = 0;
    char none;
    if (pipe(begin)) return 1;
    for (unsigned nth = 0; nth < racers; nth++) {
        if (fork() == 0) {
            close(begin[1]);
            while (read(begin[0], &none, 1) > 0)
                ;
            _exit(one_racer(file, nth));
        }
    }
    close(begin[0]);
    close(begin[1]);
    for (unsigned nth = 0; nth < racers; nth++)
        if (wait(&status) < 0 || status != 0) all = 1;
    return all;
}

int main(int argc, char **argv) {
    if (argc == 5 && strcmp(argv[1], "add") == 0)
        return add(argv[2], argv[3], strtoull(argv[4], NULL, 10));
    if (argc == 4 && strcmp(argv[1], "race") == 0)
        return race(argv[2], (unsigned)strtoul(argv[3], NULL, 10));
    fprintf(stderr, "user add FILE NAME TIMES | user race FILE RACERS\n");
    return 2;
}
