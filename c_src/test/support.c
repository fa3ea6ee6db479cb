/* support.c -- see support.h. */
#include "test/support.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/region.h"
#include "os/os.h"

static char folder[256];

int support_setup(void **state) {
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/emmap-test.XXXXXX", tmp && *tmp ? tmp : "/tmp");
    os_fail_never();
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

int support_teardown(void **state) {
    (void)state;
    os_fail_never();
    os_fs_pretend(-1);
    os_record_to(NULL, NULL);
    return nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

const char *support_path(const char *name) {
    static char paths[8][512];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

uint8_t pattern(uint64_t i) {
    return (uint8_t)(i * 7 + (i >> 8) * 13 + 1);
}

void make_file(const char *path, uint64_t len_bytes) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    for (uint64_t i = 0; i < len_bytes; i++)
        assert_int_not_equal(putc(pattern(i), f), EOF);
    assert_int_equal(fclose(f), 0);
}

uint64_t file_bytes_of(const char *path) {
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return (uint64_t)st.st_size;
}

uint64_t file_blocks_of(const char *path) {
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return (uint64_t)st.st_blocks;
}

bool file_exists(const char *path) {
    return access(path, F_OK) == 0;
}

uint8_t file_byte(const char *path, uint64_t off) {
    uint8_t byte = 0;
    const int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)off), 1);
    close(fd);
    return byte;
}

void own_faults(void) {
    assert_int_equal(os_on_fault(region_on_fault), 0);
}

struct emmap_file *must_open(const char *path, uint32_t flags, uint64_t len_bytes) {
    const struct emmap_file_options options = {.flags = flags, .len_bytes = len_bytes};
    struct emmap_file *file = NULL;
    own_faults();
    assert_int_equal(emmap_file_open(&file, path, &options, NULL), 0);
    assert_non_null(file);
    return file;
}

unsigned open_descriptors(void) {
    unsigned n = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

unsigned map_entries(void) {
    unsigned n = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    assert_non_null(maps);
    for (int c; (c = getc(maps)) != EOF;)
        n += c == '\n';
    fclose(maps);
    return n;
}

void await_no_regions(void) {
    struct emmap_stats stats;
    for (int i = 0; i < 30000; i++) {
        emmap_stats(&stats);
        if (stats.regions == 0) return;
        os_sleep_ms(1);
    }
    fail_msg("%llu regions were not given back", (unsigned long long)stats.regions);
}
