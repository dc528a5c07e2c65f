/* What those who transfer need of the daemon: what it knows of the ways (RUN/ways.json), the bandwidth that
 * they share (RUN/budget), a folder for what they say of themselves (RUN/transfers); and the other way round:
 * a real transfer counts as a probe. */
#include "node/daemon_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/folder.h"
#include "base/json.h"
#include "base/log.h"
#include "net/budget.h"
#include "net/transfer_post.h"
#include "net/ways.h"
#include "node/settings.h"

#include <errno.h>
#include <string.h>

#define AGAIN_MS  30000 /* who reads ways.json takes it for old after three times that */
#define MOVING_MS 5000  /* while something is transferred */
#define SEEN_MAX  16

/* What was seen of a transfer the last time. */
struct seen {
        json_int_t pid, bytes, attempts;
        char name[64];
};

struct ways_keeper {
        struct daemon *daemon;
        struct ways written;
        struct budget *budget;
        char *path, *folder;
        sd_event_source *timer;
        struct seen seen[SEEN_MAX];
        size_t seen_count;
};

/* ---- ways.json ---- */

static int64_t unix_of(const struct daemon *d, double monotonic_ms)
{
        return daemon_unix_ms() - (int64_t)(daemon_now_ms(d) - monotonic_ms);
}

static void take_views(const struct daemon *d, struct ways *ret)
{
        const struct profile *p = d->settings->profile;

        for (size_t i = 0; i < p->service_count && ret->count < WAYS_MAX; i++) {
                struct way_view *w = &ret->list[ret->count++];
                struct monitor_view v;

                monitor_view_service(d->monitor, i, &v);
                str_copy(w->service, sizeof w->service, v.service);
                str_copy(w->state, sizeof w->state, monitor_state_to_string(v.state));
                str_copy(w->code, sizeof w->code, v.cause ? v.cause : "");
                if (v.summary) {
                        _cleanup_free_ char *whole =
                                str_excerpt(v.summary, strlen(v.summary), sizeof w->summary - 1);

                        str_copy(w->summary, sizeof w->summary, whole);
                }
                w->since_unix_ms = v.since_ms > 0 ? unix_of(d, v.since_ms) : 0;
        }
}

/* The moments differ by the milliseconds between two clocks: those are no news. */
static bool is_same(const struct ways *a, const struct ways *b)
{
        if (a->count != b->count)
                return false;
        for (size_t i = 0; i < a->count; i++)
                if (!str_equal(a->list[i].state, b->list[i].state) ||
                        !str_equal(a->list[i].code, b->list[i].code) ||
                        !str_equal(a->list[i].summary, b->list[i].summary))
                        return false;
        return true;
}

static void write_ways(struct ways_keeper *k, bool even_if_same)
{
        struct ways now = {.written_unix_ms = daemon_unix_ms()};
        struct error e = {0};

        take_views(k->daemon, &now);
        if (!even_if_same && is_same(&now, &k->written))
                return;
        if (ways_save(k->path, &now, &e) < 0)
                log_event(LOG_LEVEL_ERROR, "cannot write what is known of the ways", "reason", e.text, NULL);
        else
                k->written = now;
}

void ways_changed(struct ways_keeper *k)
{
        if (k)
                write_ways(k, false);
}

/* ---- the budget ---- */

void ways_plan_changed(struct ways_keeper *k)
{
        const struct daemon *d = k->daemon;
        struct budget_plan plan;

        settings_transfer_limit(d->settings, d->config.version ? &d->config : NULL, &plan);
        if (k->budget)
                budget_set_plan(k->budget, &plan);
}

/* ---- transfers as probes ---- */

static const char *text_of(const json_t *object, const char *member)
{
        const char *s = json_string_value(json_object_get(object, member));

        return s ? s : "";
}

static struct seen *find_seen(struct ways_keeper *k, const json_t *post)
{
        json_int_t pid = json_integer_value(json_object_get(post, "pid"));
        struct seen *s;

        for (size_t i = 0; i < k->seen_count; i++)
                if (k->seen[i].pid == pid && str_equal(k->seen[i].name, text_of(post, "name")))
                        return &k->seen[i];
        if (k->seen_count == SEEN_MAX)
                memmove(k->seen, k->seen + 1, --k->seen_count * sizeof *k->seen);
        s = &k->seen[k->seen_count++];
        *s = (struct seen){.pid = pid};
        str_copy(s->name, sizeof s->name, text_of(post, "name"));
        return s;
}

/* Bytes that came by a service's own port say what a probe says, and so does an attempt that ended before
 * HTTP. What goes by another port says nothing of this one. */
static void observe(struct ways_keeper *k, const json_t *post)
{
        json_int_t bytes = json_integer_value(json_object_get(post, "bytes"));
        json_int_t attempts = json_integer_value(json_object_get(post, "attempts"));
        const struct profile *p = k->daemon->settings->profile;
        const char *stage = text_of(post, "stage");
        struct seen *s = find_seen(k, post);
        bool moved = bytes > s->bytes && str_equal(text_of(post, "state"), "moving");
        bool failed = attempts > s->attempts && (str_equal(stage, "tcp") || str_equal(stage, "tls"));
        struct endpoint e;

        s->bytes = bytes;
        s->attempts = attempts;
        if ((!moved && !failed) || endpoint_parse(text_of(post, "address"), &e) < 0)
                return;
        for (size_t i = 0; i < p->service_count; i++)
                if (str_equal(p->services[i].name, text_of(post, "service")) && p->services[i].port == e.port)
                        monitor_observed(k->daemon->monitor, p->services[i].name, &e.address, moved,
                                daemon_now_ms(k->daemon));
}

/* True: somebody transfers. */
static bool look_at_transfers(struct ways_keeper *k)
{
        json_t *list = transfer_post_list(k->folder), *post;
        size_t i, count = json_array_size(list);

        json_array_foreach(list, i, post)
        {
                observe(k, post);
        }
        json_decref(list);
        if (count > 0)
                watch_observed(k->daemon->watch);
        else
                k->seen_count = 0;
        return count > 0;
}

json_t *ways_transfers(const struct ways_keeper *k)
{
        return transfer_post_list(k->folder);
}

/* ---- life ---- */

static int on_timer(sd_event_source *source, uint64_t at_us, void *userdata)
{
        struct ways_keeper *k = userdata;
        bool is_busy = look_at_transfers(k);

        (void)source;
        (void)at_us;
        write_ways(k, daemon_unix_ms() - k->written.written_unix_ms >= AGAIN_MS - 1000);
        ways_plan_changed(k);
        daemon_arm(k->daemon, &k->timer, is_busy ? MOVING_MS : AGAIN_MS, on_timer, k);
        return 0;
}

int ways_keeper_new(struct daemon *d, struct ways_keeper **ret)
{
        _cleanup_free_ char *budget = path_join(d->settings->paths.run, "budget");
        struct ways_keeper *k = xcalloc(1, sizeof *k);
        struct error e = {0};

        k->daemon = d;
        k->path = path_join(d->settings->paths.run, "ways.json");
        k->folder = path_join(d->settings->paths.run, "transfers");
        /* Without one of these transfers go on as if there were no daemon: nothing to end for. */
        if (folder_prepare(k->folder, 0755, &e) < 0)
                log_event(LOG_LEVEL_ERROR, "transfers cannot be followed", "reason", e.text, NULL);
        if (budget_open(budget, &k->budget, &e) < 0)
                log_event(LOG_LEVEL_ERROR, "the bandwidth limit cannot be shared", "reason", e.text, NULL);
        write_ways(k, true);
        ways_plan_changed(k);
        daemon_arm(d, &k->timer, AGAIN_MS, on_timer, k);
        *ret = k;
        return 0;
}

struct ways_keeper *ways_keeper_free(struct ways_keeper *k)
{
        if (!k)
                return NULL;
        sd_event_source_disable_unref(k->timer);
        budget_close(k->budget);
        free(k->path);
        free(k->folder);
        free(k);
        return NULL;
}
