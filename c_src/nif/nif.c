/* nif.c -- loading, and the table of functions with the scheduler that each runs on. */
#include "nif/nif.h"
#include "nif/nif_etf.h"

#include "core/runtime.h"

/* What an older copy of the library leaves to a newer one at a hot upgrade. Raised with every
 * change of a resource's layout, or of what it points to; the runtime has a number of its own. */
enum { NIF_ABI = 2 };
struct nif_private {
    uint32_t abi;
    struct runtime *runtime;
};
static struct nif_private own;

struct atoms atoms;

static int prepare(ErlNifEnv *env) {
#define ATOM_MAKE(name) atoms.name##_ = enif_make_atom(env, #name);
    ATOMS(ATOM_MAKE)
#undef ATOM_MAKE
#define FIGURE_MAKE(id, name, type, unit, help) \
    atoms.figures[EMMAP_FIGURE_##id] = enif_make_atom(env, #name);
    EMMAP_FIGURES(FIGURE_MAKE)
#undef FIGURE_MAKE
    atoms.number_1 = enif_make_int(env, 1);
    int rc = nif_file_open_types(env);
    if (rc == 0) rc = nif_queue_open_types(env);
    if (rc == 0) rc = nif_counters_open_types(env);
    return rc;
}

static int load(ErlNifEnv *env, void **priv_data, ERL_NIF_TERM info) {
    (void)info;
    own = (struct nif_private){.abi = NIF_ABI, .runtime = runtime_get()};
    *priv_data = &own;
    return prepare(env);
}

/* The handles of the old copy live on under the new one's code. The old code stays mapped, since
 * its fault handler and its thread serve both. A copy with another layout is refused: the old one
 * goes on, and the new one is loaded after a restart. */
static int upgrade(ErlNifEnv *env, void **priv_data, void **old_priv_data, ERL_NIF_TERM info) {
    (void)info;
    const struct nif_private *old = *old_priv_data;
    if (old->abi != NIF_ABI || !runtime_adopt(old->runtime)) return -1;
    own = (struct nif_private){.abi = NIF_ABI, .runtime = runtime_get()};
    *priv_data = &own;
    return prepare(env);
}

/* Without it the VM would not let the module be upgraded. Nothing is given back: see above. */
static void unload(ErlNifEnv *env, void *priv_data) {
    (void)env, (void)priv_data;
}

static ErlNifFunc functions[] = {
#define NIF_ENTRY(name, arity, flags) {#name, arity, nif_##name##_##arity, flags},
    NIF_FILE_CALLS(NIF_ENTRY) NIF_ETF_CALLS(NIF_ENTRY) NIF_QUEUE_CALLS(NIF_ENTRY)
        NIF_COUNTERS_CALLS(NIF_ENTRY) NIF_ENTRY(error_message, 1, 0)
#undef NIF_ENTRY
};

ERL_NIF_INIT(emmap_nif, functions, load, NULL, upgrade, unload)
