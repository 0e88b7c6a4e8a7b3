/* kv_tell.h: what a key is, told in RESP: for VELUM.GET, and for watches.
 *
 * Owns: the names of types, how values look in RESP, and versions as text. Refuses to know: who
 * asks, and what has changed.
 */
#ifndef VELUM_KV_TELL_H
#define VELUM_KV_TELL_H

#include "kv.h"
#include "resp.h"

/* "none", "bytes", "json", "counter", "set" or "hash", as a bulk string. */
void velum_kv_tell_type(velum_resp_writer *out, const velum_kv_view *view);
/* Bytes; the sum of a counter; an array of elements; a map of fields; null for nothing. */
void velum_kv_tell_value(velum_resp_writer *out, const velum_kv *kv, velum_kv_bytes key,
                         const velum_kv_view *view);
/* "STAMP-NODE" as in the log (docs/kv.md, section 3), or "0" for zeros, as a bulk string. */
void velum_kv_tell_version(velum_resp_writer *out, velum_kv_stamp version);
/* Reads what velum_kv_tell_version has written; false: it is nothing of that. */
bool velum_kv_get_version(velum_kv_bytes text, velum_kv_stamp *version);

#endif
