/* kill_point.c -- see kill_point.h. */
#include "test/kill_point.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/os_testing.h"
#include "test/support.h"

static uint64_t left;

static void end(void) {
    _exit(KILLED);
}

/* A word at a time: what is before the last one is there. */
static void at_store(void *ctx, const struct os_event *event) {
    (void)ctx;
    if (event->kind > OS_EVENT_FILL || event->len_bytes == 0) return;
    const uintptr_t start = (uintptr_t)event->addr, from = start & ~(uintptr_t)7;
    const uint64_t words = (start + event->len_bytes + 7 - from) / 8;
    if (words < left) {
        left -= words;
        return;
    }
    const uint64_t done = left > 1 ? from + 8 * (left - 1) - start : 0;
    void *to = (void *)start;
    if (event->kind == OS_EVENT_COPY) memmove(to, event->from, done);
    if (event->kind == OS_EVENT_FILL) memset(to, 0, done);
    end();
}

static void at_call(void *ctx, enum os_call call) {
    (void)ctx, (void)call;
    if (--left == 0) end();
}

void kill_at(uint64_t n) {
    left = n;
    os_record_to(at_store, NULL);
    os_watch_calls(at_call, NULL);
}

void kill_never(void) {
    os_record_to(NULL, NULL);
    os_watch_calls(NULL, NULL);
}

pid_t kill_child(void) {
    const pid_t pid = fork();
    MUST(pid >= 0);
    if (pid == 0) alarm(KILL_SECONDS);
    return pid;
}

int kill_status(pid_t pid) {
    int status;
    while (waitpid(pid, &status, 0) < 0)
        MUST(errno == EINTR);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}
