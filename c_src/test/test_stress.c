/* test_stress.c -- readers, writers, resizers, openers and closers on one file at once, while
 * another OS process truncates and regrows it. EMMAP_STRESS_SECONDS says how long (2).
 *
 *     +----------------------------------+---------------------------------------+
 *     | stable: a page to each writer    | cut off and grown again all the time  |
 *     +----------------------------------+---------------------------------------+
 *     0                                  STABLE_PAGES                 MOST_PAGES
 *
 * What a write into the stable part acknowledged must be there, at once and in the end. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/os.h"
#include "test/support.h"

enum { WRITERS = 2, STABLE_PAGES = 8, MOST_PAGES = 300, WORDS = 40 };

static uint64_t page, until_ms;
static char path[512];
static _Atomic unsigned long long counts[8];
enum { READS, WRITES, VOLATILE, RESIZES, OPENS, CLOSED_SEEN, CUTS_SEEN };

static bool going(void) {
    return os_now_ms() < until_ms;
}

static void count(unsigned what) {
    atomic_fetch_add_explicit(&counts[what], 1, memory_order_relaxed);
}

static uint64_t next_random(uint64_t *seed) {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* Answers that the volatile part may give while its end moves. */
static bool may_answer(int rc) {
    if (rc == EMMAP_E_TRUNCATED) count(CUTS_SEEN);
    if (rc == EMMAP_E_CLOSED) count(CLOSED_SEEN);
    return rc == 0 || rc == EMMAP_E_PAST_END || rc == EMMAP_E_TRUNCATED || rc == EMMAP_E_CLOSED ||
           rc == -EIO;
}

/* -------------------------------------------------------- a handle that is closed under others */

struct shared {
    struct emmap_file *file;
    unsigned users;
    bool retired;
};
static struct shared *current;
static pthread_mutex_t current_lock = PTHREAD_MUTEX_INITIALIZER;

static struct shared *take(void) {
    pthread_mutex_lock(&current_lock);
    struct shared *shared = current;
    shared->users++;
    pthread_mutex_unlock(&current_lock);
    return shared;
}

static void give(struct shared *shared) {
    pthread_mutex_lock(&current_lock);
    const bool last = --shared->users == 0 && shared->retired;
    pthread_mutex_unlock(&current_lock);
    if (!last) return;
    emmap_file_free(shared->file);
    free(shared);
}

static void put_new(void) {
    struct shared *fresh = calloc(1, sizeof *fresh);
    MUST(fresh && open_file(&fresh->file, path, RW, 0, 0) == 0);
    pthread_mutex_lock(&current_lock);
    struct shared *old = current;
    current = fresh;
    if (old) old->users++;
    pthread_mutex_unlock(&current_lock);
    if (!old) return;
    MUST(emmap_file_close(old->file) == 0); /* under its users' feet */
    pthread_mutex_lock(&current_lock);
    old->retired = true;
    pthread_mutex_unlock(&current_lock);
    give(old);
}

/* ------------------------------------------------------------------------------ the threads */

struct worker {
    uint64_t seed;
    unsigned lane;
    uint64_t last; /* of a writer: what is to be found in its page */
};

/* Each record is the same word many times over. */
static void *write_stable(void *arg) {
    struct worker *w = arg;
    uint64_t record[WORDS], back[WORDS], got;
    struct emmap_file *own;
    MUST(open_file(&own, path, RW, 0, 0) == 0);
    while (going()) {
        const uint64_t word = w->last + 1;
        for (unsigned i = 0; i < WORDS; i++)
            record[i] = word;
        const bool through_shared = next_random(&w->seed) % 8 == 0;
        struct shared *shared = through_shared ? take() : NULL;
        const int rc =
            emmap_file_write(shared ? shared->file : own, w->lane * page, record, sizeof record);
        if (shared) give(shared);
        if (through_shared && rc == EMMAP_E_CLOSED) {
            count(CLOSED_SEEN);
            continue; /* written or not: the next one has the same word */
        }
        MUST(rc == 0);
        w->last = word;
        count(WRITES);
        MUST(emmap_file_read(own, w->lane * page, back, sizeof back, &got) == 0);
        MUST(got == sizeof back && memcmp(back, record, sizeof back) == 0);
    }
    emmap_file_free(own);
    return NULL;
}

static void *use_volatile(void *arg) {
    struct worker *w = arg;
    uint8_t *buf = malloc(64 * page);
    uint64_t got;
    struct emmap_file *own;
    MUST(open_file(&own, path, RW, 0, 0) == 0);
    while (going()) {
        struct shared *shared = next_random(&w->seed) % 8 == 0 ? take() : NULL;
        struct emmap_file *file = shared ? shared->file : own;
        const uint64_t off =
            STABLE_PAGES * page + next_random(&w->seed) % ((MOST_PAGES - STABLE_PAGES) * page);
        const uint64_t len = next_random(&w->seed) % 4 ? 100 : 64 * page;
        int rc;
        if (next_random(&w->seed) % 2)
            rc = emmap_file_read(file, off, buf, len, &got);
        else
            rc = emmap_file_write(file, off, buf, len);
        MUST(may_answer(rc));
        count(VOLATILE);
        if (shared) give(shared);
    }
    emmap_file_free(own);
    free(buf);
    return NULL;
}

/* Of the stable part every read must be good, whatever happens behind it. */
static void *read_stable(void *arg) {
    struct worker *w = arg;
    uint64_t record[WORDS], got;
    struct emmap_file *own;
    MUST(open_file(&own, path, EMMAP_SHARED, 0, 0) == 0);
    uint64_t seen[WRITERS] = {0};
    while (going()) {
        const unsigned lane = (unsigned)(next_random(&w->seed) % WRITERS);
        MUST(emmap_file_read(own, lane * page, record, sizeof record, &got) == 0);
        MUST(got == sizeof record);
        uint64_t oldest = UINT64_MAX;
        for (unsigned i = 0; i < WORDS; i++)
            if (record[i] < oldest) oldest = record[i];
        MUST(oldest >= seen[lane]); /* no zeros in between, nothing older */
        seen[lane] = oldest;
        count(READS);
    }
    emmap_file_free(own);
    return NULL;
}

static void *resize_and_reopen(void *arg) {
    struct worker *w = arg;
    struct emmap_file_info info;
    while (going()) {
        struct shared *shared = take();
        const uint64_t pages =
            STABLE_PAGES + next_random(&w->seed) % (MOST_PAGES - STABLE_PAGES + 1);
        MUST(may_answer(emmap_file_resize(shared->file, pages * page, NULL)));
        count(RESIZES);
        MUST(may_answer(emmap_file_info(shared->file, &info)));
        if (next_random(&w->seed) % 64 == 0)
            MUST(may_answer(emmap_file_sync_range(shared->file, 0, pages * page)));
        give(shared);
        if (next_random(&w->seed) % 8) continue;
        put_new();
        count(OPENS);
    }
    return NULL;
}

static int role_truncater(const char *name) {
    uint64_t seed = (uint64_t)getpid() * 2654435761u + 1;
    const uint64_t size = page_bytes();
    say();
    while (!heard()) {
        const uint64_t pages = STABLE_PAGES + next_random(&seed) % (MOST_PAGES - STABLE_PAGES + 1);
        MUST(truncate(name, (off_t)(pages * size)) == 0);
    }
    return 0;
}

static void all_at_once_keeps_what_was_acknowledged(void **state) {
    (void)state;
    void *(*const runs[])(void *) = {write_stable, write_stable, read_stable,
                                     use_volatile, use_volatile, resize_and_reopen};
    enum { THREADS = sizeof runs / sizeof *runs };
    const char *seconds = getenv("EMMAP_STRESS_SECONDS");
    pthread_t threads[THREADS];
    struct worker workers[THREADS];
    struct emmap_stats stats;
    page = page_bytes();
    strcpy(path, support_path("f"));
    make_file(path, 0);
    assert_ok(truncate(path, (off_t)(STABLE_PAGES * page)));
    const unsigned descriptors = open_descriptors();
    own_faults();
    put_new();
    const struct child truncater = start_role("truncater", path);
    await_word(&truncater);

    const uint64_t seed = os_now_ms() * 2 + 1;
    until_ms = os_now_ms() + (seconds ? strtoull(seconds, NULL, 10) : 2) * 1000;
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.seed = seed + i * 1000003, .lane = i};
        assert_ok(pthread_create(&threads[i], NULL, runs[i], &workers[i]));
    }
    for (unsigned i = 0; i < THREADS; i++)
        assert_ok(pthread_join(threads[i], NULL));
    give_word(&truncater);
    assert_ok(end_role(&truncater));

    for (unsigned lane = 0; lane < WRITERS; lane++) {
        struct snapshot end = snapshot_of(path);
        uint64_t words[WORDS];
        memcpy(words, end.bytes + lane * page, sizeof words);
        for (unsigned i = 0; i < WORDS; i++) /* the last one may have met the close */
            assert_in_range(words[i], workers[lane].last, workers[lane].last + 1);
        free(end.bytes);
    }
    emmap_file_free(current->file);
    free(current);
    current = NULL;
    await_no_regions();
    await_descriptors(descriptors);
    emmap_stats(&stats);
    print_message("seed %llu: %llu stable reads, %llu writes, %llu volatile, %llu resizes, %llu "
                  "opens, %llu closed, %llu truncated, %llu faults\n",
                  (unsigned long long)seed, counts[READS], counts[WRITES], counts[VOLATILE],
                  counts[RESIZES], counts[OPENS], counts[CLOSED_SEEN], counts[CUTS_SEEN],
                  (unsigned long long)stats.faults);
    assert_int_equal(stats.handles, 0);
    assert_true(counts[WRITES] > 0 && counts[READS] > 0 && counts[OPENS] > 0);
}

int main(int argc, char **argv) {
    static const struct role roles[] = {{"truncater", role_truncater}};
    const int rc = run_role(argc, argv, roles, 1);
    if (rc >= 0) return rc;
    const struct CMUnitTest tests[] = {
        TEST(all_at_once_keeps_what_was_acknowledged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
