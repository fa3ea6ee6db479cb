/* support_role.c -- other OS processes for tests: the test program started once more, since a fork
 * alone has no background thread. One socket, on the role's standard input, carries the words. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test/support.h"

static const char *program;

void must_failed(const char *file, int line, const char *condition) {
    fprintf(stderr, "%s:%d: not so: %s\n", file, line, condition);
    _exit(99);
}

int run_role(int argc, char **argv, const struct role *roles, size_t count) {
    program = argv[0];
    if (argc < 3) return -1;
    for (size_t i = 0; i < count; i++)
        if (strcmp(argv[1], roles[i].name) == 0) return roles[i].run(argv[2]);
    fprintf(stderr, "no role '%s'\n", argv[1]);
    return 98;
}

struct child start_role(const char *name, const char *path) {
    int pair[2];
    assert_ok(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    fcntl(pair[0], F_SETFD, FD_CLOEXEC);
    fcntl(pair[1], F_SETFD, FD_CLOEXEC);
    signal(SIGPIPE, SIG_IGN); /* for the words to a role that has ended */
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (dup2(pair[1], STDIN_FILENO) < 0) _exit(97);
        execl(program, program, name, path, (char *)NULL);
        _exit(97);
    }
    close(pair[1]);
    return (struct child){.pid = pid, .socket = pair[0]};
}

void await_word(const struct child *child) {
    char c;
    ssize_t got;
    do
        got = read(child->socket, &c, 1);
    while (got < 0 && errno == EINTR);
    assert_int_equal(got, 1);
}

void give_word(const struct child *child) {
    assert_int_equal(write(child->socket, "x", 1), 1);
}

int end_role(const struct child *child) {
    int status;
    pid_t got;
    close(child->socket);
    do
        got = waitpid(child->pid, &status, 0);
    while (got < 0 && errno == EINTR);
    assert_int_equal(got, child->pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

int role_result(const char *name, const char *path) {
    const struct child child = start_role(name, path);
    return end_role(&child);
}

void say(void) {
    MUST(write(STDIN_FILENO, "x", 1) == 1);
}

bool hear(void) {
    char c;
    ssize_t got;
    do
        got = read(STDIN_FILENO, &c, 1);
    while (got < 0 && errno == EINTR);
    return got == 1;
}

bool heard(void) {
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    return poll(&in, 1, 0) > 0;
}
