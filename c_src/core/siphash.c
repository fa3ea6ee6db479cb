/* siphash.c -- see siphash.h. */
#include "core/siphash.h"

#include <string.h>

#include "os/os.h"

void siphash_seed(struct siphash_seed *seed) {
    if (os_random(seed, sizeof *seed)) *seed = (struct siphash_seed){.word = {0}};
}

static uint64_t rotated(uint64_t x, unsigned by) {
    return x << by | x >> (64 - by);
}

static void rounds(uint64_t v[4], unsigned n) {
    for (; n > 0; n--) {
        v[0] += v[1], v[2] += v[3];
        v[1] = rotated(v[1], 13) ^ v[0], v[3] = rotated(v[3], 16) ^ v[2];
        v[0] = rotated(v[0], 32);
        v[2] += v[1], v[0] += v[3];
        v[1] = rotated(v[1], 17) ^ v[2], v[3] = rotated(v[3], 21) ^ v[0];
        v[2] = rotated(v[2], 32);
    }
}

static void take_in(uint64_t v[4], uint64_t word) {
    v[3] ^= word;
    rounds(v, 2);
    v[0] ^= word;
}

uint64_t siphash(const struct siphash_seed *seed, const void *data, size_t len) {
    uint64_t v[4] = {seed->word[0] ^ 0x736f6d6570736575, seed->word[1] ^ 0x646f72616e646f6d,
                     seed->word[0] ^ 0x6c7967656e657261, seed->word[1] ^ 0x7465646279746573};
    const uint8_t *at = data;
    uint64_t word, last = (uint64_t)len << 56;
    for (size_t left = len; left >= sizeof word; left -= sizeof word, at += sizeof word) {
        memcpy(&word, at, sizeof word); /* little-endian, as all that this library runs on */
        take_in(v, word);
    }
    for (size_t i = 0; i < len % sizeof word; i++)
        last |= (uint64_t)at[i] << 8 * i;
    take_in(v, last);
    v[2] ^= 0xFF;
    rounds(v, 4);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
