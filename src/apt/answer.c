#include "apt/answer.h"

#include "apt/protocol.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define NUMBER_BYTES 24

static const char *tcp_reason(int number)
{
        switch (number) {
        case ECONNREFUSED:
                return "ConnectionRefused";
        case ETIMEDOUT:
                return "ConnectionTimedOut";
        default:
                return "";
        }
}

void answer_reason(const struct transfer_failure *f, char ret[APT_REASON_BYTES])
{
        const char *reason = "";

        if (str_equal(f->stage, "hash"))
                reason = "HashSumMismatch";
        else if (str_equal(f->code, "http.wrong-size") || str_equal(f->code, "http.too-large"))
                reason = "MaximumSizeExceeded";
        else if (f->http_status >= 300) {
                snprintf(ret, APT_REASON_BYTES, "HttpError%d", f->http_status % 1000);
                return;
        } else if (str_equal(f->stage, "dns"))
                reason = f->number == ENOENT ? "ResolveFailure" : "TmpResolveFailure";
        else if (str_equal(f->stage, "tcp") || str_equal(f->stage, "proxy"))
                reason = tcp_reason(f->number);
        else if (f->number == ETIMEDOUT)
                reason = "Timeout";
        str_copy(ret, APT_REASON_BYTES, reason);
}

static const char *number(uint64_t n, char ret[NUMBER_BYTES])
{
        ret[0] = '\0';
        if (n)
                snprintf(ret, NUMBER_BYTES, "%" PRIu64, n);
        return ret;
}

void answer_start(struct text *to, const char *uri, const struct transfer_view *v)
{
        char size[NUMBER_BYTES], resumed[NUMBER_BYTES];

        apt_message_write(to, "200 URI Start", "URI", uri, "Size", number(v->size, size), "Resume-Point",
                number(v->resumed, resumed), NULL);
}

void answer_done(struct text *to, const char *uri, const char *filename, const struct transfer_view *v,
        int64_t last_modified_unix)
{
        char size[NUMBER_BYTES], resumed[NUMBER_BYTES], date[32] = "";

        if (last_modified_unix > 0)
                time_format_http(last_modified_unix, date);
        apt_message_write(to, "201 URI Done", "URI", uri, "Filename", filename, "Size",
                number(v->bytes, size), "Last-Modified", date, "Resume-Point", number(v->resumed, resumed),
                NULL);
}

void answer_unchanged(struct text *to, const char *uri, const char *filename, int64_t last_modified_unix)
{
        char date[32];

        time_format_http(last_modified_unix, date);
        apt_message_write(to, "201 URI Done", "URI", uri, "Filename", filename, "Last-Modified", date,
                "IMS-Hit", "true", NULL);
}

void answer_failure(struct text *to, const char *uri, const struct transfer_failure *f, const char *message)
{
        char reason[APT_REASON_BYTES];

        answer_reason(f, reason);
        apt_message_write(to, "400 URI Failure", "URI", uri, "Message", message ? message : f->text,
                "FailReason", reason, "Transient-Failure", f->is_permanent ? NULL : "true", NULL);
}
