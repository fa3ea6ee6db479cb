/* scratch.c -- see scratch.h. */
#include "fuzz/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz/queue_edits.h"

static char path[256];
static int fd;

static void remove_file(void) {
    (void)unlink(path);
}

int scratch_fd(void) {
    const char *tmp = getenv("TMPDIR");
    if (fd > 0) return fd;
    if (access("/dev/shm", W_OK) == 0) tmp = "/dev/shm";
    snprintf(path, sizeof path, "%s/emmap-fuzz.XXXXXX", tmp && *tmp ? tmp : "/tmp");
    fd = mkstemp(path);
    FUZZ_MUST(fd > 0);
    (void)atexit(remove_file);
    return fd;
}

const char *scratch_path(void) {
    (void)scratch_fd();
    return path;
}

void scratch_cut(uint64_t len_bytes) {
    FUZZ_MUST(ftruncate(scratch_fd(), (off_t)len_bytes) == 0);
}

void scratch_write(const void *bytes, uint64_t len_bytes) {
    scratch_cut(0);
    FUZZ_MUST(pwrite(fd, bytes, len_bytes, 0) == (ssize_t)len_bytes);
}

bool scratch_is(const void *bytes, uint64_t len_bytes) {
    static uint8_t now[EDITS_ROOM + 1];
    return pread(scratch_fd(), now, sizeof now, 0) == (ssize_t)len_bytes &&
           memcmp(now, bytes, len_bytes) == 0;
}
