#include "net/transfer_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"
#include "base/timer.h"

#include <math.h>
#include <string.h>

#define FIRST_RETURN_MS   5000.0
#define LONGEST_RETURN_MS 600000.0
#define BAD_MS            60000.0

/* ---- the order of endpoints ---- */

static void add(struct way_round *w, const struct inet_addr *list, size_t count, uint16_t port)
{
        for (size_t i = 0; i < count && w->count < MAX_CANDIDATES; i++)
                w->list[w->count++] = (struct endpoint){.address = list[i], .port = port};
}

/* The one that worked last comes first. */
static void prefer(struct inet_addr *list, size_t count, const struct inet_addr *good)
{
        for (size_t i = 1; i < count; i++)
                if (inet_addr_equal(&list[i], good)) {
                        memmove(&list[1], &list[0], i * sizeof(*list));
                        list[0] = *good;
                        return;
                }
}

/* Of the host, and where it answers nothing, of the profile. */
static size_t order(const struct transfer_engine *e, const struct inet_addr *addresses, size_t count,
        struct inet_addr ret[RESOLVER_MAX_ADDRESSES])
{
        struct inet_addr all[2 * RESOLVER_MAX_ADDRESSES];
        size_t n = 0;

        for (size_t i = 0; i < count && n < RESOLVER_MAX_ADDRESSES; i++)
                all[n++] = addresses[i];
        for (size_t i = 0; i < e->known_count && n < ELEMENTS(all); i++)
                all[n++] = e->known[i];
        n = inet_addr_alternate(ret, RESOLVER_MAX_ADDRESSES, all, n);
        prefer(ret, n, &e->good);
        return n;
}

static void watch_return(struct transfer_engine *e, const char *host, uint16_t port);

/* What the daemon says of the service; what one that is dead said counts no more. */
static const struct way_view *told(const struct transfer_engine *e)
{
        bool is_told = e->has_ways && e->service && ways_is_fresh(&e->ways, clock_unix_ms());

        return is_told ? ways_find(&e->ways, e->service) : NULL;
}

/* The daemon knows that no address answers. */
static bool is_failed(const struct transfer_engine *e)
{
        const struct way_view *v = told(e);

        /* What was seen here since is newer. */
        return v && str_equal(v->state, "failed") && e->ways.written_unix_ms > e->opened_unix_ms;
}

static bool is_bad(const struct transfer_engine *e, const struct endpoint *to)
{
        double now_ms = engine_now_ms();

        for (size_t i = 0; i < MAX_BAD; i++)
                if (e->bad[i].until_ms > now_ms && endpoint_equal(&e->bad[i].to, to))
                        return true;
        return false;
}

/* What failed lately comes after what did not, in either part in the order that it had. */
static void put_bad_last(const struct transfer_engine *e, struct way_round *w)
{
        struct endpoint bad[MAX_CANDIDATES] = {0};
        size_t good_count = 0, bad_count = 0;

        for (size_t i = 0; i < w->count; i++)
                if (is_bad(e, &w->list[i]))
                        bad[bad_count++] = w->list[i];
                else
                        w->list[good_count++] = w->list[i];
        memcpy(&w->list[good_count], bad, bad_count * sizeof(*bad));
}

void way_plan(struct transfer_engine *e, uint16_t port, const struct inet_addr *addresses, size_t count,
        const struct inet_addr *others, size_t other_count, struct way_round *ret)
{
        struct inet_addr own[RESOLVER_MAX_ADDRESSES], all[2 * RESOLVER_MAX_ADDRESSES], each[MAX_CANDIDATES];
        size_t n = order(e, addresses, count, own), all_count, each_count;
        bool may_fall_back = e->fallback != TRANSFER_FALLBACK_NONE && e->fallback_port != port;
        bool is_blocked = e->on_fallback || is_failed(e);

        *ret = (struct way_round){0};
        if (!may_fall_back) {
                add(ret, own, n, port);
                put_bad_last(e, ret);
                return;
        }
        memcpy(all, own, n * sizeof(*own));
        all_count = n;
        for (size_t i = 0; i < other_count && all_count < ELEMENTS(all); i++)
                all[all_count++] = others[i];
        each_count = inet_addr_alternate(each, ELEMENTS(each), all, all_count);
        prefer(each, each_count, &e->good);
        /* As long as the port is known to be blocked, the other comes first; the return is tried apart. */
        if (!is_blocked)
                add(ret, own, n, port);
        add(ret, each, each_count, e->fallback_port);
        if (is_blocked)
                add(ret, own, n, port);
        put_bad_last(e, ret);
}

bool way_is_fallback(const struct transfer_engine *e, uint16_t port, const struct endpoint *to)
{
        return to->port == e->fallback_port && to->port != port;
}

static void forget_bad(struct transfer_engine *e, const struct endpoint *to)
{
        for (size_t i = 0; i < MAX_BAD; i++)
                if (endpoint_equal(&e->bad[i].to, to))
                        e->bad[i].until_ms = 0;
}

void way_worked(struct transfer_engine *e, const char *host, uint16_t port, const struct endpoint *to)
{
        e->good = to->address;
        forget_bad(e, to);
        e->on_fallback = way_is_fallback(e, port, to);
        if (e->on_fallback)
                watch_return(e, host, port);
        else
                way_stop(e);
}

void way_failed(struct transfer_engine *e, const struct endpoint *to, const struct transfer *who)
{
        if (inet_addr_equal(&e->good, &to->address))
                e->good = (struct inet_addr){0};
        if (!inet_addr_is_set(&to->address) || is_bad(e, to))
                return;
        e->bad[e->next_bad].to = *to;
        e->bad[e->next_bad].until_ms = engine_now_ms() + BAD_MS;
        e->next_bad = (e->next_bad + 1) % MAX_BAD;
        /* Who waits for the connection that another was to make does not try the same again. */
        for (struct transfer *t = e->transfers; t; t = t->next)
                if (t != who && t->attempt && t->attempt->fd < 0 && !t->attempt->has_begun &&
                        t->attempt->reached == HTTPS_STAGE_TCP && endpoint_equal(&t->attempt->to, to)) {
                        attempt_stop(t);
                        transfer_try_now(t);
                }
}

void way_proved(struct transfer_engine *e)
{
        e->back.delay_ms = FIRST_RETURN_MS;
}

const struct way_view *way_cause(const struct transfer_engine *e)
{
        const struct way_view *v = told(e);

        return v && v->summary[0] && !str_equal(v->state, "ok") ? v : NULL;
}

/* ---- whether the port answers again ---- */

static void try_return(struct transfer_engine *e);

static void end_try(struct transfer_engine *e)
{
        if (!e->back.attempt.easy)
                return;
        http_engine_remove(lane_http(e, BUDGET_CONTROL), e->back.attempt.easy);
        attempt_undial(&e->back.attempt);
}

static int on_return_time(sd_event_source *source, uint64_t usec, void *userdata)
{
        (void)source, (void)usec;
        try_return(userdata);
        return 0;
}

/* What goes by the fallback goes on here, from the byte where it is; what is nearly done ends there. */
static void return_all(struct transfer_engine *e)
{
        e->on_fallback = false;
        e->opened_unix_ms = clock_unix_ms();
        e->back.delay_ms = fmin(fmax(e->back.delay_ms, FIRST_RETURN_MS) * 2, LONGEST_RETURN_MS);
        for (struct transfer *t = e->transfers, *next; t; t = next) {
                next = t->next;
                if (t->attempt && way_is_fallback(e, t->request.port, &t->attempt->to) &&
                        (t->view.size == 0 || t->view.size - t->view.bytes > TRANSFER_SYNC_BYTES / 4) &&
                        !t->request.body_path) {
                        attempt_stop(t);
                        transfer_try_now(t);
                } else if (!t->attempt && t->retry_after_ms == 0)
                        transfer_try_now(t);
        }
}

static void on_tried(CURL *easy, CURLcode code, void *userdata)
{
        struct transfer_engine *e = userdata;

        (void)easy;
        attempt_undial(&e->back.attempt);
        if (code == CURLE_OK) {
                for (size_t i = 0; i < MAX_BAD; i++)
                        if (e->bad[i].to.port == e->back.port)
                                e->bad[i].until_ms = 0;
                e->good = e->back.attempt.to.address;
                e->back.timer = sd_event_source_disable_unref(e->back.timer);
                return_all(e);
                return;
        }
        timer_arm(e->event, &e->back.timer, TRANSFER_RETURN_MS, on_return_time, e);
}

/* The addresses of whoever goes by the fallback now; they take turns. */
static bool next_address(struct transfer_engine *e, struct endpoint *ret)
{
        struct inet_addr list[RESOLVER_MAX_ADDRESSES];
        size_t count = 0;

        for (struct transfer *t = e->transfers; t && count == 0; t = t->next)
                if (str_equal(t->request.host, e->back.host))
                        count = order(e, t->addresses, t->address_count, list);
        if (count == 0 && !e->proxy)
                return false;
        *ret = (struct endpoint){.port = e->back.port};
        if (!e->proxy)
                ret->address = list[e->back.next++ % count];
        return true;
}

static void try_return(struct transfer_engine *e)
{
        struct http_engine_handlers h = {.on_done = on_tried, .userdata = e};
        CURL *easy;

        end_try(e);
        e->back.attempt = (struct attempt){.fd = -1};
        if (!next_address(e, &e->back.attempt.to)) {
                /* Nobody transfers: the next attempt tries the port first. */
                e->on_fallback = false;
                way_stop(e);
                return;
        }
        attempt_dial(&e->back.attempt, e, e->back.host, e->back.port, "/", false);
        easy = e->back.attempt.easy;
        curl_easy_setopt(easy, CURLOPT_CONNECT_ONLY, 1L);
        curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
        curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)TLS_PATIENCE_MS);
        if (!lane_http(e, BUDGET_CONTROL) || http_engine_add(lane_http(e, BUDGET_CONTROL), easy, &h) < 0)
                end_try(e);
        timer_arm(e->event, &e->back.timer, TRANSFER_RETURN_MS, on_return_time, e);
}

static void watch_return(struct transfer_engine *e, const char *host, uint16_t port)
{
        if (e->back.timer)
                return;
        free(e->back.host);
        e->back.host = xstrdup(host);
        e->back.port = port;
        timer_arm(e->event, &e->back.timer, fmax(e->back.delay_ms, FIRST_RETURN_MS), on_return_time, e);
}

void way_try_return_now(struct transfer_engine *e)
{
        if (e->back.timer && !e->back.attempt.easy)
                timer_arm(e->event, &e->back.timer, 0, on_return_time, e);
}

void way_stop(struct transfer_engine *e)
{
        e->back.timer = sd_event_source_disable_unref(e->back.timer);
        end_try(e);
}
