/* Registration and renewal: key, CSR, and what the plane answered, on disk so that a crash at any point
 * leaves either the old identity or the new one. The private key never leaves the machine, and its file is
 * 0600; the rest of an identity is public, for the hand tools of everybody. Waits: for commands.
 *
 * An identity is a folder, STATE/identity-…, with node.key, node.crt, grid-root.pem, PROFILE.profile and
 * identity.json. STATE/identity is a symlink to the one in force, and STATE/node.key … are symlinks through
 * it, so that one rename changes all of them. The key of a request that was not answered yet is
 * STATE/node.key.new.
 */
#pragma once

#include "node/settings.h"

struct enrol_options {
        const char *host;
        uint16_t port;
        const char *token_path;       /* register; "-": standard input */
        const char *root_ca_path;     /* register: one of these two */
        const char *root_fingerprint; /* SHA-256 of the DER, hex, colons and case do not matter */
        double timeout_ms;
        char **ret_note; /* NULL, or where what a person should know goes; the caller's */
};
/* A second use of the token, an expired one, a root that did not sign the server, a host that is not reached:
 * each its own code and sentence. Running it again after a crash or a lost answer ends the same registration
 * (same key). A node that is registered already: -EEXIST unless `again`. On success `s` says who the node is.
 * As root, where there is a user "gridnode", it becomes that user before it writes. What is root's alone,
 * ETC/repo-keyring.gpg and apt's source, is written by a child that has stayed root; that failing is told,
 * and the node is registered all the same. */
int enrol_register(
        struct node_settings *s, const struct enrol_options *o, bool again, struct error *ret_error);
/* With the present certificate, or for 90 days after its end. A new key. *ret_not_after_unix: of the new one.
 */
int enrol_renew(
        struct node_settings *s, double timeout_ms, int64_t *ret_not_after_unix, struct error *ret_error);

struct enrol_config {
        int status;     /* 200, 204: there is none, 304: the one of `etag` */
        char *etag;     /* NULL: none */
        json_t *config; /* 200: checked by wire_config_parse */
};
void enrol_config_done(struct enrol_config *c);
/* The configuration that the plane wants for this node, by mutual TLS. `etag` may be NULL. */
int enrol_fetch_config(const struct node_settings *s, const char *etag, double timeout_ms,
        struct enrol_config *ret, struct error *ret_error);
