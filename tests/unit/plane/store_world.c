#include "store_world.h"

#include "base/alloc.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void must(int r, const struct error *e)
{
        if (r < 0)
                fail_msg("%d: %s", r, e->text);
}

void world_node(struct world *w, const struct actor *by, const char *name, const char *site, char ret_id[65])
{
        char token[64], key[65];
        struct plane_node n;
        struct error e = {0};
        int64_t expires;

        must(plane_node_create(w->store, by, by->organisation, name, site, NOW, ret_id, token, &expires, &e),
                &e);
        snprintf(key, sizeof key, "%064x", rand());
        must(plane_node_redeem(w->store, token, key, NOW, &n, &e), &e);
        assert_string_equal(n.id, ret_id);
}

int world_new(void **state)
{
        struct world *w = xcalloc(1, sizeof *w);
        struct error e = {0};

        strcpy(w->folder, "/tmp/gridplane-store.XXXXXX");
        assert_non_null(mkdtemp(w->folder));
        snprintf(w->path, sizeof w->path, "%s/plane.db", w->folder);
        must(plane_store_open(w->path, &w->store, &e), &e);
        w->root = (struct actor){.name = "local:root", .role = ROLE_ADMIN};
        must(plane_org_find(w->store, ORGANISATION_DEFAULT, w->ours, &e), &e);
        must(plane_org_add(w->store, &w->root, "others", NOW, w->theirs, &e), &e);
        w->us = (struct actor){.name = "alice", .role = ROLE_ADMIN};
        w->them = (struct actor){.name = "bob", .role = ROLE_ADMIN};
        strcpy(w->us.organisation, w->ours);
        strcpy(w->them.organisation, w->theirs);
        world_node(w, &w->us, "branch-1", "north", w->node);
        world_node(w, &w->them, "branch-1", "south", w->other);
        *state = w;
        return 0;
}

int world_free(void **state)
{
        static const char *const tails[] = {"", "-wal", "-shm"};
        struct world *w = *state;
        char path[128];

        plane_store_close(w->store);
        for (size_t i = 0; i < 3; i++) {
                snprintf(path, sizeof path, "%s%s", w->path, tails[i]);
                unlink(path);
        }
        rmdir(w->folder);
        free(w);
        return 0;
}

json_t *world_event(struct world *w, const char *node, int64_t seq, int64_t generated, const char *name,
        const char *cause)
{
        struct wire_event event = {.epoch = "e-1",
                .seq = seq,
                .generated_unix_ms = generated,
                .name = (char *)name,
                .message = (char *)"Repo connectivity failed",
                .severity = cause ? WIRE_ERROR : WIRE_INFO,
                .service = (char *)"repo"};
        struct error e = {0};
        json_t *value = NULL;
        bool is_new = false;

        if (cause)
                event.diagnosis =
                        json_pack("{s:s, s:[{s:s}]}", "verdict", "blocked", "causes", "code", cause);
        must(plane_event_add(w->store, node, &event, NOW, &is_new, &value, &e), &e);
        json_decref(event.diagnosis);
        assert_true(is_new);
        assert_non_null(value);
        return value;
}

const char *text_of(const json_t *value, const char *member)
{
        const char *text = json_string_value(json_object_get(value, member));

        return text ? text : "";
}

json_t *items_of(const json_t *list)
{
        json_t *items = json_object_get(list, "items");

        assert_true(json_is_array(items));
        return items;
}
