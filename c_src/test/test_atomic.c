/* test_atomic.c -- integers of a mapped file: answers, refusals, and no add lost among threads,
 * OS processes and kills. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "os/os.h"
#include "store/touch.h"
#include "test/support.h"

enum { FILE_BYTES = 10000, AT = 4096, THREADS = 4, TIMES = SANITIZER ? 20000 : 200000 };

static int64_t integer(struct emmap_file *file, uint64_t off) {
    int64_t value;
    assert_ok(emmap_file_load(file, off, &value));
    return value;
}

static void each_operation_wraps_and_answers_the_old_value(void **state) {
    (void)state;
    static const struct {
        enum emmap_fetch fetch;
        int64_t old, operand, then;
    } cases[] = {
        {EMMAP_ADD, INT64_MAX, 1, INT64_MIN},      {EMMAP_ADD, INT64_MIN, -1, INT64_MAX},
        {EMMAP_ADD, INT64_MIN, INT64_MIN, 0},      {EMMAP_SUB, INT64_MIN, 1, INT64_MAX},
        {EMMAP_SUB, 0, INT64_MIN, INT64_MIN},      {EMMAP_AND, -1, 0x0f0f, 0x0f0f},
        {EMMAP_OR, INT64_MIN, 1, INT64_MIN + 1},   {EMMAP_XOR, -1, INT64_MAX, INT64_MIN},
        {EMMAP_EXCHANGE, 5, INT64_MIN, INT64_MIN},
    };
    const char *path = support_path("f");
    make_file(path, FILE_BYTES);
    struct emmap_file *file = must_open(path, RW, 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t old = 7;
        assert_ok(emmap_file_store(file, AT, cases[i].old));
        assert_ok(emmap_file_fetch(file, AT, cases[i].fetch, cases[i].operand, &old));
        assert_true(old == cases[i].old);
        assert_true(integer(file, AT) == cases[i].then);
    }
    emmap_file_free(file);
    await_no_regions();
}

static void cas_stores_only_over_what_is_expected(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, FILE_BYTES);
    struct emmap_file *file = must_open(path, RW, 0);
    int64_t old;
    assert_ok(emmap_file_store(file, AT, -5));
    assert_ok(emmap_file_cas(file, AT, 5, 6, &old));
    assert_int_equal(old, -5);
    assert_int_equal(integer(file, AT), -5);
    assert_ok(emmap_file_cas(file, AT, -5, 6, &old));
    assert_int_equal(old, -5);
    assert_int_equal(integer(file, AT), 6);
    emmap_file_free(file);
    await_no_regions();
}

/* Every call on one place: the same answer, and nothing changed. */
static void all_answer(int answer, struct emmap_file *file, uint64_t off, bool loads_too) {
    int64_t old = 99;
    for (enum emmap_fetch fetch = EMMAP_ADD; fetch <= EMMAP_EXCHANGE; fetch++)
        assert_int_equal(emmap_file_fetch(file, off, fetch, 1, &old), answer);
    assert_int_equal(emmap_file_cas(file, off, 0, 1, &old), answer);
    assert_int_equal(emmap_file_store(file, off, 1), answer);
    if (loads_too) assert_int_equal(emmap_file_load(file, off, &old), answer);
    assert_int_equal(old, 99);
}

static void impossible_places_are_refused_and_nothing_is_written(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, FILE_BYTES);
    struct snapshot before = snapshot_of(path);
    struct emmap_file *file;
    assert_ok(open_file(&file, path, RW, 3, 0));
    for (uint64_t off = 0; off < 64; off++)
        if ((off + 3) % 8 != 0) all_answer(EMMAP_E_ALIGNMENT, file, off, true);
    for (uint64_t off = FILE_BYTES - 3 - 7; off < FILE_BYTES + 9; off++)
        all_answer(EMMAP_E_PAST_END, file, off, true);
    all_answer(-EINVAL, file, (uint64_t)INT64_MAX + 1, true);
    all_answer(-EINVAL, file, UINT64_MAX - 7, true);
    emmap_file_free(file);
    file = must_open(path, EMMAP_SHARED, 0);
    all_answer(-EACCES, file, AT, false);
    assert_ok(emmap_file_close(file));
    all_answer(EMMAP_E_CLOSED, file, AT, true);
    emmap_file_free(file);
    assert_as_before(&before);
    await_no_regions();
}

/* One try of an add that may not wait, whose page is replaced right after it (and mapped back); what
 * it answers. */
static int add_beside_a_fault(struct emmap_file *file, bool healed) {
    struct touch t = {.file = file, .once = true, .wait = false};
    int64_t value;
    assert_ok(emmap_file_load(file, AT, &value)); /* known to be in memory from now on */
    int rc = touch_begin(&t, AT, sizeof(uint64_t), false);
    assert_ok(rc);
    uint8_t *at = region_at(file->region, t.from);
    (void)atomic_fetch_add((_Atomic uint64_t *)(void *)at, 1);
    assert_true(region_on_fault(at));
    if (healed) assert_ok(emmap_file_load(file, AT, &value));
    rc = touch_end(&t);
    assert_int_equal(rc, healed ? REGION_AGAIN : REGION_TOUCHED);
    assert_false(touch_again(&t, &rc));
    return rc;
}

/* -EAGAIN would have it done again on another scheduler: applied twice. */
static void an_add_that_may_have_been_done_is_never_again(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, 2 * AT);
    struct emmap_file *file = must_open(path, RW, 0);
    assert_ok(emmap_file_store(file, AT, 7));
    assert_int_equal(add_beside_a_fault(file, false), REGION_TOUCHED);
    assert_int_equal(file_word_reason(file, AT), -EIO);
    assert_int_equal(integer(file, AT), 8);
    assert_int_equal(add_beside_a_fault(file, true), -EIO);
    assert_int_equal(integer(file, AT), 9);
    emmap_file_free(file);
    await_no_regions();
}

/* It asks the file system, maps, and waits for locks: only where the caller may wait. What the handler
 * of the fault does is counted, too: it looks at the size and maps zeros. */
static void why_an_add_was_not_acknowledged_is_asked_where_it_may_wait(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, 2 * page_bytes());
    struct emmap_file *file = must_open(path, RW, 0);
    struct word_call call = {.op = WORD_FETCH, .fetch = EMMAP_ADD, .operand = 1};
    int rc = file_word(file, false, page_bytes(), &call);
    while (rc == 0) { /* known to be in memory from now on; for a moment, so perhaps once more */
        assert_ok(truncate(path, 8));
        os_fail_never();
        rc = file_word(file, false, page_bytes(), &call);
        if (rc == -EAGAIN) {
            assert_ok(truncate(path, 2 * (off_t)page_bytes()));
            rc = file_word(file, false, page_bytes(), &call);
            continue;
        }
        assert_int_equal(os_fail_seen(OS_CALL_ANY), 2);
        assert_int_equal(rc, REGION_TOUCHED);
        assert_int_equal(file_word_reason(file, page_bytes()), EMMAP_E_TRUNCATED);
    }
    emmap_file_free(file);
    await_no_regions();
}

/* Nothing is replaced for good: a call that has not touched its bytes yet goes on where it may wait.
 */
static void an_add_that_finds_its_page_replaced_is_done_where_it_may_wait(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, 2 * AT);
    struct emmap_file *file = must_open(path, RW, 0);
    assert_ok(emmap_file_store(file, AT, 7));
    assert_true(region_on_fault(region_at(file->region, AT)));
    struct word_call call = {.op = WORD_FETCH, .fetch = EMMAP_ADD, .operand = 1};
    assert_int_equal(file_word(file, false, AT, &call), -EAGAIN);
    assert_ok(file_word(file, true, AT, &call));
    assert_int_equal(call.old, 7);
    assert_int_equal(integer(file, AT), 8);
    emmap_file_free(file);
    await_no_regions();
}

/* -------------------------------------------------------------------------- several at once */

/* An increment by compare and swap. */
static void increment(struct emmap_file *file, uint64_t off) {
    int64_t expected, found;
    MUST(emmap_file_load(file, off, &expected) == 0);
    for (;;) {
        MUST(emmap_file_cas(file, off, expected, expected + 1, &found) == 0);
        if (found == expected) return;
        expected = found;
    }
}

static void *adder(void *arg) {
    struct emmap_file *file = arg;
    int64_t old;
    for (int i = 0; i < TIMES; i++) {
        MUST(emmap_file_fetch(file, AT, EMMAP_ADD, 3, &old) == 0);
        MUST(emmap_file_fetch(file, AT, EMMAP_SUB, 1, &old) == 0);
        increment(file, AT + 8);
    }
    return NULL;
}

static void threads_lose_no_add(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, FILE_BYTES);
    struct emmap_file *files[2] = {must_open(path, RW, 0), must_open(path, RW, 0)};
    pthread_t threads[THREADS];
    assert_ok(emmap_file_store(files[0], AT, 0));
    assert_ok(emmap_file_store(files[0], AT + 8, 0));
    for (int i = 0; i < THREADS; i++)
        assert_ok(pthread_create(&threads[i], NULL, adder, files[i % 2]));
    for (int i = 0; i < THREADS; i++)
        assert_ok(pthread_join(threads[i], NULL));
    assert_int_equal(integer(files[1], AT), 2 * THREADS * TIMES);
    assert_int_equal(integer(files[1], AT + 8), THREADS * TIMES);
    emmap_file_free(files[0]);
    emmap_file_free(files[1]);
    await_no_regions();
}

static int add_all(const char *path) {
    struct emmap_file *file;
    if (open_file(&file, path, RW, 0, 0)) return 1;
    (void)adder(file);
    emmap_file_free(file);
    return 0;
}

/* ----------------------------------------------------------------------- sequentially consistent */

enum { ROUNDS = SANITIZER ? 2000 : 200000, LINE = 64 };
static struct duel {
    struct emmap_file *file;
    atomic_uint begun, ended; /* rounds of the other thread */
    int64_t seen;
} duel;

static void await_round(const atomic_uint *at, unsigned round) {
    for (unsigned tries = 0; atomic_load(at) < round; tries++)
        os_pause(tries);
}

/* Stores to one integer, then loads the other. */
static int64_t store_then_load(unsigned round, uint64_t own, uint64_t other) {
    int64_t seen;
    MUST(emmap_file_store(duel.file, own, round) == 0);
    MUST(emmap_file_load(duel.file, other, &seen) == 0);
    return seen;
}

static void *duellist(void *arg) {
    (void)arg;
    for (unsigned round = 1; round <= ROUNDS; round++) {
        await_round(&duel.begun, round);
        duel.seen = store_then_load(round, AT + LINE, AT);
        atomic_store(&duel.ended, round);
    }
    return NULL;
}

/* Of two threads that store to one and load the other at least one sees what the other stored: a store
 * that waits in its core's buffer while the load behind it is done would let both miss it. */
static void stores_and_loads_have_one_order(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, FILE_BYTES);
    pthread_t thread;
    duel = (struct duel){.file = must_open(path, RW, 0)};
    assert_ok(emmap_file_store(duel.file, AT, 0));
    assert_ok(emmap_file_store(duel.file, AT + LINE, 0));
    assert_ok(pthread_create(&thread, NULL, duellist, NULL));
    unsigned missed = 0;
    for (unsigned round = 1; round <= ROUNDS; round++) {
        atomic_store(&duel.begun, round);
        for (volatile unsigned i = round % 128; i > 0; i--) /* the other begins a little later */
            continue;
        const int64_t seen = store_then_load(round, AT, AT + LINE);
        await_round(&duel.ended, round);
        missed += seen < round && duel.seen < round;
    }
    assert_ok(pthread_join(thread, NULL));
    assert_int_equal(missed, 0);
    emmap_file_free(duel.file);
    await_no_regions();
}

/* Until it is killed. What was begun and what was answered stands behind the integer. */
static int add_on(const char *path) {
    struct emmap_file *file;
    int64_t old;
    if (open_file(&file, path, RW, 0, 0)) return 1;
    for (int64_t i = 1;; i++) {
        MUST(emmap_file_store(file, AT + 16, i) == 0);
        MUST(emmap_file_fetch(file, AT, EMMAP_ADD, 2, &old) == 0);
        MUST(emmap_file_store(file, AT + 24, i) == 0);
        if (i == 1000) say();
    }
}

static void a_killed_process_has_added_what_it_was_told(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, FILE_BYTES);
    struct emmap_file *file = must_open(path, RW, 0);
    for (uint64_t off = AT; off < AT + 32; off += 8)
        assert_ok(emmap_file_store(file, off, 0));
    const struct child victim = start_role("add on", path);
    const struct child other = start_role("add", path);
    await_word(&victim);
    assert_ok(kill(victim.pid, SIGKILL));
    assert_int_equal(end_role(&victim), 256 + SIGKILL);
    (void)adder(file);
    assert_int_equal(end_role(&other), 0);
    const int64_t killed = (integer(file, AT) - 2 * 2 * TIMES) / 2;
    assert_true(integer(file, AT) % 2 == 0);
    assert_in_range(killed, integer(file, AT + 24), integer(file, AT + 16));
    assert_int_equal(integer(file, AT + 8), 2 * TIMES);
    emmap_file_free(file);
    await_no_regions();
}

static const struct role roles[] = {{"add", add_all}, {"add on", add_on}};

int main(int argc, char **argv) {
    const int status = run_role(argc, argv, roles, sizeof roles / sizeof *roles);
    if (status >= 0) return status;
    const struct CMUnitTest tests[] = {
        TEST(each_operation_wraps_and_answers_the_old_value),
        TEST(cas_stores_only_over_what_is_expected),
        TEST(impossible_places_are_refused_and_nothing_is_written),
        TEST(an_add_that_may_have_been_done_is_never_again),
        TEST(why_an_add_was_not_acknowledged_is_asked_where_it_may_wait),
        TEST(an_add_that_finds_its_page_replaced_is_done_where_it_may_wait),
        TEST(threads_lose_no_add),
        TEST(stores_and_loads_have_one_order),
        TEST(a_killed_process_has_added_what_it_was_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
