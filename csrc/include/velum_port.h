/* velum_port.h: the porting contract.
 *
 * Everything that the core needs of a platform, function by function. A port is one folder
 * csrc/port/<name>/ that defines these; no other file of the core includes an OS header. All
 * functions are called from one thread. Errors are negative velum_err, never errno numbers.
 * Whatever opens a handle says FULL when handles ran out, or when the poller cannot watch the new
 * one.
 */
#ifndef VELUM_PORT_H
#define VELUM_PORT_H

#include "velum.h"

/* A socket or other pollable handle; negative is none. May be high even when few are open: never
 * an index. */
typedef int velum_fd;
#define VELUM_NO_FD (-1)

/* Microseconds since some fixed moment; never goes back. */
int64_t velum_port_now_us(void);

/* Milliseconds since 1970-01-01 UTC; 0 if the platform has no calendar clock. */
uint64_t velum_port_unix_ms(void);

/* Lets another thread or process run, if one is ready to; may do nothing. */
void velum_port_yield(void);

/* `n` bytes of memory in whole pages, for data that is large and moved around: a platform that has
 * huge pages uses them. NULL when there is none. n is the same for free. */
void *velum_port_pages(size_t n);
void velum_port_pages_free(void *memory, size_t n);

/* Memory of any origin that is going to be written, all of it: a platform that has huge pages uses
 * them where they fit. May do nothing. */
void velum_port_will_fill(void *memory, size_t n);

/* Fills `out` with `n` bytes good enough for identifiers. 0 or SYSTEM. */
int velum_port_random(void *out, size_t n);

/* An approximate address of the running thread's stack pointer. */
uintptr_t velum_port_stack_address(void);

/* ---- stream sockets: all non-blocking, TCP_NODELAY set, closed on exec, no SIGPIPE ever ---- */

/* Listens on *addr; port 0 picks a free one. On success *out is the socket and addr->port is the
 * bound port. ADDRESS_IN_USE, UNREACHABLE (address is not ours), SYSTEM. */
int velum_port_listen(velum_addr *addr, velum_fd *out);

/* Takes one waiting connection. AGAIN when none waits, FULL when descriptors ran out (or the new
 * one does not fit the poller), SYSTEM. */
int velum_port_accept(velum_fd listener, velum_fd *out, velum_addr *from);

/* Starts a connection; it is complete, or has failed, when the socket turns writable. */
int velum_port_dial(const velum_addr *to, velum_fd *out);

/* How a dial ended: 0, AGAIN (not yet), REFUSED, UNREACHABLE, TIMEOUT, SYSTEM. */
int velum_port_dial_result(velum_fd fd);

/* Bytes moved (> 0), AGAIN, CLOSED (also for a reset), or SYSTEM. A recv of an orderly end is
 * CLOSED. velum_port_send2 sends two pieces in order as far as the socket takes them. */
int velum_port_recv(velum_fd fd, void *buf, size_t n);
int velum_port_send(velum_fd fd, const void *buf, size_t n);
int velum_port_send2(velum_fd fd, const void *a, size_t na, const void *b, size_t nb);

/* Prepares a descriptor that was opened elsewhere (a socketpair's end): non-blocking. After an
 * error it is still the caller's. */
int velum_port_adopt(velum_fd fd);

/* ---- datagrams: non-blocking, broadcast allowed ---- */

/* Opens a datagram socket on *addr (port 0 picks one, written back). `shared` lets several
 * processes of one machine receive the same broadcasts on it. */
int velum_port_udp_open(velum_addr *addr, bool shared, velum_fd *out);

/* Bytes moved (0 for an empty datagram), AGAIN, TOO_LARGE, or another error; an error of one
 * datagram never breaks the socket. */
int velum_port_udp_send(velum_fd fd, const velum_addr *to, const void *buf, size_t n);
int velum_port_udp_recv(velum_fd fd, void *buf, size_t n, velum_addr *from);

void velum_port_close(velum_fd fd);

/* ---- files: for the log of the key-value state; UNSUPPORTED where there are none ---- */

/* Opens a file for reading and appending, or makes it (`make`): its name is on disk then. `lock`
 * takes it for this handle alone, and is kept when it is renamed. Neither: for reading alone. Its
 * folder must be there. LOCKED: another one has it; NOT_FOUND; NO_SPACE; SYSTEM. */
int velum_port_file_open(const char *path, bool make, bool lock, velum_fd *out);
/* Bytes in the file, or SYSTEM. */
int64_t velum_port_file_size(velum_fd file);
/* Bytes read at an offset, 0 at its end, or SYSTEM. */
int velum_port_file_read(velum_fd file, uint64_t offset, void *buf, size_t n);
/* Writes all n bytes at an offset, or says NO_SPACE (disk or quota is full) or SYSTEM: some of them
 * may be there then. */
int velum_port_file_write(velum_fd file, uint64_t offset, const void *buf, size_t n);
/* Cuts the file off; SYSTEM. */
int velum_port_file_cut(velum_fd file, uint64_t size);
/* Returns when all that was written to it is on disk; may take seconds; SYSTEM, NO_SPACE. Another
 * thread may write to the file meanwhile. */
int velum_port_file_sync(velum_fd file);
void velum_port_file_close(velum_fd file);
/* Puts `from` in the place of `to`, in one step, and returns when that is on disk. SYSTEM,
 * NO_SPACE: nothing has changed; UNCERTAIN: it is in its place, and perhaps not on disk. */
int velum_port_file_rename(const char *from, const char *to);
/* Removes a file, if it is there; after a crash it may be back. SYSTEM. */
int velum_port_file_remove(const char *path);

/* A thread that syncs: one job at a time. `done` of velum_port_syncer_poll: 1 ended (*error is 0 or
 * what velum_port_file_sync said), 0 under way, -1 nothing was begun. Each end wakes `waker`, a
 * writer of velum_port_wake_open, or nobody if that is VELUM_NO_FD. Where there are no threads
 * `begin` syncs before it returns. */
typedef struct velum_port_syncer velum_port_syncer;
int velum_port_syncer_open(velum_port_syncer **out, velum_fd waker);
int velum_port_syncer_begin(velum_port_syncer *syncer, velum_fd file); /* BUSY: one is under way */
int velum_port_syncer_poll(velum_port_syncer *syncer, int *error);
/* Waits for what is under way; NULL is nothing. */
void velum_port_syncer_close(velum_port_syncer *syncer);

/* ---- waking ---- */

/* A pair that makes a sleeping velum_port_wait return: writing wakes, reading clears. Wake may be
 * called from any thread, and from a signal handler. UNSUPPORTED where there is only one thread. */
int velum_port_wake_open(velum_fd *reader, velum_fd *writer);
void velum_port_wake(velum_fd writer);
void velum_port_wake_clear(velum_fd reader);

/* ---- the poller ---- */

enum { VELUM_READABLE = 1, VELUM_WRITABLE = 2 };

typedef struct {
    velum_fd fd;
    uint8_t want;  /* bits of VELUM_READABLE, VELUM_WRITABLE */
    uint8_t ready; /* set by velum_port_wait */
} velum_port_poll;

/* Sleeps until a handle is ready or `timeout_us` has passed (0: only looks; negative: no limit).
 * Entries with fd < 0 or want == 0 are passed over with ready = 0. Returns how many are ready;
 * 0 on time-out or when a signal interrupted; ARGUMENT for a handle that cannot be watched, SYSTEM
 * for one that is closed. */
int velum_port_wait(velum_port_poll *polls, size_t n, int64_t timeout_us);

#endif
