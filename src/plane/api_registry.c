/* Whether somebody may do something at the registry of images: nginx asks before it passes a request on
 * (auth_request). An organisation has the namespace of its name; nodes pull, people and programs with an API
 * token pull and, as operators, push. */
#include "plane/api_internal.h"

#include "plane/api_credentials.h"

#include "base/alloc.h"

#include <errno.h>
#include <string.h>

static void ask_for_credentials(struct exchange *x)
{
        api_problem(x, MHD_HTTP_UNAUTHORIZED, "registry.credentials",
                "sign in with any name and an API token as the password (docker login), or show a node's "
                "certificate");
        MHD_del_response_header(x->response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer realm=\"gridplane\"");
        api_reply_header(x, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Basic realm=\"gridplane\"");
}

static void refuse(struct exchange *x, const char *detail)
{
        api_problem(x, MHD_HTTP_FORBIDDEN, "registry.denied", "%s", detail);
}

/* "Basic", as docker sends it, or "Bearer"; the name says nothing. */
static bool by_token(struct exchange *x, const char *header)
{
        char name[CREDENTIAL_MAXIMUM], secret[PASSWORD_MAXIMUM];
        struct error e = {0};
        int r = credentials_basic(header, name, secret);

        if (r == -ENOENT)
                r = credentials_bearer(header, secret);
        if (r == 0)
                r = plane_token_find(x->api->options.store, secret, clock_unix_ms(), &x->actor, &e);
        explicit_bzero(secret, sizeof secret);
        if (r < 0) {
                ask_for_credentials(x);
                return false;
        }
        str_copy(x->organisation, sizeof x->organisation, x->actor.organisation);
        return true;
}

static bool identify(struct exchange *x)
{
        const char *authorization = api_header(x, MHD_HTTP_HEADER_AUTHORIZATION);

        if (x->listener->is_local)
                return true;
        if (authorization)
                return by_token(x, authorization);
        if (str_equal(api_header(x, "X-Client-Verify"), "SUCCESS"))
                return api_identify_node(x);
        ask_for_credentials(x);
        return false;
}

/* A repository is ORGANISATION/IMAGE. */
static bool is_own(struct exchange *x, const char *organisation)
{
        char id[65];

        return plane_org_find(x->api->options.store, organisation, id, NULL) == 0 &&
               str_equal(id, x->organisation);
}

/* A blob may be mounted from another repository: that one must be one's own as well. */
static bool source_is_own(struct exchange *x, const struct uri *u)
{
        const char *from = uri_query(u, "from");
        _cleanup_free_ char *organisation = from ? xstrndup(from, strcspn(from, "/")) : NULL;

        return !from || is_own(x, organisation);
}

static bool may_change(const struct exchange *x)
{
        return x->actor.name[0] && x->actor.role >= ROLE_OPERATOR; /* a node is no actor */
}

static void judge(struct exchange *x, const struct uri *u, const char *method)
{
        bool reads = str_equal(method, "GET") || str_equal(method, "HEAD");

        if (u->segments.count == 0 || !str_equal(u->segments.items[0], "v2"))
                refuse(x, "this is no path of the registry");
        else if (u->segments.count == 1 && reads) /* the question whether there is a registry at all */
                api_reply_empty(x, MHD_HTTP_NO_CONTENT);
        else if (u->segments.count < 4 || !is_own(x, u->segments.items[1]) || !source_is_own(x, u))
                refuse(x, "images are below the organisation's own name");
        else if (!reads && !may_change(x))
                refuse(x, "to change images needs an API token of the role operator");
        else
                api_reply_empty(x, MHD_HTTP_NO_CONTENT);
}

void api_registry_check(struct exchange *x)
{
        const char *target = api_header(x, "X-Original-URI"), *method = api_header(x, "X-Original-Method");
        _cleanup_free_ char *path = xstrdup(target ? target : "");
        struct uri u = {0};
        size_t length = strcspn(path, "?");

        if (!identify(x))
                return;
        /* The registry's own paths may end in a slash. */
        if (length > 1 && path[length - 1] == '/')
                memmove(path + length - 1, path + length, strlen(path + length) + 1);
        if (!method || uri_parse(path, &u, NULL) < 0)
                refuse(x, "this is no path of the registry");
        else
                judge(x, &u, method);
        uri_done(&u);
}
