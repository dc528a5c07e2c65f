#include "reports.h"

#include "base/alloc.h"

#include <stdarg.h>
#include <string.h>

static struct measurement *add(struct report *r, enum measurement_kind kind, const char *target, double at_ms,
        double took_ms, enum measurement_outcome outcome)
{
        struct probe_spec spec = {.kind = kind};
        struct measurement *m;

        if (target)
                endpoint_parse(target, &spec.target);
        m = measurement_new(&spec);
        m->outcome = outcome;
        m->at_ms = at_ms;
        m->took_ms = took_ms;
        measurement_list_take(&r->measurements, m);
        return m;
}

static void site(struct report *r, int ranges)
{
        struct measurement *m;

        r->node = xstrdup("branch-12");
        r->profile = xstrdup("grid");
        time_parse_utc("2026-11-21T03:00:00.000Z", &r->started_unix_ms);
        r->elapsed_ms = 812.4;
        str_copy(r->source_interface, sizeof r->source_interface, "eth0");
        str_copy(r->source_address, sizeof r->source_address, "192.0.2.10");

        m = add(r, MEASUREMENT_PROFILE, NULL, 0, 0, OUTCOME_OK);
        str_copy(m->spec.name, sizeof m->spec.name, "grid");
        strv_add(&m->ranges, "198.51.100.16/28");
        strv_add(&m->ranges, "203.0.113.192/28");
        for (int i = 2; i < ranges; i++)
                strv_take(&m->ranges, xasprintf("10.77.%d.0/24", i));

        m = add(r, MEASUREMENT_SITE, NULL, 0, 0, OUTCOME_OK);
        str_copy(m->spec.interface, sizeof m->spec.interface, "eth0");
        str_copy(m->source, sizeof m->source, "192.0.2.10");
        inet_addr_parse("192.0.2.1", &m->gateway);
        strv_add(&m->servers, "198.51.100.53");
        strv_add(&m->servers, "203.0.113.53");

        m = add(r, MEASUREMENT_ARP, "192.0.2.1", 1, 0.4, OUTCOME_OK);
        m->spec.purpose = PURPOSE_GATEWAY;
        str_copy(m->spec.interface, sizeof m->spec.interface, "eth0");
        str_copy(m->mac, sizeof m->mac, "02:00:00:00:00:01");
}

static void config_service(
        struct report *r, const char *name, const char *host, uint16_t port, const char *carries)
{
        struct measurement *m = add(r, MEASUREMENT_SERVICE, NULL, 0, 0, OUTCOME_OK);

        str_copy(m->spec.service, sizeof m->spec.service, name);
        str_copy(m->spec.name, sizeof m->spec.name, host);
        m->spec.target.port = port;
        strv_split(&m->carries, carries, ';');
}

static struct measurement *dns(
        struct report *r, const char *server, enum probe_transport t, enum measurement_outcome outcome)
{
        struct measurement *m =
                add(r, MEASUREMENT_DNS, server, 2, outcome == OUTCOME_OK ? 21 : 1000, outcome);

        m->spec.transport = t;
        m->spec.dns_type = 1;
        str_copy(m->spec.name, sizeof m->spec.name, "repo.grid.example");
        str_copy(m->source, sizeof m->source, "192.0.2.10");
        if (outcome == OUTCOME_OK) {
                m->answered = YES;
                m->rtt_ms = 20.5;
                strv_add(&m->addresses, "198.51.100.20");
                strv_add(&m->addresses, "203.0.113.200");
        }
        return m;
}

static struct measurement *tcp(
        struct report *r, const char *target, const char *service, enum measurement_outcome outcome)
{
        struct measurement *m =
                add(r, MEASUREMENT_TCP, target, 12.1, outcome == OUTCOME_TIMEOUT ? 1003 : 20.2, outcome);

        str_copy(m->spec.service, sizeof m->spec.service, service);
        str_copy(m->source, sizeof m->source, "192.0.2.10");
        m->local_port = 40000 + (uint16_t)m->id;
        m->tries = outcome == OUTCOME_OK ? 1 : 5;
        m->rtt_ms = outcome == OUTCOME_OK ? 20.2 : 0;
        m->stage = STAGE_TCP;
        return m;
}

static struct service_result *service(struct report *r, const char *name, const char *host, uint16_t port,
        enum service_state state, enum probe_stage stage, const char *carries)
{
        struct conclusion *c = &r->conclusion;
        struct service_result *s;

        c->services = xrealloc_array(c->services, c->service_count + 1, sizeof *c->services);
        s = &c->services[c->service_count++];
        *s = (struct service_result){
                .name = xstrdup(name), .host = xstrdup(host), .port = port, .state = state, .stage = stage};
        strv_split(&s->carries, carries, ';');
        return s;
}

static void address(
        struct service_result *s, const char *text, enum address_state state, enum probe_stage stage)
{
        struct address_result *a;

        s->addresses = xrealloc_array(s->addresses, s->address_count + 1, sizeof *s->addresses);
        a = &s->addresses[s->address_count++];
        *a = (struct address_result){
                .state = state, .stage = stage, .rtt_ms = state == ADDRESS_OK ? 20.2 : 0};
        inet_addr_parse(text, &a->address);
}

static struct cause *cause(struct report *r, enum cause_code code, enum severity severity,
        const char *services, const char *targets)
{
        struct conclusion *o = &r->conclusion;
        struct cause *c;

        o->causes = xrealloc_array(o->causes, o->cause_count + 1, sizeof *o->causes);
        c = &o->causes[o->cause_count++];
        *c = (struct cause){
                .info = cause_info(code), .severity = severity, .fixed_by = cause_info(code)->fixed_by};
        strv_split(&c->services, services, ';');
        strv_split(&c->targets, targets, ';');
        return c;
}

static void evidence(struct cause *c, const struct measurement *m)
{
        c->evidence = xrealloc_array(c->evidence, c->evidence_count + 1, sizeof *c->evidence);
        c->evidence[c->evidence_count++] = m->id;
}

static void hop(struct hop_name *ret, const char *text, int distance)
{
        ret->known = true;
        ret->hop = distance;
        inet_addr_parse(text, &ret->address);
}

static void say(struct report *r, enum verdict v, const char *summary)
{
        r->conclusion.verdict = v;
        r->conclusion.summary = xstrdup(summary);
}

/* Everything but repo as it is when nothing is wrong. */
static void control_fine(struct report *r)
{
        struct service_result *s =
                service(r, "control", "control.grid.example", 8443, SERVICE_OK, STAGE_TLS, "control;config");

        address(s, "198.51.100.21", ADDRESS_OK, STAGE_TLS);
        address(s, "203.0.113.201", ADDRESS_OK, STAGE_TLS);
        tcp(r, "198.51.100.21:8443", "control", OUTCOME_OK);
        tcp(r, "203.0.113.201:8443", "control", OUTCOME_OK);
}

static void frame(struct report *r, int ranges)
{
        *r = (struct report){0};
        site(r, ranges);
        config_service(r, "repo", "repo.grid.example", 443, "updates;images;logs");
        config_service(r, "control", "control.grid.example", 8443, "control;config");
}

static void dns_fine(struct report *r)
{
        dns(r, "198.51.100.53:53", TRANSPORT_UDP, OUTCOME_OK);
        dns(r, "198.51.100.53:53", TRANSPORT_TCP, OUTCOME_OK);
        dns(r, "203.0.113.53:53", TRANSPORT_UDP, OUTCOME_OK);
        dns(r, "203.0.113.53:53", TRANSPORT_TCP, OUTCOME_OK);
}

static struct service_result *repo(struct report *r, enum service_state state, enum probe_stage stage,
        enum address_state first, enum address_state second)
{
        struct service_result *s =
                service(r, "repo", "repo.grid.example", 443, state, stage, "updates;images;logs");

        address(s, "198.51.100.20", first, stage);
        address(s, "203.0.113.200", second, stage);
        return s;
}

void report_healthy(struct report *ret)
{
        frame(ret, 2);
        dns_fine(ret);
        repo(ret, SERVICE_OK, STAGE_HTTP, ADDRESS_OK, ADDRESS_OK);
        tcp(ret, "198.51.100.20:443", "repo", OUTCOME_OK);
        tcp(ret, "203.0.113.200:443", "repo", OUTCOME_OK);
        control_fine(ret);
        say(ret, VERDICT_HEALTHY, "All 2 services of the control plane are reachable and genuine.");
}

void report_dropped(struct report *ret)
{
        struct measurement *a, *b, *m;
        struct cause *c;

        frame(ret, 2);
        dns_fine(ret);
        repo(ret, SERVICE_BLOCKED, STAGE_TCP, ADDRESS_BLOCKED, ADDRESS_BLOCKED);
        a = tcp(ret, "198.51.100.20:443", "repo", OUTCOME_TIMEOUT);
        b = tcp(ret, "203.0.113.200:443", "repo", OUTCOME_TIMEOUT);
        control_fine(ret);
        m = add(ret, MEASUREMENT_HOP, "198.51.100.20:443", 320, 1.2, OUTCOME_OK);
        m->spec.ttl = 1;
        m->hop_answer = HOP_TIME_EXCEEDED;
        inet_addr_parse("192.0.2.1", &m->by);
        str_copy(m->source, sizeof m->source, "192.0.2.10");
        m->local_port = 40100;
        c = cause(ret, CAUSE_TCP_DROPPED, SEVERITY_CRITICAL, "repo", "198.51.100.20:443;203.0.113.200:443");
        hop(&c->after, "192.0.2.1", 1);
        evidence(c, a);
        evidence(c, b);
        evidence(c, m);
        c->summary = xstrdup(
                "TCP 443 to 198.51.100.20 and 203.0.113.200 is dropped after 192.0.2.1 (hop 1): at its "
                "exit or at the next device's entry. Port 8443 to the same networks passes.");
        c->remedy = xstrdup("Allow TCP 443 from 192.0.2.10 to 198.51.100.16/28 and 203.0.113.192/28.");
        say(ret, VERDICT_BLOCKED, c->summary);

        m = add(ret, MEASUREMENT_TLS, "198.51.100.20:443", 0, 0, OUTCOME_NOT_TESTED);
        m->reason = xstrdup("TCP does not connect");
        m = add(ret, MEASUREMENT_TLS, "203.0.113.200:443", 0, 0, OUTCOME_NOT_TESTED);
        m->reason = xstrdup("TCP does not connect");
        add(ret, MEASUREMENT_CAPTURE, NULL, 0.2, 0, OUTCOME_NOT_PERMITTED);
}

void report_rejected(struct report *ret)
{
        struct measurement *m;
        struct cause *c;

        frame(ret, 2);
        dns_fine(ret);
        repo(ret, SERVICE_DEGRADED, STAGE_TCP, ADDRESS_BLOCKED, ADDRESS_OK);
        m = tcp(ret, "198.51.100.20:443", "repo", OUTCOME_REJECTED);
        tcp(ret, "203.0.113.200:443", "repo", OUTCOME_OK);
        m->icmp_type = 3;
        m->icmp_code = 13;
        inet_addr_parse("10.255.0.2", &m->by);
        control_fine(ret);
        c = cause(ret, CAUSE_TCP_REJECTED, SEVERITY_WARNING, "repo", "198.51.100.20:443");
        hop(&c->by, "10.255.0.2", 2);
        evidence(c, m);
        c->summary =
                xstrdup("10.255.0.2 (hop 2) refuses TCP 443 to 198.51.100.20: administratively prohibited.");
        say(ret, VERDICT_DEGRADED, c->summary);
}

void report_captured(struct report *ret)
{
        struct measurement *m;
        struct cause *c;

        frame(ret, 2);
        m = dns(ret, "198.51.100.53:53", TRANSPORT_UDP, OUTCOME_TIMEOUT);
        m->status = STATUS_VOID;
        m->voided_by = "route.captured";
        m = dns(ret, "198.51.100.53:53", TRANSPORT_TCP, OUTCOME_TIMEOUT);
        m->status = STATUS_VOID;
        m->voided_by = "route.captured";
        dns(ret, "203.0.113.53:53", TRANSPORT_UDP, OUTCOME_OK);
        repo(ret, SERVICE_OK, STAGE_HTTP, ADDRESS_OK, ADDRESS_OK);
        control_fine(ret);
        m = add(ret, MEASUREMENT_ROUTE, "198.51.100.53:53", 0.5, 0.1, OUTCOME_OK);
        str_copy(m->route_interface, sizeof m->route_interface, "eth1");
        inet_addr_parse("10.20.0.1", &m->next_hop);
        m->route_text = xstrdup("198.51.100.48/28 via 10.20.0.1");
        c = cause(ret, CAUSE_ROUTE_CAPTURED, SEVERITY_WARNING, "repo;control", "198.51.100.53:53");
        c->interface = xstrdup("eth1");
        c->route = xstrdup("198.51.100.48/28 via 10.20.0.1");
        c->configured = YES;
        evidence(c, m);
        c->summary = xstrdup(
                "The route 198.51.100.48/28 via 10.20.0.1 on eth1 (from the site file) carries what is "
                "meant for the DNS server 198.51.100.53.");
        say(ret, VERDICT_DEGRADED, c->summary);
}

void report_intercepted(struct report *ret)
{
        struct measurement *m;
        struct cause *c;

        frame(ret, 2);
        dns_fine(ret);
        repo(ret, SERVICE_BLOCKED, STAGE_TLS, ADDRESS_BLOCKED, ADDRESS_BLOCKED);
        tcp(ret, "198.51.100.20:443", "repo", OUTCOME_OK);
        m = add(ret, MEASUREMENT_TLS, "198.51.100.20:443", 33, 22, OUTCOME_UNTRUSTED);
        str_copy(m->spec.name, sizeof m->spec.name, "repo.grid.example");
        str_copy(m->source, sizeof m->source, "192.0.2.10");
        m->local_port = 40007;
        strv_add(&m->chain_subjects, "CN=repo.grid.example");
        strv_add(&m->chain_issuers, "CN=Fortinet Untrusted CA,O=Fortinet");
        strv_add(&m->chain_pem, "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
        m->chain_error = xstrdup("self-signed certificate in certificate chain");
        m->client_serial = xstrdup("5eC2E7");
        control_fine(ret);
        c = cause(
                ret, CAUSE_TLS_INTERCEPTED, SEVERITY_CRITICAL, "repo", "198.51.100.20:443;203.0.113.200:443");
        c->interceptor = xstrdup("Fortinet");
        evidence(c, m);
        c->summary = xstrdup("TLS to repo.grid.example:443 is re-signed by Fortinet.");
        say(ret, VERDICT_BLOCKED, c->summary);
}

void report_service_down(struct report *ret)
{
        struct measurement *m;
        struct cause *c;

        frame(ret, 2);
        dns_fine(ret);
        repo(ret, SERVICE_BLOCKED, STAGE_TCP, ADDRESS_BLOCKED, ADDRESS_BLOCKED);
        m = tcp(ret, "198.51.100.20:443", "repo", OUTCOME_RESET);
        m->reply_ttl = 62;
        control_fine(ret);
        c = cause(ret, CAUSE_SERVICE_DOWN, SEVERITY_CRITICAL, "repo", "198.51.100.20:443;203.0.113.200:443");
        evidence(c, m);
        c->summary = xstrdup("repo.grid.example refuses TCP 443 itself.");
        say(ret, VERDICT_BLOCKED, c->summary);
}

void report_undetermined(struct report *ret)
{
        struct measurement *m;
        struct cause *c;

        frame(ret, 2);
        dns_fine(ret);
        repo(ret, SERVICE_BLOCKED, STAGE_TCP, ADDRESS_BLOCKED, ADDRESS_BLOCKED);
        m = tcp(ret, "198.51.100.20:443", "repo", OUTCOME_RESET);
        control_fine(ret);
        c = cause(ret, CAUSE_UNDETERMINED, SEVERITY_CRITICAL, "repo", "198.51.100.20:443;203.0.113.200:443");
        strv_split(&c->candidates, "tcp.reset;service.down", ';');
        evidence(c, m);
        c->summary =
                xstrdup("repo.grid.example fails at the tcp stage, and the evidence does not separate the "
                        "possible causes.");
        say(ret, VERDICT_UNDETERMINED, c->summary);
}

void report_mixed(struct report *ret)
{
        struct service_result *control;
        struct measurement *m;
        struct cause *c;

        frame(ret, 2);
        dns_fine(ret);
        repo(ret, SERVICE_BLOCKED, STAGE_TCP, ADDRESS_BLOCKED, ADDRESS_BLOCKED);
        control = service(
                ret, "control", "control.grid.example", 8443, SERVICE_DEGRADED, STAGE_TCP, "control;config");
        address(control, "198.51.100.21", ADDRESS_BLOCKED, STAGE_TCP);
        address(control, "203.0.113.201", ADDRESS_OK, STAGE_TLS);

        m = tcp(ret, "198.51.100.20:443", "repo", OUTCOME_TIMEOUT);
        c = cause(ret, CAUSE_TCP_DROPPED, SEVERITY_CRITICAL, "repo", "198.51.100.20:443");
        hop(&c->after, "192.0.2.1", 1);
        evidence(c, m);
        c->summary = xstrdup("TCP 443 to 198.51.100.20 is dropped after 192.0.2.1 (hop 1).");

        m = tcp(ret, "198.51.100.21:8443", "control", OUTCOME_RESET);
        c = cause(ret, CAUSE_SERVICE_DOWN, SEVERITY_WARNING, "control", "198.51.100.21:8443");
        evidence(c, m);
        c->summary = xstrdup("control.grid.example refuses TCP 8443 itself at 198.51.100.21.");

        m = tcp(ret, "203.0.113.200:443", "repo", OUTCOME_RESET);
        c = cause(ret, CAUSE_UNDETERMINED, SEVERITY_CRITICAL, "repo", "203.0.113.200:443");
        strv_split(&c->candidates, "tcp.reset;service.down", ';');
        evidence(c, m);
        c->summary = xstrdup("203.0.113.200:443 fails, by tcp.reset or service.down.");
        tcp(ret, "203.0.113.201:8443", "control", OUTCOME_OK);
        say(ret, VERDICT_BLOCKED, ret->conclusion.causes[0].summary);
}

void report_many(struct report *ret)
{
        struct service_result *s[2];
        struct cause *c;

        frame(ret, 20);
        dns_fine(ret);
        s[0] = service(
                ret, "repo", "repo.grid.example", 443, SERVICE_DEGRADED, STAGE_TCP, "updates;images;logs");
        c = cause(ret, CAUSE_TCP_DROPPED, SEVERITY_WARNING, "repo", "");
        hop(&c->after, "192.0.2.1", 1);
        for (int i = 0; i < 64; i++) {
                char text[INET_ADDR_TEXT];
                bool blocked = i < 40;
                struct measurement *m;

                snprintf(text, sizeof text, "10.77.%d.%d", 2 + i % 8, i + 1);
                address(s[0], text, blocked ? ADDRESS_BLOCKED : ADDRESS_OK, STAGE_TCP);
                snprintf(text, sizeof text, "10.77.%d.%d:443", 2 + i % 8, i + 1);
                m = tcp(ret, text, "repo", blocked ? OUTCOME_TIMEOUT : OUTCOME_OK);
                if (!blocked)
                        continue;
                strv_add(&c->targets, text);
                evidence(c, m);
        }
        c->summary = xstrdup(
                "TCP 443 to 40 of 64 addresses of repo.grid.example is dropped after 192.0.2.1 (hop 1).");
        say(ret, VERDICT_DEGRADED, c->summary);
}

void report_hostile(struct report *ret)
{
        struct measurement *m;
        struct cause *c;

        report_dropped(ret);
        free(ret->node);
        ret->node = xstrdup("</title><script>alert(1)</script>|`*_[x](y)\033[31m\n# heading");
        c = &ret->conclusion.causes[0];
        free(c->summary);
        c->summary = xstrdup(
                "Ends | the <table> & \"cell\" \033]0;title\007 via http://user:s3cret@10.20.0.9:3128/");
        m = add(ret, MEASUREMENT_HTTP, "198.51.100.20:443", 40, 3, OUTCOME_PROTOCOL);
        str_copy(m->spec.proxy, sizeof m->spec.proxy, "http://user:s3cret@10.20.0.9:3128");
        m->error_text = xstrdup("<img src=x onerror=alert(1)> \xc2\x9b"
                                "31m \xe2\x80\xae evil");
        m->body_excerpt = xstrdup("<script>alert(2)</script>");
        evidence(c, m);
        free(ret->conclusion.summary);
        ret->conclusion.summary = xstrdup(c->summary);
}
