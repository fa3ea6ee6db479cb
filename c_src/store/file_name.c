/* file_name.c -- the name under which a file is opened, made and deleted. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "os/os.h"
#include "store/file.h"

enum { LINKS_MOST = 40 };

/* A name seen from a folder, which ends with a slash. */
static char *join(const char *folder, size_t folder_len, const char *name) {
    const size_t name_len = strlen(name);
    if (name[0] == '/') folder_len = 0;
    char *joined = malloc(folder_len + name_len + 1);
    if (!joined) return NULL;
    memcpy(joined, folder, folder_len);
    memcpy(joined + folder_len, name, name_len + 1);
    return joined;
}

static int absolute_path(const char *path, char **out) {
    if (path[0] == '\0') return -ENOENT;
    char cwd[PATH_MAX + 1] = "";
    if (path[0] != '/') {
        const int rc = os_getcwd(cwd, PATH_MAX);
        if (rc) return rc;
        strcat(cwd, "/");
    }
    *out = join(cwd, strlen(cwd), path);
    return *out ? 0 : -ENOMEM;
}

/* The name behind symbolic links, also where there is no file yet. */
static int follow_links(char **path) {
    for (int links = 0; links < LINKS_MOST; links++) {
        char target[PATH_MAX];
        const int rc = os_readlink(*path, target, sizeof target);
        if (rc == -EINVAL || rc == -ENOENT) return 0; /* no link; opening tells the rest */
        if (rc) return rc;
        char *next = join(*path, (size_t)(strrchr(*path, '/') + 1 - *path), target);
        if (!next) return -ENOMEM;
        free(*path);
        *path = next;
    }
    return -ELOOP;
}

int file_real_path(const char *path, char **out) {
    char *full = NULL;
    int rc = absolute_path(path, &full);
    if (rc == 0) rc = follow_links(&full);
    if (rc)
        free(full);
    else
        *out = full;
    return rc;
}

/* What is made, and what is deleted, is the file, not a link to it. What is only opened keeps its
 * name: some links, of /proc, say no name that could be opened. */
int name_of_file(const char *path, uint32_t flags, char **out) {
    struct os_stat st;
    const bool follow = !(flags & (EMMAP_ANON | EMMAP_NOFOLLOW));
    const bool make = follow && (flags & EMMAP_CREATE) && os_stat(path, &st) == -ENOENT;
    if (make || (follow && (flags & EMMAP_AUTO_UNLINK))) return file_real_path(path, out);
    return absolute_path(path, out);
}
