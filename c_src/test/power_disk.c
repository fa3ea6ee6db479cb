/* power_disk.c -- the disk under a recording, and what it may hold after a cut; see power.h. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test/choice.h"
#include "test/power_log.h"
#include "test/support.h"

static const uint8_t zeros[PAGE];

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
            power_apply(&p->file[e->file].disk, e);
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
        p->pending = power_get(NULL, p->n * sizeof *p->pending);
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
        p->steps = power_get(NULL, things * sizeof *p->steps);
        p->taken = power_get(NULL, things * sizeof *p->taken);
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
        if (f->laid.room < f->now.room) f->laid.at = power_get(f->laid.at, f->now.room);
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
        power_apply(&f->laid, e);
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
