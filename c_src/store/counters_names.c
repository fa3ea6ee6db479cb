/* counters_names.c -- what counters are called: checked, written, read, found. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/crc32c.h"
#include "core/pm.h"
#include "store/counters.h"

/* All names, found by a hash; made anew when there are more. The texts stay where they are. */
struct counters_names {
    struct counters_names *before; /* those that it took over from */
    struct emmap_disk_counter_name *texts;
    uint64_t first, count; /* of its own texts; all */
    uint64_t mask;
    struct emmap_counter *counter;
    uint64_t *bucket; /* the counter's number from 1; 0: free */
};

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

/* FNV-1a. */
static uint64_t hash_of(const char *name, size_t len) {
    uint64_t hash = 0xCBF29CE484222325u;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (uint8_t)name[i]) * 0x100000001B3u;
    return hash ^ hash >> 32;
}

static uint64_t mask_for(uint64_t count) {
    uint64_t size = 8;
    while (size < 2 * count)
        size *= 2;
    return size - 1;
}

/* Where the name is in the table, or would be. */
static uint64_t *place(uint64_t *bucket, uint64_t mask, const struct emmap_counter *counter,
                       const char *name, size_t len) {
    uint64_t at = hash_of(name, len) & mask;
    while (bucket[at] != 0) {
        const char *other = counter[bucket[at] - 1].name;
        if (strlen(other) == len && memcmp(other, name, len) == 0) break;
        at = (at + 1) & mask;
    }
    return &bucket[at];
}

/* false: two are alike. */
static bool fill(uint64_t *bucket, uint64_t mask, const struct emmap_counter *counter,
                 uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
        uint64_t *at = place(bucket, mask, counter, counter[i].name, strlen(counter[i].name));
        if (*at != 0) return false;
        *at = i + 1;
    }
    return true;
}

int counters_check_names(const struct emmap_counter *names, uint64_t count) {
    for (uint64_t i = 0; i < count; i++)
        if (!names[i].name || !may_be(names[i].name, 1, COUNTERS_NAME_BYTES) ||
            !may_be(names[i].unit, 0, COUNTERS_UNIT_BYTES) ||
            !may_be(names[i].help, 0, COUNTERS_HELP_BYTES) || names[i].type > EMMAP_COUNTER)
            return -EINVAL;
    const uint64_t mask = mask_for(count);
    uint64_t *bucket = calloc(mask + 1, sizeof *bucket);
    if (!bucket) return -ENOMEM;
    const bool differ = fill(bucket, mask, names, count);
    free(bucket);
    return differ ? 0 : -EINVAL;
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

static struct counters_names *new_names(struct counters_names *before, uint64_t count) {
    struct counters_names *names = calloc(1, sizeof *names);
    if (!names) return NULL;
    names->before = before;
    names->first = before ? before->count : 0;
    names->count = count;
    names->mask = mask_for(count);
    names->texts = calloc(count - names->first, sizeof *names->texts);
    names->counter = calloc(count, sizeof *names->counter);
    names->bucket = calloc(names->mask + 1, sizeof *names->bucket);
    if (names->texts && names->counter && names->bucket) return names;
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

static int read_further(struct emmap_counters *c, struct counters_names *before, uint64_t count) {
    struct counters_names *names = new_names(before, count);
    int rc = names ? 0 : -ENOMEM;
    if (rc == 0 && before)
        memcpy(names->counter, before->counter, names->first * sizeof *names->counter);
    for (uint64_t i = rc ? count : names->first; i < count && rc == 0; i++)
        rc = read_one(c, i, &names->texts[i - names->first], &names->counter[i]);
    if (rc == 0 && !fill(names->bucket, names->mask, names->counter, count)) rc = EMMAP_E_CORRUPT;
    if (rc)
        free_names(names);
    else
        store_release(&c->names, names); /* pairs with known_names: acquire names */
    return rc;
}

static struct counters_names *known_names(const struct emmap_counters *c) {
    return atomic_load_explicit(&c->names, memory_order_acquire);
}

int counters_read_names(struct emmap_counters *c, uint64_t count) {
    pthread_mutex_lock(&c->names_lock);
    struct counters_names *before = known_names(c);
    const int rc = count > (before ? before->count : 0) ? read_further(c, before, count) : 0;
    pthread_mutex_unlock(&c->names_lock);
    return rc;
}

int counters_known(const struct emmap_counters *c, const char *name, size_t len, uint64_t *i) {
    const struct counters_names *names = known_names(c);
    const uint64_t at = names ? *place(names->bucket, names->mask, names->counter, name, len) : 0;
    if (at == 0) return -EDOM;
    *i = at - 1;
    return 0;
}

/* Others may have added it. */
int counters_find(struct emmap_counters *c, bool wait, const char *name, size_t len, uint64_t *i) {
    uint64_t count;
    if (!c->is_named) return -EDOM;
    if (counters_known(c, name, len, i) == 0) return 0;
    int rc = counters_look(c, wait, &count);
    if (rc) return rc;
    if (count <= known_names(c)->count) return -EDOM;
    if (!wait) return -EAGAIN;
    rc = counters_read_names(c, count);
    return rc ? rc : counters_known(c, name, len, i);
}

int emmap_counters_find(struct emmap_counters *c, const char *name, size_t len, uint64_t *i) {
    return counters_find(c, true, name, len, i);
}

int emmap_counters_name(struct emmap_counters *c, uint64_t i, struct emmap_counter *out) {
    uint64_t count;
    if (!c->is_named) return -EDOM;
    if (i >= known_names(c)->count) {
        int rc = counters_look(c, true, &count);
        if (rc == 0 && i >= count) rc = -EDOM;
        if (rc == 0) rc = counters_read_names(c, count);
        if (rc) return rc;
    }
    *out = known_names(c)->counter[i];
    return 0;
}
