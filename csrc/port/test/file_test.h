/* file_test.h: the controls of the test port's disk.
 *
 * The disk lies in memory and records every call that changes it, in order: files made, writes,
 * cuts, syncs, renames, removals. So a test can run something once, take the disk away, and look at
 * what a crash at any point may have left of it:
 *
 *     velum_test_disk_reset();                      an empty disk
 *     ...                                           use the core as on any port
 *     disk = velum_test_disk_take();                what has been recorded; an empty disk is left
 *     for (n = 0; n <= velum_test_disk_operations(disk); n++) {
 *         velum_test_disk_crash(disk, n, VELUM_TEST_KEEP_SOME, SIZE_MAX);
 *         ...                                       open again, and see what is there
 *     }
 *     velum_test_disk_free(disk);
 *
 * What is certain after a crash: that files were made and renamed; what was written before a sync
 * of its file began that has ended well; what was removed before a file was made or renamed. What
 * is not: all else, in any subset, and writes in pieces, but for one thing: names and sizes go to
 * disk in order, so a cut is kept if something later of its file is. A sync that has failed leaves
 * what it was for uncertain for ever.
 *
 * Misuse (a closed handle, a file closed while a syncer is at it) ends the program.
 */
#ifndef VELUM_FILE_TEST_H
#define VELUM_FILE_TEST_H

#include "velum_port.h"

typedef struct velum_test_disk velum_test_disk;

/* An empty disk without faults; handles and syncers must have been closed. */
void velum_test_disk_reset(void);
/* Hands the disk over as it was recorded, and leaves an empty one without faults. Handles that are
 * open are those of a process that was killed: all calls on them but to close say SYSTEM. */
velum_test_disk *velum_test_disk_take(void);
void velum_test_disk_free(velum_test_disk *disk);
/* How many have been recorded; NULL: of the disk in use. */
size_t velum_test_disk_operations(const velum_test_disk *disk);
/* How many bytes the operation writes; 0: it is no write. NULL: of the disk in use. */
size_t velum_test_disk_bytes(const velum_test_disk *disk, size_t operation);

typedef enum {
    VELUM_TEST_KEEP_ALL,    /* as when a process is killed */
    VELUM_TEST_KEEP_SYNCED, /* nothing but what is certain */
    VELUM_TEST_KEEP_SOME    /* random ones of the others, some of them in pieces */
} velum_test_keep;

/* The disk in use becomes what `disk` may hold after its first n operations. If the last of them is
 * a write, of it at most the first `torn_bytes`. */
void velum_test_disk_crash(velum_test_disk *disk, size_t n, velum_test_keep keep,
                           size_t torn_bytes);
/* Of what KEEP_SOME keeps. */
void velum_test_disk_seed(uint64_t seed);

/* ---- faults, of the disk in use ---- */

/* All files together have at most so many bytes; a write beyond is NO_SPACE, and leaves in the file
 * what still fits. UINT64_MAX at first. */
void velum_test_disk_space(uint64_t bytes);
/* The call that comes after so many others that can fail says `err` and changes nothing; but a
 * write leaves the half in the file, and a rename that is UNCERTAIN takes place, uncertainly. */
void velum_test_disk_fail(size_t after, int err);
/* Whether the call that was to fail has been made. */
bool velum_test_disk_failed(void);
/* From now on syncs end with `err`; 0: well. */
void velum_test_disk_fail_syncs(int err);
/* While it is true syncers are under way and do not end. When it turns false all of them do. */
void velum_test_disk_hold(bool hold);

/* Handles and syncers that are open. */
size_t velum_test_disk_open(void);

#endif
