// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include "diagnose/interceptors.h"

#include <string.h>

static void test_known(void **state)
{
        static const struct {
                const char *name, *product;
        } rows[] = {
                {"O = Fortinet, CN = Fortinet Untrusted CA", "Fortinet"},
                {"CN=FortiGate CA,OU=Certificate Authority,O=Fortinet,L=Sunnyvale,ST=California,C=US",
                        "Fortinet"},
                {"CN=Zscaler Intermediate Root CA (zscalerthree.net) (t),OU=Zscaler Inc.,O=Zscaler Inc.",
                        "Zscaler"},
                {"O=Cisco, CN=Cisco Umbrella Root CA", "Cisco Umbrella"},
                {"CN=Cisco Umbrella Primary SubCA, O=Cisco", "Cisco Umbrella"},
                {"CN=Forcepoint Cloud CA,O=Forcepoint LLC", "Forcepoint"},
                {"CN=caadmin.netskope.com", "Netskope"},
                {"CN=Sophos SSL CA_C110BAD4,O=Sophos", "Sophos"},
                {"O=Cyberoam Certificate Authority", "Sophos Cyberoam"},
                {"CN=McAfee Web Gateway", "Skyhigh (McAfee) Web Gateway"},
                {"CN=IWSS.TREND", "Trend Micro"},
                {"CN=Kaspersky Anti-Virus Personal Root Certificate", "Kaspersky"},
                {"CN=ESET SSL Filter CA,O=ESET\\, spol. s r. o.,C=SK", "ESET"},
                {"CN=Bitdefender Personal CA.Net-Defender,O=Bitdefender", "Bitdefender"},
                {"CN=avast! Web/Mail Shield Root,O=avast! Web/Mail Shield", "Avast"},
                {"CN=Smoothwall-default-root-certificate-authority", "Smoothwall"},
                {"CN=ContentKeeper Appliance CA (1234),O=ContentKeeper Technologies", "ContentKeeper"},
                {"CN=Gateway CA - Cloudflare Managed G1 3d0282", "Cloudflare Gateway"},
                {"CN=DO_NOT_TRUST_FiddlerRoot,O=DO_NOT_TRUST", "Fiddler"},
                {"CN=PortSwigger CA,OU=PortSwigger CA,O=PortSwigger", "Burp Suite"},
                {"CN=mitmproxy,O=mitmproxy", "mitmproxy"},
                {"CN=squid.branch.example", "Squid"},
                {"CN=SZ IT,O=SANGFOR,OU=SSL", "Sangfor"},
        };

        (void)state;
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
                const char *found = interceptor_name(rows[i].name);

                if (!found || strcmp(found, rows[i].product))
                        fail_msg("%s: %s", rows[i].name, found ? found : "unknown");
        }
}

/* Ordinary authorities, and names that only contain a product's letters. */
static void test_unknown(void **state)
{
        static const char *const rows[] = {
                "",
                "C=US,O=Let's Encrypt,CN=R3",
                "CN=DigiCert Global Root G2,O=DigiCert Inc",
                "C=US,O=Google Trust Services LLC,CN=GTS Root R1",
                "O=CloudFlare\\, Inc.,CN=Cloudflare Inc ECC CA-3",
                "CN=Microsoft RSA TLS CA 01,O=Microsoft Corporation",
                "CN=Symantec Class 3 Secure Server CA - G4,O=Symantec Corporation",
                "CN=Preset Resettable Root CA",
                "O=Example Corp,CN=Example Corp Internal Root",
                "O=Grid,CN=Grid Root CA",
                "CN=example.com,O=Vasquid GmbH",
        };

        (void)state;
        assert_null(interceptor_name(NULL));
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
                if (interceptor_name(rows[i]))
                        fail_msg("%s is taken for %s", rows[i], interceptor_name(rows[i]));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_known),
                cmocka_unit_test(test_unknown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
