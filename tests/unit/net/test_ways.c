#include "net/ways.h"

#include "base/cleanup.h"
#include "base/paths.h"

#include "../scaffold.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64];

static int make_folder(void **state)
{
        (void)state;
        strcpy(folder, "/tmp/test_ways-XXXXXX");
        return mkdtemp(folder) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
        (void)st, (void)type, (void)ftw;
        return remove(path);
}

static int remove_folder(void **state)
{
        (void)state;
        nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
        return 0;
}

static int parse(const char *text, struct ways *ret)
{
        struct error e;

        return ways_parse(text, strlen(text), ret, &e);
}

static void test_parse(void **state)
{
        struct ways w;

        (void)state;
        assert_int_equal(
                parse("{\"written\": \"2026-11-21T10:00:00.000Z\", \"services\": [{\"service\": \"repo\", "
                      "\"state\": \"failed\", \"code\": \"tcp.dropped\", \"summary\": \"443 is dropped\", "
                      "\"since\": \"2026-11-21T09:59:00.000Z\"}, {\"service\": \"control\"}]}",
                        &w),
                0);
        assert_int_equal(w.count, 2);
        assert_string_equal(ways_find(&w, "repo")->summary, "443 is dropped");
        assert_int_equal(w.written_unix_ms - ways_find(&w, "repo")->since_unix_ms, 60000);
        assert_string_equal(ways_find(&w, "control")->state, "");
        assert_null(ways_find(&w, "other"));
        assert_true(ways_is_fresh(&w, w.written_unix_ms + 60000));
        assert_false(ways_is_fresh(&w, w.written_unix_ms + 100000));
        assert_false(ways_is_fresh(&w, w.written_unix_ms - 100000));
}

static void test_bad(void **state)
{
        static const char *const bad[] = {"", "{}", "[]", "null", "{\"written\": 1, \"services\": []}",
                "{\"written\": \"2026-11-21T10:00:00.000Z\"}",
                "{\"written\": \"2026-11-21T10:00:00.000Z\", \"services\": {}}",
                "{\"written\": \"2026-11-21T10:00:00.000Z\", \"services\": [1]}",
                "{\"written\": \"2026-11-21T10:00:00.000Z\", \"services\": [{}]}",
                "{\"written\": \"2026-11-21T10:00:00.000Z\", \"services\": [{\"service\": 1}]}",
                "{\"written\": \"2026-11-21T10:00:00.000Z\", \"services\": [{\"service\": \"r\", \"since\": "
                "\"x\"}]}",
                "{\"written\": \"2026-11-21T10:00:00.000Z\", \"services\": [{\"service\": "
                "\"a name that is longer than any service's may be\"}]}"};
        struct ways w;
        char many[4096] = "{\"written\": \"2026-11-21T10:00:00.000Z\", \"services\": [{\"service\": \"x\"}";

        (void)state;
        for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
                if (parse(bad[i], &w) >= 0)
                        fail_msg("taken: %s", bad[i]);
        for (int i = 1; i < WAYS_MAX; i++)
                strcat(many, ",{\"service\": \"x\"}");
        size_t length = strlen(many);
        strcat(many, "]}");
        assert_int_equal(parse(many, &w), 0);
        assert_int_equal(w.count, WAYS_MAX);
        strcpy(many + length, ",{\"service\": \"x\"}]}");
        assert_true(parse(many, &w) < 0);
}

static void fill(struct ways *w, const char *state)
{
        *w = (struct ways){.written_unix_ms = 1790000000000, .count = 1};
        strcpy(w->list[0].service, "repo");
        strcpy(w->list[0].state, state);
        strcpy(w->list[0].summary, "\"quoted\" \x7f and a line\n");
        w->list[0].since_unix_ms = 1780000000000;
}

static void test_save_and_load(void **state)
{
        _cleanup_free_ char *path = path_join(folder, "ways.json");
        struct ways w, again;
        struct error e;

        (void)state;
        assert_int_equal(ways_load(path, &again, &e), -ENOENT);
        fill(&w, "failed");
        assert_int_equal(ways_save(path, &w, &e), 0);
        assert_int_equal(ways_load(path, &again, &e), 0);
        assert_string_equal(again.list[0].summary, w.list[0].summary);
        assert_int_equal(again.list[0].since_unix_ms, w.list[0].since_unix_ms);
        assert_int_equal(again.written_unix_ms, w.written_unix_ms);
}

struct seen {
        bool has_changed;
        unsigned count;
        char state[16];
};

static void on_change(const struct ways *w, void *userdata)
{
        struct seen *s = userdata;

        s->has_changed = true;
        s->count++;
        strcpy(s->state, w->list[0].state);
}

static void save(const char *path, const char *state)
{
        struct ways w;
        struct error e;

        fill(&w, state);
        assert_int_equal(ways_save(path, &w, &e), 0);
}

static void expect_change(sd_event *event, struct seen *s, const char *state, double within_ms)
{
        if (!scaffold_run_until(event, &s->has_changed, within_ms))
                fail_msg("'%s' was not told", state);
        assert_string_equal(s->state, state);
        s->has_changed = false;
}

static void test_watch(void **state)
{
        _cleanup_free_ char *path = path_join(folder, "ways.json"), *other = path_join(folder, "other.json");
        struct ways_watch *watch;
        struct seen s = {0};
        sd_event *event;
        FILE *f;

        (void)state;
        assert_true(sd_event_new(&event) >= 0);
        assert_int_equal(ways_watch_new(event, path, on_change, &s, &watch), 0);
        save(path, "failed");
        expect_change(event, &s, "failed", 500);
        save(path, "ok");
        expect_change(event, &s, "ok", 500);
        /* What cannot be parsed, and what is not it, is not told. */
        save(other, "failed");
        f = fopen(path, "w");
        fputs("{\"written\": ", f);
        fclose(f);
        scaffold_run_for(event, 200);
        assert_false(s.has_changed);
        save(path, "degraded");
        expect_change(event, &s, "degraded", 500);
        ways_watch_free(watch);
        sd_event_unref(event);
}

static void test_folder_that_comes_later_and_goes(void **state)
{
        _cleanup_free_ char *sub = path_join(folder, "run"), *path = path_join(sub, "ways.json");
        unsigned before = scaffold_count_descriptors();
        struct ways_watch *watch;
        struct seen s = {0};
        sd_event *event;

        (void)state;
        assert_true(sd_event_new(&event) >= 0);
        assert_int_equal(ways_watch_new(event, path, on_change, &s, &watch), 0);
        scaffold_run_for(event, 100);
        assert_int_equal(mkdir(sub, 0755), 0);
        save(path, "failed");
        expect_change(event, &s, "failed", 5500);
        save(path, "ok");
        expect_change(event, &s, "ok", 500);
        unlink(path);
        assert_int_equal(rmdir(sub), 0);
        scaffold_run_for(event, 100);
        assert_int_equal(mkdir(sub, 0755), 0);
        save(path, "suspect");
        expect_change(event, &s, "suspect", 5500);
        ways_watch_free(watch);
        sd_event_unref(event);
        assert_int_equal(scaffold_count_descriptors(), before);
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(test_parse), cmocka_unit_test(test_bad),
                cmocka_unit_test_setup_teardown(test_save_and_load, make_folder, remove_folder),
                cmocka_unit_test_setup_teardown(test_watch, make_folder, remove_folder),
                cmocka_unit_test_setup_teardown(
                        test_folder_that_comes_later_and_goes, make_folder, remove_folder)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
