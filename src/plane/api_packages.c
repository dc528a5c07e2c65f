/* The repository of packages: list, add, remove, promote; its keys. */
#include "plane/api_internal.h"

#include "base/alloc.h"

#include <errno.h>
#include <string.h>

#define WORD_MAXIMUM 200

static struct packages *packages_of(struct exchange *x)
{
        if (!x->api->options.packages)
                api_problem(x, MHD_HTTP_SERVICE_UNAVAILABLE, "repository.missing",
                        "this control plane keeps no packages");
        return x->api->options.packages;
}

static bool take_channel(struct exchange *x, const char *name, enum package_channel *ret)
{
        _cleanup_free_ char *shown = name ? str_excerpt(name, strlen(name), 40) : NULL;

        if (name && package_channel_from_string(name, ret) == 0)
                return true;
        api_problem(x, MHD_HTTP_NOT_FOUND, "channel.unknown",
                "there is no channel '%s'; there are stable, testing and security", shown ? shown : "");
        return false;
}

/* What goes wrong on this machine is told in the words of the program that failed: who asks is an operator,
 * and it is his to mend or to pass on. */
static void reply_failure(struct exchange *x, int result, const struct error *e)
{
        switch (-result) {
        case EIO:
        case EINTR:
        case ETIMEDOUT:
        case ENOPKG:
        case ECANCELED:
                api_problem(x,
                        result == -EIO || result == -EINTR ? MHD_HTTP_INTERNAL_SERVER_ERROR
                                                           : MHD_HTTP_SERVICE_UNAVAILABLE,
                        e->code, "%s", e->text);
                if (result != -ECANCELED)
                        log_event(LOG_LEVEL_ERROR, "the repository of packages failed", "code", e->code,
                                "reason", e->text, NULL);
                break;
        default:
                api_problem_error(x, result, e);
        }
}

static void on_done(int result, json_t *answer, const struct error *e, void *userdata)
{
        struct exchange *x = userdata;

        if (result < 0)
                reply_failure(x, result, e);
        else if (str_equal(x->method, "POST") && x->upload)
                api_reply_json(x, MHD_HTTP_CREATED, json_incref(answer));
        else
                api_reply_json(x, MHD_HTTP_OK, json_incref(answer));
        api_resume(x);
}

/* The answer may come within the call: nothing of the exchange is touched after it. */
static void ask(struct exchange *x, struct package_question *q)
{
        struct error e = {0};
        int r;

        q->organisation = x->organisation;
        q->by = &x->actor;
        api_suspend(x);
        r = packages_ask(x->api->options.packages, q, on_done, x, &e);
        if (r < 0) {
                api_problem_error(x, r, &e);
                api_resume(x);
        }
}

void api_packages_list(struct exchange *x)
{
        const char *channel = uri_query(&x->uri, "channel");
        enum package_channel c;
        struct page page;
        struct error e = {0};
        json_t *list = NULL;
        int r;

        if (!api_query_page(x, &page) || (channel && !take_channel(x, channel, &c)))
                return;
        r = plane_package_list(x->api->options.store, x->organisation, channel, uri_query(&x->uri, "package"),
                &page, &list, &e);
        api_reply_result(x, r, list, &e);
}

void api_packages_add(struct exchange *x)
{
        const char *channel = uri_query(&x->uri, "channel");
        struct package_question q = {.task = PACKAGE_ADD};
        char sha256[65];

        if (!take_channel(x, channel ? channel : "stable", &q.channel))
                return;
        q.path = api_upload_take(x, sha256, &q.size_bytes);
        q.sha256 = sha256;
        if (q.path)
                ask(x, &q);
}

/* What goes on to reprepro's formula is of a name's characters. */
static bool is_word(struct exchange *x, const char *what, const char *s, bool (*is)(const char *s))
{
        if (!s || is(s))
                return true;
        api_problem(x, MHD_HTTP_BAD_REQUEST, "package.name", "this is no %s of a package", what);
        return false;
}

void api_packages_remove(struct exchange *x)
{
        struct package_question q = {.task = PACKAGE_REMOVE,
                .name = x->values[1],
                .version = uri_query(&x->uri, "version"),
                .architecture = uri_query(&x->uri, "architecture")};

        if (!packages_of(x) || !take_channel(x, x->values[0], &q.channel) ||
                !is_word(x, "name", q.name, package_is_name) ||
                !is_word(x, "version", q.version, package_is_version) ||
                !is_word(x, "architecture", q.architecture, package_is_architecture))
                return;
        ask(x, &q);
}

void api_packages_promote(struct exchange *x)
{
        struct package_question q = {.task = PACKAGE_PROMOTE};
        json_auto_t *body = NULL;
        const char *from, *to;
        struct json_reader r;
        struct error e = {0};

        if (!packages_of(x) || !api_body(x, &body))
                return;
        json_reader_init(&r, body, "the body", &e);
        from = json_take_text(&r, "from", API_NAME_MAXIMUM);
        to = json_take_text(&r, "to", API_NAME_MAXIMUM);
        q.name = json_take_optional_text(&r, "package", WORD_MAXIMUM);
        if (!api_read_done(x, &r) || !take_channel(x, from, &q.from) || !take_channel(x, to, &q.channel) ||
                !is_word(x, "name", q.name, package_is_name))
                return;
        if (q.from == q.channel || q.from == CHANNEL_SECURITY || q.channel == CHANNEL_SECURITY) {
                api_problem(x, MHD_HTTP_BAD_REQUEST, "channel.same",
                        "packages are promoted between testing and stable; security has only Debian's own");
                return;
        }
        ask(x, &q);
}

void api_packages_keys(struct exchange *x)
{
        struct packages *packages = packages_of(x);
        struct error e = {0};
        json_t *keys = NULL;
        int r;

        if (!packages)
                return;
        r = packages_keys(packages, x->organisation, &keys, &e);
        api_reply_result(x, r, keys, &e);
}

void api_packages_rotate(struct exchange *x)
{
        struct package_question q = {.task = PACKAGE_ROTATE};

        if (packages_of(x))
                ask(x, &q);
}
