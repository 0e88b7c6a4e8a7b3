/* kv_text.c: records as lines of text, as they lie in a log.
 *
 * Owns: the layout of docs/kv.md, section 3, and which records may be written. Refuses to know:
 * files, and what records mean.
 * How: one table says which bytes are escaped where; an escaped text also ends at the first such
 * byte that is no backslash. So writing and reading share one loop, which copies eight bytes at a
 * time while none of them is in the table. Reading accepts nothing that writing would not have
 * written: numbers without zeros before them, lower-case digits, no needless escape.
 */
#include "kv_text.h"

#include "crc32c.h"
#include "wire_bytes.h"

/* A line without its key, part and value; that of a COUNT is the longest, with 91. */
#define REST_BYTES_MAX    96u
#define ESCAPED_BYTES_MAX 4u  /* of one byte: \xHH */
#define DECIMAL_BYTES_MAX 20u /* of 64 bits, with a sign */
#define TIME_DIGITS       16u
#define CRC_DIGITS        8u
#define CHECK_BYTES       (1u + CRC_DIGITS) /* #CRC */
#define WORD_BYTES        8u

VELUM__STATIC_CHECK(lines_fit,
                    ESCAPED_BYTES_MAX *(VELUM_KV_KEY_BYTES_MAX + VELUM_KV_PART_BYTES_MAX +
                                        VELUM_KV_VALUE_BYTES_MAX) +
                            REST_BYTES_MAX <=
                        VELUM_KV_LINE_BYTES_MAX);

/* What a record may have beside its key and stamp. */
enum { JSON = 1, UNTIL = 2, SUM = 4, OF = 8, PART = 16, VALUE = 32 };

static const struct {
    char word[9]; /* and a space */
    uint8_t size;
    uint8_t has;
} ops[] = {
    [VELUM_KV_SET] = {"set ", 4, JSON | UNTIL | VALUE},
    [VELUM_KV_DEL] = {"del ", 4, 0},
    [VELUM_KV_EXPIRE] = {"expire ", 7, UNTIL},
    [VELUM_KV_COUNT] = {"count ", 6, SUM | OF},
    [VELUM_KV_ADD] = {"add ", 4, PART},
    [VELUM_KV_REMOVE] = {"remove ", 7, OF | PART},
    [VELUM_KV_FIELD] = {"field ", 6, PART | VALUE},
    [VELUM_KV_UNFIELD] = {"unfield ", 8, PART},
};

static bool bytes_ok(velum_kv_bytes bytes, size_t max) {
    return bytes.size <= max && (bytes.data != NULL || bytes.size == 0);
}

/* Whether this is a record that may be written: what it may not have is zero. */
static bool record_ok(const velum_kv_record *r) {
    unsigned has;
    if (r->op < VELUM_KV_SET || r->op > VELUM_KV_UNFIELD) return false;
    has = ops[r->op].has;
    if (r->key.size == 0 || !bytes_ok(r->key, VELUM_KV_KEY_BYTES_MAX)) return false;
    if (!bytes_ok(r->part, has & PART ? VELUM_KV_PART_BYTES_MAX : 0)) return false;
    if (!bytes_ok(r->value, has & VALUE ? VELUM_KV_VALUE_BYTES_MAX : 0)) return false;
    if (r->op == VELUM_KV_COUNT ? !velum_kv_counts_from(r) : r->fresh) return false;
    if (r->of.node != 0 ? !(has & OF) : r->of.time != 0 || has & OF) return false;
    return r->stamp.node != 0 && (!r->json || has & JSON) && (r->until_ms == 0 || has & UNTIL) &&
           (r->sum == 0 || has & SUM);
}

/* ---- bytes that are escaped ---- */

/* A byte's class: where it may not stand as it is. */
enum { IN_VALUE = 1, IN_KEY = 2, IN_PART = 4, ANY = IN_VALUE | IN_KEY | IN_PART };

static const uint8_t escaped[256] = {
    ANY,
    ANY,
    ANY,
    ANY,
    ANY,
    ANY,
    ANY,
    ANY,
    ANY,
    ANY,
    ANY,
    ANY,
    ANY,
    ANY,
    ANY,
    ANY,
    ANY,
    ANY,
    ANY,
    ANY,
    ANY,
    ANY,
    ANY,
    ANY,
    ANY,
    ANY,
    ANY,
    ANY,
    ANY,
    ANY,
    ANY,
    ANY,
    [' '] = IN_PART,
    ['='] = IN_KEY | IN_PART,
    ['\\'] = ANY,
    [127] = ANY,
};

#define ONES  UINT64_C(0x0101010101010101)
#define HIGHS UINT64_C(0x8080808080808080)

/* Has a high bit set if, not only if: in a byte above another one that is zero. */
static inline uint64_t zero_byte(uint64_t word) {
    return (word - ONES) & ~word;
}

/* Whether no byte of the word is escaped there. */
static inline bool as_it_is(uint64_t word, unsigned where) {
    uint64_t hit = (word - ONES * 32u) & ~word; /* less than 32 */
    hit |= zero_byte(word ^ ONES * 127u) | zero_byte(word ^ ONES * '\\');
    if (where != IN_VALUE) hit |= zero_byte(word ^ ONES * '=');
    if (where == IN_PART) hit |= zero_byte(word ^ ONES * ' ');
    return (hit & HIGHS) == 0;
}

/* Copies up to the first byte that is escaped there; *from is then at it, or at the end. Returns
 * the place behind the copy. */
static inline uint8_t *copy_run(uint8_t *to, const uint8_t **from, const uint8_t *end,
                                unsigned where) {
    const uint8_t *p = *from;
    for (; (size_t)(end - p) >= WORD_BYTES; p += WORD_BYTES, to += WORD_BYTES) {
        uint64_t word;
        memcpy(&word, p, WORD_BYTES);
        if (!as_it_is(word, where)) break;
        memcpy(to, &word, WORD_BYTES);
    }
    while (p < end && !(escaped[*p] & where))
        *to++ = *p++;
    *from = p;
    return to;
}

/* The letter behind the backslash, or 'x'. */
static inline uint8_t letter_of(uint8_t byte) {
    switch (byte) {
    case '\\':
        return '\\';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    default:
        return 'x';
    }
}

/* ---- writing ---- */

static const char hex_digits[] = "0123456789abcdef";

static inline uint8_t *put_hex(uint8_t *to, uint64_t value, unsigned digits) {
    for (unsigned i = digits; i > 0; i--, value >>= 4)
        to[i - 1] = (uint8_t)hex_digits[value & 15u];
    return to + digits;
}

static uint8_t *put_decimal(uint8_t *to, uint64_t value) {
    uint8_t digits[DECIMAL_BYTES_MAX], *first = digits + sizeof digits;
    do
        *--first = (uint8_t)('0' + value % 10);
    while ((value /= 10) > 0);
    return velum__put_bytes(to, first, (size_t)(digits + sizeof digits - first));
}

static inline uint8_t *put_text(uint8_t *to, const char *text) {
    return velum__put_bytes(to, text, strlen(text));
}

static uint8_t *put_stamp(uint8_t *to, velum_kv_stamp stamp) {
    to = put_hex(to, stamp.time, TIME_DIGITS);
    *to++ = '-';
    return put_decimal(to, stamp.node);
}

static inline uint8_t *put_escaped(uint8_t *to, velum_kv_bytes bytes, unsigned where) {
    const uint8_t *p = bytes.data, *end;
    if (bytes.size == 0) return to;
    for (end = p + bytes.size; to = copy_run(to, &p, end, where), p < end; p++) {
        uint8_t letter = letter_of(*p);
        *to++ = '\\';
        *to++ = letter;
        if (letter == 'x') to = put_hex(to, *p, 2);
    }
    return to;
}

static size_t escaped_size(velum_kv_bytes bytes, unsigned where) {
    size_t size = bytes.size;
    for (size_t i = 0; i < bytes.size; i++)
        if (escaped[bytes.data[i]] & where)
            size += letter_of(bytes.data[i]) == 'x' ? ESCAPED_BYTES_MAX - 1 : 1;
    return size;
}

/* What stands as VALUE; a sum is made in `digits`. */
static velum_kv_bytes value_of(const velum_kv_record *r, uint8_t digits[DECIMAL_BYTES_MAX]) {
    velum_kv_bytes value = r->value;
    if (r->op == VELUM_KV_ADD || r->op == VELUM_KV_REMOVE) return r->part;
    if (r->op == VELUM_KV_COUNT) {
        uint8_t *to = digits;
        if (r->sum < 0) *to++ = '-';
        to = put_decimal(to, r->sum < 0 ? 0 - (uint64_t)r->sum : (uint64_t)r->sum);
        value.data = digits;
        value.size = (size_t)(to - digits);
    }
    return value;
}

/* What stands before `of`. */
static const char *word_of(const velum_kv_record *r) {
    if (r->op == VELUM_KV_REMOVE) return "of=";
    return r->fresh ? "since=" : "base=";
}

/* From the tab up to where the CRC begins. */
static uint8_t *put_trailer(uint8_t *to, const velum_kv_record *r) {
    to = put_stamp(put_text(to, "\t@"), r->stamp);
    *to++ = ' ';
    to = velum__put_bytes(to, ops[r->op].word, ops[r->op].size);
    if (r->json) to = put_text(to, "json ");
    if (r->until_ms != 0) {
        to = put_decimal(put_text(to, "until="), r->until_ms);
        *to++ = ' ';
    }
    if (r->of.node != 0) {
        to = put_stamp(put_text(to, word_of(r)), r->of);
        *to++ = ' ';
    }
    if (r->op == VELUM_KV_FIELD || r->op == VELUM_KV_UNFIELD) {
        to = put_escaped(put_text(to, "field="), r->part, IN_PART);
        *to++ = ' ';
    }
    return to;
}

size_t velum_kv_text_room(const velum_kv_record *record) {
    if (record->key.size > VELUM_KV_KEY_BYTES_MAX || record->part.size > VELUM_KV_PART_BYTES_MAX ||
        record->value.size > VELUM_KV_VALUE_BYTES_MAX)
        return VELUM_KV_LINE_BYTES_MAX;
    return ESCAPED_BYTES_MAX * (record->key.size + record->part.size + record->value.size) +
           REST_BYTES_MAX;
}

/* The size of the record's line. */
static size_t line_size(const velum_kv_record *r) {
    uint8_t digits[DECIMAL_BYTES_MAX];
    uint8_t trailer[ESCAPED_BYTES_MAX * VELUM_KV_PART_BYTES_MAX + REST_BYTES_MAX];
    return escaped_size(r->key, IN_KEY) + 1 + escaped_size(value_of(r, digits), IN_VALUE) +
           (size_t)(put_trailer(trailer, r) - trailer) + CHECK_BYTES + 1;
}

int velum_kv_text_put(const velum_kv_record *record, char *out, size_t room) {
    uint8_t *line = (uint8_t *)out, *to = line, digits[DECIMAL_BYTES_MAX];
    uint32_t crc;
    if (!record_ok(record)) return VELUM_E_ARGUMENT;
    if (room < velum_kv_text_room(record) && room < line_size(record)) return VELUM_E_TOO_LARGE;
    to = put_escaped(to, record->key, IN_KEY);
    *to++ = '=';
    to = put_escaped(to, value_of(record, digits), IN_VALUE);
    to = put_trailer(to, record);
    crc = velum_crc32c(0, line, (size_t)(to - line));
    *to++ = '#';
    to = put_hex(to, crc, CRC_DIGITS);
    *to++ = '\n';
    return (int)(to - line);
}

/* ---- reading ---- */

/* Passes a literal if it comes next. */
static inline bool take_text(velum__reader *r, const char *text, size_t n) {
    if (n > r->left || memcmp(r->at, text, n) != 0) return false;
    velum__take(r, n);
    return true;
}

#define TAKE(r, literal) take_text((r), (literal), sizeof(literal) - 1)

static inline bool take_hex(velum__reader *r, unsigned digits, uint64_t *value) {
    const uint8_t *p = velum__take(r, digits);
    *value = 0;
    if (p == NULL) return false;
    for (unsigned i = 0; i < digits; i++) {
        unsigned digit = p[i] - (unsigned)'0', letter = p[i] - (unsigned)'a';
        if (digit > 9 && letter > 5) return false;
        *value = *value << 4 | (digit <= 9 ? digit : letter + 10);
    }
    return true;
}

static bool take_decimal(velum__reader *r, uint64_t *value) {
    const uint8_t *first = r->at;
    *value = 0;
    for (; r->left > 0 && *r->at >= '0' && *r->at <= '9'; velum__take(r, 1)) {
        unsigned digit = *r->at - (unsigned)'0';
        if (*value > (UINT64_MAX - digit) / 10) return false;
        *value = *value * 10 + digit;
    }
    return r->at > first && (*first != '0' || r->at == first + 1);
}

/* A stamp and a space; its node is 1 or more. */
static bool take_stamp(velum__reader *r, velum_kv_stamp *stamp) {
    uint64_t node;
    if (!take_hex(r, TIME_DIGITS, &stamp->time) || !TAKE(r, "-")) return false;
    if (!take_decimal(r, &node) || node == 0 || node > UINT16_MAX) return false;
    stamp->node = (uint16_t)node;
    return TAKE(r, " ");
}

/* One byte behind a backslash. */
static bool take_escape(velum__reader *r, unsigned where, uint8_t *byte) {
    const uint8_t *letter = velum__take(r, 1);
    uint64_t value;
    if (letter == NULL) return false;
    switch (*letter) {
    case '\\':
        *byte = '\\';
        return true;
    case 'n':
        *byte = '\n';
        return true;
    case 'r':
        *byte = '\r';
        return true;
    case 't':
        *byte = '\t';
        return true;
    case 'x':
        if (!take_hex(r, 2, &value)) return false;
        *byte = (uint8_t)value;
        return escaped[*byte] & where && letter_of(*byte) == 'x';
    default:
        return false;
    }
}

/* An escaped text, unescaped into *memory, which is moved behind it. */
static inline bool take_escaped(velum__reader *r, unsigned where, uint8_t **memory,
                                velum_kv_bytes *bytes) {
    const uint8_t *p = r->at, *end = p + r->left;
    uint8_t *to = *memory;
    bytes->data = to;
    for (;;) {
        to = copy_run(to, &p, end, where);
        r->at = p;
        r->left = (size_t)(end - p);
        if (!TAKE(r, "\\")) break;
        if (!take_escape(r, where, to++)) return false;
        p = r->at;
    }
    bytes->size = (size_t)(to - *memory);
    *memory = to;
    return true;
}

static bool read_sum(velum_kv_bytes value, int64_t *sum) {
    velum__reader r = {value.data, value.size};
    bool negative = TAKE(&r, "-");
    uint64_t size;
    if (!take_decimal(&r, &size) || r.left != 0) return false;
    if (negative && size == 0) return false;
    if (size > (uint64_t)INT64_MAX + negative) return false;
    *sum = negative ? -(int64_t)(size - 1) - 1 : (int64_t)size;
    return true;
}

/* `of`, with the word before it. */
static bool take_of(velum__reader *r, velum_kv_record *record) {
    if (record->op == VELUM_KV_REMOVE) return TAKE(r, "of=") && take_stamp(r, &record->of);
    record->fresh = TAKE(r, "since=");
    return (record->fresh || TAKE(r, "base=")) && take_stamp(r, &record->of);
}

/* The words of an operation, up to the end. */
static bool take_words(velum__reader *r, uint8_t **memory, velum_kv_record *record) {
    unsigned has = ops[record->op].has;
    if (has & JSON) record->json = TAKE(r, "json ");
    if (has & UNTIL && TAKE(r, "until=") &&
        !(take_decimal(r, &record->until_ms) && record->until_ms > 0 && TAKE(r, " ")))
        return false;
    if (has & OF && !take_of(r, record)) return false;
    if ((record->op == VELUM_KV_FIELD || record->op == VELUM_KV_UNFIELD) &&
        !(TAKE(r, "field=") && take_escaped(r, IN_PART, memory, &record->part) && TAKE(r, " ")))
        return false;
    return r->left == 0;
}

/* The trailer, and what VALUE is by it. */
static bool take_trailer(velum__reader *r, uint8_t **memory, velum_kv_bytes value,
                         velum_kv_record *record) {
    unsigned op = VELUM_KV_SET;
    if (!TAKE(r, "\t@") || !take_stamp(r, &record->stamp)) return false;
    while (!take_text(r, ops[op].word, ops[op].size))
        if (++op > VELUM_KV_UNFIELD) return false;
    record->op = (velum_kv_op)op;
    if (!take_words(r, memory, record)) return false;
    if (op == VELUM_KV_COUNT) return read_sum(value, &record->sum);
    if (op == VELUM_KV_ADD || op == VELUM_KV_REMOVE)
        record->part = value;
    else
        record->value = value;
    return true;
}

/* Whether the line ends with a space and #CRC. */
static bool ends_with_check(const uint8_t *line, size_t size, uint64_t *crc) {
    velum__reader r = {line, size};
    return size > CHECK_BYTES && velum__take(&r, size - CHECK_BYTES - 1) != NULL &&
           TAKE(&r, " #") && take_hex(&r, CRC_DIGITS, crc);
}

static bool get_record(const uint8_t *line, size_t size, uint8_t *memory, velum_kv_record *record) {
    velum__reader r = {line, size - CHECK_BYTES};
    velum_kv_bytes value;
    return take_escaped(&r, IN_KEY, &memory, &record->key) && TAKE(&r, "=") &&
           take_escaped(&r, IN_VALUE, &memory, &value) &&
           take_trailer(&r, &memory, value, record) && record_ok(record);
}

/* A line without a check, or any control byte. Other programs escape nothing, and may end it with
 * CR LF. */
static bool get_plain(const uint8_t *line, size_t size, uint8_t *memory, velum_kv_record *record) {
    const uint8_t *equals;
    if (size > 0 && line[size - 1] == '\r') size--;
    for (size_t i = 0; i < size; i++)
        if (line[i] < 32 || line[i] == 127) return false;
    equals = memchr(line, '=', size);
    if (equals == NULL) return false;
    memcpy(memory, line, size);
    record->op = VELUM_KV_SET;
    record->key.data = memory;
    record->key.size = (size_t)(equals - line);
    record->value.data = memory + record->key.size + 1;
    record->value.size = size - record->key.size - 1;
    return record->key.size >= 1 && record->key.size <= VELUM_KV_KEY_BYTES_MAX &&
           record->value.size <= VELUM_KV_VALUE_BYTES_MAX;
}

static velum_kv_line get_line(const uint8_t *line, size_t size, uint8_t *memory,
                              velum_kv_record *record) {
    uint64_t crc;
    memset(record, 0, sizeof *record);
    if (!ends_with_check(line, size, &crc))
        return get_plain(line, size, memory, record) ? VELUM_KV_LINE_PLAIN : VELUM_KV_LINE_DAMAGED;
    if (crc != velum_crc32c(0, line, size - CHECK_BYTES)) return VELUM_KV_LINE_DAMAGED;
    return get_record(line, size, memory, record) ? VELUM_KV_LINE_RECORD : VELUM_KV_LINE_DAMAGED;
}

size_t velum_kv_text_get(const char *text, size_t n, uint8_t *memory, velum_kv_line *what,
                         velum_kv_record *record) {
    const uint8_t *line = (const uint8_t *)text;
    const uint8_t *feed = n > 0 ? memchr(line, '\n', n) : NULL;
    size_t size = feed != NULL ? (size_t)(feed - line) + 1 : n;
    if (feed == NULL && n <= VELUM_KV_LINE_BYTES_MAX) return 0;
    *what = VELUM_KV_LINE_DAMAGED;
    if (size <= VELUM_KV_LINE_BYTES_MAX) *what = get_line(line, size - 1, memory, record);
    return size;
}
