/* scratch.h -- the one file of a fuzzer that needs a file: in memory where that can be had, and gone when
 * the fuzzer ends. */
#ifndef EMMAP_FUZZ_SCRATCH_H
#define EMMAP_FUZZ_SCRATCH_H

#include <stdbool.h>
#include <stdint.h>

const char *scratch_path(void);
void scratch_write(const void *bytes, uint64_t len_bytes); /* that, and nothing else */
bool scratch_is(const void *bytes, uint64_t len_bytes);
void scratch_cut(uint64_t len_bytes);
int scratch_fd(void);

#endif
