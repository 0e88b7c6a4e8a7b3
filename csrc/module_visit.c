/* module_visit.c: what a module imports and exports.
 *
 * Owns: velum_module_visit and velum_module_export. Refuses to know: whether the module is valid,
 * and code. How: a first walk over the sections notes where each function, table, memory and global
 * is described; then the imports and exports are told one by one. It is more lenient than the
 * validator on purpose: `velum inspect` shows why a module is refused, so features that velum does
 * not run can be read too.
 */
#include "validate_reader.h"

#include <stdlib.h>
#include <string.h>

enum { KINDS = 4 };

/* Most entries of an index space: the limit that browsers share (WebAssembly JavaScript Interface,
 * "implementation-defined limits"). It bounds the memory that hostile bytes can claim. */
enum { ENTRIES_MAX = 1000000 };

/* One index space, or the types: where each entry's description begins. */
typedef struct {
    const uint8_t **at;
    uint32_t count, room;
} space;

typedef struct {
    space types;
    space externs[KINDS]; /* imports, then the module's own; a function's is its type's number */
    velum__reader sections[12]; /* by id; at is NULL for one that is absent */
    velum__reader all;
} outline;

typedef int (*visitor)(void *user, const velum_extern *e);

static int malformed(velum__reader *r, const char *text) {
    return velum__fail(r, VELUM_E_MODULE_MALFORMED, text);
}

static int note(space *s, const uint8_t *at) {
    if (s->count == ENTRIES_MAX) return VELUM_E_MODULE_MALFORMED;
    if (s->count == s->room) {
        uint32_t room = s->room == 0 ? 16 : s->room * 2;
        const uint8_t **grown = realloc(s->at, room * sizeof *grown);
        if (grown == NULL) return VELUM_E_NOMEM;
        s->at = grown;
        s->room = room;
    }
    s->at[s->count++] = at;
    return 0;
}

/* ---- descriptions ---- */

static int read_value_type(velum__reader *r, uint8_t *out) {
    int64_t heap_type;
    VELUM__TRY(velum__read_byte(r, out));
    /* A reference with an explicit heap type. */
    return *out == 0x63 || *out == 0x64 ? velum__read_signed(r, 33, &heap_type) : 0;
}

static int read_limits(velum__reader *r, velum_extern *e) {
    uint8_t flags;
    VELUM__TRY(velum__read_byte(r, &flags));
    VELUM__TRY(velum__read_u32(r, &e->minimum));
    e->maximum = UINT32_MAX;
    return (flags & 1) != 0 ? velum__read_u32(r, &e->maximum) : 0;
}

/* Reads a table's, memory's or global's description into `e`. */
static int describe(velum__reader *r, uint8_t kind, velum_extern *e) {
    uint8_t byte;
    switch (kind) {
    case VELUM_EXTERN_TABLE:
        VELUM__TRY(read_value_type(r, &byte));
        if (byte == 0x40) return malformed(r, "table with an initial value");
        return read_limits(r, e);
    case VELUM_EXTERN_MEMORY:
        return read_limits(r, e);
    default:
        VELUM__TRY(read_value_type(r, &e->value_type));
        VELUM__TRY(velum__read_byte(r, &byte));
        e->mutable_ = byte == 1;
        return byte <= 1 ? 0 : malformed(r, "malformed mutability");
    }
}

/* One list of a function type: *fits is left alone, or cleared when `room` is too little for it or
 * a value is not a number. */
static int read_values(velum__reader *r, uint8_t *values, uint8_t *size, uint32_t room,
                       bool *fits) {
    uint32_t count;
    VELUM__TRY(velum__read_count(r, 1, &count));
    if (count > room) *fits = false;
    for (uint32_t i = 0; i < count; i++) {
        uint8_t type;
        VELUM__TRY(read_value_type(r, &type));
        if (type < VELUM_F64 || type > VELUM_I32) *fits = false;
        if (i < room) values[i] = type;
    }
    *size = (uint8_t)(count < room ? count : room);
    return 0;
}

static int read_signature(velum__reader *r, velum_signature *s, bool *callable) {
    uint8_t form;
    memset(s, 0, sizeof *s);
    *callable = true;
    VELUM__TRY(velum__read_byte(r, &form));
    if (form != 0x60) return malformed(r, "malformed function type");
    VELUM__TRY(read_values(r, s->params, &s->nparams, VELUM_TYPE_VALUES_MAX, callable));
    return read_values(r, &s->result, &s->nresults, 1, callable);
}

/* ---- the first walk ---- */

static int note_types(outline *o) {
    velum__reader *r = &o->sections[1];
    uint32_t count;
    velum_signature ignored;
    bool callable;
    VELUM__TRY(velum__read_count(r, 3, &count));
    for (; count > 0; count--) {
        VELUM__TRY(note(&o->types, r->at));
        VELUM__TRY(read_signature(r, &ignored, &callable));
    }
    return 0;
}

/* A function's entry: where its type is described. */
static int note_function(outline *o, velum__reader *r) {
    uint32_t type;
    VELUM__TRY(velum__read_u32(r, &type));
    if (type >= o->types.count) return malformed(r, "unknown type");
    return note(&o->externs[VELUM_EXTERN_FUNCTION], o->types.at[type]);
}

/* An import's kind and description: notes it, and reads it into `e`. */
static int note_import(outline *o, velum__reader *r, velum_extern *e) {
    VELUM__TRY(velum__read_byte(r, &e->kind));
    if (e->kind >= KINDS) return malformed(r, "malformed import kind");
    e->index = o->externs[e->kind].count;
    if (e->kind == VELUM_EXTERN_FUNCTION) return note_function(o, r);
    VELUM__TRY(note(&o->externs[e->kind], r->at));
    return describe(r, e->kind, e);
}

static int read_name(velum__reader *r, const char **name, uint32_t *size) {
    const uint8_t *bytes;
    VELUM__TRY(velum__read_name(r, &bytes, size));
    *name = (const char *)bytes;
    return 0;
}

/* Reads the imports, notes them, and tells them to `visit`. They come before all else of an index
 * space, and no later section bears on them. */
static int visit_imports(outline *o, visitor visit, void *user) {
    velum__reader *r = &o->sections[2];
    uint32_t count;
    VELUM__TRY(velum__read_count(r, 4, &count));
    for (; count > 0; count--) {
        velum_extern e;
        memset(&e, 0, sizeof e);
        e.import = true;
        VELUM__TRY(read_name(r, &e.module, &e.module_size));
        VELUM__TRY(read_name(r, &e.name, &e.name_size));
        VELUM__TRY(note_import(o, r, &e));
        if (e.kind == VELUM_EXTERN_FUNCTION) {
            velum__reader type = *r;
            type.at = o->externs[VELUM_EXTERN_FUNCTION].at[e.index];
            VELUM__TRY(read_signature(&type, &e.signature, &e.callable));
        }
        VELUM__TRY(visit(user, &e));
    }
    return 0;
}

/* Passes a constant expression, extended ones included. */
static int skip_expression(velum__reader *r) {
    for (;;) {
        uint8_t op;
        uint32_t index;
        int64_t value;
        VELUM__TRY(velum__read_byte(r, &op));
        if (op == 0x0b) return 0;
        if (op == 0x41 || op == 0x42 || op == 0xd0)
            VELUM__TRY(velum__read_signed(r, op == 0x41 ? 32 : op == 0x42 ? 64 : 33, &value));
        else if (op == 0x43 || op == 0x44)
            VELUM__TRY(velum__skip(r, op == 0x43 ? 4 : 8));
        else if (op == 0x23 || op == 0xd2)
            VELUM__TRY(velum__read_u32(r, &index));
        else if (!((op >= 0x6a && op <= 0x6c) || (op >= 0x7c && op <= 0x7e)))
            return malformed(r, "constant expression required");
    }
}

/* The module's own functions, tables, memories or globals. */
static int note_section(outline *o, uint8_t section, uint8_t kind) {
    velum__reader *r = &o->sections[section];
    uint32_t count;
    if (r->at == NULL) return 0;
    VELUM__TRY(velum__read_count(r, 1, &count));
    for (; count > 0; count--) {
        velum_extern ignored;
        if (kind == VELUM_EXTERN_FUNCTION) {
            VELUM__TRY(note_function(o, r));
            continue;
        }
        VELUM__TRY(note(&o->externs[kind], r->at));
        VELUM__TRY(describe(r, kind, &ignored));
        if (kind == VELUM_EXTERN_GLOBAL) VELUM__TRY(skip_expression(r));
    }
    return 0;
}

static int find_sections(outline *o) {
    static const uint8_t header[8] = {0, 'a', 's', 'm', 1, 0, 0, 0};
    velum__reader *r = &o->all;
    if (velum__left(r) < sizeof header || memcmp(r->at, header, sizeof header) != 0)
        return malformed(r, "magic header not detected");
    r->at += sizeof header;
    while (velum__left(r) > 0) {
        velum__reader part;
        uint8_t id;
        uint32_t size;
        VELUM__TRY(velum__read_byte(r, &id));
        VELUM__TRY(velum__read_u32(r, &size));
        VELUM__TRY(velum__read_part(r, size, &part));
        if (id == 0 || id >= sizeof o->sections / sizeof o->sections[0]) continue;
        if (o->sections[id].at != NULL) return malformed(r, "section twice");
        o->sections[id] = part;
    }
    return 0;
}

/* ---- telling ---- */

static int visit_exports(outline *o, visitor visit, void *user) {
    velum__reader *r = &o->sections[7];
    uint32_t count;
    VELUM__TRY(velum__read_count(r, 3, &count));
    for (; count > 0; count--) {
        velum_extern e;
        memset(&e, 0, sizeof e);
        VELUM__TRY(read_name(r, &e.name, &e.name_size));
        VELUM__TRY(velum__read_byte(r, &e.kind));
        VELUM__TRY(velum__read_u32(r, &e.index));
        if (e.kind >= KINDS || e.index >= o->externs[e.kind].count)
            return malformed(r, "unknown export");
        velum__reader at = o->all;
        at.at = o->externs[e.kind].at[e.index];
        if (e.kind == VELUM_EXTERN_FUNCTION)
            VELUM__TRY(read_signature(&at, &e.signature, &e.callable));
        else
            VELUM__TRY(describe(&at, e.kind, &e));
        VELUM__TRY(visit(user, &e));
    }
    return 0;
}

static int visit_all(outline *o, visitor visit, void *user) {
    VELUM__TRY(find_sections(o));
    if (o->sections[1].at != NULL) VELUM__TRY(note_types(o));
    if (o->sections[2].at != NULL) VELUM__TRY(visit_imports(o, visit, user));
    VELUM__TRY(note_section(o, 3, VELUM_EXTERN_FUNCTION));
    VELUM__TRY(note_section(o, 4, VELUM_EXTERN_TABLE));
    VELUM__TRY(note_section(o, 5, VELUM_EXTERN_MEMORY));
    VELUM__TRY(note_section(o, 6, VELUM_EXTERN_GLOBAL));
    return o->sections[7].at != NULL ? visit_exports(o, visit, user) : 0;
}

int velum_module_visit(const uint8_t *bytes, size_t n, visitor visit, void *user) {
    velum_diagnosis fault = {0, "", UINT32_MAX};
    outline o;
    if (n == 0 || n > VELUM_MODULE_BYTES_MAX) return VELUM_E_MODULE_MALFORMED;
    memset(&o, 0, sizeof o);
    o.all.start = o.all.at = bytes;
    o.all.end = bytes + n;
    o.all.fault = &fault;
    int err = visit_all(&o, visit, user);
    free(o.types.at);
    for (int kind = 0; kind < KINDS; kind++)
        free(o.externs[kind].at);
    return err;
}

/* ---- one export ---- */

typedef struct {
    const char *name;
    size_t name_size;
    velum_signature *out;
    int answer;
} search;

static int stop_at_export(void *user, const velum_extern *e) {
    search *s = user;
    if (e->import || e->kind != VELUM_EXTERN_FUNCTION || e->name_size != s->name_size) return 0;
    if (s->name_size > 0 && memcmp(e->name, s->name, s->name_size) != 0) return 0;
    s->answer = e->callable ? 0 : VELUM_E_SIGNATURE;
    *s->out = e->signature;
    return 1;
}

int velum_module_export(const uint8_t *bytes, size_t n, const char *name, size_t name_size,
                        velum_signature *out) {
    search s = {name, name_size, out, VELUM_E_NO_EXPORT};
    int err = velum_module_visit(bytes, n, stop_at_export, &s);
    return err < 0 ? err : s.answer;
}
