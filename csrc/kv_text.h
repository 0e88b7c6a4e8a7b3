/* kv_text.h: records as lines of text, as they lie in a log.
 *
 * Owns: the layout of docs/kv.md, section 3. Refuses to know: files, and what records mean.
 * How: writing is one pass; reading finds the line's end, checks the CRC, and unescapes into memory
 * of the caller's, so that a line can be read where it lies.
 */
#ifndef VELUM_KV_TEXT_H
#define VELUM_KV_TEXT_H

#include "kv_record.h"

/* The longest line, its line feed included: every byte escaped as four. */
#define VELUM_KV_LINE_BYTES_MAX                                                                    \
    (4u * (VELUM_KV_KEY_BYTES_MAX + VELUM_KV_PART_BYTES_MAX + VELUM_KV_VALUE_BYTES_MAX) + 256u)

/* How many bytes velum_kv_text_put needs at most for this record. */
size_t velum_kv_text_room(const velum_kv_record *record);

/* Writes a line, with its line feed; its size. ARGUMENT: a field is out of its range (the record is
 * none that may be written); TOO_LARGE: it does not fit into `room`. */
int velum_kv_text_put(const velum_kv_record *record, char *out, size_t room);

typedef enum {
    VELUM_KV_LINE_RECORD = 1, /* *record */
    VELUM_KV_LINE_PLAIN,      /* KEY=VALUE without more: *record is a SET with zeros for a stamp */
    VELUM_KV_LINE_DAMAGED     /* neither; or its CRC is wrong, or a word, or a limit */
} velum_kv_line;

/* Reads the line at `text`, n bytes or fewer. The bytes that it takes, its line feed included; 0:
 * the line does not end within n (and n <= VELUM_KV_LINE_BYTES_MAX; a longer one is DAMAGED, up to
 * and with its line feed if that is there, else all n: what then follows, up to the line feed, is
 * damage too, whatever it looks like). *what says what it is. The record's bytes lie in `memory`,
 * of at least as many bytes as the line; they are what was written, byte for byte. Every line that
 * velum_kv_text_put has written is read as the same record; any other that is read as a RECORD is
 * one that it would write, byte for byte.
 *
 * A plain line has no check: one directly before a DAMAGED line is to be taken for damage as well,
 * since a line feed that gets into a record's value makes such a pair; unless the damaged one has
 * no end, or zero bytes, as what a crash leaves. */
size_t velum_kv_text_get(const char *text, size_t n, uint8_t *memory, velum_kv_line *what,
                         velum_kv_record *record);

#endif
