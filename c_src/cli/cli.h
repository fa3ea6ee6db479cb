/* cli.h -- the command's parts. They use emmap.h only, as any C program. */
#ifndef EMMAP_CLI_H
#define EMMAP_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the command answers to the shell; of several files the worst. */
enum cli_status { CLI_OK = 0, CLI_DAMAGED = 1, CLI_FAILED = 2, CLI_USAGE = 2 };

/* argv[0] is `emmap COMMAND`. */
enum cli_status cli_info(int argc, char **argv);
enum cli_status cli_verify(int argc, char **argv);
enum cli_status cli_dump(int argc, char **argv);
enum cli_status cli_counters(int argc, char **argv);

/* ------------------------------------------------------------------------------------- words.c */

/* The status for an error of emmap.h that a file has led to, after it is told on stderr. */
enum cli_status cli_complain(const char *command, const char *path, int rc);
enum cli_status cli_worse(enum cli_status a, enum cli_status b);
/* A command that does the same with each file: `emmap NAME [--json] FILE...`. */
enum cli_status cli_files(const char *command, const char *help,
                          enum cli_status (*each)(const char *path, bool json), int argc,
                          char **argv);
/* What was printed has reached its place, or that is told. */
enum cli_status cli_flush(const char *command, enum cli_status status);

/* A name may hold any byte; what is no UTF-8 becomes the replacement character. */
void cli_json_string(const char *string);
/* UTF-8 to stdout: as it is; and within a string of JSON. */
typedef void cli_put(const char *text, size_t len_bytes);
void cli_put_text(const char *text, size_t len_bytes);
void cli_put_json(const char *text, size_t len_bytes);
/* The length of the UTF-8 character that starts here, within len_bytes; 0: none does. *c is its
 * code point. */
size_t cli_utf8(const uint8_t *s, size_t len_bytes, uint32_t *c);

enum { CLI_TIME_BYTES = 40 };
/* 2026-01-31T12:00:00.000Z, in buf */
const char *cli_time(uint64_t ms, char buf[CLI_TIME_BYTES]);

/* -------------------------------------------------------------------------------------- term.c */

/* cli_print_term -- data in Erlang's external format, as Erlang writes it, on one line.
 * false: it is none, or there is something behind it; nothing is printed. */
bool cli_print_term(const void *data, size_t len_bytes, cli_put *put);

/* ------------------------------------------------------------------------------------- queue.c */

struct emmap_queue_view_info;
struct emmap_queue_problem;

const char *cli_queue_state_name(const struct emmap_queue_view_info *info);
void cli_queue_text(const struct emmap_queue_view_info *info);
/* Members of an object, each with a comma before it. */
void cli_queue_json(const struct emmap_queue_view_info *info);
void cli_problem_text(const struct emmap_queue_problem *problem);
void cli_problem_json(const struct emmap_queue_problem *problem);

#endif
