/* counters.c -- opening a file of simple counters; they are used as integers of a mapped file. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/os.h"
#include "store/counters_layout.h"
#include "store/file.h"

enum { HEADER = sizeof(struct emmap_disk_counters), VALUE = 8, OPEN_TRIES = 16, MODE = 0600 };
static const uint64_t MOST_COUNTERS = (INT64_MAX - HEADER) / VALUE;

int emmap_counters_count(struct emmap_file *file, uint64_t *count) {
    struct emmap_disk_counters header;
    uint64_t got;
    int rc = emmap_file_read(file, 0, &header, HEADER, &got);
    if (rc == EMMAP_E_PAST_END || (rc == 0 && got < HEADER)) return EMMAP_E_FOREIGN;
    if (rc) return rc;
    if (memcmp(header.magic, EMMAP_DISK_COUNTERS_MAGIC, sizeof header.magic) != 0)
        return EMMAP_E_FOREIGN;
    if (header.count == 0 || header.count > MOST_COUNTERS ||
        emmap_file_size(file) != HEADER + header.count * VALUE)
        return EMMAP_E_CORRUPT;
    *count = header.count;
    return 0;
}

static int open_existing(const char *path, uint64_t count, struct emmap_file **out,
                         uint64_t *found) {
    const struct emmap_file_options options = {.flags =
                                                   EMMAP_SHARED | EMMAP_WRITE | EMMAP_FIXED_SIZE};
    struct emmap_file *file;
    int rc = emmap_file_open(&file, path, &options, NULL);
    if (rc) return rc;
    uint64_t has;
    rc = emmap_counters_count(file, &has);
    if (rc == 0 && count != 0 && has != count) rc = EMMAP_E_SIZE_MISMATCH;
    if (rc) {
        emmap_file_free(file);
        return rc;
    }
    *found = has;
    *out = file;
    return 0;
}

static int fill(const char *path, uint64_t count) {
    const struct emmap_file_options options = {.flags =
                                                   EMMAP_SHARED | EMMAP_WRITE | EMMAP_FIXED_SIZE,
                                               .len_bytes = HEADER + count * VALUE};
    struct emmap_disk_counters header = {.count = count};
    memcpy(header.magic, EMMAP_DISK_COUNTERS_MAGIC, sizeof header.magic);
    struct emmap_file *file;
    int rc = emmap_file_open(&file, path, &options, NULL);
    if (rc) return rc;
    rc = emmap_file_write(file, 0, &header, HEADER);
    if (rc == 0) rc = emmap_file_sync(file);
    if (rc == EMMAP_E_SYNC_FAILED) rc = emmap_file_sync_error(file);
    emmap_file_free(file);
    return rc;
}

/* -EEXIST: the name is somebody else's, and so is the file. */
static int fill_new(const char *path, uint64_t count) {
    int fd;
    int rc = os_open(path, OS_OPEN_WRITE | OS_OPEN_MAKE, MODE, &fd);
    if (rc) return rc;
    (void)os_close(fd);
    rc = fill(path, count);
    if (rc) (void)os_unlink(path);
    return rc;
}

/* Born under a name of its own, synced, then linked into place: nobody ever sees half of it, and
 * of several that make it at once one wins. -EEXIST: another one did; or the name of its own, which
 * the number of an OS process alone does not make so, was taken. */
static int make(const char *name, uint64_t count) {
    static _Atomic uint32_t serial;
    char *path;
    int rc = file_real_path(name, &path);
    if (rc) return rc;
    const size_t len = strlen(path) + 64;
    char *temporary = malloc(len);
    if (!temporary) {
        free(path);
        return -ENOMEM;
    }
    const int folder_len = (int)(strrchr(path, '/') + 1 - path);
    snprintf(temporary, len, "%.*semmap.new.%" PRIu64 ".%" PRIu64 ".%" PRIu32, folder_len, path,
             os_pid(), os_now_ms(), atomic_fetch_add(&serial, 1));
    rc = fill_new(temporary, count);
    if (rc == 0) {
        rc = os_link(temporary, path);
        (void)os_unlink(temporary);
    }
    if (rc == 0) {
        rc = os_sync_parent(path);
        if (rc == -EACCES) rc = 0; /* a folder that may not be read cannot be synced */
    }
    free(temporary);
    free(path);
    return rc;
}

int emmap_counters_open(struct emmap_file **out, const char *path, uint64_t count,
                        uint64_t *found) {
    if (count > MOST_COUNTERS) return -EFBIG;
    int rc = -ENOENT;
    for (int i = 0; i < OPEN_TRIES; i++) {
        rc = open_existing(path, count, out, found);
        if (rc != -ENOENT || count == 0) return rc;
        rc = make(path, count);
        if (rc && rc != -EEXIST) return rc;
    }
    return rc;
}
