/* The language between apt and a method (apt's doc/method.dbk, "APT Method Itfc"): messages of a status line,
 * fields, and an empty line. Pure: bytes in, messages out. */
#pragma once

#include "base/error.h"
#include "base/text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define APT_MESSAGE_MAXIMUM ((size_t)2 << 20) /* 601 carries apt's whole configuration */
#define APT_MAX_FIELDS      65536

struct apt_field {
        const char *name, *value;
};
struct apt_message {
        int number; /* 600, 601 */
        struct apt_field *fields;
        size_t count;
        char *text; /* that the fields point into */
};
void apt_message_done(struct apt_message *m);
const char *apt_message_field(const struct apt_message *m, const char *name); /* any case; NULL: not there */

/* Takes the next whole message out of `buffer`: 1 and *ret, 0 when there is none yet (lines that are empty
 * before one are passed over), -EBADMSG for what is no message, -EFBIG for one without an end. */
int apt_message_take(struct text *buffer, struct apt_message *ret, struct error *ret_error);

/* 600 URI Acquire. Texts are borrowed from the message. */
struct apt_acquire {
        const char *uri;             /* as it was written, to be said in answers */
        const char *filename;        /* where it goes; absolute */
        const char *sha256;          /* expected; NULL: not told */
        uint64_t size;               /* expected; 0: not told */
        uint64_t maximum_bytes;      /* 0: not told */
        int64_t modified_since_unix; /* 0: not told */
        bool is_index;
};
int apt_acquire_read(const struct apt_message *m, struct apt_acquire *ret, struct error *ret_error);
/* "gridnode://HOST[:PORT]/PATH" into its parts; the path stays encoded as it came. Another scheme, user
 * names, fragments and what no path may hold: -EINVAL. */
struct apt_uri {
        char host[254];
        uint16_t port; /* 0: not told */
        char *path;    /* the caller's */
};
int apt_uri_parse(const char *uri, struct apt_uri *ret, struct error *ret_error);

/* 601 Configuration: the value of an item ("Acquire::gridnode::Deadline"), decoded, the last one that was
 * given; the caller's. NULL: not there. */
char *apt_configuration_value(const struct apt_message *m, const char *name);

/* Writes a message: "NUMBER WORDS", then pairs of name and value (NULL or "": left out), then NULL. Values
 * are made one line. */
void apt_message_write(struct text *to, const char *status, ...) __attribute__((sentinel));
