/* What the payloads' parsers and writers share. */
#pragma once

#include "base/json.h"
#include "wire/wire.h"

#define WIRE_SCHEMA 1

/* Parses one payload and checks its schema. *ret is the caller's; the reader borrows it. */
int wire_read(const void *data, size_t length, size_t maximum_bytes, const char *where, json_t **ret,
        struct json_reader *ret_reader, struct error *ret_error);
/* Each notes its failure in the reader, as base/json.h does. */
char *wire_read_text(
        struct json_reader *r, const char *name, size_t maximum_bytes); /* not ""; the caller's */
void wire_read_id(struct json_reader *r, const char *name, char ret[WIRE_ID_MAXIMUM + 1]);
/* Text of at most size - 1 bytes; "" when it is missing. */
void wire_read_short(struct json_reader *r, const char *name, char *ret, size_t size_bytes);
/* An optional array of texts; ret must be empty. */
void wire_read_strings(struct json_reader *r, const char *name, size_t maximum_items, size_t maximum_bytes,
        struct strv *ret);

json_t *wire_new(void); /* {"schema": 1} */
/* Never NULL: what is not UTF-8 is escaped. */
json_t *wire_text(const char *s);
json_t *wire_strings(const struct strv *v);
/* Nothing for NULL and "". */
void wire_set_text(json_t *object, const char *name, const char *s);

/* Parts of a configuration (wire_schedule.c). What is not said stays as it is in *ret. */
void wire_schedule_read(struct json_reader *r, struct config_schedule *ret);
void wire_transfer_read(struct json_reader *r, struct config_transfer *ret);
json_t *wire_schedule_to_json(const struct config_schedule *s);
json_t *wire_transfer_to_json(const struct config_transfer *t);
