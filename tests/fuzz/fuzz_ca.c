/* What nodes send to the plane's authority: a request for a certificate, a certificate that is shown, a
 * signature. The authority is a fixed one, whose keys nobody has any more, so that the corpus can hold
 * certificates that are its own. */
#include "fuzz.h"

#include "plane/ca_internal.h"

#include "base/alloc.h"

#include <errno.h>
#include <openssl/err.h>
#include <string.h>

/* clang-format off */
static const char root_pem[] =
        "-----BEGIN CERTIFICATE-----\n"
        "MIIB0DCCAXagAwIBAgIRANVSOZte/x8trQ5k7MsWN6EwCgYIKoZIzj0EAwIwNzER\n"
        "MA8GA1UECgwIR3JpZG5vZGUxIjAgBgNVBAMMGUdyaWRub2RlIFJvb3QgQ0EgMDg3\n"
        "NDdjZDMwHhcNMjYxMTIxMDIwMDAwWhcNNDYxMTIxMDMwMDAwWjA3MREwDwYDVQQK\n"
        "DAhHcmlkbm9kZTEiMCAGA1UEAwwZR3JpZG5vZGUgUm9vdCBDQSAwODc0N2NkMzBZ\n"
        "MBMGByqGSM49AgEGCCqGSM49AwEHA0IABNFXMH6tCALC5sdWxxByaXPP3z9NRSL5\n"
        "NMLIGySbd2CMfZpynmdJvdmSmb8HNcwryoPnNLzkobi2A2kQ5GdlAnCjYzBhMA8G\n"
        "A1UdEwEB/wQFMAMBAf8wDgYDVR0PAQH/BAQDAgEGMB0GA1UdDgQWBBQLzlIwnxub\n"
        "2puG+NLk0xPqH/nUzzAfBgNVHSMEGDAWgBQLzlIwnxub2puG+NLk0xPqH/nUzzAK\n"
        "BggqhkjOPQQDAgNIADBFAiB+UO6xMoHWhVi5TzflLnvFXu5wzJ6i2MRY9Pe1X6gx\n"
        "XgIhANR5kULMN796+etSK8WBpgbuoITWtYtnSADg70M0ZAGE\n"
        "-----END CERTIFICATE-----\n";
static const char intermediate_pem[] =
        "-----BEGIN CERTIFICATE-----\n"
        "MIIB0TCCAXagAwIBAgIRAPUU/U/LFrU9I2scMJFvYh4wCgYIKoZIzj0EAwIwNzER\n"
        "MA8GA1UECgwIR3JpZG5vZGUxIjAgBgNVBAMMGUdyaWRub2RlIFJvb3QgQ0EgMDg3\n"
        "NDdjZDMwHhcNMjYxMTIxMDIwMDAwWhcNMzExMTIxMDMwMDAwWjA0MREwDwYDVQQK\n"
        "DAhHcmlkbm9kZTEfMB0GA1UEAwwWR3JpZG5vZGUgQ0EgMSAwODc0N2NkMzBZMBMG\n"
        "ByqGSM49AgEGCCqGSM49AwEHA0IABOgA+81tuqzinRBkTske77B0WiWkYbPd38H+\n"
        "IwXqvpGHRk83hyfyZnZKRlC+5tg1dU2p/pall32LBHIrsz64G7ejZjBkMBIGA1Ud\n"
        "EwEB/wQIMAYBAf8CAQAwDgYDVR0PAQH/BAQDAgEGMB0GA1UdDgQWBBT6YrtEunf6\n"
        "u1RF6kscTIoAiLGs+DAfBgNVHSMEGDAWgBQLzlIwnxub2puG+NLk0xPqH/nUzzAK\n"
        "BggqhkjOPQQDAgNJADBGAiEA4NvRoNXxQ7SKuL8TWAdqC+Jt/TjOsbdEAOd46OvI\n"
        "eTACIQCzXyo7astVSGhXVTbRrP3zVXJahLZBVnJfMhOvUFXc/A==\n"
        "-----END CERTIFICATE-----\n";
/* clang-format on */

static struct ca *authority(void)
{
        static struct ca ca;

        if (ca.root.certificate)
                return &ca;
        if (ca_parse_certificate(root_pem, strlen(root_pem), "root", &ca.root.certificate, NULL) < 0 ||
                ca_parse_certificate(intermediate_pem, strlen(intermediate_pem), "intermediate",
                        &ca.intermediates[0].certificate, NULL) < 0)
                abort();
        ca.intermediate_count = 1;
        return &ca;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_free_ char *text = xstrndup((const char *)data, size);
        struct ca_request request = {0};
        struct ca_identity who = {0};
        struct error e = {0};

        if (ca_check_csr(text, &request, &e) == 0 && strlen(request.public_key_sha256) != 64)
                abort();
        /* The only node that this authority ever certified. */
        if (ca_identify(authority(), text, &who, &e) == 0 &&
                (strcmp(who.node, "n-one") != 0 || strcmp(who.organisation, "o-one") != 0))
                abort();
        if (ca_verify_signature(text, data, size, "AAAA", &e) == 0)
                abort();
        if (ca_verify_signature(intermediate_pem, "request", 7, text, &e) == 0)
                abort();
        if (ERR_peek_error())
                abort();
        return 0;
}
