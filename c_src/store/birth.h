/* birth.h -- how a store's file is made. */
#ifndef EMMAP_STORE_BIRTH_H
#define EMMAP_STORE_BIRTH_H

#include <stdint.h>

/* birth -- make a file that nobody ever sees half of.
 *
 *   name   of the file; links are followed
 *   fill   gives the empty file at a temporary name in the same folder its content, and syncs it
 *
 * It is filled under a name of its own, linked into place, and the folder synced: of several that
 * make it at once one wins.
 *
 * Returns  0 | -EEXIST (another one did, or the name of its own was taken: look again) | fill's */
int birth(const char *name, uint32_t mode, int (*fill)(const char *temporary, void *ctx),
          void *ctx);

#endif
