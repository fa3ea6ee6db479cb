/* A table of SQLite as a queue, in WAL mode: each call one transaction. */
#include <erl_nif.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <string.h>

static ErlNifResourceType *db_type;
static ERL_NIF_TERM atom_ok, atom_error;

enum statement { BEGIN, COMMIT, ROLLBACK, INSERT, FIRST, DELETE, STATEMENTS };

static const char *const texts[STATEMENTS] = {
    [BEGIN] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [ROLLBACK] = "ROLLBACK",
    [INSERT] = "INSERT INTO queue(data) VALUES(?)",
    [FIRST] = "SELECT id, data FROM queue ORDER BY id LIMIT ?",
    [DELETE] = "DELETE FROM queue WHERE id <= ?",
};

struct db {
    sqlite3 *handle;
    sqlite3_stmt *statements[STATEMENTS];
    ErlNifMutex *mutex; /* one writer at a time, as SQLite has it */
};

static void destroy(ErlNifEnv *env, void *object) {
    (void)env;
    struct db *db = object;
    for (int i = 0; i < STATEMENTS; i++)
        sqlite3_finalize(db->statements[i]);
    sqlite3_close(db->handle);
    if (db->mutex) enif_mutex_destroy(db->mutex);
}

static ERL_NIF_TERM failed(ErlNifEnv *env, const struct db *db) {
    const char *why = sqlite3_errmsg(db->handle);
    return enif_make_tuple2(env, atom_error, enif_make_string(env, why, ERL_NIF_LATIN1));
}

/* To its end; its rows are not looked at. */
static bool run(struct db *db, enum statement which) {
    sqlite3_stmt *statement = db->statements[which];
    const bool done = sqlite3_step(statement) == SQLITE_DONE;
    return sqlite3_reset(statement) == SQLITE_OK && done;
}

/* open(File, Synchronous): "FULL" or "NORMAL". */
static ERL_NIF_TERM open_db(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    char path[4096], level[16], pragma[64] = "PRAGMA synchronous=";
    (void)argc;
    if (enif_get_string(env, argv[0], path, sizeof path, ERL_NIF_LATIN1) <= 0 ||
        enif_get_string(env, argv[1], level, sizeof level, ERL_NIF_LATIN1) <= 0)
        return enif_make_badarg(env);
    strcat(pragma, level);

    struct db *db = enif_alloc_resource(db_type, sizeof *db);
    memset(db, 0, sizeof *db);
    db->mutex = enif_mutex_create("emmap_bench_sqlite");
    bool good = sqlite3_open(path, &db->handle) == SQLITE_OK;
    const char *const first[] = {"PRAGMA journal_mode=WAL", pragma,
                                 "CREATE TABLE queue(id INTEGER PRIMARY KEY, data BLOB)"};
    for (unsigned i = 0; good && i < sizeof first / sizeof *first; i++)
        good = sqlite3_exec(db->handle, first[i], NULL, NULL, NULL) == SQLITE_OK;
    for (int i = 0; good && i < STATEMENTS; i++)
        good = sqlite3_prepare_v2(db->handle, texts[i], -1, &db->statements[i], NULL) == SQLITE_OK;
    ERL_NIF_TERM result = good ? enif_make_resource(env, db) : failed(env, db);
    enif_release_resource(db);
    return result;
}

static bool insert(ErlNifEnv *env, struct db *db, ERL_NIF_TERM list) {
    ErlNifBinary data;
    ERL_NIF_TERM head;
    while (enif_get_list_cell(env, list, &head, &list)) {
        if (!enif_inspect_binary(env, head, &data) ||
            sqlite3_bind_blob64(db->statements[INSERT], 1, data.data, data.size, SQLITE_STATIC) !=
                SQLITE_OK ||
            !run(db, INSERT))
            return false;
    }
    return true;
}

/* push_many(Db, [Binary]) */
static ERL_NIF_TERM push_many(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    void *object;
    ERL_NIF_TERM result = atom_ok;
    (void)argc;
    if (!enif_get_resource(env, argv[0], db_type, &object)) return enif_make_badarg(env);
    struct db *db = object;
    enif_mutex_lock(db->mutex);
    if (!run(db, BEGIN) || !insert(env, db, argv[1]) || !run(db, COMMIT)) {
        result = failed(env, db);
        run(db, ROLLBACK);
    }
    enif_mutex_unlock(db->mutex);
    return result;
}

/* take_many(Db, N): up to so many, the last one first. */
static ERL_NIF_TERM take_many(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    void *object;
    unsigned n;
    (void)argc;
    if (!enif_get_resource(env, argv[0], db_type, &object) || !enif_get_uint(env, argv[1], &n))
        return enif_make_badarg(env);
    struct db *db = object;
    ERL_NIF_TERM list = enif_make_list(env, 0);
    enif_mutex_lock(db->mutex);
    bool good = run(db, BEGIN);
    sqlite3_stmt *first = db->statements[FIRST];
    sqlite3_int64 last = -1;
    sqlite3_bind_int64(first, 1, n);
    while (good && sqlite3_step(first) == SQLITE_ROW) {
        ERL_NIF_TERM data;
        const void *from = sqlite3_column_blob(first, 1);
        const size_t len_bytes = (size_t)sqlite3_column_bytes(first, 1);
        unsigned char *to = enif_make_new_binary(env, len_bytes, &data);
        if (len_bytes) memcpy(to, from, len_bytes);
        list = enif_make_list_cell(env, data, list);
        last = sqlite3_column_int64(first, 0);
    }
    good = good && sqlite3_reset(first) == SQLITE_OK;
    sqlite3_bind_int64(db->statements[DELETE], 1, last);
    if (!good || !run(db, DELETE) || !run(db, COMMIT)) {
        list = failed(env, db);
        run(db, ROLLBACK);
    }
    enif_mutex_unlock(db->mutex);
    return list;
}

static int load(ErlNifEnv *env, void **data, ERL_NIF_TERM info) {
    (void)data;
    (void)info;
    db_type =
        enif_open_resource_type(env, NULL, "emmap_bench_sqlite", destroy, ERL_NIF_RT_CREATE, NULL);
    atom_ok = enif_make_atom(env, "ok");
    atom_error = enif_make_atom(env, "error");
    return db_type ? 0 : -1;
}

static ErlNifFunc functions[] = {
    {"open", 2, open_db, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"push_many", 2, push_many, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"take_many", 2, take_many, ERL_NIF_DIRTY_JOB_IO_BOUND},
};

ERL_NIF_INIT(emmap_bench_sqlite, functions, load, NULL, NULL, NULL)
