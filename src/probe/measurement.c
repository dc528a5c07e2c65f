#include "probe/measurement.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- enums and their words ---- */

#define ENUM_TEXT(value, text) [value] = text,
#define DEFINE_TO_STRING(function, list, type)                                               \
        static const char *const function##_words[] = {list(ENUM_TEXT)};                     \
        const char *function(enum type v)                                                    \
        {                                                                                    \
                return (unsigned)v < ELEMENTS(function##_words) ? function##_words[v] : "?"; \
        }

DEFINE_TO_STRING(measurement_kind_to_string, MEASUREMENT_KINDS, measurement_kind)
DEFINE_TO_STRING(measurement_outcome_to_string, MEASUREMENT_OUTCOMES, measurement_outcome)
DEFINE_TO_STRING(measurement_status_to_string, MEASUREMENT_STATUSES, measurement_status)
DEFINE_TO_STRING(probe_purpose_to_string, PROBE_PURPOSES, probe_purpose)
DEFINE_TO_STRING(probe_stage_to_string, PROBE_STAGES, probe_stage)
DEFINE_TO_STRING(probe_transport_to_string, PROBE_TRANSPORTS, probe_transport)
DEFINE_TO_STRING(hop_answer_to_string, HOP_ANSWERS, hop_answer)

static const char *const yesno_words[] = {YESNOS(ENUM_TEXT)};
static const char *const service_tls_words[] = {"server", "mutual", "none"};

/* ---- the one table of fields ---- */

enum field_type {
        FIELD_TEXT,    /* char[] */
        FIELD_STRING,  /* char * */
        FIELD_STRINGS, /* struct strv */
        FIELD_INT,
        FIELD_U8,
        FIELD_U16,
        FIELD_U32,
        FIELD_U64,
        FIELD_I64,
        FIELD_BOOL,
        FIELD_DOUBLE,
        FIELD_ADDRESS,
        FIELD_WORD,  /* an enum with words; the zero value is absent */
        FIELD_ERRNO, /* symbolic name */
};

struct field {
        const char *name;
        size_t offset, size;
        enum field_type type;
        const char *const *words;
        size_t word_count;
};

#define MEMBER_SIZE(m) sizeof(((struct measurement *)0)->m)
#define FIELD(json, member, kind)                                                              \
        {                                                                                      \
                json, offsetof(struct measurement, member), MEMBER_SIZE(member), kind, NULL, 0 \
        }
#define WORD(json, member, list)                                                                   \
        {                                                                                          \
                json, offsetof(struct measurement, member), MEMBER_SIZE(member), FIELD_WORD, list, \
                        ELEMENTS(list)                                                             \
        }

static const struct field fields[] = {
        FIELD("service", spec.service, FIELD_TEXT),
        WORD("purpose", spec.purpose, probe_purpose_to_string_words),
        FIELD("attempt", spec.attempt, FIELD_U32),
        FIELD("interface", spec.interface, FIELD_TEXT),
        FIELD("name", spec.name, FIELD_TEXT),
        FIELD("verify_name", spec.verify_name, FIELD_TEXT),
        WORD("transport", spec.transport, probe_transport_to_string_words),
        FIELD("dns_type", spec.dns_type, FIELD_U16),
        FIELD("ttl", spec.ttl, FIELD_U8),
        FIELD("mss", spec.mss, FIELD_U16),
        WORD("tls", spec.tls, service_tls_words),
        FIELD("path", spec.path, FIELD_TEXT),
        FIELD("get", spec.http_get, FIELD_BOOL),
        FIELD("proxy", spec.proxy, FIELD_TEXT),
        FIELD("expect_bytes", spec.expect_bytes, FIELD_U32),
        FIELD("reason", reason, FIELD_STRING),
        WORD("stage", stage, probe_stage_to_string_words),
        FIELD("errno", error_number, FIELD_ERRNO),
        FIELD("error", error_text, FIELD_STRING),
        FIELD("by", by, FIELD_ADDRESS),
        FIELD("icmp_type", icmp_type, FIELD_INT),
        FIELD("icmp_code", icmp_code, FIELD_INT),
        FIELD("ranges", ranges, FIELD_STRINGS),
        FIELD("addresses", addresses, FIELD_STRINGS),
        FIELD("servers", servers, FIELD_STRINGS),
        FIELD("carries", carries, FIELD_STRINGS),
        FIELD("configured_routes", configured_routes, FIELD_STRINGS),
        FIELD("root", root, FIELD_STRING),
        FIELD("payload_path", payload_path, FIELD_STRING),
        FIELD("gateway", gateway, FIELD_ADDRESS),
        FIELD("proxy_from", proxy_from, FIELD_TEXT),
        WORD("has_certificate", has_certificate, yesno_words),
        FIELD("ifindex", ifindex, FIELD_INT),
        WORD("link_up", link_up, yesno_words),
        WORD("carrier", carrier, yesno_words),
        FIELD("operstate", operstate, FIELD_TEXT),
        FIELD("mtu", mtu, FIELD_U32),
        FIELD("mac", mac, FIELD_TEXT),
        WORD("source_is_here", source_is_here, yesno_words),
        WORD("only_link_local", only_link_local, yesno_words),
        FIELD("route_interface", route_interface, FIELD_TEXT),
        FIELD("next_hop", next_hop, FIELD_ADDRESS),
        FIELD("route_prefix", route_prefix, FIELD_TEXT),
        FIELD("route_table", route_table, FIELD_U32),
        FIELD("route_type", route_type, FIELD_TEXT),
        FIELD("route", route_text, FIELD_STRING),
        FIELD("rule", rule_text, FIELD_STRING),
        FIELD("neighbour_state", neighbour_state, FIELD_TEXT),
        FIELD("arp_probes_sent", arp_probes_sent, FIELD_INT),
        FIELD("rcode", rcode, FIELD_INT),
        WORD("answered", answered, yesno_words),
        WORD("truncated", truncated, yesno_words),
        WORD("authoritative", authoritative, yesno_words),
        WORD("recursion_available", recursion_available, yesno_words),
        FIELD("ttl_s", ttl_s, FIELD_U32),
        FIELD("canonical_name", canonical_name, FIELD_STRING),
        FIELD("tries", tries, FIELD_INT),
        FIELD("rtt_ms", rtt_ms, FIELD_DOUBLE),
        FIELD("syns_unanswered", syns_unanswered, FIELD_INT),
        WORD("hop_answer", hop_answer, hop_answer_to_string_words),
        FIELD("local_port", local_port, FIELD_U16),
        WORD("left_host", left_host, yesno_words),
        WORD("reply_seen", reply_seen, yesno_words),
        FIELD("reply_interface", reply_interface, FIELD_TEXT),
        FIELD("reply_ttl", reply_ttl, FIELD_INT),
        FIELD("tls_version", tls_version, FIELD_TEXT),
        FIELD("alpn", alpn, FIELD_TEXT),
        FIELD("alert", alert, FIELD_INT),
        WORD("alert_seen", alert_seen, yesno_words),
        WORD("client_certificate_asked", client_certificate_asked, yesno_words),
        WORD("client_certificate_sent", client_certificate_sent, yesno_words),
        WORD("server_hello_seen", server_hello_seen, yesno_words),
        WORD("hello_acked", hello_acked, yesno_words),
        FIELD("bytes_received", bytes_received, FIELD_U64),
        FIELD("bytes_sent", bytes_sent, FIELD_U64),
        FIELD("segments_retransmitted", segments_retransmitted, FIELD_INT),
        FIELD("segments_out_of_order", segments_out_of_order, FIELD_INT),
        FIELD("chain_pem", chain_pem, FIELD_STRINGS),
        FIELD("chain_subjects", chain_subjects, FIELD_STRINGS),
        FIELD("chain_issuers", chain_issuers, FIELD_STRINGS),
        FIELD("chain_length", chain_length, FIELD_INT),
        WORD("chain_trusted", chain_trusted, yesno_words),
        WORD("chain_name_matches", chain_name_matches, yesno_words),
        WORD("chain_time_valid", chain_time_valid, yesno_words),
        FIELD("not_before_unix", not_before_unix, FIELD_I64),
        FIELD("not_after_unix", not_after_unix, FIELD_I64),
        FIELD("local_unix", local_unix, FIELD_I64),
        FIELD("chain_error", chain_error, FIELD_STRING),
        FIELD("leaf_names", leaf_names, FIELD_STRING),
        FIELD("client_serial", client_serial, FIELD_STRING),
        FIELD("client_not_after_unix", client_not_after_unix, FIELD_I64),
        FIELD("first_bytes", first_bytes, FIELD_STRING),
        FIELD("http_status", http_status, FIELD_INT),
        FIELD("url", http_url, FIELD_STRING),
        FIELD("location", location, FIELD_STRING),
        FIELD("server", server_header, FIELD_STRING),
        FIELD("via", via, FIELD_STRING),
        FIELD("proxy_authenticate", proxy_authenticate, FIELD_STRING),
        FIELD("content_type", content_type, FIELD_STRING),
        FIELD("problem_type", problem_type, FIELD_STRING),
        FIELD("body_excerpt", body_excerpt, FIELD_STRING),
        FIELD("peer_unix", peer_unix, FIELD_I64),
        FIELD("first_byte_ms", first_byte_ms, FIELD_DOUBLE),
        FIELD("body_bytes", body_bytes, FIELD_U64),
        FIELD("bytes_per_s", bytes_per_s, FIELD_DOUBLE),
        FIELD("curl_code", curl_code, FIELD_INT),
        FIELD("proxy_status", proxy_status, FIELD_INT),
};

static void *field_at(const struct measurement *m, const struct field *f)
{
        return (char *)m + f->offset;
}

/* ---- life ---- */

struct measurement *measurement_new(const struct probe_spec *spec)
{
        struct measurement *m = xcalloc(1, sizeof *m);

        m->spec = *spec;
        return m;
}

struct measurement *measurement_free(struct measurement *m)
{
        if (!m)
                return NULL;
        for (size_t i = 0; i < ELEMENTS(fields); i++) {
                if (fields[i].type == FIELD_STRING)
                        free(*(char **)field_at(m, &fields[i]));
                else if (fields[i].type == FIELD_STRINGS)
                        strv_done(field_at(m, &fields[i]));
        }
        free(m);
        return NULL;
}

DEFINE_CLEANUP(struct measurement *, measurement_free);

void measurement_list_take(struct measurement_list *l, struct measurement *m)
{
        if (l->count == l->allocated) {
                l->allocated = l->allocated ? l->allocated * 2 : 64;
                l->items = xrealloc_array(l->items, l->allocated, sizeof *l->items);
        }
        l->items[l->count++] = m;
        m->id = (int)l->count;
        m->status = m->outcome == OUTCOME_NOT_TESTED || m->outcome == OUTCOME_NOT_PERMITTED
                            ? STATUS_NOT_TESTED
                            : STATUS_SCORED;
}

void measurement_list_done(struct measurement_list *l)
{
        for (size_t i = 0; i < l->count; i++)
                measurement_free(l->items[i]);
        free(l->items);
        *l = (struct measurement_list){0};
}

bool probe_spec_equal(const struct probe_spec *a, const struct probe_spec *b)
{
        return a->kind == b->kind && a->purpose == b->purpose && a->attempt == b->attempt &&
               endpoint_equal(&a->target, &b->target) && a->transport == b->transport &&
               a->dns_type == b->dns_type && a->ttl == b->ttl && a->mss == b->mss && a->tls == b->tls &&
               a->http_get == b->http_get && a->expect_bytes == b->expect_bytes &&
               str_equal(a->service, b->service) && str_equal(a->interface, b->interface) &&
               str_equal(a->name, b->name) && str_equal(a->verify_name, b->verify_name) &&
               str_equal(a->path, b->path) && str_equal(a->proxy, b->proxy);
}

static bool kind_has_host_target(enum measurement_kind k)
{
        return k == MEASUREMENT_SERVICE;
}

void probe_spec_target_text(const struct probe_spec *s, char *ret, size_t size_bytes)
{
        char text[INET_ADDR_TEXT];

        if (kind_has_host_target(s->kind))
                snprintf(ret, size_bytes, "%s:%u", s->name, s->target.port);
        else if (inet_addr_is_set(&s->target.address))
                str_copy(ret, size_bytes, endpoint_format(&s->target, text));
        else
                str_copy(ret, size_bytes, s->interface[0] ? s->interface : s->name);
}

/* ---- to JSON ---- */

static json_t *strings_to_json(const struct strv *v)
{
        json_t *a = json_array();

        for (size_t i = 0; i < v->count; i++)
                json_array_append_new(a, json_string(v->items[i]));
        return a;
}

static json_t *number_or_null(json_int_t v)
{
        return v ? json_integer(v) : NULL;
}

static json_t *text_or_null(const char *s)
{
        return str_is_empty(s) ? NULL : json_string(s);
}

/* Milliseconds with three decimals: more is noise and makes reports long. */
static json_t *milliseconds(double v)
{
        double scaled = v * 1000;

        return json_real((double)(int64_t)(scaled < 0 ? scaled - 0.5 : scaled + 0.5) / 1000);
}

/* NULL for a field that is zero. */
static json_t *field_to_json(const struct measurement *m, const struct field *f)
{
        const void *at = field_at(m, f);
        char text[INET_ADDR_TEXT];

        switch (f->type) {
        case FIELD_TEXT:
                return text_or_null(at);
        case FIELD_STRING:
                return text_or_null(*(char *const *)at);
        case FIELD_STRINGS:
                return ((const struct strv *)at)->count ? strings_to_json(at) : NULL;
        case FIELD_INT:
                return number_or_null(*(const int *)at);
        case FIELD_U8:
                return number_or_null(*(const uint8_t *)at);
        case FIELD_U16:
                return number_or_null(*(const uint16_t *)at);
        case FIELD_U32:
                return number_or_null(*(const uint32_t *)at);
        case FIELD_U64:
                return number_or_null((json_int_t) * (const uint64_t *)at);
        case FIELD_I64:
                return number_or_null(*(const int64_t *)at);
        case FIELD_BOOL:
                return *(const bool *)at ? json_true() : NULL;
        case FIELD_DOUBLE:
                return *(const double *)at != 0 ? milliseconds(*(const double *)at) : NULL;
        case FIELD_ADDRESS:
                return text_or_null(inet_addr_format(at, text));
        case FIELD_WORD: {
                unsigned v = *(const unsigned *)at;
                return v && v < f->word_count ? json_string(f->words[v]) : NULL;
        }
        case FIELD_ERRNO: {
                int v = *(const int *)at;
                const char *name = v ? strerrorname_np(v) : NULL;
                return name ? json_string(name) : number_or_null(v);
        }
        }
        return NULL;
}

json_t *measurement_to_json(const struct measurement *m)
{
        json_t *detail = json_object(), *j = json_object();
        char target[320];

        for (size_t i = 0; i < ELEMENTS(fields); i++) {
                json_t *v = field_to_json(m, &fields[i]);

                if (v)
                        json_object_set_new(detail, fields[i].name, v);
        }
        if (m->voided_by)
                json_object_set_new(detail, "voided_by", json_string(m->voided_by));

        probe_spec_target_text(&m->spec, target, sizeof target);
        json_object_set_new(j, "id", json_integer(m->id));
        json_object_set_new(j, "kind", json_string(measurement_kind_to_string(m->spec.kind)));
        json_object_set_new(j, "target", json_string(target));
        json_object_set_new(j, "source", m->source[0] ? json_string(m->source) : json_null());
        json_object_set_new(j, "at_ms", milliseconds(m->at_ms));
        json_object_set_new(j, "took_ms", milliseconds(m->took_ms));
        json_object_set_new(j, "outcome", json_string(measurement_outcome_to_string(m->outcome)));
        json_object_set_new(j, "status", json_string(measurement_status_to_string(m->status)));
        json_object_set_new(j, "detail", detail);
        return j;
}

/* ---- from JSON ---- */

static int word_find(const char *const *words, size_t count, const char *s, unsigned *ret)
{
        for (size_t i = 0; i < count; i++)
                if (str_equal(words[i], s)) {
                        *ret = (unsigned)i;
                        return 0;
                }
        return -EINVAL;
}

static int errno_from_json(const json_t *v, int *ret)
{
        if (json_is_integer(v) && json_integer_value(v) >= 0 && json_integer_value(v) < 4096) {
                *ret = (int)json_integer_value(v);
                return 0;
        }
        for (int i = 1; i < 256 && json_is_string(v); i++)
                if (str_equal(strerrorname_np(i), json_string_value(v))) {
                        *ret = i;
                        return 0;
                }
        return -EINVAL;
}

static int strings_from_json(const json_t *v, struct strv *ret)
{
        size_t i;
        json_t *item;

        if (!json_is_array(v) || json_array_size(v) > MEASUREMENT_MAX_LIST)
                return -EINVAL;
        json_array_foreach(v, i, item)
        {
                if (!json_is_string(item) || json_string_length(item) > MEASUREMENT_MAX_STRING)
                        return -EINVAL;
                strv_add(ret, json_string_value(item));
        }
        return 0;
}

static int integer_from_json(const json_t *v, int64_t minimum, int64_t maximum, int64_t *ret)
{
        if (!json_is_integer(v) || json_integer_value(v) < minimum || json_integer_value(v) > maximum)
                return -EINVAL;
        *ret = json_integer_value(v);
        return 0;
}

/* Bounded so that sums and conversions of stored times cannot overflow. */
static int double_from_json(const json_t *v, double *ret)
{
        double n = json_number_value(v);

        if (!json_is_number(v) || !(n >= -1e12 && n <= 1e12))
                return -EINVAL;
        *ret = n;
        return 0;
}

static int number_field_from_json(const json_t *v, const struct field *f, void *at)
{
        int64_t n;
        int64_t minimum = f->type == FIELD_INT ? INT32_MIN : f->type == FIELD_I64 ? INT64_MIN : 0;
        int64_t maximum = f->type == FIELD_U8    ? UINT8_MAX
                          : f->type == FIELD_U16 ? UINT16_MAX
                          : f->type == FIELD_U32 ? UINT32_MAX
                          : f->type == FIELD_INT ? INT32_MAX
                                                 : INT64_MAX;
        int r = integer_from_json(v, minimum, maximum, &n);

        if (r < 0)
                return r;
        switch (f->size) {
        case 1:
                *(uint8_t *)at = (uint8_t)n;
                break;
        case 2:
                *(uint16_t *)at = (uint16_t)n;
                break;
        case 4:
                *(uint32_t *)at = (uint32_t)n;
                break;
        default:
                *(int64_t *)at = n;
        }
        return 0;
}

static int string_field_from_json(const json_t *v, const struct field *f, void *at)
{
        if (!json_is_string(v) || json_string_length(v) > MEASUREMENT_MAX_STRING)
                return -EINVAL;
        if (f->type == FIELD_STRING) {
                free(*(char **)at);
                *(char **)at = xstrdup(json_string_value(v));
                return 0;
        }
        if (json_string_length(v) >= f->size)
                return -EINVAL;
        str_copy(at, f->size, json_string_value(v));
        return 0;
}

static int field_from_json(const json_t *v, const struct field *f, struct measurement *m)
{
        void *at = field_at(m, f);

        switch (f->type) {
        case FIELD_TEXT:
        case FIELD_STRING:
                return string_field_from_json(v, f, at);
        case FIELD_STRINGS:
                return strings_from_json(v, at);
        case FIELD_INT:
        case FIELD_U8:
        case FIELD_U16:
        case FIELD_U32:
        case FIELD_U64:
        case FIELD_I64:
                return number_field_from_json(v, f, at);
        case FIELD_BOOL:
                *(bool *)at = json_is_true(v);
                return json_is_boolean(v) ? 0 : -EINVAL;
        case FIELD_DOUBLE:
                return double_from_json(v, at);
        case FIELD_ADDRESS:
                return json_is_string(v) ? inet_addr_parse(json_string_value(v), at) : -EINVAL;
        case FIELD_WORD:
                return word_find(f->words, f->word_count, json_string_value(v), at);
        case FIELD_ERRNO:
                return errno_from_json(v, at);
        }
        return -EINVAL;
}

static int target_from_json(const json_t *j, struct measurement *m)
{
        const char *s = json_string_value(json_object_get(j, "target"));
        const char *colon = s ? strrchr(s, ':') : NULL;
        unsigned long port;

        if (!s)
                return -EINVAL;
        if (!kind_has_host_target(m->spec.kind)) {
                endpoint_parse(s, &m->spec.target); /* interfaces and names are in the detail */
                return 0;
        }
        if (!colon || str_to_ulong(colon + 1, 1, 65535, &port) < 0)
                return -EINVAL;
        m->spec.target.port = (uint16_t)port;
        return 0;
}

/* The members around the detail; gives the name of the one that is wrong, or NULL. */
static const char *frame_from_json(const json_t *j, struct measurement *m)
{
        const json_t *source = json_object_get(j, "source");
        unsigned v = 0;

#define WORD_OF(member) json_string_value(json_object_get(j, member))
        if (word_find(measurement_kind_to_string_words, MEASUREMENT_KIND_COUNT, WORD_OF("kind"), &v) < 0)
                return "kind";
        m->spec.kind = v;
        if (word_find(measurement_outcome_to_string_words, ELEMENTS(measurement_outcome_to_string_words),
                    WORD_OF("outcome"), &v) < 0)
                return "outcome";
        m->outcome = v;
#undef WORD_OF
        if (target_from_json(j, m) < 0)
                return "target";
        if (json_is_string(source))
                str_copy(m->source, sizeof m->source, json_string_value(source));
        else if (source && !json_is_null(source))
                return "source";
        if (json_object_get(j, "at_ms") && double_from_json(json_object_get(j, "at_ms"), &m->at_ms) < 0)
                return "at_ms";
        if (json_object_get(j, "took_ms") && double_from_json(json_object_get(j, "took_ms"), &m->took_ms) < 0)
                return "took_ms";
        return NULL;
}

int measurement_from_json(const json_t *j, struct measurement **ret, struct error *ret_error)
{
        _cleanup_(measurement_free_p) struct measurement *m = measurement_new(&(struct probe_spec){0});
        const json_t *detail = json_object_get(j, "detail");
        const char *wrong = frame_from_json(j, m);

        if (wrong)
                return error_set(ret_error, EINVAL, "report.bad-measurement",
                        "a measurement's member \"%s\" is missing or not of its form", wrong);
        for (size_t i = 0; i < ELEMENTS(fields); i++) {
                const json_t *v = json_object_get(detail, fields[i].name);

                if (v && field_from_json(v, &fields[i], m) < 0)
                        return error_set(ret_error, EINVAL, "report.bad-measurement",
                                "a measurement's detail \"%s\" is not of its form", fields[i].name);
        }
        *ret = TAKE_PTR(m);
        return 0;
}
