/* test_file_posix.c: the POSIX port's files and syncer, in a folder of their own. */
#define _DEFAULT_SOURCE
#define _DARWIN_C_SOURCE

#include "check.h"
#include "velum_port.h"

#include <stdlib.h>
#include <fcntl.h>
#include <unistd.h>

#define DEADLINE_US 5000000

static velum_fd open_file(const char *path) {
    velum_fd fd = VELUM_NO_FD;
    CHECK_EQ(velum_port_file_open(path, true, true, &fd), 0);
    return fd;
}

static void test_bytes(void) {
    char buf[16] = "";
    velum_fd fd = VELUM_NO_FD;
    CHECK_EQ(velum_port_file_open("a", false, true, &fd), VELUM_E_NOT_FOUND);
    CHECK_EQ(velum_port_file_open("no/a", true, true, &fd), VELUM_E_NOT_FOUND);
    CHECK_EQ(velum_port_file_open(".", false, true, &fd), VELUM_E_SYSTEM);
    fd = open_file("a");
    CHECK_EQ(velum_port_file_size(fd), 0);
    CHECK_EQ(velum_port_file_read(fd, 0, buf, sizeof buf), 0);
    CHECK_EQ(velum_port_file_write(fd, 0, "hello world", 11), 0);
    CHECK_EQ(velum_port_file_write(fd, 6, "velum", 5), 0);
    CHECK_EQ(velum_port_file_sync(fd), 0);
    CHECK_EQ(velum_port_file_size(fd), 11);
    CHECK_EQ(velum_port_file_read(fd, 4, buf, sizeof buf), 7);
    CHECK(memcmp(buf, "o velum", 7) == 0);
    CHECK_EQ(velum_port_file_cut(fd, 5), 0);
    CHECK_EQ(velum_port_file_size(fd), 5);
    velum_port_file_close(fd);
    fd = open_file("a");
    CHECK_EQ(velum_port_file_read(fd, 0, buf, sizeof buf), 5);
    CHECK(memcmp(buf, "hello", 5) == 0);
    velum_port_file_close(fd);
    CHECK_EQ(velum_port_file_size(fd), VELUM_E_SYSTEM);
    CHECK_EQ(velum_port_file_sync(fd), VELUM_E_SYSTEM);
}

static void test_full(void) {
    velum_fd fd = VELUM_NO_FD;
    int full = open("/dev/full", O_WRONLY);
    if (full < 0) return; /* only some systems have it */
    CHECK_EQ(velum_port_file_write(full, 0, "a", 1), VELUM_E_NO_SPACE);
    close(full);
    CHECK_EQ(velum_port_file_open("/dev/full", false, false, &fd), VELUM_E_SYSTEM); /* no file */
}

static void test_lock_and_names(void) {
    velum_fd a = open_file("a"), b, other = VELUM_NO_FD;
    char buf[8];
    CHECK_EQ(velum_port_file_open("a", true, true, &other), VELUM_E_LOCKED);
    CHECK_EQ(velum_port_file_open("a", true, false, &other), 0);
    velum_port_file_close(other);
    CHECK_EQ(velum_port_file_open("a", false, false, &other), 0); /* for reading alone */
    CHECK_EQ(velum_port_file_write(other, 0, "x", 1), VELUM_E_SYSTEM);
    velum_port_file_close(other);
    b = open_file("b");
    CHECK_EQ(velum_port_file_write(b, 0, "new", 3), 0);
    CHECK_EQ(velum_port_file_rename("b", "a"), 0);
    CHECK_EQ(velum_port_file_open("b", false, true, &other), VELUM_E_NOT_FOUND);
    velum_port_file_close(a);
    CHECK_EQ(velum_port_file_open("a", true, true, &other), VELUM_E_LOCKED); /* b's lock */
    velum_port_file_close(b);
    a = open_file("a");
    CHECK_EQ(velum_port_file_read(a, 0, buf, sizeof buf), 3);
    CHECK_EQ(velum_port_file_rename("b", "a"), VELUM_E_NOT_FOUND);
    CHECK_EQ(velum_port_file_remove("a"), 0);
    CHECK_EQ(velum_port_file_remove("a"), 0);
    CHECK_EQ(velum_port_file_remove("."), VELUM_E_SYSTEM);
    velum_port_file_close(a);
}

static void test_syncer(void) {
    velum_fd reader, writer, fd = open_file("a");
    velum_port_syncer *syncer = NULL;
    int error = 1;
    CHECK_EQ(velum_port_wake_open(&reader, &writer), 0);
    CHECK_EQ(velum_port_syncer_open(&syncer, writer), 0);
    CHECK_EQ(velum_port_syncer_poll(syncer, &error), -1);
    for (int i = 0; i < 20; i++) {
        velum_port_poll p = {.fd = reader, .want = VELUM_READABLE};
        velum_fd what = i % 2 == 0 ? fd : VELUM_NO_FD;
        CHECK_EQ(velum_port_file_write(fd, (uint64_t)i, "x", 1), 0);
        CHECK_EQ(velum_port_syncer_begin(syncer, what), 0);
        CHECK_EQ(velum_port_syncer_begin(syncer, fd), VELUM_E_BUSY); /* until it was asked */
        CHECK_EQ(velum_port_wait(&p, 1, DEADLINE_US), 1);
        velum_port_wake_clear(reader);
        CHECK_EQ(velum_port_syncer_poll(syncer, &error), 1);
        CHECK_EQ(error, what == fd ? 0 : VELUM_E_SYSTEM);
        CHECK_EQ(velum_port_syncer_poll(syncer, &error), -1);
    }
    CHECK_EQ(velum_port_syncer_begin(syncer, fd), 0);
    velum_port_syncer_close(syncer); /* waits */
    velum_port_syncer_close(NULL);
    CHECK_EQ(velum_port_syncer_open(&syncer, VELUM_NO_FD), 0);
    CHECK_EQ(velum_port_syncer_begin(syncer, fd), 0);
    velum_port_syncer_close(syncer);
    velum_port_file_close(fd);
    CHECK_EQ(velum_port_file_remove("a"), 0);
    velum_port_close(reader);
    velum_port_close(writer);
}

int main(void) {
    char folder[] = "/tmp/velum-file-XXXXXX";
    if (mkdtemp(folder) == NULL || chdir(folder) != 0) return 1;
    test_bytes();
    test_full();
    test_lock_and_names();
    test_syncer();
    CHECK_EQ(rmdir(folder), 0); /* nothing is left */
    return check_report("file_posix");
}
