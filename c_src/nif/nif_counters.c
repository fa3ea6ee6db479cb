/* nif_counters.c -- counters for Erlang.
 *
 * One call, one atomic instruction, one bare answer. What is in memory is done where it is, what may
 * wait (a cold page, a raise of what is allocated, names that others have added) on a dirty scheduler. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nif/nif_etf.h"
#include "nif/nif_work.h"
#include "store/counters.h"

struct handle {
    struct emmap_counters *counters;
    bool is_unsigned, is_striped;
    _Atomic bool told_unlinked;
    /* An atom or a small number that was looked up once is found by itself, in its slot: its term in
     * the high half, the counter's index in the low one; 0: nothing is here. A name never changes its
     * counter, so an entry is true as long as the handle is, and one word needs no lock. */
    _Atomic uint64_t known[ETF_CACHED_ATOMS];
};

static ErlNifResourceType *counters_type;

/* ------------------------------------------------------------------------------- life and death */

static void counters_destroy(ErlNifEnv *env, void *object) {
    (void)env;
    const struct handle *h = object;
    emmap_counters_free(h->counters); /* the slow part is done in the background */
}

int nif_counters_open_types(ErlNifEnv *env) {
    const ErlNifResourceFlags flags = ERL_NIF_RT_CREATE | ERL_NIF_RT_TAKEOVER;
    counters_type =
        enif_open_resource_type(env, NULL, "emmap_counters", counters_destroy, flags, NULL);
    return counters_type ? 0 : -1;
}

static ALWAYS_INLINE struct handle *get_handle(ErlNifEnv *env, ERL_NIF_TERM term) {
    void *object;
    return enif_get_resource(env, term, counters_type, &object) ? object : NULL;
}

struct emmap_counters *nif_get_counters(ErlNifEnv *env, ERL_NIF_TERM term) {
    const struct handle *h = get_handle(env, term);
    return h ? h->counters : NULL;
}

/* The counters to be opened: how many, and their names if they have any. */
struct asked {
    uint64_t count;
    struct emmap_counter *counters; /* NULL: without names */
    char *texts;
};

static void asked_fini(struct asked *asked) {
    free(asked->counters);
    free(asked->texts);
}

/* {Name, Unit, Help, counter | gauge}: the room that its texts take, 0 if it is none. */
static size_t texts_room(ErlNifEnv *env, ERL_NIF_TERM term) {
    const ERL_NIF_TERM *fields;
    int arity;
    if (!enif_get_tuple(env, term, &arity, &fields) || arity != 4) return 0;
    if (!nif_is(fields[3], atoms.counter_) && !nif_is(fields[3], atoms.gauge_)) return 0;
    size_t room = 0;
    for (int i = 0; i < 3; i++) {
        ErlNifBinary text;
        if (!enif_inspect_binary(env, fields[i], &text)) return 0;
        if (text.size && memchr(text.data, 0, text.size)) return 0;
        room += text.size + 1;
    }
    return room;
}

/* Of a term that has the room. */
static char *copy_texts(ErlNifEnv *env, ERL_NIF_TERM term, struct emmap_counter *out, char *to) {
    const ERL_NIF_TERM *fields;
    int arity;
    const char **const texts[] = {&out->name, &out->unit, &out->help};
    (void)enif_get_tuple(env, term, &arity, &fields);
    for (int i = 0; i < 3; i++) {
        ErlNifBinary text = {0};
        (void)enif_inspect_binary(env, fields[i], &text);
        if (text.size) memcpy(to, text.data, text.size);
        to[text.size] = '\0';
        *texts[i] = to;
        to += text.size + 1;
    }
    out->type = nif_is(fields[3], atoms.counter_) ? EMMAP_COUNTER : EMMAP_GAUGE;
    return to;
}

/* -EINVAL: neither a count nor a list of such. */
static int get_asked(ErlNifEnv *env, ERL_NIF_TERM term, struct asked *out) {
    *out = (struct asked){0};
    if (nif_get_uint64(env, term, &out->count) == NIF_INTEGER) return 0;
    unsigned count;
    if (!enif_get_list_length(env, term, &count) || count == 0) return -EINVAL;
    size_t room = 0;
    ERL_NIF_TERM head, tail;
    for (tail = term; enif_get_list_cell(env, tail, &head, &tail);) {
        const size_t more = texts_room(env, head);
        if (more == 0) return -EINVAL;
        room += more;
    }
    out->counters = calloc(count, sizeof *out->counters);
    out->texts = malloc(room);
    if (!out->counters || !out->texts) {
        asked_fini(out);
        return -ENOMEM;
    }
    char *to = out->texts;
    for (tail = term; enif_get_list_cell(env, tail, &head, &tail);)
        to = copy_texts(env, head, &out->counters[out->count++], to);
    return 0;
}

static ERL_NIF_TERM open_file(ErlNifEnv *env, const char *name,
                              const struct emmap_counters_options *options) {
    struct handle *h = enif_alloc_resource(counters_type, sizeof *h);
    if (!h) return nif_error(env, -ENOMEM);
    memset(h, 0, sizeof *h);
    struct emmap_counters *counters;
    const int rc = emmap_counters_open(&counters, name, options);
    if (rc) {
        enif_release_resource(h);
        return nif_error(env, rc);
    }
    h->counters = counters;
    h->is_unsigned = (counters_flags(counters) & EMMAP_COUNTERS_UNSIGNED) != 0;
    h->is_striped = (counters_flags(counters) & EMMAP_COUNTERS_STRIPED) != 0;
    const ERL_NIF_TERM term = enif_make_resource(env, h);
    enif_release_resource(h);
    return nif_ok(env, term);
}

/* counters_open(Name, Flags, Mode, Count | [{Name, Unit, Help, counter | gauge}]) -> {ok, Handle} */
ERL_NIF_TERM nif_counters_open_4(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    unsigned flags, mode;
    ERL_NIF_TERM why;
    char *name;
    struct asked asked;
    if (!enif_get_uint(env, argv[1], &flags)) return nif_badarg(env, 2, atoms.not_an_integer_);
    if (!enif_get_uint(env, argv[2], &mode)) return nif_badarg(env, 3, atoms.not_an_integer_);
    if (!nif_get_name(env, argv[0], &name, &why)) return nif_badarg(env, 1, why);
    const int rc = get_asked(env, argv[3], &asked);
    if (rc) {
        enif_free(name);
        return rc == -EINVAL ? nif_badarg(env, 4, atoms.not_a_count_) : nif_error(env, rc);
    }
    const struct emmap_counters_options options = {
        .flags = flags, .mode = mode, .count = asked.count, .counters = asked.counters};
    const ERL_NIF_TERM result = open_file(env, name, &options);
    asked_fini(&asked);
    enif_free(name);
    return result;
}

/* counters_close(Handle) -> ok; again: ok */
ERL_NIF_TERM nif_counters_close_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    const struct handle *h = get_handle(env, argv[0]);
    if (!h) return nif_badarg(env, 1, atoms.no_counters_);
    (void)emmap_counters_close(h->counters);
    return atoms.ok_;
}

/* ---------------------------------------------------------------------------------------- names */

/* UTF-8 of code points; 0: too long for a name, or no text. */
static size_t put_utf8(uint32_t c, unsigned char *to, size_t room) {
    if (c < 0x80 && room >= 1) {
        to[0] = (unsigned char)c;
        return 1;
    }
    if (c < 0x80 || c > 0x10ffff) return 0;
    const size_t more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    if (more >= room) return 0;
    to[0] = (unsigned char)(0xff00 >> (more + 1) | c >> 6 * more);
    for (size_t i = 1; i <= more; i++)
        to[i] = (unsigned char)(0x80 | (c >> 6 * (more - i) & 0x3f));
    return 1 + more;
}

/* Numbers up to this are immediate terms in every VM, as atoms are: one word, equal or not. */
enum { MOST_REMEMBERED = (1 << 27) - 1 };

static ALWAYS_INLINE bool is_remembered(const struct handle *h, ERL_NIF_TERM term, uint64_t *i) {
    const uint64_t known =
        atomic_load_explicit(&h->known[etf_atom_slot(term)], memory_order_relaxed);
    *i = (uint32_t)known;
    return known >> 32 == term;
}

/* Nothing but itself is read by the entry. */
static void remember(struct handle *h, ERL_NIF_TERM term, uint64_t i) {
    if (term > UINT32_MAX || i > UINT32_MAX) return;
    atomic_store_explicit(&h->known[etf_atom_slot(term)], (uint64_t)term << 32 | i,
                          memory_order_relaxed);
}

/* Only where nothing is: more numbers than there are slots would write to them in every call. */
static void remember_index(struct handle *h, ERL_NIF_TERM term, uint64_t i) {
    if (atomic_load_explicit(&h->known[etf_atom_slot(term)], memory_order_relaxed) == 0)
        remember(h, term, i);
}

enum { NAME_BYTES = 255 };

/* What is longer is not looked at. */
static int find_text(const struct handle *h, bool wait, const char *text, size_t len, uint64_t *i) {
    return len > NAME_BYTES ? -EDOM : counters_find(h->counters, wait, text, len, i);
}

/* -EDOM: no list of characters, or more than a name has. */
static int find_string(ErlNifEnv *env, struct handle *h, bool wait, ERL_NIF_TERM list,
                       uint64_t *i) {
    unsigned char name[NAME_BYTES];
    size_t len = 0;
    ERL_NIF_TERM head;
    while (enif_get_list_cell(env, list, &head, &list)) {
        unsigned c;
        const size_t used =
            enif_get_uint(env, head, &c) ? put_utf8(c, name + len, NAME_BYTES - len) : 0;
        if (used == 0) return -EDOM;
        len += used;
    }
    if (!enif_is_empty_list(env, list)) return -EDOM;
    return find_text(h, wait, (const char *)name, len, i);
}

/* The first time only: its text is had by encoding it. */
static __attribute__((noinline)) int find_atom(ErlNifEnv *env, struct handle *h, bool wait,
                                               ERL_NIF_TERM atom, uint64_t *i) {
    unsigned char encoded[ETF_ATOM_ROOM];
    if (etf_atom_encode(env, etf_atom_cache(), atom, encoded) == 0) return -ENOMEM;
    const bool is_short = encoded[0] == ETF_SMALL_ATOM_UTF8;
    const size_t len = is_short ? encoded[1] : etf_get16(encoded + 1);
    const char *text = (const char *)encoded + (is_short ? 2 : 3);
    const int rc = find_text(h, wait, text, len, i);
    if (rc == 0) remember(h, atom, *i);
    return rc;
}

static int find_name(ErlNifEnv *env, struct handle *h, bool wait, ERL_NIF_TERM term, uint64_t *i) {
    ErlNifBinary name;
    if (enif_inspect_binary(env, term, &name))
        return find_text(h, wait, (const char *)name.data, name.size, i);
    if (is_remembered(h, term, i)) return 0;
    if (enif_is_atom(env, term)) return find_atom(env, h, wait, term, i);
    return enif_is_list(env, term) ? find_string(env, h, wait, term, i) : -EINVAL;
}

/* --------------------------------------------------------------------------------- one counter */

/* What the last arguments are: none, one or two values as the file is signed or not, a step that may be
 * either, as OTP has it, or how many numbers. */
enum operands { NOTHING, VALUE, TWO_VALUES, STEP, NUMBERS };
enum answer { ANSWER_OK, ANSWER_OLD, ANSWER_NEW, ANSWER_CAS };

struct op {
    enum operands operands;
    enum answer answer;
    struct word_call word;
};

/* One of the calls, with its arguments decoded. */
struct call {
    struct handle *h;
    uint64_t i;
    struct word_call word;
};

/* Asks the file system: not on a normal scheduler. */
static ERL_NIF_TERM sync_failed(ErlNifEnv *env, const struct handle *h) {
    struct emmap_counters_info info;
    const int rc = emmap_counters_info(h->counters, &info);
    const int error = rc ? rc : info.sync_error;
    if (error == 0) return nif_error(env, EMMAP_E_SYNC_FAILED);
    return enif_make_tuple2(
        env, atoms.error_,
        enif_make_tuple2(env, atoms.sync_failed_, nif_atom(env, emmap_error_name(error))));
}

static ERL_NIF_TERM failed(ErlNifEnv *env, const struct op *op, const struct handle *h, int rc) {
    nif_tried(env);
    switch (rc) {
    case -EDOM:
        return nif_badarg(env, 2, atoms.no_counter_);
    case -EINVAL:
        return nif_badarg(env, 2, atoms.not_an_index_);
    case -EACCES:
        return nif_badarg(env, 1, atoms.read_only_);
    case EMMAP_E_NOTSUP:
        if (op->operands == NUMBERS) return nif_error(env, rc);
        return nif_badarg(env, 1, atoms.striped_);
    case EMMAP_E_SYNC_FAILED:
        return sync_failed(env, h);
    default:
        return nif_error(env, rc);
    }
}

/* 0, or as the core says it of a counter; -EINVAL: what can be no index. */
static int get_index(ErlNifEnv *env, struct handle *h, bool wait, ERL_NIF_TERM term, uint64_t *i) {
    ErlNifUInt64 index;
    if (enif_get_uint64(env, term, &index)) {
        *i = index - 1; /* of 0 past all there can be */
        if (index <= MOST_REMEMBERED) remember_index(h, term, *i);
        return 0;
    }
    const int rc = find_name(env, h, wait, term, i);
    if (rc != -EINVAL) return rc;
    return enif_term_type(env, term) == ERL_NIF_TERM_TYPE_INTEGER ? -EDOM : -EINVAL;
}

static ALWAYS_INLINE bool get_bits(ErlNifEnv *env, ERL_NIF_TERM term, bool as_signed,
                                   bool as_unsigned, int64_t *out) {
    ErlNifSInt64 value;
    ErlNifUInt64 bits;
    if (nif_is(term, atoms.number_1))
        *out = 1;
    else if (as_signed && enif_get_int64(env, term, &value))
        *out = value;
    else if (as_unsigned && enif_get_uint64(env, term, &bits))
        *out = (int64_t)bits;
    else
        return false;
    return true;
}

static ALWAYS_INLINE bool get_value(ErlNifEnv *env, const struct handle *h,
                                    const ERL_NIF_TERM argv[], int arg, int64_t *out,
                                    ERL_NIF_TERM *bad) {
    if (get_bits(env, argv[arg], !h->is_unsigned, h->is_unsigned, out)) return true;
    *bad = nif_badarg(env, arg + 1, h->is_unsigned ? atoms.not_unsigned_ : atoms.not_signed_);
    return false;
}

static ALWAYS_INLINE bool get_operands(ErlNifEnv *env, const struct op *op,
                                       const ERL_NIF_TERM argv[], struct call *call,
                                       ERL_NIF_TERM *bad) {
    switch (op->operands) {
    case NOTHING:
        return true;
    case VALUE:
        return get_value(env, call->h, argv, 2, &call->word.operand, bad);
    case TWO_VALUES:
        return get_value(env, call->h, argv, 2, &call->word.expected, bad) &&
               get_value(env, call->h, argv, 3, &call->word.operand, bad);
    case STEP:
        if (get_bits(env, argv[2], true, true, &call->word.operand)) return true;
        *bad = nif_badarg(env, 3, atoms.not_64_bits_);
        return false;
    case NUMBERS:
        if (get_bits(env, argv[2], false, true, &call->word.operand) && call->word.operand != 0)
            return true;
        *bad = nif_badarg(env, 3, atoms.not_positive_);
        return false;
    }
    return false;
}

/* Of two mistakes the first is told, and a number may be none of a counter: always false. */
static __attribute__((noinline)) bool bad_index(ErlNifEnv *env, const struct op *op, bool wait,
                                                const struct call *call, ERL_NIF_TERM *other) {
    struct word_call look = {.op = WORD_LOAD};
    const int rc = counters_word(call->h->counters, wait, call->i, &look);
    if (rc == -EDOM) *other = failed(env, op, call->h, rc);
    if (rc == -EAGAIN && !wait) *other = atoms.undefined_;
    return false;
}

/* false: the answer is in *other; undefined: to find the name would be to wait. */
static bool decode(ErlNifEnv *env, const struct op *op, bool wait, const ERL_NIF_TERM argv[],
                   struct call *call, ERL_NIF_TERM *other) {
    call->h = get_handle(env, argv[0]);
    if (!call->h) return *other = nif_badarg(env, 1, atoms.no_counters_), false;
    call->word = op->word;
    const int rc = get_index(env, call->h, wait, argv[1], &call->i);
    if (rc == -EAGAIN && !wait) return *other = atoms.undefined_, false;
    if (rc) return *other = failed(env, op, call->h, rc), false;
    return get_operands(env, op, argv, call, other) || bad_index(env, op, wait, call, other);
}

static ALWAYS_INLINE ERL_NIF_TERM make_value(ErlNifEnv *env, const struct handle *h,
                                             int64_t value) {
    return h->is_unsigned ? enif_make_uint64(env, (uint64_t)value) : enif_make_int64(env, value);
}

static ALWAYS_INLINE ERL_NIF_TERM answer(ErlNifEnv *env, const struct op *op,
                                         const struct call *call) {
    const struct word_call *word = &call->word;
    switch (op->answer) {
    case ANSWER_OK:
        break;
    case ANSWER_OLD:
        return make_value(env, call->h, word->old);
    case ANSWER_NEW: /* it wraps */
        return make_value(env, call->h, (int64_t)((uint64_t)word->old + (uint64_t)word->operand));
    case ANSWER_CAS:
        if (word->old != word->expected) return make_value(env, call->h, word->old);
        break;
    }
    return atoms.ok_;
}

static int perform(const struct op *op, bool wait, struct call *call) {
    struct emmap_counters *counters = call->h->counters;
    if (op->operands == NUMBERS)
        return counters_allocate(counters, wait, call->i, (uint64_t)call->word.operand,
                                 &call->word.old);
    if (op->answer == ANSWER_NEW && call->h->is_striped)
        return EMMAP_E_NOTSUP; /* it has no old one */
    return counters_word(counters, wait, call->i, &call->word);
}

/* Runs the call where it is. undefined: it would have to wait; claimed: it was made, but is not
 * acknowledged, and to find out why may wait. */
static ERL_NIF_TERM run(ErlNifEnv *env, const struct op *op, bool wait, const ERL_NIF_TERM argv[]) {
    struct call call;
    ERL_NIF_TERM other;
    if (!decode(env, op, wait, argv, &call, &other)) return other;
    const int rc = perform(op, wait, &call);
    if (!wait && rc == REGION_TOUCHED) return atoms.claimed_;
    if (!wait && (rc == -EAGAIN || rc == EMMAP_E_SYNC_FAILED)) return atoms.undefined_;
    if (rc) return failed(env, op, call.h, rc);
    nif_worked(env, sizeof(uint64_t));
    return answer(env, op, &call);
}

/* An index, or a name that needs no waiting; NO_INDEX: neither. */
#define NO_INDEX UINT64_MAX
static __attribute__((noinline)) uint64_t find_index(ErlNifEnv *env, struct handle *h,
                                                     ERL_NIF_TERM term) {
    uint64_t i;
    return get_index(env, h, false, term, &i) ? NO_INDEX : i;
}

static ALWAYS_INLINE bool perform_quick(const struct op *op, struct thread *own, struct call *call,
                                        int *rc) {
    struct emmap_counters *counters = call->h->counters;
    if (op->operands != NUMBERS)
        return counters_word_quick(counters, own, call->i, &call->word, rc);
    const uint64_t n = (uint64_t)call->word.operand;
    if (!counters_allocate_quick(counters, call->i, n, &call->word.old, rc)) return false;
    if (*rc == 0) figures_add_own(own, EMMAP_FIGURE_ALLOCATED, n);
    return true;
}

/* run where nothing is to be waited for or refused, in line with the operation known: of a call there is left what
 * it does. false: *result is the failure, or claimed as of run, or NO_TERM: it is still to be made. */
enum { NO_TERM = 0 };
static ALWAYS_INLINE bool run_quick(ErlNifEnv *env, const struct op *op, const ERL_NIF_TERM argv[],
                                    ERL_NIF_TERM *result) {
    int rc;
    *result = NO_TERM;
    struct call call = {.h = get_handle(env, argv[0]), .word = op->word};
    if (!call.h) return false;
    if (op->answer == ANSWER_NEW && call.h->is_striped) return false;
    if (!is_remembered(call.h, argv[1], &call.i)) call.i = find_index(env, call.h, argv[1]);
    struct thread *own = own_thread();
    ERL_NIF_TERM bad;
    if (!get_operands(env, op, argv, &call, &bad)) return false;
    if (!perform_quick(op, own, &call, &rc)) return false;
    if (rc == 0) {
        nif_worked_quick(env, own, sizeof(uint64_t));
        *result = answer(env, op, &call);
        return true;
    }
    *result = rc == REGION_TOUCHED ? atoms.claimed_ : failed(env, op, call.h, rc);
    return false;
}

static ERL_NIF_TERM run_reason(ErlNifEnv *env, const struct op *op, const ERL_NIF_TERM argv[]) {
    struct call call;
    ERL_NIF_TERM other;
    if (!decode(env, op, true, argv, &call, &other)) return other;
    return failed(env, op, call.h, counters_reason(call.h->counters, call.i));
}

/* A failure is told with what was given: Erlang then keeps nothing for it in the calls that do not fail. */
static ERL_NIF_TERM told(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[], ERL_NIF_TERM result) {
    if (!enif_is_tuple(env, result)) return result;
    return enif_make_tuple2(env, result, enif_make_list_from_array(env, argv, (unsigned)argc));
}

typedef ERL_NIF_TERM nif_function(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

/* What may wait, or has failed. */
static ERL_NIF_TERM run_slowly(ErlNifEnv *env, const struct op *op, const char *name,
                               nif_function *dirty, nif_function *reason, int argc,
                               const ERL_NIF_TERM argv[], ERL_NIF_TERM result) {
    if (result == NO_TERM) result = run(env, op, false, argv);
    const bool touched = nif_is(result, atoms.claimed_);
    if (!touched && !nif_is(result, atoms.undefined_)) return told(env, argc, argv, result);
    return enif_schedule_nif(env, name, ERL_NIF_DIRTY_JOB_IO_BOUND, touched ? reason : dirty, argc,
                             argv);
}

#define COUNTER_NIF(name, arity, of, answers, ...)                                                 \
    static const struct op name##_op = {.operands = of, .answer = answers, .word = {__VA_ARGS__}}; \
    static ERL_NIF_TERM name##_dirty(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {        \
        return told(env, argc, argv, run(env, &name##_op, true, argv));                            \
    }                                                                                              \
    static ERL_NIF_TERM name##_reason(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {       \
        return told(env, argc, argv, run_reason(env, &name##_op, argv));                           \
    }                                                                                              \
    ERL_NIF_TERM nif_##name##_##arity(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {       \
        ERL_NIF_TERM result;                                                                       \
        if (run_quick(env, &name##_op, argv, &result)) return result;                              \
        return run_slowly(env, &name##_op, #name, name##_dirty, name##_reason, argc, argv,         \
                          result);                                                                 \
    }

COUNTER_NIF(counters_get, 2, NOTHING, ANSWER_OLD, .op = WORD_LOAD)
COUNTER_NIF(counters_put, 3, VALUE, ANSWER_OK, .op = WORD_STORE)
COUNTER_NIF(counters_add, 3, STEP, ANSWER_OK, .op = WORD_FETCH, .fetch = EMMAP_ADD)
COUNTER_NIF(counters_add_get, 3, STEP, ANSWER_NEW, .op = WORD_FETCH, .fetch = EMMAP_ADD)
COUNTER_NIF(counters_exchange, 3, VALUE, ANSWER_OLD, .op = WORD_FETCH, .fetch = EMMAP_EXCHANGE)
COUNTER_NIF(counters_max, 3, VALUE, ANSWER_OLD, .op = WORD_FETCH, .fetch = EMMAP_MAX)
COUNTER_NIF(counters_min, 3, VALUE, ANSWER_OLD, .op = WORD_FETCH, .fetch = EMMAP_MIN)
COUNTER_NIF(counters_compare_exchange, 4, TWO_VALUES, ANSWER_CAS, .op = WORD_CAS)
COUNTER_NIF(counters_allocate, 3, NUMBERS, ANSWER_OLD, .op = WORD_ALLOCATE)

/* --------------------------------------------------------------------------------- all of them */

/* counters_sync(Handle) -> ok */
ERL_NIF_TERM nif_counters_sync_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    const struct handle *h = get_handle(env, argv[0]);
    if (!h) return nif_badarg(env, 1, atoms.no_counters_);
    const int rc = emmap_counters_sync(h->counters);
    return rc == EMMAP_E_SYNC_FAILED ? sync_failed(env, h) : nif_result(env, rc);
}

static ERL_NIF_TERM make_text(ErlNifEnv *env, const char *text) {
    ERL_NIF_TERM binary;
    const size_t len = text ? strlen(text) : 0;
    unsigned char *to = enif_make_new_binary(env, len, &binary);
    if (len) memcpy(to, text, len);
    return binary;
}

static ERL_NIF_TERM make_is(bool is) {
    return is ? atoms.true_ : atoms.false_;
}

/* counters_info(Handle) -> {ok, Map} */
ERL_NIF_TERM nif_counters_info_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    const struct handle *h = get_handle(env, argv[0]);
    if (!h) return nif_badarg(env, 1, atoms.no_counters_);
    struct emmap_counters_info info;
    const int rc = emmap_counters_info(h->counters, &info);
    if (rc) return nif_error(env, rc);
    const ERL_NIF_TERM pairs[][2] = {
        {atoms.size_, enif_make_uint64(env, info.count)},
        {atoms.memory_, enif_make_uint64(env, info.file_bytes)},
        {atoms.max_, make_value(env, h, h->is_unsigned ? -1 : INT64_MAX)},
        {atoms.min_, make_value(env, h, h->is_unsigned ? 0 : INT64_MIN)},
        {atoms.file_, make_text(env, info.path)},
        {atoms.access_, info.is_read_only ? atoms.read_ : atoms.read_write_},
        {atoms.names_, make_is(info.is_named)},
        {atoms.signed_, make_is(!info.is_unsigned)},
        {atoms.padded_, make_is(info.is_padded)},
        {atoms.striped_, make_is(info.is_striped)},
        {atoms.simple_, make_is(info.is_simple)},
        {atoms.linked_, make_is(info.linked)},
        {atoms.sync_error_,
         info.sync_error ? nif_atom(env, emmap_error_name(info.sync_error)) : atoms.undefined_},
    };
    ERL_NIF_TERM map = enif_make_new_map(env);
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        enif_make_map_put(env, map, pairs[i][0], pairs[i][1], &map);
    return nif_ok(env, map);
}

/* counters_unlinked(Handle) -> false | {true, Name}: once, of a file that has lost it */
ERL_NIF_TERM nif_counters_unlinked_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    struct handle *h = get_handle(env, argv[0]);
    if (!h) return nif_badarg(env, 1, atoms.no_counters_);
    return nif_unlinked(env, h->counters->file, &h->told_unlinked);
}

/* counters_names(Handle) -> {ok, [{Name, Unit, Help, counter | gauge}]}: of counters without names [] */
ERL_NIF_TERM nif_counters_names_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    const struct handle *h = get_handle(env, argv[0]);
    if (!h) return nif_badarg(env, 1, atoms.no_counters_);
    struct emmap_counters_info info;
    int rc = emmap_counters_info(h->counters, &info);
    if (rc) return nif_error(env, rc);
    ERL_NIF_TERM list = enif_make_list(env, 0);
    for (uint64_t i = info.is_named ? info.count : 0; i-- > 0;) {
        struct emmap_counter counter;
        rc = emmap_counters_name(h->counters, i, &counter);
        if (rc) return nif_error(env, rc);
        const ERL_NIF_TERM named =
            enif_make_tuple4(env, make_text(env, counter.name), make_text(env, counter.unit),
                             make_text(env, counter.help),
                             counter.type == EMMAP_COUNTER ? atoms.counter_ : atoms.gauge_);
        list = enif_make_list_cell(env, named, list);
    }
    return nif_ok(env, list);
}
