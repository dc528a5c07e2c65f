/* Upgrades of many nodes. */
#include "plane/api_internal.h"

#include "plane/store_upgrade.h"

#include <stdio.h>

/* The upgrade of the path's first "*", by id or name. False after replying. */
static bool path_upgrade(struct exchange *x, char ret[65])
{
        struct error e = {0};
        int r = plane_upgrade_find(x->api->options.store, x->organisation, x->values[0], ret, &e);

        if (r < 0)
                api_problem_error(x, r, &e);
        return r == 0;
}

static void show(struct exchange *x, unsigned status, const char *id)
{
        struct error e = {0};
        json_t *value = NULL;
        int r = plane_upgrade_show(x->api->options.store, x->organisation, id, &value, &e);

        if (r < 0)
                api_problem_error(x, r, &e);
        else
                api_reply_json(x, status, value);
}

void api_upgrades_list(struct exchange *x)
{
        static const char *const states[] = {
                "planned", "running", "paused", "stopped", "cancelled", "completed"};
        struct error e = {0};
        json_t *list = NULL;
        struct page page;
        int state, r;

        if (!api_query_choice(x, "state", states, ELEMENTS(states), -1, &state) || !api_query_page(x, &page))
                return;
        r = plane_upgrade_list(
                x->api->options.store, x->organisation, state < 0 ? NULL : states[state], &page, &list, &e);
        api_reply_result(x, r, list, &e);
}

static void create(struct exchange *x, const char *name, const struct upgrade_plan *plan)
{
        char id[65], location[96];
        struct error e = {0};
        int r = plane_upgrade_create(
                x->api->options.store, &x->actor, x->organisation, name, plan, clock_unix_ms(), id, &e);

        if (r < 0) {
                api_problem_error(x, r, &e);
                return;
        }
        snprintf(location, sizeof location, "/api/v1/upgrades/%s", id);
        show(x, MHD_HTTP_CREATED, id);
        api_reply_header(x, MHD_HTTP_HEADER_LOCATION, location);
}

void api_upgrades_create(struct exchange *x)
{
        struct upgrade_plan plan = {0};
        json_auto_t *body = NULL;
        const char *name;
        struct json_reader r;
        struct error e = {0};

        if (!api_body(x, &body))
                return;
        json_reader_init(&r, body, "the body", &e);
        name = json_take_text(&r, "name", API_NAME_MAXIMUM);
        upgrade_plan_read(&r, &plan);
        if (api_read_done(x, &r))
                create(x, name, &plan);
        upgrade_plan_done(&plan);
}

void api_upgrades_show(struct exchange *x)
{
        char id[65];

        if (path_upgrade(x, id))
                show(x, MHD_HTTP_OK, id);
}

void api_upgrades_preview(struct exchange *x)
{
        struct error e = {0};
        json_t *value = NULL;
        char id[65];
        int r;

        if (!path_upgrade(x, id))
                return;
        r = plane_upgrade_preview(x->api->options.store, x->organisation, id, &value, &e);
        api_reply_result(x, r, value, &e);
}

void api_upgrades_nodes(struct exchange *x)
{
        static const char *const states[] = {"NEW", "READY", "WORKING", "DONE", "SKIPPED", "ERROR"};
        struct upgrade_filter f = {.state = uri_query(&x->uri, "state")};
        struct error e = {0};
        json_t *list = NULL;
        struct page page;
        char id[65];
        int state, r;

        if (!api_query_choice(x, "state", states, ELEMENTS(states), -1, &state) ||
                !api_query_integer(x, "wave", 0, UPGRADE_MAX_WAVES, -1, &f.wave) ||
                !api_query_page(x, &page) || !path_upgrade(x, id))
                return;
        r = plane_upgrade_nodes(x->api->options.store, x->organisation, id, &f, &page, &list, &e);
        api_reply_result(x, r, list, &e);
}

void api_upgrades_timeline(struct exchange *x)
{
        struct error e = {0};
        json_t *list = NULL;
        struct page page;
        char id[65];
        int r;

        if (!api_query_page(x, &page) || !path_upgrade(x, id))
                return;
        r = plane_upgrade_timeline(x->api->options.store, x->organisation, id, &page, &list, &e);
        api_reply_result(x, r, list, &e);
}

/* ---- what is done with one ---- */

static void act(struct exchange *x, enum upgrade_action action)
{
        const struct api_options *o = &x->api->options;
        struct error e = {0};
        json_t *value = NULL;
        char id[65];
        int r;

        if (!path_upgrade(x, id))
                return;
        r = plane_upgrade_act(o->store, &x->actor, x->organisation, id, action, clock_unix_ms(), &e);
        if (r < 0) {
                api_problem_error(x, r, &e);
                return;
        }
        show(x, MHD_HTTP_OK, id);
        if (plane_upgrade_show(o->store, x->organisation, id, &value, NULL) == 0) {
                api_changed(x->api, x->organisation, "upgrade", value);
                json_decref(value);
        }
        upgrades_look(o->upgrades);
}

void api_upgrades_start(struct exchange *x)
{
        act(x, ACTION_START);
}

void api_upgrades_pause(struct exchange *x)
{
        act(x, ACTION_PAUSE);
}

void api_upgrades_resume(struct exchange *x)
{
        act(x, ACTION_RESUME);
}

void api_upgrades_cancel(struct exchange *x)
{
        act(x, ACTION_CANCEL);
}

void api_upgrades_retry(struct exchange *x)
{
        act(x, ACTION_RETRY);
}
