#include "plane/expulsions.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "wire/topic.h"

#include <stdlib.h>

struct expulsions {
        sd_event *event;
        struct broker_target *target;
        struct expulsion *first;
};

/* A connection under the node's own client id, by the socket that only the plane has: the broker ends the
 * node's (MQTT 5, section 3.1.4). The broker hears of the revocation by a signal and a little later, so that
 * a node that is quick comes in once more: it is done three times. */
struct expulsion {
        struct expulsions *of;
        char node[WIRE_ID_MAXIMUM + 1];
        struct mqtt *mqtt;
        sd_event_source *timer;
        unsigned done;
        struct expulsion *next;
};

static const double expel_after_ms[] = {500, 2000}; /* once more, after the first and the second */

static int begin_expulsion(struct expulsion *x);

static void end_expulsion(struct expulsion *x)
{
        struct expulsion **at = &x->of->first;

        while (*at && *at != x)
                at = &(*at)->next;
        if (*at)
                *at = x->next;
        sd_event_source_disable_unref(x->timer);
        mqtt_free(x->mqtt, true);
        free(x);
}

static int on_expel_again(sd_event_source *source, uint64_t at_us, void *userdata)
{
        struct expulsion *x = userdata;

        (void)source;
        (void)at_us;
        if (begin_expulsion(x) < 0)
                end_expulsion(x);
        return 0;
}

static void expelled_once(struct expulsion *x)
{
        uint64_t now_us;

        x->mqtt = mqtt_free(x->mqtt, true);
        if (x->done == ELEMENTS(expel_after_ms)) {
                end_expulsion(x);
                return;
        }
        sd_event_now(x->of->event, CLOCK_MONOTONIC, &now_us);
        now_us += (uint64_t)(expel_after_ms[x->done++] * 1000);
        x->timer = sd_event_source_disable_unref(x->timer);
        if (sd_event_add_time(x->of->event, &x->timer, CLOCK_MONOTONIC, now_us, 10000, on_expel_again, x) < 0)
                end_expulsion(x);
}

static void on_expelled(void *userdata)
{
        expelled_once(userdata);
}

static void on_expulsion_closed(const struct error *e, void *userdata)
{
        struct expulsion *x = userdata;

        log_event(LOG_LEVEL_WARNING, "could not end the connection of a removed node at once", "node",
                x->node, "reason", e->text, NULL);
        expelled_once(x);
}

static int begin_expulsion(struct expulsion *x)
{
        struct mqtt_handlers h = {
                .on_connected = on_expelled, .on_closed = on_expulsion_closed, .userdata = x};
        struct error e = {0};

        return broker_target_connect(x->of->target, x->of->event, x->node, &h, &x->mqtt, &e);
}

int expulsions_add(struct expulsions *e, const char *node)
{
        struct expulsion *x;
        int r;

        /* Where the client id comes from the certificate, ours would end our own connection. */
        if (!e->target->takes_client_id) {
                log_event(LOG_LEVEL_WARNING,
                        "the outside broker must end the connection of a removed node: give it the new list "
                        "of revoked certificates, or name its listener for nodes in gridplane.conf",
                        "node", node, NULL);
                return 0;
        }
        x = xcalloc(1, sizeof *x);
        x->of = e;
        str_copy(x->node, sizeof x->node, node);
        x->next = e->first;
        e->first = x;
        r = begin_expulsion(x);
        if (r < 0)
                end_expulsion(x);
        return r;
}

struct expulsions *expulsions_new(sd_event *event, struct broker_target *target)
{
        struct expulsions *e = xcalloc(1, sizeof *e);

        e->event = event;
        e->target = target;
        return e;
}

struct expulsions *expulsions_free(struct expulsions *e)
{
        while (e && e->first)
                end_expulsion(e->first);
        free(e);
        return NULL;
}
