/* gridnode config: what the control plane wants of this node. */
#include "cli/commands_gridnode.h"
#include "cli/enrolment.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "cli/stop.h"

#include <string.h>

static void write_lan(struct writer *w, const struct config_lan *lan)
{
        char a[INET_ADDR_TEXT], b[INET_ADDR_TEXT];

        writer_begin_item(w);
        writer_text(w, NULL, NULL, "%s", lan->interface);
        writer_text(w, NULL, NULL, "%s", lan->has_address ? cidr_format(&lan->address, a) : "no address");
        for (size_t i = 0; i < lan->route_count; i++) {
                const struct config_route *r = &lan->routes[i];

                writer_text(w, NULL, WRITER_LINE, "%s via %s%s%s", cidr_format(&r->destination, a),
                        inet_addr_format(&r->next_hop, b), r->description ? "  " : "",
                        r->description ? r->description : "");
        }
        writer_end(w);
}

static void write_schedule(struct writer *w, const struct config_schedule *u)
{
        struct text t = {0};
        char window[64];

        if (u->manual)
                text_add(&t, "only when somebody asks");
        for (size_t i = 0; i < u->window_count && !u->manual; i++) {
                window_format(&u->windows[i], window);
                text_addf(&t, "%s%s", i ? ", " : "", window);
        }
        if (u->hold_until[0] && !u->manual)
                text_addf(&t, ", not before %s", u->hold_until);
        text_addf(&t, "; channel %s; %s", u->channel,
                u->reboot ? "the machine restarts where that is needed" : "the machine is not restarted");
        writer_text(w, NULL, "Updates", "%s", text_string(&t));
        text_done(&t);
}

static void write_transfer(struct writer *w, const struct config_transfer *t)
{
        _cleanup_free_ char *limit = budget_plan_format(&t->limit);

        if (t->has_limit)
                writer_text(w, NULL, "Bandwidth", "%s", limit);
        if (t->has_fallback)
                writer_text(w, NULL, "When 443 is blocked", "%s",
                        t->no_fallback ? "transfers wait" : "transfers go by 8443");
}

static void write_config(struct writer *w, const struct wire_config *c)
{
        struct text dns = {0};
        char a[INET_ADDR_TEXT];

        for (size_t i = 0; i < c->dns_count; i++)
                text_addf(&dns, "%s%s", i ? ", " : "", inet_addr_format(&c->dns[i], a));
        writer_integer(w, NULL, "Version", c->version);
        writer_text(w, NULL, "DNS servers", "%s", c->dns_count ? text_string(&dns) : "as in the site file");
        writer_text(w, NULL, "Guard", "%s", c->guard ? "on" : "off");
        if (c->schedule.has_update)
                write_schedule(w, &c->schedule);
        write_transfer(w, &c->transfer);
        if (!c->has_lan)
                writer_text(w, NULL, "LAN interfaces", "as in the site file");
        if (c->lan_count > 0) {
                writer_begin_list(w, NULL, "LAN interfaces");
                for (size_t i = 0; i < c->lan_count; i++)
                        write_lan(w, &c->lans[i]);
                writer_end(w);
        }
        text_done(&dns);
}

static void write_text(struct writer *w, const struct enrol_config *c)
{
        _cleanup_free_ char *text = c->config ? json_to_text(c->config) : NULL;
        struct wire_config parsed = {0};

        if (c->status == 304)
                writer_text(w, NULL, NULL, "The configuration is still the same.");
        else if (!text || wire_config_parse(text, strlen(text), &parsed, NULL) < 0)
                writer_text(w, NULL, NULL, "The control plane has no configuration for this node.");
        else
                write_config(w, &parsed);
        wire_config_done(&parsed);
}

/* The document as it came, in one object with the status. */
static int write_json(const struct enrol_config *c)
{
        json_t *j = json_pack("{s:i}", "status", c->status);
        _cleanup_free_ char *text = NULL;

        if (c->etag)
                json_object_set_new(j, "etag", json_string(c->etag));
        if (c->config)
                json_object_set(j, "config", c->config);
        text = json_to_text(j);
        json_decref(j);
        puts(text);
        return stop_signal() ? 128 + stop_signal() : EXIT_SUCCESS;
}

static int report(const struct session *s, const struct enrol_config *c)
{
        struct writer *w;
        int status;

        if (s->settings.json)
                return write_json(c);
        w = session_writer(s);
        write_text(w, c);
        status = session_write(s, w, EXIT_SUCCESS);
        writer_free(w);
        return status;
}

int cmd_config(struct session *s)
{
        struct enrol_config c = {0};
        struct node_settings n = {0};
        struct error e = {0};
        int status = enrolment_load(s, &n);

        if (status != EXIT_SUCCESS)
                return status;
        if (enrol_fetch_config(&n, s->settings.etag, enrolment_timeout_ms(s), &c, &e) < 0)
                status = enrolment_fail(s, &e);
        else
                status = report(s, &c);
        enrol_config_done(&c);
        node_settings_done(&n);
        return status;
}
