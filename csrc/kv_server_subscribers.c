/* kv_server_subscribers.c: who has subscribed to what, and messages to them.
 *
 * Owns: SUBSCRIBE to RESET, and what a change of a key is called on the channels of Redis's
 * keyspace events. Refuses to know: sockets, logs. How: a message is compared with every
 * subscription of every subscriber, and written into the buffers of those that it matches: first
 * the channels, then the patterns of each, as Redis does.
 */
#include "glob.h"
#include "kv_commands_internal.h"
#include "kv_server_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_ROOM 4u /* subscriptions */

static const char keyspace[] = "__keyspace@0__:", keyevent[] = "__keyevent@0__:";
#define PREFIX_BYTES (sizeof keyspace - 1)

static velum_kv_bytes text(const char *s) {
    return (velum_kv_bytes){.data = (const uint8_t *)s, .size = strlen(s)};
}

static void put(velum_resp_writer *out, velum_kv_bytes bytes) {
    velum_resp_bulk(out, bytes.data, bytes.size);
}

/* ---- messages ---- */

static bool is_name(const velum__subscription *s, velum_kv_bytes name) {
    return s->size == name.size && (name.size == 0 || memcmp(s->name, name.data, name.size) == 0);
}

static bool matches(const velum__subscription *s, velum_kv_bytes channel) {
    if (!s->is_pattern) return is_name(s, channel);
    return velum_glob(s->name, s->size, channel.data, channel.size);
}

static void send_message(velum__connection *c, const velum__subscription *s, velum_kv_bytes channel,
                         velum_kv_bytes message) {
    velum_resp_writer out = velum__message_writer(c);
    velum_resp_push(&out, s->is_pattern ? 4 : 3);
    put(&out, text(s->is_pattern ? "pmessage" : "message"));
    if (s->is_pattern) velum_resp_bulk(&out, s->name, s->size);
    put(&out, channel);
    put(&out, message);
    if (out.full) c->gone = true; /* it does not read, or there is no memory */
}

static size_t send_to(const velum_kv_server *server, velum_kv_bytes channel, velum_kv_bytes message,
                      bool patterns) {
    size_t sent = 0;
    for (const velum__subscriber *who = server->subscribers; who != NULL; who = who->next) {
        for (size_t i = 0; i < who->count && !who->connection->gone; i++) {
            const velum__subscription *s = who->all[i];
            if (s->is_pattern != patterns || !matches(s, channel)) continue;
            send_message(who->connection, s, channel, message);
            sent++;
        }
    }
    return sent;
}

size_t velum_kv_server_publish(velum_kv_server *server, velum_kv_bytes channel,
                               velum_kv_bytes message) {
    size_t sent = send_to(server, channel, message, false);
    return sent + send_to(server, channel, message, true);
}

/* ---- events ---- */

static void tell_event(velum_kv_server *server, const char *event, velum_kv_bytes key) {
    uint8_t name[PREFIX_BYTES + VELUM_KV_KEY_BYTES_MAX];
    velum_kv_bytes channel = {.data = name, .size = PREFIX_BYTES + key.size};
    memcpy(name, keyspace, PREFIX_BYTES);
    memcpy(name + PREFIX_BYTES, key.data, key.size);
    velum_kv_server_publish(server, channel, text(event));
    memcpy(name, keyevent, PREFIX_BYTES);
    channel.size = PREFIX_BYTES + strlen(event);
    memcpy(name + PREFIX_BYTES, event, strlen(event));
    velum_kv_server_publish(server, channel, key);
}

/* What Redis calls it; NULL: nothing. */
static const char *event_name(const velum_kv_change *change) {
    switch (change->event) {
    case VELUM_KV_ON_SET:
        return "set";
    case VELUM_KV_ON_COUNT:
        return "incrby";
    case VELUM_KV_ON_ADD:
        return "sadd";
    case VELUM_KV_ON_REMOVE:
        return "srem";
    case VELUM_KV_ON_FIELD:
        return "hset";
    case VELUM_KV_ON_UNFIELD:
        return "hdel";
    case VELUM_KV_ON_EXPIRE:
        return change->view.until_ms != 0 ? "expire" : "persist";
    case VELUM_KV_ON_EXPIRED:
        return "expired";
    case VELUM_KV_ON_STATE: /* a part of it is gone */
        return change->record->op == VELUM_KV_REMOVE ? "srem" : "del";
    default:
        return "del";
    }
}

static void changed(void *owner, const velum_kv_change *change) {
    velum_kv_server *server = owner;
    velum_kv_bytes key = change->record->key;
    bool emptied = change->event == VELUM_KV_ON_REMOVE || change->event == VELUM_KV_ON_UNFIELD;
    tell_event(server, event_name(change), key);
    if (change->event == VELUM_KV_ON_SET && change->view.until_ms != 0)
        tell_event(server, "expire", key);
    if (emptied && change->view.type == VELUM_KV_NOTHING) tell_event(server, "del", key);
}

/* ---- subscribers come and go ---- */

static velum__subscriber *begin(velum__connection *c) {
    velum_kv_server *server = c->server;
    velum__subscriber *who = calloc(1, sizeof *who);
    if (who == NULL) return NULL;
    who->connection = c;
    who->next = server->subscribers;
    if (who->next != NULL) who->next->before = who;
    server->subscribers = who;
    server->figures.subscribers++;
    velum_kv_watches_listen(server->config.watches, changed, server);
    c->subscriber = who;
    return who;
}

void velum__subscriber_end(velum__connection *c) {
    velum_kv_server *server = c->server;
    velum__subscriber *who = c->subscriber;
    if (who == NULL) return;
    if (who->next != NULL) who->next->before = who->before;
    if (who->before != NULL) {
        who->before->next = who->next;
    } else {
        server->subscribers = who->next;
    }
    for (size_t i = 0; i < who->count; i++)
        free(who->all[i]);
    free(who->all);
    free(who);
    c->subscriber = NULL;
    c->client.subscribed = false;
    if (--server->figures.subscribers == 0)
        velum_kv_watches_listen(server->config.watches, NULL, NULL);
}

/* ---- subscriptions ---- */

static velum__subscription **find(const velum__subscriber *who, velum_kv_bytes name,
                                  bool is_pattern) {
    for (size_t i = 0; who != NULL && i < who->count; i++)
        if (who->all[i]->is_pattern == is_pattern && is_name(who->all[i], name))
            return &who->all[i];
    return NULL;
}

static bool add(velum__subscriber *who, velum_kv_bytes name, bool is_pattern) {
    velum__subscription *s;
    if (who->count == who->room) {
        size_t room = who->room == 0 ? FIRST_ROOM : 2 * who->room;
        velum__subscription **grown = realloc(who->all, room * sizeof(velum__subscription *));
        if (grown == NULL) return false;
        who->all = grown;
        who->room = room;
    }
    s = malloc(sizeof *s + name.size);
    if (s == NULL) return false;
    s->is_pattern = is_pattern;
    s->size = name.size;
    if (name.size > 0) memcpy(s->name, name.data, name.size);
    who->all[who->count++] = s;
    return true;
}

/* False: an error is answered. */
static bool may_be_name(velum_kv_bytes name, velum_resp_writer *out) {
    if (name.size <= VELUM_KV_CHANNEL_BYTES_MAX) return true;
    velum_resp_error(out, "a channel has 1088 bytes at most");
    return false;
}

/* The reply to each channel or pattern of a command. */
static void confirm(velum_resp_writer *out, const char *command, const velum_kv_bytes *name,
                    size_t count) {
    velum_resp_push(out, 3);
    put(out, text(command));
    if (name != NULL) {
        put(out, *name);
    } else {
        velum_resp_null(out);
    }
    velum_resp_integer(out, (int64_t)count);
}

static void subscribe(velum__connection *c, velum_kv_bytes name, bool is_pattern,
                      velum_resp_writer *out) {
    velum__subscriber *who = c->subscriber;
    if (!may_be_name(name, out)) return;
    if (find(who, name, is_pattern) == NULL) {
        if (who != NULL && who->count == VELUM_KV_SUBSCRIPTIONS_MAX) {
            velum_resp_error(out, "a connection has 1024 subscriptions at most");
            return;
        }
        if (who == NULL) who = begin(c);
        if (who == NULL || !add(who, name, is_pattern)) {
            if (who != NULL && who->count == 0) velum__subscriber_end(c);
            velum_resp_error(out, "-OOM no memory for a subscription");
            return;
        }
        c->client.subscribed = true;
    }
    confirm(out, is_pattern ? "psubscribe" : "subscribe", &name, who->count);
}

static void unsubscribe(velum__connection *c, velum_kv_bytes name, bool is_pattern,
                        velum_resp_writer *out) {
    velum__subscriber *who = c->subscriber;
    velum__subscription **at = find(who, name, is_pattern), *gone = NULL;
    if (at != NULL) {
        gone = *at;
        who->count--;
        memmove(at, at + 1, (size_t)(who->all + who->count - at) * sizeof *at);
    }
    confirm(out, is_pattern ? "punsubscribe" : "unsubscribe", &name, who != NULL ? who->count : 0);
    free(gone); /* `name` may be its own */
    if (who != NULL && who->count == 0) velum__subscriber_end(c);
}

static void unsubscribe_all(velum__connection *c, bool patterns, velum_resp_writer *out) {
    bool any = false;
    for (size_t i = 0; c->subscriber != NULL && i < c->subscriber->count;) {
        const velum__subscription *s = c->subscriber->all[i];
        if (s->is_pattern != patterns) {
            i++;
            continue;
        }
        unsubscribe(c, (velum_kv_bytes){.data = s->name, .size = s->size}, patterns, out);
        any = true;
    }
    if (!any)
        confirm(out, patterns ? "punsubscribe" : "unsubscribe", NULL,
                c->subscriber != NULL ? c->subscriber->count : 0);
}

/* ---- commands ---- */

static void publish(velum__connection *c, const velum_resp_arg *args, velum_resp_writer *out) {
    const velum_kv_hooks *hooks = c->server->config.hooks;
    velum_kv_bytes channel = velum__kv_bytes(args[1]), message = velum__kv_bytes(args[2]);
    size_t sent;
    if (!may_be_name(channel, out)) return;
    sent = velum_kv_server_publish(c->server, channel, message);
    if (hooks != NULL && hooks->publish != NULL) hooks->publish(hooks->owner, channel, message);
    velum_resp_integer(out, (int64_t)sent);
}

static void reset(velum__connection *c, velum_resp_writer *out) {
    velum__subscriber_end(c);
    c->client.version = 2;
    c->client.name_size = 0;
    out->version = 2;
    velum_resp_simple(out, "RESET");
}

bool velum__subscriber_command(velum__connection *c, const velum_resp_arg *args, size_t count,
                               velum_resp_writer *out) {
    bool patterns = args[0].size > 0 && (args[0].data[0] | 32) == 'p';
    if (velum__kv_is(args[0], "publish")) {
        publish(c, args, out);
    } else if (velum__kv_is(args[0], "reset")) {
        reset(c, out);
    } else if (velum__kv_is(args[0], "subscribe") || velum__kv_is(args[0], "psubscribe")) {
        for (size_t i = 1; i < count; i++)
            subscribe(c, velum__kv_bytes(args[i]), patterns, out);
    } else if (velum__kv_is(args[0], "unsubscribe") || velum__kv_is(args[0], "punsubscribe")) {
        for (size_t i = 1; i < count; i++)
            unsubscribe(c, velum__kv_bytes(args[i]), patterns, out);
        if (count == 1) unsubscribe_all(c, patterns, out);
    } else {
        return false;
    }
    return true;
}
