/* read_at.c -- a C program beside Erlang ones: prints bytes of a mapped file.
 *
 *     cc read_at.c -lemmap -o read_at && ./read_at FILE OFFSET LENGTH */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <emmap.h>

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: read_at FILE OFFSET LENGTH\n");
        return 2;
    }
    const struct emmap_file_options options = {.flags = EMMAP_SHARED};
    struct emmap_file *file;
    int rc = emmap_file_open(&file, argv[1], &options, NULL);
    if (rc) {
        fprintf(stderr, "read_at: %s: %s\n", argv[1], emmap_error_message(rc));
        return 1;
    }
    char buf[4096];
    const uint64_t wanted = strtoull(argv[3], NULL, 0);
    uint64_t got;
    rc = emmap_file_read(file, strtoull(argv[2], NULL, 0), buf,
                         wanted < sizeof buf ? wanted : sizeof buf, &got);
    if (rc == 0)
        fwrite(buf, 1, got, stdout);
    else
        fprintf(stderr, "read_at: %s\n", emmap_error_message(rc));
    emmap_file_free(file);
    return rc ? 1 : 0;
}
