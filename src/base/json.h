/* JSON from outside: bounded before it is parsed, and read member by member with errors that name the member.
 */
#pragma once

#include "base/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Parses one object (RFC 8259): at most `maximum_bytes`, valid UTF-8, no member twice, nested at most 32
 * deep, nothing after it. New reference. 0, -EFBIG or -EBADMSG with `where` and the reason in the error. */
int json_parse(const char *data, size_t length, size_t maximum_bytes, const char *where, json_t **ret,
        struct error *ret_error);

/* Reads the members of one object. The first failure is kept ("WHERE: member 'x' is not a number") and every
 * later call gives nothing, so that callers check once, at the end. */
struct json_reader {
        json_t *object;        /* borrowed */
        const char *where;     /* names the object in errors, borrowed */
        struct error *error;   /* may be NULL */
        int result;            /* 0, or -EBADMSG after the first failure */
        const char *names[32]; /* of the members that were read, borrowed; no object here has more */
        size_t taken;
};
void json_reader_init(struct json_reader *r, json_t *object, const char *where, struct error *ret_error);
/* Texts: at most `maximum_bytes`, no NUL. Required ones fail when missing; optional ones give NULL when
 * missing or null. Borrowed from the object. */
const char *json_take_text(struct json_reader *r, const char *name, size_t maximum_bytes);
const char *json_take_optional_text(struct json_reader *r, const char *name, size_t maximum_bytes);
int64_t json_take_integer(struct json_reader *r, const char *name, int64_t minimum, int64_t maximum);
int64_t json_take_optional_integer(
        struct json_reader *r, const char *name, int64_t minimum, int64_t maximum, int64_t otherwise);
/* Integers, too. */
double json_take_optional_number(
        struct json_reader *r, const char *name, double minimum, double maximum, double otherwise);
bool json_take_optional_boolean(struct json_reader *r, const char *name, bool otherwise);
/* "2026-11-21T03:00:00.000Z" as milliseconds since the epoch. */
int64_t json_take_time(struct json_reader *r, const char *name);
/* Borrowed; optional ones give NULL. Arrays have at most `maximum_items`. */
json_t *json_take_object(struct json_reader *r, const char *name);
json_t *json_take_optional_object(struct json_reader *r, const char *name);
json_t *json_take_array(struct json_reader *r, const char *name, size_t maximum_items);
json_t *json_take_optional_array(struct json_reader *r, const char *name, size_t maximum_items);
/* A failure of the caller's own about a member: "WHERE: member 'x' REASON". */
void json_reader_fail(struct json_reader *r, const char *name, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
/* 0 or the first failure. With `strict`, members that nobody read are a failure that names one of them. */
int json_reader_done(struct json_reader *r, bool strict);

/* Compact text of a value, sorted by nothing: members keep their order. The caller's. */
char *json_to_text(const json_t *value);
/* "…Z" text of a time. New reference. */
json_t *json_time(int64_t unix_ms);
