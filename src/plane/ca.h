/* The certificate authority: EC P-256, root → intermediate → leaf. STATE/ca/root/ has the root's key (used
 * only to sign an intermediate and the root's own list of revoked certificates; it may be taken away to a
 * safe place meanwhile), STATE/ca/ the rest: root.crt, intermediate-N.{key,crt}, bundle.crt, revoked.crl,
 * server/. */
#pragma once

#include "base/error.h"
#include "base/text.h"

#include <stdbool.h>
#include <stdint.h>

struct ca; /* opaque */

#define CA_NODE_DAYS   90
#define CA_SERVER_DAYS 90
#define CA_GRACE_DAYS  90 /* after its end a node's certificate is still good for a renewal */

/* Makes what is missing (a crash in between leaves nothing half: the next call goes on), renews the
 * intermediate at two thirds of its life when the root's key is there. 0 or -errno. */
int ca_open(const char *folder, int64_t now_unix, struct ca **ret, struct error *ret_error);
struct ca *ca_free(struct ca *c);
/* What ca_open does, again: to be called once a day. *ret_changed: the servers must read their files again.
 */
int ca_maintain(struct ca *c, int64_t now_unix, bool *ret_changed, struct error *ret_error);
/* Borrowed; ca_chain_pem's only until the next ca_maintain. */
const char *ca_root_pem(const struct ca *c);
const char *ca_chain_pem(const struct ca *c);   /* intermediates that are in force, newest first */
const char *ca_root_path(const struct ca *c);   /* files, for nginx and mosquitto */
const char *ca_bundle_path(const struct ca *c); /* root and intermediates */
const char *ca_crl_path(const struct ca *c);    /* root's and intermediates', always there and in force */
void ca_root_fingerprint(const struct ca *c, char ret[65]); /* SHA-256 of the DER, hex */

/* FOLDER/server/NAME.{crt,key}: made, or renewed (the key stays, so that the two fit at every moment) at two
 * thirds of its life or when the hosts changed; SAN: the hosts, names or addresses. NAME: an id. The paths
 * are the caller's. */
int ca_server_certificate(struct ca *c, const char *name, const struct strv *hosts, int64_t now_unix,
        bool *ret_changed, char **ret_certificate_path, char **ret_key_path, struct error *ret_error);

struct ca_request { /* a CSR that was looked at: its signature is right, its key is EC P-256 or P-384 */
        char public_key_sha256[65];
};
int ca_check_csr(const char *csr_pem, struct ca_request *ret, struct error *ret_error);
/* Subject: O = organisation's id, CN = node's id; nothing of the CSR but its key is taken over. clientAuth
 * only. The PEM has the leaf and the chain. */
int ca_issue_node(struct ca *c, const char *csr_pem, const char *node, const char *organisation,
        int64_t now_unix, char **ret_pem, char ret_serial[65], int64_t *ret_not_after_unix,
        struct error *ret_error); /* serials: upper-case hexadecimal, as in nginx's $ssl_client_serial */

struct ca_identity { /* of a node's certificate that our CA signed */
        char node[65], organisation[65], serial[65];
        char public_key_sha256[65];
        int64_t not_before_unix, not_after_unix;
};
/* Signatures and purpose are checked; the times are not: that is the caller's. -EACCES: not ours. */
int ca_identify(struct ca *c, const char *certificate_pem, struct ca_identity *ret, struct error *ret_error);
/* The signature of a renewal: ECDSA with SHA-256 by the certificate's key over `data`. */
int ca_verify_signature(const char *certificate_pem, const void *data, size_t length,
        const char *signature_base64, struct error *ret_error);
/* Writes the CRL anew with these serials and no others; valid 30 days, ca_maintain signs it again before it
 * ends. */
int ca_write_crl(struct ca *c, const struct strv *serials, int64_t now_unix, struct error *ret_error);
