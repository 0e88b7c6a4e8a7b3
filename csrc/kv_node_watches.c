/* kv_node_watches.c: watches of links and of this program.
 *
 * Owns: which link, or which caller here, has which watch, and its changes that wait. Refuses to
 * know: what a change is (kv_watch.h). How: changes gather, and leave together, as one KV_CHANGES
 * for each watch and round; what does not fit is not taken, and kv_watch.c tells that it was
 * missed.
 */
#include "kv_node_internal.h"

#include <stdlib.h>
#include <string.h>

struct velum__watcher {
    velum__watcher *next;
    velum_kv_node *node;
    velum_handle link; /* 0: of this program */
    uint64_t id;       /* correlation, or what the caller has named it */
    velum_kv_watch *watch;
    velum__bytes changes;
};

static bool take(void *owner, const uint8_t *change, size_t n) {
    velum__watcher *w = owner;
    if (n > VELUM_KV_WATCH_BYTES_MAX - w->changes.size || !velum__bytes_room(&w->changes, n))
        return false;
    if (w->link == 0 && w->changes.size == 0) velum_hub_woken(w->node->hub);
    memcpy(w->changes.data + w->changes.size, change, n);
    w->changes.size += n;
    return true;
}

static void drop(velum__watcher **place) {
    velum__watcher *w = *place;
    *place = w->next;
    if (w->watch != NULL) velum_kv_watch_end(w->watch);
    velum__bytes_free(&w->changes);
    free(w);
}

static int begin(velum_kv_node *node, velum_handle link, uint64_t id, uint8_t flags,
                 velum_kv_bytes pattern) {
    velum__watcher **same = &node->watchers;
    while (*same != NULL && ((*same)->link != link || (*same)->id != id))
        same = &(*same)->next;
    if (*same != NULL) drop(same);
    if (flags & VELUM_KV_WATCH_STOP) return 0;
    velum__watcher *w = calloc(1, sizeof *w);
    if (w == NULL) return VELUM_E_NOMEM;
    w->node = node;
    w->link = link;
    w->id = id;
    w->next = node->watchers;
    node->watchers = w;
    int r = velum_kv_watch_begin(node->watches, pattern, (flags & VELUM_KV_WATCH_STATE) != 0, take,
                                 w, &w->watch);
    if (r < 0) {
        w->watch = NULL;
        drop(&node->watchers);
    }
    velum_hub_service_due(node->hub); /* to tell what is there */
    return r;
}

/* ---- of links ---- */

static int refuse(velum_kv_node *node, velum_handle link, uint64_t correlation, int err) {
    uint8_t frame[VELUM_HEADER_BYTES + 16u + VELUM_TEXT_BYTES_MAX];
    const char *text = velum_strerror(err);
    velum_error error = {(uint16_t)-err, node->config.node, 0, {text, (uint16_t)strlen(text)}};
    int n = velum_wire_put_error(frame, sizeof frame, correlation, &error);
    uint8_t *room = n < 0 ? NULL : velum_hub_reserve_answer(node->hub, link, (size_t)n);
    if (room == NULL) return VELUM_E_FULL;
    memcpy(room, frame, (size_t)n);
    velum_hub_commit(node->hub, link, (size_t)n);
    return 0;
}

int velum__watch_frame(velum_kv_node *node, velum_handle link, const velum_frame *frame) {
    uint64_t correlation = frame->header.correlation;
    velum_kv_watch_ask m;
    int n = velum_wire_get_kv_watch(frame->payload, frame->header.length, &m);
    if (n < 0) return n;
    int r = begin(node, link, correlation, m.flags, m.pattern);
    return r < 0 ? refuse(node, link, correlation, r) : 0;
}

/* Sends what waits of one watch, if the link has room for all of it. */
static bool send_changes(velum_kv_node *node, velum__watcher *w) {
    size_t size = VELUM_HEADER_BYTES + w->changes.size;
    uint8_t *room = velum_hub_reserve(node->hub, w->link, size);
    if (room == NULL) return false;
    velum_wire_put_header(room, VELUM_F_KV_CHANGES, (uint32_t)w->changes.size, w->id);
    memcpy(room + VELUM_HEADER_BYTES, w->changes.data, w->changes.size);
    velum_hub_commit(node->hub, w->link, size);
    velum__bytes_free(&w->changes);
    return true;
}

bool velum__watches_tell(velum_kv_node *node) {
    bool more = velum_kv_watches_step(node->watches);
    for (velum__watcher *w = node->watchers; w != NULL; w = w->next) {
        if (w->link == 0 || w->changes.size == 0) continue;
        if (send_changes(node, w)) more = true; /* there is room again for what was not taken */
    }
    return more;
}

void velum__watches_end(velum_kv_node *node, velum_handle link) {
    for (velum__watcher **place = &node->watchers; *place != NULL;) {
        if (link == 0 || (*place)->link == link) {
            drop(place);
        } else {
            place = &(*place)->next;
        }
    }
}

/* ---- of this program ---- */

int velum_kv_node_watch(velum_kv_node *node, uint64_t watch, uint8_t flags,
                        velum_kv_bytes pattern) {
    if (flags > VELUM_KV_WATCH_STOP) return VELUM_E_ARGUMENT;
    return begin(node, 0, watch, flags, pattern);
}

size_t velum_kv_node_changes(velum_kv_node *node, uint64_t *watch, uint8_t *out, size_t room) {
    for (velum__watcher *w = node->watchers; w != NULL; w = w->next) {
        size_t size = w->changes.size;
        if (w->link != 0 || size == 0 || size > room) continue;
        memcpy(out, w->changes.data, size);
        *watch = w->id;
        velum__bytes_free(&w->changes);
        velum_hub_service_due(node->hub);
        return size;
    }
    return 0;
}
