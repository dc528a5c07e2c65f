/* gridnode events: what this node recorded. */
#include "cli/commands_gridnode.h"
#include "cli/daemon_ask.h"
#include "cli/event_line.h"

#include "base/text.h"

#define COUNT_DEFAULT 50
#define COUNT_MAX     1000

struct listing {
        const struct session *session;
        size_t count;
};

static int on_line(const char *member, json_t *value, void *userdata)
{
        struct listing *l = userdata;

        if (!str_equal(member, "event"))
                return 0;
        l->count++;
        if (l->session->settings.json) {
                json_dumpf(value, stdout, JSON_COMPACT);
                putchar('\n');
        } else
                event_line_write(value, false);
        fflush(stdout);
        return 0;
}

int cmd_events(struct session *s)
{
        struct listing l = {.session = s};
        unsigned long count = COUNT_DEFAULT;
        int status;

        if (s->settings.count && str_to_ulong(s->settings.count, 1, COUNT_MAX, &count) < 0)
                return session_usage_error(
                        s, "--count takes a number from 1 to %d, not '%s'", COUNT_MAX, s->settings.count);
        status = daemon_ask(s,
                json_pack("{s:s,s:I,s:b}", "op", "events", "count", (json_int_t)count, "follow",
                        s->settings.follow),
                on_line, &l);
        if (status == 0 && l.count == 0 && !s->settings.json)
                puts("No events: nothing has happened that is worth telling.");
        return status;
}
