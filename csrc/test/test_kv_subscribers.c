/* test_kv_subscribers.c: what subscribers are told, and Velum's own commands, over the port. */
#include "kv_server_world.h"

/* ---- words ---- */

static void test_words(void) {
    world *w = open_world(VELUM_KV_LOG);
    client c = dial(w);
    ASK(w, &c, "SUBSCRIBE a b a",
        "[subscribe a 1]\n[subscribe b 2]\n[subscribe a 2]\n"); /* as Redis frames them */
    ASK(w, &c, "PSUBSCRIBE a*", "[psubscribe a* 3]\n");
    CHECK_EQ(velum_kv_server_get_figures(w->server).subscribers, 1);
    ASK(w, &c, "PING", "[pong ]\n");
    ASK(w, &c, "PING x", "[pong x]\n");
    ASK(w, &c, "GET a",
        "-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET "
        "are allowed in this context\n");
    ASK(w, &c, "GET", "-ERR wrong number of arguments for 'get' command\n");
    ASK(w, &c, "PUBLISH a x",
        "-ERR Can't execute 'publish': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / "
        "RESET are allowed in this context\n");
    ASK(w, &c, "UNSUBSCRIBE nothing a", "[unsubscribe nothing 3]\n[unsubscribe a 2]\n");
    ASK(w, &c, "UNSUBSCRIBE", "[unsubscribe b 1]\n");
    ASK(w, &c, "UNSUBSCRIBE", "[unsubscribe null 1]\n");
    ASK(w, &c, "PUNSUBSCRIBE", "[punsubscribe a* 0]\n");
    ASK(w, &c, "PUNSUBSCRIBE", "[punsubscribe null 0]\n");
    CHECK_EQ(velum_kv_server_get_figures(w->server).subscribers, 0);
    ASK(w, &c, "GET a\nPING", "null\nPONG\n");
    ASK(w, &c, "SUBSCRIBE a\nRESET\nGET a", "[subscribe a 1]\nRESET\nnull\n");
    ASK(w, &c, "SUBSCRIBE a\nQUIT", "[subscribe a 1]\nOK\nclosed\n");
    hang_up(w, &c);
    close_world(w);
}

static void test_frames(void) {
    world *w = open_world(VELUM_KV_LOG);
    client two = dial(w), three = dial(w);
    uint8_t *data;
    size_t n;
    say(w, &two, "SUBSCRIBE a\n");
    n = come(w, &two, &data);
    static const char confirmed[] = "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n";
    CHECK(n == sizeof confirmed - 1 && memcmp(data, confirmed, n) == 0);
    say(w, &three, "HELLO 3\n");
    come(w, &three, &data);
    say(w, &three, "SUBSCRIBE a\n");
    come(w, &three, &data);
    CHECK(memcmp(data, ">3\r\n$9\r\nsubscribe\r\n", 19) == 0);
    say(w, &three, "PUBLISH a m\n"); /* allowed in RESP3: the message, then the reply */
    n = come(w, &three, &data);
    static const char message[] = ">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nm\r\n:2\r\n";
    CHECK(n == sizeof message - 1 && memcmp(data, message, n) == 0);
    n = come(w, &two, &data);
    CHECK(n == sizeof message - 5 && memcmp(data, "*3\r\n$7\r\n", 8) == 0);
    CHECK(strcmp(w->published, "a: m") == 0);
    ASK(w, &three, "UNSUBSCRIBE\nPING", "[unsubscribe a 0]\nPONG\n");
    hang_up(w, &two);
    hang_up(w, &three);
    close_world(w);
}

static void test_publish(void) {
    world *w = open_world(VELUM_KV_LOG);
    client c = dial(w), d = dial(w), e = dial(w);
    ASK(w, &c, "PUBLISH news x", "0\n");
    ASK(w, &d, "SUBSCRIBE news", "[subscribe news 1]\n");
    ASK(w, &d, "PSUBSCRIBE n?ws other", "[psubscribe n?ws 2]\n[psubscribe other 3]\n");
    ASK(w, &e, "PSUBSCRIBE *", "[psubscribe * 1]\n");
    ASK(w, &c, "PUBLISH news hello", "3\n");
    EXPECT(w, &d, "[message news hello]\n[pmessage n?ws news hello]\n");
    EXPECT(w, &e, "[pmessage * news hello]\n");
    velum_kv_bytes channel = {(const uint8_t *)"nows", 4}, message = {NULL, 0};
    CHECK_EQ(velum_kv_server_publish(w->server, channel, message), 2);
    EXPECT(w, &d, "[pmessage n?ws nows ]\n");
    EXPECT(w, &e, "[pmessage * nows ]\n");
    hang_up(w, &d); /* goes with its subscriptions */
    CHECK_EQ(velum_kv_server_publish(w->server, channel, message), 1);
    hang_up(w, &c);
    hang_up(w, &e);
    close_world(w);
}

/* ---- events ---- */

static void test_events(void) {
    static const struct {
        const char *line, *reply, *events;
    } rows[] = {
        {"SET k 1\n", "OK\n", "k set\n"},         {"SET k 1 EX 5\n", "OK\n", "k set\nk expire\n"},
        {"PERSIST k\n", "1\n", "k persist\n"},    {"EXPIRE k 9\n", "1\n", "k expire\n"},
        {"DECR k\n", "0\n", "k incrby\n"},        {"APPEND k x\n", "2\n", "k set\nk expire\n"},
        {"GETDEL k\n", "0x\n", "k del\n"},        {"DEL k\n", "0\n", ""},
        {"SADD s a\n", "1\n", "s sadd\n"},        {"SADD s a\n", "0\n", ""},
        {"SREM s a\n", "1\n", "s srem\ns del\n"}, {"HSET h f v\n", "1\n", "h hset\n"},
        {"HSET h g v\n", "1\n", "h hset\n"},      {"HDEL h f\n", "1\n", "h hdel\n"},
        {"HDEL h g\n", "1\n", "h hdel\nh del\n"}, {"SET k 1 PX 100\n", "OK\n", "k set\nk expire\n"},
    };
    world *w = open_world(VELUM_KV_LOG);
    client c = dial(w), d = dial(w), e = dial(w);
    ASK(w, &d, "PSUBSCRIBE __keyspace@0__:*", "[psubscribe __keyspace@0__:* 1]\n");
    ASK(w, &e, "SUBSCRIBE __keyevent@0__:expired", "[subscribe __keyevent@0__:expired 1]\n");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char expected[512] = "";
        say(w, &c, rows[i].line);
        EXPECT(w, &c, rows[i].reply);
        for (const char *at = rows[i].events; *at != 0; at = strchr(at, '\n') + 1) {
            size_t size = strlen(expected);
            snprintf(expected + size, sizeof expected - size,
                     "[pmessage __keyspace@0__:* __keyspace@0__:%.1s %.*s]\n", at,
                     (int)strcspn(at + 2, "\n"), at + 2);
        }
        EXPECT(w, &d, expected);
        EXPECT(w, &e, "");
    }
    pass(w, SECOND_US);
    ASK(w, &c, "GET k", "null\n");
    EXPECT(w, &d, "[pmessage __keyspace@0__:* __keyspace@0__:k expired]\n");
    EXPECT(w, &e, "[message __keyevent@0__:expired k]\n");
    hang_up(w, &c);
    hang_up(w, &d);
    hang_up(w, &e);
    close_world(w);
}

/* A message to who causes it comes behind the reply, never into it. */
static void test_own_events(void) {
    world *w = open_world(VELUM_KV_LOG);
    client c = dial(w);
    uint8_t *data;
    say(w, &c, "HELLO 3\nSET b 1 PX 10\nSET c 2\n");
    come(w, &c, &data);
    ASK(w, &c, "PSUBSCRIBE __keyspace*", "[psubscribe __keyspace* 1]\n");
    pass(w, SECOND_US);
    ASK(w, &c, "MGET c b c\nSET a 1",
        "[2 null 2]\n[pmessage __keyspace* __keyspace@0__:b expired]\n"
        "OK\n[pmessage __keyspace* __keyspace@0__:a set]\n");
    hang_up(w, &c);
    close_world(w);
}

/* The state outlives the server. */
static void test_server_ends(void) {
    world *w = open_world(VELUM_KV_LOG);
    client c = dial(w);
    ASK(w, &c, "PSUBSCRIBE *", "[psubscribe * 1]\n");
    velum_kv_server_close(w->server);
    w->server = NULL;
    velum_kv_record record = {.op = VELUM_KV_DEL, .key = {(const uint8_t *)"k", 1}};
    CHECK_EQ(velum_kv_state_write(w->state, &record, NULL), 1);
    record = (velum_kv_record){.op = VELUM_KV_ADD, .key = {(const uint8_t *)"k", 1}};
    CHECK_EQ(velum_kv_state_write(w->state, &record, NULL), 1);
    velum_port_close(c.fd);
    close_world(w);
}

/* ---- limits ---- */

static void test_unread_messages(void) {
    world *w = open_world(VELUM_KV_LOG);
    client c = dial(w), d = dial(w);
    static uint8_t message[1000000 + 64];
    int head = snprintf((char *)message, 64, "*3\r\n$7\r\nPUBLISH\r\n$1\r\na\r\n$1000000\r\n");
    memset(message + head, 'm', 1000000);
    memcpy(message + head + 1000000, "\r\n", 2);
    ASK(w, &d, "SUBSCRIBE a", "[subscribe a 1]\n");
    for (int i = 1; i <= 10; i++) {
        say_bytes(w, &c, message, (size_t)head + 1000000 + 2);
        EXPECT(w, &c, i <= 9 ? "1\n" : "0\n"); /* some bytes lie in the socket */
    }
    CHECK_EQ(velum_kv_server_get_figures(w->server).subscribers, 0);
    CHECK_EQ(velum_kv_server_get_figures(w->server).connections, 1);
    hang_up(w, &c);
    hang_up(w, &d);
    close_world(w);
}

static void test_limits(void) {
    static char line[VELUM_KV_CHANNEL_BYTES_MAX + 64];
    world *w = open_world(VELUM_KV_LOG);
    client c = dial(w);
    size_t head = (size_t)sprintf(line, "PSUBSCRIBE ");
    memset(line + head, 'c', VELUM_KV_CHANNEL_BYTES_MAX + 1);
    strcpy(line + head + VELUM_KV_CHANNEL_BYTES_MAX + 1, "\n");
    say(w, &c, line);
    EXPECT(w, &c, "-ERR a channel has 1088 bytes at most\n");
    head = (size_t)sprintf(line, "PUBLISH ");
    memset(line + head, 'c', VELUM_KV_CHANNEL_BYTES_MAX + 1);
    strcpy(line + head + VELUM_KV_CHANNEL_BYTES_MAX + 1, " x\n");
    say(w, &c, line);
    EXPECT(w, &c, "-ERR a channel has 1088 bytes at most\n");
    for (size_t i = 1; i <= VELUM_KV_SUBSCRIPTIONS_MAX; i++) {
        char expected[64];
        snprintf(line, sizeof line, "SUBSCRIBE c%zu\n", i);
        snprintf(expected, sizeof expected, "[subscribe c%zu %zu]\n", i, i);
        say(w, &c, line);
        EXPECT(w, &c, expected);
    }
    ASK(w, &c, "SUBSCRIBE c5", "[subscribe c5 1024]\n");
    ASK(w, &c, "SUBSCRIBE more", "-ERR a connection has 1024 subscriptions at most\n");
    hang_up(w, &c);
    close_world(w);
}

/* ---- Velum's own commands ---- */

/* Says a line; the version that is its reply, or a part of it. */
static const char *version_of(world *w, client *c, const char *line) {
    static char version[24];
    uint8_t *data;
    say(w, c, line);
    size_t n = come(w, c, &data);
    data[n] = 0;
    const char *hyphen = strchr((const char *)data, '-');
    CHECK(hyphen != NULL && hyphen - (const char *)data >= 16);
    if (hyphen == NULL) return "";
    snprintf(version, sizeof version, "%.18s", hyphen - 16);
    return version;
}

static void test_versions(void) {
    world *w = open_world(VELUM_KV_LOG);
    client c = dial(w);
    char line[128], expected[128];
    ASK(w, &c, "VELUM.GET k", "null\n");
    ASK(w, &c, "VELUM.CAS k 018bcfe568000000-7 x", "null\n"); /* there is nothing */
    const char *version = version_of(w, &c, "VELUM.PUT k {} json PX 5000\n");
    snprintf(expected, sizeof expected, "[json {} %s %llu]\n", version,
             (unsigned long long)NOW_MS + 5000);
    ASK(w, &c, "VELUM.GET k", expected);
    ASK(w, &c, "VELUM.CAS k 0 x", "null\n");
    snprintf(line, sizeof line, "VELUM.CAS k %s two\n", version);
    version = version_of(w, &c, line);
    say(w, &c, line); /* again: it is another one now */
    EXPECT(w, &c, "null\n");
    snprintf(expected, sizeof expected, "[bytes two %s 0]\n", version);
    ASK(w, &c, "VELUM.GET k", expected);
    ASK(w, &c, "GET k", "two\n");
    version_of(w, &c, "VELUM.CAS new 0 x\n");
    ASK(w, &c, "INCR n", "1\n");
    snprintf(line, sizeof line, "VELUM.CAS n %s 5\n", version_of(w, &c, "VELUM.GET n\n"));
    version_of(w, &c, line);
    ASK(w, &c, "GET n", "5\n");
    static const char *const wrong[] = {"1",
                                        "x",
                                        "",
                                        "018bcfe568000000",
                                        "018bcfe568000000-",
                                        "018bcfe568000000-0",
                                        "018bcfe568000000-07",
                                        "018bcfe568000000-65536",
                                        "018BCFE568000000-7",
                                        "018bcfe568000000-7x",
                                        "018bcfe568000000-4294967303"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        snprintf(line, sizeof line, "VELUM.CAS k \"%s\" x\n", wrong[i]);
        say(w, &c, line);
        EXPECT(w, &c, "-ERR invalid version\n");
    }
    ASK(w, &c, "VELUM.PUT k v JSON JSON", "-ERR syntax error\n");
    ASK(w, &c, "VELUM.PUT k v PX 5 EX 5", "-ERR syntax error\n");
    ASK(w, &c, "VELUM.PUT k v PX", "-ERR syntax error\n");
    ASK(w, &c, "VELUM.PUT k v PX 0", "-ERR invalid expire time in 'velum.put' command\n");
    ASK(w, &c, "GET k", "two\n");
    hang_up(w, &c);
    close_world(w);
}

static void test_types(void) {
    world *w = open_world(VELUM_KV_LOG);
    client c = dial(w);
    uint8_t *data;
    say(w, &c, "HELLO 3\nINCR n\nSADD s b a\nHSET h f 1 g 2\n");
    come(w, &c, &data);
    static const char *const lines[] = {"VELUM.GET n\n", "VELUM.GET s\n", "VELUM.GET h\n"};
    static const char *const heads[] = {"*4\r\n$7\r\ncounter\r\n:1\r\n",
                                        "*4\r\n$3\r\nset\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n",
                                        "*4\r\n$4\r\nhash\r\n%2\r\n$1\r\nf\r\n$1\r\n1\r\n"};
    for (size_t i = 0; i < 3; i++) {
        say(w, &c, lines[i]);
        size_t n = come(w, &c, &data), head = strlen(heads[i]);
        CHECK(n > head && memcmp(data, heads[i], head) == 0);
    }
    hang_up(w, &c);
    close_world(w);
}

/* What two nodes have put at once stays until one replaces both. */
static void test_siblings(void) {
    world *w = open_world(VELUM_KV_LOG);
    client c = dial(w);
    version_of(w, &c, "VELUM.REPLACE k one\n");
    ASK(w, &c, "SMEMBERS k", "[one]\n");
    velum_kv_record theirs = {.op = VELUM_KV_ADD,
                              .stamp = {(NOW_MS << 16) + 2, 8},
                              .key = {(const uint8_t *)"k", 1},
                              .part = {(const uint8_t *)"two", 3}};
    CHECK_EQ(velum_kv_state_hear(w->state, &theirs), 1);
    theirs.stamp.node = 9;
    CHECK_EQ(velum_kv_state_hear(w->state, &theirs), 1);
    ASK(w, &c, "SMEMBERS k", "[one two]\n");
    const char *version = version_of(w, &c, "VELUM.REPLACE k three\n");
    char expected[64];
    snprintf(expected, sizeof expected, "[set [three] %s 0]\n", version);
    ASK(w, &c, "VELUM.GET k", expected);
    version_of(w, &c, "VELUM.REPLACE k three\n"); /* it stays, too */
    version_of(w, &c, "VELUM.REPLACE k \"\"\n");
    ASK(w, &c, "SMEMBERS k", "[]\n");
    ASK(w, &c, "SCARD k", "1\n");
    ASK(w, &c, "SET b x\nVELUM.REPLACE b y",
        "OK\n-WRONGTYPE Operation against a key holding the wrong kind of value\n");
    hang_up(w, &c);
    close_world(w);
}

static void test_care(void) {
    world *w = open_world(VELUM_KV_LOG);
    client c = dial(w);
    uint8_t *data;
    w->peers = 3;
    ASK(w, &c, "SET a 1\nVELUM.COMPACT", "OK\nOK\n");
    CHECK_EQ(w->compacted, 1);
    say(w, &c, "VELUM.COMPACT\n");
    size_t n = come(w, &c, &data);
    CHECK(n > 6 && memcmp(data, "-BUSY ", 6) == 0);
    say(w, &c, "HELLO 3\n");
    come(w, &c, &data);
    say(w, &c, "VELUM.STAT\n");
    n = come(w, &c, &data);
    data[n] = 0;
    CHECK(data[0] == '%');
    CHECK(strstr((char *)data, "$4\r\nnode\r\n:7\r\n") != NULL);
    CHECK(strstr((char *)data, "$4\r\nkeys\r\n:1\r\n") != NULL);
    CHECK(strstr((char *)data, "$5\r\npeers\r\n:3\r\n") != NULL);
    CHECK(strstr((char *)data, "$19\r\nlog_unwritten_bytes\r\n:0\r\n") != NULL);
    hang_up(w, &c);
    close_world(w);
    w = open_world(0);
    c = dial(w);
    ASK(w, &c, "VELUM.COMPACT", "-ERR there is no log that is compacted here\n");
    hang_up(w, &c);
    close_world(w);
}

int main(void) {
    test_words();
    test_frames();
    test_publish();
    test_events();
    test_own_events();
    test_server_ends();
    test_unread_messages();
    test_limits();
    test_versions();
    test_types();
    test_siblings();
    test_care();
    return check_report("kv_subscribers");
}
