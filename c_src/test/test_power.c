/* test_power.c -- the power is cut while a store is made, used, closed, opened and recovered: each
 * promise about what is on the disk holds for every state that the disk may be in.
 *
 * EMMAP_POWER_SEED=n begins with another seed, EMMAP_POWER_ROUNDS=n tries so many of them,
 * EMMAP_POWER_MOST=n looks at so many states between two syncs; EMMAP_POWER_ONLY=pattern leaves out
 * the tests of other names, EMMAP_POWER_TABLE=1 tells the figures of each. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/os.h"
#include "test/power_store.h"
#include "test/support.h"

static struct power_run run;
static unsigned seed, rounds;

static unsigned from_environment(const char *name, unsigned otherwise) {
    const char *value = getenv(name);
    return value && *value ? (unsigned)strtoul(value, NULL, 10) : otherwise;
}

/* A history is made where the system knows a file again; its states are laid in memory where that may
 * be: none needs a disk to be looked at. */
static bool make_folders(void) {
    const char *tmp = getenv("TMPDIR");
    snprintf(run.folder[0], POWER_FOLDER, "%s/emmap-power.XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(run.folder[0])) return false;
    for (unsigned i = 1; i < POWER_DEPTH + 2; i++) {
        snprintf(run.folder[i], POWER_FOLDER, "%s/emmap-power.XXXXXX", support_memory());
        if (mkdtemp(run.folder[i])) continue;
        snprintf(run.folder[i], POWER_FOLDER, "%s/emmap-power.XXXXXX", tmp && *tmp ? tmp : "/tmp");
        if (!mkdtemp(run.folder[i])) return false;
    }
    return true;
}

static int setup(void **state) {
    (void)state;
    seed = from_environment("EMMAP_POWER_SEED", 1);
    rounds = from_environment("EMMAP_POWER_ROUNDS", 1);
    run.most = from_environment("EMMAP_POWER_MOST", SANITIZER ? 30 : 300);
    return make_folders() ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    os_pretend_boot(NULL);
    print_message("power states checked: %llu, seed %u, rounds %u; %llu of %llu windows in full\n",
                  (unsigned long long)run.states, seed, rounds,
                  (unsigned long long)run.windows_in_full, (unsigned long long)run.windows);
    for (unsigned i = 0; i < POWER_DEPTH + 2; i++) {
        power_empty_folder(run.folder[i]);
        if (rmdir(run.folder[i])) return -1;
    }
    return 0;
}

static void cut_history(const char *(*history)(struct power_run *, const char *),
                        const char *name) {
    if (THREAD_SANITIZER) skip(); /* of one thread */
    os_fail_never();
    const uint64_t before = run.states, windows = run.windows, in_full = run.windows_in_full;
    for (unsigned s = seed; s < seed + rounds; s++) {
        run.rng = s * 2654435761u + 88172645463325252u;
        const char *wrong = history(&run, name);
        if (wrong) print_error("EMMAP_POWER_SEED=%u shows it\n", s);
        assert_string_equal(wrong ? wrong : "", "");
    }
    await_no_regions();
    if (getenv("EMMAP_POWER_TABLE"))
        print_message("%s: %llu states, %llu of %llu windows in full\n", name,
                      (unsigned long long)(run.states - before),
                      (unsigned long long)(run.windows_in_full - in_full),
                      (unsigned long long)(run.windows - windows));
}

#define HISTORIES(QUEUE, COUNTERS, WORDS)      \
    QUEUE(is_born)                             \
    QUEUE(is_born_and_used)                    \
    QUEUE(is_synced_by_another)                \
    QUEUE(push_sync_take)                      \
    QUEUE(crosses_a_segment)                   \
    QUEUE(grows)                               \
    QUEUE(drains)                              \
    QUEUE(reuses_its_segments)                 \
    QUEUE(closes_and_reopens)                  \
    QUEUE(is_recovered)                        \
    QUEUE(is_recovered_empty)                  \
    QUEUE(goes_on_after_a_kill)                \
    QUEUE(goes_on_after_a_recovery)            \
    QUEUE(is_recovered_after_a_kill)           \
    QUEUE(has_a_torn_tail)                     \
    QUEUE(fails_to_sync)                       \
    QUEUE(anything)                            \
    COUNTERS(are_born)                         \
    COUNTERS(are_allocated_by_another)         \
    COUNTERS(are_synced_by_another)            \
    COUNTERS(are_counted)                      \
    COUNTERS(are_extended)                     \
    COUNTERS(are_allocated)                    \
    COUNTERS(are_written_anew)                 \
    COUNTERS(anything)                         \
    WORDS(counters_are_born)                   \
    WORDS(counters_are_born_beside_a_leftover) \
    WORDS(counters_are_synced_by_another)      \
    WORDS(counters_are_counted)                \
    WORDS(file_is_made)                        \
    WORDS(file_is_made_and_a_range_synced)     \
    WORDS(file_is_synced_by_another)           \
    WORDS(file_grows)                          \
    WORDS(file_shrinks)                        \
    WORDS(file_is_truncated)                   \
    WORDS(file_is_written_anywhere)

#define QUEUE_TEST(name)                         \
    static void queue_##name(void **state) {     \
        (void)state;                             \
        cut_history(power_queue_history, #name); \
    }
#define COUNTERS_TEST(name)                           \
    static void named_counters_##name(void **state) { \
        (void)state;                                  \
        cut_history(power_counters_history, #name);   \
    }
#define WORDS_TEST(name)                         \
    static void name(void **state) {             \
        (void)state;                             \
        cut_history(power_words_history, #name); \
    }
HISTORIES(QUEUE_TEST, COUNTERS_TEST, WORDS_TEST)

int main(int argc, char **argv) {
    static const struct role roles[] = {{"power_queue_killed", power_queue_killed},
                                        {"power_queue_recovered", power_queue_recovered}};
    const int role = run_role(argc, argv, roles, sizeof roles / sizeof *roles);
    if (role >= 0) return role;
#define QUEUE_ENTRY(name) cmocka_unit_test(queue_##name),
#define COUNTERS_ENTRY(name) cmocka_unit_test(named_counters_##name),
#define WORDS_ENTRY(name) cmocka_unit_test(name),
    const struct CMUnitTest tests[] = {HISTORIES(QUEUE_ENTRY, COUNTERS_ENTRY, WORDS_ENTRY)};
    own_faults();
    const char *only = getenv("EMMAP_POWER_ONLY");
    cmocka_set_test_filter(only);
    const int failed = cmocka_run_group_tests(tests, setup, teardown);
    if (failed || run.states > 0 || THREAD_SANITIZER) return failed;
    fprintf(stderr, "no state was checked: no test is called '%s'\n", only ? only : "");
    return 1;
}
