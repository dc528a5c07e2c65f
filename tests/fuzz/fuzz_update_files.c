/* The files of an update: what is read is written, and read again the same. */
#include "fuzz.h"

#include "base/json.h"
#include "update/judge.h"
#include "update/refused.h"
#include "wire/update.h"

#include <stdlib.h>
#include <string.h>

static void try_state(const char *data, size_t size)
{
        struct update_state state = {0}, again = {0};
        json_t *first, *second;
        char *text;

        if (update_state_parse(data, size, &state, NULL) < 0)
                return;
        first = update_state_to_json(&state);
        text = json_to_text(first);
        /* With its log's escapes it may be longer than it was, and too long. */
        if (update_state_parse(text, strlen(text), &again, NULL) == 0) {
                second = update_state_to_json(&again);
                if (!json_equal(first, second))
                        abort();
                json_decref(second);
        } else if (strlen(text) <= size)
                abort();
        update_state_done(&again);
        update_state_done(&state);
        json_decref(first);
        free(text);
}

static void try_note(const char *data, size_t size)
{
        struct judge_note note = {0}, again = {0};
        json_t *object;
        char *text;

        if (judge_note_parse(data, size, &note) < 0)
                return;
        object = judge_note_to_json(&note);
        text = json_to_text(object);
        if (judge_note_parse(text, strlen(text), &again) < 0 || memcmp(&note, &again, sizeof note) != 0)
                abort();
        json_decref(object);
        free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static struct refused refused;

        refused.count = 0;
        if (refused_parse(data, size, &refused, NULL) == 0 && refused.count > REFUSED_MAX)
                abort();
        try_note((const char *)data, size);
        try_state((const char *)data, size);
        return 0;
}
