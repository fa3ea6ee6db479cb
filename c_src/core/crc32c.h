/* crc32c.h -- CRC-32C (Castagnoli): the checksum of iSCSI, ext4 and the x86 instruction. */
#ifndef EMMAP_CORE_CRC32C_H
#define EMMAP_CORE_CRC32C_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* crc32c -- the CRC of what crc stands for (0: nothing) followed by data.
 *
 *   data     len_bytes readable bytes; may be NULL iff len_bytes == 0
 *
 * crc32c(crc32c(0, a), b) is the CRC of a and b together.
 *
 * Threads  any number, from the first call on
 * Faults   touches data, as a read of it does
 */
uint32_t crc32c(uint32_t crc, const void *data, size_t len_bytes);

#ifdef EMMAP_TESTING
/* How it is done; crc32c takes the processor's instructions where it has them. */
enum crc32c_way { CRC32C_TABLES, CRC32C_INSTRUCTIONS };
bool crc32c_has(enum crc32c_way way);
uint32_t crc32c_with(enum crc32c_way way, uint32_t crc, const void *data, size_t len_bytes);
#endif
#endif
