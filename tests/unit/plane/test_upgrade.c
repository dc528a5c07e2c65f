#include "plane/upgrade.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define NOW    INT64_C(1795230120000) /* 2026-11-21T03:02:00Z */
#define MINUTE INT64_C(60000)

/* ---- a world of nodes ---- */

static void read_plan(const char *text, struct upgrade_plan *ret)
{
        struct error e = {0};
        json_auto_t *value = json_loads(text, 0, NULL);
        struct json_reader r;

        assert_non_null(value);
        json_reader_init(&r, value, "the plan", &e);
        if (upgrade_plan_read(&r, ret) < 0 || json_reader_done(&r, true) < 0)
                fail_msg("%s", e.text);
}

static struct upgrade world(const char *plan, size_t count)
{
        struct upgrade u = {.id = "g-1", .organisation = "o-1", .name = "spring", .newest = "0.2.0"};

        read_plan(plan, &u.plan);
        for (size_t i = 0; i < count; i++) {
                struct upgrade_node *n = upgrade_add_node(&u);

                snprintf(n->id, sizeof n->id, "n-%zu", i);
                snprintf(n->name, sizeof n->name, "branch-%zu", i);
                strcpy(n->site, i % 2 ? "leeds" : "york");
                strcpy(n->version, "0.1.0");
                n->is_there = n->is_connected = true;
                n->connected_since = NOW - 60 * MINUTE;
        }
        return u;
}

static size_t count_of(const struct upgrade *u, enum upgrade_node_state state)
{
        size_t count = 0;

        for (size_t i = 0; i < u->node_count; i++)
                count += u->nodes[i].state == state;
        return count;
}

/* What a step decided is over with the next one. */
static void forget_decisions(struct upgrade *u)
{
        for (size_t i = 0; i < u->node_count; i++) {
                u->nodes[i].is_to_ask = u->nodes[i].is_changed = false;
                u->nodes[i].answer = ANSWER_NONE;
        }
        u->stopped_by = NULL;
}

static void step(struct upgrade *u, int64_t now)
{
        forget_decisions(u);
        upgrade_step(u, SIZE_MAX, now);
}

/* An event about a node's update was stored. */
static void tell(struct upgrade *u, struct upgrade_node *n, enum update_status status, const char *text)
{
        n->seen_event = ++u->newest_event;
        n->seen_status = status;
        strcpy(n->seen_job, "u-1");
        strcpy(n->seen_from, "0.1.0");
        strcpy(n->seen_to, "0.2.0");
        strcpy(n->seen_text, text);
}

static struct upgrade started(const char *plan, size_t count)
{
        struct upgrade u = world(plan, count);
        struct error e = {0};

        upgrade_choose(&u, NOW);
        assert_int_equal(upgrade_start(&u, NOW, &e), 0);
        step(&u, NOW);
        return u;
}

static struct upgrade_node *first_of(struct upgrade *u, unsigned wave)
{
        for (size_t i = 0; i < u->node_count; i++)
                if (u->nodes[i].wave == wave)
                        return &u->nodes[i];
        fail_msg("nobody is in wave %u", wave);
        return NULL;
}

static void all_of(struct upgrade *u, unsigned wave, enum update_status status, const char *text)
{
        for (size_t i = 0; i < u->node_count; i++)
                if (u->nodes[i].wave == wave)
                        tell(u, &u->nodes[i], status, text);
}

/* ---- plans ---- */

static int refused(const char *text)
{
        struct upgrade_plan p = {0};
        struct error e = {0};
        json_auto_t *value = json_loads(text, 0, NULL);
        struct json_reader r;
        int result;

        json_reader_init(&r, value, "the plan", &e);
        result = upgrade_plan_read(&r, &p);
        upgrade_plan_done(&p);
        return result;
}

static void test_plans(void **state)
{
        struct upgrade_plan p;
        json_t *value;

        (void)state;
        read_plan("{}", &p);
        assert_int_equal(p.wave_count, 1);
        assert_int_equal(p.waves[0], 100);
        assert_int_equal(p.stop_at_percent, 10);
        assert_int_equal(p.limit_minutes, 90);
        assert_string_equal(p.channel, "stable");
        value = upgrade_plan_to_json(&p);
        upgrade_plan_done(&p);
        json_decref(value);
        assert_int_equal(refused("{\"waves\":[5,5,100]}"), -EBADMSG);
        assert_int_equal(refused("{\"waves\":[50,25,100]}"), -EBADMSG);
        assert_int_equal(refused("{\"waves\":[5,25]}"), -EBADMSG);
        assert_int_equal(refused("{\"waves\":[0,100]}"), -EBADMSG);
        assert_int_equal(refused("{\"waves\":[101]}"), -EBADMSG);
        assert_int_equal(refused("{\"waves\":[\"5%\",100]}"), -EBADMSG);
        assert_int_equal(refused("{\"stop_at_percent\":101}"), -EBADMSG);
        assert_int_equal(refused("{\"limit_minutes\":0}"), -EBADMSG);
        assert_int_equal(refused("{\"channel\":\"../x\"}"), -EBADMSG);
        assert_int_equal(refused("{\"include\":[\"Ring=x\"]}"), -EBADMSG);
        assert_int_equal(refused("{\"include\":[\"=x\"]}"), -EBADMSG);
        assert_int_equal(refused("{\"exclude\":[7]}"), -EBADMSG);
        assert_int_equal(refused("{\"sites\":[\"\"]}"), -EBADMSG);
}

static void test_waves(void **state)
{
        struct upgrade u = world("{\"waves\":[5,25,100]}", 30), again = world("{\"waves\":[5,25,100]}", 30);
        size_t counts[4] = {0};

        (void)state;
        upgrade_choose(&u, NOW);
        upgrade_choose(&again, NOW);
        for (size_t i = 0; i < u.node_count; i++) {
                assert_string_equal(u.nodes[i].id, again.nodes[i].id);
                counts[u.nodes[i].wave]++;
        }
        assert_int_equal(counts[0], 0);
        assert_int_equal(counts[1], 2); /* 1.5 of 30, rounded up */
        assert_int_equal(counts[2], 6); /* up to 7.5, rounded up */
        assert_int_equal(counts[3], 22);
        upgrade_done(&u);
        upgrade_done(&again);
        /* One node is in the first wave. */
        u = world("{\"waves\":[1,100]}", 1);
        upgrade_choose(&u, NOW);
        assert_int_equal(u.nodes[0].wave, 1);
        upgrade_done(&u);
}

static struct upgrade_node *named(struct upgrade *u, const char *id)
{
        for (size_t i = 0; i < u->node_count; i++)
                if (str_equal(u->nodes[i].id, id))
                        return &u->nodes[i];
        return NULL;
}

static void test_who_is_taken(void **state)
{
        struct upgrade u =
                world("{\"include\":[\"ring\"],\"exclude\":[\"owner=them\"],\"sites\":[\"leeds\"]}", 12);

        (void)state;
        for (size_t i = 0; i < 12; i++)
                strv_add(&u.nodes[i].tags, i == 11 ? "rings=1" : "ring=1");
        strv_add(&u.nodes[1].tags, "owner=them");
        u.nodes[3].is_manual = true;
        strcpy(u.nodes[5].version, "0.2.0");
        u.nodes[7].is_there = false;
        upgrade_choose(&u, NOW);
        assert_int_equal(u.node_count, 4); /* of leeds, with the tag, and there: 1, 3, 5, 9 */
        assert_string_equal(named(&u, "n-1")->reason, "excluded by its tag owner=them");
        assert_string_equal(named(&u, "n-3")->reason, "manualupdate=true");
        assert_string_equal(named(&u, "n-5")->reason, "already 0.2.0");
        assert_int_equal(named(&u, "n-9")->state, UPGRADE_NEW);
        assert_int_equal(named(&u, "n-9")->wave, 1);
        assert_int_equal(count_of(&u, UPGRADE_SKIPPED), 3);
        upgrade_done(&u);
}

/* ---- going on ---- */

static void test_wave_by_wave(void **state)
{
        struct upgrade u = started("{\"waves\":[25,100]}", 8);

        (void)state;
        assert_int_equal(count_of(&u, UPGRADE_READY), 2);
        assert_true(first_of(&u, 1)->is_to_ask);
        assert_int_equal(first_of(&u, 1)->tries, 1);
        all_of(&u, 1, UPDATE_IN_PROGRESS, "");
        step(&u, NOW + MINUTE);
        assert_int_equal(count_of(&u, UPGRADE_WORKING), 2);
        assert_int_equal(u.wave, 1);
        all_of(&u, 1, UPDATE_IN_PROGRESS, "waits: 443 is dropped");
        step(&u, NOW + 2 * MINUTE);
        assert_string_equal(first_of(&u, 1)->reason, "waits: 443 is dropped");
        assert_int_equal(first_of(&u, 1)->since, NOW + MINUTE);
        all_of(&u, 1, UPDATE_COMPLETED, "");
        step(&u, NOW + 3 * MINUTE);
        assert_int_equal(count_of(&u, UPGRADE_DONE), 2);
        assert_string_equal(first_of(&u, 1)->reason, "0.1.0 → 0.2.0");
        assert_int_equal(u.wave, 2);
        assert_int_equal(count_of(&u, UPGRADE_READY), 6);
        all_of(&u, 2, UPDATE_COMPLETED, ""); /* the start's event may come with the end's */
        step(&u, NOW + 4 * MINUTE);
        assert_int_equal(u.state, UPGRADE_COMPLETED);
        assert_string_equal(u.reason, "8 done, 0 skipped, 0 failed");
        assert_int_equal(u.ended, NOW + 4 * MINUTE);
        assert_false(u.is_watched);
        upgrade_done(&u);
}

static void test_nothing_newer(void **state)
{
        struct upgrade u = started("{}", 2);

        (void)state;
        tell(&u, &u.nodes[0], UPDATE_COMPLETED, "");
        u.nodes[0].seen_to[0] = 0;
        strcpy(u.nodes[0].seen_from, "0.2.0");
        tell(&u, &u.nodes[1], UPDATE_COMPLETED, "");
        u.nodes[1].seen_to[0] = 0;
        u.nodes[1].seen_packages = 3;
        step(&u, NOW + MINUTE);
        assert_int_equal(u.nodes[0].state, UPGRADE_SKIPPED);
        assert_string_equal(u.nodes[0].reason, "already 0.2.0");
        assert_int_equal(u.nodes[1].state, UPGRADE_DONE);
        assert_non_null(strstr(u.nodes[1].reason, "3 packages"));
        upgrade_done(&u);
}

/* Some at a time, and those that answered "later" again, later and later. */
static void test_asking(void **state)
{
        struct upgrade u = world("{}", 5);
        struct upgrade_node *n;

        (void)state;
        upgrade_choose(&u, NOW);
        assert_int_equal(upgrade_start(&u, NOW, NULL), 0);
        upgrade_step(&u, 2, NOW);
        assert_int_equal(u.nodes[0].is_to_ask + u.nodes[1].is_to_ask, 2);
        assert_false(u.nodes[2].is_to_ask);
        n = &u.nodes[0];
        forget_decisions(&u);
        n->is_asking = true;
        upgrade_step(&u, 0, NOW + 10 * MINUTE);
        assert_false(n->is_to_ask); /* its answer is waited for */
        n->is_asking = false;
        forget_decisions(&u);
        n->answer = ANSWER_LATER;
        strcpy(n->answer_text, "an update is under way");
        upgrade_step(&u, 9, NOW + MINUTE - 1);
        assert_string_equal(n->reason, "an update is under way");
        assert_false(n->is_to_ask);
        step(&u, NOW + MINUTE);
        assert_true(n->is_to_ask);
        assert_int_equal(n->tries, 2);
        step(&u, NOW + 2 * MINUTE);
        assert_false(n->is_to_ask);
        step(&u, NOW + 3 * MINUTE);
        assert_true(n->is_to_ask);
        /* One that was away, and is back, is asked at once. */
        n->connected_since = NOW + 3 * MINUTE + 1;
        step(&u, NOW + 3 * MINUTE + 2);
        assert_true(n->is_to_ask);
        /* What will not mend is an error at once. */
        forget_decisions(&u);
        n->answer = ANSWER_REFUSED;
        strcpy(n->answer_text, "'update' is no tool");
        upgrade_step(&u, 0, NOW + 4 * MINUTE);
        assert_int_equal(n->state, UPGRADE_ERROR);
        assert_string_equal(n->reason, "'update' is no tool");
        upgrade_done(&u);
}

static void test_limits(void **state)
{
        struct upgrade u = started("{\"stop_at_percent\":100}", 3);

        (void)state;
        tell(&u, &u.nodes[0], UPDATE_IN_PROGRESS, "");
        step(&u, NOW + MINUTE);
        u.nodes[1].answer = ANSWER_LATER;
        strcpy(u.nodes[1].answer_text, "not now");
        upgrade_step(&u, 0, NOW + 2 * MINUTE);
        u.nodes[2].is_connected = false;
        u.nodes[2].gone_since = NOW + 2 * MINUTE;
        step(&u, NOW + 90 * MINUTE - 1);
        assert_int_equal(u.nodes[1].state, UPGRADE_READY);
        step(&u, NOW + 90 * MINUTE);
        assert_int_equal(u.nodes[0].state, UPGRADE_WORKING); /* its time runs from when it began */
        assert_int_equal(u.nodes[1].state, UPGRADE_ERROR);
        assert_non_null(strstr(u.nodes[1].reason, "did not begin within 90 minutes"));
        assert_non_null(strstr(u.nodes[1].reason, "not now"));
        assert_int_equal(u.nodes[2].state, UPGRADE_SKIPPED);
        assert_string_equal(u.nodes[2].reason, "offline since 2026-11-21T03:04:00.000Z");
        step(&u, NOW + 91 * MINUTE);
        assert_int_equal(u.nodes[0].state, UPGRADE_ERROR);
        assert_string_equal(u.nodes[0].reason, "no end within 90 minutes");
        assert_int_equal(u.state, UPGRADE_COMPLETED);
        upgrade_done(&u);
}

/* Given up, and done after all. */
static void test_an_end_after_the_limit(void **state)
{
        struct upgrade u = started("{\"stop_at_percent\":100}", 2);

        (void)state;
        tell(&u, &u.nodes[0], UPDATE_IN_PROGRESS, "");
        tell(&u, &u.nodes[1], UPDATE_IN_PROGRESS, "");
        step(&u, NOW + MINUTE);
        tell(&u, &u.nodes[1], UPDATE_IN_PROGRESS, "waits: x");
        step(&u, NOW + 2 * MINUTE);
        u.nodes[1].since = NOW + 80 * MINUTE;
        step(&u, NOW + 91 * MINUTE);
        assert_int_equal(u.nodes[0].state, UPGRADE_ERROR);
        tell(&u, &u.nodes[0], UPDATE_COMPLETED, "");
        step(&u, NOW + 95 * MINUTE);
        assert_int_equal(u.nodes[0].state, UPGRADE_DONE);
        upgrade_done(&u);
}

/* Who is away does not hold up a wave; who has just gone is waited for. */
static void test_away(void **state)
{
        struct upgrade u = world("{\"waves\":[50,100]}", 4);

        (void)state;
        upgrade_choose(&u, NOW);
        u.nodes[0].is_connected = u.nodes[1].is_connected = u.nodes[2].is_connected = false;
        u.nodes[0].gone_since = NOW - 60 * MINUTE;
        u.nodes[1].gone_since = NOW - MINUTE;
        u.nodes[2].gone_since = 0;
        assert_int_equal(upgrade_start(&u, NOW, NULL), 0);
        step(&u, NOW);
        assert_int_equal(u.wave, 1);
        assert_int_equal(u.nodes[0].state, UPGRADE_READY);
        assert_string_equal(u.nodes[0].reason, "offline since 2026-11-21T02:02:00.000Z");
        assert_false(u.nodes[0].is_to_ask);
        step(&u, NOW + 4 * MINUTE);
        assert_int_equal(u.nodes[0].state, UPGRADE_SKIPPED);
        assert_int_equal(u.nodes[1].state, UPGRADE_SKIPPED);
        assert_int_equal(u.wave, 2);
        /* The other wave has one that is there: the one that is not may come until it has ended. */
        assert_int_equal(u.nodes[2].state, UPGRADE_READY);
        assert_string_equal(u.nodes[2].reason, "offline: it was never connected");
        u.nodes[2].is_connected = true;
        step(&u, NOW + 5 * MINUTE);
        assert_true(u.nodes[2].is_to_ask);
        upgrade_done(&u);
}

static void test_removed_and_tagged_meanwhile(void **state)
{
        struct upgrade u = started("{\"waves\":[25,100]}", 4);

        (void)state;
        first_of(&u, 1)->is_there = false;
        first_of(&u, 2)->is_manual = true;
        step(&u, NOW + MINUTE);
        assert_string_equal(first_of(&u, 1)->reason, "the node was removed");
        assert_int_equal(first_of(&u, 2)->state, UPGRADE_SKIPPED);
        assert_string_equal(first_of(&u, 2)->reason, "manualupdate=true");
        upgrade_done(&u);
}

/* ---- failures ---- */

static void test_stops_itself(void **state)
{
        struct upgrade u = started("{\"waves\":[50,100],\"stop_at_percent\":20}", 10);
        struct error e = {0};
        size_t failed, begun;

        (void)state;
        tell(&u, &u.nodes[0], UPDATE_FAILED, "dpkg failed");
        step(&u, NOW + MINUTE);
        assert_int_equal(u.nodes[0].state, UPGRADE_ERROR);
        assert_string_equal(u.nodes[0].reason, "dpkg failed");
        assert_int_equal(upgrade_failures(&u, &failed, &begun), 20);
        assert_int_equal(u.state, UPGRADE_RUNNING); /* 1 of 5 is not more than 20 % */
        tell(&u, &u.nodes[1], UPDATE_IN_PROGRESS, "");
        tell(&u, &u.nodes[2], UPDATE_FAILED, "no space");
        step(&u, NOW + 2 * MINUTE);
        assert_int_equal(u.state, UPGRADE_STOPPED);
        assert_string_equal(u.reason, "2 of 5 nodes failed, more than 20 %: no further node begins");
        assert_ptr_equal(u.stopped_by, &u.nodes[2]);
        assert_int_equal(u.nodes[1].state, UPGRADE_WORKING);
        assert_int_equal(u.nodes[3].state, UPGRADE_NEW); /* asked, but not begun */
        assert_true(u.is_watched);
        /* One of those asked begins all the same, and is heard. */
        tell(&u, &u.nodes[3], UPDATE_COMPLETED, "");
        step(&u, NOW + 3 * MINUTE);
        assert_int_equal(u.nodes[3].state, UPGRADE_DONE);
        assert_int_equal(upgrade_resume(&u, NOW, &e), -EEXIST);
        assert_string_equal(e.code, "upgrade.failures");
        assert_int_equal(upgrade_retry(&u, NOW + 4 * MINUTE, &e), 0);
        assert_int_equal(u.state, UPGRADE_RUNNING);
        step(&u, NOW + 4 * MINUTE);
        assert_int_equal(u.nodes[0].state, UPGRADE_READY);
        assert_true(u.nodes[0].is_to_ask);
        upgrade_done(&u);
}

/* What an earlier attempt told is not taken for the new one's. */
static void test_retry(void **state)
{
        struct upgrade u = started("{\"stop_at_percent\":100}", 1);
        struct error e = {0};

        (void)state;
        tell(&u, &u.nodes[0], UPDATE_FAILED, "no space");
        step(&u, NOW + MINUTE);
        assert_int_equal(u.state, UPGRADE_COMPLETED);
        assert_int_equal(upgrade_retry(&u, NOW + 2 * MINUTE, &e), 0);
        assert_int_equal(u.nodes[0].state, UPGRADE_NEW);
        step(&u, NOW + 2 * MINUTE);
        assert_int_equal(u.nodes[0].state, UPGRADE_READY);
        step(&u, NOW + 3 * MINUTE);
        assert_int_equal(u.nodes[0].state, UPGRADE_READY);
        tell(&u, &u.nodes[0], UPDATE_COMPLETED, "");
        step(&u, NOW + 4 * MINUTE);
        assert_int_equal(u.nodes[0].state, UPGRADE_DONE);
        assert_int_equal(u.state, UPGRADE_COMPLETED);
        assert_int_equal(upgrade_retry(&u, NOW + 5 * MINUTE, &e), -EEXIST);
        assert_string_equal(e.code, "upgrade.no-errors");
        upgrade_done(&u);
}

/* ---- what people ask ---- */

static void test_pause_and_resume(void **state)
{
        struct upgrade u = started("{}", 3);
        struct error e = {0};

        (void)state;
        tell(&u, &u.nodes[0], UPDATE_IN_PROGRESS, "");
        step(&u, NOW + MINUTE);
        assert_int_equal(upgrade_pause(&u, NOW + MINUTE, &e), 0);
        assert_int_equal(u.nodes[0].state, UPGRADE_WORKING);
        assert_int_equal(u.nodes[1].state, UPGRADE_NEW);
        /* Its time does not run meanwhile; who works goes on, and may end. */
        tell(&u, &u.nodes[0], UPDATE_COMPLETED, "");
        step(&u, NOW + 500 * MINUTE);
        assert_int_equal(u.state, UPGRADE_PAUSED);
        assert_int_equal(u.nodes[0].state, UPGRADE_DONE);
        assert_int_equal(u.nodes[1].state, UPGRADE_NEW);
        assert_false(u.nodes[1].is_to_ask);
        assert_int_equal(upgrade_pause(&u, NOW, &e), -EEXIST);
        assert_int_equal(upgrade_resume(&u, NOW + 501 * MINUTE, &e), 0);
        step(&u, NOW + 501 * MINUTE);
        assert_int_equal(u.nodes[1].state, UPGRADE_READY);
        assert_int_equal(u.nodes[1].ready, NOW + 501 * MINUTE);
        assert_true(u.nodes[1].is_to_ask);
        assert_int_equal(upgrade_resume(&u, NOW, &e), -EEXIST);
        upgrade_done(&u);
}

static void test_cancel(void **state)
{
        struct upgrade u = started("{\"waves\":[50,100]}", 4);
        struct error e = {0};

        (void)state;
        tell(&u, &u.nodes[0], UPDATE_IN_PROGRESS, "");
        step(&u, NOW + MINUTE);
        assert_int_equal(upgrade_cancel(&u, NOW + MINUTE, &e), 0);
        assert_int_equal(count_of(&u, UPGRADE_SKIPPED), 3);
        assert_string_equal(u.nodes[3].reason, "cancelled");
        step(&u, NOW + 2 * MINUTE);
        assert_true(u.is_watched);
        /* One that was asked just before begins: that is said, not hidden. */
        tell(&u, &u.nodes[1], UPDATE_IN_PROGRESS, "");
        tell(&u, &u.nodes[0], UPDATE_COMPLETED, "");
        step(&u, NOW + 3 * MINUTE);
        assert_int_equal(u.nodes[1].state, UPGRADE_WORKING);
        assert_int_equal(u.nodes[0].state, UPGRADE_DONE);
        tell(&u, &u.nodes[1], UPDATE_COMPLETED, "");
        step(&u, NOW + 200 * MINUTE);
        assert_int_equal(u.state, UPGRADE_CANCELLED);
        assert_false(u.is_watched);
        assert_int_equal(upgrade_cancel(&u, NOW, &e), -EEXIST);
        assert_int_equal(upgrade_retry(&u, NOW, &e), -EEXIST);
        assert_int_equal(upgrade_resume(&u, NOW, &e), -EEXIST);
        upgrade_done(&u);
}

static void test_start(void **state)
{
        struct upgrade u = world("{\"sites\":[\"nowhere\"]}", 4);
        struct error e = {0};

        (void)state;
        upgrade_choose(&u, NOW);
        assert_int_equal(upgrade_start(&u, NOW, &e), -EINVAL);
        assert_string_equal(e.code, "upgrade.empty");
        assert_int_equal(upgrade_pause(&u, NOW, &e), -EEXIST);
        assert_int_equal(upgrade_retry(&u, NOW, &e), -EEXIST);
        upgrade_done(&u);
        u = started("{}", 1);
        assert_int_equal(upgrade_start(&u, NOW, &e), -EEXIST);
        upgrade_done(&u);
        /* All have it already: over at once. */
        u = world("{}", 2);
        strcpy(u.nodes[0].version, "0.2.0");
        strcpy(u.nodes[1].version, "0.2.0");
        upgrade_choose(&u, NOW);
        assert_int_equal(upgrade_start(&u, NOW, &e), 0);
        step(&u, NOW);
        assert_int_equal(u.state, UPGRADE_COMPLETED);
        upgrade_done(&u);
}

static void test_timeline(void **state)
{
        struct upgrade u = started("{\"waves\":[25,100]}", 4);

        (void)state;
        assert_string_equal(u.lines[0].text, "running");
        assert_string_equal(u.lines[1].text, "wave 1 of 2 begins: 1 node");
        assert_non_null(strstr(u.lines[2].text, ": NEW to READY"));
        assert_string_equal(u.lines[2].node, first_of(&u, 1)->id);
        upgrade_done(&u);
}

static void test_words(void **state)
{
        enum upgrade_node_state n;
        enum upgrade_state w;

        (void)state;
        for (int i = 0; i < UPGRADE_NODE_STATES; i++) {
                assert_int_equal(upgrade_node_state_from_string(
                                         upgrade_node_state_to_string((enum upgrade_node_state)i), &n),
                        0);
                assert_int_equal(n, i);
        }
        for (int i = 0; i < UPGRADE_STATES; i++) {
                assert_int_equal(
                        upgrade_state_from_string(upgrade_state_to_string((enum upgrade_state)i), &w), 0);
                assert_int_equal(w, i);
        }
        assert_int_equal(upgrade_state_from_string("x", &w), -EINVAL);
        assert_int_equal(upgrade_node_state_from_string("ready", &n), -EINVAL);
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(test_plans), cmocka_unit_test(test_waves),
                cmocka_unit_test(test_who_is_taken), cmocka_unit_test(test_wave_by_wave),
                cmocka_unit_test(test_nothing_newer), cmocka_unit_test(test_asking),
                cmocka_unit_test(test_limits), cmocka_unit_test(test_an_end_after_the_limit),
                cmocka_unit_test(test_away), cmocka_unit_test(test_removed_and_tagged_meanwhile),
                cmocka_unit_test(test_stops_itself), cmocka_unit_test(test_retry),
                cmocka_unit_test(test_pause_and_resume), cmocka_unit_test(test_cancel),
                cmocka_unit_test(test_start), cmocka_unit_test(test_timeline), cmocka_unit_test(test_words)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
