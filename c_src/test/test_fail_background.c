/* test_fail_background.c -- the system calls of the threads in the background fail: of those that unmap
 * and close, prepare room and give it back, and sync now and then. Nothing leaks, nobody waits for
 * ever, and a queue keeps what it was given. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/runtime.h"
#include "test/faults.h"
#include "test/queue_check.h"
#include "test/queue_image.h"

enum { FILE_BYTES = 100000, MOST_CALLS = 200 };

struct history {
    const char *name;
    void (*run)(const struct fault *fault); /* and end: nothing of it is left to the background */
    unsigned least;                         /* calls that the background makes */
};

static const struct fault *now; /* what is injected, for messages */
static unsigned seen;           /* calls that the background has made until it was over */

static void begin(const struct fault *fault) {
    now = fault;
    seen = 0;
    os_fail_others_at(OS_CALL_ANY, fault->nth, fault->err, fault->sticky);
}

/* Again: what the background has done since belongs to it, too. */
static void end(void) {
    seen += os_fail_others_seen();
    os_fail_others_never();
}

static void expect(bool condition, const char *what) {
    if (condition) return;
    fail_msg("call %u in the background, %d%s: %s", now->nth, now->err,
             now->sticky ? " and all after it" : "", what);
}

/* ------------------------------------------------------------------------------ mapped files */

static void close_files(const struct fault *fault) {
    const char *path = support_path("f");
    const void *at;
    uint64_t got;
    struct emmap_hold *hold;
    make_file(path, FILE_BYTES);
    struct emmap_file *shared = must_open(path, RW, 0), *own = must_open(path, EMMAP_WRITE, 0);
    struct emmap_file *held = must_open(path, EMMAP_SHARED, 0);
    assert_ok(emmap_file_hold(held, &hold));
    assert_ok(emmap_file_pointer(held, 0, FILE_BYTES, &at, &got));
    begin(fault);
    assert_ok(emmap_file_close(shared)); /* and then free, so that it is in use for a while */
    assert_ok(emmap_file_close(own));
    assert_ok(emmap_file_close(held));
    expect(is_pattern(at, 0, got), "what was held has gone");
    emmap_file_free(held);
    expect(is_pattern(at, 0, got), "what was held has gone");
    emmap_file_unhold(hold);
    emmap_file_free(own);
    emmap_file_free(shared);
    await_no_regions();
    end();
    assert_int_equal(file_bytes_of(path), FILE_BYTES);
}

/* ------------------------------------------------------------------------------------ queues */

static struct ledger ledger;

static void push(struct emmap_queue *q, uint32_t len_bytes) {
    ledger_begin(&ledger, len_bytes);
    uint8_t *buf = malloc(len_bytes);
    assert_non_null(buf);
    ledger_fill(buf, ledger.n - 1, len_bytes);
    const int rc = emmap_queue_push(q, buf, len_bytes, 0);
    free(buf);
    expect(rc == 0, emmap_error_name(rc));
    ledger.fate[ledger.n - 1] = THERE;
}

static void take(struct emmap_queue *q) {
    static uint8_t buf[IMAGE_MESSAGE_BYTES];
    uint32_t len, flags;
    unsigned id = 0;
    const int rc = emmap_queue_take(q, buf, sizeof buf, &len, &flags);
    expect(rc == 0, emmap_error_name(rc));
    while (ledger.fate[id] != THERE)
        id++;
    expect(ledger_find(&ledger, buf, len) == (int)id, "another message");
    ledger.fate[id] = GONE;
}

static struct emmap_queue *new_queue(const char *path) {
    const struct emmap_queue_options options = {.flags = EMMAP_QUEUE_CREATE, .size_bytes = 1};
    struct emmap_queue *q;
    memset(&ledger, 0, sizeof ledger);
    (void)unlink(path);
    own_faults();
    assert_ok(emmap_queue_open(&q, path, &options, NULL));
    return q;
}

/* What was failing is over: nothing is lost, and nothing is in anybody's hand. */
static void expect_sound(struct emmap_queue *q, const char *path) {
    struct drained drained;
    struct emmap_queue_info info;
    emmap_queue_close(q);
    end();
    q = open_queue(path, 0);
    assert_ok(emmap_queue_info(q, &info));
    if (FILES_ARE_KNOWN) expect(!info.was_recovered, "it was recovered");
    const char *wrong = queue_disagrees(q, false);
    if (!wrong) wrong = drain(q, &ledger, &drained);
    if (!wrong) wrong = agrees(&ledger, &drained);
    if (!wrong) wrong = goes_on(q, &ledger);
    expect(!wrong, wrong);
    emmap_queue_close(q);
    await_no_regions();
}

/* Rooms are prepared and given back in the background, and by the calls where that fails. */
static void grow_and_drain(const struct fault *fault) {
    const char *path = support_path("q");
    struct emmap_queue *q = new_queue(path);
    begin(fault);
    for (unsigned i = 0; i < 8; i++) {
        push(q, 40000);
        (void)pool_wait();
    }
    push(q, 150000);
    for (unsigned i = 0; i < 7; i++) {
        take(q);
        (void)pool_wait();
    }
    push(q, 100);
    expect_sound(q, path);
}

enum { TURNS_MS = 10000 };
static bool has_failed(const struct fault *fault) {
    return fault->nth > 0 && os_fail_others_seen() >= fault->nth;
}

static bool has_synced(const struct emmap_queue *q, uint64_t durable) {
    const struct emmap_disk_live *live = queue_live(q);
    return queue_get(&live->sync_error) || queue_get(&live->cp_durable) != durable;
}

/* What the ticker could not sync is told to who asks. */
static void sync_now_and_then(const struct fault *fault) {
    const char *path = support_path("q");
    struct emmap_queue *q = new_queue(path);
    struct emmap_queue_info info;
    const uint64_t durable = queue_get(&queue_live(q)->cp_durable);
    push(q, 1000);
    begin(fault);
    int rc = queue_sync_every(q, 1);
    assert_ok(rc);
    for (unsigned i = 0; i < TURNS_MS && !has_failed(fault) && !has_synced(q, durable); i++)
        os_sleep_ms(1);
    end();
    rc = emmap_queue_sync(q);
    assert_ok(emmap_queue_info(q, &info));
    expect(rc == (info.sync_error ? EMMAP_E_SYNC_FAILED : 0), emmap_error_name(rc));
    take(q);
    expect_sound(q, path);
}

/* -------------------------------------------------------------------------------------- all */

static const struct history histories[] = {
    {"close files", close_files, 8},
    {"grow and drain", grow_and_drain, 10},
    {"sync now and then", sync_now_and_then, 1},
};

static void run_once(const struct history *history, const struct fault *fault) {
    const unsigned descriptors = open_descriptors();
    history->run(fault);
    fault_see_leaks(descriptors);
    fault_count(seen >= fault->nth && fault->nth > 0);
}

/* How many calls there are is not the same each time. */
static void run_history(const struct history *history) {
    run_once(history, &(struct fault){.nth = 0});
    assert_in_range(seen, history->least, MOST_CALLS);
    const unsigned calls = seen + seen / 4;
    for (unsigned nth = 1; nth <= calls; nth++)
        for (unsigned way = 0; way < 2 * FAULT_ERRORS; way++) {
            const struct fault fault = {nth, fault_errors[way / 2], way % 2};
            if (fault_is_wanted()) run_once(history, &fault);
        }
}

static void whatever_fails_in_the_background_loses_nothing(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof histories / sizeof *histories; i++)
        run_history(&histories[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        FAULT_TEST(whatever_fails_in_the_background_loses_nothing),
    };
    return fault_tell(cmocka_run_group_tests(tests, NULL, NULL));
}
