/* nif_etf.c -- the codec as the tests call it. */
#include <errno.h>
#include <string.h>

#include "nif/nif_etf.h"

static ERL_NIF_TERM encode(ErlNifEnv *env, const ERL_NIF_TERM argv[], bool dirty) {
    ErlNifUInt64 limit_bytes;
    if (!enif_get_uint64(env, argv[1], &limit_bytes)) return nif_badarg(env, 2, atoms.not_a_count_);
    struct etf_buffer buffer;
    etf_buffer_init(&buffer);
    const int rc = etf_encode(env, argv[0], (size_t)limit_bytes, dirty, &buffer);
    ERL_NIF_TERM result;
    if (rc == 0) {
        unsigned char *to = enif_make_new_binary(env, buffer.len + buffer.tail_len, &result);
        memcpy(to, buffer.data, buffer.len);
        if (buffer.tail_len) memcpy(to + buffer.len, buffer.tail, buffer.tail_len);
    } else {
        result = nif_error(env, rc);
    }
    etf_buffer_fini(&buffer);
    return result;
}

/* etf_encode(Term, LimitBytes) -> Binary | {error, efbig | eagain} */
ERL_NIF_TERM nif_etf_encode_2(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return encode(env, argv, false);
}

/* etf_encode_dirty(Term, LimitBytes) -> Binary | {error, efbig} */
ERL_NIF_TERM nif_etf_encode_dirty_2(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return encode(env, argv, true);
}

static ERL_NIF_TERM decode(ErlNifEnv *env, const ERL_NIF_TERM argv[], unsigned flags) {
    ErlNifBinary data;
    if (!enif_inspect_binary(env, argv[0], &data)) return nif_badarg(env, 1, atoms.not_a_binary_);
    if (nif_is(argv[1], atoms.true_)) flags |= ETF_SAFE;
    ERL_NIF_TERM term;
    const int rc = etf_decode_binary(env, argv[0], 0, data.data, data.size, flags, &term);
    if (rc == 0) return nif_ok(env, term);
    if (rc == -EPERM) return enif_make_tuple2(env, atoms.error_, nif_atom(env, "unsafe_term"));
    return nif_error(env, rc);
}

/* etf_decode(Binary, Safe) -> {ok, Term} | {error, corrupt | unsafe_term | eagain} */
ERL_NIF_TERM nif_etf_decode_2(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return decode(env, argv, 0);
}

/* etf_decode_dirty(Binary, Safe) -> {ok, Term} | {error, corrupt | unsafe_term} */
ERL_NIF_TERM nif_etf_decode_dirty_2(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return decode(env, argv, ETF_DIRTY);
}
