/* power.c -- recording; see power.h. */
#include "test/power.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/region.h"
#include "os/os.h"
#include "test/power_log.h"
#include "test/support.h"

static const uint64_t MOST_BYTES = 16 << 20; /* of a file */
static const uint8_t zeros[SECTOR];
static _Thread_local bool in_sync;
static _Thread_local uint32_t sync_began;

void *power_get(void *old, size_t bytes) {
    void *at = realloc(old, bytes ? bytes : 1);
    MUST(at);
    return at;
}

/* More of them are zeros. */
static void set_size(struct bytes *b, uint64_t size) {
    MUST(size <= MOST_BYTES);
    if (size > b->room) {
        b->at = power_get(b->at, size * 2);
        memset(b->at + b->room, 0, size * 2 - b->room);
        b->room = size * 2;
    }
    if (size < b->size) memset(b->at + size, 0, b->size - size);
    b->size = size;
}

/* Past the end there is nothing to store to. */
void power_apply(struct bytes *b, const struct entry *e) {
    if (e->kind == SIZE) {
        set_size(b, e->off);
        return;
    }
    const uint64_t len = e->kind == WORD ? e->len_bytes : e->zero_bytes;
    if (e->off + len > b->room) return;
    if (e->kind == WORD)
        memcpy(b->at + e->off, e->bytes, len);
    else
        memset(b->at + e->off, 0, len);
}

/* ---------------------------------------------------------------------------------- recording */

static struct entry *append(struct power *p, enum kind kind, unsigned file) {
    if (p->n == p->room) {
        p->room = p->room * 2 + 1024;
        p->log = power_get(p->log, p->room * sizeof *p->log);
    }
    struct entry *e = &p->log[p->n++];
    *e = (struct entry){.kind = (uint8_t)kind, .file = (uint16_t)file};
    return e;
}

/* Of a store that has happened: what it has changed. */
static void take_in(struct power *p, const struct announced *a) {
    struct file *f = &p->file[a->file];
    uint8_t was[PAGE];
    for (uint64_t done = 0; done < a->len_bytes;) {
        const uint64_t off = a->off + done, left = a->len_bytes - done;
        const uint64_t most = PAGE - off % PAGE, n = left < most ? left : most;
        const ssize_t got = pread(f->fd, was, n, (off_t)off);
        MUST(got >= 0);
        if ((uint64_t)got < n) memset(was + got, 0, n - (uint64_t)got);
        done += n;
        if (off + n > f->now.size) continue; /* past the end */
        for (uint64_t at = off, stop; at < off + n; at = stop) {
            stop = (at + 8) & ~7ull;
            if (stop > off + n) stop = off + n;
            if (memcmp(f->now.at + at, was + (at - off), stop - at) == 0) continue;
            struct entry *e = append(p, WORD, a->file);
            e->off = at;
            e->len_bytes = (uint8_t)(stop - at);
            memcpy(e->bytes, was + (at - off), stop - at);
            power_apply(&f->now, e);
        }
    }
}

/* What this thread has told of has happened by now. */
static void take_in_own(struct power *p, bool all) {
    const pthread_t self = pthread_self();
    for (unsigned i = 0; i < p->announcements;) {
        if (!all && !pthread_equal(p->announced[i].thread, self)) {
            i++;
            continue;
        }
        const struct announced a = p->announced[i];
        p->announced[i] = p->announced[--p->announcements];
        take_in(p, &a);
    }
}

/* A sync that was begun and not told of has failed. */
static void look_for_failure(struct power *p) {
    if (!in_sync) return;
    in_sync = false;
    p->has_failed = true;
    for (unsigned i = 0; i < p->files; i++)
        append(p, SYNC_FAILED, i);
}

static void before_call(void *ctx, enum os_call call) {
    struct power *p = ctx;
    if (call != OS_CALL_SYNC && call != OS_CALL_SYNC_RANGE && call != OS_CALL_SYNC_PARENT) return;
    pthread_mutex_lock(&p->lock);
    take_in_own(p, false);
    look_for_failure(p);
    in_sync = call != OS_CALL_SYNC_PARENT;
    sync_began = p->n;
    pthread_mutex_unlock(&p->lock);
}

static unsigned file_of(const struct power *p, uint64_t dev, uint64_t ino) {
    for (unsigned i = p->files; i-- > 0;) /* a number may be used again */
        if (p->file[i].dev == dev && p->file[i].ino == ino) return i;
    return NO_FILE;
}

static unsigned file_of_fd(const struct power *p, int fd) {
    struct stat st;
    MUST(fstat(fd, &st) == 0);
    return file_of(p, (uint64_t)st.st_dev, (uint64_t)st.st_ino);
}

/* The number of a name in the folder; MOST_NAMES: it is elsewhere. */
static unsigned name_of(struct power *p, const char *path) {
    const size_t len = strlen(p->folder);
    if (strncmp(path, p->folder, len) != 0 || path[len] != '/' || strchr(path + len + 1, '/'))
        return MOST_NAMES;
    unsigned i = 0;
    while (i < p->names && strcmp(p->name[i], path + len + 1) != 0)
        i++;
    MUST(i < MOST_NAMES && strlen(path + len + 1) < NAME);
    if (i == p->names) strcpy(p->name[p->names++], path + len + 1);
    return i;
}

static unsigned new_file(struct power *p, const char *path) {
    struct stat st;
    MUST(p->files < MOST_FILES);
    struct file *f = &p->file[p->files];
    f->fd = open(path, O_RDONLY | O_CLOEXEC);
    MUST(f->fd >= 0 && fstat(f->fd, &st) == 0);
    f->dev = (uint64_t)st.st_dev;
    f->ino = (uint64_t)st.st_ino;
    return p->files++;
}

static void read_file(struct bytes *b, int fd) {
    struct stat st;
    MUST(fstat(fd, &st) == 0);
    set_size(b, (uint64_t)st.st_size);
    MUST(pread(fd, b->at, b->size, 0) == (ssize_t)b->size);
}

/* What a file that is new to the recording holds is on the disk. */
static unsigned file_at(struct power *p, const char *path) {
    struct stat st;
    MUST(stat(path, &st) == 0);
    unsigned file = file_of(p, (uint64_t)st.st_dev, (uint64_t)st.st_ino);
    if (file != NO_FILE) return file;
    file = new_file(p, path);
    read_file(&p->file[file].now, p->file[file].fd);
    read_file(&p->file[file].disk, p->file[file].fd);
    return file;
}

static void note_name(struct power *p, const struct os_event *event) {
    const unsigned name = name_of(p, event->path);
    unsigned file = NO_FILE;
    if (name == MOST_NAMES) return;
    if (event->kind == OS_EVENT_MAKE) file = new_file(p, event->path);
    if (event->kind == OS_EVENT_LINK) file = file_at(p, event->path);
    append(p, NAMED, file)->off = name;
}

static void note_store(struct power *p, const struct os_event *event) {
    struct emmap_region *region = registry_find(event->addr);
    if (!region || !region->shared || event->len_bytes == 0) return;
    const unsigned file = file_of(p, region->inode->dev, region->inode->ino);
    if (file == NO_FILE) return;
    const uint64_t off = region->map_off + (uint64_t)((const uint8_t *)event->addr - region->map);
    if (event->kind == OS_EVENT_TOUCH) {
        for (uint64_t at = off; p->has_failed && at < off + event->len_bytes; at += PAGE)
            append(p, TOUCHED, file)->off = at;
        return;
    }
    MUST(p->announcements < MOST_THREADS);
    p->announced[p->announcements++] =
        (struct announced){pthread_self(), (uint16_t)file, off, event->len_bytes};
}

static void note_zero(struct power *p, unsigned file, const struct os_event *event) {
    struct bytes *now = &p->file[file].now;
    const uint64_t end =
        event->len_bytes < now->size - event->off ? event->off + event->len_bytes : now->size;
    for (uint64_t at = event->off, stop; at < end; at = stop) {
        stop = (at / SECTOR + 1) * SECTOR < end ? (at / SECTOR + 1) * SECTOR : end;
        if (memcmp(now->at + at, zeros, stop - at) == 0) continue;
        struct entry *e = append(p, ZERO, file);
        e->off = at;
        e->zero_bytes = (uint16_t)(stop - at);
        power_apply(now, e);
    }
}

static void note_file(struct power *p, const struct os_event *event) {
    const unsigned file = event->fd < 0 ? NO_FILE : file_of_fd(p, event->fd); /* of a plain array */
    if (file == NO_FILE) return;
    struct entry *e;
    switch (event->kind) {
    case OS_EVENT_SIZE:
        if (event->off == p->file[file].now.size) break;
        e = append(p, SIZE, file);
        e->off = event->off;
        power_apply(&p->file[file].now, e);
        break;
    case OS_EVENT_ZERO:
        note_zero(p, file, event);
        break;
    default:
        e = append(p, SYNCED, file);
        e->off = event->off;
        e->end =
            event->len_bytes > UINT64_MAX - event->off ? UINT64_MAX : event->off + event->len_bytes;
        e->upto = sync_began;
    }
}

static void note(void *ctx, const struct os_event *event) {
    struct power *p = ctx;
    pthread_mutex_lock(&p->lock);
    take_in_own(p, false);
    if (event->kind == OS_EVENT_SYNC) in_sync = false;
    look_for_failure(p);
    switch (event->kind) {
    case OS_EVENT_WORD:
    case OS_EVENT_COPY:
    case OS_EVENT_FILL:
    case OS_EVENT_TOUCH:
        note_store(p, event);
        break;
    case OS_EVENT_MAKE:
    case OS_EVENT_LINK:
    case OS_EVENT_UNLINK:
        note_name(p, event);
        break;
    case OS_EVENT_SYNC_PARENT:
        if (name_of(p, event->path) < MOST_NAMES) append(p, NAMES_SYNCED, NO_FILE);
        break;
    default:
        note_file(p, event);
    }
    pthread_mutex_unlock(&p->lock);
}

static void await_background(void) {
    struct runtime *rt = runtime_get();
    while (atomic_load(&rt->pool_pending) > 0)
        sched_yield();
}

struct power *power_start(const char *folder) {
    struct power *p = calloc(1, sizeof *p);
    char path[PATH_MAX];
    await_background();
    MUST(p && strlen(folder) < sizeof p->folder && realpath(folder, path));
    snprintf(p->folder, sizeof p->folder, "%.*s", (int)sizeof p->folder - 1, path);
    pthread_mutex_init(&p->lock, NULL);
    for (unsigned i = 0; i < MOST_NAMES; i++)
        p->first.file[i] = NO_FILE;
    DIR *dir = opendir(folder);
    MUST(dir);
    for (const struct dirent *d = readdir(dir); d; d = readdir(dir)) {
        if (d->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%.*s", folder, NAME, d->d_name);
        p->first.file[name_of(p, path)] = (uint16_t)file_at(p, path);
    }
    closedir(dir);
    in_sync = false;
    os_record_to(note, p);
    os_watch_calls(before_call, p);
    return p;
}

unsigned power_now(struct power *p) {
    await_background();
    pthread_mutex_lock(&p->lock);
    take_in_own(p, true);
    look_for_failure(p);
    const unsigned now = p->n;
    pthread_mutex_unlock(&p->lock);
    return now;
}

/* What was stored without being told of would be found here. */
static void compare(const struct file *f) {
    struct bytes there = {0};
    read_file(&there, f->fd);
    MUST(there.size == f->now.size);
    for (uint64_t at = 0; at < there.size; at++) {
        if (there.at[at] == f->now.at[at]) continue;
        print_error("byte %llu was stored and not told of\n", (unsigned long long)at);
        MUST(false);
    }
    free(there.at);
}

void power_stop(struct power *p) {
    (void)power_now(p);
    os_record_to(NULL, NULL);
    os_watch_calls(NULL, NULL);
    for (unsigned i = 0; i < p->files; i++) {
        compare(&p->file[i]);
        close(p->file[i].fd);
    }
}

void power_free(struct power *p) {
    for (unsigned i = 0; i < p->files; i++) {
        struct file *f = &p->file[i];
        free(f->now.at);
        free(f->disk.at);
        free(f->laid.at);
        free(f->dirty);
        free(f->stores);
        free(f->left);
        free(f->sector);
    }
    pthread_mutex_destroy(&p->lock);
    free(p->log);
    free(p->pending);
    free(p->steps);
    free(p->taken);
    free(p);
}
