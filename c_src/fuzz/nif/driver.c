/* driver.c -- libFuzzer in a VM: each input goes to a process as a message, and its verdict is waited
 * for. Its own NIF, for the fuzzer's VM only. */
#include <erl_nif.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* What libclang_rt.fuzzer_no_main has. */
int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*run)(const uint8_t *data, size_t len_bytes));

/* The program is stopped long before; a VM that does not come to that is stopped by this. */
enum { MOST_ARGS = 64, HANG_SECONDS = 60, STACK_KILOWORDS = 1024 };

static struct {
    ErlNifPid runner;
    char *argv[MOST_ARGS + 1];
    int argc;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum { WAITING, GOOD, BAD } verdict; /* under the lock */
} own = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

/* libFuzzer keeps the input when it sees SIGABRT. */
static void fail(const char *why) {
    fprintf(stderr, "fuzz_nif: %s\n", why);
    abort();
}

static void send_input(const uint8_t *data, size_t len_bytes) {
    ErlNifEnv *env = enif_alloc_env();
    ERL_NIF_TERM input;
    unsigned char *bytes = enif_make_new_binary(env, len_bytes, &input);
    if (len_bytes) memcpy(bytes, data, len_bytes);
    const ERL_NIF_TERM message = enif_make_tuple2(env, enif_make_atom(env, "input"), input);
    if (!enif_send(NULL, &own.runner, env, message)) fail("the runner has ended");
    enif_free_env(env);
}

static int run_input(const uint8_t *data, size_t len_bytes) {
    struct timespec until;
    int rc = 0;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += HANG_SECONDS;
    own.verdict = WAITING;
    send_input(data, len_bytes);
    pthread_mutex_lock(&own.lock);
    while (own.verdict == WAITING && rc == 0)
        rc = pthread_cond_timedwait(&own.changed, &own.lock, &until);
    const bool good = own.verdict == GOOD;
    pthread_mutex_unlock(&own.lock);
    if (rc == ETIMEDOUT) fail("no verdict");
    if (!good) fail("the program has failed");
    return 0;
}

/* The VM's threads run on: nothing of it may be torn down. */
static void leave(int status, void *arg) {
    (void)arg;
    (void)fflush(NULL);
    _exit(status);
}

static void *fuzz(void *arg) {
    char **argv = own.argv;
    (void)arg;
    if (on_exit(leave, NULL)) fail("on_exit");
    exit(LLVMFuzzerRunDriver(&own.argc, &argv, run_input));
}

/* start(Args) -> ok: libFuzzer runs in a thread of its own, and then ends the VM. The caller gets
 * {input, Binary}, and answers each by verdict/1. */
static ERL_NIF_TERM start(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    ERL_NIF_TERM arg, rest = argv[0];
    ErlNifBinary text;
    while (own.argc < MOST_ARGS && enif_get_list_cell(env, rest, &arg, &rest)) {
        if (!enif_inspect_binary(env, arg, &text)) return enif_make_badarg(env);
        char *copy = malloc(text.size + 1);
        if (!copy) return enif_make_badarg(env);
        memcpy(copy, text.data, text.size);
        copy[text.size] = '\0';
        own.argv[own.argc++] = copy;
    }
    ErlNifTid thread;
    ErlNifThreadOpts *options = enif_thread_opts_create("fuzz");
    options->suggested_stack_size = STACK_KILOWORDS;
    enif_self(env, &own.runner);
    if (enif_thread_create("fuzz", &thread, fuzz, NULL, options)) return enif_make_badarg(env);
    enif_thread_opts_destroy(options);
    return enif_make_atom(env, "ok");
}

/* verdict(true | false) -> ok */
static ERL_NIF_TERM verdict(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    const bool good = enif_is_identical(argv[0], enif_make_atom(env, "true"));
    pthread_mutex_lock(&own.lock);
    own.verdict = good ? GOOD : BAD;
    pthread_cond_signal(&own.changed);
    pthread_mutex_unlock(&own.lock);
    return enif_make_atom(env, "ok");
}

static ErlNifFunc functions[] = {{"start", 1, start, 0}, {"verdict", 1, verdict, 0}};

ERL_NIF_INIT(fuzz_nif, functions, NULL, NULL, NULL, NULL)
