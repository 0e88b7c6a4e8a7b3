/* file_posix.c: files, and the thread that syncs them, on Linux, macOS and the BSDs.
 *
 * Owns: descriptors of files, their locks, and what it takes until a byte or a name is on disk.
 * Refuses to know: what lies in the files. How: pread, pwrite, ftruncate and fdatasync, each
 * repeated when a signal has interrupted it. A lock is flock's: it goes with the process, also when
 * that is killed. A new name is on disk once its folder is synced.
 */
#define _DEFAULT_SOURCE  /* glibc, musl: more than ISO C */
#define _DARWIN_C_SOURCE /* macOS: the same */
#define _NETBSD_SOURCE   /* NetBSD: the same */

#include "velum_port.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

/* Who may read a new file is the umask's to say. */
#define FILE_MODE 0644

/* How often a file that was renamed away while it was being locked is opened again: only somebody
 * who renames all the time is in the way so often. */
#define LOCK_TRIES_MAX 8

static int error_of(int number) {
    if (number == ENOSPC || number == EDQUOT || number == EFBIG) return VELUM_E_NO_SPACE;
    if (number == EWOULDBLOCK) return VELUM_E_LOCKED;
    if (number == ENOENT) return VELUM_E_NOT_FOUND;
    return VELUM_E_SYSTEM;
}

/* ---- folders ---- */

/* Brings the names in the folder of `path` to disk. */
static int sync_folder(const char *path) {
    const char *slash = strrchr(path, '/');
    size_t size = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
    char *folder = malloc(size + 2);
    int fd, r;
    if (folder == NULL) return VELUM_E_NOMEM;
    memcpy(folder, path, size);
    memcpy(folder + size, size == 0 ? "." : "", size == 0 ? 2 : 1);
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(folder);
    if (fd < 0) return error_of(errno);
    do
        r = fsync(fd);
    while (r < 0 && errno == EINTR);
    if (r < 0)
        r = errno == EINVAL ? 0 : error_of(errno); /* EINVAL: folders are never synced here */
    close(fd);
    return r;
}

/* ---- files ---- */

/* Opens the file, or makes it; a descriptor or an error. */
static int open_or_make(const char *path, bool make, bool writing) {
    int err, fd = open(path, (writing ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && make) {
        fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, FILE_MODE);
        if (fd < 0 && errno == EEXIST) return VELUM_E_AGAIN; /* somebody was faster */
        if (fd >= 0 && (err = sync_folder(path)) < 0) {
            unlink(path); /* its next opening must not take it for a file that is on disk */
            close(fd);
            return err;
        }
    }
    return fd < 0 ? error_of(errno) : fd;
}

/* Locks an open file. AGAIN: by then another one had its name. */
static int lock_file(int fd, const char *path) {
    struct stat here, there;
    int r;
    do
        r = flock(fd, LOCK_EX | LOCK_NB);
    while (r < 0 && errno == EINTR);
    if (r < 0) return error_of(errno);
    if (fstat(fd, &here) < 0) return VELUM_E_SYSTEM;
    if (stat(path, &there) < 0) return errno == ENOENT ? VELUM_E_AGAIN : VELUM_E_SYSTEM;
    return here.st_dev == there.st_dev && here.st_ino == there.st_ino ? 0 : VELUM_E_AGAIN;
}

int velum_port_file_open(const char *path, bool make, bool lock, velum_fd *out) {
    int err = VELUM_E_AGAIN;
    for (int tries = 0; tries < LOCK_TRIES_MAX && err == VELUM_E_AGAIN; tries++) {
        struct stat about;
        int fd = open_or_make(path, make, make || lock);
        err = fd < 0 ? fd : 0;
        if (err == 0 && (fstat(fd, &about) < 0 || !S_ISREG(about.st_mode))) err = VELUM_E_SYSTEM;
        if (err == 0 && lock) err = lock_file(fd, path);
        if (err == 0) *out = fd;
        if (err < 0 && fd >= 0) close(fd);
    }
    return err == VELUM_E_AGAIN ? VELUM_E_LOCKED : err;
}

int64_t velum_port_file_size(velum_fd file) {
    struct stat about;
    return fstat(file, &about) < 0 ? VELUM_E_SYSTEM : (int64_t)about.st_size;
}

int velum_port_file_read(velum_fd file, uint64_t offset, void *buf, size_t n) {
    ssize_t r;
    if (n > INT_MAX) n = INT_MAX;
    do
        r = pread(file, buf, n, (off_t)offset);
    while (r < 0 && errno == EINTR);
    return r < 0 ? VELUM_E_SYSTEM : (int)r;
}

int velum_port_file_write(velum_fd file, uint64_t offset, const void *buf, size_t n) {
    const char *at = buf;
    while (n > 0) {
        ssize_t r = pwrite(file, at, n, (off_t)offset);
        if (r < 0 && errno == EINTR) continue;
        if (r < 0) return error_of(errno);
        if (r == 0) return VELUM_E_SYSTEM;
        at += r;
        offset += (uint64_t)r;
        n -= (size_t)r;
    }
    return 0;
}

int velum_port_file_cut(velum_fd file, uint64_t size) {
    int r;
    do
        r = ftruncate(file, (off_t)size);
    while (r < 0 && errno == EINTR);
    return r < 0 ? VELUM_E_SYSTEM : 0;
}

int velum_port_file_sync(velum_fd file) {
    int r;
    do
#if defined(__APPLE__)
        r = fcntl(file, F_FULLFSYNC); /* fsync leaves it in the drive's memory */
#else
        r = fdatasync(file);
#endif
    while (r < 0 && errno == EINTR);
    return r < 0 ? error_of(errno) : 0;
}

void velum_port_file_close(velum_fd file) {
    close(file);
}

int velum_port_file_rename(const char *from, const char *to) {
    if (rename(from, to) < 0) return error_of(errno);
    return sync_folder(to) < 0 ? VELUM_E_UNCERTAIN : 0;
}

int velum_port_file_remove(const char *path) {
    return unlink(path) < 0 && errno != ENOENT ? VELUM_E_SYSTEM : 0;
}

/* ---- the syncer ---- */

struct velum_port_syncer {
    pthread_t thread;
    pthread_mutex_t mutex; /* for all below */
    pthread_cond_t asked;  /* there is a job, or it is to end */
    velum_fd waker;
    velum_fd file; /* what is to be synced */
    enum { IDLE, UNDER_WAY, ENDED } state;
    int error; /* once ENDED */
    bool stop;
};

static void *sync_on_demand(void *user) {
    velum_port_syncer *s = user;
    pthread_mutex_lock(&s->mutex);
    for (;;) {
        int error;
        while (s->state != UNDER_WAY && !s->stop)
            pthread_cond_wait(&s->asked, &s->mutex);
        if (s->state != UNDER_WAY) break;
        pthread_mutex_unlock(&s->mutex);
        error = velum_port_file_sync(s->file);
        pthread_mutex_lock(&s->mutex);
        s->error = error;
        s->state = ENDED;
        if (s->waker != VELUM_NO_FD) velum_port_wake(s->waker);
    }
    pthread_mutex_unlock(&s->mutex);
    return NULL;
}

int velum_port_syncer_open(velum_port_syncer **out, velum_fd waker) {
    velum_port_syncer *s = calloc(1, sizeof *s);
    sigset_t all, before;
    int r;
    if (s == NULL) return VELUM_E_NOMEM;
    s->waker = waker;
    pthread_mutex_init(&s->mutex, NULL);
    pthread_cond_init(&s->asked, NULL);
    sigfillset(&all); /* signals are for the other threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    r = pthread_create(&s->thread, NULL, sync_on_demand, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r == 0) {
        *out = s;
        return 0;
    }
    pthread_cond_destroy(&s->asked);
    pthread_mutex_destroy(&s->mutex);
    free(s);
    return VELUM_E_SYSTEM;
}

int velum_port_syncer_begin(velum_port_syncer *s, velum_fd file) {
    int err = VELUM_E_BUSY;
    pthread_mutex_lock(&s->mutex);
    if (s->state == IDLE) {
        s->file = file;
        s->state = UNDER_WAY;
        pthread_cond_signal(&s->asked);
        err = 0;
    }
    pthread_mutex_unlock(&s->mutex);
    return err;
}

int velum_port_syncer_poll(velum_port_syncer *s, int *error) {
    int r = -1;
    pthread_mutex_lock(&s->mutex);
    if (s->state == UNDER_WAY) r = 0;
    if (s->state == ENDED) {
        *error = s->error;
        s->state = IDLE;
        r = 1;
    }
    pthread_mutex_unlock(&s->mutex);
    return r;
}

void velum_port_syncer_close(velum_port_syncer *s) {
    if (s == NULL) return;
    pthread_mutex_lock(&s->mutex);
    s->stop = true;
    pthread_cond_signal(&s->asked);
    pthread_mutex_unlock(&s->mutex);
    pthread_join(s->thread, NULL);
    pthread_cond_destroy(&s->asked);
    pthread_mutex_destroy(&s->mutex);
    free(s);
}
