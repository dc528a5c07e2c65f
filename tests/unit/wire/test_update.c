#include "wire/update.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

static void fill(struct update_state *s)
{
        *s = (struct update_state){.job = {.action = UPDATE_NOW, .reboot = true},
                .status = UPDATE_IN_PROGRESS,
                .started_unix_ms = 1790000000123,
                .waiting_since_unix_ms = 1790000001000,
                .way = 8443,
                .bytes = 1000,
                .size = 1u << 31,
                .bytes_per_second = 1234.5,
                .needs_bytes = 5,
                .free_bytes = 1ULL << 40,
                .eta_ms = 61000,
                .restart_needed = true};
        strcpy(s->job.id, "u-1");
        strcpy(s->job.channel, "stable");
        strcpy(s->job.by, "local:root");
        strcpy(s->version_from, "0.1.0");
        strcpy(s->version_to, "0.2.0");
        strcpy(s->waiting_code, "tcp.dropped");
        strcpy(s->waiting_for, "443 to repo.grid.example is dropped after 192.0.2.1");
        s->steps[STEP_PREPARE] = (struct update_step){
                .state = STEP_DONE, .from_unix_ms = 1790000000200, .to_unix_ms = 1790000000300};
        s->steps[STEP_DOWNLOAD] = (struct update_step){.state = STEP_WAITING, .from_unix_ms = 1790000000400};
        strcpy(s->steps[STEP_DOWNLOAD].text, "quote \" back \\ slash, e\xcc\x81");
        s->packages = xcalloc(2, sizeof(*s->packages));
        s->package_count = 2;
        strcpy(s->packages[0].name, "gridnode");
        strcpy(s->packages[0].from, "0.1.0");
        strcpy(s->packages[0].to, "0.2.0");
        s->packages[0].bytes = 123456;
        strcpy(s->packages[1].name, "libssl3");
        strcpy(s->packages[1].to, "3.0.15-1~deb12u1");
        s->packages[1].security = true;
        s->log = xstrdup("line\nline\n");
}

static void test_round_trip(void **state)
{
        struct update_state s, again = {0};
        struct error e;

        (void)state;
        fill(&s);
        json_auto_t *j = update_state_to_json(&s);
        _cleanup_free_ char *text = json_to_text(j);
        if (update_state_parse(text, strlen(text), &again, &e) < 0)
                fail_msg("%s", e.text);
        json_auto_t *second = update_state_to_json(&again);
        if (!json_equal(j, second)) {
                _cleanup_free_ char *other = json_to_text(second);
                fail_msg("%s\n%s", text, other);
        }
        assert_string_equal(again.steps[STEP_DOWNLOAD].text, s.steps[STEP_DOWNLOAD].text);
        assert_int_equal(again.steps[STEP_DOWNLOAD].state, STEP_WAITING);
        assert_int_equal(again.steps[STEP_RESTORE].state, STEP_PENDING);
        assert_int_equal(again.package_count, 2);
        assert_true(again.packages[1].security);
        assert_int_equal(again.size, 1u << 31);
        assert_int_equal(again.way, 8443);
        assert_string_equal(again.log, "line\nline\n");
        assert_ptr_equal(update_running_step(&again), &again.steps[STEP_DOWNLOAD]);
        update_state_done(&s);
        update_state_done(&again);
}

/* Each prefix of a right one, and each with one byte changed, is refused or taken, and nothing else. */
static void test_damaged(void **state)
{
        struct update_state s;
        struct error e;

        (void)state;
        fill(&s);
        json_auto_t *j = update_state_to_json(&s);
        _cleanup_free_ char *text = json_to_text(j);
        size_t length = strlen(text);
        for (size_t i = 0; i < length; i++) {
                struct update_state got = {0};
                _cleanup_free_ char *changed = xstrdup(text);

                assert_true(update_state_parse(text, i, &got, &e) < 0);
                changed[i] = '\x01';
                if (update_state_parse(changed, length, &got, &e) >= 0)
                        update_state_done(&got);
        }
        update_state_done(&s);
}

static void test_too_many_packages(void **state)
{
        struct update_state s, got = {0};
        struct error e;

        (void)state;
        fill(&s);
        json_auto_t *j = update_state_to_json(&s);
        json_t *list = json_object_get(j, "packages"), *one = json_array_get(list, 0);
        assert_non_null(one);
        while (json_array_size(list) <= UPDATE_MAX_PACKAGES)
                json_array_append(list, one);
        assert_true(update_state_from_json(j, &got, &e) < 0);
        json_array_remove(list, 0);
        assert_int_equal(update_state_from_json(j, &got, &e), 0);
        assert_int_equal(got.package_count, UPDATE_MAX_PACKAGES);
        update_state_done(&got);
        update_state_done(&s);
}

static void test_jobs(void **state)
{
        static const char *const bad[] = {"", "Stable", "st able", "../x", "-o", "a/b", "stable\n",
                "a-name-that-is-far-too-long-for-a-channel"};
        struct update_job job = {.action = UPDATE_DOWNLOAD, .again = true}, got;
        struct error e;

        (void)state;
        strcpy(job.id, "u-7");
        strcpy(job.channel, "testing");
        strcpy(job.by, "upgrade:42");
        json_auto_t *j = update_job_to_json(&job);
        assert_int_equal(update_job_from_json(j, &got, &e), 0);
        assert_int_equal(got.action, UPDATE_DOWNLOAD);
        assert_true(got.again);
        assert_string_equal(got.by, "upgrade:42");
        for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
                assert_false(update_channel_is_valid(bad[i]));
                json_object_set_new(j, "channel", json_string(bad[i]));
                assert_true(update_job_from_json(j, &got, &e) < 0);
        }
        json_object_set_new(j, "channel", json_string("stable"));
        json_object_set_new(j, "by", json_string("line\nbreak"));
        assert_true(update_job_from_json(j, &got, &e) < 0);
        for (int a = 0; a <= UPDATE_NOW; a++) {
                enum update_action back;

                assert_int_equal(
                        update_action_from_string(update_action_to_string((enum update_action)a), &back), 0);
                assert_int_equal(back, a);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip), cmocka_unit_test(test_damaged),
                cmocka_unit_test(test_too_many_packages), cmocka_unit_test(test_jobs)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
