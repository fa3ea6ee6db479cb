/* cli.h -- the command's parts. They use emmap.h only, as any C program. */
#ifndef EMMAP_CLI_H
#define EMMAP_CLI_H

/* What the command answers to the shell. */
enum cli_status { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

/* emmap info [--json] FILE...; argv[0] is the command's name */
enum cli_status cli_info(int argc, char **argv);

#endif
