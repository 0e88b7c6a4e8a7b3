/* vm.c: one guest, run by wasm3. See vm.h for what is promised.
 *
 * wasm3 is asked for as little as possible. Its own reading of a module's sections is driven from
 * here, because custom and export sections must not reach it: it trusts lengths in the name section
 * that no validator checks, refuses modules over a malformed one, keeps three names a function, and
 * would find a function that is not exported by its debug name. Exports are looked up here instead.
 * Everything else that wasm3 needs to be spared is validate.c's work, done before.
 *
 * The meter (vm_meter.h) is the first member of a guest; wasm3 carries it as its user data. It
 * hands out fuel in grants: while a grant lasts the guest runs undisturbed, and when it is used up
 * velum__vm_look weighs the limit, asks `check`, and makes the next grant so long that looks are
 * near LOOK_US apart, whether a loop's body is ten operations or ten thousand.
 *
 * A reset has little to put back. wasm3 unwinds a trap by returning, and what is left on its stack
 * no compiled function reads before it has written it; compiled code knows a global by its address
 * and gets the memory's with every call; tables cannot change here. What remains is what load()
 * made: the memory, the globals' values, and that the start function has not run.
 */
#include "vm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "m3_env.h"

#include "velum_port.h"
#include "vm_meter.h"

/* The distance between two looks that grants are steered to, and the first grant. */
#define LOOK_US     1000
#define GRANT_FIRST 256u
#define GRANT_MIN   16u

/* wasm3 checks a function's own frame, but not the arguments that it lays out above it for a call,
 * 8 bytes each, after a result. Its stack gets this much more than it is told of. */
#define STACK_SLACK_BYTES ((VELUM_WASM_PARAMS_MAX + 2u) * 8u)

/* A memory of at least this size is not zeroed by a reset but exchanged for one from calloc, which
 * may have pages at hand that are zero and cost nothing until they are touched. */
#define FRESH_BYTES ((size_t)1024 * 1024)

/* Most pages that wasm3 can address. */
#define PAGES_MAX 32767u

#define DETAIL_BYTES_MAX 192

enum { SECTION_CUSTOM = 0, SECTION_MEMORY = 5, SECTION_EXPORT = 7, SECTION_DATA = 11 };

struct velum_vm {
    velum__meter meter; /* first: wasm3's user data leads here */
    velum_vm_limits limits;
    IM3Environment environment;
    IM3Runtime runtime;
    IM3Module module;                     /* the runtime's once it is loaded */
    const uint8_t *exports, *exports_end; /* contents of the export section, or NULL */
    const uint8_t *found_name; /* the export that was last called, in its section, or NULL */
    size_t found_size;
    IM3Function found;
    uint32_t pages_minimum, pages_maximum; /* as the module declares them */
    i64 *globals;                          /* initial values, as bits */
    i32 start;                             /* index of the start function, or -1 */
    bool opened;                           /* completely */
    uint64_t spent;                        /* fuel used before the running grant */
    uint32_t granted, grant_next;
    int64_t looked_us; /* when the last look ended */
    int error;         /* what ended the guest, else 0 */
    char detail[DETAIL_BYTES_MAX];
};

/* wasm3's reader of one section; in m3_parse.c, without a declaration of its own. */
M3Result ParseModuleSection(M3Module *module, u8 section, bytes_t bytes, u32 n);

/* What velum__vm_look stops a guest with; the reason is in `error`. */
static const char stopped[] = "stopped";

/* ---- errors ---- */

static const struct {
    const M3Result *result;
    int error;
} traps[] = {
    {&m3Err_trapUnreachable, VELUM_E_TRAP_UNREACHABLE},
    {&m3Err_trapOutOfBoundsMemoryAccess, VELUM_E_TRAP_MEMORY},
    {&m3Err_trapDivisionByZero, VELUM_E_TRAP_DIVIDE_BY_ZERO},
    {&m3Err_trapIntegerOverflow, VELUM_E_TRAP_OVERFLOW},
    {&m3Err_trapIntegerConversion, VELUM_E_TRAP_CONVERSION},
    {&m3Err_trapIndirectCallTypeMismatch, VELUM_E_TRAP_INDIRECT},
    {&m3Err_trapTableIndexOutOfRange, VELUM_E_TRAP_TABLE},
    {&m3Err_trapTableElementIsNull, VELUM_E_TRAP_TABLE},
    {&m3Err_trapStackOverflow, VELUM_E_TRAP_STACK},
    {&m3Err_mallocFailed, VELUM_E_NOMEM},
    {&m3Err_mallocFailedCodePage, VELUM_E_NOMEM},
};

/* wasm3's words for a data segment outside its memory; it has no name for it. Instantiation traps.
 */
static const char data_outside[] = "data segment out of bounds";

static int translate(M3Result result, int otherwise) {
    for (size_t i = 0; i < sizeof traps / sizeof traps[0]; i++) {
        if (result == *traps[i].result) return traps[i].error;
    }
    return strcmp(result, data_outside) == 0 ? VELUM_E_TRAP_MEMORY : otherwise;
}

/* Ends the guest with what wasm3 returned. */
static int fail(velum_vm *vm, M3Result result, int otherwise) {
    if (result == stopped) return vm->error;
    vm->error = translate(result, otherwise);
    M3ErrorInfo info;
    m3_GetErrorInfo(vm->runtime, &info);
    const char *more = info.message != NULL ? info.message : "";
    const char *refused = vm->meter.refused ? "; memory.grow was refused before" : "";
    (void)snprintf(vm->detail, sizeof vm->detail, "%s%s%s%s", result, *more ? ": " : "", more,
                   refused);
    return vm->error;
}

/* Ends the guest with an error of ours. */
static int stop(velum_vm *vm, int error) {
    vm->error = error;
    (void)snprintf(vm->detail, sizeof vm->detail, "%s", velum_strerror(error));
    return error;
}

/* ---- fuel ---- */

uint64_t velum_vm_fuel_used(const velum_vm *vm) {
    return vm->spent + (vm->granted - vm->meter.left);
}

void velum_vm_fuel(velum_vm *vm, uint64_t fuel) {
    vm->limits.fuel = fuel;
    vm->spent = 0;
    vm->granted = 0;
    vm->meter.left = 0;
}

/* Lengthens or shortens the next grant by how long the last one took. */
static void adapt(velum_vm *vm, int64_t elapsed_us) {
    if (elapsed_us < LOOK_US / 2 && vm->grant_next < VELUM_FUEL_PER_CHECK) {
        vm->grant_next *= 2;
    } else if (elapsed_us > LOOK_US * 2 && vm->grant_next > GRANT_MIN) {
        vm->grant_next /= 2;
    }
}

const char *velum__vm_look(velum__meter *meter, uint32_t units) {
    velum_vm *vm = (velum_vm *)meter;
    uint64_t used = velum_vm_fuel_used(vm);
    uint64_t remaining = vm->limits.fuel != 0 ? vm->limits.fuel - used : UINT64_MAX;

    if (units > remaining) {
        stop(vm, VELUM_E_FUEL);
        return stopped;
    }
    if (vm->limits.check != NULL && used > 0) {
        adapt(vm, velum_port_now_us() - vm->looked_us);
        int verdict = vm->limits.check(vm->limits.user);
        if (verdict < 0) {
            stop(vm, verdict);
            return stopped;
        }
        vm->looked_us = velum_port_now_us();
    }
    uint32_t grant = vm->grant_next > units ? vm->grant_next : units;
    vm->granted = grant < remaining ? grant : (uint32_t)remaining;
    vm->spent = used;
    meter->left = vm->granted - units;
    return NULL;
}

/* Begins a call: the native stack is measured from here, and the call itself costs a unit. */
static const char *enter(velum_vm *vm) {
    uintptr_t here = velum_port_stack_address();
    vm->meter.stack_floor = here > VELUM_NATIVE_STACK_BYTES ? here - VELUM_NATIVE_STACK_BYTES : 0;
    if (vm->limits.check != NULL) vm->looked_us = velum_port_now_us();
    return velum__vm_spend(&vm->meter, 1);
}

/* ---- opening ---- */

/* The declared limits of the memory. wasm3 takes a maximum of 0 pages for none. */
static M3Result read_memory_limits(velum_vm *vm, bytes_t at, bytes_t end) {
    u8 flags = 0;
    u32 maximum = PAGES_MAX;
    M3Result result = ReadLEB_u7(&flags, &at, end);
    if (result == NULL) result = ReadLEB_u32(&vm->pages_minimum, &at, end);
    if (result == NULL && (flags & 1u) != 0) result = ReadLEB_u32(&maximum, &at, end);
    vm->pages_maximum = maximum;
    return result;
}

static M3Result read_section(velum_vm *vm, u8 section, bytes_t at, u32 size) {
    bool empty = size > 0 && at[0] == 0; /* a vector of none, which wasm3 may trip over */
    switch (section) {
    case SECTION_CUSTOM:
        return m3Err_none;
    case SECTION_EXPORT:
        vm->exports = at;
        vm->exports_end = at + size;
        return m3Err_none;
    case SECTION_MEMORY: {
        M3Result result = empty ? m3Err_none : read_memory_limits(vm, at + 1, at + size);
        if (empty || result != NULL) return result;
        break;
    }
    case SECTION_DATA:
        if (empty) return m3Err_none;
        break;
    default:
        break;
    }
    return ParseModuleSection(vm->module, section, at, size);
}

/* Builds wasm3's module out of the sections it shall see. */
static M3Result read_module(velum_vm *vm, const uint8_t *bytes, size_t n) {
    const uint8_t *at = bytes + 8, *end = bytes + n;
    M3Result result = m3Err_none;

    vm->module = m3_AllocStruct(M3Module);
    if (vm->module == NULL) return m3Err_mallocFailed;
    vm->module->name = "guest";
    vm->module->startFunction = -1;
    vm->module->environment = vm->environment;
    vm->module->wasmStart = bytes;
    vm->module->wasmEnd = end;
    while (result == NULL && at < end) {
        u8 section;
        u32 size = 0;
        result = ReadLEB_u7(&section, &at, end);
        if (result == NULL) result = ReadLEB_u32(&size, &at, end);
        if (result == NULL && size > (size_t)(end - at)) result = m3Err_wasmOverrun;
        if (result == NULL) result = read_section(vm, section, at, size);
        at += size;
    }
    return result;
}

static uint32_t pages_limit(const velum_vm *vm) {
    uint32_t limit = vm->limits.pages != 0 ? vm->limits.pages : VELUM_GUEST_PAGES_MAX;
    return limit < PAGES_MAX ? limit : PAGES_MAX;
}

/* Gives the guest a memory of the initial size, all zero. */
static int renew_memory(velum_vm *vm) {
    M3Memory *memory = &vm->runtime->memory;
    size_t bytes = (size_t)vm->pages_minimum * d_m3MemPageSize;

    if (memory->mallocated != NULL && memory->numPages == vm->pages_minimum &&
        bytes < FRESH_BYTES) {
        memset(m3MemData(memory->mallocated), 0, bytes);
        return VELUM_OK;
    }
    m3_Free(memory->mallocated); /* first: there may not be room for both */
    memory->numPages = 0;
    memory->mallocated = m3_Malloc(sizeof *memory->mallocated + bytes);
    if (memory->mallocated == NULL) return stop(vm, VELUM_E_NOMEM);
    memory->numPages = vm->pages_minimum;
    memory->mallocated->length = bytes;
    memory->mallocated->runtime = vm->runtime;
    memory->mallocated->maxStack = (m3slot_t *)vm->runtime->stack + vm->runtime->numStackSlots;
    return VELUM_OK;
}

/* Notes what a reset restores beside memory. */
static int remember(velum_vm *vm) {
    const M3Module *module = vm->runtime->modules;
    vm->start = module->startFunction;
    if (module->numGlobals == 0) return VELUM_OK;
    vm->globals = malloc(module->numGlobals * sizeof *vm->globals);
    if (vm->globals == NULL) return stop(vm, VELUM_E_NOMEM);
    for (u32 i = 0; i < module->numGlobals; i++) {
        vm->globals[i] = module->globals[i].intValue;
    }
    return VELUM_OK;
}

/* Gives the module its memory, globals and tables, and compiles all of it. */
static int load(velum_vm *vm) {
    uint32_t limit = pages_limit(vm);
    if (vm->pages_minimum > limit) {
        stop(vm, VELUM_E_GUEST_MEMORY);
        (void)snprintf(vm->detail, sizeof vm->detail,
                       "the module starts with %lu pages of 64 KiB, its limit is %lu",
                       (unsigned long)vm->pages_minimum, (unsigned long)limit);
        return vm->error;
    }
    vm->module->memoryInfo.maxPages = limit;
    if (renew_memory(vm) != VELUM_OK) return vm->error; /* wasm3 finds it, and touches no page */
    M3Result result = m3_LoadModule(vm->runtime, vm->module);
    if (result != NULL) return fail(vm, result, VELUM_E_MODULE_COMPILE);
    IM3Module module = vm->module;
    vm->module = NULL; /* the runtime's now */
    vm->runtime->memory.maxPages = vm->pages_maximum < limit ? vm->pages_maximum : limit;
    result = m3_CompileModule(module);
    return result == NULL ? remember(vm) : fail(vm, result, VELUM_E_MODULE_COMPILE);
}

static int begin(velum_vm *vm, const uint8_t *bytes, size_t n) {
    vm->environment = m3_NewEnvironment();
    if (vm->environment == NULL) return stop(vm, VELUM_E_NOMEM);
    vm->runtime =
        m3_NewRuntime(vm->environment, VELUM_WASM_STACK_BYTES + STACK_SLACK_BYTES, &vm->meter);
    if (vm->runtime == NULL) return stop(vm, VELUM_E_NOMEM);
    vm->runtime->numStackSlots = VELUM_WASM_STACK_BYTES / sizeof(m3slot_t);
    M3Result result = read_module(vm, bytes, n);
    if (result != NULL) return fail(vm, result, VELUM_E_MODULE_COMPILE);
    return load(vm);
}

int velum_vm_open(velum_vm **out, const uint8_t *module, size_t n, const velum_vm_limits *limits) {
    *out = NULL;
    if (n < 8 || n > UINT32_MAX) return VELUM_E_ARGUMENT;
    velum_vm *vm = calloc(1, sizeof *vm);
    if (vm == NULL) return VELUM_E_NOMEM;
    vm->limits = *limits;
    vm->grant_next = limits->check != NULL ? GRANT_FIRST : VELUM_FUEL_PER_CHECK;
    *out = vm;
    int err = begin(vm, module, n);
    vm->opened = err == VELUM_OK;
    return err;
}

void velum_vm_close(velum_vm *vm) {
    if (vm == NULL) return;
    while (vm->meter.open_pages != NULL) { /* compiling failed, with these in hand */
        IM3CodePage page = vm->meter.open_pages;
        vm->meter.open_pages = page->info.next;
        ReleaseCodePage(vm->runtime, page);
    }
    m3_FreeModule(vm->module);
    m3_FreeRuntime(vm->runtime);
    m3_FreeEnvironment(vm->environment);
    free(vm->globals);
    free(vm);
}

/* ---- resetting ---- */

/* Copies the data segments. wasm3 has done it before, so that each is known to fit; the validator
 * lets their offsets be nothing but an i32.const. */
static void copy_data(velum_vm *vm) {
    const M3Module *module = vm->runtime->modules;
    u8 *memory = m3MemData(vm->runtime->memory.mallocated);

    for (u32 i = 0; i < module->numDataSegments; i++) {
        const M3DataSegment *segment = &module->dataSegments[i];
        bytes_t at = segment->initExpr + 1;
        i32 offset = 0;
        (void)ReadLEB_i32(&offset, &at, segment->initExpr + segment->initExprSize);
        if (segment->size > 0) memcpy(memory + offset, segment->data, segment->size);
    }
}

int velum_vm_reset(velum_vm *vm) {
    if (!vm->opened) return vm->error;
    int err = renew_memory(vm);
    if (err != VELUM_OK) return err;
    M3Module *module = vm->runtime->modules;
    copy_data(vm);
    for (u32 i = 0; i < module->numGlobals; i++) {
        module->globals[i].intValue = vm->globals[i];
    }
    module->startFunction = vm->start;
    vm->meter.refused = false;
    vm->error = VELUM_OK;
    vm->detail[0] = '\0';
    velum_vm_fuel(vm, vm->limits.fuel);
    return VELUM_OK;
}

/* ---- calling ---- */

/* The function that the module exports under a name, or NULL. The one last found is at hand: a
 * guest is called many times by one name, and may have thousands of exports. */
static IM3Function find_export(velum_vm *vm, const char *name, size_t name_size) {
    bytes_t at = vm->exports, end = vm->exports_end;
    u32 count = 0;

    if (vm->found != NULL && vm->found_size == name_size &&
        (name_size == 0 || memcmp(vm->found_name, name, name_size) == 0)) {
        return vm->found;
    }
    if (at == NULL || ReadLEB_u32(&count, &at, end) != NULL) return NULL;
    for (u32 i = 0; i < count; i++) {
        u32 size, index;
        u8 kind;
        if (ReadLEB_u32(&size, &at, end) != NULL || size > (size_t)(end - at)) return NULL;
        bool same = size == name_size && (size == 0 || memcmp(at, name, size) == 0);
        bytes_t exported = at;
        at += size;
        if (Read_u8(&kind, &at, end) != NULL || ReadLEB_u32(&index, &at, end) != NULL) return NULL;
        if (!same) continue;
        if (kind != VELUM_EXTERN_FUNCTION) return NULL;
        vm->found_name = exported;
        vm->found_size = size;
        vm->found = Module_GetFunction(vm->runtime->modules, index);
        return vm->found;
    }
    return NULL;
}

/* wasm3 numbers the value types from 1, WebAssembly downwards from 0x7f. */
static uint8_t type_code(u8 m3_type) {
    return (uint8_t)(0x80u - m3_type);
}

static bool arguments_fit(const M3FuncType *type, const velum_value *args, size_t nargs) {
    if (type->numRets > 1 || type->numArgs != nargs || nargs > VELUM_ARGS_MAX) return false;
    for (size_t i = 0; i < nargs; i++) {
        if (args[i].type != type_code(d_FuncArgType(type, i))) return false;
    }
    return true;
}

static bool is_64_bit(uint8_t type) {
    return type == VELUM_I64 || type == VELUM_F64;
}

/* NaN bits differ by machine; every NaN is answered as the one that the specification prefers. */
static uint64_t canonical(uint8_t type, uint64_t bits) {
    if (type == VELUM_F32 && (bits & 0x7fffffffu) > 0x7f800000u) return 0x7fc00000u;
    if (type == VELUM_F64 && (bits & 0x7fffffffffffffffu) > 0x7ff0000000000000u) {
        return 0x7ff8000000000000u;
    }
    return bits;
}

/* A call's result lies at the bottom of wasm3's stack, in the machine's byte order. */
static velum_value read_result(const velum_vm *vm, uint8_t type) {
    velum_value value = {type, 0};
    if (is_64_bit(type)) {
        memcpy(&value.bits, vm->runtime->stack, sizeof value.bits);
    } else {
        uint32_t low;
        memcpy(&low, vm->runtime->stack, sizeof low);
        value.bits = low;
    }
    value.bits = canonical(type, value.bits);
    return value;
}

static M3Result run(velum_vm *vm, IM3Function function, const velum_value *args, size_t nargs) {
    uint32_t low[VELUM_ARGS_MAX];
    const void *pointers[VELUM_ARGS_MAX];

    for (size_t i = 0; i < nargs; i++) {
        low[i] = (uint32_t)args[i].bits;
        pointers[i] = is_64_bit(args[i].type) ? (const void *)&args[i].bits : &low[i];
    }
    M3Result result = enter(vm);
    if (result == NULL && vm->runtime->modules->startFunction >= 0) {
        result = velum__vm_spend(&vm->meter, 1);
        if (result == NULL) result = m3_RunStart(vm->runtime->modules);
    }
    return result == NULL ? m3_Call(function, (uint32_t)nargs, pointers) : result;
}

int velum_vm_call(velum_vm *vm, const char *name, size_t name_size, const velum_value *args,
                  size_t nargs, velum_value *result, size_t *nresults) {
    *nresults = 0;
    if (vm->error != VELUM_OK) return vm->error;
    IM3Function function = find_export(vm, name, name_size);
    if (function == NULL) return VELUM_E_NO_EXPORT;
    if (!arguments_fit(function->funcType, args, nargs)) return VELUM_E_SIGNATURE;

    M3Result trap = run(vm, function, args, nargs);
    if (trap != NULL) return fail(vm, trap, VELUM_E_TRAP_OTHER);
    if (function->funcType->numRets == 1) {
        *result = read_result(vm, type_code(d_FuncRetType(function->funcType, 0)));
        *nresults = 1;
    }
    return VELUM_OK;
}

uint32_t velum_vm_pages(const velum_vm *vm) {
    return vm->runtime != NULL ? vm->runtime->memory.numPages : 0;
}

const char *velum_vm_detail(const velum_vm *vm) {
    return vm->detail;
}
