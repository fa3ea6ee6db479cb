/* nif_simple_counters.c -- files of simple counters for Erlang. */
#include "nif/nif.h"

/* simple_counters_open(Name, Count) -> {ok, Handle, Count} */
ERL_NIF_TERM nif_simple_counters_open_2(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    uint64_t count, found;
    ERL_NIF_TERM why;
    char *name;
    if (nif_get_uint64(env, argv[1], &count) != NIF_INTEGER)
        return nif_badarg(env, 2, atoms.not_a_count_);
    if (!nif_get_name(env, argv[0], &name, &why)) return nif_badarg(env, 1, why);
    struct emmap_file *file;
    const int rc = emmap_simple_counters_open(&file, name, count, &found);
    enif_free(name);
    if (rc) return nif_error(env, rc);
    return enif_make_tuple3(env, atoms.ok_, nif_new_handle(env, file),
                            enif_make_uint64(env, found));
}
