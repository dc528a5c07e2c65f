/* What nodes ask: registration, renewal, configuration. */
#include "api_world.h"

#include "base/alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)

#define REGISTER "/api/v1/node/register"
#define RENEW    "/api/v1/node/renew"
#define DAY_S    INT64_C(86400)

static char *register_body(const char *token, const char *csr)
{
        json_auto_t *o = wire_enrolment_to_json(
                &(struct wire_enrolment){.token = (char *)token, .csr_pem = (char *)csr});

        return json_to_text(o);
}

static void create(struct world *w, const char *name, int64_t now, char ret_id[65], char ret_token[64])
{
        struct error e = {0};
        int64_t expires;

        if (plane_node_create(w->store, &world_machine, w->organisation, name, "s1", now, ret_id, ret_token,
                    &expires, &e) < 0)
                fail_msg("%s", e.text);
}

/* ---- registration ---- */

static void test_register(void **state)
{
        struct world *w = *state;
        EVP_PKEY *key = make_key(), *other = make_key();
        _cleanup_free_ char *csr = make_csr(key), *other_csr = make_csr(other), *body = NULL, *again = NULL;
        struct ca_identity identity;
        struct error e = {0};
        char id[65], token[64];
        json_t *first, *second;

        create(w, "branch-1", clock_unix_ms(), id, token);
        body = register_body(token, csr);
        again = register_body(token, other_csr);
        first = world_get(w, 200, ASK("POST", REGISTER, .body = body));
        assert_string_equal(text_of(first, "node"), id);
        assert_string_equal(text_of(first, "name"), "branch-1");
        assert_string_equal(text_of(first, "organisation"), w->organisation);
        assert_non_null(strstr(text_of(first, "profile"), "repo.grid.example"));
        assert_string_equal(text_of(first, "root"), ca_root_pem(w->ca));
        assert_int_equal(ca_identify(w->ca, text_of(first, "certificate"), &identity, &e), 0);
        assert_string_equal(identity.node, id);
        assert_string_equal(identity.organisation, w->organisation);
        /* The answer was lost: the same once more. */
        second = world_get(w, 200, ASK("POST", REGISTER, .body = body));
        assert_true(json_equal(first, second));
        assert_problem(world_ask(w, ASK("POST", REGISTER, .body = again)), 409, "token.used");
        assert_int_equal(played.revoked, 0);
        json_decref(first);
        json_decref(second);
        EVP_PKEY_free(key);
        EVP_PKEY_free(other);
}

static void test_register_with_a_wrong_token(void **state)
{
        struct world *w = *state;
        EVP_PKEY *key = make_key();
        _cleanup_free_ char *csr = make_csr(key), *unknown = NULL, *expired = NULL, *no_csr = NULL;
        char id[65], token[64];

        create(w, "branch-1", clock_unix_ms() - 25 * 3600 * 1000LL, id, token);
        unknown = register_body("gnt_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", csr);
        expired = register_body(token, csr);
        no_csr = register_body(token, "nonsense");
        assert_problem(world_ask(w, ASK("POST", REGISTER, .body = unknown)), 404, "token.unknown");
        assert_problem(world_ask(w, ASK("POST", REGISTER, .body = expired)), 410, "token.expired");
        assert_problem(world_ask(w, ASK("POST", REGISTER, .body = no_csr)), 400, "csr.malformed");
        assert_problem(world_ask(w, ASK("POST", REGISTER, .body = "{}")), 400, "body.malformed");
        EVP_PKEY_free(key);
}

/* A machine took the place of another: the old one's certificate is revoked and the servers hear of it. */
static void test_register_a_replacement(void **state)
{
        struct world *w = *state;
        struct enrolled old = world_enrol(w, w->organisation, "branch-1");
        EVP_PKEY *key = make_key();
        _cleanup_free_ char *csr = make_csr(key), *body = NULL,
                            *certificate = certificate_header(old.certificate);
        json_t *o = world_get(w, 201, ASK("POST", "/api/v1/nodes/branch-1/token", .token = w->operator));

        body = register_body(text_of(o, "token"), csr);
        json_decref(o);
        o = world_get(w, 200, ASK("POST", REGISTER, .body = body));
        assert_string_equal(text_of(o, "node"), old.id);
        json_decref(o);
        assert_int_equal(played.revoked, 1);
        assert_problem(world_ask(w, ASK("GET", "/api/v1/node/config",
                                            .headers = {"X-Client-Verify: SUCCESS", certificate})),
                403, "certificate.revoked");
        EVP_PKEY_free(key);
        enrolled_done(&old);
}

/* A thousand with wrong tokens: slowed, and nobody else is kept out. */
static void test_a_thousand_wrong_registrations(void **state)
{
        struct world *w = *state;
        EVP_PKEY *key = make_key();
        _cleanup_free_ char *csr = make_csr(key), *wrong = NULL, *right = NULL;
        const char *evil = "X-Forwarded-For: 203.0.113.66", *good = "X-Forwarded-For: 203.0.113.7";
        int refused = 0, slowed = 0;
        char id[65], token[64];

        create(w, "branch-1", clock_unix_ms(), id, token);
        wrong = register_body("gnt_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", csr);
        right = register_body(token, csr);
        for (int i = 0; i < 1000; i++) {
                struct answer a = world_ask(w, ASK("POST", REGISTER, .body = wrong, .headers = {evil}));

                refused += a.status == 404;
                slowed += a.status == 429 && atoi(answer_header(&a, "Retry-After")) > 0;
                answer_done(&a);
        }
        assert_int_equal(refused + slowed, 1000);
        assert_in_range(refused, LIMIT_ADDRESS_BURST, LIMIT_ADDRESS_BURST + 10);
        /* Even a right token of that address waits; of another it does not. */
        assert_problem(world_ask(w, ASK("POST", REGISTER, .body = right, .headers = {evil})), 429,
                "registration.slowed");
        json_decref(world_get(w, 200, ASK("POST", REGISTER, .body = right, .headers = {good})));
        assert_int_equal(w->api->refused_registrations, 1001);
        EVP_PKEY_free(key);
}

/* ---- renewal ---- */

static char *renew_body(const char *csr, const char *certificate, EVP_PKEY *signer)
{
        _cleanup_free_ char *signature = make_signature(signer, csr);
        json_auto_t *o = wire_enrolment_to_json(&(struct wire_enrolment){
                .csr_pem = (char *)csr, .certificate_pem = (char *)certificate, .signature = signature});

        return json_to_text(o);
}

static void test_renew(void **state)
{
        struct world *w = *state;
        struct enrolled n = world_enrol(w, w->organisation, "branch-1");
        EVP_PKEY *key = make_key();
        _cleanup_free_ char *csr = make_csr(key), *old_csr = make_csr(n.key),
                            *body = renew_body(csr, n.certificate, n.key),
                            *forged = renew_body(csr, n.certificate, key),
                            *same = renew_body(old_csr, n.certificate, n.key),
                            *foreign = renew_body(csr,
                                    "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", n.key);
        json_t *first = world_get(w, 200, ASK("POST", RENEW, .body = body)), *second;

        assert_string_equal(text_of(first, "node"), n.id);
        assert_string_not_equal(text_of(first, "certificate"), n.certificate);
        second = world_get(w, 200, ASK("POST", RENEW, .body = body));
        assert_true(json_equal(first, second));
        assert_problem(world_ask(w, ASK("POST", RENEW, .body = forged)), 403, "signature.wrong");
        assert_problem(world_ask(w, ASK("POST", RENEW, .body = same)), 400, "csr.same-key");
        assert_problem(world_ask(w, ASK("POST", RENEW, .body = foreign)), 403, "certificate.foreign");
        json_decref(world_get(w, 204, ASK("DELETE", "/api/v1/nodes/branch-1", .token = w->operator)));
        assert_problem(world_ask(w, ASK("POST", RENEW, .body = body)), 403, "certificate.revoked");
        json_decref(first);
        json_decref(second);
        EVP_PKEY_free(key);
        enrolled_done(&n);
}

/* A certificate that the CA gave this node some days ago. */
static char *old_certificate(struct world *w, const struct enrolled *n, int64_t days_ago)
{
        _cleanup_free_ char *csr = make_csr(n->key);
        int64_t now_s = clock_unix_ms() / 1000, not_after;
        struct ca_request request;
        struct error e = {0};
        char *pem = NULL, serial[65];

        if (ca_check_csr(csr, &request, &e) < 0 ||
                ca_issue_node(w->ca, csr, n->id, w->organisation, now_s - days_ago * DAY_S, &pem, serial,
                        &not_after, &e) < 0 ||
                plane_certificate_add(w->store, n->id, serial, request.public_key_sha256, not_after * 1000,
                        pem, (now_s - days_ago * DAY_S) * 1000, &e) < 0)
                fail_msg("%s", e.text);
        return pem;
}

/* For 90 days after its end a certificate is good for a renewal, and for nothing else. */
static void test_renew_after_the_end(void **state)
{
        struct world *w = *state;
        struct enrolled n = world_enrol(w, w->organisation, "branch-1");
        EVP_PKEY *key = make_key();
        _cleanup_free_ char *csr = make_csr(key), *late = old_certificate(w, &n, CA_NODE_DAYS + 89),
                            *too_late = old_certificate(w, &n, CA_NODE_DAYS + 91),
                            *header = certificate_header(late);
        _cleanup_free_ char *body = renew_body(csr, late, n.key),
                            *too_late_body = renew_body(csr, too_late, n.key);

        assert_problem(world_ask(w, ASK("GET", "/api/v1/node/config",
                                            .headers = {"X-Client-Verify: SUCCESS", header})),
                403, "certificate.expired");
        assert_problem(world_ask(w, ASK("POST", RENEW, .body = too_late_body)), 403, "certificate.expired");
        json_decref(world_get(w, 200, ASK("POST", RENEW, .body = body)));
        EVP_PKEY_free(key);
        enrolled_done(&n);
}

/* ---- configuration ---- */

static void test_config(void **state)
{
        struct world *w = *state;
        struct enrolled n = world_enrol(w, w->organisation, "branch-1");
        _cleanup_free_ char *certificate = certificate_header(n.certificate);
        const char *path = "/api/v1/node/config", *verified = "X-Client-Verify: SUCCESS";
        struct wire_config config;
        struct answer a;
        struct error e = {0};

        json_decref(world_get(w, 204, ASK("GET", path, .headers = {verified, certificate})));
        json_decref(world_get(w, 200,
                ASK("PUT", "/api/v1/nodes/branch-1/config", .token = w->operator,
                        .body = "{\"dns\":[\"198.51.100.53\"]}")));
        a = world_ask(w, ASK("GET", path, .headers = {verified, certificate}));
        assert_int_equal(a.status, 200);
        assert_string_equal(answer_header(&a, "ETag"), "\"1\"");
        if (wire_config_parse(a.body, strlen(a.body), &config, &e) < 0)
                fail_msg("%s", e.text);
        assert_int_equal(config.version, 1);
        assert_int_equal(config.dns_count, 1);
        wire_config_done(&config);
        answer_done(&a);
        a = world_ask(w, ASK("GET", path, .headers = {verified, certificate, "If-None-Match: \"1\""}));
        assert_int_equal(a.status, 304);
        assert_string_equal(a.body, "");
        answer_done(&a);
        json_decref(world_get(
                w, 200, ASK("GET", path, .headers = {verified, certificate, "If-None-Match: \"0\""})));
        enrolled_done(&n);
}

static void test_certificates_that_say_nothing(void **state)
{
        struct world *w = *state;
        struct enrolled n = world_enrol(w, w->organisation, "branch-1");
        _cleanup_free_ char *certificate = certificate_header(n.certificate), *csr = make_csr(n.key),
                            *unknown = NULL;
        const char *path = "/api/v1/node/config", *verified = "X-Client-Verify: SUCCESS";
        char *pem = NULL, serial[65];
        int64_t not_after;
        struct error e = {0};

        assert_problem(world_ask(w, ASK("GET", path, .headers = {certificate})), 401, "certificate.missing");
        assert_problem(world_ask(w, ASK("GET", path, .headers = {"X-Client-Verify: NONE", certificate})), 401,
                "certificate.missing");
        assert_problem(world_ask(w, ASK("GET", path,
                                            .headers = {"X-Client-Verify: FAILED:self signed", certificate})),
                403, "certificate.refused");
        assert_problem(world_ask(w, ASK("GET", path,
                                            .headers = {"X-Client-Verify: FAILED:certificate has expired",
                                                    certificate})),
                403, "certificate.expired");
        assert_problem(world_ask(w, ASK("GET", path, .headers = {verified, "X-Client-Certificate: %zz"})),
                403, "certificate.foreign");
        /* Of our CA, but not of our book: a node of another organisation than the certificate says. */
        assert_int_equal(ca_issue_node(w->ca, csr, n.id, w->other, clock_unix_ms() / 1000, &pem, serial,
                                 &not_after, &e),
                0);
        unknown = certificate_header(pem);
        free(pem);
        assert_problem(
                world_ask(w, ASK("GET", path, .headers = {verified, unknown})), 403, "certificate.revoked");
        /* A node is nobody to the operators' side. */
        assert_problem(world_ask(w, ASK("GET", "/api/v1/nodes", .headers = {verified, certificate})), 401,
                "session.missing");
        enrolled_done(&n);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_register),
                TEST(test_register_with_a_wrong_token),
                TEST(test_register_a_replacement),
                TEST(test_a_thousand_wrong_registrations),
                TEST(test_renew),
                TEST(test_renew_after_the_end),
                TEST(test_config),
                TEST(test_certificates_that_say_nothing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
