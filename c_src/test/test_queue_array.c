/* test_queue_array.c -- the queue in plain memory, beside a list. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "test/queue_model.h"

static struct model *new_model(struct emmap_queue *q, uint64_t seed) {
    struct model *m = calloc(1, sizeof *m);
    assert_non_null(m);
    m->q = q;
    m->rng = seed * 2654435761u + 88172645463325252u;
    m->buf = malloc(2 << 20);
    assert_non_null(m->buf);
    return m;
}

static void free_model(struct model *m) {
    array_free(m->q);
    free(m->buf);
    free(m);
}

static uint32_t some_length(struct model *m) {
    const uint64_t kind = model_random(m, 100);
    if (kind < 60) return (uint32_t)model_random(m, 200);
    if (kind < 90) return (uint32_t)model_random(m, 5000);
    if (kind < 97) return (uint32_t)model_random(m, 65537);
    return 65537 + (uint32_t)model_random(m, 200000);
}

static void step(struct model *m, unsigned bias) {
    const uint64_t what = model_random(m, 100);
    if (what < 30 + bias)
        model_push(m, some_length(m));
    else if (what < 40)
        model_push_many(m, 1 + (unsigned)model_random(m, 20), 900);
    else if (what < 60)
        model_take(m, 1 + (unsigned)model_random(m, 8));
    else if (what < 72)
        model_claim(m);
    else if (what < 84)
        model_end_claim(m, model_random(m, 2) != 0);
    else if (what < 95)
        model_look(m);
    else if (what == 95)
        model_drop(m);
    else if (what == 96) {
        array_died(m->q);
        model_unclaim(m);
    } else if (what == 97) {
        array_reboot(m->q);
        model_unclaim(m);
    } else {
        assert_ok(queue_give_back(m->q));
    }
}

enum { SEEDS = THREAD_SANITIZER ? 2 : SANITIZER ? 10 : 30 };

static void any_order_of_calls_agrees_with_a_list(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct model *m = new_model(array_queue(1 << 18, 64 << 20, false), seed);
        for (unsigned i = 0; i < 1500 && queue_bytes(m->q) < (16 << 20); i++)
            step(m, i % 300 < 150 ? 10 : 0);
        array_died(m->q);
        model_unclaim(m);
        model_look(m);
        free_model(m);
    }
}

static void a_drained_queue_uses_few_slots(void **state) {
    (void)state;
    struct model *m = new_model(array_queue(1 << 18, 64 << 20, false), 7);
    for (unsigned i = 0; i < (THREAD_SANITIZER ? 200 : 2000); i++) {
        model_push(m, 1000);
        model_take(m, 1);
    }
    assert_in_range(queue_get(&queue_live(m->q)->slots), 1, 3);
    free_model(m);
}

static void a_full_queue_has_room_for_what_is_taken(void **state) {
    (void)state;
    struct model *m = new_model(array_queue(1 << 18, 0, true), 9);
    struct queue_data data = {.body = m->buf, .body_bytes = 30000};
    uint64_t end;
    unsigned n = 0;
    memset(m->buf, 1, 30000);
    while (queue_push(m->q, true, &data, 1, &end) == 0)
        n++;
    assert_int_equal(n, (1 << 18) / queue_record_bytes(30000));
    assert_int_equal(queue_push(m->q, true, &data, 1, &end), EMMAP_E_FULL);
    for (unsigned i = 0; i < (THREAD_SANITIZER ? 300 : 5000); i++) {
        struct queue_message message;
        unsigned one = 1;
        assert_ok(queue_take(m->q, true, m->buf, 1 << 20, &message, &one));
        assert_ok(queue_push(m->q, true, &data, 1, &end));
        assert_int_equal(queue_push(m->q, true, &data, 1, &end), EMMAP_E_FULL);
    }
    free_model(m);
}

static void none_are_taken_at_once(void **state) {
    (void)state;
    struct model *m = new_model(array_queue(1 << 18, 64 << 20, false), 11);
    struct queue_message message;
    unsigned none = 0;
    model_push(m, 100);
    assert_ok(queue_take(m->q, true, m->buf, 1 << 20, &message, &none));
    assert_int_equal(none, 0);
    model_take(m, 1);
    free_model(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(any_order_of_calls_agrees_with_a_list),
        TEST(a_drained_queue_uses_few_slots),
        TEST(a_full_queue_has_room_for_what_is_taken),
        TEST(none_are_taken_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
