/* test_figures.c -- what the library counts of itself: over threads, and in a file that outlives the OS
 * process. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/figures.h"
#include "core/runtime.h"
#include "os/os.h"
#include "store/queue.h"
#include "test/support.h"

enum { MINUTE_S = 60, THREADS = 4, TIMES = 500, LARGE = 200000, MS = 1000000 };

static struct emmap_stats stats_now(void) {
    struct emmap_stats stats;
    emmap_stats(&stats);
    return stats;
}

static struct emmap_queue *new_queue(const char *path) {
    const struct emmap_queue_options options = {.flags = EMMAP_QUEUE_CREATE};
    struct emmap_queue *q;
    own_faults();
    MUST(emmap_queue_open(&q, path, &options, NULL) == 0);
    return q;
}

static void push_n(struct emmap_queue *q, unsigned n) {
    for (unsigned i = 0; i < n; i++)
        MUST(emmap_queue_push(q, "message", 7, 0) == 0);
}

/* The counter of that name in a file, as somebody else sees it. */
static uint64_t counter_in(const char *path, const char *name) {
    const struct emmap_counters_options options = {.flags = EMMAP_COUNTERS_READ};
    struct emmap_counters *c;
    uint64_t i;
    int64_t value;
    MUST(emmap_counters_open(&c, path, &options) == 0);
    MUST(emmap_counters_find(c, name, strlen(name), &i) == 0);
    MUST(emmap_counters_get(c, i, &value) == 0);
    emmap_counters_free(c);
    return (uint64_t)value;
}

static uint64_t in_file(const char *path, const char *figure) {
    char name[64];
    snprintf(name, sizeof name, "emmap_%s", figure);
    return counter_in(path, name);
}

static uint64_t wall_s(void) {
    return os_wall_ms() / 1000;
}

static void end(void) {
    assert_ok(emmap_stats_unpublish());
    await_no_regions();
}

/* ------------------------------------------------------------------------------------ counting */

static void *count_and_look(void *arg) {
    for (unsigned i = 0; i < TIMES; i++) {
        figures_add(EMMAP_FIGURE_PUSHES, 1);
        MUST(stats_now().pushes > i);
    }
    return arg;
}

static void *push_and_take(void *arg) {
    struct emmap_queue *q = arg;
    char buf[16];
    uint32_t len, flags;
    for (unsigned i = 0; i < TIMES; i++) {
        MUST(emmap_queue_push(q, "message", i % 8, 0) == 0);
        if (i % 2) MUST(emmap_queue_take(q, buf, sizeof buf, &len, &flags) == 0);
    }
    return NULL;
}

static void in_threads(void *(*run)(void *), void *arg) {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_ok(pthread_create(&threads[i], NULL, run, arg));
    for (int i = 0; i < THREADS; i++)
        assert_ok(pthread_join(threads[i], NULL));
}

/* The first of all: these threads have no cells yet, and find each other's. */
static void who_looks_finds_what_new_threads_count(void **state) {
    (void)state;
    in_threads(count_and_look, NULL);
    assert_int_equal(stats_now().pushes, THREADS * TIMES);
}

/* Once what is left is taken, as much has gone out as has come in. */
static void messages_and_their_bytes_are_counted_over_threads(void **state) {
    (void)state;
    struct emmap_queue *q = new_queue(support_path("q"));
    const struct emmap_stats before = stats_now();
    char buf[16];
    uint32_t len, flags;
    in_threads(push_and_take, q);
    struct emmap_stats now = stats_now();
    const uint64_t pushes = THREADS * TIMES;
    uint64_t bytes = 0;
    for (unsigned i = 0; i < TIMES; i++)
        bytes += THREADS * (i % 8);
    assert_int_equal(now.pushes - before.pushes, pushes);
    assert_int_equal(now.push_bytes - before.push_bytes, bytes);
    assert_int_equal(now.takes - before.takes, pushes / 2);
    while (emmap_queue_take(q, buf, sizeof buf, &len, &flags) == 0)
        ;
    now = stats_now();
    assert_int_equal(now.takes - before.takes, pushes);
    assert_int_equal(now.take_bytes - before.take_bytes, bytes);
    emmap_queue_close(q);
    await_no_regions();
}

static void only_what_was_done_is_counted(void **state) {
    (void)state;
    struct emmap_queue *q = new_queue(support_path("q"));
    const struct emmap_stats before = stats_now();
    char *large = calloc(1, LARGE), buf[4];
    uint32_t len, flags;
    assert_int_equal(emmap_queue_take(q, buf, sizeof buf, &len, &flags), EMMAP_E_EMPTY);
    assert_int_equal(emmap_queue_push(q, large, 1u << 31, 0), EMMAP_E_TOO_BIG);
    assert_ok(emmap_queue_push(q, large, LARGE, 0));
    assert_int_equal(emmap_queue_take(q, buf, sizeof buf, &len, &flags), -EMSGSIZE);
    struct emmap_stats now = stats_now();
    assert_int_equal(now.pushes - before.pushes, 1);
    assert_int_equal(now.push_bytes - before.push_bytes, LARGE);
    assert_int_equal(now.takes - before.takes, 0);
    assert_ok(emmap_queue_take(q, large, LARGE, &len, &flags));
    now = stats_now();
    assert_int_equal(now.takes - before.takes, 1);
    assert_int_equal(now.take_bytes - before.take_bytes, LARGE);
    free(large);
    emmap_queue_close(q);
    await_no_regions();
}

/* A claim counts when it is acknowledged, not when it is given back. */
static void claims_are_counted_when_they_end_well(void **state) {
    (void)state;
    struct emmap_queue *q = new_queue(support_path("q"));
    const struct emmap_stats before = stats_now();
    struct queue_message message;
    char buf[16];
    push_n(q, 1);
    assert_ok(queue_claim(q, true, buf, sizeof buf, &message));
    assert_ok(queue_return(q, true, &message));
    assert_ok(queue_claim(q, true, buf, sizeof buf, &message));
    assert_int_equal(stats_now().takes - before.takes, 0);
    assert_ok(queue_ack(q, true, &message));
    assert_int_equal(stats_now().takes - before.takes, 1);
    assert_int_equal(stats_now().take_bytes - before.take_bytes, 7);
    emmap_queue_close(q);
    await_no_regions();
}

static void syncs_are_counted_and_those_that_fail(void **state) {
    (void)state;
    struct emmap_file *file = must_open(support_path("f"), RW | EMMAP_CREATE, 10000);
    const struct emmap_stats before = stats_now();
    assert_ok(emmap_file_sync(file));
    assert_ok(emmap_file_sync_range(file, 0, 10));
    os_fail_at(OS_CALL_SYNC, 1, EIO, 0);
    assert_int_equal(emmap_file_sync(file), EMMAP_E_SYNC_FAILED);
    os_fail_never();
    const struct emmap_stats now = stats_now();
    assert_int_equal(now.syncs - before.syncs, 3);
    assert_int_equal(now.sync_failures - before.sync_failures, 1);
    assert_true(now.sync_ns > before.sync_ns);
    assert_in_range(now.longest_sync_ns, 1, now.sync_ns);
    emmap_file_free(file);
    await_no_regions();
}

static void *sync_of_900_ms(void *arg) {
    (void)arg;
    figures_synced(900 * MS, 0);
    return NULL;
}

/* The longest is the longest of any thread. */
static void syncs_are_told_apart_by_how_long_they_took(void **state) {
    static const struct {
        uint64_t ns;
        unsigned in_1ms, in_10ms, in_100ms;
    } took[] = {{0, 1, 1, 1},           {MS, 1, 1, 1},          {MS + 1, 0, 1, 1},
                {10 * MS, 0, 1, 1},     {10 * MS + 1, 0, 0, 1}, {100 * MS, 0, 0, 1},
                {100 * MS + 1, 0, 0, 0}};
    (void)state;
    for (unsigned i = 0; i < sizeof took / sizeof *took; i++) {
        const struct emmap_stats before = stats_now();
        figures_synced(took[i].ns, 0);
        const struct emmap_stats now = stats_now();
        assert_int_equal(now.syncs - before.syncs, 1);
        assert_int_equal(now.sync_ns - before.sync_ns, took[i].ns);
        assert_int_equal(now.syncs_1ms - before.syncs_1ms, took[i].in_1ms);
        assert_int_equal(now.syncs_10ms - before.syncs_10ms, took[i].in_10ms);
        assert_int_equal(now.syncs_100ms - before.syncs_100ms, took[i].in_100ms);
        assert_true(now.longest_sync_ns >= took[i].ns);
    }
    in_threads(sync_of_900_ms, NULL);
    figures_synced(5, 0);
    assert_int_equal(stats_now().longest_sync_ns, 900 * MS);
}

static void *count_one(void *arg) {
    figures_add(EMMAP_FIGURE_PUSHES, 1);
    return arg;
}

static unsigned cells(void) {
    unsigned n = 0;
    const struct figure_cell *cell = atomic_load(&runtime_get()->cells);
    for (; cell; cell = cell->next)
        n++;
    return n;
}

static void threads_that_come_and_go_leave_their_counts_and_no_more(void **state) {
    (void)state;
    in_threads(count_one, NULL);
    const unsigned had = cells();
    const uint64_t before = stats_now().pushes;
    for (int i = 0; i < TIMES; i++) {
        pthread_t thread;
        assert_ok(pthread_create(&thread, NULL, count_one, NULL));
        assert_ok(pthread_join(thread, NULL));
    }
    assert_int_equal(stats_now().pushes - before, TIMES);
    assert_int_equal(cells(), had);
}

static void allocated_numbers_are_counted(void **state) {
    (void)state;
    const struct emmap_counters_options options = {.flags = EMMAP_COUNTERS_CREATE, .count = 1};
    struct emmap_counters *c;
    int64_t first;
    const uint64_t before = stats_now().allocated;
    own_faults();
    assert_ok(emmap_counters_open(&c, support_path("c"), &options));
    assert_ok(emmap_counters_allocate(c, 0, 5, &first));
    assert_int_equal(emmap_counters_allocate(c, 1, 5, &first), -EDOM);
    assert_int_equal(stats_now().allocated - before, 5);
    emmap_counters_free(c);
    await_no_regions();
}

/* ---------------------------------------------------------------------------------- publishing */

static void what_is_published_others_see(void **state) {
    (void)state;
    const char *path = support_path("figures");
    struct emmap_queue *q = new_queue(support_path("q"));
    assert_ok(emmap_stats_publish(path));
    const uint64_t before = in_file(path, "pushes");
    push_n(q, 10);
    assert_ok(emmap_stats_publish(path));
    assert_int_equal(in_file(path, "pushes") - before, 10);
    assert_true(in_file(path, "push_bytes") >= 70);
    assert_int_equal(in_file(path, "handles"), 2); /* the queue's, and this file's own */
    assert_ok(emmap_stats_publish(path));
    assert_int_equal(in_file(path, "pushes") - before, 10);
    emmap_queue_close(q);
    push_n(q = new_queue(support_path("q")), 3);
    emmap_queue_close(q);
    assert_ok(emmap_stats_unpublish()); /* a last time */
    assert_int_equal(in_file(path, "pushes") - before, 13);
    assert_ok(emmap_stats_unpublish());
    assert_ok(emmap_stats_error());
    await_no_regions();
}

static void the_background_publishes(void **state) {
    (void)state;
    const char *path = support_path("figures");
    struct emmap_queue *q = new_queue(support_path("q"));
    assert_ok(emmap_stats_publish(path));
    const uint64_t before = in_file(path, "pushes");
    push_n(q, 5);
    for (int i = 0; i < 1000 && in_file(path, "pushes") == before; i++)
        os_sleep_ms(10);
    assert_int_equal(in_file(path, "pushes") - before, 5);
    emmap_queue_close(q);
    end();
}

/* Each event is in one file. */
static void another_file_goes_on_where_the_first_ended(void **state) {
    (void)state;
    char one[512], other[512];
    strcpy(one, support_path("one"));
    strcpy(other, support_path("other"));
    struct emmap_queue *q = new_queue(support_path("q"));
    assert_ok(emmap_stats_publish(one));
    const uint64_t before = in_file(one, "pushes");
    push_n(q, 3);
    assert_ok(emmap_stats_publish(other));
    push_n(q, 4);
    assert_ok(emmap_stats_unpublish());
    push_n(q, 5);
    assert_int_equal(in_file(one, "pushes") - before, 3);
    assert_int_equal(in_file(other, "pushes"), 4);
    assert_ok(emmap_stats_publish(one));
    assert_int_equal(in_file(one, "pushes") - before, 8);
    assert_ok(unlink(one)); /* and one of that name is another one */
    push_n(q, 1);
    assert_ok(emmap_stats_publish(one));
    push_n(q, 1);
    assert_ok(emmap_stats_publish(one));
    assert_int_equal(in_file(one, "pushes"), 1);
    emmap_queue_close(q);
    end();
}

static void gauges_are_0_once_it_is_over(void **state) {
    static const char *const gauges[] = {"handles", "regions", "holds", "mapped_bytes",
                                         "longest_sync_ns"};
    (void)state;
    char one[512], other[512];
    strcpy(one, support_path("one"));
    strcpy(other, support_path("other"));
    own_faults();
    figures_synced(MS, 0);
    const uint64_t begun = wall_s();
    assert_ok(emmap_stats_publish(one));
    assert_true(in_file(one, "handles") > 0 && in_file(one, "mapped_bytes") > 0);
    assert_true(in_file(one, "longest_sync_ns") >= MS);
    assert_int_equal(emmap_stats_publish(support_path("no/folder")), -ENOENT);
    assert_true(in_file(one, "handles") > 0); /* still */
    assert_ok(emmap_stats_publish(other));
    assert_true(in_file(other, "handles") > 0 && in_file(other, "longest_sync_ns") >= MS);
    for (unsigned i = 0; i < sizeof gauges / sizeof *gauges; i++)
        assert_int_equal(in_file(one, gauges[i]), 0);
    assert_ok(emmap_stats_unpublish());
    for (unsigned i = 0; i < sizeof gauges / sizeof *gauges; i++)
        assert_int_equal(in_file(other, gauges[i]), 0);
    assert_in_range(in_file(one, "published_seconds"), begun, wall_s());
    assert_in_range(in_file(other, "published_seconds"), begun, wall_s());
    assert_in_range(stats_now().published_seconds, begun, wall_s());
    await_no_regions();
}

/* The file's own time, as the publisher would find it so many seconds after it was written. */
static uint64_t time_after(const char *path, struct emmap_counters *c, uint64_t i, uint64_t ago_s,
                           uint64_t news) {
    int64_t value;
    assert_ok(emmap_counters_put(c, i, 5));
    atomic_store(&runtime_get()->published_seconds, wall_s() - ago_s);
    figures_add(EMMAP_FIGURE_PUSHES, news);
    assert_ok(emmap_stats_publish(path));
    assert_ok(emmap_counters_get(c, i, &value));
    return (uint64_t)value;
}

/* And a page that nothing is written to stays as it is. */
static void the_time_is_written_with_what_is_new_and_now_and_then(void **state) {
    static const char name[] = "emmap_published_seconds";
    const struct emmap_counters_options options = {.flags = EMMAP_COUNTERS_UNSIGNED};
    (void)state;
    const char *path = support_path("figures");
    struct emmap_counters *c;
    uint64_t i;
    own_faults();
    assert_ok(emmap_stats_publish(path));
    assert_ok(emmap_counters_open(&c, path, &options));
    assert_ok(emmap_counters_find(c, name, strlen(name), &i));
    assert_ok(emmap_stats_publish(path)); /* this handle is news */
    const uint64_t begun = wall_s();
    assert_int_equal(time_after(path, c, i, 3, 0), 5);
    assert_in_range(time_after(path, c, i, 11, 0), begun, wall_s());
    assert_in_range(time_after(path, c, i, 3, 1), begun, wall_s());
    assert_in_range(time_after(path, c, i, -(uint64_t)MINUTE_S, 0), begun, wall_s()); /* set back */
    emmap_counters_free(c);
    end();
}

static void make_named(const char *path, uint32_t flags, const struct emmap_counter *names,
                       uint64_t count) {
    const struct emmap_counters_options options = {
        .flags = EMMAP_COUNTERS_CREATE | flags, .count = count, .counters = names};
    struct emmap_counters *c;
    int64_t old;
    own_faults();
    assert_ok(emmap_counters_open(&c, path, &options));
    assert_ok(emmap_counters_fetch(c, 0, EMMAP_ADD, 1000, &old));
    emmap_counters_free(c);
    await_no_regions();
}

/* Of an earlier version: it has fewer, and gets the others. Of a later one: it has more, and keeps them. */
static void files_of_other_versions_are_used(void **state) {
    static const struct emmap_counter old[] = {{.name = "emmap_pushes", .type = EMMAP_COUNTER}};
    static const struct emmap_counter mixed[] = {{.name = "from the future"},
                                                 {.name = "emmap_takes"}};
    (void)state;
    const char *path = support_path("old");
    make_named(path, EMMAP_COUNTERS_UNSIGNED, old, 1);
    assert_ok(emmap_stats_publish(path));
    if (FILES_ARE_KNOWN) assert_int_equal(in_file(path, "handles"), 1);
    assert_ok(emmap_stats_unpublish());
    assert_true(in_file(path, "pushes") >= 1000);
    path = support_path("later");
    make_named(path, EMMAP_COUNTERS_UNSIGNED, mixed, 2);
    struct emmap_queue *q = new_queue(support_path("q"));
    char buf[8];
    uint32_t len, flags;
    assert_ok(emmap_stats_publish(path));
    const uint64_t before = in_file(path, "takes");
    push_n(q, 1);
    assert_ok(emmap_queue_take(q, buf, sizeof buf, &len, &flags));
    assert_ok(emmap_stats_publish(path));
    assert_int_equal(in_file(path, "takes") - before, 1);
    assert_int_equal(counter_in(path, "from the future"), 1000);
    emmap_queue_close(q);
    end();
}

static void files_of_something_else_are_refused_and_stay(void **state) {
    static const struct emmap_counter pushes[] = {{.name = "emmap_pushes"}},
                                      own[] = {{.name = "own"}};
    static const struct {
        uint32_t flags;
        const struct emmap_counter *names;
    } kinds[] = {{0, pushes},
                 {EMMAP_COUNTERS_UNSIGNED | EMMAP_COUNTERS_STRIPED, pushes},
                 {EMMAP_COUNTERS_UNSIGNED, own},
                 {EMMAP_COUNTERS_UNSIGNED, NULL}};
    (void)state;
    const unsigned descriptors = open_descriptors();
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char name[20];
        snprintf(name, sizeof name, "f%u", i);
        const char *path = support_path(name);
        make_named(path, kinds[i].flags, kinds[i].names, 1);
        struct snapshot before = snapshot_of(path);
        assert_int_equal(emmap_stats_publish(path), EMMAP_E_DIFFERS);
        assert_as_before(&before);
    }
    make_file(support_path("bytes"), 10000);
    assert_int_equal(emmap_stats_publish(support_path("bytes")), EMMAP_E_FOREIGN);
    assert_int_equal(emmap_stats_publish(support_path("no/folder")), -ENOENT);
    assert_ok(emmap_stats_error());
    await_no_regions();
    await_descriptors(descriptors);
}

/* ------------------------------------------------------------------------- other OS processes */

static void publish_pushes(const char *path) {
    char queue[600];
    snprintf(queue, sizeof queue, "%s.queue.%d", path, (int)getpid());
    own_faults();
    MUST(emmap_stats_publish(path) == 0);
    struct emmap_queue *q = new_queue(queue);
    push_n(q, TIMES);
    emmap_queue_close(q);
}

static int role_publish(const char *path) {
    publish_pushes(path);
    MUST(emmap_stats_publish(path) == 0);
    say();
    return hear() ? 0 : 1;
}

/* As the background may, until the OS process is gone. */
static const char *late_path;
static void publish_late(void) {
    figures_add(EMMAP_FIGURE_PUSHES, 1);
    MUST(emmap_stats_publish(late_path) == 0);
}

/* What was not published yet is so at exit; and a handler that comes after that finds the gauges' end. */
static int role_exit(const char *path) {
    late_path = path;
    MUST(atexit(publish_late) == 0);
    publish_pushes(path);
    return 0;
}

static void counters_go_on_after_a_kill_and_a_restart(void **state) {
    (void)state;
    const char *path = support_path("figures");
    for (unsigned kills = 1; kills <= 3; kills++) {
        const struct child child = start_role("publish", path);
        await_word(&child);
        assert_int_equal(in_file(path, "handles"), 1);
        assert_ok(kill(child.pid, SIGKILL));
        assert_int_equal(end_role(&child), 256 + SIGKILL);
        assert_int_equal(in_file(path, "handles"), 1); /* nobody put it to 0 */
        assert_int_equal(in_file(path, "pushes"), kills * TIMES);
        assert_int_equal(in_file(path, "push_bytes"), kills * TIMES * 7);
    }
    for (unsigned exits = 4; exits <= 5; exits++) {
        assert_ok(role_result("exit", path));
        assert_int_equal(in_file(path, "pushes"), exits * TIMES + exits - 3);
        assert_int_equal(in_file(path, "handles"), 0);
        assert_true(wall_s() - in_file(path, "published_seconds") < MINUTE_S);
    }
    await_no_regions();
}

static void one_os_process_has_a_file(void **state) {
    (void)state;
    if (!FILES_ARE_KNOWN) skip();
    const char *path = support_path("figures");
    const struct child child = start_role("publish", path);
    await_word(&child);
    own_faults();
    assert_int_equal(emmap_stats_publish(path), EMMAP_E_LOCKED);
    assert_ok(emmap_stats_publish(support_path("own")));
    assert_int_equal(emmap_stats_publish(path), EMMAP_E_LOCKED);
    assert_ok(emmap_stats_publish(support_path("own"))); /* still */
    assert_int_equal(in_file(path, "pushes"), TIMES);
    assert_ok(kill(child.pid, SIGKILL));
    assert_int_equal(end_role(&child), 256 + SIGKILL);
    assert_ok(emmap_stats_publish(path));
    end();
    const struct child next = start_role("publish", path); /* and is let go of */
    await_word(&next);
    give_word(&next);
    assert_int_equal(end_role(&next), 0);
}

/* A child that goes on without exec has no part in it: its exit adds nothing, and keeps no lock. */
static int role_fork(const char *path) {
    publish_pushes(path);
    MUST(emmap_stats_publish(path) == 0);
    const pid_t pid = fork();
    MUST(pid >= 0);
    if (pid == 0) {
        figures_add(EMMAP_FIGURE_PUSHES, 1);
        MUST(emmap_stats_unpublish() == 0 && emmap_stats_error() == 0);
        say();
        (void)hear(); /* until the test ends it */
        exit(0);
    }
    return hear() ? 0 : 1;
}

static void a_forked_child_has_no_part_in_it(void **state) {
    (void)state;
    if (!FILES_ARE_KNOWN) skip();
    const char *path = support_path("figures");
    const struct child child = start_role("fork", path);
    await_word(&child);
    assert_ok(kill(child.pid, SIGKILL));
    int status;
    assert_int_equal(waitpid(child.pid, &status, 0), child.pid);
    own_faults();
    assert_int_equal(in_file(path, "pushes"), TIMES);
    assert_ok(emmap_stats_publish(path)); /* the child still runs */
    const uint64_t before = in_file(path, "pushes");
    give_word(&child);
    char c;
    while (read(child.socket, &c, 1) > 0) /* until it has ended */
        ;
    close(child.socket);
    assert_int_equal(in_file(path, "pushes"), before);
    end();
}

/* ------------------------------------------------------------------------------- what goes wrong */

static void a_file_cut_off_harms_nobody(void **state) {
    (void)state;
    const char *path = support_path("figures");
    struct emmap_queue *q = new_queue(support_path("q"));
    assert_ok(emmap_stats_publish(path));
    const uint64_t before = in_file(path, "pushes");
    struct snapshot whole = snapshot_of(path);
    assert_ok(truncate(path, 0));
    push_n(q, 10);
    assert_int_equal(emmap_stats_publish(path), EMMAP_E_TRUNCATED);
    assert_int_equal(emmap_stats_error(), EMMAP_E_TRUNCATED);
    push_n(q, 10);
    assert_int_equal(emmap_stats_publish(path), EMMAP_E_TRUNCATED); /* its size is known by now */
    const int fd = open(path, O_WRONLY);
    assert_int_equal(write(fd, whole.bytes, whole.len_bytes), whole.len_bytes);
    close(fd);
    free(whole.bytes);
    assert_ok(emmap_stats_publish(path));
    assert_ok(emmap_stats_error());
    assert_int_equal(in_file(path, "pushes") - before, 20); /* nothing is lost by that */
    assert_ok(truncate(path, 0));
    push_n(q, 1);
    assert_int_equal(emmap_stats_unpublish(), EMMAP_E_TRUNCATED); /* and it is over */
    assert_ok(emmap_stats_unpublish());
    emmap_queue_close(q);
    await_no_regions();
}

static void a_full_disk_harms_nobody(void **state) {
    (void)state;
    if (!FILES_ARE_KNOWN) skip();
    const char *path = support_tmpfs(100 * page_bytes());
    own_faults();
    fill_up();
    assert_int_equal(emmap_stats_publish(path), -ENOSPC);
    assert_false(file_exists(path));
    make_room();
    struct emmap_queue *q = new_queue(support_path("q"));
    assert_ok(emmap_stats_publish(path));
    const uint64_t before = in_file(path, "pushes");
    const uint64_t len = file_bytes_of(path);
    int fd;
    assert_ok(os_open(path, OS_OPEN_WRITE, 0, &fd));
    uint8_t *bytes = malloc(len);
    assert_int_equal(pread(fd, bytes, len, 0), len);
    assert_ok(os_punch(fd, 0, len));
    fill_up();
    push_n(q, 10);
    assert_int_equal(emmap_stats_publish(path), -ENOSPC);
    make_room();
    assert_int_equal(pwrite(fd, bytes, len, 0), len);
    free(bytes);
    close(fd);
    assert_ok(emmap_stats_publish(path));
    assert_int_equal(in_file(path, "pushes") - before, 10);
    emmap_queue_close(q);
    end();
}

static void any_failure_of_the_system_is_told_and_harms_nobody(void **state) {
    (void)state;
    const unsigned descriptors = open_descriptors();
    own_faults();
    for (unsigned nth = 1;; nth++) {
        const char *path = support_path("figures");
        os_fail_at(OS_CALL_ANY, nth, EIO, 0);
        const int rc = emmap_stats_publish(path);
        const bool failed = os_fail_seen(OS_CALL_ANY) >= nth;
        os_fail_never();
        if (rc) assert_ok(emmap_stats_publish(path));
        assert_ok(emmap_stats_unpublish());
        (void)unlink(path);
        if (!failed) break;
        assert_true(nth < 1000);
    }
    await_no_regions();
    await_descriptors(descriptors);
}

enum { ROUNDS = 100 };
static void *publish_and_unpublish(void *arg) {
    for (int i = 0; i < ROUNDS; i++) {
        MUST(emmap_stats_publish(arg) == 0);
        if (i % 2 == 0) MUST(emmap_stats_unpublish() == 0);
        figures_add(EMMAP_FIGURE_PUSHES, 1);
        (void)stats_now();
        (void)emmap_stats_error();
    }
    return NULL;
}

static void any_number_of_threads_publish(void **state) {
    (void)state;
    static char path[512];
    strcpy(path, support_path("figures"));
    own_faults();
    assert_ok(emmap_stats_publish(path));
    const uint64_t before = in_file(path, "pushes");
    in_threads(publish_and_unpublish, path);
    assert_ok(emmap_stats_publish(path));
    assert_int_equal(in_file(path, "pushes") - before, THREADS * ROUNDS);
    end();
}

static const struct role roles[] = {
    {"publish", role_publish}, {"exit", role_exit}, {"fork", role_fork}};

int main(int argc, char **argv) {
    const int status = run_role(argc, argv, roles, sizeof roles / sizeof *roles);
    if (status >= 0) return status;
    const struct CMUnitTest tests[] = {
        TEST(who_looks_finds_what_new_threads_count),
        TEST(messages_and_their_bytes_are_counted_over_threads),
        TEST(only_what_was_done_is_counted),
        TEST(claims_are_counted_when_they_end_well),
        TEST(syncs_are_counted_and_those_that_fail),
        TEST(syncs_are_told_apart_by_how_long_they_took),
        TEST(threads_that_come_and_go_leave_their_counts_and_no_more),
        TEST(allocated_numbers_are_counted),
        TEST(what_is_published_others_see),
        TEST(the_background_publishes),
        TEST(another_file_goes_on_where_the_first_ended),
        TEST(gauges_are_0_once_it_is_over),
        TEST(the_time_is_written_with_what_is_new_and_now_and_then),
        TEST(files_of_other_versions_are_used),
        TEST(files_of_something_else_are_refused_and_stay),
        TEST(counters_go_on_after_a_kill_and_a_restart),
        TEST(one_os_process_has_a_file),
        TEST(a_forked_child_has_no_part_in_it),
        TEST(a_file_cut_off_harms_nobody),
        TEST(a_full_disk_harms_nobody),
        TEST(any_failure_of_the_system_is_told_and_harms_nobody),
        TEST(any_number_of_threads_publish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
