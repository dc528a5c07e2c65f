#include "net/ways.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "base/timer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>

#define MAXIMUM_BYTES ((size_t)32 << 10)
#define AGAIN_MS      5000.0

/* ---- the file ---- */

static void take_text(struct json_reader *r, const char *name, char *ret, size_t size_bytes)
{
        const char *s = json_take_optional_text(r, name, size_bytes - 1);

        str_copy(ret, size_bytes, s ? s : "");
}

static int read_way(json_t *object, struct way_view *ret, struct error *ret_error)
{
        struct json_reader r;
        const char *since;

        if (!json_is_object(object))
                return error_set(ret_error, EBADMSG, "ways.bad", "ways: an item is no object");
        json_reader_init(&r, object, "ways", ret_error);
        str_copy(ret->service, sizeof(ret->service), "");
        take_text(&r, "service", ret->service, sizeof(ret->service));
        take_text(&r, "state", ret->state, sizeof(ret->state));
        take_text(&r, "code", ret->code, sizeof(ret->code));
        take_text(&r, "summary", ret->summary, sizeof(ret->summary));
        since = json_take_optional_text(&r, "since", 31);
        if (since && time_parse_utc(since, &ret->since_unix_ms) < 0)
                json_reader_fail(&r, "since", "is no time");
        if (!ret->service[0])
                json_reader_fail(&r, "service", "is missing");
        return json_reader_done(&r, false);
}

int ways_parse(const void *data, size_t length, struct ways *ret, struct error *ret_error)
{
        json_auto_t *object = NULL;
        struct ways ways = {0};
        struct json_reader reader;
        json_t *list, *item;
        size_t i;
        int r = json_parse(data, length, MAXIMUM_BYTES, "ways", &object, ret_error);

        if (r < 0)
                return r;
        json_reader_init(&reader, object, "ways", ret_error);
        ways.written_unix_ms = json_take_time(&reader, "written");
        list = json_take_array(&reader, "services", WAYS_MAX);
        r = json_reader_done(&reader, false);
        json_array_foreach(list, i, item)
        {
                if (r == 0)
                        r = read_way(item, &ways.list[ways.count++], ret_error);
        }
        if (r == 0)
                *ret = ways;
        return r;
}

int ways_load(const char *path, struct ways *ret, struct error *ret_error)
{
        _cleanup_free_ char *data = NULL;
        size_t length;
        int r = file_read(path, MAXIMUM_BYTES, &data, &length, ret_error);

        return r < 0 ? r : ways_parse(data, length, ret, ret_error);
}

int ways_save(const char *path, const struct ways *w, struct error *ret_error)
{
        json_auto_t *object = json_object();
        _cleanup_free_ char *text = NULL;
        json_t *list = json_array();

        json_object_set_new(object, "written", json_time(w->written_unix_ms));
        for (size_t i = 0; i < w->count; i++) {
                const struct way_view *v = &w->list[i];
                json_t *item = json_pack("{s:s,s:s,s:s,s:s}", "service", v->service, "state", v->state,
                        "code", v->code, "summary", v->summary);

                if (v->since_unix_ms > 0)
                        json_object_set_new(item, "since", json_time(v->since_unix_ms));
                json_array_append_new(list, item);
        }
        json_object_set_new(object, "services", list);
        text = json_to_text(object);
        return file_save(path, text, strlen(text), 0644, ret_error);
}

const struct way_view *ways_find(const struct ways *w, const char *service)
{
        for (size_t i = 0; i < w->count; i++)
                if (str_equal(w->list[i].service, service))
                        return &w->list[i];
        return NULL;
}

bool ways_is_fresh(const struct ways *w, int64_t now_unix_ms)
{
        int64_t age_ms = now_unix_ms - w->written_unix_ms;

        return age_ms > -WAYS_FRESH_MS && age_ms < WAYS_FRESH_MS;
}

/* ---- watching it ---- */

struct ways_watch {
        sd_event *event;
        sd_event_source *io, *again;
        char *path, *folder;
        const char *name; /* in path */
        void (*on_change)(const struct ways *w, void *userdata);
        void *userdata;
};

static int look_again(sd_event_source *source, uint64_t usec, void *userdata);

static void tell(struct ways_watch *w)
{
        struct ways ways;

        if (ways_load(w->path, &ways, NULL) == 0)
                w->on_change(&ways, w->userdata);
}

static void lose_folder(struct ways_watch *w)
{
        w->io = sd_event_source_disable_unref(w->io);
        timer_arm(w->event, &w->again, AGAIN_MS, look_again, w);
}

static int on_inotify(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        _Alignas(struct inotify_event) char buffer[4096];
        struct ways_watch *w = userdata;
        bool is_replaced = false;
        ssize_t n;

        (void)source, (void)events;
        while ((n = read(fd, buffer, sizeof(buffer))) > 0)
                for (char *p = buffer; p < buffer + n;) {
                        const struct inotify_event *e = (const struct inotify_event *)p;

                        if (e->mask & (IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF)) {
                                lose_folder(w);
                                return 0;
                        }
                        is_replaced |= e->len && str_equal(e->name, w->name);
                        p += sizeof(*e) + e->len;
                }
        if (is_replaced)
                tell(w);
        return 0;
}

static int watch_folder(struct ways_watch *w)
{
        _cleanup_close_ int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        int r;

        if (fd < 0)
                return -errno;
        if (inotify_add_watch(fd, w->folder, IN_MOVED_TO | IN_CLOSE_WRITE | IN_DELETE_SELF | IN_MOVE_SELF) <
                0)
                return -errno;
        r = sd_event_add_io(w->event, &w->io, fd, EPOLLIN, on_inotify, w);
        if (r < 0)
                return r;
        sd_event_source_set_io_fd_own(w->io, true);
        fd = -1;
        return 0;
}

static int look_again(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct ways_watch *w = userdata;

        (void)source, (void)usec;
        if (watch_folder(w) < 0)
                timer_arm(w->event, &w->again, AGAIN_MS, look_again, w);
        else
                tell(w);
        return 0;
}

int ways_watch_new(sd_event *event, const char *path, void (*on_change)(const struct ways *w, void *userdata),
        void *userdata, struct ways_watch **ret)
{
        struct ways_watch *w = xcalloc(1, sizeof(*w));
        const char *slash = strrchr(path, '/');
        int r;

        w->event = sd_event_ref(event);
        w->path = xstrdup(path);
        w->folder = slash ? xstrndup(path, slash > path ? (size_t)(slash - path) : 1) : xstrdup(".");
        w->name = slash ? w->path + (slash - path) + 1 : w->path;
        w->on_change = on_change;
        w->userdata = userdata;
        r = watch_folder(w);
        if (r == -ENOENT)
                timer_arm(event, &w->again, AGAIN_MS, look_again, w);
        else if (r < 0) {
                ways_watch_free(w);
                return r;
        }
        *ret = w;
        return 0;
}

struct ways_watch *ways_watch_free(struct ways_watch *w)
{
        if (!w)
                return NULL;
        sd_event_source_disable_unref(w->io);
        sd_event_source_disable_unref(w->again);
        sd_event_unref(w->event);
        free(w->path);
        free(w->folder);
        free(w);
        return NULL;
}
