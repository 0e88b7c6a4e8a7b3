/* names.c: entries merged, found and forgotten; sums kept up to date with each change.
 *
 * Owns: what names.h says, but for the walks (names_walk.c) and the index (names_index.c). Refuses
 * to know: the layout of a frame. How: an entry is checked and written down by the codec, as a
 * whole ENTRY frame behind its struct. Whatever could fail comes before the first change.
 */
#include "names_internal.h"

#include "blake3.h"
#include "chunks.h"
#include "wire_bytes.h"

#include <stdlib.h>
#include <string.h>

#define COUNTER_BITS 16u
/* As in velum/policy/hybridclock.py, where the reasons are. */
#define AHEAD_MS_MAX (UINT64_C(1) << 42)
#define TIME_MS_MAX  (UINT64_C(1) << 47)

#define GAMMA UINT64_C(0x9e3779b97f4a7c15)

/* An ENTRY's payload but for name and body, nobody being awaited. */
#define PAYLOAD_FIXED (VELUM_ENTRY_HEAD_BYTES + 1u + 2u)

VELUM__STATIC_CHECK(frame_is_int, VELUM_FRAME_BYTES_MAX <= INT32_MAX - VELUM_HEADER_BYTES);

/* ---- keepers ---- */

/* A node's draw for a key: velum/policy/draws.py, where it is explained. */
static uint64_t draw(uint64_t key, uint16_t node) {
    uint64_t z = key + node * GAMMA;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

size_t velum_names_keepers(const velum_names *n, const uint8_t digest[VELUM_DIGEST_BYTES],
                           uint8_t keepers, uint16_t *ids) {
    uint64_t draws[UINT8_MAX], key = velum__get64(digest);
    size_t count = 0;
    if (keepers == 0) return 0;
    for (size_t i = 0; i < n->nmembers; i++) {
        uint64_t mine = draw(key, n->members[i]);
        size_t place;
        if (count == keepers && mine < draws[count - 1]) continue;
        place = count < keepers ? count++ : count - 1;
        for (; place > 0 && draws[place - 1] < mine; place--) {
            draws[place] = draws[place - 1];
            ids[place] = ids[place - 1];
        }
        draws[place] = mine;
        ids[place] = n->members[i];
    }
    return count;
}

bool velum__among(const uint16_t *ids, size_t count, uint16_t id) {
    for (size_t i = 0; i < count; i++)
        if (ids[i] == id) return true;
    return false;
}

/* ---- sums ---- */

/* The first peer whose id is not less. */
static size_t seek_peer(const velum_names *n, uint16_t id) {
    size_t low = 0, high = n->npeers;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (n->peers[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static velum__sharer *find_peer(const velum_names *n, uint16_t id) {
    size_t place = seek_peer(n, id);
    return place < n->npeers && n->peers[place].id == id ? &n->peers[place] : NULL;
}

/* Adds an entry to the sums of its other keepers, or takes it out of them: what was added has been
 * added to peers that are there, and stay while they have anything. */
static void count_in_sums(velum_names *n, const velum__name *name, bool in) {
    const velum_name_item *item = &name->entry.item;
    if (name->former || name->retired) return;
    for (size_t i = 0; i < name->nids; i++) {
        velum__sharer *peer;
        if (name->ids[i] == n->me) continue;
        peer = find_peer(n, name->ids[i]);
        if (in) {
            peer->total++;
            peer->sums->counts[item->digest[0]]++;
        } else {
            peer->total--;
            peer->sums->counts[item->digest[0]]--;
        }
        peer->sums->marks[item->digest[0]] ^= item->mark;
    }
}

/* Of all members' counts of these the sum is the number of files. */
static bool is_first(const velum_names *n, const velum__name *name) {
    return name->nids > 0 && name->ids[0] == n->me && name->entry.kind != VELUM_ENTRY_TOMBSTONE;
}

/* What an entry is in the figures, its place among formers included. */
static void count_in(velum_names *n, const velum__name *name) {
    n->figures.bytes += name->entry.payload_size + VELUM_NAMES_ENTRY_BYTES;
    n->figures.formers += name->former;
    n->figures.files += is_first(n, name);
    n->figures.tombstones += name->entry.kind == VELUM_ENTRY_TOMBSTONE;
    count_in_sums(n, name, true);
}

static void count_out(velum_names *n, const velum__name *name) {
    n->figures.bytes -= name->entry.payload_size + VELUM_NAMES_ENTRY_BYTES;
    n->figures.formers -= name->former;
    n->figures.files -= is_first(n, name);
    n->figures.tombstones -= name->entry.kind == VELUM_ENTRY_TOMBSTONE;
    count_in_sums(n, name, false);
}

static void find_keepers(const velum_names *n, velum__name *name) {
    const velum_names_entry *entry = &name->entry;
    name->nids = (uint8_t)velum_names_keepers(n, entry->item.digest, entry->keepers, name->ids);
    name->former = !velum__among(name->ids, name->nids, n->me);
}

void velum__names_place(velum_names *n, velum__name *name) {
    count_out(n, name);
    find_keepers(n, name);
    count_in(n, name);
}

/* ---- open, close, members ---- */

int velum_names_open(velum_names **out, uint16_t me, size_t room_bytes) {
    velum_names *n;
    int err;
    if (me == VELUM_ID_NONE) return VELUM_E_ARGUMENT;
    n = calloc(1, sizeof *n);
    if (n == NULL) return VELUM_E_NOMEM;
    n->me = me;
    n->figures.room = room_bytes;
    err = velum_names_set_members(n, &me, 1);
    if (err < 0)
        free(n);
    else
        *out = n;
    return err;
}

void velum_names_close(velum_names *n) {
    velum__at at = {0, 0};
    velum_names_entry *entry;
    if (n == NULL) return;
    for (; (entry = velum__index_get(&n->index, at)) != NULL; velum__index_advance(&n->index, &at))
        free(entry);
    velum__index_close(&n->index);
    for (size_t i = 0; i < n->npeers; i++)
        free(n->peers[i].sums);
    free(n->peers);
    free(n->members);
    free(n);
}

void velum_names_set_room(velum_names *n, size_t room_bytes) {
    n->figures.room = room_bytes;
}

/* The peers that there were, and those among `ids` that there were not, with nothing to count yet.
 * -1: out of memory. */
static int64_t join_peers(const velum_names *n, const uint16_t *ids, size_t count,
                          velum__sharer *out) {
    size_t made = 0, old = 0;
    for (size_t i = 0; i < count; i++) {
        for (; old < n->npeers && n->peers[old].id < ids[i]; old++)
            out[made++] = n->peers[old];
        if (ids[i] == n->me || (old < n->npeers && n->peers[old].id == ids[i])) continue;
        out[made].id = ids[i];
        out[made].total = 0;
        out[made].sums = calloc(1, sizeof *out[made].sums);
        if (out[made++].sums != NULL) continue;
        for (size_t j = 0; j < made; j++)
            if (find_peer(n, out[j].id) == NULL) free(out[j].sums);
        return -1;
    }
    for (; old < n->npeers; old++)
        out[made++] = n->peers[old];
    return (int64_t)made;
}

/* Lets go of those that are no members and count nothing. */
static void drop_peers(velum_names *n) {
    size_t kept = 0, member = 0;
    for (size_t i = 0; i < n->npeers; i++) {
        velum__sharer peer = n->peers[i];
        while (member < n->nmembers && n->members[member] < peer.id)
            member++;
        if (peer.total > 0 || (member < n->nmembers && n->members[member] == peer.id))
            n->peers[kept++] = peer;
        else
            free(peer.sums);
    }
    n->npeers = kept;
}

int velum_names_set_members(velum_names *n, const uint16_t *ids, size_t count) {
    uint16_t *members;
    velum__sharer *peers;
    int64_t joined = -1;
    for (size_t i = 0; i < count; i++)
        if (ids[i] <= (i > 0 ? ids[i - 1] : VELUM_ID_NONE)) return VELUM_E_ARGUMENT;
    if (count == 0) return VELUM_E_ARGUMENT;
    members = malloc(count * sizeof *members);
    peers = malloc((count + n->npeers) * sizeof *peers);
    if (members != NULL && peers != NULL) joined = join_peers(n, ids, count, peers);
    if (joined < 0) {
        free(members);
        free(peers);
        return VELUM_E_NOMEM;
    }
    memcpy(members, ids, count * sizeof *members);
    free(n->members);
    free(n->peers);
    n->members = members;
    n->nmembers = count;
    n->peers = peers;
    n->npeers = (size_t)joined;
    drop_peers(n);
    return 0;
}

velum_names_figures velum_names_get_figures(const velum_names *n) {
    velum_names_figures figures = n->figures;
    figures.count = n->index.count;
    return figures;
}

const velum_sums *velum_names_sums(const velum_names *n, uint16_t peer) {
    const velum__sharer *found = find_peer(n, peer);
    return found != NULL && found->total > 0 ? found->sums : NULL;
}

uint16_t velum_names_sharing(const velum_names *n, uint16_t after) {
    size_t place = after < UINT16_MAX ? seek_peer(n, (uint16_t)(after + 1)) : n->npeers;
    while (place < n->npeers && n->peers[place].total == 0)
        place++;
    return place < n->npeers ? n->peers[place].id : 0;
}

/* ---- entries ---- */

static int order_numbers(uint64_t a, uint64_t b) {
    return a < b ? -1 : a > b;
}

/* Which of two entries of a name is the greater: the first if positive, 0 if they are the same but
 * for their keepers. */
static int order(const velum_entry *a, const velum__name *b) {
    const velum_names_entry *held = &b->entry;
    size_t both = a->body_size < b->body_size ? a->body_size : b->body_size;
    int r = order_numbers(a->version.stamp, held->item.version.stamp);
    if (r == 0) r = order_numbers(a->version.origin, held->item.version.origin);
    if (r == 0) r = order_numbers(a->kind, held->kind);
    if (r == 0) r = order_numbers(a->size, held->size);
    if (r == 0 && both > 0) r = memcmp(a->body, b->body, both);
    return r != 0 ? r : order_numbers(a->body_size, b->body_size);
}

/* The body comes first, so that its chunks are those that the hash does several of at once. */
static uint64_t mark_of(const velum_entry *e, const uint8_t *digest) {
    uint8_t tail[VELUM_DIGEST_BYTES + VELUM_VERSION_BYTES + 1u + 1u + 8u], out[8];
    uint8_t *p = velum__put_bytes(tail, digest, VELUM_DIGEST_BYTES);
    blake3_hasher hasher;
    p = velum__put32(velum__put64(p, e->version.stamp), e->version.origin);
    p = velum__put64(velum__put8(velum__put8(p, e->kind), e->keepers), e->size);
    blake3_hasher_init(&hasher);
    if (e->body_size > 0) blake3_hasher_update(&hasher, e->body, e->body_size);
    blake3_hasher_update(&hasher, tail, (size_t)(p - tail));
    blake3_hasher_finalize(&hasher, out, sizeof out);
    return velum__get64(out) << 8 | e->keepers;
}

static bool too_far_ahead(velum_version version, uint64_t unix_ms) {
    uint64_t now = unix_ms < TIME_MS_MAX ? unix_ms : TIME_MS_MAX;
    return version.stamp >> COUNTER_BITS > now + AHEAD_MS_MAX;
}

static size_t payload_size(const velum_entry *e) {
    return PAYLOAD_FIXED + e->name.size + e->body_size;
}

/* Whether there is room for an entry in the place of another, or of none. */
static bool fits(const velum_names *n, const velum_entry *e, const velum__name *old) {
    size_t room = n->figures.room, used = n->figures.bytes;
    size_t grows = payload_size(e) + VELUM_NAMES_ENTRY_BYTES;
    if (old != NULL) {
        if (payload_size(e) <= old->entry.payload_size) return true;
        grows = payload_size(e) - old->entry.payload_size;
    } else if (n->index.count >= VELUM_NAMES_MAX) {
        return false;
    }
    return used <= room && grows <= room - used;
}

/* Writes an entry down, placed. ARGUMENT, NOMEM. */
static int make(const velum_names *n, const velum_entry *e, const uint8_t *digest,
                velum__name **out) {
    size_t head = sizeof(velum__name) + e->keepers * sizeof(uint16_t);
    size_t size = VELUM_HEADER_BYTES + payload_size(e);
    velum__name *name = malloc(head + size);
    velum_entry ageless = *e;
    uint8_t *frame = (uint8_t *)name + head;
    int written;
    if (name == NULL) return VELUM_E_NOMEM;
    ageless.age_ms = 0;
    ageless.nawaited = 0;
    written = velum_wire_put_entry(frame, size, 0, &ageless);
    if (written < 0) {
        free(name);
        return written;
    }
    memcpy(name->entry.item.digest, digest, VELUM_DIGEST_BYTES);
    name->entry.item.version = e->version;
    name->entry.item.mark = mark_of(e, digest);
    name->entry.kind = e->kind;
    name->entry.keepers = e->keepers;
    name->entry.size = e->size;
    name->entry.payload = frame + VELUM_HEADER_BYTES;
    name->entry.payload_size = (uint32_t)payload_size(e);
    name->entry.name.data = (const char *)name->entry.payload + PAYLOAD_FIXED;
    name->entry.name.size = e->name.size;
    name->body = name->entry.payload + PAYLOAD_FIXED + e->name.size;
    name->body_size = e->body_size;
    name->retired = false;
    find_keepers(n, name);
    *out = name;
    return 0;
}

/* Puts an entry in the place of another with the same digest. */
static void replace(velum_names *n, velum__at at, velum__name *old, velum__name *name) {
    count_out(n, old);
    velum__index_replace(&n->index, at, &name->entry);
    count_in(n, name);
    free(old);
}

/* Takes an entry, the first or the greater, with the keepers of the one before if they are more. */
static int take(velum_names *n, velum__at at, velum__name *old, const velum_entry *entry,
                const uint8_t *digest, uint64_t now_ms) {
    velum_entry e = *entry;
    velum__name *name;
    int err;
    if (old != NULL && old->entry.keepers > e.keepers) e.keepers = old->entry.keepers;
    if (!fits(n, &e, old)) return VELUM_E_NAMES_FULL;
    err = make(n, &e, digest, &name);
    if (err < 0) return err;
    name->entry.made_ms = now_ms - e.age_ms;
    name->entry.came_ms = now_ms;
    if (old != NULL) {
        replace(n, at, old, name);
        return 0;
    }
    err = velum__index_insert(&n->index, at, &name->entry);
    if (err < 0)
        free(name);
    else
        count_in(n, name);
    return err;
}

/* The same entry with more keepers. NOMEM. */
static int raise(velum_names *n, velum__at at, velum__name *old, uint8_t keepers) {
    const velum_names_entry *held = &old->entry;
    velum_entry e;
    velum__name *name;
    int err = velum_wire_get_entry(held->payload, held->payload_size, &e);
    e.keepers = keepers;
    if (err > 0) err = make(n, &e, held->item.digest, &name);
    if (err < 0) return err;
    name->entry.made_ms = held->made_ms;
    name->entry.came_ms = held->came_ms;
    name->retired = old->retired;
    replace(n, at, old, name);
    return 0;
}

static void say(velum_named_version *here, uint8_t what, const velum__name *name) {
    memset(here, 0, sizeof *here);
    here->what = VELUM_NAMED_NONE;
    if (name == NULL) return;
    here->what = what;
    here->kind = name->entry.kind;
    here->version = name->entry.item.version;
}

int velum_names_merge(velum_names *n, const velum_entry *entry, uint64_t unix_ms, uint64_t now_ms,
                      velum_named_version *here) {
    uint8_t digest[VELUM_DIGEST_BYTES];
    velum__name *old = NULL;
    velum__at at;
    int err = 0, greater = 1;
    velum_chunk_key(entry->name.data, entry->name.size, digest);
    if (velum__index_seek(&n->index, digest, &at))
        old = velum__name_of(velum__index_get(&n->index, at));
    say(here, VELUM_NAMED_HERE, old);
    if (too_far_ahead(entry->version, unix_ms)) return VELUM_E_VERSION_AHEAD;
    if (old != NULL) greater = order(entry, old);
    if (greater > 0)
        err = take(n, at, old, entry, digest, now_ms);
    else if (entry->keepers > old->entry.keepers)
        err = raise(n, at, old, entry->keepers);
    if (err < 0) return err;
    if (entry->version.stamp > n->figures.stamp_max) n->figures.stamp_max = entry->version.stamp;
    if (greater > 0) {
        here->kind = entry->kind;
        here->version = entry->version;
    }
    here->what = greater >= 0 ? VELUM_NAMED_KEPT : VELUM_NAMED_LATER;
    return greater > 0;
}

const velum_names_entry *velum_names_find(const velum_names *n,
                                          const uint8_t digest[VELUM_DIGEST_BYTES]) {
    velum__at at;
    return velum__index_seek(&n->index, digest, &at) ? velum__index_get(&n->index, at) : NULL;
}

void velum_names_retire(velum_names *n, const uint8_t digest[VELUM_DIGEST_BYTES]) {
    const velum_names_entry *entry = velum_names_find(n, digest);
    if (entry == NULL || entry->kind != VELUM_ENTRY_TOMBSTONE) return;
    count_in_sums(n, velum__name_of(entry), false);
    velum__name_of(entry)->retired = true;
}

bool velum_names_forget(velum_names *n, const velum_name_item *item) {
    velum__at at;
    velum_names_entry *entry;
    if (!velum__index_seek(&n->index, item->digest, &at)) return false;
    entry = velum__index_get(&n->index, at);
    if (entry->item.version.stamp != item->version.stamp ||
        entry->item.version.origin != item->version.origin || entry->item.mark != item->mark)
        return false;
    velum__index_remove(&n->index, at);
    count_out(n, velum__name_of(entry));
    free(entry);
    return true;
}
