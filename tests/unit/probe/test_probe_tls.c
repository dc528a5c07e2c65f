/* The TLS probe against OpenSSL's own server, and against peers that misbehave. */
#include "../pki.h"
#include "base/cleanup.h"
#include "peers.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>

#define HOST PEERS_HOST

static struct probe_context context;
static struct trust *trust, *expired_trust;
static uint16_t next_port = 4000;

static void save_long_chain(void)
{
        struct pki_pair links[100];

        links[99] = pki_issue(&(struct pki_request){.common_name = "link 99", .is_authority = true});
        for (int i = 98; i >= 0; i--) {
                char name[32];

                snprintf(name, sizeof(name), "link %d", i);
                links[i] = pki_issue(&(struct pki_request){.common_name = name,
                        .host = "DNS:" HOST,
                        .is_authority = i > 0,
                        .issuer = &links[i + 1]});
        }
        pki_save_key(peers_path("long.key"), &links[0]);
        for (int i = 0; i < 100; i++) {
                pki_save_certificate(peers_path(i == 0 ? "long.crt" : "long.chain"), &links[i]);
                pki_pair_done(&links[i]);
        }
}

static int set_up(void **state)
{
        (void)state;
        peers_enter_namespace();
        peers_make_pki();
        save_long_chain();
        trust = peers_trust("node");
        expired_trust = peers_trust("old_node");
        return 0;
}

static int tear_down(void **state)
{
        (void)state;
        trust_free(trust);
        trust_free(expired_trust);
        peers_remove_pki();
        return 0;
}

static int open_context(void **state)
{
        (void)state;
        assert_int_equal(probe_context_init(&context), 0);
        context.trust = trust;
        next_port++;
        return 0;
}

static int close_context(void **state)
{
        (void)state;
        probe_context_done(&context);
        return 0;
}

static pid_t serve(const char *name, const char *const *extra)
{
        const char *argv[40] = {"openssl", "s_server", "-www", "-quiet", "-alpn", "http/1.1"};
        char file[64], accept[32];
        int n = 6;

        snprintf(accept, sizeof(accept), "127.0.0.1:%u", next_port);
        snprintf(file, sizeof(file), "%s.crt", name);
        argv[n++] = "-accept", argv[n++] = accept;
        argv[n++] = "-cert", argv[n++] = peers_path(file);
        snprintf(file, sizeof(file), "%s.chain", name);
        argv[n++] = "-cert_chain", argv[n++] = peers_path(file);
        snprintf(file, sizeof(file), "%s.key", name);
        argv[n++] = "-key", argv[n++] = peers_path(file);
        while (extra && *extra)
                argv[n++] = *extra++;
        return peers_start(argv, next_port, peers_path("server.log"));
}

static struct probe_spec spec_for(enum service_tls tls)
{
        return (struct probe_spec){
                .kind = MEASUREMENT_TLS, .target = peers_endpoint(next_port), .name = HOST, .tls = tls};
}

static struct measurement *measure(enum service_tls tls)
{
        struct probe_spec s = spec_for(tls);

        return peers_measure(&context, &s);
}

static struct measurement *measure_peer(void (*behave)(int fd), double patience_ms)
{
        pid_t pid = peers_misbehave(next_port, behave);
        struct measurement *m;

        context.patience_ms = patience_ms;
        m = measure(SERVICE_TLS_SERVER);
        peers_stop(pid);
        assert_int_equal(m->chain_length, 0);
        assert_int_equal(m->chain_trusted, UNKNOWN);
        return m;
}

static void expect_genuine_chain(const struct measurement *m)
{
        assert_int_equal(m->stage, STAGE_TLS);
        assert_int_equal(m->chain_length, 2);
        assert_int_equal(m->chain_pem.count, 2);
        assert_string_equal(m->chain_subjects.items[0], "CN=" HOST);
        assert_string_equal(m->chain_subjects.items[1], "CN=Grid Issuing CA ünï,O=Grid Inc");
        assert_string_equal(m->chain_issuers.items[1], "CN=Grid Root CA,O=Grid Inc");
        assert_int_equal(m->chain_trusted, YES);
        assert_true(str_starts_with(m->chain_pem.items[0], "-----BEGIN CERTIFICATE-----\n"));
        assert_int_equal(m->hello_acked, YES);
        assert_int_equal(m->server_hello_seen, YES);
        assert_int_equal(m->alert_seen, UNKNOWN);
        assert_true(m->bytes_received > 500 && m->bytes_sent > 100);
        assert_int_equal(m->segments_retransmitted, 0);
        assert_in_range(m->local_unix, time(NULL) - 30, time(NULL));
}

static void healthy(void **state)
{
        static const char *const versions[] = {"-tls1_3", "-tls1_2"};
        static const char *const names[] = {"TLSv1.3", "TLSv1.2"};

        (void)state;
        for (size_t i = 0; i < ELEMENTS(versions); i++) {
                pid_t pid = serve("leaf", (const char *const[]){versions[i], NULL});
                struct measurement *m = measure(SERVICE_TLS_SERVER);

                assert_int_equal(m->outcome, OUTCOME_OK);
                expect_genuine_chain(m);
                assert_string_equal(m->tls_version, names[i]);
                assert_string_equal(m->alpn, "http/1.1");
                assert_string_equal(m->leaf_names, HOST ",*.grid.example");
                assert_string_equal(m->source, "127.0.0.1");
                assert_int_equal(m->chain_name_matches, YES);
                assert_int_equal(m->chain_time_valid, YES);
                assert_int_equal(m->client_certificate_asked, NO);
                assert_int_equal(m->client_certificate_sent, NO);
                assert_null(m->chain_error);
                assert_true(m->rtt_ms > 0 && m->rtt_ms <= m->took_ms);
                assert_true(m->not_before_unix < m->local_unix && m->local_unix < m->not_after_unix);
                measurement_free(m);
                peers_stop(pid);
                next_port++;
        }
}

static void kept_socket(void **state)
{
        struct probe_spec s = spec_for(SERVICE_TLS_SERVER);
        pid_t pid = serve("leaf", NULL);
        struct measurement *tcp, *tls;

        (void)state;
        s.kind = MEASUREMENT_TCP;
        tcp = peers_measure(&context, &s);
        assert_int_equal(tcp->outcome, OUTCOME_OK);
        assert_non_null(context.kept);
        tls = measure(SERVICE_TLS_SERVER);
        assert_null(context.kept);
        assert_int_equal(tls->outcome, OUTCOME_OK);
        expect_genuine_chain(tls);
        assert_int_equal(tls->local_port, tcp->local_port);
        measurement_free(tcp);
        measurement_free(tls);
        peers_stop(pid);
}

static void refused_chain(const char *name, const char *host, enum yesno trusted, enum yesno matches)
{
        /* The server asks for a certificate, and must not get it. */
        pid_t pid = serve(name, (const char *const[]){"-verify", "1", NULL});
        struct probe_spec s = spec_for(SERVICE_TLS_MUTUAL);
        struct measurement *m;

        str_copy(s.name, sizeof(s.name), host);
        m = peers_measure(&context, &s);
        assert_int_equal(m->outcome, OUTCOME_UNTRUSTED);
        assert_int_equal(m->stage, STAGE_TLS);
        assert_int_equal(m->chain_trusted, trusted);
        assert_int_equal(m->chain_name_matches, matches);
        assert_int_equal(m->client_certificate_sent, UNKNOWN);
        assert_null(m->client_serial);
        assert_true(m->chain_length > 0);
        assert_non_null(m->chain_error);
        assert_non_null(m->error_text);
        measurement_free(m);
        peers_stop(pid);
        next_port++;
}

static void untrusted(void **state)
{
        (void)state;
        refused_chain("forged", HOST, NO, YES);
        refused_chain("leaf", "keymaster.grid.test", YES, NO);
        refused_chain("forged", "keymaster.grid.test", NO, NO);
}

static void chain_of_a_hundred(void **state)
{
        pid_t pid = serve("long", NULL);
        struct measurement *m = measure(SERVICE_TLS_SERVER);

        (void)state;
        assert_int_equal(m->outcome, OUTCOME_UNTRUSTED);
        assert_int_equal(m->chain_length, 100);
        assert_int_equal(m->chain_pem.count, 10);
        assert_int_equal(m->chain_subjects.count, 10);
        assert_true(m->took_ms < 2000);
        measurement_free(m);
        peers_stop(pid);
}

static void expired_server(void **state)
{
        pid_t pid = serve("expired", (const char *const[]){"-verify", "1", NULL});
        struct measurement *m = measure(SERVICE_TLS_MUTUAL);

        (void)state;
        /* The clock may be the culprit, so the handshake goes on and shows what else is wrong. */
        assert_int_equal(m->outcome, OUTCOME_UNTRUSTED);
        expect_genuine_chain(m);
        assert_int_equal(m->chain_name_matches, YES);
        assert_int_equal(m->chain_time_valid, NO);
        assert_string_equal(m->chain_error, "certificate has expired");
        assert_string_equal(m->tls_version, "TLSv1.3");
        assert_int_equal(m->client_certificate_sent, YES);
        measurement_free(m);
        peers_stop(pid);
}

static void names_apart(void **state)
{
        pid_t pid = serve("leaf", NULL);
        struct probe_spec s = spec_for(SERVICE_TLS_SERVER);
        struct measurement *m;

        (void)state;
        str_copy(s.name, sizeof(s.name), "");
        str_copy(s.verify_name, sizeof(s.verify_name), HOST);
        s.purpose = PURPOSE_NO_NAME;
        m = peers_measure(&context, &s);
        assert_int_equal(m->outcome, OUTCOME_OK);
        assert_int_equal(m->chain_name_matches, YES);
        measurement_free(m);
        s.verify_name[0] = '\0'; /* nothing to compare with */
        m = peers_measure(&context, &s);
        assert_int_equal(m->outcome, OUTCOME_OK);
        assert_int_equal(m->chain_name_matches, UNKNOWN);
        measurement_free(m);
        peers_stop(pid);
}

static void without_trust(void **state)
{
        pid_t pid = serve("forged", (const char *const[]){"-verify", "1", NULL});
        struct measurement *m;

        (void)state;
        context.trust = NULL;
        m = measure(SERVICE_TLS_MUTUAL);
        assert_int_equal(m->outcome, OUTCOME_OK);
        assert_int_equal(m->chain_trusted, UNKNOWN);
        assert_int_equal(m->chain_name_matches, YES);
        assert_int_equal(m->client_certificate_asked, YES);
        assert_int_equal(m->client_certificate_sent, NO);
        assert_int_equal(m->chain_length, 2);
        measurement_free(m);
        peers_stop(pid);
}

static void mutual(void **state)
{
        static const char *const versions[] = {"-tls1_3", "-tls1_2"};

        (void)state;
        for (size_t i = 0; i < ELEMENTS(versions); i++) {
                pid_t pid = serve(
                        "leaf", (const char *const[]){versions[i], "-Verify", "2", "-verify_return_error",
                                        "-CAfile", peers_path("root.crt"), NULL});
                struct measurement *m = measure(SERVICE_TLS_MUTUAL);

                assert_int_equal(m->outcome, OUTCOME_OK);
                expect_genuine_chain(m);
                assert_int_equal(m->client_certificate_asked, YES);
                assert_int_equal(m->client_certificate_sent, YES);
                assert_string_equal(m->client_serial, trust_certificate_serial(trust));
                assert_int_equal(m->client_not_after_unix, trust_certificate_not_after(trust));
                assert_true(m->took_ms < 1000);
                measurement_free(m);
                context.trust = expired_trust;
                m = measure(SERVICE_TLS_MUTUAL);
                context.trust = trust;
                assert_int_equal(m->outcome, OUTCOME_ALERT);
                assert_int_equal(m->alert_seen, YES);
                assert_int_equal(m->alert, 45); /* certificate_expired (RFC 8446, 6) */
                assert_int_equal(m->client_certificate_sent, YES);
                assert_int_equal(m->chain_trusted, YES);
                assert_true(m->client_not_after_unix < m->local_unix);
                measurement_free(m);
                m = measure(SERVICE_TLS_SERVER); /* nothing to offer: certificate_required, or
                                                    handshake_failure */
                assert_int_equal(m->client_certificate_asked, YES);
                assert_int_equal(m->client_certificate_sent, NO);
                measurement_free(m);
                peers_stop(pid);
                next_port++;
        }
}

static void answer_in_http(int fd)
{
        static const char answer[] =
                "HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n<html>\x1b[31mred</html>";

        peers_read_some(fd);
        peers_send(fd, answer, sizeof(answer) - 1);
        peers_stay_silent(fd);
}

static void greet_as_ssh(int fd)
{
        peers_send(fd, "SSH-2.0-OpenSSH_9.2\r\n", 21);
        peers_stay_silent(fd);
}

static void send_page_and_close(int fd)
{
        char page[1000];

        memset(page, 'x', sizeof(page));
        peers_read_some(fd);
        peers_send(fd, page, sizeof(page));
}

static void not_tls(void **state)
{
        struct measurement *m = measure_peer(answer_in_http, 1000);

        (void)state;
        assert_int_equal(m->outcome, OUTCOME_NOT_TLS);
        assert_int_equal(m->stage, STAGE_TLS);
        assert_true(str_starts_with(m->first_bytes, "HTTP/1.1 400 Bad Request\\x0d\\x0a"));
        assert_null(strchr(m->first_bytes, 27));
        assert_true(strlen(m->first_bytes) <= 160);
        assert_true(m->took_ms < 500);
        assert_int_equal(m->server_hello_seen, NO);
        measurement_free(m);
        next_port++;
        m = measure_peer(greet_as_ssh, 1000);
        assert_int_equal(m->outcome, OUTCOME_NOT_TLS);
        assert_string_equal(m->first_bytes, "SSH-2.0-OpenSSH_9.2\\x0d\\x0a");
        measurement_free(m);
        next_port++;
        m = measure_peer(send_page_and_close, 1000);
        assert_int_equal(m->outcome, OUTCOME_NOT_TLS);
        assert_int_equal(strlen(m->first_bytes), 160);
        measurement_free(m);
}

static void reset_after_hello(int fd)
{
        peers_read_some(fd);
        peers_close_with_reset(fd);
}

static void close_after_hello(int fd)
{
        peers_read_some(fd);
}

static void cut(void **state)
{
        struct measurement *m = measure_peer(reset_after_hello, 1000);

        (void)state;
        assert_int_equal(m->outcome, OUTCOME_RESET);
        assert_int_equal(m->stage, STAGE_TLS);
        assert_int_equal(m->error_number, ECONNRESET);
        assert_int_equal(m->server_hello_seen, NO);
        assert_int_equal(m->hello_acked, YES);
        measurement_free(m);
        next_port++;
        m = measure_peer(close_after_hello, 1000);
        assert_int_equal(m->outcome, OUTCOME_CLOSED);
        assert_int_equal(m->stage, STAGE_TLS);
        measurement_free(m);
        next_port++;
        m = measure(SERVICE_TLS_SERVER); /* nobody listens */
        assert_int_equal(m->outcome, OUTCOME_RESET);
        assert_int_equal(m->stage, STAGE_TCP);
        assert_int_equal(m->server_hello_seen, UNKNOWN);
        measurement_free(m);
}

static void drip(int fd)
{
        static const uint8_t record[] = {0x16, 3, 3, 0, 0x7a, 2, 0, 0, 0x76, 3, 3};

        peers_read_some(fd);
        for (size_t i = 0; i < 200; i++) {
                peers_send(fd, i < sizeof(record) ? &record[i] : (const uint8_t *)"\0", 1);
                usleep(50000);
        }
}

static void silence(void **state)
{
        struct measurement *m = measure_peer(peers_stay_silent, 300);

        (void)state;
        assert_int_equal(m->outcome, OUTCOME_TIMEOUT);
        assert_int_equal(m->stage, STAGE_TLS);
        assert_int_equal(m->hello_acked, YES);
        assert_int_equal(m->server_hello_seen, NO);
        assert_in_range((int)m->took_ms, 299, 450);
        measurement_free(m);
        next_port++;
        m = measure_peer(drip, 300);
        assert_int_equal(m->outcome, OUTCOME_TIMEOUT);
        assert_in_range((int)m->took_ms, 500, 800);
        assert_true(m->bytes_received > 3);
        measurement_free(m);
}

static int on_grow(sd_event_source *source, uint64_t usec, void *userdata)
{
        (void)source, (void)usec;
        ((struct probe_context *)userdata)->patience_ms = 500;
        return 0;
}

static void patience_grows(void **state)
{
        sd_event_source *timer = NULL;
        struct measurement *m;

        (void)state;
        sd_event_add_time_relative(context.event, &timer, CLOCK_MONOTONIC, 100000, 500, on_grow, &context);
        m = measure_peer(peers_stay_silent, 200);
        assert_int_equal(m->outcome, OUTCOME_TIMEOUT);
        assert_in_range((int)m->took_ms, 499, 650);
        measurement_free(m);
        sd_event_source_unref(timer);
}

static void send_huge_record(int fd)
{
        peers_read_some(fd);
        peers_send(fd, "\x16\x03\x03\xff\xff\x02\x00\x00", 8);
        peers_stay_silent(fd);
}

static void send_alert(int fd)
{
        peers_read_some(fd);
        peers_send(fd, "\x15\x03\x03\x00\x02\x02\x28", 7);
}

static void send_wrong_message(int fd)
{
        peers_read_some(fd);
        peers_send(fd, "\x16\x03\x03\x00\x04\x0e\x00\x00\x00", 9); /* ServerHelloDone */
        peers_stay_silent(fd);
}

static void broken_protocol(void **state)
{
        struct measurement *m = measure_peer(send_huge_record, 1000);

        (void)state;
        assert_int_equal(m->outcome, OUTCOME_PROTOCOL);
        assert_non_null(m->error_text);
        assert_true(m->took_ms < 500);
        measurement_free(m);
        next_port++;
        m = measure_peer(send_alert, 1000);
        assert_int_equal(m->outcome, OUTCOME_ALERT);
        assert_int_equal(m->alert, 40);
        measurement_free(m);
        next_port++;
        m = measure_peer(send_wrong_message, 1000);
        assert_int_equal(m->outcome, OUTCOME_PROTOCOL);
        assert_int_equal(m->server_hello_seen, NO);
        measurement_free(m);
}

static void on_result(struct probe *p, struct measurement *m, void *userdata)
{
        (void)p;
        *(struct measurement **)userdata = m;
}

static void abandoned(void **state)
{
        pid_t pid = peers_misbehave(next_port, peers_stay_silent);
        struct probe_spec s = spec_for(SERVICE_TLS_SERVER);
        struct measurement *m = NULL;
        struct probe *p;

        (void)state;
        for (int rounds = 0; rounds < 4;
                rounds++) { /* before the connection stands, and after the ClientHello */
                assert_int_equal(probe_start(&context, &s, on_result, &m, &p), 0);
                for (int i = 0; i < rounds; i++)
                        assert_true(sd_event_run(context.event, 50000) >= 0);
                probe_abandon(p, "interrupted");
                assert_int_equal(m->outcome, OUTCOME_NOT_TESTED);
                assert_string_equal(m->reason, "interrupted");
                m = measurement_free(m);
        }
        peers_stop(pid);
}

static void many_at_once(void **state)
{
        enum { COUNT = 64 };
        pid_t pid = serve("leaf", NULL);
        struct measurement *results[COUNT] = {NULL};
        struct probe_spec s = spec_for(SERVICE_TLS_SERVER);
        int left = COUNT;

        (void)state;
        context.patience_ms = 10000;
        for (int i = 0; i < COUNT; i++)
                assert_int_equal(probe_start(&context, &s, on_result, &results[i], NULL), 0);
        while (left > 0) {
                assert_true(sd_event_run(context.event, 10000000) > 0);
                left = 0;
                for (int i = 0; i < COUNT; i++)
                        left += !results[i];
        }
        for (int i = 0; i < COUNT; i++) {
                assert_int_equal(results[i]->outcome, OUTCOME_OK);
                measurement_free(results[i]);
        }
        peers_stop(pid);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_context, close_context)

int main(void)
{
        const struct CMUnitTest tests[] = {TEST(healthy), TEST(kept_socket), TEST(untrusted),
                TEST(chain_of_a_hundred), TEST(expired_server), TEST(names_apart), TEST(without_trust),
                TEST(mutual), TEST(not_tls), TEST(cut), TEST(silence), TEST(patience_grows),
                TEST(broken_protocol), TEST(abandoned), TEST(many_at_once)};

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
