/* make_queue FILE SIZE COMMAND...: makes a queue for queue_check's tests, and dies by SIGKILL with it open.
 *
 *   pN[:LEN]   push N messages: external terms {1, Seq, Binary}, the binary of LEN bytes (20)
 *   tN         take N
 *   s          sync
 *   c          close and open again
 */
#include <emmap.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t make_term(uint8_t *out, uint32_t seq, uint32_t len) {
    uint8_t head[] = {131,      104, 3,   97,        1,         98,       seq >> 24, seq >> 16,
                      seq >> 8, seq, 109, len >> 24, len >> 16, len >> 8, len};
    memcpy(out, head, sizeof head);
    for (uint32_t i = 0; i < len; i++)
        out[sizeof head + i] = (uint8_t)(seq + i);
    return (uint32_t)sizeof head + len;
}

static void must(int rc, const char *what) {
    if (rc == 0) return;
    fprintf(stderr, "make_queue: %s: %s\n", what, emmap_error_message(rc));
    exit(1);
}

int main(int argc, char **argv) {
    static uint8_t buf[4 << 20];
    uint32_t seq = 0;
    if (argc < 3) return 2;
    struct emmap_queue_options options = {.flags = EMMAP_QUEUE_CREATE,
                                          .size_bytes = strtoull(argv[2], NULL, 10)};
    struct emmap_queue *queue;
    must(emmap_queue_open(&queue, argv[1], &options, NULL), "open");
    for (int i = 3; i < argc; i++) {
        char *end;
        unsigned long n = strtoul(argv[i] + 1, &end, 10);
        uint32_t len = *end == ':' ? (uint32_t)strtoul(end + 1, NULL, 10) : 20, got, flags;
        switch (argv[i][0]) {
        case 'p':
            while (n--)
                must(emmap_queue_push(queue, buf, make_term(buf, ++seq, len), 0), "push");
            break;
        case 't':
            while (n--)
                must(emmap_queue_take(queue, buf, sizeof buf, &got, &flags), "take");
            break;
        case 's':
            must(emmap_queue_sync(queue), "sync");
            break;
        case 'c':
            emmap_queue_close(queue);
            must(emmap_queue_open(&queue, argv[1], &options, NULL), "open again");
            break;
        default:
            return 2;
        }
    }
    raise(SIGKILL);
}
