/* test_kv_text.c: records as lines of a log, there and back, damaged, and refused.
 *
 * Random runs come from a seed, printed at the end: `test_kv_text SEED` replays them.
 */
#include "dice.h"
#include "check.h"
#include "crc32c.h"
#include "kv_text.h"

#include <stdlib.h>

#define LOG_RECORDS  1000u
#define ROUNDS       20000u
#define BYTES_MAX    64u /* of a random key, part or value, but for a few long ones */
#define LONG_MAX     600u
#define LINE_MAX     (4u * (3u * LONG_MAX) + 256u)
#define CHECKED_SIZE (1u + 8u + 1u) /* #CRC and a line feed */

static void *must(void *memory) {
    if (memory == NULL) abort();
    return memory;
}

static velum_kv_bytes bytes_of(const void *data, size_t size) {
    velum_kv_bytes bytes = {data, size};
    return bytes;
}

#define BYTES(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}
#define NO_BYTES       {NULL, 0}

static bool same_bytes(velum_kv_bytes a, velum_kv_bytes b) {
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static bool same(const velum_kv_record *a, const velum_kv_record *b) {
    return a->op == b->op && a->json == b->json && velum_kv_compare(a->stamp, b->stamp) == 0 &&
           velum_kv_compare(a->of, b->of) == 0 && a->fresh == b->fresh &&
           a->until_ms == b->until_ms && a->sum == b->sum && same_bytes(a->key, b->key) &&
           same_bytes(a->part, b->part) && same_bytes(a->value, b->value);
}

/* Reads from memory of just this size into just as much; what was read lies there until the next
 * call. The return value of velum_kv_text_get. */
static size_t get(const void *text, size_t n, velum_kv_line *what, velum_kv_record *record) {
    static uint8_t *memory;
    char *copy = must(malloc(n + 1));
    size_t size;
    free(memory);
    memory = must(malloc(n + 1));
    if (n > 0) memcpy(copy + 1, text, n); /* at an odd address */
    *what = 0;
    size = velum_kv_text_get(copy + 1, n, memory + 1, what, record);
    free(copy);
    return size;
}

/* What a whole line is; 0: it is not taken as one line. */
static velum_kv_line line_is(const void *text, size_t n, velum_kv_record *record) {
    velum_kv_line what;
    return get(text, n, &what, record) == n ? what : 0;
}

/* Puts a check and a line feed behind n bytes of a line; its size. */
static size_t add_check(char *line, size_t n) {
    return n + (size_t)sprintf(line + n, "#%08x\n", (unsigned)velum_crc32c(0, line, n));
}

/* What a line is once it has a check. */
static velum_kv_line checked_is(const void *text, size_t n, velum_kv_record *record) {
    char *line = must(malloc(n + CHECKED_SIZE + 1));
    velum_kv_line what;
    memcpy(line, text, n);
    what = line_is(line, add_check(line, n), record);
    free(line);
    return what;
}

static bool reads_as(const void *text, size_t n, const velum_kv_record *record) {
    velum_kv_record back;
    return checked_is(text, n, &back) == VELUM_KV_LINE_RECORD && same(&back, record);
}

/* ---- known lines ---- */

#define T0    UINT64_C(0x0199f3a1c2000000)
#define ZEROS {0, 0}

static const struct {
    const char *line;
    velum_kv_record record;
} known[] = {
    {"status=active\t@0199f3a1c2000000-7 set #1a8a2dc6\n",
     {VELUM_KV_SET, 0, 0, {T0, 7}, ZEROS, 0, 0, BYTES("status"), NO_BYTES, BYTES("active")}},
    {"a=\t@0000000000000001-1 set #bf5b3ca3\n",
     {VELUM_KV_SET, 0, 0, {1, 1}, ZEROS, 0, 0, BYTES("a"), NO_BYTES, NO_BYTES}},
    {"robot_A/position={\"x\": 1}\t@ffffffffffffffff-65535 set json #356f211f\n",
     {VELUM_KV_SET,
      1,
      0,
      {UINT64_MAX, UINT16_MAX},
      ZEROS,
      0,
      0,
      BYTES("robot_A/position"),
      NO_BYTES,
      BYTES("{\"x\": 1}")}},
    {"k=v\t@0123456789abcdef-300 set json until=1760000000000 #a939b362\n",
     {VELUM_KV_SET,
      1,
      0,
      {UINT64_C(0x0123456789abcdef), 300},
      ZEROS,
      UINT64_C(1760000000000),
      0,
      BYTES("k"),
      NO_BYTES,
      BYTES("v")}},
    {"k=v\t@0123456789abcdef-300 set until=18446744073709551615 #59f22702\n",
     {VELUM_KV_SET,
      0,
      0,
      {UINT64_C(0x0123456789abcdef), 300},
      ZEROS,
      UINT64_MAX,
      0,
      BYTES("k"),
      NO_BYTES,
      BYTES("v")}},
    {"a\\x3db=c=d\\\\ \\n\\r\\t\\x00\\x1f\\x7f\xc3\xa9\t@0199f3a1c2000000-7 set #de085659\n",
     {VELUM_KV_SET,
      0,
      0,
      {T0, 7},
      ZEROS,
      0,
      0,
      BYTES("a=b"),
      NO_BYTES,
      BYTES("c=d\\ \n\r\t\0\x1f\x7f\xc3\xa9")}},
    {"gone=\t@0199f3a1c2000001-10 del #3f824a6f\n",
     {VELUM_KV_DEL, 0, 0, {T0 + 1, 10}, ZEROS, 0, 0, BYTES("gone"), NO_BYTES, NO_BYTES}},
    {"k=\t@0199f3a1c2000001-10 expire #49aaedf2\n",
     {VELUM_KV_EXPIRE, 0, 0, {T0 + 1, 10}, ZEROS, 0, 0, BYTES("k"), NO_BYTES, NO_BYTES}},
    {"k=\t@0199f3a1c2000001-10 expire until=1 #df502fd5\n",
     {VELUM_KV_EXPIRE, 0, 0, {T0 + 1, 10}, ZEROS, 1, 0, BYTES("k"), NO_BYTES, NO_BYTES}},
    {"hits=0\t@0199f3a1c2000002-1 count since=0199f3a1c2000002-1 #0e92321c\n",
     {VELUM_KV_COUNT, 0, 1, {T0 + 2, 1}, {T0 + 2, 1}, 0, 0, BYTES("hits"), NO_BYTES, NO_BYTES}},
    {"hits=-9223372036854775808\t@0199f3a1c2000002-1 count base=0199f3a1c2000000-7 #3aba24ad\n",
     {VELUM_KV_COUNT, 0, 0, {T0 + 2, 1}, {T0, 7}, 0, INT64_MIN, BYTES("hits"), NO_BYTES, NO_BYTES}},
    {"hits=9223372036854775807\t@0199f3a1c2000002-1 count base=0000000000000000-1 #8ddac217\n",
     {VELUM_KV_COUNT, 0, 0, {T0 + 2, 1}, {0, 1}, 0, INT64_MAX, BYTES("hits"), NO_BYTES, NO_BYTES}},
    {"tags=red = #1\t@0199f3a1c2000003-2 add #2ec464f4\n",
     {VELUM_KV_ADD, 0, 0, {T0 + 3, 2}, ZEROS, 0, 0, BYTES("tags"), BYTES("red = #1"), NO_BYTES}},
    {"tags=\t@0199f3a1c2000003-2 add #2d32d513\n",
     {VELUM_KV_ADD, 0, 0, {T0 + 3, 2}, ZEROS, 0, 0, BYTES("tags"), NO_BYTES, NO_BYTES}},
    {"tags=red\t@0199f3a1c2000004-3 remove of=0199f3a1c2000003-2 #89d4e959\n",
     {VELUM_KV_REMOVE,
      0,
      0,
      {T0 + 4, 3},
      {T0 + 3, 2},
      0,
      0,
      BYTES("tags"),
      BYTES("red"),
      NO_BYTES}},
    {"h=v w\t@0199f3a1c2000005-4 field field=a\\x20b\\x3d#\\\\ #ec29f4e8\n",
     {VELUM_KV_FIELD, 0, 0, {T0 + 5, 4}, ZEROS, 0, 0, BYTES("h"), BYTES("a b=#\\"), BYTES("v w")}},
    {"h=\t@0199f3a1c2000005-4 field field= #ed9a5339\n",
     {VELUM_KV_FIELD, 0, 0, {T0 + 5, 4}, ZEROS, 0, 0, BYTES("h"), NO_BYTES, NO_BYTES}},
    {"h=\t@0199f3a1c2000006-4 unfield field=name #95c1f1a1\n",
     {VELUM_KV_UNFIELD, 0, 0, {T0 + 6, 4}, ZEROS, 0, 0, BYTES("h"), BYTES("name"), NO_BYTES}},
};

static void test_known_lines(void) {
    char line[256];
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        size_t size = strlen(known[i].line);
        velum_kv_record back;
        CHECK_EQ(velum_kv_text_put(&known[i].record, line, sizeof line), size);
        CHECK(memcmp(line, known[i].line, size) == 0);
        CHECK_EQ(line_is(known[i].line, size, &back), VELUM_KV_LINE_RECORD);
        CHECK(same(&back, &known[i].record));
    }
}

/* ---- escapes ---- */

typedef enum { IN_KEY, IN_VALUE, IN_PART } place;

/* How docs/kv.md has one byte; its size. */
static size_t escape(uint8_t byte, place where, char out[5]) {
    static const char letters[] = "\\\\\nn\rr\tt";
    for (const char *p = letters; *p != 0; p += 2)
        if (byte == (uint8_t)*p) return (size_t)sprintf(out, "\\%c", p[1]);
    if (byte < 32 || byte == 127 || (byte == '=' && where != IN_VALUE) ||
        (byte == ' ' && where == IN_PART))
        return (size_t)sprintf(out, "\\x%02x", byte);
    out[0] = (char)byte;
    return 1;
}

/* A FIELD line without a check, of which one place has this text between letters; its size. */
static size_t field_line(char *line, place where, const char *text, size_t n, size_t before,
                         size_t after) {
    static const char *const parts[] = {"", "=", "\t@0199f3a1c2000000-7 field field=", " "};
    char *p = line;
    for (unsigned i = 0; i < 4; i++) {
        p += sprintf(p, "%s", parts[i]);
        if (i > IN_PART) continue;
        memset(p, 'a', before + after + n);
        if (i == (unsigned)where) memcpy(p + before, text, n);
        p += before + after + (i == (unsigned)where ? n : 1);
    }
    return (size_t)(p - line);
}

/* One byte at each place of a text that is a few words long, as it is to be; and in every other way
 * that it could be written. */
static void one_byte(uint8_t byte, place where, size_t before, size_t after) {
    char line[512], written[512], text[5], way[8];
    uint8_t raw[64];
    velum_kv_record record = known[0].record, back;
    velum_kv_bytes letters = bytes_of(raw + 64 - (before + after + 1), before + after + 1);
    uint8_t *with = raw;
    size_t n = escape(byte, where, text), size, others = 0;
    memset(raw, 'a', sizeof raw);
    with[before] = byte;
    record.op = VELUM_KV_FIELD;
    record.key = record.part = record.value = letters;
    if (where == IN_KEY) record.key.data = with;
    if (where == IN_PART) record.part.data = with;
    if (where == IN_VALUE) record.value.data = with;
    size = add_check(line, field_line(line, where, text, n, before, after));
    CHECK_EQ(velum_kv_text_put(&record, written, sizeof written), size);
    CHECK(memcmp(line, written, size) == 0);
    CHECK_EQ(line_is(line, size, &back), VELUM_KV_LINE_RECORD);
    CHECK(same(&back, &record));
    if (n > 1) { /* as it is */
        size = field_line(line, where, (char *)&byte, 1, before, after);
        others += reads_as(line, size, &record);
    }
    for (int upper = 0; upper < 2; upper++) { /* in digits */
        size_t digits = (size_t)sprintf(way, upper ? "\\x%02X" : "\\x%02x", byte);
        if (digits == n && memcmp(way, text, n) == 0) continue;
        size = field_line(line, where, way, digits, before, after);
        others += reads_as(line, size, &record);
    }
    if (n != 2 && strchr("\\nrt", byte) == NULL) { /* behind a backslash */
        size = field_line(line, where, way, (size_t)sprintf(way, "\\%c", byte), before, after);
        others += reads_as(line, size, &record);
    }
    CHECK_EQ(others, 0);
}

static void test_escapes(void) {
    for (unsigned byte = 0; byte < 256; byte++)
        for (place where = IN_KEY; where <= IN_PART; where++)
            for (size_t before = 0; before < 18; before++)
                one_byte((uint8_t)byte, where, before, below(18));
}

/* ---- random records ---- */

static velum_kv_bytes random_bytes(uint8_t *memory, size_t least) {
    size_t max = chance(20) ? LONG_MAX : BYTES_MAX, odd = chance(3) ? 2 : chance(2) ? 10 : SIZE_MAX;
    size_t size = least + below(max - least);
    for (size_t i = 0; i < size; i++) {
        memory[i] = (uint8_t)('a' + below(26));
        if (odd != SIZE_MAX && chance(odd)) memory[i] = (uint8_t)below(256);
        if (odd != SIZE_MAX && chance(odd)) memory[i] = (uint8_t)"\\\n\r\t= @#*J"[below(10)];
    }
    return bytes_of(size > 0 ? memory : NULL, size);
}

/* Numbers of all lengths. */
static uint64_t random_number(void) {
    uint64_t number = (uint64_t)below(SIZE_MAX) << 32 ^ below(SIZE_MAX) << 16 ^ below(SIZE_MAX);
    return number >> below(64);
}

static velum_kv_stamp random_stamp(void) {
    velum_kv_stamp stamp = {random_number(), (uint16_t)(1 + (random_number() & 0xffffu) % 65535u)};
    return stamp;
}

/* Its bytes lie here until the next one. */
static velum_kv_record random_record(void) {
    static uint8_t key[LONG_MAX], part[LONG_MAX], value[LONG_MAX];
    velum_kv_record r;
    memset(&r, 0, sizeof r);
    r.op = (velum_kv_op)(VELUM_KV_SET + below(8));
    r.stamp = random_stamp();
    r.key = random_bytes(key, 1);
    if (r.op == VELUM_KV_SET) r.json = chance(3);
    if ((r.op == VELUM_KV_SET || r.op == VELUM_KV_EXPIRE) && chance(2))
        r.until_ms = random_number();
    if (r.op == VELUM_KV_SET || r.op == VELUM_KV_FIELD) r.value = random_bytes(value, 0);
    if (r.op >= VELUM_KV_ADD) r.part = random_bytes(part, 0);
    if (r.op == VELUM_KV_COUNT) r.fresh = chance(2);
    if (r.op == VELUM_KV_REMOVE || r.op == VELUM_KV_COUNT) r.of = random_stamp();
    if (r.fresh) r.of = (velum_kv_stamp){r.stamp.time >> below(64), r.stamp.node};
    if (r.op == VELUM_KV_COUNT)
        r.sum = chance(2) ? (int64_t)(random_number() >> 1) : -1 - (int64_t)(random_number() >> 1);
    return r;
}

/* Into just the room that it needs, and into one byte less. */
static void test_there_and_back(void) {
    static char line[LINE_MAX];
    for (unsigned round = 0; round < ROUNDS; round++) {
        velum_kv_record record = random_record(), back;
        int size = velum_kv_text_put(&record, line, sizeof line);
        char *exact;
        CHECK(size > 0 && (size_t)size <= velum_kv_text_room(&record));
        CHECK_EQ(line_is(line, (size_t)size, &back), VELUM_KV_LINE_RECORD);
        CHECK(same(&back, &record));
        exact = must(malloc((size_t)size));
        CHECK_EQ(velum_kv_text_put(&record, exact, (size_t)size), size);
        CHECK(memcmp(exact, line, (size_t)size) == 0);
        memset(exact, 'X', (size_t)size);
        CHECK_EQ(velum_kv_text_put(&record, exact, (size_t)size - 1), VELUM_E_TOO_LARGE);
        CHECK(exact[0] == 'X');
        CHECK_EQ(velum_kv_text_put(&record, exact, 0), VELUM_E_TOO_LARGE);
        free(exact);
    }
}

static void test_prefixes(void) {
    static char line[LINE_MAX + 16];
    for (unsigned round = 0; round < 300; round++) {
        velum_kv_record record = random_record(), back;
        velum_kv_line what;
        size_t size = (size_t)velum_kv_text_put(&record, line, LINE_MAX);
        for (size_t n = 0; n < size; n++)
            CHECK_EQ(get(line, n, &what, &back), 0);
        memcpy(line + size, "next=1\n", 7); /* it takes its own line alone */
        CHECK_EQ(get(line, size + 7, &what, &back), size);
        CHECK(what == VELUM_KV_LINE_RECORD && same(&back, &record));
        CHECK_EQ(get(line, size + 3, &what, &back), size);
    }
}

/* ---- only what is written is read ---- */

/* What is read as a record is written so, byte for byte. */
static bool canonical(const char *line, size_t size) {
    static char again[4 * LINE_MAX];
    velum_kv_record record;
    if (line_is(line, size, &record) != VELUM_KV_LINE_RECORD) return false;
    CHECK_EQ(velum_kv_text_put(&record, again, sizeof again), size);
    CHECK(memcmp(line, again, size) == 0);
    return true;
}

/* One change at a random place of n bytes; how many there are then. */
static size_t change(char *line, size_t n) {
    static const char letters[] = "\\x0123456789abcdefABFnrt=\t @-+#";
    size_t at = below(n), from = below(n), some = 1 + below(8);
    switch (below(4)) {
    case 0:
        line[at] = letters[below(sizeof letters - 1)];
        return n;
    case 1:
        line[at] = (char)below(256);
        return n;
    case 2:
        memmove(line + at, line + at + 1, n - at - 1);
        return n - 1;
    default: /* a piece doubled at another place */
        if (some > n - from) some = n - from;
        memmove(line + n, line + from, some);
        for (size_t i = 0; i < some; i++) {
            char c = line[n + i];
            memmove(line + at + i + 1, line + at + i, n - at);
            line[at + i] = c;
        }
        return n + some;
    }
}

static void test_changed_lines(void) {
    static char line[LINE_MAX + 64];
    size_t records = 0;
    for (unsigned round = 0; round < 4 * ROUNDS; round++) {
        velum_kv_record record = random_record();
        size_t n = (size_t)velum_kv_text_put(&record, line, LINE_MAX) - CHECKED_SIZE;
        for (size_t i = 1 + below(2); i > 0; i--)
            n = change(line, n);
        records += canonical(line, add_check(line, n));
    }
    CHECK(records > ROUNDS / 10 && records < 4 * ROUNDS);
}

#define AT    "\t@0199f3a1c2000000-7 "
#define SINCE "since=0199f3a1c2000000-7 "
/* What a right check does not make a record. */
static const char *const refused[] = {
    "",
    " ",
    "k",
    "k=v ",
    "k=v\t",
    "k=v\t ",
    "k=v\t@",
    "=v" AT "set ",
    "k" AT "set ",
    "k=v" AT "set",
    "k=v" AT " set ",
    "k=v" AT "set  ",
    "k=v" AT "set\t",
    "k=v\t" AT "set ",
    "k=v" AT "",
    "k=v" AT " ",
    "k=v" AT "SET ",
    "k=v" AT "sets ",
    "k=v" AT "se ",
    "k=v" AT "json ",
    "k=v" AT "get ",
    "k=v" AT "del ",
    "k=v" AT "expire ",
    "k=v" AT "unfield ",
    "k=v" AT "unfield field=f ",
    "k=v" AT "set json json ",
    "k=v" AT "set until=1 json ",
    "k=v" AT "set until=1 until=1 ",
    "k=v" AT "set until=0 ",
    "k=v" AT "set until=01 ",
    "k=v" AT "set until= ",
    "k=v" AT "set until=-1 ",
    "k=v" AT "set until=+1 ",
    "k=v" AT "set until=1x ",
    "k=v" AT "set until=18446744073709551616 ",
    "k=v" AT "set until=28446744073709551615 ",
    "k=v" AT "set until=100000000000000000000 ",
    "k=v" AT "set base=0000000000000001-1 ",
    "k=v" AT "set of=0000000000000001-1 ",
    "k=v" AT "set field=f ",
    "k=" AT "del json ",
    "k=" AT "del until=1 ",
    "k=" AT "expire json ",
    "k=" AT "count " SINCE,
    "k=+1" AT "count " SINCE,
    "k=-0" AT "count " SINCE,
    "k=01" AT "count " SINCE,
    "k=-01" AT "count " SINCE,
    "k=-" AT "count " SINCE,
    "k=1 " AT "count " SINCE,
    "k=0x1" AT "count " SINCE,
    "k=\\x31" AT "count " SINCE,
    "k=9223372036854775808" AT "count " SINCE,
    "k=-9223372036854775809" AT "count " SINCE,
    "k=99999999999999999999" AT "count " SINCE,
    "k=1" AT "count ",
    "k=1" AT "count since= ",
    "k=1" AT "count since=0000000000000001-8 ",
    "k=1" AT "count since=0199f3a1c2000001-7 ",
    "k=1" AT "count base=0000000000000001-1 since=0000000000000001-7 ",
    "k=1" AT "count since=0000000000000001-7 base=0000000000000001-1 ",
    "k=1" AT "remove since=0000000000000001-7 ",
    "k=1" AT "count base= ",
    "k=1" AT "count base=0000000000000000-0 ",
    "k=1" AT "count base=0000000000000001-0 ",
    "k=1" AT "count of=0000000000000001-1 ",
    "k=v" AT "add of=0000000000000001-1 ",
    "k=v" AT "remove ",
    "k=v" AT "remove base=0000000000000001-1 ",
    "k=v" AT "remove of=0000000000000000-0 ",
    "k=v" AT "field ",
    "k=v" AT "field json field=f ",
    "k=v" AT "field field=f g ",
    "k=v" AT "field field=f=g ",
    "k=v" AT "field field=f\\",
    "k=v" AT "field field=f",
    "k=v\t@0199f3a1c200000-7 set ",
    "k=v\t@00199f3a1c2000000-7 set ",
    "k=v\t@0199F3a1c2000000-7 set ",
    "k=v\t@0199g3a1c2000000-7 set ",
    "k=v\t@0199f3a1c2000000-07 set ",
    "k=v\t@0199f3a1c2000000-0 set ",
    "k=v\t@0199f3a1c2000000- set ",
    "k=v\t@0199f3a1c2000000-65536 set ",
    "k=v\t@0199f3a1c2000000-65543 set ",
    "k=v\t@0199f3a1c2000000-4294967303 set ",
    "k=v\t@0199f3a1c2000000--7 set ",
    "k=v\t@0199f3a1c2000000 7 set ",
    "k=v\t0199f3a1c2000000-7 set ",
    "k=v\t @0199f3a1c2000000-7 set ",
    "k=v\\" AT "set ",
    "k=v\\x" AT "set ",
    "k=v\\x0" AT "set ",
    "k=v\\x0g" AT "set ",
    "k=v\\q" AT "set ",
    "k\\=v" AT "set ",
    "k=\\x3d" AT "set ",
    "k=\\x20" AT "set ",
    "k\\x20=v" AT "set "};

static void test_refused_lines(void) {
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        velum_kv_record record;
        velum_kv_line is = checked_is(refused[i], strlen(refused[i]), &record);
        if (is != VELUM_KV_LINE_DAMAGED) printf("line: %s\n", refused[i]);
        CHECK_EQ(is, VELUM_KV_LINE_DAMAGED);
    }
}

/* The check itself: its letters, its place, and what it is of. */
static void test_refused_checks(void) {
    static const char good[] = "status=active" AT "set #1a8a2dc6\n";
    static const char *const lines[] = {"status=active" AT "set #1A8A2DC6\n",
                                        "status=active" AT "set #1a8a2dc7\n",
                                        "status=active" AT "set #1a8a2dc6 \n",
                                        "status=active" AT "set #1a8a2dc6\r\n",
                                        "status=active" AT "set  1a8a2dc6\n",
                                        "status=active" AT "set #1a8a2dc\n",
                                        "status=active" AT "set #01a8a2dc6\n",
                                        "status=activf" AT "set #1a8a2dc6\n",
                                        "status=active" AT "set#1a8a2dc6\n",
                                        "status=active" AT "set 1a8a2dc6\n",
                                        " status=active" AT "set #1a8a2dc6\n",
                                        "status=active" AT "set \n",
                                        "#00000000\n",
                                        " #00000000\n",
                                        "\t@0199f3a1c2000000-7 set #1a8a2dc6\n"};
    velum_kv_record record;
    CHECK_EQ(line_is(good, sizeof good - 1, &record), VELUM_KV_LINE_RECORD);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        CHECK_EQ(line_is(lines[i], strlen(lines[i]), &record), VELUM_KV_LINE_DAMAGED);
}

/* ---- flipped bits ---- */

/* Reads lines as a log does, from `text`, up to where a line begins that was not changed: at one of
 * `starts`, of which there are two. Whether that was found, damage was reported, and nothing was
 * read that was not written. */
static bool damage_is_seen(const char *text, size_t n, const size_t starts[2]) {
    static uint8_t memory[2 * LINE_MAX];
    size_t at = 0, damaged = 0;
    bool plain = false;
    while (at != starts[0] && at != starts[1]) {
        velum_kv_record record;
        velum_kv_line what;
        size_t size = velum_kv_text_get(text + at, n - at, memory, &what, &record);
        if (size == 0) return !plain; /* a torn tail */
        if (what == VELUM_KV_LINE_RECORD) return false;
        if (plain && what != VELUM_KV_LINE_DAMAGED) return false;
        plain = what == VELUM_KV_LINE_PLAIN;
        damaged += what == VELUM_KV_LINE_DAMAGED;
        at += size;
    }
    return damaged > 0 && !plain;
}

static void test_flipped_bits(void) {
    size_t *starts = must(calloc(LOG_RECORDS + 2, sizeof *starts)), seen = 0, bits = 0;
    char *text = must(malloc(LOG_RECORDS * LINE_MAX));
    for (size_t i = 0; i < LOG_RECORDS; i++) {
        velum_kv_record record = random_record();
        starts[i + 1] = starts[i] + (size_t)velum_kv_text_put(&record, text + starts[i], LINE_MAX);
    }
    starts[LOG_RECORDS + 1] = SIZE_MAX; /* none */
    for (size_t i = 0; i < LOG_RECORDS; i++) {
        const char *line = text + starts[i];
        size_t after = i + 2 <= LOG_RECORDS ? starts[i + 2] : starts[i + 1];
        size_t next[2] = {starts[i + 1] - starts[i], starts[i + 2] - starts[i]};
        for (size_t bit = 8 * starts[i]; bit < 8 * starts[i + 1]; bit++, bits++) {
            bool ok;
            text[bit / 8] = (char)(text[bit / 8] ^ 1 << bit % 8);
            ok = damage_is_seen(line, after - starts[i], next);
            if (!ok) printf("bit %zu of line %zu is not seen\n", bit - 8 * starts[i], i);
            seen += ok;
            text[bit / 8] = (char)(text[bit / 8] ^ 1 << bit % 8);
        }
    }
    CHECK(bits > 8 * 50 * LOG_RECORDS);
    CHECK_EQ(seen, bits);
    free(starts);
    free(text);
}

/* ---- plain lines ---- */

static void plain_is(const char *line, size_t size, const char *key, const char *value) {
    velum_kv_record record, expected;
    memset(&expected, 0, sizeof expected);
    expected.op = VELUM_KV_SET;
    expected.key = bytes_of(key, strlen(key));
    expected.value = bytes_of(value, strlen(value));
    CHECK_EQ(line_is(line, size, &record), VELUM_KV_LINE_PLAIN);
    CHECK(same(&record, &expected));
}

static void test_plain_lines(void) {
    static const char *const bad[] = {"\n",
                                      "\r\n",
                                      "=\n",
                                      "=v\n",
                                      "key\n",
                                      "# note\n",
                                      "k=v\x01\n",
                                      "k\x1f=v\n",
                                      "k=v\x7f\n",
                                      "k=\r \n",
                                      "k=v\r\r\n",
                                      "k=v #0123abcd\n",
                                      "status=active)@0199f3a1c2000000-7 set #1a8a2dc6\n"};
    velum_kv_record record;
    plain_is("status=active\n", 14, "status", "active");
    plain_is("status=active\r\n", 15, "status", "active");
    plain_is("k=\n", 3, "k", "");
    plain_is("k=a=b\n", 6, "k", "a=b");
    plain_is("a b= c \n", 8, "a b", " c ");
    plain_is("path=C:\\new\\x3d\n", 16, "path", "C:\\new\\x3d");
    plain_is("\xc3\xa9=\xff\n", 5, "\xc3\xa9", "\xff");
    plain_is("k=v #0123abcdx\n", 15, "k", "v #0123abcdx");
    plain_is("k=v#0123abcd\n", 13, "k", "v#0123abcd");
    plain_is("k=v #0123ABCD\n", 14, "k", "v #0123ABCD");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_EQ(line_is(bad[i], strlen(bad[i]), &record), VELUM_KV_LINE_DAMAGED);
    CHECK_EQ(line_is("k=\0\n", 4, &record), VELUM_KV_LINE_DAMAGED);
}

/* ---- limits ---- */

static void test_largest(void) {
    static const velum_kv_op all[] = {VELUM_KV_SET, VELUM_KV_ADD, VELUM_KV_FIELD};
    uint8_t *ones = must(malloc(VELUM_KV_VALUE_BYTES_MAX + 1));
    char *line = must(malloc(VELUM_KV_LINE_BYTES_MAX));
    memset(ones, 1, VELUM_KV_VALUE_BYTES_MAX + 1);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        velum_kv_record record = known[0].record, back;
        int size;
        record.op = all[i];
        record.key = bytes_of(ones, VELUM_KV_KEY_BYTES_MAX);
        record.part = bytes_of(ones, all[i] == VELUM_KV_SET ? 0 : VELUM_KV_PART_BYTES_MAX);
        record.value = bytes_of(ones, all[i] == VELUM_KV_ADD ? 0 : VELUM_KV_VALUE_BYTES_MAX);
        CHECK(velum_kv_text_room(&record) <= VELUM_KV_LINE_BYTES_MAX);
        size = velum_kv_text_put(&record, line, velum_kv_text_room(&record));
        CHECK(size > 0 &&
              (size_t)size > 4 * (record.key.size + record.part.size + record.value.size));
        CHECK_EQ(line_is(line, (size_t)size, &back), VELUM_KV_LINE_RECORD);
        CHECK(same(&back, &record));
    }
    free(ones);
    free(line);
}

/* A size times four must not wrap around to a small room. */
static void test_room(void) {
    size_t huge = SIZE_MAX / 4 + 1;
    velum_kv_record record = known[0].record;
    CHECK(velum_kv_text_room(&record) >= strlen(known[0].line));
    CHECK(velum_kv_text_room(&record) < 160);
    for (unsigned i = 0; i < 3; i++) {
        record = known[0].record;
        *(i == 0 ? &record.key.size : i == 1 ? &record.part.size : &record.value.size) = huge;
        CHECK_EQ(velum_kv_text_room(&record), VELUM_KV_LINE_BYTES_MAX);
    }
}

#define REFUSED_WITH(index, change)                                                                \
    do {                                                                                           \
        velum_kv_record r = known[index].record;                                                   \
        CHECK(velum_kv_text_put(&r, line, sizeof line) > 0);                                       \
        change;                                                                                    \
        CHECK_EQ(velum_kv_text_put(&r, line, sizeof line), VELUM_E_ARGUMENT);                      \
    } while (0)
#define A_SET    0
#define A_DEL    6
#define AN_ENDED 8
#define FRESH    9
#define A_COUNT  10
#define AN_ADD   12
#define A_REMOVE 14
#define A_FIELD  15
#define UNFIELD  17

static void test_refused_records(void) {
    static uint8_t letters[VELUM_KV_VALUE_BYTES_MAX + 1];
    char line[256];
    velum_kv_bytes one = bytes_of("x", 1), none = {NULL, 0};
    memset(letters, 'a', sizeof letters);
    REFUSED_WITH(A_SET, r.op = (velum_kv_op)0);
    REFUSED_WITH(A_SET, r.op = (velum_kv_op)(VELUM_KV_UNFIELD + 1));
    REFUSED_WITH(A_SET, r.key = none);
    REFUSED_WITH(A_SET, r.key = bytes_of(NULL, 1));
    REFUSED_WITH(A_SET, r.key = bytes_of(letters, VELUM_KV_KEY_BYTES_MAX + 1));
    REFUSED_WITH(A_SET, r.value = bytes_of(letters, VELUM_KV_VALUE_BYTES_MAX + 1));
    REFUSED_WITH(A_SET, r.value = bytes_of(NULL, 1));
    REFUSED_WITH(A_FIELD, r.value = bytes_of(letters, VELUM_KV_VALUE_BYTES_MAX + 1));
    REFUSED_WITH(A_FIELD, r.part = bytes_of(letters, VELUM_KV_PART_BYTES_MAX + 1));
    REFUSED_WITH(AN_ADD, r.part = bytes_of(letters, VELUM_KV_PART_BYTES_MAX + 1));
    REFUSED_WITH(AN_ADD, r.part = bytes_of(NULL, 1));
    REFUSED_WITH(A_REMOVE, r.part = bytes_of(letters, VELUM_KV_PART_BYTES_MAX + 1));
    REFUSED_WITH(UNFIELD, r.part = bytes_of(letters, VELUM_KV_PART_BYTES_MAX + 1));
    REFUSED_WITH(A_REMOVE, r.of.node = 0);
    REFUSED_WITH(A_REMOVE, (r.of.node = 0, r.of.time = 0));
    REFUSED_WITH(A_COUNT, r.of.node = 0);
    REFUSED_WITH(A_COUNT, (r.of.node = 0, r.of.time = 0));
    REFUSED_WITH(A_COUNT, r.fresh = true); /* since another node's stamp */
    REFUSED_WITH(FRESH, r.of.time = r.stamp.time + 1);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        velum_kv_op op = known[i].record.op;
        bool ends = op == VELUM_KV_SET || op == VELUM_KV_EXPIRE;
        REFUSED_WITH(i, r.stamp.node = 0);
        if (op != VELUM_KV_SET) REFUSED_WITH(i, r.json = true);
        if (!ends) REFUSED_WITH(i, r.until_ms = 1);
        if (op != VELUM_KV_COUNT) REFUSED_WITH(i, r.sum = -1);
        if (op != VELUM_KV_COUNT) REFUSED_WITH(i, r.fresh = true);
        if (op != VELUM_KV_COUNT && op != VELUM_KV_REMOVE) {
            REFUSED_WITH(i, r.of.time = 1);
            REFUSED_WITH(i, r.of.node = 1);
        }
        if (op < VELUM_KV_ADD) REFUSED_WITH(i, r.part = one);
        if (op != VELUM_KV_SET && op != VELUM_KV_FIELD) REFUSED_WITH(i, r.value = one);
    }
}

/* Lines with a right check, whose texts are one byte too long; and with the longest ones. */
static void test_limits_of_lines(void) {
    char *line = must(malloc(VELUM_KV_VALUE_BYTES_MAX + 4096));
    for (unsigned over = 0; over < 2; over++) {
        int is = over ? VELUM_KV_LINE_DAMAGED : VELUM_KV_LINE_RECORD;
        int is_plain = over ? VELUM_KV_LINE_DAMAGED : VELUM_KV_LINE_PLAIN;
        size_t key = VELUM_KV_KEY_BYTES_MAX + over, part = VELUM_KV_PART_BYTES_MAX + over;
        size_t value = VELUM_KV_VALUE_BYTES_MAX + over;
        velum_kv_record record;
        memset(line, 'a', VELUM_KV_VALUE_BYTES_MAX + 4096);
        line[key] = '=';
        CHECK_EQ(checked_is(line, key + 1 + (size_t)sprintf(line + key + 1, AT "set "), &record),
                 is);
        line[key + 1] = '\n';
        CHECK_EQ(line_is(line, key + 2, &record), is_plain);
        memcpy(line, "a=", 2);
        memset(line + 2, 'a', value);
        CHECK_EQ(
            checked_is(line, 2 + value + (size_t)sprintf(line + 2 + value, AT "set "), &record),
            is);
        line[2 + value] = '\n';
        CHECK_EQ(line_is(line, 3 + value, &record), is_plain);
        memset(line + 2, 'a', value);
        CHECK_EQ(checked_is(line, 2 + part + (size_t)sprintf(line + 2 + part, AT "add "), &record),
                 is);
    }
    free(line);
}

static void test_too_long_lines(void) {
    size_t n = VELUM_KV_LINE_BYTES_MAX + 100;
    char *text = must(malloc(n));
    velum_kv_record record;
    velum_kv_line what;
    memset(text, 'a', n);
    text[1] = '=';
    CHECK_EQ(get(text, VELUM_KV_LINE_BYTES_MAX, &what, &record), 0);
    CHECK_EQ(get(text, VELUM_KV_LINE_BYTES_MAX + 1, &what, &record), VELUM_KV_LINE_BYTES_MAX + 1);
    CHECK_EQ(what, VELUM_KV_LINE_DAMAGED);
    CHECK_EQ(line_is(text, n, &record), VELUM_KV_LINE_DAMAGED);
    text[VELUM_KV_LINE_BYTES_MAX] = '\n';
    CHECK_EQ(get(text, n, &what, &record), VELUM_KV_LINE_BYTES_MAX + 1);
    CHECK_EQ(what, VELUM_KV_LINE_DAMAGED);
    free(text);
}

int main(int argc, char **argv) {
    unsigned long long seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    test_known_lines();
    test_escapes();
    test_there_and_back();
    test_prefixes();
    test_changed_lines();
    test_refused_lines();
    test_refused_checks();
    test_flipped_bits();
    test_plain_lines();
    test_largest();
    test_room();
    test_refused_records();
    test_limits_of_lines();
    test_too_long_lines();
    printf("seed %llu\n", seed);
    return check_report("kv_text");
}
