#include "plane/store_internal.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "base/text.h"

#include <errno.h>
#include <string.h>

#define MAX_SERVICES 32

/* What the services fail of, for the list's filter. */
static int put_causes(struct plane_store *s, const char *organisation, const char *node,
        const json_t *services, struct error *e)
{
        const char *name;
        json_t *service;
        size_t count = 0;
        int r = db_run(s->db, e, "DELETE FROM node_causes WHERE node = ?", "s", node);

        json_object_foreach((json_t *)services, name, service)
        {
                const char *cause = json_string_value(json_object_get(service, "cause"));

                if (r < 0 || ++count > MAX_SERVICES)
                        break;
                if (!str_is_empty(cause))
                        r = db_run(s->db, e,
                                "INSERT OR IGNORE INTO node_causes (organisation, cause, node)"
                                " VALUES (?, ?, ?)",
                                "sss", organisation, cause, node);
        }
        return r;
}

/* The services of a node that is away stay as they were last, and so does why it went: who says goodbye
 * leaves a will besides. */
static int put(struct plane_store *s, const char *organisation, const char *node,
        const struct wire_status *status, int64_t now, struct error *e)
{
        _cleanup_free_ char *services = status->services ? json_to_text(status->services) : NULL;
        int r = db_run(s->db, e,
                "UPDATE nodes SET status_at = ?1, version = coalesce(nullif(?3, ''), version),"
                " address = coalesce(nullif(?4, ''), address), services = coalesce(?5, services),"
                " reason = CASE WHEN ?2 OR connected OR reason IS NULL THEN nullif(?6, '') ELSE reason END,"
                " last_seen = CASE WHEN ?2 OR connected THEN ?1 ELSE last_seen END,"
                " connected_since = CASE WHEN NOT ?2 THEN NULL WHEN connected THEN connected_since ELSE ?1 "
                "END,"
                " connected = ?2 WHERE id = ?7",
                "iisssss", now, (int64_t)status->online, status->version, status->address, services,
                status->reason, node);

        if (r == 0 && status->services)
                r = put_causes(s, organisation, node, status->services, e);
        return r;
}

int plane_node_status(struct plane_store *s, const char *node, const struct wire_status *status, int64_t now,
        bool *ret_changed, struct error *e)
{
        char organisation[65];
        int64_t connected = 0;
        int r = store_live_node(s, node, organisation, e);

        if (r == 0)
                r = db_query_integer(
                        s->db, e, 0, &connected, "SELECT connected FROM nodes WHERE id = ?", "s", node);
        if (r == 0)
                r = db_begin(s->db, e);
        if (r == 0)
                r = store_end(s, put(s, organisation, node, status, now, e), e);
        if (r == 0)
                *ret_changed = status->online != (connected != 0);
        return r;
}

static int on_id(sqlite3_stmt *row, void *userdata)
{
        strv_add(userdata, db_text(row, 0));
        return 0;
}

static int give_ids(int r, struct strv *nodes, struct strv *ret)
{
        if (r < 0)
                strv_done(nodes);
        else
                *ret = *nodes;
        return r;
}

int plane_nodes_unheard(struct plane_store *s, int64_t since, struct strv *ret, struct error *e)
{
        struct strv nodes = {0};
        int r = db_query(s->db, e, on_id, &nodes,
                "SELECT id FROM nodes WHERE connected = 1 AND coalesce(status_at, 0) < ?", "i", since);

        return give_ids(r, &nodes, ret);
}

/* The plane's own events of a node are numbered without gaps, and the last one's number is kept with it. */
int plane_nodes_untold(struct plane_store *s, struct strv *ret, struct error *e)
{
        struct strv nodes = {0};
        int r = db_query(s->db, e, on_id, &nodes,
                "SELECT n.id FROM nodes n CROSS JOIN events e"
                " ON e.node = n.id AND e.epoch = '" STORE_OWN_EPOCH "' AND e.seq = n.own_events"
                " WHERE n.state <> 'removed'"
                " AND e.name <> CASE WHEN n.connected THEN '" EVENT_NODE_CONNECT
                "' ELSE '" EVENT_NODE_DISCONNECT "' END",
                "");

        return give_ids(r, &nodes, ret);
}
