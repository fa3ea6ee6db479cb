/* queue.c -- what the command says of a queue, in words and in JSON. */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "cli/cli.h"
#include "emmap.h"

const char *cli_queue_state_name(const struct emmap_queue_view_info *info) {
    switch (info->standing) {
    case EMMAP_QUEUE_IN_USE:
        return "in_use";
    case EMMAP_QUEUE_AT_REST:
        return "at_rest";
    default:
        return "to_recover";
    }
}

static uint64_t now_ms(void) {
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ------------------------------------------------------------------------------------- in words */

static void state_text(const struct emmap_queue_view_info *info) {
    printf("  state        ");
    switch (info->standing) {
    case EMMAP_QUEUE_IN_USE:
        printf("in use");
        for (unsigned i = 0; i < info->participants; i++)
            printf("%s%" PRIu64, i ? ", " : " by OS process ", info->pid[i]);
        break;
    case EMMAP_QUEUE_AT_REST:
        printf("nobody has it open%s",
               info->interrupted ? "; the last one was stopped at work, the next one finishes it"
                                 : "");
        break;
    default:
        printf("needs recovery: %s; the next one to open it does that",
               info->same_boot ? "what is written down makes no sense"
                               : "it was last used before a reboot, or is a copy");
    }
    printf("%s\n", info->steady ? "" : " (its figures change too fast to be of one moment)");
}

static void messages_text(const struct emmap_queue_view_info *info) {
    const struct emmap_queue_info *queue = &info->queue;
    char time[CLI_TIME_BYTES];
    printf("  messages     %" PRIu64, queue->messages);
    if (queue->claimed) printf(", %" PRIu64 " of them claimed", queue->claimed);
    printf("\n  bytes        %" PRIu64, queue->bytes);
    if (queue->max_bytes != UINT64_MAX) printf(" of at most %" PRIu64, queue->max_bytes);
    printf("%s\n", queue->fixed_size ? ", fixed_size" : "");
    if (queue->oldest_ms) {
        const uint64_t now = now_ms();
        const uint64_t age_ms = now > queue->oldest_ms ? now - queue->oldest_ms : 0;
        printf("  oldest       %s, %" PRIu64 ".%03" PRIu64 " s ago\n",
               cli_time(queue->oldest_ms, time), age_ms / 1000, age_ms % 1000);
    }
}

static void checkpoints_text(const struct emmap_queue_view_info *info) {
    const unsigned older = info->checkpoint[0].serial > info->checkpoint[1].serial;
    unsigned valid = 0;
    printf("  checkpoints ");
    for (unsigned i = 0; i < 2; i++) {
        const struct emmap_queue_checkpoint *c = &info->checkpoint[i ^ older];
        if (c->serial == 0) continue;
        printf("%s number %" PRIu64 " of ", valid++ ? ";" : "", c->serial);
        if (c->tail_n > c->head_n)
            printf("messages %" PRIu64 " to %" PRIu64, c->head_n, c->tail_n - 1);
        else
            printf("no message");
        printf("%s", c->serial == info->durable_serial ? " (on the disk)" : "");
    }
    printf("%s\n", valid ? "" : " none is valid");
}

void cli_queue_text(const struct emmap_queue_view_info *info) {
    const struct emmap_queue_info *queue = &info->queue;
    char time[CLI_TIME_BYTES];
    state_text(info);
    messages_text(info);
    printf("  head         message %" PRIu64 ", position %" PRIu64 "\n", info->head_n, queue->head);
    if (info->cursor != queue->head)
        printf("  cursor       message %" PRIu64 ", position %" PRIu64 "\n", info->cursor_n,
               info->cursor);
    printf("  tail         message %" PRIu64 ", position %" PRIu64 "\n", info->tail_n, queue->tail);
    printf("  segments     %" PRIu64 " of %" PRIu64 " bytes, %" PRIu64 " free with their space\n",
           queue->slots, queue->segment_bytes, info->warm_slots);
    checkpoints_text(info);
    if (queue->lost)
        printf("  lost         %" PRIu64 " messages were found damaged\n", queue->lost);
    if (queue->sync_error)
        printf("  sync         failed (%s): what was written since the one before may be lost\n",
               emmap_error_name(-queue->sync_error));
    printf("  made         %s; recovered %" PRIu64 " times\n", cli_time(info->created_ms, time),
           info->epoch - 1);
}

void cli_problem_text(const struct emmap_queue_problem *p) {
    printf("  damaged      %s", emmap_queue_problem_message(p->kind));
    const char *before = ": ";
    if (p->ordinal) printf("%smessage %" PRIu64, before, p->ordinal), before = ", ";
    if (p->slot) printf("%sslot %" PRIu64, before, p->slot), before = ", ";
    if (p->pos) printf("%sposition %" PRIu64, before, p->pos), before = ", ";
    if (p->off) printf("%sbyte %" PRIu64 " of the file", before, p->off), before = ", ";
    switch (p->kind) {
    case EMMAP_QUEUE_PROBLEM_RECORD:
    case EMMAP_QUEUE_PROBLEM_SEGMENT:
    case EMMAP_QUEUE_PROBLEM_LOST:
        printf("%s%" PRIu64 " lost", before, p->found);
        break;
    case EMMAP_QUEUE_PROBLEM_SLOT_LOST:
        printf("%s%" PRIu64 " from there on", before, p->found);
        break;
    default:
        if (p->expected) printf("%s%" PRIu64 " instead of %" PRIu64, before, p->found, p->expected);
    }
    printf("\n");
}

/* -------------------------------------------------------------------------------------- in JSON */

static void place_json(const char *name, uint64_t n, uint64_t pos) {
    printf(",\"%s\":{\"ordinal\":%" PRIu64 ",\"position\":%" PRIu64 "}", name, n, pos);
}

static const char *bool_name(bool value) {
    return value ? "true" : "false";
}

void cli_queue_json(const struct emmap_queue_view_info *info) {
    const struct emmap_queue_info *queue = &info->queue;
    printf(",\"state\":\"%s\",\"processes\":[", cli_queue_state_name(info));
    for (unsigned i = 0; i < info->participants; i++)
        printf("%s%" PRIu64, i ? "," : "", info->pid[i]);
    printf("],\"same_boot\":%s,\"interrupted\":%s,\"steady\":%s", bool_name(info->same_boot),
           bool_name(info->interrupted), bool_name(info->steady));
    printf(",\"messages\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"claimed\":%" PRIu64, queue->messages,
           queue->bytes, queue->claimed);
    if (queue->max_bytes == UINT64_MAX)
        printf(",\"max_size\":null");
    else
        printf(",\"max_size\":%" PRIu64, queue->max_bytes);
    printf(",\"fixed_size\":%s", bool_name(queue->fixed_size));
    if (queue->oldest_ms)
        printf(",\"oldest_ms\":%" PRIu64, queue->oldest_ms);
    else
        printf(",\"oldest_ms\":null");
    place_json("head", info->head_n, queue->head);
    place_json("cursor", info->cursor_n, info->cursor);
    place_json("tail", info->tail_n, queue->tail);
    printf(",\"segment_bytes\":%" PRIu64 ",\"segments\":%" PRIu64 ",\"free_segments\":%" PRIu64,
           queue->segment_bytes, queue->slots, info->warm_slots);
    printf(",\"checkpoints\":[");
    for (unsigned i = 0, n = 0; i < 2; i++) {
        const struct emmap_queue_checkpoint *c = &info->checkpoint[i];
        if (c->serial == 0) continue;
        printf("%s{\"serial\":%" PRIu64 ",\"on_disk\":%s", n++ ? "," : "", c->serial,
               bool_name(c->serial == info->durable_serial));
        place_json("head", c->head_n, c->head);
        place_json("tail", c->tail_n, c->tail);
        printf("}");
    }
    printf("],\"lost\":%" PRIu64 ",\"sync_error\":", queue->lost);
    if (queue->sync_error)
        printf("\"%s\"", emmap_error_name(-queue->sync_error));
    else
        printf("null");
    printf(",\"created_ms\":%" PRIu64 ",\"epoch\":%" PRIu64 ",\"uuid\":\"", info->created_ms,
           info->epoch);
    for (unsigned i = 0; i < sizeof info->uuid; i++)
        printf("%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", info->uuid[i]);
    printf("\"");
}

void cli_problem_json(const struct emmap_queue_problem *p) {
    const struct {
        const char *name;
        uint64_t value;
        bool always;
    } members[] = {
        {"ordinal", p->ordinal, false}, {"slot", p->slot, false},  {"position", p->pos, false},
        {"offset", p->off, false},      {"found", p->found, true}, {"expected", p->expected, false},
    };
    printf("{\"kind\":\"%s\",\"message\":", emmap_queue_problem_name(p->kind));
    cli_json_string(emmap_queue_problem_message(p->kind));
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        if (members[i].value || members[i].always)
            printf(",\"%s\":%" PRIu64, members[i].name, members[i].value);
    printf("}");
}
