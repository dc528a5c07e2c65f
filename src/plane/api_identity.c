/* Who asks. Three kinds: this machine's administrator (by the socket he came on), people and programs
 * (session or token), nodes (certificate). What a client says of itself in other ways is not listened to. */
#include "plane/api_internal.h"

#include "plane/api_credentials.h"

#include <errno.h>
#include <pwd.h>
#include <sodium.h>
#include <string.h>
#include <sys/socket.h>

#define CERTIFICATE_MAXIMUM ((size_t)16 << 10)

/* ---- this machine ---- */

static bool peer_user(int fd, uid_t *ret)
{
        struct ucred peer = {0};
        socklen_t length = sizeof peer;

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
                return false;
        *ret = peer.uid;
        return peer.uid == 0 || peer.uid == geteuid();
}

static bool choose_organisation(struct exchange *x)
{
        const char *wanted = api_header(x, "X-Organisation");
        struct error e = {0};
        int r = plane_org_find(
                x->api->options.store, wanted ? wanted : ORGANISATION_DEFAULT, x->organisation, &e);

        if (r == -ENOENT)
                api_problem(x, MHD_HTTP_NOT_FOUND, "organisation.unknown", "there is no organisation '%s'",
                        wanted ? wanted : ORGANISATION_DEFAULT);
        else if (r < 0)
                api_problem_error(x, r, &e);
        return r == 0;
}

static bool identify_local(struct exchange *x)
{
        const union MHD_ConnectionInfo *info =
                MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        uid_t user = 0;

        if (!info || !peer_user(info->connect_fd, &user)) {
                api_problem(x, MHD_HTTP_FORBIDDEN, "peer.denied",
                        "this socket is for root and the control plane's own user only");
                return false;
        }
        if (x->route->access == ACCESS_NODE) {
                api_problem(x, MHD_HTTP_FORBIDDEN, "certificate.missing",
                        "only a node with its certificate may ask this");
                return false;
        }
        snprintf(x->actor.name, sizeof x->actor.name, user == 0 ? "local:root" : "local:uid-%u",
                (unsigned)user);
        x->actor.role = ROLE_ADMIN;
        return choose_organisation(x);
}

/* ---- people and programs ---- */

static bool unauthorised(struct exchange *x, const char *code, const char *text)
{
        api_problem(x, MHD_HTTP_UNAUTHORIZED, code, "%s", text);
        return false;
}

/* -ENOENT and its like are "not known"; a broken database is not the client's fault. */
static bool refuse_credentials(
        struct exchange *x, int r, const struct error *e, const char *code, const char *text)
{
        if (r == -ENOENT || r == -ESTALE || r == -EACCES || r == -EINVAL)
                return unauthorised(x, code, text);
        api_problem_error(x, r, e);
        return false;
}

static bool by_token(struct exchange *x, const char *header)
{
        static const char text[] = "this API token is not known, was removed, or has expired";
        char secret[CREDENTIAL_MAXIMUM];
        struct error e = {0};
        int r = credentials_bearer(header, secret);

        if (r < 0 || !str_starts_with(secret, "gpt_"))
                return unauthorised(x, "token.malformed", "the Authorization header is not 'Bearer gpt_…'");
        r = plane_token_find(x->api->options.store, secret, clock_unix_ms(), &x->actor, &e);
        explicit_bzero(secret, sizeof secret);
        return r == 0 || refuse_credentials(x, r, &e, "token.refused", text);
}

static bool is_safe(const struct exchange *x)
{
        return str_equal(x->method, "GET") || x->is_head;
}

static bool csrf_is_right(const struct exchange *x)
{
        const char *given = api_header(x, "X-CSRF-Token");
        char padded[sizeof x->csrf] = "";

        if (!given || !x->csrf[0] || strlen(given) >= sizeof padded)
                return false;
        str_copy(padded, sizeof padded, given);
        /* Over the whole of both buffers: the time says nothing of where they differ. */
        return sodium_memcmp(padded, x->csrf, sizeof padded) == 0;
}

static bool by_session(struct exchange *x, const char *header)
{
        static const char text[] = "the session is over; sign in again";
        char secret[CREDENTIAL_MAXIMUM], csrf[sizeof x->csrf] = "";
        struct error e = {0};
        int r = credentials_cookie(header, SESSION_COOKIE, secret);

        if (r == -ENOENT)
                return true; /* other cookies than ours: nobody */
        if (r < 0 || strlen(secret) >= sizeof x->secret)
                return unauthorised(x, "session.over", text);
        r = plane_session_find(x->api->options.store, secret, clock_unix_ms(), &x->actor, csrf, &e);
        if (r < 0)
                return refuse_credentials(x, r, &e, "session.over", text);
        str_copy(x->secret, sizeof x->secret, secret);
        memset(x->csrf, 0, sizeof x->csrf);
        str_copy(x->csrf, sizeof x->csrf, csrf);
        x->has_session = true;
        if (is_safe(x) || csrf_is_right(x))
                return true;
        api_problem(x, MHD_HTTP_FORBIDDEN, "csrf", "a change with a session needs its X-CSRF-Token header");
        return false;
}

static bool identify_operator(struct exchange *x)
{
        const char *authorization = api_header(x, MHD_HTTP_HEADER_AUTHORIZATION);
        const char *cookie = api_header(x, MHD_HTTP_HEADER_COOKIE);

        if (authorization) {
                if (!by_token(x, authorization))
                        return false;
        } else if (cookie && !by_session(x, cookie))
                return false;
        if (!x->actor.name[0] && x->route->access != ACCESS_OPTIONAL)
                return unauthorised(x, "session.missing", "sign in first, or send an API token");
        str_copy(x->organisation, sizeof x->organisation, x->actor.organisation);
        return true;
}

static bool may(struct exchange *x, enum role needed)
{
        if (x->actor.role >= needed)
                return true;
        api_problem(x, MHD_HTTP_FORBIDDEN, "role.insufficient", "this needs the role %s; %s is %s",
                role_to_string(needed), x->actor.name, role_to_string(x->actor.role));
        return false;
}

/* ---- nodes ---- */

static bool forbidden(struct exchange *x, const char *code, const char *text)
{
        api_problem(x, MHD_HTTP_FORBIDDEN, code, "%s", text);
        return false;
}

static bool was_verified(struct exchange *x, const char *verify)
{
        if (!verify || str_equal(verify, "NONE"))
                return unauthorised(
                        x, "certificate.missing", "a node shows its certificate (mutual TLS) to ask this");
        if (str_equal(verify, "SUCCESS"))
                return true;
        if (strstr(verify, "expired"))
                return forbidden(
                        x, "certificate.expired", "the certificate has expired: it may only be renewed");
        return forbidden(x, "certificate.refused", "the certificate did not pass the server's check");
}

/* What the certificate's own words say must be so in the database, too. */
static bool check_node(struct exchange *x, struct error *e)
{
        struct plane_store *s = x->api->options.store;
        const struct ca_identity *i = &x->certificate;
        int r = plane_certificate_check(s, i->node, i->serial, e);

        if (r == 0)
                r = plane_node_find(s, NULL, i->node, &x->node, e);
        if (r == -EACCES || r == -ENOENT || r == -EPERM)
                return forbidden(x, "certificate.revoked",
                        "this certificate may not speak for a node any more: it was revoked, or the node was "
                        "removed");
        if (r < 0) {
                api_problem_error(x, r, e);
                return false;
        }
        if (!str_equal(x->node.organisation, i->organisation))
                return forbidden(x, "certificate.foreign",
                        "this node is of another organisation than its certificate");
        str_copy(x->organisation, sizeof x->organisation, x->node.organisation);
        return true;
}

bool api_identify_node(struct exchange *x)
{
        const char *header = api_header(x, "X-Client-Certificate");
        _cleanup_free_ char *pem = header ? uri_decode_text(header, CERTIFICATE_MAXIMUM) : NULL;
        int64_t now_s = clock_unix_ms() / 1000;
        struct error e = {0};

        if (!was_verified(x, api_header(x, "X-Client-Verify")))
                return false;
        if (!pem || ca_identify(x->api->options.ca, pem, &x->certificate, &e) < 0)
                return forbidden(
                        x, "certificate.foreign", "the certificate is not one of this control plane's");
        if (now_s > x->certificate.not_after_unix)
                return forbidden(
                        x, "certificate.expired", "the certificate has expired: it may only be renewed");
        return check_node(x, &e);
}

bool api_identify(struct exchange *x)
{
        if (x->listener->is_local)
                return identify_local(x);
        switch (x->route->access) {
        case ACCESS_PUBLIC:
                return true;
        case ACCESS_OPTIONAL:
                return identify_operator(x);
        case ACCESS_NODE:
                return api_identify_node(x);
        case ACCESS_VIEWER:
                return identify_operator(x) && may(x, ROLE_VIEWER);
        case ACCESS_OPERATOR:
                return identify_operator(x) && may(x, ROLE_OPERATOR);
        case ACCESS_ADMIN:
                return identify_operator(x) && may(x, ROLE_ADMIN);
        case ACCESS_MACHINE:
                return identify_operator(x) &&
                       forbidden(x, "role.insufficient",
                               "only the machine's own administrator may do this (gridplane on it)");
        }
        return false;
}
