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

/* The length of the UTF-8 character that s starts with, 0 when it starts with none: overlong ones,
 * surrogates and what lies past U+10FFFF are none (RFC 3629). */
static size_t utf8_bytes(const unsigned char *s) {
    static const struct {
        unsigned char first, last; /* of the first byte */
        unsigned char least, most; /* of the second */
        unsigned char bytes;
    } kinds[] = {
        {0x00, 0x7F, 0x00, 0xFF, 1}, {0xC2, 0xDF, 0x80, 0xBF, 2}, {0xE0, 0xE0, 0xA0, 0xBF, 3},
        {0xE1, 0xEC, 0x80, 0xBF, 3}, {0xED, 0xED, 0x80, 0x9F, 3}, {0xEE, 0xEF, 0x80, 0xBF, 3},
        {0xF0, 0xF0, 0x90, 0xBF, 4}, {0xF1, 0xF3, 0x80, 0xBF, 4}, {0xF4, 0xF4, 0x80, 0x8F, 4},
    };
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        if (s[0] < kinds[k].first || s[0] > kinds[k].last) continue;
        const size_t n = kinds[k].bytes;
        if (n > 1 && (s[1] < kinds[k].least || s[1] > kinds[k].most)) return 0;
        for (size_t i = 2; i < n; i++)
            if ((s[i] & 0xC0) != 0x80) return 0;
        return n;
    }
    return 0;
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

/* What is told of one file. */
struct report {
    struct emmap_file *file;
    struct emmap_file_info info;
    bool is_counters;
    int damage;     /* of a counters file: 0 or an error */
    uint64_t count; /* of counters */
};

static const char *kind_name(const struct report *r) {
    return r->is_counters ? "counters" : "plain";
}

/* The values as far as they can be read: others may truncate the file right now. */
static int each_value(const struct report *r, void (*print)(uint64_t i, int64_t value)) {
    for (uint64_t i = 0; r->damage == 0 && i < r->count; i++) {
        int64_t value;
        const int rc = emmap_file_load(r->file, emmap_counters_off(i), &value);
        if (rc) return rc;
        print(i, value);
    }
    return 0;
}

static void print_json_value(uint64_t i, int64_t value) {
    printf("%s%" PRId64, i ? "," : "", value);
}

static int print_json(const struct report *r) {
    int rc = 0;
    printf("{\"file\":");
    print_json_string(r->info.path);
    printf(",\"kind\":\"%s\",\"size\":%" PRIu64 ",\"allocated\":%" PRIu64
           ",\"space\":\"%s\",\"page_size\":%" PRIu64,
           kind_name(r), r->info.file_bytes, r->info.allocated_bytes, space_name(r->info.space),
           r->info.page_bytes);
    if (r->is_counters && r->damage) printf(",\"error\":\"%s\"", emmap_error_name(r->damage));
    if (r->is_counters && !r->damage) {
        printf(",\"counters\":[");
        rc = each_value(r, print_json_value);
        printf("]");
    }
    printf("}\n");
    return rc;
}

static void print_text_value(uint64_t i, int64_t value) {
    printf("  %8" PRIu64 "  %" PRId64 "\n", i, value);
}

static int print_text(const struct report *r) {
    const struct emmap_file_info *info = &r->info;
    printf("%s\n", info->path);
    printf("  kind       %s\n", r->is_counters ? "simple counters" : "plain file");
    printf("  size       %" PRIu64 " bytes\n", info->file_bytes);
    printf("  allocated  %" PRIu64 " bytes on the disk (%s)\n", info->allocated_bytes,
           space_name(info->space));
    printf("  pages      %" PRIu64 " of %" PRIu64 " bytes\n",
           (info->file_bytes + info->page_bytes - 1) / info->page_bytes, info->page_bytes);
    if (!r->is_counters) return 0;
    if (r->damage)
        printf("  damaged    %s\n", emmap_error_message(r->damage));
    else
        printf("  counters   %" PRIu64 "\n", r->count);
    return each_value(r, print_text_value);
}

static int inspect(const char *path, bool json) {
    const struct emmap_file_options options = {.flags =
                                                   EMMAP_SHARED | EMMAP_FIXED_SIZE | EMMAP_FORCE};
    struct report r = {0};
    int rc = emmap_file_open(&r.file, path, &options, NULL);
    if (rc) return rc;
    rc = emmap_file_info(r.file, &r.info);
    if (rc == 0) {
        r.damage = emmap_counters_count(r.file, &r.count);
        r.is_counters = r.damage == 0 || r.damage == EMMAP_E_CORRUPT;
        rc = json ? print_json(&r) : print_text(&r);
    }
    if (rc == 0 && r.is_counters) rc = r.damage;
    emmap_file_free(r.file);
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
