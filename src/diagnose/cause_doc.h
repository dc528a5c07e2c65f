/* The table of causes for readers: docs/causes.md and `gridnode explain`. */
#pragma once

#include "diagnose/cause.h"

#include <stdio.h>

/* The whole table, as docs/causes.md holds it. */
void cause_write_markdown(FILE *to);
/* One cause, wrapped at 80 columns, without colour. */
void cause_write_text(FILE *to, const struct cause_info *info);
/* A line a code: code and title. */
void cause_write_list(FILE *to);
