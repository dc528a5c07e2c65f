/* A small network for tests: this process becomes the node (10.1.0.2, 2001:db8:1::2 on eth0), behind a router
 * (10.1.0.1, 2001:db8:1::1) stands a host (198.51.100.20, 2001:db8:ff::20) that accepts TCP on 443 and 8443.
 * Router and host are children in namespaces of their own that die with the test, so that nothing is left
 * behind. */
#pragma once

#include "base/cleanup.h"
#include "probe/probe.h"

#define TESTNET_NODE  "10.1.0.2"
#define TESTNET_HOST4 "198.51.100.20:443"
#define TESTNET_HOST6 "[2001:db8:ff::20]:443"

enum testnet_place { TESTNET_NODE_NS, TESTNET_ROUTER_NS, TESTNET_HOST_NS };

/* cmocka group set-up and tear-down. */
int testnet_up(void **state);
int testnet_down(void **state);
/* cmocka tear-down of one test: no rules anywhere. */
int testnet_clear(void **state);

/* Runs a shell command there; it must succeed. */
void testnet_run(enum testnet_place place, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A chain of type filter at the hook with one rule. */
void testnet_rule(enum testnet_place place, const char *hook, const char *rule);

/* Runs one probe to its end; the caller frees the measurement. */
struct measurement *testnet_probe(struct probe_context *c, const struct probe_spec *spec);
struct probe_spec testnet_spec(enum measurement_kind kind, const char *target);

DEFINE_CLEANUP(struct measurement *, measurement_free);
#define _measured_ _cleanup_(measurement_free_p)
