/* Archives of the node's own package that are kept: UPDATE/kept/gridnode_VERSION_ARCH.deb. */
#pragma once

#include "update/dpkg_text.h"

/* The caller's. A colon of the version is written %3a, as in archives' names. */
char *kept_path(const char *folder, const char *version, const char *architecture);
/* The archive of that package in a folder; the caller's; NULL: none. */
char *kept_find(const char *folder, const struct dpkg_package *p);
/* The same by its version alone, of any architecture. */
char *kept_find_version(const char *folder, const char *version);
/* Copies, synced, in one step. 0 or -errno. */
int kept_put(const char *from, const char *to);
/* Whether it can be read as a whole and is of that version (dpkg-deb(1)). 0, -EBADMSG or -errno. */
int kept_verify(const char *path, const char *version);
void kept_clear(const char *folder); /* removes the files in it, not the folder */
/* Removes all but these versions. */
void kept_prune(const char *folder, const char *version, const char *other, const char *architecture);
