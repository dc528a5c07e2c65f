/* Nodes' software updates, and the tags of nodes. */
#include "plane/api_internal.h"

#include "plane/store_update.h"

#include <string.h>

/* ---- updates ---- */

static void reply_updates(struct exchange *x, const char *node)
{
        static const char *const statuses[] = {"In Progress", "Completed", "Failed"};
        struct update_filter f = {.node = node, .status = uri_query(&x->uri, "status")};
        struct error e = {0};
        json_t *list = NULL;
        struct page page;
        int status, r;

        if (!api_query_choice(x, "status", statuses, ELEMENTS(statuses), -1, &status) ||
                !api_query_time(x, "since", &f.since) || !api_query_page(x, &page))
                return;
        r = plane_update_list(x->api->options.store, x->organisation, &f, &page, &list, &e);
        api_reply_result(x, r, list, &e);
}

void api_updates_list(struct exchange *x)
{
        const char *node;
        char id[65];

        if (api_query_node(x, id, &node))
                reply_updates(x, node);
}

void api_nodes_updates(struct exchange *x)
{
        struct plane_node node;

        if (api_path_node(x, &node))
                reply_updates(x, node.id);
}

void api_updates_show(struct exchange *x)
{
        struct error e = {0};
        json_t *value = NULL;
        int r = plane_update_get(x->api->options.store, x->organisation, x->values[0], &value, &e);

        api_reply_result(x, r, value, &e);
}

/* ---- tags ---- */

static void change_tags(struct exchange *x, const char *node, const json_t *set, const json_t *remove)
{
        const struct api_options *o = &x->api->options;
        struct error e = {0};
        json_t *tags = NULL;
        int64_t version = 0;
        int r = plane_node_tag(
                o->store, &x->actor, x->organisation, node, set, remove, clock_unix_ms(), &version, &e);

        if (r == 0)
                r = plane_node_tags(o->store, x->organisation, node, &tags, &e);
        if (r < 0) {
                api_problem_error(x, r, &e);
                return;
        }
        if (version > 0)
                broker_notice(o->broker, node, version); /* without a broker now: sent when it is back */
        api_reply_json(x, MHD_HTTP_OK, json_pack("{s:o}", "tags", tags));
        api_node_changed(x->api, x->organisation, node);
        upgrades_look(o->upgrades);
}

static bool are_texts(const json_t *list)
{
        json_t *item;
        size_t i;

        json_array_foreach(list, i, item)
        {
                if (!json_is_string(item))
                        return false;
        }
        return true;
}

void api_nodes_tags(struct exchange *x)
{
        json_auto_t *body = NULL;
        json_t *set, *remove;
        struct plane_node node;
        struct json_reader r;
        struct error e = {0};

        if (!api_path_node(x, &node) || !api_body(x, &body))
                return;
        json_reader_init(&r, body, "the body", &e);
        set = json_take_optional_object(&r, "set");
        remove = json_take_optional_array(&r, "remove", TAGS_OF_NODE);
        if (!are_texts(remove))
                json_reader_fail(&r, "remove", "has an item that is not a text");
        if (r.result == 0 && json_object_size(set) + json_array_size(remove) == 0)
                json_reader_fail(&r, "set", "is empty, and so is 'remove': nothing is to change");
        if (api_read_done(x, &r))
                change_tags(x, node.id, set, remove);
}
