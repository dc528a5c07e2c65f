#include "api_world.h"

#include "base/alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <ftw.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

struct played played;
bool world_keeps_packages;
const struct actor world_machine = {.name = "local:root", .role = ROLE_ADMIN};

/* ---- the parts that are played ---- */

int broker_request(struct broker *b, const char *node, const struct wire_request *r)
{
        (void)b;
        if (played.broker_is_away)
                return -ENOTCONN;
        str_copy(played.node, sizeof played.node, node);
        str_copy(played.request, sizeof played.request, r->id);
        if (r->cancel)
                played.cancels++;
        else
                played.requests++;
        return 0;
}

int broker_notice(struct broker *b, const char *node, int64_t version)
{
        (void)b;
        str_copy(played.node, sizeof played.node, node);
        played.version = version;
        played.notices++;
        return 0;
}

int broker_expel(struct broker *b, const char *organisation, const char *node)
{
        (void)b;
        (void)organisation;
        str_copy(played.node, sizeof played.node, node);
        played.expelled++;
        return 0;
}

void broker_counts(const struct broker *b, struct broker_counts *ret)
{
        (void)b;
        *ret = (struct broker_counts){.events = 7,
                .connected = !played.broker_is_away,
                .connected_since_unix_ms = INT64_C(1795230000999)};
}

uint64_t services_denied(const struct services *s)
{
        (void)s;
        return 9;
}

size_t services_count(const struct services *s)
{
        (void)s;
        return 1;
}

void services_view(const struct services *s, size_t index, struct service_view *ret)
{
        (void)s;
        (void)index;
        *ret = (struct service_view){.name = "nginx",
                .state = played.service_state ? played.service_state : "running",
                .restarts = 2};
}

bool services_are_ready(const struct services *s)
{
        (void)s;
        return !played.service_state;
}

static void on_revoked(void *userdata)
{
        (void)userdata;
        played.revoked++;
}

/* ---- the world ---- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
        (void)st;
        (void)type;
        (void)at;
        return remove(path);
}

static void add_tokens(struct world *w)
{
        struct error e = {0};
        char id[65];
        int64_t now = clock_unix_ms();

        assert_int_equal(plane_org_find(w->store, ORGANISATION_DEFAULT, w->organisation, &e), 0);
        assert_int_equal(plane_org_add(w->store, &world_machine, "other", now, w->other, &e), 0);
        assert_int_equal(plane_token_add(w->store, &world_machine, w->organisation, "v", ROLE_VIEWER, 0, now,
                                 id, w->viewer, &e),
                0);
        assert_int_equal(plane_token_add(w->store, &world_machine, w->organisation, "o", ROLE_OPERATOR, 0,
                                 now, id, w->operator, & e),
                0);
        assert_int_equal(plane_token_add(w->store, &world_machine, w->organisation, "a", ROLE_ADMIN, 0, now,
                                 id, w->admin, &e),
                0);
        assert_int_equal(plane_token_add(w->store, &world_machine, w->other, "s", ROLE_ADMIN, 0, now, id,
                                 w->stranger, &e),
                0);
}

static void on_request_changed(const char *organisation, const char *request, void *userdata)
{
        struct world *w = userdata;

        api_request_changed(w->api, organisation, request);
}

static void open_parts(struct world *w)
{
        const struct plane_options o = {.root = w->folder, .domain = "grid.example"};
        _cleanup_free_ char *db = path_join(w->folder, "plane.db"), *ca = path_join(w->folder, "ca");
        struct error e = {0};

        /* The CA is as old as certificates are that have expired. */
        if (plane_settings_load(&o, &w->settings, &e) < 0 || plane_store_open(db, &w->store, &e) < 0 ||
                ca_open(ca, time(NULL) - 200 * 86400, &w->ca, &e) < 0)
                fail_msg("%s", e.text);
        w->ca = ca_free(w->ca);
        if (ca_open(ca, time(NULL), &w->ca, &e) < 0)
                fail_msg("%s", e.text);
        assert_true(passwords_new(w->event, &w->passwords) >= 0);
        w->requests = requests_new(w->event, NULL, w->store, on_request_changed, w);
        if (world_keeps_packages)
                w->packages = packages_new(w->event, &w->settings, w->store);
}

static void replace_socket(char **path, const char *folder, const char *name)
{
        free(*path);
        *path = path_join(folder, name);
}

int world_setup(void **state)
{
        struct world *w = xcalloc(1, sizeof *w);
        struct error e = {0};

        played = (struct played){0};
        str_copy(w->folder, sizeof w->folder, "/tmp/test-api-XXXXXX");
        assert_non_null(mkdtemp(w->folder));
        assert_true(sd_event_new(&w->event) >= 0);
        open_parts(w);
        replace_socket(&w->settings.api_socket, w->folder, "api.sock");
        replace_socket(&w->settings.admin_socket, w->folder, "admin.sock");
        if (api_new(&(struct api_options){.event = w->event,
                            .settings = &w->settings,
                            .store = w->store,
                            .ca = w->ca,
                            .passwords = w->passwords,
                            .requests = w->requests,
                            .packages = w->packages,
                            .on_revoked = on_revoked},
                    &w->api, &e) < 0)
                fail_msg("%s", e.text);
        add_tokens(w);
        *state = w;
        return 0;
}

int world_teardown(void **state)
{
        struct world *w = *state;

        packages_stop(w->packages);
        api_free(w->api);
        packages_free(w->packages);
        requests_free(w->requests);
        passwords_free(w->passwords);
        plane_store_close(w->store);
        ca_free(w->ca);
        plane_settings_done(&w->settings);
        sd_event_unref(w->event);
        nftw(w->folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
        free(w);
        return 0;
}

void world_run(struct world *w, int for_ms)
{
        struct timespec t;
        int64_t until_ms;

        clock_gettime(CLOCK_MONOTONIC, &t);
        until_ms = t.tv_sec * 1000 + t.tv_nsec / 1000000 + for_ms;
        do {
                sd_event_run(w->event, 5000);
                clock_gettime(CLOCK_MONOTONIC, &t);
        } while (t.tv_sec * 1000 + t.tv_nsec / 1000000 < until_ms);
}

/* ---- a client of HTTP ---- */

struct asking {
        const struct ask *ask;
        const char *socket;
        struct text headers, body;
        long status;
        CURLcode result;
        atomic_bool done;
};

static size_t on_data(char *data, size_t size, size_t count, void *userdata)
{
        _cleanup_free_ char *text = xstrndup(data, size * count);

        text_add(userdata, text);
        return size * count;
}

static void set_method(CURL *c, const struct ask *q)
{
        if (str_equal(q->method, "HEAD"))
                curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
        else
                curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, q->method);
        if (q->body) {
                curl_easy_setopt(
                        c, CURLOPT_POSTFIELDSIZE, (long)(q->body_length ? q->body_length : strlen(q->body)));
                curl_easy_setopt(c, CURLOPT_POSTFIELDS, q->body);
        }
}

static struct curl_slist *headers_of(const struct ask *q)
{
        struct curl_slist *list = NULL;
        char text[512];

        if (q->token) {
                snprintf(text, sizeof text, "Authorization: Bearer %s", q->token);
                list = curl_slist_append(list, text);
        }
        if (q->body) {
                snprintf(text, sizeof text, "Content-Type: %s", q->type ? q->type : "application/json");
                list = curl_slist_append(list, text);
        }
        for (size_t i = 0; i < ELEMENTS(q->headers) && q->headers[i]; i++)
                list = curl_slist_append(list, q->headers[i]);
        return list;
}

static void *ask_thread(void *userdata)
{
        struct asking *a = userdata;
        struct curl_slist *headers = headers_of(a->ask);
        char url[8192];
        CURL *c = curl_easy_init();

        snprintf(url, sizeof url, "http://control.grid.example%s", a->ask->path);
        curl_easy_setopt(c, CURLOPT_URL, url);
        curl_easy_setopt(c, CURLOPT_PATH_AS_IS, 1L);
        curl_easy_setopt(c, CURLOPT_PROXY, "");
        curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, 20000L);
        curl_easy_setopt(c, CURLOPT_UNIX_SOCKET_PATH, a->socket);
        curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_data);
        curl_easy_setopt(c, CURLOPT_WRITEDATA, &a->body);
        curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_data);
        curl_easy_setopt(c, CURLOPT_HEADERDATA, &a->headers);
        set_method(c, a->ask);
        a->result = curl_easy_perform(c);
        curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &a->status);
        curl_slist_free_all(headers);
        curl_easy_cleanup(c);
        atomic_store(&a->done, true);
        return NULL;
}

static json_t *headers_to_json(const char *headers)
{
        _cleanup_free_ char *copy = xstrdup(headers);
        json_t *o = json_object();
        char *save = NULL;

        for (char *line = strtok_r(copy, "\r\n", &save); line; line = strtok_r(NULL, "\r\n", &save)) {
                char *colon = strchr(line, ':');

                if (!colon || colon > strchr(line, ' '))
                        continue;
                *colon = '\0';
                for (char *c = line; *c; c++)
                        *c = (char)tolower((unsigned char)*c);
                json_object_set_new(o, line, json_string(colon + 1 + strspn(colon + 1, " ")));
        }
        return o;
}

/* For check_answers.py, which holds them against docs/openapi.yaml. */
static void record(const struct ask *q, const struct answer *a)
{
        const char *path = getenv("API_ANSWERS");
        json_auto_t *o = NULL;
        FILE *f = path ? fopen(path, "ae") : NULL;

        if (!f)
                return;
        o = json_pack("{s:s, s:s, s:i, s:o, s:s}", "method", q->method, "path", q->path, "status",
                (int)a->status, "headers", headers_to_json(a->headers), "body", a->body);
        if (o && a->status) {
                json_dumpf(o, f, JSON_COMPACT);
                fputc('\n', f);
        }
        fclose(f);
}

struct answer world_ask(struct world *w, const struct ask *q)
{
        struct asking a = {.ask = q, .socket = q->local ? w->settings.admin_socket : w->settings.api_socket};
        struct answer answer;
        pthread_t thread;

        assert_int_equal(pthread_create(&thread, NULL, ask_thread, &a), 0);
        while (!atomic_load(&a.done))
                sd_event_run(w->event, 2000);
        pthread_join(thread, NULL);
        answer = (struct answer){.status = a.result == CURLE_OK ? a.status : 0,
                .headers = a.headers.data ? text_take(&a.headers) : xstrdup(""),
                .body = a.body.data ? text_take(&a.body) : xstrdup("")};
        answer.json = json_loads(answer.body, JSON_REJECT_DUPLICATES, NULL);
        record(q, &answer);
        return answer;
}

void answer_done(struct answer *a)
{
        free(a->headers);
        free(a->body);
        json_decref(a->json);
}

const char *answer_header(const struct answer *a, const char *name)
{
        static char value[8192];
        size_t length = strlen(name);

        for (const char *line = a->headers; *line;
                line += strcspn(line, "\n") + (line[strcspn(line, "\n")] != 0))
                if (strncasecmp(line, name, length) == 0 && line[length] == ':') {
                        line += length + 1;
                        line += strspn(line, " ");
                        str_copy(value, sizeof value, line);
                        value[strcspn(value, "\r\n")] = '\0';
                        return value;
                }
        return NULL;
}

void assert_problem(struct answer a, long status, const char *code)
{
        if (a.status != status || !a.json ||
                !str_equal(json_string_value(json_object_get(a.json, "code")), code))
                fail_msg("wanted %ld %s, have %ld %s", status, code, a.status, a.body);
        assert_string_equal(answer_header(&a, "Content-Type"), "application/problem+json");
        assert_string_equal(answer_header(&a, "Cache-Control"), "no-store");
        assert_string_equal(text_of(a.json, "type"), "about:blank");
        assert_true(*text_of(a.json, "title"));
        assert_true(*text_of(a.json, "detail"));
        assert_int_equal(json_integer_value(json_object_get(a.json, "status")), status);
        assert_int_equal(json_object_size(a.json), 5);
        answer_done(&a);
}

json_t *world_get(struct world *w, long status, const struct ask *q)
{
        struct answer a = world_ask(w, q);
        json_t *json = json_incref(a.json);

        if (a.status != status)
                fail_msg("%s %s: wanted %ld, have %ld %s", q->method, q->path, status, a.status, a.body);
        answer_done(&a);
        return json;
}

const char *text_of(const json_t *o, const char *name)
{
        const char *text = json_string_value(json_object_get(o, name));

        if (!text)
                fail_msg("no text '%s'", name);
        return text;
}

/* ---- bytes ---- */

int raw_open(struct world *w, bool local)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        str_copy(address.sun_path, sizeof address.sun_path,
                local ? w->settings.admin_socket : w->settings.api_socket);
        assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
        return fd;
}

void raw_send(struct world *w, int fd, const char *bytes, size_t length)
{
        int patience = 2000;

        while (length > 0 && patience-- > 0) {
                ssize_t n = send(fd, bytes, length, MSG_NOSIGNAL);

                if (n < 0 && errno != EAGAIN)
                        return;
                if (n > 0) {
                        bytes += n;
                        length -= (size_t)n;
                }
                sd_event_run(w->event, n > 0 ? 0 : 1000);
        }
}

char *raw_read(struct world *w, int fd, const char *needle, int wait_ms)
{
        struct text t = {0};
        char buffer[4096];

        for (int waited = 0; waited < wait_ms;) {
                ssize_t n = recv(fd, buffer, sizeof buffer - 1, 0);

                if (n == 0 || (n < 0 && errno != EAGAIN))
                        break;
                if (n > 0) {
                        buffer[n] = '\0';
                        text_add(&t, buffer);
                        if (needle && strstr(text_string(&t), needle))
                                break;
                } else
                        waited += 2;
                sd_event_run(w->event, n > 0 ? 0 : 2000);
        }
        return t.data ? text_take(&t) : xstrdup("");
}

/* ---- nodes ---- */

EVP_PKEY *make_key(void)
{
        EVP_PKEY *key = EVP_EC_gen("P-256");

        assert_non_null(key);
        return key;
}

static char *take_bio(BIO *b)
{
        char *data;
        long length = BIO_get_mem_data(b, &data);
        char *text = xstrndup(data, (size_t)length);

        BIO_free(b);
        return text;
}

char *make_csr(EVP_PKEY *key)
{
        X509_REQ *r = X509_REQ_new();
        BIO *b = BIO_new(BIO_s_mem());

        X509_REQ_set_pubkey(r, key);
        assert_true(X509_REQ_sign(r, key, EVP_sha256()) > 0);
        PEM_write_bio_X509_REQ(b, r);
        X509_REQ_free(r);
        return take_bio(b);
}

char *make_signature(EVP_PKEY *key, const char *data)
{
        unsigned char signature[256];
        size_t length = sizeof signature;
        char *text = xcalloc(1, 512);
        EVP_MD_CTX *c = EVP_MD_CTX_new();

        assert_int_equal(EVP_DigestSignInit(c, NULL, EVP_sha256(), NULL, key), 1);
        assert_int_equal(EVP_DigestSign(c, signature, &length, (const unsigned char *)data, strlen(data)), 1);
        EVP_EncodeBlock((unsigned char *)text, signature, (int)length);
        EVP_MD_CTX_free(c);
        return text;
}

struct enrolled world_enrol(struct world *w, const char *organisation, const char *name)
{
        _cleanup_free_ char *csr = NULL;
        json_auto_t *identity = NULL, *body = NULL;
        _cleanup_free_ char *text = NULL;
        struct enrolled n = {.key = make_key()};
        struct error e = {0};
        char token[64];
        int64_t expires;

        if (plane_node_create(w->store, &world_machine, organisation, name, "s1", clock_unix_ms(), n.id,
                    token, &expires, &e) < 0)
                fail_msg("%s", e.text);
        csr = make_csr(n.key);
        body = wire_enrolment_to_json(&(struct wire_enrolment){.token = token, .csr_pem = csr});
        text = json_to_text(body);
        identity = world_get(w, 200, &(struct ask){"POST", "/api/v1/node/register", .body = text});
        n.certificate = xstrdup(text_of(identity, "certificate"));
        assert_string_equal(text_of(identity, "node"), n.id);
        return n;
}

void enrolled_done(struct enrolled *n)
{
        free(n->certificate);
        EVP_PKEY_free(n->key);
}

char *certificate_header(const char *pem)
{
        struct text t = {0};

        text_add(&t, "X-Client-Certificate: ");
        for (; *pem; pem++)
                text_addf(&t, strchr("\n +/=", *pem) ? "%%%02X" : "%c", (unsigned char)*pem);
        return text_take(&t);
}

void world_connect(struct world *w, const char *node, bool online)
{
        struct wire_status status = {
                .online = online, .since_unix_ms = clock_unix_ms(), .version = "1", .epoch = "e1"};
        struct error e = {0};
        bool changed;

        if (plane_node_status(w->store, node, &status, clock_unix_ms(), &changed, &e) < 0)
                fail_msg("%s", e.text);
}
