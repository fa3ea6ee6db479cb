/* The yardsticks of the benchmarks: what a call of a NIF costs, and what copying costs, with
 * nothing of emmap in them. */
#include <erl_nif.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

enum { MOST_COPIED = 1 << 20 };

static ErlNifResourceType *block_type;
static ERL_NIF_TERM atom_ok, atom_error;

struct block {
    size_t len_bytes;
    unsigned char bytes[];
};

/* Each thread copies into memory of its own, as a memcpy loop in C would. */
static _Thread_local unsigned char own[MOST_COPIED];

/* The compiler may not leave out a copy that nobody looks at. */
static void keep(const void *bytes) {
    __asm__ volatile("" : : "r"(bytes) : "memory");
}

static ERL_NIF_TERM empty(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)env;
    (void)argc;
    (void)argv;
    return atom_ok;
}

static ERL_NIF_TERM empty_resource(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    void *block;
    (void)argc;
    if (!enif_get_resource(env, argv[0], block_type, &block)) return enif_make_badarg(env);
    return atom_ok;
}

/* new(Bytes): a resource that holds so many bytes. */
static ERL_NIF_TERM new_block(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    ErlNifUInt64 len_bytes;
    (void)argc;
    if (!enif_get_uint64(env, argv[0], &len_bytes)) return enif_make_badarg(env);
    struct block *block = enif_alloc_resource(block_type, sizeof(struct block) + (size_t)len_bytes);
    if (!block) return enif_raise_exception(env, atom_error);
    block->len_bytes = (size_t)len_bytes;
    memset(block->bytes, 'b', block->len_bytes);
    ERL_NIF_TERM term = enif_make_resource(env, block);
    enif_release_resource(block);
    return term;
}

/* copy(Block, Off, Len): the empty NIF with a memcpy in it. */
static ERL_NIF_TERM copy(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    void *found;
    ErlNifUInt64 off, len_bytes;
    (void)argc;
    if (!enif_get_resource(env, argv[0], block_type, &found) ||
        !enif_get_uint64(env, argv[1], &off) || !enif_get_uint64(env, argv[2], &len_bytes))
        return enif_make_badarg(env);
    const struct block *block = found;
    if (len_bytes > sizeof own || len_bytes > block->len_bytes ||
        off > block->len_bytes - len_bytes)
        return enif_make_badarg(env);
    memcpy(own, block->bytes + off, (size_t)len_bytes);
    keep(own);
    return atom_ok;
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* memcpy(Len, N): the nanoseconds of N copies in a C loop, between two places that stay. */
static ERL_NIF_TERM memcpy_loop(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    ErlNifUInt64 len_bytes, n;
    (void)argc;
    if (!enif_get_uint64(env, argv[0], &len_bytes) || !enif_get_uint64(env, argv[1], &n) ||
        len_bytes > sizeof own)
        return enif_make_badarg(env);
    unsigned char *source = malloc((size_t)len_bytes + 1);
    if (!source) return enif_raise_exception(env, atom_error);
    memset(source, 'b', (size_t)len_bytes);
    memcpy(own, source, (size_t)len_bytes); /* the pages are there */
    const uint64_t begin = now_ns();
    for (ErlNifUInt64 i = 0; i < n; i++) {
        keep(source);
        memcpy(own, source, (size_t)len_bytes);
        keep(own);
    }
    const uint64_t end = now_ns();
    free(source);
    return enif_make_uint64(env, end - begin);
}

/* resident(Name): {Resident, Pages} of a file, as the kernel tells whoever may write it; a file
 * of no bytes has none. */
static ERL_NIF_TERM resident(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    ErlNifBinary name;
    char path[4096];
    struct stat file;
    ERL_NIF_TERM result = atom_error;
    (void)argc;
    if (!enif_inspect_binary(env, argv[0], &name) || name.size >= sizeof path)
        return enif_make_badarg(env);
    memcpy(path, name.data, name.size);
    path[name.size] = 0;

    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return result;
    if (fstat(fd, &file) != 0 || file.st_size <= 0) goto close_file;
    const size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    const size_t pages = ((size_t)file.st_size + page_bytes - 1) / page_bytes;
    void *map = mmap(NULL, (size_t)file.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) goto close_file;
    unsigned char *seen = malloc(pages);
    if (!seen) goto unmap;
    if (mincore(map, (size_t)file.st_size, (void *)seen) == 0) {
        size_t found = 0;
        for (size_t i = 0; i < pages; i++)
            found += seen[i] & 1;
        result = enif_make_tuple2(env, enif_make_uint64(env, found), enif_make_uint64(env, pages));
    }
    free(seen);
unmap:
    munmap(map, (size_t)file.st_size);
close_file:
    close(fd);
    return result;
}

/* allocated(): bytes that malloc has given out in this OS process; 0 where it does not tell. */
static ERL_NIF_TERM allocated(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    (void)argv;
#if defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 33)
    const struct mallinfo2 info = mallinfo2();
    return enif_make_uint64(env, info.uordblks + info.hblkhd);
#else
    return enif_make_uint64(env, 0);
#endif
}

static int load(ErlNifEnv *env, void **data, ERL_NIF_TERM info) {
    (void)data;
    (void)info;
    block_type =
        enif_open_resource_type(env, NULL, "emmap_bench_block", NULL, ERL_NIF_RT_CREATE, NULL);
    atom_ok = enif_make_atom(env, "ok");
    atom_error = enif_make_atom(env, "error");
    return block_type ? 0 : -1;
}

static ErlNifFunc functions[] = {
    {"empty", 1, empty, 0},
    {"empty_resource", 1, empty_resource, 0},
    {"new", 1, new_block, 0},
    {"copy", 3, copy, 0},
    {"memcpy", 2, memcpy_loop, ERL_NIF_DIRTY_JOB_CPU_BOUND},
    {"resident", 1, resident, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"allocated", 0, allocated, 0},
};

ERL_NIF_INIT(emmap_bench_nif, functions, load, NULL, NULL, NULL)
