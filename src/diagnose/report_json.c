/* The report as JSON, member by member as the contract has it, and back. Only the frame and the measurements
 * are read back; conclusions are drawn anew, so that a stored report can be judged by newer rules. */
#include "diagnose/report.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <errno.h>
#include <string.h>

#define REPORT_SCHEMA           1
#define REPORT_MAX_BYTES        ((size_t)64 << 20)
#define REPORT_MAX_MEASUREMENTS 100000
#define REPORT_MAX_NAME         256

/* ---- to JSON ---- */

static json_t *text_or_null(const char *s)
{
        return str_is_empty(s) ? json_null() : json_string(s);
}

/* Milliseconds with three decimals. */
static json_t *milliseconds(double v)
{
        return json_real((double)(int64_t)(v * 1000 + (v < 0 ? -0.5 : 0.5)) / 1000);
}

static json_t *strings_to_json(const struct strv *v)
{
        json_t *a = json_array();

        for (size_t i = 0; i < v->count; i++)
                json_array_append_new(a, json_string(v->items[i]));
        return a;
}

static json_t *stage_to_json(enum probe_stage s)
{
        return text_or_null(probe_stage_to_string(s));
}

static json_t *hop_to_json(const struct hop_name *h)
{
        char address[INET_ADDR_TEXT];
        json_t *j;

        if (!h->known)
                return json_null();
        j = json_object();
        json_object_set_new(j, "address", text_or_null(inet_addr_format(&h->address, address)));
        json_object_set_new(j, "hop", h->hop > 0 ? json_integer(h->hop) : json_null());
        return j;
}

static json_t *address_to_json(const struct address_result *a)
{
        char address[INET_ADDR_TEXT];
        json_t *j = json_object();

        json_object_set_new(j, "address", json_string(inet_addr_format(&a->address, address)));
        json_object_set_new(j, "state", json_string(address_state_to_string(a->state)));
        json_object_set_new(j, "stage", stage_to_json(a->stage));
        json_object_set_new(j, "rtt_ms", a->rtt_ms > 0 ? milliseconds(a->rtt_ms) : json_null());
        return j;
}

static json_t *service_to_json(const struct service_result *s)
{
        json_t *j = json_object(), *addresses = json_array();

        for (size_t i = 0; i < s->address_count; i++)
                json_array_append_new(addresses, address_to_json(&s->addresses[i]));
        json_object_set_new(j, "name", json_string(s->name));
        json_object_set_new(j, "host", json_string(s->host));
        json_object_set_new(j, "port", json_integer(s->port));
        json_object_set_new(j, "state", json_string(service_state_to_string(s->state)));
        json_object_set_new(j, "stage", stage_to_json(s->stage));
        json_object_set_new(j, "carries", strings_to_json(&s->carries));
        json_object_set_new(j, "addresses", addresses);
        return j;
}

/* Members that only some codes have. */
static void cause_extras_to_json(const struct cause *c, json_t *j)
{
        if (str_starts_with(c->info->text, "route.")) {
                json_object_set_new(j, "interface", text_or_null(c->interface));
                json_object_set_new(j, "route", text_or_null(c->route));
                json_object_set_new(j, "configured",
                        c->configured == UNKNOWN ? json_null() : json_boolean(c->configured == YES));
        } else if (!str_is_empty(c->interface)) {
                json_object_set_new(j, "interface", json_string(c->interface));
        }
        if (c->info->code == CAUSE_TLS_INTERCEPTED)
                json_object_set_new(j, "interceptor", text_or_null(c->interceptor));
        if (c->info->code == CAUSE_UNDETERMINED)
                json_object_set_new(j, "candidates", strings_to_json(&c->candidates));
}

static json_t *cause_to_json(const struct cause *c)
{
        json_t *j = json_object(), *evidence = json_array();

        json_object_set_new(j, "code", json_string(c->info->text));
        json_object_set_new(j, "severity", json_string(severity_to_string(c->severity)));
        json_object_set_new(j, "services", strings_to_json(&c->services));
        json_object_set_new(j, "targets", strings_to_json(&c->targets));
        json_object_set_new(j, "by", hop_to_json(&c->by));
        json_object_set_new(j, "after", hop_to_json(&c->after));
        cause_extras_to_json(c, j);
        json_object_set_new(j, "summary", json_string(c->summary ? c->summary : c->info->title));
        json_object_set_new(j, "remedy", json_string(c->remedy ? c->remedy : c->info->remedy));
        json_object_set_new(j, "fixed_by", json_string(fixed_by_to_string(c->fixed_by)));
        for (size_t i = 0; i < c->evidence_count; i++)
                json_array_append_new(evidence, json_integer(c->evidence[i]));
        json_object_set_new(j, "evidence", evidence);
        return j;
}

json_t *report_to_json(const struct report *r)
{
        const struct conclusion *c = &r->conclusion;
        json_t *j = json_object(), *source = json_object(), *services = json_array(), *causes = json_array(),
               *measurements = json_array();
        char started[32];

        time_format_utc(r->started_unix_ms, started);
        json_object_set_new(source, "interface", text_or_null(r->source_interface));
        json_object_set_new(source, "address", text_or_null(r->source_address));
        for (size_t i = 0; i < c->service_count; i++)
                json_array_append_new(services, service_to_json(&c->services[i]));
        for (size_t i = 0; i < c->cause_count; i++)
                json_array_append_new(causes, cause_to_json(&c->causes[i]));
        for (size_t i = 0; i < r->measurements.count; i++)
                json_array_append_new(measurements, measurement_to_json(r->measurements.items[i]));

        json_object_set_new(j, "schema", json_integer(REPORT_SCHEMA));
        json_object_set_new(j, "node", json_string(r->node ? r->node : ""));
        json_object_set_new(j, "profile", text_or_null(r->profile));
        json_object_set_new(j, "started", json_string(started));
        json_object_set_new(j, "elapsed_ms", milliseconds(r->elapsed_ms));
        json_object_set_new(j, "source", source);
        json_object_set_new(j, "verdict", json_string(verdict_to_string(c->verdict)));
        json_object_set_new(j, "summary", json_string(c->summary ? c->summary : ""));
        json_object_set_new(j, "services", services);
        json_object_set_new(j, "causes", causes);
        json_object_set_new(j, "measurements", measurements);
        return j;
}

/* ---- from JSON ---- */

static int bad_member(struct error *ret_error, const char *member, const char *wanted)
{
        return error_set(ret_error, EINVAL, "report.bad-member", "the report's member \"%s\" is not %s",
                member, wanted);
}

/* A short string, or null and absent where `optional`. */
static int short_string(
        const json_t *object, const char *member, bool optional, const char **ret, struct error *ret_error)
{
        const json_t *v = json_object_get(object, member);

        if (optional && (!v || json_is_null(v))) {
                *ret = "";
                return 0;
        }
        if (!json_is_string(v) || json_string_length(v) > REPORT_MAX_NAME ||
                strlen(json_string_value(v)) != json_string_length(v))
                return bad_member(ret_error, member, "a string of at most 256 bytes");
        *ret = json_string_value(v);
        return 0;
}

static int source_from_json(const json_t *j, struct report *r, struct error *ret_error)
{
        const json_t *source = json_object_get(j, "source");
        const char *interface, *address;
        struct inet_addr parsed;
        int e;

        if (!source || json_is_null(source))
                return 0;
        if (!json_is_object(source))
                return bad_member(ret_error, "source", "an object");
        e = short_string(source, "interface", true, &interface, ret_error);
        if (e < 0)
                return e;
        e = short_string(source, "address", true, &address, ret_error);
        if (e < 0)
                return e;
        if (strlen(interface) >= sizeof r->source_interface)
                return bad_member(ret_error, "source.interface", "an interface's name");
        if (*address && inet_addr_parse(address, &parsed) < 0)
                return bad_member(ret_error, "source.address", "an address");
        str_copy(r->source_interface, sizeof r->source_interface, interface);
        str_copy(r->source_address, sizeof r->source_address, address);
        return 0;
}

static int frame_from_json(const json_t *j, struct report *r, struct error *ret_error)
{
        const json_t *schema = json_object_get(j, "schema"), *elapsed = json_object_get(j, "elapsed_ms");
        const char *node, *profile, *started;
        int e;

        if (!json_is_integer(schema) || json_integer_value(schema) != REPORT_SCHEMA)
                return bad_member(ret_error, "schema", "1, the only version that is known here");
        e = short_string(j, "node", false, &node, ret_error);
        if (e < 0)
                return e;
        e = short_string(j, "profile", true, &profile, ret_error);
        if (e < 0)
                return e;
        e = short_string(j, "started", false, &started, ret_error);
        if (e < 0)
                return e;
        if (time_parse_utc(started, &r->started_unix_ms) < 0)
                return bad_member(ret_error, "started", "a time like \"2026-11-21T03:00:00.000Z\"");
        if (!json_is_number(elapsed) ||
                !(json_number_value(elapsed) >= 0 && json_number_value(elapsed) < 1e12))
                return bad_member(ret_error, "elapsed_ms", "a number of milliseconds");
        r->elapsed_ms = json_number_value(elapsed);
        r->node = xstrdup(node);
        r->profile = xstrdup(profile);
        return source_from_json(j, r, ret_error);
}

static int measurements_from_json(const json_t *j, struct report *r, struct error *ret_error)
{
        const json_t *all = json_object_get(j, "measurements"), *one;
        size_t i;

        if (!json_is_array(all))
                return bad_member(ret_error, "measurements", "a list");
        if (json_array_size(all) > REPORT_MAX_MEASUREMENTS)
                return error_set(ret_error, EINVAL, "report.too-large",
                        "the report has %zu measurements; at most %d are read", json_array_size(all),
                        REPORT_MAX_MEASUREMENTS);
        json_array_foreach(all, i, one)
        {
                struct measurement *m = NULL;
                int e = measurement_from_json(one, &m, ret_error);

                if (e < 0)
                        return error_prefix(ret_error, "measurements[%zu]", i);
                measurement_list_take(&r->measurements, m);
        }
        return 0;
}

int report_from_json_text(const char *data, size_t length, struct report *ret, struct error *ret_error)
{
        json_auto_t *j = NULL;
        _cleanup_(report_done) struct report r = {0};
        json_error_t where;
        int e;

        if (length > REPORT_MAX_BYTES)
                return error_set(ret_error, EINVAL, "report.too-large",
                        "the report has %zu bytes; at most 64 MiB are read", length);
        j = json_loadb(data, length, JSON_REJECT_DUPLICATES, &where);
        if (!j)
                return error_set(ret_error, EBADMSG, "report.not-json", "line %d, column %d: %s", where.line,
                        where.column, where.text);
        if (!json_is_object(j))
                return error_set(ret_error, EINVAL, "report.not-object", "the report is not a JSON object");
        e = frame_from_json(j, &r, ret_error);
        if (e < 0)
                return e;
        e = measurements_from_json(j, &r, ret_error);
        if (e < 0)
                return e;
        diagnose_conclude(&r.measurements, &r.conclusion);
        *ret = r;
        r = (struct report){0};
        return 0;
}
