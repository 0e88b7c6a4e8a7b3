/* test_chunks_model.c: random calls on a node's chunks, each answer and figure held to a model.
 *
 * The model is a table of a few contents: held or not, arriving from whom and how far, and what is
 * lent. Random runs come from a seed, printed when they fail: `test_chunks_model SEED` replays
 * them.
 */
#include "dice.h"
#include "check.h"
#include "chunks.h"

#include <stdlib.h>

#define CONTENTS 40u
#define SENDERS  3u
#define LOANS    12u
#define ROUNDS   400u
#define STEPS    400u
#define NONE     UINT32_MAX

typedef struct {
    uint8_t *bytes;
    size_t size;
    uint8_t key[VELUM_KEY_BYTES];
    bool held;
    uint32_t sender;     /* NONE: not arriving */
    size_t received;     /* 0 if it is not arriving */
    uint32_t generation; /* how often it was dropped */
    bool old;            /* held since the walk began */
    bool met;            /* by the walk */
} content;

typedef struct {
    void *token; /* NULL: free */
    const uint8_t *bytes;
    content *of;
    uint32_t generation;
} loan;

static velum_chunks *chunks;
static content contents[CONTENTS];
static loan loans[LOANS];
static size_t budget, left;

/* ---- what the model says ---- */

static size_t charge(const content *c) {
    return c->size < VELUM_CHUNK_CHARGE_BYTES_MIN ? VELUM_CHUNK_CHARGE_BYTES_MIN : c->size;
}

static velum_chunks_figures expected_figures(void) {
    velum_chunks_figures f = {budget, 0, 0, 0, 0};
    for (size_t i = 0; i < CONTENTS; i++) {
        const content *c = &contents[i];
        if (c->held) f.used += charge(c), f.count++;
        if (c->sender != NONE) f.reserved += charge(c), f.arriving++;
    }
    for (size_t i = 0; i < LOANS; i++) { /* dropped and lent: once, however many loans */
        bool counted = loans[i].token == NULL || loans[i].generation == loans[i].of->generation;
        for (size_t j = 0; j < i; j++)
            counted = counted || loans[j].token == loans[i].token;
        if (!counted) f.used += charge(loans[i].of);
    }
    return f;
}

static bool room_for(const content *c) {
    velum_chunks_figures f = expected_figures();
    return f.used + f.reserved + charge(c) <= budget;
}

static void compare(void) {
    velum_chunks_figures is = velum_chunks_get_figures(chunks), should = expected_figures();
    CHECK_EQ(is.budget, should.budget);
    CHECK_EQ(is.used, should.used);
    CHECK_EQ(is.reserved, should.reserved);
    CHECK_EQ(is.count, should.count);
    CHECK_EQ(is.arriving, should.arriving);
    for (size_t i = 0; i < CONTENTS; i++) {
        const content *c = &contents[i];
        size_t n = 0;
        const uint8_t *got = velum_chunks_get(chunks, c->key, &n);
        CHECK_EQ(got != NULL, c->held);
        if (got != NULL) CHECK(n == c->size && memcmp(got, c->bytes, n) == 0);
    }
    for (size_t i = 0; i < LOANS; i++)
        if (loans[i].token != NULL)
            CHECK(memcmp(loans[i].bytes, loans[i].of->bytes, loans[i].of->size) == 0);
}

/* ---- calls ---- */

static void call_add(content *c) {
    uint8_t key[VELUM_KEY_BYTES];
    int should = c->held ? 1 : room_for(c) ? 0 : VELUM_E_FULL;
    CHECK_EQ(velum_chunks_add(chunks, c->bytes, c->size, key), should);
    CHECK(memcmp(key, c->key, sizeof key) == 0);
    c->held = should >= 0;
}

static void call_reserve(content *c) {
    uint32_t sender = (uint32_t)below(SENDERS);
    bool lies = chance(8);
    int should = c->held             ? (lies ? VELUM_E_CHUNK_HASH : 1)
                 : c->sender != NONE ? VELUM_E_AGAIN
                 : room_for(c)       ? 0
                                     : VELUM_E_FULL;
    if (lies && !c->held) return;
    CHECK_EQ(velum_chunks_reserve(chunks, c->key, c->size + lies, sender), should);
    if (should != 0) return;
    c->sender = sender;
}

/* A part as it should come, or one with something wrong. */
static velum_chunk_part some_part(const content *c, bool *right, uint32_t *sender) {
    velum_chunk_part part;
    size_t due = c->size - c->received;
    memcpy(part.key, c->key, VELUM_KEY_BYTES);
    part.total = (uint32_t)c->size;
    part.offset = (uint32_t)c->received;
    part.size = (uint32_t)(chance(2) ? due : below(due) + 1);
    *sender = c->sender;
    *right = false;
    switch (below(20)) {
    case 0:
        part.total += chance(2) ? 1u : (uint32_t)-1;
        break;
    case 1:
        part.offset += (uint32_t)below(c->size) + 1;
        break;
    case 2:
        part.size = chance(2) ? 0 : (uint32_t)(due + 1 + below(1000));
        break;
    case 3:
        *sender = (c->sender + 1) % SENDERS;
        break;
    default:
        *right = c->sender != NONE && !c->held;
    }
    return part;
}

static void end_arriving(content *c) {
    c->sender = NONE;
    c->received = 0;
}

static void call_part(content *c) {
    uint32_t sender, next;
    bool right, corrupt = chance(16), unasked = chance(16);
    velum_chunk_part part = some_part(c, &right, &sender);
    uint8_t *to = unasked ? NULL : velum_chunks_part_memory(chunks, &part, sender);
    CHECK_EQ(to != NULL, right && !unasked);
    if (c->held && sender != NONE && sender == c->sender) {
        CHECK_EQ(velum_chunks_part_arrived(chunks, &part, sender, &next), 1);
        end_arriving(c);
        return;
    }
    if (to == NULL) {
        CHECK_EQ(velum_chunks_part_arrived(chunks, &part, sender, &next), VELUM_E_CHUNK_MISSING);
        return;
    }
    memcpy(to, c->bytes + part.offset, part.size);
    if (part.offset + part.size == c->size && corrupt) {
        to[part.size - 1] ^= 1u;
        CHECK_EQ(velum_chunks_part_arrived(chunks, &part, sender, &next), VELUM_E_CHUNK_HASH);
        end_arriving(c);
        return;
    }
    c->received += part.size;
    c->held = c->received == c->size;
    if (c->held) end_arriving(c);
    CHECK_EQ(velum_chunks_part_arrived(chunks, &part, sender, &next), c->held);
    CHECK_EQ(next, c->received);
}

static void call_abandon(content *c) {
    uint32_t sender = (uint32_t)below(SENDERS);
    bool all = chance(8);
    if (all) {
        velum_chunks_abandon_all(chunks, sender);
    } else {
        velum_chunks_abandon(chunks, c->key, sender);
    }
    for (size_t i = 0; i < CONTENTS; i++)
        if ((all || c == &contents[i]) && contents[i].sender == sender) end_arriving(&contents[i]);
}

static void call_lend(content *c) {
    loan *l = &loans[below(LOANS)];
    size_t n = 0;
    if (l->token != NULL) {
        velum_chunks_give_back(l->token);
        l->token = NULL;
        return;
    }
    l->bytes = velum_chunks_lend(chunks, c->key, &n, &l->token);
    CHECK_EQ(l->bytes != NULL, c->held);
    l->of = c;
    l->generation = c->generation;
}

static void call_drop(content *c) {
    CHECK_EQ(velum_chunks_drop(chunks, c->key), c->held ? 0 : VELUM_E_CHUNK_MISSING);
    if (c->held) c->generation++;
    c->held = false;
    c->old = false;
}

static void call_verify(const content *c) {
    size_t piece = below(c->size) + 1, calls = (c->size + piece - 1) / piece, n;
    uint8_t *bytes = (uint8_t *)(uintptr_t)velum_chunks_get(chunks, c->key, &n);
    int r = velum_chunks_verify(chunks, c->key, SIZE_MAX); /* ends what was under way */
    CHECK_EQ(r == 1, c->held);
    if (bytes == NULL) {
        CHECK_EQ(r, VELUM_E_CHUNK_MISSING);
        return;
    }
    for (size_t i = 1; i < calls && calls < 100; i++)
        CHECK_EQ(velum_chunks_verify(chunks, c->key, piece), 0);
    CHECK_EQ(velum_chunks_verify(chunks, c->key, SIZE_MAX), 1);
    n = below(n);
    bytes[n] ^= 1u; /* a bit flips in memory, and back */
    CHECK_EQ(velum_chunks_verify(chunks, c->key, SIZE_MAX), VELUM_E_CHUNK_HASH);
    bytes[n] ^= 1u;
}

static void call_walk(void) {
    velum_chunk step[7];
    size_t n = velum_chunks_walk(chunks, &left, step, below(7) + 1);
    for (size_t s = 0; s < n; s++) {
        bool known = false;
        for (size_t i = 0; i < CONTENTS; i++) {
            content *c = &contents[i];
            if (memcmp(step[s].key, c->key, VELUM_KEY_BYTES) != 0) continue;
            known = c->held && step[s].size == c->size;
            c->met = true;
        }
        CHECK(known);
    }
    if (n > 0) return;
    for (size_t i = 0; i < CONTENTS; i++) {
        CHECK(contents[i].met || !contents[i].old);
        contents[i].old = contents[i].held;
        contents[i].met = false;
    }
    left = VELUM_CHUNKS_WALK_START;
}

static void step(void) {
    content *c = &contents[below(CONTENTS)];
    switch (below(16)) {
    case 0:
    case 1:
        call_add(c);
        break;
    case 2:
    case 3:
        call_reserve(c);
        break;
    case 4:
        call_abandon(c);
        break;
    case 5:
    case 6:
        call_lend(c);
        break;
    case 7:
    case 8:
        call_drop(c);
        break;
    case 9:
        call_verify(c);
        break;
    case 10:
    case 11:
        call_walk();
        break;
    case 12:
        if (!chance(10)) break;
        budget = below(4u << 20);
        velum_chunks_set_budget(chunks, budget);
        break;
    default:
        call_part(c);
    }
}

/* ---- runs ---- */

static void make_contents(void) {
    for (size_t i = 0; i < CONTENTS; i++) {
        content *c = &contents[i];
        size_t size = chance(2)   ? below(2000) + 1
                      : chance(2) ? 65535 + below(3)
                                  : below(200000) + 1;
        memset(c, 0, sizeof *c);
        c->bytes = malloc(size);
        if (c->bytes == NULL) abort();
        c->size = size;
        for (size_t k = 0; k < size; k++)
            c->bytes[k] = (uint8_t)(k * 7u + i);
        c->bytes[0] = (uint8_t)i; /* no two alike */
        velum_chunk_key(c->bytes, size, c->key);
        c->sender = NONE;
    }
}

static void run(void) {
    make_contents();
    memset(loans, 0, sizeof loans);
    budget = below(4u << 20);
    left = 0; /* the first step of a walk ends none, and begins one */
    CHECK_EQ(velum_chunks_open(&chunks, budget), 0);
    for (size_t i = 0; i < STEPS; i++) {
        step();
        if (chance(20)) compare();
    }
    compare();
    for (size_t i = 0; i < LOANS; i++)
        if (loans[i].token != NULL) velum_chunks_give_back(loans[i].token);
    velum_chunks_close(chunks);
    for (size_t i = 0; i < CONTENTS; i++)
        free(contents[i].bytes);
}

int main(int argc, char **argv) {
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    for (uint64_t round = 0; round < (argc > 1 ? 1 : ROUNDS); round++) {
        int failed_before = check_failed_count;
        state = (seed + round) * UINT64_C(0x9e3779b97f4a7c15) + 1;
        run();
        if (check_failed_count != failed_before)
            printf("seed %llu\n", (unsigned long long)(seed + round));
    }
    return check_report("chunks_model");
}
