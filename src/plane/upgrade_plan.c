/* What an upgrade is to be, and whom it takes in which wave. */
#include "plane/upgrade.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_MAXIMUM   63
#define VALUE_MAXIMUM 128
#define SITE_MAXIMUM  64

/* ---- tags ---- */

bool upgrade_tag_key_is_valid(const char *key)
{
        size_t length = strnlen(key, KEY_MAXIMUM + 1);

        if (length == 0 || length > KEY_MAXIMUM || !isalnum((unsigned char)key[0]))
                return false;
        for (; *key; key++)
                if (!isascii((unsigned char)*key) || isupper((unsigned char)*key) ||
                        (!isalnum((unsigned char)*key) && !strchr(".-_", *key)))
                        return false;
        return true;
}

bool upgrade_tag_value_is_valid(const char *value)
{
        if (strnlen(value, VALUE_MAXIMUM + 1) > VALUE_MAXIMUM)
                return false;
        for (; *value; value++)
                if (!isascii((unsigned char)*value) ||
                        (!isalnum((unsigned char)*value) && !strchr("._:/@+-", *value)))
                        return false;
        return true;
}

/* "key" or "key=value". */
static bool is_tag(const char *s)
{
        _cleanup_free_ char *key = xstrdup(s);
        char *equals = strchr(key, '=');

        if (equals)
                *equals = 0;
        return upgrade_tag_key_is_valid(key) && (!equals || upgrade_tag_value_is_valid(equals + 1));
}

static bool tag_matches(const char *tag, const char *wanted)
{
        size_t length = strlen(wanted);

        if (strchr(wanted, '='))
                return str_equal(tag, wanted);
        return strncmp(tag, wanted, length) == 0 && tag[length] == '=';
}

/* The first of the wanted ones that it has; NULL: none. */
static const char *matching(const struct strv *tags, const struct strv *wanted)
{
        for (size_t k = 0; k < wanted->count; k++)
                for (size_t i = 0; i < tags->count; i++)
                        if (tag_matches(tags->items[i], wanted->items[k]))
                                return wanted->items[k];
        return NULL;
}

/* ---- reading and writing ---- */

void upgrade_plan_done(struct upgrade_plan *p)
{
        strv_done(&p->include);
        strv_done(&p->exclude);
        strv_done(&p->sites);
        *p = (struct upgrade_plan){0};
}

static bool is_site(const char *s)
{
        return *s && strlen(s) <= SITE_MAXIMUM;
}

static void read_texts(struct json_reader *r, const char *name, bool (*is_valid)(const char *s),
        const char *what, struct strv *ret)
{
        json_t *list = json_take_optional_array(r, name, UPGRADE_MAX_CHOICES), *item;
        size_t i;

        json_array_foreach(list, i, item)
        {
                const char *text = json_string_value(item);

                if (!text || strlen(text) != json_string_length(item) || !is_valid(text)) {
                        json_reader_fail(r, name, "has an item that is not %s", what);
                        return;
                }
                strv_add_unique(ret, text);
        }
}

static void read_waves(struct json_reader *r, struct upgrade_plan *p)
{
        json_t *list = json_take_optional_array(r, "waves", UPGRADE_MAX_WAVES), *item;
        json_int_t before = 0;
        size_t i;

        json_array_foreach(list, i, item)
        {
                json_int_t percent = json_integer_value(item);

                if (percent <= before || percent > 100) {
                        json_reader_fail(r, "waves",
                                "is not a list of whole per cents that grow, such as [5, 25, 100]");
                        return;
                }
                p->waves[p->wave_count++] = (unsigned)percent;
                before = percent;
        }
        if (p->wave_count == 0)
                p->waves[p->wave_count++] = 100;
        else if (before != 100)
                json_reader_fail(r, "waves", "does not end with 100: some nodes would be in no wave");
}

int upgrade_plan_read(struct json_reader *r, struct upgrade_plan *ret)
{
        struct upgrade_plan p = {0};
        const char *channel;

        read_texts(r, "include", is_tag, "a tag such as ring=canary", &p.include);
        read_texts(r, "exclude", is_tag, "a tag such as ring=canary", &p.exclude);
        read_texts(r, "sites", is_site, "the name of a site", &p.sites);
        read_waves(r, &p);
        p.stop_at_percent =
                (unsigned)json_take_optional_integer(r, "stop_at_percent", 0, 100, UPGRADE_STOP_DEFAULT);
        p.limit_minutes =
                (unsigned)json_take_optional_integer(r, "limit_minutes", 1, 1440, UPGRADE_LIMIT_DEFAULT);
        channel = json_take_optional_text(r, "channel", sizeof p.channel - 1);
        if (channel && !update_channel_is_valid(channel))
                json_reader_fail(r, "channel", "is not a channel's name: a-z, 0-9 and -");
        str_copy(p.channel, sizeof p.channel, channel ? channel : UPGRADE_CHANNEL_DEFAULT);
        if (r->result < 0)
                upgrade_plan_done(&p);
        else
                *ret = p;
        return r->result;
}

static json_t *texts_to_json(const struct strv *v)
{
        json_t *list = json_array();

        for (size_t i = 0; i < v->count; i++)
                json_array_append_new(list, json_string(v->items[i]));
        return list;
}

json_t *upgrade_plan_to_json(const struct upgrade_plan *p)
{
        json_t *waves = json_array();

        for (size_t i = 0; i < p->wave_count; i++)
                json_array_append_new(waves, json_integer(p->waves[i]));
        return json_pack("{s:o, s:o, s:o, s:o, s:i, s:i, s:s}", "include", texts_to_json(&p->include),
                "exclude", texts_to_json(&p->exclude), "sites", texts_to_json(&p->sites), "waves", waves,
                "stop_at_percent", (int)p->stop_at_percent, "limit_minutes", (int)p->limit_minutes, "channel",
                p->channel);
}

/* ---- choosing ---- */

static bool is_included(const struct upgrade_plan *p, const struct upgrade_node *n)
{
        return n->is_there && (p->sites.count == 0 || strv_contains(&p->sites, n->site)) &&
               (p->include.count == 0 || matching(&n->tags, &p->include));
}

struct placed {
        unsigned char hash[SHA256_DIGEST_LENGTH];
        struct upgrade_node node;
};

static int compare_placed(const void *a, const void *b)
{
        return memcmp(
                ((const struct placed *)a)->hash, ((const struct placed *)b)->hash, SHA256_DIGEST_LENGTH);
}

static void sort_nodes(struct upgrade *u)
{
        struct placed *order = xcalloc(u->node_count + 1, sizeof *order);

        for (size_t i = 0; i < u->node_count; i++) {
                char key[160];
                int length = snprintf(key, sizeof key, "%s/%s", u->id, u->nodes[i].id);

                SHA256((const unsigned char *)key, (size_t)length, order[i].hash);
                order[i].node = u->nodes[i];
        }
        qsort(order, u->node_count, sizeof *order, compare_placed);
        for (size_t i = 0; i < u->node_count; i++)
                u->nodes[i] = order[i].node;
        free(order);
}

static void leave_out(struct upgrade_node *n, const char *why, const char *what, int64_t now)
{
        n->state = UPGRADE_SKIPPED;
        n->since = now;
        snprintf(n->reason, sizeof n->reason, "%s%s", why, what);
}

/* Those that are not to be upgraded at all, with the reason. */
static void choose_one(const struct upgrade *u, struct upgrade_node *n, int64_t now)
{
        const char *excluded = matching(&n->tags, &u->plan.exclude);

        n->state = UPGRADE_NEW;
        n->since = now;
        if (excluded)
                leave_out(n, "excluded by its tag ", excluded, now);
        else if (n->is_manual)
                leave_out(n, TAG_MANUAL, "=true", now);
        else if (u->newest[0] && str_equal(n->version, u->newest))
                leave_out(n, "already ", u->newest, now);
}

void upgrade_choose(struct upgrade *u, int64_t now)
{
        size_t kept = 0, taken = 0, place = 0;

        for (size_t i = 0; i < u->node_count; i++) {
                if (is_included(&u->plan, &u->nodes[i]))
                        u->nodes[kept++] = u->nodes[i];
                else
                        strv_done(&u->nodes[i].tags);
        }
        u->node_count = kept;
        sort_nodes(u);
        for (size_t i = 0; i < kept; i++) {
                choose_one(u, &u->nodes[i], now);
                taken += u->nodes[i].state == UPGRADE_NEW;
        }
        for (size_t i = 0; i < kept; i++) {
                struct upgrade_node *n = &u->nodes[i];

                n->is_changed = true;
                if (n->state != UPGRADE_NEW)
                        continue;
                /* Up to each wave's part of all, rounded up, so that the first has at least one. */
                while (place >= (taken * u->plan.waves[n->wave] + 99) / 100)
                        n->wave++;
                n->wave++; /* from 1 */
                place++;
        }
}
