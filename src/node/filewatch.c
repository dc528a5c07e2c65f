#include "node/filewatch.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "base/timer.h"

#include <errno.h>
#include <string.h>
#include <sys/inotify.h>

#define AGAIN_MS 30000.0
#define EVENTS   (IN_MOVED_TO | IN_CLOSE_WRITE | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)

struct filewatch {
        sd_event *event;
        sd_event_source *io, *again;
        char *folder, *name;
        void (*on_change)(void *userdata);
        void *userdata;
};

static int on_again(sd_event_source *source, uint64_t usec, void *userdata);

static void lose_folder(struct filewatch *w)
{
        w->io = sd_event_source_disable_unref(w->io);
        timer_arm(w->event, &w->again, AGAIN_MS, on_again, w);
}

/* An overflow may have hidden ours. */
static bool is_ours(const struct filewatch *w, const struct inotify_event *e)
{
        return e->mask & IN_Q_OVERFLOW || (e->len && str_equal(e->name, w->name));
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        _Alignas(struct inotify_event) char buffer[4096];
        struct filewatch *w = userdata;
        bool changed = false;
        ssize_t n;

        (void)source, (void)events;
        while ((n = read(fd, buffer, sizeof buffer)) > 0)
                for (char *p = buffer; p < buffer + n;) {
                        const struct inotify_event *e = (const struct inotify_event *)p;

                        if (e->mask & (IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF)) {
                                lose_folder(w);
                                w->on_change(w->userdata);
                                return 0;
                        }
                        changed |= is_ours(w, e);
                        p += sizeof *e + e->len;
                }
        if (changed)
                w->on_change(w->userdata);
        return 0;
}

static int watch_folder(struct filewatch *w)
{
        _cleanup_close_ int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        int r;

        if (fd < 0)
                return -errno;
        if (inotify_add_watch(fd, w->folder, EVENTS) < 0)
                return -errno;
        r = sd_event_add_io(w->event, &w->io, fd, EPOLLIN, on_io, w);
        if (r < 0)
                return r;
        sd_event_source_set_io_fd_own(w->io, true);
        fd = -1;
        return 0;
}

void filewatch_look(struct filewatch *w)
{
        if (w->io)
                return;
        if (watch_folder(w) < 0)
                timer_arm(w->event, &w->again, AGAIN_MS, on_again, w);
        else
                w->on_change(w->userdata);
}

static int on_again(sd_event_source *source, uint64_t usec, void *userdata)
{
        (void)source, (void)usec;
        filewatch_look(userdata);
        return 0;
}

int filewatch_new(sd_event *event, const char *path, void (*on_change)(void *userdata), void *userdata,
        struct filewatch **ret)
{
        struct filewatch *w = xcalloc(1, sizeof *w);
        const char *slash = strrchr(path, '/');

        w->event = sd_event_ref(event);
        w->folder = slash ? xstrndup(path, slash > path ? (size_t)(slash - path) : 1) : xstrdup(".");
        w->name = xstrdup(slash ? slash + 1 : path);
        w->on_change = on_change;
        w->userdata = userdata;
        if (watch_folder(w) < 0)
                timer_arm(event, &w->again, AGAIN_MS, on_again, w);
        *ret = w;
        return 0;
}

struct filewatch *filewatch_free(struct filewatch *w)
{
        if (!w)
                return NULL;
        sd_event_source_disable_unref(w->io);
        sd_event_source_disable_unref(w->again);
        sd_event_unref(w->event);
        free(w->folder);
        free(w->name);
        free(w);
        return NULL;
}
