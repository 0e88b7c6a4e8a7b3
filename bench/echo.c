/* echo.c: the machine's limit for one round trip: a select() echo over TCP, in plain C.
 *
 * Built as a shared library by conftest.py. echo_serve answers one connection until it closes;
 * echo_connect and echo_round are the other side. 64-byte messages, TCP_NODELAY, blocking select.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MESSAGE_BYTES = 64 };

static int wait_readable(int fd) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(fd, &set);
    return select(fd + 1, &set, NULL, NULL, NULL);
}

static int receive_whole(int fd, char *buffer) {
    size_t have = 0;
    while (have < MESSAGE_BYTES) {
        if (wait_readable(fd) < 0) return -1;
        ssize_t n = recv(fd, buffer + have, MESSAGE_BYTES - have, 0);
        if (n <= 0) return -1;
        have += (size_t)n;
    }
    return 0;
}

static struct sockaddr_in loopback(unsigned short port) {
    struct sockaddr_in address;
    memset(&address, 0, sizeof(address));
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

/* A listening socket on a free port; *port says which. */
int echo_listen(unsigned short *port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = loopback(0);
    socklen_t size = sizeof(address);
    if (bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, 1) < 0) return -1;
    getsockname(fd, (struct sockaddr *)&address, &size);
    *port = ntohs(address.sin_port);
    return fd;
}

void echo_serve(int listener) {
    char buffer[MESSAGE_BYTES];
    int one = 1, fd = accept(listener, NULL, NULL);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    while (receive_whole(fd, buffer) == 0 && send(fd, buffer, MESSAGE_BYTES, 0) == MESSAGE_BYTES) {
    }
    close(fd);
}

int echo_connect(unsigned short port) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = loopback(port);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

int echo_round(int fd) {
    char buffer[MESSAGE_BYTES] = {0};
    if (send(fd, buffer, MESSAGE_BYTES, 0) != MESSAGE_BYTES) return -1;
    return receive_whole(fd, buffer);
}
