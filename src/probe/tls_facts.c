#include "probe/tls_facts.h"

#include "base/alloc.h"
#include "base/cleanup.h"

/* linux/tcp.h, since that of the C library lacks the counters of bytes; the two exclude each other. */
#include <linux/tcp.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define CHAIN_KEPT      10
#define NAME_MAX_BYTES  512
#define NAMES_MAX_BYTES 1024
#define MAX_RECORDS     1000 /* of a handshake; ordinary ones take ten */

DEFINE_CLEANUP(BIO *, BIO_free_all);
DEFINE_CLEANUP(GENERAL_NAMES *, GENERAL_NAMES_free);

static enum yesno to_yesno(bool b)
{
        return b ? YES : NO;
}

/* ---- the chain ---- */

static char *take_bio(BIO *bio, size_t maximum)
{
        char *data;
        long length = BIO_get_mem_data(bio, &data);

        return str_printable(data, length > 0 ? (size_t)length : 0, maximum);
}

/* RFC 2253, but with UTF-8 left readable. */
static char *name_to_text(const X509_NAME *name)
{
        _cleanup_(BIO_free_all_p) BIO *bio = BIO_new(BIO_s_mem());

        if (!bio ||
                X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB) < 0)
                return xstrdup("(unreadable)");
        return take_bio(bio, NAME_MAX_BYTES);
}

static void keep_pem(struct measurement *m, X509 *x)
{
        _cleanup_(BIO_free_all_p) BIO *bio = BIO_new(BIO_s_mem());
        char *data;
        long length;

        if (!bio || PEM_write_bio_X509(bio, x) != 1)
                return;
        length = BIO_get_mem_data(bio, &data);
        strv_take(&m->chain_pem, xstrndup(data, (size_t)length));
}

static char *leaf_names(X509 *leaf)
{
        _cleanup_(GENERAL_NAMES_free_p) GENERAL_NAMES *names =
                X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
        struct text t = {0};

        for (int i = 0; i < sk_GENERAL_NAME_num(names) && t.length < NAMES_MAX_BYTES; i++) {
                const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
                _cleanup_free_ char *one = NULL;

                if (name->type != GEN_DNS)
                        continue;
                one = str_printable(ASN1_STRING_get0_data(name->d.dNSName),
                        (size_t)ASN1_STRING_length(name->d.dNSName), 253);
                text_addf(&t, "%s%s", t.length ? "," : "", one);
        }
        return text_take(&t);
}

static void record_chain(struct measurement *m, const STACK_OF(X509) * chain)
{
        if (m->chain_length > 0) /* a second handshake on the same connection shows nothing new */
                return;
        m->chain_length = sk_X509_num(chain);
        for (int i = 0; i < m->chain_length && i < CHAIN_KEPT; i++) {
                X509 *x = sk_X509_value(chain, i);

                keep_pem(m, x);
                strv_take(&m->chain_subjects, name_to_text(X509_get_subject_name(x)));
                strv_take(&m->chain_issuers, name_to_text(X509_get_issuer_name(x)));
        }
        if (m->chain_length > 0)
                m->leaf_names = leaf_names(sk_X509_value(chain, 0));
        ERR_clear_error();
}

static void record_verdict(const struct tls_facts *f, const struct trust_verdict *v)
{
        struct measurement *m = f->m;

        if (f->trust)
                m->chain_trusted = to_yesno(v->trusted);
        if (f->host[0])
                m->chain_name_matches = to_yesno(v->name_matches);
        m->chain_time_valid = to_yesno(v->time_valid);
        m->not_before_unix = v->not_before_unix;
        m->not_after_unix = v->not_after_unix;
        if (f->trust && v->error != X509_V_OK && !m->chain_error)
                m->chain_error = xstrdup(X509_verify_cert_error_string(v->error));
}

/* ---- OpenSSL's callbacks ---- */

static int connection_index(void)
{
        static int index = -1;

        if (index < 0)
                index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
        return index;
}

static int context_index(void)
{
        static int index = -1;

        if (index < 0)
                index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
        return index;
}

static struct tls_facts *facts_of(const SSL *ssl)
{
        struct tls_facts *f = SSL_get_ex_data(ssl, connection_index());

        return f ? f : SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), context_index());
}

static int on_verify(X509_STORE_CTX *x, void *userdata)
{
        const SSL *ssl = X509_STORE_CTX_get_ex_data(x, SSL_get_ex_data_X509_STORE_CTX_idx());
        struct tls_facts *f = facts_of(ssl);
        struct trust_verdict v;

        (void)userdata;
        f->m->local_unix = time(NULL);
        record_chain(f->m, X509_STORE_CTX_get0_untrusted(x));
        trust_judge(f->trust, X509_STORE_CTX_get0_untrusted(x), f->host[0] ? f->host : NULL, f->m->local_unix,
                &v);
        record_verdict(f, &v);
        if (f->trust && (!v.trusted || !v.name_matches || (f->refuse_invalid_time && !v.time_valid))) {
                f->refused = true;
                X509_STORE_CTX_set_error(x, v.error); /* decides which alert the peer is told */
                return 0;
        }
        X509_STORE_CTX_set_error(x, X509_V_OK);
        return 1;
}

static void on_own_message(struct tls_facts *f, const uint8_t *message, size_t length)
{
        /* An empty list of certificates takes 7 bytes in TLS 1.2, 8 in TLS 1.3. */
        if (message[0] != SSL3_MT_CERTIFICATE)
                return;
        f->m->client_certificate_sent = to_yesno(length > 8);
        if (length <= 8 || !f->trust || !trust_certificate_serial(f->trust) || f->m->client_serial)
                return;
        f->m->client_serial = xstrdup(trust_certificate_serial(f->trust));
        f->m->client_not_after_unix = trust_certificate_not_after(f->trust);
}

static void on_peer_message(struct tls_facts *f, const uint8_t *message)
{
        /* A record that only claims to hold one is no answer to the greeting. */
        if (message[0] == SSL3_MT_SERVER_HELLO)
                f->m->server_hello_seen = YES;
        else if (message[0] == SSL3_MT_CERTIFICATE_REQUEST)
                f->m->client_certificate_asked = YES;
        else if (message[0] == SSL3_MT_NEWSESSION_TICKET)
                f->ticket_seen = true;
}

/* A peer that sends empty messages without end would keep OpenSSL, and who called it, reading. Disconnecting
 * (connect(2), AF_UNSPEC) throws away what is queued as well. */
static void count_record(struct tls_facts *f)
{
        const struct sockaddr nobody = {.sa_family = AF_UNSPEC};

        if (++f->handshake_records <= MAX_RECORDS || f->is_endless)
                return;
        f->is_endless = f->fd > 0 && connect(f->fd, &nobody, sizeof(nobody)) == 0;
}

static void on_message(
        int is_ours, int version, int content_type, const void *data, size_t length, SSL *ssl, void *userdata)
{
        struct tls_facts *f = facts_of(ssl);
        const uint8_t *bytes = data;

        (void)version, (void)userdata;
        if (content_type == SSL3_RT_HEADER && !is_ours && length > 0) {
                if (!f->record_seen)
                        f->record_is_tls = tls_facts_is_record(bytes, length);
                f->record_seen = true;
                if (f->record_is_tls && bytes[0] == SSL3_RT_HANDSHAKE)
                        count_record(f);
        } else if (content_type == SSL3_RT_HANDSHAKE && length > 0) {
                if (is_ours)
                        on_own_message(f, bytes, length);
                else {
                        on_peer_message(f, bytes);
                        count_record(f); /* in TLS 1.3 records do not show that they hold one */
                }
        } else if (content_type == SSL3_RT_ALERT && !is_ours && length == 2 &&
                   bytes[1] != SSL_AD_CLOSE_NOTIFY && bytes[1] != SSL_AD_USER_CANCELLED) {
                f->m->alert = bytes[1];
                f->m->alert_seen = YES;
        }
}

void tls_facts_attach(struct tls_facts *f, SSL *ssl)
{
        SSL_set_ex_data(ssl, connection_index(), f);
        SSL_set_msg_callback(ssl, on_message);
        SSL_set_verify(ssl, SSL_VERIFY_PEER, NULL);
        /* OpenSSL offers this one per context only; it finds its way back by the connection. */
        SSL_CTX_set_cert_verify_callback(SSL_get_SSL_CTX(ssl), on_verify, NULL);
}

void tls_facts_attach_context(struct tls_facts *f, SSL_CTX *context)
{
        SSL_CTX_set_ex_data(context, context_index(), f);
        SSL_CTX_set_msg_callback(context, on_message);
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
        SSL_CTX_set_cert_verify_callback(context, on_verify, NULL);
}

void tls_facts_settled(struct tls_facts *f, const SSL *ssl)
{
        const unsigned char *alpn;
        unsigned length;

        str_copy(f->m->tls_version, sizeof(f->m->tls_version), SSL_get_version(ssl));
        SSL_get0_alpn_selected(ssl, &alpn, &length);
        if (length > 0 && length < sizeof(f->m->alpn)) {
                memcpy(f->m->alpn, alpn, length);
                f->m->alpn[length] = '\0';
        }
        if (f->m->client_certificate_asked == UNKNOWN)
                f->m->client_certificate_asked = NO;
        if (f->m->client_certificate_sent == UNKNOWN)
                f->m->client_certificate_sent = NO;
}

/* ---- bytes and counters ---- */

bool tls_facts_is_record(const uint8_t *bytes, size_t length)
{
        /* A server's first record is a handshake message or an alert; the major version has always been 3. */
        if (length > 0 && bytes[0] != SSL3_RT_HANDSHAKE && bytes[0] != SSL3_RT_ALERT)
                return false;
        if (length > 1 && bytes[1] != SSL3_VERSION_MAJOR)
                return false;
        return length <= 2 || bytes[2] <= 4;
}

char *tls_facts_take_error(void)
{
        unsigned long e = ERR_peek_error();
        const char *reason = ERR_reason_error_string(e);
        char *text;

        if (reason)
                text = xstrdup(reason);
        else if (e)
                text = xasprintf("OpenSSL error %lx", e);
        else
                text = xstrdup("the handshake failed");
        ERR_clear_error();
        return text;
}

bool tls_facts_read_tcp(int fd, struct measurement *m, struct tls_facts_tcp *ret)
{
        struct tcp_info info = {0};
        socklen_t length = sizeof(info);

        if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0 ||
                length < offsetof(struct tcp_info, tcpi_rcv_ooopack) + sizeof(info.tcpi_rcv_ooopack))
                return false;
        *ret = (struct tls_facts_tcp){.bytes_acked = info.tcpi_bytes_acked, .state = info.tcpi_state};
        if (m) {
                m->bytes_received = info.tcpi_bytes_received;
                m->bytes_sent = info.tcpi_bytes_sent - info.tcpi_bytes_retrans;
                m->segments_retransmitted = (int)info.tcpi_total_retrans;
                m->segments_out_of_order = (int)info.tcpi_rcv_ooopack;
        }
        return true;
}
