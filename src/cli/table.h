/* Lists of records for people: a title and a column each, as wide as what is in it. */
#pragma once

#include <jansson.h>
#include <stdio.h>

struct table_column {
        const char *title;
        const char *member;                 /* of each item; "a.b" for one within */
        const char *true_word, *false_word; /* of booleans; NULL: yes, no */
};

/* `items` is an array of objects. Strings may come from outside: what cannot be shown is escaped. Nothing is
 * written for an empty list but `empty`. */
void table_write(
        const json_t *items, const struct table_column *columns, size_t count, const char *empty, FILE *to);
