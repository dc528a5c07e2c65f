/* Who asks for updates at the control socket, and what `gridnode status` shows of them. */
#include "node/daemon_update.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "base/random.h"
#include "node/update_history.h"

#include <errno.h>
#include <string.h>

/* ---- requests ---- */

static void answer_update(struct updater *u, struct control_client *c, const struct control_request *r)
{
        struct update_job job = r->job;
        struct config_schedule s;
        struct error e = {0};

        random_id("u", job.id);
        if (!job.channel[0]) {
                updater_schedule(u, &s);
                str_copy(job.channel, sizeof job.channel, s.channel);
        }
        if (updater_start(u, &job, c, 0, &e) < 0)
                control_end(c, &e);
}

static void answer_cancel(struct updater *u, struct control_client *c, const struct control_request *r)
{
        const char *id = r->id[0] ? r->id : u->state.job.id;
        struct error e = {0};

        if (!r->id[0] && !updater_is_under_way(u)) {
                error_set(&e, ENOENT, "update.none", "no update is under way");
                control_end(c, &e);
        } else if (updater_cancel_job(u, id, c, &e) < 0) {
                control_end(c, &e);
        }
}

static void answer_history(struct updater *u, struct control_client *c, const struct control_request *r)
{
        json_t *list = update_history(u->place.history, (size_t)r->count), *item;
        size_t i;

        json_array_foreach(list, i, item)
        {
                control_send(c, "update", json_incref(item));
        }
        json_decref(list);
        control_end(c, NULL);
}

void updater_request(struct updater *u, struct control_client *c, const struct control_request *r)
{
        switch (r->operation) {
        case CONTROL_UPDATE:
                answer_update(u, c, r);
                break;
        case CONTROL_UPDATE_CANCEL:
                answer_cancel(u, c, r);
                break;
        case CONTROL_UPDATE_HISTORY:
                answer_history(u, c, r);
                break;
        case CONTROL_STATUS:
        case CONTROL_EVENTS:
        case CONTROL_DIAG:
                break;
        }
}

void updater_forget_asker(struct updater *u, const struct control_client *c)
{
        for (size_t i = 0; i < UPDATER_MAX_ASKS; i++)
                if (u->asks[i].client == c)
                        u->asks[i].client = NULL;
}

/* ---- views ---- */

json_t *updater_view(const struct updater *u)
{
        json_t *j;

        if (!u->has_state)
                return NULL;
        j = update_state_to_json(&u->state);
        json_object_del(j, "schema");
        json_object_del(j, "log");
        return j;
}

static json_t *time_of(int64_t unix_s)
{
        return json_time(unix_s * 1000);
}

json_t *updater_schedule_view(const struct updater *u)
{
        struct config_schedule s;
        struct update_moment m;
        json_t *j, *windows = json_array();
        char text[64];

        updater_schedule(u, &s);
        for (size_t i = 0; i < s.window_count; i++) {
                window_format(&s.windows[i], text);
                json_array_append_new(windows, json_string(text));
        }
        j = json_pack("{s:o,s:b,s:s,s:b}", "windows", windows, "manual", s.manual, "channel", s.channel,
                "reboot", s.reboot);
        json_object_set_new(j, "hold_until", s.hold_until[0] ? json_string(s.hold_until) : json_null());
        if (update_schedule_next(
                    &s, u->daemon->settings->node, u->installed_window, daemon_unix_ms() / 1000, &m) < 0)
                m = (struct update_moment){0};
        json_object_set_new(j, "next", m.begin_unix ? time_of(m.begin_unix) : json_null());
        json_object_set_new(j, "ends", m.end_unix ? time_of(m.end_unix) : json_null());
        return j;
}
