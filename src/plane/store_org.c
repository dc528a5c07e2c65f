#include "plane/store_internal.h"

#include "base/random.h"
#include "base/text.h"

#include <errno.h>

static int add(struct plane_store *s, const struct actor *by, const char *name, int64_t now, const char *id,
        struct error *e)
{
        int r = db_run(s->db, e, "INSERT INTO organisations (id, name, created) VALUES (?, ?, ?)", "ssi", id,
                name, now);

        if (r == -EEXIST)
                return error_set(
                        e, EEXIST, "organisation.exists", "there is an organisation '%s' already", name);
        if (r < 0)
                return r;
        return plane_audit(s, by, id, "organisation.create", id, json_pack("{s:s}", "name", name), now, e);
}

int plane_org_add(struct plane_store *s, const struct actor *by, const char *name, int64_t now,
        char ret_id[65], struct error *e)
{
        char id[RANDOM_ID_TEXT];
        int r = store_check_name("an organisation", name, e);

        if (r < 0)
                return r;
        if (by->organisation[0])
                return error_set(e, EPERM, "organisation.not-permitted",
                        "only the machine's own administrator makes organisations: use gridplane on the "
                        "control plane's machine");
        random_id("o", id);
        r = db_begin(s->db, e);
        if (r == 0)
                r = store_end(s, add(s, by, name, now, id, e), e);
        if (r == 0)
                str_copy(ret_id, 65, id);
        return r;
}

static int on_id(sqlite3_stmt *row, void *userdata)
{
        store_copy(userdata, 65, row, 0);
        return 1;
}

int plane_org_find(struct plane_store *s, const char *name_or_id, char ret_id[65], struct error *e)
{
        /* An id goes before a name, so that no name can stand for another's id. */
        int r = db_query(
                s->db, e, on_id, ret_id, "SELECT id FROM organisations WHERE id = ?", "s", name_or_id);

        if (r == 0)
                r = db_query(s->db, e, on_id, ret_id, "SELECT id FROM organisations WHERE name = ?", "s",
                        name_or_id);
        if (r != 0)
                return r < 0 ? r : 0;
        return error_set(e, ENOENT, "organisation.unknown", "there is no such organisation");
}

static json_t *to_json(sqlite3_stmt *row)
{
        return json_pack("{s:o, s:o, s:o}", "id", store_text(row, 0), "name", store_text(row, 1), "created",
                store_time(row, 2));
}

int plane_org_list(
        struct plane_store *s, const struct actor *by, const struct page *p, json_t **ret, struct error *e)
{
        static const char all[] = "SELECT id, name, created, name, id FROM organisations"
                                  " WHERE (name, id) > (?1, ?2) AND (?4 IS NULL OR instr(name, ?4) > 0)"
                                  " ORDER BY name, id LIMIT ?3";
        static const char own[] =
                "SELECT id, name, created, name, id FROM organisations"
                " WHERE id = ?1 AND (name, id) > (?2, ?3) AND (?4 IS NULL OR instr(name, ?4) > 0)";
        struct store_list l;
        int r = store_list_begin(&l, 'o', to_json, p, "", "", e);

        if (r < 0)
                return r;
        if (by->organisation[0])
                r = db_query(s->db, e, store_list_on_row, &l, own, "ssss", by->organisation, l.after[0],
                        l.after[1], page_filter(p)->name);
        else
                r = db_query(s->db, e, store_list_on_row, &l, all, "ssis", l.after[0], l.after[1],
                        store_list_fetch(&l), page_filter(p)->name);
        return store_list_end(&l, r, ret);
}
