/* fuzz_counters_open.c -- whatever bytes a file has: it is refused and left as it is, or its counters count, have
 * names that are UTF-8 and differ, are extended and allocated from, and are the same when it is opened again.
 *
 *     | base | how | plan | repair | 12 bytes an edit ... |
 *     edit: | op | late | index 16 | value 64 |
 *
 * Any bytes are an input: a good file, and what is edited in it. Checksums are made good after the edits, if repair
 * is odd; those that are late come after that. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/crc32c.h"
#include "fuzz/queue_edits.h"
#include "fuzz/scratch.h"
#include "os/os.h"
#include "store/counters.h"
#include "store/identity.h"
#include "test/support.h"

enum { ROOM = 96 << 10, EDIT_BYTES = 12, MOST_EDITS = 24, STEPS = 24, MOST = 4096, MORE = 3 };
enum { HOW_SAME_BOOT = 1, HOW_CUT = 2, HOW_EXTEND = 4 };
#define WORD(field) offsetof(struct emmap_disk_counter, field)

struct run {
    uint8_t bytes[ROOM]; /* what the file must hold */
    uint64_t len_bytes, rng;
    uint8_t how;
    struct emmap_counters *c;
    struct emmap_counters_info info;
    bool is_forged[MOST]; /* durable was above reserved: nobody writes that */
};
static struct run run;

static uint64_t random_below(uint64_t below) {
    run.rng ^= run.rng << 13;
    run.rng ^= run.rng >> 7;
    run.rng ^= run.rng << 17;
    return run.rng % below;
}

static uint64_t get_word(uint64_t off) {
    uint64_t word;
    memcpy(&word, run.bytes + off, sizeof word);
    return word;
}

static void set_word(uint64_t off, uint64_t word) {
    if (off <= ROOM - sizeof word) memcpy(run.bytes + off, &word, sizeof word);
}

/* ------------------------------------------------------------------------------------------ bases */

static const struct emmap_counter names[] = {
    {.name = "requests", .unit = "requests", .help = "What was asked for.", .type = EMMAP_COUNTER},
    {.name = "größe", .unit = "bytes", .help = "wie groß"},
    {.name = "latency", .unit = "seconds"},
    {.name = "a"},
    {.name = "\xF0\x9F\x8C\x8A", .help = "four bytes"},
};

static const struct base {
    uint32_t flags;
    uint64_t count;
    bool is_named, is_simple, is_allocated;
} bases[] = {
    {.count = 40, .is_allocated = true},
    {.flags = EMMAP_COUNTERS_UNSIGNED | EMMAP_COUNTERS_PADDED, .count = 9, .is_allocated = true},
    {.count = 3, .is_named = true, .is_allocated = true},
    {.flags = EMMAP_COUNTERS_STRIPED, .count = 5},
    {.flags = EMMAP_COUNTERS_STRIPED, .count = 2, .is_named = true},
    {.count = 5, .is_named = true},
    {.count = 4, .is_simple = true},
    {.flags = EMMAP_COUNTERS_UNSIGNED, .count = 5, .is_named = true, .is_allocated = true},
};
enum { BASES = sizeof bases / sizeof *bases };
static struct image_of_base {
    uint8_t bytes[32 << 10];
    uint64_t len_bytes;
} images[BASES];

static void fill_base(const struct base *base, const char *path) {
    struct emmap_counters *c;
    const struct emmap_counters_options options = {.flags = base->flags | EMMAP_COUNTERS_CREATE,
                                                   .count = base->count,
                                                   .counters = base->is_named ? names : NULL};
    FUZZ_MUST(emmap_counters_open(&c, path, &options) == 0);
    for (uint64_t i = 0; i < base->count; i++) {
        int64_t first;
        FUZZ_MUST(emmap_counters_put(c, i, 1000 * (int64_t)i) == 0);
        if (base->is_allocated && i % 2) FUZZ_MUST(emmap_counters_allocate(c, i, 10, &first) == 0);
    }
    emmap_counters_free(c);
}

static void fill_simple(const struct base *base, const char *path) {
    struct emmap_file *file;
    uint64_t found;
    FUZZ_MUST(emmap_simple_counters_open(&file, path, base->count, &found) == 0);
    emmap_file_free(file);
}

/* Of the header nothing is by chance, so that an input is always the same. */
static void make_base(unsigned which) {
    struct image_of_base *image = &images[which];
    char path[300];
    if (image->len_bytes > 0) return;
    snprintf(path, sizeof path, "%s.base", scratch_path());
    (bases[which].is_simple ? fill_simple : fill_base)(&bases[which], path);
    const int fd = open(path, O_RDONLY);
    const ssize_t got = pread(fd, image->bytes, sizeof image->bytes, 0);
    FUZZ_MUST(got > 0 && (size_t)got < sizeof image->bytes);
    close(fd);
    (void)unlink(path);
    image->len_bytes = (uint64_t)got;
    if (!bases[which].is_simple)
        memset(image->bytes + offsetof(struct emmap_disk_counters, uuid), 7, 16 + 8);
}

/* ------------------------------------------------------------------------------------------ edits */

struct edit {
    uint8_t op;
    bool late;
    unsigned index;
    uint64_t value;
};

static uint64_t stride(void) {
    struct emmap_disk_counters header;
    memcpy(&header, run.bytes, sizeof header);
    const uint64_t s = header.stride;
    return s == 32 || s == 64 || s == 1024 || s == 2048 ? s : 32;
}

static uint64_t records(void) {
    return run.len_bytes < COUNTERS_DATA_OFF + stride()
               ? 1
               : (run.len_bytes - COUNTERS_DATA_OFF) / stride();
}

static uint64_t record_off(uint64_t i) {
    return COUNTERS_DATA_OFF + i % records() * stride();
}

/* The bytes are ROOM, whatever the file has of them. */
static uint64_t name_of(uint64_t i) {
    const uint64_t off = record_off(i) + (stride() == 2048 ? 1024 : 64);
    return off + sizeof(struct emmap_disk_counter_name) > ROOM ? COUNTERS_DATA_OFF + 64 : off;
}

static void edit_text(const struct edit *e) {
    static const char *const texts[] = {
        "a",    "requests", "\xC0\x80", "\xED\xA0\x80", "\xF4\x90",    "\xF4\x8F\xBF\xBF", "gr\xC3",
        "\xFF", "fuzz 0",   "",         "a\"b\\\n",     "\xE2\x82\xAC"};
    const char *text = texts[e->value % (sizeof texts / sizeof *texts)];
    uint8_t *name = run.bytes + name_of(e->index);
    memset(name + offsetof(struct emmap_disk_counter_name, name), 0, COUNTERS_NAME_BYTES);
    memcpy(name + offsetof(struct emmap_disk_counter_name, name), text, strlen(text));
    name[offsetof(struct emmap_disk_counter_name, name_len)] = (uint8_t)strlen(text);
}

static void apply(const struct edit *e) {
    const uint64_t last = run.len_bytes > 0 ? run.len_bytes - 1 : 0;
    switch (e->op % 12) {
    case 0:
        set_word(COUNTERS_LIVE_OFF + e->index % 8 * 8, e->value);
        break;
    case 1:
        set_word(e->index % 10 * 8, e->value);
        break;
    case 2:
        set_word(record_off(e->index) + e->index / 256 % 4 * 8, e->value);
        break;
    case 3:
        run.bytes[e->value % (last + 1)] ^= (uint8_t)(e->index | 1);
        break;
    case 4:
        run.len_bytes = e->value % ROOM;
        break;
    case 5: {
        const uint64_t from = record_off(e->index), to = record_off(e->value);
        if (from + stride() <= ROOM && to + stride() <= ROOM)
            memmove(run.bytes + to, run.bytes + from, stride());
        break;
    }
    case 6:
        run.bytes[name_of(e->index) + e->value % sizeof(struct emmap_disk_counter_name)] =
            (uint8_t)(e->value >> 32);
        break;
    case 7:
        run.bytes[name_of(e->index) + 4 + e->value % 6] = (uint8_t)(e->value >> 32);
        break;
    case 8:
        set_word(COUNTERS_LIVE(count), e->value % 80);
        break;
    case 9: /* a value that is the least or the largest, or next to it */
        set_word(record_off(e->index) + e->index / 256 % 3 * 8,
                 (e->value & 1 ? UINT64_C(1) << 63 : 0) + (e->value >> 8) % 5 - 2);
        break;
    case 10:
        set_word(offsetof(struct emmap_disk_counters, stride),
                 (UINT64_C(32) << e->index % 8) | (e->value % 32) << 32);
        break;
    default:
        edit_text(e);
    }
}

static uint32_t name_crc(uint64_t i, const uint8_t *name) {
    return crc32c(crc32c(0, &i, sizeof i), name + 4, sizeof(struct emmap_disk_counter_name) - 4);
}

static void repair(void) {
    struct emmap_disk_counters header;
    memcpy(&header, run.bytes, sizeof header);
    header.crc = crc32c(0, &header, offsetof(struct emmap_disk_counters, crc));
    memcpy(run.bytes, &header, sizeof header);
    for (uint64_t i = 0; (header.flags & COUNTERS_FLAG_NAMED) && i < records(); i++) {
        uint8_t *name = run.bytes + name_of(i);
        const uint32_t crc = name_crc(i, name);
        memcpy(name, &crc, sizeof crc);
    }
}

static void write_identity(void) {
    uint64_t now[IDENTITY_WORDS];
    if (identity_now(scratch_fd(), now) == 0)
        memcpy(run.bytes + COUNTERS_LIVE(identity), now, sizeof now);
}

static void make_run(const uint8_t *data, size_t len_bytes) {
    uint8_t head[4] = {0};
    memcpy(head, data, len_bytes < sizeof head ? len_bytes : sizeof head);
    make_base(head[0] % BASES);
    const struct image_of_base *image = &images[head[0] % BASES];
    memset(&run, 0, sizeof run);
    memcpy(run.bytes, image->bytes, image->len_bytes);
    run.len_bytes = image->len_bytes;
    run.how = head[1];
    run.rng = head[2] * 2654435761u + 1;
    if (!bases[head[0] % BASES].is_simple && (run.how & HOW_SAME_BOOT)) write_identity();
    for (unsigned late = 0; late < 2; late++) {
        size_t at = sizeof head;
        for (unsigned i = 0; i < MOST_EDITS && at + EDIT_BYTES <= len_bytes; i++) {
            struct edit e = {.op = data[at], .late = (data[at + 1] & 1) != 0};
            e.index = data[at + 2] | (unsigned)data[at + 3] << 8;
            memcpy(&e.value, data + at + 4, sizeof e.value);
            at += EDIT_BYTES;
            if (e.late == (late == 1)) apply(&e);
        }
        if (late == 0 && (head[3] & 1)) repair();
    }
}

/* ---------------------------------------------------------------------------- what the file must hold */

static uint64_t value_off(uint64_t i) {
    return counters_off(run.c, i);
}

static uint64_t key_of(uint64_t value) {
    return value ^ (run.info.is_unsigned ? 0 : UINT64_C(1) << 63);
}

static uint64_t sum_at(uint64_t i) {
    uint64_t sum = 0;
    for (unsigned cell = 0; cell < (run.info.is_striped ? COUNTERS_CELLS : 1); cell++)
        sum += get_word(value_off(i) + cell * COUNTERS_LINE);
    return sum;
}

static bool was_here(void) {
    uint64_t now[IDENTITY_WORDS];
    return identity_now(scratch_fd(), now) == 0 &&
           memcmp(run.bytes + COUNTERS_LIVE(identity), now, sizeof now) == 0;
}

/* Who opens it for writing: values are not below what was reserved, it is known again. */
static void expect_taken_over(void) {
    if (run.info.is_simple) return;
    for (uint64_t i = 0; i < run.info.count && i < MOST && !run.info.is_striped; i++) {
        const uint64_t reserved = get_word(value_off(i) + WORD(reserved));
        run.is_forged[i] = get_word(value_off(i) + WORD(durable)) > reserved;
        if ((!was_here() || get_word(COUNTERS_LIVE(sync_error)) != 0) && reserved > 0 &&
            key_of(get_word(value_off(i))) < reserved)
            set_word(value_off(i), key_of(reserved));
    }
    write_identity();
    set_word(COUNTERS_LIVE(sync_error), 0);
}

static void file_is_right(void) {
    FUZZ_MUST(scratch_is(run.bytes, run.len_bytes));
}

static void reread(uint64_t off) {
    uint64_t word;
    FUZZ_MUST(pread(scratch_fd(), &word, sizeof word, (off_t)off) == sizeof word);
    set_word(off, word);
}

/* Not as the library does it. */
static bool is_utf8(const char *text) {
    const uint8_t *s = (const uint8_t *)text;
    while (*s) {
        const unsigned n = *s < 0x80 ? 0 : *s < 0xC2 ? 9 : *s < 0xE0 ? 1 : *s < 0xF0 ? 2 : 3;
        if (n == 9 || *s > 0xF4) return false;
        if ((*s == 0xE0 && s[1] < 0xA0) || (*s == 0xED && s[1] > 0x9F)) return false;
        if ((*s == 0xF0 && s[1] < 0x90) || (*s == 0xF4 && s[1] > 0x8F)) return false;
        s++;
        for (unsigned i = 0; i < n; i++, s++)
            if (*s < 0x80 || *s > 0xBF) return false;
    }
    return true;
}

static void names_are_sound(void) {
    for (uint64_t i = 0; i < run.info.count && run.info.is_named; i++) {
        struct emmap_counter name;
        uint64_t found;
        FUZZ_MUST(emmap_counters_name(run.c, i, &name) == 0);
        FUZZ_MUST(name.name[0] && is_utf8(name.name) && is_utf8(name.unit) && is_utf8(name.help));
        FUZZ_MUST(strlen(name.name) < COUNTERS_NAME_BYTES && name.type <= EMMAP_COUNTER);
        FUZZ_MUST(emmap_counters_find(run.c, name.name, strlen(name.name), &found) == 0);
        FUZZ_MUST(found == i); /* so no two are alike */
    }
}

static void values_are_right(void) {
    for (uint64_t i = 0; i < run.info.count; i++) {
        int64_t value;
        FUZZ_MUST(emmap_counters_get(run.c, i, &value) == 0);
        FUZZ_MUST((uint64_t)value == sum_at(i));
    }
    int64_t none;
    FUZZ_MUST(emmap_counters_get(run.c, run.info.count, &none) == -EDOM);
}

/* ------------------------------------------------------------------------------------------- use */

static int open_as(uint32_t flags, uint64_t count, const struct emmap_counter *with) {
    const struct emmap_counters_options options = {
        .flags = flags, .count = count, .counters = with};
    run.c = NULL;
    return emmap_counters_open(&run.c, scratch_path(), &options);
}

static void end(void) {
    emmap_counters_free(run.c);
    run.c = NULL;
}

/* Exact, or there are no more. */
static void allocate(uint64_t i) {
    const uint64_t value = sum_at(i), key = key_of(value), off = value_off(i);
    const uint64_t n = random_below(2) ? 1 + random_below(5000) : 1 + random_below(UINT64_MAX);
    int64_t first = -1;
    const int rc = emmap_counters_allocate(run.c, i, n, &first);
    if (run.info.is_simple || run.info.is_striped) {
        FUZZ_MUST(rc == EMMAP_E_NOTSUP);
        return;
    }
    FUZZ_MUST(rc == (key > UINT64_MAX - n ? -EOVERFLOW : 0));
    if (rc == 0) FUZZ_MUST((uint64_t)first == value);
    if (rc == 0) set_word(off, value + n);
    reread(off + WORD(reserved));
    reread(off + WORD(durable));
    if (rc == 0 && i < MOST && !run.is_forged[i])
        FUZZ_MUST(key + n <= get_word(off + WORD(reserved)));
}

static void change(uint64_t i) {
    static const enum emmap_fetch fetches[] = {EMMAP_ADD, EMMAP_XOR, EMMAP_MAX, EMMAP_MIN};
    const enum emmap_fetch fetch = fetches[random_below(4)];
    const uint64_t was = sum_at(i), by = random_below(UINT64_MAX) << random_below(60);
    const uint64_t larger = key_of(by) > key_of(was) ? by : was;
    int64_t old;
    const int rc = emmap_counters_fetch(run.c, i, fetch, (int64_t)by, &old);
    if (run.info.is_striped) {
        FUZZ_MUST(rc == (fetch == EMMAP_ADD ? 0 : EMMAP_E_NOTSUP));
        for (unsigned cell = 0; cell < COUNTERS_CELLS; cell++)
            reread(value_off(i) + cell * COUNTERS_LINE);
        FUZZ_MUST(sum_at(i) == was + (rc ? 0 : by));
        return;
    }
    FUZZ_MUST(rc == 0 && (uint64_t)old == was);
    set_word(value_off(i), fetch == EMMAP_ADD   ? was + by
                           : fetch == EMMAP_XOR ? was ^ by
                           : fetch == EMMAP_MAX ? larger
                                                : was ^ by ^ larger);
}

static void use(void) {
    for (uint64_t steps = random_below(STEPS); steps > 0; steps--) {
        const uint64_t i = random_below(run.info.count);
        if (random_below(3) == 0)
            allocate(i);
        else
            change(i);
    }
    FUZZ_MUST(emmap_counters_sync(run.c) == 0);
}

/* With those that it has, in another order, and some more. */
static void extend(void) {
    static struct emmap_counter with[MOST + MORE];
    static const struct emmap_counter more[MORE] = {
        {.name = "fuzz 0"}, {.name = "fuzz 1", .unit = "n"}, {.name = "fuzz 2", .help = "h"}};
    const uint64_t count = run.info.count, added = 1 + random_below(MORE);
    const uint32_t flags = (run.info.is_unsigned ? EMMAP_COUNTERS_UNSIGNED : 0u) |
                           (run.info.is_padded ? EMMAP_COUNTERS_PADDED : 0u) |
                           (run.info.is_striped ? EMMAP_COUNTERS_STRIPED : 0u);
    if (count > MOST) return;
    for (uint64_t i = 0; i < count && run.info.is_named; i++)
        FUZZ_MUST(emmap_counters_name(run.c, i, &with[(i + 1) % count]) == 0);
    memcpy(with + count, more, sizeof more);
    struct emmap_counters *own = run.c;
    const struct emmap_counter *asked = run.info.is_named ? with : NULL;
    if (count > 1) FUZZ_MUST(open_as(flags, count - 1, asked) == EMMAP_E_DIFFERS);
    file_is_right();
    const int rc = open_as(flags, count + added, asked);
    struct emmap_counters *extended = run.c;
    run.c = own;
    if (run.info.is_simple || !FILES_ARE_KNOWN) {
        FUZZ_MUST(rc == EMMAP_E_NOTSUP);
        file_is_right();
        return;
    }
    FUZZ_MUST(rc == 0 || (rc == -EINVAL && run.info.is_named)); /* one has that name already */
    if (rc) return;
    for (uint64_t i = 0; i < count + added; i++) {
        int64_t value;
        FUZZ_MUST(emmap_counters_get(extended, i, &value) == 0);
        FUZZ_MUST((uint64_t)value == (i < count ? sum_at(i) : 0));
    }
    emmap_counters_free(extended);
    FUZZ_MUST(emmap_counters_info(run.c, &run.info) == 0 && run.info.count == count + added);
    names_are_sound();
    struct stat st;
    FUZZ_MUST(fstat(scratch_fd(), &st) == 0 && st.st_size < ROOM + 4 * 2048);
    run.len_bytes = (uint64_t)st.st_size < ROOM ? (uint64_t)st.st_size : ROOM;
    FUZZ_MUST(pread(scratch_fd(), run.bytes, run.len_bytes, 0) == (ssize_t)run.len_bytes);
}

/* Another program cuts it off: each call answers. */
static void be_cut(void) {
    scratch_cut(random_below(run.len_bytes));
    for (uint64_t i = 0; i < run.info.count; i++) {
        struct emmap_counter name;
        int64_t value;
        int rc = emmap_counters_get(run.c, i, &value);
        FUZZ_MUST(rc == 0 || rc == EMMAP_E_TRUNCATED || rc == EMMAP_E_PAST_END);
        rc = emmap_counters_name(run.c, i, &name);
        FUZZ_MUST(rc == (run.info.is_named ? 0 : -EDOM));
        (void)emmap_counters_allocate(run.c, i, 10, &value);
    }
    (void)emmap_counters_info(run.c, &run.info);
}

static bool is_refusal(int rc) {
    return rc == EMMAP_E_FOREIGN || rc == EMMAP_E_CORRUPT || rc == EMMAP_E_TRUNCATED ||
           rc == EMMAP_E_NOTSUP || rc == EMMAP_E_SIZE_MISMATCH;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes) {
    make_run(data, len_bytes);
    scratch_write(run.bytes, run.len_bytes);
    const int looks = open_as(EMMAP_COUNTERS_READ, 0, NULL);
    FUZZ_MUST(looks == 0 || is_refusal(looks));
    if (looks == 0) {
        FUZZ_MUST(emmap_counters_info(run.c, &run.info) == 0);
        names_are_sound();
        values_are_right();
    }
    end();
    file_is_right();
    for (unsigned again = 0; again < 3; again++) {
        FUZZ_MUST(open_as(0, 0, NULL) == looks);
        if (looks) {
            file_is_right();
            return 0;
        }
        FUZZ_MUST(emmap_counters_info(run.c, &run.info) == 0);
        expect_taken_over();
        file_is_right();
        names_are_sound();
        values_are_right();
        use();
        file_is_right();
        if (again == 0 && (run.how & HOW_EXTEND) && run.len_bytes < ROOM - 3 * 2048) extend();
        if (again == 2 && (run.how & HOW_CUT) && run.len_bytes > 0) be_cut();
        end();
    }
    return 0;
}
