/* nif_counters_text.c -- all counters as text, for Erlang. */
#include <errno.h>
#include <string.h>

#include "nif/nif.h"

enum { FIRST_BYTES = 16 << 10 };

struct text {
    ErlNifBinary binary; /* with room behind the text */
    size_t len_bytes;
};

static int put(void *ctx, const char *text, size_t len_bytes) {
    struct text *t = ctx;
    if (t->binary.size - t->len_bytes < len_bytes &&
        !enif_realloc_binary(&t->binary, 2 * t->binary.size + len_bytes))
        return -ENOMEM;
    memcpy(t->binary.data + t->len_bytes, text, len_bytes);
    t->len_bytes += len_bytes;
    return 0;
}

/* counters_text(Handle) -> {ok, Binary} */
ERL_NIF_TERM nif_counters_text_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    struct emmap_counters *counters = nif_get_counters(env, argv[0]);
    if (!counters) return nif_badarg(env, 1, atoms.no_counters_);
    struct text text = {.len_bytes = 0};
    if (!enif_alloc_binary(FIRST_BYTES, &text.binary)) return nif_error(env, -ENOMEM);
    int rc = emmap_counters_text(counters, put, &text);
    if (rc == 0 && !enif_realloc_binary(&text.binary, text.len_bytes)) rc = -ENOMEM;
    if (rc) {
        enif_release_binary(&text.binary);
        return nif_error(env, rc);
    }
    nif_worked(env, text.len_bytes);
    return nif_ok(env, enif_make_binary(env, &text.binary));
}
