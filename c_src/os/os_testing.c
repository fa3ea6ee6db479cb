/* os_testing.c -- failure on command and the recorder; linked into test builds only. */
#include "os/os_testing.h"

#include <string.h>

static _Thread_local struct {
    unsigned seen[OS_CALL_COUNT + 1];
    unsigned nth;
    enum os_call call;
    int err;
    int sticky;
    const char *last;
} failing;

static os_recorder *recorder;
static void *recorder_ctx;
static os_watcher *watcher;
static void *watcher_ctx;
int os_fs_pretended = -1;
static bool boot_pretended;
static uint8_t pretended_boot[16];

static const char *const call_names[OS_CALL_COUNT] = {
#define OS_CALL_NAME(id, name) #name,
    OS_CALLS(OS_CALL_NAME)
#undef OS_CALL_NAME
};

void os_fail_at(enum os_call call, unsigned nth, int err, int sticky) {
    for (unsigned i = 0; i <= OS_CALL_COUNT; i++)
        failing.seen[i] = 0;
    failing.call = call;
    failing.nth = nth;
    failing.err = err;
    failing.sticky = sticky;
    failing.last = "";
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

void os_watch_calls(os_watcher *before, void *ctx) {
    watcher_ctx = ctx;
    watcher = before;
}

int os_fail(enum os_call call) {
    if (watcher) watcher(watcher_ctx, call);
    failing.seen[call]++;
    failing.seen[OS_CALL_ANY]++;
    if (failing.nth == 0 || (failing.call != OS_CALL_ANY && failing.call != call)) return 0;
    const unsigned seen = failing.seen[failing.call];
    if (seen != failing.nth && !(failing.sticky && seen > failing.nth)) return 0;
    failing.last = call_names[call];
    return -failing.err;
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
    if (recorder) recorder(recorder_ctx, event);
}
