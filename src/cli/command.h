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
        const char *name;              /* one word, or two: "node create" */
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

#define COMMANDS_MAX 64 /* of a program */

/* A row's options, help among them. */
#define ROWS(...)                              \
        .options = {__VA_ARGS__, OPTION_HELP}, \
        .option_count = sizeof((enum option_name[]){__VA_ARGS__, OPTION_HELP}) / sizeof(enum option_name)

const struct command *command_find(const char *name); /* NULL: no such command */
/* Whether commands of two words begin with this one ("node" of "node create"). */
bool command_is_group(const char *word);
/* The nearest name for a misspelt one, or NULL when nothing is near. */
const char *command_suggest(const char *name);

void command_write_help(const struct command *c, FILE *to);
void command_write_overview(FILE *to);                /* gridnode --help */
void command_write_group(const char *word, FILE *to); /* gridplane node --help */

/* One paragraph for each exit status: for help and man pages. NULL-terminated pairs. */
struct exit_meaning {
        int status;
        const char *meaning;
};
extern const struct exit_meaning exit_meanings[]; /* ends with a NULL meaning */

int cmd_help(struct session *s);
