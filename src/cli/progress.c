#include "cli/progress.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/text.h"
#include "cli/terminal.h"

#include <stdio.h>
#include <string.h>

#define BAR_MAXIMUM 30
#define BAR_MINIMUM 8
#define REST_WIDTH  58 /* what stands beside the bar */

const char *progress_bytes(uint64_t bytes, char ret[32])
{
        static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
        double number = (double)bytes;
        size_t unit = 0;

        while (number >= 999.5 && unit + 1 < ELEMENTS(units)) {
                number /= 1000;
                unit++;
        }
        snprintf(ret, 32, unit == 0 || number >= 100 ? "%.0f %s" : "%.1f %s", number, units[unit]);
        return ret;
}

const char *progress_time(double ms, char ret[32])
{
        unsigned long s = ms > 0 ? (unsigned long)(ms / 1000 + 0.5) : 0;

        if (s < 60)
                snprintf(ret, 32, "%lu s", s);
        else if (s < 3600)
                snprintf(ret, 32, "%lu min %02lu s", s / 60, s % 60);
        else
                snprintf(ret, 32, "%lu h %02lu min", s / 3600, s / 60 % 60);
        return ret;
}

static void show_json(const struct progress *p)
{
        json_t *j = json_pack("{s:s,s:s,s:I,s:I,s:I}", "name", p->name, "state", p->state, "bytes",
                (json_int_t)p->bytes, "size", (json_int_t)p->size, "bytes_per_second",
                (json_int_t)p->bytes_per_second);
        _cleanup_free_ char *text = NULL;

        json_object_set_new(
                j, "remaining_s", p->remaining_ms >= 0 ? json_real(p->remaining_ms / 1000) : json_null());
        json_object_set_new(j, "way", p->way ? json_integer(p->way) : json_null());
        json_object_set_new(j, "waits_for", p->waits_for ? json_string(p->waits_for) : json_null());
        text = json_to_text(j);
        json_decref(j);
        puts(text);
        fflush(stdout);
}

static void draw_bar(const struct progress *p, struct text *to)
{
        int room = terminal_width(stderr) - REST_WIDTH - (int)strlen(p->name);
        int width = room > BAR_MAXIMUM ? BAR_MAXIMUM : room < BAR_MINIMUM ? BAR_MINIMUM : room;
        int full = p->size ? (int)((double)p->bytes / (double)p->size * width) : 0;

        text_add(to, " [");
        for (int i = 0; i < width; i++)
                text_add(to, i < full ? "#" : i == full ? ">" : " ");
        text_addf(to, "] %3d %%", p->size ? (int)((double)p->bytes / (double)p->size * 100) : 0);
}

static void show_bar(const struct progress *p)
{
        struct text t = {0};
        char a[32], b[32];

        text_add(&t, p->name);
        if (p->waits_for) {
                text_addf(&t, " waits: %s", p->waits_for);
                if (p->next_attempt_ms >= 0)
                        text_addf(&t, " (again in %s)", progress_time(p->next_attempt_ms, a));
        } else {
                if (p->size)
                        draw_bar(p, &t);
                text_addf(&t, "  %s", progress_bytes(p->bytes, a));
                if (p->size)
                        text_addf(&t, " of %s", progress_bytes(p->size, b));
                if (p->bytes_per_second > 0)
                        text_addf(&t, "  %s/s", progress_bytes((uint64_t)p->bytes_per_second, a));
                if (p->remaining_ms >= 0)
                        text_addf(&t, "  %s left", progress_time(p->remaining_ms, a));
                if (p->way)
                        text_addf(&t, "  by %u", p->way);
        }
        terminal_progress("%s", text_string(&t));
        text_done(&t);
}

void progress_show(const struct progress *p, bool json)
{
        if (json)
                show_json(p);
        else
                show_bar(p);
}
