/* validate_reader.c: LEB128, UTF-8 and bounds. See validate_reader.h. */
#include "validate_reader.h"

int velum__fail_at(velum__reader *r, const uint8_t *at, int err, const char *text) {
    r->fault->offset = (uint32_t)(at - r->start);
    r->fault->text = text;
    return err;
}

int velum__fail(velum__reader *r, int err, const char *text) {
    return velum__fail_at(r, r->at, err, text);
}

static int unexpected_end(velum__reader *r) {
    return velum__fail_at(r, r->end, VELUM_E_MODULE_MALFORMED, "unexpected end");
}

int velum__read_byte(velum__reader *r, uint8_t *out) {
    if (r->at == r->end) return unexpected_end(r);
    *out = *r->at++;
    return 0;
}

int velum__skip(velum__reader *r, uint32_t size) {
    if (size > velum__left(r)) return unexpected_end(r);
    r->at += size;
    return 0;
}

int velum__read_part(velum__reader *r, uint32_t size, velum__reader *part) {
    const uint8_t *at = r->at;
    VELUM__TRY(velum__skip(r, size));
    *part = *r;
    part->at = at;
    part->end = r->at;
    return 0;
}

int velum__read_u32_long(velum__reader *r, uint32_t *out) {
    const uint8_t *at = r->at;
    uint32_t value = 0;
    for (unsigned shift = 0; shift < 35; shift += 7) {
        uint8_t byte;
        VELUM__TRY(velum__read_byte(r, &byte));
        if (shift == 28 && byte > 0x0f)
            return velum__fail_at(r, at, VELUM_E_MODULE_MALFORMED,
                                  byte >= 0x80 ? "integer too long" : "integer too large");
        value |= (uint32_t)(byte & 0x7fu) << shift;
        if (byte < 0x80) break;
    }
    *out = value;
    return 0;
}

int velum__read_signed(velum__reader *r, unsigned bits, int64_t *out) {
    const uint8_t *at = r->at;
    uint64_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
        uint8_t byte;
        VELUM__TRY(velum__read_byte(r, &byte));
        value |= (uint64_t)(byte & 0x7fu) << shift;
        if (shift + 7 >= bits) {
            /* The last byte: the value's sign bit and every unused bit above it are all alike. */
            unsigned sign_and_unused = (0x7fu << (bits - shift - 1)) & 0x7fu;
            unsigned found = byte & sign_and_unused;
            if (byte >= 0x80)
                return velum__fail_at(r, at, VELUM_E_MODULE_MALFORMED, "integer too long");
            if (found != 0 && found != sign_and_unused)
                return velum__fail_at(r, at, VELUM_E_MODULE_MALFORMED, "integer too large");
        }
        if (byte < 0x80) {
            if ((byte & 0x40) != 0 && shift + 7 < 64) value |= ~(uint64_t)0 << (shift + 7);
            break;
        }
    }
    /* Two's complement without relying on an out-of-range conversion. */
    *out = value >> 63 ? -(int64_t)(~value) - 1 : (int64_t)value;
    return 0;
}

int velum__read_count(velum__reader *r, uint32_t element_size_min, uint32_t *out) {
    const uint8_t *at = r->at;
    VELUM__TRY(velum__read_u32(r, out));
    if (*out > velum__left(r) / element_size_min)
        return velum__fail_at(r, at, VELUM_E_MODULE_MALFORMED, "count exceeds its section");
    return 0;
}

/* How many bytes the first character of `s` takes; 0 when it is not UTF-8. Unicode Standard, table
 * 3-7 (well-formed byte sequences): no over-long form, no surrogate, nothing above U+10FFFF. */
static size_t utf8_character(const uint8_t *s, size_t n) {
    static const struct {
        uint8_t first_low, first_high, second_low, second_high, size;
    } forms[] = {
        {0x00, 0x7f, 0x80, 0xbf, 1}, {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        if (s[0] < forms[i].first_low || s[0] > forms[i].first_high) continue;
        if (forms[i].size > n) return 0;
        if (forms[i].size > 1 && (s[1] < forms[i].second_low || s[1] > forms[i].second_high))
            return 0;
        for (size_t k = 2; k < forms[i].size; k++)
            if ((s[k] & 0xc0) != 0x80) return 0;
        return forms[i].size;
    }
    return 0;
}

int velum__read_name(velum__reader *r, const uint8_t **bytes, uint32_t *size) {
    VELUM__TRY(velum__read_u32(r, size));
    *bytes = r->at;
    VELUM__TRY(velum__skip(r, *size));
    for (size_t done = 0; done < *size;) {
        size_t step = utf8_character(*bytes + done, *size - done);
        if (step == 0)
            return velum__fail_at(r, *bytes + done, VELUM_E_MODULE_MALFORMED,
                                  "malformed UTF-8 encoding");
        done += step;
    }
    return 0;
}
