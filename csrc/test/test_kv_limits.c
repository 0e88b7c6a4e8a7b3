/* test_kv_limits.c: the key-value state when memory runs out, or its room.
 *
 * Its files are compiled into this program with an allocator that fails the n-th time, for every n:
 * the call says so and has changed nothing, and all that was taken is freed (the sanitizer looks).
 * The same for every size of the room.
 */
#include <stdlib.h>

static long failing_in; /* so many allocations succeed, the next one fails; negative: none does */

static void *scarce(void *memory) {
    if (failing_in-- != 0) return memory;
    free(memory);
    return NULL;
}

static void *scarce_again(void *memory, size_t n) {
    return failing_in-- != 0 ? realloc(memory, n) : NULL;
}

#define malloc(n)     scarce(malloc(n))
#define calloc(n, s)  scarce(calloc(n, s))
#define realloc(p, n) scarce_again(p, n)
#include "kv.c"
#include "kv_cells.c"
#include "kv_expiry.c"
#include "kv_keys.c"
#include "kv_tree.c"
#include "kv_view.c"
#include "kv_walk.c"
#undef malloc
#undef calloc
#undef realloc

#include "kv_world.h"

#define RECORDS  15u
#define ROOM_MAX 4000u
#define MANY     20000u

#define KEY_VALUE_BYTES 100u
#define KEY_BYTES       249u /* of a key with a name of 20 bytes and such a value, at most */

static void test_open(void) {
    for (long n = 0;; n++) {
        velum_kv *kv = NULL;
        int r;
        failing_in = n;
        r = velum_kv_open(&kv, 1000);
        failing_in = -1;
        if (r == 0) {
            CHECK(n >= 4);
            velum_kv_close(kv);
            return;
        }
        CHECK_EQ(r, VELUM_E_NOMEM);
        CHECK(kv == NULL);
    }
}

/* One key's life, from nothing to a longer value that hides its cells; and how keys come to expire.
 */
static void story(velum_kv_record r[RECORDS]) {
    r[0] = add(1, 1, "k", "first");
    r[1] = add(2, 2, "k", "second");
    r[2] = take_out(3, 1, "k", "first", at(1, 1));
    r[3] = fresh(4, 1, "k", 7, 4);
    r[4] = field(5, 1, "k", "f", "a value");
    r[5] = field(6, 1, "k", "f", "a value that is longer than the one before");
    r[6] = expire(7, 1, "k", 77);
    r[7] = set(4, 2, "k", "some bytes that are longer than what the key has had so far");
    r[8] = set(8, 1, "l", "another");
    r[9] = del(9, 1, "k");
    r[10] = expire(10, 1, "m", 88); /* of nothing yet */
    r[11] = add(11, 1, "m", "an element");
    r[12] = set(12, 1, "n", "bytes");
    r[12].until_ms = 99;
    r[13] = expire(13, 1, "o", 88);
    r[14] = set(12, 2, "o", ""); /* before it */
}

typedef struct {
    velum_kv_figures figures;
    uint64_t sum;
    size_t records;
    size_t expiring;
} picture;

static picture picture_of(const velum_kv *kv) {
    picture p = {velum_kv_get_figures(kv), root_sum(kv), records_in(kv),
                 velum_kv_expired(kv, UINT64_MAX)};
    return p;
}

static void check_unchanged(const velum_kv *kv, const picture *p) {
    picture now = picture_of(kv);
    CHECK(now.sum == p->sum);
    CHECK_EQ(now.records, p->records);
    CHECK_EQ(now.expiring, p->expiring);
    CHECK_EQ(now.figures.bytes, p->figures.bytes);
    CHECK_EQ(now.figures.keys, p->figures.keys);
    CHECK_EQ(now.figures.tombstones, p->figures.tombstones);
    CHECK(velum_kv_compare(now.figures.latest, p->figures.latest) == 0);
}

/* With each seed of `dice` the cells have other levels. */
static void test_merge_without_memory(uint64_t dice) {
    velum_kv *kv = open_kv(SIZE_MAX);
    velum_kv_record r[RECORDS];
    size_t failures = 0;
    story(r);
    kv->dice = dice;
    for (size_t i = 0; i < RECORDS; i++) {
        for (long n = 0;; n++) {
            picture before = picture_of(kv);
            int merged;
            failing_in = n;
            merged = velum_kv_merge(kv, &r[i]);
            failing_in = -1;
            if (merged == 1) break;
            CHECK_EQ(merged, VELUM_E_NOMEM);
            check_unchanged(kv, &before);
            failures++;
        }
    }
    CHECK(failures >= RECORDS - 2);
    velum_kv_close(kv);
}

/* In a room of any size: what is refused has changed nothing, and what is not is the same as in a
 * large one. A DEL of what is there always has room. */
static void test_merge_without_room(void) {
    for (size_t room = 0; room <= ROOM_MAX; room += 8) {
        velum_kv *kv = open_kv(room);
        velum_kv_record r[RECORDS];
        bool there = false;
        story(r);
        for (size_t i = 0; i < RECORDS; i++) {
            picture before = picture_of(kv);
            int merged = velum_kv_merge(kv, &r[i]);
            CHECK(velum_kv_get_figures(kv).bytes <= room);
            CHECK(merged == 1 || merged == VELUM_E_STATE_FULL);
            if (merged != 1) check_unchanged(kv, &before);
            if (r[i].op == VELUM_KV_DEL) CHECK(merged == 1 || !there);
            there = there || (merged == 1 && i < 8);
            if (room == ROOM_MAX) CHECK_EQ(merged, 1);
        }
        velum_kv_close(kv);
    }
}

/* Of every so many keys that expire one needs memory for more than itself. Without it nothing has
 * changed; once the keys have gone nothing is taken. */
static void test_expiry_without_memory(void) {
    velum_kv *kv = open_kv(SIZE_MAX);
    size_t failures = 0;
    char name[16];
    for (size_t i = 0; i < MANY; i++) {
        velum_kv_record r;
        size_t bytes;
        int merged;
        sprintf(name, "%zu", i);
        CHECK_EQ(merge(kv, set(i + 1, 1, name, "v")), 1);
        bytes = velum_kv_get_figures(kv).bytes;
        r = expire(i + 1, 2, name, i + 1);
        failing_in = (long)(failures % 2); /* the list of segments, or a segment */
        merged = velum_kv_merge(kv, &r);
        failing_in = -1;
        if (merged == 1) continue;
        CHECK_EQ(merged, VELUM_E_NOMEM);
        CHECK_EQ(velum_kv_get_figures(kv).bytes, bytes);
        CHECK_EQ(velum_kv_expired(kv, UINT64_MAX), i);
        CHECK_EQ(look(kv, name).until_ms, 0);
        CHECK_EQ(velum_kv_merge(kv, &r), 1);
        failures++;
    }
    CHECK(failures == (MANY + DUE_SEGMENT - 1) / DUE_SEGMENT && failures > 4);
    CHECK_EQ(velum_kv_expired(kv, UINT64_MAX), MANY);
    for (size_t i = 0; i < MANY; i++) {
        sprintf(name, "%zu", i);
        CHECK_EQ(merge(kv, del(i + 2, 3, name)), 1);
    }
    CHECK(kv->expiry.room <= 2 * DUE_SEGMENT);
    CHECK_EQ(tend_all(kv, 1, 1), MANY);
    CHECK_EQ(velum_kv_get_figures(kv).bytes, 0);
    velum_kv_close(kv);
}

/* A key that expires already needs no room to expire at another time, nor one that shows nothing;
 * and what has come too late is nothing. */
static void test_expiry_without_room(void) {
    velum_kv *kv = open_kv(SIZE_MAX);
    velum_kv_record r = set(1, 1, "k", "v");
    r.until_ms = 10;
    CHECK_EQ(velum_kv_merge(kv, &r), 1);
    CHECK_EQ(merge(kv, set(5, 1, "l", "v")), 1);
    CHECK_EQ(merge(kv, del(5, 1, "gone")), 1);
    kv->figures.room = kv->figures.bytes;
    r.stamp.time = 2;
    CHECK_EQ(velum_kv_merge(kv, &r), 1);
    CHECK_EQ(merge(kv, expire(3, 1, "k", 11)), 1);
    CHECK_EQ(merge(kv, expire(6, 1, "gone", 11)), 1);
    CHECK_EQ(merge(kv, expire(6, 1, "l", 11)), VELUM_E_STATE_FULL);
    CHECK_EQ(look(kv, "l").until_ms, 0);
    CHECK_EQ(merge(kv, expire(4, 1, "l", 11)), 0);
    r = set(4, 1, "l", "v");
    r.until_ms = 11;
    CHECK_EQ(velum_kv_merge(kv, &r), 0);
    CHECK_EQ(velum_kv_expired(kv, UINT64_MAX), 1);
    CHECK_EQ(merge(kv, expire(4, 1, "k", 0)), 1); /* this makes room for another */
    CHECK_EQ(merge(kv, expire(6, 1, "l", 11)), 1);
    CHECK_EQ(velum_kv_expired(kv, UINT64_MAX), 1);
    CHECK_EQ(kv->figures.bytes, kv->figures.room);
    velum_kv_close(kv);
}

/* What a million keys need is a million times this. */
static void test_bytes_of_a_key(void) {
    velum_kv *kv = open_kv(SIZE_MAX);
    char name[24], value[KEY_VALUE_BYTES + 1];
    memset(value, 'v', KEY_VALUE_BYTES);
    value[KEY_VALUE_BYTES] = 0;
    for (size_t i = 0; i < MANY; i++) {
        sprintf(name, "fleet/robot/%08zu", i); /* 20 bytes */
        CHECK_EQ(merge(kv, set(i + 1, 1, name, value)), 1);
    }
    CHECK(velum_kv_get_figures(kv).bytes / MANY <= KEY_BYTES);
    velum_kv_close(kv);
}

/* The table cannot grow: keys are found more slowly, and all of them are walked. */
static void test_table_without_memory(void) {
    velum_kv *kv = open_kv(SIZE_MAX);
    char name[16];
    for (size_t i = 0; i < MANY; i++) {
        velum_kv_record r;
        sprintf(name, "%zu", i);
        r = set(i + 1, 1, name, "v");
        failing_in = i >= MANY / 2 ? 1 : -1; /* the key itself, and nothing more */
        CHECK_EQ(velum_kv_merge(kv, &r), 1);
    }
    failing_in = -1;
    CHECK(kv->table.count < MANY);
    CHECK_EQ(records_in(kv), MANY);
    velum_kv_close(kv);
}

/* Two keys at one place of a walk are met together, and go together. */
static void test_keys_at_one_place(void) {
    velum_kv *kv = open_kv(SIZE_MAX);
    const char *names[4] = {"a", "b", "c", "d"};
    memset(kv->table.multipliers, 0, sizeof kv->table.multipliers); /* all have the hash 0 */
    for (size_t i = 0; i < 4; i++)
        CHECK_EQ(merge(kv, set(5, 1, names[i], names[i])), 1);
    for (size_t i = 0; i < 4; i++) {
        CHECK(is_text(look(kv, names[i]).value, names[i]));
        velum__find(kv, text(names[i]))->identity &= UINT64_C(0xffffffff00000000);
    }
    CHECK_EQ(records_in(kv), 4);
    for (size_t i = 0; i < 4; i++)
        CHECK_EQ(merge(kv, del(6, 1, names[i])), 1);
    CHECK_EQ(tend_all(kv, 1, 1), 4);
    CHECK_EQ(velum_kv_get_figures(kv).bytes, 0);
    velum_kv_close(kv);
}

int main(void) {
    failing_in = -1;
    test_open();
    for (uint64_t dice = 1; dice < 40; dice++)
        test_merge_without_memory(dice * UINT64_C(0x9e3779b97f4a7c15));
    test_merge_without_room();
    test_expiry_without_memory();
    test_expiry_without_room();
    test_bytes_of_a_key();
    test_table_without_memory();
    test_keys_at_one_place();
    return check_report("kv_limits");
}
