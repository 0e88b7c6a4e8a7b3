/* test_kv_tend.c: tombstones of different ages, settled and dropped. */
#include "kv_world.h"

static void check_figures(const velum_kv *kv, size_t tombstones, size_t settled) {
    CHECK_EQ(velum_kv_get_figures(kv).tombstones, tombstones);
    CHECK_EQ(velum_kv_get_figures(kv).settled, settled);
}

/* How many records the leaves have: what is in the sums. */
static size_t records_sent(const velum_kv *kv) {
    size_t n = 0;
    for (uint32_t leaf = 0; leaf < VELUM_KV_LEAVES; leaf++)
        if (velum_kv_leaf(kv, leaf, count_record, &n) != 0) abort();
    return n;
}

/* A DEL, a REMOVE and an UNFIELD, with an age each. */
static void test_tending(void) {
    velum_kv *kv = open_kv(SIZE_MAX);
    uint64_t sum;
    CHECK_EQ(tend_all(kv, 9, 9), 0);
    CHECK_EQ(merge(kv, add(5, 1, "k", "y")), 1);
    sum = root_sum(kv);
    CHECK_EQ(merge(kv, add(5, 1, "k", "x")), 1);
    CHECK_EQ(merge(kv, del(4, 1, "k")), 1);
    velum_kv_mark(kv, 2);
    CHECK_EQ(merge(kv, take_out(6, 2, "k", "x", at(5, 1))), 1);
    velum_kv_mark(kv, 3);
    CHECK_EQ(merge(kv, unfield(8, 1, "k", "f")), 1);
    CHECK_EQ(tend_all(kv, 0, 0), 0);
    CHECK_EQ(tend_all(kv, 0, 9), 0);
    check_figures(kv, 3, 0);
    CHECK_EQ(tend_all(kv, 1, 0), 1);
    check_figures(kv, 3, 1);
    CHECK_EQ(records_sent(kv), 3);
    CHECK_EQ(tend_all(kv, 1, 3), 1); /* only what is settled is dropped */
    check_figures(kv, 2, 0);
    CHECK(look(kv, "k").base.node == 0 && parts_are(kv, "k", "y=;"));
    CHECK_EQ(tend_all(kv, 3, 0), 2);
    CHECK_EQ(tend_all(kv, 3, 0), 0);
    check_figures(kv, 2, 2);
    CHECK_EQ(records_sent(kv), 1);
    CHECK_EQ(records_in(kv), 3);
    CHECK(root_sum(kv) == sum);
    CHECK_EQ(tend_all(kv, 0, 2), 1);
    CHECK_EQ(tend_all(kv, 0, 3), 1);
    check_figures(kv, 0, 0);
    CHECK(root_sum(kv) == sum && parts_are(kv, "k", "y=;"));
    CHECK_EQ(records_in(kv), 1);
    velum_kv_close(kv);
}

static void give(void *owner, const velum_kv_record *record) {
    CHECK(velum_kv_merge(owner, record) >= 0);
}

/* All that one has comes to the other. */
static void copy_all(const velum_kv *from, velum_kv *to) {
    velum_kv_walk walk = {0};
    while (velum_kv_step(from, &walk, SIZE_MAX, give, to))
        continue;
}

static void check_recalled(const velum_kv *kv, uint64_t recalled) {
    CHECK(velum_kv_get_figures(kv).recalled == recalled);
}

/* What a settled tombstone hides comes late: somebody does not have it. It is in the sums again,
 * and as young as what comes now. */
static void test_recalling(void) {
    velum_kv *kv = open_kv(SIZE_MAX), *late = open_kv(SIZE_MAX);
    uint64_t sum;
    CHECK_EQ(merge(kv, del(6, 1, "gone")), 1);
    CHECK_EQ(merge(kv, take_out(6, 2, "k", "x", at(5, 1))), 1);
    CHECK_EQ(merge(kv, unfield(8, 1, "k", "f")), 1);
    CHECK_EQ(merge(kv, expire(9, 1, "idle", 77)), 1);
    sum = root_sum(kv);
    CHECK_EQ(tend_all(kv, 1, 0), 3);
    CHECK_EQ(records_sent(kv), 0);
    velum_kv_mark(kv, 4);
    CHECK_EQ(merge(kv, del(6, 1, "gone")), 0); /* these are what is here */
    CHECK_EQ(merge(kv, take_out(6, 2, "k", "x", at(5, 1))), 0);
    CHECK_EQ(merge(kv, unfield(8, 1, "k", "f")), 0);
    CHECK_EQ(merge(kv, expire(9, 1, "idle", 77)), 0);
    check_recalled(kv, 0);
    CHECK_EQ(merge(late, set(5, 3, "gone", "v")), 1);
    CHECK_EQ(merge(late, add(5, 1, "k", "x")), 1);
    CHECK_EQ(merge(late, field(7, 1, "k", "f", "v")), 1);
    CHECK_EQ(merge(late, expire(8, 1, "idle", 7)), 1);
    copy_all(late, kv);
    check_recalled(kv, 4);
    check_figures(kv, 3, 0);
    CHECK(root_sum(kv) == sum && records_sent(kv) == 4);
    copy_all(late, kv);
    check_recalled(kv, 4);
    copy_all(kv, late);
    CHECK(root_sum(late) == sum);
    CHECK_EQ(velum_kv_get_figures(late).keys, 0);
    CHECK_EQ(tend_all(kv, 3, 3), 0);
    CHECK_EQ(tend_all(kv, 4, 0), 3);
    CHECK_EQ(merge(kv, fresh(4, 7, "gone", 1, 4)), 0); /* by a part, too */
    check_recalled(kv, 5);
    CHECK_EQ(merge(kv, del(5, 1, "gone")), 0);
    check_recalled(kv, 5);
    CHECK_EQ(tend_all(kv, 4, 0), 1);
    CHECK_EQ(merge(kv, expire(4, 1, "gone", 7)), 0);
    check_recalled(kv, 6);
    CHECK_EQ(tend_all(kv, 4, 4), 3);
    CHECK(root_sum(kv) == 0 && records_in(kv) == 0);
    velum_kv_close(kv);
    velum_kv_close(late);
}

/* What a settled tombstone's place takes is in the sums again. */
static void test_in_the_place_of_settled(void) {
    velum_kv *kv = open_kv(SIZE_MAX), *other = open_kv(SIZE_MAX);
    CHECK_EQ(merge(kv, del(4, 1, "k")), 1);
    CHECK_EQ(merge(kv, take_out(6, 2, "k", "x", at(5, 1))), 1);
    CHECK_EQ(merge(kv, unfield(6, 2, "k", "f")), 1);
    CHECK_EQ(tend_all(kv, 1, 0), 3);
    CHECK(root_sum(kv) == 0);
    velum_kv_mark(kv, 2);
    CHECK_EQ(merge(kv, take_out(7, 2, "k", "x", at(5, 1))), 1); /* a tombstone again, but new */
    CHECK_EQ(merge(kv, field(7, 2, "k", "f", "v")), 1);
    check_figures(kv, 2, 1);
    CHECK_EQ(merge(kv, del(5, 1, "k")), 1);
    check_figures(kv, 1, 0);
    CHECK_EQ(tend_all(kv, 1, 1), 0);
    CHECK_EQ(merge(other, del(5, 1, "k")), 1);
    CHECK_EQ(merge(other, field(7, 2, "k", "f", "v")), 1);
    CHECK(root_sum(kv) == root_sum(other));
    CHECK_EQ(tend_all(kv, 2, 0), 1);
    CHECK_EQ(merge(kv, set(8, 1, "k", "v")), 1);
    check_figures(kv, 0, 0);
    CHECK_EQ(merge(other, set(8, 1, "k", "v")), 1);
    CHECK(root_sum(kv) == root_sum(other));
    velum_kv_close(kv);
    velum_kv_close(other);
}

/* An EXPIRE of what is gone goes as a tombstone does; of what is there it stays, whatever its age,
 * and comes back if the key does. */
static void test_expiry_of_nothing(void) {
    velum_kv *kv = open_kv(SIZE_MAX), *other = open_kv(SIZE_MAX);
    CHECK_EQ(merge(kv, add(5, 1, "k", "x")), 1);
    CHECK_EQ(merge(kv, expire(7, 1, "k", 77)), 1);
    CHECK_EQ(tend_all(kv, 9, 9), 0);
    CHECK_EQ(look(kv, "k").until_ms, 77);
    velum_kv_mark(kv, 4);
    CHECK_EQ(merge(kv, del(6, 1, "k")), 1);
    CHECK_EQ(tend_all(kv, 3, 3), 0);
    CHECK_EQ(records_sent(kv), 2);
    CHECK_EQ(tend_all(kv, 4, 0), 1);
    CHECK(root_sum(kv) == 0 && records_sent(kv) == 0 && records_in(kv) == 2);
    CHECK_EQ(merge(kv, add(9, 2, "k", "y")), 1);
    CHECK_EQ(look(kv, "k").until_ms, 77);
    CHECK_EQ(merge(other, expire(7, 1, "k", 77)), 1);
    CHECK_EQ(merge(other, add(9, 2, "k", "y")), 1);
    CHECK(root_sum(kv) == root_sum(other));
    velum_kv_mark(kv, 5);
    CHECK_EQ(merge(kv, take_out(10, 2, "k", "y", at(9, 2))), 1);
    CHECK_EQ(tend_all(kv, 4, 4), 0); /* its age begins again; and the DEL waits with it */
    velum_kv_mark(kv, 6);
    CHECK_EQ(tend_all(kv, 5, 0), 1);
    CHECK_EQ(records_sent(kv), 0);
    CHECK_EQ(merge(kv, expire(11, 1, "k", 78)), 1);
    CHECK_EQ(records_sent(kv), 1);
    CHECK_EQ(tend_all(kv, 5, 5), 1);
    CHECK_EQ(records_sent(kv), 1);
    CHECK_EQ(tend_all(kv, 6, 6), 1);
    CHECK(root_sum(kv) == 0 && records_in(kv) == 0);
    CHECK_EQ(velum_kv_get_figures(kv).bytes, 0);
    velum_kv_close(kv);
    velum_kv_close(other);
}

/* One node has dropped a DEL, another one has not: both count, and hear of each other. */
static void test_counts_beside_a_dropped_del(void) {
    velum_kv *nodes[2] = {open_kv(SIZE_MAX), open_kv(SIZE_MAX)};
    velum_kv_record counts[2];
    for (uint16_t i = 0; i < 2; i++) {
        CHECK_EQ(merge(nodes[i], del(6, 3, "k")), 1);
        if (i == 0) CHECK_EQ(tend_all(nodes[i], 1, 1), 1);
        counts[i] = own(nodes[i], "k", (uint16_t)(i + 1));
        counts[i].sum += 10;
        counts[i].stamp = counts[i].of = at(8, (uint16_t)(i + 1));
        CHECK(counts[i].fresh);
        CHECK_EQ(velum_kv_merge(nodes[i], &counts[i]), 1);
    }
    for (size_t i = 0; i < 2; i++) {
        CHECK_EQ(velum_kv_merge(nodes[i], &counts[1 - i]), 1);
        CHECK_EQ(look(nodes[i], "k").sum, 20);
    }
    CHECK_EQ(merge(nodes[0], del(6, 3, "k")), 1); /* and once more */
    CHECK_EQ(look(nodes[0], "k").sum, 20);
    CHECK(root_sum(nodes[0]) == root_sum(nodes[1]));
    CHECK_EQ(tend_all(nodes[0], 1, 1), 1);
    CHECK_EQ(tend_all(nodes[1], 1, 1), 1);
    CHECK(root_sum(nodes[0]) == root_sum(nodes[1]));
    for (size_t i = 0; i < 2; i++)
        velum_kv_close(nodes[i]);
}

int main(void) {
    test_tending();
    test_recalling();
    test_in_the_place_of_settled();
    test_expiry_of_nothing();
    test_counts_beside_a_dropped_del();
    return check_report("kv_tend");
}
