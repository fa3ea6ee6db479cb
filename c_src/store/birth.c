/* birth.c -- see birth.h. */
#include "store/birth.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/pm.h"
#include "os/os.h"
#include "store/file.h"

static int fill_new(const char *path, uint32_t mode, int (*fill)(const char *, void *), void *ctx) {
    int fd;
    int rc = os_open(path, OS_OPEN_WRITE | OS_OPEN_MAKE, mode, &fd);
    if (rc) return rc; /* -EEXIST: the name is somebody else's, and so is the file */
    (void)os_close(fd);
    rc = fill(path, ctx);
    if (rc) (void)os_unlink(path);
    return rc;
}

static int link_into_place(const char *temporary, const char *path) {
    int rc = os_link(temporary, path);
    (void)os_unlink(temporary);
    if (rc) return rc;
    rc = PM_SYNC(os_sync_parent(path));
    return rc == -EACCES ? 0 : rc; /* a folder that may not be read cannot be synced */
}

int birth(const char *name, uint32_t mode, int (*fill)(const char *temporary, void *ctx),
          void *ctx) {
    static _Atomic uint32_t serial;
    char *path;
    int rc = file_real_path(name, &path);
    if (rc) return rc;
    const size_t len = strlen(path) + 64;
    char *temporary = malloc(len);
    if (temporary) {
        const int folder_len = (int)(strrchr(path, '/') + 1 - path);
        snprintf(temporary, len, "%.*semmap.new.%" PRIu64 ".%" PRIu64 ".%" PRIu32, folder_len, path,
                 os_pid(), os_now_ms(), atomic_fetch_add(&serial, 1));
        rc = fill_new(temporary, mode, fill, ctx);
        if (rc == 0) rc = link_into_place(temporary, path);
    } else {
        rc = -ENOMEM;
    }
    free(temporary);
    free(path);
    return rc;
}
