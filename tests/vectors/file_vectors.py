"""Golden vectors of the frames of files, right and wrong; make_vectors.py writes them.

Owns: what is tried of chunks and names. Refuses to know: layouts (protocol.py), typical messages
(typical.py).
"""

from __future__ import annotations

from collections.abc import Iterator

import protocol as p
from protocol import build, raw
from typical import (
    FILE_NAME,
    FULL_VERSION,
    NO_VERSION,
    STRIPE,
    U16,
    U32,
    U64,
    VERSION,
    claim,
    coded,
    digest,
    entry,
    hold,
    inline,
    item,
    listed,
    listing,
    longer,
    names,
    patch,
    row,
    shard_claim,
    shorter,
    sums,
    tombstone,
    u32,
    u64,
)

Vector = tuple[str, bytes]
Invalid = tuple[str, str, bytes]

ZEROS, ONES = bytes(32), b"\xff" * 32

# ---- valid ----


def chunk_vectors() -> Iterator[Vector]:
    """Chunks: held, sent, wanted, offered, claimed, released."""
    yield "hold", hold()
    yield "hold_repair", hold(flags=p.HOLD_REPAIR)
    yield "hold_copies", hold(0, size=1, claims=[claim(k=1)])
    most = claim(k=p.COPIES_MAX, digest=ONES, version=FULL_VERSION)
    yield "hold_full", hold(U64, key=ONES, size=p.CHUNK_BYTES_MAX, claims=[most] * 16)
    wide = [digest(f"wide {index}") for index in range(p.SHARDS_MAX)]
    yield "hold_parity", hold(key=wide[31], claims=[shard_claim(31, wide, 31)])
    yield "hold_data", hold(key=wide[0], claims=[shard_claim(0, wide, 1)])
    for state in range(p.HELD_SEND, p.HELD_BAD + 1):
        yield f"held_{state}", build("HELD", 11, state=state, free_bytes=1 << 30)
    yield "held_full", build("HELD", U64, state=p.HELD_FULL, free_bytes=U64)
    yield "chunk", build("CHUNK", 11, key=STRIPE[0], total=8, offset=0, bytes=b"a chunk.")
    last = {"total": p.CHUNK_BYTES_MAX, "offset": p.CHUNK_BYTES_MAX - 1}
    yield "chunk_last_byte", build("CHUNK", U64, key=ONES, **last, bytes=b".")
    yield "chunk_middle", build("CHUNK", 11, key=STRIPE[0], total=8, offset=3, bytes=b"hu")
    yield "want", build("WANT", 14, key=STRIPE[0])
    yield "release_this", build("RELEASE", how=p.THIS, digest=digest(FILE_NAME), version=VERSION)
    yield "release_before", build("RELEASE", how=p.BEFORE, digest=ONES, version=FULL_VERSION)
    yield "offer", build("OFFER", 15, keys_=STRIPE)
    yield "offer_one", build("OFFER", U64, keys_=[ZEROS])
    yield "offered", build("OFFERED", 15, states=[1, 2, 3, 4, 5, 2])
    yield "offered_full", build("OFFERED", U64, states=[5] * p.OFFER_KEYS_MAX)
    claims = [{"digest": key, "version": VERSION} for key in STRIPE]
    yield "claims", build("CLAIMS", 16, claims=claims)
    yield "claims_one", build("CLAIMS", U64, claims=[{"digest": ONES, "version": FULL_VERSION}])
    yield "claimed", build("CLAIMED", 16, states=[1, 2, 3, 4, 1, 1])
    yield "claimed_full", build("CLAIMED", U64, states=[4] * p.CLAIMS_MAX)


def name_vectors() -> Iterator[Vector]:
    """Names: entries, questions, pages, and how keepers compare."""
    yield "example_entry", entry()
    yield "entry_stripes", entry(0, name=FILE_NAME, **coded(9, 2, 4, 2, STRIPE * 2))
    wide = [digest(f"wide {index}") for index in range(p.SHARDS_MAX)]
    yield "entry_one_and_31", entry(U64, **coded(1, p.CHUNK_BYTES_MAX, 1, 31, wide))
    yield "entry_31_and_one", entry(U64, version=FULL_VERSION, **coded(31, 1, 31, 1, wide))
    body = {"chunk_bytes": 100, "k": p.COPIES_MAX, "m": 0, "keys_": STRIPE}
    yield "entry_even", entry(keepers=p.KEEPERS_MAX, size=600, body=body)
    yield "entry_odd", entry(keepers=17, size=501, body=body)
    yield "inline_empty", inline(b"", version=NO_VERSION)
    yield "inline", inline(b"hello\n", name="é" * 100)
    yield "inline_not_text", inline(bytes(range(256)), 0)
    yield "tombstone", tombstone()
    yield "tombstone_new", tombstone(12, age_ms=0, awaited=[])
    most = {"keepers": p.KEEPERS_MAX, "age_ms": U64, "awaited": [*range(1, 255), U16]}
    yield "tombstone_full", tombstone(U64, version=FULL_VERSION, name="n" * 1000, **most)
    yield "entry_ask", build("ENTRY_ASK", 17, how=p.ASK_ENTRY, digest=digest(FILE_NAME))
    yield "entry_ask_version", build("ENTRY_ASK", U64, how=p.ASK_VERSION, digest=ONES)
    for what, name in ((p.KEPT, "kept"), (p.LATER, "later"), (p.HERE, "here")):
        fields = {"what": what, "kind": what - 1, "version": VERSION}
        yield f"version_{name}", build("VERSION", 17, **fields)
    yield "version_replaced", build("VERSION", 17, what=p.REPLACED, kind=1, version=VERSION)
    yield "version_none", build("VERSION", U64, what=p.NONE, kind=0, version=NO_VERSION)
    yield "version_of_zeros", build("VERSION", 17, what=p.HERE, kind=0, version=NO_VERSION)
    yield "names_ask", build("NAMES_ASK", 13, limit=100, prefix="films/", after=FILE_NAME)
    yield "names_ask_all", build("NAMES_ASK", 13, limit=p.NAMES_PAGE_MAX, prefix="", after="")
    yield "names_ask_long", build("NAMES_ASK", U64, limit=1, prefix="n" * 900, after="é" * 500)
    yield "names", names()
    yield "names_none", names(more=0, rows=[])
    rows = [
        row("b", version=FULL_VERSION, kind=p.TOMBSTONE, care=p.CARE_UNKNOWN, size=0),
        row("b/c", kind=p.INLINE, size=p.INLINE_BYTES_MAX),
        row("bb", care=p.CARE_DAMAGED, missing=U32, size=U64),
        row("é", care=p.CARE_AT_RISK, missing=1, size=1),
    ]
    yield "names_kinds", names(U64, more=0, rows=rows)
    yield "sums", sums()
    yield "sums_empty", sums(sums=[{"count": 0, "mark": 0}] * p.BUCKETS)
    yield "sums_full", sums(sums=[{"count": U32, "mark": U64}] * p.BUCKETS)
    yield "listing", listing()
    yield "listing_none", listing(items_=[])
    yield "listing_page", listing(after=b"\x07" + b"\1" * 30 + b"\0", end=b"\x07" + b"\xff" * 31)
    unranged = {"ranged": 0, "after": ZEROS, "end": ZEROS}
    yield "listing_to_hand_over", listing(round=U32, **unranged, items_=[item(ONES), item(ZEROS)])
    yield "listed", listed()
    yield "listed_nothing", listed(round=U32, held=[], wanted=[])


# ---- invalid ----


def invalid_chunks() -> Iterator[Invalid]:
    """Broken frames of chunks. A HOLD's first claim is at 37, its second at 84, its keys at 131."""
    held = build("HELD", 11, state=p.HELD_SEND, free_bytes=1)
    part = build("CHUNK", 11, key=STRIPE[0], total=8, offset=3, bytes=b"hunk.")
    release = build("RELEASE", how=p.THIS, digest=ONES, version=VERSION)
    offer, offered = build("OFFER", 15, keys_=STRIPE), build("OFFERED", 15, states=[1, 4])
    claims = build("CLAIMS", 16, claims=[{"digest": ONES, "version": VERSION}] * 2)
    claimed = build("CLAIMED", 16, states=[1, 3])
    cases = {
        "hold_size_0": patch(hold(), 32, u32(0)),
        "hold_size_past_limit": patch(hold(), 32, u32(p.CHUNK_BYTES_MAX + 1)),
        "hold_no_claims": raw(0x40, hold()[16:52] + b"\0\0"),
        "hold_flags_2": raw(0x40, hold()[16:-1] + b"\x02"),
        "hold_17_claims": patch(longer(hold(claims=[claim()] * 16), bytes(47)), 36, b"\x11"),
        "hold_claim_missing": patch(hold(), 36, b"\x03"),
        "hold_claim_unread": patch(hold(), 36, b"\x01"),
        "hold_no_copies": patch(hold(), 81, b"\0"),
        "hold_17_copies": patch(hold(), 81, b"\x11"),
        "hold_shard_of_a_copy": patch(hold(), 83, b"\x01"),
        "hold_keys_missing": patch(hold(claims=[claim()]), 82, b"\x01"),
        "hold_33_shards": patch(hold(), 128, b"\x1f"),
        "hold_no_data": patch(hold(), 128, b"\0"),
        "hold_shards_wrap": patch(hold(), 129, b"\xff"),
        "hold_shard_past_stripe": patch(hold(), 130, b"\x06"),
        "hold_shard_of_another_key": patch(hold(), 130, b"\x04"),
        "hold_longer": longer(hold()),
        "hold_shorter": shorter(hold()),
        "hold_empty": raw(0x40, b""),
        "held_0": patch(held, 0, b"\0"),
        "held_7": patch(held, 0, b"\x07"),
        "held_shorter": shorter(held),
        "chunk_total_0": patch(part, 32, u32(0)),
        "chunk_total_less": patch(part, 32, u32(7)),
        "chunk_total_past_limit": patch(part, 32, u32(p.CHUNK_BYTES_MAX + 1)),
        "chunk_offset_more": patch(part, 36, u32(4)),
        "chunk_offset_wraps": patch(part, 36, u32(U32 - 1)),
        "chunk_without_bytes": raw(0x42, part[16:56]),
        "chunk_only_key": raw(0x42, STRIPE[0]),
        "want_shorter": shorter(build("WANT", 14, key=ONES)),
        "release_0": patch(release, 0, b"\0"),
        "release_3": patch(release, 0, b"\x03"),
        "release_shorter": shorter(release),
        "offer_none": raw(0x45, b"\0\0"),
        "offer_key_missing": patch(offer, 0, b"\x07"),
        "offer_key_unread": patch(offer, 0, b"\x05"),
        "offer_empty": raw(0x45, b""),
        "offered_none": raw(0x46, b"\0\0"),
        "offered_0": patch(offered, 2, b"\0"),
        "offered_6": patch(offered, 3, b"\x06"),
        "offered_longer": longer(offered, b"\1"),
        "claims_none": raw(0x47, b"\0\0"),
        "claims_missing": patch(claims, 0, b"\x03"),
        "claims_shorter": shorter(claims),
        "claimed_none": raw(0x48, b"\0\0"),
        "claimed_0": patch(claimed, 2, b"\0"),
        "claimed_5": patch(claimed, 3, b"\x05"),
        "claimed_longer": longer(claimed, b"\1"),
    }
    yield from ((name, "PAYLOAD", frame) for name, frame in cases.items())


def invalid_names() -> Iterator[Invalid]:
    """Broken frames of names."""
    yield from ((name, "PAYLOAD", frame) for name, frame in _invalid_entries().items())
    yield from ((name, "PAYLOAD", frame) for name, frame in _invalid_pages().items())
    yield from ((name, "PAYLOAD", frame) for name, frame in _invalid_listings().items())


def _invalid_entries() -> dict[str, bytes]:
    """The name of `entry` begins at 33, its body at 38; a tombstone's awaited are at 31."""
    ask = build("ENTRY_ASK", 17, how=p.ASK_ENTRY, digest=ONES)
    here = build("VERSION", 17, what=p.HERE, kind=p.MANIFEST, version=VERSION)
    none = build("VERSION", 17, what=p.NONE, kind=0, version=NO_VERSION)
    stripes = entry(**coded(9, 2, 4, 2, STRIPE * 2))
    full = tombstone(awaited=[], name="n" * p.FILE_NAME_BYTES_MAX)
    body = {"chunk_bytes": 1, "k": 1, "m": 0, "keys_": [ZEROS] * 10}
    return {
        "entry_kind_3": patch(entry(), 12, b"\x03"),
        "entry_1_keeper": patch(entry(), 13, b"\x01"),
        "entry_35_keepers": patch(entry(), 13, b"\x23"),
        "entry_with_age": patch(entry(), 14, u64(1)),
        "entry_awaited": patch(tombstone(age_ms=0), 12, b"\x01"),
        "entry_size_0": patch(entry(), 22, u64(0)),
        "entry_one_key_too_few": patch(entry(), 22, u64((1 << 20) + 1)),
        "entry_one_key_too_many": patch(entry(size=10, body=body), 22, u64(9)),
        "entry_size_huge": patch(entry(), 22, u64(U64)),
        "entry_stripe_too_few": patch(stripes, 22, u64(17)),
        "entry_stripe_too_many": patch(stripes, 22, u64(8)),
        "entry_stripes_wrap": patch(stripes, 22, u64(U64)),
        "entry_chunk_bytes_0": patch(entry(), 38, u32(0)),
        "entry_chunk_bytes_past_limit": patch(entry(), 38, u32(p.CHUNK_BYTES_MAX + 1)),
        "entry_no_copies": patch(entry(), 42, b"\0"),
        "entry_17_copies": patch(entry(), 42, b"\x11"),
        "entry_no_data": patch(stripes, 42, b"\0"),
        "entry_33_shards": patch(stripes, 42, b"\x1f"),
        "entry_body_cut": raw(0x50, entry()[16:59]),
        "entry_without_body": raw(0x50, entry()[16:54]),
        "entry_longer": longer(entry()),
        "entry_shorter": shorter(entry()),
        "entry_name_empty": raw(0x50, entry()[16:47] + b"\0\0" + entry()[54:]),
        "entry_name_not_utf8": patch(entry(), 33, b"\xff"),
        "entry_name_past_end": patch(entry(), 31, b"\xff\xff"),
        "entry_name_4097": patch(longer(full, b"n"), 31, b"\x01\x10"),
        "entry_only_head": raw(0x50, entry()[16:46]),
        "entry_empty": raw(0x50, b""),
        "inline_4097": patch(longer(inline(b"x" * 4096), b"x"), 22, u64(4097)),
        "inline_size_less": patch(inline(b"hello"), 22, u64(4)),
        "inline_size_more": patch(inline(b"hello"), 22, u64(6)),
        "inline_size_wraps": patch(inline(b"hello"), 22, u64(1 << 32 | 5)),
        "inline_with_age": patch(inline(b"hello"), 14, u64(1)),
        "tombstone_with_size": patch(tombstone(), 22, u64(1)),
        "tombstone_with_body": longer(tombstone()),
        "tombstone_awaits_0": patch(tombstone(), 31, b"\0\0"),
        "tombstone_awaits_twice": patch(tombstone(), 33, b"\x02\0"),
        "tombstone_awaits_descending": patch(tombstone(), 33, b"\x01\0"),
        "tombstone_awaits_past_end": patch(tombstone(), 30, b"\xff"),
        "entry_ask_0": patch(ask, 0, b"\0"),
        "entry_ask_3": patch(ask, 0, b"\x03"),
        "entry_ask_shorter": shorter(ask),
        "version_what_0": patch(here, 0, b"\0"),
        "version_what_6": patch(here, 0, b"\x06"),
        "version_kind_3": patch(here, 1, b"\x03"),
        "version_none_of_a_kind": patch(none, 1, b"\x01"),
        "version_none_with_stamp": patch(none, 9, b"\x80"),
        "version_none_with_origin": patch(none, 10, b"\x01"),
        "version_shorter": shorter(here),
    }


def _invalid_pages() -> dict[str, bytes]:
    """The first row of `names` is at 3: kind 15, care 16, missing 17, size 21, name 29."""
    ask = build("NAMES_ASK", 13, limit=1, prefix="ab", after="c")
    page, one = names(), names(rows=[row("a")])
    inline_row = names(rows=[row("a", kind=p.INLINE, size=9)])
    gone = names(rows=[row("a", kind=p.TOMBSTONE, size=0)])
    return {
        "names_ask_limit_0": patch(ask, 0, b"\0\0"),
        "names_ask_limit_201": patch(ask, 0, b"\xc9\0"),
        "names_ask_prefix_not_utf8": patch(ask, 4, b"\xff"),
        "names_ask_after_not_utf8": patch(ask, 8, b"\xff"),
        "names_ask_after_past_end": patch(ask, 6, b"\x02"),
        "names_ask_longer": longer(ask),
        "names_ask_shorter": shorter(ask),
        "names_more_2": patch(page, 0, b"\x02"),
        "names_more_of_none": raw(0x54, b"\x01\0\0"),
        "names_row_missing": patch(page, 1, b"\x03"),
        "names_row_unread": patch(page, 1, b"\x01"),
        "names_kind_3": patch(page, 15, b"\x03"),
        "names_care_4": patch(page, 16, b"\x04"),
        "names_missing_of_whole": patch(page, 17, u32(1)),
        "names_at_risk_of_nothing": patch(page, 16, b"\x02"),
        "names_damaged_of_nothing": patch(page, 16, b"\x03"),
        "names_size_0": patch(one, 21, u64(0)),
        "names_inline_4097": patch(inline_row, 21, u64(4097)),
        "names_tombstone_with_size": patch(gone, 21, u64(1)),
        "names_name_empty": raw(0x54, one[16:45] + b"\0\0"),
        "names_name_not_utf8": patch(one, 31, b"\x80"),
        "names_name_past_end": patch(one, 29, b"\x02"),
        "names_descend": patch(page, 31, b"c"),
        "names_twice": raw(0x54, b"\x01\x02\0" + one[19:] * 2),
        "names_prefix_behind": raw(0x54, b"\0\x02\0" + names(rows=[row("aa")])[19:] + one[19:]),
        "names_longer": longer(page),
        "names_shorter": shorter(page),
        "names_empty": raw(0x54, b""),
    }


def _invalid_listings() -> dict[str, bytes]:
    """`after` is at 5, `end` at 37, the items at 71, each of 52 bytes."""
    page, reply = listing(), listed()
    offer = listing(ranged=0, after=ZEROS, end=ZEROS, items_=[item(ONES)])
    ends = b"\x07" + b"\xff" * 31
    return {
        "sums_mark_of_none": patch(sums(), 0 + 4, b"\x01"),
        "sums_count_0": patch(sums(), 7 * 12, u32(0)),
        "sums_shorter": shorter(sums()),
        "listing_ranged_2": patch(page, 4, b"\x02"),
        "listing_two_first_bytes": patch(page, 5, b"\x06"),
        "listing_after_is_end": patch(listing(items_=[]), 5, ends),
        "listing_after_past_end": patch(listing(items_=[]), 37, b"\x07" + bytes(31)),
        "listing_item_at_after": patch(page, 5, b"\x07" + b"\1" * 31),
        "listing_item_past_end": patch(page, 68, b"\xfe"),
        "listing_item_of_another_bucket": patch(page, 71, b"\x08"),
        "listing_twice": patch(page, 71 + 52, b"\x07" + b"\1" * 31),
        "listing_descends": patch(page, 71 + 52, b"\x07" + b"\0" * 30 + b"\1"),
        "listing_item_missing": patch(page, 69, b"\x04"),
        "listing_item_unread": patch(page, 69, b"\x02"),
        "listing_offers_nothing": raw(0x56, offer[16:85] + b"\0\0"),
        "listing_offers_after": patch(offer, 36, b"\x01"),
        "listing_offers_to_end": patch(offer, 37, b"\x01"),
        "listing_longer": longer(page),
        "listing_shorter": shorter(page),
        "listed_item_missing": patch(reply, 4, b"\x02"),
        "listed_item_unread": patch(reply, 4, b"\0"),
        "listed_digest_missing": patch(reply, 58, b"\x03"),
        "listed_digest_unread": patch(reply, 58, b"\x01"),
        "listed_longer": longer(reply),
        "listed_only_round": raw(0x57, bytes(4)),
    }
