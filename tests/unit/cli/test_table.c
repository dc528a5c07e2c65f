/* Lists of records for people. */
#include "cli/table.h"

#include "base/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

static const struct table_column columns[] = {{"NAME", "name"}, {"CONNECTED", "connected", "yes", "away"},
        {"CAUSE", "state.cause"}, {"NODES", "nodes"}};

static void expect(const char *json, const char *wanted)
{
        json_t *items = json_loads(json, 0, NULL);
        _cleanup_free_ char *text = NULL;
        size_t length;
        FILE *to = open_memstream(&text, &length);

        assert_non_null(items);
        assert_non_null(to);
        table_write(items, columns, ELEMENTS(columns), "Nothing.", to);
        fclose(to);
        assert_string_equal(text, wanted);
        json_decref(items);
}

static void test_empty(void **state)
{
        (void)state;
        expect("[]", "Nothing.\n");
        expect("{}", "Nothing.\n"); /* no list at all */
}

static void test_columns_are_as_wide_as_what_is_in_them(void **state)
{
        (void)state;
        expect("[{\"name\":\"branch-12\",\"connected\":true,\"state\":{\"cause\":\"tcp.dropped\"},\"nodes\":"
               "31},"
               "{\"name\":\"b\",\"connected\":false,\"state\":{\"cause\":null},\"nodes\":-1}]",
                "NAME       CONNECTED  CAUSE        NODES\n"
                "branch-12  yes        tcp.dropped  31\n"
                "b          away       -            -1\n");
}

static void test_what_is_not_there(void **state)
{
        (void)state;
        expect("[{},{\"state\":5},{\"state\":[]},5,null,\"x\"]", "NAME  CONNECTED  CAUSE  NODES\n"
                                                                 "-     -          -      -\n"
                                                                 "-     -          -      -\n"
                                                                 "-     -          -      -\n"
                                                                 "-     -          -      -\n"
                                                                 "-     -          -      -\n"
                                                                 "-     -          -      -\n");
}

/* A character is a column, not a byte. */
static void test_other_letters(void **state)
{
        (void)state;
        expect("[{\"name\":\"Zürich\"},{\"name\":\"Basel!\"}]", "NAME    CONNECTED  CAUSE  NODES\n"
                                                                "Zürich  -          -      -\n"
                                                                "Basel!  -          -      -\n");
}

static void test_what_could_harm_a_terminal(void **state)
{
        (void)state;
        expect("[{\"name\":\"a\\u001b[2Jb\\nc\\td\"}]", "NAME                 CONNECTED  CAUSE  NODES\n"
                                                        "a\\x1b[2Jb\\x0ac\\x09d  -          -      -\n");
}

static void test_long_cells_are_cut(void **state)
{
        char json[2100] = "[{\"name\":\"";
        json_t *items;
        _cleanup_free_ char *text = NULL;
        size_t length;
        FILE *to = open_memstream(&text, &length);

        (void)state;
        memset(json + strlen(json), 'x', 2000);
        strcpy(json + 2010, "\"}]");
        items = json_loads(json, 0, NULL);
        assert_non_null(items);
        table_write(items, columns, 1, "", to);
        fclose(to);
        assert_true(length < 230);
        json_decref(items);
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(test_empty),
                cmocka_unit_test(test_columns_are_as_wide_as_what_is_in_them),
                cmocka_unit_test(test_what_is_not_there), cmocka_unit_test(test_other_letters),
                cmocka_unit_test(test_what_could_harm_a_terminal), cmocka_unit_test(test_long_cells_are_cut)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
