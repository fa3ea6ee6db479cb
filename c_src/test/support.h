/* support.h -- what the C tests share: temporary folders, files, other OS processes, waiting for
 * the background. */
#ifndef EMMAP_TEST_SUPPORT_H
#define EMMAP_TEST_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "emmap.h"

#ifdef EMMAP_OS_linux
enum { SPACE_IS_RESERVED = 1 };
#else
enum { SPACE_IS_RESERVED = 0 };
#endif

/* A file is known again in the same boot, bytes of it can be locked, blocks be given back. */
#ifdef EMMAP_OS_posix
enum { FILES_ARE_KNOWN = 0 };
#else
enum { FILES_ARE_KNOWN = 1 };
#endif

#ifndef __has_feature
#define __has_feature(feature) 0
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
enum { THREAD_SANITIZER = 1, SANITIZER = 1 };
#elif defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
enum { THREAD_SANITIZER = 0, SANITIZER = 1 };
#else
enum { THREAD_SANITIZER = 0, SANITIZER = 0 };
#endif

/* The flags of a shared map that may be written. */
enum { RW = EMMAP_SHARED | EMMAP_WRITE };

#define assert_ok(call) assert_int_equal((call), 0)

/* For other threads and OS processes, where cmocka's asserts may not be used: ends the test
 * program. */
#define MUST(condition) ((condition) ? (void)0 : must_failed(__FILE__, __LINE__, #condition))
void must_failed(const char *file, int line, const char *condition);

#define TEST(name) cmocka_unit_test_setup_teardown(name, support_setup, support_teardown)
/* Ends when the background has let go of all. */
#define TEST_AT_REST(name) \
    cmocka_unit_test_setup_teardown(name, support_setup, support_teardown_at_rest)

/* A folder of this test's own, removed by support_teardown with all that is in it. */
int support_setup(void **state);
int support_teardown(void **state);
int support_teardown_at_rest(void **state);
const char *support_path(const char *name); /* static, overwritten by the 8th next call */
/* Where files are in memory; nothing there is removed by itself. */
const char *support_memory(void);
/* A file system of its own in the folder, in memory; ends the test as skipped where that may not
 * be had. Returns the path of a file there; fill_up leaves no room on it, make_room gives it back.
 */
const char *support_tmpfs(uint64_t size_bytes);
void fill_up(void);
void make_room(void);

void make_file(const char *path, uint64_t len_bytes); /* byte i is pattern(i) */
uint8_t pattern(uint64_t i);
bool is_pattern(const uint8_t *bytes, uint64_t off, uint64_t len_bytes);
bool is_zero(const uint8_t *bytes, uint64_t len_bytes);
uint64_t file_bytes_of(const char *path);
uint64_t file_blocks_of(const char *path);
bool file_exists(const char *path);
uint8_t file_byte(const char *path, uint64_t off);
uint64_t page_bytes(void);

/* A file as it was; assert_as_before frees it. */
struct snapshot {
    const char *path;
    bool exists;
    uint64_t len_bytes;
    uint8_t *bytes;
};
struct snapshot snapshot_of(const char *path);
void assert_as_before(struct snapshot *before);

/* cmocka has put its own handler for SIGBUS before ours; must_open calls this. */
void own_faults(void);
int open_file(struct emmap_file **file, const char *path, uint32_t flags, uint64_t off,
              uint64_t len_bytes);
struct emmap_file *must_open(const char *path, uint32_t flags, uint64_t len_bytes);
int open_rc(const char *path, uint32_t flags, uint64_t off, uint64_t len_bytes); /* and free */
int read_byte(struct emmap_file *file, uint64_t off, uint8_t *byte);
struct emmap_file_info info_of(struct emmap_file *file);
unsigned open_descriptors(void);
unsigned map_entries(void); /* 0 where the system does not tell */

/* Wait, bounded, until the background has given back all regions, or all but n; until only n
 * descriptors are open; until this OS process maps the file no more (where the system tells). */
void await_no_regions(void);
void await_regions(uint64_t n);
void await_descriptors(unsigned n);
void await_unmapped(const char *path);

/* ---- Another OS process: this program once more, which runs one role and nothing else. */
struct role {
    const char *name;
    int (*run)(const char *path); /* the exit status */
};
/* In main, first: -1 in the test program itself, else the status to exit with. */
int run_role(int argc, char **argv, const struct role *roles, size_t count);

struct child {
    int pid, socket;
};
struct child start_role(const char *name, const char *path);
void await_word(const struct child *child); /* of say */
void give_word(const struct child *child);
int end_role(const struct child *child); /* the exit status; 256 + the signal that killed it */
int role_result(const char *name, const char *path);
/* In the role: tell the test program something; wait for its give_word (false: it has ended);
 * has it said anything or ended yet? */
void say(void);
bool hear(void);
bool heard(void);

#endif
