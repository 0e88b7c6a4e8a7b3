/* test_wire_names.c: the frames of names: general properties, and each field's range.
 *
 * As test_wire_store.c. Manifests are tried around every number at which another key is needed, and
 * where arithmetic on their sizes could wrap.
 */
#include "wire_samples.h"

#define CHUNK_BYTES   (1024u * 1024u)
#define LISTING_BYTES (VELUM_LISTING_MAX * VELUM_NAME_ITEM_BYTES)

static uint8_t body[VELUM_ENTRY_BODY_BYTES_MAX + 1];
static uint8_t awaited[2 * VELUM_AWAITED_MAX];
static uint8_t items[LISTING_BYTES + VELUM_NAME_ITEM_BYTES];
static velum_name_row rows[VELUM_NAMES_PAGE_MAX + 1];

/* ---- messages to begin with ---- */

static velum_entry tombstone(void) {
    velum_entry m;
    memset(&m, 0, sizeof m);
    m.version.stamp = UINT64_MAX;
    m.version.origin = UINT32_MAX;
    m.keepers = 3;
    m.age_ms = UINT64_C(86400000);
    m.nawaited = 3;
    m.awaited = awaited;
    m.name = text_of("a/\xc3\xa9", 4);
    return m;
}

static velum_entry inline_entry(uint32_t size) {
    velum_entry m = tombstone();
    m.kind = VELUM_ENTRY_INLINE;
    m.age_ms = m.nawaited = 0;
    m.awaited = NULL;
    m.size = m.body_size = size;
    m.body = size > 0 ? body + VELUM_MANIFEST_HEAD_BYTES : NULL;
    return m;
}

/* With so many keys as it needs, if they have room. */
static velum_entry manifest(uint64_t size, uint32_t chunk_bytes, uint8_t k, uint8_t parity) {
    velum_entry m = inline_entry(0);
    uint64_t keys = velum_wire_manifest_keys(size, chunk_bytes, k, parity);
    m.kind = VELUM_ENTRY_MANIFEST;
    m.size = size;
    velum__put8(velum__put8(velum__put32(body, chunk_bytes), k), parity);
    m.body = body;
    if (keys > VELUM_MANIFEST_KEYS_MAX) keys = VELUM_MANIFEST_KEYS_MAX;
    m.body_size = (uint32_t)(VELUM_MANIFEST_HEAD_BYTES + keys * VELUM_KEY_BYTES);
    return m;
}

static int put_entry(const velum_entry *m) {
    return velum_wire_put_entry(frame, sizeof frame, 5, m);
}

static velum_listing some_listing(void) {
    velum_listing m;
    memset(&m, 0, sizeof m);
    m.round = 7;
    m.ranged = 1;
    m.after[0] = m.end[0] = 0xab;
    m.end[31] = 3;
    m.count = 3;
    m.items = items;
    return m;
}

static velum_listing offered(uint16_t count) {
    velum_listing m;
    memset(&m, 0, sizeof m);
    m.count = count;
    m.items = items;
    return m;
}

static int put_listing(const velum_listing *m) {
    return velum_wire_put_listing(frame, sizeof frame, 6, m);
}

static int put_names(bool more, size_t count) {
    return velum_wire_put_names(frame, sizeof frame, 7, more, rows, count);
}

static int put_version(uint8_t what, uint8_t kind, uint64_t stamp, uint32_t origin) {
    velum_named_version m = {what, kind, {stamp, origin}};
    return velum_wire_put_version(frame, sizeof frame, 8, &m);
}

/* Rows with names "a", "b", "b/c", "bb", of all kinds and cares. */
static void some_rows(void) {
    static const velum_name_row four[] = {
        {{1, 2}, VELUM_ENTRY_TOMBSTONE, VELUM_CARE_UNKNOWN, 0, 0, {"a", 1}},
        {{3, 4}, VELUM_ENTRY_INLINE, VELUM_CARE_WHOLE, 0, VELUM_INLINE_BYTES_MAX, {"b", 1}},
        {{5, 6}, VELUM_ENTRY_MANIFEST, VELUM_CARE_AT_RISK, 1, 1, {"b/c", 3}},
        {{7, 8}, VELUM_ENTRY_MANIFEST, VELUM_CARE_DAMAGED, UINT32_MAX, UINT64_MAX, {"bb", 2}}};
    memcpy(rows, four, sizeof four);
}

/* Bytes of each digest's end count up from 1; ids that are awaited from 1 to 255 and ever wider. */
static void fill(void) {
    for (size_t i = 0; i < sizeof body; i++)
        body[i] = (uint8_t)(i * 7 % 251);
    for (uint16_t i = 0; i < VELUM_AWAITED_MAX; i++)
        velum__put16(awaited + 2 * i, (uint16_t)((i + 1) * 257u));
    for (uint16_t i = 0; i <= VELUM_LISTING_MAX; i++) {
        velum_name_item item = {{0xab}, {i, 9}, UINT64_MAX - i};
        item.digest[30] = (uint8_t)((i + 1) >> 8);
        item.digest[31] = (uint8_t)(i + 1);
        velum_wire_put_name_item(items + i * VELUM_NAME_ITEM_BYTES, &item);
    }
    some_rows();
}

static void sample_entries(void) {
    velum_entry m = tombstone();
    keep(put_entry(&m));
    m.nawaited = 0;
    m.awaited = NULL;
    m.age_ms = UINT64_MAX;
    m.keepers = VELUM_KEEPERS_MAX;
    keep(put_entry(&m));
    m = inline_entry(0);
    keep(put_entry(&m));
    m = inline_entry(300);
    m.version.stamp = m.version.origin = 0;
    keep(put_entry(&m));
    m = manifest(1, 1, 1, 0);
    keep(put_entry(&m));
    m = manifest(5 * CHUNK_BYTES + 1, CHUNK_BYTES, 4, 2);
    keep(put_entry(&m));
}

static void sample_names(void) {
    static velum_sums sums;
    velum_listing listing = some_listing();
    velum_listed listed = {1, 0, 0, NULL, NULL};
    uint8_t digest[VELUM_DIGEST_BYTES] = {1, 2, 3};
    velum_text none = {NULL, 0};
    keep(velum_wire_put_entry_ask(frame, sizeof frame, 1, VELUM_ASK_ENTRY, digest));
    keep(velum_wire_put_entry_ask(frame, sizeof frame, 1, VELUM_ASK_VERSION, digest));
    keep(put_version(VELUM_NAMED_KEPT, VELUM_ENTRY_TOMBSTONE, UINT64_MAX, 0));
    keep(put_version(VELUM_NAMED_LATER, VELUM_ENTRY_INLINE, 0, 0));
    keep(put_version(VELUM_NAMED_HERE, VELUM_ENTRY_MANIFEST, 1, UINT32_MAX));
    keep(put_version(VELUM_NAMED_NONE, 0, 0, 0));
    keep(velum_wire_put_names_ask(frame, sizeof frame, 2, 1, none, none));
    keep(velum_wire_put_names_ask(frame, sizeof frame, 2, VELUM_NAMES_PAGE_MAX,
                                  text_of("\xc3\xa9/", 3), text_of("z", 1)));
    keep(put_names(false, 0));
    keep(put_names(true, 4));
    keep(velum_wire_put_sums(frame, sizeof frame, 3, &sums));
    sums.counts[0] = UINT32_MAX;
    sums.marks[0] = UINT64_MAX;
    sums.counts[255] = 2; /* of equal marks */
    keep(velum_wire_put_sums(frame, sizeof frame, 3, &sums));
    keep(put_listing(&listing));
    listing.count = 0;
    keep(put_listing(&listing));
    listing = offered(1);
    keep(put_listing(&listing));
    keep(velum_wire_put_listed(frame, sizeof frame, 4, &listed));
    listed.nheld = 2;
    listed.nwanted = 3;
    listed.held = listed.wanted = items;
    keep(velum_wire_put_listed(frame, sizeof frame, 4, &listed));
}

/* ---- entries ---- */

#define ENTRY_WITH(make, change)                                                                   \
    do {                                                                                           \
        velum_entry m = make;                                                                      \
        change;                                                                                    \
        REFUSED(put_entry(&m));                                                                    \
    } while (0)

static void test_entry_refusals(void) {
    static const uint8_t descending[] = {2, 0, 1, 0}, twice[] = {2, 0, 2, 0}, nobody[] = {0, 0};
    ENTRY_WITH(tombstone(), m.kind = VELUM_ENTRY_MANIFEST + 1);
    ENTRY_WITH(tombstone(), m.keepers = 0);
    ENTRY_WITH(tombstone(), m.keepers = VELUM_KEEPERS_MIN - 1);
    ENTRY_WITH(tombstone(), m.keepers = VELUM_KEEPERS_MAX + 1);
    ENTRY_WITH(tombstone(), m.size = 1);
    ENTRY_WITH(tombstone(), (m.body = body, m.body_size = 1));
    ENTRY_WITH(tombstone(), m.awaited = NULL);
    ENTRY_WITH(tombstone(), (m.awaited = descending, m.nawaited = 2));
    ENTRY_WITH(tombstone(), (m.awaited = twice, m.nawaited = 2));
    ENTRY_WITH(tombstone(), (m.awaited = nobody, m.nawaited = 1));
    ENTRY_WITH(tombstone(), m.name.size = 0);
    ENTRY_WITH(tombstone(), m.name.data = NULL);
    ENTRY_WITH(tombstone(), m.name = text_of("\xc3", 1));
    ENTRY_WITH(tombstone(), m.name = long_text(VELUM_FILE_NAME_BYTES_MAX + 1));
    ENTRY_WITH(inline_entry(9), m.age_ms = 1);
    ENTRY_WITH(inline_entry(9), (m.awaited = awaited, m.nawaited = 1));
    ENTRY_WITH(inline_entry(9), m.size = 8);
    ENTRY_WITH(inline_entry(9), m.body_size = 8);
    ENTRY_WITH(inline_entry(9), m.body = NULL);
    ENTRY_WITH(inline_entry(9), m.size += UINT64_C(1) << 32);
    ENTRY_WITH(inline_entry(VELUM_INLINE_BYTES_MAX + 1), (void)m);
    ENTRY_WITH(inline_entry(UINT32_MAX), (void)m);
    ENTRY_WITH(manifest(9, 1, 1, 0), m.age_ms = 1);
    ENTRY_WITH(manifest(9, 1, 1, 0), (m.awaited = awaited, m.nawaited = 1));
    ENTRY_WITH(manifest(9, 1, 1, 0), m.body = NULL);
    ENTRY_WITH(manifest(9, 1, 1, 0), m.body_size--);
    ENTRY_WITH(manifest(9, 1, 1, 0), m.body_size++);
    ENTRY_WITH(manifest(9, 1, 1, 0), m.body_size -= VELUM_KEY_BYTES);
    ENTRY_WITH(manifest(9, 1, 1, 0), m.body_size += VELUM_KEY_BYTES);
    ENTRY_WITH(manifest(9, 1, 1, 0), m.body_size = 0);
    ENTRY_WITH(manifest(9, 1, 1, 0), m.body_size = VELUM_MANIFEST_HEAD_BYTES - 1);
    ENTRY_WITH(manifest(9, 1, 1, 0), m.size = 0);
    ENTRY_WITH(manifest(9, 1, 1, 0), m.size = 10);
    ENTRY_WITH(manifest(9, 1, 1, 0), m.size = UINT64_MAX);
    ENTRY_WITH(manifest(0, 1, 1, 0), (void)m);
    ENTRY_WITH(manifest(9, 0, 1, 0), (void)m);
    ENTRY_WITH(manifest(9, VELUM_CHUNK_BYTES_MAX + 1, 1, 0), (void)m);
    ENTRY_WITH(manifest(9, UINT32_MAX, 1, 0), (void)m);
    ENTRY_WITH(manifest(9, 9, 0, 0), (void)m);
    ENTRY_WITH(manifest(9, 9, VELUM_COPIES_MAX + 1, 0), (void)m);
    ENTRY_WITH(manifest(9, 9, 0, 1), (void)m);
    ENTRY_WITH(manifest(9, 9, VELUM_SHARDS_MAX, 1), (void)m);
    ENTRY_WITH(manifest(9, 9, 1, VELUM_SHARDS_MAX), (void)m);
    ENTRY_WITH(manifest(9, 9, UINT8_MAX, 1), (void)m);
    ENTRY_WITH(manifest(9, 9, 1, UINT8_MAX), (void)m);
    ENTRY_WITH(manifest(VELUM_MANIFEST_KEYS_MAX + 1, 1, 1, 0), (void)m);
    ENTRY_WITH(manifest(UINT64_MAX, 1, 1, 0), (void)m);
    ENTRY_WITH(manifest(UINT64_MAX, 1, 1, 31), (void)m);
    ENTRY_WITH(manifest(UINT64_MAX, VELUM_CHUNK_BYTES_MAX, 31, 1), (void)m);
}

static void test_malformed_entries(void) {
    velum_entry m = tombstone();
    int n = put_entry(&m);
    malformed(n, 12, 1, 1); /* kind: has an age */
    malformed(n, 12, 3, 1);
    malformed(n, 13, VELUM_KEEPERS_MIN - 1, 1); /* keepers */
    malformed(n, 13, VELUM_KEEPERS_MAX + 1, 1);
    malformed(n, 22, 1, 8); /* size */
    malformed(n, 30, 2, 1); /* awaited */
    malformed(n, 30, UINT8_MAX, 1);
    malformed(n, 31, 0, 2);
    malformed(n, 33, 257, 2);
    malformed(n, 35, 513, 2);
    malformed(n, 37, 0, 2); /* name */
    malformed(n, 37, 3, 2);
    malformed(n, 37, UINT16_MAX, 2);
    malformed(n, 39, 0xff, 1);
    m = inline_entry(9);
    n = put_entry(&m);
    malformed(n, 12, VELUM_ENTRY_TOMBSTONE, 1);
    malformed(n, 12, VELUM_ENTRY_MANIFEST, 1);
    malformed(n, 14, 1, 8); /* age */
    malformed(n, 22, 8, 8);
    malformed(n, 22, UINT64_MAX, 8);
    malformed(n, 31, 3, 2); /* a byte of the name would be the body's */
    m = manifest(9, 3, 2, 1);
    n = put_entry(&m);
    malformed(n, 12, VELUM_ENTRY_INLINE, 1);
    malformed(n, 14, UINT64_MAX, 8);
    malformed(n, 22, 0, 8);
    malformed(n, 22, 6, 8); /* one stripe fewer, one more */
    malformed(n, 22, 13, 8);
    malformed(n, 22, UINT64_MAX, 8);
    malformed(n, 37, 0, 4); /* chunk_bytes */
    malformed(n, 37, VELUM_CHUNK_BYTES_MAX + 1, 4);
    malformed(n, 37, UINT32_MAX, 4);
    malformed(n, 41, 0, 1); /* k, m */
    malformed(n, 41, 3, 1);
    malformed(n, 41, UINT8_MAX, 1);
    malformed(n, 42, 0, 1);
    malformed(n, 42, 2, 1);
    malformed(n, 42, UINT8_MAX, 1);
}

static void keys_are(uint64_t size, uint32_t chunk_bytes, uint8_t k, uint8_t parity,
                     uint64_t keys) {
    velum_entry m = manifest(size, chunk_bytes, k, parity);
    CHECK(velum_wire_manifest_keys(size, chunk_bytes, k, parity) == keys);
    if (keys == 0 || keys > VELUM_MANIFEST_KEYS_MAX)
        REFUSED(put_entry(&m));
    else
        recodes(frame, put_entry(&m));
}

static void test_manifest_keys(void) {
    keys_are(1, VELUM_CHUNK_BYTES_MAX, VELUM_COPIES_MAX, 0, 1);
    keys_are(100, 100, 2, 0, 1);
    keys_are(101, 100, 2, 0, 2);
    keys_are(VELUM_MANIFEST_KEYS_MAX, 1, 1, 0, VELUM_MANIFEST_KEYS_MAX);
    keys_are(VELUM_MANIFEST_KEYS_MAX + 1, 1, 1, 0, VELUM_MANIFEST_KEYS_MAX + 1);
    keys_are((uint64_t)VELUM_MANIFEST_KEYS_MAX * VELUM_CHUNK_BYTES_MAX, VELUM_CHUNK_BYTES_MAX, 1, 0,
             VELUM_MANIFEST_KEYS_MAX);
    keys_are(1, 100, 4, 2, 6);
    keys_are(400, 100, 4, 2, 6);
    keys_are(401, 100, 4, 2, 12);
    keys_are(31, 1, 31, 1, 32);
    keys_are(31000, 1, 31, 1, 32000);
    keys_are(31001, 1, 31, 1, 32032);
    keys_are(1000, 1, 1, 31, 32000);
    keys_are(UINT64_MAX, 1, 1, 0, UINT64_MAX);
    keys_are(UINT64_MAX, 2, 1, 0, UINT64_C(1) << 63);
    keys_are(UINT64_MAX, 1, 1, 1, UINT64_MAX); /* twice that does not fit */
    keys_are(UINT64_MAX, 1, 2, 3, UINT64_MAX);
    keys_are(UINT64_MAX, 8, 1, 7, UINT64_MAX); /* 2^61 times 8 wraps to 0 */
    keys_are(UINT64_MAX, UINT32_MAX, 255, 255, UINT64_C(0x1010102) * 510);
    keys_are(9, 0, 1, 0, 0);
    keys_are(9, 0, 1, 1, 0);
    keys_are(9, 1, 0, 1, 0);
    keys_are(0, 1, 1, 0, 0);
}

/* A key more than the limit, and as many as the size asks for. */
static void test_too_many_keys(void) {
    velum_entry m = manifest(VELUM_MANIFEST_KEYS_MAX, 1, 1, 0), back;
    uint8_t *payload = frame + VELUM_HEADER_BYTES;
    size_t n = (size_t)put_entry(&m) - VELUM_HEADER_BYTES;
    CHECK_EQ(velum_wire_get_entry(payload, n, &back), n);
    velum__put64(payload + 22, VELUM_MANIFEST_KEYS_MAX + 1);
    CHECK_EQ(velum_wire_get_entry(payload, n + VELUM_KEY_BYTES, &back), VELUM_E_PAYLOAD);
    m.size++;
    m.body_size += VELUM_KEY_BYTES;
    REFUSED(put_entry(&m));
}

static void test_largest_entries(void) {
    velum_entry m = tombstone();
    m.nawaited = VELUM_AWAITED_MAX;
    m.name = long_text(VELUM_FILE_NAME_BYTES_MAX);
    recodes(frame, put_entry(&m));
    CHECK_EQ(velum_wire_put_entry(frame, 16 + 31 + 510 + 2 + 4096 - 1, 5, &m), VELUM_E_FULL);
    m = inline_entry(VELUM_INLINE_BYTES_MAX);
    m.name = long_text(VELUM_FILE_NAME_BYTES_MAX);
    recodes(frame, put_entry(&m));
    m = manifest(31000, 1, 31, 1);
    m.name = long_text(VELUM_FILE_NAME_BYTES_MAX);
    recodes(frame, put_entry(&m));
}

/* ---- the other messages ---- */

static void test_ask_refusals(void) {
    velum_text none = {NULL, 0}, bad = {"\xff", 1}, null = {NULL, 1};
    velum_text wide = long_text(VELUM_FILE_NAME_BYTES_MAX + 1);
    uint8_t digest[VELUM_DIGEST_BYTES] = {0};
    for (unsigned how = 0; how < 256; how++)
        CHECK_EQ(velum_wire_put_entry_ask(frame, sizeof frame, 0, (uint8_t)how, digest) > 0,
                 how == VELUM_ASK_ENTRY || how == VELUM_ASK_VERSION);
    for (unsigned what = 0; what < 256; what++)
        CHECK_EQ(put_version((uint8_t)what, 0, 0, 0) > 0,
                 what >= VELUM_NAMED_KEPT && what <= VELUM_NAMED_REPLACED);
    REFUSED(put_version(VELUM_NAMED_HERE, VELUM_ENTRY_MANIFEST + 1, 0, 0));
    REFUSED(put_version(VELUM_NAMED_NONE, 1, 0, 0));
    REFUSED(put_version(VELUM_NAMED_NONE, 0, 1, 0));
    REFUSED(put_version(VELUM_NAMED_NONE, 0, 0, 1));
    REFUSED(velum_wire_put_names_ask(frame, sizeof frame, 0, 0, none, none));
    REFUSED(velum_wire_put_names_ask(frame, sizeof frame, 0, VELUM_NAMES_PAGE_MAX + 1, none, none));
    REFUSED(velum_wire_put_names_ask(frame, sizeof frame, 0, 1, bad, none));
    REFUSED(velum_wire_put_names_ask(frame, sizeof frame, 0, 1, none, bad));
    REFUSED(velum_wire_put_names_ask(frame, sizeof frame, 0, 1, null, none));
    REFUSED(velum_wire_put_names_ask(frame, sizeof frame, 0, 1, wide, none));
    REFUSED(velum_wire_put_names_ask(frame, sizeof frame, 0, 1, none, wide));
}

static void test_malformed_asks(void) {
    uint8_t digest[VELUM_DIGEST_BYTES] = {0};
    int n = velum_wire_put_entry_ask(frame, sizeof frame, 0, VELUM_ASK_ENTRY, digest);
    malformed(n, 0, 0, 1);
    malformed(n, 0, 3, 1);
    n = put_version(VELUM_NAMED_NONE, 0, 0, 0);
    malformed(n, 0, 0, 1);
    malformed(n, 0, 6, 1);
    malformed(n, 1, 1, 1);
    malformed(n, 2, UINT64_C(1) << 63, 8);
    malformed(n, 10, 1, 4);
    n = put_version(VELUM_NAMED_KEPT, 0, 1, 1);
    malformed(n, 0, VELUM_NAMED_NONE, 1);
    malformed(n, 1, 3, 1);
    n = velum_wire_put_names_ask(frame, sizeof frame, 0, 1, text_of("ab", 2), text_of("c", 1));
    malformed(n, 0, 0, 2);
    malformed(n, 0, VELUM_NAMES_PAGE_MAX + 1, 2);
    malformed(n, 2, 1, 2);
    malformed(n, 2, UINT16_MAX, 2);
    malformed(n, 4, 0xff, 1);
    malformed(n, 6, 2, 2);
    malformed(n, 8, 0x80, 1);
}

#define ROWS_WITH(change)                                                                          \
    do {                                                                                           \
        change;                                                                                    \
        REFUSED(put_names(false, 4));                                                              \
        some_rows();                                                                               \
    } while (0)

static void test_page_refusals(void) {
    REFUSED(put_names(true, 0));
    REFUSED(put_names(false, VELUM_NAMES_PAGE_MAX + 1));
    ROWS_WITH(rows[3].kind = VELUM_ENTRY_MANIFEST + 1);
    ROWS_WITH(rows[3].care = VELUM_CARE_DAMAGED + 1);
    ROWS_WITH(rows[3].missing = 0);
    ROWS_WITH(rows[2].missing = 0);
    ROWS_WITH(rows[1].missing = 1);
    ROWS_WITH(rows[0].missing = 1);
    ROWS_WITH(rows[0].size = 1);
    ROWS_WITH(rows[1].size = VELUM_INLINE_BYTES_MAX + 1);
    ROWS_WITH(rows[2].size = 0);
    ROWS_WITH(rows[0].name.size = 0);
    ROWS_WITH(rows[0].name = text_of("c", 1));
    ROWS_WITH(rows[1].name = text_of("a", 1));
    ROWS_WITH(rows[2].name = text_of("b", 1));
    ROWS_WITH(rows[3].name = text_of("b/", 2));
    ROWS_WITH(rows[3].name = text_of("b\xc3", 2));
    ROWS_WITH(rows[3].name = long_text(VELUM_FILE_NAME_BYTES_MAX + 1));
    rows[3].name = text_of("\xc3\xa9", 2); /* bytes have no sign */
    CHECK(put_names(false, 4) > 0);
    some_rows();
}

static void test_malformed_pages(void) {
    int n = put_names(true, 4);
    malformed(n, 0, 2, 1); /* more */
    malformed(n, 1, 3, 2);
    malformed(n, 1, 5, 2);
    malformed(n, 1, UINT16_MAX, 2);
    malformed(n, 15, 3, 1); /* kind and care of "a" */
    malformed(n, 15, VELUM_ENTRY_MANIFEST, 1);
    malformed(n, 16, 4, 1);
    malformed(n, 16, VELUM_CARE_AT_RISK, 1);
    malformed(n, 17, 1, 4); /* missing, size, name */
    malformed(n, 21, 1, 8);
    malformed(n, 29, 0, 2);
    malformed(n, 29, 2, 2);
    malformed(n, 29, UINT16_MAX, 2);
    malformed(n, 31, 'b', 1);
    malformed(n, 31, 'c', 1);
    malformed(n, 31, 0x80, 1);
    n = put_names(true, 1);
    malformed(n, 1, 0, 2);
    CHECK_EQ(velum_wire_get_names((const uint8_t *)"\1\0\0", 3, &(velum_names_page){0}),
             VELUM_E_PAYLOAD);
}

/* 200 rows of the longest names. */
static void test_largest_page(void) {
    static char names[VELUM_NAMES_PAGE_MAX][VELUM_FILE_NAME_BYTES_MAX];
    memset(names, 'n', sizeof names);
    for (size_t i = 0; i < VELUM_NAMES_PAGE_MAX; i++) {
        names[i][VELUM_FILE_NAME_BYTES_MAX - 2] = (char)('0' + i / 64);
        names[i][VELUM_FILE_NAME_BYTES_MAX - 1] = (char)('0' + i % 64);
        rows[i] = rows[2];
        rows[i].name = text_of(names[i], VELUM_FILE_NAME_BYTES_MAX);
    }
    recodes(frame, put_names(true, VELUM_NAMES_PAGE_MAX));
    some_rows();
}

static void test_sums(void) {
    static velum_sums sums, back;
    int n;
    for (uint32_t i = 0; i < VELUM_BUCKETS; i++) {
        sums.counts[i] = i + 1;
        sums.marks[i] = UINT64_MAX - i;
    }
    n = velum_wire_put_sums(frame, sizeof frame, 0, &sums);
    CHECK_EQ(n, 16 + 3072);
    CHECK_EQ(velum_wire_get_sums(frame + 16, (size_t)n - 16, &back), 3072);
    CHECK(memcmp(&sums, &back, sizeof sums) == 0);
    malformed(n, 0, 0, 4);
    malformed(n, 255 * 12, 0, 4);
    sums.counts[77] = 0;
    REFUSED(velum_wire_put_sums(frame, sizeof frame, 0, &sums));
}

#define LISTING_WITH(make, change)                                                                 \
    do {                                                                                           \
        velum_listing m = make;                                                                    \
        change;                                                                                    \
        REFUSED(put_listing(&m));                                                                  \
    } while (0)

static void test_listing_refusals(void) {
    velum_listed listed = {1, 1, 0, NULL, NULL};
    LISTING_WITH(some_listing(), m.ranged = 2);
    LISTING_WITH(some_listing(), m.after[0] = 0xaa);
    LISTING_WITH(some_listing(), m.end[0] = 0xac);
    LISTING_WITH(some_listing(), m.end[31] = 2);   /* the last item is past it */
    LISTING_WITH(some_listing(), m.after[31] = 1); /* the first item is not behind it */
    LISTING_WITH(some_listing(), m.items = NULL);
    LISTING_WITH(some_listing(), m.count = VELUM_LISTING_MAX + 1);
    LISTING_WITH(some_listing(), (m.count = 0, memcpy(m.after, m.end, 32)));
    LISTING_WITH(some_listing(), (m.count = 0, m.after[30] = 1));
    LISTING_WITH(some_listing(), m.ranged = 0);
    LISTING_WITH(offered(3), m.ranged = 1);
    LISTING_WITH(offered(3), m.after[31] = 1);
    LISTING_WITH(offered(3), m.end[0] = 1);
    LISTING_WITH(offered(0), (void)m);
    LISTING_WITH(offered(VELUM_LISTING_MAX + 1), (void)m);
    REFUSED(velum_wire_put_listed(frame, sizeof frame, 0, &listed));
    listed.nheld = VELUM_LISTING_MAX + 1;
    listed.held = items;
    REFUSED(velum_wire_put_listed(frame, sizeof frame, 0, &listed));
    listed.nheld = 0;
    listed.nwanted = 1;
    REFUSED(velum_wire_put_listed(frame, sizeof frame, 0, &listed));
    listed.nwanted = VELUM_LISTING_MAX + 1;
    listed.wanted = items;
    REFUSED(velum_wire_put_listed(frame, sizeof frame, 0, &listed));
}

static void test_malformed_listings(void) {
    velum_listing listing = some_listing(), plain = offered(2);
    velum_listed listed = {1, 1, 1, items, items};
    int n = put_listing(&listing);
    malformed(n, 4, 0, 1);
    malformed(n, 4, 2, 1);
    malformed(n, 5, 0xaa, 1);
    malformed(n, 36, 1, 1);
    malformed(n, 37, 0xac, 1);
    malformed(n, 68, 2, 1);
    malformed(n, 69, 2, 2);
    malformed(n, 69, 4, 2);
    malformed(n, 69, UINT16_MAX, 2);
    malformed(n, 71 + 31, 2, 1); /* as its successor */
    malformed(n, 71 + 52 + 31, 4, 1);
    malformed(n, 71 + 2 * 52 + 31, 4, 1); /* past the end */
    n = put_listing(&plain);
    malformed(n, 4, 1, 1);
    malformed(n, 5, 1, 1);
    malformed(n, 68, 1, 1);
    n = velum_wire_put_listed(frame, sizeof frame, 0, &listed);
    malformed(n, 4, 0, 2);
    malformed(n, 4, 2, 2);
    malformed(n, 4, UINT16_MAX, 2);
    malformed(n, 58, 0, 2);
    malformed(n, 58, 2, 2);
    malformed(n, 58, UINT16_MAX, 2);
}

/* Lists may be as long as their limit, not longer; the payload has room for a longer one too. */
static void test_largest_listings(void) {
    velum_listing plain = offered(VELUM_LISTING_MAX), ranged = some_listing();
    velum_listed listed = {1, VELUM_LISTING_MAX, VELUM_LISTING_MAX, items, items}, back;
    static uint8_t long_one[8 + 513 * 52];
    recodes(frame, put_listing(&plain));
    ranged.count = VELUM_LISTING_MAX;
    ranged.end[30] = ranged.end[31] = 0xff;
    recodes(frame, put_listing(&ranged));
    recodes(frame, velum_wire_put_listed(frame, sizeof frame, 0, &listed));
    velum__put16(long_one + 4, 513);
    CHECK_EQ(velum_wire_get_listed(long_one, sizeof long_one, &back), VELUM_E_PAYLOAD);
}

/* ---- fields arrive where they left ---- */

static void test_fields_of_entries(void) {
    velum_entry m = tombstone(), back;
    int n = put_entry(&m);
    memset(&back, 0xff, sizeof back);
    CHECK_EQ(velum_wire_get_entry(frame + 16, (size_t)n - 16, &back), n - 16);
    CHECK(back.version.stamp == UINT64_MAX && back.version.origin == UINT32_MAX);
    CHECK(back.kind == VELUM_ENTRY_TOMBSTONE && back.keepers == 3 && back.age_ms == m.age_ms);
    CHECK(back.size == 0 && back.nawaited == 3 && velum__get16(back.awaited + 4) == 3 * 257);
    CHECK(back.name.size == 4 && memcmp(back.name.data, "a/\xc3\xa9", 4) == 0);
    CHECK_EQ(back.body_size, 0);
    m = manifest(5 * CHUNK_BYTES, CHUNK_BYTES, 3, 0);
    n = put_entry(&m);
    CHECK_EQ(velum_wire_get_entry(frame + 16, (size_t)n - 16, &back), n - 16);
    CHECK(back.kind == VELUM_ENTRY_MANIFEST && back.size == 5 * CHUNK_BYTES && back.age_ms == 0);
    CHECK(back.body_size == 6 + 5 * 32 && memcmp(back.body, body, back.body_size) == 0);
    CHECK(back.body > frame && back.body + back.body_size == frame + n); /* no copy was made */
}

static void test_fields_of_names(void) {
    uint8_t digest[VELUM_DIGEST_BYTES] = {5, 6}, digest_back[VELUM_DIGEST_BYTES], how;
    velum_named_version version;
    velum_names_page page;
    velum_text prefix, after;
    const uint8_t *at;
    uint16_t limit;
    int n = velum_wire_put_entry_ask(frame, sizeof frame, 0, VELUM_ASK_VERSION, digest);
    CHECK_EQ(velum_wire_get_entry_ask(frame + 16, (size_t)n - 16, &how, digest_back), n - 16);
    CHECK(how == VELUM_ASK_VERSION && memcmp(digest, digest_back, sizeof digest) == 0);
    n = put_version(VELUM_NAMED_LATER, VELUM_ENTRY_MANIFEST, 77, 88);
    CHECK_EQ(velum_wire_get_version(frame + 16, (size_t)n - 16, &version), n - 16);
    CHECK(version.what == VELUM_NAMED_LATER && version.kind == VELUM_ENTRY_MANIFEST);
    CHECK(version.version.stamp == 77 && version.version.origin == 88);
    n = velum_wire_put_names_ask(frame, sizeof frame, 0, 9, text_of("ab", 2), text_of("abc", 3));
    CHECK_EQ(velum_wire_get_names_ask(frame + 16, (size_t)n - 16, &limit, &prefix, &after), n - 16);
    CHECK(limit == 9 && prefix.size == 2 && after.size == 3 && after.data[2] == 'c');
    n = put_names(true, 4);
    CHECK_EQ(velum_wire_get_names(frame + 16, (size_t)n - 16, &page), n - 16);
    CHECK(page.more == 1 && page.count == 4);
    at = page.rows;
    for (uint16_t i = 0; i < page.count; i++) {
        velum_name_row row = velum_wire_next_name(&at);
        CHECK(row.version.stamp == rows[i].version.stamp && row.kind == rows[i].kind);
        CHECK(row.version.origin == rows[i].version.origin && row.care == rows[i].care);
        CHECK(row.missing == rows[i].missing && row.size == rows[i].size);
        CHECK(row.name.size == rows[i].name.size);
        CHECK(memcmp(row.name.data, rows[i].name.data, row.name.size) == 0);
    }
    CHECK(at == frame + n);
}

static void test_fields_of_listings(void) {
    velum_listing m = some_listing(), back;
    velum_listed listed = {6, 2, 1, items, items + 52}, listed_back;
    velum_name_item item;
    int n = put_listing(&m);
    CHECK_EQ(velum_wire_get_listing(frame + 16, (size_t)n - 16, &back), n - 16);
    CHECK(back.round == 7 && back.ranged == 1 && back.count == 3);
    CHECK(memcmp(back.after, m.after, 32) == 0 && memcmp(back.end, m.end, 32) == 0);
    item = velum_wire_name_item(back.items + 2 * VELUM_NAME_ITEM_BYTES);
    CHECK(item.digest[0] == 0xab && item.digest[31] == 3 && item.mark == UINT64_MAX - 2);
    CHECK(item.version.stamp == 2 && item.version.origin == 9);
    n = velum_wire_put_listed(frame, sizeof frame, 0, &listed);
    CHECK_EQ(velum_wire_get_listed(frame + 16, (size_t)n - 16, &listed_back), n - 16);
    CHECK(listed_back.round == 6 && listed_back.nheld == 2 && listed_back.nwanted == 1);
    CHECK(memcmp(listed_back.held, items, 104) == 0);
    CHECK(memcmp(listed_back.wanted, items + 52, 32) == 0);
}

int main(void) {
    fill();
    sample_entries();
    sample_names();
    check_samples();
    test_entry_refusals();
    test_malformed_entries();
    test_manifest_keys();
    test_too_many_keys();
    test_largest_entries();
    test_ask_refusals();
    test_malformed_asks();
    test_page_refusals();
    test_malformed_pages();
    test_largest_page();
    test_sums();
    test_listing_refusals();
    test_malformed_listings();
    test_largest_listings();
    test_fields_of_entries();
    test_fields_of_names();
    test_fields_of_listings();
    return check_report("test_wire_names");
}
