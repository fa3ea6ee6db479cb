/* test_hash.c -- the hash of names: what it is by its definition, its seed, how it spreads. */
#include <stdio.h>
#include <string.h>

#include "core/hash.h"
#include "os/os.h"
#include "test/support.h"

__extension__ typedef unsigned __int128 uint128;

/* The sum of what the text's words and its length are multiplied with, modulo 2^64, mixed, and of it the upper
 * half. */
static uint32_t by_definition(const struct hash_seed *seed, const uint8_t *text, size_t len) {
    uint8_t padded[HASH_MOST_BYTES + 4] = {0};
    memcpy(padded, text, len);
    uint128 sum = (uint128)seed->first + (uint128)seed->of_length * len;
    for (size_t i = 0; i < (len + 3) / 4; i++) {
        const uint8_t *at = padded + 4 * i;
        const uint128 word = at[0] + 256u * at[1] + 65536u * at[2] + 16777216u * (uint128)at[3];
        sum = (sum + seed->of_word[i] * word) % ((uint128)1 << 64);
    }
    const uint128 most = (uint128)1 << 64, half = (uint128)1 << 32;
    const uint128 low = sum % most % half ^ sum % most / half;
    return (uint32_t)((sum % most / half * half + low) * 0x9e3779b97f4a7c15u % most / half);
}

static void as_defined(void **state) {
    (void)state;
    struct hash_seed seed;
    uint8_t text[HASH_MOST_BYTES];
    hash_seed(&seed);
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (uint8_t)(255 - 37 * i);
    for (size_t len = 0; len <= sizeof text; len++)
        assert_int_equal(hash(&seed, (const char *)text, len), by_definition(&seed, text, len));
}

static void every_byte_and_the_length_count(void **state) {
    (void)state;
    struct hash_seed seed;
    char text[HASH_MOST_BYTES] = {0};
    hash_seed(&seed);
    for (size_t len = 1; len <= sizeof text; len++) {
        const uint32_t before = hash(&seed, text, len);
        unsigned same = hash(&seed, text, len - 1) == before;
        for (size_t i = 0; i < len; i++) {
            text[i] = 1;
            same += hash(&seed, text, len) == before;
            text[i] = 0;
        }
        assert_true(same <= 2); /* one in 2^32 is by chance */
    }
}

/* Of 2^16 texts in as many buckets none is in a bucket with many others: by chance the fullest has some 8. */
static void texts_that_look_alike_spread(void **state) {
    (void)state;
    enum { TEXTS = 1 << 16, MOST = 24 };
    for (unsigned round = 0; round < 4; round++) {
        static uint8_t in[TEXTS];
        struct hash_seed seed;
        memset(in, 0, sizeof in);
        if (round == 3) os_fail_at(OS_CALL_RANDOM, 1, 5, 0); /* no chance: always the same */
        hash_seed(&seed);
        os_fail_never();
        for (unsigned i = 0; i < TEXTS; i++) {
            char text[32];
            const int len = snprintf(text, sizeof text, round % 2 ? "orders_%u" : "%08x_total", i);
            uint8_t *bucket = &in[hash(&seed, text, (size_t)len) % TEXTS];
            assert_true(++*bucket <= MOST);
        }
    }
}

/* In a table half full, as that of the names: however the seed falls, a look is at a few buckets. */
static void names_with_numbers_leave_no_rows(void **state) {
    (void)state;
    enum { SEEDS = 1000, NAMES = 1000, BUCKETS = 2048, MOST_LOOKS = 5 };
    char name[NAMES][16];
    for (unsigned i = 0; i < NAMES; i++)
        snprintf(name[i], sizeof name[i], "orders_%u", i);
    for (unsigned round = 0; round < SEEDS; round++) {
        bool used[BUCKETS] = {false};
        unsigned looks = 0;
        struct hash_seed seed;
        hash_seed(&seed);
        for (unsigned i = 0; i < NAMES; i++) {
            uint32_t at = hash(&seed, name[i], strlen(name[i])) % BUCKETS;
            for (looks++; used[at]; looks++)
                at = (at + 1) % BUCKETS;
            used[at] = true;
        }
        assert_true(looks <= MOST_LOOKS * NAMES);
    }
}

static void each_seed_is_another(void **state) {
    (void)state;
    struct hash_seed a, b;
    hash_seed(&a);
    hash_seed(&b);
    assert_memory_not_equal(&a, &b, sizeof a);
    os_fail_at(OS_CALL_RANDOM, 1, 5, 0);
    hash_seed(&a);
    os_fail_at(OS_CALL_RANDOM, 1, 5, 0);
    hash_seed(&b);
    os_fail_never();
    assert_memory_equal(&a, &b, sizeof a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(as_defined),
        TEST(every_byte_and_the_length_count),
        TEST(texts_that_look_alike_spread),
        TEST(names_with_numbers_leave_no_rows),
        TEST(each_seed_is_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
