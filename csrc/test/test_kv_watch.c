/* test_kv_watch.c: what a watch is told: of which records, in which words, what it has missed, and
 * that a state and the changes behind it leave nothing out and tell nothing twice.
 *
 * What came is compared as text (resp_show.h), a change a line, with the version as "@".
 */
#include "kv_commands.h"
#include "kv_watch.h"
#include "kv_world.h"
#include "resp_show.h"

#define TEXT_BYTES  65536u
#define NODE        7u
#define PEER        8u
#define NOW_MS      UINT64_C(1700000000000)
#define WATCHES_MAX 4u

typedef struct {
    char text[TEXT_BYTES]; /* of what came since the last look */
    shown s;
    size_t takes, refuse_after; /* changes; it takes no more than these */
    size_t refused, bytes;
} receiver;

typedef struct {
    velum_kv_state *state;
    velum_kv_watches *watches;
    velum_kv_client client;
    uint64_t now_ms;
    velum_kv_stamp last;
} world;

static void writes(void *owner, const velum_kv_record *record) {
    world *w = owner;
    if (w->watches != NULL) velum_kv_watches_writes(w->watches, record);
}

static void wrote(void *owner, const velum_kv_record *record, bool own) {
    world *w = owner;
    (void)own;
    w->last = record->stamp;
    velum_kv_watches_wrote(w->watches, record);
}

static uint64_t clock_ms(void *owner) {
    return ((const world *)owner)->now_ms;
}

static world *open_world(void) {
    world *w = calloc(1, sizeof *w);
    velum_kv_found found;
    velum_kv_config config = {.node = NODE,
                              .room_bytes = 1u << 24,
                              .waker = VELUM_NO_FD,
                              .owner = w,
                              .writes = writes,
                              .wrote = wrote,
                              .unix_ms = clock_ms};
    if (w == NULL) abort();
    w->now_ms = NOW_MS;
    CHECK_EQ(velum_kv_state_open(&w->state, &config, NULL, &found), 0);
    CHECK_EQ(velum_kv_watches_open(&w->watches, w->state, WATCHES_MAX), 0);
    return w;
}

static void close_world(world *w) {
    velum_kv_watches_close(w->watches);
    velum_kv_state_close(w->state);
    free(w);
}

/* ---- receivers ---- */

static void clear(receiver *r) {
    r->s = (shown){.text = r->text, .room = sizeof r->text - 1};
}

static receiver *open_receiver(void) {
    receiver *r = calloc(1, sizeof *r);
    if (r == NULL) abort();
    r->refuse_after = SIZE_MAX;
    clear(r);
    return r;
}

/* Takes "STAMP-NODE" out of the change that was shown last, from `at` on. */
static void hide_version(receiver *r, size_t at) {
    r->text[r->s.size] = 0;
    char *last = strrchr(r->text + at, ' '), *before = last;
    while (*--before != ' ')
        continue;
    if (before[2] == ' ') return; /* "0" */
    CHECK_EQ(before[17], '-');
    memmove(before + 2, last, strlen(last) + 1);
    before[1] = '@';
    r->s.size = strlen(r->text);
}

static bool take(void *owner, const uint8_t *change, size_t n) {
    receiver *r = owner;
    if (r->takes >= r->refuse_after) {
        r->refused++;
        return false;
    }
    r->takes++;
    r->bytes += n;
    if (r->s.room - r->s.size < 4096) return true; /* counted, and not shown */
    size_t at = r->s.size;
    CHECK_EQ(show_value(&r->s, change, n), n);
    hide_version(r, at);
    show_bytes(&r->s, "\n", 1);
    return true;
}

static void expect(receiver *r, const char *expected) {
    r->text[r->s.size] = 0;
    bool right = strcmp(r->text, expected) == 0;
    CHECK(right);
    if (!right) printf("came:\n%sexpected:\n%s", r->text, expected);
    clear(r);
}

static velum_kv_watch *begin(world *w, const char *pattern, bool state, receiver *r) {
    velum_kv_watch *watch;
    CHECK_EQ(velum_kv_watch_begin(w->watches, text(pattern), state, take, r, &watch), 0);
    return watch;
}

static void step(world *w) {
    while (velum_kv_watches_step(w->watches))
        continue;
}

/* ---- writing ---- */

static uint8_t *more(void *owner, size_t n) {
    static uint8_t nowhere[4096];
    (void)owner;
    return n <= sizeof nowhere ? nowhere : NULL;
}

static void used(void *owner, size_t n) {
    (void)owner;
    (void)n;
}

/* Does a command of words with single spaces. */
static void ask(world *w, const char *line) {
    velum_resp_arg args[16];
    size_t count = 0;
    uint64_t place;
    velum_resp_writer out = {.more = more, .wrote = used, .version = 3};
    for (const char *at = line; count < 16; at = strchr(at, ' ') + 1) {
        const char *end = strchr(at, ' ');
        args[count].data = (const uint8_t *)at;
        args[count++].size = end != NULL ? (size_t)(end - at) : strlen(at);
        if (end == NULL) break;
    }
    CHECK_EQ(velum_kv_command(w->state, &w->client, args, count, &out, &place), 1);
}

/* A stamp of this moment. */
static uint64_t now(const world *w, uint64_t counter) {
    return w->now_ms << 16 | counter << 1;
}

static void hear(world *w, velum_kv_record record) {
    CHECK(velum_kv_state_hear(w->state, &record) >= 0);
}

/* ---- tests ---- */

static void test_words(void) {
    static const struct {
        const char *command, *changes;
    } rows[] = {
        {"SET a 1", "[set a bytes 1 @ 0]\n"},
        {"SET a 2 PX 5000", "[set a bytes 2 @ 1700000005000]\n"},
        {"PERSIST a", "[expire a bytes null @ 0]\n"},
        {"PEXPIRE a 7000", "[expire a bytes null @ 1700000007000]\n"},
        {"INCRBY a 40", "[count a counter 42 @ 1700000007000]\n"},
        {"INCR n", "[count n counter 1 @ 0]\n"},
        {"INCRBY n 0", "[count n counter 1 @ 0]\n"},
        {"GET a", ""},
        {"DEL a", "[del a none null @ 0]\n"},
        {"DEL a", ""},
        {"SADD s x y", "[add s set x @ 0]\n[add s set y @ 0]\n"},
        {"SADD s x", ""},
        {"SREM s x nothing", "[remove s set x @ 0]\n"},
        {"SREM s y", "[remove s none y @ 0]\n"},
        {"HSET h f 1 g 2", "[field h hash [f 1] @ 0]\n[field h hash [g 2] @ 0]\n"},
        {"HSET h f 1", "[field h hash [f 1] @ 0]\n"},
        {"HDEL h f nothing", "[unfield h hash f @ 0]\n"},
        {"EXPIRE h -1", "[del h none null @ 0]\n"},
        {"VELUM.PUT j {} JSON", "[set j json {} @ 0]\n"},
        {"EXPIRE nothing 5", ""},
    };
    world *w = open_world();
    receiver *r = open_receiver();
    begin(w, "*", false, r);
    step(w);
    expect(r, "[now  none null 0 0]\n");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ask(w, rows[i].command);
        expect(r, rows[i].changes);
    }
    close_world(w);
    free(r);
}

static void test_expiry(void) {
    world *w = open_world();
    receiver *r = open_receiver();
    ask(w, "SET a 1 PX 100");
    ask(w, "SET b 1 PX 100");
    ask(w, "SET c 1");
    w->now_ms += 100;
    begin(w, "*", true, r);
    step(w);
    expect(r, "[state c bytes 1 @ 0]\n[now  none null 0 0]\n");
    ask(w, "GET a");
    expect(r, "[expired a none null @ 0]\n");
    hear(w, del(now(w, 1), PEER, "b"));
    expect(r, "[del b none null @ 0]\n");
    close_world(w);
    free(r);
}

/* Records that change nothing that can be seen. */
static void test_nothing_visible(void) {
    world *w = open_world();
    receiver *r = open_receiver();
    begin(w, "*", false, r);
    step(w);
    ask(w, "SADD s x");
    ask(w, "HSET h f 1");
    ask(w, "SET b text");
    clear(r);
    velum_kv_stamp mine = at(now(w, 0), NODE);
    hear(w, del(now(w, 1), PEER, "nothing"));
    hear(w, expire(now(w, 1), PEER, "nothing too", NOW_MS + 5));
    hear(w, add(now(w, 1), PEER, "s", "x"));
    hear(w, take_out(now(w, 2), PEER, "s", "x", at(now(w, 1), PEER)));
    hear(w, take_out(now(w, 3), PEER, "s", "y", at(now(w, 1), PEER)));
    hear(w, unfield(now(w, 4), PEER, "h", "g"));
    hear(w, set(1, PEER, "b", "older"));
    hear(w, count(now(w, 9), PEER, "c", 5, at(now(w, 8), PEER)));
    hear(w, del(2, PEER, "s"));
    expect(r, "");
    hear(w, set(now(w, 8), PEER, "c", "10"));
    hear(w, take_out(now(w, 5), PEER, "s", "x", mine));
    expect(r, "[set c counter 15 @ 0]\n[remove s none x @ 0]\n");
    hear(w, add(now(w, 10), PEER, "b", "element")); /* the bytes hide it */
    hear(w, field(now(w, 11), PEER, "b", "f", "v"));
    expect(r, "");
    close_world(w);
    free(r);
}

/* Where more shows than the record has written, all of it is told. */
static void test_uncovered(void) {
    world *w = open_world();
    receiver *r = open_receiver();
    ask(w, "SET k text");
    hear(w, add(now(w, 20), PEER, "k", "e"));
    hear(w, field(now(w, 21), PEER, "k", "f", "v"));
    begin(w, "*", false, r);
    step(w);
    clear(r);
    hear(w, del(now(w, 10), PEER, "k"));
    expect(r, "[state k set [e] @ 0]\n");
    hear(w, take_out(now(w, 22), PEER, "k", "e", at(now(w, 20), PEER)));
    expect(r, "[state k hash {f v} @ 0]\n");
    hear(w, field(now(w, 30), PEER, "k", "g", "w"));
    hear(w, del(now(w, 25), PEER, "k"));
    expect(r, "[field k hash [g w] @ 0]\n[state k hash {g w} @ 0]\n");
    close_world(w);
    free(r);
}

static void test_patterns(void) {
    world *w = open_world();
    receiver *all = open_receiver(), *some = open_receiver();
    velum_kv_watch *watch;
    begin(w, "*", false, all);
    watch = begin(w, "robot/*/x", true, some);
    step(w);
    clear(all);
    clear(some);
    ask(w, "SET robot/1/x 1");
    ask(w, "SET robot/1/y 1");
    ask(w, "SET robot/2/arm/x 1");
    expect(all, "[set robot/1/x bytes 1 @ 0]\n[set robot/1/y bytes 1 @ 0]\n"
                "[set robot/2/arm/x bytes 1 @ 0]\n");
    expect(some, "[set robot/1/x bytes 1 @ 0]\n[set robot/2/arm/x bytes 1 @ 0]\n");
    CHECK_EQ(velum_kv_watches_count(w->watches), 2);
    velum_kv_watch_end(watch);
    CHECK_EQ(velum_kv_watches_count(w->watches), 1);
    ask(w, "SET robot/1/x 2");
    expect(some, "");
    expect(all, "[set robot/1/x bytes 2 @ 0]\n");
    close_world(w);
    free(all);
    free(some);
}

static void test_limits(void) {
    static char longest[VELUM_KV_PATTERN_BYTES_MAX + 2];
    world *w = open_world();
    receiver *r = open_receiver();
    velum_kv_watch *watch;
    memset(longest, 'p', sizeof longest - 1);
    CHECK_EQ(velum_kv_watch_begin(w->watches, text(longest), true, take, r, &watch),
             VELUM_E_TOO_LARGE);
    longest[VELUM_KV_PATTERN_BYTES_MAX] = 0;
    for (size_t i = 0; i < WATCHES_MAX; i++)
        watch = begin(w, longest, true, r);
    velum_kv_watch *none;
    CHECK_EQ(velum_kv_watch_begin(w->watches, text("*"), true, take, r, &none), VELUM_E_FULL);
    CHECK(none == NULL);
    velum_kv_watch_end(watch);
    begin(w, "", false, r);
    close_world(w);
    free(r);
}

/* ---- who takes nothing ---- */

static void test_missed(void) {
    world *w = open_world();
    receiver *slow = open_receiver(), *quick = open_receiver();
    begin(w, "*", false, slow);
    begin(w, "*", false, quick);
    step(w);
    clear(slow);
    clear(quick);
    slow->refuse_after = slow->takes;
    ask(w, "SET a 1");
    ask(w, "SET a 2");
    ask(w, "SET a 3");
    step(w);
    expect(slow, "");
    expect(quick, "[set a bytes 1 @ 0]\n[set a bytes 2 @ 0]\n[set a bytes 3 @ 0]\n");
    slow->refuse_after = SIZE_MAX;
    ask(w, "SET a 4");
    expect(slow, "[missed  none 3 0 0]\n[set a bytes 4 @ 0]\n");
    expect(quick, "[set a bytes 4 @ 0]\n");
    slow->refuse_after = slow->takes;
    ask(w, "SET a 5");
    slow->refuse_after = slow->takes + 1; /* the note, and not the change behind it */
    ask(w, "SET a 6");
    expect(slow, "[missed  none 1 0 0]\n");
    expect(quick, "[set a bytes 5 @ 0]\n[set a bytes 6 @ 0]\n");
    slow->refuse_after = SIZE_MAX;
    step(w);
    expect(slow, "[missed  none 1 0 0]\n");
    step(w);
    expect(slow, "");
    close_world(w);
    free(slow);
    free(quick);
}

/* A state that is refused in its middle is told on, and nothing of it is missed. */
static void test_refused_state(void) {
    world *w = open_world();
    receiver *r = open_receiver();
    for (int i = 0; i < 10; i++) {
        char line[32];
        snprintf(line, sizeof line, "SET k%d v", i);
        ask(w, line);
    }
    begin(w, "*", true, r);
    r->refuse_after = 4;
    step(w);
    CHECK_EQ(r->takes, 4);
    CHECK(!velum_kv_watches_step(w->watches)); /* it does not spin */
    r->refuse_after = 10;
    step(w);
    CHECK_EQ(r->takes, 10);
    r->refuse_after = SIZE_MAX;
    clear(r);
    step(w);
    expect(r, "[now  none null 0 0]\n");
    CHECK_EQ(r->takes, 11);
    close_world(w);
    free(r);
}

static void test_pieces(void) {
    world *w = open_world();
    receiver *r = open_receiver();
    char line[32];
    for (int i = 0; i < 2000; i++) {
        snprintf(line, sizeof line, "SET k%d v", i);
        ask(w, line);
    }
    begin(w, "*", true, r);
    size_t rounds = 1, before = 0;
    while (velum_kv_watches_step(w->watches)) {
        CHECK(r->takes - before <= 256);
        before = r->takes;
        rounds++;
    }
    CHECK(rounds >= 8 && rounds < 40);
    CHECK_EQ(r->takes, 2001);
    close_world(w);
    free(r);
}

/* A set that is too large to be told. */
static void test_large(void) {
    static char element[1000];
    world *w = open_world();
    receiver *r = open_receiver();
    for (int i = 0; i < 2200; i++) {
        velum_kv_record record = {.op = VELUM_KV_ADD, .key = text("s")};
        memcpy(element, &i, sizeof i);
        record.part = (velum_kv_bytes){(const uint8_t *)element, sizeof element};
        CHECK_EQ(velum_kv_state_write(w->state, &record, NULL), 1);
    }
    ask(w, "SADD t x");
    begin(w, "s", true, r);
    begin(w, "t", true, r);
    step(w);
    CHECK(strstr(r->text, "[state s set null @ 0]\n") != NULL);
    CHECK(strstr(r->text, "[state t set [x] @ 0]\n") != NULL);
    close_world(w);
    free(r);
}

/* ---- none twice, none left out ---- */

#define KEYS 300

typedef struct {
    int made[KEYS], told[KEYS]; /* the number that was written last, and that was told last */
    bool now;
} model;

static bool take_number(void *owner, const uint8_t *change, size_t n) {
    model *m = owner;
    char line[256] = "", event[16], key[16];
    shown s = {.text = line, .room = sizeof line - 1};
    int number, value;
    CHECK_EQ(show_value(&s, change, n), n);
    if (strncmp(line, "[now", 4) == 0) {
        CHECK(!m->now);
        m->now = true;
        return true;
    }
    CHECK_EQ(sscanf(line, "[%15s %15s bytes %d", event, key, &value), 3);
    number = atoi(key + 1);
    CHECK(number >= 0 && number < KEYS);
    if (strcmp(event, "state") == 0) {
        CHECK(!m->now && m->told[number] == 0);
        CHECK_EQ(value, m->made[number]);
    } else {
        CHECK_EQ(value, m->told[number] + 1); /* the one after what was told before */
    }
    m->told[number] = value;
    return true;
}

static void test_none_twice_none_missed(uint64_t seed) {
    world *w = open_world();
    model *m = calloc(1, sizeof *m);
    receiver *other = open_receiver();
    velum_kv_watch *watch;
    uint64_t dice = seed * 2 + 1;
    char line[64];
    bool watching = false;
    if (m == NULL) abort();
    for (int i = 0; i < 3000; i++) {
        dice = dice * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        int key = (int)(dice >> 33) % (i < 1000 ? KEYS / 2 : KEYS);
        m->made[key]++;
        snprintf(line, sizeof line, "SET k%d %d", key, m->made[key]);
        ask(w, line);
        if (i == 1000) {
            velum_kv_watch_begin(w->watches, text("k*"), true, take_number, m, &watch);
            for (size_t k = 0; k + 1 < WATCHES_MAX; k++) /* with others its pieces are smaller */
                begin(w, "nothing", true, other);
            watching = true;
        }
        if (watching && dice >> 62 == 0) velum_kv_watches_step(w->watches);
    }
    step(w);
    CHECK(m->now);
    for (int i = 0; i < KEYS; i++)
        CHECK_EQ(m->told[i], m->made[i]);
    close_world(w);
    free(other);
    free(m);
}

int main(void) {
    test_words();
    test_expiry();
    test_nothing_visible();
    test_uncovered();
    test_patterns();
    test_limits();
    test_missed();
    test_refused_state();
    test_pieces();
    test_large();
    for (uint64_t seed = 1; seed <= 5; seed++)
        test_none_twice_none_missed(seed);
    return check_report("kv_watch");
}
