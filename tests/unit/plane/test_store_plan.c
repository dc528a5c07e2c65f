/* How SQLite finds what is asked for: nothing reads a whole table, and no list is sorted after it was read.
 * Every statement that the store runs is heard by a trace, so that a new one cannot be forgotten. */
#include "store_world.h"

#include "base/cleanup.h"
#include "base/text.h"
#include "plane/store_update.h"
#include "plane/store_upgrade.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static sqlite3 *handle;
static struct strv heard;

static int on_statement(unsigned type, void *context, void *statement, void *text)
{
        (void)type;
        (void)context;
        (void)text;
        strv_add_unique(&heard, sqlite3_sql(statement));
        return 0;
}

/* Called for every connection that is opened in this process. */
static int on_open(sqlite3 *opened, char **message, const void *api)
{
        (void)message;
        (void)api;
        handle = opened;
        sqlite3_trace_v2(opened, SQLITE_TRACE_STMT, on_statement, NULL);
        return SQLITE_OK;
}

static bool is_query(const char *sql)
{
        return str_starts_with(sql, "SELECT") || str_starts_with(sql, "UPDATE") ||
               str_starts_with(sql, "DELETE");
}

/* What may read all: a handful of organisations, once a call of tidy; failures and incidents at a start. */
static bool may_scan(const char *step, const char *sql)
{
        return strstr(step, "SCAN organisations") ||
               (strstr(step, "SCAN o ") && strstr(sql, "FROM organisations o")) ||
               (strstr(step, "SCAN f") && strstr(sql, "FROM failures f"));
}

static void check_statement(const char *sql)
{
        char *text = sqlite3_mprintf("EXPLAIN QUERY PLAN %s", sql);
        sqlite3_stmt *s = NULL;

        assert_int_equal(sqlite3_prepare_v2(handle, text, -1, &s, NULL), SQLITE_OK);
        while (sqlite3_step(s) == SQLITE_ROW) {
                const char *step = (const char *)sqlite3_column_text(s, 3);
                bool sorts = strstr(step, "TEMP B-TREE") && !strstr(sql, "FROM failures") &&
                             !strstr(sql, "organisations ORDER BY") &&
                             !strstr(sql, "FROM users u JOIN sessions") &&
                             !strstr(sql, "FROM organisations o");

                if ((strstr(step, "SCAN") && !strstr(step, "CONSTANT ROW") && !may_scan(step, sql)) || sorts)
                        fail_msg("%s: %s", step, sql);
        }
        sqlite3_finalize(s);
        sqlite3_free(text);
}

/* ---- everything that the store can be asked ---- */

static void ask_lists(struct world *w)
{
        const struct event_filter events[] = {
                {.severity = -1},
                {.severity = WIRE_WARNING},
                {.severity = -1, .node = w->node},
                {.severity = -1, .name = "x"},
                {.severity = -1, .cause = "x"},
                {.severity = WIRE_ERROR,
                        .node = w->node,
                        .name = "x",
                        .cause = "y",
                        .since = 1,
                        .until = NOW},
        };
        struct node_filter nodes = {.connected = 1, .name = "b", .site = "s", .state = "new", .cause = "x"};
        struct error e = {0};
        json_t *list = NULL;

#define LIST(call)                 \
        do {                       \
                must((call), &e);  \
                json_decref(list); \
                list = NULL;       \
        } while (0)
        for (size_t i = 0; i < sizeof events / sizeof events[0]; i++)
                LIST(plane_event_list(w->store, w->ours, &events[i], NULL, &list, &e));
        LIST(plane_node_list(w->store, w->ours, &nodes, NULL, &list, &e));
        LIST(plane_node_show(w->store, w->ours, w->node, &list, &e));
        LIST(plane_audit_list(w->store, w->ours, NULL, &list, &e));
        LIST(plane_report_list(w->store, w->ours, NULL, NULL, &list, &e));
        LIST(plane_report_list(w->store, w->ours, w->node, NULL, &list, &e));
        LIST(plane_user_list(w->store, w->ours, NULL, &list, &e));
        LIST(plane_token_list(w->store, w->ours, NULL, &list, &e));
        LIST(plane_org_list(w->store, &w->root, NULL, &list, &e));
        LIST(plane_org_list(w->store, &w->us, NULL, &list, &e));
        LIST(plane_incident_list(w->store, w->ours, -1, NULL, &list, &e));
        LIST(plane_incident_list(w->store, w->ours, 1, NULL, &list, &e));
        LIST(plane_config_get(w->store, w->ours, w->node, 0, &list, &e));
        LIST(plane_incidents_open(w->store, &list, &e));
        LIST(plane_failures(w->store, &list, &e));
        plane_report_get(w->store, w->ours, "a.b.1", &list, &e);
        plane_config_get(w->store, w->ours, w->node, 7, &list, &e);
}

/* Planned, started, stepped, and listed; updates and tags. */
static void ask_upgrades(struct world *w)
{
        struct update_filter updates[] = {{.status = "Failed"}, {.node = w->node, .since = 1}};
        struct upgrade_filter members = {.state = "NEW", .wave = 1};
        struct upgrade_plan plan = {
                .waves = {100}, .wave_count = 1, .limit_minutes = 90, .channel = "stable"};
        json_t *tags = json_pack("{s:s}", TAG_MANUAL, "false"), *gone = json_pack("[s]", TAG_MANUAL);
        struct upgrade u = {0};
        struct error e = {0};
        struct strv ids = {0};
        json_t *list = NULL;
        int64_t version;
        char id[65];

        for (size_t i = 0; i < ELEMENTS(updates); i++)
                LIST(plane_update_list(w->store, w->ours, &updates[i], NULL, &list, &e));
        plane_update_get(w->store, w->ours, "a.b", &list, &e);
        must(plane_node_tag(w->store, &w->us, w->ours, w->node, tags, NULL, NOW, &version, &e), &e);
        must(plane_node_tag(w->store, &w->us, w->ours, w->node, NULL, gone, NOW, &version, &e), &e);
        LIST(plane_node_tags(w->store, w->ours, w->node, &list, &e));
        LIST(plane_config_for_node(w->store, w->ours, w->node, &list, &e));
        must(plane_upgrade_create(w->store, &w->us, w->ours, "spring", &plan, NOW, id, &e), &e);
        must(plane_upgrade_find(w->store, w->ours, "spring", id, &e), &e);
        LIST(plane_upgrade_preview(w->store, w->ours, id, &list, &e));
        must(plane_upgrade_act(w->store, &w->us, w->ours, id, ACTION_START, NOW, &e), &e);
        must(plane_upgrades_watched(w->store, &ids, &e), &e);
        assert_int_equal(ids.count, 1);
        must(plane_upgrade_load(w->store, id, &u, &e), &e);
        upgrade_step(&u, 1, NOW);
        must(plane_upgrade_save(w->store, &u, "plane", NOW, &e), &e);
        LIST(plane_upgrade_list(w->store, w->ours, "running", NULL, &list, &e));
        LIST(plane_upgrade_show(w->store, w->ours, id, &list, &e));
        LIST(plane_upgrade_nodes(w->store, w->ours, id, &members, NULL, &list, &e));
        LIST(plane_upgrade_timeline(w->store, w->ours, id, NULL, &list, &e));
        upgrade_done(&u);
        strv_done(&ids);
        json_decref(tags);
        json_decref(gone);
}

static void ask_users(struct world *w)
{
        const enum role role = ROLE_ADMIN;
        struct error e = {0};
        struct plane_user u;
        struct actor a;
        char id[65], secret[64], csrf[64];
        int64_t until;

        must(plane_user_add(w->store, &w->us, w->ours, "carol", ROLE_VIEWER, "$x", NOW, id, &e), &e);
        must(plane_user_find(w->store, w->ours, "carol", &u, &e), &e);
        must(plane_user_failed(w->store, id, NOW, &until, &e), &e);
        must(plane_user_succeeded(w->store, id, &e), &e);
        must(plane_session_add(w->store, id, NOW, secret, csrf, &e), &e);
        must(plane_session_find(w->store, secret, NOW + 600000, &a, csrf, &e), &e);
        must(plane_session_remove(w->store, secret, &e), &e);
        must(plane_user_update(w->store, &w->us, w->ours, id, &role, NULL, NOW, &e), &e);
        must(plane_user_remove(w->store, &w->us, w->ours, id, NOW, &e), &e);
        must(plane_token_add(w->store, &w->us, w->ours, "ci", ROLE_VIEWER, 0, NOW, id, secret, &e), &e);
        must(plane_token_find(w->store, secret, NOW, &a, &e), &e);
        must(plane_token_remove(w->store, &w->us, w->ours, id, NOW, &e), &e);
}

static void ask_nodes(struct world *w)
{
        const struct wire_status status = {
                .online = true, .services = json_pack("{s:{s:s}}", "repo", "cause", "x")};
        const struct wire_applied applied = {.version = 1, .state = "applied"};
        const struct wire_config config = {.guard = true};
        struct error e = {0};
        struct strv list = {0};
        char *pem = NULL;
        bool changed;
        int64_t version;

        json_decref(world_event(w, w->node, 1, NOW, "Repo Connectivity", "x"));
        json_decref(world_event(w, w->node, 2, NOW, "Repo Connectivity", NULL));
        must(plane_node_status(w->store, w->node, &status, NOW, &changed, &e), &e);
        must(plane_nodes_unheard(w->store, NOW, &list, &e), &e);
        must(plane_config_put(w->store, &w->us, w->ours, w->node, &config, 0, NOW, &version, &e), &e);
        must(plane_config_applied(w->store, w->node, &applied, NOW, &e), &e);
        must(plane_certificate_add(w->store, w->node, "0a", "k", NOW + 1, "PEM", NOW, &e), &e);
        must(plane_certificate_find(w->store, w->node, "k", &pem, &e), &e);
        must(plane_certificate_check(w->store, w->node, "0a", &e), &e);
        must(plane_node_remove(w->store, &w->us, w->ours, w->node, NOW, &e), &e);
        must(plane_certificates_revoked(w->store, NOW, &list, &e), &e);
        strv_done(&list);
        free(pem);
        json_decref(status.services);
}

static void test_no_statement_reads_a_whole_table(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        size_t checked = 0;

        ask_lists(w);
        ask_upgrades(w);
        ask_users(w);
        ask_nodes(w);
        must(plane_store_tidy(w->store, NOW, &e), &e);
        sqlite3_trace_v2(handle, 0, NULL, NULL);
        for (size_t i = 0; i < heard.count; i++)
                if (is_query(heard.items[i])) {
                        check_statement(heard.items[i]);
                        checked++;
                }
        assert_true(checked > 55);
}

/* ---- and how long it takes ---- */

static double milliseconds(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Many events, made by SQLite itself: each 100th of the other node and of another cause. */
static void fill(struct world *w, const char *count)
{
        char *sql = sqlite3_mprintf(
                "WITH RECURSIVE n (i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < %s)"
                " INSERT INTO events (organisation, node, epoch, seq, generated, received, name, severity, "
                "message)"
                " SELECT CASE i %% 100 WHEN 0 THEN %Q ELSE %Q END, CASE i %% 100 WHEN 0 THEN %Q ELSE %Q END, "
                "'e-9', i,"
                " 1700000000000 + i, 0, 'x', 0, 'y' FROM n",
                count, w->theirs, w->ours, w->other, w->node);

        assert_int_equal(sqlite3_exec(handle, sql, NULL, NULL, NULL), SQLITE_OK);
        sqlite3_free(sql);
}

static void test_lists_take_milliseconds(void **state)
{
        struct world *w = *state;
        const char *count = getenv("EVENTS") ? getenv("EVENTS") : "30000";
        const struct event_filter filters[] = {
                {.severity = -1},
                {.severity = WIRE_WARNING},
                {.severity = -1, .node = w->node},
                {.severity = -1, .name = "nothing"},
                {.severity = -1, .cause = "tcp.dropped"},
                {.severity = -1, .since = INT64_C(1700000001000), .until = INT64_C(1700000001500)},
        };
        struct error e = {0};

        sqlite3_trace_v2(handle, 0, NULL, NULL);
        fill(w, count);
        for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++) {
                double began, took = 1e9, one;

                for (int k = 0; k < 3; k++) {
                        json_t *list = NULL;

                        began = milliseconds();
                        must(plane_event_list(w->store, w->ours, &filters[i], NULL, &list, &e), &e);
                        one = milliseconds() - began;
                        took = one < took ? one : took;
                        json_decref(list);
                }
                print_message("filter %zu: %.2f ms of %s events\n", i, took, count);
                assert_true(took < 20);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, world_new, world_free)
                T(test_no_statement_reads_a_whole_table),
                T(test_lists_take_milliseconds),
        };
        int failed;

        sqlite3_auto_extension((void (*)(void))on_open);
        failed = cmocka_run_group_tests(tests, NULL, NULL);
        strv_done(&heard);
        return failed;
}
