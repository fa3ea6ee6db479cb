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
    X(again)          \
    X(bytes)          \
    X(claimed)        \
    X(deflated)       \
    X(claim)          \
    X(empty)          \
    X(head)           \
    X(infinity)       \
    X(large)          \
    X(length)         \
    X(lost)           \
    X(max_message)    \
    X(mixed)          \
    X(max_size)       \
    X(multi_os)       \
    X(oldest)         \
    X(recovered)      \
    X(segment_size)   \
    X(segments)       \
    X(tail)           \
    X(address_space)  \
    X(access)         \
    X(allocated)      \
    X(badarg)         \
    X(best_effort)    \
    X(bof)            \
    X(counter)        \
    X(cur)            \
    X(direct)         \
    X(eof)            \
    X(error)          \
    X(exclude)        \
    X(exist)          \
    X(false)          \
    X(faults)         \
    X(file_size)      \
    X(file)           \
    X(fixed_size)     \
    X(gauge)          \
    X(grow)           \
    X(linked)         \
    X(max)            \
    X(memory)         \
    X(min)            \
    X(mode)           \
    X(name)           \
    X(names)          \
    X(needs)          \
    X(no_counter)     \
    X(no_counters)    \
    X(not_a_binary)   \
    X(not_a_handle)   \
    X(not_a_list)     \
    X(not_64_bits)    \
    X(not_a_count)    \
    X(not_a_position) \
    X(not_an_index)   \
    X(not_an_integer) \
    X(not_iodata)     \
    X(not_positive)   \
    X(not_signed)     \
    X(not_unsigned)   \
    X(nul)            \
    X(offset)         \
    X(ok)             \
    X(option)         \
    X(padded)         \
    X(page_size)      \
    X(past_end)       \
    X(private)        \
    X(read)           \
    X(read_only)      \
    X(read_write)     \
    X(reserved)       \
    X(shared)         \
    X(signed)         \
    X(simple)         \
    X(size)           \
    X(size_differs)   \
    X(space)          \
    X(sparse)         \
    X(striped)        \
    X(sync_error)     \
    X(sync_failed)    \
    X(true)           \
    X(undefined)      \
    X(value)

struct atoms {
#define ATOM_FIELD(name) ERL_NIF_TERM name##_;
    ATOMS(ATOM_FIELD)
#undef ATOM_FIELD
    ERL_NIF_TERM figures[EMMAP_FIGURE_COUNT]; /* their names */
    ERL_NIF_TERM number_1;                    /* an immediate term as well */
};
extern struct atoms atoms; /* written at load only */

/* Atoms are immediate terms: one word, equal or not. */
static inline bool nif_is(ERL_NIF_TERM term, ERL_NIF_TERM atom) {
    return term == atom;
}

/* nif_term.c: terms in and out */
ERL_NIF_TERM nif_error(ErlNifEnv *env, int code);
ERL_NIF_TERM nif_badarg(ErlNifEnv *env, int arg, ERL_NIF_TERM why);
ERL_NIF_TERM nif_atom(ErlNifEnv *env, const char *name);
ERL_NIF_TERM nif_ok(ErlNifEnv *env, ERL_NIF_TERM value);
ERL_NIF_TERM nif_result(ErlNifEnv *env, int rc); /* ok or the error */

enum nif_integer { NIF_INTEGER, NIF_OUT_OF_RANGE, NIF_NO_INTEGER };
/* Out of range: negative, or beyond 64 bits. */
enum nif_integer nif_get_uint64(ErlNifEnv *env, ERL_NIF_TERM term, uint64_t *out);

/* A copy of up to this much stays on a normal scheduler: some 10 us when the pages are there. */
enum { NIF_NORMAL_BYTES = 64 << 10 };

/* Room for a result. A large one may fail to be had; a small one is in the caller's heap. */
struct nif_buffer {
    unsigned char *data;
    uint64_t len_bytes;
    bool is_large;
    ErlNifBinary large;
    ERL_NIF_TERM small;
};
bool nif_buffer_new(ErlNifEnv *env, uint64_t len_bytes, struct nif_buffer *out);
/* The first len_bytes of it, as a binary. */
ERL_NIF_TERM nif_buffer_term(ErlNifEnv *env, struct nif_buffer *buffer, uint64_t len_bytes);
void nif_buffer_drop(struct nif_buffer *buffer);

/* A file's name as a C string, to be given to enif_free; false with *why. */
bool nif_get_name(ErlNifEnv *env, ERL_NIF_TERM term, char **out, ERL_NIF_TERM *why);

/* The answers of calls that touch bytes; the calls are counted and charged. */
ERL_NIF_TERM nif_read_error(ErlNifEnv *env, int rc);                   /* past the end: eof */
ERL_NIF_TERM nif_write_result(ErlNifEnv *env, int rc, uint64_t bytes); /* past the end: badarg 2 */

/* nif_work.c: a call that touched bytes, counted for the kind of scheduler that it ran on; and one
 * that found none to touch. Both are charged. */
void nif_worked(ErlNifEnv *env, uint64_t bytes);
void nif_tried(ErlNifEnv *env);

/* nif_options.c */
struct nif_open_options {
    struct emmap_file_options file;
    bool direct, debug;
};
/* false: *why is the reason of badarg */
bool nif_get_open_options(ErlNifEnv *env, ERL_NIF_TERM list, struct nif_open_options *out,
                          ERL_NIF_TERM *why);

/* nif_file.c */
struct emmap_file;
struct emmap_file *nif_get_file(ErlNifEnv *env, ERL_NIF_TERM term);   /* NULL: no handle */
ERL_NIF_TERM nif_new_handle(ErlNifEnv *env, struct emmap_file *file); /* takes it over */
int nif_file_open_types(ErlNifEnv *env);                              /* at load and upgrade */
/* false | {true, Name}: once, of a file that has lost it; *told is the handle's */
ERL_NIF_TERM nif_unlinked(ErlNifEnv *env, struct emmap_file *file, _Atomic bool *told);
#define NIF_FILE_CALLS(X)                               \
    X(file_open, 4, ERL_NIF_DIRTY_JOB_IO_BOUND)         \
    X(file_close, 1, ERL_NIF_DIRTY_JOB_IO_BOUND)        \
    X(file_resize, 2, ERL_NIF_DIRTY_JOB_IO_BOUND)       \
    X(file_pread, 3, 0)                                 \
    X(file_pwrite, 3, 0)                                \
    X(file_flush, 1, ERL_NIF_DIRTY_JOB_IO_BOUND)        \
    X(file_sync, 1, ERL_NIF_DIRTY_JOB_IO_BOUND)         \
    X(file_sync, 3, ERL_NIF_DIRTY_JOB_IO_BOUND)         \
    X(file_info, 1, ERL_NIF_DIRTY_JOB_IO_BOUND)         \
    X(handles, 0, ERL_NIF_DIRTY_JOB_CPU_BOUND)          \
    X(stats, 0, 0)                                      \
    X(publish_stats, 1, ERL_NIF_DIRTY_JOB_IO_BOUND)     \
    X(unpublish_stats, 0, ERL_NIF_DIRTY_JOB_IO_BOUND)   \
    X(file_debug, 1, 0)                                 \
    X(file_pwrite_dirty, 3, ERL_NIF_DIRTY_JOB_IO_BOUND) \
    X(file_write_dirty, 2, ERL_NIF_DIRTY_JOB_IO_BOUND)  \
    X(file_read, 2, 0)                                  \
    X(file_read_line, 1, 0)                             \
    X(file_write, 2, 0)                                 \
    X(file_position, 3, 0)                              \
    X(file_truncate, 1, ERL_NIF_DIRTY_JOB_IO_BOUND)     \
    X(file_allocate, 3, ERL_NIF_DIRTY_JOB_IO_BOUND)     \
    X(file_advise, 4, ERL_NIF_DIRTY_JOB_IO_BOUND)       \
    X(file_handle_info, 1, ERL_NIF_DIRTY_JOB_IO_BOUND)  \
    X(file_add, 3, 0)                                   \
    X(file_sub, 3, 0)                                   \
    X(file_and, 3, 0)                                   \
    X(file_or, 3, 0)                                    \
    X(file_xor, 3, 0)                                   \
    X(file_exchange, 3, 0)                              \
    X(file_cas, 4, 0)                                   \
    X(file_load, 2, 0)                                  \
    X(file_store, 3, 0)                                 \
    X(simple_counters_open, 2, ERL_NIF_DIRTY_JOB_IO_BOUND)
#define NIF_DECLARE(name, arity, flags) \
    ERL_NIF_TERM nif_##name##_##arity(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);
NIF_FILE_CALLS(NIF_DECLARE)

/* nif_queue.c */
int nif_queue_open_types(ErlNifEnv *env);
#define NIF_QUEUE_CALLS(X)                                \
    X(queue_open, 7, ERL_NIF_DIRTY_JOB_IO_BOUND)          \
    X(queue_close, 1, ERL_NIF_DIRTY_JOB_IO_BOUND)         \
    X(queue_push, 2, 0)                                   \
    X(queue_push_deflated, 2, ERL_NIF_DIRTY_JOB_IO_BOUND) \
    X(queue_push_many, 3, 0)                              \
    X(queue_take, 1, 0)                                   \
    X(queue_take_many, 3, 0)                              \
    X(queue_claim, 1, 0)                                  \
    X(queue_ack, 1, 0)                                    \
    X(queue_return, 1, 0)                                 \
    X(queue_lose, 1, 0)                                   \
    X(queue_peek, 4, 0)                                   \
    X(queue_length, 1, 0)                                 \
    X(queue_erase, 1, ERL_NIF_DIRTY_JOB_IO_BOUND)         \
    X(queue_set_max, 2, ERL_NIF_DIRTY_JOB_IO_BOUND)       \
    X(queue_flush, 1, ERL_NIF_DIRTY_JOB_IO_BOUND)         \
    X(queue_info, 1, ERL_NIF_DIRTY_JOB_IO_BOUND)          \
    X(queue_unlinked, 1, ERL_NIF_DIRTY_JOB_IO_BOUND)      \
    X(queue_sync_join, 1, 0)                              \
    X(queue_sync_leave, 2, 0)                             \
    X(queue_interval, 2, 0)
NIF_QUEUE_CALLS(NIF_DECLARE)

/* nif_counters.c, nif_counters_text.c */
int nif_counters_open_types(ErlNifEnv *env);
struct emmap_counters *nif_get_counters(ErlNifEnv *env, ERL_NIF_TERM term); /* NULL: no handle */
#define NIF_COUNTERS_CALLS(X)                           \
    X(counters_open, 4, ERL_NIF_DIRTY_JOB_IO_BOUND)     \
    X(counters_close, 1, ERL_NIF_DIRTY_JOB_IO_BOUND)    \
    X(counters_get, 2, 0)                               \
    X(counters_put, 3, 0)                               \
    X(counters_add, 3, 0)                               \
    X(counters_add_get, 3, 0)                           \
    X(counters_exchange, 3, 0)                          \
    X(counters_max, 3, 0)                               \
    X(counters_min, 3, 0)                               \
    X(counters_compare_exchange, 4, 0)                  \
    X(counters_allocate, 3, 0)                          \
    X(counters_sync, 1, ERL_NIF_DIRTY_JOB_IO_BOUND)     \
    X(counters_info, 1, ERL_NIF_DIRTY_JOB_IO_BOUND)     \
    X(counters_unlinked, 1, ERL_NIF_DIRTY_JOB_IO_BOUND) \
    X(counters_names, 1, ERL_NIF_DIRTY_JOB_IO_BOUND)    \
    X(counters_text, 1, ERL_NIF_DIRTY_JOB_IO_BOUND)
NIF_COUNTERS_CALLS(NIF_DECLARE)
NIF_DECLARE(error_message, 1, 0)
#undef NIF_DECLARE

#endif
