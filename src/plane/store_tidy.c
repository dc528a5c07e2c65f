#include "plane/store_internal.h"
#include "plane/store_update.h"

#define MAX_EVENTS   INT64_C(1000000)
#define MAX_REPORTS  INT64_C(10000)
#define EVENTS_ONCE  INT64_C(300)
#define REPORTS_ONCE INT64_C(30) /* they are large */
#define ROWS_ONCE    INT64_C(300)
#define DAY_MS       INT64_C(86400000)

static int64_t smaller(int64_t a, int64_t b)
{
        return a < b ? a : b;
}

/* The oldest of the organisation that has the most go: it cannot push out what others have. */
static int tidy_events(struct plane_store *s, int64_t most, bool *ret_more, struct error *e)
{
        int64_t count;
        int r = db_query_integer(s->db, e, 0, &count, "SELECT sum(events) FROM organisations", "");

        if (r < 0 || count <= most)
                return r;
        *ret_more |= count - most > EVENTS_ONCE;
        return db_run(s->db, e,
                "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE organisation ="
                " (SELECT id FROM organisations ORDER BY events DESC LIMIT 1) ORDER BY id LIMIT ?)",
                "i", smaller(count - most, EVENTS_ONCE));
}

static int tidy_reports(struct plane_store *s, int64_t most, bool *ret_more, struct error *e)
{
        int64_t count;
        int r = db_query_integer(s->db, e, 0, &count, "SELECT sum(reports) FROM organisations", "");

        if (r < 0 || count <= most)
                return r;
        *ret_more |= count - most > REPORTS_ONCE;
        return db_run(s->db, e,
                "DELETE FROM reports WHERE id IN (SELECT id FROM reports WHERE organisation ="
                " (SELECT id FROM organisations ORDER BY reports DESC LIMIT 1) ORDER BY id LIMIT ?)",
                "i", smaller(count - most, REPORTS_ONCE));
}

/* What has ended long ago and would never be asked for again. */
static int tidy_expired(struct plane_store *s, int64_t now, struct error *e)
{
        int r = db_run(s->db, e,
                "DELETE FROM sessions WHERE hash IN"
                " (SELECT hash FROM sessions WHERE used < ? ORDER BY used LIMIT ?)",
                "ii", now - DAY_MS, ROWS_ONCE);

        if (r < 0)
                return r;
        return db_run(s->db, e,
                "DELETE FROM enrolments WHERE hash IN"
                " (SELECT hash FROM enrolments WHERE expires < ? ORDER BY expires LIMIT ?)",
                "ii", now - 30 * DAY_MS, ROWS_ONCE);
}

int store_tidy_to(struct plane_store *s, int64_t events, int64_t reports, int64_t now, struct error *e)
{
        bool more = false;
        int r = db_begin(s->db, e);

        if (r < 0)
                return r;
        r = tidy_events(s, events, &more, e);
        if (r == 0)
                r = tidy_reports(s, reports, &more, e);
        if (r == 0)
                r = tidy_expired(s, now, e);
        if (r == 0) {
                r = store_updates_tidy(s, now, ROWS_ONCE, e);
                more |= r == ROWS_ONCE;
                r = r < 0 ? r : 0;
        }
        r = store_end(s, r, e);
        return r < 0 ? r : more;
}

int plane_store_tidy(struct plane_store *s, int64_t now, struct error *e)
{
        return store_tidy_to(s, MAX_EVENTS, MAX_REPORTS, now, e);
}
