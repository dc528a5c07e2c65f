/* When updates may be installed, and how much may be moved: two parts of a configuration. */
#include "wire/wire_internal.h"

#include "base/cleanup.h"
#include "wire/update.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define WINDOW_MAX_BYTES 64
#define LIMIT_MAX_BYTES  512

void config_schedule_init(struct config_schedule *s)
{
        *s = (struct config_schedule){.window_count = 1, .channel = CONFIG_DEFAULT_CHANNEL};
        window_parse(CONFIG_DEFAULT_WINDOW, &s->windows[0], NULL);
}

/* ---- writing ---- */

json_t *wire_schedule_to_json(const struct config_schedule *s)
{
        json_t *update = json_object(), *windows = json_array();
        char text[64];

        for (size_t i = 0; i < s->window_count; i++) {
                window_format(&s->windows[i], text);
                json_array_append_new(windows, json_string(text));
        }
        json_object_set_new(update, "windows", windows);
        json_object_set_new(update, "manual", json_boolean(s->manual));
        json_object_set_new(update, "hold_until", s->hold_until[0] ? wire_text(s->hold_until) : json_null());
        json_object_set_new(update, "channel", wire_text(s->channel));
        json_object_set_new(update, "reboot", json_boolean(s->reboot));
        return json_pack("{s:o}", "update", update);
}

json_t *wire_transfer_to_json(const struct config_transfer *t)
{
        json_t *j = json_object();

        if (t->has_limit) {
                _cleanup_free_ char *limit = budget_plan_format(&t->limit);

                json_object_set_new(j, "limit", json_string(limit));
        }
        if (t->has_fallback)
                json_object_set_new(j, "fallback", json_string(t->no_fallback ? "none" : "8443"));
        return j;
}

/* ---- reading ---- */

static void read_windows(struct json_reader *r, struct config_schedule *s)
{
        json_t *array = json_take_optional_array(r, "windows", ELEMENTS(s->windows)), *item;
        size_t i;

        json_array_foreach(array, i, item)
        {
                const char *text = json_string_value(item);

                if (!text || strlen(text) > WINDOW_MAX_BYTES ||
                        window_parse(text, &s->windows[s->window_count++], NULL) < 0) {
                        json_reader_fail(r, "windows",
                                "item %zu is no window such as 'Sun 02:00-04:00' or 'daily 02:00-04:00'", i);
                        return;
                }
        }
}

static bool is_leap(unsigned year)
{
        return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

bool config_date_parse(const char *s, unsigned *ret_year, unsigned *ret_month, unsigned *ret_day)
{
        static const unsigned lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
        unsigned year, month, day, last;

        if (strlen(s) != 10 || strspn(s, "0123456789") != 4 || s[4] != '-' ||
                strspn(s + 5, "0123456789") != 2 || s[7] != '-' || strspn(s + 8, "0123456789") != 2)
                return false;
        if (sscanf(s, "%4u-%2u-%2u", &year, &month, &day) != 3)
                return false;
        if (year < 2000 || month < 1 || month > 12 || day < 1)
                return false;
        last = lengths[month - 1] + (month == 2 && is_leap(year) ? 1 : 0);
        if (day > last)
                return false;
        *ret_year = year;
        *ret_month = month;
        *ret_day = day;
        return true;
}

static void read_hold(struct json_reader *r, struct config_schedule *s)
{
        const char *text = json_take_optional_text(r, "hold_until", 32);
        unsigned year, month, day;

        if (text && !config_date_parse(text, &year, &month, &day))
                json_reader_fail(r, "hold_until", "is not a date such as 2026-12-01");
        else if (text)
                str_copy(s->hold_until, sizeof s->hold_until, text);
}

static void read_channel(struct json_reader *r, struct config_schedule *s)
{
        const char *text = json_take_optional_text(r, "channel", sizeof s->channel - 1);

        if (text && !update_channel_is_valid(text))
                json_reader_fail(r, "channel", "is not a channel's name: a-z, 0-9 and -");
        str_copy(s->channel, sizeof s->channel, text ? text : CONFIG_DEFAULT_CHANNEL);
}

void wire_schedule_read(struct json_reader *r, struct config_schedule *ret)
{
        json_t *object = json_take_optional_object(r, "schedule"), *window;
        struct json_reader schedule, update;

        if (!object)
                return;
        json_reader_init(&schedule, object, "configuration: schedule", r->error);
        window = json_take_optional_object(&schedule, "update");
        r->result = json_reader_done(&schedule, true);
        if (r->result < 0 || !window)
                return;
        json_reader_init(&update, window, "configuration: schedule of updates", r->error);
        *ret = (struct config_schedule){.has_update = true};
        read_windows(&update, ret);
        ret->manual = json_take_optional_boolean(&update, "manual", false);
        read_hold(&update, ret);
        read_channel(&update, ret);
        ret->reboot = json_take_optional_boolean(&update, "reboot", true);
        if (ret->window_count == 0 && !ret->manual)
                json_reader_fail(&update, "windows",
                        "has no window; write \"manual\": true for updates that "
                        "are asked for only");
        r->result = json_reader_done(&update, true);
}

void wire_transfer_read(struct json_reader *r, struct config_transfer *ret)
{
        json_t *object = json_take_optional_object(r, "transfer");
        struct json_reader transfer;
        const char *limit, *fallback;

        if (!object)
                return;
        json_reader_init(&transfer, object, "configuration: transfer", r->error);
        limit = json_take_optional_text(&transfer, "limit", LIMIT_MAX_BYTES);
        fallback = json_take_optional_text(&transfer, "fallback", 16);
        if (limit && budget_plan_parse(limit, &ret->limit, NULL) < 0)
                json_reader_fail(
                        &transfer, "limit", "is no bandwidth such as '5Mbit/s; 08:00-18:00 1Mbit/s'");
        if (fallback && !str_equal(fallback, "none") && !str_equal(fallback, "8443"))
                json_reader_fail(&transfer, "fallback", "is not 8443 or none");
        ret->has_limit = limit != NULL;
        ret->has_fallback = fallback != NULL;
        ret->no_fallback = str_equal(fallback, "none");
        r->result = json_reader_done(&transfer, true);
}
