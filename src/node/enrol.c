#include "node/enrol_internal.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/json.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/err.h>
#include <string.h>

#define TOKEN_MAX_BYTES       256
#define TOKEN_FILE_MAX_BYTES  4096
#define CERTIFICATE_MAX_BYTES ((size_t)32 << 10)
#define ROOT_PATH             "/.well-known/gridnode/root.pem"

/* ---- the token ---- */

static void forget(char **text)
{
        if (*text)
                explicit_bzero(*text, strlen(*text));
        free(*text);
        *text = NULL;
}

static int read_stream(char *buffer, size_t size, struct error *ret_error)
{
        size_t length = 0;

        for (;;) {
                ssize_t n = read(STDIN_FILENO, buffer + length, size - 1 - length);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return error_set(ret_error, errno, "token.unreadable",
                                "cannot read the token from standard input: %s", strerror(errno));
                if (n == 0)
                        break;
                length += (size_t)n;
                if (length == size - 1)
                        return error_set(
                                ret_error, EFBIG, "token.malformed", "standard input is no token: too long");
        }
        buffer[length] = '\0';
        return 0;
}

static int read_token(const char *path, char **ret, struct error *ret_error)
{
        _cleanup_(forget) char *text = NULL;
        char *begin, *end;
        int r;

        if (str_equal(path, "-")) {
                text = xcalloc(1, TOKEN_FILE_MAX_BYTES);
                r = read_stream(text, TOKEN_FILE_MAX_BYTES, ret_error);
        } else
                r = file_read(path, TOKEN_FILE_MAX_BYTES, &text, NULL, ret_error);
        if (r < 0)
                return r;
        begin = text + strspn(text, " \t\r\n");
        end = begin + strcspn(begin, " \t\r\n");
        if (begin == end || end - begin > TOKEN_MAX_BYTES || end[strspn(end, " \t\r\n")])
                return error_set(ret_error, EINVAL, "token.malformed",
                        "%s holds no token; it has one word, as 'gridplane node create' prints it", path);
        for (const char *c = begin; c < end; c++)
                if (!isgraph((unsigned char)*c))
                        return error_set(ret_error, EINVAL, "token.malformed",
                                "%s holds no token: a byte in it cannot be part of one", path);
        *ret = xstrndup(begin, (size_t)(end - begin));
        return 0;
}

/* ---- the root ---- */

/* Colons, blanks and case do not matter. */
static int parse_fingerprint(const char *text, char ret[X509_FINGERPRINT_TEXT], struct error *ret_error)
{
        size_t digits = 0;

        for (const char *c = text; *c; c++) {
                if (*c == ':' || *c == ' ')
                        continue;
                if (hex_digit(*c) < 0 || digits == X509_FINGERPRINT_TEXT - 1) {
                        digits = 0;
                        break;
                }
                ret[digits++] = (char)tolower((unsigned char)*c);
        }
        ret[digits] = '\0';
        if (digits == X509_FINGERPRINT_TEXT - 1)
                return 0;
        return error_set(ret_error, EINVAL, "root.bad-fingerprint",
                "'%.128s' is no SHA-256 fingerprint: 64 hexadecimal digits, colons allowed", text);
}

static bool has_fingerprint(const char *pem, const char *wanted)
{
        _cleanup_(X509_free_p) X509 *x = x509_from_pem(pem, strlen(pem));
        char fingerprint[X509_FINGERPRINT_TEXT] = "";

        if (x)
                x509_fingerprint(x, fingerprint);
        ERR_clear_error();
        return str_equal(fingerprint, wanted);
}

/* Without trust: anybody may answer, and only the right root is taken. */
static int fetch_root(
        const struct node_settings *s, const struct enrol_options *o, char **ret, struct error *ret_error)
{
        struct https_request request = {.method = "GET",
                .path = ROOT_PATH,
                .timeout_ms = o->timeout_ms / 2,
                .maximum_bytes = CERTIFICATE_MAX_BYTES};
        struct https_answer a = {0};
        char wanted[X509_FINGERPRINT_TEXT];
        int r = parse_fingerprint(o->root_fingerprint, wanted, ret_error);

        if (r == 0)
                r = enrol_way_ask(s, o->host, o->port, &request, &a, ret_error);
        if (r < 0)
                return r;
        request.host = o->host;
        if (a.status != 200)
                r = https_problem(&request, &a, ret_error);
        else if (!has_fingerprint(a.body, wanted))
                r = error_set(ret_error, EACCES, "root.wrong-fingerprint",
                        "the root certificate that %s shows has not the fingerprint that was given: either "
                        "it "
                        "is the wrong one, or somebody in between answers",
                        o->host);
        else
                *ret = TAKE_PTR(a.body);
        https_answer_done(&a);
        return r;
}

static int take_root(
        const struct node_settings *s, const struct enrol_options *o, char **ret, struct error *ret_error)
{
        _cleanup_(trust_free_p) struct trust *checked = NULL;
        int r;

        if (!o->root_ca_path == !o->root_fingerprint)
                return error_set(ret_error, EINVAL, "usage.root",
                        "the root is needed: as a file or by its fingerprint, one of the two");
        if (o->root_fingerprint)
                return fetch_root(s, o, ret, ret_error);
        /* What is wrong with it is said of the file that was named. */
        r = trust_new(&(struct trust_options){.root_ca_path = o->root_ca_path}, &checked, ret_error);
        return r < 0 ? r : file_read(o->root_ca_path, CERTIFICATE_MAX_BYTES, ret, NULL, ret_error);
}

/* As trust, by way of a file that is ours alone. */
static int trust_root(const struct paths *p, const char *pem, struct trust **ret, struct error *ret_error)
{
        _cleanup_free_ char *path = path_join(p->state, "root.pem.new");
        struct trust_options o = {.root_ca_path = path};
        int r = file_save(path, pem, strlen(pem), 0600, ret_error);

        if (r < 0)
                return r;
        r = trust_new(&o, ret, ret_error);
        unlink(path);
        return r;
}

/* The root that is stored from now on is the one that was pinned. */
static int check_same_root(const char *pinned, const char *told, struct error *ret_error)
{
        _cleanup_(BIO_free_all_p) BIO *a = BIO_new_mem_buf(pinned, -1);
        _cleanup_(X509_free_p) X509 *theirs = x509_from_pem(told, strlen(told));
        bool found = false;
        X509 *x;

        while (theirs && !found && (x = x509_read(a))) {
                found = X509_cmp(x, theirs) == 0;
                X509_free(x);
        }
        ERR_clear_error();
        if (found)
                return 0;
        return error_set(ret_error, EACCES, "root.changed",
                "the control plane tells another root than the one that is pinned; the node stays as it was");
}

/* ---- asking ---- */

/* What is in force now, in memory too. */
static int know_identity(struct node_settings *s, struct wire_identity *i, struct error *ret_error)
{
        _cleanup_free_ char *path = xasprintf("%s/%s.profile", s->paths.state, i->profile_name);
        struct profile *profile = NULL;
        int r = profile_load(path, &profile, ret_error);

        if (r < 0)
                return r;
        profile_free(s->profile);
        free(s->node);
        free(s->name);
        free(s->organisation);
        s->profile = profile;
        s->node = TAKE_PTR(i->node);
        s->name = TAKE_PTR(i->name);
        s->organisation = TAKE_PTR(i->organisation);
        return 0;
}

/* The answer to a request for an identity, put in force. *ret_keyring is the caller's; may be NULL. */
static int take_identity(struct node_settings *s, const struct https_answer *a, const char *root_pem,
        EVP_PKEY *key, char **ret_keyring, int64_t *ret_not_after_unix, struct error *ret_error)
{
        struct wire_identity i = {0};
        int r = wire_identity_parse(a->body, a->length, &i, ret_error);

        if (r < 0)
                return r;
        r = check_same_root(root_pem, i.root_pem, ret_error);
        if (r == 0)
                r = enrol_identity_switch(&s->paths, &i, key, ret_not_after_unix, ret_error);
        if (r == 0) {
                enrol_key_forget_pending(&s->paths);
                r = know_identity(s, &i, ret_error);
        }
        if (r == 0 && ret_keyring)
                *ret_keyring = TAKE_PTR(i.apt_keyring);
        wire_identity_done(&i);
        return r;
}

static void forget_enrolment(struct wire_enrolment *e)
{
        wire_enrolment_done(e);
}

static char *enrolment_text(const struct wire_enrolment *e)
{
        json_t *j = wire_enrolment_to_json(e);
        char *text = json_to_text(j);

        json_decref(j);
        return text;
}

static int check_places(const struct node_settings *s, struct error *ret_error)
{
        _cleanup_free_ char *certificate = path_join(s->paths.state, "node.crt"),
                            *key = path_join(s->paths.state, "node.key");

        if (str_equal(s->site->certificate_path, certificate) && str_equal(s->site->key_path, key))
                return 0;
        return error_set(ret_error, EINVAL, "config.identity",
                "%s names a certificate of its own, %s, which a registration would not change; leave "
                "certificate = and key = out of it",
                s->site_path, s->site->certificate_path);
}

/* ---- registration ---- */

/* Takes the token over. */
static int ask_to_register(struct node_settings *s, const struct enrol_options *o, const char *root_pem,
        char **token, char **ret_keyring, struct error *ret_error)
{
        _cleanup_(trust_free_p) struct trust *trust = NULL;
        _cleanup_(EVP_PKEY_free_p) EVP_PKEY *key = NULL;
        _cleanup_(forget) char *body = NULL;
        _cleanup_(forget_enrolment) struct wire_enrolment e = {.token = TAKE_PTR(*token)};
        struct https_request request = {.method = "POST",
                .host = o->host,
                .path = "/api/v1/node/register",
                .timeout_ms = o->timeout_ms,
                .maximum_bytes = WIRE_MESSAGE_MAXIMUM};
        struct https_answer a = {0};
        int64_t not_after;
        int r = trust_root(&s->paths, root_pem, &trust, ret_error);

        if (r == 0)
                r = enrol_key_pending(&s->paths, NULL, &key, ret_error);
        if (r == 0)
                r = enrol_key_request(key, &e.csr_pem, ret_error);
        if (r < 0)
                return r;
        body = enrolment_text(&e);
        request.trust = trust;
        request.body = body;
        r = enrol_way_ask(s, o->host, o->port, &request, &a, ret_error);
        if (r == 0 && a.status / 100 != 2)
                r = https_problem(&request, &a, ret_error);
        else if (r == 0)
                r = take_identity(s, &a, root_pem, key, ret_keyring, &not_after, ret_error);
        https_answer_done(&a);
        return r;
}

static const struct profile_service *service_of_packages(const struct profile *p)
{
        for (size_t i = 0; p && i < p->service_count; i++)
                if (strv_contains(&p->services[i].carries, "updates"))
                        return &p->services[i];
        return NULL;
}

static int trust_repository(struct node_settings *s, struct enrol_repository *w, const char *keyring,
        const struct enrol_options *o, struct error *ret_error)
{
        const struct profile_service *service = service_of_packages(s->profile);
        char *note = NULL;
        int r;

        if (!w || !keyring || !service)
                return 0;
        r = enrol_repository_write(w, keyring, service->host, service->port, &note, ret_error);
        if (r < 0)
                return error_prefix(ret_error,
                        "the node is registered, but root's trust in its repository of packages could not be "
                        "written");
        if (o->ret_note)
                *o->ret_note = TAKE_PTR(note);
        free(note);
        return 0;
}

int enrol_register(
        struct node_settings *s, const struct enrol_options *o, bool again, struct error *ret_error)
{
        _cleanup_(forget) char *token = NULL;
        _cleanup_free_ char *root_pem = NULL, *keyring = NULL;
        struct enrol_repository *repository = NULL;
        int r = check_places(s, ret_error);

        if (r < 0)
                return r;
        if (s->node && !again)
                return error_set(ret_error, EEXIST, "registered",
                        "this node is registered already, as %s (%s); --again replaces that identity",
                        s->name, s->node);
        /* What only this user may read is read before it becomes another. */
        r = read_token(o->token_path, &token, ret_error);
        if (r == 0)
                r = take_root(s, o, &root_pem, ret_error);
        if (r == 0)
                r = enrol_repository_begin(&s->paths, &repository, ret_error);
        if (r == 0)
                r = enrol_identity_prepare(&s->paths, ret_error);
        if (r == 0)
                r = ask_to_register(s, o, root_pem, &token, &keyring, ret_error);
        if (r == 0)
                r = trust_repository(s, repository, keyring, o, ret_error);
        enrol_repository_end(repository);
        return r;
}

/* ---- what a registered node asks ---- */

static int check_registered(const struct node_settings *s, struct error *ret_error)
{
        if (!s->node)
                return error_set(ret_error, ENOENT, "not-registered",
                        "this node is not registered: 'gridnode register' does it (no %s)", s->identity_path);
        if (!s->profile || !s->profile->root_ca_path)
                return error_set(ret_error, EINVAL, "profile.no-root",
                        "the profile of this node names no root certificate; register it anew");
        return 0;
}

static int own_trust(const struct node_settings *s, struct trust **ret, struct error *ret_error)
{
        struct trust_options o = {.root_ca_path = s->profile->root_ca_path,
                .certificate_path = s->site->certificate_path,
                .key_path = s->site->key_path};

        return trust_new(&o, ret, ret_error);
}

/* The present certificate, and a signature by its key over the request of the new one. */
static int fill_renewal(
        const struct node_settings *s, struct wire_enrolment *e, EVP_PKEY **ret_key, struct error *ret_error)
{
        _cleanup_(EVP_PKEY_free_p) EVP_PKEY *old = NULL, *key = NULL;
        int r = enrol_key_load(s->site->key_path, &old, ret_error);

        if (r == 0)
                r = file_read(s->site->certificate_path, CERTIFICATE_MAX_BYTES, &e->certificate_pem, NULL,
                        ret_error);
        if (r == 0)
                r = enrol_key_pending(&s->paths, old, &key, ret_error);
        if (r == 0)
                r = enrol_key_request(key, &e->csr_pem, ret_error);
        if (r == 0)
                r = enrol_key_sign(old, e->csr_pem, &e->signature, ret_error);
        if (r == 0)
                *ret_key = TAKE_PTR(key);
        return r;
}

static int ask_to_renew(
        struct node_settings *s, double timeout_ms, int64_t *ret_not_after_unix, struct error *ret_error)
{
        _cleanup_(trust_free_p) struct trust *trust = NULL;
        _cleanup_(EVP_PKEY_free_p) EVP_PKEY *key = NULL;
        _cleanup_(forget_enrolment) struct wire_enrolment e = {0};
        _cleanup_free_ char *body = NULL, *root_pem = NULL;
        struct https_request request = {.method = "POST",
                .path = "/api/v1/node/renew",
                .timeout_ms = timeout_ms,
                .maximum_bytes = WIRE_MESSAGE_MAXIMUM};
        struct https_answer a = {0};
        int r = own_trust(s, &trust, ret_error);

        if (r == 0)
                r = file_read(s->profile->root_ca_path, CERTIFICATE_MAX_BYTES, &root_pem, NULL, ret_error);
        if (r == 0)
                r = fill_renewal(s, &e, &key, ret_error);
        if (r < 0)
                return r;
        body = enrolment_text(&e);
        request.trust = trust;
        request.body = body;
        r = enrol_way_ask_any(s, "updates", &request, &a, ret_error);
        if (r == 0)
                r = take_identity(s, &a, root_pem, key, NULL, ret_not_after_unix, ret_error);
        https_answer_done(&a);
        return r;
}

int enrol_renew(
        struct node_settings *s, double timeout_ms, int64_t *ret_not_after_unix, struct error *ret_error)
{
        int r = check_registered(s, ret_error);

        if (r == 0)
                r = check_places(s, ret_error);
        if (r == 0)
                r = enrol_identity_prepare(&s->paths, ret_error);
        return r < 0 ? r : ask_to_renew(s, timeout_ms, ret_not_after_unix, ret_error);
}

/* ---- the configuration ---- */

void enrol_config_done(struct enrol_config *c)
{
        free(c->etag);
        json_decref(c->config);
        *c = (struct enrol_config){0};
}

static int read_config(const struct https_answer *a, struct enrol_config *ret, struct error *ret_error)
{
        struct wire_config config = {0};
        json_t *document = NULL;
        int r;

        if (a->status == 204 || a->status == 304) {
                *ret = (struct enrol_config){.status = a->status, .etag = xstrdup(a->etag)};
                return 0;
        }
        if (a->status != 200)
                return error_set(ret_error, EPROTO, "config.odd-answer",
                        "the control plane answers %d where a configuration was asked for", a->status);
        r = wire_config_parse(a->body, a->length, &config, ret_error);
        wire_config_done(&config);
        if (r == 0)
                r = json_parse(
                        a->body, a->length, WIRE_MESSAGE_MAXIMUM, "configuration", &document, ret_error);
        if (r == 0)
                *ret = (struct enrol_config){.status = 200, .etag = xstrdup(a->etag), .config = document};
        return r;
}

int enrol_fetch_config(const struct node_settings *s, const char *etag, double timeout_ms,
        struct enrol_config *ret, struct error *ret_error)
{
        _cleanup_(trust_free_p) struct trust *trust = NULL;
        struct https_request request = {.method = "GET",
                .path = "/api/v1/node/config",
                .mutual = true,
                .etag = etag,
                .timeout_ms = timeout_ms,
                .maximum_bytes = WIRE_MESSAGE_MAXIMUM};
        struct https_answer a = {0};
        int r = check_registered(s, ret_error);

        if (r == 0)
                r = own_trust(s, &trust, ret_error);
        if (r == 0 && !trust_has_certificate(trust))
                r = error_set(ret_error, ENOENT, "certificate.missing", "%s",
                        trust_certificate_problem(trust) ? trust_certificate_problem(trust)
                                                         : "this node's certificate is missing");
        if (r < 0)
                return r;
        request.trust = trust;
        r = enrol_way_ask_any(s, "config", &request, &a, ret_error);
        if (r == 0)
                r = read_config(&a, ret, ret_error);
        https_answer_done(&a);
        return r;
}
