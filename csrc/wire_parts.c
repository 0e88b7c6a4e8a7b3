/* wire_parts.c: what messages are made of: texts and values.
 *
 * Owns: their encoding, and what is well-formed. Refuses to know: messages.
 */
#include "wire_parts.h"

/* ---- texts ---- */

/* Length of the well-formed UTF-8 sequence at p (Unicode 15, table 3-7), or 0. */
static size_t utf8_sequence(const uint8_t *p, size_t left) {
    uint8_t low = 0x80, high = 0xbf;
    size_t n;
    if (p[0] < 0x80) return 1;
    if (p[0] < 0xc2 || p[0] > 0xf4) return 0;
    n = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (left < n) return 0;
    if (p[0] == 0xe0) low = 0xa0;  /* no longer than needed */
    if (p[0] == 0xed) high = 0x9f; /* no surrogates */
    if (p[0] == 0xf0) low = 0x90;
    if (p[0] == 0xf4) high = 0x8f; /* not above U+10FFFF */
    if (p[1] < low || p[1] > high) return 0;
    for (size_t i = 2; i < n; i++)
        if ((p[i] & 0xc0u) != 0x80u) return 0;
    return n;
}

bool velum__text_ok(velum_text text, size_t max) {
    const uint8_t *p = (const uint8_t *)text.data;
    size_t left = text.size;
    if (left > max || (p == NULL && left > 0)) return false;
    while (left > 0) {
        size_t n = utf8_sequence(p, left);
        if (n == 0) return false;
        p += n;
        left -= n;
    }
    return true;
}

uint8_t *velum__put_text8(uint8_t *p, velum_text text) {
    return velum__put_bytes(velum__put8(p, (uint8_t)text.size), text.data, text.size);
}

uint8_t *velum__put_text16(uint8_t *p, velum_text text) {
    return velum__put_bytes(velum__put16(p, text.size), text.data, text.size);
}

static bool get_text(velum__reader *r, size_t size, velum_text *out) {
    out->data = (const char *)velum__take(r, size);
    out->size = (uint16_t)size;
    return out->data != NULL;
}

bool velum__get_text8(velum__reader *r, velum_text *out) {
    const uint8_t *size = velum__take(r, 1);
    return size != NULL && get_text(r, *size, out);
}

bool velum__get_text16(velum__reader *r, velum_text *out) {
    const uint8_t *size = velum__take(r, 2);
    return size != NULL && get_text(r, velum__get16(size), out);
}

/* ---- values ---- */

static bool type_ok(uint8_t type) {
    return type >= VELUM_F64 && type <= VELUM_I32;
}

/* Bytes after the type: the 32-bit types are the odd codes. */
static size_t width_of(uint8_t type) {
    return (type & 1u) != 0 ? 4 : 8;
}

bool velum__value_ok(velum_value value) {
    return type_ok(value.type) && (width_of(value.type) == 8 || value.bits <= UINT32_MAX);
}

size_t velum__values_size(const velum_value *values, size_t count) {
    size_t size = 1;
    if (count > VELUM_ARGS_MAX) return 0;
    for (size_t i = 0; i < count; i++) {
        if (!velum__value_ok(values[i])) return 0;
        size += 1 + width_of(values[i].type);
    }
    return size;
}

uint8_t *velum__put_values(uint8_t *p, const velum_value *values, uint8_t count) {
    p = velum__put8(p, count);
    for (size_t i = 0; i < count; i++) {
        p = velum__put8(p, values[i].type);
        if (width_of(values[i].type) == 4)
            p = velum__put32(p, (uint32_t)values[i].bits);
        else
            p = velum__put64(p, values[i].bits);
    }
    return p;
}

bool velum__get_values(velum__reader *r, velum_value *values, uint8_t max, uint8_t *count) {
    const uint8_t *p = velum__take(r, 1);
    if (p == NULL || *p > max) return false;
    *count = *p;
    for (size_t i = 0; i < *count; i++) {
        const uint8_t *type = velum__take(r, 1);
        if (type == NULL || !type_ok(*type)) return false;
        p = velum__take(r, width_of(*type));
        if (p == NULL) return false;
        values[i].type = *type;
        values[i].bits = width_of(*type) == 4 ? velum__get32(p) : velum__get64(p);
    }
    return true;
}
