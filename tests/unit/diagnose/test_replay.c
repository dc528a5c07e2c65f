// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include "diagnose/report.h"
#include "golden.h"

#include "base/alloc.h"
#include "base/text.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

/* Reports of real runs, stored as they were written (without the certificates' bytes): the same measurements
 * must be concluded to the same causes, whoever changes the rules. */
#define FOLDER "tests/unit/diagnose/reports"

/* Sentences may be put better without a change of what they say. */
static void forget_words(json_t *report)
{
        json_t *causes = json_object_get(report, "causes");

        json_object_del(report, "summary");
        for (size_t i = 0; i < json_array_size(causes); i++) {
                json_object_del(json_array_get(causes, i), "summary");
                json_object_del(json_array_get(causes, i), "remedy");
        }
}

static void compare(const char *name, const json_t *stored, const json_t *replayed, const char *member)
{
        json_t *before = json_object_get(stored, member), *now = json_object_get(replayed, member);
        char *was, *is;

        assert_non_null(before);
        if (json_equal(before, now))
                return;
        was = json_dumps(before, JSON_INDENT(1) | JSON_ENCODE_ANY);
        is = json_dumps(now, JSON_INDENT(1) | JSON_ENCODE_ANY);
        print_error("%s: \"%s\" was\n%s\nand is now\n%s\n", name, member, was, is);
        free(was);
        free(is);
        fail();
}

/* What counts, what is void and by what: it is concluded as well. */
static void compare_statuses(const char *name, const json_t *stored, const struct report *replayed)
{
        json_t *rows = json_object_get(stored, "measurements");

        assert_int_equal(json_array_size(rows), replayed->measurements.count);
        for (size_t i = 0; i < json_array_size(rows); i++) {
                const struct measurement *m = replayed->measurements.items[i];
                const char *status = json_string_value(json_object_get(json_array_get(rows, i), "status"));

                if (!str_equal(status, measurement_status_to_string(m->status)))
                        fail_msg("%s: measurement %d was %s and is now %s", name, m->id, status,
                                measurement_status_to_string(m->status));
        }
}

static void replay(const char *name)
{
        char *path = xasprintf(FOLDER "/%s", name), *text = golden_source_file(path);
        struct report r = {0};
        struct error error = {0};
        json_t *stored = json_loads(text, 0, NULL), *replayed;

        assert_non_null(stored);
        assert_int_equal(report_from_json_text(text, strlen(text), &r, &error), 0);
        replayed = report_to_json(&r);
        forget_words(stored);
        forget_words(replayed);
        compare(name, stored, replayed, "verdict");
        compare(name, stored, replayed, "services");
        compare(name, stored, replayed, "causes");
        compare_statuses(name, stored, &r);
        json_decref(stored);
        json_decref(replayed);
        report_done(&r);
        free(text);
        free(path);
}

static int is_report(const struct dirent *d)
{
        return str_ends_with(d->d_name, ".json");
}

static void test_stored_reports(void **state)
{
        char *folder = xasprintf("%s/" FOLDER, getenv("SOURCE_ROOT"));
        struct dirent **names;
        int count = scandir(folder, &names, is_report, alphasort);

        (void)state;
        assert_true(count >= 5);
        for (int i = 0; i < count; i++) {
                replay(names[i]->d_name);
                free(names[i]);
        }
        free(names);
        free(folder);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_stored_reports),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
