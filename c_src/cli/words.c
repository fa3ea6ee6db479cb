/* words.c -- what the command's parts print alike. */
#include <errno.h>
#include <inttypes.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "emmap.h"

enum cli_status cli_complain(const char *command, const char *path, int rc) {
    fflush(stdout);
    fprintf(stderr, "emmap %s: %s: %s (%s)\n", command, path, emmap_error_message(rc),
            emmap_error_name(rc));
    return rc == EMMAP_E_CORRUPT || rc == EMMAP_E_TRUNCATED ? CLI_DAMAGED : CLI_FAILED;
}

enum cli_status cli_worse(enum cli_status a, enum cli_status b) {
    return a > b ? a : b;
}

enum cli_status cli_flush(const char *command, enum cli_status status) {
    if (fflush(stdout) == 0 && !ferror(stdout)) return status;
    fprintf(stderr, "emmap %s: %s\n", command, strerror(errno));
    return CLI_FAILED;
}

enum cli_status cli_files(const char *command, const char *help,
                          enum cli_status (*each)(const char *path, bool json), int argc,
                          char **argv) {
    static const struct option long_options[] = {
        {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
    bool json = false;
    for (int c; (c = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
        if (c == 'h') {
            fputs(help, stdout);
            return CLI_OK;
        }
        if (c != 'j') return CLI_USAGE; /* getopt has said why */
        json = true;
    }
    if (optind == argc) {
        fprintf(stderr, "emmap %s: no file given; see emmap %s --help\n", command, command);
        return CLI_USAGE;
    }
    enum cli_status status = CLI_OK;
    for (int i = optind; i < argc; i++)
        status = cli_worse(status, each(argv[i], json));
    return cli_flush(command, status);
}

/* Overlong ones, surrogates and what lies past U+10FFFF are none (RFC 3629). */
size_t cli_utf8(const uint8_t *s, size_t len_bytes, uint32_t *c) {
    static const struct {
        uint8_t first, last; /* of the first byte */
        uint8_t least, most; /* of the second */
        uint8_t bytes, bits; /* bits: of the first */
    } kinds[] = {
        {0x00, 0x7F, 0x00, 0xFF, 1, 0x7F}, {0xC2, 0xDF, 0x80, 0xBF, 2, 0x1F},
        {0xE0, 0xE0, 0xA0, 0xBF, 3, 0x0F}, {0xE1, 0xEC, 0x80, 0xBF, 3, 0x0F},
        {0xED, 0xED, 0x80, 0x9F, 3, 0x0F}, {0xEE, 0xEF, 0x80, 0xBF, 3, 0x0F},
        {0xF0, 0xF0, 0x90, 0xBF, 4, 0x07}, {0xF1, 0xF3, 0x80, 0xBF, 4, 0x07},
        {0xF4, 0xF4, 0x80, 0x8F, 4, 0x07},
    };
    for (size_t k = 0; len_bytes > 0 && k < sizeof kinds / sizeof *kinds; k++) {
        if (s[0] < kinds[k].first || s[0] > kinds[k].last) continue;
        const size_t n = kinds[k].bytes;
        if (n > len_bytes) return 0;
        if (n > 1 && (s[1] < kinds[k].least || s[1] > kinds[k].most)) return 0;
        *c = s[0] & kinds[k].bits;
        for (size_t i = 1; i < n; i++) {
            if ((s[i] & 0xC0) != 0x80) return 0;
            *c = *c << 6 | (s[i] & 0x3Fu);
        }
        return n;
    }
    return 0;
}

void cli_put_text(const char *text, size_t len_bytes) {
    fwrite(text, 1, len_bytes, stdout);
}

void cli_put_json(const char *text, size_t len_bytes) {
    const uint8_t *s = (const uint8_t *)text;
    while (len_bytes > 0) {
        uint32_t c = 0;
        const size_t n = cli_utf8(s, len_bytes, &c);
        if (n == 0)
            fputs("\\ufffd", stdout);
        else if (c == '"' || c == '\\')
            printf("\\%c", (int)c);
        else if (c < 0x20)
            printf("\\u%04x", (unsigned)c);
        else
            fwrite(s, 1, n, stdout);
        s += n ? n : 1;
        len_bytes -= n ? n : 1;
    }
}

void cli_json_string(const char *string) {
    putchar('"');
    cli_put_json(string, strlen(string));
    putchar('"');
}

const char *cli_time(uint64_t ms, char buf[CLI_TIME_BYTES]) {
    const time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    char text[CLI_TIME_BYTES - 8];
    if (ms > (uint64_t)253402300799 * 1000 || !gmtime_r(&seconds, &tm) ||
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm) == 0)
        snprintf(buf, CLI_TIME_BYTES, "%" PRIu64 " ms", ms); /* past the year 9999 */
    else
        snprintf(buf, CLI_TIME_BYTES, "%s.%03uZ", text, (unsigned)(ms % 1000));
    return buf;
}
