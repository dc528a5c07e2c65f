/* What is retained of a node at the broker: its status, the configuration that it applied, and the notice
 * that there is one. */
#include "wire/wire_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#define MAX_SERVICES      64
#define WORD_MAX_BYTES    64
#define ERROR_MAX_BYTES   2048
#define MAX_WARNINGS      64
#define WARNING_MAX_BYTES 1024

/* ---- status ---- */

void wire_status_done(struct wire_status *s)
{
        json_decref(s->services);
        *s = (struct wire_status){0};
}

json_t *wire_status_to_json(const struct wire_status *s)
{
        json_t *j = wire_new();

        json_object_set_new(j, "online", json_boolean(s->online));
        json_object_set_new(j, "since", json_time(s->since_unix_ms));
        wire_set_text(j, "version", s->version);
        wire_set_text(j, "epoch", s->epoch);
        wire_set_text(j, "address", s->address);
        if (s->services)
                json_object_set(j, "services", s->services);
        wire_set_text(j, "reason", s->reason);
        return j;
}

static bool is_word_or_none(const json_t *value)
{
        return !value || json_is_null(value) ||
               (json_is_string(value) && json_string_length(value) <= WORD_MAX_BYTES);
}

static void read_services(struct json_reader *r, json_t **ret)
{
        json_t *services = json_take_optional_object(r, "services"), *service;
        const char *name;

        if (json_object_size(services) > MAX_SERVICES)
                json_reader_fail(r, "services", "has more than %d members", MAX_SERVICES);
        json_object_foreach(services, name, service)
        {
                if (!json_is_string(json_object_get(service, "state")) ||
                        !is_word_or_none(json_object_get(service, "state")) ||
                        !is_word_or_none(json_object_get(service, "cause")))
                        json_reader_fail(
                                r, "services", "has a member without a state, or with what is no cause");
        }
        *ret = json_incref(services);
}

int wire_status_parse(const void *data, size_t length, struct wire_status *ret, struct error *ret_error)
{
        _cleanup_(wire_status_done) struct wire_status s = {0};
        json_auto_t *object = NULL;
        struct json_reader reader;
        struct inet_addr address;
        int r = wire_read(data, length, WIRE_EVENT_MAXIMUM, "status", &object, &reader, ret_error);

        if (r < 0)
                return r;
        s.online = json_take_optional_boolean(&reader, "online", false);
        s.since_unix_ms = json_take_time(&reader, "since");
        wire_read_short(&reader, "version", s.version, sizeof s.version);
        wire_read_short(&reader, "epoch", s.epoch, sizeof s.epoch);
        if (s.epoch[0] && !wire_id_is_valid(s.epoch))
                json_reader_fail(&reader, "epoch", "is not an id");
        wire_read_short(&reader, "address", s.address, sizeof s.address);
        if (s.address[0] && inet_addr_parse(s.address, &address) < 0)
                json_reader_fail(&reader, "address", "is not an address");
        read_services(&reader, &s.services);
        wire_read_short(&reader, "reason", s.reason, sizeof s.reason);
        r = json_reader_done(&reader, false);
        if (r < 0)
                return r;
        *ret = s;
        s = (struct wire_status){0};
        return 0;
}

/* ---- configuration applied ---- */

void wire_applied_done(struct wire_applied *a)
{
        free(a->error);
        strv_done(&a->warnings);
        *a = (struct wire_applied){0};
}

json_t *wire_applied_to_json(const struct wire_applied *a)
{
        json_t *j = wire_new();

        json_object_set_new(j, "version", json_integer(a->version));
        json_object_set_new(j, "state", wire_text(a->state));
        json_object_set_new(j, "at", json_time(a->at_unix_ms));
        wire_set_text(j, "error", a->error);
        if (a->warnings.count > 0)
                json_object_set_new(j, "warnings", wire_strings(&a->warnings));
        return j;
}

static void read_state(struct json_reader *r, char *ret, size_t size_bytes)
{
        static const char *const states[] = {"applied", "failed", "taken-back"};
        const char *s = json_take_text(r, "state", size_bytes - 1);
        bool known = false;

        for (size_t i = 0; i < ELEMENTS(states); i++)
                known = known || str_equal(s, states[i]);
        if (!known)
                json_reader_fail(r, "state", "is not applied, failed or taken-back");
        str_copy(ret, size_bytes, s);
}

int wire_applied_parse(const void *data, size_t length, struct wire_applied *ret, struct error *ret_error)
{
        _cleanup_(wire_applied_done) struct wire_applied a = {0};
        json_auto_t *object = NULL;
        struct json_reader reader;
        int r = wire_read(
                data, length, WIRE_MESSAGE_MAXIMUM, "applied configuration", &object, &reader, ret_error);

        if (r < 0)
                return r;
        a.version = json_take_integer(&reader, "version", 1, INT64_MAX);
        read_state(&reader, a.state, sizeof a.state);
        a.at_unix_ms = json_take_time(&reader, "at");
        a.error = xstrdup(json_take_optional_text(&reader, "error", ERROR_MAX_BYTES));
        wire_read_strings(&reader, "warnings", MAX_WARNINGS, WARNING_MAX_BYTES, &a.warnings);
        r = json_reader_done(&reader, false);
        if (r < 0)
                return r;
        *ret = a;
        a = (struct wire_applied){0};
        return 0;
}

/* ---- notice ---- */

json_t *wire_notice_to_json(int64_t version)
{
        json_t *j = wire_new();

        json_object_set_new(j, "version", json_integer(version));
        return j;
}

int wire_notice_parse(const void *data, size_t length, int64_t *ret_version, struct error *ret_error)
{
        json_auto_t *object = NULL;
        struct json_reader reader;
        int64_t version;
        int r = wire_read(
                data, length, WIRE_EVENT_MAXIMUM, "notice of a configuration", &object, &reader, ret_error);

        if (r < 0)
                return r;
        version = json_take_integer(&reader, "version", 1, INT64_MAX);
        r = json_reader_done(&reader, false);
        if (r == 0)
                *ret_version = version;
        return r;
}
