#include "wire/topic.h"

#include "base/cleanup.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* What follows "node/ID". */
static const char *const tails[] = {
        [TOPIC_STATUS] = "/status",
        [TOPIC_EVENT] = "/event",
        [TOPIC_REPORT] = "/report",
        [TOPIC_ACK] = "/ack",
        [TOPIC_CONFIG] = "/config",
        [TOPIC_CONFIG_APPLIED] = "/config/applied",
        [TOPIC_REQUEST] = "/request",
        [TOPIC_OUT] = "/out/",
};

static bool id_has(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
}

bool wire_id_is_valid(const char *s)
{
        size_t length = s ? strnlen(s, WIRE_ID_MAXIMUM + 1) : 0;

        if (length == 0 || length > WIRE_ID_MAXIMUM || s[0] == '-' || s[length - 1] == '-')
                return false;
        for (size_t i = 0; i < length; i++)
                if (!id_has(s[i]))
                        return false;
        return true;
}

void topic_format(char ret[TOPIC_MAXIMUM], enum topic_kind kind, const char *node, const char *request)
{
        snprintf(ret, TOPIC_MAXIMUM, "node/%s%s%s", node, tails[kind], kind == TOPIC_OUT ? request : "");
}

/* The id at the beginning of `s`, up to a slash or the end; the rest, or NULL when it is no id. */
static const char *take_id(const char *s, char ret[WIRE_ID_MAXIMUM + 1])
{
        size_t length = strcspn(s, "/");

        if (length > WIRE_ID_MAXIMUM)
                return NULL;
        memcpy(ret, s, length);
        ret[length] = 0;
        return wire_id_is_valid(ret) ? s + length : NULL;
}

static bool tail_matches(enum topic_kind kind, const char *tail, char ret_request[WIRE_ID_MAXIMUM + 1])
{
        const char *rest;

        if (kind != TOPIC_OUT)
                return str_equal(tail, tails[kind]);
        if (!str_starts_with(tail, tails[kind]))
                return false;
        rest = take_id(tail + strlen(tails[kind]), ret_request);
        return rest && !*rest;
}

int topic_parse(const char *topic, enum topic_kind *ret_kind, char ret_node[WIRE_ID_MAXIMUM + 1],
        char ret_request[WIRE_ID_MAXIMUM + 1])
{
        char node[WIRE_ID_MAXIMUM + 1], request[WIRE_ID_MAXIMUM + 1] = "";
        const char *tail;

        if (!str_starts_with(topic, "node/"))
                return -EBADMSG;
        tail = take_id(topic + strlen("node/"), node);
        if (!tail)
                return -EBADMSG;
        for (size_t kind = 0; kind < ELEMENTS(tails); kind++) {
                if (!tail_matches((enum topic_kind)kind, tail, request))
                        continue;
                *ret_kind = (enum topic_kind)kind;
                memcpy(ret_node, node, sizeof node);
                memcpy(ret_request, request, sizeof request);
                return 0;
        }
        return -EBADMSG;
}
