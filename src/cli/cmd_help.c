#include "cli/session.h"

#include <stdlib.h>

int cmd_help(struct session *s)
{
        const struct command *c;
        const char *near;

        if (s->argument_count == 0) {
                command_write_overview(stdout);
                return EXIT_SUCCESS;
        }
        c = command_find(s->arguments[0]);
        if (c) {
                command_write_help(c, stdout);
                return EXIT_SUCCESS;
        }
        near = command_suggest(s->arguments[0]);
        if (near)
                return session_usage_error(
                        s, "unknown command '%s'; did you mean '%s'?", s->arguments[0], near);
        return session_usage_error(s, "unknown command '%s'", s->arguments[0]);
}
