/* Events and reports: what a node's outbox holds. */
#include "wire/wire_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <errno.h>

#define NAME_MAX_BYTES    128
#define MESSAGE_MAX_BYTES 8192

static const char *const severities[] = {
        [WIRE_INFO] = "INFO", [WIRE_WARNING] = "WARNING", [WIRE_ERROR] = "ERROR"};

const char *wire_severity_to_string(enum wire_severity s)
{
        return severities[s];
}

int wire_severity_from_string(const char *s, enum wire_severity *ret)
{
        for (size_t i = 0; i < ELEMENTS(severities); i++)
                if (str_equal(s, severities[i])) {
                        *ret = (enum wire_severity)i;
                        return 0;
                }
        return -EINVAL;
}

/* ---- events ---- */

void wire_event_done(struct wire_event *e)
{
        free(e->name);
        free(e->message);
        free(e->service);
        json_decref(e->diagnosis);
        json_decref(e->update);
        *e = (struct wire_event){0};
}

json_t *wire_event_to_json(const struct wire_event *e)
{
        json_t *j = wire_new();

        json_object_set_new(j, "epoch", wire_text(e->epoch));
        json_object_set_new(j, "seq", json_integer(e->seq));
        json_object_set_new(j, "generated", json_time(e->generated_unix_ms));
        json_object_set_new(j, "name", wire_text(e->name));
        json_object_set_new(j, "severity", json_string(wire_severity_to_string(e->severity)));
        json_object_set_new(j, "message", wire_text(e->message));
        wire_set_text(j, "service", e->service);
        if (e->diagnosis)
                json_object_set(j, "diagnosis", e->diagnosis);
        if (e->report_seq > 0)
                json_object_set_new(j, "report", json_integer(e->report_seq));
        if (e->update)
                json_object_set(j, "update", e->update);
        return j;
}

static void read_severity(struct json_reader *r, enum wire_severity *ret)
{
        const char *s = json_take_text(r, "severity", NAME_MAX_BYTES);

        if (s && wire_severity_from_string(s, ret) < 0)
                json_reader_fail(r, "severity", "is not INFO, WARNING or ERROR");
}

int wire_event_parse(const void *data, size_t length, struct wire_event *ret, struct error *ret_error)
{
        _cleanup_(wire_event_done) struct wire_event e = {0};
        json_auto_t *object = NULL;
        struct json_reader reader;
        int r = wire_read(data, length, WIRE_EVENT_MAXIMUM, "event", &object, &reader, ret_error);

        if (r < 0)
                return r;
        wire_read_id(&reader, "epoch", e.epoch);
        e.seq = json_take_integer(&reader, "seq", 1, INT64_MAX);
        e.generated_unix_ms = json_take_time(&reader, "generated");
        e.name = wire_read_text(&reader, "name", NAME_MAX_BYTES);
        read_severity(&reader, &e.severity);
        e.message = xstrdup(json_take_text(&reader, "message", MESSAGE_MAX_BYTES));
        e.service = xstrdup(json_take_optional_text(&reader, "service", NAME_MAX_BYTES));
        e.diagnosis = json_incref(json_take_optional_object(&reader, "diagnosis"));
        e.report_seq = json_take_optional_integer(&reader, "report", 0, INT64_MAX, 0);
        e.update = json_incref(json_take_optional_object(&reader, "update"));
        r = json_reader_done(&reader, false);
        if (r < 0)
                return r;
        *ret = e;
        e = (struct wire_event){0};
        return 0;
}

/* ---- reports ---- */

void wire_report_done(struct wire_report *r)
{
        free(r->trigger);
        json_decref(r->report);
        *r = (struct wire_report){0};
}

json_t *wire_report_to_json(const struct wire_report *r)
{
        json_t *j = wire_new();

        json_object_set_new(j, "epoch", wire_text(r->epoch));
        json_object_set_new(j, "seq", json_integer(r->seq));
        json_object_set_new(j, "generated", json_time(r->generated_unix_ms));
        json_object_set_new(j, "trigger", wire_text(r->trigger));
        json_object_set(j, "report", r->report);
        return j;
}

int wire_report_parse(const void *data, size_t length, struct wire_report *ret, struct error *ret_error)
{
        _cleanup_(wire_report_done) struct wire_report report = {0};
        json_auto_t *object = NULL;
        struct json_reader reader;
        int r = wire_read(data, length, WIRE_MESSAGE_MAXIMUM, "report", &object, &reader, ret_error);

        if (r < 0)
                return r;
        wire_read_id(&reader, "epoch", report.epoch);
        report.seq = json_take_integer(&reader, "seq", 1, INT64_MAX);
        report.generated_unix_ms = json_take_time(&reader, "generated");
        report.trigger = wire_read_text(&reader, "trigger", NAME_MAX_BYTES);
        report.report = json_incref(json_take_object(&reader, "report"));
        r = json_reader_done(&reader, false);
        if (r < 0)
                return r;
        *ret = report;
        report = (struct wire_report){0};
        return 0;
}
