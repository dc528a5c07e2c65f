/* Who asks at the control socket: status, events (and those to come), a diagnosis, updates. */
#include "node/daemon_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"

#include <errno.h>
#include <string.h>

#define EVENTS_DEFAULT 50

struct desk {
        struct daemon *daemon;
        struct control_client *followers[DAEMON_MAX_FOLLOWERS];
        size_t follower_count;
};

static void remove_follower(struct desk *k, const struct control_client *c)
{
        size_t kept = 0;

        for (size_t i = 0; i < k->follower_count; i++)
                if (k->followers[i] != c)
                        k->followers[kept++] = k->followers[i];
        k->follower_count = kept;
}

void desk_event(struct desk *k, const struct wire_event *e)
{
        struct control_client *now[DAEMON_MAX_FOLLOWERS];
        size_t count = k->follower_count;

        /* One that does not read is dropped by the sending, and then the list is another. */
        memcpy(now, k->followers, sizeof now);
        for (size_t i = 0; i < count; i++)
                control_send(now[i], "event", wire_event_to_json(e));
}

static void answer_events(struct desk *k, struct control_client *c, const struct control_request *r)
{
        struct error e = {0};
        json_t *list = store_events(k->daemon->store, r->count > 0 ? (size_t)r->count : EVENTS_DEFAULT, &e);

        if (!list) {
                control_end(c, &e);
                return;
        }
        /* The store has the newest first; people read downwards. */
        for (size_t i = json_array_size(list); i > 0; i--)
                control_send(c, "event", json_incref(json_array_get(list, i - 1)));
        json_decref(list);
        if (!r->follow) {
                control_end(c, NULL);
                return;
        }
        if (k->follower_count == DAEMON_MAX_FOLLOWERS) {
                error_set(&e, EBUSY, "control.busy", "too many follow the events already");
                control_end(c, &e);
                return;
        }
        k->followers[k->follower_count++] = c;
}

static void on_report(json_t *report, const struct error *e, void *userdata)
{
        struct control_client *c = userdata;

        if (report)
                control_send(c, "report", json_incref(report));
        control_end(c, report ? NULL : e);
}

static void answer_diag(struct desk *k, struct control_client *c, const struct control_request *r)
{
        struct error e = {0};
        int n = watch_diagnose(k->daemon->watch, r->budget_s, "person", on_report, c);

        if (n < 0) {
                error_set(
                        &e, -n, "diagnosis.busy", "the daemon cannot make a diagnosis now: %s", strerror(-n));
                control_end(c, &e);
        }
}

static void on_request(struct control_client *c, const struct control_request *r, void *userdata)
{
        struct desk *k = userdata;

        switch (r->operation) {
        case CONTROL_STATUS:
                control_send(c, "status", status_build(k->daemon));
                control_end(c, NULL);
                break;
        case CONTROL_EVENTS:
                answer_events(k, c, r);
                break;
        case CONTROL_DIAG:
                answer_diag(k, c, r);
                break;
        case CONTROL_UPDATE:
        case CONTROL_UPDATE_CANCEL:
        case CONTROL_UPDATE_HISTORY:
                updater_request(k->daemon->updater, c, r);
                break;
        }
}

static void on_gone(struct control_client *c, void *userdata)
{
        struct desk *k = userdata;

        remove_follower(k, c);
        watch_forget_asker(k->daemon->watch, c);
        updater_forget_asker(k->daemon->updater, c);
}

int desk_new(struct daemon *d, struct desk **ret, struct error *ret_error)
{
        struct desk *k = xcalloc(1, sizeof *k);
        struct control_handlers h = {.on_request = on_request, .on_gone = on_gone, .userdata = k};
        int r;

        k->daemon = d;
        r = control_new(d->event, d->settings->socket_path, "gridnode", &h, &d->control, ret_error);
        if (r < 0) {
                free(k);
                return r;
        }
        *ret = k;
        return 0;
}

struct desk *desk_free(struct desk *k)
{
        if (!k)
                return NULL;
        k->daemon->control = control_free(k->daemon->control);
        free(k);
        return NULL;
}
