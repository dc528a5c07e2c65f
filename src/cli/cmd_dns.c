/* gridnode dns NAME [@SERVER]... */
#include "cli/commands_gridnode.h"
#include "cli/resolve.h"
#include "cli/session.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <string.h>
#include <strings.h>
#include <sysexits.h>

struct question {
        const char *name;
        struct inet_addr *servers;
        size_t server_count;
        uint16_t types[2];
        size_t type_count;
};

static int parse_type(const struct session *s, struct question *q)
{
        static const uint16_t known[] = {1, 28, 2};

        if (!s->settings.record_type) {
                q->types[0] = 1;
                q->types[1] = 28;
                q->type_count = 2;
                return EXIT_SUCCESS;
        }
        for (size_t i = 0; i < ELEMENTS(known); i++)
                if (strcasecmp(s->settings.record_type, resolve_type_to_string(known[i])) == 0) {
                        q->types[0] = known[i];
                        q->type_count = 1;
                        return EXIT_SUCCESS;
                }
        return session_usage_error(s, "--type is A, AAAA or NS, not '%s'", s->settings.record_type);
}

static int parse(const struct session *s, struct question *q)
{
        for (int i = 0; i < s->argument_count; i++) {
                const char *word = s->arguments[i];
                struct inet_addr a;

                if (word[0] != '@') {
                        if (q->name)
                                return session_usage_error(s, "unexpected argument '%s'", word);
                        q->name = word;
                        continue;
                }
                if (inet_addr_parse(word + 1, &a) < 0)
                        return session_usage_error(
                                s, "SERVER is an IPv4 or IPv6 address, not '%s'", word + 1);
                q->servers = xrealloc_array(q->servers, q->server_count + 1, sizeof a);
                q->servers[q->server_count++] = a;
        }
        if (!q->name)
                return session_usage_error(s, "NAME needed");
        if (!str_is_host_name(q->name))
                return session_usage_error(s, "'%s' is not a host name", q->name);
        return parse_type(s, q);
}

static const struct inet_addr *servers_of(
        const struct session *s, const struct question *q, size_t *ret_count)
{
        bool is_given = q->server_count > 0;

        *ret_count = is_given ? q->server_count : s->site->wan.dns_count;
        return is_given ? q->servers : s->site->wan.dns;
}

static void add_question(
        struct measure *m, const char *name, const struct inet_addr *server, bool tcp, uint16_t type)
{
        struct probe_spec spec = {.kind = MEASUREMENT_DNS,
                .target = {.address = *server, .port = 53},
                .transport = tcp ? TRANSPORT_TCP : TRANSPORT_UDP,
                .dns_type = type};
        size_t length = strlen(name);

        str_copy(spec.name, sizeof spec.name, name);
        if (length > 1 && length < sizeof spec.name && name[length - 1] == '.')
                spec.name[length - 1] = 0;
        measure_add(m, &spec);
}

static void on_answers(const struct measurement *const *results, size_t count, void *userdata)
{
        struct writer *w = userdata;

        for (size_t i = 0; i < count; i++)
                resolve_write_answer(w, results[i]);
        writer_flush(w);
}

/* By server, then transport, then type. */
static void ask(struct session *s, struct measure *m, struct writer *w, const struct question *q)
{
        size_t count;
        const struct inet_addr *servers = servers_of(s, q, &count);

        writer_begin_list(w, "answers", NULL);
        resolve_reserve(w, servers, count);
        for (size_t i = 0; i < count; i++)
                for (int tcp = s->settings.tcp_only; tcp < 2; tcp++)
                        for (size_t t = 0; t < q->type_count; t++)
                                add_question(m, q->name, &servers[i], tcp, q->types[t]);
        measure_tell(m, on_answers, w);
        measure_run(m, NULL, NULL);
        writer_end(w);
}

/* A server's transport is fine when it has a record: of either type, since few names have both. */
static bool has_record(const struct measurement_list *l, const struct measurement *like)
{
        for (size_t i = 0; i < l->count; i++) {
                const struct measurement *m = l->items[i];

                if (m->outcome == OUTCOME_OK && m->addresses.count > 0 &&
                        m->spec.transport == like->spec.transport &&
                        inet_addr_equal(&m->spec.target.address, &like->spec.target.address))
                        return true;
        }
        return false;
}

static int judge(const struct measurement_list *l)
{
        size_t good = 0, tested = 0;

        for (size_t i = 0; i < l->count; i++) {
                tested += l->items[i]->outcome != OUTCOME_NOT_TESTED;
                good += has_record(l, l->items[i]);
        }
        return tested == 0 ? 2 : good == l->count ? 0 : good > 0 ? 3 : 1;
}

int cmd_dns(struct session *s)
{
        struct question q = {0};
        struct measure *m = NULL;
        struct writer *w;
        int status = parse(s, &q);

        if (status == EXIT_SUCCESS && q.server_count == 0 && s->site->wan.dns_count == 0)
                status = session_fail(s, EX_UNAVAILABLE,
                        "no DNS server is configured; name one: gridnode dns %s @SERVER", q.name);
        if (status == EXIT_SUCCESS)
                status = session_measure(s, NULL, &m);
        if (status == EXIT_SUCCESS) {
                w = session_writer(s);
                writer_text(w, "name", WRITER_HIDDEN, "%s", q.name);
                ask(s, m, w, &q);
                status = session_write(s, w, judge(measure_list(m)));
                writer_free(w);
        }
        measure_free(m);
        free(q.servers);
        return status;
}
