/* update.start and update.cancel of the real helper, with the real judge and updater, in a root of their own:
 * a node that is not registered, so that nothing of this machine is touched. */
#include "helper/update_place.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "helper/protocol.h"
#include "helper/spawn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_MS 20000

static char root[] = "/tmp/gridnode-update-XXXXXX";
static struct update_place place;
static pid_t helper;
static int fd;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
        (void)st;
        (void)type;
        (void)at;
        return remove(path);
}

static int set_up(void **state)
{
        int pair[2];

        (void)state;
        memcpy(root + strlen(root) - 6, "XXXXXX", 6);
        if (!mkdtemp(root) || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                return -1;
        update_place_init(&place, root);
        helper = helper_spawn(HELPER_PROGRAM, NULL, root, pair[1]);
        close(pair[1]);
        fd = pair[0];
        return helper < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
        (void)state;
        close(fd);
        waitpid(helper, NULL, 0);
        update_place_done(&place);
        return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static struct error ask(const char *request)
{
        char answer[4096];
        struct error told = {0}, e;
        ssize_t n;

        assert_int_equal(send(fd, request, strlen(request), 0), strlen(request));
        n = recv(fd, answer, sizeof answer, 0);
        assert_true(n > 0);
        assert_int_equal(helper_answer_parse(answer, (size_t)n, &told, &e), 0);
        return told;
}

static const char start[] =
        "{\"op\":\"update.start\",\"job\":{\"id\":\"u-1\",\"action\":\"check\",\"channel\":\"stable\","
        "\"reboot\":false,\"again\":false,\"by\":\"alice\"}}";

static void await_end(void)
{
        double until_ms = clock_monotonic_ms() + WAIT_MS;

        while (access(place.job, F_OK) == 0 && clock_monotonic_ms() < until_ms)
                usleep(20000);
        assert_int_equal(access(place.job, F_OK), -1);
}

static void test_an_update_is_seen_to_its_end(void **state)
{
        (void)state;
        _cleanup_(update_state_done) struct update_state s = {0};
        _cleanup_free_ char *text = NULL;
        struct error e;
        size_t length;

        e = ask(start);
        if (e.number)
                fail_msg("%s", e.text);
        await_end();
        assert_int_equal(file_read(place.state, 1 << 20, &text, &length, &e), 0);
        assert_int_equal(update_state_parse(text, length, &s, &e), 0);
        assert_int_equal(s.status, UPDATE_FAILED);
        assert_non_null(strstr(s.error, "not registered"));
        assert_string_equal(s.job.by, "alice");
        assert_int_equal(ask(start).number, 0); /* and another one may begin */
        await_end();
}

/* Somebody holds the judge's lock: its update is under way, and is told. */
static void test_a_second_one_is_refused(void **state)
{
        (void)state;
        static const struct update_job job = {.id = "u-0", .channel = "stable", .by = "bob"};
        _cleanup_free_ char *lock = NULL;
        struct error e;
        int lock_fd;

        assert_int_equal(update_place_prepare(&place, &e), 0);
        lock = xasprintf("%s/lock", place.folder);
        lock_fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        assert_true(lock_fd >= 0 && flock(lock_fd, LOCK_EX) == 0);
        assert_int_equal(update_job_claim(&place, &job, &e), 0);
        e = ask(start);
        assert_int_equal(e.number, EBUSY);
        assert_string_equal(e.code, "update.busy");
        assert_non_null(strstr(e.text, "u-0, asked for by bob"));
        assert_null(strstr(e.text, "was interrupted"));
        /* Its judge has died: it goes on. */
        close(lock_fd);
        e = ask(start);
        assert_int_equal(e.number, EBUSY);
        await_end();
}

static void test_cancel(void **state)
{
        (void)state;
        static const struct update_job job = {.id = "u-0", .channel = "stable", .by = "bob"};
        enum update_decision d = UPDATE_UNDECIDED;
        struct error e;

        assert_string_equal(ask("{\"op\":\"update.cancel\",\"id\":\"u-0\"}").code, "update.none");
        assert_int_equal(update_place_prepare(&place, &e), 0);
        assert_int_equal(update_job_claim(&place, &job, &e), 0);
        assert_string_equal(ask("{\"op\":\"update.cancel\",\"id\":\"u-1\"}").code, "update.none");
        assert_int_equal(ask("{\"op\":\"update.cancel\",\"id\":\"u-0\"}").number, 0);
        assert_int_equal(update_decided(&place, "u-0"), UPDATE_CANCELLED);
        unlink(place.decided);
        assert_int_equal(update_decide(&place, "u-0", UPDATE_INSTALLING, &d, &e), 0);
        e = ask("{\"op\":\"update.cancel\",\"id\":\"u-0\"}");
        assert_string_equal(e.code, "update.installing");
        assert_int_equal(e.number, EBUSY);
}

static void test_whose_packages_they_are(void **state)
{
        struct error e = {0};

        (void)state;
        assert_int_equal(update_root_may_change(NULL, NULL), 0);
        assert_int_equal(update_root_may_change("/", NULL), 0);
        assert_int_equal(update_root_may_change("/usr/..", NULL), 0);
        assert_int_equal(update_root_may_change(root, &e), -EPERM);
        assert_string_equal(e.code, "update.root");
        assert_non_null(strstr(e.text, root));
        assert_int_equal(update_root_may_change("/nowhere/at/all", NULL), -EPERM);
}

static void save(const char *path, json_t *value)
{
        _cleanup_free_ char *text = json_to_text(value);
        struct error e;

        json_decref(value);
        assert_int_equal(file_save(path, text, strlen(text), 0644, &e), 0);
}

/* Whatever is left of an update in such a folder, nobody goes on with it in earnest: no dpkg runs, which
 * would be this machine's. */
static void test_nothing_is_put_back_below_a_root(void **state)
{
        (void)state;
        struct update_state s = {.job = {.id = "u-0", .action = UPDATE_NOW, .channel = "stable", .by = "bob"},
                .started_unix_ms = 1800000000000,
                .version_from = "0.1.0",
                .version_to = "0.2.0"};
        _cleanup_(update_state_done) struct update_state end = {0};
        _cleanup_free_ char *text = NULL;
        struct error e;
        size_t length;

        s.steps[STEP_OWN] = (struct update_step){.state = STEP_FAILED, .from_unix_ms = 1, .text = "broken"};
        assert_int_equal(update_place_prepare(&place, &e), 0);
        save(place.state, update_state_to_json(&s));
        save(place.judge, json_pack("{s:s,s:s,s:s}", "id", "u-0", "phase", "restores", "why", "broken"));
        assert_int_equal(update_job_claim(&place, &s.job, &e), 0);
        assert_int_equal(ask(start).number, EBUSY); /* which goes on with it */
        await_end();
        assert_int_equal(file_read(place.state, 1 << 20, &text, &length, &e), 0);
        assert_int_equal(update_state_parse(text, length, &end, &e), 0);
        assert_string_equal(end.job.id, "u-0");
        assert_int_equal(end.status, UPDATE_FAILED);
        assert_non_null(strstr(end.error, "would change this machine"));
        assert_int_equal(end.steps[STEP_RESTORE].state, STEP_PENDING);
        assert_int_equal(access(place.refused, F_OK), -1);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_an_update_is_seen_to_its_end, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_a_second_one_is_refused, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_cancel, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_whose_packages_they_are, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_nothing_is_put_back_below_a_root, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
