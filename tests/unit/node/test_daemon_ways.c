#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "net/budget.h"
#include "net/transfer_post.h"
#include "net/ways.h"
#include "node/daemon_internal.h"
#include "node/settings.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PROFILE                                                                            \
        "[profile]\nname = grid\nranges = 198.51.100.16/28\nroot-subject = CN=root\n"      \
        "[service repo]\nhost = repo.grid.example\nport = 443\ntls = server\n"             \
        "carries = updates\n[service control]\nhost = control.grid.example\nport = 8443\n" \
        "tls = mutual\ncarries = control\n[addresses]\nrepo = 198.51.100.20\n"

static struct {
        char root[64];
        struct node_settings settings;
        struct site site;
        struct daemon d;
        double now_ms;
        sd_event_time_handler_t callback;
        void *userdata;
        double delay_ms;
        int observed;
} t;

/* ---- played ---- */

double daemon_now_ms(const struct daemon *d)
{
        (void)d;
        return t.now_ms;
}

int64_t daemon_unix_ms(void)
{
        return 1800000000000 + (int64_t)t.now_ms;
}

void daemon_arm(struct daemon *d, sd_event_source **source, double delay_ms, sd_event_time_handler_t callback,
        void *userdata)
{
        (void)d;
        (void)source;
        t.callback = callback;
        t.userdata = userdata;
        t.delay_ms = delay_ms;
}

void watch_observed(struct watch *w)
{
        (void)w;
        t.observed++;
}

static void fire(void)
{
        t.now_ms += t.delay_ms;
        t.callback(NULL, 0, t.userdata);
}

/* ---- around it ---- */

static int setup(void **state)
{
        struct monitor_options o = {0};
        struct error e = {0};

        (void)state;
        memset(&t, 0, sizeof t);
        strcpy(t.root, "/tmp/gridnode-ways-XXXXXX");
        assert_non_null(mkdtemp(t.root));
        t.now_ms = 1000;
        paths_init(&t.settings.paths, t.root, "gridnode");
        t.settings.site = &t.site;
        if (profile_parse("grid.profile", PROFILE, strlen(PROFILE), &t.settings.profile, &e) < 0)
                fail_msg("%s", e.text);
        o.profile = t.settings.profile;
        t.d.settings = &t.settings;
        t.d.monitor = monitor_new(&o, t.now_ms);
        assert_int_equal(ways_keeper_new(&t.d, &t.d.ways), 0);
        return 0;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
        (void)st, (void)kind, (void)at;
        return remove(path);
}

static int teardown(void **state)
{
        (void)state;
        ways_keeper_free(t.d.ways);
        monitor_free(t.d.monitor);
        profile_free(t.settings.profile);
        paths_done(&t.settings.paths);
        nftw(t.root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
        return 0;
}

static struct ways read_ways(void)
{
        _cleanup_free_ char *path = path_join(t.settings.paths.run, "ways.json");
        struct error e = {0};
        struct ways w = {0};

        if (ways_load(path, &w, &e) < 0)
                fail_msg("%s", e.text);
        return w;
}

static void fails(double after_ms)
{
        struct inet_addr a;

        t.now_ms += after_ms;
        inet_addr_parse("198.51.100.20", &a);
        monitor_observed(t.d.monitor, "repo", &a, false, t.now_ms);
}

static void diagnosed(const char *report)
{
        json_t *j = json_loads(report, 0, NULL);

        assert_non_null(j);
        monitor_diagnosed(t.d.monitor, j, t.now_ms);
        json_decref(j);
        ways_changed(t.d.ways);
}

/* ---- ways.json ---- */

static void test_what_is_known(void **state)
{
        struct ways w = read_ways();

        (void)state;
        assert_int_equal(w.count, 2);
        assert_string_equal(ways_find(&w, "repo")->state, "unknown");
        fails(5000);
        fails(5000);
        t.now_ms += 1000;
        diagnosed("{\"services\":[{\"name\":\"repo\",\"state\":\"blocked\",\"stage\":\"tcp\",\"addresses\":[{"
                  "\"address\":\"198.51.100.20\",\"state\":\"blocked\",\"stage\":\"tcp\"}]}],\"causes\":[{"
                  "\"code\":\"tcp.dropped\",\"summary\":\"443 to repo.grid.example is dropped after "
                  "192.0.2.1\",\"services\":[\"repo\"],\"targets\":[]}],\"measurements\":[]}");
        w = read_ways();
        assert_string_equal(ways_find(&w, "repo")->state, "failed");
        assert_string_equal(ways_find(&w, "repo")->code, "tcp.dropped");
        assert_string_equal(
                ways_find(&w, "repo")->summary, "443 to repo.grid.example is dropped after 192.0.2.1");
        assert_int_equal(ways_find(&w, "repo")->since_unix_ms, daemon_unix_ms());
        assert_string_equal(ways_find(&w, "control")->summary, "");
        assert_int_equal(w.written_unix_ms, daemon_unix_ms());
}

/* Who reads it takes one of 90 s for that of a dead daemon. */
static void test_written_again(void **state)
{
        int64_t before = read_ways().written_unix_ms;

        (void)state;
        t.now_ms += 1000;
        ways_changed(t.d.ways);
        assert_int_equal(read_ways().written_unix_ms, before);
        fire();
        assert_true(read_ways().written_unix_ms > before);
        assert_true(t.delay_ms <= 30000);
        ways_changed(NULL);
}

/* ---- the budget ---- */

static void test_budget(void **state)
{
        _cleanup_free_ char *path = path_join(t.settings.paths.run, "budget");
        struct budget *b = NULL;
        struct error e = {0};

        (void)state;
        assert_int_equal(budget_open(path, &b, &e), 0);
        assert_int_equal(budget_limit(b), 0);
        t.site.transfer.has_limit = true;
        t.site.transfer.limit.otherwise = 625000;
        fire();
        assert_int_equal(budget_limit(b), 625000);
        t.d.config.version = 3;
        t.d.config.transfer.has_limit = true;
        t.d.config.transfer.limit.otherwise = 125000;
        ways_plan_changed(t.d.ways);
        assert_int_equal(budget_limit(b), 125000);
        budget_close(b);
}

/* ---- transfers as probes ---- */

static void post(struct transfer_post *p, const char *state, int bytes, int attempts, const char *stage,
        const char *address)
{
        json_t *j = json_pack("{s:s,s:s,s:s,s:i,s:i,s:s,s:s}", "name", "a.deb", "service", "repo", "state",
                state, "bytes", bytes, "attempts", attempts, "stage", stage, "address", address);

        transfer_post_write(p, j);
        json_decref(j);
        fire();
}

static enum monitor_state repo_state(void)
{
        struct monitor_view v;

        monitor_view_service(t.d.monitor, 0, &v);
        return v.state;
}

static void test_transfers_are_probes(void **state)
{
        _cleanup_free_ char *folder = path_join(t.settings.paths.run, "transfers");
        struct transfer_post *p = transfer_post_open(folder, "apt");

        (void)state;
        /* By another port than the service's own it says nothing of that one. */
        post(p, "moving", 1000, 1, "", "198.51.100.20:8443");
        assert_int_equal(repo_state(), MONITOR_UNKNOWN);
        assert_int_equal(t.observed, 1);
        post(p, "moving", 2000, 1, "", "198.51.100.20:443");
        assert_int_equal(repo_state(), MONITOR_OK);
        assert_true(t.delay_ms <= 5000);
        /* One attempt that failed counts once, however often it is read. */
        post(p, "waiting", 2000, 2, "tcp", "198.51.100.20:443");
        fire();
        fire();
        assert_int_equal(repo_state(), MONITOR_SUSPECT);
        assert_false(monitor_wants_diagnosis(t.d.monitor));
        post(p, "waiting", 2000, 3, "tcp", "198.51.100.20:443");
        assert_true(monitor_wants_diagnosis(t.d.monitor));
        transfer_post_close(p);
        fire();
        assert_true(t.delay_ms > 5000);
}

/* What the server said, or what was wrong with the file, says nothing of the way; nor does nonsense. */
static void test_what_says_nothing(void **state)
{
        _cleanup_free_ char *folder = path_join(t.settings.paths.run, "transfers");
        struct transfer_post *p = transfer_post_open(folder, "apt");

        (void)state;
        post(p, "waiting", 0, 1, "http", "198.51.100.20:443");
        post(p, "waiting", 0, 2, "hash", "198.51.100.20:443");
        post(p, "moving", 5, 2, "", "nowhere");
        post(p, "moving", 6, 2, "", "");
        assert_int_equal(repo_state(), MONITOR_UNKNOWN);
        transfer_post_close(p);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_what_is_known, setup, teardown),
                cmocka_unit_test_setup_teardown(test_written_again, setup, teardown),
                cmocka_unit_test_setup_teardown(test_budget, setup, teardown),
                cmocka_unit_test_setup_teardown(test_transfers_are_probes, setup, teardown),
                cmocka_unit_test_setup_teardown(test_what_says_nothing, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
