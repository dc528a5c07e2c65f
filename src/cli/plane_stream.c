/* Server-sent events: text/event-stream of the HTML standard. */
#include "cli/plane_client_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "cli/stop.h"

#include <string.h>
#include <sysexits.h>
#include <time.h>

#define LINE_MAX_BYTES ((size_t)1 << 20)

struct stream {
        const struct session *session;
        struct text line; /* not whole yet */
        char name[64], id[80];
        int (*on_event)(const char *name, json_t *data, void *userdata);
        void *userdata;
        int result; /* of on_event */
        /* Called once, when the control plane sends all that happens from now on: what it asks runs beside
         * the stream, in `multi`. An exit status; NULL: nothing is to be done. */
        int (*on_open)(CURLM *multi, void *userdata);
};

/* ---- lines ---- */

static void take_line(struct stream *t, const char *line)
{
        json_t *data;

        if (str_starts_with(line, "event: ")) {
                str_copy(t->name, sizeof t->name, line + strlen("event: "));
        } else if (str_starts_with(line, "data: ") && t->result == 0) {
                data = json_loads(line + strlen("data: "), JSON_REJECT_DUPLICATES, NULL);
                if (data)
                        t->result = t->on_event(t->name, data, t->userdata);
                json_decref(data);
        } else if (str_starts_with(line, "id: ")) {
                str_copy(t->id, sizeof t->id, line + strlen("id: "));
        } else if (!*line) {
                t->name[0] = 0;
        }
}

static size_t on_data(char *data, size_t size, size_t count, void *userdata)
{
        struct stream *t = userdata;
        size_t length = size * count;

        for (size_t i = 0; i < length; i++) {
                if (data[i] != '\n') {
                        char one[2] = {data[i], 0};

                        if (t->line.length < LINE_MAX_BYTES && data[i] != '\r')
                                text_add(&t->line, one);
                        continue;
                }
                take_line(t, text_string(&t->line));
                text_done(&t->line);
                t->line = (struct text){0};
        }
        return t->result == 0 ? length : 0;
}

static int on_progress(void *userdata, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
        (void)userdata;
        (void)a;
        (void)b;
        (void)c;
        (void)d;
        return stop_signal() != 0;
}

/* ---- connections ---- */

static int status_of_end(const struct stream *t, CURL *c, CURLcode code)
{
        const struct session *s = t->session;
        long http = 0;

        curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &http);
        if (t->result != 0 || code == CURLE_OK)
                return EXIT_SUCCESS;
        if (code == CURLE_HTTP_RETURNED_ERROR)
                return session_fail(s, plane_status_of_problem(http),
                        "the control plane refused the stream: status %ld", http);
        if (code == CURLE_COULDNT_CONNECT)
                return plane_fail_connect(s, code);
        if (stop_signal())
                return EXIT_SUCCESS;
        return session_fail(s, EX_UNAVAILABLE, "the stream broke off: %s", curl_easy_strerror(code));
}

static int run(struct stream *t, CURLM *multi, CURL *c, CURLcode *ret_code)
{
        struct plane_run r;
        int status = EXIT_SUCCESS;

        plane_run_begin(multi, c, &r);
        while (!r.is_done && status == EXIT_SUCCESS) {
                plane_run_some(multi);
                if (t->on_open && t->id[0]) { /* its greeting has the first id */
                        int (*on_open)(CURLM *, void *) = t->on_open;

                        t->on_open = NULL;
                        status = on_open(multi, t->userdata);
                }
        }
        curl_multi_remove_handle(multi, c);
        *ret_code = r.code;
        return status == EXIT_SUCCESS ? status_of_end(t, c, r.code) : status;
}

/* One connection of a stream. *ret_ended: the control plane ended it, in its own time. */
static int read_stream(struct stream *t, const char *path, bool *ret_ended)
{
        _cleanup_free_ char *last = t->id[0] ? xasprintf("Last-Event-ID: %s", t->id) : NULL;
        struct curl_slist *headers;
        CURL *c = plane_new_call(t->session, path, "Accept: text/event-stream", &headers);
        CURLM *multi = curl_multi_init();
        CURLcode code = CURLE_OK;
        int status;

        if (last)
                curl_slist_append(headers, last);
        curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_data);
        curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
        curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
        curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(c, CURLOPT_FAILONERROR, 1L);
        status = run(t, multi, c, &code);
        curl_multi_cleanup(multi);
        curl_slist_free_all(headers);
        curl_easy_cleanup(c);
        text_done(&t->line);
        t->line = (struct text){0};
        *ret_ended = code == CURLE_OK;
        return status;
}

static int read_all(struct stream *t, const char *path)
{
        static const struct timespec pause = {.tv_nsec = 200000000};
        bool ended, again;
        int status;

        /* Also where nothing had come yet, as of a tool that thinks for long: then it begins anew. */
        do {
                status = read_stream(t, path, &ended);
                again = status == EXIT_SUCCESS && ended && t->result == 0 && !stop_signal();
                if (again)
                        nanosleep(&pause, NULL);
        } while (again && !stop_signal());
        return status;
}

int plane_stream(const struct session *s, const char *path,
        int (*on_event)(const char *name, json_t *data, void *userdata), void *userdata, int *ret_result)
{
        struct stream t = {.session = s, .on_event = on_event, .userdata = userdata};
        int status = read_all(&t, path);

        *ret_result = t.result;
        return status;
}

/* ---- a list, and what comes after it ---- */

struct follow {
        const struct session *session;
        const char *list_path;
        const struct plane_follower *follower;
        json_t *waiting; /* [[name, data]…] of the stream, until the list is there; then NULL */
        json_t *listed;  /* ids as members: what the stream brings of them is there already */
};

static int pass_on(struct follow *f, const char *name, json_t *data)
{
        const char *id = json_string_value(json_object_get(data, "id"));

        if (id && str_equal(name, f->follower->kind) && json_object_del(f->listed, id) == 0)
                return 0;
        return f->follower->on_event(name, data, f->follower->userdata);
}

static int on_event(const char *name, json_t *data, void *userdata)
{
        struct follow *f = userdata;

        if (!f->waiting)
                return pass_on(f, name, data);
        return json_array_append_new(f->waiting, json_pack("[s, O]", name, data));
}

static int on_open(CURLM *multi, void *userdata)
{
        struct follow *f = userdata;
        json_auto_t *list = NULL, *waiting = NULL;
        json_t *item;
        size_t i;
        int status = plane_list_beside(f->session, multi, f->list_path, &list);

        if (status != EXIT_SUCCESS)
                return stop_signal() ? EXIT_SUCCESS : status;
        json_array_foreach(json_object_get(list, "items"), i, item)
        {
                const char *id = json_string_value(json_object_get(item, "id"));

                if (id)
                        json_object_set_new(f->listed, id, json_true());
        }
        f->follower->on_list(list, f->follower->userdata);
        waiting = TAKE_PTR(f->waiting);
        json_array_foreach(waiting, i, item)
        {
                pass_on(f, json_string_value(json_array_get(item, 0)), json_array_get(item, 1));
        }
        return EXIT_SUCCESS;
}

int plane_follow(const struct session *s, const char *list_path, const char *stream_path,
        const struct plane_follower *follower)
{
        struct follow f = {.session = s,
                .list_path = list_path,
                .follower = follower,
                .waiting = json_array(),
                .listed = json_object()};
        struct stream t = {.session = s, .on_event = on_event, .on_open = on_open, .userdata = &f};
        int status = read_all(&t, stream_path);

        json_decref(f.waiting);
        json_decref(f.listed);
        return status;
}
