/* choice.h -- of several things each has come so far, and nobody knows how far: all the ways in which
 * that may be, or some of them by chance, the odd ones among them. */
#ifndef EMMAP_TEST_CHOICE_H
#define EMMAP_TEST_CHOICE_H

#include <stdbool.h>
#include <stdint.h>

/* Below `below`; the same numbers for the same start. */
uint64_t choice_random(uint64_t *rng, uint64_t below);

/* Thing i has come 0 to steps[i] steps. How many ways there are, or most where they are more. */
uint64_t choice_ways(const uint32_t *steps, uint32_t n, uint64_t most);
/* The way of this number. */
void choice_way(uint64_t way, const uint32_t *steps, uint32_t *taken, uint32_t n);
/* Any. */
void choice_by_chance(uint64_t *rng, const uint32_t *steps, uint32_t *taken, uint32_t n);

#endif
