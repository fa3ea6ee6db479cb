/* choice.c -- see choice.h. */
#include "test/choice.h"

uint64_t choice_random(uint64_t *rng, uint64_t below) {
    *rng ^= *rng << 13;
    *rng ^= *rng >> 7;
    *rng ^= *rng << 17;
    return *rng % below;
}

uint64_t choice_ways(const uint32_t *steps, uint32_t n, uint64_t most) {
    uint64_t ways = 1;
    for (uint32_t i = 0; i < n; i++) {
        if (ways > most / (steps[i] + 1)) return most;
        ways *= steps[i] + 1;
    }
    return ways;
}

void choice_way(uint64_t way, const uint32_t *steps, uint32_t *taken, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        taken[i] = (uint32_t)(way % (steps[i] + 1));
        way /= steps[i] + 1;
    }
}

static uint32_t any(uint64_t *rng, uint32_t steps) {
    return (uint32_t)choice_random(rng, (uint64_t)steps + 1);
}

void choice_by_chance(uint64_t *rng, const uint32_t *steps, uint32_t *taken, uint32_t n) {
    const uint64_t kind = choice_random(rng, 4);
    const uint32_t odd = n ? any(rng, n - 1) : 0;
    for (uint32_t i = 0; i < n; i++) {
        switch (kind) {
        case 0: /* each as far as it likes */
            taken[i] = any(rng, steps[i]);
            break;
        case 1: /* all or nothing */
            taken[i] = choice_random(rng, 2) ? steps[i] : 0;
            break;
        case 2: /* all but one */
            taken[i] = i == odd ? any(rng, steps[i]) : steps[i];
            break;
        default: /* hardly one, the others at least half */
            taken[i] = i == odd ? 0 : steps[i] - any(rng, steps[i]) / 2;
        }
    }
}
