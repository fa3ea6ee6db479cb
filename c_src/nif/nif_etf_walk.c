/* nif_etf_walk.c -- does an encoded term hold together? Nothing is made. */
#include <errno.h>

#include "nif/nif_etf.h"

/* What the VM allows for the bytes of an integer, and for the words of a reference. */
enum { MAX_BIG_BYTES = 4 << 20, MAX_REFERENCE_WORDS = 5 };

struct walk {
    ErlNifEnv *env; /* to look atoms up; NULL: don't */
    const unsigned char *p, *end;
    uint64_t pending; /* terms that must still follow */
    bool unknown;     /* an atom that does not exist, or a fun: safe decoding may refuse them */
};

static size_t left(const struct walk *w) {
    return (size_t)(w->end - w->p);
}

static bool skip(struct walk *w, uint64_t bytes) {
    if (bytes > left(w)) return false;
    w->p += bytes;
    return true;
}

/* A number of `width` bytes. */
static bool get(struct walk *w, unsigned width, uint32_t *out) {
    if (left(w) < width) return false;
    *out = width == 1 ? *w->p : width == 2 ? etf_get16(w->p) : etf_get32(w->p);
    w->p += width;
    return true;
}

/* That many more terms, of at least one byte each. */
static bool expect(struct walk *w, uint64_t terms) {
    w->pending += terms;
    return w->pending <= left(w);
}

/* A length of `width` bytes, `fixed` bytes, and as many as the length says. */
static bool counted(struct walk *w, unsigned width, unsigned fixed, uint32_t most) {
    uint32_t len;
    return get(w, width, &len) && len <= most && skip(w, (uint64_t)fixed + len);
}

static bool children(struct walk *w, unsigned width, unsigned times, unsigned more, uint32_t most) {
    uint32_t n;
    return get(w, width, &n) && n <= most && expect(w, (uint64_t)n * times + more);
}

static bool atom(struct walk *w, unsigned tag) {
    uint32_t len;
    const bool utf8 = tag == ETF_ATOM_UTF8 || tag == ETF_SMALL_ATOM_UTF8;
    const unsigned width = tag == ETF_SMALL_ATOM || tag == ETF_SMALL_ATOM_UTF8 ? 1 : 2;
    if (!get(w, width, &len) || len > (utf8 ? ETF_ATOM_BYTES : 255) || len > left(w)) return false;
    ERL_NIF_TERM found;
    if (!w->env)
        ;
    else if (utf8)
        w->unknown |= etf_atom_decode(w->env, etf_atom_cache(), w->p, len, true, &found) == -EPERM;
    else
        w->unknown |=
            !enif_make_existing_atom_len(w->env, (const char *)w->p, len, &found, ERL_NIF_LATIN1);
    w->p += len;
    return true;
}

/* A node's name and what follows it. */
static bool node(struct walk *w, unsigned bytes) {
    uint32_t tag;
    if (!get(w, 1, &tag)) return false;
    if (tag != ETF_ATOM && tag != ETF_SMALL_ATOM && tag != ETF_ATOM_UTF8 &&
        tag != ETF_SMALL_ATOM_UTF8)
        return false;
    return atom(w, tag) && skip(w, bytes);
}

static bool reference(struct walk *w, unsigned creation_bytes) {
    uint32_t words;
    return get(w, 2, &words) && words > 0 && words <= MAX_REFERENCE_WORDS &&
           node(w, creation_bytes + 4 * words);
}

/* Its size, arity, uniq, index and number of free variables; then module, old index, old uniq, pid
 * and the free variables. */
static bool fun(struct walk *w) {
    uint32_t size, free_variables;
    w->unknown = true;
    return get(w, 4, &size) && skip(w, 1 + 16 + 4) && get(w, 4, &free_variables) &&
           expect(w, 4 + (uint64_t)free_variables);
}

static bool bits(struct walk *w) {
    uint32_t len, used;
    return get(w, 4, &len) && get(w, 1, &used) && used <= 8 && (len > 0 ? used > 0 : used == 0) &&
           skip(w, len);
}

static bool one(struct walk *w) {
    uint32_t tag;
    if (!get(w, 1, &tag)) return false;
    w->pending--;
    switch (tag) {
    case ETF_NIL:
        return true;
    case ETF_SMALL_INTEGER:
        return skip(w, 1);
    case ETF_INTEGER:
        return skip(w, 4);
    case ETF_SMALL_BIG:
        return counted(w, 1, 1, UINT32_MAX);
    case ETF_LARGE_BIG:
        return counted(w, 4, 1, MAX_BIG_BYTES);
    case ETF_FLOAT:
        return skip(w, 31);
    case ETF_NEW_FLOAT:
        return skip(w, 8);
    case ETF_ATOM:
    case ETF_SMALL_ATOM:
    case ETF_ATOM_UTF8:
    case ETF_SMALL_ATOM_UTF8:
        return atom(w, tag);
    case ETF_STRING:
        return counted(w, 2, 0, UINT32_MAX);
    case ETF_BINARY:
        return counted(w, 4, 0, UINT32_MAX);
    case ETF_BIT_BINARY:
        return bits(w);
    case ETF_SMALL_TUPLE:
        return children(w, 1, 1, 0, ETF_MAX_ARITY);
    case ETF_LARGE_TUPLE:
        return children(w, 4, 1, 0, ETF_MAX_ARITY);
    case ETF_LIST:
        return children(w, 4, 1, 1, UINT32_MAX);
    case ETF_MAP:
        return children(w, 4, 2, 0, UINT32_MAX);
    case ETF_PID:
        return node(w, 9);
    case ETF_NEW_PID:
        return node(w, 12);
    case ETF_PORT:
        return node(w, 5);
    case ETF_NEW_PORT:
        return node(w, 8);
    case ETF_V4_PORT:
        return node(w, 12);
    case ETF_REFERENCE:
        return node(w, 5);
    case ETF_NEW_REFERENCE:
        return reference(w, 1);
    case ETF_NEWER_REFERENCE:
        return reference(w, 4);
    case ETF_NEW_FUN:
        return fun(w);
    case ETF_EXPORT:
        w->unknown = true;
        return expect(w, 3);
    default: /* also what is compressed, and what a VM writes for itself only */
        return false;
    }
}

static bool whole(struct walk *w, const unsigned char *data, size_t len) {
    if (len < 2 || data[0] != ETF_VERSION) return false;
    w->p = data + 1;
    w->end = data + len;
    w->pending = 1;
    while (w->pending > 0)
        if (!one(w)) return false;
    return w->p == w->end;
}

int etf_walk(const unsigned char *data, size_t len) {
    struct walk w = {.env = NULL};
    return whole(&w, data, len) ? 0 : EMMAP_E_CORRUPT;
}

bool etf_walk_unsafe(ErlNifEnv *env, const unsigned char *data, size_t len) {
    struct walk w = {.env = env};
    return whole(&w, data, len) && w.unknown;
}
