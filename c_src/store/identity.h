/* identity.h -- who wrote a store's live words: this boot, and this very file by this mount? */
#ifndef EMMAP_STORE_IDENTITY_H
#define EMMAP_STORE_IDENTITY_H

#include <stdint.h>
#include <string.h>

#include "os/os.h"

enum { IDENTITY_WORDS = sizeof(struct os_identity) / sizeof(uint64_t) };

/* -EOPNOTSUPP: it cannot be known here, so that every opener recovers. */
static inline int identity_now(int fd, uint64_t out[IDENTITY_WORDS]) {
    struct os_identity identity;
    const int rc = os_identity(fd, &identity);
    if (rc == 0) memcpy(out, &identity, sizeof identity);
    return rc;
}

#endif
