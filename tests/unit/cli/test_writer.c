/* One tree, two forms. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/writer.h"

#include "base/cleanup.h"

#include <jansson.h>
#include <string.h>

enum form { FORM_TEXT, FORM_COLOUR, FORM_JSON };

static char *write_as(const struct writer *w, enum form form)
{
        char *data = NULL;
        size_t length;
        FILE *f = open_memstream(&data, &length);

        if (form == FORM_JSON)
                writer_write_json(w, f);
        else
                writer_write_text(w, form == FORM_COLOUR, f);
        fclose(f);
        return data;
}

static void assert_written(struct writer *w, enum form form, const char *expected)
{
        char *written = write_as(w, form);

        assert_string_equal(written, expected);
        free(written);
}

static void test_values(void **state)
{
        struct writer *w = writer_new();

        (void)state;
        writer_text(w, "name", "name", "%s", "repo");
        writer_integer(w, "port", "a longer title", 443);
        writer_number(w, "rtt_ms", "rtt", 20.26, "ms");
        writer_boolean(w, "is_open", "open", true);
        writer_null(w, "by");
        writer_text(w, "code", WRITER_HIDDEN, "tcp.dropped");
        writer_text(w, "summary", NULL, "It works.");
        assert_written(w, FORM_TEXT,
                "name:           repo\na longer title: 443\nrtt:            20.3 ms\nopen:           yes\nIt "
                "works.\n");
        assert_written(w, FORM_JSON,
                "{\n  \"name\": \"repo\",\n  \"port\": 443,\n  \"rtt_ms\": 20.26,\n  \"is_open\": true,\n"
                "  \"by\": null,\n  \"code\": \"tcp.dropped\",\n  \"summary\": \"It works.\"\n}\n");
        writer_free(w);
}

static void add_row(struct writer *w, const char *address, const char *result, const char *note)
{
        writer_begin_item(w);
        writer_text(w, "address", NULL, "%s", address);
        writer_text(w, "result", NULL, "%s", result);
        writer_text(w, "after", NULL, "after");
        if (note)
                writer_text(w, "note", "note", "%s", note);
        writer_end(w);
}

static void test_rows_are_aligned(void **state)
{
        struct writer *w = writer_new();

        (void)state;
        writer_begin_list(w, "rows", "Rows");
        add_row(w, "192.0.2.1", "ok", NULL);
        add_row(w, "2001:db8::1", "", "two");
        /* Columns are characters, not bytes. */
        add_row(w, "\xc3\xa9", "refused", NULL);
        writer_end(w);
        assert_written(w, FORM_TEXT,
                "Rows:\n"
                "  192.0.2.1    ok       after\n"
                "  2001:db8::1           after\n"
                "      note: two\n"
                "  \xc3\xa9            refused  after\n");
        writer_free(w);
}

static void test_lists_of_scalars_and_empty_ones(void **state)
{
        struct writer *w = writer_new();

        (void)state;
        writer_begin_list(w, "answers", "answers");
        writer_text(w, NULL, NULL, "198.51.100.20");
        writer_text(w, NULL, NULL, "203.0.113.200");
        writer_end(w);
        writer_begin_list(w, "none", "none");
        writer_end(w);
        assert_written(w, FORM_TEXT, "answers: 198.51.100.20, 203.0.113.200\n");
        assert_written(w, FORM_JSON,
                "{\n  \"answers\": [\n    \"198.51.100.20\",\n    \"203.0.113.200\"\n  ],\n  \"none\": "
                "[]\n}\n");
        writer_free(w);
}

static void test_lines_within_items(void **state)
{
        struct writer *w = writer_new();

        (void)state;
        writer_begin_list(w, "traces", NULL);
        writer_begin_item(w);
        writer_text(w, "target", NULL, "198.51.100.20:443");
        writer_text(w, "summary", WRITER_LINE, "It ends there.");
        writer_text(w, "pem", "pem", "one\ntwo\n");
        writer_end(w);
        writer_end(w);
        assert_written(
                w, FORM_TEXT, "198.51.100.20:443\n    It ends there.\n    pem:\n      one\n      two\n");
        writer_free(w);
}

static void test_outside_bytes_are_escaped(void **state)
{
        struct writer *w = writer_new();
        char *json;
        json_t *j;

        (void)state;
        writer_text(w, "banner", "banner", "%s", "\033[31mred\377\rx");
        json = write_as(w, FORM_TEXT);
        assert_null(strchr(json, '\033'));
        assert_null(strchr(json, '\r'));
        free(json);
        json = write_as(w, FORM_JSON);
        j = json_loads(json, 0, NULL);
        assert_non_null(j);
        assert_non_null(json_object_get(j, "banner"));
        json_decref(j);
        free(json);
        writer_free(w);
}

static void test_colour_only_when_asked(void **state)
{
        struct writer *w = writer_new();

        (void)state;
        writer_text(w, "result", NULL, "refused");
        writer_mark(w, MARK_BAD);
        assert_written(w, FORM_TEXT, "refused\n");
        assert_written(w, FORM_COLOUR, "\033[31mrefused\033[0m\n");
        writer_free(w);
}

/* What the stream has got since it was looked at last. */
static void assert_came(FILE *f, char **data, size_t *from, const char *expected)
{
        fflush(f);
        assert_string_equal(*data + *from, expected);
        *from = strlen(*data);
}

static void test_a_stream_gets_what_is_new(void **state)
{
        struct writer *w = writer_new();
        char *data = NULL;
        size_t length, from = 0;
        FILE *f = open_memstream(&data, &length);

        (void)state;
        writer_flush(w); /* to nobody */
        writer_stream(w, true, f);
        writer_begin_list(w, "rows", "Rows");
        writer_reserve(w, 0, strlen("2001:db8::1"));
        writer_end(w);
        writer_flush(w);
        assert_came(f, &data, &from, "");
        writer_continue_list(w, "rows", "Rows");
        add_row(w, "192.0.2.1", "ok", "two");
        writer_end(w);
        writer_flush(w);
        assert_came(f, &data, &from, "Rows:\n  192.0.2.1    ok  after\n      note: two\n");
        writer_flush(w);
        assert_came(f, &data, &from, "");
        writer_text(w, NULL, NULL, "between");
        writer_mark(w, MARK_GOOD);
        writer_continue_list(w, "rows", "Rows");
        add_row(w, "2001:db8::1", "ok", NULL);
        writer_end(w);
        writer_text(w, "result", "result", "done");
        writer_flush(w);
        assert_came(f, &data, &from, "  2001:db8::1  ok  after\n\033[32mbetween\033[0m\nresult: done\n");
        fclose(f);
        free(data);
        data = write_as(w, FORM_JSON);
        assert_null(strstr(data, "between"));
        assert_non_null(strstr(data, "\"2001:db8::1\""));
        free(data);
        writer_free(w);
}

static void test_an_open_item_of_a_stream(void **state)
{
        struct writer *w = writer_new();
        char *data = NULL;
        size_t length, from = 0;
        FILE *f = open_memstream(&data, &length);

        (void)state;
        writer_stream(w, false, f);
        writer_begin_list(w, "traces", NULL);
        writer_begin_item(w);
        writer_text(w, "target", NULL, "198.51.100.20:443");
        writer_begin_list(w, "hops", NULL);
        writer_flush(w);
        assert_came(f, &data, &from, "198.51.100.20:443\n");
        add_row(w, "192.0.2.1", "ok", NULL);
        writer_flush(w);
        assert_came(f, &data, &from, "    192.0.2.1  ok  after\n");
        writer_end(w);
        writer_text(w, "summary", WRITER_LINE, "It ends there.");
        writer_end(w);
        writer_end(w);
        writer_flush(w);
        assert_came(f, &data, &from, "    It ends there.\n");
        fclose(f);
        free(data);
        writer_free(w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_values),
                cmocka_unit_test(test_rows_are_aligned),
                cmocka_unit_test(test_lists_of_scalars_and_empty_ones),
                cmocka_unit_test(test_lines_within_items),
                cmocka_unit_test(test_outside_bytes_are_escaped),
                cmocka_unit_test(test_colour_only_when_asked),
                cmocka_unit_test(test_a_stream_gets_what_is_new),
                cmocka_unit_test(test_an_open_item_of_a_stream),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
