/* A lane carries the transfers of one priority: connections of its own, so that those of HTTP/2, which share
 * a socket, wait for the budget together, and what is more urgent never waits behind them. */
#include "net/transfer_internal.h"

#include "base/alloc.h"

#include <math.h>

#define TURN_BYTES 65536.0 /* of the budget, taken ahead */
#define DISK_MS    20.0

static bool is_disk_behind(const struct lane *l)
{
        for (const struct transfer *t = l->engine->transfers; t; t = t->next)
                if (t->attempt && t->request.priority == l->priority && file_is_behind(&t->file))
                        return true;
        return false;
}

/* That nothing moves now is ours, and not the way's. */
static void excuse(struct lane *l, double now_ms)
{
        for (struct transfer *t = l->engine->transfers; t; t = t->next)
                if (t->attempt && t->request.priority == l->priority)
                        transfer_held(t, now_ms);
}

static double on_turn(void *userdata)
{
        struct lane *l = userdata;
        struct budget *b = l->engine->budget;
        double wait_ms = 0, now_ms = engine_now_ms();

        if (is_disk_behind(l)) {
                excuse(l, now_ms);
                return DISK_MS;
        }
        if (!b || l->credit > 0)
                return 0;
        l->credit += (double)budget_take(b, l->priority, (size_t)(TURN_BYTES - l->credit), now_ms, &wait_ms);
        if (l->credit > 0)
                return 0;
        excuse(l, now_ms);
        return fmax(wait_ms, 1);
}

struct http_engine *lane_http(struct transfer_engine *e, enum budget_class c)
{
        struct lane *l = &e->lanes[c];

        if (l->http)
                return l->http;
        *l = (struct lane){.engine = e, .priority = c};
        if (http_engine_new(e->event, &l->http) < 0)
                return NULL;
        http_engine_set_turn(l->http, on_turn, l);
        return l->http;
}

void lane_moved(struct transfer_engine *e, enum budget_class c, size_t bytes, double now_ms)
{
        struct lane *l = &e->lanes[c];

        if (!e->budget)
                return;
        budget_moved(e->budget, bytes, now_ms);
        l->credit = budget_limit(e->budget) ? l->credit - (double)bytes : 0;
}

void lane_leave(struct transfer_engine *e, enum budget_class c)
{
        struct lane *l = &e->lanes[c];

        for (const struct transfer *t = e->transfers; t; t = t->next)
                if (t->request.priority == c && t->attempt)
                        return;
        if (e->budget && l->credit > 0)
                budget_give_back(e->budget, (size_t)l->credit);
        /* A debt stays: whoever comes next pays it. */
        l->credit = fmin(l->credit, 0);
}

void lanes_free(struct transfer_engine *e)
{
        for (size_t i = 0; i < BUDGET_CLASSES; i++)
                http_engine_free(e->lanes[i].http);
}
