/* test_queue_view.c -- a queue's file that is looked at: at rest, killed, damaged, copied, and while
 * others use it. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/crc32c.h"
#include "os/os.h"
#include "store/queue.h"
#include "test/support.h"

enum { SEGMENT = QUEUE_LEAST_SEGMENT, MOST_ITEMS = 4096, MOST_BYTES = 300000 };

/* ------------------------------------------------------------------------------------- writing */

static struct emmap_queue *open_queue(const char *path, uint32_t flags) {
    const struct emmap_queue_options options = {.flags = EMMAP_QUEUE_CREATE | flags,
                                                .size_bytes = 64 << 10};
    struct emmap_queue *q;
    own_faults();
    MUST(emmap_queue_open(&q, path, &options, NULL) == 0);
    return q;
}

static uint8_t byte_of(uint64_t id, uint64_t i) {
    return (uint8_t)(id * 31 + i * 7 + (i >> 8));
}

/* Message id, of which the first bytes are its number. */
static void push(struct emmap_queue *q, uint64_t id, uint32_t len_bytes) {
    static _Thread_local uint8_t buf[MOST_BYTES];
    for (uint32_t i = 0; i < len_bytes; i++)
        buf[i] = byte_of(id, i);
    if (len_bytes >= sizeof id) memcpy(buf, &id, sizeof id);
    MUST(emmap_queue_push(q, buf, len_bytes, 0) == 0);
}

static int take(struct emmap_queue *q) {
    static _Thread_local uint8_t buf[MOST_BYTES];
    uint32_t len, flags;
    return emmap_queue_take(q, buf, sizeof buf, &len, &flags);
}

static uint64_t word_at(const char *path, uint64_t off) {
    uint64_t word = 0;
    const int fd = open(path, O_RDONLY);
    assert_int_equal(pread(fd, &word, sizeof word, (off_t)off), sizeof word);
    close(fd);
    return word;
}

static void set_word(const char *path, uint64_t off, uint64_t word) {
    const int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, &word, sizeof word, (off_t)off), sizeof word);
    close(fd);
}

static void flip(const char *path, uint64_t off) {
    const uint8_t byte = file_byte(path, off) ^ 0x10;
    const int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)off), 1);
    close(fd);
}

/* Where the system does not tell which boot this is, or who has locked what, the next opener of any
 * file recovers it. */
static void needs_to_know_who(void) {
    struct os_identity identity;
    bool locked;
    int fd;
    make_file(support_path("any"), 1);
    assert_ok(os_open(support_path("any"), 0, 0, &fd));
    const bool knows = os_identity(fd, &identity) == 0 && os_byte_locked(fd, 0, &locked) == 0;
    assert_ok(os_close(fd));
    if (!knows) skip();
}

#define LIVE(field) (QUEUE_LIVE_OFF + offsetof(struct emmap_disk_live, field))
#define SLOT(n) ((uint64_t)QUEUE_DATA_OFF + ((n)-1) * SEGMENT)

/* ------------------------------------------------------------------------------------- looking */

struct seen {
    unsigned n, problems;
    struct emmap_queue_item item[MOST_ITEMS];
    unsigned of_kind[EMMAP_QUEUE_PROBLEM_END];
    struct emmap_queue_problem last;
    bool wrong_data;
    struct emmap_queue_walked walked;
    int rc;
};

static int see_item(void *ctx, const struct emmap_queue_item *item) {
    struct seen *seen = ctx;
    const uint8_t *data = item->data;
    uint64_t id = 0;
    if (data && item->len_bytes >= sizeof id) memcpy(&id, data, sizeof id);
    for (uint32_t i = sizeof id; data && i < item->len_bytes; i++)
        if (data[i] != byte_of(id, i)) seen->wrong_data = true;
    if (seen->n < MOST_ITEMS) seen->item[seen->n] = *item;
    seen->n++;
    return 0;
}

static void see_problem(void *ctx, const struct emmap_queue_problem *problem) {
    struct seen *seen = ctx;
    seen->problems++;
    seen->of_kind[problem->kind]++;
    seen->last = *problem;
}

static struct emmap_queue_view *must_view(const char *path) {
    struct emmap_queue_view *view;
    own_faults();
    MUST(emmap_queue_view_open(&view, path) == 0);
    return view;
}

static void walk(struct emmap_queue_view *view, struct seen *seen) {
    const struct emmap_queue_walk walk = {.item = see_item,
                                          .problem = see_problem,
                                          .ctx = seen,
                                          .data_bytes = MOST_BYTES,
                                          .check = true};
    memset(seen, 0, sizeof *seen);
    seen->rc = emmap_queue_view_walk(view, &walk, &seen->walked);
}

/* All of it, checked; the file is left as it was. */
static struct seen *look(const char *path) {
    static struct seen seen;
    struct snapshot before = snapshot_of(path);
    struct emmap_queue_view *view = must_view(path);
    walk(view, &seen);
    emmap_queue_view_close(view);
    assert_as_before(&before);
    if (seen.problems > 0 && getenv("SEEN")) /* to see what a test that fails has found */
        printf("%s: slot %u, pos %u\n", emmap_queue_problem_message(seen.last.kind),
               (unsigned)seen.last.slot, (unsigned)seen.last.pos);
    assert_int_equal(seen.problems, seen.walked.problems);
    return &seen;
}

static struct emmap_queue_view_info info_at(const char *path) {
    struct emmap_queue_view_info info;
    struct emmap_queue_view *view = must_view(path);
    assert_ok(emmap_queue_view_info(view, &info));
    emmap_queue_view_close(view);
    return info;
}

static void finds(const char *path, enum emmap_queue_problem_kind kind) {
    struct seen *seen = look(path);
    assert_ok(seen->rc);
    assert_int_equal(seen->of_kind[kind], 1);
    assert_int_equal(seen->problems, 1);
}

/* --------------------------------------------------------------------------------------- at rest */

static void messages_are_told_in_order_with_their_data(void **state) {
    (void)state;
    needs_to_know_who();
    const char *path = support_path("q");
    struct emmap_queue *q = open_queue(path, 0);
    static const uint32_t lens[] = {8, 100, 0, 65000, 13, 200000, 4096, 8};
    enum { N = sizeof lens / sizeof *lens };
    for (unsigned i = 0; i < N; i++)
        push(q, i + 1, lens[i]);
    assert_ok(take(q));
    emmap_queue_close(q);

    const struct seen *seen = look(path);
    assert_ok(seen->rc);
    assert_int_equal(seen->problems, 0);
    assert_int_equal(seen->n, N - 1);
    uint64_t pos = 0;
    for (unsigned i = 0; i < seen->n; i++) {
        const struct emmap_queue_item *item = &seen->item[i];
        assert_int_equal(item->ordinal, i + 2);
        assert_int_equal(item->len_bytes, lens[i + 1]);
        assert_int_equal(item->state, EMMAP_QUEUE_READY);
        assert_true(item->pos > pos && item->data && !item->damaged);
        pos = item->pos;
    }
    assert_false(seen->wrong_data);
    assert_int_equal(seen->walked.messages, N - 1);
    assert_true(seen->walked.counts && seen->walked.slots);
    assert_false(seen->walked.recovered || seen->walked.overtaken);

    const struct emmap_queue_view_info info = info_at(path);
    assert_int_equal(info.standing, EMMAP_QUEUE_AT_REST);
    assert_int_equal(info.queue.messages, N - 1);
    assert_int_equal(info.queue.bytes, seen->walked.bytes);
    assert_int_equal(info.queue.oldest_ms, seen->item[0].time_ms);
    assert_int_equal(info.queue.file_bytes, file_bytes_of(path));
    assert_int_equal(info.head_n, 2);
    assert_int_equal(info.participants, 0);
    assert_true(info.steady && info.same_boot && info.queue.linked && !info.interrupted);
}

static void an_empty_queue_is_sound(void **state) {
    (void)state;
    const char *path = support_path("q");
    emmap_queue_close(open_queue(path, 0));
    const struct seen *seen = look(path);
    assert_ok(seen->rc);
    assert_int_equal(seen->problems, 0);
    assert_int_equal(seen->n, 0);
    assert_int_equal(info_at(path).queue.oldest_ms, 0);
}

static int stop_at_first(void *ctx, const struct emmap_queue_item *item) {
    (void)ctx, (void)item;
    return 7;
}

static void a_walk_ends_when_its_caller_has_seen_enough(void **state) {
    (void)state;
    const char *path = support_path("q");
    struct emmap_queue *q = open_queue(path, 0);
    for (unsigned i = 0; i < 5; i++)
        push(q, i, 8);
    struct emmap_queue_view *view = must_view(path);
    struct emmap_queue_walked walked;
    const struct emmap_queue_walk walk = {.item = stop_at_first};
    assert_int_equal(emmap_queue_view_walk(view, &walk, &walked), 7);
    assert_int_equal(walked.messages, 1);
    emmap_queue_view_close(view);
    emmap_queue_close(q);
}

static void what_is_no_queue_is_refused(void **state) {
    (void)state;
    const char *path = support_path("f");
    struct emmap_queue_view *view;
    make_file(path, 200000);
    assert_int_equal(emmap_queue_view_open(&view, path), EMMAP_E_FOREIGN);
    assert_int_equal(emmap_queue_view_open(&view, support_path("none")), -ENOENT);
    const char *queue = support_path("q");
    emmap_queue_close(open_queue(queue, 0));
    flip(queue, 60);
    assert_int_equal(emmap_queue_view_open(&view, queue), EMMAP_E_CORRUPT);
    flip(queue, 60);
    assert_ok(truncate(queue, 5000));
    assert_int_equal(emmap_queue_view_open(&view, queue), EMMAP_E_TRUNCATED);
}

/* ---------------------------------------------------------------------------- what somebody left */

static void who_has_it_open_is_told(void **state) {
    (void)state;
    needs_to_know_who();
    const char *path = support_path("q");
    struct emmap_queue *q = open_queue(path, 0);
    push(q, 1, 8);
    const struct emmap_queue_view_info info = info_at(path);
    assert_int_equal(info.standing, EMMAP_QUEUE_IN_USE);
    assert_int_equal(info.participants, 1);
    assert_int_equal(info.pid[0], getpid());
    assert_int_equal(look(path)->problems, 0);
    emmap_queue_close(q);
    assert_int_equal(info_at(path).standing, EMMAP_QUEUE_AT_REST);
}

/* A step that was written down and not done: as if killed there. */
static void leave_in_redo(const char *path, const uint64_t before[97], const uint64_t after[97]) {
    unsigned n = 0;
    for (unsigned i = 8; i < 48; i++) {
        if (before[i] == after[i]) continue;
        set_word(path, QUEUE_LIVE_OFF + i * 8, before[i]);
        set_word(path, LIVE(redo) + 16 * n, QUEUE_LIVE_OFF + i * 8);
        set_word(path, LIVE(redo) + 16 * n++ + 8, after[i]);
    }
    assert_in_range(n, 2, QUEUE_REDO_PAIRS);
    set_word(path, LIVE(redo_n), n);
}

static void read_page(const char *path, uint64_t page[97]) {
    for (unsigned i = 0; i < 97; i++)
        page[i] = word_at(path, QUEUE_LIVE_OFF + i * 8);
}

static void a_step_that_was_written_down_counts_as_done(void **state) {
    (void)state;
    needs_to_know_who();
    const char *path = support_path("q");
    struct emmap_queue *q = open_queue(path, 0);
    uint64_t before[97], after[97];
    for (unsigned i = 1; i <= 3; i++)
        push(q, i, 100);
    read_page(path, before);
    assert_ok(take(q));
    read_page(path, after);
    emmap_queue_close(q);
    leave_in_redo(path, before, after);

    const struct seen *seen = look(path);
    assert_ok(seen->rc);
    assert_int_equal(seen->problems, 0);
    assert_int_equal(seen->n, 2);
    assert_int_equal(seen->item[0].ordinal, 2);
    assert_true(seen->walked.counts);
    const struct emmap_queue_view_info info = info_at(path);
    assert_int_equal(info.queue.messages, 2);
    assert_int_equal(info.standing, EMMAP_QUEUE_AT_REST);
    q = open_queue(path, 0);
    struct emmap_queue_info as_opened;
    assert_ok(emmap_queue_info(q, &as_opened));
    assert_int_equal(as_opened.messages, 2);
    emmap_queue_close(q);
}

static int claim_and_wait(const char *path) {
    static uint8_t buf[1000];
    struct queue_message message;
    struct emmap_queue *q = open_queue(path, EMMAP_QUEUE_MULTI_OS);
    for (unsigned i = 1; i <= 4; i++)
        push(q, i, 100);
    MUST(queue_claim(q, true, buf, sizeof buf, &message) == 0);
    MUST(queue_claim(q, true, buf, sizeof buf, &message) == 0);
    MUST(queue_ack(q, true, &message) == 0);
    MUST(take(q) == 0);
    say();
    (void)hear();
    return 0;
}

static void claims_of_the_dead_are_told_from_those_of_the_living(void **state) {
    (void)state;
    needs_to_know_who();
    const char *path = support_path("q");
    const struct child child = start_role("claim_and_wait", path);
    await_word(&child);
    const struct seen *seen = look(path);
    assert_int_equal(seen->problems, 0);
    assert_int_equal(seen->item[0].state, EMMAP_QUEUE_LEASED);
    assert_false(seen->item[0].orphaned);
    assert_int_equal(info_at(path).pid[0], child.pid);

    assert_ok(kill(child.pid, SIGKILL));
    assert_int_equal(end_role(&child), 256 + SIGKILL);
    seen = look(path);
    assert_ok(seen->rc);
    assert_int_equal(seen->problems, 0);
    assert_int_equal(seen->n, 4);
    assert_int_equal(seen->walked.messages, 2);
    assert_int_equal(seen->walked.by_state[EMMAP_QUEUE_DONE], 2);
    assert_true(seen->item[0].orphaned);
    const struct emmap_queue_view_info info = info_at(path);
    assert_int_equal(info.standing, EMMAP_QUEUE_AT_REST);
    assert_int_equal(info.queue.claimed, 1);
}

static void copy_file(const char *from, const char *to) {
    const struct snapshot bytes = snapshot_of(from);
    FILE *f = fopen(to, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes.bytes, 1, bytes.len_bytes, f), bytes.len_bytes);
    assert_ok(fclose(f));
    free(bytes.bytes);
}

static void a_copy_of_a_file_in_use_tells_what_a_recovery_keeps(void **state) {
    (void)state;
    const char *path = support_path("q"), *copy = support_path("copy");
    struct emmap_queue *q = open_queue(path, 0);
    for (unsigned i = 1; i <= 200; i++)
        push(q, i, 1000);
    for (unsigned i = 1; i <= 50; i++)
        assert_ok(take(q));
    copy_file(path, copy);
    const struct emmap_queue_view_info info = info_at(copy);
    assert_int_equal(info.standing, EMMAP_QUEUE_TO_RECOVER);
    assert_false(info.same_boot);
    const struct seen *seen = look(copy);
    assert_ok(seen->rc);
    assert_int_equal(seen->problems, 0);
    assert_true(seen->walked.recovered);
    assert_int_equal(seen->walked.kept, 150);
    assert_int_equal(seen->n, 150);
    assert_int_equal(seen->walked.lost, 0);
    assert_false(seen->wrong_data);
    emmap_queue_close(q);
}

static void after_a_reboot_too(void **state) {
    (void)state;
    static const uint8_t other_boot[16] = {1, 2, 3};
    const char *path = support_path("q");
    struct emmap_queue *q = open_queue(path, 0);
    for (unsigned i = 1; i <= 10; i++)
        push(q, i, 1000);
    emmap_queue_close(q);
    os_pretend_boot(other_boot);
    const struct seen *seen = look(path);
    assert_int_equal(info_at(path).standing, EMMAP_QUEUE_TO_RECOVER);
    assert_int_equal(seen->walked.kept, 10);
    flip(path, SLOT(1) + QUEUE_SLOT_HEADER + 2 * queue_record_bytes(1000) + 100);
    seen = look(path);
    assert_int_equal(seen->of_kind[EMMAP_QUEUE_PROBLEM_LOST], 1);
    assert_int_equal(seen->walked.kept, 9);
    assert_int_equal(seen->walked.lost, 1);
    flip(path, QUEUE_CHECKPOINT_OFF + 20);
    flip(path, QUEUE_CHECKPOINT_OFF + QUEUE_PAGE + 20);
    seen = look(path);
    assert_int_equal(seen->rc, EMMAP_E_CORRUPT);
    assert_int_equal(seen->of_kind[EMMAP_QUEUE_PROBLEM_CHECKPOINT], 1);
    os_pretend_boot(NULL);
}

/* --------------------------------------------------------------------------------------- damage */

/* Messages of 1000 bytes over several segments, nothing of which is claimed. */
static const char *make_long(void) {
    const char *path = support_path("q");
    struct emmap_queue *q = open_queue(path, 0);
    for (unsigned i = 1; i <= 300; i++)
        push(q, i, 1000);
    assert_ok(take(q));
    emmap_queue_close(q);
    assert_int_equal(look(path)->problems, 0);
    return path;
}

/* In slot 1, which holds the first segment: record number n, from 1. */
static uint64_t record_off(unsigned n) {
    return SLOT(1) + QUEUE_SLOT_HEADER + (n - 1) * queue_record_bytes(1000);
}

static void a_damaged_record_is_found_and_its_neighbours_are_told(void **state) {
    (void)state;
    needs_to_know_who();
    const char *path = make_long();
    flip(path, record_off(5) + 9);
    finds(path, EMMAP_QUEUE_PROBLEM_RECORD);
    const struct seen *seen = look(path);
    assert_int_equal(seen->last.ordinal, 5);
    assert_int_equal(seen->last.found, 1);
    assert_int_equal(seen->last.off, record_off(5));
    assert_int_equal(seen->walked.messages, 298);
    assert_int_equal(seen->walked.missing, 1);
    flip(path, record_off(5) + 9);

    flip(path, record_off(7) + 200);
    finds(path, EMMAP_QUEUE_PROBLEM_DATA);
    seen = look(path);
    assert_int_equal(seen->last.ordinal, 7);
    assert_int_equal(seen->walked.messages, 299);
    assert_true(seen->item[5].damaged);
    assert_null(seen->item[5].data);
    flip(path, record_off(7) + 200);

    flip(path, record_off(8) - 3);
    finds(path, EMMAP_QUEUE_PROBLEM_TRAILER);
    flip(path, record_off(8) - 3);
    set_word(path, record_off(9) + 32, 7);
    finds(path, EMMAP_QUEUE_PROBLEM_STATE);
    set_word(path, record_off(9) + 32, QUEUE_READY);
    assert_int_equal(look(path)->problems, 0);
}

static void damage_around_the_messages_is_found(void **state) {
    (void)state;
    needs_to_know_who();
    const char *path = make_long();
    flip(path, SLOT(2) + 17);
    finds(path, EMMAP_QUEUE_PROBLEM_SEGMENT_COPY);
    assert_int_equal(look(path)->last.slot, 2);
    flip(path, SLOT(2) + 17);
    flip(path, SLOT(3) - QUEUE_SLOT_TRAILER + 3);
    finds(path, EMMAP_QUEUE_PROBLEM_SEGMENT_COPY);
    flip(path, SLOT(3) - QUEUE_SLOT_TRAILER + 3);

    const uint64_t link = SLOT(2) + offsetof(struct emmap_disk_slot, next);
    const uint64_t next = word_at(path, link);
    set_word(path, link, 1);
    const struct seen *seen = look(path);
    assert_int_equal(seen->of_kind[EMMAP_QUEUE_PROBLEM_LINK], 1);
    assert_int_equal(seen->walked.messages, 299);
    set_word(path, link, next);

    const uint64_t end = SLOT(2) + offsetof(struct emmap_disk_slot, end);
    set_word(path, end, 800);
    finds(path, EMMAP_QUEUE_PROBLEM_SEGMENT_END);
    set_word(path, end, 0);

    const uint64_t durable = word_at(path, LIVE(cp_durable));
    flip(path, QUEUE_CHECKPOINT_OFF + (durable & 1) * QUEUE_PAGE + 25);
    finds(path, EMMAP_QUEUE_PROBLEM_CHECKPOINT);
    flip(path, QUEUE_CHECKPOINT_OFF + (durable & 1) * QUEUE_PAGE + 25);
    assert_int_equal(look(path)->problems, 0);
}

/* Of a header and a record that no sync had covered a cut leaves one copy, and no end. */
static void a_recovered_queue_is_sound(void **state) {
    (void)state;
    static const uint8_t other_boot[16] = {1, 2, 3};
    needs_to_know_who();
    const char *path = make_long();
    flip(path, SLOT(2) - QUEUE_SLOT_TRAILER + 3);
    flip(path, SLOT(3) + 17);
    for (uint64_t off = 0; off < sizeof(struct emmap_disk_segment); off += 8) /* an older one's */
        set_word(path, SLOT(5) - QUEUE_SLOT_TRAILER + off,
                 word_at(path, SLOT(4) - QUEUE_SLOT_TRAILER + off));
    flip(path, record_off(7) + 200);
    flip(path, record_off(8) - 3);
    flip(path, record_off(10) - 3);
    os_pretend_boot(other_boot);
    emmap_queue_close(open_queue(path, 0));
    const struct seen *seen = look(path);
    os_pretend_boot(NULL);
    assert_ok(seen->rc);
    assert_false(seen->walked.recovered);
    assert_int_equal(seen->walked.messages, 298);
    assert_int_equal(seen->problems, 0);
}

static void lose_segment(const char *path, uint64_t slot) {
    flip(path, SLOT(slot) + 17);
    flip(path, SLOT(slot + 1) - QUEUE_SLOT_TRAILER + 17);
}

/* Each second segment is missing, and no record begins in those between. */
static void segments_in_the_midst_of_what_is_lost_are_counted(void **state) {
    (void)state;
    static const uint8_t other_boot[16] = {1, 2, 3};
    needs_to_know_who();
    const char *path = support_path("q");
    struct emmap_queue *q = open_queue(path, 0);
    for (unsigned i = 1; i <= 70; i++)
        push(q, i, 1000);
    push(q, 71, 290000);
    push(q, 72, 290000);
    for (unsigned i = 73; i <= 111; i++)
        push(q, i, 1000);
    emmap_queue_close(q);
    for (uint64_t slot = 2; slot <= 8; slot += 2)
        lose_segment(path, slot);
    os_pretend_boot(other_boot);
    q = open_queue(path, 0);
    struct emmap_queue_info info;
    assert_ok(emmap_queue_info(q, &info));
    assert_int_equal(info.messages, 101);
    assert_int_equal(info.bytes, 101 * queue_record_bytes(1000));
    emmap_queue_close(q);
    assert_int_equal(look(path)->problems, 0);
    q = open_queue(path, 0);
    for (unsigned i = 1; i <= 101; i++)
        assert_ok(take(q));
    assert_ok(emmap_queue_info(q, &info));
    assert_int_equal(info.bytes, 0);
    emmap_queue_close(q);
    assert_int_equal(look(path)->problems, 0);
    os_pretend_boot(NULL);
}

/* Behind what is missing there is a segment, and no record in it. */
static void a_recovered_queue_ends_with_its_last_record(void **state) {
    (void)state;
    static const uint8_t other_boot[16] = {1, 2, 3};
    needs_to_know_who();
    const char *path = support_path("q");
    struct emmap_queue *q = open_queue(path, 0);
    for (unsigned i = 1; i <= 130; i++)
        push(q, i, 1000);
    push(q, 131, 100000);
    push(q, 132, 60000);
    push(q, 133, 1000);
    const uint64_t cap = (64 << 10) - QUEUE_SLOT_HEADER - QUEUE_SLOT_TRAILER,
                   at = 130 * queue_record_bytes(1000) + queue_record_bytes(100000) - 3 * cap;
    emmap_queue_close(q);
    lose_segment(path, 3);
    flip(path, SLOT(4) + QUEUE_SLOT_HEADER + at + 9);
    lose_segment(path, 5);
    os_pretend_boot(other_boot);
    q = open_queue(path, 0);
    struct emmap_queue_info info;
    assert_ok(emmap_queue_info(q, &info));
    assert_int_equal(info.messages, 124);
    assert_int_equal(info.tail - info.head, 2 * cap); /* with what is torn at its end */
    emmap_queue_close(q);
    const struct seen *seen = look(path);
    assert_ok(seen->rc);
    assert_int_equal(seen->problems, 0);
    q = open_queue(path, 0);
    push(q, 134, 1000);
    emmap_queue_close(q);
    os_pretend_boot(NULL);
    emmap_queue_close(open_queue(path, 0)); /* recovered again */
    seen = look(path);
    assert_int_equal(seen->walked.messages, 125);
    assert_int_equal(seen->problems, 0);
}

static void a_segment_without_a_header_costs_no_other(void **state) {
    (void)state;
    const char *path = make_long();
    flip(path, SLOT(2) + 17);
    flip(path, SLOT(3) - QUEUE_SLOT_TRAILER + 17);
    const struct seen *seen = look(path);
    assert_ok(seen->rc);
    assert_true(seen->problems > 0);
    assert_true(seen->walked.messages > 200);
    /* Where the file is looked at as after a reboot, what is torn has become a record. */
    assert_int_equal(seen->walked.messages + seen->walked.missing +
                         seen->walked.by_state[EMMAP_QUEUE_VOID],
                     299);
}

static void counts_that_disagree_are_found(void **state) {
    (void)state;
    needs_to_know_who();
    static const struct {
        uint64_t off;
        enum emmap_queue_problem_kind kind;
    } words[] = {
        {LIVE(gap_n), EMMAP_QUEUE_PROBLEM_MESSAGES},
        {LIVE(gap_bytes), EMMAP_QUEUE_PROBLEM_BYTES},
        {LIVE(returned_n), EMMAP_QUEUE_PROBLEM_RETURNED},
    };
    const char *path = make_long();
    for (unsigned i = 0; i < sizeof words / sizeof *words; i++) {
        const uint64_t word = word_at(path, words[i].off);
        set_word(path, words[i].off, word + 1);
        finds(path, words[i].kind);
        assert_int_equal(look(path)->last.found - look(path)->last.expected == 0, false);
        set_word(path, words[i].off, word);
    }
}

static void slots_in_no_list_or_in_two_are_found(void **state) {
    (void)state;
    needs_to_know_who();
    const char *path = support_path("q");
    struct emmap_queue *q = open_queue(path, 0);
    for (unsigned i = 1; i <= 300; i++)
        push(q, i, 1000);
    for (unsigned i = 1; i <= 250; i++)
        assert_ok(take(q));
    assert_ok(queue_give_back(q));
    emmap_queue_close(q);
    assert_int_equal(look(path)->problems, 0);
    const uint64_t cold = word_at(path, LIVE(cold_slot)), warm = word_at(path, LIVE(warm_slot));
    assert_true(cold != 0 && warm != 0);
    const uint64_t link = SLOT(cold) + offsetof(struct emmap_disk_slot, free_next);
    const uint64_t next = word_at(path, link);

    set_word(path, LIVE(cold_slot), next);
    finds(path, EMMAP_QUEUE_PROBLEM_SLOT_LOST);
    assert_int_equal(look(path)->last.slot, cold);
    set_word(path, LIVE(cold_slot), cold);
    set_word(path, link, warm);
    finds(path, EMMAP_QUEUE_PROBLEM_SLOT_TWICE);
    assert_int_equal(look(path)->last.slot, warm);
    set_word(path, link, next);

    /* Where the tail is in the last one, the next opener recovers. */
    set_word(path, LIVE(slots), word_at(path, LIVE(slots)) - 1);
    const struct seen *seen = look(path);
    assert_true(seen->problems > 0 || seen->walked.recovered);
    set_word(path, LIVE(slots), word_at(path, LIVE(slots)) + 1);
    assert_int_equal(look(path)->problems, 0);
}

static void a_file_that_was_cut_is_found(void **state) {
    (void)state;
    needs_to_know_who();
    const char *path = make_long();
    assert_ok(truncate(path, (off_t)(SLOT(4) + 5000)));
    const struct seen *seen = look(path);
    assert_int_equal(seen->of_kind[EMMAP_QUEUE_PROBLEM_TRUNCATED], 1);
    assert_true(seen->walked.messages > 150);
}

/* Whatever a byte is, looking ends and changes nothing. */
static void any_byte_may_be_wrong(void **state) {
    (void)state;
    const char *path = make_long();
    uint64_t rng = 1, found = 0;
    const uint64_t bytes = file_bytes_of(path);
    enum { FLIPS = SANITIZER ? 150 : 400 };
    static struct seen seen;
    for (unsigned i = 0; i < FLIPS; i++) {
        rng = rng * 6364136223846793005u + 1442695040888963407u;
        /* half of them where the words are */
        const uint64_t off = rng >> 63 ? QUEUE_LIVE_OFF + (rng >> 20) % 800 : (rng >> 20) % bytes;
        flip(path, off);
        struct emmap_queue_view *view;
        if (emmap_queue_view_open(&view, path) == 0) {
            walk(view, &seen);
            found += seen.problems > 0;
            assert_false(seen.wrong_data);
            emmap_queue_view_close(view);
        }
        flip(path, off);
    }
    assert_true(found > FLIPS / 20);
    assert_int_equal(look(path)->problems, 0);
}

/* ---------------------------------------------------------------------------------------- in use */

struct traffic {
    struct emmap_queue *q;
    _Atomic bool stop;
    _Atomic uint64_t pushed, taken;
    uint64_t seed;
};

/* Walks are to be overtaken, and to have something to walk over. */
static int64_t backlog(struct traffic *t) {
    return (int64_t)(atomic_load(&t->pushed) - atomic_load(&t->taken));
}

static void *produce(void *arg) {
    struct traffic *t = arg;
    uint64_t rng = t->seed;
    while (!atomic_load(&t->stop)) {
        rng = rng * 6364136223846793005u + 1442695040888963407u;
        const uint64_t kind = rng >> 57;
        const uint32_t len = 8 + (uint32_t)(kind == 0   ? (rng >> 20) % 200000
                                            : kind < 16 ? (rng >> 20) % 20000
                                                        : (rng >> 20) % 300);
        if (backlog(t) > 2000) {
            sched_yield();
            continue;
        }
        push(t->q, atomic_fetch_add(&t->pushed, 1), len);
    }
    return NULL;
}

static void *consume(void *arg) {
    struct traffic *t = arg;
    static _Thread_local uint8_t buf[MOST_BYTES];
    for (unsigned i = 0; !atomic_load(&t->stop); i++) {
        struct queue_message message;
        if (backlog(t) < 300) {
            sched_yield();
            continue;
        }
        if (i % 7 == 0) {
            if (queue_claim(t->q, true, buf, sizeof buf, &message)) continue;
            int rc;
            do
                rc = i % 14 == 0 ? queue_return(t->q, true, &message)
                                 : queue_ack(t->q, true, &message);
            while (rc == QUEUE_SPUN);
            MUST(rc == 0);
            if (i % 14 == 0) continue;
        } else if (take(t->q)) {
            continue;
        }
        atomic_fetch_add(&t->taken, 1);
    }
    return NULL;
}

static void nothing_that_others_change_meanwhile_is_a_problem(void **state) {
    (void)state;
    needs_to_know_who();
    const char *path = support_path("q");
    struct traffic t = {.q = open_queue(path, 0), .seed = 42};
    pthread_t producer, consumer;
    static struct seen seen;
    unsigned told = 0, counted = 0, overtaken = 0;
    assert_ok(pthread_create(&producer, NULL, produce, &t));
    assert_ok(pthread_create(&consumer, NULL, consume, &t));
    struct emmap_queue_view *view = must_view(path);
    const uint64_t until = os_now_ms() + 4000;
    for (unsigned i = 0; os_now_ms() < until; i++) {
        if (i % 10 == 9) { /* as the command does */
            emmap_queue_view_close(view);
            view = must_view(path);
        }
        walk(view, &seen);
        MUST(seen.rc == 0);
        if (seen.problems > 0)
            fprintf(stderr, "%s: slot %u, pos %u, ordinal %u, %u instead of %u\n",
                    emmap_queue_problem_message(seen.last.kind), (unsigned)seen.last.slot,
                    (unsigned)seen.last.pos, (unsigned)seen.last.ordinal, (unsigned)seen.last.found,
                    (unsigned)seen.last.expected);
        MUST(seen.problems == 0);
        MUST(!seen.wrong_data);
        for (unsigned k = 1; k < seen.n && k < MOST_ITEMS; k++)
            MUST(seen.item[k].ordinal > seen.item[k - 1].ordinal);
        struct emmap_queue_view_info info;
        MUST(emmap_queue_view_info(view, &info) == 0);
        MUST(info.standing == EMMAP_QUEUE_IN_USE && info.participants == 1);
        told += seen.n;
        counted += seen.walked.counts;
        overtaken += seen.walked.overtaken;
    }
    atomic_store(&t.stop, true);
    pthread_join(producer, NULL);
    pthread_join(consumer, NULL);
    walk(view, &seen);
    assert_int_equal(seen.problems, 0);
    assert_true(seen.walked.counts && seen.walked.slots);
    assert_true(told > 0);
    if (getenv("SEEN"))
        printf("%u told, counted %u times, overtaken %u times, %u pushed\n", told, counted,
               overtaken, (unsigned)t.pushed);
    emmap_queue_view_close(view);
    emmap_queue_close(t.q);
}

/* Everything is taken while the walk stands at the end of a segment, and others are pushed: the next one's slot is
 * used again while its own is not. */
enum {
    TILES = 8, /* messages fill a segment to its end */
    TILE_BYTES = (SEGMENT - QUEUE_SLOT_HEADER - QUEUE_SLOT_TRAILER) / TILES - QUEUE_RECORD_OVERHEAD
};

struct overtaking {
    struct seen seen;
    struct emmap_queue *q;
    unsigned pushes;
};

static int overtake(void *ctx, const struct emmap_queue_item *item) {
    struct overtaking *o = ctx;
    (void)see_item(&o->seen, item);
    if (o->seen.n != TILES) return 0;
    while (take(o->q) == 0)
        continue;
    for (unsigned i = 0; i < o->pushes; i++)
        push(o->q, i, TILE_BYTES);
    return 0;
}

static void overtake_problem(void *ctx, const struct emmap_queue_problem *problem) {
    struct overtaking *o = ctx;
    see_problem(&o->seen, problem);
}

static void a_walk_that_is_overtaken_between_segments_goes_on_at_the_head(void **state) {
    (void)state;
    needs_to_know_who();
    static struct overtaking o;
    unsigned overtaken = 0;
    for (unsigned pushes = 1; pushes <= 8 * TILES; pushes += TILES / 2) {
        const char *path = support_path("q");
        o = (struct overtaking){.q = open_queue(path, 0), .pushes = pushes};
        for (unsigned i = 0; i < 5 * TILES; i++)
            push(o.q, i, TILE_BYTES);
        struct emmap_queue_view *view = must_view(path);
        const struct emmap_queue_walk walk = {.item = overtake,
                                              .problem = overtake_problem,
                                              .ctx = &o,
                                              .data_bytes = MOST_BYTES,
                                              .check = true};
        assert_ok(emmap_queue_view_walk(view, &walk, &o.seen.walked));
        assert_int_equal(o.seen.problems, 0);
        assert_false(o.seen.wrong_data);
        overtaken += o.seen.walked.overtaken;
        emmap_queue_view_close(view);
        emmap_queue_close(o.q);
        assert_ok(unlink(path));
    }
    assert_true(overtaken > 0);
}

int main(int argc, char **argv) {
    const struct role roles[] = {{"claim_and_wait", claim_and_wait}};
    const int status = run_role(argc, argv, roles, sizeof roles / sizeof *roles);
    if (status >= 0) return status;
    const struct CMUnitTest tests[] = {
        TEST_AT_REST(messages_are_told_in_order_with_their_data),
        TEST_AT_REST(an_empty_queue_is_sound),
        TEST_AT_REST(a_walk_ends_when_its_caller_has_seen_enough),
        TEST_AT_REST(what_is_no_queue_is_refused),
        TEST_AT_REST(who_has_it_open_is_told),
        TEST_AT_REST(a_step_that_was_written_down_counts_as_done),
        TEST_AT_REST(claims_of_the_dead_are_told_from_those_of_the_living),
        TEST_AT_REST(a_copy_of_a_file_in_use_tells_what_a_recovery_keeps),
        TEST_AT_REST(after_a_reboot_too),
        TEST_AT_REST(a_recovered_queue_is_sound),
        TEST_AT_REST(a_recovered_queue_ends_with_its_last_record),
        TEST_AT_REST(segments_in_the_midst_of_what_is_lost_are_counted),
        TEST_AT_REST(a_damaged_record_is_found_and_its_neighbours_are_told),
        TEST_AT_REST(damage_around_the_messages_is_found),
        TEST_AT_REST(a_segment_without_a_header_costs_no_other),
        TEST_AT_REST(counts_that_disagree_are_found),
        TEST_AT_REST(slots_in_no_list_or_in_two_are_found),
        TEST_AT_REST(a_file_that_was_cut_is_found),
        TEST_AT_REST(any_byte_may_be_wrong),
        TEST_AT_REST(nothing_that_others_change_meanwhile_is_a_problem),
        TEST_AT_REST(a_walk_that_is_overtaken_between_segments_goes_on_at_the_head),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
