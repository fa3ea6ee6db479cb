/* nif_file.c -- mapped files for Erlang. */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "nif/nif.h"
#include "store/file.h"

/* The owner of the binaries that lie in a mapping: one for a handle, kept by the open handle and
 * by each binary, so that the mapping stays as long as any of them. */
struct direct {
    struct emmap_hold *hold;
};

struct handle {
    struct emmap_file *file;
    pthread_mutex_t lock;  /* guards direct */
    struct direct *direct; /* NULL: not asked for, or closed */
    bool is_direct, debug;
};

static ErlNifResourceType *handle_type, *direct_type;

static void handle_destroy(ErlNifEnv *env, void *object) {
    (void)env;
    struct handle *h = object;
    if (h->direct) enif_release_resource(h->direct);
    emmap_file_free(h->file); /* the slow part is done in the background */
    pthread_mutex_destroy(&h->lock);
}

static void direct_destroy(ErlNifEnv *env, void *object) {
    (void)env;
    const struct direct *direct = object;
    if (direct->hold) emmap_file_unhold(direct->hold);
}

int nif_file_open_types(ErlNifEnv *env) {
    const ErlNifResourceFlags flags = ERL_NIF_RT_CREATE | ERL_NIF_RT_TAKEOVER;
    handle_type = enif_open_resource_type(env, NULL, "emmap_file", handle_destroy, flags, NULL);
    direct_type = enif_open_resource_type(env, NULL, "emmap_direct", direct_destroy, flags, NULL);
    return handle_type && direct_type ? 0 : -1;
}

static struct handle *get_handle(ErlNifEnv *env, ERL_NIF_TERM term) {
    void *object;
    return enif_get_resource(env, term, handle_type, &object) ? object : NULL;
}

static ERL_NIF_TERM make_map(ErlNifEnv *env, const ERL_NIF_TERM pairs[][2], size_t n) {
    ERL_NIF_TERM map = enif_make_new_map(env);
    for (size_t i = 0; i < n; i++)
        enif_make_map_put(env, map, pairs[i][0], pairs[i][1], &map);
    return map;
}

struct emmap_file *nif_get_file(ErlNifEnv *env, ERL_NIF_TERM term) {
    struct handle *h = get_handle(env, term);
    return h ? h->file : NULL;
}

/* ------------------------------------------------------------------------- open and close */

static struct direct *make_direct(struct emmap_file *file) {
    struct direct *direct = enif_alloc_resource(direct_type, sizeof *direct);
    if (!direct) return NULL;
    direct->hold = NULL;
    (void)emmap_file_hold(file, &direct->hold); /* just opened: not closed */
    return direct;
}

/* Takes over the file. */
static struct handle *make_handle(struct emmap_file *file, bool is_direct) {
    struct handle *h = enif_alloc_resource(handle_type, sizeof *h);
    if (!h) goto free_file;
    *h = (struct handle){.file = file, .is_direct = is_direct};
    pthread_mutex_init(&h->lock, NULL); /* without attributes it cannot fail on these systems */
    if (is_direct) {
        h->direct = make_direct(file);
        if (!h->direct) {
            enif_release_resource(h); /* and its file */
            return NULL;
        }
    }
    return h;

free_file:
    emmap_file_free(file);
    return NULL;
}

ERL_NIF_TERM nif_new_handle(ErlNifEnv *env, struct emmap_file *file) {
    struct handle *h = make_handle(file, false);
    if (!h) return atoms.undefined_;
    const ERL_NIF_TERM term = enif_make_resource(env, h);
    enif_release_resource(h);
    return term;
}

static ERL_NIF_TERM opened(ErlNifEnv *env, struct handle *h, bool existed) {
    const ERL_NIF_TERM info[][2] = {
        {atoms.exist_, existed ? atoms.true_ : atoms.false_},
        {atoms.size_, enif_make_uint64(env, emmap_file_size(h->file))},
    };
    const ERL_NIF_TERM term = enif_make_resource(env, h);
    enif_release_resource(h);
    return enif_make_tuple3(env, atoms.ok_, term, make_map(env, info, 2));
}

/* file_open(Name, Off, Len, Options) -> {ok, Handle, #{exist, size}} */
ERL_NIF_TERM nif_file_open_4(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    struct nif_open_options options = {0};
    ERL_NIF_TERM why;
    uint64_t *const numbers[] = {&options.file.off, &options.file.len_bytes};
    for (int i = 0; i < 2; i++) {
        const enum nif_integer is = nif_get_uint64(env, argv[1 + i], numbers[i]);
        if (is == NIF_NO_INTEGER) return nif_badarg(env, 2 + i, atoms.not_an_integer_);
        if (is == NIF_OUT_OF_RANGE) return nif_error(env, -EINVAL);
    }
    if (!nif_get_open_options(env, argv[3], &options, &why)) return nif_badarg(env, 4, why);
    char *name;
    if (!nif_get_name(env, argv[0], &name, &why)) return nif_badarg(env, 1, why);

    struct emmap_file *file;
    bool existed;
    const int rc = emmap_file_open(&file, name, &options.file, &existed);
    enif_free(name);
    if (rc) return nif_error(env, rc);
    struct handle *h = make_handle(file, options.direct);
    if (!h) return nif_error(env, -ENOMEM);
    h->debug = options.debug;
    return opened(env, h, existed);
}

/* file_debug(Handle) -> boolean(): was it opened with debug? */
ERL_NIF_TERM nif_file_debug_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    const struct handle *h = get_handle(env, argv[0]);
    return h && h->debug ? atoms.true_ : atoms.false_;
}

ERL_NIF_TERM nif_file_close_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    struct handle *h = get_handle(env, argv[0]);
    if (!h) return nif_badarg(env, 1, atoms.not_a_handle_);
    (void)emmap_file_close(h->file);
    pthread_mutex_lock(&h->lock);
    struct direct *direct = h->direct;
    h->direct = NULL;
    pthread_mutex_unlock(&h->lock);
    if (direct) enif_release_resource(direct);
    return atoms.ok_;
}

/* ---------------------------------------------------------------------------------- bytes */

/* The place and length of a call: NULL, or the answer to a bad one in *bad. */
static bool get_range(ErlNifEnv *env, const ERL_NIF_TERM argv[], uint64_t *off, uint64_t *len,
                      ERL_NIF_TERM *bad) {
    uint64_t *const out[] = {off, len};
    for (int i = 0; i < 2; i++) {
        const enum nif_integer is = nif_get_uint64(env, argv[1 + i], out[i]);
        if (is == NIF_INTEGER) continue;
        *bad = is == NIF_OUT_OF_RANGE ? nif_error(env, -EINVAL)
                                      : nif_badarg(env, 2 + i, atoms.not_an_integer_);
        return false;
    }
    return true;
}

static ERL_NIF_TERM direct_binary(ErlNifEnv *env, struct handle *h, const void *at, uint64_t len) {
    ERL_NIF_TERM binary = atoms.undefined_;
    pthread_mutex_lock(&h->lock);
    if (h->direct) binary = enif_make_resource_binary(env, h->direct, at, len);
    pthread_mutex_unlock(&h->lock);
    return nif_is(binary, atoms.undefined_) ? nif_error(env, EMMAP_E_CLOSED) : nif_ok(env, binary);
}

/* undefined: it would have to wait. */
static ERL_NIF_TERM copied(ErlNifEnv *env, struct handle *h, bool wait, uint64_t off,
                           uint64_t len) {
    struct nif_buffer buffer;
    if (!nif_buffer_new(env, len, &buffer)) return nif_error(env, -ENOMEM);
    uint64_t got;
    const int rc = file_read(h->file, wait, off, buffer.data, len, &got);
    if (rc == 0) {
        nif_worked(env, got);
        return nif_ok(env, nif_buffer_term(env, &buffer, got));
    }
    nif_buffer_drop(&buffer);
    return rc == -EAGAIN && !wait ? atoms.undefined_ : nif_read_error(env, rc);
}

/* undefined: it would have to wait, or is large. */
static ERL_NIF_TERM pread_with(ErlNifEnv *env, const ERL_NIF_TERM argv[], bool wait) {
    struct handle *h = get_handle(env, argv[0]);
    if (!h) return nif_badarg(env, 1, atoms.not_a_handle_);
    uint64_t off, len, got;
    ERL_NIF_TERM bad;
    if (!get_range(env, argv, &off, &len, &bad)) return bad;
    /* Within the known size the length needs no asking; what has changed since, the read tells. */
    const uint64_t size = emmap_file_size(h->file);
    if (!h->is_direct && len <= NIF_NORMAL_BYTES && off < size && len <= size - off)
        return copied(env, h, wait, off, len);
    const void *at;
    const int rc = file_pointer(h->file, wait, off, len, &at, &got);
    if (rc == -EAGAIN && !wait) return atoms.undefined_;
    if (rc) return nif_read_error(env, rc);
    if (h->is_direct) {
        nif_worked(env, 0);
        return direct_binary(env, h, at, got);
    }
    if (got > NIF_NORMAL_BYTES && !wait) return atoms.undefined_;
    return copied(env, h, wait, off, got);
}

static ERL_NIF_TERM pread_dirty(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return pread_with(env, argv, true);
}

/* file_pread(Handle, Off, Len) -> {ok, Binary} | eof */
ERL_NIF_TERM nif_file_pread_3(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    const ERL_NIF_TERM result = pread_with(env, argv, false);
    if (!nif_is(result, atoms.undefined_)) return result;
    return enif_schedule_nif(env, "file_pread", ERL_NIF_DIRTY_JOB_IO_BOUND, pread_dirty, argc,
                             argv);
}

/* Everything but the data; true with *h and *off. */
static bool get_write(ErlNifEnv *env, const ERL_NIF_TERM argv[], struct handle **h, uint64_t *off,
                      ERL_NIF_TERM *bad) {
    *h = get_handle(env, argv[0]);
    const enum nif_integer is = nif_get_uint64(env, argv[1], off);
    if (!*h)
        *bad = nif_badarg(env, 1, atoms.not_a_handle_);
    else if (is == NIF_NO_INTEGER)
        *bad = nif_badarg(env, 2, atoms.not_an_integer_);
    else if (is == NIF_OUT_OF_RANGE)
        *bad = nif_error(env, -EINVAL);
    else
        return true;
    return false;
}

/* file_pwrite_dirty(Handle, Off, IoData) -> ok: what is large, or whose length is not known. */
ERL_NIF_TERM nif_file_pwrite_dirty_3(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    struct handle *h;
    uint64_t off;
    ERL_NIF_TERM bad;
    ErlNifBinary data;
    if (!get_write(env, argv, &h, &off, &bad)) return bad;
    if (!enif_inspect_iolist_as_binary(env, argv[2], &data))
        return nif_badarg(env, 3, atoms.not_iodata_);
    const int rc = file_write(h->file, true, off, data.data, data.size);
    return nif_write_result(env, rc, data.size);
}

/* file_pwrite(Handle, Off, Binary) -> ok. The caller has looked at the size: to look at an
 * unaligned binary here would copy it. */
ERL_NIF_TERM nif_file_pwrite_3(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    struct handle *h;
    uint64_t off;
    ERL_NIF_TERM bad;
    ErlNifBinary data;
    if (!get_write(env, argv, &h, &off, &bad)) return bad;
    if (!enif_inspect_binary(env, argv[2], &data)) return nif_badarg(env, 3, atoms.not_iodata_);
    const int rc = file_write(h->file, false, off, data.data, data.size);
    if (rc != -EAGAIN) return nif_write_result(env, rc, data.size);
    return enif_schedule_nif(env, "file_pwrite", ERL_NIF_DIRTY_JOB_IO_BOUND,
                             nif_file_pwrite_dirty_3, argc, argv);
}

/* --------------------------------------------------------------------- size and durability */

/* file_resize(Handle, Size | grow) -> {ok, NewSize} */
ERL_NIF_TERM nif_file_resize_2(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    struct handle *h = get_handle(env, argv[0]);
    if (!h) return nif_badarg(env, 1, atoms.not_a_handle_);
    uint64_t size, now;
    int rc;
    if (nif_is(argv[1], atoms.grow_)) {
        rc = emmap_file_grow(h->file, &now);
    } else {
        const enum nif_integer is = nif_get_uint64(env, argv[1], &size);
        if (is == NIF_NO_INTEGER) return nif_badarg(env, 2, atoms.not_an_integer_);
        rc = is == NIF_OUT_OF_RANGE ? -EINVAL : emmap_file_resize(h->file, size, &now);
    }
    return rc ? nif_error(env, rc) : nif_ok(env, enif_make_uint64(env, now));
}

/* Flushing what is closed is done already. */
ERL_NIF_TERM nif_file_flush_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    struct handle *h = get_handle(env, argv[0]);
    if (!h) return nif_badarg(env, 1, atoms.not_a_handle_);
    const int rc = emmap_file_flush(h->file);
    return nif_result(env, rc == EMMAP_E_CLOSED ? 0 : rc);
}

static ERL_NIF_TERM sync_reason(ErlNifEnv *env, const struct handle *h) {
    return nif_atom(env, emmap_error_name(emmap_file_sync_error(h->file)));
}

static ERL_NIF_TERM sync_result(ErlNifEnv *env, const struct handle *h, int rc) {
    if (rc != EMMAP_E_SYNC_FAILED) return nif_result(env, rc);
    return enif_make_tuple2(env, atoms.error_,
                            enif_make_tuple2(env, atoms.sync_failed_, sync_reason(env, h)));
}

ERL_NIF_TERM nif_file_sync_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    struct handle *h = get_handle(env, argv[0]);
    if (!h) return nif_badarg(env, 1, atoms.not_a_handle_);
    return sync_result(env, h, emmap_file_sync(h->file));
}

/* file_sync(Handle, Off, Len) */
ERL_NIF_TERM nif_file_sync_3(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    struct handle *h = get_handle(env, argv[0]);
    if (!h) return nif_badarg(env, 1, atoms.not_a_handle_);
    uint64_t off, len;
    ERL_NIF_TERM bad;
    if (!get_range(env, argv, &off, &len, &bad)) return bad;
    return sync_result(env, h, emmap_file_sync_range(h->file, off, len));
}

/* -------------------------------------------------------------------------------- figures */

static ERL_NIF_TERM make_name(ErlNifEnv *env, const struct emmap_file_info *info) {
    ERL_NIF_TERM name;
    const size_t len = strlen(info->path);
    memcpy(enif_make_new_binary(env, len, &name), info->path, len);
    return name;
}

ERL_NIF_TERM nif_unlinked(ErlNifEnv *env, struct emmap_file *file, _Atomic bool *told) {
    struct emmap_file_info info;
    if (emmap_file_info(file, &info) || info.linked || atomic_exchange(told, true))
        return atoms.false_;
    return enif_make_tuple2(env, atoms.true_, make_name(env, &info));
}

ERL_NIF_TERM nif_file_info_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    struct handle *h = get_handle(env, argv[0]);
    if (!h) return nif_badarg(env, 1, atoms.not_a_handle_);
    struct emmap_file_info info;
    const int rc = emmap_file_info(h->file, &info);
    if (rc) return nif_error(env, rc);
    const ERL_NIF_TERM space = info.space == EMMAP_SPACE_RESERVED ? atoms.reserved_
                               : info.space == EMMAP_SPACE_SPARSE ? atoms.sparse_
                                                                  : atoms.best_effort_;
    const bool shared = (info.flags & EMMAP_SHARED) != 0;
    const bool write = (info.flags & EMMAP_WRITE) != 0;
    const ERL_NIF_TERM pairs[][2] = {
        {atoms.name_, make_name(env, &info)},
        {atoms.size_, enif_make_uint64(env, info.size_bytes)},
        {atoms.offset_, enif_make_uint64(env, info.off)},
        {atoms.file_size_, enif_make_uint64(env, info.file_bytes)},
        {atoms.allocated_, enif_make_uint64(env, info.allocated_bytes)},
        {atoms.address_space_, enif_make_uint64(env, info.address_space_bytes)},
        {atoms.page_size_, enif_make_uint64(env, info.page_bytes)},
        {atoms.faults_, enif_make_uint64(env, info.faults)},
        {atoms.space_, space},
        {atoms.mode_, shared ? atoms.shared_ : atoms.private_},
        {atoms.access_, write ? atoms.read_write_ : atoms.read_},
        {atoms.direct_, h->is_direct ? atoms.true_ : atoms.false_},
        {atoms.fixed_size_, info.flags & EMMAP_FIXED_SIZE ? atoms.true_ : atoms.false_},
        {atoms.linked_, info.linked ? atoms.true_ : atoms.false_},
        {atoms.sync_error_, info.sync_error ? sync_reason(env, h) : atoms.undefined_},
    };
    return nif_ok(env, make_map(env, pairs, sizeof pairs / sizeof *pairs));
}

struct listing {
    ErlNifEnv *env;
    ERL_NIF_TERM list;
};

static void list_file(void *ctx, struct emmap_file *file) {
    struct listing *l = ctx;
    ERL_NIF_TERM name;
    const char *path = file->flags & EMMAP_ANON ? "" : file->full_path;
    const size_t len = strlen(path);
    memcpy(enif_make_new_binary(l->env, len, &name), path, len);
    const ERL_NIF_TERM row =
        enif_make_tuple5(l->env, name, enif_make_uint64(l->env, emmap_file_size(file)),
                         file->flags & EMMAP_SHARED ? atoms.shared_ : atoms.private_,
                         file->flags & EMMAP_WRITE ? atoms.read_write_ : atoms.read_,
                         enif_make_uint64(l->env, region_fault_count(file->region)));
    l->list = enif_make_list_cell(l->env, row, l->list);
}

/* handles() -> [{Name, Size, shared | private, read | read_write, Faults}] */
ERL_NIF_TERM nif_handles_0(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc, (void)argv;
    struct listing l = {.env = env, .list = enif_make_list(env, 0)};
    file_each(list_file, &l);
    return l.list;
}

ERL_NIF_TERM nif_stats_0(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc, (void)argv;
    struct emmap_stats stats;
    emmap_stats(&stats);
    const ERL_NIF_TERM pairs[][2] = {
#define FIGURE_PAIR(id, name, type, unit, help) \
    {atoms.figures[EMMAP_FIGURE_##id], enif_make_uint64(env, stats.name)},
        EMMAP_FIGURES(FIGURE_PAIR)
#undef FIGURE_PAIR
    };
    return make_map(env, pairs, sizeof pairs / sizeof *pairs);
}

/* publish_stats(Name) -> ok */
ERL_NIF_TERM nif_publish_stats_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    char *name;
    ERL_NIF_TERM why;
    if (!nif_get_name(env, argv[0], &name, &why)) return nif_badarg(env, 1, why);
    const int rc = emmap_stats_publish(name);
    enif_free(name);
    return nif_result(env, rc);
}

/* unpublish_stats() -> ok */
ERL_NIF_TERM nif_unpublish_stats_0(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc, (void)argv;
    return nif_result(env, emmap_stats_unpublish());
}
