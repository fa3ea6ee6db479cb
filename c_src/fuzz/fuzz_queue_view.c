/* fuzz_queue_view.c -- whatever bytes a queue's file has: it is looked at, and left as it is. */
#include <errno.h>
#include <string.h>

#include "fuzz/queue_edits.h"
#include "fuzz/scratch.h"
#include "os/os.h"

/* Of this boot and file, where the edits have left the one that the base has. */
static void set_identity(struct edited *edited) {
    struct os_identity now;
    uint64_t words[6], is[6];
    uint8_t *at = edited->image.bytes + QUEUE_LIVE_OFF + offsetof(struct emmap_disk_live, identity);
    if (os_identity(scratch_fd(), &now)) return;
    memcpy(words, &now, sizeof words);
    memcpy(is, at, sizeof is);
    for (unsigned i = 0; i < 6; i++)
        if (is[i] == i + 1) is[i] = words[i];
    if (edited->past == QUEUE_BROKEN) is[0] = 0;
    if (edited->past == QUEUE_REBOOTED) is[1] ^= 1;
    memcpy(at, is, sizeof is);
}

static int see_item(void *ctx, const struct emmap_queue_item *item) {
    const struct edited *edited = ctx;
    if (item->data && !edited->is_forged)
        FUZZ_MUST(ledger_find(edited->ledger, item->data, item->len_bytes) >= 0);
    return 0;
}

static void see_problem(void *ctx, const struct emmap_queue_problem *problem) {
    (void)ctx;
    FUZZ_MUST(*emmap_queue_problem_message(problem->kind));
}

static bool is_documented(int rc) {
    return rc == 0 || rc == EMMAP_E_FOREIGN || rc == EMMAP_E_TRUNCATED || rc == EMMAP_E_CORRUPT ||
           rc == EMMAP_E_NOTSUP || rc == EMMAP_E_OLD_FORMAT || rc == -ENOMEM;
}

static void look(struct emmap_queue_view *view, struct edited *edited) {
    struct emmap_queue_view_info info;
    struct emmap_queue_walked walked;
    struct emmap_queue_walk walk = {.item = see_item,
                                    .problem = see_problem,
                                    .ctx = edited,
                                    .data_bytes = EDITS_ROOM,
                                    .check = true};
    FUZZ_MUST(is_documented(emmap_queue_view_info(view, &info)));
    FUZZ_MUST(is_documented(emmap_queue_view_walk(view, &walk, &walked)));
    FUZZ_MUST(is_documented(emmap_queue_view_info(view, &info)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes) {
    struct emmap_queue_view *view;
    struct edited edited = edits_make(data, len_bytes);
    set_identity(&edited);
    scratch_write(edited.image.bytes, edited.image.len_bytes);
    const int rc = emmap_queue_view_open(&view, scratch_path());
    FUZZ_MUST(is_documented(rc));
    if (rc == 0) look(view, &edited);
    if (rc == 0) emmap_queue_view_close(view);
    FUZZ_MUST(scratch_is(edited.image.bytes, edited.image.len_bytes));
    return 0;
}
