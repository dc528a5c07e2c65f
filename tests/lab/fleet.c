/* fleet ROOT...: many registered nodes in one process, each with its own store and channel, and instead of
 * the rest of the daemon an updater that is played: asked for an update by the remote tool "update" it tells
 * of it as a node does, by events in its outbox. What becomes of it is in ROOT/behaviour: a word and the
 * milliseconds that it takes: "good 500", "fail 500", "newest 0" (there is nothing newer), "refuse 0",
 * "silent 0" (begins, and never ends). Writes a line for each update that begins: NODE BY. For
 * test_upgrade.py. */
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/timer.h"
#include "node/channel.h"
#include "node/settings.h"
#include "wire/update.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#define OLD "0.1.0"
#define NEW "0.2.0"

struct node {
        sd_event *event;
        const char *root;
        struct node_settings settings;
        const struct profile_service *service;
        struct store *store;
        struct channel *channel;
        sd_event_source *timer;
        char by[96], job[32], what[16]; /* of the update under way; by "": none */
        unsigned jobs;
        int64_t started;
        bool is_new;
};

static _Noreturn void fail(const char *what, const struct error *e)
{
        fprintf(stderr, "fleet: %s: %s\n", what, e->text);
        exit(EXIT_FAILURE);
}

static void publish_status(struct node *n)
{
        struct wire_status s = {.online = true, .since_unix_ms = clock_unix_ms()};
        json_t *j;

        str_copy(s.version, sizeof s.version, n->is_new ? NEW : OLD);
        str_copy(s.epoch, sizeof s.epoch, store_epoch(n->store));
        j = wire_status_to_json(&s);
        channel_publish(n->channel, TOPIC_STATUS, NULL, j);
        json_decref(j);
}

static void tell(struct node *n, enum update_status status, const char *error)
{
        struct update_state u = {.job = {.action = UPDATE_NOW},
                .status = status,
                .started_unix_ms = n->started,
                .ended_unix_ms = status == UPDATE_IN_PROGRESS ? 0 : clock_unix_ms(),
                .eta_ms = -1};
        struct wire_event event = {.generated_unix_ms = clock_unix_ms(),
                .name = xstrdup(EVENT_UPDATE),
                .severity = status == UPDATE_FAILED ? WIRE_ERROR : WIRE_INFO,
                .message = xstrdup(update_status_to_string(status))};
        struct error e = {0};

        str_copy(u.job.id, sizeof u.job.id, n->job);
        str_copy(u.job.channel, sizeof u.job.channel, "stable");
        str_copy(u.job.by, sizeof u.job.by, n->by);
        str_copy(u.version_from, sizeof u.version_from, OLD);
        str_copy(u.version_to, sizeof u.version_to, str_equal(n->what, "newest") ? "" : NEW);
        str_copy(u.error, sizeof u.error, error);
        event.update = update_state_to_json(&u);
        if (store_add(n->store, NULL, &event, 1, clock_unix_ms(), &e) < 0)
                fail("cannot add an event", &e);
        wire_event_done(&event);
        update_state_done(&u);
        channel_outbox_changed(n->channel);
}

static int on_end(sd_event_source *source, uint64_t now_us, void *userdata)
{
        struct node *n = userdata;

        (void)source, (void)now_us;
        if (str_equal(n->what, "fail")) {
                tell(n, UPDATE_FAILED, "the disk is full");
        } else {
                n->is_new = !str_equal(n->what, "newest");
                tell(n, UPDATE_COMPLETED, "");
                publish_status(n);
        }
        n->by[0] = 0;
        return 0;
}

static void answer(struct node *n, const char *request, int status, const char *text)
{
        struct wire_line line = {.text = (char *)text};
        struct wire_output lines = {.lines = &line, .line_count = 1},
                           end = {.first = 1, .end = END_EXITED, .status = status};
        const struct wire_output *both[] = {&lines, &end};

        for (size_t i = 0; i < ELEMENTS(both); i++) {
                json_t *j = wire_output_to_json(both[i]);

                channel_publish(n->channel, TOPIC_OUT, request, j);
                json_decref(j);
        }
}

static void begin(struct node *n, const struct wire_request *r, const char *what, unsigned takes_ms)
{
        str_copy(n->by, sizeof n->by, r->by);
        str_copy(n->what, sizeof n->what, what);
        snprintf(n->job, sizeof n->job, "u-%u", ++n->jobs);
        n->started = clock_unix_ms();
        printf("%s %s\n", n->settings.node, n->by);
        fflush(stdout);
        tell(n, UPDATE_IN_PROGRESS, "");
        if (!str_equal(what, "silent"))
                timer_arm(n->event, &n->timer, takes_ms, on_end, n);
}

static void take_request(struct node *n, const struct wire_request *r)
{
        _cleanup_free_ char *path = path_join(n->root, "behaviour"), *text = NULL;
        char what[16] = "";
        struct error e = {0};
        unsigned takes_ms;
        size_t length;

        if (file_read(path, 64, &text, &length, &e) < 0 || sscanf(text, "%15s %u", what, &takes_ms) != 2)
                fail("cannot read the behaviour", &e);
        if (!str_equal(r->tool, "update") || !strv_contains(&r->arguments, "--now") ||
                !strv_contains(&r->arguments, "--no-wait") || str_equal(what, "refuse"))
                answer(n, r->id, EX_USAGE, "this is not how a node is asked");
        else if (n->by[0])
                answer(n, r->id, EXIT_FAILURE, "an update is under way");
        else {
                begin(n, r, what, takes_ms);
                answer(n, r->id, EXIT_SUCCESS, "It begins.");
        }
}

static void on_message(enum topic_kind kind, const void *payload, size_t length, void *userdata)
{
        struct node *n = userdata;
        struct wire_request r = {0};
        struct error e = {0};

        if (kind == TOPIC_REQUEST && wire_request_parse(payload, length, &r, &e) == 0 && !r.cancel)
                take_request(n, &r);
        wire_request_done(&r);
}

static void on_resolve(void *userdata)
{
        struct node *n = userdata;

        channel_set_addresses(n->channel, n->service->addresses, n->service->address_count);
}

static void start(struct node *n, sd_event *event, const char *root)
{
        _cleanup_free_ char *path = NULL, *note = NULL;
        struct store_limits limits = {.outbox_bytes = INT32_MAX, .history_count = 1000, .free_bytes = 1};
        struct channel_handlers h = {.on_resolve = on_resolve, .on_message = on_message, .userdata = n};
        struct error e = {0};

        n->event = event;
        n->root = root;
        if (node_settings_load(root, NULL, &n->settings, &e) < 0)
                fail("cannot read the settings", &e);
        for (size_t i = 0; n->settings.profile && i < n->settings.profile->service_count; i++)
                if (strv_contains(&n->settings.profile->services[i].carries, "control"))
                        n->service = &n->settings.profile->services[i];
        path = path_join(n->settings.paths.state, "state.db");
        if (!n->service || store_open(path, &limits, &n->store, &note, &e) < 0)
                fail("cannot open the store", &e);
        n->channel = channel_new(&(struct channel_options){.event = event,
                                         .store = n->store,
                                         .node = n->settings.node,
                                         .host = n->service->host,
                                         .port = n->service->port,
                                         .root_ca_path = n->settings.profile->root_ca_path,
                                         .certificate_path = n->settings.site->certificate_path,
                                         .key_path = n->settings.site->key_path},
                &h);
        on_resolve(n);
        publish_status(n);
        channel_start(n->channel);
}

static void end(struct node *n)
{
        channel_free(n->channel);
        sd_event_source_disable_unref(n->timer);
        store_close(n->store);
        node_settings_done(&n->settings);
}

int main(int argc, char **argv)
{
        struct node *nodes = xcalloc((size_t)argc, sizeof *nodes);
        sd_event *event = NULL;
        sigset_t mask;

        sigemptyset(&mask);
        sigaddset(&mask, SIGTERM);
        sigprocmask(SIG_BLOCK, &mask, NULL);
        signal(SIGPIPE, SIG_IGN);
        if (sd_event_new(&event) < 0 || sd_event_add_signal(event, NULL, SIGTERM, NULL, NULL) < 0)
                abort();
        for (int i = 1; i < argc; i++)
                start(&nodes[i], event, argv[i]);
        sd_event_loop(event);
        for (int i = 1; i < argc; i++)
                end(&nodes[i]);
        free(nodes);
        sd_event_unref(event);
        return 0;
}
