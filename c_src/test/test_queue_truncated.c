/* test_queue_truncated.c -- a queue's file that was cut short, to every length that matters: it is
 * refused and left as it is, or what is there goes on. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os/os.h"
#include "store/queue.h"
#include "test/queue_check.h"

enum { SEGMENT = QUEUE_LEAST_SEGMENT, MOST_MESSAGES = 64, MOST_SLOTS = 32, MOST_BYTES = 300000 };

struct record {
    uint64_t id, off, pos, end; /* off: in the file */
    enum emmap_queue_state state;
};

/* The file as it was before it was cut, and what is in it. */
struct whole {
    const char *name, *path;
    int fd;
    struct snapshot as;
    uint64_t head, cap_bytes;
    uint64_t number_in[MOST_SLOTS + 1]; /* of the segment; 0: none */
    uint32_t len_bytes[MOST_MESSAGES];  /* by id: all that were ever pushed */
    uint64_t ids;
    struct record record[MOST_MESSAGES];
    unsigned records;
};

/* ------------------------------------------------------------------------------------ the file */

static void push(struct whole *whole, struct emmap_queue *q, uint32_t len_bytes) {
    MUST(whole->ids < MOST_MESSAGES);
    assert_ok(push_id(q, whole->ids, len_bytes));
    whole->len_bytes[whole->ids++] = len_bytes;
}

static struct queue_message claim(struct emmap_queue *q) {
    static uint8_t buf[MOST_BYTES];
    struct queue_message message;
    assert_ok(queue_claim(q, true, buf, sizeof buf, &message));
    return message;
}

enum kind { CLOSED, KILLED, WINDOW, GROWING, KINDS };

/* Claimed, done, come back, claimed. */
static void open_window(struct emmap_queue *q) {
    (void)claim(q);
    const struct queue_message second = claim(q), third = claim(q);
    (void)claim(q);
    assert_ok(queue_ack(q, true, &second));
    assert_ok(queue_return(q, true, &third));
}

static void set_word(uint8_t *bytes, uint64_t off, uint64_t word) {
    memcpy(bytes + off, &word, sizeof word);
}

/* A slot more, in hand, that the file does not reach to yet. */
static void leave_slot_in_hand(uint8_t *bytes) {
    const uint64_t slots = QUEUE_LIVE_OFF + offsetof(struct emmap_disk_live, slots);
    const uint64_t hand =
        QUEUE_PARTICIPANTS_OFF + 5 * 64 + offsetof(struct emmap_disk_participant, preparing);
    uint64_t n;
    memcpy(&n, bytes + slots, sizeof n);
    set_word(bytes, slots, n + 1);
    set_word(bytes, hand, n + 1);
}

static int see_record(void *ctx, const struct emmap_queue_item *item) {
    struct whole *whole = ctx;
    struct record *record = &whole->record[whole->records++];
    MUST(whole->records <= MOST_MESSAGES);
    *record = (struct record){.off = item->off,
                              .pos = item->pos,
                              .end = item->pos + queue_record_bytes(item->len_bytes),
                              .state = item->state};
    record->id = item->ordinal - 1;
    assert_int_equal(whole->len_bytes[record->id], item->len_bytes);
    return 0;
}

static void find_records(struct whole *whole) {
    struct emmap_queue_view *view;
    struct emmap_queue_view_info info;
    struct emmap_queue_walked walked;
    const struct emmap_queue_walk walk = {.item = see_record, .ctx = whole};
    assert_ok(emmap_queue_view_open(&view, whole->path));
    assert_ok(emmap_queue_view_info(view, &info));
    assert_ok(emmap_queue_view_walk(view, &walk, &walked));
    emmap_queue_view_close(view);
    whole->head = info.queue.head;
}

static void find_segments(struct whole *whole) {
    const uint64_t slots = (whole->as.len_bytes - QUEUE_DATA_OFF) / SEGMENT;
    MUST(slots <= MOST_SLOTS);
    for (uint64_t slot = 1; slot <= slots; slot++) {
        struct emmap_disk_segment segment;
        memcpy(&segment, whole->as.bytes + QUEUE_DATA_OFF + (slot - 1) * SEGMENT, sizeof segment);
        if (segment.magic == EMMAP_DISK_SEGMENT_MAGIC) whole->number_in[slot] = segment.number;
    }
}

/* Killed: the bytes that it has while it is open are put back when it is closed. */
static struct whole make_whole(enum kind kind) {
    static const char *const names[] = {"closed", "killed", "with a window", "growing"};
    static const uint32_t lens[] = {8, 500, 30000, 40000, 1000, 65536, 12, 9000, 90000, 3000, 100};
    struct whole whole = {.name = names[kind], .path = support_path("q")};
    const struct emmap_queue_options options = {.flags = EMMAP_QUEUE_CREATE, .size_bytes = 1};
    struct emmap_queue *q;
    own_faults();
    assert_ok(emmap_queue_open(&q, whole.path, &options, NULL));
    whole.cap_bytes = q->cap_bytes;
    push(&whole, q, 60000);
    push(&whole, q, 16);
    assert_ok(take_id(q, 0, 60000));
    for (unsigned i = 0; i < sizeof lens / sizeof *lens; i++) {
        push(&whole, q, lens[i]);
        if (i == 4) assert_ok(queue_sync(q, &(uint64_t){0}));
    }
    if (kind == WINDOW) open_window(q);
    if (kind == CLOSED) emmap_queue_close(q);
    if (kind != CLOSED) pthread_mutex_lock(&q->space_lock); /* nothing in the background */
    whole.as = snapshot_of(whole.path);
    if (kind != CLOSED) pthread_mutex_unlock(&q->space_lock);
    if (kind != CLOSED) emmap_queue_close(q);
    if (kind == GROWING) leave_slot_in_hand(whole.as.bytes);
    whole.fd = open(whole.path, O_RDWR);
    assert_true(whole.fd >= 0);
    return whole;
}

/* Everything behind the length is away; what is before it is as it was. */
static void lay(const struct whole *whole, uint64_t len_bytes) {
    assert_ok(ftruncate(whole->fd, 0));
    assert_int_equal(pwrite(whole->fd, whole->as.bytes, len_bytes, 0), len_bytes);
}

static void free_whole(struct whole *whole) {
    close(whole->fd);
    assert_ok(unlink(whole->path));
    free(whole->as.bytes);
}

/* ------------------------------------------------------------------------------ what is left */

/* The first position whose bytes are away. */
static uint64_t first_missing(const struct whole *whole, uint64_t len_bytes) {
    const uint64_t slots = len_bytes < QUEUE_DATA_OFF ? 0 : (len_bytes - QUEUE_DATA_OFF) / SEGMENT;
    uint64_t first = UINT64_MAX;
    for (uint64_t slot = slots + 1; slot <= MOST_SLOTS; slot++) {
        const uint64_t number = whole->number_in[slot], start = number * whole->cap_bytes;
        if (number > 0 && (number + 1) * whole->cap_bytes > whole->head && start < first)
            first = start;
    }
    return first;
}

static const struct record *record_of(const struct whole *whole, uint64_t id) {
    for (unsigned i = 0; i < whole->records; i++)
        if (whole->record[i].id == id) return &whole->record[i];
    return NULL;
}

static bool must_be_there(const struct whole *whole, uint64_t id, uint64_t missing) {
    const struct record *record = record_of(whole, id);
    return record && record->state != EMMAP_QUEUE_DONE && record->end <= missing;
}

static bool may_be_there(const struct whole *whole, uint64_t id, uint64_t missing) {
    const struct record *record = record_of(whole, id);
    return (record && record->state != EMMAP_QUEUE_DONE) || missing <= whole->head;
}

/* Takes all there is: some of what was pushed, in order, and all that is before the cut. */
static const char *drain(const struct whole *whole, struct emmap_queue *q, uint64_t missing) {
    static uint8_t buf[MOST_BYTES];
    for (uint64_t next = 0;;) {
        uint32_t got = 0, flags;
        const int rc = emmap_queue_take(q, buf, sizeof buf, &got, &flags);
        uint64_t id = whole->ids;
        if (rc == 0 && got < sizeof id) return "a message that nobody pushed";
        if (rc == 0) memcpy(&id, buf, sizeof id);
        if (rc == 0 && (id >= whole->ids || whole->len_bytes[id] != got || !is_id(buf, id, got)))
            return "a message that nobody pushed";
        if (rc && rc != EMMAP_E_EMPTY) return emmap_error_name(rc);
        if (rc == 0 && id < next) return "a message twice, or after a later one";
        if (rc == 0 && !may_be_there(whole, id, missing)) return "a message that was taken";
        for (; next < id; next++)
            if (must_be_there(whole, next, missing)) return "a message is missing";
        next = id + 1;
        if (rc) return NULL;
    }
}

static const char *goes_on(struct emmap_queue *q) {
    static const uint32_t lens[] = {8, 50000, 70000, 300};
    for (uint64_t i = 0; i < sizeof lens / sizeof *lens; i++)
        if (push_id(q, 1000 + i, lens[i])) return "a further push failed";
    for (uint64_t i = 0; i < sizeof lens / sizeof *lens; i++)
        if (take_id(q, 1000 + i, lens[i])) return "a further message is not there";
    return NULL;
}

static bool is_untouched(const struct whole *whole, uint64_t len_bytes) {
    struct snapshot now = snapshot_of(whole->path);
    const bool same =
        now.len_bytes == len_bytes && memcmp(now.bytes, whole->as.bytes, len_bytes) == 0;
    free(now.bytes);
    return same;
}

static uint64_t word_of(const struct whole *whole, uint64_t off) {
    uint64_t word;
    memcpy(&word, whole->as.bytes + off, sizeof word);
    return word;
}

/* The slots that something lies in, or that are known to be on the disk: those behind them may be
 * some that the file was about to be made longer for. */
static uint64_t needed_slots(const struct whole *whole) {
    static const uint64_t places[] = {offsetof(struct emmap_disk_live, head_slot),
                                      offsetof(struct emmap_disk_live, cursor_slot),
                                      offsetof(struct emmap_disk_live, tail_slot)};
    const uint64_t serial = offsetof(struct emmap_disk_checkpoint, serial);
    const uint64_t a = QUEUE_CHECKPOINT_OFF, b = a + QUEUE_PAGE;
    const uint64_t newest = word_of(whole, a + serial) > word_of(whole, b + serial) ? a : b;
    uint64_t most = word_of(whole, newest + offsetof(struct emmap_disk_checkpoint, slots));
    for (unsigned i = 0; i < 3; i++) {
        const uint64_t slot = word_of(whole, QUEUE_LIVE_OFF + places[i]);
        if (slot > most) most = slot;
    }
    return most;
}

/* Where the header or the tables are cut, whatever has happened; else in the same boot. */
static int expected_refusal(const struct whole *whole, uint64_t len_bytes, bool rebooted) {
    if (len_bytes < 16) return EMMAP_E_FOREIGN;
    if (len_bytes < QUEUE_DATA_OFF) return EMMAP_E_TRUNCATED;
    if (rebooted) return 0;
    return len_bytes < QUEUE_DATA_OFF + needed_slots(whole) * SEGMENT ? EMMAP_E_TRUNCATED : 0;
}

/* NULL, or what is wrong. *touched: the file has to be laid anew. */
static const char *try_length(const struct whole *whole, uint64_t len_bytes, bool rebooted,
                              bool *touched) {
    const struct emmap_queue_options options = {.flags = 0};
    struct emmap_queue *q;
    const int rc = emmap_queue_open(&q, whole->path, &options, NULL);
    *touched = rc == 0;
    const int expected = expected_refusal(whole, len_bytes, rebooted);
    if (rc && rc != expected) return emmap_error_name(rc);
    if (rc) return is_untouched(whole, len_bytes) ? NULL : "refused, but something is written";
    const char *wrong = expected ? "it was opened" : NULL;
    if (!wrong) wrong = drain(whole, q, first_missing(whole, len_bytes));
    if (!wrong) wrong = goes_on(q);
    emmap_queue_close(q);
    return wrong;
}

/* -------------------------------------------------------------------------- lengths that matter */

/* One of so many of those that are alike. */
enum { STRIDE = SANITIZER ? 13 : 1 };

static void near(uint8_t *wanted, const struct whole *whole, uint64_t at) {
    static const int away[] = {-8, -1, 0, 1, 8};
    for (unsigned i = 0; i < sizeof away / sizeof *away; i++)
        if ((int64_t)at >= -away[i] && at + (uint64_t)away[i] <= whole->as.len_bytes)
            wanted[at + (uint64_t)away[i]] = 1;
}

/* Of the tables each word once; elsewhere around what has a beginning or an end. */
static uint8_t *lengths(const struct whole *whole, uint64_t table_stride) {
    const uint64_t end = whole->as.len_bytes;
    uint8_t *wanted = calloc(end + 1, 1);
    assert_non_null(wanted);
    for (uint64_t at = 0; at <= sizeof(struct emmap_disk_queue) + 8; at++)
        wanted[at] = 1;
    for (uint64_t at = 0; at < QUEUE_DATA_OFF; at += 8 * table_stride)
        wanted[at] = 1;
    for (uint64_t at = QUEUE_PAGE; at <= QUEUE_DATA_OFF; at += QUEUE_PAGE)
        near(wanted, whole, at);
    for (uint64_t at = QUEUE_DATA_OFF; at <= end; at += SEGMENT) {
        near(wanted, whole, at);
        near(wanted, whole, at + QUEUE_SLOT_HEADER);
        near(wanted, whole, at + SEGMENT - QUEUE_SLOT_TRAILER);
    }
    for (unsigned i = 0; i < whole->records; i += SANITIZER ? 3 : 1) {
        near(wanted, whole, whole->record[i].off);
        near(wanted, whole, whole->record[i].off + QUEUE_RECORD_HEADER);
    }
    for (uint64_t at = QUEUE_DATA_OFF; at < end; at += 10007 * (uint64_t)(SANITIZER ? 3 : 1))
        wanted[at] = 1;
    return wanted;
}

static unsigned try_all(enum kind kind, bool rebooted) {
    static const uint8_t boot[16] = {1, 2, 3};
    struct whole whole = make_whole(kind);
    unsigned tried = 0, opened = 0, bad = 0;
    lay(&whole, whole.as.len_bytes);
    find_records(&whole);
    find_segments(&whole);
    if (rebooted) os_pretend_boot(boot);
    uint8_t *wanted = lengths(&whole, kind == KILLED ? STRIDE : STRIDE * 16 + 1);
    bool touched = true;
    for (uint64_t len = whole.as.len_bytes + 1; len-- > 0;) {
        if (!wanted[len]) continue;
        if (touched) lay(&whole, len);
        assert_ok(ftruncate(whole.fd, (off_t)len));
        const char *wrong = try_length(&whole, len, rebooted || !FILES_ARE_KNOWN, &touched);
        tried++;
        opened += touched;
        if (wrong && bad++ < 20)
            print_error("%s%s, cut to %llu of %llu bytes: %s\n", whole.name,
                        rebooted ? ", after a reboot" : "", (unsigned long long)len,
                        (unsigned long long)whole.as.len_bytes, wrong);
    }
    print_message("%s%s: %u lengths, %u opened\n", whole.name, rebooted ? ", after a reboot" : "",
                  tried, opened);
    assert_in_range(opened, 1, tried - 1);
    os_pretend_boot(NULL);
    free(wanted);
    free_whole(&whole);
    return bad;
}

static void a_file_cut_short_is_refused_and_left_as_it_is(void **state) {
    (void)state;
    if (THREAD_SANITIZER) skip(); /* of one thread, and thousands of mappings */
    unsigned bad = 0;
    for (enum kind kind = 0; kind < KINDS; kind++)
        bad += try_all(kind, false);
    assert_int_equal(bad, 0);
}

static void what_is_before_the_cut_goes_on_after_a_reboot(void **state) {
    (void)state;
    if (THREAD_SANITIZER) skip(); /* of one thread, and thousands of mappings */
    unsigned bad = 0;
    for (enum kind kind = 0; kind < KINDS; kind++)
        bad += try_all(kind, true);
    assert_int_equal(bad, 0);
}

/* What lies behind the end is not looked at: that would be a fault. */
static void a_link_that_leads_past_the_end_of_the_file_is_mended(void **state) {
    (void)state;
    if (THREAD_SANITIZER) skip(); /* of one thread, and thousands of mappings */
    struct whole whole = make_whole(KILLED);
    lay(&whole, whole.as.len_bytes);
    find_records(&whole);
    find_segments(&whole);
    const uint64_t slots = (whole.as.len_bytes - QUEUE_DATA_OFF) / SEGMENT;
    for (uint64_t slot = 1; slot <= slots; slot++) {
        const uint64_t next = QUEUE_DATA_OFF + (slot - 1) * SEGMENT + 64, far = slot + 1000;
        bool touched;
        lay(&whole, whole.as.len_bytes);
        assert_int_equal(pwrite(whole.fd, &far, sizeof far, (off_t)next), sizeof far);
        const char *wrong = try_length(&whole, whole.as.len_bytes, false, &touched);
        if (wrong) fail_msg("slot %u: %s", (unsigned)slot, wrong);
    }
    free_whole(&whole);
}

/* What a test leaves to the background makes system calls, too. */

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST_AT_REST(a_file_cut_short_is_refused_and_left_as_it_is),
        TEST_AT_REST(what_is_before_the_cut_goes_on_after_a_reboot),
        TEST_AT_REST(a_link_that_leads_past_the_end_of_the_file_is_mended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
