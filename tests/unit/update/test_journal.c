#include "update/journal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <utime.h>

static char root[] = "/tmp/gridnode-journal-XXXXXX";

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
        (void)st;
        (void)type;
        (void)at;
        return remove(path);
}

static int set_up(void **state)
{
        static const struct update_job job = {
                .id = "u-1", .action = UPDATE_NOW, .channel = "stable", .by = "alice"};
        struct update_place p;
        struct error e;

        (void)state;
        memcpy(root + strlen(root) - 6, "XXXXXX", 6);
        if (!mkdtemp(root))
                return -1;
        update_place_init(&p, root);
        if (update_place_prepare(&p, &e) < 0 || update_job_claim(&p, &job, &e) < 0)
                return -1;
        update_place_done(&p);
        return 0;
}

static int tear_down(void **state)
{
        (void)state;
        return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void test_steps_survive(void **state)
{
        (void)state;
        struct journal j;
        struct error e;
        int64_t began;

        assert_int_equal(journal_open(root, &j, &e), 0);
        assert_int_equal(j.state.status, UPDATE_IN_PROGRESS);
        journal_begin(&j, STEP_CONNECT, "https://%s", "repo.grid.example");
        began = j.state.steps[STEP_CONNECT].from_unix_ms;
        journal_wait(&j, STEP_CONNECT, "tcp.dropped", "443 is dropped");
        journal_done(&j);
        /* Another process goes on. */
        assert_int_equal(journal_open(root, &j, &e), 0);
        assert_int_equal(j.state.steps[STEP_CONNECT].state, STEP_WAITING);
        assert_int_equal(j.state.steps[STEP_CONNECT].from_unix_ms, began);
        assert_string_equal(j.state.waiting_for, "443 is dropped");
        assert_string_equal(j.state.waiting_code, "tcp.dropped");
        assert_true(j.state.waiting_since_unix_ms > 0);
        assert_false(journal_is_over(&j, STEP_CONNECT));
        journal_begin(&j, STEP_CONNECT, "again");
        assert_int_equal(j.state.steps[STEP_CONNECT].from_unix_ms, began);
        assert_int_equal(j.state.waiting_since_unix_ms, 0);
        journal_end(&j, STEP_CONNECT, STEP_DONE, "%d packages", 3);
        assert_true(journal_is_over(&j, STEP_CONNECT));
        assert_true(j.state.steps[STEP_CONNECT].to_unix_ms >= began);
        journal_done(&j);
}

static void test_waiting_is_told_since_its_beginning(void **state)
{
        (void)state;
        struct journal j;
        struct error e;
        int64_t since;

        assert_int_equal(journal_open(root, &j, &e), 0);
        journal_begin(&j, STEP_CONNECT, "x");
        journal_wait(&j, STEP_CONNECT, "a", "first");
        since = j.state.waiting_since_unix_ms;
        journal_wait(&j, STEP_CONNECT, "b", "second");
        assert_int_equal(j.state.waiting_since_unix_ms, since);
        assert_string_equal(j.state.steps[STEP_CONNECT].text, "second");
        journal_done(&j);
}

static void test_failure_has_the_log(void **state)
{
        (void)state;
        struct journal j;
        struct error e;
        _cleanup_free_ char *history = xasprintf("%s/var/lib/gridnode-update/history/u-1.json", root),
                            *text = NULL;
        struct update_state back = {0};
        size_t length;

        assert_int_equal(journal_open(root, &j, &e), 0);
        for (int i = 0; i < 2000; i++)
                journal_log(&j, "line %d \x1b[31m of many", i);
        journal_begin(&j, STEP_OWN, "x");
        journal_end(&j, STEP_OWN, STEP_FAILED, "%s", "the postinst");
        journal_fail(&j, "it was no good");
        assert_int_equal(j.state.status, UPDATE_FAILED);
        assert_true(strlen(j.state.log) > UPDATE_LOG_BYTES / 2 && strlen(j.state.log) <= UPDATE_LOG_BYTES);
        assert_null(strchr(j.state.log, '\x1b'));
        assert_non_null(strstr(j.state.log, "line 1999"));
        assert_null(strstr(j.state.log, "line 5 "));
        assert_int_equal(journal_archive(&j, &e), 0);
        assert_int_equal(access(j.place.job, F_OK), -1);
        assert_int_equal(journal_archive(&j, &e), 0); /* a second time does no harm */
        journal_done(&j);
        assert_int_equal(journal_open(root, &j, &e), -ENOENT);
        assert_int_equal(file_read(history, 1 << 20, &text, &length, &e), 0);
        assert_int_equal(update_state_parse(text, length, &back, &e), 0);
        assert_string_equal(back.error, "it was no good");
        update_state_done(&back);
}

static void test_damaged_state_begins_anew(void **state)
{
        (void)state;
        static const char *const texts[] = {"", "{", "[]", "{\"job\":{\"id\":\"u-1\"}}"};
        struct journal j;
        struct error e;

        for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
                _cleanup_free_ char *path = xasprintf("%s/var/lib/gridnode-update/state.json", root);

                assert_int_equal(file_save(path, texts[i], strlen(texts[i]), 0644, &e), 0);
                assert_int_equal(journal_open(root, &j, &e), 0);
                assert_int_equal(j.state.status, UPDATE_IN_PROGRESS);
                assert_string_equal(j.state.job.id, "u-1");
                journal_done(&j);
        }
}

static void test_state_of_another_update(void **state)
{
        (void)state;
        struct update_job next = {.id = "u-2", .action = UPDATE_CHECK, .channel = "testing", .by = ""};
        struct journal j;
        struct error e;

        assert_int_equal(journal_open(root, &j, &e), 0);
        journal_begin(&j, STEP_OWN, "x");
        journal_complete(&j);
        assert_int_equal(journal_archive(&j, &e), 0);
        assert_int_equal(update_job_claim(&j.place, &next, &e), 0);
        assert_int_equal(update_job_claim(&j.place, &next, &e), -EEXIST);
        journal_done(&j);
        assert_int_equal(journal_open(root, &j, &e), 0);
        assert_string_equal(j.state.job.id, "u-2");
        assert_int_equal(j.state.steps[STEP_OWN].state, STEP_PENDING);
        journal_done(&j);
}

static void test_history_is_kept_for_30_days(void **state)
{
        (void)state;
        _cleanup_free_ char *old = xasprintf("%s/var/lib/gridnode-update/history/u-0.json", root),
                            *young = xasprintf("%s/var/lib/gridnode-update/history/u-00.json", root);
        struct utimbuf then = {.actime = 0, .modtime = time(NULL) - 31 * 24 * 3600},
                       lately = {.actime = 0, .modtime = time(NULL) - 29 * 24 * 3600};
        struct journal j;
        struct error e;

        assert_int_equal(journal_open(root, &j, &e), 0);
        assert_int_equal(file_save(old, "{}", 2, 0644, &e), 0);
        assert_int_equal(file_save(young, "{}", 2, 0644, &e), 0);
        assert_int_equal(utime(old, &then), 0);
        assert_int_equal(utime(young, &lately), 0);
        journal_complete(&j);
        assert_int_equal(journal_archive(&j, &e), 0);
        assert_int_equal(access(old, F_OK), -1);
        assert_int_equal(access(young, F_OK), 0);
        journal_done(&j);
}

/* Whoever comes first decides; a file that a former update left decides nothing. */
static void test_decisions(void **state)
{
        (void)state;
        struct update_place p;
        enum update_decision d = UPDATE_UNDECIDED;
        struct error e;

        update_place_init(&p, root);
        assert_int_equal(update_decided(&p, "u-1"), UPDATE_UNDECIDED);
        assert_int_equal(update_decide(&p, "u-1", UPDATE_CANCELLED, &d, &e), 0);
        assert_int_equal(d, UPDATE_CANCELLED);
        assert_int_equal(update_decide(&p, "u-1", UPDATE_INSTALLING, &d, &e), 0);
        assert_int_equal(d, UPDATE_CANCELLED);
        assert_int_equal(update_decided(&p, "u-2"), UPDATE_UNDECIDED);
        assert_int_equal(update_decide(&p, "u-2", UPDATE_INSTALLING, &d, &e), 0);
        assert_int_equal(d, UPDATE_INSTALLING);
        assert_int_equal(update_decide(&p, "u-2", UPDATE_CANCELLED, &d, &e), 0);
        assert_int_equal(d, UPDATE_INSTALLING);
        update_place_done(&p);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_steps_survive, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_waiting_is_told_since_its_beginning, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_failure_has_the_log, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_damaged_state_begins_anew, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_state_of_another_update, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_history_is_kept_for_30_days, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_decisions, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
