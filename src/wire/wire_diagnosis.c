/* The short form of a diagnosis. Its source is a child process's output or an older program's, so nothing of
 * it is taken for granted. */
#include "wire/wire_internal.h"

#include "base/cleanup.h"

#include <string.h>

#define MAX_CAUSES      8
#define MAX_ITEMS       64
#define TEXT_MAX_BYTES  2048
#define ITEM_MAX_BYTES  256
#define TOTAL_MAX_BYTES (WIRE_EVENT_MAXIMUM / 2) /* an event carries it beside its own members */

/* Cut between characters. */
static json_t *cut(const json_t *text, size_t maximum_bytes)
{
        const char *s = json_string_value(text);
        size_t length = json_string_length(text);

        if (length > maximum_bytes) {
                length = maximum_bytes;
                while (length > 0 && ((unsigned char)s[length] & 0xc0) == 0x80)
                        length--;
        }
        return json_stringn(s, length);
}

static void copy_text(json_t *to, const json_t *from, const char *name)
{
        const json_t *text = json_object_get(from, name);

        if (json_is_string(text) && json_string_length(text) > 0)
                json_object_set_new(to, name, cut(text, TEXT_MAX_BYTES));
}

static void copy_strings(json_t *to, const json_t *from, const char *name)
{
        const json_t *array = json_object_get(from, name), *item;
        json_t *copy;
        size_t i;

        if (!json_is_array(array))
                return;
        copy = json_array();
        json_array_foreach(array, i, item)
        {
                if (json_is_string(item) && json_array_size(copy) < MAX_ITEMS)
                        json_array_append_new(copy, cut(item, ITEM_MAX_BYTES));
        }
        json_object_set_new(to, name, copy);
}

static void copy_hop(json_t *to, const json_t *from, const char *name)
{
        const json_t *hop = json_object_get(from, name);
        json_t *copy;

        if (!json_is_object(hop))
                return;
        copy = json_object();
        copy_text(copy, hop, "address");
        if (json_is_integer(json_object_get(hop, "hop")))
                json_object_set(copy, "hop", json_object_get(hop, "hop"));
        json_object_set_new(to, name, copy);
}

static json_t *short_cause(const json_t *cause)
{
        static const char *const texts[] = {
                "code", "severity", "summary", "remedy", "fixed_by", "interface", "route", "interceptor"};
        static const char *const lists[] = {"services", "targets", "candidates"};
        static const char *const hops[] = {"by", "after"};
        json_t *j = json_object();

        for (size_t i = 0; i < ELEMENTS(texts); i++)
                copy_text(j, cause, texts[i]);
        for (size_t i = 0; i < ELEMENTS(lists); i++)
                copy_strings(j, cause, lists[i]);
        for (size_t i = 0; i < ELEMENTS(hops); i++)
                copy_hop(j, cause, hops[i]);
        return j;
}

json_t *wire_diagnosis(const json_t *report)
{
        const json_t *all = json_object_get(report, "causes"), *cause;
        json_t *j, *causes;
        size_t i;

        if (!json_is_string(json_object_get(report, "verdict")) && !json_is_array(all))
                return NULL;
        j = json_object();
        causes = json_array();
        copy_text(j, report, "verdict");
        copy_text(j, report, "summary");
        json_object_set_new(j, "causes", causes);
        if (json_is_array(all))
                json_array_foreach(all, i, cause)
                {
                        if (json_is_object(cause) && json_array_size(causes) < MAX_CAUSES)
                                json_array_append_new(causes, short_cause(cause));
                }
        /* The first causes matter most; an event that is too long would not arrive at all. */
        while (json_array_size(causes) > 0 && json_dumpb(j, NULL, 0, JSON_COMPACT) > TOTAL_MAX_BYTES)
                json_array_remove(causes, json_array_size(causes) - 1);
        return j;
}
