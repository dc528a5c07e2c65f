#include "update/judge.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define FILE_MAXIMUM ((size_t)8192)

static const char *text_of(const json_t *object, const char *name)
{
        const char *s = json_string_value(json_object_get(object, name));

        return s ? s : "";
}

static bool self_test_passed(const json_t *status, char *ret_why, size_t size)
{
        const json_t *test = json_object_get(status, "self_test");
        const char *error = text_of(test, "error");

        if (json_is_true(json_object_get(test, "ok")))
                return true;
        snprintf(ret_why, size, "its self-test %s%s%.300s",
                !json_is_object(test) ? "is not in its status" : "has not passed", error[0] ? ": " : "",
                error);
        return false;
}

static bool is_connected(const struct judge_wants *w, const json_t *status, char *ret_why, size_t size)
{
        const json_t *control = json_object_get(status, "control");
        const char *state = text_of(control, "state"), *error = text_of(control, "error");
        int64_t since = 0;

        if (!str_equal(state, "connected")) {
                snprintf(ret_why, size, "it is not connected to the control plane (%.32s)%s%.300s",
                        state[0] ? state : "not told", error[0] ? ": " : "", error);
                return false;
        }
        if (time_parse_utc(text_of(control, "since"), &since) < 0 ||
                (since < w->installed_unix_ms && since < w->installed_by_now_unix_ms)) {
                snprintf(ret_why, size, "it has not connected to the control plane since it was installed");
                return false;
        }
        return true;
}

bool judge_is_good(const struct judge_wants *w, const json_t *status, char *ret_why, size_t why_size)
{
        const char *version = text_of(status, "version");

        ret_why[0] = '\0';
        if (!status) {
                snprintf(ret_why, why_size, "it does not answer");
                return false;
        }
        if (!str_equal(version, w->version)) {
                snprintf(ret_why, why_size, "the one that answers is %.64s",
                        version[0] ? version : "of no version");
                return false;
        }
        if (w->only_alive)
                return true;
        return is_connected(w, status, ret_why, why_size) && self_test_passed(status, ret_why, why_size);
}

/* ---- the journal ---- */

static const char *const phases[] = {"begun", "watches", "restores"};

json_t *judge_note_to_json(const struct judge_note *n)
{
        return json_pack("{s:s,s:s,s:b,s:I,s:f,s:s}", "id", n->id, "phase", phases[n->phase],
                "expects_daemon", n->expects_daemon, "installed", (json_int_t)n->installed_unix_ms,
                "installed_boot_ms", n->installed_boot_ms, "why", n->why);
}

int judge_note_parse(const void *data, size_t length, struct judge_note *ret)
{
        json_auto_t *object = NULL;
        struct judge_note n = {0};
        struct json_reader r;
        const char *id, *phase, *why;
        int result = json_parse(data, length, FILE_MAXIMUM, "judge", &object, NULL);

        if (result < 0)
                return result;
        json_reader_init(&r, object, "judge", NULL);
        id = json_take_text(&r, "id", sizeof n.id - 1);
        phase = json_take_text(&r, "phase", 32);
        why = json_take_text(&r, "why", sizeof n.why - 1);
        n.expects_daemon = json_take_optional_boolean(&r, "expects_daemon", true);
        n.installed_unix_ms = json_take_optional_integer(&r, "installed", 0, INT64_MAX / 2, 0);
        n.installed_boot_ms = json_take_optional_number(&r, "installed_boot_ms", 0, 1e15, 0);
        result = json_reader_done(&r, false);
        if (result < 0)
                return result;
        str_copy(n.id, sizeof n.id, id);
        str_copy(n.why, sizeof n.why, why);
        for (size_t i = 0; i < ELEMENTS(phases); i++)
                if (str_equal(phases[i], phase)) {
                        n.phase = (enum judge_phase)i;
                        *ret = n;
                        return 0;
                }
        return -EBADMSG;
}
