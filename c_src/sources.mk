# The one list of sources, for every build: the library, the NIF, the command, the tests.
# EMMAP_OS picks the file of this system: linux, darwin or posix (the fallback).
SYSTEM := $(shell uname -s)
EMMAP_OS ?= $(or $(if $(filter Linux,$(SYSTEM)),linux),$(if $(filter Darwin,$(SYSTEM)),darwin),posix)

LIB_SOURCES := \
	os/os_unix.c \
	os/os_$(EMMAP_OS).c \
	core/crc32c.c \
	core/error.c \
	core/fault.c \
	core/figures.c \
	core/inode.c \
	core/region.c \
	core/registry.c \
	core/residency.c \
	core/runtime.c \
	core/hash.c \
	core/stripes.c \
	store/birth.c \
	store/counters.c \
	store/counters_names.c \
	store/counters_open.c \
	store/counters_text.c \
	store/simple_counters.c \
	store/figures.c \
	store/file.c \
	store/file_atomic.c \
	store/file_memory.c \
	store/file_name.c \
	store/file_open.c \
	store/file_size.c \
	store/file_stream.c \
	store/queue.c \
	store/queue_damage.c \
	store/queue_lock.c \
	store/queue_open.c \
	store/queue_peek.c \
	store/queue_push.c \
	store/queue_recover.c \
	store/queue_settle.c \
	store/queue_space.c \
	store/queue_stream.c \
	store/queue_sync.c \
	store/queue_take.c \
	store/queue_view.c \
	store/queue_view_check.c \
	store/queue_view_stream.c \
	store/queue_view_walk.c \
	store/touch.c

NIF_SOURCES := \
	nif/nif.c \
	nif/nif_atomic.c \
	nif/nif_counters.c \
	nif/nif_counters_text.c \
	nif/nif_simple_counters.c \
	nif/nif_etf.c \
	nif/nif_etf_atom.c \
	nif/nif_etf_decode.c \
	nif/nif_etf_encode.c \
	nif/nif_etf_walk.c \
	nif/nif_file.c \
	nif/nif_options.c \
	nif/nif_queue.c \
	nif/nif_stream.c \
	nif/nif_term.c \
	nif/nif_work.c

CLI_SOURCES := \
	cli/main.c \
	cli/counters.c \
	cli/dump.c \
	cli/info.c \
	cli/queue.c \
	cli/term.c \
	cli/verify.c \
	cli/words.c

TEST_SOURCES := os/os_testing.c cli/term.c cli/words.c
