"""Numbers, task payloads and modules; a part of `_core.pyx`, kept apart for its length."""

# ---- values ----

TYPE_NAMES = {c.VELUM_I32: "i32", c.VELUM_I64: "i64", c.VELUM_F32: "f32", c.VELUM_F64: "f64"}
TYPE_CODES = {name: code for code, name in TYPE_NAMES.items()}

cdef union float_bits:
    float f
    uint32_t u

cdef union double_bits:
    double d
    uint64_t u


cdef object value_out(const c.velum_value *v):
    cdef float_bits fb
    cdef double_bits db
    if v.type == c.VELUM_I64:
        return <int64_t>v.bits
    if v.type == c.VELUM_I32:
        return <int><uint32_t>v.bits if v.bits < 0x80000000 else <int64_t>v.bits - 0x100000000
    if v.type == c.VELUM_F64:
        db.u = v.bits
        return db.d
    fb.u = <uint32_t>v.bits
    return fb.f


cdef int value_in(object arg, int type_code, c.velum_value *out) except -1:
    """One Python number as a value of a type; 0 as type takes i64 for int, f64 for float.

    An integer of a guest may be meant with or without a sign: both are taken. A built-in's has one.
    """
    cdef float_bits fb
    cdef double_bits db
    cdef bint signed = type_code == 0
    if isinstance(arg, bool) or not isinstance(arg, (int, float)):
        raise CoreError(c.VELUM_E_SIGNATURE, f"{arg!r} is not a number")
    cdef bint free = type_code == 0
    if free:
        type_code = c.VELUM_I64 if isinstance(arg, int) else c.VELUM_F64
    out.type = <uint8_t>type_code
    if type_code == c.VELUM_I32 or type_code == c.VELUM_I64:
        if not isinstance(arg, int):
            raise CoreError(c.VELUM_E_SIGNATURE, f"{arg!r} is not an integer")
        # A guest's i32 and i64 have no sign of their own: both ways of writing one are taken.
        bits = 32 if type_code == c.VELUM_I32 else 64
        low, high = -(1 << (bits - 1)), (1 << (bits - 1 if free else bits)) - 1
        if not low <= arg <= high:
            raise CoreError(
                c.VELUM_E_SIGNATURE, f"{arg} does not fit {TYPE_NAMES[type_code]}")
        out.bits = <uint64_t>(arg & ((1 << bits) - 1))
        return 0
    try:
        db.d = float(arg)
    except OverflowError:
        raise CoreError(c.VELUM_E_SIGNATURE, f"{arg} does not fit a float") from None
    if type_code == c.VELUM_F64:
        out.bits = db.u
    else:
        fb.f = <float>db.d
        out.bits = fb.u
    return 0


cdef int args_in(object args, object types, uint8_t *count, c.velum_value *out) except -1:
    if len(args) > c.VELUM_ARGS_MAX:
        raise CoreError(c.VELUM_E_SIGNATURE, f"more than {c.VELUM_ARGS_MAX} arguments")
    cdef int i = 0
    for arg in args:
        value_in(arg, 0 if types is None else TYPE_CODES[types[i]], &out[i])
        i += 1
    count[0] = <uint8_t>i
    return 0


# ---- payloads of tasks, made in the caller's thread and sent from the node's ----

cdef object payload_out(const uint8_t *frame, int n):
    if n < 0:
        raise CoreError(n)
    return PyBytes_FromStringAndSize(<const char *>frame + c.VELUM_HEADER_BYTES,
                                     n - <int>c.VELUM_HEADER_BYTES)


def encode_call(bytes name, object args, uint32_t timeout_ms=0, bint placed=True):
    """The payload of a CALL. CoreError SIGNATURE when an argument is no number or does not fit."""
    cdef c.velum_call m
    cdef uint8_t frame[2048]
    if not 0 < len(name) <= c.VELUM_NAME_BYTES_MAX:
        raise CoreError(c.VELUM_E_UNKNOWN_NAME, name[:40].decode(errors="replace"))
    m.flags = c.VELUM_TASK_PLACED if placed else 0
    m.timeout_ms = timeout_ms
    m.name.data = PyBytes_AS_STRING(name)
    m.name.size = <uint16_t>len(name)
    args_in(args, None, &m.nargs, m.args)
    return payload_out(frame, c.velum_wire_put_call(frame, sizeof(frame), 0, &m))


def encode_task(bytes hash, bytes name, object args, object types, uint32_t timeout_ms=0,
                uint64_t fuel=0, uint32_t pages=0, bint placed=True):
    """The payload of a TASK; `types` are names as in an export's signature."""
    cdef c.velum_task m
    cdef uint8_t frame[2048]
    if len(args) != len(types):
        raise CoreError(c.VELUM_E_SIGNATURE, f"takes {len(types)} arguments, got {len(args)}")
    m.flags = c.VELUM_TASK_PLACED if placed else 0
    m.timeout_ms = timeout_ms
    m.fuel = fuel
    m.pages = pages
    memcpy(m.hash, PyBytes_AS_STRING(hash), c.VELUM_HASH_BYTES)
    m.name.data = PyBytes_AS_STRING(name)
    m.name.size = <uint16_t>len(name)
    args_in(args, types, &m.nargs, m.args)
    return payload_out(frame, c.velum_wire_put_task(frame, sizeof(frame), 0, &m))


def decode_call(bytes payload):
    """(flags, timeout_ms, name, args) of a CALL's payload."""
    cdef c.velum_call m
    cdef int n = c.velum_wire_get_call(<const uint8_t *>PyBytes_AS_STRING(payload),
                                       len(payload), &m)
    if n < 0:
        raise CoreError(n)
    args = [value_out(&m.args[i]) for i in range(m.nargs)]
    return (m.flags, m.timeout_ms, text_out(m.name), args)


def run_builtin(bytes payload):
    """Runs a CALL's payload here: (code, value): code 0 and the number, or a positive error."""
    cdef c.velum_call m
    cdef c.velum_value out
    cdef int err = c.velum_wire_get_call(<const uint8_t *>PyBytes_AS_STRING(payload),
                                         len(payload), &m)
    if err >= 0:
        err = c.velum_builtin(&m, &out)
    if err < 0:
        return (-err, None)
    return (0, value_out(&out))


def placed(bytes payload):
    """A CALL's or TASK's payload with the flag that makes its receiver run it."""
    cdef bytes copy = PyBytes_FromStringAndSize(PyBytes_AS_STRING(payload), len(payload))
    (<uint8_t *>PyBytes_AS_STRING(copy))[0] |= c.VELUM_TASK_PLACED
    return copy


def retimed(bytes payload, uint32_t timeout_ms):
    """A CALL's or TASK's payload with another timeout in milliseconds (0: none)."""
    cdef bytes copy = PyBytes_FromStringAndSize(PyBytes_AS_STRING(payload), len(payload))
    cdef uint8_t *p = <uint8_t *>PyBytes_AS_STRING(copy)
    cdef int i
    for i in range(4):
        p[1 + i] = <uint8_t>(timeout_ms >> (8 * i))
    return copy


# ---- hashes, modules ----

def module_hash(bytes module):
    """BLAKE2b-256 of the bytes: the module's name in the mesh."""
    cdef uint8_t out[32]
    cdef const char *data = PyBytes_AS_STRING(module)
    cdef size_t n = len(module)
    with nogil:
        c.velum_blake2b_256(data, n, out)
    return PyBytes_FromStringAndSize(<char *>out, 32)

def validate(bytes module):
    """(code, offset, function or None, text): code 0 if velum runs the module, else negative."""
    cdef c.velum_diagnosis why
    cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(module)
    cdef size_t n = len(module)
    cdef int err
    memset(&why, 0, sizeof(why))
    with nogil:
        err = c.velum_validate(data, n, &why)
    if err == 0:
        return (0, 0, None, "")
    return (err, why.offset, None if why.function == 0xFFFFFFFF else why.function,
            why.text.decode())


EXTERN_KINDS = ("function", "table", "memory", "global")


cdef int visit_extern(void *user, const c.velum_extern *e) noexcept:
    cdef list out = <list>user
    cdef int i
    try:
        signature = e.kind == c.VELUM_EXTERN_FUNCTION and e.callable
        out.append({
            "import": bool(e.is_import),
            "kind": EXTERN_KINDS[e.kind],
            "module": e.module[:e.module_size].decode(errors="replace") if e.is_import else None,
            "name": e.name[:e.name_size].decode(errors="replace"),
            "callable": bool(signature),
            "params": ([TYPE_NAMES[e.signature.params[i]] for i in range(e.signature.nparams)]
                       if signature else []),
            "result": (TYPE_NAMES[e.signature.result]
                       if signature and e.signature.nresults else None),
            "minimum": e.minimum,
            "maximum": None if e.maximum == 0xFFFFFFFF else e.maximum,
            "value_type": TYPE_NAMES.get(e.value_type),
            "mutable": bool(e.is_mutable),
        })
        return 0
    except Exception:
        return c.VELUM_E_NOMEM


def inspect(bytes module):
    """Imports, then exports, each a dict. CoreError MODULE_MALFORMED when they cannot be read."""
    out = []
    cdef int err = c.velum_module_visit(<const uint8_t *>PyBytes_AS_STRING(module), len(module),
                                        visit_extern, <void *>out)
    if err < 0:
        raise CoreError(err)
    return out


def export_signature(bytes module, bytes name):
    """(params, result or None) of an exported function. CoreError NO_EXPORT, SIGNATURE."""
    cdef c.velum_signature s
    cdef int i
    cdef int err = c.velum_module_export(<const uint8_t *>PyBytes_AS_STRING(module), len(module),
                                         PyBytes_AS_STRING(name), len(name), &s)
    if err < 0:
        raise CoreError(err)
    return (tuple([TYPE_NAMES[s.params[i]] for i in range(s.nparams)]),
            TYPE_NAMES[s.result] if s.nresults else None)


