#include "swarm_store.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/random.h"

#include <errno.h>
#include <string.h>

struct item {
        int64_t seq;
        double added_ms;
        char *payload;
};

struct store {
        char epoch[RANDOM_ID_TEXT];
        struct item *items; /* ascending */
        size_t count;
        int64_t last;
        swarm_acknowledged_t on_acknowledged;
        void *userdata;
};

struct store *swarm_store_new(const char *node, swarm_acknowledged_t on_acknowledged, void *userdata)
{
        struct store *s = xcalloc(1, sizeof *s);

        (void)node;
        random_id("e", s->epoch);
        s->on_acknowledged = on_acknowledged;
        s->userdata = userdata;
        return s;
}

void swarm_store_free(struct store *s)
{
        for (size_t i = 0; i < s->count; i++)
                free(s->items[i].payload);
        free(s->items);
        free(s);
}

/* The short form of a diagnosis, of the usual size. */
static json_t *make_diagnosis(void)
{
        return json_pack("{s:s,s:s,s:[{s:s,s:s,s:s,s:s,s:s,s:[s],s:[s,s]}]}", "verdict", "blocked", "summary",
                "Port 443 is dropped on the way to 198.51.100.16/28", "causes", "code", "tcp.dropped",
                "severity", "error", "summary",
                "TCP port 443 of 198.51.100.20 and 203.0.113.200 is dropped behind 192.0.2.1, while 8443 of "
                "the same addresses is open",
                "remedy", "Open outgoing TCP 443 to 198.51.100.16/28 and 203.0.113.192/28", "fixed_by",
                "the operator of the firewall", "services", "repo", "targets", "198.51.100.20:443",
                "203.0.113.200:443");
}

void swarm_store_add(struct store *s, int64_t now_unix_ms, double at_ms)
{
        int64_t seq = ++s->last;
        bool is_failure = seq % 2 != 0;
        struct wire_event e = {.seq = seq,
                .generated_unix_ms = now_unix_ms,
                .name = (char *)EVENT_REPO_CONNECTIVITY,
                .message = is_failure ? (char *)"Repo Connectivity failed: port 443 is dropped on the way"
                                      : (char *)"Repo Connectivity re-established",
                .severity = is_failure ? WIRE_ERROR : WIRE_INFO,
                .service = (char *)"repo",
                .diagnosis = is_failure ? make_diagnosis() : NULL};
        json_t *j;

        str_copy(e.epoch, sizeof e.epoch, s->epoch);
        j = wire_event_to_json(&e);
        s->items = xrealloc_array(s->items, s->count + 1, sizeof *s->items);
        s->items[s->count++] = (struct item){.seq = seq, .added_ms = at_ms, .payload = json_to_text(j)};
        json_decref(j);
        json_decref(e.diagnosis);
}

/* ---- node/store.h ---- */

const char *store_epoch(const struct store *s)
{
        return s->epoch;
}

int store_each_unsent(struct store *s, int64_t after, size_t maximum,
        int (*on_item)(int64_t seq, enum topic_kind kind, const char *payload, size_t length, void *userdata),
        void *userdata, struct error *ret_error)
{
        size_t given = 0;

        (void)ret_error;
        for (size_t i = 0; i < s->count && given < maximum; i++) {
                const struct item *item = &s->items[i];
                int r;

                if (item->seq <= after)
                        continue;
                r = on_item(item->seq, TOPIC_EVENT, item->payload, strlen(item->payload), userdata);
                if (r != 0)
                        return r;
                given++;
        }
        return 0;
}

static bool has(const int64_t *seqs, size_t count, int64_t seq)
{
        for (size_t i = 0; i < count; i++)
                if (seqs[i] == seq)
                        return true;
        return false;
}

int store_acknowledge(struct store *s, const struct wire_ack *a, struct error *ret_error)
{
        size_t kept = 0;

        (void)ret_error;
        for (size_t i = 0; i < s->count; i++) {
                struct item *item = &s->items[i];

                if (!has(a->seqs, a->count, item->seq)) {
                        /* What was refused stays, and shows as not acknowledged. */
                        s->items[kept++] = *item;
                        continue;
                }
                s->on_acknowledged(item->seq, clock_monotonic_ms() - item->added_ms, s->userdata);
                free(item->payload);
        }
        s->count = kept;
        return 0;
}
