"""The entries in a node's keeping; a part of `_core.pyx`.

`Names` is the store that `velum.policy.names` describes. What it gives are plain tuples: an item is
(digest, (stamp, origin), mark), an entry as in `_core_store.pxi`.
"""

cdef enum:
    PAGE_ROWS_MAX = 200  # VELUM_NAMES_PAGE_MAX
    STEP_ITEMS_MAX = 8192  # that a step of a walk writes; more are for the next one
    # What merge says, as in `velum.policy.names`.
    ENTRY_TAKEN = 1
    ENTRY_HELD = 2
    ENTRY_LATER = 3


cdef tuple item_out(const c.velum_name_item *item):
    return (key_out(item.digest), (item.version.stamp, item.version.origin), item.mark)


cdef object names_entry_out(const c.velum_names_entry *entry):
    return None if entry == NULL else entry_out(entry.payload, entry.payload_size)


cdef class Names:
    """A node's store of entries; see `csrc/names.h`. Belongs to the hub's thread, and must outlive
    the hub that it was given to."""
    cdef c.velum_names *names

    def __cinit__(self, uint16_t me, size_t room_bytes):
        cdef int err = c.velum_names_open(&self.names, me, room_bytes)
        if err < 0:
            raise CoreError(err)

    def __dealloc__(self):
        c.velum_names_close(self.names)

    def set_room(self, size_t room_bytes):
        """Less room than what is used drops nothing."""
        c.velum_names_set_room(self.names, room_bytes)

    def set_members(self, object ids):
        """The live full members, this node included, ascending."""
        cdef uint16_t *raw = ids_in(ids)
        cdef int err = c.velum_names_set_members(self.names, raw, len(ids))
        free(raw)
        if err < 0:
            raise CoreError(err)

    def keepers(self, bytes digest, int count):
        """Who keeps a name whose entry has `count` keepers (0..255), best first."""
        cdef uint8_t d[KEY_BYTES]
        cdef uint16_t ids[255]
        cdef size_t i, found
        key_in(digest, d)
        found = c.velum_names_keepers(self.names, d, <uint8_t>count, ids)
        return tuple([ids[i] for i in range(found)])

    def figures(self):
        """Entries, tombstones and formers among them, bytes, room, the greatest stamp merged; files
        whose first keeper this node is."""
        cdef c.velum_names_figures f = c.velum_names_get_figures(self.names)
        return (f.count, f.tombstones, f.formers, f.bytes, f.room, f.stamp_max, f.files)

    # entries

    def merge(self, object entry, uint64_t unix_ms, int64_t now_ms):
        """(1 taken, 2 held, 3 later, or a negative error; the name's digest, kind and version here)."""
        cdef EntryIn e = EntryIn(entry)
        cdef c.velum_named_version here
        cdef uint8_t digest[KEY_BYTES]
        cdef int r = c.velum_names_merge(self.names, &e.m, unix_ms, <uint64_t>now_ms, &here)
        if r == c.VELUM_E_NOMEM:
            r = c.VELUM_E_NAMES_FULL
        if r < 0 and r != c.VELUM_E_NAMES_FULL and r != c.VELUM_E_VERSION_AHEAD:
            raise CoreError(r)
        if r >= 0:
            if r == 1:
                r = ENTRY_TAKEN
            else:
                r = ENTRY_HELD if here.what == c.VELUM_NAMED_KEPT else ENTRY_LATER
        c.velum_chunk_key(e.m.name.data, e.m.name.size, digest)
        return (r, key_out(digest), here.kind, (here.version.stamp, here.version.origin))

    def get(self, bytes digest):
        """What a name stands for, or None; of a tombstone without its age, and awaited by nobody."""
        cdef uint8_t d[KEY_BYTES]
        key_in(digest, d)
        return names_entry_out(c.velum_names_find(self.names, d))

    def next(self, bytes after):
        """(digest, entry) with the least digest above `after`, or None."""
        cdef uint8_t d[KEY_BYTES]
        cdef const c.velum_names_entry *entry
        key_in(after, d)
        entry = c.velum_names_next(self.names, d)
        return None if entry == NULL else (key_out(entry.item.digest), names_entry_out(entry))

    def known(self, bytes digest):
        """(version, mark, kind, payload bytes, made at ms), or None."""
        cdef uint8_t d[KEY_BYTES]
        cdef const c.velum_names_entry *entry
        key_in(digest, d)
        entry = c.velum_names_find(self.names, d)
        if entry == NULL:
            return None
        return ((entry.item.version.stamp, entry.item.version.origin), entry.item.mark, entry.kind,
                entry.payload_size, <int64_t>entry.made_ms)

    def retire(self, bytes digest):
        """A tombstone is not compared any more."""
        cdef uint8_t d[KEY_BYTES]
        key_in(digest, d)
        c.velum_names_retire(self.names, d)

    def forget(self, object item):
        """Forgets exactly this entry; False: it is not here."""
        cdef c.velum_name_item m
        item_in(item, &m)
        return bool(c.velum_names_forget(self.names, &m))

    def page(self, bytes prefix, bytes after, size_t limit):
        """([(name, version, kind, size, digest), ...], whether there are more), at most 200."""
        cdef c.velum_names_entry_ref found[PAGE_ROWS_MAX]
        cdef c.velum_text p, a
        cdef c.c_bool more
        cdef size_t i, count
        text_in(prefix, &p)
        text_in(after, &a)
        count = c.velum_names_list(self.names, p, a, found, min(limit, PAGE_ROWS_MAX), &more)
        rows = []
        for i in range(count):
            rows.append((PyBytes_FromStringAndSize(found[i].name.data, found[i].name.size),
                         (found[i].item.version.stamp, found[i].item.version.origin),
                         found[i].kind, found[i].size, key_out(found[i].item.digest)))
        return rows, bool(more)

    # comparing

    def sharing(self):
        """The other nodes, ascending, that keep an entry that this node keeps."""
        cdef uint16_t id = c.velum_names_sharing(self.names, 0)
        found = []
        while id != 0:
            found.append(id)
            id = c.velum_names_sharing(self.names, id)
        return tuple(found)

    def sums(self, uint16_t peer):
        """(256 counts, 256 marks) over what this node and another keep."""
        cdef const c.velum_sums *sums = c.velum_names_sums(self.names, peer)
        cdef int i
        if sums == NULL:
            return [0] * c.VELUM_BUCKETS, [0] * c.VELUM_BUCKETS
        return ([sums.counts[i] for i in range(c.VELUM_BUCKETS)],
                [sums.marks[i] for i in range(c.VELUM_BUCKETS)])

    def shared(self, uint16_t peer, bytes after, bytes end, size_t look_max, size_t limit):
        """(items, the last digest passed or None): a step over what counts in these sums."""
        cdef uint8_t at[KEY_BYTES]
        cdef uint8_t last[KEY_BYTES]
        cdef size_t cap = min(limit, STEP_ITEMS_MAX), count, i
        cdef c.velum_names_entry_ref *found
        cdef bint more
        key_in(after, at)
        key_in(end, last)
        found = <c.velum_names_entry_ref *>room_for(cap, sizeof(c.velum_names_entry_ref))
        more = c.velum_names_shared(self.names, peer, at, last, look_max, found, cap, &count)
        items = [item_out(&found[i].item) for i in range(count)]
        free(found)
        return items, key_out(at) if more else None

    # changes of members, tombstones

    def scan(self, bytes after, object anew, size_t look_max, size_t limit):
        """([(node, digest), ...], the last digest passed or None): places entries anew."""
        cdef uint8_t at[KEY_BYTES]
        cdef size_t cap = min(limit, STEP_ITEMS_MAX), count, i
        cdef c.velum_names_pair *found
        cdef uint16_t *raw
        cdef bint more
        key_in(after, at)
        raw = ids_in(anew)
        found = <c.velum_names_pair *>malloc((cap + 1) * sizeof(c.velum_names_pair))
        if found == NULL:
            free(raw)
            raise MemoryError()
        more = c.velum_names_scan(self.names, at, raw, len(anew), look_max, found, cap, &count)
        pairs = [(found[i].node, key_out(found[i].entry.item.digest)) for i in range(count)]
        free(found)
        free(raw)
        return pairs, key_out(at) if more else None

    def formers(self, bytes after, size_t look_max, size_t limit):
        """(items, the last digest passed or None): a step over entries not this node's to keep."""
        cdef uint8_t at[KEY_BYTES]
        cdef size_t cap = min(limit, STEP_ITEMS_MAX), count, i
        cdef c.velum_names_entry_ref *found
        cdef bint more
        key_in(after, at)
        found = <c.velum_names_entry_ref *>room_for(cap, sizeof(c.velum_names_entry_ref))
        more = c.velum_names_formers(self.names, at, look_max, found, cap, &count)
        items = [item_out(&found[i].item) for i in range(count)]
        free(found)
        return items, key_out(at) if more else None

    def graves(self, bytes after, int64_t until_ms, size_t look_max, size_t limit):
        """([(item, made, came), ...] of tombstones made by then, when the eldest other that was
        passed was made or None, the last digest passed or None)."""
        cdef uint8_t at[KEY_BYTES]
        cdef size_t cap = min(limit, STEP_ITEMS_MAX), count, i
        cdef c.velum_names_entry_ref *found
        cdef int64_t made = INT64_MAX
        cdef bint more
        key_in(after, at)
        found = <c.velum_names_entry_ref *>room_for(cap, sizeof(c.velum_names_entry_ref))
        more = c.velum_names_graves(self.names, at, until_ms, look_max, found, cap, &count, &made)
        graves = [(item_out(&found[i].item), <int64_t>found[i].made_ms, <int64_t>found[i].came_ms)
                  for i in range(count)]
        free(found)
        return graves, made if made != INT64_MAX else None, key_out(at) if more else None


cdef void *room_for(size_t count, size_t size) except NULL:
    cdef void *room = malloc((count + 1) * size)
    if room == NULL:
        raise MemoryError()
    return room


cdef uint16_t *ids_in(object ids) except NULL:
    """Of the caller, who frees it."""
    cdef uint16_t *raw = <uint16_t *>room_for(len(ids), sizeof(uint16_t))
    cdef size_t i = 0
    try:
        for id in ids:
            raw[i] = id
            i += 1
    except BaseException:
        free(raw)
        raise
    return raw


# ---- entries that several links are sent ----

cdef class Sent:
    """One of them."""
    cdef list links  # that have not said that they have it
    cdef bint replaced  # one that has said so had another manifest before

    def __cinit__(self, list links):
        self.links = links


cdef tuple last_version(dict entries, c.velum_handle link, uint64_t correlation, tuple body):
    """What a VERSION says, entries by correlation; None if it is told with one still to come."""
    cdef Sent sent = entries.get(correlation)
    if sent is None or body[0] not in (c.VELUM_NAMED_KEPT, c.VELUM_NAMED_REPLACED):
        return body
    if link not in sent.links:
        return None
    sent.links.remove(link)
    sent.replaced = sent.replaced or body[0] == c.VELUM_NAMED_REPLACED
    if sent.links:
        return None
    del entries[correlation]
    return (c.VELUM_NAMED_REPLACED, *body[1:]) if sent.replaced else body
