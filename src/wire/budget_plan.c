#include "wire/budget_plan.h"

#include "base/cleanup.h"
#include "base/text.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define HIGHEST_RATE (UINT64_C(1) << 40)
#define MOST_DIGITS  15

static int parse_rate(const char *s, uint64_t *ret)
{
        static const struct {
                const char *unit;
                double bytes;
        } units[] = {{"bit/s", 0.125}, {"kbit/s", 125}, {"Mbit/s", 125e3}, {"Gbit/s", 125e6}, {"B/s", 1},
                {"kB/s", 1e3}, {"MB/s", 1e6}};
        char *end;
        double number;
        size_t digits;

        if (str_equal(s, "unlimited")) {
                *ret = 0;
                return 0;
        }
        /* Digits with at most one point: strtod would take hexadecimal and exponents, too. */
        digits = strspn(s, "0123456789");
        if (digits == 0 || digits > MOST_DIGITS)
                return -EINVAL;
        if (s[digits] == '.')
                digits += 1 + strspn(s + digits + 1, "0123456789");
        number = strtod(s, &end);
        if (end != s + digits)
                return -EINVAL;
        end += strspn(end, " ");
        for (size_t i = 0; i < ELEMENTS(units); i++)
                if (str_equal(end, units[i].unit)) {
                        double rate = number * units[i].bytes;

                        if (!(rate >= 1) || rate > (double)HIGHEST_RATE)
                                return -ERANGE;
                        *ret = (uint64_t)rate;
                        return 0;
                }
        return -EINVAL;
}

/* "08:00"; 24:00 is the end of the day. */
static const char *parse_minute(const char *s, unsigned *ret)
{
        unsigned hour, minute;

        if (s[0] < '0' || s[0] > '9' || s[1] < '0' || s[1] > '9' || s[2] != ':' || s[3] < '0' || s[3] > '9' ||
                s[4] < '0' || s[4] > '9')
                return NULL;
        hour = (unsigned)(s[0] - '0') * 10 + (unsigned)(s[1] - '0');
        minute = (unsigned)(s[3] - '0') * 10 + (unsigned)(s[4] - '0');
        if (hour > 24 || minute > 59 || (hour == 24 && minute))
                return NULL;
        *ret = hour * 60 + minute;
        return s + 5;
}

static int parse_item(const char *s, struct budget_plan *plan, bool *has_otherwise)
{
        struct budget_period p;
        const char *rest = parse_minute(s, &p.from_minute);

        if (!rest) {
                if (*has_otherwise)
                        return -EEXIST;
                *has_otherwise = true;
                return parse_rate(s, &plan->otherwise);
        }
        if (*rest++ != '-' || !(rest = parse_minute(rest, &p.to_minute)) || *rest++ != ' ')
                return -EINVAL;
        if (p.from_minute == p.to_minute || p.from_minute == 24 * 60)
                return -EINVAL; /* no minute is in it */
        if (plan->count == BUDGET_MAX_PERIODS)
                return -E2BIG;
        if (parse_rate(rest + strspn(rest, " "), &p.bytes_per_second) < 0)
                return -EINVAL;
        plan->periods[plan->count++] = p;
        return 0;
}

int budget_plan_parse(const char *s, struct budget_plan *ret, struct error *ret_error)
{
        struct budget_plan plan = {0};
        bool has_otherwise = false;
        struct strv items = {0};
        int r = 0;

        strv_split(&items, s, ';');
        for (size_t i = 0; r == 0 && i < items.count; i++) {
                r = parse_item(items.items[i], &plan, &has_otherwise);
                if (r < 0)
                        r = error_set(ret_error, EINVAL, "config.bad-limit",
                                "'%.60s' is no bandwidth: '5Mbit/s', '600kB/s', 'unlimited' or '08:00-18:00 "
                                "1Mbit/s' is needed, at most one without hours and %d with",
                                items.items[i], BUDGET_MAX_PERIODS);
        }
        if (r == 0 && items.count == 0)
                r = error_set(ret_error, EINVAL, "config.bad-limit", "the bandwidth is empty");
        strv_done(&items);
        if (r == 0)
                *ret = plan;
        return r;
}

static void add_rate(struct text *t, uint64_t rate)
{
        if (rate == 0)
                text_add(t, "unlimited");
        else if (rate % 125000 == 0)
                text_addf(t, "%lluMbit/s", (unsigned long long)(rate / 125000));
        else if (rate % 125 == 0)
                text_addf(t, "%llukbit/s", (unsigned long long)(rate / 125));
        else
                text_addf(t, "%lluB/s", (unsigned long long)rate);
}

char *budget_plan_format(const struct budget_plan *p)
{
        struct text t = {0};

        add_rate(&t, p->otherwise);
        for (size_t i = 0; i < p->count; i++) {
                const struct budget_period *q = &p->periods[i];

                text_addf(&t, "; %02u:%02u-%02u:%02u ", q->from_minute / 60, q->from_minute % 60,
                        q->to_minute / 60, q->to_minute % 60);
                add_rate(&t, q->bytes_per_second);
        }
        return text_take(&t);
}

uint64_t budget_plan_rate(const struct budget_plan *p, unsigned minute_of_day)
{
        for (size_t i = 0; i < p->count; i++) {
                const struct budget_period *q = &p->periods[i];
                bool is_over_midnight = q->to_minute < q->from_minute;
                bool is_after = minute_of_day >= q->from_minute, is_before = minute_of_day < q->to_minute;

                if (is_over_midnight ? is_after || is_before : is_after && is_before)
                        return q->bytes_per_second;
        }
        return p->otherwise;
}
