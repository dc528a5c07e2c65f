#include "cli/show.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <string.h>

static const char *unreachable_name(int code)
{
        static const char *const names[] = {"network unreachable", "host unreachable", "protocol unreachable",
                "port unreachable", "fragmentation needed", "source route failed", "network unknown",
                "host unknown", "source host isolated", "network administratively prohibited",
                "host administratively prohibited", "network unreachable for this type of service",
                "host unreachable for this type of service", "administratively prohibited",
                "host precedence violation", "precedence cut-off"};

        return code >= 0 && code < (int)ELEMENTS(names) ? names[code] : "unreachable";
}

static const char *unreachable6_name(int code)
{
        static const char *const names[] = {"no route", "administratively prohibited",
                "beyond the scope of the source", "address unreachable", "port unreachable",
                "source address failed the policy", "route rejected"};

        return code >= 0 && code < (int)ELEMENTS(names) ? names[code] : "unreachable";
}

const char *show_icmp_name(sa_family_t family, int type, int code)
{
        if (family == AF_INET6)
                return type == ICMP6_DST_UNREACH      ? unreachable6_name(code)
                       : type == ICMP6_TIME_EXCEEDED  ? "time exceeded"
                       : type == ICMP6_PACKET_TOO_BIG ? "packet too big"
                       : type == ICMP6_PARAM_PROB     ? "parameter problem"
                                                      : "ICMP error";
        return type == ICMP_DEST_UNREACH    ? unreachable_name(code)
               : type == ICMP_TIME_EXCEEDED ? "time exceeded"
               : type == ICMP_PARAMETERPROB ? "parameter problem"
               : type == ICMP_SOURCE_QUENCH ? "source quench"
                                            : "ICMP error";
}

/* "refused by 192.0.2.1: administratively prohibited (ICMP type 3 code 13)". Caller frees. */
static char *refusal_text(const struct measurement *m)
{
        char by[INET_ADDR_TEXT];

        inet_addr_format(&m->by, by);
        return xasprintf("refused by %s: %s (ICMP type %d code %d)", by[0] ? by : "an unnamed device",
                show_icmp_name(m->spec.target.address.family, m->icmp_type, m->icmp_code), m->icmp_type,
                m->icmp_code);
}

/* The kernel is asking for the hardware address of what is next on the way, or has just given up with this
 * error. A "failed" alone may be of a former attempt. */
static bool is_neighbour_silent(const struct measurement *m)
{
        return str_equal(m->neighbour_state, "incomplete") ||
               (str_equal(m->neighbour_state, "failed") && m->error_number == EHOSTUNREACH);
}

char *show_silent_neighbour(const struct measurement *m)
{
        char address[INET_ADDR_TEXT];

        if (!is_neighbour_silent(m))
                return NULL;
        return xasprintf("%s%s does not answer %s on %s",
                inet_addr_equal(&m->next_hop, &m->spec.target.address) ? "" : "the next hop ",
                inet_addr_format(&m->next_hop, address),
                m->next_hop.family == AF_INET6 ? "neighbour discovery" : "ARP", m->route_interface);
}

static void show_timeout(struct writer *w, const struct measurement *m)
{
        _cleanup_free_ char *neighbour = show_silent_neighbour(m);
        struct text t = {0};

        text_addf(&t, "no answer in %.0f ms", m->took_ms);
        if (m->spec.kind == MEASUREMENT_TCP && m->tries > 0)
                text_addf(&t, " to %d SYN%s", m->tries, m->tries == 1 ? "" : "s");
        if (neighbour)
                text_addf(&t, ": %s", neighbour);
        else if (m->left_host == NO)
                text_addf(&t, "; nothing left this host%s",
                        m->neighbour_state[0] && !str_equal(m->neighbour_state, "failed")
                                ? ": its own firewall?"
                                : "");
        else if (m->reply_seen == YES)
                text_addf(&t, "; an answer came in on %s and was discarded by this host", m->reply_interface);
        writer_text(w, NULL, NULL, "%s", text_string(&t));
        text_done(&t);
}

void show_outcome(struct writer *w, const struct measurement *m)
{
        _cleanup_free_ char *refusal = NULL, *neighbour = NULL;
        enum writer_mark mark = MARK_BAD;

        switch (m->outcome) {
        case OUTCOME_OK:
                writer_text(w, NULL, NULL, "ok in %.1f ms", m->rtt_ms > 0 ? m->rtt_ms : m->took_ms);
                mark = MARK_GOOD;
                break;
        case OUTCOME_TIMEOUT:
                show_timeout(w, m);
                break;
        case OUTCOME_RESET:
                writer_text(w, NULL, NULL, "refused by RST in %.1f ms", m->took_ms);
                break;
        case OUTCOME_REJECTED:
                refusal = refusal_text(m);
                writer_text(w, NULL, NULL, "%s", refusal);
                break;
        case OUTCOME_LOCAL_ERROR:
        case OUTCOME_NOT_PERMITTED:
                neighbour = show_silent_neighbour(m);
                writer_text(w, NULL, NULL, "this host: %s%s%s%s%s%s",
                        m->error_number ? strerror(m->error_number) : "not permitted",
                        m->source[0] ? " (from " : "", m->source, m->source[0] ? ")" : "",
                        neighbour ? ": " : "", neighbour ? neighbour : "");
                break;
        case OUTCOME_NOT_TESTED:
                writer_text(w, NULL, NULL, "not tested: %s", m->reason ? m->reason : "no reason recorded");
                mark = MARK_WARNING;
                break;
        case OUTCOME_CLOSED:
        case OUTCOME_RCODE:
        case OUTCOME_NO_DATA:
        case OUTCOME_MALFORMED:
        case OUTCOME_ALERT:
        case OUTCOME_UNTRUSTED:
        case OUTCOME_NOT_TLS:
        case OUTCOME_PROTOCOL:
        case OUTCOME_DOWN:
        case OUTCOME_MISSING:
                writer_text(w, NULL, NULL, "%s%s%s", measurement_outcome_to_string(m->outcome),
                        m->error_text ? ": " : "", m->error_text ? m->error_text : "");
                break;
        }
        writer_mark(w, mark);
}

void show_failure_fields(struct writer *w, const struct measurement *m)
{
        char by[INET_ADDR_TEXT];

        writer_text(w, "outcome", WRITER_HIDDEN, "%s", measurement_outcome_to_string(m->outcome));
        if (m->error_number)
                writer_text(w, "errno", WRITER_HIDDEN, "%s", strerrorname_np(m->error_number));
        if (m->outcome == OUTCOME_REJECTED) {
                writer_integer(w, "icmp_type", WRITER_HIDDEN, m->icmp_type);
                writer_integer(w, "icmp_code", WRITER_HIDDEN, m->icmp_code);
                writer_text(w, "icmp_name", WRITER_HIDDEN, "%s",
                        show_icmp_name(m->spec.target.address.family, m->icmp_type, m->icmp_code));
        }
        if (inet_addr_is_set(&m->by))
                writer_text(w, "by", WRITER_HIDDEN, "%s", inet_addr_format(&m->by, by));
        if (is_neighbour_silent(m)) {
                writer_text(w, "next_hop", WRITER_HIDDEN, "%s", inet_addr_format(&m->next_hop, by));
                writer_text(w, "neighbour_state", WRITER_HIDDEN, "%s", m->neighbour_state);
        }
        if (m->reason)
                writer_text(w, "reason", WRITER_HIDDEN, "%s", m->reason);
}
