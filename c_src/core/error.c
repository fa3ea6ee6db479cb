/* error.c -- names and messages of codes. */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "emmap.h"

/* What the calls of os can answer, by the names that Erlang's file module gives them. */
#define POSIX_ERRORS(X)                                                      \
    X(EACCES, eacces, "permission denied, or mapped without write")          \
    X(EAGAIN, eagain, "resource temporarily unavailable")                    \
    X(EBADF, ebadf, "bad file descriptor")                                   \
    X(EBUSY, ebusy, "the file is busy")                                      \
    X(EDOM, edom, "there is no such counter")                                \
    X(EDQUOT, edquot, "disk quota exceeded")                                 \
    X(EEXIST, eexist, "the file already exists")                             \
    X(EFBIG, efbig, "larger than a file can be here")                        \
    X(EINTR, eintr, "interrupted")                                           \
    X(EINVAL, einval, "a size or an offset that is impossible here")         \
    X(EIO, eio, "I/O error")                                                 \
    X(EISDIR, eisdir, "the name is that of a directory")                     \
    X(ELOOP, eloop, "too many symbolic links")                               \
    X(EMFILE, emfile, "this OS process has too many open files")             \
    X(ENAMETOOLONG, enametoolong, "the file name is too long")               \
    X(ENFILE, enfile, "the system has too many open files")                  \
    X(ENODEV, enodev, "only a regular file can be mapped")                   \
    X(ENOENT, enoent, "no such file or directory")                           \
    X(ENOLCK, enolck, "no locks available")                                  \
    X(ENOMEM, enomem, "no memory or address space for it")                   \
    X(ENOSPC, enospc, "no space left on the file system")                    \
    X(ENOSYS, enosys, "not implemented by this system")                      \
    X(ENOTDIR, enotdir, "a part of the name is not a directory")             \
    X(ENXIO, enxio, "no such device or address")                             \
    X(EOPNOTSUPP, eopnotsupp, "not supported by this system or file system") \
    X(EOVERFLOW, eoverflow, "a value too large")                             \
    X(EPERM, eperm, "operation not permitted")                               \
    X(EROFS, erofs, "read-only file system")                                 \
    X(ESTALE, estale, "stale network file handle")                           \
    X(ECANCELED, ecanceled, "canceled")                                      \
    X(ECONNABORTED, econnaborted, "connection aborted")                      \
    X(EDEADLK, edeadlk, "resource deadlock avoided")                         \
    X(EFAULT, efault, "bad address")                                         \
    X(EHOSTDOWN, ehostdown, "the host of the file system is down")           \
    X(EHOSTUNREACH, ehostunreach, "no route to the host of the file system") \
    X(EMLINK, emlink, "too many links")                                      \
    X(ENETDOWN, enetdown, "the network is down")                             \
    X(ENETUNREACH, enetunreach, "the network is unreachable")                \
    X(ENOBUFS, enobufs, "no buffer space")                                   \
    X(ENOTBLK, enotblk, "a block device is required")                        \
    X(ENOTCONN, enotconn, "the file system is not connected")                \
    X(EPIPE, epipe, "broken pipe")                                           \
    X(ERANGE, erange, "out of range")                                        \
    X(ESRCH, esrch, "no such process")                                       \
    X(ETIMEDOUT, etimedout, "the file system timed out")                     \
    X(EXDEV, exdev, "another file system")                                   \
    X(ETXTBSY, etxtbsy, "the file is being executed")

#ifdef __linux__
#define SYSTEM_ERRORS(X)                                          \
    X(EREMOTEIO, eremoteio, "remote I/O error")                   \
    X(EUCLEAN, euclean, "the file system needs cleaning")         \
    X(ENOLINK, enolink, "the link to the file system is severed") \
    X(ENODATA, enodata, "no data")                                \
    X(ENOMEDIUM, enomedium, "no medium")                          \
    X(ESHUTDOWN, eshutdown, "the file system was shut down")
#else
#define SYSTEM_ERRORS(X)
#endif

struct error {
    int code;
    const char *name, *message;
};

static const struct error errors[] = {
#define OWN_ERROR(code, name, message) {EMMAP_E_##code, #name, message},
    EMMAP_ERRORS(OWN_ERROR)
#undef OWN_ERROR
#define POSIX_ERROR(code, name, message) {-code, #name, message},
        POSIX_ERRORS(POSIX_ERROR) SYSTEM_ERRORS(POSIX_ERROR)
#undef POSIX_ERROR
};

static const struct error *find(int code) {
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i].code == code) return &errors[i];
    static const struct error unknown = {0, "unknown", "unknown error"};
    return &unknown;
}

const char *emmap_error_name(int code) {
    return find(code)->name;
}

const char *emmap_error_message(int code) {
    return find(code)->message;
}

int emmap_error_code(const char *name) {
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (strcmp(errors[i].name, name) == 0) return errors[i].code;
    return 0;
}
