/* gridnode tls HOST:PORT */
#include "cli/arguments.h"
#include "cli/certificate.h"
#include "cli/commands_gridnode.h"
#include "cli/resolve.h"
#include "cli/session.h"
#include "cli/show.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "diagnose/interceptors.h"

#include <errno.h>
#include <string.h>
#include <sysexits.h>

#define DEFAULT_PORT 443

/* HOST, HOST:PORT, an IPv6 literal bare, or [literal]:PORT. */
static int parse_target(const struct session *s, const char *text, char host[254], uint16_t *ret_port)
{
        const char *colon = strrchr(text, ':');
        struct inet_addr literal;
        struct endpoint e;

        *ret_port = DEFAULT_PORT;
        if (strlen(text) >= 254 + 6)
                return session_usage_error(s, "HOST:PORT is too long");
        if (inet_addr_parse(text, &literal) == 0 || !colon) {
                str_copy(host, 254, text);
                return EXIT_SUCCESS;
        }
        if (text[0] == '[' && endpoint_parse(text, &e) == 0) {
                inet_addr_format(&e.address, host);
                *ret_port = e.port ? e.port : DEFAULT_PORT;
                return EXIT_SUCCESS;
        }
        snprintf(host, 254, "%.*s", (int)(colon - text), text);
        return arguments_port(s, colon + 1, ret_port);
}

static void write_certificate(struct writer *w, const struct measurement *m, size_t i, bool pem)
{
        struct certificate_facts f;
        char from[32], to[32];

        writer_begin_item(w);
        writer_text(w, NULL, NULL, "%zu", i);
        writer_text(w, "subject", NULL, "%s", m->chain_subjects.items[i]);
        writer_text(w, "issuer", "issued by", "%s", m->chain_issuers.items[i]);
        if (i < m->chain_pem.count && certificate_read(m->chain_pem.items[i], &f) == 0) {
                time_format_utc(f.not_before_unix * 1000, from);
                time_format_utc(f.not_after_unix * 1000, to);
                writer_text(w, "not_before", "valid from", "%s", from);
                writer_text(w, "not_after", "valid until", "%s", to);
                if (m->local_unix && (m->local_unix < f.not_before_unix || m->local_unix > f.not_after_unix))
                        writer_mark(w, MARK_BAD);
                writer_text(w, "sha256", "sha256", "%s", f.sha256);
                writer_mark(w, MARK_FAINT);
        }
        if (pem && i < m->chain_pem.count)
                writer_text(w, "pem", "pem", "%s", m->chain_pem.items[i]);
        writer_end(w);
}

static const char *find_interceptor(const struct measurement *m)
{
        const char *name = NULL;

        for (size_t i = 0; i < m->chain_subjects.count && !name; i++) {
                name = interceptor_name(m->chain_subjects.items[i]);
                name = name ? name : interceptor_name(m->chain_issuers.items[i]);
        }
        return name;
}

/* Who signed it, and whether that is whom we trust. */
static void write_trust(struct writer *w, const struct measurement *m, bool has_root)
{
        const char *interceptor = find_interceptor(m);

        if (m->chain_length == 0)
                return;
        writer_text(w, "signed_by", "signed by", "%s", m->chain_issuers.items[m->chain_issuers.count - 1]);
        if (!has_root) {
                writer_text(w, NULL, "pinned root", "none given: nothing to compare with");
                writer_null(w, "leads_to_pinned_root");
        } else {
                writer_boolean(
                        w, "leads_to_pinned_root", "leads to the pinned root", m->chain_trusted == YES);
                writer_mark(w, m->chain_trusted == YES ? MARK_GOOD : MARK_BAD);
        }
        if (m->chain_name_matches != UNKNOWN) {
                writer_boolean(w, "name_matches", "is for the name asked", m->chain_name_matches == YES);
                writer_mark(w, m->chain_name_matches == YES ? MARK_GOOD : MARK_BAD);
        }
        writer_boolean(w, "time_valid", "valid at this host's time", m->chain_time_valid == YES);
        writer_mark(w, m->chain_time_valid == YES ? MARK_GOOD : MARK_BAD);
        if (m->leaf_names)
                writer_text(w, "names", "is for", "%s", m->leaf_names);
        if (m->chain_error)
                writer_text(w, "chain_error", "refused because", "%s", m->chain_error);
        if (interceptor && m->chain_trusted != YES) {
                writer_text(w, "interceptor", "re-signed by", "%s", interceptor);
                writer_mark(w, MARK_BAD);
        }
}

static void write_handshake(struct writer *w, const struct measurement *m)
{
        if (m->tls_version[0])
                writer_text(w, "version", "version", "%s", m->tls_version);
        if (m->alpn[0])
                writer_text(w, "alpn", "protocol", "%s", m->alpn);
        if (m->alert_seen == YES)
                writer_integer(w, "alert", "alert", m->alert);
        if (m->client_certificate_asked != UNKNOWN)
                writer_boolean(w, "client_certificate_asked", "asks for a client certificate",
                        m->client_certificate_asked == YES);
        if (m->client_certificate_sent == YES)
                writer_boolean(w, "client_certificate_sent", "got ours", true);
        if (m->first_bytes) {
                writer_text(w, "first_bytes", "first bytes", "%s", m->first_bytes);
                writer_mark(w, MARK_BAD);
        }
        if (m->outcome == OUTCOME_TIMEOUT && m->stage == STAGE_TLS)
                writer_boolean(w, "server_hello_seen", "began to answer", m->server_hello_seen == YES);
        if (m->error_text)
                writer_text(w, "error", "error", "%s", m->error_text);
}

/* The handshakes with a host's addresses. */
struct handshakes {
        struct session *session;
        struct measure *measure;
        struct writer *writer;
        struct lookup host;
        const struct measurement **connections; /* of each address; NULL: not yet */
        size_t good, bad;
        uint16_t port;
        bool has_root;
};

/* `m` is the handshake, or the connection that did not come about. */
static void write_target(struct handshakes *h, const struct measurement *m, const struct measurement *tcp)
{
        struct writer *w = h->writer;
        char target[INET_ADDR_TEXT];

        writer_continue_list(w, "targets", NULL);
        writer_begin_item(w);
        writer_text(w, "target", NULL, "%s", endpoint_format(&m->spec.target, target));
        show_outcome(w, m);
        show_failure_fields(w, m);
        writer_text(w, "stage", "stage", "%s",
                probe_stage_to_string(m == tcp   ? STAGE_TCP
                                      : m->stage ? m->stage
                                                 : STAGE_TLS));
        if (tcp->outcome == OUTCOME_OK)
                writer_number(w, "connect_ms", WRITER_HIDDEN, tcp->rtt_ms, "ms");
        if (m->rtt_ms > 0)
                writer_number(w, "rtt_ms", WRITER_HIDDEN, m->rtt_ms, "ms");
        writer_number(w, "took_ms", WRITER_HIDDEN, m->at_ms + m->took_ms - tcp->at_ms, "ms");
        write_handshake(w, m);
        write_trust(w, m, h->has_root);
        if (m->chain_length > 0)
                writer_integer(w, "chain_length", "certificates", m->chain_length);
        writer_begin_list(w, "chain", "chain");
        for (size_t i = 0; i < m->chain_subjects.count; i++)
                write_certificate(w, m, i, h->session->settings.pem);
        writer_end(w);
        writer_end(w);
        writer_end(w);
        h->good += m->outcome == OUTCOME_OK;
        h->bad += m->outcome != OUTCOME_OK && m->outcome != OUTCOME_NOT_TESTED;
}

/* The TLS probe takes over the connection. */
static void begin_handshake(struct handshakes *h, const struct measurement *tcp)
{
        const struct settings *o = &h->session->settings;
        struct probe_spec spec = {.kind = MEASUREMENT_TLS, .target = tcp->spec.target, .tls = tcp->spec.tls};
        char target[INET_ADDR_TEXT];

        if (o->server_name)
                str_copy(spec.name, sizeof spec.name, o->server_name);
        else if (!h->host.is_literal)
                str_copy(spec.name, sizeof spec.name, h->host.host);
        if (!spec.name[0] && !h->host.is_literal)
                str_copy(spec.verify_name, sizeof spec.verify_name, h->host.host);
        measure_add(h->measure, &spec);
        writer_text(h->writer, NULL, NULL, "%s  connected in %.1f ms", endpoint_format(&spec.target, target),
                tcp->rtt_ms);
}

static void on_results(const struct measurement *const *results, size_t count, void *userdata)
{
        struct handshakes *h = userdata;

        for (size_t k = 0; k < count; k++) {
                const struct measurement *m = results[k];
                size_t i = 0;

                while (!inet_addr_equal(&h->host.addresses[i], &m->spec.target.address))
                        i++;
                if (m->spec.kind == MEASUREMENT_TCP)
                        h->connections[i] = m;
                if (m->spec.kind == MEASUREMENT_TCP && m->outcome == OUTCOME_OK)
                        begin_handshake(h, m);
                else
                        write_target(h, m, h->connections[i]);
        }
        writer_flush(h->writer);
}

static void shake_hands(struct handshakes *h)
{
        char text[INET_ADDR_TEXT];

        h->connections = xcalloc(h->host.count, sizeof *h->connections);
        writer_begin_list(h->writer, "targets", NULL);
        for (size_t i = 0; i < h->host.count; i++) {
                struct probe_spec spec = {.kind = MEASUREMENT_TCP,
                        .target = {.address = h->host.addresses[i], .port = h->port},
                        .tls = h->session->settings.mutual ? SERVICE_TLS_MUTUAL : SERVICE_TLS_SERVER};

                writer_reserve(h->writer, 0, strlen(endpoint_format(&spec.target, text)));
                measure_add(h->measure, &spec);
        }
        writer_end(h->writer);
        measure_tell(h->measure, on_results, h);
        measure_run(h->measure, NULL, NULL);
        free(h->connections);
}

static int run(struct handshakes *h, const char *name)
{
        struct session *s = h->session;
        struct writer *w = h->writer;
        struct error e = {0};
        int r = resolve_host(h->measure, s->site, name, w, &h->host, &e);

        if (r == -EINVAL)
                return session_usage_error(s, "%s", e.text);
        if (r < 0) {
                writer_text(w, "error", NULL, "%s", e.text);
                writer_mark(w, MARK_BAD);
                return session_write(s, w, r == -ENOENT ? 1 : EX_UNAVAILABLE);
        }
        shake_hands(h);
        lookup_done(&h->host);
        return session_write(s, w, h->good + h->bad == 0 ? 2 : h->bad == 0 ? 0 : h->good == 0 ? 1 : 3);
}

int cmd_tls(struct session *s)
{
        struct trust_options trust = {.root_ca_path = s->settings.root_ca_path};
        struct handshakes h = {.session = s};
        char host[254];
        int status;

        if (!trust.root_ca_path && s->profile) {
                trust.root_ca_path = s->profile->root_ca_path;
                trust.root_subject = s->profile->root_subject;
        }
        h.has_root = trust.root_ca_path || trust.root_subject;
        if (s->settings.mutual) {
                trust.certificate_path = s->site->certificate_path;
                trust.key_path = s->site->key_path;
        }
        status = parse_target(s, s->arguments[0], host, &h.port);
        if (status == EXIT_SUCCESS && s->settings.server_name && s->settings.server_name[0] &&
                !str_is_host_name(s->settings.server_name))
                status = session_usage_error(s, "--sni takes a host name, not '%s'", s->settings.server_name);
        if (status == EXIT_SUCCESS)
                status = session_measure(s, h.has_root || s->settings.mutual ? &trust : NULL, &h.measure);
        if (status != EXIT_SUCCESS)
                return status;
        h.writer = session_writer(s);
        writer_text(h.writer, "host", WRITER_HIDDEN, "%s", host);
        writer_integer(h.writer, "port", WRITER_HIDDEN, h.port);
        status = run(&h, host);
        writer_free(h.writer);
        measure_free(h.measure);
        return status;
}
