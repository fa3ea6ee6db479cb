/* info.c -- emmap info: what a file is. */
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

/* What is told of one file. */
struct report {
    struct emmap_file *file;
    struct emmap_file_info info;
    bool is_counters, is_simple, is_queue, is_old_queue;
    int damage;                      /* of a counters file or a queue: 0 or an error */
    uint64_t count;                  /* of simple counters */
    struct emmap_counters *counters; /* NULL: simple, damaged, none */
    struct emmap_counters_info counters_info;
    struct emmap_queue_view_info queue;
};

static const char *kind_name(const struct report *r) {
    if (r->is_counters) return "counters";
    if (r->is_old_queue) return "queue of version 2";
    return r->is_queue ? "queue" : "plain";
}

/* The values as far as they can be read: others may truncate the file right now. */
static int each_value(const struct report *r,
                      void (*print)(const struct report *r, uint64_t i, int64_t value)) {
    const uint64_t count = r->counters ? r->counters_info.count : r->count;
    for (uint64_t i = 0; i < count; i++) {
        int64_t value;
        const int rc = r->counters ? emmap_counters_get(r->counters, i, &value)
                                   : emmap_file_load(r->file, emmap_simple_counters_off(i), &value);
        if (rc) return rc;
        print(r, i, value);
    }
    return 0;
}

static void print_json_value(const struct report *r, uint64_t i, int64_t value) {
    printf("%s", i ? "," : "");
    if (r->counters_info.is_unsigned)
        printf("%" PRIu64, (uint64_t)value);
    else
        printf("%" PRId64, value);
}

static const char *bool_name(bool value) {
    return value ? "true" : "false";
}

static int print_json_counters(const struct report *r) {
    const struct emmap_counters_info *info = &r->counters_info;
    printf(",\"simple\":%s", bool_name(r->is_simple));
    if (r->counters)
        printf(",\"count\":%" PRIu64 ",\"named\":%s,\"signed\":%s,\"padded\":%s,\"striped\":%s",
               info->count, bool_name(info->is_named), bool_name(!info->is_unsigned),
               bool_name(info->is_padded), bool_name(info->is_striped));
    printf(",\"counters\":[");
    const int rc = each_value(r, print_json_value);
    printf("]");
    return rc;
}

static int print_json(const struct report *r) {
    int rc = 0;
    printf("{\"file\":");
    cli_json_string(r->info.path);
    printf(",\"kind\":\"%s\",\"size\":%" PRIu64 ",\"allocated\":%" PRIu64
           ",\"space\":\"%s\",\"page_size\":%" PRIu64,
           kind_name(r), r->info.file_bytes, r->info.allocated_bytes, space_name(r->info.space),
           r->info.page_bytes);
    if (r->damage) printf(",\"error\":\"%s\"", emmap_error_name(r->damage));
    if (r->is_counters && !r->damage) rc = print_json_counters(r);
    if (r->is_queue && !r->damage) cli_queue_json(&r->queue);
    printf("}\n");
    return rc;
}

static void print_text_value(const struct report *r, uint64_t i, int64_t value) {
    (void)r;
    printf("  %8" PRIu64 "  %" PRId64 "\n", i, value);
}

/* The values of counters that may have names tells `emmap counters`. */
static void print_text_counters(const struct report *r) {
    const struct emmap_counters_info *info = &r->counters_info;
    printf("  counters     %" PRIu64 " %s, %s%s%s\n", info->count,
           info->is_unsigned ? "unsigned" : "signed",
           info->is_named ? "with names" : "without names", info->is_padded ? ", padded" : "",
           info->is_striped ? ", striped" : "");
}

static int print_text(const struct report *r) {
    const struct emmap_file_info *info = &r->info;
    printf("%s\n", info->path);
    printf("  kind         %s\n", r->is_simple                     ? "simple counters"
                                  : r->is_counters                 ? "counters"
                                  : r->is_queue || r->is_old_queue ? kind_name(r)
                                                                   : "plain file");
    printf("  size         %" PRIu64 " bytes\n", info->file_bytes);
    printf("  allocated    %" PRIu64 " bytes on the disk (%s)\n", info->allocated_bytes,
           space_name(info->space));
    printf("  pages        %" PRIu64 " of %" PRIu64 " bytes\n",
           (info->file_bytes + info->page_bytes - 1) / info->page_bytes, info->page_bytes);
    if (r->damage) printf("  damaged      %s\n", emmap_error_message(r->damage));
    if (r->is_queue && !r->damage) cli_queue_text(&r->queue);
    if (!r->is_counters || r->damage) return 0;
    if (!r->is_simple) {
        print_text_counters(r);
        return 0;
    }
    printf("  counters     %" PRIu64 "\n", r->count);
    return each_value(r, print_text_value);
}

static bool is_damage(int rc) {
    return rc == EMMAP_E_CORRUPT || rc == EMMAP_E_TRUNCATED || rc == EMMAP_E_NOTSUP;
}

/* A queue, or what was one before it was damaged; of any other file nothing is told. */
static int look_for_queue(const char *path, struct report *r) {
    struct emmap_queue_view *view;
    int rc = emmap_queue_view_open(&view, path);
    r->is_old_queue = rc == EMMAP_E_OLD_FORMAT;
    if (rc == EMMAP_E_FOREIGN || rc == EMMAP_E_OLD_FORMAT) return 0;
    r->is_queue = true;
    if (rc == 0) {
        rc = emmap_queue_view_info(view, &r->queue);
        emmap_queue_view_close(view);
    }
    if (!is_damage(rc)) return rc;
    r->damage = rc;
    return 0;
}

/* Counters of either format, or what were some; of any other file nothing is told. */
static int look_for_counters(const char *path, struct report *r) {
    const struct emmap_counters_options options = {.flags =
                                                       EMMAP_COUNTERS_READ | EMMAP_COUNTERS_FORCE};
    int rc = emmap_simple_counters_count(r->file, &r->count);
    r->is_simple = rc == 0 || rc == EMMAP_E_CORRUPT || rc == EMMAP_E_TRUNCATED;
    if (!r->is_simple) rc = emmap_counters_open(&r->counters, path, &options);
    if (rc == EMMAP_E_FOREIGN) return 0;
    r->is_counters = true;
    if (r->counters) rc = emmap_counters_info(r->counters, &r->counters_info);
    if (!is_damage(rc)) return rc;
    r->damage = rc;
    return 0;
}

static int inspect(const char *path, bool json) {
    const struct emmap_file_options options = {.flags =
                                                   EMMAP_SHARED | EMMAP_FIXED_SIZE | EMMAP_FORCE};
    struct report r = {0};
    int rc = emmap_file_open(&r.file, path, &options, NULL);
    if (rc) return rc;
    rc = emmap_file_info(r.file, &r.info);
    if (rc == 0) rc = look_for_counters(path, &r);
    if (rc == 0 && !r.is_counters) rc = look_for_queue(path, &r);
    if (rc == 0) rc = json ? print_json(&r) : print_text(&r);
    if (rc == 0) rc = r.damage;
    emmap_counters_free(r.counters);
    emmap_file_free(r.file);
    return rc;
}

static const char help[] =
    "Usage: emmap info [--json] FILE...\n"
    "\n"
    "Tells what a file is, without changing it: of counters how many and of what kind, of simple\n"
    "ones their values, of a queue what is in it, who has it open, and what its next opener will\n"
    "do. The file may be in use. --json: one object a line.\n"
    "\n"
    "Exit status: 0; 1: damaged; 2: it cannot be read, or the command line is wrong.\n";

static enum cli_status info(const char *path, bool json) {
    const int rc = inspect(path, json);
    return rc ? cli_complain("info", path, rc) : CLI_OK;
}

enum cli_status cli_info(int argc, char **argv) {
    return cli_files("info", help, info, argc, argv);
}
