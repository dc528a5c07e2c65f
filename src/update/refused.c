#include "update/refused.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"

#include <errno.h>
#include <string.h>

#define FILE_MAXIMUM ((size_t)128 << 10)

static int read_version(json_t *item, struct refused_version *ret, struct error *ret_error)
{
        struct json_reader r;
        const char *version, *why;

        if (!json_is_object(item))
                return error_set(ret_error, EBADMSG, "update.bad", "refused: an item is no object");
        json_reader_init(&r, item, "refused", ret_error);
        version = json_take_text(&r, "version", sizeof ret->version - 1);
        ret->at_unix_ms = json_take_time(&r, "at");
        why = json_take_text(&r, "why", sizeof ret->why - 1);
        str_copy(ret->version, sizeof ret->version, version ? version : "");
        str_copy(ret->why, sizeof ret->why, why ? why : "");
        return json_reader_done(&r, false);
}

int refused_parse(const void *data, size_t length, struct refused *ret, struct error *ret_error)
{
        json_auto_t *object = NULL;
        struct refused refused = {0};
        struct json_reader reader;
        json_t *list;
        int r = json_parse(data, length, FILE_MAXIMUM, "refused", &object, ret_error);

        if (r < 0)
                return r;
        json_reader_init(&reader, object, "refused", ret_error);
        list = json_take_array(&reader, "versions", REFUSED_MAX);
        r = json_reader_done(&reader, false);
        for (size_t i = 0; r == 0 && i < json_array_size(list); i++)
                r = read_version(json_array_get(list, i), &refused.list[refused.count++], ret_error);
        if (r == 0)
                *ret = refused;
        return r;
}

int refused_load(const char *path, struct refused *ret, struct error *ret_error)
{
        _cleanup_free_ char *text = NULL;
        size_t length;
        int r = file_read(path, FILE_MAXIMUM, &text, &length, ret_error);

        return r < 0 ? r : refused_parse(text, length, ret, ret_error);
}

int refused_save(const char *path, const struct refused *r, struct error *ret_error)
{
        json_auto_t *object = json_object();
        _cleanup_free_ char *text = NULL;
        json_t *list = json_array();

        for (size_t i = 0; i < r->count; i++)
                json_array_append_new(list, json_pack("{s:s,s:o,s:s}", "version", r->list[i].version, "at",
                                                    json_time(r->list[i].at_unix_ms), "why", r->list[i].why));
        json_object_set_new(object, "versions", list);
        text = json_to_text(object);
        return file_save(path, text, strlen(text), 0644, ret_error);
}

void refused_remove(struct refused *r, const char *version)
{
        size_t kept = 0;

        for (size_t i = 0; i < r->count; i++)
                if (!str_equal(r->list[i].version, version))
                        r->list[kept++] = r->list[i];
        r->count = kept;
}

void refused_add(struct refused *r, const char *version, int64_t at_unix_ms, const char *why)
{
        _cleanup_free_ char *shown = NULL;
        struct refused_version *v;

        refused_remove(r, version);
        if (r->count == REFUSED_MAX)
                memmove(&r->list[0], &r->list[1], --r->count * sizeof r->list[0]);
        v = &r->list[r->count++];
        *v = (struct refused_version){.at_unix_ms = at_unix_ms};
        str_copy(v->version, sizeof v->version, version);
        shown = str_excerpt(why, strlen(why), sizeof v->why - 1);
        str_copy(v->why, sizeof v->why, shown);
}

const struct refused_version *refused_find(const struct refused *r, const char *version)
{
        for (size_t i = 0; i < r->count; i++)
                if (str_equal(r->list[i].version, version))
                        return &r->list[i];
        return NULL;
}
