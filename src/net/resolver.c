#include "net/resolver.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"
#include "base/timer.h"

#include <ares.h>
#include <errno.h>
#include <math.h>
#include <net/if.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#define TRY_MS          1000 /* the first question of a server; c-ares doubles it each round */
#define TRIES           2
#define LONGEST_TTL_MS  300000.0
#define SHORTEST_TTL_MS 5000.0
#define MAX_SOCKETS     64

struct name { /* what is known of one, and who asks for it */
        struct name *next;
        char host[254];
        struct inet_addr addresses[RESOLVER_MAX_ADDRESSES];
        size_t count;
        double expires_ms;
        bool is_asked; /* a question is under way */
        struct resolver *resolver;
};

struct asker {
        struct asker *next;
        struct name *name;
        resolver_on_done on_done;
        void *userdata;
};

struct socket_watch {
        ares_socket_t fd;
        sd_event_source *io;
};

struct resolver {
        sd_event *event;
        ares_channel channel;
        char *servers, *device;
        size_t server_count;
        struct inet_addr source;
        struct name *names;
        struct asker *askers;
        struct socket_watch sockets[MAX_SOCKETS];
        sd_event_source *timer, *answer_timer;
        bool is_ending;
};

/* ---- c-ares in the loop ---- */

static void arm(struct resolver *r);

static int on_io(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        struct resolver *r = userdata;

        (void)source;
        ares_process_fd(r->channel, events & ~(uint32_t)EPOLLOUT ? fd : ARES_SOCKET_BAD,
                events & EPOLLOUT ? fd : ARES_SOCKET_BAD);
        arm(r);
        return 0;
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct resolver *r = userdata;

        (void)source, (void)usec;
        ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
        arm(r);
        return 0;
}

static void arm(struct resolver *r)
{
        struct timeval longest = {.tv_sec = 1}, tv;
        struct timeval *t;

        r->timer = sd_event_source_disable_unref(r->timer);
        t = ares_timeout(r->channel, NULL, &tv);
        if (!t)
                return;
        if (t->tv_sec >= 1)
                t = &longest;
        timer_arm(
                r->event, &r->timer, (double)t->tv_sec * 1000 + (double)t->tv_usec / 1000 + 1, on_timeout, r);
}

static void on_socket(void *userdata, ares_socket_t fd, int readable, int writable)
{
        struct resolver *r = userdata;
        struct socket_watch *w = NULL, *unused = NULL;
        uint32_t events = (readable ? EPOLLIN : 0U) | (writable ? EPOLLOUT : 0U);

        for (size_t i = 0; i < MAX_SOCKETS; i++) {
                if (r->sockets[i].io && r->sockets[i].fd == fd)
                        w = &r->sockets[i];
                if (!r->sockets[i].io && !unused)
                        unused = &r->sockets[i];
        }
        if (!events) {
                if (w)
                        w->io = sd_event_source_disable_unref(w->io);
        } else if (w)
                sd_event_source_set_io_events(w->io, events);
        else if (unused) { /* else its question ends by c-ares's own timeout */
                unused->fd = fd;
                sd_event_add_io(r->event, &unused->io, fd, events, on_io, r);
        }
}

/* Before c-ares binds it: unprivileged, the routes choose, and the source address stays. */
static int on_configure(ares_socket_t fd, int type, void *userdata)
{
        struct resolver *r = userdata;

        (void)type;
        if (r->device &&
                setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, r->device,
                        (socklen_t)strnlen(r->device, IFNAMSIZ)) < 0 &&
                errno != EPERM)
                return -1;
        return 0;
}

/* ---- answers ---- */

static double shortest_ttl_ms(const struct ares_addrinfo *info)
{
        double ttl_ms = LONGEST_TTL_MS;

        for (const struct ares_addrinfo_node *n = info->nodes; n; n = n->ai_next)
                ttl_ms = fmin(ttl_ms, n->ai_ttl * 1000.0);
        return fmax(ttl_ms, SHORTEST_TTL_MS);
}

static void keep(struct name *n, const struct ares_addrinfo *info)
{
        static const sa_family_t families[] = {AF_INET, AF_INET6};
        struct endpoint e;

        n->count = 0;
        for (size_t f = 0; f < ELEMENTS(families); f++)
                for (const struct ares_addrinfo_node *a = info->nodes; a; a = a->ai_next) {
                        endpoint_from_sockaddr(a->ai_addr, &e);
                        if (e.address.family == families[f] && n->count < RESOLVER_MAX_ADDRESSES)
                                n->addresses[n->count++] = e.address;
                }
        n->expires_ms = clock_monotonic_ms() + shortest_ttl_ms(info);
}

static int number_of(int status)
{
        switch (status) {
        case ARES_ENOTFOUND:
        case ARES_ENODATA:
                return ENOENT;
        case ARES_ETIMEOUT:
        case ARES_ECONNREFUSED:
                return EHOSTUNREACH;
        default:
                return EREMOTEIO;
        }
}

static const char *code_of(int number)
{
        return number == ENOENT         ? "dns.no_such_name"
               : number == EHOSTUNREACH ? "dns.unreachable"
                                        : "dns.server_failure";
}

static void answer(struct name *n, int result, const struct error *e)
{
        struct resolver *r = n->resolver;

        /* A callback may ask again, or forget another asker: the list is begun anew each time. */
        for (struct asker **p = &r->askers; *p;) {
                struct asker *a = *p;

                if (a->name != n) {
                        p = &a->next;
                        continue;
                }
                *p = a->next;
                a->on_done(result, result == 0 ? n->addresses : NULL, result == 0 ? n->count : 0, e,
                        a->userdata);
                free(a);
                p = &r->askers;
                if (n->is_asked)
                        return; /* who asked just now waits for an answer of its own */
        }
}

static void on_answer(void *userdata, int status, int timeouts, struct ares_addrinfo *info)
{
        struct name *n = userdata;
        struct resolver *r = n->resolver;
        struct error e = {0};

        (void)timeouts;
        n->is_asked = false;
        if (r->is_ending) {
                ares_freeaddrinfo(info);
                return;
        }
        if (status == ARES_SUCCESS && info->nodes) {
                keep(n, info);
                ares_freeaddrinfo(info);
                answer(n, 0, NULL);
                return;
        }
        ares_freeaddrinfo(info);
        if (status == ARES_SUCCESS)
                status = ARES_ENODATA;
        error_set(&e, number_of(status), code_of(number_of(status)), "%s cannot be looked up at %s: %s",
                n->host, r->servers[0] ? r->servers : "any server, since none is configured",
                ares_strerror(status));
        /* What was right a while ago is likely to be right still. */
        if (n->count > 0 && e.number != ENOENT)
                answer(n, 0, NULL);
        else
                answer(n, -e.number, &e);
}

/* ---- asking ---- */

static void ask(struct name *n)
{
        struct ares_addrinfo_hints hints = {.ai_family = AF_UNSPEC, .ai_flags = ARES_AI_NOSORT};

        n->is_asked = true;
        ares_getaddrinfo(n->resolver->channel, n->host, NULL, &hints, on_answer, n);
        arm(n->resolver);
}

static struct name *find_name(struct resolver *r, const char *host)
{
        struct name *n = r->names;

        while (n && strcasecmp(n->host, host) != 0)
                n = n->next;
        if (n)
                return n;
        n = xcalloc(1, sizeof(*n));
        str_copy(n->host, sizeof(n->host), host);
        n->resolver = r;
        n->next = r->names;
        r->names = n;
        if (inet_addr_parse(host, &n->addresses[0]) == 0) {
                n->count = 1;
                n->expires_ms = HUGE_VAL;
        }
        return n;
}

static bool is_fresh(const struct name *n)
{
        return n->count > 0 && n->expires_ms > clock_monotonic_ms();
}

/* Also where a question starts: c-ares may answer at once, and nobody is called from within resolver_ask. */
static int on_turn(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct resolver *r = userdata;

        (void)source, (void)usec;
        for (struct name *n = r->names; n; n = n->next) {
                bool is_wanted = false;

                for (struct asker *a = r->askers; a; a = a->next)
                        is_wanted |= a->name == n;
                if (!is_wanted || n->is_asked)
                        continue;
                if (is_fresh(n))
                        answer(n, 0, NULL);
                else
                        ask(n);
        }
        return 0;
}

int resolver_ask(struct resolver *r, const char *host, resolver_on_done on_done, void *userdata)
{
        struct inet_addr literal;
        struct asker *a;

        if (inet_addr_parse(host, &literal) < 0 && !str_is_host_name(host))
                return -EINVAL;
        a = xcalloc(1, sizeof(*a));
        *a = (struct asker){
                .next = r->askers, .name = find_name(r, host), .on_done = on_done, .userdata = userdata};
        r->askers = a;
        timer_arm(r->event, &r->answer_timer, 0, on_turn, r);
        return 0;
}

size_t resolver_kept(const struct resolver *r, const char *host, struct inet_addr *ret, size_t maximum)
{
        for (const struct name *n = r->names; n; n = n->next)
                if (strcasecmp(n->host, host) == 0) {
                        size_t count = n->count < maximum ? n->count : maximum;

                        if (count)
                                memcpy(ret, n->addresses, count * sizeof(*ret));
                        return count;
                }
        return 0;
}

void resolver_forget(struct resolver *r, void *userdata)
{
        for (struct asker **p = &r->askers; *p;) {
                struct asker *a = *p;

                if (a->userdata == userdata) {
                        *p = a->next;
                        free(a);
                } else
                        p = &a->next;
        }
}

void resolver_refresh(struct resolver *r)
{
        for (struct name *n = r->names; n; n = n->next)
                if (isfinite(n->expires_ms))
                        n->expires_ms = 0;
}

/* ---- making one ---- */

static void set_source(struct resolver *r)
{
        if (r->source.family == AF_INET)
                ares_set_local_ip4(r->channel, ntohl(r->source.v4.s_addr));
        else if (r->source.family == AF_INET6)
                ares_set_local_ip6(r->channel, r->source.bytes);
}

static int set_servers(struct resolver *r, const struct resolver_options *o)
{
        struct strv list = {0};
        char address[INET_ADDR_TEXT];
        int status;

        for (size_t i = 0; i < o->server_count; i++) {
                struct endpoint e = {.address = o->servers[i], .port = 53};

                /* A server that the source cannot speak to would make c-ares fail to bind. */
                if (!inet_addr_is_set(&r->source) || r->source.family == o->servers[i].family)
                        strv_add(&list, endpoint_format(&e, address));
        }
        r->servers = strv_join(&list, ",");
        r->server_count = list.count;
        status = ares_set_servers_ports_csv(r->channel, r->servers);
        strv_done(&list);
        return status == ARES_SUCCESS ? 0 : -EINVAL;
}

static int make_channel(struct resolver *r)
{
        struct ares_options o = {.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES,
                .timeout = TRY_MS,
                .tries = TRIES,
                .sock_state_cb = on_socket,
                .sock_state_cb_data = r};
        char dns_alone[] = "b"; /* no file of hosts */
        int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS |
                   ARES_OPT_NOROTATE | ARES_OPT_SOCK_STATE_CB;

        o.lookups = dns_alone;
        if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS)
                return -ENOMEM;
        return ares_init_options(&r->channel, &o, mask) == ARES_SUCCESS ? 0 : -ENOMEM;
}

int resolver_new(
        sd_event *event, const struct resolver_options *o, struct resolver **ret, struct error *ret_error)
{
        struct resolver *r = xcalloc(1, sizeof(*r));
        int result;

        r->event = sd_event_ref(event);
        r->source = o->source;
        r->device = xstrdup(o->device);
        result = make_channel(r);
        if (result == 0) {
                ares_set_socket_configure_callback(r->channel, on_configure, r);
                set_source(r);
                result = set_servers(r, o);
        }
        if (result < 0) {
                resolver_free(r);
                return error_set(ret_error, -result, "dns.failed", "the resolver does not start: %s",
                        strerror(-result));
        }
        *ret = r;
        return 0;
}

struct resolver *resolver_free(struct resolver *r)
{
        if (!r)
                return NULL;
        r->is_ending = true;
        if (r->channel)
                ares_destroy(r->channel);
        for (size_t i = 0; i < MAX_SOCKETS; i++)
                sd_event_source_disable_unref(r->sockets[i].io);
        sd_event_source_disable_unref(r->timer);
        sd_event_source_disable_unref(r->answer_timer);
        while (r->askers) {
                struct asker *a = r->askers;

                r->askers = a->next;
                free(a);
        }
        while (r->names) {
                struct name *n = r->names;

                r->names = n->next;
                free(n);
        }
        sd_event_unref(r->event);
        free(r->servers);
        free(r->device);
        free(r);
        return NULL;
}
