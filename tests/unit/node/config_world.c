#include "config_world.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMERS 4

static struct {
        sd_event_source **of;
        sd_event_time_handler_t callback;
        void *userdata;
        double at_ms; /* < 0: not armed */
} timers[TIMERS];

struct played t;

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

void ways_plan_changed(struct ways_keeper *k)
{
        (void)k;
        t.plan_changes++;
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

void helper_answers(int number)
{
        helper_on_answer on_answer = t.on_answer;
        struct error e = {0};

        assert_non_null(on_answer);
        t.on_answer = NULL;
        if (number)
                error_set(&e, number, "helper.interface", "there is no interface eth1");
        on_answer(-number, &e, t.asker);
}

void notice(int64_t version)
{
        json_t *j = wire_notice_to_json(version);
        _cleanup_free_ char *text = json_to_text(j);

        json_decref(j);
        configurer_notice(t.c, text, strlen(text));
}

void fetch_ends(const char *output)
{
        void (*on_end)(enum wire_end, int, const char *, size_t, void *) = t.on_end;

        assert_non_null(on_end);
        t.on_end = NULL;
        on_end(END_EXITED, 0, output, strlen(output), t.fetcher);
}

void fetched_with(int64_t version, const char *interface, const char *more)
{
        _cleanup_free_ char *text = xasprintf(
                "{\"status\":200,\"config\":{\"schema\":1,\"version\":%lld,\"lan\":[{\"interface\":\"%s\","
                "\"address\":\"10.20.0.2/24\"}]%s}}",
                (long long)version, interface, more);

        fetch_ends(text);
}

void fetched(int64_t version, const char *interface)
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

void pass(double ms)
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

void start_again(double later_ms)
{
        configurer_free(t.c);
        wire_config_done(&t.d.config);
        t.d.config = (struct wire_config){0};
        t.unix_ms += (int64_t)later_ms;
        start();
}

void confirmed(int64_t version, const char *interface)
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

int setup(void **state)
{
        (void)state;
        setup_with("[wan]\ndns = 198.51.100.53\n[lan eth1]\naddress = 10.10.0.2/24\n");
        helper_answers(0);
        return 0;
}

int setup_failing(void **state)
{
        (void)state;
        return setup_with("[wan]\ndns = 198.51.100.53\n[lan eth1]\naddress = 10.10.0.2/24\n");
}

int teardown(void **state)
{
        _cleanup_free_ char *command = xasprintf("rm -rf %s", t.root);

        (void)state;
        configurer_free(t.c);
        wire_config_done(&t.d.config);
        store_close(t.d.store);
        node_settings_done(&t.settings);
        return system(command);
}
