/* counters_names.c -- what counters are called: checked, written, read, found. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/crc32c.h"
#include "core/pm.h"
#include "store/counters.h"

/* All names, found by a hash. Further ones are added in place, by one at a time, while others look for some; where
 * there is no room, a table with twice as much takes over. The texts stay where they are. */
struct counters_names {
    struct counters_names *before; /* those that it took over from */
    struct emmap_disk_counter_name *texts;
    uint64_t first, room;   /* the first of its own texts; how many there may be in all */
    _Atomic uint64_t count; /* in all */
    uint64_t mask;
    struct emmap_counter *counter;
    struct bucket *bucket;
};

/* The counter's number from 1, and above it the length of its name: names of another length need not be looked
 * at. 0: free. The name is there before the word. */
struct bucket {
    _Atomic uint64_t word;
    const char *name;
};
enum { NUMBER_BITS = 48 };

static uint64_t word_of(uint64_t i, size_t len) {
    return (uint64_t)len << NUMBER_BITS | (i + 1);
}

static uint64_t counter_of(uint64_t word) {
    return (word & ((1ull << NUMBER_BITS) - 1)) - 1;
}

/* ---------------------------------------------------------------------------------- what may be */

/* The length of the character that starts here; 0: none does. */
static size_t character(const uint8_t *s, size_t len) {
    static const struct {
        uint8_t mask, lead;
        uint32_t least;
    } forms[] = {{0x80, 0x00, 1}, {0xE0, 0xC0, 0x80}, {0xF0, 0xE0, 0x800}, {0xF8, 0xF0, 0x10000}};
    for (size_t n = 1; n <= 4 && n <= len; n++) {
        if ((s[0] & forms[n - 1].mask) != forms[n - 1].lead) continue;
        uint32_t c = s[0] & (uint8_t)~forms[n - 1].mask;
        for (size_t i = 1; i < n; i++) {
            if ((s[i] & 0xC0) != 0x80) return 0;
            c = c << 6 | (s[i] & 0x3F);
        }
        return c < forms[n - 1].least || c > 0x10FFFF || (c >> 11) == 0x1B ? 0 : n;
    }
    return 0;
}

static bool is_text(const void *text, size_t len) {
    const uint8_t *s = text;
    for (size_t n; len > 0; s += n, len -= n)
        if ((n = character(s, len)) == 0) return false;
    return true;
}

static const char *text_of(const char *text) {
    return text ? text : "";
}

static bool may_be(const char *text, size_t least, size_t room) {
    const size_t len = strlen(text_of(text));
    return len >= least && len < room && is_text(text_of(text), len);
}

static uint64_t mask_for(uint64_t count) {
    uint64_t size = 8;
    while (size < 2 * count)
        size *= 2;
    return size - 1;
}

static inline uint64_t eight(const char *at) {
    uint64_t bytes;
    memcpy(&bytes, at, sizeof bytes);
    return bytes;
}

/* In line: names are short. */
static inline bool is_same(const char *a, const char *b, size_t len) {
    size_t i = 0;
    for (; i + 8 <= len; i += 8)
        if (eight(a + i) != eight(b + i)) return false;
    if (i > 0) return eight(a + len - 8) == eight(b + len - 8);
    while (i < len && a[i] == b[i])
        i++;
    return i == len;
}

/* Where the name is in the table, or would be. *found: the word there, or 0. */
static ALWAYS_INLINE struct bucket *place(const struct hash_seed *seed, struct bucket *bucket,
                                          uint64_t mask, const char *name, size_t len,
                                          uint64_t *found) {
    uint64_t at = hash(seed, name, len) & mask;
    /* pairs with fill: release word */
    while ((*found = atomic_load_explicit(&bucket[at].word, memory_order_acquire)) != 0) {
        if (*found >> NUMBER_BITS == len && is_same(bucket[at].name, name, len)) break;
        at = (at + 1) & mask;
    }
    return &bucket[at];
}

/* false: two are alike. */
static bool fill(const struct hash_seed *seed, struct bucket *bucket, uint64_t mask,
                 const struct emmap_counter *counter, uint64_t from, uint64_t to) {
    for (uint64_t i = from; i < to; i++) {
        const size_t len = strlen(counter[i].name);
        uint64_t found;
        struct bucket *at = place(seed, bucket, mask, counter[i].name, len, &found);
        if (found != 0) return false;
        at->name = counter[i].name;
        store_release(&at->word, word_of(i, len)); /* pairs with place: acquire word */
    }
    return true;
}

/* 0; refused: two are alike. */
static int check_differ(const struct hash_seed *seed, const struct emmap_counter *counter,
                        uint64_t count, int refused) {
    const uint64_t mask = mask_for(count);
    struct bucket *bucket = calloc(mask + 1, sizeof *bucket);
    if (!bucket) return -ENOMEM;
    const bool differ = fill(seed, bucket, mask, counter, 0, count);
    free(bucket);
    return differ ? 0 : refused;
}

int counters_check_names(const struct emmap_counter *names, uint64_t count) {
    for (uint64_t i = 0; i < count; i++)
        if (!names[i].name || !may_be(names[i].name, 1, COUNTERS_NAME_BYTES) ||
            !may_be(names[i].unit, 0, COUNTERS_UNIT_BYTES) ||
            !may_be(names[i].help, 0, COUNTERS_HELP_BYTES) || names[i].type > EMMAP_COUNTER)
            return -EINVAL;
    struct hash_seed seed;
    hash_seed(&seed);
    return check_differ(&seed, names, count, -EINVAL);
}

/* ------------------------------------------------------------------------------------- the bytes */

static uint32_t crc_of(uint64_t i, const struct emmap_disk_counter_name *name) {
    const size_t from = sizeof name->crc;
    return crc32c(crc32c(0, &i, sizeof i), (const uint8_t *)name + from, sizeof *name - from);
}

void counters_make_name(struct emmap_disk_counter_name *out, uint64_t i,
                        const struct emmap_counter *from) {
    *out = (struct emmap_disk_counter_name){.type = (uint8_t)from->type};
    out->name_len = (uint8_t)strlen(from->name);
    out->unit_len = (uint8_t)strlen(text_of(from->unit));
    out->help_len = (uint16_t)strlen(text_of(from->help));
    memcpy(out->name, from->name, out->name_len);
    memcpy(out->unit, text_of(from->unit), out->unit_len);
    memcpy(out->help, text_of(from->help), out->help_len);
    out->crc = crc_of(i, out);
}

/* The text, whose room ends with a zero. */
static bool is_whole(const uint8_t *text, size_t len, size_t room) {
    return len < room && text[len] == 0 && strlen((const char *)text) == len && is_text(text, len);
}

static bool is_sound(uint64_t i, const struct emmap_disk_counter_name *name) {
    return PM_MUST(name->crc == crc_of(i, name)) && name->type <= EMMAP_COUNTER &&
           name->name_len > 0 && is_whole(name->name, name->name_len, sizeof name->name) &&
           is_whole(name->unit, name->unit_len, sizeof name->unit) &&
           is_whole(name->help, name->help_len, sizeof name->help);
}

/* ---------------------------------------------------------------------------------- in memory */

static void free_names(struct counters_names *names) {
    if (!names) return;
    free(names->texts);
    free(names->counter);
    free(names->bucket);
    free(names);
}

void counters_free_names(struct emmap_counters *c) {
    struct counters_names *names = atomic_load(&c->names);
    while (names) {
        struct counters_names *before = names->before;
        free_names(names);
        names = before;
    }
}

/* With all of the ones before it, and room for count. */
static struct counters_names *new_names(struct counters_names *before, uint64_t count) {
    struct counters_names *names = calloc(1, sizeof *names);
    if (!names) return NULL;
    names->before = before;
    names->first = before ? before->count : 0;
    names->room = before && count < 2 * before->room ? 2 * before->room : count;
    names->mask = mask_for(names->room);
    names->texts = calloc(names->room - names->first, sizeof *names->texts);
    names->counter = calloc(names->room, sizeof *names->counter);
    names->bucket = calloc(names->mask + 1, sizeof *names->bucket);
    if (names->texts && names->counter && names->bucket) {
        if (before) memcpy(names->counter, before->counter, names->first * sizeof *names->counter);
        return names;
    }
    free_names(names);
    return NULL;
}

static int read_one(struct emmap_counters *c, uint64_t i, struct emmap_disk_counter_name *out,
                    struct emmap_counter *counter) {
    uint64_t got = 0;
    const uint64_t words = c->stride == COUNTERS_NAMED ? COUNTERS_LINE : COUNTERS_NAMED;
    const int rc = emmap_file_read(c->file, counters_off(c, i) + words, out, sizeof *out, &got);
    if (rc) return counters_cut(rc);
    if (got < sizeof *out) return EMMAP_E_TRUNCATED;
    if (!is_sound(i, out)) return EMMAP_E_CORRUPT;
    *counter = (struct emmap_counter){.name = (const char *)out->name,
                                      .unit = (const char *)out->unit,
                                      .help = (const char *)out->help,
                                      .type = out->type};
    return 0;
}

static int read_some(struct emmap_counters *c, struct counters_names *names, uint64_t from,
                     uint64_t to) {
    int rc = 0;
    for (uint64_t i = from; i < to && rc == 0; i++)
        rc = read_one(c, i, &names->texts[i - names->first], &names->counter[i]);
    return rc;
}

/* Nobody finds one of them before all are good. */
static int add_in_place(struct emmap_counters *c, struct counters_names *names, uint64_t count) {
    const uint64_t from = names->count;
    int rc = read_some(c, names, from, count);
    if (rc == 0) rc = check_differ(&c->seed, names->counter + from, count - from, EMMAP_E_CORRUPT);
    for (uint64_t i = from; i < count && rc == 0; i++) {
        const char *name = names->counter[i].name;
        uint64_t found;
        (void)place(&c->seed, names->bucket, names->mask, name, strlen(name), &found);
        if (found != 0) rc = EMMAP_E_CORRUPT;
    }
    if (rc) return rc;
    (void)fill(&c->seed, names->bucket, names->mask, names->counter, from, count);
    store_release(&names->count, count); /* pairs with names_count: acquire count */
    return 0;
}

static int add_anew(struct emmap_counters *c, struct counters_names *before, uint64_t count) {
    struct counters_names *names = new_names(before, count);
    int rc = names ? read_some(c, names, names->first, count) : -ENOMEM;
    if (rc == 0 && !fill(&c->seed, names->bucket, names->mask, names->counter, 0, count))
        rc = EMMAP_E_CORRUPT;
    if (rc) {
        free_names(names);
        return rc;
    }
    atomic_init(&names->count, count);
    store_release(&c->names, names); /* pairs with known_names: acquire names */
    return 0;
}

static struct counters_names *known_names(const struct emmap_counters *c) {
    return atomic_load_explicit(&c->names, memory_order_acquire);
}

static uint64_t names_count(const struct counters_names *names) {
    return names ? atomic_load_explicit(&names->count, memory_order_acquire) : 0;
}

int counters_read_names(struct emmap_counters *c, uint64_t count) {
    pthread_mutex_lock(&c->names_lock);
    struct counters_names *names = known_names(c);
    int rc = 0;
    if (count > names_count(names))
        rc = names && count <= names->room ? add_in_place(c, names, count)
                                           : add_anew(c, names, count);
    pthread_mutex_unlock(&c->names_lock);
    return rc;
}

static inline int known(const struct emmap_counters *c, const char *name, size_t len, uint64_t *i) {
    const struct counters_names *names = known_names(c);
    uint64_t found = 0;
    if (names && len < COUNTERS_NAME_BYTES)
        (void)place(&c->seed, names->bucket, names->mask, name, len, &found);
    if (found == 0) return -EDOM;
    *i = counter_of(found);
    return 0;
}

int counters_known(const struct emmap_counters *c, const char *name, size_t len, uint64_t *i) {
    return known(c, name, len, i);
}

/* Others may have added it. */
int counters_find(struct emmap_counters *c, bool wait, const char *name, size_t len, uint64_t *i) {
    uint64_t count;
    if (!c->is_named) return -EDOM;
    if (known(c, name, len, i) == 0) return 0;
    int rc = counters_look(c, wait, &count);
    if (rc) return rc;
    if (count <= names_count(known_names(c))) return -EDOM;
    if (!wait) return -EAGAIN;
    rc = counters_read_names(c, count);
    return rc ? rc : known(c, name, len, i);
}

int emmap_counters_find(struct emmap_counters *c, const char *name, size_t len, uint64_t *i) {
    return counters_find(c, true, name, len, i);
}

int emmap_counters_name(struct emmap_counters *c, uint64_t i, struct emmap_counter *out) {
    uint64_t count;
    if (!c->is_named) return -EDOM;
    if (i >= names_count(known_names(c))) {
        int rc = counters_look(c, true, &count);
        if (rc == 0 && i >= count) rc = -EDOM;
        if (rc == 0) rc = counters_read_names(c, count);
        if (rc) return rc;
    }
    *out = known_names(c)->counter[i];
    return 0;
}
