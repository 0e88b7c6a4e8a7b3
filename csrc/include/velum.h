/* velum.h: the public face of the C library.
 *
 * Owns: the library's version, the one table of error codes, and the plain values that every other
 * header shares. Knows nothing of sockets, frames or guests.
 */
#ifndef VELUM_H
#define VELUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What this header declares is all that the shared library shows. */
#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif

/* The C library's version; CMake reads it from here. */
#define VELUM_VERSION "0.1.0"

/* Every error of the library: name, code, and the text that a person reads. A function that can
 * fail returns 0 or a positive count for success and one of these, negative, for failure. On the
 * wire an error travels as the positive number. Codes are never reused. */
#define VELUM_ERRORS(X)                                                                            \
    /* resources and the operating system */                                                       \
    X(NOMEM, 1, "out of memory")                                                                   \
    X(AGAIN, 2, "not ready, try again")                                                            \
    X(ARGUMENT, 3, "bad argument")                                                                 \
    X(FULL, 4, "queue or table is full")                                                           \
    X(CLOSED, 5, "connection closed by the other side")                                            \
    X(REFUSED, 6, "connection refused: nothing listens there")                                     \
    X(TIMEOUT, 7, "no answer in time")                                                             \
    X(UNREACHABLE, 8, "address cannot be reached")                                                 \
    X(ADDRESS_IN_USE, 9, "address already in use")                                                 \
    X(SYSTEM, 10, "the operating system refused")                                                  \
    X(UNSUPPORTED, 11, "not supported on this port")                                               \
    /* the wire */                                                                                 \
    X(MAGIC, 20, "not a velum frame")                                                              \
    X(WIRE_VERSION, 21, "other side speaks another protocol version")                              \
    X(FRAME_TYPE, 22, "unknown frame type")                                                        \
    X(FRAME_LENGTH, 23, "frame length outside its limit")                                          \
    X(PAYLOAD, 24, "malformed payload")                                                            \
    X(UNEXPECTED, 25, "frame not allowed in this state")                                           \
    /* joining */                                                                                  \
    X(DUPLICATE_ID, 30, "node id already in use")                                                  \
    X(LEAVING, 31, "node is leaving the mesh")                                                     \
    X(CAPACITY, 32, "node has no connection to spare")                                             \
    /* a caller's mistake */                                                                       \
    X(UNKNOWN_NAME, 40, "no built-in function of that name")                                       \
    X(NO_EXPORT, 41, "module exports no such function")                                            \
    X(SIGNATURE, 42, "arguments do not fit the function's signature")                              \
    X(DIVIDE_BY_ZERO, 43, "division by zero")                                                      \
    X(OVERFLOW, 44, "integer overflow")                                                            \
    X(TOO_LARGE, 45, "larger than the limit")                                                      \
    /* modules */                                                                                  \
    X(MODULE_MALFORMED, 50, "not a WebAssembly module")                                            \
    X(MODULE_INVALID, 51, "WebAssembly module does not validate")                                  \
    X(MODULE_UNSUPPORTED, 52, "module uses a WebAssembly feature that velum does not offer")       \
    X(MODULE_IMPORT, 53, "module imports something that velum does not provide")                   \
    X(MODULE_MISSING, 54, "module is not held here")                                               \
    X(MODULE_HASH, 55, "module bytes do not match their hash")                                     \
    X(MODULE_COMPILE, 56, "the engine could not compile the module")                               \
    /* traps of a guest */                                                                         \
    X(TRAP_UNREACHABLE, 60, "trap: unreachable executed")                                          \
    X(TRAP_MEMORY, 61, "trap: memory access out of bounds")                                        \
    X(TRAP_DIVIDE_BY_ZERO, 62, "trap: integer divide by zero")                                     \
    X(TRAP_OVERFLOW, 63, "trap: integer overflow")                                                 \
    X(TRAP_CONVERSION, 64, "trap: invalid conversion to integer")                                  \
    X(TRAP_INDIRECT, 65, "trap: indirect call type mismatch")                                      \
    X(TRAP_TABLE, 66, "trap: undefined table element")                                             \
    X(TRAP_STACK, 67, "trap: stack overflow")                                                      \
    X(GUEST_MEMORY, 68, "guest needs more memory than its limit")                                  \
    X(FUEL, 69, "guest used up its fuel")                                                          \
    X(TRAP_OTHER, 70, "trap")                                                                      \
    /* tasks */                                                                                    \
    X(CANCELLED, 80, "task was cancelled")                                                         \
    X(DEADLINE, 81, "task ran past its timeout")                                                   \
    X(WORKER_DIED, 82, "the worker process died while running the task")                           \
    X(POISON, 83, "task killed too many workers and is refused")                                   \
    X(LOST, 84, "task was lost with its node too often")                                           \
    X(BUSY, 85, "every queue is full")                                                             \
    X(NO_WORKER, 86, "no node can run this")                                                       \
    X(QUERY, 87, "unknown query")                                                                  \
    X(JOB_UNKNOWN, 88, "no such job")                                                              \
    /* files */                                                                                    \
    X(CHUNK_MISSING, 90, "chunk is not held here")                                                 \
    X(CHUNK_HASH, 91, "chunk bytes do not match their key")                                        \
    X(STORE_FULL, 92, "no room for the file in the RAM of the nodes")                              \
    X(NOT_FOUND, 93, "no such file")                                                               \
    X(CHUNKS_LOST, 94, "chunks of the file are on no node any more")                               \
    X(STALE, 95, "the file was replaced while it was read")                                        \
    X(UNCERTAIN, 96, "the file's last step was not confirmed: it is there, or it is not")          \
    X(NAME, 97, "not a file name: 1 to 4096 bytes of UTF-8")                                       \
    X(NAMES_FULL, 98, "no room for another name")                                                  \
    X(VERSION_AHEAD, 99, "version is too far ahead of the clock here")                             \
    /* state */                                                                                    \
    X(LOCKED, 100, "another process has this log open")                                            \
    X(NO_SPACE, 101, "the disk is full")                                                           \
    X(STATE_FULL, 102, "no room for another key")                                                  \
    X(CAS_CONFLICT, 103, "the key has another version by now")                                     \
    X(NO_QUORUM, 104, "too few members were reached: nothing was written")                         \
    X(WRONG_TYPE, 105, "the key holds a value of another type")                                    \
    X(NOT_A_LOG, 106, "the file is not a log, and was not changed")

typedef enum {
    VELUM_OK = 0,
#define VELUM_ERROR_ENUM(name, code, text) VELUM_E_##name = -(code),
    VELUM_ERRORS(VELUM_ERROR_ENUM)
#undef VELUM_ERROR_ENUM
} velum_err;

/* The text of an error (negative code); never NULL. */
const char *velum_strerror(int err);

/* The upper-case name of an error as in the table, "OK" for 0, "UNKNOWN" outside it; never NULL. */
const char *velum_errname(int err);

/* A typed number. `bits` holds the value's bit pattern, zero-extended: an i32 as its two's
 * complement in the low 32 bits, an f32 as its IEEE 754 bits in the low 32. The type codes are
 * WebAssembly's own. */
enum { VELUM_I32 = 0x7f, VELUM_I64 = 0x7e, VELUM_F32 = 0x7d, VELUM_F64 = 0x7c };
typedef struct {
    uint8_t type;
    uint64_t bits;
} velum_value;

/* An IPv4 address and port, in host byte order: 127.0.0.1 is 0x7f000001. */
typedef struct {
    uint32_t ip;
    uint16_t port;
} velum_addr;

/* ---- a program's own way into a mesh --------------------------------------------------------
 *
 * velum_open joins a mesh as a leaf: a member that answers probes, offers its own worker if it is
 * told to, and submits tasks through any full node. Everything happens inside calls to this
 * library, in the caller's thread: call velum_run, velum_wait or velum_poll often enough (every
 * 100 ms or so) to be a good member. When the full node goes away, another one is taken and tasks
 * without an answer are sent again.
 */
typedef struct velum velum;

typedef struct {
    uint16_t id;          /* 1..65535, unique in the mesh; 0: attach as a client, be no member */
    uint16_t port;        /* of a member: where it listens, 0 picks a free one */
    const char *host;     /* dotted IPv4 to listen on, one that others can reach; NULL: 127.0.0.1 */
    const char *join;     /* "ip:port" of any full node; NULL: find one by beacon */
    uint16_t beacon_port; /* 0: 8888 */
    uint8_t workers;      /* 0: runs no guests; 1: runs guests inside the calls named above */
    uint32_t pages_max;   /* memory limit of a guest, 64 KiB pages; 0: VELUM_GUEST_PAGES_MAX */
} velum_config;

/* Joins; returns when a full node has let it in, or after `timeout_ms`. UNREACHABLE (no full node
 * was found), TIMEOUT (one was, but did not answer), DUPLICATE_ID and what else it may refuse with,
 * ADDRESS_IN_USE, NOMEM, ARGUMENT; why in words: velum_open_error(). */
int velum_open(velum **out, const velum_config *config, uint32_t timeout_ms);
/* The text of the last velum_open or velum_init of this process that failed; never NULL. */
const char *velum_open_error(void);
/* Leaves the mesh; tasks that are not done end with LEAVING. NULL is allowed. Not in a callback. */
void velum_close(velum *v);
/* The id and the address this member was given; of a client both are 0. */
uint16_t velum_id(const velum *v);
velum_addr velum_address(const velum *v);
/* The full node it hangs on; port 0: none at the moment, it is looking for one. */
velum_addr velum_home(const velum *v);

/* Serves sockets, timers and the worker for `timeout_ms` (0: what is ready now), and longer if a
 * guest that it runs takes longer. Returns 0 or an error after which only velum_close is left:
 * DUPLICATE_ID, LEAVING (after velum_stop), SYSTEM; ARGUMENT inside a callback. */
int velum_run(velum *v, uint32_t timeout_ms);
/* Leaves the mesh as soon as may be: stops a guest that runs, ends every task with LEAVING, and
 * makes the calls of this library return. Any thread, also a signal handler; then velum_close. */
void velum_stop(velum *v);

/* A task under way; 0 is none. */
typedef uint32_t velum_ticket;

typedef struct {
    int error; /* 0, or the negative error the task ended with */
    uint16_t node;
    uint32_t run_us;
    uint8_t nvalues; /* 0 or 1 */
    velum_value value;
    char text[128]; /* of an error, terminated */
} velum_outcome;

/* Calls a built-in ("add") on the least busy node. timeout_ms 0: none. ARGUMENT, FULL (over
 * VELUM_TASKS_MAX tasks), NOMEM, or what velum_run returned. */
int velum_spawn(velum *v, const char *name, const velum_value *args, size_t nargs,
                uint32_t timeout_ms, velum_ticket *out);
/* Calls an exported function of a module on the least busy node. The bytes are copied; arguments
 * are checked against the signature: MODULE_..., TOO_LARGE, NO_EXPORT, SIGNATURE. */
int velum_spawn_wasm(velum *v, const void *module, size_t size, const char *function,
                     const velum_value *args, size_t nargs, uint32_t timeout_ms, velum_ticket *out);
/* 1 done (outcome filled, the ticket is spent), 0 not yet, ARGUMENT for an unknown ticket or one
 * with a callback. poll serves what is ready; wait serves until the task is done or `timeout_ms`
 * has passed; inside a callback poll only looks, and wait is ARGUMENT. */
int velum_poll(velum *v, velum_ticket ticket, velum_outcome *out);
int velum_wait(velum *v, velum_ticket ticket, uint32_t timeout_ms, velum_outcome *out);
/* Calls `done` once, from inside velum_run, poll, wait, nodes or close, instead of poll or wait;
 * the ticket is spent then. It may spawn and cancel. ARGUMENT for an unknown ticket. */
int velum_on_done(velum *v, velum_ticket ticket,
                  void (*done)(void *user, velum_ticket ticket, const velum_outcome *outcome),
                  void *user);
/* Stops a task or a scatter; its outcome is CANCELLED, unless it was done. A scatter whose full
 * node has just gone has it once the next one knows. ARGUMENT; FULL: the link is busy and nothing
 * was done, try again. */
int velum_cancel(velum *v, velum_ticket ticket);

/* ---- scatter: one range, cut into slices, over every worker of the mesh; docs/scatter.md ---- */

/* How the values of slices become the answer, always in the order of slices. */
typedef enum {
    VELUM_REDUCE_SUM = 1, /* of integers: exact, OVERFLOW if it does not fit i64 */
    VELUM_REDUCE_PRODUCT,
    VELUM_REDUCE_MIN,
    VELUM_REDUCE_MAX,
    VELUM_REDUCE_AND, /* AND, OR and XOR: of integers only */
    VELUM_REDUCE_OR,
    VELUM_REDUCE_XOR,
    VELUM_REDUCE_FIRST,  /* the first value that is not `missing` */
    VELUM_REDUCE_ALL,    /* a list: not for velum_spawn_wasm_distributed */
    VELUM_REDUCE_COLLECT /* a list too */
} velum_reduce;

typedef enum {
    VELUM_JOB_RUNNING = 1,
    VELUM_JOB_CANCELLED = 2,
    VELUM_JOB_FAILED = 3,
    VELUM_JOB_DONE = 4
} velum_job_state;

/* Zeros are the ordinary wishes. */
typedef struct {
    uint8_t reduce;      /* velum_reduce; 0: SUM */
    uint8_t priority;    /* 1..100, its share of workers against other jobs'; 0: 10 */
    uint32_t slices;     /* how often the function is called; 0: 4096. A short range has fewer */
    uint32_t timeout_ms; /* of one slice; 0: none */
    uint32_t limit_ms;   /* of the whole job; 0: none */
    uint64_t fuel;       /* of one slice: loop rounds and calls; 0: no limit */
    uint32_t pages;      /* a guest's memory, 64 KiB pages; 0: each node's own limit */
    velum_value missing; /* FIRST: what the function returns for "not found"; of that type */
    bool keep_going;     /* a failed slice does not fail the job; the others make the answer */
    bool wrap;           /* sums and products of integers are taken modulo 2^64 */
    const char *label;   /* for people who list jobs, at most 255 bytes of UTF-8; NULL: none */
} velum_scatter_options;

/* Calls function(from, to) once a slice of [start, end) and combines what it returns. It must take
 * two i32 or two i64 and return one value. The ticket is as a task's: its outcome has the answer,
 * the job's whole time as run_us and the node that coordinated it; or the error, with the slice
 * that failed named in its text. No death of a node ends the job: if the full node goes, the next
 * one is told of the same job, and nothing is started twice. After velum_close it goes on without
 * this program; velum_cancel stops it.
 * As velum_spawn_wasm, and: SIGNATURE for another kind of function, and for a bound that does not
 * fit its i32; ARGUMENT for a range that ends before it starts or an option out of its range, and
 * for ALL and COLLECT, because an outcome has room for one number. */
int velum_spawn_wasm_distributed(velum *v, const void *module, size_t size, const char *function,
                                 int64_t start, int64_t end, const velum_scatter_options *options,
                                 velum_ticket *out); /* options NULL: zeros */

typedef struct {
    uint32_t slices, done, failed;
    uint64_t elapsed_ms;
    uint8_t state;  /* velum_job_state; 0: the mesh has not said yet */
    uint16_t nodes; /* that have taken part */
} velum_job_progress;

/* How far a scatter is, as the mesh told last, some times a second; only looks, also inside a
 * callback. ARGUMENT for a ticket that is spent, or a task's. */
int velum_get_progress(velum *v, velum_ticket ticket, velum_job_progress *out);

/* The members that the full node knows, as JSON (see docs/protocol.md, QUERY); waits for it. The
 * text is valid until the next call of velum_nodes or velum_close. TIMEOUT, NOMEM, ARGUMENT inside
 * a callback, or what velum_run returned. */
int velum_nodes(velum *v, uint32_t timeout_ms, const char **json);

/* Values. */
velum_value velum_i32(int32_t x);
velum_value velum_i64(int64_t x);
velum_value velum_f32(float x);
velum_value velum_f64(double x);
int64_t velum_as_i64(velum_value v); /* of i32 and i64 */
double velum_as_f64(velum_value v);  /* of any */

/* The short form for a program with one mesh: an instance kept by the library. velum_init(1, 8001)
 * joins as member 1 on port 8001, found by beacon, with one worker; velum_mesh() is what the calls
 * above take. */
int velum_init(uint16_t id, uint16_t port);
velum *velum_mesh(void);
void velum_shutdown(void);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif
#endif
