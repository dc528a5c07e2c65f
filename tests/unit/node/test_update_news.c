#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "node/update_news.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOW INT64_C(1795230000000)

static struct update_state begun(enum update_action action, const char *by)
{
        struct update_state s = {.job = {.action = action, .channel = "stable"},
                .started_unix_ms = NOW,
                .version_from = "0.1.0",
                .eta_ms = -1};

        strcpy(s.job.id, "u-1");
        strcpy(s.job.by, by);
        return s;
}

/* All that is told at this moment, "I:started|W:…", with what was told kept as the store keeps it. */
static const char *told_at(struct update_told *told, const struct update_state *s, int64_t now)
{
        static char all[2048];
        struct update_news n;

        all[0] = 0;
        for (int i = 0; i < 10 && update_news(told, s, now, &n); i++) {
                json_t *j = update_told_to_json(&n.told);
                _cleanup_free_ char *text = json_to_text(j);
                json_t *again;

                snprintf(all + strlen(all), sizeof all - strlen(all), "%s%c:%s", all[0] ? "|" : "",
                        wire_severity_to_string(n.severity)[0], n.message);
                free(n.message);
                json_decref(j);
                /* As a daemon that is started anew has it. */
                again = json_loads(text, 0, NULL);
                update_told_from_json(again, told);
                json_decref(again);
        }
        return all;
}

static void test_life(void **state)
{
        struct update_state s = begun(UPDATE_NOW, "local:anna");
        struct update_package packages[] = {{"openssl", "1", "2", true, 10}, {"libc6", "1", "2", true, 10}};
        struct update_told told = {0};

        (void)state;
        assert_string_equal(told_at(&told, &s, NOW), "I:Software update started, asked for by local:anna");
        assert_string_equal(told_at(&told, &s, NOW + 1000), "");
        s.steps[STEP_DOWNLOAD].state = STEP_WAITING;
        s.bytes = 100;
        s.waiting_since_unix_ms = NOW + 2000;
        strcpy(s.waiting_for, "443 to repo.grid.example is dropped after 192.0.2.1");
        assert_string_equal(told_at(&told, &s, NOW + 3000), "");
        assert_string_equal(told_at(&told, &s, NOW + 7000),
                "W:Software update waits since 2026-11-21T03:00:02.000Z: 443 to repo.grid.example is dropped "
                "after 192.0.2.1");
        assert_string_equal(told_at(&told, &s, NOW + 60000), "");
        /* It tries again, and waits again: no news. */
        s.waiting_since_unix_ms = 0;
        s.steps[STEP_DOWNLOAD].state = STEP_RUNNING;
        assert_string_equal(told_at(&told, &s, NOW + 60100), "");
        s.waiting_since_unix_ms = NOW + 60200;
        assert_string_equal(told_at(&told, &s, NOW + 60900), "");
        s.waiting_since_unix_ms = 0;
        s.bytes = 101;
        s.way = 8443;
        assert_string_equal(told_at(&told, &s, NOW + 61000), "I:Software update goes on by 8443");
        /* A way that comes and goes is not told each time. */
        s.waiting_since_unix_ms = NOW + 62000;
        assert_string_equal(told_at(&told, &s, NOW + 70000), "");
        assert_string_not_equal(told_at(&told, &s, NOW + 123000), "");
        s.waiting_since_unix_ms = 0;
        s.steps[STEP_DOWNLOAD].state = STEP_DONE;
        s.steps[STEP_KEEP].state = STEP_RUNNING;
        s.way = 443;
        assert_string_equal(told_at(&told, &s, NOW + 124000), "I:Software update goes on by 443");
        s.status = UPDATE_COMPLETED;
        s.ended_unix_ms = NOW + 200000;
        strcpy(s.version_to, "0.2.0");
        s.packages = packages;
        s.package_count = 2;
        assert_string_equal(told_at(&told, &s, NOW + 200000),
                "I:Software update completed: 0.1.0 → 0.2.0, 2 security packages");
        assert_string_equal(told_at(&told, &s, NOW + 300000), "");
        /* The next one is another. */
        strcpy(s.job.id, "u-2");
        s.status = UPDATE_FAILED;
        strcpy(s.error, "the new version did not reach the control plane; 0.1.0 was put back");
        assert_string_equal(told_at(&told, &s, NOW + 400000),
                "I:Software update started, asked for by local:anna|E:Software update failed: the new "
                "version "
                "did not reach the control plane; 0.1.0 was put back");
}

/* The daemon was replaced by what it tells of: it began and ended unseen, or only its end was. */
static void test_ended_while_nobody_looked(void **state)
{
        struct update_state s = begun(UPDATE_NOW, "upgrade:g-1");
        struct update_told told = {0};

        (void)state;
        s.status = UPDATE_COMPLETED;
        strcpy(s.version_to, "0.2.0");
        assert_string_equal(told_at(&told, &s, NOW),
                "I:Software update started, asked for by upgrade:g-1|I:Software update completed: 0.1.0 → "
                "0.2.0");
        assert_string_equal(told_at(&told, &s, NOW), "");
        told = (struct update_told){.id = "u-1", .phase = PHASE_WAITS};
        assert_string_equal(told_at(&told, &s, NOW), "I:Software update completed: 0.1.0 → 0.2.0");
        /* Of another update it was told all. */
        told = (struct update_told){.id = "u-0", .phase = PHASE_ENDED};
        assert_string_not_equal(told_at(&told, &s, NOW), "");
}

/* Each night thousands of nodes find nothing to do. */
static void test_nobody_asked_and_nothing_to_do(void **state)
{
        struct update_state s = begun(UPDATE_NOW, "schedule");
        struct update_told told = {0};

        (void)state;
        assert_string_equal(told_at(&told, &s, NOW), "");
        s.status = UPDATE_COMPLETED;
        assert_string_equal(told_at(&told, &s, NOW), "");
        s = begun(UPDATE_NOW, "schedule");
        strcpy(s.job.id, "u-2");
        strcpy(s.version_to, "0.2.0");
        assert_string_equal(told_at(&told, &s, NOW), "I:Software update started, asked for by schedule");
        s = begun(UPDATE_NOW, "schedule");
        strcpy(s.job.id, "u-3");
        s.waiting_since_unix_ms = NOW;
        strcpy(s.waiting_code, "tcp.dropped");
        assert_string_equal(told_at(&told, &s, NOW + 5000),
                "I:Software update started, asked for by schedule|W:Software update waits since "
                "2026-11-21T03:00:00.000Z: tcp.dropped");
}

static void test_looking_is_not_told(void **state)
{
        static const enum update_action actions[] = {UPDATE_CHECK, UPDATE_DRY_RUN};
        struct update_told told = {0};

        (void)state;
        for (size_t i = 0; i < ELEMENTS(actions); i++) {
                struct update_state s = begun(actions[i], "local:anna");

                s.waiting_since_unix_ms = NOW;
                assert_string_equal(told_at(&told, &s, NOW + 60000), "");
                s.status = UPDATE_FAILED;
                assert_string_equal(told_at(&told, &s, NOW + 60000), "");
        }
        /* A download ahead that goes well is none of anybody's business, one that fails is. */
        struct update_state s = begun(UPDATE_DOWNLOAD, "schedule");

        strcpy(s.version_to, "0.2.0");
        assert_string_equal(told_at(&told, &s, NOW), "");
        s.status = UPDATE_COMPLETED;
        assert_string_equal(told_at(&told, &s, NOW), "");
        s.status = UPDATE_FAILED;
        strcpy(s.error, "no room on disk");
        assert_string_equal(told_at(&told, &s, NOW),
                "I:Download of an update started, asked for by schedule|E:Download of an update failed: no "
                "room on disk");
}

static void test_told_of_anything(void **state)
{
        static const char *const odd[] = {"[]", "{}", "{\"id\":7}", "{\"id\":\"../x\",\"phase\":\"ended\"}",
                "{\"id\":\"u-1\",\"phase\":[]}"};
        struct update_told told;

        (void)state;
        update_told_from_json(NULL, &told);
        assert_int_equal(told.phase, PHASE_NONE);
        for (size_t i = 0; i < ELEMENTS(odd); i++) {
                json_t *j = json_loads(odd[i], 0, NULL);

                update_told_from_json(j, &told);
                assert_int_equal(told.phase, PHASE_NONE);
                json_decref(j);
        }
}

/* The largest that a state can be is an event that the plane takes, with the end of the log. */
static void test_largest(void **state)
{
        struct update_state s = begun(UPDATE_NOW, "local:anna");
        struct wire_event e = {.seq = 1, .generated_unix_ms = NOW}, back;
        _cleanup_free_ char *text = NULL;
        struct error error = {0};
        const char *log;
        json_t *j;

        (void)state;
        s.packages = xcalloc(UPDATE_MAX_PACKAGES, sizeof *s.packages);
        s.package_count = UPDATE_MAX_PACKAGES;
        for (size_t i = 0; i < UPDATE_MAX_PACKAGES; i++) {
                memset(s.packages[i].name, 'a', 60);
                memset(s.packages[i].from, '1', 40);
                memset(s.packages[i].to, '2', 40);
        }
        for (size_t i = 0; i < UPDATE_STEPS; i++) {
                s.steps[i].state = STEP_DONE;
                memset(s.steps[i].text, '"', sizeof s.steps[i].text - 1);
        }
        memset(s.error, '"', sizeof s.error - 1);
        s.log = xcalloc((32 << 10) + 1, 1);
        for (size_t i = 0; i < 32 << 10; i++)
                s.log[i] = i % 64 == 63 ? '\n' : '"';
        memcpy(s.log + (32 << 10) - 5, "last\n", 5);
        strcpy(e.epoch, "e-1");
        e.name = xstrdup(EVENT_UPDATE);
        e.message = xstrdup("completed");
        e.update = update_for_event(&s);
        j = wire_event_to_json(&e);
        text = json_to_text(j);
        json_decref(j);
        if (wire_event_parse(text, strlen(text), &back, &error) < 0)
                fail_msg("%s", error.text);
        wire_event_done(&back);
        json_decref(e.update);

        /* With a list of usual length the log stays, from the beginning of a line on. */
        s.package_count = 20;
        e.update = update_for_event(&s);
        log = json_string_value(json_object_get(e.update, "log"));
        assert_non_null(log);
        assert_true(strlen(log) > 8000 && str_ends_with(log, "last\n"));
        assert_int_equal(json_array_size(json_object_get(e.update, "packages")), 20);
        wire_event_done(&e);
        free(s.packages);
        free(s.log);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_life),
                cmocka_unit_test(test_ended_while_nobody_looked),
                cmocka_unit_test(test_nobody_asked_and_nothing_to_do),
                cmocka_unit_test(test_looking_is_not_told),
                cmocka_unit_test(test_told_of_anything),
                cmocka_unit_test(test_largest),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
