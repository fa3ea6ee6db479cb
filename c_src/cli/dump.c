/* dump.c -- emmap dump: the messages of a queue, one a line. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "emmap.h"

enum { DATA_BYTES = 64 << 20 }; /* longer ones are not printed */
enum { ENOUGH = 1 };

struct dump {
    bool json;
    uint64_t limit, printed;
    uint64_t problems;
};

static const char *state_name(enum emmap_queue_state state) {
    switch (state) {
    case EMMAP_QUEUE_READY:
        return "ready";
    case EMMAP_QUEUE_FILLING:
        return "filling";
    case EMMAP_QUEUE_LEASED:
        return "claimed";
    case EMMAP_QUEUE_TAKING:
        return "taking";
    default:
        return "none";
    }
}

static void print_hex(const struct emmap_queue_item *item) {
    const uint8_t *data = item->data;
    for (uint32_t i = 0; i < item->len_bytes; i++)
        printf("%02x", data[i]);
}

/* The length of the term is in front. */
static uint32_t inflated_bytes(const struct emmap_queue_item *item) {
    const uint8_t *data = item->data;
    if (item->len_bytes < 4) return 0;
    return data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 | (uint32_t)data[3] << 24;
}

static bool is_deflated(const struct emmap_queue_item *item) {
    return (item->flags & EMMAP_QUEUE_DEFLATED) != 0;
}

static void print_text(const struct emmap_queue_item *item) {
    char time[CLI_TIME_BYTES], state[32];
    snprintf(state, sizeof state, "%s%s", state_name(item->state),
             item->orphaned ? " by a dead process" : "");
    printf("%8" PRIu64 "  %s  %-7s  %7" PRIu32 "  ", item->ordinal, cli_time(item->time_ms, time),
           state, item->len_bytes);
    if (item->damaged)
        printf("(damaged)");
    else if (!item->data)
        printf("%s", item->state == EMMAP_QUEUE_FILLING ? "(not there yet)" : "(not shown)");
    else if (is_deflated(item))
        printf("(deflated, a term of %" PRIu32 " bytes)", inflated_bytes(item));
    else if (!cli_print_term(item->data, item->len_bytes, cli_put_text)) {
        printf("(no term) ");
        print_hex(item);
    }
    printf("\n");
}

static void print_json(const struct emmap_queue_item *item) {
    printf("{\"ordinal\":%" PRIu64 ",\"time_ms\":%" PRIu64 ",\"state\":\"%s\",\"orphaned\":%s"
           ",\"position\":%" PRIu64 ",\"length\":%" PRIu32 ",\"deflated\":%s,\"damaged\":%s",
           item->ordinal, item->time_ms, state_name(item->state), item->orphaned ? "true" : "false",
           item->pos, item->len_bytes, is_deflated(item) ? "true" : "false",
           item->damaged ? "true" : "false");
    if (item->data && !is_deflated(item) && cli_print_term(item->data, item->len_bytes, NULL)) {
        printf(",\"term\":\"");
        (void)cli_print_term(item->data, item->len_bytes, cli_put_json);
        printf("\"");
    } else if (item->data) {
        printf(",\"hex\":\"");
        print_hex(item);
        printf("\"");
    }
    printf("}\n");
}

static int item(void *ctx, const struct emmap_queue_item *item) {
    struct dump *dump = ctx;
    if (item->state == EMMAP_QUEUE_DONE || item->state == EMMAP_QUEUE_VOID) return 0;
    if (dump->printed == dump->limit) return ENOUGH;
    dump->printed++;
    if (dump->json)
        print_json(item);
    else
        print_text(item);
    return ferror(stdout) ? ENOUGH : 0;
}

static void problem(void *ctx, const struct emmap_queue_problem *problem) {
    struct dump *dump = ctx;
    dump->problems++;
    fflush(stdout);
    fprintf(stderr, "emmap dump: %s (message %" PRIu64 ", position %" PRIu64 ")\n",
            emmap_queue_problem_message(problem->kind), problem->ordinal, problem->pos);
}

static int dump_file(struct dump *dump, const char *path) {
    struct emmap_queue_view *view;
    struct emmap_queue_walked walked;
    const struct emmap_queue_walk walk = {
        .item = item, .problem = problem, .ctx = dump, .data_bytes = DATA_BYTES};
    int rc = emmap_queue_view_open(&view, path);
    if (rc) return rc;
    rc = emmap_queue_view_walk(view, &walk, &walked);
    emmap_queue_view_close(view);
    return rc == ENOUGH ? 0 : rc;
}

static const char help[] =
    "Usage: emmap dump [--json] [--limit N] FILE\n"
    "\n"
    "Prints the messages of a queue from the first to the last, one a line: number, time of the\n"
    "push, state, length in bytes, and the term as Erlang writes it; what is none in hexadecimal.\n"
    "States: ready, claimed (somebody works on it), taking, filling (being pushed). Nothing is\n"
    "changed or taken, and the queue may be in use; of a file that its next opener will recover "
    "it\n"
    "prints what that will keep. --json: one object a line. --limit N: the first N messages.\n"
    "\n"
    "Exit status: 0; 1: damaged; 2: no queue, it cannot be read, or the command line is wrong.\n";

static bool number(const char *text, uint64_t *n) {
    char *end;
    errno = 0;
    if (*text < '0' || *text > '9') return false;
    *n = strtoull(text, &end, 10);
    return errno == 0 && *end == 0;
}

enum cli_status cli_dump(int argc, char **argv) {
    static const struct option long_options[] = {{"json", no_argument, NULL, 'j'},
                                                 {"limit", required_argument, NULL, 'l'},
                                                 {"help", no_argument, NULL, 'h'},
                                                 {0}};
    struct dump dump = {.limit = UINT64_MAX};
    for (int c; (c = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
        if (c == 'h') {
            fputs(help, stdout);
            return CLI_OK;
        }
        if (c == 'l' && !number(optarg, &dump.limit)) {
            fprintf(stderr, "emmap dump: '%s' is no number\n", optarg);
            return CLI_USAGE;
        }
        if (c == '?') return CLI_USAGE; /* getopt has said why */
        if (c == 'j') dump.json = true;
    }
    if (optind + 1 != argc) {
        fputs("emmap dump: one file is to be given; see emmap dump --help\n", stderr);
        return CLI_USAGE;
    }
    const int rc = dump_file(&dump, argv[optind]);
    enum cli_status status = dump.problems > 0 ? CLI_DAMAGED : CLI_OK;
    if (rc) status = cli_worse(status, cli_complain("dump", argv[optind], rc));
    return cli_flush("dump", status);
}
