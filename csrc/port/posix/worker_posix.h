/* worker_posix.h: what a process that runs guests does to itself before the first one. */
#ifndef VELUM_WORKER_POSIX_H
#define VELUM_WORKER_POSIX_H

#include "velum.h"

/* Confines this process for good: `bytes_max` of address space, no core dumps, enough stack for
 * VELUM_NATIVE_STACK_BYTES, the end of the parent is its end (Linux), niced, deaf to Ctrl-C (which
 * is its node's business), and memory that guests gave back goes back to the system. 0, or SYSTEM
 * when the stack cannot be had; what the system lacks of the rest is passed over. */
int velum_worker_confine(uint64_t bytes_max);

/* The same for a process that is a node of its own: not niced, for it answers probes, and nobody's
 * child. The first SIGTERM, SIGINT or SIGHUP calls `stop` in the signal's handler, a second one
 * ends the process at once. */
int velum_worker_stand_alone(uint64_t bytes_max, void (*stop)(void));

#endif
