/* wire_names.c: what is said of names: entries, versions, pages of names, and how keepers compare.
 *
 * Owns: the layout of frames 0x50 to 0x57 (wire_store.h) as code. Refuses to know: chunks
 * (wire_store.c), which of two entries is the greater, who keeps what.
 * How: as wire.c. What is of any length (a manifest, the rows of a page, the items of a listing) is
 * checked whole by the get and stays raw in the caller's buffer.
 */
#include "wire_parts.h"

/* What stands before the first text or list of a message. */
#define ROW_FIXED     (VELUM_VERSION_BYTES + 14u)
#define PAGE_FIXED    3u
#define LISTING_FIXED (4u + 1u + 2u * VELUM_DIGEST_BYTES + 2u)
#define SUM_BYTES     12u
#define ASK_BYTES     (1u + VELUM_DIGEST_BYTES)
#define VERSION_BYTES (2u + VELUM_VERSION_BYTES)

/* A port may have changed limits: they must still fit each other, and the numbers in wire.h. */
VELUM__STATIC_CHECK(name_is_text16, VELUM_FILE_NAME_BYTES_MAX <= UINT16_MAX);
VELUM__STATIC_CHECK(entry_fits, VELUM_ENTRY_HEAD_BYTES + 1u + 2u * VELUM_AWAITED_MAX + 2u +
                                        VELUM_FILE_NAME_BYTES_MAX + VELUM_ENTRY_BODY_BYTES_MAX <=
                                    VELUM_FRAME_BYTES_MAX);
VELUM__STATIC_CHECK(manifest_fits,
                    VELUM_MANIFEST_HEAD_BYTES + VELUM_MANIFEST_KEYS_MAX * VELUM_KEY_BYTES <=
                        VELUM_ENTRY_BODY_BYTES_MAX);
VELUM__STATIC_CHECK(inline_fits, VELUM_INLINE_BYTES_MAX <= VELUM_ENTRY_BODY_BYTES_MAX);
VELUM__STATIC_CHECK(page_fits, PAGE_FIXED + VELUM_NAMES_PAGE_MAX *
                                                (ROW_FIXED + 2u + VELUM_FILE_NAME_BYTES_MAX) <=
                                   VELUM_FRAME_BYTES_MAX);
VELUM__STATIC_CHECK(listing_fits, VELUM_LISTING_MAX == 512u && VELUM_NAME_ITEM_BYTES == 52u);

static bool name_ok(velum_text name) {
    return name.size > 0 && velum__text_ok(name, VELUM_FILE_NAME_BYTES_MAX);
}

/* The size that a file of some kind may have. */
static bool size_ok(uint8_t kind, uint64_t size) {
    if (kind == VELUM_ENTRY_TOMBSTONE) return size == 0;
    if (kind == VELUM_ENTRY_INLINE) return size <= VELUM_INLINE_BYTES_MAX;
    return kind == VELUM_ENTRY_MANIFEST && size > 0;
}

/* ---- ENTRY ---- */

uint64_t velum_wire_manifest_keys(uint64_t size, uint32_t chunk_bytes, uint8_t k, uint8_t m) {
    uint64_t span = m == 0 ? chunk_bytes : (uint64_t)chunk_bytes * k;
    uint64_t each = m == 0 ? 1u : (uint64_t)k + m, spans;
    if (span == 0) return 0;
    spans = size / span + (size % span != 0 ? 1u : 0u);
    return spans > UINT64_MAX / each ? UINT64_MAX : spans * each;
}

static bool manifest_ok(const velum_entry *m) {
    uint32_t chunk_bytes;
    uint64_t keys;
    if (m->body_size < VELUM_MANIFEST_HEAD_BYTES) return false;
    chunk_bytes = velum__get32(m->body);
    if (chunk_bytes == 0 || chunk_bytes > VELUM_CHUNK_BYTES_MAX) return false;
    if (!velum__wire_coding_ok(m->body[4], m->body[5])) return false;
    keys = velum_wire_manifest_keys(m->size, chunk_bytes, m->body[4], m->body[5]);
    return keys <= VELUM_MANIFEST_KEYS_MAX &&
           m->body_size == VELUM_MANIFEST_HEAD_BYTES + keys * VELUM_KEY_BYTES;
}

static bool body_ok(const velum_entry *m) {
    if (m->body == NULL && m->body_size > 0) return false;
    if (m->kind == VELUM_ENTRY_MANIFEST) return manifest_ok(m);
    return m->body_size == m->size; /* a tombstone's is 0 */
}

/* Only a tombstone has an age and is awaited by members, whose ids ascend. */
static bool burial_ok(const velum_entry *m) {
    uint16_t last = VELUM_ID_NONE;
    if (m->kind != VELUM_ENTRY_TOMBSTONE) return m->age_ms == 0 && m->nawaited == 0;
    if (m->awaited == NULL && m->nawaited > 0) return false;
    for (size_t i = 0; i < m->nawaited; i++) {
        uint16_t id = velum__get16(m->awaited + 2 * i);
        if (id <= last) return false;
        last = id;
    }
    return true;
}

static bool entry_ok(const velum_entry *m) {
    return m->keepers >= VELUM_KEEPERS_MIN && m->keepers <= VELUM_KEEPERS_MAX &&
           size_ok(m->kind, m->size) && burial_ok(m) && name_ok(m->name) && body_ok(m);
}

int velum_wire_put_entry(uint8_t *buf, size_t cap, uint64_t correlation, const velum_entry *m) {
    size_t length = VELUM_ENTRY_HEAD_BYTES + 1u + 2u * m->nawaited + 2u + m->name.size;
    uint8_t *p;
    if (!entry_ok(m)) return VELUM_E_ARGUMENT;
    length += m->body_size;
    p = velum__wire_begin(buf, cap, VELUM_F_ENTRY, length, correlation);
    if (p == NULL) return VELUM_E_FULL;
    p = velum__put_version(p, m->version);
    p = velum__put8(velum__put8(p, m->kind), m->keepers);
    p = velum__put64(velum__put64(p, m->age_ms), m->size);
    p = velum__put8(p, m->nawaited);
    p = velum__put_bytes(p, m->awaited, 2u * m->nawaited);
    velum__put_bytes(velum__put_text16(p, m->name), m->body, m->body_size);
    return velum__whole(length);
}

int velum_wire_get_entry(const uint8_t *p, size_t n, velum_entry *m) {
    velum__reader r = {p, n};
    const uint8_t *f = velum__take(&r, VELUM_ENTRY_HEAD_BYTES + 1u);
    if (f == NULL) return VELUM_E_PAYLOAD;
    m->version = velum__get_version(f);
    f += VELUM_VERSION_BYTES;
    m->kind = f[0];
    m->keepers = f[1];
    m->age_ms = velum__get64(f + 2);
    m->size = velum__get64(f + 10);
    m->nawaited = f[18];
    m->awaited = velum__take(&r, 2u * m->nawaited);
    if (m->awaited == NULL || !velum__get_text16(&r, &m->name)) return VELUM_E_PAYLOAD;
    if (r.left > VELUM_ENTRY_BODY_BYTES_MAX) return VELUM_E_PAYLOAD;
    m->body = r.at;
    m->body_size = (uint32_t)r.left;
    return entry_ok(m) ? (int)n : VELUM_E_PAYLOAD;
}

/* ---- ENTRY_ASK, VERSION ---- */

static bool entry_ask_ok(uint8_t how) {
    return how == VELUM_ASK_ENTRY || how == VELUM_ASK_VERSION;
}

int velum_wire_put_entry_ask(uint8_t *buf, size_t cap, uint64_t correlation, uint8_t how,
                             const uint8_t digest[VELUM_DIGEST_BYTES]) {
    uint8_t *p;
    if (!entry_ask_ok(how)) return VELUM_E_ARGUMENT;
    p = velum__wire_begin(buf, cap, VELUM_F_ENTRY_ASK, ASK_BYTES, correlation);
    if (p == NULL) return VELUM_E_FULL;
    velum__put_bytes(velum__put8(p, how), digest, VELUM_DIGEST_BYTES);
    return velum__whole(ASK_BYTES);
}

int velum_wire_get_entry_ask(const uint8_t *p, size_t n, uint8_t *how,
                             uint8_t digest[VELUM_DIGEST_BYTES]) {
    if (n != ASK_BYTES) return VELUM_E_PAYLOAD;
    *how = p[0];
    memcpy(digest, p + 1, VELUM_DIGEST_BYTES);
    return entry_ask_ok(*how) ? (int)n : VELUM_E_PAYLOAD;
}

static bool version_ok(const velum_named_version *m) {
    if (m->what == VELUM_NAMED_NONE)
        return m->kind == 0 && m->version.stamp == 0 && m->version.origin == 0;
    return m->what >= VELUM_NAMED_KEPT && m->what <= VELUM_NAMED_REPLACED &&
           m->kind <= VELUM_ENTRY_MANIFEST;
}

int velum_wire_put_version(uint8_t *buf, size_t cap, uint64_t correlation,
                           const velum_named_version *m) {
    uint8_t *p;
    if (!version_ok(m)) return VELUM_E_ARGUMENT;
    p = velum__wire_begin(buf, cap, VELUM_F_VERSION, VERSION_BYTES, correlation);
    if (p == NULL) return VELUM_E_FULL;
    velum__put_version(velum__put8(velum__put8(p, m->what), m->kind), m->version);
    return velum__whole(VERSION_BYTES);
}

int velum_wire_get_version(const uint8_t *p, size_t n, velum_named_version *m) {
    if (n != VERSION_BYTES) return VELUM_E_PAYLOAD;
    m->what = p[0];
    m->kind = p[1];
    m->version = velum__get_version(p + 2);
    return version_ok(m) ? (int)n : VELUM_E_PAYLOAD;
}

/* ---- NAMES_ASK, NAMES ---- */

/* Both texts may be empty: all names, from the first. */
static bool names_ask_ok(uint16_t limit, velum_text prefix, velum_text after) {
    return limit >= 1 && limit <= VELUM_NAMES_PAGE_MAX &&
           velum__text_ok(prefix, VELUM_FILE_NAME_BYTES_MAX) &&
           velum__text_ok(after, VELUM_FILE_NAME_BYTES_MAX);
}

int velum_wire_put_names_ask(uint8_t *buf, size_t cap, uint64_t correlation, uint16_t limit,
                             velum_text prefix, velum_text after) {
    size_t length = 2u + 2u + prefix.size + 2u + after.size;
    uint8_t *p;
    if (!names_ask_ok(limit, prefix, after)) return VELUM_E_ARGUMENT;
    p = velum__wire_begin(buf, cap, VELUM_F_NAMES_ASK, length, correlation);
    if (p == NULL) return VELUM_E_FULL;
    velum__put_text16(velum__put_text16(velum__put16(p, limit), prefix), after);
    return velum__whole(length);
}

int velum_wire_get_names_ask(const uint8_t *p, size_t n, uint16_t *limit, velum_text *prefix,
                             velum_text *after) {
    velum__reader r = {p, n};
    const uint8_t *f = velum__take(&r, 2);
    if (f == NULL || !velum__get_text16(&r, prefix) || !velum__get_text16(&r, after))
        return VELUM_E_PAYLOAD;
    *limit = velum__get16(f);
    return r.left == 0 && names_ask_ok(*limit, *prefix, *after) ? (int)n : VELUM_E_PAYLOAD;
}

/* Whether b comes behind a in the order of their bytes. */
static bool ascend(velum_text a, velum_text b) {
    size_t both = a.size < b.size ? a.size : b.size;
    int order = both == 0 ? 0 : memcmp(a.data, b.data, both);
    return order < 0 || (order == 0 && a.size < b.size);
}

/* `missing` counts what a file at risk or damaged lacks; no other file lacks anything. */
static bool row_ok(const velum_name_row *row, velum_text last) {
    return size_ok(row->kind, row->size) && row->care <= VELUM_CARE_DAMAGED &&
           (row->missing > 0) == (row->care >= VELUM_CARE_AT_RISK) && name_ok(row->name) &&
           ascend(last, row->name);
}

/* Who asks for more asks behind the last row: there is one. */
static bool page_ok(bool more, size_t count) {
    return count <= VELUM_NAMES_PAGE_MAX && (count > 0 || !more);
}

int velum_wire_put_names(uint8_t *buf, size_t cap, uint64_t correlation, bool more,
                         const velum_name_row *rows, size_t count) {
    velum_text last = {NULL, 0};
    size_t length = PAGE_FIXED;
    uint8_t *p;
    if (!page_ok(more, count)) return VELUM_E_ARGUMENT;
    for (size_t i = 0; i < count; i++) {
        if (!row_ok(&rows[i], last)) return VELUM_E_ARGUMENT;
        last = rows[i].name;
        length += ROW_FIXED + 2u + last.size;
    }
    p = velum__wire_begin(buf, cap, VELUM_F_NAMES, length, correlation);
    if (p == NULL) return VELUM_E_FULL;
    p = velum__put16(velum__put8(p, more ? 1 : 0), (uint16_t)count);
    for (size_t i = 0; i < count; i++) {
        p = velum__put_version(p, rows[i].version);
        p = velum__put8(velum__put8(p, rows[i].kind), rows[i].care);
        p = velum__put64(velum__put32(p, rows[i].missing), rows[i].size);
        p = velum__put_text16(p, rows[i].name);
    }
    return velum__whole(length);
}

/* But for the name. */
static void unpack_row(const uint8_t *f, velum_name_row *row) {
    row->version = velum__get_version(f);
    f += VELUM_VERSION_BYTES;
    row->kind = f[0];
    row->care = f[1];
    row->missing = velum__get32(f + 2);
    row->size = velum__get64(f + 6);
}

static bool rows_ok(velum__reader *r, uint16_t count) {
    velum_text last = {NULL, 0};
    for (uint16_t i = 0; i < count; i++) {
        const uint8_t *f = velum__take(r, ROW_FIXED);
        velum_name_row row;
        if (f == NULL || !velum__get_text16(r, &row.name)) return false;
        unpack_row(f, &row);
        if (!row_ok(&row, last)) return false;
        last = row.name;
    }
    return true;
}

int velum_wire_get_names(const uint8_t *p, size_t n, velum_names_page *m) {
    velum__reader r = {p, n};
    const uint8_t *f = velum__take(&r, PAGE_FIXED);
    if (f == NULL || f[0] > 1) return VELUM_E_PAYLOAD;
    m->more = f[0];
    m->count = velum__get16(f + 1);
    m->rows = r.at;
    if (!page_ok(m->more != 0, m->count) || !rows_ok(&r, m->count)) return VELUM_E_PAYLOAD;
    return r.left == 0 ? (int)n : VELUM_E_PAYLOAD;
}

velum_name_row velum_wire_next_name(const uint8_t **at) {
    velum_name_row row;
    unpack_row(*at, &row);
    *at += ROW_FIXED;
    row.name.size = velum__get16(*at);
    row.name.data = (const char *)*at + 2;
    *at += 2u + row.name.size;
    return row;
}

/* ---- SUMS ---- */

/* No digests: nothing to combine. */
static bool sums_ok(const velum_sums *m) {
    for (size_t i = 0; i < VELUM_BUCKETS; i++)
        if (m->counts[i] == 0 && m->marks[i] != 0) return false;
    return true;
}

int velum_wire_put_sums(uint8_t *buf, size_t cap, uint64_t correlation, const velum_sums *m) {
    uint8_t *p;
    if (!sums_ok(m)) return VELUM_E_ARGUMENT;
    p = velum__wire_begin(buf, cap, VELUM_F_SUMS, VELUM_BUCKETS * SUM_BYTES, correlation);
    if (p == NULL) return VELUM_E_FULL;
    for (size_t i = 0; i < VELUM_BUCKETS; i++)
        p = velum__put64(velum__put32(p, m->counts[i]), m->marks[i]);
    return velum__whole(VELUM_BUCKETS * SUM_BYTES);
}

int velum_wire_get_sums(const uint8_t *p, size_t n, velum_sums *m) {
    if (n != VELUM_BUCKETS * SUM_BYTES) return VELUM_E_PAYLOAD;
    for (size_t i = 0; i < VELUM_BUCKETS; i++) {
        m->counts[i] = velum__get32(p + i * SUM_BYTES);
        m->marks[i] = velum__get64(p + i * SUM_BYTES + 4);
    }
    return sums_ok(m) ? (int)n : VELUM_E_PAYLOAD;
}

/* ---- LISTING, LISTED ---- */

void velum_wire_put_name_item(uint8_t *at, const velum_name_item *item) {
    at = velum__put_bytes(at, item->digest, VELUM_DIGEST_BYTES);
    velum__put64(velum__put_version(at, item->version), item->mark);
}

velum_name_item velum_wire_name_item(const uint8_t *at) {
    velum_name_item item;
    memcpy(item.digest, at, VELUM_DIGEST_BYTES);
    item.version = velum__get_version(at + VELUM_DIGEST_BYTES);
    item.mark = velum__get64(at + VELUM_DIGEST_BYTES + VELUM_VERSION_BYTES);
    return item;
}

static int compare(const uint8_t *a, const uint8_t *b) {
    return memcmp(a, b, VELUM_DIGEST_BYTES);
}

/* Complete between two digests of one first byte: what is listed ascends there. */
static bool range_ok(const velum_listing *m) {
    const uint8_t *last = m->after;
    if (m->after[0] != m->end[0] || compare(m->after, m->end) >= 0) return false;
    for (size_t i = 0; i < m->count; i++) {
        const uint8_t *digest = m->items + i * VELUM_NAME_ITEM_BYTES;
        if (compare(last, digest) >= 0) return false;
        last = digest;
    }
    return compare(last, m->end) <= 0;
}

static bool listing_ok(const velum_listing *m) {
    static const uint8_t zeros[VELUM_DIGEST_BYTES];
    if (m->count > VELUM_LISTING_MAX || (m->items == NULL && m->count > 0)) return false;
    if (m->ranged == 1) return range_ok(m);
    return m->ranged == 0 && m->count > 0 && compare(m->after, zeros) == 0 &&
           compare(m->end, zeros) == 0;
}

int velum_wire_put_listing(uint8_t *buf, size_t cap, uint64_t correlation, const velum_listing *m) {
    size_t items = (size_t)m->count * VELUM_NAME_ITEM_BYTES;
    uint8_t *p;
    if (!listing_ok(m)) return VELUM_E_ARGUMENT;
    p = velum__wire_begin(buf, cap, VELUM_F_LISTING, LISTING_FIXED + items, correlation);
    if (p == NULL) return VELUM_E_FULL;
    p = velum__put8(velum__put32(p, m->round), m->ranged);
    p = velum__put_bytes(p, m->after, VELUM_DIGEST_BYTES);
    p = velum__put_bytes(p, m->end, VELUM_DIGEST_BYTES);
    velum__put_bytes(velum__put16(p, m->count), m->items, items);
    return velum__whole(LISTING_FIXED + items);
}

int velum_wire_get_listing(const uint8_t *p, size_t n, velum_listing *m) {
    velum__reader r = {p, n};
    const uint8_t *f = velum__take(&r, LISTING_FIXED);
    if (f == NULL) return VELUM_E_PAYLOAD;
    m->round = velum__get32(f);
    m->ranged = f[4];
    memcpy(m->after, f + 5, VELUM_DIGEST_BYTES);
    memcpy(m->end, f + 5 + VELUM_DIGEST_BYTES, VELUM_DIGEST_BYTES);
    m->count = velum__get16(f + 5 + 2 * VELUM_DIGEST_BYTES);
    m->items = r.at;
    if (r.left != (size_t)m->count * VELUM_NAME_ITEM_BYTES) return VELUM_E_PAYLOAD;
    return listing_ok(m) ? (int)n : VELUM_E_PAYLOAD;
}

static bool listed_ok(const velum_listed *m) {
    return m->nheld <= VELUM_LISTING_MAX && m->nwanted <= VELUM_LISTING_MAX &&
           (m->held != NULL || m->nheld == 0) && (m->wanted != NULL || m->nwanted == 0);
}

int velum_wire_put_listed(uint8_t *buf, size_t cap, uint64_t correlation, const velum_listed *m) {
    size_t held = (size_t)m->nheld * VELUM_NAME_ITEM_BYTES;
    size_t wanted = (size_t)m->nwanted * VELUM_DIGEST_BYTES;
    size_t length = 4u + 2u + held + 2u + wanted;
    uint8_t *p;
    if (!listed_ok(m)) return VELUM_E_ARGUMENT;
    p = velum__wire_begin(buf, cap, VELUM_F_LISTED, length, correlation);
    if (p == NULL) return VELUM_E_FULL;
    p = velum__put16(velum__put32(p, m->round), m->nheld);
    p = velum__put16(velum__put_bytes(p, m->held, held), m->nwanted);
    velum__put_bytes(p, m->wanted, wanted);
    return velum__whole(length);
}

int velum_wire_get_listed(const uint8_t *p, size_t n, velum_listed *m) {
    velum__reader r = {p, n};
    const uint8_t *f = velum__take(&r, 6);
    if (f == NULL) return VELUM_E_PAYLOAD;
    m->round = velum__get32(f);
    m->nheld = velum__get16(f + 4);
    m->held = velum__take(&r, (size_t)m->nheld * VELUM_NAME_ITEM_BYTES);
    f = m->held == NULL ? NULL : velum__take(&r, 2);
    if (f == NULL) return VELUM_E_PAYLOAD;
    m->nwanted = velum__get16(f);
    m->wanted = velum__take(&r, (size_t)m->nwanted * VELUM_DIGEST_BYTES);
    return m->wanted != NULL && r.left == 0 && listed_ok(m) ? (int)n : VELUM_E_PAYLOAD;
}
