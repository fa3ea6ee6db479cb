/* test_crc32c.c -- each way of the checksum against published values and the definition. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/crc32c.h"
#include "test/support.h"

enum { MOST_BYTES = 1 << 20, SLACK = 16 };
static uint8_t bytes[MOST_BYTES + SLACK];

/* The polynomial division, a bit at a time. */
static uint32_t by_definition(uint32_t crc, const uint8_t *data, size_t len_bytes) {
    crc = ~crc;
    for (size_t i = 0; i < len_bytes; i++) {
        crc ^= data[i];
        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78 : 0);
    }
    return ~crc;
}

static void fill(void) {
    uint64_t x = 88172645463325252u;
    for (size_t i = 0; i < sizeof bytes; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        bytes[i] = (uint8_t)(x >> 32);
    }
}

static void all_ways_say(uint32_t crc, uint32_t before, const void *data, size_t len_bytes) {
    assert_int_equal(crc32c(before, data, len_bytes), crc);
    for (enum crc32c_way way = CRC32C_TABLES; way <= CRC32C_INSTRUCTIONS; way++)
        if (crc32c_has(way)) assert_int_equal(crc32c_with(way, before, data, len_bytes), crc);
}

static void published_values(void **state) {
    (void)state;
    uint8_t data[32];
    static const uint8_t read_command[48] = {
        1, 0xC0, [16] = 0x14, [22] = 4, [27] = 0x14, [31] = 0x18, 0x28, [40] = 2};
    all_ways_say(0, 0, NULL, 0);
    all_ways_say(0xE3069283, 0, "123456789", 9);
    /* RFC 3720, B.4 */
    memset(data, 0, sizeof data);
    all_ways_say(0x8A9136AA, 0, data, sizeof data);
    memset(data, 0xFF, sizeof data);
    all_ways_say(0x62A8AB43, 0, data, sizeof data);
    for (uint8_t i = 0; i < sizeof data; i++)
        data[i] = i;
    all_ways_say(0x46DD794E, 0, data, sizeof data);
    for (uint8_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(31 - i);
    all_ways_say(0x113FDB5C, 0, data, sizeof data);
    all_ways_say(0xD9963A56, 0, read_command, sizeof read_command);
}

static void the_processor_has_its_instructions_on_x86(void **state) {
    (void)state;
#if defined(__x86_64__)
    assert_true(crc32c_has(CRC32C_INSTRUCTIONS) == !!__builtin_cpu_supports("sse4.2"));
#else
    skip();
#endif
}

static void short_ranges_at_each_alignment(void **state) {
    (void)state;
    for (size_t off = 0; off < 8; off++)
        for (size_t len = 0; len <= 300; len++) {
            const uint32_t before = (uint32_t)(len * 2654435761u);
            all_ways_say(by_definition(0, bytes + off, len), 0, bytes + off, len);
            all_ways_say(by_definition(before, bytes + off, len), before, bytes + off, len);
        }
}

/* Around each length at which a long range is cut another way. */
static void long_ranges(void **state) {
    (void)state;
    static const size_t lens[] = {
        1008,  1024,  2016,  4080,      4096,      5088,   10000,           16368,
        16384, 20448, 65536, 100 << 10, 128 << 10, 200000, MOST_BYTES - 77, MOST_BYTES};
    for (unsigned i = 0; i < sizeof lens / sizeof *lens; i++)
        for (size_t off = 0; off<8; off += lens[i]> 100000 ? 3 : 1) {
            const size_t lower = lens[i] - 9, upper = lens[i] + (lens[i] < 100000 ? 9 : 0);
            uint32_t crc = by_definition(0, bytes + off, lower);
            for (size_t len = lower; len <= upper; len++) {
                all_ways_say(crc, 0, bytes + off, len);
                crc = by_definition(crc, bytes + off + len, 1);
            }
        }
}

static void pieces_make_the_whole(void **state) {
    (void)state;
    enum { WHOLE = 20000 };
    const uint32_t whole = by_definition(0, bytes, WHOLE);
    for (size_t cut = 0; cut <= WHOLE; cut += cut < 100 ? 1 : 61)
        all_ways_say(whole, by_definition(0, bytes, cut), bytes + cut, WHOLE - cut);
    for (size_t piece = 1; piece < WHOLE; piece = piece * 3 + 1) {
        uint32_t crc = 0;
        for (size_t at = 0; at < WHOLE; at += piece)
            crc = crc32c(crc, bytes + at, at + piece < WHOLE ? piece : WHOLE - at);
        assert_int_equal(crc, whole);
    }
    assert_int_equal(crc32c(whole, bytes, 0), whole);
}

/* Each bit and each exchange of two places counts. */
static void what_is_changed_is_noticed(void **state) {
    (void)state;
    uint8_t data[1100];
    memcpy(data, bytes, sizeof data);
    const uint32_t crc = crc32c(0, data, sizeof data);
    for (size_t bit = 0; bit < sizeof data * 8; bit++) {
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_not_equal(crc32c(0, data, sizeof data), crc);
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_int_equal(crc32c(0, data, sizeof data), crc);
}

static void nothing_is_read_outside(void **state) {
    (void)state;
    const size_t page = page_bytes();
    uint8_t *pages = mmap(NULL, 4 * page, PROT_NONE, MAP_PRIVATE | MAP_ANON, -1, 0);
    assert_true(pages != MAP_FAILED);
    uint8_t *data = pages + page, *end = data + 2 * page;
    assert_ok(mprotect(data, 2 * page, PROT_READ | PROT_WRITE));
    memcpy(data, bytes, 2 * page);
    for (size_t len = 0; len <= 2 * page; len += len < 300 ? 1 : 101) {
        all_ways_say(by_definition(0, end - len, len), 0, end - len, len);
        all_ways_say(by_definition(0, data, len), 0, data, len);
    }
    assert_ok(munmap(pages, 4 * page));
}

enum { THREADS = 8, SHARED_BYTES = 40000 };
static uint32_t shared_crc;
static _Atomic unsigned ready;

static void *first_call(void *arg) {
    (void)arg;
    for (ready++; ready < THREADS;)
        ;
    MUST(crc32c(0, bytes, SHARED_BYTES) == shared_crc);
    return NULL;
}

static int role_first(const char *path) {
    (void)path;
    pthread_t threads[THREADS];
    fill();
    shared_crc = by_definition(0, bytes, SHARED_BYTES);
    for (unsigned i = 0; i < THREADS; i++)
        MUST(pthread_create(&threads[i], NULL, first_call, NULL) == 0);
    for (unsigned i = 0; i < THREADS; i++)
        MUST(pthread_join(threads[i], NULL) == 0);
    return 0;
}

static void the_first_calls_of_many_threads_agree(void **state) {
    (void)state;
    for (unsigned i = 0; i < 20; i++)
        assert_ok(role_result("first", ""));
}

int main(int argc, char **argv) {
    static const struct role roles[] = {{"first", role_first}};
    const int rc = run_role(argc, argv, roles, 1);
    if (rc >= 0) return rc;
    const struct CMUnitTest tests[] = {
        TEST(published_values),
        TEST(the_processor_has_its_instructions_on_x86),
        TEST(short_ranges_at_each_alignment),
        TEST(long_ranges),
        TEST(pieces_make_the_whole),
        TEST(what_is_changed_is_noticed),
        TEST(nothing_is_read_outside),
        TEST(the_first_calls_of_many_threads_agree),
    };
    fill();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
