/* Events and reports of many nodes on their way into the database, and what is said of them when. */
#include "plane/batch.h"

#include "store_world.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/db.h"
#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EPOCH      "e-1"
#define FLUSHED_MS 100 /* 20 ms to gather, and time to store */

struct table {
        struct world *w;
        sd_event *event;
        struct batch *batch;
        int acks, refusals, stored, reports, incidents;
        struct wire_ack last, all; /* all: of every acknowledgement, added up */
        char acked_node[65], last_incident[65], last_refusal[512];
        bool incident_is_over;
};
static struct table t;

/* ---- what the batch says ---- */

static int64_t events_in_database(void)
{
        int64_t count = -1;

        db_query_integer(plane_store_db(t.w->store), NULL, -1, &count, "SELECT count(*) FROM events", "");
        return count;
}

static void on_stored(const struct plane_node *node, const char *kind, json_t *value, void *userdata)
{
        (void)userdata;
        assert_string_equal(text_of(value, "node"), node->id);
        if (strcmp(kind, "report") == 0) {
                t.reports++;
                assert_string_equal(text_of(value, "trigger"), "monitor");
                assert_null(json_object_get(value, "report")); /* its measurements are large */
                return;
        }
        assert_string_equal(kind, "event");
        t.stored++;
}

static int64_t rows_seen_by_others(void)
{
        sqlite3 *other = NULL;
        sqlite3_stmt *q = NULL;
        int64_t count;

        assert_int_equal(sqlite3_open(t.w->path, &other), SQLITE_OK);
        assert_int_equal(sqlite3_prepare_v2(other, "SELECT count(*) FROM events", -1, &q, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_step(q), SQLITE_ROW);
        count = sqlite3_column_int64(q, 0);
        sqlite3_finalize(q);
        sqlite3_close(other);
        return count;
}

static void on_acknowledge(const char *node, const struct wire_ack *ack, void *userdata)
{
        (void)userdata;
        /* Never before the commit: somebody else sees them already. */
        if (ack->count > 0)
                assert_true(rows_seen_by_others() > 0);
        str_copy(t.acked_node, sizeof t.acked_node, node);
        t.last = *ack;
        t.acks++;
        for (size_t i = 0; i < ack->count; i++)
                t.all.seqs[t.all.count++ % WIRE_ACK_MAXIMUM] = ack->seqs[i];
        t.all.refused_count += ack->refused_count;
}

static void on_refused(const char *node, const char *what, const struct error *e, void *userdata)
{
        (void)node;
        (void)userdata;
        assert_true(*what);
        str_copy(t.last_refusal, sizeof t.last_refusal, e->text);
        t.refusals++;
}

static void on_incident(const char *organisation, json_t *incident, void *userdata)
{
        (void)userdata;
        assert_string_equal(organisation, t.w->ours);
        t.incidents++;
        str_copy(t.last_incident, sizeof t.last_incident, text_of(incident, "id"));
        t.incident_is_over = !json_is_null(json_object_get(incident, "until"));
}

static void make_batch(void)
{
        const struct batch_handlers h = {.on_stored = on_stored,
                .on_acknowledge = on_acknowledge,
                .on_refused = on_refused,
                .on_incident = on_incident};
        struct cidr range;
        struct error e = {0};

        assert_int_equal(cidr_parse("198.51.100.16/28", &range), 0);
        must(batch_new(t.event, t.w->store, &range, 1, &h, &t.batch, &e), &e);
}

static int setup(void **state)
{
        world_new(state);
        t = (struct table){.w = *state};
        assert_true(sd_event_new(&t.event) >= 0);
        make_batch();
        return 0;
}

static int teardown(void **state)
{
        batch_free(t.batch);
        sd_event_unref(t.event);
        return world_free(state);
}

static void run(double ms)
{
        double until_ms = clock_monotonic_ms() + ms;

        while (clock_monotonic_ms() < until_ms)
                assert_true(sd_event_run(t.event, 5000) >= 0);
}

/* ---- what nodes say ---- */

static void say(const char *node, enum topic_kind kind, json_t *stolen)
{
        _cleanup_free_ char *text = json_to_text(stolen);

        json_decref(stolen);
        batch_add(t.batch, kind, node, text, strlen(text));
}

static void say_event(const char *node, const char *epoch, int64_t seq, const char *name)
{
        struct wire_event e = {.seq = seq,
                .generated_unix_ms = NOW,
                .name = (char *)name,
                .message = (char *)"Repo connectivity failed",
                .severity = WIRE_ERROR};

        str_copy(e.epoch, sizeof e.epoch, epoch);
        say(node, TOPIC_EVENT, wire_event_to_json(&e));
}

static void say_failure(const char *node, int64_t seq, bool is_over)
{
        struct wire_event e = {.epoch = EPOCH,
                .seq = seq,
                .generated_unix_ms = NOW,
                .name = (char *)EVENT_REPO_CONNECTIVITY,
                .message = (char *)"Repo connectivity",
                .service = (char *)"repo",
                .severity = is_over ? WIRE_INFO : WIRE_ERROR};

        if (!is_over)
                e.diagnosis = json_pack("{s:s, s:[{s:s, s:s, s:[s]}]}", "verdict", "blocked", "causes",
                        "code", "tcp.dropped", "severity", "critical", "targets", "198.51.100.20:443");
        say(node, TOPIC_EVENT, wire_event_to_json(&e));
        json_decref(e.diagnosis);
}

static void say_report(const char *node, int64_t seq)
{
        struct wire_report r = {.epoch = EPOCH,
                .seq = seq,
                .generated_unix_ms = NOW,
                .trigger = (char *)"monitor",
                .report = json_pack("{s:s}", "verdict", "blocked")};

        say(node, TOPIC_REPORT, wire_report_to_json(&r));
        json_decref(r.report);
}

/* ---- tests ---- */

static void test_stored_then_acknowledged(void **state)
{
        struct batch_counts c;

        (void)state;
        say_report(t.w->node, 1);
        say_event(t.w->node, EPOCH, 2, EVENT_REPO_CONNECTIVITY);
        say_event(t.w->node, EPOCH, 3, EVENT_DNS_RESOLUTION);
        assert_int_equal(t.acks, 0);
        assert_int_equal(events_in_database(), 0);
        run(FLUSHED_MS);
        assert_int_equal(events_in_database(), 2);
        assert_int_equal(t.acks, 1); /* one for all three */
        assert_int_equal(t.stored, 2);
        assert_int_equal(t.reports, 1);
        assert_string_equal(t.acked_node, t.w->node);
        assert_string_equal(t.last.epoch, EPOCH);
        assert_int_equal(t.last.count, 3);
        assert_int_equal(t.last.seqs[0], 1);
        assert_int_equal(t.last.seqs[2], 3);
        assert_int_equal(t.last.refused_count, 0);
        batch_counts(t.batch, &c);
        assert_int_equal(c.events, 2);
        assert_int_equal(c.reports, 1);
        assert_int_equal(c.duplicates, 0);
}

static void test_again_is_acknowledged_and_not_told(void **state)
{
        struct batch_counts c;

        (void)state;
        say_event(t.w->node, EPOCH, 1, EVENT_REPO_CONNECTIVITY);
        say_event(t.w->node, EPOCH, 1, EVENT_REPO_CONNECTIVITY); /* in the same batch */
        run(FLUSHED_MS);
        say_event(t.w->node, EPOCH, 1, EVENT_REPO_CONNECTIVITY); /* and in a later one */
        run(FLUSHED_MS);
        assert_int_equal(events_in_database(), 1);
        assert_int_equal(t.stored, 1);
        assert_int_equal(t.acks, 2);
        assert_int_equal(t.last.count, 1);
        for (int i = 0; i < 2; i++) {
                say_report(t.w->node, 7);
                run(FLUSHED_MS);
        }
        assert_int_equal(t.reports, 1);
        assert_int_equal(t.acks, 4);
        batch_counts(t.batch, &c);
        assert_int_equal(c.events, 1);
        assert_int_equal(c.duplicates, 3);
}

static void test_each_node_and_epoch_for_itself(void **state)
{
        (void)state;
        say_event(t.w->node, EPOCH, 1, EVENT_REPO_CONNECTIVITY);
        say_event(t.w->other, EPOCH, 1, EVENT_REPO_CONNECTIVITY);
        say_event(t.w->node, "e-2", 1, EVENT_REPO_CONNECTIVITY);
        say_event(t.w->other, EPOCH, 2, EVENT_REPO_CONNECTIVITY);
        run(FLUSHED_MS);
        assert_int_equal(t.acks, 3);
        assert_int_equal(t.all.count, 4);
        assert_int_equal(events_in_database(), 4);
}

static void test_what_cannot_be_read(void **state)
{
        static const char *const numbered[] = {
                "{\"schema\":1,\"epoch\":\"e-1\",\"seq\":7}", "{\"epoch\":\"e-1\",\"seq\":7,\"name\":5}"};
        static const char *const nameless[] = {"", "{", "[]", "{\"seq\":7}", "{\"epoch\":\"e-1\",\"seq\":-7}",
                "{\"epoch\":\"../e\",\"seq\":7}", "{\"epoch\":\"e-1\",\"seq\":7", "\xff\xfe"};

        (void)state;
        for (size_t i = 0; i < ELEMENTS(numbered); i++) {
                batch_add(t.batch, TOPIC_EVENT, t.w->node, numbered[i], strlen(numbered[i]));
                assert_int_equal(t.acks, i + 1);
                assert_int_equal(t.last.count, 0);
                assert_int_equal(t.last.refused_count, 1);
                assert_int_equal(t.last.refused[0], 7);
                assert_true(t.last.reason[0]);
        }
        for (size_t i = 0; i < ELEMENTS(nameless); i++)
                batch_add(t.batch, TOPIC_REPORT, t.w->node, nameless[i], strlen(nameless[i]));
        assert_int_equal(t.acks, ELEMENTS(numbered));
        assert_int_equal(t.refusals, ELEMENTS(numbered) + ELEMENTS(nameless));
        /* What comes after it is taken as ever. */
        say_event(t.w->node, EPOCH, 8, EVENT_REPO_CONNECTIVITY);
        run(FLUSHED_MS);
        assert_int_equal(t.last.count, 1);
}

static void test_an_unknown_node_is_refused_alone(void **state)
{
        (void)state;
        say_event(t.w->node, EPOCH, 1, EVENT_REPO_CONNECTIVITY);
        say_event("n-nobody", EPOCH, 4, EVENT_REPO_CONNECTIVITY);
        say_event(t.w->node, EPOCH, 2, EVENT_REPO_CONNECTIVITY);
        run(FLUSHED_MS);
        assert_int_equal(t.acks, 2);
        assert_int_equal(t.all.count, 2);
        assert_int_equal(t.all.refused_count, 1);
        assert_string_equal(t.acked_node, "n-nobody");
        assert_int_equal(t.last.refused[0], 4);
        assert_true(t.last.reason[0]);
        assert_int_equal(t.refusals, 1);
        assert_int_equal(events_in_database(), 2);
}

static void sql(const char *text)
{
        struct error e = {0};

        must(db_run(plane_store_db(t.w->store), &e, text, ""), &e);
}

static int64_t page_count(void)
{
        int64_t count = 0;

        db_query_integer(plane_store_db(t.w->store), NULL, 0, &count, "PRAGMA page_count", "");
        return count;
}

static void limit_pages(int64_t count)
{
        char text[64];
        int64_t got;

        snprintf(text, sizeof text, "PRAGMA max_page_count = %lld", (long long)count);
        db_query_integer(plane_store_db(t.w->store), NULL, 0, &got, text, "");
        assert_int_equal(got, count);
}

/* Nothing is acknowledged, nothing is refused, and the same again is new once there is room. */
static void test_a_full_disk(void **state)
{
        (void)state;
        limit_pages(page_count());
        for (int64_t i = 1; i <= 200; i++)
                say_event(t.w->node, EPOCH, i, EVENT_REPO_CONNECTIVITY);
        run(FLUSHED_MS);
        assert_int_equal(t.acks, 0);
        assert_int_equal(t.refusals, 0);
        assert_int_equal(t.stored, 0);
        assert_int_equal(events_in_database(), 0);
        limit_pages(1000000);
        for (int64_t i = 1; i <= 200; i++)
                say_event(t.w->node, EPOCH, i, EVENT_REPO_CONNECTIVITY);
        run(3 * FLUSHED_MS);
        assert_int_equal(t.acks, 1);
        assert_int_equal(t.last.count, 200);
        assert_int_equal(t.stored, 200);
        assert_int_equal(events_in_database(), 200);
}

/* One that the database does not take spoils the transaction, and nobody else's. */
static void test_one_that_spoils_the_rest(void **state)
{
        (void)state;
        sql("CREATE TRIGGER spoil BEFORE INSERT ON events WHEN NEW.name = 'Spoil'"
            " BEGIN SELECT raise(ABORT, 'spoilt'); END");
        say_event(t.w->node, EPOCH, 1, EVENT_REPO_CONNECTIVITY);
        say_event(t.w->other, EPOCH, 1, "Spoil");
        say_event(t.w->node, EPOCH, 2, EVENT_REPO_CONNECTIVITY);
        run(2 * FLUSHED_MS);
        assert_int_equal(t.all.count, 2);
        assert_int_equal(t.all.refused_count, 0);
        assert_string_equal(t.acked_node, t.w->node);
        assert_int_equal(events_in_database(), 2);
        sql("DROP TRIGGER spoil");
        say_event(t.w->other, EPOCH, 1, "Spoil");
        run(FLUSHED_MS);
        assert_string_equal(t.acked_node, t.w->other);
        assert_int_equal(events_in_database(), 3);
}

static sqlite3 *lock_database(void)
{
        sqlite3 *other = NULL;

        assert_int_equal(sqlite3_open(t.w->path, &other), SQLITE_OK);
        assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
        return other;
}

static void unlock_database(sqlite3 *other)
{
        assert_int_equal(sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
        sqlite3_close(other);
}

/* The loop does not stand still, and what waits is stored without being sent again. */
static void test_locked_by_somebody_else(void **state)
{
        sqlite3 *other = lock_database();
        double until_ms = clock_monotonic_ms() + 1000, longest_ms = 0;

        (void)state;
        for (int64_t i = 1; clock_monotonic_ms() < until_ms; i++) {
                double began_ms = clock_monotonic_ms();

                if (i <= 5) {
                        say_event(t.w->node, EPOCH, i, EVENT_REPO_CONNECTIVITY);
                        say_event(t.w->node, EPOCH, i, EVENT_REPO_CONNECTIVITY);
                }
                assert_true(sd_event_run(t.event, 5000) >= 0);
                if (clock_monotonic_ms() - began_ms > longest_ms)
                        longest_ms = clock_monotonic_ms() - began_ms;
        }
        assert_true(longest_ms < 200);
        assert_int_equal(t.acks, 0);
        assert_int_equal(t.refusals, 0);
        unlock_database(other);
        run(3 * FLUSHED_MS);
        assert_int_equal(t.stored, 5);
        assert_int_equal(events_in_database(), 5);
        assert_int_equal(t.last.count, 10); /* the same number twice: once for each time that it came */
}

/* More than waits: the rest is not acknowledged, and is taken when it comes again. */
static void test_locked_for_long(void **state)
{
        sqlite3 *other = lock_database();

        (void)state;
        for (int64_t i = 1; i <= 400; i++)
                say_event(t.w->node, EPOCH, i, EVENT_REPO_CONNECTIVITY);
        run(FLUSHED_MS);
        assert_int_equal(t.acks, 0);
        unlock_database(other);
        run(3 * FLUSHED_MS);
        assert_int_equal(t.stored, 256);
        for (int64_t i = 257; i <= 400; i++)
                say_event(t.w->node, EPOCH, i, EVENT_REPO_CONNECTIVITY);
        run(2 * FLUSHED_MS);
        assert_int_equal(t.stored, 400);
        assert_int_equal(events_in_database(), 400);
        assert_int_equal(t.all.refused_count, 0);
}

/* More than an acknowledgement has room for. */
static void test_hundreds_at_once(void **state)
{
        (void)state;
        for (int64_t i = 1; i <= 600; i++)
                say_event(t.w->node, EPOCH, i, EVENT_REPO_CONNECTIVITY);
        assert_int_equal(t.acks, 2); /* full ones are not waited with */
        assert_int_equal(t.last.count, 256);
        run(2 * FLUSHED_MS);
        assert_int_equal(t.acks, 3);
        assert_int_equal(t.last.count, 600 - 2 * 256);
        assert_int_equal(t.stored, 600);
        assert_int_equal(events_in_database(), 600);
}

static void test_what_waits_at_the_end_is_not_acknowledged(void **state)
{
        (void)state;
        say_event(t.w->node, EPOCH, 1, EVENT_REPO_CONNECTIVITY);
        t.batch = batch_free(t.batch);
        assert_int_equal(t.acks, 0);
        assert_int_equal(events_in_database(), 0);
        make_batch();
        say_event(t.w->node, EPOCH, 1, EVENT_REPO_CONNECTIVITY);
        run(FLUSHED_MS);
        assert_int_equal(t.last.count, 1);
}

/* Six nodes of two sites, over a restart of the plane. */
static void test_an_incident_outlives_a_restart(void **state)
{
        char nodes[6][65], id[65];

        (void)state;
        for (int i = 0; i < 6; i++) {
                char name[16];

                snprintf(name, sizeof name, "many-%d", i);
                world_node(t.w, &t.w->us, name, i % 2 ? "north" : "south", nodes[i]);
                say_failure(nodes[i], 1, false);
        }
        run(2 * FLUSHED_MS);
        assert_true(t.incidents > 0);
        assert_false(t.incident_is_over);
        strcpy(id, t.last_incident);
        batch_free(t.batch);
        make_batch();
        for (int i = 0; i < 6; i++)
                say_failure(nodes[i], 2, true);
        run(2 * FLUSHED_MS);
        assert_true(t.incident_is_over);
        assert_string_equal(t.last_incident, id);
}

static void test_a_removed_node_ends_its_part(void **state)
{
        char nodes[6][65];

        (void)state;
        for (int i = 0; i < 6; i++) {
                char name[16];

                snprintf(name, sizeof name, "many-%d", i);
                world_node(t.w, &t.w->us, name, i % 2 ? "north" : "south", nodes[i]);
                say_failure(nodes[i], 1, false);
        }
        run(2 * FLUSHED_MS);
        assert_false(t.incident_is_over);
        for (int i = 0; i < 6; i++)
                batch_forget_node(t.batch, t.w->ours, nodes[i]);
        assert_true(t.incident_is_over);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {TEST(test_stored_then_acknowledged),
                TEST(test_again_is_acknowledged_and_not_told), TEST(test_each_node_and_epoch_for_itself),
                TEST(test_what_cannot_be_read), TEST(test_an_unknown_node_is_refused_alone),
                TEST(test_a_full_disk), TEST(test_one_that_spoils_the_rest),
                TEST(test_locked_by_somebody_else), TEST(test_locked_for_long), TEST(test_hundreds_at_once),
                TEST(test_what_waits_at_the_end_is_not_acknowledged),
                TEST(test_an_incident_outlives_a_restart), TEST(test_a_removed_node_ends_its_part)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
