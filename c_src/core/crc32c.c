/* crc32c.c -- see crc32c.h.
 *
 * The processor's instruction takes 8 bytes each cycle, but gives its result three cycles later. So
 * a long range is cut into thirds whose CRCs are computed side by side, and joined: the CRC of a
 * and b is that of a followed by as many zeros as b has bytes, xor that of b from 0. To follow a CRC
 * by n zeros is a linear map of its 32 bits, looked up byte by byte in four tables made for that n.
 * The method is Mark Adler's (crc32c.c, 2013, https://stackoverflow.com/a/17646775). Where there is
 * no instruction, eight tables take 8 bytes at a time (slicing by 8: Kounavis and Berry, 2005).
 *
 * In here a CRC is the bare register; the two inversions are made by crc32c's ways at their ends. */
#include "core/crc32c.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <nmmintrin.h>
#elif defined(__aarch64__)
#ifndef __clang__
#include <arm_acle.h>
#endif
#ifdef __linux__
#include <sys/auxv.h>
#endif
#endif

#include "core/fence.h"

enum { BYTES = 256 };
#define POLYNOMIAL 0x82F63B78u /* reflected */

typedef uint32_t way(uint32_t crc, const void *data, size_t len_bytes);

/* ------------------------------------------------------------------------------------- tables */

/* A third's length for each size of range, whole words: 16, 4 and 1 KiB are one range and a few
 * bytes. */
static const size_t third_bytes[] = {5456, 1360, 336, 64};
enum { THIRDS = sizeof third_bytes / sizeof *third_bytes };

/* [k][b]: byte b, then k zeros */
static uint32_t slices[8][BYTES];
/* [i][k][b]: b as byte k of a CRC, then third_bytes[i] zeros */
static uint32_t zeros[THIRDS][4][BYTES];
static pthread_once_t tables_made = PTHREAD_ONCE_INIT;

/* A linear map: column[i] is what becomes of bit i. */
static uint32_t map(const uint32_t column[32], uint32_t crc) {
    uint32_t mapped = 0;
    for (unsigned i = 0; crc; i++, crc >>= 1)
        if (crc & 1) mapped ^= column[i];
    return mapped;
}

static void make_zeros(uint32_t table[4][BYTES], size_t len_bytes) {
    uint32_t column[32]; /* of as many zeros as the bits of len_bytes say that are done */
    uint32_t power[32];  /* of as many as the next bit says */
    for (unsigned i = 0; i < 32; i++) {
        const uint32_t bit = (uint32_t)1 << i;
        column[i] = bit;
        power[i] = bit >> 8 ^ slices[0][bit & 0xFF];
    }
    for (size_t left = len_bytes; left > 0; left >>= 1) {
        uint32_t twice[32];
        for (unsigned i = 0; i < 32; i++) {
            if (left & 1) column[i] = map(power, column[i]);
            twice[i] = map(power, power[i]);
        }
        memcpy(power, twice, sizeof power);
    }
    for (unsigned k = 0; k < 4; k++)
        for (uint32_t b = 0; b < BYTES; b++)
            table[k][b] = map(column, b << 8 * k);
}

static void make_tables(void) {
    for (uint32_t b = 0; b < BYTES; b++) {
        uint32_t crc = b;
        for (unsigned i = 0; i < 8; i++)
            crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
        slices[0][b] = crc;
    }
    for (unsigned k = 1; k < 8; k++)
        for (unsigned b = 0; b < BYTES; b++)
            slices[k][b] = slices[k - 1][b] >> 8 ^ slices[0][slices[k - 1][b] & 0xFF];
    for (unsigned i = 0; i < THIRDS; i++)
        make_zeros(zeros[i], third_bytes[i]);
}

static inline uint32_t load32(const uint8_t *at) {
    uint32_t word;
    memcpy(&word, at, sizeof word);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap32(word);
#endif
    return word;
}

static uint32_t by_tables(uint32_t crc, const void *data, size_t len_bytes) {
    const uint8_t *at = data;
    crc = ~crc;
    for (; len_bytes >= 8; at += 8, len_bytes -= 8) {
        const uint32_t low = load32(at) ^ crc, high = load32(at + 4); /* high waits for nothing */
        crc = slices[3][high & 0xFF] ^ slices[2][high >> 8 & 0xFF] ^ slices[1][high >> 16 & 0xFF] ^
              slices[0][high >> 24] ^ slices[7][low & 0xFF] ^ slices[6][low >> 8 & 0xFF] ^
              slices[5][low >> 16 & 0xFF] ^ slices[4][low >> 24];
    }
    for (; len_bytes > 0; at++, len_bytes--)
        crc = crc >> 8 ^ slices[0][(crc ^ *at) & 0xFF];
    return ~crc;
}

/* ------------------------------------------------------------------------------- instructions */

/* Whether they are there is asked of the processor or the kernel's note: not every compiler's
 * library has __builtin_cpu_supports. */
#if defined(__x86_64__)
#if defined(__clang_major__) && __clang_major__ >= 14 /* a part of sse4.2, but not to all of them */
#define CRC_INSTRUCTIONS __attribute__((target("sse4.2,crc32")))
#else
#define CRC_INSTRUCTIONS __attribute__((target("sse4.2")))
#endif
#define STEP_8(crc, word) _mm_crc32_u64(crc, word)
#define STEP_4(crc, word) _mm_crc32_u32((uint32_t)(crc), word)
#define STEP_1(crc, byte) _mm_crc32_u8((uint32_t)(crc), byte)

static bool has_instructions(void) {
    unsigned a, b, c = 0, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_SSE4_2);
}
#elif defined(__aarch64__)
#define CRC_INSTRUCTIONS __attribute__((target("+crc")))
#ifdef __clang__ /* whose older arm_acle.h has them for the whole file or not at all */
#define STEP_8(crc, word) __builtin_arm_crc32cd((uint32_t)(crc), word)
#define STEP_4(crc, word) __builtin_arm_crc32cw((uint32_t)(crc), word)
#define STEP_1(crc, byte) __builtin_arm_crc32cb((uint32_t)(crc), byte)
#else
#define STEP_8(crc, word) __crc32cd((uint32_t)(crc), word)
#define STEP_4(crc, word) __crc32cw((uint32_t)(crc), word)
#define STEP_1(crc, byte) __crc32cb((uint32_t)(crc), byte)
#endif

static bool has_instructions(void) {
#if defined(__APPLE__)
    return true;
#elif defined(__linux__)
    return getauxval(AT_HWCAP) & (1ul << 7); /* HWCAP_CRC32 */
#else
    return false;
#endif
}
#endif

#ifdef CRC_INSTRUCTIONS
static inline uint64_t load64(const uint8_t *at) {
    uint64_t word;
    memcpy(&word, at, sizeof word);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

static uint32_t then_zeros(uint64_t crc, uint32_t table[4][BYTES]) {
    return table[0][crc & 0xFF] ^ table[1][crc >> 8 & 0xFF] ^ table[2][crc >> 16 & 0xFF] ^
           table[3][crc >> 24];
}

CRC_INSTRUCTIONS static uint32_t by_instructions(uint32_t before, const void *data,
                                                 size_t len_bytes) {
    const uint8_t *at = data;
    uint64_t crc = ~before; /* as wide as the instruction has it */
    const size_t shortest = 3 * third_bytes[THIRDS - 1];
    for (unsigned i = 0; i < THIRDS && len_bytes >= shortest; i++) {
        const size_t third = third_bytes[i];
        for (; len_bytes >= 3 * third; at += 2 * third, len_bytes -= 3 * third) {
            uint64_t second = 0, last = 0;
            for (const uint8_t *end = at + third; at < end; at += 8) {
                crc = STEP_8(crc, load64(at));
                second = STEP_8(second, load64(at + third));
                last = STEP_8(last, load64(at + 2 * third));
            }
            crc = then_zeros(crc, zeros[i]) ^ second;
            crc = then_zeros(crc, zeros[i]) ^ last;
        }
    }
    for (; len_bytes >= 8; at += 8, len_bytes -= 8)
        crc = STEP_8(crc, load64(at));
    if (len_bytes & 4) {
        crc = STEP_4(crc, load32(at));
        at += 4;
    }
    for (len_bytes &= 3; len_bytes > 0; at++, len_bytes--)
        crc = STEP_1(crc, *at);
    return ~(uint32_t)crc;
}
#endif

/* ------------------------------------------------------------------------------ which of them */

#ifdef CRC_INSTRUCTIONS
static way *const ways[] = {by_tables, by_instructions};
#else
static way *const ways[] = {by_tables, by_tables};

static bool has_instructions(void) {
    return false;
}
#endif

static uint32_t by_first(uint32_t crc, const void *data, size_t len_bytes);
static _Atomic(way *) chosen = by_first;

/* More than one thread may come here, to the same end. */
static uint32_t by_first(uint32_t crc, const void *data, size_t len_bytes) {
    way *const found = ways[has_instructions()];
    pthread_once(&tables_made, make_tables);
    store_release(&chosen, found); /* pairs with crc32c */
    return found(crc, data, len_bytes);
}

uint32_t crc32c(uint32_t crc, const void *data, size_t len_bytes) {
    return atomic_load_explicit(&chosen, memory_order_acquire)(crc, data, len_bytes);
}

#ifdef EMMAP_TESTING
bool crc32c_has(enum crc32c_way which) {
    return which == CRC32C_TABLES || has_instructions();
}

uint32_t crc32c_with(enum crc32c_way which, uint32_t crc, const void *data, size_t len_bytes) {
    pthread_once(&tables_made, make_tables);
    return ways[which](crc, data, len_bytes);
}
#endif
