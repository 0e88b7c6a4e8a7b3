/* test_validate.c: the validator, rule by rule, on modules assembled by hand.
 *
 * Every case runs from memory of exactly its size, so that a sanitizer sees a byte read too far.
 * At the end every rule of ours must have refused something.
 */
#include "validate_internal.h"
#include "check.h"

#include <stdlib.h>

#define MALFORMED   VELUM_E_MODULE_MALFORMED
#define INVALID     VELUM_E_MODULE_INVALID
#define UNSUPPORTED VELUM_E_MODULE_UNSUPPORTED
#define IMPORT      VELUM_E_MODULE_IMPORT

/* Value types and the opcodes that most cases need. */
#define I32           0x7f
#define I64           0x7e
#define F32           0x7d
#define F64           0x7c
#define VOID          0x40
#define UNREACHABLE   0x00
#define BLOCK         0x02
#define LOOP          0x03
#define IF            0x04
#define ELSE          0x05
#define END           0x0b
#define BR            0x0c
#define BR_IF         0x0d
#define BR_TABLE      0x0e
#define RETURN        0x0f
#define CALL          0x10
#define CALL_INDIRECT 0x11
#define DROP          0x1a
#define SELECT        0x1b
#define GET           0x20
#define SET           0x21
#define TEE           0x22
#define GLOBAL_GET    0x23
#define GLOBAL_SET    0x24
#define I32_CONST(n)  0x41, n
#define I64_CONST(n)  0x42, n
#define F32_ZERO      0x43, 0, 0, 0, 0
#define F64_ZERO      0x44, 0, 0, 0, 0, 0, 0, 0, 0
#define I32_ADD       0x6a
#define F32_ADD       0x92
#define HEADER        0, 'a', 's', 'm', 1, 0, 0, 0
/* Sections: one type [] -> [], one function of it, its empty body. */
#define TYPE_VOID     1, 4, 1, 0x60, 0, 0
#define FUNCTION_VOID 3, 2, 1, 0
#define CODE_VOID     10, 4, 1, 2, 0, END
#define MEMORY_ONE    5, 3, 1, 0, 1

static bool rule_seen[VELUM__RULE_COUNT];

static void note_rule(const char *text) {
    for (size_t i = 0; i < VELUM__RULE_COUNT; i++)
        if (strcmp(text, velum__rule_texts[i]) == 0) rule_seen[i] = true;
}

/* The verdict on a module; *why is filled when there is a fault. */
static int verdict(const uint8_t *bytes, size_t n, velum_diagnosis *why) {
    uint8_t *copy = malloc(n > 0 ? n : 1);
    if (copy == NULL) abort();
    if (n > 0) memcpy(copy, bytes, n);
    why->text = "";
    int err = velum_validate(copy, n, why);
    if (err == UNSUPPORTED) note_rule(why->text);
    free(copy);
    return err;
}

/* Checks the verdict, and that its text begins as `text` does. */
static void expect(int line, int err, const char *text, const uint8_t *bytes, size_t n) {
    velum_diagnosis why;
    int got = verdict(bytes, n, &why);
    if (got != err || strncmp(why.text, text, strlen(text)) != 0)
        printf("line %d: %d \"%s\", expected %d \"%s\"\n", line, got, why.text, err, text);
    CHECK_EQ(got, err);
    CHECK(strncmp(why.text, text, strlen(text)) == 0);
    CHECK(got == 0 || why.offset <= n);
}

/* A module that is written out but for its header. */
#define MODULE(err, text, ...)                                                                     \
    do {                                                                                           \
        static const uint8_t case_bytes[] = {HEADER, __VA_ARGS__};                                 \
        expect(__LINE__, (err), (text), case_bytes, sizeof case_bytes);                            \
    } while (0)

/* ---- modules that are built ---- */

typedef struct {
    uint8_t *bytes;
    size_t size, room;
} buffer;

static void put(buffer *b, const void *bytes, size_t n) {
    if (b->size + n > b->room) {
        b->room = (b->size + n) * 2;
        b->bytes = realloc(b->bytes, b->room);
        if (b->bytes == NULL) abort();
    }
    if (n > 0) memcpy(b->bytes + b->size, bytes, n);
    b->size += n;
}

static void put_byte(buffer *b, uint8_t byte) {
    put(b, &byte, 1);
}

static void put_u32(buffer *b, uint32_t value) {
    for (; value >= 0x80; value >>= 7)
        put_byte(b, (uint8_t)(value | 0x80));
    put_byte(b, (uint8_t)value);
}

#define PUT(b, ...)                                                                                \
    do {                                                                                           \
        static const uint8_t put_bytes[] = {__VA_ARGS__};                                          \
        put((b), put_bytes, sizeof put_bytes);                                                     \
    } while (0)

static void put_times(buffer *b, uint32_t times, uint8_t byte) {
    for (uint32_t i = 0; i < times; i++)
        put_byte(b, byte);
}

/* Appends `part` with its size before it, after `id`, and empties it. */
static void put_section(buffer *b, uint8_t id, buffer *part) {
    put_byte(b, id);
    put_u32(b, (uint32_t)part->size);
    put(b, part->bytes, part->size);
    part->size = 0;
}

static void expect_buffer(int line, int err, const char *text, buffer *b) {
    expect(line, err, text, b->bytes, b->size);
    free(b->bytes);
    memset(b, 0, sizeof *b);
}

/* A module whose only function has the body `code`, its locals first. Types: 0 [] -> [],
 * 1 [] -> [i32], 2 [i32 f32] -> [f64], 3 [] -> [f32], 4 [] -> [f64]. Globals: a mutable and an
 * immutable i32. */
static void expect_body(int line, int err, const char *text, uint8_t type, const uint8_t *code,
                        size_t n) {
    buffer b = {NULL, 0, 0}, part = {NULL, 0, 0};
    PUT(&b, HEADER, 1, 22, 5, 0x60, 0, 0, 0x60, 0, 1, I32, 0x60, 2, I32, F32, 1, F64);
    PUT(&b, 0x60, 0, 1, F32, 0x60, 0, 1, F64, 3, 2, 1);
    put_byte(&b, type);
    PUT(&b, 4, 4, 1, 0x70, 0, 1, MEMORY_ONE);
    PUT(&b, 6, 11, 2, I32, 1, I32_CONST(0), END, I32, 0, I32_CONST(0), END);
    put_byte(&part, 1);
    put_u32(&part, (uint32_t)n);
    put(&part, code, n);
    put_section(&b, 10, &part);
    free(part.bytes);
    expect_buffer(line, err, text, &b);
}

/* A body without locals, or with (BODY_LOCALS), its closing end not written. */
#define BODY_LOCALS(err, text, type, ...)                                                          \
    do {                                                                                           \
        static const uint8_t case_code[] = {__VA_ARGS__, END};                                     \
        expect_body(__LINE__, (err), (text), (type), case_code, sizeof case_code);                 \
    } while (0)
#define BODY(err, text, type, ...) BODY_LOCALS(err, text, type, 0, __VA_ARGS__)

/* ---- sections ---- */

static void test_header(void) {
    static const uint8_t other[] = {0, 'a', 's', 'n', 1, 0, 0, 0};
    static const uint8_t version[] = {0, 'a', 's', 'm', 2, 0, 0, 0};
    expect(__LINE__, MALFORMED, "magic", NULL, 0);
    expect(__LINE__, MALFORMED, "magic", other, sizeof other);
    expect(__LINE__, MALFORMED, "unknown binary version", version, sizeof version);
    CHECK_EQ(velum_validate(other, sizeof other, NULL), MALFORMED);
    CHECK_EQ(velum_validate(other, (size_t)VELUM_MODULE_BYTES_MAX + 1, NULL), VELUM_E_TOO_LARGE);
}

static void test_section_order(void) {
    static const uint8_t empty[] = {HEADER};
    expect(__LINE__, 0, "", empty, sizeof empty);
    MODULE(0, "", TYPE_VOID, FUNCTION_VOID, CODE_VOID);
    MODULE(MALFORMED, "unexpected section", MEMORY_ONE, TYPE_VOID);
    MODULE(INVALID, "unknown type", FUNCTION_VOID);
    MODULE(MALFORMED, "unexpected section", TYPE_VOID, TYPE_VOID);
    MODULE(MALFORMED, "unexpected section", MEMORY_ONE, 10, 1, 0, 12, 1, 0);
    MODULE(0, "", MEMORY_ONE, 12, 1, 0, 10, 1, 0, 11, 1, 0);
    MODULE(MALFORMED, "section size mismatch", 1, 5, 1, 0x60, 0, 0, 0);
    MODULE(MALFORMED, "count exceeds", 1, 3, 1, 0x60, 0);
    MODULE(MALFORMED, "unexpected end", 1, 9, 1, 0x60, 0, 0);
    MODULE(MALFORMED, "malformed section id", 14, 0);
    MODULE(UNSUPPORTED, "exception", 13, 1, 0);
    MODULE(0, "", 0, 2, 1, 'x', TYPE_VOID, 0, 4, 1, 'x', 9, 9, 0, 1, 0);
    MODULE(MALFORMED, "unexpected end", 0, 0);
    MODULE(MALFORMED, "unexpected end", 0, 2, 2, 'x');
}

static void test_names(void) {
    MODULE(0, "", 0, 10, 9, 0xc3, 0xa9, 0xe6, 0xbc, 0xa2, 0xf0, 0x9f, 0x98, 0x80);
    MODULE(0, "", 0, 5, 4, 0xf4, 0x8f, 0xbf, 0xbf);
    MODULE(MALFORMED, "malformed UTF-8", 0, 2, 1, 0x80);
    MODULE(MALFORMED, "malformed UTF-8", 0, 2, 1, 0xc3);
    MODULE(MALFORMED, "malformed UTF-8", 0, 3, 2, 0xc0, 0x80);
    MODULE(MALFORMED, "malformed UTF-8", 0, 4, 3, 0xe0, 0x80, 0x80);
    MODULE(MALFORMED, "malformed UTF-8", 0, 4, 3, 0xed, 0xa0, 0x80);
    MODULE(MALFORMED, "malformed UTF-8", 0, 5, 4, 0xf4, 0x90, 0x80, 0x80);
    MODULE(MALFORMED, "malformed UTF-8", 0, 5, 4, 0xf0, 0x80, 0x80, 0x80);
    MODULE(MALFORMED, "malformed UTF-8", 0, 5, 4, 0xf1, 0x80, 0x80, 'x');
    MODULE(MALFORMED, "malformed UTF-8", 0, 2, 1, 0xff);
}

static void test_integers(void) {
    /* A count of 1 in five bytes is allowed, in six not, nor with bits beyond the 32nd. */
    MODULE(0, "", 1, 8, 0x81, 0x80, 0x80, 0x80, 0x00, 0x60, 0, 0);
    MODULE(MALFORMED, "integer too long", 1, 9, 0x81, 0x80, 0x80, 0x80, 0x80, 0x00, 0x60, 0, 0);
    MODULE(MALFORMED, "integer too large", 1, 8, 0x81, 0x80, 0x80, 0x80, 0x10, 0x60, 0, 0);
    MODULE(MALFORMED, "count exceeds", 1, 5, 0xff, 0xff, 0xff, 0xff, 0x0f);
    BODY(0, "", 1, 0x41, 0x80, 0x80, 0x80, 0x80, 0x78);
    BODY(0, "", 1, 0x41, 0xff, 0xff, 0xff, 0xff, 0x07);
    BODY(0, "", 1, 0x41, 0xff, 0x7f);
    BODY(MALFORMED, "integer too large", 1, 0x41, 0x80, 0x80, 0x80, 0x80, 0x70);
    BODY(MALFORMED, "integer too large", 1, 0x41, 0xff, 0xff, 0xff, 0xff, 0x0f);
    BODY(MALFORMED, "integer too long", 1, 0x41, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00);
    BODY(0, "", 0, 0x42, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x7f, DROP);
    BODY(MALFORMED, "integer too large", 0, 0x42, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
         0x80, 0x7e, DROP);
}

static void test_types(void) {
    MODULE(0, "", 1, 6, 1, 0x60, 1, I64, 1, F64);
    MODULE(MALFORMED, "malformed function type", 1, 4, 1, 0x61, 0, 0);
    MODULE(UNSUPPORTED, "garbage collection", 1, 4, 1, 0x5f, 0, 0);
    MODULE(UNSUPPORTED, "several results", 1, 6, 1, 0x60, 0, 2, I32, I32);
    MODULE(MALFORMED, "malformed value type", 1, 5, 1, 0x60, 1, 0x01, 0);
    MODULE(UNSUPPORTED, "SIMD", 1, 5, 1, 0x60, 1, 0x7b, 0);
    MODULE(UNSUPPORTED, "reference type", 1, 5, 1, 0x60, 1, 0x6f, 0);
}

static void test_imports(void) {
    MODULE(0, "", 2, 1, 0);
    MODULE(IMPORT, "velum provides no imports", TYPE_VOID, 2, 7, 1, 1, 'm', 1, 'f', 0, 0);
    MODULE(IMPORT, "", 2, 9, 1, 1, 'm', 1, 't', 1, 0x70, 0, 1);
    MODULE(IMPORT, "", 2, 9, 1, 1, 'm', 1, 'm', 2, 1, 1, 2);
    MODULE(IMPORT, "", 2, 8, 1, 1, 'm', 1, 'g', 3, I32, 1);
    MODULE(INVALID, "unknown type", 2, 7, 1, 1, 'm', 1, 'f', 0, 0);
    MODULE(MALFORMED, "malformed import kind", 2, 7, 1, 1, 'm', 1, 'f', 5, 0);
    MODULE(UNSUPPORTED, "exception", 2, 8, 1, 1, 'm', 1, 'f', 4, 0, 0);
    MODULE(MALFORMED, "malformed mutability", 2, 8, 1, 1, 'm', 1, 'g', 3, I32, 2);
    MODULE(MALFORMED, "malformed UTF-8", 2, 8, 1, 1, 0xff, 1, 'g', 3, I32, 0);
    MODULE(MALFORMED, "section size", 2, 9, 1, 1, 'm', 1, 'g', 3, I32, 0, 0);
    MODULE(MALFORMED, "count exceeds", 2, 8, 2, 1, 'm', 1, 'g', 3, I32, 0);
}

static void test_tables_and_memories(void) {
    MODULE(0, "", 4, 4, 1, 0x70, 0, 0, 5, 1, 0);
    MODULE(0, "", 4, 1, 0, 5, 4, 1, 1, 0, 0);
    MODULE(UNSUPPORTED, "more than one", 4, 7, 2, 0x70, 0, 0, 0x70, 0, 0);
    MODULE(UNSUPPORTED, "more than one", 5, 5, 2, 0, 0, 0, 0);
    MODULE(UNSUPPORTED, "table of another kind", 4, 4, 1, 0x6f, 0, 0);
    MODULE(MALFORMED, "malformed element type", 4, 4, 1, I32, 0, 0);
    MODULE(INVALID, "size minimum", 4, 5, 1, 0x70, 1, 2, 1);
    MODULE(INVALID, "size minimum", 5, 4, 1, 1, 2, 1);
    MODULE(UNSUPPORTED, "shared", 5, 4, 1, 3, 1, 2);
    MODULE(MALFORMED, "malformed limits", 5, 3, 1, 16, 1);
    MODULE(0, "", 5, 8, 1, 1, 0x80, 0x80, 0x04, 0x80, 0x80, 0x04);
    MODULE(INVALID, "memory size", 5, 5, 1, 0, 0x81, 0x80, 0x04);
    MODULE(INVALID, "memory size", 5, 8, 1, 1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f);
}

static void test_globals(void) {
    MODULE(0, "", 6, 6, 1, I32, 1, I32_CONST(0), END);
    MODULE(0, "", 6, 6, 1, I64, 0, I64_CONST(0), END);
    MODULE(0, "", 6, 9, 1, F32, 0, F32_ZERO, END);
    MODULE(0, "", 6, 13, 1, F64, 0, F64_ZERO, END);
    MODULE(INVALID, "type mismatch", 6, 6, 1, I64, 0, I32_CONST(0), END);
    MODULE(MALFORMED, "malformed mutability", 6, 6, 1, I32, 2, I32_CONST(0), END);
    MODULE(INVALID, "constant expression required", 6, 6, 1, I32, 0, GET, 0, END);
    MODULE(INVALID, "constant expression names", 6, 6, 1, I32, 0, GLOBAL_GET, 0, END);
    MODULE(UNSUPPORTED, "extended", 6, 9, 1, I32, 0, I32_CONST(0), I32_CONST(0), I32_ADD, END);
    MODULE(UNSUPPORTED, "extended", 6, 6, 1, I32, 0, 0xd0, 0x70, END);
    MODULE(INVALID, "constant expression required", 6, 6, 1, I32, 0, I32_CONST(0), DROP);
    MODULE(MALFORMED, "count exceeds", 6, 5, 1, I32, 0, I32_CONST(0));
}

static void test_exports(void) {
    MODULE(0, "", MEMORY_ONE, 7, 9, 2, 1, 'a', 2, 0, 1, 'b', 2, 0);
    MODULE(INVALID, "duplicate", MEMORY_ONE, 7, 13, 3, 1, 'b', 2, 0, 1, 'a', 2, 0, 1, 'b', 2, 0);
    MODULE(INVALID, "duplicate", MEMORY_ONE, 7, 7, 2, 0, 2, 0, 0, 2, 0);
    MODULE(INVALID, "unknown function", 7, 5, 1, 1, 'a', 0, 0);
    MODULE(INVALID, "unknown table", 7, 5, 1, 1, 'a', 1, 0);
    MODULE(INVALID, "unknown memory", 7, 5, 1, 1, 'a', 2, 0);
    MODULE(INVALID, "unknown global", 7, 5, 1, 1, 'a', 3, 0);
    MODULE(UNSUPPORTED, "exception", 7, 5, 1, 1, 'a', 4, 0);
    MODULE(MALFORMED, "malformed export kind", 7, 5, 1, 1, 'a', 5, 0);
    MODULE(MALFORMED, "malformed UTF-8", MEMORY_ONE, 7, 5, 1, 1, 0x80, 2, 0);
}

static void test_start(void) {
    MODULE(0, "", TYPE_VOID, FUNCTION_VOID, 8, 1, 0, CODE_VOID);
    MODULE(INVALID, "unknown function", TYPE_VOID, FUNCTION_VOID, 8, 1, 1, CODE_VOID);
    MODULE(INVALID, "start function", 1, 5, 1, 0x60, 1, I32, 0, FUNCTION_VOID, 8, 1, 0, CODE_VOID);
}

#define TABLE_TWO 4, 4, 1, 0x70, 0, 2
static void test_elements(void) {
    MODULE(0, "", TYPE_VOID, FUNCTION_VOID, TABLE_TWO, 9, 8, 1, 0, I32_CONST(0), END, 2, 0, 0,
           CODE_VOID);
    MODULE(INVALID, "unknown table", 9, 6, 1, 0, I32_CONST(0), END, 0);
    MODULE(INVALID, "unknown function", TABLE_TWO, 9, 7, 1, 0, I32_CONST(0), END, 1, 0);
    MODULE(INVALID, "type mismatch", TABLE_TWO, 9, 6, 1, 0, I64_CONST(0), END, 0);
    MODULE(UNSUPPORTED, "passive", TABLE_TWO, 9, 4, 1, 1, 0, 0);
    MODULE(MALFORMED, "malformed segment", TABLE_TWO, 9, 4, 1, 8, 0, 0);
    MODULE(UNSUPPORTED, "velum rule: elements", TYPE_VOID, FUNCTION_VOID, TABLE_TWO, 9, 8, 1, 0,
           I32_CONST(1), END, 2, 0, 0, CODE_VOID);
    MODULE(UNSUPPORTED, "velum rule: elements", TABLE_TWO, 9, 6, 1, 0, I32_CONST(0x7f), END, 0);
    MODULE(0, "", TABLE_TWO, 9, 6, 1, 0, I32_CONST(2), END, 0);
}

static void test_data(void) {
    MODULE(0, "", MEMORY_ONE, 11, 8, 1, 0, I32_CONST(5), END, 2, 'h', 'i');
    MODULE(INVALID, "unknown memory", 11, 6, 1, 0, I32_CONST(5), END, 0);
    MODULE(UNSUPPORTED, "passive", MEMORY_ONE, 11, 4, 1, 1, 1, 'h');
    MODULE(MALFORMED, "malformed segment", MEMORY_ONE, 11, 4, 1, 3, 1, 'h');
    MODULE(MALFORMED, "unexpected end", MEMORY_ONE, 11, 7, 1, 0, I32_CONST(5), END, 2, 'h');
    MODULE(0, "", MEMORY_ONE, 12, 1, 1, 11, 6, 1, 0, I32_CONST(5), END, 0);
    MODULE(MALFORMED, "data count", MEMORY_ONE, 12, 1, 2, 11, 6, 1, 0, I32_CONST(5), END, 0);
    MODULE(MALFORMED, "data count", MEMORY_ONE, 12, 1, 1);
}

static void test_code_section(void) {
    MODULE(MALFORMED, "function and code", TYPE_VOID, FUNCTION_VOID);
    MODULE(MALFORMED, "function and code", TYPE_VOID, CODE_VOID);
    MODULE(MALFORMED, "function and code", TYPE_VOID, 3, 3, 2, 0, 0, CODE_VOID);
    MODULE(0, "", TYPE_VOID, 3, 1, 0, 10, 1, 0);
    MODULE(MALFORMED, "unexpected end", TYPE_VOID, FUNCTION_VOID, 10, 4, 1, 1, 0, END);
    MODULE(MALFORMED, "unexpected end", TYPE_VOID, FUNCTION_VOID, 10, 4, 1, 3, 0, END);
    MODULE(MALFORMED, "bytes after", TYPE_VOID, FUNCTION_VOID, 10, 5, 1, 3, 0, END, END);
}

/* ---- bodies ---- */

static void test_operands(void) {
    BODY(0, "", 1, I32_CONST(1), I32_CONST(2), I32_ADD);
    BODY(INVALID, "type mismatch", 1, I32_CONST(1), I32_ADD);
    BODY(INVALID, "type mismatch", 1, I32_CONST(1), I64_CONST(1), I32_ADD);
    BODY(INVALID, "type mismatch", 1, I64_CONST(1));
    BODY(INVALID, "type mismatch", 1, 0x01);
    BODY(INVALID, "type mismatch: values left", 0, I32_CONST(1));
    BODY(INVALID, "type mismatch", 0, DROP);
    BODY(0, "", 1, I32_CONST(1), I32_CONST(2), I32_CONST(3), SELECT);
    BODY(INVALID, "type mismatch", 1, I32_CONST(1), I64_CONST(2), I32_CONST(3), SELECT);
    BODY(0, "", 1, I64_CONST(1), 0xc4, 0x50, 0xc0);
    BODY(0, "", 4, I32_CONST(1), 0xb7, 0x9a);
    BODY(0, "", 1, F64_ZERO, 0xfc, 3);
    BODY(INVALID, "type mismatch", 1, F32_ZERO, 0xfc, 3);
}

static void test_locals(void) {
    BODY(0, "", 2, GET, 1, 0xbb);
    BODY(INVALID, "type mismatch", 2, GET, 0, 0xbb);
    BODY(INVALID, "unknown local", 2, GET, 2);
    BODY_LOCALS(0, "", 2, 2, 1, I64, 2, F64, GET, 4);
    BODY_LOCALS(INVALID, "unknown local", 2, 2, 1, I64, 2, F64, GET, 5);
    BODY_LOCALS(0, "", 1, 1, 1, I32, I32_CONST(1), TEE, 0, SET, 0, GET, 0);
    BODY_LOCALS(INVALID, "type mismatch", 1, 1, 1, I32, I64_CONST(1), TEE, 0);
    BODY_LOCALS(MALFORMED, "malformed value type", 0, 1, 1, 0x22);
    BODY_LOCALS(0, "", 1, 2, 0, I64, 1, I32, GET, 0);
    BODY(0, "", 0, GLOBAL_GET, 1, GLOBAL_SET, 0);
    BODY(INVALID, "global is immutable", 0, GLOBAL_GET, 0, GLOBAL_SET, 1);
    BODY(INVALID, "unknown global", 0, GLOBAL_GET, 2, DROP);
}

static void test_memory_instructions(void) {
    BODY(0, "", 1, I32_CONST(0), 0x28, 2, 0);
    BODY(0, "", 1, I32_CONST(0), 0x28, 0, 0xff, 0xff, 0xff, 0xff, 0x0f);
    BODY(INVALID, "alignment", 1, I32_CONST(0), 0x28, 3, 0);
    BODY(INVALID, "alignment", 1, I32_CONST(0), 0x2c, 1, 0);
    BODY(0, "", 0, I32_CONST(0), F64_ZERO, 0x39, 3, 0);
    BODY(INVALID, "type mismatch", 0, I32_CONST(0), F32_ZERO, 0x39, 3, 0);
    BODY(0, "", 1, 0x3f, 0, 0x40, 0);
    BODY(UNSUPPORTED, "more than one", 1, 0x3f, 1);
    BODY(UNSUPPORTED, "table or memory index", 1, 0x3f, 0x80, 0);
    BODY(0, "", 0, I32_CONST(0), I32_CONST(0), I32_CONST(0), 0xfc, 10, 0, 0);
    BODY(0, "", 0, I32_CONST(0), I32_CONST(0), I32_CONST(0), 0xfc, 11, 0);
    BODY(INVALID, "type mismatch", 0, I32_CONST(0), I32_CONST(0), 0xfc, 11, 0);
    BODY(UNSUPPORTED, "passive", 0, 0xfc, 9, 0);
    BODY(UNSUPPORTED, "velum rule: opcode", 0, 0xfc, 0x8b, 0, 0);
    BODY(MALFORMED, "unknown opcode", 0, 0xfc, 18);
    MODULE(INVALID, "unknown memory", TYPE_VOID, FUNCTION_VOID, 10, 8, 1, 6, 0, I32_CONST(0), 0x28,
           2, END);
    MODULE(INVALID, "unknown memory", TYPE_VOID, FUNCTION_VOID, 10, 7, 1, 5, 0, 0x3f, 0, DROP, END);
}

static void test_opcodes(void) {
    BODY(UNSUPPORTED, "exception", 0, 0x06, VOID);
    BODY(UNSUPPORTED, "tail call", 0, 0x12, 0);
    BODY(UNSUPPORTED, "select with a type", 0, 0x1c, 1, I32);
    BODY(UNSUPPORTED, "table access", 0, 0x25, 0);
    BODY(UNSUPPORTED, "reference type", 0, 0xd0, 0x70);
    BODY(UNSUPPORTED, "SIMD", 0, 0xfd, 0);
    BODY(UNSUPPORTED, "threads", 0, 0xfe, 0);
    BODY(MALFORMED, "unknown opcode", 0, 0xff);
    BODY(MALFORMED, "unknown opcode", 0, 0x27);
    BODY(MALFORMED, "unknown opcode", 0, 0xc5);
}

static void test_blocks(void) {
    BODY(0, "", 1, BLOCK, I32, I32_CONST(1), END);
    BODY(0, "", 0, BLOCK, VOID, LOOP, VOID, END, END);
    BODY(INVALID, "type mismatch", 1, I32_CONST(1), BLOCK, VOID, DROP, END);
    BODY(INVALID, "type mismatch", 1, BLOCK, I32, END);
    BODY(UNSUPPORTED, "multi-value", 0, BLOCK, 0, END);
    BODY(MALFORMED, "malformed value type", 0, BLOCK, 0x41, END);
    BODY(MALFORMED, "unknown block type", 0, BLOCK, 0xff, 0x7f, END);
    BODY(UNSUPPORTED, "SIMD", 0, BLOCK, 0x7b, END);
    BODY(0, "", 1, I32_CONST(1), IF, I32, I32_CONST(1), ELSE, I32_CONST(2), END);
    BODY(INVALID, "type mismatch: if", 1, I32_CONST(1), IF, I32, I32_CONST(1), END);
    BODY(INVALID, "type mismatch", 1, IF, I32, I32_CONST(1), ELSE, I32_CONST(2), END);
    BODY(MALFORMED, "else without if", 0, BLOCK, VOID, ELSE, END);
    BODY(MALFORMED, "else without if", 0, I32_CONST(1), IF, VOID, ELSE, ELSE, END);
    BODY(MALFORMED, "unexpected end", 0, BLOCK, VOID);
}

static void test_branches(void) {
    BODY(0, "", 1, BLOCK, I32, I32_CONST(1), BR, 0, END);
    BODY(0, "", 1, BLOCK, I32, I32_CONST(7), I32_CONST(1), BR, 0, END);
    BODY(INVALID, "type mismatch", 1, BLOCK, I32, BR, 0, END);
    BODY(INVALID, "unknown label", 0, BR, 1);
    BODY(0, "", 0, LOOP, I32, BR, 0, END, DROP);
    BODY(0, "", 1, I32_CONST(1), I32_CONST(1), BR_IF, 0);
    BODY(INVALID, "type mismatch", 1, I32_CONST(1), I64_CONST(1), BR_IF, 0);
    BODY(0, "", 1, BLOCK, I32, I32_CONST(1), I32_CONST(1), BR_TABLE, 1, 0, 1, END);
    BODY(INVALID, "type mismatch: labels", 1, BLOCK, VOID, I32_CONST(1), I32_CONST(1), BR_TABLE, 1,
         1, 0, END, I32_CONST(1));
    BODY(INVALID, "unknown label", 1, I32_CONST(1), I32_CONST(1), BR_TABLE, 1, 0, 1);
    BODY(MALFORMED, "count exceeds", 0, I32_CONST(1), BR_TABLE, 9, 0);
    BODY(0, "", 1, I64_CONST(1), I32_CONST(1), RETURN);
    BODY(INVALID, "type mismatch", 1, I64_CONST(1), RETURN);
}

static void test_unreachable(void) {
    BODY(0, "", 1, UNREACHABLE);
    BODY(0, "", 1, UNREACHABLE, I32_ADD);
    BODY(0, "", 1, UNREACHABLE, I64_CONST(1), 0xa7, I32_ADD);
    BODY(INVALID, "type mismatch", 1, UNREACHABLE, I64_CONST(1), I32_ADD);
    BODY(0, "", 1, UNREACHABLE, SELECT);
    BODY(0, "", 1, UNREACHABLE, I32_CONST(1), I32_CONST(1), SELECT);
    BODY(INVALID, "type mismatch", 1, UNREACHABLE, I64_CONST(1), I32_CONST(1), SELECT);
    BODY(INVALID, "type mismatch: values left", 1, UNREACHABLE, I32_CONST(1), I32_CONST(1));
    BODY(INVALID, "type mismatch", 1, UNREACHABLE, BLOCK, I32, END);
    BODY(0, "", 1, BLOCK, F32, BLOCK, I32, UNREACHABLE, BR_TABLE, 1, 0, 1, END, DROP, F32_ZERO, END,
         DROP, I32_CONST(1));
    BODY(0, "", 1, I32_CONST(1), IF, VOID, UNREACHABLE, ELSE, END, I32_CONST(1));
}

static void test_calls(void) {
    BODY(0, "", 0, CALL, 0);
    BODY(0, "", 2, GET, 0, GET, 1, CALL, 0);
    BODY(INVALID, "type mismatch", 2, GET, 1, GET, 0, CALL, 0);
    BODY(INVALID, "unknown function", 0, CALL, 1);
    BODY(0, "", 2, GET, 0, GET, 1, I32_CONST(0), CALL_INDIRECT, 2, 0);
    BODY(INVALID, "unknown type", 0, I32_CONST(0), CALL_INDIRECT, 5, 0);
    BODY(UNSUPPORTED, "table or memory index", 0, I32_CONST(0), CALL_INDIRECT, 0, 0x80, 0);
    BODY(0, "", 0, UNREACHABLE, CALL, 0);
    BODY(0, "", 2, UNREACHABLE, GET, 1, CALL, 0);
    BODY(INVALID, "type mismatch", 2, UNREACHABLE, GET, 0, CALL, 0);
    MODULE(INVALID, "unknown table", TYPE_VOID, FUNCTION_VOID, 10, 9, 1, 7, 0, I32_CONST(0),
           CALL_INDIRECT, 0, 0, END);
}

/* ---- the rules of ours ---- */

static void test_rule_branch(void) {
    const char *text = "velum rule: branch";
    /* The float alone, and over the place of another float: allowed. */
    BODY(0, "", 3, BLOCK, F32, F32_ZERO, BR, 0, END);
    BODY(0, "", 3, BLOCK, F32, F32_ZERO, I32_CONST(1), BR_IF, 0, END);
    BODY(0, "", 3, BLOCK, F32, BLOCK, VOID, F32_ZERO, BR, 1, END, F32_ZERO, END);
    BODY(0, "", 3, BLOCK, F32, BLOCK, F64, F32_ZERO, BR, 1, END, DROP, F32_ZERO, END);
    /* Over another operand, in its block or around it, or an integer's place: refused. */
    BODY(UNSUPPORTED, text, 3, BLOCK, F32, I32_CONST(1), F32_ZERO, BR, 0, END);
    BODY(UNSUPPORTED, text, 4, BLOCK, F64, F64_ZERO, F64_ZERO, I32_CONST(1), BR_IF, 0, DROP, END);
    BODY(UNSUPPORTED, text, 3, BLOCK, F32, I32_CONST(1), F32_ZERO, I32_CONST(1), BR_TABLE, 0, 0,
         END);
    BODY(UNSUPPORTED, text, 3, BLOCK, F32, I32_CONST(1), BLOCK, VOID, F32_ZERO, BR, 1, END, DROP,
         F32_ZERO, END);
    BODY(UNSUPPORTED, text, 3, BLOCK, F32, BLOCK, I32, F32_ZERO, BR, 1, END, DROP, F32_ZERO, END);
    BODY(UNSUPPORTED, text, 3, BLOCK, F32, I32_CONST(1), IF, I32, F32_ZERO, BR, 1, ELSE, F32_ZERO,
         BR, 1, END, DROP, F32_ZERO, END);
    /* To the function itself, to a loop, or where nothing runs: allowed. */
    BODY(0, "", 3, I32_CONST(1), F32_ZERO, BR, 0);
    BODY(0, "", 3, BLOCK, VOID, I32_CONST(1), F32_ZERO, RETURN, END, F32_ZERO);
    BODY(0, "", 3, LOOP, F32, I32_CONST(1), BR, 0, END);
    BODY(0, "", 3, BLOCK, F32, UNREACHABLE, I32_CONST(1), F32_ZERO, BR, 0, END);
    BODY(0, "", 3, BLOCK, F32, UNREACHABLE, BLOCK, VOID, I32_CONST(1), F32_ZERO, BR, 1, END, END);
}

static void expect_nesting(int err, const char *text, uint32_t depth) {
    buffer code = {NULL, 0, 0};
    put_byte(&code, 0);
    for (uint32_t i = 0; i < depth; i++)
        PUT(&code, BLOCK, VOID);
    put_times(&code, depth + 1, END);
    expect_body(__LINE__, err, text, 0, code.bytes, code.size);
    free(code.bytes);
}

/* `locals` of type i64, then `operands`; then all that dropped, `times` times over. */
static void expect_stack(int err, const char *text, uint32_t locals, uint32_t operands) {
    buffer code = {NULL, 0, 0};
    put_byte(&code, 1);
    put_u32(&code, locals);
    put_byte(&code, I64);
    for (int round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < operands; i++)
            PUT(&code, I32_CONST(1));
        put_times(&code, operands, DROP);
    }
    put_byte(&code, END);
    expect_body(__LINE__, err, text, 0, code.bytes, code.size);
    free(code.bytes);
}

/* Operands below blocks with a result: each block takes an entry too. A branch to a loop leaves
 * its operands where they are. */
static void test_rule_stack_of_blocks(void) {
    buffer code = {NULL, 0, 0};
    uint32_t operands = VELUM_WASM_HEIGHT_MAX - 2;
    for (int fits = 1; fits >= 0; fits--) {
        code.size = 0;
        put_byte(&code, 0);
        for (uint32_t i = 0; i < operands + (fits ? 0 : 1); i++)
            PUT(&code, I32_CONST(1));
        PUT(&code, BLOCK, I32, I32_CONST(1), END, DROP, UNREACHABLE, END);
        expect_body(__LINE__, fits ? 0 : UNSUPPORTED, fits ? "" : "velum rule: locals and", 0,
                    code.bytes, code.size);
    }
    code.size = 0;
    PUT(&code, 0, LOOP, VOID);
    for (int half = 0; half < 2; half++) {
        for (uint32_t i = 0; i < VELUM_WASM_HEIGHT_MAX / 2 + 1; i++)
            PUT(&code, I32_CONST(1));
        PUT(&code, BR, 0);
    }
    PUT(&code, END, END);
    expect_body(__LINE__, UNSUPPORTED, "velum rule: locals and", 0, code.bytes, code.size);
    free(code.bytes);
}

/* A module with one section of `count` elements, each of them these bytes. */
static void expect_many(int err, const char *text, uint8_t section, uint32_t count,
                        const uint8_t *element, size_t size) {
    buffer b = {NULL, 0, 0}, part = {NULL, 0, 0};
    PUT(&b, HEADER);
    if (section == 3) PUT(&b, TYPE_VOID);
    if (section == 9) PUT(&b, TABLE_TWO);
    if (section == 11) PUT(&b, MEMORY_ONE);
    put_u32(&part, count);
    for (uint32_t i = 0; i < count; i++)
        put(&part, element, size);
    put_section(&b, section, &part);
    free(part.bytes);
    expect_buffer(__LINE__, err, text, &b);
}
#define MANY(err, text, section, count, ...)                                                       \
    do {                                                                                           \
        static const uint8_t element[] = {__VA_ARGS__};                                            \
        expect_many((err), (text), (section), (count), element, sizeof element);                   \
    } while (0)

static void test_rule_counts(void) {
    MANY(0, "", 1, 10000, 0x60, 0, 0);
    MANY(UNSUPPORTED, "velum rule: too many types", 1, 10001, 0x60, 0, 0);
    MANY(UNSUPPORTED, "velum rule: too many functions", 3, 100001, 0);
    MANY(0, "", 6, 100000, I32, 0, I32_CONST(0), END);
    MANY(UNSUPPORTED, "velum rule: too many globals", 6, 100001, I32, 0, I32_CONST(0), END);
    MANY(UNSUPPORTED, "velum rule: too many exports", 7, 100001, 0, 2, 0);
    MANY(0, "", 9, 100000, 0, I32_CONST(0), END, 0);
    MANY(UNSUPPORTED, "velum rule: too many segments", 9, 100001, 0, I32_CONST(0), END, 0);
    MANY(UNSUPPORTED, "velum rule: too many segments", 11, 100001, 0, I32_CONST(0), END, 0);
    MODULE(UNSUPPORTED, "velum rule: table", 4, 6, 1, 0x70, 0, 0xa1, 0x8d, 0x06);
    MODULE(0, "", 4, 6, 1, 0x70, 0, 0xa0, 0x8d, 0x06);
}

static void test_rule_parameters(void) {
    for (uint32_t n = VELUM_WASM_PARAMS_MAX; n <= VELUM_WASM_PARAMS_MAX + 1; n++) {
        bool fits = n <= VELUM_WASM_PARAMS_MAX;
        buffer b = {NULL, 0, 0}, part = {NULL, 0, 0};
        PUT(&b, HEADER);
        PUT(&part, 1, 0x60);
        put_u32(&part, n);
        put_times(&part, n, F64);
        put_byte(&part, 0);
        put_section(&b, 1, &part);
        free(part.bytes);
        expect_buffer(__LINE__, fits ? 0 : UNSUPPORTED, fits ? "" : "velum rule: too many param",
                      &b);
    }
}

static void test_rules(void) {
    test_rule_branch();
    expect_nesting(0, "", VELUM_WASM_NESTING_MAX);
    expect_nesting(UNSUPPORTED, "velum rule: blocks", VELUM_WASM_NESTING_MAX + 1);
    expect_nesting(UNSUPPORTED, "velum rule: blocks", 1000000);
    expect_stack(0, "", 1000, VELUM_WASM_HEIGHT_MAX - 1000);
    expect_stack(UNSUPPORTED, "velum rule: locals and", 1000, VELUM_WASM_HEIGHT_MAX - 999);
    expect_stack(UNSUPPORTED, "velum rule: locals and", VELUM_WASM_HEIGHT_MAX, 0);
    expect_stack(UNSUPPORTED, "velum rule: too many locals", VELUM_WASM_LOCALS_MAX + 1, 0);
    expect_stack(UNSUPPORTED, "velum rule: too many locals", UINT32_MAX, 0);
    test_rule_stack_of_blocks();
    test_rule_counts();
    test_rule_parameters();
    for (size_t i = 0; i < VELUM__RULE_COUNT; i++) {
        CHECK(strncmp(velum__rule_texts[i], "velum rule: ", 12) == 0);
        CHECK(rule_seen[i]);
    }
}

/* ---- diagnoses, prefixes, large input ---- */

static void test_diagnosis(void) {
    static const uint8_t two[] = {HEADER, TYPE_VOID, 3, 3,   2, 0, 0,    10, 8,
                                  2,      2,         0, END, 3, 0, DROP, END};
    velum_diagnosis why;
    CHECK_EQ(verdict(two, sizeof two, &why), INVALID);
    CHECK_EQ(why.function, 1);
    CHECK_EQ(why.offset, sizeof two - 2);
    CHECK_EQ(verdict(two, 12, &why), MALFORMED);
    CHECK_EQ(why.function, UINT32_MAX);
    CHECK_EQ(why.offset, 12);
}

static void test_prefixes(void) {
    static const char text[] = "\0asm\1\0\0\0"
                               "\1\4\1\x60\0\0\3\2\1\0\5\3\1\0\1"
                               "\7\11\2\1f\0\0\1m\2\0\10\1\0\14\1\1"
                               "\12\21\1\17\1\2\x7c\x41\0\x20\1\x39\3\0\x42\x80\1\x1a\13"
                               "\13\7\1\0\x41\1\13\1x";
    const uint8_t *whole = (const uint8_t *)text;
    velum_diagnosis why;
    CHECK_EQ(verdict(whole, sizeof text - 1, &why), 0);
    for (size_t n = 0; n < sizeof text - 1; n++) {
        bool complete = n == 8 || n == 14; /* nothing, or only a type */
        CHECK_EQ(verdict(whole, n, &why), complete ? 0 : MALFORMED);
    }
}

/* A million labels, and as many calls in code that cannot run, take no noticeable time. */
static void test_large(void) {
    buffer code = {NULL, 0, 0};
    PUT(&code, 0, I32_CONST(0), BR_TABLE);
    put_u32(&code, 1000000);
    put_times(&code, 1000001, 0);
    put_times(&code, 1000000, DROP);
    put_byte(&code, END);
    expect_body(__LINE__, 0, "", 0, code.bytes, code.size);
    free(code.bytes);
}

/* ---- imports and exports ---- */

typedef struct {
    char text[256]; /* one word an extern: kind, index, name */
    velum_extern last;
    int stop_after;
} tour;

static int look(void *user, const velum_extern *e) {
    tour *t = user;
    size_t used = strlen(t->text);
    (void)snprintf(t->text + used, sizeof t->text - used, "%s%u%u%.*s ", e->import ? "i" : "e",
                   (unsigned)e->kind, (unsigned)e->index, (int)e->name_size, e->name);
    t->last = *e;
    return --t->stop_after == 0 ? 7 : 0;
}

/* Types: 0 [i32 f64] -> [i64], 1 [] -> [i32 i32]. Imports of every kind; one more of every kind,
 * the global that is mutable with an extended constant expression; exports of both. */
static const char busy_text[] = "\0asm\1\0\0\0"
                                "\1\14\2\x60\2\x7f\x7c\1\x7e\x60\0\2\x7f\x7f"
                                "\2\36\4\1m\1f\0\0\1m\1t\1\x70\0\3\1m\1m\2\1\1\2\1m\1g\3\x7d\1"
                                "\3\3\2\1\0"
                                "\4\5\1\x70\1\4\5"
                                "\5\3\1\0\11"
                                "\6\17\2\x7e\0\x42\x80\1\13\x7f\1\x41\1\x41\2\x6a\13"
                                "\7\30\6\1a\0\0\1b\0\1\1c\0\2\1t\1\1\1m\2\1\0\3\1";
#define BUSY_SIZE (sizeof busy_text - 1)

static void test_visit(void) {
    const uint8_t *busy = (const uint8_t *)busy_text;
    tour t = {"", {0}, 0};
    CHECK_EQ(velum_module_visit(busy, BUSY_SIZE, look, &t), 0);
    CHECK(strcmp(t.text, "i00f i10t i20m i30g e00a e01b e02c e11t e21m e31 ") == 0);
    CHECK_EQ(t.last.value_type, I64);
    CHECK(!t.last.mutable_);
    for (int n = 1; n <= 9; n++) {
        memset(&t, 0, sizeof t);
        t.stop_after = n;
        CHECK_EQ(velum_module_visit(busy, BUSY_SIZE, look, &t), 7);
        if (n == 1)
            CHECK(t.last.callable && t.last.signature.nparams == 2 && t.last.module[0] == 'm');
        if (n == 2) CHECK(t.last.minimum == 3 && t.last.maximum == UINT32_MAX);
        if (n == 3) CHECK(t.last.minimum == 1 && t.last.maximum == 2);
        if (n == 4) CHECK(t.last.value_type == F32 && t.last.mutable_);
        if (n == 6) CHECK(!t.last.callable);
        if (n == 8) CHECK(t.last.minimum == 4 && t.last.maximum == 5);
        if (n == 9) CHECK(t.last.minimum == 9 && t.last.maximum == UINT32_MAX);
    }
    for (size_t n = 0; n < BUSY_SIZE; n++) {
        uint8_t *copy = malloc(n > 0 ? n : 1);
        if (copy == NULL) abort();
        memcpy(copy, busy, n);
        memset(&t, 0, sizeof t);
        int err = velum_module_visit(copy, n, look, &t);
        CHECK(err == 0 || err == MALFORMED);
        free(copy);
    }
}

static void test_export(void) {
    const uint8_t *busy = (const uint8_t *)busy_text;
    velum_signature s;
    CHECK_EQ(velum_module_export(busy, BUSY_SIZE, "a", 1, &s), 0);
    CHECK(s.nparams == 2 && s.params[0] == I32 && s.params[1] == F64);
    CHECK(s.nresults == 1 && s.result == I64);
    CHECK_EQ(velum_module_export(busy, BUSY_SIZE, "c", 1, &s), 0);
    CHECK_EQ(velum_module_export(busy, BUSY_SIZE, "b", 1, &s), VELUM_E_SIGNATURE);
    CHECK_EQ(velum_module_export(busy, BUSY_SIZE, "f", 1, &s), VELUM_E_NO_EXPORT);
    CHECK_EQ(velum_module_export(busy, BUSY_SIZE, "t", 1, &s), VELUM_E_NO_EXPORT);
    CHECK_EQ(velum_module_export(busy, BUSY_SIZE, NULL, 0, &s), VELUM_E_NO_EXPORT);
    CHECK_EQ(velum_module_export(busy, 30, "a", 1, &s), MALFORMED);
}

int main(void) {
    test_header();
    test_section_order();
    test_names();
    test_integers();
    test_types();
    test_imports();
    test_tables_and_memories();
    test_globals();
    test_exports();
    test_start();
    test_elements();
    test_data();
    test_code_section();
    test_operands();
    test_locals();
    test_memory_instructions();
    test_opcodes();
    test_blocks();
    test_branches();
    test_unreachable();
    test_calls();
    test_rules();
    test_diagnosis();
    test_prefixes();
    test_large();
    test_visit();
    test_export();
    return check_report("validate");
}
