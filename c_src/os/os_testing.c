/* os_testing.c -- failure on command and the recorder; linked into test builds only. */
#include "os/os_testing.h"

#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static _Thread_local struct {
    unsigned seen[OS_CALL_COUNT + 1];
    unsigned nth;
    enum os_call call;
    int err;
    int sticky;
    const char *last;
    bool apart;   /* not one of the others */
    bool shorten; /* the call that is being made */
    bool hurry;
} failing;
_Thread_local uint64_t os_hurried_ms;

/* Set while they are at rest; a fault handler may look at it, so there is no lock. */
static struct {
    atomic_uint seen, nth, call;
    atomic_int err, sticky;
} others;

static os_recorder *recorder;
static void *recorder_ctx;
static _Atomic(os_watcher *) watcher; /* looked at by the background, too */
static void *_Atomic watcher_ctx;
int os_fs_pretended = -1;
static bool boot_pretended;
static uint8_t pretended_boot[16];

static const char *const call_names[OS_CALL_COUNT] = {
#define OS_CALL_NAME(id, name) #name,
    OS_CALLS(OS_CALL_NAME)
#undef OS_CALL_NAME
};

/* At a store or a call of the system this thread now and then lets others go first. */
static uint64_t perturbation;
__attribute__((constructor)) static void read_perturbation(void) {
    const char *seed = getenv("EMMAP_PERTURB");
    if (seed) perturbation = strtoull(seed, NULL, 10);
}
static void perturb(void) {
    static _Thread_local uint64_t rng;
    static _Atomic uint64_t threads;
    if (perturbation == 0) return;
    if (rng == 0) rng = perturbation * 2654435761u + atomic_fetch_add(&threads, 1) + 1;
    rng ^= rng << 13, rng ^= rng >> 7, rng ^= rng << 17;
    if (rng % 512 == 0) nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    if (rng % 16 == 1) sched_yield();
}

void os_fail_at(enum os_call call, unsigned nth, int err, int sticky) {
    for (unsigned i = 0; i <= OS_CALL_COUNT; i++)
        failing.seen[i] = 0;
    failing.call = call;
    failing.nth = nth;
    failing.err = err;
    failing.sticky = sticky;
    failing.last = "";
    failing.apart = true;
    failing.shorten = false;
}

void os_fail_never(void) {
    os_fail_at(OS_CALL_ANY, 0, 0, 0);
}

unsigned os_fail_seen(enum os_call call) {
    return failing.seen[call];
}

const char *os_fail_last(void) {
    return failing.last ? failing.last : "";
}

void os_fail_others_at(enum os_call call, unsigned nth, int err, int sticky) {
    others.nth = 0;
    others.seen = 0;
    others.call = call;
    others.err = err;
    others.sticky = sticky;
    others.nth = nth;
}

void os_fail_others_never(void) {
    os_fail_others_at(OS_CALL_ANY, 0, 0, 0);
}

unsigned os_fail_others_seen(void) {
    return others.seen;
}

void os_hurry(bool on) {
    failing.hurry = on;
}

/* The others, too, where they wait for what fails for good; a longer sleep is no such wait. */
bool os_hurries(unsigned ms) {
    const bool hurry = failing.apart ? failing.hurry : others.sticky && others.nth > 0 && ms <= 1;
    if (hurry) os_hurried_ms += ms;
    return hurry;
}

size_t os_short(size_t len_bytes) {
    const bool shorten = failing.shorten && len_bytes > 1;
    failing.shorten = false;
    return shorten ? 1 : len_bytes;
}

void os_watch_calls(os_watcher *before, void *ctx) {
    watcher_ctx = ctx;
    watcher = before;
}

/* -err, but where that is OS_SHORT. */
static int failure(enum os_call call, int err) {
    failing.last = call_names[call];
    failing.shorten = err == OS_SHORT;
    return err == OS_SHORT ? 0 : -err;
}

static int fail_of_others(enum os_call call) {
    const unsigned nth = others.nth;
    if (others.call != OS_CALL_ANY && others.call != call) return 0;
    const unsigned seen = ++others.seen;
    if (nth == 0 || (seen != nth && !(others.sticky && seen > nth))) return 0;
    return failure(call, others.err);
}

int os_fail(enum os_call call) {
    perturb();
    os_watcher *before = watcher;
    if (before) before(watcher_ctx, call);
    failing.shorten = false;
    if (!failing.apart) return fail_of_others(call);
    failing.seen[call]++;
    failing.seen[OS_CALL_ANY]++;
    if (failing.nth == 0 || (failing.call != OS_CALL_ANY && failing.call != call)) return 0;
    const unsigned seen = failing.seen[failing.call];
    if (seen != failing.nth && !(failing.sticky && seen > failing.nth)) return 0;
    return failure(call, failing.err);
}

void os_fs_pretend(int kind) {
    os_fs_pretended = kind;
}

void os_pretend_boot(const uint8_t id[16]) {
    boot_pretended = id != NULL;
    if (id) memcpy(pretended_boot, id, sizeof pretended_boot);
}

bool os_boot_pretended(uint8_t id[16]) {
    if (boot_pretended) memcpy(id, pretended_boot, sizeof pretended_boot);
    return boot_pretended;
}

void os_record_to(os_recorder *to, void *ctx) {
    recorder_ctx = ctx;
    recorder = to;
}

void os_record(const struct os_event *event) {
    perturb();
    if (recorder) recorder(recorder_ctx, event);
}

/* ------------------------------------------------------------------------------------- mutants */

#ifndef EMMAP_NO_MUTANTS

static const char *const mutant_names[OS_MUTANT_KINDS] = {"",
#define OS_MUTANT_NAME(id) #id,
                                                          OS_MUTANTS(OS_MUTANT_NAME)
#undef OS_MUTANT_NAME
};

static struct {
    enum os_mutant kind;
    int line;
    char file[100];
    int list; /* where places are noted, or -1 */
} mutant = {.list = -1};

/* "KIND FILE:LINE" */
static void parse_mutant(const char *text) {
    char kind[16];
    int line;
    if (sscanf(text, "%15s %99[^:]:%d", kind, mutant.file, &line) != 3) abort();
    for (int i = 1; i < OS_MUTANT_KINDS; i++)
        if (strcmp(kind, mutant_names[i]) == 0) mutant.kind = (enum os_mutant)i;
    if (mutant.kind == OS_MUTANT_NONE) abort();
    mutant.line = line;
}

__attribute__((constructor)) static void read_environment(void) {
    const char *text = getenv("EMMAP_MUTANT"), *list = getenv("EMMAP_MUTANT_LIST");
    if (text && *text) parse_mutant(text);
    if (list && *list) mutant.list = open(list, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* Each place once, or a few times more. */
static bool is_noted(const char *file, int line) {
    enum { PLACES = 4096 };
    static struct {
        const char *file;
        int line;
    } noted[PLACES];
    const unsigned at = ((unsigned)line * 31 + (unsigned)((uintptr_t)file >> 4)) % PLACES;
    if (noted[at].file == file && noted[at].line == line) return true;
    noted[at].file = file;
    noted[at].line = line;
    return false;
}

static void note_place(unsigned kinds, const char *file, int line) {
    char text[300];
    if (is_noted(file, line)) return;
    for (int i = 1; i < OS_MUTANT_KINDS; i++) {
        if (!(kinds >> i & 1)) continue;
        const int n = snprintf(text, sizeof text, "%s %s:%d\n", mutant_names[i], file, line);
        if (write(mutant.list, text, (size_t)n) != n) abort();
    }
}

enum os_mutant os_mutant_at(unsigned kinds, const char *file, int line) {
    if (strncmp(file, "./", 2) == 0) file += 2; /* a header's */
    if (mutant.list >= 0) note_place(kinds, file, line);
    if (line != mutant.line || !(kinds >> mutant.kind & 1) || strcmp(file, mutant.file) != 0)
        return OS_MUTANT_NONE;
    return mutant.kind;
}

static _Thread_local struct {
    void *dst;
    size_t len_bytes, room_bytes;
    unsigned char *bytes;
} late;

static void store_now(void *dst, const void *src, size_t len_bytes) {
    os_record(&(struct os_event){
        .kind = OS_EVENT_COPY, .addr = dst, .from = src, .len_bytes = len_bytes, .fd = -1});
    memcpy(dst, src, len_bytes);
}

void os_store_late(void *dst, const void *src, size_t len_bytes) {
    os_store_late_ones();
    if (len_bytes > late.room_bytes) {
        late.bytes = realloc(late.bytes, len_bytes);
        if (!late.bytes) abort();
        late.room_bytes = len_bytes;
    }
    memcpy(late.bytes, src, len_bytes);
    late.len_bytes = len_bytes;
    late.dst = dst;
}

void os_store_late_ones(void) {
    void *dst = late.dst;
    late.dst = NULL;
    if (dst) store_now(dst, late.bytes, late.len_bytes);
}
#endif
