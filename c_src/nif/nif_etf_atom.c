/* nif_etf_atom.c -- atoms to and from bytes, remembered by each thread. */
#include <errno.h>
#include <string.h>

#include "nif/nif_etf.h"

/* 32 KiB a thread, of which it touches what its atoms need. */
static _Thread_local struct etf_atom_cache own_cache;

struct etf_atom_cache *etf_atom_cache(void) {
    return &own_cache;
}

/* The header and the text in one line of the cache. */
enum { MAX_CACHED_NAME = ETF_CACHED_BYTES - 2 };

/* ------------------------------------------------------------------------------------- encoding */

/* Latin1 as UTF-8: up to twice as long. */
static size_t put_utf8(unsigned char *to, const char *latin1, size_t len) {
    size_t at = 0;
    for (size_t i = 0; i < len; i++) {
        const unsigned char c = (unsigned char)latin1[i];
        if (c < 0x80) {
            to[at++] = c;
        } else {
            to[at++] = (unsigned char)(0xc0 | c >> 6);
            to[at++] = (unsigned char)(0x80 | (c & 0x3f));
        }
    }
    return at;
}

/* Any other name: older VMs give it in the external format only, and that as UTF-8. */
static size_t encode_by_vm(ErlNifEnv *env, ERL_NIF_TERM atom, unsigned char *to) {
    ErlNifBinary encoded;
    if (!enif_term_to_binary(env, atom, &encoded)) return 0;
    const size_t size = encoded.size - 1 <= ETF_ATOM_ROOM ? encoded.size - 1 : 0;
    memcpy(to, encoded.data + 1, size);
    enif_release_binary(&encoded);
    return size;
}

size_t etf_atom_encode(ErlNifEnv *env, struct etf_atom_cache *cache, ERL_NIF_TERM atom,
                       unsigned char *to) {
    char name[256];
    const int name_size = enif_get_atom(env, atom, name, sizeof name, ERL_NIF_LATIN1);
    size_t size;
    if (name_size <= 0) {
        size = encode_by_vm(env, atom, to);
    } else {
        const size_t len = put_utf8(to + 3, name, (size_t)name_size - 1);
        if (len <= UINT8_MAX) {
            to[0] = ETF_SMALL_ATOM_UTF8;
            to[1] = (unsigned char)len;
            memmove(to + 2, to + 3, len);
            size = 2 + len;
        } else {
            to[0] = ETF_ATOM_UTF8;
            to[1] = (unsigned char)(len >> 8);
            to[2] = (unsigned char)len;
            size = 3 + len;
        }
    }
    if (size > 0 && size <= ETF_CACHED_BYTES) {
        struct etf_cached_atom *entry = &cache->by_term[etf_atom_slot(atom)];
        entry->term = atom;
        entry->used = (unsigned char)size;
        memcpy(entry->bytes, to, size);
    }
    return size;
}

/* ------------------------------------------------------------------------------------- decoding */

static uint64_t name_key(const unsigned char *name, size_t len) {
    if (len >= 8) {
        uint64_t first, last;
        memcpy(&first, name, 8);
        memcpy(&last, name + len - 8, 8);
        return first ^ (last << 23 | last >> 41) ^ len;
    }
    if (len >= 4) {
        uint32_t first, last;
        memcpy(&first, name, 4);
        memcpy(&last, name + len - 4, 4);
        return ((uint64_t)first << 32 | last) ^ len;
    }
    if (len == 0) return 0;
    return (uint64_t)name[0] << 24 | (uint64_t)name[len / 2] << 16 | (uint64_t)name[len - 1] << 8 |
           len;
}

static bool is_ascii(const unsigned char *name, size_t len) {
    unsigned char all = 0;
    for (size_t i = 0; i < len; i++)
        all |= name[i];
    return all < 0x80;
}

/* UTF-8 of up to 255 characters: shortest forms, no surrogates. */
static bool is_utf8(const unsigned char *name, size_t len) {
    size_t chars = 0;
    for (size_t i = 0; i < len; chars++) {
        const unsigned char c = name[i];
        const size_t more = c < 0x80   ? 0
                            : c < 0xc2 ? 4
                            : c < 0xe0 ? 1
                            : c < 0xf0 ? 2
                            : c < 0xf5 ? 3
                                       : 4;
        if (more >= len - i) return false;
        for (size_t j = 1; j <= more; j++)
            if ((name[i + j] & 0xc0) != 0x80) return false;
        if (c == 0xe0 && name[i + 1] < 0xa0) return false;
        if (c == 0xed && name[i + 1] > 0x9f) return false;
        if (c == 0xf0 && name[i + 1] < 0x90) return false;
        if (c == 0xf4 && name[i + 1] > 0x8f) return false;
        i += 1 + more;
    }
    return chars <= 255;
}

/* Older VMs take such a name in the external format only. */
static bool make_utf8(ErlNifEnv *env, const unsigned char *name, size_t len, bool safe,
                      ERL_NIF_TERM *out) {
    unsigned char encoded[4 + ETF_ATOM_BYTES] = {ETF_VERSION, ETF_ATOM_UTF8,
                                                 (unsigned char)(len >> 8), (unsigned char)len};
    memcpy(encoded + 4, name, len);
    return enif_binary_to_term(env, encoded, 4 + len, out, safe ? ERL_NIF_BIN2TERM_SAFE : 0) != 0;
}

int etf_atom_decode(ErlNifEnv *env, struct etf_atom_cache *cache, const unsigned char *name,
                    size_t len, bool safe, ERL_NIF_TERM *out) {
    struct etf_cached_atom *entry = &cache->by_bytes[etf_atom_slot(name_key(name, len))];
    if (entry->used == len + 2 && memcmp(entry->bytes + 2, name, len) == 0) {
        *out = entry->term;
        return 0;
    }
    ERL_NIF_TERM atom;
    if (len <= 255 && is_ascii(name, len)) {
        const char *text = (const char *)name;
        if (!enif_make_existing_atom_len(env, text, len, &atom, ERL_NIF_LATIN1)) {
            if (safe) return -EPERM;
            atom = enif_make_atom_len(env, text, len);
        }
    } else {
        if (len > ETF_ATOM_BYTES || !is_utf8(name, len)) return EMMAP_E_CORRUPT;
        if (!make_utf8(env, name, len, safe, &atom)) return safe ? -EPERM : EMMAP_E_CORRUPT;
    }
    if (len <= MAX_CACHED_NAME) {
        entry->term = atom;
        entry->used = (unsigned char)(len + 2);
        memcpy(entry->bytes + 2, name, len);
    }
    *out = atom;
    return 0;
}
