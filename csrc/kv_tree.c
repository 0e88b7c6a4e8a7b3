/* kv_tree.c: sums over all that is here, and the keys of each leaf.
 *
 * Owns: the tree of sums, what a record is in it, and the lists of keys of its leaves. Refuses to
 * know: what is merged, and when.
 *
 * How: a record's print is a 64-bit hash of what it says, but for values and times of expiry: a
 * stamp stands for them. A sum is the exclusive or of the prints of all records below it, so that a
 * change costs as much in a store of millions as in an empty one. The print is made by folding
 * 64-bit words into the key's identity, one after another, with the finalizer of splitmix64
 * (Steele, Lea, Flood 2014), which costs a fiftieth of BLAKE3: sums tell honest copies apart, and
 * prove nothing. The words are
 *
 *     op | fresh << 8 | node of stamp << 16 | node of `of` << 32 | size of part << 48
 *     time of stamp, time of `of`, sum, and the part in pieces of 8 bytes, little-endian, the last
 *     one filled up with zeros
 */
#include "kv_internal.h"

#include "chunks.h"
#include "wire_bytes.h"

#define LEVEL_BITS 4u /* of a leaf's number, for VELUM_KV_FANOUT */

VELUM__STATIC_CHECK(fanout, VELUM_KV_FANOUT == 1u << LEVEL_BITS);
VELUM__STATIC_CHECK(leaves, VELUM_KV_LEAVES == 1u << LEVEL_BITS * VELUM_KV_LEVELS);
VELUM__STATIC_CHECK(part_in_16_bits, VELUM_KV_PART_BYTES_MAX <= UINT16_MAX);

uint64_t velum__identity(velum_kv_bytes name) {
    uint8_t digest[VELUM_KEY_BYTES];
    uint64_t identity = 0;
    velum_chunk_key(name.data, name.size, digest);
    for (size_t i = 0; i < sizeof identity; i++)
        identity = identity << 8 | digest[i];
    return identity;
}

static uint64_t fold(uint64_t sum, uint64_t word) {
    uint64_t z = (sum ^ word) + 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

uint64_t velum__print(uint64_t identity, const velum_kv_record *r) {
    uint64_t head = (uint64_t)r->op | (uint64_t)r->fresh << 8 | (uint64_t)r->stamp.node << 16 |
                    (uint64_t)r->of.node << 32 | (uint64_t)r->part.size << 48;
    uint64_t sum = fold(fold(identity, head), r->stamp.time);
    size_t at = 0;
    sum = fold(fold(sum, r->of.time), (uint64_t)r->sum);
    for (; at + 8 <= r->part.size; at += 8)
        sum = fold(sum, velum__get64(r->part.data + at));
    if (at < r->part.size) {
        uint8_t rest[8] = {0};
        memcpy(rest, r->part.data + at, r->part.size - at);
        sum = fold(sum, velum__get64(rest));
    }
    return sum;
}

/* ---- leaves ---- */

static uint32_t leaf_of(const velum__key *k) {
    return (uint32_t)(k->identity >> (64u - LEVEL_BITS * VELUM_KV_LEVELS));
}

void velum__leaf_add(velum_kv *kv, velum__key *k) {
    velum__key **first = &kv->tree->leaves[leaf_of(k)];
    k->leaf_next = *first;
    k->leaf_link = first;
    if (k->leaf_next != NULL) k->leaf_next->leaf_link = &k->leaf_next;
    *first = k;
}

void velum__leaf_remove(const velum__key *k) {
    *k->leaf_link = k->leaf_next;
    if (k->leaf_next != NULL) k->leaf_next->leaf_link = k->leaf_link;
}

void velum__leaf_moved(velum__key *k) {
    *k->leaf_link = k;
    if (k->leaf_next != NULL) k->leaf_next->leaf_link = &k->leaf_next;
}

/* ---- sums ---- */

/* Where the sums of the nodes below `level` begin, and how many there are. */
static uint64_t *sums_below(const velum_kv *kv, unsigned level, size_t *count) {
    uint64_t *first = kv->tree->sums;
    *count = VELUM_KV_FANOUT;
    for (; level > 0; level--) {
        first += *count;
        *count *= VELUM_KV_FANOUT;
    }
    return first;
}

void velum__flip(velum_kv *kv, const velum__key *k, uint64_t print) {
    uint64_t *sums = kv->tree->sums;
    size_t count = VELUM_KV_FANOUT;
    for (unsigned level = 0; level < VELUM_KV_LEVELS; level++) {
        sums[leaf_of(k) >> LEVEL_BITS * (VELUM_KV_LEVELS - 1u - level)] ^= print;
        sums += count;
        count *= VELUM_KV_FANOUT;
    }
}

int velum_kv_sums(const velum_kv *kv, unsigned level, uint32_t index,
                  uint64_t sums[VELUM_KV_FANOUT]) {
    const uint64_t *first;
    size_t count;
    if (level >= VELUM_KV_LEVELS) return VELUM_E_ARGUMENT;
    first = sums_below(kv, level, &count);
    if (index >= count / VELUM_KV_FANOUT) return VELUM_E_ARGUMENT;
    memcpy(sums, first + (size_t)index * VELUM_KV_FANOUT, VELUM_KV_FANOUT * sizeof *sums);
    return 0;
}
