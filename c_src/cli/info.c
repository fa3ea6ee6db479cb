/* info.c -- emmap info: what a file is. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "emmap.h"

static const char *space_name(enum emmap_space space) {
    switch (space) {
    case EMMAP_SPACE_RESERVED:
        return "reserved";
    case EMMAP_SPACE_SPARSE:
        return "sparse";
    default:
        return "best_effort";
    }
}

/* The length of the UTF-8 character that s starts with, 0 when it starts with none. */
static size_t utf8_bytes(const unsigned char *s) {
    const size_t n = s[0] < 0x80 ? 1 : s[0] < 0xC2 ? 0 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
    if (s[0] > 0xF4) return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xC0) != 0x80) return 0;
    return n;
}

/* A name may hold any byte; what is no UTF-8 becomes the replacement character. */
static void print_json_string(const char *string) {
    putchar('"');
    for (const unsigned char *s = (const unsigned char *)string; *s;) {
        const size_t n = utf8_bytes(s);
        if (n == 0)
            fputs("\\ufffd", stdout);
        else if (*s == '"' || *s == '\\')
            printf("\\%c", *s);
        else if (*s < 0x20)
            printf("\\u%04x", *s);
        else
            fwrite(s, 1, n, stdout);
        s += n ? n : 1;
    }
    putchar('"');
}

static void print_json(const struct emmap_file_info *info) {
    printf("{\"file\":");
    print_json_string(info->path);
    printf(",\"kind\":\"plain\",\"size\":%" PRIu64 ",\"allocated\":%" PRIu64
           ",\"space\":\"%s\",\"page_size\":%" PRIu64 "}\n",
           info->file_bytes, info->allocated_bytes, space_name(info->space), info->page_bytes);
}

static void print_text(const struct emmap_file_info *info) {
    printf("%s\n", info->path);
    printf("  kind       plain file\n");
    printf("  size       %" PRIu64 " bytes\n", info->file_bytes);
    printf("  allocated  %" PRIu64 " bytes on the disk (%s)\n", info->allocated_bytes,
           space_name(info->space));
    printf("  pages      %" PRIu64 " of %" PRIu64 " bytes\n",
           (info->file_bytes + info->page_bytes - 1) / info->page_bytes, info->page_bytes);
}

static int inspect(const char *path, bool json) {
    const struct emmap_file_options options = {.flags =
                                                   EMMAP_SHARED | EMMAP_FIXED_SIZE | EMMAP_FORCE};
    struct emmap_file *file;
    int rc = emmap_file_open(&file, path, &options, NULL);
    if (rc) return rc;
    struct emmap_file_info info;
    rc = emmap_file_info(file, &info);
    if (rc == 0 && json) print_json(&info);
    if (rc == 0 && !json) print_text(&info);
    emmap_file_free(file);
    return rc;
}

enum cli_status cli_info(int argc, char **argv) {
    static const struct option long_options[] = {{"json", no_argument, NULL, 'j'}, {0}};
    bool json = false;
    for (int c; (c = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
        if (c != 'j') return CLI_USAGE; /* getopt has said why */
        json = true;
    }
    if (optind == argc) {
        fputs("emmap info: no file given; see emmap --help\n", stderr);
        return CLI_USAGE;
    }
    enum cli_status status = CLI_OK;
    for (int i = optind; i < argc; i++) {
        const int rc = inspect(argv[i], json);
        if (rc == 0) continue;
        fprintf(stderr, "emmap info: %s: %s (%s)\n", argv[i], emmap_error_message(rc),
                emmap_error_name(rc));
        status = CLI_FAILED;
    }
    return status;
}
