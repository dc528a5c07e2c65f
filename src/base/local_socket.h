/* Unix sockets in the file system (unix(7)). A path may be longer than an address holds (108 bytes): then the
 * socket is reached by way of its folder's descriptor. */
#pragma once

#include "base/error.h"

#include <sys/types.h>
#include <sys/un.h>

struct local_place {
        char *path;
        struct sockaddr_un address;
        int folder; /* open as long as the address is used; -1: not needed */
};
int local_place_open(const char *path, struct local_place *ret, struct error *ret_error);
void local_place_done(struct local_place *p);

struct local_socket {
        struct local_place place;
        int fd;       /* non-blocking; who takes it leaves -1 */
        dev_t device; /* of the socket in the file system */
        ino_t inode;
};
/* Listens, SOCK_STREAM. A socket at which nobody listens is replaced, and nothing else: -EADDRINUSE when
 * somebody answers there, -ELOOP for a symbolic link, -EEXIST for what is no socket. Nobody can connect
 * before the socket has its mode and its group (NULL: our own); a group that does not exist, or that we may
 * not give it to, leaves it to our own: fewer may ask then, never more. */
int local_listen(const char *path, mode_t mode, const char *group, int backlog, struct local_socket *ret,
        struct error *ret_error);
/* Closes it and removes it, but not the socket of another process that has taken the place. */
void local_socket_done(struct local_socket *s);

/* `type` with SOCK_CLOEXEC and the like; may wait when it has no SOCK_NONBLOCK. The descriptor is the
 * caller's; 0 or -errno, of which the caller knows what they mean. */
int local_connect(const char *path, int type, int *ret_fd);
