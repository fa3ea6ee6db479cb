/* power_store.c -- see power_store.h. */
#include "test/power_store.h"

#include "os/os.h"
#include "test/support.h"

void power_boot(unsigned number) {
    const uint8_t id[16] = {1, 2, 3, (uint8_t)number};
    os_pretend_boot(id);
}

static void count(struct power_run *r, const struct power_cuts *cuts, unsigned depth) {
    r->states += cuts->states;
    if (depth > 0) return;
    r->windows += cuts->windows;
    r->windows_in_full += cuts->windows_in_full;
}

const char *power_cut_at(struct power_run *r, struct power *power, struct power_cuts *cuts,
                         unsigned depth) {
    cuts->folder = r->folder[depth + 1];
    cuts->rng = &r->rng;
    const char *wrong = power_cut(power, cuts);
    if (wrong) print_error("depth %u: %s\n", depth, wrong);
    count(r, cuts, depth);
    return wrong;
}
