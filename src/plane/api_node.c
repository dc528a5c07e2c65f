/* What nodes ask over HTTPS: to register, to renew, for their configuration. Registration and renewal need no
 * client certificate: a one-time token, or the old key's signature, stand for it. */
#include "plane/api_internal.h"

#include "plane/api_credentials.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MINUTE_US UINT64_C(60000000)
#define DAY_S     INT64_C(86400)

static struct inet_addr client_address(const struct exchange *x)
{
        const char *header = api_header(x, "X-Forwarded-For");
        struct inet_addr a = {.family = AF_INET}; /* none: one for all of those */

        if (header)
                credentials_forwarded(header, &a);
        return a;
}

static void log_wrong(struct exchange *x, const char *code)
{
        const char *header = api_header(x, "X-Forwarded-For");
        struct inet_addr a = client_address(x);
        char from[INET_ADDR_TEXT], count[16];
        unsigned suppressed = 0;

        if (!log_limit_allows(&x->api->wrong_log, (uint64_t)clock_unix_ms() * 1000, MINUTE_US, &suppressed))
                return;
        snprintf(count, sizeof count, "%u", suppressed);
        log_event(LOG_LEVEL_WARNING, "A registration or renewal was refused", "code", code, "from",
                header ? inet_addr_format(&a, from) : NULL, "suppressed", suppressed ? count : NULL, NULL);
}

static void refuse(struct exchange *x, unsigned status, const char *code, const char *detail)
{
        struct inet_addr a = client_address(x);

        limit_failed(x->api->limit, &a, clock_unix_ms());
        x->api->refused_registrations++;
        log_wrong(x, code);
        api_problem(x, status, code, "%s", detail);
}

static bool may_try(struct exchange *x)
{
        struct inet_addr a = client_address(x);
        int64_t wait_ms = limit_wait_ms(x->api->limit, &a, clock_unix_ms());

        if (wait_ms == 0)
                return true;
        x->api->refused_registrations++;
        log_wrong(x, "registration.slowed");
        api_problem_wait(x, MHD_HTTP_TOO_MANY_REQUESTS, "registration.slowed", wait_ms,
                "too many wrong registrations from this address; wait before the next");
        return false;
}

/* The enrolment of the body, of which the CSR is looked at, too. False after replying. */
static bool take_enrolment(
        struct exchange *x, bool renew, struct wire_enrolment *ret, struct ca_request *ret_request)
{
        struct error e = {0};

        if (!may_try(x))
                return false;
        if (wire_enrolment_parse(x->body ? x->body : "", x->body_length, renew, ret, &e) < 0) {
                refuse(x, MHD_HTTP_BAD_REQUEST, "body.malformed", e.text);
                return false;
        }
        if (ca_check_csr(ret->csr_pem, ret_request, &e) == 0)
                return true;
        refuse(x, MHD_HTTP_BAD_REQUEST, e.code ? e.code : "csr.refused", e.text);
        wire_enrolment_done(ret);
        return false;
}

/* Whether a certificate that was given out for this key before is the answer again: it is in force. */
static bool is_in_force(struct exchange *x, const char *pem)
{
        struct ca_identity i;

        return ca_identify(x->api->options.ca, pem, &i, NULL) == 0 &&
               i.not_after_unix > clock_unix_ms() / 1000;
}

/* The node's certificate for this key: the same again, or a new one. 0 or -errno. */
static int certificate_for(struct exchange *x, const struct plane_node *node, const char *csr,
        const char *key, char **ret_pem, struct error *e)
{
        const struct api_options *o = &x->api->options;
        _cleanup_free_ char *pem = NULL;
        int64_t now = clock_unix_ms(), not_after;
        char serial[65];
        int r = plane_certificate_find(o->store, node->id, key, &pem, e);

        if (r < 0 && r != -ENOENT)
                return r;
        if (r < 0 || !pem || !is_in_force(x, pem)) {
                free(pem);
                pem = NULL;
                r = ca_issue_node(
                        o->ca, csr, node->id, node->organisation, now / 1000, &pem, serial, &not_after, e);
                if (r == 0)
                        r = plane_certificate_add(
                                o->store, node->id, serial, key, not_after * 1000, pem, now, e);
                if (r < 0)
                        return r;
        }
        *ret_pem = TAKE_PTR(pem);
        return 0;
}

static void reply_identity(
        struct exchange *x, const struct plane_node *node, const char *csr, const char *key)
{
        const struct api_options *o = &x->api->options;
        _cleanup_free_ char *pem = NULL, *profile = NULL, *keyring = NULL;
        struct error e = {0};
        int r = certificate_for(x, node, csr, key, &pem, &e);

        if (r < 0) {
                api_problem_error(x, r, &e);
                return;
        }
        profile = plane_settings_profile(o->settings);
        if (o->packages)
                keyring = packages_keyring(o->packages, node->organisation);
        api_reply_json(x, MHD_HTTP_OK,
                wire_identity_to_json(&(struct wire_identity){.node = (char *)node->id,
                        .name = (char *)node->name,
                        .organisation = (char *)node->organisation,
                        .certificate_pem = pem,
                        .root_pem = (char *)ca_root_pem(o->ca),
                        .profile = profile,
                        .profile_name = o->settings->profile_name,
                        .apt_keyring = keyring}));
}

/* ---- registration ---- */

static void refuse_token(struct exchange *x, int r, const struct error *e)
{
        if (r == -ENOENT)
                refuse(x, MHD_HTTP_NOT_FOUND, "token.unknown",
                        "this token is not known: it was mistyped, or replaced by a newer one, or its node "
                        "was removed");
        else if (r == -EEXIST)
                refuse(x, MHD_HTTP_CONFLICT, "token.used",
                        "this token was used already, by another key; make a new one (gridplane node token "
                        "NAME)");
        else if (r == -ESTALE)
                refuse(x, MHD_HTTP_GONE, "token.expired",
                        "this token has expired (24 hours); make a new one (gridplane node token NAME)");
        else
                api_problem_error(x, r, e);
}

/* A machine took the place of another: the old one's certificates are revoked by the same token. */
static void tell_of_replacement(struct exchange *x, const struct plane_node *node, int64_t now)
{
        const struct api_options *o = &x->api->options;
        int64_t count = 0;

        db_query_integer(plane_store_db(o->store), NULL, 0, &count,
                "SELECT count(*) FROM certificates WHERE node = ? AND revoked = ?", "si", node->id, now);
        if (count > 0 && o->on_revoked)
                o->on_revoked(o->userdata);
}

void api_node_register(struct exchange *x)
{
        int64_t now = clock_unix_ms();
        struct wire_enrolment enrolment;
        struct ca_request request;
        struct plane_node node;
        struct error e = {0};
        int r;

        if (!take_enrolment(x, false, &enrolment, &request))
                return;
        r = plane_node_redeem(
                x->api->options.store, enrolment.token, request.public_key_sha256, now, &node, &e);
        if (r < 0)
                refuse_token(x, r, &e);
        else {
                tell_of_replacement(x, &node, now);
                reply_identity(x, &node, enrolment.csr_pem, request.public_key_sha256);
                api_node_changed(x->api, node.organisation, node.id);
        }
        wire_enrolment_done(&enrolment);
}

/* ---- renewal ---- */

static bool signature_is_right(struct exchange *x, const struct wire_enrolment *n, struct ca_identity *i)
{
        struct error e = {0};

        if (ca_identify(x->api->options.ca, n->certificate_pem, i, &e) < 0) {
                refuse(x, MHD_HTTP_FORBIDDEN, "certificate.foreign",
                        "the certificate is not one of this control plane's");
                return false;
        }
        if (ca_verify_signature(n->certificate_pem, n->csr_pem, strlen(n->csr_pem), n->signature, &e) == 0)
                return true;
        refuse(x, MHD_HTTP_FORBIDDEN, "signature.wrong",
                "the request is not signed by the certificate's key");
        return false;
}

static bool may_renew(struct exchange *x, const struct ca_identity *i, struct plane_node *ret)
{
        struct plane_store *s = x->api->options.store;
        struct error e = {0};
        int r = plane_certificate_check(s, i->node, i->serial, &e);

        if (r == 0)
                r = plane_node_find(s, NULL, i->node, ret, &e);
        if (r < 0 && r != -EACCES && r != -ENOENT && r != -EPERM) {
                api_problem_error(x, r, &e);
                return false;
        }
        if (r < 0 || !str_equal(ret->organisation, i->organisation)) {
                refuse(x, MHD_HTTP_FORBIDDEN, "certificate.revoked",
                        "this certificate was revoked, or its node was removed; register the node anew");
                return false;
        }
        if (clock_unix_ms() / 1000 <= i->not_after_unix + CA_GRACE_DAYS * DAY_S)
                return true;
        refuse(x, MHD_HTTP_FORBIDDEN, "certificate.expired",
                "the certificate expired more than 90 days ago; register the node anew (gridplane node token "
                "NAME)");
        return false;
}

void api_node_renew(struct exchange *x)
{
        struct wire_enrolment enrolment;
        struct ca_request request;
        struct ca_identity identity;
        struct plane_node node;

        if (!take_enrolment(x, true, &enrolment, &request))
                return;
        if (signature_is_right(x, &enrolment, &identity) && may_renew(x, &identity, &node)) {
                if (str_equal(request.public_key_sha256, identity.public_key_sha256))
                        refuse(x, MHD_HTTP_BAD_REQUEST, "csr.same-key",
                                "a renewal needs a new key: this is the old one");
                else
                        reply_identity(x, &node, enrolment.csr_pem, request.public_key_sha256);
        }
        wire_enrolment_done(&enrolment);
}

/* ---- configuration ---- */

void api_node_config(struct exchange *x)
{
        const char *known = api_header(x, MHD_HTTP_HEADER_IF_NONE_MATCH);
        json_auto_t *value = NULL;
        struct error e = {0};
        char tag[32];
        int64_t version;
        int r = plane_config_for_node(x->api->options.store, x->organisation, x->node.id, &value, &e);

        if (r < 0) {
                api_problem_error(x, r, &e);
                return;
        }
        version = json_integer_value(json_object_get(value, "version"));
        if (version == 0) {
                api_reply_empty(x, MHD_HTTP_NO_CONTENT);
                return;
        }
        snprintf(tag, sizeof tag, "\"%lld\"", (long long)version);
        if (known && (str_equal(known, tag) || str_equal(known, "*")))
                api_reply_empty(x, MHD_HTTP_NOT_MODIFIED);
        else
                api_reply_json(x, MHD_HTTP_OK, json_incref(value));
        api_reply_header(x, MHD_HTTP_HEADER_ETAG, tag);
}
