/* kill_point.h -- an OS process that ends at the n-th thing it does from here on: a store of 8 bytes to
 * a mapping (a copy or a fill is many), or a call of the system. */
#ifndef EMMAP_TEST_KILL_POINT_H
#define EMMAP_TEST_KILL_POINT_H

#include <stdint.h>
#include <sys/types.h>

enum { KILLED = 9, KILL_SECONDS = 60 };

/* While it is one thread: from 1 on. It ends with the status KILLED. */
void kill_at(uint64_t n);
void kill_never(void);

/* fork, with an alarm in the child, which ends it if it hangs. */
pid_t kill_child(void);
/* The exit status; 256 + the signal that it was killed by. */
int kill_status(pid_t pid);

#endif
