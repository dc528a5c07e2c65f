/* The head of a Release file (apt-secure(8), Debian's RepositoryFormat): a pure parser. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct release_text {
        char origin[64], label[64], codename[64]; /* "": not told */
};
/* Takes an InRelease file with its signature's armour as well. */
void release_text_parse(const char *data, size_t length, struct release_text *ret);
/* Whether it is what Debian's security team publishes. */
bool release_is_security(const struct release_text *r);
