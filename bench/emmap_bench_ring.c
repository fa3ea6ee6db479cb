/* The yardstick of the queue: a ring of messages in a mapped file, each with its CRC-32C, and
 * nothing else. A push copies the bytes in and makes their checksum, a take copies them out and
 * verifies it. What emmap does beside that, this leaves out: a crash in a push or a take is not
 * survived, the ring does not grow, one OS process uses it.
 *
 * `loop' is all of it in C; the calls for Erlang take a mutex, so that processes can share them. */
#include <erl_nif.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "core/crc32c.h" /* emmap's own: the yardstick is not slower for another one */

static ErlNifResourceType *ring_type;
static ERL_NIF_TERM atom_ok, atom_empty, atom_full, atom_corrupt;

/* In the file, before the messages. The positions only rise. */
struct positions {
    uint64_t head, tail;
    uint64_t zeros[510];
};

struct record {
    uint32_t len, crc; /* len SKIP: the rest of the ring is unused, it goes on at its start */
};

enum { SKIP = UINT32_MAX };

struct ring {
    struct positions *at;
    unsigned char *bytes;
    size_t len_bytes; /* of them */
    ErlNifMutex *mutex;
};

static size_t record_bytes(uint32_t len) {
    return (sizeof(struct record) + len + 7) & ~(size_t)7;
}

static bool ring_push(struct ring *ring, const unsigned char *data, uint32_t len) {
    const size_t need = record_bytes(len);
    uint64_t tail = ring->at->tail;
    const size_t left = ring->len_bytes - (size_t)(tail % ring->len_bytes);
    const size_t skipped = left < need ? left : 0;
    if (tail + skipped + need - ring->at->head > ring->len_bytes) return false;
    if (skipped) {
        const struct record skip = {.len = SKIP};
        memcpy(ring->bytes + tail % ring->len_bytes, &skip, sizeof skip);
        tail += skipped;
    }
    unsigned char *at = ring->bytes + tail % ring->len_bytes;
    memcpy(at + sizeof(struct record), data, len);
    const struct record record = {.len = len, .crc = crc32c(0, data, len)};
    memcpy(at, &record, sizeof record);
    __atomic_store_n(&ring->at->tail, tail + need, __ATOMIC_RELEASE);
    return true;
}

/* The first record; NULL: there is none. */
static const unsigned char *ring_first(struct ring *ring, struct record *record) {
    for (;;) {
        const uint64_t head = ring->at->head;
        if (head == __atomic_load_n(&ring->at->tail, __ATOMIC_ACQUIRE)) return NULL;
        const unsigned char *at = ring->bytes + head % ring->len_bytes;
        memcpy(record, at, sizeof *record);
        if (record->len != SKIP) return at + sizeof *record;
        ring->at->head = head + ring->len_bytes - head % ring->len_bytes;
    }
}

static bool ring_take(struct ring *ring, const struct record *record, const unsigned char *data,
                      unsigned char *to) {
    memcpy(to, data, record->len);
    ring->at->head += record_bytes(record->len);
    return crc32c(0, to, record->len) == record->crc;
}

/* --------------------------------------------------------------------------------- for Erlang */

/* new(File, Bytes): in a file of its own, which loses its name at once. */
static ERL_NIF_TERM new_ring(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    char path[4096];
    ErlNifUInt64 len_bytes;
    (void)argc;
    if (enif_get_string(env, argv[0], path, sizeof path, ERL_NIF_LATIN1) <= 0 ||
        !enif_get_uint64(env, argv[1], &len_bytes) || len_bytes % 8 || len_bytes == 0)
        return enif_make_badarg(env);
    const size_t file_bytes = sizeof(struct positions) + (size_t)len_bytes;
    const int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return enif_make_badarg(env);
    unlink(path);
    void *map = MAP_FAILED;
    if (ftruncate(fd, (off_t)file_bytes) == 0)
        map = mmap(NULL, file_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (map == MAP_FAILED) return enif_make_badarg(env);
    for (size_t off = 0; off < file_bytes; off += 4096) /* every page is there */
        *(volatile unsigned char *)((unsigned char *)map + off) = 0;

    struct ring *ring = enif_alloc_resource(ring_type, sizeof *ring);
    *ring = (struct ring){.at = map,
                          .bytes = (unsigned char *)map + sizeof(struct positions),
                          .len_bytes = (size_t)len_bytes,
                          .mutex = enif_mutex_create("emmap_bench_ring")};
    ERL_NIF_TERM term = enif_make_resource(env, ring);
    enif_release_resource(ring);
    return term;
}

static void destroy(ErlNifEnv *env, void *object) {
    (void)env;
    struct ring *ring = object;
    munmap(ring->at, sizeof(struct positions) + ring->len_bytes);
    enif_mutex_destroy(ring->mutex);
}

/* push(Ring, Binary) */
static ERL_NIF_TERM push(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    void *ring;
    ErlNifBinary data;
    (void)argc;
    if (!enif_get_resource(env, argv[0], ring_type, &ring) ||
        !enif_inspect_binary(env, argv[1], &data) || data.size >= SKIP)
        return enif_make_badarg(env);
    enif_mutex_lock(((struct ring *)ring)->mutex);
    const bool pushed = ring_push(ring, data.data, (uint32_t)data.size);
    enif_mutex_unlock(((struct ring *)ring)->mutex);
    return pushed ? atom_ok : atom_full;
}

/* Holds the mutex. */
static ERL_NIF_TERM taken(ErlNifEnv *env, struct ring *ring) {
    struct record record;
    ERL_NIF_TERM term;
    const unsigned char *data = ring_first(ring, &record);
    if (!data) return atom_empty;
    unsigned char *to = enif_make_new_binary(env, record.len, &term);
    return to && ring_take(ring, &record, data, to) ? term : atom_corrupt;
}

/* take(Ring) */
static ERL_NIF_TERM take(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    void *ring;
    (void)argc;
    if (!enif_get_resource(env, argv[0], ring_type, &ring)) return enif_make_badarg(env);
    enif_mutex_lock(((struct ring *)ring)->mutex);
    const ERL_NIF_TERM term = taken(env, ring);
    enif_mutex_unlock(((struct ring *)ring)->mutex);
    return term;
}

/* push_many(Ring, [Binary]) */
static ERL_NIF_TERM push_many(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    void *ring;
    ErlNifBinary data;
    ERL_NIF_TERM head, list = argv[1];
    (void)argc;
    if (!enif_get_resource(env, argv[0], ring_type, &ring)) return enif_make_badarg(env);
    enif_mutex_lock(((struct ring *)ring)->mutex);
    bool pushed = true;
    while (pushed && enif_get_list_cell(env, list, &head, &list))
        pushed = enif_inspect_binary(env, head, &data) && data.size < SKIP &&
                 ring_push(ring, data.data, (uint32_t)data.size);
    enif_mutex_unlock(((struct ring *)ring)->mutex);
    return pushed ? atom_ok : atom_full;
}

/* take_many(Ring, N): up to so many, the last one first. */
static ERL_NIF_TERM take_many(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    void *ring;
    unsigned n;
    (void)argc;
    if (!enif_get_resource(env, argv[0], ring_type, &ring) || !enif_get_uint(env, argv[1], &n))
        return enif_make_badarg(env);
    ERL_NIF_TERM list = enif_make_list(env, 0);
    enif_mutex_lock(((struct ring *)ring)->mutex);
    for (; n > 0; n--) {
        const ERL_NIF_TERM term = taken(env, ring);
        if (term == atom_empty) break;
        list = enif_make_list_cell(env, term, list);
    }
    enif_mutex_unlock(((struct ring *)ring)->mutex);
    return list;
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* loop(Ring, Len, N): the nanoseconds of N times a push and a take of so many bytes. */
static ERL_NIF_TERM loop(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    void *found;
    unsigned len;
    ErlNifUInt64 n;
    (void)argc;
    if (!enif_get_resource(env, argv[0], ring_type, &found) || !enif_get_uint(env, argv[1], &len) ||
        !enif_get_uint64(env, argv[2], &n))
        return enif_make_badarg(env);
    struct ring *ring = found;
    unsigned char *data = malloc(2 * (size_t)len + 1);
    if (!data) return enif_make_badarg(env);
    memset(data, 'r', 2 * (size_t)len);

    bool good = true;
    const uint64_t begin = now_ns();
    for (ErlNifUInt64 i = 0; i < n; i++) {
        struct record record;
        good &= ring_push(ring, data, len);
        const unsigned char *first = ring_first(ring, &record);
        good = good && first && record.len == len && ring_take(ring, &record, first, data + len);
    }
    const uint64_t end = now_ns();
    free(data);
    return good ? enif_make_uint64(env, end - begin) : atom_corrupt;
}

static int load(ErlNifEnv *env, void **data, ERL_NIF_TERM info) {
    (void)data;
    (void)info;
    ring_type =
        enif_open_resource_type(env, NULL, "emmap_bench_ring", destroy, ERL_NIF_RT_CREATE, NULL);
    atom_ok = enif_make_atom(env, "ok");
    atom_empty = enif_make_atom(env, "empty");
    atom_full = enif_make_atom(env, "full");
    atom_corrupt = enif_make_atom(env, "corrupt");
    return ring_type ? 0 : -1;
}

static ErlNifFunc functions[] = {
    {"new", 2, new_ring, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"push", 2, push, 0},
    {"take", 1, take, 0},
    {"push_many", 2, push_many, 0},
    {"take_many", 2, take_many, 0},
    {"loop", 3, loop, ERL_NIF_DIRTY_JOB_CPU_BOUND},
};

ERL_NIF_INIT(emmap_bench_ring, functions, load, NULL, NULL, NULL)
