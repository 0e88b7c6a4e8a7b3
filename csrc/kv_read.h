/* kv_read.h: reads the lines of a log from its file, from the first to the last.
 *
 * Owns: which line is a record, which is damage, and where the torn tail begins. Refuses to know:
 * who writes the file, and what records mean; it changes nothing. How: pieces of the file, in each
 * of them line after line by kv_text.h. What is damaged counts only once a good line comes behind
 * it: until then it may be the torn tail.
 */
#ifndef VELUM_KV_READ_H
#define VELUM_KV_READ_H

#include "kv_text.h"
#include "velum_port.h"

/* What was found in a log. Offsets in bytes. */
typedef struct {
    uint64_t records, plain;         /* all good lines; of these, those without a trailer */
    uint64_t damaged, first_damaged; /* lines passed over; where the first one begins */
    uint64_t torn_bytes;             /* all behind the last good line */
} velum_kv_found;

typedef struct {
    void *owner;
    /* Every good line; a plain one's stamp is zeros. */
    void (*record)(void *owner, const velum_kv_record *record, uint64_t offset);
    /* Every line that is damaged, those of the torn tail too, in order. NULL: nobody asks. */
    void (*damage)(void *owner, uint64_t offset, uint64_t bytes);
} velum_kv_reading;

/* Reads all of the file; in *end where its last good line ends. SYSTEM, NOMEM. */
int velum_kv_read(velum_fd file, const velum_kv_reading *reading, velum_kv_found *found,
                  uint64_t *end);

/* What the time of a plain line's stamp is, if `greatest` is that of all lines before it: it is as
 * late as its place. So it gets the same one whenever the log is read, and what was written after
 * it stays later. Even, as the stamps of clocks are. */
static inline uint64_t velum_kv_plain_time(uint64_t greatest) {
    return (greatest | 1) + 1;
}

#endif
