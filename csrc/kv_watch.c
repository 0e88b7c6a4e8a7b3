/* kv_watch.c: see kv_watch.h. */
#include "kv_watch.h"

#include "glob.h"
#include "kv_tell.h"

#include <stdlib.h>
#include <string.h>

#define STEP_KEYS      256u /* that walks of all watches pass in one step: well below 1 ms */
#define KEEP_BYTES     (64u * 1024u) /* of the buffer of a change */
#define HEAD_BYTES_MIN 512u          /* of that buffer, to begin with */

struct velum_kv_watch {
    velum_kv_watches *watches;
    velum_kv_watch *next, *before;
    velum_kv_take *take;
    void *owner;
    uint64_t missed;
    velum_kv_walk walk;
    bool walks; /* the current state is being told */
    bool now;   /* "now" is told */
    size_t pattern_size;
    uint8_t pattern[];
};

struct velum_kv_watches {
    const velum_kv_state *state;
    velum_kv_watch *first;
    size_t count, most;
    void (*changed)(void *owner, const velum_kv_change *change);
    void *owner;
    velum_kv_view before; /* of the record that is being merged */
    bool had_part;        /* and whether its element or field was visible */
    uint8_t *bytes;       /* a change, encoded */
    size_t size, room;
};

static const char *const event_names[] = {
    [VELUM_KV_ON_STATE] = "state",     [VELUM_KV_ON_NOW] = "now",
    [VELUM_KV_ON_SET] = "set",         [VELUM_KV_ON_COUNT] = "count",
    [VELUM_KV_ON_ADD] = "add",         [VELUM_KV_ON_REMOVE] = "remove",
    [VELUM_KV_ON_FIELD] = "field",     [VELUM_KV_ON_UNFIELD] = "unfield",
    [VELUM_KV_ON_EXPIRE] = "expire",   [VELUM_KV_ON_DEL] = "del",
    [VELUM_KV_ON_EXPIRED] = "expired", [VELUM_KV_ON_MISSED] = "missed",
};

/* ---- open, close ---- */

int velum_kv_watches_open(velum_kv_watches **out, const velum_kv_state *state, size_t watches_max) {
    velum_kv_watches *watches = calloc(1, sizeof *watches);
    *out = watches;
    if (watches == NULL) return VELUM_E_NOMEM;
    watches->state = state;
    watches->most = watches_max;
    return VELUM_OK;
}

void velum_kv_watches_close(velum_kv_watches *watches) {
    if (watches == NULL) return;
    while (watches->first != NULL)
        velum_kv_watch_end(watches->first);
    free(watches->bytes);
    free(watches);
}

int velum_kv_watch_begin(velum_kv_watches *watches, velum_kv_bytes pattern, bool state,
                         velum_kv_take *take, void *owner, velum_kv_watch **out) {
    velum_kv_watch *watch;
    *out = NULL;
    if (pattern.size > VELUM_KV_PATTERN_BYTES_MAX) return VELUM_E_TOO_LARGE;
    if (watches->count >= watches->most) return VELUM_E_FULL;
    watch = calloc(1, sizeof *watch + pattern.size);
    if (watch == NULL) return VELUM_E_NOMEM;
    watch->watches = watches;
    watch->take = take;
    watch->owner = owner;
    watch->walks = state;
    watch->pattern_size = pattern.size;
    if (pattern.size > 0) memcpy(watch->pattern, pattern.data, pattern.size);
    watch->next = watches->first;
    if (watch->next != NULL) watch->next->before = watch;
    watches->first = watch;
    watches->count++;
    *out = watch;
    return VELUM_OK;
}

void velum_kv_watch_end(velum_kv_watch *watch) {
    velum_kv_watches *watches = watch->watches;
    if (watch->next != NULL) watch->next->before = watch->before;
    if (watch->before != NULL) {
        watch->before->next = watch->next;
    } else {
        watches->first = watch->next;
    }
    watches->count--;
    free(watch);
}

size_t velum_kv_watches_count(const velum_kv_watches *watches) {
    return watches->count;
}

void velum_kv_watches_listen(velum_kv_watches *watches,
                             void (*changed)(void *owner, const velum_kv_change *change),
                             void *owner) {
    watches->changed = changed;
    watches->owner = owner;
}

/* ---- the bytes of a change ---- */

static uint8_t *more(void *owner, size_t n) {
    velum_kv_watches *watches = owner;
    size_t need = watches->size + n;
    if (n > VELUM_KV_CHANGE_BYTES_MAX || need > VELUM_KV_CHANGE_BYTES_MAX) return NULL;
    if (need > watches->room) {
        size_t room = 2 * need + HEAD_BYTES_MIN;
        uint8_t *grown = realloc(watches->bytes, room);
        if (grown == NULL) return NULL;
        watches->bytes = grown;
        watches->room = room;
    }
    return watches->bytes + watches->size;
}

static void wrote(void *owner, size_t n) {
    ((velum_kv_watches *)owner)->size += n;
}

static velum_resp_writer begin_bytes(velum_kv_watches *watches) {
    if (watches->room > KEEP_BYTES) {
        free(watches->bytes);
        watches->bytes = NULL;
        watches->room = 0;
    }
    watches->size = 0;
    return (velum_resp_writer){.owner = watches, .more = more, .wrote = wrote, .version = 3};
}

static void tell_bytes(velum_resp_writer *out, velum_kv_bytes bytes) {
    velum_resp_bulk(out, bytes.data, bytes.size);
}

static void begin_change(velum_resp_writer *out, velum_kv_event event, velum_kv_bytes key,
                         const velum_kv_view *view) {
    velum_resp_array(out, 6);
    velum_resp_bulk(out, event_names[event], strlen(event_names[event]));
    tell_bytes(out, key);
    velum_kv_tell_type(out, view);
}

/* A key as it is. False: there is no memory. */
static bool encode_state(velum_kv_watches *watches, velum_kv_bytes key, const velum_kv_view *view) {
    for (int whole = 1; whole >= 0; whole--) {
        velum_resp_writer out = begin_bytes(watches);
        begin_change(&out, VELUM_KV_ON_STATE, key, view);
        if (whole) {
            velum_kv_tell_value(&out, velum_kv_state_keys(watches->state), key, view);
        } else {
            velum_resp_null(&out);
        }
        velum_kv_tell_version(&out, view->latest);
        velum_resp_integer(&out, (int64_t)view->until_ms);
        if (!out.full) return true;
    }
    return false;
}

/* "now" and "missed", which are of no key. */
static bool encode_note(velum_kv_watches *watches, velum_kv_event event, uint64_t missed) {
    static const velum_kv_view nothing;
    static const velum_kv_bytes no_key;
    velum_resp_writer out = begin_bytes(watches);
    begin_change(&out, event, no_key, &nothing);
    if (event == VELUM_KV_ON_MISSED) {
        velum_resp_integer(&out, (int64_t)missed);
    } else {
        velum_resp_null(&out);
    }
    velum_kv_tell_version(&out, nothing.latest);
    velum_resp_integer(&out, 0);
    return !out.full;
}

static void tell_changed_value(velum_resp_writer *out, const velum_kv *kv,
                               const velum_kv_change *change) {
    switch (change->event) {
    case VELUM_KV_ON_SET:
    case VELUM_KV_ON_COUNT:
        velum_kv_tell_value(out, kv, change->record->key, &change->view);
        return;
    case VELUM_KV_ON_ADD:
    case VELUM_KV_ON_REMOVE:
    case VELUM_KV_ON_UNFIELD:
        tell_bytes(out, change->record->part);
        return;
    case VELUM_KV_ON_FIELD:
        velum_resp_array(out, 2);
        tell_bytes(out, change->record->part);
        tell_bytes(out, change->record->value);
        return;
    default:
        velum_resp_null(out);
        return;
    }
}

static bool encode(velum_kv_watches *watches, const velum_kv_change *change) {
    const velum_kv_view *view = &change->view;
    bool gone = view->type == VELUM_KV_NOTHING;
    if (change->event == VELUM_KV_ON_STATE) return encode_state(watches, change->record->key, view);
    velum_resp_writer out = begin_bytes(watches);
    begin_change(&out, change->event, change->record->key, view);
    tell_changed_value(&out, velum_kv_state_keys(watches->state), change);
    velum_kv_tell_version(&out, gone ? change->record->stamp : view->latest);
    velum_resp_integer(&out, gone ? 0 : (int64_t)view->until_ms);
    return !out.full;
}

/* ---- what a record changes ---- */

static bool has_part(const velum_kv_watches *watches, const velum_kv_record *r) {
    const velum_kv *kv = velum_kv_state_keys(watches->state);
    velum_kv_stamp at;
    if (r->op == VELUM_KV_ADD || r->op == VELUM_KV_REMOVE)
        return velum_kv_member(kv, r->key, r->part, &at);
    return (r->op == VELUM_KV_FIELD || r->op == VELUM_KV_UNFIELD) &&
           velum_kv_field(kv, r->key, r->part).data != NULL;
}

static bool is_wanted(const velum_kv_watches *watches) {
    return watches->first != NULL || watches->changed != NULL;
}

void velum_kv_watches_writes(velum_kv_watches *watches, const velum_kv_record *record) {
    if (!is_wanted(watches)) return;
    velum_kv_look(velum_kv_state_keys(watches->state), record->key, &watches->before);
    watches->had_part = has_part(watches, record);
}

static bool looks_alike(const velum_kv_view *a, const velum_kv_view *b) {
    return a->type == b->type && a->sum == b->sum && a->count == b->count &&
           a->until_ms == b->until_ms;
}

/* What a DEL has changed: all, or what is older than it. False: nothing. */
static bool find_del(const velum_kv_watches *watches, velum_kv_change *change) {
    bool by_expiry = change->record->stamp.time & 1u;
    if (looks_alike(&watches->before, &change->view)) return false;
    if (change->view.type != VELUM_KV_NOTHING) {
        change->event = VELUM_KV_ON_STATE;
    } else {
        change->event = by_expiry ? VELUM_KV_ON_EXPIRED : VELUM_KV_ON_DEL;
    }
    return change->before != VELUM_KV_NOTHING;
}

/* The same of a record that takes a part away: what is left may be of another type. */
static bool find_removal(const velum_kv_watches *watches, velum_kv_change *change,
                         velum_kv_event event) {
    velum_kv_type type = change->view.type;
    bool is_other = type != VELUM_KV_NOTHING && type != change->before;
    change->event = is_other ? VELUM_KV_ON_STATE : event;
    return watches->had_part && !has_part(watches, change->record);
}

static bool find_change(const velum_kv_watches *watches, const velum_kv_record *record,
                        velum_kv_change *change) {
    const velum_kv_view *before = &watches->before, *view = &change->view;
    change->record = record;
    change->before = before->type;
    velum_kv_look(velum_kv_state_keys(watches->state), record->key, &change->view);
    switch (record->op) {
    case VELUM_KV_SET:
        change->event = VELUM_KV_ON_SET;
        return true;
    case VELUM_KV_DEL:
        return find_del(watches, change);
    case VELUM_KV_EXPIRE:
        change->event = VELUM_KV_ON_EXPIRE;
        return view->type != VELUM_KV_NOTHING && view->until_ms != before->until_ms;
    case VELUM_KV_COUNT:
        change->event = VELUM_KV_ON_COUNT;
        return view->type == VELUM_KV_COUNTER &&
               (view->sum != before->sum || view->type != before->type ||
                velum_kv_compare(view->latest, before->latest) != 0);
    case VELUM_KV_ADD:
        change->event = VELUM_KV_ON_ADD;
        return !watches->had_part && has_part(watches, record);
    case VELUM_KV_REMOVE:
        return find_removal(watches, change, VELUM_KV_ON_REMOVE);
    case VELUM_KV_FIELD:
        change->event = VELUM_KV_ON_FIELD;
        return has_part(watches, record);
    default:
        return find_removal(watches, change, VELUM_KV_ON_UNFIELD);
    }
}

/* ---- telling ---- */

static bool give(velum_kv_watch *watch) {
    return watch->take(watch->owner, watch->watches->bytes, watch->watches->size);
}

/* Tells what was missed, if anything; false: it takes nothing yet. */
static bool tell_missed(velum_kv_watch *watch) {
    if (watch->missed == 0) return true;
    if (!encode_note(watch->watches, VELUM_KV_ON_MISSED, watch->missed) || !give(watch))
        return false;
    watch->missed = 0;
    return true;
}

static bool matches(const velum_kv_watch *watch, velum_kv_bytes key) {
    return velum_glob(watch->pattern, watch->pattern_size, key.data, key.size);
}

/* Whether a change of the key is to be told: the walk will not come to it any more. */
static bool is_due(const velum_kv_watch *watch, velum_kv_bytes key) {
    const velum_kv *kv = velum_kv_state_keys(watch->watches->state);
    return matches(watch, key) && (!watch->walks || velum_kv_passed(kv, watch->walk, key));
}

void velum_kv_watches_wrote(velum_kv_watches *watches, const velum_kv_record *record) {
    velum_kv_change change;
    bool encoded = false;
    if (!is_wanted(watches) || !find_change(watches, record, &change)) return;
    for (velum_kv_watch *watch = watches->first; watch != NULL; watch = watch->next) {
        if (!is_due(watch, record->key)) continue;
        if (watch->missed > 0) {
            encoded = false; /* it is in the same buffer */
            if (!tell_missed(watch)) {
                watch->missed++;
                continue;
            }
        }
        encoded = encoded || encode(watches, &change);
        if (!encoded || !give(watch)) watch->missed++;
    }
    if (watches->changed != NULL) watches->changed(watches->owner, &change);
}

/* ---- the current state ---- */

typedef struct {
    velum_kv_watch *watch;
    bool refused;
} telling;

static void tell_key(void *owner, velum_kv_bytes key, velum_kv_type type, uint64_t until_ms) {
    telling *t = owner;
    velum_kv_watches *watches = t->watch->watches;
    velum_kv_view view;
    (void)type;
    (void)until_ms;
    if (t->refused || !matches(t->watch, key)) return;
    velum_kv_look(velum_kv_state_keys(watches->state), key, &view);
    t->refused = !encode_state(watches, key, &view) || !give(t->watch);
}

/* Passes so many keys at most, one at a time: the walk stays where one was refused, and false is
 * returned. */
static bool walk_on(velum_kv_watch *watch, size_t keys) {
    const velum_kv *kv = velum_kv_state_keys(watch->watches->state);
    uint64_t now_ms = velum_kv_state_now(watch->watches->state);
    for (; keys > 0 && watch->walks; keys--) {
        telling t = {.watch = watch};
        velum_kv_walk walk = watch->walk;
        bool on = velum_kv_keys(kv, &walk, 1, now_ms, tell_key, &t);
        if (t.refused) return false;
        watch->walk = walk;
        watch->walks = on;
    }
    return true;
}

/* Tells one watch of what is there; whether there is more to tell that it takes. */
static bool tell_state(velum_kv_watch *watch, size_t keys) {
    if (!tell_missed(watch) || watch->now || !walk_on(watch, keys)) return false;
    if (watch->walks) return true;
    watch->now = encode_note(watch->watches, VELUM_KV_ON_NOW, 0) && give(watch);
    return false;
}

bool velum_kv_watches_step(velum_kv_watches *watches) {
    size_t walking = 0;
    bool more_to_tell = false;
    for (const velum_kv_watch *watch = watches->first; watch != NULL; watch = watch->next)
        walking += watch->walks;
    for (velum_kv_watch *watch = watches->first; watch != NULL; watch = watch->next)
        more_to_tell |= tell_state(watch, 1 + STEP_KEYS / (walking + 1));
    return more_to_tell;
}
