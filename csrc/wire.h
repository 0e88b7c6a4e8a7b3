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

/* name, code, largest payload. Frames 0x01..0x2f travel on streams, 0x30..0x3f in datagrams. */
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
    X(SYNC, 0x20, VELUM_FRAME_BYTES_MAX)                                                           \
    X(SYNC_REPLY, 0x21, VELUM_FRAME_BYTES_MAX)                                                     \
    X(HEALTH, 0x22, 16u)                                                                           \
    X(QUERY, 0x28, 1u + VELUM_NAME_BYTES_MAX)                                                      \
    X(ANSWER, 0x29, VELUM_FRAME_BYTES_MAX)                                                         \
    X(PROBE, 0x30, VELUM_DATAGRAM_BYTES_MAX)                                                       \
    X(ACK, 0x31, VELUM_DATAGRAM_BYTES_MAX)                                                         \
    X(PROBE_REQUEST, 0x32, VELUM_DATAGRAM_BYTES_MAX)                                               \
    X(NACK, 0x33, VELUM_DATAGRAM_BYTES_MAX)                                                        \
    X(GOSSIP, 0x34, VELUM_DATAGRAM_BYTES_MAX)                                                      \
    X(BEACON, 0x35, 64u)

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

/* What a node says of its load; 16 bytes. Rides on HEALTH, PROBE, ACK and SYNC records.
 * Layout: cpu u8 | slots u8 | cores u8 | flags u8 (bit 0: leaving) | queue u16 | running u16 |
 * free_mib u32 | speed u32. */
typedef struct {
    uint8_t cpu;       /* busy share of the machine's CPUs, percent, 0..100 */
    uint8_t slots;     /* workers it runs, 0..255 */
    uint8_t cores;     /* CPUs of the machine, 1..255 */
    uint8_t flags;     /* VELUM_HEALTH_LEAVING */
    uint16_t queue;    /* tasks waiting for a worker, saturated */
    uint16_t running;  /* workers busy, saturated */
    uint32_t free_mib; /* RAM available, MiB */
    uint32_t speed;    /* calibrated wasm speed of one worker: thousand loop rounds a second */
} velum_health;
#define VELUM_HEALTH_BYTES   16u
#define VELUM_HEALTH_LEAVING 1u

/* HELLO: role u8 | slots u8 | id u16 | features u32 | incarnation u64 | ip u32 | port u16 |
 * version text8 | key bytes16 (length u16 then bytes; empty today: room for a key exchange). */
typedef struct {
    uint8_t role;
    uint8_t slots;        /* workers offered; 0 for client */
    uint16_t id;          /* 1..65535 for node and leaf, else 0 */
    uint32_t features;    /* 0 today */
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

/* PING, PONG, no payload: put with correlation, echoed by PONG. */
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

/* RESULT: node u16 | run_us u32 | health 16 | values list. Correlation is the task's. */
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

/* SYNC and SYNC_REPLY: count u16 | count times (member 20 | health 16). The sender is the first. */
int velum_wire_put_sync(uint8_t *buf, size_t cap, uint8_t type, uint64_t correlation,
                        const velum_member *members, const velum_health *healths, size_t count);
/* Entry by entry: count first (n must fit exactly; at least 1), then one record at an index, which
 * gives 36, PAYLOAD, or ARGUMENT for an index that is not below count. */
int velum_wire_get_sync(const uint8_t *p, size_t n, size_t *count);
int velum_wire_get_sync_at(const uint8_t *p, size_t n, size_t index, velum_member *m,
                           velum_health *h);

/* HEALTH: health 16. */
int velum_wire_put_health(uint8_t *buf, size_t cap, const velum_health *m);
int velum_wire_get_health(const uint8_t *p, size_t n, velum_health *m);

/* QUERY: topic text8. ANSWER: JSON, UTF-8, the whole payload. */
int velum_wire_put_query(uint8_t *buf, size_t cap, uint64_t correlation, velum_text topic);
int velum_wire_get_query(const uint8_t *p, size_t n, velum_text *topic);

/* ---- datagrams: the same header (correlation is the sequence number), then: ----
 * PROBE:         sender u16 | target u16 | suspected u64 | health 16 | updates
 *                suspected: the incarnation at which the sender suspects the target, 0 for none
 * ACK:           sender u16 | target u16 (who answers) | incarnation u64 | health 16 | updates
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

/* ---- shared by wire.c and wire_member.c, not for others ---- */

/* Writes a header for a payload of `length` bytes, which `type` allows. Returns where the payload
 * goes, or NULL when cap is too small. */
uint8_t *velum__wire_begin(uint8_t *buf, size_t cap, uint8_t type, size_t length,
                           uint64_t correlation);
bool velum__wire_health_ok(const velum_health *m);
/* Writes 16 bytes; returns the place behind them. */
uint8_t *velum__wire_pack_health(uint8_t *p, const velum_health *m);

#endif
