/* test_handler.c -- faults that are not ours go where they went before us. */
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "os/os.h"
#include "test/support.h"

static volatile sig_atomic_t handled;

static void mend(void *addr) {
    const uint64_t size = page_bytes();
    void *start = (void *)((uintptr_t)addr / size * size);
    handled++;
    MUST(mmap(start, size, PROT_READ, MAP_PRIVATE | MAP_ANON | MAP_FIXED, -1, 0) == start);
}

static void mend_with_info(int sig, siginfo_t *info, void *context) {
    (void)sig, (void)context;
    mend(info->si_addr);
}

static void *foreign_addr;

static void mend_plain(int sig) {
    (void)sig;
    mend(foreign_addr);
}

/* Maps the file by hand, beside a handle of it, and cuts both. */
static struct emmap_file *map_and_cut(const char *name) {
    struct emmap_file *ours;
    MUST(open_file(&ours, name, RW, 0, 0) == 0);
    int fd;
    MUST(os_open(name, OS_OPEN_WRITE, 0, &fd) == 0);
    foreign_addr = mmap(NULL, page_bytes(), PROT_READ, MAP_SHARED, fd, 0);
    MUST(foreign_addr != MAP_FAILED);
    MUST(truncate(name, 0) == 0);
    return ours;
}

static int handler_before(const char *name, const struct sigaction *before) {
    uint8_t byte;
    MUST(sigaction(SIGBUS, before, NULL) == 0);
    struct emmap_file *ours = map_and_cut(name);
    MUST(read_byte(ours, 0, &byte) == EMMAP_E_TRUNCATED);
    MUST(handled == 0);
    MUST(*(volatile uint8_t *)foreign_addr == 0);
    MUST(handled == 1);
    emmap_file_free(ours);
    return 0;
}

static int role_siginfo_before(const char *name) {
    const struct sigaction before = {.sa_sigaction = mend_with_info, .sa_flags = SA_SIGINFO};
    return handler_before(name, &before);
}

static int role_handler_before(const char *name) {
    const struct sigaction before = {.sa_handler = mend_plain};
    return handler_before(name, &before);
}

static int die_of(const char *name, bool raised) {
    const struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    signal(SIGBUS, SIG_DFL);
    map_and_cut(name);
    if (raised) raise(SIGBUS);
    return *(volatile uint8_t *)foreign_addr;
}

static int role_nobody_before(const char *name) {
    return die_of(name, false);
}

static int role_raised(const char *name) {
    return die_of(name, true);
}

static void a_foreign_fault_goes_to_the_handler_before_us(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, page_bytes());
    assert_ok(role_result("siginfo_before", path));
    make_file(path, page_bytes());
    assert_ok(role_result("handler_before", path));
}

static void a_foreign_fault_without_a_handler_kills(void **state) {
    (void)state;
    const char *path = support_path("f");
    make_file(path, page_bytes());
    assert_int_equal(role_result("nobody_before", path), 256 + SIGBUS);
    make_file(path, page_bytes());
    assert_int_equal(role_result("raised", path), 256 + SIGBUS);
}

int main(int argc, char **argv) {
    static const struct role roles[] = {
        {"siginfo_before", role_siginfo_before},
        {"handler_before", role_handler_before},
        {"nobody_before", role_nobody_before},
        {"raised", role_raised},
    };
    const int rc = run_role(argc, argv, roles, sizeof roles / sizeof *roles);
    if (rc >= 0) return rc;
    const struct CMUnitTest tests[] = {
        TEST(a_foreign_fault_goes_to_the_handler_before_us),
        TEST(a_foreign_fault_without_a_handler_kills),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
