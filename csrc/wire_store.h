/* wire_store.h: the frames of files in RAM, as bytes; docs/storage.md says what they mean.
 *
 * Owns: the layout of frames 0x40 to 0x5f, once; docs/protocol.md, section 10, says the same in
 * words. Refuses to know: chunks, names, who may send what when. How: as wire.h.
 */
#ifndef VELUM_WIRE_STORE_H
#define VELUM_WIRE_STORE_H

#include "wire.h"

#define VELUM_KEY_BYTES    32u
#define VELUM_DIGEST_BYTES 32u

/* When a name was put or deleted. 12 bytes: stamp u64 | origin u32. */
typedef struct {
    uint64_t stamp; /* milliseconds since 1970 in the upper 48 bits, a counter in the lower 16 */
    uint32_t origin;
} velum_version;
#define VELUM_VERSION_BYTES 12u

/* Set in the correlation of every ENTRY_ASK: so an ENTRY that has it is an answer, and one that has
 * it not is offered. */
#define VELUM_ANSWER_BIT (UINT64_C(1) << 62)

/* ---- chunks ---- */

/* Why a chunk is held: digest 32 | version 12 | k u8 | m u8 | shard u8 | if m > 0: (k + m) keys.
 * m == 0: k copies (1..VELUM_COPIES_MAX) of this chunk, shard 0. m > 0: it is shard number `shard`
 * (below k + m <= VELUM_SHARDS_MAX) of the stripe of these keys, data first, k >= 1; the key at
 * that place is the chunk's. */
#define VELUM_COPIES_MAX 16u
#define VELUM_SHARDS_MAX 32u
typedef struct {
    uint8_t digest[VELUM_DIGEST_BYTES];
    velum_version version;
    uint8_t k, m, shard;
    const uint8_t *keys; /* raw, (k + m) times 32 bytes; NULL when m == 0 */
} velum_claim;

/* HOLD: key 32 | size u32 | count u8 | claims | flags u8. Answered by HELD. */
#define VELUM_CLAIMS_PER_HOLD_MAX 16u
#define VELUM_HOLD_REPAIR         1u /* from a member that repairs, not from a putter */
typedef struct {
    uint8_t key[VELUM_KEY_BYTES];
    uint32_t size; /* 1..VELUM_CHUNK_BYTES_MAX */
    uint8_t count; /* 1..VELUM_CLAIMS_PER_HOLD_MAX */
    velum_claim claims[VELUM_CLAIMS_PER_HOLD_MAX];
    uint8_t flags; /* VELUM_HOLD_REPAIR */
} velum_hold;
int velum_wire_put_hold(uint8_t *buf, size_t cap, uint64_t correlation, const velum_hold *m);
int velum_wire_get_hold(const uint8_t *p, size_t n, velum_hold *m);

/* HELD: state u8 | free_bytes u64. Under the correlation of its HOLD. SEND is followed by a second
 * HELD (KEPT or BAD) when the chunk has come. */
typedef enum {
    VELUM_HELD_SEND = 1, /* memory is reserved for you: send the CHUNK */
    VELUM_HELD_HAVE = 2, /* it is here, the claims are noted */
    VELUM_HELD_KEPT = 3, /* it has come, and is right; the claims are noted */
    VELUM_HELD_FULL = 4, /* no room */
    VELUM_HELD_BUSY = 5, /* it arrives from somebody else: ask again */
    VELUM_HELD_BAD = 6   /* it has come, and is not what its key says; or another size is held */
} velum_held_state;
typedef struct {
    uint8_t state;       /* velum_held_state */
    uint64_t free_bytes; /* of the budget */
} velum_held;
int velum_wire_put_held(uint8_t *buf, size_t cap, uint64_t correlation, const velum_held *m);
int velum_wire_get_held(const uint8_t *p, size_t n, velum_held *m);

/* CHUNK: key 32 | total u32 | offset u32 | bytes to the frame's end, VELUM_CHUNK_PART_BYTES at
 * most. Under the correlation of the HOLD or the WANT. The head is these 40 bytes; the bytes are
 * received straight into the chunk's memory and sent straight from it. Parts come in order. */
#define VELUM_CHUNK_HEAD_BYTES 40u
typedef struct {
    uint8_t key[VELUM_KEY_BYTES];
    uint32_t total;  /* of the chunk: 1..VELUM_CHUNK_BYTES_MAX */
    uint32_t offset; /* of this part */
    uint32_t size;   /* 1..VELUM_CHUNK_PART_BYTES, offset + size <= total */
} velum_chunk_part;
/* As velum_wire_put_module_head and _get_module_head. */
int velum_wire_put_chunk_head(uint8_t *buf, size_t cap, uint64_t correlation,
                              const velum_chunk_part *m);
int velum_wire_get_chunk_head(const uint8_t *p, size_t n, uint32_t length, velum_chunk_part *m);

/* WANT: key 32. Answered by all CHUNK parts of it, or ERROR CHUNK_MISSING. */
int velum_wire_put_want(uint8_t *buf, size_t cap, uint64_t correlation,
                        const uint8_t key[VELUM_KEY_BYTES]);
int velum_wire_get_want(const uint8_t *p, size_t n, uint8_t key[VELUM_KEY_BYTES]);

/* RELEASE: how u8 | digest 32 | version 12. No answer. */
#define VELUM_RELEASE_THIS   1u /* a put was given up: its claims end */
#define VELUM_RELEASE_BEFORE 2u /* a name stands for this version: older claims have ended */
typedef struct {
    uint8_t how;
    uint8_t digest[VELUM_DIGEST_BYTES];
    velum_version version;
} velum_release;
int velum_wire_put_release(uint8_t *buf, size_t cap, uint64_t correlation, const velum_release *m);
int velum_wire_get_release(const uint8_t *p, size_t n, velum_release *m);

/* OFFER: count u16 | keys: who of them do you have? OFFERED: count u16 | a velum_offered byte for
 * each, under the same correlation. 1..VELUM_OFFER_KEYS_MAX. */
#define VELUM_OFFER_KEYS_MAX 1024u
typedef enum {
    VELUM_OFFERED_HAVE = 1,
    VELUM_OFFERED_LACK = 2, /* and would take it */
    VELUM_OFFERED_FULL = 3, /* lacks it, and has no room */
    VELUM_OFFERED_BUSY = 4, /* it arrives */
    VELUM_OFFERED_SPARE = 5 /* has it, but is no holder by the members known to it */
} velum_offered;
int velum_wire_put_offer(uint8_t *buf, size_t cap, uint64_t correlation, const uint8_t *keys,
                         size_t count);
int velum_wire_get_offer(const uint8_t *p, size_t n, const uint8_t **keys, size_t *count);
int velum_wire_put_offered(uint8_t *buf, size_t cap, uint64_t correlation, const uint8_t *states,
                           size_t count);
int velum_wire_get_offered(const uint8_t *p, size_t n, const uint8_t **states, size_t *count);

/* CLAIMS: count u16 | count times (digest 32 | version 12). CLAIMED: count u16 | a velum_claimed
 * byte for each. 1..VELUM_CLAIMS_MAX. */
#define VELUM_CLAIMS_MAX       1024u
#define VELUM_CLAIM_NAME_BYTES (VELUM_DIGEST_BYTES + VELUM_VERSION_BYTES)
typedef enum {
    VELUM_CLAIM_FAST = 1,    /* this version is the name's here */
    VELUM_CLAIM_OLD = 2,     /* a greater one is */
    VELUM_CLAIM_UNKNOWN = 3, /* neither this nor a greater one is here */
    VELUM_CLAIM_PENDING = 4  /* nor here, but its putter is connected to this node */
} velum_claimed;
/* `claims` is raw, count times VELUM_CLAIM_NAME_BYTES. */
int velum_wire_put_claims(uint8_t *buf, size_t cap, uint64_t correlation, const uint8_t *claims,
                          size_t count);
int velum_wire_get_claims(const uint8_t *p, size_t n, const uint8_t **claims, size_t *count);
int velum_wire_put_claimed(uint8_t *buf, size_t cap, uint64_t correlation, const uint8_t *states,
                           size_t count);
int velum_wire_get_claimed(const uint8_t *p, size_t n, const uint8_t **states, size_t *count);

/* ---- names ---- */

/* ENTRY: version 12 | kind u8 | keepers u8 | age_ms u64 | size u64 | awaited u8 times u16 |
 * name text16 (1..VELUM_FILE_NAME_BYTES_MAX, UTF-8) | body to the frame's end. Answered by VERSION
 * or ERROR if its correlation is not 0, or, of a correlation 0, by the ENTRY here if that is
 * greater. age_ms and awaited are of tombstones, else 0 and none; size is 0 of a tombstone. */
typedef enum {
    VELUM_ENTRY_TOMBSTONE = 0, /* body empty */
    VELUM_ENTRY_INLINE = 1,    /* body: the file's bytes, `size` of them, VELUM_INLINE_BYTES_MAX */
    VELUM_ENTRY_MANIFEST = 2   /* body: chunk_bytes u32 | k u8 | m u8 | keys; size > 0 */
} velum_entry_kind;
#define VELUM_INLINE_BYTES_MAX    4096u
#define VELUM_KEEPERS_MIN         2u
#define VELUM_KEEPERS_MAX         34u
#define VELUM_AWAITED_MAX         255u
#define VELUM_ENTRY_HEAD_BYTES    (VELUM_VERSION_BYTES + 1u + 1u + 8u + 8u)
#define VELUM_MANIFEST_HEAD_BYTES 6u
#define VELUM_MANIFEST_KEYS_MAX   32000u
typedef struct {
    velum_version version;
    uint8_t kind;
    uint8_t keepers; /* VELUM_KEEPERS_MIN..VELUM_KEEPERS_MAX */
    uint64_t age_ms; /* since it was made: of a tombstone */
    uint64_t size;   /* of the file */
    uint8_t nawaited;
    const uint8_t *awaited; /* raw, nawaited times u16: ids, ascending */
    velum_text name;
    const uint8_t *body;
    uint32_t body_size; /* VELUM_ENTRY_BODY_BYTES_MAX at most */
} velum_entry;
/* A MANIFEST's body is checked: chunk_bytes 1..VELUM_CHUNK_BYTES_MAX, k and m as in a claim, and as
 * many keys as size, chunk_bytes, k and m ask for (velum_wire_manifest_keys), 1 to
 * VELUM_MANIFEST_KEYS_MAX. */
int velum_wire_put_entry(uint8_t *buf, size_t cap, uint64_t correlation, const velum_entry *m);
int velum_wire_get_entry(const uint8_t *p, size_t n, velum_entry *m);
/* Keys of a manifest: ceil(size / chunk_bytes) with m == 0; else k + m for each stripe of
 * k * chunk_bytes, the last one too. UINT64_MAX when they are more than that; 0 when chunk_bytes
 * is, or k of stripes. */
uint64_t velum_wire_manifest_keys(uint64_t size, uint32_t chunk_bytes, uint8_t k, uint8_t m);

/* ENTRY_ASK: how u8 | digest 32. Answered by ENTRY, VERSION HERE (of a
 * tombstone always), or VERSION NONE. */
#define VELUM_ASK_ENTRY   1u
#define VELUM_ASK_VERSION 2u
int velum_wire_put_entry_ask(uint8_t *buf, size_t cap, uint64_t correlation, uint8_t how,
                             const uint8_t digest[VELUM_DIGEST_BYTES]);
int velum_wire_get_entry_ask(const uint8_t *p, size_t n, uint8_t *how,
                             uint8_t digest[VELUM_DIGEST_BYTES]);

/* VERSION: what u8 | kind u8 | version 12; zeros for NONE. */
typedef enum {
    VELUM_NAMED_KEPT = 1,    /* the entry offered is the greatest here */
    VELUM_NAMED_LATER = 2,   /* a greater one is: this version */
    VELUM_NAMED_HERE = 3,    /* what was asked for */
    VELUM_NAMED_NONE = 4,    /* nothing is known of that name */
    VELUM_NAMED_REPLACED = 5 /* KEPT, in the place of a manifest, whose claims can end */
} velum_named;
typedef struct {
    uint8_t what; /* velum_named */
    uint8_t kind; /* velum_entry_kind of the version */
    velum_version version;
} velum_named_version;
int velum_wire_put_version(uint8_t *buf, size_t cap, uint64_t correlation,
                           const velum_named_version *m);
int velum_wire_get_version(const uint8_t *p, size_t n, velum_named_version *m);

/* NAMES_ASK: limit u16 (1..VELUM_NAMES_PAGE_MAX) | prefix text16 | after text16. Answered by NAMES:
 * more u8 | count u16 | count times (version 12 | kind u8 | care u8 | missing u32 | size u64 |
 * name text16), names ascending by their bytes; missing is 0 unless at risk or damaged. Tombstones
 * too, so that the asker can merge. A page without rows has no more. */
#define VELUM_NAMES_PAGE_MAX 200u
typedef enum {
    VELUM_CARE_UNKNOWN = 0, /* not looked at here */
    VELUM_CARE_WHOLE = 1,
    VELUM_CARE_AT_RISK = 2, /* fewer copies or shards than asked for: `missing` of them */
    VELUM_CARE_DAMAGED = 3  /* `missing` chunks are nowhere */
} velum_care;
typedef struct {
    velum_version version;
    uint8_t kind, care;
    uint32_t missing;
    uint64_t size;
    velum_text name;
} velum_name_row;
typedef struct {
    uint8_t more;
    uint16_t count;
    const uint8_t *rows; /* raw, checked: walk with velum_wire_next_name */
} velum_names_page;
int velum_wire_put_names_ask(uint8_t *buf, size_t cap, uint64_t correlation, uint16_t limit,
                             velum_text prefix, velum_text after);
int velum_wire_get_names_ask(const uint8_t *p, size_t n, uint16_t *limit, velum_text *prefix,
                             velum_text *after);
int velum_wire_put_names(uint8_t *buf, size_t cap, uint64_t correlation, bool more,
                         const velum_name_row *rows, size_t count);
int velum_wire_get_names(const uint8_t *p, size_t n, velum_names_page *m);
velum_name_row velum_wire_next_name(const uint8_t **at);

/* SUMS: 256 times (count u32 | mark u64), by a digest's first byte; no mark where count is 0. */
#define VELUM_BUCKETS 256u
typedef struct {
    uint32_t counts[VELUM_BUCKETS];
    uint64_t marks[VELUM_BUCKETS];
} velum_sums;
int velum_wire_put_sums(uint8_t *buf, size_t cap, uint64_t correlation, const velum_sums *m);
int velum_wire_get_sums(const uint8_t *p, size_t n, velum_sums *m);

/* An entry in a listing, 52 bytes: digest 32 | version 12 | mark u64. */
typedef struct {
    uint8_t digest[VELUM_DIGEST_BYTES];
    velum_version version;
    uint64_t mark;
} velum_name_item;
#define VELUM_NAME_ITEM_BYTES 52u
#define VELUM_LISTING_MAX     512u

/* LISTING: round u32 | ranged u8 | after 32 | end 32 | count u16 | items. With `ranged`: these are
 * all that sender and receiver keep with digests above `after` and up to `end` (which have one
 * first byte), ascending; without, after and end are zeros and the sender asks whether these, one
 * at least, are held. LISTED: round u32 | held u16 times item | wanted u16 times digest. */
typedef struct {
    uint32_t round;
    uint8_t ranged;
    uint8_t after[VELUM_DIGEST_BYTES], end[VELUM_DIGEST_BYTES];
    uint16_t count;       /* VELUM_LISTING_MAX at most */
    const uint8_t *items; /* raw */
} velum_listing;
int velum_wire_put_listing(uint8_t *buf, size_t cap, uint64_t correlation, const velum_listing *m);
int velum_wire_get_listing(const uint8_t *p, size_t n, velum_listing *m);
typedef struct {
    uint32_t round;
    uint16_t nheld, nwanted; /* VELUM_LISTING_MAX at most, each */
    const uint8_t *held;     /* raw items */
    const uint8_t *wanted;   /* raw digests */
} velum_listed;
int velum_wire_put_listed(uint8_t *buf, size_t cap, uint64_t correlation, const velum_listed *m);
int velum_wire_get_listed(const uint8_t *p, size_t n, velum_listed *m);
void velum_wire_put_name_item(uint8_t *at, const velum_name_item *item); /* 52 bytes */
velum_name_item velum_wire_name_item(const uint8_t *at);

#endif
