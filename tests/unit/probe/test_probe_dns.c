/* The DNS probe against a server of the test's own: see dns_server.h. */
#include "dns_server.h"

#include "base/cleanup.h"
#include "probe/dns_message.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

DEFINE_CLEANUP(struct measurement *, measurement_free);

/* ---- asking ---- */

static void on_result(struct probe *p, struct measurement *m, void *userdata)
{
        (void)p;
        *(struct measurement **)userdata = m;
}

static struct probe_spec spec_for(enum probe_transport transport)
{
        struct probe_spec spec = {.kind = MEASUREMENT_DNS,
                .name = "repo.grid.example",
                .dns_type = DNS_TYPE_A,
                .transport = transport};

        assert_int_equal(endpoint_parse("127.0.0.1:53", &spec.target), 0);
        return spec;
}

static struct measurement *run(const struct probe_spec *spec)
{
        struct measurement *m = NULL;

        assert_int_equal(probe_start(&c, spec, on_result, &m, NULL), 0);
        assert_null(m);
        while (!m)
                assert_true(sd_event_run(c.event, UINT64_MAX) >= 0);
        return m;
}

static struct measurement *ask(enum probe_transport transport, reply_to reply)
{
        struct probe_spec spec = spec_for(transport);

        s.reply = reply;
        return run(&spec);
}

#define _measured_ _cleanup_(measurement_free_p)

static void assert_answered(const struct measurement *m)
{
        assert_int_equal(m->outcome, OUTCOME_OK);
        assert_int_equal(m->answered, YES);
        assert_int_equal(m->addresses.count, 1);
        assert_string_equal(m->addresses.items[0], "198.51.100.20");
        assert_int_equal(m->ttl_s, 60);
        assert_string_equal(m->source, "127.0.0.1");
        assert_true(m->local_port > 0);
        assert_true(m->rtt_ms > 0 && m->rtt_ms <= m->took_ms);
        assert_int_equal(m->stage, STAGE_DNS);
}

/* ---- UDP ---- */

static void udp_answers(void **state)
{
        _measured_ struct measurement *m = ask(TRANSPORT_UDP, answer);

        (void)state;
        assert_answered(m);
        assert_int_equal(m->tries, 1);
        assert_int_equal(m->syns_unanswered, 0);
        assert_int_equal(m->recursion_available, YES);
        assert_int_equal(m->truncated, NO);
        assert_null(m->error_text);
}

static void udp_asks_again(void **state)
{
        _measured_ struct measurement *m = ask(TRANSPORT_UDP, second_only);

        (void)state;
        assert_answered(m);
        assert_int_equal(m->tries, 2);
        assert_int_equal(m->syns_unanswered, 1);
        assert_true(m->took_ms >= 149 && m->rtt_ms < m->took_ms - 140);
}

static void udp_silence_is_a_timeout(void **state)
{
        _measured_ struct measurement *m = ask(TRANSPORT_UDP, silence);

        (void)state;
        assert_int_equal(m->outcome, OUTCOME_TIMEOUT);
        assert_int_equal(m->answered, UNKNOWN);
        assert_true(m->took_ms >= 299 && m->took_ms < 2000);
        assert_int_equal(m->tries, 2);
}

static int grow(sd_event_source *source, uint64_t usec, void *userdata)
{
        (void)source, (void)usec, (void)userdata;
        c.patience_ms = 700;
        return 0;
}

static void patience_may_grow(void **state)
{
        uint64_t now;

        (void)state;
        sd_event_now(c.event, CLOCK_MONOTONIC, &now);
        assert_true(sd_event_add_time(c.event, NULL, CLOCK_MONOTONIC, now + 100000, 1000, grow, NULL) >= 0);
        _measured_ struct measurement *m = ask(TRANSPORT_UDP, third_only);

        assert_answered(m);
        assert_true(m->took_ms >= 399);
        assert_int_equal(m->syns_unanswered, 2);
}

static void udp_ignores_strange_answers(void **state)
{
        _measured_ struct measurement *m = ask(TRANSPORT_UDP, wrong_id_first);

        (void)state;
        assert_answered(m);
        assert_string_equal(m->error_text, "ignored datagrams: 1 with another id or question");
}

static void udp_ignores_another_sender(void **state)
{
        (void)state;
        s.other_udp = bound(SOCK_DGRAM, "127.0.0.2:53");
        _measured_ struct measurement *m = ask(TRANSPORT_UDP, answer);

        assert_int_equal(m->outcome, OUTCOME_TIMEOUT);
        assert_string_equal(m->error_text, "ignored datagrams: 2 from another address (127.0.0.2)");
}

static void udp_tells_rcodes(void **state)
{
        _measured_ struct measurement *m = ask(TRANSPORT_UDP, no_such_name);

        (void)state;
        assert_int_equal(m->outcome, OUTCOME_RCODE);
        assert_int_equal(m->rcode, 3);
        assert_int_equal(m->answered, YES);
        assert_int_equal(m->authoritative, YES);
}

static void udp_tells_no_data_from_truncation(void **state)
{
        _measured_ struct measurement *none = ask(TRANSPORT_UDP, no_data);
        _measured_ struct measurement *cut = ask(TRANSPORT_UDP, truncated);

        (void)state;
        assert_int_equal(none->outcome, OUTCOME_NO_DATA);
        assert_int_equal(cut->outcome, OUTCOME_OK);
        assert_int_equal(cut->truncated, YES);
        assert_int_equal(cut->addresses.count, 0);
}

static void udp_tells_garbage(void **state)
{
        _measured_ struct measurement *reflected = ask(TRANSPORT_UDP, echo);
        _measured_ struct measurement *text = ask(TRANSPORT_UDP, banner);

        (void)state;
        assert_int_equal(reflected->outcome, OUTCOME_MALFORMED);
        assert_true(reflected->took_ms < 250);
        assert_int_equal(text->outcome, OUTCOME_MALFORMED);
        assert_string_equal(text->error_text, "ignored datagrams: 2 that are no DNS answers");
}

static void udp_asks_without_edns_where_it_is_refused(void **state)
{
        _measured_ struct measurement *m = ask(TRANSPORT_UDP, no_edns);
        _measured_ struct measurement *never = ask(TRANSPORT_UDP, form_error);

        (void)state;
        assert_answered(m);
        assert_int_equal(m->rcode, 0);
        assert_int_equal(m->tries, 2);
        assert_true(m->took_ms < 250);
        assert_int_equal(never->outcome, OUTCOME_RCODE);
        assert_int_equal(never->rcode, 1);
}

static void udp_port_unreachable_names_its_sender(void **state)
{
        struct probe_spec spec = spec_for(TRANSPORT_UDP);
        char text[INET_ADDR_TEXT];

        (void)state;
        spec.target.port = 54;
        _measured_ struct measurement *m = run(&spec);

        assert_int_equal(m->outcome, OUTCOME_REJECTED);
        assert_int_equal(m->icmp_type, 3);
        assert_int_equal(m->icmp_code, 3);
        assert_string_equal(inet_addr_format(&m->by, text), "127.0.0.1");
        assert_true(m->took_ms < 250);
}

static void udp_forbidden_to_send_is_a_local_error(void **state)
{
        (void)state;
        assert_int_equal(
                system("nft 'add table ip t; add chain ip t o { type filter hook output priority 0; }; "
                       "add rule ip t o udp dport 53 drop'"),
                0);
        _measured_ struct measurement *m = ask(TRANSPORT_UDP, answer);

        assert_int_equal(m->outcome, OUTCOME_LOCAL_ERROR);
        assert_int_equal(m->error_number, EPERM);
}

static void no_route_and_a_foreign_source_are_local_errors(void **state)
{
        struct probe_spec spec = spec_for(TRANSPORT_UDP);

        (void)state;
        assert_int_equal(endpoint_parse("198.51.100.53:53", &spec.target), 0);
        for (int i = 0; i < 2; i++) {
                spec.transport = i ? TRANSPORT_TCP : TRANSPORT_UDP;
                c.source = (struct inet_addr){0};
                _measured_ struct measurement *m = run(&spec);
                assert_int_equal(m->outcome, OUTCOME_LOCAL_ERROR);
                assert_int_equal(m->error_number, ENETUNREACH);
                assert_int_equal(inet_addr_parse("192.0.2.99", &c.source), 0);
                _measured_ struct measurement *foreign = run(&spec);
                assert_int_equal(foreign->outcome, OUTCOME_LOCAL_ERROR);
                assert_int_equal(foreign->error_number, EADDRNOTAVAIL);
                assert_string_equal(foreign->source, "192.0.2.99");
        }
}

/* ---- TCP ---- */

static void tcp_answers_whole_and_in_pieces(void **state)
{
        _measured_ struct measurement *whole = ask(TRANSPORT_TCP, answer);

        (void)state;
        assert_answered(whole);
        assert_int_equal(whole->tries, 1);
        s.piece = 7;
        s.hold_open = true;
        _measured_ struct measurement *pieces = ask(TRANSPORT_TCP, answer);
        assert_answered(pieces);
        assert_true(pieces->took_ms >= 20);
}

static void tcp_tells_rcodes(void **state)
{
        _measured_ struct measurement *m = ask(TRANSPORT_TCP, no_such_name);

        (void)state;
        assert_int_equal(m->outcome, OUTCOME_RCODE);
        assert_int_equal(m->rcode, 3);
}

static void tcp_drip_and_silence_are_timeouts(void **state)
{
        (void)state;
        s.piece = 1;
        _measured_ struct measurement *drip = ask(TRANSPORT_TCP, answer);
        assert_int_equal(drip->outcome, OUTCOME_TIMEOUT);
        assert_true(drip->took_ms >= 299 && drip->took_ms < 2000);
        s.hold_open = true;
        _measured_ struct measurement *mute = ask(TRANSPORT_TCP, silence);
        assert_int_equal(mute->outcome, OUTCOME_TIMEOUT);
        assert_int_equal(mute->stage, STAGE_DNS);
        assert_true(mute->rtt_ms > 0);
}

static void tcp_refused_is_a_reset_at_its_stage(void **state)
{
        struct probe_spec spec = spec_for(TRANSPORT_TCP);

        (void)state;
        spec.target.port = 54;
        _measured_ struct measurement *m = run(&spec);
        assert_int_equal(m->outcome, OUTCOME_RESET);
        assert_int_equal(m->stage, STAGE_TCP);
}

static void tcp_cut_later_is_told_apart(void **state)
{
        (void)state;
        s.close_at_once = true;
        _measured_ struct measurement *closed = ask(TRANSPORT_TCP, answer);
        assert_int_equal(closed->outcome, OUTCOME_CLOSED);
        assert_int_equal(closed->stage, STAGE_DNS);
        s.linger_zero = true;
        _measured_ struct measurement *reset = ask(TRANSPORT_TCP, answer);
        assert_int_equal(reset->outcome, OUTCOME_RESET);
        assert_int_equal(reset->stage, STAGE_DNS);
}

static size_t half(struct server *v, const uint8_t *query, size_t length, uint8_t *reply)
{
        size_t n = with_address(query, length, reply);

        v->pending_length = n;
        return n;
}

static int cut(sd_event_source *source, uint64_t usec, void *userdata)
{
        (void)source, (void)usec, (void)userdata;
        hang_up();
        return 0;
}

static void tcp_closed_halfway(void **state)
{
        uint64_t now;

        (void)state;
        s.piece = 9;
        sd_event_now(c.event, CLOCK_MONOTONIC, &now);
        assert_true(sd_event_add_time(c.event, NULL, CLOCK_MONOTONIC, now + 50000, 1000, cut, NULL) >= 0);
        _measured_ struct measurement *m = ask(TRANSPORT_TCP, half);
        assert_int_equal(m->outcome, OUTCOME_CLOSED);
        assert_non_null(strstr(m->error_text, " of 53 bytes"));
}

static size_t huge(struct server *v, const uint8_t *query, size_t length, uint8_t *reply)
{
        (void)v, (void)query, (void)length;
        memset(reply, 0xff, 19000);
        return 19000;
}

static void tcp_lengths_and_text_are_malformed(void **state)
{
        (void)state;
        s.hold_open = true;
        _measured_ struct measurement *large = ask(TRANSPORT_TCP, huge);
        assert_int_equal(large->outcome, OUTCOME_MALFORMED);
        assert_string_equal(large->error_text, "announced a message of 19000 bytes");
        _measured_ struct measurement *text = ask(TRANSPORT_TCP, banner);
        assert_int_equal(text->outcome, OUTCOME_MALFORMED);
        _measured_ struct measurement *reflected = ask(TRANSPORT_TCP, echo);
        assert_int_equal(reflected->outcome, OUTCOME_MALFORMED);
        _measured_ struct measurement *other = ask(TRANSPORT_TCP, wrong_id_first);
        assert_int_equal(other->outcome, OUTCOME_OK);
        s.queries = 0;
        _measured_ struct measurement *wrong = ask(TRANSPORT_TCP, wrong_id_first);
        assert_int_equal(wrong->outcome, OUTCOME_MALFORMED);
        assert_non_null(strstr(wrong->error_text, "another question"));
}

/* ---- life ---- */

static void abandoned_probes_tell_what_they_know(void **state)
{
        (void)state;
        s.reply = silence;
        for (int i = 0; i < 2; i++) {
                struct probe_spec spec = spec_for(i ? TRANSPORT_TCP : TRANSPORT_UDP);
                _measured_ struct measurement *m = NULL;
                struct probe *p;

                assert_int_equal(probe_start(&c, &spec, on_result, &m, &p), 0);
                assert_true(sd_event_run(c.event, 20000) >= 0);
                assert_null(m);
                probe_abandon(p, "the budget is used up");
                assert_non_null(m);
                assert_int_equal(m->outcome, OUTCOME_NOT_TESTED);
                assert_string_equal(m->reason, "the budget is used up");
                assert_int_equal(m->tries, 1);
        }
}

static void refuses_a_name_that_cannot_be_asked(void **state)
{
        struct probe_spec spec = spec_for(TRANSPORT_UDP);
        struct probe *p;

        (void)state;
        strcpy(spec.name, "a..b");
        assert_int_equal(probe_start(&c, &spec, on_result, NULL, &p), -EINVAL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(udp_answers),
                TEST(udp_asks_again),
                TEST(udp_silence_is_a_timeout),
                TEST(patience_may_grow),
                TEST(udp_ignores_strange_answers),
                TEST(udp_ignores_another_sender),
                TEST(udp_tells_rcodes),
                TEST(udp_tells_no_data_from_truncation),
                TEST(udp_tells_garbage),
                TEST(udp_asks_without_edns_where_it_is_refused),
                TEST(udp_port_unreachable_names_its_sender),
                TEST(udp_forbidden_to_send_is_a_local_error),
                TEST(no_route_and_a_foreign_source_are_local_errors),
                TEST(tcp_answers_whole_and_in_pieces),
                TEST(tcp_tells_rcodes),
                TEST(tcp_drip_and_silence_are_timeouts),
                TEST(tcp_refused_is_a_reset_at_its_stage),
                TEST(tcp_cut_later_is_told_apart),
                TEST(tcp_closed_halfway),
                TEST(tcp_lengths_and_text_are_malformed),
                TEST(abandoned_probes_tell_what_they_know),
                TEST(refuses_a_name_that_cannot_be_asked),
        };

        return cmocka_run_group_tests(tests, set_up, NULL);
}
