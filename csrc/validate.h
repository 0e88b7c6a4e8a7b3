/* validate.h: what may reach wasm3.
 *
 * Owns: the decision whether bytes are a WebAssembly module that velum runs: WebAssembly 1.0 plus
 * sign extension, saturating float to integer conversion, mutable global import and export,
 * memory.copy and memory.fill; and reading a module's imports and exports. Refuses to know: wasm3,
 * memory limits of a task. How: one pass over the bytes; types by the specification's validation
 * algorithm (WebAssembly Core Specification 1.0, appendix "Validation Algorithm"). No allocation
 * that a hostile length can choose: memory is in proportion to the module's own size.
 * Rules of ours beyond the specification are listed in validate.c's head and docs/wasm.md.
 */
#ifndef VELUM_VALIDATE_H
#define VELUM_VALIDATE_H

#include "velum.h"
#include "velum_opt.h"

/* Most parameters of a function type. wasm3 copies the arguments of a call to the end of its stack
 * before it checks for overflow, so whoever makes that stack leaves room for so many values of 8
 * bytes, and a result, beyond its limit: little on a small device, and more than compilers use. */
#ifndef VELUM_WASM_PARAMS_MAX
#define VELUM_WASM_PARAMS_MAX 128u
#endif

/* Most locals, operands and open blocks with a result that a function has at one place: wasm3's
 * d_m3MaxFunctionStackHeight (2000), less room for its constants and the frame of a call. */
#ifndef VELUM_WASM_HEIGHT_MAX
#define VELUM_WASM_HEIGHT_MAX 1900u
#endif

typedef struct {
    uint32_t offset;   /* byte of the module where the fault was seen */
    const char *text;  /* static, what is wrong; never NULL */
    uint32_t function; /* index of the function, UINT32_MAX outside one */
} velum_diagnosis;

/* 0, or MODULE_MALFORMED, MODULE_INVALID, MODULE_UNSUPPORTED, MODULE_IMPORT, TOO_LARGE, NOMEM.
 * `why` may be NULL; it is filled on every error. Where a module has several faults, the first in
 * the order of its bytes counts. Velum provides no imports, so that any import is MODULE_IMPORT. */
int velum_validate(const uint8_t *bytes, size_t n, velum_diagnosis *why);

/* Whether calls of a valid module can influence each other: false only if it has no start function
 * and no instruction of it writes to memory, sets a global or grows memory, were it in code that
 * cannot run. True, to be safe, of bytes that velum_validate refuses. */
bool velum_module_has_state(const uint8_t *bytes, size_t n);

#define VELUM_TYPE_VALUES_MAX VELUM_ARGS_MAX
typedef struct {
    uint8_t nparams, nresults; /* nresults 0 or 1 */
    uint8_t params[VELUM_TYPE_VALUES_MAX];
    uint8_t result; /* VELUM_I32.. when nresults is 1 */
} velum_signature;

typedef enum {
    VELUM_EXTERN_FUNCTION = 0,
    VELUM_EXTERN_TABLE = 1,
    VELUM_EXTERN_MEMORY = 2,
    VELUM_EXTERN_GLOBAL = 3
} velum_extern_kind;

/* One import (module name set) or export of a module. Names lead into the module's bytes. */
typedef struct {
    bool import;
    uint8_t kind; /* velum_extern_kind */
    const char *module;
    uint32_t module_size;
    const char *name;
    uint32_t name_size;
    uint32_t index;            /* among all of its kind, imports first */
    bool callable;             /* a function of numbers, at most VELUM_ARGS_MAX parameters */
    velum_signature signature; /* when callable */
    uint32_t minimum, maximum; /* memory: pages; table: elements; maximum UINT32_MAX: none */
    uint8_t value_type;        /* global */
    bool mutable_;             /* global */
} velum_extern;

/* Calls `visit` for every import, then every export; stops and returns its value when it is not 0.
 * Works on any module whose sections can be read, valid or not (for `velum inspect`):
 * MODULE_MALFORMED otherwise; NOMEM. What is found before a fault has been visited by then. */
int velum_module_visit(const uint8_t *bytes, size_t n,
                       int (*visit)(void *user, const velum_extern *e), void *user);

/* The signature of an exported function: 0, NO_EXPORT, SIGNATURE (more than VELUM_ARGS_MAX
 * parameters), MODULE_MALFORMED. */
int velum_module_export(const uint8_t *bytes, size_t n, const char *name, size_t name_size,
                        velum_signature *out);

#endif
