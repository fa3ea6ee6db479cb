/* nif.h -- what the NIF's files share. Only c_src/nif knows Erlang.
 *
 * A call answers its result, or {error, Reason} for what the world does, or {badarg, N, Why} for
 * what the caller did wrong: src/emmap.erl raises that as badarg with extended error information
 * about argument N. */
#ifndef EMMAP_NIF_H
#define EMMAP_NIF_H

#include <erl_nif.h>
#include <stdbool.h>
#include <stdint.h>

#include "emmap.h"

#define ATOMS(X)      \
    X(address_space)  \
    X(access)         \
    X(allocated)      \
    X(badarg)         \
    X(best_effort)    \
    X(direct)         \
    X(eof)            \
    X(error)          \
    X(exclude)        \
    X(exist)          \
    X(false)          \
    X(faults)         \
    X(file_size)      \
    X(fixed_size)     \
    X(grow)           \
    X(handles)        \
    X(holds)          \
    X(linked)         \
    X(mapped_bytes)   \
    X(mode)           \
    X(name)           \
    X(needs)          \
    X(not_a_binary)   \
    X(not_a_handle)   \
    X(not_a_list)     \
    X(not_an_integer) \
    X(not_iodata)     \
    X(nul)            \
    X(offset)         \
    X(ok)             \
    X(option)         \
    X(page_size)      \
    X(past_end)       \
    X(private)        \
    X(read)           \
    X(read_write)     \
    X(regions)        \
    X(reserved)       \
    X(shared)         \
    X(size)           \
    X(size_differs)   \
    X(space)          \
    X(sparse)         \
    X(sync_error)     \
    X(sync_failed)    \
    X(true)           \
    X(truncate)       \
    X(undefined)      \
    X(value)          \
    X(write)

struct atoms {
#define ATOM_FIELD(name) ERL_NIF_TERM name##_;
    ATOMS(ATOM_FIELD)
#undef ATOM_FIELD
};
extern struct atoms atoms; /* written at load only */

/* nif_term.c: terms in and out */
ERL_NIF_TERM nif_error(ErlNifEnv *env, int code);
ERL_NIF_TERM nif_badarg(ErlNifEnv *env, int arg, ERL_NIF_TERM why);
ERL_NIF_TERM nif_atom(ErlNifEnv *env, const char *name);
ERL_NIF_TERM nif_ok(ErlNifEnv *env, ERL_NIF_TERM value);
ERL_NIF_TERM nif_result(ErlNifEnv *env, int rc); /* ok or the error */

enum nif_integer { NIF_INTEGER, NIF_OUT_OF_RANGE, NIF_NO_INTEGER };
/* Out of range: negative, or beyond 64 bits. */
enum nif_integer nif_get_uint64(ErlNifEnv *env, ERL_NIF_TERM term, uint64_t *out);

/* nif_options.c */
struct nif_open_options {
    struct emmap_file_options file;
    bool direct;
};
/* false: *why is the reason of badarg */
bool nif_get_open_options(ErlNifEnv *env, ERL_NIF_TERM list, struct nif_open_options *out,
                          ERL_NIF_TERM *why);

/* nif_file.c */
int nif_file_open_types(ErlNifEnv *env); /* at load and upgrade */
#define NIF_FILE_CALLS(X)                         \
    X(file_open, 4, ERL_NIF_DIRTY_JOB_IO_BOUND)   \
    X(file_close, 1, ERL_NIF_DIRTY_JOB_IO_BOUND)  \
    X(file_resize, 2, ERL_NIF_DIRTY_JOB_IO_BOUND) \
    X(file_pread, 3, 0)                           \
    X(file_pwrite, 3, 0)                          \
    X(file_flush, 1, ERL_NIF_DIRTY_JOB_IO_BOUND)  \
    X(file_sync, 1, ERL_NIF_DIRTY_JOB_IO_BOUND)   \
    X(file_sync, 3, ERL_NIF_DIRTY_JOB_IO_BOUND)   \
    X(file_info, 1, ERL_NIF_DIRTY_JOB_IO_BOUND)   \
    X(stats, 0, 0)
#define NIF_DECLARE(name, arity, flags) \
    ERL_NIF_TERM nif_##name##_##arity(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);
NIF_FILE_CALLS(NIF_DECLARE)
NIF_DECLARE(error_message, 1, 0)
#undef NIF_DECLARE

#endif
