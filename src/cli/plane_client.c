#include "cli/plane_client_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/paths.h"
#include "cli/program.h"
#include "cli/stop.h"

#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <time.h>

#define ANSWER_MAX_BYTES ((size_t)256 << 20) /* a CSV of a million events */
#define CALL_TIMEOUT_S   60L
#define WORK_TIMEOUT_S   1800L /* of what waits for programs that work at a whole repository */
#define RUN_WAIT_MS      1000

struct transfer {
        struct text body;
        char *etag;
};

void plane_answer_done(struct plane_answer *a)
{
        json_decref(a->json);
        free(a->text);
        free(a->etag);
        memset(a, 0, sizeof *a);
}

void plane_path_add(struct plane_path *p, const char *name, const char *value)
{
        char *escaped;

        if (str_is_empty(value))
                return;
        escaped = curl_easy_escape(NULL, value, 0);
        text_addf(&p->text, "%c%s=%s", p->has_query ? '&' : '?', name, escaped ? escaped : "");
        p->has_query = true;
        curl_free(escaped);
}

char *plane_path_segment(const char *path, const char *segment, const char *after)
{
        char *escaped = curl_easy_escape(NULL, segment, 0);
        char *whole = xasprintf("%s/%s%s", path, escaped ? escaped : "", after);

        curl_free(escaped);
        return whole;
}

/* ---- the transfer ---- */

static size_t on_body(char *data, size_t size, size_t count, void *userdata)
{
        struct transfer *t = userdata;
        _cleanup_free_ char *copy = xstrndup(data, size * count);

        if (t->body.length + size * count > ANSWER_MAX_BYTES)
                return 0;
        text_add(&t->body, copy);
        return size * count;
}

static size_t on_header(char *data, size_t size, size_t count, void *userdata)
{
        struct transfer *t = userdata;
        size_t length = size * count;

        if (length > 5 && strncasecmp(data, "etag:", 5) == 0) {
                size_t begin = 5, end = length;

                while (begin < end && data[begin] == ' ')
                        begin++;
                while (end > begin &&
                        (data[end - 1] == '\r' || data[end - 1] == '\n' || data[end - 1] == ' '))
                        end--;
                free(t->etag);
                t->etag = xstrndup(data + begin, end - begin);
        }
        return length;
}

static char *socket_path(const struct session *s)
{
        struct paths p;
        char *path;

        paths_init(&p, s->settings.root, "gridplane");
        path = path_join(p.run, "admin.sock");
        paths_done(&p);
        return path;
}

CURL *plane_new_call(
        const struct session *s, const char *path, const char *header, struct curl_slist **ret_headers)
{
        _cleanup_free_ char *url = xasprintf("http://localhost%s", path), *socket = socket_path(s);
        _cleanup_free_ char *organisation = NULL;
        struct curl_slist *headers = NULL;
        CURL *c = curl_easy_init();

        if (s->settings.organisation) {
                organisation = xasprintf("X-Organisation: %s", s->settings.organisation);
                headers = curl_slist_append(headers, organisation);
        }
        if (header)
                headers = curl_slist_append(headers, header);
        if (!header || !str_starts_with(header, "Content-Type:"))
                headers = curl_slist_append(headers, "Content-Type: application/json");
        headers = curl_slist_append(headers, "Expect:");
        curl_easy_setopt(c, CURLOPT_URL, url);
        curl_easy_setopt(c, CURLOPT_UNIX_SOCKET_PATH, socket);
        curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(c, CURLOPT_PROXY, "");
        *ret_headers = headers;
        return c;
}

int plane_fail_connect(const struct session *s, CURLcode code)
{
        _cleanup_free_ char *path = socket_path(s);
        bool is_refused = code == CURLE_COULDNT_CONNECT;

        if (is_refused && access(path, F_OK) == 0 && access(path, W_OK) < 0)
                return session_fail(s, EX_NOPERM, "%s: %s; run it as root or as gridplane's own user", path,
                        strerror(errno));
        if (is_refused)
                return session_fail(s, EX_UNAVAILABLE,
                        "no control plane runs here (%s does not answer): start it with 'gridplane serve'%s",
                        path, s->settings.root ? "" : ", or name its --root");
        return session_fail(s, EX_UNAVAILABLE, "%s: %s", path, curl_easy_strerror(code));
}

int plane_status_of_problem(long http)
{
        switch (http) {
        case 400:
        case 413:
        case 422:
                return EX_USAGE;
        case 401:
        case 403:
                return EX_NOPERM;
        case 503:
                return EX_UNAVAILABLE;
        default:
                return EXIT_FAILURE;
        }
}

static int fail_problem(const struct session *s, const struct plane_answer *a)
{
        const char *detail = json_string_value(json_object_get(a->json, "detail"));
        const char *title = json_string_value(json_object_get(a->json, "title"));

        return session_fail(s, plane_status_of_problem(a->status), "%s",
                detail  ? detail
                : title ? title
                        : "the control plane refused it");
}

static void fill_answer(CURL *c, struct transfer *t, struct plane_answer *ret)
{
        curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &ret->status);
        ret->etag = TAKE_PTR(t->etag);
        ret->text = text_take(&t->body);
        ret->json = json_loads(ret->text ? ret->text : "", JSON_REJECT_DUPLICATES, NULL);
}

void plane_run_begin(CURLM *multi, CURL *c, struct plane_run *r)
{
        *r = (struct plane_run){0};
        curl_easy_setopt(c, CURLOPT_PRIVATE, r);
        curl_multi_add_handle(multi, c);
}

void plane_run_some(CURLM *multi)
{
        const CURLMsg *m;
        bool is_done = false;
        int left;

        curl_multi_perform(multi, &left);
        while ((m = curl_multi_info_read(multi, &left))) {
                struct plane_run *r = NULL;

                if (m->msg != CURLMSG_DONE)
                        continue;
                curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&r);
                *r = (struct plane_run){true, m->data.result};
                is_done = true;
        }
        if (!is_done)
                curl_multi_poll(multi, NULL, 0, RUN_WAIT_MS, NULL);
}

/* To its end, or until interrupted. */
static CURLcode perform(CURLM *multi, CURL *c)
{
        struct plane_run r;

        if (!multi)
                return curl_easy_perform(c);
        plane_run_begin(multi, c, &r);
        while (!r.is_done && !stop_signal())
                plane_run_some(multi);
        curl_multi_remove_handle(multi, c);
        return r.is_done ? r.code : CURLE_ABORTED_BY_CALLBACK;
}

static void set_answer(CURL *c, struct transfer *t)
{
        curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
        curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
        curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
        curl_easy_setopt(c, CURLOPT_HEADERDATA, t);
}

/* An exit status, after its message; `c` and `headers` are freed. */
static int finish(const struct session *s, CURL *c, struct curl_slist *headers, CURLcode code,
        struct transfer *t, struct plane_answer *ret)
{
        struct plane_answer answer = {0};
        int status = EXIT_SUCCESS;

        if (code != CURLE_OK) {
                status = plane_fail_connect(s, code);
        } else {
                fill_answer(c, t, &answer);
                if (answer.status >= 400)
                        status = fail_problem(s, &answer);
        }
        curl_slist_free_all(headers);
        curl_easy_cleanup(c);
        text_done(&t->body);
        free(t->etag);
        if (status == EXIT_SUCCESS)
                *ret = answer;
        else
                plane_answer_done(&answer);
        return status;
}

static int call(const struct session *s, CURLM *multi, const char *method, const char *path,
        const char *header, json_t *body, struct plane_answer *ret)
{
        _cleanup_free_ char *text = body ? json_to_text(body) : NULL;
        struct transfer t = {0};
        struct curl_slist *headers;
        CURL *c = plane_new_call(s, path, header, &headers);

        json_decref(body);
        curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, method);
        curl_easy_setopt(c, CURLOPT_TIMEOUT,
                str_starts_with(path, "/api/v1/packages") ? WORK_TIMEOUT_S : CALL_TIMEOUT_S);
        set_answer(c, &t);
        if (text)
                curl_easy_setopt(c, CURLOPT_POSTFIELDS, text);
        return finish(s, c, headers, perform(multi, c), &t, ret);
}

int plane_send_file(const struct session *s, const char *path, const char *type, const char *file,
        struct plane_answer *ret)
{
        _cleanup_free_ char *header = xasprintf("Content-Type: %s", type);
        struct transfer t = {0};
        struct curl_slist *headers;
        FILE *from = fopen(file, "re");
        struct stat st;
        CURLcode code;
        CURL *c;

        if (!from || fstat(fileno(from), &st) < 0 || !S_ISREG(st.st_mode)) {
                int number = from ? EINVAL : errno;

                if (from)
                        fclose(from);
                return session_fail(s, EXIT_FAILURE, "cannot read %s: %s", file,
                        number == EINVAL ? "not a regular file" : strerror(number));
        }
        c = plane_new_call(s, path, header, &headers);
        curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, "POST");
        curl_easy_setopt(c, CURLOPT_READDATA, from);
        curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE, (curl_off_t)st.st_size);
        curl_easy_setopt(c, CURLOPT_TIMEOUT, WORK_TIMEOUT_S);
        set_answer(c, &t);
        code = perform(NULL, c);
        fclose(from);
        return finish(s, c, headers, code, &t, ret);
}

int plane_call_with(const struct session *s, const char *method, const char *path, const char *header,
        json_t *body, struct plane_answer *ret)
{
        return call(s, NULL, method, path, header, body, ret);
}

int plane_call(
        const struct session *s, const char *method, const char *path, json_t *body, struct plane_answer *ret)
{
        return call(s, NULL, method, path, NULL, body, ret);
}

/* ---- lists ---- */

int plane_list_beside(const struct session *s, CURLM *multi, const char *path, json_t **ret)
{
        json_t *all = json_object();
        _cleanup_free_ char *after = NULL;
        int status;

        json_object_set_new(all, "items", json_array());
        do {
                struct plane_path p = {.has_query = strchr(path, '?') != NULL};
                struct plane_answer a = {0};
                const char *next;

                text_add(&p.text, path);
                plane_path_add(&p, "limit", "500");
                plane_path_add(&p, "after", after);
                status = call(s, multi, "GET", text_string(&p.text), NULL, NULL, &a);
                text_done(&p.text);
                if (status != EXIT_SUCCESS)
                        break;
                json_array_extend(json_object_get(all, "items"), json_object_get(a.json, "items"));
                next = json_string_value(json_object_get(a.json, "next"));
                free(after);
                after = xstrdup(next);
                plane_answer_done(&a);
        } while (after);
        if (status == EXIT_SUCCESS)
                *ret = all;
        else
                json_decref(all);
        return status;
}

int plane_list(const struct session *s, const char *path, json_t **ret)
{
        return plane_list_beside(s, NULL, path, ret);
}
