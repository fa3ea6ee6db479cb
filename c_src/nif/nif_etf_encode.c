/* nif_etf_encode.c -- a term to its external format.
 *
 *          +---------------- a tuple, list or map that is begun: a frame ----------------+
 *          v                                                                             |
 *   encode one term --- complete ---> the next element of the last frame --- there is none: drop it
 *          ^                                     |
 *          +-------------------------------------+
 *
 * A frame is dropped when its last element is taken, not when that is encoded: so an element that
 * finds no frame is the last one of all. */
#include <errno.h>
#include <string.h>

#include "nif/nif_etf.h"

enum kind { TUPLE, LIST, PAIRS, VALUE };

struct frame {
    enum kind kind;
    uint32_t count; /* elements: of a tuple to come, of a list encoded */
    union {
        const ERL_NIF_TERM *elements;
        struct {
            ERL_NIF_TERM rest;
            size_t count_at; /* where its length goes, known at its end */
        } list;
        struct {
            ErlNifMapIterator next;
            ERL_NIF_TERM value;
        } map;
    } at;
};

struct encoder {
    ErlNifEnv *env;
    struct etf_buffer *out;
    struct etf_atom_cache *cache;
    unsigned char *stop; /* of the buffer */
    size_t begin;        /* of this term in the buffer */
    size_t limit_bytes, terms_left;
    int rc;
    bool dirty;
    unsigned depth;
    struct frame frames[ETF_DEPTH];
};

/* There is room for so much before each term: for all but binaries, strings and new atoms. */
enum { ONE_TERM = 64 };
_Static_assert((int)ETF_CACHED_BYTES <= (int)ONE_TERM, "an atom is copied whole");

/* ------------------------------------------------------------------------------------- the buffer
 *
 * What appends takes the place where it does so, and returns the place after it, or NULL after an
 * error: kept in a register, not in the buffer. */

static unsigned char *fail(struct encoder *e, int rc) {
    e->rc = rc;
    return NULL;
}

static unsigned char *grow(struct encoder *e, const unsigned char *p, size_t more) {
    struct etf_buffer *out = e->out;
    const size_t len = (size_t)(p - out->data);
    if (more > e->limit_bytes + ONE_TERM || len - e->begin > e->limit_bytes) return fail(e, -EFBIG);
    const size_t needed = len + more;
    if (!e->dirty && needed - e->begin > NIF_NORMAL_BYTES + ONE_TERM) return fail(e, -EAGAIN);
    const size_t cap = needed > out->cap * 2 ? needed : out->cap * 2;
    const bool is_small = out->data == out->small;
    unsigned char *data = is_small ? enif_alloc(cap) : enif_realloc(out->data, cap);
    if (!data) return fail(e, -ENOMEM);
    if (is_small) memcpy(data, out->small, len);
    out->data = data;
    out->cap = cap;
    e->stop = data + cap;
    return data + len;
}

static inline unsigned char *reserve(struct encoder *e, unsigned char *p, size_t more) {
    return (size_t)(e->stop - p) >= more ? p : grow(e, p, more);
}

static unsigned char *append(struct encoder *e, unsigned char *p, const unsigned char *data,
                             size_t len) {
    if (len > e->limit_bytes) return fail(e, -EFBIG);
    p = reserve(e, p, len + ONE_TERM);
    if (!p) return NULL;
    memcpy(p, data, len);
    return p + len;
}

/* ----------------------------------------------------------------------- one term without parts */

/* A subterm that is not coded here. Not where its size may be anything, on a normal scheduler. */
static unsigned char *by_vm(struct encoder *e, unsigned char *p, ERL_NIF_TERM term, bool bounded) {
    if (!e->dirty && !bounded) return fail(e, -EAGAIN);
    ErlNifBinary encoded;
    if (!enif_term_to_binary(e->env, term, &encoded)) return fail(e, -ENOMEM);
    p = append(e, p, encoded.data + 1, encoded.size - 1);
    enif_release_binary(&encoded);
    return p;
}

static unsigned char *put_big(unsigned char *p, uint64_t magnitude, bool negative) {
    unsigned n = 0;
    for (; magnitude; magnitude >>= 8)
        p[3 + n++] = (unsigned char)magnitude;
    p[0] = ETF_SMALL_BIG;
    p[1] = (unsigned char)n;
    p[2] = negative;
    return p + 3 + n;
}

static unsigned char *put_integer(struct encoder *e, unsigned char *p, ERL_NIF_TERM term) {
    ErlNifSInt64 value;
    ErlNifUInt64 large;
    if (enif_get_int64(e->env, term, &value)) {
        if (value >= 0 && value <= 255) {
            p[0] = ETF_SMALL_INTEGER;
            p[1] = (unsigned char)value;
            return p + 2;
        }
        if (value >= INT32_MIN && value <= INT32_MAX) {
            p[0] = ETF_INTEGER;
            etf_put32(p + 1, (uint32_t)value);
            return p + 5;
        }
        return put_big(p, value < 0 ? 0 - (uint64_t)value : (uint64_t)value, value < 0);
    }
    if (!enif_get_uint64(e->env, term, &large)) return by_vm(e, p, term, false);
    return put_big(p, large, false);
}

static unsigned char *put_float(struct encoder *e, unsigned char *p, ERL_NIF_TERM term) {
    double value;
    uint64_t bits;
    (void)enif_get_double(e->env, term, &value);
    memcpy(&bits, &value, sizeof bits);
    p[0] = ETF_NEW_FLOAT;
    etf_put32(p + 1, (uint32_t)(bits >> 32));
    etf_put32(p + 5, (uint32_t)bits);
    return p + 9;
}

/* One that this thread has not seen of late. */
static unsigned char *put_new_atom(struct encoder *e, unsigned char *p, ERL_NIF_TERM term) {
    p = reserve(e, p, ETF_ATOM_ROOM);
    if (!p) return NULL;
    const size_t used = etf_atom_encode(e->env, e->cache, term, p);
    return used ? p + used : fail(e, -ENOMEM);
}

static unsigned char *put_binary(struct encoder *e, unsigned char *p, ERL_NIF_TERM term) {
    ErlNifBinary binary;
    if (!enif_inspect_binary(e->env, term, &binary)) return by_vm(e, p, term, false);
    if (binary.size > e->limit_bytes) return fail(e, -EFBIG);
    p[0] = ETF_BINARY;
    etf_put32(p + 1, (uint32_t)binary.size);
    p += 5;
    if (e->depth > 0 || binary.size < e->out->tail_min)
        return append(e, p, binary.data, binary.size);
    e->out->tail = binary.data;
    e->out->tail_len = binary.size;
    return p;
}

/* ---------------------------------------------------------------------------- what has elements */

static unsigned char *begin_tuple(struct encoder *e, unsigned char *p, ERL_NIF_TERM term) {
    int arity;
    const ERL_NIF_TERM *elements;
    (void)enif_get_tuple(e->env, term, &arity, &elements);
    if (arity > 0) {
        if (e->depth == ETF_DEPTH) return by_vm(e, p, term, false);
        struct frame *f = &e->frames[e->depth++];
        f->kind = TUPLE;
        f->count = (uint32_t)arity;
        f->at.elements = elements;
    }
    if (arity <= 255) {
        p[0] = ETF_SMALL_TUPLE;
        p[1] = (unsigned char)arity;
        return p + 2;
    }
    p[0] = ETF_LARGE_TUPLE;
    etf_put32(p + 1, (uint32_t)arity);
    return p + 5;
}

/* A list of bytes as a string. NULL with rc 0: it is none, or too long. */
static unsigned char *put_string(struct encoder *e, unsigned char *p, ERL_NIF_TERM list) {
    const size_t at = (size_t)(p - e->out->data);
    ERL_NIF_TERM head, tail;
    size_t n = 0;
    p += 3;
    for (int value; enif_get_list_cell(e->env, list, &head, &tail); list = tail) {
        if (!enif_get_int(e->env, head, &value) || value < 0 || value > 255) return NULL;
        if (n++ == UINT16_MAX) return NULL;
        if (n > e->terms_left) return fail(e, -EAGAIN);
        p = reserve(e, p, ONE_TERM);
        if (!p) return NULL;
        *p++ = (unsigned char)value;
    }
    if (!enif_is_empty_list(e->env, list)) return NULL;
    e->terms_left -= n;
    unsigned char *header = e->out->data + at;
    header[0] = ETF_STRING;
    header[1] = (unsigned char)(n >> 8);
    header[2] = (unsigned char)n;
    return p;
}

static unsigned char *begin_list(struct encoder *e, unsigned char *p, ERL_NIF_TERM term) {
    if (enif_is_empty_list(e->env, term)) {
        *p = ETF_NIL;
        return p + 1;
    }
    const size_t at = (size_t)(p - e->out->data);
    p = put_string(e, p, term);
    if (p || e->rc) return p;
    p = e->out->data + at; /* it may have grown */
    if (e->depth == ETF_DEPTH) return by_vm(e, p, term, false);
    struct frame *f = &e->frames[e->depth++];
    f->kind = LIST;
    f->count = 0;
    f->at.list.rest = term;
    f->at.list.count_at = at + 1;
    *p = ETF_LIST;
    return p + 5;
}

static unsigned char *begin_map(struct encoder *e, unsigned char *p, ERL_NIF_TERM term) {
    size_t size;
    (void)enif_get_map_size(e->env, term, &size);
    if (size > e->limit_bytes) return fail(e, -EFBIG);
    if (size > 0) {
        if (e->depth == ETF_DEPTH) return by_vm(e, p, term, false);
        struct frame *f = &e->frames[e->depth];
        if (!enif_map_iterator_create(e->env, term, &f->at.map.next, ERL_NIF_MAP_ITERATOR_FIRST))
            return fail(e, -ENOMEM);
        f->kind = PAIRS;
        f->count = (uint32_t)size;
        e->depth++;
    }
    p[0] = ETF_MAP;
    etf_put32(p + 1, (uint32_t)size);
    return p + 5;
}

/* The next element of what is begun; false: all is encoded. */
static bool next_term(struct encoder *e, ERL_NIF_TERM *term) {
    if (e->depth == 0) return false;
    struct frame *f = &e->frames[e->depth - 1];
    ERL_NIF_TERM rest;
    switch (f->kind) {
    case TUPLE:
        *term = *f->at.elements++;
        if (--f->count == 0) e->depth--;
        break;
    case LIST:
        if (enif_get_list_cell(e->env, f->at.list.rest, term, &rest)) {
            f->at.list.rest = rest;
            f->count++;
        } else { /* [], or the tail of an improper list */
            etf_put32(e->out->data + f->at.list.count_at, f->count);
            *term = f->at.list.rest;
            e->depth--;
        }
        break;
    case PAIRS:
        (void)enif_map_iterator_get_pair(e->env, &f->at.map.next, term, &f->at.map.value);
        f->kind = VALUE;
        break;
    case VALUE:
        *term = f->at.map.value;
        f->kind = PAIRS;
        if (--f->count > 0) {
            (void)enif_map_iterator_next(e->env, &f->at.map.next);
        } else {
            enif_map_iterator_destroy(e->env, &f->at.map.next);
            e->depth--;
        }
        break;
    }
    return true;
}

/* After an error. */
static void drop_frames(struct encoder *e) {
    while (e->depth > 0) {
        struct frame *f = &e->frames[--e->depth];
        if (f->kind == PAIRS || f->kind == VALUE)
            enif_map_iterator_destroy(e->env, &f->at.map.next);
    }
}

/* ------------------------------------------------------------------------------------------- all */

static unsigned char *encode_one(struct encoder *e, unsigned char *p, ERL_NIF_TERM term) {
    const struct etf_cached_atom *atom = etf_atom_cached(e->cache, term);
    if (atom) {
        memcpy(p, atom->bytes, ETF_CACHED_BYTES);
        return p + atom->used;
    }
    switch (enif_term_type(e->env, term)) {
    case ERL_NIF_TERM_TYPE_ATOM:
        return put_new_atom(e, p, term);
    case ERL_NIF_TERM_TYPE_BITSTRING:
        return put_binary(e, p, term);
    case ERL_NIF_TERM_TYPE_FLOAT:
        return put_float(e, p, term);
    case ERL_NIF_TERM_TYPE_INTEGER:
        return put_integer(e, p, term);
    case ERL_NIF_TERM_TYPE_LIST:
        return begin_list(e, p, term);
    case ERL_NIF_TERM_TYPE_MAP:
        return begin_map(e, p, term);
    case ERL_NIF_TERM_TYPE_TUPLE:
        return begin_tuple(e, p, term);
    case ERL_NIF_TERM_TYPE_PID:
    case ERL_NIF_TERM_TYPE_PORT:
    case ERL_NIF_TERM_TYPE_REFERENCE:
        return by_vm(e, p, term, true);
    default:
        return by_vm(e, p, term, false);
    }
}

static unsigned char *encode_all(struct encoder *e, unsigned char *p, ERL_NIF_TERM term) {
    do {
        if (e->terms_left-- == 0) return fail(e, -EAGAIN);
        p = reserve(e, p, ONE_TERM);
        if (p) p = encode_one(e, p, term);
        if (!p) return NULL;
    } while (next_term(e, &term));
    const size_t len = (size_t)(p - e->out->data) - e->begin;
    if (len > e->limit_bytes || e->out->tail_len > e->limit_bytes - len) return fail(e, -EFBIG);
    return p;
}

int etf_encode(ErlNifEnv *env, ERL_NIF_TERM term, size_t limit_bytes, bool dirty,
               struct etf_buffer *out) {
    struct encoder e; /* its frames are set as they are used */
    e.env = env;
    e.out = out;
    e.cache = etf_atom_cache();
    e.stop = out->data + out->cap;
    e.begin = out->len;
    e.limit_bytes = limit_bytes < UINT32_MAX ? limit_bytes : UINT32_MAX; /* no count overflows */
    e.terms_left = dirty ? SIZE_MAX : ETF_NORMAL_TERMS;
    e.rc = 0;
    e.dirty = dirty;
    e.depth = 0;
    unsigned char *p = reserve(&e, out->data + out->len, ONE_TERM);
    if (p) {
        *p = ETF_VERSION;
        p = encode_all(&e, p + 1, term);
    }
    if (p) {
        out->len = (size_t)(p - out->data);
    } else {
        drop_frames(&e);
        out->tail_len = 0;
    }
    return e.rc;
}
