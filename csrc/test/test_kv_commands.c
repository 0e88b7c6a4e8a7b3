/* test_kv_commands.c: commands and their replies, byte for byte, on a state without a log.
 *
 * A line of a table is a request, its words separated by spaces, and the reply; "~" in a request is
 * a space inside a word, and "\1" in a reply stands for CR LF. The clock is the test's.
 */
#include "check.h"
#include "kv_commands.h"
#include "velum_port.h"

#include <stdlib.h>

#define REPLY_BYTES 65536u
#define NODE        7u

typedef struct {
    velum_kv_state *state;
    velum_kv_client client;
    uint64_t now_ms;
    velum_kv_record last; /* that was written; its bytes are not to be read */
    size_t writes;
    uint8_t reply[REPLY_BYTES];
    size_t size;
} world;

static void wrote(void *owner, const velum_kv_record *record, bool own) {
    world *w = owner;
    CHECK(own);
    w->last = *record;
    w->writes++;
}

static uint64_t clock_ms(void *owner) {
    return ((const world *)owner)->now_ms;
}

static uint8_t *more(void *owner, size_t n) {
    world *w = owner;
    return n <= REPLY_BYTES - w->size ? w->reply + w->size : NULL;
}

static void used(void *owner, size_t n) {
    ((world *)owner)->size += n;
}

static world *open_world(void) {
    world *w = calloc(1, sizeof *w);
    if (w == NULL) abort();
    w->now_ms = UINT64_C(1700000000000);
    velum_kv_config config = {.node = NODE,
                              .room_bytes = 1u << 20,
                              .waker = VELUM_NO_FD,
                              .owner = w,
                              .wrote = wrote,
                              .unix_ms = clock_ms};
    velum_kv_found found;
    w->client.id = 1;
    CHECK_EQ(velum_kv_state_open(&w->state, &config, NULL, &found), 0);
    return w;
}

static void close_world(world *w) {
    velum_kv_state_close(w->state);
    free(w);
}

/* Does a request; the reply is in w->reply. */
static int ask(world *w, const char *line) {
    velum_resp_arg args[64];
    static char words[4096];
    size_t count = 0, n = strlen(line);
    uint64_t at = 0;
    memcpy(words, line, n + 1);
    for (size_t i = 0; i <= n && count < 64;) {
        size_t end = i;
        while (words[end] != ' ' && words[end] != 0)
            end++;
        for (size_t j = i; j < end; j++) {
            if (words[j] == '~') words[j] = ' ';
        }
        args[count++] = (velum_resp_arg){.data = (uint8_t *)words + i, .size = end - i};
        i = end + 1;
    }
    velum_resp_writer out = {.owner = w, .more = more, .wrote = used, .version = w->client.version};
    w->size = 0;
    return velum_kv_command(w->state, &w->client, args, count, &out, &at);
}

static void expect(world *w, const char *line, const char *reply) {
    static char expected[REPLY_BYTES];
    size_t n = 0;
    for (const char *c = reply; *c != 0; c++) {
        if (*c == '\1') expected[n++] = '\r';
        expected[n++] = *c == '\1' ? '\n' : *c;
    }
    CHECK_EQ(ask(w, line), 1);
    bool right = w->size == n && memcmp(w->reply, expected, n) == 0;
    CHECK(right);
    if (!right) printf("%s: %.*s\n", line, (int)w->size, (const char *)w->reply);
}

typedef struct {
    const char *line, *reply;
} row;

static void expect_all(world *w, const row *rows, size_t count) {
    for (size_t i = 0; i < count; i++)
        expect(w, rows[i].line, rows[i].reply);
}
#define ROWS(rows) rows, sizeof rows / sizeof *rows

#define WRONG_TYPE  "-WRONGTYPE Operation against a key holding the wrong kind of value\1"
#define NOT_INTEGER "-ERR value is not an integer or out of range\1"
#define SYNTAX      "-ERR syntax error\1"

/* ---- strings ---- */

static void test_strings(void) {
    static const row rows[] = {
        {"GET a", "$-1\1"},
        {"SET a 1", "+OK\1"},
        {"get a", "$1\1"
                  "1\1"},
        {"SET a two~words", "+OK\1"},
        {"GET a", "$9\1two words\1"},
        {"SET a 3 NX", "$-1\1"},
        {"SET b 3 XX", "$-1\1"},
        {"SET b 3 NX", "+OK\1"},
        {"SET b 4 XX GET", "$1\1"
                           "3\1"},
        {"SET c 4 GET", "$-1\1"},
        {"SET b 5 NX XX", SYNTAX},
        {"SET b 5 EX", SYNTAX},
        {"SET b 5 EX 0", "-ERR invalid expire time in 'set' command\1"},
        {"SET b 5 EX x", NOT_INTEGER},
        {"SET b 5 EX 10 KEEPTTL", SYNTAX},
        {"SETNX b 6", ":0\1"},
        {"SETNX d 6", ":1\1"},
        {"MGET a b c nothing", "*4\1$9\1two words\1$1\1"
                               "4\1$1\1"
                               "4\1$-1\1"},
        {"MSET a 1 b", "-ERR wrong number of arguments for 'mset' command\1"},
        {"MSET a 1 b 2", "+OK\1"},
        {"APPEND a 23", ":3\1"},
        {"APPEND new xy", ":2\1"},
        {"GET a", "$3\1"
                  "123\1"},
        {"STRLEN a", ":3\1"},
        {"STRLEN nothing", ":0\1"},
        {"GETDEL a", "$3\1"
                     "123\1"},
        {"GETDEL a", "$-1\1"},
        {"EXISTS a b b", ":2\1"},
        {"DEL a b c", ":2\1"},
        {"UNLINK d new", ":2\1"},
        {"DBSIZE", ":0\1"},
    };
    world *w = open_world();
    expect_all(w, ROWS(rows));
    close_world(w);
}

static void test_counters(void) {
    static const row rows[] = {
        {"INCR n", ":1\1"},
        {"INCRBY n 41", ":42\1"},
        {"GET n", "$2\1"
                  "42\1"},
        {"TYPE n", "+string\1"},
        {"DECR n", ":41\1"},
        {"DECRBY n 1000", ":-959\1"},
        {"STRLEN n", ":4\1"},
        {"APPEND n 0", ":5\1"},
        {"GET n", "$5\1-9590\1"},
        {"INCR n", ":-9589\1"},
        {"SET n 10", "+OK\1"},
        {"INCR n", ":11\1"},
        {"INCR n", ":12\1"},
        {"SET n 9223372036854775806", "+OK\1"},
        {"INCR n", ":9223372036854775807\1"},
        {"INCR n", "-ERR increment or decrement would overflow\1"},
        {"SET n -9223372036854775808", "+OK\1"},
        {"DECR n", "-ERR increment or decrement would overflow\1"},
        {"SET n 9223372036854775808", "+OK\1"},
        {"INCR n", NOT_INTEGER},
        {"SET n 007", "+OK\1"},
        {"INCR n", NOT_INTEGER},
        {"INCRBY m x", NOT_INTEGER},
        {"DECRBY m -9223372036854775808", "-ERR decrement would overflow\1"},
        {"EXISTS m", ":0\1"},
        {"INCR n2", ":1\1"},
        {"DEL n2", ":1\1"},
        {"INCR n2", ":1\1"},
        {"SADD s x", ":1\1"},
        {"INCR s", WRONG_TYPE},
        {"GET s", WRONG_TYPE},
        {"MGET s n2", "*2\1$-1\1$1\1"
                      "1\1"},
    };
    world *w = open_world();
    expect_all(w, ROWS(rows));
    close_world(w);
}

/* ---- sets and hashes ---- */

static void test_sets(void) {
    static const row rows[] = {
        {"SADD s b a b", ":2\1"},  {"SADD s a", ":0\1"},
        {"SCARD s", ":2\1"},       {"SMEMBERS s", "*2\1$1\1a\1$1\1b\1"},
        {"SISMEMBER s a", ":1\1"}, {"SISMEMBER s c", ":0\1"},
        {"SREM s a c", ":1\1"},    {"SADD s a", ":1\1"},
        {"SREM s a b", ":2\1"},    {"EXISTS s", ":0\1"},
        {"SMEMBERS s", "*0\1"},    {"SADD s again", ":1\1"},
        {"TYPE s", "+set\1"},      {"DEL s", ":1\1"},
        {"SCARD s", ":0\1"},       {"SET s text", "+OK\1"},
        {"SADD s x", WRONG_TYPE},  {"HSET s f v", WRONG_TYPE},
    };
    world *w = open_world();
    expect_all(w, ROWS(rows));
    close_world(w);
}

static void test_hashes(void) {
    static const row rows[] = {
        {"HSET h f 1 g 2", ":2\1"},
        {"HSET h f 3", ":0\1"},
        {"HSET h f", "-ERR wrong number of arguments for 'hset' command\1"},
        {"HSET h f 1 g", "-ERR wrong number of arguments for 'hset' command\1"},
        {"HGET h f", "$1\1"
                     "3\1"},
        {"HGET h x", "$-1\1"},
        {"HGET nothing x", "$-1\1"},
        {"HGETALL h", "*4\1$1\1f\1$1\1"
                      "3\1$1\1g\1$1\1"
                      "2\1"},
        {"TYPE h", "+hash\1"},
        {"HDEL h f x", ":1\1"},
        {"HDEL h g", ":1\1"},
        {"TYPE h", "+none\1"},
        {"HGETALL h", "*0\1"},
    };
    world *w = open_world();
    expect_all(w, ROWS(rows));
    close_world(w);
}

/* ---- expiry ---- */

static void test_expiry(void) {
    static const row before[] = {
        {"TTL k", ":-2\1"},
        {"SET k v EX 10", "+OK\1"},
        {"TTL k", ":10\1"},
        {"PTTL k", ":10000\1"},
        {"SET k w KEEPTTL", "+OK\1"},
        {"TTL k", ":10\1"},
        {"SET k v", "+OK\1"},
        {"TTL k", ":-1\1"},
        {"EXPIRE k 5", ":1\1"},
        {"EXPIRE k 9 GT", ":1\1"},
        {"EXPIRE k 5 GT", ":0\1"},
        {"EXPIRE k 20 NX", ":0\1"},
        {"EXPIRE k 20 NX XX",
         "-ERR NX and XX, GT or LT options at the same time are not compatible\1"},
        {"EXPIRE k 20 YY", "-ERR Unsupported option\1"},
        {"EXPIRE nothing 5", ":0\1"},
        {"PERSIST k", ":1\1"},
        {"PERSIST k", ":0\1"},
        {"GETEX k PX 1500", "$1\1v\1"},
        {"TTL k", ":2\1"},
        {"GETEX k PERSIST", "$1\1v\1"},
        {"TTL k", ":-1\1"},
        {"EXPIREAT k 1700000003", ":1\1"},
        {"TTL k", ":3\1"},
        {"SETEX e 3 v", "+OK\1"},
        {"PSETEX p 0 v", "-ERR invalid expire time in 'psetex' command\1"},
        {"SADD s x", ":1\1"},
        {"EXPIRE s 3", ":1\1"},
        {"INCR n", ":1\1"},
        {"EXPIRE n 3", ":1\1"},
        {"INCR n", ":2\1"},
        {"TTL n", ":3\1"},
        {"SET stays v", "+OK\1"},
        {"DBSIZE", ":5\1"},
    };
    static const row after[] = {
        {"KEYS *", "*1\1$5\1stays\1"},
        {"SCAN 0 COUNT 1000", "*2\1$1\1"
                              "0\1*1\1$5\1stays\1"},
        {"EXISTS k", ":0\1"},
        {"DBSIZE", ":1\1"},
        {"FLUSHDB", "+OK\1"},
        {"EXISTS k e s n", ":0\1"},
        {"TTL k", ":-2\1"},
        {"GET k", "$-1\1"},
        {"SADD s x", ":1\1"},
        {"TTL s", ":-1\1"},
        {"INCR n", ":1\1"},
        {"TTL n", ":-1\1"},
        {"EXPIRE n -1", ":1\1"},
        {"EXISTS n", ":0\1"},
    };
    world *w = open_world();
    expect_all(w, ROWS(before));
    w->now_ms += 3000;
    expect_all(w, ROWS(after));
    close_world(w);
}

/* What expires does so by the same record everywhere. */
static void test_expiry_has_one_record(void) {
    world *w = open_world();
    expect(w, "SET k v EX 1", "+OK\1");
    velum_kv_stamp said = w->last.stamp;
    w->now_ms += 1000;
    expect(w, "GET k", "$-1\1");
    CHECK_EQ(w->last.op, VELUM_KV_DEL);
    CHECK(w->last.stamp.time == said.time + 1 && w->last.stamp.node == said.node);
    size_t writes = w->writes;
    expect(w, "GET k", "$-1\1");
    CHECK_EQ(w->writes, writes);
    close_world(w);
}

/* ---- all keys ---- */

static void test_walks(void) {
    world *w = open_world();
    char line[64];
    for (int i = 0; i < 100; i++) {
        snprintf(line, sizeof line, "SET robot/%d/x %d", i, i);
        expect(w, line, "+OK\1");
    }
    expect(w, "SADD tools hammer", ":1\1");
    expect(w, "DBSIZE", ":101\1");
    expect(w, "KEYS t[aeo]ols", "*1\1$5\1tools\1");
    expect(w, "SCAN 0 TYPE set COUNT 1000",
           "*2\1$1\1"
           "0\1*1\1$5\1tools\1");
    expect(w, "SCAN 0 MATCH robot/17/* COUNT 1000",
           "*2\1$1\1"
           "0\1*1\1$10\1robot/17/x\1");
    expect(w, "SCAN x", "-ERR invalid cursor\1");
    expect(w, "SCAN 0 COUNT 0", SYNTAX);
    expect(w, "SCAN 0 MATCH", SYNTAX);
    size_t found = 0, rounds = 0;
    unsigned long long cursor = 0;
    do {
        snprintf(line, sizeof line, "SCAN %llu COUNT 7", cursor);
        CHECK_EQ(ask(w, line), 1);
        w->reply[w->size] = 0;
        char *at = strchr((char *)w->reply + 4, '\n') + 1; /* behind the cursor's size */
        cursor = strtoull(at, &at, 10);
        found += strtoull(strchr(at, '*') + 1, NULL, 10);
        rounds++;
    } while (cursor != 0 && rounds < 200);
    CHECK_EQ(found, 101);
    CHECK(rounds > 5);
    expect(w, "FLUSHDB", "+OK\1");
    expect(w, "DBSIZE", ":0\1");
    expect(w, "KEYS *", "*0\1");
    close_world(w);
}

/* ---- the connection ---- */

static void test_connection(void) {
    static const row rows[] = {
        {"PING", "+PONG\1"},
        {"PING hello", "$5\1hello\1"},
        {"PING a b", "-ERR wrong number of arguments for 'ping' command\1"},
        {"ECHO x", "$1\1x\1"},
        {"ECHO", "-ERR wrong number of arguments for 'echo' command\1"},
        {"SELECT 0", "+OK\1"},
        {"SELECT 1", "-ERR DB index is out of range\1"},
        {"SELECT x", NOT_INTEGER},
        {"CLIENT GETNAME", "$-1\1"},
        {"CLIENT SETNAME robot", "+OK\1"},
        {"CLIENT GETNAME", "$5\1robot\1"},
        {"CLIENT ID", ":1\1"},
        {"CLIENT FROB", "-ERR unknown subcommand 'FROB'. Try CLIENT HELP.\1"},
        {"NOSUCH a b", "-ERR unknown command 'NOSUCH', with args beginning with: 'a' 'b' \1"},
        {"NOSUCH", "-ERR unknown command 'NOSUCH', with args beginning with: \1"},
        {"COMMAND DOCS", "*0\1"},
        {"HELLO 4", "-NOPROTO unsupported protocol version\1"},
        {"SET k", "-ERR wrong number of arguments for 'set' command\1"},
        {"SET ~~ v~", "+OK\1"},
    };
    world *w = open_world();
    expect_all(w, ROWS(rows));
    CHECK_EQ(ask(w, "SUBSCRIBE x"), 0);
    CHECK_EQ(ask(w, "WAIT 1 1"), 0);
    CHECK_EQ(ask(w, "HELLO 3"), 1);
    CHECK(w->size > 4 && memcmp(w->reply, "%7\r\n", 4) == 0);
    expect(w, "GET nothing", "_\1");
    expect(w, "SMEMBERS nothing", "~0\1");
    expect(w, "HGETALL nothing", "%0\1");
    expect(w, "COMMAND DOCS", "%0\1");
    CHECK(!w->client.quits);
    expect(w, "QUIT", "+OK\1");
    CHECK(w->client.quits);
    close_world(w);
}

/* ---- limits ---- */

static void test_limits(void) {
    static char line[4096];
    world *w = open_world();
    memcpy(line, "SET ", 4);
    memset(line + 4, 'k', 1025);
    memcpy(line + 4 + 1025, " v", 3);
    expect(w, line, "-ERR a key has 1 to 1024 bytes\1");
    memcpy(line + 4 + 1024, " v", 3);
    expect(w, line, "+OK\1");
    memcpy(line, "SADD s ", 7);
    memset(line + 7, 'e', 1025);
    line[7 + 1025] = 0;
    expect(w, line, "-ERR an element or field has 1024 bytes at most\1");
    int full = 0;
    for (int i = 0; i < 5000 && !full; i++) {
        int head = snprintf(line, sizeof line, "SET k%04d ", i);
        memset(line + head, 'v', 1000);
        line[head + 1000] = 0;
        CHECK_EQ(ask(w, line), 1);
        full = w->reply[0] == '-' ? i : 0;
    }
    CHECK(full > 500);
    CHECK(memcmp(w->reply, "-OOM not written: ", 18) == 0);
    expect(w, "DEL k0000", ":1\1");
    close_world(w);
}

int main(void) {
    test_strings();
    test_counters();
    test_sets();
    test_hashes();
    test_expiry();
    test_expiry_has_one_record();
    test_walks();
    test_connection();
    test_limits();
    return check_report("kv_commands");
}
