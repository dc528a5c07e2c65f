/* What a program is made of: its commands, and what its manual says besides. Each executable links one. */
#pragma once

#include "cli/command.h"

struct program {
        const char *name;
        const char *purpose;     /* a phrase, lower case, no full stop */
        const char *description; /* of its manual page */
        const struct command *commands;
        size_t command_count;
        const char *files;    /* roff: FILES and ENVIRONMENT */
        const char *see_also; /* roff */
        /* Loads what a command's preconditions ask for: an exit status. NULL: nothing to load. */
        int (*prepare)(struct session *s);
};

extern const struct program program;
