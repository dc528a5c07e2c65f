/* What several commands of gridplane write alike. */
#pragma once

#include "cli/plane_client.h"
#include "cli/table.h"

/* The list at `path` as JSON (--json) or as a table. An exit status. */
int plane_show_list(const struct session *s, const char *path, const struct table_column *columns,
        size_t count, const char *empty);
/* Writes a value as indented JSON. */
void plane_show_json(const json_t *value);
/* A secret that is given once: to --output (0600), else to standard output, alone on its line. An exit
 * status. */
int plane_show_secret(const struct session *s, const char *secret);
/* The first line of --password-file, or asked for twice on the terminal. *ret is the caller's, to be
 * overwritten. */
int plane_read_password(const struct session *s, char **ret);
