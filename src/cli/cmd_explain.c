/* gridnode explain [CODE] */
#include "cli/commands_gridnode.h"
#include "cli/session.h"
#include "cli/suggest.h"

#include "diagnose/cause_doc.h"

#include <jansson.h>
#include <stdlib.h>

static json_t *cause_to_json(const struct cause_info *c)
{
        return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "code", c->text, "title", c->title,
                "meaning", c->meaning, "proof", c->proof, "not_confused", c->not_confused, "remedy",
                c->remedy, "by_hand", c->by_hand, "fixed_by", fixed_by_to_string(c->fixed_by));
}

static int explain_all(const struct session *s)
{
        json_t *list;

        if (!s->settings.json) {
                cause_write_list(stdout);
                return EXIT_SUCCESS;
        }
        list = json_array();
        for (int i = 0; i < CAUSE_COUNT; i++)
                json_array_append_new(list, cause_to_json(cause_info((enum cause_code)i)));
        list = json_pack("{s:o}", "causes", list);
        json_dumpf(list, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(list);
        return EXIT_SUCCESS;
}

static int unknown_code(const struct session *s, const char *code)
{
        const char *names[CAUSE_COUNT];
        const char *near;

        for (int i = 0; i < CAUSE_COUNT; i++)
                names[i] = cause_info((enum cause_code)i)->text;
        near = suggest_nearest(code, names, CAUSE_COUNT);
        if (near)
                return session_usage_error(s, "unknown code '%s'; did you mean '%s'?", code, near);
        return session_usage_error(s, "unknown code '%s'; 'gridnode explain' lists all", code);
}

int cmd_explain(struct session *s)
{
        const struct cause_info *c;
        json_t *j;

        if (s->argument_count == 0)
                return explain_all(s);
        c = cause_find(s->arguments[0]);
        if (!c)
                return unknown_code(s, s->arguments[0]);
        if (!s->settings.json) {
                cause_write_text(stdout, c);
                return EXIT_SUCCESS;
        }
        j = cause_to_json(c);
        json_dumpf(j, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(j);
        return EXIT_SUCCESS;
}
