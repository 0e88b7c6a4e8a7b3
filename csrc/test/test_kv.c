/* test_kv.c: every rule of docs/kv.md, section 2, by example. Each is tried in every order of its
 * records, with each of them twice.
 */
#include "kv_world.h"

#define RULE_RECORDS_MAX 5u
#define MANY             5000u
#define SUMS             4u

/* Calls seen() on a store for each order of the records. */
static void in_all_orders(const velum_kv_record *r, size_t n, void (*seen)(const velum_kv *kv)) {
    size_t orders = 1;
    uint64_t sum = 0;
    for (size_t i = 2; i <= n; i++)
        orders *= i;
    for (size_t order = 0; order < orders; order++) {
        bool merged[RULE_RECORDS_MAX] = {false};
        size_t rest = order;
        velum_kv *kv = open_kv(SIZE_MAX);
        for (size_t left = n; left > 0; left--) {
            size_t skip = rest % left, i = 0;
            rest /= left;
            while (merged[i] || skip-- > 0)
                i++;
            merged[i] = true;
            CHECK(velum_kv_merge(kv, &r[i]) >= 0);
            CHECK_EQ(velum_kv_merge(kv, &r[i]), 0);
        }
        for (size_t i = 0; i < n; i++)
            CHECK_EQ(velum_kv_merge(kv, &r[i]), 0);
        if (order == 0) sum = root_sum(kv);
        CHECK(root_sum(kv) == sum);
        seen(kv);
        velum_kv_close(kv);
    }
}

#define IN_ALL_ORDERS(records, seen)                                                               \
    in_all_orders(records, sizeof(records) / sizeof((records)[0]), seen)

/* ---- bytes ---- */

static void later_is_there(const velum_kv *kv) {
    velum_kv_view view = look(kv, "k");
    CHECK_EQ(view.type, VELUM_KV_BYTES);
    CHECK(is_text(view.value, "later") && view.json);
    CHECK(is_at(view.base, 9, 3) && is_at(view.latest, 9, 3));
    CHECK_EQ(velum_kv_get_figures(kv).keys, 1);
    CHECK_EQ(velum_kv_get_figures(kv).tombstones, 0);
    CHECK(is_at(velum_kv_get_figures(kv).latest, 9, 3));
    CHECK_EQ(records_in(kv), 1);
}

static void test_the_later_set_stays(void) {
    velum_kv_record r[4] = {set(8, 65535, "k", "before, and longer"), set(9, 2, "k", ""),
                            set(9, 3, "k", "later"), del(8, 4, "k")};
    r[2].json = true;
    IN_ALL_ORDERS(r, later_is_there);
}

static void nothing_is_there(const velum_kv *kv) {
    velum_kv_view view = look(kv, "k");
    CHECK_EQ(view.type, VELUM_KV_NOTHING);
    CHECK(is_at(view.base, 9, 1) && is_at(view.latest, 0, 0));
    CHECK(view.value.data == NULL && view.until_ms == 0);
    CHECK_EQ(velum_kv_get_figures(kv).keys, 0);
    CHECK_EQ(velum_kv_get_figures(kv).tombstones, 1);
    CHECK_EQ(records_in(kv), 1);
}

static void test_del_hides_what_is_before_it(void) {
    velum_kv_record r[5] = {set(8, 1, "k", "v"), del(9, 1, "k"), add(9, 1, "k", "e"),
                            field(8, 4, "k", "f", "v"), expire(7, 1, "k", 5)};
    IN_ALL_ORDERS(r, nothing_is_there);
}

static void one_key_of_two(const velum_kv *kv) {
    CHECK_EQ(look(kv, "k").type, VELUM_KV_BYTES);
    CHECK_EQ(look(kv, "kk").type, VELUM_KV_NOTHING);
    CHECK_EQ(look(kv, "").type, VELUM_KV_NOTHING);
    CHECK_EQ(velum_kv_get_figures(kv).keys, 1);
}

static void field_is_there(const velum_kv *kv) {
    CHECK(is_text(velum_kv_field(kv, text("k"), text("f")), "b"));
}

static void test_of_equal_stamps_one_stays(void) {
    velum_kv_record r[3] = {set(8, 1, "k", "a"), set(8, 1, "k", "ab"), set(8, 1, "k", "")};
    velum_kv_record fields[3] = {field(8, 1, "k", "f", "b"), unfield(8, 1, "k", "f"),
                                 field(8, 1, "k", "f", "")};
    velum_kv_record gone[3] = {del(9, 1, "k"), set(9, 1, "k", "v"), count(9, 2, "k", 1, at(9, 1))};
    IN_ALL_ORDERS(r, one_key_of_two);
    IN_ALL_ORDERS(gone, nothing_is_there);
    IN_ALL_ORDERS(fields, field_is_there);
}

/* ---- expiry ---- */

static void expires_at_70(const velum_kv *kv) {
    velum_kv_view view = look(kv, "k");
    CHECK(view.type == VELUM_KV_BYTES && view.until_ms == 70);
    CHECK(is_at(view.expiry, 6, 2) && is_at(view.latest, 5, 1));
    CHECK_EQ(records_in(kv), 2);
}

static void expires_at_50(const velum_kv *kv) {
    velum_kv_view view = look(kv, "k");
    CHECK(view.type == VELUM_KV_BYTES && view.until_ms == 50 && is_at(view.expiry, 5, 1));
    CHECK_EQ(records_in(kv), 1);
}

static void never_expires(const velum_kv *kv) {
    velum_kv_view view = look(kv, "k");
    CHECK(view.type == VELUM_KV_BYTES && view.until_ms == 0 && view.expiry.node == 0);
}

static void has_expired(const velum_kv *kv) {
    velum_kv_view view = look(kv, "k");
    CHECK(view.type == VELUM_KV_NOTHING && view.until_ms == 0 && view.expiry.node == 0);
    CHECK(is_at(view.base, 7, 2));
    CHECK_EQ(records_in(kv), 1);
}

static void is_there_again(const velum_kv *kv) {
    CHECK(is_at(look(kv, "k").base, 8, 1));
    never_expires(kv);
}

static void test_expiry(void) {
    velum_kv_record r[5] = {set(5, 1, "k", "v"), expire(6, 2, "k", 70), expire(6, 1, "k", 60)};
    r[0].until_ms = 50;
    in_all_orders(r, 3, expires_at_70);
    r[1].stamp.time = r[2].stamp.time = 4;
    in_all_orders(r, 3, expires_at_50);
    r[0].until_ms = 0;
    in_all_orders(r, 3, never_expires);
    r[1] = expire(6, 2, "k", 0);
    in_all_orders(r, 3, never_expires);
    r[1].until_ms = 1;
    r[3] = del(7, 2, "k"); /* as all nodes make it when that time has come */
    in_all_orders(r, 4, has_expired);
    r[4] = set(8, 1, "k", "again");
    in_all_orders(r, 5, is_there_again);
}

/* Times of expiry differ a little from node to node: that is no change. */
static void test_times_of_expiry_have_no_say(void) {
    velum_kv *kv = open_kv(SIZE_MAX);
    velum_kv_record r = set(5, 1, "k", "v");
    uint64_t sum;
    r.until_ms = 50;
    CHECK_EQ(merge(kv, r), 1);
    sum = root_sum(kv);
    r.until_ms = 51;
    CHECK_EQ(merge(kv, r), 0);
    CHECK_EQ(merge(kv, expire(6, 1, "k", 60)), 1);
    CHECK_EQ(merge(kv, expire(6, 1, "k", 61)), 0);
    CHECK_EQ(look(kv, "k").until_ms, 60);
    velum_kv_close(kv);
    kv = open_kv(SIZE_MAX);
    CHECK_EQ(merge(kv, r), 1);
    CHECK(root_sum(kv) == sum);
    velum_kv_close(kv);
}

/* ---- counters ---- */

static void counts_to_7(const velum_kv *kv) {
    velum_kv_view view = look(kv, "k");
    CHECK_EQ(view.type, VELUM_KV_COUNTER);
    CHECK_EQ(view.sum, 7);
    CHECK(is_text(view.value, "10") && is_at(view.base, 5, 1) && is_at(view.latest, 8, 2));
    CHECK(goes_on(own(kv, "k", 1), 4, false, at(5, 1)));
    CHECK(goes_on(own(kv, "k", 2), -7, false, at(5, 1)));
    CHECK(goes_on(own(kv, "k", 3), 0, false, at(5, 1)));
    CHECK(goes_on(own(kv, "none", 1), 0, true, at(0, 0)));
}

static void test_counts_add_up(void) {
    velum_kv_record r[5] = {set(5, 1, "k", "10"), count(6, 1, "k", 9, at(5, 1)),
                            count(7, 1, "k", 4, at(5, 1)), count(8, 2, "k", -7, at(5, 1)),
                            count(9, 3, "k", 100, at(4, 9))};
    IN_ALL_ORDERS(r, counts_to_7);
}

/* A base that is not there yet: one of node 2's counts waits for it, and another does not. */
static void counts_without_base(const velum_kv *kv) {
    velum_kv_view view = look(kv, "k");
    CHECK(view.type == VELUM_KV_COUNTER && view.sum == 23 && is_at(view.latest, 9, 1));
    CHECK(view.value.data == NULL && is_at(view.base, 0, 0));
    CHECK(goes_on(own(kv, "k", 1), 3, true, at(9, 1)));
    CHECK(goes_on(own(kv, "k", 2), 20, true, at(5, 2)));
    CHECK(goes_on(own(kv, "k", 3), 0, true, at(0, 0)));
}

/* It is there, and node 1 has counted from nothing later than that. */
static void counts_from_both(const velum_kv *kv) {
    velum_kv_view view = look(kv, "k");
    CHECK(view.type == VELUM_KV_COUNTER && view.sum == 133 && is_at(view.base, 7, 7));
    CHECK(is_text(view.value, "100") && is_at(view.latest, 9, 1));
    CHECK(goes_on(own(kv, "k", 1), 3, true, at(9, 1)));
    CHECK(goes_on(own(kv, "k", 2), 30, false, at(7, 7)));
    CHECK(goes_on(own(kv, "k", 3), 0, false, at(7, 7)));
    CHECK_EQ(records_in(kv), 3);
}

static void test_bases_of_counts(void) {
    velum_kv_record r[4] = {fresh(9, 1, "k", 3, 9), fresh(6, 2, "k", 20, 5),
                            count(8, 2, "k", 30, at(7, 7)), set(7, 7, "k", "100")};
    in_all_orders(r, 3, counts_without_base);
    in_all_orders(r, 4, counts_from_both);
}

/* A node that has lost its memory begins anew: what it had counted is still counted. */
static void counts_of_lives(const velum_kv *kv) {
    CHECK_EQ(look(kv, "k").sum, 107);
    CHECK(goes_on(own(kv, "k", 1), 7, true, at(20, 1)));
    CHECK_EQ(records_in(kv), 2);
}

static void test_lives_of_a_counter(void) {
    velum_kv_record r[4] = {fresh(9, 1, "k", 60, 5), fresh(12, 1, "k", 100, 5),
                            fresh(21, 1, "k", 7, 20), fresh(20, 1, "k", 2, 20)};
    IN_ALL_ORDERS(r, counts_of_lives);
}

/* A count that waits for its SET, and a SET before that one: it is not gone on with. */
static void test_counts_beside_one_that_waits(void) {
    velum_kv *kv = open_kv(SIZE_MAX);
    CHECK_EQ(merge(kv, count(8, 1, "k", 30, at(7, 7))), 1);
    CHECK_EQ(merge(kv, set(5, 2, "k", "100")), 1);
    CHECK(goes_on(own(kv, "k", 1), 0, true, at(0, 0)));
    CHECK(goes_on(own(kv, "k", 2), 0, false, at(5, 2)));
    CHECK_EQ(merge(kv, fresh(9, 1, "k", 4, 9)), 1);
    CHECK_EQ(look(kv, "k").sum, 104);
    CHECK_EQ(merge(kv, set(7, 7, "k", "200")), 1);
    CHECK_EQ(look(kv, "k").sum, 234);
    velum_kv_close(kv);
}

/* A DEL is nobody's base: what is counted from nothing after it is there with it and without, and
 * what was counted before it has gone for good, however late it was counted on. */
static void counts_after_del(const velum_kv *kv) {
    velum_kv_view view = look(kv, "k");
    CHECK(view.type == VELUM_KV_COUNTER && view.sum == 5 && is_at(view.base, 6, 6));
    CHECK(is_at(view.latest, 8, 1) && view.value.data == NULL);
    CHECK(goes_on(own(kv, "k", 2), 0, true, at(0, 0)));
    CHECK(goes_on(own(kv, "k", 3), 0, true, at(0, 0)));
    CHECK_EQ(velum_kv_get_figures(kv).tombstones, 1);
    CHECK_EQ(records_in(kv), 2);
}

static void test_counts_after_del(void) {
    velum_kv_record r[5] = {del(6, 6, "k"), fresh(7, 1, "k", 2, 7), fresh(8, 1, "k", 5, 7),
                            fresh(9, 2, "k", 100, 5), count(9, 3, "k", 50, at(6, 6))};
    IN_ALL_ORDERS(r, counts_after_del);
}

/* Of one node's counts of equal stamps, which should not be, one stays. */
static void sum_is_5(const velum_kv *kv) {
    CHECK_EQ(look(kv, "k").sum, 5);
}

static void is_10(const velum_kv *kv) {
    CHECK_EQ(look(kv, "k").type, VELUM_KV_BYTES);
    CHECK_EQ(records_in(kv), 1);
}

static void test_equal_counts(void) {
    velum_kv_record with_base[2] = {set(7, 1, "k", "10"), fresh(9, 1, "k", 5, 7)};
    velum_kv_record r[4] = {count(9, 1, "k", 900, at(7, 1)), fresh(9, 1, "k", 4, 7),
                            fresh(9, 1, "k", 5, 7), fresh(8, 1, "k", 6, 7)};
    IN_ALL_ORDERS(r, sum_is_5);
    IN_ALL_ORDERS(with_base, is_10);
}

static void test_numbers(void) {
    static const struct {
        const char *text;
        int64_t number;
        bool is;
    } samples[] = {{"0", 0, true},
                   {"-1", -1, true},
                   {"9223372036854775807", INT64_MAX, true},
                   {"-9223372036854775808", INT64_MIN, true},
                   {"9223372036854775808", 0, false},
                   {"-9223372036854775809", 0, false},
                   {"99999999999999999999", 0, false},
                   {"", 0, false},
                   {"-", 0, false},
                   {"-0", 0, false},
                   {"+1", 0, false},
                   {"01", 0, false},
                   {"1 ", 0, false},
                   {"1/", 0, false},
                   {"1:", 0, false},
                   {"x", 0, false}};
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        velum_kv *kv = open_kv(SIZE_MAX);
        velum_kv_view view;
        CHECK_EQ(merge(kv, set(5, 1, "k", samples[i].text)), 1);
        CHECK_EQ(look(kv, "k").type, VELUM_KV_BYTES);
        CHECK_EQ(merge(kv, count(6, 1, "k", 0, at(5, 1))), 1);
        view = look(kv, "k");
        CHECK_EQ(view.type, samples[i].is ? VELUM_KV_COUNTER : VELUM_KV_BYTES);
        CHECK_EQ(view.sum, samples[i].number);
        CHECK(is_text(view.value, samples[i].text));
        velum_kv_close(kv);
    }
}

static void test_sums_of_counts_wrap(void) {
    velum_kv *kv = open_kv(SIZE_MAX);
    CHECK_EQ(merge(kv, fresh(6, 1, "k", INT64_MAX, 6)), 1);
    CHECK_EQ(merge(kv, fresh(6, 2, "k", 1, 6)), 1);
    CHECK_EQ(look(kv, "k").sum, INT64_MIN);
    velum_kv_close(kv);
}

/* ---- sets ---- */

static void x_is_there_twice(const velum_kv *kv) {
    velum_kv_stamp when[2] = {{0, 0}, {0, 0}};
    velum_kv_view view = look(kv, "k");
    CHECK(view.type == VELUM_KV_MEMBERS && view.count == 2 && is_at(view.latest, 8, 2));
    CHECK(parts_are(kv, "k", "=;x=;"));
    CHECK_EQ(velum_kv_additions(kv, text("k"), text("x"), when, 1), 2);
    CHECK(is_at(when[0], 7, 1) && is_at(when[1], 0, 0));
    CHECK_EQ(velum_kv_additions(kv, text("k"), text("x"), when, 2), 2);
    CHECK(is_at(when[1], 6, 2));
    CHECK(velum_kv_member(kv, text("k"), text("x"), &when[0]) && is_at(when[0], 7, 1));
    CHECK(velum_kv_member(kv, text("k"), text(""), &when[0]) && is_at(when[0], 8, 2));
    CHECK(!velum_kv_member(kv, text("k"), text("xx"), &when[0]));
    CHECK_EQ(velum_kv_additions(kv, text("k"), text("y"), when, 2), 0);
    CHECK(velum_kv_field(kv, text("k"), text("x")).data == NULL);
}

static void test_additions(void) {
    velum_kv_record r[4] = {add(5, 1, "k", "x"), add(7, 1, "k", "x"), add(6, 2, "k", "x"),
                            add(8, 2, "k", "")};
    IN_ALL_ORDERS(r, x_is_there_twice);
}

/* Node 3 has removed what it had seen of x; node 1 adds it again, node 2's was not seen. */
static void add_wins(const velum_kv *kv) {
    velum_kv_stamp when[2];
    CHECK(parts_are(kv, "k", "x=;"));
    CHECK_EQ(velum_kv_additions(kv, text("k"), text("x"), when, 2), 1);
    CHECK(is_at(when[0], 6, 1));
    CHECK_EQ(velum_kv_get_figures(kv).tombstones, 1);
    CHECK(is_at(look(kv, "k").latest, 9, 3));
}

static void removed(const velum_kv *kv) {
    velum_kv_view view = look(kv, "k");
    CHECK(view.type == VELUM_KV_NOTHING && view.count == 0 && is_at(view.latest, 0, 0));
    CHECK_EQ(velum_kv_get_figures(kv).keys, 0);
    CHECK_EQ(velum_kv_get_figures(kv).tombstones, 1);
    CHECK_EQ(records_in(kv), 1);
}

static void test_removals(void) {
    velum_kv_record wins[5] = {add(5, 1, "k", "x"), take_out(7, 3, "k", "x", at(5, 1)),
                               add(6, 1, "k", "x"), add(4, 2, "k", "x"),
                               take_out(9, 3, "k", "x", at(4, 2))};
    velum_kv_record gone[4] = {add(5, 1, "k", "x"), add(4, 1, "k", "x"),
                               take_out(7, 3, "k", "x", at(4, 1)),
                               take_out(7, 2, "k", "x", at(5, 1))};
    velum_kv_record twice[3] = {add(5, 1, "k", "x"), take_out(7, 3, "k", "x", at(5, 1)),
                                take_out(6, 9, "k", "x", at(5, 1))};
    IN_ALL_ORDERS(wins, add_wins);
    IN_ALL_ORDERS(gone, removed);
    IN_ALL_ORDERS(twice, removed);
}

/* ---- hashes ---- */

static void two_fields(const velum_kv *kv) {
    CHECK(parts_are(kv, "k", "a=1;b=;"));
    CHECK(is_text(velum_kv_field(kv, text("k"), text("a")), "1"));
    CHECK(is_text(velum_kv_field(kv, text("k"), text("b")), ""));
    CHECK(velum_kv_field(kv, text("k"), text("c")).data == NULL);
    CHECK(velum_kv_field(kv, text("k"), text("ab")).data == NULL);
    CHECK(velum_kv_field(kv, text("none"), text("a")).data == NULL);
    CHECK(look(kv, "k").type == VELUM_KV_FIELDS && is_at(look(kv, "k").latest, 9, 2));
    CHECK_EQ(velum_kv_get_figures(kv).tombstones, 1);
}

static void test_fields(void) {
    velum_kv_record r[5] = {field(5, 2, "k", "a", "longer"), field(6, 1, "k", "a", "1"),
                            field(7, 1, "k", "b", ""), unfield(9, 2, "k", "c"),
                            field(8, 3, "k", "c", "z")};
    IN_ALL_ORDERS(r, two_fields);
}

/* ---- several in one key ---- */

static void test_the_first_that_has_anything_is_visible(void) {
    velum_kv *kv = open_kv(SIZE_MAX);
    velum_kv_stamp when;
    CHECK_EQ(merge(kv, field(5, 1, "k", "f", "v")), 1);
    CHECK_EQ(look(kv, "k").type, VELUM_KV_FIELDS);
    CHECK_EQ(merge(kv, add(5, 1, "k", "e")), 1);
    CHECK(parts_are(kv, "k", "e=;") && look(kv, "k").type == VELUM_KV_MEMBERS);
    CHECK(velum_kv_field(kv, text("k"), text("f")).data == NULL);
    CHECK_EQ(merge(kv, fresh(5, 1, "k", 2, 3)), 1);
    CHECK_EQ(look(kv, "k").type, VELUM_KV_COUNTER);
    CHECK(!velum_kv_member(kv, text("k"), text("e"), &when));
    CHECK(parts_are(kv, "k", ""));
    CHECK_EQ(merge(kv, set(4, 1, "k", "v")), 1);
    CHECK_EQ(look(kv, "k").type, VELUM_KV_BYTES);
    CHECK_EQ(records_in(kv), 3); /* the count is hidden for good */
    CHECK_EQ(velum_kv_get_figures(kv).keys, 1);
    CHECK_EQ(merge(kv, del(4, 2, "k")), 1);
    CHECK(parts_are(kv, "k", "e=;"));
    CHECK_EQ(merge(kv, take_out(6, 2, "k", "e", at(5, 1))), 1);
    CHECK(parts_are(kv, "k", "f=v;"));
    CHECK_EQ(merge(kv, del(8, 2, "k")), 1);
    CHECK_EQ(records_in(kv), 1);
    CHECK_EQ(velum_kv_get_figures(kv).keys, 0);
    velum_kv_close(kv);
}

/* ---- what may not be ---- */

static void test_arguments(void) {
    uint8_t *large = calloc(1, VELUM_KV_VALUE_BYTES_MAX + 1);
    velum_kv *kv = open_kv(SIZE_MAX);
    velum_kv_record good[8] = {set(5, 1, "k", "v"),       del(5, 1, "k"),
                               expire(5, 1, "k", 0),      count(5, 1, "k", 1, at(4, 1)),
                               add(5, 1, "k", ""),        take_out(5, 1, "k", "e", at(4, 1)),
                               field(5, 1, "k", "f", ""), unfield(5, 1, "k", "f")};
    if (large == NULL) abort();
    for (size_t i = 0; i < 8; i++) {
        velum_kv_record r = good[i];
        velum_kv_bytes most = {large, VELUM_KV_KEY_BYTES_MAX}, missing = {NULL, 1};
        bool value = r.op == VELUM_KV_SET || r.op == VELUM_KV_FIELD, part = r.op >= VELUM_KV_ADD;
        r.stamp.node = 0;
        CHECK_EQ(merge(kv, r), VELUM_E_ARGUMENT);
        r = good[i], r.key.size = 0;
        CHECK_EQ(merge(kv, r), VELUM_E_ARGUMENT);
        r = good[i], r.key = missing;
        CHECK_EQ(merge(kv, r), VELUM_E_ARGUMENT);
        r = good[i], r.key = most, r.key.size++;
        CHECK_EQ(merge(kv, r), VELUM_E_ARGUMENT);
        r = good[i], r.part = most, r.part.size = part ? VELUM_KV_PART_BYTES_MAX + 1 : 1;
        CHECK_EQ(merge(kv, r), VELUM_E_ARGUMENT);
        r = good[i], r.value = most, r.value.size = value ? VELUM_KV_VALUE_BYTES_MAX + 1 : 1;
        CHECK_EQ(merge(kv, r), VELUM_E_ARGUMENT);
        r = good[i], r.json = true;
        CHECK_EQ(merge(kv, r) < 0, r.op != VELUM_KV_SET);
        r = good[i], r.until_ms = 1;
        CHECK_EQ(merge(kv, r) < 0, r.op != VELUM_KV_SET && r.op != VELUM_KV_EXPIRE);
        r = good[i], r.sum = 1;
        CHECK_EQ(merge(kv, r) < 0, r.op != VELUM_KV_COUNT);
        r = good[i], r.of = at(1, 0);
        CHECK_EQ(merge(kv, r), VELUM_E_ARGUMENT);
        r = good[i], r.of = at(0, 0);
        CHECK_EQ(merge(kv, r) < 0, r.op == VELUM_KV_REMOVE || r.op == VELUM_KV_COUNT);
        r = good[i], r.fresh = true;
        CHECK_EQ(merge(kv, r) < 0, r.op != VELUM_KV_COUNT);
        r.op = VELUM_KV_COUNT, r.of = at(4, 2); /* of another node */
        CHECK_EQ(merge(kv, r), VELUM_E_ARGUMENT);
        r.of = at(6, 1); /* later than itself */
        CHECK_EQ(merge(kv, r), VELUM_E_ARGUMENT);
        r = good[i], r.op = (velum_kv_op)(i % 2 == 0 ? 0 : 9);
        CHECK_EQ(merge(kv, r), VELUM_E_ARGUMENT);
        r = good[i], r.key = most;
        if (part) r.part = most;
        if (value) r.value = most, r.value.size = VELUM_KV_VALUE_BYTES_MAX;
        CHECK(merge(kv, r) >= 0);
    }
    velum_kv_close(kv);
    free(large);
}

/* ---- room ---- */

static void test_room(void) {
    velum_kv *kv = open_kv(1500);
    char long_value[1001];
    uint64_t sum;
    memset(long_value, 'x', 1000);
    long_value[1000] = 0;
    CHECK_EQ(merge(kv, set(5, 1, "k", long_value)), 1);
    sum = root_sum(kv);
    CHECK_EQ(merge(kv, set(5, 1, "l", long_value)), VELUM_E_STATE_FULL);
    CHECK_EQ(merge(kv, field(6, 1, "k", "f", long_value)), VELUM_E_STATE_FULL);
    CHECK_EQ(merge(kv, field(6, 1, "l", "f", long_value)), VELUM_E_STATE_FULL);
    CHECK(root_sum(kv) == sum && records_in(kv) == 1);
    CHECK_EQ(look(kv, "l").type, VELUM_KV_NOTHING);
    CHECK(is_at(velum_kv_get_figures(kv).latest, 5, 1));
    CHECK_EQ(merge(kv, set(7, 1, "k", "")), 1); /* and now there is room */
    CHECK_EQ(merge(kv, field(8, 1, "k", "f", long_value)), 1);
    CHECK_EQ(merge(kv, field(9, 1, "k", "g", long_value)), VELUM_E_STATE_FULL);
    CHECK_EQ(merge(kv, field(9, 1, "k", "f", long_value)), 1);
    CHECK_EQ(merge(kv, set(10, 1, "k", long_value)), 1); /* in the place of what it hides */
    CHECK_EQ(merge(kv, del(11, 1, "k")), 1);
    CHECK(velum_kv_get_figures(kv).bytes < 300);
    CHECK_EQ(velum_kv_get_figures(kv).room, 1500);
    CHECK_EQ(tend_all(kv, 1, 1), 1);
    CHECK_EQ(velum_kv_get_figures(kv).bytes, 0);
    velum_kv_close(kv);
}

/* ---- sums: computed by PyPI's blake3, and splitmix64 in Python ---- */

static void test_sums(void) {
    static const uint64_t expected[SUMS] = {
        UINT64_C(0x180a47437d1b71d6), UINT64_C(0x2a60ee3263057cb5), UINT64_C(0x37fcb24bc1bc1d93),
        UINT64_C(0xf2436d534a71a2d0)};
    const uint64_t time = UINT64_C(0x0199f3a1c2000000);
    const char *key = "fleet/robot_A"; /* whose hash begins with a609 */
    velum_kv *kv = open_kv(SIZE_MAX);
    velum_kv_record r[SUMS] = {
        set(time, 7, key, "v"), take_out(time + 2, 65535, key, "element nine", at(time + 1, 3)),
        count(time + 3, 2, key, -5, at(time, 7)), fresh(time + 5, 3, key, 6, time + 4)};
    uint64_t sums[VELUM_KV_FANOUT];
    size_t n = 0;
    for (size_t i = 0; i < SUMS; i++) {
        CHECK_EQ(merge(kv, r[i]), 1);
        CHECK_EQ(velum_kv_sums(kv, 0, 0, sums), 0);
        CHECK(sums[0xa] == expected[i] && sums[0xb] == 0);
        CHECK_EQ(velum_kv_sums(kv, 1, 0xa, sums), 0);
        CHECK(sums[0x6] == expected[i]);
        CHECK_EQ(velum_kv_sums(kv, 2, 0xa6, sums), 0);
        CHECK(sums[0x0] == expected[i]);
        CHECK_EQ(velum_kv_sums(kv, 3, 0xa60, sums), 0);
        CHECK(sums[0x9] == expected[i]);
    }
    CHECK_EQ(velum_kv_leaf(kv, 0xa609, count_record, &n), 0);
    CHECK_EQ(n, SUMS);
    CHECK_EQ(velum_kv_leaf(kv, 0xa608, count_record, &n), 0);
    CHECK_EQ(n, SUMS);
    CHECK_EQ(velum_kv_leaf(kv, VELUM_KV_LEAVES, count_record, &n), VELUM_E_ARGUMENT);
    CHECK_EQ(velum_kv_sums(kv, 0, 1, sums), VELUM_E_ARGUMENT);
    CHECK_EQ(velum_kv_sums(kv, 3, 4096, sums), VELUM_E_ARGUMENT);
    CHECK_EQ(velum_kv_sums(kv, 3, 4095, sums), 0);
    CHECK_EQ(velum_kv_sums(kv, 4, 0, sums), VELUM_E_ARGUMENT);
    velum_kv_close(kv);
}

/* ---- walks ---- */

typedef struct {
    uint8_t met[MANY];
    size_t in_step;
} meeting;

static void meet(void *owner, const velum_kv_record *record) {
    meeting *m = owner;
    char digits[8] = {0};
    memcpy(digits, record->key.data, record->key.size);
    m->met[atoi(digits)]++;
    m->in_step++;
}

static void meet_key(void *owner, velum_kv_bytes key, velum_kv_type type, uint64_t until_ms) {
    velum_kv_record r = record_of(VELUM_KV_SET, 1, 1, "");
    CHECK_EQ(type, VELUM_KV_BYTES);
    CHECK_EQ(until_ms, 0);
    r.key = key;
    meet(owner, &r);
}

/* Half of the keys come, and some others go, while the walk is under way. */
static void test_walk(void) {
    static meeting m;
    velum_kv *kv = open_kv(SIZE_MAX);
    velum_kv_walk walk = {0}, tended = {0};
    velum_kv_tended figures = {0, 0};
    char name[8];
    size_t made = 0;
    bool more = true;
    for (; made < MANY / 2; made++) {
        sprintf(name, "%zu", made);
        CHECK_EQ(merge(kv, made % 10 == 9 ? del(5, 1, name) : set(5, 1, name, "v")), 1);
    }
    while (more) {
        m.in_step = 0;
        more = velum_kv_step(kv, &walk, 7, meet, &m);
        CHECK(m.in_step <= 7 && (m.in_step > 0 || !more));
        for (size_t i = 0; i < 9 && made < MANY; i++, made++) {
            sprintf(name, "%zu", made);
            CHECK_EQ(merge(kv, made % 10 == 9 ? del(5, 1, name) : set(5, 1, name, "v")), 1);
        }
        velum_kv_tend(kv, &tended, 5, 1, 1, &figures);
    }
    CHECK_EQ(made, MANY);
    for (size_t i = 0; i < MANY; i++)
        CHECK(m.met[i] == 1 || (m.met[i] == 0 && (i >= MANY / 2 || i % 10 == 9)));
    memset(&m, 0, sizeof m);
    for (walk.place = 0; velum_kv_keys(kv, &walk, 0, 1, meet_key, &m); m.in_step = 0)
        CHECK(m.in_step <= 1);
    for (size_t i = 0; i < MANY; i++)
        CHECK_EQ(m.met[i], i % 10 != 9);
    CHECK_EQ(velum_kv_get_figures(kv).keys, MANY - MANY / 10);
    velum_kv_close(kv);
}

/* Keys that share their leaves come, go and move. */
static void test_leaves(void) {
    velum_kv *kv = open_kv(SIZE_MAX);
    char name[8];
    size_t n = 0;
    for (size_t i = 0; i < MANY; i++) {
        sprintf(name, "%zu", i);
        CHECK_EQ(merge(kv, i % 3 == 0 ? del(5, 1, name) : set(5, 1, name, "v")), 1);
    }
    CHECK_EQ(tend_all(kv, 1, 1), (MANY + 2) / 3);
    for (size_t i = 1; i < MANY; i += 3) {
        sprintf(name, "%zu", i);
        CHECK_EQ(merge(kv, set(6, 1, name, "a value that moves the key")), 1);
    }
    for (uint32_t leaf = 0; leaf < VELUM_KV_LEAVES; leaf++)
        if (velum_kv_leaf(kv, leaf, count_record, &n) != 0) abort();
    CHECK_EQ(n, MANY - (MANY + 2) / 3);
    velum_kv_close(kv);
}

/* A set of many elements, in an order that a list would be slow with, and all gone again. */
static void test_many_parts(void) {
    velum_kv *kv = open_kv(SIZE_MAX);
    char element[16];
    for (size_t i = 0; i < MANY; i++) {
        sprintf(element, "%05zu", i * 7919 % MANY);
        CHECK_EQ(merge(kv, add(5 + i, 1, "k", element)), 1);
    }
    CHECK_EQ(look(kv, "k").count, MANY);
    for (size_t i = 0; i < MANY; i++) {
        sprintf(element, "%05zu", i * 7919 % MANY);
        CHECK_EQ(merge(kv, take_out(MANY + 5, 1, "k", element, at(5 + i, 1))), 1);
        CHECK_EQ(look(kv, "k").count, MANY - 1 - i);
    }
    CHECK_EQ(velum_kv_get_figures(kv).tombstones, MANY);
    CHECK_EQ(tend_all(kv, 1, 0), MANY);
    CHECK(root_sum(kv) == 0);
    CHECK_EQ(tend_all(kv, 0, 1), MANY);
    CHECK(root_sum(kv) == 0 && velum_kv_get_figures(kv).bytes == 0);
    velum_kv_close(kv);
}

int main(void) {
    test_the_later_set_stays();
    test_del_hides_what_is_before_it();
    test_of_equal_stamps_one_stays();
    test_expiry();
    test_times_of_expiry_have_no_say();
    test_counts_add_up();
    test_bases_of_counts();
    test_lives_of_a_counter();
    test_counts_beside_one_that_waits();
    test_counts_after_del();
    test_equal_counts();
    test_numbers();
    test_sums_of_counts_wrap();
    test_additions();
    test_removals();
    test_fields();
    test_the_first_that_has_anything_is_visible();
    test_arguments();
    test_room();
    test_sums();
    test_walk();
    test_leaves();
    test_many_parts();
    return check_report("kv");
}
