#include "apt/method_internal.h"

#include "apt/answer.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

/* apt asks for what failed again, three times as a rule: while nothing changed, that is to be short. */
#define AGAIN_MS 5000.0

struct item *method_item_free(struct item *i)
{
        struct item **at = &i->method->items;

        while (*at != i)
                at = &(*at)->next;
        *at = i->next;
        i->method->item_count--;
        transfer_cancel(i->transfer);
        free(i->uri);
        free(i->filename);
        free(i);
        return NULL;
}

/* The last word about it. */
static void end_item(struct item *i, struct text *answer)
{
        struct method *m = i->method;

        method_say(m, answer);
        method_item_free(i);
        method_post_soon(m);
        method_made_room(m);
}

static void refuse(struct method *m, const char *uri, const char *stage, int number, const char *message)
{
        struct transfer_failure f = {.number = number, .is_permanent = true};
        struct text t = {0};

        str_copy(f.stage, sizeof(f.stage), stage);
        answer_failure(&t, uri, &f, message);
        method_say(m, &t);
}

/* ---- what the engine tells ---- */

static void on_progress(struct transfer *t, const struct transfer_view *v, void *userdata)
{
        struct item *i = userdata;
        struct method *m = i->method;
        _cleanup_free_ char *text = NULL;

        (void)t;
        method_post_soon(m);
        if (v->state == TRANSFER_CONNECTING)
                text = xasprintf("Connecting to %s", node_transfers_service(m->transfers)->host);
        else if (v->state == TRANSFER_WAITING && v->failure.number)
                text = xasprintf("Waiting: %s", v->failure.text);
        if (text)
                method_tell_status(m, i->uri, text);
}

static void say_start(struct item *i, const struct transfer_view *v)
{
        struct text t = {0};

        if (i->is_started)
                return;
        i->is_started = true;
        answer_start(&t, i->uri, v);
        method_say(i->method, &t);
}

static void note_way(struct method *m, uint16_t way)
{
        char text[16];
        int length = snprintf(text, sizeof(text), "%u\n", way);

        if (m->way_fd < 0 || m->way == way || way == 0)
                return;
        m->way = way;
        if (ftruncate(m->way_fd, 0) < 0 || pwrite(m->way_fd, text, (size_t)length, 0) < 0)
                m->way = 0; /* again with the next file */
}

static void on_start(struct transfer *t, const struct transfer_view *v, void *userdata)
{
        struct item *i = userdata;

        (void)t;
        i->method->has_no_way = false;
        note_way(i->method, v->way);
        say_start(i, v);
}

/* apt asks with If-Modified-Since for what is newer than the file says it is. */
static void set_date(const char *path, int64_t unix_s)
{
        struct timespec times[2] = {{.tv_sec = (time_t)unix_s}, {.tv_sec = (time_t)unix_s}};

        if (unix_s > 0 && utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW) < 0)
                return; /* then it is fetched once more than was needed */
}

static void say_done(struct item *i, const struct transfer_view *v, const struct transfer_answer *a)
{
        struct text t = {0};

        set_date(i->filename, a->last_modified_unix);
        say_start(i, v);
        answer_done(&t, i->uri, i->filename, v, a->last_modified_unix);
        end_item(i, &t);
}

/* The file that was opened for what did not come is none that apt may take for an answer. */
static void say_unchanged(struct item *i)
{
        struct text t = {0};

        unlink(i->filename);
        answer_unchanged(&t, i->uri, i->filename, i->modified_since_unix);
        end_item(i, &t);
}

/* No server has answered: what stands in the way is worth a look. */
static bool is_of_way(const struct transfer_failure *f)
{
        return !f->is_permanent && !f->http_status && !str_equal(f->stage, "disk") &&
               !str_equal(f->stage, "hash");
}

static void say_failure(struct item *i, const char *cause)
{
        const struct transfer_failure *f = &i->failure;
        const char *problem = node_transfers_certificate_problem(i->method->transfers);
        bool is_refused = f->http_status == 400 || f->http_status == 401 || f->http_status == 403;
        _cleanup_free_ char *message = NULL;
        struct text t = {0};

        /* The engine may have said it already. */
        if (cause && !strstr(f->text, cause))
                message = xasprintf("%s (%s)", cause, f->text);
        else if (is_refused && problem)
                message = xasprintf("%s; %s", f->text, problem);
        answer_failure(&t, i->uri, f, message);
        end_item(i, &t);
}

static void on_done(
        struct transfer *t, const struct transfer_view *v, const struct transfer_answer *a, void *userdata)
{
        struct item *i = userdata;
        struct method *m = i->method;

        (void)t;
        i->transfer = NULL;
        i->failure = v->failure;
        if (v->state == TRANSFER_DONE)
                say_done(i, v, a);
        else if (v->state == TRANSFER_NOT_MODIFIED)
                say_unchanged(i);
        else if (is_of_way(&v->failure)) {
                m->has_no_way = true;
                cause_ask(m->cause);
                return;
        } else
                say_failure(i, NULL);
        m->has_no_way = false;
}

void method_on_cause(const char *text, void *userdata)
{
        struct method *m = userdata;

        for (struct item *i = m->items, *next; i; i = next) {
                next = i->next;
                if (!i->transfer)
                        say_failure(i, text);
        }
}

/* ---- 600 ---- */

/* Nothing but the profile's repository is ever asked. */
static bool is_allowed(const struct method *m, const struct apt_uri *u)
{
        const struct profile_service *s = node_transfers_service(m->transfers);

        return strcasecmp(u->host, s->host) == 0 && (!u->port || u->port == s->port);
}

static int start(struct item *i, const struct apt_acquire *a, const char *path, struct error *ret_error)
{
        struct method *m = i->method;
        const struct profile_service *s = node_transfers_service(m->transfers);
        struct transfer_request r = {.host = s->host,
                .port = s->port,
                .path = path,
                .mutual = true,
                .priority = m->priority,
                .path_partial = i->filename,
                .sha256 = a->sha256,
                .hash_is_callers = true,
                .size = a->size,
                .maximum_bytes = a->maximum_bytes,
                .modified_since_unix = a->modified_since_unix,
                .no_way_ms = m->has_no_way && m->deadline_ms > AGAIN_MS ? AGAIN_MS : m->deadline_ms,
                .minimum_bytes_per_second = m->minimum_bytes_per_second};
        struct transfer_handlers h = {
                .on_progress = on_progress, .on_start = on_start, .on_done = on_done, .userdata = i};

        return transfer_start(node_transfers_engine(m->transfers), &r, &h, &i->transfer, ret_error);
}

/* apt as root may do what this may not. */
static void add_remedy(struct error *e)
{
        _cleanup_free_ char *own = xstrdup(e->text);

        if (e->number == EACCES)
                error_set(e, EACCES, e->code,
                        "%s; gridnode:// is fetched as user '%s', whatever APT::Sandbox::User says: choose a "
                        "folder that may be written by it",
                        own, METHOD_USER);
}

static void add_item(struct method *m, const struct apt_acquire *a, const char *path)
{
        struct item *i = xcalloc(1, sizeof(*i));
        struct error e = {0};

        *i = (struct item){.next = m->items,
                .method = m,
                .uri = xstrdup(a->uri),
                .filename = xstrdup(a->filename),
                .modified_since_unix = a->modified_since_unix};
        m->items = i;
        m->item_count++;
        if (start(i, a, path, &e) == 0)
                return;
        add_remedy(&e);
        refuse(m, i->uri, "disk", e.number, e.text);
        method_item_free(i);
}

int method_acquire(struct method *m, const struct apt_message *message, struct error *ret_error)
{
        const char *uri = apt_message_field(message, "URI");
        _cleanup_free_ char *text = NULL;
        struct apt_acquire a;
        struct apt_uri u;
        struct error e = {0};

        if (str_is_empty(uri))
                return apt_acquire_read(message, &a, ret_error);
        if (apt_acquire_read(message, &a, &e) < 0 || apt_uri_parse(uri, &u, &e) < 0) {
                refuse(m, uri, "http", e.number, e.text);
                return 0;
        }
        if (!m->transfers)
                refuse(m, uri, "disk", m->broken.number, m->broken.text);
        else if (!is_allowed(m, &u)) {
                text = xasprintf(
                        "%s is not this node's repository, which is %s:%u by its profile: it is not asked",
                        u.host, node_transfers_service(m->transfers)->host,
                        node_transfers_service(m->transfers)->port);
                refuse(m, uri, "http", EACCES, text);
        } else
                add_item(m, &a, u.path);
        free(u.path);
        return 0;
}
