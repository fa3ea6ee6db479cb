/* nif_options.c -- the options of open/2,4. */
#include <string.h>

#include "nif/nif.h"

/* What the list says, before it is looked at as a whole. */
struct parsed {
    struct nif_open_options *out;
    bool private, lock, fixed;
    uint64_t size;
};

static const struct {
    const char *name;
    uint32_t flag;
} flag_options[] = {
    {"read", 0}, /* implied */
    {"write", EMMAP_WRITE},
    {"create", EMMAP_CREATE},
    {"truncate", EMMAP_TRUNCATE},
    {"shared", EMMAP_SHARED},
    {"fit", EMMAP_FIT},
    {"fixed_size", EMMAP_FIXED_SIZE},
    {"auto_unlink", EMMAP_AUTO_UNLINK},
    {"sparse", EMMAP_SPARSE},
    {"force", EMMAP_FORCE},
    {"extend", EMMAP_EXTEND},
    {"nolock", EMMAP_NOLOCK},
    {"nofollow", EMMAP_NOFOLLOW},
    {"lock_memory", EMMAP_LOCK_MEMORY},
    {"anon", EMMAP_ANON},
    {"populate", EMMAP_POPULATE},
    {"nonblock", EMMAP_NONBLOCK},
    {"shared_validate", EMMAP_SHARED | EMMAP_SHARED_VALIDATE},
    {"sync", EMMAP_SYNC},
    {"noreserve", EMMAP_NORESERVE},
    {"nocache", EMMAP_NOCACHE},
    {"uninitialized", EMMAP_UNINITIALIZED},
    {"hugetlb", EMMAP_HUGETLB},
    {"huge_2mb", EMMAP_HUGE_2MB},
    {"huge_1gb", EMMAP_HUGE_1GB},
};

static void take_size(struct parsed *p, uint64_t value) {
    p->size = value;
}

static void take_max_inc_size(struct parsed *p, uint64_t value) {
    p->out->file.max_inc_bytes = value;
}

static void take_chmod(struct parsed *p, uint64_t value) {
    p->out->file.mode = (uint32_t)value;
}

static void take_address(struct parsed *p, uint64_t value) {
    p->out->file.flags |= EMMAP_AT;
    p->out->file.address = value;
}

static void take_address_space(struct parsed *p, uint64_t value) {
    p->out->file.address_space_bytes = value;
}

static const struct {
    const char *name;
    uint64_t least, most;
    void (*take)(struct parsed *p, uint64_t value);
} value_options[] = {
    {"size", 0, INT64_MAX, take_size},
    {"max_inc_size", 1, INT64_MAX, take_max_inc_size},
    {"chmod", 1, 07777, take_chmod},
    {"address", 1, INT64_MAX, take_address},
    {"address_space", 1, INT64_MAX, take_address_space},
};

enum outcome { TAKEN, UNKNOWN, BAD_VALUE };

static enum outcome flag_option(const char *name, struct parsed *p) {
    if (strcmp(name, "direct") == 0) return p->out->direct = true, TAKEN;
    if (strcmp(name, "private") == 0) return p->private = true, TAKEN;
    if (strcmp(name, "lock") == 0) return p->lock = true, TAKEN;
    if (strcmp(name, "fixed") == 0) return p->fixed = true, TAKEN;
    if (strcmp(name, "debug") == 0) return p->out->debug = true, TAKEN;
    for (size_t i = 0; i < sizeof flag_options / sizeof *flag_options; i++) {
        if (strcmp(name, flag_options[i].name) != 0) continue;
        p->out->file.flags |= flag_options[i].flag;
        return TAKEN;
    }
    return UNKNOWN;
}

static enum outcome value_option(ErlNifEnv *env, const char *name, ERL_NIF_TERM term,
                                 struct parsed *p) {
    for (size_t i = 0; i < sizeof value_options / sizeof *value_options; i++) {
        if (strcmp(name, value_options[i].name) != 0) continue;
        uint64_t value;
        if (nif_get_uint64(env, term, &value) != NIF_INTEGER) return BAD_VALUE;
        if (value < value_options[i].least || value > value_options[i].most) return BAD_VALUE;
        value_options[i].take(p, value);
        return TAKEN;
    }
    return UNKNOWN;
}

static enum outcome take_option(ErlNifEnv *env, ERL_NIF_TERM option, struct parsed *p) {
    char name[32];
    int arity;
    const ERL_NIF_TERM *element;
    if (enif_get_atom(env, option, name, sizeof name, ERL_NIF_LATIN1) > 0)
        return flag_option(name, p);
    if (enif_get_tuple(env, option, &arity, &element) && arity == 2 &&
        enif_get_atom(env, element[0], name, sizeof name, ERL_NIF_LATIN1) > 0)
        return value_option(env, name, element[1], p);
    return UNKNOWN;
}

static bool exclude(ErlNifEnv *env, bool both, const char *a, const char *b, ERL_NIF_TERM *why) {
    if (both) *why = enif_make_tuple3(env, atoms.exclude_, nif_atom(env, a), nif_atom(env, b));
    return both;
}

static bool needs(ErlNifEnv *env, bool lacks, const char *a, const char *b, ERL_NIF_TERM *why) {
    if (lacks) *why = enif_make_tuple3(env, atoms.needs_, nif_atom(env, a), nif_atom(env, b));
    return lacks;
}

/* Options that cannot stand together, or not alone. */
static bool agree(ErlNifEnv *env, const struct parsed *p, ERL_NIF_TERM *why) {
    const uint32_t f = p->out->file.flags;
    if (exclude(env, (f & EMMAP_SHARED) && p->private, "shared", "private", why) ||
        exclude(env, (f & EMMAP_NOLOCK) && p->lock, "lock", "nolock", why) ||
        exclude(env, (f & EMMAP_HUGE_2MB) && (f & EMMAP_HUGE_1GB), "huge_2mb", "huge_1gb", why) ||
        exclude(env, (f & EMMAP_POPULATE) && (f & EMMAP_SPARSE), "populate", "sparse", why) ||
        needs(env, (f & EMMAP_TRUNCATE) && !(f & EMMAP_WRITE), "truncate", "write", why) ||
        needs(env, (f & EMMAP_EXTEND) && !(f & EMMAP_WRITE), "extend", "write", why) ||
        needs(env, (f & EMMAP_SYNC) && !(f & EMMAP_SHARED_VALIDATE), "sync", "shared_validate",
              why) ||
        needs(env, p->fixed && !(f & EMMAP_AT), "fixed", "address", why))
        return false;
    if (p->size > 0 && p->out->file.len_bytes > 0 && p->size != p->out->file.len_bytes) {
        *why = atoms.size_differs_;
        return false;
    }
    return true;
}

bool nif_get_open_options(ErlNifEnv *env, ERL_NIF_TERM list, struct nif_open_options *out,
                          ERL_NIF_TERM *why) {
    struct parsed p = {.out = out};
    ERL_NIF_TERM option;
    while (enif_get_list_cell(env, list, &option, &list)) {
        const enum outcome outcome = take_option(env, option, &p);
        if (outcome != TAKEN) {
            *why = enif_make_tuple2(env, outcome == UNKNOWN ? atoms.option_ : atoms.value_, option);
            return false;
        }
    }
    if (!enif_is_empty_list(env, list)) {
        *why = atoms.not_a_list_;
        return false;
    }
    if (!agree(env, &p, why)) return false;
    if (p.size > 0) out->file.len_bytes = p.size;
    return true;
}
