/* hash.c -- see hash.h. */
#include "core/hash.h"

#include "os/os.h"

/* splitmix64, https://prng.di.unimi.it/splitmix64.c: without chance at least numbers that look like it. */
static void fill(struct hash_seed *seed) {
    uint64_t words[sizeof *seed / 8], state = 0;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        uint64_t z = state += 0x9e3779b97f4a7c15u;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        words[i] = z ^ z >> 31;
    }
    memcpy(seed, words, sizeof *seed);
}

void hash_seed(struct hash_seed *seed) {
    if (os_random(seed, sizeof *seed)) fill(seed);
}
