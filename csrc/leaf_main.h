/* leaf_main.h: the program velum-worker as a node of its own. */
#ifndef VELUM_LEAF_MAIN_H
#define VELUM_LEAF_MAIN_H

#include <stdint.h>

typedef struct {
    const char *listen; /* "port" or "ip:port" */
    const char *join;   /* "ip:port", or NULL: by beacon */
    uint16_t id;
    uint16_t beacon_port; /* 0: the usual one */
    uint32_t pages;       /* memory limit of a guest */
    uint64_t bytes_max;   /* address space of this process */
} velum_leaf_options;

/* Joins, says so in one line on stdout, and serves until SIGTERM or Ctrl-C. The exit status: 0 left
 * in order, 1 failed, 2 wrong options, 3 no full node was reachable; why goes to stderr. */
int velum_leaf_main(const velum_leaf_options *options);

#endif
