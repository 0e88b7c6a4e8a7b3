/* test_wire_store.c: the frames of chunks: general properties, and each field's range.
 *
 * Samples feed the properties of wire_samples.h. Each field's range is tried from both sides: the
 * encoder must refuse what is outside, and so must the decoder, which is shown the same by patching
 * the bytes of a good frame.
 */
#include "wire_samples.h"

#define KEYS_BYTES (VELUM_SHARDS_MAX * VELUM_KEY_BYTES)

static uint8_t stripe[KEYS_BYTES]; /* key number i is full of i + 1 */
static uint8_t many[VELUM_CLAIMS_MAX * VELUM_CLAIM_NAME_BYTES];
static uint8_t states[VELUM_CLAIMS_MAX];

static velum_claim copies_claim(uint8_t k) {
    velum_claim m;
    memset(&m, 0, sizeof m);
    memset(m.digest, 0xd1, sizeof m.digest);
    m.version.stamp = UINT64_C(0x1122334455667788);
    m.version.origin = 0x99aabbcc;
    m.k = k;
    return m;
}

static velum_claim shard_claim(uint8_t k, uint8_t parity, uint8_t shard) {
    velum_claim m = copies_claim(k);
    m.m = parity;
    m.shard = shard;
    m.keys = stripe;
    return m;
}

/* The chunk is the stripe's shard 5, and lies in two copies as well. */
static velum_hold some_hold(void) {
    velum_hold m;
    memset(&m, 0, sizeof m);
    memset(m.key, 6, sizeof m.key);
    m.size = 1000;
    m.count = 2;
    m.claims[0] = copies_claim(2);
    m.claims[1] = shard_claim(4, 2, 5);
    return m;
}

static velum_hold full_hold(void) {
    velum_hold m = some_hold();
    m.size = VELUM_CHUNK_BYTES_MAX;
    m.flags = VELUM_HOLD_REPAIR;
    m.count = VELUM_CLAIMS_PER_HOLD_MAX;
    for (uint8_t i = 0; i < m.count; i++)
        m.claims[i] = shard_claim((uint8_t)(VELUM_SHARDS_MAX - 1 - i), (uint8_t)(i + 1), 5);
    return m;
}

static int put_hold(const velum_hold *m) {
    return velum_wire_put_hold(frame, sizeof frame, 5, m);
}

static int put_part(const velum_chunk_part *m) {
    return velum_wire_put_chunk_head(frame, sizeof frame, 6, m);
}

static void sample_chunks(void) {
    velum_hold hold = some_hold();
    velum_held held = {VELUM_HELD_SEND, UINT64_MAX};
    velum_release release = {VELUM_RELEASE_THIS, {7}, {UINT64_MAX, UINT32_MAX}};
    velum_chunk_part part = {{3}, VELUM_CHUNK_BYTES_MAX, VELUM_CHUNK_BYTES_MAX - 1, 1};
    int head;
    keep(put_hold(&hold));
    hold.count = 1;
    hold.claims[0] = copies_claim(VELUM_COPIES_MAX);
    keep(put_hold(&hold));
    hold.claims[0] = shard_claim(1, VELUM_SHARDS_MAX - 1, 5);
    hold.size = 1;
    keep(put_hold(&hold));
    for (; held.state <= VELUM_HELD_BAD; held.state++)
        keep(velum_wire_put_held(frame, sizeof frame, 6, &held));
    head = put_part(&part);
    frame[head] = 0xee;
    keep(head + 1);
    keep(velum_wire_put_want(frame, sizeof frame, UINT64_MAX, stripe));
    keep(velum_wire_put_release(frame, sizeof frame, 0, &release));
    release.how = VELUM_RELEASE_BEFORE;
    keep(velum_wire_put_release(frame, sizeof frame, 0, &release));
    keep(velum_wire_put_offer(frame, sizeof frame, 7, stripe, 1));
    keep(velum_wire_put_offer(frame, sizeof frame, 7, stripe, 3));
    keep(velum_wire_put_offered(frame, sizeof frame, 7, (const uint8_t *)"\1\2\3\4\5", 5));
    keep(velum_wire_put_claims(frame, sizeof frame, 8, many, 1));
    keep(velum_wire_put_claims(frame, sizeof frame, 8, many, 3));
    keep(velum_wire_put_claimed(frame, sizeof frame, 8, (const uint8_t *)"\3\1\2\4", 4));
}

/* ---- fields out of their range ---- */

#define HOLD_WITH(change)                                                                          \
    do {                                                                                           \
        velum_hold m = some_hold();                                                                \
        change;                                                                                    \
        REFUSED(put_hold(&m));                                                                     \
    } while (0)

static void test_hold_refusals(void) {
    HOLD_WITH(m.size = 0);
    HOLD_WITH(m.size = VELUM_CHUNK_BYTES_MAX + 1);
    HOLD_WITH(m.size = UINT32_MAX);
    HOLD_WITH(m.count = 0);
    HOLD_WITH(m.count = VELUM_CLAIMS_PER_HOLD_MAX + 1);
    HOLD_WITH(m.count = UINT8_MAX);
    HOLD_WITH(m.claims[0].k = 0);
    HOLD_WITH(m.claims[0].k = VELUM_COPIES_MAX + 1);
    HOLD_WITH(m.claims[0].shard = 1); /* copies have no shards */
    HOLD_WITH(m.claims[0].m = 1);     /* no keys */
    HOLD_WITH(m.claims[1].k = 0);
    HOLD_WITH(m.claims[1].k = VELUM_SHARDS_MAX - 1);
    HOLD_WITH(m.claims[1].m = VELUM_SHARDS_MAX - 3);
    HOLD_WITH((m.claims[1].k = UINT8_MAX, m.claims[1].m = 1));
    HOLD_WITH((m.claims[1].k = 1, m.claims[1].m = UINT8_MAX));
    HOLD_WITH(m.claims[1].shard = 6);
    HOLD_WITH(m.claims[1].shard = UINT8_MAX);
    HOLD_WITH(m.claims[1].shard = 4); /* another key is there */
    HOLD_WITH(m.key[31] = 0);
}

static void test_other_refusals(void) {
    velum_held held = {0, 0};
    velum_release release = {0, {0}, {0, 0}};
    for (unsigned state = 0; state < 256; state++) {
        uint8_t one = (uint8_t)state;
        bool offered = state >= VELUM_OFFERED_HAVE && state <= VELUM_OFFERED_SPARE;
        bool claimed = state >= VELUM_CLAIM_FAST && state <= VELUM_CLAIM_PENDING;
        held.state = release.how = one;
        CHECK_EQ(velum_wire_put_held(frame, sizeof frame, 0, &held) > 0,
                 state >= VELUM_HELD_SEND && state <= VELUM_HELD_BAD);
        CHECK_EQ(velum_wire_put_release(frame, sizeof frame, 0, &release) > 0,
                 state == VELUM_RELEASE_THIS || state == VELUM_RELEASE_BEFORE);
        CHECK_EQ(velum_wire_put_offered(frame, sizeof frame, 0, &one, 1) > 0, offered);
        CHECK_EQ(velum_wire_put_claimed(frame, sizeof frame, 0, &one, 1) > 0, claimed);
    }
    REFUSED(velum_wire_put_offer(frame, sizeof frame, 0, many, 0));
    REFUSED(velum_wire_put_offer(frame, sizeof frame, 0, many, VELUM_OFFER_KEYS_MAX + 1));
    REFUSED(velum_wire_put_offer(frame, sizeof frame, 0, many, SIZE_MAX));
    REFUSED(velum_wire_put_offer(frame, sizeof frame, 0, NULL, 1));
    REFUSED(velum_wire_put_offered(frame, sizeof frame, 0, states, 0));
    REFUSED(velum_wire_put_offered(frame, sizeof frame, 0, states, VELUM_OFFER_KEYS_MAX + 1));
    REFUSED(velum_wire_put_claims(frame, sizeof frame, 0, many, 0));
    REFUSED(velum_wire_put_claims(frame, sizeof frame, 0, many, VELUM_CLAIMS_MAX + 1));
    REFUSED(velum_wire_put_claimed(frame, sizeof frame, 0, states, 0));
    REFUSED(velum_wire_put_claimed(frame, sizeof frame, 0, states, VELUM_CLAIMS_MAX + 1));
}

static void test_malformed_holds(void) {
    velum_hold hold = some_hold();
    int n = put_hold(&hold);
    malformed(n, 0, 7, 1); /* key: the second claim's keys say another */
    malformed(n, 32, 0, 4);
    malformed(n, 32, VELUM_CHUNK_BYTES_MAX + 1, 4);
    malformed(n, 32, UINT32_MAX, 4);
    malformed(n, 36, 0, 1);
    malformed(n, 36, 1, 1);
    malformed(n, 36, 3, 1);
    malformed(n, 36, VELUM_CLAIMS_PER_HOLD_MAX + 1, 1);
    malformed(n, 36, UINT8_MAX, 1);
    malformed(n, 81, 0, 1); /* of two copies: k, m and shard */
    malformed(n, 81, VELUM_COPIES_MAX + 1, 1);
    malformed(n, 82, 1, 1);
    malformed(n, 82, UINT8_MAX, 1);
    malformed(n, 83, 1, 1);
    malformed(n, 128, 0, 1); /* of the stripe */
    malformed(n, 128, 5, 1);
    malformed(n, 128, UINT8_MAX, 1);
    malformed(n, 129, 0, 1);
    malformed(n, 129, 1, 1);
    malformed(n, 129, 3, 1);
    malformed(n, 129, UINT8_MAX, 1);
    malformed(n, 130, 4, 1);
    malformed(n, 130, 6, 1);
    malformed(n, 131 + 5 * 32, 5, 1); /* the chunk's own key */
}

static void test_malformed_lists(void) {
    static const uint8_t two[] = {1, 1};
    int n = velum_wire_put_offer(frame, sizeof frame, 0, many, 2);
    malformed(n, 0, 0, 2);
    malformed(n, 0, 1, 2);
    malformed(n, 0, 3, 2);
    malformed(n, 0, UINT16_MAX, 2);
    n = velum_wire_put_claims(frame, sizeof frame, 0, many, 2);
    malformed(n, 0, 0, 2);
    malformed(n, 0, 1, 2);
    malformed(n, 0, 3, 2);
    n = velum_wire_put_offered(frame, sizeof frame, 0, two, 2);
    malformed(n, 0, 1, 2);
    malformed(n, 0, 3, 2);
    malformed(n, 2, 0, 1);
    malformed(n, 3, VELUM_OFFERED_SPARE + 1, 1);
    n = velum_wire_put_claimed(frame, sizeof frame, 0, two, 2);
    malformed(n, 0, 1, 2);
    malformed(n, 2, 0, 1);
    malformed(n, 3, VELUM_CLAIM_PENDING + 1, 1);
    CHECK_EQ(velum_wire_get_offer((const uint8_t *)"\0\0", 2, &(const uint8_t *){0}, &(size_t){0}),
             VELUM_E_PAYLOAD);
}

static void test_malformed_rest(void) {
    velum_held held = {VELUM_HELD_HAVE, 0};
    velum_release release = {VELUM_RELEASE_THIS, {0}, {0, 0}};
    int n = velum_wire_put_held(frame, sizeof frame, 0, &held);
    malformed(n, 0, 0, 1);
    malformed(n, 0, VELUM_HELD_BAD + 1, 1);
    n = velum_wire_put_release(frame, sizeof frame, 0, &release);
    malformed(n, 0, 0, 1);
    malformed(n, 0, 3, 1);
}

/* ---- CHUNK ---- */

static void part_refused(uint32_t total, uint32_t offset, uint32_t size) {
    velum_chunk_part part = {{0}, total, offset, size}, back;
    uint8_t head[VELUM_CHUNK_HEAD_BYTES] = {0};
    REFUSED(put_part(&part));
    velum__put32(velum__put32(head + 32, total), offset);
    if (size <= UINT32_MAX - VELUM_CHUNK_HEAD_BYTES)
        CHECK_EQ(velum_wire_get_chunk_head(head, sizeof head, 40 + size, &back), VELUM_E_PAYLOAD);
}

static void test_chunk_head(void) {
    velum_chunk_part part = {{9}, VELUM_CHUNK_BYTES_MAX, 3, VELUM_CHUNK_PART_BYTES}, back;
    uint8_t *head = frame + VELUM_HEADER_BYTES;
    velum_header h;
    CHECK_EQ(velum_wire_put_chunk_head(frame, 55, 3, &part), VELUM_E_FULL);
    CHECK_EQ(velum_wire_put_chunk_head(frame, 56, 3, &part), 56);
    CHECK_EQ(velum_wire_header(frame, 56, &h), 16);
    CHECK_EQ(h.length, 40 + VELUM_CHUNK_PART_BYTES);
    CHECK_EQ(velum_wire_limit(VELUM_F_CHUNK), h.length);
    for (size_t n = 0; n < 40; n++) {
        uint8_t *copy = exact_copy(head, n);
        CHECK_EQ(velum_wire_get_chunk_head(copy, n, h.length, &back), 0);
        free(copy);
    }
    CHECK_EQ(velum_wire_get_chunk_head(head, 40, h.length, &back), 40);
    CHECK(back.key[0] == 9 && back.total == part.total && back.offset == 3);
    CHECK_EQ(back.size, part.size);
    for (uint32_t length = 0; length <= 40; length++)
        CHECK_EQ(velum_wire_get_chunk_head(head, 40, length, &back), VELUM_E_PAYLOAD);
    part_refused(0, 0, 0);
    part_refused(0, 0, 1);
    part_refused(5, 0, 0);
    part_refused(5, 0, 6);
    part_refused(5, 5, 1);
    part_refused(5, 4, 2);
    part_refused(5, UINT32_MAX, 2); /* offset + size overflows */
    part_refused(5, UINT32_MAX - 3, 5);
    part_refused(VELUM_CHUNK_BYTES_MAX, 0, VELUM_CHUNK_PART_BYTES + 1);
    part_refused(VELUM_CHUNK_BYTES_MAX, 0, UINT32_MAX);
    part_refused(VELUM_CHUNK_BYTES_MAX, VELUM_CHUNK_BYTES_MAX - 1, 2);
    part_refused(VELUM_CHUNK_BYTES_MAX + 1, 0, 1);
    part_refused(UINT32_MAX, 0, 1);
}

/* ---- the largest, and fields arrive where they left ---- */

static void test_largest(void) {
    velum_hold hold = full_hold();
    memset(states, 2, sizeof states);
    for (size_t i = 0; i < sizeof many; i++)
        many[i] = (uint8_t)(i * 7);
    recodes(frame, put_hold(&hold));
    recodes(frame, velum_wire_put_offer(frame, sizeof frame, 1, many, VELUM_OFFER_KEYS_MAX));
    recodes(frame, velum_wire_put_offered(frame, sizeof frame, 1, states, VELUM_OFFER_KEYS_MAX));
    recodes(frame, velum_wire_put_claims(frame, sizeof frame, 1, many, VELUM_CLAIMS_MAX));
    recodes(frame, velum_wire_put_claimed(frame, sizeof frame, 1, states, VELUM_CLAIMS_MAX));
}

static void test_fields(void) {
    velum_hold hold = some_hold(), back;
    velum_held held = {VELUM_HELD_FULL, 12345}, held_back;
    velum_release release = {VELUM_RELEASE_BEFORE, {1, 2}, {3, 4}}, release_back;
    const uint8_t *pieces;
    size_t count;
    int n = put_hold(&hold);
    memset(&back, 0xff, sizeof back);
    CHECK_EQ(velum_wire_get_hold(frame + 16, (size_t)n - 16, &back), n - 16);
    CHECK(memcmp(back.key, hold.key, 32) == 0 && back.size == 1000 && back.count == 2);
    CHECK(back.claims[0].k == 2 && back.claims[0].m == 0 && back.claims[0].keys == NULL);
    CHECK(back.claims[1].k == 4 && back.claims[1].m == 2 && back.claims[1].shard == 5);
    CHECK(back.claims[1].digest[31] == 0xd1 && back.claims[1].version.origin == 0x99aabbcc);
    CHECK(back.claims[1].version.stamp == UINT64_C(0x1122334455667788));
    CHECK(memcmp(back.claims[1].keys, stripe, 6 * 32) == 0);
    CHECK(back.claims[1].keys > frame && back.claims[1].keys < frame + n); /* no copy was made */
    n = velum_wire_put_held(frame, sizeof frame, 1, &held);
    CHECK_EQ(velum_wire_get_held(frame + 16, (size_t)n - 16, &held_back), n - 16);
    CHECK(held_back.state == VELUM_HELD_FULL && held_back.free_bytes == 12345);
    n = velum_wire_put_release(frame, sizeof frame, 1, &release);
    CHECK_EQ(velum_wire_get_release(frame + 16, (size_t)n - 16, &release_back), n - 16);
    CHECK(release_back.how == VELUM_RELEASE_BEFORE && release_back.digest[1] == 2);
    CHECK(release_back.version.stamp == 3 && release_back.version.origin == 4);
    n = velum_wire_put_offer(frame, sizeof frame, 1, stripe, 5);
    CHECK_EQ(velum_wire_get_offer(frame + 16, (size_t)n - 16, &pieces, &count), n - 16);
    CHECK(count == 5 && pieces == frame + 18 && memcmp(pieces, stripe, 160) == 0);
}

int main(void) {
    for (size_t i = 0; i < sizeof stripe; i++)
        stripe[i] = (uint8_t)(i / VELUM_KEY_BYTES + 1);
    sample_chunks();
    check_samples();
    test_hold_refusals();
    test_other_refusals();
    test_malformed_holds();
    test_malformed_lists();
    test_malformed_rest();
    test_chunk_head();
    test_largest();
    test_fields();
    return check_report("test_wire_store");
}
