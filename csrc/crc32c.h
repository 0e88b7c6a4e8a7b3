/* crc32c.h: the check of a log's lines.
 *
 * Owns: CRC32C (Castagnoli's polynomial 0x1EDC6F41, reflected, as in RFC 3720, appendix B.4; of
 * "123456789" it is 0xE3069283). How: the processor's instruction where the compiler may use it or
 * the machine is found to have it, else tables of eight bytes at a time.
 */
#ifndef VELUM_CRC32C_H
#define VELUM_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Of n more bytes behind those of which it is `crc`; 0 at the beginning. Any thread. */
uint32_t velum_crc32c(uint32_t crc, const void *data, size_t n);

#endif
