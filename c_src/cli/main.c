/* main.c -- the command: which part, help, version. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "emmap.h"

static const struct {
    const char *name, *usage, *what;
    enum cli_status (*run)(int argc, char **argv);
} commands[] = {
    {"info", "info [--json] FILE...", "what a file is, without changing it", cli_info},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static void help(FILE *to) {
    fputs("emmap: look into mapped files\n\nUsage:\n", to);
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(to, "  emmap %-28s %s\n", commands[i].usage, commands[i].what);
    fputs("  emmap --help | --version\n\n"
          "Exit status: 0, 1 when a file could not be read or is damaged, 2 for a wrong command "
          "line.\n",
          to);
}

int main(int argc, char **argv) {
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
        if (strcmp(argv[1], commands[i].name) == 0) return (int)commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "emmap: unknown command '%s'; see emmap --help\n", argv[1]);
    return CLI_USAGE;
}
