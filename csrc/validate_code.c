/* validate_code.c: the bodies of functions.
 *
 * Owns: the types and immediates of instructions. Refuses to know: sections other than Code, where
 * a module's types and indices come from. How: the specification's validation algorithm
 * (WebAssembly Core Specification, appendix "Validation Algorithm"): one pass, a stack of operand
 * types and a stack of open blocks, both of a fixed size that the rules of ours guarantee, so that
 * neither recursion nor a growing allocation is needed and the time is linear in the code's size.
 */
#include "validate_internal.h"

#include <stdlib.h>
#include <string.h>

/* A body's parameters are among its locals, and heights are kept in 16 bits. */
#if VELUM_WASM_PARAMS_MAX > VELUM_WASM_LOCALS_MAX || VELUM_WASM_HEIGHT_MAX > 65535
#error "VELUM_WASM_LOCALS_MAX or VELUM_WASM_HEIGHT_MAX does not fit"
#endif

/* The type of an operand that unreachable code takes from an empty stack: fits every type. */
#define UNKNOWN 0u

enum {
    OP_UNREACHABLE = 0x00,
    OP_NOP = 0x01,
    OP_BLOCK = 0x02,
    OP_LOOP = 0x03,
    OP_IF = 0x04,
    OP_ELSE = 0x05,
    OP_END = 0x0b,
    OP_BR = 0x0c,
    OP_BR_IF = 0x0d,
    OP_BR_TABLE = 0x0e,
    OP_RETURN = 0x0f,
    OP_CALL = 0x10,
    OP_CALL_INDIRECT = 0x11,
    OP_DROP = 0x1a,
    OP_SELECT = 0x1b,
    OP_LOCAL_GET = 0x20,
    OP_LOCAL_SET = 0x21,
    OP_LOCAL_TEE = 0x22,
    OP_GLOBAL_GET = 0x23,
    OP_GLOBAL_SET = 0x24,
    OP_LOAD_FIRST = 0x28,
    OP_STORE_FIRST = 0x36,
    OP_STORE_LAST = 0x3e,
    OP_MEMORY_SIZE = 0x3f,
    OP_MEMORY_GROW = 0x40,
    OP_I32_CONST = 0x41,
    OP_I64_CONST = 0x42,
    OP_F32_CONST = 0x43,
    OP_F64_CONST = 0x44,
    OP_NUMERIC_FIRST = 0x45,
    OP_NUMERIC_LAST = 0xc4,
    OP_PREFIX = 0xfc,
    OP_FC_SATURATE_LAST = 7,
    OP_FC_MEMORY_COPY = 10,
    OP_FC_MEMORY_FILL = 11,
    OP_FC_TABLE_LAST = 17
};

/* An open block. The function itself is the outermost, with opcode OP_BLOCK. */
typedef struct {
    uint8_t opcode;   /* OP_BLOCK, OP_LOOP, OP_IF, or OP_ELSE after an else */
    uint8_t result;   /* type code, 0: none */
    bool unreachable; /* the specification's flag: the rest of the block cannot run */
    bool dead;        /* this block or one around it is unreachable: wasm3 emits no branch */
    bool
        float_below; /* what wasm3 keeps below the block's operands is a float's place: see carry */
    uint16_t base;   /* operands below the block's own */
    uint16_t room;   /* most operands, the function's all together, while in this block */
} frame;

typedef struct {
    const velum__module *module;
    velum__reader code; /* the body's bytes */
    const uint8_t *at;  /* first byte of the present instruction */
    uint32_t nlocals, height, nframes;
    bool changes_state; /* so has an instruction of this body, or of one before */
    frame *top;         /* the innermost block */
    uint8_t operands[VELUM_WASM_HEIGHT_MAX];
    uint8_t locals[VELUM_WASM_LOCALS_MAX];
    frame frames[VELUM_WASM_NESTING_MAX + 1];
} body;

/* ---- faults ---- */

static int invalid(body *b, const char *text) {
    return velum__fail_at(&b->code, b->at, VELUM_E_MODULE_INVALID, text);
}

static int mismatch(body *b) {
    return invalid(b, "type mismatch");
}

/* An opcode that no proposal defines is malformed; one that we do not offer is unsupported. */
static int unknown_opcode(body *b, uint8_t op) {
    static const struct {
        uint8_t first, last;
        const char *text;
    } later[] = {
        {0x06, 0x0a, "exception handling"},
        {0x12, 0x13, "tail call"},
        {0x14, 0x15, "typed function reference"},
        {0x18, 0x19, "exception handling"},
        {0x1c, 0x1c, "select with a type"},
        {0x1f, 0x1f, "exception handling"},
        {0x25, 0x26, "table access"},
        {0xd0, 0xd6, "reference type"},
        {0xfb, 0xfb, "garbage collection"},
        {0xfd, 0xfd, "SIMD"},
        {0xfe, 0xfe, "threads"},
    };
    for (size_t i = 0; i < sizeof later / sizeof later[0]; i++)
        if (op >= later[i].first && op <= later[i].last)
            return velum__fail_at(&b->code, b->at, VELUM_E_MODULE_UNSUPPORTED, later[i].text);
    return velum__fail_at(&b->code, b->at, VELUM_E_MODULE_MALFORMED, "unknown opcode");
}

/* ---- the operand stack ---- */

static inline int push(body *b, uint8_t type) {
    if (b->height >= b->top->room) return VELUM__REFUSE(&b->code, b->at, STACK);
    b->operands[b->height++] = type;
    return 0;
}

static inline int pop_any(body *b, uint8_t *type) {
    if (b->height == b->top->base) {
        *type = UNKNOWN;
        return b->top->unreachable ? 0 : mismatch(b);
    }
    *type = b->operands[--b->height];
    return 0;
}

static inline int pop(body *b, uint8_t wanted) {
    uint8_t found = UNKNOWN;
    VELUM__TRY(pop_any(b, &found));
    return found == wanted || found == UNKNOWN || wanted == UNKNOWN ? 0 : mismatch(b);
}

static inline int pop_result(body *b, uint8_t type) {
    return type == 0 ? 0 : pop(b, type);
}

static inline int push_result(body *b, uint8_t type) {
    return type == 0 ? 0 : push(b, type);
}

/* The rest of the block cannot run: its operands go, and any may be taken. */
static void make_unreachable(body *b) {
    b->height = b->top->base;
    b->top->unreachable = true;
    b->top->dead = true;
}

/* ---- blocks ---- */

static bool is_float(uint8_t type) {
    return type == VELUM_F32 || type == VELUM_F64;
}

static int open_block(body *b, uint8_t opcode, uint8_t result) {
    const frame *outer = b->top;
    frame *f = &b->frames[b->nframes];
    /* wasm3 keeps an entry of its stack for the result while the block is open. */
    uint32_t entry = result != 0 ? 1u : 0u;
    if (b->nframes > VELUM_WASM_NESTING_MAX) return VELUM__REFUSE(&b->code, b->at, NESTING);
    if (b->height + entry > outer->room) return VELUM__REFUSE(&b->code, b->at, STACK);
    f->opcode = opcode;
    f->result = result;
    f->unreachable = false;
    f->dead = outer->dead;
    f->float_below =
        result != 0 ? is_float(result) : b->height == outer->base && outer->float_below;
    f->base = (uint16_t)b->height;
    f->room = (uint16_t)(outer->room - entry);
    b->top = f;
    b->nframes++;
    return 0;
}

static void open_function(body *b, uint8_t result) {
    b->top = &b->frames[0];
    memset(b->top, 0, sizeof *b->top);
    b->top->opcode = OP_BLOCK;
    b->top->result = result;
    b->top->room = (uint16_t)(VELUM_WASM_HEIGHT_MAX - b->nlocals);
    b->nframes = 1;
    b->height = 0;
}

/* The block's result is there, and nothing else. */
static int check_block_end(body *b) {
    VELUM__TRY(pop_result(b, b->top->result));
    return b->height == b->top->base ? 0 : invalid(b, "type mismatch: values left at end of block");
}

static int on_else(body *b) {
    if (b->top->opcode != OP_IF)
        return velum__fail_at(&b->code, b->at, VELUM_E_MODULE_MALFORMED, "else without if");
    VELUM__TRY(check_block_end(b));
    b->top->opcode = OP_ELSE;
    b->top->unreachable = false;
    b->top->dead = b->top[-1].dead;
    return 0;
}

static int on_end(body *b) {
    uint8_t result = b->top->result;
    VELUM__TRY(check_block_end(b));
    if (b->top->opcode == OP_IF && result != 0)
        return invalid(b, "type mismatch: if with a result but no else");
    b->nframes--;
    if (b->nframes == 0) return 0;
    b->top--;
    return push_result(b, result);
}

static int on_block(body *b, uint8_t op) {
    uint8_t result = 0;
    if (b->code.at < b->code.end && *b->code.at == 0x40) {
        b->code.at++;
    } else if (b->code.at < b->code.end && *b->code.at > 0x40 && *b->code.at < 0x80) {
        VELUM__TRY(velum__read_type(&b->code, &result));
    } else {
        int64_t index; /* of a type with parameters or several results */
        VELUM__TRY(velum__read_signed(&b->code, 33, &index));
        return index >= 0 ? velum__fail_at(&b->code, b->at, VELUM_E_MODULE_UNSUPPORTED,
                                           "multi-value block")
                          : velum__fail_at(&b->code, b->at, VELUM_E_MODULE_MALFORMED,
                                           "unknown block type");
    }
    if (op == OP_IF) VELUM__TRY(pop(b, VELUM_I32));
    return open_block(b, op, result);
}

/* ---- branches ---- */

static int read_label(body *b, const frame **target, uint8_t *type) {
    uint32_t depth;
    VELUM__TRY(velum__read_u32(&b->code, &depth));
    if (depth >= b->nframes) return invalid(b, "unknown label");
    *target = b->top - depth;
    *type = (*target)->opcode == OP_LOOP ? 0 : (*target)->result;
    return 0;
}

/* The rule BRANCH. wasm3's ResolveBlockResults moves a float result into its register and then,
 * since it has not lowered its count of values, also copies the stack entry *below* the float to
 * the target's result place: to the slot number that stands for the register, 60002, far outside
 * the stack. That copy is left out only when the entry below is such a place itself. And at a br_if
 * it may move another float out of the register on the taken path alone, so that the path not taken
 * reads a slot that was never written. So a branch that runs may carry a float only where neither
 * can happen: no operand between the float and the nearest result place, and that place a float's.
 * A branch to the function's own label returns, in other code. */
static int carry(body *b, const frame *target, uint8_t type) {
    if (!is_float(type) || target == b->frames || b->top->dead) return 0;
    if (b->height == b->top->base + 1u && b->top->float_below) return 0;
    return VELUM__REFUSE(&b->code, b->at, BRANCH);
}

static int on_br(body *b) {
    const frame *target = NULL;
    uint8_t type = 0;
    VELUM__TRY(read_label(b, &target, &type));
    VELUM__TRY(carry(b, target, type));
    VELUM__TRY(pop_result(b, type));
    /* After a branch to a loop wasm3 does not unwind its stack before the block's end. */
    if (target->opcode == OP_LOOP)
        b->top->room = (uint16_t)(b->top->room - (b->height - b->top->base));
    make_unreachable(b);
    return 0;
}

static int on_br_if(body *b) {
    const frame *target = NULL;
    uint8_t type = 0;
    VELUM__TRY(read_label(b, &target, &type));
    VELUM__TRY(pop(b, VELUM_I32));
    VELUM__TRY(carry(b, target, type));
    VELUM__TRY(pop_result(b, type));
    return push_result(b, type);
}

static int on_br_table(body *b) {
    uint32_t count;
    bool has_value = false;
    VELUM__TRY(velum__read_count(&b->code, 1, &count));
    VELUM__TRY(pop(b, VELUM_I32));
    for (uint32_t i = 0; i <= count; i++) { /* the default label comes last */
        const frame *target = NULL;
        uint8_t type = 0;
        VELUM__TRY(read_label(b, &target, &type));
        if (i > 0 && (type != 0) != has_value)
            return invalid(b, "type mismatch: labels of br_table differ");
        has_value = type != 0;
        VELUM__TRY(carry(b, target, type));
        /* The labels' types may differ where the operand's is unknown: look, do not take. */
        uint32_t height = b->height;
        VELUM__TRY(pop_result(b, type));
        b->height = height;
    }
    make_unreachable(b);
    return 0;
}

static int on_return(body *b) {
    VELUM__TRY(pop_result(b, b->frames[0].result));
    make_unreachable(b);
    return 0;
}

/* ---- calls ---- */

static int call_type(body *b, const velum__type *type) {
    for (uint32_t i = type->nparams; i-- > 0;) {
        /* Nothing more can differ; and the time stays linear in the code. */
        if (b->height == b->top->base && b->top->unreachable) break;
        VELUM__TRY(pop(b, type->params[i]));
    }
    return push_result(b, type->result);
}

static int on_call(body *b) {
    uint32_t index;
    VELUM__TRY(velum__read_u32(&b->code, &index));
    if (index >= b->module->nfunctions) return invalid(b, "unknown function");
    return call_type(b, &b->module->types[b->module->functions[index]]);
}

static int on_call_indirect(body *b) {
    uint32_t index;
    VELUM__TRY(velum__read_u32(&b->code, &index));
    VELUM__TRY(velum__read_zero(&b->code));
    if (!b->module->has_table) return invalid(b, "unknown table");
    if (index >= b->module->ntypes) return invalid(b, "unknown type");
    VELUM__TRY(pop(b, VELUM_I32));
    return call_type(b, &b->module->types[index]);
}

/* ---- everything else ---- */

static int on_select(body *b) {
    uint8_t first, second;
    VELUM__TRY(pop(b, VELUM_I32));
    VELUM__TRY(pop_any(b, &second));
    VELUM__TRY(pop_any(b, &first));
    if (first != second && first != UNKNOWN && second != UNKNOWN) return mismatch(b);
    return push(b, first == UNKNOWN ? second : first);
}

static int on_variable(body *b, uint8_t op) {
    uint32_t index;
    VELUM__TRY(velum__read_u32(&b->code, &index));
    if (op >= OP_GLOBAL_GET) {
        if (index >= b->module->nglobals) return invalid(b, "unknown global");
        uint8_t global = b->module->globals[index];
        uint8_t type = (uint8_t)(global & ~VELUM__MUTABLE);
        if (op == OP_GLOBAL_GET) return push(b, type);
        b->changes_state = true;
        return (global & VELUM__MUTABLE) == 0 ? invalid(b, "global is immutable") : pop(b, type);
    }
    if (index >= b->nlocals) return invalid(b, "unknown local");
    if (op != OP_LOCAL_GET) VELUM__TRY(pop(b, b->locals[index]));
    return op == OP_LOCAL_SET ? 0 : push(b, b->locals[index]);
}

static int need_memory(body *b) {
    return b->module->has_memory ? 0 : invalid(b, "unknown memory");
}

static int on_load_store(body *b, uint8_t op) {
    static const struct {
        uint8_t type, alignment_max; /* log2 of the access's bytes */
    } accesses[] = {
        {VELUM_I32, 2}, {VELUM_I64, 3}, {VELUM_F32, 2}, {VELUM_F64, 3}, /* 28 loads */
        {VELUM_I32, 0}, {VELUM_I32, 0}, {VELUM_I32, 1}, {VELUM_I32, 1}, /* 2c i32, narrow */
        {VELUM_I64, 0}, {VELUM_I64, 0}, {VELUM_I64, 1}, {VELUM_I64, 1}, /* 30 i64, narrow */
        {VELUM_I64, 2}, {VELUM_I64, 2},                                 /* 34 */
        {VELUM_I32, 2}, {VELUM_I64, 3}, {VELUM_F32, 2}, {VELUM_F64, 3}, /* 36 stores */
        {VELUM_I32, 0}, {VELUM_I32, 1},                                 /* 3a i32, narrow */
        {VELUM_I64, 0}, {VELUM_I64, 1}, {VELUM_I64, 2},                 /* 3c i64, narrow */
    };
    uint32_t alignment, offset;
    VELUM__TRY(velum__read_u32(&b->code, &alignment));
    VELUM__TRY(velum__read_u32(&b->code, &offset));
    VELUM__TRY(need_memory(b));
    if (alignment > accesses[op - OP_LOAD_FIRST].alignment_max)
        return invalid(b, "alignment must not be larger than natural");
    uint8_t type = accesses[op - OP_LOAD_FIRST].type;
    if (op >= OP_STORE_FIRST) {
        b->changes_state = true;
        VELUM__TRY(pop(b, type));
        return pop(b, VELUM_I32);
    }
    VELUM__TRY(pop(b, VELUM_I32));
    return push(b, type);
}

static int on_memory_size_grow(body *b, uint8_t op) {
    VELUM__TRY(velum__read_zero(&b->code));
    VELUM__TRY(need_memory(b));
    if (op == OP_MEMORY_SIZE) return push(b, VELUM_I32);
    b->changes_state = true;
    VELUM__TRY(pop(b, VELUM_I32));
    return push(b, VELUM_I32);
}

static int on_const(body *b, uint8_t op) {
    static const uint8_t types[] = {VELUM_I32, VELUM_I64, VELUM_F32, VELUM_F64};
    int64_t value;
    switch (op) {
    case OP_I32_CONST:
        VELUM__TRY(velum__read_signed(&b->code, 32, &value));
        break;
    case OP_I64_CONST:
        VELUM__TRY(velum__read_signed(&b->code, 64, &value));
        break;
    default:
        VELUM__TRY(velum__skip(&b->code, op == OP_F32_CONST ? 4 : 8));
    }
    return push(b, types[op - OP_I32_CONST]);
}

/* A numeric instruction in one byte: whether it takes two operands, their type, the result's. Types
 * are written as their distance from f64, the lowest code. */
#define F64             0
#define F32             1
#define I64             2
#define I32             3
#define UNARY(in, out)  (((in) << 2) | (out))
#define BINARY(in, out) (16 | UNARY(in, out))
#define TIMES2(x)       x, x
#define TIMES3(x)       x, x, x
#define TIMES6(x)       TIMES3(x), TIMES3(x)
#define TIMES7(x)       TIMES6(x), x
#define TIMES10(x)      TIMES7(x), TIMES3(x)
#define TIMES15(x)      TIMES10(x), TIMES3(x), TIMES2(x)
static const uint8_t shapes[OP_NUMERIC_LAST - OP_NUMERIC_FIRST + 1] = {
    UNARY(I32, I32),           /* 45 i32.eqz */
    TIMES10(BINARY(I32, I32)), /* 46 i32 comparisons */
    UNARY(I64, I32),           /* 50 i64.eqz */
    TIMES10(BINARY(I64, I32)), /* 51 i64 comparisons */
    TIMES6(BINARY(F32, I32)),  /* 5b f32 comparisons */
    TIMES6(BINARY(F64, I32)),  /* 61 f64 comparisons */
    TIMES3(UNARY(I32, I32)),   /* 67 i32.clz ctz popcnt */
    TIMES15(BINARY(I32, I32)), /* 6a i32 arithmetic */
    TIMES3(UNARY(I64, I64)),   /* 79 i64.clz ctz popcnt */
    TIMES15(BINARY(I64, I64)), /* 7c i64 arithmetic */
    TIMES7(UNARY(F32, F32)),   /* 8b f32.abs to sqrt */
    TIMES7(BINARY(F32, F32)),  /* 92 f32.add to copysign */
    TIMES7(UNARY(F64, F64)),   /* 99 f64.abs to sqrt */
    TIMES7(BINARY(F64, F64)),  /* a0 f64.add to copysign */
    UNARY(I64, I32),           /* a7 i32.wrap_i64 */
    TIMES2(UNARY(F32, I32)),   /* a8 i32.trunc_f32 */
    TIMES2(UNARY(F64, I32)),   /* aa i32.trunc_f64 */
    TIMES2(UNARY(I32, I64)),   /* ac i64.extend_i32 */
    TIMES2(UNARY(F32, I64)),   /* ae i64.trunc_f32 */
    TIMES2(UNARY(F64, I64)),   /* b0 i64.trunc_f64 */
    TIMES2(UNARY(I32, F32)),   /* b2 f32.convert_i32 */
    TIMES2(UNARY(I64, F32)),   /* b4 f32.convert_i64 */
    UNARY(F64, F32),           /* b6 f32.demote_f64 */
    TIMES2(UNARY(I32, F64)),   /* b7 f64.convert_i32 */
    TIMES2(UNARY(I64, F64)),   /* b9 f64.convert_i64 */
    UNARY(F32, F64),           /* bb f64.promote_f32 */
    UNARY(F32, I32),           /* bc i32.reinterpret_f32 */
    UNARY(F64, I64),           /* bd i64.reinterpret_f64 */
    UNARY(I32, F32),           /* be f32.reinterpret_i32 */
    UNARY(I64, F64),           /* bf f64.reinterpret_i64 */
    TIMES2(UNARY(I32, I32)),   /* c0 i32.extend8_s, 16 */
    TIMES3(UNARY(I64, I64)),   /* c2 i64.extend8_s, 16, 32 */
};

static int apply_shape(body *b, uint8_t shape) {
    uint8_t in = (uint8_t)(VELUM_F64 + ((shape >> 2) & 3));
    uint8_t out = (uint8_t)(VELUM_F64 + (shape & 3));
    if ((shape & BINARY(0, 0)) != 0) VELUM__TRY(pop(b, in));
    VELUM__TRY(pop(b, in));
    return push(b, out);
}

static int on_prefixed(body *b) {
    static const uint8_t saturate[] = {TIMES2(UNARY(F32, I32)), TIMES2(UNARY(F64, I32)),
                                       TIMES2(UNARY(F32, I64)), TIMES2(UNARY(F64, I64))};
    const uint8_t *at = b->code.at;
    uint32_t op;
    VELUM__TRY(velum__read_u32(&b->code, &op));
    if (op > OP_FC_TABLE_LAST)
        return velum__fail_at(&b->code, b->at, VELUM_E_MODULE_MALFORMED, "unknown opcode");
    if (b->code.at - at != 1) /* wasm3 reads one byte */
        return VELUM__REFUSE(&b->code, b->at, OPCODE);
    if (op <= OP_FC_SATURATE_LAST) return apply_shape(b, saturate[op]);
    if (op != OP_FC_MEMORY_COPY && op != OP_FC_MEMORY_FILL)
        return velum__fail_at(&b->code, b->at, VELUM_E_MODULE_UNSUPPORTED,
                              "passive segment or table access");
    if (op == OP_FC_MEMORY_COPY) VELUM__TRY(velum__read_zero(&b->code));
    VELUM__TRY(velum__read_zero(&b->code));
    VELUM__TRY(need_memory(b));
    b->changes_state = true;
    for (int i = 0; i < 3; i++)
        VELUM__TRY(pop(b, VELUM_I32));
    return 0;
}

/* ---- dispatch ---- */

static int on_control(body *b, uint8_t op) {
    switch (op) {
    case OP_UNREACHABLE:
        make_unreachable(b);
        return 0;
    case OP_NOP:
        return 0;
    case OP_BLOCK:
    case OP_LOOP:
    case OP_IF:
        return on_block(b, op);
    case OP_ELSE:
        return on_else(b);
    case OP_END:
        return on_end(b);
    case OP_BR:
        return on_br(b);
    case OP_BR_IF:
        return on_br_if(b);
    case OP_BR_TABLE:
        return on_br_table(b);
    case OP_RETURN:
        return on_return(b);
    case OP_CALL:
        return on_call(b);
    case OP_CALL_INDIRECT:
        return on_call_indirect(b);
    case OP_DROP:
        return pop(b, UNKNOWN);
    case OP_SELECT:
        return on_select(b);
    default:
        return unknown_opcode(b, op);
    }
}

static int on_instruction(body *b) {
    uint8_t op;
    b->at = b->code.at;
    VELUM__TRY(velum__read_byte(&b->code, &op));
    if (op >= OP_NUMERIC_FIRST && op <= OP_NUMERIC_LAST)
        return apply_shape(b, shapes[op - OP_NUMERIC_FIRST]);
    if (op >= OP_LOCAL_GET && op <= OP_GLOBAL_SET) return on_variable(b, op);
    if (op >= OP_LOAD_FIRST && op <= OP_STORE_LAST) return on_load_store(b, op);
    if (op >= OP_I32_CONST && op <= OP_F64_CONST) return on_const(b, op);
    if (op == OP_MEMORY_SIZE || op == OP_MEMORY_GROW) return on_memory_size_grow(b, op);
    if (op == OP_PREFIX) return on_prefixed(b);
    return on_control(b, op);
}

/* Parameters first, then the declared groups of equal types. */
static int read_locals(body *b, const velum__type *type) {
    uint32_t groups;
    b->at = b->code.at;
    memcpy(b->locals, type->params, type->nparams);
    b->nlocals = type->nparams;
    VELUM__TRY(velum__read_count(&b->code, 2, &groups));
    for (; groups > 0; groups--) {
        uint32_t count;
        uint8_t value_type;
        b->at = b->code.at;
        VELUM__TRY(velum__read_u32(&b->code, &count));
        VELUM__TRY(velum__read_type(&b->code, &value_type));
        if (count > VELUM_WASM_LOCALS_MAX - b->nlocals)
            return VELUM__REFUSE(&b->code, b->at, LOCALS);
        memset(b->locals + b->nlocals, value_type, count);
        b->nlocals += count;
    }
    if (b->nlocals >= VELUM_WASM_HEIGHT_MAX) return VELUM__REFUSE(&b->code, b->at, STACK);
    return 0;
}

static int validate_body(body *b, const velum__type *type) {
    VELUM__TRY(read_locals(b, type));
    open_function(b, type->result);
    while (b->nframes > 0)
        VELUM__TRY(on_instruction(b));
    if (b->code.at != b->code.end)
        return velum__fail(&b->code, VELUM_E_MODULE_MALFORMED, "bytes after the end of a function");
    return 0;
}

static int validate_bodies(body *b, velum__reader *r) {
    const velum__module *m = b->module;
    for (uint32_t i = 0; i < m->nfunctions; i++) {
        uint32_t size;
        r->fault->function = i;
        VELUM__TRY(velum__read_u32(r, &size));
        VELUM__TRY(velum__read_part(r, size, &b->code));
        VELUM__TRY(validate_body(b, &m->types[m->functions[i]]));
    }
    r->fault->function = UINT32_MAX;
    return 0;
}

int velum__validate_code(velum__module *m, velum__reader *r) {
    uint32_t count;
    const uint8_t *at = r->at;
    VELUM__TRY(velum__read_count(r, 3, &count));
    if (count != m->nfunctions)
        return velum__fail_at(r, at, VELUM_E_MODULE_MALFORMED,
                              "function and code section have inconsistent lengths");
    body *b = malloc(sizeof *b);
    if (b == NULL) return velum__fail(r, VELUM_E_NOMEM, "out of memory");
    b->module = m;
    b->changes_state = false;
    int err = validate_bodies(b, r);
    if (b->changes_state) m->has_state = true;
    free(b);
    return err;
}
