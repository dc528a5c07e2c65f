/* Which keys sign: STATE/apt/ORG/keys.json. */
#include "plane/packages_internal.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/json.h"

#include <errno.h>
#include <string.h>

#define FILE_MAX_BYTES ((size_t)64 << 10)

static int read_key(json_t *value, struct package_key *ret, struct error *ret_error)
{
        struct json_reader r;
        const char *fingerprint;

        if (!json_is_object(value))
                return error_set(ret_error, EBADMSG, "repository.keys", "a key is no object");
        json_reader_init(&r, value, "a key", ret_error);
        fingerprint = json_take_text(&r, "fingerprint", 64);
        ret->created_unix_ms = json_take_time(&r, "created");
        if (!json_is_null(json_object_get(value, "retires")))
                ret->retires_unix_ms = json_take_time(&r, "retires");
        if (fingerprint && strspn(fingerprint, "0123456789ABCDEF") != strlen(fingerprint))
                json_reader_fail(&r, "fingerprint", "is none");
        str_copy(ret->fingerprint, sizeof(ret->fingerprint), fingerprint);
        return json_reader_done(&r, false);
}

int package_keys_load(const char *folder, struct package_keys *ret, struct error *ret_error)
{
        _cleanup_free_ char *path = path_join(folder, "keys.json"), *text = NULL;
        struct package_keys k = {0};
        json_auto_t *object = NULL;
        struct json_reader reader;
        json_t *list;
        size_t length;
        int r = file_read(path, FILE_MAX_BYTES, &text, &length, ret_error);

        if (r == -ENOENT) { /* none was made yet */
                *ret = k;
                return 0;
        }
        if (r == 0)
                r = json_parse(text, length, FILE_MAX_BYTES, path, &object, ret_error);
        if (r < 0)
                return r;
        json_reader_init(&reader, object, path, ret_error);
        list = json_take_array(&reader, "keys", PACKAGE_KEYS_MAXIMUM);
        r = json_reader_done(&reader, false);
        for (size_t i = 0; i < json_array_size(list) && r == 0; i++)
                r = read_key(json_array_get(list, i), &k.items[k.count++], ret_error);
        if (r == 0)
                *ret = k;
        return r;
}

json_t *package_keys_to_json(const struct package_keys *k)
{
        json_t *list = json_array();

        for (size_t i = 0; i < k->count; i++)
                json_array_append_new(
                        list, json_pack("{s:s, s:o, s:o}", "fingerprint", k->items[i].fingerprint, "created",
                                      json_time(k->items[i].created_unix_ms), "retires",
                                      k->items[i].retires_unix_ms ? json_time(k->items[i].retires_unix_ms)
                                                                  : json_null()));
        return list;
}

int package_keys_save(const char *folder, const struct package_keys *k, struct error *ret_error)
{
        _cleanup_free_ char *path = path_join(folder, "keys.json"), *text = NULL;
        json_auto_t *object = json_pack("{s:i, s:o}", "schema", 1, "keys", package_keys_to_json(k));

        text = json_dumps(object, JSON_INDENT(2));
        return file_save(path, text, strlen(text), 0600, ret_error);
}

int package_keys_add(struct package_keys *k, const char *fingerprint, int64_t overlap_ms, int64_t now_unix_ms,
        struct error *ret_error)
{
        int64_t end = now_unix_ms + overlap_ms;
        struct package_key *key;

        if (k->count == PACKAGE_KEYS_MAXIMUM)
                return error_set(ret_error, EEXIST, "repository.keys-many",
                        "there are %d keys already; wait until one of them has retired",
                        PACKAGE_KEYS_MAXIMUM);
        for (size_t i = 0; i < k->count; i++)
                if (!k->items[i].retires_unix_ms || k->items[i].retires_unix_ms > end)
                        k->items[i].retires_unix_ms = end;
        key = &k->items[k->count++];
        *key = (struct package_key){.created_unix_ms = now_unix_ms};
        str_copy(key->fingerprint, sizeof(key->fingerprint), fingerprint);
        return 0;
}

const struct package_key *package_keys_over(const struct package_keys *k, int64_t now_unix_ms)
{
        for (size_t i = 0; i + 1 < k->count; i++)
                if (k->items[i].retires_unix_ms && k->items[i].retires_unix_ms <= now_unix_ms)
                        return &k->items[i];
        return NULL;
}

void package_keys_drop(struct package_keys *k, const char *fingerprint)
{
        for (size_t i = 0; i < k->count; i++)
                if (str_equal(k->items[i].fingerprint, fingerprint)) {
                        memmove(&k->items[i], &k->items[i + 1], (k->count - i - 1) * sizeof(k->items[0]));
                        k->count--;
                        return;
                }
}
