/* nif_term.c -- terms in and out. */
#include <string.h>

#include "nif/nif.h"

ERL_NIF_TERM nif_atom(ErlNifEnv *env, const char *name) {
    return enif_make_atom(env, name);
}

ERL_NIF_TERM nif_error(ErlNifEnv *env, int code) {
    return enif_make_tuple2(env, atoms.error_, nif_atom(env, emmap_error_name(code)));
}

ERL_NIF_TERM nif_badarg(ErlNifEnv *env, int arg, ERL_NIF_TERM why) {
    return enif_make_tuple3(env, atoms.badarg_, enif_make_int(env, arg), why);
}

ERL_NIF_TERM nif_ok(ErlNifEnv *env, ERL_NIF_TERM value) {
    return enif_make_tuple2(env, atoms.ok_, value);
}

ERL_NIF_TERM nif_result(ErlNifEnv *env, int rc) {
    return rc ? nif_error(env, rc) : atoms.ok_;
}

enum nif_integer nif_get_uint64(ErlNifEnv *env, ERL_NIF_TERM term, uint64_t *out) {
    ErlNifUInt64 value;
    if (enif_get_uint64(env, term, &value)) {
        *out = value;
        return NIF_INTEGER;
    }
    return enif_term_type(env, term) == ERL_NIF_TERM_TYPE_INTEGER ? NIF_OUT_OF_RANGE
                                                                  : NIF_NO_INTEGER;
}

/* error_message(Atom) -> Binary | undefined: the words of emmap.h for a reason's name. */
ERL_NIF_TERM nif_error_message_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    char name[256];
    if (enif_get_atom(env, argv[0], name, sizeof name, ERL_NIF_LATIN1) <= 0)
        return atoms.undefined_;
    const int code = emmap_error_code(name);
    if (code == 0) return atoms.undefined_;
    const char *message = emmap_error_message(code);
    ERL_NIF_TERM text;
    const size_t len = strlen(message);
    memcpy(enif_make_new_binary(env, len, &text), message, len);
    return text;
}
