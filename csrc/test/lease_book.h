/* lease_book.h: what the tests of leases share: a lease in one line, the book of what was reported
 * of it, and what a fresh guest a slice would have said.
 */
#ifndef VELUM_TEST_LEASE_BOOK_H
#define VELUM_TEST_LEASE_BOOK_H

#include "check.h"
#include "slices.h"
#include "vm.h"
#include "wire.h"

#define LEASE_JOB 77u

/* All that came under a lease's correlation. */
typedef struct {
    uint64_t correlation;
    unsigned reports; /* SLICES */
    bool last;
    int error;               /* of an ERROR, else 0 */
    char text[512];          /* its, or of the last slice that failed */
    uint32_t done, failed;   /* slices */
    uint32_t largest;        /* most slices in one report */
    uint64_t busy_us;        /* of all reports */
    uint8_t state[1u << 20]; /* of each slice: 0 unknown, 1 failed, 2 done */
    uint64_t value[1u << 20];
} lease_book;

static inline void book_begin(lease_book *book, uint64_t correlation) {
    memset(book, 0, sizeof *book);
    book->correlation = correlation;
}

static inline bool book_ended(const lease_book *book) {
    return book->last || book->error != 0;
}

static inline uint64_t book_get64(const uint8_t *at) {
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--) {
        value = value << 8 | at[i];
    }
    return value;
}

static inline void book_enter(lease_book *book, uint32_t slice, uint8_t state, uint64_t value) {
    CHECK(slice < 1u << 20 && book->state[slice] == 0); /* a slice is told once */
    book->state[slice] = state;
    book->value[slice] = value;
    if (state == 2) book->done++;
    if (state == 1) book->failed++;
}

static inline void book_slices(lease_book *book, const velum_frame *frame) {
    velum_slices slices;
    uint32_t before = book->done + book->failed;
    CHECK(velum_wire_get_slices(frame->payload, frame->header.length, &slices) > 0);
    CHECK_EQ(slices.job, LEASE_JOB);
    const uint8_t *at = slices.runs;
    for (uint16_t i = 0; i < slices.nruns; i++) {
        velum_slice_run run = velum_wire_next_run(&at);
        for (uint32_t j = 0; j < run.count; j++) {
            book_enter(book, run.first + j, 2, book_get64(run.values + (size_t)j * 8));
        }
    }
    at = slices.failed;
    for (uint16_t i = 0; i < slices.nfailed; i++) {
        velum_failed failed = velum_wire_next_failed(&at);
        book_enter(book, failed.slice, 1, failed.code);
        (void)snprintf(book->text, sizeof book->text, "%.*s", (int)failed.text.size,
                       failed.text.data);
    }
    if (book->done + book->failed - before > book->largest) {
        book->largest = book->done + book->failed - before;
    }
    book->reports++;
    book->busy_us += slices.busy_us;
    book->last = slices.flags == VELUM_SLICES_LAST;
}

/* Takes a frame in if it is the lease's; after its end there must be none. */
static inline bool book_take(lease_book *book, const velum_frame *frame) {
    velum_error error;
    if (frame->header.correlation != book->correlation) return false;
    CHECK(!book_ended(book));
    if (frame->header.type == VELUM_F_SLICES) {
        book_slices(book, frame);
        return true;
    }
    CHECK_EQ(frame->header.type, VELUM_F_ERROR);
    CHECK(velum_wire_get_error(frame->payload, frame->header.length, &error) > 0);
    book->error = -(int)error.code;
    (void)snprintf(book->text, sizeof book->text, "%.*s", (int)error.text.size, error.text.data);
    return true;
}

/* A lease of all slices; its hash is still missing. */
static inline velum_lease new_lease(const char *function, const velum_value *args, size_t nargs,
                                    uint32_t slices) {
    velum_lease lease;
    memset(&lease, 0, sizeof lease);
    lease.task.flags = VELUM_TASK_PLACED;
    lease.task.name = (velum_text){function, (uint16_t)strlen(function)};
    lease.task.nargs = (uint8_t)nargs;
    for (size_t i = 0; i < nargs; i++) {
        lease.task.args[i] = args[i];
    }
    lease.job = LEASE_JOB;
    lease.slices = slices;
    lease.count = slices;
    lease.priority = 1;
    return lease;
}

/* One slice of a lease in a guest of its own. */
static inline int call_alone(const velum_lease *lease, uint32_t slice, const uint8_t *module,
                             size_t n, velum_value *value) {
    velum_vm_limits limits = {lease->task.pages, lease->task.fuel, NULL, NULL};
    velum_value args[VELUM_ARGS_MAX];
    size_t nvalues;
    velum_vm *vm;
    memcpy(args, lease->task.args, sizeof args);
    velum_slice_bounds(lease->task.args[0], lease->task.args[1], lease->slices, slice, &args[0],
                       &args[1]);
    int err = velum_vm_open(&vm, module, n, &limits);
    if (err == VELUM_OK) {
        err = velum_vm_call(vm, lease->task.name.data, lease->task.name.size, args,
                            lease->task.nargs, value, &nvalues);
    }
    velum_vm_close(vm);
    return err;
}

/* Slices [first, end) are what guests of their own say, and nothing else was reported. */
static inline void book_check(const lease_book *book, const velum_lease *lease, uint32_t end,
                              const uint8_t *module, size_t n) {
    CHECK_EQ(book->done + book->failed, end - lease->first);
    for (uint32_t slice = lease->first; slice < end; slice++) {
        velum_value value = {VELUM_I32, 0};
        int err = call_alone(lease, slice, module, n, &value);
        CHECK_EQ(book->state[slice], err == VELUM_OK ? 2 : 1);
        CHECK(book->value[slice] == (err == VELUM_OK ? value.bits : (uint64_t)-err));
    }
}

#endif
