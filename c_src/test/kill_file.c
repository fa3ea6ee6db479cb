/* kill_file.c -- see kill_file.h. */
#include "test/kill_file.h"

#include <dirent.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "test/kill_point.h"
#include "test/support.h"

static void remove_all(void) {
    DIR *dir = opendir(support_path("."));
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));)
        if (entry->d_name[0] != '.') assert_ok(unlinkat(dirfd(dir), entry->d_name, 0));
    closedir(dir);
}

static int in_a_child(void (*run)(void), uint64_t dies_at) {
    const pid_t pid = kill_child();
    if (pid == 0) {
        if (dies_at) kill_at(dies_at);
        run();
        kill_never();
        _exit(0);
    }
    return kill_status(pid);
}

static _Noreturn void end_with(const char *wrong) {
    if (wrong) print_error("%s\n", wrong);
    _exit(wrong ? 1 : 0);
}

static const struct kill_file_case *looked_at;
static void look(void) {
    end_with(looked_at->wrong());
}

/* It says when it has the file open, and looks when it is told to. */
struct survivor {
    pid_t pid;
    int hears;
};

static struct survivor survive(const struct kill_file_case *of) {
    int up[2], down[2];
    char byte = 0;
    if (!of->open) return (struct survivor){.pid = 0};
    assert_ok(pipe(up));
    assert_ok(pipe(down));
    const pid_t pid = kill_child();
    if (pid == 0) {
        close(up[0]), close(down[1]);
        of->open();
        MUST(write(up[1], &byte, 1) == 1);
        MUST(read(down[0], &byte, 1) == 1);
        end_with(of->looks_wrong());
    }
    close(up[1]), close(down[0]);
    assert_int_equal(read(up[0], &byte, 1), 1);
    close(up[0]);
    return (struct survivor){.pid = pid, .hears = down[1]};
}

static int survivor_looks(const struct survivor *survivor) {
    if (survivor->pid == 0) return 0;
    assert_int_equal(write(survivor->hears, "", 1), 1);
    close(survivor->hears);
    return kill_status(survivor->pid);
}

enum { FIRST_STATES = 24 };

static uint64_t cut_everywhere(const struct kill_file_case *of, uint64_t every, void *told,
                               size_t told_bytes) {
    uint64_t tried = 0;
    looked_at = of;
    for (uint64_t n = 1;; n += n < FIRST_STATES ? 1 : every) {
        tried++;
        remove_all();
        memset(told, 0, told_bytes);
        if (of->make) assert_ok(in_a_child(of->make, 0));
        const struct survivor survivor = survive(of);
        const int status = in_a_child(of->run, n);
        if (status != KILLED) assert_int_equal(status, 0);
        if (survivor_looks(&survivor)) fail_msg("%s, state %d: who has it open", of->name, (int)n);
        if (in_a_child(look, 0) != 0) fail_msg("%s, state %d", of->name, (int)n);
        if (status == 0) return tried;
    }
}

void *kill_file_told(size_t told_bytes) {
    void *told = mmap(NULL, told_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(told, MAP_FAILED);
    return told;
}

uint64_t kill_file_cases(const struct kill_file_case *cases, unsigned n, uint64_t every, void *told,
                         size_t told_bytes) {
    uint64_t states = 0;
    for (unsigned i = 0; i < n; i++)
        states += cut_everywhere(&cases[i], every, told, told_bytes);
    return states;
}
