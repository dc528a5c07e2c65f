/* What is being fetched, for `gridnode status`: one record for all files that are under way. */
#include "apt/method_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/timer.h"

#include <string.h>

#define POST_MS 500.0

struct sum {
        const struct item *first; /* that moves; else one that waits */
        struct transfer_view view;
        uint64_t bytes, size;
        double bytes_per_second;
        size_t count;
};

static const char *name_of_state(enum transfer_state s)
{
        switch (s) {
        case TRANSFER_WAITING:
                return "waiting";
        case TRANSFER_CONNECTING:
                return "connecting";
        case TRANSFER_MOVING:
                return "moving";
        case TRANSFER_DONE:
                return "done";
        case TRANSFER_FAILED:
                return "failed";
        case TRANSFER_NOT_MODIFIED:
                return "not-modified";
        }
        return "failed";
}

static void add_up(const struct method *m, struct sum *ret)
{
        for (const struct item *i = m->items; i; i = i->next) {
                struct transfer_view v;

                if (!i->transfer)
                        continue;
                transfer_view(i->transfer, &v);
                if (!ret->first || (v.state == TRANSFER_MOVING && ret->view.state != TRANSFER_MOVING)) {
                        ret->first = i;
                        ret->view = v;
                }
                ret->bytes += v.bytes;
                ret->size += v.size;
                ret->bytes_per_second += v.bytes_per_second;
                ret->count++;
        }
}

static char *name_of(const struct sum *s)
{
        const char *path = s->first->filename, *slash = strrchr(path, '/');
        _cleanup_free_ char *base =
                str_excerpt(slash ? slash + 1 : path, strlen(slash ? slash + 1 : path), 200);

        return s->count > 1 ? xasprintf("%s and %zu more", base, s->count - 1) : TAKE_PTR(base);
}

/* What makes it a probe of the service for the daemon. */
static void add_probe(json_t *j, const struct transfer_view *v)
{
        char address[INET_ADDR_TEXT];

        json_object_set_new(j, "service", json_string(METHOD_SERVICE));
        json_object_set_new(j, "attempts", json_integer((json_int_t)v->attempts));
        if (inet_addr_is_set(&v->address.address))
                json_object_set_new(j, "address", json_string(endpoint_format(&v->address, address)));
        if (v->failure.number)
                json_object_set_new(j, "stage", json_string(v->failure.stage));
}

static void post(struct method *m)
{
        struct sum s = {0};
        _cleanup_free_ char *name = NULL;
        json_t *j;

        add_up(m, &s);
        if (!s.first) {
                transfer_post_write(m->post, NULL);
                return;
        }
        name = name_of(&s);
        j = json_pack("{s:s,s:s,s:s,s:I,s:I,s:f,s:i}", "job", budget_class_to_string(m->priority), "name",
                name, "state", name_of_state(s.view.state), "bytes", (json_int_t)s.bytes, "size",
                (json_int_t)s.size, "bytes_per_second", s.bytes_per_second, "way", (int)s.view.way);
        if (s.size > s.bytes && s.bytes_per_second > 0)
                json_object_set_new(
                        j, "remaining_s", json_real((double)(s.size - s.bytes) / s.bytes_per_second));
        if (s.view.state == TRANSFER_WAITING && s.view.failure.number)
                json_object_set_new(j, "waits_for", json_string(s.view.failure.text));
        add_probe(j, &s.view);
        transfer_post_write(m->post, j);
        json_decref(j);
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct method *m = userdata;

        (void)source, (void)usec;
        m->posting = sd_event_source_disable_unref(m->posting);
        post(m);
        return 0;
}

void method_post_soon(struct method *m)
{
        if (!m->posting)
                timer_arm(m->event, &m->posting, m->items ? POST_MS : 0, on_time, m);
}
