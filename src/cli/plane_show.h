/* What several commands of gridplane write alike. */
#pragma once

#include "cli/plane_client.h"
#include "cli/table.h"

/* The list at `path` as JSON (--json) or as a table. An exit status. */
int plane_show_list(const struct session *s, const char *path, const struct table_column *columns,
        size_t count, const char *empty);
/* The same as comma-separated values (RFC 4180), whole, with `--csv`. */
int plane_show_list_or_csv(const struct session *s, const char *path, const struct table_column *columns,
        size_t count, const char *empty);
/* The items of a list as comma-separated values: each column by its member's name, texts as they came but
 * with a mark before what a spreadsheet would run. */
void plane_show_csv(const json_t *items, const struct table_column *columns, size_t count);
/* --since and --until, which take a time or "6h" for so long ago. An exit status. */
int plane_path_add_times(const struct session *s, struct plane_path *p);
/* Runs a tool at a node, its output as it comes, an interrupt passed on. `arguments` (an array) is stolen.
 * The tool's exit status, or one of our own after its message. `ret_lost` (NULL: that is a failure as others
 * are): the node went away meanwhile, of which nothing is said then. */
int plane_run_tool(const struct session *s, const char *node, const char *tool, json_t *arguments,
        int timeout_s, bool *ret_lost);
/* Writes a value as indented JSON. */
void plane_show_json(const json_t *value);
/* A secret that is given once: to --output (0600), else to standard output, alone on its line. An exit
 * status. */
int plane_show_secret(const struct session *s, const char *secret);
/* The first line of --password-file, or asked for twice on the terminal. *ret is the caller's, to be
 * overwritten. */
int plane_read_password(const struct session *s, char **ret);
