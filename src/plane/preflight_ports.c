/* Whether the servers will get their ports, and who has them now. */
#include "plane/preflight_internal.h"
#include "plane/services_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_INODES         16
#define VANISHING_TRIES    4
#define VANISHING_PAUSE_MS 50

/* As folder_lock() takes it. */
static bool gridplane_runs(const struct plane_settings *s)
{
        _cleanup_free_ char *path = path_join(s->paths.state, "lock");
        _cleanup_close_ int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

        return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

/* ---- who listens ---- */

/* The local address of a line of /proc/net/tcp or tcp6: words of 32 bits, each as the machine has it in
 * memory. An address of IPv4 in a socket of IPv6 is given as the former. */
static bool parse_address(const char *hex, struct inet_addr *ret)
{
        static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
        size_t words = strlen(hex) / 8;
        uint32_t parts[4] = {0};

        if (strlen(hex) % 8 || (words != 1 && words != 4))
                return false;
        for (size_t i = 0; i < words; i++)
                if (sscanf(hex + i * 8, "%8" SCNx32, &parts[i]) != 1)
                        return false;
        *ret = (struct inet_addr){.family = words == 1 ? AF_INET : AF_INET6};
        memcpy(ret->bytes, parts, words * 4);
        if (words == 4 && memcmp(ret->bytes, mapped, sizeof(mapped)) == 0) {
                *ret = (struct inet_addr){.family = AF_INET};
                memcpy(ret->bytes, &parts[3], 4);
        }
        return true;
}

static bool is_any(const struct inet_addr *a)
{
        static const uint8_t zeros[16];

        return memcmp(a->bytes, zeros, inet_addr_bits(a) / 8) == 0;
}

/* Whether a socket there keeps one from listening here: the same address, or one of them is all addresses (of
 * IPv6 those of IPv4 may be among them). */
static bool collides(const struct inet_addr *there, const struct inet_addr *here)
{
        if (there->family != here->family)
                return there->family == AF_INET6 && is_any(there);
        return is_any(there) || is_any(here) || inet_addr_equal(there, here);
}

/* Sockets that listen where we want to, in one file of proc(5). */
static size_t find_inodes(const char *path, const struct endpoint *e, unsigned long *ret, size_t maximum)
{
        _cleanup_fclose_ FILE *f = fopen(path, "re");
        char line[512], hex[33];
        size_t count = 0;

        while (f && count < maximum && fgets(line, sizeof(line), f)) {
                struct inet_addr address;
                unsigned port, state;
                unsigned long inode;

                if (sscanf(line, " %*u: %32[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s %*u %*u %lu", hex,
                            &port, &state, &inode) == 4 &&
                        state == TCP_LISTEN && port == e->port && parse_address(hex, &address) &&
                        collides(&address, &e->address))
                        ret[count++] = inode;
        }
        return count;
}

static bool has_socket(const char *pid, const unsigned long *inodes, size_t count)
{
        _cleanup_free_ char *folder = xasprintf("/proc/%s/fd", pid);
        _cleanup_closedir_ DIR *d = opendir(folder);
        struct dirent *e;

        while (d && (e = readdir(d))) {
                char target[64];
                ssize_t length = readlinkat(dirfd(d), e->d_name, target, sizeof(target) - 1);
                unsigned long inode;

                target[length < 0 ? 0 : length] = '\0';
                if (sscanf(target, "socket:[%lu]", &inode) != 1)
                        continue;
                for (size_t i = 0; i < count; i++)
                        if (inodes[i] == inode)
                                return true;
        }
        return false;
}

/* Each server works in a folder of its own below ours. */
static bool is_our_server(const struct plane_settings *s, pid_t pid)
{
        static const char *const names[] = {"nginx", "splitter", "mosquitto", "registry"};

        for (size_t i = 0; i < ELEMENTS(names); i++) {
                _cleanup_free_ char *folder = xasprintf("%s/services/%s", s->paths.state, names[i]);

                if (service_works_in(pid, folder))
                        return true;
        }
        return false;
}

/* "nginx (process 812)", or NULL; *ret_is_ours: a server of this root, which the next start stops. */
static char *find_owner(const struct plane_settings *s, const struct endpoint *e, bool *ret_is_ours)
{
        static const char *const tables[] = {"/proc/net/tcp", "/proc/net/tcp6"};
        _cleanup_closedir_ DIR *proc = opendir("/proc");
        unsigned long inodes[MAX_INODES];
        struct dirent *d;
        size_t count = 0;

        *ret_is_ours = false;
        for (size_t i = 0; i < ELEMENTS(tables); i++)
                count += find_inodes(tables[i], e, inodes + count, MAX_INODES - count);
        while (proc && count > 0 && (d = readdir(proc))) {
                _cleanup_free_ char *name_path = NULL, *name = NULL;
                size_t length;

                if (d->d_name[0] < '1' || d->d_name[0] > '9' || !has_socket(d->d_name, inodes, count))
                        continue;
                *ret_is_ours = is_our_server(s, (pid_t)atol(d->d_name));
                name_path = xasprintf("/proc/%s/comm", d->d_name);
                if (file_read(name_path, 64, &name, &length, NULL) < 0)
                        return xasprintf("process %s", d->d_name);
                name[strcspn(name, "\n")] = '\0';
                return xasprintf("%s (process %s)", name, d->d_name);
        }
        return NULL;
}

/* ---- can it be had ---- */

/* 0 or errno of bind(2). */
static int try_bind(const struct endpoint *e)
{
        struct sockaddr_storage a;
        socklen_t length = endpoint_to_sockaddr(e, &a);
        _cleanup_close_ int fd = socket(a.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0)
                return errno;
        /* As the servers do it: a port whose last connections are in TIME-WAIT is free. */
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
        if (a.ss_family == AF_INET6)
                setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){1}, sizeof(int));
        return bind(fd, (const struct sockaddr *)&a, length) < 0 ? errno : 0;
}

static void explain(
        const struct plane_settings *s, const struct endpoint *e, int problem, bool runs, struct findings *f)
{
        _cleanup_free_ char *owner = NULL;
        char text[INET_ADDR_TEXT];
        bool is_ours;

        endpoint_format(e, text);
        switch (problem) {
        case EADDRINUSE:
                owner = find_owner(s, e, &is_ours);
                if (!is_ours && !(runs && !owner))
                        finding_add(f, true, "port.taken",
                                "%s is taken by %s; stop that, or choose another port (listen and [broker] "
                                "port in %s)",
                                text, owner ? owner : "a process that this user cannot see", s->config_path);
                return;
        case EACCES:
                finding_add(f, true, "port.forbidden",
                        "user %u may not listen on %s; start gridplane as root or with CAP_NET_BIND_SERVICE, "
                        "or choose a port from 1024 on",
                        (unsigned)geteuid(), text);
                return;
        case EADDRNOTAVAIL:
                finding_add(f, true, "address.missing",
                        "no interface has the address of %s; correct listen, or add the address (ip addr)",
                        text);
                return;
        default:
                finding_add(f, true, "port.taken", "cannot listen on %s: %s", text, strerror(problem));
        }
}

static unsigned first_ephemeral(void)
{
        _cleanup_fclose_ FILE *f = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
        unsigned first;

        return f && fscanf(f, "%u", &first) == 1 ? first : 65536;
}

static bool check_endpoint(
        const struct plane_settings *s, const struct endpoint *e, bool runs, struct findings *f)
{
        int problem = try_bind(e);

        if (problem)
                explain(s, e, problem, runs, f);
        return problem == 0;
}

static void check_list(const struct plane_settings *s, const struct endpoint *list, size_t count, bool runs,
        struct findings *f)
{
        for (size_t i = 0; i < count; i++) {
                struct endpoint v4 = list[i], v6 = list[i];

                if (inet_addr_is_set(&list[i].address)) {
                        check_endpoint(s, &list[i], runs, f);
                        continue;
                }
                inet_addr_parse("0.0.0.0", &v4.address);
                inet_addr_parse("::", &v6.address);
                /* What keeps one from working most often keeps the other, too: said once. */
                if (check_endpoint(s, &v4, runs, f) && access("/proc/net/if_inet6", F_OK) == 0)
                        check_endpoint(s, &v6, runs, f);
        }
        if (count > 0 && list[0].port >= first_ephemeral())
                finding_add(f, false, "port.ephemeral",
                        "any outgoing connection of this machine may happen to get port %u; choose one below "
                        "%u (net.ipv4.ip_local_port_range)",
                        list[0].port, first_ephemeral());
}

void preflight_ports(const struct plane_settings *s, struct findings *f)
{
        struct endpoint broker = {.port = s->broker_port};
        bool runs = gridplane_runs(s);

        inet_addr_parse("127.0.0.1", &broker.address);
        if (!s->proxy_is_external) {
                check_list(s, s->https, s->https_count, runs, f);
                check_list(s, s->mixed, s->mixed_count, runs, f);
        }
        if (!s->broker_url)
                check_list(s, &broker, 1, runs, f);
}
