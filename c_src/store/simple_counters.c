/* simple_counters.c -- opening a file of simple counters; they are used as integers of a mapped file. */
#include <errno.h>
#include <string.h>

#include "core/pm.h"
#include "store/birth.h"
#include "store/simple_counters_layout.h"
#include "store/file.h"

enum {
    HEADER = sizeof(struct emmap_disk_simple_counters),
    VALUE = 8,
    OPEN_TRIES = 16,
    MODE = 0600
};
static const uint64_t MOST_COUNTERS = (INT64_MAX - HEADER) / VALUE;

int emmap_simple_counters_count(struct emmap_file *file, uint64_t *count) {
    struct emmap_disk_simple_counters header;
    uint64_t got;
    int rc = emmap_file_read(file, 0, &header, HEADER, &got);
    if (rc == EMMAP_E_PAST_END || (rc == 0 && got < HEADER)) return EMMAP_E_FOREIGN;
    if (rc) return rc;
    if (memcmp(header.magic, EMMAP_DISK_SIMPLE_COUNTERS_MAGIC, sizeof header.magic) != 0)
        return EMMAP_E_FOREIGN;
    if (header.count == 0 || header.count > MOST_COUNTERS) return EMMAP_E_CORRUPT;
    const uint64_t bytes = HEADER + header.count * VALUE, size = emmap_file_size(file);
    if (size != bytes) return size < bytes ? EMMAP_E_TRUNCATED : EMMAP_E_CORRUPT;
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
    rc = emmap_simple_counters_count(file, &has);
    if (rc == 0 && count != 0 && has != count) rc = EMMAP_E_SIZE_MISMATCH;
    if (rc) {
        emmap_file_free(file);
        return rc;
    }
    *found = has;
    *out = file;
    return 0;
}

static int fill(const char *path, void *ctx) {
    const uint64_t count = *(const uint64_t *)ctx;
    const struct emmap_file_options options = {.flags =
                                                   EMMAP_SHARED | EMMAP_WRITE | EMMAP_FIXED_SIZE,
                                               .len_bytes = HEADER + count * VALUE};
    struct emmap_disk_simple_counters header = {.count = count};
    memcpy(header.magic, EMMAP_DISK_SIMPLE_COUNTERS_MAGIC, sizeof header.magic);
    struct emmap_file *file;
    int rc = emmap_file_open(&file, path, &options, NULL);
    if (rc) return rc;
    rc = emmap_file_write(file, 0, &header, HEADER);
    if (rc == 0) rc = PM_SYNC(emmap_file_sync(file));
    if (rc == EMMAP_E_SYNC_FAILED) rc = emmap_file_sync_error(file);
    emmap_file_free(file);
    return rc;
}

int emmap_simple_counters_open(struct emmap_file **out, const char *path, uint64_t count,
                               uint64_t *found) {
    if (count > MOST_COUNTERS) return -EFBIG;
    int rc = -ENOENT;
    for (int i = 0; i < OPEN_TRIES; i++) {
        rc = open_existing(path, count, out, found);
        if (rc != -ENOENT || count == 0) return rc;
        rc = birth(path, MODE, fill, &count);
        if (rc && rc != -EEXIST) return rc;
    }
    return rc;
}
