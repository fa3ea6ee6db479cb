/* queue_image.c -- see queue_image.h. */
#include "test/queue_image.h"

#include <stdlib.h>
#include <string.h>

static uint8_t *buffer(void) {
    static uint8_t *buf;
    if (!buf) buf = malloc(IMAGE_MESSAGE_BYTES);
    MUST(buf);
    return buf;
}

/* ------------------------------------------------------------------------------------- images */

static void be_process(struct emmap_queue *q, uint64_t incarnation) {
    q->participant = 0;
    q->me = UINT64_C(1) << 48 | incarnation;
    q->owner = incarnation << 16;
    pm_set64(&queue_participant(q, 0)->incarnation, incarnation);
}

struct emmap_queue *image_desk(uint64_t room_bytes) {
    struct emmap_queue *q = calloc(1, sizeof *q);
    void *base = NULL;
    MUST(q && posix_memalign(&base, 1 << 16, room_bytes) == 0);
    q->base = base;
    q->base_bytes = room_bytes;
    pthread_mutex_init(&q->space_lock, NULL);
    pthread_mutex_init(&q->sync_lock, NULL);
    return q;
}

void image_desk_free(struct emmap_queue *desk) {
    free(desk->base);
    free(desk);
}

void image_make(struct emmap_queue *desk, const struct emmap_queue_options *options) {
    memset(desk->base, 0, desk->base_bytes);
    be_process(desk, 1);
    MUST(queue_new_bytes(options) <= desk->base_bytes);
    MUST(queue_make(desk, options) == 0);
}

void image_lay(struct emmap_queue *desk, const struct image *image) {
    MUST(image->len_bytes <= desk->base_bytes);
    memcpy(desk->base, image->bytes, image->len_bytes);
    memset(desk->base + image->len_bytes, 0, desk->base_bytes - image->len_bytes);
}

int image_settle(struct emmap_queue *q, const struct image *image, enum queue_past past) {
    const uint64_t room_bytes = q->base_bytes;
    struct emmap_disk_queue header;
    memcpy(&header, q->base, sizeof header);
    queue_attach(q, &header);
    atomic_store(&q->was_recovered, false);
    atomic_store(&q->broken, 0);
    be_process(q, (queue_get(&queue_participant(q, 0)->incarnation) + 1) & 0xFFFFFFFFu);
    pm_set64(&queue_live(q)->lock, q->me);
    q->base_bytes = image->len_bytes;
    const int rc = queue_settle(q, past);
    q->base_bytes = room_bytes;
    pm_set64(&queue_live(q)->lock, 0);
    return rc;
}

struct image image_of(const struct emmap_queue *q) {
    struct image image = {.len_bytes =
                              QUEUE_DATA_OFF + queue_get(&queue_live(q)->slots) * q->segment_bytes};
    image.bytes = malloc(image.len_bytes);
    MUST(image.bytes);
    memcpy(image.bytes, q->base, image.len_bytes);
    return image;
}

/* ------------------------------------------------------------------------------------- ledger */

/* Its number, then what no other message has at the same place. */
void ledger_fill(uint8_t *buf, unsigned id, uint32_t len_bytes) {
    for (uint32_t i = 0; i < len_bytes; i++)
        buf[i] = (uint8_t)(id * 37 + i * 11 + (i >> 8) + 1);
    for (uint32_t i = 0; i < len_bytes && i < 2; i++)
        buf[i] = (uint8_t)(id >> 8 * i);
}

int ledger_find(const struct ledger *ledger, const uint8_t *buf, uint32_t len_bytes) {
    uint8_t *expected = malloc(len_bytes + 1);
    MUST(expected);
    int found = -1;
    for (unsigned id = 0; id < ledger->n && found < 0; id++) {
        if (ledger->len_bytes[id] != len_bytes) continue;
        if (len_bytes >= 2 && (buf[0] | buf[1] << 8) != (int)id) continue;
        ledger_fill(expected, id, len_bytes);
        if (memcmp(expected, buf, len_bytes) == 0) found = (int)id;
    }
    free(expected);
    return found;
}

void ledger_begin(struct ledger *ledger, uint32_t len_bytes) {
    MUST(ledger->n < IMAGE_MESSAGES && len_bytes <= IMAGE_MESSAGE_BYTES);
    ledger->len_bytes[ledger->n] = len_bytes;
    ledger->fate[ledger->n++] = EITHER;
}

static int push(struct ledger *ledger, struct emmap_queue *q, uint32_t len_bytes) {
    ledger_begin(ledger, len_bytes);
    ledger_fill(buffer(), ledger->n - 1, len_bytes);
    struct queue_data data = {.body = buffer(), .body_bytes = len_bytes};
    uint64_t end;
    return queue_push(q, true, &data, 1, &end);
}

void ledger_push(struct ledger *ledger, struct emmap_queue *q, uint32_t len_bytes) {
    MUST(push(ledger, q, len_bytes) == 0);
    ledger->fate[ledger->n - 1] = THERE;
}

/* ------------------------------------------------------------------------------------- checks */

const char *drain(struct emmap_queue *q, const struct ledger *ledger, struct drained *out) {
    *out = (struct drained){.n = 0};
    return drain_on(q, ledger, out);
}

const char *drain_on(struct emmap_queue *q, const struct ledger *ledger, struct drained *out) {
    for (;;) {
        struct queue_message message;
        unsigned one = 1;
        out->rc = queue_take(q, true, buffer(), IMAGE_MESSAGE_BYTES, &message, &one);
        if (out->rc == EMMAP_E_EMPTY) return NULL;
        if (out->rc == QUEUE_NO_ROOM) return "a message larger than any that was pushed";
        if (out->rc) return print_error("a take: %d\n", out->rc), "a take failed";
        const int id = ledger_find(ledger, buffer(), message.len_bytes);
        if (id < 0) return "a message that nobody pushed";
        if (out->n > 0 && (unsigned)id == out->id[out->n - 1]) return "a message twice";
        if (out->n > 0 && (unsigned)id < out->id[out->n - 1]) return "a message after a later one";
        out->id[out->n++] = (unsigned)id;
    }
}

const char *agrees(const struct ledger *ledger, const struct drained *drained) {
    unsigned at = 0;
    for (unsigned id = 0; id < ledger->n; id++) {
        const bool there = at < drained->n && drained->id[at] == id;
        if (there) at++;
        const char *wrong = NULL;
        if (there && (ledger->fate[id] == GONE || ledger->fate[id] == NEVER))
            wrong = "a message that was taken";
        if (!there && ledger->fate[id] == THERE) wrong = "a message is missing";
        if (wrong) return wrong;
    }
    return NULL;
}

static const char *push_and_take(struct emmap_queue *q, struct ledger *ledger, const uint32_t *lens,
                                 unsigned count) {
    struct drained more;
    const unsigned n = ledger->n;
    for (unsigned i = 0; i < count; i++) {
        if (push(ledger, q, lens[i])) return "a further push failed";
        if (queue_count(q) != i + 1) return "further messages are counted wrong";
    }
    const char *wrong = drain(q, ledger, &more);
    if (wrong) return wrong;
    if (more.n != count || more.id[0] != n) return "further messages are not there";
    if (queue_count(q) != 0 || queue_bytes(q) != 0) return "an empty queue counts some";
    ledger->n = n;
    return NULL;
}

const char *goes_on(struct emmap_queue *q, struct ledger *ledger) {
    static const uint32_t lens[] = {10, 30000, 200, 70000, 40000, 8};
    return push_and_take(q, ledger, lens, sizeof lens / sizeof *lens);
}

const char *goes_on_a_little(struct emmap_queue *q, struct ledger *ledger) {
    static const uint32_t lens[] = {10, 200};
    return push_and_take(q, ledger, lens, sizeof lens / sizeof *lens);
}
