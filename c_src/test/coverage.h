/* coverage.h -- included before everything else in a build that counts coverage: what a child of a
 * test has run is counted, too, though it ends at once. */
#ifndef EMMAP_TEST_COVERAGE_H
#define EMMAP_TEST_COVERAGE_H

#include <stdlib.h>
#include <unistd.h>

void __gcov_dump(void);
#define _exit(status) (__gcov_dump(), _exit(status))

#endif
