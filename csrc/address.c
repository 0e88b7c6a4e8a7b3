/* address.c: IPv4 addresses as people write them. See address.h. */
#include "address.h"

#include <stdio.h>
#include <string.h>

/* Reads a decimal number up to `max` and steps over it; no sign, no needless zero before it (which
 * some would read as octal). */
static bool take_number(const char **at, const char *end, uint32_t max, uint32_t *out) {
    const char *p = *at;
    uint32_t value = 0;
    while (p < end && *p >= '0' && *p <= '9') {
        value = value * 10u + (uint32_t)(*p - '0');
        if (value > max) return false;
        p++;
    }
    if (p == *at || (**at == '0' && p - *at > 1)) return false;
    *at = p;
    *out = value;
    return true;
}

/* Reads "a.b.c.d" and steps over it. */
static bool take_ip(const char **at, const char *end, uint32_t *out) {
    uint32_t ip = 0;
    for (int i = 0; i < 4; i++) {
        uint32_t byte;
        if (i > 0 && (*at == end || *(*at)++ != '.')) return false;
        if (!take_number(at, end, 255, &byte)) return false;
        ip = ip << 8 | byte;
    }
    *out = ip;
    return true;
}

bool velum_address_read_ip(const char *text, size_t size, uint32_t *out) {
    const char *at = text, *end = text + size;
    uint32_t ip;
    if (!take_ip(&at, end, &ip) || at != end) return false;
    *out = ip;
    return true;
}

bool velum_address_read(const char *text, size_t size, velum_addr *out) {
    const char *at = text, *end = text + size;
    uint32_t ip, port;
    if (!take_ip(&at, end, &ip) || at == end || *at++ != ':') return false;
    if (!take_number(&at, end, 65535, &port) || at != end || port == 0) return false;
    *out = (velum_addr){ip, (uint16_t)port};
    return true;
}

const char *velum_address_write(velum_addr addr, char text[VELUM_ADDRESS_TEXT_BYTES]) {
    (void)snprintf(text, VELUM_ADDRESS_TEXT_BYTES, "%u.%u.%u.%u:%u", (unsigned)(addr.ip >> 24),
                   (unsigned)(addr.ip >> 16 & 255u), (unsigned)(addr.ip >> 8 & 255u),
                   (unsigned)(addr.ip & 255u), (unsigned)addr.port);
    return text;
}
