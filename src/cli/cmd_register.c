/* gridnode register URL --token-file FILE --root-ca FILE|--root-fingerprint SHA256 [--again] */
#include "cli/commands_gridnode.h"
#include "cli/enrolment.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <string.h>

#define DEFAULT_PORT 443

/* "https://HOST[:PORT][/]" */
static int parse_url(const char *url, char **ret_host, uint16_t *ret_port)
{
        static const char scheme[] = "https://";
        _cleanup_free_ char *rest = NULL;
        unsigned long port = DEFAULT_PORT;
        struct endpoint literal = {0};
        struct inet_addr address;
        size_t length;
        char *colon;

        if (!str_starts_with(url, scheme))
                return -1;
        rest = xstrdup(url + strlen(scheme));
        length = strlen(rest);
        if (length > 0 && rest[length - 1] == '/')
                rest[length - 1] = '\0';
        if (endpoint_parse(rest, &literal) == 0) {
                char text[INET_ADDR_TEXT];

                *ret_host = xstrdup(inet_addr_format(&literal.address, text));
                *ret_port = literal.port ? literal.port : DEFAULT_PORT;
                return 0;
        }
        colon = strrchr(rest, ':');
        if (colon) {
                *colon = '\0';
                if (str_to_ulong(colon + 1, 1, 65535, &port) < 0)
                        return -1;
        }
        if (!str_is_host_name(rest) && inet_addr_parse(rest, &address) < 0)
                return -1;
        *ret_host = TAKE_PTR(rest);
        *ret_port = (uint16_t)port;
        return 0;
}

static int report(const struct session *s, const struct node_settings *n, const char *host)
{
        struct writer *w = session_writer(s);
        int status;

        writer_text(w, NULL, NULL, "%s is registered with %s.", n->name, host);
        writer_text(w, "name", WRITER_HIDDEN, "%s", n->name);
        writer_text(w, "node", "Node", "%s", n->node);
        writer_text(w, "organisation", "Organisation", "%s", n->organisation);
        writer_text(w, "state", "State", "%s", n->paths.state);
        status = session_write(s, w, EXIT_SUCCESS);
        writer_free(w);
        return status;
}

int cmd_register(struct session *s)
{
        struct enrol_options o = {.token_path = s->settings.token_path,
                .root_ca_path = s->settings.root_ca_path,
                .root_fingerprint = s->settings.root_fingerprint,
                .timeout_ms = enrolment_timeout_ms(s)};
        _cleanup_free_ char *host = NULL, *note = NULL;
        struct node_settings n = {0};
        struct error e = {0};
        int status;

        if (parse_url(s->arguments[0], &host, &o.port) < 0)
                return session_usage_error(
                        s, "URL is https://HOST or https://HOST:PORT, not '%s'", s->arguments[0]);
        if (!o.token_path)
                return session_usage_error(s, "--token-file needed: the one-time token is read from a file");
        if (!o.root_ca_path == !o.root_fingerprint)
                return session_usage_error(s, "--root-ca or --root-fingerprint needed, one of the two");
        o.host = host;
        o.ret_note = &note;
        status = enrolment_load(s, &n);
        if (status != EXIT_SUCCESS)
                return status;
        if (enrol_register(&n, &o, s->settings.again, &e) < 0) {
                status = enrolment_fail(s, &e);
                if (e.code && str_starts_with(e.code, "tcp."))
                        fprintf(stderr, "'gridnode trace %s %u' shows where on the way it ends.\n", host,
                                (unsigned)o.port);
        } else
                status = report(s, &n, host);
        if (note)
                fprintf(stderr, "%s\n", note);
        node_settings_done(&n);
        return status;
}
