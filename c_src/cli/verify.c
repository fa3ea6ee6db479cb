/* verify.c -- emmap verify: is all of a queue's file as it must be? */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "emmap.h"

enum { TRIES = 5, MOST_PROBLEMS = 1000, PROGRESS_MS = 200 };
static const uint64_t LONG_BYTES = 64 << 20; /* of a file of which progress is told */

struct verify {
    const char *path;
    struct emmap_queue_view_info info;
    struct emmap_queue_walked walked;
    struct emmap_queue_problem problem[MOST_PROBLEMS];
    unsigned problems; /* that are kept */
    bool progress;
    struct timespec told;
};

static bool is_time(struct verify *v) {
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    const int64_t ms =
        (int64_t)(now.tv_sec - v->told.tv_sec) * 1000 + (now.tv_nsec - v->told.tv_nsec) / 1000000;
    if (ms >= 0 && ms < PROGRESS_MS) return false;
    v->told = now;
    return true;
}

static int item(void *ctx, const struct emmap_queue_item *item) {
    struct verify *v = ctx;
    const uint64_t head = v->info.queue.head, tail = v->info.queue.tail;
    if (!v->progress || !is_time(v) || item->pos < head || item->pos >= tail) return 0;
    fprintf(stderr, "\r%s: %" PRIu64 "%% ", v->path, (item->pos - head) * 100 / (tail - head));
    return 0;
}

static void problem(void *ctx, const struct emmap_queue_problem *problem) {
    struct verify *v = ctx;
    if (v->problems < MOST_PROBLEMS) v->problem[v->problems++] = *problem;
}

static int look(struct verify *v) {
    struct emmap_queue_view *view;
    int rc = emmap_queue_view_open(&view, v->path);
    if (rc) return rc;
    const struct emmap_queue_walk walk = {
        .item = item, .problem = problem, .ctx = v, .check = true};
    v->problems = 0;
    rc = emmap_queue_view_info(view, &v->info);
    v->progress = v->info.queue.tail - v->info.queue.head > LONG_BYTES && isatty(STDERR_FILENO);
    if (rc == 0) rc = emmap_queue_view_walk(view, &walk, &v->walked);
    if (v->progress) fprintf(stderr, "\r%s: done\n", v->path);
    emmap_queue_view_close(view);
    return rc;
}

/* ------------------------------------------------------------------------------- what is told */

static void recovery_text(const struct verify *v) {
    if (v->info.standing != EMMAP_QUEUE_TO_RECOVER) return;
    printf("  recovery     ");
    if (!v->walked.recovered)
        printf("cannot be done: no checkpoint is valid\n");
    else
        printf("keeps %" PRIu64 " messages, %" PRIu64 " lost\n", v->walked.kept, v->walked.lost);
}

static void print_text(const struct verify *v) {
    const struct emmap_queue_walked *walked = &v->walked;
    const uint64_t *state = walked->by_state;
    const bool recovers = v->info.standing == EMMAP_QUEUE_TO_RECOVER;
    printf("%s: %s%s\n", v->path, walked->problems ? "damaged" : "sound",
           recovers ? ", needs recovery" : "");
    recovery_text(v);
    printf("  read         %" PRIu64 " messages, %" PRIu64 " bytes%s\n", walked->messages,
           walked->bytes, walked->overtaken ? "; others were taken meanwhile" : "");
    if (state[EMMAP_QUEUE_LEASED])
        printf("  claimed      %" PRIu64 "\n", state[EMMAP_QUEUE_LEASED]);
    if (state[EMMAP_QUEUE_TAKING] + state[EMMAP_QUEUE_FILLING])
        printf("  on the way   %" PRIu64 " being taken, %" PRIu64 " being pushed\n",
               state[EMMAP_QUEUE_TAKING], state[EMMAP_QUEUE_FILLING]);
    if (walked->missing) printf("  missing      %" PRIu64 " messages\n", walked->missing);
    for (unsigned i = 0; i < v->problems; i++)
        cli_problem_text(&v->problem[i]);
    if (walked->problems > v->problems)
        printf("  damaged      and %" PRIu64 " more\n", walked->problems - v->problems);
    if (!walked->counts || !walked->slots)
        printf("  not checked  %s\n", walked->problems ? "counts"
                                      : walked->slots  ? "counts: they change"
                                                       : "counts, slots: they change");
}

static const char *bool_name(bool value) {
    return value ? "true" : "false";
}

static void print_json(const struct verify *v) {
    const struct emmap_queue_walked *walked = &v->walked;
    const uint64_t *state = walked->by_state;
    printf("{\"file\":");
    cli_json_string(v->path);
    printf(",\"kind\":\"queue\",\"sound\":%s,\"state\":\"%s\"", bool_name(walked->problems == 0),
           cli_queue_state_name(&v->info));
    if (walked->recovered)
        printf(",\"recovery\":{\"kept\":%" PRIu64 ",\"lost\":%" PRIu64 "}", walked->kept,
               walked->lost);
    else
        printf(",\"recovery\":null");
    printf(",\"messages\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"claimed\":%" PRIu64
           ",\"being_taken\":%" PRIu64 ",\"being_pushed\":%" PRIu64 ",\"missing\":%" PRIu64,
           walked->messages, walked->bytes, state[EMMAP_QUEUE_LEASED], state[EMMAP_QUEUE_TAKING],
           state[EMMAP_QUEUE_FILLING], walked->missing);
    printf(",\"overtaken\":%s,\"counts_checked\":%s,\"slots_checked\":%s,\"problem_count\":%" PRIu64
           ",\"problems\":[",
           bool_name(walked->overtaken), bool_name(walked->counts), bool_name(walked->slots),
           walked->problems);
    for (unsigned i = 0; i < v->problems; i++) {
        if (i > 0) printf(",");
        cli_problem_json(&v->problem[i]);
    }
    printf("]}\n");
}

/* ------------------------------------------------------------------------------------ the command */

static enum cli_status verify(const char *path, bool json) {
    struct verify *v = calloc(1, sizeof *v);
    if (!v) return cli_complain("verify", path, -ENOMEM);
    v->path = path;
    int rc = -EAGAIN;
    for (unsigned i = 0; i < TRIES && rc == -EAGAIN; i++)
        rc = look(v); /* -EAGAIN: somebody has recovered the queue meanwhile */
    enum cli_status status = CLI_OK;
    if (rc == 0 || v->walked.problems > 0) {
        if (json)
            print_json(v);
        else
            print_text(v);
        if (v->walked.problems > 0) status = CLI_DAMAGED;
    }
    free(v);
    return rc ? cli_worse(status, cli_complain("verify", path, rc)) : status;
}

static const char help[] =
    "Usage: emmap verify [--json] FILE...\n"
    "\n"
    "Reads all of a queue's file, and compares it with itself: the checksums of messages and of\n"
    "what surrounds them, their number, the lists of free segments, the checkpoints. Nothing is\n"
    "changed, and the queue may be in use. Of a file that its next opener will recover, as after "
    "a\n"
    "power cut, it tells what that will keep. --json: one object a line.\n"
    "\n"
    "Exit status: 0: sound; 1: damaged; 2: no queue, it cannot be read, or the command line is\n"
    "wrong.\n";

enum cli_status cli_verify(int argc, char **argv) {
    return cli_files("verify", help, verify, argc, argv);
}
