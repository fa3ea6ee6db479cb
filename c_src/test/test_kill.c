/* test_kill.c -- a call on a mapped file or on simple counters is cut after each of its stores and calls of
 * the system in turn, in an OS process of its own. What the next one finds is what was before or what
 * should be after, or, word by word, either; and it goes on with it. (Counters: test_kill_counters;
 * the queue: test_queue_kill.) */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "store/simple_counters_layout.h"
#include "test/kill_file.h"
#include "test/support.h"

enum { BYTES = 20000, MORE_BYTES = 21000, COUNTERS = 40, WRITE_OFF = 3601, WRITE_BYTES = 1003 };

static char path[600];
static uint64_t *told; /* calls that were answered; seen by the victim and by who looks */

/* ------------------------------------------------------------------------- as the next one */

static const char *content_is_wrong(struct emmap_file *file, uint64_t from, uint64_t to,
                                    bool (*is_right)(const uint8_t *, uint64_t, uint64_t)) {
    static uint8_t buf[MORE_BYTES];
    uint64_t got;
    if (emmap_file_read(file, from, buf, to - from, &got) || got != to - from) return "unreadable";
    return is_right(buf, from, to - from) ? NULL : "other bytes";
}

static bool is_zero_there(const uint8_t *bytes, uint64_t off, uint64_t len_bytes) {
    (void)off;
    return is_zero(bytes, len_bytes);
}

/* Its size is one of the two; of what was there, as much as fits is there; zeros behind. */
static const char *file_is_wrong(uint64_t before, uint64_t after, uint64_t kept) {
    struct emmap_file *file;
    const uint64_t size = file_bytes_of(path);
    if (size != before && size != after) return "another size";
    if (size == 0) return NULL;
    if (emmap_file_open(&file, path, &(struct emmap_file_options){.flags = RW}, NULL))
        return "it cannot be opened";
    if (kept > size) kept = size;
    const char *wrong = kept ? content_is_wrong(file, 0, kept, is_pattern) : NULL;
    if (!wrong && size > kept) wrong = content_is_wrong(file, kept, size, is_zero_there);
    emmap_file_free(file);
    return wrong;
}

static void make_plain(void) {
    make_file(path, BYTES);
}

static struct emmap_file *open_plain(uint32_t flags, uint64_t len_bytes) {
    struct emmap_file *file = NULL;
    MUST(open_file(&file, path, RW | flags, 0, len_bytes) == 0);
    return file;
}

static void create(void) {
    emmap_file_free(open_plain(EMMAP_CREATE, BYTES));
}
static const char *created_is_wrong(void) {
    if (!file_exists(path)) return NULL;
    const char *wrong = file_is_wrong(0, BYTES, 0);
    if (wrong) return wrong;
    create();
    return file_is_wrong(BYTES, BYTES, 0);
}

static void resize_to(uint64_t bytes) {
    uint64_t now;
    struct emmap_file *file = open_plain(0, 0);
    MUST(emmap_file_resize(file, bytes, &now) == 0);
    emmap_file_free(file);
}
static void grow(void) {
    resize_to(MORE_BYTES);
}
static void shrink(void) {
    resize_to(BYTES / 2);
}
static void stretch(void) {
    emmap_file_free(open_plain(EMMAP_FIT, MORE_BYTES));
}
static const char *grown_is_wrong(void) {
    return file_is_wrong(BYTES, MORE_BYTES, BYTES);
}
static const char *shrunk_is_wrong(void) {
    return file_is_wrong(BYTES, BYTES / 2, BYTES);
}

/* The last step of open: what was there becomes zeros, in one or in many. */
static void truncate_all(void) {
    emmap_file_free(open_plain(EMMAP_TRUNCATE, MORE_BYTES));
    told[0] = 1;
}

static bool is_cleared(const uint8_t *bytes, uint64_t off, uint64_t len_bytes) {
    for (uint64_t i = 0; i < len_bytes; i++)
        if (bytes[i] != 0 && (told[0] || off + i >= BYTES || bytes[i] != pattern(off + i)))
            return false;
    return true;
}

static const char *truncated_is_wrong(void) {
    const uint64_t size = file_bytes_of(path);
    if (size == 0) return NULL;
    if (size == BYTES) return file_is_wrong(BYTES, BYTES, BYTES);
    if (size != MORE_BYTES) return "another size";
    struct emmap_file *file = open_plain(0, 0);
    const char *wrong = content_is_wrong(file, 0, MORE_BYTES, is_cleared);
    emmap_file_free(file);
    return wrong;
}

static uint8_t other(uint64_t i) {
    return (uint8_t)~pattern(i);
}

/* Twice; the first is answered, the second is not. */
static void write_bytes(void) {
    static uint8_t bytes[WRITE_BYTES];
    struct emmap_file *file = open_plain(0, 0);
    for (uint64_t i = 0; i < WRITE_BYTES; i++)
        bytes[i] = other(WRITE_OFF + i);
    MUST(emmap_file_write(file, WRITE_OFF, bytes, WRITE_BYTES) == 0);
    told[0] = 1;
    emmap_file_free(file);
}

static bool is_either(const uint8_t *bytes, uint64_t off, uint64_t len_bytes) {
    for (uint64_t i = 0; i < len_bytes; i++) {
        const bool is_new = bytes[i] == other(off + i);
        if (!is_new && (told[0] || bytes[i] != pattern(off + i))) return false;
    }
    return true;
}

static const char *written_is_wrong(void) {
    struct emmap_file *file = open_plain(0, 0);
    const uint64_t end = WRITE_OFF + WRITE_BYTES;
    const char *wrong = content_is_wrong(file, 0, WRITE_OFF, is_pattern);
    if (!wrong) wrong = content_is_wrong(file, WRITE_OFF, end, is_either);
    if (!wrong) wrong = content_is_wrong(file, end, BYTES, is_pattern);
    emmap_file_free(file);
    return wrong;
}

static void write_behind_the_end(void) {
    static const uint8_t bytes[MORE_BYTES - BYTES];
    struct emmap_file *file = open_plain(EMMAP_EXTEND, 0);
    MUST(emmap_file_write(file, BYTES, bytes, sizeof bytes) == 0);
    emmap_file_free(file);
}

/* ---------------------------------------------------------------------------------- counters */

static struct emmap_file *open_counters(uint64_t n) {
    struct emmap_file *file = NULL;
    uint64_t found;
    MUST(emmap_simple_counters_open(&file, path, n, &found) == 0);
    MUST(found == COUNTERS);
    return file;
}

static void make_counters(void) {
    emmap_file_free(open_counters(COUNTERS));
}

/* Counter i is at told[i], or one more where nobody was answered yet. */
static const char *values_are_wrong(void) {
    struct emmap_file *file = open_counters(0);
    const char *wrong = NULL;
    bool between = false;
    for (uint64_t i = 0; i < COUNTERS && !wrong; i++) {
        int64_t value;
        if (emmap_file_load(file, emmap_simple_counters_off(i), &value)) wrong = "unreadable";
        if (!wrong && value == (int64_t)told[i] + 1 && !between)
            between = true;
        else if (!wrong && value != (int64_t)told[i])
            wrong = "another value";
    }
    emmap_file_free(file);
    return wrong;
}

/* Nobody ever sees half of it, and what a killed one left does not stop the next. */
static const char *new_counters_are_wrong(void) {
    const uint64_t size = sizeof(struct emmap_disk_simple_counters) + 8 * COUNTERS;
    if (file_exists(path) && file_bytes_of(path) != size) return "half of it";
    make_counters();
    return values_are_wrong();
}

static void add(void) {
    struct emmap_file *file = open_counters(COUNTERS);
    for (uint64_t i = 0; i < COUNTERS; i++) {
        int64_t old;
        const enum emmap_fetch fetch = i % 2 ? EMMAP_ADD : EMMAP_XOR;
        MUST(emmap_file_fetch(file, emmap_simple_counters_off(i), fetch, 1, &old) == 0 && old == 0);
        told[i]++;
    }
    emmap_file_free(file);
}

static void store(void) {
    struct emmap_file *file = open_counters(0);
    for (uint64_t i = 0; i < COUNTERS; i++) {
        int64_t old;
        if (i % 2)
            MUST(emmap_file_store(file, emmap_simple_counters_off(i), 1) == 0);
        else
            MUST(emmap_file_cas(file, emmap_simple_counters_off(i), 0, 1, &old) == 0);
        told[i]++;
    }
    emmap_file_free(file);
}

/* ------------------------------------------------------------------------------------ all */

static const struct kill_file_case cases[] = {
    {"a file is made", NULL, create, .wrong = created_is_wrong},
    {"a file grows", make_plain, grow, .wrong = grown_is_wrong},
    {"a file is stretched", make_plain, stretch, .wrong = grown_is_wrong},
    {"a file shrinks", make_plain, shrink, .wrong = shrunk_is_wrong},
    {"a file is truncated", make_plain, truncate_all, .wrong = truncated_is_wrong},
    {"bytes are written", make_plain, write_bytes, .wrong = written_is_wrong},
    {"bytes are written behind the end", make_plain, write_behind_the_end, .wrong = grown_is_wrong},
    {"simple counters are made", NULL, make_counters, .wrong = new_counters_are_wrong},
    {"simple counters are added to", make_counters, add, .wrong = values_are_wrong},
    {"simple counters are set", make_counters, store, .wrong = values_are_wrong},
};

static void any_store_may_be_the_last(void **state) {
    (void)state;
    if (THREAD_SANITIZER) skip(); /* of one thread */
    snprintf(path, sizeof path, "%s", support_path("f"));
    told = kill_file_told(COUNTERS * sizeof *told);
    const uint64_t states =
        kill_file_cases(cases, sizeof cases / sizeof *cases, 1, told, COUNTERS * sizeof *told);
    munmap(told, COUNTERS * sizeof *told);
    print_message("kill states: %llu of %llu\n", (unsigned long long)states,
                  (unsigned long long)states);
}

int main(void) {
    const struct CMUnitTest tests[] = {TEST(any_store_may_be_the_last)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
