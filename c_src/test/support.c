/* support.c -- see support.h. */
#include "test/support.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/region.h"
#include "os/os.h"

#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
/* Races that the design rests on, each argued where it is: the fault handler may look at a
 * descriptor that is being closed, and a page may be replaced, or mapped back, while it is touched:
 * who touched it looks at the marks afterwards. To thread sanitizer an mmap is a write. */
__attribute__((visibility("default"))) const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void) {
    return "race:region_on_fault\nrace:close_file\nrace:zeros_step\nrace:heal\n";
}
/* The longest memory of stacks: by them it knows these. */
__attribute__((visibility("default"))) const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
    return "history_size=7";
}
#endif

static char folder[256];
static bool mounted;

int support_setup(void **state) {
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/emmap-test.XXXXXX", tmp && *tmp ? tmp : "/tmp");
    os_fail_never();
    return mkdtemp(folder) ? 0 : -1;
}

/* Who may kill a test says where, and cleans up. */
const char *support_memory(void) {
    const char *memory = getenv("EMMAP_TEST_MEMORY");
    return memory && *memory ? memory : "/dev/shm";
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

int support_teardown(void **state) {
    (void)state;
    os_fail_never();
    os_fs_pretend(-1);
    os_pretend_boot(NULL);
    os_record_to(NULL, NULL);
    os_watch_calls(NULL, NULL);
#ifdef __linux__
    if (mounted && umount2(support_path("tmpfs"), MNT_DETACH)) return -1;
    mounted = false;
#endif
    return nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

const char *support_path(const char *name) {
    static char paths[8][512];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

/* ------------------------------------------------------------------------ a full file system */

#ifdef __linux__
static bool no_mount_is_shared(void) {
    char line[4096];
    bool none = true;
    FILE *mounts = fopen("/proc/self/mountinfo", "r");
    if (!mounts) return false;
    while (none && fgets(line, sizeof line, mounts))
        none = strstr(line, " shared:") == NULL;
    fclose(mounts);
    return none;
}

/* Mounts are this OS process's own: one that is killed leaves none behind. In a chroot there may be
 * no mount at "/" to be made private, but perhaps none is shared anyway. */
static bool own_mounts(void) {
    static bool own;
    if (!own)
        own = unshare(CLONE_NEWNS) == 0 &&
              (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 || no_mount_is_shared());
    return own;
}
#endif

const char *support_tmpfs(uint64_t size_bytes) {
#ifdef __linux__
    char options[64];
    const char *at = support_path("tmpfs");
    snprintf(options, sizeof options, "size=%llu", (unsigned long long)size_bytes);
    assert_ok(mkdir(at, 0755));
    if (!own_mounts() || mount("emmap-test", at, "tmpfs", 0, options)) {
        print_message("no tmpfs can be mounted: run as root\n");
        skip();
    }
    mounted = true;
#else
    (void)size_bytes;
    skip();
#endif
    return support_path("tmpfs/f");
}

void fill_up(void) {
    static const uint8_t bytes[4096] = {1};
    const int fd = open(support_path("tmpfs/filler"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    assert_true(fd >= 0);
    while (write(fd, bytes, sizeof bytes) > 0)
        ;
    close(fd);
}

void make_room(void) {
    assert_ok(unlink(support_path("tmpfs/filler")));
}

/* ---------------------------------------------------------------------------------- files */

uint8_t pattern(uint64_t i) {
    return (uint8_t)(i * 7 + (i >> 8) * 13 + 1);
}

bool is_pattern(const uint8_t *bytes, uint64_t off, uint64_t len_bytes) {
    for (uint64_t i = 0; i < len_bytes; i++)
        if (bytes[i] != pattern(off + i)) return false;
    return true;
}

bool is_zero(const uint8_t *bytes, uint64_t len_bytes) {
    for (uint64_t i = 0; i < len_bytes; i++)
        if (bytes[i] != 0) return false;
    return true;
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

uint64_t page_bytes(void) {
    return os_page_bytes();
}

struct snapshot snapshot_of(const char *path) {
    struct snapshot now = {.path = path, .exists = file_exists(path)};
    if (!now.exists) return now;
    now.len_bytes = file_bytes_of(path);
    now.bytes = malloc(now.len_bytes + 1);
    assert_non_null(now.bytes);
    const int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, now.bytes, now.len_bytes, 0), now.len_bytes);
    close(fd);
    return now;
}

void assert_as_before(struct snapshot *before) {
    struct snapshot now = snapshot_of(before->path);
    assert_int_equal(now.exists, before->exists);
    assert_int_equal(now.len_bytes, before->len_bytes);
    if (now.exists) assert_memory_equal(now.bytes, before->bytes, now.len_bytes);
    free(now.bytes);
    free(before->bytes);
}

/* -------------------------------------------------------------------------------- handles */

void own_faults(void) {
    assert_int_equal(os_on_fault(region_on_fault), 0);
}

int open_file(struct emmap_file **file, const char *path, uint32_t flags, uint64_t off,
              uint64_t len_bytes) {
    const struct emmap_file_options options = {.flags = flags, .off = off, .len_bytes = len_bytes};
    return emmap_file_open(file, path, &options, NULL);
}

struct emmap_file *must_open(const char *path, uint32_t flags, uint64_t len_bytes) {
    struct emmap_file *file = NULL;
    own_faults();
    assert_ok(open_file(&file, path, flags, 0, len_bytes));
    assert_non_null(file);
    return file;
}

int open_rc(const char *path, uint32_t flags, uint64_t off, uint64_t len_bytes) {
    struct emmap_file *file = NULL;
    const int rc = open_file(&file, path, flags, off, len_bytes);
    if (rc == 0) emmap_file_free(file);
    return rc;
}

int read_byte(struct emmap_file *file, uint64_t off, uint8_t *byte) {
    uint64_t got;
    return emmap_file_read(file, off, byte, 1, &got);
}

struct emmap_file_info info_of(struct emmap_file *file) {
    struct emmap_file_info info;
    assert_ok(emmap_file_info(file, &info));
    return info;
}

unsigned open_descriptors(void) {
    unsigned n = 0;
    DIR *dir = opendir("/dev/fd");
    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

unsigned map_entries(void) {
    unsigned n = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    if (!maps) return 0;
    for (int c; (c = getc(maps)) != EOF;)
        n += c == '\n';
    fclose(maps);
    return n;
}

static bool is_mapped(const char *path) {
    char line[1024];
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof line, maps))
        found = found || strstr(line, path);
    if (maps) fclose(maps);
    return found;
}

enum { AWAIT_MS = 10000 };

void await_regions(uint64_t n) {
    static bool lost; /* by a test that has failed: no other need wait as long */
    struct emmap_stats stats;
    for (int i = 0; i < (lost ? AWAIT_MS / 100 : AWAIT_MS); i++) {
        emmap_stats(&stats);
        if (stats.regions == n) return;
        os_sleep_ms(1);
    }
    lost = true;
    fail_msg("%llu regions, not %llu", (unsigned long long)stats.regions, (unsigned long long)n);
}

void await_no_regions(void) {
    await_regions(0);
}

int support_teardown_at_rest(void **state) {
    await_no_regions();
    return support_teardown(state);
}

/* Not under thread sanitizer, which has pipes of its own to clang's symbolizer. */
void await_descriptors(unsigned n) {
    if (THREAD_SANITIZER) return;
    for (int i = 0; i < AWAIT_MS && open_descriptors() != n; i++)
        os_sleep_ms(1);
    assert_int_equal(open_descriptors(), n);
}

void await_unmapped(const char *path) {
    for (int i = 0; i < AWAIT_MS && is_mapped(path); i++)
        os_sleep_ms(1);
    assert_false(is_mapped(path));
}
