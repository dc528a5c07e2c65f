#include "plane/store_internal.h"

#include "base/text.h"

#include <errno.h>
#include <string.h>

int store_revoke(struct plane_store *s, const char *node, const char *key, int64_t now, struct error *e)
{
        return db_run(s->db, e,
                "UPDATE certificates SET revoked = ?1 WHERE node = ?2 AND revoked IS NULL"
                " AND (?3 IS NULL OR key <> ?3)",
                "iss", now, node, key);
}

static int add(struct plane_store *s, const char *organisation, const char *node, const char *serial,
        const char *key, int64_t not_after, const char *pem, int64_t now, struct error *e)
{
        struct actor self = {.role = ROLE_VIEWER};
        int r = db_run(s->db, e,
                "INSERT INTO certificates (serial, organisation, node, key, issued, not_after, pem)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                "ssssiis", serial, organisation, node, key, now, not_after, pem);

        if (r == -EEXIST)
                return error_set(e, EEXIST, "certificate.exists",
                        "there is a certificate with the serial number %s already", serial);
        if (r < 0)
                return r;
        str_copy(self.name, sizeof self.name, "node:");
        str_copy(self.name + strlen("node:"), sizeof self.name - strlen("node:"), node);
        str_copy(self.organisation, sizeof self.organisation, organisation);
        return plane_audit(s, &self, organisation, "certificate.issue", node,
                json_pack("{s:s}", "serial", serial), now, e);
}

int plane_certificate_add(struct plane_store *s, const char *node, const char *serial,
        const char *public_key_sha256, int64_t not_after, const char *pem, int64_t now, struct error *e)
{
        char organisation[65];
        int r = store_live_node(s, node, organisation, e);

        if (r == 0)
                r = db_begin(s->db, e);
        if (r < 0)
                return r;
        return store_end(s, add(s, organisation, node, serial, public_key_sha256, not_after, pem, now, e), e);
}

static int on_pem(sqlite3_stmt *row, void *userdata)
{
        *(char **)userdata = db_copy_text(row, 0);
        return 1;
}

int plane_certificate_find(struct plane_store *s, const char *node, const char *public_key_sha256,
        char **ret_pem, struct error *e)
{
        int r = db_query(s->db, e, on_pem, ret_pem,
                "SELECT pem FROM certificates WHERE node = ? AND key = ? AND revoked IS NULL"
                " ORDER BY issued DESC, not_after DESC LIMIT 1",
                "ss", node, public_key_sha256);

        if (r != 0)
                return r < 0 ? r : 0;
        return error_set(e, ENOENT, "certificate.unknown", "the node has no certificate of this key");
}

static int on_revoked(sqlite3_stmt *row, void *userdata)
{
        *(bool *)userdata = !db_is_null(row, 0);
        return 1;
}

int plane_certificate_check(struct plane_store *s, const char *node, const char *serial, struct error *e)
{
        char organisation[65];
        bool revoked = false;
        int r = store_live_node(s, node, organisation, e);

        if (r == -ENOENT)
                return error_set(e, EACCES, "node.unknown",
                        "the certificate's node is not known here, or it was removed");
        if (r == 0)
                r = db_query(s->db, e, on_revoked, &revoked,
                        "SELECT revoked FROM certificates WHERE serial = ? AND node = ?", "ss", serial, node);
        if (r < 0)
                return r;
        if (r == 0)
                return error_set(e, EACCES, "certificate.unknown",
                        "the certificate was not issued to this node by this control plane");
        if (revoked)
                return error_set(e, EACCES, "certificate.revoked", "the certificate is revoked");
        return 0;
}

static int on_serial(sqlite3_stmt *row, void *userdata)
{
        strv_add(userdata, db_text(row, 0));
        return 0;
}

int plane_certificates_revoked(struct plane_store *s, int64_t now, struct strv *ret, struct error *e)
{
        struct strv serials = {0};
        int r = db_query(s->db, e, on_serial, &serials,
                "SELECT serial FROM certificates WHERE revoked IS NOT NULL AND not_after > ?", "i", now);

        if (r < 0)
                strv_done(&serials);
        else
                *ret = serials;
        return r;
}
