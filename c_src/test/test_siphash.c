/* test_siphash.c -- the hash of names against published values; its seed. */
#include <string.h>

#include "core/siphash.h"
#include "os/os.h"
#include "test/support.h"

/* https://cr.yp.to/siphash/siphash-20120918.pdf, appendix A, and the reference implementation's vectors. */
static void published_values(void **state) {
    (void)state;
    static const uint64_t values[16] = {
        0x726fdb47dd0e0e31, 0x74f839c593dc67fd, 0x0d6c8009d9a94f5a, 0x85676696d7fb7e2d,
        0xcf2794e0277187b7, 0x18765564cd99a68d, 0xcbc9466e58fee3ce, 0xab0200f58b01d137,
        0x93f5f5799a932462, 0x9e0082df0ba9e4b0, 0x7a5dbbc594ddb9f3, 0xf4b32f46226bada7,
        0x751e8fbc860ee5fb, 0x14ea5627c0843d90, 0xf723ca908e7af2ee, 0xa129ca6149be45e5};
    const struct siphash_seed seed = {{0x0706050403020100, 0x0f0e0d0c0b0a0908}};
    uint8_t data[16];
    for (uint8_t i = 0; i < 16; i++)
        data[i] = i;
    for (size_t len = 0; len < 16; len++)
        assert_true(siphash(&seed, data, len) == values[len]);
}

static void each_seed_is_another(void **state) {
    (void)state;
    struct siphash_seed a, b;
    siphash_seed(&a);
    siphash_seed(&b);
    assert_memory_not_equal(&a, &b, sizeof a);
    assert_true(siphash(&a, "name", 4) != siphash(&b, "name", 4));
    os_fail_at(OS_CALL_RANDOM, 1, 5, 0);
    siphash_seed(&a);
    os_fail_never();
    assert_true(a.word[0] == 0 && a.word[1] == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(published_values),
        TEST(each_seed_is_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
