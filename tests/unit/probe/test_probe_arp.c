#include "testnet.h"

#include "base/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/capability.h>
#include <setjmp.h>

#include <cmocka.h>

static struct probe_context c;

static int begin(void **state)
{
        (void)state;
        assert_int_equal(probe_context_init(&c), 0);
        c.patience_ms = 500;
        return inet_addr_parse(TESTNET_NODE, &c.source);
}

static int end(void **state)
{
        probe_context_done(&c);
        return testnet_clear(state);
}

static struct probe_spec spec_for(enum probe_purpose purpose, const char *target)
{
        struct probe_spec spec = testnet_spec(MEASUREMENT_ARP, target);

        spec.purpose = purpose;
        strcpy(spec.interface, "eth0");
        return spec;
}

static struct measurement *arp(enum probe_purpose purpose, const char *target)
{
        struct probe_spec spec = spec_for(purpose, target);

        return testnet_probe(&c, &spec);
}

static void the_gateway_answers(void **state)
{
        _measured_ struct measurement *m = arp(PURPOSE_GATEWAY, "10.1.0.1");
        char text[INET_ADDR_TEXT];

        (void)state;
        assert_int_equal(m->outcome, OUTCOME_OK);
        assert_int_equal(strlen(m->mac), 17);
        assert_string_equal(inet_addr_format(&m->by, text), "10.1.0.1");
        assert_int_equal(m->arp_probes_sent, 1);
        assert_string_equal(m->source, TESTNET_NODE);
        assert_true(m->rtt_ms > 0 && m->took_ms < 400);
}

static void the_source_may_be_unknown(void **state)
{
        (void)state;
        c.source = (struct inet_addr){0};
        _measured_ struct measurement *m = arp(PURPOSE_GATEWAY, "10.1.0.1");
        assert_int_equal(m->outcome, OUTCOME_OK);
        assert_string_equal(m->source, TESTNET_NODE);
}

static void a_silent_gateway_is_a_timeout(void **state)
{
        _measured_ struct measurement *m = arp(PURPOSE_GATEWAY, "10.1.0.77");

        (void)state;
        assert_int_equal(m->outcome, OUTCOME_TIMEOUT);
        assert_int_equal(m->arp_probes_sent, 3);
        assert_true(m->took_ms >= 499 && m->took_ms < 3000);
}

/* It has asked for us before, and so the neighbour table thinks well of it. */
static void a_deaf_gateway_is_a_timeout(void **state)
{
        (void)state;
        testnet_run(TESTNET_ROUTER_NS, "sh -c 'ping -c 1 -W 1 10.1.0.2 >/dev/null'");
        testnet_run(TESTNET_ROUTER_NS,
                "nft 'add table arp t; add chain arp t i { type filter hook input priority 0; };"
                " add rule arp t i drop'");
        _measured_ struct measurement *m = arp(PURPOSE_GATEWAY, "10.1.0.1");
        struct probe_spec spec = spec_for(PURPOSE_GATEWAY, "10.1.0.1");
        spec.kind = MEASUREMENT_NEIGHBOUR;
        _measured_ struct measurement *table = testnet_probe(&c, &spec);
        assert_int_equal(m->outcome, OUTCOME_TIMEOUT);
        assert_int_equal(table->outcome, OUTCOME_OK);
}

static void no_conflict_is_a_short_timeout(void **state)
{
        (void)state;
        c.patience_ms = 5000;
        _measured_ struct measurement *m = arp(PURPOSE_CONFLICT, TESTNET_NODE);
        assert_int_equal(m->outcome, OUTCOME_TIMEOUT);
        assert_int_equal(m->arp_probes_sent, 3);
        assert_true(m->took_ms >= 79 && m->took_ms < 3000);
        assert_string_equal(m->mac, "");
}

static void a_conflict_names_the_other(void **state)
{
        (void)state;
        testnet_run(TESTNET_ROUTER_NS, "ip addr add 10.1.0.2/24 dev lan0");
        _measured_ struct measurement *m = arp(PURPOSE_CONFLICT, TESTNET_NODE);
        testnet_run(TESTNET_ROUTER_NS, "ip addr del 10.1.0.2/24 dev lan0");
        _measured_ struct measurement *gateway = arp(PURPOSE_GATEWAY, "10.1.0.1");
        assert_int_equal(m->outcome, OUTCOME_OK);
        assert_string_equal(m->mac, gateway->mac);
}

static void give(struct probe *p, struct measurement *m, void *userdata)
{
        (void)p;
        *(struct measurement **)userdata = m;
}

static void probes_share_a_socket(void **state)
{
        struct probe_spec spec = spec_for(PURPOSE_GATEWAY, "10.1.0.77");
        _measured_ struct measurement *left = NULL;
        struct probe *p;

        (void)state;
        c.patience_ms = 5000;
        assert_int_equal(probe_start(&c, &spec, give, &left, &p), 0);
        _measured_ struct measurement *conflict = arp(PURPOSE_CONFLICT, TESTNET_NODE);
        _measured_ struct measurement *gateway = arp(PURPOSE_GATEWAY, "10.1.0.1");
        assert_int_equal(conflict->outcome, OUTCOME_TIMEOUT);
        assert_int_equal(gateway->outcome, OUTCOME_OK);
        assert_null(left);
        probe_abandon(p, "no longer wanted");
        assert_int_equal(left->outcome, OUTCOME_NOT_TESTED);
        assert_true(left->arp_probes_sent >= 1);
}

static void what_has_no_arp_is_told(void **state)
{
        struct probe_spec spec = spec_for(PURPOSE_GATEWAY, "10.1.0.1");

        (void)state;
        strcpy(spec.interface, "none0");
        _measured_ struct measurement *absent = testnet_probe(&c, &spec);
        strcpy(spec.interface, "lo");
        _measured_ struct measurement *loopback = testnet_probe(&c, &spec);
        assert_int_equal(absent->outcome, OUTCOME_MISSING);
        assert_int_equal(absent->error_number, ENODEV);
        assert_int_equal(loopback->outcome, OUTCOME_LOCAL_ERROR);
        assert_int_equal(loopback->error_number, EOPNOTSUPP);
}

static void an_interface_that_is_down_is_a_local_error(void **state)
{
        (void)state;
        testnet_run(TESTNET_NODE_NS, "ip link set eth0 down");
        _measured_ struct measurement *m = arp(PURPOSE_GATEWAY, "10.1.0.1");
        testnet_run(TESTNET_NODE_NS, "sh -ec 'ip link set eth0 up; ip route add default via 10.1.0.1'");
        assert_int_equal(m->outcome, OUTCOME_LOCAL_ERROR);
        assert_int_equal(m->error_number, ENETDOWN);
}

static void swap_effective_rights(uint32_t set[2])
{
        struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct data[2];

        assert_int_equal(syscall(SYS_capget, &header, data), 0);
        for (int i = 0; i < 2; i++) {
                uint32_t before = data[i].effective;

                data[i].effective = set[i];
                set[i] = before;
        }
        assert_int_equal(syscall(SYS_capset, &header, data), 0);
}

static void a_missing_right_is_told(void **state)
{
        uint32_t rights[2] = {0};

        (void)state;
        swap_effective_rights(rights);
        _measured_ struct measurement *m = arp(PURPOSE_GATEWAY, "10.1.0.1");
        swap_effective_rights(rights);
        assert_int_equal(m->outcome, OUTCOME_NOT_PERMITTED);
        assert_int_equal(m->error_number, EPERM);
        assert_non_null(m->reason);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(the_gateway_answers),
                TEST(the_source_may_be_unknown),
                TEST(a_silent_gateway_is_a_timeout),
                TEST(a_deaf_gateway_is_a_timeout),
                TEST(no_conflict_is_a_short_timeout),
                TEST(a_conflict_names_the_other),
                TEST(probes_share_a_socket),
                TEST(what_has_no_arp_is_told),
                TEST(an_interface_that_is_down_is_a_local_error),
                TEST(a_missing_right_is_told),
        };

        return cmocka_run_group_tests(tests, testnet_up, testnet_down);
}
