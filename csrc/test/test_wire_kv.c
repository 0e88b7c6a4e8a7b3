/* test_wire_kv.c: the frames of the key-value state: samples for the general properties of
 * wire_samples.h, what is refused, limits, and that fields arrive where they left.
 */
#include "wire_samples.h"

#define DATA(text) ((const uint8_t *)(text))

static uint8_t many[VELUM_KV_LEAVES_MAX * 4u];
static uint8_t large[VELUM_HEADER_BYTES + VELUM_KV_FRAME_BYTES_MAX + 1u];
static const uint8_t request[] = "*1\r\n$4\r\nPING\r\n";

static void fill(size_t count) {
    for (size_t i = 0; i < count; i++)
        velum_wire_put_kv_index(many, i, (uint32_t)i);
}

static int put_do(uint8_t durability) {
    velum_kv_do m = {durability, UINT32_MAX, request, sizeof request - 1};
    return velum_wire_put_kv_do(frame, sizeof frame, 1, &m);
}

static int put_done(uint8_t reached) {
    velum_kv_done m = {reached, DATA("+OK\r\n"), 5};
    return velum_wire_put_kv_done(frame, sizeof frame, UINT64_MAX, &m);
}

static int put_ask(uint8_t level, uint16_t count) {
    velum_kv_nodes m = {level, count, many};
    return velum_wire_put_kv_ask(frame, sizeof frame, 3, &m);
}

static int put_sums(uint8_t level, uint16_t count, uint32_t first) {
    static uint8_t items[VELUM_KV_SUM_BYTES * 3u];
    uint64_t sums[VELUM_KV_FANOUT];
    velum_kv_nodes m = {level, count, items};
    for (uint32_t i = 0; i < 3; i++) {
        for (uint32_t k = 0; k < VELUM_KV_FANOUT; k++)
            sums[k] = UINT64_MAX - i * 100 - k;
        velum_wire_put_kv_sum(items, i, first + i, sums);
    }
    return velum_wire_put_kv_sums(frame, sizeof frame, 4, &m);
}

static int put_leaves(size_t count) {
    return velum_wire_put_kv_leaves(frame, sizeof frame, 5, many, count);
}

static int put_watch(uint8_t flags, size_t size) {
    static const uint8_t pattern[VELUM_KV_KEY_BYTES_MAX + 1u] = "robot/*";
    velum_kv_watch_ask m = {flags, {pattern, size}};
    return velum_wire_put_kv_watch(frame, sizeof frame, 6, &m);
}

static int put_publish(size_t channel, size_t message) {
    velum_kv_published m = {{large, channel}, {large, message}};
    return velum_wire_put_kv_publish(frame, sizeof frame, 0, &m);
}

static int put_records(size_t size) {
    velum_kv_records m = {UINT64_C(1760000000000), large, (uint32_t)size};
    return velum_wire_put_kv_records(frame, sizeof frame, 7, &m);
}

static void samples_of_all(void) {
    velum_kv_end end = {UINT32_MAX, true};
    fill(VELUM_KV_LEAVES_MAX);
    keep(put_do(0));
    keep(put_do(4));
    keep(put_done(0));
    keep(put_done(4));
    keep(put_records(0));
    keep(put_records(20));
    keep(velum_wire_put_empty(frame, sizeof frame, VELUM_F_KV_HEARD, 9));
    keep(put_ask(0, 1));
    keep(put_ask(2, 3));
    keep(put_ask(3, 256));
    keep(put_sums(0, 1, 0));
    keep(put_sums(3, 3, 4093));
    keep(put_leaves(1));
    keep(put_leaves(20));
    keep(velum_wire_put_kv_end(frame, sizeof frame, 1, &end));
    keep(put_watch(VELUM_KV_WATCH_STATE, 7));
    keep(put_watch(VELUM_KV_WATCH_STOP, 0));
    keep(put_publish(4, 20));
    keep(put_publish(0, 0));
    velum_wire_put_header(frame, VELUM_F_KV_CHANGES, 12, 6);
    keep(VELUM_HEADER_BYTES + 12);
    velum_wire_put_header(frame, VELUM_F_KV_TALK, 3, 0);
    keep(VELUM_HEADER_BYTES + 3);
}

static void test_refusals(void) {
    velum_kv_do nothing = {0, 0, request, 0}, long_do = {0, 0, large, VELUM_KV_FRAME_BYTES_MAX - 4};
    velum_kv_done no_reply = {0, request, 0}, long_done = {0, large, VELUM_KV_FRAME_BYTES_MAX};
    REFUSED(put_do(5));
    REFUSED(put_do(UINT8_MAX));
    REFUSED(velum_wire_put_kv_do(frame, sizeof frame, 1, &nothing));
    REFUSED(velum_wire_put_kv_do(large, sizeof large, 1, &long_do));
    REFUSED(put_done(5));
    REFUSED(velum_wire_put_kv_done(frame, sizeof frame, 1, &no_reply));
    REFUSED(velum_wire_put_kv_done(large, sizeof large, 1, &long_done));
    REFUSED(put_records(VELUM_KV_FRAME_BYTES_MAX - 7));
    REFUSED(put_ask(4, 1));
    REFUSED(put_ask(0, 0));
    REFUSED(put_ask(0, 2)); /* there is one node at that level */
    REFUSED(put_ask(1, 17));
    REFUSED(put_ask(3, 257));
    REFUSED(put_sums(4, 1, 0));
    REFUSED(put_sums(3, 0, 0));
    REFUSED(put_sums(3, 3, 4094));
    REFUSED(put_leaves(0));
    REFUSED(put_leaves(VELUM_KV_LEAVES_MAX + 1));
    velum_wire_put_kv_index(many, 3, VELUM_KV_LEAVES);
    REFUSED(put_leaves(4));
    fill(VELUM_KV_LEAVES_MAX);
    REFUSED(put_watch(3, 1));
    REFUSED(put_watch(4, 1));
    REFUSED(put_watch(0, VELUM_KV_KEY_BYTES_MAX + 1));
    REFUSED(put_publish(UINT16_MAX + 1, 0));
    REFUSED(put_publish(0, VELUM_KV_MESSAGE_BYTES_MAX + 1));
    REFUSED(velum_wire_put_empty(frame, sizeof frame, VELUM_F_KV_TALK, 1));
}

static void test_malformed(void) {
    velum_kv_end end = {7, false};
    malformed(put_do(0), 0, 5, 1);
    malformed(put_done(0), 0, 5, 1);
    malformed(put_ask(1, 3), 0, 4, 1);
    malformed(put_ask(1, 3), 0, 0, 1); /* nodes 1 and 2 are not at level 0 */
    malformed(put_ask(1, 3), 1, 2, 2);
    malformed(put_ask(1, 3), 1, 4, 2);
    malformed(put_ask(1, 3), 1, 0, 2);
    malformed(put_ask(1, 3), 3, 16, 4);
    malformed(put_ask(3, 3), 11, 4096, 4);
    malformed(put_sums(3, 3, 0), 1, 2, 2);
    malformed(put_sums(3, 3, 0), 3 + 132, 4096, 4);
    malformed(put_leaves(3), 0, 2, 2);
    malformed(put_leaves(3), 0, UINT16_MAX, 2);
    malformed(put_leaves(3), 6, VELUM_KV_LEAVES, 4);
    malformed(velum_wire_put_kv_end(frame, sizeof frame, 1, &end), 4, 2, 1);
    malformed(put_watch(0, 7), 0, 3, 1);
    malformed(put_watch(0, 7), 1, 6, 2);
    malformed(put_watch(0, 7), 1, 8, 2);
    malformed(put_publish(4, 0), 0, 5, 2);
    malformed(put_publish(4, 0), 0, UINT16_MAX, 2);
}

static void test_largest(void) {
    velum_kv_do asked = {4, 1, large, VELUM_KV_FRAME_BYTES_MAX - 5};
    static uint8_t whole[sizeof large];
    recodes(frame, put_ask(3, VELUM_KV_ASK_MAX));
    recodes(frame, put_leaves(VELUM_KV_LEAVES_MAX));
    recodes(frame, put_watch(0, VELUM_KV_KEY_BYTES_MAX));
    recodes(whole, velum_wire_put_kv_do(whole, sizeof whole, 1, &asked));
    velum_kv_published m = {{large, UINT16_MAX}, {large, VELUM_KV_MESSAGE_BYTES_MAX}};
    recodes(whole, velum_wire_put_kv_publish(whole, sizeof whole, 1, &m));
    /* A message may be too long for its frame, in a frame that is not. */
    velum_header h = {VELUM_F_KV_PUBLISH, 2u + VELUM_KV_MESSAGE_BYTES_MAX + 1u, 0};
    memset(whole, 0, h.length);
    CHECK_EQ(recode_payload(&h, whole, out, sizeof out), VELUM_E_PAYLOAD);
}

static void test_fields(void) {
    uint64_t sums[VELUM_KV_FANOUT];
    velum_kv_do asked;
    velum_kv_done done;
    velum_kv_nodes nodes;
    velum_kv_records records;
    velum_kv_end end = {70000, true}, end_back = {0, false};
    velum_kv_watch_ask watch;
    velum_kv_published published;
    const uint8_t *leaves, *payload = frame + VELUM_HEADER_BYTES;
    size_t count;
    int n = put_do(3) - 16;
    CHECK_EQ(velum_wire_get_kv_do(payload, (size_t)n, &asked), n);
    CHECK(asked.durability == 3 && asked.timeout_ms == UINT32_MAX && asked.size == 14);
    CHECK(asked.request == payload + 5 && memcmp(asked.request, request, 14) == 0);
    n = put_done(2) - 16;
    CHECK_EQ(velum_wire_get_kv_done(payload, (size_t)n, &done), n);
    CHECK(done.reached == 2 && done.size == 5 && memcmp(done.reply, "+OK\r\n", 5) == 0);
    n = put_records(9) - 16;
    CHECK_EQ(velum_wire_get_kv_records(payload, (size_t)n, &records), n);
    CHECK(records.unix_ms == UINT64_C(1760000000000) && records.size == 9);
    n = put_sums(3, 3, 100) - 16;
    CHECK_EQ(velum_wire_get_kv_sums(payload, (size_t)n, &nodes), n);
    CHECK(nodes.level == 3 && nodes.count == 3);
    CHECK_EQ(velum_wire_kv_sum(nodes.items, 2, sums), 102);
    CHECK(sums[0] == UINT64_MAX - 200 && sums[15] == UINT64_MAX - 215);
    n = put_leaves(3) - 16;
    CHECK_EQ(velum_wire_get_kv_leaves(payload, (size_t)n, &leaves, &count), n);
    CHECK(count == 3 && velum_wire_kv_index(leaves, 2) == 2);
    n = velum_wire_put_kv_end(frame, sizeof frame, 1, &end) - 16;
    CHECK_EQ(velum_wire_get_kv_end(payload, (size_t)n, &end_back), n);
    CHECK(end_back.records == 70000 && end_back.whole);
    n = put_watch(VELUM_KV_WATCH_STATE, 7) - 16;
    CHECK_EQ(velum_wire_get_kv_watch(payload, (size_t)n, &watch), n);
    CHECK(watch.flags == 1 && watch.pattern.size == 7);
    CHECK(memcmp(watch.pattern.data, "robot/*", 7) == 0);
    n = put_publish(4, 6) - 16;
    CHECK_EQ(velum_wire_get_kv_publish(payload, (size_t)n, &published), n);
    CHECK(published.channel.size == 4 && published.message.size == 6);
    CHECK(published.message.data == published.channel.data + 4);
}

int main(void) {
    for (size_t i = 0; i < sizeof large; i++)
        large[i] = (uint8_t)(i * 7);
    samples_of_all();
    check_samples();
    test_refusals();
    test_malformed();
    test_largest();
    test_fields();
    return check_report("test_wire_kv");
}
