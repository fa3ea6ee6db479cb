/* nif_stream.c -- a mapped file as a stream for Erlang, and what else its file module asks for. */
#include <errno.h>
#include <string.h>

#include "nif/nif.h"
#include "os/os.h"
#include "store/touch.h"

/* ---------------------------------------------------------------------- from the position on */

/* "\r\n" becomes "\n"; returns the new length. */
static uint64_t newline_only(unsigned char *line, uint64_t len) {
    if (len < 2 || line[len - 1] != '\n' || line[len - 2] != '\r') return len;
    line[len - 2] = '\n';
    return len - 1;
}

/* Between its search and its copy a line may be written over. Who does so all the time does not
 * keep the reader: in the end it gets what was copied. */
enum { LINE_TRIES = 16 };

static int try_next(ErlNifEnv *env, bool wait, struct emmap_file *file, uint64_t most,
                    bool last_try, struct nif_buffer *buffer, uint64_t *len) {
    struct file_next next;
    int rc = file_next_begin(file, wait, most, &next);
    if (rc) return rc;
    const bool large = next.len_bytes > NIF_NORMAL_BYTES && !wait;
    if (large || !nif_buffer_new(env, next.len_bytes, buffer)) {
        (void)file_next_end(file, wait, &next, NULL);
        return large ? -EAGAIN : -ENOMEM;
    }
    if (last_try) next.newline = false;
    rc = file_next_end(file, wait, &next, buffer->data);
    if (rc) nif_buffer_drop(buffer);
    *len = next.len_bytes;
    return rc;
}

/* undefined: it would have to wait, or to be tried again, or is large. */
static ERL_NIF_TERM read_next(ErlNifEnv *env, bool wait, struct emmap_file *file, uint64_t most) {
    struct nif_buffer buffer;
    uint64_t len = 0;
    int rc = try_next(env, wait, file, most, false, &buffer, &len);
    if ((rc == -EAGAIN || rc == -EBUSY) && !wait) return atoms.undefined_;
    for (int tries = 2; rc == -EBUSY; tries++)
        rc = try_next(env, wait, file, most, tries >= LINE_TRIES, &buffer, &len);
    if (rc) return nif_read_error(env, rc);
    nif_worked(env, len);
    if (most == FILE_NEXT_LINE) len = newline_only(buffer.data, len);
    return nif_ok(env, nif_buffer_term(env, &buffer, len));
}

static ERL_NIF_TERM read_with(ErlNifEnv *env, bool wait, int argc, const ERL_NIF_TERM argv[]) {
    struct emmap_file *file = nif_get_file(env, argv[0]);
    if (!file) return nif_badarg(env, 1, atoms.not_a_handle_);
    if (argc == 1) return read_next(env, wait, file, FILE_NEXT_LINE);
    uint64_t len;
    const enum nif_integer is = nif_get_uint64(env, argv[1], &len);
    if (is == NIF_NO_INTEGER) return nif_badarg(env, 2, atoms.not_an_integer_);
    if (is == NIF_OUT_OF_RANGE || len > INT64_MAX) return nif_error(env, -EINVAL);
    ERL_NIF_TERM empty;
    if (len > 0) return read_next(env, wait, file, len);
    const int rc = touch_nothing(file, 0);
    if (rc) return nif_error(env, rc);
    (void)enif_make_new_binary(env, 0, &empty);
    return nif_ok(env, empty);
}

static ERL_NIF_TERM read_dirty(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    return read_with(env, true, argc, argv);
}

/* file_read(Handle, Len) -> {ok, Binary} | eof */
ERL_NIF_TERM nif_file_read_2(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    const ERL_NIF_TERM result = read_with(env, false, argc, argv);
    if (!nif_is(result, atoms.undefined_)) return result;
    return enif_schedule_nif(env, "file_read", ERL_NIF_DIRTY_JOB_IO_BOUND, read_dirty, argc, argv);
}

/* file_read_line(Handle) -> {ok, Line} | eof */
ERL_NIF_TERM nif_file_read_line_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    const ERL_NIF_TERM result = read_with(env, false, argc, argv);
    if (!nif_is(result, atoms.undefined_)) return result;
    return enif_schedule_nif(env, "file_read_line", ERL_NIF_DIRTY_JOB_IO_BOUND, read_dirty, argc,
                             argv);
}

/* file_write_dirty(Handle, IoData) -> ok, file_write(Handle, Binary) -> ok: as the pwrites. */
ERL_NIF_TERM nif_file_write_dirty_2(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    struct emmap_file *file = nif_get_file(env, argv[0]);
    ErlNifBinary data;
    if (!file) return nif_badarg(env, 1, atoms.not_a_handle_);
    if (!enif_inspect_iolist_as_binary(env, argv[1], &data))
        return nif_badarg(env, 2, atoms.not_iodata_);
    const int rc = file_write_next(file, true, data.data, data.size);
    return nif_write_result(env, rc, data.size);
}

ERL_NIF_TERM nif_file_write_2(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    struct emmap_file *file = nif_get_file(env, argv[0]);
    ErlNifBinary data;
    if (!file) return nif_badarg(env, 1, atoms.not_a_handle_);
    if (!enif_inspect_binary(env, argv[1], &data)) return nif_badarg(env, 2, atoms.not_iodata_);
    const int rc = file_write_next(file, false, data.data, data.size);
    if (rc != -EAGAIN) return nif_write_result(env, rc, data.size);
    return enif_schedule_nif(env, "file_write", ERL_NIF_DIRTY_JOB_IO_BOUND, nif_file_write_dirty_2,
                             argc, argv);
}

static ERL_NIF_TERM position_with(ErlNifEnv *env, bool wait, const ERL_NIF_TERM argv[]) {
    struct emmap_file *file = nif_get_file(env, argv[0]);
    if (!file) return nif_badarg(env, 1, atoms.not_a_handle_);
    const enum file_whence whence = nif_is(argv[1], atoms.bof_)   ? FILE_SEEK_SET
                                    : nif_is(argv[1], atoms.cur_) ? FILE_SEEK_CUR
                                                                  : FILE_SEEK_END;
    ErlNifSInt64 off;
    uint64_t position;
    if (!enif_get_int64(env, argv[2], &off))
        return enif_term_type(env, argv[2]) == ERL_NIF_TERM_TYPE_INTEGER
                   ? nif_error(env, -EINVAL)
                   : nif_badarg(env, 2, atoms.not_a_position_);
    const int rc = file_seek(file, wait, whence, off, &position);
    if (rc == -EAGAIN && !wait) return atoms.undefined_;
    return rc ? nif_error(env, rc) : nif_ok(env, enif_make_uint64(env, position));
}

static ERL_NIF_TERM position_dirty(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return position_with(env, true, argv);
}

/* file_position(Handle, bof | cur | eof, Off) -> {ok, Position} */
ERL_NIF_TERM nif_file_position_3(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    const ERL_NIF_TERM result = position_with(env, false, argv);
    if (!nif_is(result, atoms.undefined_)) return result;
    return enif_schedule_nif(env, "file_position", ERL_NIF_DIRTY_JOB_IO_BOUND, position_dirty, argc,
                             argv);
}

/* file_truncate(Handle) -> ok: the position becomes the end. */
ERL_NIF_TERM nif_file_truncate_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    struct emmap_file *file = nif_get_file(env, argv[0]);
    return file ? nif_result(env, file_cut(file)) : nif_badarg(env, 1, atoms.not_a_handle_);
}

/* ------------------------------------------------------------------ what the file system does */

/* Off and Len of argv[1] and argv[2]; what does not fit is impossible, as for a raw file. */
static bool get_signed_range(ErlNifEnv *env, const ERL_NIF_TERM argv[], uint64_t out[2],
                             ERL_NIF_TERM *bad) {
    for (int i = 0; i < 2; i++) {
        const enum nif_integer is = nif_get_uint64(env, argv[1 + i], &out[i]);
        if (is == NIF_INTEGER) continue;
        *bad = is == NIF_OUT_OF_RANGE ? nif_error(env, -EINVAL)
                                      : nif_badarg(env, 2 + i, atoms.not_an_integer_);
        return false;
    }
    return true;
}

/* file_allocate(Handle, Off, Len) -> ok */
ERL_NIF_TERM nif_file_allocate_3(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    struct emmap_file *file = nif_get_file(env, argv[0]);
    uint64_t range[2];
    ERL_NIF_TERM bad;
    if (!file) return nif_badarg(env, 1, atoms.not_a_handle_);
    if (!get_signed_range(env, argv, range, &bad)) return bad;
    return nif_result(env, file_allocate(file, range[0], range[1]));
}

/* file_advise(Handle, Off, Len, Advice) -> ok */
ERL_NIF_TERM nif_file_advise_4(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    static const struct {
        const char *name;
        enum os_advice advice;
    } advices[] = {
        {"normal", OS_ADVICE_NORMAL},       {"sequential", OS_ADVICE_SEQUENTIAL},
        {"random", OS_ADVICE_RANDOM},       {"no_reuse", OS_ADVICE_NO_REUSE},
        {"will_need", OS_ADVICE_WILL_NEED}, {"dont_need", OS_ADVICE_DONT_NEED},
    };
    struct emmap_file *file = nif_get_file(env, argv[0]);
    uint64_t range[2];
    ERL_NIF_TERM bad;
    char name[32];
    if (!file) return nif_badarg(env, 1, atoms.not_a_handle_);
    if (!get_signed_range(env, argv, range, &bad)) return bad;
    if (enif_get_atom(env, argv[3], name, sizeof name, ERL_NIF_LATIN1) > 0)
        for (size_t i = 0; i < sizeof advices / sizeof *advices; i++)
            if (strcmp(name, advices[i].name) == 0)
                return nif_result(env, file_advise(file, range[0], range[1], advices[i].advice));
    return nif_error(env, -EINVAL);
}

/* file_handle_info(Handle) -> {ok, {Size, Mode, Links, Dev, RawDev, Inode, Uid, Gid, ATime, MTime,
 * CTime}}, times in seconds since 1970 */
ERL_NIF_TERM nif_file_handle_info_1(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    struct emmap_file *file = nif_get_file(env, argv[0]);
    struct os_details d;
    if (!file) return nif_badarg(env, 1, atoms.not_a_handle_);
    const int rc = file_details(file, &d);
    if (rc) return nif_error(env, rc);
    const ERL_NIF_TERM fields[] = {
        enif_make_uint64(env, d.size_bytes), enif_make_uint(env, d.mode),
        enif_make_uint64(env, d.links),      enif_make_uint64(env, d.dev),
        enif_make_uint64(env, d.rdev),       enif_make_uint64(env, d.ino),
        enif_make_uint(env, d.uid),          enif_make_uint(env, d.gid),
        enif_make_int64(env, d.accessed_s),  enif_make_int64(env, d.modified_s),
        enif_make_int64(env, d.changed_s),
    };
    return nif_ok(env, enif_make_tuple_from_array(env, fields, sizeof fields / sizeof *fields));
}
