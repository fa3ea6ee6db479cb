/* test_runtime.c -- what an OS process has once: a start that fails, a background that does. */
#include <errno.h>
#include <unistd.h>

#include "core/runtime.h"
#include "os/os.h"
#include "test/support.h"

enum { FILE_BYTES = 10000 };

static int role_start(const char *path) {
    static const struct {
        enum os_call call;
        unsigned nth;
    } starts[] = {
        {OS_CALL_STAY_LOADED, 1}, {OS_CALL_ON_FAULT, 1}, {OS_CALL_THREAD, 1}, {OS_CALL_THREAD, 2}};
    struct emmap_file *file = NULL;
    uint8_t byte;
    const unsigned descriptors = open_descriptors();
    for (unsigned i = 0; i < sizeof starts / sizeof *starts; i++) {
        os_fail_at(starts[i].call, starts[i].nth, ENOMEM, 0);
        MUST(open_file(&file, path, RW, 0, 0) == -ENOMEM);
        MUST(os_fail_seen(starts[i].call) == starts[i].nth);
        MUST(open_descriptors() == descriptors);
    }
    os_fail_never();
    MUST(open_file(&file, path, RW, 0, 0) == 0);
    MUST(os_fail_seen(OS_CALL_THREAD) == 1); /* the other one has been running */
    MUST(truncate(path, 0) == 0);
    MUST(read_byte(file, FILE_BYTES - 1, &byte) == EMMAP_E_TRUNCATED);
    emmap_file_free(file);
    await_no_regions();
    return 0;
}

static void a_start_that_fails_is_begun_again(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, FILE_BYTES);
    assert_ok(role_result("start", path));
}

static unsigned maps_failed;

static void fail_maps(struct pool_job *job) {
    (void)job;
    os_fail_at(OS_CALL_MAP, 1, ENOMEM, 1);
}

static void fail_no_more(struct pool_job *job) {
    (void)job;
    maps_failed = os_fail_seen(OS_CALL_MAP);
    os_fail_never();
}

/* The background cannot put zeros in place of the file: it stays mapped until the free. */
static void close_stands_a_full_table_of_maps(void **state) {
    (void)state;
    static struct pool_job fail_job = {.run = fail_maps}, end_job = {.run = fail_no_more};
    const char *path = support_path("f");
    uint8_t byte;
    make_file(path, FILE_BYTES);
    const unsigned descriptors = open_descriptors();
    struct emmap_file *file = must_open(path, RW, 0);
    pool_run(&fail_job);
    assert_ok(emmap_file_close(file));
    assert_int_equal(read_byte(file, 0, &byte), EMMAP_E_CLOSED);
    emmap_file_free(file);
    pool_run(&end_job);
    await_no_regions();
    await_descriptors(descriptors);
    file = must_open(path, RW, 0); /* and the jobs have run */
    emmap_file_free(file);
    await_no_regions();
    assert_int_equal(maps_failed, 1);
}

enum { JOB_THREADS = 4, JOBS = 5000 };
struct numbered_job {
    struct pool_job job;
    unsigned thread, number;
};
static struct numbered_job jobs[JOB_THREADS][JOBS];
static unsigned jobs_run[JOB_THREADS], out_of_order; /* of the background thread, until pool_wait */

static void count_job(struct pool_job *job) {
    const struct numbered_job *counted = (struct numbered_job *)(void *)job; /* its first member */
    out_of_order += counted->number != jobs_run[counted->thread];
    jobs_run[counted->thread]++;
}

static void *hand_over_jobs(void *arg) {
    struct numbered_job *own = arg;
    for (unsigned i = 0; i < JOBS; i++) {
        own[i] = (struct numbered_job){
            .job = {.run = count_job},
            .thread = (unsigned)(own - jobs[0]) / JOBS,
            .number = i,
        };
        pool_run(&own[i].job);
        if (i % 500 == 0) os_sleep_ms(1); /* the background runs out of jobs, and waits */
    }
    return NULL;
}

static void each_job_is_run_once_and_in_order(void **state) {
    (void)state;
    struct runtime *rt;
    pthread_t threads[JOB_THREADS];
    assert_ok(runtime_ready(&rt));
    for (int i = 0; i < JOB_THREADS; i++)
        assert_ok(pthread_create(&threads[i], NULL, hand_over_jobs, jobs[i]));
    for (int i = 0; i < JOB_THREADS; i++)
        assert_ok(pthread_join(threads[i], NULL));
    (void)pool_wait();
    assert_false(pool_wait());
    assert_int_equal(out_of_order, 0);
    for (int i = 0; i < JOB_THREADS; i++)
        assert_int_equal(jobs_run[i], JOBS);
}

enum { MOMENT_WAIT_MS = 10000 };
static _Atomic int moment_passed; /* 0: still waiting */

static void await_moment(struct pool_job *job) {
    (void)job;
    const uint32_t before = atomic_load(&runtime_get()->moment);
    int ms = 0;
    while (ms++ < MOMENT_WAIT_MS && atomic_load(&runtime_get()->moment) == before)
        os_sleep_ms(1);
    atomic_store(&moment_passed, atomic_load(&runtime_get()->moment) != before ? 1 : -1);
}

/* Else what was once found in memory would count as being there as long as a large file is unmapped.
 */
static void moments_pass_while_the_background_works(void **state) {
    (void)state;
    static struct pool_job job = {.run = await_moment};
    const char *path = support_path("f");
    make_file(path, FILE_BYTES);
    struct emmap_file *file = must_open(path, RW, 0);
    pool_run(&job);
    while (atomic_load(&moment_passed) == 0)
        os_sleep_ms(1);
    assert_int_equal(atomic_load(&moment_passed), 1);
    emmap_file_free(file);
    await_no_regions();
}

int main(int argc, char **argv) {
    static const struct role roles[] = {{"start", role_start}};
    const int rc = run_role(argc, argv, roles, 1);
    if (rc >= 0) return rc;
    const struct CMUnitTest tests[] = {
        TEST(a_start_that_fails_is_begun_again),
        TEST(close_stands_a_full_table_of_maps),
        TEST(each_job_is_run_once_and_in_order),
        TEST(moments_pass_while_the_background_works),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
