/* DNS messages (RFC 1035, EDNS0 by RFC 6891): one question out, its answer in. Pure: bytes and structs, no
 * socket and no clock. Names are packed and unpacked by c-ares, whose reader bounds compression (RFC
 * 1035 4.1.4). */
#pragma once

#include "base/inet.h"
#include "base/text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DNS_TYPE_A    1
#define DNS_TYPE_NS   2
#define DNS_TYPE_AAAA 28

#define DNS_MESSAGE_MAX_QUESTION  300  /* 12 of header, 255 of name, 4 of type and class, 11 of EDNS */
#define DNS_MESSAGE_MAX_ADDRESSES 1024 /* kept of one answer */

struct dns_question {
        const char
                *name; /* "repo.grid.example", "." for the root; a trailing dot does not matter. Borrowed */
        uint16_t type; /* DNS_TYPE_*; the class is IN */
        uint16_t id;
        uint16_t edns_bytes; /* the UDP size that we offer by EDNS0; 0: no EDNS */
};

/* Builds the query, recursion desired. 0, or -EINVAL for a name that cannot be asked (a label over 63 bytes,
 * a name over 255, an empty label). */
int dns_message_build(
        const struct dns_question *q, uint8_t ret[DNS_MESSAGE_MAX_QUESTION], size_t *ret_length);

struct dns_answer {
        int rcode; /* RFC 1035 4.1.1: 0 NOERROR, 1 FORMERR, 2 SERVFAIL, 3 NXDOMAIN, 5 REFUSED */
        bool truncated, authoritative, recursion_available;
        size_t record_count;   /* of the type asked for, at the end of the CNAME chain */
        struct strv addresses; /* A, AAAA: as text, sorted by value, each once */
        char *canonical_name;  /* the end of the CNAME chain; NULL without CNAME */
        uint32_t ttl_s;        /* the smallest of what was used */
};
void dns_answer_done(struct dns_answer *a);

/* Reads an answer to `q`.
 * 0: it is the answer; *ret is filled and the caller's to give to dns_answer_done.
 * -ENOMSG: well enough formed, but not the answer to this question: another id or another question.
 * -EBADMSG: not a DNS answer, or one whose answer section does not parse; so also our own query come back.
 * The question section may be absent where the rcode is an error: some servers leave it out. What follows the
 * answer section is not read. Of a truncated message the records that are whole are taken. */
int dns_message_parse(
        const uint8_t *bytes, size_t length, const struct dns_question *q, struct dns_answer *ret);
