/* How a wanted configuration comes into force, stays, or goes. Helper, channel, children and timers are
 * played, so that everything can happen in any order; time passes when the test says so. */
#include "node/daemon_config_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TIMERS 4

static struct {
        sd_event_source **of;
        sd_event_time_handler_t callback;
        void *userdata;
        double at_ms; /* < 0: not armed */
} timers[TIMERS];

static struct {
        char root[64];
        struct node_settings settings;
        struct daemon d;
        struct configurer *c;
        double now_ms;
        int64_t unix_ms;
        enum channel_state channel;
        /* what was asked of the helper, and not answered yet */
        helper_on_answer on_answer;
        void *asker;
        int asks, asks_open;
        char asked_interfaces[128];
        /* the fetch that runs */
        void (*on_end)(enum wire_end end, int status, const char *output, size_t length, void *userdata);
        void *fetcher;
        int fetches;
        /* what was told */
        char state[16], error[256], last_event[512];
        int64_t version;
        int told, events, dns_changes, refused;
} t;

/* ---- played ---- */

double daemon_now_ms(const struct daemon *d)
{
        (void)d;
        return t.now_ms;
}

int64_t daemon_unix_ms(void)
{
        return t.unix_ms;
}

void daemon_arm(struct daemon *d, sd_event_source **source, double delay_ms, sd_event_time_handler_t callback,
        void *userdata)
{
        size_t i = 0;

        (void)d;
        assert_true(delay_ms > 0);
        while (i < TIMERS - 1 && timers[i].of && timers[i].of != source)
                i++;
        assert_true(!timers[i].of || timers[i].of == source);
        timers[i].of = source;
        timers[i].callback = callback;
        timers[i].userdata = userdata;
        timers[i].at_ms = t.now_ms + delay_ms;
}

int daemon_start_verb(struct daemon *d, const char *const *words, double timeout_ms,
        void (*on_end)(enum wire_end end, int status, const char *output, size_t length, void *userdata),
        void *userdata, struct child **ret)
{
        (void)d;
        (void)timeout_ms;
        assert_string_equal(words[0], "config");
        assert_null(t.on_end); /* one at a time */
        t.on_end = on_end;
        t.fetcher = userdata;
        t.fetches++;
        *ret = (struct child *)&t;
        return 0;
}

struct child *child_free(struct child *c)
{
        if (c)
                t.on_end = NULL;
        return NULL;
}

const struct inet_addr *daemon_dns(const struct daemon *d, size_t *ret_count)
{
        const struct site *s = d->settings->site;

        *ret_count = d->config.dns_count ? d->config.dns_count : s->wan.dns_count;
        return d->config.dns_count ? d->config.dns : s->wan.dns;
}

void daemon_tell(struct daemon *d, const char *name, enum wire_severity severity, const char *service,
        const json_t *diagnosis, const char *format, ...)
{
        va_list arguments;

        (void)d;
        (void)severity;
        (void)service;
        (void)diagnosis;
        assert_string_equal(name, EVENT_CONFIGURATION);
        va_start(arguments, format);
        vsnprintf(t.last_event, sizeof t.last_event, format, arguments);
        va_end(arguments);
        t.events++;
}

void daemon_refuse(struct daemon *d, const struct error *e)
{
        (void)d;
        assert_true(e->text[0]);
        t.refused++;
}

void watch_dns_changed(struct watch *w)
{
        (void)w;
        t.dns_changes++;
}

size_t reach_known_addresses(const struct reach *r, struct inet_addr ret[DAEMON_MAX_ADDRESSES])
{
        (void)r;
        (void)ret;
        return 0;
}

void channel_view(const struct channel *c, struct channel_view *ret)
{
        (void)c;
        *ret = (struct channel_view){.state = t.channel};
}

int channel_publish(struct channel *c, enum topic_kind kind, const char *request, const json_t *payload)
{
        const char *error = json_string_value(json_object_get(payload, "error"));

        (void)c;
        (void)request;
        assert_int_equal(kind, TOPIC_CONFIG_APPLIED);
        str_copy(t.state, sizeof t.state, json_string_value(json_object_get(payload, "state")));
        str_copy(t.error, sizeof t.error, error ? error : "");
        t.version = json_integer_value(json_object_get(payload, "version"));
        t.told++;
        return 0;
}

int helper_client_ask(
        struct helper_client *c, const struct helper_request *r, helper_on_answer on_answer, void *userdata)
{
        (void)c;
        assert_int_equal(r->operation, HELPER_NETWORK_APPLY);
        assert_null(t.on_answer); /* else one's answer is taken for the other's */
        t.on_answer = on_answer;
        t.asker = userdata;
        t.asks++;
        t.asked_interfaces[0] = 0;
        for (size_t i = 0; i < r->network.up_count; i++) {
                strcat(t.asked_interfaces, r->network.up[i]);
                strcat(t.asked_interfaces, " ");
        }
        return 0;
}

/* ---- what happens ---- */

static void helper_answers(int number)
{
        helper_on_answer on_answer = t.on_answer;
        struct error e = {0};

        assert_non_null(on_answer);
        t.on_answer = NULL;
        if (number)
                error_set(&e, number, "helper.interface", "there is no interface eth1");
        on_answer(-number, &e, t.asker);
}

static void notice(int64_t version)
{
        json_t *j = wire_notice_to_json(version);
        _cleanup_free_ char *text = json_to_text(j);

        json_decref(j);
        configurer_notice(t.c, text, strlen(text));
}

static void fetch_ends(const char *output)
{
        void (*on_end)(enum wire_end, int, const char *, size_t, void *) = t.on_end;

        assert_non_null(on_end);
        t.on_end = NULL;
        on_end(END_EXITED, 0, output, strlen(output), t.fetcher);
}

/* The document of `version`, with a LAN on `interface`. */
static void fetched_with(int64_t version, const char *interface, const char *more)
{
        _cleanup_free_ char *text = xasprintf(
                "{\"status\":200,\"config\":{\"schema\":1,\"version\":%lld,\"lan\":[{\"interface\":\"%s\","
                "\"address\":\"10.20.0.2/24\"}]%s}}",
                (long long)version, interface, more);

        fetch_ends(text);
}

static void fetched(int64_t version, const char *interface)
{
        fetched_with(version, interface, "");
}

static int next_timer(void)
{
        int found = -1;

        for (int i = 0; i < TIMERS; i++)
                if (timers[i].of && timers[i].at_ms >= 0 &&
                        (found < 0 || timers[i].at_ms < timers[found].at_ms))
                        found = i;
        return found;
}

/* Timers that fall due within it fire in their order. */
static void pass(double ms)
{
        double until_ms = t.now_ms + ms;

        for (int i; (i = next_timer()) >= 0 && timers[i].at_ms <= until_ms;) {
                t.unix_ms += (int64_t)(timers[i].at_ms - t.now_ms);
                t.now_ms = timers[i].at_ms;
                timers[i].at_ms = -1;
                timers[i].callback(NULL, 0, timers[i].userdata);
        }
        t.unix_ms += (int64_t)(until_ms - t.now_ms);
        t.now_ms = until_ms;
}

static void start(void)
{
        memset(timers, 0, sizeof timers);
        t.on_answer = NULL;
        t.on_end = NULL;
        t.asks = t.fetches = t.told = t.events = 0;
        assert_int_equal(configurer_new(&t.d, &t.c), 0);
        t.d.configurer = t.c;
        configurer_start(t.c);
}

/* As kill -9 leaves it. */
static void start_again(double later_ms)
{
        configurer_free(t.c);
        wire_config_done(&t.d.config);
        t.d.config = (struct wire_config){0};
        t.unix_ms += (int64_t)later_ms;
        start();
}

static void confirmed(int64_t version, const char *interface)
{
        notice(version);
        fetched(version, interface);
        helper_answers(0);
        pass(61000);
}

/* ---- around a test ---- */

static int setup_with(const char *site)
{
        _cleanup_free_ char *command = NULL, *path = NULL, *db = NULL, *note = NULL;
        struct store_limits limits = {0};
        struct error e = {0};

        memset(&t, 0, sizeof t);
        t.unix_ms = INT64_C(1795230120000);
        t.channel = CHANNEL_CONNECTED;
        strcpy(t.root, "/tmp/gridnode-test-config-XXXXXX");
        assert_non_null(mkdtemp(t.root));
        command = xasprintf("mkdir -p %s/etc/gridnode %s/var/lib/gridnode", t.root, t.root);
        assert_int_equal(system(command), 0);
        path = xasprintf("%s/etc/gridnode/site.conf", t.root);
        assert_int_equal(file_save(path, site, strlen(site), 0644, &e), 0);
        if (node_settings_load(t.root, NULL, &t.settings, &e) < 0)
                fail_msg("%s", e.text);
        db = xasprintf("%s/var/lib/gridnode/state.db", t.root);
        assert_int_equal(store_open(db, &limits, &t.d.store, &note, &e), 0);
        t.d.settings = &t.settings;
        t.d.helper = (struct helper_client *)&t;
        str_copy(t.d.wan_interface, sizeof t.d.wan_interface, "eth0");
        start();
        return 0;
}

static int setup(void **state)
{
        (void)state;
        setup_with("[wan]\ndns = 198.51.100.53\n[lan eth1]\naddress = 10.10.0.2/24\n");
        helper_answers(0);
        return 0;
}

static int setup_failing(void **state)
{
        (void)state;
        return setup_with("[wan]\ndns = 198.51.100.53\n[lan eth1]\naddress = 10.10.0.2/24\n");
}

static int teardown(void **state)
{
        _cleanup_free_ char *command = xasprintf("rm -rf %s", t.root);

        (void)state;
        configurer_free(t.c);
        wire_config_done(&t.d.config);
        store_close(t.d.store);
        node_settings_done(&t.settings);
        return system(command);
}

/* ---- tests ---- */

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
        fetched_with(7, "eth2", ",\"dns\":[\"203.0.113.53\"]");
        helper_answers(0);
        assert_int_equal(t.dns_changes, 1);
        assert_int_equal(file_read(t.settings.effective_path, 65536, &text, &length, NULL), 0);
        assert_non_null(strstr(text, "dns = 203.0.113.53"));
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
        fetch_ends("{\"status\":200,\"config\":{\"schema\":1,\"version\":8,\"dns\":[\"203.0.113.53\"]}}");
        assert_int_equal(t.d.config.version, 8); /* which needs none */
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {TEST(test_into_force_and_confirmed),
                TEST(test_taken_back_and_not_again), TEST(test_a_retry_does_not_bring_back_what_was_taken),
                TEST(test_taking_back_fails_first),
                cmocka_unit_test_setup_teardown(test_the_first_start_fails, setup_failing, teardown),
                cmocka_unit_test_setup_teardown(test_a_good_one_fails_at_start, setup_failing, teardown),
                TEST(test_the_network_changes_meanwhile), TEST(test_a_fetch_ends_while_the_helper_is_busy),
                TEST(test_a_notice_during_a_fetch), TEST(test_a_fetch_that_fails_confirms_nothing),
                TEST(test_notices_that_are_none), TEST(test_the_plane_is_older_now),
                TEST(test_failures_are_told_with_the_reason), TEST(test_a_candidate_over_restarts),
                TEST(test_a_candidate_and_a_clock_set_back), TEST(test_a_resumed_candidate_is_taken_back),
                TEST(test_a_resumed_candidate_fails), TEST(test_dns_servers), TEST(test_without_a_helper)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
