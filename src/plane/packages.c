/* The repositories of the organisations. */
#include "plane/packages_internal.h"
#include "plane/services_internal.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/folder.h"
#include "base/log.h"
#include "base/random.h"
#include "base/timer.h"

#include <errno.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/stat.h>

#define LOOK_MS           3600000 /* whether a signature is to be renewed */
#define REFRESH_S         86400
#define KEYRING_MAX_BYTES ((size_t)48 << 10) /* as base64 within what a node takes */

static struct package_org *org_of(struct packages *p, const char *id)
{
        struct package_org *o;

        for (o = p->orgs; o; o = o->next) {
                if (str_equal(o->id, id))
                        return o;
        }
        o = xcalloc(1, sizeof(*o));
        o->all = p;
        o->backoff = (struct backoff)BACKOFF_INIT(2000, 300000, 500);
        str_copy(o->id, sizeof(o->id), id);
        o->folder = xasprintf("%s/apt/%s", p->settings->paths.state, id);
        o->next = p->orgs;
        p->orgs = o;
        return o;
}

/* ---- upkeep ---- */

/* What a killed plane left: children that may still write, and uploads that nobody waits for. */
static void clear_away(const struct package_org *o)
{
        static const char *const programs[] = {"reprepro", "dpkg-deb", "gpg"};
        _cleanup_free_ char *incoming = path_join(o->folder, "incoming");

        for (size_t i = 0; i < ELEMENTS(programs); i++)
                service_sweep(programs[i], o->folder);
        package_remove_folder(incoming);
}

static bool is_due(const struct package_org *o, int64_t now_unix)
{
        struct package_keys keys;

        for (size_t i = 0; i < CHANNEL_COUNT; i++)
                if (packages_signed_unix(o->all->settings, o->id, (enum package_channel)i) <
                        now_unix - REFRESH_S)
                        return true;
        return package_keys_load(o->folder, &keys, NULL) == 0 &&
               package_keys_over(&keys, clock_unix_ms()) != NULL;
}

static void look(struct package_org *o, bool is_start)
{
        _cleanup_free_ char *busy = package_busy_file(o), *current = path_join(o->folder, "current");

        if (is_start && access(busy, F_OK) == 0) {
                clear_away(o);
                o->needs_look = true;
        }
        if (o->job_count > 0)
                return;
        if (o->needs_look || access(current, F_OK) < 0)
                package_job_queue(o, &package_plan_recover, NULL, NULL, NULL, NULL);
        else if (is_due(o, clock_unix_ms() / 1000))
                package_job_queue(o, &package_plan_refresh, NULL, NULL, NULL, NULL);
}

static int on_organisation(sqlite3_stmt *row, void *userdata)
{
        strv_add(userdata, db_text(row, 0));
        return 0;
}

static void look_at_all(struct packages *p, bool is_start)
{
        struct strv ids = {0};
        struct error e = {0};

        if (db_query(plane_store_db(p->store), &e, on_organisation, &ids, "SELECT id FROM organisations",
                    "") < 0)
                log_event(LOG_LEVEL_ERROR, "the organisations' repositories cannot be looked at", "reason",
                        e.text, NULL);
        for (size_t i = 0; i < ids.count; i++)
                look(org_of(p, ids.items[i]), is_start);
        strv_done(&ids);
}

static int on_look(sd_event_source *source, uint64_t now, void *userdata)
{
        struct packages *p = userdata;

        (void)source;
        (void)now;
        look_at_all(p, false);
        timer_arm(p->event, &p->timer, LOOK_MS, on_look, p);
        return 0;
}

void packages_prepare(struct packages *p, const char *organisation)
{
        if (*organisation)
                look(org_of(p, organisation), true);
        else
                look_at_all(p, true);
}

/* ---- life ---- */

struct packages *packages_new(
        sd_event *event, const struct plane_settings *settings, struct plane_store *store)
{
        struct packages *p = xcalloc(1, sizeof(*p));

        p->event = sd_event_ref(event);
        p->settings = settings;
        p->store = store;
        timer_arm(event, &p->timer, LOOK_MS, on_look, p);
        return p;
}

void packages_stop(struct packages *p)
{
        struct package_org *o;

        if (!p)
                return;
        p->is_stopped = true;
        for (o = p->orgs; o; o = o->next) {
                package_jobs_end(o);
        }
}

struct packages *packages_free(struct packages *p)
{
        struct package_org *o, *next;

        if (!p)
                return NULL;
        packages_stop(p);
        for (o = p->orgs; o; o = next) {
                next = o->next;
                sd_event_source_disable_unref(o->again);
                free(o->folder);
                free(o);
        }
        sd_event_source_disable_unref(p->timer);
        sd_event_source_disable_unref(p->kick);
        sd_event_unref(p->event);
        free(p);
        return NULL;
}

/* ---- questions ---- */

int packages_ask(struct packages *p, const struct package_question *q, packages_done done, void *userdata,
        struct error *ret_error)
{
        static const struct package_plan *const plans[] = {[PACKAGE_ADD] = &package_plan_add,
                [PACKAGE_REMOVE] = &package_plan_remove,
                [PACKAGE_PROMOTE] = &package_plan_promote,
                [PACKAGE_ROTATE] = &package_plan_rotate};

        struct package_org *o = org_of(p, q->organisation);
        _cleanup_free_ char *current = path_join(o->folder, "current");

        if (o->job_count == 0 && access(current, F_OK) < 0) /* it is made first */
                package_job_queue(o, &package_plan_recover, NULL, NULL, NULL, NULL);
        return package_job_queue(o, plans[q->task], q, done, userdata, ret_error);
}

int packages_incoming(struct packages *p, const char *organisation, char **ret_path, struct error *ret_error)
{
        const struct package_org *o = org_of(p, organisation);
        _cleanup_free_ char *folder = path_join(o->folder, "incoming");
        char id[RANDOM_ID_TEXT];
        int r = folder_prepare(folder, 0700, ret_error);

        if (r < 0)
                return r;
        random_id("u", id);
        *ret_path = xasprintf("%s/%s.deb", folder, id);
        return 0;
}

char *packages_keyring(struct packages *p, const char *organisation)
{
        _cleanup_free_ char *path = xasprintf("%s/current/keyring.gpg", org_of(p, organisation)->folder),
                            *data = NULL;
        char *text;
        size_t length;

        if (file_read(path, KEYRING_MAX_BYTES, &data, &length, NULL) < 0 || length == 0)
                return NULL;
        text = xmalloc((length + 2) / 3 * 4 + 1);
        EVP_EncodeBlock((unsigned char *)text, (const unsigned char *)data, (int)length);
        return text;
}

int packages_keys(struct packages *p, const char *organisation, json_t **ret, struct error *ret_error)
{
        _cleanup_free_ char *keyring = packages_keyring(p, organisation);
        struct package_keys keys;
        int r = package_keys_load(org_of(p, organisation)->folder, &keys, ret_error);

        if (r < 0)
                return r;
        if (!keyring || keys.count == 0)
                return error_set(ret_error, EAGAIN, "repository.starting",
                        "the repository is still being made; the control plane's log says what is in the "
                        "way, "
                        "if anything is");
        *ret = json_pack("{s:o, s:s}", "keys", package_keys_to_json(&keys), "keyring", keyring);
        return 0;
}

void packages_counts(const struct packages *p, struct packages_counts *ret)
{
        struct package_org *o;

        *ret = p->counts;
        for (o = p->orgs; o; o = o->next) {
                ret->waiting += o->job_count;
        }
}
