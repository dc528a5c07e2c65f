/* What the transfer engine reads: the first byte chooses. p: bandwidth plan, w: ways.json, s: a transfer's
 * record of another process, c: Content-Range, u: an update's state, t: window. What is taken must survive
 * being written and read again. */
#include "fuzz.h"

#include "net/transfer_internal.h"
#include "net/transfer_post.h"
#include "wire/update.h"
#include "wire/window.h"

#include "base/cleanup.h"
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

static void fuzz_plan(const char *text)
{
        struct budget_plan p, again;
        struct error e;

        if (budget_plan_parse(text, &p, &e) < 0)
                return;
        _cleanup_free_ char *formatted = budget_plan_format(&p);
        if (budget_plan_parse(formatted, &again, &e) < 0)
                abort();
        for (unsigned minute = 0; minute < 1440; minute += 7)
                if (budget_plan_rate(&p, minute) != budget_plan_rate(&again, minute))
                        abort();
}

static void fuzz_ways(const void *data, size_t size)
{
        struct ways w;
        struct error e;

        if (ways_parse(data, size, &w, &e) == 0 && (w.count > WAYS_MAX || ways_find(&w, "")))
                abort();
}

static void fuzz_record(const void *data, size_t size)
{
        json_t *j = NULL;

        if (transfer_post_parse(data, size, &j) == 0 && !json_is_object(j))
                abort();
        json_decref(j);
}

static void fuzz_range(const char *text)
{
        uint64_t first, size;

        if (content_range_parse(text, &first, &size) == 0 && first > size)
                abort();
}

static void fuzz_update(const void *data, size_t size)
{
        struct update_state s = {0}, again = {0};
        struct error e;

        if (update_state_parse(data, size, &s, &e) < 0)
                return;
        json_auto_t *j = update_state_to_json(&s);
        if (update_state_from_json(j, &again, &e) < 0)
                abort();
        update_state_done(&s);
        update_state_done(&again);
}

static void fuzz_window(const char *text)
{
        struct window w, again;
        struct error e;
        char formatted[64];
        int64_t end = 0;

        if (window_parse(text, &w, &e) < 0)
                return;
        window_format(&w, formatted);
        if (window_parse(formatted, &again, &e) < 0 || again.days != w.days ||
                again.from_minute != w.from_minute || again.length_minutes != w.length_minutes)
                abort();
        if (window_next(&w, 1, 1795262400, &end) <= 1795262400)
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        if (size == 0)
                return 0;
        _cleanup_free_ char *text = strndup((const char *)data + 1, size - 1);
        switch (*data) {
        case 'p':
                fuzz_plan(text);
                break;
        case 'w':
                fuzz_ways(data + 1, size - 1);
                break;
        case 's':
                fuzz_record(data + 1, size - 1);
                break;
        case 'c':
                fuzz_range(text);
                break;
        case 'u':
                fuzz_update(data + 1, size - 1);
                break;
        case 't':
                fuzz_window(text);
                break;
        }
        return 0;
}
