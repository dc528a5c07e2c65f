/* What one TLS handshake shows, put into a measurement as it comes: the chain and its judgement, alerts,
 * whether a client certificate was asked for and sent. Shared by the TLS and HTTP probes. */
#pragma once

#include "net/trust.h"
#include "probe/measurement.h"

#include <openssl/ssl.h>

/* Must stay where it is, and alive, as long as what it is attached to. */
struct tls_facts {
        struct measurement *m;
        struct trust *trust;      /* NULL: nothing to verify against, every chain is let pass */
        const char *host;         /* the leaf must be for it; "": any name */
        bool refuse_invalid_time; /* otherwise a chain that is wrong in its times alone is let pass */
        bool refused;             /* the chain was not let pass: the handshake failed because of us */
        bool ticket_seen; /* a NewSessionTicket came: in TLS 1.3 the server's word that it is content */
        bool record_seen, record_is_tls; /* what the first five bytes from the peer looked like */
        int fd; /* disconnected when the peer's handshake has no end: OpenSSL would read it for ever. 0: none
                 */
        unsigned handshake_records;
        bool is_endless; /* that has happened */
};

/* For one connection, or for a context that serves only one. The chain is judged before anything of ours is
 * sent. */
void tls_facts_attach(struct tls_facts *f, SSL *ssl);
void tls_facts_attach_context(struct tls_facts *f, SSL_CTX *context);
/* Version and ALPN, once they are settled. */
void tls_facts_settled(struct tls_facts *f, const SSL *ssl);
/* Whether these first bytes from a peer can be the start of a TLS record (RFC 8446, 5.1). */
bool tls_facts_is_record(const uint8_t *bytes, size_t length);
/* OpenSSL's words for what failed last, and its queue is empty again. Never NULL; the caller frees. */
char *tls_facts_take_error(void);
/* What the kernel knows of the connection: bytes, repeats, segments out of order (TCP_INFO). */
struct tls_facts_tcp {
        uint64_t bytes_acked; /* the SYN counts as one */
        uint8_t state;        /* TCP_ESTABLISHED …: after a reset TCP_CLOSE, after a FIN TCP_CLOSE_WAIT */
};
/* False when the kernel does not tell. */
bool tls_facts_read_tcp(int fd, struct measurement *m /* may be NULL */, struct tls_facts_tcp *ret);
