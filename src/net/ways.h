/* What the daemon knows of the ways, for those who transfer (RUN/ways.json, readable by everybody): which
 * service is open, since when not, and the cause in words. Written by temporary file and rename at each
 * change, so that who watches it wakes when a way opens. Nobody but the daemon writes it. */
#pragma once

#include "base/error.h"
#include "net/profile.h"

#include <stdbool.h>
#include <systemd/sd-event.h>

#define WAYS_MAX 16
struct way_view {
        char service[32];
        char state[16];        /* monitor_state_to_string: "ok", "suspect", "degraded", "failed", "unknown" */
        char code[48];         /* of the cause; "": none */
        char summary[512];     /* "443 to repo.grid.example is dropped after 192.0.2.1"; "": none */
        int64_t since_unix_ms; /* of the state */
};
struct ways {
        int64_t written_unix_ms;
        struct way_view list[WAYS_MAX];
        size_t count;
};
/* Strict about types and bounds, as for anything outside. 0, -EBADMSG, -EFBIG. */
int ways_parse(const void *data, size_t length, struct ways *ret, struct error *ret_error);
int ways_load(const char *path, struct ways *ret, struct error *ret_error); /* -ENOENT: no daemon ran */
int ways_save(const char *path, const struct ways *w, struct error *ret_error);
const struct way_view *ways_find(const struct ways *w, const char *service); /* NULL: not known */

/* Whether a daemon still stands behind it: it writes it at each change, and each WAYS_AGAIN_MS besides. */
#define WAYS_AGAIN_MS 30000
#define WAYS_FRESH_MS 90000
bool ways_is_fresh(const struct ways *w, int64_t now_unix_ms);

struct ways_watch; /* opaque */
/* Calls `on_change` after each replacement of the file (inotify on its folder; a folder that comes later is
 * found within 5 s). What could not be parsed is left out. 0 or -errno. */
int ways_watch_new(sd_event *event, const char *path, void (*on_change)(const struct ways *w, void *userdata),
        void *userdata, struct ways_watch **ret);
struct ways_watch *ways_watch_free(struct ways_watch *w);
