#include "plane/expulsions.h"

#include "base/alloc.h"
#include "base/backoff.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/timer.h"
#include "wire/topic.h"

#include <errno.h>
#include <stdlib.h>

struct expulsions {
        sd_event *event;
        struct broker_target *target;
        void (*on_begin)(const char *node, void *userdata);
        void *userdata;
        bool is_connected; /* the plane's own client: else the broker is away */
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
        struct backoff backoff;
        unsigned done;
        bool is_told; /* that it did not succeed */
        struct expulsion *next;
};

static const double expel_after_ms[] = {500, 2000}; /* once more, after the first and the second */

static void attempt(struct expulsion *x);

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

/* ---- one attempt ---- */

static int on_expel_again(sd_event_source *source, uint64_t at_us, void *userdata)
{
        (void)source, (void)at_us;
        attempt(userdata);
        return 0;
}

static void on_expelled(void *userdata)
{
        struct expulsion *x = userdata;

        x->mqtt = mqtt_free(x->mqtt, true);
        backoff_reset(&x->backoff);
        if (x->done == ELEMENTS(expel_after_ms))
                end_expulsion(x);
        else
                timer_arm(x->of->event, &x->timer, expel_after_ms[x->done++], on_expel_again, x);
}

static void on_expulsion_closed(const struct error *e, void *userdata)
{
        struct expulsion *x = userdata;

        if (!x->is_told)
                log_event(LOG_LEVEL_WARNING,
                        "could not end the connection of a removed node at once; it is tried again", "node",
                        x->node, "reason", e->text, NULL);
        x->is_told = true;
        x->mqtt = mqtt_free(x->mqtt, true);
        timer_arm(x->of->event, &x->timer, backoff_next_ms(&x->backoff, backoff_random()), on_expel_again, x);
}

static void attempt(struct expulsion *x)
{
        struct mqtt_handlers h = {
                .on_connected = on_expelled, .on_closed = on_expulsion_closed, .userdata = x};
        struct error e = {0};

        if (broker_target_connect(x->of->target, x->of->event, x->node, &h, &x->mqtt, &e) < 0)
                on_expulsion_closed(&e, x);
}

/* ---- from the first to the third time ---- */

static void pause_expulsion(struct expulsion *x)
{
        x->mqtt = mqtt_free(x->mqtt, true);
        x->timer = sd_event_source_disable_unref(x->timer);
        x->done = 0;
        backoff_reset(&x->backoff);
}

static void begin_expulsion(struct expulsion *x)
{
        x->of->on_begin(x->node, x->of->userdata);
        if (x->of->target->takes_client_id) {
                attempt(x);
                return;
        }
        /* Where the client id comes from the certificate, ours would end our own connection. */
        log_event(LOG_LEVEL_WARNING,
                "the outside broker must end the connection of a removed node: give it the new list of "
                "revoked certificates, or name its listener for nodes in gridplane.conf",
                "node", x->node, NULL);
        end_expulsion(x);
}

static struct expulsion *expulsion_of(struct expulsions *e, const char *node)
{
        struct expulsion *x = e->first;

        while (x && !str_equal(x->node, node))
                x = x->next;
        if (x)
                return x;
        x = xcalloc(1, sizeof *x);
        x->of = e;
        x->backoff = (struct backoff)BACKOFF_INIT(1000, 60000, 500);
        str_copy(x->node, sizeof x->node, node);
        x->next = e->first;
        e->first = x;
        return x;
}

int expulsions_add(struct expulsions *e, const char *node)
{
        struct expulsion *x = expulsion_of(e, node);

        pause_expulsion(x); /* of one that was expelled just now */
        if (e->is_connected) {
                begin_expulsion(x);
                return 0;
        }
        log_event(LOG_LEVEL_WARNING, "the connection of a removed node is ended when the broker is back",
                "node", node, NULL);
        return -ENOTCONN;
}

void expulsions_set_connected(struct expulsions *e, bool is_connected)
{
        struct expulsion *next;

        e->is_connected = is_connected;
        for (struct expulsion *x = e->first; x; x = next) {
                next = x->next;
                pause_expulsion(x);
                if (is_connected)
                        begin_expulsion(x);
        }
}

struct expulsions *expulsions_new(sd_event *event, struct broker_target *target,
        void (*on_begin)(const char *node, void *userdata), void *userdata)
{
        struct expulsions *e = xcalloc(1, sizeof *e);

        e->event = event;
        e->target = target;
        e->on_begin = on_begin;
        e->userdata = userdata;
        return e;
}

struct expulsions *expulsions_free(struct expulsions *e)
{
        while (e && e->first)
                end_expulsion(e->first);
        free(e);
        return NULL;
}
