/* A measurement: what was asked (the spec), what came back, when, and the raw evidence. No opinion. The same
 * flat record serves every kind; a field that does not apply is zero and absent from the JSON. One table in
 * measurement.c names every field once and gives JSON both ways, so that a stored report replays exactly.
 *
 * What a diagnosis knows of the site and the profile is recorded as measurements too (the config.* kinds), so
 * that conclusions need nothing else. */
#pragma once

#include "base/error.h"
#include "base/inet.h"
#include "base/text.h"
#include "net/profile.h"

#include <jansson.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#define MEASUREMENT_KINDS(X)                                                                                 \
        X(MEASUREMENT_PROFILE, "config.profile") /* name, ranges, root */                                    \
        X(MEASUREMENT_SERVICE, "config.service") /* service, target = host, port, tls, carries, addresses */ \
        X(MEASUREMENT_SITE, "config.site")       /* name, interface, gateway, servers, proxy */              \
        X(MEASUREMENT_LAN, "config.lan")         /* interface, prefix = address, configured_routes */        \
        X(MEASUREMENT_LINK, "link")              /* one interface: flags, carrier */                         \
        X(MEASUREMENT_ADDRESS, "address")        /* the addresses of one interface, and the source's fate */ \
        X(MEASUREMENT_ROUTE, "route")            /* what the kernel would do for one target */               \
        X(MEASUREMENT_NEIGHBOUR, "neighbour")    /* the neighbour table's word on the gateway */             \
        X(MEASUREMENT_ARP, "arp")         /* our own ARP probe: gateway, or conflict on our address */       \
        X(MEASUREMENT_DNS, "dns")         /* one question to one server over one transport */                \
        X(MEASUREMENT_TCP, "tcp")         /* connect to one address and port */                              \
        X(MEASUREMENT_HOP, "hop")         /* one TTL towards one address and port */                         \
        X(MEASUREMENT_TLS, "tls")         /* one handshake */                                                \
        X(MEASUREMENT_HTTP, "http")       /* one request */                                                  \
        X(MEASUREMENT_CAPTURE, "capture") /* whether packets could be watched */

#define MEASUREMENT_OUTCOMES(X)                                                                              \
        X(OUTCOME_NOT_TESTED, "not-tested") /* `reason` says why */                                          \
        X(OUTCOME_OK, "ok") /* connected, answered with data, handshake complete, 2xx/3xx/4xx read … */    \
        X(OUTCOME_TIMEOUT, "timeout")             /* silence until the deadline */                           \
        X(OUTCOME_RESET, "reset")                 /* RST: to a SYN, or in the middle (stage says where) */   \
        X(OUTCOME_CLOSED, "closed")               /* FIN where more was due */                               \
        X(OUTCOME_REJECTED, "rejected")           /* an ICMP error: icmp_type, icmp_code, by */              \
        X(OUTCOME_LOCAL_ERROR, "local-error")     /* a local errno before anything left: error_number */     \
        X(OUTCOME_RCODE, "rcode")                 /* dns: answered, rcode other than NOERROR */              \
        X(OUTCOME_NO_DATA, "no-data")             /* dns: NOERROR without an address */                      \
        X(OUTCOME_MALFORMED, "malformed")         /* bytes that do not parse as the protocol */              \
        X(OUTCOME_ALERT, "alert")                 /* tls: the peer sent a fatal alert: alert */              \
        X(OUTCOME_UNTRUSTED, "untrusted")         /* tls: chain, name or time refused; see chain_* fields */ \
        X(OUTCOME_NOT_TLS, "not-tls")             /* tls: first_bytes are something else */                  \
        X(OUTCOME_PROTOCOL, "protocol-error")     /* tls/http: failed otherwise; error_text says how */      \
        X(OUTCOME_DOWN, "down")                   /* link: down or no carrier */                             \
        X(OUTCOME_MISSING, "missing")             /* address: none usable; route: none; interface absent */  \
        X(OUTCOME_NOT_PERMITTED, "not-permitted") /* the right for it is missing (EPERM on a raw socket) */

#define MEASUREMENT_STATUSES(X)    \
        X(STATUS_SCORED, "scored") \
        X(STATUS_VOID, "void")     \
        X(STATUS_NOT_TESTED, "not-tested")

#define PROBE_PURPOSES(X)                                                                              \
        X(PURPOSE_SERVICE, "service") /* the thing itself */                                           \
        X(PURPOSE_DEVICE, "device")   /* A/B: bound to the WAN device (SO_BINDTODEVICE) */             \
        X(PURPOSE_SIBLING, "sibling") /* tcp: another port or address of the same host, as control */  \
        X(PURPOSE_CLAMP, "clamp")     /* tls A/B: TCP_MAXSEG clamped */                                \
        X(PURPOSE_REPEAT, "repeat")   /* the same again, to tell loss from a block */                  \
        X(PURPOSE_NO_NAME, "no-name") /* tls A/B: without SNI */                                       \
        X(PURPOSE_NEUTRAL_NAME, "neutral-name") /* tls A/B: a neutral SNI */                           \
        X(PURPOSE_INTERCEPTION, "interception") /* dns: asked of an address that runs no DNS */        \
        X(PURPOSE_TIME, "time")                 /* http: Date only, certificate times not judged */    \
        X(PURPOSE_PORTAL, "portal")             /* http: plain, port 80, looking for a sign-in page */ \
        X(PURPOSE_PAYLOAD, "payload")           /* http: bulk data */                                  \
        X(PURPOSE_PROXY, "proxy")               /* http: through the configured proxy */               \
        X(PURPOSE_GATEWAY, "gateway")           /* arp */                                              \
        X(PURPOSE_CONFLICT, "conflict")         /* arp */

#define PROBE_STAGES(X)         \
        X(STAGE_NONE, "")       \
        X(STAGE_LINK, "link")   \
        X(STAGE_ROUTE, "route") \
        X(STAGE_DNS, "dns")     \
        X(STAGE_TCP, "tcp")     \
        X(STAGE_TLS, "tls")     \
        X(STAGE_HTTP, "http")

#define PROBE_TRANSPORTS(X)     \
        X(TRANSPORT_NONE, "")   \
        X(TRANSPORT_UDP, "udp") \
        X(TRANSPORT_TCP, "tcp")

#define HOP_ANSWERS(X)                                                                           \
        X(HOP_SILENT, "")                                                                        \
        X(HOP_TIME_EXCEEDED, "time-exceeded") /* the packet reached `by` and died there */       \
        X(HOP_UNREACHABLE, "unreachable")     /* `by` refused with ICMP: icmp_type, icmp_code */ \
        X(HOP_RESET, "rst")                   /* an RST in the target's name */                  \
        X(HOP_SYN_ACK, "syn-ack")             /* accepted */

#define YESNOS(X)      \
        X(UNKNOWN, "") \
        X(NO, "no")    \
        X(YES, "yes")

#define DECLARE_ENUM_VALUE(value, text) value,
enum measurement_kind { MEASUREMENT_KINDS(DECLARE_ENUM_VALUE) MEASUREMENT_KIND_COUNT };
enum measurement_outcome { MEASUREMENT_OUTCOMES(DECLARE_ENUM_VALUE) };
enum measurement_status { MEASUREMENT_STATUSES(DECLARE_ENUM_VALUE) };
enum probe_purpose { PROBE_PURPOSES(DECLARE_ENUM_VALUE) };
enum probe_stage { PROBE_STAGES(DECLARE_ENUM_VALUE) };
enum probe_transport { PROBE_TRANSPORTS(DECLARE_ENUM_VALUE) };
enum hop_answer { HOP_ANSWERS(DECLARE_ENUM_VALUE) };
enum yesno { YESNOS(DECLARE_ENUM_VALUE) };

const char *measurement_kind_to_string(enum measurement_kind v);
const char *measurement_outcome_to_string(enum measurement_outcome v);
const char *measurement_status_to_string(enum measurement_status v);
const char *probe_purpose_to_string(enum probe_purpose v);
const char *probe_stage_to_string(enum probe_stage v);
const char *probe_transport_to_string(enum probe_transport v);
const char *hop_answer_to_string(enum hop_answer v);

/* What to measure. Zero-initialise; a field that is zero is not used. Two equal specs are the same question.
 */
struct probe_spec {
        enum measurement_kind kind;
        enum probe_purpose purpose;
        unsigned attempt;         /* 0 the first; A/B repeats count up */
        char service[32];         /* the profile's service that this serves, "" otherwise */
        struct endpoint target;   /* address and port; the host name is in `name` */
        char interface[IFNAMSIZ]; /* link/address/neighbour/arp: the interface; else SO_BINDTODEVICE, "": by
                                     route */
        char name[254];        /* dns: name asked; tls: SNI ("": none); http: host; tls/http verify against it
                                  unless verify_name is set */
        char verify_name[254]; /* tls: the name to verify when SNI is another or none */
        enum probe_transport transport; /* dns: udp or tcp; route: the protocol to look up with */
        uint16_t dns_type;              /* dns: 1 A, 28 AAAA, 2 NS */
        uint8_t ttl;                    /* hop */
        uint16_t mss;                   /* TCP_MAXSEG, 0: untouched */
        enum service_tls tls;  /* tls/http: mutual presents the node's certificate where there is one */
        char path[256];        /* http: request target, "" is "/" */
        bool http_get;         /* http: GET with body; else HEAD */
        char proxy[256];       /* http: proxy URL */
        uint32_t expect_bytes; /* http payload: how many bytes are due, 0 unknown */
};
bool probe_spec_equal(const struct probe_spec *a, const struct probe_spec *b);
/* "198.51.100.20:443", "eth0", "198.51.100.53:53", "repo.grid.example:443" (config.service) */
void probe_spec_target_text(const struct probe_spec *s, char *ret, size_t size_bytes);

#define MEASUREMENT_MAX_LIST   20000 /* items of one list read back from JSON */
#define MEASUREMENT_MAX_STRING 65536

/* Ownership: every char * and list is the measurement's own. Times are milliseconds since the run's start. */
struct measurement {
        int id; /* 1-based, unique in a report */
        struct probe_spec spec;
        char source[INET_ADDR_TEXT]; /* local address used, "" unknown */
        double at_ms, took_ms;
        enum measurement_outcome outcome;
        enum measurement_status status;
        char *reason;          /* not-tested or void: why, one phrase */
        const char *voided_by; /* cause code that voids it (static), set by diagnose */

        /* Failure, all kinds */
        enum probe_stage stage;   /* http/tls: where it failed or got to */
        int error_number;         /* errno, 0 none; JSON "errno" as its symbolic name */
        char *error_text;         /* library's words: curl, OpenSSL */
        struct inet_addr by;      /* ICMP sender (SO_EE_OFFENDER); arp: the protocol address that answered */
        int icmp_type, icmp_code; /* valid when outcome is rejected or answer is unreachable/time-exceeded */

        /* config.* and addresses */
        struct strv ranges;            /* config.profile */
        struct strv addresses;         /* config.service; address: "192.0.2.10/24"; dns: answers, sorted */
        struct strv servers;           /* config.site: DNS servers */
        struct strv carries;           /* config.service */
        struct strv configured_routes; /* config.lan: "10.30.0.0/16 via 10.20.0.1" */
        char *root;                    /* config.profile: "file" or the root subject */
        char *payload_path;            /* config.service */
        struct inet_addr gateway;      /* config.site: configured, or the default route's */
        char proxy_from[32];           /* config.site */
        enum yesno has_certificate;    /* config.site: the node's certificate and key were readable */

        /* link, address, route, neighbour, arp */
        int ifindex;
        enum yesno link_up, carrier; /* IFF_UP; IFF_LOWER_UP */
        char operstate[16];          /* RFC 2863 word: up, down, dormant … */
        uint32_t mtu;
        char mac[24]; /* link: own; neighbour/arp: the answerer's; arp conflict: the foreign one */
        enum yesno source_is_here;         /* address: the chosen source is on some interface of this host */
        enum yesno only_link_local;        /* address */
        char route_interface[IFNAMSIZ];    /* route: where it leaves */
        struct inet_addr next_hop;         /* route: unset for on-link */
        char route_prefix[INET_ADDR_TEXT]; /* route: the matched entry, "0.0.0.0/0" or "default" for the
                                              default */
        uint32_t route_table;              /* route: 254 main, 253 default, 255 local */
        char route_type[16];               /* unicast, local, unreachable, prohibit, blackhole, throw … */
        char *route_text; /* "198.51.100.0/24 via 10.20.0.1"; with a rule's table: "table 100: default
                             via 10.20.0.1" */
        char *rule_text;  /* the policy rule that chose the table when it is not main/default/local: "from
                             192.0.2.0/24 lookup 100" */
        char neighbour_state[16]; /* reachable, stale, delay, probe, failed, incomplete, permanent, none */
        int arp_probes_sent;

        /* dns */
        int rcode;           /* RFC 1035/6895 number, valid when answered */
        enum yesno answered; /* a well-formed answer with our id and question came from the asked address */
        enum yesno truncated, authoritative, recursion_available;
        uint32_t ttl_s;       /* smallest TTL of the answer */
        char *canonical_name; /* end of the CNAME chain when it differs */
        int tries;            /* dns: datagrams sent; tcp, hop: SYN sockets opened */

        /* tcp, hop */
        double rtt_ms; /* connect: SYN of the attempt that was answered → SYN-ACK; dns: its try → answer */
        int syns_unanswered; /* earlier tries that got nothing before the answer: loss */
        enum hop_answer hop_answer;
        uint16_t local_port; /* of the attempt that settled it */

        /* what capture saw of this probe's own packets; UNKNOWN without capture */
        enum yesno left_host;  /* an outgoing packet was seen on a non-loopback interface */
        enum yesno reply_seen; /* a SYN-ACK (tcp, hop) or UDP answer came in on a non-loopback interface */
        char reply_interface[IFNAMSIZ]; /* where SYN-ACK or RST came in; "lo" is this machine itself */
        int reply_ttl;                  /* IP TTL of the SYN-ACK or RST as it came in, 0 unknown */

        /* tls (and the TLS part of http) */
        char tls_version[16];  /* "TLSv1.3" */
        char alpn[16];         /* selected */
        int alert;             /* TLS alert number received; see alert_seen */
        enum yesno alert_seen; /* `alert` is valid */
        enum yesno client_certificate_asked, client_certificate_sent;
        enum yesno server_hello_seen; /* a whole ServerHello arrived */
        enum yesno hello_acked;       /* TCP_INFO: our ClientHello's bytes were acknowledged */
        uint64_t bytes_received, bytes_sent;
        int segments_retransmitted; /* tcpi_total_retrans */
        int segments_out_of_order;  /* tcpi_rcv_ooopack: later segments came, earlier ones never did */
        struct strv chain_pem;      /* as presented, leaf first; kept when refused; at most 10 */
        struct strv chain_subjects; /* one line each: "CN=repo.grid.example", RFC 2253 style */
        struct strv chain_issuers;
        int chain_length;         /* as presented, also when longer than what is kept */
        enum yesno chain_trusted; /* leads to the pinned root, signatures right; times and name not judged */
        enum yesno chain_name_matches; /* leaf is for verify_name or name */
        enum yesno chain_time_valid;   /* every certificate valid now by this machine's clock */
        int64_t not_before_unix,
                not_after_unix; /* the window in which the whole chain is valid, UTC seconds */
        int64_t local_unix;     /* this machine's clock when the chain was judged */
        char *chain_error;      /* X509_verify_cert_error_string */
        char *leaf_names;       /* DNS names of the leaf, comma separated, bounded */
        char *client_serial;    /* the node's own certificate: hex serial */
        int64_t client_not_after_unix;
        char *first_bytes; /* printable, <= 160 bytes, when not TLS */

        /* http */
        int http_status;
        char *http_url;
        char *location; /* Location header */
        char *server_header, *via, *proxy_authenticate, *content_type;
        char *problem_type;   /* "type" member of application/problem+json */
        char *body_excerpt;   /* printable, <= 512 bytes */
        int64_t peer_unix;    /* Date header, 0 none */
        double first_byte_ms; /* since this request's start */
        uint64_t body_bytes;  /* payload: what arrived */
        double bytes_per_s;   /* payload: over the body's time */
        int curl_code;        /* CURLcode, 0 ok */
        int proxy_status;     /* status of CONNECT, 0 none */
};

struct measurement *measurement_new(const struct probe_spec *spec);
struct measurement *measurement_free(struct measurement *m);

struct measurement_list {
        struct measurement **items;
        size_t count, allocated;
};
/* Takes ownership, gives it the next id and derives status (not-tested outcome → not-tested). */
void measurement_list_take(struct measurement_list *l, struct measurement *m);
void measurement_list_done(struct measurement_list *l);

/* As in the contract: id, kind, target, source, at_ms, took_ms, outcome, status, detail {…}. New reference.
 */
json_t *measurement_to_json(const struct measurement *m);
/* 0, or -EINVAL naming the member; unknown detail members are ignored; sizes are bounded. */
int measurement_from_json(const json_t *j, struct measurement **ret, struct error *ret_error);
/* The rcodes of RFC 1035, 4.1.1, in their usual words: "NXDOMAIN"; static. */
const char *dns_rcode_to_string(int rcode);
/* One line for --verbose: "tcp 198.51.100.20:443 timeout after 1003 ms, 5 SYNs". Caller frees. */
char *measurement_describe(const struct measurement *m);
