"""Members, their health, datagrams, and frames that are not of jobs, files or state; a part of
`_core.pyx`.

Every struct of the wire is a plain tuple in the order of its fields.
"""

cdef object text_out(c.velum_text t):
    return (<bytes>t.data[:t.size]).decode(errors="replace") if t.size else ""


cdef bytes text_bytes(str text, size_t most):
    """UTF-8, cut behind the last whole character that fits `most` bytes."""
    cdef bytes raw = text.encode(errors="replace")
    return raw if <size_t>len(raw) <= most else raw[:most].decode(errors="ignore").encode()


cdef int text_in(bytes raw, c.velum_text *t) except -1:
    """Leads into `raw`, which the caller keeps."""
    t.data = PyBytes_AS_STRING(raw)
    t.size = <uint16_t>len(raw)
    return 0


cdef tuple addr_out(c.velum_addr a):
    return (a.ip, a.port)


cdef c.velum_addr addr_in(object a) except *:
    cdef c.velum_addr out
    out.ip = <uint32_t>a[0]
    out.port = <uint16_t>a[1]
    return out


cdef tuple health_out(const c.velum_health *h):
    return (h.cpu, h.slots, h.cores, h.flags, h.queue, h.running, h.free_mib, h.speed, h.ram_mib,
            h.ram_free_mib)


cdef int health_in(object t, c.velum_health *h) except -1:
    (h.cpu, h.slots, h.cores, h.flags, h.queue, h.running, h.free_mib, h.speed, h.ram_mib,
     h.ram_free_mib) = t
    return 0


cdef tuple member_out(const c.velum_member *m):
    return (m.id, m.state, m.role, m.incarnation, (m.addr.ip, m.addr.port), m.accuser)


cdef int member_in(object t, c.velum_member *m) except -1:
    m.id, m.state, m.role, m.incarnation, addr, m.accuser = t
    m.addr = addr_in(addr)
    return 0


cdef tuple datagram_out(const c.velum_datagram *d):
    cdef int i
    return (d.type, d.sequence, d.sender, d.target, d.incarnation, addr_out(d.addr), d.role,
            d.flags, health_out(&d.health),
            tuple([member_out(&d.updates[i]) for i in range(d.nupdates)]))


cdef int datagram_in(object t, c.velum_datagram *d) except -1:
    d.type, d.sequence, d.sender, d.target, d.incarnation, addr, d.role, d.flags, health, ups = t
    d.addr = addr_in(addr)
    memset(&d.health, 0, sizeof(d.health))
    if health is not None:
        health_in(health, &d.health)
    if len(ups) > c.VELUM_UPDATES_MAX:
        raise CoreError(c.VELUM_E_ARGUMENT, "too many updates for one datagram")
    cdef int i = 0
    for update in ups:
        member_in(update, &d.updates[i])
        i += 1
    d.nupdates = <uint8_t>i
    return 0


def encode_datagram(object datagram):
    """The bytes of a datagram tuple, for tests of the wire."""
    cdef c.velum_datagram d
    cdef uint8_t buf[2048]
    datagram_in(datagram, &d)
    cdef int n = c.velum_wire_put_datagram(buf, sizeof(buf), &d)
    if n < 0:
        raise CoreError(n)
    return PyBytes_FromStringAndSize(<char *>buf, n)


def decode_datagram(bytes data):
    """The tuple of a datagram's bytes. CoreError for anything malformed."""
    cdef c.velum_datagram d
    cdef int n = c.velum_wire_get_datagram(<const uint8_t *>PyBytes_AS_STRING(data), len(data), &d)
    if n <= 0:
        raise CoreError(n if n < 0 else c.VELUM_E_PAYLOAD)
    return datagram_out(&d)


# ---- what a frame says; None when it is malformed ----

cdef object error_out(const uint8_t *p, size_t n):
    cdef c.velum_error m
    if c.velum_wire_get_error(p, n, &m) < 0:
        return None
    return (m.code, m.node, m.deaths, text_out(m.text))


cdef object work_out(uint8_t type, const uint8_t *p, size_t n):
    cdef c.velum_call call
    cdef c.velum_task task
    payload = PyBytes_FromStringAndSize(<const char *>p, n)
    if type == c.VELUM_F_CALL:
        if c.velum_wire_get_call(p, n, &call) < 0:
            return None
        return (call.flags, call.timeout_ms, None, payload)
    if c.velum_wire_get_task(p, n, &task) < 0:
        return None
    return (task.flags, task.timeout_ms,
            PyBytes_FromStringAndSize(<const char *>task.hash, 32), payload)


cdef object steer_out(uint8_t type, const uint8_t *p, size_t n):
    cdef uint16_t code
    cdef c.velum_progress progress
    if type == c.VELUM_F_CANCEL:
        return None if c.velum_wire_get_cancel(p, n, &code) < 0 else code
    if c.velum_wire_get_progress(p, n, &progress) < 0:
        return None
    return (progress.done, progress.total)


cdef object sync_out(const uint8_t *p, size_t n):
    cdef size_t count, i
    cdef c.velum_member m
    cdef c.velum_health h
    if c.velum_wire_get_sync(p, n, &count) < 0:
        return None
    records = []
    for i in range(count):
        if c.velum_wire_get_sync_at(p, n, i, &m, &h) < 0:
            return None
        records.append((member_out(&m), health_out(&h)))
    return records


cdef object health_frame_out(const uint8_t *p, size_t n):
    cdef c.velum_health h
    return None if c.velum_wire_get_health(p, n, &h) < 0 else health_out(&h)


cdef object query_out(const uint8_t *p, size_t n):
    cdef c.velum_text t
    return None if c.velum_wire_get_query(p, n, &t) < 0 else text_out(t)
