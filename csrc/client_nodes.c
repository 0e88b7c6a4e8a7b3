/* client_nodes.c: questions to the full node, and what is learned from its answers.
 *
 * Owns: QUERY `nodes` for the program and for the leaf, and reading the answer's JSON as far as
 * needed: which full nodes there are. Refuses to know: JSON beyond that.
 * How: a member learns full nodes by gossip. A client hears none, so it asks now and then, in order
 * to find another node when its own goes away. The reader walks over the text once, keeps three
 * keys of each object in the outer array, and stops at anything it does not understand.
 */
#include "address.h"
#include "client_internal.h"

#include <stdlib.h>
#include <string.h>

/* Nodes come and go; a client that looks so often knows one of those that are there. */
#define LEARN_US INT64_C(10000000)

/* ---- reading ---- */

/* A place in a text, and its end. */
typedef struct {
    const char *at, *end;
} reader;

/* A value: of a string its inside, escapes left as they are. */
typedef struct {
    const char *data;
    size_t size;
} word;

static bool is_word(word w, const char *text) {
    return w.size == strlen(text) && memcmp(w.data, text, w.size) == 0;
}

static void skip_space(reader *r) {
    while (r->at < r->end && strchr(" \t\r\n", *r->at) != NULL) {
        r->at++;
    }
}

/* Steps over `c`, if it comes next. */
static bool take(reader *r, char c) {
    skip_space(r);
    if (r->at == r->end || *r->at != c) return false;
    r->at++;
    return true;
}

static bool take_string(reader *r, word *out) {
    if (!take(r, '"')) return false;
    out->data = r->at;
    while (r->at < r->end && *r->at != '"') {
        r->at += *r->at == '\\' && r->end - r->at > 1 ? 2 : 1;
    }
    out->size = (size_t)(r->at - out->data);
    return take(r, '"');
}

/* Steps over a number, a string, true, false or null. Objects and lists are not among the values
 * of a node. */
static bool take_plain(reader *r, word *out) {
    skip_space(r);
    if (r->at < r->end && *r->at == '"') return take_string(r, out);
    out->data = r->at;
    while (r->at < r->end && strchr(",]}[{\" \t\r\n", *r->at) == NULL) {
        r->at++;
    }
    out->size = (size_t)(r->at - out->data);
    return out->size > 0;
}

/* The id that a number stands for, 0 for none. */
static uint16_t read_id(word w) {
    uint32_t id = 0;
    for (size_t i = 0; i < w.size; i++) {
        if (w.data[i] < '0' || w.data[i] > '9') return 0;
        id = id * 10u + (uint32_t)(w.data[i] - '0');
        if (id > UINT16_MAX) return 0;
    }
    return (uint16_t)id;
}

/* Reads one member's object; tells the leaf if it is a live full node. */
static bool take_node(velum *v, reader *r) {
    word key, value, role = {"", 0}, state = {"", 0}, address = {"", 0};
    velum_member node = {.state = VELUM_MEMBER_ALIVE, .role = VELUM_ROLE_NODE};
    if (!take(r, '{')) return false;
    do {
        if (!take_string(r, &key) || !take(r, ':')) return false;
        if (!take_plain(r, &value)) return false;
        if (is_word(key, "role")) role = value;
        if (is_word(key, "state")) state = value;
        if (is_word(key, "address")) address = value;
        if (is_word(key, "id")) node.id = read_id(value);
    } while (take(r, ','));
    if (node.id != VELUM_ID_NONE && is_word(role, "node") && is_word(state, "alive") &&
        velum_address_read(address.data, address.size, &node.addr)) {
        node.incarnation = v->questions; /* what was learned later counts */
        velum_leaf_learn(v->leaf, &node);
    }
    return take(r, '}');
}

/* Reads an answer. */
static void learn(velum *v, const char *text, size_t size) {
    reader r = {text, text + size};
    if (!take(&r, '[')) return;
    while (take_node(v, &r) && take(&r, ',')) {
    }
}

/* ---- asking ---- */

/* Asks the home node; the question's correlation, or 0. */
static uint64_t ask(velum *v) {
    static const char topic[] = "nodes";
    uint8_t frame[VELUM_HEADER_BYTES + sizeof topic + 1u];
    uint64_t correlation = VELUM__QUESTION + ++v->questions;
    int n = velum_wire_put_query(frame, sizeof frame, correlation,
                                 (velum_text){topic, (uint16_t)(sizeof topic - 1u)});
    if (n < 0 || velum_leaf_home(v->leaf) == 0) return 0;
    v->asked_link = velum_leaf_home(v->leaf);
    return velum_hub_send(v->hub, v->asked_link, frame, (size_t)n) == 0 ? correlation : 0;
}

/* Keeps the answer for the program, with an end. */
static void keep(velum *v, const char *text, size_t size) {
    char *copy = malloc(size + 1u);
    if (copy == NULL) return; /* as if it had not come: the program's time runs out */
    if (size > 0) memcpy(copy, text, size);
    copy[size] = '\0';
    free(v->answer);
    v->answer = copy;
    v->answered = true;
}

void velum__nodes_answer(velum *v, velum_handle link, const velum_frame *frame) {
    uint64_t correlation = frame->header.correlation;
    bool asked = correlation == v->asked, learning = correlation == v->learning;
    if (link != v->asked_link || correlation == 0 || (!asked && !learning)) return;
    if (asked) v->asked = 0;
    if (learning) v->learning = 0;
    if (frame->header.type != VELUM_F_ANSWER) return;
    if (velum__is_client(v)) learn(v, (const char *)frame->payload, frame->header.length);
    if (asked) keep(v, (const char *)frame->payload, frame->header.length);
}

void velum__nodes_lost(velum *v, velum_handle link) {
    if (link != v->asked_link) return;
    v->asked = v->learning = 0; /* asked again at the next home */
    v->asked_link = 0;
    v->learn_us = 0;
}

int64_t velum__nodes_tick(velum *v) {
    int64_t now = velum_port_now_us();
    if (!velum__is_client(v) || velum_leaf_home(v->leaf) == 0) return INT64_MAX;
    if (now >= v->learn_us) {
        v->learning = ask(v);
        v->learn_us = now + LEARN_US;
    }
    return v->learn_us;
}

int velum_nodes(velum *v, uint32_t timeout_ms, const char **json) {
    int64_t until_us = velum__until(timeout_ms);
    if (v->calling) return VELUM_E_ARGUMENT;
    v->answered = false;
    v->asked = 0;
    for (;;) {
        if (v->asked == 0) v->asked = ask(v);
        if (velum__serve(v, until_us) != 0) return v->ended;
        if (v->answered) break;
        if (velum_port_now_us() >= until_us) return VELUM_E_TIMEOUT;
    }
    *json = v->answer;
    return 0;
}
