/* Every payload of wire.h: the first byte chooses the parser. What it takes, its writer writes, and that is
 * taken again. */
#include "fuzz.h"

#include "base/json.h"
#include "wire/wire.h"

#include <stdlib.h>
#include <string.h>

typedef int (*parser)(const char *data, size_t length, json_t **ret);

#define PAYLOAD(name, type)                                                  \
        static int try_##name(const char *data, size_t length, json_t **ret) \
        {                                                                    \
                struct error e;                                              \
                type v;                                                      \
                int r = wire_##name##_parse(data, length, &v, &e);           \
                                                                             \
                if (r < 0)                                                   \
                        return r;                                            \
                *ret = wire_##name##_to_json(&v);                            \
                wire_##name##_done(&v);                                      \
                return 0;                                                    \
        }

PAYLOAD(event, struct wire_event)
PAYLOAD(report, struct wire_report)
PAYLOAD(status, struct wire_status)
PAYLOAD(applied, struct wire_applied)
PAYLOAD(config, struct wire_config)
PAYLOAD(request, struct wire_request)
PAYLOAD(output, struct wire_output)
PAYLOAD(identity, struct wire_identity)

static int try_ack(const char *data, size_t length, json_t **ret)
{
        struct wire_ack a;
        int r = wire_ack_parse(data, length, &a, NULL);

        if (r == 0)
                *ret = wire_ack_to_json(&a);
        return r;
}

static int try_notice(const char *data, size_t length, json_t **ret)
{
        int64_t version;
        int r = wire_notice_parse(data, length, &version, NULL);

        if (r == 0)
                *ret = wire_notice_to_json(version);
        return r;
}

static int try_enrolment(const char *data, size_t length, bool renew, json_t **ret)
{
        struct wire_enrolment e;
        int r = wire_enrolment_parse(data, length, renew, &e, NULL);

        if (r == 0) {
                *ret = wire_enrolment_to_json(&e);
                wire_enrolment_done(&e);
        }
        return r;
}

static int try_registration(const char *data, size_t length, json_t **ret)
{
        return try_enrolment(data, length, false, ret);
}

static int try_renewal(const char *data, size_t length, json_t **ret)
{
        return try_enrolment(data, length, true, ret);
}

/* Any JSON is a report to this one, and what comes out is a part of an event. */
static int try_diagnosis(const char *data, size_t length, json_t **ret)
{
        json_t *report = NULL, *diagnosis;
        int r = json_parse(data, length, WIRE_MESSAGE_MAXIMUM, "report", &report, NULL);

        if (r < 0)
                return r;
        diagnosis = wire_diagnosis(report);
        json_decref(report);
        if (diagnosis && json_dumpb(diagnosis, NULL, 0, JSON_COMPACT) > WIRE_EVENT_MAXIMUM / 2)
                abort();
        *ret = diagnosis ? diagnosis : json_pack("{}");
        return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const parser parsers[] = {try_event, try_report, try_ack, try_status, try_applied, try_notice,
                try_config, try_request, try_output, try_registration, try_renewal, try_identity,
                try_diagnosis};
        parser parse = size ? parsers[(data[0] - (size_t)'a') % (sizeof parsers / sizeof parsers[0])] : NULL;
        json_t *first = NULL, *second = NULL;
        char *text;

        if (!parse || parse((const char *)data + 1, size - 1, &first) < 0)
                return 0;
        text = json_to_text(first);
        /* A text that is written with escapes may be longer than it was, and too long. */
        if (strlen(text) <= WIRE_EVENT_MAXIMUM) {
                if (parse(text, strlen(text), &second) < 0)
                        abort();
                if (parse != try_diagnosis && !json_equal(first, second))
                        abort();
        }
        free(text);
        json_decref(first);
        json_decref(second);
        return 0;
}
