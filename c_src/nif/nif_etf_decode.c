/* nif_etf_decode.c -- a term from its external format.
 *
 * Each term that is complete becomes the next value. A tuple, list or map that is begun is a frame:
 * how many values it still waits for, and where its first one stands. With its last one it is made,
 * takes their place as one value, and may complete the frame before it.
 *
 *   frames   {tuple, 1 to come, from 0}  {list, 2 to come, from 2}
 *   values   order  12345                a
 */
#include <errno.h>
#include <string.h>

#include "nif/nif_etf.h"

/* What is not coded here, or too deep: the VM decodes the whole term. */
enum { BY_VM = 1 };

/* A longer binary becomes a part of the binary that it comes in; the VM makes a shorter one a heap
 * binary. */
enum { HEAP_BINARY_BYTES = 64 };

/* The values that wait on the C stack; more are allocated. */
enum { FEW_VALUES = 128 };

enum kind { TUPLE, LIST, MAP };

struct frame {
    enum kind kind;
    uint32_t to_come;
    size_t from;
};

struct decoder {
    ErlNifEnv *env;
    struct etf_atom_cache *cache;
    const unsigned char *begin, *p, *end;
    ERL_NIF_TERM binary; /* that the bytes lie in, if is_binary: begin is at off */
    size_t off;
    bool is_binary, safe;
    size_t terms_left; /* that may be decoded here */
    unsigned depth;
    uint64_t pending; /* terms that must still follow */
    size_t count, cap;
    ERL_NIF_TERM *values;
    struct frame frames[ETF_DEPTH];
    ERL_NIF_TERM few[FEW_VALUES];
};

static inline size_t left(const struct decoder *d) {
    return (size_t)(d->end - d->p);
}

/* Room for so many values more. */
static int reserve(struct decoder *d, size_t more) {
    if (d->cap - d->count >= more) return 0;
    size_t cap = d->cap * 2;
    if (cap < d->count + more) cap = d->count + more;
    ERL_NIF_TERM *values = d->values == d->few ? enif_alloc(cap * sizeof *values)
                                               : enif_realloc(d->values, cap * sizeof *values);
    if (!values) return -ENOMEM;
    if (d->values == d->few) memcpy(values, d->few, d->count * sizeof *values);
    d->values = values;
    d->cap = cap;
    return 0;
}

/* ------------------------------------------------------------------------- one term without parts */

static int get_atom(struct decoder *d, unsigned length_bytes, ERL_NIF_TERM *out) {
    if (left(d) < length_bytes) return EMMAP_E_CORRUPT;
    const size_t len = length_bytes == 1 ? d->p[0] : etf_get16(d->p);
    d->p += length_bytes;
    if (left(d) < len) return EMMAP_E_CORRUPT;
    const unsigned char *name = d->p;
    d->p += len;
    return etf_atom_decode(d->env, d->cache, name, len, d->safe, out);
}

static int get_float(struct decoder *d, ERL_NIF_TERM *out) {
    if (left(d) < 8) return EMMAP_E_CORRUPT;
    const uint64_t bits = (uint64_t)etf_get32(d->p) << 32 | etf_get32(d->p + 4);
    d->p += 8;
    if ((bits >> 52 & 0x7ff) == 0x7ff) return EMMAP_E_CORRUPT; /* Erlang knows numbers only */
    double value;
    memcpy(&value, &bits, sizeof value);
    *out = enif_make_double(d->env, value);
    return 0;
}

static int get_big(struct decoder *d, ERL_NIF_TERM *out) {
    if (left(d) < 2) return EMMAP_E_CORRUPT;
    const unsigned n = d->p[0];
    const bool negative = d->p[1];
    d->p += 2;
    if (left(d) < n) return EMMAP_E_CORRUPT;
    if (n > 8) return BY_VM;
    uint64_t magnitude = 0;
    for (unsigned i = 0; i < n; i++)
        magnitude |= (uint64_t)d->p[i] << 8 * i;
    d->p += n;
    if (!negative)
        *out = enif_make_uint64(d->env, magnitude);
    else if (magnitude <= INT64_MAX)
        *out = enif_make_int64(d->env, -(int64_t)magnitude);
    else
        return BY_VM;
    return 0;
}

static int get_binary(struct decoder *d, ERL_NIF_TERM *out) {
    if (left(d) < 4) return EMMAP_E_CORRUPT;
    const size_t len = etf_get32(d->p);
    d->p += 4;
    if (left(d) < len) return EMMAP_E_CORRUPT;
    if (len > HEAP_BINARY_BYTES && d->is_binary) {
        *out = enif_make_sub_binary(d->env, d->binary, d->off + (size_t)(d->p - d->begin), len);
    } else {
        unsigned char *data = enif_make_new_binary(d->env, len, out);
        if (!data) return -ENOMEM;
        memcpy(data, d->p, len);
    }
    d->p += len;
    return 0;
}

static int get_string(struct decoder *d, ERL_NIF_TERM *out) {
    if (left(d) < 2) return EMMAP_E_CORRUPT;
    const size_t len = etf_get16(d->p);
    d->p += 2;
    if (left(d) < len) return EMMAP_E_CORRUPT;
    if (len / 8 > d->terms_left) return -EAGAIN;
    d->terms_left -= len / 8; /* a byte takes less than a term */
    const int rc = reserve(d, len);
    if (rc) return rc;
    ERL_NIF_TERM *chars = d->values + d->count;
    for (size_t i = 0; i < len; i++)
        chars[i] = enif_make_uint(d->env, d->p[i]);
    d->p += len;
    *out = enif_make_list_from_array(d->env, chars, (unsigned)len);
    return 0;
}

/* ----------------------------------------------------------------------------- what has elements */

/* n terms of at least a byte each follow: checked before room is made for them. */
static int begin(struct decoder *d, enum kind kind, uint64_t n) {
    d->pending += n;
    if (d->pending > left(d)) return EMMAP_E_CORRUPT;
    if (n > UINT32_MAX || d->depth == ETF_DEPTH) return BY_VM;
    const int rc = reserve(d, (size_t)n);
    if (rc) return rc;
    d->frames[d->depth++] = (struct frame){.kind = kind, .to_come = (uint32_t)n, .from = d->count};
    return 0;
}

static ERL_NIF_TERM make_list(ErlNifEnv *env, const ERL_NIF_TERM *values, size_t n,
                              ERL_NIF_TERM tail) {
    if (n <= UINT32_MAX && enif_is_empty_list(env, tail))
        return enif_make_list_from_array(env, values, (unsigned)n);
    while (n > 0)
        tail = enif_make_list_cell(env, values[--n], tail);
    return tail;
}

/* Keys and values alternate; the VM wants them apart. */
static int make_map(struct decoder *d, size_t from, size_t pairs, ERL_NIF_TERM *out) {
    const int rc = reserve(d, 2 * pairs);
    if (rc) return rc;
    ERL_NIF_TERM *keys = d->values + d->count, *values = keys + pairs;
    for (size_t i = 0; i < pairs; i++) {
        keys[i] = d->values[from + 2 * i];
        values[i] = d->values[from + 2 * i + 1];
    }
    size_t size; /* a large map is made although a key is there twice */
    return enif_make_map_from_arrays(d->env, keys, values, pairs, out) &&
                   enif_get_map_size(d->env, *out, &size) && size == pairs
               ? 0
               : EMMAP_E_CORRUPT;
}

static int make(struct decoder *d, const struct frame *f, ERL_NIF_TERM *out) {
    ERL_NIF_TERM *values = d->values + f->from;
    const size_t n = d->count - f->from;
    int rc = 0;
    switch (f->kind) {
    case TUPLE:
        *out = enif_make_tuple_from_array(d->env, values, (unsigned)n);
        break;
    case LIST:
        *out = make_list(d->env, values, n - 1, values[n - 1]);
        break;
    case MAP:
        rc = make_map(d, f->from, n / 2, out);
        break;
    }
    d->count = f->from;
    return rc;
}

/* ------------------------------------------------------------------------------------------- all */

static int begin_tuple(struct decoder *d, unsigned arity_bytes, bool *begun, ERL_NIF_TERM *out) {
    if (left(d) < arity_bytes) return EMMAP_E_CORRUPT;
    const uint32_t n = arity_bytes == 1 ? d->p[0] : etf_get32(d->p);
    d->p += arity_bytes;
    if (n > ETF_MAX_ARITY) return EMMAP_E_CORRUPT;
    *begun = n > 0;
    if (n > 0) return begin(d, TUPLE, n);
    *out = enif_make_tuple(d->env, 0);
    return 0;
}

static int begin_list(struct decoder *d, bool *begun) {
    if (left(d) < 4) return EMMAP_E_CORRUPT;
    const uint32_t n = etf_get32(d->p);
    d->p += 4;
    *begun = true;
    return begin(d, LIST, (uint64_t)n + 1);
}

static int begin_map(struct decoder *d, bool *begun, ERL_NIF_TERM *out) {
    if (left(d) < 4) return EMMAP_E_CORRUPT;
    const uint32_t n = etf_get32(d->p);
    d->p += 4;
    *begun = n > 0;
    if (n > 0) return begin(d, MAP, (uint64_t)n * 2);
    *out = enif_make_new_map(d->env);
    return 0;
}

/* A complete term in *out, or a frame if *begun. */
static int decode_one(struct decoder *d, bool *begun, ERL_NIF_TERM *out) {
    if (d->p == d->end) return EMMAP_E_CORRUPT;
    const unsigned tag = *d->p++;
    d->pending--;
    *begun = false;
    switch (tag) {
    case ETF_SMALL_INTEGER:
        if (left(d) < 1) return EMMAP_E_CORRUPT;
        *out = enif_make_uint(d->env, *d->p++);
        return 0;
    case ETF_INTEGER:
        if (left(d) < 4) return EMMAP_E_CORRUPT;
        *out = enif_make_int(d->env, (int32_t)etf_get32(d->p));
        d->p += 4;
        return 0;
    case ETF_SMALL_BIG:
        return get_big(d, out);
    case ETF_NEW_FLOAT:
        return get_float(d, out);
    case ETF_SMALL_ATOM_UTF8:
        return get_atom(d, 1, out);
    case ETF_ATOM_UTF8:
        return get_atom(d, 2, out);
    case ETF_BINARY:
        return get_binary(d, out);
    case ETF_NIL:
        *out = enif_make_list(d->env, 0);
        return 0;
    case ETF_STRING:
        return get_string(d, out);
    case ETF_LIST:
        return begin_list(d, begun);
    case ETF_SMALL_TUPLE:
        return begin_tuple(d, 1, begun, out);
    case ETF_LARGE_TUPLE:
        return begin_tuple(d, 4, begun, out);
    case ETF_MAP:
        return begin_map(d, begun, out);
    default:
        return BY_VM;
    }
}

static int decode_all(struct decoder *d, ERL_NIF_TERM *out) {
    ERL_NIF_TERM term = 0;
    do {
        bool begun;
        if (d->terms_left-- == 0) return -EAGAIN;
        int rc = decode_one(d, &begun, &term);
        if (rc) return rc;
        if (begun) continue;
        while (d->depth > 0) {
            struct frame *f = &d->frames[d->depth - 1];
            d->values[d->count++] = term;
            if (--f->to_come > 0) break;
            rc = make(d, f, &term);
            if (rc) return rc;
            d->depth--;
        }
    } while (d->depth > 0);
    if (d->p != d->end) return EMMAP_E_CORRUPT;
    *out = term;
    return 0;
}

/* Only what holds together, and is private: the VM measures in one pass and fills in a second. */
static int decode_by_vm(ErlNifEnv *env, const unsigned char *data, size_t len, bool safe,
                        ERL_NIF_TERM *out) {
    const int rc = etf_walk(data, len);
    if (rc) return rc;
    const size_t used = enif_binary_to_term(env, data, len, out, safe ? ERL_NIF_BIN2TERM_SAFE : 0);
    if (used == len) return 0;
    return safe && used == 0 && etf_walk_unsafe(env, data, len) ? -EPERM : EMMAP_E_CORRUPT;
}

static int decode(struct decoder *d, const unsigned char *data, size_t len, unsigned flags,
                  ERL_NIF_TERM *out) {
    if (len < 2 || data[0] != ETF_VERSION) return EMMAP_E_CORRUPT;
    const bool bounded = len > ETF_SHORT_BYTES && !(flags & ETF_DIRTY);
    d->cache = etf_atom_cache();
    d->begin = data;
    d->p = data + 1;
    d->end = data + len;
    d->safe = flags & ETF_SAFE;
    d->terms_left = bounded ? ETF_SHORT_TERMS : SIZE_MAX;
    d->depth = 0;
    d->pending = 1;
    d->count = 0;
    d->cap = FEW_VALUES;
    d->values = d->few;
    int rc = decode_all(d, out);
    if (d->values != d->few) enif_free(d->values);
    if (rc != BY_VM && rc != -EPERM) return rc;
    if (bounded) return -EAGAIN;
    if (rc == BY_VM) return decode_by_vm(d->env, data, len, d->safe, out);
    return etf_walk(data, len) ? EMMAP_E_CORRUPT : -EPERM; /* the rest may not be sound */
}

int etf_decode(ErlNifEnv *env, const unsigned char *data, size_t len, unsigned flags,
               ERL_NIF_TERM *out) {
    struct decoder d; /* its values and frames are set as they are used */
    d.env = env;
    d.is_binary = false;
    return decode(&d, data, len, flags, out);
}

int etf_decode_binary(ErlNifEnv *env, ERL_NIF_TERM binary, size_t off, const unsigned char *data,
                      size_t len, unsigned flags, ERL_NIF_TERM *out) {
    struct decoder d;
    d.env = env;
    d.is_binary = true;
    d.binary = binary;
    d.off = off;
    return decode(&d, data, len, flags, out);
}
