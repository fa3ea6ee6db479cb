/* queue_life.c -- see queue_life.h. */
#include "test/queue_life.h"

void lives_sync(struct lives *lives, unsigned begins, unsigned ends) {
    MUST(lives->syncs < LIFE_SYNCS);
    lives->sync[lives->syncs].begins = begins;
    lives->sync[lives->syncs++].ends = ends;
}

/* From when on the disk has what ended then. */
static unsigned covered_from(const struct lives *lives, unsigned ended) {
    for (unsigned i = 0; i < lives->syncs; i++)
        if (ended <= lives->sync[i].begins) return lives->sync[i].ends;
    return LIFE_NOT_YET;
}

static enum fate fate_of(const struct lives *lives, const struct life *life, unsigned from,
                         unsigned to) {
    if (life->push_begins >= from && life->push_begins > 0) return NEVER;
    if (covered_from(lives, life->take_ends) <= to) return GONE;
    const unsigned covered = life->push_ends == 0 ? 0 : covered_from(lives, life->push_ends);
    const unsigned there_from = covered > from ? covered : from;
    return there_from <= to && life->take_begins >= there_from ? THERE : EITHER;
}

void lives_fates(const struct lives *lives, const struct ledger *ledger, unsigned from, unsigned to,
                 struct ledger *out) {
    *out = *ledger;
    for (unsigned id = 0; id < out->n; id++)
        out->fate[id] = fate_of(lives, &lives->life[id], from, to);
}
