/* test_error.c -- names and messages of the codes. */
#include <errno.h>
#include <string.h>

#include "test/support.h"

static const int own[] = {
#define CODE(code, name, message) EMMAP_E_##code,
    EMMAP_ERRORS(CODE)
#undef CODE
};
enum { OWN = sizeof own / sizeof *own };

static void each_code_has_a_name_and_a_message_of_its_own(void **state) {
    (void)state;
    for (unsigned i = 0; i < OWN; i++) {
        assert_true(own[i] > EMMAP_E_FIRST && own[i] < EMMAP_E_END);
        assert_string_not_equal(emmap_error_name(own[i]), "unknown");
        assert_true(strlen(emmap_error_message(own[i])) > 10);
        for (unsigned j = 0; j < i; j++) {
            assert_int_not_equal(own[i], own[j]);
            assert_string_not_equal(emmap_error_name(own[i]), emmap_error_name(own[j]));
            assert_string_not_equal(emmap_error_message(own[i]), emmap_error_message(own[j]));
        }
    }
}

static void a_name_leads_back_to_its_code(void **state) {
    (void)state;
    static const int posix[] = {-EACCES, -ENOSPC, -ENOENT, -EIO, -ENOMEM, -EINVAL, -EFBIG};
    for (unsigned i = 0; i < OWN; i++)
        assert_int_equal(emmap_error_code(emmap_error_name(own[i])), own[i]);
    for (unsigned i = 0; i < sizeof posix / sizeof *posix; i++)
        assert_int_equal(emmap_error_code(emmap_error_name(posix[i])), posix[i]);
    assert_string_equal(emmap_error_name(EMMAP_E_CLOSED), "closed");
    assert_string_equal(emmap_error_name(-ENOSPC), "enospc");
}

static void what_is_no_code_is_unknown(void **state) {
    (void)state;
    static const int none[] = {0, 1, EMMAP_E_FIRST, EMMAP_E_END, -9999999, 9999999};
    for (unsigned i = 0; i < sizeof none / sizeof *none; i++) {
        assert_string_equal(emmap_error_name(none[i]), "unknown");
        assert_non_null(emmap_error_message(none[i]));
    }
    assert_int_equal(emmap_error_code("unknown"), 0);
    assert_int_equal(emmap_error_code(""), 0);
    assert_int_equal(emmap_error_code("CLOSED"), 0);
}

static void each_problem_of_a_queue_has_a_name_and_a_message(void **state) {
    (void)state;
    for (int kind = 0; kind < EMMAP_QUEUE_PROBLEM_END; kind++) {
        assert_string_not_equal(emmap_queue_problem_name((enum emmap_queue_problem_kind)kind),
                                "unknown");
        assert_string_not_equal(emmap_queue_problem_message((enum emmap_queue_problem_kind)kind),
                                "");
    }
    assert_string_equal(emmap_queue_problem_name(EMMAP_QUEUE_PROBLEM_END), "unknown");
    assert_non_null(emmap_queue_problem_message(EMMAP_QUEUE_PROBLEM_END));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_code_has_a_name_and_a_message_of_its_own),
        cmocka_unit_test(a_name_leads_back_to_its_code),
        cmocka_unit_test(what_is_no_code_is_unknown),
        cmocka_unit_test(each_problem_of_a_queue_has_a_name_and_a_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
