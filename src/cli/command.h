/* The front door: one row a command. Dispatch, --help, the man pages and the completion are made from it. */
#pragma once

#include "cli/options.h"

#include <stdio.h>

struct session;

/* What must be there before a command runs. */
enum precondition {
        NEEDS_NOTHING = 0,
        NEEDS_SITE = 1 << 0,    /* the site file, with the machine's own facts where it is silent */
        NEEDS_PROFILE = 1 << 1, /* the profile, where one is named */
};

struct command {
        const char *name;
        int (*run)(struct session *s); /* gives the exit status */
        const char *help;              /* one line, no full stop */
        const char *arguments;         /* "HOST PORT"; "" for none */
        int minimum, maximum;          /* of arguments; -1: any number */
        enum completion completes;     /* its arguments */
        unsigned needs;                /* enum precondition */
        enum option_name options[OPTIONS_MAX];
        size_t option_count;
        const char *details;  /* paragraphs, separated by an empty line */
        const char *examples; /* lines: command, tab, what it does */
};

extern const struct command commands[];
extern const size_t command_count;

const struct command *command_find(const char *name); /* NULL: no such command */
/* The nearest name for a misspelt one, or NULL when nothing is near. */
const char *command_suggest(const char *name);

/* How a command is called: "gridnode tcp [OPTION]... HOST PORT". */
void command_write_synopsis(const struct command *c, FILE *to);
void command_write_help(const struct command *c, FILE *to);
void command_write_overview(FILE *to); /* gridnode --help */

/* One paragraph for each exit status: for help and man pages. NULL-terminated pairs. */
struct exit_meaning {
        int status;
        const char *meaning;
};
extern const struct exit_meaning exit_meanings[]; /* ends with a NULL meaning */

int cmd_diag(struct session *s);
int cmd_tcp(struct session *s);
int cmd_dns(struct session *s);
int cmd_tls(struct session *s);
int cmd_route(struct session *s);
int cmd_trace(struct session *s);
int cmd_explain(struct session *s);
int cmd_help(struct session *s);
