/* address.h: IPv4 addresses as people write them: "192.168.1.2:8001".
 *
 * Owns: reading and writing that form. Refuses to know: names, which a port may not be able to
 * resolve.
 */
#ifndef VELUM_ADDRESS_H
#define VELUM_ADDRESS_H

#include "velum.h"

/* The longest, "255.255.255.255:65535", and its end. */
#define VELUM_ADDRESS_TEXT_BYTES 22u

/* Reads "a.b.c.d:port", all of `size` bytes; port 1..65535. False and *out untouched if it is not
 * one. */
bool velum_address_read(const char *text, size_t size, velum_addr *out);
/* Reads "a.b.c.d" alone. */
bool velum_address_read_ip(const char *text, size_t size, uint32_t *out);
/* Writes "a.b.c.d:port" and its end; returns `text`. */
const char *velum_address_write(velum_addr addr, char text[VELUM_ADDRESS_TEXT_BYTES]);

#endif
