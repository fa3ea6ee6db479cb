/* replay.c -- a fuzzer without libFuzzer: runs the files given, then random inputs.
 *
 *     fuzz_queue_open [-seconds=N] [-seed=N] [FILE...]
 *
 * The seed is printed; with a failure, the one that begins with the input that has failed. */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz/queue_edits.h"
#include "os/os.h"

enum { MOST_BYTES = 4 + 12 * 24, HANG_SECONDS = 60 };
static const char *file;
static uint64_t seed;

#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
    return "abort_on_error=1";
}
const char *__ubsan_default_options(void);
const char *__ubsan_default_options(void) {
    return "abort_on_error=1";
}
#endif

static void tell(int signal_number) {
    char text[512];
    const int n =
        file ? snprintf(text, sizeof text, "failed: signal %d, file %s\n", signal_number, file)
             : snprintf(text, sizeof text, "failed: signal %d, -seed=%llu\n", signal_number,
                        (unsigned long long)seed);
    (void)!write(STDERR_FILENO, text, (size_t)n);
    _exit(1);
}

static uint64_t next(uint64_t *rng) {
    *rng += 0x9e3779b97f4a7c15;
    uint64_t z = *rng;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* Few edits break less, and lead further. */
static size_t make_input(uint8_t *data) {
    uint64_t rng = seed;
    const size_t edits = next(&rng) % 4 ? 1 + next(&rng) % 3 : next(&rng) % 24;
    const size_t len = 4 + 12 * edits;
    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)next(&rng);
    return len;
}

static void run_file(const char *name) {
    static uint8_t data[1 << 16];
    FILE *f = fopen(name, "rb");
    if (!f) {
        perror(name);
        exit(2);
    }
    const size_t len = fread(data, 1, sizeof data, f);
    (void)fclose(f);
    file = name;
    (void)LLVMFuzzerTestOneInput(data, len);
    file = NULL;
}

int main(int argc, char **argv) {
    uint8_t data[MOST_BYTES];
    uint64_t seconds = 5, runs = 0;
    unsigned files = 0;
    (void)os_random(&seed, sizeof seed);
    seed &= 0xFFFFFFFF;
    (void)signal(SIGABRT, tell);
    (void)signal(SIGALRM, tell);
    for (int i = 1; i < argc; i++) {
        alarm(HANG_SECONDS);
        if (strncmp(argv[i], "-seconds=", 9) == 0)
            seconds = strtoull(argv[i] + 9, NULL, 10);
        else if (strncmp(argv[i], "-seed=", 6) == 0)
            seed = strtoull(argv[i] + 6, NULL, 10);
        else
            run_file(argv[i]), files++;
    }
    printf("%u files; -seed=%llu\n", files, (unsigned long long)seed);
    (void)fflush(stdout);
    for (const uint64_t until = os_now_ms() + seconds * 1000; os_now_ms() < until; seed++, runs++) {
        alarm(HANG_SECONDS);
        (void)LLVMFuzzerTestOneInput(data, make_input(data));
    }
    printf("%llu inputs\n", (unsigned long long)runs);
    return 0;
}
