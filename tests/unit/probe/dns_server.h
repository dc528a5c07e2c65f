/* A DNS server that lives in the test's own event loop, on loopback in a network namespace of the test. */
#pragma once

#include "probe/probe.h"

/* What the server does with a query; the bytes it returns in `reply` are sent. */
struct server;
typedef size_t (*reply_to)(struct server *s, const uint8_t *query, size_t length, uint8_t reply[20000]);

struct server {
        int udp, other_udp, tcp, connection;
        sd_event_source *udp_io, *tcp_io, *connection_io, *timer;
        reply_to reply;
        unsigned queries; /* seen so far, this one included */
        size_t piece;     /* tcp: bytes a write, 0 all */
        bool linger_zero, close_at_once, hold_open;
        uint8_t pending[20000];
        size_t pending_length, pending_sent;
};

/* One of each, made anew for every test; the probes under test share its loop. */
extern struct probe_context c;
extern struct server s;

/* ---- what it may reply ---- */

size_t with_address(const uint8_t *query, size_t length, uint8_t *reply);
size_t answer(struct server *v, const uint8_t *query, size_t length, uint8_t *reply);
size_t silence(struct server *v, const uint8_t *query, size_t length, uint8_t *reply);
size_t second_only(struct server *v, const uint8_t *query, size_t length, uint8_t *reply);
size_t third_only(struct server *v, const uint8_t *query, size_t length, uint8_t *reply);
size_t wrong_id_first(struct server *v, const uint8_t *query, size_t length, uint8_t *reply);
size_t no_such_name(struct server *v, const uint8_t *query, size_t length, uint8_t *reply);
size_t no_data(struct server *v, const uint8_t *query, size_t length, uint8_t *reply);
size_t truncated(struct server *v, const uint8_t *query, size_t length, uint8_t *reply);
size_t echo(struct server *v, const uint8_t *query, size_t length, uint8_t *reply);
size_t banner(struct server *v, const uint8_t *query, size_t length, uint8_t *reply);
/* FORMERR as long as the query has an additional record. */
size_t no_edns(struct server *v, const uint8_t *query, size_t length, uint8_t *reply);
size_t form_error(struct server *v, const uint8_t *query, size_t length, uint8_t *reply);

/* ---- around a test ---- */

void hang_up(void);
/* A socket at "ADDRESS:PORT". */
int bound(int type, const char *address);
int set_up(void **state); /* of the group: the namespace */
int begin(void **state);
int end(void **state);
