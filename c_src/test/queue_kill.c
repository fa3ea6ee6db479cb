/* queue_kill.c -- see queue_kill.h. */
#include "test/queue_kill.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/crc32c.h"
#include "os/os.h"
#include "test/kill_point.h"

enum { WRONG = 1, MORE = 100, MORE_BYTES = 900 };
enum { MOST_TOLD = 30 };
enum { ROOM = 1 << 20 };

/* What the OS processes of one run tell each other. */
static struct {
    struct kill_list before, after;
    uint64_t next_id;
    bool done; /* the operation has ended */
    char wrong[200];
} * told;

static const struct kill_operation *operation;
static const char *folder;
static char path[600];

/* ------------------------------------------------------------------------------- messages */

static uint32_t length_of(uint64_t id) {
    return (uint32_t)id;
}

static uint64_t new_id(uint32_t len_bytes) {
    return ++told->next_id << 32 | len_bytes;
}

static void append(struct kill_list *list, uint64_t id) {
    MUST(list->n < sizeof list->ids / sizeof *list->ids);
    list->ids[list->n++] = id;
}

static void remove_at(struct kill_list *list, unsigned at, unsigned n) {
    MUST(at + n <= list->n);
    memmove(&list->ids[at], &list->ids[at + n], (list->n - at - n) * sizeof *list->ids);
    list->n -= n;
}

void kill_push(struct emmap_queue *q, uint32_t len_bytes) {
    const uint64_t id = new_id(len_bytes);
    MUST(push_id(q, id, len_bytes) == 0);
    append(&told->before, id);
}

void kill_take(struct emmap_queue *q, unsigned n) {
    for (; n > 0; n--) {
        MUST(take_id(q, told->before.ids[0], length_of(told->before.ids[0])) == 0);
        remove_at(&told->before, 0, 1);
    }
}

void kill_forget(unsigned nth) {
    remove_at(&told->before, nth, 1);
}

void kill_push_all(struct emmap_queue *q, bool together) {
    static uint8_t buf[ROOM];
    struct queue_data data[64];
    uint8_t *at = buf;
    unsigned n = 0;
    while (operation->pushes[n])
        n++;
    for (unsigned i = 0; i < n; i++) {
        const uint64_t id = told->after.ids[told->after.n - n + i];
        fill_id(at, id, operation->pushes[i]);
        data[i] = (struct queue_data){.body = at, .body_bytes = operation->pushes[i]};
        at += operation->pushes[i];
    }
    uint64_t end;
    if (together) MUST(queue_push(q, true, data, n, &end) == 0);
    for (unsigned i = 0; i < n && !together; i++)
        MUST(queue_push(q, true, &data[i], 1, &end) == 0);
}

/* ------------------------------------------------------------------------- OS processes */

/* One that waits somewhere for its word. */
struct partner {
    pid_t pid;
    int to, from;
};
static struct partner test; /* in the partner: who gives it */

static void wait_here(void) {
    char c = 0;
    MUST(write(test.to, &c, 1) == 1);
    MUST(read(test.from, &c, 1) == 1);
}

static struct partner start(void (*be)(void)) {
    int to[2], from[2];
    MUST(pipe(to) == 0 && pipe(from) == 0);
    const pid_t pid = kill_child();
    if (pid == 0) {
        close(to[1]);
        close(from[0]);
        test = (struct partner){.to = from[1], .from = to[0]};
        be();
        _exit(0);
    }
    close(to[0]);
    close(from[1]);
    return (struct partner){.pid = pid, .to = to[1], .from = from[0]};
}

static bool waits(const struct partner *partner) {
    char c;
    return read(partner->from, &c, 1) == 1;
}

/* Its word; then the status that it ends with. */
static int go(const struct partner *partner) {
    const char c = 0;
    MUST(write(partner->to, &c, 1) == 1 || errno == EPIPE);
    close(partner->to);
    close(partner->from);
    return kill_status(partner->pid);
}

/* ------------------------------------------------------------------------------- the victim */

static uint64_t dies_at; /* the n-th store or call of the system */
static bool shared;      /* with a survivor */

static struct emmap_queue *open_it(uint32_t flags) {
    const bool fixed = operation->flags & KILL_FIXED;
    const struct emmap_queue_options options = {.flags =
                                                    flags | (fixed ? EMMAP_QUEUE_FIXED_SIZE : 0u),
                                                .size_bytes = fixed ? 500 << 10 : 128 << 10};
    struct emmap_queue *q = NULL;
    const int rc = emmap_queue_open(&q, path, &options, NULL);
    if (rc) {
        snprintf(told->wrong, sizeof told->wrong, "it cannot be opened: %s",
                 emmap_error_message(rc));
        _exit(WRONG);
    }
    atomic_store(&q->job_waits, true); /* nothing in the background */
    return q;
}

static uint32_t open_flags(void) {
    return operation->flags & KILL_NEW ? EMMAP_QUEUE_CREATE : 0;
}

static void be_victim(void) {
    const bool beside = shared || operation->first;
    const uint32_t flags = open_flags() | (beside ? EMMAP_QUEUE_MULTI_OS : 0u);
    struct emmap_queue *q = operation->run ? open_it(flags) : NULL;
    if (operation->before) operation->before(q);
    if (operation->run && operation->first) wait_here();
    kill_at(dies_at);
    if (operation->run)
        operation->run(q);
    else
        (void)open_it(flags);
    kill_never();
    told->done = true;
    _exit(0);
}

/* Another one, who dies before the operation begins. */
static void be_first(void) {
    struct emmap_queue *q = open_it(EMMAP_QUEUE_MULTI_OS);
    wait_here();
    operation->first(q);
}

/* ----------------------------------------------------------------------------- who looks */

static bool is_wrong(const char *what) {
    if (what) snprintf(told->wrong, sizeof told->wrong, "%s", what);
    return what != NULL;
}

/* Takes all that is there. */
static const char *take_all(struct emmap_queue *q, struct kill_list *got) {
    static uint8_t buf[ROOM], expected[ROOM];
    for (;;) {
        uint32_t len, flags;
        uint64_t id;
        const int rc = emmap_queue_take(q, buf, ROOM, &len, &flags);
        if (rc == EMMAP_E_EMPTY) return NULL;
        if (rc) return emmap_error_message(rc);
        if (len < sizeof id) return "a message is no message";
        memcpy(&id, buf, sizeof id);
        fill_id(expected, id, len);
        if (length_of(id) != len || memcmp(buf, expected, len) != 0) return "a message is damaged";
        if (got->n == sizeof got->ids / sizeof *got->ids) return "more messages than ever were";
        append(got, id);
    }
}

static bool same(const struct kill_list *a, const struct kill_list *b) {
    return a->n == b->n && memcmp(a->ids, b->ids, a->n * sizeof *a->ids) == 0;
}

/* After the operation, or before it; of several takes or pushes that are done one by one, between. */
static bool is_expected(const struct kill_list *got) {
    if (same(got, &told->after)) return true;
    if (told->done) return false;
    struct kill_list part = told->before;
    if (same(got, &part)) return true;
    if (!(operation->flags & KILL_IN_PARTS)) return false;
    for (unsigned i = 0; i < operation->takes; i++) {
        remove_at(&part, operation->from, 1);
        if (same(got, &part)) return true;
    }
    for (unsigned i = part.n; i < told->after.n; i++) {
        append(&part, told->after.ids[i]);
        if (same(got, &part)) return true;
    }
    return false;
}

static const char *tell_lists(const struct kill_list *got) {
    static char text[200];
    snprintf(text, sizeof text, "%u messages, not %u or %u, or others (first %llx)", got->n,
             told->before.n, told->after.n, (unsigned long long)(got->n ? got->ids[0] : 0));
    return text;
}

static const char *goes_on(struct emmap_queue *q) {
    struct kill_list got = {0};
    uint64_t more[MORE];
    for (unsigned i = 0; i < MORE; i++) {
        more[i] = new_id(MORE_BYTES);
        const int rc = push_id(q, more[i], MORE_BYTES);
        if (rc) return emmap_error_message(rc);
    }
    const char *wrong = take_all(q, &got);
    if (wrong) return wrong;
    if (got.n < MORE || memcmp(&got.ids[got.n - MORE], more, sizeof more) != 0)
        return "what was pushed since is not there";
    got.n -= MORE;
    if (!is_expected(&got)) return tell_lists(&got);
    if (queue_count(q) || queue_bytes(q)) return "it is empty, but does not say so";
    return NULL;
}

static void look(struct emmap_queue *q, bool in_hand) {
    if (is_wrong(queue_disagrees(q, in_hand)) || is_wrong(goes_on(q)) ||
        is_wrong(queue_disagrees(q, in_hand)))
        _exit(WRONG);
}

static void be_next(void) {
    struct emmap_queue *q = open_it(open_flags());
    if (atomic_load(&q->was_recovered) && !(operation->flags & (KILL_REBOOTED | KILL_BROKEN))) {
        is_wrong("it was recovered");
        _exit(WRONG);
    }
    look(q, false);
    _exit(0);
}

static void be_survivor(void) {
    static uint8_t buf[ROOM];
    struct emmap_queue *q = open_it(EMMAP_QUEUE_MULTI_OS);
    struct queue_message claim;
    const bool claims = operation->flags & KILL_CLAIMED;
    if (claims) MUST(queue_claim(q, true, buf, ROOM, &claim) == 0);
    wait_here();
    if (claims) MUST(queue_return(q, true, &claim) == 0);
    look(q, true);
    emmap_queue_close(q);
    told->before.n = told->after.n = 0; /* it has taken all */
    be_next();
}

/* -------------------------------------------------------------------------------- one state */

struct image {
    uint8_t *bytes;
    uint64_t len_bytes;
    struct kill_list before, after;
};

/* What a killed one was about to make, too. */
static void remove_all(void) {
    DIR *dir = opendir(folder);
    MUST(dir);
    for (struct dirent *entry; (entry = readdir(dir));)
        if (entry->d_name[0] != '.') MUST(unlinkat(dirfd(dir), entry->d_name, 0) == 0);
    closedir(dir);
}

static void put_back(const struct image *image) {
    if (operation->flags & KILL_NEW) {
        remove_all();
        return;
    }
    const int fd = open(path, O_RDWR);
    MUST(fd >= 0 && ftruncate(fd, (off_t)image->len_bytes) == 0);
    MUST(pwrite(fd, image->bytes, image->len_bytes, 0) == (ssize_t)image->len_bytes);
    close(fd);
}

/* The victim's status: it is dead. */
static int run_victim(void) {
    told->done = operation->first && operation->run;
    if (!operation->first) {
        const pid_t pid = kill_child();
        if (pid == 0) be_victim();
        return kill_status(pid);
    }
    const struct partner first = start(be_first);
    MUST(waits(&first));
    if (!operation->run) { /* it opens when the first one is dead */
        (void)go(&first);
        const pid_t pid = kill_child();
        if (pid == 0) be_victim();
        return kill_status(pid);
    }
    const struct partner victim = start(be_victim);
    const bool ready = waits(&victim);
    (void)go(&first);
    return ready ? go(&victim) : WRONG;
}

static int look_as_next(int *looked) {
    const int victim = run_victim();
    const pid_t pid = kill_child();
    if (pid == 0) be_next();
    *looked = kill_status(pid);
    return victim;
}

static int look_as_survivor(int *looked) {
    const struct partner survivor = start(be_survivor);
    const int victim = waits(&survivor) ? run_victim() : WRONG;
    *looked = go(&survivor);
    return victim;
}

/* ------------------------------------------------------------------------- all of them */

/* Not closed: a kill, or, as far as it shows, a queue at rest. */
static void make(struct image *image) {
    struct stat st;
    const pid_t pid = kill_child();
    if (pid == 0) {
        struct emmap_queue *q = open_it(EMMAP_QUEUE_CREATE);
        if (operation->make) operation->make(q);
        if (!(operation->flags & KILL_UNCLOSED)) emmap_queue_close(q);
        _exit(0);
    }
    MUST(kill_status(pid) == 0);
    const int fd = open(path, O_RDONLY);
    MUST(fd >= 0 && fstat(fd, &st) == 0);
    image->len_bytes = (uint64_t)st.st_size;
    image->bytes = malloc(image->len_bytes);
    MUST(image->bytes);
    MUST(pread(fd, image->bytes, image->len_bytes, 0) == st.st_size);
    close(fd);
    uint8_t *identity = image->bytes + QUEUE_LIVE_OFF + offsetof(struct emmap_disk_live, identity);
    if (operation->flags & KILL_BROKEN) memset(identity, 0, 8);
    if (operation->flags & KILL_REBOOTED) identity[0] ^= 1, identity[8] ^= 1;
}

static void expect(struct image *image) {
    image->before = image->after = told->before;
    remove_at(&image->after, operation->from, operation->takes);
    for (unsigned i = 0; operation->pushes && operation->pushes[i]; i++)
        append(&image->after, new_id(operation->pushes[i]));
}

/* false: the operation has ended before. */
static bool run_state(const struct image *image, uint64_t n, bool survivor,
                      struct kill_result *result) {
    int looked;
    put_back(image);
    told->wrong[0] = 0;
    told->before = image->before;
    told->after = image->after;
    shared = survivor;
    dies_at = n;
    const int victim = survivor ? look_as_survivor(&looked) : look_as_next(&looked);
    result->states++;
    if ((victim == 0 || victim == KILLED) && looked == 0)
        result->good++;
    else if (result->states - result->good < MOST_TOLD)
        printf("%s, state %llu, %s: %s (%d, %d)\n", operation->name, (unsigned long long)n,
               survivor ? "a survivor" : "the next one", told->wrong, victim, looked);
    return victim == KILLED;
}

static void run_all(const struct kill_operation *one, uint64_t first, uint64_t stride,
                    struct kill_result *result) {
    struct image image;
    operation = one;
    told->before.n = 0;
    make(&image);
    expect(&image);
    for (int survivor = 0; survivor < 2; survivor++) {
        if (survivor ? one->flags & KILL_OPEN : one->flags & (KILL_BESIDE | KILL_CLAIMED)) continue;
        uint64_t n = first;
        while (run_state(&image, n, survivor, result))
            n += stride;
    }
    free(image.bytes);
    remove_all();
}

struct kill_result kill_all(const struct kill_operation *operations, unsigned n, const char *in,
                            uint64_t first, uint64_t stride) {
    struct kill_result result = {0};
    folder = in;
    snprintf(path, sizeof path, "%s/q", folder);
    (void)crc32c(0, &result, sizeof result); /* its tables are made once, not by each child */
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(told != MAP_FAILED);
    for (unsigned i = 0; i < n; i++)
        run_all(&operations[i], first, stride, &result);
    munmap(told, sizeof *told);
    return result;
}
