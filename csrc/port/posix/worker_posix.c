/* worker_posix.c: confines a worker process with what POSIX and Linux have for it.
 *
 * Owns: limits, priority and signals of the process. Refuses to know: tasks, guests. All of it is a
 * second line: the engine keeps guests within their memory, stack and time; this is for the day it
 * does not.
 */
#define _DEFAULT_SOURCE 1

#include "worker_posix.h"

#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#if defined(__GLIBC__)
#include <malloc.h>
#endif
#if defined(__linux__)
#include <sys/prctl.h>
#endif

#include "velum_opt.h"

/* Guests run when nobody else wants the CPU more: gossip and the machine's owner come first. */
#define NICE 5

/* Stack beside what a guest may use. */
#define STACK_SPARE_BYTES (1024u * 1024u)

/* Blocks from this size on are mapped, and unmapped when freed: a guest's memory does not stay with
 * the worker. Setting it also keeps the C library from raising it. */
#define MAPPED_BYTES (256 * 1024)

/* A sanitizer's shadow memory alone is larger than any limit on the address space. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#endif
#if !defined(SANITIZED)
#define SANITIZED 0
#endif

/* Lowers a soft limit, and the hard one too. */
static void limit(int resource, uint64_t value) {
    struct rlimit now;
    if (getrlimit(resource, &now) != 0) return;
    if (now.rlim_max == RLIM_INFINITY || now.rlim_max > value) now.rlim_max = (rlim_t)value;
    now.rlim_cur = now.rlim_max;
    (void)setrlimit(resource, &now);
}

/* The main thread's stack grows up to its soft limit, which may be raised while it runs. */
static int want_stack(rlim_t bytes) {
    struct rlimit now;
    if (getrlimit(RLIMIT_STACK, &now) != 0) return VELUM_E_SYSTEM;
    if (now.rlim_cur == RLIM_INFINITY || now.rlim_cur >= bytes) return VELUM_OK;
    if (now.rlim_max != RLIM_INFINITY && now.rlim_max < bytes) return VELUM_E_SYSTEM;
    now.rlim_cur = bytes;
    return setrlimit(RLIMIT_STACK, &now) == 0 ? VELUM_OK : VELUM_E_SYSTEM;
}

#if defined(__linux__)
static pid_t parent;

/* Linux sends this when the thread that started us ends; only its process's end is ours too. */
static void on_parent_thread_end(int number) {
    (void)number;
    if (getppid() != parent) _exit(1);
}

static void end_with_parent(void) {
    parent = getppid();
    (void)signal(SIGHUP, on_parent_thread_end);
    (void)prctl(PR_SET_PDEATHSIG, SIGHUP);
}
#else
static void end_with_parent(void) {
}
#endif

/* What holds for both kinds of process. */
static int confine_memory(uint64_t bytes_max) {
    limit(RLIMIT_CORE, 0);
    if (!SANITIZED && bytes_max <= SIZE_MAX) limit(RLIMIT_AS, bytes_max);
#if defined(__GLIBC__)
    (void)mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES);
    (void)mallopt(M_TRIM_THRESHOLD, MAPPED_BYTES);
#endif
    return want_stack(VELUM_NATIVE_STACK_BYTES + STACK_SPARE_BYTES);
}

int velum_worker_confine(uint64_t bytes_max) {
    end_with_parent();
    (void)!nice(NICE);
    (void)signal(SIGINT, SIG_IGN);
    return confine_memory(bytes_max);
}

/* ---- a node of its own ---- */

static void (*stop_node)(void);

static void on_stop(int number) {
    (void)number;
    stop_node();
}

int velum_worker_stand_alone(uint64_t bytes_max, void (*stop)(void)) {
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_stop;
    action.sa_flags = (int)SA_RESETHAND; /* the second time it is deadly again */
    stop_node = stop;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        (void)sigaction(numbers[i], &action, NULL);
    }
    return confine_memory(bytes_max);
}
