/* hash.h -- a hash of short texts for tables whose keys others choose: without the seed nobody finds texts that are
 * alike. Multilinear hashing: under a seed of chance two texts that differ have any two hashes equally often, whatever
 * the texts are (D. Lemire, O. Kaser, Strongly Universal String Hashing is Fast, The Computer Journal 57, 2014,
 * https://arxiv.org/abs/1202.4961). It multiplies once for four bytes, and no product waits for another. */
#ifndef EMMAP_CORE_HASH_H
#define EMMAP_CORE_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The longest text. */
enum { HASH_MOST_BYTES = 384 };

struct hash_seed {
    uint64_t first, of_length, of_word[HASH_MOST_BYTES / 4 + 1];
};

/* Where the system has no chance to give it is always the same: then texts can be made that are alike, and
 * what looks them up is slow. */
void hash_seed(struct hash_seed *seed);

/* The texts' words are little-endian, the last one filled up with zeros, which the length tells from others. The sum
 * alone is linear: of texts that go on by one, as names with a number do, the hashes would go on by one step,
 * and where that is short, fill a row of buckets. So it is mixed at the end. */
static inline uint32_t hash(const struct hash_seed *seed, const char *text, size_t len) {
    const size_t words = len / 4, rest = len % 4;
    uint64_t sum = seed->first + seed->of_length * len;
    uint32_t word;
    for (size_t i = 0; i < words; i++) {
        memcpy(&word, text + 4 * i, 4);
        sum += seed->of_word[i] * word;
    }
    word = 0;
    if (rest > 0 && words > 0) { /* the last four, without those that are in the sum */
        memcpy(&word, text + len - 4, 4);
        word >>= 8 * (4 - rest);
    } else {
        for (size_t i = 0; i < rest; i++)
            word |= (uint32_t)(uint8_t)text[i] << 8 * i;
    }
    sum += seed->of_word[words] * word; /* of no rest nothing */
    sum = (sum ^ sum >> 32) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(sum >> 32);
}

#endif
