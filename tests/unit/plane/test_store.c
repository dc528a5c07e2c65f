#include "store_world.h"

#include "base/cleanup.h"
#include "base/text.h"
#include "plane/store_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

/* ---- opening ---- */

static void test_default_organisation(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        char id[65];

        /* Made at the first open, and not again. */
        plane_store_close(w->store);
        must(plane_store_open(w->path, &w->store, &e), &e);
        must(plane_org_find(w->store, "default", id, &e), &e);
        assert_string_equal(id, w->ours);
        assert_true(wire_id_is_valid(id));
        assert_null(plane_store_close(NULL));
}

static void test_newer_database_is_refused(void **state)
{
        struct world *w = *state;
        struct plane_store *s = NULL;
        struct error e = {0};

        must(db_run(plane_store_db(w->store), &e, "PRAGMA user_version = 999", ""), &e);
        plane_store_close(w->store);
        w->store = NULL;
        assert_int_equal(plane_store_open(w->path, &s, &e), -EPROTO);
        assert_null(s);
}

/* ---- organisations ---- */

static void test_organisations(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        json_t *list = NULL;
        char id[65] = "untouched";

        assert_int_equal(plane_org_add(w->store, &w->root, "others", NOW, id, &e), -EEXIST);
        assert_string_equal(e.code, "organisation.exists");
        assert_int_equal(plane_org_add(w->store, &w->us, "third", NOW, id, &e), -EPERM);
        assert_int_equal(plane_org_add(w->store, &w->root, "Third", NOW, id, &e), -EINVAL);
        assert_int_equal(plane_org_add(w->store, &w->root, "-third", NOW, id, &e), -EINVAL);
        assert_int_equal(plane_org_add(w->store, &w->root, "", NOW, id, &e), -EINVAL);
        assert_int_equal(plane_org_find(w->store, "third", id, &e), -ENOENT);
        assert_string_equal(id, "untouched");

        must(plane_org_list(w->store, &w->root, NULL, &list, &e), &e);
        assert_int_equal(json_array_size(items_of(list)), 2);
        assert_string_equal(text_of(json_array_get(items_of(list), 1), "name"), "others");
        assert_true(json_is_null(json_object_get(list, "next")));
        json_decref(list);
        must(plane_org_list(w->store, &w->them, NULL, &list, &e), &e);
        assert_int_equal(json_array_size(items_of(list)), 1);
        assert_string_equal(text_of(json_array_get(items_of(list), 0), "id"), w->theirs);
        json_decref(list);
}

/* An organisation that is named as another's id does not stand for it. */
static void test_organisation_named_as_an_id(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        char id[65], found[65];

        must(plane_org_add(w->store, &w->root, w->theirs, NOW, id, &e), &e);
        must(plane_org_find(w->store, w->theirs, found, &e), &e);
        assert_string_equal(found, w->theirs);
}

/* ---- audit ---- */

static size_t audit_count(struct world *w, const char *organisation)
{
        struct page p = {.limit = 500};
        struct error e = {0};
        json_t *list = NULL;
        size_t count;

        must(plane_audit_list(w->store, organisation, &p, &list, &e), &e);
        count = json_array_size(items_of(list));
        json_decref(list);
        return count;
}

static void test_audit(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        json_t *list = NULL, *row;

        must(plane_audit(w->store, &w->us, w->ours, "request.start", "req-1",
                     json_pack("{s:s}", "tool", "diag"), NOW, &e),
                &e);
        must(plane_audit_list(w->store, w->ours, NULL, &list, &e), &e);
        row = json_array_get(items_of(list), 0);
        assert_string_equal(text_of(row, "actor"), "alice");
        assert_string_equal(text_of(row, "action"), "request.start");
        assert_string_equal(text_of(row, "object"), "req-1");
        assert_string_equal(text_of(row, "at"), "2026-11-21T03:02:00.000Z");
        assert_string_equal(text_of(json_object_get(row, "detail"), "tool"), "diag");
        json_decref(list);
        /* Nobody writes into another organisation's, and nobody reads it. */
        assert_int_equal(plane_audit(w->store, &w->them, w->ours, "a", "b", json_object(), NOW, &e), -ENOENT);
        assert_int_equal(plane_audit(w->store, &w->root, "o-none", "a", "b", NULL, NOW, &e), -ENOENT);
        must(plane_audit_list(w->store, w->theirs, NULL, &list, &e), &e);
        for (size_t i = 0; i < json_array_size(items_of(list)); i++)
                assert_string_not_equal(text_of(json_array_get(items_of(list), i), "actor"), "alice");
        json_decref(list);
}

/* A change and its row are stored together or not at all. */
static void test_audit_is_in_the_transaction(void **state)
{
        struct world *w = *state;
        size_t before = audit_count(w, w->ours);
        struct plane_node n;
        struct error e = {0};

        must(db_begin(plane_store_db(w->store), &e), &e);
        must(plane_node_remove(w->store, &w->us, w->ours, w->node, NOW, &e), &e);
        assert_int_equal(audit_count(w, w->ours), before + 1);
        db_rollback(plane_store_db(w->store));
        assert_int_equal(audit_count(w, w->ours), before);
        must(plane_node_find(w->store, w->ours, w->node, &n, &e), &e);
        assert_string_equal(n.state, "registered");
        /* And a row that cannot be written leaves no change. */
        must(db_run(plane_store_db(w->store), &e,
                     "CREATE TRIGGER broken BEFORE INSERT ON audit BEGIN SELECT raise(ABORT, 'full'); END",
                     ""),
                &e);
        assert_true(plane_node_remove(w->store, &w->us, w->ours, w->node, NOW, &e) < 0);
        must(plane_node_find(w->store, w->ours, w->node, &n, &e), &e);
        assert_string_equal(n.state, "registered");
}

/* ---- pages ---- */

static void test_pages_are_stable_while_rows_come(void **state)
{
        struct world *w = *state;
        struct page p = {.limit = 2};
        struct error e = {0};
        json_t *first = NULL, *second = NULL;
        char object[8];

        for (int i = 0; i < 5; i++) {
                snprintf(object, sizeof object, "x-%d", i);
                must(plane_audit(w->store, &w->us, w->ours, "a", object, NULL, NOW, &e), &e);
        }
        must(plane_audit_list(w->store, w->ours, &p, &first, &e), &e);
        assert_int_equal(json_array_size(items_of(first)), 2);
        must(plane_audit(w->store, &w->us, w->ours, "a", "new", NULL, NOW, &e), &e);
        p.after = text_of(first, "next");
        must(plane_audit_list(w->store, w->ours, &p, &second, &e), &e);
        assert_string_equal(text_of(json_array_get(items_of(second), 0), "object"), "x-2");
        assert_string_equal(text_of(json_array_get(items_of(second), 1), "object"), "x-1");
        json_decref(first);
        json_decref(second);
}

/* The last full page has no next. */
static void test_last_page(void **state)
{
        struct world *w = *state;
        struct page p = {.limit = (int)audit_count(w, w->ours)};
        struct error e = {0};
        json_t *list = NULL;

        must(plane_audit_list(w->store, w->ours, &p, &list, &e), &e);
        assert_int_equal(json_array_size(items_of(list)), p.limit);
        assert_true(json_is_null(json_object_get(list, "next")));
        json_decref(list);
}

static void test_bad_pages(void **state)
{
        struct world *w = *state;
        static const char *const cursors[] = {"", "0", "zz", "xyz", "6120", "612031", "61203120",
                "6120312032", "61", "6120612030", /* "a a 0" */
                "61202d312030",                   /* "a -1 0" */
                "6120312030203020",               /* "a 1 0 0 " */
                "61203120300a",                   /* a newline */
                "6520312031",                     /* of the events */
                "6120393939393939393939393939393939393939393920"
                "30", /* too large */
                "6120312030 "};
        struct error e = {0};
        json_t *list = NULL;

        for (size_t i = 0; i < ELEMENTS(cursors); i++) {
                struct page p = {.after = cursors[i]};

                if (str_equal(cursors[i], "6120312032")) /* "a 1 2": as good as ours */
                        continue;
                if (plane_audit_list(w->store, w->ours, &p, &list, &e) != -EINVAL)
                        fail_msg("accepted '%s'", cursors[i]);
                assert_string_equal(e.code, "page.cursor");
        }
        for (int i = 0; i < 3; i++) {
                struct page p = {.limit = (int[]){-1, 501, 1 << 30}[i]};

                assert_int_equal(plane_audit_list(w->store, w->ours, &p, &list, &e), -EINVAL);
                assert_string_equal(e.code, "page.limit");
        }
        assert_null(list);
}

/* A cursor of one organisation shows nothing of it in another's list. */
static void test_cursor_of_another_organisation(void **state)
{
        struct world *w = *state;
        struct page p = {.limit = 1};
        struct error e = {0};
        json_t *ours = NULL, *theirs = NULL, *row;
        size_t i;

        must(plane_audit_list(w->store, w->ours, &p, &ours, &e), &e);
        p.after = text_of(ours, "next");
        p.limit = 100;
        must(plane_audit_list(w->store, w->theirs, &p, &theirs, &e), &e);
        json_array_foreach(items_of(theirs), i, row)
        {
                assert_string_not_equal(text_of(row, "object"), w->node);
        }
        json_decref(ours);
        json_decref(theirs);
}

/* ---- retention ---- */

static int64_t count(struct world *w, const char *sql)
{
        struct error e = {0};
        int64_t value;

        must(db_query_integer(plane_store_db(w->store), &e, -1, &value, sql, ""), &e);
        return value;
}

static void add_report(struct world *w, const char *node, int64_t seq)
{
        struct wire_report r = {.epoch = "e-1",
                .seq = seq,
                .generated_unix_ms = NOW + seq,
                .trigger = (char *)"monitor",
                .report = json_pack("{s:s}", "verdict", "blocked")};
        struct error e = {0};
        bool is_new;

        must(plane_report_add(w->store, node, &r, NOW, &is_new, &e), &e);
        json_decref(r.report);
}

static void test_tidy(void **state)
{
        struct world *w = *state;
        struct error e = {0};

        for (int64_t i = 1; i <= 20; i++)
                json_decref(world_event(w, w->node, i, NOW + i, "Repo Connectivity", "tcp.dropped"));
        for (int64_t i = 1; i <= 5; i++)
                json_decref(world_event(w, w->other, i, NOW - 1000, "Repo Connectivity", "tcp.dropped"));
        for (int64_t i = 1; i <= 4; i++)
                add_report(w, w->node, i);
        assert_int_equal(store_tidy_to(w->store, 25, 4, NOW, &e), 0);
        assert_int_equal(count(w, "SELECT count(*) FROM events"), 25);
        /* Who fills it loses its own oldest; the other organisation keeps all, old as they are. */
        assert_int_equal(store_tidy_to(w->store, 15, 3, NOW, &e), 0);
        assert_int_equal(count(w, "SELECT count(*) FROM events"), 15);
        assert_int_equal(count(w, "SELECT min(seq) FROM events WHERE generated > 1795230120000"), 11);
        assert_int_equal(count(w, "SELECT count(*) FROM events WHERE generated < 1795230120000"), 5);
        assert_int_equal(count(w, "SELECT count(*) FROM event_causes"), 15);
        assert_int_equal(count(w, "SELECT sum(events) FROM organisations"), 15);
        assert_int_equal(count(w, "SELECT sum(events) FROM nodes"), 15);
        assert_int_equal(count(w, "SELECT count(*) FROM reports"), 3);
        assert_int_equal(count(w, "SELECT min(seq) FROM reports"), 2);
        assert_int_equal(plane_store_tidy(w->store, NOW, &e), 0);
}

static void test_tidy_says_that_there_is_more(void **state)
{
        struct world *w = *state;
        struct error e = {0};

        must(db_begin(plane_store_db(w->store), &e), &e);
        for (int64_t i = 1; i <= 700; i++)
                json_decref(world_event(w, w->node, i, NOW + i, "Repo Connectivity", NULL));
        must(db_commit(plane_store_db(w->store), &e), &e);
        assert_int_equal(store_tidy_to(w->store, 100, 0, NOW, &e), 1);
        assert_int_equal(count(w, "SELECT count(*) FROM events"), 400);
        assert_int_equal(store_tidy_to(w->store, 100, 0, NOW, &e), 0);
        assert_int_equal(count(w, "SELECT count(*) FROM events"), 100);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, world_new, world_free)
                T(test_default_organisation),
                T(test_newer_database_is_refused),
                T(test_organisations),
                T(test_organisation_named_as_an_id),
                T(test_audit),
                T(test_audit_is_in_the_transaction),
                T(test_pages_are_stable_while_rows_come),
                T(test_last_page),
                T(test_bad_pages),
                T(test_cursor_of_another_organisation),
                T(test_tidy),
                T(test_tidy_says_that_there_is_more),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
