/* nif_term.c -- terms in and out. */
#include <errno.h>
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

bool nif_buffer_new(ErlNifEnv *env, uint64_t len_bytes, struct nif_buffer *out) {
    out->len_bytes = len_bytes;
    out->is_large = len_bytes > NIF_NORMAL_BYTES;
    if (!out->is_large) {
        out->data = enif_make_new_binary(env, len_bytes, &out->small);
        return true;
    }
    if (!enif_alloc_binary(len_bytes, &out->large)) return false;
    out->data = out->large.data;
    return true;
}

ERL_NIF_TERM nif_buffer_term(ErlNifEnv *env, struct nif_buffer *buffer, uint64_t len_bytes) {
    const ERL_NIF_TERM whole =
        buffer->is_large ? enif_make_binary(env, &buffer->large) : buffer->small;
    return len_bytes == buffer->len_bytes ? whole : enif_make_sub_binary(env, whole, 0, len_bytes);
}

void nif_buffer_drop(struct nif_buffer *buffer) {
    if (buffer->is_large) enif_release_binary(&buffer->large);
}

ERL_NIF_TERM nif_read_error(ErlNifEnv *env, int rc) {
    nif_tried(env);
    return rc == EMMAP_E_PAST_END ? atoms.eof_ : nif_error(env, rc);
}

ERL_NIF_TERM nif_write_result(ErlNifEnv *env, int rc, uint64_t bytes) {
    if (rc == 0)
        nif_worked(env, bytes);
    else
        nif_tried(env);
    return rc == EMMAP_E_PAST_END ? nif_badarg(env, 2, atoms.past_end_) : nif_result(env, rc);
}

bool nif_get_name(ErlNifEnv *env, ERL_NIF_TERM term, char **out, ERL_NIF_TERM *why) {
    ErlNifBinary name;
    *why = atoms.not_a_binary_;
    if (!enif_inspect_binary(env, term, &name)) return false;
    *why = atoms.nul_;
    if (memchr(name.data, 0, name.size)) return false;
    char *copy = enif_alloc(name.size + 1);
    memcpy(copy, name.data, name.size);
    copy[name.size] = '\0';
    *out = copy;
    return true;
}
