/* How a wanted configuration comes into force, stays, or goes: see config_world.h. */
#include "config_world.h"

#include "base/cleanup.h"
#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void test_into_force_and_confirmed(void **state)
{
        (void)state;
        notice(7);
        assert_int_equal(t.fetches, 1);
        fetched(7, "eth2");
        assert_string_equal(t.asked_interfaces, "eth2 ");
        assert_int_equal(t.told, 0);
        helper_answers(0);
        assert_string_equal(t.state, "applied");
        assert_int_equal(t.version, 7);
        assert_int_equal(t.d.config.version, 7);
        assert_true(t.c->is_candidate);
        notice(7); /* the plane reminds of it */
        pass(61000);
        assert_false(t.c->is_candidate);
        assert_int_equal(t.c->good.version, 7);
        assert_int_equal(t.fetches, 1);
        assert_int_equal(t.asks, 2);
        assert_int_equal(t.events, 0);
        /* It is started from when the plane is away. */
        start_again(3600000);
        assert_string_equal(t.asked_interfaces, "eth2 ");
        helper_answers(0);
        assert_int_equal(t.d.config.version, 7);
        assert_false(t.c->is_candidate);
        assert_string_equal(t.state, "applied");
}

/* A document that says nothing of LANs leaves them to the site file, after a restart as well. */
static void test_a_document_without_lans(void **state)
{
        (void)state;
        notice(7);
        fetch_ends("{\"status\":200,\"config\":{\"schema\":1,\"version\":7,\"schedule\":{\"update\":"
                   "{\"manual\":true,\"reboot\":false}}}}");
        assert_string_equal(t.asked_interfaces, "eth1 ");
        helper_answers(0);
        assert_string_equal(t.state, "applied");
        assert_int_equal(t.d.config.version, 7);
        assert_true(t.d.config.schedule.manual);
        pass(61000);
        assert_int_equal(t.c->good.version, 7);
        start_again(3600000);
        assert_string_equal(t.asked_interfaces, "eth1 ");
        helper_answers(0);
        assert_int_equal(t.d.config.lan_count, 1);
        /* An empty list is another matter. */
        notice(8);
        fetch_ends("{\"status\":200,\"config\":{\"schema\":1,\"version\":8,\"lan\":[]}}");
        assert_string_equal(t.asked_interfaces, "");
        helper_answers(0);
        assert_int_equal(t.d.config.lan_count, 0);
}

static void test_taken_back_and_not_again(void **state)
{
        (void)state;
        confirmed(6, "eth2");
        notice(7);
        fetched(7, "eth3");
        helper_answers(0);
        t.channel = CHANNEL_WAITING;
        pass(61000);
        assert_string_equal(t.state, "taken-back");
        assert_int_equal(t.version, 7);
        assert_int_equal(t.events, 1);
        assert_string_equal(t.asked_interfaces, "eth2 ");
        helper_answers(0);
        assert_int_equal(t.d.config.version, 6);
        t.channel = CHANNEL_CONNECTED;
        notice(7);
        pass(600000);
        assert_int_equal(t.fetches, 2);
        /* Nor after a restart; the next version is another matter. */
        start_again(1000);
        helper_answers(0);
        notice(7);
        assert_int_equal(t.fetches, 0);
        notice(8);
        fetched(8, "eth4");
        helper_answers(0);
        assert_int_equal(t.d.config.version, 8);
}

/* A retry that was armed before it was applied must not bring it back. */
static void test_a_retry_does_not_bring_back_what_was_taken(void **state)
{
        (void)state;
        notice(7);
        fetched(7, "eth2");
        helper_answers(ENODEV); /* retries later */
        notice(7);
        fetched(7, "eth2");
        helper_answers(0);
        t.channel = CHANNEL_WAITING;
        pass(61000);
        helper_answers(0);
        assert_int_equal(t.d.config.version, 0);
        pass(600000);
        assert_int_equal(t.fetches, 2);
        assert_string_equal(t.asked_interfaces, "eth1 ");
}

static void test_taking_back_fails_first(void **state)
{
        (void)state;
        notice(7);
        fetched(7, "eth2");
        helper_answers(0);
        t.channel = CHANNEL_WAITING;
        pass(61000);
        assert_string_equal(t.asked_interfaces, "eth1 ");
        helper_answers(ETIMEDOUT);
        for (int i = 0; i < 5; i++) {
                pass(61000);
                assert_string_equal(t.asked_interfaces, "eth1 ");
                helper_answers(EPIPE);
        }
        pass(61000);
        helper_answers(0);
        assert_int_equal(t.d.config.version, 0);
        assert_int_equal(t.d.config.lan_count, 1);
        assert_string_equal(t.d.config.lans[0].interface, "eth1");
        pass(600000);
        assert_null(t.on_answer);
}

/* The LAN's interface comes after us. */
static void test_the_first_start_fails(void **state)
{
        struct stat st;

        (void)state;
        assert_int_equal(stat(t.settings.effective_path, &st), 0); /* children read it */
        helper_answers(ENODEV);
        assert_int_equal(t.events, 1);
        configurer_network_changed(t.c);
        helper_answers(ENODEV);
        assert_int_equal(t.events, 1); /* said once */
        pass(61000);
        helper_answers(0);
        assert_int_equal(t.d.config.lan_count, 1);
        pass(600000);
        assert_null(t.on_answer);
}

static void test_a_good_one_fails_at_start(void **state)
{
        (void)state;
        helper_answers(0);
        confirmed(7, "eth2");
        start_again(1000);
        helper_answers(ENODEV);
        /* The plane reminds, and it fails again: told; then it is well, and that is told, too. */
        notice(7);
        fetched(7, "eth2");
        helper_answers(ENODEV);
        assert_string_equal(t.state, "failed");
        for (int i = 0; i < 20 && t.d.config.version != 7; i++) {
                pass(5000);
                if (t.on_end)
                        fetch_ends("{\"status\":0,\"error\":\"no way\"}");
                if (t.on_answer)
                        helper_answers(0);
        }
        assert_int_equal(t.d.config.version, 7);
        assert_string_equal(t.state, "applied");
        assert_false(t.c->is_candidate);
        assert_int_equal(t.c->failure_version, 0);
}

static void test_the_network_changes_meanwhile(void **state)
{
        (void)state;
        notice(7);
        fetched(7, "eth2");
        configurer_network_changed(t.c);
        configurer_network_changed(t.c);
        assert_int_equal(t.asks, 2);
        helper_answers(0);
        assert_int_equal(t.asks, 3); /* once more, with what the network is now */
        assert_true(t.c->is_candidate);
        helper_answers(0);
        assert_int_equal(t.asks, 3);
        assert_int_equal(t.d.config.version, 7);
        assert_true(t.c->is_candidate);
        /* The minute is over while the helper is busy. */
        pass(59000);
        configurer_network_changed(t.c);
        t.channel = CHANNEL_WAITING;
        pass(5000);
        assert_string_equal(t.state, "applied");
        helper_answers(0);
        pass(5000);
        assert_string_equal(t.state, "taken-back");
        helper_answers(0);
}

static void test_a_fetch_ends_while_the_helper_is_busy(void **state)
{
        (void)state;
        notice(7);
        configurer_network_changed(t.c);
        fetched(7, "eth2");
        assert_int_equal(t.asks, 2); /* it waits */
        helper_answers(0);
        assert_int_equal(t.d.config.version, 0);
        pass(3000);
        fetched(7, "eth2");
        helper_answers(0);
        assert_int_equal(t.d.config.version, 7);
        assert_true(t.c->is_candidate);
}

static void test_a_notice_during_a_fetch(void **state)
{
        (void)state;
        notice(7);
        notice(8);
        fetched(7, "eth2"); /* as it was */
        assert_int_equal(t.asks, 1);
        pass(3000);
        assert_int_equal(t.fetches, 2);
        fetched(8, "eth3");
        helper_answers(0);
        assert_int_equal(t.d.config.version, 8);
        assert_true(t.c->is_candidate);
        /* One that comes while 8 waits for its minute: what it was fetched over is good. */
        notice(9);
        fetched(9, "eth4");
        assert_int_equal(t.c->good.version, 8);
        helper_answers(0);
        assert_int_equal(t.d.config.version, 9);
        t.channel = CHANNEL_WAITING;
        pass(61000);
        assert_string_equal(t.state, "taken-back");
        assert_string_equal(t.asked_interfaces, "eth3 ");
        helper_answers(0);
        assert_int_equal(t.d.config.version, 8);
}

/* Nothing came over it: it is not good for that. */
static void test_a_fetch_that_fails_confirms_nothing(void **state)
{
        (void)state;
        notice(7);
        fetched(7, "eth2");
        helper_answers(0);
        t.channel = CHANNEL_WAITING;
        notice(8);
        fetch_ends("{\"status\":0,\"error\":\"no way\"}");
        assert_true(t.c->is_candidate);
        for (int i = 0; i < 30 && !t.on_answer; i++) {
                pass(5000);
                if (t.on_end)
                        fetch_ends("{\"status\":0,\"error\":\"no way\"}");
        }
        assert_string_equal(t.asked_interfaces, "eth1 ");
        helper_answers(0);
        assert_int_equal(t.d.config.version, 0);
}

static void test_notices_that_are_none(void **state)
{
        static const char *const bad[] = {
                "", "{", "[]", "{\"schema\":1}", "{\"schema\":1,\"version\":-1}", "\xff"};

        (void)state;
        for (size_t i = 0; i < ELEMENTS(bad); i++)
                configurer_notice(t.c, bad[i], strlen(bad[i]));
        assert_int_equal(t.refused, ELEMENTS(bad));
        assert_int_equal(t.fetches, 0);
}

static void test_the_plane_is_older_now(void **state)
{
        (void)state;
        confirmed(9, "eth2");
        notice(3);
        fetched(3, "eth3");
        helper_answers(0);
        pass(61000);
        assert_int_equal(t.d.config.version, 3);
        assert_int_equal(t.c->good.version, 3);
}

static void test_failures_are_told_with_the_reason(void **state)
{
        (void)state;
        notice(7);
        fetch_ends("{\"status\":0,\"error\":\"control.grid.example: connection refused\"}");
        assert_string_equal(t.state, "failed");
        assert_non_null(strstr(t.error, "connection refused"));
        assert_int_equal(t.events, 0);
        pass(10000);
        fetch_ends("{\"status\":204}");
        assert_int_equal(t.events, 1); /* the second */
        for (int i = 0; i < 10; i++) {
                static const char *const bad[] = {"", "{", "[]", "{\"config\":5}",
                        "{\"config\":{\"schema\":1,\"version\":7,\"unknown\":1}}"};

                pass(310000);
                fetch_ends(bad[i % 5]);
        }
        assert_int_equal(t.events, 1);
        pass(310000);
        fetched(7, "eth2");
        helper_answers(0);
        assert_int_equal(t.events, 2);
        assert_string_equal(t.state, "applied");
        assert_string_equal(t.last_event, "Configuration 7 is applied");
}

static void fails_twice(int64_t version)
{
        notice(version);
        fetch_ends("{\"status\":204}");
        pass(10000);
        fetch_ends("{\"status\":204}");
}

/* A failure that was told goes on being known: it is not told again, and its end is, once. Events are counted
 * from each start on. */
static void test_a_failure_over_restarts(void **state)
{
        (void)state;
        notice(7);
        fetch_ends("{\"status\":204}");
        assert_int_equal(t.events, 0);
        start_again(1000); /* one attempt is none */
        helper_answers(0);
        fails_twice(7);
        assert_int_equal(t.events, 1);
        for (int i = 0; i < 2; i++) {
                start_again(1000);
                helper_answers(0);
                fails_twice(7);
                assert_int_equal(t.events, 0);
        }
        /* Another version that fails is news, and what ends it ends both. */
        fails_twice(8);
        assert_int_equal(t.events, 1);
        start_again(1000);
        helper_answers(0);
        notice(8);
        fetched(8, "eth2");
        helper_answers(0);
        assert_int_equal(t.events, 1);
        assert_string_equal(t.last_event, "Configuration 8 is applied");
        pass(61000);
        start_again(1000);
        helper_answers(0);
        notice(8);
        assert_int_equal(t.events, 0);
}

static void test_a_version_taken_back_and_a_restart(void **state)
{
        (void)state;
        confirmed(6, "eth2");
        notice(7);
        fetched(7, "eth3");
        helper_answers(0);
        t.channel = CHANNEL_WAITING;
        pass(61000);
        helper_answers(0);
        assert_string_equal(t.state, "taken-back");
        assert_int_equal(t.events, 1);
        t.channel = CHANNEL_CONNECTED;
        start_again(1000);
        helper_answers(0);
        notice(7); /* refused once and for all */
        assert_int_equal(t.events, 0);
        notice(8);
        fetched(8, "eth3");
        helper_answers(0);
        assert_int_equal(t.events, 1);
        assert_string_equal(t.last_event, "Configuration 8 is applied");
}

/* The LAN's interface is missing over a restart, and comes then. */
static void test_a_lan_that_fails_over_restarts(void **state)
{
        (void)state;
        helper_answers(ENODEV);
        assert_int_equal(t.events, 1);
        start_again(1000);
        helper_answers(ENODEV);
        assert_int_equal(t.events, 0);
        pass(61000);
        helper_answers(0);
        assert_int_equal(t.events, 1);
        assert_string_equal(t.last_event, "The LANs are up");
        start_again(1000);
        helper_answers(0);
        assert_int_equal(t.events, 0);
        start_again(1000);
        helper_answers(ENODEV); /* another time */
        assert_int_equal(t.events, 1);
}

/* Killed within the minute, again and again: the minute is one minute. */
static void test_a_candidate_over_restarts(void **state)
{
        (void)state;
        confirmed(6, "eth2");
        notice(7);
        fetched(7, "eth3");
        helper_answers(0);
        start_again(30000);
        assert_string_equal(t.asked_interfaces, "eth3 ");
        helper_answers(0);
        assert_true(t.c->is_candidate);
        start_again(25000);
        assert_string_equal(t.asked_interfaces, "eth3 ");
        helper_answers(0);
        start_again(25000); /* 80 s */
        assert_string_equal(t.asked_interfaces, "eth2 ");
        helper_answers(0);
        assert_int_equal(t.d.config.version, 6);
        /* The plane reminds, and it is tried once more. */
        notice(7);
        fetched(7, "eth3");
        helper_answers(0);
        pass(61000);
        assert_int_equal(t.c->good.version, 7);
}

static void test_a_candidate_and_a_clock_set_back(void **state)
{
        (void)state;
        confirmed(6, "eth2");
        notice(7);
        fetched(7, "eth3");
        helper_answers(0);
        start_again(-86400000);
        assert_string_equal(t.asked_interfaces, "eth2 ");
        helper_answers(0);
        assert_int_equal(t.d.config.version, 6);
}

static void test_a_resumed_candidate_is_taken_back(void **state)
{
        (void)state;
        notice(7);
        fetched(7, "eth3");
        helper_answers(0);
        start_again(10000);
        helper_answers(0);
        t.channel = CHANNEL_WAITING;
        pass(45000);
        assert_string_equal(t.state, "applied");
        pass(6000); /* the rest of the minute */
        assert_string_equal(t.state, "taken-back");
        assert_string_equal(t.asked_interfaces, "eth1 ");
        helper_answers(0);
}

static void test_a_resumed_candidate_fails(void **state)
{
        (void)state;
        confirmed(6, "eth2");
        notice(7);
        fetched(7, "eth3");
        helper_answers(0);
        start_again(10000);
        helper_answers(ENODEV);
        assert_string_equal(t.state, "failed");
        for (int i = 0; i < 10 && t.d.config.version != 6; i++) {
                pass(3000);
                if (t.on_end)
                        fetch_ends("{\"status\":0,\"error\":\"no way\"}");
                if (t.on_answer)
                        helper_answers(0);
        }
        assert_int_equal(t.d.config.version, 6); /* the good one, although the plane is away */
}

static void test_dns_servers(void **state)
{
        _cleanup_free_ char *text = NULL;
        size_t length;

        (void)state;
        notice(7);
        fetched_with(7, "eth2", ",\"dns\":[\"203.0.113.53\"],\"transfer\":{\"limit\":\"5Mbit/s\"}");
        t.plan_changes = 0;
        helper_answers(0);
        assert_int_equal(t.dns_changes, 1);
        assert_int_equal(t.plan_changes, 1);
        assert_int_equal(file_read(t.settings.effective_path, 65536, &text, &length, NULL), 0);
        assert_non_null(strstr(text, "dns = 203.0.113.53"));
        assert_non_null(strstr(text, "limit = 5Mbit/s"));
        t.channel = CHANNEL_WAITING;
        pass(61000);
        helper_answers(0);
        assert_int_equal(t.dns_changes, 2);
}

static void test_without_a_helper(void **state)
{
        (void)state;
        t.d.helper = NULL;
        error_set(&t.d.helper_problem, EPIPE, "helper.missing", "gridnode-helper is not there");
        notice(7);
        fetched(7, "eth2");
        assert_string_equal(t.state, "failed");
        assert_string_equal(t.error, "gridnode-helper is not there");
        assert_int_equal(t.d.config.version, 0);
        notice(8);
        fetch_ends("{\"status\":200,\"config\":{\"schema\":1,\"version\":8,\"lan\":[],\"dns\":[\"203.0.113."
                   "53\"]}}");
        assert_int_equal(t.d.config.version, 8); /* which needs none */
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {TEST(test_into_force_and_confirmed),
                TEST(test_a_document_without_lans), TEST(test_taken_back_and_not_again),
                TEST(test_a_retry_does_not_bring_back_what_was_taken), TEST(test_taking_back_fails_first),
                cmocka_unit_test_setup_teardown(test_the_first_start_fails, setup_failing, teardown),
                cmocka_unit_test_setup_teardown(test_a_good_one_fails_at_start, setup_failing, teardown),
                TEST(test_the_network_changes_meanwhile), TEST(test_a_fetch_ends_while_the_helper_is_busy),
                TEST(test_a_notice_during_a_fetch), TEST(test_a_fetch_that_fails_confirms_nothing),
                TEST(test_notices_that_are_none), TEST(test_the_plane_is_older_now),
                TEST(test_failures_are_told_with_the_reason), TEST(test_a_failure_over_restarts),
                TEST(test_a_version_taken_back_and_a_restart),
                cmocka_unit_test_setup_teardown(test_a_lan_that_fails_over_restarts, setup_failing, teardown),
                TEST(test_a_candidate_over_restarts), TEST(test_a_candidate_and_a_clock_set_back),
                TEST(test_a_resumed_candidate_is_taken_back), TEST(test_a_resumed_candidate_fails),
                TEST(test_dns_servers), TEST(test_without_a_helper)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
