#!/bin/sh
# fuzz_nif [libFuzzer's options and files]: a VM with libFuzzer inside, beside an instrumented NIF.
# The files of its programs are in a small file system of its own where that can be had (by root), else
# in a folder of /dev/shm or $TMPDIR; none may grow past 200 MB.
here=$(cd "$(dirname "$0")" && pwd)

if [ -z "$EMMAP_FUZZ_DIR" ]; then # this script once more, as the VM
  [ ! -w /dev/shm ] || TMPDIR=/dev/shm
  EMMAP_FUZZ_DIR=$(mktemp -d "${TMPDIR:-/tmp}/emmap-fuzz.XXXXXX") || exit 1
  export EMMAP_FUZZ_DIR
  trap 'rm -rf "$EMMAP_FUZZ_DIR"' EXIT
  trap 'exit 1' INT TERM
  if unshare -m mount -t tmpfs -o size=256m tmpfs "$EMMAP_FUZZ_DIR" 2>/dev/null; then
    EMMAP_FUZZ_SMALL=1 unshare -m "$0" "$@"
  else
    "$0" "$@"
  fi
  exit
fi

[ -z "$EMMAP_FUZZ_SMALL" ] || mount -t tmpfs -o size=256m tmpfs "$EMMAP_FUZZ_DIR" || exit 1
trap '' XFSZ # it is EFBIG
ulimit -c 0
ulimit -f 400000
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:$ASAN_OPTIONS
export UBSAN_OPTIONS=print_stacktrace=1:$UBSAN_OPTIONS
export ERL_CRASH_DUMP_BYTES=0
export GLIBC_TUNABLES=glibc.rtld.optional_static_tls=65536 # libFuzzer's, which is loaded late
export LD_PRELOAD=$here/nif/libclang_rt.asan.so

# Each block is malloc's, so that the sanitizer sees its ends. A bad address is for the NIF's own
# handler to judge first, then for the sanitizer, not for libFuzzer.
exec erl +Mea min +t 20000000 +S 2:2 +SDcpu 2:2 +SDio 4 -noinput -kernel logger_level error \
  -pa "$here/nif/emmap/ebin" -s fuzz_nif main -extra "$0" \
  -handle_segv=0 -handle_bus=0 -handle_xfsz=0 -detect_leaks=0 -error_exitcode=1 -len_control=10 "$@"
