/* gridnode tcp HOST PORT */
#include "cli/arguments.h"
#include "cli/commands_gridnode.h"
#include "cli/resolve.h"
#include "cli/session.h"
#include "cli/show.h"

#include "base/alloc.h"
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

/* A port of a host's addresses: what is known of each by now. */
struct ports {
        struct writer *writer;
        struct lookup host;
        uint16_t port;
        const struct measurement **last; /* of each address; NULL: nothing yet */
        bool any_rejected;
};

static void tell(struct ports *p, size_t i)
{
        writer_continue_list(p->writer, "attempts", NULL);
        write_attempt(p->writer, p->last[i]);
        writer_end(p->writer);
        writer_flush(p->writer);
}

/* Silence is not told yet: it may not be the last word. */
static void on_results(const struct measurement *const *results, size_t count, void *userdata)
{
        struct ports *p = userdata;

        for (size_t k = 0; k < count; k++) {
                size_t i = 0;

                while (!inet_addr_equal(&p->host.addresses[i], &results[k]->spec.target.address))
                        i++;
                p->last[i] = results[k];
                p->any_rejected |= results[k]->outcome == OUTCOME_REJECTED;
                if (results[k]->outcome != OUTCOME_TIMEOUT)
                        tell(p, i);
        }
}

/* Routers limit their ICMP errors (Linux: six at once, then one a second), so that an address without an
 * answer beside one that is rejected may be rejected as well: it is asked again, slowly. A repetition counts
 * more than what it repeats. */
static void ask_silent_again(struct ports *p, struct measure *m)
{
        const struct measurement_list *l = measure_list(m);

        for (size_t i = 0; i < p->host.count; i++) {
                struct probe_spec spec;

                if (!p->last[i] || p->last[i]->outcome != OUTCOME_TIMEOUT)
                        continue;
                if (p->any_rejected && !measure_is_over(m)) {
                        spec = p->last[i]->spec;
                        spec.purpose = PURPOSE_REPEAT;
                        spec.attempt = 1;
                        measure_wait(m, 1200);
                        measure_add(m, &spec);
                        measure_run(m, NULL, NULL);
                        if (l->items[l->count - 1]->outcome != OUTCOME_NOT_TESTED)
                                p->last[i] = l->items[l->count - 1];
                }
                tell(p, i);
        }
}

static void ask(struct ports *p, struct measure *m)
{
        char text[INET_ADDR_TEXT];

        p->last = xcalloc(p->host.count, sizeof *p->last);
        writer_begin_list(p->writer, "attempts", NULL);
        for (size_t i = 0; i < p->host.count; i++) {
                struct probe_spec spec = {.kind = MEASUREMENT_TCP,
                        .target = {.address = p->host.addresses[i], .port = p->port}};

                writer_reserve(p->writer, 0, strlen(endpoint_format(&spec.target, text)));
                measure_add(m, &spec);
        }
        writer_end(p->writer);
        measure_tell(m, on_results, p);
        measure_run(m, NULL, NULL);
        measure_tell(m, NULL, NULL);
        ask_silent_again(p, m);
}

/* What is said of the whole: the first address that is open, else the last one that is not. */
static int conclude(const struct ports *p)
{
        const struct measurement *open = NULL, *shut = NULL, *undone = NULL;

        for (size_t i = 0; i < p->host.count; i++) {
                const struct measurement *m = p->last[i];

                if (!m)
                        continue;
                if (m->outcome == OUTCOME_OK)
                        open = open ? open : m;
                else if (m->outcome == OUTCOME_NOT_TESTED)
                        undone = m;
                else if (!is_other_family(m) || (!shut && i + 1 == p->host.count && !undone))
                        shut = m;
        }
        if (!open && !shut)
                return 2;
        write_netcat(p->writer, &p->host, open ? open : shut, p->port);
        if (open)
                return shut && !is_other_family(shut) ? 3 : undone ? 2 : 0;
        return undone ? 2 : 1;
}

static int run(struct session *s, struct measure *m, struct writer *w, uint16_t port)
{
        struct ports p = {.writer = w, .port = port};
        struct error e = {0};
        int r, status;

        r = resolve_host(m, s->site, s->arguments[0], w, &p.host, &e);
        if (r == -EINVAL)
                return session_usage_error(s, "%s", e.text);
        if (r < 0) {
                writer_text(w, "error", NULL, "%s", e.text);
                writer_text(w, "netcat", NULL, "nc: getaddrinfo for host \"%s\" port %u: %s", s->arguments[0],
                        port, gai_strerror(r == -ENOENT ? EAI_NONAME : EAI_AGAIN));
                writer_mark(w, MARK_BAD);
                return session_write(s, w, r == -ENOENT ? 1 : EX_UNAVAILABLE);
        }
        ask(&p, m);
        status = conclude(&p);
        free(p.last);
        lookup_done(&p.host);
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
        w = session_writer(s);
        writer_text(w, "host", WRITER_HIDDEN, "%s", s->arguments[0]);
        writer_integer(w, "port", WRITER_HIDDEN, port);
        status = run(s, m, w, port);
        writer_free(w);
        measure_free(m);
        return status;
}
