/* test_term.c -- terms of Erlang's external format are printed as Erlang writes them; what is none
 * is not printed, and not read past its end. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "test/support.h"

static char printed[1 << 16];
static size_t printed_bytes;

static void print(const char *text, size_t len_bytes) {
    assert_true(printed_bytes + len_bytes < sizeof printed);
    memcpy(printed + printed_bytes, text, len_bytes);
    printed_bytes += len_bytes;
    printed[printed_bytes] = 0;
}

/* From a copy that ends where the term does, for the sanitizer to see what is read behind it. */
static const char *text_of(const void *data, size_t len_bytes) {
    void *copy = malloc(len_bytes ? len_bytes : 1);
    assert_non_null(copy);
    memcpy(copy, data, len_bytes);
    printed_bytes = 0;
    printed[0] = 0;
    const bool is_term = cli_print_term(copy, len_bytes, print);
    free(copy);
    assert_true(is_term || printed_bytes == 0);
    return is_term ? printed : NULL;
}

static const struct {
    const char *bytes;
    size_t len_bytes;
    const char *text;
} terms[] = {
#define TERM(bytes, text) \
    { "\x83" bytes, sizeof(bytes), text }
    TERM("a\x11", "17"),
    TERM("b\xff\xff\xff\xfe", "-2"),
    TERM("n\x01\x01\x05", "-5"),
    TERM("n\x09\x00\x00\x00\x00\x00\x00\x00\x00\x00\x40", "1180591620717411303424"),
    TERM("o\x00\x00\x00\x02\x00\x01\x01", "257"),
    TERM("n\x02\x00\x00\x00", "0"),
    TERM("F\x3f\xb9\x99\x99\x99\x99\x99\x9a", "0.1"),
    TERM("F\x80\x00\x00\x00\x00\x00\x00\x00", "-0.0"),
    TERM("F\x44\x15\xaf\x1d\x78\xb5\x8c\x40", "1.0e20"),
    TERM("F\x3e\x7a\xd7\xf2\x9a\xbc\xaf\x48", "1.0e-7"),
    TERM("F\x40\x59\x00\x00\x00\x00\x00\x00", "100.0"),
    TERM("c1.50000000000000000000e+00\0\0\0\0\0", "1.5"),
    TERM("w\x02ok", "ok"),
    TERM("w\x03not", "'not'"),
    TERM("w\x00", "''"),
    TERM("d\x00\x04\xe9\x2d\x41\x27", "'\xc3\xa9-A\\''"),
    TERM("v\x00\x03"
         "a@1",
         "a@1"),
    TERM("j", "[]"),
    TERM("k\x00\x03"
         "a\"\n",
         "\"a\\\"\\n\""),
    TERM("k\x00\x02\x01\xff", "[1,255]"),
    TERM("l\x00\x00\x00\x02"
         "a\x01w\x01xj",
         "[1,x]"),
    TERM("l\x00\x00\x00\x01"
         "a\x01w\x01x",
         "[1|x]"),
    TERM("l\x00\x00\x00\x02"
         "b\x00\x00\x20\xac"
         "aXj",
         "\"\xe2\x82\xacX\""),
    TERM("l\x00\x00\x00\x01l\x00\x00\x00\x01jjj", "[[[]]]"),
    TERM("h\x00", "{}"),
    TERM("h\x02h\x01jm\x00\x00\x00\x02hi", "{{[]},<<\"hi\">>}"),
    TERM("i\x00\x00\x00\x01j", "{[]}"),
    TERM("t\x00\x00\x00\x02w\x01"
         "aa\x01w\x01"
         "bh\x00",
         "#{a => 1,b => {}}"),
    TERM("t\x00\x00\x00\x00", "#{}"),
    TERM("m\x00\x00\x00\x00", "<<>>"),
    TERM("m\x00\x00\x00\x02\xc3\xa9", "<<\"\xc3\xa9\"/utf8>>"),
    TERM("m\x00\x00\x00\x02\xc3\x28", "<<195,40>>"),
    TERM("M\x00\x00\x00\x02\x04\x01\x20", "<<1,2:4>>"),
    TERM("Xw\x01n\x00\x00\x00\x09\x00\x00\x00\x00\x00\x00\x00\x01", "<n.9.0>"),
    TERM("gw\x01n\x00\x00\x00\x09\x00\x00\x00\x02\x01", "<n.9.2>"),
    TERM("Zw\x02", NULL),
    TERM("Z\x00\x02w\x01n\x00\x00\x00\x01\x00\x00\x00\x07\x00\x00\x00\x08", "#Ref<n.7.8>"),
    TERM("r\x00\x01w\x01n\x00\x00\x00\x00\x07", "#Ref<n.7>"),
    TERM("ew\x01n\x00\x00\x00\x07\x00", "#Ref<n.7>"),
    TERM("Yw\x01n\x00\x00\x00\x07\x00\x00\x00\x01", "#Port<n.7>"),
    TERM("xw\x01n\x00\x00\x00\x00\x00\x00\x00\x07\x00\x00\x00\x01", "#Port<n.7>"),
    TERM("fw\x01n\x00\x00\x00\x07\x01", "#Port<n.7>"),
    TERM("qw\x05listsw\x03mapa\x02", "fun lists:map/2"),
    TERM("h\x02p\x00\x00\x00\x00\x01"
         "0123456789abcdef\x00\x00\x00\x03\x00\x00\x00\x01w\x01m"
         "a\x03"
         "b\x00\x00\x00\x09gw\x01n\x00\x00\x00\x09\x00\x00\x00\x02\x01l\x00\x00\x00\x01jj"
         "w\x01z",
         "{#Fun<m.3.9>,z}"),
    /* none */
    TERM("", NULL),
    TERM("a\x11"
         "a",
         NULL),
    TERM("y\x00", NULL),
    TERM("P\x00\x00\x00\x01x", NULL),
    TERM("i\xff\xff\xff\xffj", NULL),
    TERM("t\xff\xff\xff\xffj", NULL),
    TERM("m\xff\xff\xff\xffj", NULL),
    TERM("F\x7f\xf0\x00\x00\x00\x00\x00\x00", NULL),
    TERM("v\x00\x01\xe9", NULL),
    TERM("M\x00\x00\x00\x01\x09\x01", NULL),
    {"", 0, NULL},
    {"hello", 5, NULL},
};
enum { TERMS = sizeof terms / sizeof *terms };

static void terms_are_printed_as_erlang_writes_them(void **state) {
    (void)state;
    for (unsigned i = 0; i < TERMS; i++) {
        const char *text = text_of(terms[i].bytes, terms[i].len_bytes);
        if (!text || !terms[i].text)
            assert_ptr_equal(text, terms[i].text);
        else
            assert_string_equal(text, terms[i].text);
    }
}

static void a_term_that_is_cut_off_is_none(void **state) {
    (void)state;
    for (unsigned i = 0; i < TERMS; i++)
        for (size_t len = 0; terms[i].text && len < terms[i].len_bytes; len++)
            assert_null(text_of(terms[i].bytes, len));
}

static void any_byte_may_be_another(void **state) {
    (void)state;
    uint8_t bytes[256];
    for (unsigned i = 0; i < TERMS; i++)
        for (size_t at = 0; at < terms[i].len_bytes; at++)
            for (unsigned value = 0; value < 256; value++) {
                memcpy(bytes, terms[i].bytes, terms[i].len_bytes);
                bytes[at] = (uint8_t)value;
                (void)text_of(bytes, terms[i].len_bytes);
            }
}

/* A list in a list in a list ... takes no stack. */
static void nesting_has_no_limit(void **state) {
    (void)state;
    enum { DEPTH = 1000000 };
    const size_t len = 1 + 2 * DEPTH + 1;
    uint8_t *bytes = malloc(len);
    assert_non_null(bytes);
    bytes[0] = 131;
    for (unsigned i = 0; i < DEPTH; i++)
        memcpy(bytes + 1 + 2 * i, "h\x01", 2);
    bytes[len - 1] = 'j';
    assert_true(cli_print_term(bytes, len, NULL));
    assert_false(cli_print_term(bytes, len - 1, NULL));
    free(bytes);
}

/* 2^N - 1, digit by digit, against what a calculation with remainders must give. */
static void integers_of_any_length_are_printed(void **state) {
    (void)state;
    uint8_t bytes[2000] = {131, 'o', 0, 0, 4, 0, 0}; /* 1024 bytes: in hexadecimal */
    memset(bytes + 7, 0xff, 1024);
    const char *text = text_of(bytes, 7 + 1024);
    assert_non_null(text);
    assert_int_equal(strlen(text), 3 + 2048);
    assert_ok(strncmp(text, "16#FFFF", 7));
    bytes[4] = 2; /* 512 bytes: in decimal */
    text = text_of(bytes, 7 + 512);
    assert_non_null(text);
    assert_int_equal(strlen(text), 1234); /* 4096 bits, times log10 of 2 */
    unsigned rest = 0;
    for (const char *digit = text; *digit; digit++)
        rest = (rest * 10 + (unsigned)(*digit - '0')) % 255;
    assert_int_equal(rest, 0); /* 256^512 - 1 */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(terms_are_printed_as_erlang_writes_them),
        TEST(a_term_that_is_cut_off_is_none),
        TEST(any_byte_may_be_another),
        TEST(nesting_has_no_limit),
        TEST(integers_of_any_length_are_printed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
