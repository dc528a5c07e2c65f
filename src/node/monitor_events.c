/* What the monitor tells people. */
#include "node/monitor_internal.h"

#include "base/alloc.h"

#include <string.h>

static void add(struct monitor *m, const struct subject *s, const char *name, enum wire_severity severity,
        char *message /* owned */, bool has_diagnosis)
{
        struct monitor_event *e;

        m->events = xrealloc_array(m->events, m->event_count + 1, sizeof *m->events);
        e = &m->events[m->event_count++];
        *e = (struct monitor_event){.has_diagnosis = has_diagnosis};
        e->event.name = xstrdup(name);
        e->event.message = message;
        e->event.severity = severity;
        e->event.service = xstrdup(s->service ? s->service->name : NULL);
}

static void tell_service(struct monitor *m, const struct subject *s, bool has_diagnosis)
{
        bool is_control = strv_contains(&s->service->carries, "control");
        const char *usual = is_control ? "control" : "repo", *name = s->service->name;
        const char *what = s->state == MONITOR_FAILED     ? "failed"
                           : s->state == MONITOR_DEGRADED ? "degraded"
                                                          : "re-established";

        /* A node that is degraded is connected. */
        add(m, s,
                !is_control                  ? EVENT_REPO_CONNECTIVITY
                : s->state == MONITOR_FAILED ? EVENT_NODE_DISCONNECT
                                             : EVENT_NODE_CONNECT,
                s->state == MONITOR_FAILED     ? WIRE_ERROR
                : s->state == MONITOR_DEGRADED ? WIRE_WARNING
                                               : WIRE_INFO,
                xasprintf("%s connectivity %s%s%s", is_control ? "Control plane" : "Repo", what,
                        str_equal(name, usual) ? "" : ": ", str_equal(name, usual) ? "" : name),
                has_diagnosis);
}

static void tell_dns(struct monitor *m, const struct subject *s, bool has_diagnosis)
{
        struct text servers = {0};
        char text[INET_ADDR_TEXT];

        if (s->state == MONITOR_FAILED) {
                add(m, s, EVENT_DNS_RESOLUTION, WIRE_ERROR, xstrdup("DNS resolution failed"), has_diagnosis);
        } else if (s->state == MONITOR_DEGRADED) {
                for (size_t i = 0; i < s->count; i++) {
                        inet_addr_format(&s->targets[i].address, text);
                        if (s->targets[i].is_bad && !strstr(text_string(&servers), text))
                                text_addf(&servers, "%s%s", servers.length ? ", " : "", text);
                }
                add(m, s, EVENT_DNS_RESOLUTION, WIRE_WARNING,
                        xasprintf("DNS resolution failed at %s", text_string(&servers)), has_diagnosis);
        } else {
                add(m, s, EVENT_DNS_RESOLUTION, WIRE_INFO, xstrdup("DNS resolution re-established"),
                        has_diagnosis);
        }
        text_done(&servers);
}

void monitor_tell_state(struct monitor *m, const struct subject *s, bool has_diagnosis)
{
        if (s->service)
                tell_service(m, s, has_diagnosis);
        else
                tell_dns(m, s, has_diagnosis);
}

void monitor_tell_flapping(struct monitor *m, const struct subject *s)
{
        add(m, s, EVENT_FLAPPING, WIRE_WARNING,
                xasprintf("Connection flapping: %s", s->service ? s->service->name : "DNS"), false);
}

size_t monitor_take_events(struct monitor *m, struct monitor_event **ret)
{
        size_t count = m->event_count;

        *ret = m->events;
        m->events = NULL;
        m->event_count = 0;
        return count;
}
