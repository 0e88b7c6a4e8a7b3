/* wire.h: what travels between nodes, as bytes.
 *
 * Owns: the layout of every frame and datagram, once; docs/protocol.md says the same in words.
 * Refuses to know: sockets, connections, who may send what when.
 * How: little-endian, byte by byte, never a struct's memory. A decoder keeps no state: it returns
 * bytes consumed (> 0), 0 for "need more", or a negative velum_err, and every length is checked
 * before a byte is used. Decoded pointers lead into the caller's buffer.
 */
#ifndef VELUM_WIRE_H
#define VELUM_WIRE_H

#include "velum.h"
#include "velum_opt.h"

#define VELUM_WIRE_MAGIC_0 0x56u /* 'V' */
#define VELUM_WIRE_MAGIC_1 0x4cu /* 'L' */
#define VELUM_WIRE_VERSION 1u
#define VELUM_HEADER_BYTES 16u
#define VELUM_HASH_BYTES   32u
#define VELUM_ID_NONE      0u /* a worker or a client has no node id */

/* A request, a reply, or a line of the key-value state's log with what stands before it. */
#define VELUM_KV_FRAME_BYTES_MAX (65u * 64u * 1024u)

/* name, code, largest payload. Frames 0x01..0x2f, 0x40..0x5f (wire_store.h) and 0x60..0x6b
 * (wire_kv.h) travel on streams, 0x30..0x3f in datagrams. */
#define VELUM_FRAMES(X)                                                                            \
    X(HELLO, 0x01, VELUM_HELLO_BYTES_MAX)                                                          \
    X(BYE, 0x02, 2u + 2u + VELUM_TEXT_BYTES_MAX)                                                   \
    X(PING, 0x03, 0u)                                                                              \
    X(PONG, 0x04, 0u)                                                                              \
    X(CALL, 0x10, 1024u)                                                                           \
    X(TASK, 0x11, 1024u)                                                                           \
    X(RESULT, 0x12, 1024u)                                                                         \
    X(ERROR, 0x13, 16u + VELUM_TEXT_BYTES_MAX)                                                     \
    X(PROGRESS, 0x14, 16u)                                                                         \
    X(CANCEL, 0x15, 2u)                                                                            \
    X(MODULE_WANT, 0x16, VELUM_HASH_BYTES + 4u)                                                    \
    X(MODULE, 0x17, VELUM_HASH_BYTES + 8u + VELUM_MODULE_PART_BYTES)                               \
    X(SCATTER, 0x18, 1024u)                                                                        \
    X(LEASE, 0x19, 1024u + 32u)                                                                    \
    X(SLICES, 0x1a, VELUM_FRAME_BYTES_MAX)                                                         \
    X(TRIM, 0x1b, 4u)                                                                              \
    X(JOB, 0x1c, VELUM_FRAME_BYTES_MAX)                                                            \
    X(JOB_ASK, 0x1d, 10u)                                                                          \
    X(SYNC, 0x20, VELUM_FRAME_BYTES_MAX)                                                           \
    X(SYNC_REPLY, 0x21, VELUM_FRAME_BYTES_MAX)                                                     \
    X(HEALTH, 0x22, 24u)                                                                           \
    X(QUERY, 0x28, 1u + VELUM_NAME_BYTES_MAX)                                                      \
    X(ANSWER, 0x29, VELUM_FRAME_BYTES_MAX)                                                         \
    X(PROBE, 0x30, VELUM_DATAGRAM_BYTES_MAX)                                                       \
    X(ACK, 0x31, VELUM_DATAGRAM_BYTES_MAX)                                                         \
    X(PROBE_REQUEST, 0x32, VELUM_DATAGRAM_BYTES_MAX)                                               \
    X(NACK, 0x33, VELUM_DATAGRAM_BYTES_MAX)                                                        \
    X(GOSSIP, 0x34, VELUM_DATAGRAM_BYTES_MAX)                                                      \
    X(BEACON, 0x35, 64u)                                                                           \
    X(HOLD, 0x40, 64u * 1024u)                                                                     \
    X(HELD, 0x41, 9u)                                                                              \
    X(CHUNK, 0x42, 40u + VELUM_CHUNK_PART_BYTES)                                                   \
    X(WANT, 0x43, 32u)                                                                             \
    X(RELEASE, 0x44, 45u)                                                                          \
    X(OFFER, 0x45, 2u + 1024u * 32u)                                                               \
    X(OFFERED, 0x46, 2u + 1024u)                                                                   \
    X(CLAIMS, 0x47, 2u + 1024u * 44u)                                                              \
    X(CLAIMED, 0x48, 2u + 1024u)                                                                   \
    X(ENTRY, 0x50, VELUM_FRAME_BYTES_MAX)                                                          \
    X(ENTRY_ASK, 0x51, 33u)                                                                        \
    X(VERSION, 0x52, 14u)                                                                          \
    X(NAMES_ASK, 0x53, 2u + 2u * (2u + VELUM_FILE_NAME_BYTES_MAX))                                 \
    X(NAMES, 0x54, VELUM_FRAME_BYTES_MAX)                                                          \
    X(SUMS, 0x55, 256u * 12u)                                                                      \
    X(LISTING, 0x56, 4u + 1u + 64u + 2u + 512u * 52u)                                              \
    X(LISTED, 0x57, 4u + 2u + 512u * 52u + 2u + 512u * 32u)                                        \
    X(KV_DO, 0x60, VELUM_KV_FRAME_BYTES_MAX)                                                       \
    X(KV_DONE, 0x61, VELUM_KV_FRAME_BYTES_MAX)                                                     \
    X(KV_RECORDS, 0x62, VELUM_KV_FRAME_BYTES_MAX)                                                  \
    X(KV_HEARD, 0x63, 0u)                                                                          \
    X(KV_ASK, 0x64, 3u + 256u * 4u)                                                                \
    X(KV_SUMS, 0x65, 3u + 256u * 132u)                                                             \
    X(KV_LEAVES, 0x66, 2u + 1024u * 4u)                                                            \
    X(KV_END, 0x67, 5u)                                                                            \
    X(KV_WATCH, 0x68, 3u + 1024u)                                                                  \
    X(KV_CHANGES, 0x69, VELUM_KV_FRAME_BYTES_MAX)                                                  \
    X(KV_PUBLISH, 0x6a, 2u * 1024u * 1024u)                                                        \
    X(KV_TALK, 0x6b, VELUM_FRAME_BYTES_MAX)

typedef enum {
#define VELUM_FRAME_ENUM(name, code, limit) VELUM_F_##name = (code),
    VELUM_FRAMES(VELUM_FRAME_ENUM)
#undef VELUM_FRAME_ENUM
} velum_frame_type;

/* Header, 16 bytes: magic 'V' 'L', version u8, type u8, payload length u32, correlation u64. */
typedef struct {
    uint8_t type;
    uint32_t length;
    uint64_t correlation;
} velum_header;

/* 16, 0 (need more; also a wrong first byte is refused as soon as it is seen), MAGIC,
 * WIRE_VERSION, FRAME_TYPE or FRAME_LENGTH. */
int velum_wire_header(const uint8_t *buf, size_t n, velum_header *out);
/* Writes 16 bytes. */
void velum_wire_put_header(uint8_t *buf, uint8_t type, uint32_t length, uint64_t correlation);
/* Largest payload of a type, or -1 for a type that does not exist; its name or "?". */
int64_t velum_wire_limit(uint8_t type);
const char *velum_wire_name(uint8_t type);
/* Whether a type travels in datagrams, not on streams. */
bool velum_wire_is_datagram(uint8_t type);

/* ---- messages. Each put writes header and payload to buf and returns the frame's whole length,
 * or ARGUMENT (a field is out of its range) or FULL (cap too small). Each get reads a whole payload
 * (length n, header already read) and returns n or PAYLOAD; bytes left over are an error, so is a
 * value outside its range. ---- */

typedef struct {
    const char *data; /* UTF-8, not terminated; may be NULL when size is 0 */
    uint16_t size;
} velum_text;

typedef enum {
    VELUM_ROLE_NODE = 1,   /* full member: gossips and schedules */
    VELUM_ROLE_LEAF = 2,   /* C-only member: answers probes and runs tasks, never schedules */
    VELUM_ROLE_WORKER = 3, /* a node's own worker process */
    VELUM_ROLE_CLIENT = 4  /* attaches to submit work, is no member */
} velum_role;

/* What a node says of its load; 24 bytes. Rides on HEALTH, PROBE, ACK and SYNC records.
 * Layout: cpu u8 | slots u8 | cores u8 | flags u8 (bit 0: leaving) | queue u16 | running u16 |
 * free_mib u32 | speed u32 | ram_mib u32 | ram_free_mib u32. */
typedef struct {
    uint8_t cpu;           /* busy share of the machine's CPUs, percent, 0..100 */
    uint8_t slots;         /* workers it runs, 0..255 */
    uint8_t cores;         /* CPUs of the machine, 1..255 */
    uint8_t flags;         /* VELUM_HEALTH_LEAVING */
    uint16_t queue;        /* tasks waiting for a worker, saturated */
    uint16_t running;      /* workers busy, saturated */
    uint32_t free_mib;     /* RAM available, MiB */
    uint32_t speed;        /* calibrated wasm speed of one worker: thousand loop rounds a second */
    uint32_t ram_mib;      /* that it gives to chunks of files, MiB; 0: none */
    uint32_t ram_free_mib; /* of that, not used; ram_mib at most */
} velum_health;
#define VELUM_HEALTH_BYTES   24u
#define VELUM_HEALTH_LEAVING 1u

/* A link for files beside the link of members and calls: it means nothing for membership. */
#define VELUM_FEATURE_BULK 1u

/* HELLO: role u8 | slots u8 | id u16 | features u32 | incarnation u64 | ip u32 | port u16 |
 * version text8 | key bytes16 (length u16 then bytes; empty today: room for a key exchange). */
typedef struct {
    uint8_t role;
    uint8_t slots;        /* workers offered; 0 for client */
    uint16_t id;          /* 1..65535 for node and leaf, else 0 */
    uint32_t features;    /* VELUM_FEATURE_BULK, others 0 today */
    uint64_t incarnation; /* of a member; see velum_member */
    velum_addr addr;      /* where it listens; ip 0: take the connection's; port 0: nowhere */
    velum_text version;   /* of the program, for people; at most 64 bytes */
    const uint8_t *key;
    uint16_t key_size; /* at most 256 */
} velum_hello;
int velum_wire_put_hello(uint8_t *buf, size_t cap, uint64_t correlation, const velum_hello *m);
int velum_wire_get_hello(const uint8_t *p, size_t n, velum_hello *m);

/* BYE: code u16 | text16. Code 0 is an orderly leave; otherwise why the link is refused. */
typedef struct {
    uint16_t code;
    velum_text text;
} velum_bye;
int velum_wire_put_bye(uint8_t *buf, size_t cap, const velum_bye *m);
int velum_wire_get_bye(const uint8_t *p, size_t n, velum_bye *m);

/* PING, PONG, KV_HEARD, no payload: put with correlation, that of a question in an answer. */
int velum_wire_put_empty(uint8_t *buf, size_t cap, uint8_t type, uint64_t correlation);

/* A value is type u8 then 4 (i32, f32) or 8 (i64, f64) bytes. A list is count u8 then values. */

/* CALL: flags u8 | timeout_ms u32 | name text8 | args list. */
#define VELUM_TASK_PLACED 1u /* run it here; without this bit the receiver schedules it */
typedef struct {
    uint8_t flags;
    uint32_t timeout_ms; /* 0: none */
    velum_text name;
    uint8_t nargs;
    velum_value args[VELUM_ARGS_MAX];
} velum_call;
int velum_wire_put_call(uint8_t *buf, size_t cap, uint64_t correlation, const velum_call *m);
int velum_wire_get_call(const uint8_t *p, size_t n, velum_call *m);

/* TASK: flags u8 | timeout_ms u32 | fuel u64 | pages u32 | hash 32 | name text8 | args list. */
typedef struct {
    uint8_t flags;
    uint32_t timeout_ms; /* 0: none */
    uint64_t fuel;       /* loop rounds and calls the guest may make; 0: no limit */
    uint32_t pages;      /* linear memory limit, 64 KiB pages; 0: the node's own limit */
    uint8_t hash[VELUM_HASH_BYTES];
    velum_text name; /* export */
    uint8_t nargs;
    velum_value args[VELUM_ARGS_MAX];
} velum_task;
int velum_wire_put_task(uint8_t *buf, size_t cap, uint64_t correlation, const velum_task *m);
int velum_wire_get_task(const uint8_t *p, size_t n, velum_task *m);

/* RESULT: node u16 | run_us u32 | health 24 | values list. Correlation is the task's. */
typedef struct {
    uint16_t node;       /* who ran it */
    uint32_t run_us;     /* time in the function, saturated */
    velum_health health; /* of that node, at that moment */
    uint8_t nvalues;
    velum_value values[VELUM_ARGS_MAX];
} velum_result;
int velum_wire_put_result(uint8_t *buf, size_t cap, uint64_t correlation, const velum_result *m);
int velum_wire_get_result(const uint8_t *p, size_t n, velum_result *m);

/* ERROR: code u16 | node u16 | deaths u8 | text16. Correlation is the task's. */
typedef struct {
    uint16_t code;  /* positive velum_err */
    uint16_t node;  /* where it happened; 0 unknown */
    uint8_t deaths; /* workers that this task killed there */
    velum_text text;
} velum_error;
int velum_wire_put_error(uint8_t *buf, size_t cap, uint64_t correlation, const velum_error *m);
int velum_wire_get_error(const uint8_t *p, size_t n, velum_error *m);

/* PROGRESS: done u64 | total u64 (0: unknown). Correlation is the task's. */
typedef struct {
    uint64_t done, total;
} velum_progress;
int velum_wire_put_progress(uint8_t *buf, size_t cap, uint64_t correlation,
                            const velum_progress *m);
int velum_wire_get_progress(const uint8_t *p, size_t n, velum_progress *m);

/* CANCEL: code u16, the positive error the task shall end with (CANCELLED or DEADLINE). */
int velum_wire_put_cancel(uint8_t *buf, size_t cap, uint64_t correlation, uint16_t code);
int velum_wire_get_cancel(const uint8_t *p, size_t n, uint16_t *code);

/* MODULE_WANT: hash 32 | offset u32, a multiple of VELUM_MODULE_PART_BYTES. Answered with the
 * MODULE part that starts there, or ERROR MODULE_MISSING, under the same correlation. */
typedef struct {
    uint8_t hash[VELUM_HASH_BYTES];
    uint32_t offset;
} velum_module_want;
int velum_wire_put_module_want(uint8_t *buf, size_t cap, uint64_t correlation,
                               const velum_module_want *m);
int velum_wire_get_module_want(const uint8_t *p, size_t n, velum_module_want *m);

/* MODULE: hash 32 | total u32 | offset u32 | bytes to the frame's end. The head is these 40 bytes;
 * the bytes are received straight into the module's memory and sent straight from it. A part is
 * VELUM_MODULE_PART_BYTES long, but for the last. */
#define VELUM_MODULE_HEAD_BYTES 40u
typedef struct {
    uint8_t hash[VELUM_HASH_BYTES];
    uint32_t total;
    uint32_t offset;
    uint32_t size; /* of the bytes: frame length minus the head */
} velum_module_part;
/* Writes header and head, 56 bytes; the caller sends `size` bytes after them. */
int velum_wire_put_module_head(uint8_t *buf, size_t cap, uint64_t correlation,
                               const velum_module_part *m);
/* Reads the head (40 bytes) of a frame whose payload is `length` bytes long. Returns 40, 0 (need
 * more) or PAYLOAD: total out of range, a part past the end, wrong size for its offset. */
int velum_wire_get_module_head(const uint8_t *p, size_t n, uint32_t length, velum_module_part *m);

/* ---- scatter (wire_job.c): jobs, leases, slices; docs/scatter.md says what they mean ---- */

/* SCATTER, a job's spec: job u64 | flags u8 | reduce u8 | priority u8 | result u8 | slices u32 |
 * timeout_ms u32 | limit_ms u32 | fuel u64 | pages u32 | missing u64 | created_ms u64 | hash 32 |
 * name text8 | label text8 | args list. From a client it submits the job or finds it again; from a
 * node it makes the receiver a holder, or tells a client what it watches. */
#define VELUM_JOB_KEEP_GOING 1u /* a failed slice does not fail the job */
#define VELUM_JOB_WRAP       2u /* integer sums and products modulo 2^64 */
#define VELUM_JOB_VALUES     4u /* from a client: send SLICES too, not only JOB */
#define VELUM_JOB_FLAGS      7u
#define VELUM_PRIORITY_MAX   100u
typedef struct {
    uint64_t job; /* 1..2^63-1 */
    uint8_t flags;
    uint8_t reduce;      /* velum_reduce, velum.h */
    uint8_t priority;    /* 1..VELUM_PRIORITY_MAX: its share of workers against other jobs' */
    uint8_t result;      /* value type of what the function returns */
    uint32_t slices;     /* 0 (empty range) to VELUM_SLICES_MAX */
    uint32_t timeout_ms; /* of one slice; 0: none */
    uint32_t limit_ms;   /* of the whole job; 0: none */
    uint64_t fuel;       /* of one slice; 0: no limit */
    uint32_t pages;      /* linear memory limit, 64 KiB pages; 0: the node's own limit */
    uint64_t missing;    /* bits of the value that means "not found", for first and all */
    uint64_t created_ms; /* unix time */
    uint8_t hash[VELUM_HASH_BYTES];
    velum_text name;                  /* export */
    velum_text label;                 /* for people: the module's file name */
    uint8_t nargs;                    /* at least 2 */
    velum_value args[VELUM_ARGS_MAX]; /* [0] and [1]: start and end, of one integer type,
                                         start <= end; the others go to every call */
} velum_scatter;
int velum_wire_put_scatter(uint8_t *buf, size_t cap, uint64_t correlation, const velum_scatter *m);
int velum_wire_get_scatter(const uint8_t *p, size_t n, velum_scatter *m);

/* LEASE: the payload of a TASK (flags PLACED and perhaps CAREFUL; timeout_ms and fuel are of one
 * slice; args [0] and [1] are the job's start and end) | job u64 | slices u32 | first u32 |
 * count u32 | priority u8. The receiver runs slices first .. first + count - 1, in order. */
#define VELUM_LEASE_CAREFUL 2u /* report every slice before the next begins */
typedef struct {
    velum_task task;
    uint64_t job;
    uint32_t slices; /* of the job: 1..VELUM_SLICES_MAX */
    uint32_t first;  /* below slices */
    uint32_t count;  /* at least 1, first + count <= slices */
    uint8_t priority;
} velum_lease;
int velum_wire_put_lease(uint8_t *buf, size_t cap, uint64_t correlation, const velum_lease *m);
int velum_wire_get_lease(const uint8_t *p, size_t n, velum_lease *m);

/* SLICES: job u64 | flags u8 | busy_us u32 | runs u16 | runs times (first u32 | count u32 |
 * count times value u64) | failed u16 | failed times (slice u32 | code u16 | text text8).
 * Under a LEASE's correlation: a report. Else: what a holder or a client is to merge.
 * Runs ascend and do not touch or overlap; count is at least 1; first + count <= SLICES_MAX. Failed
 * slices ascend and code is not 0. */
#define VELUM_SLICES_LAST 1u /* the lease is over: what it has not reported, it will not */
typedef struct {
    uint64_t job;
    uint8_t flags;
    uint32_t busy_us; /* time in the guest for these slices, saturated; 0 in a copy */
    uint16_t nruns;
    uint16_t nfailed;
    const uint8_t *runs;   /* raw, checked: walk with velum_wire_next_run */
    const uint8_t *failed; /* raw, checked: walk with velum_wire_next_failed */
} velum_slices;
typedef struct {
    uint32_t first, count;
    const uint8_t *values; /* count times 8 bytes, little-endian */
} velum_slice_run;
typedef struct {
    uint32_t slice;
    uint16_t code;
    velum_text text; /* at most 255 bytes */
} velum_failed;
/* Built by steps, because a worker adds values as they come: begin writes the header's room and the
 * head, add_run and add_value fill one run, and so on; end writes what was counted. */
typedef struct {
    uint8_t *buf;
    size_t cap, used;
    size_t run_at;      /* of the count of the open run, 0: none */
    size_t failed_at;   /* of the count of failures, 0: none yet, runs may come */
    uint32_t run_count; /* of the open run */
    uint16_t nruns, nfailed;
    uint32_t next; /* the least slice that may come next */
} velum_slices_writer;
/* FULL when not even an empty frame fits, ARGUMENT. */
int velum_wire_slices_begin(velum_slices_writer *w, uint8_t *buf, size_t cap, uint64_t job);
/* Appends one value; it joins the open run when it is the next slice. FULL, ARGUMENT (order); the
 * writer is then as it was. */
int velum_wire_slices_add(velum_slices_writer *w, uint32_t slice, uint64_t value);
/* Appends a failure, after all runs. The text is cut after at most 255 bytes, between characters.
 * FULL, ARGUMENT (order; code 0; not UTF-8); the writer is then as it was. */
int velum_wire_slices_fail(velum_slices_writer *w, uint32_t slice, uint16_t code, velum_text text);
/* Completes the frame; its whole length, or ARGUMENT (flags). */
int velum_wire_slices_end(velum_slices_writer *w, uint64_t correlation, uint8_t flags,
                          uint32_t busy_us);
int velum_wire_get_slices(const uint8_t *p, size_t n, velum_slices *m);
/* The run or failure at *at, which moves behind it. Only on what get_slices accepted. */
velum_slice_run velum_wire_next_run(const uint8_t **at);
velum_failed velum_wire_next_failed(const uint8_t **at);

/* TRIM, under a LEASE's correlation: end u32. The lease keeps slices below `end` only. One that has
 * not begun and keeps none ends at once with an empty SLICES LAST. */
int velum_wire_put_trim(uint8_t *buf, size_t cap, uint64_t correlation, uint32_t end);
int velum_wire_get_trim(const uint8_t *p, size_t n, uint32_t *end);

/* JOB, a record: job u64 | attempt u16 | state u8 | epoch u32 | coordinator u16 | sequence u32 |
 * slices u32 | done u32 | failed u32 | checksum u32 | elapsed_ms u64 | retries u32 |
 * duplicates u32 | code u16 | text text16 | answer list (0 or 1 values) | holders u8 times u16 |
 * shares u16 times 12 bytes (node u16 | leases u16 | done u32 | busy_ms u32). */
#define VELUM_HOLDERS_MAX 16u
#define VELUM_SHARE_BYTES 12u
typedef struct {
    uint64_t job;
    uint16_t attempt;
    uint8_t state; /* velum_job_state, velum.h */
    uint32_t epoch;
    uint16_t coordinator;
    uint32_t sequence; /* of this coordinator's records, ascending */
    uint32_t slices, done, failed;
    uint32_t checksum; /* of the coordinator's ledger */
    uint64_t elapsed_ms;
    uint32_t retries;    /* leases that came back without an end: lost, refused, died */
    uint32_t duplicates; /* values that were known already */
    uint16_t code;       /* of FAILED and CANCELLED, else 0 */
    velum_text text;     /* why, for people */
    uint8_t nanswers;    /* 1 when DONE and the answer is one number */
    velum_value answer;
    uint8_t nholders; /* at most VELUM_HOLDERS_MAX, by rank */
    uint16_t holders[VELUM_HOLDERS_MAX];
    uint16_t nshares;      /* who did how much */
    const uint8_t *shares; /* raw; nshares times VELUM_SHARE_BYTES */
} velum_job;
typedef struct {
    uint16_t node;
    uint16_t leases; /* open there */
    uint32_t done;   /* slices whose value came from there first */
    uint32_t busy_ms;
} velum_share;
int velum_wire_put_job(uint8_t *buf, size_t cap, uint64_t correlation, const velum_job *m);
int velum_wire_get_job(const uint8_t *p, size_t n, velum_job *m);
void velum_wire_put_share(uint8_t *at, const velum_share *share); /* 12 bytes */
velum_share velum_wire_share(const velum_job *m, uint16_t index);

/* JOB_ASK: job u64 | ask u8 | flags u8 (VELUM_JOB_VALUES or 0). */
typedef enum {
    VELUM_ASK_WATCH = 1,  /* client: SCATTER, then JOB as the job goes on, or ERROR JOB_UNKNOWN */
    VELUM_ASK_CANCEL = 2, /* anybody */
    VELUM_ASK_RESUME = 3, /* anybody */
    VELUM_ASK_HOLD = 4    /* node: make me a holder; who is none answers ERROR JOB_UNKNOWN */
} velum_ask;
typedef struct {
    uint64_t job;
    uint8_t ask;
    uint8_t flags;
} velum_job_ask;
int velum_wire_put_job_ask(uint8_t *buf, size_t cap, uint64_t correlation, const velum_job_ask *m);
int velum_wire_get_job_ask(const uint8_t *p, size_t n, velum_job_ask *m);

/* A member as gossip tells of it; 20 bytes: id u16 | state u8 | role u8 | incarnation u64 |
 * ip u32 | port u16 | from u16. */
typedef enum {
    VELUM_MEMBER_ALIVE = 1,
    VELUM_MEMBER_SUSPECT = 2,
    VELUM_MEMBER_DEAD = 3,
    VELUM_MEMBER_LEFT = 4
} velum_member_state;
typedef struct {
    uint16_t id;          /* 1..65535 */
    uint8_t state;        /* velum_member_state */
    uint8_t role;         /* VELUM_ROLE_NODE or VELUM_ROLE_LEAF */
    uint64_t incarnation; /* starts as unix milliseconds at the node's start, raised to refute */
    velum_addr addr;      /* TCP and UDP port are the same number */
    uint16_t from;        /* who says so: the accuser of a suspect, else 0 */
} velum_member;
#define VELUM_MEMBER_BYTES 20u

/* SYNC and SYNC_REPLY: count u16 | count times (member 20 | health 24). The sender is the first. */
int velum_wire_put_sync(uint8_t *buf, size_t cap, uint8_t type, uint64_t correlation,
                        const velum_member *members, const velum_health *healths, size_t count);
/* Entry by entry: count first (n must fit exactly; at least 1), then one record at an index, which
 * gives 44, PAYLOAD, or ARGUMENT for an index that is not below count. */
int velum_wire_get_sync(const uint8_t *p, size_t n, size_t *count);
int velum_wire_get_sync_at(const uint8_t *p, size_t n, size_t index, velum_member *m,
                           velum_health *h);

/* HEALTH: health 24. */
int velum_wire_put_health(uint8_t *buf, size_t cap, const velum_health *m);
int velum_wire_get_health(const uint8_t *p, size_t n, velum_health *m);

/* QUERY: topic text8. ANSWER: JSON, UTF-8, the whole payload. */
int velum_wire_put_query(uint8_t *buf, size_t cap, uint64_t correlation, velum_text topic);
int velum_wire_get_query(const uint8_t *p, size_t n, velum_text *topic);

/* ---- datagrams: the same header (correlation is the sequence number), then: ----
 * PROBE:         sender u16 | target u16 | suspected u64 | health 24 | updates
 *                suspected: the incarnation at which the sender suspects the target, 0 for none
 * ACK:           sender u16 | target u16 (who answers) | incarnation u64 | health 24 | updates
 * PROBE_REQUEST: sender u16 | target u16 | ip u32 | port u16 | updates (of the target's address)
 * NACK:          sender u16 | target u16
 * GOSSIP:        sender u16 | updates
 * BEACON:        sender u16 | role u8 | flags u8 (bit 0: answer me) | ip u32 | port u16 |
 *                incarnation u64
 * updates: count u8 | count times member 20. */
#define VELUM_BEACON_ASK  1u
#define VELUM_UPDATES_MAX 40u /* keeps every datagram under VELUM_DATAGRAM_BYTES_MAX */
typedef struct {
    uint8_t type;      /* VELUM_F_PROBE .. VELUM_F_BEACON */
    uint64_t sequence; /* the header's correlation */
    uint16_t sender;   /* 0 in a BEACON of a client that only asks */
    uint16_t target;
    uint64_t incarnation; /* PROBE: suspected; ACK: the target's; BEACON: the sender's */
    velum_addr addr;      /* PROBE_REQUEST: the target's; BEACON: the sender's */
    uint8_t role;         /* BEACON: the sender's, CLIENT for one that only asks */
    uint8_t flags;        /* BEACON */
    velum_health health;  /* PROBE: the sender's; ACK: the target's */
    uint8_t nupdates;
    velum_member updates[VELUM_UPDATES_MAX];
} velum_datagram;
/* The whole datagram, header included. */
int velum_wire_put_datagram(uint8_t *buf, size_t cap, const velum_datagram *m);
int velum_wire_get_datagram(const uint8_t *buf, size_t n, velum_datagram *m);

#endif
