/* Whole files: bounded reading, and saving that survives a crash. */
#pragma once

#include "base/error.h"

#include <stddef.h>
#include <sys/types.h>

/* Reads a regular file of at most `maximum_bytes`; *ret is NUL-terminated and the caller's. 0 or -errno
 * (-EFBIG when larger, -EISDIR, …) with the path and the reason in `ret_error`. */
int file_read(
        const char *path, size_t maximum_bytes, char **ret, size_t *ret_length, struct error *ret_error);
/* Saves by temporary file in the same folder, fsync, rename, fsync of the folder. */
int file_save(const char *path, const void *data, size_t length, mode_t mode, struct error *ret_error);
/* A path written inside `file`: relative ones count from the folder of `file`. Caller frees. */
char *file_beside(const char *file, const char *path);
