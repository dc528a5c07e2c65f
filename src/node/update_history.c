#include "node/update_history.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/paths.h"
#include "base/text.h"
#include "wire/update.h"

#include <dirent.h>
#include <stdlib.h>

#define ONE_MAX_BYTES ((size_t)256 << 10)
#define READ_MOST     1024

struct item {
        int64_t started_unix_ms;
        json_t *update;
};

static int newest_first(const void *a, const void *b)
{
        int64_t x = ((const struct item *)a)->started_unix_ms, y = ((const struct item *)b)->started_unix_ms;

        return x < y ? 1 : x > y ? -1 : 0;
}

static bool read_one(const char *folder, const char *name, struct item *ret)
{
        _cleanup_(update_state_done) struct update_state state = {0};
        _cleanup_free_ char *path = path_join(folder, name), *text = NULL;
        size_t length;

        if (file_read(path, ONE_MAX_BYTES, &text, &length, NULL) < 0 ||
                update_state_parse(text, length, &state, NULL) < 0)
                return false;
        free(state.log);
        state.log = NULL;
        *ret = (struct item){state.started_unix_ms, update_state_to_json(&state)};
        return true;
}

json_t *update_history(const char *folder, size_t maximum)
{
        _cleanup_free_ struct item *items = xcalloc(READ_MOST, sizeof *items);
        const struct dirent *entry;
        json_t *list = json_array();
        DIR *d = opendir(folder);
        size_t count = 0;

        while (d && count < READ_MOST && (entry = readdir(d)))
                if (entry->d_name[0] != '.' && str_ends_with(entry->d_name, ".json"))
                        count += read_one(folder, entry->d_name, &items[count]);
        if (d)
                closedir(d);
        qsort(items, count, sizeof *items, newest_first);
        for (size_t i = 0; i < count; i++)
                if (i < maximum)
                        json_array_append_new(list, items[i].update);
                else
                        json_decref(items[i].update);
        return list;
}
