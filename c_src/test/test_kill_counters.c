/* test_kill_counters.c -- a call on counters is cut after each of its stores and calls of the system in turn.
 * The next one, and who has had the file open meanwhile, finds names that are whole, as many counters as
 * somebody published, values that were acknowledged or are one step further; and no number that was
 * acknowledged is given again, in this boot or in another. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "store/counters.h"
#include "test/kill_file.h"
#include "test/support.h"

enum { MOST = 12, FIRST = 3, SECOND = 5, THIRD = 8, NUMBERS = 0, STEPS = 6 };
enum { CREATE = EMMAP_COUNTERS_CREATE };

static char path[600];

/* Seen by the victim and by who looks. */
static struct {
    uint64_t count;      /* what somebody was told */
    int64_t value[MOST]; /* as acknowledged */
    int64_t step;        /* what a value that nobody was told of may be more */
    int64_t next;        /* all numbers below it were given */
    uint64_t asked;      /* numbers that were asked for by who may have been killed */
} * told;

static const struct emmap_counter names[THIRD] = {
    {.name = "requests", .unit = "requests", .help = "What was asked for.", .type = EMMAP_COUNTER},
    {.name = "größe", .unit = "bytes"},
    {.name = "latency", .unit = "seconds"},
    {.name = "new", .help = "of the first extension"},
    {.name = "newer", .unit = "n", .type = EMMAP_COUNTER},
    {.name = "later"},
    {.name = "still later", .unit = "of all", .help = "and more"},
    {.name = "last"},
};

/* The kind of file that all of this is done with. */
static uint32_t flags;
static bool is_named;
static const uint8_t *boot;
static const uint8_t boots[][16] = {{1}, {2}, {3}};

static struct emmap_counters *open_with(uint64_t count) {
    struct emmap_counters *c = NULL;
    const struct emmap_counters_options options = {
        .flags = flags | CREATE, .count = count, .counters = is_named && count ? names : NULL};
    os_pretend_boot(boot);
    MUST(emmap_counters_open(&c, path, &options) == 0);
    return c;
}

static void make_three(void) {
    emmap_counters_free(open_with(FIRST));
    told->count = FIRST;
}

/* -------------------------------------------------------------------------------------- what is there */

static const char *name_is_wrong(struct emmap_counters *c, uint64_t i) {
    struct emmap_counter has;
    uint64_t found;
    if (emmap_counters_name(c, i, &has)) return "a name cannot be read";
    if (strcmp(has.name, names[i].name) != 0) return "another name";
    if (strcmp(has.unit, names[i].unit ? names[i].unit : "") != 0) return "another unit";
    if (strcmp(has.help, names[i].help ? names[i].help : "") != 0) return "another help";
    if (has.type != names[i].type) return "another type";
    if (emmap_counters_find(c, has.name, strlen(has.name), &found) || found != i)
        return "a name is not found";
    return NULL;
}

static const char *count_is_wrong(struct emmap_counters *c, uint64_t *count) {
    struct emmap_counters_info info;
    if (emmap_counters_info(c, &info)) return "it tells nothing";
    *count = info.count;
    if (*count != FIRST && *count != SECOND && *count != THIRD) return "a count of nobody";
    return *count < told->count ? "fewer than were acknowledged" : NULL;
}

/* At most one is ahead of what was acknowledged. */
static const char *values_are_wrong(struct emmap_counters *c, uint64_t count) {
    bool between = false;
    for (uint64_t i = 0; i < count; i++) {
        int64_t value;
        if (emmap_counters_get(c, i, &value)) return "a value cannot be read";
        if (value == told->value[i]) continue;
        if (between || value != told->value[i] + told->step) return "another value";
        between = true;
    }
    return NULL;
}

static const char *all_is_wrong(struct emmap_counters *c) {
    uint64_t count = 0;
    const char *wrong = count_is_wrong(c, &count);
    for (uint64_t i = 0; i < count && is_named && !wrong; i++)
        wrong = name_is_wrong(c, i);
    return wrong ? wrong : values_are_wrong(c, count);
}

static const char *opened_is_wrong(void) {
    struct emmap_counters *c = open_with(0);
    const char *wrong = all_is_wrong(c);
    emmap_counters_free(c);
    return wrong;
}

/* Then the same is done once more, and done. */
static const char *is_wrong_with(uint64_t count) {
    const char *wrong = file_exists(path) ? opened_is_wrong() : NULL;
    if (wrong) return wrong;
    if (file_exists(path) || told->count == 0) emmap_counters_free(open_with(count));
    told->count = count;
    return opened_is_wrong();
}

/* ------------------------------------------------------------------------------- made, and extended */

static const char *made_is_wrong(void) {
    return is_wrong_with(FIRST);
}

static void have_values(void) {
    struct emmap_counters *c = open_with(FIRST);
    told->count = FIRST;
    for (uint64_t i = 0; i < FIRST; i++) {
        told->value[i] = 100 + (int64_t)i;
        MUST(emmap_counters_put(c, i, told->value[i]) == 0);
    }
    emmap_counters_free(c);
}

static void extend(void) {
    emmap_counters_free(open_with(SECOND));
    told->count = SECOND;
    emmap_counters_free(open_with(THIRD));
    told->count = THIRD;
}

static const char *extended_is_wrong(void) {
    return is_wrong_with(THIRD);
}

/* Behind the end is what an extension with other names has left, that was cut off, and others' values. */
static void have_leftovers(void) {
    static uint8_t junk[(THIRD - FIRST) * 2048];
    have_values();
    const int fd = open(path, O_RDWR | O_APPEND);
    memset(junk, 0xA5, sizeof junk);
    MUST(write(fd, junk, sizeof junk) == sizeof junk);
    close(fd);
}

static struct emmap_counters *kept;
static void keep_open(void) {
    kept = open_with(0);
}

static const char *kept_is_wrong(void) {
    return all_is_wrong(kept);
}

/* ---------------------------------------------------------------------------------- values change */

/* Each way to come from 0 to 1. */
static void change(void) {
    struct emmap_counters *c = open_with(0);
    told->step = 1;
    for (uint64_t i = 0; i < THIRD; i++) {
        static const enum emmap_fetch fetches[] = {EMMAP_ADD, EMMAP_XOR,      EMMAP_OR,
                                                   EMMAP_MAX, EMMAP_EXCHANGE, EMMAP_ADD};
        int64_t old = 0;
        if (i == 0)
            MUST(emmap_counters_put(c, i, 1) == 0);
        else if (i == 1)
            MUST(emmap_counters_cas(c, i, 0, 1, &old) == 0);
        else
            MUST(emmap_counters_fetch(c, i, fetches[i - 2], 1, &old) == 0);
        MUST(old == 0);
        told->value[i] = 1;
    }
    MUST(emmap_counters_sync(c) == 0);
    emmap_counters_free(c);
}

static void make_eight(void) {
    emmap_counters_free(open_with(THIRD));
    told->count = THIRD;
}

static void count_in_cells(void) {
    struct emmap_counters *c = open_with(0);
    told->step = 3;
    for (uint64_t i = 0; i < THIRD; i++) {
        int64_t none;
        MUST(emmap_counters_fetch(c, i, i % 2 ? EMMAP_SUB : EMMAP_ADD, i % 2 ? -3 : 3, &none) == 0);
        told->value[i] = 3;
    }
    MUST(emmap_counters_sync(c) == 0);
    emmap_counters_free(c);
}

/* A sync has failed: the next opener writes all anew. */
static void have_a_failed_sync(void) {
    have_values();
    struct emmap_counters *c = open_with(0);
    os_fail_at(OS_CALL_SYNC, 1, 5, 0);
    MUST(emmap_counters_sync(c) == EMMAP_E_SYNC_FAILED);
    os_fail_never();
    emmap_counters_free(c);
}

static void open_only(void) {
    emmap_counters_free(open_with(0));
}

/* ------------------------------------------------------------------------------ numbers are allocated */

static const uint64_t amounts[STEPS] = {1, 600, 1500, 7, 5000, 900};

static int64_t allocate(struct emmap_counters *c, uint64_t n) {
    int64_t first;
    told->asked = n;
    MUST(emmap_counters_allocate(c, NUMBERS, n, &first) == 0);
    MUST(first >= told->next);
    told->next = first + (int64_t)n;
    told->asked = 0;
    return first;
}

/* Some are given from what is on the disk, some wait for it, some raise it ahead of time. */
static void allocate_some(void) {
    struct emmap_counters *c = open_with(0);
    for (unsigned i = 0; i < STEPS; i++)
        (void)allocate(c, amounts[i]);
    emmap_counters_free(c);
}

static uint64_t word_at(uint64_t off) {
    uint64_t word;
    const int fd = open(path, O_RDONLY);
    MUST(pread(fd, &word, sizeof word, (off_t)off) == sizeof word);
    close(fd);
    return word;
}

static uint64_t key_of(int64_t value) {
    return (uint64_t)value ^ (flags & EMMAP_COUNTERS_UNSIGNED ? 0 : UINT64_C(1) << 63);
}

/* Whatever the power took, reserved was on the disk before a number below it was given. */
static const char *words_are_wrong(struct emmap_counters *c) {
    const uint64_t at = counters_off(c, NUMBERS);
    const uint64_t reserved = word_at(at + offsetof(struct emmap_disk_counter, reserved));
    const uint64_t durable = word_at(at + offsetof(struct emmap_disk_counter, durable));
    if (durable > reserved) return "more may be given than is reserved";
    return told->next > 0 && key_of(told->next) > reserved ? "given, and not reserved" : NULL;
}

static const char *numbers_are_wrong_in(struct emmap_counters *c) {
    int64_t value;
    const char *wrong = words_are_wrong(c);
    if (wrong) return wrong;
    if (emmap_counters_get(c, NUMBERS, &value) || value < told->next) return "would be given again";
    return NULL;
}

/* In the same boot nothing is skipped, but what was asked for by who was killed. */
static const char *numbers_are_wrong(void) {
    struct emmap_counters *c = open_with(0);
    const int64_t next = told->next, most = next + (int64_t)told->asked;
    const char *wrong = numbers_are_wrong_in(c);
    const int64_t first = wrong ? 0 : allocate(c, 1);
    if (!wrong && FILES_ARE_KNOWN && first != next && first != most) wrong = "numbers were skipped";
    emmap_counters_free(c);
    return wrong;
}

static const char *numbers_are_wrong_later(void) {
    const char *wrong = numbers_are_wrong();
    if (wrong) return wrong;
    const uint64_t reserved =
        word_at(COUNTERS_DATA_OFF + offsetof(struct emmap_disk_counter, reserved));
    boot = boots[2];
    struct emmap_counters *c = open_with(0);
    wrong = numbers_are_wrong_in(c);
    if (!wrong && FILES_ARE_KNOWN && key_of(allocate(c, 1)) != reserved)
        wrong = "what was reserved was not skipped";
    emmap_counters_free(c);
    return wrong;
}

static const char *kept_gives_others(void) {
    const char *wrong = numbers_are_wrong_in(kept);
    if (!wrong) (void)allocate(kept, 1);
    return wrong;
}

/* ---------------------------------------------------------------------------------- another boot */

static void write_word(uint64_t off, uint64_t word) {
    const int fd = open(path, O_RDWR);
    MUST(pwrite(fd, &word, sizeof word, (off_t)off) == sizeof word);
    close(fd);
}

/* Of the words of two counters that were allocated from the disk has what was reserved, and old values. */
static void have_lost_power(void) {
    boot = boots[0];
    make_three();
    allocate_some();
    struct emmap_counters *c = open_with(0);
    for (uint64_t i = 0; i < 2; i++) {
        int64_t first;
        if (i > 0) MUST(emmap_counters_allocate(c, i, 1, &first) == 0);
        write_word(counters_off(c, i), 0);
    }
    emmap_counters_free(c);
}

static void recover(void) {
    boot = boots[1];
    struct emmap_counters *c = open_with(0);
    for (unsigned i = 0; i < 3; i++)
        (void)allocate(c, 1000);
    emmap_counters_free(c);
}

/* Who was killed in the midst of it is of the same boot as the next one. */
static const char *recovered_is_wrong(void) {
    boot = boots[1];
    struct emmap_counters *c = open_with(0);
    int64_t other;
    const char *wrong = numbers_are_wrong_in(c);
    if (!wrong) (void)allocate(c, 1);
    if (!wrong && (emmap_counters_allocate(c, 1, 1, &other) || other < 1))
        wrong = "of the second one would be given again";
    emmap_counters_free(c);
    if (wrong) return wrong;
    boot = boots[2];
    c = open_with(0);
    wrong = numbers_are_wrong_in(c);
    emmap_counters_free(c);
    return wrong;
}

static void recover_and_extend(void) {
    boot = boots[1];
    emmap_counters_free(open_with(SECOND));
    told->count = SECOND;
}

/* ----------------------------------------------------------------------------------------- all */

static const struct kill_file_case made[] = {
    {"counters are made", NULL, make_three, .wrong = made_is_wrong},
};
static const struct kill_file_case extended[] = {
    {"counters are added", have_values, extend, .wrong = extended_is_wrong},
    {"counters are added while it is open", have_values, extend, extended_is_wrong, keep_open,
     kept_is_wrong},
    {"counters are added over what was left", have_leftovers, extend, .wrong = extended_is_wrong},
};
static const struct kill_file_case changed[] = {
    {"counters are changed", make_eight, change, .wrong = opened_is_wrong},
    {"counters are changed while it is open", make_eight, change, opened_is_wrong, keep_open,
     kept_is_wrong},
    {"all is written anew", have_a_failed_sync, open_only, .wrong = opened_is_wrong},
};
static const struct kill_file_case striped[] = {
    {"striped counters are changed", make_eight, count_in_cells, opened_is_wrong, keep_open,
     kept_is_wrong},
};
static const struct kill_file_case allocated[] = {
    {"numbers are allocated", make_three, allocate_some, .wrong = numbers_are_wrong},
    {"numbers are allocated, and the machine starts again", make_three, allocate_some,
     .wrong = numbers_are_wrong_later},
    {"numbers are allocated while it is open", make_three, allocate_some, numbers_are_wrong,
     keep_open, kept_gives_others},
};
static const struct kill_file_case recovered[] = {
    {"it is opened in another boot", have_lost_power, recover, .wrong = recovered_is_wrong},
};
static const struct kill_file_case recovered_and_extended[] = {
    {"it is extended in another boot", have_lost_power, recover_and_extend,
     .wrong = recovered_is_wrong},
};

static uint64_t states;

/* All of them: minutes; of many a sample, where it is asked for. */
static uint64_t every(void) {
    const char *text = getenv("EMMAP_KILL_EVERY");
    const long n = text ? strtol(text, NULL, 10) : SANITIZER ? 61 : 1;
    return n > 0 ? (uint64_t)n : 1;
}

#define CUT(cases, of_flags, named) cut(cases, sizeof cases / sizeof *cases, of_flags, named)
static void cut(const struct kill_file_case *cases, unsigned n, uint32_t of_flags, bool named) {
    flags = of_flags;
    is_named = named;
    boot = NULL;
    snprintf(path, sizeof path, "%s", support_path("f"));
    if (!told) told = kill_file_told(sizeof *told);
    states += kill_file_cases(cases, n, every(), told, sizeof *told);
}

static void any_store_of_making_may_be_the_last(void **state) {
    (void)state;
    if (THREAD_SANITIZER) skip(); /* of one thread */
    CUT(made, 0, false);
    CUT(made, 0, true);
    CUT(made, EMMAP_COUNTERS_STRIPED, true);
}

static void any_store_of_extending_may_be_the_last(void **state) {
    (void)state;
    if (THREAD_SANITIZER || !FILES_ARE_KNOWN) skip();
    CUT(extended, 0, false);
    CUT(extended, EMMAP_COUNTERS_PADDED, true);
}

static void any_store_of_a_change_may_be_the_last(void **state) {
    (void)state;
    if (THREAD_SANITIZER) skip();
    CUT(changed, EMMAP_COUNTERS_UNSIGNED, false);
    CUT(changed, 0, true);
    CUT(striped, EMMAP_COUNTERS_STRIPED, false);
}

static void any_store_of_allocating_may_be_the_last(void **state) {
    (void)state;
    if (THREAD_SANITIZER) skip();
    CUT(allocated, 0, false);
    CUT(allocated, EMMAP_COUNTERS_UNSIGNED, true);
}

static void any_store_of_a_recovery_may_be_the_last(void **state) {
    (void)state;
    if (THREAD_SANITIZER) skip();
    CUT(recovered, 0, false);
    CUT(recovered, EMMAP_COUNTERS_UNSIGNED, true);
    if (FILES_ARE_KNOWN) CUT(recovered_and_extended, 0, true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(any_store_of_making_may_be_the_last),
        TEST(any_store_of_extending_may_be_the_last),
        TEST(any_store_of_a_change_may_be_the_last),
        TEST(any_store_of_allocating_may_be_the_last),
        TEST(any_store_of_a_recovery_may_be_the_last),
    };
    const int status = cmocka_run_group_tests(tests, NULL, NULL);
    printf("kill states: %llu of %llu\n", (unsigned long long)states, (unsigned long long)states);
    return status;
}
