/* The engine of transfer.h: what all transfers of a process share. */
#include "net/transfer_internal.h"

#include "base/alloc.h"
#include "base/text.h"
#include "net/dial.h"

#include <errno.h>
#include <string.h>

/* A way that opened ends all waiting. */
static void on_ways(const struct ways *w, void *userdata)
{
        struct transfer_engine *e = userdata;
        const struct way_view *v = e->service ? ways_find(w, e->service) : NULL;
        const struct way_view *before = e->has_ways ? ways_find(&e->ways, e->service) : NULL;
        bool is_ok = v && str_equal(v->state, "ok"), was_ok = before && str_equal(before->state, "ok");

        e->ways = *w;
        e->has_ways = true;
        if (is_ok && !was_ok) {
                way_try_return_now(e);
                transfer_engine_network_changed(e);
        }
}

static void copy_options(struct transfer_engine *e, const struct transfer_engine_options *o)
{
        e->resolver = o->resolver;
        e->trust = o->trust;
        e->budget = o->budget;
        e->service = xstrdup(o->service);
        e->device = xstrdup(o->device);
        e->proxy = xstrdup(o->proxy);
        e->ways_path = xstrdup(o->ways_path);
        e->source = o->source;
        e->fallback = o->fallback;
        e->fallback_host = xstrdup(o->fallback_host);
        e->fallback_port = o->fallback_port;
        e->known_count = o->known_count < RESOLVER_MAX_ADDRESSES ? o->known_count : RESOLVER_MAX_ADDRESSES;
        e->known = xcalloc(e->known_count + 1, sizeof(*e->known));
        if (e->known_count)
                memcpy(e->known, o->known, e->known_count * sizeof(*e->known));
}

static int start_parts(struct transfer_engine *e)
{
        int r = sync_new(e->event, &e->sync);

        if (r == 0 && e->ways_path) {
                r = ways_watch_new(e->event, e->ways_path, on_ways, e, &e->watch);
                e->has_ways = ways_load(e->ways_path, &e->ways, NULL) == 0;
        }
        return r;
}

int transfer_engine_new(sd_event *event, const struct transfer_engine_options *o,
        struct transfer_engine **ret, struct error *ret_error)
{
        struct transfer_engine *e;
        int r = o->proxy ? dial_check_proxy(o->proxy, ret_error) : 0;

        if (r < 0)
                return r;
        e = xcalloc(1, sizeof(*e));
        e->event = sd_event_ref(event);
        e->back.attempt.fd = -1;
        copy_options(e, o);
        r = start_parts(e);
        if (r < 0) {
                transfer_engine_free(e);
                return error_set(ret_error, -r, "transfer.failed", "the transfer engine does not start: %s",
                        strerror(-r));
        }
        *ret = e;
        return 0;
}

struct transfer_engine *transfer_engine_free(struct transfer_engine *e)
{
        if (!e)
                return NULL;
        while (e->transfers)
                transfer_cancel(e->transfers);
        way_stop(e);
        ways_watch_free(e->watch);
        lanes_free(e);
        sync_free(e->sync);
        sd_event_unref(e->event);
        free(e->service);
        free(e->device);
        free(e->proxy);
        free(e->ways_path);
        free(e->fallback_host);
        free(e->back.host);
        free(e->known);
        free(e);
        return NULL;
}

void transfer_engine_network_changed(struct transfer_engine *e)
{
        resolver_refresh(e->resolver);
        for (size_t i = 0; i < MAX_BAD; i++)
                e->bad[i].until_ms = 0;
        for (struct transfer *t = e->transfers, *next; t; t = next) {
                next = t->next;
                backoff_reset(&t->backoff);
                /* What a server asked for is kept. */
                if (t->view.state == TRANSFER_WAITING && t->retry_after_ms == 0)
                        transfer_try_now(t);
        }
}
