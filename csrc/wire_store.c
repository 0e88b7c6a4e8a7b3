/* wire_store.c: what is said of chunks: held, sent, wanted, offered, claimed, released.
 *
 * Owns: the layout of frames 0x40 to 0x48 (wire_store.h) as code. Refuses to know: names
 * (wire_names.c), which bytes a key stands for, who holds what.
 * How: as wire.c. Four messages are nothing but a list of pieces of one length, so one writer and
 * one reader serve them.
 */
#include "wire_parts.h"

#define HOLD_FIXED    (VELUM_KEY_BYTES + 5u)
#define CLAIM_FIXED   (VELUM_DIGEST_BYTES + VELUM_VERSION_BYTES + 3u)
#define HELD_BYTES    9u
#define RELEASE_BYTES (1u + VELUM_DIGEST_BYTES + VELUM_VERSION_BYTES)

/* wire.h names these limits by numbers, and a port may have changed some: they must fit. */
VELUM__STATIC_CHECK(hold_fits,
                    HOLD_FIXED + VELUM_CLAIMS_PER_HOLD_MAX *
                                     (CLAIM_FIXED + VELUM_SHARDS_MAX * VELUM_KEY_BYTES) <=
                        64u * 1024u);
VELUM__STATIC_CHECK(offer_fits, VELUM_OFFER_KEYS_MAX == 1024u);
VELUM__STATIC_CHECK(claims_fit, VELUM_CLAIMS_MAX == 1024u && VELUM_CLAIM_NAME_BYTES == 44u);
VELUM__STATIC_CHECK(chunk_is_32_bits,
                    VELUM_CHUNK_BYTES_MAX <= UINT32_MAX &&
                        VELUM_CHUNK_PART_BYTES <= UINT32_MAX - VELUM_CHUNK_HEAD_BYTES);

/* ---- what several messages have ---- */

bool velum__wire_coding_ok(uint8_t k, uint8_t m) {
    if (m == 0) return k >= 1 && k <= VELUM_COPIES_MAX;
    return k >= 1 && k + m <= (int)VELUM_SHARDS_MAX;
}

uint8_t *velum__put_version(uint8_t *p, velum_version version) {
    return velum__put32(velum__put64(p, version.stamp), version.origin);
}

velum_version velum__get_version(const uint8_t *p) {
    velum_version version = {velum__get64(p), velum__get32(p + 8)};
    return version;
}

/* A list of pieces, `size` bytes each; `most` is the greatest byte of a list of states, whose least
 * is 1, and 0 of other lists. */
typedef struct {
    uint8_t type;
    uint8_t most;
    uint16_t max;
    size_t size;
} list_kind;

static const list_kind offer = {VELUM_F_OFFER, 0, VELUM_OFFER_KEYS_MAX, VELUM_KEY_BYTES};
static const list_kind offered = {VELUM_F_OFFERED, VELUM_OFFERED_SPARE, VELUM_OFFER_KEYS_MAX, 1};
static const list_kind claims_list = {VELUM_F_CLAIMS, 0, VELUM_CLAIMS_MAX, VELUM_CLAIM_NAME_BYTES};
static const list_kind claimed = {VELUM_F_CLAIMED, VELUM_CLAIM_PENDING, VELUM_CLAIMS_MAX, 1};

static bool list_ok(const list_kind *kind, const uint8_t *pieces, size_t count) {
    if (count == 0 || count > kind->max || pieces == NULL) return false;
    for (size_t i = 0; kind->most != 0 && i < count; i++)
        if (pieces[i] == 0 || pieces[i] > kind->most) return false;
    return true;
}

static int put_list(uint8_t *buf, size_t cap, uint64_t correlation, const list_kind *kind,
                    const uint8_t *pieces, size_t count) {
    size_t length;
    uint8_t *p;
    if (!list_ok(kind, pieces, count)) return VELUM_E_ARGUMENT;
    length = 2 + count * kind->size;
    p = velum__wire_begin(buf, cap, kind->type, length, correlation);
    if (p == NULL) return VELUM_E_FULL;
    velum__put_bytes(velum__put16(p, (uint16_t)count), pieces, count * kind->size);
    return velum__whole(length);
}

static int get_list(const uint8_t *p, size_t n, const list_kind *kind, const uint8_t **pieces,
                    size_t *count) {
    if (n < 2) return VELUM_E_PAYLOAD;
    *count = velum__get16(p);
    *pieces = p + 2;
    if (n != 2 + *count * kind->size) return VELUM_E_PAYLOAD;
    return list_ok(kind, *pieces, *count) ? (int)n : VELUM_E_PAYLOAD;
}

/* ---- HOLD, HELD ---- */

static size_t claim_keys(const velum_claim *m) {
    return m->m == 0 ? 0 : (size_t)m->k + m->m;
}

/* The claim of a shard names the chunk that is held, at the shard's place. */
static bool claim_ok(const velum_claim *m, const uint8_t *key) {
    if (!velum__wire_coding_ok(m->k, m->m)) return false;
    if (m->m == 0) return m->shard == 0;
    return m->shard < claim_keys(m) && m->keys != NULL &&
           memcmp(m->keys + (size_t)m->shard * VELUM_KEY_BYTES, key, VELUM_KEY_BYTES) == 0;
}

static bool chunk_size_ok(uint32_t size) {
    return size >= 1 && size <= VELUM_CHUNK_BYTES_MAX;
}

static bool hold_ok(const velum_hold *m) {
    if (!chunk_size_ok(m->size) || m->count == 0 || m->count > VELUM_CLAIMS_PER_HOLD_MAX)
        return false;
    if ((m->flags & ~VELUM_HOLD_REPAIR) != 0) return false;
    for (uint8_t i = 0; i < m->count; i++)
        if (!claim_ok(&m->claims[i], m->key)) return false;
    return true;
}

int velum_wire_put_hold(uint8_t *buf, size_t cap, uint64_t correlation, const velum_hold *m) {
    size_t length = HOLD_FIXED + 1;
    uint8_t *p;
    if (!hold_ok(m)) return VELUM_E_ARGUMENT;
    for (uint8_t i = 0; i < m->count; i++)
        length += CLAIM_FIXED + claim_keys(&m->claims[i]) * VELUM_KEY_BYTES;
    p = velum__wire_begin(buf, cap, VELUM_F_HOLD, length, correlation);
    if (p == NULL) return VELUM_E_FULL;
    p = velum__put_bytes(p, m->key, VELUM_KEY_BYTES);
    p = velum__put8(velum__put32(p, m->size), m->count);
    for (uint8_t i = 0; i < m->count; i++) {
        const velum_claim *claim = &m->claims[i];
        p = velum__put_bytes(p, claim->digest, VELUM_DIGEST_BYTES);
        p = velum__put_version(p, claim->version);
        p = velum__put8(velum__put8(velum__put8(p, claim->k), claim->m), claim->shard);
        p = velum__put_bytes(p, claim->keys, claim_keys(claim) * VELUM_KEY_BYTES);
    }
    velum__put8(p, m->flags);
    return velum__whole(length);
}

static bool get_claim(velum__reader *r, velum_claim *m) {
    const uint8_t *f = velum__take(r, CLAIM_FIXED);
    if (f == NULL) return false;
    memcpy(m->digest, f, VELUM_DIGEST_BYTES);
    f += VELUM_DIGEST_BYTES;
    m->version = velum__get_version(f);
    m->k = f[VELUM_VERSION_BYTES];
    m->m = f[VELUM_VERSION_BYTES + 1];
    m->shard = f[VELUM_VERSION_BYTES + 2];
    m->keys = NULL;
    if (m->m == 0) return true;
    m->keys = velum__take(r, claim_keys(m) * VELUM_KEY_BYTES);
    return m->keys != NULL;
}

int velum_wire_get_hold(const uint8_t *p, size_t n, velum_hold *m) {
    velum__reader r = {p, n};
    const uint8_t *f = velum__take(&r, HOLD_FIXED);
    if (f == NULL) return VELUM_E_PAYLOAD;
    memcpy(m->key, f, VELUM_KEY_BYTES);
    m->size = velum__get32(f + VELUM_KEY_BYTES);
    m->count = f[VELUM_KEY_BYTES + 4];
    if (m->count > VELUM_CLAIMS_PER_HOLD_MAX) return VELUM_E_PAYLOAD;
    for (uint8_t i = 0; i < m->count; i++)
        if (!get_claim(&r, &m->claims[i])) return VELUM_E_PAYLOAD;
    f = velum__take(&r, 1);
    if (f == NULL) return VELUM_E_PAYLOAD;
    m->flags = f[0];
    return r.left == 0 && hold_ok(m) ? (int)n : VELUM_E_PAYLOAD;
}

static bool held_ok(const velum_held *m) {
    return m->state >= VELUM_HELD_SEND && m->state <= VELUM_HELD_BAD;
}

int velum_wire_put_held(uint8_t *buf, size_t cap, uint64_t correlation, const velum_held *m) {
    uint8_t *p;
    if (!held_ok(m)) return VELUM_E_ARGUMENT;
    p = velum__wire_begin(buf, cap, VELUM_F_HELD, HELD_BYTES, correlation);
    if (p == NULL) return VELUM_E_FULL;
    velum__put64(velum__put8(p, m->state), m->free_bytes);
    return velum__whole(HELD_BYTES);
}

int velum_wire_get_held(const uint8_t *p, size_t n, velum_held *m) {
    if (n != HELD_BYTES) return VELUM_E_PAYLOAD;
    m->state = p[0];
    m->free_bytes = velum__get64(p + 1);
    return held_ok(m) ? (int)n : VELUM_E_PAYLOAD;
}

/* ---- CHUNK, WANT ---- */

static bool part_ok(const velum_chunk_part *m) {
    return chunk_size_ok(m->total) && m->offset < m->total && m->size >= 1 &&
           m->size <= VELUM_CHUNK_PART_BYTES && m->size <= m->total - m->offset;
}

int velum_wire_put_chunk_head(uint8_t *buf, size_t cap, uint64_t correlation,
                              const velum_chunk_part *m) {
    if (!part_ok(m)) return VELUM_E_ARGUMENT;
    if (cap < VELUM_HEADER_BYTES + VELUM_CHUNK_HEAD_BYTES) return VELUM_E_FULL;
    velum_wire_put_header(buf, VELUM_F_CHUNK, VELUM_CHUNK_HEAD_BYTES + m->size, correlation);
    buf = velum__put_bytes(buf + VELUM_HEADER_BYTES, m->key, VELUM_KEY_BYTES);
    velum__put32(velum__put32(buf, m->total), m->offset);
    return velum__whole(VELUM_CHUNK_HEAD_BYTES);
}

int velum_wire_get_chunk_head(const uint8_t *p, size_t n, uint32_t length, velum_chunk_part *m) {
    if (length < VELUM_CHUNK_HEAD_BYTES) return VELUM_E_PAYLOAD;
    if (n < VELUM_CHUNK_HEAD_BYTES) return 0;
    memcpy(m->key, p, VELUM_KEY_BYTES);
    m->total = velum__get32(p + VELUM_KEY_BYTES);
    m->offset = velum__get32(p + VELUM_KEY_BYTES + 4);
    m->size = length - VELUM_CHUNK_HEAD_BYTES;
    return part_ok(m) ? (int)VELUM_CHUNK_HEAD_BYTES : VELUM_E_PAYLOAD;
}

int velum_wire_put_want(uint8_t *buf, size_t cap, uint64_t correlation,
                        const uint8_t key[VELUM_KEY_BYTES]) {
    uint8_t *p = velum__wire_begin(buf, cap, VELUM_F_WANT, VELUM_KEY_BYTES, correlation);
    if (p == NULL) return VELUM_E_FULL;
    velum__put_bytes(p, key, VELUM_KEY_BYTES);
    return velum__whole(VELUM_KEY_BYTES);
}

int velum_wire_get_want(const uint8_t *p, size_t n, uint8_t key[VELUM_KEY_BYTES]) {
    if (n != VELUM_KEY_BYTES) return VELUM_E_PAYLOAD;
    memcpy(key, p, VELUM_KEY_BYTES);
    return (int)n;
}

/* ---- RELEASE ---- */

static bool release_ok(const velum_release *m) {
    return m->how == VELUM_RELEASE_THIS || m->how == VELUM_RELEASE_BEFORE;
}

int velum_wire_put_release(uint8_t *buf, size_t cap, uint64_t correlation, const velum_release *m) {
    uint8_t *p;
    if (!release_ok(m)) return VELUM_E_ARGUMENT;
    p = velum__wire_begin(buf, cap, VELUM_F_RELEASE, RELEASE_BYTES, correlation);
    if (p == NULL) return VELUM_E_FULL;
    p = velum__put_bytes(velum__put8(p, m->how), m->digest, VELUM_DIGEST_BYTES);
    velum__put_version(p, m->version);
    return velum__whole(RELEASE_BYTES);
}

int velum_wire_get_release(const uint8_t *p, size_t n, velum_release *m) {
    if (n != RELEASE_BYTES) return VELUM_E_PAYLOAD;
    m->how = p[0];
    memcpy(m->digest, p + 1, VELUM_DIGEST_BYTES);
    m->version = velum__get_version(p + 1 + VELUM_DIGEST_BYTES);
    return release_ok(m) ? (int)n : VELUM_E_PAYLOAD;
}

/* ---- OFFER, OFFERED, CLAIMS, CLAIMED ---- */

int velum_wire_put_offer(uint8_t *buf, size_t cap, uint64_t correlation, const uint8_t *keys,
                         size_t count) {
    return put_list(buf, cap, correlation, &offer, keys, count);
}

int velum_wire_get_offer(const uint8_t *p, size_t n, const uint8_t **keys, size_t *count) {
    return get_list(p, n, &offer, keys, count);
}

int velum_wire_put_offered(uint8_t *buf, size_t cap, uint64_t correlation, const uint8_t *states,
                           size_t count) {
    return put_list(buf, cap, correlation, &offered, states, count);
}

int velum_wire_get_offered(const uint8_t *p, size_t n, const uint8_t **states, size_t *count) {
    return get_list(p, n, &offered, states, count);
}

int velum_wire_put_claims(uint8_t *buf, size_t cap, uint64_t correlation, const uint8_t *claims,
                          size_t count) {
    return put_list(buf, cap, correlation, &claims_list, claims, count);
}

int velum_wire_get_claims(const uint8_t *p, size_t n, const uint8_t **claims, size_t *count) {
    return get_list(p, n, &claims_list, claims, count);
}

int velum_wire_put_claimed(uint8_t *buf, size_t cap, uint64_t correlation, const uint8_t *states,
                           size_t count) {
    return put_list(buf, cap, correlation, &claimed, states, count);
}

int velum_wire_get_claimed(const uint8_t *p, size_t n, const uint8_t **states, size_t *count) {
    return get_list(p, n, &claimed, states, count);
}
