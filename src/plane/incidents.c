#include "plane/incidents_internal.h"

#include "base/alloc.h"
#include "base/json.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>

#define WINDOW_MS INT64_C(600000) /* and so long what is over is kept */
#define MIN_NODES 5
#define MIN_SITES 2
#define MIN_STILL 2

#define MAX_CAUSES  8
#define MAX_TARGETS 64
#define MAX_MEMBERS 200000

struct incidents *incidents_new(const struct cidr *ranges, size_t range_count)
{
        struct incidents *i = xcalloc(1, sizeof *i);

        i->ranges = xcalloc(range_count + 1, sizeof *i->ranges);
        for (size_t k = 0; k < range_count; k++)
                i->ranges[k] = ranges[k];
        i->range_count = range_count;
        i->ended = json_array();
        return i;
}

/* ---- members and groups come and go ---- */

static void member_free(struct incidents *i, struct group *g, struct member *m)
{
        HASH_DEL(g->members, m);
        free(m);
        i->member_count--;
}

static void group_free(struct incidents *i, struct group *g)
{
        struct member *m = NULL, *next;

        HASH_ITER(hh, g->members, m, next)
        {
                member_free(i, g, m);
        }
        HASH_DEL(i->groups, g);
        free(g);
}

static void group_free_if_empty(struct incidents *i, struct group *g)
{
        if (!g->open && !g->members)
                group_free(i, g);
}

static void node_free(struct incidents *i, struct node *n)
{
        HASH_DEL(i->nodes, n);
        free(n->services);
        free(n);
}

struct incidents *incidents_free(struct incidents *i)
{
        struct group *g = NULL, *next_group;
        struct node *n = NULL, *next_node;

        if (!i)
                return NULL;
        HASH_ITER(hh, i->groups, g, next_group)
        {
                group_free(i, g);
        }
        HASH_ITER(hh, i->nodes, n, next_node)
        {
                node_free(i, n);
        }
        json_decref(i->ended);
        free(i->ranges);
        free(i);
        return NULL;
}

static struct group *group_of(struct incidents *i, const char *organisation, const char *cause,
        const struct cidr *range, uint16_t port)
{
        char key[KEY_TEXT], text[INET_ADDR_TEXT];
        struct group *g = NULL;

        if (snprintf(key, sizeof key, "%s %s %s %u", organisation, cause, cidr_format(range, text), port) >=
                (int)sizeof key)
                return NULL;
        HASH_FIND_STR(i->groups, key, g);
        if (g)
                return g;
        g = xcalloc(1, sizeof *g);
        memcpy(g->key, key, sizeof key);
        str_copy(g->organisation, sizeof g->organisation, organisation);
        str_copy(g->cause, sizeof g->cause, cause);
        g->range = *range;
        g->port = port;
        HASH_ADD_STR(i->groups, key, g);
        return g;
}

static struct member *member_of(struct incidents *i, struct group *g, const char *node)
{
        struct member *m = NULL;

        HASH_FIND_STR(g->members, node, m);
        if (m || i->member_count >= MAX_MEMBERS)
                return m;
        m = xcalloc(1, sizeof *m);
        str_copy(m->node, sizeof m->node, node);
        HASH_ADD_STR(g->members, node, m);
        i->member_count++;
        return m;
}

/* ---- it begins, it ends ---- */

/* It had the cause when `m` got it, and had got it about then. A node that was cut off tells of it when it is
 * over: by the times of the nodes' events, not by when they came. */
static bool is_beside(const struct member *m, const struct member *other)
{
        return other->since >= m->since - WINDOW_MS && other->since <= m->since + WINDOW_MS &&
               (other->until == 0 || other->until >= m->since);
}

static bool are_many(const struct group *g, const struct member *m)
{
        const struct member *first = NULL;
        size_t nodes = 0;
        bool many_sites = false;

        for (const struct member *o = g->members; o; o = o->hh.next) {
                if (!is_beside(m, o))
                        continue;
                nodes++;
                if (!first)
                        first = o;
                else
                        many_sites |= !o->site[0] || !str_equal(o->site, first->site);
        }
        return nodes >= MIN_NODES && many_sites;
}

static void tell_end(struct incidents *i, struct group *g)
{
        json_array_append_new(i->ended, incidents_told(g, g->until, i->now_ms));
        g->changed = false;
}

/* Because of `m`, which is the last that was needed. It may be over already. */
static void begin_if_many(struct incidents *i, struct group *g, const struct member *m)
{
        int64_t until = 0;

        if (!are_many(g, m))
                return;
        if (g->changed) /* the one before, of which more was told late */
                tell_end(i, g);
        random_id("i", g->id);
        g->since = m->since;
        g->still = g->least_nodes = g->least_sites = 0;
        for (struct member *o = g->members; o; o = o->hh.next) {
                o->counts = o->is_late = is_beside(m, o);
                if (!o->counts)
                        continue;
                g->still += o->services > 0;
                if (o->since < g->since)
                        g->since = o->since;
                if (o->until > until)
                        until = o->until;
        }
        g->open = g->still >= MIN_STILL;
        g->until = g->open ? 0 : until;
        g->changed = true;
}

/* What still has the cause may be part of a new incident: within the time since it got it. */
static void end(struct incidents *i, struct group *g)
{
        g->open = false;
        g->was_left = true;
        g->until = i->now_ms > g->since ? i->now_ms : g->since;
        for (struct member *m = g->members; m; m = m->hh.next)
                m->is_late = false;
        tell_end(i, g);
}

static void come_to(struct group *g, struct member *m)
{
        if (!m->counts && m->since < g->since && m->since >= g->since - WINDOW_MS)
                g->since = m->since;
        g->changed |= !m->counts;
        m->counts = true;
        g->still++;
}

/* To an incident that is over. */
static void come_late(struct group *g, struct member *m)
{
        come_to(g, m);
        m->is_late = true;
        if (g->still < MIN_STILL)
                return;
        g->open = g->changed = true;
        g->until = 0;
}

/* False: there is no room. */
static bool join(struct incidents *i, struct group *g, const char *node, const char *site)
{
        struct member *m = member_of(i, g, node);

        if (!m)
                return false;
        if (m->services++ > 0)
                return true;
        m->since = i->now_ms;
        m->until = 0;
        str_copy(m->site, sizeof m->site, site ? site : "");
        if (g->open) {
                come_to(g, m);
        } else if (g->id[0] && m->since >= g->since - WINDOW_MS && m->since <= g->until + WINDOW_MS) {
                come_late(g, m);
        } else {
                begin_if_many(i, g, m);
        }
        return true;
}

static void leave(struct incidents *i, struct group *g, const char *node)
{
        struct member *m = NULL;

        HASH_FIND_STR(g->members, node, m);
        if (!m || --m->services > 0)
                return;
        m->until = i->now_ms > m->since ? i->now_ms : m->since;
        g->was_left = true;
        if (!m->counts)
                return;
        g->still--;
        if (g->open && g->still < MIN_STILL) {
                end(i, g);
        } else if (!g->open && m->is_late && m->until > g->until) {
                g->until = m->until;
                g->changed = true;
        }
}

static void forget_what_is_over(struct incidents *i, struct group *g)
{
        struct member *m = NULL, *next;

        g->forget_ms = 0;
        if (!g->open) {
                g->id[0] = '\0';
                g->still = g->least_nodes = g->least_sites = 0;
        }
        HASH_ITER(hh, g->members, m, next)
        {
                m->counts &= g->open;
                if (m->services == 0 && !m->counts)
                        member_free(i, g, m);
        }
}

/* ---- what a diagnosis says ---- */

static const struct cidr *range_of(const struct incidents *i, const struct inet_addr *a)
{
        for (size_t k = 0; k < i->range_count; k++)
                if (cidr_contains(&i->ranges[k], a))
                        return &i->ranges[k];
        return NULL;
}

static bool holds(struct group *const *groups, size_t count, const struct group *g)
{
        for (size_t k = 0; k < count; k++)
                if (groups[k] == g)
                        return true;
        return false;
}

static size_t add_cause(struct incidents *i, const char *organisation, const json_t *cause,
        struct group *ret[MAX_KEYS], size_t count)
{
        const char *code = json_string_value(json_object_get(cause, "code"));
        const char *severity = json_string_value(json_object_get(cause, "severity"));
        const json_t *targets = json_object_get(cause, "targets");

        if (!code || strlen(code) >= ID_TEXT || str_equal(severity, "warning"))
                return count;
        for (size_t k = 0; k < json_array_size(targets) && k < MAX_TARGETS && count < MAX_KEYS; k++) {
                const char *text = json_string_value(json_array_get(targets, k));
                const struct cidr *range;
                struct endpoint e;
                struct group *g;

                if (!text || endpoint_parse(text, &e) < 0)
                        continue;
                range = range_of(i, &e.address);
                g = range ? group_of(i, organisation, code, range, e.port) : NULL;
                if (g && !holds(ret, count, g))
                        ret[count++] = g;
        }
        return count;
}

static size_t groups_of(
        struct incidents *i, const char *organisation, const json_t *diagnosis, struct group *ret[MAX_KEYS])
{
        const json_t *causes = json_object_get(diagnosis, "causes");
        size_t count = 0;

        for (size_t k = 0; k < json_array_size(causes) && k < MAX_CAUSES; k++)
                count = add_cause(i, organisation, json_array_get(causes, k), ret, count);
        return count;
}

/* ---- nodes ---- */

static struct node *node_of(struct incidents *i, const char *organisation, const char *node, bool make)
{
        char key[2 * ID_TEXT];
        struct node *n = NULL;

        if (strlen(organisation) >= ID_TEXT || strlen(node) >= ID_TEXT)
                return NULL;
        snprintf(key, sizeof key, "%s %s", organisation, node);
        HASH_FIND_STR(i->nodes, key, n);
        if (n || !make || HASH_COUNT(i->nodes) >= MAX_MEMBERS)
                return n;
        n = xcalloc(1, sizeof *n);
        memcpy(n->key, key, sizeof key);
        str_copy(n->id, sizeof n->id, node);
        HASH_ADD_STR(i->nodes, key, n);
        return n;
}

static struct service *service_of(struct node *n, const char *name, bool make)
{
        for (size_t k = 0; k < n->count; k++)
                if (str_equal(n->services[k].name, name))
                        return &n->services[k];
        if (!make || n->count == MAX_SERVICES || strlen(name) >= ID_TEXT)
                return NULL;
        n->services = xrealloc_array(n->services, n->count + 1, sizeof *n->services);
        memset(&n->services[n->count], 0, sizeof *n->services);
        str_copy(n->services[n->count].name, ID_TEXT, name);
        return &n->services[n->count++];
}

/* Leaves what the service is in and not in `groups`, joins the rest. */
static void move(struct incidents *i, const struct node *n, struct service *s, struct group *const *groups,
        size_t count, const char *site)
{
        struct service before = *s;

        s->count = 0;
        for (size_t k = 0; k < count; k++)
                if (holds(before.groups, before.count, groups[k]) || join(i, groups[k], n->id, site))
                        s->groups[s->count++] = groups[k];
                else
                        group_free_if_empty(i, groups[k]);
        for (size_t k = 0; k < before.count; k++)
                if (!holds(s->groups, s->count, before.groups[k]))
                        leave(i, before.groups[k], n->id);
}

static void drop_service(struct incidents *i, struct node *n, struct service *s)
{
        move(i, n, s, NULL, 0, NULL);
        *s = n->services[--n->count];
        if (n->count == 0)
                node_free(i, n);
}

void incidents_report(struct incidents *i, const char *organisation, const char *node, const char *site,
        const char *service, const json_t *diagnosis, int64_t at_unix_ms)
{
        struct group *groups[MAX_KEYS];
        struct node *n = node_of(i, organisation, node, diagnosis != NULL);
        struct service *s = n ? service_of(n, service, diagnosis != NULL) : NULL;
        size_t count = s && diagnosis ? groups_of(i, organisation, diagnosis, groups) : 0;

        i->now_ms = at_unix_ms;
        if (s && count == 0)
                drop_service(i, n, s);
        else if (s)
                move(i, n, s, groups, count, site);
        else if (n && n->count == 0)
                node_free(i, n);
}

void incidents_forget(struct incidents *i, const char *organisation, const char *node)
{
        struct node *n = node_of(i, organisation, node, false);

        if (!n)
                return;
        for (size_t left = n->count; left > 0; left--) /* the node goes with the last one */
                drop_service(i, n, &n->services[left - 1]);
}

/* ---- over a restart ---- */

static size_t count_member(const json_t *incident, const char *name)
{
        json_int_t value = json_integer_value(json_object_get(incident, name));

        return value > 0 && value <= MAX_MEMBERS ? (size_t)value : 0;
}

void incidents_resume(struct incidents *i, const char *organisation, const json_t *incident)
{
        const char *id = json_string_value(json_object_get(incident, "id"));
        const char *cause = json_string_value(json_object_get(incident, "cause"));
        const char *range_text = json_string_value(json_object_get(incident, "range"));
        const char *since_text = json_string_value(json_object_get(incident, "since"));
        json_int_t port = json_integer_value(json_object_get(incident, "port"));
        const json_t *ids = json_object_get(incident, "node_ids");
        struct cidr range;
        struct group *g;
        int64_t since;

        if (!id || strlen(id) >= RANDOM_ID_TEXT || !cause || strlen(cause) >= ID_TEXT || !range_text ||
                cidr_parse(range_text, &range) < 0 || !since_text || time_parse_utc(since_text, &since) < 0 ||
                port < 0 || port > UINT16_MAX || strlen(organisation) >= ID_TEXT)
                return;
        g = group_of(i, organisation, cause, &range, (uint16_t)port);
        if (!g || g->open)
                return;
        str_copy(g->id, sizeof g->id, id);
        g->open = g->changed = true;
        g->since = since;
        g->least_nodes = count_member(incident, "nodes");
        g->least_sites = count_member(incident, "sites");
        for (size_t k = 0; k < json_array_size(ids) && k < INCIDENTS_SHOWN; k++) {
                const char *node = json_string_value(json_array_get(ids, k));
                struct member *m = node && strlen(node) < ID_TEXT ? member_of(i, g, node) : NULL;

                if (m)
                        m->counts = true;
        }
}

json_t *incidents_take_changes(struct incidents *i, int64_t now_unix_ms)
{
        struct group *g = NULL, *next;
        json_t *changes;

        i->now_ms = now_unix_ms;
        HASH_ITER(hh, i->groups, g, next)
        {
                if (g->open && g->still < MIN_STILL) /* nobody reported it again after a restart */
                        end(i, g);
                if (g->was_left)
                        g->forget_ms = now_unix_ms + WINDOW_MS;
                else if (g->forget_ms && now_unix_ms >= g->forget_ms && !g->changed)
                        forget_what_is_over(i, g);
                g->was_left = false;
                group_free_if_empty(i, g);
        }
        changes = i->ended;
        i->ended = json_array();
        for (g = i->groups; g; g = g->hh.next) {
                if (!g->changed)
                        continue;
                g->changed = false;
                json_array_append_new(changes, incidents_told(g, g->open ? 0 : g->until, now_unix_ms));
        }
        return changes;
}
