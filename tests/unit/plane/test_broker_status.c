/* Who is there: coming, going, flapping, and all of it while database or broker are away. */
#include "broker_world.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/db.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define MANY 100

static void test_flapping_is_told_once(void **state)
{
        struct node n;

        (void)state;
        connect_node(&n, t.w->node);
        for (int i = 0; i < 20; i++) {
                say_status(&n, i % 2 == 0);
                wait_count(&t.statuses, i + 1);
        }
        assert_int_equal(t.flappings, 1);
        assert_int_equal(t.connects + t.disconnects, 9);
        mqtt_free(n.mqtt, true);
}

static void flap(struct node *n, int changes)
{
        for (int i = 0; i < changes; i++) {
                int statuses = t.statuses;

                say_status(n, i % 2 == 0);
                wait_count(&t.statuses, statuses + 1);
        }
}

/* Whatever was quiet: the last event says where the node is, and says it once. */
static void test_what_flapped_and_stays_is_told(void **state)
{
        struct node n;

        (void)state;
        connect_node(&n, t.w->node);
        flap(&n, 12); /* and is away */
        assert_int_equal(t.flappings, 1);
        assert_int_equal(t.disconnects, 4);
        wait_count(&t.disconnects, 5);
        assert_non_null(strstr(t.last_message, "stayed so after its connection had flapped"));
        run(2 * SETTLED);
        assert_int_equal(t.events, 9 + 1 + 1);
        flap(&n, 3); /* and is there */
        assert_int_equal(t.events, 11);
        wait_count(&t.connects, 6);
        run(2 * SETTLED);
        assert_int_equal(t.events, 12);
        assert_int_equal(t.flappings, 1);
        mqtt_free(n.mqtt, true);
}

/* The plane is started anew before it could tell; the broker kept what the nodes said. */
static void test_what_flapped_is_told_by_the_next_plane(void **state)
{
        struct node away, here;

        (void)state;
        connect_node(&away, t.w->node);
        connect_node(&here, t.w->other);
        flap(&away, 12);
        flap(&here, 13);
        assert_int_equal(t.events, 2 * (9 + 1));
        broker_free(t.broker);
        t.connects = t.disconnects = 0;
        make_broker();
        wait_count(&t.disconnects, 1);
        wait_count(&t.connects, 1);
        run(2 * SETTLED);
        assert_int_equal(t.events, 2 * (9 + 1) + 2);
        /* And that was the last word: one more start says nothing. */
        broker_free(t.broker);
        make_broker();
        run(2 * SETTLED);
        assert_int_equal(t.events, 2 * (9 + 1) + 2);
        mqtt_free(away.mqtt, true);
        mqtt_free(here.mqtt, true);
}

/* It flapped, is there, and then the broker dies with it: it is gone, and "connected" is not told of it. */
static void test_what_flapped_and_died_with_the_broker(void **state)
{
        struct node n;

        (void)state;
        connect_node(&n, t.w->node);
        flap(&n, 13);
        assert_int_equal(t.connects, 5);
        stop_mosquitto(SIGKILL);
        assert_true(wait_for(is_flag, &n.is_closed));
        run(1.5 * SETTLED);
        start_mosquitto();
        wait_count(&t.disconnects, 5);
        run(2 * SETTLED);
        assert_int_equal(t.connects, 5);
        assert_int_equal(t.disconnects, 5);
        assert_false(shown_connected(t.w->node));
}

/* Another process has the database for a while: the loop goes on, and what came is stored in its order. */
static void test_the_database_is_locked(void **state)
{
        sqlite3 *other = NULL;
        struct node n;
        double began_ms;

        (void)state;
        connect_node(&n, t.w->node);
        assert_int_equal(sqlite3_open(t.w->path, &other), SQLITE_OK);
        assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
        say_status(&n, true);
        say_status(&n, false);
        say_status(&n, true);
        say_event(&n, 1);
        began_ms = clock_monotonic_ms();
        while (clock_monotonic_ms() < began_ms + 1000) {
                double turn_ms = clock_monotonic_ms();

                assert_true(sd_event_run(t.event, 1000) >= 0);
                assert_true(clock_monotonic_ms() - turn_ms < 200);
        }
        assert_int_equal(t.events + t.statuses + n.acks, 0);
        assert_int_equal(sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
        sqlite3_close(other);
        wait_count(&t.connects, 2);
        wait_count(&n.acks, 1);
        run(500);
        assert_int_equal(t.connects, 2);
        assert_int_equal(t.disconnects, 1);
        assert_int_equal(t.events, 3 + 1);
        assert_true(shown_connected(t.w->node));
        mqtt_free(n.mqtt, true);
}

/* A broker that was killed sends no wills: one comes back, one does not. */
static void test_who_does_not_come_back_is_gone(void **state)
{
        struct node here, gone;

        (void)state;
        connect_node(&here, t.w->node);
        connect_node(&gone, t.w->other);
        say_status(&here, true);
        say_status(&gone, true);
        wait_count(&t.connects, 2);
        stop_mosquitto(SIGKILL);
        assert_true(wait_for(is_flag, &here.is_closed));
        assert_true(wait_for(is_flag, &gone.is_closed));
        start_mosquitto();
        assert_true(wait_for(broker_is_connected, NULL));
        connect_node(&here, t.w->node);
        say_status(&here, true);
        wait_count(&t.disconnects, 1);
        run(2 * ABSENT);
        assert_int_equal(t.disconnects, 1);
        assert_int_equal(t.connects, 2); /* the other was there all the time */
        assert_true(shown_connected(t.w->node));
        assert_false(shown_connected(t.w->other));
        mqtt_free(here.mqtt, true);
}

static void sql(const char *text)
{
        struct error e = {0};

        must(db_run(plane_store_db(t.w->store), &e, text, ""), &e);
}

/* What it says once, and the broker keeps, is asked for again; state and event are stored together. */
static void test_a_state_that_is_not_stored(void **state)
{
        static const char *const spoilers[] = {"nodes", "events"};
        struct node n;

        (void)state;
        connect_node(&n, t.w->node);
        for (size_t i = 0; i < ELEMENTS(spoilers); i++) {
                char text[160];

                snprintf(text, sizeof text,
                        "CREATE TRIGGER spoil BEFORE %s ON %s BEGIN SELECT raise(ABORT, 'spoilt'); END",
                        i == 0 ? "UPDATE" : "INSERT", spoilers[i]);
                sql(text);
                say_status(&n, i == 0);
                run(1200);
                assert_int_equal(t.connects, i);
                assert_int_equal(t.disconnects, 0);
                assert_int_equal(shown_connected(t.w->node), i == 1);
                sql("DROP TRIGGER spoil");
                wait_count(i == 0 ? &t.connects : &t.disconnects, 1);
                run(1200);
                assert_int_equal(t.events, i + 1);
        }
        mqtt_free(n.mqtt, true);
}

/* Its coming is known, and told, as soon as there is room again, although it says it only once. */
static void test_a_node_comes_while_the_disk_is_full(void **state)
{
        struct node n;

        (void)state;
        limit_pages(0);
        connect_node(&n, t.w->node);
        /* Room for the state there may be, and for some events, but for hundreds there is not. */
        for (int64_t i = 1; i <= 300; i++)
                say_event(&n, i);
        say_status(&n, true);
        run(1500);
        assert_true(t.events < 301);
        assert_true(shown_connected(t.w->node) == (t.connects == 1));
        limit_pages(1000000);
        wait_count(&t.connects, 1);
        run(1500);
        assert_int_equal(t.connects, 1);
        assert_true(shown_connected(t.w->node));
        for (int64_t i = 1; i <= 300; i++)
                say_event(&n, i);
        wait_count(&t.events, 301);
        mqtt_free(n.mqtt, true);
}

static void test_many_come_at_once(void **state)
{
        static struct node nodes[MANY];
        static char ids[MANY][65];

        (void)state;
        for (int i = 0; i < MANY; i++) {
                char name[16];

                snprintf(name, sizeof name, "many-%d", i);
                world_node(t.w, &t.w->us, name, "north", ids[i]);
                connect_node(&nodes[i], ids[i]);
        }
        for (int i = 0; i < MANY; i++)
                say_status(&nodes[i], true);
        wait_count(&t.connects, MANY);
        /* And all are gone with the broker: more than are told at once. */
        stop_mosquitto(SIGKILL);
        for (int i = 0; i < MANY; i++)
                assert_true(wait_for(is_flag, &nodes[i].is_closed));
        start_mosquitto();
        wait_count(&t.disconnects, MANY);
        run(500);
        assert_int_equal(t.disconnects, MANY);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, broker_setup, broker_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {TEST(test_flapping_is_told_once),
                TEST(test_what_flapped_and_stays_is_told), TEST(test_what_flapped_is_told_by_the_next_plane),
                TEST(test_what_flapped_and_died_with_the_broker), TEST(test_the_database_is_locked),
                TEST(test_who_does_not_come_back_is_gone), TEST(test_a_state_that_is_not_stored),
                TEST(test_a_node_comes_while_the_disk_is_full), TEST(test_many_come_at_once)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
