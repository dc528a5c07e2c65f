/* How an incident is told. */
#include "plane/incidents_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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

        for (const struct member *m = g->members; m && json_array_size(ids) < INCIDENTS_SHOWN; m = m->hh.next)
                if (m->counts)
                        json_array_append_new(ids, json_string(m->node));
        return ids;
}

json_t *incidents_told(const struct group *g, int64_t until, int64_t now_ms)
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
