/* test_kv_expiry.c: which keys expire, and in what order, against a walk over all of them.
 *
 * Random records, some late, some twice, and tombstones that are settled and dropped; after each
 * step the heap is one, has what is to expire and nothing else, and says what a walk says. The same
 * with a node's state, whose clock goes on and whose log is full at times. A seed may be given; one
 * that fails is printed. */
#include "kv_internal.h"
#include "kv_state.h"
#include "kv_world.h"
#include "port/test/file_test.h"
#include "velum_opt.h"

#define SEEDS     4u
#define FEW       40u
#define STEPS     30000u
#define MANY      12000u /* several segments of entries */
#define TIMES_MAX 1000u
#define NODES     3u
#define AGES      5u

#define PATH     "logs/expiry.log"
#define START_MS UINT64_C(1790000000000)
#define MILLION  1000000u

static uint64_t state;

static uint32_t rnd(uint32_t below) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 33) % below;
}

static const char *name_of(size_t i) {
    static char name[32];
    sprintf(name, "key %zu", i);
    return name;
}

/* Of many sizes, so that keys move in memory. */
static velum_kv_bytes some_value(void) {
    static char value[400];
    memset(value, '7', sizeof value);
    return (velum_kv_bytes){(const uint8_t *)value, rnd(2) == 0 ? rnd(8) : rnd(sizeof value)};
}

/* ---- the model: a walk ---- */

typedef struct {
    uint64_t now_ms;
    size_t keys, expiring, expired;
    uint64_t soonest;
} walked;

static void pass_key(void *owner, velum_kv_bytes key, velum_kv_type type, uint64_t until_ms) {
    walked *w = owner;
    (void)key;
    (void)type;
    w->keys++;
    if (until_ms == 0) return;
    w->expiring++;
    w->expired += until_ms <= w->now_ms;
    if (w->soonest == 0 || until_ms < w->soonest) w->soonest = until_ms;
}

static walked walk_all(const velum_kv *kv, uint64_t now_ms) {
    walked w = {.now_ms = now_ms};
    velum_kv_walk walk = {0};
    while (velum_kv_keys(kv, &walk, 100, 0, pass_key, &w))
        continue;
    return w;
}

/* Every entry is right by itself, and none is later than what is below it. */
static void check_heap(const velum_kv *kv) {
    const velum__expiry *e = &kv->expiry;
    size_t wrong = 0, in_segment = 2048;
    for (size_t i = 0; i < e->count; i++) {
        velum__due due = e->segments[i / in_segment][i % in_segment];
        size_t above = i > 0 ? (i - 1) / 4 : 0;
        wrong += due.key->due_at != i + 1 || due.until_ms != velum__ends_at(due.key);
        wrong += velum__type(due.key) == VELUM_KV_NOTHING || due.until_ms == 0;
        wrong += e->segments[above / in_segment][above % in_segment].until_ms > due.until_ms;
    }
    CHECK_EQ(wrong, 0);
    CHECK(e->room >= e->count && e->room - e->count < 2 * in_segment + 1);
}

static void check_expiry(const velum_kv *kv, uint64_t now_ms) {
    walked w = walk_all(kv, now_ms);
    velum_kv_due due;
    velum_kv_view view;
    check_heap(kv);
    CHECK_EQ(kv->expiry.count, w.expiring);
    CHECK_EQ(velum_kv_expired(kv, now_ms), w.expired);
    CHECK_EQ(velum_kv_get_figures(kv).keys, w.keys);
    CHECK_EQ(velum_kv_soonest(kv, &due), w.expiring > 0);
    if (w.expiring == 0) return;
    CHECK_EQ(due.until_ms, w.soonest);
    CHECK(velum_kv_look(kv, due.key, &view) != VELUM_KV_NOTHING);
    CHECK_EQ(view.until_ms, w.soonest);
    CHECK(velum_kv_compare(view.expiry, due.expiry) == 0);
}

/* ---- records ---- */

/* Some are about what has been there never, or is over. */
static velum_kv_record some_record(size_t keys, uint32_t times_max) {
    static const velum_kv_op ops[16] = {
        VELUM_KV_SET,    VELUM_KV_SET,   VELUM_KV_SET,    VELUM_KV_SET,
        VELUM_KV_DEL,    VELUM_KV_DEL,   VELUM_KV_EXPIRE, VELUM_KV_EXPIRE,
        VELUM_KV_EXPIRE, VELUM_KV_ADD,   VELUM_KV_ADD,    VELUM_KV_REMOVE,
        VELUM_KV_REMOVE, VELUM_KV_COUNT, VELUM_KV_FIELD,  VELUM_KV_UNFIELD};
    velum_kv_op op = ops[rnd(16)];
    velum_kv_record r =
        record_of(op, 1 + rnd(times_max), (uint16_t)(1 + rnd(NODES)), name_of(rnd((uint32_t)keys)));
    if (op == VELUM_KV_SET || op == VELUM_KV_FIELD) r.value = some_value();
    if (op >= VELUM_KV_ADD) r.part = text(rnd(2) == 0 ? "a" : "b");
    if (op == VELUM_KV_REMOVE) r.of = at(1 + rnd((uint32_t)r.stamp.time), r.stamp.node);
    if (op == VELUM_KV_COUNT) {
        r.sum = rnd(100);
        r.fresh = rnd(2) == 0;
        r.of = at(1 + rnd((uint32_t)r.stamp.time), r.stamp.node);
    }
    if ((op == VELUM_KV_SET && rnd(2) == 0) || (op == VELUM_KV_EXPIRE && rnd(4) > 0))
        r.until_ms = 1 + rnd(TIMES_MAX);
    return r;
}

/* Stamps that go on while some come late: so there is something to merge to the end. */
static void run_records(size_t keys, size_t steps, size_t check_each) {
    velum_kv *kv = open_kv(SIZE_MAX);
    size_t most = 0;
    for (size_t i = 0; i < steps; i++) {
        velum_kv_record r = some_record(keys, 100 + (uint32_t)i / 4);
        if (rnd(100) == 0) velum_kv_mark(kv, 1 + (uint32_t)(i * AGES / steps));
        CHECK(velum_kv_merge(kv, &r) >= 0);
        if (rnd(4) == 0) CHECK_EQ(velum_kv_merge(kv, &r), 0);
        if (rnd((uint32_t)keys) == 0) tend_all(kv, rnd(AGES), rnd(AGES));
        if (i % check_each == 0) check_expiry(kv, rnd(TIMES_MAX));
        if (kv->expiry.count > most) most = kv->expiry.count;
    }
    check_expiry(kv, TIMES_MAX);
    CHECK(most > keys / 8);
    for (size_t i = 0; i < keys; i++) {
        velum_kv_record gone = del(steps, NODES + 1, name_of(i));
        CHECK_EQ(velum_kv_merge(kv, &gone), 1);
        if (i % check_each == 0) check_expiry(kv, TIMES_MAX);
    }
    tend_all(kv, AGES, AGES);
    CHECK(kv->expiry.count == 0 && velum_kv_get_figures(kv).bytes == 0);
    velum_kv_close(kv);
}

/* ---- a node's state ---- */

static uint64_t now_ms;
static velum_kv_state *node;
static size_t dels;

static uint64_t clock_ms(void *owner) {
    (void)owner;
    return now_ms;
}

static void wrote(void *owner, const velum_kv_record *record, bool own_one) {
    (void)owner;
    (void)own_one;
    CHECK(record->key.size > 0 && record->key.data[0] == 'k'); /* it is there to be read */
    dels += record->op == VELUM_KV_DEL && record->stamp.time % 2 == 1;
}

static void open_state(const char *path) {
    velum_kv_config config = {.node = 1,
                              .room_bytes = SIZE_MAX,
                              .waker = VELUM_NO_FD,
                              .wrote = wrote,
                              .unix_ms = clock_ms};
    velum_kv_found found;
    CHECK_EQ(velum_kv_state_open(&node, &config, path, &found), 0);
}

static void write_something(void) {
    velum_kv_record r = some_record(FEW, 1);
    r.stamp = at(0, 0);
    if (r.op == VELUM_KV_REMOVE) r.op = VELUM_KV_ADD;
    r.of = at(0, 0);
    if (r.op == VELUM_KV_COUNT) r.fresh = true;
    if (r.until_ms != 0) r.until_ms = now_ms + rnd(50);
    int written = velum_kv_state_write(node, &r, NULL);
    CHECK(written >= 0 || written == VELUM_E_NO_SPACE);
}

/* Ends up to `max`, the soonest first. */
static void end_some(size_t max, bool full) {
    const velum_kv *kv = velum_kv_state_keys(node);
    walked before = walk_all(kv, now_ms), now;
    size_t made = dels, ends = before.expired < max ? before.expired : max;
    if (full) ends = 0;
    CHECK_EQ(velum_kv_state_expire(node, max), !full && before.expired > ends);
    now = walk_all(kv, now_ms);
    CHECK_EQ(dels - made, ends);
    CHECK_EQ(before.expired - now.expired, ends);
    CHECK(ends == 0 || now.soonest == 0 || now.soonest >= before.soonest);
}

static void look_at_one(void) {
    const char *name = name_of(rnd(FEW));
    velum_kv_view before = look(velum_kv_state_keys(node), name), view;
    bool there = before.type != VELUM_KV_NOTHING && before.until_ms != 0;
    bool over = there && before.until_ms <= now_ms;
    velum_kv_type type = velum_kv_state_look(node, text(name), &view);
    CHECK(over ? view.until_ms == 0 || view.until_ms > now_ms : type == before.type);
}

static void run_state(void) {
    bool full = false;
    velum_test_disk_reset();
    now_ms = START_MS;
    dels = 0;
    open_state(PATH);
    for (size_t i = 0; i < STEPS / 4; i++) {
        const velum_kv *kv = velum_kv_state_keys(node);
        now_ms += rnd(4);
        write_something();
        if (rnd(3) == 0) end_some(1 + rnd(3), full);
        if (rnd(3) == 0) look_at_one();
        check_expiry(kv, now_ms);
        if (rnd(40) == 0) {
            size_t expired = velum_kv_expired(kv, now_ms), count = velum_kv_state_count(node);
            walked w = walk_all(kv, now_ms);
            CHECK_EQ(count, w.keys - w.expired);
            CHECK_EQ(w.expired, full ? expired : 0);
        }
        if (rnd(40) == 0) { /* the disk is full for a while */
            velum_test_disk_space(rnd(2) == 0 ? 0 : UINT64_MAX);
            write_something();
            full = velum_kv_log_write(velum_kv_state_log(node)) == VELUM_E_NO_SPACE;
        }
    }
    CHECK(dels > STEPS / 80);
    velum_test_disk_space(UINT64_MAX);
    velum_kv_state_close(node);
    open_state(PATH); /* what the log has expires as well */
    check_expiry(velum_kv_state_keys(node), now_ms);
    velum_kv_state_close(node);
}

/* ---- among many ---- */

/* Of a million keys half expire some day, and a thousand have: one call that may end so many ends
 * these, and so it passes no others. */
static void test_a_thousand_of_a_million(void) {
    velum_kv_due due;
    now_ms = START_MS;
    open_state(NULL);
    for (size_t i = 0; i < MILLION; i++) {
        velum_kv_record r = set(0, 0, name_of(i), "");
        if (i % 1000 == 0) r.until_ms = START_MS + 1;
        if (i % 1000 != 0 && i % 2 == 0) r.until_ms = START_MS + 1000 + i;
        CHECK_EQ(velum_kv_state_write(node, &r, NULL), 1);
    }
    CHECK(!velum_kv_state_expire(node, 1000));
    now_ms = START_MS + 1;
    dels = 0;
    CHECK(!velum_kv_state_expire(node, 1000));
    CHECK_EQ(dels, 1000);
    CHECK_EQ(velum_kv_state_count(node), MILLION - 1000);
    CHECK(velum_kv_soonest(velum_kv_state_keys(node), &due) && due.until_ms == START_MS + 1002);
    now_ms = START_MS + 2 * MILLION;
    CHECK(velum_kv_state_expire(node, 1000));
    CHECK_EQ(dels, 2000);
    velum_kv_state_close(node);
}

int main(int argc, char **argv) {
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    for (uint64_t round = 0; round < (argc > 1 ? 1 : SEEDS); round++) {
        int failed_before = check_failed_count;
        state = (seed + round) * UINT64_C(0x9e3779b97f4a7c15) + 1;
        run_records(FEW, STEPS, 1);
        run_records(MANY, 4 * MANY, 1000);
        run_state();
        if (check_failed_count != failed_before)
            printf("seed %llu\n", (unsigned long long)(seed + round));
    }
    test_a_thousand_of_a_million();
    velum_test_disk_reset();
    return check_report("kv_expiry");
}
