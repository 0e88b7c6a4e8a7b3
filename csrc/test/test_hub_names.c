/* test_hub_names.c: what a hub answers from its names, and what it leaves to its owner. */
#include "hub_world.h"

#define NAME_A "a/name"

static velum_names *names;

static velum_hub *open_naming(void) {
    velum_hub *hub = open_world(16);
    CHECK_EQ(velum_names_open(&names, 7, 1u << 20), 0);
    velum_hub_set_store(hub, NULL, names);
    return hub;
}

static void close_naming(velum_hub *hub) {
    velum_hub_close(hub);
    velum_names_close(names);
    end_world();
}

/* A file of a few bytes, put at a stamp. */
static velum_entry make_entry(const char *name, uint64_t stamp, uint8_t kind, const char *body) {
    velum_entry e = {.version = {stamp, 9},
                     .kind = kind,
                     .keepers = VELUM_KEEPERS_MIN,
                     .size = strlen(body),
                     .name = {name, (uint16_t)strlen(name)},
                     .body = (const uint8_t *)body,
                     .body_size = (uint32_t)strlen(body)};
    return e;
}

static void raw_entry(velum_fd fd, uint64_t correlation, const velum_entry *e) {
    static uint8_t frame[VELUM_HEADER_BYTES + VELUM_FRAME_BYTES_MAX];
    int n = velum_wire_put_entry(frame, sizeof frame, correlation, e);
    CHECK(n > 0);
    raw_send(fd, frame, (size_t)n);
}

static void raw_file(velum_fd fd, uint64_t correlation, uint64_t stamp, const char *body) {
    velum_entry e = make_entry(NAME_A, stamp, VELUM_ENTRY_INLINE, body);
    raw_entry(fd, correlation, &e);
}

static void digest_of(const char *name, uint8_t digest[VELUM_DIGEST_BYTES]) {
    velum_chunk_key(name, strlen(name), digest);
}

static void raw_ask(velum_fd fd, uint64_t correlation, uint8_t how, const char *name) {
    uint8_t frame[64], digest[VELUM_DIGEST_BYTES];
    int n;
    digest_of(name, digest);
    n = velum_wire_put_entry_ask(frame, sizeof frame, correlation, how, digest);
    CHECK(n > 0);
    raw_send(fd, frame, (size_t)n);
}

static void expect_version(velum_fd fd, uint64_t correlation, velum_named what, uint8_t kind,
                           uint64_t stamp) {
    uint8_t payload[2048] = {0};
    velum_header header = raw_expect(fd, VELUM_F_VERSION, payload);
    velum_named_version m = {0};
    CHECK(header.correlation == correlation);
    CHECK(velum_wire_get_version(payload, header.length, &m) > 0);
    CHECK_EQ(m.what, what);
    CHECK_EQ(m.kind, kind);
    CHECK_EQ(m.version.stamp, stamp);
    CHECK_EQ(m.version.origin, stamp == 0 ? 0 : 9);
}

static void expect_entry(velum_fd fd, uint64_t correlation, uint64_t stamp, const char *body) {
    uint8_t payload[2048] = {0};
    velum_header header = raw_expect(fd, VELUM_F_ENTRY, payload);
    velum_entry e;
    CHECK(header.correlation == correlation);
    CHECK(velum_wire_get_entry(payload, header.length, &e) > 0);
    CHECK_EQ(e.version.stamp, stamp);
    CHECK_EQ(e.keepers, VELUM_KEEPERS_MIN);
    CHECK(e.name.size == strlen(NAME_A) && memcmp(e.name.data, NAME_A, e.name.size) == 0);
    CHECK(e.body_size == strlen(body) && memcmp(e.body, body, e.body_size) == 0);
}

static void expect_error(velum_fd fd, uint64_t correlation, int error) {
    uint8_t payload[2048] = {0};
    velum_header header = raw_expect(fd, VELUM_F_ERROR, payload);
    velum_error e = {0};
    CHECK(header.correlation == correlation);
    CHECK(velum_wire_get_error(payload, header.length, &e) > 0);
    CHECK_EQ(e.code, -error);
}

/* Polls; expects one frame for the owner. */
static void expect_passed_on(velum_hub *hub, uint8_t type, uint64_t correlation) {
    CHECK_EQ(poll_for(hub, 0), 1);
    CHECK_EQ(events[0].kind, VELUM_EV_FRAME);
    CHECK_EQ(events[0].u.frame.header.type, type);
    CHECK(events[0].u.frame.header.correlation == correlation);
}

/* What is here, by a tombstone that the owner has merged himself. */
static void bury_name(uint64_t stamp) {
    velum_entry e = make_entry(NAME_A, stamp, VELUM_ENTRY_TOMBSTONE, "");
    velum_named_version here;
    CHECK_EQ(velum_names_merge(names, &e, velum_port_unix_ms(), 1, &here), 1);
}

/* ---- */

static void test_put_and_ask(void) {
    velum_hub *hub = open_naming();
    velum_handle link;
    velum_fd fd = raw_member(hub, 9, &link);
    raw_ask(fd, 1, VELUM_ASK_ENTRY, NAME_A);
    raw_ask(fd, 2, VELUM_ASK_VERSION, NAME_A);
    raw_file(fd, 3, 100, "first");
    raw_file(fd, 4, 100, "first"); /* again */
    raw_file(fd, 5, 50, "older");
    raw_file(fd, 6, 200, "second");
    raw_ask(fd, VELUM_ANSWER_BIT | 7, VELUM_ASK_ENTRY, NAME_A);
    raw_ask(fd, VELUM_ANSWER_BIT | 8, VELUM_ASK_VERSION, NAME_A);
    raw_ask(fd, 9, VELUM_ASK_VERSION, "another");
    CHECK_EQ(poll_for(hub, 0), 0);
    expect_version(fd, 1, VELUM_NAMED_NONE, 0, 0);
    expect_version(fd, 2, VELUM_NAMED_NONE, 0, 0);
    expect_version(fd, 3, VELUM_NAMED_KEPT, VELUM_ENTRY_INLINE, 100);
    expect_version(fd, 4, VELUM_NAMED_KEPT, VELUM_ENTRY_INLINE, 100);
    expect_version(fd, 5, VELUM_NAMED_LATER, VELUM_ENTRY_INLINE, 100);
    expect_version(fd, 6, VELUM_NAMED_KEPT, VELUM_ENTRY_INLINE, 200);
    expect_entry(fd, VELUM_ANSWER_BIT | 7, 200, "second");
    expect_version(fd, VELUM_ANSWER_BIT | 8, VELUM_NAMED_HERE, VELUM_ENTRY_INLINE, 200);
    expect_version(fd, 9, VELUM_NAMED_NONE, 0, 0);
    velum_port_close(fd);
    close_naming(hub);
}

/* Keepers among themselves: an answer only if it is news. */
static void test_correlation_0(void) {
    velum_hub *hub = open_naming();
    uint8_t payload[2048];
    velum_handle link;
    velum_fd fd = raw_member(hub, 9, &link);
    raw_file(fd, 0, 100, "first");
    raw_file(fd, 0, 100, "first");
    raw_file(fd, 0, UINT64_MAX, "from the end of time");
    raw_empty(fd, VELUM_F_PING, 1);
    raw_file(fd, 0, 50, "older");
    CHECK_EQ(poll_for(hub, 0), 0);
    raw_expect(fd, VELUM_F_PONG, payload);
    expect_entry(fd, 0, 100, "first");
    CHECK_EQ(velum_test_pending(fd), 0);
    velum_port_close(fd);
    close_naming(hub);
}

static void test_refused(void) {
    velum_hub *hub = open_naming();
    velum_handle link;
    velum_fd fd = raw_member(hub, 9, &link);
    raw_file(fd, 1, UINT64_MAX, "from the end of time");
    velum_names_set_room(names, 100);
    raw_file(fd, 2, 100, "no room");
    CHECK_EQ(poll_for(hub, 0), 0);
    expect_error(fd, 1, VELUM_E_VERSION_AHEAD);
    expect_error(fd, 2, VELUM_E_NAMES_FULL);
    velum_port_close(fd);
    close_naming(hub);
}

/* Tombstones, and answers to our own questions. */
static void test_left_to_the_owner(void) {
    velum_hub *hub = open_naming();
    velum_entry grave = make_entry(NAME_A, 100, VELUM_ENTRY_TOMBSTONE, "");
    velum_handle link;
    velum_fd fd = raw_member(hub, 9, &link);
    raw_entry(fd, 1, &grave);
    expect_passed_on(hub, VELUM_F_ENTRY, 1);
    raw_file(fd, VELUM_ANSWER_BIT | 2, 100, "an answer");
    expect_passed_on(hub, VELUM_F_ENTRY, VELUM_ANSWER_BIT | 2);
    CHECK_EQ(velum_names_get_figures(names).count, 0);
    bury_name(100);
    raw_file(fd, 0, 50, "older"); /* the owner tells its sender of the tombstone */
    expect_passed_on(hub, VELUM_F_ENTRY, 0);
    raw_file(fd, 3, 50, "older");
    raw_ask(fd, 4, VELUM_ASK_ENTRY, NAME_A);
    raw_ask(fd, 5, VELUM_ASK_VERSION, NAME_A);
    CHECK_EQ(poll_for(hub, 0), 0);
    expect_version(fd, 3, VELUM_NAMED_LATER, VELUM_ENTRY_TOMBSTONE, 100);
    expect_version(fd, 4, VELUM_NAMED_HERE, VELUM_ENTRY_TOMBSTONE, 100);
    expect_version(fd, 5, VELUM_NAMED_HERE, VELUM_ENTRY_TOMBSTONE, 100);
    velum_port_close(fd);
    close_naming(hub);
}

static void test_no_names(void) {
    velum_hub *hub = open_world(16);
    velum_handle link;
    velum_fd fd = raw_member(hub, 9, &link);
    raw_file(fd, 1, 100, "first");
    expect_passed_on(hub, VELUM_F_ENTRY, 1);
    raw_ask(fd, 2, VELUM_ASK_ENTRY, NAME_A);
    expect_passed_on(hub, VELUM_F_ENTRY_ASK, 2);
    raw_empty(fd, VELUM_F_CLAIMS, 3);
    expect_passed_on(hub, VELUM_F_CLAIMS, 3);
    velum_port_close(fd);
    velum_hub_close(hub);
    end_world();
}

static void put_claim(uint8_t *at, const char *name, velum_version version) {
    digest_of(name, at);
    memset(at + VELUM_DIGEST_BYTES, 0, VELUM_VERSION_BYTES);
    at[VELUM_DIGEST_BYTES] = (uint8_t)version.stamp; /* below 256 */
    at[VELUM_DIGEST_BYTES + 8] = (uint8_t)version.origin;
}

static void raw_claim(velum_fd fd, uint64_t correlation, const char *name, velum_version version,
                      size_t count, size_t odd) {
    static uint8_t claims[VELUM_CLAIMS_MAX * VELUM_CLAIM_NAME_BYTES];
    static uint8_t frame[VELUM_HEADER_BYTES + 2 + sizeof claims];
    int n;
    for (size_t i = 0; i < count; i++)
        put_claim(claims + i * VELUM_CLAIM_NAME_BYTES, i == odd ? "another" : name, version);
    n = velum_wire_put_claims(frame, sizeof frame, correlation, claims, count);
    CHECK(n > 0);
    raw_send(fd, frame, (size_t)n);
}

/* All are in that state; UNKNOWN is for the owner to say. */
static void expect_claimed(velum_hub *hub, velum_fd fd, uint64_t correlation, size_t expected,
                           velum_claimed state) {
    uint8_t payload[2048];
    const uint8_t *states;
    velum_header header;
    size_t count = 0;
    for (int rounds = 0; rounds < 20 && poll_for(hub, 0) == 0; rounds++) {
    }
    if (state == VELUM_CLAIM_UNKNOWN) {
        CHECK_EQ(event_count, 1);
        CHECK_EQ(events[0].u.frame.header.type, VELUM_F_CLAIMS);
        CHECK(events[0].u.frame.header.correlation == correlation);
        return;
    }
    CHECK_EQ(event_count, 0);
    header = raw_expect(fd, VELUM_F_CLAIMED, payload);
    CHECK(header.correlation == correlation);
    CHECK(velum_wire_get_claimed(payload, header.length, &states, &count) > 0);
    CHECK_EQ(count, expected);
    for (size_t i = 0; i < count; i++)
        CHECK_EQ(states[i], state);
}

static void test_claims(void) {
    static const struct {
        const char *name;
        velum_version version;
        velum_claimed state, buried;
    } cases[] = {
        {NAME_A, {100, 9}, VELUM_CLAIM_FAST, VELUM_CLAIM_OLD},
        {NAME_A, {99, 10}, VELUM_CLAIM_OLD, VELUM_CLAIM_OLD},
        {NAME_A, {100, 8}, VELUM_CLAIM_OLD, VELUM_CLAIM_OLD},
        {NAME_A, {100, 10}, VELUM_CLAIM_UNKNOWN, VELUM_CLAIM_OLD},
        {NAME_A, {101, 0}, VELUM_CLAIM_UNKNOWN, VELUM_CLAIM_OLD},
        {NAME_A, {150, 9}, VELUM_CLAIM_UNKNOWN, VELUM_CLAIM_UNKNOWN}, /* the tombstone's own */
        {"another", {100, 9}, VELUM_CLAIM_UNKNOWN, VELUM_CLAIM_UNKNOWN},
    };
    velum_hub *hub = open_naming();
    velum_handle link;
    velum_fd fd = raw_member(hub, 9, &link);
    raw_file(fd, 2, 100, "first");
    CHECK_EQ(poll_for(hub, 0), 0);
    expect_version(fd, 2, VELUM_NAMED_KEPT, VELUM_ENTRY_INLINE, 100);
    raw_claim(fd, 3, NAME_A, cases[0].version, VELUM_CLAIMS_MAX, VELUM_CLAIMS_MAX);
    expect_claimed(hub, fd, 3, VELUM_CLAIMS_MAX, VELUM_CLAIM_FAST);
    raw_claim(fd, 4, NAME_A, cases[0].version, VELUM_CLAIMS_MAX, VELUM_CLAIMS_MAX - 1);
    expect_claimed(hub, fd, 4, VELUM_CLAIMS_MAX, VELUM_CLAIM_UNKNOWN); /* for one of them */
    for (int buried = 0; buried < 2; buried++) {
        if (buried == 1) bury_name(150);
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            raw_claim(fd, i, cases[i].name, cases[i].version, 1, 1);
            expect_claimed(hub, fd, i, 1, buried == 1 ? cases[i].buried : cases[i].state);
        }
    }
    velum_port_close(fd);
    close_naming(hub);
}

/* Large manifests asked for without end by one who does not read. */
static void test_flood_of_questions(void) {
    enum { KEYS = 32000, ASKS = 100 };
    static uint8_t body[VELUM_MANIFEST_HEAD_BYTES + KEYS * VELUM_KEY_BYTES];
    static uint8_t got[VELUM_HEADER_BYTES + VELUM_FRAME_BYTES_MAX];
    velum_hub *hub = open_naming();
    velum_handle link, other_link;
    velum_fd fd, other;
    velum_named_version here;
    velum_entry e = make_entry(NAME_A, 100, VELUM_ENTRY_MANIFEST, "");
    body[0] = 1; /* chunks of one byte */
    body[4] = 2;
    e.size = KEYS;
    e.body = body;
    e.body_size = sizeof body;
    velum_names_set_room(names, 4u << 20);
    CHECK_EQ(velum_names_merge(names, &e, velum_port_unix_ms(), 1, &here), 1);
    fd = raw_member(hub, 9, &link);
    other = raw_member(hub, 10, &other_link);
    for (uint64_t i = 0; i < ASKS; i++)
        raw_ask(fd, i, VELUM_ASK_ENTRY, NAME_A);
    for (int rounds = 0; rounds < 10; rounds++) {
        raw_ask(other, 1, VELUM_ASK_VERSION, NAME_A);
        CHECK_EQ(poll_for(hub, 0), 0);
        expect_version(other, 1, VELUM_NAMED_HERE, VELUM_ENTRY_MANIFEST, 100);
        CHECK(velum_hub_unsent(hub, link) <= VELUM_SEND_QUEUE_BYTES);
    }
    for (uint64_t i = 0; i < ASKS; i++) {
        velum_header header = {0, 0, 0};
        velum_entry back;
        pump(hub, fd, got, VELUM_HEADER_BYTES);
        CHECK_EQ(velum_wire_header(got, VELUM_HEADER_BYTES, &header), VELUM_HEADER_BYTES);
        CHECK(header.type == VELUM_F_ENTRY && header.correlation == i);
        if (header.type != VELUM_F_ENTRY) break;
        pump(hub, fd, got, header.length);
        CHECK(velum_wire_get_entry(got, header.length, &back) > 0);
    }
    velum_port_close(fd);
    velum_port_close(other);
    close_naming(hub);
}

static void test_bad_frames(void) {
    static const uint8_t types[] = {VELUM_F_ENTRY, VELUM_F_ENTRY_ASK, VELUM_F_CLAIMS, VELUM_F_WANT};
    for (size_t i = 0; i < sizeof types; i++) {
        velum_hub *hub = open_naming();
        velum_handle link;
        velum_fd fd = raw_member(hub, 9, &link);
        raw_empty(fd, types[i], 1);
        expect_closed(hub, link, VELUM_E_PAYLOAD);
        raw_expect_bye(fd, VELUM_E_PAYLOAD);
        close_naming(hub);
    }
}

int main(void) {
    test_put_and_ask();
    test_correlation_0();
    test_refused();
    test_left_to_the_owner();
    test_no_names();
    test_claims();
    test_flood_of_questions();
    test_bad_frames();
    return check_report("hub_names");
}
