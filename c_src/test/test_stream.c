/* test_stream.c -- a mapped file as a stream: the position, what several threads read of it, lines.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/file.h"
#include "test/support.h"

enum { FILE_BYTES = 10000, THREADS = 4 };

/* The next bytes, or line, copied into buf, which is large enough. */
static int next(struct emmap_file *file, uint64_t most_bytes, uint8_t *buf, uint64_t *len_bytes) {
    struct file_next found = {0};
    int rc = file_next_begin(file, true, most_bytes, &found);
    if (rc == 0) rc = file_next_end(file, true, &found, buf);
    *len_bytes = found.len_bytes;
    return rc;
}

static uint64_t position(struct emmap_file *file) {
    uint64_t at = 0;
    assert_ok(file_seek(file, true, FILE_SEEK_CUR, 0, &at));
    return at;
}

static void reads_go_on_where_the_last_one_ended(void **state) {
    (void)state;
    const char *path = support_path("f");
    uint8_t buf[FILE_BYTES];
    uint64_t got, at;
    make_file(path, FILE_BYTES);
    struct emmap_file *file = must_open(path, EMMAP_SHARED, 0);
    for (uint64_t off = 0; off < FILE_BYTES; off += got) {
        assert_ok(next(file, 777, buf, &got));
        assert_int_equal(got, FILE_BYTES - off < 777 ? FILE_BYTES - off : 777);
        assert_true(is_pattern(buf, off, got));
    }
    assert_int_equal(next(file, 1, buf, &got), EMMAP_E_PAST_END);
    assert_ok(file_seek(file, true, FILE_SEEK_END, -10, &at));
    assert_int_equal(at, FILE_BYTES - 10);
    assert_ok(next(file, 100, buf, &got));
    assert_int_equal(got, 10);
    emmap_file_free(file);
    await_no_regions();
}

static void impossible_positions_are_einval_and_change_nothing(void **state) {
    (void)state;
    const char *path = support_path("f");
    uint64_t at;
    make_file(path, FILE_BYTES);
    struct emmap_file *file = must_open(path, RW, 0);
    assert_ok(file_seek(file, true, FILE_SEEK_SET, 5000, &at));
    assert_int_equal(file_seek(file, true, FILE_SEEK_SET, -1, &at), -EINVAL);
    assert_int_equal(file_seek(file, true, FILE_SEEK_CUR, -5001, &at), -EINVAL);
    assert_int_equal(file_seek(file, true, FILE_SEEK_CUR, INT64_MAX, &at), -EINVAL);
    assert_int_equal(file_seek(file, true, FILE_SEEK_END, INT64_MIN, &at), -EINVAL);
    assert_int_equal(position(file), 5000);
    assert_ok(file_seek(file, true, FILE_SEEK_SET, INT64_MAX, &at));
    assert_int_equal(file_write_next(file, true, "x", 1), -EINVAL);
    assert_int_equal(position(file), INT64_MAX);
    emmap_file_free(file);
    await_no_regions();
}

static void what_was_begun_can_be_given_up(void **state) {
    (void)state;
    const char *path = support_path("f");
    struct file_next found;
    make_file(path, FILE_BYTES);
    struct emmap_file *file = must_open(path, EMMAP_SHARED, 0);
    assert_ok(file_next_begin(file, true, 100, &found));
    assert_int_equal(file_next_begin(file, false, 100, &found), -EAGAIN); /* it is held */
    assert_int_equal(file_next_end(file, true, &found, NULL), -EAGAIN);
    assert_int_equal(position(file), 0);
    assert_ok(emmap_file_close(file));
    assert_int_equal(file_next_begin(file, true, 100, &found), EMMAP_E_CLOSED);
    assert_int_equal(file_write_next(file, true, "x", 1), EMMAP_E_CLOSED);
    emmap_file_free(file);
    await_no_regions();
}

/* Round the piece of 64 KiB that is searched at once. */
static void lines_of_any_length_end_at_their_newline(void **state) {
    (void)state;
    static const uint64_t lengths[] = {0, 1, 65534, 65535, 65536, 65537, 131072, 1 << 20, 5};
    const char *path = support_path("f");
    uint8_t *buf = malloc(2 << 20);
    assert_non_null(buf);
    memset(buf, 'x', 2 << 20);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        assert_int_equal(fwrite(buf, 1, lengths[i], f), lengths[i]);
        if (i + 1 < sizeof lengths / sizeof *lengths) assert_int_equal(fputc('\n', f), '\n');
    }
    assert_ok(fclose(f));
    struct emmap_file *file = must_open(path, EMMAP_SHARED, 0);
    uint64_t len;
    for (size_t i = 0; i + 1 < sizeof lengths / sizeof *lengths; i++) {
        assert_ok(next(file, FILE_NEXT_LINE, buf, &len));
        assert_int_equal(len, lengths[i] + 1);
        assert_int_equal(buf[lengths[i]], '\n');
    }
    assert_ok(next(file, FILE_NEXT_LINE, buf, &len));
    assert_int_equal(len, 5);
    assert_int_equal(next(file, FILE_NEXT_LINE, buf, &len), EMMAP_E_PAST_END);
    emmap_file_free(file);
    free(buf);
    await_no_regions();
}

static void make_text(const char *path, const char *text) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_ok(fclose(f));
}

/* It is what the file's last line was when it was looked for. */
static void a_last_line_without_newline_is_taken_while_the_file_grows(void **state) {
    (void)state;
    const char *path = support_path("f");
    struct file_next found;
    uint8_t buf[16];
    uint64_t len;
    make_text(path, "first\nlast");
    struct emmap_file *file = must_open(path, RW | EMMAP_EXTEND, 0);
    assert_ok(next(file, FILE_NEXT_LINE, buf, &len));
    assert_int_equal(len, 6);
    assert_ok(file_next_begin(file, true, FILE_NEXT_LINE, &found));
    assert_int_equal(found.len_bytes, 4);
    assert_ok(emmap_file_write(file, 10, " one\nmore", 9));
    assert_ok(file_next_end(file, true, &found, buf));
    assert_int_equal(found.len_bytes, 4);
    assert_memory_equal(buf, "last", 4);
    assert_ok(next(file, FILE_NEXT_LINE, buf, &len));
    assert_int_equal(len, 5);
    assert_memory_equal(buf, " one\n", 5);
    emmap_file_free(file);
    await_no_regions();
}

static void a_line_whose_newline_was_written_over_is_begun_again_or_taken_as_it_is(void **state) {
    (void)state;
    const char *path = support_path("f");
    struct file_next found;
    uint8_t buf[16];
    make_text(path, "one\ntwo\n");
    struct emmap_file *file = must_open(path, RW, 0);
    for (int again = 0; again <= 1; again++) {
        assert_ok(emmap_file_write(file, 3, "\n", 1));
        assert_ok(file_next_begin(file, true, FILE_NEXT_LINE, &found));
        assert_int_equal(found.len_bytes, 4);
        assert_ok(emmap_file_write(file, 3, "&", 1));
        if (again) found.newline = false;
        assert_int_equal(file_next_end(file, true, &found, buf), again ? 0 : -EBUSY);
        assert_int_equal(position(file), again ? 4 : 0);
    }
    assert_int_equal(found.len_bytes, 4);
    assert_memory_equal(buf, "one&", 4);
    /* A newline before the one that was found. */
    assert_ok(file_next_begin(file, true, FILE_NEXT_LINE, &found));
    assert_ok(emmap_file_write(file, 5, "\n", 1));
    assert_ok(file_next_end(file, true, &found, buf));
    assert_int_equal(found.len_bytes, 2);
    assert_int_equal(position(file), 6);
    emmap_file_free(file);
    await_no_regions();
}

/* -------------------------------------------------------------------------- several at once */

enum { WORDS = 50000 };
static _Atomic uint8_t times_read[WORDS];

/* Word i of the file is i: each piece says where it is from. */
static void *reader(void *arg) {
    struct emmap_file *file = arg;
    uint32_t words[1000];
    uint64_t len;
    for (unsigned i = 0;; i++) {
        const int rc = next(file, sizeof *words * (1 + i % 1000), (uint8_t *)words, &len);
        if (rc == EMMAP_E_PAST_END) return NULL;
        MUST(rc == 0);
        for (uint64_t n = 0; n < len / sizeof *words; n++) {
            MUST(words[n] == words[0] + n);
            atomic_fetch_add(&times_read[words[n]], 1);
        }
    }
}

static void threads_read_each_byte_once(void **state) {
    (void)state;
    const char *path = support_path("f");
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    for (uint32_t i = 0; i < WORDS; i++) {
        assert_int_equal(fwrite(&i, sizeof i, 1, f), 1);
        times_read[i] = 0;
    }
    assert_ok(fclose(f));
    struct emmap_file *file = must_open(path, EMMAP_SHARED, 0);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_ok(pthread_create(&threads[i], NULL, reader, file));
    for (int i = 0; i < THREADS; i++)
        assert_ok(pthread_join(threads[i], NULL));
    for (unsigned i = 0; i < WORDS; i++)
        assert_int_equal(times_read[i], 1);
    emmap_file_free(file);
    await_no_regions();
}

static void *writer(void *arg) {
    for (int i = 0; i < 500; i++)
        MUST(file_write_next(arg, true, "12345678", 8) == 0);
    return NULL;
}

static void threads_that_write_extend_the_file_and_lose_nothing(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, 0);
    struct emmap_file *file = must_open(path, RW | EMMAP_EXTEND, 0);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_ok(pthread_create(&threads[i], NULL, writer, file));
    for (int i = 0; i < THREADS; i++)
        assert_ok(pthread_join(threads[i], NULL));
    assert_int_equal(file_bytes_of(path), THREADS * 500 * 8);
    assert_int_equal(position(file), THREADS * 500 * 8);
    assert_int_equal(file_byte(path, THREADS * 500 * 8 - 1), '8');
    emmap_file_free(file);
    await_no_regions();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(reads_go_on_where_the_last_one_ended),
        TEST(impossible_positions_are_einval_and_change_nothing),
        TEST(what_was_begun_can_be_given_up),
        TEST(lines_of_any_length_end_at_their_newline),
        TEST(a_last_line_without_newline_is_taken_while_the_file_grows),
        TEST(a_line_whose_newline_was_written_over_is_begun_again_or_taken_as_it_is),
        TEST(threads_read_each_byte_once),
        TEST(threads_that_write_extend_the_file_and_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
