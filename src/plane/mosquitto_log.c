#include "plane/mosquitto_log.h"

#include "base/cleanup.h"

#include <string.h>

#define TIMESTAMP_CHARACTERS "0123456789-T:"
#define CUT_BYTES            999

static const char *const packets[] = {
        "Received ", "Sending ", "\t", "No will message specified.", "Will message specified ("};

struct slice {
        const char *at, *end;
};

static bool begins(const struct slice *s, const char *prefix)
{
        size_t length = strlen(prefix);

        return (size_t)(s->end - s->at) >= length && memcmp(s->at, prefix, length) == 0;
}

/* Where `mark` is; NULL: nowhere. */
static const char *find(const struct slice *s, const char *mark)
{
        return memmem(s->at, (size_t)(s->end - s->at), mark, strlen(mark));
}

/* "2026-11-21T17:44:13: ", or nothing before mosquitto has read its configuration. */
static void skip_timestamp(struct slice *s)
{
        const char *at = s->at;

        while (at < s->end && *at && strchr(TIMESTAMP_CHARACTERS, *at))
                at++;
        if (at > s->at && at < s->end && at[-1] == ':' && *at == ' ')
                s->at = at + 1;
}

/* The last one: a topic may have the same bytes, and what comes behind it has none of a client's choice. */
static const char *find_last(const struct slice *s, const char *mark)
{
        struct slice rest = *s;
        const char *last = NULL, *found;

        while ((found = find(&rest, mark))) {
                last = found;
                rest.at = found + 1;
        }
        return last;
}

/* CLIENT (d0, q1, r0, m5, 'TOPIC', ... (12 bytes)). A client's name is its certificate's, which has no blank.
 */
static bool parse_denial(struct slice s, bool is_cut, struct mosquitto_denial *ret)
{
        struct mosquitto_denial d = {.client = s.at, .is_cut = is_cut};
        const char *found = find(&s, " (d");

        if (!found || found == s.at)
                return false;
        d.client_length = (size_t)(found - s.at);
        s.at = found;
        found = find(&s, ", '");
        if (!found)
                return false;
        s.at = d.topic = found + 3;
        found = find_last(&s, "', ... (");
        if (!found && !is_cut)
                return false;
        if (found)
                d.is_cut = false;
        d.topic_length = (size_t)((found ? found : s.end) - d.topic);
        *ret = d;
        return true;
}

enum mosquitto_line mosquitto_line_parse(const char *line, size_t length, struct mosquitto_denial *ret)
{
        static const char denied[] = "Denied PUBLISH from ";
        struct slice s = {line, line + length};

        skip_timestamp(&s);
        if (begins(&s, denied)) {
                s.at += sizeof denied - 1;
                return parse_denial(s, length >= CUT_BYTES, ret) ? MOSQUITTO_DENIED : MOSQUITTO_OTHER;
        }
        for (size_t i = 0; i < ELEMENTS(packets); i++)
                if (begins(&s, packets[i]))
                        return MOSQUITTO_PACKET;
        return MOSQUITTO_OTHER;
}
