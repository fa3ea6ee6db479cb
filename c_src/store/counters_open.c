/* counters_open.c -- a file of counters is made, opened, extended, and taken over after a reboot. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/crc32c.h"
#include "core/pm.h"
#include "store/birth.h"
#include "store/counters.h"
#include "store/identity.h"

enum { OPEN_TRIES = 16, MODE = 0600, EXTEND_MS = 5000, FIRST_AHEAD = 1024, SIMPLE_OFF = 16 };
enum { MADE_SO = EMMAP_COUNTERS_UNSIGNED | EMMAP_COUNTERS_PADDED | EMMAP_COUNTERS_STRIPED };

static bool has(const struct emmap_counters_options *options, uint32_t flag) {
    return (options->flags & flag) != 0;
}

/* ------------------------------------------------------------------------------------- layout */

static uint32_t stride_for(uint32_t flags) {
    const bool striped = (flags & COUNTERS_FLAG_STRIPED) != 0;
    if (flags & COUNTERS_FLAG_NAMED) return striped ? 2 * COUNTERS_NAMED : COUNTERS_NAMED;
    if (striped) return COUNTERS_CELLS * COUNTERS_LINE;
    return flags & COUNTERS_FLAG_PADDED ? COUNTERS_LINE : COUNTERS_PLAIN;
}

static uint32_t disk_flags(const struct emmap_counters_options *options) {
    return (has(options, EMMAP_COUNTERS_UNSIGNED) ? COUNTERS_FLAG_UNSIGNED : 0u) |
           (has(options, EMMAP_COUNTERS_STRIPED) ? COUNTERS_FLAG_STRIPED : 0u) |
           (has(options, EMMAP_COUNTERS_PADDED) ? COUNTERS_FLAG_PADDED : 0u) |
           (options->counters ? COUNTERS_FLAG_NAMED : 0u);
}

static bool fits(uint64_t count, uint32_t stride) {
    return count <= (INT64_MAX - COUNTERS_DATA_OFF) / stride;
}

static uint64_t bytes_of(uint64_t count, uint64_t stride) {
    return COUNTERS_DATA_OFF + count * stride;
}

static uint64_t name_off(const struct emmap_counters *c, uint64_t i) {
    return counters_off(c, i) + (c->stride == COUNTERS_NAMED ? COUNTERS_LINE : COUNTERS_NAMED);
}

static int store(struct emmap_counters *c, uint64_t off, uint64_t value) {
    return emmap_file_store(c->file, off, (int64_t)value);
}

static int write_name(struct emmap_counters *c, uint64_t i, const struct emmap_counter *from) {
    struct emmap_disk_counter_name name;
    counters_make_name(&name, i, from);
    return emmap_file_write(c->file, name_off(c, i), &name, sizeof name);
}

/* What is behind the end may be what an extension has left that was cut off. */
static int write_records(struct emmap_counters *c, uint64_t first, uint64_t n,
                         const struct emmap_counter *const *names) {
    static const uint8_t zeros[2 * COUNTERS_NAMED];
    int rc = 0;
    for (uint64_t i = 0; i < n && rc == 0; i++) {
        rc = emmap_file_write(c->file, counters_off(c, first + i), zeros, c->stride);
        if (rc == 0 && c->is_named) rc = write_name(c, first + i, names[i]);
    }
    return rc;
}

/* ------------------------------------------------------------------------------------ identity */

static int write_identity(struct emmap_counters *c) {
    uint64_t now[IDENTITY_WORDS];
    int rc = identity_now(c->file->region->fd, now);
    if (rc) return rc == -EOPNOTSUPP ? 0 : rc;
    for (unsigned i = 0; i < IDENTITY_WORDS && rc == 0; i++)
        rc = store(c, COUNTERS_LIVE(identity) + i * sizeof now[0], now[i]);
    return rc;
}

static int was_here(struct emmap_counters *c, bool *same) {
    uint64_t now[IDENTITY_WORDS];
    int rc = identity_now(c->file->region->fd, now);
    *same = rc == 0;
    if (rc) return rc == -EOPNOTSUPP ? 0 : rc;
    for (unsigned i = 0; i < IDENTITY_WORDS && rc == 0; i++) {
        int64_t word;
        rc = emmap_file_load(c->file, COUNTERS_LIVE(identity) + i * sizeof now[0], &word);
        *same = *same && (uint64_t)word == now[i];
    }
    return rc;
}

/* The value's key rises to what was reserved: more may have been given than the disk has seen. */
static int skip_reserved(struct emmap_counters *c, uint64_t i) {
    int64_t reserved, value;
    const uint64_t off = counters_off(c, i);
    int rc =
        emmap_file_load(c->file, off + offsetof(struct emmap_disk_counter, reserved), &reserved);
    if (rc == 0 && reserved == 0) return 0;
    if (rc == 0) rc = emmap_file_load(c->file, off, &value);
    while (rc == 0 && PM_MUST(((uint64_t)value ^ c->flip) < (uint64_t)reserved)) {
        const int64_t expected = value;
        rc =
            emmap_file_cas(c->file, off, expected, (int64_t)((uint64_t)reserved ^ c->flip), &value);
        if (value == expected) break;
    }
    return rc;
}

/* What is not there are zeros, which need nothing done: a file may be of more holes than a disk has room for. */
static int each_data(struct emmap_counters *c, uint64_t count,
                     int (*each)(struct emmap_counters *c, uint64_t from, uint64_t to)) {
    const uint64_t end = bytes_of(count, c->stride);
    for (uint64_t at = 0; at < end;) {
        uint64_t from = at, to = end;
        int rc = os_data(c->file->region->fd, at, &from, &to);
        if (rc == -ENXIO) return 0;
        if (rc && rc != -EOPNOTSUPP) return rc;
        if (from >= end) return 0;
        if (to > end) to = end;
        rc = each(c, from, to);
        if (rc) return rc;
        at = to > at ? to : at + COUNTERS_DATA_OFF; /* a hole that was made meanwhile */
    }
    return 0;
}

/* The records that have a byte in a range. */
static int skip_in(struct emmap_counters *c, uint64_t from, uint64_t to) {
    uint8_t bytes[4 * COUNTERS_DATA_OFF];
    if (to <= c->data_off) return 0;
    const uint64_t most = sizeof bytes / c->stride;
    const uint64_t last = (to - c->data_off + c->stride - 1) / c->stride;
    for (uint64_t i = from > c->data_off ? (from - c->data_off) / c->stride : 0; i < last;
         i += most) {
        const uint64_t n = last - i < most ? last - i : most;
        uint64_t got = 0;
        int rc = emmap_file_read(c->file, counters_off(c, i), bytes, n * c->stride, &got);
        if (rc == EMMAP_E_PAST_END || (rc == 0 && got < n * c->stride)) rc = EMMAP_E_TRUNCATED;
        for (uint64_t k = 0; k < n && rc == 0; k++) {
            struct emmap_disk_counter record;
            memcpy(&record, bytes + k * c->stride, sizeof record);
            if (record.reserved != 0) rc = skip_reserved(c, i + k);
        }
        if (rc) return rc;
    }
    return 0;
}

/* What was written before a reboot, to a copy, or under another mount; or a sync has failed, and the kernel may
 * have dropped a page, and read the one of before. Others may do so, and use it, at the same time: the words only
 * rise. */
static int recover(struct emmap_counters *c, uint64_t count) {
    const int rc = c->flags & EMMAP_COUNTERS_STRIPED ? 0 : each_data(c, count, skip_in);
    return rc ? rc : write_identity(c);
}

static int make_dirty(struct emmap_counters *c, uint64_t from, uint64_t to) {
    int64_t old;
    int rc = 0;
    for (uint64_t off = from / COUNTERS_DATA_OFF * COUNTERS_DATA_OFF; off < to && rc == 0;
         off += COUNTERS_DATA_OFF) {
        OS_RECORD(.kind = OS_EVENT_TOUCH, .addr = region_at(c->file->region, off),
                  .len_bytes = COUNTERS_DATA_OFF, .fd = -1);
        rc = emmap_file_fetch(c->file, off, EMMAP_ADD, 0, &old);
    }
    return rc;
}

/* A failed sync has dropped pages from what the kernel writes: all are made dirty again. */
static int write_anew(struct emmap_counters *c, uint64_t count) {
    int rc = each_data(c, count, make_dirty);
    if (rc) return rc;
    file_forget_sync_error(c->file);
    rc = PM_SYNC(emmap_file_sync(c->file));
    return rc ? rc : store(c, COUNTERS_LIVE(sync_error), 0);
}

static int take_over(struct emmap_counters *c, uint64_t count) {
    bool same;
    int64_t failed;
    int rc = was_here(c, &same);
    if (rc == 0) rc = emmap_file_load(c->file, COUNTERS_LIVE(sync_error), &failed);
    if (rc == 0 && failed == 0) failed = file_sync_error(c->file);
    if (rc == 0 && (!PM_MUST(same) || failed != 0)) rc = recover(c, count);
    return rc == 0 && failed != 0 ? write_anew(c, count) : rc;
}

/* ------------------------------------------------------------------------------------- extending */

/* Those that the file has not: of a file without names nothing but how many. All of the file's must be
 * among those asked for. */
static int choose_new(struct emmap_counters *c, const struct emmap_counters_options *options,
                      uint64_t count, const struct emmap_counter **chosen, uint64_t *n) {
    uint64_t known = 0, i;
    *n = 0;
    if (options->count < count) return EMMAP_E_DIFFERS;
    if (!c->is_named) {
        *n = options->count - count;
        return 0;
    }
    for (uint64_t j = 0; j < options->count; j++) {
        const char *name = options->counters[j].name;
        if (counters_known(c, name, strlen(name), &i) == 0)
            known++;
        else
            chosen[(*n)++] = &options->counters[j];
    }
    return known == count ? 0 : EMMAP_E_DIFFERS;
}

/* Under the lock. The count is raised when all below it is on the disk. */
static int extend(struct emmap_counters *c, uint64_t count, const struct emmap_counter **chosen,
                  uint64_t n) {
    if (n > UINT64_MAX - count || !fits(count + n, (uint32_t)c->stride)) return -EFBIG;
    int rc = file_extend(c->file, bytes_of(count + n, c->stride));
    if (rc == 0) rc = write_records(c, count, n, chosen);
    if (rc == 0) rc = PM_SYNC(emmap_file_sync(c->file));
    if (rc == 0) rc = store(c, COUNTERS_LIVE(count), count + n);
    if (rc == 0) rc = PM_SYNC(emmap_file_sync(c->file));
    if (counters_note_failure(c, rc) == EMMAP_E_SYNC_FAILED) rc = emmap_file_sync_error(c->file);
    return rc == 0 && c->is_named ? counters_read_names(c, count + n) : rc;
}

static int lock(struct emmap_counters *c) {
    const uint64_t until = os_now_ms() + EXTEND_MS;
    int rc;
    while ((rc = os_lock_byte(c->file->region->fd, COUNTERS_LOCK_BYTE, OS_LOCK_WRITE)) == -EAGAIN) {
        if (os_now_ms() > until) return EMMAP_E_BUSY;
        os_sleep_ms(1);
    }
    return rc == -EOPNOTSUPP ? EMMAP_E_NOTSUP : rc;
}

static int add_missing(struct emmap_counters *c, const struct emmap_counters_options *options,
                       const struct emmap_counter **chosen) {
    uint64_t count, n;
    int rc = lock(c);
    if (rc) return rc;
    rc = counters_look(c, true, &count);
    if (rc == 0 && c->is_named) rc = counters_read_names(c, count);
    if (rc == 0) rc = choose_new(c, options, count, chosen, &n);
    if (rc == 0 && n > 0) rc = extend(c, count, chosen, n);
    (void)os_lock_byte(c->file->region->fd, COUNTERS_LOCK_BYTE, OS_LOCK_NONE);
    return rc;
}

/* Does the file have what is asked for, or can it be given that? */
static int agree(struct emmap_counters *c, const struct emmap_counters_options *options,
                 uint64_t count) {
    if (options->count == 0) return 0;
    if (c->is_simple)
        return options->counters || has(options, MADE_SO) || options->count < count
                   ? EMMAP_E_DIFFERS
               : options->count > count ? EMMAP_E_NOTSUP
                                        : 0;
    if (c->is_named != (options->counters != NULL) || ((c->flags ^ options->flags) & MADE_SO) != 0)
        return EMMAP_E_DIFFERS;
    const struct emmap_counter **chosen =
        malloc((size_t)(c->is_named ? options->count : 1) * sizeof *chosen);
    uint64_t n;
    if (!chosen) return -ENOMEM;
    int rc = choose_new(c, options, count, chosen, &n);
    if (rc == 0 && n > 0)
        rc = c->flags & EMMAP_COUNTERS_READ ? -EACCES : add_missing(c, options, chosen);
    free((void *)chosen);
    return rc;
}

/* --------------------------------------------------------------------------------------- opening */

static int check_header(struct emmap_file *file, struct emmap_disk_counters *header) {
    uint64_t got = 0;
    *header = (struct emmap_disk_counters){.version = 0};
    const int rc = emmap_file_read(file, 0, header, sizeof *header, &got);
    if (rc == EMMAP_E_PAST_END) return EMMAP_E_FOREIGN;
    if (rc) return rc;
    if (got < sizeof header->magic ||
        memcmp(header->magic, EMMAP_DISK_COUNTERS_MAGIC, sizeof header->magic) != 0)
        return EMMAP_E_FOREIGN;
    if (got < sizeof *header) return EMMAP_E_TRUNCATED;
    if (!PM_MUST(header->crc == crc32c(0, header, offsetof(struct emmap_disk_counters, crc))))
        return EMMAP_E_CORRUPT;
    if (header->version != COUNTERS_VERSION || header->kind != COUNTERS_KIND || header->incompat ||
        header->ro_compat)
        return EMMAP_E_NOTSUP;
    if (header->flags > COUNTERS_FLAGS || header->stride != stride_for(header->flags))
        return EMMAP_E_CORRUPT;
    return emmap_file_size(file) < COUNTERS_DATA_OFF ? EMMAP_E_TRUNCATED : 0;
}

static void attach(struct emmap_counters *c, const struct emmap_disk_counters *header) {
    c->data_off = COUNTERS_DATA_OFF;
    c->stride = header->stride;
    c->is_named = (header->flags & COUNTERS_FLAG_NAMED) != 0;
    c->flip = header->flags & COUNTERS_FLAG_UNSIGNED ? 0 : UINT64_C(1) << 63;
    c->flags |= (header->flags & COUNTERS_FLAG_UNSIGNED ? EMMAP_COUNTERS_UNSIGNED : 0u) |
                (header->flags & COUNTERS_FLAG_PADDED ? EMMAP_COUNTERS_PADDED : 0u) |
                (header->flags & COUNTERS_FLAG_STRIPED ? EMMAP_COUNTERS_STRIPED : 0u);
}

static int load_simple(struct emmap_counters *c, uint64_t *count) {
    c->is_simple = true;
    c->data_off = SIMPLE_OFF;
    c->stride = sizeof(uint64_t);
    return emmap_simple_counters_count(c->file, count);
}

static int load_count(struct emmap_counters *c, uint64_t *count) {
    const int rc = counters_look(c, true, count);
    if (rc) return rc;
    return *count == 0 ? EMMAP_E_CORRUPT : 0;
}

static int load(struct emmap_counters *c, const struct emmap_counters_options *options) {
    struct emmap_disk_counters header;
    uint64_t count = 0;
    int rc = check_header(c->file, &header);
    if (rc == EMMAP_E_FOREIGN) {
        rc = load_simple(c, &count);
    } else if (rc == 0) {
        attach(c, &header);
        rc = load_count(c, &count);
        if (rc == 0 && c->is_named) rc = counters_read_names(c, count);
    }
    if (rc == 0) rc = agree(c, options, count);
    if (rc == 0 && !c->is_simple && !(c->flags & EMMAP_COUNTERS_READ)) rc = take_over(c, count);
    if (rc == 0) atomic_store(&c->count, count);
    return rc;
}

static struct emmap_counters *new_counters(uint32_t flags) {
    struct emmap_counters *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->flags = flags;
    atomic_init(&c->ahead, FIRST_AHEAD);
    hash_seed(&c->seed);
    if (pthread_mutex_init(&c->names_lock, NULL) == 0) return c;
    free(c);
    return NULL;
}

/* What a file gets by itself, at least, is enough for all but large ones. */
static uint64_t addresses_for(const struct emmap_counters_options *options) {
    const uint64_t usual = UINT64_C(4) << 30, large = UINT64_C(64) << 30;
    const uint64_t bytes = bytes_of(options->count, stride_for(disk_flags(options)));
    return bytes <= usual ? 0 : bytes < large ? large : bytes;
}

static int open_file(struct emmap_counters *c, const char *path, uint32_t flags, uint64_t bytes,
                     uint64_t address_space_bytes) {
    const struct emmap_file_options options = {
        .flags =
            EMMAP_SHARED | flags | (c->flags & EMMAP_COUNTERS_READ ? 0u : (uint32_t)EMMAP_WRITE),
        .len_bytes = bytes,
        .address_space_bytes = address_space_bytes,
    };
    return emmap_file_open(&c->file, path, &options, NULL);
}

static int open_existing(struct emmap_counters **out, const char *path,
                         const struct emmap_counters_options *options) {
    struct emmap_counters *c = new_counters(options->flags & EMMAP_COUNTERS_READ);
    if (!c) return -ENOMEM;
    int rc = open_file(c, path, has(options, EMMAP_COUNTERS_FORCE) ? EMMAP_FORCE : 0u, 0,
                       addresses_for(options));
    if (rc == 0) rc = counters_cut(load(c, options));
    if (rc)
        emmap_counters_free(c);
    else
        *out = c;
    return rc;
}

/* ---------------------------------------------------------------------------------------- making */

static int write_header(struct emmap_counters *c, const struct emmap_disk_counters *header,
                        uint64_t count) {
    int rc = emmap_file_write(c->file, 0, header, sizeof *header);
    if (rc == 0) rc = store(c, COUNTERS_LIVE(count), count);
    if (rc == 0) rc = write_identity(c);
    return rc;
}

static int make_header(const struct emmap_counters_options *options,
                       struct emmap_disk_counters *header) {
    *header = (struct emmap_disk_counters){
        .version = COUNTERS_VERSION,
        .kind = COUNTERS_KIND,
        .created_ms = os_wall_ms(),
        .flags = disk_flags(options),
        .stride = stride_for(disk_flags(options)),
    };
    memcpy(header->magic, EMMAP_DISK_COUNTERS_MAGIC, sizeof header->magic);
    const int rc = os_random(header->uuid, sizeof header->uuid);
    header->crc = crc32c(0, header, offsetof(struct emmap_disk_counters, crc));
    return rc;
}

/* A new file, which is zeros. */
static int fill(const char *path, void *ctx) {
    const struct emmap_counters_options *options = ctx;
    struct emmap_disk_counters header;
    struct emmap_counters *c = new_counters(0);
    int rc = c ? make_header(options, &header) : -ENOMEM;
    if (rc == 0)
        rc = open_file(
            c, path, EMMAP_FIXED_SIZE | (options->flags & EMMAP_COUNTERS_FORCE ? EMMAP_FORCE : 0u),
            bytes_of(options->count, header.stride), 0);
    if (rc == 0) {
        attach(c, &header);
        for (uint64_t i = 0; options->counters && i < options->count && rc == 0; i++)
            rc = write_name(c, i, &options->counters[i]);
    }
    if (rc == 0) rc = write_header(c, &header, options->count);
    if (rc == 0) rc = PM_SYNC(emmap_file_sync(c->file));
    if (rc == EMMAP_E_SYNC_FAILED) rc = emmap_file_sync_error(c->file);
    emmap_counters_free(c);
    return rc;
}

static int check_options(const struct emmap_counters_options *options) {
    const uint32_t known =
        MADE_SO | EMMAP_COUNTERS_CREATE | EMMAP_COUNTERS_READ | EMMAP_COUNTERS_FORCE;
    if (options->flags & ~known) return -EINVAL;
    if (has(options, EMMAP_COUNTERS_CREATE) && has(options, EMMAP_COUNTERS_READ)) return -EINVAL;
    if (!fits(options->count, stride_for(disk_flags(options)))) return -EFBIG;
    return options->counters ? counters_check_names(options->counters, options->count) : 0;
}

int emmap_counters_open(struct emmap_counters **out, const char *path,
                        const struct emmap_counters_options *options) {
    int rc = check_options(options);
    if (rc) return rc;
    for (int i = 0; i < OPEN_TRIES; i++) {
        rc = open_existing(out, path, options);
        if (rc != -ENOENT || !has(options, EMMAP_COUNTERS_CREATE) || options->count == 0) return rc;
        rc = birth(path, options->mode ? options->mode : MODE, fill, (void *)(uintptr_t)options);
        if (rc && rc != -EEXIST) return rc;
    }
    return rc;
}

int emmap_counters_close(struct emmap_counters *c) {
    return emmap_file_close(c->file);
}

static void free_now(struct emmap_counters *c) {
    counters_free_names(c);
    pthread_mutex_destroy(&c->names_lock);
    free(c);
}

static void free_job(struct pool_job *job) {
    free_now((struct emmap_counters *)(void *)((char *)job - offsetof(struct emmap_counters, job)));
}

/* To free 100,000 names takes some ms: that is for the background. */
void emmap_counters_free(struct emmap_counters *c) {
    if (!c) return;
    emmap_file_free(c->file);
    c->job.run = free_job;
    if (atomic_load(&c->names))
        pool_run(&c->job);
    else
        free_now(c);
}
