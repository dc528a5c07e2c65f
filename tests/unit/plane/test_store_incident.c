#include "store_world.h"

#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>

static void save(struct world *w, const char *organisation, int number, bool open, const char *summary)
{
        struct error e = {0};
        char id[32], since[32];
        json_t *incident;

        snprintf(id, sizeof id, "i-%d", number);
        time_format_utc(NOW + number / 2 * 1000, since); /* two of each moment */
        incident = json_pack("{s:s, s:s, s:s}", "id", id, "since", since, "summary", summary);
        must(plane_incident_save(w->store, organisation, id, incident, open, NOW, &e), &e);
        json_decref(incident);
}

static void assert_ids(struct world *w, const char *organisation, int open, int limit, const char *wanted)
{
        struct page p = {.limit = limit};
        struct text ids = {0};
        struct error e = {0};
        json_t *list = NULL, *row;
        char cursor[400];
        size_t i;

        do {
                must(plane_incident_list(w->store, organisation, open, &p, &list, &e), &e);
                json_array_foreach(items_of(list), i, row)
                {
                        text_addf(&ids, "%s ", text_of(row, "id"));
                }
                str_copy(cursor, sizeof cursor, text_of(list, "next"));
                p.after = cursor;
                json_decref(list);
        } while (cursor[0]);
        assert_string_equal(text_string(&ids), wanted);
        text_done(&ids);
}

static void test_incidents(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        json_t *list = NULL, *one;

        for (int i = 1; i <= 5; i++)
                save(w, w->ours, i, i % 2, "first");
        save(w, w->theirs, 3, true, "theirs"); /* the same id is another one */
        assert_ids(w, w->ours, -1, 50, "i-5 i-4 i-3 i-2 i-1 ");
        assert_ids(w, w->ours, -1, 2, "i-5 i-4 i-3 i-2 i-1 ");
        assert_ids(w, w->ours, 1, 2, "i-5 i-3 i-1 ");
        assert_ids(w, w->ours, 0, 1, "i-4 i-2 ");
        assert_ids(w, w->theirs, -1, 50, "i-3 ");
        save(w, w->ours, 3, false, "ended");
        assert_ids(w, w->ours, 1, 50, "i-5 i-1 ");
        assert_ids(w, w->theirs, 1, 50, "i-3 ");
        must(plane_incident_list(w->store, w->ours, 0, NULL, &list, &e), &e);
        one = json_array_get(items_of(list), 1);
        assert_string_equal(text_of(one, "summary"), "ended");
        assert_true(json_is_false(json_object_get(one, "open")));
        json_decref(list);
}

static void test_open(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        json_t *list = NULL, *row;
        size_t i;

        save(w, w->ours, 1, true, "ours");
        save(w, w->ours, 2, false, "ended");
        save(w, w->theirs, 3, true, "theirs");
        must(plane_incidents_open(w->store, &list, &e), &e);
        assert_int_equal(json_array_size(list), 2);
        json_array_foreach(list, i, row)
        {
                bool ours = str_equal(text_of(row, "organisation"), w->ours);

                assert_true(ours || str_equal(text_of(row, "organisation"), w->theirs));
                assert_string_equal(
                        text_of(json_object_get(row, "incident"), "summary"), ours ? "ours" : "theirs");
        }
        json_decref(list);
}

static void test_bad(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        json_t *incident = json_object();

        assert_int_equal(plane_incident_save(w->store, w->ours, "", incident, true, NOW, &e), -EINVAL);
        assert_int_equal(plane_incident_save(w->store, w->ours, "i 1", incident, true, NOW, &e), -EINVAL);
        assert_int_equal(plane_incident_save(w->store, w->ours, "i-1", NULL, true, NOW, &e), -EINVAL);
        assert_true(plane_incident_save(w->store, "o-none", "i-1", incident, true, NOW, &e) < 0);
        json_decref(incident);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, world_new, world_free)
                T(test_incidents),
                T(test_open),
                T(test_bad),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
