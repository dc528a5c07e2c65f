/* Versions of the node's own package that failed on this node: they are not offered to it again. */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REFUSED_MAX 64 /* the oldest goes */
struct refused_version {
        char version[64];
        int64_t at_unix_ms;
        char why[512];
};
struct refused {
        struct refused_version list[REFUSED_MAX];
        size_t count;
};
/* -ENOENT and what does not parse: nothing is refused; an update is not held up by that. */
int refused_load(const char *path, struct refused *ret, struct error *ret_error);
int refused_parse(const void *data, size_t length, struct refused *ret, struct error *ret_error);
int refused_save(const char *path, const struct refused *r, struct error *ret_error);
void refused_add(struct refused *r, const char *version, int64_t at_unix_ms, const char *why);
void refused_remove(struct refused *r, const char *version); /* it did well at last */
const struct refused_version *refused_find(const struct refused *r, const char *version); /* NULL */
