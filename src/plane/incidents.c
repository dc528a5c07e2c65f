#include "plane/incidents.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/random.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <uthash.h>

#define WINDOW_MS INT64_C(600000)
#define MIN_NODES 5
#define MIN_SITES 2
#define MIN_STILL 2

#define ID_TEXT      65
#define KEY_TEXT     192
#define MAX_CAUSES   8
#define MAX_TARGETS  64
#define MAX_KEYS     16 /* groups that one service of a node is in */
#define MAX_SERVICES 16 /* of a node */
#define MAX_MEMBERS  200000
#define MAX_SHOWN    500

/* A node that has a group's cause, or had it while its incident was open. */
struct member {
        char node[ID_TEXT], site[ID_TEXT];
        int64_t since;
        unsigned services; /* that have it now; 0: none any more */
        bool counts;       /* in the open incident */
        UT_hash_handle hh;
};

/* Everything with the same organisation, cause, range and port. */
struct group {
        char key[KEY_TEXT];
        char organisation[ID_TEXT], cause[ID_TEXT];
        struct cidr range;
        uint16_t port;
        struct member *members;
        size_t still; /* that count and have it now */
        /* the incident, while there is one */
        bool open, changed;
        char id[RANDOM_ID_TEXT];
        int64_t since;
        size_t least_nodes, least_sites; /* of an incident that goes on after a restart */
        UT_hash_handle hh;
};

struct service {
        char name[ID_TEXT];
        struct group *groups[MAX_KEYS];
        size_t count;
};
struct node {
        char key[2 * ID_TEXT];
        char id[ID_TEXT];
        struct service *services;
        size_t count;
        UT_hash_handle hh;
};

struct incidents {
        struct cidr *ranges;
        size_t range_count;
        struct group *groups;
        struct node *nodes;
        size_t member_count;
        json_t *ended;  /* that nobody has taken yet */
        int64_t now_ms; /* last heard */
};

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

/* ---- how an incident is told ---- */

static int compare_sites(const void *a, const void *b)
{
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Different ones; a node without a site is one of its own. */
static size_t count_sites(const struct group *g, size_t *ret_nodes)
{
        const char **sites = xcalloc((size_t)HASH_COUNT(g->members) + 1, sizeof *sites);
        const struct member *m;
        size_t count = 0, different = 0;

        *ret_nodes = 0;
        for (m = g->members; m; m = m->hh.next) {
                *ret_nodes += m->counts;
                if (m->counts && m->site[0])
                        sites[count++] = m->site;
                else if (m->counts && m->since) /* 0: known only from before a restart */
                        different++;
        }
        if (count)
                qsort(sites, count, sizeof *sites, compare_sites);
        for (size_t k = 0; k < count; k++)
                different += k == 0 || strcmp(sites[k], sites[k - 1]) != 0;
        free(sites);
        return different;
}

static void format_target(const struct group *g, char ret[2 * INET_ADDR_TEXT])
{
        char text[INET_ADDR_TEXT];

        cidr_format(&g->range, text);
        if (g->port == 0)
                snprintf(ret, 2 * INET_ADDR_TEXT, "%s", text);
        else
                snprintf(ret, 2 * INET_ADDR_TEXT, g->range.address.family == AF_INET6 ? "[%s]:%u" : "%s:%u",
                        text, g->port);
}

/* "10:02", with its day unless that is the day of `other_ms`. */
static void format_minute(int64_t at_ms, int64_t other_ms, char ret[32])
{
        time_t at = (time_t)(at_ms / 1000), other = (time_t)(other_ms / 1000);
        struct tm t, o;

        if (!gmtime_r(&at, &t) || !gmtime_r(&other, &o)) {
                str_copy(ret, 32, "?");
                return;
        }
        strftime(ret, 32, t.tm_year == o.tm_year && t.tm_yday == o.tm_yday ? "%H:%M" : "%Y-%m-%d %H:%M", &t);
}

static char *summarise(
        const struct group *g, const char *target, size_t nodes, size_t sites, int64_t until, int64_t now_ms)
{
        char since[32], end[32];

        format_minute(g->since, until ? until : now_ms, since);
        if (!until)
                return xasprintf("%zu nodes of %zu site%s lost %s since %s UTC", nodes, sites,
                        sites == 1 ? "" : "s", target, since);
        format_minute(until, g->since, end);
        return xasprintf("%zu nodes of %zu site%s lost %s from %s to %s UTC", nodes, sites,
                sites == 1 ? "" : "s", target, since, end);
}

static json_t *list_nodes(const struct group *g)
{
        json_t *ids = json_array();

        for (const struct member *m = g->members; m && json_array_size(ids) < MAX_SHOWN; m = m->hh.next)
                if (m->counts)
                        json_array_append_new(ids, json_string(m->node));
        return ids;
}

/* `until` 0: it goes on. */
static json_t *incident_to_json(const struct group *g, int64_t until, int64_t now_ms)
{
        char target[2 * INET_ADDR_TEXT], range[INET_ADDR_TEXT];
        size_t nodes, sites = count_sites(g, &nodes);
        _cleanup_free_ char *summary = NULL;

        if (nodes < g->least_nodes)
                nodes = g->least_nodes;
        if (sites < g->least_sites)
                sites = g->least_sites;
        format_target(g, target);
        summary = summarise(g, target, nodes, sites, until, now_ms);
        return json_pack("{s:s, s:{s:s, s:s, s:s, s:s, s:i, s:o, s:o, s:I, s:I, s:I, s:o, s:s}}",
                "organisation", g->organisation, "incident", "id", g->id, "cause", g->cause, "target", target,
                "range", cidr_format(&g->range, range), "port", (int)g->port, "since", json_time(g->since),
                "until", until ? json_time(until) : json_null(), "nodes", (json_int_t)nodes, "sites",
                (json_int_t)sites, "still", (json_int_t)g->still, "node_ids", list_nodes(g), "summary",
                summary);
}

/* ---- it begins, it ends ---- */

static bool is_recent(const struct member *m, int64_t now_ms)
{
        return m->services > 0 && m->since >= now_ms - WINDOW_MS;
}

static void begin_if_many(struct group *g, int64_t now_ms)
{
        const struct member *first = NULL;
        struct member *m;
        size_t nodes = 0, sites = 0;
        int64_t since = now_ms;

        for (m = g->members; m; m = m->hh.next) {
                if (!is_recent(m, now_ms))
                        continue;
                nodes++;
                if (m->since < since)
                        since = m->since;
                if (!first)
                        sites = 1;
                else if (sites == 1 && (!m->site[0] || !str_equal(m->site, first->site)))
                        sites = 2;
                if (!first)
                        first = m;
        }
        if (nodes < MIN_NODES || sites < MIN_SITES)
                return;
        random_id("i", g->id);
        g->open = g->changed = true;
        g->since = since;
        g->still = nodes;
        for (m = g->members; m; m = m->hh.next)
                m->counts = is_recent(m, now_ms);
}

/* What still has the cause may be part of a new incident: within the time since it got it. */
static void end(struct incidents *i, struct group *g, int64_t now_ms)
{
        struct member *m = NULL, *next;

        json_array_append_new(i->ended, incident_to_json(g, now_ms, now_ms));
        g->open = g->changed = false;
        g->still = g->least_nodes = g->least_sites = 0;
        HASH_ITER(hh, g->members, m, next)
        {
                m->counts = false;
                if (m->services == 0)
                        member_free(i, g, m);
        }
}

/* False: there is no room. */
static bool join(struct incidents *i, struct group *g, const char *node, const char *site, int64_t now_ms)
{
        struct member *m = member_of(i, g, node);

        if (!m)
                return false;
        if (m->services++ > 0)
                return true;
        m->since = now_ms;
        str_copy(m->site, sizeof m->site, site ? site : "");
        if (!g->open) {
                begin_if_many(g, now_ms);
                return true;
        }
        g->changed |= !m->counts;
        m->counts = true;
        g->still++;
        return true;
}

static void leave(struct incidents *i, struct group *g, const char *node, int64_t now_ms)
{
        struct member *m = NULL;

        HASH_FIND_STR(g->members, node, m);
        if (!m || --m->services > 0)
                return;
        if (m->counts && --g->still < MIN_STILL)
                end(i, g, now_ms); /* and m is gone */
        else if (!m->counts)
                member_free(i, g, m);
        group_free_if_empty(i, g);
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
                if (holds(before.groups, before.count, groups[k]) ||
                        join(i, groups[k], n->id, site, i->now_ms))
                        s->groups[s->count++] = groups[k];
                else
                        group_free_if_empty(i, groups[k]);
        for (size_t k = 0; k < before.count; k++)
                if (!holds(s->groups, s->count, before.groups[k]))
                        leave(i, before.groups[k], n->id, i->now_ms);
}

static void drop_service(struct incidents *i, struct node *n, struct service *s)
{
        move(i, n, s, NULL, 0, NULL);
        *s = n->services[--n->count];
        if (n->count == 0)
                node_free(i, n);
}

void incidents_report(struct incidents *i, const char *organisation, const char *node, const char *site,
        const char *service, const json_t *diagnosis, int64_t now_unix_ms)
{
        struct group *groups[MAX_KEYS];
        struct node *n = node_of(i, organisation, node, diagnosis != NULL);
        struct service *s = n ? service_of(n, service, diagnosis != NULL) : NULL;
        size_t count = s && diagnosis ? groups_of(i, organisation, diagnosis, groups) : 0;

        i->now_ms = now_unix_ms;
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
        for (size_t k = 0; k < json_array_size(ids) && k < MAX_SHOWN; k++) {
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
                        end(i, g, now_unix_ms);
                group_free_if_empty(i, g);
        }
        changes = i->ended;
        i->ended = json_array();
        for (g = i->groups; g; g = g->hh.next) {
                if (!g->changed)
                        continue;
                g->changed = false;
                json_array_append_new(changes, incident_to_json(g, 0, now_unix_ms));
        }
        return changes;
}
