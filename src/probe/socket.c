#include "probe/socket.h"

#include "base/cleanup.h"

#include <errno.h>
#include <ifaddrs.h>
#include <linux/errqueue.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <string.h>

static int set_option(int fd, int level, int name, int value)
{
        return setsockopt(fd, level, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

static int set_options(int fd, const struct probe_spec *spec, int type)
{
        bool v6 = spec->target.address.family == AF_INET6;
        int r = set_option(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_RECVERR : IP_RECVERR, 1);

        if (r == 0 && spec->ttl > 0)
                r = set_option(
                        fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_UNICAST_HOPS : IP_TTL, spec->ttl);
        if (r == 0 && spec->mss > 0 && type == SOCK_STREAM)
                r = set_option(fd, IPPROTO_TCP, TCP_MAXSEG, spec->mss);
        if (r == 0 && spec->interface[0] &&
                setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, spec->interface,
                        (socklen_t)strlen(spec->interface)) < 0)
                r = -errno;
        return r;
}

/* Binds even when the kernel may choose the address: the port must be known before the first packet leaves,
 * so that the capture can be told about it. */
static int bind_source(int fd, const struct probe_context *c, const struct probe_spec *spec)
{
        struct endpoint local = {.address.family = spec->target.address.family};
        struct sockaddr_storage sa;
        socklen_t length;

        if (c->source.family == spec->target.address.family)
                local.address = c->source;
        length = endpoint_to_sockaddr(&local, &sa);
        if (local.address.family == AF_INET6 && inet_addr_is_link_local(&local.address)) {
                const char *interface = spec->interface[0] ? spec->interface : c->wan_interface;

                ((struct sockaddr_in6 *)&sa)->sin6_scope_id = if_nametoindex(interface);
        }
        return bind(fd, (struct sockaddr *)&sa, length) < 0 ? -errno : 0;
}

int socket_open(const struct probe_context *c, const struct probe_spec *spec, int type)
{
        _cleanup_close_ int fd = -1;
        sa_family_t family = spec->target.address.family;
        int r;

        if (family != AF_INET && family != AF_INET6)
                return -EAFNOSUPPORT;
        fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        r = set_options(fd, spec, type);
        if (r < 0)
                return r;
        r = bind_source(fd, c, spec);
        if (r < 0)
                return r;
        return TAKE_FD(fd);
}

int socket_connect(int fd, const struct endpoint *target)
{
        struct sockaddr_storage sa;
        socklen_t length = endpoint_to_sockaddr(target, &sa);

        return connect(fd, (struct sockaddr *)&sa, length) < 0 ? -errno : 0;
}

static bool is_own_address(const struct inet_addr *a)
{
        struct ifaddrs *list = NULL;
        bool found = false;

        if (inet_addr_is_loopback(a))
                return true;
        if (getifaddrs(&list) < 0)
                return false;
        for (const struct ifaddrs *i = list; i && !found; i = i->ifa_next) {
                struct endpoint e = {0};

                if (i->ifa_addr)
                        endpoint_from_sockaddr(i->ifa_addr, &e);
                found = inet_addr_is_set(&e.address) && inet_addr_equal(&e.address, a);
        }
        freeifaddrs(list);
        return found;
}

static void fill_icmp(const struct cmsghdr *header, struct socket_icmp *ret)
{
        /* The offender's address follows the structure directly (ip(7), IP_RECVERR). Copied, since nothing
         * promises the alignment. */
        struct {
                struct sock_extended_err error;
                struct sockaddr_in6 offender;
        } data = {0};
        size_t length = header->cmsg_len - CMSG_LEN(0);
        struct endpoint by = {0};

        memcpy(&data, CMSG_DATA(header), length < sizeof(data) ? length : sizeof(data));
        *ret = (struct socket_icmp){.error_number = (int)data.error.ee_errno,
                .type = data.error.ee_type,
                .code = data.error.ee_code};
        if (data.error.ee_origin == SO_EE_ORIGIN_LOCAL) {
                ret->is_local = true;
                return;
        }
        endpoint_from_sockaddr((const struct sockaddr *)&data.offender, &by);
        ret->by = by.address;
        ret->is_local = inet_addr_is_set(&ret->by) && is_own_address(&ret->by);
}

int socket_read_icmp(int fd, struct socket_icmp *ret)
{
        for (;;) {
                char payload[64];
                union {
                        struct cmsghdr align;
                        char bytes[512];
                } control;
                struct iovec iov = {.iov_base = payload, .iov_len = sizeof(payload)};
                struct msghdr message = {.msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = control.bytes,
                        .msg_controllen = sizeof(control.bytes)};

                if (recvmsg(fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) {
                        if (errno == EINTR)
                                continue;
                        return errno == EAGAIN ? 0 : -errno;
                }
                for (struct cmsghdr *h = CMSG_FIRSTHDR(&message); h; h = CMSG_NXTHDR(&message, h)) {
                        const struct sock_extended_err *error = (const void *)CMSG_DATA(h);
                        bool v4 = h->cmsg_level == IPPROTO_IP && h->cmsg_type == IP_RECVERR;
                        bool v6 = h->cmsg_level == IPPROTO_IPV6 && h->cmsg_type == IPV6_RECVERR;

                        if ((!v4 && !v6) || h->cmsg_len < CMSG_LEN(sizeof(*error)))
                                continue;
                        /* Time stamps and the like come through the same queue. */
                        if (error->ee_origin != SO_EE_ORIGIN_LOCAL && error->ee_origin != SO_EE_ORIGIN_ICMP &&
                                error->ee_origin != SO_EE_ORIGIN_ICMP6)
                                continue;
                        fill_icmp(h, ret);
                        return 1;
                }
        }
}

/* The kernel tells of a next hop that answers no ARP (or neighbour solicitation) by an ICMP host-unreachable
 * that it sends to itself. No firewall is known to reject with that code by default, and no packet has left.
 */
static bool is_failed_neighbour(const struct socket_icmp *i)
{
        if (!i->is_local)
                return false;
        if (i->by.family == AF_INET6)
                return i->type == ICMP6_DST_UNREACH && i->code == ICMP6_DST_UNREACH_ADDR;
        return i->type == ICMP_DEST_UNREACH && i->code == ICMP_HOST_UNREACH;
}

enum measurement_outcome socket_icmp_to_measurement(const struct socket_icmp *i, struct measurement *m)
{
        m->error_number = i->error_number;
        m->by = i->by;
        m->icmp_type = i->type;
        m->icmp_code = i->code;
        if (!inet_addr_is_set(&i->by) || is_failed_neighbour(i))
                return m->outcome = OUTCOME_LOCAL_ERROR;
        return m->outcome = OUTCOME_REJECTED;
}

uint16_t socket_local_port(int fd)
{
        struct sockaddr_storage sa = {0};
        socklen_t length = sizeof(sa);
        struct endpoint e = {0};

        if (getsockname(fd, (struct sockaddr *)&sa, &length) < 0)
                return 0;
        endpoint_from_sockaddr((struct sockaddr *)&sa, &e);
        return e.port;
}

void socket_local_address(int fd, char ret[INET_ADDR_TEXT])
{
        struct sockaddr_storage sa = {0};
        socklen_t length = sizeof(sa);
        struct endpoint e = {0};

        ret[0] = 0;
        if (getsockname(fd, (struct sockaddr *)&sa, &length) < 0)
                return;
        endpoint_from_sockaddr((struct sockaddr *)&sa, &e);
        if (e.address.family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&e.address.v6))
                return;
        if (e.address.family == AF_INET && e.address.v4.s_addr == INADDR_ANY)
                return;
        inet_addr_format(&e.address, ret);
}
