/* velum_opt.h: every limit of the core, its unit in its name and its reason beside it.
 *
 * A port for a small device overrides any of them on the compiler's command line.
 */
#ifndef VELUM_OPT_H
#define VELUM_OPT_H

/* Largest ordinary payload. Room for a full-state exchange of 23,000 members; small enough that a
 * hostile length cannot make a node allocate much. */
#ifndef VELUM_FRAME_BYTES_MAX
#define VELUM_FRAME_BYTES_MAX (1024u * 1024u)
#endif

/* Largest payload before HELLO has been accepted: a stranger may cost this much memory, no more. */
#ifndef VELUM_HELLO_BYTES_MAX
#define VELUM_HELLO_BYTES_MAX 512u
#endif

/* Largest UDP payload, header included: below every common MTU, so that no datagram is cut up. */
#ifndef VELUM_DATAGRAM_BYTES_MAX
#define VELUM_DATAGRAM_BYTES_MAX 1200u
#endif

/* Longest name of a function, in bytes of UTF-8. */
#ifndef VELUM_NAME_BYTES_MAX
#define VELUM_NAME_BYTES_MAX 255u
#endif

/* Most arguments of a call; wasm3 and people both stop well before. */
#ifndef VELUM_ARGS_MAX
#define VELUM_ARGS_MAX 32u
#endif

/* Longest error text on the wire. */
#ifndef VELUM_TEXT_BYTES_MAX
#define VELUM_TEXT_BYTES_MAX 1024u
#endif

/* Largest WebAssembly module. */
#ifndef VELUM_MODULE_BYTES_MAX
#define VELUM_MODULE_BYTES_MAX (64u * 1024u * 1024u)
#endif

/* A module travels in parts of this size, so that no other frame waits long behind one. */
#ifndef VELUM_MODULE_PART_BYTES
#define VELUM_MODULE_PART_BYTES (256u * 1024u)
#endif

/* Memory for cached modules; the least recently used unpinned one goes first. */
#ifndef VELUM_MODULE_CACHE_BYTES
#define VELUM_MODULE_CACHE_BYTES (256u * 1024u * 1024u)
#endif
#ifndef VELUM_MODULE_CACHE_SLOTS
#define VELUM_MODULE_CACHE_SLOTS 256u
#endif

/* Largest chunk of a file: a lost link costs at most this much again. */
#ifndef VELUM_CHUNK_BYTES_MAX
#define VELUM_CHUNK_BYTES_MAX (8u * 1024u * 1024u)
#endif

/* Regions of 4 MiB that a node keeps when their chunks are gone: the next ones come soon, and
 * memory fresh from the system is slow. 64 MiB. */
#ifndef VELUM_SLAB_SPARES_MAX
#define VELUM_SLAB_SPARES_MAX 16u
#endif

/* What a smaller chunk counts as in a node's budget. Each takes some 200 bytes beside its own; so
 * no choice of chunks takes half as much again as the budget. */
#ifndef VELUM_CHUNK_CHARGE_BYTES_MIN
#define VELUM_CHUNK_CHARGE_BYTES_MIN 512u
#endif

/* Chunks of a node, arriving ones included: 16 GiB of 4 KiB each. Bounds the index to 64 MiB. */
#ifndef VELUM_CHUNKS_MAX
#define VELUM_CHUNKS_MAX (4u * 1024u * 1024u)
#endif

/* Chunks that arrive at once: 16 senders with 16 MiB of 4 KiB chunks each. When a link closes, all
 * are looked at. */
#ifndef VELUM_CHUNKS_ARRIVING_MAX
#define VELUM_CHUNKS_ARRIVING_MAX (64u * 1024u)
#endif

/* Bytes of one CHUNK frame: what other frames of the link wait for, 20 ms at 100 Mbit/s. */
#ifndef VELUM_CHUNK_PART_BYTES
#define VELUM_CHUNK_PART_BYTES (256u * 1024u)
#endif

/* Chunks queued to be sent on one link, and chunks wanted on all links at once: 64 MiB of 1 MiB. */
#ifndef VELUM_CHUNKS_SENDING_MAX
#define VELUM_CHUNKS_SENDING_MAX 64u
#endif
#ifndef VELUM_CHUNKS_WANTED_MAX
#define VELUM_CHUNKS_WANTED_MAX 256u
#endif

/* A file's name, bytes of UTF-8. */
#ifndef VELUM_FILE_NAME_BYTES_MAX
#define VELUM_FILE_NAME_BYTES_MAX 4096u
#endif

/* A manifest: 32,000 keys of 32 bytes, and what stands beside them; it travels in one frame. */
#ifndef VELUM_ENTRY_BODY_BYTES_MAX
#define VELUM_ENTRY_BODY_BYTES_MAX (VELUM_FRAME_BYTES_MAX - 16u * 1024u)
#endif

/* Entries of a node, tombstones too; bounds the index to 8 MiB. */
#ifndef VELUM_NAMES_MAX
#define VELUM_NAMES_MAX (1024u * 1024u)
#endif

/* What an entry counts as in a node's room for them beside its payload. It takes 152, 2 for each
 * keeper, the allocator's 16, and 16 to 64 in the index. */
#ifndef VELUM_NAMES_ENTRY_BYTES
#define VELUM_NAMES_ENTRY_BYTES 256u
#endif

/* Connections a node holds at once. select() serves descriptors below 1,024 on common systems, and
 * the rest of the process needs some. */
#ifndef VELUM_LINKS_MAX
#define VELUM_LINKS_MAX 512u
#endif

/* Connections of strangers (no HELLO yet) held at once; the oldest goes when one more comes. */
#ifndef VELUM_STRANGERS_MAX
#define VELUM_STRANGERS_MAX 64u
#endif

/* A stranger has this long to say HELLO, and a dialled peer to answer it. */
#ifndef VELUM_HANDSHAKE_MS
#define VELUM_HANDSHAKE_MS 2000u
#endif

/* A link that has been silent this long is pinged; silent twice as long, it is closed. */
#ifndef VELUM_IDLE_MS
#define VELUM_IDLE_MS 10000u
#endif

/* What one read takes from a socket; also the longest frame that is not bulk-allocated. */
#ifndef VELUM_READ_BYTES
#define VELUM_READ_BYTES (64u * 1024u)
#endif

/* Unsent bytes a link may hold before a sender is told FULL. */
#ifndef VELUM_SEND_QUEUE_BYTES
#define VELUM_SEND_QUEUE_BYTES (4u * 1024u * 1024u)
#endif

/* What a link's queue may keep when it is empty again, for the next burst; given back when the link
 * has been quiet for a while. Fresh memory costs as much as copying it twice. */
#ifndef VELUM_SEND_KEEP_BYTES
#define VELUM_SEND_KEEP_BYTES (8u * VELUM_READ_BYTES)
#endif

/* Events one poll hands out: bounds the work of a tick. */
#ifndef VELUM_EVENTS_PER_POLL
#define VELUM_EVENTS_PER_POLL 1024u
#endif

/* Nesting of blocks in a guest: wasm3's compiler recurses on the C stack. */
#ifndef VELUM_WASM_NESTING_MAX
#define VELUM_WASM_NESTING_MAX 500u
#endif

/* Locals of one guest function, parameters included: wasm3 numbers stack slots in 16 bits. */
#ifndef VELUM_WASM_LOCALS_MAX
#define VELUM_WASM_LOCALS_MAX 4000u
#endif

/* wasm3's value stack of a guest. */
#ifndef VELUM_WASM_STACK_BYTES
#define VELUM_WASM_STACK_BYTES (64u * 1024u)
#endif

/* Native stack a guest may use below the call that started it. */
#ifndef VELUM_NATIVE_STACK_BYTES
#define VELUM_NATIVE_STACK_BYTES (4u * 1024u * 1024u)
#endif

/* Linear memory of a guest unless the task says less: 64 KiB pages. */
#ifndef VELUM_GUEST_PAGES_MAX
#define VELUM_GUEST_PAGES_MAX 4096u
#endif

/* Back-edges and calls between two looks at the clock and the sockets: near a millisecond of
 * guest time on a slow board, and under 1% of it. */
#ifndef VELUM_FUEL_PER_CHECK
#define VELUM_FUEL_PER_CHECK 65536u
#endif

/* Tasks that wait in a worker. */
#ifndef VELUM_WORKER_QUEUE_MAX
#define VELUM_WORKER_QUEUE_MAX 64u
#endif

/* Slices of one job: a million, 9 MB of ledger. */
#ifndef VELUM_SLICES_MAX
#define VELUM_SLICES_MAX (1024u * 1024u)
#endif

/* A worker reports finished slices at least this often, and not more often: what a killed worker
 * loses beside the slice it was in, and what reports cost its node. */
#ifndef VELUM_REPORT_MS
#define VELUM_REPORT_MS 25u
#endif

/* Links of a leaf: every node of a mesh of 16 keeps one; in a larger one, each that sends work. */
#ifndef VELUM_LEAF_LINKS_MAX
#define VELUM_LEAF_LINKS_MAX 64u
#endif

/* Full nodes that a leaf remembers, 32 bytes each, to come back through: one of them has to outlive
 * its home. */
#ifndef VELUM_LEAF_MEMBERS_MAX
#define VELUM_LEAF_MEMBERS_MAX 32u
#endif

/* Tasks that a program has under way through velum_spawn; 290 bytes each, and its frame. */
#ifndef VELUM_TASKS_MAX
#define VELUM_TASKS_MAX 4096u
#endif

/* How far ahead of this node's clock a stamp of the key-value state may be: 139 years. Honest
 * clocks differ by less, also one that starts at 1970 for want of a battery. */
#ifndef VELUM_KV_AHEAD_MS
#define VELUM_KV_AHEAD_MS (UINT64_C(1) << 42)
#endif

#endif
