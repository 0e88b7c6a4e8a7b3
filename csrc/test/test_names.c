/* test_names.c: a node's entries by example, and many of them at random.
 *
 * velum/policy/names.py is a second implementation of the same; tests/unit/test_names.py holds the
 * two to each other. The random run comes from a seed, printed when it fails: `test_names SEED`
 * replays it.
 */
#include "dice.h"
#include "names_world.h"

#define MANY 3000u

static velum_names *open_names(size_t room) {
    velum_names *n;
    if (velum_names_open(&n, 1, room) != 0) abort();
    return n;
}

/* ---- vectors: computed by velum/policy/placement.py and PyPI's blake3 ---- */

static void test_keepers(void) {
    static const struct {
        const char *name;
        uint16_t ids[4];
    } expected[] = {{"a", {7, 500, 65535, 2}},
                    {"data/b.csv", {500, 2, 1, 3}},
                    {"\xc3\xa9", {500, 1, 7, 65535}}};
    static const uint16_t members[] = {1, 2, 3, 7, 500, 65535};
    velum_names *n = open_names(0);
    uint8_t digest[VELUM_DIGEST_BYTES];
    uint16_t ids[UINT8_MAX];
    CHECK_EQ(velum_names_set_members(n, members, 6), 0);
    for (size_t i = 0; i < 3; i++) {
        velum_chunk_key(expected[i].name, strlen(expected[i].name), digest);
        CHECK_EQ(velum_names_keepers(n, digest, 4, ids), 4);
        CHECK(memcmp(ids, expected[i].ids, sizeof expected[i].ids) == 0);
        CHECK_EQ(velum_names_keepers(n, digest, 1, ids), 1);
        CHECK_EQ(ids[0], expected[i].ids[0]);
        CHECK_EQ(velum_names_keepers(n, digest, 0, ids), 0);
        CHECK_EQ(velum_names_keepers(n, digest, UINT8_MAX, ids), 6);
        CHECK(memcmp(ids, expected[i].ids, sizeof expected[i].ids) == 0);
    }
    velum_names_close(n);
}

static void test_marks(void) {
    velum_names *n = open_names(SIZE_MAX);
    velum_entry e = entry_of("a", UINT64_C(5) << 16, "hi");
    e.version.origin = 9;
    CHECK_EQ(merge(n, e, 0), 1);
    CHECK(find(n, "a")->item.mark == UINT64_C(0xd709a9212f3a3b03));
    velum_names_forget(n, &find(n, "a")->item);
    e = entry_of("a", UINT64_C(5) << 16, NULL);
    e.version.origin = 9;
    e.keepers = VELUM_KEEPERS_MAX;
    CHECK_EQ(merge(n, e, 0), 1);
    CHECK(find(n, "a")->item.mark == UINT64_C(0xf6a496a760817222));
    velum_names_close(n);
}

/* ---- merging ---- */

/* Ascending: each is greater than those before it; their keepers have no say in that. */
static size_t ascending(velum_entry *e) {
    size_t count = 0;
    e[count++] = entry_of("x", 1, NULL);
    e[count++] = entry_of("x", 1, "");
    e[count++] = entry_of("x", 1, "a");
    e[count++] = entry_of("x", 1, "b");
    e[count++] = entry_of("x", 1, "ab");
    e[count] = entry_of("x", 1, NULL);
    e[count++].version.origin = UINT32_MAX;
    e[count++] = entry_of("x", 2, NULL);
    e[count++] = entry_of("x", 2, "z");
    e[count++] = entry_of("x", UINT64_C(1) << 40, "");
    for (size_t i = 0; i < count; i++)
        e[i].keepers = (uint8_t)(3 + i * 5 % 4);
    return count;
}

static void test_the_greater_wins(void) {
    velum_entry e[16];
    size_t count = ascending(e);
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < count; j++) {
            velum_names *n = open_names(SIZE_MAX);
            velum_named_version here;
            const velum_entry *greater = &e[i > j ? i : j];
            uint8_t keepers = e[i].keepers > e[j].keepers ? e[i].keepers : e[j].keepers;
            CHECK_EQ(velum_names_merge(n, &e[i], UNIX_MS, 0, &here), 1);
            CHECK_EQ(velum_names_merge(n, &e[j], UNIX_MS, 0, &here), j > i);
            CHECK_EQ(here.what, j >= i ? VELUM_NAMED_KEPT : VELUM_NAMED_LATER);
            CHECK_EQ(here.kind, greater->kind);
            CHECK(here.version.stamp == greater->version.stamp);
            CHECK_EQ(here.version.origin, greater->version.origin);
            CHECK_EQ(find(n, "x")->keepers, keepers);
            CHECK_EQ(find(n, "x")->item.mark & 0xff, keepers);
            CHECK_EQ(find(n, "x")->size, greater->size);
            check_all(n, 1, 3);
            velum_names_close(n);
        }
    }
}

/* More keepers change nothing else of an entry. */
static void test_keepers_are_raised(void) {
    static const uint16_t four[] = {1, 2, 3, 4};
    velum_names *n = open_names(SIZE_MAX);
    velum_entry e = entry_of("x", 9, NULL);
    uint64_t mark;
    CHECK_EQ(velum_names_set_members(n, four, 4), 0);
    e.age_ms = 70;
    CHECK_EQ(merge(n, e, 100), 1);
    velum_names_retire(n, find(n, "x")->item.digest);
    mark = find(n, "x")->item.mark;
    e = entry_of("x", 8, "old");
    e.keepers = 4;
    velum_names_set_room(n, 0); /* it takes none */
    CHECK_EQ(merge(n, e, 200), 0);
    CHECK(find(n, "x")->keepers == 4 && find(n, "x")->item.mark != mark);
    CHECK(find(n, "x")->item.version.stamp == 9 && find(n, "x")->kind == VELUM_ENTRY_TOMBSTONE);
    CHECK(find(n, "x")->made_ms == 30 && find(n, "x")->came_ms == 100);
    CHECK_EQ(velum_names_sharing(n, 0), 0); /* retired it is still */
    CHECK_EQ(velum_names_get_figures(n).tombstones, 1);
    velum_names_close(n);
}

static void test_what_is_found_travels(void) {
    velum_names *n = open_names(SIZE_MAX);
    velum_entry e = entry_of("file", 7, "bytes"), back;
    const velum_names_entry *held;
    CHECK_EQ(merge(n, e, 5), 1);
    held = find(n, "file");
    CHECK_EQ(velum_wire_get_entry(held->payload, held->payload_size, &back), held->payload_size);
    CHECK(back.version.stamp == 7 && back.version.origin == 1 && back.keepers == 3);
    CHECK(back.name.size == 4 && memcmp(back.name.data, "file", 4) == 0);
    CHECK(back.body_size == 5 && memcmp(back.body, "bytes", 5) == 0);
    CHECK(held->name.size == 4 && memcmp(held->name.data, "file", 4) == 0);
    CHECK_EQ(held->came_ms, 5);
    e = entry_of("file", 8, NULL);
    e.age_ms = 7;
    e.nawaited = 1;
    e.awaited = (const uint8_t *)"\2";
    CHECK_EQ(merge(n, e, 5), 1);
    held = find(n, "file");
    CHECK_EQ(velum_wire_get_entry(held->payload, held->payload_size, &back), held->payload_size);
    CHECK(back.age_ms == 0 && back.nawaited == 0 && back.kind == VELUM_ENTRY_TOMBSTONE);
    CHECK_EQ((int64_t)held->made_ms, -2);
    CHECK_EQ(velum_names_get_figures(n).stamp_max, 8);
    velum_names_close(n);
}

static void test_refusals(void) {
    velum_names *n = open_names(SIZE_MAX);
    velum_named_version here;
    velum_entry e = entry_of("x", (UNIX_MS + (UINT64_C(1) << 42)) << 16, "far"), bad;
    CHECK_EQ(merge(n, e, 0), 1);
    e.version.stamp += UINT64_C(1) << 16;
    CHECK_EQ(velum_names_merge(n, &e, UNIX_MS, 0, &here), VELUM_E_VERSION_AHEAD);
    CHECK_EQ(here.what, VELUM_NAMED_HERE);
    CHECK(velum_names_get_figures(n).stamp_max == e.version.stamp - (UINT64_C(1) << 16));
    e = entry_of("y", UINT64_MAX, "");
    CHECK_EQ(velum_names_merge(n, &e, UINT64_MAX, 0, &here), VELUM_E_VERSION_AHEAD);
    CHECK_EQ(here.what, VELUM_NAMED_NONE);
    bad = entry_of("", 1, "");
    CHECK_EQ(merge(n, bad, 0), VELUM_E_ARGUMENT);
    bad = entry_of("z", 1, "");
    bad.keepers = VELUM_KEEPERS_MAX + 1u;
    CHECK_EQ(merge(n, bad, 0), VELUM_E_ARGUMENT);
    CHECK_EQ(velum_names_get_figures(n).count, 1);
    check_all(n, 1, 3);
    velum_names_close(n);
    CHECK_EQ(velum_names_open(&n, 0, 1), VELUM_E_ARGUMENT);
}

static void test_room(void) {
    velum_names *n = open_names(0);
    size_t used;
    CHECK_EQ(merge(n, entry_of("a", 1, "1234"), 0), VELUM_E_NAMES_FULL);
    velum_names_set_room(n, SIZE_MAX);
    CHECK_EQ(merge(n, entry_of("a", 1, "1234"), 0), 1);
    CHECK_EQ(merge(n, entry_of("b", 1, "1234"), 0), 1);
    used = velum_names_get_figures(n).bytes;
    velum_names_set_room(n, used);
    CHECK_EQ(merge(n, entry_of("c", 1, ""), 0), VELUM_E_NAMES_FULL);
    CHECK_EQ(merge(n, entry_of("a", 2, "12345"), 0), VELUM_E_NAMES_FULL);
    CHECK(find(n, "a")->item.version.stamp == 1);
    CHECK_EQ(merge(n, entry_of("a", 0, "12345"), 0), 0); /* takes none */
    velum_names_set_room(n, used + 1);
    CHECK_EQ(merge(n, entry_of("a", 2, "12345"), 0), 1);
    velum_names_set_room(n, 1);
    CHECK_EQ(merge(n, entry_of("a", 3, "abcde"), 0), 1);
    CHECK_EQ(merge(n, entry_of("a", 4, NULL), 0), 1);
    CHECK_EQ(merge(n, entry_of("b", 4, ""), 0), 1);
    CHECK_EQ(merge(n, entry_of("a", 5, "1"), 0), VELUM_E_NAMES_FULL);
    check_all(n, 1, 3);
    velum_names_close(n);
}

static void test_forget(void) {
    velum_names *n = open_names(SIZE_MAX);
    velum_name_item item;
    merge(n, entry_of("a", 1, "x"), 0);
    item = find(n, "a")->item;
    item.mark ^= 1u << 8;
    CHECK(!velum_names_forget(n, &item));
    item.mark ^= 1u << 8;
    item.version.stamp++;
    CHECK(!velum_names_forget(n, &item));
    item.version.stamp--;
    item.version.origin++;
    CHECK(!velum_names_forget(n, &item));
    item.version.origin--;
    item.digest[31] ^= 1u;
    CHECK(!velum_names_forget(n, &item));
    item.digest[31] ^= 1u;
    CHECK(velum_names_forget(n, &item));
    CHECK(find(n, "a") == NULL);
    check_all(n, 1, 3);
    velum_names_close(n);
}

/* ---- pages of names ---- */

static velum_text text(const char *data) {
    velum_text t = {data, (uint16_t)strlen(data)};
    return t;
}

/* The first bytes of the names on a page. */
static const char *page(const velum_names *n, const char *prefix, const char *after, size_t cap,
                        bool *more) {
    static char out[VELUM_NAMES_PAGE_MAX + 1u];
    const velum_names_entry *found[VELUM_NAMES_PAGE_MAX];
    size_t count = velum_names_list(n, text(prefix), text(after), found, cap, more);
    for (size_t i = 0; i < count; i++)
        out[i] = found[i]->name.data[found[i]->name.size - 1];
    out[count] = '\0';
    return out;
}

static void test_list(void) {
    static const char *names[] = {"d/b", "c", "d/a", "\xc3\xa9", "d", "dd"};
    velum_names *n = open_names(SIZE_MAX);
    bool more;
    for (size_t i = 0; i < 6; i++)
        merge(n, entry_of(names[i], 1, i % 2 > 0 ? "x" : NULL), 0);
    CHECK(strcmp(page(n, "", "", 10, &more), "cdabd\xa9") == 0 && !more);
    CHECK(strcmp(page(n, "", "", 6, &more), "cdabd\xa9") == 0 && !more);
    CHECK(strcmp(page(n, "", "", 2, &more), "cd") == 0 && more);
    CHECK(strcmp(page(n, "", "d", 3, &more), "abd") == 0 && more);
    CHECK(strcmp(page(n, "d/", "", 10, &more), "ab") == 0 && !more);
    CHECK(strcmp(page(n, "d/", "d/a", 10, &more), "b") == 0 && !more);
    CHECK(strcmp(page(n, "d/", "a", 1, &more), "a") == 0 && more);
    CHECK(strcmp(page(n, "d/", "d/b", 10, &more), "") == 0 && !more);
    CHECK(strcmp(page(n, "e", "", 10, &more), "") == 0 && !more);
    velum_names_close(n);
}

/* ---- members, sums, walks ---- */

/* Walks to the end; the pairs of an entry and a node, and that each walk step is bounded. */
static size_t scan(velum_names *n, const uint16_t *anew, size_t nanew, uint16_t node) {
    uint8_t at[VELUM_DIGEST_BYTES] = {0};
    velum_names_pair pairs[40];
    size_t count, found = 0, steps = 0;
    bool more = true;
    while (more) {
        more = velum_names_scan(n, at, anew, nanew, 7, pairs, 40, &count);
        for (size_t i = 0; i < count; i++)
            found += pairs[i].node == node;
        steps++;
    }
    CHECK(steps >= (velum_names_get_figures(n).count + 6) / 7);
    return found;
}

static void test_scan(void) {
    static const uint16_t three[] = {1, 2, 3}, four[] = {1, 2, 3, 4};
    velum_names *n = open_names(SIZE_MAX);
    uint8_t at[VELUM_DIGEST_BYTES] = {0};
    velum_names_pair pairs[VELUM_KEEPERS_MAX];
    const velum_names_entry *formers[8];
    size_t count, all;
    char name[8];
    bool more = true;
    CHECK_EQ(velum_names_set_members(n, three, 3), 0);
    for (unsigned i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "n%u", i);
        CHECK_EQ(merge(n, entry_of(name, 1, "x"), 0), 1);
    }
    check_all(n, 1, 4);
    CHECK_EQ(scan(n, NULL, 0, 2), 0);
    CHECK_EQ(scan(n, three + 1, 1, 2), 100); /* it came anew */
    CHECK_EQ(velum_names_set_members(n, four, 4), 0);
    CHECK(velum_names_scan(n, at, NULL, 0, 100, pairs, 2, &count) && count == 0); /* no room */
    all = scan(n, four + 3, 1, 4);
    check_all(n, 1, 4);
    CHECK(velum_names_get_figures(n).formers > 10 && all > 40);
    CHECK_EQ(scan(n, NULL, 0, 4), 0);
    for (all = 0; more; all += count) {
        more = velum_names_formers(n, at, 100, formers, 8, &count);
        for (size_t i = 0; i < count; i++)
            CHECK(velum_names_find(n, formers[i]->item.digest) == formers[i]);
    }
    CHECK_EQ(all, velum_names_get_figures(n).formers);
    CHECK_EQ(velum_names_set_members(n, three, 3), 0); /* sums with 4 stay till it is scanned */
    CHECK(velum_names_sums(n, 4) != NULL);
    CHECK_EQ(scan(n, NULL, 0, 4), 0);
    CHECK(velum_names_sums(n, 4) == NULL);
    check_all(n, 1, 4);
    CHECK_EQ(velum_names_set_members(n, three, 3), 0); /* and it is let go */
    CHECK_EQ(velum_names_set_members(n, three, 0), VELUM_E_ARGUMENT);
    CHECK_EQ(velum_names_set_members(n, (const uint16_t[]){2, 2}, 2), VELUM_E_ARGUMENT);
    CHECK_EQ(velum_names_set_members(n, (const uint16_t[]){0, 2}, 2), VELUM_E_ARGUMENT);
    velum_names_close(n);
}

static void test_shared(void) {
    static const uint16_t two[] = {1, 2};
    velum_names *n = open_names(SIZE_MAX);
    const velum_names_entry *out[3];
    uint8_t at[VELUM_DIGEST_BYTES] = {0}, end[VELUM_DIGEST_BYTES];
    size_t count, all = 0;
    char name[8];
    memset(end, 0xff, sizeof end);
    end[0] = 0x7f;
    CHECK_EQ(velum_names_set_members(n, two, 2), 0);
    for (unsigned i = 0; i < 50; i++) {
        snprintf(name, sizeof name, "n%u", i);
        merge(n, entry_of(name, 1, i < 40 ? "x" : NULL), 0);
    }
    for (bool more = true; more; all += count) {
        more = velum_names_shared(n, 2, at, end, 4, out, 3, &count);
        CHECK(memcmp(at, end, sizeof at) <= 0);
        if (more) CHECK_EQ(count, 3);
        for (size_t i = 0; i < count; i++)
            CHECK(out[i]->item.digest[0] <= 0x7f);
    }
    CHECK(memcmp(at, end, sizeof at) == 0 && all > 10 && all < 40);
    memset(at, 0, sizeof at);
    CHECK(!velum_names_shared(n, 3, at, end, 100, out, 3, &count) && count == 0);
    memset(at, 0, sizeof at);
    CHECK(velum_names_shared(n, 2, at, end, 2, out, 3, &count) && count == 2);
    for (unsigned i = 0; i < 50; i++) {
        snprintf(name, sizeof name, "n%u", i);
        velum_names_retire(n, find(n, name)->item.digest);
        velum_names_retire(n, find(n, name)->item.digest); /* again: nothing */
    }
    all = 0;
    for (size_t b = 0; b < VELUM_BUCKETS; b++)
        all += velum_names_sums(n, 2)->counts[b];
    CHECK_EQ(all, 40); /* only tombstones retire */
    velum_names_close(n);
}

static void test_graves(void) {
    velum_names *n = open_names(SIZE_MAX);
    const velum_names_entry *out[9];
    uint8_t at[VELUM_DIGEST_BYTES] = {0};
    int64_t least = INT64_MAX;
    size_t count;
    velum_entry old = entry_of("old", 1, NULL);
    old.age_ms = 2000;
    merge(n, old, 1000);
    merge(n, entry_of("new", 1, NULL), 1000);
    merge(n, entry_of("newer", 1, NULL), 2000);
    merge(n, entry_of("file", 1, "x"), 500);
    CHECK(!velum_names_graves(n, at, -1000, 9, out, 9, &count, &least));
    CHECK(count == 1 && out[0] == find(n, "old") && least == 1000);
    memset(at, 0, sizeof at);
    least = INT64_MAX;
    CHECK(!velum_names_graves(n, at, 2000, 9, out, 9, &count, &least));
    CHECK(count == 3 && least == INT64_MAX);
    velum_names_close(n);
}

/* ---- many ---- */

static void test_many(void) {
    static uint8_t held[MANY];
    static const uint16_t five[] = {1, 2, 3, 4, 5};
    velum_names *n = open_names(SIZE_MAX);
    char name[16];
    CHECK_EQ(velum_names_set_members(n, five, 5), 0);
    for (size_t round = 0; round < 12; round++) {
        /* The index grows, and shrinks to almost nothing, and so on. */
        size_t likely = round % 4 < 2 ? 80 : round % 4 == 2 ? 20 : 1;
        for (size_t i = 0; i < MANY; i++) {
            bool put = below(100) < likely;
            snprintf(name, sizeof name, "n%zu", i);
            if (put) {
                CHECK_EQ(merge(n, entry_of(name, round, "x"), 0), 1);
            } else {
                const velum_names_entry *entry = find(n, name);
                CHECK_EQ(entry != NULL, held[i]);
                if (entry != NULL) {
                    velum_name_item item = entry->item;
                    CHECK(velum_names_forget(n, &item));
                }
            }
            held[i] = put;
        }
        CHECK_EQ(velum_names_set_members(n, five, 3 + below(3)), 0);
        scan(n, NULL, 0, 0);
        check_all(n, 1, 5);
    }
    velum_names_close(n);
    memset(held, 0, sizeof held);
}

int main(int argc, char **argv) {
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    int failed_before;
    test_keepers();
    test_marks();
    test_the_greater_wins();
    test_keepers_are_raised();
    test_what_is_found_travels();
    test_refusals();
    test_room();
    test_forget();
    test_list();
    test_scan();
    test_shared();
    test_graves();
    failed_before = check_failed_count;
    state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    test_many();
    if (check_failed_count != failed_before) printf("seed %llu\n", (unsigned long long)seed);
    return check_report("names");
}
