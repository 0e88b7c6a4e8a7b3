/* validate_internal.h: what the validator's two halves share.
 *
 * Owns: the picture of a module that its sections give (validate.c fills it in, validate_code.c
 * reads it), and the texts of the rules that are ours and not the specification's.
 */
#ifndef VELUM_VALIDATE_INTERNAL_H
#define VELUM_VALIDATE_INTERNAL_H

#include "validate.h"
#include "validate_reader.h"

/* The rules of ours, each MODULE_UNSUPPORTED; why they exist stands in validate.c's head. All texts
 * start alike, so that a reader of a diagnosis, and the tests, tell them from the specification. */
#define VELUM__RULES(X)                                                                            \
    X(NESTING, "velum rule: blocks nested too deep")                                               \
    X(LOCALS, "velum rule: too many locals")                                                       \
    X(STACK, "velum rule: locals and operands need too much stack")                                \
    X(BRANCH, "velum rule: branch carries a float past other values")                              \
    X(PARAMETERS, "velum rule: too many parameters")                                               \
    X(TYPES, "velum rule: too many types")                                                         \
    X(FUNCTIONS, "velum rule: too many functions")                                                 \
    X(GLOBALS, "velum rule: too many globals")                                                     \
    X(EXPORTS, "velum rule: too many exports")                                                     \
    X(SEGMENTS, "velum rule: too many segments")                                                   \
    X(TABLE, "velum rule: table too large")                                                        \
    X(ELEMENTS, "velum rule: elements outside their table")                                        \
    X(OPCODE, "velum rule: opcode not in its shortest form")

enum {
#define VELUM__RULE_ENUM(name, text) VELUM__RULE_##name,
    VELUM__RULES(VELUM__RULE_ENUM)
#undef VELUM__RULE_ENUM
        VELUM__RULE_COUNT
};
extern const char *const velum__rule_texts[VELUM__RULE_COUNT];

/* Refuses by a rule of ours; the fault began `at`. */
#define VELUM__REFUSE(reader, place, rule)                                                         \
    velum__fail_at((reader), (place), VELUM_E_MODULE_UNSUPPORTED,                                  \
                   velum__rule_texts[VELUM__RULE_##rule])

typedef struct {
    const uint8_t *params; /* in the module's bytes: one type code each */
    uint16_t nparams;
    uint8_t result; /* type code, 0: none */
} velum__type;

typedef struct {
    velum__type *types;
    uint16_t *functions; /* type index of each; types are far fewer than 65,536 */
    uint8_t *globals;    /* type code of each, with VELUM__MUTABLE */
    uint32_t ntypes, nfunctions, nglobals;
    uint32_t table_size; /* minimum */
    bool has_memory, has_table;
    bool has_data_count;
    bool has_state; /* as velum_module_has_state means it, so far as was seen */
    uint32_t data_count;
} velum__module;

/* Value type codes are 0x7c..0x7f, which leaves the top bit for a global's mutability. */
#define VELUM__MUTABLE 0x80u

static inline bool velum__is_number(uint8_t type) {
    return type >= VELUM_F64 && type <= VELUM_I32;
}

/* Reads a value type: MODULE_UNSUPPORTED for those of later proposals. */
int velum__read_type(velum__reader *r, uint8_t *out);

/* Reads the index of a table or memory, which can only be 0 in one byte. */
int velum__read_zero(velum__reader *r);

/* Validates the code section: `r` holds its bytes, the count of bodies first. While a body is
 * looked at, r->fault->function is its index. Notes in m->has_state that code changes state. */
int velum__validate_code(velum__module *m, velum__reader *r);

#endif
