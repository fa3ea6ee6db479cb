/* nif_queue.c -- the queue for Erlang.
 *
 * A call that finds the lock taken for some 20 us, or a message that its writer is still at, answers
 * `again': the caller's Erlang side waits, so that no scheduler does. What is large, cold, or needs
 * room that is not prepared goes to a dirty scheduler. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nif/nif_etf.h"
#include "os/os.h"
#include "store/queue.h"

/* What is taken is decoded from a copy: up to this much of one on the stack. */
enum { STACK_BYTES = 4096, BATCH = 256 };

/* Decoded in one call on a normal scheduler: a millisecond at the worst, of small maps. */
enum { NORMAL_BATCH_BYTES = 16 << 10 };

/* So many messages are passed by in a call on a normal scheduler. */
enum { LONG_WINDOW = 2000 };

struct handle {
    struct emmap_queue *q;
    _Atomic bool closed, promises; /* the disk, by an interval */
    _Atomic bool told_unlinked;
    bool safe;
};

/* A message that its caller works on; it comes back when the term is collected before it has ended. */
struct claim {
    struct handle *handle; /* kept: it is not closed by the collector meanwhile */
    struct queue_message message;
    _Atomic bool ended;
    struct pool_job job;
};

static ErlNifResourceType *queue_type, *claim_type;

/* ------------------------------------------------------------------------------- life and death */

/* Not on the scheduler that collects: closing waits for locks and the file system. */
struct closing {
    struct pool_job job;
    struct emmap_queue *q;
};

static void dismiss(struct emmap_queue *q);

static void close_queue(struct emmap_queue *q) {
    queue_ref(q);
    emmap_queue_close(q);
    if (atomic_load(&q->closed)) dismiss(q);
    queue_unref(q);
}

static void close_job(struct pool_job *job) {
    struct closing *closing = (struct closing *)(void *)job;
    close_queue(closing->q);
    free(closing);
}

static void queue_destroy(ErlNifEnv *env, void *object) {
    (void)env;
    struct handle *h = object;
    if (h->q && !atomic_exchange(&h->closed, true)) {
        struct closing *closing = malloc(sizeof *closing);
        if (closing) { /* else it stays open: the OS process's end closes it */
            *closing = (struct closing){.job = {.run = close_job}, .q = h->q};
            pool_run(&closing->job);
        }
    }
    if (h->q) queue_unref(h->q);
}

static void return_job(struct pool_job *job) {
    struct claim *claim = (struct claim *)(void *)((char *)job - offsetof(struct claim, job));
    queue_return_later(claim->handle->q, &claim->message);
    enif_release_resource(claim->handle);
    free(claim);
}

static void claim_destroy(ErlNifEnv *env, void *object) {
    (void)env;
    struct claim *claim = object;
    if (!claim->handle) return;
    struct claim *copy = atomic_load(&claim->ended) ? NULL : malloc(sizeof *copy);
    if (!copy) {
        enif_release_resource(claim->handle);
        return;
    }
    copy->handle = claim->handle;
    copy->message = claim->message;
    copy->job.run = return_job;
    pool_run(&copy->job);
}

int nif_queue_open_types(ErlNifEnv *env) {
    const ErlNifResourceFlags flags = ERL_NIF_RT_CREATE | ERL_NIF_RT_TAKEOVER;
    queue_type = enif_open_resource_type(env, NULL, "emmap_queue", queue_destroy, flags, NULL);
    claim_type = enif_open_resource_type(env, NULL, "emmap_claim", claim_destroy, flags, NULL);
    return queue_type && claim_type ? 0 : -1;
}

static struct handle *get_handle(ErlNifEnv *env, ERL_NIF_TERM term) {
    void *object;
    return enif_get_resource(env, term, queue_type, &object) ? object : NULL;
}

static ERL_NIF_TERM sync_failed(ErlNifEnv *env, struct emmap_queue *q) {
    const int error = (int)queue_get(&queue_live(q)->sync_error);
    return enif_make_tuple2(
        env, atoms.error_,
        enif_make_tuple2(env, atoms.sync_failed_, nif_atom(env, emmap_error_name(-error))));
}

static ERL_NIF_TERM failed(ErlNifEnv *env, struct emmap_queue *q, int rc) {
    nif_tried(env);
    if (rc == QUEUE_SPUN) return atoms.again_;
    if (rc == EMMAP_E_EMPTY) return atoms.empty_;
    return rc == EMMAP_E_SYNC_FAILED ? sync_failed(env, q) : nif_error(env, rc);
}

/* The queue of a handle that is open, or the answer in *bad. */
static struct emmap_queue *get_queue(ErlNifEnv *env, ERL_NIF_TERM term, struct handle **out,
                                     ERL_NIF_TERM *bad) {
    struct handle *h = get_handle(env, term);
    if (!h) {
        *bad = nif_badarg(env, 1, atoms.not_a_handle_);
        return NULL;
    }
    if (atomic_load_explicit(&h->closed, memory_order_relaxed)) {
        *bad = nif_error(env, EMMAP_E_CLOSED);
        return NULL;
    }
    if (out) *out = h;
    return h->q;
}

/* queue_open(Name, Flags, Mode, Size, MaxSize, MaxMessage, Safe) -> {ok, Handle, Existed} */
ERL_NIF_TERM nif_queue_open_7(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    struct emmap_queue_options options = {0};
    unsigned flags, mode;
    ERL_NIF_TERM why;
    char *name;
    if (!enif_get_uint(env, argv[1], &flags) || !enif_get_uint(env, argv[2], &mode))
        return nif_badarg(env, 2, atoms.not_an_integer_);
    options.flags = flags;
    options.mode = mode;
    uint64_t *const sizes[] = {&options.size_bytes, &options.max_bytes, &options.max_message_bytes};
    for (int i = 0; i < 3; i++)
        if (nif_get_uint64(env, argv[3 + i], sizes[i]) != NIF_INTEGER)
            return nif_badarg(env, 2, atoms.not_an_integer_);
    if (!nif_get_name(env, argv[0], &name, &why)) return nif_badarg(env, 1, why);
    struct handle *h = enif_alloc_resource(queue_type, sizeof *h);
    if (!h) {
        enif_free(name);
        return nif_error(env, -ENOMEM);
    }
    *h = (struct handle){.safe = nif_is(argv[6], atoms.true_)};
    bool existed;
    const int rc = emmap_queue_open(&h->q, name, &options, &existed);
    enif_free(name);
    if (rc) {
        h->q = NULL;
        enif_release_resource(h);
        return nif_error(env, rc);
    }
    queue_ref(h->q); /* the memory, until the term is collected */
    const ERL_NIF_TERM term = enif_make_resource(env, h);
    enif_release_resource(h);
    return enif_make_tuple3(env, atoms.ok_, term, existed ? atoms.true_ : atoms.false_);
}

/* queue_close(Handle) -> ok; again: ok */
ERL_NIF_TERM nif_queue_close_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    struct handle *h = get_handle(env, argv[0]);
    if (!h) return nif_badarg(env, 1, atoms.not_a_handle_);
    if (!atomic_exchange(&h->closed, true)) close_queue(h->q);
    return atoms.ok_;
}

/* ---------------------------------------------------------------------------------------- push */

static bool is_dirty(void) {
    return enif_thread_type() != ERL_NIF_THR_NORMAL_SCHEDULER;
}

static int push_term(ErlNifEnv *env, struct emmap_queue *q, bool dirty, ERL_NIF_TERM term,
                     uint64_t *len) {
    struct etf_buffer buffer;
    uint64_t end;
    etf_buffer_init(&buffer);
    int rc = etf_encode(env, term, queue_most_bytes(q), dirty, &buffer);
    if (rc == 0) {
        struct queue_data data = {.head = buffer.data,
                                  .head_bytes = (uint32_t)buffer.len,
                                  .body = buffer.tail,
                                  .body_bytes = (uint32_t)buffer.tail_len};
        *len = buffer.len + buffer.tail_len;
        rc = queue_push(q, dirty, &data, 1, &end);
    }
    etf_buffer_fini(&buffer);
    return rc == -EFBIG ? EMMAP_E_TOO_BIG : rc;
}

static ERL_NIF_TERM pushed(ErlNifEnv *env, struct emmap_queue *q, int rc, uint64_t len) {
    if (rc) return failed(env, q, rc);
    nif_worked(env, len);
    return atoms.ok_;
}

/* What promises the disk does not go on when the disk has failed. */
static bool may_push(const struct handle *h) {
    return !atomic_load_explicit(&h->promises, memory_order_relaxed) ||
           queue_get(&queue_live(h->q)->sync_error) == 0;
}

static ERL_NIF_TERM push_dirty(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    ERL_NIF_TERM bad;
    struct emmap_queue *q = get_queue(env, argv[0], NULL, &bad);
    if (!q) return bad;
    uint64_t len = 0;
    const int rc = push_term(env, q, true, argv[1], &len);
    return pushed(env, q, rc, len);
}

/* queue_push(Handle, Term) -> ok | again | {error, Reason} */
ERL_NIF_TERM nif_queue_push_2(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    ERL_NIF_TERM bad;
    struct handle *h;
    struct emmap_queue *q = get_queue(env, argv[0], &h, &bad);
    if (!q) return bad;
    if (!may_push(h)) return sync_failed(env, q);
    uint64_t len = 0;
    const int rc = push_term(env, q, false, argv[1], &len);
    if (rc == -EAGAIN)
        return enif_schedule_nif(env, "queue_push", ERL_NIF_DIRTY_JOB_IO_BOUND, push_dirty, argc,
                                 argv);
    return pushed(env, q, rc, len);
}

/* queue_push_deflated(Handle, Binary) -> ok | again | {error, Reason}: the term's size, which is what
 * is limited, and what it deflates to. */
ERL_NIF_TERM nif_queue_push_deflated_2(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    ERL_NIF_TERM bad;
    ErlNifBinary bin;
    struct handle *h;
    struct emmap_queue *q = get_queue(env, argv[0], &h, &bad);
    if (!q) return bad;
    if (!may_push(h)) return sync_failed(env, q);
    if (!enif_inspect_binary(env, argv[1], &bin) || bin.size < 4)
        return nif_badarg(env, 2, atoms.not_a_binary_);
    const uint64_t most = queue_most_bytes(q);
    const unsigned char *at = bin.data;
    const uint32_t len =
        at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
    if (len > most || bin.size > most) return nif_error(env, EMMAP_E_TOO_BIG);
    struct queue_data data = {
        .body = bin.data, .body_bytes = (uint32_t)bin.size, .flags = EMMAP_QUEUE_DEFLATED};
    uint64_t end = 0;
    const int rc = queue_push(q, true, &data, 1, &end);
    return pushed(env, q, rc, bin.size);
}

/* As many of the list as go in one piece. *n of them are pushed with 0. */
static int push_batch(ErlNifEnv *env, struct emmap_queue *q, bool dirty, ERL_NIF_TERM *list,
                      unsigned *n, uint64_t *bytes) {
    struct queue_data data[BATCH];
    size_t starts[BATCH + 1];
    struct etf_buffer buffer;
    const uint64_t most = queue_most_bytes(q);
    ERL_NIF_TERM term, rest = *list, after[BATCH];
    etf_buffer_init(&buffer);
    buffer.tail_min = SIZE_MAX;
    unsigned count = 0;
    int rc = 0;
    while (count < BATCH && buffer.len < QUEUE_SMALL_BYTES / 2) {
        ERL_NIF_TERM next;
        if (!enif_get_list_cell(env, rest, &term, &next)) break;
        starts[count] = buffer.len;
        rc = etf_encode(env, term, most, dirty, &buffer);
        if (rc == 0 && count > 0 && buffer.len > QUEUE_SMALL_BYTES) {
            buffer.len = starts[count]; /* a large one goes by itself */
            break;
        }
        if (rc) break;
        after[count++] = rest = next;
    }
    if (rc && count > 0) rc = 0;
    starts[count] = buffer.len;
    for (unsigned i = 0; i < count; i++)
        data[i] = (struct queue_data){.head = buffer.data + starts[i],
                                      .head_bytes = (uint32_t)(starts[i + 1] - starts[i])};
    uint64_t end;
    if (rc == 0 && count > 0) rc = queue_push(q, dirty, data, count, &end);
    /* As many as there is room for: half of them, half of the rest, ... */
    while (rc == EMMAP_E_FULL && count > 1) {
        count /= 2;
        rest = after[count - 1];
        rc = queue_push(q, dirty, data, count, &end);
    }
    if (rc == 0) {
        *list = rest;
        *n = count;
        *bytes += starts[count];
    }
    etf_buffer_fini(&buffer);
    return rc == -EFBIG ? EMMAP_E_TOO_BIG : rc;
}

static ERL_NIF_TERM push_many_dirty(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

/* queue_push_many(Handle, List, Done) -> ok | {again, Rest, N} | {error, {N, Reason}}: N of the list
 * of which Done were pushed before are in the queue. One batch a turn on a normal scheduler. */
static ERL_NIF_TERM push_many(ErlNifEnv *env, bool dirty, const ERL_NIF_TERM argv[]) {
    ERL_NIF_TERM bad, list = argv[1];
    struct handle *h;
    struct emmap_queue *q = get_queue(env, argv[0], &h, &bad);
    unsigned done;
    if (!q) return bad;
    if (!may_push(h)) return sync_failed(env, q);
    if (!enif_is_list(env, list)) return nif_badarg(env, 2, atoms.not_a_list_);
    if (!enif_get_uint(env, argv[2], &done)) return nif_badarg(env, 3, atoms.not_an_integer_);
    for (unsigned turns = 0; enif_is_empty_list(env, list) == 0; turns++) {
        unsigned n = 0;
        uint64_t bytes = 0;
        int rc = EMMAP_E_BUSY;
        if (!enif_is_list(env, list)) return nif_badarg(env, 2, atoms.not_a_list_);
        if (turns == 0 || dirty) rc = push_batch(env, q, dirty, &list, &n, &bytes);
        if (rc == -EAGAIN || (turns > 0 && !dirty)) {
            const ERL_NIF_TERM next[] = {argv[0], list, enif_make_uint(env, done)};
            return enif_schedule_nif(env, "queue_push_many", ERL_NIF_DIRTY_JOB_IO_BOUND,
                                     push_many_dirty, 3, next);
        }
        if (rc == QUEUE_SPUN)
            return enif_make_tuple3(env, atoms.again_, list, enif_make_uint(env, done));
        if (rc) {
            const ERL_NIF_TERM error = failed(env, q, rc);
            int arity;
            const ERL_NIF_TERM *element;
            if (done == 0 || !enif_get_tuple(env, error, &arity, &element)) return error;
            return enif_make_tuple2(env, atoms.error_,
                                    enif_make_tuple2(env, enif_make_uint(env, done), element[1]));
        }
        nif_worked(env, bytes);
        done += n;
    }
    return atoms.ok_;
}

static ERL_NIF_TERM push_many_dirty(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return push_many(env, true, argv);
}

ERL_NIF_TERM nif_queue_push_many_3(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return push_many(env, false, argv);
}

/* ---------------------------------------------------------------------------------------- take */

/* Room for a message's data: on the stack, or a binary that the term will keep. */
struct room {
    unsigned char small[STACK_BYTES];
    unsigned char *data;
    size_t len;
    ErlNifBinary large;
    bool is_large;
};

static void room_init(struct room *room) {
    room->data = room->small;
    room->len = sizeof room->small;
    room->is_large = false;
}

static void room_fini(struct room *room) {
    if (room->is_large) enif_release_binary(&room->large);
}

static bool room_grow(struct room *room, size_t len) {
    room_fini(room);
    room->is_large = enif_alloc_binary(len, &room->large);
    room->data = room->large.data;
    room->len = len;
    return room->is_large;
}

static bool is_deflated(const struct queue_message *message) {
    return message->flags & EMMAP_QUEUE_DEFLATED;
}

/* Of a deflated message the binary, for zlib to do the rest. */
static int decode(ErlNifEnv *env, struct room *room, const struct queue_message *message,
                  unsigned flags, ERL_NIF_TERM *out) {
    const size_t len = message->len_bytes;
    if (is_deflated(message)) {
        memcpy(enif_make_new_binary(env, len, out), room->data, len);
        return 0;
    }
    if (!room->is_large) return etf_decode(env, room->data, len, flags, out);
    if (room->large.size != len) return EMMAP_E_CORRUPT;
    const unsigned char *data = room->data;
    const ERL_NIF_TERM whole = enif_make_binary(env, &room->large);
    room->is_large = false; /* the term's from now on */
    return etf_decode_binary(env, whole, 0, data, len, flags, out);
}

/* Answers within this file. A message is whole, and no term: it is as good as damaged; and one that
 * only zlib can see into; another one is the first now. */
enum { NO_TERM = 3, DEFLATED = 4, MOVED = 5 };

/* How a message is got: taken, claimed, or looked at. */
enum getting { TAKE, CLAIM, PEEK_FRONT, PEEK_BACK };

static int get_once(struct emmap_queue *q, bool wait, enum getting how, struct queue_place *at,
                    struct room *room, struct queue_message *message) {
    unsigned one = 1;
    switch (how) {
    case TAKE:
        return queue_take(q, wait, room->data, room->len, message, &one);
    case CLAIM:
        return queue_claim(q, wait, room->data, room->len, message);
    default:
        return queue_peek(q, wait, how == PEEK_BACK, at, room->data, room->len, message);
    }
}

/* One that is longer than most_bytes stays where it is: QUEUE_NO_ROOM. */
static int get(struct emmap_queue *q, bool wait, enum getting how, uint64_t most_bytes,
               struct queue_place *at, struct room *room, struct queue_message *message) {
    if (room->len > most_bytes) room->len = most_bytes;
    for (;;) {
        const struct queue_place from = *at;
        int rc = get_once(q, wait, how, at, room, message);
        if (rc == 0 && room->is_large && room->large.size != message->len_bytes &&
            !enif_realloc_binary(&room->large, message->len_bytes))
            return -ENOMEM;
        if (rc == 0 && room->is_large) room->data = room->large.data;
        if (rc != QUEUE_NO_ROOM || message->len_bytes > most_bytes) return rc;
        *at = from;
        const uint32_t most = how == TAKE ? QUEUE_SMALL_BYTES : ETF_SHORT_BYTES;
        if (message->len_bytes > most && !wait) return -EAGAIN;
        if (!room_grow(room, message->len_bytes)) return -ENOMEM;
    }
}

/* On a normal scheduler only what is short, which is always decoded at once; but see take_any. */
static ERL_NIF_TERM decoded(ErlNifEnv *env, struct room *room, const struct queue_message *message,
                            bool safe, int *rc) {
    ERL_NIF_TERM term = atoms.undefined_;
    *rc = decode(env, room, message, (safe ? ETF_SAFE : 0u) | ETF_DIRTY, &term);
    nif_worked(env, message->len_bytes);
    if (*rc == EMMAP_E_CORRUPT) *rc = NO_TERM;
    if (*rc == -EPERM) *rc = EMMAP_E_UNSAFE_TERM;
    return term;
}

/* Of a message that is taken: what it is, or that it was none. */
static ERL_NIF_TERM taken(ErlNifEnv *env, struct emmap_queue *q,
                          const struct queue_message *message, ERL_NIF_TERM term, int rc) {
    if (rc == NO_TERM) {
        queue_lose(q);
        return nif_error(env, EMMAP_E_CORRUPT);
    }
    if (rc) return failed(env, q, rc);
    return enif_make_tuple2(env, is_deflated(message) ? atoms.deflated_ : atoms.ok_, term);
}

/* A claim on the first message, whose data is in the room. It comes back when the claim is let go of
 * before it has ended. */
static int claim_first(struct handle *h, bool wait, uint64_t most_bytes, struct room *room,
                       struct queue_message *message, struct claim **out) {
    struct claim *claim = enif_alloc_resource(claim_type, sizeof *claim);
    if (!claim) return -ENOMEM;
    memset(claim, 0, sizeof *claim);
    struct queue_place none = {0, 0};
    const int rc = get(h->q, wait, CLAIM, most_bytes, &none, room, message);
    if (rc) {
        enif_release_resource(claim);
        return rc;
    }
    claim->message = *message;
    enif_keep_resource(h);
    claim->handle = h;
    *out = claim;
    return 0;
}

/* 0 | EMMAP_E_STALE: it had ended before | QUEUE_SPUN, -EIO, ...: it has not ended */
static int end_claim(struct claim *claim, bool ack) {
    struct emmap_queue *q = claim->handle->q;
    if (atomic_exchange(&claim->ended, true)) return EMMAP_E_STALE;
    const int rc = ack ? queue_ack(q, is_dirty(), &claim->message)
                       : queue_return(q, is_dirty(), &claim->message);
    const bool ended = rc == 0 || rc == EMMAP_E_STALE || rc == EMMAP_E_CLOSED;
    if (!ended) atomic_store(&claim->ended, false);
    return rc;
}

/* It must end: else the message would come back, behind others that were taken meanwhile. On a dirty
 * scheduler. */
enum { END_TRIES = 1000 }; /* of 5 ms */
static int end_claim_surely(struct claim *claim, bool ack) {
    int rc = QUEUE_SPUN;
    for (int i = 0; i < END_TRIES && rc == QUEUE_SPUN; i++)
        rc = end_claim(claim, ack);
    return rc;
}

/* What would make an atom stays: a message is looked at, decoded, and taken if it still is the first.
 * -EAGAIN: it is too long to look at here. */
static int take_seen(ErlNifEnv *env, struct handle *h, uint64_t most_bytes, struct room *room,
                     struct queue_message *message, ERL_NIF_TERM *term) {
    struct queue_place at = {0, 0};
    int rc = get(h->q, false, PEEK_FRONT, most_bytes, &at, room, message);
    if (rc) return rc;
    if (is_deflated(message)) return DEFLATED;
    *term = decoded(env, room, message, true, &rc);
    if (rc && rc != NO_TERM) return rc;
    const int taken = queue_take_this(h->q, false, message);
    if (taken == -EAGAIN) return MOVED;
    return taken ? taken : rc;
}

/* The same for any: nobody else can have it meanwhile, nor is what is damaged in the way. What comes
 * back, others may have overtaken: only what makes no term does. Of a deflated one the claim is told. */
static int take_claimed(ErlNifEnv *env, struct handle *h, uint64_t most_bytes, struct room *room,
                        struct queue_message *message, ERL_NIF_TERM *term,
                        ERL_NIF_TERM *claim_term) {
    struct claim *claim;
    int rc = claim_first(h, true, most_bytes, room, message, &claim);
    if (rc) return rc;
    *term = decoded(env, room, message, true, &rc);
    if (rc == 0 && is_deflated(message)) {
        *claim_term = enif_make_resource(env, claim);
        enif_release_resource(claim);
        return DEFLATED;
    }
    const bool ack = rc == 0 || rc == NO_TERM;
    const int ended = end_claim_surely(claim, ack);
    enif_release_resource(claim);
    return ack && ended ? ended : rc;
}

/* DEFLATED: it is not taken yet; with a claim *claim and its data *term. */
enum { SEEN_TRIES = 4 };
static int take_safely(ErlNifEnv *env, struct handle *h, bool wait, uint64_t most_bytes,
                       struct queue_message *message, ERL_NIF_TERM *term, ERL_NIF_TERM *claim) {
    struct room room;
    room_init(&room);
    int rc = wait ? take_claimed(env, h, most_bytes, &room, message, term, claim) : MOVED;
    /* Somebody else was faster; or what lies there is damaged, which who claims it finds. */
    for (int i = 0; i < SEEN_TRIES && rc == MOVED; i++) {
        room_fini(&room);
        room_init(&room);
        rc = take_seen(env, h, most_bytes, &room, message, term);
    }
    room_fini(&room);
    return rc == MOVED ? -EAGAIN : rc;
}

static ERL_NIF_TERM long_decoded(ErlNifEnv *env, struct emmap_queue *q, int rc, ERL_NIF_TERM term) {
    if (rc == 0) return nif_ok(env, term);
    if (rc == EMMAP_E_CORRUPT) queue_lose(q);
    return nif_error(env, rc);
}

static ERL_NIF_TERM decode_dirty(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    ErlNifBinary bin;
    ERL_NIF_TERM term = atoms.undefined_;
    const struct handle *h = get_handle(env, argv[1]);
    if (!enif_inspect_binary(env, argv[0], &bin)) return nif_badarg(env, 1, atoms.not_a_binary_);
    const int rc = etf_decode_binary(env, argv[0], 0, bin.data, bin.size, ETF_DIRTY, &term);
    return long_decoded(env, h->q, rc, term);
}

/* It is taken: a long one of many parts, which would take a while to decode, is decoded on a dirty
 * scheduler. */
static ERL_NIF_TERM decode_long(ErlNifEnv *env, struct emmap_queue *q, ERL_NIF_TERM handle,
                                struct room *room) {
    ERL_NIF_TERM term = atoms.undefined_;
    const size_t len = room->large.size;
    const unsigned char *data = room->data;
    const ERL_NIF_TERM args[] = {enif_make_binary(env, &room->large), handle};
    room->is_large = false;
    const int rc = etf_decode_binary(env, args[0], 0, data, len, is_dirty() ? ETF_DIRTY : 0, &term);
    if (rc == -EAGAIN)
        return enif_schedule_nif(env, "queue_take", ERL_NIF_DIRTY_JOB_CPU_BOUND, decode_dirty, 2,
                                 args);
    return long_decoded(env, q, rc, term);
}

static ERL_NIF_TERM take_any(ErlNifEnv *env, struct emmap_queue *q, bool wait,
                             ERL_NIF_TERM handle) {
    struct room room;
    struct queue_message message;
    ERL_NIF_TERM result = atoms.undefined_;
    struct queue_place none = {0, 0};
    room_init(&room);
    int rc = get(q, wait, TAKE, UINT64_MAX, &none, &room, &message);
    if (rc == 0 && room.is_large && !is_deflated(&message)) {
        result = decode_long(env, q, handle, &room);
        nif_worked(env, message.len_bytes);
    } else if (rc == 0) {
        const ERL_NIF_TERM term = decoded(env, &room, &message, false, &rc);
        result = taken(env, q, &message, term, rc);
        rc = 0;
    }
    room_fini(&room);
    if (rc == -EAGAIN && !wait) return atoms.undefined_;
    return rc ? failed(env, q, rc) : result;
}

static ERL_NIF_TERM deflated(ErlNifEnv *env, ERL_NIF_TERM claim, ERL_NIF_TERM binary) {
    return enif_make_tuple3(env, atoms.deflated_, claim, binary);
}

static ERL_NIF_TERM take_with(ErlNifEnv *env, bool wait, const ERL_NIF_TERM argv[]) {
    ERL_NIF_TERM bad, term = atoms.undefined_, claim = atoms.undefined_;
    struct handle *h;
    struct queue_message message;
    struct emmap_queue *q = get_queue(env, argv[0], &h, &bad);
    if (!q) return bad;
    if (!h->safe) return take_any(env, q, wait, argv[0]);
    const int rc = take_safely(env, h, wait, UINT64_MAX, &message, &term, &claim);
    if (rc == -EAGAIN && !wait) return atoms.undefined_;
    if (rc == DEFLATED) return wait ? deflated(env, claim, term) : atoms.claim_;
    return taken(env, q, &message, term, rc);
}

static ERL_NIF_TERM take_dirty(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return take_with(env, true, argv);
}

/* queue_take(Handle) -> {ok, Term} | {deflated, Binary} | empty | again | {error, Reason}
 *     | claim | {deflated, Claim, Binary}: it is not taken before it has been seen into */
ERL_NIF_TERM nif_queue_take_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    const ERL_NIF_TERM result = take_with(env, false, argv);
    if (!nif_is(result, atoms.undefined_)) return result;
    return enif_schedule_nif(env, "queue_take", ERL_NIF_DIRTY_JOB_IO_BOUND, take_dirty, argc, argv);
}

static ERL_NIF_TERM of_length(ErlNifEnv *env, ERL_NIF_TERM what,
                              const struct queue_message *message) {
    return enif_make_tuple2(env, what, enif_make_uint64(env, message->len_bytes));
}

/* One lock for all of them; what is left in the buffer's way is left in the queue. */
static ERL_NIF_TERM take_batch(ErlNifEnv *env, struct emmap_queue *q, bool wait, unsigned most,
                               uint64_t most_bytes) {
    struct queue_message messages[BATCH];
    unsigned n = most < BATCH ? most : BATCH;
    const uint64_t at_once = wait ? QUEUE_SMALL_BYTES : NORMAL_BATCH_BYTES;
    uint64_t room = most_bytes < at_once ? most_bytes : at_once;
    unsigned char *buf = enif_alloc(room);
    if (!buf) return nif_error(env, -ENOMEM);
    int rc = queue_take(q, wait, buf, room, messages, &n);
    if (rc) {
        enif_free(buf);
        if (rc == QUEUE_NO_ROOM) return of_length(env, atoms.large_, &messages[0]);
        return rc == -EAGAIN && !wait ? atoms.undefined_ : failed(env, q, rc);
    }
    ERL_NIF_TERM terms[BATCH];
    unsigned kept = 0;
    uint64_t off = 0;
    bool plain = true;
    for (unsigned i = 0; i < n; i++)
        plain = plain && !is_deflated(&messages[i]);
    for (unsigned i = 0; i < n; i++) {
        const unsigned char *data = buf + off;
        const size_t len = messages[i].len_bytes;
        off += len;
        if (is_deflated(&messages[i])) {
            ERL_NIF_TERM bin;
            memcpy(enif_make_new_binary(env, len, &bin), data, len);
            terms[kept++] = enif_make_tuple2(env, atoms.deflated_, bin);
        } else if (etf_decode(env, data, len, ETF_DIRTY, &terms[kept]) == 0) {
            if (!plain) terms[kept] = nif_ok(env, terms[kept]);
            kept++;
        } else {
            queue_lose(q);
        }
    }
    enif_free(buf);
    nif_worked(env, off);
    return enif_make_tuple3(env, plain ? atoms.ok_ : atoms.mixed_,
                            enif_make_list_from_array(env, terms, kept),
                            enif_make_uint64(env, off));
}

/* Only one. */
static ERL_NIF_TERM take_batch_safely(ErlNifEnv *env, struct handle *h, bool wait,
                                      uint64_t most_bytes) {
    struct queue_message message;
    ERL_NIF_TERM term = atoms.undefined_, claim = atoms.undefined_;
    const int rc = take_safely(env, h, wait, most_bytes, &message, &term, &claim);
    if (rc == -EAGAIN && !wait) return atoms.undefined_;
    if (rc == DEFLATED)
        return wait ? deflated(env, claim, term) : of_length(env, atoms.claim_, &message);
    if (rc == QUEUE_NO_ROOM) return of_length(env, atoms.large_, &message);
    if (rc) return taken(env, h->q, &message, term, rc);
    return enif_make_tuple3(env, atoms.ok_, enif_make_list1(env, term),
                            enif_make_uint64(env, message.len_bytes));
}

static ERL_NIF_TERM take_many_with(ErlNifEnv *env, bool wait, const ERL_NIF_TERM argv[]) {
    ERL_NIF_TERM bad;
    struct handle *h;
    struct emmap_queue *q = get_queue(env, argv[0], &h, &bad);
    uint64_t n, bytes;
    if (!q) return bad;
    if (nif_get_uint64(env, argv[1], &n) != NIF_INTEGER ||
        nif_get_uint64(env, argv[2], &bytes) != NIF_INTEGER)
        return nif_badarg(env, 2, atoms.not_an_integer_);
    if (n == 0)
        return enif_make_tuple3(env, atoms.ok_, enif_make_list(env, 0), enif_make_uint(env, 0));
    if (h->safe) return take_batch_safely(env, h, wait, bytes);
    return take_batch(env, q, wait, n < BATCH ? (unsigned)n : BATCH, bytes);
}

static ERL_NIF_TERM take_many_dirty(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return take_many_with(env, true, argv);
}

/* queue_take_many(Handle, N, Bytes) -> {ok, [Term], Used} | {mixed, [{ok, Term} | {deflated, Binary}],
 *     Used} | empty | again | {large, Len}: the first one alone is more than Bytes or 16 KiB
 *     | {claim, Len} | {deflated, Claim, Binary} (as queue_take) | {error, Reason}. Used: the bytes of those that were taken */
ERL_NIF_TERM nif_queue_take_many_3(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    const ERL_NIF_TERM result = take_many_with(env, false, argv);
    if (!nif_is(result, atoms.undefined_)) return result;
    return enif_schedule_nif(env, "queue_take_many", ERL_NIF_DIRTY_JOB_IO_BOUND, take_many_dirty,
                             argc, argv);
}

/* --------------------------------------------------------------------------------- claims, peek */

static ERL_NIF_TERM claim_with(ErlNifEnv *env, bool wait, const ERL_NIF_TERM argv[]) {
    ERL_NIF_TERM bad, term = atoms.undefined_, claim_term = atoms.undefined_;
    struct handle *h;
    struct emmap_queue *q = get_queue(env, argv[0], &h, &bad);
    if (!q) return bad;
    struct claim *claim;
    struct room room;
    struct queue_message message = {.flags = 0};
    room_init(&room);
    int rc = claim_first(h, wait, UINT64_MAX, &room, &message, &claim);
    if (rc == 0) {
        term = decoded(env, &room, &message, h->safe, &rc);
        if (rc)
            (void)end_claim(claim, rc == NO_TERM); /* at the latest when it is let go of */
        else
            claim_term = enif_make_resource(env, claim);
        enif_release_resource(claim);
    }
    room_fini(&room);
    if (rc == -EAGAIN && !wait) return atoms.undefined_;
    if (rc) return taken(env, q, &message, term, rc);
    return enif_make_tuple3(env, is_deflated(&message) ? atoms.deflated_ : atoms.ok_, claim_term,
                            term);
}

static ERL_NIF_TERM claim_dirty(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return claim_with(env, true, argv);
}

/* queue_claim(Handle) -> {ok, Claim, Term} | {deflated, Claim, Binary} | empty | again | {error, Reason} */
ERL_NIF_TERM nif_queue_claim_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    const ERL_NIF_TERM result = claim_with(env, false, argv);
    if (!nif_is(result, atoms.undefined_)) return result;
    return enif_schedule_nif(env, "queue_claim", ERL_NIF_DIRTY_JOB_IO_BOUND, claim_dirty, argc,
                             argv);
}

static ERL_NIF_TERM end_with(ErlNifEnv *env, ERL_NIF_TERM term, bool ack) {
    void *object;
    if (!enif_get_resource(env, term, claim_type, &object))
        return nif_badarg(env, 1, atoms.not_a_handle_);
    struct claim *claim = object;
    const int rc = end_claim(claim, ack);
    return rc ? failed(env, claim->handle->q, rc) : atoms.ok_;
}

static ERL_NIF_TERM ack_dirty(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return end_with(env, argv[0], true);
}

/* queue_ack(Claim), queue_return(Claim) -> ok | again | {error, Reason}. An ack moves the head over all
 * that others took meanwhile. */
ERL_NIF_TERM nif_queue_ack_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    void *object;
    if (enif_get_resource(env, argv[0], claim_type, &object)) {
        const struct claim *claim = object;
        if (queue_get(&queue_live(claim->handle->q)->window_n) > LONG_WINDOW)
            return enif_schedule_nif(env, "queue_ack", ERL_NIF_DIRTY_JOB_CPU_BOUND, ack_dirty, argc,
                                     argv);
    }
    return end_with(env, argv[0], true);
}

ERL_NIF_TERM nif_queue_return_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return end_with(env, argv[0], false);
}

/* queue_lose(Handle) -> ok: a deflated message was none */
ERL_NIF_TERM nif_queue_lose_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    ERL_NIF_TERM bad;
    struct emmap_queue *q = get_queue(env, argv[0], NULL, &bad);
    if (!q) return bad;
    queue_lose(q);
    return atoms.ok_;
}

static ERL_NIF_TERM peek_with(ErlNifEnv *env, bool wait, const ERL_NIF_TERM argv[]) {
    ERL_NIF_TERM bad, term = atoms.undefined_;
    struct handle *h;
    struct emmap_queue *q = get_queue(env, argv[0], &h, &bad);
    struct queue_place at;
    if (!q) return bad;
    if (nif_get_uint64(env, argv[2], &at.pos) != NIF_INTEGER ||
        nif_get_uint64(env, argv[3], &at.slot) != NIF_INTEGER)
        return nif_badarg(env, 3, atoms.not_an_integer_);
    struct room room;
    struct queue_message message;
    room_init(&room);
    const enum getting how = nif_is(argv[1], atoms.true_) ? PEEK_BACK : PEEK_FRONT;
    int rc = get(q, wait, how, UINT64_MAX, &at, &room, &message);
    if (rc == 0) term = decoded(env, &room, &message, h->safe, &rc);
    room_fini(&room);
    if (rc == -EAGAIN && !wait) return atoms.undefined_;
    if (rc) return failed(env, q, rc == NO_TERM ? EMMAP_E_CORRUPT : rc);
    return enif_make_tuple4(env, is_deflated(&message) ? atoms.deflated_ : atoms.ok_, term,
                            enif_make_uint64(env, at.pos), enif_make_uint64(env, at.slot));
}

static ERL_NIF_TERM peek_dirty(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return peek_with(env, true, argv);
}

/* queue_peek(Handle, Backwards, Pos, Slot) -> {ok, Term, Pos, Slot} | {deflated, Binary, Pos, Slot} | empty
 *     | again | {error, _} */
ERL_NIF_TERM nif_queue_peek_4(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    const ERL_NIF_TERM result = peek_with(env, false, argv);
    if (!nif_is(result, atoms.undefined_)) return result;
    return enif_schedule_nif(env, "queue_peek", ERL_NIF_DIRTY_JOB_IO_BOUND, peek_dirty, argc, argv);
}

/* -------------------------------------------------------------------------------------- the rest */

/* queue_length(Handle) -> N | again | {error, Reason} */
ERL_NIF_TERM nif_queue_length_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    ERL_NIF_TERM bad;
    struct emmap_queue *q = get_queue(env, argv[0], NULL, &bad);
    if (!q) return bad;
    int rc = queue_lock(q, is_dirty());
    if (rc) return failed(env, q, rc);
    const uint64_t n = queue_count(q);
    rc = queue_unlock(q, 0);
    nif_worked(env, 0);
    return rc ? failed(env, q, rc) : enif_make_uint64(env, n);
}

/* queue_erase(Handle) -> ok | again | {error, Reason} */
ERL_NIF_TERM nif_queue_erase_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    ERL_NIF_TERM bad;
    struct emmap_queue *q = get_queue(env, argv[0], NULL, &bad);
    if (!q) return bad;
    const int rc = queue_drop(q, queue_get(&queue_live(q)->tail));
    nif_worked(env, 0);
    return rc ? failed(env, q, rc) : atoms.ok_;
}

/* queue_set_max(Handle, Bytes) -> ok | again | {error, Reason} */
ERL_NIF_TERM nif_queue_set_max_2(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    ERL_NIF_TERM bad;
    uint64_t most;
    struct emmap_queue *q = get_queue(env, argv[0], NULL, &bad);
    if (!q) return bad;
    if (nif_get_uint64(env, argv[1], &most) != NIF_INTEGER)
        return nif_badarg(env, 2, atoms.not_an_integer_);
    const int rc = queue_set_max(q, most);
    return rc ? failed(env, q, rc) : atoms.ok_;
}

/* queue_flush(Handle): starts write-back */
ERL_NIF_TERM nif_queue_flush_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    struct handle *h = get_handle(env, argv[0]);
    if (!h) return nif_badarg(env, 1, atoms.not_a_handle_);
    if (atomic_load(&h->closed)) return atoms.ok_;
    const int rc = emmap_file_flush(h->q->file);
    return nif_result(env, rc == EMMAP_E_CLOSED ? 0 : rc);
}

static ERL_NIF_TERM make_map(ErlNifEnv *env, const ERL_NIF_TERM pairs[][2], size_t n) {
    ERL_NIF_TERM map = enif_make_new_map(env);
    for (size_t i = 0; i < n; i++)
        enif_make_map_put(env, map, pairs[i][0], pairs[i][1], &map);
    return map;
}

/* queue_info(Handle) -> {ok, Map} | {error, Reason} */
ERL_NIF_TERM nif_queue_info_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    ERL_NIF_TERM bad;
    struct emmap_queue *q = get_queue(env, argv[0], NULL, &bad);
    struct emmap_queue_info info;
    if (!q) return bad;
    const int rc = emmap_queue_info(q, &info);
    if (rc) return failed(env, q, rc);
#define NUMBER(field) enif_make_uint64(env, info.field)
#define BOOLEAN(field) (info.field ? atoms.true_ : atoms.false_)
    const ERL_NIF_TERM pairs[][2] = {
        {atoms.length_, NUMBER(messages)},
        {atoms.bytes_, NUMBER(bytes)},
        {atoms.claimed_, NUMBER(claimed)},
        {atoms.max_size_, info.max_bytes == UINT64_MAX ? atoms.infinity_ : NUMBER(max_bytes)},
        {atoms.max_message_, NUMBER(max_message_bytes)},
        {atoms.file_size_, NUMBER(file_bytes)},
        {atoms.allocated_, NUMBER(allocated_bytes)},
        {atoms.segment_size_, NUMBER(segment_bytes)},
        {atoms.segments_, NUMBER(slots)},
        {atoms.head_, NUMBER(head)},
        {atoms.tail_, NUMBER(tail)},
        {atoms.lost_, NUMBER(lost)},
        {atoms.recovered_, BOOLEAN(was_recovered)},
        {atoms.oldest_, info.oldest_ms ? NUMBER(oldest_ms) : atoms.undefined_},
        {atoms.multi_os_, BOOLEAN(multi_os)},
        {atoms.fixed_size_, BOOLEAN(fixed_size)},
        {atoms.linked_, BOOLEAN(linked)},
        {atoms.sync_error_,
         info.sync_error ? nif_atom(env, emmap_error_name(-info.sync_error)) : atoms.undefined_},
    };
    return nif_ok(env, make_map(env, pairs, sizeof pairs / sizeof *pairs));
}

/* queue_unlinked(Handle) -> false | {true, Name}: once, of a file that has lost it */
ERL_NIF_TERM nif_queue_unlinked_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    struct handle *h = get_handle(env, argv[0]);
    if (!h) return nif_badarg(env, 1, atoms.not_a_handle_);
    if (atomic_load(&h->closed)) return atoms.false_;
    return nif_unlinked(env, h->q->file, &h->told_unlinked);
}

/* ---------------------------------------------------------------------------------- durability */

/* Who is to sync, and has not begun by then, may be dead. */
enum { LATE_MS = 100 };

/* A process that waits for the next sync. */
struct queue_waiter {
    struct queue_waiter *next;
    ErlNifPid pid;
    ErlNifEnv *env;
    ERL_NIF_TERM ref; /* in env */
};

/* Gives the waiter back. */
static bool tell(struct queue_waiter *waiter, struct emmap_queue *q, int rc) {
    ErlNifEnv *env = waiter->env;
    const ERL_NIF_TERM result = rc ? failed(env, q, rc) : atoms.ok_;
    const ERL_NIF_TERM message =
        enif_make_tuple3(env, nif_atom(env, "emmap_queue"), waiter->ref, result);
    const bool sent = enif_send(NULL, &waiter->pid, env, message) != 0;
    enif_free_env(env);
    enif_free(waiter);
    return sent;
}

/* Who waits for a queue that is closed meanwhile; or was killed when he did. */
static void dismiss(struct emmap_queue *q) {
    pthread_mutex_lock(&q->group.lock);
    struct queue_waiter *waiters = q->group.waiting;
    q->group.waiting = NULL;
    pthread_mutex_unlock(&q->group.lock);
    while (waiters) {
        struct queue_waiter *next = waiters->next;
        (void)tell(waiters, q, EMMAP_E_CLOSED);
        waiters = next;
    }
}

/* The next to sync is the first of those who wait and live; the others wait for that. */
static void call_next(struct emmap_queue *q) {
    q->group.state = GROUP_IDLE;
    while (q->group.waiting) {
        struct queue_waiter *first = q->group.waiting;
        q->group.waiting = first->next;
        if (!tell(first, q, QUEUE_SPUN)) continue;
        return;
    }
}

static ERL_NIF_TERM wait_for_next(ErlNifEnv *env, struct emmap_queue *q) {
    struct queue_waiter *waiter = enif_alloc(sizeof *waiter);
    ERL_NIF_TERM ref = enif_make_ref(env);
    waiter->env = enif_alloc_env();
    waiter->ref = enif_make_copy(waiter->env, ref);
    enif_self(env, &waiter->pid);
    waiter->next = q->group.waiting;
    q->group.waiting = waiter;
    return enif_make_tuple2(env, nif_atom(env, "wait"), ref);
}

/* For all who have come by now; unless somebody else is at it, who was taken for late. */
static ERL_NIF_TERM sync_for_all(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    struct handle *h = get_handle(env, argv[0]);
    struct emmap_queue *q = h->q;
    uint64_t covered;
    pthread_mutex_lock(&q->group.lock);
    if (q->group.state == GROUP_FLUSHING) {
        const ERL_NIF_TERM wait = wait_for_next(env, q);
        pthread_mutex_unlock(&q->group.lock);
        return wait;
    }
    q->group.state = GROUP_FLUSHING;
    struct queue_waiter *waiters = q->group.waiting;
    q->group.waiting = NULL;
    pthread_mutex_unlock(&q->group.lock);
    const int rc = queue_sync(q, &covered);
    while (waiters) {
        struct queue_waiter *next = waiters->next;
        (void)tell(waiters, q, rc);
        waiters = next;
    }
    pthread_mutex_lock(&q->group.lock);
    call_next(q);
    pthread_mutex_unlock(&q->group.lock);
    return rc ? failed(env, q, rc) : atoms.ok_;
}

/* queue_sync_join(Handle) -> ok | {wait, Ref}: {emmap_queue, Ref, Result | again} will come | again
 *     | {error, _}. One process syncs; those who come meanwhile are covered by the next sync. One that
 * was killed before a dirty scheduler came to it does not: it is not waited for. */
ERL_NIF_TERM nif_queue_sync_join_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    ERL_NIF_TERM bad, wait = atoms.undefined_;
    struct emmap_queue *q = get_queue(env, argv[0], NULL, &bad);
    if (!q) return bad;
    const uint64_t now_ms = os_now_ms();
    pthread_mutex_lock(&q->group.lock);
    const bool waits = q->group.state == GROUP_FLUSHING ||
                       (q->group.state == GROUP_COMING && now_ms - q->group.coming_ms < LATE_MS);
    if (waits) {
        wait = wait_for_next(env, q);
    } else {
        q->group.state = GROUP_COMING;
        q->group.coming_ms = now_ms;
    }
    pthread_mutex_unlock(&q->group.lock);
    if (waits) return wait;
    return enif_schedule_nif(env, "queue_sync_join", ERL_NIF_DIRTY_JOB_IO_BOUND, sync_for_all, argc,
                             argv);
}

/* queue_sync_leave(Handle, Ref) -> true | false: its message has been sent */
ERL_NIF_TERM nif_queue_sync_leave_2(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    struct handle *h = get_handle(env, argv[0]);
    if (!h) return nif_badarg(env, 1, atoms.not_a_handle_);
    struct emmap_queue *q = h->q;
    bool found = false;
    pthread_mutex_lock(&q->group.lock);
    for (struct queue_waiter **at = &q->group.waiting; *at && !found; at = &(*at)->next) {
        struct queue_waiter *waiter = *at;
        if (enif_compare(waiter->ref, argv[1]) != 0) continue;
        *at = waiter->next;
        enif_free_env(waiter->env);
        enif_free(waiter);
        found = true;
        break;
    }
    pthread_mutex_unlock(&q->group.lock);
    return found ? atoms.true_ : atoms.false_;
}

/* queue_interval(Handle, Ms) -> ok | {error, _}: what is pushed is promised the disk; 0: its pusher
 * syncs */
ERL_NIF_TERM nif_queue_interval_2(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    ERL_NIF_TERM bad;
    unsigned ms;
    struct handle *h;
    struct emmap_queue *q = get_queue(env, argv[0], &h, &bad);
    if (!q) return bad;
    if (!enif_get_uint(env, argv[1], &ms)) return nif_badarg(env, 2, atoms.not_an_integer_);
    atomic_store(&h->promises, true);
    return nif_result(env, ms ? queue_sync_every(q, ms) : 0);
}
