/* Reading what a request asks for: its body, its parameters. */
#include "plane/api_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_MAXIMUM 500

bool api_body(struct exchange *x, json_t **ret)
{
        struct error e = {0};
        int r = json_parse(
                x->body ? x->body : "", x->body_length, x->route->body_maximum, "the body", ret, &e);

        if (r < 0)
                api_problem(x, r == -EFBIG ? MHD_HTTP_CONTENT_TOO_LARGE : MHD_HTTP_BAD_REQUEST,
                        r == -EFBIG ? "body.large" : "body.malformed", "%s", e.text);
        return r == 0;
}

bool api_read_done(struct exchange *x, struct json_reader *r)
{
        if (json_reader_done(r, true) == 0)
                return true;
        api_problem(x, MHD_HTTP_BAD_REQUEST, "body.malformed", "%s", r->error->text);
        return false;
}

static bool bad_parameter(struct exchange *x, const char *name, const char *what)
{
        api_problem(x, MHD_HTTP_BAD_REQUEST, "query.malformed", "parameter '%s': %s", name, what);
        return false;
}

static int parse_integer(const char *s, int64_t minimum, int64_t maximum, int64_t *ret)
{
        unsigned long value;

        if (str_to_ulong(s, (unsigned long)minimum, (unsigned long)maximum, &value) < 0)
                return -EINVAL;
        *ret = (int64_t)value;
        return 0;
}

bool api_query_integer(struct exchange *x, const char *name, int64_t minimum, int64_t maximum,
        int64_t otherwise, int64_t *ret)
{
        const char *s = uri_query(&x->uri, name);

        if (!s) {
                *ret = otherwise;
                return true;
        }
        if (parse_integer(s, minimum, maximum, ret) == 0)
                return true;
        api_problem(x, MHD_HTTP_BAD_REQUEST, "query.malformed",
                "parameter '%s': not a whole number from %lld to %lld", name, (long long)minimum,
                (long long)maximum);
        return false;
}

bool api_query_page(struct exchange *x, struct page *ret)
{
        int64_t limit;

        if (!api_query_integer(x, "limit", 1, PAGE_MAXIMUM, 0, &limit))
                return false;
        *ret = (struct page){.after = uri_query(&x->uri, "after"), .limit = (int)limit};
        return true;
}

bool api_query_list(struct exchange *x, struct list_filter *filter, struct page *ret)
{
        static const char *const roles[] = {"viewer", "operator", "admin"}, *const verdicts[] = {"healthy",
                                                                                    "degraded", "blocked",
                                                                                    "undetermined"};
        int chosen;

        *filter = (struct list_filter){.name = uri_query(&x->uri, "name"),
                .role = uri_query(&x->uri, "role"),
                .actor = uri_query(&x->uri, "actor"),
                .action = uri_query(&x->uri, "action"),
                .object = uri_query(&x->uri, "object"),
                .verdict = uri_query(&x->uri, "verdict")};
        if (!api_query_choice(x, "role", roles, ELEMENTS(roles), -1, &chosen) ||
                !api_query_choice(x, "verdict", verdicts, ELEMENTS(verdicts), -1, &chosen) ||
                !api_query_time(x, "since", &filter->since) || !api_query_time(x, "until", &filter->until) ||
                !api_query_page(x, ret))
                return false;
        ret->only = filter;
        return true;
}

bool api_query_choice(struct exchange *x, const char *name, const char *const *choices, size_t count,
        int otherwise, int *ret)
{
        const char *s = uri_query(&x->uri, name);

        *ret = otherwise;
        if (!s)
                return true;
        for (size_t i = 0; i < count; i++)
                if (str_equal(s, choices[i])) {
                        *ret = (int)i;
                        return true;
                }
        return bad_parameter(x, name, "none of the values that it may have");
}

bool api_query_time(struct exchange *x, const char *name, int64_t *ret)
{
        const char *s = uri_query(&x->uri, name);

        *ret = 0;
        if (!s || time_parse_utc(s, ret) == 0)
                return true;
        return bad_parameter(x, name, "not a time as 2026-11-21T03:00:00.000Z");
}

int api_entity_tag_parse(const char *s, int64_t *ret_version)
{
        size_t length = strlen(s);
        char digits[20];

        if (length < 3 || length - 2 >= sizeof digits || s[0] != '"' || s[length - 1] != '"')
                return -EINVAL;
        memcpy(digits, s + 1, length - 2);
        digits[length - 2] = '\0';
        return parse_integer(digits, 0, INT64_MAX, ret_version);
}
