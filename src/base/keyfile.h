/* Key files as in systemd and NetworkManager. Keys are consumed by getters; what nobody took is an error
 * (unknown section or key). Comments are whole lines that begin with # or ;. Line ends may be LF or CR LF, a
 * UTF-8 byte order mark is skipped, other control bytes are errors. No line is ever continued on the next. */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

struct keyfile; /* opaque */

struct keyfile_entry {
        const char *section; /* "wan", "lan eth1" */
        const char *key;
        const char *value; /* trimmed; may be "" */
        int line;          /* 1-based */
};

/* 0 or -errno (-EBADMSG: a line that is neither section nor key; a key given twice in one section; a section
 * given twice; -EFBIG over 4 MiB). `path` names the file in errors. */
int keyfile_load(const char *path, struct keyfile **ret, struct error *ret_error);
int keyfile_parse(
        const char *name, const char *data, size_t length, struct keyfile **ret, struct error *ret_error);
struct keyfile *keyfile_free(struct keyfile *k);

const char *keyfile_path(const struct keyfile *k);
/* The entry, marked as consumed, or NULL. */
const struct keyfile_entry *keyfile_take(struct keyfile *k, const char *section, const char *key);
/* Section names in file order; index past the end gives NULL. A section without keys counts. */
const char *keyfile_section(const struct keyfile *k, size_t index, int *ret_line);
/* All entries of a section in file order, marked as consumed: for sections whose keys are names. */
const struct keyfile_entry *keyfile_take_next(struct keyfile *k, const char *section);
/* 0, or -EINVAL naming file, line, section and key of the first entry nobody took, or the first section
 * nobody asked for (even an empty one). */
int keyfile_check_leftovers(const struct keyfile *k, struct error *ret_error);
/* "FILE:LINE: [section] key = value: reason" as an error; returns -EINVAL. */
int keyfile_value_error(const struct keyfile *k, const struct keyfile_entry *e, struct error *ret_error,
        const char *format, ...) __attribute__((format(printf, 4, 5)));
/* "FILE:LINE: [section]: reason" for the section at `index`; returns -EINVAL. */
int keyfile_section_error(const struct keyfile *k, size_t index, const char *code, struct error *ret_error,
        const char *format, ...) __attribute__((format(printf, 5, 6)));
