#include "update/judge.h"

#include "base/cleanup.h"
#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#define GOOD                                                                     \
        "{\"version\":\"0.2.0\",\"control\":{\"state\":\"connected\",\"since\":" \
        "\"2026-11-21T03:00:10.000Z\",\"error\":null},\"self_test\":{\"ok\":true,\"error\":null}}"
#define INSTALLED INT64_C(1795230000000) /* 2026-11-21T03:00:00Z */

static bool judge(const struct judge_wants *w, const char *text, char why[400])
{
        json_auto_t *status = NULL;

        if (text)
                assert_int_equal(json_parse(text, strlen(text), 65536, "status", &status, NULL), 0);
        return judge_is_good(w, status, why, 400);
}

static const struct judge_wants wants = {
        .version = "0.2.0", .installed_unix_ms = INSTALLED, .installed_by_now_unix_ms = INSTALLED};

static void assert_bad(const struct judge_wants *w, const char *text, const char *word)
{
        char why[400];

        assert_false(judge(w, text, why));
        if (!strstr(why, word))
                fail_msg("'%s' says nothing of '%s'", why, word);
}

static void test_good(void **state)
{
        (void)state;
        char why[400];

        assert_true(judge(&wants, GOOD, why));
        assert_string_equal(why, "");
}

static void test_bad(void **state)
{
        (void)state;
        assert_bad(&wants, NULL, "does not answer");
        assert_bad(&wants, "{}", "no version");
        assert_bad(&wants, "{\"version\":\"0.1.0\"}", "is 0.1.0");
        assert_bad(&wants, "{\"version\":\"0.2.0\"}", "not connected");
        assert_bad(&wants,
                "{\"version\":\"0.2.0\",\"control\":{\"state\":\"waiting\",\"error\":\"8443 is refused\"}}",
                "(waiting): 8443 is refused");
        assert_bad(&wants, "{\"version\":\"0.2.0\",\"control\":{\"state\":\"connected\",\"since\":null}}",
                "has not connected");
        assert_bad(&wants, "{\"version\":7,\"control\":[],\"self_test\":true}", "no version");
        assert_bad(&wants,
                "{\"version\":\"0.2.0\",\"control\":{\"state\":\"connected\",\"since\":\"2026-11-21T03:00:10."
                "000Z\"}}",
                "self-test is not in its status");
        assert_bad(&wants,
                "{\"version\":\"0.2.0\",\"control\":{\"state\":\"connected\",\"since\":\"2026-11-21T03:00:10."
                "000Z\"},"
                "\"self_test\":{\"ok\":false,\"error\":\"the store is read-only\"}}",
                "has not passed: the store is read-only");
}

/* A connection of before the install is that of another daemon; a clock that was set meanwhile is no fault.
 */
static void test_since(void **state)
{
        (void)state;
        struct judge_wants w = wants;
        char why[400];

        w.installed_unix_ms = w.installed_by_now_unix_ms = INSTALLED + 60000;
        assert_bad(&w, GOOD, "since it was installed");
        w.installed_by_now_unix_ms = INSTALLED - 3600000; /* set back an hour, then connected */
        assert_true(judge(&w, GOOD, why));
        w.installed_unix_ms = INSTALLED;
        w.installed_by_now_unix_ms = INSTALLED + 3600000; /* connected, then set on an hour */
        assert_true(judge(&w, GOOD, why));
}

static void test_only_alive(void **state)
{
        (void)state;
        struct judge_wants w = {.version = "0.1.0", .only_alive = true};
        char why[400];

        assert_true(judge(&w, "{\"version\":\"0.1.0\"}", why));
        assert_bad(&w, GOOD, "is 0.2.0");
        assert_bad(&w, NULL, "does not answer");
}

static void test_note(void **state)
{
        (void)state;
        struct judge_note n = {.id = "u-1",
                .phase = JUDGE_RESTORES,
                .expects_daemon = true,
                .installed_unix_ms = INSTALLED,
                .installed_boot_ms = 1234.5,
                .why = "it does not answer"};
        struct judge_note back = {0};
        json_auto_t *object = judge_note_to_json(&n);
        _cleanup_free_ char *text = json_to_text(object);
        static const char *const bad[] = {"", "[]", "{}", "{\"id\":\"u\",\"phase\":\"thinks\",\"why\":\"\"}",
                "{\"id\":7,\"phase\":\"begun\",\"why\":\"\"}", "{\"id\":\"u\",\"phase\":\"begun\"}"};

        assert_int_equal(judge_note_parse(text, strlen(text), &back), 0);
        assert_memory_equal(&n, &back, sizeof n);
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
                assert_true(judge_note_parse(bad[i], strlen(bad[i]), &back) < 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_good),
                cmocka_unit_test(test_bad),
                cmocka_unit_test(test_since),
                cmocka_unit_test(test_only_alive),
                cmocka_unit_test(test_note),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
