/* nif_atomic.c -- integers of a mapped file for Erlang. */
#include <errno.h>

#include "nif/nif_work.h"
#include "store/word.h"

/* One of the calls, with its operands decoded. */
struct call {
    struct emmap_file *file;
    uint64_t off;
    struct word_call word;
};

typedef ERL_NIF_TERM answer(ErlNifEnv *env, const struct call *call);

static ALWAYS_INLINE bool get_int64(ErlNifEnv *env, const ERL_NIF_TERM argv[], int arg,
                                    int64_t *out, ERL_NIF_TERM *bad) {
    ErlNifSInt64 value;
    if (enif_get_int64(env, argv[arg], &value)) {
        *out = value;
        return true;
    }
    *bad = nif_badarg(env, arg + 1, atoms.not_64_bits_);
    return false;
}

/* argv: Handle, Off, then the operands: none, one, or Expected and New. */
static ALWAYS_INLINE bool get_operands(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[],
                                       struct call *call, ERL_NIF_TERM *bad) {
    if (argc == 3) return get_int64(env, argv, 2, &call->word.operand, bad);
    if (argc == 4)
        return get_int64(env, argv, 2, &call->word.expected, bad) &&
               get_int64(env, argv, 3, &call->word.operand, bad);
    return true;
}

static bool decode(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[], struct call *call,
                   ERL_NIF_TERM *bad) {
    call->file = nif_get_file(env, argv[0]);
    if (!call->file) return *bad = nif_badarg(env, 1, atoms.not_a_handle_), false;
    switch (nif_get_uint64(env, argv[1], &call->off)) {
    case NIF_NO_INTEGER:
        return *bad = nif_badarg(env, 2, atoms.not_an_integer_), false;
    case NIF_OUT_OF_RANGE:
        return *bad = nif_error(env, -EINVAL), false;
    default:
        break;
    }
    return get_operands(env, argc, argv, call, bad);
}

/* The call was made, but is not acknowledged; to find out why may wait. */
static ERL_NIF_TERM reason_dirty(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    struct call call;
    ERL_NIF_TERM bad;
    if (!decode(env, argc, argv, &call, &bad)) return bad;
    return nif_error(env, file_word_reason(call.file, call.off));
}

static ERL_NIF_TERM schedule_reason(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    return enif_schedule_nif(env, "file_word", ERL_NIF_DIRTY_JOB_IO_BOUND, reason_dirty, argc,
                             argv);
}

/* Where nothing is to be waited for or refused, in line with the operation known. false: it is still to be made. */
static ALWAYS_INLINE bool run_quick(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[],
                                    struct call *call, int *rc) {
    ErlNifUInt64 off;
    ERL_NIF_TERM bad;
    call->file = nif_get_file(env, argv[0]);
    if (!call->file || !enif_get_uint64(env, argv[1], &off)) return false;
    call->off = off;
    return get_operands(env, argc, argv, call, &bad) &&
           word_quick(call->file, false, off, &call->word, rc);
}

/* Runs the call where it is, or on a dirty scheduler when it would have to wait there. */
static ERL_NIF_TERM run_slowly(ErlNifEnv *env, bool wait, int argc, const ERL_NIF_TERM argv[],
                               struct word_call word, answer *answer) {
    struct call call = {.word = word};
    ERL_NIF_TERM bad;
    if (!decode(env, argc, argv, &call, &bad)) return bad;
    const int rc = file_word(call.file, wait, call.off, &call.word);
    if (rc == -EAGAIN && !wait) return atoms.undefined_;
    if (rc == REGION_TOUCHED) return schedule_reason(env, argc, argv);
    if (rc) return nif_write_result(env, rc, 0);
    nif_worked(env, sizeof(uint64_t));
    return answer(env, &call);
}

static ALWAYS_INLINE ERL_NIF_TERM run(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[],
                                      struct word_call word, answer *answer) {
    struct call call = {.word = word};
    int rc;
    if (!run_quick(env, argc, argv, &call, &rc))
        return run_slowly(env, false, argc, argv, word, answer);
    if (rc == REGION_TOUCHED) return schedule_reason(env, argc, argv);
    if (rc) return nif_write_result(env, rc, 0);
    nif_worked_quick(env, own_thread(), sizeof(uint64_t));
    return answer(env, &call);
}

static ERL_NIF_TERM answer_ok(ErlNifEnv *env, const struct call *call) {
    (void)env, (void)call;
    return atoms.ok_;
}

static ERL_NIF_TERM answer_old(ErlNifEnv *env, const struct call *call) {
    return nif_ok(env, enif_make_int64(env, call->word.old));
}

static ERL_NIF_TERM answer_cas(ErlNifEnv *env, const struct call *call) {
    const bool swapped = call->word.old == call->word.expected;
    return enif_make_tuple2(env, swapped ? atoms.true_ : atoms.false_,
                            enif_make_int64(env, call->word.old));
}

#define WORD_NIF(name, arity, answer, ...)                                                   \
    static ERL_NIF_TERM name##_dirty(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {  \
        return run_slowly(env, true, argc, argv, (struct word_call){__VA_ARGS__}, answer);   \
    }                                                                                        \
    ERL_NIF_TERM nif_##name##_##arity(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) { \
        const ERL_NIF_TERM result =                                                          \
            run(env, arity, argv, (struct word_call){__VA_ARGS__}, answer);                  \
        if (!nif_is(result, atoms.undefined_)) return result;                                \
        return enif_schedule_nif(env, #name, ERL_NIF_DIRTY_JOB_IO_BOUND, name##_dirty, argc, \
                                 argv);                                                      \
    }

WORD_NIF(file_add, 3, answer_old, .op = WORD_FETCH, .fetch = EMMAP_ADD)
WORD_NIF(file_sub, 3, answer_old, .op = WORD_FETCH, .fetch = EMMAP_SUB)
WORD_NIF(file_and, 3, answer_old, .op = WORD_FETCH, .fetch = EMMAP_AND)
WORD_NIF(file_or, 3, answer_old, .op = WORD_FETCH, .fetch = EMMAP_OR)
WORD_NIF(file_xor, 3, answer_old, .op = WORD_FETCH, .fetch = EMMAP_XOR)
WORD_NIF(file_exchange, 3, answer_old, .op = WORD_FETCH, .fetch = EMMAP_EXCHANGE)
WORD_NIF(file_cas, 4, answer_cas, .op = WORD_CAS)
WORD_NIF(file_load, 2, answer_old, .op = WORD_LOAD)
WORD_NIF(file_store, 3, answer_ok, .op = WORD_STORE)
