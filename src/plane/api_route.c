/* The API as one table. docs/openapi.yaml describes the same, and the tests hold one against the other. */
#include "plane/api_internal.h"

#include <string.h>

#define PAGE "after limit"

const struct route api_routes[] = {
        {"GET", "/api/v1/health", ACCESS_OPTIONAL, NULL, 0, api_health},
        {"GET", "/api/v1/openapi.yaml", ACCESS_PUBLIC, NULL, 0, api_description},
        {"GET", "/metrics", ACCESS_VIEWER, NULL, 0, api_metrics},
        {"POST", "/api/v1/session", ACCESS_PUBLIC, NULL, BODY_MAXIMUM, api_session_open},
        {"GET", "/api/v1/session", ACCESS_VIEWER, NULL, 0, api_session_show},
        {"DELETE", "/api/v1/session", ACCESS_VIEWER, NULL, 0, api_session_close},
        {"GET", "/api/v1/users", ACCESS_ADMIN, "name role " PAGE, 0, api_users_list},
        {"POST", "/api/v1/users", ACCESS_ADMIN, NULL, BODY_MAXIMUM, api_users_add},
        {"PATCH", "/api/v1/users/*", ACCESS_ADMIN, NULL, BODY_MAXIMUM, api_users_update},
        {"DELETE", "/api/v1/users/*", ACCESS_ADMIN, NULL, 0, api_users_remove},
        {"GET", "/api/v1/tokens", ACCESS_ADMIN, "name role " PAGE, 0, api_tokens_list},
        {"POST", "/api/v1/tokens", ACCESS_ADMIN, NULL, BODY_MAXIMUM, api_tokens_add},
        {"DELETE", "/api/v1/tokens/*", ACCESS_ADMIN, NULL, 0, api_tokens_remove},
        {"GET", "/api/v1/organisations", ACCESS_ADMIN, "name " PAGE, 0, api_organisations_list},
        {"POST", "/api/v1/organisations", ACCESS_MACHINE, NULL, BODY_MAXIMUM, api_organisations_add},
        {"GET", "/api/v1/audit", ACCESS_ADMIN, "actor action object since until " PAGE, 0, api_audit_list},
        {"GET", "/api/v1/nodes", ACCESS_VIEWER, "name site state connected cause tag " PAGE, 0,
                api_nodes_list},
        {"POST", "/api/v1/nodes", ACCESS_OPERATOR, NULL, BODY_MAXIMUM, api_nodes_create},
        {"GET", "/api/v1/nodes/*", ACCESS_VIEWER, NULL, 0, api_nodes_show},
        {"DELETE", "/api/v1/nodes/*", ACCESS_OPERATOR, NULL, 0, api_nodes_remove},
        {"POST", "/api/v1/nodes/*/token", ACCESS_OPERATOR, NULL, 0, api_nodes_token},
        {"GET", "/api/v1/nodes/*/config", ACCESS_VIEWER, "version", 0, api_nodes_config_get},
        {"PUT", "/api/v1/nodes/*/config", ACCESS_OPERATOR, NULL, BODY_CONFIG_MAXIMUM, api_nodes_config_put},
        {"PATCH", "/api/v1/nodes/*/tags", ACCESS_OPERATOR, NULL, BODY_MAXIMUM, api_nodes_tags},
        {"GET", "/api/v1/nodes/*/updates", ACCESS_VIEWER, "status since " PAGE, 0, api_nodes_updates},
        {"GET", "/api/v1/updates", ACCESS_VIEWER, "node status since " PAGE, 0, api_updates_list},
        {"GET", "/api/v1/updates/*", ACCESS_VIEWER, NULL, 0, api_updates_show},
        {"GET", "/api/v1/upgrades", ACCESS_VIEWER, "state " PAGE, 0, api_upgrades_list},
        {"POST", "/api/v1/upgrades", ACCESS_OPERATOR, NULL, BODY_MAXIMUM, api_upgrades_create},
        {"GET", "/api/v1/upgrades/*", ACCESS_VIEWER, NULL, 0, api_upgrades_show},
        {"GET", "/api/v1/upgrades/*/dry-run", ACCESS_VIEWER, NULL, 0, api_upgrades_preview},
        {"GET", "/api/v1/upgrades/*/nodes", ACCESS_VIEWER, "state wave " PAGE, 0, api_upgrades_nodes},
        {"GET", "/api/v1/upgrades/*/timeline", ACCESS_VIEWER, PAGE, 0, api_upgrades_timeline},
        {"POST", "/api/v1/upgrades/*/start", ACCESS_OPERATOR, NULL, 0, api_upgrades_start},
        {"POST", "/api/v1/upgrades/*/pause", ACCESS_OPERATOR, NULL, 0, api_upgrades_pause},
        {"POST", "/api/v1/upgrades/*/resume", ACCESS_OPERATOR, NULL, 0, api_upgrades_resume},
        {"POST", "/api/v1/upgrades/*/cancel", ACCESS_OPERATOR, NULL, 0, api_upgrades_cancel},
        {"POST", "/api/v1/upgrades/*/retry", ACCESS_OPERATOR, NULL, 0, api_upgrades_retry},
        {"POST", "/api/v1/nodes/*/requests", ACCESS_OPERATOR, NULL, BODY_CONFIG_MAXIMUM, api_requests_start},
        {"GET", "/api/v1/requests/*", ACCESS_VIEWER, "first", 0, api_requests_show},
        {"DELETE", "/api/v1/requests/*", ACCESS_OPERATOR, NULL, 0, api_requests_cancel},
        {"GET", "/api/v1/requests/*/stream", ACCESS_VIEWER, "first", 0, api_stream_request},
        {"GET", "/api/v1/events", ACCESS_VIEWER, "node name cause severity since until " PAGE, 0,
                api_events_list},
        {"GET", "/api/v1/events/stream", ACCESS_VIEWER, NULL, 0, api_stream_events},
        {"GET", "/api/v1/reports", ACCESS_VIEWER, "node verdict since until " PAGE, 0, api_reports_list},
        {"GET", "/api/v1/reports/*", ACCESS_VIEWER, NULL, 0, api_reports_show},
        {"GET", "/api/v1/incidents", ACCESS_VIEWER, "open since until " PAGE, 0, api_incidents_list},
        {"GET", "/api/v1/packages", ACCESS_VIEWER, "channel package " PAGE, 0, api_packages_list},
        {"POST", "/api/v1/packages", ACCESS_OPERATOR, "channel", PACKAGES_MAXIMUM_BYTES, api_packages_add,
                &api_upload_sink},
        {"DELETE", "/api/v1/packages/*/*", ACCESS_OPERATOR, "version architecture", 0, api_packages_remove},
        {"POST", "/api/v1/packages/promote", ACCESS_OPERATOR, NULL, BODY_MAXIMUM, api_packages_promote},
        {"GET", "/api/v1/packages/key", ACCESS_VIEWER, NULL, 0, api_packages_keys},
        {"POST", "/api/v1/packages/key/rotate", ACCESS_ADMIN, NULL, 0, api_packages_rotate},
        {"POST", "/api/v1/node/register", ACCESS_PUBLIC, NULL, BODY_MAXIMUM, api_node_register},
        {"POST", "/api/v1/node/renew", ACCESS_PUBLIC, NULL, BODY_MAXIMUM, api_node_renew},
        {"GET", "/api/v1/node/config", ACCESS_NODE, NULL, 0, api_node_config},
        {"GET", "/internal/registry", ACCESS_PUBLIC, NULL, 0, api_registry_check},
};
const size_t api_route_count = ELEMENTS(api_routes);

/* Whether the segments of the request are those of the row; fills the values of "*". */
static bool matches(const struct uri *u, const char *path, const char *values[2])
{
        size_t count = 0;

        for (size_t i = 0; i < u->segments.count; i++) {
                const char *segment = u->segments.items[i];
                size_t length;

                if (*path != '/')
                        return false;
                path++;
                length = strcspn(path, "/");
                if (length == 1 && *path == '*')
                        values[count++] = segment;
                else if (strlen(segment) != length || memcmp(segment, path, length) != 0)
                        return false;
                path += length;
        }
        return *path == '\0' && u->segments.count > 0;
}

static void allow(struct text *methods, const char *method)
{
        text_addf(methods, "%s%s", methods->length ? ", " : "", method);
        if (str_equal(method, "GET"))
                text_add(methods, ", HEAD");
}

const struct route *api_route_find(struct exchange *x)
{
        const char *method = x->is_head ? "GET" : x->method, *values[2] = {0};
        struct text methods = {0};

        for (size_t i = 0; i < api_route_count; i++) {
                if (!matches(&x->uri, api_routes[i].path, values))
                        continue;
                if (str_equal(api_routes[i].method, method)) {
                        memcpy(x->values, values, sizeof values);
                        text_done(&methods);
                        return &api_routes[i];
                }
                allow(&methods, api_routes[i].method);
        }
        if (!methods.length)
                api_problem(x, MHD_HTTP_NOT_FOUND, "path.unknown", "there is nothing at this path");
        else {
                if (str_equal(method, "OPTIONS"))
                        api_reply_empty(x, MHD_HTTP_NO_CONTENT);
                else
                        api_problem(x, MHD_HTTP_METHOD_NOT_ALLOWED, "method.unknown", "this path takes %s",
                                text_string(&methods));
                text_add(&methods, ", OPTIONS");
                api_reply_header(x, MHD_HTTP_HEADER_ALLOW, text_string(&methods));
        }
        text_done(&methods);
        return NULL;
}
