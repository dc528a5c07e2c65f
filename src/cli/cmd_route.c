/* gridnode route ADDRESS[:PORT] */
#include "cli/commands_gridnode.h"
#include "cli/session.h"
#include "cli/show.h"

#include "base/cleanup.h"

#include <errno.h>
#include <string.h>

/* The LAN whose configured route puts this entry there, or would. */
static const struct site_lan *find_configured(
        const struct site *site, const struct inet_addr *target, const char *interface)
{
        for (size_t i = 0; i < site->lan_count; i++)
                for (size_t r = 0; r < site->lans[i].route_count; r++)
                        if (cidr_contains(&site->lans[i].routes[r].destination, target) &&
                                (!interface || str_equal(site->lans[i].interface, interface)))
                                return &site->lans[i];
        return NULL;
}

/* The tables that are always there, rt_tables(5) */
static const char *table_name(uint32_t table)
{
        return table == 254 ? " (main)" : table == 253 ? " (default)" : table == 255 ? " (local)" : "";
}

static void write_facts(struct writer *w, const struct measurement *m)
{
        char text[INET_ADDR_TEXT];

        writer_text(w, "target", "to", "%s", endpoint_format(&m->spec.target, text));
        if (m->source[0])
                writer_text(w, "source", "from", "%s", m->source);
        if (m->route_interface[0])
                writer_text(w, "interface", "leaves by", "%s", m->route_interface);
        if (inet_addr_is_set(&m->next_hop))
                writer_text(w, "next_hop", "next hop", "%s", inet_addr_format(&m->next_hop, text));
        else if (m->outcome == OUTCOME_OK)
                writer_text(w, NULL, "next hop", "none: on the link");
        if (m->route_text)
                writer_text(w, "route", "route", "%s", m->route_text);
        if (m->route_type[0])
                writer_text(w, "type", "type", "%s", m->route_type);
        if (m->route_table) {
                writer_integer(w, "table", WRITER_HIDDEN, m->route_table);
                writer_text(w, NULL, "table", "%u%s", m->route_table, table_name(m->route_table));
        }
        if (m->rule_text)
                writer_text(w, "rule", "rule", "%s", m->rule_text);
}

static int write_captured(
        struct writer *w, const struct session *s, const struct measurement *m, const char *wan)
{
        const struct site_lan *lan = find_configured(s->site, &m->spec.target.address, m->route_interface);

        writer_boolean(w, "captured", WRITER_HIDDEN, true);
        writer_boolean(w, "configured", WRITER_HIDDEN, lan != NULL);
        writer_text(w, "summary", NULL,
                "Captured: packets to this address leave by %s and not by the WAN %s, because of the route "
                "%s%s%s.",
                m->route_interface, wan, m->route_text ? m->route_text : "",
                m->rule_text ? " by the rule " : "", m->rule_text ? m->rule_text : "");
        writer_mark(w, MARK_BAD);
        if (lan && s->site->path)
                writer_text(w, "configured_in", NULL, "%s puts such a route there: [lan %s].", s->site->path,
                        lan->interface);
        return 1;
}

/* What the kernel does not do yet, and will as soon as the LAN comes up. */
static void write_pending(struct writer *w, const struct session *s, const struct measurement *m)
{
        const struct site_lan *lan = find_configured(s->site, &m->spec.target.address, NULL);

        if (!lan || str_equal(lan->interface, m->route_interface))
                return;
        writer_text(w, "pending", NULL,
                "%s has a route for this address on %s that the kernel does not use now: not applied yet, or "
                "overruled.",
                s->site->path ? s->site->path : "The site", lan->interface);
        writer_mark(w, MARK_WARNING);
}

static int write_verdict(
        struct writer *w, const struct session *s, const struct measurement *m, const char *wan)
{
        if (m->outcome == OUTCOME_NOT_TESTED) {
                writer_text(
                        w, "summary", NULL, "Not tested: %s.", m->reason ? m->reason : "no reason recorded");
                return 2;
        }
        if (m->outcome != OUTCOME_OK) {
                writer_text(w, "summary", NULL, "No way: the kernel refuses with \"%s\".",
                        strerror(m->error_number ? m->error_number : ENETUNREACH));
                writer_mark(w, MARK_BAD);
                return 1;
        }
        if (str_equal(m->route_type, "local") || inet_addr_is_loopback(&m->spec.target.address)) {
                writer_text(w, "summary", NULL, "This host itself: packets to this address do not leave it.");
                return 0;
        }
        if (wan[0] && !str_equal(m->route_interface, wan))
                return write_captured(w, s, m, wan);
        writer_boolean(w, "captured", WRITER_HIDDEN, false);
        writer_text(w, "summary", NULL, "Packets to this address leave by %s%s.", m->route_interface,
                wan[0] ? ", the WAN" : "");
        writer_mark(w, MARK_GOOD);
        write_pending(w, s, m);
        return 0;
}

int cmd_route(struct session *s)
{
        struct probe_spec spec = {.kind = MEASUREMENT_ROUTE};
        struct measure *m = NULL;
        struct writer *w;
        char wan[IFNAMSIZ];
        int status;

        if (endpoint_parse(s->arguments[0], &spec.target) < 0)
                return session_usage_error(
                        s, "ADDRESS is an IPv4 or IPv6 address, not '%s'", s->arguments[0]);
        if (spec.target.port)
                spec.transport = spec.target.port == 53 ? TRANSPORT_UDP : TRANSPORT_TCP;
        status = session_measure(s, NULL, &m);
        if (status != EXIT_SUCCESS)
                return status;
        session_wan_interface(s, wan);
        measure_add(m, &spec);
        measure_run(m, NULL, NULL);
        w = session_writer(s);
        write_facts(w, measure_list(m)->items[0]);
        if (wan[0])
                writer_text(w, "wan_interface", "WAN", "%s", wan);
        show_failure_fields(w, measure_list(m)->items[0]);
        status = session_write(s, w, write_verdict(w, s, measure_list(m)->items[0], wan));
        writer_free(w);
        measure_free(m);
        return status;
}
