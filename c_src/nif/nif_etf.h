/* nif_etf.h -- terms to and from Erlang's external term format, without a detour through the VM.
 *
 * What is common is coded here: integers of 64 bits, floats, atoms, binaries, lists, tuples, maps.
 * Of the rest the encoder has the VM encode that one subterm, and the decoder has the VM decode the
 * whole term. The bytes are those of term_to_binary with {minor_version, 2}, except for the order
 * of a map's pairs. */
#ifndef EMMAP_NIF_ETF_H
#define EMMAP_NIF_ETF_H

#include "nif/nif.h"

/* On a normal scheduler the encoder visits no more subterms than this: some 50 us. */
enum { ETF_NORMAL_TERMS = 2000 };

/* A binary of this size that ends a term is not copied: see tail. */
enum { ETF_TAIL_BYTES = 1024 };

/* Room for encoded terms: small, then allocated. Too large to be cleared at each call: see init. */
struct etf_buffer {
    unsigned char *data;
    size_t len, cap;
    const unsigned char *tail; /* follows data: the last bytes of the last term, which lie in it */
    size_t tail_len;           /* 0: there is none */
    size_t tail_min;           /* binaries of this size make a tail; SIZE_MAX: all are copied */
    unsigned char small[4096];
};

static inline void etf_buffer_init(struct etf_buffer *buffer) {
    buffer->data = buffer->small;
    buffer->len = buffer->tail_len = 0;
    buffer->cap = sizeof buffer->small;
    buffer->tail = NULL;
    buffer->tail_min = ETF_TAIL_BYTES;
}

static inline void etf_buffer_fini(struct etf_buffer *buffer) {
    if (buffer->data != buffer->small) enif_free(buffer->data);
}

/* etf_encode -- append a term, with the leading 131
 *
 *   limit_bytes  for this term, its tail included
 *   dirty        on a dirty scheduler: as long as it takes
 *   out          init'ed, without a tail; its tail is valid as long as the term. After an error
 *                its len is as before; it may have grown.
 *
 * Returns  0 | -EFBIG (beyond limit_bytes, or beyond what the format can say)
 *          | -EAGAIN (not dirty, and more than NIF_NORMAL_BYTES, the tail not counted, more than
 *          ETF_NORMAL_TERMS, or a subterm that only the VM can encode, of unknown size: call it
 *          again on a dirty scheduler) | -ENOMEM
 */
int etf_encode(ErlNifEnv *env, ERL_NIF_TERM term, size_t limit_bytes, bool dirty,
               struct etf_buffer *out);

/* How etf_decode may work. */
enum {
    ETF_SAFE = 1, /* make no atom, and no fun that the VM thinks unsafe */
    ETF_DIRTY = 2 /* on a dirty scheduler: as long as it takes */
};

/* Not dirty: so many bytes are decoded in any case, in less than half a millisecond; longer data of
 * more terms than that, or that the VM must decode, is not. */
enum { ETF_SHORT_BYTES = 8 << 10, ETF_SHORT_TERMS = 4000 };

/* etf_decode -- the term that these bytes are, all of them
 *
 *   data   private memory: nobody changes it during the call
 *   flags  ETF_SAFE, ETF_DIRTY
 *
 * Returns  0 | EMMAP_E_CORRUPT (malformed, more bytes than the term, compressed)
 *          | -EPERM (sound, but not safe) | -EAGAIN (not dirty, see above) | -ENOMEM
 */
int etf_decode(ErlNifEnv *env, const unsigned char *data, size_t len, unsigned flags,
               ERL_NIF_TERM *out);

/* The same for the bytes of `binary` from `off` on, which lie at data: binaries of more than 64
 * bytes in the result are parts of it, not copies, and keep it. */
int etf_decode_binary(ErlNifEnv *env, ERL_NIF_TERM binary, size_t off, const unsigned char *data,
                      size_t len, unsigned flags, ERL_NIF_TERM *out);

/* ------------------------------------------------------------------------- within the codec */

enum etf_tag {
    ETF_VERSION = 131,
    ETF_NEW_FLOAT = 70,
    ETF_BIT_BINARY = 77,
    ETF_NEW_PID = 88,
    ETF_NEW_PORT = 89,
    ETF_NEWER_REFERENCE = 90,
    ETF_SMALL_INTEGER = 97,
    ETF_INTEGER = 98,
    ETF_FLOAT = 99,
    ETF_ATOM = 100,
    ETF_REFERENCE = 101,
    ETF_PORT = 102,
    ETF_PID = 103,
    ETF_SMALL_TUPLE = 104,
    ETF_LARGE_TUPLE = 105,
    ETF_NIL = 106,
    ETF_STRING = 107,
    ETF_LIST = 108,
    ETF_BINARY = 109,
    ETF_SMALL_BIG = 110,
    ETF_LARGE_BIG = 111,
    ETF_NEW_FUN = 112,
    ETF_EXPORT = 113,
    ETF_NEW_REFERENCE = 114,
    ETF_SMALL_ATOM = 115,
    ETF_MAP = 116,
    ETF_ATOM_UTF8 = 118,
    ETF_SMALL_ATOM_UTF8 = 119,
    ETF_V4_PORT = 120
};

/* As deep as this tuples, lists and maps are coded here; what lies deeper is left to the VM. */
enum { ETF_DEPTH = 32 };

/* The arity that a tuple's header can hold. */
enum { ETF_MAX_ARITY = (1 << 24) - 1 };

static inline uint32_t etf_get16(const unsigned char *p) {
    return (uint32_t)p[0] << 8 | p[1];
}

static inline uint32_t etf_get32(const unsigned char *p) {
    return etf_get16(p) << 16 | etf_get16(p + 2);
}

static inline void etf_put32(unsigned char *p, uint32_t value) {
    p[0] = (unsigned char)(value >> 24);
    p[1] = (unsigned char)(value >> 16);
    p[2] = (unsigned char)(value >> 8);
    p[3] = (unsigned char)value;
}

/* An atom's text: 255 characters of up to 4 bytes. */
enum { ETF_ATOM_BYTES = 255 * 4 };

/* nif_etf_atom.c. An atom never changes its value: what a thread has looked up it remembers. */
enum { ETF_CACHED_BYTES = 55, ETF_CACHED_ATOMS = 256 };
struct etf_cached_atom {
    ERL_NIF_TERM term;
    unsigned char used;                    /* of bytes; 0: nothing is here */
    unsigned char bytes[ETF_CACHED_BYTES]; /* the atom encoded */
};
_Static_assert(ETF_CACHED_ATOMS == 256, "etf_atom_slot gives 8 bits");
struct etf_atom_cache {
    _Alignas(64) struct etf_cached_atom by_term[ETF_CACHED_ATOMS], by_bytes[ETF_CACHED_ATOMS];
};
struct etf_atom_cache *etf_atom_cache(void); /* this thread's */

static inline unsigned etf_atom_slot(uint64_t key) {
    return (unsigned)(key * 0x9e3779b97f4a7c15u >> 56);
}

/* NULL: no atom, or none that is remembered. */
static inline const struct etf_cached_atom *etf_atom_cached(const struct etf_atom_cache *cache,
                                                            ERL_NIF_TERM term) {
    const struct etf_cached_atom *entry = &cache->by_term[etf_atom_slot(term)];
    return entry->used && entry->term == term ? entry : NULL;
}

/* To ETF_ATOM_ROOM bytes at `to`, and into the cache. Returns how many are used; 0: no memory. */
enum { ETF_ATOM_ROOM = 3 + ETF_ATOM_BYTES };
size_t etf_atom_encode(ErlNifEnv *env, struct etf_atom_cache *cache, ERL_NIF_TERM atom,
                       unsigned char *to);
/* Returns  0 | EMMAP_E_CORRUPT | -EPERM (safe, and there is no such atom) */
int etf_atom_decode(ErlNifEnv *env, struct etf_atom_cache *cache, const unsigned char *name,
                    size_t len, bool safe, ERL_NIF_TERM *out);

/* nif_etf_walk.c -- etf_walk: is it a term, by its lengths and counts alone?
 * For what the VM is to decode: it sees nothing that does not hold together.
 *
 * Returns  0 | EMMAP_E_CORRUPT */
int etf_walk(const unsigned char *data, size_t len);
/* Of a term that walks and that the VM refuses when safe: for an atom or a fun that is not here? */
bool etf_walk_unsafe(ErlNifEnv *env, const unsigned char *data, size_t len);

/* For the tests only. */
#define NIF_ETF_CALLS(X)                                \
    X(etf_encode, 2, 0)                                 \
    X(etf_encode_dirty, 2, ERL_NIF_DIRTY_JOB_CPU_BOUND) \
    X(etf_decode, 2, 0)                                 \
    X(etf_decode_dirty, 2, ERL_NIF_DIRTY_JOB_CPU_BOUND)
ERL_NIF_TERM nif_etf_encode_2(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);
ERL_NIF_TERM nif_etf_encode_dirty_2(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);
ERL_NIF_TERM nif_etf_decode_2(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);
ERL_NIF_TERM nif_etf_decode_dirty_2(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

#endif
