/* faults.c -- see faults.h. */
#include "test/faults.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

const int fault_errors[FAULT_ERRORS] = {EIO, ENOSPC, ENOMEM, EINTR, EMFILE, EAGAIN, OS_SHORT};

/* Of the sample, so many of each build; the number has no factor in common with the ways to fail. */
enum { EVERY = SANITIZER ? 29 : FILES_ARE_KNOWN ? 5 : 17, MOST_CALLS = 3000 };

static unsigned long injected;

static unsigned long from_environment(const char *name, unsigned long otherwise) {
    const char *text = getenv(name);
    return text && *text ? strtoul(text, NULL, 10) : otherwise;
}

static unsigned long every(void) {
    const unsigned long n = from_environment("EMMAP_FAIL_EVERY", EVERY);
    return n > 0 ? n : 1;
}

/* Many calls of one operation are alike: of those behind the first ones, a sample of the sample. */
enum { FIRST_CALLS = 48, EVERY_CALL = 23 };
static bool call_is_wanted(unsigned nth, unsigned calls) {
    return nth <= FIRST_CALLS || nth + FIRST_CALLS / 2 > calls || nth % EVERY_CALL == 0 ||
           every() == 1;
}

bool fault_is_wanted(void) {
    static unsigned long n;
    return n++ % every() == from_environment("EMMAP_FAIL_FIRST", 0) % every();
}

/* What is waited for, for as long as it fails, is not waited for in truth. */
void fault_begin(const struct fault *fault) {
    os_hurry(fault->sticky);
    os_fail_at(OS_CALL_ANY, fault->nth, fault->err, fault->sticky);
}

void fault_count(unsigned more) {
    injected += more;
}

bool fault_end(const struct fault *fault) {
    const bool reached = os_fail_seen(OS_CALL_ANY) >= fault->nth;
    injected += reached;
    os_hurry(false);
    return reached;
}

bool fault_answers(const struct fault *fault, int rc) {
    if (rc == 0) return true;
    if (fault->err == OS_SHORT) return rc == -ENAMETOOLONG;
    if (fault->err == EAGAIN && rc == EMMAP_E_BUSY) return true;
    return rc == -fault->err || rc == -EIO; /* who cannot give something back answers eio */
}

int fault_tell(int status) {
    printf("faults injected: %lu\n", injected);
    return status;
}

static bool is_clean(const struct fault_op *op, const struct fault *fault, int rc) {
    bool clean = rc == op->answer || (rc != 0 && fault_answers(fault, rc));
    for (unsigned i = 0; i < sizeof op->also / sizeof *op->also; i++)
        clean = clean || (op->also[i] != 0 && rc == op->also[i]);
    return clean;
}

static const char *error_text(const struct fault *fault) {
    if (fault->nth == 0) return "nothing";
    return fault->err == OS_SHORT ? "a part" : emmap_error_name(-fault->err);
}

static void describe(const struct fault_op *op, const struct fault *fault, const char *call,
                     int rc) {
    print_error("%s: %s from %s, call %u%s: it answered %s\n", op->name, error_text(fault), call,
                fault->nth, fault->sticky ? " and all after it" : "",
                rc ? emmap_error_name(rc) : "ok");
}

/* What is told when a check fails: cmocka ends the test where it is. */
static const struct fault_op *now_op;
static struct fault now_fault;
static int now_rc;
static char now_call[32];
static bool now_runs;

const char *fault_call(void) {
    return now_call;
}

static void tell_where(void) {
    if (now_runs) describe(now_op, &now_fault, now_call, now_rc);
    now_runs = false;
}

int fault_teardown(void **state) {
    tell_where();
    await_no_regions();
    return support_teardown(state);
}

void fault_see_leaks(unsigned descriptors) {
    struct emmap_stats stats;
    await_no_regions();
    await_descriptors(descriptors);
    emmap_stats(&stats);
    assert_int_equal(stats.handles, 0);
    assert_int_equal(stats.holds, 0);
    assert_int_equal(stats.mapped_bytes, 0);
}

/* Without a failure: how many calls it makes. */
static unsigned count_calls(const struct fault_op *op) {
    now_fault = (struct fault){.nth = 0};
    now_call[0] = 0;
    if (op->make) op->make();
    os_fail_never();
    const int rc = op->run();
    const unsigned seen = os_fail_seen(OS_CALL_ANY);
    now_rc = rc;
    assert_int_equal(rc, op->answer);
    if (op->check) op->check(rc, NULL);
    if (op->end) op->end();
    return seen;
}

static void run_once(const struct fault_op *op, const struct fault *fault) {
    if (op->make) op->make();
    now_fault = *fault;
    fault_begin(fault);
    int rc = op->run();
    now_rc = rc;
    snprintf(now_call, sizeof now_call, "%s", os_fail_last());
    (void)fault_end(fault);
    os_fail_never();
    if (!is_clean(op, fault, rc)) fail_msg("that is no answer to it");
    if (op->check) op->check(rc, fault);
    if (rc != op->answer) {
        const bool stays = op->stays && rc == EMMAP_E_SYNC_FAILED;
        rc = op->run();
        if (!stays || rc != EMMAP_E_SYNC_FAILED) assert_int_equal(rc, op->answer);
        if (op->check) op->check(rc, NULL);
    }
    if (op->end) op->end();
}

static void run_op(const struct fault_op *op) {
    const unsigned descriptors = open_descriptors();
    now_op = op;
    now_runs = true;
    const unsigned calls = count_calls(op);
    fault_see_leaks(descriptors);
    assert_in_range(calls, op->least, MOST_CALLS);
    for (unsigned nth = 1; nth <= calls; nth++)
        for (unsigned way = 0; way < 2 * FAULT_ERRORS; way++) {
            const struct fault fault = {nth, fault_errors[way / 2], way % 2};
            if (!call_is_wanted(nth, calls) || !fault_is_wanted()) continue;
            run_once(op, &fault);
            fault_see_leaks(descriptors);
        }
    now_runs = false;
}

void fault_run(const struct fault_op *ops, size_t n) {
    for (size_t i = 0; i < n; i++)
        run_op(&ops[i]);
}
