/* Nodes and their configurations, as operators see them. */
#include "plane/api_internal.h"

#include "base/alloc.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

bool api_path_node(struct exchange *x, struct plane_node *ret)
{
        struct error e = {0};
        int r = plane_node_find(x->api->options.store, x->organisation, x->values[0], ret, &e);

        if (r == -ENOENT || r == -EINVAL)
                api_problem(x, MHD_HTTP_NOT_FOUND, "node.unknown", "there is no node '%s'", x->values[0]);
        else if (r < 0)
                api_problem_error(x, r, &e);
        return r == 0;
}

void api_node_changed(struct api *a, const char *organisation, const char *node)
{
        json_auto_t *value = NULL;

        if (plane_node_show(a->options.store, organisation, node, &value, NULL) < 0)
                value = json_pack("{s:s, s:s}", "id", node, "state", "removed");
        api_changed(a, organisation, "node", value);
}

/* "key", or "key=value"; the key is written into `key`. False after replying. */
static bool query_tag(struct exchange *x, char key[API_NAME_MAXIMUM + 1], struct node_filter *f)
{
        const char *tag = uri_query(&x->uri, "tag"), *equals = tag ? strchr(tag, '=') : NULL;
        size_t length = equals ? (size_t)(equals - tag) : tag ? strlen(tag) : 0;

        if (!tag)
                return true;
        if (length == 0 || length > API_NAME_MAXIMUM) {
                api_problem(x, MHD_HTTP_BAD_REQUEST, "query.malformed",
                        "parameter 'tag': not a tag as ring, or ring=canary");
                return false;
        }
        str_copy(key, length + 1, tag);
        f->tag = key;
        f->tag_value = equals ? equals + 1 : NULL;
        return true;
}

void api_nodes_list(struct exchange *x)
{
        char key[API_NAME_MAXIMUM + 1];
        static const char *const states[] = {"new", "registered", "removed"}, *const truths[] = {
                                                                                      "false", "true"};
        struct node_filter f = {.name = uri_query(&x->uri, "name"),
                .site = uri_query(&x->uri, "site"),
                .state = uri_query(&x->uri, "state"),
                .cause = uri_query(&x->uri, "cause")};
        struct error e = {0};
        json_t *list = NULL;
        struct page page;
        int state, r;

        if (!api_query_choice(x, "state", states, ELEMENTS(states), -1, &state) ||
                !api_query_choice(x, "connected", truths, ELEMENTS(truths), -1, &f.connected) ||
                !query_tag(x, key, &f) || !api_query_page(x, &page))
                return;
        r = plane_node_list(x->api->options.store, x->organisation, &f, &page, &list, &e);
        api_reply_result(x, r, list, &e);
}

/* A location below this host, without one: which of its names the client used is the client's. */
static void set_location(struct exchange *x, const char *folder, const char *id)
{
        char location[160];

        snprintf(location, sizeof location, "/api/v1/%s/%s", folder, id);
        api_reply_header(x, MHD_HTTP_HEADER_LOCATION, location);
}

static void reply_token(struct exchange *x, unsigned status, const char *id, const char *name, char token[64],
        int64_t expires)
{
        _cleanup_free_ char *url = xasprintf("https://%s", x->api->options.settings->repo_host);
        char fingerprint[65];

        ca_root_fingerprint(x->api->options.ca, fingerprint);
        api_reply_json(x, status,
                json_pack("{s:s, s:s, s:s, s:o, s:s, s:s}", "id", id, "name", name, "token", token, "expires",
                        json_time(expires), "url", url, "root_fingerprint", fingerprint));
        set_location(x, "nodes", id);
        explicit_bzero(token, 64);
}

void api_nodes_create(struct exchange *x)
{
        json_auto_t *body = NULL;
        const char *name, *site;
        char id[65], token[64];
        struct json_reader r;
        struct error e = {0};
        int64_t expires;
        int rc;

        if (!api_body(x, &body))
                return;
        json_reader_init(&r, body, "the body", &e);
        name = json_take_text(&r, "name", API_NAME_MAXIMUM);
        site = json_take_optional_text(&r, "site", API_NAME_MAXIMUM);
        if (!api_read_done(x, &r))
                return;
        rc = plane_node_create(x->api->options.store, &x->actor, x->organisation, name, site ? site : "",
                clock_unix_ms(), id, token, &expires, &e);
        if (rc < 0) {
                api_problem_error(x, rc, &e);
                return;
        }
        reply_token(x, MHD_HTTP_CREATED, id, name, token, expires);
        api_node_changed(x->api, x->organisation, id);
}

void api_nodes_show(struct exchange *x)
{
        struct plane_node node;
        struct error e = {0};
        json_t *value = NULL;
        int r;

        if (!api_path_node(x, &node))
                return;
        r = plane_node_show(x->api->options.store, x->organisation, node.id, &value, &e);
        api_reply_result(x, r, value, &e);
}

void api_nodes_remove(struct exchange *x)
{
        const struct api_options *o = &x->api->options;
        struct plane_node node;
        struct error e = {0};
        int r;

        if (!api_path_node(x, &node))
                return;
        r = plane_node_remove(o->store, &x->actor, x->organisation, node.id, clock_unix_ms(), &e);
        if (r < 0) {
                api_problem_error(x, r, &e);
                return;
        }
        /* The list of the revoked first: a connection that is ended is tried again at once. */
        if (o->on_revoked)
                o->on_revoked(o->userdata);
        requests_node_gone(o->requests, node.id);
        broker_expel(o->broker, x->organisation, node.id);
        api_reply_empty(x, MHD_HTTP_NO_CONTENT);
        api_node_changed(x->api, x->organisation, node.id);
}

void api_nodes_token(struct exchange *x)
{
        struct plane_node node;
        struct error e = {0};
        char token[64];
        int64_t expires;
        int r;

        if (!api_path_node(x, &node))
                return;
        r = plane_node_new_token(x->api->options.store, &x->actor, x->organisation, node.id, clock_unix_ms(),
                token, &expires, &e);
        if (r < 0) {
                api_problem_error(x, r, &e);
                return;
        }
        reply_token(x, MHD_HTTP_CREATED, node.id, node.name, token, expires);
        api_node_changed(x->api, x->organisation, node.id);
}

/* ---- configurations ---- */

static void set_entity_tag(struct exchange *x, int64_t version)
{
        char tag[32];

        snprintf(tag, sizeof tag, "\"%lld\"", (long long)version);
        api_reply_header(x, MHD_HTTP_HEADER_ETAG, tag);
}

void api_nodes_config_get(struct exchange *x)
{
        struct plane_node node;
        struct error e = {0};
        json_t *value = NULL;
        int64_t version;
        int r;

        if (!api_query_integer(x, "version", 1, INT64_MAX, 0, &version) || !api_path_node(x, &node))
                return;
        r = plane_config_get(x->api->options.store, x->organisation, node.id, version, &value, &e);
        version = json_integer_value(json_object_get(value, "version"));
        api_reply_result(x, r, value, &e);
        if (r == 0)
                set_entity_tag(x, version);
}

/* Which version this is to replace; < 0: any. False after replying. */
static bool take_if_match(struct exchange *x, int64_t *ret)
{
        const char *match = api_header(x, MHD_HTTP_HEADER_IF_MATCH);

        *ret = -1;
        if (!match || str_equal(match, "*") || api_entity_tag_parse(match, ret) == 0)
                return true;
        api_problem(x, MHD_HTTP_BAD_REQUEST, "header.malformed",
                "If-Match is not the ETag of a configuration, such as \"7\"");
        return false;
}

/* The version is the plane's to give, whatever the body says of it. */
static int parse_config(json_t *body, struct wire_config *ret, struct error *e)
{
        _cleanup_free_ char *text = NULL;

        json_object_set_new(body, "version", json_integer(1));
        if (!json_object_get(body, "schema"))
                json_object_set_new(body, "schema", json_integer(1));
        text = json_to_text(body);
        return wire_config_parse(text, strlen(text), ret, e);
}

static void put_config(
        struct exchange *x, const struct plane_node *node, const struct wire_config *config, int64_t expected)
{
        const struct api_options *o = &x->api->options;
        struct error e = {0};
        int64_t version;
        int r = plane_config_put(o->store, &x->actor, x->organisation, node->id, config, expected,
                clock_unix_ms(), &version, &e);

        if (r == -ESTALE)
                api_problem(x, MHD_HTTP_PRECONDITION_FAILED, "config.changed",
                        "somebody changed it since you read it; read it again, and change that");
        else if (r < 0)
                api_problem_error(x, r, &e);
        else {
                api_reply_json(x, MHD_HTTP_OK, json_pack("{s:I}", "version", (json_int_t)version));
                set_entity_tag(x, version);
                broker_notice(o->broker, node->id, version); /* without a broker now: sent when it is back */
                api_node_changed(x->api, x->organisation, node->id);
        }
}

void api_nodes_config_put(struct exchange *x)
{
        json_auto_t *body = NULL;
        struct wire_config config;
        struct plane_node node;
        struct error e = {0};
        int64_t expected;

        if (!api_path_node(x, &node) || !take_if_match(x, &expected) || !api_body(x, &body))
                return;
        if (parse_config(body, &config, &e) < 0) {
                api_problem(x, MHD_HTTP_BAD_REQUEST, e.code ? e.code : "config.malformed", "%s", e.text);
                return;
        }
        put_config(x, &node, &config, expected);
        wire_config_done(&config);
}
