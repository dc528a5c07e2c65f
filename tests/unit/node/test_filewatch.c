#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../scaffold.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/paths.h"
#include "node/filewatch.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct seen {
        int count;
        bool any;
};

static void on_change(void *userdata)
{
        struct seen *s = userdata;

        s->count++;
        s->any = true;
}

static void put(const char *folder, const char *name)
{
        _cleanup_free_ char *path = path_join(folder, name);

        assert_int_equal(file_save(path, "x", 1, 0644, NULL), 0);
}

static void test_changes(void **state)
{
        char root[] = "/tmp/gridnode-filewatch-XXXXXX";
        _cleanup_free_ char *folder = NULL, *path = NULL, *other = NULL;
        struct filewatch *w = NULL;
        struct seen s = {0};
        sd_event *event = NULL;

        (void)state;
        assert_non_null(mkdtemp(root));
        folder = path_join(root, "update");
        path = path_join(folder, "state.json");
        other = path_join(folder, "job.json");
        assert_true(sd_event_new(&event) >= 0);
        /* The folder comes later. */
        assert_int_equal(filewatch_new(event, path, on_change, &s, &w), 0);
        filewatch_look(w);
        assert_int_equal(s.count, 0);
        assert_int_equal(mkdir(folder, 0755), 0);
        filewatch_look(w);
        assert_int_equal(s.count, 1);
        filewatch_look(w);
        assert_int_equal(s.count, 1);
        s.any = false;
        put(folder, "state.json");
        assert_true(scaffold_run_until(event, &s.any, 5000));
        s.count = 0;
        put(folder, "job.json");
        scaffold_run_for(event, 50);
        assert_int_equal(s.count, 0);
        /* It goes, and comes again. */
        assert_int_equal(unlink(path) + unlink(other) + rmdir(folder), 0);
        s.any = false;
        assert_true(scaffold_run_until(event, &s.any, 5000));
        scaffold_run_for(event, 50);
        assert_int_equal(mkdir(folder, 0755), 0);
        filewatch_look(w);
        s.any = false;
        put(folder, "state.json");
        assert_true(scaffold_run_until(event, &s.any, 5000));
        filewatch_free(w);
        sd_event_unref(event);
        assert_int_equal(unlink(path) + rmdir(folder) + rmdir(root), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(test_changes)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
