/* test_stripes.c -- which writes a read notices: those to any stripe of it, and only those. */
#include "core/stripes.h"
#include "test/support.h"

static const uint64_t STRIPE_BYTES = 1u << STRIPE_SHIFT;

/* Does a read notice a write that begins and ends within it? */
static bool notices(struct stripes *stripes, uint64_t read_off, uint64_t read_len,
                    uint64_t write_off, uint64_t write_len) {
    struct stripes_seen seen, other;
    assert_true(stripes_read_begin(stripes, read_off, read_len, &seen));
    const uint32_t locked = stripes_lock(stripes, write_off, write_len, true);
    assert_int_not_equal(locked, 0);
    const bool begins = stripes_read_begin(stripes, read_off, read_len, &other);
    stripes_unlock(stripes, locked);
    const bool whole = stripes_read_end(stripes, &seen);
    assert_true(begins == whole); /* what is noticed at the end keeps one from beginning, too */
    return !whole;
}

static void a_read_notices_a_write_to_any_of_its_stripes(void **state) {
    (void)state;
    struct stripes *stripes;
    assert_ok(stripes_new(&stripes));
    for (uint64_t n = 1; n <= STRIPES; n++)
        for (uint64_t i = 0; i < n; i++) {
            const uint64_t off = 7 * STRIPE_BYTES;
            assert_true(notices(stripes, off, n * STRIPE_BYTES, off + i * STRIPE_BYTES + 5, 1));
            assert_true(notices(stripes, off + i * STRIPE_BYTES + 5, 1, off, n * STRIPE_BYTES));
        }
    assert_true(notices(stripes, STRIPE_BYTES - 1, 2, STRIPE_BYTES, 1));
    assert_true(notices(stripes, STRIPE_BYTES - 1, 2, 0, 1));
    stripes_free(stripes);
}

static void a_read_does_not_notice_a_write_beside_it(void **state) {
    (void)state;
    struct stripes *stripes;
    assert_ok(stripes_new(&stripes));
    for (uint64_t n = 1; n < STRIPES; n++) {
        assert_false(notices(stripes, STRIPE_BYTES, n * STRIPE_BYTES, STRIPE_BYTES - 1, 1));
        assert_false(notices(stripes, STRIPE_BYTES, n * STRIPE_BYTES, (n + 1) * STRIPE_BYTES, 1));
    }
    stripes_free(stripes);
}

static void a_lock_that_may_not_wait_leaves_nothing_locked(void **state) {
    (void)state;
    struct stripes *stripes;
    struct stripes_seen seen;
    assert_ok(stripes_new(&stripes));
    const uint32_t locked = stripes_lock(stripes, 2 * STRIPE_BYTES, 1, false);
    assert_int_not_equal(locked, 0);
    assert_int_equal(stripes_lock(stripes, 0, 4 * STRIPE_BYTES, false), 0);
    assert_true(stripes_read_begin(stripes, 0, 2 * STRIPE_BYTES, &seen));
    assert_true(stripes_read_begin(stripes, 3 * STRIPE_BYTES, STRIPE_BYTES, &seen));
    stripes_unlock(stripes, locked);
    assert_true(stripes_read_begin(stripes, 0, 4 * STRIPE_BYTES, &seen));
    stripes_free(stripes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_read_notices_a_write_to_any_of_its_stripes),
        TEST(a_read_does_not_notice_a_write_beside_it),
        TEST(a_lock_that_may_not_wait_leaves_nothing_locked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
