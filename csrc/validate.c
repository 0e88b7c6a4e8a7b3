/* validate.c: the sections of a module, and velum_validate.
 *
 * Owns: the binary format outside function bodies, and the rules of ours beyond the specification.
 * Refuses to know: instructions (validate_code.c), what wasm3 does with a module it may have. How:
 * one pass in the order of the bytes; each section fills in the velum__module that the later ones
 * look things up in. Format: WebAssembly Core Specification 1.0, chapters 3 and 5, with the
 * proposals that validate.h names.
 *
 * The rules of ours. All are MODULE_UNSUPPORTED: such a module may be valid, but wasm3 v0.5.0 would
 * refuse it, damage memory, give wrong answers or take too long over it. Names as in VELUM__RULES:
 *
 *   NESTING         wasm3's compiler recurses on the C stack for every nested block.
 *   LOCALS, STACK   wasm3 gives a function 2,000 stack entries; a call near the end of its slots
 *                   writes beyond its tables.
 *   BRANCH          wasm3 corrupts memory at a branch that carries a float over other values; what
 *                   exactly goes wrong stands at `carry` in validate_code.c.
 *   PARAMETERS      wasm3 writes a call's arguments before it checks its stack; see validate.h.
 *   FUNCTIONS, GLOBALS, SEGMENTS, TABLE
 *                   wasm3's own "sane" limits (m3_core.h); a table's is on where its elements end.
 *   TYPES           wasm3 compares every type with every earlier one.
 *   EXPORTS         an export is looked up by going through all of them.
 *   ELEMENTS        wasm3 does not know how large the table was declared. The offset is a constant
 *                   here, so that what would trap at instantiation is known at once.
 *   OPCODE          wasm3 reads one byte where the specification has a LEB128 number.
 */
#include "validate_internal.h"

#include <stdlib.h>
#include <string.h>

/* wasm3's limits, from m3_core.h, and two of ours: what types cost there is quadratic, and every
 * function may well be exported. */
enum {
    FUNCTIONS_MAX = 100000,
    GLOBALS_MAX = 100000,
    SEGMENTS_MAX = 100000,
    TABLE_ELEMENTS_MAX = 100000,
    TYPES_MAX = 10000,
    EXPORTS_MAX = FUNCTIONS_MAX
};

enum { MEMORY_PAGES_MAX = 65536 };

enum {
    SECTION_CUSTOM = 0,
    SECTION_TYPE = 1,
    SECTION_IMPORT = 2,
    SECTION_FUNCTION = 3,
    SECTION_TABLE = 4,
    SECTION_MEMORY = 5,
    SECTION_GLOBAL = 6,
    SECTION_EXPORT = 7,
    SECTION_START = 8,
    SECTION_ELEMENT = 9,
    SECTION_CODE = 10,
    SECTION_DATA = 11,
    SECTION_DATA_COUNT = 12,
    SECTION_TAG = 13
};

const char *const velum__rule_texts[VELUM__RULE_COUNT] = {
#define RULE_TEXT(name, text) text,
    VELUM__RULES(RULE_TEXT)
#undef RULE_TEXT
};

/* ---- faults and small values ---- */

static int malformed(velum__reader *r, const uint8_t *at, const char *text) {
    return velum__fail_at(r, at, VELUM_E_MODULE_MALFORMED, text);
}

static int invalid(velum__reader *r, const uint8_t *at, const char *text) {
    return velum__fail_at(r, at, VELUM_E_MODULE_INVALID, text);
}

static int unsupported(velum__reader *r, const uint8_t *at, const char *text) {
    return velum__fail_at(r, at, VELUM_E_MODULE_UNSUPPORTED, text);
}

static int no_memory(velum__reader *r) {
    return velum__fail(r, VELUM_E_NOMEM, "out of memory");
}

int velum__read_type(velum__reader *r, uint8_t *out) {
    const uint8_t *at = r->at;
    VELUM__TRY(velum__read_byte(r, out));
    if (velum__is_number(*out)) return 0;
    if (*out == 0x7b) return unsupported(r, at, "SIMD");
    if ((*out >= 0x68 && *out <= 0x74) || *out == 0x63 || *out == 0x64)
        return unsupported(r, at, "reference type");
    return malformed(r, at, "malformed value type");
}

int velum__read_zero(velum__reader *r) {
    const uint8_t *at = r->at;
    uint32_t index;
    VELUM__TRY(velum__read_u32(r, &index));
    if (index != 0) return unsupported(r, at, "more than one table or memory");
    if (r->at - at != 1)
        return unsupported(r, at, "table or memory index in a long form: compile for -mcpu=mvp");
    return 0;
}

/* No maximum is UINT64_MAX. */
static int read_limits(velum__reader *r, uint32_t *minimum, uint64_t *maximum) {
    const uint8_t *at = r->at;
    uint8_t flags;
    VELUM__TRY(velum__read_byte(r, &flags));
    if (flags > 15) return malformed(r, at, "malformed limits");
    if (flags > 1) return unsupported(r, at, "shared, 64-bit or custom-page memory or table");
    VELUM__TRY(velum__read_u32(r, minimum));
    *maximum = UINT64_MAX;
    if (flags == 1) {
        uint32_t value;
        VELUM__TRY(velum__read_u32(r, &value));
        *maximum = value;
    }
    if (*minimum > *maximum) return invalid(r, at, "size minimum must not be greater than maximum");
    return 0;
}

static int read_memory_type(velum__reader *r) {
    const uint8_t *at = r->at;
    uint32_t minimum = 0;
    uint64_t maximum = 0;
    VELUM__TRY(read_limits(r, &minimum, &maximum));
    if (minimum > MEMORY_PAGES_MAX || (maximum > MEMORY_PAGES_MAX && maximum != UINT64_MAX))
        return invalid(r, at, "memory size must be at most 65536 pages");
    return 0;
}

static int read_table_type(velum__reader *r, uint32_t *size) {
    const uint8_t *at = r->at;
    uint8_t type;
    uint64_t maximum;
    VELUM__TRY(velum__read_byte(r, &type));
    if (type == 0x40 || type == 0x6f || type == 0x63 || type == 0x64)
        return unsupported(r, at, "table of another kind than funcref");
    if (type != 0x70) return malformed(r, at, "malformed element type");
    VELUM__TRY(read_limits(r, size, &maximum));
    return *size > TABLE_ELEMENTS_MAX ? VELUM__REFUSE(r, at, TABLE) : 0;
}

/* The type of a global: its code, with VELUM__MUTABLE. */
static int read_global_type(velum__reader *r, uint8_t *type) {
    uint8_t mutability;
    VELUM__TRY(velum__read_type(r, type));
    const uint8_t *at = r->at;
    VELUM__TRY(velum__read_byte(r, &mutability));
    if (mutability > 1) return malformed(r, at, "malformed mutability");
    if (mutability == 1) *type |= VELUM__MUTABLE;
    return 0;
}

/* An instruction that later proposals allow in a constant expression. */
static bool is_later_constant(uint8_t op) {
    return (op >= 0x41 && op <= 0x44) || (op >= 0x6a && op <= 0x6c) || (op >= 0x7c && op <= 0x7e) ||
           op == 0x23 || op == 0xd0 || op == 0xd2 || op == 0xfb || op == 0xfd;
}

/* A constant expression of a type: one constant and the end. No imports means no imported globals,
 * the only ones that such an expression may name. *value is set for integers. */
static int read_const_expression(velum__reader *r, uint8_t type, int64_t *value) {
    static const uint8_t types[] = {VELUM_I32, VELUM_I64, VELUM_F32, VELUM_F64};
    const uint8_t *at = r->at;
    uint8_t op;
    VELUM__TRY(velum__read_byte(r, &op));
    if (op == 0x23)
        return invalid(r, at, "constant expression names a global that is not imported");
    if (op < 0x41 || op > 0x44)
        return is_later_constant(op) ? unsupported(r, at, "extended constant expression")
                                     : invalid(r, at, "constant expression required");
    if (op <= 0x42)
        VELUM__TRY(velum__read_signed(r, op == 0x41 ? 32 : 64, value));
    else
        VELUM__TRY(velum__skip(r, op == 0x43 ? 4 : 8));
    const uint8_t *end = r->at;
    uint8_t next;
    VELUM__TRY(velum__read_byte(r, &next));
    if (next != 0x0b)
        return is_later_constant(next) ? unsupported(r, end, "extended constant expression")
                                       : invalid(r, end, "constant expression required");
    return types[op - 0x41] == type ? 0 : invalid(r, at, "type mismatch");
}

/* ---- Type, Import, Function ---- */

static int read_function_type(velum__reader *r, velum__type *type) {
    const uint8_t *at = r->at;
    uint8_t form;
    uint32_t nparams, nresults;
    uint8_t value_type;
    VELUM__TRY(velum__read_byte(r, &form));
    if (form == 0x50 || (form >= 0x4d && form <= 0x4f) || (form >= 0x5c && form <= 0x5f))
        return unsupported(r, at, "garbage collection");
    if (form != 0x60) return malformed(r, at, "malformed function type");
    VELUM__TRY(velum__read_count(r, 1, &nparams));
    type->params = r->at;
    for (uint32_t i = 0; i < nparams; i++)
        VELUM__TRY(velum__read_type(r, &value_type));
    if (nparams > VELUM_WASM_PARAMS_MAX) return VELUM__REFUSE(r, at, PARAMETERS);
    type->nparams = (uint16_t)nparams;
    VELUM__TRY(velum__read_count(r, 1, &nresults));
    if (nresults > 1) return unsupported(r, at, "several results");
    type->result = 0;
    return nresults == 1 ? velum__read_type(r, &type->result) : 0;
}

static int section_type(velum__module *m, velum__reader *r) {
    const uint8_t *at = r->at;
    uint32_t count;
    VELUM__TRY(velum__read_count(r, 3, &count));
    if (count > TYPES_MAX) return VELUM__REFUSE(r, at, TYPES);
    if (count == 0) return 0;
    m->types = malloc(count * sizeof *m->types);
    if (m->types == NULL) return no_memory(r);
    for (; m->ntypes < count; m->ntypes++)
        VELUM__TRY(read_function_type(r, &m->types[m->ntypes]));
    return 0;
}

static int read_type_index(const velum__module *m, velum__reader *r, uint32_t *index) {
    const uint8_t *at = r->at;
    VELUM__TRY(velum__read_u32(r, index));
    return *index < m->ntypes ? 0 : invalid(r, at, "unknown type");
}

static int read_import(const velum__module *m, velum__reader *r) {
    const uint8_t *name;
    uint32_t size, ignored;
    uint8_t kind, type;
    VELUM__TRY(velum__read_name(r, &name, &size));
    VELUM__TRY(velum__read_name(r, &name, &size));
    const uint8_t *at = r->at;
    VELUM__TRY(velum__read_byte(r, &kind));
    switch (kind) {
    case VELUM_EXTERN_FUNCTION:
        return read_type_index(m, r, &ignored);
    case VELUM_EXTERN_TABLE:
        return read_table_type(r, &ignored);
    case VELUM_EXTERN_MEMORY:
        return read_memory_type(r);
    case VELUM_EXTERN_GLOBAL:
        return read_global_type(r, &type);
    case 4:
        return unsupported(r, at, "exception handling");
    default:
        return malformed(r, at, "malformed import kind");
    }
}

static int section_import(const velum__module *m, velum__reader *r) {
    uint32_t count;
    VELUM__TRY(velum__read_count(r, 4, &count));
    const uint8_t *at = r->at;
    for (uint32_t i = 0; i < count; i++)
        VELUM__TRY(read_import(m, r));
    if (count > 0 && velum__left(r) == 0)
        return velum__fail_at(r, at, VELUM_E_MODULE_IMPORT, "velum provides no imports");
    return 0;
}

static int section_function(velum__module *m, velum__reader *r) {
    const uint8_t *at = r->at;
    uint32_t count;
    VELUM__TRY(velum__read_count(r, 1, &count));
    if (count > FUNCTIONS_MAX) return VELUM__REFUSE(r, at, FUNCTIONS);
    if (count == 0) return 0;
    m->functions = malloc(count * sizeof *m->functions);
    if (m->functions == NULL) return no_memory(r);
    for (; m->nfunctions < count; m->nfunctions++) {
        uint32_t index;
        VELUM__TRY(read_type_index(m, r, &index));
        m->functions[m->nfunctions] = (uint16_t)index;
    }
    return 0;
}

/* ---- Table, Memory, Global ---- */

static int section_table(velum__module *m, velum__reader *r) {
    const uint8_t *at = r->at;
    uint32_t count;
    VELUM__TRY(velum__read_count(r, 3, &count));
    if (count > 1) return unsupported(r, at, "more than one table or memory");
    m->has_table = count == 1;
    return count == 1 ? read_table_type(r, &m->table_size) : 0;
}

static int section_memory(velum__module *m, velum__reader *r) {
    const uint8_t *at = r->at;
    uint32_t count;
    VELUM__TRY(velum__read_count(r, 2, &count));
    if (count > 1) return unsupported(r, at, "more than one table or memory");
    m->has_memory = count == 1;
    return count == 1 ? read_memory_type(r) : 0;
}

static int section_global(velum__module *m, velum__reader *r) {
    const uint8_t *at = r->at;
    uint32_t count;
    VELUM__TRY(velum__read_count(r, 5, &count));
    if (count > GLOBALS_MAX) return VELUM__REFUSE(r, at, GLOBALS);
    if (count == 0) return 0;
    m->globals = malloc(count);
    if (m->globals == NULL) return no_memory(r);
    for (; m->nglobals < count; m->nglobals++) {
        int64_t value;
        uint8_t type;
        VELUM__TRY(read_global_type(r, &type));
        m->globals[m->nglobals] = type;
        VELUM__TRY(read_const_expression(r, (uint8_t)(type & ~VELUM__MUTABLE), &value));
    }
    return 0;
}

/* ---- Export, Start ---- */

typedef struct {
    const uint8_t *bytes;
    uint32_t size;
} export_name;

static int compare_names(const export_name *a, const export_name *b) {
    if (a->size != b->size) return a->size < b->size ? -1 : 1;
    return memcmp(a->bytes, b->bytes, a->size);
}

static void sift_down(export_name *names, uint32_t root, uint32_t n) {
    for (;;) {
        uint32_t child = 2 * root + 1;
        if (child >= n) return;
        if (child + 1 < n && compare_names(&names[child], &names[child + 1]) < 0) child++;
        if (compare_names(&names[root], &names[child]) >= 0) return;
        export_name swap = names[root];
        names[root] = names[child];
        names[child] = swap;
        root = child;
    }
}

/* Heapsort: n log n whatever the names are, in place and without recursion. */
static bool has_duplicate(export_name *names, uint32_t n) {
    for (uint32_t root = n / 2; root-- > 0;)
        sift_down(names, root, n);
    for (uint32_t last = n; last-- > 1;) {
        export_name largest = names[0];
        names[0] = names[last];
        names[last] = largest;
        sift_down(names, 0, last);
        if (last + 1 < n && compare_names(&names[last], &names[last + 1]) == 0) return true;
    }
    return n > 1 && compare_names(&names[0], &names[1]) == 0;
}

static int read_export(const velum__module *m, velum__reader *r, export_name *exported) {
    static const char *const unknown[] = {"unknown function", "unknown table", "unknown memory",
                                          "unknown global"};
    const uint32_t counts[] = {m->nfunctions, m->has_table, m->has_memory, m->nglobals};
    uint8_t kind;
    uint32_t index;
    VELUM__TRY(velum__read_name(r, &exported->bytes, &exported->size));
    const uint8_t *at = r->at;
    VELUM__TRY(velum__read_byte(r, &kind));
    if (kind == 4) return unsupported(r, at, "exception handling");
    if (kind > VELUM_EXTERN_GLOBAL) return malformed(r, at, "malformed export kind");
    VELUM__TRY(velum__read_u32(r, &index));
    return index < counts[kind] ? 0 : invalid(r, at, unknown[kind]);
}

static int section_export(const velum__module *m, velum__reader *r) {
    const uint8_t *at = r->at;
    uint32_t count;
    VELUM__TRY(velum__read_count(r, 3, &count));
    if (count > EXPORTS_MAX) return VELUM__REFUSE(r, at, EXPORTS);
    if (count == 0) return 0;
    export_name *names = malloc(count * sizeof *names);
    if (names == NULL) return no_memory(r);
    int err = 0;
    for (uint32_t i = 0; i < count && err == 0; i++)
        err = read_export(m, r, &names[i]);
    if (err == 0 && has_duplicate(names, count)) err = invalid(r, at, "duplicate export name");
    free(names);
    return err;
}

static int section_start(velum__module *m, velum__reader *r) {
    const uint8_t *at = r->at;
    uint32_t index;
    m->has_state = true;
    VELUM__TRY(velum__read_u32(r, &index));
    if (index >= m->nfunctions) return invalid(r, at, "unknown function");
    const velum__type *type = &m->types[m->functions[index]];
    return type->nparams == 0 && type->result == 0 ? 0
                                                   : invalid(r, at, "start function has a type");
}

/* ---- Element, Data ---- */

/* The start of an active segment: flags 0, then its offset. `flags_max` is the largest that later
 * proposals define. */
static int read_segment(velum__reader *r, uint32_t flags_max, uint32_t *offset) {
    const uint8_t *at = r->at;
    uint32_t flags;
    int64_t value;
    VELUM__TRY(velum__read_u32(r, &flags));
    if (flags > flags_max) return malformed(r, at, "malformed segment");
    if (flags != 0) return unsupported(r, at, "passive or declared segment, or one with an index");
    VELUM__TRY(read_const_expression(r, VELUM_I32, &value));
    *offset = (uint32_t)value;
    return 0;
}

static int read_elements(const velum__module *m, velum__reader *r) {
    const uint8_t *start = r->at;
    uint32_t offset, count;
    VELUM__TRY(read_segment(r, 7, &offset));
    if (!m->has_table) return invalid(r, start, "unknown table");
    VELUM__TRY(velum__read_count(r, 1, &count));
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *at = r->at;
        uint32_t index;
        VELUM__TRY(velum__read_u32(r, &index));
        if (index >= m->nfunctions) return invalid(r, at, "unknown function");
    }
    if ((uint64_t)offset + count > m->table_size) return VELUM__REFUSE(r, start, ELEMENTS);
    return 0;
}

static int section_element(const velum__module *m, velum__reader *r) {
    const uint8_t *at = r->at;
    uint32_t count;
    VELUM__TRY(velum__read_count(r, 2, &count));
    if (count > SEGMENTS_MAX) return VELUM__REFUSE(r, at, SEGMENTS);
    for (uint32_t i = 0; i < count; i++)
        VELUM__TRY(read_elements(m, r));
    return 0;
}

static int read_data(const velum__module *m, velum__reader *r) {
    const uint8_t *start = r->at;
    uint32_t offset, size;
    VELUM__TRY(read_segment(r, 2, &offset));
    if (!m->has_memory) return invalid(r, start, "unknown memory");
    VELUM__TRY(velum__read_u32(r, &size));
    return velum__skip(r, size);
}

static int section_data(const velum__module *m, velum__reader *r) {
    const uint8_t *at = r->at;
    uint32_t count;
    VELUM__TRY(velum__read_count(r, 2, &count));
    if (m->has_data_count && m->data_count != count)
        return malformed(r, at, "data count and data section have inconsistent lengths");
    if (count > SEGMENTS_MAX) return VELUM__REFUSE(r, at, SEGMENTS);
    for (uint32_t i = 0; i < count; i++)
        VELUM__TRY(read_data(m, r));
    return 0;
}

/* ---- the module ---- */

static int read_section(velum__module *m, velum__reader *r, uint8_t id) {
    const uint8_t *name;
    uint32_t size;
    switch (id) {
    case SECTION_CUSTOM:
        VELUM__TRY(velum__read_name(r, &name, &size));
        r->at = r->end;
        return 0;
    case SECTION_TYPE:
        return section_type(m, r);
    case SECTION_IMPORT:
        return section_import(m, r);
    case SECTION_FUNCTION:
        return section_function(m, r);
    case SECTION_TABLE:
        return section_table(m, r);
    case SECTION_MEMORY:
        return section_memory(m, r);
    case SECTION_GLOBAL:
        return section_global(m, r);
    case SECTION_EXPORT:
        return section_export(m, r);
    case SECTION_START:
        return section_start(m, r);
    case SECTION_ELEMENT:
        return section_element(m, r);
    case SECTION_CODE:
        return velum__validate_code(m, r);
    case SECTION_DATA:
        return section_data(m, r);
    default: /* SECTION_DATA_COUNT: read_sections lets no other pass */
        m->has_data_count = true;
        return velum__read_u32(r, &m->data_count);
    }
}

static int read_sections(velum__module *m, velum__reader *r) {
    /* The place of each section, by its id, in the order that a module keeps. */
    static const uint8_t places[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 10};
    uint32_t seen = 0; /* one bit a section id */
    uint8_t last = 0;
    while (velum__left(r) > 0) {
        const uint8_t *at = r->at;
        velum__reader part;
        uint8_t id;
        uint32_t size;
        VELUM__TRY(velum__read_byte(r, &id));
        VELUM__TRY(velum__read_u32(r, &size));
        VELUM__TRY(velum__read_part(r, size, &part));
        if (id == SECTION_TAG) return unsupported(r, at, "exception handling");
        if (id > SECTION_DATA_COUNT) return malformed(r, at, "malformed section id");
        if (id != SECTION_CUSTOM && places[id] <= last)
            return malformed(r, at, "unexpected section: out of order or twice");
        if (id != SECTION_CUSTOM) last = places[id];
        seen |= 1u << id;
        VELUM__TRY(read_section(m, &part, id));
        if (velum__left(&part) > 0) return malformed(r, part.at, "section size mismatch");
    }
    if (m->nfunctions > 0 && (seen & 1u << SECTION_CODE) == 0)
        return malformed(r, r->at, "function and code section have inconsistent lengths");
    if (m->data_count > 0 && (seen & 1u << SECTION_DATA) == 0)
        return malformed(r, r->at, "data count and data section have inconsistent lengths");
    return 0;
}

static int read_module(velum__module *m, velum__reader *r, size_t n) {
    static const uint8_t header[8] = {0, 'a', 's', 'm', 1, 0, 0, 0};
    if (n > VELUM_MODULE_BYTES_MAX)
        return velum__fail(r, VELUM_E_TOO_LARGE, "module larger than the limit");
    if (n < 4 || memcmp(r->at, header, 4) != 0)
        return malformed(r, r->at, "magic header not detected");
    if (n < 8 || memcmp(r->at + 4, header + 4, 4) != 0)
        return malformed(r, r->at + 4, "unknown binary version");
    r->at += 8;
    return read_sections(m, r);
}

/* What velum_validate says, and whether a valid module has state. */
static int validate(const uint8_t *bytes, size_t n, velum_diagnosis *why, bool *has_state) {
    velum_diagnosis fault = {0, "", UINT32_MAX};
    velum__module module;
    velum__reader r = {bytes, bytes, bytes, &fault};
    memset(&module, 0, sizeof module);
    if (n <= VELUM_MODULE_BYTES_MAX && n > 0) r.end = bytes + n;
    int err = read_module(&module, &r, n);
    free(module.types);
    free(module.functions);
    free(module.globals);
    if (err != 0 && why != NULL) *why = fault;
    *has_state = module.has_state;
    return err;
}

int velum_validate(const uint8_t *bytes, size_t n, velum_diagnosis *why) {
    bool ignored;
    return validate(bytes, n, why, &ignored);
}

bool velum_module_has_state(const uint8_t *bytes, size_t n) {
    bool has_state;
    return validate(bytes, n, NULL, &has_state) != 0 || has_state;
}
