/* term.c -- terms in Erlang's external format, printed.
 *
 * Not by erl_interface: its decoders are told no length, so they would read on behind data that is
 * cut off or made up, and anybody may have pushed it. Here every byte is counted, and nesting takes
 * memory, not stack. The first pass prints nothing and finds out whether it is a term at all. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

/* Tags: erts, "External Term Format". */
enum {
    VERSION = 131,
    NEW_FLOAT = 70,
    BIT_BINARY = 77,
    NEW_PID = 88,
    NEW_PORT = 89,
    NEWER_REFERENCE = 90,
    SMALL_INTEGER = 97,
    INTEGER = 98,
    OLD_FLOAT = 99,
    ATOM = 100,
    REFERENCE = 101,
    PORT = 102,
    PID = 103,
    SMALL_TUPLE = 104,
    LARGE_TUPLE = 105,
    NIL = 106,
    STRING = 107,
    LIST = 108,
    BINARY = 109,
    SMALL_BIG = 110,
    LARGE_BIG = 111,
    NEW_FUN = 112,
    EXPORT = 113,
    NEW_REFERENCE = 114,
    SMALL_ATOM = 115,
    MAP = 116,
    ATOM_UTF8 = 118,
    SMALL_ATOM_UTF8 = 119,
    V4_PORT = 120,
};
/* Longer integers are written in hexadecimal, which takes no time that grows with the square. */
enum { DECIMAL_BYTES = 512, FLOAT_TEXT = 31, REFERENCE_WORDS = 5 };

/* What is open: a tuple, a list, a map, the environment of a fun. */
struct frame {
    uint8_t tag;
    bool tail;     /* of a list: the last one is not an element */
    uint64_t left; /* terms */
};

struct print {
    const uint8_t *at;
    size_t left;
    cli_put *put; /* NULL: only look */
    struct frame *frames;
    size_t depth, room;
};

static void put(struct print *p, const char *text) {
    if (p->put) p->put(text, strlen(text));
}

static bool need(const struct print *p, uint64_t len_bytes) {
    return p->left >= len_bytes;
}

static void skip(struct print *p, uint64_t len_bytes) {
    p->at += len_bytes;
    p->left -= (size_t)len_bytes;
}

static uint64_t big_endian(const uint8_t *at, unsigned len_bytes) {
    uint64_t n = 0;
    for (unsigned i = 0; i < len_bytes; i++)
        n = n << 8 | at[i];
    return n;
}

static bool get(struct print *p, unsigned len_bytes, uint64_t *n) {
    if (!need(p, len_bytes)) return false;
    *n = big_endian(p->at, len_bytes);
    skip(p, len_bytes);
    return true;
}

static bool open_frame(struct print *p, uint8_t tag, uint64_t left, bool tail) {
    if (left > p->left) return false; /* each takes a byte at least */
    if (p->depth == p->room) {
        const size_t room = p->room ? 2 * p->room : 64;
        struct frame *frames = realloc(p->frames, room * sizeof *frames);
        if (!frames) return false;
        p->frames = frames;
        p->room = room;
    }
    p->frames[p->depth++] = (struct frame){.tag = tag, .left = left, .tail = tail};
    return true;
}

/* ---------------------------------------------------------------------------------- characters */

/* As io_lib:printable_unicode_list/1 has it. */
static bool is_printable(uint32_t c) {
    return (c >= 32 && c <= 126) || (c >= 8 && c <= 13) || c == 27 || (c >= 160 && c < 0xD800) ||
           (c >= 0xE000 && c <= 0xFFFD) || (c >= 0x10000 && c <= 0x10FFFF);
}

static void put_char(struct print *p, uint32_t c, char quote) {
    static const char named[] = "btnvfr"; /* from 8 on */
    char text[16];
    if (c == (uint32_t)quote || c == '\\')
        snprintf(text, sizeof text, "\\%c", (int)c);
    else if (c >= 8 && c <= 13)
        snprintf(text, sizeof text, "\\%c", named[c - 8]);
    else if (c == 27)
        snprintf(text, sizeof text, "\\e");
    else if (!is_printable(c))
        snprintf(text, sizeof text, "\\x{%" PRIx32 "}", c);
    else if (c < 0x80)
        snprintf(text, sizeof text, "%c", (int)c);
    else if (c < 0x800)
        snprintf(text, sizeof text, "%c%c", (int)(0xC0 | c >> 6), (int)(0x80 | (c & 0x3F)));
    else if (c < 0x10000)
        snprintf(text, sizeof text, "%c%c%c", (int)(0xE0 | c >> 12), (int)(0x80 | (c >> 6 & 0x3F)),
                 (int)(0x80 | (c & 0x3F)));
    else
        snprintf(text, sizeof text, "%c%c%c%c", (int)(0xF0 | c >> 18),
                 (int)(0x80 | (c >> 12 & 0x3F)), (int)(0x80 | (c >> 6 & 0x3F)),
                 (int)(0x80 | (c & 0x3F)));
    put(p, text);
}

/* Either of one byte a character, or UTF-8. false: it is none. */
static bool put_chars(struct print *p, const uint8_t *s, uint64_t len_bytes, bool utf8,
                      char quote) {
    while (len_bytes > 0) {
        uint32_t c = *s;
        const size_t n = utf8 ? cli_utf8(s, (size_t)len_bytes, &c) : 1;
        if (n == 0) return false;
        if (p->put) put_char(p, c, quote);
        s += n;
        len_bytes -= n;
    }
    return true;
}

static bool is_plain_atom(const uint8_t *s, uint64_t len_bytes) {
    static const char *const reserved[] = {
        "after", "and",   "andalso", "band",   "begin",   "bnot", "bor", "bsl",  "bsr", "bxor",
        "case",  "catch", "cond",    "div",    "else",    "end",  "fun", "if",   "let", "maybe",
        "not",   "of",    "or",      "orelse", "receive", "rem",  "try", "when", "xor"};
    if (len_bytes == 0 || s[0] < 'a' || s[0] > 'z') return false;
    for (uint64_t i = 1; i < len_bytes; i++) {
        const uint8_t c = s[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
            c != '_' && c != '@')
            return false;
    }
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++)
        if (strlen(reserved[i]) == len_bytes && memcmp(reserved[i], s, (size_t)len_bytes) == 0)
            return false;
    return true;
}

static bool atom(struct print *p, unsigned length_bytes, bool utf8) {
    uint64_t len;
    if (!get(p, length_bytes, &len) || !need(p, len)) return false;
    const bool plain = is_plain_atom(p->at, len);
    if (!plain) put(p, "'");
    if (!put_chars(p, p->at, len, utf8, '\'')) return false;
    if (!plain) put(p, "'");
    skip(p, len);
    return true;
}

static bool any_atom(struct print *p) {
    uint64_t tag;
    if (!get(p, 1, &tag)) return false;
    if (tag == ATOM || tag == ATOM_UTF8) return atom(p, 2, tag == ATOM_UTF8);
    return (tag == SMALL_ATOM || tag == SMALL_ATOM_UTF8) && atom(p, 1, tag == SMALL_ATOM_UTF8);
}

/* ------------------------------------------------------------------------------------- numbers */

/* The shortest that is read back as this one; with a point, and an exponent without zeros in front. */
static void put_float(struct print *p, double value) {
    char digits[64], text[96];
    int n = 15;
    do
        snprintf(digits, sizeof digits, "%.*g", n, value);
    while (strtod(digits, NULL) != value && ++n <= 17);
    const char *exponent = strchr(digits, 'e');
    const int mantissa = exponent ? (int)(exponent - digits) : (int)strlen(digits);
    const char *point = memchr(digits, '.', (size_t)mantissa) ? "" : ".0";
    if (exponent)
        snprintf(text, sizeof text, "%.*s%se%d", mantissa, digits, point, atoi(exponent + 1));
    else
        snprintf(text, sizeof text, "%s%s", digits, point);
    put(p, text);
}

static bool new_float(struct print *p) {
    uint64_t bits;
    double value;
    if (!get(p, 8, &bits)) return false;
    memcpy(&value, &bits, sizeof value);
    if (!isfinite(value)) return false;
    put_float(p, value);
    return true;
}

static bool old_float(struct print *p) {
    char text[FLOAT_TEXT + 1] = "", *end;
    if (!need(p, FLOAT_TEXT)) return false;
    memcpy(text, p->at, FLOAT_TEXT);
    const double value = strtod(text, &end);
    if (end == text || *end || !isfinite(value)) return false;
    put_float(p, value);
    skip(p, FLOAT_TEXT);
    return true;
}

static void put_number(struct print *p, const char *format, uint64_t n) {
    char text[32];
    snprintf(text, sizeof text, format, n);
    put(p, text);
}

/* Little-endian bytes, of which the last one is not 0. */
static void put_hexadecimal(struct print *p, const uint8_t *digits, uint64_t n) {
    put(p, "16#");
    put_number(p, "%" PRIX64, digits[n - 1]);
    for (uint64_t i = n - 1; i-- > 0;)
        put_number(p, "%02" PRIX64, digits[i]);
}

static void put_decimal(struct print *p, const uint8_t *digits, uint64_t n) {
    uint8_t left[DECIMAL_BYTES];
    uint32_t groups[DECIMAL_BYTES / 3]; /* of 9 decimal digits; a byte is less than 2.41 */
    unsigned count = 0;
    memcpy(left, digits, (size_t)n);
    while (n > 0) {
        uint64_t rest = 0;
        for (uint64_t i = n; i-- > 0;) {
            rest = rest << 8 | left[i];
            left[i] = (uint8_t)(rest / 1000000000);
            rest %= 1000000000;
        }
        groups[count++] = (uint32_t)rest;
        while (n > 0 && left[n - 1] == 0)
            n--;
    }
    for (unsigned i = count; i-- > 0;)
        put_number(p, i + 1 == count ? "%" PRIu64 : "%09" PRIu64, groups[i]);
}

static bool big(struct print *p, unsigned length_bytes) {
    uint64_t n, sign;
    if (!get(p, length_bytes, &n) || !get(p, 1, &sign) || !need(p, n)) return false;
    const uint8_t *digits = p->at;
    skip(p, n);
    while (n > 0 && digits[n - 1] == 0)
        n--;
    if (!p->put) return true;
    if (n > 0 && sign) put(p, "-");
    if (n == 0)
        put(p, "0");
    else if (n <= DECIMAL_BYTES)
        put_decimal(p, digits, n);
    else
        put_hexadecimal(p, digits, n);
    return true;
}

static bool integer(struct print *p) {
    uint64_t bits;
    char text[16];
    if (!get(p, 4, &bits)) return false;
    snprintf(text, sizeof text, "%" PRId32, (int32_t)(uint32_t)bits);
    put(p, text);
    return true;
}

static bool small_integer(struct print *p) {
    uint64_t n;
    if (!get(p, 1, &n)) return false;
    put_number(p, "%" PRIu64, n);
    return true;
}

/* ---------------------------------------------------------------------- strings and binaries */

static bool is_text(const uint8_t *s, uint64_t len_bytes, bool *is_ascii) {
    *is_ascii = true;
    while (len_bytes > 0) {
        uint32_t c;
        const size_t n = cli_utf8(s, (size_t)len_bytes, &c);
        if (n == 0 || !is_printable(c)) return false;
        *is_ascii = *is_ascii && n == 1;
        s += n;
        len_bytes -= n;
    }
    return true;
}

static bool binary(struct print *p, bool bits) {
    uint64_t len, last_bits = 8;
    bool is_ascii;
    if (!get(p, 4, &len) || (bits && !get(p, 1, &last_bits)) || !need(p, len)) return false;
    if (last_bits > 8 || (bits && (len == 0) != (last_bits == 0))) return false;
    const uint8_t *s = p->at;
    skip(p, len);
    if (!p->put) return true;
    put(p, "<<");
    if (len > 0 && last_bits == 8 && is_text(s, len, &is_ascii)) {
        put(p, "\"");
        (void)put_chars(p, s, len, true, '"');
        put(p, is_ascii ? "\"" : "\"/utf8");
    } else {
        for (uint64_t i = 0; i < len; i++) {
            const bool part = i + 1 == len && last_bits < 8;
            const uint64_t value = part ? (uint64_t)s[i] >> (8 - last_bits) : s[i];
            put_number(p, i ? ",%" PRIu64 : "%" PRIu64, value);
            if (part) put_number(p, ":%" PRIu64, last_bits);
        }
    }
    put(p, ">>");
    return true;
}

/* A list of bytes. */
static bool string(struct print *p) {
    uint64_t len;
    if (!get(p, 2, &len) || !need(p, len)) return false;
    const uint8_t *s = p->at;
    bool text = len > 0;
    skip(p, len);
    for (uint64_t i = 0; i < len; i++)
        text = text && is_printable(s[i]);
    put(p, text ? "\"" : "[");
    for (uint64_t i = 0; i < len && p->put; i++)
        if (text)
            put_char(p, s[i], '"');
        else
            put_number(p, i ? ",%" PRIu64 : "%" PRIu64, s[i]);
    put(p, text ? "\"" : "]");
    return true;
}

/* A list that starts here and is of nothing but characters: its bytes, or 0. */
static size_t text_list(const struct print *p, uint64_t n) {
    size_t at = 0;
    for (; n > 0; n--) {
        if (p->left <= at) return 0;
        const unsigned len = p->at[at] == SMALL_INTEGER ? 1 : p->at[at] == INTEGER ? 4 : 0;
        if (len == 0 || p->left - at <= len) return 0;
        const uint64_t c = big_endian(p->at + at + 1, len);
        if (c > 0x10FFFF || !is_printable((uint32_t)c)) return 0;
        at += 1 + len;
    }
    return at < p->left && p->at[at] == NIL ? at + 1 : 0;
}

static bool list(struct print *p) {
    uint64_t n;
    if (!get(p, 4, &n) || n == 0) return false;
    const size_t text = text_list(p, n);
    if (text == 0) {
        put(p, "[");
        return open_frame(p, LIST, n + 1, true);
    }
    put(p, "\"");
    for (size_t at = 0; at + 1 < text && p->put;) {
        const unsigned len = p->at[at] == SMALL_INTEGER ? 1 : 4;
        put_char(p, (uint32_t)big_endian(p->at + at + 1, len), '"');
        at += 1 + len;
    }
    put(p, "\"");
    skip(p, text);
    return true;
}

/* --------------------------------------------------------------- what has no syntax of its own */

static bool pid(struct print *p, unsigned creation_bytes) {
    uint64_t id, serial, creation;
    put(p, "<");
    if (!any_atom(p) || !get(p, 4, &id) || !get(p, 4, &serial) ||
        !get(p, creation_bytes, &creation))
        return false;
    put_number(p, ".%" PRIu64, id);
    put_number(p, ".%" PRIu64 ">", serial);
    return true;
}

static bool port(struct print *p, unsigned id_bytes, unsigned creation_bytes) {
    uint64_t id, creation;
    put(p, "#Port<");
    if (!any_atom(p) || !get(p, id_bytes, &id) || !get(p, creation_bytes, &creation)) return false;
    put_number(p, ".%" PRIu64 ">", id);
    return true;
}

static bool reference(struct print *p, uint8_t tag) {
    uint64_t words = 1, creation, word;
    put(p, "#Ref<");
    if (tag != REFERENCE && (!get(p, 2, &words) || words > REFERENCE_WORDS)) return false;
    if (!any_atom(p)) return false;
    if (tag != REFERENCE && !get(p, tag == NEWER_REFERENCE ? 4 : 1, &creation)) return false;
    for (; words > 0; words--) {
        if (!get(p, 4, &word)) return false;
        put_number(p, ".%" PRIu64, word);
    }
    if (tag == REFERENCE && !get(p, 1, &creation)) return false;
    put(p, ">");
    return true;
}

/* #Fun<module.index.uniq>; what it has caught follows, and its pid. */
static bool fun(struct print *p) {
    uint64_t size, arity, index, free, tag, old_index = 0, old_uniq = 0;
    if (!get(p, 4, &size) || !get(p, 1, &arity) || !need(p, 16)) return false;
    skip(p, 16);
    put(p, "#Fun<");
    if (!get(p, 4, &index) || !get(p, 4, &free) || !any_atom(p)) return false;
    /* Its old index and uniq are integers of either kind. */
    uint64_t *const olds[] = {&old_index, &old_uniq};
    for (unsigned i = 0; i < 2; i++) {
        if (!get(p, 1, &tag) || (tag != SMALL_INTEGER && tag != INTEGER)) return false;
        if (!get(p, tag == INTEGER ? 4 : 1, olds[i])) return false;
    }
    put_number(p, ".%" PRIu64, old_index);
    put_number(p, ".%" PRIu64, old_uniq);
    return open_frame(p, NEW_FUN, free + 1, false);
}

static bool external_fun(struct print *p) {
    uint64_t tag, arity;
    put(p, "fun ");
    if (!any_atom(p)) return false;
    put(p, ":");
    if (!any_atom(p) || !get(p, 1, &tag) || tag != SMALL_INTEGER || !get(p, 1, &arity))
        return false;
    put_number(p, "/%" PRIu64, arity);
    return true;
}

/* -------------------------------------------------------------------------------- all together */

static bool tuple(struct print *p, unsigned length_bytes) {
    uint64_t n;
    put(p, "{");
    return get(p, length_bytes, &n) && open_frame(p, SMALL_TUPLE, n, false);
}

static bool map(struct print *p) {
    uint64_t n;
    put(p, "#{");
    return get(p, 4, &n) && open_frame(p, MAP, 2 * n, false);
}

static bool one(struct print *p) {
    uint64_t tag;
    if (!get(p, 1, &tag)) return false;
    switch (tag) {
    case SMALL_INTEGER:
        return small_integer(p);
    case INTEGER:
        return integer(p);
    case SMALL_BIG:
        return big(p, 1);
    case LARGE_BIG:
        return big(p, 4);
    case NEW_FLOAT:
        return new_float(p);
    case OLD_FLOAT:
        return old_float(p);
    case ATOM:
    case ATOM_UTF8:
        return atom(p, 2, tag == ATOM_UTF8);
    case SMALL_ATOM:
    case SMALL_ATOM_UTF8:
        return atom(p, 1, tag == SMALL_ATOM_UTF8);
    case SMALL_TUPLE:
        return tuple(p, 1);
    case LARGE_TUPLE:
        return tuple(p, 4);
    case NIL:
        put(p, "[]");
        return true;
    case STRING:
        return string(p);
    case LIST:
        return list(p);
    case MAP:
        return map(p);
    case BINARY:
        return binary(p, false);
    case BIT_BINARY:
        return binary(p, true);
    case PID:
        return pid(p, 1);
    case NEW_PID:
        return pid(p, 4);
    case PORT:
        return port(p, 4, 1);
    case NEW_PORT:
        return port(p, 4, 4);
    case V4_PORT:
        return port(p, 8, 4);
    case REFERENCE:
    case NEW_REFERENCE:
    case NEWER_REFERENCE:
        return reference(p, (uint8_t)tag);
    case NEW_FUN:
        return fun(p);
    case EXPORT:
        return external_fun(p);
    default: /* also what nobody but its own VM can read */
        return false;
    }
}

static const char *close_of(uint8_t tag) {
    switch (tag) {
    case LIST:
        return "]";
    case NEW_FUN:
        return ">";
    default:
        return "}";
    }
}

/* Before the next term of what is open. */
static void between(struct print *p, const struct frame *frame, bool first) {
    if (frame->tag == NEW_FUN)
        ; /* what it has caught is not told */
    else if (frame->tail && frame->left == 0)
        put(p, "|");
    else if (frame->tag == MAP && frame->left % 2 == 0)
        put(p, " => ");
    else if (!first)
        put(p, ",");
}

/* One after the other, each frame closed behind its last term. */
static bool all(struct print *p) {
    size_t quiet = 0; /* the depth of a fun, whose environment is not printed; 0: in none */
    cli_put *const loud = p->put;
    if (!one(p)) return false;
    bool first = true;
    size_t depth = 0;
    while (p->depth > 0) {
        struct frame *frame = &p->frames[p->depth - 1];
        if (p->depth > depth) first = true;
        depth = p->depth;
        if (frame->tag == NEW_FUN && quiet == 0) {
            quiet = p->depth;
            p->put = NULL;
        }
        if (frame->left == 0) {
            if (quiet == p->depth) {
                quiet = 0;
                p->put = loud;
            }
            put(p, close_of(frame->tag));
            depth = --p->depth;
            first = false;
            continue;
        }
        frame->left--;
        if (frame->tail && frame->left == 0 && p->left > 0 && *p->at == NIL) {
            skip(p, 1); /* a proper list */
            continue;
        }
        between(p, frame, first);
        first = false;
        if (!one(p)) return false;
    }
    return true;
}

static bool print_once(const uint8_t *data, size_t len_bytes, cli_put *to) {
    struct print p = {.at = data, .left = len_bytes, .put = to};
    const bool good = all(&p) && p.left == 0;
    free(p.frames);
    return good;
}

bool cli_print_term(const void *data, size_t len_bytes, cli_put *to) {
    const uint8_t *bytes = data;
    if (len_bytes < 2 || bytes[0] != VERSION) return false;
    if (!print_once(bytes + 1, len_bytes - 1, NULL)) return false;
    (void)print_once(bytes + 1, len_bytes - 1, to);
    return true;
}
