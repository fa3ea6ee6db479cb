/* figures.c -- the library's own figures in a file of counters.
 *
 *     threads' cells --sum--> total - published --add--> the file's counter --> published
 *
 * The background does so each moment (runtime.c), the last time is at unpublish or at exit: then the
 * gauges become 0. What is published is remembered for the OS process, not for the file: each event is
 * in one file, once. */
#include "core/figures.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/fence.h"
#include "core/runtime.h"
#include "os/os.h"
#include "store/counters.h"

enum { EXIT_WAIT_MS = 2000, SIGN_OF_LIFE_S = 10, TIME = EMMAP_FIGURE_PUBLISHED_SECONDS };
#define NO_COUNTER UINT64_MAX

struct publisher {
    struct emmap_counters *counters;
    uint64_t pid;                         /* a forked child's copy publishes nothing */
    uint64_t counter[EMMAP_FIGURE_COUNT]; /* of the file; NO_COUNTER: a file without this one */
    uint64_t gauge[EMMAP_FIGURE_COUNT];   /* as it was put; under publish_lock, as the rest */
    bool is_put[EMMAP_FIGURE_COUNT];
    bool has_ended; /* at exit: the gauges are 0, and stay so */
    int error;
};

static const struct emmap_counter figures[] = {
#define AS_COUNTER(id, name, type, unit, help) {"emmap_" #name, unit, help, EMMAP_##type},
    EMMAP_FIGURES(AS_COUNTER)
#undef AS_COUNTER
};

/* Written under publish_lock, or in a child, which has one thread; NULL in no order: nothing comes with it. */
static struct publisher *publisher_of(struct runtime *rt) {
    return atomic_load_explicit(&rt->publisher, memory_order_acquire);
}

/* ------------------------------------------------------------------------------- publishing */

/* Adds what is new. What could not be added is so the next time: a page that cannot be had may be
 * there again. */
static int add_news(struct runtime *rt, const struct publisher *p, unsigned i, uint64_t total) {
    const uint64_t news = total - rt->published[i];
    int64_t old;
    const int rc = emmap_counters_fetch(p->counters, p->counter[i], EMMAP_ADD, (int64_t)news, &old);
    if (rc == 0) rt->published[i] = total;
    return rc;
}

static int put_gauge(struct publisher *p, unsigned i, uint64_t value) {
    const int rc = emmap_counters_put(p->counters, p->counter[i], (int64_t)value);
    p->is_put[i] = rc == 0;
    p->gauge[i] = value;
    return rc;
}

/* A page that nothing is written to is not written to the disk, either. */
static bool is_news(const struct runtime *rt, const struct publisher *p, unsigned i,
                    uint64_t value) {
    if (p->counter[i] == NO_COUNTER || i == TIME) return false;
    if (!figures_is_gauge(i)) return rt->published[i] != value;
    return !p->has_ended && (!p->is_put[i] || p->gauge[i] != value);
}

/* The time of whatever is new; where nothing is, it shows from time to time that somebody is there. */
static int put_time(struct runtime *rt, struct publisher *p, bool any) {
    const uint64_t now = os_wall_ms() / 1000;
    const uint64_t ago = now - atomic_load(&rt->published_seconds); /* or set back: very long */
    int rc = 0;
    if (!any && ago < SIGN_OF_LIFE_S) return 0;
    if (p->counter[TIME] != NO_COUNTER) rc = put_gauge(p, TIME, now);
    if (rc == 0) atomic_store(&rt->published_seconds, now);
    return rc;
}

static int first_of(int first, int rc) {
    return first ? first : rc;
}

/* Under publish_lock. */
static int publish(struct runtime *rt, struct publisher *p) {
    uint64_t totals[EMMAP_FIGURE_COUNT];
    bool any = false;
    int first = 0;
    figures_totals(totals);
    for (unsigned i = 0; i < EMMAP_FIGURE_COUNT; i++) {
        if (!is_news(rt, p, i, totals[i])) continue;
        const int rc =
            figures_is_gauge(i) ? put_gauge(p, i, totals[i]) : add_news(rt, p, i, totals[i]);
        any = true;
        first = first_of(first, rc);
    }
    if (first == 0) first = first_of(first, put_time(rt, p, any));
    p->error = first;
    return first;
}

/* Under publish_lock. What was so is so no more, but for when it was. */
static int clear_gauges(struct publisher *p) {
    int first = 0;
    for (unsigned i = 0; i < EMMAP_FIGURE_COUNT; i++)
        if (figures_is_gauge(i) && i != TIME && p->counter[i] != NO_COUNTER)
            first = first_of(first, put_gauge(p, i, 0));
    return first;
}

/* Under publish_lock: the last time. */
static int publish_last(struct runtime *rt, struct publisher *p) {
    const int rc = publish(rt, p);
    return first_of(rc, clear_gauges(p));
}

static void publish_job(struct pool_job *job) {
    (void)job;
    struct runtime *rt = runtime_get();
    pthread_mutex_lock(&rt->publish_lock);
    struct publisher *p = publisher_of(rt);
    if (p) (void)publish(rt, p);
    pthread_mutex_unlock(&rt->publish_lock);
    atomic_store(&rt->publish_pending, false);
}

/* ------------------------------------------------------------------------- opening, closing */

static int fd_of(const struct publisher *p) {
    return p->counters->file->region->fd;
}

static void free_publisher(struct publisher *p) {
    if (!p) return;
    if (p->counters) (void)os_lock_byte(fd_of(p), COUNTERS_PUBLISHER_BYTE, OS_LOCK_NONE);
    emmap_counters_free(p->counters);
    free(p);
}

/* The file of a later version has more figures than there are here; and where no byte can be locked, none can
 * be added to one of an earlier version. Both are used as they are. */
static int open_counters(const char *path, struct emmap_counters **out) {
    struct emmap_counters_options options = {
        .flags = EMMAP_COUNTERS_CREATE | EMMAP_COUNTERS_UNSIGNED,
        .count = EMMAP_FIGURE_COUNT,
        .counters = figures,
    };
    const int rc = emmap_counters_open(out, path, &options);
    if (rc != EMMAP_E_DIFFERS && rc != EMMAP_E_NOTSUP) return rc;
    options = (struct emmap_counters_options){.count = 0};
    return emmap_counters_open(out, path, &options);
}

static int find_counters(struct publisher *p) {
    const uint32_t flags = p->counters->flags;
    bool any = false;
    if (!(flags & EMMAP_COUNTERS_UNSIGNED) || (flags & EMMAP_COUNTERS_STRIPED))
        return EMMAP_E_DIFFERS;
    for (unsigned i = 0; i < EMMAP_FIGURE_COUNT; i++) {
        const char *name = figures[i].name;
        const int rc = emmap_counters_find(p->counters, name, strlen(name), &p->counter[i]);
        if (rc && rc != -EDOM) return rc;
        if (rc) p->counter[i] = NO_COUNTER;
        any = any || rc == 0;
    }
    return any ? 0 : EMMAP_E_DIFFERS;
}

static int new_publisher(const char *path, struct publisher **out) {
    struct publisher *p = calloc(1, sizeof *p);
    if (!p) return -ENOMEM;
    p->pid = os_pid();
    int rc = open_counters(path, &p->counters);
    if (rc) goto free_it;
    rc = find_counters(p);
    if (rc) goto free_counters;
    rc = os_lock_byte(fd_of(p), COUNTERS_PUBLISHER_BYTE, OS_LOCK_WRITE);
    if (rc == -EAGAIN) rc = EMMAP_E_LOCKED;
    if (rc && rc != -EOPNOTSUPP) goto free_counters;
    *out = p;
    return 0;

free_counters:
    emmap_counters_free(p->counters); /* and the lock, which we have not */
free_it:
    free(p);
    return rc;
}

/* Is this what is published into? Another name of it is it, too; one that was deleted is not. */
static bool is_file_of(const struct publisher *p, const char *path) {
    const struct inode *inode = p->counters->file->region->inode;
    struct os_stat there;
    return os_stat(path, &there) == 0 && there.dev == inode->dev && there.ino == inode->ino;
}

/* In its stead; what was published before is freed. */
static int begin(struct runtime *rt, struct publisher *p) {
    pthread_mutex_lock(&rt->publish_lock);
    struct publisher *before = publisher_of(rt);
    if (before) (void)publish(rt, before);
    const int rc = publish(rt, p);
    struct publisher *loser = rc == 0 ? before : p;
    if (loser) (void)clear_gauges(loser);
    if (rc == 0) {
        if (!rt->publish_job.run) rt->publish_job.run = publish_job;
        /* pairs with runtime.c: acquire publisher */
        store_release(&rt->publisher, p);
    }
    pthread_mutex_unlock(&rt->publish_lock);
    free_publisher(loser);
    return rc;
}

static int publish_again(struct runtime *rt, struct publisher *p) {
    pthread_mutex_lock(&rt->publish_lock);
    const int rc = publish(rt, p);
    pthread_mutex_unlock(&rt->publish_lock);
    return rc;
}

/* The background may be at it, and wait for a disk that does not answer: that keeps no one from
 * ending for long. */
static void at_exit(void) {
    struct runtime *rt = runtime_get();
    if (os_mutex_lock_until(&rt->publish_lock, os_now_ms() + EXIT_WAIT_MS)) return;
    struct publisher *p = publisher_of(rt);
    if (p && p->pid == os_pid()) {
        (void)publish_last(rt, p);
        p->has_ended = true;
    }
    pthread_mutex_unlock(&rt->publish_lock);
}

/* A forked child would keep its parent's lock, by the descriptor and by the mapping. */
static void in_child(void) {
    struct runtime *rt = runtime_get();
    struct publisher *p = publisher_of(rt);
    pthread_mutex_init(&rt->publisher_lock, NULL);
    pthread_mutex_init(&rt->publish_lock, NULL);
    atomic_store_explicit(&rt->publisher, NULL, memory_order_relaxed);
    if (!p) return;
    struct emmap_region *region = p->counters->file->region;
    const int fd = atomic_exchange(&region->fd, -1);
    void *at;
    (void)os_map(region->map, region->map_bytes, region->prot, OS_MAP_ANON | OS_MAP_FIXED, -1, 0,
                 &at);
    if (fd >= 0) (void)os_close(fd);
}

static void watch_ends(void) {
    (void)atexit(at_exit);
    (void)pthread_atfork(NULL, NULL, in_child);
}

int emmap_stats_publish(const char *path) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct runtime *rt;
    struct publisher *p = NULL;
    int rc = runtime_ready(&rt);
    if (rc) return rc;
    (void)pthread_once(&once, watch_ends);
    pthread_mutex_lock(&rt->publisher_lock);
    struct publisher *now = publisher_of(rt);
    if (now && is_file_of(now, path)) {
        rc = publish_again(rt, now);
    } else {
        rc = new_publisher(path, &p);
        if (rc == 0) rc = begin(rt, p);
    }
    pthread_mutex_unlock(&rt->publisher_lock);
    return rc;
}

int emmap_stats_unpublish(void) {
    struct runtime *rt = runtime_get();
    pthread_mutex_lock(&rt->publisher_lock);
    pthread_mutex_lock(&rt->publish_lock);
    struct publisher *p = publisher_of(rt);
    const int rc = p ? publish_last(rt, p) : 0;
    atomic_store_explicit(&rt->publisher, NULL, memory_order_relaxed);
    pthread_mutex_unlock(&rt->publish_lock);
    free_publisher(p);
    pthread_mutex_unlock(&rt->publisher_lock);
    return rc;
}

int emmap_stats_error(void) {
    struct runtime *rt = runtime_get();
    pthread_mutex_lock(&rt->publish_lock);
    const struct publisher *p = publisher_of(rt);
    const int rc = p ? p->error : 0;
    pthread_mutex_unlock(&rt->publish_lock);
    return rc;
}
