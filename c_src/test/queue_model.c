/* queue_model.c -- see queue_model.h. */
#include "test/queue_model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

uint64_t model_random(struct model *m, uint64_t below) {
    m->rng ^= m->rng << 13;
    m->rng ^= m->rng >> 7;
    m->rng ^= m->rng << 17;
    return m->rng % below;
}

void model_fill(uint8_t *buf, uint64_t id, uint32_t len_bytes) {
    for (uint32_t i = 0; i < len_bytes; i++)
        buf[i] = (uint8_t)(id * 31 + i * 7 + (i >> 8));
}

bool model_is(const uint8_t *buf, uint64_t id, uint32_t len_bytes) {
    for (uint32_t i = 0; i < len_bytes; i++)
        if (buf[i] != (uint8_t)(id * 31 + i * 7 + (i >> 8))) return false;
    return true;
}

static void append(struct model *m, uint32_t len_bytes) {
    m->messages[m->n++] = (struct model_message){.id = m->next_id++, .len_bytes = len_bytes};
}

void model_push(struct model *m, uint32_t len_bytes) {
    if (m->n == MODEL_MOST) return;
    model_fill(m->buf, m->next_id, len_bytes);
    const uint32_t head = len_bytes < 5 ? len_bytes : 5;
    struct queue_data data = {
        .head = m->buf, .head_bytes = head, .body = m->buf + head, .body_bytes = len_bytes - head};
    uint64_t end = 0;
    assert_ok(queue_push(m->q, true, &data, 1, &end));
    assert_int_equal(end, queue_get(&queue_live(m->q)->tail));
    append(m, len_bytes);
}

void model_push_many(struct model *m, unsigned n, uint32_t most_bytes) {
    struct queue_data data[64];
    uint8_t *at = m->buf;
    if (m->n + n > MODEL_MOST) return;
    for (unsigned i = 0; i < n; i++) {
        const uint32_t len = (uint32_t)model_random(m, most_bytes + 1);
        model_fill(at, m->next_id, len);
        data[i] = (struct queue_data){.body = at, .body_bytes = len};
        append(m, len);
        at += len;
    }
    uint64_t end;
    assert_ok(queue_push(m->q, true, data, n, &end));
}

static void forget(struct model *m, unsigned i) {
    memmove(&m->messages[i], &m->messages[i + 1], (m->n - i - 1) * sizeof *m->messages);
    m->n--;
}

static unsigned first_free(const struct model *m) {
    unsigned i = 0;
    while (i < m->n && m->messages[i].claimed)
        i++;
    return i;
}

void model_take(struct model *m, unsigned most) {
    struct queue_message messages[64];
    unsigned n = most;
    const unsigned first = first_free(m);
    const int rc = queue_take(m->q, true, m->buf, 1 << 20, messages, &n);
    if (first == m->n) {
        assert_int_equal(rc, EMMAP_E_EMPTY);
        return;
    }
    assert_ok(rc);
    assert_in_range(n, 1, most);
    const uint8_t *at = m->buf;
    for (unsigned i = 0; i < n; i++) {
        const unsigned k = first_free(m);
        assert_true(k < m->n);
        assert_int_equal(messages[i].len_bytes, m->messages[k].len_bytes);
        assert_true(model_is(at, m->messages[k].id, m->messages[k].len_bytes));
        at += messages[i].len_bytes;
        forget(m, k);
    }
}

void model_claim(struct model *m) {
    struct queue_message message;
    const unsigned k = first_free(m);
    const int rc = queue_claim(m->q, true, m->buf, 1 << 20, &message);
    if (k == m->n) {
        assert_int_equal(rc, EMMAP_E_EMPTY);
        return;
    }
    assert_ok(rc);
    assert_int_equal(message.len_bytes, m->messages[k].len_bytes);
    assert_true(model_is(m->buf, m->messages[k].id, message.len_bytes));
    m->messages[k].claimed = true;
    m->messages[k].claim = message;
    m->claimed++;
}

void model_end_claim(struct model *m, bool ack) {
    if (m->claimed == 0) return;
    unsigned nth = (unsigned)model_random(m, m->claimed), k = 0;
    while (!m->messages[k].claimed || nth-- > 0)
        k++;
    struct queue_message *claim = &m->messages[k].claim;
    assert_ok(ack ? queue_ack(m->q, true, claim) : queue_return(m->q, true, claim));
    assert_int_equal(queue_ack(m->q, true, claim), EMMAP_E_STALE);
    m->messages[k].claimed = false;
    m->claimed--;
    if (ack) forget(m, k);
}

static void look(struct model *m, bool backwards) {
    struct queue_place at = {0, 0};
    struct queue_message message;
    for (unsigned i = 0; i < m->n; i++) {
        const struct model_message *expected = &m->messages[backwards ? m->n - 1 - i : i];
        if (expected->claimed) continue;
        assert_ok(queue_peek(m->q, true, backwards, &at, m->buf, 1 << 20, &message));
        assert_int_equal(message.len_bytes, expected->len_bytes);
        assert_true(model_is(m->buf, expected->id, expected->len_bytes));
    }
    assert_int_equal(queue_peek(m->q, true, backwards, &at, m->buf, 1 << 20, &message),
                     EMMAP_E_EMPTY);
}

void model_look(struct model *m) {
    uint64_t bytes = 0;
    for (unsigned i = 0; i < m->n; i++)
        bytes += queue_record_bytes(m->messages[i].len_bytes);
    assert_int_equal(queue_count(m->q), m->n);
    assert_int_equal(queue_bytes(m->q), bytes);
    look(m, false);
    look(m, true);
}

void model_drop(struct model *m) {
    assert_ok(queue_drop(m->q, queue_get(&queue_live(m->q)->tail)));
    unsigned kept = 0;
    for (unsigned i = 0; i < m->n; i++)
        if (m->messages[i].claimed) m->messages[kept++] = m->messages[i];
    m->n = kept;
}

void model_unclaim(struct model *m) {
    for (unsigned i = 0; i < m->n; i++)
        m->messages[i].claimed = false;
    m->claimed = 0;
}

/* ---------------------------------------------------------------------------- in plain memory */

static void be_process(struct emmap_queue *q, uint64_t incarnation) {
    pm_set64(&queue_participant(q, 0)->incarnation, incarnation);
    q->participant = 0;
    q->me = UINT64_C(1) << 48 | incarnation;
    q->owner = incarnation << 16;
}

struct emmap_queue *array_queue(uint64_t size_bytes, uint64_t base_bytes, bool fixed) {
    const struct emmap_queue_options options = {.size_bytes = size_bytes,
                                                .flags = fixed ? EMMAP_QUEUE_FIXED_SIZE : 0u};
    struct emmap_queue *q = calloc(1, sizeof *q);
    assert_non_null(q);
    const uint64_t least = queue_new_bytes(&options);
    q->base_bytes = base_bytes > least ? base_bytes : least;
    void *base;
    assert_ok(posix_memalign(&base, 1 << 16, q->base_bytes));
    memset(base, 0, q->base_bytes);
    q->base = base;
    pthread_mutex_init(&q->space_lock, NULL);
    pthread_mutex_init(&q->sync_lock, NULL);
    be_process(q, 1);
    assert_ok(queue_make(q, &options));
    return q;
}

void array_free(struct emmap_queue *q) {
    free(q->base);
    free(q);
}

void array_died(struct emmap_queue *q) {
    be_process(q, (q->me & 0xFFFFFFFFu) + 1);
    pm_set64(&queue_live(q)->lock, q->me);
    assert_true(queue_redo(q));
    queue_reap_hands(q, 0);
    queue_reap_claims(q, QUEUE_PARTICIPANTS);
    pm_set64(&queue_live(q)->lock, 0);
}

void array_reboot(struct emmap_queue *q) {
    be_process(q, (q->me & 0xFFFFFFFFu) + 1);
    pm_set64(&queue_live(q)->lock, q->me);
    assert_ok(queue_recover(q, QUEUE_REBOOTED));
    pm_set64(&queue_live(q)->lock, 0);
}
