/* What nginx asks before it passes a request on to the registry of images. */
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

#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)

static long judge(struct world *w, const char *method, const char *uri, const char *who)
{
        _cleanup_free_ char *target = xasprintf("X-Original-URI: %s", uri),
                            *how = xasprintf("X-Original-Method: %s", method);
        struct answer a = world_ask(w, ASK("GET", "/internal/registry", .headers = {target, how, who}));
        long status = a.status;

        answer_done(&a);
        return status;
}

/* "Authorization: Basic …" as docker sends it. The caller's. */
static char *basic(const char *token)
{
        _cleanup_free_ char *both = xasprintf("anybody:%s", token), *encoded = xcalloc(1, 256);

        EVP_EncodeBlock((unsigned char *)encoded, (const unsigned char *)both, (int)strlen(both));
        return xasprintf("Authorization: Basic %s", encoded);
}

static void test_people(void **state)
{
        struct world *w = *state;
        _cleanup_free_ char *viewer = basic(w->viewer), *operator= basic(w->operator),
                            *wrong = basic("gpt_wrong"),
                            *bearer = xasprintf("Authorization: Bearer %s", w->viewer);
        struct answer a =
                world_ask(w, ASK("GET", "/internal/registry",
                                     .headers = {"X-Original-URI: /v2/", "X-Original-Method: GET"}));

        assert_string_equal(answer_header(&a, "WWW-Authenticate"), "Basic realm=\"gridplane\"");
        assert_problem(a, 401, "registry.credentials");
        assert_int_equal(judge(w, "GET", "/v2/", wrong), 401);
        assert_int_equal(judge(w, "GET", "/v2/", viewer), 204);
        assert_int_equal(judge(w, "GET", "/v2/", bearer), 204);
        assert_int_equal(judge(w, "GET", "/v2/default/app/manifests/1.0", viewer), 204);
        assert_int_equal(judge(w, "HEAD", "/v2/default/app/blobs/sha256:0123", viewer), 204);
        assert_int_equal(judge(w, "PUT", "/v2/default/app/manifests/1.0", viewer), 403);
        assert_int_equal(judge(w, "PUT", "/v2/default/app/manifests/1.0", operator), 204);
        assert_int_equal(judge(w, "POST", "/v2/default/app/blobs/uploads/", operator), 204);
        assert_int_equal(
                judge(w, "PATCH", "/v2/default/app/blobs/uploads/u-1?_state=a%2Fb%3D", operator), 204);
        assert_int_equal(judge(w, "DELETE", "/v2/default/app/manifests/sha256:0123", operator), 204);
}

static void test_nothing_crosses(void **state)
{
        struct world *w = *state;
        _cleanup_free_ char *operator= basic(w->operator), *stranger = basic(w->stranger);
        static const char *const paths[] = {
                "/v2/other/app/manifests/1.0",
                "/v2/_catalog",
                "/v2/_catalog?n=100",
                "/v2/app/manifests/1.0",
                "/v2/other/app/tags/list",
                "/v2/default/../other/app/manifests/1.0",
                "/v2/default/%2e%2e/other/manifests/1.0",
                "/v2/default%2f..%2fother/app/manifests/1.0",
                "/v2//other/app/manifests/1.0",
                "/v2/DEFAULT/app/manifests/1.0",
                "/v1/default/app/manifests/1.0",
                "/api/v1/nodes",
                "nonsense",
                "",
        };

        for (size_t i = 0; i < ELEMENTS(paths); i++)
                if (judge(w, "GET", paths[i], operator) != 403)
                        fail_msg("%s", paths[i]);
        assert_int_equal(judge(w, "GET", "/v2/other/app/manifests/1.0", stranger), 204);
        /* A blob of another organisation is not to be had by mounting it, either. */
        assert_int_equal(
                judge(w, "POST", "/v2/default/app/blobs/uploads/?mount=sha256:0123&from=other/app", operator),
                403);
        assert_int_equal(
                judge(w, "POST",
                        "/v2/default/app/blobs/uploads/?from=other%2Fapp&mount=sha256:0123", operator),
                403);
        assert_int_equal(
                judge(w, "POST", "/v2/default/app/blobs/uploads/?from=default/x&from=other/app", operator),
                403);
        assert_int_equal(
                judge(w, "POST",
                        "/v2/default/app/blobs/uploads/?mount=sha256:0123&from=default/base", operator),
                204);
}

/* A node pulls what is its organisation's, and changes nothing. */
static void test_nodes(void **state)
{
        struct world *w = *state;
        struct enrolled n = world_enrol(w, w->organisation, "branch-1");
        _cleanup_free_ char *certificate = certificate_header(n.certificate);
        static const struct {
                const char *method, *uri;
                long status;
        } cases[] = {
                {"GET", "/v2/", 204},
                {"GET", "/v2/default/app/manifests/1.0", 204},
                {"GET", "/v2/other/app/manifests/1.0", 403},
                {"PUT", "/v2/default/app/manifests/1.0", 403},
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_free_ char *uri = xasprintf("X-Original-URI: %s", cases[i].uri),
                                    *method = xasprintf("X-Original-Method: %s", cases[i].method);
                struct answer a = world_ask(
                        w, ASK("GET", "/internal/registry",
                                   .headers = {uri, method, "X-Client-Verify: SUCCESS", certificate}));

                assert_int_equal(a.status, cases[i].status);
                answer_done(&a);
        }
        json_decref(world_get(w, 204, ASK("DELETE", "/api/v1/nodes/branch-1", .token = w->operator)));
        assert_problem(world_ask(w, ASK("GET", "/internal/registry",
                                            .headers = {"X-Original-URI: /v2/", "X-Original-Method: GET",
                                                    "X-Client-Verify: SUCCESS", certificate})),
                403, "certificate.revoked");
        enrolled_done(&n);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_people),
                TEST(test_nothing_crosses),
                TEST(test_nodes),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
