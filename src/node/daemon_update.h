/* What daemon_update.c and daemon_update_ask.c share. */
#pragma once

#include "helper/update_place.h"
#include "node/daemon_internal.h"
#include "node/filewatch.h"
#include "node/update_news.h"
#include "node/update_schedule.h"

#define UPDATER_MAX_ASKS 8

/* A question to the helper; its asker may be gone when the answer comes. */
struct updater_ask {
        struct updater *updater; /* NULL: not in use */
        struct control_client *client;
        struct update_job job;
        int64_t window_unix; /* of the schedule; 0: somebody asked */
};

struct updater {
        struct daemon *daemon;
        struct update_place place;
        struct filewatch *watch;
        sd_event_source *timer;
        struct update_state state;
        bool has_state, is_bad_told;
        struct update_told told;
        struct updater_ask asks[UPDATER_MAX_ASKS];
        int64_t installed_window, downloaded_window; /* the last that was used; 0: none */
        int64_t closes_unix;                         /* of the window that the schedule's update began in */
        bool is_close_asked, is_failure_told;
        double resume_not_before_ms;
};

/* The job goes to the root side. -ENOBUFS, -EPIPE … where it cannot even be asked, with the error. */
int updater_start(struct updater *u, const struct update_job *job, struct control_client *client,
        int64_t window_unix, struct error *ret_error);
int updater_cancel_job(
        struct updater *u, const char *id, struct control_client *client, struct error *ret_error);
bool updater_is_under_way(const struct updater *u);
/* What the configuration says, or the default. */
void updater_schedule(const struct updater *u, struct config_schedule *ret);
