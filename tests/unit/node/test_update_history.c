#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/paths.h"
#include "base/text.h"
#include "node/update_history.h"
#include "wire/update.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void put(const char *folder, const char *name, const char *text)
{
        _cleanup_free_ char *path = path_join(folder, name);

        assert_int_equal(file_save(path, text, strlen(text), 0644, NULL), 0);
}

static void put_update(const char *folder, const char *id, int64_t started)
{
        struct update_state s = {.started_unix_ms = started, .eta_ms = -1, .log = (char *)"a log"};
        _cleanup_free_ char *text = NULL;
        char name[64];
        json_t *j;

        strcpy(s.job.id, id);
        strcpy(s.job.channel, "stable");
        j = update_state_to_json(&s);
        text = json_to_text(j);
        json_decref(j);
        snprintf(name, sizeof name, "%s.json", id);
        put(folder, name, text);
}

static const char *id_at(const json_t *list, size_t i)
{
        return json_string_value(json_object_get(json_object_get(json_array_get(list, i), "job"), "id"));
}

static void test_newest_first(void **state)
{
        static const char *const names[] = {
                "u-2.json", "u-1.json", "u-3.json", "u-4.json", "u-5.json", "notes", ".u-9.json"};
        char folder[] = "/tmp/gridnode-history-XXXXXX";
        json_t *list;

        (void)state;
        assert_non_null(mkdtemp(folder));
        put_update(folder, "u-2", 2000);
        put_update(folder, "u-1", 1000);
        put_update(folder, "u-3", 3000);
        put(folder, "u-4.json", "{\"half\":");
        put(folder, "u-5.json", "");
        put(folder, "notes", "no update");
        put(folder, ".u-9.json", "{}");
        list = update_history(folder, 50);
        assert_int_equal(json_array_size(list), 3);
        assert_string_equal(id_at(list, 0), "u-3");
        assert_string_equal(id_at(list, 2), "u-1");
        assert_null(json_object_get(json_array_get(list, 0), "log"));
        json_decref(list);
        list = update_history(folder, 1);
        assert_int_equal(json_array_size(list), 1);
        assert_string_equal(id_at(list, 0), "u-3");
        json_decref(list);
        for (size_t i = 0; i < ELEMENTS(names); i++) {
                _cleanup_free_ char *path = path_join(folder, names[i]);

                assert_int_equal(unlink(path), 0);
        }
        assert_int_equal(rmdir(folder), 0);
        list = update_history(folder, 50);
        assert_int_equal(json_array_size(list), 0);
        json_decref(list);
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(test_newest_first)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
