#include "plane/upgrades.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/timer.h"
#include "plane/store_upgrade.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <uthash.h>

#define SOON_MS        200.0
#define LEAST_MS       1000   /* between two looks */
#define IDLE_MS        5000.0 /* limits run out, nodes come back: what nobody tells of */
#define ASKING_MAXIMUM 64     /* at a time */
#define REQUEST_S      60.0
#define TOLD_WINDOW_US UINT64_C(60000000)
#define EVENT_FLEET    "Fleet Upgrade"

/* A request that was sent, until its answer has been taken in by a step. */
struct asking {
        char request[65], upgrade[65], node[65], organisation[65];
        enum upgrade_answer answer;
        bool is_answered;
        char text[UPGRADE_REASON_BYTES];
        UT_hash_handle hh;
};

struct upgrades {
        sd_event *event;
        struct plane_store *store;
        struct requests *requests;
        void (*on_change)(const char *organisation, const char *kind, json_t *value, void *userdata);
        void *userdata;
        struct asking *by_request;
        struct upgrades_counts counts;
        struct log_limit problems;
        sd_event_source *timer;
        int64_t looked_ms; /* monotonic */
        bool is_soon;
};

static int on_timer(sd_event_source *source, uint64_t at_us, void *userdata);

static void forget(struct upgrades *u, struct asking *a)
{
        HASH_DEL(u->by_request, a);
        free(a);
}

/* ---- answers ---- */

static const char *last_line(json_t *request)
{
        const json_t *lines = json_object_get(request, "lines");

        for (size_t i = json_array_size(lines); i > 0; i--) {
                const char *text = json_string_value(json_object_get(json_array_get(lines, i - 1), "text"));

                if (!str_is_empty(text))
                        return text;
        }
        return json_string_value(json_object_get(request, "error"));
}

/* What its exit status says (contract of the commands): used wrongly and not permitted will not mend. */
static enum upgrade_answer judge(const json_t *request)
{
        const char *end = json_string_value(json_object_get(request, "end"));
        int64_t status = json_integer_value(json_object_get(request, "status"));

        if (str_equal(end, "refused"))
                return ANSWER_REFUSED;
        if (!str_equal(end, "exited"))
                return ANSWER_LATER;
        return status == 0                                                        ? ANSWER_ACCEPTED
               : status == EX_USAGE || status == EX_NOPERM || status == EX_CONFIG ? ANSWER_REFUSED
                                                                                  : ANSWER_LATER;
}

void upgrades_request_changed(struct upgrades *u, const char *organisation, const char *request)
{
        json_auto_t *value = NULL;
        struct asking *a;

        HASH_FIND_STR(u->by_request, request, a);
        if (!a || requests_get(u->requests, organisation, request, 0, &value, NULL) < 0 ||
                !str_equal(json_string_value(json_object_get(value, "state")), "ended"))
                return;
        a->answer = judge(value);
        a->is_answered = true;
        snprintf(a->text, sizeof a->text, "%s", last_line(value) ? last_line(value) : "it gave no reason");
        upgrades_look(u);
}

/* Into the nodes of this upgrade. */
static void take_answers(struct upgrades *u, struct upgrade *g)
{
        for (struct asking *a = u->by_request; a; a = a->hh.next) {
                if (!str_equal(a->upgrade, g->id))
                        continue;
                for (size_t i = 0; i < g->node_count; i++) {
                        struct upgrade_node *n = &g->nodes[i];

                        if (!str_equal(n->id, a->node))
                                continue;
                        n->is_asking |= !a->is_answered;
                        if (a->is_answered) {
                                n->answer = a->answer;
                                str_copy(n->answer_text, sizeof n->answer_text, a->text);
                        }
                }
        }
}

static void forget_answers(struct upgrades *u, const char *upgrade)
{
        struct asking *next;

        for (struct asking *a = u->by_request; a; a = next) {
                next = a->hh.next;
                if (a->is_answered && str_equal(a->upgrade, upgrade))
                        forget(u, a);
        }
}

/* Of those that nothing is to come of any more. */
static void forget_others(struct upgrades *u, const struct strv *watched)
{
        struct asking *next;

        for (struct asking *a = u->by_request; a; a = next) {
                next = a->hh.next;
                if (a->is_answered && !strv_contains(watched, a->upgrade))
                        forget(u, a);
        }
}

/* ---- asking ---- */

static int send_request(
        struct upgrades *u, const struct upgrade *g, const char *node, char ret_id[65], struct error *e)
{
        struct actor by = {.role = ROLE_OPERATOR};
        struct strv words = {0};
        struct plane_node n;
        int r = plane_node_find(u->store, g->organisation, node, &n, e);

        if (r < 0)
                return r;
        snprintf(by.name, sizeof by.name, "upgrade:%s", g->id);
        str_copy(by.organisation, sizeof by.organisation, g->organisation);
        strv_add(&words, "--now");
        strv_add(&words, "--no-wait");
        strv_add(&words, "--channel");
        strv_add(&words, g->plan.channel);
        r = requests_start(u->requests, &by, &n, "update", &words, REQUEST_S, clock_unix_ms(), ret_id, e);
        strv_done(&words);
        return r;
}

static void ask(struct upgrades *u, const struct upgrade *g, const char *node)
{
        struct asking *a = xcalloc(1, sizeof *a);
        struct error e = {0};
        int r;

        str_copy(a->upgrade, sizeof a->upgrade, g->id);
        str_copy(a->organisation, sizeof a->organisation, g->organisation);
        str_copy(a->node, sizeof a->node, node);
        r = send_request(u, g, node, a->request, &e);
        u->counts.asked++;
        if (r < 0) { /* as if the node had said so */
                a->is_answered = true;
                a->answer = ANSWER_LATER;
                str_copy(a->text, sizeof a->text, e.text);
                snprintf(a->request, sizeof a->request, "unsent-%.50s", node);
                upgrades_look(u);
        }
        HASH_ADD_STR(u->by_request, request, a);
}

/* ---- one step of one upgrade ---- */

static int decide(struct upgrades *u, const char *id, struct upgrade *g, json_t **ret_event, struct error *e)
{
        size_t running = HASH_COUNT(u->by_request);
        int64_t now = clock_unix_ms();
        _cleanup_free_ char *message = NULL;
        int r = plane_upgrade_load(u->store, id, g, e);

        if (r < 0)
                return r;
        take_answers(u, g);
        upgrade_step(g, running < ASKING_MAXIMUM ? ASKING_MAXIMUM - running : 0, now);
        r = plane_upgrade_save(u->store, g, "plane", now, e);
        if (r < 0 || !g->stopped_by)
                return r;
        message = xasprintf("The fleet upgrade '%s' stopped itself: %s. The last to fail was this node: %s",
                g->name, g->reason, g->stopped_by->reason);
        r = plane_event_own(u->store, g->stopped_by->id, EVENT_FLEET, WIRE_ERROR, message, now, ret_event, e);
        if (r == -ENOENT) /* it was removed since */
                r = 0;
        if (r == 0) {
                struct actor plane = {.name = "plane", .role = ROLE_OPERATOR};

                str_copy(plane.organisation, sizeof plane.organisation, g->organisation);
                r = plane_audit(u->store, &plane, g->organisation, "upgrade.stop", g->id,
                        json_pack("{s:s, s:s}", "name", g->name, "reason", g->reason), now, e);
        }
        return r;
}

static void tell(struct upgrades *u, const struct upgrade *g)
{
        json_t *value = NULL;

        if (plane_upgrade_show(u->store, g->organisation, g->id, &value, NULL) < 0)
                return;
        u->on_change(g->organisation, "upgrade", value, u->userdata);
        json_decref(value);
}

static bool has_news(const struct upgrade *g)
{
        for (size_t i = 0; i < g->node_count; i++)
                if (g->nodes[i].is_changed)
                        return true;
        return g->is_changed || g->line_count > 0;
}

static void say_unstored(struct upgrades *u, const struct error *e)
{
        uint64_t now_us;
        unsigned suppressed;

        u->counts.failed++;
        sd_event_now(u->event, CLOCK_MONOTONIC, &now_us);
        if (log_limit_allows(&u->problems, now_us, TOLD_WINDOW_US, &suppressed))
                log_event(LOG_LEVEL_ERROR, "an upgrade cannot go on now; it is tried again", "reason",
                        e->text, NULL);
}

static void step(struct upgrades *u, const char *id)
{
        struct db *db = plane_store_db(u->store);
        struct upgrade g = {0};
        struct error e = {0};
        json_t *event = NULL;
        int r = db_begin(db, &e);

        if (r == 0) {
                r = decide(u, id, &g, &event, &e);
                if (r < 0)
                        db_rollback(db);
                else
                        r = db_commit(db, &e);
        }
        if (r < 0) {
                if (r != -EBUSY)
                        say_unstored(u, &e);
        } else {
                forget_answers(u, id);
                for (size_t i = 0; i < g.node_count; i++)
                        if (g.nodes[i].is_to_ask)
                                ask(u, &g, g.nodes[i].id);
                if (has_news(&g))
                        tell(u, &g);
                if (event)
                        u->on_change(g.organisation, "event", event, u->userdata);
        }
        json_decref(event);
        upgrade_done(&g);
}

/* ---- when ---- */

static int64_t now_monotonic_ms(const struct upgrades *u)
{
        uint64_t now_us;

        sd_event_now(u->event, CLOCK_MONOTONIC, &now_us);
        return (int64_t)(now_us / 1000);
}

static int on_timer(sd_event_source *source, uint64_t at_us, void *userdata)
{
        struct upgrades *u = userdata;
        struct strv ids = {0};
        struct error e = {0};

        (void)source, (void)at_us;
        u->is_soon = false;
        u->looked_ms = now_monotonic_ms(u);
        if (plane_upgrades_watched(u->store, &ids, &e) < 0)
                say_unstored(u, &e);
        for (size_t i = 0; i < ids.count; i++)
                step(u, ids.items[i]);
        forget_others(u, &ids);
        strv_done(&ids);
        if (!u->is_soon)
                timer_arm(u->event, &u->timer, IDLE_MS, on_timer, u);
        return 0;
}

void upgrades_look(struct upgrades *u)
{
        int64_t since_ms;

        if (!u || u->is_soon)
                return;
        since_ms = now_monotonic_ms(u) - u->looked_ms;
        u->is_soon = true;
        timer_arm(u->event, &u->timer, since_ms >= LEAST_MS ? SOON_MS : (double)(LEAST_MS - since_ms),
                on_timer, u);
}

void upgrades_counts(const struct upgrades *u, struct upgrades_counts *ret)
{
        *ret = u->counts;
        ret->asking = HASH_COUNT(u->by_request);
}

struct upgrades *upgrades_new(sd_event *event, struct plane_store *store, struct requests *requests,
        void (*on_change)(const char *organisation, const char *kind, json_t *value, void *userdata),
        void *userdata)
{
        struct upgrades *u = xcalloc(1, sizeof *u);

        u->event = sd_event_ref(event);
        u->store = store;
        u->requests = requests;
        u->on_change = on_change;
        u->userdata = userdata;
        u->looked_ms = -LEAST_MS;
        timer_arm(event, &u->timer, LEAST_MS, on_timer, u);
        return u;
}

struct upgrades *upgrades_free(struct upgrades *u)
{
        if (!u)
                return NULL;
        while (u->by_request)
                forget(u, u->by_request);
        sd_event_source_disable_unref(u->timer);
        sd_event_unref(u->event);
        free(u);
        return NULL;
}
