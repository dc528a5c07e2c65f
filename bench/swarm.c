/* swarm FOLDER FIRST COUNT: many nodes in one process, each with the certificate FOLDER/NUMBER.{crt,key} and
 * the node's own control channel (src/node/channel.c): its MQTT, its window of the outbox, its backoff. What
 * is not there is the rest of a daemon: monitor, probes, tools, database.
 *
 * Takes lines on standard input: "start SECONDS" (channels begin at random moments within them), "events RATE
 * SECONDS", "quit". Writes what happens on standard output, a line each, with CLOCK_MONOTONIC in ms: MS t N
 * (an attempt begins), MS c N (connected), MS l N CODE (connection lost), MS f N CODE (attempt failed), MS e
 * N (an event was made), MS k N LATENCY_MS (the plane says that it stored one). */
#include "swarm_store.h"
#include "swarm_tls.h"

#include "base/alloc.h"
#include "base/backoff.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/version.h"
#include "node/channel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define HOST       "control.grid.example"
#define PORT       8443
#define ID_MAXIMUM 65
#define TICK_US    10000
#define FLUSH_US   200000

struct node {
        struct swarm *swarm;
        unsigned number;
        char id[ID_MAXIMUM];
        struct store *store;
        struct channel *channel;
        sd_event_source *start;
        bool is_connected;
};

struct swarm {
        sd_event *event;
        struct node *nodes;
        unsigned count;
        sd_event_source *ticks;
        double rate, begun_ms, seconds;
        uint64_t made;
        unsigned next;
};

/* ---- what a channel says ---- */

static void publish_status(struct node *n)
{
        struct wire_status s = {
                .online = true, .since_unix_ms = clock_unix_ms(), .version = GRIDNODE_VERSION};
        json_t *j;

        str_copy(s.epoch, sizeof s.epoch, store_epoch(n->store));
        str_copy(s.address, sizeof s.address, "192.0.2.10");
        s.services = json_pack("{s:{s:s},s:{s:s}}", "repo", "state", "ok", "control", "state", "ok");
        j = wire_status_to_json(&s);
        channel_publish(n->channel, TOPIC_STATUS, NULL, j);
        json_decref(j);
        wire_status_done(&s);
}

static void on_state(enum channel_state state, const struct error *why, void *userdata)
{
        struct node *n = userdata;

        if (state == CHANNEL_CONNECTING)
                printf("%.1f t %u\n", clock_monotonic_ms(), n->number);
        else if (state == CHANNEL_CONNECTED)
                printf("%.1f c %u\n", clock_monotonic_ms(), n->number);
        else if (n->is_connected)
                printf("%.1f l %u %s\n", clock_monotonic_ms(), n->number, why && why->code ? why->code : "?");
        n->is_connected = state == CHANNEL_CONNECTED;
}

static void on_attempt(const struct endpoint *address, const struct error *e, void *userdata)
{
        struct node *n = userdata;

        (void)address;
        if (e)
                printf("%.1f f %u %s\n", clock_monotonic_ms(), n->number, e->code ? e->code : "?");
}

static void on_acknowledged(int64_t seq, double latency_ms, void *userdata)
{
        struct node *n = userdata;

        (void)seq;
        printf("%.1f k %u %.2f\n", clock_monotonic_ms(), n->number, latency_ms);
}

/* ---- commands ---- */

static int on_start(sd_event_source *source, uint64_t now_us, void *userdata)
{
        struct node *n = userdata;

        (void)source, (void)now_us;
        channel_start(n->channel);
        return 0;
}

static void start(struct swarm *s, double seconds)
{
        for (unsigned i = 0; i < s->count; i++)
                sd_event_add_time_relative(s->event, &s->nodes[i].start, CLOCK_MONOTONIC,
                        (uint64_t)(backoff_random() * seconds * 1e6), 1000, on_start, &s->nodes[i]);
}

/* As many events as the rate wants by now, each of the next node. */
static int on_tick(sd_event_source *source, uint64_t now_us, void *userdata)
{
        struct swarm *s = userdata;
        double elapsed_s = (clock_monotonic_ms() - s->begun_ms) / 1000;
        uint64_t wanted = (uint64_t)(s->rate * (elapsed_s < s->seconds ? elapsed_s : s->seconds));

        (void)now_us;
        while (s->made < wanted) {
                struct node *n = &s->nodes[s->next++ % s->count];

                swarm_store_add(n->store, clock_unix_ms(), clock_monotonic_ms());
                printf("%.1f e %u\n", clock_monotonic_ms(), n->number);
                channel_outbox_changed(n->channel);
                s->made++;
        }
        if (elapsed_s < s->seconds) {
                sd_event_source_set_time_relative(source, TICK_US);
                sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
        }
        return 0;
}

static void make_events(struct swarm *s, double rate, double seconds)
{
        s->rate = rate;
        s->seconds = seconds;
        s->begun_ms = clock_monotonic_ms();
        s->made = 0;
        s->ticks = sd_event_source_disable_unref(s->ticks);
        sd_event_add_time_relative(s->event, &s->ticks, CLOCK_MONOTONIC, 0, 1000, on_tick, s);
}

static int on_flush(sd_event_source *source, uint64_t now_us, void *userdata)
{
        (void)now_us, (void)userdata;
        fflush(stdout);
        sd_event_source_set_time_relative(source, FLUSH_US);
        return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static int on_command(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        struct swarm *s = userdata;
        char line[128];
        double rate, seconds;
        ssize_t n = read(fd, line, sizeof line - 1); /* one line at a time is written */

        (void)source, (void)events;
        line[n > 0 ? n : 0] = 0;
        if (sscanf(line, "events %lf %lf", &rate, &seconds) == 2)
                make_events(s, rate, seconds);
        else if (sscanf(line, "start %lf", &seconds) == 1)
                start(s, seconds);
        else
                sd_event_exit(s->event, 0);
        return 0;
}

/* ---- life ---- */

static int add_node(struct swarm *s, struct node *n, const char *folder, unsigned number)
{
        static const char *const addresses[] = {"127.0.16.20", "127.0.192.200"};
        _cleanup_free_ char *certificate = xasprintf("%s/%u.crt", folder, number),
                            *key = xasprintf("%s/%u.key", folder, number),
                            *root = xasprintf("%s/root.pem", folder),
                            *id = xasprintf("%s/%u.id", folder, number), *text = NULL;
        struct inet_addr parsed[ELEMENTS(addresses)];
        struct channel_handlers h = {.on_state = on_state, .on_attempt = on_attempt, .userdata = n};
        struct error e = {0};
        SSL_CTX *tls;
        size_t length;

        if (file_read(id, ID_MAXIMUM - 1, &text, &length, &e) < 0) {
                fprintf(stderr, "swarm: %s\n", e.text);
                return -1;
        }
        n->swarm = s;
        n->number = number;
        str_copy(n->id, sizeof n->id, text);
        n->store = swarm_store_new(n->id, on_acknowledged, n);
        n->channel = channel_new(&(struct channel_options){.event = s->event,
                                         .store = n->store,
                                         .node = n->id,
                                         .host = HOST,
                                         .port = PORT,
                                         .root_ca_path = root,
                                         .certificate_path = certificate,
                                         .key_path = key},
                &h);
        for (size_t i = 0; i < ELEMENTS(addresses); i++)
                inet_addr_parse(addresses[i], &parsed[i]);
        channel_set_addresses(n->channel, parsed, ELEMENTS(addresses));
        publish_status(n);
        if (mqtt_tls_context(root, HOST, certificate, key, &tls, &e) < 0) {
                fprintf(stderr, "swarm: %s\n", e.text);
                return -1;
        }
        SSL_CTX_free(tls);
        return 0;
}

int main(int argc, char **argv)
{
        struct swarm s = {0};
        unsigned first;

        if (argc != 4) {
                fprintf(stderr, "Usage: swarm FOLDER FIRST COUNT\n");
                return 64;
        }
        first = (unsigned)strtoul(argv[2], NULL, 10);
        s.count = (unsigned)strtoul(argv[3], NULL, 10);
        s.nodes = xcalloc(s.count, sizeof *s.nodes);
        if (sd_event_default(&s.event) < 0)
                return 71;
        for (unsigned i = 0; i < s.count; i++)
                if (add_node(&s, &s.nodes[i], argv[1], first + i) < 0)
                        return 66;
        sd_event_add_io(s.event, NULL, STDIN_FILENO, 1 /* EPOLLIN */, on_command, &s);
        sd_event_add_time_relative(s.event, NULL, CLOCK_MONOTONIC, 0, 1000, on_flush, NULL);
        printf("%.1f r\n", clock_monotonic_ms());
        sd_event_loop(s.event);
        for (unsigned i = 0; i < s.count; i++) {
                channel_free(s.nodes[i].channel);
                sd_event_source_disable_unref(s.nodes[i].start);
                swarm_store_free(s.nodes[i].store);
        }
        swarm_tls_done();
        sd_event_source_disable_unref(s.ticks);
        free(s.nodes);
        sd_event_unref(s.event);
        return 0;
}
