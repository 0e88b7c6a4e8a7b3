/* poller.h: what the POSIX port asks of its poller, besides velum_port_wait.
 *
 * One file of this folder implements a poller; another can take its place without a change here.
 */
#ifndef VELUM_PORT_POSIX_POLLER_H
#define VELUM_PORT_POSIX_POLLER_H

#include "velum_port.h"

/* False if velum_port_wait cannot watch this descriptor: the port then closes it again. */
bool velum__poller_takes(velum_fd fd);

#endif
