/* wire.c: headers and the messages of a link: the handshake, calls, tasks and modules.
 *
 * Owns: their layout (wire.h) as code. Refuses to know: how texts and values are made
 * (wire_parts.c), members and datagrams (wire_member.c), jobs (wire_job.c), files (wire_store.c,
 * wire_names.c), the key-value state (wire_kv.c), who may send what.
 * How: each message has one function that says whether its fields are in range; put turns false
 * into ARGUMENT, get into PAYLOAD. A put adds up its length, checks the room once and then writes.
 * A get takes fixed parts in one piece with velum__take and reads them unchecked.
 */
#include "wire_parts.h"

#define VERSION_BYTES_MAX 64u
#define KEY_BYTES_MAX     256u
#define TYPES             0x70u

/* What stands before the first text or list of a message. */
#define HELLO_FIXED  22u
#define CALL_FIXED   5u
#define TASK_FIXED   49u
#define RESULT_FIXED (2u + 4u + VELUM_HEALTH_BYTES)
#define ERROR_FIXED  5u
#define WANT_BYTES   (VELUM_HASH_BYTES + 4u)

/* A port may have changed limits: they must still fit each other. */
VELUM__STATIC_CHECK(name_is_text8, VELUM_NAME_BYTES_MAX <= 255u);
VELUM__STATIC_CHECK(count_is_a_byte, VELUM_ARGS_MAX <= 255u);
VELUM__STATIC_CHECK(text_is_text16, VELUM_TEXT_BYTES_MAX <= 65535u);
VELUM__STATIC_CHECK(hello_fits, HELLO_FIXED + 1u + VERSION_BYTES_MAX + 2u + KEY_BYTES_MAX <=
                                    VELUM_HELLO_BYTES_MAX);
VELUM__STATIC_CHECK(task_fits,
                    TASK_FIXED + 1u + VELUM_NAME_BYTES_MAX + VELUM__LIST_BYTES_MAX <= 1024u);

/* ---- header ---- */

/* One more than the largest payload; 0 marks a type that does not exist. */
static const uint32_t limits[TYPES] = {
#define FRAME_LIMIT(name, code, limit) [(code)] = (limit) + 1u,
    VELUM_FRAMES(FRAME_LIMIT)
#undef FRAME_LIMIT
};

int velum_wire_header(const uint8_t *buf, size_t n, velum_header *out) {
    if (n > 0 && buf[0] != VELUM_WIRE_MAGIC_0) return VELUM_E_MAGIC;
    if (n > 1 && buf[1] != VELUM_WIRE_MAGIC_1) return VELUM_E_MAGIC;
    if (n > 2 && buf[2] != VELUM_WIRE_VERSION) return VELUM_E_WIRE_VERSION;
    if (n > 3 && (buf[3] >= TYPES || limits[buf[3]] == 0)) return VELUM_E_FRAME_TYPE;
    if (n >= 8 && velum__get32(buf + 4) >= limits[buf[3]]) return VELUM_E_FRAME_LENGTH;
    if (n < VELUM_HEADER_BYTES) return 0;
    out->type = buf[3];
    out->length = velum__get32(buf + 4);
    out->correlation = velum__get64(buf + 8);
    return (int)VELUM_HEADER_BYTES;
}

void velum_wire_put_header(uint8_t *buf, uint8_t type, uint32_t length, uint64_t correlation) {
    buf[0] = VELUM_WIRE_MAGIC_0;
    buf[1] = VELUM_WIRE_MAGIC_1;
    buf[2] = VELUM_WIRE_VERSION;
    buf[3] = type;
    velum__put32(buf + 4, length);
    velum__put64(buf + 8, correlation);
}

int64_t velum_wire_limit(uint8_t type) {
    return type < TYPES ? (int64_t)limits[type] - 1 : -1;
}

bool velum_wire_is_datagram(uint8_t type) {
    return type >= VELUM_F_PROBE && type < VELUM_F_HOLD;
}

const char *velum_wire_name(uint8_t type) {
    switch (type) {
#define FRAME_NAME(name, code, limit)                                                              \
    case (code):                                                                                   \
        return #name;
        VELUM_FRAMES(FRAME_NAME)
#undef FRAME_NAME
    default:
        return "?";
    }
}

uint8_t *velum__wire_begin(uint8_t *buf, size_t cap, uint8_t type, size_t length,
                           uint64_t correlation) {
    if (cap < VELUM_HEADER_BYTES || cap - VELUM_HEADER_BYTES < length) return NULL;
    velum_wire_put_header(buf, type, (uint32_t)length, correlation);
    return buf + VELUM_HEADER_BYTES;
}

/* ---- handshake: HELLO, BYE, PING, PONG ---- */

static bool hello_ok(const velum_hello *m) {
    bool member = m->role == VELUM_ROLE_NODE || m->role == VELUM_ROLE_LEAF;
    return m->role >= VELUM_ROLE_NODE && m->role <= VELUM_ROLE_CLIENT &&
           member == (m->id != VELUM_ID_NONE) && (m->role != VELUM_ROLE_CLIENT || m->slots == 0) &&
           velum__text_ok(m->version, VERSION_BYTES_MAX) && m->key_size <= KEY_BYTES_MAX &&
           (m->key != NULL || m->key_size == 0);
}

int velum_wire_put_hello(uint8_t *buf, size_t cap, uint64_t correlation, const velum_hello *m) {
    size_t length = HELLO_FIXED + 1 + m->version.size + 2 + m->key_size;
    uint8_t *p;
    if (!hello_ok(m)) return VELUM_E_ARGUMENT;
    p = velum__wire_begin(buf, cap, VELUM_F_HELLO, length, correlation);
    if (p == NULL) return VELUM_E_FULL;
    p = velum__put8(p, m->role);
    p = velum__put8(p, m->slots);
    p = velum__put16(p, m->id);
    p = velum__put32(p, m->features);
    p = velum__put64(p, m->incarnation);
    p = velum__put32(p, m->addr.ip);
    p = velum__put16(p, m->addr.port);
    p = velum__put_text8(p, m->version);
    velum__put_bytes(velum__put16(p, m->key_size), m->key, m->key_size);
    return velum__whole(length);
}

int velum_wire_get_hello(const uint8_t *p, size_t n, velum_hello *m) {
    velum__reader r = {p, n};
    const uint8_t *f = velum__take(&r, HELLO_FIXED), *key_size;
    if (f == NULL) return VELUM_E_PAYLOAD;
    m->role = f[0];
    m->slots = f[1];
    m->id = velum__get16(f + 2);
    m->features = velum__get32(f + 4);
    m->incarnation = velum__get64(f + 8);
    m->addr.ip = velum__get32(f + 16);
    m->addr.port = velum__get16(f + 20);
    if (!velum__get_text8(&r, &m->version)) return VELUM_E_PAYLOAD;
    key_size = velum__take(&r, 2);
    if (key_size == NULL) return VELUM_E_PAYLOAD;
    m->key_size = velum__get16(key_size);
    m->key = velum__take(&r, m->key_size);
    if (m->key == NULL || r.left != 0 || !hello_ok(m)) return VELUM_E_PAYLOAD;
    return (int)n;
}

int velum_wire_put_bye(uint8_t *buf, size_t cap, const velum_bye *m) {
    size_t length = 4u + m->text.size;
    uint8_t *p;
    if (!velum__text_ok(m->text, VELUM_TEXT_BYTES_MAX)) return VELUM_E_ARGUMENT;
    p = velum__wire_begin(buf, cap, VELUM_F_BYE, length, 0);
    if (p == NULL) return VELUM_E_FULL;
    velum__put_text16(velum__put16(p, m->code), m->text);
    return velum__whole(length);
}

int velum_wire_get_bye(const uint8_t *p, size_t n, velum_bye *m) {
    velum__reader r = {p, n};
    const uint8_t *f = velum__take(&r, 2);
    if (f == NULL || !velum__get_text16(&r, &m->text) || r.left != 0) return VELUM_E_PAYLOAD;
    m->code = velum__get16(f);
    return velum__text_ok(m->text, VELUM_TEXT_BYTES_MAX) ? (int)n : VELUM_E_PAYLOAD;
}

int velum_wire_put_empty(uint8_t *buf, size_t cap, uint8_t type, uint64_t correlation) {
    if (type != VELUM_F_PING && type != VELUM_F_PONG && type != VELUM_F_KV_HEARD)
        return VELUM_E_ARGUMENT;
    if (velum__wire_begin(buf, cap, type, 0, correlation) == NULL) return VELUM_E_FULL;
    return velum__whole(0);
}

/* ---- work: CALL, TASK, RESULT, ERROR, PROGRESS, CANCEL ---- */

static bool work_ok(uint8_t flags, uint8_t allowed, velum_text name) {
    return (flags & ~allowed) == 0 && velum__text_ok(name, VELUM_NAME_BYTES_MAX);
}

int velum_wire_put_call(uint8_t *buf, size_t cap, uint64_t correlation, const velum_call *m) {
    size_t args = velum__values_size(m->args, m->nargs);
    size_t length = CALL_FIXED + 1 + m->name.size + args;
    uint8_t *p;
    if (args == 0 || !work_ok(m->flags, VELUM_TASK_PLACED, m->name)) return VELUM_E_ARGUMENT;
    p = velum__wire_begin(buf, cap, VELUM_F_CALL, length, correlation);
    if (p == NULL) return VELUM_E_FULL;
    p = velum__put8(p, m->flags);
    p = velum__put32(p, m->timeout_ms);
    velum__put_values(velum__put_text8(p, m->name), m->args, m->nargs);
    return velum__whole(length);
}

int velum_wire_get_call(const uint8_t *p, size_t n, velum_call *m) {
    velum__reader r = {p, n};
    const uint8_t *f = velum__take(&r, CALL_FIXED);
    if (f == NULL) return VELUM_E_PAYLOAD;
    m->flags = f[0];
    m->timeout_ms = velum__get32(f + 1);
    if (!velum__get_text8(&r, &m->name)) return VELUM_E_PAYLOAD;
    if (!velum__get_values(&r, m->args, VELUM_ARGS_MAX, &m->nargs)) return VELUM_E_PAYLOAD;
    if (r.left != 0 || !work_ok(m->flags, VELUM_TASK_PLACED, m->name)) return VELUM_E_PAYLOAD;
    return (int)n;
}

size_t velum__wire_task_size(const velum_task *m, uint8_t flags) {
    size_t args = velum__values_size(m->args, m->nargs);
    if (args == 0 || !work_ok(m->flags, flags, m->name)) return 0;
    return TASK_FIXED + 1 + m->name.size + args;
}

uint8_t *velum__wire_pack_task(uint8_t *p, const velum_task *m) {
    p = velum__put8(p, m->flags);
    p = velum__put32(p, m->timeout_ms);
    p = velum__put64(p, m->fuel);
    p = velum__put32(p, m->pages);
    p = velum__put_bytes(p, m->hash, VELUM_HASH_BYTES);
    return velum__put_values(velum__put_text8(p, m->name), m->args, m->nargs);
}

bool velum__wire_unpack_task(velum__reader *r, velum_task *m, uint8_t flags) {
    const uint8_t *f = velum__take(r, TASK_FIXED);
    if (f == NULL) return false;
    m->flags = f[0];
    m->timeout_ms = velum__get32(f + 1);
    m->fuel = velum__get64(f + 5);
    m->pages = velum__get32(f + 13);
    memcpy(m->hash, f + 17, VELUM_HASH_BYTES);
    return velum__get_text8(r, &m->name) &&
           velum__get_values(r, m->args, VELUM_ARGS_MAX, &m->nargs) &&
           work_ok(m->flags, flags, m->name);
}

int velum_wire_put_task(uint8_t *buf, size_t cap, uint64_t correlation, const velum_task *m) {
    size_t length = velum__wire_task_size(m, VELUM_TASK_PLACED);
    uint8_t *p;
    if (length == 0) return VELUM_E_ARGUMENT;
    p = velum__wire_begin(buf, cap, VELUM_F_TASK, length, correlation);
    if (p == NULL) return VELUM_E_FULL;
    velum__wire_pack_task(p, m);
    return velum__whole(length);
}

int velum_wire_get_task(const uint8_t *p, size_t n, velum_task *m) {
    velum__reader r = {p, n};
    if (!velum__wire_unpack_task(&r, m, VELUM_TASK_PLACED)) return VELUM_E_PAYLOAD;
    return r.left == 0 ? (int)n : VELUM_E_PAYLOAD;
}

int velum_wire_put_result(uint8_t *buf, size_t cap, uint64_t correlation, const velum_result *m) {
    size_t values = velum__values_size(m->values, m->nvalues);
    size_t length = RESULT_FIXED + values;
    uint8_t *p;
    if (values == 0 || !velum__wire_health_ok(&m->health)) return VELUM_E_ARGUMENT;
    p = velum__wire_begin(buf, cap, VELUM_F_RESULT, length, correlation);
    if (p == NULL) return VELUM_E_FULL;
    p = velum__put16(p, m->node);
    p = velum__put32(p, m->run_us);
    velum__put_values(velum__wire_pack_health(p, &m->health), m->values, m->nvalues);
    return velum__whole(length);
}

int velum_wire_get_result(const uint8_t *p, size_t n, velum_result *m) {
    velum__reader r = {p, n};
    const uint8_t *f = velum__take(&r, RESULT_FIXED);
    if (f == NULL) return VELUM_E_PAYLOAD;
    m->node = velum__get16(f);
    m->run_us = velum__get32(f + 2);
    if (velum_wire_get_health(f + 6, VELUM_HEALTH_BYTES, &m->health) < 0) return VELUM_E_PAYLOAD;
    if (!velum__get_values(&r, m->values, VELUM_ARGS_MAX, &m->nvalues) || r.left != 0)
        return VELUM_E_PAYLOAD;
    return (int)n;
}

static bool error_ok(const velum_error *m) {
    return m->code != 0 && velum__text_ok(m->text, VELUM_TEXT_BYTES_MAX);
}

int velum_wire_put_error(uint8_t *buf, size_t cap, uint64_t correlation, const velum_error *m) {
    size_t length = ERROR_FIXED + 2 + m->text.size;
    uint8_t *p;
    if (!error_ok(m)) return VELUM_E_ARGUMENT;
    p = velum__wire_begin(buf, cap, VELUM_F_ERROR, length, correlation);
    if (p == NULL) return VELUM_E_FULL;
    p = velum__put16(p, m->code);
    p = velum__put16(p, m->node);
    velum__put_text16(velum__put8(p, m->deaths), m->text);
    return velum__whole(length);
}

int velum_wire_get_error(const uint8_t *p, size_t n, velum_error *m) {
    velum__reader r = {p, n};
    const uint8_t *f = velum__take(&r, ERROR_FIXED);
    if (f == NULL || !velum__get_text16(&r, &m->text) || r.left != 0) return VELUM_E_PAYLOAD;
    m->code = velum__get16(f);
    m->node = velum__get16(f + 2);
    m->deaths = f[4];
    return error_ok(m) ? (int)n : VELUM_E_PAYLOAD;
}

int velum_wire_put_progress(uint8_t *buf, size_t cap, uint64_t correlation,
                            const velum_progress *m) {
    uint8_t *p = velum__wire_begin(buf, cap, VELUM_F_PROGRESS, 16, correlation);
    if (p == NULL) return VELUM_E_FULL;
    velum__put64(velum__put64(p, m->done), m->total);
    return velum__whole(16);
}

int velum_wire_get_progress(const uint8_t *p, size_t n, velum_progress *m) {
    if (n != 16) return VELUM_E_PAYLOAD;
    m->done = velum__get64(p);
    m->total = velum__get64(p + 8);
    return (int)n;
}

static bool cancel_ok(uint16_t code) {
    return code == -VELUM_E_CANCELLED || code == -VELUM_E_DEADLINE;
}

int velum_wire_put_cancel(uint8_t *buf, size_t cap, uint64_t correlation, uint16_t code) {
    uint8_t *p;
    if (!cancel_ok(code)) return VELUM_E_ARGUMENT;
    p = velum__wire_begin(buf, cap, VELUM_F_CANCEL, 2, correlation);
    if (p == NULL) return VELUM_E_FULL;
    velum__put16(p, code);
    return velum__whole(2);
}

int velum_wire_get_cancel(const uint8_t *p, size_t n, uint16_t *code) {
    if (n != 2) return VELUM_E_PAYLOAD;
    *code = velum__get16(p);
    return cancel_ok(*code) ? (int)n : VELUM_E_PAYLOAD;
}

/* ---- modules: MODULE_WANT, MODULE ---- */

/* Where a part may begin. */
static bool part_offset_ok(uint32_t offset) {
    return offset < VELUM_MODULE_BYTES_MAX && offset % VELUM_MODULE_PART_BYTES == 0;
}

int velum_wire_put_module_want(uint8_t *buf, size_t cap, uint64_t correlation,
                               const velum_module_want *m) {
    uint8_t *p;
    if (!part_offset_ok(m->offset)) return VELUM_E_ARGUMENT;
    p = velum__wire_begin(buf, cap, VELUM_F_MODULE_WANT, WANT_BYTES, correlation);
    if (p == NULL) return VELUM_E_FULL;
    velum__put32(velum__put_bytes(p, m->hash, VELUM_HASH_BYTES), m->offset);
    return velum__whole(WANT_BYTES);
}

int velum_wire_get_module_want(const uint8_t *p, size_t n, velum_module_want *m) {
    if (n != WANT_BYTES) return VELUM_E_PAYLOAD;
    memcpy(m->hash, p, VELUM_HASH_BYTES);
    m->offset = velum__get32(p + VELUM_HASH_BYTES);
    return part_offset_ok(m->offset) ? (int)n : VELUM_E_PAYLOAD;
}

/* A part lies inside its module and is as long as parts are, or reaches the module's end. */
static bool part_ok(const velum_module_part *m) {
    uint32_t rest;
    if (m->total > VELUM_MODULE_BYTES_MAX || m->offset >= m->total) return false;
    if (!part_offset_ok(m->offset)) return false;
    rest = m->total - m->offset;
    return m->size == (rest < VELUM_MODULE_PART_BYTES ? rest : VELUM_MODULE_PART_BYTES);
}

int velum_wire_put_module_head(uint8_t *buf, size_t cap, uint64_t correlation,
                               const velum_module_part *m) {
    if (!part_ok(m)) return VELUM_E_ARGUMENT;
    if (cap < VELUM_HEADER_BYTES + VELUM_MODULE_HEAD_BYTES) return VELUM_E_FULL;
    velum_wire_put_header(buf, VELUM_F_MODULE, VELUM_MODULE_HEAD_BYTES + m->size, correlation);
    buf = velum__put_bytes(buf + VELUM_HEADER_BYTES, m->hash, VELUM_HASH_BYTES);
    velum__put32(velum__put32(buf, m->total), m->offset);
    return velum__whole(VELUM_MODULE_HEAD_BYTES);
}

int velum_wire_get_module_head(const uint8_t *p, size_t n, uint32_t length, velum_module_part *m) {
    if (length < VELUM_MODULE_HEAD_BYTES) return VELUM_E_PAYLOAD;
    if (n < VELUM_MODULE_HEAD_BYTES) return 0;
    memcpy(m->hash, p, VELUM_HASH_BYTES);
    m->total = velum__get32(p + VELUM_HASH_BYTES);
    m->offset = velum__get32(p + VELUM_HASH_BYTES + 4);
    m->size = length - VELUM_MODULE_HEAD_BYTES;
    return part_ok(m) ? (int)VELUM_MODULE_HEAD_BYTES : VELUM_E_PAYLOAD;
}

/* ---- QUERY ---- */

int velum_wire_put_query(uint8_t *buf, size_t cap, uint64_t correlation, velum_text topic) {
    uint8_t *p;
    if (!velum__text_ok(topic, VELUM_NAME_BYTES_MAX)) return VELUM_E_ARGUMENT;
    p = velum__wire_begin(buf, cap, VELUM_F_QUERY, 1u + topic.size, correlation);
    if (p == NULL) return VELUM_E_FULL;
    velum__put_text8(p, topic);
    return velum__whole(1u + topic.size);
}

int velum_wire_get_query(const uint8_t *p, size_t n, velum_text *topic) {
    velum__reader r = {p, n};
    if (!velum__get_text8(&r, topic) || r.left != 0) return VELUM_E_PAYLOAD;
    return velum__text_ok(*topic, VELUM_NAME_BYTES_MAX) ? (int)n : VELUM_E_PAYLOAD;
}
