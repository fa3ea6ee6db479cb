/* faults.h -- operations whose system calls fail, each in turn, in every way that there is.
 *
 * For n = 1, 2, ...: what is there is made anew, the operation's n-th call of os fails, once or from
 * then on; what it answers and what it leaves is looked at; then it is done again, and nothing
 * fails.
 *
 * A sample of it all, unless EMMAP_FAIL_EVERY=1: each so-manieth, from EMMAP_FAIL_FIRST on. */
#ifndef EMMAP_TEST_FAULTS_H
#define EMMAP_TEST_FAULTS_H

#include "os/os.h"
#include "test/support.h"

enum { FAULT_ERRORS = 7 };
extern const int fault_errors[FAULT_ERRORS]; /* of errno, and OS_SHORT */

/* What is injected, now. */
struct fault {
    unsigned nth;
    int err;
    bool sticky;
};

struct fault_op {
    const char *name;
    void (*make)(void); /* what is there; NULL: nothing */
    int (*run)(void);   /* may be called again after an error */
    /* What run has left. After a failure: what must hold then; it is called once more when the next
     * try has ended, with the failure NULL. */
    void (*check)(int rc, const struct fault *failed);
    void (*end)(void); /* closes what is open */
    unsigned least;    /* calls of os that it makes */
    int answer;        /* when nothing fails */
    int also[4];       /* answers that name what is wrong, besides -errno's */
    bool stays;        /* SYNC_FAILED: may be answered by the next try, too */
};

/* The sample of this program: is the next one to be tried? */
bool fault_is_wanted(void);
/* Counts it, on this thread; with OS_CALL_ANY. fault_end tells whether it was reached. */
void fault_begin(const struct fault *fault);
bool fault_end(const struct fault *fault);
/* The fault's own answer, or success; for OS_SHORT, what a name that was cut off is. */
bool fault_answers(const struct fault *fault, int rc);
void fault_count(unsigned injected); /* elsewhere */
/* When the background has let go: nothing is open but so many descriptors. */
void fault_see_leaks(unsigned descriptors);
/* "faults injected: N", of this program; at its end. */
int fault_tell(int status);

/* The call that failed, by its name in os_testing.h. */
const char *fault_call(void);

void fault_run(const struct fault_op *ops, size_t n);
/* For tests that use it: tells what was being done when a check failed. */
int fault_teardown(void **state);
#define FAULT_TEST(name) cmocka_unit_test_setup_teardown(name, support_setup, fault_teardown)

#endif
