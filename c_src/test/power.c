/* power.c -- see power.h. Recording first, then the disk, then what may become of it. */
#include "test/power.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/region.h"
#include "os/os.h"
#include "test/choice.h"
#include "test/support.h"

enum { SECTOR = 512, PAGE = 4096, MOST_FILES = 16, MOST_THREADS = 8, MOST_NAMES = 8, NAME = 64 };
enum { NO_FILE = 0xFFFF };
static const uint64_t MOST_BYTES = 16 << 20; /* of a file */

enum kind {
    WORD,    /* at most 8 bytes, within one word */
    ZERO,    /* within one sector */
    SIZE,    /* off: the new one */
    NAMED,   /* off: the name's number; file: NO_FILE where it was removed */
    TOUCHED, /* a page is written again */
    SYNCED,  /* [off, off + end) of a file, as of the moment upto */
    SYNC_FAILED,
    NAMES_SYNCED,
};

struct entry {
    uint8_t kind, len_bytes;
    uint16_t file, zero_bytes;
    uint8_t bytes[8];
    uint64_t off, end;
    uint32_t upto;
};

struct bytes {
    uint8_t *at;
    uint64_t size, room;
};

struct file {
    int fd; /* to read what was stored */
    uint64_t dev, ino;
    struct bytes now;  /* while it is recorded */
    struct bytes disk; /* what is there for certain */
    struct bytes laid; /* a state */
    uint8_t *dirty;    /* by page: the next sync writes it */

    uint32_t *stores, *left;   /* by sector: uncertain ones, and those that a state has */
    uint32_t *sector, sectors; /* those that have some */
    uint32_t sizes, sizes_left;
    bool is_named; /* in the state */
    unsigned last; /* what of it came last */
};

/* A store is told of before it happens. */
struct announced {
    pthread_t thread;
    uint16_t file;
    uint64_t off, len_bytes;
};

struct names {
    uint16_t file[MOST_NAMES]; /* by the name's number */
};

struct power {
    char folder[256];
    pthread_mutex_t lock;
    struct entry *log;
    uint32_t n, room;
    struct file file[MOST_FILES];
    unsigned files;
    char name[MOST_NAMES][NAME];
    unsigned names;
    struct names first; /* when the recording began */
    struct announced announced[MOST_THREADS];
    unsigned announcements;
    bool has_failed;

    struct names disk;
    uint32_t at; /* entries before this moment are on the disk or pending */
    uint32_t *pending, pendings;
    uint32_t *steps, *taken, things; /* what may have come so far: see choice.h */
};

static const uint8_t zeros[PAGE];
static _Thread_local bool in_sync;
static _Thread_local uint32_t sync_began;

static void *get(void *old, size_t bytes) {
    void *at = realloc(old, bytes ? bytes : 1);
    MUST(at);
    return at;
}

/* More of them are zeros. */
static void set_size(struct bytes *b, uint64_t size) {
    MUST(size <= MOST_BYTES);
    if (size > b->room) {
        b->at = get(b->at, size * 2);
        memset(b->at + b->room, 0, size * 2 - b->room);
        b->room = size * 2;
    }
    if (size < b->size) memset(b->at + size, 0, b->size - size);
    b->size = size;
}

/* Past the end there is nothing to store to. */
static void apply(struct bytes *b, const struct entry *e) {
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
        p->log = get(p->log, p->room * sizeof *p->log);
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
            apply(&f->now, e);
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
        apply(now, e);
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
        apply(&p->file[file].now, e);
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

/* ----------------------------------------------------------------------------------- the disk */

static bool is_store(const struct entry *e) {
    return e->kind == WORD || e->kind == ZERO;
}

/* Of a sync of a range: the changes of size from this one on must not come to where the range is not
 * there any more. */
static uint32_t sizes_covered(const struct power *p, const struct entry *sync, uint32_t moment) {
    const struct file *f = &p->file[sync->file];
    uint64_t size = f->disk.size;
    for (uint32_t i = 0; i < p->pendings && p->pending[i] < moment; i++) {
        const struct entry *e = &p->log[p->pending[i]];
        if (e->file == sync->file && e->kind == SIZE) size = e->off;
    }
    const uint64_t need = sync->end < size ? sync->end : size;
    uint32_t upto = 0; /* entries before this moment */
    size = f->disk.size;
    for (uint32_t i = 0; i < p->pendings && p->pending[i] < moment; i++) {
        const struct entry *e = &p->log[p->pending[i]];
        if (e->file != sync->file || e->kind != SIZE) continue;
        if (size < need) upto = p->pending[i] + 1;
        size = e->off;
    }
    return upto;
}

static bool is_covered(const struct power *p, const struct entry *sync, uint32_t sizes,
                       uint32_t moment) {
    const struct entry *e = &p->log[moment];
    if (sync->kind == NAMES_SYNCED) return e->kind == NAMED;
    if (e->file != sync->file || moment >= sync->upto) return false;
    if (e->kind == SIZE) return sync->end == UINT64_MAX || moment < sizes;
    if (!is_store(e) || !p->file[e->file].dirty[e->off / PAGE]) return false;
    return e->off >= sync->off &&
           (sync->end == UINT64_MAX ||
            e->off + (e->kind == WORD ? e->len_bytes : e->zero_bytes) <= sync->end);
}

/* What was stored there before the file was cut off comes no more. How many are left. */
static uint32_t drop_cut_off(struct power *p, uint32_t pendings, const struct entry *size) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < pendings; i++) {
        const struct entry *e = &p->log[p->pending[i]];
        if (!is_store(e) || e->file != size->file || e->off < size->off)
            p->pending[kept++] = p->pending[i];
    }
    return kept;
}

static void sync_disk(struct power *p, const struct entry *sync) {
    const uint32_t sizes = sync->kind == SYNCED ? sizes_covered(p, sync, sync->upto) : 0;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < p->pendings; i++) {
        const uint32_t moment = p->pending[i];
        const struct entry *e = &p->log[moment];
        if (!is_covered(p, sync, sizes, moment))
            p->pending[kept++] = moment;
        else if (e->kind == NAMED)
            p->disk.file[e->off] = e->file;
        else
            apply(&p->file[e->file].disk, e);
        if (e->kind == SIZE && (kept == 0 || p->pending[kept - 1] != moment))
            kept = drop_cut_off(p, kept, e);
    }
    p->pendings = kept;
    if (sync->kind != SYNCED || sync->end != UINT64_MAX) return;
    /* What was stored since the sync began is still to be written. */
    struct file *f = &p->file[sync->file];
    memset(f->dirty, 0, f->now.room / PAGE + 2);
    for (uint32_t i = 0; i < p->pendings; i++) {
        const struct entry *e = &p->log[p->pending[i]];
        if (e->file == sync->file && is_store(e) && p->pending[i] >= sync->upto)
            f->dirty[e->off / PAGE] = 1;
    }
}

static void go_by(struct power *p, uint32_t moment) {
    const struct entry *e = &p->log[moment];
    struct file *f = e->file == NO_FILE ? NULL : &p->file[e->file];
    switch (e->kind) {
    case TOUCHED:
        if (e->off < f->now.room) f->dirty[e->off / PAGE] = 1;
        break;
    case SYNC_FAILED:
        memset(f->dirty, 0, f->now.room / PAGE + 2);
        break;
    case SYNCED:
    case NAMES_SYNCED:
        sync_disk(p, e);
        break;
    default:
        p->pending[p->pendings++] = moment;
        if (is_store(e)) f->dirty[e->off / PAGE] = 1;
    }
}

/* To the next sync, or the end: what comes before it may have arrived. false: that was the last. */
static bool next_window(struct power *p, struct power_span *window) {
    if (p->at == p->n && p->steps) return false;
    if (!p->steps) { /* the first one */
        uint64_t things = 1;
        p->disk = p->first;
        p->pending = get(NULL, p->n * sizeof *p->pending);
        for (unsigned i = 0; i < p->files; i++) {
            struct file *f = &p->file[i];
            const uint64_t sectors = f->now.room / SECTOR + 2;
            f->dirty = calloc(1, f->now.room / PAGE + 2);
            f->stores = calloc(sectors, sizeof *f->stores);
            f->left = calloc(sectors, sizeof *f->left);
            f->sector = calloc(sectors, sizeof *f->sector);
            MUST(f->dirty && f->stores && f->left && f->sector);
            things += sectors + 1;
        }
        p->steps = get(NULL, things * sizeof *p->steps);
        p->taken = get(NULL, things * sizeof *p->taken);
    } else {
        go_by(p, p->at++);
    }
    window->from = p->at;
    while (p->at < p->n && p->log[p->at].kind != SYNCED && p->log[p->at].kind != NAMES_SYNCED)
        go_by(p, p->at++);
    window->to = p->at;
    return true;
}

/* --------------------------------------------------------------------------------- its states */

/* What may have arrived of what was done before this moment. */
static void count_things(struct power *p, unsigned moment) {
    uint32_t names = 0;
    for (unsigned i = 0; i < p->files; i++) {
        struct file *f = &p->file[i];
        for (uint32_t k = 0; k < f->sectors; k++)
            f->stores[f->sector[k]] = 0;
        f->sectors = f->sizes = 0;
    }
    for (uint32_t i = 0; i < p->pendings && p->pending[i] < moment; i++) {
        const struct entry *e = &p->log[p->pending[i]];
        struct file *f = &p->file[e->file == NO_FILE ? 0 : e->file];
        if (e->kind == NAMED)
            names++;
        else if (e->kind == SIZE)
            f->sizes++;
        else if (f->stores[e->off / SECTOR]++ == 0)
            f->sector[f->sectors++] = (uint32_t)(e->off / SECTOR);
    }
    p->things = 0;
    p->steps[p->things++] = names;
    for (unsigned i = 0; i < p->files; i++) {
        struct file *f = &p->file[i];
        p->steps[p->things++] = f->sizes;
        for (uint32_t k = 0; k < f->sectors; k++)
            p->steps[p->things++] = f->stores[f->sector[k]];
    }
}

/* The names that have arrived, and the moment behind the last change of them. */
static struct names names_laid(struct power *p, unsigned *last) {
    struct names names = p->disk;
    uint32_t left = p->taken[0];
    for (uint32_t i = 0; i < p->pendings && left > 0; i++) {
        const struct entry *e = &p->log[p->pending[i]];
        if (e->kind != NAMED) continue;
        names.file[e->off] = e->file;
        if (p->pending[i] >= *last) *last = p->pending[i] + 1;
        left--;
    }
    for (unsigned i = 0; i < p->files; i++)
        p->file[i].is_named = false;
    for (unsigned i = 0; i < p->names; i++)
        if (names.file[i] != NO_FILE) p->file[names.file[i]].is_named = true;
    return names;
}

static void begin_files(struct power *p) {
    uint32_t thing = 1;
    for (unsigned i = 0; i < p->files; i++) {
        struct file *f = &p->file[i];
        f->last = 0;
        f->sizes_left = p->taken[thing++];
        for (uint32_t k = 0; k < f->sectors; k++)
            f->left[f->sector[k]] = p->taken[thing++];
        if (!f->is_named || f->now.room == 0) continue; /* or it has never had a size */
        if (f->laid.room < f->now.room) f->laid.at = get(f->laid.at, f->now.room);
        f->laid.room = f->now.room;
        f->laid.size = f->disk.size;
        if (f->disk.size > 0) memcpy(f->laid.at, f->disk.at, f->disk.size);
        memset(f->laid.at + f->laid.size, 0, f->laid.room - f->laid.size);
    }
}

static void fill_files(struct power *p) {
    for (uint32_t i = 0; i < p->pendings; i++) {
        const struct entry *e = &p->log[p->pending[i]];
        if (e->kind == NAMED) continue;
        struct file *f = &p->file[e->file];
        uint32_t *left = e->kind == SIZE ? &f->sizes_left : &f->left[e->off / SECTOR];
        if (!f->is_named || *left == 0) continue;
        --*left;
        apply(&f->laid, e);
        f->last = p->pending[i] + 1;
    }
}

/* Pages of zeros stay holes. */
static void write_file(const struct bytes *b, const char *path) {
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    MUST(fd >= 0 && ftruncate(fd, (off_t)b->size) == 0);
    for (uint64_t at = 0, stop; at < b->size; at = stop) {
        stop = at + PAGE < b->size ? at + PAGE : b->size;
        if (memcmp(b->at + at, zeros, stop - at) != 0)
            MUST(pwrite(fd, b->at + at, stop - at, (off_t)at) == (ssize_t)(stop - at));
    }
    close(fd);
}

static void write_folder(const struct power *p, const struct names *names, const char *folder) {
    char path[512], other[512];
    power_empty_folder(folder);
    for (unsigned i = 0; i < p->names; i++) {
        if (names->file[i] == NO_FILE) continue;
        unsigned same = 0;
        while (names->file[same] != names->file[i])
            same++;
        snprintf(path, sizeof path, "%s/%s", folder, p->name[i]);
        snprintf(other, sizeof other, "%s/%s", folder, p->name[same]);
        if (same < i)
            MUST(link(other, path) == 0);
        else
            write_file(&p->file[names->file[i]].laid, path);
    }
}

/* What is in `taken`. false: it is another state, too, since a file that has no name is none. */
static bool is_of_its_own(const struct power *p) {
    uint32_t thing = 1;
    for (unsigned i = 0; i < p->files; i++)
        for (uint32_t k = 0; k < p->file[i].sectors + 1; k++)
            if (p->taken[thing++] > 0 && !p->file[i].is_named) return false;
    return true;
}

static void lay(struct power *p, const struct names *names, const char *folder,
                struct power_span *when) {
    begin_files(p);
    fill_files(p);
    for (unsigned i = 0; i < p->files; i++)
        if (p->file[i].is_named && p->file[i].last > when->from) when->from = p->file[i].last;
    write_folder(p, names, folder);
}

void power_empty_folder(const char *folder) {
    char path[512];
    DIR *dir = opendir(folder);
    MUST(dir);
    for (const struct dirent *d = readdir(dir); d; d = readdir(dir)) {
        if (d->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", folder, d->d_name);
        MUST(unlink(path) == 0);
    }
    closedir(dir);
}

/* By chance: at any moment of the window. */
static const char *cut_one(struct power *p, struct power_cuts *cuts, struct power_span window,
                           bool in_full, uint64_t way) {
    struct power_span when = window;
    if (in_full) {
        choice_way(way, p->steps, p->taken, p->things);
    } else {
        const uint64_t moments = window.to - window.from + 1;
        count_things(p, window.to - (unsigned)choice_random(cuts->rng, moments));
        choice_by_chance(cuts->rng, p->steps, p->taken, p->things);
    }
    const struct names names = names_laid(p, &when.from);
    if (in_full && !is_of_its_own(p)) return NULL;
    lay(p, &names, cuts->folder, &when);
    cuts->states++;
    return cuts->check(cuts->ctx, when);
}

const char *power_cut(struct power *p, struct power_cuts *cuts) {
    struct power_span window;
    while (next_window(p, &window)) {
        count_things(p, window.to);
        const uint64_t ways = choice_ways(p->steps, p->things, cuts->most + 1);
        const bool in_full = ways <= cuts->most;
        cuts->windows++;
        cuts->windows_in_full += in_full;
        for (uint64_t way = 0; way < (in_full ? ways : cuts->most); way++) {
            const char *wrong = cut_one(p, cuts, window, in_full, way);
            if (!wrong) continue;
            print_error("window %u to %u of %u, state %llu of %llu%s\n", window.from, window.to,
                        p->n, (unsigned long long)way, (unsigned long long)ways,
                        in_full ? "" : " by chance");
            return wrong;
        }
    }
    return NULL;
}
