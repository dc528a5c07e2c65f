/* Whether a server is there. */
#include "plane/services_internal.h"

#include "base/cleanup.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define ANSWER_MS 500

static bool connects(int family, const struct sockaddr *address, socklen_t length)
{
        _cleanup_close_ int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        socklen_t size = sizeof(int);
        int status = 0;

        if (fd < 0)
                return false;
        if (connect(fd, address, length) == 0)
                return true;
        if (errno != EINPROGRESS || poll(&p, 1, ANSWER_MS) <= 0)
                return false;
        return getsockopt(fd, SOL_SOCKET, SO_ERROR, &status, &size) == 0 && status == 0;
}

bool service_socket_is_there(const char *path)
{
        struct stat st;

        return lstat(path, &st) == 0 && S_ISSOCK(st.st_mode);
}

static bool endpoint_answers(const struct endpoint *e)
{
        struct endpoint here = *e;
        struct sockaddr_storage a;
        socklen_t length;

        if (!inet_addr_is_set(&here.address))
                inet_addr_parse("127.0.0.1", &here.address);
        length = endpoint_to_sockaddr(&here, &a);
        return connects(a.ss_family, (const struct sockaddr *)&a, length);
}

bool service_ports_answer(const struct endpoint *list, size_t count)
{
        for (size_t i = 0; i < count; i++)
                if (!endpoint_answers(&list[i]))
                        return false;
        return true;
}
