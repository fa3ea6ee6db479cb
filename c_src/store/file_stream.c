/* file_stream.c -- a mapped file as a stream: the position, read, write, lines.
 *
 * The handle has one position, which any thread may use; a call holds it from its look to its
 * move, so that two readers never get the same bytes. */
#include <errno.h>
#include <string.h>

#include "core/charge.h"
#include "store/file.h"
#include "store/touch.h"

enum { SCAN_BYTES = 64 << 10 }; /* of a line, between two looks at the marks */

static int take_position(struct emmap_file *file, bool wait) {
    if (wait) return pthread_mutex_lock(&file->stream_lock), 0;
    return pthread_mutex_trylock(&file->stream_lock) ? -EAGAIN : 0;
}

static void give_position(struct emmap_file *file) {
    pthread_mutex_unlock(&file->stream_lock);
}

int file_write_next(struct emmap_file *file, bool wait, const void *data, uint64_t len_bytes) {
    int rc = take_position(file, wait);
    if (rc) return rc;
    rc = file_write(file, wait, file->position, data, len_bytes);
    if (rc == 0) file->position += len_bytes;
    give_position(file);
    return rc;
}

/* The bytes of the line that starts at off, its newline included; to the end of the file where
 * there is none. -EAGAIN without wait: it is longer than what may be scanned at once. */
static int line_length(struct emmap_file *file, bool wait, uint64_t off, struct file_next *next) {
    for (uint64_t scanned = 0;;) {
        struct touch t = {.file = file, .wait = wait};
        const uint8_t *newline = NULL;
        int rc;
        do {
            rc = touch_begin(&t, off + scanned, SCAN_BYTES, true);
            if (rc) continue;
            newline = memchr(region_at(file->region, t.from), '\n', t.to - t.from);
            rc = touch_end(&t);
        } while (touch_again(&t, &rc));
        if (rc == EMMAP_E_PAST_END && scanned > 0) {
            next->len_bytes = scanned;
            return 0;
        }
        if (rc) return rc;
        if (newline) {
            const uint64_t at = (uint64_t)(newline - region_at(file->region, t.from));
            next->len_bytes = scanned + at + 1;
            next->newline = true;
            return 0;
        }
        scanned += t.to - t.from;
        if (!wait) {
            charge_add(scanned);
            return -EAGAIN;
        }
    }
}

int file_next_begin(struct emmap_file *file, bool wait, uint64_t most_bytes,
                    struct file_next *next) {
    int rc = take_position(file, wait);
    if (rc) return rc;
    const void *at;
    *next = (struct file_next){.line = most_bytes == FILE_NEXT_LINE};
    if (next->line)
        rc = line_length(file, wait, file->position, next);
    else
        rc = file_pointer(file, wait, file->position, most_bytes, &at, &next->len_bytes);
    if (rc) give_position(file);
    return rc;
}

/* What was found of a line may have been written over: the copy, which is whole, tells what the line
 * is. -EBUSY: it has no newline, where one had been found. A line that ended with the file is what
 * it was then, however the file has grown since. */
static int check_line(const struct file_next *next, const void *buf, uint64_t *len_bytes) {
    const uint8_t *newline = memchr(buf, '\n', *len_bytes);
    if (newline) *len_bytes = (uint64_t)(newline - (const uint8_t *)buf) + 1;
    return newline || !next->newline ? 0 : -EBUSY;
}

int file_next_end(struct emmap_file *file, bool wait, struct file_next *next, void *buf) {
    uint64_t got = 0;
    int rc = buf ? file_read(file, wait, file->position, buf, next->len_bytes, &got) : -EAGAIN;
    if (rc == 0 && next->line) rc = check_line(next, buf, &got);
    if (rc == 0) {
        file->position += got;
        next->len_bytes = got;
    }
    give_position(file);
    return rc;
}

int file_seek(struct emmap_file *file, bool wait, enum file_whence whence, int64_t off,
              uint64_t *position) {
    if (atomic_load_explicit(&file->region->closed, memory_order_relaxed)) return EMMAP_E_CLOSED;
    uint64_t base = 0;
    int rc = 0;
    if (whence == FILE_SEEK_END) rc = wait ? file_ask_size(file, &base) : -EAGAIN;
    if (rc == 0) rc = take_position(file, wait);
    if (rc) return rc;
    if (whence == FILE_SEEK_CUR) base = file->position;
    int64_t at;
    if (__builtin_add_overflow((int64_t)base, off, &at) || at < 0)
        rc = -EINVAL;
    else
        file->position = *position = (uint64_t)at;
    give_position(file);
    return rc;
}
