/* kv_tell.c: see kv_tell.h. */
#include "kv_tell.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define TIME_DIGITS   16u
#define VERSION_BYTES 24u /* 16 digits, a hyphen, 5 digits, and an end */

static void bulk_text(velum_resp_writer *out, const char *text) {
    velum_resp_bulk(out, text, strlen(text));
}

void velum_kv_tell_type(velum_resp_writer *out, const velum_kv_view *view) {
    static const char *const names[] = {"none", "bytes", "counter", "set", "hash"};
    bulk_text(out, view->json ? "json" : names[view->type]);
}

/* ---- values ---- */

static void tell_element(void *owner, velum_kv_bytes part, velum_kv_bytes value) {
    (void)value;
    velum_resp_bulk(owner, part.data, part.size);
}

static void tell_field(void *owner, velum_kv_bytes part, velum_kv_bytes value) {
    velum_resp_bulk(owner, part.data, part.size);
    velum_resp_bulk(owner, value.data, value.size);
}

void velum_kv_tell_value(velum_resp_writer *out, const velum_kv *kv, velum_kv_bytes key,
                         const velum_kv_view *view) {
    switch (view->type) {
    case VELUM_KV_BYTES:
        velum_resp_bulk(out, view->value.data, view->value.size);
        return;
    case VELUM_KV_COUNTER:
        velum_resp_integer(out, view->sum);
        return;
    case VELUM_KV_MEMBERS:
        velum_resp_array(out, view->count);
        velum_kv_parts(kv, key, tell_element, out);
        return;
    case VELUM_KV_FIELDS:
        velum_resp_map(out, view->count);
        velum_kv_parts(kv, key, tell_field, out);
        return;
    default:
        velum_resp_null(out);
        return;
    }
}

/* ---- versions ---- */

void velum_kv_tell_version(velum_resp_writer *out, velum_kv_stamp version) {
    char text[VERSION_BYTES] = "0";
    if (version.node != 0)
        snprintf(text, sizeof text, "%016" PRIx64 "-%u", version.time, (unsigned)version.node);
    bulk_text(out, text);
}

bool velum_kv_get_version(velum_kv_bytes text, velum_kv_stamp *version) {
    unsigned node = 0;
    memset(version, 0, sizeof *version);
    if (text.size == 1 && text.data[0] == '0') return true;
    if (text.size < TIME_DIGITS + 2 || text.size >= VERSION_BYTES) return false;
    for (size_t i = 0; i < TIME_DIGITS; i++) {
        uint8_t c = text.data[i];
        bool letter = c >= 'a' && c <= 'f';
        if (!letter && (c < '0' || c > '9')) return false;
        version->time = version->time << 4 | (letter ? c - (uint64_t)'a' + 10 : c - (uint64_t)'0');
    }
    if (text.data[TIME_DIGITS] != '-' || text.data[TIME_DIGITS + 1] == '0') return false;
    for (size_t i = TIME_DIGITS + 1; i < text.size; i++) {
        unsigned digit = text.data[i] - (unsigned)'0';
        if (digit > 9) return false;
        node = 10 * node + digit;
    }
    version->node = (uint16_t)node;
    return node <= UINT16_MAX;
}
