#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "payload.h"

static const char registration[] = "{\"schema\":1,\"token\":\"gnt_x\",\"csr\":\"PEM\\n\"}";
static const char renewal[] =
        "{\"schema\":1,\"csr\":\"PEM\\n\",\"certificate\":\"OLD\\n\",\"signature\":\"c2ln\"}";
static const char identity[] = "{\"schema\":1,\"node\":\"n-1\",\"name\":\"branch-12\",\"organisation\":\"o-"
                               "1\",\"certificate\":\"LEAF\\n\",\"root\":"
                               "\"ROOT\\n\",\"profile\":\"[profile]\\n\",\"profile_name\":\"grid\"}";

static const char with_keyring[] =
        "{\"schema\":1,\"node\":\"n-1\",\"name\":\"branch-12\",\"organisation\":\"o-1\",\"certificate\":"
        "\"LEAF\\n\",\"root\":\"ROOT\\n\",\"profile\":\"[profile]\\n\",\"profile_name\":\"grid\","
        "\"apt_keyring\":\"mDMEZw==\"}";

static int parse_registration(
        const void *data, size_t length, struct wire_enrolment *ret, struct error *ret_error)
{
        return wire_enrolment_parse(data, length, false, ret, ret_error);
}

static int parse_renewal(const void *data, size_t length, struct wire_enrolment *ret, struct error *ret_error)
{
        return wire_enrolment_parse(data, length, true, ret, ret_error);
}

static void test_registration(void **state)
{
        static const struct payload_case cases[] = {
                {"{\"schema\":1,\"csr\":\"x\"}", "registration: member 'token' is missing"},
                {"{\"schema\":1,\"token\":\"\",\"csr\":\"x\"}", "registration: member 'token' is empty"},
                {"{\"schema\":1,\"token\":\"t\",\"csr\":7}", "registration: member 'csr' is not a text"},
        };
        struct wire_enrolment e;

        (void)state;
        PARSE(parse_registration, registration, &e);
        assert_string_equal(e.token, "gnt_x");
        assert_string_equal(e.csr_pem, "PEM\n");
        assert_null(e.certificate_pem);
        ASSERT_WRITES(wire_enrolment_to_json(&e), registration);
        wire_enrolment_done(&e);
        assert_null(e.token);
        ASSERT_CASES_REFUSED(parse_registration, struct wire_enrolment, cases);
        ASSERT_BEARS_HARM(parse_registration, wire_enrolment_done, struct wire_enrolment, registration);
}

static void test_renewal(void **state)
{
        static const struct payload_case cases[] = {
                {"{\"schema\":1,\"token\":\"t\",\"csr\":\"x\"}", "renewal: member 'certificate' is missing"},
                {"{\"schema\":1,\"csr\":\"x\",\"certificate\":\"x\"}",
                        "renewal: member 'signature' is missing"},
        };
        struct wire_enrolment e;

        (void)state;
        PARSE(parse_renewal, renewal, &e);
        assert_null(e.token);
        assert_string_equal(e.certificate_pem, "OLD\n");
        assert_string_equal(e.signature, "c2ln");
        ASSERT_WRITES(wire_enrolment_to_json(&e), renewal);
        wire_enrolment_done(&e);
        ASSERT_CASES_REFUSED(parse_renewal, struct wire_enrolment, cases);
        ASSERT_BEARS_HARM(parse_renewal, wire_enrolment_done, struct wire_enrolment, renewal);
}

static void test_long_csr(void **state)
{
        json_t *j = json_loads(registration, 0, NULL);
        char csr[8194];
        _cleanup_free_ char *text = NULL;

        (void)state;
        memset(csr, 'x', sizeof csr);
        csr[8193] = '\0';
        json_object_set_new(j, "csr", json_string(csr));
        text = json_to_text(j);
        json_decref(j);
        ASSERT_REFUSED(parse_registration, struct wire_enrolment, text, strlen(text), EBADMSG,
                "registration: member 'csr' is longer than 8192 bytes");
}

#define BEGIN                                                                                         \
        "{\"schema\":1,\"node\":\"n-1\",\"name\":\"b\",\"organisation\":\"o\",\"certificate\":\"c\"," \
        "\"root\":\"r\","

static void test_identity(void **state)
{
        static const struct payload_case cases[] = {
                {"{\"schema\":1,\"node\":\"../n\"}", "identity: member 'node' is not an id"},
                {"{\"schema\":1,\"node\":\"n\",\"name\":\"a\\nb\"}",
                        "identity: member 'name' has bytes that cannot be shown"},
                {BEGIN "\"profile\":\"\"}", "identity: member 'profile' is empty"},
                {BEGIN "\"profile\":\"p\",\"profile_name\":\"../../x\"}",
                        "identity: member 'profile_name' is not of letters, digits, - and _"},
                {BEGIN "\"profile\":\"p\",\"profile_name\":\".x\"}",
                        "identity: member 'profile_name' is not of letters, digits, - and _"},
                {BEGIN "\"profile\":\"p\",\"profile_name\":\"x\",\"apt_keyring\":\"\"}",
                        "identity: member 'apt_keyring' is not base64"},
                {BEGIN "\"profile\":\"p\",\"profile_name\":\"x\",\"apt_keyring\":\"mDM\"}",
                        "identity: member 'apt_keyring' is not base64"},
                {BEGIN "\"profile\":\"p\",\"profile_name\":\"x\",\"apt_keyring\":\"mD=E\"}",
                        "identity: member 'apt_keyring' is not base64"},
        };
        struct wire_identity i;

        (void)state;
        PARSE(wire_identity_parse, identity, &i);
        assert_string_equal(i.node, "n-1");
        assert_string_equal(i.name, "branch-12");
        assert_string_equal(i.organisation, "o-1");
        assert_string_equal(i.certificate_pem, "LEAF\n");
        assert_string_equal(i.root_pem, "ROOT\n");
        assert_string_equal(i.profile, "[profile]\n");
        assert_string_equal(i.profile_name, "grid");
        ASSERT_WRITES(wire_identity_to_json(&i), identity);
        assert_null(i.apt_keyring); /* of a plane that has none */
        wire_identity_done(&i);
        assert_null(i.node);
        PARSE(wire_identity_parse, with_keyring, &i);
        assert_string_equal(i.apt_keyring, "mDMEZw==");
        ASSERT_WRITES(wire_identity_to_json(&i), with_keyring);
        wire_identity_done(&i);
        ASSERT_CASES_REFUSED(wire_identity_parse, struct wire_identity, cases);
        ASSERT_BEARS_HARM(wire_identity_parse, wire_identity_done, struct wire_identity, identity);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_registration),
                cmocka_unit_test(test_renewal),
                cmocka_unit_test(test_long_csr),
                cmocka_unit_test(test_identity),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
