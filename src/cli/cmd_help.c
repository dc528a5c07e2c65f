#include "cli/session.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <stdlib.h>

int cmd_help(struct session *s)
{
        const struct command *c;
        const char *near;
        _cleanup_free_ char *name = NULL;

        if (s->argument_count == 0) {
                command_write_overview(stdout);
                return EXIT_SUCCESS;
        }
        name = s->argument_count > 1 ? xasprintf("%s %s", s->arguments[0], s->arguments[1])
                                     : xstrdup(s->arguments[0]);
        c = command_find(name);
        if (c) {
                command_write_help(c, stdout);
                return EXIT_SUCCESS;
        }
        near = command_suggest(name);
        if (near)
                return session_usage_error(s, "unknown command '%s'; did you mean '%s'?", name, near);
        return session_usage_error(s, "unknown command '%s'", name);
}
