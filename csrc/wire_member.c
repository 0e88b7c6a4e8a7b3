/* wire_member.c: what is said of members: records, health, full-state exchange, datagrams.
 *
 * Owns: their layout (wire.h) as code. Refuses to know: what makes a member suspect or dead.
 * How: the datagrams are made of the same few fields, always in the same order, so a table says
 * which of them each type has, and one writer and one reader serve all six.
 */
#include "wire_parts.h"

#define RECORD_BYTES (VELUM_MEMBER_BYTES + VELUM_HEALTH_BYTES)
#define SYNC_MAX     ((VELUM_FRAME_BYTES_MAX - 2u) / RECORD_BYTES)

/* The longest datagram is a PROBE: header, sender, target, suspected, health and updates. */
VELUM__STATIC_CHECK(datagram_fits, VELUM_HEADER_BYTES + 2u + 2u + 8u + VELUM_HEALTH_BYTES + 1u +
                                           VELUM_UPDATES_MAX * VELUM_MEMBER_BYTES <=
                                       VELUM_DATAGRAM_BYTES_MAX);
VELUM__STATIC_CHECK(sync_count_is_16_bits, SYNC_MAX <= UINT16_MAX);

static bool member_role_ok(uint8_t role) {
    return role == VELUM_ROLE_NODE || role == VELUM_ROLE_LEAF;
}

/* ---- health ---- */

bool velum__wire_health_ok(const velum_health *m) {
    return m->cpu <= 100 && m->cores > 0 && (m->flags & ~VELUM_HEALTH_LEAVING) == 0 &&
           m->ram_free_mib <= m->ram_mib;
}

uint8_t *velum__wire_pack_health(uint8_t *p, const velum_health *m) {
    p = velum__put8(p, m->cpu);
    p = velum__put8(p, m->slots);
    p = velum__put8(p, m->cores);
    p = velum__put8(p, m->flags);
    p = velum__put16(p, m->queue);
    p = velum__put16(p, m->running);
    p = velum__put32(p, m->free_mib);
    p = velum__put32(p, m->speed);
    p = velum__put32(p, m->ram_mib);
    return velum__put32(p, m->ram_free_mib);
}

int velum_wire_put_health(uint8_t *buf, size_t cap, const velum_health *m) {
    uint8_t *p;
    if (!velum__wire_health_ok(m)) return VELUM_E_ARGUMENT;
    p = velum__wire_begin(buf, cap, VELUM_F_HEALTH, VELUM_HEALTH_BYTES, 0);
    if (p == NULL) return VELUM_E_FULL;
    velum__wire_pack_health(p, m);
    return velum__whole(VELUM_HEALTH_BYTES);
}

int velum_wire_get_health(const uint8_t *p, size_t n, velum_health *m) {
    if (n != VELUM_HEALTH_BYTES) return VELUM_E_PAYLOAD;
    m->cpu = p[0];
    m->slots = p[1];
    m->cores = p[2];
    m->flags = p[3];
    m->queue = velum__get16(p + 4);
    m->running = velum__get16(p + 6);
    m->free_mib = velum__get32(p + 8);
    m->speed = velum__get32(p + 12);
    m->ram_mib = velum__get32(p + 16);
    m->ram_free_mib = velum__get32(p + 20);
    return velum__wire_health_ok(m) ? (int)n : VELUM_E_PAYLOAD;
}

/* ---- member records ---- */

static bool member_ok(const velum_member *m) {
    return m->id != VELUM_ID_NONE && m->state >= VELUM_MEMBER_ALIVE &&
           m->state <= VELUM_MEMBER_LEFT && member_role_ok(m->role);
}

static uint8_t *pack_addr(uint8_t *p, velum_addr addr) {
    return velum__put16(velum__put32(p, addr.ip), addr.port);
}

static velum_addr unpack_addr(const uint8_t *p) {
    velum_addr addr = {velum__get32(p), velum__get16(p + 4)};
    return addr;
}

static uint8_t *pack_member(uint8_t *p, const velum_member *m) {
    p = velum__put16(p, m->id);
    p = velum__put8(p, m->state);
    p = velum__put8(p, m->role);
    p = velum__put64(p, m->incarnation);
    return velum__put16(pack_addr(p, m->addr), m->from);
}

/* From 20 bytes that are there; false if a field is out of its range. */
static bool unpack_member(const uint8_t *p, velum_member *m) {
    m->id = velum__get16(p);
    m->state = p[2];
    m->role = p[3];
    m->incarnation = velum__get64(p + 4);
    m->addr = unpack_addr(p + 12);
    m->from = velum__get16(p + 18);
    return member_ok(m);
}

/* ---- SYNC, SYNC_REPLY ---- */

int velum_wire_put_sync(uint8_t *buf, size_t cap, uint8_t type, uint64_t correlation,
                        const velum_member *members, const velum_health *healths, size_t count) {
    size_t length;
    uint8_t *p;
    if (type != VELUM_F_SYNC && type != VELUM_F_SYNC_REPLY) return VELUM_E_ARGUMENT;
    if (count == 0 || count > SYNC_MAX) return VELUM_E_ARGUMENT;
    for (size_t i = 0; i < count; i++)
        if (!member_ok(&members[i]) || !velum__wire_health_ok(&healths[i])) return VELUM_E_ARGUMENT;
    length = 2 + count * RECORD_BYTES;
    p = velum__wire_begin(buf, cap, type, length, correlation);
    if (p == NULL) return VELUM_E_FULL;
    p = velum__put16(p, (uint16_t)count);
    for (size_t i = 0; i < count; i++)
        p = velum__wire_pack_health(pack_member(p, &members[i]), &healths[i]);
    return velum__whole(length);
}

int velum_wire_get_sync(const uint8_t *p, size_t n, size_t *count) {
    if (n < 2) return VELUM_E_PAYLOAD;
    *count = velum__get16(p);
    return *count > 0 && n == 2 + *count * RECORD_BYTES ? (int)n : VELUM_E_PAYLOAD;
}

int velum_wire_get_sync_at(const uint8_t *p, size_t n, size_t index, velum_member *m,
                           velum_health *h) {
    size_t count;
    if (velum_wire_get_sync(p, n, &count) < 0) return VELUM_E_PAYLOAD;
    if (index >= count) return VELUM_E_ARGUMENT;
    p += 2 + index * RECORD_BYTES;
    if (!unpack_member(p, m)) return VELUM_E_PAYLOAD;
    if (velum_wire_get_health(p + VELUM_MEMBER_BYTES, VELUM_HEALTH_BYTES, h) < 0)
        return VELUM_E_PAYLOAD;
    return (int)RECORD_BYTES;
}

/* ---- datagrams ---- */

/* The parts a datagram can have, in the order in which they stand in it; `sender` opens all. */
enum {
    HAS_TARGET = 1,      /* u16 */
    HAS_ROLE = 2,        /* u8, then the flags u8 */
    HAS_ADDR = 4,        /* ip u32, port u16 */
    HAS_INCARNATION = 8, /* u64 */
    HAS_HEALTH = 16,     /* 24 bytes */
    HAS_UPDATES = 32     /* count u8, then so many members */
};

static const uint8_t datagram_parts[] = {
    [VELUM_F_PROBE - VELUM_F_PROBE] = HAS_TARGET | HAS_INCARNATION | HAS_HEALTH | HAS_UPDATES,
    [VELUM_F_ACK - VELUM_F_PROBE] = HAS_TARGET | HAS_INCARNATION | HAS_HEALTH | HAS_UPDATES,
    [VELUM_F_PROBE_REQUEST - VELUM_F_PROBE] = HAS_TARGET | HAS_ADDR | HAS_UPDATES,
    [VELUM_F_NACK - VELUM_F_PROBE] = HAS_TARGET,
    [VELUM_F_GOSSIP - VELUM_F_PROBE] = HAS_UPDATES,
    [VELUM_F_BEACON - VELUM_F_PROBE] = HAS_ROLE | HAS_ADDR | HAS_INCARNATION};

/* 0 for a type that is no datagram. */
static unsigned parts_of(uint8_t type) {
    if (type < VELUM_F_PROBE || type > VELUM_F_BEACON) return 0;
    return datagram_parts[type - VELUM_F_PROBE];
}

/* Ranges of everything before the updates. A client, which has no id, may send only a BEACON. */
static bool datagram_ok(const velum_datagram *m, unsigned parts) {
    bool client = (parts & HAS_ROLE) != 0 && m->role == VELUM_ROLE_CLIENT;
    if (client != (m->sender == VELUM_ID_NONE)) return false;
    if ((parts & HAS_ROLE) != 0 && !client && !member_role_ok(m->role)) return false;
    if ((parts & HAS_ROLE) != 0 && (m->flags & ~VELUM_BEACON_ASK) != 0) return false;
    if ((parts & HAS_TARGET) != 0 && m->target == VELUM_ID_NONE) return false;
    return (parts & HAS_HEALTH) == 0 || velum__wire_health_ok(&m->health);
}

static bool updates_ok(const velum_datagram *m) {
    if (m->nupdates > VELUM_UPDATES_MAX) return false;
    for (size_t i = 0; i < m->nupdates; i++)
        if (!member_ok(&m->updates[i])) return false;
    return true;
}

/* Bytes of the payload before the updates. */
static size_t fixed_bytes(unsigned parts) {
    return 2u + ((parts & HAS_TARGET) != 0 ? 2u : 0u) + ((parts & HAS_ROLE) != 0 ? 2u : 0u) +
           ((parts & HAS_ADDR) != 0 ? 6u : 0u) + ((parts & HAS_INCARNATION) != 0 ? 8u : 0u) +
           ((parts & HAS_HEALTH) != 0 ? VELUM_HEALTH_BYTES : 0u);
}

int velum_wire_put_datagram(uint8_t *buf, size_t cap, const velum_datagram *m) {
    unsigned parts = parts_of(m->type);
    size_t length = fixed_bytes(parts);
    uint8_t *p;
    if (parts == 0 || !datagram_ok(m, parts)) return VELUM_E_ARGUMENT;
    if ((parts & HAS_UPDATES) != 0) {
        if (!updates_ok(m)) return VELUM_E_ARGUMENT;
        length += 1u + m->nupdates * VELUM_MEMBER_BYTES;
    }
    p = velum__wire_begin(buf, cap, m->type, length, m->sequence);
    if (p == NULL) return VELUM_E_FULL;
    p = velum__put16(p, m->sender);
    if ((parts & HAS_TARGET) != 0) p = velum__put16(p, m->target);
    if ((parts & HAS_ROLE) != 0) p = velum__put8(velum__put8(p, m->role), m->flags);
    if ((parts & HAS_ADDR) != 0) p = pack_addr(p, m->addr);
    if ((parts & HAS_INCARNATION) != 0) p = velum__put64(p, m->incarnation);
    if ((parts & HAS_HEALTH) != 0) p = velum__wire_pack_health(p, &m->health);
    if ((parts & HAS_UPDATES) != 0) {
        p = velum__put8(p, m->nupdates);
        for (size_t i = 0; i < m->nupdates; i++)
            p = pack_member(p, &m->updates[i]);
    }
    return velum__whole(length);
}

/* Reads the parts before the updates from bytes that are there. */
static bool get_fixed(const uint8_t *p, unsigned parts, velum_datagram *m) {
    m->sender = velum__get16(p);
    p += 2;
    if ((parts & HAS_TARGET) != 0) {
        m->target = velum__get16(p);
        p += 2;
    }
    if ((parts & HAS_ROLE) != 0) {
        m->role = p[0];
        m->flags = p[1];
        p += 2;
    }
    if ((parts & HAS_ADDR) != 0) {
        m->addr = unpack_addr(p);
        p += 6;
    }
    if ((parts & HAS_INCARNATION) != 0) {
        m->incarnation = velum__get64(p);
        p += 8;
    }
    if ((parts & HAS_HEALTH) != 0) velum_wire_get_health(p, VELUM_HEALTH_BYTES, &m->health);
    return datagram_ok(m, parts);
}

static bool get_updates(velum__reader *r, velum_datagram *m) {
    const uint8_t *p = velum__take(r, 1);
    if (p == NULL || *p > VELUM_UPDATES_MAX) return false;
    m->nupdates = *p;
    for (size_t i = 0; i < m->nupdates; i++) {
        p = velum__take(r, VELUM_MEMBER_BYTES);
        if (p == NULL || !unpack_member(p, &m->updates[i])) return false;
    }
    return true;
}

int velum_wire_get_datagram(const uint8_t *buf, size_t n, velum_datagram *m) {
    velum_header header;
    velum__reader r = {buf, n};
    const uint8_t *p;
    unsigned parts;
    int got = velum_wire_header(buf, n, &header);
    if (got < 0) return got;
    if (velum__take(&r, VELUM_HEADER_BYTES) == NULL || header.length != r.left)
        return VELUM_E_PAYLOAD;
    parts = parts_of(header.type);
    if (parts == 0) return VELUM_E_FRAME_TYPE;
    memset(m, 0, offsetof(velum_datagram, updates));
    m->type = header.type;
    m->sequence = header.correlation;
    p = velum__take(&r, fixed_bytes(parts));
    if (p == NULL || !get_fixed(p, parts, m)) return VELUM_E_PAYLOAD;
    if ((parts & HAS_UPDATES) != 0 && !get_updates(&r, m)) return VELUM_E_PAYLOAD;
    return r.left == 0 ? (int)n : VELUM_E_PAYLOAD;
}
