/* How the plane is: for programs that watch it, and for people. Metrics are Prometheus' text format 0.0.4. */
#include "plane/api_internal.h"

#include "base/alloc.h"
#include "base/db.h"
#include "base/version.h"
#include "openapi_text.h"

#include <inttypes.h>
#include <string.h>

/* ---- health ---- */

static bool database_is_well(struct exchange *x, json_t *parts)
{
        int64_t count = -1;
        bool well = db_query_integer(plane_store_db(x->api->options.store), NULL, -1, &count,
                            "SELECT count(*) FROM organisations", "") == 0 &&
                    count > 0;

        json_array_append_new(
                parts, json_pack("{s:s, s:s}", "name", "database", "state", well ? "running" : "failed"));
        return well;
}

static bool services_are_well(struct exchange *x, json_t *parts)
{
        struct services *s = x->api->options.services;
        struct broker_counts counts;

        for (size_t i = 0; i < services_count(s); i++) {
                struct service_view v;

                services_view(s, i, &v);
                json_array_append_new(parts, json_pack("{s:s, s:s}", "name", v.name, "state", v.state));
        }
        broker_counts(x->api->options.broker, &counts);
        json_array_append_new(parts,
                json_pack("{s:s, s:s}", "name", "broker", "state", counts.connected ? "running" : "waiting"));
        return services_are_ready(s) && counts.connected;
}

void api_health(struct exchange *x)
{
        json_t *parts = json_array(), *health;
        bool database = database_is_well(x, parts), services = services_are_well(x, parts);

        health = json_pack("{s:s}", "status", !database ? "failed" : services ? "ok" : "degraded");
        if (x->actor.name[0]) { /* the particulars are for who is somebody here */
                json_object_set(health, "parts", parts);
                json_object_set_new(health, "version", json_string(GRIDNODE_VERSION));
        }
        json_decref(parts);
        api_reply_json(x, database ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, health);
}

void api_description(struct exchange *x)
{
        api_reply_text(x, MHD_HTTP_OK, "application/yaml", xstrdup(openapi_text));
}

/* ---- metrics ---- */

static void head(struct text *t, const char *name, const char *type, const char *help)
{
        text_addf(t, "# HELP gridplane_%s %s\n# TYPE gridplane_%s %s\n", name, help, name, type);
}

static void add(struct text *t, const char *name, const char *type, const char *help, uint64_t value)
{
        head(t, name, type, help);
        text_addf(t, "gridplane_%s %" PRIu64 "\n", name, value);
}

/* Names of organisations and states have nothing that would need an escape (store_check_name). */
static int on_node_count(sqlite3_stmt *row, void *userdata)
{
        text_addf(userdata,
                "gridplane_nodes{organisation=\"%s\",state=\"%s\",connected=\"%s\"} %" PRId64 "\n",
                db_text(row, 0), db_text(row, 1), db_integer(row, 2) ? "yes" : "no", db_integer(row, 3));
        return 0;
}

static int add_nodes(struct exchange *x, struct text *t, struct error *e)
{
        static const char sql[] = "SELECT o.name, n.state, n.connected, count(*) FROM nodes n"
                                  " JOIN organisations o ON o.id = n.organisation WHERE ?1 = '' OR o.id = ?1"
                                  " GROUP BY o.name, n.state, n.connected ORDER BY 1, 2, 3";

        head(t, "nodes", "gauge", "Nodes, by state and connection.");
        return db_query(plane_store_db(x->api->options.store), e, on_node_count, t, sql, "s",
                x->listener->is_local ? "" : x->organisation);
}

static int on_upgrade_count(sqlite3_stmt *row, void *userdata)
{
        text_addf(userdata,
                "gridplane_upgrade_nodes{organisation=\"%s\",upgrade=\"%s\",state=\"%s\"} %" PRId64 "\n",
                db_text(row, 0), db_text(row, 1), db_text(row, 2), db_integer(row, 3));
        return 0;
}

/* Of those under way: those that are over would be series without an end. */
static int add_upgrades(struct exchange *x, struct text *t, struct error *e)
{
        static const char sql[] =
                "SELECT o.name, u.name, m.state, count(*) FROM upgrades u INDEXED BY upgrades_watched"
                " CROSS JOIN organisations o ON o.id = u.organisation"
                " CROSS JOIN upgrade_nodes m ON m.upgrade = u.id"
                " WHERE u.watched = 1 AND (?1 = '' OR o.id = ?1) GROUP BY u.id, m.state ORDER BY 1, 2, 3";

        head(t, "upgrade_nodes", "gauge", "Nodes of the upgrades that are under way, by state.");
        return db_query(plane_store_db(x->api->options.store), e, on_upgrade_count, t, sql, "s",
                x->listener->is_local ? "" : x->organisation);
}

static void add_upgrade_steps(struct exchange *x, struct text *t)
{
        struct upgrades_counts c = {0};

        if (x->api->options.upgrades)
                upgrades_counts(x->api->options.upgrades, &c);
        add(t, "upgrade_requests_total", "counter", "How often upgrades asked a node to update itself.",
                c.asked);
        add(t, "upgrade_requests_waiting", "gauge", "Those whose answer is not taken in yet.", c.asking);
        add(t, "upgrade_steps_failed_total", "counter",
                "Steps of upgrades that could not be stored, and are made again.", c.failed);
}

static int on_package_count(sqlite3_stmt *row, void *userdata)
{
        text_addf(userdata, "gridplane_packages{organisation=\"%s\",channel=\"%s\"} %" PRId64 "\n",
                db_text(row, 0), db_text(row, 1), db_integer(row, 2));
        return 0;
}

struct signed_times {
        const struct plane_settings *settings;
        struct text *text;
};

static int on_repository(sqlite3_stmt *row, void *userdata)
{
        const struct signed_times *s = userdata;

        for (int i = 0; i < CHANNEL_COUNT; i++) {
                enum package_channel c = (enum package_channel)i;

                text_addf(s->text,
                        "gridplane_repository_signed_timestamp_seconds{organisation=\"%s\",channel=\"%s\"} "
                        "%" PRId64 "\n",
                        db_text(row, 1), package_channel_to_string(c),
                        packages_signed_unix(s->settings, db_text(row, 0), c));
        }
        return 0;
}

static int add_packages(struct exchange *x, struct text *t, struct error *e)
{
        static const char count[] =
                "SELECT o.name, p.channel, count(*) FROM packages p"
                " JOIN organisations o ON o.id = p.organisation WHERE ?1 = '' OR o.id = ?1"
                " GROUP BY o.name, p.channel ORDER BY 1, 2";
        static const char all[] = "SELECT id, name FROM organisations WHERE ?1 = '' OR id = ?1 ORDER BY name";
        struct signed_times s = {x->api->options.settings, t};
        const char *organisation = x->listener->is_local ? "" : x->organisation;
        int r;

        if (!x->api->options.packages)
                return 0;
        head(t, "packages", "gauge", "Packages of the repository, one for each architecture.");
        r = db_query(plane_store_db(x->api->options.store), e, on_package_count, t, count, "s", organisation);
        if (r < 0)
                return r;
        head(t, "repository_signed_timestamp_seconds", "gauge",
                "When the repository was signed, in Unix time; it is valid for 7 days. 0: never.");
        return db_query(plane_store_db(x->api->options.store), e, on_repository, &s, all, "s", organisation);
}

static void add_repository_jobs(struct exchange *x, struct text *t)
{
        struct packages_counts c;

        if (!x->api->options.packages)
                return;
        packages_counts(x->api->options.packages, &c);
        head(t, "repository_jobs_total", "counter", "Changes of repositories, by how they ended.");
        text_addf(t,
                "gridplane_repository_jobs_total{result=\"done\"} %" PRIu64
                "\ngridplane_repository_jobs_total{result=\"failed\"} %" PRIu64 "\n",
                c.done, c.failed);
        add(t, "repository_jobs_waiting", "gauge", "Changes of repositories that wait or are under way.",
                c.waiting);
}

static void add_broker(struct exchange *x, struct text *t)
{
        struct broker_counts c;

        broker_counts(x->api->options.broker, &c);
        add(t, "broker_connected", "gauge", "Whether the plane's own client is connected to the broker.",
                c.connected);
        add(t, "broker_connection_changed_timestamp_seconds", "gauge",
                "Since when broker_connected is what it is, in Unix time.",
                (uint64_t)c.connected_since_unix_ms / 1000);
        add(t, "messages_total", "counter", "Messages of nodes.", c.messages);
        add(t, "messages_refused_total", "counter", "Messages of nodes that were wrong.", c.refused);
        add(t, "messages_denied_total", "counter",
                "Messages that the broker refused: the node may not publish to that topic.",
                services_denied(x->api->options.services));
        add(t, "events_stored_total", "counter", "Events of nodes that were stored.", c.events);
        add(t, "events_duplicate_total", "counter", "Events that were stored before, and came again.",
                c.duplicates);
        add(t, "reports_stored_total", "counter", "Diagnoses of nodes that were stored.", c.reports);
}

static void add_services(struct exchange *x, struct text *t)
{
        struct services *s = x->api->options.services;
        struct service_view v;

        head(t, "service_up", "gauge", "Whether a service runs; 1 for an outside one.");
        for (size_t i = 0; i < services_count(s); i++) {
                services_view(s, i, &v);
                text_addf(t, "gridplane_service_up{service=\"%s\"} %d\n", v.name,
                        str_equal(v.state, "running") || str_equal(v.state, "external"));
        }
        head(t, "service_restarts_total", "counter", "How often a service was started again.");
        for (size_t i = 0; i < services_count(s); i++) {
                services_view(s, i, &v);
                text_addf(t, "gridplane_service_restarts_total{service=\"%s\"} %u\n", v.name, v.restarts);
        }
}

static void add_replies(struct exchange *x, struct text *t)
{
        head(t, "http_replies_total", "counter", "Replies of the API, by class of their status.");
        for (int class = 2; class <= 5; class ++)
                text_addf(t, "gridplane_http_replies_total{class=\"%dxx\"} %" PRIu64 "\n", class,
                        x->api->replies[class]);
}

static int add_sessions(struct exchange *x, struct text *t, struct error *e)
{
        int64_t now = clock_unix_ms(), count = 0;
        int r = db_query_integer(plane_store_db(x->api->options.store), e, 0, &count,
                "SELECT count(*) FROM sessions WHERE created > ? AND used > ?", "ii", now - INT64_C(43200000),
                now - INT64_C(3600000));

        if (r == 0)
                add(t, "sessions", "gauge", "Sessions of people that are in force.", (uint64_t)count);
        return r;
}

/* What is of the whole plane is for those who run it: this machine, and the first organisation. */
static bool may_see_plane(struct exchange *x)
{
        char id[65];

        return x->listener->is_local ||
               (plane_org_find(x->api->options.store, ORGANISATION_DEFAULT, id, NULL) == 0 &&
                       str_equal(id, x->organisation));
}

static int add_plane(struct exchange *x, struct text *t, struct error *e)
{
        head(t, "build_info", "gauge", "The program's version.");
        text_addf(t, "gridplane_build_info{version=\"%s\"} 1\n", GRIDNODE_VERSION);
        add_broker(x, t);
        add_services(x, t);
        add_replies(x, t);
        add_repository_jobs(x, t);
        add(t, "requests_running", "gauge", "Remote tools that run.",
                requests_running(x->api->options.requests));
        add_upgrade_steps(x, t);
        add(t, "event_streams", "gauge", "Streams of server-sent events that are open.",
                api_streams_count(x->api));
        add(t, "registrations_refused_total", "counter", "Registrations and renewals that were refused.",
                x->api->refused_registrations);
        add(t, "database_bytes", "gauge", "Used pages of the database.",
                (uint64_t)db_size_bytes(plane_store_db(x->api->options.store)));
        return add_sessions(x, t, e);
}

void api_metrics(struct exchange *x)
{
        struct text t = {0};
        struct error e = {0};
        int r = add_nodes(x, &t, &e);

        if (r >= 0)
                r = add_packages(x, &t, &e);
        if (r >= 0)
                r = add_upgrades(x, &t, &e);
        if (r >= 0 && may_see_plane(x))
                r = add_plane(x, &t, &e);
        if (r < 0) {
                text_done(&t);
                api_problem_error(x, r, &e);
                return;
        }
        api_reply_text(x, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", text_take(&t));
}
