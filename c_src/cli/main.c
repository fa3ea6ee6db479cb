/* main.c -- the command: which part, help, version. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "emmap.h"

static const struct {
    const char *name, *usage, *what;
    enum cli_status (*run)(int argc, char **argv);
} commands[] = {
    {"info", "info [--json] FILE...", "what a file is", cli_info},
    {"verify", "verify [--json] FILE...", "read all of a queue: is it sound?", cli_verify},
    {"dump", "dump [--json] [--limit N] FILE", "the messages of a queue", cli_dump},
    {"counters", "counters [--json] [--watch [SECONDS] [--count N]] [--prometheus] FILE",
     "names and values of counters", cli_counters},
};
enum { COMMANDS = sizeof commands / sizeof *commands, USAGE_COLUMNS = 32 };

static void help(FILE *to) {
    fputs("emmap: look into mapped files\n\nUsage:\n", to);
    for (size_t i = 0; i < COMMANDS; i++) {
        const bool is_long = strlen(commands[i].usage) > USAGE_COLUMNS;
        fprintf(to, "  emmap %-*s", USAGE_COLUMNS, commands[i].usage);
        if (is_long) fprintf(to, "\n        %*s", USAGE_COLUMNS, "");
        fprintf(to, " %s\n", commands[i].what);
    }
    fputs("  emmap COMMAND --help | --help | --version\n\n"
          "No command changes a file, and each may be used on one that is in use.\n\n"
          "Exit status: 0; 1: a file is damaged; 2: it cannot be read, or the command line is "
          "wrong.\n",
          to);
}

int main(int argc, char **argv) {
    char name[32];
    if (argc < 2) {
        help(stderr);
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        help(stdout);
        return CLI_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("emmap " EMMAP_VERSION);
        return CLI_OK;
    }
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(argv[1], commands[i].name) == 0) {
            snprintf(name, sizeof name, "emmap %s", argv[1]);
            argv[1] = name; /* by which getopt complains */
            return (int)commands[i].run(argc - 1, argv + 1);
        }
    fprintf(stderr, "emmap: unknown command '%s'; see emmap --help\n", argv[1]);
    return CLI_USAGE;
}
