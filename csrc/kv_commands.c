/* kv_commands.c: the table of commands, and those of the connection itself.
 *
 * Owns: which commands there are, how many arguments each takes, and PING to QUIT. Each error is
 * worded as Redis 7 words it.
 */
#include "kv_commands_internal.h"

#include <stdio.h>
#include <string.h>

#define NAME_BYTES_MAX 16u  /* of a command, its end included */
#define QUOTED_ARGS    20u  /* of an unknown command, told in its error */
#define QUOTED_BYTES   128u /* of all of these together */
#define MESSAGE_BYTES  512u
#define DAY_MS         UINT64_C(86400000)
#define UNTIL_MS_MAX   (UINT64_C(36500000) * DAY_MS) /* 100,000 years */

typedef struct {
    char name[NAME_BYTES_MAX];
    int8_t arity;      /* with the name; negative: so many at least */
    velum__kv_do *run; /* NULL: the hub's */
} command;

static velum__kv_do do_ping, do_echo, do_hello, do_select, do_client, do_command, do_info, do_quit;

/* Sorted by name. */
static const command commands[] = {
    {"append", 3, velum__kv_append},
    {"client", -2, do_client},
    {"command", -1, do_command},
    {"dbsize", 1, velum__kv_dbsize},
    {"decr", 2, velum__kv_decr},
    {"decrby", 3, velum__kv_decrby},
    {"del", -2, velum__kv_del},
    {"echo", 2, do_echo},
    {"exists", -2, velum__kv_exists},
    {"expire", -3, velum__kv_expire},
    {"expireat", -3, velum__kv_expireat},
    {"flushdb", -1, velum__kv_flushdb},
    {"get", 2, velum__kv_get},
    {"getdel", 2, velum__kv_getdel},
    {"getex", -2, velum__kv_getex},
    {"hdel", -3, velum__kv_hdel},
    {"hello", -1, do_hello},
    {"hget", 3, velum__kv_hget},
    {"hgetall", 2, velum__kv_hgetall},
    {"hset", -4, velum__kv_hset},
    {"incr", 2, velum__kv_incr},
    {"incrby", 3, velum__kv_incrby},
    {"info", -1, do_info},
    {"keys", 2, velum__kv_keys},
    {"mget", -2, velum__kv_mget},
    {"mset", -3, velum__kv_mset},
    {"persist", 2, velum__kv_persist},
    {"pexpire", -3, velum__kv_pexpire},
    {"pexpireat", -3, velum__kv_pexpireat},
    {"ping", -1, do_ping},
    {"psetex", 4, velum__kv_psetex},
    {"psubscribe", -2, NULL},
    {"pttl", 2, velum__kv_pttl},
    {"publish", 3, NULL},
    {"punsubscribe", -1, NULL},
    {"quit", -1, do_quit},
    {"reset", 1, NULL},
    {"sadd", -3, velum__kv_sadd},
    {"scan", -2, velum__kv_scan},
    {"scard", 2, velum__kv_scard},
    {"select", 2, do_select},
    {"set", -3, velum__kv_set},
    {"setex", 4, velum__kv_setex},
    {"setnx", 3, velum__kv_setnx},
    {"sismember", 3, velum__kv_sismember},
    {"smembers", 2, velum__kv_smembers},
    {"srem", -3, velum__kv_srem},
    {"strlen", 2, velum__kv_strlen},
    {"subscribe", -2, NULL},
    {"ttl", 2, velum__kv_ttl},
    {"type", 2, velum__kv_type},
    {"unlink", -2, velum__kv_del},
    {"unsubscribe", -1, NULL},
    {"velum.cas", -4, velum__kv_velum_cas},
    {"velum.compact", 1, velum__kv_velum_compact},
    {"velum.get", 2, velum__kv_velum_get},
    {"velum.put", -3, velum__kv_velum_put},
    {"velum.replace", 3, velum__kv_velum_replace},
    {"velum.stat", 1, velum__kv_velum_stat},
    {"wait", 3, NULL},
};
#define COMMANDS (sizeof commands / sizeof *commands)

/* ---- arguments ---- */

static uint8_t lower(uint8_t c) {
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
}

bool velum__kv_is(velum_resp_arg arg, const char *word) {
    for (size_t i = 0; i < arg.size; i++) {
        if (word[i] == 0 || lower(arg.data[i]) != (uint8_t)word[i]) return false;
    }
    return word[arg.size] == 0;
}

bool velum__kv_key(velum__kv_call *call, size_t i, velum_kv_bytes *key) {
    *key = velum__kv_bytes(call->args[i]);
    if (key->size >= 1 && key->size <= VELUM_KV_KEY_BYTES_MAX) return true;
    velum_resp_error(call->out, "a key has 1 to 1024 bytes");
    return false;
}

bool velum__kv_integer(velum_resp_arg arg, int64_t *value) {
    size_t at = arg.size > 0 && arg.data[0] == '-';
    bool minus = at == 1;
    uint64_t sum = 0, most = minus ? UINT64_C(1) << 63 : INT64_MAX;
    if (at == arg.size || arg.size - at > 19) return false;
    if (arg.data[at] == '0' && arg.size > 1) return false; /* also "-0", as Redis has it */
    for (; at < arg.size; at++) {
        unsigned digit = arg.data[at] - (unsigned)'0';
        if (digit > 9 || sum > (most - digit) / 10) return false;
        sum = 10 * sum + digit;
    }
    *value = minus ? (int64_t)(0 - sum) : (int64_t)sum;
    return true;
}

bool velum__kv_until(velum__kv_call *call, const char *name, int64_t amount, int64_t unit_ms,
                     bool from_now, uint64_t *until_ms) {
    uint64_t now = from_now ? velum_kv_state_now(call->state) : 0;
    if (amount > 0 && (uint64_t)amount <= UNTIL_MS_MAX / (uint64_t)unit_ms) {
        *until_ms = now + (uint64_t)amount * (uint64_t)unit_ms;
        return true;
    }
    char text[MESSAGE_BYTES];
    snprintf(text, sizeof text, "invalid expire time in '%s' command", name);
    velum_resp_error(call->out, text);
    return false;
}

static const struct {
    const char *word;
    int64_t unit_ms;
    bool from_now;
} expiries[] = {{"ex", 1000, true}, {"px", 1, true}, {"exat", 1000, false}, {"pxat", 1, false}};

#define EXPIRIES (sizeof expiries / sizeof *expiries)

/* Which of them is at args[i] with something behind it; EXPIRIES: none. */
static size_t expiry_at(const velum__kv_call *call, size_t i) {
    size_t w = 0;
    if (i + 1 >= call->count) return EXPIRIES;
    while (w < EXPIRIES && !velum__kv_is(call->args[i], expiries[w].word))
        w++;
    return w;
}

bool velum__kv_is_expiry(const velum__kv_call *call, size_t i) {
    return expiry_at(call, i) < EXPIRIES;
}

int velum__kv_expiry(velum__kv_call *call, size_t *i, const char *name, uint64_t *until_ms) {
    size_t w = expiry_at(call, *i);
    int64_t amount;
    if (w == EXPIRIES) return 0;
    if (!velum__kv_integer(call->args[*i + 1], &amount)) {
        velum__kv_not_integer(call);
        return -1;
    }
    *i += 1;
    return velum__kv_until(call, name, amount, expiries[w].unit_ms, expiries[w].from_now, until_ms)
               ? 1
               : -1;
}

/* ---- replies ---- */

void velum__kv_syntax(velum__kv_call *call) {
    velum_resp_error(call->out, "syntax error");
}

void velum__kv_wrong_type(velum__kv_call *call) {
    velum_resp_error(call->out,
                     "-WRONGTYPE Operation against a key holding the wrong kind of value");
}

void velum__kv_not_integer(velum__kv_call *call) {
    velum_resp_error(call->out, "value is not an integer or out of range");
}

size_t velum__kv_digits(int64_t value, char *out) {
    char digits[20];
    size_t n = 0, size = 0;
    uint64_t left = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do {
        digits[n++] = (char)('0' + left % 10);
        left /= 10;
    } while (left > 0);
    if (value < 0) out[size++] = '-';
    while (n > 0)
        out[size++] = digits[--n];
    return size;
}

void velum__kv_bulk_integer(velum__kv_call *call, int64_t value) {
    char digits[21];
    velum_resp_bulk(call->out, digits, velum__kv_digits(value, digits));
}

/* ---- writing ---- */

bool velum__kv_write(velum__kv_call *call, velum_kv_record record) {
    char text[MESSAGE_BYTES];
    int r = velum_kv_state_write(call->state, &record, call->at);
    if (r >= 0) return true;
    const char *kind = r == VELUM_E_STATE_FULL || r == VELUM_E_NOMEM ? "-OOM"
                       : r == VELUM_E_NO_SPACE                       ? "-MISCONF"
                                                                     : "-ERR";
    snprintf(text, sizeof text, "%s not written: %s", kind, velum_strerror(r));
    velum_resp_error(call->out, text);
    return false;
}

bool velum__kv_delete(velum__kv_call *call, velum_kv_bytes key) {
    velum_kv_record record = {.op = VELUM_KV_DEL, .key = key};
    return velum__kv_write(call, record);
}

bool velum__kv_emptied(velum__kv_call *call, velum_kv_bytes key) {
    velum_kv_view view;
    velum_kv_type type = velum_kv_look(velum_kv_state_keys(call->state), key, &view);
    if (type != VELUM_KV_NOTHING || view.until_ms == 0) return true;
    velum_kv_record record = {.op = VELUM_KV_EXPIRE, .key = key};
    return velum__kv_write(call, record);
}

/* ---- the connection ---- */

static void wrong_count(velum__kv_call *call, const char *name) {
    char text[MESSAGE_BYTES];
    snprintf(text, sizeof text, "wrong number of arguments for '%s' command", name);
    velum_resp_error(call->out, text);
}

/* Whether what the connection reads are messages, and replies among them look like these. */
static bool reads_messages(const velum_kv_client *client) {
    return client->subscribed && client->version != 3;
}

static void do_ping(velum__kv_call *call) {
    if (reads_messages(call->client) && call->count <= 2) {
        velum_resp_array(call->out, 2);
        velum_resp_bulk(call->out, "pong", 4);
        velum_resp_bulk(call->out, call->count == 2 ? call->args[1].data : NULL,
                        call->count == 2 ? call->args[1].size : 0);
    } else if (call->count == 1) {
        velum_resp_simple(call->out, "PONG");
    } else if (call->count == 2) {
        velum_resp_bulk(call->out, call->args[1].data, call->args[1].size);
    } else {
        wrong_count(call, "ping");
    }
}

static void do_echo(velum__kv_call *call) {
    velum_resp_bulk(call->out, call->args[1].data, call->args[1].size);
}

static void bulk_text(velum__kv_call *call, const char *text) {
    velum_resp_bulk(call->out, text, strlen(text));
}

static bool set_name(velum__kv_call *call, velum_resp_arg name) {
    for (size_t i = 0; i < name.size; i++) {
        if (name.data[i] < '!' || name.data[i] > '~') {
            velum_resp_error(call->out, "Client names cannot contain spaces, newlines or "
                                        "special characters.");
            return false;
        }
    }
    if (name.size > VELUM_KV_CLIENT_NAME_BYTES_MAX) {
        velum_resp_error(call->out, "a client's name has 64 bytes at most");
        return false;
    }
    memcpy(call->client->name, name.data, name.size);
    call->client->name_size = (uint8_t)name.size;
    return true;
}

/* Reads what follows HELLO's version; false: an error was answered. */
static bool hello_options(velum__kv_call *call) {
    for (size_t i = 2; i < call->count; i++) {
        if (velum__kv_is(call->args[i], "setname") && i + 1 < call->count) {
            if (!set_name(call, call->args[++i])) return false;
        } else if (velum__kv_is(call->args[i], "auth") && i + 2 < call->count) {
            velum_resp_error(call->out, "AUTH called without any password configured: this "
                                        "mesh trusts its network");
            return false;
        } else {
            char text[MESSAGE_BYTES];
            snprintf(text, sizeof text, "Syntax error in HELLO option '%.*s'",
                     (int)(call->args[i].size < 64 ? call->args[i].size : 64),
                     (const char *)call->args[i].data);
            velum_resp_error(call->out, text);
            return false;
        }
    }
    return true;
}

static void do_hello(velum__kv_call *call) {
    int64_t version = call->client->version == 3 ? 3 : 2;
    if (call->count > 1 &&
        (!velum__kv_integer(call->args[1], &version) || version < 2 || version > 3)) {
        velum_resp_error(call->out, "-NOPROTO unsupported protocol version");
        return;
    }
    if (!hello_options(call)) return;
    call->client->version = (uint8_t)version;
    call->out->version = (uint8_t)version;
    velum_resp_map(call->out, 7);
    bulk_text(call, "server");
    bulk_text(call, "velum");
    bulk_text(call, "version");
    bulk_text(call, VELUM_VERSION);
    bulk_text(call, "proto");
    velum_resp_integer(call->out, version);
    bulk_text(call, "id");
    velum_resp_integer(call->out, (int64_t)call->client->id);
    bulk_text(call, "mode");
    bulk_text(call, "standalone");
    bulk_text(call, "role");
    bulk_text(call, "master");
    bulk_text(call, "modules");
    velum_resp_array(call->out, 0);
}

static void do_select(velum__kv_call *call) {
    int64_t index;
    if (!velum__kv_integer(call->args[1], &index)) {
        velum__kv_not_integer(call);
    } else if (index != 0) {
        velum_resp_error(call->out, "DB index is out of range");
    } else {
        velum_resp_simple(call->out, "OK");
    }
}

static void unknown_subcommand(velum__kv_call *call, const char *name) {
    char text[MESSAGE_BYTES];
    velum_resp_arg arg = call->args[1];
    snprintf(text, sizeof text, "unknown subcommand '%.*s'. Try %s HELP.",
             (int)(arg.size < QUOTED_BYTES ? arg.size : QUOTED_BYTES), (const char *)arg.data,
             name);
    velum_resp_error(call->out, text);
}

static void do_client(velum__kv_call *call) {
    velum_resp_arg what = call->args[1];
    if (velum__kv_is(what, "id") && call->count == 2) {
        velum_resp_integer(call->out, (int64_t)call->client->id);
    } else if (velum__kv_is(what, "getname") && call->count == 2) {
        if (call->client->name_size == 0) {
            velum_resp_null(call->out);
        } else {
            velum_resp_bulk(call->out, call->client->name, call->client->name_size);
        }
    } else if (velum__kv_is(what, "setname") && call->count == 3) {
        if (set_name(call, call->args[2])) velum_resp_simple(call->out, "OK");
    } else if (velum__kv_is(what, "setinfo") && call->count == 4) {
        velum_resp_simple(call->out, "OK");
    } else {
        unknown_subcommand(call, "CLIENT");
    }
}

static void tell_command(velum__kv_call *call, const command *c) {
    velum_resp_array(call->out, 6);
    bulk_text(call, c->name);
    velum_resp_integer(call->out, c->arity);
    velum_resp_array(call->out, 0); /* flags */
    for (int i = 0; i < 3; i++)
        velum_resp_integer(call->out, 0);
}

static void do_command(velum__kv_call *call) {
    if (call->count == 1) {
        velum_resp_array(call->out, COMMANDS);
        for (size_t i = 0; i < COMMANDS; i++)
            tell_command(call, &commands[i]);
    } else if (velum__kv_is(call->args[1], "count") && call->count == 2) {
        velum_resp_integer(call->out, COMMANDS);
    } else if (velum__kv_is(call->args[1], "docs")) {
        velum_resp_map(call->out, 0);
    } else {
        unknown_subcommand(call, "COMMAND");
    }
}

static void do_info(velum__kv_call *call) {
    char text[MESSAGE_BYTES];
    velum_kv_figures f = velum_kv_get_figures(velum_kv_state_keys(call->state));
    snprintf(text, sizeof text,
             "# Server\r\nredis_version:7.0.0\r\nvelum_version:%s\r\nredis_mode:standalone\r\n"
             "\r\n# Memory\r\nused_memory:%zu\r\nmaxmemory:%zu\r\n"
             "\r\n# Replication\r\nrole:master\r\nvelum_node:%u\r\n"
             "\r\n# Keyspace\r\ndb0:keys=%zu,tombstones=%zu\r\n",
             VELUM_VERSION, f.bytes, f.room, (unsigned)velum_kv_state_node(call->state), f.keys,
             f.tombstones);
    bulk_text(call, text);
}

static void do_quit(velum__kv_call *call) {
    call->client->quits = true;
    velum_resp_simple(call->out, "OK");
}

/* ---- the table ---- */

static const command *find(velum_resp_arg name) {
    char word[NAME_BYTES_MAX];
    if (name.size >= sizeof word) return NULL;
    for (size_t i = 0; i < name.size; i++)
        word[i] = (char)lower(name.data[i]);
    word[name.size] = 0;
    size_t low = 0, high = COMMANDS;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(word, commands[middle].name);
        if (order == 0) return &commands[middle];
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return NULL;
}

static void unknown(velum__kv_call *call) {
    char text[MESSAGE_BYTES];
    int at = snprintf(text, sizeof text, "unknown command '%.*s', with args beginning with: ",
                      (int)(call->args[0].size < QUOTED_BYTES ? call->args[0].size : QUOTED_BYTES),
                      (const char *)call->args[0].data);
    size_t size = (size_t)at, end = size + QUOTED_BYTES;
    for (size_t i = 1; i < call->count && i <= QUOTED_ARGS && size < end; i++) {
        size_t left = end - size, n = call->args[i].size < left ? call->args[i].size : left;
        at = snprintf(text + size, sizeof text - size, "'%.*s' ", (int)n,
                      (const char *)call->args[i].data);
        size += (size_t)at;
    }
    velum_resp_error(call->out, text);
}

/* Whether a connection that reads messages may send it; else an error is answered. */
static bool may_send(velum__kv_call *call, const command *c) {
    static const char *const names[] = {"ping",  "psubscribe", "punsubscribe", "quit",
                                        "reset", "subscribe",  "unsubscribe"};
    char text[MESSAGE_BYTES];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(c->name, names[i]) == 0) return true;
    snprintf(text, sizeof text,
             "Can't execute '%s': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET "
             "are allowed in this context",
             c->name);
    velum_resp_error(call->out, text);
    return false;
}

int velum_kv_command(velum_kv_state *state, velum_kv_client *client, const velum_resp_arg *args,
                     size_t count, velum_resp_writer *out, uint64_t *at) {
    velum__kv_call call = {
        .state = state, .client = client, .args = args, .count = count, .out = out, .at = at};
    const command *c = find(args[0]);
    if (c == NULL) {
        unknown(&call);
        return 1;
    }
    bool right = c->arity >= 0 ? count == (size_t)c->arity : count >= (size_t)-c->arity;
    if (!right) {
        wrong_count(&call, c->name);
        return 1;
    }
    if (reads_messages(client) && !may_send(&call, c)) return 1;
    if (c->run == NULL) return 0;
    c->run(&call);
    return 1;
}
