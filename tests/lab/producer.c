/* producer ROOT LOG FROM WAITING: a node's store and channel without the rest of the daemon. It adds numbered
 * events, and a report now and then, as fast as the store takes them while no more than WAITING wait (0: adds
 * none), and writes each number to LOG once the store has it. The first gets the number FROM: a number that
 * was lost, or given twice, ends it. For test_kill.py, which kills it. */
#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "node/channel.h"
#include "node/netwatch.h"
#include "node/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TICK_US      2000
#define AT_ONCE_MAX  4 /* events in one transaction */
#define REPORT_EVERY 25

struct producer {
        sd_event *event;
        struct store *store;
        struct channel *channel;
        struct netwatch *netwatch;
        const struct profile_service *service;
        int log;
        int64_t next, waiting;
};

static int64_t now_unix_ms(void)
{
        struct timespec t;

        clock_gettime(CLOCK_REALTIME, &t);
        return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static _Noreturn void fail(const char *what, const struct error *e)
{
        log_event(LOG_LEVEL_ERROR, what, "reason", e->text, NULL);
        exit(EXIT_FAILURE);
}

/* One write for each transaction: a number is in the log whole or not at all. */
static void write_numbers(struct producer *p, int64_t first, int64_t last)
{
        char text[(AT_ONCE_MAX + 1) * 24];
        int length = 0;

        for (int64_t n = first; n <= last; n++)
                length += snprintf(text + length, sizeof text - (size_t)length, "%lld\n", (long long)n);
        if (write(p->log, text, (size_t)length) != length)
                abort();
}

static void add_some(struct producer *p)
{
        struct wire_event events[AT_ONCE_MAX] = {0};
        struct wire_report report = {.generated_unix_ms = now_unix_ms()};
        bool has_report = p->next % REPORT_EVERY == 0;
        size_t count = 1 + (size_t)p->next % AT_ONCE_MAX;
        int64_t number = p->next;
        struct error e = {0};

        if (has_report) {
                report.trigger = strdup("monitor");
                report.report = json_pack("{s:s, s:s, s:I}", "verdict", "healthy", "summary", "numbered",
                        "number", (json_int_t)number++);
        }
        for (size_t i = 0; i < count; i++) {
                char text[40];

                snprintf(text, sizeof text, "number %lld", (long long)number++);
                events[i].generated_unix_ms = now_unix_ms();
                events[i].name = strdup("Numbered");
                events[i].message = strdup(text);
        }
        if (store_add(p->store, has_report ? &report : NULL, events, count, now_unix_ms(), &e) < 0)
                fail("cannot add", &e);
        if ((has_report ? report.seq : events[0].seq) != p->next || events[count - 1].seq != number - 1) {
                error_set(&e, EBADMSG, "number", "%lld to %lld got the numbers %lld to %lld",
                        (long long)p->next, (long long)number - 1,
                        (long long)(has_report ? report.seq : events[0].seq),
                        (long long)events[count - 1].seq);
                fail("the store's numbers are wrong", &e);
        }
        write_numbers(p, p->next, number - 1);
        p->next = number;
        for (size_t i = 0; i < count; i++)
                wire_event_done(&events[i]);
        wire_report_done(&report);
        channel_outbox_changed(p->channel);
}

static int on_tick(sd_event_source *source, uint64_t at_us, void *userdata)
{
        struct producer *p = userdata;

        (void)at_us;
        if (store_waiting(p->store) < p->waiting)
                add_some(p);
        sd_event_source_set_time_relative(source, TICK_US);
        sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
        return 0;
}

static void on_resolve(void *userdata)
{
        struct producer *p = userdata;

        channel_set_addresses(p->channel, p->service->addresses, p->service->address_count);
}

static void on_change(void *userdata)
{
        struct producer *p = userdata;

        channel_network_changed(p->channel, NULL);
}

static void on_state(enum channel_state state, const struct error *why, void *userdata)
{
        (void)userdata;
        log_event(LOG_LEVEL_INFO, channel_state_to_string(state), "reason", why ? why->text : NULL, NULL);
}

static void make_channel(struct producer *p, const struct node_settings *s)
{
        struct channel_options o = {.event = p->event,
                .store = p->store,
                .node = s->node,
                .host = p->service->host,
                .port = p->service->port,
                .root_ca_path = s->profile->root_ca_path,
                .certificate_path = s->site->certificate_path,
                .key_path = s->site->key_path};
        struct channel_handlers h = {.on_resolve = on_resolve, .on_state = on_state, .userdata = p};

        p->channel = channel_new(&o, &h);
        on_resolve(p);
        channel_start(p->channel);
}

static void make_loop(struct producer *p)
{
        sigset_t mask;

        sigemptyset(&mask);
        sigaddset(&mask, SIGTERM);
        sigprocmask(SIG_BLOCK, &mask, NULL);
        signal(SIGPIPE, SIG_IGN);
        if (sd_event_new(&p->event) < 0 || sd_event_add_signal(p->event, NULL, SIGTERM, NULL, NULL) < 0 ||
                sd_event_add_time_relative(p->event, NULL, CLOCK_MONOTONIC, TICK_US, 100, on_tick, p) < 0 ||
                netwatch_new(p->event, on_change, p, &p->netwatch) < 0)
                abort();
}

static void open_store(struct producer *p, const struct node_settings *s)
{
        _cleanup_free_ char *path = path_join(s->paths.state, "state.db"), *note = NULL;
        /* All of it stays in the history: that is what the plane's is held against. */
        struct store_limits limits = {.outbox_bytes = INT32_MAX, .history_count = INT32_MAX, .free_bytes = 1};
        struct error e = {0};

        if (store_open(path, &limits, &p->store, &note, &e) < 0)
                fail("cannot open the store", &e);
        if (note)
                log_text(LOG_LEVEL_ERROR, "%s", note);
}

int main(int argc, char **argv)
{
        struct node_settings settings = {0};
        struct producer p = {.log = -1};
        struct error e = {0};

        if (argc != 5)
                return 64;
        log_open("producer", LOG_LEVEL_INFO);
        if (node_settings_load(argv[1], NULL, &settings, &e) < 0)
                fail("cannot read the settings", &e);
        for (size_t i = 0; settings.profile && i < settings.profile->service_count; i++)
                if (strv_contains(&settings.profile->services[i].carries, "control"))
                        p.service = &settings.profile->services[i];
        p.log = open(argv[2], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        p.next = strtoll(argv[3], NULL, 10);
        p.waiting = strtoll(argv[4], NULL, 10);
        if (!p.service || !settings.node || p.log < 0)
                return 78;
        open_store(&p, &settings);
        make_loop(&p);
        make_channel(&p, &settings);
        sd_event_loop(p.event);
        channel_free(p.channel);
        netwatch_free(p.netwatch);
        store_close(p.store);
        sd_event_unref(p.event);
        node_settings_done(&settings);
        close(p.log);
        return 0;
}
