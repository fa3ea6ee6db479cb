/* test_fail_view.c -- every system call of looking into a queue's file fails in turn: it tells what is
 * there or why it cannot, never something else; and it changes nothing. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test/faults.h"
#include "test/queue_check.h"

enum { MESSAGES = 20 };

static char path[512];
static struct snapshot as_is;
static struct emmap_queue_view *view;
static struct emmap_queue_view_info told;     /* by the last call of run */
static struct emmap_queue_view_info expected; /* what is so, as told when nothing failed */
static struct emmap_queue_walked walked, expected_walk;
static unsigned seen;
static const uint8_t other_boot[16] = {4, 5, 6};

/* ------------------------------------------------------------------------------ what is there */

static void fill(struct emmap_queue *q) {
    for (uint64_t id = 0; id < MESSAGES; id++)
        assert_ok(push_id(q, id, id == 7 ? 100000 : 100 + 1000 * (uint32_t)id));
    assert_ok(take_id(q, 0, 100));
    assert_ok(take_id(q, 1, 1100));
}

static void make(bool killed) {
    strcpy(path, support_path("q"));
    (void)unlink(path);
    struct emmap_queue *q = open_queue(path, EMMAP_QUEUE_CREATE);
    fill(q);
    pthread_mutex_lock(&q->space_lock); /* nothing in the background */
    as_is = snapshot_of(path);
    pthread_mutex_unlock(&q->space_lock);
    emmap_queue_close(q);
    await_no_regions();
    if (killed) {
        const int fd = open(path, O_RDWR);
        assert_true(fd >= 0);
        assert_ok(ftruncate(fd, (off_t)as_is.len_bytes)); /* it has grown since */
        assert_int_equal(pwrite(fd, as_is.bytes, as_is.len_bytes, 0), as_is.len_bytes);
        close(fd);
    } else {
        free(as_is.bytes);
        as_is = snapshot_of(path);
    }
}

/* Made once: a view leaves it as it is. */
static void closed(void) {
    if (!as_is.bytes) make(false);
}

static void killed(void) {
    if (!as_is.bytes) make(true);
}

static void rebooted(void) {
    killed();
    os_pretend_boot(other_boot);
}

static void forget(void) {
    free(as_is.bytes);
    as_is = (struct snapshot){.path = NULL};
    os_pretend_boot(NULL);
}

/* ------------------------------------------------------------------------------------- calls */

static int count_item(void *ctx, const struct emmap_queue_item *item) {
    (void)ctx, (void)item;
    seen++;
    return 0;
}

static int open_view(void) {
    return view ? 0 : emmap_queue_view_open(&view, path);
}

static int info(void) {
    const int rc = open_view();
    return rc ? rc : emmap_queue_view_info(view, &told);
}

static int walk(void) {
    const struct emmap_queue_walk all = {.item = count_item, .check = true};
    seen = 0;
    const int rc = open_view();
    return rc ? rc : emmap_queue_view_walk(view, &all, &walked);
}

static void must_open_closed(void) {
    closed();
    assert_ok(open_view());
}

static void must_open_killed(void) {
    killed();
    assert_ok(open_view());
}

static void must_open_rebooted(void) {
    rebooted();
    assert_ok(open_view());
}

/* ----------------------------------------------------------------------------- what is looked at */

static void is_untouched(void) {
    struct snapshot copy = as_is;
    copy.bytes = malloc(as_is.len_bytes);
    assert_non_null(copy.bytes);
    memcpy(copy.bytes, as_is.bytes, as_is.len_bytes);
    assert_as_before(&copy);
}

static void check_view(int rc, const struct fault *failed) {
    (void)rc, (void)failed;
    is_untouched();
}

/* The first time nothing fails. */
static void check_told(int rc, const struct fault *failed) {
    is_untouched();
    if (rc) return;
    if (fault_call()[0] == 0 && !failed) expected = told;
    assert_int_equal(told.standing, expected.standing);
    assert_int_equal(told.same_boot, expected.same_boot);
    assert_int_equal(told.participants, expected.participants);
    assert_int_equal(told.queue.messages, expected.queue.messages);
    assert_int_equal(told.queue.head, expected.queue.head);
    assert_int_equal(told.queue.oldest_ms, expected.queue.oldest_ms);
    assert_int_equal(told.queue.file_bytes, expected.queue.file_bytes);
    assert_int_equal(told.queue.claimed, expected.queue.claimed);
    assert_true(told.queue.linked);
}

static void check_walked(int rc, const struct fault *failed) {
    is_untouched();
    if (rc) return;
    if (fault_call()[0] == 0 && !failed) expected_walk = walked;
    assert_in_range(walked.messages, MESSAGES - 2, MESSAGES);
    assert_int_equal(seen, walked.messages);
    assert_int_equal(walked.problems, 0);
    assert_int_equal(walked.messages, expected_walk.messages);
    assert_int_equal(walked.recovered, expected_walk.recovered);
    assert_int_equal(walked.missing, 0);
    assert_int_equal(walked.overtaken, 0);
    assert_int_equal(walked.counts, expected_walk.counts);
    assert_int_equal(walked.slots, expected_walk.slots);
}

static void end_view(void) {
    emmap_queue_view_close(view);
    view = NULL;
}

#define STATE(state)                                                                  \
    {"open, " #state, state, open_view, check_view, end_view, .least = 6},            \
        {"info, " #state, must_open_##state, info, check_told, end_view, .least = 6}, \
        {"open and info, " #state, state, info, check_told, end_view, .least = 12},   \
        {"walk, " #state, must_open_##state, walk, check_walked, end_view, .least = 0},

static const struct fault_op closed_ops[] = {STATE(closed)};
static const struct fault_op killed_ops[] = {STATE(killed)};
static const struct fault_op rebooted_ops[] = {STATE(rebooted)};
enum { OPS = sizeof closed_ops / sizeof *closed_ops };

static void a_view_of_a_closed_queue_stands_any_failure(void **state) {
    (void)state;
    forget();
    fault_run(closed_ops, OPS);
    forget();
}

static void a_view_after_a_kill_stands_any_failure(void **state) {
    (void)state;
    forget();
    fault_run(killed_ops, OPS);
    forget();
}

static void a_view_after_a_reboot_stands_any_failure(void **state) {
    (void)state;
    forget();
    fault_run(rebooted_ops, OPS);
    forget();
}

/* ---- of a queue that another OS process has open */

static int role_have_it_open(const char *at) {
    struct emmap_queue *q = open_queue(at, 0);
    say();
    (void)hear();
    emmap_queue_close(q);
    return 0;
}

static void in_use(void) {
}

static void must_open_in_use(void) {
    assert_ok(open_view());
}

static const struct fault_op in_use_ops[] = {STATE(in_use)};

static void a_view_of_a_queue_in_use_stands_any_failure(void **state) {
    (void)state;
    if (!FILES_ARE_KNOWN) skip();
    forget();
    make(false);
    free(as_is.bytes);
    const struct child child = start_role("have_it_open", path);
    await_word(&child);
    as_is = snapshot_of(path);
    fault_run(in_use_ops, OPS);
    assert_int_equal(expected.standing, EMMAP_QUEUE_IN_USE);
    assert_int_equal(end_role(&child), 0);
    forget();
}

int main(int argc, char **argv) {
    static const struct role roles[] = {{"have_it_open", role_have_it_open}};
    const int status = run_role(argc, argv, roles, sizeof roles / sizeof *roles);
    if (status >= 0) return status;
    const struct CMUnitTest tests[] = {
        FAULT_TEST(a_view_of_a_closed_queue_stands_any_failure),
        FAULT_TEST(a_view_after_a_kill_stands_any_failure),
        FAULT_TEST(a_view_after_a_reboot_stands_any_failure),
        FAULT_TEST(a_view_of_a_queue_in_use_stands_any_failure),
    };
    return fault_tell(cmocka_run_group_tests(tests, NULL, NULL));
}
