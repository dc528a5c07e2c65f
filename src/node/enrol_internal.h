/* The parts of enrolment among themselves. */
#pragma once

#include "node/enrol.h"

#include "base/cleanup.h"
#include "net/https.h"
#include "net/x509.h"

DEFINE_CLEANUP(struct trust *, trust_free);

/* ---- enrol_way.c: one exchange with the plane ---- */

/* `like` says what to ask; host, port, addresses, source and proxy are filled in. Names are asked of the
 * site's DNS servers from the WAN; what the profile knows of the host comes after that. */
int enrol_way_ask(const struct node_settings *s, const char *host, uint16_t port,
        const struct https_request *like, struct https_answer *ret, struct error *ret_error);
/* By each service of the profile until one answers; those that carry `first` come first. An answer of 400 and
 * above is that host's word: an error. */
int enrol_way_ask_any(const struct node_settings *s, const char *first, const struct https_request *like,
        struct https_answer *ret, struct error *ret_error);

/* ---- enrol_key.c ---- */

/* STATE/node.key.new, made when it is missing, unreadable or the key `not` (may be NULL). */
int enrol_key_pending(const struct paths *p, EVP_PKEY * not, EVP_PKEY **ret, struct error *ret_error);
void enrol_key_forget_pending(const struct paths *p);
int enrol_key_load(const char *path, EVP_PKEY **ret, struct error *ret_error);
int enrol_key_save(const char *path, EVP_PKEY *key, struct error *ret_error);
/* A request (PKCS #10) for it; the caller's. */
int enrol_key_request(EVP_PKEY *key, char **ret_pem, struct error *ret_error);
/* Base64 of ECDSA with SHA-256; the caller's. */
int enrol_key_sign(EVP_PKEY *key, const char *data, char **ret, struct error *ret_error);

/* ---- enrol_identity.c ---- */

/* Makes STATE and becomes the user "gridnode", where this is root and there is one. */
int enrol_identity_prepare(const struct paths *p, struct error *ret_error);
/* Checks that all of it fits together and puts it in force. */
int enrol_identity_switch(const struct paths *p, const struct wire_identity *i, EVP_PKEY *key,
        int64_t *ret_not_after_unix, struct error *ret_error);

/* ---- enrol_repository.c: root's trust in the repository of packages ---- */

struct enrol_repository; /* opaque */
/* Before root's rights are given up: a child keeps them, and waits to be told. NULL where this is not root.
 */
int enrol_repository_begin(const struct paths *p, struct enrol_repository **ret, struct error *ret_error);
/* ETC/repo-keyring.gpg, and where there is a folder ROOT/etc/apt its sources.list.d/gridnode.sources, unless
 * somebody changed that. *ret_note: what a person should know of it; NULL, the caller's. */
int enrol_repository_write(struct enrol_repository *w, const char *keyring_base64, const char *host,
        uint16_t port, char **ret_note, struct error *ret_error);
struct enrol_repository *enrol_repository_end(struct enrol_repository *w);
/* The text of gridnode.sources: its first line has the hash of the rest. The caller's. */
char *enrol_repository_sources(const char *host, uint16_t port, const char *keyring_path);
bool enrol_repository_is_ours(const char *sources); /* and nobody changed it */
