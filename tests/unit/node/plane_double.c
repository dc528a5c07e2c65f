#include "plane_double.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "plane/ca.h"
#include "wire/wire.h"

#include <arpa/inet.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

#define REQUEST_MAX 65536
#define CONFIG                                                                                      \
        "{\"schema\":1,\"version\":7,\"dns\":[\"198.51.100.53\"],\"lan\":[{\"interface\":\"eth1\"," \
        "\"address\":\"10.20.0.2/24\",\"routes\":[{\"destination\":\"10.30.0.0/16\",\"next_hop\":"  \
        "\"10.20.0.1\"}]}]}"

struct answer {
        int status;
        const char *type, *etag;
        char *body;
};

static struct ca *ca, *other;
static const char *profile_text;
static char used_by[65];
static char fingerprint[65];
static bool has_lost;

const char *plane_double_fingerprint(void)
{
        return fingerprint;
}

static struct answer problem(int status, const char *code, const char *title)
{
        return (struct answer){.status = status,
                .type = "application/problem+json",
                .body = xasprintf("{\"title\":\"%s\",\"status\":%d,\"code\":\"%s\"}", title, status, code)};
}

static struct answer identity(const char *csr, const char *node, const char *root)
{
        char serial[65];
        int64_t end;
        struct wire_identity i = {.node = (char *)node,
                .name = (char *)"Zweigstelle 12",
                .organisation = (char *)"o-one",
                .root_pem = (char *)root,
                .profile = (char *)profile_text,
                .profile_name = (char *)"grid"};
        struct answer a = {.status = 200, .type = "application/json"};
        json_t *j;

        if (ca_issue_node(ca, csr, node, "o-one", time(NULL), &i.certificate_pem, serial, &end, NULL) < 0)
                return problem(422, "csr.bad", "Bad request for a certificate");
        j = wire_identity_to_json(&i);
        a.body = json_to_text(j);
        json_decref(j);
        free(i.certificate_pem);
        return a;
}

static char *request_of_another_key(void)
{
        EVP_PKEY *key = EVP_EC_gen("P-256");
        X509_REQ *r = X509_REQ_new();
        BIO *b = BIO_new(BIO_s_mem());
        char *data, *pem;
        long length;

        X509_REQ_set_pubkey(r, key);
        X509_REQ_sign(r, key, EVP_sha256());
        PEM_write_bio_X509_REQ(b, r);
        length = BIO_get_mem_data(b, &data);
        pem = xstrndup(data, (size_t)length);
        BIO_free(b);
        X509_REQ_free(r);
        EVP_PKEY_free(key);
        return pem;
}

static struct answer do_register(const char *body)
{
        struct wire_enrolment e = {0};
        struct ca_request request;
        struct answer a;

        if (wire_enrolment_parse(body, strlen(body), false, &e, NULL) < 0 ||
                ca_check_csr(e.csr_pem, &request, NULL) < 0)
                return problem(400, "request.malformed", "Malformed");
        if (str_equal(e.token, "gnt_expired"))
                a = problem(410, "token.expired", "The token has expired");
        else if (str_equal(e.token, "gnt_foreign")) {
                _cleanup_free_ char *csr = request_of_another_key();

                a = identity(csr, "n-one", ca_root_pem(ca));
        } else if (str_equal(e.token, "gnt_other-root"))
                a = identity(e.csr_pem, "n-one", ca_root_pem(other));
        else if (!str_equal(e.token, "gnt_good") && !str_equal(e.token, "gnt_lost"))
                a = problem(404, "token.unknown", "No such token");
        else if (used_by[0] && !str_equal(used_by, request.public_key_sha256))
                a = problem(409, "token.used", "The token was used already");
        else {
                strcpy(used_by, request.public_key_sha256);
                a = identity(e.csr_pem, "n-one", ca_root_pem(ca));
                if (str_equal(e.token, "gnt_lost") && !has_lost) {
                        has_lost = true;
                        free(a.body);
                        a = (struct answer){0};
                }
        }
        wire_enrolment_done(&e);
        return a;
}

static struct answer renew(const char *body)
{
        struct wire_enrolment e = {0};
        struct ca_identity who;
        struct answer a;

        if (wire_enrolment_parse(body, strlen(body), true, &e, NULL) < 0 ||
                ca_identify(ca, e.certificate_pem, &who, NULL) < 0 ||
                ca_verify_signature(e.certificate_pem, e.csr_pem, strlen(e.csr_pem), e.signature, NULL) < 0)
                a = problem(403, "renewal.refused", "Not this node's");
        else
                a = identity(e.csr_pem, who.node, ca_root_pem(ca));
        wire_enrolment_done(&e);
        return a;
}

static struct answer config(SSL *ssl, const char *head)
{
        X509 *x = SSL_get1_peer_certificate(ssl);
        struct answer a = {.status = 200, .type = "application/json", .etag = "\"7\""};

        if (!x)
                return problem(401, "certificate.missing", "No certificate");
        X509_free(x);
        if (strcasestr(head, "if-none-match: \"7\""))
                a.status = 304;
        else
                a.body = xstrdup(CONFIG);
        return a;
}

static struct answer answer_to(SSL *ssl, const char *head, const char *body)
{
        if (str_starts_with(head, "GET /.well-known/gridnode/root.pem "))
                return (struct answer){
                        .status = 200, .type = "application/x-pem-file", .body = xstrdup(ca_root_pem(ca))};
        if (str_starts_with(head, "POST /api/v1/node/register "))
                return do_register(body);
        if (str_starts_with(head, "POST /api/v1/node/renew "))
                return renew(body);
        if (str_starts_with(head, "GET /api/v1/node/config "))
                return config(ssl, head);
        return problem(404, "not-found", "No such thing");
}

static char *read_request(SSL *ssl, char **ret_body)
{
        char *data = xcalloc(1, REQUEST_MAX);
        size_t length = 0, wanted = REQUEST_MAX - 1;
        char *end = NULL;

        while (length < wanted) {
                int n = SSL_read(ssl, data + length, (int)(REQUEST_MAX - 1 - length));

                if (n <= 0)
                        break;
                length += (size_t)n;
                end = end ? end : strstr(data, "\r\n\r\n");
                if (end) {
                        const char *header = strcasestr(data, "content-length:");
                        size_t body = header && header < end ? strtoul(header + 15, NULL, 10) : 0;

                        wanted = (size_t)(end - data) + 4 + body;
                }
        }
        if (!end) {
                free(data);
                return NULL;
        }
        end[2] = '\0';
        *ret_body = end + 4;
        return data;
}

static void serve(SSL *ssl)
{
        char *body = NULL, *head;
        _cleanup_free_ char *text = NULL;
        struct answer a;

        if (SSL_accept(ssl) != 1 || !(head = read_request(ssl, &body)))
                return;
        a = answer_to(ssl, head, body);
        free(head);
        if (a.status) {
                text = xasprintf("HTTP/1.1 %d X\r\nContent-Type: %s\r\n%s%s%sContent-Length: %zu\r\n"
                                 "Connection: close\r\n\r\n%s",
                        a.status, a.type, a.etag ? "ETag: " : "", a.etag ? a.etag : "", a.etag ? "\r\n" : "",
                        a.body ? strlen(a.body) : 0, a.body ? a.body : "");
                SSL_write(ssl, text, (int)strlen(text));
                SSL_shutdown(ssl);
        }
        free(a.body);
}

static int take_any(int ok, X509_STORE_CTX *context)
{
        (void)ok, (void)context;
        return 1;
}

static void run(int listener, const char *certificate, const char *key)
{
        SSL_CTX *c = SSL_CTX_new(TLS_server_method());

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGPIPE, SIG_IGN);
        if (SSL_CTX_use_certificate_chain_file(c, certificate) != 1 ||
                SSL_CTX_use_PrivateKey_file(c, key, SSL_FILETYPE_PEM) != 1)
                _exit(1);
        SSL_CTX_set_verify(c, SSL_VERIFY_PEER, take_any);
        for (;;) {
                int fd = accept(listener, NULL, NULL);
                SSL *ssl = SSL_new(c);

                SSL_set_fd(ssl, fd);
                serve(ssl);
                SSL_free(ssl);
                close(fd);
        }
}

pid_t plane_double_start(const char *folder, const char *profile)
{
        struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(DOUBLE_PORT)};
        _cleanup_free_ char *first = xasprintf("%s/ca", folder), *second = xasprintf("%s/other", folder),
                            *certificate = NULL, *key = NULL;
        int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
        struct strv hosts = {0};
        bool changed;
        pid_t pid;

        own.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        profile_text = profile;
        assert_int_equal(ca_open(first, time(NULL), &ca, NULL), 0);
        assert_int_equal(ca_open(second, time(NULL), &other, NULL), 0);
        ca_root_fingerprint(ca, fingerprint);
        strv_add(&hosts, DOUBLE_HOST);
        strv_add(&hosts, "control.grid.example");
        assert_int_equal(
                ca_server_certificate(ca, "https", &hosts, time(NULL), &changed, &certificate, &key, NULL),
                0);
        strv_done(&hosts);
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        assert_int_equal(bind(listener, (struct sockaddr *)&own, sizeof(own)), 0);
        assert_int_equal(listen(listener, 16), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
                run(listener, certificate, key);
        close(listener);
        ca = ca_free(ca);
        other = ca_free(other);
        return pid;
}
