/* The table of causes: one row a code, from which rules, reports, `gridnode explain` and docs/causes.md draw.
 */
#pragma once

#include <stddef.h>

enum severity { SEVERITY_WARNING, SEVERITY_CRITICAL };
enum fixed_by { FIXED_BY_SITE, FIXED_BY_NODE, FIXED_BY_CONTROL_PLANE };
const char *severity_to_string(enum severity s);
const char *fixed_by_to_string(enum fixed_by f); /* "site", "node", "control-plane" */
/* For people: "the site's network administrator", "the node's operator", "the control plane's operator" */
const char *fixed_by_to_person(enum fixed_by f);

#define CAUSE_CODES(X)                                        \
        X(LINK_DOWN, "link.down")                             \
        X(ADDRESS_MISSING, "address.missing")                 \
        X(ADDRESS_CONFLICT, "address.conflict")               \
        X(ROUTE_MISSING, "route.missing")                     \
        X(ROUTE_CAPTURED, "route.captured")                   \
        X(ROUTE_CAPTURE_PENDING, "route.capture_pending")     \
        X(GATEWAY_UNREACHABLE, "gateway.unreachable")         \
        X(UPSTREAM_DEAD, "upstream.dead")                     \
        X(FIREWALL_LOCAL, "firewall.local")                   \
        X(REPLY_DISCARDED, "reply.discarded")                 \
        X(DNS_UNREACHABLE, "dns.unreachable")                 \
        X(DNS_UDP_BLOCKED, "dns.udp_blocked")                 \
        X(DNS_TCP_BLOCKED, "dns.tcp_blocked")                 \
        X(DNS_REFUSED, "dns.refused")                         \
        X(DNS_NO_SUCH_NAME, "dns.no_such_name")               \
        X(DNS_SERVER_FAILURE, "dns.server_failure")           \
        X(DNS_WRONG_ANSWER, "dns.wrong_answer")               \
        X(DNS_SERVERS_DISAGREE, "dns.servers_disagree")       \
        X(DNS_INTERCEPTED, "dns.intercepted")                 \
        X(TCP_DROPPED, "tcp.dropped")                         \
        X(TCP_REJECTED, "tcp.rejected")                       \
        X(TCP_RESET, "tcp.reset")                             \
        X(SERVICE_DOWN, "service.down")                       \
        X(TLS_INTERCEPTED, "tls.intercepted")                 \
        X(TLS_RESET, "tls.reset")                             \
        X(TLS_SNI_FILTERED, "tls.sni_filtered")               \
        X(TLS_STALLED, "tls.stalled")                         \
        X(PATH_MTU_BLACK_HOLE, "path.mtu_black_hole")         \
        X(TLS_NOT_TLS, "tls.not_tls")                         \
        X(TLS_NAME_MISMATCH, "tls.name_mismatch")             \
        X(TLS_CERTIFICATE_EXPIRED, "tls.certificate_expired") \
        X(CLOCK_WRONG, "clock.wrong")                         \
        X(TLS_CLIENT_REJECTED, "tls.client_rejected")         \
        X(HTTP_CAPTIVE_PORTAL, "http.captive_portal")         \
        X(HTTP_PROXY_REQUIRED, "http.proxy_required")         \
        X(HTTP_FILTERED, "http.filtered")                     \
        X(HTTP_UNAUTHORIZED, "http.unauthorized")             \
        X(TRANSFER_CUT, "transfer.cut")                       \
        X(PATH_LOSSY, "path.lossy")                           \
        X(PATH_SLOW, "path.slow")                             \
        X(UNDETERMINED, "undetermined")

#define DECLARE_CAUSE(name, text) CAUSE_##name,
enum cause_code { CAUSE_CODES(DECLARE_CAUSE) CAUSE_COUNT };
#undef DECLARE_CAUSE

struct cause_info {
        enum cause_code code;
        const char *text;         /* "tcp.dropped" */
        const char *title;        /* what is true, one line, no full stop */
        const char *meaning;      /* for a person, a short paragraph */
        const char *proof;        /* what proves it */
        const char *not_confused; /* what it must not be confused with */
        const char *remedy;       /* general remedy, imperative; the rules make it concrete */
        const char *by_hand;      /* how to see it by hand: commands of gridnode */
        enum fixed_by fixed_by;
};
const struct cause_info *cause_info(enum cause_code code); /* never NULL */
const struct cause_info *cause_find(const char *text);     /* NULL: no such code */
