/* runtime.c -- start, adoption, the background thread. */
#include "core/runtime.h"

#include <errno.h>

#include "core/charge.h"
#include "core/region.h"
#include "os/os.h"

enum { POOL_WAIT_MS = 1000, MOMENT_MS = 400 };

static struct runtime own = {
    .abi = EMMAP_RUNTIME_ABI,
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .pool_lock = PTHREAD_MUTEX_INITIALIZER,
    .pool_last = &own.pool_first,
};

_Thread_local struct thread this_thread;

/* Changed only by runtime_adopt, while the library is being loaded and nobody else calls it. */
static struct runtime *current = &own;

struct runtime *runtime_get(void) {
    return current;
}

/* A job, or NULL when a moment has passed. Under pool_lock. */
static struct pool_job *next_job(struct runtime *rt) {
    if (!rt->pool_first) {
        if (atomic_load_explicit(&rt->regions, memory_order_relaxed) > 0)
            os_cond_wait_ms(&rt->pool_wake, &rt->pool_lock, MOMENT_MS);
        else
            pthread_cond_wait(&rt->pool_wake, &rt->pool_lock);
    }
    struct pool_job *job = rt->pool_first;
    if (job) rt->pool_first = job->next;
    if (!rt->pool_first) rt->pool_last = &rt->pool_first;
    return job;
}

static void pool_main(void *arg) {
    struct runtime *rt = arg;
    uint64_t moment_ms = os_now_ms();
    for (;;) {
        pthread_mutex_lock(&rt->pool_lock);
        struct pool_job *job = next_job(rt);
        rt->pool_busy = job != NULL;
        pthread_mutex_unlock(&rt->pool_lock);
        if (job) job->run(job);
        pthread_mutex_lock(&rt->pool_lock);
        rt->pool_busy = false;
        pthread_mutex_unlock(&rt->pool_lock);
        const uint64_t now_ms = os_now_ms();
        if (now_ms - moment_ms < MOMENT_MS) continue;
        moment_ms = now_ms;
        atomic_fetch_add_explicit(&rt->moment, 1, memory_order_relaxed);
    }
}

void pool_tick(void) {
    struct runtime *rt = current;
    pthread_mutex_lock(&rt->pool_lock);
    pthread_cond_signal(&rt->pool_wake);
    pthread_mutex_unlock(&rt->pool_lock);
}

static bool pool_has_work(struct runtime *rt) {
    pthread_mutex_lock(&rt->pool_lock);
    const bool has = rt->pool_busy || rt->pool_first;
    pthread_mutex_unlock(&rt->pool_lock);
    return has;
}

bool pool_wait(void) {
    struct runtime *rt = current;
    if (!pool_has_work(rt)) return false;
    for (int i = 0; i < POOL_WAIT_MS && pool_has_work(rt); i++)
        os_sleep_ms(1);
    return true;
}

void pool_run(struct pool_job *job) {
    struct runtime *rt = current;
    job->next = NULL;
    pthread_mutex_lock(&rt->pool_lock);
    *rt->pool_last = job;
    rt->pool_last = &job->next;
    pthread_cond_signal(&rt->pool_wake);
    pthread_mutex_unlock(&rt->pool_lock);
}

int runtime_ready(struct runtime **out) {
    struct runtime *rt = current;
    int rc = 0;
    pthread_mutex_lock(&rt->lock);
    if (!rt->ready) {
        rt->page_bytes = os_page_bytes();
        rc = os_cond_init(&rt->pool_wake);
        if (rc == 0) rc = os_stay_loaded();
        /* The thread last: it cannot be taken back. */
        if (rc == 0) rc = os_on_fault(region_on_fault);
        if (rc == 0) rc = os_thread(pool_main, rt);
        rt->ready = rc == 0;
    }
    pthread_mutex_unlock(&rt->lock);
    if (rc == 0) *out = rt;
    return rc;
}

bool runtime_adopt(struct runtime *other) {
    if (other->abi != EMMAP_RUNTIME_ABI) return false;
    current = other;
    return true;
}
