/* gridnode tcp HOST PORT */
#include "cli/arguments.h"
#include "cli/commands_gridnode.h"
#include "cli/resolve.h"
#include "cli/session.h"
#include "cli/show.h"

#include "base/cleanup.h"

#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sysexits.h>

static const char *service_name(uint16_t port)
{
        const struct servent *s = getservbyport(htons(port), "tcp");

        return s ? s->s_name : "*"; /* as nc does */
}

/* The errno with which connect() ended, or would have ended for nc. */
static int errno_of(const struct measurement *m)
{
        switch (m->outcome) {
        case OUTCOME_RESET:
                return ECONNREFUSED;
        case OUTCOME_REJECTED:
        case OUTCOME_LOCAL_ERROR:
        case OUTCOME_NOT_PERMITTED:
                return m->error_number ? m->error_number : EHOSTUNREACH;
        default:
                return ETIMEDOUT;
        }
}

/* An address of a family that this host has no way for at all says nothing about the port. */
static bool is_other_family(const struct measurement *m)
{
        return m->spec.target.address.family == AF_INET6 && m->outcome == OUTCOME_LOCAL_ERROR &&
               (m->error_number == ENETUNREACH || m->error_number == EADDRNOTAVAIL ||
                       m->error_number == EAFNOSUPPORT);
}

static void write_attempt(struct writer *w, const struct measurement *m)
{
        char target[INET_ADDR_TEXT];

        writer_begin_item(w);
        writer_text(w, "target", NULL, "%s", endpoint_format(&m->spec.target, target));
        if (is_other_family(m)) {
                writer_text(w, NULL, NULL, "not tested: this host has no IPv6 route");
                writer_mark(w, MARK_FAINT);
        } else {
                show_outcome(w, m);
        }
        show_failure_fields(w, m);
        writer_text(w, "source", WRITER_HIDDEN, "%s", m->source);
        if (m->outcome == OUTCOME_OK)
                writer_number(w, "rtt_ms", WRITER_HIDDEN, m->rtt_ms, "ms");
        writer_number(w, "took_ms", WRITER_HIDDEN, m->took_ms, "ms");
        writer_integer(w, "syns", WRITER_HIDDEN, m->tries);
        if (m->outcome == OUTCOME_OK && m->syns_unanswered > 0)
                writer_integer(w, "syns_unanswered", "SYNs without an answer before", m->syns_unanswered);
        writer_end(w);
}

/* The words of OpenBSD's netcat, as Debian ships it: with the address in brackets when a name was given. */
static void write_netcat(
        struct writer *w, const struct lookup *host, const struct measurement *m, uint16_t port)
{
        char address[INET_ADDR_TEXT], peer[sizeof host->host + INET_ADDR_TEXT + 4];

        inet_addr_format(&m->spec.target.address, address);
        if (host->is_literal)
                str_copy(peer, sizeof peer, host->host);
        else
                snprintf(peer, sizeof peer, "%s (%s)", host->host, address);
        if (m->outcome == OUTCOME_OK)
                writer_text(w, "netcat", NULL, "Connection to %s %u port [tcp/%s] succeeded!", peer, port,
                        service_name(port));
        else
                writer_text(w, "netcat", NULL, "nc: connect to %s port %u (tcp) failed: %s", peer, port,
                        strerror(errno_of(m)));
        writer_mark(w, m->outcome == OUTCOME_OK ? MARK_GOOD : MARK_BAD);
}

/* The last word on an address: a repetition counts more than what it repeats. */
static const struct measurement *find(const struct measurement_list *l, const struct inet_addr *address)
{
        const struct measurement *found = NULL;

        for (size_t i = 0; i < l->count; i++) {
                const struct measurement *m = l->items[i];

                if (m->spec.kind == MEASUREMENT_TCP && inet_addr_equal(&m->spec.target.address, address) &&
                        (!found || m->outcome != OUTCOME_NOT_TESTED))
                        found = m;
        }
        return found;
}

/* Routers limit their ICMP errors (Linux: six at once, then one a second), so that an address without an
 * answer beside one that is rejected may be rejected as well: it is asked again, slowly. */
static void ask_silent_again(struct measure *m, const struct lookup *host)
{
        const struct measurement_list *l = measure_list(m);
        bool any_rejected = false;

        for (size_t i = 0; i < l->count; i++)
                any_rejected |=
                        l->items[i]->spec.kind == MEASUREMENT_TCP && l->items[i]->outcome == OUTCOME_REJECTED;
        for (size_t i = 0; any_rejected && i < host->count && !measure_is_over(m); i++) {
                const struct measurement *silent = find(l, &host->addresses[i]);
                struct probe_spec spec;

                if (!silent || silent->outcome != OUTCOME_TIMEOUT)
                        continue;
                spec = silent->spec;
                spec.purpose = PURPOSE_REPEAT;
                spec.attempt = 1;
                measure_wait(m, 1200);
                measure_add(m, &spec);
                measure_run(m, NULL, NULL);
        }
}

/* What is said of the whole: the first address that is open, else the last one that is not. */
static int conclude(
        struct writer *w, const struct lookup *host, const struct measurement_list *l, uint16_t port)
{
        const struct measurement *open = NULL, *shut = NULL, *undone = NULL;

        writer_begin_list(w, "attempts", NULL);
        for (size_t i = 0; i < host->count; i++) {
                const struct measurement *m = find(l, &host->addresses[i]);

                if (!m)
                        continue;
                write_attempt(w, m);
                if (m->outcome == OUTCOME_OK)
                        open = open ? open : m;
                else if (m->outcome == OUTCOME_NOT_TESTED)
                        undone = m;
                else if (!is_other_family(m) || (!shut && i + 1 == host->count && !undone))
                        shut = m;
        }
        writer_end(w);
        if (!open && !shut)
                return 2;
        write_netcat(w, host, open ? open : shut, port);
        if (open)
                return shut && !is_other_family(shut) ? 3 : undone ? 2 : 0;
        return undone ? 2 : 1;
}

static int run(struct session *s, struct measure *m, struct writer *w, uint16_t port)
{
        struct lookup host = {0};
        struct error e = {0};
        int r, status;

        r = resolve_host(m, s->site, s->arguments[0], w, &host, &e);
        if (r == -EINVAL)
                return session_usage_error(s, "%s", e.text);
        if (r < 0) {
                writer_text(w, "error", NULL, "%s", e.text);
                writer_text(w, "netcat", NULL, "nc: getaddrinfo for host \"%s\" port %u: %s", s->arguments[0],
                        port, gai_strerror(r == -ENOENT ? EAI_NONAME : EAI_AGAIN));
                writer_mark(w, MARK_BAD);
                return session_write(s, w, r == -ENOENT ? 1 : EX_UNAVAILABLE);
        }
        for (size_t i = 0; i < host.count; i++)
                measure_add(m, &(struct probe_spec){.kind = MEASUREMENT_TCP,
                                       .target = {.address = host.addresses[i], .port = port}});
        measure_run(m, NULL, NULL);
        ask_silent_again(m, &host);
        status = conclude(w, &host, measure_list(m), port);
        lookup_done(&host);
        return session_write(s, w, status);
}

int cmd_tcp(struct session *s)
{
        struct measure *m = NULL;
        struct writer *w;
        uint16_t port;
        int status = arguments_port(s, s->arguments[1], &port);

        if (status == EXIT_SUCCESS)
                status = session_measure(s, NULL, &m);
        if (status != EXIT_SUCCESS)
                return status;
        w = writer_new();
        writer_text(w, "host", WRITER_HIDDEN, "%s", s->arguments[0]);
        writer_integer(w, "port", WRITER_HIDDEN, port);
        status = run(s, m, w, port);
        writer_free(w);
        measure_free(m);
        return status;
}
