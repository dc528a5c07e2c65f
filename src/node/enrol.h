/* Registration and renewal: key, CSR, and what the plane answered, on disk so that a crash at any point
 * leaves either the old identity or the new one. The private key never leaves the machine; files are 0600.
 * Waits: for commands. */
#pragma once

#include "node/settings.h"

struct enrol_options {
        const char *host;
        uint16_t port;
        const char *token_path;       /* register; "-": standard input */
        const char *root_ca_path;     /* register: one of these two */
        const char *root_fingerprint; /* SHA-256 of the DER, hex, colons and case do not matter */
        double timeout_ms;
};
/* A second use of the token, an expired one, a root that did not sign the server, a host that is not reached:
 * each its own code and sentence. Running it again after a crash or a lost answer ends the same registration
 * (same key). A node that is registered already: -EEXIST unless `again`. */
int enrol_register(
        struct settings_node *s, const struct enrol_options *o, bool again, struct error *ret_error);
/* With the present certificate, or for 90 days after its end. A new key. *ret_not_after_unix: of the new one.
 */
int enrol_renew(
        struct settings_node *s, double timeout_ms, int64_t *ret_not_after_unix, struct error *ret_error);
/* When the present certificate is to be renewed: two thirds of its life. 0 or -errno. */
int enrol_renewal_time(
        const struct settings_node *s, int64_t *ret_unix, int64_t *ret_not_after_unix, struct error *e);
