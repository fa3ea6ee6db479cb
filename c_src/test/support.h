/* support.h -- what the C tests share: temporary folders, files, waiting for the background. */
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

/* A folder of this test's own, removed by support_teardown with all that is in it. */
int support_setup(void **state);
int support_teardown(void **state);
const char *support_path(const char *name); /* static, overwritten by the 8th next call */

void make_file(const char *path, uint64_t len_bytes); /* byte i is pattern(i) */
uint8_t pattern(uint64_t i);
uint64_t file_bytes_of(const char *path);
uint64_t file_blocks_of(const char *path);
bool file_exists(const char *path);
uint8_t file_byte(const char *path, uint64_t off);

/* cmocka has put its own handler for SIGBUS before ours; must_open calls this. */
void own_faults(void);
struct emmap_file *must_open(const char *path, uint32_t flags, uint64_t len_bytes);
unsigned open_descriptors(void);
unsigned map_entries(void);

/* Wait, bounded, until the background has given all regions back. */
void await_no_regions(void);

#endif
