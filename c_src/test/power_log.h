/* power_log.h -- what is known of a recording (power.h): what happened, in its order, and the disk that it
 * happened to. Between power.c, which writes it, and power_disk.c. */
#ifndef EMMAP_TEST_POWER_LOG_H
#define EMMAP_TEST_POWER_LOG_H

#include <pthread.h>

#include "test/power.h"

enum { SECTOR = 512, PAGE = 4096, MOST_FILES = 16, MOST_THREADS = 8, MOST_NAMES = 8, NAME = 64 };
enum { NO_FILE = 0xFFFF };

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

void *power_get(void *old, size_t bytes);
/* What a store or a change of size does to a file's bytes. */
void power_apply(struct bytes *bytes, const struct entry *entry);

#endif
