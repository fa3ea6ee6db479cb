/* runtime.c -- start, adoption, the background threads. */
#include "core/runtime.h"

#include <errno.h>

#include "core/charge.h"
#include "core/fence.h"
#include "core/region.h"
#include "os/os.h"

enum { POOL_WAIT_MS = 1000, MOMENT_MS = 400 };

static struct runtime own = {
    .abi = EMMAP_RUNTIME_ABI,
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .pool_lock = PTHREAD_MUTEX_INITIALIZER,
    .pool_wake = PTHREAD_COND_INITIALIZER,
    .moment_lock = PTHREAD_MUTEX_INITIALIZER,
    .moment_wake = PTHREAD_COND_INITIALIZER,
    .publisher_lock = PTHREAD_MUTEX_INITIALIZER,
    .publish_lock = PTHREAD_MUTEX_INITIALIZER,
};

_Thread_local struct thread this_thread;

struct runtime *runtime_current = &own;

/* All jobs that there are, the first one first; waits for one. */
static struct pool_job *take_jobs(struct runtime *rt) {
    pthread_mutex_lock(&rt->pool_lock);
    while (!atomic_load_explicit(&rt->pool_jobs, memory_order_relaxed))
        pthread_cond_wait(&rt->pool_wake, &rt->pool_lock);
    pthread_mutex_unlock(&rt->pool_lock);
    /* pairs with pool_run: release pool_jobs */
    struct pool_job *last = atomic_exchange_explicit(&rt->pool_jobs, NULL, memory_order_acquire);
    struct pool_job *first = NULL;
    while (last) {
        struct pool_job *before = last->next;
        last->next = first;
        first = last;
        last = before;
    }
    return first;
}

static void pool_main(void *arg) {
    struct runtime *rt = arg;
    for (;;) {
        for (struct pool_job *job = take_jobs(rt), *next; job; job = next) {
            next = job->next; /* its memory may be gone when it has run */
            job->run(job);
            fetch_sub_release(&rt->pool_pending, 1);
        }
    }
}

/* By a job, which may wait for the disk. One that has not ended since the last moment is left alone. */
static void publish(struct runtime *rt) {
    /* pairs with store/figures.c: release publisher */
    if (!atomic_load_explicit(&rt->publisher, memory_order_acquire)) return;
    if (!atomic_exchange(&rt->publish_pending, true)) pool_run(&rt->publish_job);
}

/* A thread of its own: a job may take any time, and meanwhile what was found of pages grows old. */
static void moments_main(void *arg) {
    struct runtime *rt = arg;
    for (;;) {
        pthread_mutex_lock(&rt->moment_lock);
        while (atomic_load_explicit(&rt->regions, memory_order_relaxed) == 0)
            pthread_cond_wait(&rt->moment_wake, &rt->moment_lock);
        pthread_mutex_unlock(&rt->moment_lock);
        os_sleep_ms(MOMENT_MS);
        atomic_fetch_add_explicit(&rt->moment, 1, memory_order_relaxed);
        publish(rt);
    }
}

/* Under the lock: whoever has seen no region yet waits by now, or sees this one. */
void moments_begin(void) {
    struct runtime *rt = runtime_current;
    pthread_mutex_lock(&rt->moment_lock);
    pthread_cond_signal(&rt->moment_wake);
    pthread_mutex_unlock(&rt->moment_lock);
}

static bool pool_has_work(const struct runtime *rt) {
    return atomic_load_explicit(&rt->pool_pending, memory_order_acquire) > 0;
}

bool pool_wait(void) {
    const struct runtime *rt = runtime_current;
    if (!pool_has_work(rt)) return false;
    for (int i = 0; i < POOL_WAIT_MS && pool_has_work(rt); i++)
        os_sleep_ms(1);
    return true;
}

/* One garbage collection may hand over thousands of jobs: no lock, and no one is woken, but for the
 * first. Whoever takes all jobs has seen none, under the lock, before it waits for that signal. */
void pool_run(struct pool_job *job) {
    struct runtime *rt = runtime_current;
    atomic_fetch_add_explicit(&rt->pool_pending, 1, memory_order_relaxed);
    struct pool_job *before = atomic_load_explicit(&rt->pool_jobs, memory_order_relaxed);
    do
        job->next = before;
    while (!cas_weak_release(&rt->pool_jobs, &before, job));
    if (before) return; /* and the job may have run, and be gone */
    pthread_mutex_lock(&rt->pool_lock);
    pthread_cond_signal(&rt->pool_wake);
    pthread_mutex_unlock(&rt->pool_lock);
}

int runtime_ready(struct runtime **out) {
    struct runtime *rt = runtime_current;
    int rc = 0;
    pthread_mutex_lock(&rt->lock);
    if (!rt->ready) {
        rt->page_bytes = os_page_bytes();
        rc = os_stay_loaded();
        if (rc == 0) rc = os_on_fault(region_on_fault);
        /* The threads last: they cannot be taken back. */
        if (rc == 0 && !rt->moments_pass) rc = os_thread(moments_main, rt);
        if (rc == 0) rt->moments_pass = true;
        if (rc == 0) rc = os_thread(pool_main, rt);
        rt->ready = rc == 0;
    }
    pthread_mutex_unlock(&rt->lock);
    if (rc == 0) *out = rt;
    return rc;
}

bool runtime_adopt(struct runtime *other) {
    if (other->abi != EMMAP_RUNTIME_ABI) return false;
    runtime_current = other;
    return true;
}
