/* test_kv_state.c: a node's clock, and what has expired, on the test port's disk. */
#include "kv_state.h"
#include "kv_world.h"
#include "port/test/file_test.h"
#include "velum_opt.h"

#define PATH     "logs/state.log"
#define NODE     7u
#define ROOM     ((size_t)16 * 1024 * 1024)
#define START_MS UINT64_C(1790000000000)
#define KEYS     1000u

static uint64_t now_ms;
static velum_kv_state *kv;
static size_t writes;
static velum_kv_record last; /* that was written; its bytes are not to be read */

static uint64_t clock_ms(void *owner) {
    (void)owner;
    return now_ms;
}

static void wrote(void *owner, const velum_kv_record *record, bool own_one) {
    (void)owner;
    (void)own_one;
    last = *record;
    writes++;
}

static void open_state(const char *path) {
    velum_kv_config config = {.node = NODE,
                              .room_bytes = ROOM,
                              .waker = VELUM_NO_FD,
                              .wrote = wrote,
                              .unix_ms = clock_ms};
    velum_kv_found found;
    CHECK_EQ(velum_kv_state_open(&kv, &config, path, &found), 0);
    writes = 0;
}

static void start(const char *path) {
    velum_test_disk_reset();
    now_ms = START_MS;
    open_state(path);
}

static void stop(void) {
    velum_kv_state_close(kv);
    kv = NULL;
}

static velum_kv_stamp put(velum_kv_record r) {
    r.stamp = at(0, 0);
    CHECK_EQ(velum_kv_state_write(kv, &r, NULL), 1);
    return r.stamp;
}

static velum_kv_stamp put_until(const char *key, uint64_t until_ms) {
    velum_kv_record r = set(0, 0, key, "v");
    r.until_ms = until_ms;
    return put(r);
}

static velum_kv_type type_of(const char *key) {
    velum_kv_view view;
    return velum_kv_state_look(kv, text(key), &view);
}

/* ---- the clock ---- */

static void test_stamps_are_even(void) {
    velum_kv_stamp before, now;
    velum_kv_record heard;
    start(NULL);
    before = put(set(0, 0, "k", "v"));
    CHECK(before.time == START_MS << 16 && before.node == NODE);
    for (uint64_t i = 1; i < 20; i++) { /* odd ones, even ones, and a clock that goes back */
        now_ms = START_MS - 10 * i;
        heard = del(before.time + i, 9, "other");
        CHECK_EQ(velum_kv_state_hear(kv, &heard), 1);
        now = put(set(0, 0, "k", "v"));
        CHECK(now.time % 2 == 0 && now.time > before.time + i && now.time <= before.time + i + 2);
        before = now;
    }
    now_ms = START_MS + 1;
    CHECK_EQ(put(set(0, 0, "k", "v")).time, now_ms << 16);
    heard = set((now_ms + VELUM_KV_AHEAD_MS + 1) << 16, 9, "k", "v");
    CHECK_EQ(velum_kv_state_hear(kv, &heard), VELUM_E_VERSION_AHEAD);
    CHECK_EQ(put(set(0, 0, "k", "v")).time, (now_ms << 16) + 2);
    stop();
}

/* What the log says counts, whatever the clock says now; and what its end may have said, which was
 * lost. */
static void test_clock_after_restart(void) {
    velum_kv_stamp before, now;
    start(PATH);
    put_until("k", now_ms + 1);
    now_ms += 1;
    CHECK_EQ(type_of("k"), VELUM_KV_NOTHING); /* by a DEL with an odd stamp */
    before = last.stamp;
    CHECK(before.time % 2 == 1);
    stop();
    now_ms = START_MS - 1000;
    open_state(PATH);
    now = put(set(0, 0, "k", "again"));
    CHECK(now.time % 2 == 0 && now.time > before.time + (UINT64_C(60000) << 16));
    CHECK_EQ(type_of("k"), VELUM_KV_BYTES);
    stop();
    now_ms = (now.time >> 16) + 1;
    open_state(PATH);
    CHECK_EQ(put(set(0, 0, "k", "once more")).time, now_ms << 16); /* the clock is ahead again */
    stop();
}

static void test_fresh_counts(void) {
    velum_kv_record r;
    velum_kv_stamp first, set_at;
    start(NULL);
    r = own(velum_kv_state_keys(kv), "k", NODE);
    r.sum += 5;
    first = put(r);
    r = own(velum_kv_state_keys(kv), "k", NODE);
    CHECK(goes_on(r, 5, true, first));
    r.sum += 5;
    put(r);
    CHECK_EQ(look(velum_kv_state_keys(kv), "k").sum, 10);
    CHECK(velum_kv_compare(last.of, first) == 0 && velum_kv_compare(last.stamp, first) > 0);
    set_at = put(set(0, 0, "k", "1"));
    CHECK(goes_on(own(velum_kv_state_keys(kv), "k", NODE), 0, false, set_at));
    put(del(0, 0, "k"));
    CHECK(goes_on(own(velum_kv_state_keys(kv), "k", NODE), 0, true, at(0, 0)));
    stop();
}

/* ---- what has expired ---- */

/* All nodes make the same DEL, and who writes on in that very millisecond is later than it. */
static void test_one_del(void) {
    velum_kv_record r;
    velum_kv_stamp said;
    start(NULL);
    said = put_until("k", now_ms + 5);
    now_ms += 4;
    CHECK_EQ(type_of("k"), VELUM_KV_BYTES);
    now_ms += 1;
    CHECK_EQ(type_of("k"), VELUM_KV_NOTHING);
    CHECK(last.op == VELUM_KV_DEL && is_at(last.stamp, said.time | 1, said.node));
    CHECK_EQ(writes, 2);
    CHECK_EQ(type_of("k"), VELUM_KV_NOTHING);
    CHECK_EQ(writes, 2);
    put(add(0, 0, "s", "e"));
    said = put(expire(0, 0, "s", now_ms)); /* at once */
    CHECK_EQ(type_of("s"), VELUM_KV_NOTHING);
    CHECK(is_at(last.stamp, said.time + 1, NODE));
    put(add(0, 0, "s", "e"));
    CHECK_EQ(type_of("s"), VELUM_KV_MEMBERS);
    r = set(((START_MS + 1) << 16) + 1, 9, "odd", "v"); /* no clock has made this */
    r.until_ms = 1;
    CHECK_EQ(velum_kv_state_hear(kv, &r), 1);
    CHECK_EQ(type_of("odd"), VELUM_KV_NOTHING);
    CHECK(velum_kv_compare(last.stamp, r.stamp) == 0);
    CHECK_EQ(velum_kv_state_count(kv), 1);
    stop();
}

static const char *name_of(size_t i) {
    static char name[16];
    sprintf(name, "key %zu", i);
    return name;
}

/* Passes all that is to be passed, in pieces; how many DELs that made. */
static size_t expire_all(void) {
    size_t before = writes, pieces = 0;
    while (velum_kv_state_expire(kv, 7))
        CHECK(pieces++ < 3 * KEYS);
    return writes - before;
}

/* A tenth of the keys each second, another tenth never; and others that come in between. */
static void test_expiring(void) {
    start(NULL);
    CHECK(!velum_kv_state_expire(kv, 1));
    for (size_t i = 0; i < KEYS; i++)
        put_until(name_of(i), i % 10 == 0 ? 0 : START_MS + i % 10 * 1000);
    now_ms = START_MS + 999;
    CHECK(!velum_kv_state_expire(kv, 1)); /* nothing has expired */
    for (size_t second = 1; second < 9; second++) {
        now_ms = START_MS + second * 1000;
        CHECK_EQ(expire_all(), KEYS / 10);
        CHECK_EQ(velum_kv_get_figures(velum_kv_state_keys(kv)).keys, KEYS - second * KEYS / 10);
        CHECK(!velum_kv_state_expire(kv, 1));
    }
    now_ms = START_MS + 9000;
    writes = 0;
    CHECK(velum_kv_state_expire(kv, KEYS / 20)); /* half of what has expired */
    CHECK_EQ(writes, KEYS / 20);
    CHECK(!velum_kv_state_expire(kv, KEYS / 20)); /* so many are left, and no more */
    CHECK_EQ(writes, KEYS / 10);
    for (size_t i = 1; i < KEYS; i += 10)
        put_until(name_of(i), now_ms + 5);
    now_ms += 5;
    writes = 0;
    CHECK_EQ(expire_all(), KEYS / 10);
    CHECK_EQ(velum_kv_get_figures(velum_kv_state_keys(kv)).keys, KEYS / 10);
    CHECK(!velum_kv_state_expire(kv, 1));
    now_ms *= 2;
    CHECK(!velum_kv_state_expire(kv, 1));
    stop();
}

static void tell_key(void *owner, velum_kv_bytes key, velum_kv_type type, uint64_t until_ms) {
    (void)key;
    CHECK_EQ(type, VELUM_KV_BYTES);
    CHECK(until_ms == 0 || until_ms > now_ms);
    ++*(size_t *)owner;
}

static void test_count(void) {
    size_t seen = 0;
    velum_kv_walk walk = {0};
    start(NULL);
    for (size_t i = 0; i < KEYS; i++)
        put_until(name_of(i), i % 5 == 0 ? 0 : START_MS + 1 + i % 5);
    CHECK_EQ(velum_kv_state_count(kv), KEYS);
    now_ms += 3;
    while (velum_kv_keys(velum_kv_state_keys(kv), &walk, 9, now_ms, tell_key, &seen)) {
    }
    CHECK_EQ(seen, KEYS / 5 * 3);
    CHECK_EQ(velum_kv_state_count(kv), KEYS / 5 * 3);
    CHECK_EQ(velum_kv_get_figures(velum_kv_state_keys(kv)).keys, KEYS / 5 * 3);
    now_ms += 1;
    CHECK(velum_kv_state_expire(kv, KEYS / 10)); /* also half-way */
    now_ms += 1;
    CHECK_EQ(velum_kv_state_count(kv), KEYS / 5);
    CHECK(!velum_kv_state_expire(kv, 1));
    stop();
}

/* While the log takes nothing what has expired is gone all the same; then its DEL is made. */
static void test_count_without_log(void) {
    velum_kv_view view;
    start(PATH);
    put_until("k", now_ms + 1);
    put_until("l", now_ms + 2);
    put_until("m", 0);
    CHECK_EQ(velum_kv_log_write(velum_kv_state_log(kv)), 0);
    velum_test_disk_space(0);
    put_until("n", 0);
    CHECK_EQ(velum_kv_log_write(velum_kv_state_log(kv)), VELUM_E_NO_SPACE);
    now_ms += 2;
    CHECK_EQ(velum_kv_state_look(kv, text("k"), &view), VELUM_KV_NOTHING);
    CHECK(view.type == VELUM_KV_NOTHING && view.value.data == NULL && view.until_ms == 0);
    CHECK_EQ(velum_kv_state_count(kv), 2);
    CHECK_EQ(velum_kv_state_count(kv), 2);
    CHECK_EQ(expire_all(), 0);
    velum_test_disk_space(UINT64_MAX);
    CHECK_EQ(velum_kv_log_write(velum_kv_state_log(kv)), 0);
    CHECK_EQ(expire_all(), 2);
    CHECK_EQ(velum_kv_state_count(kv), 2);
    stop();
    open_state(PATH);
    CHECK_EQ(velum_kv_state_count(kv), 2);
    CHECK_EQ(writes, 0);
    stop();
}

/* The same with many: nothing is tried again and again, and nothing is forgotten. */
static void test_many_without_log(void) {
    size_t before;
    start(PATH);
    for (size_t i = 0; i < KEYS; i++)
        put_until(name_of(i), i % 2 == 0 ? 0 : now_ms + 1 + i);
    CHECK_EQ(velum_kv_log_write(velum_kv_state_log(kv)), 0);
    velum_test_disk_space(0);
    put_until("more", 0);
    CHECK_EQ(velum_kv_log_write(velum_kv_state_log(kv)), VELUM_E_NO_SPACE);
    now_ms += KEYS / 2;
    before = writes;
    CHECK(!velum_kv_state_expire(kv, 1));
    CHECK(!velum_kv_state_expire(kv, KEYS));
    CHECK_EQ(velum_kv_state_count(kv), KEYS / 4 * 3 + 1);
    now_ms += KEYS;
    CHECK_EQ(velum_kv_state_count(kv), KEYS / 2 + 1);
    CHECK_EQ(velum_kv_get_figures(velum_kv_state_keys(kv)).keys, KEYS + 1);
    CHECK_EQ(writes, before);
    velum_test_disk_space(UINT64_MAX);
    CHECK_EQ(velum_kv_log_write(velum_kv_state_log(kv)), 0);
    CHECK(velum_kv_state_expire(kv, KEYS / 2 - 1));
    CHECK(!velum_kv_state_expire(kv, 1));
    CHECK_EQ(writes - before, KEYS / 2);
    CHECK_EQ(velum_kv_state_count(kv), KEYS / 2 + 1);
    stop();
}

/* Times of expiry that the log has are known. */
static void test_expiry_after_restart(void) {
    start(PATH);
    put_until("k", now_ms + 5);
    stop();
    now_ms += 5;
    open_state(PATH);
    CHECK_EQ(velum_kv_state_count(kv), 0);
    CHECK_EQ(writes, 1);
    stop();
}

int main(void) {
    test_stamps_are_even();
    test_clock_after_restart();
    test_fresh_counts();
    test_one_del();
    test_expiring();
    test_count();
    test_count_without_log();
    test_many_without_log();
    test_expiry_after_restart();
    velum_test_disk_reset();
    return check_report("kv_state");
}
