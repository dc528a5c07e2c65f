#include "plane/store_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/random.h"
#include "base/text.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/sha.h>
#include <string.h>
#include <time.h>

#define NAME_MAXIMUM   63
#define PERSON_MAXIMUM 64
/* The event loop stands still meanwhile. */
#define LOCK_PATIENCE_MS 50

/* Every table has the organisation. Where a row belongs to a node, the database itself sees to it that both
 * are of one organisation. Lists are sorted by an index that begins with it. */
static const char first_version[] =
        "CREATE TABLE organisations ("
        " id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created INTEGER NOT NULL,"
        " events INTEGER NOT NULL DEFAULT 0, reports INTEGER NOT NULL DEFAULT 0) STRICT;"

        "CREATE TABLE audit ("
        " id INTEGER PRIMARY KEY AUTOINCREMENT,"
        " organisation TEXT NOT NULL REFERENCES organisations (id), at INTEGER NOT NULL,"
        " actor TEXT NOT NULL, action TEXT NOT NULL, object TEXT NOT NULL, detail TEXT) STRICT;"
        "CREATE INDEX audit_newest ON audit (organisation);"

        "CREATE TABLE nodes ("
        " id TEXT PRIMARY KEY, organisation TEXT NOT NULL REFERENCES organisations (id),"
        " name TEXT NOT NULL, site TEXT NOT NULL, state TEXT NOT NULL,"
        " created INTEGER NOT NULL, registered INTEGER, removed INTEGER,"
        " connected INTEGER NOT NULL DEFAULT 0, connected_since INTEGER, last_seen INTEGER,"
        " status_at INTEGER, version TEXT, address TEXT, services TEXT, reason TEXT,"
        " wanted INTEGER NOT NULL DEFAULT 0, applied INTEGER, applied_state TEXT, applied_at INTEGER,"
        " applied_error TEXT, applied_warnings TEXT,"
        " events INTEGER NOT NULL DEFAULT 0, own_events INTEGER NOT NULL DEFAULT 0,"
        " UNIQUE (organisation, id)) STRICT;"
        "CREATE UNIQUE INDEX nodes_name ON nodes (organisation, name) WHERE state <> 'removed';"
        "CREATE INDEX nodes_list ON nodes (organisation, name, id);"
        "CREATE INDEX nodes_connected ON nodes (connected) WHERE connected = 1;"

        "CREATE TABLE node_causes (" /* of the services that do not work, from the last status */
        " organisation TEXT NOT NULL, cause TEXT NOT NULL, node TEXT NOT NULL,"
        " PRIMARY KEY (organisation, cause, node),"
        " FOREIGN KEY (organisation, node) REFERENCES nodes (organisation, id)) STRICT, WITHOUT ROWID;"
        "CREATE INDEX node_causes_node ON node_causes (node);"

        "CREATE TABLE enrolments ("
        " hash TEXT PRIMARY KEY, organisation TEXT NOT NULL, node TEXT NOT NULL,"
        " created INTEGER NOT NULL, expires INTEGER NOT NULL, key TEXT, used INTEGER,"
        " FOREIGN KEY (organisation, node) REFERENCES nodes (organisation, id)) STRICT;"
        "CREATE INDEX enrolments_node ON enrolments (node);"
        "CREATE INDEX enrolments_expires ON enrolments (expires);"

        "CREATE TABLE certificates ("
        " serial TEXT PRIMARY KEY, organisation TEXT NOT NULL, node TEXT NOT NULL, key TEXT NOT NULL,"
        " issued INTEGER NOT NULL, not_after INTEGER NOT NULL, revoked INTEGER, pem TEXT NOT NULL,"
        " FOREIGN KEY (organisation, node) REFERENCES nodes (organisation, id)) STRICT;"
        "CREATE INDEX certificates_node ON certificates (node, issued, not_after);"
        "CREATE INDEX certificates_revoked ON certificates (not_after) WHERE revoked IS NOT NULL;"

        "CREATE TABLE configurations ("
        " organisation TEXT NOT NULL, node TEXT NOT NULL, version INTEGER NOT NULL,"
        " document TEXT NOT NULL, actor TEXT NOT NULL, created INTEGER NOT NULL,"
        " PRIMARY KEY (node, version),"
        " FOREIGN KEY (organisation, node) REFERENCES nodes (organisation, id)) STRICT, WITHOUT ROWID;"

        "CREATE TABLE events ("
        " id INTEGER PRIMARY KEY AUTOINCREMENT, organisation TEXT NOT NULL, node TEXT NOT NULL,"
        " epoch TEXT NOT NULL, seq INTEGER NOT NULL, generated INTEGER NOT NULL,"
        " received INTEGER NOT NULL, name TEXT NOT NULL, severity INTEGER NOT NULL,"
        " message TEXT NOT NULL, service TEXT, cause TEXT, diagnosis TEXT, report INTEGER,"
        " UNIQUE (node, epoch, seq),"
        " FOREIGN KEY (organisation, node) REFERENCES nodes (organisation, id)) STRICT;"
        /* The row's id follows the columns of every index by itself. */
        "CREATE INDEX events_arrived ON events (organisation);"
        "CREATE INDEX events_newest ON events (organisation, generated);"
        "CREATE INDEX events_node ON events (organisation, node, generated);"
        "CREATE INDEX events_name ON events (organisation, name, generated);"
        "CREATE INDEX events_bad ON events (organisation, generated) WHERE severity >= 1;"
        "CREATE TABLE event_causes ("
        " organisation TEXT NOT NULL, cause TEXT NOT NULL, generated INTEGER NOT NULL,"
        " event INTEGER NOT NULL REFERENCES events (id) ON DELETE CASCADE,"
        " PRIMARY KEY (organisation, cause, generated, event)) STRICT, WITHOUT ROWID;"
        "CREATE INDEX event_causes_event ON event_causes (event);"
        "CREATE TRIGGER event_added AFTER INSERT ON events BEGIN"
        " UPDATE nodes SET events = events + 1 WHERE id = NEW.node;"
        " UPDATE organisations SET events = events + 1 WHERE id = NEW.organisation; END;"
        "CREATE TRIGGER event_gone AFTER DELETE ON events BEGIN"
        " UPDATE nodes SET events = events - 1 WHERE id = OLD.node;"
        " UPDATE organisations SET events = events - 1 WHERE id = OLD.organisation; END;"

        "CREATE TABLE failures (" /* services whose last event was a failure with a diagnosis */
        " organisation TEXT NOT NULL, node TEXT NOT NULL, service TEXT NOT NULL,"
        " since INTEGER NOT NULL, diagnosis TEXT NOT NULL, PRIMARY KEY (node, service),"
        " FOREIGN KEY (organisation, node) REFERENCES nodes (organisation, id)) STRICT, WITHOUT ROWID;"

        "CREATE TABLE reports ("
        " id INTEGER PRIMARY KEY AUTOINCREMENT, organisation TEXT NOT NULL, node TEXT NOT NULL,"
        " epoch TEXT NOT NULL, seq INTEGER NOT NULL, generated INTEGER NOT NULL,"
        " received INTEGER NOT NULL, trigger TEXT NOT NULL, verdict TEXT, summary TEXT,"
        " document TEXT NOT NULL, UNIQUE (node, epoch, seq),"
        " FOREIGN KEY (organisation, node) REFERENCES nodes (organisation, id)) STRICT;"
        "CREATE INDEX reports_arrived ON reports (organisation);"
        "CREATE INDEX reports_newest ON reports (organisation, generated);"
        "CREATE INDEX reports_node ON reports (organisation, node, generated);"
        "CREATE TRIGGER report_added AFTER INSERT ON reports BEGIN"
        " UPDATE organisations SET reports = reports + 1 WHERE id = NEW.organisation; END;"
        "CREATE TRIGGER report_gone AFTER DELETE ON reports BEGIN"
        " UPDATE organisations SET reports = reports - 1 WHERE id = OLD.organisation; END;"

        "CREATE TABLE users ("
        " id TEXT PRIMARY KEY, organisation TEXT NOT NULL REFERENCES organisations (id),"
        " name TEXT NOT NULL, role INTEGER NOT NULL, password TEXT NOT NULL, created INTEGER NOT NULL,"
        " failures INTEGER NOT NULL DEFAULT 0, blocked_until INTEGER NOT NULL DEFAULT 0,"
        " UNIQUE (organisation, name), UNIQUE (organisation, id)) STRICT;"
        "CREATE TABLE sessions ("
        " hash TEXT PRIMARY KEY, organisation TEXT NOT NULL, user TEXT NOT NULL,"
        " created INTEGER NOT NULL, used INTEGER NOT NULL,"
        " FOREIGN KEY (organisation, user) REFERENCES users (organisation, id) ON DELETE CASCADE) STRICT;"
        "CREATE INDEX sessions_user ON sessions (organisation, user, created);"
        "CREATE INDEX sessions_used ON sessions (used);"
        "CREATE TABLE tokens ("
        " id TEXT PRIMARY KEY, organisation TEXT NOT NULL REFERENCES organisations (id),"
        " name TEXT NOT NULL, role INTEGER NOT NULL, hash TEXT NOT NULL UNIQUE,"
        " created INTEGER NOT NULL, expires INTEGER, used INTEGER, UNIQUE (organisation, name)) STRICT;"

        "CREATE TABLE incidents ("
        " organisation TEXT NOT NULL REFERENCES organisations (id), id TEXT NOT NULL,"
        " since INTEGER NOT NULL, saved INTEGER NOT NULL, open INTEGER NOT NULL,"
        " document TEXT NOT NULL, PRIMARY KEY (organisation, id)) STRICT, WITHOUT ROWID;"
        "CREATE INDEX incidents_newest ON incidents (organisation, since, id);"
        "CREATE INDEX incidents_open ON incidents (organisation, open, since, id);";

static const char second_version[] =
        "CREATE TABLE packages ("
        " organisation TEXT NOT NULL REFERENCES organisations (id), channel TEXT NOT NULL,"
        " name TEXT NOT NULL, architecture TEXT NOT NULL, version TEXT NOT NULL, size INTEGER NOT NULL,"
        " sha256 TEXT NOT NULL, file TEXT NOT NULL, added INTEGER NOT NULL, actor TEXT NOT NULL,"
        " seen INTEGER NOT NULL," /* in which reading of reprepro's list */
        " PRIMARY KEY (organisation, channel, name, architecture)) STRICT, WITHOUT ROWID;"
        "CREATE INDEX packages_name ON packages (organisation, name);";

static const char third_version[] =
        "CREATE TABLE node_tags ("
        " organisation TEXT NOT NULL, node TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,"
        " PRIMARY KEY (node, key),"
        " FOREIGN KEY (organisation, node) REFERENCES nodes (organisation, id)) STRICT, WITHOUT ROWID;"
        "CREATE INDEX node_tags_key ON node_tags (organisation, key, value);"

        /* Software updates of nodes: one row for each, as the newest event about it tells. */
        "CREATE TABLE node_update ("
        " organisation TEXT NOT NULL, node TEXT NOT NULL, id TEXT NOT NULL, event INTEGER NOT NULL,"
        " action TEXT NOT NULL, actor TEXT NOT NULL, status TEXT NOT NULL, version_from TEXT NOT NULL,"
        " version_to TEXT NOT NULL, started INTEGER NOT NULL, ended INTEGER NOT NULL,"
        " generated INTEGER NOT NULL, received INTEGER NOT NULL, text TEXT NOT NULL,"
        " packages INTEGER NOT NULL, document TEXT NOT NULL, PRIMARY KEY (node, id),"
        " FOREIGN KEY (organisation, node) REFERENCES nodes (organisation, id)) STRICT;"
        "CREATE INDEX node_update_newest ON node_update (organisation, started);"
        "CREATE INDEX node_update_node ON node_update (node, started);"
        "CREATE INDEX node_update_actor ON node_update (actor, node, event);"
        "CREATE INDEX node_update_received ON node_update (received);"

        /* Upgrades of many nodes. `watched`: something is still to come of it. */
        "CREATE TABLE upgrades ("
        " organisation TEXT NOT NULL REFERENCES organisations (id), id TEXT NOT NULL PRIMARY KEY,"
        " name TEXT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '', plan TEXT NOT NULL,"
        " version TEXT NOT NULL DEFAULT '', wave INTEGER NOT NULL DEFAULT 0,"
        " watched INTEGER NOT NULL DEFAULT 0,"
        " created INTEGER NOT NULL, actor TEXT NOT NULL, started INTEGER, ended INTEGER,"
        " UNIQUE (organisation, id)) STRICT;"
        "CREATE UNIQUE INDEX upgrades_active ON upgrades (organisation)"
        " WHERE state IN ('running', 'paused');"
        "CREATE INDEX upgrades_newest ON upgrades (organisation, created, id);"
        "CREATE INDEX upgrades_watched ON upgrades (watched) WHERE watched = 1;"
        "CREATE TABLE upgrade_nodes ("
        " organisation TEXT NOT NULL, upgrade TEXT NOT NULL, node TEXT NOT NULL, wave INTEGER NOT NULL,"
        " place INTEGER NOT NULL," /* in the order in which nodes are asked */
        " state TEXT NOT NULL, reason TEXT NOT NULL, since INTEGER NOT NULL,"
        " ready INTEGER NOT NULL, asked INTEGER NOT NULL, tries INTEGER NOT NULL,"
        " after_event INTEGER NOT NULL, job TEXT NOT NULL,"
        " PRIMARY KEY (upgrade, node),"
        " FOREIGN KEY (organisation, upgrade) REFERENCES upgrades (organisation, id) ON DELETE CASCADE,"
        " FOREIGN KEY (organisation, node) REFERENCES nodes (organisation, id)) STRICT, WITHOUT ROWID;"
        "CREATE INDEX upgrade_nodes_place ON upgrade_nodes (upgrade, place);"
        "CREATE INDEX upgrade_nodes_state ON upgrade_nodes (upgrade, state, wave);"
        "CREATE INDEX upgrade_nodes_node ON upgrade_nodes (organisation, node);"
        "CREATE TABLE upgrade_log ("
        " id INTEGER PRIMARY KEY AUTOINCREMENT, organisation TEXT NOT NULL, upgrade TEXT NOT NULL,"
        " at INTEGER NOT NULL, actor TEXT NOT NULL, node TEXT, text TEXT NOT NULL,"
        " FOREIGN KEY (organisation, upgrade) REFERENCES upgrades (organisation, id) ON DELETE CASCADE)"
        " STRICT;"
        "CREATE INDEX upgrade_log_upgrade ON upgrade_log (organisation, upgrade);";

static const char *const migrations[] = {first_version, second_version, third_version};

/* ---- opening ---- */

DEFINE_CLEANUP(struct plane_store *, plane_store_close);

static int make_default(struct plane_store *s, struct error *e)
{
        char id[RANDOM_ID_TEXT];

        random_id("o", id);
        return db_run(s->db, e,
                "INSERT INTO organisations (id, name, created) SELECT ?, ?, ?"
                " WHERE NOT EXISTS (SELECT 1 FROM organisations)",
                "ssi", id, ORGANISATION_DEFAULT, (int64_t)time(NULL) * 1000);
}

int plane_store_open(const char *path, struct plane_store **ret, struct error *ret_error)
{
        _cleanup_(plane_store_close_p) struct plane_store *s = xcalloc(1, sizeof *s);
        int r = db_open(path, migrations, ELEMENTS(migrations), &s->db, ret_error);

        if (r == 0)
                r = make_default(s, ret_error);
        if (r < 0)
                return r;
        db_set_patience(s->db, LOCK_PATIENCE_MS);
        *ret = TAKE_PTR(s);
        return 0;
}

struct plane_store *plane_store_close(struct plane_store *s)
{
        if (!s)
                return NULL;
        db_close(s->db);
        free(s);
        return NULL;
}

struct db *plane_store_db(struct plane_store *s)
{
        return s->db;
}

/* ---- checks ---- */

void store_hash(const char *secret, char ret[STORE_HASH_TEXT])
{
        unsigned char hash[SHA256_DIGEST_LENGTH];

        SHA256((const unsigned char *)secret, strlen(secret), hash);
        hex_format(hash, sizeof hash, ret);
}

static bool is_of(const char *s, size_t maximum, bool (*has)(unsigned char c))
{
        size_t length = s ? strnlen(s, maximum + 1) : 0;

        for (size_t i = 0; i < length; i++)
                if (!has((unsigned char)s[i]))
                        return false;
        return length > 0 && length <= maximum;
}

static bool name_has(unsigned char c)
{
        return isascii(c) && (islower(c) || isdigit(c) || c == '-' || c == '.');
}

static bool person_has(unsigned char c)
{
        return isascii(c) && (isalnum(c) || (c && strchr("._@+-", c)));
}

int store_check_name(const char *what, const char *name, struct error *e)
{
        if (is_of(name, NAME_MAXIMUM, name_has) && isalnum((unsigned char)name[0]) &&
                isalnum((unsigned char)name[strlen(name) - 1]))
                return 0;
        return error_set(e, EINVAL, "name.bad",
                "the name of %s has 1 to %d of a-z, 0-9, '-' and '.', and a letter or digit at both ends",
                what, NAME_MAXIMUM);
}

int store_check_person(const char *what, const char *name, struct error *e)
{
        if (is_of(name, PERSON_MAXIMUM, person_has))
                return 0;
        return error_set(e, EINVAL, "name.bad",
                "the name of %s has 1 to %d letters and digits of ASCII and of '._@+-'", what,
                PERSON_MAXIMUM);
}

int store_check_actor(
        struct plane_store *s, const struct actor *by, const char *organisation, struct error *e)
{
        int64_t there = 0;
        int r = 0;

        if (by->organisation[0] == 0 || str_equal(by->organisation, organisation))
                r = db_query_integer(
                        s->db, e, 0, &there, "SELECT 1 FROM organisations WHERE id = ?", "s", organisation);
        if (r < 0 || there)
                return r;
        return error_set(e, ENOENT, "organisation.unknown", "there is no such organisation");
}

int store_end(struct plane_store *s, int result, struct error *e)
{
        if (result == 0)
                return db_commit(s->db, e);
        db_rollback(s->db);
        return result;
}

static int on_organisation(sqlite3_stmt *row, void *userdata)
{
        store_copy(userdata, 65, row, 0);
        return 1;
}

int store_live_node(struct plane_store *s, const char *node, char ret_organisation[65], struct error *e)
{
        int r = db_query(s->db, e, on_organisation, ret_organisation,
                "SELECT organisation FROM nodes WHERE id = ? AND state <> 'removed'", "s", node);

        if (r != 0)
                return r < 0 ? r : 0;
        return error_set(e, ENOENT, "node.unknown", "there is no such node, or it was removed");
}

/* ---- columns ---- */

void store_copy(char *ret, size_t size_bytes, sqlite3_stmt *row, int column)
{
        const char *text = db_text(row, column);

        str_copy(ret, size_bytes, text ? text : "");
}

json_t *store_text(sqlite3_stmt *row, int column)
{
        const char *text = db_text(row, column);
        json_t *value = text ? json_string(text) : NULL;

        return value ? value : json_null();
}

json_t *store_time(sqlite3_stmt *row, int column)
{
        int64_t time_ms = db_integer(row, column);
        char text[32];

        if (time_ms == 0)
                return json_null();
        time_format_utc(time_ms, text);
        return json_string(text);
}

json_t *store_json(sqlite3_stmt *row, int column)
{
        const char *text = db_text(row, column);
        json_t *value = text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;

        return value ? value : json_null();
}
